#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "tests/lib/index_recall.h"

/* m and ef_construction below the defaults keep the build short; ef is still chosen by trying. */
static const struct cairn_index_params small = {
    .kind = CAIRN_INDEX_GRAPH, .m = 12, .ef_construction = 60};

static void check(enum cairn_metric metric, enum cairn_quantization quantization)
{
    struct cairn_index_params params = small;
    params.quantization = quantization;
    check_recall(&params, metric, 0.93);
}

static void test_cosine(void **state)
{
    (void)state;
    check(CAIRN_METRIC_COSINE, CAIRN_QUANTIZATION_NONE);
    check(CAIRN_METRIC_COSINE, CAIRN_QUANTIZATION_SQ8);
}

static void test_dot(void **state)
{
    (void)state;
    check(CAIRN_METRIC_DOT, CAIRN_QUANTIZATION_NONE);
}

static void test_l2(void **state)
{
    (void)state;
    check(CAIRN_METRIC_L2, CAIRN_QUANTIZATION_NONE);
    check(CAIRN_METRIC_L2, CAIRN_QUANTIZATION_SQ8);
}

static void test_small_sets(void **state)
{
    (void)state;
    const uint32_t counts[] = {1, 2, 11, 1200};
    uint64_t random = 6;
    float *vectors = test_clustered(&random, 1200, 7, 3);
    for (int c = 0; c < 4; c++) {
        struct index_fixture fixture;
        struct index_model model;
        index_fixture_open(&fixture, CAIRN_INDEX_GRAPH, CAIRN_METRIC_COSINE, 7);
        index_model_init(&model, CAIRN_METRIC_COSINE, 7, 1200);
        for (uint32_t i = 0; i < counts[c]; i++)
            index_put(&fixture, &model, i, vectors + (size_t)i * 7, i);
        assert_int_equal(cairn_index_build(fixture.index, NULL), 0);
        index_fixture_reopen(&fixture);
        assert_string_equal(fixture.note, "");
        assert_true(search_recall(&fixture, &model, vectors, 20, NULL) > 0.8);
        index_model_release(&model);
        index_fixture_close(&fixture);
    }
    free(vectors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_dot),
        cmocka_unit_test(test_l2),
        cmocka_unit_test(test_small_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
