#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/filter.h"
#include "base/limits.h"
#include "tests/lib/testing.h"

static struct cairn_json_parser *parser;
static struct cairn_encoder *encoder;
static struct cairn_arena arena;
static const struct cairn_schema *schema, *strict_schema;

static const char schema_text[] =
    "{\"features\":{\"country\":{\"type\":\"string\"},\"clicks\":{\"type\":\"int64\"},"
    "\"price\":{\"type\":\"float64\"},\"vip\":{\"type\":\"bool\"},"
    "\"seen\":{\"type\":\"timestamp\"},\"blob\":{\"type\":\"bytes\"},"
    "\"doc\":{\"type\":\"json\"},\"tags\":{\"type\":\"list<string>\"},"
    "\"scores\":{\"type\":\"list<int64>\"},\"fresh\":{\"type\":\"int64\",\"ttl\":\"10s\"}}";

static const struct cairn_schema *schema_of(const char *tail)
{
    char text[1024];
    struct cairn_json root;
    const struct cairn_schema *out;
    snprintf(text, sizeof(text), "%s%s", schema_text, tail);
    assert_int_equal(cairn_json_parse(parser, cairn_str_from(text), &root, NULL), 0);
    assert_int_equal(cairn_schema_parse(CAIRN_STR_LITERAL("c"), root, &out, NULL), 0);
    return out;
}

static int set_up(void **state)
{
    (void)state;
    parser = cairn_json_parser_new();
    encoder = cairn_encoder_new();
    schema = schema_of("}");
    strict_schema = schema_of(",\"strict\":true}");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cairn_schema_unref(schema);
    cairn_schema_unref(strict_schema);
    cairn_json_parser_free(&parser);
    cairn_encoder_free(&encoder);
    cairn_arena_release(&arena);
    return 0;
}

enum { NOW_US = 100000000 };

static struct cairn_value text_value(uint8_t type, const char *text, uint32_t len)
{
    return (struct cairn_value){.type = type, .len = len, .as.bytes = (const uint8_t *)text};
}

/* A row with one value of each kind; `absent` and `other` are not in it, `gone` is null. */
static struct cairn_row_view sample_row(void)
{
    static const char tags[] = "\x01\0\0\0a\x02\0\0\0bb";
    static const int64_t scores[] = {5, 50};
    static struct cairn_row_cell cells[] = {
        {.name = CAIRN_STR_LITERAL("blob")},    {.name = CAIRN_STR_LITERAL("clicks")},
        {.name = CAIRN_STR_LITERAL("country")}, {.name = CAIRN_STR_LITERAL("doc")},
        {.name = CAIRN_STR_LITERAL("empty")},   {.name = CAIRN_STR_LITERAL("fresh")},
        {.name = CAIRN_STR_LITERAL("gone")},    {.name = CAIRN_STR_LITERAL("loose")},
        {.name = CAIRN_STR_LITERAL("price")},   {.name = CAIRN_STR_LITERAL("scores")},
        {.name = CAIRN_STR_LITERAL("seen")},    {.name = CAIRN_STR_LITERAL("tags")},
        {.name = CAIRN_STR_LITERAL("vip")},
    };
    enum { COUNT = sizeof(cells) / sizeof(cells[0]) };
    struct cairn_value values[COUNT] = {
        text_value(CAIRN_TYPE_BYTES, "hi", 2),
        {.type = CAIRN_TYPE_INT64, .as.i64 = 7},
        text_value(CAIRN_TYPE_STRING, "DE", 2),
        text_value(CAIRN_TYPE_JSON, "{}", 2),
        text_value(CAIRN_TYPE_LIST | CAIRN_TYPE_STRING, "", 0),
        {.type = CAIRN_TYPE_INT64, .as.i64 = 1},
        {.type = CAIRN_TYPE_NULL},
        {.type = CAIRN_TYPE_FLOAT64, .as.f64 = 2.5},
        {.type = CAIRN_TYPE_FLOAT64, .as.f64 = 9.5},
        text_value(CAIRN_TYPE_LIST | CAIRN_TYPE_INT64, (const char *)scores, 16),
        {.type = CAIRN_TYPE_TIMESTAMP, .as.i64 = 1000000},
        text_value(CAIRN_TYPE_LIST | CAIRN_TYPE_STRING, tags, 11),
        {.type = CAIRN_TYPE_BOOL, .as.boolean = true},
    };
    for (int i = 0; i < COUNT; i++) {
        cells[i].value = values[i];
        cells[i].stamp = (struct cairn_stamp){NOW_US - 10000000, 0, 1};
    }
    struct cairn_row row = {.cells = cells, .cells_count = COUNT, .newest = cells[0].stamp};
    struct cairn_row_view view;
    cairn_row_view_init(&view, cairn_row_encode(encoder, &row));
    return view;
}

static int try_parse(const char *text, const struct cairn_schema *with,
                     const struct cairn_filter **out, struct cairn_error *err)
{
    struct cairn_json root;
    struct cairn_error parse_err = {0};
    if (cairn_json_parse(parser, cairn_str_from(text), &root, &parse_err) != 0)
        fail_msg("%s: %s", text, parse_err.message);
    return cairn_filter_parse(root, with, &arena, out, err);
}

static bool matches_at(const char *text, int64_t now_us)
{
    const struct cairn_filter *filter;
    struct cairn_error err = {0};
    if (try_parse(text, schema, &filter, &err) != 0)
        fail_msg("%s: %s", text, err.message);
    struct cairn_row_view row = sample_row();
    return cairn_filter_match(filter, &row, now_us);
}

static void check(const char *text, bool want)
{
    if (matches_at(text, NOW_US) != want)
        fail_msg("%s is not %d", text, want);
}

static void leaves_compare(void **state)
{
    (void)state;
    check("{\"feature\":\"country\",\"eq\":\"DE\"}", true);
    check("{\"feature\":\"country\",\"eq\":\"D\"}", false);
    check("{\"feature\":\"country\",\"ne\":\"DE\"}", false);
    check("{\"feature\":\"country\",\"ne\":\"FR\"}", true);
    check("{\"feature\":\"country\",\"in\":[\"FR\",\"DE\",\"AT\"]}", true);
    check("{\"feature\":\"country\",\"in\":[\"FR\"]}", false);
    check("{\"feature\":\"country\",\"in\":[]}", false);
    check("{\"feature\":\"country\",\"gt\":\"D\"}", true);
    check("{\"feature\":\"clicks\",\"eq\":7}", true);
    check("{\"feature\":\"clicks\",\"eq\":7.0}", true);
    check("{\"feature\":\"clicks\",\"eq\":7.5}", false);
    check("{\"feature\":\"clicks\",\"in\":[1,6.5,7,18446744073709551615]}", true);
    check("{\"feature\":\"clicks\",\"gte\":7,\"lt\":8}", true);
    check("{\"feature\":\"clicks\",\"gt\":7}", false);
    check("{\"feature\":\"clicks\",\"lte\":7}", true);
    check("{\"feature\":\"clicks\",\"lt\":7}", false);
    check("{\"feature\":\"price\",\"gt\":9}", true);
    check("{\"feature\":\"vip\",\"eq\":true}", true);
    check("{\"feature\":\"vip\",\"in\":[false]}", false);
    check("{\"feature\":\"seen\",\"eq\":\"1970-01-01T00:00:01Z\"}", true);
    check("{\"feature\":\"seen\",\"lt\":1001}", true);
    check("{\"feature\":\"seen\",\"lt\":1000}", false);
    check("{\"feature\":\"blob\",\"eq\":\"aGk=\"}", true);
    check("{\"feature\":\"blob\",\"in\":[\"\",\"aGk=\"]}", true);
    check("{\"feature\":\"blob\",\"ne\":\"aGk=\"}", false);
    check("{\"feature\":\"doc\",\"exists\":true}", true);
}

static void lists_match_by_an_element(void **state)
{
    (void)state;
    check("{\"feature\":\"tags\",\"eq\":\"bb\"}", true);
    check("{\"feature\":\"tags\",\"eq\":\"b\"}", false);
    check("{\"feature\":\"tags\",\"in\":[\"x\",\"a\"]}", true);
    check("{\"feature\":\"tags\",\"ne\":\"a\"}", true);
    check("{\"feature\":\"scores\",\"gt\":49}", true);
    check("{\"feature\":\"scores\",\"gt\":5,\"lt\":50}", false); /* one element must hold both */
    check("{\"feature\":\"scores\",\"gte\":5,\"lt\":50}", true);
    check("{\"feature\":\"empty\",\"exists\":true}", true);
    check("{\"feature\":\"empty\",\"eq\":\"a\"}", false);
}

static void absent_values_match_ne_and_not_exists(void **state)
{
    (void)state;
    static const char *const names[] = {"absent", "gone"};
    for (int i = 0; i < 2; i++) {
        static const struct {
            const char *ops;
            bool want;
        } cases[] = {{"\"eq\":1", false},
                     {"\"ne\":1", true},
                     {"\"in\":[1]", false},
                     {"\"gt\":1", false},
                     {"\"exists\":true", false},
                     {"\"exists\":false", true},
                     {"\"ne\":1,\"exists\":true", false},
                     {"\"ne\":1,\"gt\":0", false}};
        for (size_t j = 0; j < sizeof(cases) / sizeof(cases[0]); j++) {
            char text[128];
            snprintf(text, sizeof(text), "{\"feature\":\"%s\",%s}", names[i], cases[j].ops);
            check(text, cases[j].want);
        }
    }
    check("{\"feature\":\"clicks\",\"exists\":true}", true);
    check("{\"feature\":\"clicks\",\"exists\":false}", false);
    check("{\"feature\":\"clicks\",\"exists\":true,\"gt\":6}", true);
}

static void expired_values_are_absent(void **state)
{
    (void)state;
    const char *equal = "{\"feature\":\"fresh\",\"eq\":1}";
    assert_true(matches_at(equal, NOW_US)); /* exactly as old as its TTL */
    assert_false(matches_at(equal, NOW_US + 1));
    assert_true(matches_at("{\"feature\":\"fresh\",\"exists\":false}", NOW_US + 1));
    assert_true(matches_at("{\"feature\":\"fresh\",\"ne\":1}", NOW_US + 1));
    assert_true(matches_at("{\"feature\":\"clicks\",\"eq\":7}", INT64_MAX));
}

static void undeclared_features_compare_by_what_they_are(void **state)
{
    (void)state;
    check("{\"feature\":\"loose\",\"eq\":2.5}", true);
    check("{\"feature\":\"loose\",\"in\":[\"2.5\",true,2.5]}", true);
    check("{\"feature\":\"loose\",\"eq\":\"2.5\"}", false);
    check("{\"feature\":\"loose\",\"ne\":\"2.5\"}", true);
    check("{\"feature\":\"loose\",\"lt\":\"3\"}", false);
}

static void groups_combine(void **state)
{
    (void)state;
#define YES "{\"feature\":\"clicks\",\"eq\":7}"
#define NO  "{\"feature\":\"clicks\",\"eq\":8}"
    check("{\"all\":[" YES "," YES "]}", true);
    check("{\"all\":[" YES "," NO "]}", false);
    check("{\"all\":[]}", true);
    check("{\"any\":[" NO "," YES "]}", true);
    check("{\"any\":[" NO "," NO "]}", false);
    check("{\"any\":[]}", false);
    check("{\"none\":[" NO "," NO "]}", true);
    check("{\"none\":[" NO "," YES "]}", false);
    check("{\"none\":[]}", true);
    check("{\"all\":[" YES "],\"none\":[" NO "]}", true);
    check("{\"all\":[" YES "],\"none\":[" YES "]}", false);
    check("{\"all\":[" YES "],\"any\":[" NO "],\"none\":[]}", false);
    check("{\"any\":[{\"all\":[" YES "," NO "]},{\"none\":[{\"any\":[" NO "]}]}]}", true);
}

static void refused(const char *text, const struct cairn_schema *with, const char *mentions)
{
    const struct cairn_filter *filter;
    struct cairn_error err = {0};
    if (try_parse(text, with, &filter, &err) != CAIRN_EFILTER || !strstr(err.message, mentions))
        fail_msg("%s: %d %s", text, err.code, err.message);
    assert_null(filter);
}

static void faults_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *mentions;
    } cases[] = {
        {"[]", "filter: a filter must be an object"},
        {"null", "filter: a filter must be an object"},
        {"{}", "filter: a filter needs"},
        {"{\"and\":[]}", "filter.and: unknown"},
        {"{\"all\":{}}", "filter.all: must be an array"},
        {"{\"all\":[1]}", "filter.all[0]: a filter must be"},
        {"{\"all\":[],\"all\":[]}", "filter.all: given twice"},
        {"{\"all\":[" YES ",{\"any\":[{\"feature\":\"clicks\",\"eq\":\"7\"}]}]}",
         "filter.all[1].any[0].eq: must be a number"},
        {"{\"all\":[" YES "," YES "],\"any\":[{}]}", "filter.any[0]: a filter needs"},
        {"{\"feature\":\"clicks\"}", "filter: a leaf needs"},
        {"{\"feature\":7,\"eq\":1}", "filter.feature: must be the name"},
        {"{\"feature\":\"\",\"eq\":1}", "filter.feature: must be the name"},
        {"{\"feature\":\"clicks\",\"eq\":null}", "filter.eq: must be a number"},
        {"{\"feature\":\"other\",\"eq\":null}", "filter.eq: must be a string, a number"},
        {"{\"feature\":\"other\",\"eq\":[1]}", "filter.eq: must be a string, a number"},
        {"{\"feature\":\"clicks\",\"eq\":1,\"eq\":2}", "filter.eq: given twice"},
        {"{\"feature\":\"clicks\",\"equals\":1}", "filter.equals: unknown"},
        {"{\"feature\":\"clicks\",\"in\":7}", "filter.in: must be an array"},
        {"{\"feature\":\"clicks\",\"in\":[7,\"8\"]}", "filter.in: must be a number"},
        {"{\"feature\":\"clicks\",\"exists\":1}", "filter.exists"},
        {"{\"feature\":\"vip\",\"eq\":1}", "filter.eq: must be true or false"},
        {"{\"feature\":\"country\",\"eq\":1}", "filter.eq: must be a string"},
        {"{\"feature\":\"seen\",\"eq\":\"yesterday\"}", "filter.eq: must be an RFC 3339"},
        {"{\"feature\":\"seen\",\"eq\":9223372036854775807}", "filter.eq: must be an RFC 3339"},
        {"{\"feature\":\"blob\",\"eq\":\"!\"}", "filter.eq: must be base64"},
        {"{\"feature\":\"blob\",\"gt\":\"aGk=\"}", "filter.gt: bytes have no order"},
        {"{\"feature\":\"doc\",\"eq\":\"{}\"}", "filter.eq: a json feature"},
        {"{\"feature\":\"tags\",\"eq\":1}", "filter.eq: must be a string"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        refused(cases[i].text, schema, cases[i].mentions);
    refused("{\"feature\":\"other\",\"eq\":1}", strict_schema, "no feature other");
}

static char *repeated(const char *head, const char *item, unsigned count, const char *tail)
{
    struct cairn_buf buf = {0};
    cairn_buf_printf(&buf, "%s", head);
    for (unsigned i = 0; i < count; i++)
        cairn_buf_printf(&buf, "%s%s", i ? "," : "", item);
    cairn_buf_append(&buf, tail, strlen(tail) + 1);
    return buf.data;
}

static void sizes_are_bounded(void **state)
{
    (void)state;
    const struct cairn_filter *filter;
    char *text = repeated("{\"all\":[", YES, CAIRN_FILTER_NODES_MAX - 1, "]}");
    assert_int_equal(try_parse(text, schema, &filter, NULL), 0);
    free(text);
    text = repeated("{\"all\":[", YES, CAIRN_FILTER_NODES_MAX, "]}");
    refused(text, schema, "more than 1024 filters");
    free(text);
    text = repeated("{\"feature\":\"clicks\",\"in\":[", "7", CAIRN_LIST_ITEMS_MAX, "]}");
    assert_int_equal(try_parse(text, schema, &filter, NULL), 0);
    free(text);
    text = repeated("{\"feature\":\"clicks\",\"in\":[", "7", CAIRN_LIST_ITEMS_MAX + 1, "]}");
    refused(text, schema, "filter.in: 65537 items");
    free(text);

    for (unsigned depth = CAIRN_FILTER_DEPTH_MAX; depth <= CAIRN_FILTER_DEPTH_MAX + 1; depth++) {
        struct cairn_buf buf = {0};
        for (unsigned i = 1; i < depth; i++)
            cairn_buf_printf(&buf, "{\"any\":[");
        cairn_buf_printf(&buf, "%s", YES);
        for (unsigned i = 1; i < depth; i++)
            cairn_buf_printf(&buf, "]}");
        cairn_buf_append(&buf, "", 1);
        if (depth == CAIRN_FILTER_DEPTH_MAX)
            check(buf.data, true);
        else
            refused(buf.data, schema, "nested deeper than");
        cairn_buf_release(&buf);
    }
    char name[CAIRN_NAME_BYTES_MAX + 2];
    memset(name, 'n', sizeof(name));
    for (unsigned len = CAIRN_NAME_BYTES_MAX; len <= CAIRN_NAME_BYTES_MAX + 1; len++) {
        char leaf[256];
        snprintf(leaf, sizeof(leaf), "{\"feature\":\"%.*s\",\"ne\":1}", (int)len, name);
        if (len == CAIRN_NAME_BYTES_MAX)
            check(leaf, true);
        else
            refused(leaf, schema, "filter.feature");
    }
}

/* `in` against a loop over its operands. */
static void in_agrees_with_a_scan(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    for (int round = 0; round < 300; round++) {
        struct cairn_buf buf = {0};
        bool want = false;
        unsigned count = (unsigned)cairn_test_random_below(&random, 12);
        cairn_buf_printf(&buf, "{\"feature\":\"clicks\",\"in\":[");
        for (unsigned i = 0; i < count; i++) {
            unsigned halves = (unsigned)cairn_test_random_below(&random, 40);
            want = want || halves == 14;
            cairn_buf_printf(&buf, "%s%u%s", i ? "," : "", halves / 2, halves % 2 ? ".5" : ".0");
        }
        cairn_buf_append(&buf, "]}", 3);
        check(buf.data, want);
        cairn_buf_release(&buf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(leaves_compare, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lists_match_by_an_element, set_up, tear_down),
        cmocka_unit_test_setup_teardown(absent_values_match_ne_and_not_exists, set_up, tear_down),
        cmocka_unit_test_setup_teardown(expired_values_are_absent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(undeclared_features_compare_by_what_they_are, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(groups_combine, set_up, tear_down),
        cmocka_unit_test_setup_teardown(faults_are_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sizes_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(in_agrees_with_a_scan, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
