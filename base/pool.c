#include "base/pool.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

struct task {
    void (*run)(void *arg);
    void *arg;
};

/* A ring of `queue_max` tasks: the next to run is at `first`, and `queued` follow from there. */
struct cairn_pool {
    /* Immutable once started. */
    unsigned queue_max;
    unsigned threads_count;
    pthread_t *threads;
    char name[16];

    pthread_mutex_t lock; /* guards what follows; not held while a task runs */
    pthread_cond_t work;  /* a task came, or stopping */
    struct task *tasks;
    unsigned first;
    unsigned queued;
    unsigned idle; /* workers in wait: a submit with none wakes nobody */
    bool stopping;
};

/* Wait for a task. False: stopping, and none is left. */
static bool take_task(struct cairn_pool *pool, struct task *out)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->queued == 0 && !pool->stopping) {
        pool->idle++;
        pthread_cond_wait(&pool->work, &pool->lock);
        pool->idle--;
    }
    bool found = pool->queued > 0;
    if (found) {
        *out = pool->tasks[pool->first];
        pool->first = pool->first + 1 == pool->queue_max ? 0 : pool->first + 1;
        pool->queued--;
    }
    pthread_mutex_unlock(&pool->lock);
    return found;
}

static void *work(void *arg)
{
    struct cairn_pool *pool = arg;
    pthread_setname_np(pthread_self(), pool->name);
    struct task task;
    while (take_task(pool, &task))
        task.run(task.arg);
    return NULL;
}

int cairn_pool_start(const char *name, unsigned threads, unsigned queue_max,
                     struct cairn_pool **out, struct cairn_error *err)
{
    *out = NULL;
    if (threads == 0 || queue_max == 0)
        return cairn_fail(err, CAIRN_EPARAM, "pool %s needs at least one thread and one place",
                          name);
    struct cairn_pool *pool = cairn_calloc(1, sizeof(*pool));
    pool->queue_max = queue_max;
    pool->threads = cairn_calloc(threads, sizeof(*pool->threads));
    pool->tasks = cairn_calloc(queue_max, sizeof(*pool->tasks));
    snprintf(pool->name, sizeof(pool->name), "%s", name);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    while (pool->threads_count < threads) {
        int rc = pthread_create(&pool->threads[pool->threads_count], NULL, work, pool);
        if (rc != 0) {
            unsigned started = pool->threads_count;
            cairn_pool_stop(&pool);
            return cairn_fail(err, CAIRN_EINTERNAL, "pool %s: thread %u of %u did not start: %s",
                              name, started + 1, threads, strerror(rc));
        }
        pool->threads_count++;
    }
    *out = pool;
    return 0;
}

int cairn_pool_submit(struct cairn_pool *pool, void (*run)(void *arg), void *arg)
{
    int rc = 0;
    bool wake = false;
    pthread_mutex_lock(&pool->lock);
    if (pool->stopping) {
        rc = CAIRN_ESHUTDOWN;
    } else if (pool->queued == pool->queue_max) {
        rc = CAIRN_EOVERLOADED;
    } else {
        size_t at = ((size_t)pool->first + pool->queued) % pool->queue_max;
        pool->tasks[at] = (struct task){run, arg};
        pool->queued++;
        wake = pool->idle > 0;
    }
    pthread_mutex_unlock(&pool->lock);
    if (wake)
        pthread_cond_signal(&pool->work);
    return rc;
}

size_t cairn_pool_queued(struct cairn_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    size_t queued = pool->queued;
    pthread_mutex_unlock(&pool->lock);
    return queued;
}

void cairn_pool_stop(struct cairn_pool **pool_ptr)
{
    struct cairn_pool *pool = *pool_ptr;
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->threads_count; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool->tasks);
    free(pool->threads);
    free(pool);
    *pool_ptr = NULL;
}
