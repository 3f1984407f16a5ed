/* Valid bytes in the wrong place: misdirected and stale blocks, stale, foreign, missing and cut
 * segments. All of them leave checksums intact. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "featurestore/log_format.h"
#include "tests/lib/log_fixture.h"

#define SEGMENTS 5

struct case_log {
    struct log_fixture fixture;
    struct fixture_snapshot files;
    char names[SEGMENTS][CAIRN_LOG_SEGMENT_NAME_BYTES];
    uint64_t firsts[SEGMENTS];
};

/* Five segments of two appends of four records each. */
static void setup(struct case_log *log_case)
{
    fixture_setup_in_memory(&log_case->fixture, 1);
    struct cairn_log *log = fixture_open(&log_case->fixture);
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        log_case->firsts[i] = 1 + 4 * i;
        cairn_log_segment_name(log_case->firsts[i], log_case->names[i]);
        fixture_append_ok(log, 2, 2);
    }
    cairn_log_close(&log);
    fixture_take(&log_case->fixture, &log_case->files);
    assert_int_equal(log_case->files.count, SEGMENTS + 1);
}

static void teardown(struct case_log *log_case)
{
    fixture_snapshot_release(&log_case->files);
    fixture_teardown(&log_case->fixture);
}

static const struct cairn_buf *segment(const struct case_log *log_case, uint32_t index)
{
    return fixture_snapshot_file(&log_case->files, log_case->names[index]);
}

/* Check and open must both find this damage, whether open trusts the sealed segments or not (if
 * `trusted_too`), and the mark must not be needed for it (if `without_mark`). */
static void expect(struct case_log *log_case, enum cairn_log_damage damage, const char *file,
                   uint64_t offset, bool trusted_too, bool without_mark)
{
    struct log_fixture *fixture = &log_case->fixture;
    for (int round = 0; round < (without_mark ? 2 : 1); round++) {
        struct cairn_log_report report;
        struct cairn_error err = {0};
        struct cairn_log *log;
        assert_int_equal(cairn_log_check(fixture->dir, &fixture->io, &report, &err), 0);
        assert_int_equal(report.finding.damage, damage);
        assert_string_equal(report.finding.file, file);
        assert_int_equal(report.finding.offset, offset);
        assert_int_equal(fixture_open_with(fixture, NULL, 0, &log, NULL, &err), CAIRN_ECORRUPT);
        assert_non_null(strstr(err.message, file));
        assert_non_null(strstr(err.message, cairn_log_damage_name(damage)));
        int rc = fixture_open_with(fixture, NULL, UINT64_MAX, &log, NULL, &err);
        assert_int_equal(rc, trusted_too ? CAIRN_ECORRUPT : 0);
        cairn_log_close(&log);
        if (round == 0 && without_mark) {
            fixture_remove_file(fixture, CAIRN_LOG_MARK_NAME);
        }
    }
    fixture_put_back(fixture, &log_case->files);
}

static void put(struct case_log *log_case, uint32_t index, const void *bytes, size_t len)
{
    fixture_write_file(&log_case->fixture, log_case->names[index], bytes, len);
}

/* A block of one segment lands in another. */
static void test_misdirected_block(void **state)
{
    (void)state;
    struct case_log log_case;
    setup(&log_case);
    for (uint32_t to = 0; to < SEGMENTS; to++) {
        for (uint32_t from = 0; from < SEGMENTS; from++) {
            if (from == to) {
                continue;
            }
            const size_t head = CAIRN_LOG_SEGMENT_HEADER_BYTES;
            struct cairn_buf bytes = {0};
            cairn_buf_append(&bytes, segment(&log_case, to)->data, head);
            cairn_buf_append(&bytes, segment(&log_case, from)->data + head,
                             segment(&log_case, from)->len - head);
            put(&log_case, to, bytes.data, bytes.len);
            /* Of a sealed segment, a trusting open sees only length and last record. */
            expect(&log_case, CAIRN_DAMAGE_MISPLACED, log_case.names[to], log_case.firsts[to], true,
                   true);
            cairn_buf_release(&bytes);
        }
    }
    teardown(&log_case);
}

/* A record in the middle is replaced by an earlier one of the same length. */
static void test_stale_record(void **state)
{
    (void)state;
    struct log_fixture fixture;
    fixture_setup_in_memory(&fixture, 0);
    struct cairn_log *log = fixture_open(&fixture);
    struct cairn_log_entry entry = {.kind = 1, .payload = {"0123456", 7}};
    struct cairn_log_batch batch = {&entry, 1};
    for (int i = 0; i < 6; i++) {
        int64_t time_us = 5;
        uint64_t first;
        assert_int_equal(cairn_log_append(log, &batch, 1, &time_us, &first, NULL), 0);
    }
    cairn_log_close(&log);
    const char *name = "00000000000000000001.seg";
    struct cairn_buf bytes = fixture_read_file(&fixture, name);
    char *records = bytes.data + CAIRN_LOG_SEGMENT_HEADER_BYTES;
    for (int to = 1; to < 6; to++) {
        char kept[80];
        memcpy(kept, records + to * 80, 80);
        memcpy(records + to * 80, records + (to - 1) * 80, 80);
        fixture_write_file(&fixture, name, bytes.data, bytes.len);
        fixture_remove_file(&fixture, CAIRN_LOG_MARK_NAME);
        struct cairn_log_report report;
        assert_int_equal(cairn_log_check(fixture.dir, &fixture.io, &report, NULL), 0);
        assert_int_equal(report.finding.damage, CAIRN_DAMAGE_MISPLACED);
        assert_int_equal(report.finding.offset, to + 1);
        assert_int_equal(fixture_open_with(&fixture, NULL, 0, &log, NULL, NULL), CAIRN_ECORRUPT);
        memcpy(records + to * 80, kept, 80);
        fixture_write_file(&fixture, name, bytes.data, bytes.len);
        log = fixture_open(&fixture);
        cairn_log_close(&log);
    }
    cairn_buf_release(&bytes);
    fixture_teardown(&fixture);
}

/* A whole segment file in the place of another. */
static void test_swapped_segment(void **state)
{
    (void)state;
    struct case_log log_case;
    setup(&log_case);
    for (uint32_t to = 0; to < SEGMENTS; to++) {
        uint32_t from = (to + 1) % SEGMENTS;
        put(&log_case, to, segment(&log_case, from)->data, segment(&log_case, from)->len);
        expect(&log_case, CAIRN_DAMAGE_MISPLACED, log_case.names[to], log_case.firsts[to], true,
               true);
    }
    teardown(&log_case);
}

/* Every segment cut at every record boundary, its header's end included, and one byte beside. The
 * last one needs the mark for it. */
static void test_cut_on_record_boundary(void **state)
{
    (void)state;
    struct case_log log_case;
    setup(&log_case);
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        const struct cairn_buf *whole = segment(&log_case, i);
        uint64_t at = CAIRN_LOG_SEGMENT_HEADER_BYTES;
        uint64_t offset = log_case.firsts[i];
        while (at < whole->len) {
            put(&log_case, i, whole->data, at);
            expect(&log_case, CAIRN_DAMAGE_CUT, log_case.names[i], offset, true, i < SEGMENTS - 1);
            put(&log_case, i, whole->data, at + 1);
            expect(&log_case, CAIRN_DAMAGE_CUT, log_case.names[i], offset, true, i < SEGMENTS - 1);
            at += cairn_log_record_bytes(fixture_entry(offset).payload.len);
            offset++;
        }
        assert_int_equal(at, whole->len);
    }
    teardown(&log_case);
}

/* A segment that was restored from before it was finished. */
static void test_stale_last_segment(void **state)
{
    (void)state;
    struct log_fixture fixture;
    fixture_setup_in_memory(&fixture, 0);
    struct cairn_log *log = fixture_open(&fixture);
    fixture_append_ok(log, 1, 3);
    const char *name = "00000000000000000001.seg";
    struct cairn_buf old = fixture_read_file(&fixture, name);
    fixture_append_ok(log, 1, 3);
    cairn_log_close(&log);
    fixture_write_file(&fixture, name, old.data, old.len);
    struct cairn_log_report report;
    assert_int_equal(cairn_log_check(fixture.dir, &fixture.io, &report, NULL), 0);
    assert_int_equal(report.finding.damage, CAIRN_DAMAGE_CUT);
    assert_int_equal(report.finding.byte, old.len);
    assert_int_equal(report.finding.offset, 4);
    assert_int_equal(report.last_offset, 3);
    assert_int_equal(report.lost_first_offset, 4);
    assert_int_equal(report.lost_last_offset, 6);
    assert_int_equal(fixture_open_with(&fixture, NULL, 0, &log, NULL, NULL), CAIRN_ECORRUPT);
    cairn_buf_release(&old);
    fixture_teardown(&fixture);
}

static void test_missing_segment(void **state)
{
    (void)state;
    struct case_log log_case;
    setup(&log_case);
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        fixture_remove_file(&log_case.fixture, log_case.names[i]);
        expect(&log_case, CAIRN_DAMAGE_MISSING, log_case.names[i], log_case.firsts[i], true,
               i < SEGMENTS - 1);
    }
    for (uint32_t i = 0; i < SEGMENTS; i++) { /* all of them */
        fixture_remove_file(&log_case.fixture, log_case.names[i]);
    }
    expect(&log_case, CAIRN_DAMAGE_MISSING, log_case.names[SEGMENTS - 1], 1, true, false);
    for (uint32_t i = 0; i < SEGMENTS; i++) { /* and the mark is damaged */
        fixture_remove_file(&log_case.fixture, log_case.names[i]);
    }
    fixture_write_file(&log_case.fixture, CAIRN_LOG_MARK_NAME, "?", 1);
    expect(&log_case, CAIRN_DAMAGE_MISSING, log_case.names[0], 1, true, false);
    teardown(&log_case);
}

/* Something was appended to a finished segment. */
static void test_bytes_after_a_finished_segment(void **state)
{
    (void)state;
    struct case_log log_case;
    setup(&log_case);
    for (uint32_t i = 0; i < SEGMENTS - 1; i++) {
        struct cairn_buf bytes = {0};
        cairn_buf_append(&bytes, segment(&log_case, i)->data, segment(&log_case, i)->len);
        cairn_buf_append(&bytes, "12345678", 8);
        put(&log_case, i, bytes.data, bytes.len);
        expect(&log_case, CAIRN_DAMAGE_MISPLACED, log_case.names[i], log_case.firsts[i] + 4, true,
               true);
        cairn_buf_release(&bytes);
    }
    teardown(&log_case);
}

/* Another log of the same shard, and the log of another shard, with the same content. */
static void test_foreign_segments(void **state)
{
    (void)state;
    struct case_log log_case, other;
    setup(&log_case);
    setup(&other);
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        put(&log_case, i, segment(&other, i)->data, segment(&other, i)->len);
        expect(&log_case, CAIRN_DAMAGE_MISPLACED, log_case.names[i], log_case.firsts[i], true,
               false);
    }
    /* Its records under our header. */
    for (uint32_t i = 0; i < SEGMENTS; i++) {
        struct cairn_buf bytes = {0};
        const size_t head = CAIRN_LOG_SEGMENT_HEADER_BYTES;
        cairn_buf_append(&bytes, segment(&log_case, i)->data, head);
        cairn_buf_append(&bytes, segment(&other, i)->data + head, segment(&other, i)->len - head);
        put(&log_case, i, bytes.data, bytes.len);
        expect(&log_case, CAIRN_DAMAGE_MISPLACED, log_case.names[i], log_case.firsts[i], true,
               true);
        cairn_buf_release(&bytes);
    }
    /* Its mark. */
    const struct cairn_buf *mark = fixture_snapshot_file(&other.files, CAIRN_LOG_MARK_NAME);
    fixture_write_file(&log_case.fixture, CAIRN_LOG_MARK_NAME, mark->data, mark->len);
    expect(&log_case, CAIRN_DAMAGE_MISPLACED, CAIRN_LOG_MARK_NAME, 21, true, false);
    /* One segment of another shard; check knows the shard from the mark. */
    struct cairn_buf bytes = {0};
    struct cairn_log_segment_header header;
    cairn_buf_append(&bytes, segment(&log_case, 2)->data, segment(&log_case, 2)->len);
    assert_true(cairn_log_segment_header_decode((uint8_t *)bytes.data, &header));
    header.shard++;
    cairn_log_segment_header_encode(&header, (uint8_t *)bytes.data);
    put(&log_case, 2, bytes.data, bytes.len);
    expect(&log_case, CAIRN_DAMAGE_MISPLACED, log_case.names[2], log_case.firsts[2], true, true);
    cairn_buf_release(&bytes);
    teardown(&other);
    teardown(&log_case);
}

/* The mark of the same log from another history: the records it stands for are not those here. */
static void test_mark_of_another_history(void **state)
{
    (void)state;
    struct log_fixture fixture;
    struct fixture_snapshot before;
    fixture_setup_in_memory(&fixture, 0);
    struct cairn_log *log = fixture_open(&fixture);
    fixture_append_ok(log, 1, 3);
    cairn_log_close(&log);
    fixture_take(&fixture, &before);
    log = fixture_open(&fixture);
    fixture_append_ok(log, 1, 3);
    cairn_log_close(&log);
    struct cairn_buf mark = fixture_read_file(&fixture, CAIRN_LOG_MARK_NAME);
    fixture_put_back(&fixture, &before);
    log = fixture_open(&fixture);
    fixture_append_ok(log, 3, 1);
    fixture_append_ok(log, 1, 3);
    cairn_log_close(&log);
    fixture_write_file(&fixture, CAIRN_LOG_MARK_NAME, mark.data, mark.len);
    struct cairn_error err = {0};
    assert_int_equal(fixture_open_with(&fixture, NULL, 0, &log, NULL, &err), CAIRN_ECORRUPT);
    assert_non_null(strstr(err.message, "mark: misplaced"));
    cairn_buf_release(&mark);
    fixture_snapshot_release(&before);
    fixture_teardown(&fixture);
}

/* Append one record whose content does not tell the histories apart, only its ingest time does. */
static void append_at(struct cairn_log *log, int64_t time_us)
{
    struct cairn_log_entry entry = {.kind = 1, .payload = {"0123456", 7}};
    struct cairn_log_batch batch = {&entry, 1};
    uint64_t first;
    assert_int_equal(cairn_log_append(log, &batch, 1, &time_us, &first, NULL), 0);
}

/* Two lives of one log that part after its creation (a directory was copied and used twice): the
 * same log id, offsets and lengths, but the records of one do not follow those of the other. */
static void test_record_of_another_history(void **state)
{
    (void)state;
    for (int rolling = 0; rolling < 2; rolling++) {
        struct log_fixture fixture;
        struct fixture_snapshot start, lives[2];
        fixture_setup_in_memory(&fixture, rolling ? 1 : 0);
        struct cairn_log *log = fixture_open(&fixture);
        cairn_log_close(&log);
        fixture_take(&fixture, &start);
        for (int life = 0; life < 2; life++) {
            fixture_put_back(&fixture, &start);
            log = fixture_open(&fixture);
            for (int i = 0; i < 4; i++) {
                append_at(log, 100 * life + i);
            }
            cairn_log_close(&log);
            fixture_take(&fixture, &lives[life]);
        }
        /* Record 1, alone in its segment or not, comes from the other life. */
        const char *name = "00000000000000000001.seg";
        const size_t record = CAIRN_LOG_SEGMENT_HEADER_BYTES;
        struct cairn_buf mixed = fixture_read_file(&fixture, name);
        memcpy(mixed.data + record, fixture_snapshot_file(&lives[0], name)->data + record, 80);
        fixture_write_file(&fixture, name, mixed.data, mixed.len);
        for (uint64_t trusted = 0; trusted <= 4; trusted += 4) {
            struct cairn_error err = {0};
            assert_int_equal(fixture_open_with(&fixture, NULL, trusted, &log, NULL, &err),
                             CAIRN_ECORRUPT);
            assert_non_null(strstr(err.message, "misplaced"));
            assert_non_null(strstr(err.message, "offset 2"));
        }
        cairn_buf_release(&mixed);
        fixture_snapshot_release(&start);
        fixture_snapshot_release(&lives[0]);
        fixture_snapshot_release(&lives[1]);
        fixture_teardown(&fixture);
    }
}

/* Two records written by hand behind a valid header; `second` is changed by the test. */
static int open_two_records(struct cairn_log_record_header second, struct cairn_error *err)
{
    struct log_fixture fixture;
    uint8_t bytes[CAIRN_LOG_SEGMENT_HEADER_BYTES + 2 * CAIRN_LOG_RECORD_HEADER_BYTES];
    uint8_t *records = bytes + CAIRN_LOG_SEGMENT_HEADER_BYTES;
    struct cairn_log_segment_header header = {.version = CAIRN_LOG_VERSION,
                                              .shard = FIXTURE_SHARD,
                                              .log_id = 9,
                                              .first_offset = 1,
                                              .chain = cairn_log_chain_start(9)};
    struct cairn_log_record_header first = {.log_id = 9,
                                            .offset = 1,
                                            .chain = header.chain,
                                            .ingest_time_us = 50,
                                            .shard = FIXTURE_SHARD,
                                            .batch_remaining = 1,
                                            .kind = 1};
    cairn_log_segment_header_encode(&header, bytes);
    cairn_log_record_header_encode(&first, records);
    second.chain = cairn_log_chain_after(records);
    cairn_log_record_header_encode(&second, records + CAIRN_LOG_RECORD_HEADER_BYTES);
    fixture_setup_in_memory(&fixture, 0);
    assert_int_equal(fixture.io.mkdir(fixture.io.context, fixture.dir), 0);
    fixture_write_file(&fixture, "00000000000000000001.seg", bytes, sizeof(bytes));
    struct cairn_log *log;
    int rc = fixture_open_with(&fixture, NULL, 0, &log, NULL, err);
    cairn_log_close(&log);
    fixture_teardown(&fixture);
    return rc;
}

/* Records in their place, with valid checksums, that break a rule of the format. */
static void test_rules(void **state)
{
    (void)state;
    const struct cairn_log_record_header good = {.log_id = 9,
                                                 .offset = 2,
                                                 .ingest_time_us = 50,
                                                 .shard = FIXTURE_SHARD,
                                                 .append_index = 1,
                                                 .kind = 1};
    struct cairn_error err = {0};
    assert_int_equal(open_two_records(good, &err), 0);
    struct cairn_log_record_header bad = good;
    bad.ingest_time_us = 49;
    assert_int_equal(open_two_records(bad, &err), CAIRN_ECORRUPT);
    assert_non_null(strstr(err.message, "an ingest time before"));
    bad = good;
    bad.batch_remaining = 1;
    assert_int_equal(open_two_records(bad, &err), CAIRN_ECORRUPT);
    assert_non_null(strstr(err.message, "continue its batch"));
    bad = good;
    bad.append_index = 0;
    assert_int_equal(open_two_records(bad, &err), CAIRN_ECORRUPT);
    assert_non_null(strstr(err.message, "continue its append"));
    bad.append_index = 2;
    assert_int_equal(open_two_records(bad, &err), CAIRN_ECORRUPT);
    bad = good;
    bad.payload_len = CAIRN_LOG_PAYLOAD_BYTES_MAX + 1;
    assert_int_equal(open_two_records(bad, &err), CAIRN_ECORRUPT);
    assert_non_null(strstr(err.message, "over the limit"));
    bad.payload_len--; /* allowed, but not there: a torn tail */
    assert_int_equal(open_two_records(bad, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_misdirected_block),
        cmocka_unit_test(test_stale_record),
        cmocka_unit_test(test_swapped_segment),
        cmocka_unit_test(test_cut_on_record_boundary),
        cmocka_unit_test(test_stale_last_segment),
        cmocka_unit_test(test_missing_segment),
        cmocka_unit_test(test_bytes_after_a_finished_segment),
        cmocka_unit_test(test_foreign_segments),
        cmocka_unit_test(test_mark_of_another_history),
        cmocka_unit_test(test_record_of_another_history),
        cmocka_unit_test(test_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
