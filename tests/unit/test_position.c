#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/router.h"

static void text_and_back(void **state)
{
    (void)state;
    struct cairn_position position = {.epoch = 3};
    char text[CAIRN_POSITION_TEXT_BYTES];
    cairn_position_touch(&position, 0, 1042);
    cairn_position_touch(&position, 1, UINT64_MAX);
    cairn_position_touch(&position, 0, 7);
    unsigned len = cairn_position_format(&position, text);
    assert_int_equal(len, strlen(text));
    assert_string_equal(text, "3;s0=1042,s1=18446744073709551615");
    struct cairn_position parsed = {0};
    struct cairn_error err = {0};
    assert_int_equal(cairn_position_parse_merge(cairn_str_from(text), &parsed, &err), 0);
    assert_int_equal(parsed.epoch, 3);
    assert_int_equal(parsed.count, 2);
    assert_int_equal(parsed.at[0].offset, 1042);
    assert_true(parsed.at[1].offset == UINT64_MAX);
}

static void merging_takes_each_maximum(void **state)
{
    (void)state;
    struct cairn_position merged = {0};
    struct cairn_error err = {0};
    assert_int_equal(cairn_position_parse_merge(CAIRN_STR_LITERAL("1;s0=5,s2=9"), &merged, &err),
                     0);
    assert_int_equal(
        cairn_position_parse_merge(CAIRN_STR_LITERAL("2;s0=3,s1=4,s2=10"), &merged, &err), 0);
    char text[CAIRN_POSITION_TEXT_BYTES];
    cairn_position_format(&merged, text);
    assert_string_equal(text, "2;s0=5,s2=10,s1=4");
    assert_int_equal(cairn_position_parse_merge(CAIRN_STR_LITERAL("7;"), &merged, &err), 0);
    assert_int_equal(merged.epoch, 7);
}

static void every_shard_fits(void **state)
{
    (void)state;
    struct cairn_position position = {.epoch = UINT64_MAX};
    char text[CAIRN_POSITION_TEXT_BYTES];
    for (uint32_t i = 0; i < CAIRN_SHARDS_MAX; i++)
        cairn_position_touch(&position, i, UINT64_MAX);
    assert_true(cairn_position_format(&position, text) < sizeof text);
    struct cairn_position parsed = {0};
    struct cairn_error err = {0};
    assert_int_equal(cairn_position_parse_merge(cairn_str_from(text), &parsed, &err), 0);
    assert_int_equal(parsed.count, CAIRN_SHARDS_MAX);
}

static void garbage_is_refused_and_leaves_no_trace(void **state)
{
    (void)state;
    const char *bad[] = {"",
                         "x",
                         "1",
                         ";",
                         "1;s",
                         "1;s0",
                         "1;s0=",
                         "1;s0=x",
                         "1;s0=1,",
                         "1;s0=1 ",
                         "1;0=1",
                         "-1;s0=1",
                         "1;s0=-1",
                         "1;s256=1",
                         "1,s0=1",
                         "1;s0=1;s1=2",
                         "1;s0=1,s1",
                         "99999999999999999999;s0=1",
                         "1;s0=99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct cairn_position position = {.epoch = 1};
        struct cairn_error err = {0};
        cairn_position_touch(&position, 0, 5);
        assert_int_equal(cairn_position_parse_merge(cairn_str_from(bad[i]), &position, &err),
                         CAIRN_EPARAM);
        assert_int_equal(position.epoch, 1);
        assert_int_equal(position.count, 1);
        assert_int_equal(position.at[0].offset, 5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_and_back),
        cmocka_unit_test(merging_takes_each_maximum),
        cmocka_unit_test(every_shard_fits),
        cmocka_unit_test(garbage_is_refused_and_leaves_no_trace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
