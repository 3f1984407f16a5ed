/* A crash in the middle of an append: what open cuts, what it keeps, and what it refuses because it
 * was durable. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "featurestore/log_format.h"
#include "tests/lib/log_fixture.h"

#define FIRST_SEGMENT "00000000000000000001.seg"

/* A log of `before` bytes whose mark was taken, and then one more append. */
struct torn_log {
    struct log_fixture fixture;
    struct cairn_buf old_mark, new_mark;
    uint64_t before_bytes, before_offset;
    struct cairn_buf segment; /* all of it */
};

static void torn_setup(struct torn_log *torn, uint32_t batches, uint32_t records)
{
    fixture_setup_in_memory(&torn->fixture, 0);
    struct cairn_log *log = fixture_open(&torn->fixture);
    fixture_append_ok(log, 2, 2);
    fixture_append_ok(log, 1, 3);
    torn->before_offset = fixture_end(log);
    torn->before_bytes = fixture_file_size(&torn->fixture, FIRST_SEGMENT);
    torn->old_mark = fixture_read_file(&torn->fixture, CAIRN_LOG_MARK_NAME);
    fixture_append_ok(log, batches, records);
    cairn_log_close(&log);
    torn->new_mark = fixture_read_file(&torn->fixture, CAIRN_LOG_MARK_NAME);
    torn->segment = fixture_read_file(&torn->fixture, FIRST_SEGMENT);
}

static void torn_teardown(struct torn_log *torn)
{
    cairn_buf_release(&torn->old_mark);
    cairn_buf_release(&torn->new_mark);
    cairn_buf_release(&torn->segment);
    fixture_teardown(&torn->fixture);
}

/* Put `bytes` in place of the segment, with one of the marks, or none. */
static void torn_place(struct torn_log *torn, const void *bytes, uint64_t len,
                       const struct cairn_buf *mark)
{
    fixture_write_file(&torn->fixture, FIRST_SEGMENT, bytes, len);
    if (mark) {
        fixture_write_file(&torn->fixture, CAIRN_LOG_MARK_NAME, mark->data, mark->len);
    } else if (fixture_has_file(&torn->fixture, CAIRN_LOG_MARK_NAME)) {
        fixture_remove_file(&torn->fixture, CAIRN_LOG_MARK_NAME);
    }
}

/* Open must cut the tail back to `kept_bytes`, keep `kept_offset` records, and go on from there. */
static void expect_cut(struct torn_log *torn, uint64_t len, uint64_t kept_bytes,
                       uint64_t kept_offset, uint64_t torn_records)
{
    struct cairn_log *log;
    struct cairn_log_recovery recovery;
    struct cairn_error err = {0};
    if (fixture_open_with(&torn->fixture, NULL, 0, &log, &recovery, &err) != 0) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(recovery.torn_bytes, len - kept_bytes);
    assert_int_equal(recovery.torn_records, torn_records);
    assert_string_equal(recovery.torn_file, len > kept_bytes ? FIRST_SEGMENT : "");
    assert_int_equal(fixture_file_size(&torn->fixture, FIRST_SEGMENT), kept_bytes);
    assert_int_equal(fixture_read_all(log), kept_offset);
    fixture_append_ok(log, 1, 2);
    cairn_log_close(&log);
    assert_int_equal(fixture_open_with(&torn->fixture, NULL, 0, &log, &recovery, &err), 0);
    assert_int_equal(recovery.torn_bytes, 0);
    assert_int_equal(fixture_read_all(log), kept_offset + 2);
    cairn_log_close(&log);
}

static void expect_refused(struct torn_log *torn, const char *why)
{
    struct cairn_log *log;
    struct cairn_log_recovery recovery;
    struct cairn_error err = {0};
    uint64_t size = fixture_file_size(&torn->fixture, FIRST_SEGMENT);
    assert_int_equal(fixture_open_with(&torn->fixture, NULL, 0, &log, &recovery, &err),
                     CAIRN_ECORRUPT);
    assert_null(log);
    assert_non_null(strstr(err.message, FIRST_SEGMENT));
    assert_non_null(strstr(err.message, why));
    assert_int_equal(recovery.torn_bytes, 0);
    assert_int_equal(fixture_file_size(&torn->fixture, FIRST_SEGMENT), size); /* untouched */
}

/* Whole records of the last append that fit in `len` bytes. */
static uint64_t whole_records(const struct torn_log *torn, uint64_t len)
{
    uint64_t count = 0;
    uint64_t at = torn->before_bytes;
    struct cairn_log_record_header header;
    while (at < torn->segment.len) {
        assert_true(cairn_log_record_header_decode((uint8_t *)torn->segment.data + at, &header));
        at += cairn_log_record_bytes(header.payload_len);
        count += at <= len;
    }
    return count;
}

static void test_cut_at_every_byte(void **state)
{
    (void)state;
    struct torn_log torn;
    torn_setup(&torn, 1, 4);
    for (uint64_t len = torn.before_bytes; len < torn.segment.len; len++) {
        uint64_t records = whole_records(&torn, len);
        torn_place(&torn, torn.segment.data, len, &torn.old_mark);
        expect_cut(&torn, len, torn.before_bytes, torn.before_offset, records);
        torn_place(&torn, torn.segment.data, len, &torn.new_mark);
        expect_refused(&torn, "cut");
    }
    torn_place(&torn, torn.segment.data, torn.segment.len, &torn.new_mark);
    expect_cut(&torn, torn.segment.len, torn.segment.len, torn.before_offset + 4, 0);
    torn_teardown(&torn);
}

/* The same without any mark: then only the structure can be relied on. */
static void test_cut_without_mark(void **state)
{
    (void)state;
    struct torn_log torn;
    torn_setup(&torn, 1, 4);
    for (uint64_t len = torn.before_bytes; len < torn.segment.len; len += 13) {
        torn_place(&torn, torn.segment.data, len, NULL);
        expect_cut(&torn, len, torn.before_bytes, torn.before_offset, whole_records(&torn, len));
    }
    torn_teardown(&torn);
}

/* The file has its length, but blocks of the last append never reached the disk. */
static void test_blocks_missing(void **state)
{
    (void)state;
    struct torn_log torn;
    torn_setup(&torn, 1, 4);
    char *bytes = cairn_malloc(torn.segment.len);
    for (uint64_t from = torn.before_bytes; from < torn.segment.len; from += 8) {
        uint64_t upto = from + 64 < torn.segment.len ? from + 64 : torn.segment.len;
        memcpy(bytes, torn.segment.data, torn.segment.len);
        memset(bytes + from, 0, upto - from);
        bool last_hole = memcmp(bytes, torn.segment.data, torn.segment.len) == 0;
        assert_false(last_hole);
        torn_place(&torn, bytes, torn.segment.len, &torn.old_mark);
        struct cairn_log *log;
        struct cairn_log_recovery recovery;
        assert_int_equal(fixture_open_with(&torn.fixture, NULL, 0, &log, &recovery, NULL), 0);
        assert_int_equal(recovery.torn_bytes, torn.segment.len - torn.before_bytes);
        assert_int_equal(fixture_read_all(log), torn.before_offset);
        cairn_log_close(&log);
        torn_place(&torn, bytes, torn.segment.len, &torn.new_mark);
        expect_refused(&torn, "flipped");
    }
    free(bytes);
    torn_teardown(&torn);
}

/* An append of several batches: the whole ones before the tear stay, a whole one after it does not
 * make the tear a corruption, since blocks may reach the disk in any order. */
static void test_append_of_many_batches(void **state)
{
    (void)state;
    struct torn_log torn;
    torn_setup(&torn, 5, 2);
    char *bytes = cairn_malloc(torn.segment.len);
    uint64_t at = torn.before_bytes;
    for (uint64_t record = 0; record < 10; record++) {
        struct cairn_log_record_header header;
        assert_true(cairn_log_record_header_decode((uint8_t *)torn.segment.data + at, &header));
        memcpy(bytes, torn.segment.data, torn.segment.len);
        memset(bytes + at, 0, CAIRN_LOG_RECORD_HEADER_BYTES);
        torn_place(&torn, bytes, torn.segment.len, &torn.old_mark);
        struct cairn_log *log;
        struct cairn_log_recovery recovery;
        assert_int_equal(fixture_open_with(&torn.fixture, NULL, 0, &log, &recovery, NULL), 0);
        assert_true(recovery.torn_bytes > 0);
        assert_int_equal(recovery.torn_records, record % 2);
        assert_int_equal(fixture_read_all(log), torn.before_offset + record / 2 * 2);
        cairn_log_close(&log);
        at += cairn_log_record_bytes(header.payload_len);
    }
    free(bytes);
    torn_teardown(&torn);
}

/* After a power loss the mark may be older than the log. An append that came later proves that the
 * one before it was durable, so a hole in that one is no torn tail. */
static void test_hole_before_a_later_append(void **state)
{
    (void)state;
    struct torn_log torn;
    torn_setup(&torn, 2, 2);
    uint64_t middle = torn.segment.len;
    struct cairn_log *log = fixture_open(&torn.fixture);
    fixture_append_ok(log, 1, 3);
    cairn_log_close(&log);
    struct cairn_buf segment = fixture_read_file(&torn.fixture, FIRST_SEGMENT);
    for (uint64_t at = torn.before_bytes; at < middle; at += 8) {
        char kept = segment.data[at];
        segment.data[at] = (char)(kept ^ 0x20);
        torn_place(&torn, segment.data, segment.len, &torn.old_mark);
        expect_refused(&torn, "flipped");
        torn_place(&torn, segment.data, segment.len, NULL);
        expect_refused(&torn, "flipped");
        segment.data[at] = kept;
    }
    cairn_buf_release(&segment);
    torn_teardown(&torn);
}

/* A record that belongs elsewhere is never the trace of an interrupted write. */
static void test_stale_record_at_the_tail(void **state)
{
    (void)state;
    struct torn_log torn;
    torn_setup(&torn, 1, 1);
    char *bytes = cairn_malloc(torn.segment.len);
    memcpy(bytes, torn.segment.data, torn.segment.len);
    uint64_t room = torn.segment.len - torn.before_bytes;
    memcpy(bytes + torn.before_bytes, bytes + CAIRN_LOG_SEGMENT_HEADER_BYTES, room);
    torn_place(&torn, bytes, torn.segment.len, NULL);
    expect_refused(&torn, "misplaced");
    free(bytes);
    torn_teardown(&torn);
}

/* Killed while a segment was being started. */
static void test_torn_segment_header(void **state)
{
    (void)state;
    struct log_fixture fixture;
    fixture_setup_in_memory(&fixture, 600);
    struct cairn_log *log = fixture_open(&fixture);
    fixture_append_ok(log, 1, 5);
    struct cairn_buf old_mark = fixture_read_file(&fixture, CAIRN_LOG_MARK_NAME);
    uint64_t offset = fixture_end(log);
    fixture_append_ok(log, 1, 5); /* in a new segment */
    cairn_log_close(&log);
    char name[CAIRN_LOG_SEGMENT_NAME_BYTES];
    cairn_log_segment_name(offset + 1, name);
    struct cairn_buf segment = fixture_read_file(&fixture, name);
    struct cairn_buf new_mark = fixture_read_file(&fixture, CAIRN_LOG_MARK_NAME);
    for (size_t len = 0; len < CAIRN_LOG_SEGMENT_HEADER_BYTES; len++) {
        struct cairn_log_recovery recovery;
        struct cairn_error err = {0};
        fixture_write_file(&fixture, name, segment.data, len);
        fixture_write_file(&fixture, CAIRN_LOG_MARK_NAME, new_mark.data, new_mark.len);
        assert_int_equal(fixture_open_with(&fixture, NULL, 0, &log, &recovery, &err),
                         CAIRN_ECORRUPT);
        assert_non_null(strstr(err.message, name));
        fixture_write_file(&fixture, CAIRN_LOG_MARK_NAME, old_mark.data, old_mark.len);
        assert_int_equal(fixture_open_with(&fixture, NULL, UINT64_MAX, &log, &recovery, &err), 0);
        assert_int_equal(recovery.torn_bytes, len);
        assert_string_equal(recovery.torn_file, name);
        assert_int_equal(fixture_read_all(log), offset);
        fixture_append_ok(log, 1, 5);
        cairn_log_close(&log);
        struct cairn_buf again = fixture_read_file(&fixture, name);
        assert_int_equal(again.len, segment.len);
        cairn_buf_release(&again);
    }
    /* A header and nothing else is a segment that was started and not used. */
    fixture_write_file(&fixture, name, segment.data, CAIRN_LOG_SEGMENT_HEADER_BYTES);
    fixture_write_file(&fixture, CAIRN_LOG_MARK_NAME, old_mark.data, old_mark.len);
    log = fixture_open(&fixture);
    assert_int_equal(fixture_read_all(log), offset);
    fixture_append_ok(log, 1, 5);
    cairn_log_close(&log);
    /* Records behind a header prove that it was durable. */
    segment.data[9] ^= 1;
    fixture_write_file(&fixture, name, segment.data, segment.len);
    fixture_write_file(&fixture, CAIRN_LOG_MARK_NAME, old_mark.data, old_mark.len);
    struct cairn_error err = {0};
    assert_int_equal(fixture_open_with(&fixture, NULL, 0, &log, NULL, &err), CAIRN_ECORRUPT);
    assert_non_null(strstr(err.message, "header"));
    cairn_buf_release(&segment);
    cairn_buf_release(&old_mark);
    cairn_buf_release(&new_mark);
    fixture_teardown(&fixture);
}

/* Killed while the log was being created: it is created again. */
static void test_torn_first_segment(void **state)
{
    (void)state;
    struct log_fixture fixture;
    fixture_setup_in_memory(&fixture, 0);
    struct cairn_log *log = fixture_open(&fixture);
    cairn_log_close(&log);
    struct cairn_buf header = fixture_read_file(&fixture, FIRST_SEGMENT);
    for (size_t len = 0; len < header.len; len += 11) {
        fixture_write_file(&fixture, FIRST_SEGMENT, header.data, len);
        struct cairn_error err = {0};
        assert_int_equal(fixture_open_with(&fixture, NULL, 0, &log, NULL, &err), CAIRN_ECORRUPT);
        fixture_remove_file(&fixture, CAIRN_LOG_MARK_NAME);
        log = fixture_open(&fixture);
        fixture_append_ok(log, 1, 1);
        assert_int_equal(fixture_read_all(log), 1);
        cairn_log_close(&log);
    }
    cairn_buf_release(&header);
    fixture_teardown(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_at_every_byte),
        cmocka_unit_test(test_cut_without_mark),
        cmocka_unit_test(test_blocks_missing),
        cmocka_unit_test(test_append_of_many_batches),
        cmocka_unit_test(test_hole_before_a_later_append),
        cmocka_unit_test(test_stale_record_at_the_tail),
        cmocka_unit_test(test_torn_segment_header),
        cmocka_unit_test(test_torn_first_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
