#include "base/time.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
    US_PER_MS = 1000,
    US_PER_SECOND = 1000000,
    SECONDS_PER_DAY = 86400,
    DAYS_PER_400_YEARS = 146097,
    DAYS_0000_TO_1970 = 719528, /* from 0000-01-01 */
};

static int64_t read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now); /* cannot fail for these clocks */
    return (int64_t)now.tv_sec * US_PER_SECOND + now.tv_nsec / 1000;
}

int64_t cairn_time_now_us(void)
{
    return read_clock(CLOCK_REALTIME);
}

uint64_t cairn_time_monotonic_us(void)
{
    return (uint64_t)read_clock(CLOCK_MONOTONIC);
}

static bool is_leap_year(int year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* Days before each month of a common year. */
static const int month_start_days[13] = {0,   31,  59,  90,  120, 151, 181,
                                         212, 243, 273, 304, 334, 365};

static int days_in_month(int year, int month)
{
    return month_start_days[month] - month_start_days[month - 1] +
           (month == 2 && is_leap_year(year));
}

/* Days from 1970-01-01 to a date of the proleptic Gregorian calendar, year 0 to 9999. */
static int64_t days_from_date(int year, int month, int day)
{
    /* Leap days of years 0 to year - 1; year 0 is one. */
    int leap_days = year == 0 ? 0 : (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400 + 1;
    int day_of_year = month_start_days[month - 1] + (month > 2 && is_leap_year(year)) + day - 1;
    return (int64_t)year * 365 + leap_days + day_of_year - DAYS_0000_TO_1970;
}

static void date_from_days(int64_t days, int *year, int *month, int *day)
{
    int64_t from_zero = days + DAYS_0000_TO_1970;
    /* Off by at most one; then corrected against the exact count. */
    int guess = (int)(from_zero * 400 / DAYS_PER_400_YEARS);
    while (days_from_date(guess, 1, 1) > days)
        guess--;
    while (days_from_date(guess + 1, 1, 1) <= days)
        guess++;
    int left = (int)(days - days_from_date(guess, 1, 1));
    int month_guess = 1;
    while (left >= days_in_month(guess, month_guess))
        left -= days_in_month(guess, month_guess++);
    *year = guess;
    *month = month_guess;
    *day = left + 1;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Exactly `count` digits at `at`, or -1. */
static int read_digits(struct cairn_str text, uint32_t at, uint32_t count)
{
    if (at > text.len || text.len - at < count)
        return -1;
    int number = 0;
    for (uint32_t i = at; i < at + count; i++) {
        if (!is_digit(text.ptr[i]))
            return -1;
        number = number * 10 + (text.ptr[i] - '0');
    }
    return number;
}

static bool char_at_is(struct cairn_str text, uint32_t at, char a, char b)
{
    return at < text.len && (text.ptr[at] == a || text.ptr[at] == b);
}

/* Quoted in messages: enough to recognise the text, never the whole of something huge. */
static struct cairn_str shown(struct cairn_str text)
{
    return (struct cairn_str){text.len ? text.ptr : "", text.len < 64 ? text.len : 64};
}

static int fail_time(struct cairn_str text, const char *why, struct cairn_error *err)
{
    struct cairn_str part = shown(text);
    return cairn_fail(err, CAIRN_ETIME, "'%.*s' is not an RFC 3339 time: %s", CAIRN_STR_ARG(part),
                      why);
}

/* ".123456789" at *at: microseconds, moving *at past it; -1 when malformed. No dot is 0. */
static int read_fraction_us(struct cairn_str text, uint32_t *at)
{
    if (!char_at_is(text, *at, '.', '.'))
        return 0;
    uint32_t start = ++*at;
    int us = 0;
    for (int scale = US_PER_SECOND / 10; *at < text.len && is_digit(text.ptr[*at]); ++*at) {
        us += scale * (text.ptr[*at] - '0');
        scale /= 10;
    }
    uint32_t digits = *at - start;
    return digits >= 1 && digits <= 9 ? us : -1;
}

/* "Z" or "+hh:mm" from `at` to the end, in seconds east. */
static bool read_offset(struct cairn_str text, uint32_t at, int *seconds_east)
{
    if (char_at_is(text, at, 'Z', 'z')) {
        *seconds_east = 0;
        return at + 1 == text.len;
    }
    int hours = read_digits(text, at + 1, 2);
    int minutes = read_digits(text, at + 4, 2);
    if (!char_at_is(text, at, '+', '-') || !char_at_is(text, at + 3, ':', ':') || hours < 0 ||
        hours > 23 || minutes < 0 || minutes > 59)
        return false;
    int seconds = hours * 3600 + minutes * 60;
    *seconds_east = text.ptr[at] == '-' ? -seconds : seconds;
    return at + 6 == text.len;
}

int cairn_time_parse(struct cairn_str text, int64_t *out_us, struct cairn_error *err)
{
    int year = read_digits(text, 0, 4);
    int month = read_digits(text, 5, 2);
    int day = read_digits(text, 8, 2);
    if (year < 0 || month < 0 || day < 0 || !char_at_is(text, 4, '-', '-') ||
        !char_at_is(text, 7, '-', '-'))
        return fail_time(text, "it must start with a date like 2026-11-23", err);
    if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month))
        return fail_time(text, "there is no such day", err);

    int hour = read_digits(text, 11, 2);
    int minute = read_digits(text, 14, 2);
    int second = read_digits(text, 17, 2);
    if (!(char_at_is(text, 10, 'T', 't') || char_at_is(text, 10, ' ', ' ')) || hour < 0 ||
        minute < 0 || second < 0 || !char_at_is(text, 13, ':', ':') ||
        !char_at_is(text, 16, ':', ':'))
        return fail_time(text, "after the date comes a time like T10:00:00", err);
    if (hour > 23 || minute > 59 || second > 60)
        return fail_time(text, "there is no such time of day", err);

    uint32_t at = 19;
    int fraction_us = read_fraction_us(text, &at);
    if (fraction_us < 0)
        return fail_time(text, "a fraction of a second has 1 to 9 digits", err);
    int seconds_east;
    if (!read_offset(text, at, &seconds_east))
        return fail_time(text, "it must end with Z or an offset like +02:00", err);

    int64_t seconds = days_from_date(year, month, day) * SECONDS_PER_DAY + hour * 3600 +
                      minute * 60 + second - seconds_east;
    /* A leap second ends a day in UTC; as in POSIX it counts as the first of the next day. */
    if (second == 60 && seconds % SECONDS_PER_DAY != 0)
        return fail_time(text, "second 60 exists only at the end of a day in UTC", err);
    int64_t time_us = seconds * US_PER_SECOND + fraction_us;
    if (time_us < CAIRN_TIME_MIN || time_us > CAIRN_TIME_MAX)
        return fail_time(text, "in UTC it lies outside the years 0001 to 9999", err);
    *out_us = time_us;
    return 0;
}

int cairn_time_from_ms(int64_t ms, int64_t *out_us, struct cairn_error *err)
{
    if (ms < CAIRN_TIME_MIN / US_PER_MS || ms > CAIRN_TIME_MAX / US_PER_MS)
        return cairn_fail(err, CAIRN_ETIME,
                          "%lld milliseconds since 1970 lies outside the years 0001 to 9999",
                          (long long)ms);
    *out_us = ms * US_PER_MS;
    return 0;
}

static void put_digits(char *out, int count, int number)
{
    for (int i = count - 1; i >= 0; i--) {
        out[i] = (char)('0' + number % 10);
        number /= 10;
    }
}

unsigned cairn_time_format(int64_t time_us, char *out)
{
    if (time_us < CAIRN_TIME_MIN)
        time_us = CAIRN_TIME_MIN;
    if (time_us > CAIRN_TIME_MAX)
        time_us = CAIRN_TIME_MAX;
    /* From the start of the earliest day everything is positive and division rounds down. */
    const int64_t us_per_day = (int64_t)SECONDS_PER_DAY * US_PER_SECOND;
    int64_t since_min = time_us - CAIRN_TIME_MIN;
    int64_t us_of_day = since_min % us_per_day;
    int year, month, day;
    date_from_days(since_min / us_per_day + CAIRN_TIME_MIN / us_per_day, &year, &month, &day);
    int second_of_day = (int)(us_of_day / US_PER_SECOND);

    memcpy(out, "0000-00-00T00:00:00.000000Z", CAIRN_TIME_TEXT_BYTES);
    put_digits(out, 4, year);
    put_digits(out + 5, 2, month);
    put_digits(out + 8, 2, day);
    put_digits(out + 11, 2, second_of_day / 3600);
    put_digits(out + 14, 2, second_of_day / 60 % 60);
    put_digits(out + 17, 2, second_of_day % 60);
    put_digits(out + 20, 6, (int)(us_of_day % US_PER_SECOND));
    return CAIRN_TIME_TEXT_BYTES - 1;
}

/* Largest first, as formatting tries them. */
static const struct unit {
    char name[4];
    int64_t us;
} units[] = {
    {"d", INT64_C(86400000000)},
    {"h", INT64_C(3600000000)},
    {"m", 60000000},
    {"s", 1000000},
    {"ms", 1000},
    {"us", 1},
};
enum { UNITS_COUNT = sizeof(units) / sizeof(units[0]) };

int cairn_duration_parse(struct cairn_str text, int64_t *out_us, struct cairn_error *err)
{
    struct cairn_str part = shown(text);
    int64_t count = 0;
    uint32_t at = 0;
    bool too_long = false;
    for (; at < text.len && is_digit(text.ptr[at]); at++) {
        count = count * 10 + (text.ptr[at] - '0');
        too_long = too_long || count > CAIRN_DURATION_MAX;
        if (too_long)
            count = 0;
    }
    const struct unit *unit = NULL;
    struct cairn_str rest = {text.ptr + at, text.len - at};
    for (int i = 0; at > 0 && i < UNITS_COUNT; i++) {
        if (cairn_str_eq(rest, cairn_str_from(units[i].name)))
            unit = &units[i];
    }
    if (!unit)
        return cairn_fail(err, CAIRN_ETIME,
                          "'%.*s' is not a duration: a whole number and one of us, ms, s, m, h, d",
                          CAIRN_STR_ARG(part));
    if (too_long || count > CAIRN_DURATION_MAX / unit->us)
        return cairn_fail(err, CAIRN_ETIME, "the duration '%.*s' is too long", CAIRN_STR_ARG(part));
    if (count == 0)
        return cairn_fail(err, CAIRN_ETIME, "the duration '%.*s' must be more than 0",
                          CAIRN_STR_ARG(part));
    *out_us = count * unit->us;
    return 0;
}

unsigned cairn_duration_format(int64_t duration_us, char *out)
{
    const struct unit *unit = units;
    if (duration_us == 0)
        unit = &units[3]; /* "0s" */
    while (duration_us % unit->us != 0)
        unit++;
    return (unsigned)snprintf(out, 32, "%lld%s", (long long)(duration_us / unit->us), unit->name);
}
