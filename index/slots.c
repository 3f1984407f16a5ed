#include "index/slots.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/hash.h"

struct cairn_slot_table {
    struct cairn_slot_table *older; /* replaced by this one */
    uint64_t mask;
    _Atomic uint64_t entries[];
};

/* 0 is an empty entry, so slots are stored plus one. */
static uint64_t entry_of(uint64_t hash, uint32_t slot)
{
    return (hash & UINT64_C(0xffffffff00000000)) | (slot + 1u);
}

static uint32_t slot_of(uint64_t entry)
{
    return (uint32_t)entry - 1;
}

static struct cairn_slot_table *new_table(struct cairn_slot_map *map, uint64_t capacity)
{
    size_t bytes = sizeof(struct cairn_slot_table) + capacity * sizeof(uint64_t);
    struct cairn_slot_table *table = cairn_calloc(1, bytes);
    table->mask = capacity - 1;
    atomic_fetch_add_explicit(&map->memory_bytes, bytes, memory_order_relaxed);
    return table;
}

void cairn_slot_map_init(struct cairn_slot_map *map, uint32_t expected, cairn_slot_key_fn key_of,
                         const void *context)
{
    *map = (struct cairn_slot_map){.key_of = key_of, .context = context};
    uint64_t capacity = 64;
    while (capacity < (uint64_t)expected * 2)
        capacity *= 2;
    atomic_store_explicit(&map->table, new_table(map, capacity), memory_order_release);
}

void cairn_slot_map_release(struct cairn_slot_map *map)
{
    struct cairn_slot_table *table = atomic_load_explicit(&map->table, memory_order_relaxed);
    while (table != NULL) {
        struct cairn_slot_table *older = table->older;
        free(table);
        table = older;
    }
    atomic_store_explicit(&map->table, NULL, memory_order_relaxed);
}

/* The key's entry, or the empty one where it would go. Its value goes to *entry. */
static uint64_t locate(const struct cairn_slot_map *map, const struct cairn_slot_table *table,
                       uint64_t hash, struct cairn_str key, uint64_t *entry)
{
    for (uint64_t at = hash & table->mask;; at = (at + 1) & table->mask) {
        *entry = atomic_load_explicit(&table->entries[at], memory_order_acquire);
        if (*entry == 0)
            return at;
        if ((*entry ^ hash) >> 32 == 0 &&
            cairn_str_eq(map->key_of(map->context, slot_of(*entry)), key))
            return at;
    }
}

uint32_t cairn_slot_map_find(const struct cairn_slot_map *map, struct cairn_str key)
{
    uint64_t entry;
    const struct cairn_slot_table *table = atomic_load_explicit(&map->table, memory_order_acquire);
    (void)locate(map, table, cairn_hash64(key.ptr, key.len), key, &entry);
    return entry == 0 ? CAIRN_SLOT_NONE : slot_of(entry);
}

/* The low bits of the hash are not in the entry, so they come from the key again. */
static void grow(struct cairn_slot_map *map)
{
    struct cairn_slot_table *old = atomic_load_explicit(&map->table, memory_order_relaxed);
    struct cairn_slot_table *table = new_table(map, (old->mask + 1) * 2);
    table->older = old;
    for (uint64_t i = 0; i <= old->mask; i++) {
        uint64_t entry = atomic_load_explicit(&old->entries[i], memory_order_relaxed);
        if (entry == 0)
            continue;
        struct cairn_str key = map->key_of(map->context, slot_of(entry));
        uint64_t at = cairn_hash64(key.ptr, key.len) & table->mask;
        while (atomic_load_explicit(&table->entries[at], memory_order_relaxed) != 0)
            at = (at + 1) & table->mask;
        atomic_store_explicit(&table->entries[at], entry, memory_order_relaxed);
    }
    atomic_store_explicit(&map->table, table, memory_order_release);
}

uint32_t cairn_slot_map_put(struct cairn_slot_map *map, struct cairn_str key, uint32_t slot)
{
    uint64_t entry, hash = cairn_hash64(key.ptr, key.len);
    struct cairn_slot_table *table = atomic_load_explicit(&map->table, memory_order_relaxed);
    uint64_t at = locate(map, table, hash, key, &entry);
    if (entry == 0 && ((uint64_t)map->used + 1) * 3 > (table->mask + 1) * 2) {
        grow(map);
        table = atomic_load_explicit(&map->table, memory_order_relaxed);
        at = locate(map, table, hash, key, &entry);
    }
    if (entry == 0)
        map->used++;
    atomic_store_explicit(&table->entries[at], entry_of(hash, slot), memory_order_release);
    return entry == 0 ? CAIRN_SLOT_NONE : slot_of(entry);
}
