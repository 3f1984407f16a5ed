/* Kernels for any CPU, in the compiler's vector extension: two sums of four lanes. */
#include "index/kernels.h"

#include <string.h>

typedef float float4 __attribute__((vector_size(16)));

static inline float4 load(const float *at)
{
    float4 value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static inline float sum(float4 a, float4 b)
{
    float4 total = a + b;
    return (total[0] + total[2]) + (total[1] + total[3]);
}

static inline float dot1(const float *a, const float *b, size_t dim)
{
    float4 s0 = {0}, s1 = {0};
    size_t i = 0;
    for (; i + 8 <= dim; i += 8) {
        s0 += load(a + i) * load(b + i);
        s1 += load(a + i + 4) * load(b + i + 4);
    }
    float rest = 0;
    for (; i < dim; i++)
        rest += a[i] * b[i];
    return sum(s0, s1) + rest;
}

static inline float l2sq1(const float *a, const float *b, size_t dim)
{
    float4 s0 = {0}, s1 = {0};
    size_t i = 0;
    for (; i + 8 <= dim; i += 8) {
        float4 d0 = load(a + i) - load(b + i);
        float4 d1 = load(a + i + 4) - load(b + i + 4);
        s0 += d0 * d0;
        s1 += d1 * d1;
    }
    float rest = 0;
    for (; i < dim; i++)
        rest += (a[i] - b[i]) * (a[i] - b[i]);
    return sum(s0, s1) + rest;
}

static inline void dot4(const float *query, const float *const *rows, size_t dim, float *out)
{
    for (size_t r = 0; r < 4; r++)
        out[r] = dot1(query, rows[r], dim);
}

static inline void l2sq4(const float *query, const float *const *rows, size_t dim, float *out)
{
    for (size_t r = 0; r < 4; r++)
        out[r] = l2sq1(query, rows[r], dim);
}

static inline float4 load_codes(const uint8_t *at)
{
    return (float4){(float)at[0], (float)at[1], (float)at[2], (float)at[3]};
}

static inline float dot_code1(const float *weight, const uint8_t *row, size_t stride)
{
    float4 s0 = {0}, s1 = {0};
    for (size_t i = 0; i < stride; i += 8) {
        s0 += load(weight + i) * load_codes(row + i);
        s1 += load(weight + i + 4) * load_codes(row + i + 4);
    }
    return sum(s0, s1);
}

static inline float l2sq_code1(const float *query, const float *scale, const uint8_t *row,
                               size_t stride)
{
    float4 s0 = {0}, s1 = {0};
    for (size_t i = 0; i < stride; i += 8) {
        float4 d0 = load(query + i) - load(scale + i) * load_codes(row + i);
        float4 d1 = load(query + i + 4) - load(scale + i + 4) * load_codes(row + i + 4);
        s0 += d0 * d0;
        s1 += d1 * d1;
    }
    return sum(s0, s1);
}

#include "index/kernels_rows.h"

const struct cairn_kernels cairn_kernels_portable = {
    .name = "portable",
    .dot = dot1,
    .l2sq = l2sq1,
    .dot_many = dot_many,
    .l2sq_many = l2sq_many,
    .dot_codes = dot_codes,
    .l2sq_codes = l2sq_codes,
};
