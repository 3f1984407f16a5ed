#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/pool.h"

/* A door that tasks stand at until the test opens it. */
struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned arrived;
    bool open;
};

#define GATE_INIT                                                                                  \
    {                                                                                              \
        .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER                     \
    }

static void pass_gate(void *arg)
{
    struct gate *gate = arg;
    pthread_mutex_lock(&gate->lock);
    gate->arrived++;
    pthread_cond_broadcast(&gate->changed);
    while (!gate->open)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

static void await_arrivals(struct gate *gate, unsigned count)
{
    pthread_mutex_lock(&gate->lock);
    while (gate->arrived < count)
        pthread_cond_wait(&gate->changed, &gate->lock);
    pthread_mutex_unlock(&gate->lock);
}

static void open_gate(struct gate *gate)
{
    pthread_mutex_lock(&gate->lock);
    gate->open = true;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

static void add_one(void *arg)
{
    atomic_fetch_add((_Atomic unsigned *)arg, 1);
}

static struct cairn_pool *start(unsigned threads, unsigned queue_max)
{
    struct cairn_pool *pool = NULL;
    struct cairn_error err = {0};
    if (cairn_pool_start("test-pool-of-long-name", threads, queue_max, &pool, &err) != 0)
        fail_msg("%s", err.message);
    return pool;
}

static void bad_sizes_are_refused(void **state)
{
    (void)state;
    struct cairn_pool *pool = (struct cairn_pool *)&state;
    struct cairn_error err = {0};
    assert_int_equal(cairn_pool_start("p", 0, 1, &pool, &err), CAIRN_EPARAM);
    assert_null(pool);
    assert_int_equal(cairn_pool_start("p", 1, 0, &pool, &err), CAIRN_EPARAM);
    assert_null(pool);
    cairn_pool_stop(&pool); /* of none */
}

static void start_and_stop_at_once(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= 8; threads++) {
        struct cairn_pool *pool = start(threads, 1);
        cairn_pool_stop(&pool);
        assert_null(pool);
    }
}

static void queue_is_bounded(void **state)
{
    (void)state;
    enum { QUEUE = 5 };
    struct gate gate = GATE_INIT;
    _Atomic unsigned ran = 0;
    struct cairn_pool *pool = start(2, QUEUE);
    assert_int_equal(cairn_pool_submit(pool, pass_gate, &gate), 0);
    assert_int_equal(cairn_pool_submit(pool, pass_gate, &gate), 0);
    await_arrivals(&gate, 2); /* both workers are busy, the queue is empty */
    for (unsigned i = 0; i < QUEUE; i++) {
        assert_int_equal(cairn_pool_queued(pool), i);
        assert_int_equal(cairn_pool_submit(pool, add_one, &ran), 0);
    }
    assert_int_equal(cairn_pool_queued(pool), QUEUE);
    assert_int_equal(cairn_pool_submit(pool, add_one, &ran), CAIRN_EOVERLOADED);
    assert_int_equal(cairn_pool_queued(pool), QUEUE);
    assert_int_equal(atomic_load(&ran), 0);
    open_gate(&gate);
    cairn_pool_stop(&pool);
    assert_int_equal(atomic_load(&ran), QUEUE); /* and not the refused one */
}

static void one_worker_keeps_the_order(void **state)
{
    (void)state;
    enum { TASKS = 37, QUEUE = 4 };
    struct gate gates[TASKS];
    struct cairn_pool *pool = start(1, QUEUE);
    /* The ring is filled and drained so that it wraps at every phase. */
    for (int i = 0; i < TASKS; i++)
        gates[i] = (struct gate)GATE_INIT;
    int submitted = 0;
    for (int i = 0; i < TASKS; i++) {
        while (submitted < TASKS && submitted < i + 1 + i % QUEUE)
            assert_int_equal(cairn_pool_submit(pool, pass_gate, &gates[submitted++]), 0);
        await_arrivals(&gates[i], 1);
        for (int later = i + 1; later < submitted; later++) {
            pthread_mutex_lock(&gates[later].lock);
            assert_int_equal(gates[later].arrived, 0);
            pthread_mutex_unlock(&gates[later].lock);
        }
        open_gate(&gates[i]);
    }
    cairn_pool_stop(&pool);
}

static void *stop_pool(void *arg)
{
    cairn_pool_stop(arg);
    return NULL;
}

struct late {
    struct cairn_pool *pool;
    struct gate gate;
    _Atomic unsigned refused;
    _Atomic unsigned ran;
};

/* Submits until it is refused: from then on the pool is stopping. */
static void submit_until_refused(void *arg)
{
    struct late *late = arg;
    pass_gate(&late->gate);
    for (;;) {
        int rc = cairn_pool_submit(late->pool, add_one, &late->ran);
        if (rc == CAIRN_ESHUTDOWN)
            break;
        if (rc != CAIRN_EOVERLOADED)
            assert_int_equal(rc, 0);
    }
    atomic_fetch_add(&late->refused, 1);
}

static void stop_drains_and_refuses(void **state)
{
    (void)state;
    struct late late = {.gate = GATE_INIT};
    _Atomic unsigned ran = 0;
    struct cairn_pool *pool = late.pool = start(1, 100);
    assert_int_equal(cairn_pool_submit(pool, submit_until_refused, &late), 0);
    await_arrivals(&late.gate, 1);
    for (int i = 0; i < 50; i++)
        assert_int_equal(cairn_pool_submit(pool, add_one, &ran), 0);
    pthread_t stopper;
    assert_int_equal(pthread_create(&stopper, NULL, stop_pool, &pool), 0);
    open_gate(&late.gate);
    pthread_join(stopper, NULL);
    assert_null(pool);
    assert_int_equal(atomic_load(&ran), 50);
    assert_int_equal(atomic_load(&late.refused), 1);
}

struct tree {
    struct cairn_pool *pool;
    _Atomic unsigned nodes;
    unsigned depth;
    struct gate done;
};

enum { TREE_DEPTH = 9, TREE_NODES = (1 << (TREE_DEPTH + 1)) - 1 };

struct node {
    struct tree *tree;
    unsigned depth;
};

static struct node nodes_of_depth[TREE_DEPTH + 1];

/* Two tasks from each, down to the leaves; a full queue is met by doing the work at once. */
static void grow(void *arg)
{
    struct node *node = arg;
    struct tree *tree = node->tree;
    for (int child = 0; node->depth < TREE_DEPTH && child < 2; child++) {
        struct node *below = node + 1;
        int rc = cairn_pool_submit(tree->pool, grow, below);
        if (rc == CAIRN_EOVERLOADED)
            grow(below);
        else
            assert_int_equal(rc, 0);
    }
    if (atomic_fetch_add(&tree->nodes, 1) + 1 == TREE_NODES)
        open_gate(&tree->done);
}

static void workers_may_submit(void **state)
{
    (void)state;
    for (unsigned threads = 1; threads <= 4; threads++) {
        struct tree tree = {.done = GATE_INIT};
        for (unsigned depth = 0; depth <= TREE_DEPTH; depth++)
            nodes_of_depth[depth] = (struct node){&tree, depth};
        tree.pool = start(threads, 64);
        assert_int_equal(cairn_pool_submit(tree.pool, grow, &nodes_of_depth[0]), 0);
        pass_gate(&tree.done);
        cairn_pool_stop(&tree.pool);
        assert_int_equal(atomic_load(&tree.nodes), TREE_NODES);
    }
}

static void worker_name(void *arg)
{
    pthread_getname_np(pthread_self(), arg, 16);
}

static void workers_are_named(void **state)
{
    (void)state;
    char name[16] = "";
    struct cairn_pool *pool = start(1, 1);
    assert_int_equal(cairn_pool_submit(pool, worker_name, name), 0);
    cairn_pool_stop(&pool);
    assert_string_equal(name, "test-pool-of-lo");
}

struct flood {
    struct cairn_pool *pool;
    _Atomic unsigned ran;
    _Atomic unsigned accepted;
};

static void *flood(void *arg)
{
    struct flood *to = arg;
    for (int i = 0; i < 5000; i++) {
        if (cairn_pool_submit(to->pool, add_one, &to->ran) == 0)
            atomic_fetch_add(&to->accepted, 1);
    }
    return NULL;
}

static void what_is_accepted_runs_once(void **state)
{
    (void)state;
    struct flood to = {.pool = start(3, 16)};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, flood, &to), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    cairn_pool_stop(&to.pool);
    assert_true(atomic_load(&to.accepted) > 0);
    assert_int_equal(atomic_load(&to.ran), atomic_load(&to.accepted));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_sizes_are_refused),   cmocka_unit_test(start_and_stop_at_once),
        cmocka_unit_test(queue_is_bounded),        cmocka_unit_test(one_worker_keeps_the_order),
        cmocka_unit_test(stop_drains_and_refuses), cmocka_unit_test(workers_may_submit),
        cmocka_unit_test(workers_are_named),       cmocka_unit_test(what_is_accepted_runs_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
