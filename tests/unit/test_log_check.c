/* Check and repair: what they report, and that nothing is ever deleted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "featurestore/log_format.h"
#include "tests/lib/faulty_io.h"
#include "tests/lib/log_fixture.h"

#define SEGMENTS 4
#define RECORDS  (SEGMENTS * 6)

struct case_log {
    struct log_fixture fixture;
    struct fixture_snapshot files;
    char names[SEGMENTS][CAIRN_LOG_SEGMENT_NAME_BYTES];
    uint64_t bytes;
};

/* Four segments, each one append of three batches of two records. */
static void setup(struct case_log *log_case)
{
    struct cairn_log_stats stats;
    fixture_setup_in_memory(&log_case->fixture, 1);
    struct cairn_log *log = fixture_open(&log_case->fixture);
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        fixture_append_ok(log, 3, 2);
        cairn_log_segment_name(1 + 6 * i, log_case->names[i]);
    }
    cairn_log_stats(log, &stats);
    log_case->bytes = stats.bytes;
    cairn_log_close(&log);
    fixture_take(&log_case->fixture, &log_case->files);
}

static void teardown(struct case_log *log_case)
{
    fixture_snapshot_release(&log_case->files);
    fixture_teardown(&log_case->fixture);
}

static struct cairn_log_report check(struct case_log *log_case)
{
    struct cairn_log_report report;
    struct cairn_error err = {0};
    if (cairn_log_check(log_case->fixture.dir, &log_case->fixture.io, &report, &err) != 0) {
        fail_msg("%s", err.message);
    }
    return report;
}

static struct cairn_log_report repair(struct case_log *log_case)
{
    struct cairn_log_report report;
    struct cairn_error err = {0};
    if (cairn_log_repair(log_case->fixture.dir, &log_case->fixture.io, &report, &err) != 0) {
        fail_msg("%s", err.message);
    }
    return report;
}

/* Where record `offset` starts in its segment; its segment's index in *index. */
static uint64_t position(uint64_t offset, uint32_t *index)
{
    *index = (uint32_t)((offset - 1) / 6);
    uint64_t at = CAIRN_LOG_SEGMENT_HEADER_BYTES;
    for (uint64_t i = 1 + 6 * *index; i < offset; i++) {
        at += cairn_log_record_bytes(fixture_entry(i).payload.len);
    }
    return at;
}

static void damage_record(struct case_log *log_case, uint64_t offset)
{
    uint32_t index;
    uint64_t at = position(offset, &index);
    struct cairn_buf bytes = fixture_read_file(&log_case->fixture, log_case->names[index]);
    bytes.data[at + 20] ^= 4;
    fixture_write_file(&log_case->fixture, log_case->names[index], bytes.data, bytes.len);
    cairn_buf_release(&bytes);
}

/* After a repair: no damage, `kept` records, appends go on, and again after a reopen. */
static void expect_repaired(struct case_log *log_case, uint64_t kept)
{
    struct cairn_log_report report = check(log_case);
    assert_int_equal(report.finding.damage, CAIRN_DAMAGE_NONE);
    assert_int_equal(report.last_offset, kept);
    assert_int_equal(report.lost_last_offset, 0);
    for (int i = 0; i < 2; i++) {
        struct cairn_log *log = fixture_open(&log_case->fixture);
        assert_int_equal(fixture_read_all(log), kept + (uint64_t)i * 2);
        fixture_append_ok(log, 1, 2);
        cairn_log_close(&log);
    }
    report = repair(log_case); /* nothing to do */
    assert_int_equal(report.finding.damage, CAIRN_DAMAGE_NONE);
    assert_string_equal(report.set_aside, "");
}

static void test_nothing_wrong(void **state)
{
    (void)state;
    struct case_log log_case;
    setup(&log_case);
    struct cairn_log_report report = check(&log_case);
    assert_int_equal(report.finding.damage, CAIRN_DAMAGE_NONE);
    assert_string_equal(report.finding.file, "");
    assert_int_equal(report.first_offset, 1);
    assert_int_equal(report.last_offset, RECORDS);
    assert_int_equal(report.records, RECORDS);
    assert_int_equal(report.batches, RECORDS / 2);
    assert_int_equal(report.bytes, log_case.bytes);
    assert_int_equal(report.segments_count, SEGMENTS);
    assert_int_equal(report.durable_offset, RECORDS);
    assert_int_equal(report.readable_after, 0);
    assert_int_equal(report.lost_first_offset, 0);
    assert_int_equal(report.lost_last_offset, 0);
    report = repair(&log_case);
    assert_int_equal(report.last_offset, RECORDS);
    assert_string_equal(report.set_aside, "");
    struct fixture_snapshot after;
    fixture_take(&log_case.fixture, &after);
    assert_int_equal(after.count, log_case.files.count);
    for (uint32_t i = 0; i < after.count; i++) {
        const struct cairn_buf *before =
            fixture_snapshot_file(&log_case.files, after.files[i].name);
        assert_int_equal(before->len, after.files[i].bytes.len);
        assert_memory_equal(before->data, after.files[i].bytes.data, before->len);
    }
    fixture_snapshot_release(&after);
    teardown(&log_case);
}

static void test_directories(void **state)
{
    (void)state;
    struct log_fixture fixture;
    struct cairn_log_report report;
    struct cairn_error err = {0};
    fixture_setup(&fixture, 0);
    assert_int_equal(cairn_log_check(fixture.dir, &fixture.io, &report, &err), CAIRN_EIO);
    assert_int_equal(cairn_log_repair(fixture.dir, &fixture.io, &report, &err), CAIRN_EIO);
    assert_int_equal(fixture.io.mkdir(fixture.io.context, fixture.dir), 0);
    assert_int_equal(cairn_log_check(fixture.dir, &fixture.io, &report, &err), 0);
    assert_int_equal(report.finding.damage, CAIRN_DAMAGE_NONE);
    assert_int_equal(report.segments_count, 0);
    assert_int_equal(report.first_offset, 0);
    assert_int_equal(report.last_offset, 0);
    /* Names that are not ours are left alone. */
    static const char *const names[] = {"1.seg", "00000000000000000001.segx", "notes.txt",
                                        "99999999999999999999.seg", "0000000000000000000x.seg"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        fixture_write_file(&fixture, names[i], "x", 1);
    }
    struct cairn_log *log = fixture_open(&fixture);
    fixture_append_ok(log, 1, 1);
    cairn_log_close(&log);
    assert_int_equal(cairn_log_check(fixture.dir, &fixture.io, &report, &err), 0);
    assert_int_equal(report.finding.damage, CAIRN_DAMAGE_NONE);
    assert_int_equal(report.segments_count, 1);
    assert_int_equal(report.last_offset, 1);
    fixture_teardown(&fixture);
}

/* Damage every record in turn: the batches before it stay, the bytes from there on are set aside
 * and can be put together again. */
static void test_damage_at_each_record(void **state)
{
    (void)state;
    struct case_log log_case;
    setup(&log_case);
    for (uint64_t offset = 1; offset <= RECORDS; offset++) {
        uint32_t index, keep_index;
        damage_record(&log_case, offset);
        uint64_t at = position(offset, &index);
        uint64_t kept = (offset - 1) / 2 * 2;
        uint64_t keep_at = position(kept + 1, &keep_index);
        struct cairn_log_report report = check(&log_case);
        assert_int_equal(report.finding.damage, CAIRN_DAMAGE_FLIPPED);
        assert_string_equal(report.finding.file, log_case.names[index]);
        assert_int_equal(report.finding.byte, at);
        assert_int_equal(report.finding.offset, offset);
        assert_int_equal(report.last_offset, kept);
        assert_int_equal(report.first_offset, kept > 0 ? 1 : 0);
        assert_int_equal(report.readable_after, RECORDS - kept - 1);
        assert_int_equal(report.lost_first_offset, kept + 1);
        assert_int_equal(report.lost_last_offset, RECORDS);
        struct cairn_buf damaged = fixture_read_file(&log_case.fixture, log_case.names[index]);

        report = repair(&log_case);
        assert_int_equal(report.finding.damage, CAIRN_DAMAGE_FLIPPED);
        assert_int_equal(strncmp(report.set_aside, "damaged-", 8), 0);
        assert_int_equal(fixture_file_size(&log_case.fixture, log_case.names[index]), keep_at);
        char name[160];
        snprintf(name, sizeof(name), "%s/%s.from-%llu", report.set_aside, log_case.names[index],
                 (unsigned long long)keep_at);
        struct cairn_buf end = fixture_read_file(&log_case.fixture, name);
        assert_int_equal(end.len, damaged.len - keep_at);
        assert_memory_equal(end.data, damaged.data + keep_at, end.len);
        for (uint32_t i = index + 1; i < SEGMENTS; i++) {
            assert_false(fixture_has_file(&log_case.fixture, log_case.names[i]));
            snprintf(name, sizeof(name), "%s/%s", report.set_aside, log_case.names[i]);
            const struct cairn_buf *before =
                fixture_snapshot_file(&log_case.files, log_case.names[i]);
            struct cairn_buf moved = fixture_read_file(&log_case.fixture, name);
            assert_int_equal(moved.len, before->len);
            assert_memory_equal(moved.data, before->data, moved.len);
            cairn_buf_release(&moved);
        }
        cairn_buf_release(&end);
        cairn_buf_release(&damaged);
        expect_repaired(&log_case, kept);
        fixture_put_back(&log_case.fixture, &log_case.files);
    }
    teardown(&log_case);
}

static void test_damaged_header(void **state)
{
    (void)state;
    struct case_log log_case;
    setup(&log_case);
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        struct cairn_buf bytes = fixture_read_file(&log_case.fixture, log_case.names[i]);
        bytes.data[30] ^= 1;
        fixture_write_file(&log_case.fixture, log_case.names[i], bytes.data, bytes.len);
        struct cairn_log_report report = repair(&log_case);
        assert_int_equal(report.finding.damage, CAIRN_DAMAGE_HEADER);
        assert_int_equal(report.finding.offset, 1 + 6 * i);
        assert_int_equal(report.readable_after, RECORDS - 6 * i);
        assert_int_equal(report.lost_first_offset, 1 + 6 * i);
        assert_int_equal(report.lost_last_offset, RECORDS);
        char name[160];
        snprintf(name, sizeof(name), "%s/%s", report.set_aside, log_case.names[i]);
        struct cairn_buf moved = fixture_read_file(&log_case.fixture, name);
        assert_int_equal(moved.len, bytes.len);
        assert_memory_equal(moved.data, bytes.data, moved.len);
        expect_repaired(&log_case, 6 * i);
        cairn_buf_release(&moved);
        cairn_buf_release(&bytes);
        fixture_put_back(&log_case.fixture, &log_case.files);
    }
    teardown(&log_case);
}

static void test_missing_segments(void **state)
{
    (void)state;
    struct case_log log_case;
    setup(&log_case);
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        fixture_remove_file(&log_case.fixture, log_case.names[i]);
        struct cairn_log_report report = repair(&log_case);
        assert_int_equal(report.finding.damage, CAIRN_DAMAGE_MISSING);
        assert_string_equal(report.finding.file, log_case.names[i]);
        assert_int_equal(report.readable_after, RECORDS - 6 * (i + 1));
        assert_int_equal(report.lost_first_offset, 1 + 6 * i);
        assert_int_equal(report.lost_last_offset, RECORDS);
        expect_repaired(&log_case, 6 * i);
        fixture_put_back(&log_case.fixture, &log_case.files);
    }
    teardown(&log_case);
}

/* Records that the mark promises are gone: nothing to move but the mark, and the loss is said. */
static void test_durable_loss_at_the_end(void **state)
{
    (void)state;
    struct case_log log_case;
    setup(&log_case);
    const char *last = log_case.names[SEGMENTS - 1];
    const struct cairn_buf *whole = fixture_snapshot_file(&log_case.files, last);
    uint32_t index;
    uint64_t at = position(RECORDS - 1, &index);
    fixture_write_file(&log_case.fixture, last, whole->data, at);
    struct cairn_log_report report = repair(&log_case);
    assert_int_equal(report.finding.damage, CAIRN_DAMAGE_CUT);
    assert_int_equal(report.finding.byte, at);
    assert_int_equal(report.lost_first_offset, RECORDS - 1);
    assert_int_equal(report.lost_last_offset, RECORDS);
    assert_int_equal(report.durable_offset, RECORDS);
    char name[160];
    snprintf(name, sizeof(name), "%s/%s", report.set_aside, CAIRN_LOG_MARK_NAME);
    assert_true(fixture_has_file(&log_case.fixture, name));
    expect_repaired(&log_case, RECORDS - 2);
    teardown(&log_case);
}

/* A torn tail is no loss; repair sets its bytes aside, where open would drop them. */
static void test_torn_tail(void **state)
{
    (void)state;
    struct case_log log_case;
    setup(&log_case);
    const char *last = log_case.names[SEGMENTS - 1];
    struct cairn_buf bytes = fixture_read_file(&log_case.fixture, last);
    cairn_buf_append(&bytes, "torn", 4);
    fixture_write_file(&log_case.fixture, last, bytes.data, bytes.len);
    struct cairn_log_report report = check(&log_case);
    assert_int_equal(report.finding.damage, CAIRN_DAMAGE_TORN_TAIL);
    assert_int_equal(report.finding.byte, bytes.len - 4);
    assert_int_equal(report.last_offset, RECORDS);
    assert_int_equal(report.lost_last_offset, 0);
    report = repair(&log_case);
    char name[160];
    snprintf(name, sizeof(name), "%s/%s.from-%zu", report.set_aside, last, bytes.len - 4);
    struct cairn_buf torn = fixture_read_file(&log_case.fixture, name);
    assert_int_equal(torn.len, 4);
    assert_memory_equal(torn.data, "torn", 4);
    expect_repaired(&log_case, RECORDS);
    cairn_buf_release(&torn);
    cairn_buf_release(&bytes);
    teardown(&log_case);
}

static void test_foreign_mark(void **state)
{
    (void)state;
    struct case_log log_case, other;
    setup(&log_case);
    setup(&other);
    const struct cairn_buf *mark = fixture_snapshot_file(&other.files, CAIRN_LOG_MARK_NAME);
    fixture_write_file(&log_case.fixture, CAIRN_LOG_MARK_NAME, mark->data, mark->len);
    struct cairn_log_report report = repair(&log_case);
    assert_int_equal(report.finding.damage, CAIRN_DAMAGE_MISPLACED);
    assert_string_equal(report.finding.file, CAIRN_LOG_MARK_NAME);
    assert_int_equal(report.durable_offset, 0);
    expect_repaired(&log_case, RECORDS);
    teardown(&other);
    teardown(&log_case);
}

/* A repair that dies at any step, and is run again, ends like one that did not. */
static void test_interrupted_repair(void **state)
{
    (void)state;
    struct case_log log_case;
    setup(&log_case);
    struct cairn_faulty *faulty = cairn_faulty_new_over(&log_case.fixture.io, 1);
    for (uint64_t offset = 1; offset <= RECORDS; offset += 5) {
        uint64_t fired;
        uint32_t after = 0;
        do {
            struct cairn_log_report report;
            struct cairn_error err = {0};
            damage_record(&log_case, offset);
            cairn_faulty_fail(faulty, CAIRN_FAULT_ANY_CHANGE, after++, CAIRN_FAULTY_FOREVER, EIO);
            int rc = cairn_log_repair(log_case.fixture.dir, cairn_faulty_io(faulty), &report, &err);
            fired = cairn_faulty_fired(faulty);
            assert_int_equal(rc, fired > 0 ? CAIRN_EIO : 0);
            assert_int_equal(cairn_faulty_open_files(faulty), 0);
            cairn_faulty_reset(faulty);
            repair(&log_case);
            expect_repaired(&log_case, (offset - 1) / 2 * 2);
            fixture_put_back(&log_case.fixture, &log_case.files);
        } while (fired > 0);
        assert_true(after > 5);
    }
    cairn_faulty_free(&faulty);
    teardown(&log_case);
}

static void test_damage_names(void **state)
{
    (void)state;
    assert_string_equal(cairn_log_damage_name(CAIRN_DAMAGE_NONE), "none");
    assert_string_equal(cairn_log_damage_name(CAIRN_DAMAGE_TORN_TAIL), "torn tail");
    assert_string_equal(cairn_log_damage_name(CAIRN_DAMAGE_MISSING), "missing");
    assert_string_equal(cairn_log_damage_name((enum cairn_log_damage)99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_wrong),
        cmocka_unit_test(test_directories),
        cmocka_unit_test(test_damage_at_each_record),
        cmocka_unit_test(test_damaged_header),
        cmocka_unit_test(test_missing_segments),
        cmocka_unit_test(test_durable_loss_at_the_end),
        cmocka_unit_test(test_torn_tail),
        cmocka_unit_test(test_foreign_mark),
        cmocka_unit_test(test_interrupted_repair),
        cmocka_unit_test(test_damage_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
