/* The ring of points (Karger et al., Consistent hashing and random trees, STOC 1997).
 *
 * How even the shares are depends on how the points of a shard are chosen. Measured with exact arc
 * lengths for 128 points a shard, over many salts: how much the share of the last shard deviates
 * from the mean when there are 2, 8 and 32 of them (standard deviation, relative), and how often
 * the largest of 8 has at most 1.15 times the mean.
 *
 *   points of a shard                        2      8     32     largest of 8
 *   independent                            6.1 %  7.9 %  8.9 %      70 %
 *   jittered in the stratum of their
 *   number in the van der Corput sequence  6.5 % 11.3 % 14.5 %      41 %
 *   the sequence, scrambled                5.1 %  7.8 %  8.6 %      77 %
 *
 * Jittering alone is worse than nothing: the strata of one level are every other interval of the
 * ring and the same for all shards. Nested uniform scrambling (Owen, Randomly permuted (t,m,s)-nets
 * and (t,s)-sequences, 1995) has no such lattice. Of the first 2^k points of a shard each interval
 * of length 2^-k has exactly one, yet every point by itself is uniform and shards are independent.
 * So any number of points is as even as it can be, and a higher weight only adds points.
 *
 * What remains is mostly how points of different shards fall among each other, which a shard's own
 * points cannot mend. SALT does for the shards that clusters begin with: of 200,000 tried, about 90
 * give shard N at most 1.1/(N + 1) of the tokens when it joins 0 to N - 1, for all N from 1 to 64,
 * and this one of them (at most 1.084) also has the largest of 8 shards at 1.05 times the mean and
 * the largest of any number up to 65 at most at 1.22. This is of the ids from 0 on with weight 1
 * and 128 vnodes; other sets have the deviations of the table. */
#include "base/shardmap_private.h"

#include <stdlib.h>

#include "base/hash.h"

/* Where points are is part of the format: whoever replays a log must find the owners of then. */
#define SALT            UINT64_C(60739)
#define SCRAMBLED_BITS  20
#define NUMBER_OF_POINT (UINT64_C(1) << 40) /* apart from all paths */

_Static_assert(CAIRN_RING_POINTS_MAX <= 1u << SCRAMBLED_BITS,
               "points of a shard differ in their scrambled bits");

static uint64_t hash_of(uint32_t shard, uint64_t what)
{
    uint64_t identity[3] = {SALT, shard, what};
    return cairn_hash64(identity, sizeof identity);
}

/* The van der Corput sequence takes the bits of the point's number from the lowest to be those of
 * the token from the highest. Scrambling flips each depending on the bits before it. */
static uint64_t token_of(uint32_t shard, uint32_t number)
{
    uint64_t token = 0;
    uint64_t path = 1; /* a one, then the bits passed */
    for (uint32_t i = 0; i < SCRAMBLED_BITS; i++) {
        uint64_t bit = number >> i & 1;
        token = token << 1 | (bit ^ (hash_of(shard, path) & 1));
        path = path << 1 | bit;
    }
    return token << (64 - SCRAMBLED_BITS) |
           hash_of(shard, NUMBER_OF_POINT | number) >> SCRAMBLED_BITS;
}

static int by_token(const void *left, const void *right)
{
    const struct cairn_map_ring_point *a = left, *b = right;
    if (a->token != b->token)
        return a->token < b->token ? -1 : 1;
    return (a->shard > b->shard) - (a->shard < b->shard);
}

/* Twice as many places as points, so that a search passes half a point on average. */
static void fill_starts(struct cairn_map_ring *ring)
{
    uint32_t bits = 1;
    while (1u << bits < 2 * ring->points_count)
        bits++;
    ring->shift = 64 - bits;
    ring->starts = cairn_malloc((sizeof(*ring->starts)) << bits);
    uint32_t at = 0;
    for (uint64_t place = 0; place < UINT64_C(1) << bits; place++) {
        while (at < ring->points_count && ring->points[at].token >> ring->shift < place)
            at++;
        ring->starts[place] = at;
    }
}

struct cairn_map_ring *cairn_map_ring_new(const struct cairn_map_ring_member *members,
                                          uint32_t members_count)
{
    struct cairn_map_ring *ring = cairn_calloc(1, sizeof(*ring));
    atomic_init(&ring->references, 1);
    ring->members_count = members_count;
    ring->members = cairn_malloc(members_count * sizeof(*members));
    memcpy(ring->members, members, members_count * sizeof(*members));
    size_t total = 0;
    for (uint32_t i = 0; i < members_count; i++)
        total += members[i].points;
    ring->points = cairn_calloc(total + 1, sizeof(*ring->points));
    for (uint32_t i = 0; i < members_count; i++)
        for (uint32_t number = 0; number < members[i].points; number++)
            ring->points[ring->points_count++] = (struct cairn_map_ring_point){
                .token = token_of(members[i].shard, number), .shard = members[i].shard};
    qsort(ring->points, ring->points_count, sizeof(*ring->points), by_token);
    ring->points[ring->points_count] =
        (struct cairn_map_ring_point){.token = UINT64_MAX, .shard = ring->points[0].shard};
    fill_starts(ring);
    return ring;
}

struct cairn_map_ring *cairn_map_ring_ref(struct cairn_map_ring *ring)
{
    atomic_fetch_add_explicit(&ring->references, 1, memory_order_relaxed);
    return ring;
}

void cairn_map_ring_unref(struct cairn_map_ring *ring)
{
    if (!ring || atomic_fetch_sub_explicit(&ring->references, 1, memory_order_acq_rel) != 1)
        return;
    free(ring->members);
    free(ring->starts);
    free(ring->points);
    free(ring);
}

bool cairn_map_ring_is_of(const struct cairn_map_ring *ring,
                          const struct cairn_map_ring_member *members, uint32_t members_count)
{
    return ring->members_count == members_count &&
           memcmp(ring->members, members, members_count * sizeof(*members)) == 0;
}

/* Walk the points of both rings together: between two neighbours the owners do not change. */
void cairn_map_ring_overlap(const struct cairn_map_ring *now, const struct cairn_map_ring *planned,
                            const uint32_t *places, uint32_t width, unsigned __int128 *tokens)
{
    const struct cairn_map_ring_point *a = now->points, *b = planned->points;
    unsigned __int128 from = 0; /* the first token that is not counted yet */
    while (from <= UINT64_MAX) {
        unsigned __int128 end = (unsigned __int128)(a->token < b->token ? a->token : b->token) + 1;
        tokens[places[a->shard] * width + places[b->shard]] += end - from;
        from = end;
        /* The last points have the highest token, so neither is passed before the walk ends. */
        while (from <= UINT64_MAX && a->token < from)
            a++;
        while (from <= UINT64_MAX && b->token < from)
            b++;
    }
}
