/* Scalar quantization to 8 bits a component: component i of a row is low[i] + step[i] * code[i],
 * with the range of each component taken from the rows themselves.
 *
 * Ours rather than FAISS's: Debian's build of that is scalar code, and its loops are templates that
 * the linker cannot redirect. Codes stand in slot order with a stride of a multiple of 16. */
#ifndef CAIRN_INDEX_SQ8_H
#define CAIRN_INDEX_SQ8_H

#include "index/kind.h"

struct cairn_sq8 {
    const float *low, *step; /* `stride` of each, padded with zeroes */
    const uint8_t *codes;    /* rows * stride */
    uint32_t stride;
    uint32_t dim;
    uint32_t count;
    bool l2;
};

/* Write low, step and codes of all rows. 0 or CAIRN_ESHUTDOWN; write errors stay in the writer. */
int cairn_sq8_write(const struct cairn_rows *rows, const atomic_bool *cancelled,
                    struct cairn_file_writer *out, struct cairn_error *err);
/* Take them back from a mapped file at *at. CAIRN_ECORRUPT when it is too short. */
int cairn_sq8_load(struct cairn_sq8 *sq8, const struct cairn_rows *rows,
                   const struct cairn_file_map *file, uint64_t *at, struct cairn_error *err);

/* A query made ready; the arrays are in the arena. */
struct cairn_sq8_query {
    const struct cairn_sq8 *sq8;
    const float *a; /* dot: query * step; l2: query - low */
    float base;     /* dot: query . low */
};
void cairn_sq8_query(const struct cairn_sq8 *sq8, const float *query, struct cairn_arena *arena,
                     struct cairn_sq8_query *out);
/* Approximate inner products or squared L2 distances. */
void cairn_sq8_values(const struct cairn_sq8_query *query, const uint32_t *slots, uint32_t count,
                      float *out);
/* The distance of one slot, smaller is better (-dot or squared L2); `query` is a struct
 * cairn_sq8_query. */
float cairn_sq8_distance(const void *query, uint32_t slot);

#endif
