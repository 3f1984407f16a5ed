#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/schema.h"

static struct cairn_json_parser *parser;

static int set_up(void **state)
{
    (void)state;
    parser = cairn_json_parser_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cairn_json_parser_free(&parser);
    return 0;
}

static int try_parse(const char *text, const struct cairn_schema **out, struct cairn_error *err)
{
    struct cairn_json root;
    assert_int_equal(cairn_json_parse(parser, cairn_str_from(text), &root, NULL), 0);
    return cairn_schema_parse(CAIRN_STR_LITERAL("users"), root, out, err);
}

static const struct cairn_schema *parsed(const char *text)
{
    const struct cairn_schema *schema;
    struct cairn_error err = {0};
    if (try_parse(text, &schema, &err) != 0)
        fail_msg("%s: %s", text, err.message);
    return schema;
}

static char *members_text(const struct cairn_schema *schema)
{
    struct cairn_buf buf = {0};
    struct cairn_json_writer writer;
    cairn_json_writer_init(&writer, &buf);
    cairn_json_begin_object(&writer);
    cairn_schema_write_members(schema, &writer);
    cairn_json_end_object(&writer);
    cairn_buf_append(&buf, "", 1);
    return buf.data;
}

static void assert_members(const struct cairn_schema *schema, const char *want)
{
    char *text = members_text(schema);
    assert_string_equal(text, want);
    free(text);
}

static void refused(const char *text, int code, const char *mentions)
{
    const struct cairn_schema *schema;
    struct cairn_error err = {0};
    if (try_parse(text, &schema, &err) != code || !strstr(err.message, mentions))
        fail_msg("%s: %d %s", text, err.code, err.message);
    assert_int_equal(err.code, code);
    assert_null(schema);
}

static const char full[] =
    "{\"features\":{\"country\":{\"type\":\"string\",\"indexed\":true},"
    "\"clicks_7d\":{\"type\":\"int64\",\"ttl\":\"24h\"},\"tags\":{\"type\":\"list<string>\"}},"
    "\"strict\":true,"
    "\"vectors\":{\"default\":{\"dim\":384,\"metric\":\"dot\",\"index\":{\"kind\":\"graph\","
    "\"m\":32,\"ef_construction\":200,\"quantization\":\"sq8\"}},\"image\":{\"dim\":8}},"
    "\"history\":{\"keep\":\"all\"},"
    "\"documents\":{\"vector\":\"default\",\"chunker\":{\"kind\":\"text\",\"size\":800},"
    "\"embedder\":{\"kind\":\"hash\",\"dim\":384}}}";

static const char full_written[] =
    "{\"features\":{\"clicks_7d\":{\"type\":\"int64\",\"indexed\":false,\"ttl\":\"1d\"},"
    "\"country\":{\"type\":\"string\",\"indexed\":true},"
    "\"tags\":{\"type\":\"list<string>\",\"indexed\":false}},\"strict\":true,"
    "\"vectors\":{\"default\":{\"dim\":384,\"metric\":\"dot\",\"index\":{\"kind\":\"graph\","
    "\"quantization\":\"sq8\",\"m\":32,\"ef_construction\":200}},"
    "\"image\":{\"dim\":8,\"metric\":\"cosine\",\"index\":{\"kind\":\"ivf\","
    "\"quantization\":\"none\"}}},\"history\":{\"keep\":\"all\"},"
    "\"documents\":{\"vector\":\"default\",\"chunker\":{\"kind\":\"text\",\"size\":800},"
    "\"embedder\":{\"kind\":\"hash\",\"dim\":384}}}";

static void a_schema_is_read(void **state)
{
    (void)state;
    const struct cairn_schema *schema = parsed(full);
    assert_true(cairn_str_eq(schema->name, CAIRN_STR_LITERAL("users")));
    assert_true(schema->strict);
    assert_int_equal(schema->id, 0);
    assert_int_equal(schema->version, 0);
    assert_int_equal(schema->features_count, 3);
    const struct cairn_feature_def *clicks =
        cairn_schema_feature(schema, CAIRN_STR_LITERAL("clicks_7d"));
    assert_non_null(clicks);
    assert_int_equal(clicks->type, CAIRN_TYPE_INT64);
    assert_true(clicks->ttl_us == INT64_C(86400000000));
    assert_false(clicks->indexed);
    assert_ptr_equal(cairn_schema_stored_feature(schema, CAIRN_STR_LITERAL("clicks_7d")), clicks);
    assert_true(cairn_schema_feature(schema, CAIRN_STR_LITERAL("country"))->indexed);
    assert_int_equal(cairn_schema_feature(schema, CAIRN_STR_LITERAL("tags"))->type,
                     CAIRN_TYPE_LIST | CAIRN_TYPE_STRING);
    assert_null(cairn_schema_feature(schema, CAIRN_STR_LITERAL("countr")));
    assert_null(cairn_schema_stored_feature(schema, CAIRN_STR_LITERAL("zzz")));
    const struct cairn_vector_def *vector =
        cairn_schema_vector(schema, CAIRN_STR_LITERAL("default"));
    assert_int_equal(vector->dim, 384);
    assert_int_equal(vector->metric, CAIRN_METRIC_DOT);
    assert_int_equal(vector->index.kind, CAIRN_INDEX_GRAPH);
    assert_int_equal(vector->index.quantization, CAIRN_QUANTIZATION_SQ8);
    assert_int_equal(vector->index.m, 32);
    assert_int_equal(vector->index.ef_construction, 200);
    assert_int_equal(vector->index.ef, 0);
    assert_null(cairn_schema_vector(schema, CAIRN_STR_LITERAL("other")));
    assert_members(schema, full_written);
    cairn_schema_unref(schema);
}

static void an_empty_schema_has_defaults(void **state)
{
    (void)state;
    const struct cairn_schema *schema = parsed("{}");
    assert_false(schema->strict);
    assert_int_equal(schema->features_count, 0);
    assert_int_equal(schema->history_json.len, 0);
    assert_members(schema, "{\"features\":{},\"strict\":false,\"vectors\":{}}");
    cairn_schema_unref(cairn_schema_ref(schema));
    cairn_schema_unref(schema);
    cairn_schema_unref(NULL);
}

static void names_are_checked(void **state)
{
    (void)state;
    char name[CAIRN_NAME_BYTES_MAX + 2];
    memset(name, 'n', sizeof(name));
    assert_int_equal(
        cairn_name_check((struct cairn_str){name, CAIRN_NAME_BYTES_MAX}, "vector", NULL), 0);
    struct cairn_error err = {0};
    assert_int_equal(
        cairn_name_check((struct cairn_str){name, CAIRN_NAME_BYTES_MAX + 1}, "vector", &err),
        CAIRN_ENAME);
    assert_non_null(strstr(err.message, "vector"));
    static const char *const good[] = {"a", "_", "A-1.b_", "0"};
    static const char *const bad[] = {"", ".a", "-a", "a b", "a/b", "\xC3\xA9", "a\n", "a:b"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_int_equal(cairn_name_check(cairn_str_from(good[i]), "x", NULL), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(cairn_name_check(cairn_str_from(bad[i]), "x", NULL), CAIRN_ENAME);
    struct cairn_json root;
    const struct cairn_schema *schema;
    cairn_json_parse(parser, CAIRN_STR_LITERAL("{}"), &root, NULL);
    assert_int_equal(cairn_schema_parse(CAIRN_STR_LITERAL("a b"), root, &schema, NULL),
                     CAIRN_ENAME);
    refused("{\"features\":{\"a b\":{\"type\":\"bool\"}}}", CAIRN_ENAME, "features");
    refused("{\"vectors\":{\"\":{\"dim\":2}}}", CAIRN_ENAME, "vectors");
}

static void faults_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *mentions;
    } cases[] = {
        {"[]", "object"},
        {"null", "object"},
        {"{\"feature\":{}}", "feature: unknown field"},
        {"{\"id\":1}", "id: unknown field"},
        {"{\"strict\":null}", "strict"},
        {"{\"strict\":1}", "strict"},
        {"{\"strict\":true,\"strict\":true}", "strict: given twice"},
        {"{\"features\":null}", "features"},
        {"{\"features\":[]}", "features"},
        {"{\"features\":{\"a\":\"int64\"}}", "features.a: must be an object"},
        {"{\"features\":{\"a\":{}}}", "features.a.type"},
        {"{\"features\":{\"a\":{\"type\":\"int32\"}}}", "features.a.type"},
        {"{\"features\":{\"a\":{\"type\":\"null\"}}}", "features.a.type"},
        {"{\"features\":{\"a\":{\"type\":\"vector\"}}}", "features.a.type"},
        {"{\"features\":{\"a\":{\"type\":\"list<list<bool>>\"}}}", "features.a.type"},
        {"{\"features\":{\"a\":{\"type\":7}}}", "features.a.type"},
        {"{\"features\":{\"a\":{\"type\":\"bool\",\"indexed\":\"yes\"}}}", "features.a.indexed"},
        {"{\"features\":{\"a\":{\"type\":\"bool\",\"ttl\":\"1 day\"}}}", "features.a.ttl"},
        {"{\"features\":{\"a\":{\"type\":\"bool\",\"ttl\":\"0s\"}}}", "features.a.ttl"},
        {"{\"features\":{\"a\":{\"type\":\"bool\",\"ttl\":60}}}", "features.a.ttl"},
        {"{\"features\":{\"a\":{\"type\":\"bool\",\"ttl\":null}}}", "features.a.ttl"},
        {"{\"features\":{\"a\":{\"type\":\"bool\",\"stored_name\":\"b\"}}}", "features.a.stored"},
        {"{\"features\":{\"a\":{\"type\":\"bool\"},\"a\":{\"type\":\"bool\"}}}",
         "features.a: named twice"},
        {"{\"vectors\":7}", "vectors"},
        {"{\"vectors\":{\"v\":384}}", "vectors.v: must be"},
        {"{\"vectors\":{\"v\":{}}}", "vectors.v.dim"},
        {"{\"vectors\":{\"v\":{\"dim\":0}}}", "vectors.v.dim: 0 is not in 1..8192"},
        {"{\"vectors\":{\"v\":{\"dim\":8193}}}", "vectors.v.dim: 8193 is not in 1..8192"},
        {"{\"vectors\":{\"v\":{\"dim\":-1}}}", "vectors.v.dim: -1"},
        {"{\"vectors\":{\"v\":{\"dim\":18446744073709551615}}}", "vectors.v.dim"},
        {"{\"vectors\":{\"v\":{\"dim\":2.0}}}", "vectors.v.dim: must be an integer"},
        {"{\"vectors\":{\"v\":{\"dim\":2},\"v\":{\"dim\":2}}}", "vectors.v: named twice"},
        {"{\"vectors\":{\"v\":{\"dim\":2,\"metric\":\"euclid\"}}}", "vectors.v.metric"},
        {"{\"vectors\":{\"v\":{\"dim\":2,\"size\":3}}}", "vectors.v.size: unknown field"},
        {"{\"vectors\":{\"v\":{\"dim\":2,\"index\":\"ivf\"}}}", "vectors.v.index"},
        {"{\"vectors\":{\"v\":{\"dim\":2,\"index\":{\"kind\":\"hnsw\"}}}}", "vectors.v.index.kind"},
        {"{\"vectors\":{\"v\":{\"dim\":2,\"index\":{\"quantization\":\"sq4\"}}}}",
         "vectors.v.index.quantization"},
        {"{\"vectors\":{\"v\":{\"dim\":2,\"index\":{\"nlist\":4}}}}",
         "vectors.v.index.nlist: unknown field"},
        {"{\"vectors\":{\"v\":{\"dim\":2,\"index\":{\"m\":8}}}}",
         "vectors.v.index.m: a setting of kind \"graph\""},
        {"{\"vectors\":{\"v\":{\"dim\":2,\"index\":{\"kind\":\"flat\",\"lists\":8}}}}",
         "vectors.v.index.lists: a setting of kind \"ivf\""},
        {"{\"vectors\":{\"v\":{\"dim\":8,\"index\":{\"pq_bytes\":4}}}}",
         "vectors.v.index.pq_bytes: needs"},
        {"{\"vectors\":{\"v\":{\"dim\":8,\"index\":{\"quantization\":\"pq\",\"pq_bytes\":3}}}}",
         "vectors.v.index.pq_bytes: 3 does not divide 8"},
        {"{\"history\":\"all\"}", "history"},
        {"{\"history\":{\"keep\":\"some\"}}", "history.keep"},
        {"{\"history\":{\"kept\":\"all\"}}", "history.kept: unknown field"},
        {"{\"documents\":[]}", "documents"},
        {"{\"documents\":{\"chunker\":null}}", "documents.chunker"},
        {"{\"documents\":{\"vector\":1}}", "documents.vector"},
        {"{\"documents\":{\"other\":{}}}", "documents.other: unknown field"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        refused(cases[i].text, CAIRN_ESCHEMA, cases[i].mentions);
}

static void settings_are_bounded(void **state)
{
    (void)state;
    static const struct {
        const char *kind, *name;
        unsigned min, max;
    } cases[] = {{"graph", "m", 4, 128},
                 {"graph", "ef_construction", 8, 2048},
                 {"graph", "ef", 1, 10000},
                 {"ivf", "lists", 1, 65536},
                 {"ivf", "nprobe", 1, 65536}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        unsigned values[] = {cases[i].min - 1, cases[i].min, cases[i].max, cases[i].max + 1};
        for (int j = 0; j < 4; j++) {
            char text[256], path[64];
            snprintf(text, sizeof(text),
                     "{\"vectors\":{\"v\":{\"dim\":8,\"index\":{\"kind\":\"%s\",\"%s\":%u}}}}",
                     cases[i].kind, cases[i].name, values[j]);
            snprintf(path, sizeof(path), "vectors.v.index.%s: %u is not in", cases[i].name,
                     values[j]);
            if (j == 0 || j == 3)
                refused(text, CAIRN_ESCHEMA, path);
            else
                cairn_schema_unref(parsed(text));
        }
    }
}

static char *many(const char *member, const char *prefix, unsigned count, const char *body)
{
    struct cairn_buf buf = {0};
    cairn_buf_printf(&buf, "{\"%s\":{", member);
    for (unsigned i = 0; i < count; i++)
        cairn_buf_printf(&buf, "%s\"%s%u\":%s", i ? "," : "", prefix, i, body);
    cairn_buf_append(&buf, "}}", 3);
    return buf.data;
}

static void counts_are_bounded(void **state)
{
    (void)state;
    static const struct {
        const char *member, *body;
        unsigned max;
    } cases[] = {{"features", "{\"type\":\"bool\"}", CAIRN_FEATURES_MAX},
                 {"vectors", "{\"dim\":3}", CAIRN_VECTORS_MAX}};
    for (int i = 0; i < 2; i++) {
        char *text = many(cases[i].member, "x", cases[i].max, cases[i].body);
        const struct cairn_schema *schema = parsed(text);
        free(text);
        text = many(cases[i].member, "x", cases[i].max + 1, cases[i].body);
        refused(text, CAIRN_ESCHEMA, cases[i].member);
        free(text);
        /* Nor can evolution pass the limit. */
        text = many(cases[i].member, "y", 1, cases[i].body);
        const struct cairn_schema *one = parsed(text), *out;
        struct cairn_error err = {0};
        bool changed;
        assert_int_equal(cairn_schema_evolve(schema, one, &out, &changed, &err), CAIRN_ESCHEMA);
        assert_non_null(strstr(err.message, cases[i].member));
        assert_null(out);
        cairn_schema_unref(one);
        cairn_schema_unref(schema);
        free(text);
    }
}

static const struct cairn_schema *with_identity(const char *text)
{
    const struct cairn_schema *plain = parsed(text);
    const struct cairn_schema *schema = cairn_schema_with_identity(plain, 7, 41, 123456789, false);
    cairn_schema_unref(plain);
    return schema;
}

static void evolution_of_its_own_text_changes_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {full, "{}", "{\"vectors\":{\"v\":{\"dim\":3}}}"};
    for (int i = 0; i < 3; i++) {
        const struct cairn_schema *schema = with_identity(texts[i]);
        char *text = members_text(schema);
        const char *asked_texts[] = {text, "{}", texts[i]};
        for (int j = 0; j < 3; j++) {
            const struct cairn_schema *asked = parsed(asked_texts[j]), *out;
            bool changed = true;
            assert_int_equal(cairn_schema_evolve(schema, asked, &out, &changed, NULL), 0);
            assert_false(changed);
            assert_ptr_equal(out, schema);
            cairn_schema_unref(out);
            cairn_schema_unref(asked);
        }
        free(text);
        cairn_schema_unref(schema);
    }
}

static void evolves(const char *from, const char *asked_text, const char *want)
{
    const struct cairn_schema *schema = with_identity(from), *asked = parsed(asked_text), *out;
    struct cairn_error err = {0};
    bool changed = false;
    if (cairn_schema_evolve(schema, asked, &out, &changed, &err) != 0)
        fail_msg("%s", err.message);
    cairn_schema_unref(asked);
    assert_true(changed);
    assert_int_equal(out->version, schema->version + 1);
    assert_int_equal(out->id, 7);
    assert_true(out->created_us == 123456789);
    assert_true(cairn_str_eq(out->name, CAIRN_STR_LITERAL("users")));
    cairn_schema_unref(schema);
    assert_members(out, want);
    cairn_schema_unref(out);
}

static void evolution_adds_and_keeps(void **state)
{
    (void)state;
    evolves("{\"features\":{\"b\":{\"type\":\"bool\",\"indexed\":true,\"ttl\":\"1h\"}}}",
            "{\"features\":{\"c\":{\"type\":\"json\"},\"a\":{\"type\":\"int64\"},"
            "\"b\":{\"type\":\"bool\"}}}",
            "{\"features\":{\"a\":{\"type\":\"int64\",\"indexed\":false},"
            "\"b\":{\"type\":\"bool\",\"indexed\":true,\"ttl\":\"1h\"},"
            "\"c\":{\"type\":\"json\",\"indexed\":false}},\"strict\":false,\"vectors\":{}}");
    evolves("{\"features\":{\"b\":{\"type\":\"bool\",\"indexed\":true,\"ttl\":\"1h\"}}}",
            "{\"strict\":true,\"features\":{\"b\":{\"type\":\"bool\",\"indexed\":false,"
            "\"ttl\":\"none\"}}}",
            "{\"features\":{\"b\":{\"type\":\"bool\",\"indexed\":false}},\"strict\":true,"
            "\"vectors\":{}}");
    evolves("{\"strict\":true,\"history\":{\"keep\":\"all\"},\"documents\":{\"vector\":\"v\"}}",
            "{\"history\":{\"keep\":\"90d\"},\"vectors\":{\"v\":{\"dim\":2}}}",
            "{\"features\":{},\"strict\":true,\"vectors\":{\"v\":{\"dim\":2,\"metric\":\"cosine\","
            "\"index\":{\"kind\":\"ivf\",\"quantization\":\"none\"}}},"
            "\"history\":{\"keep\":\"90d\"},\"documents\":{\"vector\":\"v\"}}");
}

static void index_settings_evolve(void **state)
{
    (void)state;
    static const char graph[] =
        "{\"vectors\":{\"v\":{\"dim\":8,\"metric\":\"l2\",\"index\":{\"kind\":\"graph\",\"m\":16,"
        "\"ef\":50,\"quantization\":\"pq\",\"pq_bytes\":4}}}}";
    evolves(graph, "{\"vectors\":{\"v\":{\"dim\":8,\"index\":{\"kind\":\"graph\",\"m\":24}}}}",
            "{\"features\":{},\"strict\":false,\"vectors\":{\"v\":{\"dim\":8,\"metric\":\"l2\","
            "\"index\":{\"kind\":\"graph\",\"quantization\":\"pq\",\"m\":24,\"ef\":50,"
            "\"pq_bytes\":4}}}}");
    evolves(graph, "{\"vectors\":{\"v\":{\"dim\":8,\"index\":{\"kind\":\"ivf\",\"lists\":9}}}}",
            "{\"features\":{},\"strict\":false,\"vectors\":{\"v\":{\"dim\":8,\"metric\":\"l2\","
            "\"index\":{\"kind\":\"ivf\",\"quantization\":\"pq\",\"lists\":9,\"pq_bytes\":4}}}}");
    evolves(graph, "{\"vectors\":{\"v\":{\"dim\":8,\"index\":{\"quantization\":\"sq8\"}}}}",
            "{\"features\":{},\"strict\":false,\"vectors\":{\"v\":{\"dim\":8,\"metric\":\"l2\","
            "\"index\":{\"kind\":\"graph\",\"quantization\":\"sq8\",\"m\":16,\"ef\":50}}}}");
}

static void conflicts(const char *from, const char *asked_text, int code, const char *mentions)
{
    const struct cairn_schema *schema = with_identity(from), *asked = parsed(asked_text), *out;
    struct cairn_error err = {0};
    bool changed = true;
    assert_int_equal(cairn_schema_evolve(schema, asked, &out, &changed, &err), code);
    assert_non_null(strstr(err.message, mentions));
    assert_null(out);
    assert_false(changed);
    cairn_schema_unref(asked);
    cairn_schema_unref(schema);
}

static void incompatible_changes_conflict(void **state)
{
    (void)state;
    conflicts("{\"features\":{\"a\":{\"type\":\"int64\"}}}",
              "{\"features\":{\"a\":{\"type\":\"float64\"}}}", CAIRN_ECONFLICT, "features.a.type");
    conflicts("{\"vectors\":{\"v\":{\"dim\":3}}}", "{\"vectors\":{\"v\":{\"dim\":4}}}",
              CAIRN_ECONFLICT, "vectors.v.dim");
    conflicts("{\"vectors\":{\"v\":{\"dim\":3,\"metric\":\"l2\"}}}",
              "{\"vectors\":{\"v\":{\"dim\":3,\"metric\":\"cosine\"}}}", CAIRN_ECONFLICT,
              "vectors.v.metric");
    conflicts("{\"vectors\":{\"v\":{\"dim\":3,\"index\":{\"kind\":\"graph\"}}}}",
              "{\"vectors\":{\"v\":{\"dim\":3,\"index\":{\"nprobe\":4}}}}", CAIRN_ESCHEMA,
              "vectors.v.index.nprobe");
}

static void log_text_round_trips(void **state)
{
    (void)state;
    const struct cairn_schema *plain = parsed(full), *back;
    const struct cairn_schema *schema =
        cairn_schema_with_identity(plain, 4294967295u, 12, -5, true);
    cairn_schema_unref(plain);
    struct cairn_buf text = {0}, again = {0};
    cairn_schema_encode(schema, &text);
    struct cairn_error err = {0};
    struct cairn_str bytes = {text.data, (uint32_t)text.len};
    if (cairn_schema_decode(bytes, &back, &err) != 0)
        fail_msg("%s", err.message);
    assert_int_equal(back->id, 4294967295u);
    assert_int_equal(back->version, 12);
    assert_true(back->created_us == -5);
    assert_true(back->dropped);
    assert_true(cairn_str_eq(back->name, schema->name));
    assert_members(back, full_written);
    cairn_schema_encode(back, &again);
    assert_int_equal(again.len, text.len);
    assert_memory_equal(again.data, text.data, text.len);
    cairn_schema_unref(back);
    for (uint32_t len = 0; len < bytes.len; len++) {
        assert_int_equal(cairn_schema_decode((struct cairn_str){bytes.ptr, len}, &back, &err),
                         CAIRN_ECORRUPT);
        assert_null(back);
    }
    cairn_buf_release(&text);
    cairn_buf_release(&again);
    cairn_schema_unref(schema);
}

static void renamed_features_are_found(void **state)
{
    (void)state;
    const struct cairn_schema *schema, *asked, *out;
    bool changed;
    assert_int_equal(
        cairn_schema_decode(CAIRN_STR_LITERAL("{\"name\":\"u\",\"id\":1,\"version\":2,\"features\":"
                                              "{\"new\":{\"type\":\"bool\",\"stored_name\":\"old\"}"
                                              ",\"z\":{\"type\":\"bool\"}}}"),
                            &schema, NULL),
        0);
    const struct cairn_feature_def *def = cairn_schema_feature(schema, CAIRN_STR_LITERAL("new"));
    assert_ptr_equal(cairn_schema_stored_feature(schema, CAIRN_STR_LITERAL("old")), def);
    assert_null(cairn_schema_stored_feature(schema, CAIRN_STR_LITERAL("new")));
    assert_null(cairn_schema_feature(schema, CAIRN_STR_LITERAL("old")));
    asked = parsed("{\"features\":{\"old\":{\"type\":\"int64\"}}}");
    assert_int_equal(cairn_schema_evolve(schema, asked, &out, &changed, NULL), CAIRN_ECONFLICT);
    cairn_schema_unref(asked);
    asked = parsed("{\"features\":{\"x\":{\"type\":\"int64\"}}}");
    assert_int_equal(cairn_schema_evolve(schema, asked, &out, &changed, NULL), 0);
    assert_non_null(cairn_schema_stored_feature(out, CAIRN_STR_LITERAL("old")));
    cairn_schema_unref(out);
    cairn_schema_unref(asked);
    cairn_schema_unref(schema);
}

static void bad_log_text_is_corrupt(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "{}",
        "{\"name\":\"u\",\"id\":1}",
        "{\"name\":\"u\",\"id\":0,\"version\":1}",
        "{\"name\":\"u\",\"id\":4294967296,\"version\":1}",
        "{\"name\":\"u\",\"id\":1,\"version\":-1}",
        "{\"name\":\"u u\",\"id\":1,\"version\":1}",
        "{\"name\":\"u\",\"id\":1,\"version\":1,\"dropped\":0}",
        "{\"name\":\"u\",\"id\":1,\"version\":1,\"colour\":0}",
        "{\"name\":\"u\",\"id\":1,\"version\":1,\"features\":{\"a\":{}}}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const struct cairn_schema *out;
        struct cairn_error err = {0};
        assert_int_equal(cairn_schema_decode(cairn_str_from(texts[i]), &out, &err), CAIRN_ECORRUPT);
        assert_int_equal(err.code, CAIRN_ECORRUPT);
        assert_null(out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_schema_is_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_empty_schema_has_defaults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_are_checked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(faults_are_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(settings_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(counts_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(evolution_of_its_own_text_changes_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(evolution_adds_and_keeps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(index_settings_evolve, set_up, tear_down),
        cmocka_unit_test_setup_teardown(incompatible_changes_conflict, set_up, tear_down),
        cmocka_unit_test_setup_teardown(log_text_round_trips, set_up, tear_down),
        cmocka_unit_test_setup_teardown(renamed_features_are_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_log_text_is_corrupt, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
