/* Bytes that are no request, answer or payload of base/shard_wire.h, and the largest that are. */
#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/shard_wire.h"
#include "tests/lib/random_entity.h"
#include "tests/lib/random_shard.h"
#include "tests/lib/shard_wire_fixture.h"
#include "tests/lib/testing.h"

#define CASE(test) cmocka_unit_test_setup_teardown(test, wire_setup, wire_teardown)

static void bytes_are_bounded(void **state)
{
    (void)state;
    struct cairn_shard_request request;
    struct cairn_shard_answer answer;
    struct cairn_str zeros = {calloc(1, CAIRN_SHARD_CALL_BYTES_MAX + 1),
                              CAIRN_SHARD_CALL_BYTES_MAX};
    assert_true(CAIRN_SHARD_CALL_BYTES_MAX == CAIRN_SHARD_ANSWER_BYTES_MAX);
    wire_expect(cairn_shard_request_decode(zeros, &wire.arena, &request, &wire.err), CAIRN_EBODY,
                "Request");
    wire_expect(cairn_shard_answer_decode(zeros, &wire.arena, &answer, &wire.err), CAIRN_EBODY,
                "Answer");
    zeros.len++;
    wire_expect(cairn_shard_request_decode(zeros, &wire.arena, &request, &wire.err),
                CAIRN_ETOOLARGE, "Request");
    wire_expect(cairn_shard_answer_decode(zeros, &wire.arena, &answer, &wire.err), CAIRN_ETOOLARGE,
                "Answer");
    free((char *)zeros.ptr);
}

static void log_payloads_are_bounded(void **state)
{
    (void)state;
    struct cairn_imported imported = {UINT32_MAX, UINT64_MAX, UINT32_MAX,
                                      UINT64_MAX, INT64_MIN,  wire_filled(CAIRN_ENTITY_BYTES_MAX)},
                          got;
    struct cairn_str bytes = cairn_imported_encode(wire.encoder, &imported), *back;
    assert_true(bytes.len <= CAIRN_IMPORT_BYTES_MAX);
    wire_expect(cairn_imported_decode(bytes, &got, &wire.err), 0, "");
    imported.entity = wire_filled(CAIRN_ENTITY_BYTES_MAX + 1);
    bytes = cairn_imported_encode(wire.encoder, &imported);
    wire_expect(cairn_imported_decode(bytes, &got, &wire.err), CAIRN_ETOOLARGE, "entity");
    imported.entity = wire_filled(CAIRN_IMPORT_BYTES_MAX);
    bytes = cairn_imported_encode(wire.encoder, &imported);
    wire_expect(cairn_imported_decode(bytes, &got, &wire.err), CAIRN_ETOOLARGE, "Imported");

    imported.entity = wire_filled(0);
    bytes = cairn_imported_encode(wire.encoder, &imported);
    wire_expect(cairn_imported_decode(bytes, &got, &wire.err), CAIRN_EBODY, "entity");

    struct cairn_str keys[CAIRN_FORGET_KEYS_MAX + 1];
    uint32_t count;
    for (uint32_t i = 0; i <= CAIRN_FORGET_KEYS_MAX; i++)
        keys[i] = wire_filled(CAIRN_KEY_BYTES_MAX);
    bytes = cairn_forget_encode(wire.encoder, keys, CAIRN_FORGET_KEYS_MAX);
    wire_expect(cairn_forget_decode(bytes, &wire.arena, &back, &count, &wire.err), 0, "");
    assert_int_equal(count, CAIRN_FORGET_KEYS_MAX);
    bytes = cairn_forget_encode(wire.encoder, keys, CAIRN_FORGET_KEYS_MAX + 1);
    wire_expect(cairn_forget_decode(bytes, &wire.arena, &back, &count, &wire.err), CAIRN_ETOOLARGE,
                "keys");
    bytes = cairn_forget_encode(wire.encoder, NULL, 0);
    wire_expect(cairn_forget_decode(bytes, &wire.arena, &back, &count, &wire.err), CAIRN_EBODY,
                "keys");
}

static int decode(int kind, struct cairn_str body)
{
    struct cairn_shard_request request;
    struct cairn_shard_answer answer;
    struct cairn_imported imported;
    struct cairn_str *keys;
    uint32_t count;
    switch (kind) {
    case 0:
        return cairn_shard_request_decode(body, &wire.arena, &request, &wire.err);
    case 1:
        return cairn_shard_answer_decode(body, &wire.arena, &answer, &wire.err);
    case 2:
        return cairn_imported_decode(body, &imported, &wire.err);
    default:
        return cairn_forget_decode(body, &wire.arena, &keys, &count, &wire.err);
    }
}

/* What stands elsewhere, was cut off or is noise: refused, and never read past its end, which is
 * that of its block. */
static void what_is_no_body_is_refused(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    struct cairn_shard_request request;
    struct cairn_shard_answer answer;
    struct cairn_str keys[] = {CAIRN_STR_LITERAL("a"), CAIRN_STR_LITERAL("bb")};
    struct cairn_imported imported = {1, 2, 3, 4, 5, wire_filled(24)};
    random_shard_request(&random, &wire.arena, 4, &request);
    random_shard_answer(&random, &wire.arena, 4, &answer);
    struct cairn_str bodies[] = {
        cairn_arena_dup(&wire.arena, cairn_shard_request_encode(wire.encoder, &request)),
        cairn_arena_dup(&wire.arena, cairn_shard_answer_encode(wire.encoder, &answer)),
        cairn_arena_dup(&wire.arena, cairn_imported_encode(wire.encoder, &imported)),
        cairn_arena_dup(&wire.arena, cairn_forget_encode(wire.encoder, keys, 2)),
    };
    for (int kind = 0; kind < 4; kind++) {
        struct cairn_str body = bodies[kind];
        char *block = malloc((size_t)body.len + 8);
        for (uint32_t shift = 0; shift < 8; shift++) {
            memcpy(block + shift, body.ptr, body.len);
            int got = decode(kind, (struct cairn_str){block + shift, body.len});
            assert_int_equal(got, shift == 0 ? 0 : CAIRN_EBODY);
        }
        free(block);
        /* Up to 7 bytes at the end are padding. */
        for (uint32_t len = 0; len + 8 <= body.len; len += 1 + len / 64) {
            block = malloc(len + 1);
            memcpy(block, body.ptr, len);
            assert_int_equal(decode(kind, (struct cairn_str){block, len}), CAIRN_EBODY);
            free(block);
        }
        for (int round = 0; round < 200; round++) {
            uint64_t noise[32];
            for (int i = 0; i < 32; i++)
                noise[i] = cairn_test_random(&random);
            noise[0] = 8 + cairn_test_random_below(&random, 240); /* where the table would be */
            assert_int_not_equal(decode(kind, (struct cairn_str){(char *)noise, sizeof(noise)}), 0);
        }
    }
}

/* Replace the 4 bytes that stand `after` bytes past the only place of MARK in a copy of the body.
 */
#define MARK 0x1122334455667788u
static struct cairn_str patched(struct cairn_str body, uint32_t after, uint32_t value)
{
    struct cairn_str out = cairn_arena_dup(&wire.arena, body);
    uint64_t mark = MARK;
    for (uint32_t at = 0; at + after + 4 <= out.len; at += 4) {
        if (memcmp(out.ptr + at, &mark, sizeof(mark)) == 0) {
            memcpy((char *)out.ptr + at + after, &value, sizeof(value));
            return out;
        }
    }
    fail_msg("no mark in the body");
    return out;
}

/* Lengths in the structs of base/shard.fbs that are not those of the bytes beside them. */
static void lengths_that_lie_are_refused(void **state)
{
    (void)state;
    static const uint32_t lies[] = {0, 1, 25, 1u << 20, UINT32_MAX - 7, UINT32_MAX};
    struct cairn_shard_item items[2] = {
        {.token = MARK, .payload = wire_filled(24), .key = wire_filled(24)},
        {.payload = wire_filled(24), .key = wire_filled(24)}};
    struct cairn_shard_record records[2] = {{.source_offset = MARK, .payload = wire_filled(24)},
                                            {.payload = wire_filled(24)}};
    struct cairn_shard_hit hits[2] = {{wire_filled(24), 1, MARK}, {wire_filled(24), 1, 1}};
    struct cairn_shard_hits list = {hits, 2};
    struct cairn_shard_request request = {.items = items, .items_count = 2}, request_back;
    struct cairn_shard_answer answer = {.records = records,
                                        .records_count = 2,
                                        .lists = &list,
                                        .lists_count = 1},
                              answer_back;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct cairn_str body = cairn_shard_request_encode(wire.encoder, &request);
        for (uint32_t after = 20; after <= 24; after += 4)
            assert_int_not_equal(cairn_shard_request_decode(patched(body, after, lies[i]),
                                                            &wire.arena, &request_back, &wire.err),
                                 0);
        answer.lists_count = 0;
        body = patched(cairn_shard_answer_encode(wire.encoder, &answer), 40, lies[i]);
        assert_int_not_equal(cairn_shard_answer_decode(body, &wire.arena, &answer_back, &wire.err),
                             0);
        answer.lists_count = 1;
        answer.records_count = 0;
        body = patched(cairn_shard_answer_encode(wire.encoder, &answer), 12, lies[i]);
        assert_int_not_equal(cairn_shard_answer_decode(body, &wire.arena, &answer_back, &wire.err),
                             0);
        answer.records_count = 2;
    }
}

static void unknown_statuses_are_refused(void **state)
{
    (void)state;
    struct cairn_write_result result = {CAIRN_WRITE_UNCHANGED, 7, MARK};
    struct cairn_shard_answer answer = {.results = &result, .results_count = 1}, got;
    struct cairn_str body = cairn_shard_answer_encode(wire.encoder, &answer);
    wire_expect(cairn_shard_answer_decode(patched(body, 12, 3), &wire.arena, &got, &wire.err), 0,
                "");
    wire_expect(cairn_shard_answer_decode(patched(body, 12, 4), &wire.arena, &got, &wire.err),
                CAIRN_EBODY, "results[0]");
}

/* Rows come from another process: what a view would follow out of their bytes is found before. */
static void broken_rows_are_refused(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    struct cairn_row row;
    do
        random_row(&random, &wire.arena, 8, &row);
    while (row.cells_count < 3);
    struct cairn_shard_row one = wire_plain_row(&row);
    assert_int_equal(cairn_row_check(one.row, &wire.err), 0);
    for (uint32_t len = 0; len + 8 <= one.row.len; len++) { /* the rest may be padding */
        char *block = malloc(len + 1);
        memcpy(block, one.row.ptr, len);
        assert_int_equal(cairn_row_check((struct cairn_str){block, len}, &wire.err), CAIRN_EBODY);
        free(block);
    }
    for (int round = 0; round < 3000; round++) {
        struct cairn_row_view view;
        struct cairn_row_cell cell;
        char *block = malloc(one.row.len);
        memcpy(block, one.row.ptr, one.row.len);
        for (int i = 0; i < 2; i++)
            block[cairn_test_random_below(&random, one.row.len)] = (char)cairn_test_random(&random);
        struct cairn_str bytes = {block, one.row.len};
        if (cairn_row_check(bytes, &wire.err) == 0) {
            cairn_row_view_init(&view, bytes);
            for (uint32_t i = 0; i < cairn_row_view_count(&view); i++) {
                cairn_row_view_cell(&view, i, &cell);
                cairn_value_eq(&cell.value, &cell.value);
                cairn_utf8_valid(cell.name);
            }
        }
        free(block);
    }
}

/* The largest things that are said: an export of small records and an answer of all rows. */
static void large_answers_pass(void **state)
{
    (void)state;
    enum { RECORD_BYTES = 50, RECORDS = CAIRN_EXPORT_BYTES_MAX / RECORD_BYTES };
    struct cairn_shard_record *records = cairn_calloc(RECORDS, sizeof(*records));
    for (uint32_t i = 0; i < RECORDS; i++)
        records[i] =
            (struct cairn_shard_record){.source_offset = i, .payload = wire_filled(RECORD_BYTES)};
    struct cairn_shard_answer answer = {.records = records, .records_count = RECORDS}, got;
    struct cairn_str body = cairn_shard_answer_encode(wire.encoder, &answer);
    wire_expect(cairn_shard_answer_decode(body, &wire.arena, &got, &wire.err), 0, "");
    assert_int_equal(got.records_count, RECORDS);
    assert_true(got.records[RECORDS - 1].source_offset == RECORDS - 1);
    free(records);

    static const float f32[64] = {1};
    struct cairn_vector vectors[CAIRN_VECTORS_MAX];
    struct cairn_row row = {.exists = true};
    struct cairn_shard_row one = wire_plain_row(&row), *rows;
    for (uint32_t i = 0; i < CAIRN_VECTORS_MAX; i++)
        vectors[i] = (struct cairn_vector){wire_filled(i + 1), f32, 64};
    one.vectors = vectors;
    one.vectors_count = CAIRN_VECTORS_MAX;
    rows = cairn_calloc(CAIRN_KEYS_MAX, sizeof(*rows));
    for (uint32_t i = 0; i < CAIRN_KEYS_MAX; i++)
        rows[i] = one;
    answer = (struct cairn_shard_answer){.rows = rows, .rows_count = CAIRN_KEYS_MAX};
    body = cairn_shard_answer_encode(wire.encoder, &answer);
    wire_expect(cairn_shard_answer_decode(body, &wire.arena, &got, &wire.err), 0, "");
    assert_int_equal(got.rows[CAIRN_KEYS_MAX - 1].vectors_count, CAIRN_VECTORS_MAX);
    assert_str_same(got.rows[CAIRN_KEYS_MAX - 1].vectors[3].name, vectors[3].name);
    free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(bytes_are_bounded),
        CASE(log_payloads_are_bounded),
        CASE(what_is_no_body_is_refused),
        CASE(lengths_that_lie_are_refused),
        CASE(unknown_statuses_are_refused),
        CASE(broken_rows_are_refused),
        CASE(large_answers_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
