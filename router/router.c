/* The router's life: data directory, lock, shard map, shards, catalog; and introspection.
 *
 *   open    lock -> map -> shards (in parallel) -> catalog
 *   close   shards (in parallel) -> builders -> unlock
 *
 * Lock order: change_lock, then catalog_lock. */
#include "router/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/hash.h"

#define BUILD_QUEUE_MAX 4096u

static int lock_dir(struct cairn_router *router, struct cairn_error *err)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/LOCK", router->dir);
    router->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (router->lock_fd < 0)
        return cairn_fail(err, cairn_code_from_errno(errno), "cannot open %s: %s", path,
                          strerror(errno));
    if (flock(router->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return cairn_fail(err, CAIRN_EIO, "%s is in use by another process", router->dir);
    return 0;
}

struct shard_opening {
    pthread_t thread;
    bool started;
    struct cairn_shard_options options;
    struct cairn_shard *shard;
    struct cairn_error error;
    char dir[4096];
};

static void *open_shard(void *argument)
{
    struct shard_opening *opening = argument;
    opening->error.code = cairn_shard_open(&opening->options, &opening->shard, &opening->error);
    return NULL;
}

static int open_shards(struct cairn_router *router, const struct cairn_router_options *options,
                       struct cairn_error *err)
{
    int code = 0;
    struct shard_opening *openings = cairn_calloc(router->shards_count, sizeof *openings);
    for (uint32_t i = 0; i < router->shards_count; i++) {
        struct shard_opening *opening = &openings[i];
        (void)snprintf(opening->dir, sizeof opening->dir, "%s/shard-%04u", router->dir, i);
        opening->options =
            (struct cairn_shard_options){.dir = opening->dir,
                                         .id = i,
                                         .segment_bytes_max = options->segment_bytes_max,
                                         .free_bytes_min = options->free_bytes_min,
                                         .builders = router->builders,
                                         .metrics = options->metrics,
                                         .io = options->io};
        opening->started = pthread_create(&opening->thread, NULL, open_shard, opening) == 0;
        if (!opening->started)
            open_shard(opening);
    }
    for (uint32_t i = 0; i < router->shards_count; i++) {
        if (openings[i].started)
            pthread_join(openings[i].thread, NULL);
        router->shards[i] = openings[i].shard;
        if (openings[i].error.code != 0 && code == 0) {
            code = openings[i].error.code;
            if (err != NULL)
                *err = openings[i].error;
        }
    }
    free(openings);
    return code;
}

static int build_ring(struct cairn_router *router, struct cairn_error *err)
{
    struct cairn_ring_member members[CAIRN_SHARDS_MAX];
    for (uint32_t i = 0; i < router->shards_count; i++)
        members[i] = (struct cairn_ring_member){.shard = i, .weight = router->weights[i]};
    return cairn_ring_new(members, router->shards_count, router->vnodes, &router->ring, err);
}

int cairn_router_open(const struct cairn_router_options *options, struct cairn_router **out,
                      struct cairn_error *err)
{
    *out = NULL;
    struct cairn_router *router = cairn_calloc(1, sizeof *router);
    router->dir = cairn_strdup(cairn_str_from(options->dir));
    router->lock_fd = -1;
    router->io = options->io != NULL ? options->io : cairn_io_posix();
    pthread_rwlock_init(&router->catalog_lock, NULL);
    pthread_mutex_init(&router->change_lock, NULL);

    int code = 0;
    int result = cairn_io_make_dirs(router->io, router->dir);
    if (result != 0)
        code =
            cairn_fail(err, cairn_code_from_errno(-result),
                       "cannot create the data directory %s: %s", router->dir, strerror(-result));
    if (code == 0)
        code = lock_dir(router, err);
    if (code == 0)
        code = router_map_open(router, options->shards, err);
    if (code == 0)
        code = build_ring(router, err);
    if (code == 0)
        code = cairn_pool_start("cairn-build",
                                options->build_threads == 0 ? 1 : options->build_threads,
                                BUILD_QUEUE_MAX, &router->builders, err);
    if (code == 0)
        code = open_shards(router, options, err);
    if (code == 0)
        code = router_catalog_open(router, err);
    if (code != 0) {
        cairn_router_close(&router);
        return code;
    }
    *out = router;
    return 0;
}

static void *close_shard(void *argument)
{
    cairn_shard_close(argument);
    return NULL;
}

void cairn_router_close(struct cairn_router **handle)
{
    struct cairn_router *router = *handle;
    if (router == NULL)
        return;
    *handle = NULL;
    pthread_t threads[CAIRN_SHARDS_MAX];
    bool started[CAIRN_SHARDS_MAX] = {false};
    for (uint32_t i = 0; i < router->shards_count; i++) {
        started[i] = pthread_create(&threads[i], NULL, close_shard, &router->shards[i]) == 0;
        if (!started[i])
            close_shard(&router->shards[i]);
    }
    for (uint32_t i = 0; i < router->shards_count; i++)
        if (started[i])
            pthread_join(threads[i], NULL);
    cairn_pool_stop(&router->builders);
    router_catalog_close(router);
    cairn_ring_free(&router->ring);
    if (router->lock_fd >= 0)
        close(router->lock_fd);
    pthread_mutex_destroy(&router->change_lock);
    pthread_rwlock_destroy(&router->catalog_lock);
    free(router->dir);
    free(router);
}

uint32_t router_place(const struct cairn_router *router, const struct cairn_schema *schema,
                      struct cairn_str route, uint64_t *token)
{
    *token = cairn_token(schema->name, route);
    return cairn_ring_shard(router->ring, *token);
}

void router_touch(struct cairn_router *router, struct cairn_contract *contract, uint32_t shard)
{
    contract->position.epoch = router->epoch;
    cairn_position_touch(&contract->position, shard, cairn_shard_applied(router->shards[shard]));
}

uint64_t cairn_router_epoch(const struct cairn_router *router)
{
    return router->epoch;
}

uint32_t cairn_router_shards_count(const struct cairn_router *router)
{
    return router->shards_count;
}

void cairn_router_shard_info(struct cairn_router *router, uint32_t at, struct cairn_shard_info *out)
{
    cairn_shard_stats(router->shards[at], &out->stats);
    out->state = cairn_shard_state(router->shards[at], out->reason);
    out->weight = router->weights[at];
}

void cairn_router_collection_counts(struct cairn_router *router, const struct cairn_schema *schema,
                                    struct cairn_collection_counts *out)
{
    *out = (struct cairn_collection_counts){.newest_event_us = CAIRN_TIME_NONE,
                                            .newest_ingest_us = CAIRN_TIME_NONE};
    for (uint32_t i = 0; i < router->shards_count; i++) {
        struct cairn_collection_counts counts;
        cairn_shard_counts(router->shards[i], schema->id, &counts);
        out->entities += counts.entities;
        out->routed += counts.routed;
        if (counts.entities == 0)
            continue;
        if (counts.newest_event_us > out->newest_event_us)
            out->newest_event_us = counts.newest_event_us;
        if (counts.newest_ingest_us > out->newest_ingest_us)
            out->newest_ingest_us = counts.newest_ingest_us;
    }
}

static void add_index_stats(struct cairn_index_stats *sum, const struct cairn_index_stats *one)
{
    if (one->built >= sum->built)
        sum->built_kind = one->built_kind;
    sum->live += one->live;
    sum->built += one->built;
    sum->tail += one->tail;
    sum->tombstones += one->tombstones;
    sum->memory_bytes += one->memory_bytes;
    sum->disk_bytes += one->disk_bytes;
    sum->building = sum->building || one->building;
    sum->builds += one->builds;
    if (one->last_build_us > sum->last_build_us)
        sum->last_build_us = one->last_build_us;
}

int cairn_router_index_stats(struct cairn_router *router, const struct cairn_schema *schema,
                             struct cairn_str vector, struct cairn_index_stats *out)
{
    *out = (struct cairn_index_stats){0};
    for (uint32_t i = 0; i < router->shards_count; i++) {
        struct cairn_index_stats stats;
        int code = cairn_shard_index_stats(router->shards[i], schema->id, vector, &stats);
        if (code != 0)
            return code;
        add_index_stats(out, &stats);
    }
    return 0;
}

void cairn_router_export_metrics(struct cairn_router *router)
{
    for (uint32_t i = 0; i < router->shards_count; i++)
        cairn_shard_export_metrics(router->shards[i]);
}
