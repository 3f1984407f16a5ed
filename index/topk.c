#include "index/topk.h"

#include <float.h>
#include <math.h>

/* Overflow makes infinities and, from their differences, NaN: both rank at the end, as finite
 * numbers, so that the order stays total and a score can be written as JSON. */
static float bounded(float rank)
{
    if (isnan(rank) || rank > FLT_MAX)
        return FLT_MAX;
    return rank < -FLT_MAX ? -FLT_MAX : rank;
}

float cairn_rank_of(bool l2, float value)
{
    return bounded(l2 ? sqrtf(value) : -value);
}

float cairn_score_of(bool l2, float rank)
{
    return l2 ? rank : 0.0f - rank; /* not -rank: that would be -0 for 0 */
}

void cairn_topk_init(struct cairn_topk *topk, uint32_t k, enum cairn_metric metric,
                     cairn_slot_key_fn key_of, const void *context, struct cairn_arena *arena)
{
    *topk = (struct cairn_topk){.entries = cairn_arena_alloc(arena, k * sizeof(*topk->entries)),
                                .k = k,
                                .key_of = key_of,
                                .context = context,
                                .l2 = metric == CAIRN_METRIC_L2,
                                .limit = INFINITY};
}

static bool worse(const struct cairn_topk *topk, struct cairn_topk_entry a,
                  struct cairn_topk_entry b)
{
    if (a.rank != b.rank)
        return a.rank > b.rank;
    int order =
        cairn_str_cmp(topk->key_of(topk->context, a.slot), topk->key_of(topk->context, b.slot));
    return order != 0 ? order > 0 : a.slot < b.slot;
}

static void sift_down(struct cairn_topk *topk, uint32_t at, uint32_t count)
{
    struct cairn_topk_entry *heap = topk->entries, moving = heap[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count)
            break;
        if (child + 1 < count && worse(topk, heap[child + 1], heap[child]))
            child++;
        if (!worse(topk, heap[child], moving))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

static void sift_up(struct cairn_topk *topk, uint32_t at)
{
    struct cairn_topk_entry *heap = topk->entries, moving = heap[at];
    while (at != 0 && worse(topk, moving, heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = moving;
}

/* The quick test compares kernel values negated for similarities. For L2 it compares squares, of
 * which several may share one rounded root: the margin lets all of those through to the exact
 * comparison. */
static void set_limit(struct cairn_topk *topk)
{
    float rank = topk->entries[0].rank;
    topk->limit = topk->l2 ? rank * rank * (1 + 8 * FLT_EPSILON) + FLT_MIN : rank;
}

static void offer_one(struct cairn_topk *topk, float value, uint32_t slot)
{
    struct cairn_topk_entry entry = {cairn_rank_of(topk->l2, value), slot};
    if (topk->count < topk->k) {
        topk->entries[topk->count] = entry;
        sift_up(topk, topk->count++);
        if (topk->count == topk->k)
            set_limit(topk);
    } else if (worse(topk, topk->entries[0], entry)) {
        topk->entries[0] = entry;
        sift_down(topk, 0, topk->count);
        set_limit(topk);
    }
}

void cairn_topk_offer(struct cairn_topk *topk, const float *values, const uint32_t *slots,
                      uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        float value = topk->l2 ? values[i] : -values[i];
        if (!(value > topk->limit)) /* NaN goes on */
            offer_one(topk, values[i], slots[i]);
    }
}

void cairn_topk_sort(struct cairn_topk *topk)
{
    for (uint32_t left = topk->count; left > 1;) {
        left--;
        struct cairn_topk_entry worst = topk->entries[0];
        topk->entries[0] = topk->entries[left];
        topk->entries[left] = worst;
        sift_down(topk, 0, left);
    }
}
