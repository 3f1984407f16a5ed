#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "tests/lib/testing.h"

/* Bit by bit, from the polynomial: 0x1EDC6F41 reflected. */
static uint32_t slow_crc32c(uint32_t crc, const unsigned char *bytes, size_t len)
{
    crc = ~crc;
    for (size_t i = 0; i < len; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ UINT32_C(0x82F63B78) : crc >> 1;
    }
    return ~crc;
}

/* RFC 3720, appendix B.4, and the usual check value. */
static void crc_known_answers(void **state)
{
    (void)state;
    unsigned char bytes[32];
    assert_int_equal(cairn_crc32c(0, "123456789", 9), 0xE3069283);
    assert_int_equal(cairn_crc32c(0, "", 0), 0);
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(cairn_crc32c(0, bytes, sizeof(bytes)), 0x8A9136AA);
    memset(bytes, 0xFF, sizeof(bytes));
    assert_int_equal(cairn_crc32c(0, bytes, sizeof(bytes)), 0x62A8AB43);
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)i;
    assert_int_equal(cairn_crc32c(0, bytes, sizeof(bytes)), 0x46DD794E);
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(31 - i);
    assert_int_equal(cairn_crc32c(0, bytes, sizeof(bytes)), 0x113FDB5C);
}

/* Every length and alignment near the sizes where an implementation changes its loop, and cut in
 * two anywhere. */
static void crc_equals_the_slow_one(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    static unsigned char bytes[5000];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)cairn_test_random(&random);
    for (size_t len = 0; len < 600; len++) {
        size_t at = len % 17;
        assert_int_equal(cairn_crc32c(0, bytes + at, len), slow_crc32c(0, bytes + at, len));
    }
    uint32_t whole = slow_crc32c(0, bytes, sizeof(bytes));
    for (int i = 0; i < 500; i++) {
        size_t cut = (size_t)cairn_test_random_below(&random, sizeof(bytes) + 1);
        uint32_t first = cairn_crc32c(0, bytes, cut);
        assert_int_equal(cairn_crc32c(first, bytes + cut, sizeof(bytes) - cut), whole);
    }
}

/* The values are part of the disk format: they may never change. */
static void hash_known_answers(void **state)
{
    (void)state;
    assert_true(cairn_hash64("", 0) == UINT64_C(0x2D06800538D394C2));
    assert_true(cairn_hash64("a", 1) == UINT64_C(0xE6C632B61E964E1F));
    assert_true(cairn_hash64("abc", 3) == UINT64_C(0x78AF5F94892F3950));
}

static uint64_t token(const char *collection, const char *route)
{
    return cairn_token(cairn_str_from(collection), cairn_str_from(route));
}

static void token_is_hash_of_both_with_nul(void **state)
{
    (void)state;
    assert_true(token("users", "u1") == cairn_hash64("users\0u1", 8));
    assert_true(token("", "") == cairn_hash64("\0", 1));
    assert_true(token("ab", "c") != token("a", "bc"));
    assert_true(token("ab", "") != token("a", "b"));
}

/* Short and long inputs take different paths to the same definition. */
static void token_of_every_length(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    char joined[4000], *route = joined + 101;
    memset(joined, 'c', 100);
    joined[100] = '\0';
    for (size_t i = 101; i < sizeof(joined); i++)
        joined[i] = (char)cairn_test_random(&random);
    for (uint32_t len = 0; len < sizeof(joined) - 101; len++) {
        uint64_t got = cairn_token((struct cairn_str){joined, 100}, (struct cairn_str){route, len});
        assert_true(got == cairn_hash64(joined, 101 + (size_t)len));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_known_answers),     cmocka_unit_test(crc_equals_the_slow_one),
        cmocka_unit_test(hash_known_answers),    cmocka_unit_test(token_is_hash_of_both_with_nul),
        cmocka_unit_test(token_of_every_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
