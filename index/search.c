/* A search: the built part (approximately through its kind, or exactly), then the tail (exactly),
 * merged by one bounded heap in which every score comes from the same kernel.
 *
 * The order matters (generation.h, invariant 2): tombstones of the built part are read before the
 * tail's count, so a key that moved from the one to the other meanwhile is not missed. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "index/internal.h"
#include "index/kernels.h"
#include "index/topk.h"

enum {
    BATCH = 64,            /* rows per kernel call; also the slots of a bitmap word */
    EXACT_ROWS_MIN = 1000, /* fewer are scanned: cheaper than any search */
    TAIL_ROUNDS_MAX = 64,
    ATTEMPTS_MAX = 4,
};

struct pass {
    struct cairn_generation *generation;
    const struct cairn_index_search *search;
    const struct cairn_index_filter *filter;
    enum cairn_metric metric;
    const float *query; /* prepared */
    struct cairn_arena *arena;
    struct cairn_topk topk;
    uint32_t tail_at_start;
};

static void score(struct pass *pass, const float *const *rows, const uint32_t *slots,
                  uint32_t count)
{
    float values[BATCH];
    uint32_t dim = pass->generation->tail.dim;
    if (pass->metric == CAIRN_METRIC_L2)
        cairn_kernels->l2sq_many(pass->query, rows, count, dim, values);
    else
        cairn_kernels->dot_many(pass->query, rows, count, dim, values);
    cairn_topk_offer(&pass->topk, values, slots, count);
}

static void score_slots(struct pass *pass, const uint32_t *slots, uint32_t count)
{
    const float *rows[BATCH];
    for (uint32_t done = 0; done < count;) {
        uint32_t take = count - done < BATCH ? count - done : BATCH;
        for (uint32_t i = 0; i < take; i++)
            rows[i] = cairn_generation_vector(pass->generation, slots[done + i]);
        score(pass, rows, slots + done, take);
        done += take;
    }
}

/* The set bits of `mask`, as slots from `first`, whose rows stand one after the other. */
static void score_word(struct pass *pass, uint64_t mask, uint32_t first, const float *first_row)
{
    const float *rows[BATCH];
    uint32_t slots[BATCH], count = 0;
    for (; mask != 0; mask &= mask - 1) {
        uint32_t bit = (uint32_t)__builtin_ctzll(mask);
        slots[count] = first + bit;
        rows[count++] = first_row + (size_t)bit * pass->generation->tail.dim;
    }
    score(pass, rows, slots, count);
}

static uint64_t filter_word(const struct cairn_index_filter *filter, size_t index)
{
    if (filter == NULL)
        return ~UINT64_C(0);
    return index < filter->words_count ? filter->words[index] : 0;
}

/* Live slots of the built part that the search may return, in a word. */
static uint64_t built_word(const struct pass *pass, size_t index)
{
    uint32_t built = cairn_generation_built(pass->generation);
    return cairn_bitmap_below(index * 64, built) & filter_word(pass->filter, index) &
           ~cairn_bitmap_word(pass->generation->built_dead, index);
}

static void scan_built(struct pass *pass)
{
    const struct cairn_rows *rows = &pass->generation->built.rows;
    size_t words = cairn_bitmap_words(rows->count);
    for (size_t w = 0; w < words; w++) {
        uint64_t mask = built_word(pass, w);
        if (mask != 0)
            score_word(pass, mask, (uint32_t)w * 64, cairn_rows_at(rows, (uint32_t)w * 64));
    }
}

static uint64_t count_built(const struct pass *pass)
{
    uint32_t built = cairn_generation_built(pass->generation);
    if (pass->filter == NULL)
        return built -
               atomic_load_explicit(&pass->generation->built_dead_count, memory_order_relaxed);
    uint64_t count = 0;
    for (size_t w = 0; w < cairn_bitmap_words(built); w++)
        count += (uint64_t)__builtin_popcountll(built_word(pass, w));
    return count;
}

static void scan_tail_range(struct pass *pass, uint32_t from, uint32_t to)
{
    const struct cairn_tail *tail = &pass->generation->tail;
    uint32_t built = cairn_generation_built(pass->generation);
    for (uint32_t first = from & ~63u; first < to; first += 64) {
        uint64_t mask = cairn_bitmap_below(first, to) & ~cairn_tail_dead_word(tail, first);
        if (first < from)
            mask &= ~cairn_bitmap_below(first, from);
        if (mask != 0)
            score_word(pass, mask, built + first, cairn_tail_vector(tail, first));
    }
}

/* Until nothing was appended meanwhile: a slot found dead may have been replaced by a newer one.
 * The bound only keeps a search from following an endless stream of writes. */
static void scan_tail(struct pass *pass)
{
    uint32_t from = 0, to = cairn_tail_count(&pass->generation->tail);
    for (int round = 0; from != to && round < TAIL_ROUNDS_MAX; round++) {
        scan_tail_range(pass, from, to);
        from = to;
        to = cairn_tail_count(&pass->generation->tail);
    }
}

/* The filter's tail slots, and the present slots of keys that were written again after they had
 * been added to the filter. */
static void scan_filtered_tail(struct pass *pass)
{
    struct cairn_generation *generation = pass->generation;
    const struct cairn_index_filter *filter = pass->filter;
    uint32_t built = cairn_generation_built(generation), slots[BATCH], count = 0;
    for (size_t w = 0; w < filter->words_count; w++) {
        uint64_t mask = filter->words[w];
        if ((w + 1) * 64 <= built)
            mask &= cairn_bitmap_word(generation->built_dead, w);
        for (; mask != 0; mask &= mask - 1) {
            uint32_t slot = (uint32_t)(w * 64) + (uint32_t)__builtin_ctzll(mask);
            if (cairn_generation_is_dead(generation, slot)) {
                slot = cairn_generation_find(generation, cairn_generation_key(generation, slot));
                if (slot == CAIRN_SLOT_NONE ||
                    (filter_word(filter, slot / 64) >> (slot % 64) & 1) != 0)
                    continue;
            } else if (slot < built) {
                continue;
            }
            slots[count++] = slot;
            if (count == BATCH) {
                score_slots(pass, slots, count);
                count = 0;
            }
        }
    }
    score_slots(pass, slots, count);
}

/* Effort for this search: what was asked or tuned, more where only a part of the rows counts or
 * more neighbours are wanted than it was tuned for. */
static uint32_t effort_of(const struct pass *pass, uint64_t wanted)
{
    const struct cairn_built *built = &pass->generation->built;
    const struct cairn_index_search *search = pass->search;
    uint32_t asked = built->kind->id == CAIRN_INDEX_IVF ? search->nprobe : search->ef;
    uint32_t most = built->kind->effort_max(built->state);
    uint32_t effort = asked != 0 ? asked : built->tuning.effort;
    double fraction = (double)wanted / built->rows.count;
    return built->kind->scale(built->state, effort < most ? effort : most, fraction,
                              asked != 0 ? 0 : search->k);
}

/* *done is false when exact scanning is called for: there is nothing to search approximately, it
 * would cost more, or it found fewer than there are. */
static int search_built(struct pass *pass, bool *done, struct cairn_error *err)
{
    const struct cairn_built *built = &pass->generation->built;
    *done = false;
    if (built->rows.count == 0 || pass->search->exact || !built->kind->approximate)
        return 0;
    uint64_t wanted = count_built(pass);
    if (wanted <= EXACT_ROWS_MIN)
        return 0;
    struct cairn_kind_search inner = {
        .query = pass->query,
        .k = pass->topk.k * built->tuning.rerank,
        .effort = effort_of(pass, wanted),
        .allow = pass->filter == NULL ? NULL : pass->filter->words,
        .deny = atomic_load_explicit(&pass->generation->built_dead_count, memory_order_relaxed) == 0
                    ? NULL
                    : pass->generation->built_dead,
    };
    if (inner.k >= wanted || wanted <= 2 * built->kind->work(built->state, inner.effort))
        return 0;
    uint32_t *slots, count;
    int code = built->kind->search(built->state, &inner, pass->arena, &slots, &count, err);
    if (code != 0)
        return code;
    if (count < (pass->topk.k < wanted ? pass->topk.k : wanted))
        return 0;
    score_slots(pass, slots, count);
    *done = true;
    return 0;
}

/* A search that saw a key both before and after it was written anew has two slots of it: the older
 * one goes. Only slots published since the search began, or the one being published then, can be
 * such newer ones. Returns how many went. */
static uint32_t drop_older(struct pass *pass)
{
    struct cairn_topk *topk = &pass->topk;
    uint32_t first_new = cairn_generation_built(pass->generation) + pass->tail_at_start;
    uint32_t dropped = 0;
    for (uint32_t i = 0; i < topk->count; i++) {
        uint32_t newer = topk->entries[i].slot;
        if (newer == CAIRN_SLOT_NONE || newer + 1 < first_new)
            continue;
        struct cairn_str key = cairn_generation_key(pass->generation, newer);
        for (uint32_t j = 0; j < topk->count; j++) {
            uint32_t older = topk->entries[j].slot;
            if (older == CAIRN_SLOT_NONE || older >= newer ||
                !cairn_str_eq(cairn_generation_key(pass->generation, older), key))
                continue;
            topk->entries[j].slot = CAIRN_SLOT_NONE;
            dropped++;
        }
    }
    return dropped;
}

static int run(struct pass *pass, uint32_t k, struct cairn_error *err)
{
    bool done;
    cairn_topk_init(&pass->topk, k, pass->metric, pass->generation->map.key_of, pass->generation,
                    pass->arena);
    pass->tail_at_start = cairn_tail_count(&pass->generation->tail);
    int code = search_built(pass, &done, err);
    if (code != 0)
        return code;
    if (!done)
        scan_built(pass);
    if (pass->filter != NULL)
        scan_filtered_tail(pass);
    else
        scan_tail(pass);
    cairn_topk_sort(&pass->topk);
    return 0;
}

static uint32_t emit(const struct pass *pass, uint32_t k, struct cairn_index_hit *hits)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < pass->topk.count && count < k; i++) {
        struct cairn_topk_entry entry = pass->topk.entries[i];
        if (entry.slot == CAIRN_SLOT_NONE)
            continue;
        hits[count++] = (struct cairn_index_hit){
            .score = cairn_score_of(pass->topk.l2, entry.rank),
            .key = cairn_arena_dup(pass->arena, cairn_generation_key(pass->generation, entry.slot)),
            .offset = cairn_generation_offset(pass->generation, entry.slot),
        };
    }
    return count;
}

int cairn_index_search(struct cairn_index *index, const struct cairn_index_search *search,
                       struct cairn_arena *arena, struct cairn_index_hit *hits,
                       uint32_t *hits_count, struct cairn_error *err)
{
    assert(search->k >= 1 && search->k <= CAIRN_K_MAX);
    float *query = cairn_arena_alloc(arena, index->dim * sizeof(*query));
    cairn_prepare_vector(index->metric, search->query, index->dim, query);
    struct cairn_generation *held = NULL;
    if (search->filter == NULL)
        held = cairn_index_current(index);
    struct pass pass = {
        .generation = search->filter != NULL ? search->filter->generation : held,
        .search = search,
        .filter = search->filter,
        .metric = index->metric,
        .query = query,
        .arena = arena,
    };
    *hits_count = 0;
    uint32_t extra = 0;
    int code = 0;
    for (int attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
        code = run(&pass, search->k + extra, err);
        if (code != 0)
            break;
        uint32_t dropped = drop_older(&pass);
        *hits_count = emit(&pass, search->k, hits);
        /* What was dropped may have pushed others out. */
        if (dropped == 0 || *hits_count == search->k)
            break;
        extra += dropped;
    }
    cairn_generation_unref(&held);
    return code;
}
