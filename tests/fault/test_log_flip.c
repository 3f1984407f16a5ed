/* One flipped bit at every byte of a small log of several segments: found by check and by open, and
 * never handed out by a cursor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "featurestore/log_format.h"
#include "tests/lib/log_fixture.h"

static void build(struct log_fixture *fixture, struct fixture_snapshot *files)
{
    fixture_setup_in_memory(fixture, 900);
    struct cairn_log *log = fixture_open(fixture);
    for (uint32_t i = 0; i < 4; i++) {
        fixture_append_ok(log, 2, 2);
        fixture_append_ok(log, 1, 1);
    }
    struct cairn_log_stats stats;
    cairn_log_stats(log, &stats);
    assert_in_range(stats.segments_count, 3, 8);
    cairn_log_close(&log);
    fixture_take(fixture, files);
}

static void flip(struct cairn_buf *bytes, size_t at)
{
    bytes->data[at] = (char)(bytes->data[at] ^ (1 << (at * 5 % 8)));
}

static bool is_segment(const char *name)
{
    uint64_t first;
    return cairn_log_segment_name_parse(name, &first);
}

static void expect_found(struct log_fixture *fixture, const char *name, size_t at)
{
    struct cairn_log_report report;
    struct cairn_error err = {0};
    struct cairn_log *log;
    assert_int_equal(cairn_log_check(fixture->dir, &fixture->io, &report, &err), 0);
    assert_int_not_equal(report.finding.damage, CAIRN_DAMAGE_NONE);
    assert_int_not_equal(report.finding.damage, CAIRN_DAMAGE_TORN_TAIL);
    assert_string_equal(report.finding.file, name);
    assert_true(report.finding.byte <= at);
    assert_true(report.last_offset < 20);
    assert_int_equal(report.lost_first_offset, report.last_offset + 1);
    assert_int_equal(report.lost_last_offset, 20);
    assert_int_equal(report.durable_offset, 20);
    assert_int_equal(fixture_open_with(fixture, NULL, 0, &log, NULL, &err), CAIRN_ECORRUPT);
    assert_non_null(strstr(err.message, name));
}

static void test_every_byte_of_every_segment(void **state)
{
    (void)state;
    struct log_fixture fixture;
    struct fixture_snapshot files;
    build(&fixture, &files);
    for (uint32_t i = 0; i < files.count; i++) {
        struct cairn_buf *bytes = &files.files[i].bytes;
        const char *name = files.files[i].name;
        for (size_t at = 0; is_segment(name) && at < bytes->len; at++) {
            flip(bytes, at);
            fixture_write_file(&fixture, name, bytes->data, bytes->len);
            expect_found(&fixture, name, at);
            flip(bytes, at);
        }
        fixture_write_file(&fixture, name, bytes->data, bytes->len);
    }
    fixture_snapshot_release(&files);
    fixture_teardown(&fixture);
}

/* A damaged mark does no harm: the other slot or the segments alone are enough. */
static void test_every_byte_of_the_mark(void **state)
{
    (void)state;
    struct log_fixture fixture;
    struct fixture_snapshot files;
    build(&fixture, &files);
    struct cairn_buf mark = fixture_read_file(&fixture, CAIRN_LOG_MARK_NAME);
    assert_int_equal(mark.len, CAIRN_LOG_MARK_SLOT_STEP + CAIRN_LOG_MARK_BYTES);
    for (size_t at = 0; at < mark.len; at++) {
        if (at == CAIRN_LOG_MARK_BYTES) {
            at = CAIRN_LOG_MARK_SLOT_STEP;
        }
        flip(&mark, at);
        fixture_write_file(&fixture, CAIRN_LOG_MARK_NAME, mark.data, mark.len);
        struct cairn_log_report report;
        assert_int_equal(cairn_log_check(fixture.dir, &fixture.io, &report, NULL), 0);
        assert_int_equal(report.finding.damage, CAIRN_DAMAGE_NONE);
        struct cairn_log *log = fixture_open(&fixture);
        assert_int_equal(fixture_read_all(log), 20);
        cairn_log_close(&log);
        flip(&mark, at);
    }
    cairn_buf_release(&mark);
    fixture_snapshot_release(&files);
    fixture_teardown(&fixture);
}

/* Bits that flip under an open log, and in segments that open trusts: a cursor hands out the true
 * records before the damage and then says so, every time it is asked. */
static void test_under_a_cursor(void **state)
{
    (void)state;
    struct log_fixture fixture;
    struct fixture_snapshot files;
    build(&fixture, &files);
    struct cairn_log *log;
    assert_int_equal(fixture_open_with(&fixture, NULL, 20, &log, NULL, NULL), 0);
    for (uint32_t i = 0; i < files.count; i++) {
        struct cairn_buf *bytes = &files.files[i].bytes;
        const char *name = files.files[i].name;
        size_t at = CAIRN_LOG_SEGMENT_HEADER_BYTES; /* which a cursor does not read */
        for (; is_segment(name) && at < bytes->len; at++) {
            struct cairn_error err = {0};
            uint64_t last;
            flip(bytes, at);
            fixture_write_file(&fixture, name, bytes->data, bytes->len);
            assert_int_equal(fixture_read_some(log, &last, &err), CAIRN_ECORRUPT);
            assert_non_null(strstr(err.message, name));
            flip(bytes, at);
        }
        fixture_write_file(&fixture, name, bytes->data, bytes->len);
    }
    assert_int_equal(fixture_read_all(log), 20);
    cairn_log_close(&log);
    fixture_snapshot_release(&files);
    fixture_teardown(&fixture);
}

static bool wants_others(void *context, const struct cairn_log_record *record)
{
    const uint64_t *offset = context;
    return record->offset != *offset;
}

/* Read a range to its end, or to the damage at `offset`. */
static int read_range(struct cairn_log *log, const struct cairn_log_range *range, uint64_t *passed)
{
    struct cairn_log_cursor *cursor;
    struct cairn_log_record record;
    assert_int_equal(cairn_log_cursor_open(log, range, &cursor, NULL), 0);
    int rc;
    while ((rc = cairn_log_cursor_next(cursor, &record, NULL)) == 0) {
        fixture_assert_record(&record, record.offset);
    }
    *passed = cairn_log_cursor_offset(cursor);
    assert_int_equal(cairn_log_cursor_next(cursor, &record, NULL), rc);
    assert_int_equal(cairn_log_cursor_offset(cursor), *passed);
    cairn_log_cursor_close(&cursor);
    return rc;
}

/* A payload of one collection does not keep a reader from the records of another, nor one that it
 * does not want from the rest. */
static void test_other_collections_stay_readable(void **state)
{
    (void)state;
    struct log_fixture fixture;
    struct fixture_snapshot files;
    build(&fixture, &files);
    struct cairn_log *log = fixture_open(&fixture);
    uint64_t offset = 1;
    while (fixture_entry(offset).payload.len == 0) {
        offset++;
    }
    const char *name = "00000000000000000001.seg";
    struct cairn_buf bytes = fixture_read_file(&fixture, name);
    uint64_t at = CAIRN_LOG_SEGMENT_HEADER_BYTES;
    for (uint64_t i = 1; i < offset; i++) {
        at += cairn_log_record_bytes(fixture_entry(i).payload.len);
    }
    flip(&bytes, at + CAIRN_LOG_RECORD_HEADER_BYTES);
    fixture_write_file(&fixture, name, bytes.data, bytes.len);
    uint64_t passed;
    for (uint32_t collection = 1; collection <= FIXTURE_COLLECTIONS; collection++) {
        struct cairn_log_range range = {.collection = collection};
        bool hit = collection == fixture_entry(offset).collection;
        assert_int_equal(read_range(log, &range, &passed), hit ? CAIRN_ECORRUPT : CAIRN_EEND);
        assert_int_equal(passed, hit ? offset - 1 : fixture_end(log));
    }
    struct cairn_log_range range = {.wants = wants_others, .wants_context = &offset};
    assert_int_equal(read_range(log, &range, &passed), CAIRN_EEND);
    assert_int_equal(passed, fixture_end(log));
    cairn_log_close(&log);
    cairn_buf_release(&bytes);
    fixture_snapshot_release(&files);
    fixture_teardown(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_byte_of_every_segment),
        cmocka_unit_test(test_every_byte_of_the_mark),
        cmocka_unit_test(test_under_a_cursor),
        cmocka_unit_test(test_other_collections_stay_readable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
