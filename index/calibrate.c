/* Choosing nprobe or ef and the re-ranking factor by trying.
 *
 * Queries are sampled rows, each held out of its own answer. That makes them easier than queries
 * from outside, because lists and, more so, links were made with them. So each kind asks for more
 * here (tuned_recall) than the 0.95 that is promised for queries of the same distribution; by how
 * much was measured on word vectors with queries that were not in the set. */
#include <cblas.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index/kernels.h"
#include "index/kind.h"

enum {
    QUERIES = 200,
    NEIGHBOURS = CAIRN_TUNED_K,
    BLOCK_ROWS = 1024,
    RERANK_MAX = 64,
    RERANK_FIRST_SQ8 = 2,
    RERANK_FIRST_PQ = 8,
};
static const double effort_growth = 1.25;
/* More effort that brings less than this has met the codes' limit: then more is re-ranked. */
static const float recall_step_min = 0.004f;

struct trial {
    const struct cairn_kind *kind;
    const void *state;
    const struct cairn_rows *rows;
    const atomic_bool *cancelled;
    uint32_t *queries; /* slots */
    uint32_t queries_count;
    uint32_t neighbours;
    float *limits; /* of each query: the distance of its last true neighbour */
    struct cairn_arena scratch;
};

static float distance(const struct cairn_rows *rows, const float *a, const float *b)
{
    return rows->metric == CAIRN_METRIC_L2 ? cairn_kernels->l2sq(a, b, rows->dim)
                                           : -cairn_kernels->dot(a, b, rows->dim);
}

/* Insert into an ascending list of `size`, dropping the last. */
static void keep_nearest(float *nearest, uint32_t size, float distance_found)
{
    if (!(distance_found < nearest[size - 1]))
        return;
    uint32_t at = size - 1;
    for (; at > 0 && nearest[at - 1] > distance_found; at--)
        nearest[at] = nearest[at - 1];
    nearest[at] = distance_found;
}

/* Exact distances of all queries to a block of rows are one matrix product, and that is where BLAS
 * beats row-by-row kernels: each row is read once for all queries. */
static void true_neighbours(struct trial *trial)
{
    const struct cairn_rows *rows = trial->rows;
    uint32_t n = trial->queries_count, dim = rows->dim;
    float *queries = cairn_malloc((size_t)n * dim * sizeof(float));
    float *products = cairn_malloc((size_t)n * BLOCK_ROWS * sizeof(float));
    float *nearest = cairn_malloc((size_t)n * NEIGHBOURS * sizeof(float));
    for (uint32_t q = 0; q < n; q++)
        memcpy(queries + (size_t)q * dim, cairn_rows_at(rows, trial->queries[q]),
               dim * sizeof(float));
    for (uint32_t i = 0; i < n * NEIGHBOURS; i++)
        nearest[i] = INFINITY;
    for (uint32_t first = 0; first < rows->count && !atomic_load(trial->cancelled);
         first += BLOCK_ROWS) {
        uint32_t block = rows->count - first < BLOCK_ROWS ? rows->count - first : BLOCK_ROWS;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)n, (blasint)block,
                    (blasint)dim, 1.0f, queries, (blasint)dim, cairn_rows_at(rows, first),
                    (blasint)dim, 0.0f, products, (blasint)block);
        for (uint32_t r = 0; r < block; r++) {
            const float *row = cairn_rows_at(rows, first + r);
            bool l2 = rows->metric == CAIRN_METRIC_L2;
            float norm = l2 ? cairn_kernels->dot(row, row, dim) : 0;
            for (uint32_t q = 0; q < n; q++) {
                float product = products[(size_t)q * block + r];
                if (first + r != trial->queries[q])
                    keep_nearest(nearest + (size_t)q * NEIGHBOURS, trial->neighbours,
                                 l2 ? norm - 2 * product : -product);
            }
        }
    }
    for (uint32_t q = 0; q < n; q++) {
        const float *query = queries + (size_t)q * dim;
        float limit = nearest[(size_t)q * NEIGHBOURS + trial->neighbours - 1];
        float norm = cairn_kernels->dot(query, query, dim);
        if (rows->metric == CAIRN_METRIC_L2)
            limit += norm;
        /* The product and the kernels round differently. */
        trial->limits[q] = limit + 1e-5f * (norm + fabsf(limit));
    }
    free(nearest);
    free(products);
    free(queries);
}

static int try_query(struct trial *trial, uint32_t q, const struct cairn_tuning *tuning,
                     uint32_t *found, struct cairn_error *err)
{
    const struct cairn_rows *rows = trial->rows;
    struct cairn_kind_search search = {
        .query = cairn_rows_at(rows, trial->queries[q]),
        .k = (trial->neighbours + 1) * tuning->rerank,
        .effort = tuning->effort,
    };
    uint32_t *slots, count;
    cairn_arena_reset(&trial->scratch);
    int code = trial->kind->search(trial->state, &search, &trial->scratch, &slots, &count, err);
    if (code != 0)
        return code;
    uint32_t good = 0;
    for (uint32_t i = 0; i < count; i++)
        if (slots[i] != trial->queries[q] &&
            distance(rows, search.query, cairn_rows_at(rows, slots[i])) <= trial->limits[q])
            good++;
    *found += good < trial->neighbours ? good : trial->neighbours;
    return 0;
}

static int measure(struct trial *trial, struct cairn_tuning *tuning, struct cairn_error *err)
{
    uint32_t found = 0;
    for (uint32_t q = 0; q < trial->queries_count; q++) {
        if (atomic_load(trial->cancelled))
            return cairn_fail(err, CAIRN_ESHUTDOWN, "the build was stopped");
        int code = try_query(trial, q, tuning, &found, err);
        if (code != 0)
            return code;
    }
    tuning->recall = (float)found / (float)(trial->queries_count * trial->neighbours);
    return 0;
}

/* Raise effort, and where that stops helping the re-ranking factor, until the recall is reached. */
static int climb(struct trial *trial, bool quantized, bool effort_fixed,
                 struct cairn_tuning *tuning, struct cairn_error *err)
{
    uint32_t most = trial->kind->effort_max(trial->state);
    float before = -1;
    for (;;) {
        int code = measure(trial, tuning, err);
        if (code != 0 || tuning->recall >= trial->kind->tuned_recall)
            return code;
        bool stalled =
            effort_fixed || tuning->effort >= most || tuning->recall - before < recall_step_min;
        before = tuning->recall;
        if (stalled && quantized && tuning->rerank < RERANK_MAX) {
            tuning->rerank *= 2;
            before = -1;
        } else if (effort_fixed || tuning->effort >= most) {
            return 0;
        } else {
            uint32_t next = (uint32_t)ceil(tuning->effort * effort_growth);
            tuning->effort = next < most ? next : most;
        }
    }
}

int cairn_calibrate(const struct cairn_kind *kind, const void *state, const struct cairn_rows *rows,
                    const struct cairn_index_params *params, const atomic_bool *cancelled,
                    struct cairn_tuning *out, struct cairn_error *err)
{
    bool ivf = kind->id == CAIRN_INDEX_IVF;
    enum cairn_quantization codes = kind->quantization(state);
    bool quantized = codes != CAIRN_QUANTIZATION_NONE && !kind->returns_beam;
    uint32_t rerank = codes == CAIRN_QUANTIZATION_PQ ? RERANK_FIRST_PQ : RERANK_FIRST_SQ8;
    uint32_t fixed = ivf ? params->nprobe : params->ef;
    uint32_t most = kind->effort_max(state);
    uint32_t effort = fixed != 0 ? fixed : ivf ? 1 + most / 200 : 16;
    *out = (struct cairn_tuning){.effort = effort < most ? effort : most,
                                 .rerank = quantized ? rerank : 1};
    if (rows->count <= NEIGHBOURS)
        return 0;
    struct trial trial = {.kind = kind,
                          .state = state,
                          .rows = rows,
                          .cancelled = cancelled,
                          .neighbours = NEIGHBOURS};
    trial.queries = cairn_sample(rows->count, QUERIES, &trial.queries_count);
    trial.limits = cairn_malloc(trial.queries_count * sizeof(*trial.limits));
    true_neighbours(&trial);
    int code = climb(&trial, quantized, fixed != 0, out, err);
    cairn_arena_release(&trial.scratch);
    free(trial.limits);
    free(trial.queries);
    return code;
}
