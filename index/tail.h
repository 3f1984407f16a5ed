/* The tail: vectors newer than the built part, appended by one writer while others scan.
 *
 * Slots stand in blocks of a fixed size that never move. The writer fills a slot and then publishes
 * it by raising the count (release); readers load the count (acquire) and may read every slot below
 * it without a lock. Tombstone bits are set at any time (bitmap.h). */
#ifndef CAIRN_INDEX_TAIL_H
#define CAIRN_INDEX_TAIL_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"
#include "index/bitmap.h"

struct cairn_tail_block {
    float *vectors;
    struct cairn_str *keys;
    uint64_t *offsets;
    uint64_t *dead;
};

struct cairn_tail {
    /* Immutable. */
    uint32_t dim;
    uint32_t block_shift; /* log2 of the slots of a block, at least 6: dead words belong to one */

    /* Published by the writer. */
    _Atomic(struct cairn_tail_block *) blocks;
    _Atomic uint32_t count;
    _Atomic uint64_t memory_bytes;

    /* The writer's. */
    uint32_t blocks_count, blocks_capacity;
    struct cairn_tail_block **retired; /* outgrown block tables, which readers may still hold */
    uint32_t retired_count;
    struct cairn_arena keys;
};

void cairn_tail_init(struct cairn_tail *tail, uint32_t dim);
void cairn_tail_release(struct cairn_tail *tail);

/* Writer: room for the next slot's vector; fill it, then publish. */
float *cairn_tail_reserve(struct cairn_tail *tail);
void cairn_tail_publish(struct cairn_tail *tail, struct cairn_str key, uint64_t offset);

static inline uint32_t cairn_tail_count(const struct cairn_tail *tail)
{
    return atomic_load_explicit(&tail->count, memory_order_acquire);
}

static inline const struct cairn_tail_block *cairn_tail_block(const struct cairn_tail *tail,
                                                              uint32_t at)
{
    return &atomic_load_explicit(&tail->blocks, memory_order_acquire)[at >> tail->block_shift];
}

static inline uint32_t cairn_tail_in_block(const struct cairn_tail *tail, uint32_t at)
{
    return at & ((1u << tail->block_shift) - 1);
}

static inline const float *cairn_tail_vector(const struct cairn_tail *tail, uint32_t at)
{
    return cairn_tail_block(tail, at)->vectors + (size_t)cairn_tail_in_block(tail, at) * tail->dim;
}

static inline struct cairn_str cairn_tail_key(const struct cairn_tail *tail, uint32_t at)
{
    return cairn_tail_block(tail, at)->keys[cairn_tail_in_block(tail, at)];
}

static inline uint64_t cairn_tail_offset(const struct cairn_tail *tail, uint32_t at)
{
    return cairn_tail_block(tail, at)->offsets[cairn_tail_in_block(tail, at)];
}

/* The tombstones of the 64 slots from `at`, a multiple of 64. */
static inline uint64_t cairn_tail_dead_word(const struct cairn_tail *tail, uint32_t at)
{
    return cairn_bitmap_word(cairn_tail_block(tail, at)->dead, cairn_tail_in_block(tail, at) / 64);
}

static inline bool cairn_tail_is_dead(const struct cairn_tail *tail, uint32_t at)
{
    return cairn_bitmap_get(cairn_tail_block(tail, at)->dead, cairn_tail_in_block(tail, at));
}

static inline bool cairn_tail_bury(struct cairn_tail *tail, uint32_t at)
{
    return cairn_bitmap_set(cairn_tail_block(tail, at)->dead, cairn_tail_in_block(tail, at));
}

#endif
