/* graph: a hierarchical navigable small world (Malkov and Yashunin, arXiv:1603.09320), FAISS's
 * implementation of it, over rows and codes in our own mapped files.
 *
 * The file:  struct layout | 8-bit codes (sq8.h), if any | FAISS's index, without vectors.
 *
 * The graph is always built with full vectors; with sq8, searches walk it by codes and the caller
 * re-ranks what they find. Product-quantized graphs do not exist: pq is taken as sq8. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index/faiss_c_extra.h"
#include "index/faiss_error.h"
#include "index/kernels.h"
#include "index/kind_ivf.h"
#include "index/sq8.h"

enum {
    M_DEFAULT = 32,
    EF_CONSTRUCTION_DEFAULT = 200,
    ADD_ROWS = 4096, /* linked in one call; a build can be stopped in between */
};

struct layout {
    uint32_t m;
    uint32_t quantization;
};

struct graph {
    struct cairn_rows rows;
    struct layout layout;
    struct cairn_sq8 sq8;
    FaissIndex *faiss;
};

static int plan(const struct cairn_kind_source *source, struct cairn_kind_plan *out,
                struct cairn_error *err)
{
    (void)source;
    (void)err;
    *out = (struct cairn_kind_plan){0};
    return 0;
}

static void plan_release(struct cairn_kind_plan *out)
{
    *out = (struct cairn_kind_plan){0};
}

/* Inner product is no distance: rows of small norm are nobody's neighbour and the graph falls
 * apart. With one more component that brings every row to the same norm it orders pairs of rows as
 * L2 does, and queries, which have 0 there, see plain inner products (Bachrach et al., "Speeding up
 * the Xbox recommender system using a Euclidean transformation for inner-product spaces", 2014). */
static float *lift_of(const struct cairn_rows *rows)
{
    if (rows->metric != CAIRN_METRIC_DOT)
        return NULL;
    float *lift = cairn_malloc(rows->count * sizeof(*lift)), most = 0;
    for (uint32_t slot = 0; slot < rows->count; slot++) {
        const float *row = cairn_rows_at(rows, slot);
        lift[slot] = cairn_kernels->dot(row, row, rows->dim);
        most = lift[slot] > most ? lift[slot] : most;
    }
    if (!isfinite(most)) { /* norms beyond a float's range: plain products have to do */
        free(lift);
        return NULL;
    }
    for (uint32_t slot = 0; slot < rows->count; slot++)
        lift[slot] = sqrtf(most - lift[slot]);
    return lift;
}

static int link_rows(const struct cairn_kind_source *source, FaissIndex *faiss, uint32_t count,
                     struct cairn_error *err)
{
    for (uint32_t done = 0; done < count;) {
        uint32_t take = count - done < ADD_ROWS ? count - done : ADD_ROWS;
        if (atomic_load(source->cancelled))
            return cairn_fail(err, CAIRN_ESHUTDOWN, "the build was stopped");
        if (faiss_extra_hnsw_add(faiss, take) != OK)
            return cairn_faiss_fail(err, CAIRN_EINTERNAL, "linking vectors into a graph");
        done += take;
    }
    return 0;
}

static int write_part(void *arg, const void *bytes, size_t len)
{
    return cairn_file_write(arg, bytes, len);
}

static int build(const struct cairn_kind_source *source, const struct cairn_kind_plan *none,
                 const struct cairn_rows *rows, struct cairn_file_writer *out,
                 struct cairn_error *err)
{
    (void)none;
    const struct cairn_index_params *params = source->params;
    struct layout layout = {
        .m = params->m != 0 ? params->m : M_DEFAULT,
        .quantization = params->quantization == CAIRN_QUANTIZATION_NONE ? CAIRN_QUANTIZATION_NONE
                                                                        : CAIRN_QUANTIZATION_SQ8,
    };
    uint32_t ef = params->ef_construction != 0 ? params->ef_construction : EF_CONSTRUCTION_DEFAULT;
    float *lift = lift_of(rows);
    FaissIndex *faiss;
    if (faiss_extra_hnsw_new(rows->dim, cairn_faiss_metric(rows->metric), layout.m, ef, rows->data,
                             lift, &faiss) != OK) {
        free(lift);
        return cairn_faiss_fail(err, CAIRN_EINTERNAL, "making a graph");
    }
    faiss_extra_set_threads(source->threads);
    int code = link_rows(source, faiss, rows->count, err);
    faiss_extra_set_threads(1);
    (void)cairn_file_write(out, &layout, sizeof(layout));
    (void)cairn_file_align(out);
    if (code == 0 && layout.quantization == CAIRN_QUANTIZATION_SQ8)
        code = cairn_sq8_write(rows, source->cancelled, out, err);
    /* Failed writes are told when the file is finished. */
    if (code == 0 && faiss_extra_write(faiss, write_part, out) != OK && out->failed == 0)
        code = cairn_faiss_fail(err, CAIRN_EINTERNAL, "writing a graph");
    faiss_Index_free(faiss);
    free(lift);
    return code;
}

static int load_parts(struct graph *graph, const struct cairn_file_map *file,
                      struct cairn_error *err)
{
    uint64_t at = 0;
    const struct layout *layout = cairn_file_take(file, &at, sizeof(*layout));
    if (layout == NULL || layout->m == 0)
        return cairn_fail(err, CAIRN_ECORRUPT, "the graph has no parameters");
    graph->layout = *layout;
    cairn_file_skip_align(&at);
    if (layout->quantization == CAIRN_QUANTIZATION_SQ8) {
        int code = cairn_sq8_load(&graph->sq8, &graph->rows, file, &at, err);
        if (code != 0)
            return code;
    }
    if (at > file->payload_bytes ||
        faiss_extra_read(file->payload + at, file->payload_bytes - at, &graph->faiss) != OK ||
        faiss_extra_hnsw_attach(graph->faiss, graph->rows.data, graph->rows.count) != OK)
        return cairn_faiss_fail(err, CAIRN_ECORRUPT, "reading a graph");
    return 0;
}

static void release(void *state)
{
    struct graph *graph = state;
    if (graph->faiss != NULL)
        faiss_Index_free(graph->faiss);
    free(graph);
}

static int load(const struct cairn_file_map *file, const struct cairn_rows *rows, void **state,
                struct cairn_error *err)
{
    struct graph *graph = cairn_calloc(1, sizeof(*graph));
    graph->rows = *rows;
    int code = load_parts(graph, file, err);
    if (code != 0) {
        release(graph);
        return code;
    }
    *state = graph;
    return 0;
}

static uint32_t beam(const struct graph *graph, uint32_t effort, uint32_t k)
{
    uint32_t ef = effort > k ? effort : k;
    return ef < graph->rows.count ? ef : graph->rows.count;
}

static int search(const void *state, const struct cairn_kind_search *search,
                  struct cairn_arena *scratch, uint32_t **slots, uint32_t *count,
                  struct cairn_error *err)
{
    const struct graph *graph = state;
    uint32_t ef = beam(graph, search->effort, search->k);
    float *distances = cairn_arena_alloc(scratch, ef * sizeof(*distances));
    idx_t *found = cairn_arena_alloc(scratch, ef * sizeof(*found));
    *slots = cairn_arena_alloc(scratch, ef * sizeof(**slots));
    struct faiss_extra_selector selector = {search->allow, search->deny};
    struct faiss_extra_distance by_code = {0};
    struct cairn_sq8_query query;
    if (graph->layout.quantization == CAIRN_QUANTIZATION_SQ8) {
        cairn_sq8_query(&graph->sq8, search->query, scratch, &query);
        by_code = (struct faiss_extra_distance){cairn_sq8_distance, &query};
    }
    size_t found_count = 0;
    if (faiss_extra_hnsw_search(graph->faiss, search->query, ef, &by_code, &selector, distances,
                                found, &found_count) != OK)
        return cairn_faiss_fail(err, CAIRN_EINTERNAL, "searching a graph");
    *count = (uint32_t)found_count;
    for (uint32_t i = 0; i < *count; i++)
        (*slots)[i] = (uint32_t)found[i];
    return 0;
}

/* A node has up to 2m neighbours, of which about half were seen before. */
static uint64_t work(const void *state, uint32_t effort)
{
    const struct graph *graph = state;
    return (uint64_t)effort * graph->layout.m;
}

static uint32_t effort_max(const void *state)
{
    const struct graph *graph = state;
    return graph->rows.count;
}

/* The walk visits nodes whether they are wanted or not, so a fraction of the beam is wanted. */
static uint32_t scale(const void *state, uint32_t effort, double fraction, uint32_t k)
{
    double beam_width = k > CAIRN_TUNED_K ? effort + k - CAIRN_TUNED_K : effort;
    double wider = ceil(beam_width / fraction);
    uint32_t most = effort_max(state);
    return wider < most ? (uint32_t)wider : most;
}

static enum cairn_quantization quantization(const void *state)
{
    const struct graph *graph = state;
    return (enum cairn_quantization)graph->layout.quantization;
}

static uint64_t memory(const void *state)
{
    const struct graph *graph = state;
    return sizeof(*graph) + faiss_extra_hnsw_memory(graph->faiss);
}

const struct cairn_kind cairn_kind_graph = {
    .id = CAIRN_INDEX_GRAPH,
    .name = "graph",
    .approximate = true,
    .filters_inside = true,
    .returns_beam = true,
    .tuned_recall = 0.985f,
    .adds_while_serving = false,
    .plan = plan,
    .build = build,
    .plan_release = plan_release,
    .load = load,
    .free = release,
    .search = search,
    .work = work,
    .scale = scale,
    .effort_max = effort_max,
    .quantization = quantization,
    .memory = memory,
};
