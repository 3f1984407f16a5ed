#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "tests/lib/index_recall.h"

static void test_recall(void **state)
{
    (void)state;
    const enum cairn_metric metrics[] = {CAIRN_METRIC_COSINE, CAIRN_METRIC_DOT, CAIRN_METRIC_L2};
    const enum cairn_quantization codes[] = {CAIRN_QUANTIZATION_NONE, CAIRN_QUANTIZATION_SQ8,
                                             CAIRN_QUANTIZATION_PQ};
    for (int m = 0; m < 3; m++)
        for (int q = 0; q < (m == 1 ? 2 : 3); q++) { /* training PQ takes long, two metrics do */
            struct cairn_index_params params = {.kind = CAIRN_INDEX_IVF, .quantization = codes[q]};
            check_recall(&params, metrics[m], 0.93);
        }
}

/* One list is fewer than the default: it finds less, so the default is really a partial search. */
static void test_nprobe(void **state)
{
    (void)state;
    enum { COUNT = 4000, DIM = 24 };
    uint64_t random = 5;
    struct index_fixture fixture;
    struct index_model model;
    float *vectors = test_clustered(&random, COUNT + 40, DIM, 30);
    index_fixture_open(&fixture, CAIRN_INDEX_IVF, CAIRN_METRIC_L2, DIM);
    index_model_init(&model, CAIRN_METRIC_L2, DIM, COUNT);
    for (uint32_t i = 0; i < COUNT; i++)
        index_put(&fixture, &model, i, vectors + (size_t)i * DIM, i);
    assert_int_equal(cairn_index_build(fixture.index, NULL), 0);
    uint32_t found[2] = {0, 0};
    const uint32_t nprobe[2] = {1, UINT32_MAX}; /* more than there are means all */
    for (uint32_t q = 0; q < 40; q++) {
        const float *query = vectors + (size_t)(COUNT + q) * DIM;
        struct model_hit expected[10];
        assert_int_equal(index_model_search(&model, query, 10, NULL, expected), 10);
        for (int n = 0; n < 2; n++) {
            struct cairn_arena arena = {0};
            struct cairn_index_hit hits[10];
            struct cairn_index_search search = {.query = query, .k = 10, .nprobe = nprobe[n]};
            uint32_t count;
            assert_int_equal(cairn_index_search(fixture.index, &search, &arena, hits, &count, NULL),
                             0);
            assert_int_equal(count, 10);
            for (int i = 0; i < 10; i++)
                found[n] += hits[i].score <= expected[9].score;
            cairn_arena_release(&arena);
        }
    }
    assert_int_equal(found[1], 400);
    assert_true(found[0] < 380);
    free(vectors);
    index_model_release(&model);
    index_fixture_close(&fixture);
}

/* Sets too small for lists or codebooks, and parameters beyond the set, still build and answer. */
static void test_small_sets(void **state)
{
    (void)state;
    const uint32_t counts[] = {1, 2, 9, 40, 300};
    uint64_t random = 6;
    float *vectors = test_clustered(&random, 300, 7, 3);
    for (int c = 0; c < 5; c++)
        for (int q = 0; q < 3; q++) {
            struct index_fixture fixture;
            struct index_model model;
            index_fixture_open(&fixture, CAIRN_INDEX_IVF, CAIRN_METRIC_COSINE, 7);
            struct cairn_index_params params = {.kind = CAIRN_INDEX_IVF,
                                                .quantization = (enum cairn_quantization)q,
                                                .lists = 1000,
                                                .nprobe = 2000,
                                                .pq_bytes = 100};
            cairn_index_set_params(fixture.index, &params);
            index_model_init(&model, CAIRN_METRIC_COSINE, 7, 300);
            for (uint32_t i = 0; i < counts[c]; i++)
                index_put(&fixture, &model, i, vectors + (size_t)i * 7, i);
            assert_int_equal(cairn_index_build(fixture.index, NULL), 0);
            assert_search_exact(&fixture, &model, vectors, 20, false, NULL);
            index_fixture_reopen(&fixture);
            assert_string_equal(fixture.note, "");
            assert_search_exact(&fixture, &model, vectors, 20, false, NULL);
            index_model_release(&model);
            index_fixture_close(&fixture);
        }
    free(vectors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recall),
        cmocka_unit_test(test_nprobe),
        cmocka_unit_test(test_small_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
