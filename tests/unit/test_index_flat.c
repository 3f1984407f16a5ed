#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "tests/lib/index_fixture.h"

static const enum cairn_metric metrics[] = {CAIRN_METRIC_COSINE, CAIRN_METRIC_DOT, CAIRN_METRIC_L2};

static uint32_t below(uint64_t *random, uint32_t bound)
{
    return (uint32_t)cairn_test_random_below(random, bound);
}

static void build(struct index_fixture *fixture)
{
    struct cairn_error err = {0};
    if (cairn_index_build(fixture->index, &err) != 0)
        fail_msg("build: %s", err.message);
}

static uint32_t search_count(struct index_fixture *fixture, const float *query, uint32_t k,
                             const struct cairn_index_filter *filter, struct cairn_arena *arena,
                             struct cairn_index_hit *hits)
{
    struct cairn_index_search search = {.query = query, .k = k, .filter = filter};
    uint32_t count = 99;
    assert_int_equal(cairn_index_search(fixture->index, &search, arena, hits, &count, NULL), 0);
    return count;
}

static void test_empty(void **state)
{
    (void)state;
    struct index_fixture fixture;
    struct cairn_index_hit hits[3];
    struct cairn_arena arena = {0};
    struct cairn_index_stats stats;
    const float query[4] = {1, 2, 3, 4};
    index_fixture_open(&fixture, CAIRN_INDEX_FLAT, CAIRN_METRIC_COSINE, 4);
    assert_int_equal(search_count(&fixture, query, 3, NULL, &arena, hits), 0);
    struct cairn_index_filter *filter = cairn_index_filter_new(fixture.index);
    cairn_index_filter_add(filter, cairn_str_from("nobody"));
    assert_int_equal(search_count(&fixture, query, 3, filter, &arena, hits), 0);
    cairn_index_filter_free(&filter);
    assert_null(filter);
    cairn_index_remove(fixture.index, cairn_str_from("nobody"), 1);
    build(&fixture); /* of nothing */
    cairn_index_stats(fixture.index, &stats);
    assert_int_equal(stats.live + stats.built + stats.tail + stats.tombstones, 0);
    assert_int_equal(stats.built_kind, CAIRN_INDEX_FLAT);
    assert_int_equal(stats.builds, 1);
    index_fixture_reopen(&fixture);
    assert_int_equal(search_count(&fixture, query, 3, NULL, &arena, hits), 0);
    cairn_arena_release(&arena);
    index_fixture_close(&fixture);
}

/* Every mixture of built part, tail and tombstones answers as the model. */
static void test_exact(void **state)
{
    (void)state;
    enum { COUNT = 1500, DIM = 19 };
    for (int m = 0; m < 3; m++) {
        uint64_t random = cairn_test_seed();
        struct index_fixture fixture;
        struct index_model model;
        float *vectors = test_clustered(&random, COUNT * 2, DIM, 10);
        index_fixture_open(&fixture, CAIRN_INDEX_FLAT, metrics[m], DIM);
        index_model_init(&model, metrics[m], DIM, COUNT);
        for (uint32_t i = 0; i < COUNT; i++)
            index_put(&fixture, &model, i, vectors + (size_t)i * DIM, i + 1);
        for (int stage = 0; stage < 4; stage++) {
            if (stage == 1 || stage == 3)
                build(&fixture);
            if (stage == 2) { /* deletes and re-upserts over the built part */
                for (uint32_t i = 0; i < COUNT / 3; i++)
                    index_drop(&fixture, &model, below(&random, COUNT), 5000 + i);
                for (uint32_t i = 0; i < COUNT / 2; i++)
                    index_put(&fixture, &model, below(&random, COUNT),
                              vectors + (size_t)(COUNT + i) * DIM, 9000 + i);
            }
            for (uint32_t q = 0; q < 20; q++) {
                const float *query = vectors + (size_t)below(&random, COUNT * 2) * DIM;
                uint32_t k = q == 0 ? COUNT + 5 : 1 + below(&random, 50);
                assert_search_exact(&fixture, &model, query, k, q % 2 == 0, NULL);
            }
        }
        free(vectors);
        index_model_release(&model);
        index_fixture_close(&fixture);
    }
}

/* Equal scores stand in key order, also where k cuts them, also across built part and tail. */
static void test_ties(void **state)
{
    (void)state;
    enum { COUNT = 200, DIM = 8 };
    uint64_t random = cairn_test_seed();
    for (int m = 0; m < 3; m++) {
        struct index_fixture fixture;
        struct index_model model;
        float *vectors = test_clustered(&random, 5, DIM, 5);
        index_fixture_open(&fixture, CAIRN_INDEX_FLAT, metrics[m], DIM);
        index_model_init(&model, metrics[m], DIM, COUNT);
        for (uint32_t i = 0; i < COUNT; i++) {
            if (i == COUNT / 2)
                build(&fixture);
            index_put(&fixture, &model, (i * 7) % COUNT, vectors + (size_t)(i % 5) * DIM, i);
        }
        for (uint32_t k = 1; k <= COUNT; k += 13)
            assert_search_exact(&fixture, &model, vectors, k, true, NULL);
        free(vectors);
        index_model_release(&model);
        index_fixture_close(&fixture);
    }
}

/* Squared distances that differ but have the same root tie, as what is reported ties. */
static void test_ties_of_roots(void **state)
{
    (void)state;
    struct index_fixture fixture;
    struct index_model model;
    const float query[1] = {0};
    float x = 1;
    index_fixture_open(&fixture, CAIRN_INDEX_FLAT, CAIRN_METRIC_L2, 1);
    index_model_init(&model, CAIRN_METRIC_L2, 1, 64);
    for (uint32_t i = 0; i < 64; i++) {
        index_put(&fixture, &model, 63 - i, &x, i);
        x = nextafterf(x, 2);
    }
    for (uint32_t k = 1; k <= 64; k++)
        assert_search_exact(&fixture, &model, query, k, true, NULL);
    index_model_release(&model);
    index_fixture_close(&fixture);
}

static void test_zero_and_extreme_vectors(void **state)
{
    (void)state;
    const float zero[2] = {0, 0}, huge[2] = {FLT_MAX, -FLT_MAX}, tiny[2] = {1e-44f, 0};
    const float unit[2] = {1, 0};
    struct cairn_index_hit hits[4];
    struct cairn_arena arena = {0};
    for (int m = 0; m < 3; m++) {
        struct index_fixture fixture;
        index_fixture_open(&fixture, CAIRN_INDEX_FLAT, metrics[m], 2);
        assert_int_equal(cairn_index_upsert(fixture.index, cairn_str_from("zero"), zero, 1, NULL),
                         0);
        assert_int_equal(cairn_index_upsert(fixture.index, cairn_str_from("huge"), huge, 2, NULL),
                         0);
        assert_int_equal(cairn_index_upsert(fixture.index, cairn_str_from("tiny"), tiny, 3, NULL),
                         0);
        const float *queries[] = {zero, huge, tiny, unit};
        for (int q = 0; q < 4; q++) {
            assert_int_equal(search_count(&fixture, queries[q], 4, NULL, &arena, hits), 3);
            for (int i = 0; i < 3; i++) {
                assert_true(isfinite(hits[i].score));
                bool is_zero = cairn_str_eq(hits[i].key, cairn_str_from("zero"));
                if (metrics[m] == CAIRN_METRIC_COSINE && (is_zero || q == 0))
                    assert_true(hits[i].score == 0 && !signbit(hits[i].score));
            }
        }
        if (metrics[m] == CAIRN_METRIC_COSINE) { /* length says nothing, however extreme */
            assert_true(fabsf(hits[0].score - 1) < 1e-6f);
            assert_true(cairn_str_eq(hits[0].key, cairn_str_from("tiny")));
        }
        index_fixture_close(&fixture);
    }
    cairn_arena_release(&arena);
}

static void test_scores(void **state)
{
    (void)state;
    const float a[3] = {3, 0, 4}, query[3] = {1, 2, 2};
    const double expected[] = {11.0 / 15.0, 11.0, sqrt(4 + 4 + 4)};
    struct cairn_index_hit hit;
    struct cairn_arena arena = {0};
    for (int m = 0; m < 3; m++) {
        struct index_fixture fixture;
        index_fixture_open(&fixture, CAIRN_INDEX_FLAT, metrics[m], 3);
        assert_int_equal(cairn_index_upsert(fixture.index, cairn_str_from("a"), a, 7, NULL), 0);
        assert_int_equal(search_count(&fixture, query, 1, NULL, &arena, &hit), 1);
        assert_true(fabs(hit.score - expected[m]) < 1e-6);
        assert_int_equal(hit.offset, 7);
        index_fixture_close(&fixture);
    }
    cairn_arena_release(&arena);
}

static void test_filters(void **state)
{
    (void)state;
    enum { COUNT = 3000, DIM = 16 };
    const uint32_t per_mille[] = {1000, 900, 500, 100, 10, 1, 0};
    uint64_t random = cairn_test_seed();
    struct index_fixture fixture;
    struct index_model model;
    float *vectors = test_clustered(&random, COUNT, DIM, 10);
    bool *allow = calloc(COUNT, sizeof(bool));
    index_fixture_open(&fixture, CAIRN_INDEX_FLAT, CAIRN_METRIC_L2, DIM);
    index_model_init(&model, CAIRN_METRIC_L2, DIM, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        index_put(&fixture, &model, i, vectors + (size_t)i * DIM, i);
        if (i == COUNT / 2 + 3)
            build(&fixture);
    }
    for (uint32_t i = 0; i < COUNT / 4; i++)
        index_drop(&fixture, &model, below(&random, COUNT), COUNT + i);
    for (int s = 0; s < 7; s++) {
        for (uint32_t i = 0; i < COUNT; i++)
            allow[i] = below(&random, 1000) < per_mille[s];
        for (uint32_t q = 0; q < 5; q++)
            assert_search_exact(&fixture, &model, vectors + (size_t)below(&random, COUNT) * DIM, 20,
                                false, allow);
    }
    free(allow);
    free(vectors);
    index_model_release(&model);
    index_fixture_close(&fixture);
}

/* What happens to a filter's keys between making it and searching with it. */
static void test_filter_and_writes(void **state)
{
    (void)state;
    struct index_fixture fixture;
    struct cairn_index_hit hits[8];
    struct cairn_arena arena = {0};
    const float far[1] = {9}, near[1] = {1}, query[1] = {0};
    for (int built = 0; built < 2; built++) {
        index_fixture_open(&fixture, CAIRN_INDEX_FLAT, CAIRN_METRIC_L2, 1);
        const char *const names[] = {"moved", "removed", "stays", "outside", "twice"};
        for (int i = 0; i < 5; i++)
            assert_int_equal(
                cairn_index_upsert(fixture.index, cairn_str_from(names[i]), far, 1, NULL), 0);
        if (built)
            build(&fixture);
        struct cairn_index_filter *filter = cairn_index_filter_new(fixture.index);
        for (int i = 0; i < 3; i++)
            cairn_index_filter_add(filter, cairn_str_from(names[i]));
        cairn_index_filter_add(filter, cairn_str_from("twice"));
        assert_int_equal(cairn_index_upsert(fixture.index, cairn_str_from("twice"), near, 2, NULL),
                         0);
        cairn_index_filter_add(filter, cairn_str_from("twice"));
        assert_int_equal(cairn_index_upsert(fixture.index, cairn_str_from("moved"), near, 2, NULL),
                         0);
        cairn_index_remove(fixture.index, cairn_str_from("removed"), 3);
        assert_int_equal(search_count(&fixture, query, 8, filter, &arena, hits), 3);
        assert_true(cairn_str_eq(hits[0].key, cairn_str_from("moved")) && hits[0].score == 1);
        assert_int_equal(hits[0].offset, 2);
        assert_true(cairn_str_eq(hits[1].key, cairn_str_from("twice")) && hits[1].score == 1);
        assert_true(cairn_str_eq(hits[2].key, cairn_str_from("stays")) && hits[2].score == 9);
        /* A later generation does not take it away. */
        build(&fixture);
        cairn_index_remove(fixture.index, cairn_str_from("stays"), 4);
        assert_int_equal(search_count(&fixture, query, 8, filter, &arena, hits), 3);
        assert_int_equal(search_count(&fixture, query, 8, NULL, &arena, hits), 3);
        cairn_index_filter_free(&filter);
        index_fixture_close(&fixture);
    }
    cairn_arena_release(&arena);
}

static void test_limits(void **state)
{
    (void)state;
    struct index_fixture fixture;
    struct index_model model;
    char key[CAIRN_KEY_BYTES_MAX];
    struct cairn_arena arena = {0};
    struct cairn_index_hit hit;
    float *vector = calloc(CAIRN_DIM_MAX, sizeof(float));
    memset(key, 'x', sizeof(key));
    vector[CAIRN_DIM_MAX - 1] = 2;
    index_fixture_open(&fixture, CAIRN_INDEX_FLAT, CAIRN_METRIC_COSINE, CAIRN_DIM_MAX);
    struct cairn_str longest = {key, sizeof(key)};
    assert_int_equal(cairn_index_upsert(fixture.index, longest, vector, UINT64_MAX, NULL), 0);
    build(&fixture);
    index_fixture_reopen(&fixture);
    assert_int_equal(search_count(&fixture, vector, 1, NULL, &arena, &hit), 1);
    assert_true(cairn_str_eq(hit.key, longest) && hit.score == 1 && hit.offset == UINT64_MAX);
    index_fixture_close(&fixture);
    free(vector);
    cairn_arena_release(&arena);

    index_fixture_open(&fixture, CAIRN_INDEX_FLAT, CAIRN_METRIC_DOT, 1);
    index_model_init(&model, CAIRN_METRIC_DOT, 1, CAIRN_K_MAX + 50);
    for (uint32_t i = 0; i < CAIRN_K_MAX + 50; i++) {
        float value = (float)(i % 1000);
        index_put(&fixture, &model, i, &value, i);
    }
    const float one = 1;
    assert_search_exact(&fixture, &model, &one, CAIRN_K_MAX, true, NULL);
    index_model_release(&model);
    index_fixture_close(&fixture);
}

static void test_stats_and_offset(void **state)
{
    (void)state;
    struct index_fixture fixture;
    struct cairn_index_stats stats;
    const float vector[4] = {1, 2, 3, 4};
    index_fixture_open(&fixture, CAIRN_INDEX_FLAT, CAIRN_METRIC_COSINE, 4);
    assert_int_equal(cairn_index_offset(fixture.index), 0);
    for (uint32_t i = 0; i < 10; i++) {
        char key[16];
        assert_int_equal(cairn_index_upsert(fixture.index, test_key(i, key), vector, i, NULL), 0);
    }
    cairn_index_set_offset(fixture.index, 41);
    build(&fixture);
    cairn_index_remove(fixture.index, cairn_str_from("k3"), 42);
    cairn_index_remove(fixture.index, cairn_str_from("k3"), 43);
    assert_int_equal(cairn_index_upsert(fixture.index, cairn_str_from("k4"), vector, 44, NULL), 0);
    cairn_index_set_offset(fixture.index, 44);
    cairn_index_stats(fixture.index, &stats);
    assert_int_equal(stats.live, 9);
    assert_int_equal(stats.built, 10);
    assert_int_equal(stats.tail, 1);
    assert_int_equal(stats.tombstones, 2);
    assert_int_equal(stats.generation_offset, 41);
    assert_int_equal(stats.indexed_offset, 44);
    assert_int_equal(stats.builds, 1);
    assert_false(stats.building);
    assert_true(stats.memory_bytes >= 11 * 4 * sizeof(float) && stats.disk_bytes > 0);
    assert_int_equal(cairn_index_save(fixture.index, NULL), 0);
    index_fixture_reopen(&fixture);
    cairn_index_stats(fixture.index, &stats);
    assert_int_equal(cairn_index_offset(fixture.index), 44);
    assert_int_equal(stats.live, 9);
    assert_int_equal(stats.generation_offset, 41);
    index_fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_ties_of_roots),
        cmocka_unit_test(test_zero_and_extreme_vectors),
        cmocka_unit_test(test_scores),
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_filter_and_writes),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_stats_and_offset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
