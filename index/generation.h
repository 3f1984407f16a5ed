/* A generation: built part, tail, tombstones, and the map from keys to slots.
 *
 * Slots 0 to built.rows.count - 1 are the built part's; tail slot t is slot built.rows.count + t.
 * A key has at most one slot that is not dead, except for the moment within an upsert described
 * below.
 *
 * Life:
 *   made by open, or by a build off to the side (refs 1, its maker's)
 *     -> current: the index holds the reference, writes go to it
 *     -> replaced by the next: the index drops its reference; searches and filters that took one
 *        go on with it; nothing is written to it any more
 *     -> freed when the last reference goes. Its files may be unlinked before; mappings stay valid.
 *
 * Invariants that let searches run beside the one writer without locks:
 *  1. A slot's vector, key and offset are written before the tail's count covers it, and never
 *     change afterwards.
 *  2. An upsert publishes the new slot, then points the key to it, then buries the old slot, in
 *     that order. So who sees the old slot dead also sees the new one: a search that looks at
 *     tombstones first and at the tail's count afterwards misses no key. It may see both slots of
 *     a key; search.c drops the older one.
 *  3. Bits of tombstones are only ever set. */
#ifndef CAIRN_INDEX_GENERATION_H
#define CAIRN_INDEX_GENERATION_H

#include <stdatomic.h>

#include "index/bitmap.h"
#include "index/built.h"
#include "index/slots.h"
#include "index/tail.h"

#define CAIRN_SLOTS_MAX (UINT32_C(1) << 31)

struct cairn_generation {
    atomic_uint refs;
    uint64_t number;          /* of its directory */
    struct cairn_built built; /* rows.count is 0 when there is none */
    uint64_t *built_dead;
    _Atomic uint32_t built_dead_count;
    _Atomic uint32_t tail_dead_count;
    struct cairn_tail tail;
    struct cairn_slot_map map;
};

/* Takes over *built and empties it; NULL: none. Slots in `dead` (words for built slots; NULL: none)
 * begin dead. The caller owns the one reference. */
struct cairn_generation *cairn_generation_new(uint64_t number, uint32_t dim,
                                              struct cairn_built *built, const uint64_t *dead);
struct cairn_generation *cairn_generation_ref(struct cairn_generation *generation);
void cairn_generation_unref(struct cairn_generation **generation); /* sets it to NULL */

/* Writer. The vector is stored as it is given. Returns the new slot, or CAIRN_SLOT_NONE when there
 * is no room for one more. */
uint32_t cairn_generation_upsert(struct cairn_generation *generation, struct cairn_str key,
                                 const float *vector, uint64_t offset);
/* Writer. False when the key was not there. */
bool cairn_generation_remove(struct cairn_generation *generation, struct cairn_str key);
/* Writer. False when it was dead. */
bool cairn_generation_bury(struct cairn_generation *generation, uint32_t slot);

static inline uint32_t cairn_generation_built(const struct cairn_generation *generation)
{
    return generation->built.rows.count;
}

static inline bool cairn_generation_is_dead(const struct cairn_generation *generation,
                                            uint32_t slot)
{
    uint32_t built = cairn_generation_built(generation);
    return slot < built ? cairn_bitmap_get(generation->built_dead, slot)
                        : cairn_tail_is_dead(&generation->tail, slot - built);
}

static inline const float *cairn_generation_vector(const struct cairn_generation *generation,
                                                   uint32_t slot)
{
    uint32_t built = cairn_generation_built(generation);
    return slot < built ? cairn_rows_at(&generation->built.rows, slot)
                        : cairn_tail_vector(&generation->tail, slot - built);
}

struct cairn_str cairn_generation_key(const struct cairn_generation *generation, uint32_t slot);
uint64_t cairn_generation_offset(const struct cairn_generation *generation, uint32_t slot);
/* The key's slot if it is live, else CAIRN_SLOT_NONE. Any thread. */
uint32_t cairn_generation_find(const struct cairn_generation *generation, struct cairn_str key);

uint64_t cairn_generation_slots(const struct cairn_generation *generation);
uint64_t cairn_generation_dead(const struct cairn_generation *generation);
uint64_t cairn_generation_memory(const struct cairn_generation *generation);

#endif
