/* The many-rows loops, written once over the one-row and four-row functions that the including
 * kernel file defines as static inline:
 *   dot1, l2sq1 (query, row, dim) and dot4, l2sq4 (query, rows, dim, out)
 *   dot_code1 (weight, row, stride), l2sq_code1 (query, scale, row, stride)
 * Four rows share each load of the query. Included once by each kernels_<cpu>.c, by nothing else.
 */

/* The first lines of a row ahead are enough: the hardware follows a longer row by itself. */
enum { PREFETCH_BYTES_MAX = 512, LINE_BYTES = 64 };

static inline void prefetch_row(const void *row, size_t bytes)
{
    size_t end = bytes < PREFETCH_BYTES_MAX ? bytes : PREFETCH_BYTES_MAX;
    for (size_t at = 0; at < end; at += LINE_BYTES)
        __builtin_prefetch((const char *)row + at, 0, 3);
}

static void dot_many(const float *query, const float *const *rows, size_t count, size_t dim,
                     float *out)
{
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        for (size_t ahead = i + 4; ahead < i + 8 && ahead < count; ahead++)
            prefetch_row(rows[ahead], dim * sizeof(float));
        dot4(query, rows + i, dim, out + i);
    }
    for (; i < count; i++)
        out[i] = dot1(query, rows[i], dim);
}

static void l2sq_many(const float *query, const float *const *rows, size_t count, size_t dim,
                      float *out)
{
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        for (size_t ahead = i + 4; ahead < i + 8 && ahead < count; ahead++)
            prefetch_row(rows[ahead], dim * sizeof(float));
        l2sq4(query, rows + i, dim, out + i);
    }
    for (; i < count; i++)
        out[i] = l2sq1(query, rows[i], dim);
}

static void dot_codes(const float *weight, const uint8_t *const *rows, size_t count, size_t stride,
                      float *out)
{
    for (size_t i = 0; i < count; i++) {
        if (i + 4 < count)
            prefetch_row(rows[i + 4], stride);
        out[i] = dot_code1(weight, rows[i], stride);
    }
}

static void l2sq_codes(const float *query, const float *scale, const uint8_t *const *rows,
                       size_t count, size_t stride, float *out)
{
    for (size_t i = 0; i < count; i++) {
        if (i + 4 < count)
            prefetch_row(rows[i + 4], stride);
        out[i] = l2sq_code1(query, scale, rows[i], stride);
    }
}
