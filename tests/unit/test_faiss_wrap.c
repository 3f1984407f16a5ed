/* Whether FAISS's hot paths really call our kernels (index/faiss_wrap.c): a table that counts is
 * put in the place of ours, and FAISS's own index types are searched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <faiss/c_api/Index_c.h>
#include <faiss/c_api/index_factory_c.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "index/kernels.h"
#include "tests/lib/index_fixture.h"

enum { COUNT = 2000, DIM = 32, K = 10 };

static atomic_ulong dot_calls, l2sq_calls;

static float counting_dot(const float *a, const float *b, size_t dim)
{
    dot_calls++;
    return cairn_kernels_portable.dot(a, b, dim);
}

static float counting_l2sq(const float *a, const float *b, size_t dim)
{
    l2sq_calls++;
    return cairn_kernels_portable.l2sq(a, b, dim);
}

static const struct cairn_kernels counting = {
    .name = "counting", .dot = counting_dot, .l2sq = counting_l2sq};

/* Distance calls of one search of an index made by FAISS's factory. */
static unsigned long calls_of(const char *description, FaissMetricType metric, const float *data)
{
    const struct cairn_kernels *chosen = cairn_kernels;
    FaissIndex *index;
    float distances[K];
    idx_t labels[K];
    assert_int_equal(faiss_index_factory(&index, DIM, description, metric), 0);
    assert_int_equal(faiss_Index_train(index, COUNT, data), 0);
    assert_int_equal(faiss_Index_add(index, COUNT, data), 0);
    dot_calls = l2sq_calls = 0;
    cairn_kernels = &counting;
    assert_int_equal(faiss_Index_search(index, 1, data, K, distances, labels), 0);
    cairn_kernels = chosen;
    faiss_Index_free(index);
    printf("%s, %s: %lu calls\n", description, metric == METRIC_L2 ? "l2" : "dot",
           dot_calls + l2sq_calls);
    return metric == METRIC_L2 ? l2sq_calls : dot_calls;
}

static void test_hot_paths(void **state)
{
    (void)state;
    uint64_t random = 3;
    float *data = test_clustered(&random, COUNT, DIM, 16);
    const FaissMetricType metrics[] = {METRIC_INNER_PRODUCT, METRIC_L2};
    for (int m = 0; m < 2; m++) {
        /* The coarse quantizer and the scanner of one list; a walk; a whole scan. */
        unsigned long ivf = calls_of("IVF8,Flat", metrics[m], data);
        unsigned long hnsw = calls_of("HNSW16,Flat", metrics[m], data);
        unsigned long flat = calls_of("Flat", metrics[m], data);
#ifdef CAIRN_WRAP_FAISS
        assert_true(ivf > 8 + K && ivf < COUNT);
        assert_true(hnsw > 2 * K && hnsw < COUNT);
        assert_int_equal(flat, COUNT);
#else
        assert_int_equal(ivf + hnsw + flat, 0);
#endif
    }
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hot_paths)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
