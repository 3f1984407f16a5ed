#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "api/fields.h"
#include "api/row_json.h"
#include "tests/lib/fixtures.h"

#define SECOND INT64_C(1000000)

static struct cairn_encoder *encoder;
static struct cairn_json_parser *parser;
static struct cairn_arena arena;
static const struct cairn_schema *schema, *strict;
static int64_t now_us;

static int set_up(void **state)
{
    (void)state;
    encoder = cairn_encoder_new();
    parser = cairn_json_parser_new();
    schema = cairn_test_schema("c", "{\"features\": {\"age\": {\"type\": \"int64\"},"
                                    "\"clicks\": {\"type\": \"int64\", \"ttl\": \"24h\"},"
                                    "\"name\": {\"type\": \"string\"},"
                                    "\"seen\": {\"type\": \"timestamp\"}},"
                                    "\"vectors\": {\"v\": {\"dim\": 2}, \"w\": {\"dim\": 3}}}");
    strict = cairn_test_schema("c", "{\"features\": {\"age\": {\"type\": \"int64\"}},"
                                    "\"strict\": true}");
    now_us = cairn_time_now_us();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cairn_encoder_free(&encoder);
    cairn_json_parser_free(&parser);
    cairn_schema_unref(schema);
    cairn_schema_unref(strict);
    cairn_arena_release(&arena);
    return 0;
}

static struct cairn_row_cell cell(const char *name, struct cairn_value value, int64_t age_us)
{
    return (struct cairn_row_cell){
        cairn_str_from(name), value, {now_us - age_us, now_us - age_us + 5, 17}};
}

static struct cairn_value string_value(const char *text)
{
    return (struct cairn_value){
        CAIRN_TYPE_STRING, (uint32_t)strlen(text), {.bytes = (const uint8_t *)text}};
}

static struct cairn_row_ref row_of(const struct cairn_row_cell *cells, uint32_t count)
{
    struct cairn_row row = {.cells = cells,
                            .cells_count = count,
                            .newest = {now_us, now_us, 20},
                            .provenance = {.source = CAIRN_STR_LITERAL("src")}};
    struct cairn_str bytes = cairn_row_encode(encoder, &row);
    char *kept = cairn_arena_alloc(&arena, bytes.len);
    memcpy(kept, bytes.ptr, bytes.len);
    struct cairn_row_ref ref = {.found = true, .shard = 3, .key = CAIRN_STR_LITERAL("k")};
    cairn_row_view_init(&ref.view, (struct cairn_str){kept, bytes.len});
    return ref;
}

/* What the row looks like under a projection given as JSON, as the members of an object. */
static char *shown(const struct cairn_schema *of, const char *projection,
                   const struct cairn_row_ref *row)
{
    static const struct cairn_str names[] = {CAIRN_FIELD("features"), CAIRN_FIELD("vectors"),
                                             CAIRN_FIELD("meta")};
    struct cairn_json root, values[3];
    struct cairn_projection asked;
    struct cairn_row_plan plan;
    struct cairn_error err = {0};
    struct cairn_buf out = {0};
    struct cairn_json_writer writer;
    assert_int_equal(cairn_json_parse(parser, cairn_str_from(projection), &root, &err), 0);
    assert_int_equal(cairn_fields_read(root, names, 3, values, &err), 0);
    struct cairn_projection_json json = {values[0], values[1], values[2]};
    int code = cairn_projection_read(&json, of, &arena, &asked, &err);
    if (code == 0)
        code = cairn_row_plan_init(&plan, NULL, of, &asked, &arena, &err);
    if (code != 0) {
        cairn_buf_printf(&out, "%s %s", cairn_code_word(code), err.message);
    } else {
        cairn_json_writer_init(&writer, &out);
        cairn_json_begin_object(&writer);
        assert_int_equal(cairn_row_write(&plan, row, &writer, &err), 0);
        cairn_json_end_object(&writer);
    }
    char *text = cairn_arena_zalloc(&arena, out.len + 1);
    memcpy(text, out.data, out.len);
    cairn_buf_release(&out);
    return text;
}

static const struct cairn_value one = {CAIRN_TYPE_INT64, 0, {.i64 = 1}};
static const struct cairn_value null_value = {CAIRN_TYPE_NULL, 0, {.i64 = 0}};

static void shows_what_is_asked(void **state)
{
    (void)state;
    struct cairn_row_cell cells[] = {cell("age", null_value, 0), cell("clicks", one, SECOND),
                                     cell("extra", string_value("a\"b"), 0),
                                     cell("v", (struct cairn_value){CAIRN_TYPE_VECTOR, 2, {0}}, 0)};
    struct cairn_row_ref row = row_of(cells, 4);
    assert_string_equal(shown(schema, "{}", &row), "{}");
    assert_string_equal(shown(schema, "{\"features\": []}", &row), "{\"features\":{}}");
    assert_string_equal(shown(schema, "{\"features\": \"*\"}", &row),
                        "{\"features\":{\"age\":null,\"clicks\":1,\"extra\":\"a\\\"b\"}}");
    assert_string_equal(shown(schema, "{\"features\": [\"extra\", \"age\", \"nope\"]}", &row),
                        "{\"features\":{\"extra\":\"a\\\"b\",\"age\":null}}");
    row.found = false;
    assert_string_equal(shown(schema, "{\"features\": \"*\"}", &row), "{\"features\":{}}");
}

static void expired_and_missing_are_left_out(void **state)
{
    (void)state;
    struct cairn_row_cell cells[] = {cell("age", one, 25 * 3600 * SECOND),
                                     cell("clicks", one, 25 * 3600 * SECOND)};
    struct cairn_row_ref row = row_of(cells, 2);
    assert_string_equal(shown(schema, "{\"features\": \"*\"}", &row), "{\"features\":{\"age\":1}}");
    char *text = shown(schema, "{\"features\": [\"clicks\", \"name\"], \"meta\": \"times\"}", &row);
    struct cairn_json root, meta, entry, value;
    struct cairn_str word;
    struct cairn_error err = {0};
    assert_int_equal(cairn_json_parse(parser, cairn_str_from(text), &root, &err), 0);
    assert_true(cairn_json_get(root, "meta", &meta));
    assert_true(cairn_json_get(meta, "clicks", &entry));
    assert_true(cairn_json_get(entry, "status", &value));
    cairn_json_str(value, &word);
    assert_true(cairn_str_eq(word, CAIRN_STR_LITERAL("expired")));
    assert_true(cairn_json_get(entry, "event_time", &value));
    assert_true(cairn_json_get(meta, "name", &entry));
    assert_true(cairn_json_get(entry, "status", &value));
    cairn_json_str(value, &word);
    assert_true(cairn_str_eq(word, CAIRN_STR_LITERAL("missing")));
    assert_false(cairn_json_get(entry, "event_time", &value));
}

static void ttl_at_its_bound(void **state)
{
    (void)state;
    struct cairn_row_cell at = cell("clicks", one, 0);
    int64_t ttl_us = 10 * SECOND, then = at.stamp.event_time_us;
    assert_int_equal(cairn_cell_status(&at, ttl_us, then + ttl_us - 1), CAIRN_CELL_PRESENT);
    assert_int_equal(cairn_cell_status(&at, ttl_us, then + ttl_us), CAIRN_CELL_EXPIRED);
    assert_int_equal(cairn_cell_status(&at, 0, CAIRN_TIME_MAX), CAIRN_CELL_PRESENT);
    assert_int_equal(cairn_cell_status(&at, ttl_us, then - SECOND), CAIRN_CELL_PRESENT);
    at.value = null_value;
    assert_int_equal(cairn_cell_status(&at, ttl_us, then), CAIRN_CELL_NULL);
    assert_int_equal(cairn_cell_status(&at, ttl_us, then + ttl_us), CAIRN_CELL_EXPIRED);
}

static void meta_covers_declared_and_found(void **state)
{
    (void)state;
    struct cairn_row_cell cells[] = {cell("age", null_value, 0), cell("extra", one, 0)};
    struct cairn_row_ref row = row_of(cells, 2);
    char *text = shown(schema, "{\"features\": \"*\", \"meta\": \"full\"}", &row);
    char want[512], event[CAIRN_TIME_TEXT_BYTES], ingest[CAIRN_TIME_TEXT_BYTES];
    cairn_time_format(now_us, event);
    cairn_time_format(now_us + 5, ingest);
    snprintf(want, sizeof want,
             "\"meta\":{\"age\":{\"status\":\"null\",\"event_time\":\"%s\",\"ingest_time\":\"%s\","
             "\"shard\":\"s3\",\"offset\":17},\"clicks\":{\"status\":\"missing\"},"
             "\"name\":{\"status\":\"missing\"},\"seen\":{\"status\":\"missing\"},"
             "\"extra\":{\"status\":\"present\",",
             event, ingest);
    if (strstr(text, want) == NULL)
        fail_msg("%s\nhas no %s", text, want);
    row.found = false;
    assert_string_equal(shown(schema, "{\"features\": [\"age\"], \"meta\": \"full\"}", &row),
                        "{\"features\":{},\"meta\":{\"age\":{\"status\":\"missing\"}}}");
}

static void bad_projections_are_refused(void **state)
{
    static const struct {
        const char *projection, *starts;
    } cases[] = {
        {"{\"features\": [\"nope\"]}", "unknown_feature features[0]: "},
        {"{\"features\": [\"age\", \"age\"]}", "invalid_field features: "},
        {"{\"features\": \"age\"}", "invalid_type features: "},
        {"{\"features\": [1]}", "invalid_type features[0]: "},
        {"{\"vectors\": [\"v\"]}", "vector_not_found vectors[0]: "},
        {"{\"vectors\": true}", "invalid_type vectors: "},
        {"{\"meta\": \"all\"}", "invalid_field meta: "},
        {"{\"meta\": 1}", "invalid_field meta: "},
    };
    (void)state;
    struct cairn_row_ref row = {.found = false};
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = shown(strict, cases[i].projection, &row);
        if (strncmp(text, cases[i].starts, strlen(cases[i].starts)) != 0)
            fail_msg("%s: %s", cases[i].projection, text);
    }
}

/* Each type's value reads back from what it is written as. */
static void values_round_trip(void **state)
{
    static const struct {
        const char *type, *json;
    } cases[] = {
        {"bool", "true"},
        {"int64", "-9223372036854775808"},
        {"float64", "0.1"},
        {"float64", "1e-320"},
        {"string", "\"\\u0000 \\\" \\\\ \xf0\x9f\x98\x80\""},
        {"bytes", "\"AAEC/w==\""},
        {"timestamp", "\"2026-11-23T10:00:00.000001Z\""},
        {"json", "{\"b\":[1,2.5,null],\"a\":{}}"},
        {"list<bool>", "[true,false]"},
        {"list<int64>", "[]"},
        {"list<float64>", "[0.1,-3.5]"},
        {"list<string>", "[\"a\",\"\"]"},
        {"list<bytes>", "[\"AA==\",\"\"]"},
        {"list<timestamp>", "[\"1970-01-01T00:00:00.000000Z\"]"},
        {"list<json>", "[null,{\"a\":1},[2]]"},
        {"int64", "null"},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t type = cairn_type_parse(cairn_str_from(cases[i].type));
        struct cairn_error err = {0};
        struct cairn_buf out = {0};
        struct cairn_json json;
        struct cairn_value value, again;
        struct cairn_json_writer writer;
        assert_int_equal(cairn_json_parse(parser, cairn_str_from(cases[i].json), &json, &err), 0);
        assert_int_equal(cairn_value_read(json, type, &arena, &value, &err), 0);
        struct cairn_value kept = value;
        if (value.len > 0)
            kept.as.bytes = (const uint8_t *)cairn_arena_dup(
                                &arena, (struct cairn_str){(const char *)value.as.bytes, value.len})
                                .ptr;
        cairn_json_writer_init(&writer, &out);
        cairn_value_write(&kept, &writer);
        struct cairn_str text = {out.data, (uint32_t)out.len};
        assert_int_equal(cairn_json_parse(parser, text, &json, &err), 0);
        assert_int_equal(cairn_value_read(json, type, &arena, &again, &err), 0);
        if (!cairn_value_eq(&kept, &again))
            fail_msg("%s %s became %.*s", cases[i].type, cases[i].json, CAIRN_STR_ARG(text));
        cairn_buf_release(&out);
    }
}

static void provenance_names_the_record(void **state)
{
    (void)state;
    struct cairn_row_cell cells[] = {cell("age", one, 0)};
    struct cairn_row_ref row = row_of(cells, 1);
    struct cairn_buf out = {0};
    struct cairn_json_writer writer;
    cairn_json_writer_init(&writer, &out);
    cairn_json_begin_object(&writer);
    cairn_provenance_write(&row, 1042, &arena, &writer);
    cairn_json_end_object(&writer);
    cairn_buf_append(&out, "", 1);
    assert_string_equal(out.data, "{\"provenance\":{\"position\":\"s3:1042\",\"source\":\"src\"}}");
    cairn_buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_what_is_asked),
        cmocka_unit_test(expired_and_missing_are_left_out),
        cmocka_unit_test(ttl_at_its_bound),
        cmocka_unit_test(meta_covers_declared_and_found),
        cmocka_unit_test(bad_projections_are_refused),
        cmocka_unit_test(values_round_trip),
        cmocka_unit_test(provenance_names_the_record),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
