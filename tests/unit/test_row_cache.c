#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "featurestore/row_cache.h"
#include "tests/lib/testing.h"

struct lookup {
    char key[16];
    size_t len;
    uint64_t hash;
};

static struct lookup lookup_of(unsigned number)
{
    struct lookup lookup;
    lookup.len = (size_t)snprintf(lookup.key, sizeof lookup.key, "key%u", number);
    lookup.hash = cairn_row_cache_hash(lookup.key, lookup.len);
    return lookup;
}

static struct cairn_cached_row *get(struct cairn_row_cache *cache, unsigned number,
                                    uint32_t *ticket)
{
    struct lookup lookup = lookup_of(number);
    return cairn_row_cache_get(cache, lookup.hash, lookup.key, lookup.len, ticket);
}

static void put(struct cairn_row_cache *cache, unsigned number, struct cairn_str value,
                uint32_t ticket)
{
    struct lookup lookup = lookup_of(number);
    cairn_row_cache_put(cache, lookup.hash, lookup.key, lookup.len, value, ticket);
}

static bool has(struct cairn_row_cache *cache, unsigned number)
{
    uint32_t ticket;
    struct cairn_cached_row *row = get(cache, number, &ticket);
    if (row != NULL)
        cairn_cached_row_release(row);
    return row != NULL;
}

static void what_was_put_is_found(void **state)
{
    (void)state;
    struct cairn_row_cache *cache = cairn_row_cache_new(1 << 20);
    uint32_t ticket;
    assert_null(get(cache, 1, &ticket));
    put(cache, 1, CAIRN_STR_LITERAL("one"), ticket);
    struct cairn_cached_row *row = get(cache, 1, &ticket);
    assert_non_null(row);
    assert_true(cairn_str_eq(cairn_cached_row_value(row), CAIRN_STR_LITERAL("one")));
    assert_false(has(cache, 2));
    assert_true(cairn_row_cache_bytes(cache) > 0);
    /* A row that was handed out outlives the cache's knowledge of it. */
    cairn_row_cache_clear(cache);
    assert_false(has(cache, 1));
    assert_int_equal(cairn_row_cache_bytes(cache), 0);
    assert_true(cairn_str_eq(cairn_cached_row_value(row), CAIRN_STR_LITERAL("one")));
    cairn_cached_row_release(row);
    cairn_row_cache_free(&cache);
    assert_null(cache);
}

static void a_block_forgets_and_voids_tickets(void **state)
{
    (void)state;
    struct cairn_row_cache *cache = cairn_row_cache_new(1 << 20);
    uint64_t hash = lookup_of(1).hash;
    uint32_t before, during, after;
    assert_null(get(cache, 1, &before));
    put(cache, 1, CAIRN_STR_LITERAL("old"), before);
    cairn_row_cache_block(cache, hash);
    assert_null(get(cache, 1, &during));
    put(cache, 1, CAIRN_STR_LITERAL("old"), before);
    put(cache, 1, CAIRN_STR_LITERAL("old"), during);
    assert_false(has(cache, 1));
    cairn_row_cache_unblock(cache, hash);
    put(cache, 1, CAIRN_STR_LITERAL("old"), during);
    assert_false(has(cache, 1));
    assert_null(get(cache, 1, &after));
    put(cache, 1, CAIRN_STR_LITERAL("new"), after);
    assert_true(has(cache, 1));
    cairn_row_cache_clear(cache);
    put(cache, 1, CAIRN_STR_LITERAL("new"), after);
    assert_false(has(cache, 1));
    cairn_row_cache_free(&cache);
}

static void memory_stays_within_the_limit(void **state)
{
    (void)state;
    size_t limit = 256 << 10;
    struct cairn_row_cache *cache = cairn_row_cache_new(limit);
    static char bytes[CAIRN_ROW_CACHE_VALUE_BYTES_MAX + 1];
    uint32_t ticket, kept = 0;
    for (unsigned i = 0; i < 5000; i++) {
        assert_null(get(cache, i, &ticket));
        put(cache, i, (struct cairn_str){bytes, i % 2 == 0 ? CAIRN_ROW_CACHE_VALUE_BYTES_MAX : 100},
            ticket);
        assert_true(cairn_row_cache_bytes(cache) <= limit);
    }
    for (unsigned i = 0; i < 5000; i++)
        kept += has(cache, i);
    assert_true(kept > 50);
    assert_null(get(cache, 9999, &ticket));
    put(cache, 9999, (struct cairn_str){bytes, CAIRN_ROW_CACHE_VALUE_BYTES_MAX + 1}, ticket);
    assert_false(has(cache, 9999));
    cairn_row_cache_free(&cache);
}

/* A store of numbers that only rise, read through a cache by two threads while one writes. */
enum { KEYS = 64, WRITES = 30000 };

struct shared {
    struct cairn_row_cache *cache;
    _Atomic uint64_t store[KEYS];        /* what the store holds */
    _Atomic uint64_t acknowledged[KEYS]; /* what readers must see at least */
    atomic_bool stop;
    _Atomic uint64_t hits, stale;
};

static uint64_t read_number(struct shared *shared, unsigned key)
{
    uint32_t ticket;
    uint64_t number;
    struct cairn_cached_row *row = get(shared->cache, key, &ticket);
    if (row != NULL) {
        memcpy(&number, cairn_cached_row_value(row).ptr, sizeof number);
        cairn_cached_row_release(row);
        atomic_fetch_add(&shared->hits, 1);
        return number;
    }
    number = atomic_load(&shared->store[key]);
    put(shared->cache, key, (struct cairn_str){(const char *)&number, sizeof number}, ticket);
    return number;
}

static void *reader(void *argument)
{
    struct shared *shared = argument;
    for (unsigned i = 0; !atomic_load(&shared->stop); i++) {
        uint64_t least = atomic_load(&shared->acknowledged[i % KEYS]);
        if (read_number(shared, i % KEYS) < least)
            atomic_fetch_add(&shared->stale, 1);
    }
    return NULL;
}

static void readers_never_see_less_than_was_acknowledged(void **state)
{
    (void)state;
    static struct shared shared;
    uint64_t seed = cairn_test_seed();
    pthread_t threads[2];
    shared.cache = cairn_row_cache_new(1 << 20);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, reader, &shared);
    for (uint64_t number = 1; number <= WRITES || atomic_load(&shared.hits) == 0; number++) {
        unsigned key = (unsigned)cairn_test_random_below(&seed, KEYS);
        uint64_t hash = lookup_of(key).hash;
        cairn_row_cache_block(shared.cache, hash);
        atomic_store(&shared.store[key], number);
        cairn_row_cache_unblock(shared.cache, hash);
        atomic_store(&shared.acknowledged[key], number);
    }
    atomic_store(&shared.stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&shared.stale), 0);
    cairn_row_cache_free(&shared.cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_is_found),
        cmocka_unit_test(a_block_forgets_and_voids_tickets),
        cmocka_unit_test(memory_stays_within_the_limit),
        cmocka_unit_test(readers_never_see_less_than_was_acknowledged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
