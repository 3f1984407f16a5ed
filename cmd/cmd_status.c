/* cairn status: shards, collections and indexes at a glance. */
#include <stdio.h>

#include "cmd/command.h"
#include "cmd/index_table.h"
#include "cmd/terminal.h"

static void add_bytes(struct cairn_table *table, struct cairn_json object, const char *name)
{
    char text[CAIRN_NUMBER_TEXT_BYTES];
    cairn_table_printf(table, "%s", cairn_text_bytes(cairn_answer_u64(object, name), text));
}

/* "33.1%", and how the weight changes while keys move. */
static void add_share(struct cairn_table *table, struct cairn_json shard)
{
    struct cairn_json value;
    double share = 0, weight = 0, planned = 0;
    if (cairn_json_get(shard, "share", &value))
        (void)cairn_json_f64(value, &share);
    if (cairn_json_get(shard, "weight", &value))
        (void)cairn_json_f64(value, &weight);
    if (!cairn_json_get(shard, "planned_weight", &value) || !cairn_json_f64(value, &planned))
        planned = weight;
    if (planned > weight || planned < weight)
        cairn_table_printf(table, "%.1f%% (weight %g -> %g)", share * 100, weight, planned);
    else
        cairn_table_printf(table, "%.1f%%", share * 100);
}

static void add_shard(struct cairn_table *table, struct cairn_json shard)
{
    char text[CAIRN_NUMBER_TEXT_BYTES];
    struct cairn_json log = shard, queue = shard, bytes = shard;
    cairn_json_get(shard, "log", &log);
    cairn_json_get(shard, "queue", &queue);
    cairn_json_get(shard, "bytes", &bytes);
    cairn_table_cell(table, cairn_answer_str(shard, "id"));
    cairn_table_cell(table, cairn_answer_str(shard, "state"));
    add_share(table, shard);
    cairn_table_printf(table, "%s", cairn_text_count(cairn_answer_u64(shard, "entities"), text));
    cairn_table_printf(table, "%llu", (unsigned long long)cairn_answer_u64(shard, "applied"));
    add_bytes(table, log, "bytes");
    add_bytes(table, bytes, "row_disk");
    add_bytes(table, bytes, "row_memory");
    add_bytes(table, bytes, "index_disk");
    add_bytes(table, bytes, "index_memory");
    cairn_table_printf(table, "%llu", (unsigned long long)cairn_answer_u64(queue, "writes"));
    struct cairn_str url = cairn_answer_str(shard, "url");
    cairn_table_cell(table, url.len > 0 ? url : CAIRN_STR_LITERAL("in this process"));
}

static void print_shards(const struct cairn_remote *remote, struct cairn_json cluster)
{
    static const char *const headings[] = {"shard",      "state",        "share",     "entities",
                                           "applied",    "log",          "rows disk", "rows memory",
                                           "index disk", "index memory", "queue",     "url"};
    struct cairn_json_iter shards = cairn_answer_array(cluster, "shards");
    struct cairn_json shard;
    struct cairn_table table;
    struct cairn_buf reasons = {0};
    struct cairn_buf plan = {0};
    printf("%s  epoch %llu", remote->options.url,
           (unsigned long long)cairn_answer_u64(cluster, "epoch"));
    cairn_text_clean(&plan, cairn_answer_str(cluster, "plan"));
    if (plan.len > 0)
        printf("  %.*s is under way", (int)plan.len, plan.data);
    printf("\n\n");
    cairn_buf_release(&plan);
    cairn_table_begin(&table, headings, 12, 0x7FC);
    while (cairn_json_element(&shards, &shard)) {
        struct cairn_str reason = cairn_answer_str(shard, "reason");
        add_shard(&table, shard);
        if (reason.len > 0) {
            cairn_text_clean(&reasons, cairn_answer_str(shard, "id"));
            cairn_buf_append(&reasons, ": ", 2);
            cairn_text_clean(&reasons, reason);
            cairn_buf_append(&reasons, "\n", 1);
        }
    }
    cairn_table_end(&table, stdout);
    if (reasons.len > 0)
        printf("\n%.*s", (int)reasons.len, reasons.data);
    cairn_buf_release(&reasons);
}

static void print_collections(struct cairn_json root)
{
    struct cairn_json_iter collections = cairn_answer_array(root, "collections");
    struct cairn_json collection;
    struct cairn_table table;
    bool any = false;
    putchar('\n');
    cairn_index_table_begin(&table);
    for (; cairn_json_element(&collections, &collection); any = true)
        cairn_index_table_add(&table, collection);
    if (any) {
        cairn_table_end(&table, stdout);
    } else {
        cairn_buf_release(&table.text);
        printf("No collections yet; `cairn collection create --help` shows how to make one.\n");
    }
}

/* Both answers as members of one object. */
static void print_json(const struct cairn_buf *cluster, const struct cairn_buf *collections)
{
    struct cairn_buf text = {0};
    struct cairn_json_writer writer;
    cairn_json_writer_init(&writer, &text);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "cluster");
    cairn_json_write_raw(&writer, (struct cairn_str){cluster->data, (uint32_t)cluster->len});
    cairn_json_key(&writer, "collections");
    cairn_json_write_raw(&writer,
                         (struct cairn_str){collections->data, (uint32_t)collections->len});
    cairn_json_end_object(&writer);
    printf("%.*s\n", (int)text.len, text.data);
    cairn_buf_release(&text);
}

static int run_status(struct cairn_remote *remote)
{
    struct cairn_buf path = {0}, cluster = {0};
    struct cairn_json root, list;
    int exit_code = cairn_remote_open(remote);
    if (exit_code != 0)
        return exit_code;
    cairn_buf_printf(&path, "/v1/cluster");
    cairn_buf_append(&path, "", 1);
    exit_code = cairn_remote_call(remote, "GET", &path, NULL, &root);
    if (exit_code == 0) {
        if (remote->json)
            cairn_json_minify(root, &cluster);
        else
            print_shards(remote, root);
        cairn_buf_clear(&path);
        cairn_buf_printf(&path, "/v1/collections");
        cairn_buf_append(&path, "", 1);
        exit_code = cairn_remote_call(remote, "GET", &path, NULL, &root);
    }
    if (exit_code == 0 && !remote->json) {
        print_collections(root);
    } else if (exit_code == 0 && cairn_json_get(root, "collections", &list)) {
        struct cairn_buf collections = {0};
        cairn_json_minify(list, &collections);
        print_json(&cluster, &collections);
        cairn_buf_release(&collections);
    }
    cairn_buf_release(&path);
    cairn_buf_release(&cluster);
    return exit_code;
}

int cairn_cmd_status(int argc, char **argv)
{
    struct cairn_remote remote = {.command = "status", CAIRN_REMOTE_DEFAULTS};
    const struct cairn_flag flags[] = {CAIRN_REMOTE_FLAGS(&remote)};
    const struct cairn_usage usage = {
        .command = "status",
        .arguments = "",
        .summary = "Show the shards of a server, its collections and the state of their indexes.",
        .examples = "  cairn status\n"
                    "  cairn status --url http://db1:8080 --json\n",
        .flags = flags,
        .flags_count = sizeof(flags) / sizeof(flags[0]),
    };
    unsigned operands;
    int exit_code;
    if (!cairn_options_parse(&usage, argc, argv, &operands, &exit_code))
        return exit_code;
    exit_code = run_status(&remote);
    cairn_remote_close(&remote);
    return exit_code;
}
