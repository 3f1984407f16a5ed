/* What search, scroll and count share: all shards that own something are asked under one epoch,
 * those elsewhere at the same time, while the caller works on those of this process. A part that
 * finds another epoch ends the whole, which is then repeated under the newer map. */
#include <stdlib.h>

#include "router/internal.h"

#define EPOCH_TRIES_MAX 8u
#define READ_TRIES_MAX  3u

int router_scatter_begin(struct cairn_router *router, struct cairn_arena *arena,
                         struct router_scatter *scatter, struct cairn_error *err)
{
    *scatter = (struct router_scatter){.map = NULL};
    int code = router_map_need(router, &scatter->map, err);
    if (code != 0)
        return code;
    const struct cairn_map *map = scatter->map;
    scatter->parts = cairn_arena_zalloc(arena, map->shards_count * sizeof *scatter->parts);
    for (uint32_t i = 0; i < map->shards_count; i++)
        if (router_owns(map, &map->shards[i])) {
            struct router_part *part = &scatter->parts[scatter->parts_count++];
            part->shard = map->shards[i].id;
            part->member = router_member(router, part->shard);
        }
    return 0;
}

void router_scatter_send(struct router_scatter *scatter, enum cairn_shard_op op,
                         struct cairn_shard_request *request, uint64_t deadline_us)
{
    uint32_t remotes = 0;
    request->cluster = scatter->map->cluster;
    request->epoch = scatter->map->epoch;
    request->same_epoch = true;
    for (uint32_t i = 0; i < scatter->parts_count; i++)
        remotes += scatter->parts[i].member->local == NULL;
    scatter->started = remotes > 0;
    if (remotes == 0)
        return;
    router_latch_init(&scatter->latch, remotes);
    for (uint32_t i = 0; i < scatter->parts_count; i++) {
        struct router_part *part = &scatter->parts[i];
        if (part->member->local != NULL)
            continue;
        router_remote_init(&part->remote, part->member->router, part->member, op,
                           router_latch_remote_done, &scatter->latch);
        router_remote_start(&part->remote, request, deadline_us);
    }
}

int router_scatter_wait(struct router_scatter *scatter, struct cairn_arena *arena,
                        bool allow_partial, struct cairn_contract *contract,
                        struct cairn_error *err)
{
    int code = 0;
    if (scatter->started)
        router_latch_wait(&scatter->latch);
    scatter->started = false;
    if (contract->position.epoch < scatter->map->epoch)
        contract->position.epoch = scatter->map->epoch;
    for (uint32_t i = 0; i < scatter->parts_count; i++) {
        struct router_part *part = &scatter->parts[i];
        if (part->member->local != NULL)
            continue;
        int one = router_remote_take(&part->remote, arena, &part->answer);
        if (one == 0) {
            cairn_position_touch(&contract->position, part->shard, part->answer.applied);
        } else if (one == CAIRN_EUNAVAILABLE && allow_partial) {
            part->skipped = true;
            contract->partial = true;
        } else if (code == 0 || one == CAIRN_ENOTOWNER) {
            code = one;
            *err = part->answer.error;
        }
    }
    return code;
}

void router_scatter_end(struct router_scatter *scatter)
{
    if (scatter->started)
        router_latch_wait(&scatter->latch);
    scatter->started = false;
    for (uint32_t i = 0; i < scatter->parts_count; i++)
        if (scatter->parts[i].remote.router != NULL)
            router_remote_end(&scatter->parts[i].remote);
    scatter->parts_count = 0;
    cairn_map_unref(scatter->map);
    scatter->map = NULL;
}

static bool any_down(struct cairn_router *router, const struct cairn_map *map)
{
    for (uint32_t i = 0; i < map->shards_count; i++)
        if (router_owns(map, &map->shards[i]) &&
            router_member_down(router_member(router, map->shards[i].id)))
            return true;
    return false;
}

bool router_scatter_again(struct cairn_router *router, const struct cairn_map *map, int code,
                          unsigned *tries, uint64_t deadline_us)
{
    unsigned before = (*tries)++;
    if (code == CAIRN_ENOTOWNER)
        return *tries < EPOCH_TRIES_MAX && router_settle_epoch(router, map, before, deadline_us);
    return code == CAIRN_EUNAVAILABLE && *tries < READ_TRIES_MAX && !any_down(router, map) &&
           router_pause(before, deadline_us);
}
