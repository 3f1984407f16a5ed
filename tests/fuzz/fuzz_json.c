/* Any text: what parses must minify to text that parses to the same, and the recogniser of minified
 * text must agree with the parser. */
#include "base/json.h"
#include "tests/fuzz/fuzz.h"

static const char *const texts[] = {
    "{\"key\":\"u1\",\"features\":{\"a\":-1.5e10,\"b\":[true,false,null]},\"v\":[0.1,2,3e38]}",
    "[1,-0,18446744073709551615,1e400,\"\\u00e9\\ud83c\\udfd4\\n\\\\\"]",
    " [ [ ] , { } , { \"a\" : { } } ] ",
    "{\"f32\":\"AACAPwAAAEA=\"}",
    "\"\xC3\xA9\"",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
};

size_t fuzz_seed(unsigned at, uint8_t *out)
{
    return fuzz_seed_text(texts, sizeof(texts) / sizeof(texts[0]), at, out);
}

static void check_parsed(struct cairn_json_parser *parser, struct cairn_json root)
{
    struct cairn_buf once = {0}, twice = {0};
    float f32[8];
    cairn_json_f32_array(root, f32, 8);
    cairn_json_minify(root, &once);
    struct cairn_str text = {once.data, (uint32_t)once.len};
    FUZZ_CHECK(cairn_json_is_minified(text));
    FUZZ_CHECK(cairn_json_parse(parser, text, &root, NULL) == 0);
    cairn_json_minify(root, &twice);
    FUZZ_CHECK(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
    cairn_buf_release(&once);
    cairn_buf_release(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cairn_json_parser *parser = cairn_json_parser_new();
    struct cairn_str text = fuzz_text(data, size);
    struct cairn_json root;
    struct cairn_error err = {0};
    int code = cairn_json_parse(parser, text, &root, &err);
    /* The one thing that grammar does not decide is a number's range. */
    if (code != 0 && cairn_json_is_minified(text))
        FUZZ_CHECK(strstr(err.message, "number") != NULL);
    if (code == 0)
        check_parsed(parser, root);
    uint8_t *bytes = malloc(size / 4 * 3 + 1);
    FUZZ_CHECK(bytes != NULL);
    cairn_base64_decode(text, bytes);
    free(bytes);
    cairn_json_parser_free(&parser);
    return 0;
}
