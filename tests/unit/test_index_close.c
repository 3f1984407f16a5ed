/* Closing an index whose build stands in a queue behind other work. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <time.h>

#include "tests/lib/index_fixture.h"

enum { VECTORS = 30, DEADLINE_S = 20 };

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    bool open;
};

static void wait_at_gate(void *arg)
{
    struct gate *gate = arg;
    pthread_mutex_lock(&gate->lock);
    while (!gate->open)
        pthread_cond_wait(&gate->opened, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

static void open_gate(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->open = true;
    pthread_cond_broadcast(&gate->opened);
    pthread_mutex_unlock(&gate->lock);
}

static void fill(struct index_fixture *fixture)
{
    char key[16];
    for (uint32_t i = 0; i < VECTORS; i++)
        assert_int_equal(cairn_index_upsert(fixture->index, test_key(i, key),
                                            (float[]){(float)i, 1}, i + 1, NULL),
                         0);
}

static void *close_index(void *arg)
{
    struct index_fixture *fixture = arg;
    cairn_index_close(&fixture->index);
    return NULL;
}

static void start(struct index_fixture *fixture, struct gate *gate, struct cairn_pool **pool)
{
    assert_int_equal(cairn_pool_start("builders", 1, 8, pool, NULL), 0);
    index_fixture_open(fixture, CAIRN_INDEX_FLAT, CAIRN_METRIC_L2, 2);
    fixture->options.builders = *pool;
    fixture->options.tail_vectors_min = VECTORS;
    index_fixture_reopen(fixture);
    assert_int_equal(cairn_pool_submit(*pool, wait_at_gate, gate), 0);
    fill(fixture);
    struct cairn_index_stats stats;
    cairn_index_stats(fixture->index, &stats);
    assert_true(stats.building);
}

/* Whoever drops a collection must not wait for the builds of others. */
static void closing_does_not_wait_in_the_queue(void **state)
{
    (void)state;
    struct gate gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    struct index_fixture fixture;
    struct cairn_pool *pool;
    pthread_t closer;
    start(&fixture, &gate, &pool);
    pthread_create(&closer, NULL, close_index, &fixture);
    struct timespec deadline;
    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += DEADLINE_S;
    int late = pthread_timedjoin_np(closer, NULL, &deadline);
    open_gate(&gate);
    if (late != 0)
        pthread_join(closer, NULL);
    assert_int_equal(late, 0);
    cairn_pool_stop(&pool); /* the build finds its index gone */
    fixture.options.builders = NULL;
    index_fixture_open_again(&fixture);
    index_fixture_close(&fixture);
}

static void a_queued_build_runs_when_its_turn_comes(void **state)
{
    (void)state;
    struct gate gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    struct index_fixture fixture;
    struct cairn_pool *pool;
    struct cairn_index_stats stats;
    start(&fixture, &gate, &pool);
    open_gate(&gate);
    cairn_pool_stop(&pool);
    cairn_index_stats(fixture.index, &stats);
    assert_false(stats.building);
    assert_int_equal(stats.built, VECTORS);
    fixture.options.builders = NULL;
    index_fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closing_does_not_wait_in_the_queue),
        cmocka_unit_test(a_queued_build_runs_when_its_turn_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
