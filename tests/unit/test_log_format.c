/* The log's bytes: every field comes back, every bit counts, and the layout is the one that
 * log_format.h documents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/hash.h"
#include "featurestore/log_format.h"

static uint64_t at64(const uint8_t *bytes, size_t at)
{
    uint64_t value = 0;
    for (size_t i = 8; i-- > 0;) {
        value = value << 8 | bytes[at + i];
    }
    return value;
}

static uint32_t at32(const uint8_t *bytes, size_t at)
{
    return (uint32_t)at64(bytes, at); /* every table has 8 more bytes, or the buffer does */
}

static void test_segment_header(void **state)
{
    (void)state;
    uint8_t bytes[CAIRN_LOG_SEGMENT_HEADER_BYTES + 8] = {0};
    struct cairn_log_segment_header in = {.version = 0x01020304,
                                          .shard = 0x11121314,
                                          .log_id = UINT64_MAX - 1,
                                          .first_offset = 77,
                                          .chain = 0x2122232425262728,
                                          .created_us = -5,
                                          .prior_time_us = INT64_MIN,
                                          .previous_first = 33,
                                          .previous_bytes = 1u << 31,
                                          .previous_last_at = 96};
    struct cairn_log_segment_header out;
    cairn_log_segment_header_encode(&in, bytes);
    assert_true(cairn_log_segment_header_decode(bytes, &out));
    assert_memory_equal(&in, &out, sizeof(in));
    assert_memory_equal(bytes, "CAIRNSEG", 8);
    assert_int_equal(at32(bytes, 8), in.version);
    assert_int_equal(at32(bytes, 12), in.shard);
    assert_int_equal(at64(bytes, 16), in.log_id);
    assert_int_equal(at64(bytes, 24), in.first_offset);
    assert_int_equal(at64(bytes, 32), in.chain);
    assert_int_equal(at64(bytes, 40), (uint64_t)in.created_us);
    assert_int_equal(at64(bytes, 48), (uint64_t)in.prior_time_us);
    assert_int_equal(at64(bytes, 56), in.previous_first);
    assert_int_equal(at64(bytes, 64), in.previous_bytes);
    assert_int_equal(at64(bytes, 72), in.previous_last_at);
    assert_int_equal(at32(bytes, 80), 0);
    assert_int_equal(at32(bytes, 84), cairn_crc32c(0, bytes, 84));
    for (size_t bit = 0; bit < 8 * CAIRN_LOG_SEGMENT_HEADER_BYTES; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(cairn_log_segment_header_decode(bytes, &out));
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void test_record_header(void **state)
{
    (void)state;
    uint8_t bytes[CAIRN_LOG_RECORD_HEADER_BYTES + 8] = {0};
    struct cairn_log_record_header out;
    struct cairn_log_record_header in = {.payload_crc = 0x01020304,
                                         .log_id = UINT64_MAX,
                                         .offset = 1,
                                         .chain = 0x3132333435363738,
                                         .ingest_time_us = INT64_MIN,
                                         .token = 0x4142434445464748,
                                         .collection = 5,
                                         .shard = 0x51525354,
                                         .payload_len = CAIRN_LOG_PAYLOAD_BYTES_MAX,
                                         .batch_remaining = UINT32_MAX,
                                         .append_index = 0x61626364,
                                         .kind = 255};
    cairn_log_record_header_encode(&in, bytes);
    assert_true(cairn_log_record_header_decode(bytes, &out));
    assert_int_equal(at32(bytes, 0), cairn_crc32c(0, bytes + 4, 68));
    assert_int_equal(at32(bytes, 4), in.payload_crc);
    assert_int_equal(at64(bytes, 8), in.log_id);
    assert_int_equal(cairn_log_record_log_id(bytes), in.log_id);
    assert_int_equal(at64(bytes, 16), in.offset);
    assert_int_equal(at64(bytes, 24), in.chain);
    assert_int_equal(at64(bytes, 32), (uint64_t)in.ingest_time_us);
    assert_int_equal(at64(bytes, 40), in.token);
    assert_int_equal(at32(bytes, 48), in.collection);
    assert_int_equal(at32(bytes, 52), in.shard);
    assert_int_equal(at32(bytes, 56), in.payload_len);
    assert_int_equal(at32(bytes, 60), in.batch_remaining);
    assert_int_equal(at32(bytes, 64), in.append_index);
    assert_int_equal(bytes[68], in.kind);
    assert_int_equal(bytes[69] | bytes[70] | bytes[71], 0);
    assert_int_equal(out.payload_crc, in.payload_crc);
    assert_int_equal(out.log_id, in.log_id);
    assert_int_equal(out.offset, in.offset);
    assert_int_equal(out.chain, in.chain);
    assert_int_equal(out.ingest_time_us, in.ingest_time_us);
    assert_int_equal(out.token, in.token);
    assert_int_equal(out.collection, in.collection);
    assert_int_equal(out.shard, in.shard);
    assert_int_equal(out.payload_len, in.payload_len);
    assert_int_equal(out.batch_remaining, in.batch_remaining);
    assert_int_equal(out.append_index, in.append_index);
    assert_int_equal(out.kind, in.kind);
    assert_false(out.reserved_set);
    uint64_t chain = cairn_log_chain_after(bytes);
    for (size_t bit = 0; bit < 8 * CAIRN_LOG_RECORD_HEADER_BYTES; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(cairn_log_record_header_decode(bytes, &out));
        assert_int_not_equal(cairn_log_chain_after(bytes), chain);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t at = 69; at < 72; at++) { /* a valid header of some later version */
        bytes[at] = 1;
        uint32_t crc = cairn_crc32c(0, bytes + 4, 68);
        for (size_t i = 0; i < 4; i++) {
            bytes[i] = (uint8_t)(crc >> 8 * i);
        }
        assert_true(cairn_log_record_header_decode(bytes, &out));
        assert_true(out.reserved_set);
        bytes[at] = 0;
    }
}

static void test_mark(void **state)
{
    (void)state;
    uint8_t bytes[CAIRN_LOG_MARK_BYTES + 8] = {0};
    struct cairn_log_mark in = {.sequence = 7,
                                .log_id = UINT64_MAX,
                                .segment_first = 1,
                                .byte = 88,
                                .offset = 3,
                                .chain = 0x7172737475767778,
                                .shard = 9};
    struct cairn_log_mark out;
    cairn_log_mark_encode(&in, bytes);
    assert_true(cairn_log_mark_decode(bytes, &out));
    assert_int_equal(out.sequence, in.sequence);
    assert_int_equal(out.log_id, in.log_id);
    assert_int_equal(out.segment_first, in.segment_first);
    assert_int_equal(out.byte, in.byte);
    assert_int_equal(out.offset, in.offset);
    assert_int_equal(out.chain, in.chain);
    assert_int_equal(out.shard, in.shard);
    assert_memory_equal(bytes, "CAIRNMRK", 8);
    assert_int_equal(at64(bytes, 24), in.segment_first);
    assert_int_equal(at64(bytes, 48), in.chain);
    assert_int_equal(at32(bytes, 56), in.shard);
    for (size_t bit = 0; bit < 8 * CAIRN_LOG_MARK_BYTES; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(cairn_log_mark_decode(bytes, &out));
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void test_sizes_and_checksums(void **state)
{
    (void)state;
    assert_int_equal(cairn_log_record_bytes(0), 72);
    assert_int_equal(cairn_log_record_bytes(1), 80);
    assert_int_equal(cairn_log_record_bytes(8), 80);
    assert_int_equal(cairn_log_record_bytes(9), 88);
    assert_int_equal(cairn_log_record_bytes(UINT32_MAX), UINT64_C(72) + (UINT64_C(1) << 32));
    uint8_t record[CAIRN_LOG_RECORD_HEADER_BYTES + 24] = {0};
    for (uint32_t len = 0; len <= 24; len++) {
        memset(record + CAIRN_LOG_RECORD_HEADER_BYTES, 0, 24);
        memset(record + CAIRN_LOG_RECORD_HEADER_BYTES, 'x', len);
        assert_int_equal(cairn_log_payload_crc(record + CAIRN_LOG_RECORD_HEADER_BYTES, len),
                         cairn_log_padded_crc(record, len));
    }
    assert_int_equal(cairn_log_payload_crc(NULL, 0), 0);
    assert_int_not_equal(cairn_log_chain_start(1), cairn_log_chain_start(2));
}

static void test_names(void **state)
{
    (void)state;
    char name[CAIRN_LOG_SEGMENT_NAME_BYTES];
    uint64_t first = 0;
    static const uint64_t offsets[] = {0, 1, 10, UINT64_MAX};
    for (size_t i = 0; i < 4; i++) {
        cairn_log_segment_name(offsets[i], name);
        assert_int_equal(strlen(name), 24);
        assert_true(cairn_log_segment_name_parse(name, &first));
        assert_int_equal(first, offsets[i]);
    }
    assert_string_equal(name, "18446744073709551615.seg");
    static const char *const wrong[] = {"",
                                        "1.seg",
                                        "18446744073709551616.seg",
                                        "99999999999999999999.seg",
                                        "00000000000000000001.se",
                                        "00000000000000000001.segx",
                                        "00000000000000000001",
                                        "-0000000000000000001.seg",
                                        "000000000000000000001.seg"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        assert_false(cairn_log_segment_name_parse(wrong[i], &first));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segment_header), cmocka_unit_test(test_record_header),
        cmocka_unit_test(test_mark),           cmocka_unit_test(test_sizes_and_checksums),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
