/* The shards of this process: data directory, lock, opening them, and the map in their logs. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/diag.h"
#include "router/internal.h"

#define SHARDS_DEFAULT 2u

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

static int compare_ids(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

/* The directories shard-NNNN that are there. */
static int find_shards(struct cairn_router *router, struct cairn_error *err)
{
    DIR *dir = opendir(router->dir);
    if (dir == NULL)
        return cairn_fail(err, CAIRN_EIO, "cannot read %s: %s", router->dir, strerror(errno));
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char *end;
        if (strncmp(entry->d_name, "shard-", 6) != 0)
            continue;
        unsigned long id = strtoul(entry->d_name + 6, &end, 10);
        if (end != entry->d_name + 6 && *end == '\0' && id < CAIRN_SHARDS_MAX)
            router->locals[router->locals_count++] = (uint32_t)id;
    }
    closedir(dir);
    qsort(router->locals, router->locals_count, sizeof router->locals[0], compare_ids);
    return 0;
}

/* Which shards to open, by what is there and what was asked for. */
static int choose_shards(struct cairn_router *router, const struct cairn_router_options *options,
                         struct cairn_error *err)
{
    if (options->role == CAIRN_NODE_SHARD) {
        if (options->id >= CAIRN_SHARDS_MAX)
            return cairn_fail(err, CAIRN_EPARAM, "--id: %u is not below %u", options->id,
                              CAIRN_SHARDS_MAX);
        if (router->locals_count > 1 ||
            (router->locals_count == 1 && router->locals[0] != options->id))
            return cairn_fail(err, CAIRN_EPARAM,
                              "--id: %s holds shard s%u%s, not only s%u; give another --data",
                              router->dir, router->locals[0],
                              router->locals_count > 1 ? " and others" : "", options->id);
        router->locals[0] = options->id;
        router->locals_count = 1;
        return 0;
    }
    if (router->locals_count > 0) {
        if (options->shards != 0 && options->shards != router->locals_count)
            return cairn_fail(err, CAIRN_EPARAM,
                              "--shards %u: %s has %u shards; leave the flag out", options->shards,
                              router->dir, router->locals_count);
        return 0;
    }
    if (options->shards > CAIRN_SHARDS_MAX)
        return cairn_fail(err, CAIRN_EPARAM, "--shards %u is over the limit of %u", options->shards,
                          CAIRN_SHARDS_MAX);
    router->locals_count = options->shards != 0 ? options->shards : SHARDS_DEFAULT;
    for (uint32_t i = 0; i < router->locals_count; i++)
        router->locals[i] = i;
    return 0;
}

int router_dir_open(struct cairn_router *router, const struct cairn_router_options *options,
                    struct cairn_error *err)
{
    int result = cairn_io_make_dirs(router->io, router->dir);
    if (result != 0)
        return cairn_fail(err, cairn_code_from_errno(-result),
                          "cannot create the data directory %s: %s", router->dir,
                          strerror(-result));
    int code = lock_dir(router, err);
    if (code == 0)
        code = find_shards(router, err);
    return code == 0 ? choose_shards(router, options, err) : code;
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

int router_locals_open(struct cairn_router *router, const struct cairn_router_options *options,
                       struct cairn_error *err)
{
    int code = 0;
    struct shard_opening *openings = cairn_calloc(router->locals_count + 1, sizeof *openings);
    for (uint32_t i = 0; i < router->locals_count; i++) {
        struct shard_opening *opening = &openings[i];
        uint32_t id = router->locals[i];
        (void)snprintf(opening->dir, sizeof opening->dir, "%s/shard-%04u", router->dir, id);
        opening->options =
            (struct cairn_shard_options){.dir = opening->dir,
                                         .id = id,
                                         .segment_bytes_max = options->segment_bytes_max,
                                         .free_bytes_min = options->free_bytes_min,
                                         .builders = router->builders,
                                         .metrics = options->metrics,
                                         .io = options->io};
        opening->started = pthread_create(&opening->thread, NULL, open_shard, opening) == 0;
        if (!opening->started)
            open_shard(opening);
    }
    for (uint32_t i = 0; i < router->locals_count; i++) {
        if (openings[i].started)
            pthread_join(openings[i].thread, NULL);
        if (openings[i].shard != NULL)
            router_member_local(router, router->locals[i], openings[i].shard);
        if (openings[i].error.code != 0 && code == 0) {
            code = openings[i].error.code;
            if (err != NULL)
                *err = openings[i].error;
        }
    }
    free(openings);
    return code;
}

static void *close_shard(void *argument)
{
    cairn_shard_close(argument);
    return NULL;
}

void router_locals_close(struct cairn_router *router)
{
    pthread_t threads[CAIRN_SHARDS_MAX];
    bool started[CAIRN_SHARDS_MAX] = {false};
    for (uint32_t i = 0; i < router->locals_count; i++) {
        struct router_member *member = router_member(router, router->locals[i]);
        if (member == NULL)
            continue;
        started[i] = pthread_create(&threads[i], NULL, close_shard, &member->local) == 0;
        if (!started[i])
            close_shard(&member->local);
    }
    for (uint32_t i = 0; i < router->locals_count; i++)
        if (started[i])
            pthread_join(threads[i], NULL);
}

int router_first_map(struct cairn_router *router, const struct cairn_map_shard *shards,
                     uint32_t count, const struct cairn_map **out, struct cairn_error *err)
{
    struct cairn_map_spec spec = {
        .epoch = 1, .shards = shards, .shards_count = count, .home = shards[0].id};
    for (uint32_t i = 1; i < count; i++)
        if (shards[i].id < spec.home)
            spec.home = shards[i].id;
    (void)router;
    while (spec.cluster == 0)
        if (getrandom(&spec.cluster, sizeof spec.cluster, 0) != sizeof spec.cluster)
            return cairn_fail(err, CAIRN_EIO, "no random number for the cluster's id: %s",
                              strerror(errno));
    return cairn_map_new(&spec, out, err);
}

static int make_map(struct cairn_router *router, const struct cairn_map **out,
                    struct cairn_error *err)
{
    struct cairn_map_shard shards[CAIRN_SHARDS_MAX];
    const char *advertise = atomic_load(&router->advertise);
    for (uint32_t i = 0; i < router->locals_count; i++)
        shards[i] = (struct cairn_map_shard){.id = router->locals[i],
                                             .weight = 1,
                                             .planned_weight = 1,
                                             .url = cairn_str_from(advertise ? advertise : "")};
    return router_first_map(router, shards, router->locals_count, out, err);
}

/* A shard that cannot write keeps the map it has: it serves what reads it can. */
static void adopt_all(struct cairn_router *router, const struct cairn_map *map)
{
    for (uint32_t i = 0; i < router->locals_count; i++) {
        struct cairn_error err = {0};
        struct cairn_shard *shard = router_local(router, router->locals[i]);
        if (cairn_shard_epoch(shard) < map->epoch &&
            cairn_shard_adopt(shard, map, CAIRN_OFFSET_NONE, &err) != 0)
            cairn_warn("router", "shard s%u stays at the shard map of epoch %llu: %s",
                       router->locals[i], (unsigned long long)cairn_shard_epoch(shard),
                       err.message);
    }
}

int router_locals_map(struct cairn_router *router, struct cairn_error *err)
{
    int code = 0;
    const struct cairn_map *newest = NULL;
    for (uint32_t i = 0; i < router->locals_count; i++) {
        const struct cairn_map *map = cairn_shard_map(router_local(router, router->locals[i]));
        if (map != NULL && (newest == NULL || map->epoch > newest->epoch)) {
            cairn_map_unref(newest);
            newest = map;
        } else {
            cairn_map_unref(map);
        }
    }
    if (newest == NULL && router->role == CAIRN_NODE_ALL) {
        code = make_map(router, &newest, err);
        /* Home first: a process killed in between finds the map there. */
        if (code == 0)
            code = cairn_shard_adopt(router_local(router, newest->home), newest, CAIRN_OFFSET_NONE,
                                     err);
    }
    if (code == 0 && newest != NULL) {
        adopt_all(router, newest);
        router_learn(router, newest);
    }
    cairn_map_unref(newest);
    return code;
}
