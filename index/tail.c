#include "index/tail.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 1 << 20, BLOCK_SHIFT_MIN = 6, BLOCK_SHIFT_MAX = 12 };

void cairn_tail_init(struct cairn_tail *tail, uint32_t dim)
{
    memset(tail, 0, sizeof(*tail));
    tail->dim = dim;
    tail->block_shift = BLOCK_SHIFT_MIN;
    while (tail->block_shift < BLOCK_SHIFT_MAX &&
           ((size_t)2 << tail->block_shift) * dim * sizeof(float) <= BLOCK_BYTES)
        tail->block_shift++;
}

void cairn_tail_release(struct cairn_tail *tail)
{
    struct cairn_tail_block *blocks = atomic_load_explicit(&tail->blocks, memory_order_relaxed);
    for (uint32_t i = 0; i < tail->blocks_count; i++)
        free(blocks[i].vectors);
    free(blocks);
    for (uint32_t i = 0; i < tail->retired_count; i++)
        free(tail->retired[i]);
    free(tail->retired);
    cairn_arena_release(&tail->keys);
    memset(tail, 0, sizeof(*tail));
}

/* Readers may be looking at the old table: it is kept until the tail goes. */
static void grow_table(struct cairn_tail *tail)
{
    struct cairn_tail_block *old = atomic_load_explicit(&tail->blocks, memory_order_relaxed);
    uint32_t capacity = tail->blocks_capacity == 0 ? 16 : tail->blocks_capacity * 2;
    struct cairn_tail_block *blocks = cairn_malloc(capacity * sizeof(*blocks));
    if (old != NULL) {
        memcpy(blocks, old, tail->blocks_count * sizeof(*blocks));
        tail->retired =
            cairn_realloc(tail->retired, (tail->retired_count + 1) * sizeof(*tail->retired));
        tail->retired[tail->retired_count++] = old;
    }
    tail->blocks_capacity = capacity;
    atomic_store_explicit(&tail->blocks, blocks, memory_order_release);
}

/* One allocation: vectors, keys, offsets, tombstones. */
static void add_block(struct cairn_tail *tail)
{
    if (tail->blocks_count == tail->blocks_capacity)
        grow_table(tail);
    size_t slots = (size_t)1 << tail->block_shift;
    size_t vectors = slots * tail->dim * sizeof(float);
    size_t keys = slots * sizeof(struct cairn_str);
    size_t offsets = slots * sizeof(uint64_t);
    size_t bytes = vectors + keys + offsets + slots / 8;
    char *memory = cairn_calloc(1, bytes);
    struct cairn_tail_block *blocks = atomic_load_explicit(&tail->blocks, memory_order_relaxed);
    blocks[tail->blocks_count++] = (struct cairn_tail_block){
        .vectors = (float *)memory,
        .keys = (struct cairn_str *)(memory + vectors),
        .offsets = (uint64_t *)(memory + vectors + keys),
        .dead = (uint64_t *)(memory + vectors + keys + offsets),
    };
    atomic_fetch_add_explicit(&tail->memory_bytes, bytes, memory_order_relaxed);
}

float *cairn_tail_reserve(struct cairn_tail *tail)
{
    uint32_t at = atomic_load_explicit(&tail->count, memory_order_relaxed);
    if (at >> tail->block_shift == tail->blocks_count)
        add_block(tail);
    return cairn_tail_block(tail, at)->vectors + (size_t)cairn_tail_in_block(tail, at) * tail->dim;
}

void cairn_tail_publish(struct cairn_tail *tail, struct cairn_str key, uint64_t offset)
{
    uint32_t at = atomic_load_explicit(&tail->count, memory_order_relaxed);
    const struct cairn_tail_block *block = cairn_tail_block(tail, at);
    uint32_t in_block = cairn_tail_in_block(tail, at);
    block->keys[in_block] = cairn_arena_dup(&tail->keys, key);
    block->offsets[in_block] = offset;
    atomic_fetch_add_explicit(&tail->memory_bytes, key.len, memory_order_relaxed);
    atomic_store_explicit(&tail->count, at + 1, memory_order_release);
}
