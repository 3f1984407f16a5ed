#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/limits.h"
#include "index/index.h"
#include "index/kernels.h"
#include "tests/lib/index_fixture.h"

enum { ROWS = 11 };

static const uint32_t dims[] = {1,  2,  3,  4,  7,  8,   9,   15,  16,  17,   23,
                                24, 31, 32, 33, 48, 100, 127, 384, 768, 1000, CAIRN_DIM_MAX};

struct data {
    float *query, *scale;
    float *rows; /* one float off any alignment */
    float *memory;
    const float *pointers[ROWS];
    uint32_t dim;
};

static void make(struct data *data, uint64_t *random, uint32_t dim)
{
    data->dim = dim;
    data->query = cairn_malloc(dim * sizeof(float));
    data->memory = cairn_malloc(((size_t)dim * ROWS + 1) * sizeof(float));
    data->rows = data->memory + 1;
    for (uint32_t i = 0; i < dim; i++)
        data->query[i] = test_normal(random);
    for (uint32_t i = 0; i < dim * ROWS; i++)
        data->rows[i] = test_normal(random);
    for (uint32_t r = 0; r < ROWS; r++)
        data->pointers[r] = data->rows + (size_t)r * dim;
}

static void release(struct data *data)
{
    free(data->query);
    free(data->memory);
}

static void assert_near(double value, double expected, double magnitude)
{
    if (fabs(value - expected) > 1e-5 * (magnitude + 1e-3))
        fail_msg("%.9g, not %.9g", value, expected);
}

static void compare(const struct cairn_kernels *kernels, const struct data *data)
{
    float dots[ROWS], squares[ROWS];
    for (uint32_t count = 0; count <= ROWS; count++) {
        kernels->dot_many(data->query, data->pointers, count, data->dim, dots);
        kernels->l2sq_many(data->query, data->pointers, count, data->dim, squares);
        for (uint32_t r = 0; r < count; r++) {
            const float *row = data->pointers[r];
            double dot = 0, square = 0, magnitude = 0;
            for (uint32_t i = 0; i < data->dim; i++) {
                double a = data->query[i], b = row[i];
                dot += a * b;
                magnitude += fabs(a * b);
                square += (a - b) * (a - b);
            }
            assert_near(dots[r], dot, magnitude);
            assert_near(squares[r], square, square);
            /* The same bits alone as in company, and in any place: ties depend on it. */
            float one = kernels->dot(data->query, row, data->dim);
            assert_memory_equal(&dots[r], &one, sizeof(one));
            one = kernels->l2sq(data->query, row, data->dim);
            assert_memory_equal(&squares[r], &one, sizeof(one));
        }
    }
    assert_true(kernels->l2sq(data->query, data->query, data->dim) == 0);
}

static void test_against_double(void **state)
{
    (void)state;
    size_t count;
    const struct cairn_kernels *const *tables = cairn_kernels_runnable(&count);
    uint64_t random = 1;
    assert_string_equal(tables[0]->name, "portable");
    for (size_t d = 0; d < sizeof(dims) / sizeof(dims[0]); d++) {
        struct data data;
        make(&data, &random, dims[d]);
        for (size_t t = 0; t < count; t++)
            compare(tables[t], &data);
        release(&data);
    }
}

static void test_codes(void **state)
{
    (void)state;
    size_t count;
    const struct cairn_kernels *const *tables = cairn_kernels_runnable(&count);
    uint64_t random = 2;
    for (uint32_t stride = 16; stride <= 400; stride += 16) {
        float query[400], scale[400], dots[ROWS], squares[ROWS];
        uint8_t codes[ROWS * 400];
        const uint8_t *rows[ROWS];
        for (uint32_t i = 0; i < stride; i++) {
            query[i] = test_normal(&random);
            scale[i] = 0.01f * test_normal(&random);
        }
        for (uint32_t i = 0; i < ROWS * stride; i++)
            codes[i] = (uint8_t)cairn_test_random_below(&random, 256);
        for (uint32_t r = 0; r < ROWS; r++)
            rows[r] = codes + (size_t)r * stride;
        for (size_t t = 0; t < count; t++) {
            tables[t]->dot_codes(query, rows, ROWS, stride, dots);
            tables[t]->l2sq_codes(query, scale, rows, ROWS, stride, squares);
            for (uint32_t r = 0; r < ROWS; r++) {
                double dot = 0, square = 0, magnitude = 0;
                for (uint32_t i = 0; i < stride; i++) {
                    double c = rows[r][i], d = query[i] - scale[i] * c;
                    dot += query[i] * c;
                    magnitude += fabs(query[i] * c);
                    square += d * d;
                }
                assert_near(dots[r], dot, magnitude);
                assert_near(squares[r], square, square);
            }
        }
    }
}

static void test_choice(void **state)
{
    (void)state;
    size_t count;
    const struct cairn_kernels *const *tables = cairn_kernels_runnable(&count);
    assert_in_range(count, 1, 3);
    assert_ptr_equal(cairn_kernels, tables[count - 1]);
    assert_string_equal(cairn_index_kernels(), cairn_kernels->name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_double),
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
