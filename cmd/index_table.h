/* The state of indexes as a table: what `status` and `collection show` share. */
#ifndef CAIRN_CMD_INDEX_TABLE_H
#define CAIRN_CMD_INDEX_TABLE_H

#include "base/json.h"
#include "cmd/terminal.h"

void cairn_index_table_begin(struct cairn_table *table);
/* A row for each index of a collection's description; one with dashes when it has none. */
void cairn_index_table_add(struct cairn_table *table, struct cairn_json collection);

#endif
