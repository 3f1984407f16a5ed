/* Key to slot: an open-addressing table that one writer changes while others look up.
 *
 * An entry is one 64-bit word, the upper half of the key's hash and the slot, so a reader never
 * sees half of one. Entries are added and pointed to newer slots but never removed: a removed key's
 * entry keeps its dead slot until a generation without it is built. A table that has grown full is
 * replaced; readers may finish in the old one, which lives as long as the map. */
#ifndef CAIRN_INDEX_SLOTS_H
#define CAIRN_INDEX_SLOTS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define CAIRN_SLOT_NONE UINT32_MAX

/* The key of a slot that was put in the map. */
typedef struct cairn_str (*cairn_slot_key_fn)(const void *context, uint32_t slot);

struct cairn_slot_table;

struct cairn_slot_map {
    _Atomic(struct cairn_slot_table *) table;
    cairn_slot_key_fn key_of;
    const void *context;
    uint32_t used; /* the writer's */
    _Atomic uint64_t memory_bytes;
};

void cairn_slot_map_init(struct cairn_slot_map *map, uint32_t expected, cairn_slot_key_fn key_of,
                         const void *context);
void cairn_slot_map_release(struct cairn_slot_map *map);

/* Any thread. CAIRN_SLOT_NONE when the key was never put. */
uint32_t cairn_slot_map_find(const struct cairn_slot_map *map, struct cairn_str key);
/* Writer: point the key to `slot`, whose key_of must answer already. Returns the slot it pointed to
 * before, or CAIRN_SLOT_NONE. */
uint32_t cairn_slot_map_put(struct cairn_slot_map *map, struct cairn_str key, uint32_t slot);

#endif
