/* Consistent hash ring with weighted virtual nodes (Karger et al., STOC 1997).
 *
 * A shard with weight w owns w * vnodes points; a token belongs to the shard of the first point at
 * or after it, wrapping. Adding a shard moves keys only to it. Immutable; any number of threads. */
#ifndef CAIRN_ROUTER_RING_H
#define CAIRN_ROUTER_RING_H

#include <stdint.h>

#include "base/error.h"

struct cairn_ring_member {
    uint32_t shard;
    double weight; /* 1.0 is usual; above 0 */
};

struct cairn_ring;

/* CAIRN_EPARAM for no members, a repeated shard or a weight that is not positive. */
int cairn_ring_new(const struct cairn_ring_member *members, uint32_t count, uint32_t vnodes,
                   struct cairn_ring **out, struct cairn_error *err);
void cairn_ring_free(struct cairn_ring **ring);
uint32_t cairn_ring_shard(const struct cairn_ring *ring, uint64_t token);

#endif
