/* Scattering a write over shards and gathering the answers.
 *
 *   submit            groups the items, hands each shard its part
 *   part_done         on a writer's or the transport's thread: the part ends, or its items are done
 *                     again in a round of their own (write_retry.c)
 *   gather_release    the last part calls the caller's done
 *
 * A part is never repeated unless it is certain that nothing of it was written. */
#include <stdlib.h>

#include "base/hash.h"
#include "router/write.h"

#define DEADLINE_DEFAULT_US UINT64_C(10000000)

static void gather_finish(struct write_gather *gather)
{
    struct cairn_router_write *whole = gather->whole;
    whole->shards_count = gather->committed + gather->failed;
    whole->failed_shards = gather->failed;
    whole->error = gather->error;
    whole->contract.position = gather->position;
    whole->contract.position.epoch = atomic_load(&gather->router->epoch);
    whole->contract.partial = gather->failed > 0;
    pthread_mutex_destroy(&gather->lock);
    whole->done(whole);
}

static void gather_release(struct write_gather *gather)
{
    if (atomic_fetch_sub(&gather->pending, 1) == 1)
        gather_finish(gather);
}

static void round_release(struct write_round *round)
{
    if (atomic_fetch_sub(&round->pending, 1) == 1 && round->heap)
        free(round);
}

void write_part_end(struct write_part *part)
{
    struct write_round *round = part->round;
    struct write_gather *gather = round->gather;
    pthread_mutex_lock(&gather->lock);
    if (part->error.code == 0) {
        gather->committed++;
        cairn_position_touch(&gather->position, part->member->id,
                             round->results[part->first + part->count - 1].offset);
    } else if (gather->failed++ == 0) {
        gather->error = part->error;
    }
    pthread_mutex_unlock(&gather->lock);
    for (uint32_t i = part->first; i < part->first + part->count && part->error.code == 0; i++)
        gather->whole->results[round->places[i]] = round->results[i];
    round_release(round);
    gather_release(gather);
}

static void part_done(struct write_part *part)
{
    struct write_round *round = part->round;
    struct write_gather *gather = round->gather;
    if (part->error.code == 0 || !write_part_again(part)) {
        write_part_end(part);
        return;
    }
    round_release(round);
    gather_release(gather);
}

static void local_done(struct cairn_shard_write *write)
{
    struct write_part *part = write->context;
    part->error = write->error;
    part_done(part);
}

/* Whether the shard may have written the part although it did not say so. */
static bool is_uncertain(const struct router_remote *remote, int code)
{
    const struct cairn_call *call = &remote->call;
    if (call->error.code != 0)
        return !call->unsent && code != CAIRN_EOVERLOADED;
    return !remote->understood && call->status >= 500;
}

static void remote_done(struct router_remote *remote)
{
    struct write_part *part = remote->context;
    struct write_round *round = part->round;
    struct cairn_arena arena = {0};
    struct cairn_shard_answer answer;
    int code = router_remote_take(remote, &arena, &answer);
    part->error = answer.error;
    if (code == 0 && answer.results_count != part->count) {
        part->error.code = cairn_fail(&part->error, CAIRN_EINTERNAL,
                                      "shard s%u answered with %u results for %u items",
                                      part->member->id, answer.results_count, part->count);
    } else if (code == 0) {
        memcpy(&round->results[part->first], answer.results, part->count * sizeof *answer.results);
    } else if (is_uncertain(remote, code)) {
        part->error.code = CAIRN_EUNAVAILABLE;
        cairn_error_prefix(&part->error, "the outcome is unknown, read before writing again");
    }
    router_remote_end(remote);
    cairn_arena_release(&arena);
    part_done(part);
}

static void start_part(struct write_part *part)
{
    struct write_round *round = part->round;
    struct cairn_router *router = round->gather->router;
    struct cairn_shard_item *items = &round->items[part->first];
    if (part->member->local != NULL) {
        part->write = (struct cairn_shard_write){.items = items,
                                                 .count = part->count,
                                                 .results = &round->results[part->first],
                                                 .done = local_done,
                                                 .context = part};
        if (cairn_shard_submit(part->member->local, &part->write) != 0)
            local_done(&part->write);
        return;
    }
    struct cairn_shard_request request = {.cluster = round->cluster,
                                          .epoch = round->epoch,
                                          .collection = items[0].collection,
                                          .items = items,
                                          .items_count = part->count};
    router_remote_init(&part->remote, router, part->member, CAIRN_SHARD_WRITE, remote_done, part);
    router_remote_start(&part->remote, &request, round->gather->deadline_us);
}

/* A counting sort that keeps the order within each shard. */
int write_round_group(struct write_round *round, const struct cairn_shard_item *unsorted,
                      const uint32_t *places, struct cairn_error *err)
{
    struct cairn_router *router = round->gather->router;
    uint32_t starts[CAIRN_SHARDS_MAX + 1] = {0};
    const struct cairn_map *map;
    int code = router_map_need(router, &map, err);
    if (code != 0)
        return code;
    uint16_t *owners = cairn_malloc(round->count * sizeof *owners);
    round->cluster = map->cluster;
    round->epoch = map->epoch;
    for (uint32_t i = 0; i < round->count; i++) {
        owners[i] = (uint16_t)cairn_map_owner(map, unsorted[i].token);
        starts[owners[i] + 1]++;
    }
    round->parts_count = 0;
    for (uint32_t s = 0; s < CAIRN_SHARDS_MAX; s++) {
        uint32_t count = starts[s + 1];
        starts[s + 1] += starts[s];
        if (count > 0)
            round->parts[round->parts_count++] =
                (struct write_part){.round = round,
                                    .member = router_member(router, s),
                                    .first = starts[s],
                                    .count = count};
    }
    for (uint32_t i = 0; i < round->count; i++) {
        uint32_t to = starts[owners[i]]++;
        round->items[to] = unsorted[i];
        round->places[to] = places != NULL ? places[i] : i;
    }
    free(owners);
    cairn_map_unref(map);
    return 0;
}

/* The round may be gone when the last part was started. */
void write_round_start(struct write_round *round)
{
    uint32_t count = round->parts_count;
    struct write_part *parts = round->parts;
    atomic_store(&round->pending, count);
    for (uint32_t i = 0; i < count; i++)
        start_part(&parts[i]);
}

static struct write_round *first_round(struct write_gather *gather, struct cairn_arena *arena)
{
    uint32_t count = gather->whole->count;
    uint32_t parts = count < CAIRN_SHARDS_MAX ? count : CAIRN_SHARDS_MAX;
    struct write_round *round = cairn_arena_zalloc(arena, sizeof *round);
    round->gather = gather;
    round->count = count;
    round->parts = cairn_arena_alloc(arena, parts * sizeof *round->parts);
    round->items = cairn_arena_alloc(arena, count * sizeof *round->items);
    round->results = cairn_arena_zalloc(arena, count * sizeof *round->results);
    round->places = cairn_arena_alloc(arena, count * sizeof *round->places);
    return round;
}

void cairn_router_submit(struct cairn_router *router, struct cairn_router_write *write)
{
    struct cairn_arena *arena = write->arena;
    struct write_gather *gather = cairn_arena_zalloc(arena, sizeof *gather);
    gather->router = router;
    gather->whole = write;
    gather->deadline_us = write->deadline_us != 0 ? write->deadline_us
                                                  : cairn_time_monotonic_us() + DEADLINE_DEFAULT_US;
    pthread_mutex_init(&gather->lock, NULL);
    write->gather = gather;
    write->contract = (struct cairn_contract){.partial = false};

    struct cairn_shard_item *items = cairn_arena_alloc(arena, write->count * sizeof *items);
    bool routed = false;
    for (uint32_t i = 0; i < write->count; i++) {
        const struct cairn_router_item *item = &write->items[i];
        routed = routed || item->route.len > 0;
        items[i] = (struct cairn_shard_item){
            .kind = CAIRN_RECORD_ENTITY,
            .collection = write->schema->id,
            .token =
                cairn_token(write->schema->name, item->route.len > 0 ? item->route : item->key),
            .payload = item->payload,
            .key = item->key,
            .if_offset = item->if_offset};
    }
    if (routed)
        atomic_fetch_or(&router->routed[write->schema->id / 64 % 64],
                        UINT64_C(1) << write->schema->id % 64);
    struct write_round *round = first_round(gather, arena);
    if (write_round_group(round, items, NULL, &gather->error) != 0) {
        gather->failed = 1;
        gather_finish(gather);
        return;
    }
    atomic_init(&gather->pending, round->parts_count + 1);
    write_round_start(round);
    gather_release(gather);
}

bool cairn_router_unordered(struct cairn_router *router)
{
    const struct cairn_map *map = router_map(router);
    bool moves = map != NULL && map->plan != 0;
    cairn_map_unref(map);
    return moves || cairn_router_may_block(router);
}

struct route_settling {
    struct cairn_entity *entity;
    struct cairn_arena *arena;
    bool *changed;
    struct cairn_error *err;
    int code;
};

static void settle(void *context, uint32_t at, const struct cairn_row_ref *row)
{
    struct route_settling *settling = context;
    struct cairn_entity *entity = settling->entity;
    (void)at;
    if (!row->found)
        return;
    struct cairn_str route = cairn_row_view_route(&row->view);
    if (entity->route.len == 0 && route.len > 0) {
        entity->route = cairn_arena_dup(settling->arena, route);
        *settling->changed = true;
    } else if (!cairn_str_eq(entity->route, route)) {
        struct cairn_str held = route.len > 0 ? route : entity->key;
        settling->code =
            cairn_fail(settling->err, CAIRN_EPRECONDITION,
                       "route: entity %.*s has the route %.*s, which it keeps until it is deleted",
                       CAIRN_STR_ARG(entity->key), CAIRN_STR_ARG(held));
    }
}

int cairn_router_settle_route(struct cairn_router *router, const struct cairn_schema *schema,
                              struct cairn_entity *entity, struct cairn_arena *arena, bool *changed,
                              struct cairn_error *err)
{
    struct cairn_contract contract = {0};
    struct route_settling settling = {
        .entity = entity, .arena = arena, .changed = changed, .err = err};
    *changed = false;
    if (cairn_str_eq(entity->route, entity->key))
        entity->route.len = 0;
    struct cairn_router_fetch fetch = {.schema = schema,
                                       .keys = &entity->key,
                                       .count = 1,
                                       .arena = arena,
                                       .deadline_us = cairn_time_monotonic_us() + ROUTER_CALL_US};
    int code;
    if (cairn_router_may_block(router)) {
        code = cairn_router_get_wait(router, &fetch, settle, &settling, &contract, err);
    } else {
        code = cairn_router_get(router, &fetch, settle, &settling, &contract, err);
        cairn_router_fetch_end(&fetch);
    }
    return code != 0 ? code : settling.code;
}

static void wake(struct cairn_router_write *write)
{
    router_latch_release(write->context);
}

int cairn_router_write_wait(struct cairn_router *router, struct cairn_router_write *write)
{
    struct router_latch latch;
    router_latch_init(&latch, 1);
    write->done = wake;
    write->context = &latch;
    cairn_router_submit(router, write);
    router_latch_wait(&latch);
    return write->error.code;
}
