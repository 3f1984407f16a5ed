/* Kernels for AVX2 with FMA. Compiled with its flags by CMakeLists.txt; reached only through the
 * table. Four rows with two accumulators each fit the sixteen registers. */
#if defined(__x86_64__)
#include "index/kernels.h"

#include <immintrin.h>

static inline __m128 fold(__m256 s0, __m256 s1)
{
    __m256 s = _mm256_add_ps(s0, s1);
    return _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
}

static inline float sum(__m256 s0, __m256 s1)
{
    __m128 v = fold(s0, s1);
    v = _mm_add_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps(v, v, 1)));
}

static inline void sum4(const __m256 *s0, const __m256 *s1, float *out)
{
    __m128 a = fold(s0[0], s1[0]), b = fold(s0[1], s1[1]);
    __m128 c = fold(s0[2], s1[2]), d = fold(s0[3], s1[3]);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(out, _mm_add_ps(_mm_add_ps(a, c), _mm_add_ps(b, d)));
}

/* Sign bits set for the first `rest` of eight lanes. */
static inline __m256i rest_mask(size_t rest)
{
    static const int32_t window[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    return _mm256_loadu_si256((const __m256i *)(window + 8 - rest));
}

static inline __m256 square(__m256 a, __m256 b, __m256 s)
{
    __m256 d = _mm256_sub_ps(a, b);
    return _mm256_fmadd_ps(d, d, s);
}

static inline float dot1(const float *a, const float *b, size_t dim)
{
    __m256 s0 = _mm256_setzero_ps(), s1 = s0;
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        s0 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s0);
        s1 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8), s1);
    }
    if (i + 8 <= dim) {
        s0 = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s0);
        i += 8;
    }
    if (i < dim) {
        __m256i m = rest_mask(dim - i);
        s1 = _mm256_fmadd_ps(_mm256_maskload_ps(a + i, m), _mm256_maskload_ps(b + i, m), s1);
    }
    return sum(s0, s1);
}

static inline float l2sq1(const float *a, const float *b, size_t dim)
{
    __m256 s0 = _mm256_setzero_ps(), s1 = s0;
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        s0 = square(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s0);
        s1 = square(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8), s1);
    }
    if (i + 8 <= dim) {
        s0 = square(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), s0);
        i += 8;
    }
    if (i < dim) {
        __m256i m = rest_mask(dim - i);
        s1 = square(_mm256_maskload_ps(a + i, m), _mm256_maskload_ps(b + i, m), s1);
    }
    return sum(s0, s1);
}

static inline void dot4(const float *query, const float *const *rows, size_t dim, float *out)
{
    __m256 s0[4], s1[4];
    for (int r = 0; r < 4; r++)
        s0[r] = s1[r] = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        __m256 q0 = _mm256_loadu_ps(query + i), q1 = _mm256_loadu_ps(query + i + 8);
        for (int r = 0; r < 4; r++) {
            s0[r] = _mm256_fmadd_ps(q0, _mm256_loadu_ps(rows[r] + i), s0[r]);
            s1[r] = _mm256_fmadd_ps(q1, _mm256_loadu_ps(rows[r] + i + 8), s1[r]);
        }
    }
    if (i + 8 <= dim) {
        __m256 q = _mm256_loadu_ps(query + i);
        for (int r = 0; r < 4; r++)
            s0[r] = _mm256_fmadd_ps(q, _mm256_loadu_ps(rows[r] + i), s0[r]);
        i += 8;
    }
    if (i < dim) {
        __m256i m = rest_mask(dim - i);
        __m256 q = _mm256_maskload_ps(query + i, m);
        for (int r = 0; r < 4; r++)
            s1[r] = _mm256_fmadd_ps(q, _mm256_maskload_ps(rows[r] + i, m), s1[r]);
    }
    sum4(s0, s1, out);
}

static inline void l2sq4(const float *query, const float *const *rows, size_t dim, float *out)
{
    __m256 s0[4], s1[4];
    for (int r = 0; r < 4; r++)
        s0[r] = s1[r] = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + 16 <= dim; i += 16) {
        __m256 q0 = _mm256_loadu_ps(query + i), q1 = _mm256_loadu_ps(query + i + 8);
        for (int r = 0; r < 4; r++) {
            s0[r] = square(q0, _mm256_loadu_ps(rows[r] + i), s0[r]);
            s1[r] = square(q1, _mm256_loadu_ps(rows[r] + i + 8), s1[r]);
        }
    }
    if (i + 8 <= dim) {
        __m256 q = _mm256_loadu_ps(query + i);
        for (int r = 0; r < 4; r++)
            s0[r] = square(q, _mm256_loadu_ps(rows[r] + i), s0[r]);
        i += 8;
    }
    if (i < dim) {
        __m256i m = rest_mask(dim - i);
        __m256 q = _mm256_maskload_ps(query + i, m);
        for (int r = 0; r < 4; r++)
            s1[r] = square(q, _mm256_maskload_ps(rows[r] + i, m), s1[r]);
    }
    sum4(s0, s1, out);
}

static inline __m256 load_codes(const uint8_t *at)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)at)));
}

static inline float dot_code1(const float *weight, const uint8_t *row, size_t stride)
{
    __m256 s0 = _mm256_setzero_ps(), s1 = s0;
    for (size_t i = 0; i < stride; i += 16) {
        s0 = _mm256_fmadd_ps(_mm256_loadu_ps(weight + i), load_codes(row + i), s0);
        s1 = _mm256_fmadd_ps(_mm256_loadu_ps(weight + i + 8), load_codes(row + i + 8), s1);
    }
    return sum(s0, s1);
}

static inline float l2sq_code1(const float *query, const float *scale, const uint8_t *row,
                               size_t stride)
{
    __m256 s = _mm256_setzero_ps();
    for (size_t i = 0; i < stride; i += 8) {
        __m256 d = _mm256_fnmadd_ps(_mm256_loadu_ps(scale + i), load_codes(row + i),
                                    _mm256_loadu_ps(query + i));
        s = _mm256_fmadd_ps(d, d, s);
    }
    return sum(s, _mm256_setzero_ps());
}

#include "index/kernels_rows.h"

const struct cairn_kernels cairn_kernels_avx2 = {
    .name = "avx2",
    .dot = dot1,
    .l2sq = l2sq1,
    .dot_many = dot_many,
    .l2sq_many = l2sq_many,
    .dot_codes = dot_codes,
    .l2sq_codes = l2sq_codes,
};
#endif
