#include "router/ring.h"

#include <math.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/hash.h"

struct ring_point {
    uint64_t token;
    uint32_t shard;
};

struct cairn_ring {
    uint32_t count;
    struct ring_point points[]; /* sorted by token */
};

static int by_token(const void *left, const void *right)
{
    const struct ring_point *a = left, *b = right;
    if (a->token != b->token)
        return a->token < b->token ? -1 : 1;
    return (a->shard > b->shard) - (a->shard < b->shard);
}

static uint32_t points_of(const struct cairn_ring_member *member, uint32_t vnodes)
{
    double points = round(member->weight * vnodes);
    return points < 1 ? 1 : (uint32_t)points;
}

static int check_members(const struct cairn_ring_member *members, uint32_t count,
                         struct cairn_error *err)
{
    if (count == 0)
        return cairn_fail(err, CAIRN_EPARAM, "a ring needs at least one shard");
    for (uint32_t i = 0; i < count; i++) {
        if (!(members[i].weight > 0) || members[i].weight > 1000)
            return cairn_fail(err, CAIRN_EPARAM, "shard s%u: weight %g is not in (0, 1000]",
                              members[i].shard, members[i].weight);
        for (uint32_t j = 0; j < i; j++)
            if (members[j].shard == members[i].shard)
                return cairn_fail(err, CAIRN_EPARAM, "shard s%u stands twice in the ring",
                                  members[i].shard);
    }
    return 0;
}

int cairn_ring_new(const struct cairn_ring_member *members, uint32_t count, uint32_t vnodes,
                   struct cairn_ring **out, struct cairn_error *err)
{
    *out = NULL;
    int code = check_members(members, count, err);
    if (code != 0)
        return code;
    uint32_t total = 0;
    for (uint32_t i = 0; i < count; i++)
        total += points_of(&members[i], vnodes);
    struct cairn_ring *ring = cairn_malloc(sizeof *ring + total * sizeof ring->points[0]);
    ring->count = 0;
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t v = 0; v < points_of(&members[i], vnodes); v++) {
            /* A point depends on its shard and number alone, so points of other shards never move.
             */
            uint64_t identity[2] = {members[i].shard, v};
            ring->points[ring->count++] = (struct ring_point){
                .token = cairn_hash64(identity, sizeof identity), .shard = members[i].shard};
        }
    qsort(ring->points, ring->count, sizeof ring->points[0], by_token);
    *out = ring;
    return 0;
}

void cairn_ring_free(struct cairn_ring **ring)
{
    free(*ring);
    *ring = NULL;
}

uint32_t cairn_ring_shard(const struct cairn_ring *ring, uint64_t token)
{
    uint32_t low = 0, high = ring->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (ring->points[middle].token < token)
            low = middle + 1;
        else
            high = middle;
    }
    return ring->points[low == ring->count ? 0 : low].shard;
}
