/* cairn search: nearest neighbours of a vector or of an entity. */
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "cmd/command.h"
#include "cmd/terminal.h"

#define COLUMNS_MAX 60u

struct search {
    struct cairn_remote remote;
    const char *vector, *key, *using, *filter, *features;
    uint32_t k, ef, nprobe;
    bool exact;
};

/* Add a member whose value is JSON from the command line. Returns 0 or the exit code. */
static int write_json_member(struct cairn_json_writer *writer, const char *name,
                             const char *argument)
{
    struct cairn_buf text = {0};
    struct cairn_error err;
    char flag[32];
    snprintf(flag, sizeof(flag), "--%s", name);
    int code = cairn_read_json(flag, argument, &text, &err);
    if (code == 0) {
        cairn_json_key(writer, name);
        cairn_json_write_raw(writer, (struct cairn_str){text.data, (uint32_t)text.len});
    }
    cairn_buf_release(&text);
    return code == 0 ? 0 : cairn_usage_fail("search", "%s", err.message);
}

static void write_params(const struct search *search, struct cairn_json_writer *writer)
{
    cairn_json_key(writer, "params");
    cairn_json_begin_object(writer);
    if (search->ef > 0) {
        cairn_json_key(writer, "ef");
        cairn_json_write_u64(writer, search->ef);
    }
    if (search->nprobe > 0) {
        cairn_json_key(writer, "nprobe");
        cairn_json_write_u64(writer, search->nprobe);
    }
    if (search->exact) {
        cairn_json_key(writer, "exact");
        cairn_json_write_bool(writer, true);
    }
    cairn_json_end_object(writer);
}

/* Returns 0 or the exit code. */
static int write_request(const struct search *search, struct cairn_buf *body)
{
    struct cairn_json_writer writer;
    int exit_code = 0;
    cairn_json_writer_init(&writer, body);
    cairn_json_begin_object(&writer);
    if (search->vector != NULL) {
        exit_code = write_json_member(&writer, "vector", search->vector);
    } else {
        cairn_json_key(&writer, "key");
        cairn_json_write_str(&writer, cairn_str_from(search->key));
    }
    if (exit_code == 0 && search->filter != NULL)
        exit_code = write_json_member(&writer, "filter", search->filter);
    if (search->using != NULL) {
        cairn_json_key(&writer, "using");
        cairn_json_write_str(&writer, cairn_str_from(search->using));
    }
    cairn_json_key(&writer, "k");
    cairn_json_write_u64(&writer, search->k);
    if (search->features != NULL) {
        cairn_json_key(&writer, "features");
        cairn_write_names(&writer, search->features);
    }
    if (search->ef > 0 || search->nprobe > 0 || search->exact)
        write_params(search, &writer);
    cairn_json_end_object(&writer);
    return exit_code;
}

/* Column headings: the names asked for, or the features of the first hit. The names live in
 * `text`. */
static unsigned feature_columns(const struct search *search, struct cairn_json hits,
                                struct cairn_buf *text, const char **names)
{
    struct cairn_json first, features;
    struct cairn_json_iter iter, members;
    struct cairn_str name;
    size_t count, at[COLUMNS_MAX];
    unsigned columns = 0;
    if (search->features == NULL)
        return 0;
    if (strcmp(search->features, "*") != 0) {
        const char *rest = search->features;
        while (*rest != '\0' && columns < COLUMNS_MAX) {
            size_t len = strcspn(rest, ",");
            at[columns++] = text->len;
            cairn_buf_append(text, rest, len);
            cairn_buf_append(text, "", 1);
            rest += len + (rest[len] == ',');
        }
    } else if (cairn_json_array(hits, &iter, &count) && cairn_json_element(&iter, &first) &&
               cairn_json_get(first, "features", &features) &&
               cairn_json_object(features, &members)) {
        struct cairn_json value;
        while (columns < COLUMNS_MAX && cairn_json_member(&members, &name, &value)) {
            at[columns++] = text->len;
            cairn_buf_append(text, name.ptr, name.len);
            cairn_buf_append(text, "", 1);
        }
    }
    for (unsigned i = 0; i < columns; i++)
        names[i] = text->data + at[i];
    return columns;
}

static void add_hit(struct cairn_table *table, unsigned rank, struct cairn_json hit,
                    const char *const *names, unsigned names_count)
{
    struct cairn_json features, value;
    struct cairn_buf text = {0};
    double score = 0;
    bool has_features = cairn_json_get(hit, "features", &features);
    if (cairn_json_get(hit, "score", &value))
        cairn_json_f64(value, &score);
    cairn_table_printf(table, "%u", rank);
    cairn_table_printf(table, "%.4f", score);
    cairn_table_cell(table, cairn_answer_str(hit, "key"));
    for (unsigned i = 0; i < names_count; i++) {
        cairn_buf_clear(&text);
        if (has_features && cairn_json_get(features, names[i], &value))
            cairn_value_text(value, &text);
        cairn_table_cell(table, (struct cairn_str){text.data, (uint32_t)text.len});
    }
    cairn_buf_release(&text);
}

static void print_hits(const struct search *search, struct cairn_json root)
{
    const char *headings[COLUMNS_MAX + 3] = {"#", "score", "key"};
    struct cairn_buf names = {0};
    struct cairn_table table;
    struct cairn_json hits, hit;
    struct cairn_json_iter iter;
    size_t count;
    if (!cairn_json_get(root, "hits", &hits) || !cairn_json_array(hits, &iter, &count))
        return;
    unsigned columns = feature_columns(search, hits, &names, headings + 3);
    cairn_table_begin(&table, headings, columns + 3, 3);
    for (unsigned rank = 1; cairn_json_element(&iter, &hit); rank++)
        add_hit(&table, rank, hit, headings + 3, columns);
    cairn_table_end(&table, stdout);
    cairn_buf_release(&names);
}

static int run_search(struct search *search, const char *collection)
{
    struct cairn_buf path = {0}, body = {0};
    struct cairn_json root;
    int exit_code = write_request(search, &body);
    if (exit_code == 0)
        exit_code = cairn_remote_open(&search->remote);
    if (exit_code == 0) {
        cairn_collection_path(&path, collection, "/search");
        exit_code = cairn_remote_call(&search->remote, "POST", &path, &body, &root);
    }
    if (exit_code == 0) {
        if (search->remote.json)
            cairn_remote_print_json(&search->remote);
        else
            print_hits(search, root);
    }
    cairn_buf_release(&path);
    cairn_buf_release(&body);
    cairn_remote_close(&search->remote);
    return exit_code;
}

int cairn_cmd_search(int argc, char **argv)
{
    struct search search = {.remote = {.command = "search", CAIRN_REMOTE_DEFAULTS}, .k = 10};
    const struct cairn_flag flags[] = {
        CAIRN_TEXT("vector", "JSON|FILE|-", "the query: [0.1, 0.2] or {\"f32\": \"base64\"}",
                   &search.vector),
        CAIRN_TEXT("key", "KEY", "or more like this entity", &search.key),
        CAIRN_TEXT("using", "VECTOR", "which vector field [default]", &search.using),
        CAIRN_COUNT("k", "N", "how many hits [10]", &search.k, 1, CAIRN_K_MAX),
        CAIRN_TEXT("filter", "JSON|FILE|-", "only entities that match", &search.filter),
        CAIRN_TEXT("features", "A,B", "features to show; * for all [none]", &search.features),
        CAIRN_SWITCH("exact", "score every vector", &search.exact),
        CAIRN_COUNT("ef", "N", "beam width of a graph index", &search.ef, 1, CAIRN_EF_MAX),
        CAIRN_COUNT("nprobe", "N", "lists visited in an ivf index", &search.nprobe, 1,
                    CAIRN_NPROBE_MAX),
        CAIRN_REMOTE_FLAGS(&search.remote),
    };
    const struct cairn_usage usage = {
        .command = "search",
        .arguments = "COLLECTION --vector JSON | --key KEY",
        .summary = "Find the nearest vectors, best first. score is a similarity for cosine and\n"
                   "dot (higher is better) and a distance for l2 (lower is better).",
        .examples = "  cairn search words --key ocean.n.01 -k 5 --features word,gloss\n"
                    "  cairn search words --key dog.n.01 --filter "
                    "'{\"feature\":\"domain\",\"eq\":\"noun.food\"}'\n"
                    "  cairn search words --vector query.json --exact --json\n",
        .flags = flags,
        .flags_count = sizeof(flags) / sizeof(flags[0]),
        .operands_min = 1,
        .operands_max = 1,
    };
    unsigned operands;
    int exit_code;
    if (!cairn_options_parse(&usage, argc, argv, &operands, &exit_code))
        return exit_code;
    if ((search.vector == NULL) == (search.key == NULL))
        return cairn_usage_fail("search", "give either --vector or --key");
    return run_search(&search, argv[0]);
}
