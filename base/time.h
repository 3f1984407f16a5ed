/* Times are microseconds since the Unix epoch, UTC, in int64_t. */
#ifndef CAIRN_BASE_TIME_H
#define CAIRN_BASE_TIME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

#define CAIRN_TIME_NONE INT64_MIN
/* The range accepted from outside: years 1 to 9999, what RFC 3339 can write. */
#define CAIRN_TIME_MIN INT64_C(-62135596800000000)
#define CAIRN_TIME_MAX INT64_C(253402300799999999)
/* Added to any time in range it cannot overflow an int64_t. */
#define CAIRN_DURATION_MAX    (CAIRN_TIME_MAX - CAIRN_TIME_MIN)
#define CAIRN_TIME_TEXT_BYTES 28 /* "2026-11-23T10:00:00.000000Z" and NUL */

int64_t cairn_time_now_us(void); /* wall clock */
uint64_t cairn_time_monotonic_us(void);

/* RFC 3339 date-time, any offset, up to nanoseconds (truncated to microseconds).
 * CAIRN_ETIME with what is wrong. */
int cairn_time_parse(struct cairn_str text, int64_t *out_us, struct cairn_error *err);
/* Integer milliseconds, as clients send. CAIRN_ETIME out of range. */
int cairn_time_from_ms(int64_t ms, int64_t *out_us, struct cairn_error *err);
/* RFC 3339, UTC, microseconds; returns the length (27). `out` holds CAIRN_TIME_TEXT_BYTES. A time
 * outside CAIRN_TIME_MIN..MAX is written as the nearer end. */
unsigned cairn_time_format(int64_t time_us, char *out);
/* "500ms", "2s", "24h", "7d", "30m", "250us": a positive duration in microseconds, at most
 * CAIRN_DURATION_MAX. CAIRN_ETIME otherwise. */
int cairn_duration_parse(struct cairn_str text, int64_t *out_us, struct cairn_error *err);
/* The shortest exact text of a duration in the same form; `out` holds 32 bytes. */
unsigned cairn_duration_format(int64_t duration_us, char *out);

#endif
