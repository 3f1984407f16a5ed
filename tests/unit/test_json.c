#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/limits.h"
#include "tests/lib/testing.h"

static struct cairn_json_parser *parser;
static struct cairn_buf buf;

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
    assert_null(parser);
    cairn_buf_release(&buf);
    return 0;
}

static struct cairn_json parsed(const char *text)
{
    struct cairn_json root;
    struct cairn_error err = {0};
    if (cairn_json_parse(parser, cairn_str_from(text), &root, &err) != 0)
        fail_msg("%s: %s", text, err.message);
    return root;
}

static struct cairn_str minified(struct cairn_json value)
{
    cairn_buf_clear(&buf);
    cairn_json_minify(value, &buf);
    return (struct cairn_str){buf.data, (uint32_t)buf.len};
}

static void assert_text(struct cairn_str text, const char *want)
{
    assert_int_equal(text.len, strlen(want));
    assert_memory_equal(text.ptr, want, text.len);
}

static void kinds_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum cairn_json_kind kind;
    } cases[] = {
        {"null", CAIRN_JSON_NULL},
        {"true", CAIRN_JSON_BOOL},
        {" false ", CAIRN_JSON_BOOL},
        {"-9223372036854775808", CAIRN_JSON_INT},
        {"9223372036854775807", CAIRN_JSON_INT},
        {"9223372036854775808", CAIRN_JSON_UINT},
        {"18446744073709551615", CAIRN_JSON_UINT},
        {"1.0", CAIRN_JSON_DOUBLE},
        {"1e2", CAIRN_JSON_DOUBLE},
        {"\"\"", CAIRN_JSON_STRING},
        {"[]", CAIRN_JSON_ARRAY},
        {"{}", CAIRN_JSON_OBJECT},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cairn_json root = parsed(cases[i].text);
        assert_int_equal(cairn_json_kind(root), cases[i].kind);
        bool truth;
        int64_t integer;
        double number;
        struct cairn_str text;
        struct cairn_json_iter iter;
        enum cairn_json_kind kind = cases[i].kind;
        assert_int_equal(cairn_json_bool(root, &truth), kind == CAIRN_JSON_BOOL);
        assert_int_equal(cairn_json_i64(root, &integer), kind == CAIRN_JSON_INT);
        assert_int_equal(cairn_json_f64(root, &number), kind == CAIRN_JSON_INT ||
                                                            kind == CAIRN_JSON_UINT ||
                                                            kind == CAIRN_JSON_DOUBLE);
        assert_int_equal(cairn_json_str(root, &text), kind == CAIRN_JSON_STRING);
        assert_int_equal(cairn_json_array(root, &iter, NULL), kind == CAIRN_JSON_ARRAY);
        assert_int_equal(cairn_json_object(root, &iter), kind == CAIRN_JSON_OBJECT);
    }
    bool truth;
    assert_true(cairn_json_bool(parsed("true"), &truth) && truth);
    assert_true(cairn_json_bool(parsed("false"), &truth) && !truth);
    int64_t integer;
    assert_true(cairn_json_i64(parsed("-42"), &integer) && integer == -42);
    double number;
    assert_true(cairn_json_f64(parsed("18446744073709551615"), &number) && number == 0x1p64);
}

static void members_and_elements_come_in_order(void **state)
{
    (void)state;
    struct cairn_json root =
        parsed("{\"b\":[1,[2,{\"x\":0}],\"s\"],\"a\":{\"c\":null},\"\":-0.5,\"b\":7}");
    static const char *const keys[] = {"b", "a", "", "b"};
    static const char *const values[] = {"[1,[2,{\"x\":0}],\"s\"]", "{\"c\":null}", "-0.5", "7"};
    struct cairn_json_iter iter;
    struct cairn_str key;
    struct cairn_json value;
    assert_true(cairn_json_object(root, &iter));
    for (int i = 0; i < 4; i++) {
        assert_true(cairn_json_member(&iter, &key, &value));
        assert_text(key, keys[i]);
        assert_text(minified(value), values[i]);
    }
    assert_false(cairn_json_member(&iter, &key, &value));

    assert_true(cairn_json_get(root, "b", &value));
    size_t count;
    assert_true(cairn_json_array(value, &iter, &count));
    assert_int_equal(count, 3);
    static const char *const elements[] = {"1", "[2,{\"x\":0}]", "\"s\""};
    for (int i = 0; i < 3; i++) {
        assert_true(cairn_json_element(&iter, &value));
        assert_text(minified(value), elements[i]);
    }
    assert_false(cairn_json_element(&iter, &value));
    assert_false(cairn_json_get(root, "c", &value));
    assert_false(cairn_json_get(parsed("[1]"), "c", &value));
}

static void bad_text_is_refused_with_a_reason(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int code;
    } cases[] = {
        {"", CAIRN_EJSON},
        {"   ", CAIRN_EJSON},
        {"{", CAIRN_EJSON},
        {"[1,]", CAIRN_EJSON},
        {"[1 2]", CAIRN_EJSON},
        {"{\"a\"}", CAIRN_EJSON},
        {"{\"a\":1,}", CAIRN_EJSON},
        {"{a:1}", CAIRN_EJSON},
        {"[1]x", CAIRN_EJSON},
        {"1 2", CAIRN_EJSON},
        {"01", CAIRN_EJSON},
        {"1.", CAIRN_EJSON},
        {"+1", CAIRN_EJSON},
        {"-", CAIRN_EJSON},
        {"1e400", CAIRN_EJSON},
        {"-1e400", CAIRN_EJSON},
        {"NaN", CAIRN_EJSON},
        {"Infinity", CAIRN_EJSON},
        {"nul", CAIRN_EJSON},
        {"\"a", CAIRN_EJSON},
        {"\"\n\"", CAIRN_EJSON},
        {"\"\\x\"", CAIRN_EJSON},
        {"\"\\ud800\"", CAIRN_EJSON},
        {"'a'", CAIRN_EJSON},
        {"18446744073709551616", CAIRN_EJSON},
        {"-9223372036854775809", CAIRN_EJSON},
        {"\"\xFF\"", CAIRN_EUTF8},
        {"\"\xC0\x80\"", CAIRN_EUTF8},
        {"\"\xED\xA0\x80\"", CAIRN_EUTF8},
        {"/* c */ 1", CAIRN_EJSON},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cairn_json root;
        struct cairn_error err = {0};
        int code = cairn_json_parse(parser, cairn_str_from(cases[i].text), &root, &err);
        if (code != cases[i].code)
            fail_msg("%s: %d (%s)", cases[i].text, code, err.message);
        assert_int_equal(err.code, code);
        assert_true(strlen(err.message) > 5);
    }
    struct cairn_json root;
    assert_int_equal(cairn_json_parse(parser, (struct cairn_str){"\"\0\"", 3}, &root, NULL),
                     CAIRN_EJSON);
    parsed("[1]"); /* a parser goes on after an error */
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    const char *text = "{\"key\":\"u\\u00e91\",\"n\":[1,-2.5e3,true,null,{\"x\":{}}]}";
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++) {
        char *copy = malloc(i + 1);
        memcpy(copy, text, i);
        struct cairn_json root;
        assert_int_not_equal(
            cairn_json_parse(parser, (struct cairn_str){copy, (uint32_t)i}, &root, NULL), 0);
        free(copy);
    }
    parsed(text);
}

static void depth_is_bounded(void **state)
{
    (void)state;
    char text[2 * (CAIRN_JSON_DEPTH_MAX + 1) + 1];
    for (unsigned depth = CAIRN_JSON_DEPTH_MAX; depth <= CAIRN_JSON_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        struct cairn_str nested = {text, 2 * depth};
        struct cairn_json root;
        struct cairn_error err = {0};
        int code = cairn_json_parse(parser, nested, &root, &err);
        assert_int_equal(code, depth <= CAIRN_JSON_DEPTH_MAX ? 0 : CAIRN_EJSON);
        assert_int_equal(cairn_json_is_minified(nested), code == 0);
        if (code == 0)
            assert_text(minified(root), (text[2 * depth] = '\0', text));
        else
            assert_non_null(strstr(err.message, "deeper"));
    }
}

static void strings_are_unescaped_and_escaped(void **state)
{
    (void)state;
    struct cairn_str text;
    assert_true(cairn_json_str(
        parsed("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0001\\u00e9\\ud83c\\udfd4\\u0000z\""), &text));
    static const char want[] = "\"\\/\b\f\n\r\t\x01\xC3\xA9\xF0\x9F\x8F\x94\0z";
    assert_int_equal(text.len, sizeof(want) - 1);
    assert_memory_equal(text.ptr, want, text.len);
    struct cairn_json_writer writer;
    cairn_buf_clear(&buf);
    cairn_json_writer_init(&writer, &buf);
    cairn_json_write_str(&writer, text);
    static const char written[] =
        "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\xC3\xA9\xF0\x9F\x8F\x94\\u0000z\"";
    assert_text((struct cairn_str){buf.data, (uint32_t)buf.len}, written);
    assert_true(cairn_json_is_minified((struct cairn_str){buf.data, (uint32_t)buf.len}));
}

static void float_arrays_are_read_whole(void **state)
{
    (void)state;
    float out[4] = {9, 9, 9, 9};
    assert_int_equal(cairn_json_f32_array(parsed("[0.1, -2, 3e38, 18446744073709551615]"), out, 4),
                     4);
    assert_true(out[0] == 0.1f && out[1] == -2 && out[2] == 3e38f && out[3] == 0x1p64f);
    out[1] = 9;
    assert_int_equal(cairn_json_f32_array(parsed("[1,2,3]"), out, 1), 3);
    assert_true(out[0] == 1 && out[1] == 9);
    assert_int_equal(cairn_json_f32_array(parsed("[]"), out, 4), 0);
    assert_int_equal(cairn_json_f32_array(parsed("[1,4e38]"), out, 4), -1);
    assert_int_equal(cairn_json_f32_array(parsed("[1,\"2\"]"), out, 4), -1);
    assert_int_equal(cairn_json_f32_array(parsed("[1,[2]]"), out, 4), -1);
    assert_int_equal(cairn_json_f32_array(parsed("[null]"), out, 4), -1);
    assert_int_equal(cairn_json_f32_array(parsed("[true]"), out, 4), -1);
    assert_int_equal(cairn_json_f32_array(parsed("{}"), out, 4), -1);
    assert_int_equal(cairn_json_f32_array(parsed("7"), out, 4), -1);
}

static void minify_keeps_values(void **state)
{
    (void)state;
    assert_text(minified(parsed(" { \"a\" : [ 1 , 2.50 , 1e3, 1.0, -0.0 ] , \"b\\n\" : { } , "
                                "\"u\":18446744073709551615, \"e\":[] }")),
                "{\"a\":[1,2.5,1000.0,1.0,-0.0],\"b\\n\":{},\"u\":18446744073709551615,\"e\":[]}");
}

static void numbers_read_back_equal(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    struct cairn_json_writer writer;
    for (int i = 0; i < 20000; i++) {
        union {
            uint64_t bits;
            double f64;
        } wide = {cairn_test_random(&random)};
        union {
            uint32_t bits;
            float f32;
        } narrow = {(uint32_t)cairn_test_random(&random)};
        if (!__builtin_isfinite(wide.f64) || !__builtin_isfinite(narrow.f32))
            continue;
        cairn_buf_clear(&buf);
        cairn_json_writer_init(&writer, &buf);
        cairn_json_begin_array(&writer);
        cairn_json_write_f64(&writer, wide.f64);
        cairn_json_write_f32(&writer, narrow.f32);
        cairn_json_write_i64(&writer, (int64_t)wide.bits);
        cairn_json_write_u64(&writer, wide.bits);
        cairn_json_end_array(&writer);
        cairn_buf_append(&buf, "", 1);
        struct cairn_json_iter iter;
        struct cairn_json value;
        assert_true(cairn_json_array(parsed(buf.data), &iter, NULL));
        double number = 0;
        assert_true(cairn_json_element(&iter, &value));
        assert_int_equal(cairn_json_kind(value), CAIRN_JSON_DOUBLE);
        assert_true(cairn_json_f64(value, &number) && number == wide.f64);
        assert_true(cairn_json_element(&iter, &value) && cairn_json_f64(value, &number));
        assert_true((float)number == narrow.f32);
        int64_t integer = 0;
        assert_true(cairn_json_element(&iter, &value) && cairn_json_i64(value, &integer));
        assert_true((uint64_t)integer == wide.bits);
        assert_true(cairn_json_element(&iter, &value));
    }
}

static void the_writer_places_commas(void **state)
{
    (void)state;
    struct cairn_json_writer w;
    cairn_buf_clear(&buf);
    cairn_json_writer_init(&w, &buf);
    cairn_json_begin_object(&w);
    cairn_json_key(&w, "a");
    cairn_json_begin_array(&w);
    cairn_json_end_array(&w);
    cairn_json_write_key(&w, CAIRN_STR_LITERAL("b\""));
    cairn_json_begin_array(&w);
    cairn_json_write_null(&w);
    cairn_json_begin_object(&w);
    cairn_json_end_object(&w);
    cairn_json_write_bool(&w, true);
    cairn_json_write_bool(&w, false);
    cairn_json_write_i64(&w, INT64_MIN);
    cairn_json_write_u64(&w, UINT64_MAX);
    cairn_json_write_f64(&w, 1e300);
    cairn_json_write_f64(&w, 3);
    cairn_json_write_f32(&w, 1);
    cairn_json_write_f32(&w, 0.1f);
    cairn_json_write_time(&w, 0);
    cairn_json_write_raw(&w, CAIRN_STR_LITERAL("{\"r\":1}"));
    cairn_json_end_array(&w);
    cairn_json_key(&w, "c");
    cairn_json_write_str(&w, (struct cairn_str){NULL, 0});
    cairn_json_end_object(&w);
    assert_text((struct cairn_str){buf.data, (uint32_t)buf.len},
                "{\"a\":[],\"b\\\"\":[null,{},true,false,-9223372036854775808,"
                "18446744073709551615,1e+300,3.0,1,0.1,\"1970-01-01T00:00:00.000000Z\","
                "{\"r\":1}],\"c\":\"\"}");
}

static void base64_round_trips(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    uint8_t bytes[80], back[84];
    for (uint32_t len = 0; len < sizeof(bytes); len++) {
        for (uint32_t i = 0; i < len; i++)
            bytes[i] = (uint8_t)cairn_test_random(&random);
        struct cairn_json_writer writer;
        cairn_buf_clear(&buf);
        cairn_json_writer_init(&writer, &buf);
        cairn_json_write_base64(&writer, bytes, len);
        assert_int_equal(buf.len, (len + 2) / 3 * 4 + 2);
        struct cairn_str text = {buf.data + 1, (uint32_t)buf.len - 2};
        assert_int_equal(cairn_base64_decode(text, back), len);
        assert_memory_equal(bytes, back, len);
    }
    static const char *const bad[] = {
        "A",    "AA",   "AAA",  "A===", "====", "AAA*",     "AA=A",
        "AB==", "AAB=", "AA A", "-_-_", "\n",   "AAAA====", "AA==AAAA"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(cairn_base64_decode(cairn_str_from(bad[i]), back), -1);
    assert_int_equal(cairn_base64_decode(CAIRN_STR_LITERAL("aGk="), back), 2);
    assert_memory_equal(back, "hi", 2);
}

static void minified_text_is_recognised(void **state)
{
    (void)state;
    static const char *const good[] = {"null",
                                       "true",
                                       "false",
                                       "0",
                                       "-0",
                                       "-1.5e-10",
                                       "1E5",
                                       "1e+5",
                                       "\"\"",
                                       "[]",
                                       "{}",
                                       "[1,[],{\"a\":[{}]},\"\\u00e9\\ud83c\\udfd4\\n\"]",
                                       "{\"a\":1,\"b\":{\"c\":[null]}}"};
    static const char *const bad[] = {"",
                                      " 1",
                                      "1 ",
                                      "[1, 2]",
                                      "[1,]",
                                      "[,1]",
                                      "[1",
                                      "]",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "{\"a\":1,}",
                                      "{a:1}",
                                      "{1:1}",
                                      "01",
                                      "1.",
                                      ".5",
                                      "-",
                                      "1e",
                                      "1e+",
                                      "tru",
                                      "nulls",
                                      "\"",
                                      "\"\\x\"",
                                      "\"\\u12\"",
                                      "\"\\ud800\"",
                                      "\"\\udc00\"",
                                      "\"\\ud800\\u0041\"",
                                      "\"\n\"",
                                      "\"\xFF\"",
                                      "1,2",
                                      "[]]",
                                      "{\"a\":1\n}",
                                      "[\"\\",
                                      "\"\\ud83c\\"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(cairn_json_is_minified(cairn_str_from(good[i])));
        parsed(good[i]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char *copy = strdup(bad[i]); /* exact size, for the sanitizer */
        char *exact = malloc(strlen(copy) + 1);
        memcpy(exact, copy, strlen(copy));
        if (cairn_json_is_minified((struct cairn_str){exact, (uint32_t)strlen(copy)}))
            fail_msg("accepted %s", bad[i]);
        free(copy);
        free(exact);
    }
    assert_false(cairn_json_is_minified((struct cairn_str){"\"\\\0\"", 4}));
}

static void memory_of_a_large_text_is_given_back(void **state)
{
    (void)state;
    uint32_t len = 4 * CAIRN_JSON_KEEP_BYTES;
    char *text = malloc(len);
    memset(text, ' ', len);
    text[0] = '7';
    struct cairn_json root;
    parsed("[1]");
    size_t small = cairn_json_parser_memory(parser);
    assert_int_equal(cairn_json_parse(parser, (struct cairn_str){text, len}, &root, NULL), 0);
    assert_true(cairn_json_parser_memory(parser) > 8 * (size_t)len);
    assert_int_equal(
        cairn_json_parse(parser, (struct cairn_str){text, CAIRN_JSON_KEEP_BYTES}, &root, NULL), 0);
    size_t kept = cairn_json_parser_memory(parser);
    assert_true(kept <= 16 * (size_t)CAIRN_JSON_KEEP_BYTES);
    parsed("[1]");
    assert_int_equal(cairn_json_parser_memory(parser), kept);
    assert_true(small < kept);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(kinds_are_told_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(members_and_elements_come_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_text_is_refused_with_a_reason, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_truncation_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(depth_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(strings_are_unescaped_and_escaped, set_up, tear_down),
        cmocka_unit_test_setup_teardown(float_arrays_are_read_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(minify_keeps_values, set_up, tear_down),
        cmocka_unit_test_setup_teardown(numbers_read_back_equal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_writer_places_commas, set_up, tear_down),
        cmocka_unit_test_setup_teardown(base64_round_trips, set_up, tear_down),
        cmocka_unit_test_setup_teardown(minified_text_is_recognised, set_up, tear_down),
        cmocka_unit_test_setup_teardown(memory_of_a_large_text_is_given_back, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
