#include "index/generation.h"

#include <stdlib.h>
#include <string.h>

struct cairn_str cairn_generation_key(const struct cairn_generation *generation, uint32_t slot)
{
    uint32_t built = cairn_generation_built(generation);
    return slot < built ? cairn_built_key(&generation->built, slot)
                        : cairn_tail_key(&generation->tail, slot - built);
}

uint64_t cairn_generation_offset(const struct cairn_generation *generation, uint32_t slot)
{
    uint32_t built = cairn_generation_built(generation);
    return slot < built ? generation->built.offsets[slot]
                        : cairn_tail_offset(&generation->tail, slot - built);
}

static struct cairn_str key_of(const void *context, uint32_t slot)
{
    return cairn_generation_key(context, slot);
}

struct cairn_generation *cairn_generation_new(uint64_t number, uint32_t dim,
                                              struct cairn_built *built, const uint64_t *dead)
{
    struct cairn_generation *generation = cairn_calloc(1, sizeof(*generation));
    atomic_init(&generation->refs, 1);
    generation->number = number;
    if (built != NULL) {
        generation->built = *built;
        memset(built, 0, sizeof(*built));
    }
    uint32_t count = cairn_generation_built(generation), dead_count = 0;
    size_t words = cairn_bitmap_words(count);
    generation->built_dead = cairn_calloc(words + 1, sizeof(uint64_t));
    cairn_tail_init(&generation->tail, dim);
    cairn_slot_map_init(&generation->map, count, key_of, generation);
    for (uint32_t slot = 0; slot < count; slot++) {
        if (dead != NULL && cairn_bitmap_get(dead, slot)) {
            (void)cairn_bitmap_set(generation->built_dead, slot);
            dead_count++;
        } else {
            (void)cairn_slot_map_put(&generation->map, cairn_built_key(&generation->built, slot),
                                     slot);
        }
    }
    atomic_init(&generation->built_dead_count, dead_count);
    return generation;
}

struct cairn_generation *cairn_generation_ref(struct cairn_generation *generation)
{
    atomic_fetch_add_explicit(&generation->refs, 1, memory_order_relaxed);
    return generation;
}

void cairn_generation_unref(struct cairn_generation **pointer)
{
    struct cairn_generation *generation = *pointer;
    *pointer = NULL;
    if (generation == NULL ||
        atomic_fetch_sub_explicit(&generation->refs, 1, memory_order_acq_rel) != 1)
        return;
    cairn_slot_map_release(&generation->map);
    cairn_tail_release(&generation->tail);
    cairn_built_release(&generation->built);
    free(generation->built_dead);
    free(generation);
}

bool cairn_generation_bury(struct cairn_generation *generation, uint32_t slot)
{
    uint32_t built = cairn_generation_built(generation);
    bool buried = slot < built ? cairn_bitmap_set(generation->built_dead, slot)
                               : cairn_tail_bury(&generation->tail, slot - built);
    if (buried)
        atomic_fetch_add_explicit(slot < built ? &generation->built_dead_count
                                               : &generation->tail_dead_count,
                                  1, memory_order_relaxed);
    return buried;
}

uint32_t cairn_generation_upsert(struct cairn_generation *generation, struct cairn_str key,
                                 const float *vector, uint64_t offset)
{
    struct cairn_tail *tail = &generation->tail;
    uint32_t slot = cairn_generation_built(generation) + cairn_tail_count(tail);
    if (slot >= CAIRN_SLOTS_MAX)
        return CAIRN_SLOT_NONE;
    memcpy(cairn_tail_reserve(tail), vector, tail->dim * sizeof(float));
    cairn_tail_publish(tail, key, offset);
    uint32_t old = cairn_slot_map_put(&generation->map, key, slot);
    if (old != CAIRN_SLOT_NONE)
        (void)cairn_generation_bury(generation, old);
    return slot;
}

bool cairn_generation_remove(struct cairn_generation *generation, struct cairn_str key)
{
    uint32_t slot = cairn_slot_map_find(&generation->map, key);
    return slot != CAIRN_SLOT_NONE && cairn_generation_bury(generation, slot);
}

uint32_t cairn_generation_find(const struct cairn_generation *generation, struct cairn_str key)
{
    uint32_t slot = cairn_slot_map_find(&generation->map, key);
    while (slot != CAIRN_SLOT_NONE && cairn_generation_is_dead(generation, slot)) {
        /* Dead because it was replaced a moment ago, or because the key is gone. */
        uint32_t again = cairn_slot_map_find(&generation->map, key);
        if (again == slot)
            return CAIRN_SLOT_NONE;
        slot = again;
    }
    return slot;
}

uint64_t cairn_generation_slots(const struct cairn_generation *generation)
{
    return (uint64_t)cairn_generation_built(generation) + cairn_tail_count(&generation->tail);
}

uint64_t cairn_generation_dead(const struct cairn_generation *generation)
{
    return (uint64_t)atomic_load_explicit(&generation->built_dead_count, memory_order_relaxed) +
           atomic_load_explicit(&generation->tail_dead_count, memory_order_relaxed);
}

uint64_t cairn_generation_memory(const struct cairn_generation *generation)
{
    return sizeof(*generation) + cairn_built_memory(&generation->built) +
           cairn_bitmap_words(cairn_generation_built(generation)) * sizeof(uint64_t) +
           atomic_load_explicit(&generation->tail.memory_bytes, memory_order_relaxed) +
           atomic_load_explicit(&generation->map.memory_bytes, memory_order_relaxed);
}
