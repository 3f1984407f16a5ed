/* Bitmaps of slots in 64-bit words. One thread sets bits while others read: bits are only ever set,
 * never cleared, so a word read at any moment is a state that was true. */
#ifndef CAIRN_INDEX_BITMAP_H
#define CAIRN_INDEX_BITMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline size_t cairn_bitmap_words(uint64_t bits)
{
    return (size_t)((bits + 63) / 64);
}

/* Acquire: who sees a tombstone sees what was published before it. */
static inline uint64_t cairn_bitmap_word(const uint64_t *words, size_t index)
{
    return __atomic_load_n(&words[index], __ATOMIC_ACQUIRE);
}

static inline bool cairn_bitmap_get(const uint64_t *words, uint64_t bit)
{
    return cairn_bitmap_word(words, bit / 64) >> (bit % 64) & 1;
}

/* False when it was set already. One setter at a time. */
static inline bool cairn_bitmap_set(uint64_t *words, uint64_t bit)
{
    uint64_t mask = UINT64_C(1) << (bit % 64);
    uint64_t old = __atomic_load_n(&words[bit / 64], __ATOMIC_RELAXED);
    __atomic_store_n(&words[bit / 64], old | mask, __ATOMIC_RELEASE);
    return !(old & mask);
}

/* The bits of a word whose slots lie below `end`, when the word begins at slot `first`. */
static inline uint64_t cairn_bitmap_below(uint64_t first, uint64_t end)
{
    return end >= first + 64 ? ~UINT64_C(0) : (UINT64_C(1) << (end - first)) - 1;
}

#endif
