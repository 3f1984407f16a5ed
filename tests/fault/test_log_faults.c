/* Every call on the file system fails once, and once for ever (what a crash at that point leaves):
 * acknowledged records are always readable after a reopen, others are there as whole batches or not
 * at all. A full disk is survived, a failed sync is final. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "featurestore/log_format.h"
#include "tests/lib/faulty_io.h"
#include "tests/lib/log_fixture.h"

#define BATCH_RECORDS 3u

/* Open, append with roll-overs, close, twice; stop at the first failure that is not a lack of
 * space. Returns the last acknowledged offset. */
static uint64_t life(struct log_fixture *fixture, struct cairn_faulty *faulty, int *code)
{
    uint64_t acknowledged = 0;
    *code = 0;
    for (int session = 0; session < 2; session++) {
        struct cairn_log *log;
        struct cairn_error err = {0};
        int rc = fixture_open_with(fixture, cairn_faulty_io(faulty), 0, &log, NULL, &err);
        if (rc != 0) {
            assert_int_not_equal(rc, CAIRN_ECORRUPT);
            assert_null(log);
            *code = rc;
            continue;
        }
        assert_true(fixture_end(log) >= acknowledged);
        for (uint32_t i = 0; i < 6; i++) {
            uint64_t before = fixture_end(log);
            rc = fixture_append(log, 2, BATCH_RECORDS, &err);
            if (rc == 0) {
                acknowledged = fixture_end(log);
                assert_int_equal(acknowledged, before + 2 * BATCH_RECORDS);
            } else {
                *code = rc;
                assert_true(rc == CAIRN_EIO || rc == CAIRN_ENOSPACE || rc == CAIRN_ENOMEM);
                assert_true(strlen(err.message) > 0);
                if (rc == CAIRN_EIO) { /* final */
                    assert_int_equal(fixture_append(log, 1, 1, &err), CAIRN_EIO);
                }
            }
            uint64_t last;
            rc = fixture_read_some(log, &last, &err);
            assert_true(rc == CAIRN_EIO || (rc == CAIRN_EEND && last == fixture_end(log)));
        }
        cairn_log_close(&log);
    }
    assert_int_equal(cairn_faulty_open_files(faulty), 0);
    return acknowledged;
}

/* What is on disk must open, hold what was acknowledged, whole batches only, and take more. */
static void expect_recovers(struct log_fixture *fixture, uint64_t acknowledged)
{
    struct cairn_log *log = fixture_open(fixture);
    uint64_t end = fixture_read_all(log);
    assert_true(end >= acknowledged);
    assert_int_equal(end % BATCH_RECORDS, 0);
    fixture_append_ok(log, 2, BATCH_RECORDS);
    cairn_log_close(&log);
    log = fixture_open(fixture);
    assert_int_equal(fixture_read_all(log), end + 2 * BATCH_RECORDS);
    cairn_log_close(&log);
}

static void fail_each(enum cairn_fault_kind kind, uint32_t times, int err_number)
{
    for (uint32_t after = 0;; after++) {
        struct log_fixture fixture;
        fixture_setup_in_memory(&fixture, 900);
        struct cairn_faulty *faulty = cairn_faulty_new_over(&fixture.io, after);
        cairn_faulty_fail(faulty, kind, after, times, err_number);
        int code;
        uint64_t acknowledged = life(&fixture, faulty, &code);
        uint64_t fired = cairn_faulty_fired(faulty);
        cairn_faulty_free(&faulty);
        expect_recovers(&fixture, acknowledged);
        fixture_teardown(&fixture);
        if (fired == 0) {
            assert_int_equal(code, 0);
            assert_true(after > 0 || kind == CAIRN_FAULT_RENAME || kind == CAIRN_FAULT_UNLINK);
            break;
        }
    }
}

static void test_each_call_fails_once(void **state)
{
    (void)state;
    static const enum cairn_fault_kind kinds[] = {
        CAIRN_FAULT_OPEN,      CAIRN_FAULT_READ,    CAIRN_FAULT_PWRITE,   CAIRN_FAULT_PWRITEV,
        CAIRN_FAULT_FDATASYNC, CAIRN_FAULT_RESERVE, CAIRN_FAULT_TRUNCATE, CAIRN_FAULT_MKDIR,
        CAIRN_FAULT_RENAME,    CAIRN_FAULT_UNLINK,  CAIRN_FAULT_SYNC_DIR, CAIRN_FAULT_LIST,
    };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        fail_each(kinds[i], 1, EIO);
    }
}

static void test_each_call_lacks_space_once(void **state)
{
    (void)state;
    static const enum cairn_fault_kind kinds[] = {
        CAIRN_FAULT_PWRITE,   CAIRN_FAULT_PWRITEV, CAIRN_FAULT_FDATASYNC, CAIRN_FAULT_RESERVE,
        CAIRN_FAULT_TRUNCATE, CAIRN_FAULT_MKDIR,   CAIRN_FAULT_SYNC_DIR,
    };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        fail_each(kinds[i], 1, ENOSPC);
    }
}

static void test_crash_at_each_change(void **state)
{
    (void)state;
    fail_each(CAIRN_FAULT_ANY_CHANGE, CAIRN_FAULTY_FOREVER, EIO);
    fail_each(CAIRN_FAULT_ANY_CHANGE, CAIRN_FAULTY_FOREVER, ENOSPC);
}

/* Each write in turn is torn after some bytes, and nothing is written after it. */
static void test_torn_writes(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 8, 60, 71, 72, 73, 88, 150, 300, 500};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        for (uint32_t after = 0;; after++) {
            struct log_fixture fixture;
            fixture_setup_in_memory(&fixture, 900);
            struct cairn_faulty *faulty = cairn_faulty_new_over(&fixture.io, after);
            cairn_faulty_tear(faulty, after, lengths[i], EIO);
            cairn_faulty_fail(faulty, CAIRN_FAULT_ANY_WRITE, after + 1, CAIRN_FAULTY_FOREVER, EIO);
            int code;
            uint64_t acknowledged = life(&fixture, faulty, &code);
            uint64_t fired = cairn_faulty_fired(faulty);
            cairn_faulty_free(&faulty);
            expect_recovers(&fixture, acknowledged);
            fixture_teardown(&fixture);
            if (fired == 0) {
                break;
            }
        }
    }
}

static void test_short_writes_and_reads(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 7, 72, 1000};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        struct log_fixture fixture;
        fixture_setup_in_memory(&fixture, 900);
        struct cairn_faulty *faulty = cairn_faulty_new_over(&fixture.io, i);
        cairn_faulty_shorten_writes(faulty, lengths[i]);
        cairn_faulty_shorten_reads(faulty, lengths[i]);
        int code;
        assert_int_equal(life(&fixture, faulty, &code), 12 * 2 * BATCH_RECORDS);
        assert_int_equal(code, 0);
        cairn_faulty_free(&faulty);
        expect_recovers(&fixture, 12 * 2 * BATCH_RECORDS);
        fixture_teardown(&fixture);
    }
}

/* Every reading call of an open and of a cursor fails: an error, never a verdict of damage. */
static void test_reads_fail(void **state)
{
    (void)state;
    struct log_fixture fixture;
    fixture_setup_in_memory(&fixture, 900);
    struct cairn_log *log = fixture_open(&fixture);
    for (int i = 0; i < 5; i++) {
        fixture_append_ok(log, 2, BATCH_RECORDS);
    }
    cairn_log_close(&log);
    struct cairn_faulty *faulty = cairn_faulty_new_over(&fixture.io, 1);
    static const enum cairn_fault_kind kinds[] = {CAIRN_FAULT_READ, CAIRN_FAULT_OPEN,
                                                  CAIRN_FAULT_LIST};
    for (size_t i = 0; i < 3; i++) {
        uint64_t fired;
        uint32_t after = 0;
        do {
            struct cairn_error err = {0};
            uint64_t last;
            cairn_faulty_fail(faulty, kinds[i], after++, 1, EIO);
            int rc = fixture_open_with(&fixture, cairn_faulty_io(faulty), 0, &log, NULL, &err);
            if (rc == 0) {
                rc = fixture_read_some(log, &last, &err);
                assert_true(rc == CAIRN_EEND || rc == CAIRN_EIO);
            } else {
                assert_int_equal(rc, CAIRN_EIO);
            }
            cairn_log_close(&log);
            assert_int_equal(cairn_faulty_open_files(faulty), 0);
            fired = cairn_faulty_fired(faulty);
            cairn_faulty_reset(faulty);
        } while (fired > 0);
        log = fixture_open(&fixture); /* no harm was done */
        assert_int_equal(fixture_read_all(log), 10 * BATCH_RECORDS);
        cairn_log_close(&log);
    }
    cairn_faulty_free(&faulty);
    fixture_teardown(&fixture);
}

/* A disk with room for so and so many bytes: the log refuses, stays readable, and goes on when
 * there is space again, with nothing of the refused appends in it. */
static void test_full_disk(void **state)
{
    (void)state;
    for (uint64_t room = 0; room < 3000; room += 41) {
        struct log_fixture fixture;
        struct cairn_error err = {0};
        struct cairn_log *log;
        fixture_setup_in_memory(&fixture, 1500);
        struct cairn_faulty *faulty = cairn_faulty_new_over(&fixture.io, room);
        assert_int_equal(fixture_open_with(&fixture, cairn_faulty_io(faulty), 0, &log, NULL, &err),
                         0);
        cairn_faulty_fill_disk(faulty, room);
        int rc;
        while ((rc = fixture_append(log, 1, BATCH_RECORDS, &err)) == 0) {
        }
        assert_int_equal(rc, CAIRN_ENOSPACE);
        uint64_t end = fixture_end(log);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(fixture_append(log, 2, BATCH_RECORDS, &err), CAIRN_ENOSPACE);
            assert_int_equal(fixture_read_all(log), end);
        }
        cairn_faulty_free_disk(faulty);
        fixture_append_ok(log, 2, BATCH_RECORDS);
        end += 2 * BATCH_RECORDS;
        assert_int_equal(fixture_read_all(log), end);
        /* Full again, closed and opened while full: reads go on. */
        cairn_faulty_fill_disk(faulty, 0);
        assert_int_equal(fixture_append(log, 2, BATCH_RECORDS, &err), CAIRN_ENOSPACE);
        cairn_log_close(&log);
        assert_int_equal(fixture_open_with(&fixture, cairn_faulty_io(faulty), 0, &log, NULL, &err),
                         0);
        assert_int_equal(fixture_read_all(log), end);
        assert_int_equal(fixture_append(log, 1, 1, &err), CAIRN_ENOSPACE);
        cairn_log_close(&log);
        cairn_faulty_free(&faulty);
        expect_recovers(&fixture, end);
        fixture_teardown(&fixture);
    }
}

/* The disk fills between the reservation and the write. */
static void test_no_space_in_the_write(void **state)
{
    (void)state;
    struct log_fixture fixture;
    struct cairn_error err = {0};
    struct cairn_log *log;
    fixture_setup_in_memory(&fixture, 0);
    struct cairn_faulty *faulty = cairn_faulty_new_over(&fixture.io, 1);
    assert_int_equal(fixture_open_with(&fixture, cairn_faulty_io(faulty), 0, &log, NULL, &err), 0);
    fixture_append_ok(log, 1, BATCH_RECORDS);
    uint64_t size = fixture_file_size(&fixture, "00000000000000000001.seg");
    cairn_faulty_tear(faulty, 0, 100, ENOSPC);
    assert_int_equal(fixture_append(log, 2, BATCH_RECORDS, &err), CAIRN_ENOSPACE);
    assert_int_equal(fixture_file_size(&fixture, "00000000000000000001.seg"), size);
    fixture_append_ok(log, 2, BATCH_RECORDS);
    /* And what was written cannot be taken back. */
    cairn_faulty_tear(faulty, 0, 100, ENOSPC);
    cairn_faulty_fail(faulty, CAIRN_FAULT_TRUNCATE, 0, 1, EIO);
    assert_int_equal(fixture_append(log, 2, BATCH_RECORDS, &err), CAIRN_EIO);
    assert_int_equal(fixture_append(log, 2, BATCH_RECORDS, &err), CAIRN_EIO);
    assert_int_equal(fixture_read_all(log), 3 * BATCH_RECORDS);
    cairn_log_close(&log);
    cairn_faulty_free(&faulty);
    expect_recovers(&fixture, 3 * BATCH_RECORDS);
    fixture_teardown(&fixture);
}

static void test_failed_sync_is_final(void **state)
{
    (void)state;
    struct log_fixture fixture;
    struct cairn_error err = {0};
    struct cairn_log *log;
    fixture_setup_in_memory(&fixture, 0);
    struct cairn_faulty *faulty = cairn_faulty_new_over(&fixture.io, 1);
    assert_int_equal(fixture_open_with(&fixture, cairn_faulty_io(faulty), 0, &log, NULL, &err), 0);
    fixture_append_ok(log, 1, BATCH_RECORDS);
    cairn_faulty_fail(faulty, CAIRN_FAULT_FDATASYNC, 0, 1, EIO);
    assert_int_equal(fixture_append(log, 1, BATCH_RECORDS, &err), CAIRN_EIO);
    cairn_faulty_reset(faulty);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fixture_append(log, 1, BATCH_RECORDS, &err), CAIRN_EIO);
        assert_non_null(strstr(err.message, "cannot sync"));
        assert_non_null(strstr(err.message, "reopened"));
    }
    assert_int_equal(cairn_faulty_calls(faulty, CAIRN_FAULT_ANY_CHANGE), 0);
    assert_int_equal(fixture_read_all(log), BATCH_RECORDS);
    cairn_log_close(&log);
    /* The batch is in the file, but whether on the disk nobody knows: open writes it again. */
    cairn_faulty_reset(faulty);
    assert_int_equal(fixture_open_with(&fixture, cairn_faulty_io(faulty), 0, &log, NULL, &err), 0);
    assert_true(cairn_faulty_bytes_written(faulty) > BATCH_RECORDS * 72);
    assert_int_equal(cairn_faulty_calls(faulty, CAIRN_FAULT_FDATASYNC), 1);
    assert_int_equal(fixture_read_all(log), 2 * BATCH_RECORDS);
    cairn_log_close(&log);
    /* The next open finds the mark at the end and has nothing to sync. */
    cairn_faulty_reset(faulty);
    assert_int_equal(fixture_open_with(&fixture, cairn_faulty_io(faulty), 0, &log, NULL, &err), 0);
    assert_int_equal(cairn_faulty_calls(faulty, CAIRN_FAULT_FDATASYNC), 0);
    cairn_log_close(&log);
    cairn_faulty_free(&faulty);
    fixture_teardown(&fixture);
}

/* Without descriptors the roll-over fails, and succeeds once there are some. */
static void test_no_descriptors(void **state)
{
    (void)state;
    struct log_fixture fixture;
    struct cairn_error err = {0};
    struct cairn_log *log;
    fixture_setup_in_memory(&fixture, 1);
    struct cairn_faulty *faulty = cairn_faulty_new_over(&fixture.io, 1);
    assert_int_equal(fixture_open_with(&fixture, cairn_faulty_io(faulty), 0, &log, NULL, &err), 0);
    fixture_append_ok(log, 1, BATCH_RECORDS);
    cairn_faulty_fail(faulty, CAIRN_FAULT_OPEN, 0, 2, EMFILE);
    assert_int_equal(fixture_append(log, 1, BATCH_RECORDS, &err), CAIRN_ENOMEM);
    assert_int_equal(fixture_append(log, 1, BATCH_RECORDS, &err), CAIRN_ENOMEM);
    fixture_append_ok(log, 1, BATCH_RECORDS);
    assert_int_equal(fixture_read_all(log), 2 * BATCH_RECORDS);
    cairn_log_close(&log);
    cairn_faulty_free(&faulty);
    fixture_teardown(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_call_fails_once),
        cmocka_unit_test(test_each_call_lacks_space_once),
        cmocka_unit_test(test_crash_at_each_change),
        cmocka_unit_test(test_torn_writes),
        cmocka_unit_test(test_short_writes_and_reads),
        cmocka_unit_test(test_reads_fail),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_no_space_in_the_write),
        cmocka_unit_test(test_failed_sync_is_final),
        cmocka_unit_test(test_no_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
