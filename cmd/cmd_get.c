/* cairn get: read entities by key. */
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "cmd/command.h"
#include "cmd/terminal.h"

struct get {
    struct cairn_remote remote;
    const char *features, *meta;
    bool vectors;
};

static void write_request(const struct get *get, char *const *keys, unsigned keys_count,
                          struct cairn_buf *body)
{
    struct cairn_json_writer writer;
    cairn_json_writer_init(&writer, body);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "keys");
    cairn_json_begin_array(&writer);
    for (unsigned i = 0; i < keys_count; i++)
        cairn_json_write_str(&writer, cairn_str_from(keys[i]));
    cairn_json_end_array(&writer);
    cairn_json_key(&writer, "features");
    cairn_write_names(&writer, get->features);
    if (get->vectors) {
        cairn_json_key(&writer, "vectors");
        cairn_json_write_str(&writer, CAIRN_STR_LITERAL("*"));
    }
    cairn_json_key(&writer, "meta");
    cairn_json_write_str(&writer, cairn_str_from(get->meta));
    cairn_json_end_object(&writer);
}

/* What the meta of one feature says, in the order in which the columns stand. */
static void add_meta_cells(struct cairn_table *table, struct cairn_json meta, bool full)
{
    cairn_table_cell(table, cairn_answer_str(meta, "status"));
    cairn_table_cell(table, cairn_answer_str(meta, "event_time"));
    cairn_table_cell(table, cairn_answer_str(meta, "ingest_time"));
    if (full) {
        struct cairn_str shard = cairn_answer_str(meta, "shard");
        cairn_table_printf(table, "%.*s:%llu", CAIRN_STR_ARG(shard),
                           (unsigned long long)cairn_answer_u64(meta, "offset"));
    }
}

/* A row for each member of `values`, or of `meta` where that has more (missing and expired ones).
 */
static void add_feature_rows(struct cairn_table *table, const struct get *get,
                             struct cairn_json values, bool has_meta, struct cairn_json meta)
{
    struct cairn_json_iter iter;
    struct cairn_str name;
    struct cairn_json member, value;
    struct cairn_buf text = {0};
    bool full = strcmp(get->meta, "full") == 0;
    cairn_json_object(has_meta ? meta : values, &iter);
    while (cairn_json_member(&iter, &name, &member)) {
        char shown[CAIRN_NAME_BYTES_MAX + 1];
        snprintf(shown, sizeof(shown), "%.*s", CAIRN_STR_ARG(name));
        cairn_table_printf(table, "  %s", shown);
        if (has_meta)
            add_meta_cells(table, member, full);
        cairn_buf_clear(&text);
        if (cairn_json_get(values, shown, &value))
            cairn_value_text(value, &text);
        cairn_table_cell(table, (struct cairn_str){text.data, (uint32_t)text.len});
    }
    cairn_buf_release(&text);
}

static void print_vectors(struct cairn_json vectors)
{
    struct cairn_json_iter iter;
    struct cairn_str name;
    struct cairn_json vector;
    struct cairn_buf text = {0};
    if (!cairn_json_object(vectors, &iter))
        return;
    while (cairn_json_member(&iter, &name, &vector)) {
        cairn_buf_clear(&text);
        cairn_json_minify(vector, &text);
        printf("  %.*s  %.*s\n", CAIRN_STR_ARG(name), (int)text.len, text.data);
    }
    cairn_buf_release(&text);
}

static void print_entity(const struct get *get, struct cairn_json entity)
{
    struct cairn_table table = {.columns_count = 2};
    struct cairn_json features, meta, vectors;
    struct cairn_buf key = {0};
    bool has_meta = cairn_json_get(entity, "meta", &meta);
    cairn_text_clean(&key, cairn_answer_str(entity, "key"));
    printf("%.*s%s\n", (int)key.len, key.len > 0 ? key.data : "",
           cairn_answer_bool(entity, "found") ? "" : "  not found");
    cairn_buf_release(&key);
    if (!cairn_answer_bool(entity, "found"))
        return;
    if (has_meta)
        table.columns_count = strcmp(get->meta, "full") == 0 ? 6 : 5;
    if (cairn_json_get(entity, "features", &features)) {
        add_feature_rows(&table, get, features, has_meta, meta);
        cairn_table_end(&table, stdout);
    }
    if (cairn_json_get(entity, "vectors", &vectors))
        print_vectors(vectors);
}

/* Prints all and returns the exit code: 1 when an entity was not found. */
static int print_answer(const struct get *get, struct cairn_json root)
{
    struct cairn_json results, entity;
    struct cairn_json_iter iter;
    size_t count;
    bool all_found = true;
    if (get->remote.json)
        cairn_remote_print_json(&get->remote);
    if (!cairn_json_get(root, "results", &results) || !cairn_json_array(results, &iter, &count))
        return CAIRN_EXIT_FAILED;
    while (cairn_json_element(&iter, &entity)) {
        all_found = all_found && cairn_answer_bool(entity, "found");
        if (!get->remote.json)
            print_entity(get, entity);
    }
    return all_found ? CAIRN_EXIT_OK : CAIRN_EXIT_FAILED;
}

static int run_get(struct get *get, char *const *operands, unsigned operands_count)
{
    struct cairn_buf path = {0}, body = {0};
    struct cairn_json root;
    int exit_code = cairn_remote_open(&get->remote);
    if (exit_code == 0) {
        write_request(get, operands + 1, operands_count - 1, &body);
        cairn_collection_path(&path, operands[0], "/entities:get");
        exit_code = cairn_remote_call(&get->remote, "POST", &path, &body, &root);
    }
    if (exit_code == 0)
        exit_code = print_answer(get, root);
    cairn_buf_release(&path);
    cairn_buf_release(&body);
    cairn_remote_close(&get->remote);
    return exit_code;
}

int cairn_cmd_get(int argc, char **argv)
{
    struct get get = {
        .remote = {.command = "get", CAIRN_REMOTE_DEFAULTS}, .features = "*", .meta = "none"};
    const struct cairn_flag flags[] = {
        CAIRN_TEXT("features", "A,B", "which features [*: all]", &get.features),
        CAIRN_SWITCH("vectors", "show vectors too", &get.vectors),
        CAIRN_TEXT("meta", "none|times|full", "show status and times, or also positions [none]",
                   &get.meta),
        CAIRN_REMOTE_FLAGS(&get.remote),
    };
    const struct cairn_usage usage = {
        .command = "get",
        .arguments = "COLLECTION KEY...",
        .summary = "Read entities by key. The exit code is 1 when one of them is not found.",
        .examples = "  cairn get words ocean.n.01\n"
                    "  cairn get users u1 u2 --features country,clicks_7d --meta times\n"
                    "  cairn get words ocean.n.01 --vectors --json\n",
        .flags = flags,
        .flags_count = sizeof(flags) / sizeof(flags[0]),
        .operands_min = 2,
        .operands_max = CAIRN_KEYS_MAX + 1,
    };
    unsigned operands;
    int exit_code;
    if (!cairn_options_parse(&usage, argc, argv, &operands, &exit_code))
        return exit_code;
    if (strcmp(get.meta, "none") != 0 && strcmp(get.meta, "times") != 0 &&
        strcmp(get.meta, "full") != 0)
        return cairn_usage_fail("get", "--meta is none, times or full, not '%s'", get.meta);
    return run_get(&get, argv, operands);
}
