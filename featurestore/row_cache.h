/* A cache of stored rows by stored key, in front of RocksDB: a hit costs one hash and one short
 * lock instead of a walk over memtables and files.
 *
 * It never holds a row that the store does not: the writer blocks a key before it changes the store
 * and unblocks it after. Blocking forgets the key's row; until it is unblocked nothing is put for
 * it, and a put that belongs to a look-up from before is refused by its ticket.
 *
 *   reader   get -> miss, ticket -> reads the store -> put(ticket)
 *   writer   block -> writes the store -> unblock
 *
 * Threads: any number of readers; one writer (block, unblock, clear).
 * Memory: at most the given bytes; what does not fit is not kept. A row that was handed out lives
 * until it is released, also when the cache has forgotten it. */
#ifndef CAIRN_FEATURESTORE_ROW_CACHE_H
#define CAIRN_FEATURESTORE_ROW_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

#define CAIRN_ROW_CACHE_VALUE_BYTES_MAX 4096u /* longer rows are not kept */

struct cairn_row_cache;
struct cairn_cached_row;

struct cairn_row_cache *cairn_row_cache_new(size_t bytes_max);
void cairn_row_cache_free(struct cairn_row_cache **cache);

/* A hash of the stored key, for the calls below. */
uint64_t cairn_row_cache_hash(const void *key, size_t key_len);

/* The key's row, to be released, or NULL and a ticket for put. */
struct cairn_cached_row *cairn_row_cache_get(struct cairn_row_cache *cache, uint64_t hash,
                                             const void *key, size_t key_len, uint32_t *ticket);
struct cairn_str cairn_cached_row_value(const struct cairn_cached_row *row);
void cairn_cached_row_release(struct cairn_cached_row *row);

/* Keep a copy of what the store held when the ticket was taken. */
void cairn_row_cache_put(struct cairn_row_cache *cache, uint64_t hash, const void *key,
                         size_t key_len, struct cairn_str value, uint32_t ticket);

void cairn_row_cache_block(struct cairn_row_cache *cache, uint64_t hash);
void cairn_row_cache_unblock(struct cairn_row_cache *cache, uint64_t hash);
/* Forget everything; tickets taken before are void. */
void cairn_row_cache_clear(struct cairn_row_cache *cache);

size_t cairn_row_cache_bytes(const struct cairn_row_cache *cache);

#endif
