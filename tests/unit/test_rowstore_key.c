/* The row store's key layout: byte order is key order, and keys read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "featurestore/rowstore_key.h"
#include "tests/lib/testing.h"

/* Few distinct bytes, those that the escaping treats specially among them, so that random keys
 * share prefixes. */
static struct cairn_str random_key(uint64_t *state, char *bytes, uint32_t len_max)
{
    static const uint8_t alphabet[] = {0x00, 0x00, 0x01, 0x02, 0x7F, 0xFE, 0xFF, 0xFF};
    uint32_t len = (uint32_t)(cairn_test_random(state) % (len_max + 1));
    for (uint32_t i = 0; i < len; i++)
        bytes[i] = (char)alphabet[cairn_test_random(state) % sizeof(alphabet)];
    return (struct cairn_str){bytes, len};
}

static int sign(int value)
{
    return (value > 0) - (value < 0);
}

static struct cairn_str stored(const uint8_t *bytes, size_t len)
{
    return (struct cairn_str){(const char *)bytes, (uint32_t)len};
}

static void order_is_collection_then_key(void **test)
{
    (void)test;
    static const uint32_t ids[] = {0, 1, 2, 0xFF, 0x100, 0xFFFF, 0x01000000, 0xFFFFFFFF};
    uint64_t state = cairn_test_seed();
    char a_bytes[8], b_bytes[8];
    uint8_t a_out[CAIRN_VECTOR_KEY_BYTES_MAX], b_out[CAIRN_VECTOR_KEY_BYTES_MAX];
    for (int round = 0; round < 200000; round++) {
        struct cairn_str a = random_key(&state, a_bytes, 6), b = random_key(&state, b_bytes, 6);
        uint32_t a_id = ids[cairn_test_random(&state) % 8];
        uint32_t b_id =
            cairn_test_random(&state) % 4 == 0 ? ids[cairn_test_random(&state) % 8] : a_id;
        int expected = a_id != b_id ? (a_id > b_id ? 1 : -1) : sign(cairn_str_cmp(a, b));
        size_t a_len = cairn_row_key_write(a_out, a_id, a);
        size_t b_len = cairn_row_key_write(b_out, b_id, b);
        assert_int_equal(sign(cairn_str_cmp(stored(a_out, a_len), stored(b_out, b_len))), expected);
        a_len = cairn_vector_key_write(a_out, a_id, CAIRN_STR_LITERAL("v"), a);
        b_len = cairn_vector_key_write(b_out, b_id, CAIRN_STR_LITERAL("v"), b);
        assert_int_equal(sign(cairn_str_cmp(stored(a_out, a_len), stored(b_out, b_len))), expected);
    }
}

static void no_key_is_a_prefix_of_another(void **test)
{
    (void)test;
    uint64_t state = cairn_test_seed() + 1;
    char a_bytes[8], b_bytes[8];
    uint8_t a_out[CAIRN_ROW_KEY_BYTES_MAX], b_out[CAIRN_ROW_KEY_BYTES_MAX];
    for (int round = 0; round < 100000; round++) {
        struct cairn_str a = random_key(&state, a_bytes, 5), b = random_key(&state, b_bytes, 5);
        if (cairn_str_eq(a, b))
            continue;
        size_t a_len = cairn_row_key_write(a_out, 7, a), b_len = cairn_row_key_write(b_out, 7, b);
        size_t shorter = a_len < b_len ? a_len : b_len;
        assert_memory_not_equal(a_out, b_out, shorter);
    }
}

static void keys_read_back(void **test)
{
    (void)test;
    uint64_t state = cairn_test_seed() + 2;
    struct cairn_buf scratch = {0};
    struct cairn_str vector = CAIRN_STR_LITERAL("embedding");
    char bytes[CAIRN_KEY_BYTES_MAX];
    uint8_t out[CAIRN_VECTOR_KEY_BYTES_MAX];
    for (int round = 0; round < 20000; round++) {
        struct cairn_str key = random_key(&state, bytes, round % 2 ? 8 : CAIRN_KEY_BYTES_MAX), read;
        size_t len = cairn_row_key_write(out, 9, key);
        assert_true(cairn_row_key_read(stored(out, len), 4, &scratch, &read));
        assert_true(cairn_str_eq(key, read));
        len = cairn_vector_key_write(out, 9, vector, key);
        uint8_t prefix[CAIRN_VECTOR_KEY_BYTES_MAX];
        size_t prefix_len = cairn_vector_prefix_write(prefix, 9, vector);
        assert_memory_equal(out, prefix, prefix_len);
        assert_true(cairn_row_key_read(stored(out, len), prefix_len, &scratch, &read));
        assert_true(cairn_str_eq(key, read));
    }
    cairn_buf_release(&scratch);
}

static void longest_keys_fill_the_bounds(void **test)
{
    (void)test;
    char zeros[CAIRN_KEY_BYTES_MAX] = {0}, name[CAIRN_NAME_BYTES_MAX];
    memset(name, 'n', sizeof(name));
    struct cairn_str key = {zeros, sizeof(zeros)}, vector = {name, sizeof(name)}, read;
    uint8_t row[CAIRN_ROW_KEY_BYTES_MAX], out[CAIRN_VECTOR_KEY_BYTES_MAX];
    struct cairn_buf scratch = {0};
    assert_int_equal(cairn_row_key_write(row, UINT32_MAX, key), CAIRN_ROW_KEY_BYTES_MAX);
    assert_int_equal(cairn_vector_key_write(out, UINT32_MAX, vector, key),
                     CAIRN_VECTOR_KEY_BYTES_MAX);
    assert_true(cairn_row_key_read(stored(row, sizeof(row)), 4, &scratch, &read));
    assert_true(cairn_str_eq(key, read));
    cairn_buf_release(&scratch);
}

static void malformed_keys_are_refused(void **test)
{
    (void)test;
    struct cairn_buf scratch = {0};
    struct cairn_str read;
    static const struct {
        const char *bytes;
        uint32_t len;
    } cases[] = {
        {"", 0},
        {"\0\0\0\1", 4},            /* no key */
        {"\0\0\0\1\0", 5},          /* half a terminator */
        {"\0\0\0\1ab", 6},          /* no terminator */
        {"\0\0\0\1a\0\2", 7},       /* wrong terminator */
        {"\0\0\0\1a\0\1b\0\1", 10}, /* terminator within */
        {"\0\0\0\1a\0\0\1", 8},     /* escape cut by the terminator */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_false(cairn_row_key_read((struct cairn_str){cases[i].bytes, cases[i].len}, 4,
                                        &scratch, &read));
    cairn_buf_release(&scratch);
}

static void prefix_end_bounds_the_range(void **test)
{
    (void)test;
    uint8_t end_bytes[CAIRN_VECTOR_KEY_BYTES_MAX], key[CAIRN_VECTOR_KEY_BYTES_MAX];
    static const uint32_t ids[] = {0, 1, 0xFE, 0xFF, 0x00FFFFFF, 0xFFFFFFFE, 0xFFFFFFFF};
    char high[CAIRN_KEY_BYTES_MAX];
    memset(high, 0xFF, sizeof(high));
    struct cairn_str last = {high, sizeof(high)}, name = {high, CAIRN_NAME_BYTES_MAX};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        size_t len = cairn_key_prefix_end(end_bytes, cairn_row_prefix_write(end_bytes, ids[i]));
        struct cairn_str end = stored(end_bytes, len);
        size_t key_len = cairn_row_key_write(key, ids[i], last);
        assert_true(cairn_str_cmp(stored(key, key_len), end) < 0);
        key_len = cairn_vector_key_write(key, ids[i], name, last);
        assert_true(cairn_str_cmp(stored(key, key_len), end) < 0);
        if (ids[i] == UINT32_MAX)
            continue;
        key_len = cairn_row_key_write(key, ids[i] + 1, (struct cairn_str){"", 0});
        assert_true(cairn_str_cmp(stored(key, key_len), end) >= 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_collection_then_key),
        cmocka_unit_test(no_key_is_a_prefix_of_another),
        cmocka_unit_test(keys_read_back),
        cmocka_unit_test(longest_keys_fill_the_bounds),
        cmocka_unit_test(malformed_keys_are_refused),
        cmocka_unit_test(prefix_end_bounds_the_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
