#include "tests/lib/index_recall.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { COUNT = 6000, DIM = 24, QUERIES = 40, SEED = 20 };

struct recall_test {
    struct index_fixture fixture;
    struct index_model model;
    float *vectors; /* COUNT to index, then the queries */
    uint64_t random;
    double floor;
};

static const float *query_of(const struct recall_test *test, uint32_t q)
{
    return test->vectors + (size_t)(COUNT + q) * DIM;
}

static double recall(struct recall_test *test, uint32_t k, const bool *allow, const char *what)
{
    double sum = 0;
    for (uint32_t q = 0; q < QUERIES; q++)
        sum += search_recall(&test->fixture, &test->model, query_of(test, q), k, allow);
    printf("  recall@%u %s: %.4f\n", k, what, sum / QUERIES);
    if (sum / QUERIES < test->floor)
        fail_msg("recall@%u %s is %.4f, below %.2f", k, what, sum / QUERIES, test->floor);
    return sum / QUERIES;
}

static void build(struct recall_test *test)
{
    struct cairn_error err = {0};
    if (cairn_index_build(test->fixture.index, &err) != 0)
        fail_msg("build: %s", err.message);
}

static void check_filters(struct recall_test *test)
{
    const uint32_t per_mille[] = {900, 500, 100, 10, 1};
    bool allow[COUNT];
    for (int s = 0; s < 5; s++) {
        char what[32];
        for (uint32_t i = 0; i < COUNT; i++)
            allow[i] = cairn_test_random_below(&test->random, 1000) < per_mille[s];
        snprintf(what, sizeof(what), "of %u/1000", per_mille[s]);
        recall(test, 10, allow, what);
    }
    /* Matches that stand together, far from most queries. */
    for (uint32_t i = 0; i < COUNT; i++)
        allow[i] = test->vectors[(size_t)i * DIM] > 0.5f && test->vectors[(size_t)i * DIM + 1] > 0;
    recall(test, 10, allow, "of a corner");
}

static void check_changes(struct recall_test *test)
{
    for (uint32_t i = 0; i < COUNT / 4; i++)
        index_drop(&test->fixture, &test->model,
                   (uint32_t)cairn_test_random_below(&test->random, COUNT), COUNT + i);
    for (uint32_t i = 0; i < COUNT / 8; i++) {
        uint32_t from = (uint32_t)cairn_test_random_below(&test->random, COUNT);
        index_put(&test->fixture, &test->model,
                  (uint32_t)cairn_test_random_below(&test->random, COUNT),
                  test->vectors + (size_t)from * DIM, 2 * COUNT + i);
    }
    recall(test, 10, NULL, "after changes");
    for (uint32_t q = 0; q < 5; q++)
        assert_search_exact(&test->fixture, &test->model, query_of(test, q), 30, true, NULL);
    assert_int_equal(cairn_index_save(test->fixture.index, NULL), 0);
    index_fixture_reopen(&test->fixture);
    assert_string_equal(test->fixture.note, "");
    recall(test, 10, NULL, "after a restart");
    recall(test, COUNT, NULL, "of everything");
}

double check_recall(const struct cairn_index_params *params, enum cairn_metric metric, double floor)
{
    struct recall_test test = {.random = SEED, .floor = floor};
    struct cairn_index_stats stats;
    printf("%s, %s, %s\n", cairn_index_kind_name(params->kind), cairn_metric_name(metric),
           cairn_quantization_name(params->quantization));
    index_fixture_open(&test.fixture, params->kind, metric, DIM);
    cairn_index_set_params(test.fixture.index, params);
    test.fixture.options.params = *params;
    index_model_init(&test.model, metric, DIM, COUNT);
    test.vectors = test_clustered(&test.random, COUNT + QUERIES, DIM, 30);
    for (uint32_t i = 0; i < COUNT; i++)
        index_put(&test.fixture, &test.model, i, test.vectors + (size_t)i * DIM, i + 1);
    build(&test);
    cairn_index_stats(test.fixture.index, &stats);
    assert_int_equal(stats.built_kind, params->kind);
    assert_int_equal(stats.built, COUNT);
    double plain = recall(&test, 10, NULL, "plain");
    recall(&test, 100, NULL, "plain");
    check_filters(&test);
    check_changes(&test);
    free(test.vectors);
    index_model_release(&test.model);
    index_fixture_close(&test.fixture);
    return plain;
}
