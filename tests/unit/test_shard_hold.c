/* Writes that a shard holds while it gives their tokens away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "base/limits.h"
#include "base/time.h"
#include "tests/lib/shard_move_fixture.h"

#define CASE(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, cairn_test_move_setup, cairn_test_move_teardown)

struct held_write {
    struct cairn_test_move *f;
    uint32_t i;
    int64_t n;
    int code;
};

static void *write_held(void *argument)
{
    struct held_write *held = argument;
    held->code = cairn_test_move_try_put(held->f, 0, held->i, held->n);
    return NULL;
}

static void wait_until_held(struct cairn_test_move *f, uint64_t count)
{
    uint64_t until = cairn_time_monotonic_us() + CAIRN_TEST_MOVE_DEADLINE_US;
    for (uint64_t held = UINT64_MAX; held != count;) {
        struct cairn_arena arena = {0};
        struct cairn_shard_report report;
        cairn_shard_report(f->shards[0], &arena, &report);
        held = report.held_writes;
        cairn_arena_release(&arena);
        if (cairn_time_monotonic_us() > until)
            fail_msg("%llu writes are held, not %llu", (unsigned long long)held,
                     (unsigned long long)count);
    }
}

/* A hold that nobody ends is over by itself: the write goes through, and the release is refused. */
static void a_hold_ends_by_itself(void **state)
{
    struct cairn_test_move *f = *state;
    struct cairn_error err = {0};
    struct cairn_shard_move move = cairn_test_move_plan(f, 1, 1);
    uint64_t fence, end, again;
    cairn_test_check(cairn_shard_freeze(f->shards[0], &move, CAIRN_FREEZE_MS, &fence, &end, &err),
                     &err);
    assert_int_equal(end, cairn_shard_applied(f->shards[0]));
    assert_int_equal(cairn_shard_freeze(f->shards[0], &move, 1, &again, &end, &err), CAIRN_EBUSY);
    struct held_write held = {
        .f = f, .i = cairn_test_move_moving_key(f, &move), .n = 4711, .code = -1};
    pthread_t thread;
    pthread_create(&thread, NULL, write_held, &held);
    wait_until_held(f, 1);
    pthread_join(thread, NULL); /* without a thaw */
    assert_int_equal(held.code, 0);
    const struct cairn_map *next = NULL;
    cairn_test_check(cairn_map_with_done(f->map, 0, 1, &next, &err), &err);
    assert_int_equal(cairn_shard_release(f->shards[0], fence, next, &err), CAIRN_EPRECONDITION);
    /* Nor is the map taken without a fence, since it would take tokens from the shard. */
    assert_int_equal(cairn_shard_adopt(f->shards[0], next, CAIRN_OFFSET_NONE, &err),
                     CAIRN_EPRECONDITION);
    assert_int_equal(cairn_shard_epoch(f->shards[0]), f->map->epoch);
    cairn_map_unref(next);
    cairn_test_move_expect_all(f);
}

static void a_thaw_lets_held_writes_go(void **state)
{
    struct cairn_test_move *f = *state;
    struct cairn_error err = {0};
    struct cairn_shard_move move = cairn_test_move_plan(f, 1, 1);
    uint64_t fence, end;
    cairn_test_check(cairn_shard_freeze(f->shards[0], &move, CAIRN_FREEZE_MS, &fence, &end, &err),
                     &err);
    struct held_write held = {
        .f = f, .i = cairn_test_move_moving_key(f, &move), .n = 4712, .code = -1};
    pthread_t thread;
    pthread_create(&thread, NULL, write_held, &held);
    wait_until_held(f, 1);
    cairn_shard_thaw(f->shards[0], fence);
    pthread_join(thread, NULL);
    assert_int_equal(held.code, 0);
    wait_until_held(f, 0);
    cairn_test_move_expect_all(f);
}

/* A write that is held over the release is refused, and nothing of it is written. */
static void a_release_refuses_held_writes(void **state)
{
    struct cairn_test_move *f = *state;
    struct cairn_error err = {0};
    struct cairn_shard_move move = cairn_test_move_plan(f, 1, 1);
    uint64_t fence, end, reached = cairn_test_move_begin_import(f, &move);
    while (!cairn_test_move_copy_step(f, &move, &reached, 1 << 20))
        ;
    cairn_test_check(cairn_shard_freeze(f->shards[0], &move, CAIRN_FREEZE_MS, &fence, &end, &err),
                     &err);
    struct held_write held = {
        .f = f, .i = cairn_test_move_moving_key(f, &move), .n = 4713, .code = -1};
    pthread_t thread;
    pthread_create(&thread, NULL, write_held, &held);
    const struct cairn_map *next = NULL;
    cairn_test_check(cairn_map_with_done(f->map, 0, 1, &next, &err), &err);
    int code = cairn_shard_release(f->shards[0], fence, next, &err);
    pthread_join(thread, NULL);
    cairn_test_check(code, &err);
    assert_int_equal(held.code, CAIRN_ENOTOWNER);
    cairn_test_move_take_map(f, next);
    cairn_test_move_adopt(f, 1);
    cairn_test_move_expect_all(f);
}

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
    uint32_t done;
};

/* On the writer's thread. */
static void pass_gate(struct cairn_shard_write *write)
{
    struct gate *gate = write->context;
    pthread_mutex_lock(&gate->lock);
    while (!gate->open)
        pthread_cond_wait(&gate->changed, &gate->lock);
    gate->done++;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

static void submit(struct cairn_test_move *f, struct cairn_shard_write *write, struct gate *gate,
                   const struct cairn_shard_item *item, struct cairn_write_result *result)
{
    *write = (struct cairn_shard_write){
        .items = item, .count = 1, .results = result, .done = pass_gate, .context = gate};
    assert_int_equal(cairn_shard_submit(f->shards[0], write), 0);
}

static void wait_until_queued(struct cairn_test_move *f, uint64_t count)
{
    uint64_t until = cairn_time_monotonic_us() + CAIRN_TEST_MOVE_DEADLINE_US;
    for (uint64_t queued = UINT64_MAX; queued != count;) {
        struct cairn_arena arena = {0};
        struct cairn_shard_report report;
        cairn_shard_report(f->shards[0], &arena, &report);
        queued = report.queued_writes;
        cairn_arena_release(&arena);
        if (cairn_time_monotonic_us() > until)
            fail_msg("%llu writes are queued, not %llu", (unsigned long long)queued,
                     (unsigned long long)count);
    }
}

static void *adopt_on_thread(void *argument)
{
    cairn_test_move_adopt(argument, 0);
    return NULL;
}

/* A hold that a map ends in the middle of a run of writes: what was held goes first. */
static void a_map_keeps_the_order_of_held_writes(void **state)
{
    struct cairn_test_move *f = *state;
    struct cairn_error err = {0};
    struct cairn_shard_move move = cairn_test_move_plan(f, 1, 1);
    uint32_t moving = cairn_test_move_moving_key(f, &move), staying = 0;
    while (cairn_map_is_moving(f->map, cairn_test_move_item(f, staying, 0).token, 0, 1))
        staying++;
    struct gate gate = {.open = false};
    pthread_mutex_init(&gate.lock, NULL);
    pthread_cond_init(&gate.changed, NULL);
    struct cairn_shard_item items[] = {cairn_test_move_item(f, moving, 1),
                                       cairn_test_move_item(f, staying, 2),
                                       cairn_test_move_item(f, moving, 3)};
    struct cairn_shard_write writes[3];
    struct cairn_write_result results[3];
    uint64_t fence, end;
    cairn_test_check(cairn_shard_freeze(f->shards[0], &move, CAIRN_FREEZE_MS, &fence, &end, &err),
                     &err);
    submit(f, &writes[0], &gate, &items[0], &results[0]);
    wait_until_held(f, 1);
    submit(f, &writes[1], &gate, &items[1], &results[1]);
    wait_until_queued(f, 0); /* the writer waits at the gate */
    const struct cairn_map_shard url = {.id = 0, .url = CAIRN_STR_LITERAL("http://a:1")};
    const struct cairn_map *next = NULL;
    cairn_test_check(cairn_map_with_urls(f->map, &url, 1, &next, &err), &err);
    cairn_test_move_take_map(f, next);
    pthread_t thread;
    pthread_create(&thread, NULL, adopt_on_thread, f);
    wait_until_queued(f, 1);
    submit(f, &writes[2], &gate, &items[2], &results[2]);
    pthread_mutex_lock(&gate.lock);
    gate.open = true;
    pthread_cond_broadcast(&gate.changed);
    while (gate.done < 3)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
    pthread_join(thread, NULL);
    for (uint32_t i = 0; i < 3; i++)
        cairn_test_check(writes[i].error.code, &writes[i].error);
    assert_true(results[0].offset < results[2].offset);
    pthread_cond_destroy(&gate.changed);
    pthread_mutex_destroy(&gate.lock);
    f->values[moving] = 3;
    f->values[staying] = 2;
    cairn_test_move_adopt(f, 1);
    cairn_test_move_expect_all(f);
}

/* Success of a release says that this very map was appended. */
static void a_release_of_a_known_map_is_refused(void **state)
{
    struct cairn_test_move *f = *state;
    struct cairn_error err = {0};
    struct cairn_shard_move move = cairn_test_move_plan(f, 1, 1);
    uint64_t fence, end;
    cairn_test_check(cairn_shard_freeze(f->shards[0], &move, CAIRN_FREEZE_MS, &fence, &end, &err),
                     &err);
    assert_int_equal(cairn_shard_release(f->shards[0], fence, f->map, &err), CAIRN_EPRECONDITION);
    cairn_shard_thaw(f->shards[0], fence);
    cairn_test_move_expect_all(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_hold_ends_by_itself),
        CASE(a_thaw_lets_held_writes_go),
        CASE(a_release_refuses_held_writes),
        CASE(a_map_keeps_the_order_of_held_writes),
        CASE(a_release_of_a_known_map_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
