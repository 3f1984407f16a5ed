#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/entity_json.h"
#include "api/fields.h"
#include "base/limits.h"
#include "router/router.h"
#include "tests/lib/fixtures.h"
#include "tests/lib/testing.h"

static struct cairn_json_parser *parser;
static struct cairn_arena arena;
static const struct cairn_schema *schema;

static int set_up(void **state)
{
    (void)state;
    parser = cairn_json_parser_new();
    schema = cairn_test_schema(
        "c", "{\"features\": {\"b\": {\"type\": \"bool\"}, \"i\": {\"type\": \"int64\"},"
             "\"f\": {\"type\": \"float64\"}, \"s\": {\"type\": \"string\"},"
             "\"y\": {\"type\": \"bytes\"}, \"t\": {\"type\": \"timestamp\"},"
             "\"j\": {\"type\": \"json\"}, \"li\": {\"type\": \"list<int64>\"},"
             "\"ls\": {\"type\": \"list<string>\"}, \"lt\": {\"type\": \"list<timestamp>\"},"
             "\"lj\": {\"type\": \"list<json>\"}},"
             "\"vectors\": {\"default\": {\"dim\": 3}}}");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cairn_json_parser_free(&parser);
    cairn_schema_unref(schema);
    cairn_arena_release(&arena);
    return 0;
}

static struct cairn_json parse(const char *text)
{
    struct cairn_json root;
    struct cairn_error err = {0};
    if (cairn_json_parse(parser, cairn_str_from(text), &root, &err) != 0)
        fail_msg("%s: %s", text, err.message);
    return root;
}

static struct cairn_entity read_ok(const char *text)
{
    struct cairn_entity entity;
    struct cairn_error err = {0};
    if (cairn_entity_read(parse(text), schema, CAIRN_OP_PATCH, &arena, &entity, &err) != 0)
        fail_msg("%s: %s", text, err.message);
    return entity;
}

static void refused(const char *text, int code, const char *starts)
{
    struct cairn_entity entity;
    struct cairn_error err = {0};
    int got = cairn_entity_read(parse(text), schema, CAIRN_OP_PATCH, &arena, &entity, &err);
    if (got == 0)
        got = cairn_entity_check(&entity, &err);
    if (got == 0)
        got = cairn_entity_validate(schema, &entity, &err);
    if (got != code || strncmp(err.message, starts, strlen(starts)) != 0)
        fail_msg("%s: %s (%s), wanted %s: %s", text, cairn_code_word(got), err.message,
                 cairn_code_word(code), starts);
    assert_int_equal(err.code, code);
}

static const struct cairn_value *feature(const struct cairn_entity *entity, const char *name)
{
    for (uint32_t i = 0; i < entity->features_count; i++)
        if (cairn_str_eq(entity->features[i].name, cairn_str_from(name)))
            return &entity->features[i].value;
    fail_msg("no feature %s", name);
    return NULL;
}

static void assert_bytes(const struct cairn_value *value, uint8_t type, const char *text)
{
    assert_int_equal(value->type, type);
    assert_int_equal(value->len, strlen(text));
    assert_memory_equal(value->as.bytes, text, value->len);
}

static void reads_every_field(void **state)
{
    (void)state;
    struct cairn_entity entity =
        read_ok("{\"key\": \"u1\", \"event_time\": \"2026-11-23T10:00:00Z\", \"route\": \"r\","
                "\"features\": {\"i\": 12}, \"vectors\": {\"default\": [0.5, -1, 2e3]},"
                "\"provenance\": {\"source\": \"a\", \"producer\": \"b@1\","
                "\"inputs\": [\"s0:1\", \"s1:2\"]}, \"if_offset\": 1041}");
    assert_true(cairn_str_eq(entity.key, CAIRN_STR_LITERAL("u1")));
    assert_true(cairn_str_eq(entity.route, CAIRN_STR_LITERAL("r")));
    assert_int_equal(entity.event_time_us, INT64_C(1795428000000000));
    assert_int_equal(entity.op, CAIRN_OP_PATCH);
    assert_int_equal(entity.vectors_count, 1);
    assert_int_equal(entity.vectors[0].dim, 3);
    assert_float_equal(entity.vectors[0].f32[2], 2000, 0);
    assert_true(cairn_str_eq(entity.provenance.source, CAIRN_STR_LITERAL("a")));
    assert_int_equal(entity.provenance.inputs_count, 2);
    assert_true(cairn_str_eq(entity.provenance.inputs[1], CAIRN_STR_LITERAL("s1:2")));
    assert_int_equal(entity.if_offset, 1041);
}

static void a_bare_key_is_an_entity(void **state)
{
    (void)state;
    struct cairn_entity entity = read_ok("{\"key\": \"k\", \"route\": \"k\", \"features\": null}");
    assert_int_equal(entity.event_time_us, CAIRN_TIME_NONE);
    assert_true(entity.if_offset == CAIRN_OFFSET_NONE);
    assert_int_equal(entity.route.len, 0); /* a route that is the key is none */
    assert_int_equal(entity.features_count, 0);
    assert_int_equal(entity.vectors_count, 0);
    assert_int_equal(entity.provenance.inputs_count, 0);
}

static void keys(void **state)
{
    (void)state;
    assert_true(cairn_str_eq(read_ok("{\"key\": 42}").key, CAIRN_STR_LITERAL("42")));
    assert_true(cairn_str_eq(read_ok("{\"key\": -7}").key, CAIRN_STR_LITERAL("-7")));
    assert_true(cairn_str_eq(read_ok("{\"key\": 18446744073709551615}").key,
                             CAIRN_STR_LITERAL("18446744073709551615")));
    assert_true(
        cairn_str_eq(read_ok("{\"key\": \"k\", \"route\": 7}").route, CAIRN_STR_LITERAL("7")));
    refused("{}", CAIRN_EKEY, "key: ");
    refused("{\"key\": null}", CAIRN_EKEY, "key: ");
    refused("{\"key\": \"\"}", CAIRN_EKEY, "key: ");
    refused("{\"key\": 1.0}", CAIRN_EKEY, "key: ");
    refused("{\"key\": true}", CAIRN_EKEY, "key: ");
    refused("{\"key\": [\"a\"]}", CAIRN_EKEY, "key: ");
    refused("{\"key\": \"k\", \"route\": \"\"}", CAIRN_EKEY, "route: ");

    char text[CAIRN_KEY_BYTES_MAX + 64];
    for (unsigned extra = 0; extra <= 1; extra++) {
        char key[CAIRN_KEY_BYTES_MAX + 2] = {0};
        memset(key, 'k', CAIRN_KEY_BYTES_MAX + extra);
        snprintf(text, sizeof text, "{\"key\": \"%s\"}", key);
        if (extra == 0)
            assert_int_equal(read_ok(text).key.len, CAIRN_KEY_BYTES_MAX);
        else
            refused(text, CAIRN_EKEY, "key: 513 bytes");
    }
}

static void declared_features_take_their_type(void **state)
{
    (void)state;
    struct cairn_entity entity = read_ok(
        "{\"key\": \"k\", \"features\": {\"b\": true, \"i\": -9223372036854775808, \"f\": 3,"
        "\"s\": \"\\u00e9\", \"y\": \"AAEC\", \"t\": 1500, \"j\": {\"a\": [1, {}]},"
        "\"li\": [], \"ls\": [\"x\", \"\"], \"lt\": [0, \"1970-01-01T00:00:01Z\"],"
        "\"lj\": [null, [1, 2]]}}");
    assert_true(feature(&entity, "b")->as.boolean);
    assert_true(feature(&entity, "i")->as.i64 == INT64_MIN);
    assert_int_equal(feature(&entity, "f")->type, CAIRN_TYPE_FLOAT64);
    assert_true(feature(&entity, "f")->as.f64 == 3.0);
    assert_bytes(feature(&entity, "s"), CAIRN_TYPE_STRING, "\xc3\xa9");
    assert_int_equal(feature(&entity, "y")->type, CAIRN_TYPE_BYTES);
    assert_int_equal(feature(&entity, "y")->len, 3);
    assert_memory_equal(feature(&entity, "y")->as.bytes, "\0\1\2", 3);
    assert_int_equal(feature(&entity, "t")->type, CAIRN_TYPE_TIMESTAMP);
    assert_int_equal(feature(&entity, "t")->as.i64, 1500000);
    assert_bytes(feature(&entity, "j"), CAIRN_TYPE_JSON, "{\"a\":[1,{}]}");
    assert_int_equal(feature(&entity, "li")->type, CAIRN_TYPE_LIST | CAIRN_TYPE_INT64);
    assert_int_equal(cairn_list_count(feature(&entity, "li")), 0);

    struct cairn_value element;
    uint32_t at = 0;
    assert_true(cairn_list_next(feature(&entity, "ls"), &at, &element));
    assert_bytes(&element, CAIRN_TYPE_STRING, "x");
    assert_true(cairn_list_next(feature(&entity, "ls"), &at, &element));
    assert_int_equal(element.len, 0);
    assert_false(cairn_list_next(feature(&entity, "ls"), &at, &element));
    at = 0;
    cairn_list_next(feature(&entity, "lt"), &at, &element);
    cairn_list_next(feature(&entity, "lt"), &at, &element);
    assert_int_equal(element.as.i64, 1000000);
    at = 0;
    assert_true(cairn_list_next(feature(&entity, "lj"), &at, &element));
    assert_bytes(&element, CAIRN_TYPE_JSON, "null");
    assert_true(cairn_list_next(feature(&entity, "lj"), &at, &element));
    assert_bytes(&element, CAIRN_TYPE_JSON, "[1,2]");
    assert_int_equal(cairn_entity_check(&entity, NULL), 0);
    assert_int_equal(cairn_entity_validate(schema, &entity, NULL), 0);
}

static void null_fits_every_type(void **state)
{
    (void)state;
    struct cairn_entity entity =
        read_ok("{\"key\": \"k\", \"features\": {\"i\": null, \"ls\": null, \"new\": null}}");
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(entity.features[i].value.type, CAIRN_TYPE_NULL);
    assert_int_equal(cairn_entity_validate(schema, &entity, NULL), 0);
}

static void undeclared_features_keep_the_type_they_arrive_in(void **state)
{
    static const struct {
        const char *json;
        int type;
    } cases[] = {
        {"true", CAIRN_TYPE_BOOL},
        {"3", CAIRN_TYPE_INT64},
        {"3.0", CAIRN_TYPE_FLOAT64},
        {"1e3", CAIRN_TYPE_FLOAT64},
        {"\"x\"", CAIRN_TYPE_STRING},
        {"null", CAIRN_TYPE_NULL},
        {"{}", CAIRN_TYPE_JSON},
        {"[]", CAIRN_TYPE_JSON},
        {"[true, false]", CAIRN_TYPE_LIST | CAIRN_TYPE_BOOL},
        {"[1, 2]", CAIRN_TYPE_LIST | CAIRN_TYPE_INT64},
        {"[1, 2.5]", CAIRN_TYPE_LIST | CAIRN_TYPE_FLOAT64},
        {"[2.5, 1]", CAIRN_TYPE_LIST | CAIRN_TYPE_FLOAT64},
        {"[\"a\"]", CAIRN_TYPE_LIST | CAIRN_TYPE_STRING},
        {"[1, \"a\"]", CAIRN_TYPE_JSON},
        {"[1, null]", CAIRN_TYPE_JSON},
        {"[[1], [2]]", CAIRN_TYPE_JSON},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[128];
        snprintf(text, sizeof text, "{\"key\": \"k\", \"features\": {\"new\": %s}}", cases[i].json);
        struct cairn_entity entity = read_ok(text);
        if (feature(&entity, "new")->type != cases[i].type)
            fail_msg("%s became %s", cases[i].json, cairn_type_name(entity.features[0].value.type));
        assert_int_equal(cairn_entity_check(&entity, NULL), 0);
    }
}

static void wrong_values_name_the_feature(void **state)
{
    static const struct {
        const char *features;
        int code;
        const char *starts;
    } cases[] = {
        {"{\"b\": 1}", CAIRN_ETYPE, "features.b: "},
        {"{\"i\": 1.0}", CAIRN_ETYPE, "features.i: "},
        {"{\"i\": \"1\"}", CAIRN_ETYPE, "features.i: "},
        {"{\"i\": 9223372036854775808}", CAIRN_ENUMBER, "features.i: "},
        {"{\"new\": 9223372036854775808}", CAIRN_ENUMBER, "features.new: "},
        {"{\"f\": \"x\"}", CAIRN_ETYPE, "features.f: "},
        {"{\"s\": 1}", CAIRN_ETYPE, "features.s: "},
        {"{\"y\": \"A\"}", CAIRN_ETYPE, "features.y: "},
        {"{\"y\": [1]}", CAIRN_ETYPE, "features.y: "},
        {"{\"t\": 1.5}", CAIRN_ETIME, "features.t: "},
        {"{\"t\": \"yesterday\"}", CAIRN_ETIME, "features.t: "},
        {"{\"li\": 1}", CAIRN_ETYPE, "features.li: "},
        {"{\"li\": [1, \"a\"]}", CAIRN_ETYPE, "features.li: element 1: "},
        {"{\"li\": [null]}", CAIRN_ETYPE, "features.li: element 0: "},
        {"{\"ls\": [1]}", CAIRN_ETYPE, "features.ls: element 0: "},
        {"{\"i\": 1, \"i\": 2}", CAIRN_EFIELD, "features: "},
        {"{\"a b\": 1}", CAIRN_ENAME, "features"},
        {"[1]", CAIRN_ETYPE, "features: "},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[160];
        snprintf(text, sizeof text, "{\"key\": \"k\", \"features\": %s}", cases[i].features);
        refused(text, cases[i].code, cases[i].starts);
    }
}

static void vectors(void **state)
{
    (void)state;
    /* 1.0, 2.0, -0.5 as little-endian float32 */
    struct cairn_entity entity =
        read_ok("{\"key\": \"k\", \"vectors\": {\"default\": {\"f32\": \"AACAPwAAAEAAAAC/\"}}}");
    assert_int_equal(entity.vectors[0].dim, 3);
    assert_float_equal(entity.vectors[0].f32[0], 1, 0);
    assert_float_equal(entity.vectors[0].f32[2], -0.5, 0);
    assert_int_equal((uintptr_t)entity.vectors[0].f32 % 4, 0);
    entity = read_ok("{\"key\": \"k\", \"vectors\": {\"default\": null}}");
    assert_int_equal(entity.vectors_count, 1);
    assert_null(entity.vectors[0].f32);

    static const struct {
        const char *vectors;
        int code;
        const char *starts;
    } cases[] = {
        {"{\"default\": []}", CAIRN_EDIMENSION, "vectors.default: "},
        {"{\"default\": [1, 2]}", CAIRN_EDIMENSION, "vectors.default: "},
        {"{\"default\": [1, \"2\", 3]}", CAIRN_ETYPE, "vectors.default: component 1 "},
        {"{\"default\": [1, null, 3]}", CAIRN_ETYPE, "vectors.default: component 1 "},
        {"{\"default\": [1, 2, 1e39]}", CAIRN_ENUMBER, "vectors.default: component 2 "},
        {"{\"default\": \"x\"}", CAIRN_ETYPE, "vectors.default: "},
        {"{\"default\": {\"f32\": \"AACAPw\"}}", CAIRN_EFIELD, "vectors.default.f32: "},
        {"{\"default\": {\"f32\": \"AACA\"}}", CAIRN_EDIMENSION, "vectors.default.f32: "},
        {"{\"default\": {\"f32\": \"\"}}", CAIRN_EDIMENSION, "vectors.default: "},
        {"{\"default\": {\"f32\": \"AACAf///////////\"}}", CAIRN_ENUMBER, "vectors.default: "},
        {"{\"default\": {\"f32\": 1}}", CAIRN_ETYPE, "vectors.default.f32: "},
        {"{\"default\": {}}", CAIRN_ETYPE, "vectors.default.f32: "},
        {"{\"default\": {\"f64\": \"\"}}", CAIRN_EFIELD, "vectors.default.f64: "},
        {"{\"other\": [1, 2, 3]}", CAIRN_EFIELD, "vectors.other: "},
        {"{\"default\": null, \"default\": null}", CAIRN_EFIELD, "vectors: "},
        {"3", CAIRN_ETYPE, "vectors: "},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[160];
        snprintf(text, sizeof text, "{\"key\": \"k\", \"vectors\": %s}", cases[i].vectors);
        refused(text, cases[i].code, cases[i].starts);
    }
}

/* The largest dimension is read, one more is refused, as text and as base64. */
static void dimension_limit(void **state)
{
    (void)state;
    struct cairn_error err = {0};
    for (uint32_t dim = CAIRN_DIM_MAX; dim <= CAIRN_DIM_MAX + 1; dim++) {
        struct cairn_buf text = {0};
        const float *f32;
        uint32_t got;
        cairn_buf_append(&text, "[0", 2);
        for (uint32_t i = 1; i < dim; i++)
            cairn_buf_append(&text, ",0", 2);
        cairn_buf_append(&text, "]", 2);
        int code = cairn_vector_read(parse(text.data), &arena, &f32, &got, &err);
        assert_int_equal(code, dim == CAIRN_DIM_MAX ? 0 : CAIRN_EDIMENSION);
        cairn_buf_clear(&text);

        struct cairn_json_writer writer;
        float *zeroes = cairn_calloc(dim, sizeof *zeroes);
        cairn_json_writer_init(&writer, &text);
        cairn_json_begin_object(&writer);
        cairn_json_key(&writer, "f32");
        cairn_json_write_base64(&writer, zeroes, dim * sizeof *zeroes);
        cairn_json_end_object(&writer);
        cairn_buf_append(&text, "", 1);
        code = cairn_vector_read(parse(text.data), &arena, &f32, &got, &err);
        assert_int_equal(code, dim == CAIRN_DIM_MAX ? 0 : CAIRN_EDIMENSION);
        free(zeroes);
        cairn_buf_release(&text);
    }
}

static void other_fields(void **state)
{
    (void)state;
    refused("[]", CAIRN_ETYPE, "must be a JSON object");
    refused("{\"key\": \"k\", \"feature\": {}}", CAIRN_EFIELD, "feature: unknown field");
    refused("{\"key\": \"k\", \"unknown\": null}", CAIRN_EFIELD, "unknown: unknown field");
    refused("{\"key\": \"k\", \"key\": \"k\"}", CAIRN_EFIELD, "key: given twice");
    refused("{\"key\": \"k\", \"event_time\": \"2026-13-01T00:00:00Z\"}", CAIRN_ETIME,
            "event_time: ");
    refused("{\"key\": \"k\", \"event_time\": 253402300800000}", CAIRN_ETIME, "event_time: ");
    refused("{\"key\": \"k\", \"event_time\": true}", CAIRN_ETIME, "event_time: ");
    refused("{\"key\": \"k\", \"if_offset\": -1}", CAIRN_EFIELD, "if_offset: ");
    static const char *const no_positions[] = {
        "1", "s0", ":5", "s0:", "s0:0", "s0:-1", "s256:1", "x0:1", "s0:281474976710656"};
    for (size_t i = 0; i < sizeof no_positions / sizeof *no_positions; i++) {
        char body[128];
        (void)snprintf(body, sizeof body, "{\"key\": \"k\", \"if_offset\": \"%s\"}",
                       no_positions[i]);
        refused(body, CAIRN_EFIELD, "if_offset: ");
    }
    refused("{\"key\": \"k\", \"if_offset\": 281474976710656}", CAIRN_EFIELD, "if_offset: ");
    refused("{\"key\": \"k\", \"provenance\": 1}", CAIRN_ETYPE, "provenance: ");
    refused("{\"key\": \"k\", \"provenance\": {\"who\": \"me\"}}", CAIRN_EFIELD,
            "provenance.who: unknown field");
    refused("{\"key\": \"k\", \"provenance\": {\"source\": 1}}", CAIRN_ETYPE, "provenance.source");
    refused("{\"key\": \"k\", \"provenance\": {\"inputs\": \"s0:1\"}}", CAIRN_ETYPE,
            "provenance.inputs: ");
    refused("{\"key\": \"k\", \"provenance\": {\"inputs\": [1]}}", CAIRN_ETYPE,
            "provenance.inputs[0]: ");
    assert_int_equal(read_ok("{\"key\": \"k\", \"if_offset\": 0}").if_offset, 0);
    assert_true(read_ok("{\"key\": \"k\", \"if_offset\": \"s255:281474976710655\"}").if_offset ==
                cairn_if_offset_on(255, 281474976710655));
    assert_true(read_ok("{\"key\": \"k\", \"if_offset\": 281474976710655}").if_offset ==
                281474976710655);
}

static void error_paths_join(void **state)
{
    (void)state;
    struct cairn_error err;
    cairn_fail(&err, CAIRN_ETYPE, "features.x: wrong");
    assert_int_equal(cairn_error_path(&err, "entities[%u]", 3u), CAIRN_ETYPE);
    assert_string_equal(err.message, "entities[3].features.x: wrong");
    cairn_fail(&err, CAIRN_ETYPE, "must be an object");
    cairn_error_path(&err, "entities[%u]", 0u);
    assert_string_equal(err.message, "entities[0]: must be an object");
    struct cairn_str shown = cairn_shown(cairn_str_from(
        "0123456789012345678901234567890123456789012345678901234567890\xe2\x82\xac\xe2\x82\xac"));
    assert_int_equal(shown.len, 64); /* the second euro sign is left out whole */
}

static void names_and_keys_have_limits(void **state)
{
    (void)state;
    struct cairn_error err = {0};
    struct cairn_str *out;
    uint32_t count;
    for (uint32_t keys = CAIRN_KEYS_MAX; keys <= CAIRN_KEYS_MAX + 1; keys++) {
        struct cairn_buf text = {0};
        cairn_buf_append(&text, "[1", 2);
        for (uint32_t i = 1; i < keys; i++)
            cairn_buf_append(&text, ",1", 2);
        cairn_buf_append(&text, "]", 2);
        int code = cairn_keys_read(parse(text.data), "keys", &arena, &out, &count, &err);
        assert_int_equal(code, keys == CAIRN_KEYS_MAX ? 0 : CAIRN_EFIELD);
        if (code == 0)
            assert_int_equal(count, keys);
        cairn_buf_release(&text);
    }
    assert_int_equal(cairn_keys_read(parse("[]"), "keys", &arena, &out, &count, &err),
                     CAIRN_EFIELD);
    assert_int_equal(cairn_keys_read(parse("[1, {}]"), "keys", &arena, &out, &count, &err),
                     CAIRN_EKEY);
    assert_memory_equal(err.message, "keys[1]: ", 9);
    assert_int_equal(cairn_names_read(parse("[\"a\", \"b\"]"), "n", 2, &arena, &out, &count, &err),
                     0);
    assert_int_equal(cairn_names_read(parse("[\"a\", \"b\"]"), "n", 1, &arena, &out, &count, &err),
                     CAIRN_EFIELD);
    assert_int_equal(cairn_names_read(parse("[\"a\", \"a\"]"), "n", 9, &arena, &out, &count, &err),
                     CAIRN_EFIELD);
    assert_int_equal(cairn_names_read(parse("[1]"), "n", 9, &arena, &out, &count, &err),
                     CAIRN_ETYPE);
}

/* Repeats are found among few names and among many, which takes another way. */
static void repeated_names_are_found(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    for (uint32_t count = 2; count < 100; count += 7) {
        struct cairn_str names[100];
        char texts[100][8];
        for (uint32_t i = 0; i < count; i++) {
            snprintf(texts[i], sizeof texts[i], "n%u", (i * 37 + 11) % 100);
            names[i] = cairn_str_from(texts[i]);
        }
        assert_null(cairn_names_repeated(names, count, &arena));
        uint32_t a = (uint32_t)cairn_test_random_below(&random, count);
        uint32_t b = (a + 1 + (uint32_t)cairn_test_random_below(&random, count - 1)) % count;
        names[a] = names[b];
        const struct cairn_str *twice = cairn_names_repeated(names, count, &arena);
        assert_non_null(twice);
        assert_true(cairn_str_eq(*twice, names[a]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_field),
        cmocka_unit_test(a_bare_key_is_an_entity),
        cmocka_unit_test(keys),
        cmocka_unit_test(declared_features_take_their_type),
        cmocka_unit_test(null_fits_every_type),
        cmocka_unit_test(undeclared_features_keep_the_type_they_arrive_in),
        cmocka_unit_test(wrong_values_name_the_feature),
        cmocka_unit_test(vectors),
        cmocka_unit_test(dimension_limit),
        cmocka_unit_test(other_fields),
        cmocka_unit_test(error_paths_join),
        cmocka_unit_test(names_and_keys_have_limits),
        cmocka_unit_test(repeated_names_are_found),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
