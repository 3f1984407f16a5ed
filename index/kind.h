/* Index kinds: how a built part is made from a set of vectors and searched.
 *
 * The generation logic (build.c, search.c) knows kinds only through this table. A kind is built in
 * three steps: `plan` sees the vectors where they are and may choose their order, the caller writes
 * them in that order to a file and maps it, `build` writes what else a search needs to the kind's
 * own file, and `load` makes a searchable state from that mapped file, in the same way after a
 * build as after a restart. Vectors are never copied: slot s is row s of the mapped file.
 *
 * A search returns candidate slots; their exact scores are the caller's work, which is how
 * quantized kinds are re-ranked with full precision. */
#ifndef CAIRN_INDEX_KIND_H
#define CAIRN_INDEX_KIND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/schema.h"
#include "index/file.h"

enum { CAIRN_TUNED_K = 10 }; /* calibration asks for so many neighbours */

/* Rows of a built part, in slot order. Vectors of cosine indexes have length 1 (or 0). */
struct cairn_rows {
    const float *data;
    uint32_t count;
    uint32_t dim;
    enum cairn_metric metric;
};

static inline const float *cairn_rows_at(const struct cairn_rows *rows, uint32_t slot)
{
    return rows->data + (size_t)slot * rows->dim;
}

/* What to build from. */
struct cairn_kind_source {
    const float *const *vectors; /* wherever they are */
    uint32_t count;              /* at least 1 */
    uint32_t dim;
    enum cairn_metric metric;
    const struct cairn_index_params *params;
    unsigned threads;
    const atomic_bool *cancelled; /* looked at now and then; then CAIRN_ESHUTDOWN */
};

struct cairn_kind_plan {
    uint32_t *order; /* order[slot] is an index into the source; NULL: as it is */
    void *own;       /* the kind's */
};

struct cairn_kind_search {
    const float *query; /* normalised for cosine */
    uint32_t k;         /* candidates wanted */
    uint32_t effort;    /* nprobe or ef, 1 to effort_max */
    const uint64_t *allow;
    const uint64_t *deny; /* bitmaps of slots; NULL: all, none */
};

struct cairn_kind {
    enum cairn_index_kind id;
    const char *name;

    /* What it can do. */
    bool approximate;    /* false: there is nothing to search but the rows themselves */
    bool filters_inside; /* allow and deny are honoured during the search */
    bool returns_beam;   /* a search returns all of its effort, so there is no more to re-rank */
    float tuned_recall;  /* recall to reach on rows of its own (calibrate.c) */
    bool adds_while_serving; /* new vectors could join a built part; none of ours does yet */

    int (*plan)(const struct cairn_kind_source *source, struct cairn_kind_plan *plan,
                struct cairn_error *err);
    int (*build)(const struct cairn_kind_source *source, const struct cairn_kind_plan *plan,
                 const struct cairn_rows *rows, struct cairn_file_writer *out,
                 struct cairn_error *err);
    void (*plan_release)(struct cairn_kind_plan *plan);

    /* `file` and `rows` outlive the state. CAIRN_ECORRUPT when they do not fit together. */
    int (*load)(const struct cairn_file_map *file, const struct cairn_rows *rows, void **state,
                struct cairn_error *err);
    void (*free)(void *state);

    /* Candidates in any order, at most max(k, effort) of them. Any thread. */
    int (*search)(const void *state, const struct cairn_kind_search *search,
                  struct cairn_arena *scratch, uint32_t **slots, uint32_t *count,
                  struct cairn_error *err);
    /* Rows whose distance a search of that effort computes, about. */
    uint64_t (*work)(const void *state, uint32_t effort);
    /* The effort that finds the k nearest among a fraction (0 to 1] of the rows as reliably as
     * `effort` finds the CAIRN_TUNED_K nearest among all. */
    uint32_t (*scale)(const void *state, uint32_t effort, double fraction, uint32_t k);
    uint32_t (*effort_max)(const void *state);
    enum cairn_quantization (*quantization)(const void *state);
    uint64_t (*memory)(const void *state); /* heap, without the mapped files */
};

const struct cairn_kind *cairn_kind(enum cairn_index_kind id); /* never NULL */
extern const struct cairn_kind cairn_kind_flat, cairn_kind_ivf, cairn_kind_graph;

/* Chosen after a build by trying (calibrate.c) and stored with it. */
struct cairn_tuning {
    uint32_t effort; /* default nprobe or ef */
    uint32_t rerank; /* candidates fetched per hit wanted, at least 1 */
    float recall;    /* recall@10 that was measured with these; 0: not measured */
};

/* Search sampled rows, each held out of its own answer, and choose the least effort that finds what
 * an exact scan finds. An effort that the schema sets is kept. */
int cairn_calibrate(const struct cairn_kind *kind, const void *state, const struct cairn_rows *rows,
                    const struct cairn_index_params *params, const atomic_bool *cancelled,
                    struct cairn_tuning *out, struct cairn_error *err);

/* At most `wanted` of `count`, evenly spread with a pseudo-random shift; ascending. The caller
 * frees. */
uint32_t *cairn_sample(uint32_t count, uint32_t wanted, uint32_t *taken);

#endif
