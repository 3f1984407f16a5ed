/* Hot tokens: the Space-Saving summary (Metwally, Agrawal, El Abbadi, ICDT 2005) over one in
 * SAMPLE_EVERY reads and writes. A token that had more than 1/SHARD_HOT_TOKENS of the samples is
 * among the entries. All counts are halved now and then, so the list follows the load. */
#include "shard/internal.h"

#include <stdlib.h>

#define SAMPLE_EVERY 16u
#define HALVE_EVERY  65536u /* samples */

static struct shard_hot_entry *entry_for(struct shard_hot *hot, uint64_t token, uint32_t collection,
                                         struct cairn_str key)
{
    struct shard_hot_entry *least = NULL;
    for (uint32_t i = 0; i < hot->count; i++) {
        struct shard_hot_entry *entry = &hot->entries[i];
        if (entry->token == token)
            return entry;
        if (least == NULL || entry->reads + entry->writes < least->reads + least->writes)
            least = entry;
    }
    if (hot->count < SHARD_HOT_TOKENS) {
        least = &hot->entries[hot->count++];
        least->reads = least->writes = 0;
    }
    /* The newcomer takes over the counts of the one that it replaces: never too low. */
    least->token = token;
    least->collection = collection;
    least->key_len = key.len < sizeof least->key ? key.len : (uint32_t)sizeof least->key;
    memcpy(least->key, key.ptr, least->key_len);
    return least;
}

static void sample(struct shard_hot *hot, uint64_t token, uint32_t collection, struct cairn_str key,
                   bool is_write)
{
    pthread_mutex_lock(&hot->lock);
    struct shard_hot_entry *entry = entry_for(hot, token, collection, key);
    entry->writes += is_write;
    entry->reads += !is_write;
    if (++hot->samples % HALVE_EVERY == 0)
        for (uint32_t i = 0; i < hot->count; i++) {
            hot->entries[i].reads /= 2;
            hot->entries[i].writes /= 2;
        }
    pthread_mutex_unlock(&hot->lock);
}

void shard_hot_read(struct cairn_shard *shard, uint64_t token, uint32_t collection,
                    struct cairn_str key)
{
    uint64_t number = atomic_fetch_add_explicit(&shard->hot.reads, 1, memory_order_relaxed);
    if (number % SAMPLE_EVERY == 0)
        sample(&shard->hot, token, collection, key, false);
}

void shard_hot_write(struct cairn_shard *shard, uint64_t token, uint32_t collection,
                     struct cairn_str key)
{
    uint64_t number = atomic_fetch_add_explicit(&shard->hot.writes, 1, memory_order_relaxed);
    if (number % SAMPLE_EVERY == 0)
        sample(&shard->hot, token, collection, key, true);
}

static int by_count(const void *left, const void *right)
{
    const struct cairn_hot_token *a = left, *b = right;
    uint64_t a_count = a->reads + a->writes, b_count = b->reads + b->writes;
    return (a_count < b_count) - (a_count > b_count);
}

uint32_t shard_hot_list(struct cairn_shard *shard, struct cairn_arena *arena,
                        const struct cairn_hot_token **out)
{
    struct shard_hot *hot = &shard->hot;
    pthread_mutex_lock(&hot->lock);
    uint32_t count = hot->count;
    struct cairn_hot_token *tokens = cairn_arena_alloc(arena, count * sizeof *tokens + 1);
    for (uint32_t i = 0; i < count; i++) {
        const struct shard_hot_entry *entry = &hot->entries[i];
        struct cairn_str key = {entry->key, entry->key_len};
        tokens[i] = (struct cairn_hot_token){.token = entry->token,
                                             .collection = entry->collection,
                                             .key = cairn_arena_dup(arena, key),
                                             .reads = entry->reads * SAMPLE_EVERY,
                                             .writes = entry->writes * SAMPLE_EVERY};
    }
    pthread_mutex_unlock(&hot->lock);
    qsort(tokens, count, sizeof *tokens, by_count);
    *out = tokens;
    return count < SHARD_HOT_LISTED ? count : SHARD_HOT_LISTED;
}
