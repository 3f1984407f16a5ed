/* The k best of what is offered, in one total order: by rank, then by key bytes, then newer slot
 * first. So equal scores are decided by key at the k boundary too.
 *
 * A rank is a float of which smaller is better: the negated similarity, or the distance. */
#ifndef CAIRN_INDEX_TOPK_H
#define CAIRN_INDEX_TOPK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/schema.h"
#include "index/slots.h"

struct cairn_topk_entry {
    float rank;
    uint32_t slot;
};

struct cairn_topk {
    struct cairn_topk_entry *entries; /* a heap, worst first, until sorted */
    uint32_t k, count;
    cairn_slot_key_fn key_of;
    const void *context;
    bool l2;
    float limit; /* no kernel value above this can enter; see topk.c */
};

/* Room for k in the arena. */
void cairn_topk_init(struct cairn_topk *topk, uint32_t k, enum cairn_metric metric,
                     cairn_slot_key_fn key_of, const void *context, struct cairn_arena *arena);
/* Kernel values (inner product or squared L2) of slots. */
void cairn_topk_offer(struct cairn_topk *topk, const float *values, const uint32_t *slots,
                      uint32_t count);
/* Best first; nothing may be offered afterwards. */
void cairn_topk_sort(struct cairn_topk *topk);

/* Between kernel value, rank and score. */
float cairn_rank_of(bool l2, float value);
float cairn_score_of(bool l2, float rank);

#endif
