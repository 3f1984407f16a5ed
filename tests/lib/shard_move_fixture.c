#include "tests/lib/shard_move_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/time.h"
#include "tests/lib/fixtures.h"

void cairn_test_check(int code, const struct cairn_error *err)
{
    if (code != 0)
        fail_msg("%s: %s", cairn_code_word(code), err->message);
}

void cairn_test_move_open(struct cairn_test_move *f, uint32_t id)
{
    struct cairn_error err = {0};
    cairn_test_check(cairn_shard_open(&f->options[id], &f->shards[id], &err), &err);
}

void cairn_test_move_reopen(struct cairn_test_move *f, uint32_t id)
{
    cairn_shard_close(&f->shards[id]);
    cairn_test_move_open(f, id);
}

void cairn_test_move_take_map(struct cairn_test_move *f, const struct cairn_map *map)
{
    cairn_map_unref(f->map);
    f->map = map;
}

void cairn_test_move_adopt(struct cairn_test_move *f, uint32_t id)
{
    struct cairn_error err = {0};
    cairn_test_check(cairn_shard_adopt(f->shards[id], f->map, CAIRN_OFFSET_NONE, &err), &err);
}

void cairn_test_move_key(uint32_t i, char *key)
{
    (void)snprintf(key, CAIRN_TEST_MOVE_KEY_BYTES, "key-%u", i);
}

uint32_t cairn_test_move_owner(const struct cairn_test_move *f, uint32_t i)
{
    char key[CAIRN_TEST_MOVE_KEY_BYTES];
    cairn_test_move_key(i, key);
    return cairn_map_owner(f->map, cairn_token(f->schema->name, cairn_str_from(key)));
}

struct cairn_shard_item cairn_test_move_item(struct cairn_test_move *f, uint32_t i, int64_t n)
{
    char key[CAIRN_TEST_MOVE_KEY_BYTES];
    cairn_test_move_key(i, key);
    const float f32[2] = {(float)(i % 17), (float)i / 100};
    struct cairn_str kept = cairn_arena_dup(&f->arena, cairn_str_from(key));
    return (struct cairn_shard_item){
        .kind = CAIRN_RECORD_ENTITY,
        .collection = CAIRN_TEST_MOVE_COLLECTION,
        .token = cairn_token(f->schema->name, kept),
        .payload = n == INT64_MIN ? cairn_test_delete(&f->arena, key)
                                  : cairn_test_entity(&f->arena, key, "", n, f32, 2),
        .key = kept,
        .if_offset = CAIRN_OFFSET_NONE};
}

int cairn_test_move_try_put(struct cairn_test_move *f, uint32_t shard, uint32_t i, int64_t n)
{
    struct cairn_error err = {0};
    struct cairn_write_result result;
    struct cairn_shard_item item = cairn_test_move_item(f, i, n);
    int code = cairn_test_shard_write(f->shards[shard], &item, 1, &result, &err);
    if (code == 0)
        f->values[i] = n;
    return code;
}

void cairn_test_move_put(struct cairn_test_move *f, uint32_t i, int64_t n)
{
    assert_int_equal(cairn_test_move_try_put(f, cairn_test_move_owner(f, i), i, n), 0);
}

void cairn_test_move_write_schema(struct cairn_test_move *f, uint32_t shard)
{
    struct cairn_buf text = {0};
    struct cairn_error err = {0};
    struct cairn_write_result result;
    cairn_schema_encode(f->schema, &text);
    struct cairn_shard_item item = {
        .kind = CAIRN_RECORD_SCHEMA,
        .collection = CAIRN_TEST_MOVE_COLLECTION,
        .payload = cairn_arena_dup(&f->arena, (struct cairn_str){text.data, (uint32_t)text.len}),
        .if_offset = CAIRN_OFFSET_NONE};
    cairn_test_check(cairn_test_shard_write(f->shards[shard], &item, 1, &result, &err), &err);
    cairn_buf_release(&text);
}

int cairn_test_move_setup(void **state)
{
    struct cairn_test_move *f = calloc(1, sizeof *f);
    struct cairn_error err = {0};
    cairn_test_dir_make(&f->dir);
    const struct cairn_schema *plain =
        cairn_test_schema("c", "{\"features\":{\"n\":{\"type\":\"int64\"}},\"vectors\":{\"v\":{"
                               "\"dim\":2,\"metric\":\"l2\"}}}");
    f->schema = cairn_schema_with_identity(plain, CAIRN_TEST_MOVE_COLLECTION, 1, 1, false);
    cairn_schema_unref(plain);
    const struct cairn_map_shard first = {.id = 0, .weight = 1, .planned_weight = 1};
    struct cairn_map_spec spec = {.cluster = 77, .epoch = 1, .shards = &first, .shards_count = 1};
    cairn_test_check(cairn_map_new(&spec, &f->map, &err), &err);
    for (uint32_t id = 0; id < 2; id++) {
        cairn_test_dir_path(&f->dir, id == 0 ? "s0" : "s1", f->paths[id]);
        f->options[id] = (struct cairn_shard_options){
            .dir = f->paths[id], .id = id, .segment_bytes_max = 64 << 10, .forget_after_ms = 1};
        cairn_test_move_open(f, id);
    }
    cairn_test_move_adopt(f, 0);
    for (uint32_t id = 0; id < 2; id++)
        cairn_test_move_write_schema(f, id);
    for (uint32_t i = 0; i < CAIRN_TEST_MOVE_KEYS; i++)
        cairn_test_move_put(f, i, i);
    for (uint32_t i = 0; i < CAIRN_TEST_MOVE_KEYS; i += 3)
        cairn_test_move_put(f, i, 1000 + i);
    for (uint32_t i = 0; i < CAIRN_TEST_MOVE_KEYS; i += 10)
        cairn_test_move_put(f, i, INT64_MIN);
    *state = f;
    return 0;
}

int cairn_test_move_teardown(void **state)
{
    struct cairn_test_move *f = *state;
    cairn_shard_close(&f->shards[0]);
    cairn_shard_close(&f->shards[1]);
    cairn_map_unref(f->map);
    cairn_schema_unref(f->schema);
    cairn_arena_release(&f->arena);
    cairn_test_dir_remove(&f->dir);
    free(f);
    return 0;
}

struct cairn_shard_move cairn_test_move_plan(struct cairn_test_move *f, double w0, double w1)
{
    struct cairn_error err = {0};
    struct cairn_map_shard shards[2];
    for (uint32_t id = 0; id < 2; id++) {
        const struct cairn_map_shard *now = cairn_map_shard(f->map, id);
        shards[id] = (struct cairn_map_shard){
            .id = id, .weight = now != NULL ? now->weight : 0, .planned_weight = id == 0 ? w0 : w1};
    }
    const struct cairn_map *next = NULL;
    cairn_test_check(cairn_map_with_plan(f->map, shards, 2, &next, &err), &err);
    cairn_test_move_take_map(f, next);
    cairn_test_move_adopt(f, 0);
    cairn_test_move_adopt(f, 1);
    assert_int_equal(f->map->moves_count, 1);
    return (struct cairn_shard_move){
        .plan = f->map->plan, .source = f->map->moves[0].source, .target = f->map->moves[0].target};
}

bool cairn_test_move_copy_step(struct cairn_test_move *f, const struct cairn_shard_move *move,
                               uint64_t *reached, uint64_t bytes_max)
{
    struct cairn_error err = {0};
    struct cairn_arena arena = {0};
    struct cairn_shard_record *records;
    struct cairn_shard_progress progress;
    uint32_t count;
    cairn_test_check(cairn_shard_export(f->shards[move->source], move, *reached, bytes_max, 0,
                                        &arena, &records, &count, &progress, &err),
                     &err);
    cairn_test_check(cairn_shard_import_append(f->shards[move->target], move, records, count, &err),
                     &err);
    *reached = progress.reached;
    cairn_arena_release(&arena);
    return progress.reached == progress.end_offset;
}

uint64_t cairn_test_move_begin_import(struct cairn_test_move *f,
                                      const struct cairn_shard_move *move)
{
    struct cairn_error err = {0};
    struct cairn_shard_progress progress;
    cairn_test_check(cairn_shard_import_begin(f->shards[move->target], move, &progress, &err),
                     &err);
    return progress.reached;
}

static void compare_digests(struct cairn_test_move *f, const struct cairn_shard_move *move,
                            uint64_t until)
{
    struct cairn_error err = {0};
    uint64_t digests[2][2], records[2];
    for (uint32_t id = 0; id < 2; id++)
        cairn_test_check(
            cairn_shard_digest(f->shards[id], move, until, digests[id], &records[id], &err), &err);
    assert_int_equal(records[0], records[1]);
    assert_true(records[0] > 0);
    assert_memory_equal(digests[0], digests[1], sizeof digests[0]);
}

void cairn_test_move_release(struct cairn_test_move *f, const struct cairn_shard_move *move)
{
    struct cairn_error err = {0};
    uint64_t fence, end, reached = cairn_test_move_begin_import(f, move);
    while (!cairn_test_move_copy_step(f, move, &reached, 1 << 20))
        ;
    cairn_test_check(
        cairn_shard_freeze(f->shards[move->source], move, CAIRN_FREEZE_MS, &fence, &end, &err),
        &err);
    while (!cairn_test_move_copy_step(f, move, &reached, 1 << 20))
        ;
    assert_true(reached >= end);
    compare_digests(f, move, end);
    const struct cairn_map *next = NULL;
    cairn_test_check(cairn_map_with_done(f->map, move->source, move->target, &next, &err), &err);
    cairn_test_check(cairn_shard_release(f->shards[move->source], fence, next, &err), &err);
    cairn_test_move_take_map(f, next);
    cairn_test_move_adopt(f, move->target);
}

void cairn_test_move_finish(struct cairn_test_move *f)
{
    struct cairn_error err = {0};
    const struct cairn_map *next = NULL;
    cairn_test_check(cairn_map_finish(f->map, &next, &err), &err);
    cairn_test_move_take_map(f, next);
    cairn_test_move_adopt(f, 0);
    cairn_test_move_adopt(f, 1);
}

void cairn_test_move_expect_all(struct cairn_test_move *f)
{
    uint64_t there[2] = {0, 0};
    for (uint32_t i = 0; i < CAIRN_TEST_MOVE_KEYS; i++) {
        char key[CAIRN_TEST_MOVE_KEY_BYTES];
        cairn_test_move_key(i, key);
        struct cairn_shard_read read = {.schema = f->schema};
        struct cairn_error err = {0};
        uint32_t id = cairn_test_move_owner(f, i);
        there[id] += f->values[i] != INT64_MIN;
        if (cairn_test_shard_read(f->shards[id], CAIRN_TEST_MOVE_COLLECTION, key) != f->values[i])
            fail_msg(
                "%s on s%u is %lld, not %lld", key, id,
                (long long)cairn_test_shard_read(f->shards[id], CAIRN_TEST_MOVE_COLLECTION, key),
                (long long)f->values[i]);
        struct cairn_row_pin pin = {0};
        assert_int_equal(cairn_shard_get(f->shards[1 - id], &read, cairn_str_from(key), &pin, &err),
                         CAIRN_ENOTOWNER);
    }
    for (uint32_t id = 0; id < 2; id++) {
        struct cairn_shard_read read = {
            .schema = f->schema, .epoch = f->map->epoch, .same_epoch = true};
        struct cairn_error err = {0};
        uint64_t count;
        cairn_test_check(cairn_shard_count(f->shards[id], &read, NULL, &count, &err), &err);
        assert_int_equal(count, there[id]);
        struct cairn_index_hit *hits = malloc(CAIRN_TEST_MOVE_KEYS * sizeof *hits);
        struct cairn_index_search search = {
            .query = (float[]){3, 3}, .k = CAIRN_TEST_MOVE_KEYS, .exact = true};
        uint32_t hits_count;
        cairn_test_check(cairn_shard_search(f->shards[id], &read, CAIRN_STR_LITERAL("v"), &search,
                                            NULL, &f->arena, hits, &hits_count, &err),
                         &err);
        assert_int_equal(hits_count, there[id]);
        search.k = 5;
        cairn_test_check(cairn_shard_search(f->shards[id], &read, CAIRN_STR_LITERAL("v"), &search,
                                            NULL, &f->arena, hits, &hits_count, &err),
                         &err);
        assert_int_equal(hits_count, there[id] < 5 ? there[id] : 5);
        free(hits);
        read.epoch++;
        assert_int_equal(cairn_shard_count(f->shards[id], &read, NULL, &count, &err),
                         CAIRN_ENOTOWNER);
    }
}

void cairn_test_move_wait_until_clean(struct cairn_test_move *f)
{
    uint64_t until = cairn_time_monotonic_us() + CAIRN_TEST_MOVE_DEADLINE_US;
    for (uint32_t id = 0; id < 2; id++)
        for (;;) {
            struct cairn_arena arena = {0};
            struct cairn_shard_report report;
            char path[CAIRN_TEST_PATH_BYTES + 8];
            (void)snprintf(path, sizeof path, "%s/clean", f->paths[id]);
            FILE *clean = fopen(path, "r");
            unsigned long long epoch = 0;
            if (clean != NULL) {
                (void)!fscanf(clean, "%llu", &epoch);
                fclose(clean);
            }
            cairn_shard_report(f->shards[id], &arena, &report);
            bool is_clean = epoch == f->map->epoch && report.foreign == 0;
            cairn_arena_release(&arena);
            if (is_clean)
                break;
            if (cairn_time_monotonic_us() > until)
                fail_msg("s%u still has rows of others", id);
            sched_yield();
        }
}

uint32_t cairn_test_move_moving_key(const struct cairn_test_move *f,
                                    const struct cairn_shard_move *move)
{
    for (uint32_t i = 0; i < CAIRN_TEST_MOVE_KEYS; i++) {
        char key[CAIRN_TEST_MOVE_KEY_BYTES];
        cairn_test_move_key(i, key);
        if (cairn_map_is_moving(f->map, cairn_token(f->schema->name, cairn_str_from(key)),
                                move->source, move->target))
            return i;
    }
    fail_msg("no key moves");
    return 0;
}
