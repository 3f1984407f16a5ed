/* The payload that begins an import: what it keeps, and all that is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "featurestore/import_record.h"

static int decode(const struct cairn_buf *bytes, struct cairn_import_begin *out,
                  struct cairn_error *err)
{
    return cairn_import_begin_decode((struct cairn_str){bytes->data, (uint32_t)bytes->len}, out,
                                     err);
}

static void payload_is_read_as_written(void **state)
{
    (void)state;
    struct cairn_import_begin begin = {CAIRN_SHARDS_MAX - 1, CAIRN_STR_LITERAL("{}")}, read;
    struct cairn_buf bytes = {0};
    struct cairn_error err;
    cairn_import_begin_encode(&begin, &bytes);
    assert_int_equal(bytes.len, 10);
    assert_memory_equal(bytes.data, "\xff\0\0\0\0\0\0\0{}", 10);
    assert_int_equal(decode(&bytes, &read, &err), 0);
    assert_int_equal(read.source, begin.source);
    assert_true(cairn_str_eq(read.map_text, begin.map_text));
    cairn_buf_release(&bytes);
}

static void other_bytes_are_refused(void **state)
{
    (void)state;
    struct cairn_import_begin begin = {1, CAIRN_STR_LITERAL("x")}, read;
    struct cairn_buf bytes = {0};
    struct cairn_error err;
    cairn_import_begin_encode(&begin, &bytes);
    while (bytes.len > 0) {
        bytes.len--;
        assert_int_equal(decode(&bytes, &read, &err), CAIRN_ECORRUPT);
        assert_int_equal(err.code, CAIRN_ECORRUPT);
    }
    for (int at = 1; at < 8; at++) { /* a source over the limit, reserved bytes */
        cairn_buf_clear(&bytes);
        cairn_import_begin_encode(&begin, &bytes);
        bytes.data[at] = (char)0x80;
        assert_int_equal(decode(&bytes, &read, &err), CAIRN_ECORRUPT);
        assert_non_null(strstr(err.message, at < 4 ? "source" : "reserved"));
    }
    cairn_buf_release(&bytes);
}

static void longest_map_is_taken(void **state)
{
    (void)state;
    char *text = cairn_calloc(1, CAIRN_MAP_BYTES_MAX + 1);
    struct cairn_import_begin begin = {0, {text, CAIRN_MAP_BYTES_MAX}}, read;
    struct cairn_buf bytes = {0};
    cairn_import_begin_encode(&begin, &bytes);
    assert_int_equal(decode(&bytes, &read, NULL), 0);
    assert_int_equal(read.map_text.len, CAIRN_MAP_BYTES_MAX);
    begin.map_text.len++;
    cairn_buf_clear(&bytes);
    cairn_import_begin_encode(&begin, &bytes);
    assert_int_equal(decode(&bytes, &read, NULL), CAIRN_ECORRUPT);
    cairn_buf_release(&bytes);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(payload_is_read_as_written),
        cmocka_unit_test(other_bytes_are_refused),
        cmocka_unit_test(longest_map_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
