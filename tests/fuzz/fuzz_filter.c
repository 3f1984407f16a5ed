/* Any text as a filter over a row with a value of every type; a filter and `none` of it must never
 * agree. */
#include "base/filter.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/random_entity.h"

static const char schema_text[] =
    "{\"features\":{\"b\":{\"type\":\"bool\"},\"i\":{\"type\":\"int64\"},"
    "\"s\":{\"type\":\"string\"},\"t\":{\"type\":\"timestamp\",\"ttl\":\"1s\"},"
    "\"x\":{\"type\":\"bytes\"},\"l\":{\"type\":\"list<string>\"},\"j\":{\"type\":\"json\"}}}";

static const char *const texts[] = {
    "{\"all\":[{\"feature\":\"s\",\"in\":[\"DE\",\"FR\"]},{\"feature\":\"i\",\"gte\":3,\"lt\":9.5}]"
    "}",
    "{\"any\":[{\"feature\":\"t\",\"gt\":\"2026-11-23T10:00:00Z\"},{\"feature\":\"t\",\"lte\":5}],"
    "\"none\":[{\"feature\":\"x\",\"eq\":\"aGk=\"},{\"feature\":\"j\",\"exists\":true}]}",
    "{\"none\":[{\"feature\":\"l\",\"ne\":\"a\"},{\"feature\":\"u\",\"in\":[1,\"a\",true,2.5]}]}",
    "{\"feature\":\"b\",\"eq\":true,\"exists\":true}",
};

size_t fuzz_seed(unsigned at, uint8_t *out)
{
    return fuzz_seed_text(texts, sizeof(texts) / sizeof(texts[0]), at, out);
}

static bool matches(struct cairn_json_parser *parser, struct cairn_str text,
                    const struct cairn_schema *schema, struct cairn_arena *arena,
                    struct cairn_str row_bytes, bool *parsed)
{
    struct cairn_json root;
    const struct cairn_filter *filter;
    *parsed = cairn_json_parse(parser, text, &root, NULL) == 0 &&
              cairn_filter_parse(root, schema, arena, &filter, NULL) == 0;
    if (!*parsed)
        return false;
    struct cairn_row_view row;
    cairn_row_view_init(&row, row_bytes);
    return cairn_filter_match(filter, &row, 1000000);
}

static struct cairn_str make_row(struct cairn_encoder *encoder)
{
    static const char list[] = "\x01\0\0\0a\x02\0\0\0bb";
    struct cairn_row_cell cells[] = {
        {.name = {"b", 1}, .value = {.type = CAIRN_TYPE_BOOL, .as.boolean = true}},
        {.name = {"i", 1}, .value = {.type = CAIRN_TYPE_INT64, .as.i64 = 5}},
        {.name = {"j", 1},
         .value = {.type = CAIRN_TYPE_JSON, .len = 2, .as.bytes = (const uint8_t *)"{}"}},
        {.name = {"l", 1},
         .value = {.type = CAIRN_TYPE_LIST | CAIRN_TYPE_STRING,
                   .len = 11,
                   .as.bytes = (const uint8_t *)list}},
        {.name = {"s", 1},
         .value = {.type = CAIRN_TYPE_STRING, .len = 2, .as.bytes = (const uint8_t *)"DE"}},
        {.name = {"t", 1}, .value = {.type = CAIRN_TYPE_TIMESTAMP, .as.i64 = 1000000}},
        {.name = {"u", 1}, .value = {.type = CAIRN_TYPE_FLOAT64, .as.f64 = 2.5}},
        {.name = {"x", 1},
         .value = {.type = CAIRN_TYPE_BYTES, .len = 2, .as.bytes = (const uint8_t *)"hi"}},
    };
    struct cairn_row row = {.cells = cells, .cells_count = sizeof(cells) / sizeof(cells[0])};
    return cairn_row_encode(encoder, &row);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cairn_json_parser *parser = cairn_json_parser_new();
    struct cairn_encoder *encoder = cairn_encoder_new();
    struct cairn_arena arena = {0};
    struct cairn_buf negated = {0};
    struct cairn_json root;
    const struct cairn_schema *schema;
    FUZZ_CHECK(cairn_json_parse(parser, cairn_str_from(schema_text), &root, NULL) == 0);
    FUZZ_CHECK(cairn_schema_parse(CAIRN_STR_LITERAL("c"), root, &schema, NULL) == 0);
    struct cairn_str row = make_row(encoder);
    bool parsed, parsed_negated;
    bool is = matches(parser, fuzz_text(data, size), schema, &arena, row, &parsed);
    if (parsed) {
        cairn_buf_printf(&negated, "{\"none\":[%.*s]}", (int)size, (const char *)data);
        struct cairn_str text = {negated.data, (uint32_t)negated.len};
        bool is_not = matches(parser, text, schema, &arena, row, &parsed_negated);
        FUZZ_CHECK(!parsed_negated || is != is_not);
    }
    cairn_schema_unref(schema);
    cairn_buf_release(&negated);
    cairn_arena_release(&arena);
    cairn_encoder_free(&encoder);
    cairn_json_parser_free(&parser);
    return 0;
}
