/* The router's life.
 *
 *   open    lock -> shards (in parallel) -> map -> catalog -> calls, watch, rebalance
 *   close   rebalance -> watch -> calls -> shards (in parallel) -> builders -> unlock */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/diag.h"
#include "router/internal.h"

#define BUILD_QUEUE_MAX 4096u

static void take_options(struct cairn_router *router, const struct cairn_router_options *options)
{
    router->role = options->role;
    router->dir = options->dir != NULL ? cairn_strdup(cairn_str_from(options->dir)) : NULL;
    router->lock_fd = -1;
    router->io = options->io != NULL ? options->io : cairn_io_posix();
    router->metrics = options->metrics;
    router->copy_share_percent =
        options->copy_share_percent != 0 ? options->copy_share_percent : CAIRN_COPY_SHARE_DEFAULT;
    if (options->advertise != NULL)
        atomic_store(&router->advertise, cairn_strdup(cairn_str_from(options->advertise)));
    router->seeds = cairn_calloc(options->seeds_count + 1, sizeof *router->seeds);
    for (uint32_t i = 0; i < options->seeds_count; i++)
        router->seeds[router->seeds_count++] = (struct router_seed){
            .id = options->seeds[i].id, .url = cairn_strdup(options->seeds[i].url)};
    if (router->metrics != NULL)
        router->epoch_gauge = cairn_metrics_gauge(router->metrics, "cairn_router_epoch", "",
                                                  "Epoch of the shard map that the process goes "
                                                  "by; 0: none is known.");
}

static int check_options(const struct cairn_router_options *options, struct cairn_error *err)
{
    bool is_router = options->role == CAIRN_NODE_ROUTER;
    if (is_router && options->seeds_count == 0)
        return cairn_fail(err, CAIRN_EPARAM,
                          "--shard: a router needs the address of at least one shard");
    if (!is_router && options->dir == NULL)
        return cairn_fail(err, CAIRN_EPARAM, "--data: shards need a directory");
    if (options->seeds_count > CAIRN_SHARDS_MAX)
        return cairn_fail(err, CAIRN_EPARAM, "--shard: given %u times, at most %u",
                          options->seeds_count, CAIRN_SHARDS_MAX);
    for (uint32_t i = 0; i < options->seeds_count; i++)
        if (options->seeds[i].id >= CAIRN_SHARDS_MAX)
            return cairn_fail(err, CAIRN_EPARAM, "--shard: s%u is not below s%u",
                              options->seeds[i].id, CAIRN_SHARDS_MAX);
    return 0;
}

static void init_locks(struct cairn_router *router)
{
    pthread_condattr_t clock;
    pthread_mutex_init(&router->map_lock, NULL);
    pthread_mutex_init(&router->encoders_lock, NULL);
    pthread_rwlock_init(&router->catalog_lock, NULL);
    pthread_mutex_init(&router->change_lock, NULL);
    pthread_mutex_init(&router->watch_lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&router->watch_changed, &clock);
    pthread_condattr_destroy(&clock);
}

static unsigned cores(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (unsigned)count : 1;
}

static int open_all(struct cairn_router *router, const struct cairn_router_options *options,
                    struct cairn_error *err)
{
    struct cairn_transport_options calls = {.key = options->cluster_key,
                                            .ca_file = options->ca_file};
    int code = cairn_transport_start(&calls, &router->transport, err);
    if (code == 0 && router->dir != NULL)
        code = router_dir_open(router, options, err);
    if (code == 0)
        code = cairn_pool_start("cairn-build",
                                options->build_threads == 0 ? 1 : options->build_threads,
                                BUILD_QUEUE_MAX, &router->builders, err);
    if (code == 0)
        code = cairn_pool_start("cairn-control", CAIRN_CONTROL_THREADS, CAIRN_CONTROL_QUEUE_MAX,
                                &router->controls, err);
    if (code == 0)
        code =
            cairn_pool_start("cairn-serve", cores(), CAIRN_WORK_QUEUE_MAX, &router->servers, err);
    if (code == 0)
        code = router_locals_open(router, options, err);
    if (code == 0)
        code = router_locals_map(router, err);
    if (code == 0)
        code = router_catalog_open(router, err);
    if (code == 0)
        code = router_rebalance_open(router, err);
    router->rebalance_open = code == 0;
    return code == 0 ? router_watch_open(router, err) : code;
}

int cairn_router_open(const struct cairn_router_options *options, struct cairn_router **out,
                      struct cairn_error *err)
{
    *out = NULL;
    int code = check_options(options, err);
    if (code != 0)
        return code;
    struct cairn_router *router = cairn_calloc(1, sizeof *router);
    init_locks(router);
    take_options(router, options);
    code = open_all(router, options, err);
    if (code != 0) {
        cairn_router_close(&router);
        return code;
    }
    *out = router;
    return 0;
}

static void free_encoders(struct cairn_router *router)
{
    for (uint32_t i = 0; i < router->encoders_count; i++)
        cairn_encoder_free(&router->encoders[i]);
}

/* Calls end before the shards close, so what waits for one ends too; members outlive the shards,
 * whose writers may still report to writes that were under way. */
void cairn_router_close(struct cairn_router **handle)
{
    struct cairn_router *router = *handle;
    if (router == NULL)
        return;
    *handle = NULL;
    if (router->rebalance_open)
        router_rebalance_close(router);
    router_watch_close(router);
    if (router->controls != NULL)
        cairn_pool_stop(&router->controls);
    if (router->servers != NULL)
        cairn_pool_stop(&router->servers);
    router_rebalance_free(router);
    router_locals_close(router);
    if (router->builders != NULL)
        cairn_pool_stop(&router->builders);
    router_catalog_close(router);
    router_members_free(router);
    if (router->transport != NULL)
        cairn_transport_stop(&router->transport);
    free_encoders(router);
    if (router->lock_fd >= 0)
        close(router->lock_fd);
    for (uint32_t i = 0; i < router->seeds_count; i++)
        free(router->seeds[i].url);
    free(router->seeds);
    free(atomic_load(&router->advertise));
    pthread_cond_destroy(&router->watch_changed);
    pthread_mutex_destroy(&router->watch_lock);
    pthread_mutex_destroy(&router->change_lock);
    pthread_rwlock_destroy(&router->catalog_lock);
    pthread_mutex_destroy(&router->encoders_lock);
    pthread_mutex_destroy(&router->map_lock);
    free(router->dir);
    free(router);
}

void cairn_router_set_advertise(struct cairn_router *router, const char *url)
{
    char *none = NULL, *copy = cairn_strdup(cairn_str_from(url));
    if (!atomic_compare_exchange_strong(&router->advertise, &none, copy))
        free(copy);
    else if (router->rebalance_open)
        router_rebalance_wake(router);
}

uint64_t cairn_router_epoch(const struct cairn_router *router)
{
    return atomic_load(&router->epoch);
}

bool cairn_router_may_block(const struct cairn_router *router)
{
    return atomic_load_explicit(&router->remotes_count, memory_order_relaxed) > 0;
}
