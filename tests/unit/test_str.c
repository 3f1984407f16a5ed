#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "tests/lib/testing.h"

static int sign(int number)
{
    return (number > 0) - (number < 0);
}

static void comparison_is_by_bytes(void **state)
{
    (void)state;
    /* In order. */
    static const struct cairn_str list[] = {
        CAIRN_STR_LITERAL(""),     CAIRN_STR_LITERAL("\0"),   CAIRN_STR_LITERAL("A"),
        CAIRN_STR_LITERAL("a"),    CAIRN_STR_LITERAL("a\0"),  CAIRN_STR_LITERAL("aa"),
        CAIRN_STR_LITERAL("ab"),   CAIRN_STR_LITERAL("b"),    CAIRN_STR_LITERAL("\x7F"),
        CAIRN_STR_LITERAL("\x80"), CAIRN_STR_LITERAL("\xFF"),
    };
    int count = sizeof(list) / sizeof(list[0]);
    for (int i = 0; i < count; i++) {
        for (int j = 0; j < count; j++) {
            assert_int_equal(sign(cairn_str_cmp(list[i], list[j])), sign(i - j));
            assert_int_equal(cairn_str_eq(list[i], list[j]), i == j);
        }
    }
    struct cairn_str null = {NULL, 0};
    assert_true(cairn_str_eq(null, list[0]));
    assert_int_equal(cairn_str_cmp(null, list[2]), -1);
    assert_int_equal(cairn_str_from("four").len, 4);
}

/* An independent check: decode to a number by RFC 3629's table, then judge the number. */
static bool slow_valid(const unsigned char *bytes, size_t len)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    for (size_t at = 0; at < len;) {
        unsigned char lead = bytes[at];
        size_t need;
        uint32_t code;
        if ((lead & 0x80) == 0) {
            need = 1;
            code = lead;
        } else if ((lead & 0xE0) == 0xC0) {
            need = 2;
            code = lead & 0x1F;
        } else if ((lead & 0xF0) == 0xE0) {
            need = 3;
            code = lead & 0x0F;
        } else if ((lead & 0xF8) == 0xF0) {
            need = 4;
            code = lead & 0x07;
        } else {
            return false;
        }
        if (len - at < need)
            return false;
        for (size_t i = 1; i < need; i++) {
            if ((bytes[at + i] & 0xC0) != 0x80)
                return false;
            code = code << 6 | (bytes[at + i] & 0x3Fu);
        }
        if (code < least[need] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
            return false;
        at += need;
    }
    return true;
}

/* Copied to its own allocation, so that a sanitizer sees a read past the end. */
static void check(const unsigned char *bytes, size_t len)
{
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    bool got = cairn_utf8_valid((struct cairn_str){copy, (uint32_t)len});
    free(copy);
    if (got != slow_valid(bytes, len))
        fail_msg("%zu bytes %02x %02x %02x %02x judged %d", len, bytes[0], bytes[1], bytes[2],
                 bytes[3], got);
}

/* The bytes next to every boundary in the grammar. */
static const unsigned char edges[] = {0x00, 0x01, 0x7F, 0x80, 0x81, 0x8F, 0x90, 0x9F, 0xA0, 0xBF,
                                      0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF,
                                      0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xF7, 0xF8, 0xFE, 0xFF};
enum { EDGES = sizeof(edges) };

static void utf8_every_one_and_two_bytes(void **state)
{
    (void)state;
    unsigned char bytes[4] = {0};
    check(bytes, 0);
    for (unsigned a = 0; a < 256; a++) {
        bytes[0] = (unsigned char)a;
        check(bytes, 1);
        for (unsigned b = 0; b < 256; b++) {
            bytes[1] = (unsigned char)b;
            check(bytes, 2);
        }
    }
}

static void utf8_every_boundary_of_three_and_four(void **state)
{
    (void)state;
    unsigned char bytes[4];
    for (int a = 0; a < EDGES; a++) {
        for (int b = 0; b < EDGES; b++) {
            for (int c = 0; c < EDGES; c++) {
                bytes[0] = edges[a];
                bytes[1] = edges[b];
                bytes[2] = edges[c];
                bytes[3] = 0;
                check(bytes, 3);
                for (int d = 0; d < EDGES; d++) {
                    bytes[3] = edges[d];
                    check(bytes, 4);
                }
            }
        }
    }
}

static size_t encode(uint32_t code, unsigned char *out)
{
    if (code < 0x80) {
        out[0] = (unsigned char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (unsigned char)(0xC0 | code >> 6);
        out[1] = (unsigned char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (unsigned char)(0xE0 | code >> 12);
        out[1] = (unsigned char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (unsigned char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (unsigned char)(0xF0 | code >> 18);
    out[1] = (unsigned char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (unsigned char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (unsigned char)(0x80 | (code & 0x3F));
    return 4;
}

static void utf8_every_code_point(void **state)
{
    (void)state;
    unsigned char bytes[4];
    for (uint32_t code = 0; code < 0x120000; code++) {
        size_t len = encode(code, bytes);
        bool expect = code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
        struct cairn_str text = {(const char *)bytes, (uint32_t)len};
        if (cairn_utf8_valid(text) != expect)
            fail_msg("U+%X judged %d", code, !expect);
    }
}

/* One bad or cut character at every place around the ASCII fast path's strides. */
static void utf8_errors_at_every_place(void **state)
{
    (void)state;
    static const char *const pieces[] = {"\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\xAA\xA8", "\x80",
                                         "\xC3",     "\xE2\x82",     "\xF0\x9F\xAA",     "\xFF"};
    for (size_t piece = 0; piece < sizeof(pieces) / sizeof(pieces[0]); piece++) {
        size_t piece_len = strlen(pieces[piece]);
        for (size_t before = 0; before < 70; before++) {
            for (size_t after = 0; after < 35; after++) {
                unsigned char text[128];
                memset(text, 'a', sizeof(text));
                memcpy(text + before, pieces[piece], piece_len);
                check(text, before + piece_len + after);
            }
        }
    }
}

static void utf8_random_texts(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    for (int round = 0; round < 20000; round++) {
        unsigned char text[200];
        size_t len = 0;
        size_t len_max = (size_t)cairn_test_random_below(&random, sizeof(text) - 4);
        uint32_t bits = (uint32_t)cairn_test_random_below(&random, 21) + 1;
        while (len < len_max) {
            uint32_t code = (uint32_t)cairn_test_random(&random) & ((1u << bits) - 1);
            len += encode(code & 0x10FFFF, text + len);
        }
        if (len > 0 && round % 2)
            text[cairn_test_random_below(&random, len)] ^=
                (unsigned char)(1u << cairn_test_random_below(&random, 8));
        if (len < 4)
            memset(text + len, 0, 4);
        check(text, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comparison_is_by_bytes),
        cmocka_unit_test(utf8_every_one_and_two_bytes),
        cmocka_unit_test(utf8_every_boundary_of_three_and_four),
        cmocka_unit_test(utf8_every_code_point),
        cmocka_unit_test(utf8_errors_at_every_place),
        cmocka_unit_test(utf8_random_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
