#include "index/sq8.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "index/kernels.h"

enum { CODE_MAX = 255, CANCEL_ROWS = 4096, BATCH = 64 };

static uint32_t stride_of(uint32_t dim)
{
    return (dim + 15) & ~15u;
}

static void find_ranges(const struct cairn_rows *rows, float *low, float *step)
{
    float *high = cairn_malloc(rows->dim * sizeof(float));
    for (uint32_t i = 0; i < rows->dim; i++) {
        low[i] = FLT_MAX;
        high[i] = -FLT_MAX;
    }
    for (uint32_t slot = 0; slot < rows->count; slot++) {
        const float *row = cairn_rows_at(rows, slot);
        for (uint32_t i = 0; i < rows->dim; i++) {
            low[i] = row[i] < low[i] ? row[i] : low[i];
            high[i] = row[i] > high[i] ? row[i] : high[i];
        }
    }
    /* Divided before subtracting: the range of finite floats may not be one itself. */
    for (uint32_t i = 0; i < rows->dim; i++)
        step[i] = high[i] / CODE_MAX - low[i] / CODE_MAX;
    free(high);
}

static void encode(const float *row, const float *low, const float *step, uint32_t dim,
                   uint8_t *codes)
{
    for (uint32_t i = 0; i < dim; i++) {
        float code = step[i] > 0 ? (row[i] - low[i]) / step[i] + 0.5f : 0;
        codes[i] = code >= CODE_MAX ? CODE_MAX : (uint8_t)code;
    }
}

int cairn_sq8_write(const struct cairn_rows *rows, const atomic_bool *cancelled,
                    struct cairn_file_writer *out, struct cairn_error *err)
{
    uint32_t stride = stride_of(rows->dim);
    float *low = cairn_calloc(stride, sizeof(float));
    float *step = cairn_calloc(stride, sizeof(float));
    uint8_t *codes = cairn_calloc(stride, 1);
    int code = 0;
    find_ranges(rows, low, step);
    (void)cairn_file_align(out);
    (void)cairn_file_write(out, low, stride * sizeof(float));
    (void)cairn_file_write(out, step, stride * sizeof(float));
    for (uint32_t slot = 0; slot < rows->count; slot++) {
        if (slot % CANCEL_ROWS == 0 && atomic_load(cancelled)) {
            code = cairn_fail(err, CAIRN_ESHUTDOWN, "the build was stopped");
            break;
        }
        encode(cairn_rows_at(rows, slot), low, step, rows->dim, codes);
        if (cairn_file_write(out, codes, stride) != 0)
            break;
    }
    (void)cairn_file_align(out);
    free(codes);
    free(step);
    free(low);
    return code;
}

int cairn_sq8_load(struct cairn_sq8 *sq8, const struct cairn_rows *rows,
                   const struct cairn_file_map *file, uint64_t *at, struct cairn_error *err)
{
    *sq8 = (struct cairn_sq8){.stride = stride_of(rows->dim),
                              .dim = rows->dim,
                              .count = rows->count,
                              .l2 = rows->metric == CAIRN_METRIC_L2};
    cairn_file_skip_align(at);
    sq8->low = cairn_file_take(file, at, sq8->stride * sizeof(float));
    sq8->step = cairn_file_take(file, at, sq8->stride * sizeof(float));
    sq8->codes = cairn_file_take(file, at, (uint64_t)sq8->stride * rows->count);
    cairn_file_skip_align(at);
    if (sq8->codes == NULL || sq8->step == NULL)
        return cairn_fail(err, CAIRN_ECORRUPT, "the 8-bit codes are cut off");
    return 0;
}

void cairn_sq8_query(const struct cairn_sq8 *sq8, const float *query, struct cairn_arena *arena,
                     struct cairn_sq8_query *out)
{
    float *a = cairn_arena_zalloc(arena, sq8->stride * sizeof(float));
    for (uint32_t i = 0; i < sq8->dim; i++)
        a[i] = sq8->l2 ? query[i] - sq8->low[i] : query[i] * sq8->step[i];
    out->sq8 = sq8;
    out->a = a;
    out->base = sq8->l2 ? 0 : cairn_kernels->dot(query, sq8->low, sq8->dim);
}

static void batch(const struct cairn_sq8_query *query, const uint8_t *const *rows, uint32_t count,
                  float *out)
{
    const struct cairn_sq8 *sq8 = query->sq8;
    if (sq8->l2) {
        cairn_kernels->l2sq_codes(query->a, sq8->step, rows, count, sq8->stride, out);
        return;
    }
    cairn_kernels->dot_codes(query->a, rows, count, sq8->stride, out);
    for (uint32_t i = 0; i < count; i++)
        out[i] += query->base;
}

void cairn_sq8_values(const struct cairn_sq8_query *query, const uint32_t *slots, uint32_t count,
                      float *out)
{
    const uint8_t *rows[BATCH];
    for (uint32_t done = 0; done < count;) {
        uint32_t take = count - done < BATCH ? count - done : BATCH;
        for (uint32_t i = 0; i < take; i++)
            rows[i] = query->sq8->codes + (size_t)slots[done + i] * query->sq8->stride;
        batch(query, rows, take, out + done);
        done += take;
    }
}

float cairn_sq8_distance(const void *query, uint32_t slot)
{
    const struct cairn_sq8_query *q = query;
    const uint8_t *row = q->sq8->codes + (size_t)slot * q->sq8->stride;
    float out;
    batch(q, &row, 1, &out);
    return q->sq8->l2 ? out : -out;
}
