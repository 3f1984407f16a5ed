/* What shardmap.c, shardmap_plan.c and shardmap_ring.c share; no one else includes it. */
#ifndef CAIRN_BASE_SHARDMAP_PRIVATE_H
#define CAIRN_BASE_SHARDMAP_PRIVATE_H

#include <stdatomic.h>

#include "base/shardmap.h"

struct cairn_map_ring_point {
    uint64_t token;
    uint32_t shard;
};

struct cairn_map_ring_member {
    uint32_t shard;
    uint32_t points;
};

/* Points in the order of their tokens, with a table that says where to start looking. Immutable and
 * reference-counted: the maps of a plan share the two rings of it. */
struct cairn_map_ring {
    atomic_uint references;
    uint32_t members_count;
    uint32_t points_count;
    uint32_t shift;                        /* token >> shift: its place in `starts` */
    struct cairn_map_ring_member *members; /* by shard */
    uint32_t *starts; /* the first point whose token's top bits are these or higher */
    /* One more than points_count: the last has the highest token and the shard of the first, so
     * that a search ends there and wraps. */
    struct cairn_map_ring_point *points;
};

/* `members` by shard, each with a point or more, at most CAIRN_RING_POINTS_MAX together. */
struct cairn_map_ring *cairn_map_ring_new(const struct cairn_map_ring_member *members,
                                          uint32_t members_count);
struct cairn_map_ring *cairn_map_ring_ref(struct cairn_map_ring *ring);
void cairn_map_ring_unref(struct cairn_map_ring *ring); /* NULL is allowed */
/* Whether cairn_map_ring_new would make the same. */
bool cairn_map_ring_is_of(const struct cairn_map_ring *ring,
                          const struct cairn_map_ring_member *members, uint32_t members_count);

/* The first point at or after the token, wrapping. */
static inline uint32_t cairn_map_ring_owner(const struct cairn_map_ring *ring, uint64_t token)
{
    const struct cairn_map_ring_point *point = &ring->points[ring->starts[token >> ring->shift]];
    while (point->token < token)
        point++;
    return point->shard;
}

/* Add to tokens[places[owner now] * width + places[owner in the planned ring]] the number of such
 * tokens. `places`: of every shard of either ring, below `width`. All together are 2^64. */
void cairn_map_ring_overlap(const struct cairn_map_ring *now, const struct cairn_map_ring *planned,
                            const uint32_t *places, uint32_t width, unsigned __int128 *tokens);

/* A map with what is private to it. */
struct cairn_map_box {
    struct cairn_map map; /* first: the pointer handed out is the box's */
    atomic_uint references;
    struct cairn_arena arena; /* arrays and text of the map */
    struct cairn_map_ring *now;
    struct cairn_map_ring *planned; /* NULL without a plan */
    const double *shares;           /* parallel to map.shards */
};

/* cairn_map_new that takes over rings of `kin` (which may be NULL) where they are the same. */
int cairn_map_make(const struct cairn_map_spec *spec, const struct cairn_map *kin,
                   const struct cairn_map **out, struct cairn_error *err);

#endif
