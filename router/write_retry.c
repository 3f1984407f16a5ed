/* Parts of writes that a shard refused because it does not own all of their tokens, and parts that
 * never left. Nothing of them was written, so their items are grouped by the newest map and handed
 * out again. That happens on the watch thread: those who report the refusal are a shard's writer
 * or the transport, which must not be kept. */
#include <stdlib.h>

#include "router/write.h"

#define TRIES_MAX      6u
#define RETRY_DELAY_US UINT64_C(4000) /* doubled with each try, while the map stays the same */

/* Take up the map of the shard that refused, when it is one of this process. */
static void learn_local(struct cairn_router *router, const struct router_member *member)
{
    if (member->local == NULL)
        return;
    const struct cairn_map *map = cairn_shard_map(member->local);
    if (map != NULL)
        router_learn(router, map);
    cairn_map_unref(map);
}

/* One allocation: the round, its parts, items, results, places, and the unsorted items. */
static struct write_round *round_copy(const struct write_part *part)
{
    const struct write_round *old = part->round;
    uint32_t count = part->count;
    uint32_t parts = count < CAIRN_SHARDS_MAX ? count : CAIRN_SHARDS_MAX;
    struct block {
        struct write_round round;
    } *block =
        cairn_calloc(1, sizeof *block + parts * sizeof(struct write_part) +
                            count * (2 * sizeof(struct cairn_shard_item) +
                                     sizeof(struct cairn_write_result) + 2 * sizeof(uint32_t)));
    struct write_round *round = &block->round;
    round->gather = old->gather;
    round->heap = true;
    round->tries = old->tries + 1;
    round->resent = old->resent;
    round->count = count;
    round->parts = (struct write_part *)(void *)(block + 1);
    round->items = (struct cairn_shard_item *)(void *)(round->parts + parts);
    round->results = (struct cairn_write_result *)(void *)(round->items + (size_t)2 * count);
    round->places = (uint32_t *)(void *)(round->results + count);
    memcpy(round->items + count, &old->items[part->first], count * sizeof *round->items);
    memcpy(round->places + count, &old->places[part->first], count * sizeof *round->places);
    return round;
}

/* On the watch thread. The gather has one count for the whole round until it is handed out. */
static void begin_round(struct router_timer *timer)
{
    struct write_round *round = (struct write_round *)(void *)timer;
    struct write_gather *gather = round->gather;
    struct cairn_error err = {0};
    if (write_round_group(round, round->items + round->count, round->places + round->count, &err) !=
        0) {
        round->parts_count = 1;
        round->parts[0] = (struct write_part){.round = round, .count = round->count, .error = err};
        atomic_store(&round->pending, 1);
        write_part_end(&round->parts[0]);
        return;
    }
    if (round->parts_count > 1)
        atomic_fetch_add(&gather->pending, round->parts_count - 1);
    write_round_start(round);
}

bool write_part_again(struct write_part *part)
{
    struct write_round *round = part->round;
    struct write_gather *gather = round->gather;
    struct cairn_router *router = gather->router;
    bool not_owner = part->error.code == CAIRN_ENOTOWNER;
    bool unsent = part->member->local == NULL && part->error.code == CAIRN_EUNAVAILABLE &&
                  part->remote.call.unsent && !round->resent && !router_member_down(part->member);
    if (!not_owner && !unsent)
        return false;
    if (not_owner)
        learn_local(router, part->member);
    uint64_t epoch = atomic_load(&router->epoch);
    uint64_t delay_us = epoch > round->epoch ? 0 : RETRY_DELAY_US << round->tries;
    if (round->tries + 1 >= TRIES_MAX ||
        cairn_time_monotonic_us() + delay_us >= gather->deadline_us) {
        if (not_owner)
            part->error.code = cairn_fail(
                &part->error, CAIRN_EUNAVAILABLE,
                "shard s%u: the keys are changing hands and nothing was written; try again",
                part->member->id);
        return false;
    }
    struct write_round *next = round_copy(part);
    next->resent = next->resent || unsent;
    next->timer.run = begin_round;
    atomic_fetch_add(&gather->pending, 1);
    router_later(router, &next->timer, delay_us);
    return true;
}
