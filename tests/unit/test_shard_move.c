/* Moving tokens between two shards, step by step, without routers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/time.h"
#include "featurestore/log.h"
#include "tests/lib/fixtures.h"
#include "tests/lib/testing.h"

#define COLLECTION  7u
#define KEYS        600u
#define DEADLINE_US 20000000u

struct fixture {
    struct cairn_test_dir dir;
    struct cairn_shard_options options[2];
    char paths[2][CAIRN_TEST_PATH_BYTES];
    struct cairn_shard *shards[2];
    const struct cairn_schema *schema;
    const struct cairn_map *map; /* the newest */
    struct cairn_arena arena;
    int64_t values[KEYS]; /* what each key must be; INT64_MIN: deleted */
};

static void check(int code, const struct cairn_error *err)
{
    if (code != 0)
        fail_msg("%s: %s", cairn_code_word(code), err->message);
}

static void open_shard(struct fixture *f, uint32_t id)
{
    struct cairn_error err = {0};
    check(cairn_shard_open(&f->options[id], &f->shards[id], &err), &err);
}

static void reopen(struct fixture *f, uint32_t id)
{
    cairn_shard_close(&f->shards[id]);
    open_shard(f, id);
}

static void take_map(struct fixture *f, const struct cairn_map *map)
{
    cairn_map_unref(f->map);
    f->map = map;
}

static void adopt(struct fixture *f, uint32_t id)
{
    struct cairn_error err = {0};
    check(cairn_shard_adopt(f->shards[id], f->map, CAIRN_OFFSET_NONE, &err), &err);
}

static void key_of(uint32_t i, char *key)
{
    (void)snprintf(key, 16, "key-%u", i);
}

static uint32_t owner(const struct fixture *f, uint32_t i)
{
    char key[16];
    key_of(i, key);
    return cairn_map_owner(f->map, cairn_token(f->schema->name, cairn_str_from(key)));
}

static struct cairn_shard_item item_of(struct fixture *f, uint32_t i, int64_t n)
{
    char key[16];
    key_of(i, key);
    const float f32[2] = {(float)(i % 17), (float)i / 100};
    struct cairn_str kept = cairn_arena_dup(&f->arena, cairn_str_from(key));
    return (struct cairn_shard_item){
        .kind = CAIRN_RECORD_ENTITY,
        .collection = COLLECTION,
        .token = cairn_token(f->schema->name, kept),
        .payload = n == INT64_MIN ? cairn_test_delete(&f->arena, key)
                                  : cairn_test_entity(&f->arena, key, "", n, f32, 2),
        .key = kept,
        .if_offset = CAIRN_OFFSET_NONE};
}

static int try_put(struct fixture *f, uint32_t shard, uint32_t i, int64_t n)
{
    struct cairn_error err = {0};
    struct cairn_write_result result;
    struct cairn_shard_item item = item_of(f, i, n);
    int code = cairn_test_shard_write(f->shards[shard], &item, 1, &result, &err);
    if (code == 0)
        f->values[i] = n;
    return code;
}

static void put(struct fixture *f, uint32_t i, int64_t n)
{
    assert_int_equal(try_put(f, owner(f, i), i, n), 0);
}

static void write_schema(struct fixture *f, uint32_t shard)
{
    struct cairn_buf text = {0};
    struct cairn_error err = {0};
    struct cairn_write_result result;
    cairn_schema_encode(f->schema, &text);
    struct cairn_shard_item item = {
        .kind = CAIRN_RECORD_SCHEMA,
        .collection = COLLECTION,
        .payload = cairn_arena_dup(&f->arena, (struct cairn_str){text.data, (uint32_t)text.len}),
        .if_offset = CAIRN_OFFSET_NONE};
    check(cairn_test_shard_write(f->shards[shard], &item, 1, &result, &err), &err);
    cairn_buf_release(&text);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct cairn_error err = {0};
    cairn_test_dir_make(&f->dir);
    const struct cairn_schema *plain =
        cairn_test_schema("c", "{\"features\":{\"n\":{\"type\":\"int64\"}},\"vectors\":{\"v\":{"
                               "\"dim\":2,\"metric\":\"l2\"}}}");
    f->schema = cairn_schema_with_identity(plain, COLLECTION, 1, 1, false);
    cairn_schema_unref(plain);
    const struct cairn_map_shard first = {.id = 0, .weight = 1, .planned_weight = 1};
    struct cairn_map_spec spec = {.cluster = 77, .epoch = 1, .shards = &first, .shards_count = 1};
    check(cairn_map_new(&spec, &f->map, &err), &err);
    for (uint32_t id = 0; id < 2; id++) {
        cairn_test_dir_path(&f->dir, id == 0 ? "s0" : "s1", f->paths[id]);
        f->options[id] = (struct cairn_shard_options){
            .dir = f->paths[id], .id = id, .segment_bytes_max = 64 << 10, .forget_after_ms = 1};
        open_shard(f, id);
    }
    adopt(f, 0);
    for (uint32_t id = 0; id < 2; id++)
        write_schema(f, id);
    for (uint32_t i = 0; i < KEYS; i++)
        put(f, i, i);
    for (uint32_t i = 0; i < KEYS; i += 3)
        put(f, i, 1000 + i);
    for (uint32_t i = 0; i < KEYS; i += 10)
        put(f, i, INT64_MIN);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    cairn_shard_close(&f->shards[0]);
    cairn_shard_close(&f->shards[1]);
    cairn_map_unref(f->map);
    cairn_schema_unref(f->schema);
    cairn_arena_release(&f->arena);
    cairn_test_dir_remove(&f->dir);
    free(f);
    return 0;
}

/* Plan weights for s0 and s1, known to both. */
static struct cairn_shard_move plan(struct fixture *f, double w0, double w1)
{
    struct cairn_error err = {0};
    struct cairn_map_shard shards[2];
    for (uint32_t id = 0; id < 2; id++) {
        const struct cairn_map_shard *now = cairn_map_shard(f->map, id);
        shards[id] = (struct cairn_map_shard){
            .id = id, .weight = now != NULL ? now->weight : 0, .planned_weight = id == 0 ? w0 : w1};
    }
    const struct cairn_map *next = NULL;
    check(cairn_map_with_plan(f->map, shards, 2, &next, &err), &err);
    take_map(f, next);
    adopt(f, 0);
    adopt(f, 1);
    assert_int_equal(f->map->moves_count, 1);
    return (struct cairn_shard_move){
        .plan = f->map->plan, .source = f->map->moves[0].source, .target = f->map->moves[0].target};
}

/* One step of the copy; returns whether the target has all that the source's log had. */
static bool copy_step(struct fixture *f, const struct cairn_shard_move *move, uint64_t *reached,
                      uint64_t bytes_max)
{
    struct cairn_error err = {0};
    struct cairn_arena arena = {0};
    struct cairn_shard_record *records;
    struct cairn_shard_progress progress;
    uint32_t count;
    check(cairn_shard_export(f->shards[move->source], move, *reached, bytes_max, 0, &arena,
                             &records, &count, &progress, &err),
          &err);
    check(cairn_shard_import_append(f->shards[move->target], move, records, count, &err), &err);
    *reached = progress.reached;
    cairn_arena_release(&arena);
    return progress.reached == progress.end_offset;
}

static uint64_t begin_import(struct fixture *f, const struct cairn_shard_move *move)
{
    struct cairn_error err = {0};
    struct cairn_shard_progress progress;
    check(cairn_shard_import_begin(f->shards[move->target], move, &progress, &err), &err);
    return progress.reached;
}

static void compare_digests(struct fixture *f, const struct cairn_shard_move *move, uint64_t until)
{
    struct cairn_error err = {0};
    uint64_t digests[2][2], records[2];
    for (uint32_t id = 0; id < 2; id++)
        check(cairn_shard_digest(f->shards[id], move, until, digests[id], &records[id], &err),
              &err);
    assert_int_equal(records[0], records[1]);
    assert_true(records[0] > 0);
    assert_memory_equal(digests[0], digests[1], sizeof digests[0]);
}

static void release(struct fixture *f, const struct cairn_shard_move *move)
{
    struct cairn_error err = {0};
    uint64_t fence, end, reached = begin_import(f, move);
    while (!copy_step(f, move, &reached, 1 << 20))
        ;
    check(cairn_shard_freeze(f->shards[move->source], move, CAIRN_FREEZE_MS, &fence, &end, &err),
          &err);
    while (!copy_step(f, move, &reached, 1 << 20))
        ;
    assert_true(reached >= end);
    compare_digests(f, move, end);
    const struct cairn_map *next = NULL;
    check(cairn_map_with_done(f->map, move->source, move->target, &next, &err), &err);
    check(cairn_shard_release(f->shards[move->source], fence, next, &err), &err);
    take_map(f, next);
    adopt(f, move->target);
}

static void finish(struct fixture *f)
{
    struct cairn_error err = {0};
    const struct cairn_map *next = NULL;
    check(cairn_map_finish(f->map, &next, &err), &err);
    take_map(f, next);
    adopt(f, 0);
    adopt(f, 1);
}

/* Every key is on its owner with its value, and nowhere else; scans and counts agree. */
static void expect_all(struct fixture *f)
{
    uint64_t there[2] = {0, 0};
    for (uint32_t i = 0; i < KEYS; i++) {
        char key[16];
        key_of(i, key);
        struct cairn_shard_read read = {.schema = f->schema};
        struct cairn_error err = {0};
        uint32_t id = owner(f, i);
        there[id] += f->values[i] != INT64_MIN;
        if (cairn_test_shard_read(f->shards[id], COLLECTION, key) != f->values[i])
            fail_msg("%s on s%u is %lld, not %lld", key, id,
                     (long long)cairn_test_shard_read(f->shards[id], COLLECTION, key),
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
        check(cairn_shard_count(f->shards[id], &read, NULL, &count, &err), &err);
        assert_int_equal(count, there[id]);
        struct cairn_index_hit *hits = malloc(KEYS * sizeof *hits);
        struct cairn_index_search search = {.query = (float[]){3, 3}, .k = KEYS, .exact = true};
        uint32_t hits_count;
        check(cairn_shard_search(f->shards[id], &read, CAIRN_STR_LITERAL("v"), &search, NULL,
                                 &f->arena, hits, &hits_count, &err),
              &err);
        assert_int_equal(hits_count, there[id]);
        search.k = 5;
        check(cairn_shard_search(f->shards[id], &read, CAIRN_STR_LITERAL("v"), &search, NULL,
                                 &f->arena, hits, &hits_count, &err),
              &err);
        assert_int_equal(hits_count, there[id] < 5 ? there[id] : 5);
        free(hits);
        read.epoch++;
        assert_int_equal(cairn_shard_count(f->shards[id], &read, NULL, &count, &err),
                         CAIRN_ENOTOWNER);
    }
}

static void wait_until_clean(struct fixture *f)
{
    uint64_t until = cairn_time_monotonic_us() + DEADLINE_US;
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

static void a_move_hands_tokens_over(void **state)
{
    struct fixture *f = *state;
    struct cairn_shard_move move = plan(f, 1, 1);
    assert_int_equal(move.target, 1);
    uint64_t reached = begin_import(f, &move);
    for (uint32_t step = 0; !copy_step(f, &move, &reached, 2000); step++) {
        if (step % 2 == 0)
            put(f, step * 7 % KEYS, 5000 + step);
        if (step == 3)
            reopen(f, 1);
        if (step == 5)
            reopen(f, 0);
        /* Nothing of it is to be seen on the target, and nothing is written there. */
        assert_int_equal(try_put(f, 1, step, 1), CAIRN_ENOTOWNER);
    }
    expect_all(f);
    release(f, &move);
    expect_all(f);
    for (uint32_t i = 0; i < KEYS; i += 5)
        put(f, i, 9000 + i);
    expect_all(f);
    finish(f);
    expect_all(f);
    wait_until_clean(f);
    expect_all(f);
    for (uint32_t id = 0; id < 2; id++)
        reopen(f, id);
    expect_all(f);
}

/* Tokens that come back bring their whole history, and what the log said of them before is void. */
static void tokens_move_back(void **state)
{
    struct fixture *f = *state;
    struct cairn_shard_move move = plan(f, 1, 1);
    release(f, &move);
    finish(f);
    for (uint32_t i = 0; i < KEYS; i += 4)
        put(f, i, 20000 + i);
    move = plan(f, 1, 0);
    assert_int_equal(move.source, 1);
    release(f, &move);
    expect_all(f);
    finish(f);
    for (uint32_t i = 0; i < KEYS; i++)
        assert_int_equal(owner(f, i), 0);
    expect_all(f);
    wait_until_clean(f);
    reopen(f, 0);
    expect_all(f);
    /* And away again: the export has each record once. */
    move = plan(f, 1, 1);
    release(f, &move);
    finish(f);
    expect_all(f);
    wait_until_clean(f);
    expect_all(f);
}

struct held_write {
    struct fixture *f;
    uint32_t i;
    int64_t n;
    int code;
};

static void *write_held(void *argument)
{
    struct held_write *held = argument;
    held->code = try_put(held->f, 0, held->i, held->n);
    return NULL;
}

static uint32_t moving_key(const struct fixture *f, const struct cairn_shard_move *move)
{
    for (uint32_t i = 0; i < KEYS; i++) {
        char key[16];
        key_of(i, key);
        if (cairn_map_is_moving(f->map, cairn_token(f->schema->name, cairn_str_from(key)),
                                move->source, move->target))
            return i;
    }
    fail_msg("no key moves");
    return 0;
}

/* Until s0 holds and has queued so many writes. */
static void wait_until_held(struct fixture *f, uint64_t held, uint64_t queued)
{
    uint64_t until = cairn_time_monotonic_us() + DEADLINE_US;
    for (bool is_so = false; !is_so;) {
        struct cairn_arena arena = {0};
        struct cairn_shard_report report;
        cairn_shard_report(f->shards[0], &arena, &report);
        is_so = report.held_writes == held && report.queued_writes == queued;
        cairn_arena_release(&arena);
        if (cairn_time_monotonic_us() > until)
            fail_msg("%llu writes are held and %llu queued", (unsigned long long)report.held_writes,
                     (unsigned long long)report.queued_writes);
    }
}

/* A hold that nobody ends is over by itself: the write goes through, and the release is refused. */
static void a_hold_ends_by_itself(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    struct cairn_shard_move move = plan(f, 1, 1);
    uint64_t fence, end, again;
    check(cairn_shard_freeze(f->shards[0], &move, CAIRN_FREEZE_MS, &fence, &end, &err), &err);
    assert_int_equal(end, cairn_shard_applied(f->shards[0]));
    assert_int_equal(cairn_shard_freeze(f->shards[0], &move, 1, &again, &end, &err), CAIRN_EBUSY);
    /* Success of a release would say that this very map was appended. */
    assert_int_equal(cairn_shard_release(f->shards[0], fence, f->map, &err), CAIRN_EPRECONDITION);
    struct held_write held = {.f = f, .i = moving_key(f, &move), .n = 4711, .code = -1};
    pthread_t thread;
    pthread_create(&thread, NULL, write_held, &held);
    wait_until_held(f, 1, 0);
    pthread_join(thread, NULL); /* without a thaw */
    assert_int_equal(held.code, 0);
    const struct cairn_map *next = NULL;
    check(cairn_map_with_done(f->map, 0, 1, &next, &err), &err);
    assert_int_equal(cairn_shard_release(f->shards[0], fence, next, &err), CAIRN_EPRECONDITION);
    /* Nor is the map taken without a fence, since it would take tokens from the shard. */
    assert_int_equal(cairn_shard_adopt(f->shards[0], next, CAIRN_OFFSET_NONE, &err),
                     CAIRN_EPRECONDITION);
    assert_int_equal(cairn_shard_epoch(f->shards[0]), f->map->epoch);
    cairn_map_unref(next);
    expect_all(f);
}

static void a_thaw_lets_held_writes_go(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    struct cairn_shard_move move = plan(f, 1, 1);
    uint64_t fence, end;
    check(cairn_shard_freeze(f->shards[0], &move, CAIRN_FREEZE_MS, &fence, &end, &err), &err);
    struct held_write held = {.f = f, .i = moving_key(f, &move), .n = 4712, .code = -1};
    pthread_t thread;
    pthread_create(&thread, NULL, write_held, &held);
    wait_until_held(f, 1, 0);
    cairn_shard_thaw(f->shards[0], fence);
    pthread_join(thread, NULL);
    assert_int_equal(held.code, 0);
    wait_until_held(f, 0, 0);
    expect_all(f);
}

/* A write that is held over the release is refused, and nothing of it is written. */
static void a_release_refuses_held_writes(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    struct cairn_shard_move move = plan(f, 1, 1);
    uint64_t fence, end, reached = begin_import(f, &move);
    while (!copy_step(f, &move, &reached, 1 << 20))
        ;
    check(cairn_shard_freeze(f->shards[0], &move, CAIRN_FREEZE_MS, &fence, &end, &err), &err);
    struct held_write held = {.f = f, .i = moving_key(f, &move), .n = 4713, .code = -1};
    pthread_t thread;
    pthread_create(&thread, NULL, write_held, &held);
    const struct cairn_map *next = NULL;
    check(cairn_map_with_done(f->map, 0, 1, &next, &err), &err);
    int code = cairn_shard_release(f->shards[0], fence, next, &err);
    pthread_join(thread, NULL);
    check(code, &err);
    assert_int_equal(held.code, CAIRN_ENOTOWNER);
    take_map(f, next);
    adopt(f, 1);
    expect_all(f);
}

/* An import that is given up leaves nothing behind. */
static void an_abort_forgets_what_was_copied(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    struct cairn_shard_move move = plan(f, 1, 1);
    uint64_t reached = begin_import(f, &move);
    while (!copy_step(f, &move, &reached, 4000))
        ;
    const struct cairn_map *next = NULL;
    check(cairn_map_abort(f->map, &next, &err), &err);
    take_map(f, next);
    adopt(f, 0);
    adopt(f, 1);
    struct cairn_arena arena = {0};
    struct cairn_shard_record *records;
    struct cairn_shard_progress progress;
    uint32_t count;
    assert_int_equal(cairn_shard_export(f->shards[0], &move, 0, 1000, 0, &arena, &records, &count,
                                        &progress, &err),
                     CAIRN_ENOTOWNER);
    cairn_arena_release(&arena);
    uint64_t until = cairn_time_monotonic_us() + DEADLINE_US;
    for (struct cairn_collection_counts counts = {.entities = 1}; counts.entities > 0;) {
        cairn_shard_counts(f->shards[1], COLLECTION, &counts);
        if (cairn_time_monotonic_us() > until)
            fail_msg("%llu rows are left", (unsigned long long)counts.entities);
        sched_yield();
    }
    expect_all(f);
    /* The same plan again begins from nothing. */
    move = plan(f, 1, 1);
    assert_int_equal(begin_import(f, &move), 0);
    release(f, &move);
    finish(f);
    expect_all(f);
}

/* What left with its tokens and what came must reach indexes that were saved before. */
static void older_indexes_learn_what_moved(void **state)
{
    struct fixture *f = *state;
    char index[2][CAIRN_TEST_PATH_BYTES + 8], older[2][CAIRN_TEST_PATH_BYTES + 8];
    for (uint32_t id = 0; id < 2; id++) {
        (void)snprintf(index[id], sizeof index[id], "%s/index", f->paths[id]);
        (void)snprintf(older[id], sizeof older[id], "%s/older", f->paths[id]);
        cairn_shard_close(&f->shards[id]);
        assert_int_equal(rename(index[id], older[id]), 0);
        open_shard(f, id);
    }
    struct cairn_shard_move move = plan(f, 1, 1);
    release(f, &move);
    finish(f);
    wait_until_clean(f);
    for (uint32_t id = 0; id < 2; id++) {
        cairn_shard_close(&f->shards[id]);
        assert_int_equal(cairn_io_remove_tree(cairn_io_posix(), index[id]), 0);
        assert_int_equal(rename(older[id], index[id]), 0);
        open_shard(f, id);
    }
    expect_all(f);
}

/* Batches are exported whole, however small the steps. */
static void exports_keep_batches_whole(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    struct cairn_shard_item items[40];
    struct cairn_write_result results[40];
    uint64_t first = cairn_shard_applied(f->shards[0]);
    for (uint32_t i = 0; i < 40; i++) {
        items[i] = item_of(f, i, 300 + i);
        f->values[i] = 300 + i;
    }
    check(cairn_test_shard_write(f->shards[0], items, 40, results, &err), &err);
    struct cairn_shard_move move = plan(f, 1, 1);
    struct cairn_arena arena = {0};
    struct cairn_shard_record *records;
    struct cairn_shard_progress progress;
    uint32_t count, expected = 0;
    for (uint32_t i = 0; i < 40; i++)
        expected += cairn_map_is_moving(f->map, items[i].token, 0, 1);
    check(cairn_shard_export(f->shards[0], &move, first, 1, 0, &arena, &records, &count, &progress,
                             &err),
          &err);
    assert_int_equal(count, expected);
    assert_true(expected > 1);
    assert_true(progress.reached >= first + 40);
    cairn_arena_release(&arena);
}

/* A record under a map that does not give the shard its token is damage. */
static void replay_checks_ownership(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    struct cairn_shard_move move = plan(f, 1, 1);
    release(f, &move);
    uint32_t gone = moving_key(f, &move);
    struct cairn_shard_item item = item_of(f, gone, 13);
    cairn_shard_close(&f->shards[0]);
    char path[CAIRN_TEST_PATH_BYTES + 8];
    (void)snprintf(path, sizeof path, "%s/log", f->paths[0]);
    struct cairn_log_options options = {.dir = path, .shard = 0};
    struct cairn_log *log = NULL;
    check(cairn_log_open(&options, 0, &log, NULL, &err), &err);
    struct cairn_log_entry entry = {.kind = CAIRN_RECORD_ENTITY,
                                    .collection = COLLECTION,
                                    .token = item.token,
                                    .payload = item.payload};
    struct cairn_log_batch batch = {.entries = &entry, .count = 1};
    int64_t ingest_time_us = cairn_time_now_us();
    uint64_t offset;
    check(cairn_log_append(log, &batch, 1, &ingest_time_us, &offset, &err), &err);
    cairn_log_close(&log);
    open_shard(f, 0);
    char reason[512];
    assert_int_equal(cairn_shard_state(f->shards[0], reason), CAIRN_SHARD_READ_ONLY);
    assert_non_null(strstr(reason, "did not own"));
    expect_all(f);
}

static void a_map_of_another_cluster_is_refused(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    const struct cairn_map_shard first = {.id = 0, .weight = 1, .planned_weight = 1};
    struct cairn_map_spec spec = {.cluster = 78, .epoch = 9, .shards = &first, .shards_count = 1};
    const struct cairn_map *other = NULL;
    check(cairn_map_new(&spec, &other, &err), &err);
    assert_int_equal(cairn_shard_adopt(f->shards[0], other, CAIRN_OFFSET_NONE, &err), CAIRN_EPARAM);
    cairn_map_unref(other);
    assert_int_equal(cairn_shard_adopt(f->shards[0], f->map, 5, &err), CAIRN_EPRECONDITION);
    assert_int_equal(cairn_shard_adopt(f->shards[0], f->map, CAIRN_OFFSET_NONE, &err), 0);
    assert_int_equal(try_put(f, 1, 1, 1), CAIRN_ENOTOWNER); /* a shard without a map */
}

/* A write to a key whose row here is what was left of another route waits for that to be dropped:
 * it must not be merged into it, nor go with it. */
static void a_new_route_does_not_meet_the_old_row(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    struct cairn_write_result result;
    char key[16], route[16];
    f->options[0].forget_after_ms = 600000;
    reopen(f, 0);
    struct cairn_shard_move move = plan(f, 1, 1);
    uint32_t i = 0, r = 0;
    release(f, &move);
    finish(f);
    while (owner(f, i) != 1 || f->values[i] == INT64_MIN)
        i++;
    while (owner(f, r) != 0)
        r++;
    key_of(i, key);
    key_of(r, route);
    struct cairn_shard_item item = item_of(f, i, 0);
    item.payload = cairn_test_entity(&f->arena, key, route, 31, (const float[]){1, 1}, 2);
    item.token = cairn_token(f->schema->name, cairn_str_from(route));
    put(f, i, INT64_MIN);
    assert_int_equal(cairn_test_shard_write(f->shards[0], &item, 1, &result, &err),
                     CAIRN_EOVERLOADED);
    f->options[0].forget_after_ms = 1;
    reopen(f, 0);
    wait_until_clean(f);
    check(cairn_test_shard_write(f->shards[0], &item, 1, &result, &err), &err);
    struct cairn_shard_read read = {
        .schema = f->schema, .epoch = f->map->epoch, .same_epoch = true};
    struct cairn_row_pin pin = {0};
    check(cairn_shard_get(f->shards[0], &read, cairn_str_from(key), &pin, &err), &err);
    assert_true(pin.found);
    cairn_row_pin_release(&pin);
}

struct gate {
    atomic_bool open;
    atomic_uint done;
};

/* On the writer's thread, which waits here until the gate is open. */
static void pass_gate(struct cairn_shard_write *write)
{
    struct gate *gate = write->context;
    while (!atomic_load(&gate->open))
        sched_yield();
    atomic_fetch_add(&gate->done, 1);
}

static void submit(struct fixture *f, struct cairn_shard_write *write, struct gate *gate,
                   const struct cairn_shard_item *item, struct cairn_write_result *result)
{
    *write = (struct cairn_shard_write){
        .items = item, .count = 1, .results = result, .done = pass_gate, .context = gate};
    assert_int_equal(cairn_shard_submit(f->shards[0], write), 0);
}

static void *adopt_on_thread(void *argument)
{
    adopt(argument, 0);
    return NULL;
}

/* A hold that a map ends in the middle of a run of writes: what was held goes first. */
static void a_map_keeps_the_order_of_held_writes(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    struct cairn_shard_move move = plan(f, 1, 1);
    uint32_t moving = moving_key(f, &move), staying = 0;
    while (cairn_map_is_moving(f->map, item_of(f, staying, 0).token, 0, 1))
        staying++;
    struct gate gate = {.open = false};
    struct cairn_shard_item items[] = {item_of(f, moving, 1), item_of(f, staying, 2),
                                       item_of(f, moving, 3)};
    struct cairn_shard_write writes[3];
    struct cairn_write_result results[3];
    uint64_t fence, end;
    check(cairn_shard_freeze(f->shards[0], &move, CAIRN_FREEZE_MS, &fence, &end, &err), &err);
    submit(f, &writes[0], &gate, &items[0], &results[0]);
    wait_until_held(f, 1, 0);
    submit(f, &writes[1], &gate, &items[1], &results[1]);
    wait_until_held(f, 1, 0); /* the writer waits at the gate */
    const struct cairn_map_shard url = {.id = 0, .url = CAIRN_STR_LITERAL("http://a:1")};
    const struct cairn_map *next = NULL;
    check(cairn_map_with_urls(f->map, &url, 1, &next, &err), &err);
    take_map(f, next);
    pthread_t thread;
    pthread_create(&thread, NULL, adopt_on_thread, f);
    wait_until_held(f, 1, 1);
    submit(f, &writes[2], &gate, &items[2], &results[2]);
    atomic_store(&gate.open, true);
    while (atomic_load(&gate.done) < 3)
        sched_yield();
    pthread_join(thread, NULL);
    for (uint32_t i = 0; i < 3; i++)
        check(writes[i].error.code, &writes[i].error);
    assert_true(results[0].offset < results[2].offset);
    f->values[moving] = 3;
    f->values[staying] = 2;
    adopt(f, 1);
    expect_all(f);
}

/* A target that gets the schema only after the copy finds all vectors. */
static void a_late_schema_finds_the_vectors(void **state)
{
    struct fixture *f = *state;
    cairn_shard_close(&f->shards[1]);
    assert_int_equal(cairn_io_remove_tree(cairn_io_posix(), f->paths[1]), 0);
    open_shard(f, 1);
    struct cairn_shard_move move = plan(f, 1, 1);
    release(f, &move);
    write_schema(f, 1);
    finish(f);
    expect_all(f);
    reopen(f, 1);
    expect_all(f);
}

/* A shard without free space can still give keys away. */
static void a_full_shard_gives_keys_away(void **state)
{
    struct fixture *f = *state;
    f->options[0].free_bytes_min = UINT64_MAX;
    reopen(f, 0);
    assert_int_equal(try_put(f, 0, 1, 1), CAIRN_ENOSPACE);
    struct cairn_shard_move move = plan(f, 1, 1);
    release(f, &move);
    finish(f);
    wait_until_clean(f);
    expect_all(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_move_hands_tokens_over, setup, teardown),
        cmocka_unit_test_setup_teardown(tokens_move_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_hold_ends_by_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(a_thaw_lets_held_writes_go, setup, teardown),
        cmocka_unit_test_setup_teardown(a_release_refuses_held_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(an_abort_forgets_what_was_copied, setup, teardown),
        cmocka_unit_test_setup_teardown(older_indexes_learn_what_moved, setup, teardown),
        cmocka_unit_test_setup_teardown(exports_keep_batches_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(replay_checks_ownership, setup, teardown),
        cmocka_unit_test_setup_teardown(a_map_of_another_cluster_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_route_does_not_meet_the_old_row, setup, teardown),
        cmocka_unit_test_setup_teardown(a_map_keeps_the_order_of_held_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_late_schema_finds_the_vectors, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_shard_gives_keys_away, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
