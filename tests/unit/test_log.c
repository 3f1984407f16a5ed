/* The feature log when nothing goes wrong, and its limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "featurestore/log_format.h"
#include "tests/lib/log_fixture.h"

#define FIRST_SEGMENT "00000000000000000001.seg"

static void test_new_log(void **state)
{
    (void)state;
    struct log_fixture fixture;
    struct cairn_log_stats stats;
    fixture_setup(&fixture, 0);
    for (int i = 0; i < 2; i++) { /* made, then found */
        struct cairn_log *log = fixture_open(&fixture);
        cairn_log_stats(log, &stats);
        assert_int_equal(stats.end_offset, 0);
        assert_int_equal(stats.segments_count, 1);
        assert_int_equal(stats.bytes, CAIRN_LOG_SEGMENT_HEADER_BYTES);
        assert_int_equal(fixture_read_all(log), 0);
        struct cairn_log_cursor *cursor;
        struct cairn_log_range range = {.from_offset = 2};
        struct cairn_error err = {0};
        assert_int_equal(cairn_log_cursor_open(log, &range, &cursor, &err), CAIRN_ENOTFOUND);
        assert_null(cursor);
        cairn_log_close(&log);
        assert_null(log);
    }
    assert_int_equal(fixture_file_size(&fixture, FIRST_SEGMENT), CAIRN_LOG_SEGMENT_HEADER_BYTES);
    fixture_teardown(&fixture);
}

static void test_append_and_reopen(void **state)
{
    (void)state;
    struct log_fixture fixture;
    struct cairn_log_stats stats;
    fixture_setup(&fixture, 0);
    uint64_t bytes = 0;
    for (uint32_t round = 0; round < 10; round++) {
        struct cairn_log *log = fixture_open(&fixture);
        cairn_log_stats(log, &stats);
        assert_true(round == 0 || stats.bytes == bytes);
        assert_int_equal(stats.records_appended, 0);
        fixture_append_ok(log, 1, 1);
        fixture_append_ok(log, 1 + round, 1 + round % 4);
        cairn_log_stats(log, &stats);
        assert_int_equal(stats.fsyncs, 2);
        assert_int_equal(stats.batches_appended, 2 + round);
        assert_int_equal(stats.records_appended, 1 + (1 + round) * (1 + round % 4));
        bytes = stats.bytes;
        fixture_read_all(log);
        cairn_log_close(&log);
        assert_int_equal(fixture_file_size(&fixture, FIRST_SEGMENT), bytes);
    }
    fixture_teardown(&fixture);
}

/* Every length of payload modulo the alignment, the empty one too. */
static void test_payload_lengths(void **state)
{
    (void)state;
    struct log_fixture fixture;
    char payload[40];
    fixture_setup(&fixture, 0);
    struct cairn_log *log = fixture_open(&fixture);
    for (uint32_t len = 0; len < sizeof(payload); len++) {
        memset(payload, (int)len, sizeof(payload));
        struct cairn_log_entry entry = {
            .kind = 255, .token = UINT64_MAX, .payload = {payload, len}};
        struct cairn_log_batch batch = {&entry, 1};
        int64_t time_us = -5;
        uint64_t first;
        assert_int_equal(cairn_log_append(log, &batch, 1, &time_us, &first, NULL), 0);
        assert_int_equal(first, len + 1);
        assert_int_equal(time_us, -5);
    }
    struct cairn_log_cursor *cursor;
    struct cairn_log_record record;
    assert_int_equal(cairn_log_cursor_open(log, &(struct cairn_log_range){0}, &cursor, NULL), 0);
    for (uint32_t len = 0; len < sizeof(payload); len++) {
        assert_int_equal(cairn_log_cursor_next(cursor, &record, NULL), 0);
        assert_int_equal(record.payload.len, len);
        assert_int_equal((uintptr_t)record.payload.ptr % 8, 0);
        for (uint32_t i = 0; i < len; i++) {
            assert_int_equal(record.payload.ptr[i], len);
        }
        assert_int_equal(record.kind, 255);
        assert_int_equal(record.collection, 0);
        assert_int_equal(record.token, UINT64_MAX);
    }
    assert_int_equal(cairn_log_cursor_next(cursor, &record, NULL), CAIRN_EEND);
    cairn_log_cursor_close(&cursor);
    cairn_log_close(&log);
    fixture_teardown(&fixture);
}

static void test_roll_over(void **state)
{
    (void)state;
    struct log_fixture fixture;
    struct cairn_log_stats stats;
    fixture_setup(&fixture, 2000);
    for (uint64_t trusted = 0; trusted < 120; trusted += 7) {
        struct cairn_log *log;
        struct cairn_log_recovery recovery;
        assert_int_equal(fixture_open_with(&fixture, NULL, trusted, &log, &recovery, NULL), 0);
        assert_int_equal(recovery.torn_bytes, 0);
        fixture_append_ok(log, 2, 3);
        fixture_append_ok(log, 1, 1);
        assert_int_equal(fixture_read_all(log) % 7, 0);
        cairn_log_stats(log, &stats);
        cairn_log_close(&log);
    }
    assert_true(stats.segments_count > 5);
    assert_int_equal(stats.end_offset, 18 * 7);
    struct fixture_snapshot files;
    fixture_take(&fixture, &files);
    uint32_t segments = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < files.count; i++) {
        uint64_t first;
        if (cairn_log_segment_name_parse(files.files[i].name, &first)) {
            segments++;
            bytes += files.files[i].bytes.len;
            /* Over the limit only where one append alone is. */
            assert_true(files.files[i].bytes.len <= 2000 + 8192 + 512);
        }
    }
    assert_int_equal(segments, stats.segments_count);
    assert_int_equal(bytes, stats.bytes);
    fixture_snapshot_release(&files);
    fixture_teardown(&fixture);
}

/* A batch of more records than one slice of the writer and more bytes than a segment. */
static void test_big_batch(void **state)
{
    (void)state;
    struct log_fixture fixture;
    struct cairn_log_stats stats;
    fixture_setup(&fixture, 4096);
    struct cairn_log *log = fixture_open(&fixture);
    static const uint32_t sizes[] = {1, 510, 511, 512, 1022, 1023, 5000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        fixture_append_ok(log, 1, sizes[i]);
    }
    fixture_append_ok(log, 511, 2);
    fixture_append_ok(log, 1022, 1);
    uint64_t last = fixture_read_all(log);
    cairn_log_stats(log, &stats);
    assert_int_equal(stats.segments_count, 9); /* one for each append */
    cairn_log_close(&log);
    log = fixture_open(&fixture);
    assert_int_equal(fixture_read_all(log), last);
    cairn_log_close(&log);
    fixture_teardown(&fixture);
}

/* A predicate of a range: tokens within a span. Each record is offered to it at most once. */
struct token_span {
    uint64_t first, last;
    uint64_t offered; /* the offset of the last record that was */
};

static bool in_span(const struct token_span *span, uint64_t token)
{
    return token >= span->first && token <= span->last;
}

static bool wants_token(void *context, const struct cairn_log_record *record)
{
    struct token_span *span = context;
    struct cairn_log_entry entry = fixture_entry(record->offset);
    assert_true(record->offset > span->offered);
    span->offered = record->offset;
    assert_int_equal(record->kind, entry.kind);
    assert_int_equal(record->collection, entry.collection);
    assert_int_equal(record->token, entry.token);
    assert_int_equal(record->shard, FIXTURE_SHARD);
    assert_true(record->ingest_time_us > 0);
    assert_true(record->batch_remaining < 5);
    assert_int_equal(record->payload.len, 0);
    return in_span(span, record->token);
}

static bool in_range(const struct cairn_log_range *range, uint64_t offset)
{
    struct cairn_log_entry entry = fixture_entry(offset);
    return (range->collection == 0 || entry.collection == range->collection) &&
           (range->wants == NULL || in_span(range->wants_context, entry.token));
}

static void expect_range(struct cairn_log *log, const struct cairn_log_range *range)
{
    struct cairn_log_cursor *cursor;
    struct cairn_log_record record;
    struct cairn_error err = {0};
    assert_int_equal(cairn_log_cursor_open(log, range, &cursor, &err), 0);
    uint64_t from = range->from_offset > 0 ? range->from_offset : 1;
    assert_int_equal(cairn_log_cursor_offset(cursor), from - 1);
    for (uint64_t offset = from; offset <= fixture_end(log); offset++) {
        if (in_range(range, offset)) {
            assert_int_equal(cairn_log_cursor_next(cursor, &record, &err), 0);
            fixture_assert_record(&record, offset);
            assert_int_equal(cairn_log_cursor_offset(cursor), offset);
        }
    }
    assert_int_equal(cairn_log_cursor_next(cursor, &record, &err), CAIRN_EEND);
    assert_int_equal(err.code, CAIRN_EEND);
    uint64_t end = fixture_end(log);
    assert_int_equal(cairn_log_cursor_offset(cursor), from > end ? from - 1 : end);
    cairn_log_cursor_close(&cursor);
    assert_null(cursor);
}

static void test_cursor_ranges(void **state)
{
    (void)state;
    struct log_fixture fixture;
    fixture_setup(&fixture, 3000);
    struct cairn_log *log = fixture_open(&fixture);
    for (uint32_t i = 0; i < 30; i++) {
        fixture_append_ok(log, 1 + i % 3, 1 + i % 5);
    }
    uint64_t end = fixture_end(log);
    for (uint64_t from = 0; from <= end + 1; from++) {
        expect_range(log, &(struct cairn_log_range){.from_offset = from});
        expect_range(log, &(struct cairn_log_range){.from_offset = from,
                                                    .collection = 1 + (uint32_t)(from % 4)});
    }
    struct cairn_log_range past = {.from_offset = end + 2};
    struct cairn_log_cursor *cursor;
    struct cairn_error err = {0};
    assert_int_equal(cairn_log_cursor_open(log, &past, &cursor, &err), CAIRN_ENOTFOUND);
    uint64_t seed = cairn_test_seed();
    for (uint32_t i = 0; i < 200; i++) {
        struct token_span span = {cairn_test_random(&seed), cairn_test_random(&seed), 0};
        struct cairn_log_range range = {
            .from_offset = cairn_test_random_below(&seed, end + 2),
            .collection = (uint32_t)cairn_test_random_below(&seed, 4),
            .wants = wants_token,
            .wants_context = &span,
        };
        expect_range(log, &range); /* half of the spans are empty */
    }
    uint64_t token = fixture_entry(5).token;
    struct token_span one = {token, token, 0}, all = {0, UINT64_MAX, 0}, none = {1, 0, 0};
    expect_range(log, &(struct cairn_log_range){.wants = wants_token, .wants_context = &one});
    assert_int_equal(one.offered, end);
    expect_range(log, &(struct cairn_log_range){.wants = wants_token, .wants_context = &all});
    expect_range(log, &(struct cairn_log_range){.wants = wants_token, .wants_context = &none});
    cairn_log_close(&log);
    fixture_teardown(&fixture);
}

/* A cursor at the end sees what is appended later, in new segments too. */
static void test_follow(void **state)
{
    (void)state;
    struct log_fixture fixture;
    struct cairn_log_cursor *cursor, *tail;
    struct cairn_log_record record;
    fixture_setup(&fixture, 1000);
    struct cairn_log *log = fixture_open(&fixture);
    assert_int_equal(cairn_log_cursor_open(log, &(struct cairn_log_range){0}, &cursor, NULL), 0);
    uint64_t seen = 0;
    for (uint32_t i = 0; i < 60; i++) {
        assert_int_equal(cairn_log_cursor_next(cursor, &record, NULL), CAIRN_EEND);
        struct cairn_log_range range = {.from_offset = fixture_end(log) + 1};
        assert_int_equal(cairn_log_cursor_open(log, &range, &tail, NULL), 0);
        fixture_append_ok(log, 1, 1 + i % 3);
        for (uint64_t end = fixture_end(log); seen < end; seen++) {
            assert_int_equal(cairn_log_cursor_next(cursor, &record, NULL), 0);
            fixture_assert_record(&record, seen + 1);
            assert_int_equal(cairn_log_cursor_next(tail, &record, NULL), 0);
            fixture_assert_record(&record, seen + 1);
        }
        cairn_log_cursor_close(&tail);
    }
    cairn_log_cursor_close(&cursor);
    cairn_log_close(&log);
    fixture_teardown(&fixture);
}

static int64_t append_at(struct cairn_log *log, int64_t time_us)
{
    struct cairn_log_entry entry = {.kind = 1};
    struct cairn_log_batch batch = {&entry, 1};
    uint64_t first;
    assert_int_equal(cairn_log_append(log, &batch, 1, &time_us, &first, NULL), 0);
    return time_us;
}

static void test_ingest_time_never_falls(void **state)
{
    (void)state;
    struct log_fixture fixture;
    fixture_setup(&fixture, 300); /* three records a segment */
    struct cairn_log *log = fixture_open(&fixture);
    assert_int_equal(append_at(log, -100), -100);
    assert_int_equal(append_at(log, INT64_MIN), -100);
    assert_int_equal(append_at(log, 50), 50);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(append_at(log, 49 - i), 50);
        cairn_log_close(&log);
        log = fixture_open(&fixture);
    }
    assert_int_equal(append_at(log, INT64_MAX), INT64_MAX);
    assert_int_equal(append_at(log, 0), INT64_MAX);
    struct cairn_log_cursor *cursor;
    struct cairn_log_record record;
    int64_t newest = INT64_MIN;
    assert_int_equal(cairn_log_cursor_open(log, &(struct cairn_log_range){0}, &cursor, NULL), 0);
    while (cairn_log_cursor_next(cursor, &record, NULL) == 0) {
        assert_true(record.ingest_time_us >= newest);
        newest = record.ingest_time_us;
    }
    assert_int_equal(newest, INT64_MAX);
    cairn_log_cursor_close(&cursor);
    cairn_log_close(&log);
    fixture_teardown(&fixture);
}

static void test_payload_limit(void **state)
{
    (void)state;
    struct log_fixture fixture;
    fixture_setup(&fixture, 0);
    struct cairn_log *log = fixture_open(&fixture);
    char *payload = cairn_calloc(1, CAIRN_LOG_PAYLOAD_BYTES_MAX + 1);
    payload[CAIRN_LOG_PAYLOAD_BYTES_MAX - 1] = 'z';
    struct cairn_log_entry entries[2] = {
        {.kind = 1, .payload = {payload, 8}},
        {.kind = 1, .payload = {payload, CAIRN_LOG_PAYLOAD_BYTES_MAX + 1}},
    };
    struct cairn_log_batch batch = {entries, 2};
    struct cairn_error err = {0};
    int64_t time_us = 9;
    uint64_t first = 77;
    assert_int_equal(cairn_log_append(log, &batch, 1, &time_us, &first, &err), CAIRN_ETOOLARGE);
    assert_int_equal(first, 77);
    assert_int_equal(fixture_end(log), 0);
    entries[1].payload.len--;
    assert_int_equal(cairn_log_append(log, &batch, 1, &time_us, &first, &err), 0);
    cairn_log_close(&log);
    log = fixture_open(&fixture);
    struct cairn_log_cursor *cursor;
    struct cairn_log_record record;
    assert_int_equal(
        cairn_log_cursor_open(log, &(struct cairn_log_range){.from_offset = 2}, &cursor, NULL), 0);
    assert_int_equal(cairn_log_cursor_next(cursor, &record, NULL), 0);
    assert_int_equal(record.payload.len, CAIRN_LOG_PAYLOAD_BYTES_MAX);
    assert_memory_equal(record.payload.ptr, payload, CAIRN_LOG_PAYLOAD_BYTES_MAX);
    cairn_log_cursor_close(&cursor);
    cairn_log_close(&log);
    free(payload);
    fixture_teardown(&fixture);
}

static ssize_t write_nothing(void *context, int fd, const struct iovec *parts, int count,
                             uint64_t at)
{
    (void)context;
    (void)fd;
    (void)at;
    ssize_t total = 0;
    for (int i = 0; i < count; i++) {
        total += (ssize_t)parts[i].iov_len;
    }
    return total;
}

static int reserve_nothing(void *context, int fd, uint64_t at, uint64_t len)
{
    (void)context;
    (void)fd;
    (void)at;
    (void)len;
    return 0;
}

/* The largest append, against a file system that forgets it. */
static void test_append_limit(void **state)
{
    (void)state;
    struct log_fixture fixture;
    fixture_setup(&fixture, 0);
    struct cairn_io io = fixture.io;
    io.pwritev = write_nothing;
    io.reserve = reserve_nothing;
    struct cairn_log *log;
    assert_int_equal(fixture_open_with(&fixture, &io, 0, &log, NULL, NULL), 0);
    char *payload = cairn_calloc(1, CAIRN_LOG_PAYLOAD_BYTES_MAX);
    struct cairn_log_entry entries[64];
    uint64_t left = CAIRN_LOG_APPEND_BYTES_MAX;
    for (uint32_t i = 0; i < 64; i++) {
        uint64_t len = left - CAIRN_LOG_RECORD_HEADER_BYTES;
        len = len < CAIRN_LOG_PAYLOAD_BYTES_MAX ? len : CAIRN_LOG_PAYLOAD_BYTES_MAX;
        entries[i] = (struct cairn_log_entry){.kind = 1, .payload = {payload, (uint32_t)len}};
        left -= cairn_log_record_bytes((uint32_t)len);
    }
    assert_int_equal(left, 0);
    struct cairn_log_batch batch = {entries, 64};
    struct cairn_error err = {0};
    int64_t time_us = 1;
    uint64_t first;
    entries[63].payload.len++;
    assert_int_equal(cairn_log_append(log, &batch, 1, &time_us, &first, &err), CAIRN_ETOOLARGE);
    entries[63].payload.len--;
    assert_int_equal(cairn_log_append(log, &batch, 1, &time_us, &first, &err), 0);
    assert_int_equal(fixture_end(log), 64);
    cairn_log_close(&log);
    free(payload);
    fixture_teardown(&fixture);
}

static void test_bad_arguments(void **state)
{
    (void)state;
    struct log_fixture fixture;
    fixture_setup(&fixture, 0);
    struct cairn_log *log = fixture_open(&fixture);
    struct cairn_log_entry entry = {.kind = 1};
    struct cairn_log_batch batches[2] = {{&entry, 1}, {&entry, 0}};
    struct cairn_error err = {0};
    int64_t time_us = 1;
    uint64_t first;
    assert_int_equal(cairn_log_append(log, batches, 0, &time_us, &first, &err), CAIRN_EPARAM);
    assert_int_equal(cairn_log_append(log, batches, 2, &time_us, &first, &err), CAIRN_EPARAM);
    entry.kind = 0;
    assert_int_equal(cairn_log_append(log, batches, 1, &time_us, &first, &err), CAIRN_EPARAM);
    assert_int_equal(fixture_read_all(log), 0);
    fixture_append_ok(log, 1, 1); /* none of that is final */
    cairn_log_close(&log);
    cairn_log_close(&log); /* NULL is allowed */
    fixture_teardown(&fixture);
}

static void test_open_refuses(void **state)
{
    (void)state;
    struct log_fixture fixture;
    struct cairn_error err = {0};
    fixture_setup(&fixture, 0);
    struct cairn_log *log = fixture_open(&fixture);
    fixture_append_ok(log, 1, 3);
    cairn_log_close(&log);
    /* The log of another shard. */
    struct cairn_log_options options = {.dir = fixture.dir, .shard = FIXTURE_SHARD + 1};
    assert_int_equal(cairn_log_open(&options, 0, &log, NULL, &err), CAIRN_ECORRUPT);
    assert_non_null(strstr(err.message, "shard 7"));
    assert_null(log);
    /* A directory whose parent is missing, and one that is a file. */
    char path[CAIRN_TEST_PATH_BYTES];
    options.dir = cairn_test_dir_path(&fixture.root, "none/log", path);
    assert_int_equal(cairn_log_open(&options, 0, &log, NULL, &err), CAIRN_EIO);
    options.dir = cairn_test_dir_path(&fixture.root, "log/" FIRST_SEGMENT, path);
    assert_int_equal(cairn_log_open(&options, 0, &log, NULL, &err), CAIRN_EIO);
    /* A format of the future. */
    struct cairn_buf bytes = fixture_read_file(&fixture, FIRST_SEGMENT);
    struct cairn_log_segment_header header;
    assert_true(cairn_log_segment_header_decode((uint8_t *)bytes.data, &header));
    header.version++;
    cairn_log_segment_header_encode(&header, (uint8_t *)bytes.data);
    fixture_write_file(&fixture, FIRST_SEGMENT, bytes.data, bytes.len);
    assert_int_equal(fixture_open_with(&fixture, NULL, 0, &log, NULL, &err), CAIRN_EUNAVAILABLE);
    struct cairn_log_report report;
    assert_int_equal(cairn_log_repair(fixture.dir, &fixture.io, &report, &err), CAIRN_EUNAVAILABLE);
    cairn_buf_release(&bytes);
    fixture_teardown(&fixture);
}

static void test_trusted_past_the_end(void **state)
{
    (void)state;
    struct log_fixture fixture;
    fixture_setup(&fixture, 500);
    struct cairn_log *log = fixture_open(&fixture);
    fixture_append_ok(log, 3, 3);
    fixture_append_ok(log, 3, 3);
    cairn_log_close(&log);
    assert_int_equal(fixture_open_with(&fixture, NULL, UINT64_MAX, &log, NULL, NULL), 0);
    assert_int_equal(fixture_read_all(log), 18);
    fixture_append_ok(log, 1, 1);
    cairn_log_close(&log);
    fixture_teardown(&fixture);
}

/* Without a mark the segments alone are relied on, and a new mark is made. */
static void test_mark_is_renewed(void **state)
{
    (void)state;
    struct log_fixture fixture;
    fixture_setup(&fixture, 500);
    struct cairn_log *log = fixture_open(&fixture);
    fixture_append_ok(log, 3, 3);
    cairn_log_close(&log);
    fixture_remove_file(&fixture, CAIRN_LOG_MARK_NAME);
    log = fixture_open(&fixture);
    assert_int_equal(fixture_read_all(log), 9);
    cairn_log_close(&log);
    struct cairn_log_report report;
    assert_int_equal(cairn_log_check(fixture.dir, &fixture.io, &report, NULL), 0);
    assert_int_equal(report.durable_offset, 9);
    fixture_write_file(&fixture, CAIRN_LOG_MARK_NAME, "nonsense", 8);
    log = fixture_open(&fixture);
    fixture_append_ok(log, 1, 1);
    cairn_log_close(&log);
    assert_int_equal(cairn_log_check(fixture.dir, &fixture.io, &report, NULL), 0);
    assert_int_equal(report.durable_offset, 10);
    fixture_teardown(&fixture);
}

struct counting_io {
    struct cairn_io table;
    uint64_t bytes_read;
};

static ssize_t counting_pread(void *context, int fd, void *bytes, size_t len, uint64_t at)
{
    struct counting_io *counting = context;
    ssize_t count = cairn_io_posix()->pread(NULL, fd, bytes, len, at);
    counting->bytes_read += count > 0 ? (uint64_t)count : 0;
    return count;
}

/* The second look-up in a segment does not scan it from its start again. */
static void test_seek_is_cheap(void **state)
{
    (void)state;
    struct log_fixture fixture;
    fixture_setup(&fixture, 0);
    struct cairn_log *log = fixture_open(&fixture);
    char payload[4096] = {1};
    struct cairn_log_entry entries[100];
    for (uint32_t i = 0; i < 100; i++) {
        entries[i] = (struct cairn_log_entry){.kind = 1, .payload = {payload, sizeof(payload)}};
    }
    struct cairn_log_batch batch = {entries, 100};
    for (uint32_t i = 0; i < 20; i++) { /* 8 MiB */
        int64_t time_us = i;
        uint64_t first;
        assert_int_equal(cairn_log_append(log, &batch, 1, &time_us, &first, NULL), 0);
    }
    cairn_log_close(&log);
    struct counting_io counting = {.table = fixture.io};
    counting.table.context = &counting;
    counting.table.pread = counting_pread;
    assert_int_equal(fixture_open_with(&fixture, &counting.table, 0, &log, NULL, NULL), 0);
    uint64_t costs[3];
    for (uint32_t i = 0; i < 3; i++) {
        struct cairn_log_range range = {.from_offset = 1990 - 300 * i};
        struct cairn_log_cursor *cursor;
        struct cairn_log_record record;
        counting.bytes_read = 0;
        assert_int_equal(cairn_log_cursor_open(log, &range, &cursor, NULL), 0);
        assert_int_equal(counting.bytes_read, 0);
        assert_int_equal(cairn_log_cursor_next(cursor, &record, NULL), 0);
        assert_int_equal(record.offset, range.from_offset);
        cairn_log_cursor_close(&cursor);
        costs[i] = counting.bytes_read;
    }
    assert_true(costs[0] > 6u << 20);
    assert_true(costs[1] < 3u << 20);
    assert_true(costs[2] < 3u << 20);
    cairn_log_close(&log);
    fixture_teardown(&fixture);
}

struct reader {
    struct cairn_log *log;
    uint64_t target;
    uint64_t records;
};

static void *read_until(void *arg)
{
    struct reader *reader = arg;
    struct cairn_log_cursor *cursor;
    struct cairn_log_record record;
    struct cairn_error err = {0};
    uint64_t seen = 0;
    while (seen < reader->target) { /* now and then from a place in the middle */
        struct cairn_log_range range = {.from_offset = seen + 1};
        assert_int_equal(cairn_log_cursor_open(reader->log, &range, &cursor, &err), 0);
        for (uint32_t i = 0; i < 500 && seen < reader->target; i++) {
            int rc = cairn_log_cursor_next(cursor, &record, &err);
            if (rc == CAIRN_EEND) {
                continue;
            }
            assert_int_equal(rc, 0);
            fixture_assert_record(&record, ++seen);
        }
        cairn_log_cursor_close(&cursor);
    }
    reader->records = seen;
    return NULL;
}

static void test_readers_while_appending(void **state)
{
    (void)state;
    struct log_fixture fixture;
    struct cairn_log_stats stats;
    fixture_setup(&fixture, 20000);
    struct cairn_log *log = fixture_open(&fixture);
    struct reader readers[3];
    pthread_t threads[3];
    for (uint32_t i = 0; i < 3; i++) {
        readers[i] = (struct reader){.log = log, .target = 6000};
        assert_int_equal(pthread_create(&threads[i], NULL, read_until, &readers[i]), 0);
    }
    for (uint32_t i = 0; i < 300; i++) {
        fixture_append_ok(log, 2, 10);
    }
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(readers[i].records, 6000);
    }
    cairn_log_stats(log, &stats);
    assert_true(stats.segments_count > 20);
    cairn_log_close(&log);
    fixture_teardown(&fixture);
}

/* Random appends, reads and restarts against a number: the offset that must be the last. */
static void test_random_life(void **state)
{
    (void)state;
    uint64_t seed = cairn_test_seed();
    struct log_fixture fixture;
    fixture_setup(&fixture, 500 + cairn_test_random_below(&seed, 20000));
    struct cairn_log *log = fixture_open(&fixture);
    uint64_t end = 0;
    for (uint32_t step = 0; step < 400; step++) {
        uint64_t dice = cairn_test_random_below(&seed, 10);
        if (dice < 7) {
            uint32_t batches = 1 + (uint32_t)cairn_test_random_below(&seed, 5);
            uint32_t records = 1 + (uint32_t)cairn_test_random_below(&seed, 20);
            fixture_append_ok(log, batches, records);
            end += batches * records;
        } else if (dice < 9) {
            expect_range(log, &(struct cairn_log_range){
                                  .from_offset = 1 + cairn_test_random_below(&seed, end + 1)});
        } else {
            uint64_t trusted = cairn_test_random_below(&seed, end + 2);
            cairn_log_close(&log);
            assert_int_equal(fixture_open_with(&fixture, NULL, trusted, &log, NULL, NULL), 0);
        }
        assert_int_equal(fixture_end(log), end);
    }
    assert_int_equal(fixture_read_all(log), end);
    cairn_log_close(&log);
    fixture_teardown(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_log),
        cmocka_unit_test(test_append_and_reopen),
        cmocka_unit_test(test_payload_lengths),
        cmocka_unit_test(test_roll_over),
        cmocka_unit_test(test_big_batch),
        cmocka_unit_test(test_cursor_ranges),
        cmocka_unit_test(test_follow),
        cmocka_unit_test(test_ingest_time_never_falls),
        cmocka_unit_test(test_payload_limit),
        cmocka_unit_test(test_append_limit),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_open_refuses),
        cmocka_unit_test(test_trusted_past_the_end),
        cmocka_unit_test(test_mark_is_renewed),
        cmocka_unit_test(test_seek_is_cheap),
        cmocka_unit_test(test_readers_while_appending),
        cmocka_unit_test(test_random_life),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
