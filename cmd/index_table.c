#include "cmd/index_table.h"

#include "cmd/command.h"

#define COLUMNS 9

void cairn_index_table_begin(struct cairn_table *table)
{
    static const char *const headings[COLUMNS] = {
        "collection", "entities", "vector", "kind", "live", "built", "tail", "memory", "state"};
    cairn_table_begin(table, headings, COLUMNS, 1u << 1 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 7);
}

static void add_count(struct cairn_table *table, struct cairn_json object, const char *name)
{
    char text[CAIRN_NUMBER_TEXT_BYTES];
    cairn_table_printf(table, "%s", cairn_text_count(cairn_answer_u64(object, name), text));
}

static void add_index(struct cairn_table *table, struct cairn_json index)
{
    char text[CAIRN_NUMBER_TEXT_BYTES];
    cairn_table_cell(table, cairn_answer_str(index, "vector"));
    cairn_table_cell(table, cairn_answer_str(index, "kind"));
    add_count(table, index, "live");
    add_count(table, index, "built");
    add_count(table, index, "tail");
    cairn_table_printf(table, "%s",
                       cairn_text_bytes(cairn_answer_u64(index, "memory_bytes"), text));
    cairn_table_printf(table, "%s", cairn_answer_bool(index, "building") ? "building" : "ready");
}

void cairn_index_table_add(struct cairn_table *table, struct cairn_json collection)
{
    struct cairn_json_iter indexes = cairn_answer_array(collection, "indexes");
    struct cairn_json index, counts = collection;
    bool first = true;
    cairn_table_cell(table, cairn_answer_str(collection, "name"));
    cairn_json_get(collection, "counts", &counts);
    add_count(table, counts, "entities");
    for (; cairn_json_element(&indexes, &index); first = false) {
        if (!first) { /* the collection's name and count stand in its first row */
            cairn_table_printf(table, " ");
            cairn_table_printf(table, " ");
        }
        add_index(table, index);
    }
    if (first) {
        for (unsigned i = 2; i < COLUMNS; i++)
            cairn_table_printf(table, "-");
    }
}
