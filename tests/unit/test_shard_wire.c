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

enum { ROUNDS = 60, COUNT_MAX = 12 };

/* A member of `sent` and `got`, which is a number. */
#define assert_kept(member) assert_true(sent->member == got->member)

#define CASE(test) cmocka_unit_test_setup_teardown(test, wire_setup, wire_teardown)

static bool stands_in(const void *at, struct cairn_str body)
{
    return (const char *)at >= body.ptr && (const char *)at < body.ptr + body.len;
}

static void assert_in_place(struct cairn_str bytes, struct cairn_str body)
{
    if (bytes.len == 0)
        return;
    assert_true(stands_in(bytes.ptr, body));
    assert_int_equal((uintptr_t)bytes.ptr % 8, 0);
}

static void assert_texts_same(const struct cairn_str *a, const struct cairn_str *b, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        assert_str_same(a[i], b[i]);
}

static void assert_items_same(const struct cairn_shard_request *a,
                              const struct cairn_shard_request *b, struct cairn_str body)
{
    assert_int_equal(a->items_count, b->items_count);
    for (uint32_t i = 0; i < a->items_count; i++) {
        const struct cairn_shard_item *sent = &a->items[i], *got = &b->items[i];
        assert_kept(kind);
        assert_kept(collection);
        assert_kept(token);
        assert_kept(if_offset);
        assert_str_same(sent->payload, got->payload);
        assert_str_same(sent->key, got->key);
        assert_in_place(got->payload, body);
    }
}

static void assert_queries_same(const struct cairn_shard_request *a,
                                const struct cairn_shard_request *b, struct cairn_str body)
{
    assert_int_equal(a->queries_count, b->queries_count);
    for (uint32_t i = 0; i < a->queries_count; i++) {
        const struct cairn_shard_query *sent = &a->queries[i], *got = &b->queries[i];
        assert_kept(dim);
        assert_kept(k);
        assert_kept(ef);
        assert_kept(nprobe);
        assert_kept(exact);
        assert_memory_equal(sent->vector, got->vector, sent->dim * sizeof(float));
        assert_true(stands_in(got->vector, body));
        assert_str_same(sent->filter_json, got->filter_json);
    }
}

static void assert_request_same(const struct cairn_shard_request *sent,
                                const struct cairn_shard_request *got, struct cairn_str body)
{
    assert_kept(cluster);
    assert_kept(epoch);
    assert_kept(same_epoch);
    assert_kept(collection);
    assert_kept(keys_count);
    assert_texts_same(sent->keys, got->keys, sent->keys_count);
    assert_kept(vectors_count);
    assert_texts_same(sent->vectors, got->vectors, sent->vectors_count);
    assert_items_same(sent, got, body);
    assert_str_same(sent->vector, got->vector);
    assert_queries_same(sent, got, body);
    assert_str_same(sent->filter_json, got->filter_json);
    assert_str_same(sent->after_key, got->after_key);
    assert_kept(limit);
    assert_kept(move.plan);
    assert_kept(move.source);
    assert_kept(move.target);
    assert_str_same(sent->url, got->url);
    assert_kept(from_offset);
    assert_kept(until_offset);
    assert_kept(bytes_max);
    assert_kept(fence);
    assert_kept(wait_ms);
    assert_str_same(sent->text, got->text);
}

static void requests_round_trip(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    for (int i = 0; i < ROUNDS; i++) {
        struct cairn_shard_request sent, got;
        random_shard_request(&random, &wire.arena, COUNT_MAX, &sent);
        struct cairn_str body = cairn_shard_request_encode(wire.encoder, &sent);
        if (cairn_shard_request_decode(body, &wire.arena, &got, &wire.err) != 0)
            fail_msg("%s", wire.err.message);
        assert_request_same(&sent, &got, body);
    }
}

static void assert_rows_same(const struct cairn_shard_answer *a, const struct cairn_shard_answer *b,
                             struct cairn_str body)
{
    assert_int_equal(a->rows_count, b->rows_count);
    for (uint32_t i = 0; i < a->rows_count; i++) {
        const struct cairn_shard_row *sent = &a->rows[i], *got = &b->rows[i];
        assert_str_same(sent->key, got->key);
        assert_kept(found);
        assert_str_same(sent->row, got->row);
        assert_in_place(got->row, body);
        assert_kept(vectors_count);
        for (uint32_t j = 0; j < sent->vectors_count; j++) {
            const struct cairn_vector *x = &sent->vectors[j], *y = &got->vectors[j];
            assert_str_same(x->name, y->name);
            assert_int_equal(x->dim, y->dim);
            assert_true((x->f32 == NULL) == (y->f32 == NULL));
            if (x->f32) {
                assert_memory_equal(x->f32, y->f32, x->dim * sizeof(float));
                assert_true(stands_in(y->f32, body));
            }
        }
    }
}

static void assert_lists_same(const struct cairn_shard_answer *a,
                              const struct cairn_shard_answer *b)
{
    assert_int_equal(a->lists_count, b->lists_count);
    for (uint32_t i = 0; i < a->lists_count; i++) {
        assert_int_equal(a->lists[i].count, b->lists[i].count);
        for (uint32_t j = 0; j < a->lists[i].count; j++) {
            const struct cairn_shard_hit *sent = &a->lists[i].hits[j], *got = &b->lists[i].hits[j];
            assert_str_same(sent->key, got->key);
            assert_kept(score);
            assert_kept(offset);
        }
    }
}

static void assert_records_same(const struct cairn_shard_answer *a,
                                const struct cairn_shard_answer *b, struct cairn_str body)
{
    assert_int_equal(a->records_count, b->records_count);
    for (uint32_t i = 0; i < a->records_count; i++) {
        const struct cairn_shard_record *sent = &a->records[i], *got = &b->records[i];
        assert_kept(source_offset);
        assert_kept(origin_shard);
        assert_kept(origin_offset);
        assert_kept(ingest_time_us);
        assert_kept(collection);
        assert_kept(token);
        assert_str_same(sent->payload, got->payload);
        assert_in_place(got->payload, body);
    }
}

static void assert_indexes_same(const struct cairn_collection_report *a,
                                const struct cairn_collection_report *b)
{
    assert_int_equal(a->indexes_count, b->indexes_count);
    for (uint32_t i = 0; i < a->indexes_count; i++) {
        const struct cairn_index_report *sent = &a->indexes[i], *got = &b->indexes[i];
        assert_str_same(sent->vector, got->vector);
        assert_kept(built_kind);
        assert_kept(building);
        assert_kept(live);
        assert_kept(built);
        assert_kept(tail);
        assert_kept(tombstones);
        assert_kept(generation_offset);
        assert_kept(indexed_offset);
        assert_kept(memory_bytes);
        assert_kept(disk_bytes);
        assert_kept(builds);
        assert_kept(last_build_us);
    }
}

static void assert_collections_same(const struct cairn_shard_report *a,
                                    const struct cairn_shard_report *b)
{
    assert_int_equal(a->collections_count, b->collections_count);
    for (uint32_t i = 0; i < a->collections_count; i++) {
        const struct cairn_collection_report *sent = &a->collections[i], *got = &b->collections[i];
        assert_kept(collection);
        assert_kept(entities);
        assert_kept(routed);
        assert_kept(newest_event_us);
        assert_kept(newest_ingest_us);
        assert_indexes_same(sent, got);
    }
    assert_int_equal(a->hot_count, b->hot_count);
    for (uint32_t i = 0; i < a->hot_count; i++) {
        const struct cairn_hot_token *sent = &a->hot[i], *got = &b->hot[i];
        assert_kept(token);
        assert_kept(collection);
        assert_kept(reads);
        assert_kept(writes);
        assert_str_same(sent->key, got->key);
    }
}

static void assert_report_same(const struct cairn_shard_report *sent,
                               const struct cairn_shard_report *got)
{
    assert_non_null(got);
    assert_kept(read_only);
    assert_str_same(sent->reason, got->reason);
    assert_kept(entities);
    assert_kept(log_end_offset);
    assert_kept(log_bytes);
    assert_kept(log_segments);
    assert_kept(queued_writes);
    assert_kept(queued_bytes);
    assert_kept(held_writes);
    assert_kept(row_disk_bytes);
    assert_kept(row_memory_bytes);
    assert_kept(index_disk_bytes);
    assert_kept(index_memory_bytes);
    assert_kept(reads);
    assert_kept(writes);
    assert_kept(foreign);
    assert_collections_same(sent, got);
}

static void assert_answer_same(const struct cairn_shard_answer *sent,
                               const struct cairn_shard_answer *got, struct cairn_str body)
{
    assert_kept(error.code);
    assert_string_equal(sent->error.message, got->error.message);
    assert_kept(shard);
    assert_kept(epoch);
    assert_kept(applied);
    assert_kept(catalog_version);
    assert_rows_same(sent, got, body);
    assert_kept(more);
    assert_kept(created);
    assert_kept(results_count);
    for (uint32_t i = 0; i < sent->results_count; i++) {
        assert_kept(results[i].status);
        assert_kept(results[i].shard);
        assert_kept(results[i].offset);
    }
    assert_lists_same(sent, got);
    assert_kept(indexed);
    assert_kept(generation);
    assert_kept(count);
    assert_records_same(sent, got, body);
    assert_kept(progress.reached);
    assert_kept(progress.end_offset);
    assert_kept(progress.records);
    assert_kept(progress.bytes);
    assert_kept(progress.running);
    assert_kept(digest[0]);
    assert_kept(digest[1]);
    assert_kept(fence);
    assert_kept(texts_count);
    assert_texts_same(sent->texts, got->texts, sent->texts_count);
    assert_str_same(sent->text, got->text);
    assert_report_same(sent->report, got->report);
}

static void answers_round_trip(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    for (int i = 0; i < ROUNDS; i++) {
        struct cairn_shard_answer sent, got;
        random_shard_answer(&random, &wire.arena, COUNT_MAX, &sent);
        struct cairn_str body = cairn_shard_answer_encode(wire.encoder, &sent);
        if (cairn_shard_answer_decode(body, &wire.arena, &got, &wire.err) != 0)
            fail_msg("%s", wire.err.message);
        assert_answer_same(&sent, &got, body);
    }
}

/* All members at once may be unset, and then the bytes are few. */
static void empties_round_trip(void **state)
{
    (void)state;
    struct cairn_shard_request request = {0}, request_back;
    struct cairn_str body = cairn_shard_request_encode(wire.encoder, &request);
    assert_true(body.len < 64);
    assert_int_equal(cairn_shard_request_decode(body, &wire.arena, &request_back, &wire.err), 0);
    assert_request_same(&request, &request_back, body);
    struct cairn_shard_answer answer = {0}, answer_back;
    body = cairn_shard_answer_encode(wire.encoder, &answer);
    assert_true(body.len < 64);
    assert_int_equal(cairn_shard_answer_decode(body, &wire.arena, &answer_back, &wire.err), 0);
    answer.report = &(struct cairn_shard_report){0};
    assert_null(answer_back.report);
    answer_back.report = answer.report;
    assert_answer_same(&answer, &answer_back, body);

    body = cairn_shard_answer_encode(wire.encoder, &answer);
    assert_int_equal(cairn_shard_answer_decode(body, &wire.arena, &answer_back, &wire.err), 0);
    assert_answer_same(&answer, &answer_back, body);
    struct cairn_shard_item items[3] = {{.if_offset = CAIRN_OFFSET_NONE}, {0}, {0}};
    struct cairn_shard_hits lists[2] = {{0}, {0}};
    request = (struct cairn_shard_request){.items = items, .items_count = 3};
    body = cairn_shard_request_encode(wire.encoder, &request);
    assert_int_equal(cairn_shard_request_decode(body, &wire.arena, &request_back, &wire.err), 0);
    assert_request_same(&request, &request_back, body);
    answer = (struct cairn_shard_answer){.lists = lists, .lists_count = 2, .report = answer.report};
    body = cairn_shard_answer_encode(wire.encoder, &answer);
    assert_int_equal(cairn_shard_answer_decode(body, &wire.arena, &answer_back, &wire.err), 0);
    assert_answer_same(&answer, &answer_back, body);
}

static void every_error_code_is_kept(void **state)
{
    (void)state;
    static const int codes[] = {
#define CODE(name, number, word, status) name,
        CAIRN_ERROR_LIST(CODE)
#undef CODE
    };
    struct cairn_shard_answer answer = {0}, got;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        cairn_fail(&answer.error, codes[i], "why %d", codes[i]);
        struct cairn_str body = cairn_shard_answer_encode(wire.encoder, &answer);
        assert_int_equal(cairn_shard_answer_decode(body, &wire.arena, &got, &wire.err), 0);
        assert_int_equal(got.error.code, codes[i]);
        assert_string_equal(got.error.message, answer.error.message);
    }
    static const int unknown[] = {1, -1000, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        answer.error.code = unknown[i];
        struct cairn_str body = cairn_shard_answer_encode(wire.encoder, &answer);
        assert_int_equal(cairn_shard_answer_decode(body, &wire.arena, &got, &wire.err),
                         CAIRN_EBODY);
    }
}

static void operations_have_names(void **state)
{
    (void)state;
    enum cairn_shard_op op;
    for (int i = 0; i < CAIRN_SHARD_OPS_COUNT; i++) {
        const char *name = cairn_shard_op_name((enum cairn_shard_op)i);
        assert_true(cairn_shard_op_parse(cairn_str_from(name), &op));
        assert_int_equal(op, i);
    }
    assert_string_equal(cairn_shard_op_name(CAIRN_SHARD_IMPORT_STATE), "import-state");
    assert_string_equal(cairn_shard_op_name(CAIRN_SHARD_CLUSTER), "cluster");
    static const char *const unknown[] = {"", "ge", "gets", "GET", "import_state", "get/"};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
        assert_false(cairn_shard_op_parse(cairn_str_from(unknown[i]), &op));
}

static void imports_round_trip(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    for (int i = 0; i < ROUNDS; i++) {
        struct cairn_entity entity;
        struct cairn_encoder *other = cairn_encoder_new();
        random_entity(&random, &wire.arena, 6, 2, &entity);
        struct cairn_imported made = {
            .source = (uint32_t)cairn_test_random(&random),
            .source_offset = cairn_test_random(&random),
            .origin_shard = (uint32_t)cairn_test_random(&random),
            .origin_offset = cairn_test_random(&random),
            .ingest_time_us = (int64_t)cairn_test_random(&random),
            .entity = cairn_entity_encode(other, &entity),
        };
        struct cairn_imported opened;
        const struct cairn_imported *sent = &made, *got = &opened;
        struct cairn_str bytes = cairn_imported_encode(wire.encoder, sent);
        assert_int_equal(cairn_imported_decode(bytes, &opened, &wire.err), 0);
        assert_kept(source);
        assert_kept(source_offset);
        assert_kept(origin_shard);
        assert_kept(origin_offset);
        assert_kept(ingest_time_us);
        assert_str_same(sent->entity, got->entity);
        assert_in_place(got->entity, bytes);
        assert_int_equal(cairn_entity_decode(got->entity, &wire.arena, &entity, &wire.err), 0);
        cairn_encoder_free(&other);
    }
}

static void forgotten_keys_round_trip(void **state)
{
    (void)state;
    struct cairn_str keys[] = {CAIRN_STR_LITERAL("a"), CAIRN_STR_LITERAL("bb")}, *got;
    uint32_t count;
    struct cairn_str bytes = cairn_forget_encode(wire.encoder, keys, 2);
    assert_int_equal(cairn_forget_decode(bytes, &wire.arena, &got, &count, &wire.err), 0);
    assert_int_equal(count, 2);
    assert_texts_same(keys, got, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(requests_round_trip),       CASE(answers_round_trip),    CASE(empties_round_trip),
        CASE(every_error_code_is_kept),  CASE(operations_have_names), CASE(imports_round_trip),
        CASE(forgotten_keys_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
