/* Moving tokens between two shards, step by step, without routers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sched.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/time.h"
#include "featurestore/log.h"
#include "tests/lib/fixtures.h"
#include "tests/lib/shard_move_fixture.h"

#define CASE(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, cairn_test_move_setup, cairn_test_move_teardown)

static void a_move_hands_tokens_over(void **state)
{
    struct cairn_test_move *f = *state;
    struct cairn_shard_move move = cairn_test_move_plan(f, 1, 1);
    assert_int_equal(move.target, 1);
    uint64_t reached = cairn_test_move_begin_import(f, &move);
    for (uint32_t step = 0; !cairn_test_move_copy_step(f, &move, &reached, 2000); step++) {
        if (step % 2 == 0)
            cairn_test_move_put(f, step * 7 % CAIRN_TEST_MOVE_KEYS, 5000 + step);
        if (step == 3)
            cairn_test_move_reopen(f, 1);
        if (step == 5)
            cairn_test_move_reopen(f, 0);
        /* Nothing of it is to be seen on the target, and nothing is written there. */
        assert_int_equal(cairn_test_move_try_put(f, 1, step, 1), CAIRN_ENOTOWNER);
    }
    cairn_test_move_expect_all(f);
    cairn_test_move_release(f, &move);
    cairn_test_move_expect_all(f);
    for (uint32_t i = 0; i < CAIRN_TEST_MOVE_KEYS; i += 5)
        cairn_test_move_put(f, i, 9000 + i);
    cairn_test_move_expect_all(f);
    cairn_test_move_finish(f);
    cairn_test_move_expect_all(f);
    cairn_test_move_wait_until_clean(f);
    cairn_test_move_expect_all(f);
    for (uint32_t id = 0; id < 2; id++)
        cairn_test_move_reopen(f, id);
    cairn_test_move_expect_all(f);
}

/* Tokens that come back bring their whole history, and what the log said of them before is void. */
static void tokens_move_back(void **state)
{
    struct cairn_test_move *f = *state;
    struct cairn_shard_move move = cairn_test_move_plan(f, 1, 1);
    cairn_test_move_release(f, &move);
    cairn_test_move_finish(f);
    for (uint32_t i = 0; i < CAIRN_TEST_MOVE_KEYS; i += 4)
        cairn_test_move_put(f, i, 20000 + i);
    move = cairn_test_move_plan(f, 1, 0);
    assert_int_equal(move.source, 1);
    cairn_test_move_release(f, &move);
    cairn_test_move_expect_all(f);
    cairn_test_move_finish(f);
    for (uint32_t i = 0; i < CAIRN_TEST_MOVE_KEYS; i++)
        assert_int_equal(cairn_test_move_owner(f, i), 0);
    cairn_test_move_expect_all(f);
    cairn_test_move_wait_until_clean(f);
    cairn_test_move_reopen(f, 0);
    cairn_test_move_expect_all(f);
    /* And away again: the export has each record once. */
    move = cairn_test_move_plan(f, 1, 1);
    cairn_test_move_release(f, &move);
    cairn_test_move_finish(f);
    cairn_test_move_expect_all(f);
    cairn_test_move_wait_until_clean(f);
    cairn_test_move_expect_all(f);
}

/* An import that is given up leaves nothing behind. */
static void an_abort_forgets_what_was_copied(void **state)
{
    struct cairn_test_move *f = *state;
    struct cairn_error err = {0};
    struct cairn_shard_move move = cairn_test_move_plan(f, 1, 1);
    uint64_t reached = cairn_test_move_begin_import(f, &move);
    while (!cairn_test_move_copy_step(f, &move, &reached, 4000))
        ;
    const struct cairn_map *next = NULL;
    cairn_test_check(cairn_map_abort(f->map, &next, &err), &err);
    cairn_test_move_take_map(f, next);
    cairn_test_move_adopt(f, 0);
    cairn_test_move_adopt(f, 1);
    struct cairn_arena arena = {0};
    struct cairn_shard_record *records;
    struct cairn_shard_progress progress;
    uint32_t count;
    assert_int_equal(cairn_shard_export(f->shards[0], &move, 0, 1000, 0, &arena, &records, &count,
                                        &progress, &err),
                     CAIRN_ENOTOWNER);
    cairn_arena_release(&arena);
    uint64_t until = cairn_time_monotonic_us() + CAIRN_TEST_MOVE_DEADLINE_US;
    for (struct cairn_collection_counts counts = {.entities = 1}; counts.entities > 0;) {
        cairn_shard_counts(f->shards[1], CAIRN_TEST_MOVE_COLLECTION, &counts);
        if (cairn_time_monotonic_us() > until)
            fail_msg("%llu rows are left", (unsigned long long)counts.entities);
        sched_yield();
    }
    cairn_test_move_expect_all(f);
    /* The same plan again begins from nothing. */
    move = cairn_test_move_plan(f, 1, 1);
    assert_int_equal(cairn_test_move_begin_import(f, &move), 0);
    cairn_test_move_release(f, &move);
    cairn_test_move_finish(f);
    cairn_test_move_expect_all(f);
}

/* What left with its tokens and what came must reach indexes that were saved before. */
static void older_indexes_learn_what_moved(void **state)
{
    struct cairn_test_move *f = *state;
    char index[2][CAIRN_TEST_PATH_BYTES + 8], older[2][CAIRN_TEST_PATH_BYTES + 8];
    for (uint32_t id = 0; id < 2; id++) {
        (void)snprintf(index[id], sizeof index[id], "%s/index", f->paths[id]);
        (void)snprintf(older[id], sizeof older[id], "%s/older", f->paths[id]);
        cairn_shard_close(&f->shards[id]);
        assert_int_equal(rename(index[id], older[id]), 0);
        cairn_test_move_open(f, id);
    }
    struct cairn_shard_move move = cairn_test_move_plan(f, 1, 1);
    cairn_test_move_release(f, &move);
    cairn_test_move_finish(f);
    cairn_test_move_wait_until_clean(f);
    for (uint32_t id = 0; id < 2; id++) {
        cairn_shard_close(&f->shards[id]);
        assert_int_equal(cairn_io_remove_tree(cairn_io_posix(), index[id]), 0);
        assert_int_equal(rename(older[id], index[id]), 0);
        cairn_test_move_open(f, id);
    }
    cairn_test_move_expect_all(f);
}

/* Batches are exported whole, however small the steps. */
static void exports_keep_batches_whole(void **state)
{
    struct cairn_test_move *f = *state;
    struct cairn_error err = {0};
    struct cairn_shard_item items[40];
    struct cairn_write_result results[40];
    uint64_t first = cairn_shard_applied(f->shards[0]);
    for (uint32_t i = 0; i < 40; i++) {
        items[i] = cairn_test_move_item(f, i, 300 + i);
        f->values[i] = 300 + i;
    }
    cairn_test_check(cairn_test_shard_write(f->shards[0], items, 40, results, &err), &err);
    struct cairn_shard_move move = cairn_test_move_plan(f, 1, 1);
    struct cairn_arena arena = {0};
    struct cairn_shard_record *records;
    struct cairn_shard_progress progress;
    uint32_t count, expected = 0;
    for (uint32_t i = 0; i < 40; i++)
        expected += cairn_map_is_moving(f->map, items[i].token, 0, 1);
    cairn_test_check(cairn_shard_export(f->shards[0], &move, first, 1, 0, &arena, &records, &count,
                                        &progress, &err),
                     &err);
    assert_int_equal(count, expected);
    assert_true(expected > 1);
    assert_true(progress.reached >= first + 40);
    cairn_arena_release(&arena);
}

/* A record under a map that does not give the shard its token is damage. */
static void replay_checks_ownership(void **state)
{
    struct cairn_test_move *f = *state;
    struct cairn_error err = {0};
    struct cairn_shard_move move = cairn_test_move_plan(f, 1, 1);
    cairn_test_move_release(f, &move);
    uint32_t gone = cairn_test_move_moving_key(f, &move);
    struct cairn_shard_item item = cairn_test_move_item(f, gone, 13);
    cairn_shard_close(&f->shards[0]);
    char path[CAIRN_TEST_PATH_BYTES + 8];
    (void)snprintf(path, sizeof path, "%s/log", f->paths[0]);
    struct cairn_log_options options = {.dir = path, .shard = 0};
    struct cairn_log *log = NULL;
    cairn_test_check(cairn_log_open(&options, 0, &log, NULL, &err), &err);
    struct cairn_log_entry entry = {.kind = CAIRN_RECORD_ENTITY,
                                    .collection = CAIRN_TEST_MOVE_COLLECTION,
                                    .token = item.token,
                                    .payload = item.payload};
    struct cairn_log_batch batch = {.entries = &entry, .count = 1};
    int64_t ingest_time_us = cairn_time_now_us();
    uint64_t offset;
    cairn_test_check(cairn_log_append(log, &batch, 1, &ingest_time_us, &offset, &err), &err);
    cairn_log_close(&log);
    cairn_test_move_open(f, 0);
    char reason[512];
    assert_int_equal(cairn_shard_state(f->shards[0], reason), CAIRN_SHARD_READ_ONLY);
    assert_non_null(strstr(reason, "did not own"));
    cairn_test_move_expect_all(f);
}

static void a_map_of_another_cluster_is_refused(void **state)
{
    struct cairn_test_move *f = *state;
    struct cairn_error err = {0};
    const struct cairn_map_shard first = {.id = 0, .weight = 1, .planned_weight = 1};
    struct cairn_map_spec spec = {.cluster = 78, .epoch = 9, .shards = &first, .shards_count = 1};
    const struct cairn_map *other = NULL;
    cairn_test_check(cairn_map_new(&spec, &other, &err), &err);
    assert_int_equal(cairn_shard_adopt(f->shards[0], other, CAIRN_OFFSET_NONE, &err), CAIRN_EPARAM);
    cairn_map_unref(other);
    assert_int_equal(cairn_shard_adopt(f->shards[0], f->map, 5, &err), CAIRN_EPRECONDITION);
    assert_int_equal(cairn_shard_adopt(f->shards[0], f->map, CAIRN_OFFSET_NONE, &err), 0);
    assert_int_equal(cairn_test_move_try_put(f, 1, 1, 1),
                     CAIRN_ENOTOWNER); /* a shard without a map */
}

/* A write to a key whose row here is what was left of another route waits for that to be dropped:
 * it must not be merged into it, nor go with it. */
static void a_new_route_does_not_meet_the_old_row(void **state)
{
    struct cairn_test_move *f = *state;
    struct cairn_error err = {0};
    struct cairn_write_result result;
    char key[CAIRN_TEST_MOVE_KEY_BYTES], route[CAIRN_TEST_MOVE_KEY_BYTES];
    f->options[0].forget_after_ms = 600000;
    cairn_test_move_reopen(f, 0);
    struct cairn_shard_move move = cairn_test_move_plan(f, 1, 1);
    uint32_t i = cairn_test_move_moving_key(f, &move) + 0, r = 0;
    while (f->values[i] == INT64_MIN || cairn_test_move_owner(f, i) != 0)
        i++;
    cairn_test_move_release(f, &move);
    cairn_test_move_finish(f);
    while (cairn_test_move_owner(f, i) != 1 || f->values[i] == INT64_MIN)
        i++;
    while (cairn_test_move_owner(f, r) != 0)
        r++;
    cairn_test_move_key(i, key);
    cairn_test_move_key(r, route);
    struct cairn_shard_item item = cairn_test_move_item(f, i, 0);
    item.payload = cairn_test_entity(&f->arena, key, route, 31, (const float[]){1, 1}, 2);
    item.token = cairn_token(f->schema->name, cairn_str_from(route));
    cairn_test_move_put(f, i, INT64_MIN);
    assert_int_equal(cairn_test_shard_write(f->shards[0], &item, 1, &result, &err),
                     CAIRN_EOVERLOADED);
    f->options[0].forget_after_ms = 1;
    cairn_test_move_reopen(f, 0);
    uint64_t until = cairn_time_monotonic_us() + CAIRN_TEST_MOVE_DEADLINE_US;
    int code;
    while ((code = cairn_test_shard_write(f->shards[0], &item, 1, &result, &err)) ==
           CAIRN_EOVERLOADED) {
        if (cairn_time_monotonic_us() > until)
            fail_msg("the former row stays");
        sched_yield();
    }
    cairn_test_check(code, &err);
    cairn_test_move_wait_until_clean(f);
    struct cairn_row_pin pin = {0};
    cairn_test_check(cairn_shard_get(f->shards[0],
                                     &(struct cairn_shard_read){.schema = f->schema,
                                                                .epoch = f->map->epoch,
                                                                .same_epoch = true},
                                     cairn_str_from(key), &pin, &err),
                     &err);
    assert_true(pin.found);
    cairn_row_pin_release(&pin);
}

/* A target that gets the schema only after the copy finds all vectors. */
static void a_late_schema_finds_the_vectors(void **state)
{
    struct cairn_test_move *f = *state;
    cairn_shard_close(&f->shards[1]);
    assert_int_equal(cairn_io_remove_tree(cairn_io_posix(), f->paths[1]), 0);
    cairn_test_move_open(f, 1);
    struct cairn_shard_move move = cairn_test_move_plan(f, 1, 1);
    cairn_test_move_release(f, &move);
    cairn_test_move_write_schema(f, 1);
    cairn_test_move_finish(f);
    cairn_test_move_expect_all(f);
    cairn_test_move_reopen(f, 1);
    cairn_test_move_expect_all(f);
}

/* A shard without free space can still give keys away. */
static void a_full_shard_gives_keys_away(void **state)
{
    struct cairn_test_move *f = *state;
    f->options[0].free_bytes_min = UINT64_MAX;
    cairn_test_move_reopen(f, 0);
    assert_int_equal(cairn_test_move_try_put(f, 0, 1, 1), CAIRN_ENOSPACE);
    struct cairn_shard_move move = cairn_test_move_plan(f, 1, 1);
    cairn_test_move_release(f, &move);
    cairn_test_move_finish(f);
    cairn_test_move_wait_until_clean(f);
    cairn_test_move_expect_all(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_move_hands_tokens_over),
        CASE(tokens_move_back),
        CASE(an_abort_forgets_what_was_copied),
        CASE(older_indexes_learn_what_moved),
        CASE(exports_keep_batches_whole),
        CASE(replay_checks_ownership),
        CASE(a_map_of_another_cluster_is_refused),
        CASE(a_new_route_does_not_meet_the_old_row),
        CASE(a_late_schema_finds_the_vectors),
        CASE(a_full_shard_gives_keys_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
