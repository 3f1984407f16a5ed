/* cairn collection: create, show, list, drop. */
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "cmd/command.h"
#include "cmd/index_table.h"
#include "cmd/terminal.h"

/* name:type and name:dim[:metric[:kind]] have at most this many parts. */
#define PARTS_MAX 4u

/* Cut `text` at its colons. Returns the number of parts, or 0 when there are too many or one is
 * empty. */
static unsigned cut_parts(const char *text, struct cairn_str *parts)
{
    unsigned count = 0;
    for (;;) {
        size_t len = strcspn(text, ":");
        if (len == 0 || count == PARTS_MAX)
            return 0;
        parts[count++] = (struct cairn_str){text, (uint32_t)len};
        if (text[len] == '\0')
            return count;
        text += len + 1;
    }
}

/* Returns 0 or the exit code. */
static int write_features(const struct cairn_texts *features, struct cairn_json_writer *writer)
{
    cairn_json_key(writer, "features");
    cairn_json_begin_object(writer);
    for (unsigned i = 0; i < features->count; i++) {
        struct cairn_str parts[PARTS_MAX];
        if (cut_parts(features->at[i], parts) != 2)
            return cairn_usage_fail("collection create", "--feature is name:type, not '%s'",
                                    features->at[i]);
        cairn_json_write_key(writer, parts[0]);
        cairn_json_begin_object(writer);
        cairn_json_key(writer, "type");
        cairn_json_write_str(writer, parts[1]);
        cairn_json_end_object(writer);
    }
    cairn_json_end_object(writer);
    return 0;
}

static bool parse_dim(struct cairn_str text, uint64_t *dim)
{
    *dim = 0;
    for (uint32_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9' || *dim > CAIRN_DIM_MAX)
            return false;
        *dim = *dim * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    return *dim > 0;
}

/* Returns 0 or the exit code. */
static int write_vectors(const struct cairn_texts *vectors, struct cairn_json_writer *writer)
{
    cairn_json_key(writer, "vectors");
    cairn_json_begin_object(writer);
    for (unsigned i = 0; i < vectors->count; i++) {
        struct cairn_str parts[PARTS_MAX];
        uint64_t dim;
        unsigned count = cut_parts(vectors->at[i], parts);
        if (count < 2 || !parse_dim(parts[1], &dim))
            return cairn_usage_fail("collection create",
                                    "--vector is name:dim[:metric[:kind]], not '%s'",
                                    vectors->at[i]);
        cairn_json_write_key(writer, parts[0]);
        cairn_json_begin_object(writer);
        cairn_json_key(writer, "dim");
        cairn_json_write_u64(writer, dim);
        if (count > 2) {
            cairn_json_key(writer, "metric");
            cairn_json_write_str(writer, parts[2]);
        }
        if (count > 3) {
            cairn_json_key(writer, "index");
            cairn_json_begin_object(writer);
            cairn_json_key(writer, "kind");
            cairn_json_write_str(writer, parts[3]);
            cairn_json_end_object(writer);
        }
        cairn_json_end_object(writer);
    }
    cairn_json_end_object(writer);
    return 0;
}

/* The schema from --schema, or from --feature and --vector. Returns 0 or the exit code. */
static int make_schema(const char *schema, const struct cairn_texts *features,
                       const struct cairn_texts *vectors, struct cairn_buf *body)
{
    struct cairn_json_writer writer;
    struct cairn_error err;
    if (schema != NULL && features->count + vectors->count > 0)
        return cairn_usage_fail("collection create",
                                "give either --schema or --feature and --vector");
    if (schema != NULL) {
        if (cairn_read_json("--schema", schema, body, &err) != 0)
            return cairn_usage_fail("collection create", "%s", err.message);
        return 0;
    }
    cairn_json_writer_init(&writer, body);
    cairn_json_begin_object(&writer);
    int exit_code = write_features(features, &writer);
    if (exit_code == 0)
        exit_code = write_vectors(vectors, &writer);
    if (exit_code == 0)
        cairn_json_end_object(&writer);
    return exit_code;
}

/* Call and, with --json, print the answer. Returns 0 or the exit code. */
static int call(struct cairn_remote *remote, const char *method, const char *name,
                const struct cairn_buf *body, struct cairn_json *root)
{
    struct cairn_buf path = {0};
    int exit_code = cairn_remote_open(remote);
    if (exit_code == 0) {
        if (name != NULL)
            cairn_collection_path(&path, name, "");
        else
            cairn_buf_append(&path, "/v1/collections", sizeof("/v1/collections"));
        exit_code = cairn_remote_call(remote, method, &path, body, root);
    }
    if (exit_code == 0 && remote->json)
        cairn_remote_print_json(remote);
    cairn_buf_release(&path);
    return exit_code;
}

static int collection_create(int argc, char **argv)
{
    struct cairn_remote remote = {.command = "collection create", CAIRN_REMOTE_DEFAULTS};
    const char *schema = NULL;
    struct cairn_texts features = {.count = 0}, vectors = {.count = 0};
    const struct cairn_flag flags[] = {
        CAIRN_TEXT("schema", "FILE|-|JSON", "the schema, as the HTTP interface takes it", &schema),
        CAIRN_TEXTS("feature", "NAME:TYPE", "a feature; may be repeated", &features),
        CAIRN_TEXTS("vector", "NAME:DIM[:METRIC[:KIND]]", "a vector; may be repeated", &vectors),
        CAIRN_REMOTE_FLAGS(&remote),
    };
    const struct cairn_usage usage = {
        .command = "collection create",
        .arguments = "NAME",
        .summary = "Create a collection, or add to the schema of one that exists.\n"
                   "TYPE is bool, int64, float64, string, bytes, timestamp, json or list<TYPE>;\n"
                   "METRIC is cosine, dot or l2; KIND is flat, ivf or graph.",
        .examples = "  cairn collection create words --vector default:100:cosine:graph\n"
                    "  cairn collection create users --feature country:string "
                    "--feature clicks_7d:int64\n"
                    "  cairn collection create words --schema schema.json\n",
        .flags = flags,
        .flags_count = sizeof(flags) / sizeof(flags[0]),
        .operands_min = 1,
        .operands_max = 1,
    };
    struct cairn_buf body = {0};
    struct cairn_json root;
    unsigned operands;
    int exit_code;
    if (!cairn_options_parse(&usage, argc, argv, &operands, &exit_code))
        return exit_code;
    exit_code = make_schema(schema, &features, &vectors, &body);
    if (exit_code == 0)
        exit_code = call(&remote, "PUT", argv[0], &body, &root);
    if (exit_code == 0 && !remote.json)
        printf("%s collection %s, version %llu\n",
               remote.answer.status == 201 ? "Created" : "Updated", argv[0],
               (unsigned long long)cairn_answer_u64(root, "version"));
    cairn_buf_release(&body);
    cairn_remote_close(&remote);
    return exit_code;
}

static void print_features(struct cairn_json collection)
{
    static const char *const headings[] = {"feature", "type", "indexed", "ttl"};
    struct cairn_json_iter members = cairn_answer_members(collection, "features");
    struct cairn_json feature;
    struct cairn_str name;
    struct cairn_table table;
    bool any = false;
    cairn_table_begin(&table, headings, 4, 0);
    for (; cairn_json_member(&members, &name, &feature); any = true) {
        cairn_table_cell(&table, name);
        cairn_table_cell(&table, cairn_answer_str(feature, "type"));
        cairn_table_printf(&table, "%s", cairn_answer_bool(feature, "indexed") ? "yes" : "");
        cairn_table_cell(&table, cairn_answer_str(feature, "ttl"));
    }
    if (any) {
        putchar('\n');
        cairn_table_end(&table, stdout);
    } else {
        cairn_buf_release(&table.text);
    }
}

static void print_vectors(struct cairn_json collection)
{
    static const char *const headings[] = {"vector", "dim", "metric", "index"};
    struct cairn_json_iter members = cairn_answer_members(collection, "vectors");
    struct cairn_json vector, index;
    struct cairn_str name;
    struct cairn_table table;
    struct cairn_buf text = {0};
    bool any = false;
    cairn_table_begin(&table, headings, 4, 2);
    for (; cairn_json_member(&members, &name, &vector); any = true) {
        cairn_table_cell(&table, name);
        cairn_table_printf(&table, "%llu", (unsigned long long)cairn_answer_u64(vector, "dim"));
        cairn_table_cell(&table, cairn_answer_str(vector, "metric"));
        cairn_buf_clear(&text);
        if (cairn_json_get(vector, "index", &index))
            cairn_json_minify(index, &text);
        cairn_table_cell(&table, (struct cairn_str){text.data, (uint32_t)text.len});
    }
    if (any) {
        putchar('\n');
        cairn_table_end(&table, stdout);
    } else {
        cairn_buf_release(&table.text);
    }
    cairn_buf_release(&text);
}

static void print_collection(struct cairn_json collection)
{
    struct cairn_table table;
    cairn_index_table_begin(&table);
    cairn_index_table_add(&table, collection);
    cairn_table_end(&table, stdout);
    print_features(collection);
    print_vectors(collection);
    printf("\nVersion %llu, created %.*s; undeclared features are %s.\n",
           (unsigned long long)cairn_answer_u64(collection, "version"),
           CAIRN_STR_ARG(cairn_answer_str(collection, "created_at")),
           cairn_answer_bool(collection, "strict") ? "refused" : "kept");
}

/* What show, list and drop share: flags of a remote command and at most one operand. Returns false
 * with the exit code. */
static bool parse_simple(struct cairn_remote *remote, const char *arguments, const char *summary,
                         const char *examples, int argc, char **argv, int *exit_code)
{
    const struct cairn_flag flags[] = {CAIRN_REMOTE_FLAGS(remote)};
    unsigned operands_wanted = arguments[0] != '\0', operands;
    const struct cairn_usage usage = {
        .command = remote->command,
        .arguments = arguments,
        .summary = summary,
        .examples = examples,
        .flags = flags,
        .flags_count = sizeof(flags) / sizeof(flags[0]),
        .operands_min = operands_wanted,
        .operands_max = operands_wanted,
    };
    return cairn_options_parse(&usage, argc, argv, &operands, exit_code);
}

static int collection_show(int argc, char **argv)
{
    struct cairn_remote remote = {.command = "collection show", CAIRN_REMOTE_DEFAULTS};
    struct cairn_json root;
    int exit_code;
    if (!parse_simple(&remote, "NAME", "Show a collection's schema, counts and indexes.",
                      "  cairn collection show words\n", argc, argv, &exit_code))
        return exit_code;
    exit_code = call(&remote, "GET", argv[0], NULL, &root);
    if (exit_code == 0 && !remote.json)
        print_collection(root);
    cairn_remote_close(&remote);
    return exit_code;
}

static int collection_list(int argc, char **argv)
{
    struct cairn_remote remote = {.command = "collection list", CAIRN_REMOTE_DEFAULTS};
    struct cairn_json root, collection;
    struct cairn_table table;
    int exit_code;
    if (!parse_simple(&remote, "", "List the collections with their counts and indexes.",
                      "  cairn collection list\n", argc, argv, &exit_code))
        return exit_code;
    exit_code = call(&remote, "GET", NULL, NULL, &root);
    if (exit_code == 0 && !remote.json) {
        struct cairn_json_iter collections = cairn_answer_array(root, "collections");
        cairn_index_table_begin(&table);
        while (cairn_json_element(&collections, &collection))
            cairn_index_table_add(&table, collection);
        cairn_table_end(&table, stdout);
    }
    cairn_remote_close(&remote);
    return exit_code;
}

static int collection_drop(int argc, char **argv)
{
    struct cairn_remote remote = {.command = "collection drop", CAIRN_REMOTE_DEFAULTS};
    struct cairn_json root;
    int exit_code;
    if (!parse_simple(&remote, "NAME", "Drop a collection with all its entities.",
                      "  cairn collection drop words\n", argc, argv, &exit_code))
        return exit_code;
    exit_code = call(&remote, "DELETE", argv[0], NULL, &root);
    if (exit_code == 0 && !remote.json)
        printf("Dropped collection %s\n", argv[0]);
    cairn_remote_close(&remote);
    return exit_code;
}

int cairn_cmd_collection(int argc, char **argv)
{
    static const struct cairn_command commands[] = {
        {"create", "create a collection or add to its schema", collection_create},
        {"show", "show schema, counts and indexes", collection_show},
        {"list", "list all collections", collection_list},
        {"drop", "drop a collection", collection_drop},
    };
    return cairn_command_run("collection", commands, 4, argc, argv);
}
