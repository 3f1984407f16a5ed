/* Kernels for AVX-512F. Compiled with its flags by CMakeLists.txt; reached only through the table.
 * Two accumulators a row: with four rows at a time the loads, not the additions, are the limit. */
#if defined(__x86_64__)
#include "index/kernels.h"

#include <immintrin.h>

/* (a + c) + (b + d) of the four lanes, after folding halves: sum4 does the same per row. */
static inline __m128 fold(__m512 s0, __m512 s1)
{
    __m512 s = _mm512_add_ps(s0, s1);
    __m256 low = _mm512_castps512_ps256(s);
    __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(s), 1));
    __m256 half = _mm256_add_ps(low, high);
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

static inline float sum(__m512 s0, __m512 s1)
{
    __m128 v = fold(s0, s1);
    v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps(v, v, 1)));
}

static inline void sum4(const __m512 *s0, const __m512 *s1, float *out)
{
    __m128 a = fold(s0[0], s1[0]), b = fold(s0[1], s1[1]);
    __m128 c = fold(s0[2], s1[2]), d = fold(s0[3], s1[3]);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(out, _mm_add_ps(_mm_add_ps(a, c), _mm_add_ps(b, d)));
}

static inline __mmask16 rest_mask(size_t rest)
{
    return (__mmask16)((1u << rest) - 1u);
}

static inline __m512 square(__m512 a, __m512 b, __m512 s)
{
    __m512 d = _mm512_sub_ps(a, b);
    return _mm512_fmadd_ps(d, d, s);
}

static inline float dot1(const float *a, const float *b, size_t dim)
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0;
    size_t i = 0;
    for (; i + 32 <= dim; i += 32) {
        s0 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), s0);
        s1 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16), s1);
    }
    if (i + 16 <= dim) {
        s0 = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), s0);
        i += 16;
    }
    if (i < dim) {
        __mmask16 m = rest_mask(dim - i);
        s1 = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(m, a + i), _mm512_maskz_loadu_ps(m, b + i), s1);
    }
    return sum(s0, s1);
}

static inline float l2sq1(const float *a, const float *b, size_t dim)
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0;
    size_t i = 0;
    for (; i + 32 <= dim; i += 32) {
        s0 = square(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), s0);
        s1 = square(_mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16), s1);
    }
    if (i + 16 <= dim) {
        s0 = square(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), s0);
        i += 16;
    }
    if (i < dim) {
        __mmask16 m = rest_mask(dim - i);
        s1 = square(_mm512_maskz_loadu_ps(m, a + i), _mm512_maskz_loadu_ps(m, b + i), s1);
    }
    return sum(s0, s1);
}

static inline void dot4(const float *query, const float *const *rows, size_t dim, float *out)
{
    __m512 s0[4], s1[4];
    for (int r = 0; r < 4; r++)
        s0[r] = s1[r] = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + 32 <= dim; i += 32) {
        __m512 q0 = _mm512_loadu_ps(query + i), q1 = _mm512_loadu_ps(query + i + 16);
        for (int r = 0; r < 4; r++) {
            s0[r] = _mm512_fmadd_ps(q0, _mm512_loadu_ps(rows[r] + i), s0[r]);
            s1[r] = _mm512_fmadd_ps(q1, _mm512_loadu_ps(rows[r] + i + 16), s1[r]);
        }
    }
    if (i + 16 <= dim) {
        __m512 q = _mm512_loadu_ps(query + i);
        for (int r = 0; r < 4; r++)
            s0[r] = _mm512_fmadd_ps(q, _mm512_loadu_ps(rows[r] + i), s0[r]);
        i += 16;
    }
    if (i < dim) {
        __mmask16 m = rest_mask(dim - i);
        __m512 q = _mm512_maskz_loadu_ps(m, query + i);
        for (int r = 0; r < 4; r++)
            s1[r] = _mm512_fmadd_ps(q, _mm512_maskz_loadu_ps(m, rows[r] + i), s1[r]);
    }
    sum4(s0, s1, out);
}

static inline void l2sq4(const float *query, const float *const *rows, size_t dim, float *out)
{
    __m512 s0[4], s1[4];
    for (int r = 0; r < 4; r++)
        s0[r] = s1[r] = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + 32 <= dim; i += 32) {
        __m512 q0 = _mm512_loadu_ps(query + i), q1 = _mm512_loadu_ps(query + i + 16);
        for (int r = 0; r < 4; r++) {
            s0[r] = square(q0, _mm512_loadu_ps(rows[r] + i), s0[r]);
            s1[r] = square(q1, _mm512_loadu_ps(rows[r] + i + 16), s1[r]);
        }
    }
    if (i + 16 <= dim) {
        __m512 q = _mm512_loadu_ps(query + i);
        for (int r = 0; r < 4; r++)
            s0[r] = square(q, _mm512_loadu_ps(rows[r] + i), s0[r]);
        i += 16;
    }
    if (i < dim) {
        __mmask16 m = rest_mask(dim - i);
        __m512 q = _mm512_maskz_loadu_ps(m, query + i);
        for (int r = 0; r < 4; r++)
            s1[r] = square(q, _mm512_maskz_loadu_ps(m, rows[r] + i), s1[r]);
    }
    sum4(s0, s1, out);
}

static inline __m512 load_codes(const uint8_t *at)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)at)));
}

static inline float dot_code1(const float *weight, const uint8_t *row, size_t stride)
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0;
    size_t i = 0;
    for (; i + 32 <= stride; i += 32) {
        s0 = _mm512_fmadd_ps(_mm512_loadu_ps(weight + i), load_codes(row + i), s0);
        s1 = _mm512_fmadd_ps(_mm512_loadu_ps(weight + i + 16), load_codes(row + i + 16), s1);
    }
    if (i < stride)
        s0 = _mm512_fmadd_ps(_mm512_loadu_ps(weight + i), load_codes(row + i), s0);
    return sum(s0, s1);
}

static inline float l2sq_code1(const float *query, const float *scale, const uint8_t *row,
                               size_t stride)
{
    __m512 s = _mm512_setzero_ps();
    for (size_t i = 0; i < stride; i += 16) {
        __m512 d = _mm512_fnmadd_ps(_mm512_loadu_ps(scale + i), load_codes(row + i),
                                    _mm512_loadu_ps(query + i));
        s = _mm512_fmadd_ps(d, d, s);
    }
    return sum(s, _mm512_setzero_ps());
}

#include "index/kernels_rows.h"

const struct cairn_kernels cairn_kernels_avx512 = {
    .name = "avx512",
    .dot = dot1,
    .l2sq = l2sq1,
    .dot_many = dot_many,
    .l2sq_many = l2sq_many,
    .dot_codes = dot_codes,
    .l2sq_codes = l2sq_codes,
};
#endif
