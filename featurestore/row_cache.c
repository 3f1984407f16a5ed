/* Set-associative: a key's hash names a bucket of a few ways, which are replaced in turn. A
 * bucket's version counts blocks and unblocks; a ticket is the version at the time of the miss. */
#include "featurestore/row_cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/hash.h"

enum {
    WAYS = 4,
    LOCKS = 256,             /* a power of two */
    BYTES_PER_BUCKET = 2048, /* four rows of the usual few hundred bytes */
};

struct cairn_cached_row {
    atomic_uint references;
    uint32_t key_len, value_len;
    uint64_t hash;
    char bytes[]; /* value, key */
};

struct bucket {
    uint32_t version;
    uint16_t blocks; /* keys of this bucket that the writer has blocked */
    uint16_t next;   /* the way to replace */
    struct cairn_cached_row *ways[WAYS];
};

struct cairn_row_cache {
    /* Immutable. */
    size_t bytes_max;
    uint64_t mask;
    /* Each lock guards the buckets whose number has its low bits. */
    pthread_mutex_t locks[LOCKS];
    struct bucket *buckets;

    atomic_size_t bytes;
};

struct cairn_row_cache *cairn_row_cache_new(size_t bytes_max)
{
    struct cairn_row_cache *cache = cairn_calloc(1, sizeof *cache);
    size_t count = LOCKS;
    while (count * 2 * BYTES_PER_BUCKET <= bytes_max)
        count *= 2;
    cache->bytes_max = bytes_max;
    cache->mask = count - 1;
    cache->buckets = cairn_calloc(count, sizeof *cache->buckets);
    for (unsigned i = 0; i < LOCKS; i++)
        pthread_mutex_init(&cache->locks[i], NULL);
    return cache;
}

void cairn_row_cache_free(struct cairn_row_cache **pointer)
{
    struct cairn_row_cache *cache = *pointer;
    *pointer = NULL;
    if (cache == NULL)
        return;
    cairn_row_cache_clear(cache);
    for (unsigned i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&cache->locks[i]);
    free(cache->buckets);
    free(cache);
}

uint64_t cairn_row_cache_hash(const void *key, size_t key_len)
{
    return cairn_hash64(key, key_len);
}

static struct bucket *lock_bucket(struct cairn_row_cache *cache, uint64_t hash)
{
    pthread_mutex_lock(&cache->locks[hash & (LOCKS - 1)]);
    return &cache->buckets[hash & cache->mask];
}

static void unlock_bucket(struct cairn_row_cache *cache, uint64_t hash)
{
    pthread_mutex_unlock(&cache->locks[hash & (LOCKS - 1)]);
}

static size_t row_bytes(const struct cairn_cached_row *row)
{
    return sizeof *row + row->key_len + row->value_len;
}

void cairn_cached_row_release(struct cairn_cached_row *row)
{
    if (atomic_fetch_sub_explicit(&row->references, 1, memory_order_acq_rel) == 1)
        free(row);
}

static void forget(struct cairn_row_cache *cache, struct cairn_cached_row **way)
{
    if (*way == NULL)
        return;
    atomic_fetch_sub_explicit(&cache->bytes, row_bytes(*way), memory_order_relaxed);
    cairn_cached_row_release(*way);
    *way = NULL;
}

struct cairn_str cairn_cached_row_value(const struct cairn_cached_row *row)
{
    return (struct cairn_str){row->bytes, row->value_len};
}

struct cairn_cached_row *cairn_row_cache_get(struct cairn_row_cache *cache, uint64_t hash,
                                             const void *key, size_t key_len, uint32_t *ticket)
{
    struct cairn_cached_row *found = NULL;
    struct bucket *bucket = lock_bucket(cache, hash);
    for (unsigned i = 0; i < WAYS && found == NULL; i++) {
        struct cairn_cached_row *row = bucket->ways[i];
        if (row != NULL && row->hash == hash && row->key_len == key_len &&
            memcmp(row->bytes + row->value_len, key, key_len) == 0)
            found = row;
    }
    if (found != NULL)
        atomic_fetch_add_explicit(&found->references, 1, memory_order_relaxed);
    *ticket = bucket->version;
    unlock_bucket(cache, hash);
    return found;
}

static struct cairn_cached_row *copy_row(uint64_t hash, const void *key, size_t key_len,
                                         struct cairn_str value)
{
    struct cairn_cached_row *row = cairn_malloc(sizeof *row + key_len + value.len);
    atomic_init(&row->references, 1);
    row->hash = hash;
    row->key_len = (uint32_t)key_len;
    row->value_len = value.len;
    memcpy(row->bytes, value.ptr, value.len);
    memcpy(row->bytes + value.len, key, key_len);
    return row;
}

void cairn_row_cache_put(struct cairn_row_cache *cache, uint64_t hash, const void *key,
                         size_t key_len, struct cairn_str value, uint32_t ticket)
{
    if (value.len > CAIRN_ROW_CACHE_VALUE_BYTES_MAX)
        return;
    struct cairn_cached_row *row = copy_row(hash, key, key_len, value);
    struct bucket *bucket = lock_bucket(cache, hash);
    if (bucket->blocks == 0 && bucket->version == ticket) {
        struct cairn_cached_row **way = &bucket->ways[bucket->next++ % WAYS];
        forget(cache, way);
        size_t bytes = atomic_load_explicit(&cache->bytes, memory_order_relaxed);
        if (bytes + row_bytes(row) <= cache->bytes_max) {
            atomic_fetch_add_explicit(&cache->bytes, row_bytes(row), memory_order_relaxed);
            *way = row;
            row = NULL;
        }
    }
    unlock_bucket(cache, hash);
    if (row != NULL)
        cairn_cached_row_release(row);
}

void cairn_row_cache_block(struct cairn_row_cache *cache, uint64_t hash)
{
    struct bucket *bucket = lock_bucket(cache, hash);
    bucket->blocks++;
    bucket->version++;
    for (unsigned i = 0; i < WAYS; i++)
        if (bucket->ways[i] != NULL && bucket->ways[i]->hash == hash)
            forget(cache, &bucket->ways[i]);
    unlock_bucket(cache, hash);
}

void cairn_row_cache_unblock(struct cairn_row_cache *cache, uint64_t hash)
{
    struct bucket *bucket = lock_bucket(cache, hash);
    bucket->blocks--;
    bucket->version++;
    unlock_bucket(cache, hash);
}

void cairn_row_cache_clear(struct cairn_row_cache *cache)
{
    for (uint64_t i = 0; i <= cache->mask; i++) {
        struct bucket *bucket = lock_bucket(cache, i);
        bucket->version++;
        for (unsigned w = 0; w < WAYS; w++)
            forget(cache, &bucket->ways[w]);
        unlock_bucket(cache, i);
    }
}

size_t cairn_row_cache_bytes(const struct cairn_row_cache *cache)
{
    return atomic_load_explicit(&cache->bytes, memory_order_relaxed);
}
