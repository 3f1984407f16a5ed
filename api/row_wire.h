/* Rows in the binary answers. */
#ifndef CAIRN_API_ROW_WIRE_H
#define CAIRN_API_ROW_WIRE_H

#include "api/row_json.h"
#include "base/wire.h"

/* Fill *out from a row as the plan shows it: features that are there and not expired, under their
 * client names, and vectors. Memory is the arena's, the plan's and the row's: use it before the
 * next row. Fails only where a vector cannot be read. */
int cairn_row_to_wire(const struct cairn_row_plan *plan, const struct cairn_row_ref *row,
                      struct cairn_arena *arena, struct cairn_wire_entity *out,
                      struct cairn_error *err);

#endif
