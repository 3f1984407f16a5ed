/* Any text as a schema body and as a log record's text: what is accepted must evolve into itself
 * and survive the log. */
#include "base/schema.h"
#include "tests/fuzz/fuzz.h"

static const char *const texts[] = {
    "{\"features\":{\"country\":{\"type\":\"string\",\"indexed\":true},"
    "\"clicks\":{\"type\":\"list<int64>\",\"ttl\":\"24h\"}},\"strict\":false,"
    "\"vectors\":{\"default\":{\"dim\":384,\"metric\":\"l2\",\"index\":{\"kind\":\"graph\",\"m\":"
    "32,"
    "\"ef_construction\":200,\"ef\":64,\"quantization\":\"pq\",\"pq_bytes\":48}}},"
    "\"history\":{\"keep\":\"90d\"},\"documents\":{\"vector\":\"default\",\"chunker\":{},"
    "\"embedder\":{\"kind\":\"hash\"}}}",
    "{\"vectors\":{\"v\":{\"dim\":8,\"index\":{\"kind\":\"ivf\",\"lists\":16,\"nprobe\":4}}}}",
    ("{\"name\":\"c\",\"id\":1,\"version\":3,\"dropped\":true,\"created_us\":5,"
     "\"features\":{\"new\":{\"type\":\"bool\",\"indexed\":false,\"stored_name\":\"old\"}}}"),
    "{}",
};

size_t fuzz_seed(unsigned at, uint8_t *out)
{
    return fuzz_seed_text(texts, sizeof(texts) / sizeof(texts[0]), at, out);
}

static void check_log_text(const struct cairn_schema *schema)
{
    struct cairn_buf once = {0}, twice = {0};
    const struct cairn_schema *back;
    cairn_schema_encode(schema, &once);
    FUZZ_CHECK(
        cairn_schema_decode((struct cairn_str){once.data, (uint32_t)once.len}, &back, NULL) == 0);
    cairn_schema_encode(back, &twice);
    FUZZ_CHECK(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
    cairn_schema_unref(back);
    cairn_buf_release(&once);
    cairn_buf_release(&twice);
}

/* PUT of what GET answers changes nothing. */
static void check_own_text(const struct cairn_schema *schema, struct cairn_json_parser *parser)
{
    struct cairn_buf text = {0};
    struct cairn_json_writer writer;
    struct cairn_json root;
    const struct cairn_schema *asked, *out;
    bool changed;
    cairn_json_writer_init(&writer, &text);
    cairn_json_begin_object(&writer);
    cairn_schema_write_members(schema, &writer);
    cairn_json_end_object(&writer);
    struct cairn_str bytes = {text.data, (uint32_t)text.len};
    FUZZ_CHECK(cairn_json_parse(parser, bytes, &root, NULL) == 0);
    FUZZ_CHECK(cairn_schema_parse(schema->name, root, &asked, NULL) == 0);
    FUZZ_CHECK(cairn_schema_evolve(schema, asked, &out, &changed, NULL) == 0);
    FUZZ_CHECK(!changed && out == schema);
    cairn_schema_unref(out);
    cairn_schema_unref(asked);
    cairn_buf_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cairn_json_parser *parser = cairn_json_parser_new();
    struct cairn_json root;
    const struct cairn_schema *plain, *stored;
    struct cairn_str text = fuzz_text(data, size);
    if (cairn_json_parse(parser, text, &root, NULL) == 0 &&
        cairn_schema_parse(CAIRN_STR_LITERAL("c"), root, &plain, NULL) == 0) {
        const struct cairn_schema *schema = cairn_schema_with_identity(plain, 1, 2, 3, false);
        check_own_text(schema, parser);
        check_log_text(schema);
        cairn_schema_unref(schema);
        cairn_schema_unref(plain);
    }
    if (cairn_schema_decode(text, &stored, NULL) == 0) {
        check_log_text(stored);
        cairn_schema_unref(stored);
    }
    cairn_json_parser_free(&parser);
    return 0;
}
