/* Searchers beside a writer and builds. Keys below ANCHORS are rewritten all the time but never
 * absent, so every search for everything must find each of them exactly once; the others come and
 * go. The kind is flat: FAISS is not instrumented for the thread sanitizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "tests/lib/index_fixture.h"

enum { ANCHORS = 60, KEYS = 400, DIM = 4, SEARCHERS = 3, WRITES = 10000, K = KEYS };
#define DEADLINE_US UINT64_C(60000000)

struct shared {
    struct index_fixture *fixture;
    atomic_bool done;
    atomic_uint searches;
    atomic_ulong floor[KEYS]; /* offset of each key's last finished write or removal */
};

/* A key's vector tells its offset, so that a hit can be checked against its score. */
static void vector_of(uint32_t number, uint64_t offset, float *out)
{
    out[0] = (float)number;
    out[1] = (float)(offset % 65536);
    out[2] = (float)(offset / 65536);
    out[3] = 0;
}

static uint32_t number_of(struct cairn_str key)
{
    char text[16] = {0};
    memcpy(text, key.ptr + 1, key.len - 1);
    return (uint32_t)strtoul(text, NULL, 10);
}

/* `before` are the floors when the search began: it may not fall behind them. */
static bool check_answer(const uint64_t *before, const struct cairn_index_hit *hits, uint32_t count,
                         bool filtered)
{
    bool seen[KEYS] = {false};
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = number_of(hits[i].key);
        float vector[DIM];
        vector_of(number, hits[i].offset, vector);
        float score = vector[1]; /* the query picks the second component */
        if (number >= KEYS || seen[number] || hits[i].score != score)
            return false;
        if (hits[i].offset < before[number]) /* an old version, or a removed key come back */
            return false;
        if (filtered && number >= ANCHORS)
            return false;
        seen[number] = true;
    }
    for (uint32_t number = 0; number < ANCHORS; number++)
        if (!seen[number])
            return false;
    return true;
}

static void *search_until_done(void *arg)
{
    struct shared *shared = arg;
    struct cairn_index *index = shared->fixture->index;
    struct cairn_index_hit hits[K];
    const float query[DIM] = {0, 1, 0, 0};
    bool good = true;
    for (uint32_t round = 0; good && !atomic_load(&shared->done); round++) {
        struct cairn_arena arena = {0};
        uint64_t before[KEYS];
        for (uint32_t i = 0; i < KEYS; i++)
            before[i] = atomic_load(&shared->floor[i]);
        struct cairn_index_filter *filter = NULL;
        if (round % 2 == 1) {
            char key[16];
            filter = cairn_index_filter_new(index);
            for (uint32_t i = 0; i < ANCHORS; i++)
                cairn_index_filter_add(filter, test_key(i, key));
        }
        struct cairn_index_search search = {.query = query, .k = K, .filter = filter};
        uint32_t count;
        good = cairn_index_search(index, &search, &arena, hits, &count, NULL) == 0 &&
               check_answer(before, hits, count, filter != NULL);
        cairn_index_filter_free(&filter);
        cairn_arena_release(&arena);
        atomic_fetch_add(&shared->searches, 1);
        struct cairn_index_stats stats;
        cairn_index_stats(index, &stats);
    }
    return good ? shared : NULL;
}

static void write_one(struct cairn_index *index, struct shared *shared, uint64_t *random,
                      uint64_t offset)
{
    char key[16];
    float vector[DIM];
    uint32_t number = (uint32_t)cairn_test_random_below(random, KEYS);
    if (number >= ANCHORS && cairn_test_random_below(random, 2) == 0) {
        cairn_index_remove(index, test_key(number, key), offset);
    } else {
        vector_of(number, offset, vector);
        assert_int_equal(cairn_index_upsert(index, test_key(number, key), vector, offset, NULL), 0);
    }
    atomic_store(&shared->floor[number], offset);
    cairn_index_set_offset(index, offset);
}

/* Until there was enough of everything at once. */
static void write_all(struct shared *shared, uint64_t *random)
{
    struct cairn_index *index = shared->fixture->index;
    struct cairn_index_stats stats = {0};
    uint64_t deadline = cairn_time_monotonic_us() + DEADLINE_US;
    for (uint64_t offset = 1;
         offset < WRITES || stats.builds < 4 || atomic_load(&shared->searches) < 200; offset++) {
        write_one(index, shared, random, offset);
        if (offset % 1000 == 0)
            assert_int_equal(cairn_index_save(index, NULL), 0);
        if (offset % 64 == 0)
            cairn_index_stats(index, &stats);
        assert_true(cairn_time_monotonic_us() < deadline);
    }
}

static void test_search_while_writing(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    struct index_fixture fixture;
    struct shared shared = {.fixture = &fixture};
    struct cairn_pool *pool;
    pthread_t searchers[SEARCHERS];
    index_fixture_open(&fixture, CAIRN_INDEX_FLAT, CAIRN_METRIC_DOT, DIM);
    assert_int_equal(cairn_pool_start("builders", 1, 8, &pool, NULL), 0);
    fixture.options.builders = pool;
    fixture.options.tail_vectors_min = 500;
    index_fixture_reopen(&fixture);
    for (uint32_t i = 0; i < ANCHORS; i++) {
        char key[16];
        float vector[DIM];
        vector_of(i, 0, vector);
        assert_int_equal(cairn_index_upsert(fixture.index, test_key(i, key), vector, 0, NULL), 0);
    }
    for (int i = 0; i < SEARCHERS; i++)
        assert_int_equal(pthread_create(&searchers[i], NULL, search_until_done, &shared), 0);
    write_all(&shared, &random);
    atomic_store(&shared.done, true);
    for (int i = 0; i < SEARCHERS; i++) {
        void *result;
        assert_int_equal(pthread_join(searchers[i], &result), 0);
        assert_non_null(result);
    }
    cairn_index_close(&fixture.index);
    cairn_pool_stop(&pool);
    fixture.options.builders = NULL;
    index_fixture_open_again(&fixture);
    assert_string_equal(fixture.note, "");
    index_fixture_close(&fixture);
}

/* Closing while a build is queued or runs: it is abandoned, and what was saved stays. */
static void test_close_while_building(void **state)
{
    (void)state;
    struct index_fixture fixture;
    struct cairn_pool *pool;
    assert_int_equal(cairn_pool_start("builders", 1, 8, &pool, NULL), 0);
    for (int round = 0; round < 10; round++) {
        index_fixture_open(&fixture, CAIRN_INDEX_FLAT, CAIRN_METRIC_DOT, DIM);
        fixture.options.builders = pool;
        fixture.options.tail_vectors_min = 200;
        index_fixture_reopen(&fixture);
        for (uint32_t i = 0; i < 201 + (uint32_t)round * 100; i++) {
            char key[16];
            float vector[DIM];
            vector_of(i, i, vector);
            assert_int_equal(cairn_index_upsert(fixture.index, test_key(i, key), vector, i, NULL),
                             0);
        }
        index_fixture_reopen(&fixture);
        assert_string_equal(fixture.note, "");
        index_fixture_close(&fixture);
    }
    cairn_pool_stop(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search_while_writing),
        cmocka_unit_test(test_close_while_building),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
