/* Introspection: what the shards report of themselves, and sums over them. */
#include <stdio.h>

#include "base/diag.h"
#include "router/internal.h"

uint32_t cairn_router_shards_count(const struct cairn_router *router)
{
    const struct cairn_map *map = router_map((struct cairn_router *)router);
    uint32_t count = map != NULL ? map->shards_count : router->locals_count;
    cairn_map_unref(map);
    return count;
}

int cairn_router_ready(struct cairn_router *router, struct cairn_error *err)
{
    const struct cairn_map *map;
    int code = router_map_need(router, &map, err);
    cairn_map_unref(map);
    return code;
}

static struct cairn_str copy_text(struct cairn_arena *arena, const char *text)
{
    return cairn_arena_dup(arena, cairn_str_from(text));
}

/* The report as of the last health check, its bytes moved to the arena. */
static void take_remote(struct router_member *member, struct cairn_arena *arena,
                        struct cairn_member_info *info)
{
    struct router_report *report = router_report_get(member);
    info->up = !router_member_down(member);
    info->epoch = atomic_load(&member->epoch);
    if (!info->up) {
        pthread_mutex_lock(&member->lock);
        info->problem = copy_text(arena, member->problem);
        pthread_mutex_unlock(&member->lock);
    }
    if (report == NULL) {
        if (atomic_load(&member->applied) == 0 && info->problem.len == 0)
            info->up = false;
        return;
    }
    struct cairn_shard_answer answer;
    struct cairn_str body =
        cairn_arena_dup(arena, (struct cairn_str){report->body.data, (uint32_t)report->body.len});
    if (cairn_shard_answer_decode(body, arena, &answer, NULL) == 0)
        info->report = answer.report;
    info->age_ms = (cairn_time_monotonic_us() - report->taken_us) / 1000;
    router_report_release(report);
}

static void take_local(struct router_member *member, struct cairn_arena *arena,
                       struct cairn_member_info *info)
{
    struct cairn_shard_report *report = cairn_arena_zalloc(arena, sizeof *report);
    cairn_shard_report(member->local, arena, report);
    info->report = report;
    info->local = info->up = true;
    info->epoch = cairn_shard_epoch(member->local);
}

void cairn_router_members(struct cairn_router *router, struct cairn_arena *arena,
                          struct cairn_member_info **out, uint32_t *count)
{
    const struct cairn_map *map = router_map(router);
    *out = cairn_arena_zalloc(arena, CAIRN_SHARDS_MAX * sizeof **out);
    *count = 0;
    for (uint32_t i = 0; i < CAIRN_SHARDS_MAX; i++) {
        struct router_member *member = router_member(router, i);
        const struct cairn_map_shard *shard = map != NULL ? cairn_map_shard(map, i) : NULL;
        if (member == NULL || (shard == NULL && member->local == NULL))
            continue;
        struct cairn_member_info *info = &(*out)[(*count)++];
        info->id = i;
        info->applied = router_applied(member);
        if (shard != NULL) {
            info->in_map = true;
            info->home = map->home == i;
            info->url = cairn_arena_dup(arena, shard->url);
            info->weight = shard->weight;
            info->planned_weight = shard->planned_weight;
            info->share = cairn_map_share(map, i);
        }
        if (member->local != NULL)
            take_local(member, arena, info);
        else
            take_remote(member, arena, info);
    }
    cairn_map_unref(map);
}

void cairn_router_touch_all(struct cairn_router *router, struct cairn_contract *contract)
{
    const struct cairn_map *map = router_map(router);
    for (uint32_t i = 0; map != NULL && i < map->shards_count; i++)
        router_touch(router, map, contract, map->shards[i].id);
    cairn_map_unref(map);
}

/* What a member elsewhere reported of a collection last; *report holds it. */
static const struct cairn_collection_report *
collection_of(struct router_member *member, uint32_t collection, struct router_report **report)
{
    *report = router_report_get(member);
    for (uint32_t i = 0; *report != NULL && i < (*report)->report->collections_count; i++)
        if ((*report)->report->collections[i].collection == collection)
            return &(*report)->report->collections[i];
    return NULL;
}

static void member_counts(struct router_member *member, const struct cairn_schema *schema,
                          struct cairn_collection_counts *out)
{
    struct cairn_shard_read read = {.schema = schema};
    struct router_report *report;
    *out = (struct cairn_collection_counts){.newest_event_us = CAIRN_TIME_NONE,
                                            .newest_ingest_us = CAIRN_TIME_NONE};
    if (member->local != NULL) {
        uint64_t owned;
        cairn_shard_counts(member->local, schema->id, out);
        if (cairn_shard_count(member->local, &read, NULL, &owned, NULL) == 0)
            out->entities = owned;
        return;
    }
    const struct cairn_collection_report *one = collection_of(member, schema->id, &report);
    if (one != NULL)
        *out = (struct cairn_collection_counts){.entities = one->entities,
                                                .routed = one->routed,
                                                .newest_event_us = one->newest_event_us,
                                                .newest_ingest_us = one->newest_ingest_us};
    router_report_release(report);
}

void cairn_router_collection_counts(struct cairn_router *router, const struct cairn_schema *schema,
                                    struct cairn_collection_counts *out)
{
    const struct cairn_map *map = router_map(router);
    *out = (struct cairn_collection_counts){.newest_event_us = CAIRN_TIME_NONE,
                                            .newest_ingest_us = CAIRN_TIME_NONE};
    for (uint32_t i = 0; map != NULL && i < map->shards_count; i++) {
        struct cairn_collection_counts counts;
        member_counts(router_member(router, map->shards[i].id), schema, &counts);
        out->entities += counts.entities;
        out->routed += counts.routed;
        if (counts.entities == 0)
            continue;
        if (counts.newest_event_us > out->newest_event_us)
            out->newest_event_us = counts.newest_event_us;
        if (counts.newest_ingest_us > out->newest_ingest_us)
            out->newest_ingest_us = counts.newest_ingest_us;
    }
    cairn_map_unref(map);
}

bool cairn_router_has_routes(struct cairn_router *router, const struct cairn_schema *schema)
{
    if (cairn_router_may_block(router) &&
        (atomic_load(&router->routed[schema->id / 64 % 64]) >> schema->id % 64 & 1) != 0)
        return true;
    const struct cairn_map *map = router_map(router);
    bool found = false;
    for (uint32_t i = 0; map != NULL && i < map->shards_count && !found; i++) {
        struct router_member *member = router_member(router, map->shards[i].id);
        struct cairn_collection_counts counts = {0};
        struct router_report *report;
        if (member->local != NULL) {
            cairn_shard_counts(member->local, schema->id, &counts);
            found = counts.routed > 0;
            continue;
        }
        const struct cairn_collection_report *one = collection_of(member, schema->id, &report);
        found = one != NULL && one->routed > 0;
        router_report_release(report);
    }
    cairn_map_unref(map);
    return found;
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

static bool remote_index(struct router_member *member, uint32_t collection, struct cairn_str vector,
                         struct cairn_index_stats *out)
{
    struct router_report *report;
    bool found = false;
    const struct cairn_collection_report *one = collection_of(member, collection, &report);
    for (uint32_t i = 0; one != NULL && i < one->indexes_count; i++) {
        const struct cairn_index_report *index = &one->indexes[i];
        if (!cairn_str_eq(index->vector, vector))
            continue;
        found = true;
        *out = (struct cairn_index_stats){.built_kind = index->built_kind,
                                          .building = index->building,
                                          .live = index->live,
                                          .built = index->built,
                                          .tail = index->tail,
                                          .tombstones = index->tombstones,
                                          .generation_offset = index->generation_offset,
                                          .indexed_offset = index->indexed_offset,
                                          .memory_bytes = index->memory_bytes,
                                          .disk_bytes = index->disk_bytes,
                                          .builds = index->builds,
                                          .last_build_us = index->last_build_us};
    }
    router_report_release(report);
    return found;
}

int cairn_router_index_stats(struct cairn_router *router, const struct cairn_schema *schema,
                             struct cairn_str vector, struct cairn_index_stats *out)
{
    const struct cairn_map *map = router_map(router);
    int code = 0;
    *out = (struct cairn_index_stats){0};
    for (uint32_t i = 0; map != NULL && i < map->shards_count && code == 0; i++) {
        struct cairn_index_stats stats;
        struct router_member *member = router_member(router, map->shards[i].id);
        if (member->local == NULL) {
            if (remote_index(member, schema->id, vector, &stats))
                add_index_stats(out, &stats);
            continue;
        }
        code = cairn_shard_index_stats(member->local, schema->id, vector, &stats);
        if (code == 0)
            add_index_stats(out, &stats);
    }
    cairn_map_unref(map);
    return code;
}

void cairn_router_export_metrics(struct cairn_router *router)
{
    for (uint32_t i = 0; i < router->locals_count; i++)
        cairn_shard_export_metrics(router_local(router, router->locals[i]));
}

void cairn_router_each_read_only(struct cairn_router *router, void (*each)(void *arg, uint32_t id),
                                 void *arg)
{
    for (uint32_t i = 0; i < CAIRN_SHARDS_MAX; i++) {
        struct router_member *member = router_member(router, i);
        if (member == NULL)
            continue;
        struct router_report *report = member->local == NULL ? router_report_get(member) : NULL;
        if (member->local != NULL ? cairn_shard_state(member->local, NULL) != CAIRN_SHARD_SERVING
                                  : report != NULL && report->report->read_only)
            each(arg, i);
        router_report_release(report);
    }
}

uint32_t cairn_router_locals_count(const struct cairn_router *router)
{
    return router->locals_count;
}

bool cairn_router_has_local(struct cairn_router *router, uint32_t id)
{
    return router_local(router, id) != NULL;
}
