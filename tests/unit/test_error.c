#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/str.h"

static void fail_fills_and_returns(void **state)
{
    (void)state;
    struct cairn_error err = {0};
    assert_int_equal(cairn_fail(&err, CAIRN_EKEY, "entities[%d].key is empty", 7), CAIRN_EKEY);
    assert_int_equal(err.code, CAIRN_EKEY);
    assert_string_equal(err.message, "entities[7].key is empty");
    assert_int_equal(cairn_fail(NULL, CAIRN_EIO, "nobody reads %s", "this"), CAIRN_EIO);
}

static void fail_may_quote_the_old_message(void **state)
{
    (void)state;
    struct cairn_error err = {0};
    cairn_fail(&err, CAIRN_EIO, "disk gone");
    assert_int_equal(cairn_fail(&err, CAIRN_EUNAVAILABLE, "shard s0: %s", err.message),
                     CAIRN_EUNAVAILABLE);
    assert_string_equal(err.message, "shard s0: disk gone");
}

static void prefix_goes_before(void **state)
{
    (void)state;
    struct cairn_error err = {0};
    cairn_fail(&err, CAIRN_ETYPE, "clicks must be int64");
    assert_int_equal(cairn_error_prefix(&err, "entities[%u]", 3u), CAIRN_ETYPE);
    assert_string_equal(err.message, "entities[3]: clicks must be int64");
    assert_int_equal(cairn_error_prefix(NULL, "x"), CAIRN_EINTERNAL);
}

static void message_fits_exactly(void **state)
{
    (void)state;
    char text[sizeof(((struct cairn_error *)0)->message) + 1];
    struct cairn_error err = {0};
    for (size_t len = sizeof(err.message) - 2; len <= sizeof(err.message); len++) {
        memset(text, 'a', len);
        text[len] = '\0';
        cairn_fail(&err, CAIRN_EKEY, "%s", text);
        size_t expect = len < sizeof(err.message) ? len : sizeof(err.message) - 1;
        assert_int_equal(strlen(err.message), expect);
    }
}

/* Whatever is cut off, what stays is well-formed. */
static void truncation_keeps_characters_whole(void **state)
{
    (void)state;
    static const char *const characters[] = {"\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\xAA\xA8"};
    for (size_t kind = 0; kind < 3; kind++) {
        for (size_t shift = 0; shift < 4; shift++) {
            char text[1024];
            memset(text, 'x', shift);
            text[shift] = '\0';
            while (strlen(text) < 600)
                strcat(text, characters[kind]);
            struct cairn_error err = {0};
            cairn_fail(&err, CAIRN_EKEY, "%s", text);
            size_t len = strlen(err.message);
            assert_true(cairn_utf8_valid(cairn_str_from(err.message)));
            assert_true(len > sizeof(err.message) - 5);
            cairn_error_prefix(&err, "ab%s", shift ? "c" : "");
            assert_true(cairn_utf8_valid(cairn_str_from(err.message)));
        }
    }
}

static void every_code_has_a_word_and_a_status(void **state)
{
    (void)state;
    static const struct {
        int code;
        const char *word;
        int status;
    } list[] = {
#define ROW(name, number, word, status) {name, word, status},
        CAIRN_ERROR_LIST(ROW)
#undef ROW
    };
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        assert_int_equal(list[i].code, -(int)i - 1);
        assert_string_equal(cairn_code_word(list[i].code), list[i].word);
        assert_int_equal(cairn_code_http_status(list[i].code), list[i].status);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(list[i].word, list[j].word);
    }
    static const int unknown[] = {0, 1, -1000, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        assert_string_equal(cairn_code_word(unknown[i]), "internal");
        assert_int_equal(cairn_code_http_status(unknown[i]), 500);
    }
}

static void errno_maps_to_codes(void **state)
{
    (void)state;
    assert_int_equal(cairn_code_from_errno(ENOSPC), CAIRN_ENOSPACE);
    assert_int_equal(cairn_code_from_errno(EDQUOT), CAIRN_ENOSPACE);
    assert_int_equal(cairn_code_from_errno(ENOMEM), CAIRN_ENOMEM);
    assert_int_equal(cairn_code_from_errno(EIO), CAIRN_EIO);
    assert_int_equal(cairn_code_from_errno(ENOENT), CAIRN_EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fail_fills_and_returns),
        cmocka_unit_test(fail_may_quote_the_old_message),
        cmocka_unit_test(prefix_goes_before),
        cmocka_unit_test(message_fits_exactly),
        cmocka_unit_test(truncation_keeps_characters_whole),
        cmocka_unit_test(every_code_has_a_word_and_a_status),
        cmocka_unit_test(errno_maps_to_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
