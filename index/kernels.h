/* Distance kernels: inner product and squared Euclidean distance, of one pair and of one query
 * against many rows.
 *
 * Each table computes a row's value with the same sequence of operations in its one-pair and its
 * many-rows form, so that the same vector gets the same bits wherever it stands (tail, built part,
 * any place in a batch): equal vectors tie exactly. Different tables may differ in the last bits.
 *
 * Rows need no alignment. Codes (8-bit) have a stride of a multiple of 16 and zero padding, as have
 * the arrays that go with them, so that code kernels have no remainder. */
#ifndef CAIRN_INDEX_KERNELS_H
#define CAIRN_INDEX_KERNELS_H

#include <stddef.h>
#include <stdint.h>

struct cairn_kernels {
    const char *name;
    float (*dot)(const float *a, const float *b, size_t dim);
    float (*l2sq)(const float *a, const float *b, size_t dim);
    /* out[i] = value of (query, rows[i]); prefetches rows ahead. */
    void (*dot_many)(const float *query, const float *const *rows, size_t count, size_t dim,
                     float *out);
    void (*l2sq_many)(const float *query, const float *const *rows, size_t count, size_t dim,
                      float *out);
    /* sum of weight[i] * code[i]; stride is the padded dimension. */
    void (*dot_codes)(const float *weight, const uint8_t *const *rows, size_t count, size_t stride,
                      float *out);
    /* sum of (query[i] - scale[i] * code[i])^2. */
    void (*l2sq_codes)(const float *query, const float *scale, const uint8_t *const *rows,
                       size_t count, size_t stride, float *out);
};

/* The fastest table this CPU can run. Chosen once, before main. */
extern const struct cairn_kernels *cairn_kernels;

/* All tables that this CPU can run, portable first; `count` at most 3. For tests and benches. */
const struct cairn_kernels *const *cairn_kernels_runnable(size_t *count);

extern const struct cairn_kernels cairn_kernels_portable;
#if defined(__x86_64__)
extern const struct cairn_kernels cairn_kernels_avx2;
extern const struct cairn_kernels cairn_kernels_avx512;
#endif

#endif
