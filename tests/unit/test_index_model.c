/* Random upserts, removals, searches, builds, parameter changes, saves and restarts against a naive
 * model. Exact answers must be the model's, hit for hit; approximate ones nearly so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "tests/lib/index_fixture.h"

enum { KEYS = 4000, DIM = 12, POOL_QUEUE = 8 };

struct run {
    struct index_fixture fixture;
    struct index_model model;
    struct index_model saved; /* what a restart brings back */
    float *vectors;           /* KEYS */
    bool *allow;
    uint64_t random, offset, saved_offset;
    double recall_sum;
    uint32_t recall_count;
};

static uint32_t below(struct run *run, uint32_t bound)
{
    return (uint32_t)cairn_test_random_below(&run->random, bound);
}

static void replace_model(struct index_model *old, const struct index_model *with)
{
    index_model_release(old);
    index_model_copy(old, with);
}

static void write_some(struct run *run)
{
    uint32_t count = 1 + below(run, 40);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = below(run, KEYS);
        run->offset++;
        if (below(run, 4) == 0)
            index_drop(&run->fixture, &run->model, number, run->offset);
        else
            index_put(&run->fixture, &run->model, number,
                      run->vectors + (size_t)below(run, KEYS) * DIM, run->offset);
    }
    cairn_index_set_offset(run->fixture.index, run->offset);
}

static const bool *some_filter(struct run *run)
{
    if (below(run, 2) == 0)
        return NULL;
    uint32_t part = 1 + below(run, 1000);
    for (uint32_t i = 0; i < KEYS; i++)
        run->allow[i] = below(run, 1000) < part;
    return run->allow;
}

static void look(struct run *run)
{
    const float *query = run->vectors + (size_t)below(run, KEYS) * DIM;
    uint32_t k = 1 + below(run, below(run, 20) == 0 ? 3000 : 30);
    assert_search_exact(&run->fixture, &run->model, query, k, true, some_filter(run));
    run->recall_sum += search_recall(&run->fixture, &run->model, query, k, some_filter(run));
    run->recall_count++;
}

static void check_live(struct run *run)
{
    struct cairn_index_stats stats;
    cairn_index_stats(run->fixture.index, &stats);
    assert_int_equal(stats.live, run->model.live);
    assert_int_equal(stats.built + stats.tail - stats.tombstones, stats.live);
}

static void restart(struct run *run, bool save)
{
    struct cairn_error err = {0};
    if (save) {
        if (cairn_index_save(run->fixture.index, &err) != 0)
            fail_msg("save: %s", err.message);
        replace_model(&run->saved, &run->model);
        run->saved_offset = run->offset;
    }
    index_fixture_reopen(&run->fixture);
    assert_string_equal(run->fixture.note, "");
    replace_model(&run->model, &run->saved);
    run->offset = run->saved_offset;
    assert_int_equal(cairn_index_offset(run->fixture.index), run->offset);
}

static void change_params(struct run *run, enum cairn_index_kind kind)
{
    struct cairn_index_params params = {.kind = kind, .m = 8, .ef_construction = 40};
    if (kind != CAIRN_INDEX_FLAT)
        params.quantization = (enum cairn_quantization)below(run, 2);
    cairn_index_set_params(run->fixture.index, &params);
    run->fixture.options.params = params;
}

static void step(struct run *run)
{
    uint32_t dice = below(run, 1000);
    struct cairn_error err = {0};
    if (dice < 850) {
        write_some(run);
    } else if (dice < 980) {
        look(run);
    } else if (dice < 990) {
        if (cairn_index_build(run->fixture.index, &err) != 0)
            fail_msg("build: %s", err.message);
        /* A build ends with a save. */
        replace_model(&run->saved, &run->model);
        run->saved_offset = run->offset;
    } else {
        restart(run, dice % 2 == 0);
    }
    check_live(run);
}

static void check(enum cairn_index_kind kind, enum cairn_metric metric, uint32_t steps)
{
    struct run run = {.random = cairn_test_seed()};
    index_fixture_open(&run.fixture, kind, metric, DIM);
    index_model_init(&run.model, metric, DIM, KEYS);
    index_model_init(&run.saved, metric, DIM, KEYS);
    run.vectors = test_clustered(&run.random, KEYS, DIM, 12);
    run.allow = calloc(KEYS, sizeof(bool));
    change_params(&run, kind);
    for (uint32_t i = 0; i < steps; i++)
        step(&run);
    printf("mean recall %.4f of %u searches\n", run.recall_sum / run.recall_count,
           run.recall_count);
    assert_true(run.recall_sum / run.recall_count >= (kind == CAIRN_INDEX_FLAT ? 1 : 0.95));
    free(run.allow);
    free(run.vectors);
    index_model_release(&run.model);
    index_model_release(&run.saved);
    index_fixture_close(&run.fixture);
}

static void test_flat(void **state)
{
    (void)state;
    check(CAIRN_INDEX_FLAT, CAIRN_METRIC_COSINE, 3000);
    check(CAIRN_INDEX_FLAT, CAIRN_METRIC_L2, 1500);
}

static void test_ivf(void **state)
{
    (void)state;
    check(CAIRN_INDEX_IVF, CAIRN_METRIC_L2, 600);
    check(CAIRN_INDEX_IVF, CAIRN_METRIC_DOT, 400);
}

static void test_graph(void **state)
{
    (void)state;
    check(CAIRN_INDEX_GRAPH, CAIRN_METRIC_COSINE, 500);
}

/* Builds in the background, due by themselves, between writes: nothing is lost or comes back. */
static void test_background_builds(void **state)
{
    (void)state;
    struct run run = {.random = cairn_test_seed()};
    struct cairn_index_stats stats;
    struct cairn_pool *pool;
    assert_int_equal(cairn_pool_start("builders", 1, POOL_QUEUE, &pool, NULL), 0);
    index_fixture_open(&run.fixture, CAIRN_INDEX_FLAT, CAIRN_METRIC_L2, DIM);
    run.fixture.options.builders = pool;
    run.fixture.options.tail_vectors_min = 100;
    index_fixture_reopen(&run.fixture);
    index_model_init(&run.model, CAIRN_METRIC_L2, DIM, KEYS);
    run.vectors = test_clustered(&run.random, KEYS, DIM, 12);
    run.allow = calloc(KEYS, sizeof(bool));
    for (uint32_t i = 0; i < 1500; i++) {
        write_some(&run);
        if (i % 16 == 0)
            look(&run);
        if (i % 100 == 0)
            check_live(&run);
        if (i == 700)
            change_params(&run, CAIRN_INDEX_IVF);
    }
    cairn_index_stats(run.fixture.index, &stats);
    assert_true(stats.builds > 0);
    /* Deleting nearly everything is worth a build too. */
    for (uint32_t i = 0; i < KEYS - 10; i++)
        index_drop(&run.fixture, &run.model, i, run.offset);
    assert_int_equal(cairn_index_build(run.fixture.index, NULL), 0);
    check_live(&run);
    look(&run);
    cairn_index_close(&run.fixture.index);
    cairn_pool_stop(&pool);
    run.fixture.options.builders = NULL;
    index_fixture_open_again(&run.fixture);
    assert_string_equal(run.fixture.note, "");
    check_live(&run);
    free(run.allow);
    free(run.vectors);
    index_model_release(&run.model);
    index_fixture_close(&run.fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flat),
        cmocka_unit_test(test_ivf),
        cmocka_unit_test(test_graph),
        cmocka_unit_test(test_background_builds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
