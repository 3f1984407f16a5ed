/* From what is asked of the cluster to its next map, where home is.
 *
 * New members are asked first, without a lock, since they may take their time; what the change
 * makes of the shards is then worked out again under the change lock, from the newest map there is.
 */
#include <stdio.h>

#include "base/diag.h"
#include "base/time.h"
#include "router/rebalance.h"

static struct cairn_map_shard *find_shard(struct cairn_map_shard *shards, uint32_t count,
                                          uint32_t id)
{
    for (uint32_t i = 0; i < count; i++)
        if (shards[i].id == id)
            return &shards[i];
    return NULL;
}

/* Add a shard, or change what is asked of one that is there. */
static int plan_set(const struct cairn_map_shard *asked, bool may_add, struct router_planned *out,
                    struct cairn_error *err)
{
    struct cairn_map_shard *shard = find_shard(out->shards, out->count, asked->id);
    if (asked->url.len > CAIRN_URL_BYTES_MAX)
        return cairn_fail(err, CAIRN_EPARAM, "url: at most %u bytes", CAIRN_URL_BYTES_MAX);
    if (shard == NULL) {
        if (!may_add)
            return 0;
        if (asked->url.len == 0)
            return cairn_fail(err, CAIRN_EPARAM,
                              "url: shard s%u is new; say where it answers, http://host:port",
                              asked->id);
        if (out->count == CAIRN_SHARDS_MAX)
            return cairn_fail(err, CAIRN_EPARAM, "id: there are %u shards, which is the limit",
                              CAIRN_SHARDS_MAX);
        shard = &out->shards[out->count++];
        *shard = (struct cairn_map_shard){.id = asked->id, .url = asked->url, .planned_weight = 1};
        if (asked->planned_weight > 0)
            shard->planned_weight = asked->planned_weight;
        out->weights_differ = out->urls_differ = true;
        return 0;
    }
    if (asked->url.len > 0 && !cairn_str_eq(asked->url, shard->url)) {
        shard->url = asked->url;
        out->urls_differ = true;
    }
    if (asked->planned_weight > 0 && asked->planned_weight != shard->planned_weight) {
        shard->planned_weight = asked->planned_weight;
        out->weights_differ = true;
    }
    return 0;
}

static void plan_drain(struct cairn_map_shard *shard, struct router_planned *out)
{
    out->weights_differ = out->weights_differ || shard->planned_weight != 0;
    shard->planned_weight = 0;
}

static int plan_to(const struct cairn_cluster_change *change, struct router_planned *out,
                   struct cairn_error *err)
{
    if (change->only_add && change->only_drain)
        return cairn_fail(err, CAIRN_EPARAM,
                          "only_add: cannot be asked for together with only_drain");
    uint32_t known = out->count;
    for (uint32_t i = 0; i < change->shards_count; i++) {
        for (uint32_t j = 0; j < i; j++)
            if (change->shards[j].id == change->shards[i].id)
                return cairn_fail(err, CAIRN_EPARAM, "shards[%u].id: s%u is there twice", i,
                                  change->shards[i].id);
        int code = plan_set(&change->shards[i], !change->only_drain, out, err);
        if (code != 0)
            return cairn_error_prefix(err, "shards[%u]", i);
    }
    for (uint32_t i = 0; i < known && !change->only_add; i++) {
        bool stays = false;
        for (uint32_t j = 0; j < change->shards_count && !stays; j++)
            stays = change->shards[j].id == out->shards[i].id;
        if (!stays)
            plan_drain(&out->shards[i], out);
    }
    return 0;
}

int router_plan_shards(const struct cairn_map *map, const struct cairn_cluster_change *change,
                       struct cairn_arena *arena, struct router_planned *out,
                       struct cairn_error *err)
{
    int code = 0;
    *out = (struct router_planned){.count = map->shards_count};
    out->shards = cairn_arena_alloc(arena, CAIRN_SHARDS_MAX * sizeof *out->shards);
    memcpy(out->shards, map->shards, map->shards_count * sizeof *out->shards);
    if (change->action == CAIRN_CLUSTER_TO) {
        code = plan_to(change, out, err);
    } else if (change->action == CAIRN_CLUSTER_SET) {
        code = plan_set(&change->shards[0], true, out, err);
    } else {
        struct cairn_map_shard *shard = find_shard(out->shards, out->count, change->shards[0].id);
        if (shard == NULL)
            return cairn_fail(err, CAIRN_ENOTFOUND, "id: there is no shard s%u",
                              change->shards[0].id);
        plan_drain(shard, out);
    }
    bool any = false;
    for (uint32_t i = 0; i < out->count; i++)
        any = any || out->shards[i].planned_weight > 0;
    if (code == 0 && !any)
        code = cairn_fail(err, CAIRN_EPARAM, "id: the last shard that owns keys cannot be removed");
    return code;
}

/* Whether the process at a URL has the shard, and no map of another cluster. Learns its map when it
 * is of this one. */
static int probe(struct cairn_router *router, const struct cairn_map *map,
                 const struct cairn_map_shard *shard, struct cairn_error *err)
{
    struct cairn_arena arena = {0};
    struct cairn_shard_request request = {.fence = CAIRN_OFFSET_NONE};
    struct cairn_shard_answer answer = {0};
    const struct cairn_map *its = NULL;
    int code = router_call_url(router, shard->url, shard->id, CAIRN_SHARD_ADOPT, &request, &arena,
                               &answer, cairn_time_monotonic_us() + REBALANCE_CALL_US);
    if (code != 0)
        code = cairn_fail(err, code == CAIRN_EPARAM ? CAIRN_EPARAM : CAIRN_EUNAVAILABLE,
                          "url: shard s%u does not answer at %.*s: %s", shard->id,
                          CAIRN_STR_ARG(shard->url), answer.error.message);
    else if (answer.shard != shard->id)
        code = cairn_fail(err, CAIRN_EPARAM, "url: %.*s is shard s%u, not s%u",
                          CAIRN_STR_ARG(shard->url), answer.shard, shard->id);
    else if (answer.text.len > 0)
        code = cairn_map_decode(answer.text, &its, err);
    if (its != NULL && its->cluster != map->cluster)
        code = cairn_fail(err, CAIRN_EPARAM,
                          "url: shard s%u at %.*s belongs to another cluster; give it an empty "
                          "data directory",
                          shard->id, CAIRN_STR_ARG(shard->url));
    else if (its != NULL)
        router_learn(router, its);
    cairn_map_unref(its);
    cairn_arena_release(&arena);
    return code;
}

static int probe_members(struct cairn_router *router, const struct cairn_map *map,
                         const struct router_planned *planned, struct cairn_error *err)
{
    for (uint32_t i = 0; i < planned->count; i++) {
        const struct cairn_map_shard *shard = &planned->shards[i];
        const struct cairn_map_shard *known = cairn_map_shard(map, shard->id);
        if ((known != NULL && cairn_str_eq(known->url, shard->url)) ||
            router_local(router, shard->id) != NULL)
            continue;
        int code = probe(router, map, shard, err);
        if (code != 0)
            return code;
    }
    return 0;
}

/* Shards of this process that other processes must reach from now on get its URL. */
static int fill_urls(struct cairn_router *router, struct router_planned *planned,
                     struct cairn_error *err)
{
    bool others = false;
    for (uint32_t i = 0; i < planned->count; i++)
        others = others || router_local(router, planned->shards[i].id) == NULL;
    for (uint32_t i = 0; others && i < planned->count; i++) {
        if (planned->shards[i].url.len > 0)
            continue;
        if (router->advertise == NULL)
            return cairn_fail(err, CAIRN_EPARAM,
                              "url: other processes could not reach shard s%u of this one; start "
                              "the server with --advertise http://host:port",
                              planned->shards[i].id);
        planned->shards[i].url = cairn_str_from(router->advertise);
    }
    return 0;
}

/* The map that a change of shards makes of `map`; *out stays NULL when there is nothing to do. */
static int next_map(struct cairn_router *router, const struct cairn_map *map,
                    const struct cairn_cluster_change *change, struct cairn_arena *arena,
                    const struct cairn_map **out, struct cairn_error *err)
{
    struct router_planned planned;
    int code = router_plan_shards(map, change, arena, &planned, err);
    if (code != 0)
        return code;
    if (planned.weights_differ && map->plan != 0)
        return cairn_fail(err, CAIRN_EBUSY,
                          "rebalance-%llu is under way; wait for its end, or abort it",
                          (unsigned long long)map->plan);
    if (planned.weights_differ) {
        code = fill_urls(router, &planned, err);
        return code != 0 ? code : cairn_map_with_plan(map, planned.shards, planned.count, out, err);
    }
    return planned.urls_differ ? cairn_map_with_urls(map, planned.shards, planned.count, out, err)
                               : 0;
}

static int abort_map(const struct cairn_map *map, const struct cairn_map **out,
                     struct cairn_error *err)
{
    if (map->plan == 0)
        return cairn_fail(err, CAIRN_ENOTFOUND, "no rebalancing is under way");
    return cairn_map_abort(map, out, err);
}

/* Look for the newest map, make the next one of it, and have home take it. */
static int change_map(struct cairn_router *router, const struct cairn_cluster_change *change,
                      uint64_t *plan, struct cairn_error *err)
{
    struct router_rebalance *rebalance = router->rebalance;
    const struct cairn_map *map = NULL, *next = NULL;
    struct cairn_arena arena = {0};
    pthread_mutex_lock(&rebalance->change_lock);
    int code = router_newest_map(router, &map, err);
    if (code == 0)
        code = change->action == CAIRN_CLUSTER_ABORT
                   ? abort_map(map, &next, err)
                   : next_map(router, map, change, &arena, &next, err);
    if (code == 0 && next != NULL)
        code = router_found_map(router, map, next, err);
    pthread_mutex_unlock(&rebalance->change_lock);
    if (code == 0 && next != NULL) {
        cairn_info("rebalance", "epoch %llu, plan %llu with %u moves",
                   (unsigned long long)next->epoch, (unsigned long long)next->plan,
                   next->moves_count);
        *plan = next->plan != map->plan ? next->plan : 0;
        router_jobs_follow(rebalance, next);
        if (*plan == 0)
            router_spread_map(router, next, map);
        router_rebalance_wake(router);
    }
    cairn_map_unref(next);
    cairn_map_unref(map);
    cairn_arena_release(&arena);
    return code;
}

static int resume(struct cairn_router *router, const struct cairn_map *map, uint64_t *plan,
                  struct cairn_error *err)
{
    struct router_rebalance *rebalance = router->rebalance;
    if (map->plan == 0)
        return cairn_fail(err, CAIRN_ENOTFOUND, "no rebalancing is under way");
    pthread_mutex_lock(&rebalance->lock);
    struct router_job *job = router_job_find(rebalance, map->plan);
    if (job != NULL)
        job->resumed = true;
    pthread_mutex_unlock(&rebalance->lock);
    *plan = map->plan;
    router_rebalance_wake(router);
    return 0;
}

int router_change_here(struct cairn_router *router, const struct cairn_map *map,
                       const struct cairn_cluster_change *change, uint64_t *plan,
                       struct cairn_error *err)
{
    struct cairn_arena arena = {0};
    struct router_planned planned;
    int code = 0;
    if (change->action == CAIRN_CLUSTER_RESUME)
        return resume(router, map, plan, err);
    if (change->action != CAIRN_CLUSTER_ABORT) {
        code = router_plan_shards(map, change, &arena, &planned, err);
        if (code == 0 && planned.urls_differ && (map->plan == 0 || !planned.weights_differ))
            code = probe_members(router, map, &planned, err);
    }
    cairn_arena_release(&arena);
    return code != 0 ? code : change_map(router, change, plan, err);
}

/* Local shards with another URL than this process advertises, as shards to be changed. While all
 * shards are here nobody needs one, and a map that has none is left alone. */
static uint32_t other_urls(struct cairn_router *router, const struct cairn_map *map,
                           struct cairn_map_shard *out)
{
    uint32_t count = 0;
    bool others = false;
    struct cairn_str url = cairn_str_from(router->advertise);
    for (uint32_t i = 0; i < map->shards_count; i++)
        others = others || router_local(router, map->shards[i].id) == NULL;
    for (uint32_t i = 0; i < map->shards_count; i++) {
        const struct cairn_map_shard *shard = &map->shards[i];
        if (router_local(router, shard->id) != NULL && !cairn_str_eq(shard->url, url) &&
            (others || shard->url.len > 0))
            out[count++] = (struct cairn_map_shard){.id = shard->id, .url = url};
    }
    return count;
}

int router_mend_urls(struct router_rebalance *rebalance, const struct cairn_map *map,
                     struct cairn_error *err)
{
    struct cairn_router *router = rebalance->router;
    struct cairn_map_shard shards[CAIRN_SHARDS_MAX];
    if (router->advertise == NULL)
        return 0;
    uint32_t count = other_urls(router, map, shards);
    int code = 0;
    for (uint32_t i = 0; i < count && code == 0; i++) {
        const struct cairn_cluster_change change = {
            .action = CAIRN_CLUSTER_SET, .shards = &shards[i], .shards_count = 1};
        uint64_t plan;
        code = cairn_cluster_change(router, &change, &plan, err);
    }
    return code;
}
