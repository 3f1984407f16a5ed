#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/time.h"
#include "tests/lib/testing.h"

/* From a copy without a NUL after it, so that a sanitizer sees a read past the end. */
static int parse(const char *text, int64_t *out, struct cairn_error *err)
{
    char copy[128];
    size_t len = strlen(text);
    assert_true(len <= sizeof(copy));
    char *at = copy + sizeof(copy) - len;
    memcpy(at, text, len);
    return cairn_time_parse((struct cairn_str){at, (uint32_t)len}, out, err);
}

static void parses_to(const char *text, int64_t expect)
{
    int64_t got = CAIRN_TIME_NONE;
    struct cairn_error err = {0};
    if (parse(text, &got, &err) != 0)
        fail_msg("%s", err.message);
    if (got != expect)
        fail_msg("%s gave %lld", text, (long long)got);
}

static void is_refused(const char *text)
{
    int64_t got = 77;
    struct cairn_error err = {0};
    if (parse(text, &got, &err) != CAIRN_ETIME)
        fail_msg("'%s' gave %lld", text, (long long)got);
    assert_int_equal(err.code, CAIRN_ETIME);
    assert_true(strlen(err.message) > 10);
    assert_int_equal(got, 77); /* the output is left alone */
    assert_int_equal(parse(text, &got, NULL), CAIRN_ETIME);
}

static void parse_plain_times(void **state)
{
    (void)state;
    parses_to("1970-01-01T00:00:00Z", 0);
    parses_to("1970-01-01T00:00:00.000001Z", 1);
    parses_to("1969-12-31T23:59:59.999999Z", -1);
    parses_to("2026-11-23T10:00:00Z", INT64_C(1795428000000000));
    parses_to("2026-11-23t10:00:00z", INT64_C(1795428000000000));
    parses_to("2026-11-23 10:00:00Z", INT64_C(1795428000000000));
    parses_to("2001-09-09T01:46:40Z", INT64_C(1000000000000000));
}

static void parse_fractions(void **state)
{
    (void)state;
    parses_to("1970-01-01T00:00:00.5Z", 500000);
    parses_to("1970-01-01T00:00:00.05Z", 50000);
    parses_to("1970-01-01T00:00:00.123456Z", 123456);
    parses_to("1970-01-01T00:00:00.1234567Z", 123456);
    parses_to("1970-01-01T00:00:00.999999999Z", 999999);
    parses_to("1969-12-31T23:59:59.999999999+00:00", -1);
    is_refused("1970-01-01T00:00:00.Z");
    is_refused("1970-01-01T00:00:00.1234567890Z");
    is_refused("1970-01-01T00:00:00,5Z");
    is_refused("1970-01-01T00:00:00.5 Z");
    is_refused("1970-01-01T00:00:00.-5Z");
}

static void parse_offsets(void **state)
{
    (void)state;
    parses_to("1970-01-01T02:00:00+02:00", 0);
    parses_to("1969-12-31T18:30:00-05:30", 0);
    parses_to("1970-01-01T00:00:00-00:00", 0);
    parses_to("1970-01-01T23:59:00+23:59", 0);
    parses_to("1969-12-31T00:01:00.25-23:59", 250000);
    is_refused("1970-01-01T00:00:00");
    is_refused("1970-01-01T00:00:00+24:00");
    is_refused("1970-01-01T00:00:00+00:60");
    is_refused("1970-01-01T00:00:00+0200");
    is_refused("1970-01-01T00:00:00+02");
    is_refused("1970-01-01T00:00:00+02:0");
    is_refused("1970-01-01T00:00:00+02:000");
    is_refused("1970-01-01T00:00:00 02:00");
    is_refused("1970-01-01T00:00:00ZZ");
    is_refused("1970-01-01T00:00:00Z ");
    is_refused("1970-01-01T00:00:00Z+02:00");
}

static void parse_calendar(void **state)
{
    (void)state;
    parses_to("2024-02-29T00:00:00Z", INT64_C(1709164800000000));
    parses_to("2000-02-29T00:00:00Z", INT64_C(951782400000000));
    is_refused("2023-02-29T00:00:00Z");
    is_refused("1900-02-29T00:00:00Z");
    is_refused("2100-02-29T00:00:00Z");
    is_refused("2024-02-30T00:00:00Z");
    is_refused("2024-04-31T00:00:00Z");
    is_refused("2024-00-10T00:00:00Z");
    is_refused("2024-13-10T00:00:00Z");
    is_refused("2024-01-00T00:00:00Z");
    is_refused("2024-01-32T00:00:00Z");
    is_refused("2024-01-01T24:00:00Z");
    is_refused("2024-01-01T00:60:00Z");
    is_refused("2024-01-01T00:00:61Z");
}

static void parse_leap_seconds(void **state)
{
    (void)state;
    parses_to("2016-12-31T23:59:60Z", INT64_C(1483228800000000));
    parses_to("2017-01-01T01:59:60+02:00", INT64_C(1483228800000000));
    is_refused("2016-12-31T23:58:60Z");
    is_refused("2016-12-31T23:59:60+02:00");
    is_refused("9999-12-31T23:59:60Z");
}

static void parse_range_ends(void **state)
{
    (void)state;
    parses_to("0001-01-01T00:00:00Z", CAIRN_TIME_MIN);
    parses_to("9999-12-31T23:59:59.999999Z", CAIRN_TIME_MAX);
    parses_to("0000-12-31T23:00:00-01:00", CAIRN_TIME_MIN);
    is_refused("0001-01-01T00:00:00+00:01");
    is_refused("0000-12-31T23:59:59.999999Z");
    is_refused("0000-01-01T00:00:00Z");
    is_refused("9999-12-31T23:59:59-00:01");
    is_refused("10000-01-01T00:00:00Z");
}

static void parse_garbage(void **state)
{
    (void)state;
    static const char *const garbage[] = {
        "",
        " ",
        "now",
        "2026",
        "2026-11-23",
        "2026-11-23T",
        "2026-11-23T10",
        "2026-11-23T10:00",
        "2026-11-23T10:00Z",
        "2026-11-23T10:00:0Z",
        "2026-11-23X10:00:00Z",
        "2026/11/23T10:00:00Z",
        "2026-11-23T10-00-00Z",
        "+026-11-23T10:00:00Z",
        "-026-11-23T10:00:00Z",
        "2026-1-23T10:00:00Z",
        "2026-11-23T 1:00:00Z",
        " 2026-11-23T10:00:00Z",
        "2026-11-23T10:00:00\xC3\xA4",
        "1795428000000",
        "2026-11-23T10:00:00Z and then a great deal more text that nobody would call a time at all",
    };
    for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++)
        is_refused(garbage[i]);
    int64_t got;
    assert_int_equal(cairn_time_parse((struct cairn_str){NULL, 0}, &got, NULL), CAIRN_ETIME);
    assert_int_equal(cairn_time_parse(CAIRN_STR_LITERAL("1970-01-01T00:00:00\0"), &got, NULL),
                     CAIRN_ETIME);
}

/* Every prefix and every single changed byte of a good text: no read past the end, and what is
 * accepted comes back the same when written and read again. */
static void parse_damaged_texts(void **state)
{
    (void)state;
    const char *good = "2024-02-29T12:34:56.789012+05:45";
    size_t len = strlen(good);
    for (size_t cut = 0; cut < len; cut++) {
        char text[64];
        memcpy(text, good, cut);
        text[cut] = '\0';
        is_refused(text);
    }
    for (size_t at = 0; at < len; at++) {
        for (int byte = 1; byte < 256; byte++) {
            char text[64], back[CAIRN_TIME_TEXT_BYTES];
            memcpy(text, good, len + 1);
            text[at] = (char)byte;
            int64_t got;
            if (parse(text, &got, NULL) != 0)
                continue;
            assert_true(got >= CAIRN_TIME_MIN && got <= CAIRN_TIME_MAX);
            cairn_time_format(got, back);
            parses_to(back, got);
        }
    }
}

/* The C library's calendar as the model, one time in every day of the whole range and many random
 * ones. */
static void check_against_libc(int64_t time_us)
{
    int64_t seconds = time_us / 1000000, us = time_us % 1000000;
    if (us < 0) {
        us += 1000000;
        seconds--;
    }
    time_t when = (time_t)seconds;
    struct tm parts;
    assert_non_null(gmtime_r(&when, &parts));
    char expect[128], got[CAIRN_TIME_TEXT_BYTES];
    snprintf(expect, sizeof(expect), "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", parts.tm_year + 1900,
             parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, (int)us);
    unsigned len = cairn_time_format(time_us, got);
    if (len != 27 || strcmp(got, expect) != 0)
        fail_msg("%lld written as %s, not %s", (long long)time_us, got, expect);
    int64_t back;
    if (cairn_time_parse((struct cairn_str){got, len}, &back, NULL) != 0 || back != time_us)
        fail_msg("%s read as %lld", got, (long long)back);
}

static void format_every_day(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    const int64_t day_us = INT64_C(86400000000);
    for (int64_t day = CAIRN_TIME_MIN; day < CAIRN_TIME_MAX; day += day_us)
        check_against_libc(day + (int64_t)cairn_test_random_below(&random, (uint64_t)day_us));
    check_against_libc(CAIRN_TIME_MIN);
    check_against_libc(CAIRN_TIME_MAX);
    check_against_libc(-1);
    check_against_libc(0);
}

static void format_out_of_range_is_clamped(void **state)
{
    (void)state;
    char text[CAIRN_TIME_TEXT_BYTES];
    assert_int_equal(cairn_time_format(CAIRN_TIME_NONE, text), 27);
    assert_string_equal(text, "0001-01-01T00:00:00.000000Z");
    assert_int_equal(cairn_time_format(INT64_MAX, text), 27);
    assert_string_equal(text, "9999-12-31T23:59:59.999999Z");
}

static void milliseconds(void **state)
{
    (void)state;
    int64_t out;
    assert_int_equal(cairn_time_from_ms(-1, &out, NULL), 0);
    assert_int_equal(out, -1000);
    const int64_t least = CAIRN_TIME_MIN / 1000, most = CAIRN_TIME_MAX / 1000;
    assert_int_equal(cairn_time_from_ms(least, &out, NULL), 0);
    assert_true(out == CAIRN_TIME_MIN);
    assert_int_equal(cairn_time_from_ms(most, &out, NULL), 0);
    assert_true(out <= CAIRN_TIME_MAX && out > CAIRN_TIME_MAX - 1000);
    struct cairn_error err = {0};
    const int64_t refused[] = {least - 1, most + 1, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(cairn_time_from_ms(refused[i], &out, &err), CAIRN_ETIME);
    assert_int_equal(err.code, CAIRN_ETIME);
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t us;
        const char *shortest;
    } rows[] = {
        {"500ms", 500000, "500ms"},
        {"2s", 2000000, "2s"},
        {"24h", INT64_C(86400000000), "1d"},
        {"7d", INT64_C(604800000000), "7d"},
        {"30m", 1800000000, "30m"},
        {"90m", INT64_C(5400000000), "90m"},
        {"1us", 1, "1us"},
        {"1000us", 1000, "1ms"},
        {"1001us", 1001, "1001us"},
        {"0000060s", 60000000, "1m"},
        {"3652058d", INT64_C(3652058) * 86400000000, "3652058d"},
        {"315537897599999999us", INT64_C(315537897599999999), "315537897599999999us"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t got = 0;
        struct cairn_error err = {0};
        if (cairn_duration_parse(cairn_str_from(rows[i].text), &got, &err) != 0)
            fail_msg("%s", err.message);
        assert_true(got == rows[i].us);
        char text[32];
        assert_int_equal(cairn_duration_format(got, text), strlen(rows[i].shortest));
        assert_string_equal(text, rows[i].shortest);
    }
    char text[32];
    cairn_duration_format(0, text);
    assert_string_equal(text, "0s");
    cairn_duration_format(INT64_MIN, text);
    assert_string_equal(text, "-9223372036854775808us");
}

static void durations_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "s",
        "5",
        "-5s",
        "+5s",
        "5 s",
        " 5s",
        "5s ",
        "1.5h",
        "1h30m",
        "5S",
        "5min",
        "5w",
        "0s",
        "000d",
        "1e3s",
        "3652059d",
        "0x5s",
        "315537897600000000us",
        "99999999999999999999999999999999999999d",
        "99999999999999999999999999999999999999",
        "9223372036854775808us",
        "18446744073709551617s",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        int64_t got = 77;
        struct cairn_error err = {0};
        if (cairn_duration_parse(cairn_str_from(texts[i]), &got, &err) != CAIRN_ETIME)
            fail_msg("'%s' gave %lld", texts[i], (long long)got);
        assert_int_equal(got, 77);
        assert_true(strlen(err.message) > 10);
    }
}

static void random_durations_come_back(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    for (int i = 0; i < 100000; i++) {
        uint64_t bound = UINT64_C(1) << (1 + cairn_test_random_below(&random, 58));
        int64_t us = 1 + (int64_t)cairn_test_random_below(&random, bound);
        if (us > CAIRN_DURATION_MAX)
            us = CAIRN_DURATION_MAX;
        char text[32];
        unsigned len = cairn_duration_format(us, text);
        int64_t back = 0;
        assert_int_equal(cairn_duration_parse((struct cairn_str){text, len}, &back, NULL), 0);
        assert_true(back == us);
    }
}

static void clocks_run(void **state)
{
    (void)state;
    assert_true(cairn_time_now_us() > INT64_C(1700000000000000));
    uint64_t last = cairn_time_monotonic_us();
    for (int i = 0; i < 1000; i++) {
        uint64_t now = cairn_time_monotonic_us();
        assert_true(now >= last);
        last = now;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_plain_times),  cmocka_unit_test(parse_fractions),
        cmocka_unit_test(parse_offsets),      cmocka_unit_test(parse_calendar),
        cmocka_unit_test(parse_leap_seconds), cmocka_unit_test(parse_range_ends),
        cmocka_unit_test(parse_garbage),      cmocka_unit_test(parse_damaged_texts),
        cmocka_unit_test(format_every_day),   cmocka_unit_test(format_out_of_range_is_clamped),
        cmocka_unit_test(milliseconds),       cmocka_unit_test(durations),
        cmocka_unit_test(durations_refused),  cmocka_unit_test(random_durations_come_back),
        cmocka_unit_test(clocks_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
