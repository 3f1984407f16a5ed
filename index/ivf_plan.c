/* k-means over a bounded sample, then every vector to its nearest centroid, then slots in list
 * order, so that a list is a run of rows. */
#include <faiss/c_api/Clustering_c.h>
#include <faiss/c_api/IndexFlat_c.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index/faiss_c_extra.h"
#include "index/faiss_error.h"
#include "index/kind_ivf.h"

enum {
    KMEANS_ROUNDS = 10,
    KMEANS_SEED = 1234,
    TRAIN_PER_LIST = 64,
    TRAIN_PER_LIST_MIN = 16,
    ROWS_PER_LIST_MIN = 8, /* when the number of lists is ours to choose */
    LISTS_MAX = 65536,
    ASSIGN_ROWS = 4096,
};
#define TRAIN_BYTES_MAX ((size_t)256 << 20)

static uint32_t choose_lists(const struct cairn_kind_source *source)
{
    uint32_t lists = source->params->lists;
    if (lists == 0) {
        lists = (uint32_t)(4 * sqrt((double)source->count));
        uint32_t most = source->count / ROWS_PER_LIST_MIN;
        lists = lists < most ? lists : most;
    }
    lists = lists < source->count ? lists : source->count;
    lists = lists < LISTS_MAX ? lists : LISTS_MAX;
    return lists == 0 ? 1 : lists;
}

static void gather(const struct cairn_kind_source *source, const uint32_t *which, uint32_t first,
                   uint32_t count, float *out)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = which == NULL ? first + i : which[i];
        memcpy(out + (size_t)i * source->dim, source->vectors[at], source->dim * sizeof(float));
    }
}

static float *training_rows(const struct cairn_kind_source *source, uint32_t lists, uint32_t *taken)
{
    size_t wanted = (size_t)lists * TRAIN_PER_LIST;
    size_t fit = TRAIN_BYTES_MAX / (source->dim * sizeof(float));
    wanted = wanted < fit ? wanted : fit;
    size_t least = (size_t)lists * TRAIN_PER_LIST_MIN;
    wanted = wanted > least ? wanted : least;
    wanted = wanted < source->count ? wanted : source->count;
    uint32_t *which = cairn_sample(source->count, (uint32_t)wanted, taken);
    float *rows = cairn_malloc((size_t)*taken * source->dim * sizeof(float));
    gather(source, which, 0, *taken, rows);
    free(which);
    return rows;
}

/* One round a call, so that a build can be stopped between them: a clustering that has centroids
 * goes on from them. Leaves the centroids in `quantizer`. */
static int kmeans(const struct cairn_kind_source *source, FaissIndex *quantizer, uint32_t lists,
                  float *centroids, struct cairn_error *err)
{
    FaissClusteringParameters params;
    faiss_ClusteringParameters_init(&params);
    params.niter = 1;
    params.seed = KMEANS_SEED;
    params.spherical = source->metric != CAIRN_METRIC_L2;
    params.min_points_per_centroid = 1;
    params.max_points_per_centroid = INT32_MAX / LISTS_MAX;
    FaissClustering *clustering;
    if (faiss_Clustering_new_with_params(&clustering, (int)source->dim, (int)lists, &params) != OK)
        return cairn_faiss_fail(err, CAIRN_EINTERNAL, "k-means");
    uint32_t taken;
    float *rows = training_rows(source, lists, &taken);
    int code = 0;
    for (int round = 0; round < KMEANS_ROUNDS && code == 0; round++) {
        if (atomic_load(source->cancelled))
            code = cairn_fail(err, CAIRN_ESHUTDOWN, "the build was stopped");
        else if (faiss_Clustering_train(clustering, taken, rows, quantizer) != OK)
            code = cairn_faiss_fail(err, CAIRN_EINTERNAL, "k-means");
    }
    if (code == 0) {
        float *found;
        size_t size;
        faiss_Clustering_centroids(clustering, &found, &size);
        memcpy(centroids, found, (size_t)lists * source->dim * sizeof(float));
    }
    free(rows);
    faiss_Clustering_free(clustering);
    return code;
}

static int assign(const struct cairn_kind_source *source, FaissIndex *quantizer, uint32_t *list_of,
                  struct cairn_error *err)
{
    float *rows = cairn_malloc((size_t)ASSIGN_ROWS * source->dim * sizeof(float));
    idx_t *labels = cairn_malloc(ASSIGN_ROWS * sizeof(*labels));
    int code = 0;
    for (uint32_t done = 0; done < source->count && code == 0;) {
        uint32_t take = source->count - done < ASSIGN_ROWS ? source->count - done : ASSIGN_ROWS;
        gather(source, NULL, done, take, rows);
        if (atomic_load(source->cancelled))
            code = cairn_fail(err, CAIRN_ESHUTDOWN, "the build was stopped");
        else if (faiss_Index_assign(quantizer, take, rows, labels, 1) != OK)
            code = cairn_faiss_fail(err, CAIRN_EINTERNAL, "assigning vectors to lists");
        /* A vector whose distances overflow gets no list; any will do. */
        for (uint32_t i = 0; i < take && code == 0; i++)
            list_of[done + i] = labels[i] < 0 ? 0 : (uint32_t)labels[i];
        done += take;
    }
    free(labels);
    free(rows);
    return code;
}

/* Counting sort. */
static void order_by_list(const uint32_t *list_of, uint32_t count, uint32_t lists, uint32_t *starts,
                          uint32_t *order)
{
    memset(starts, 0, (lists + 1) * sizeof(*starts));
    for (uint32_t i = 0; i < count; i++)
        starts[list_of[i] + 1]++;
    for (uint32_t l = 0; l < lists; l++)
        starts[l + 1] += starts[l];
    uint32_t *next = cairn_malloc(lists * sizeof(*next));
    memcpy(next, starts, lists * sizeof(*next));
    for (uint32_t i = 0; i < count; i++)
        order[next[list_of[i]]++] = i;
    free(next);
}

int cairn_ivf_plan(const struct cairn_kind_source *source, struct cairn_kind_plan *plan,
                   struct cairn_error *err)
{
    uint32_t lists = choose_lists(source);
    faiss_extra_set_threads(source->threads);
    FaissIndexFlat *quantizer;
    if (faiss_IndexFlat_new_with(&quantizer, source->dim, cairn_faiss_metric(source->metric)) != OK)
        return cairn_faiss_fail(err, CAIRN_EINTERNAL, "making a quantizer");
    struct cairn_ivf_plan *own = cairn_malloc(sizeof(*own));
    *own = (struct cairn_ivf_plan){
        .lists = lists,
        .starts = cairn_malloc((lists + 1) * sizeof(uint32_t)),
        .centroids = cairn_malloc((size_t)lists * source->dim * sizeof(float)),
    };
    *plan = (struct cairn_kind_plan){.own = own};
    uint32_t *list_of = cairn_malloc(source->count * sizeof(*list_of));
    int code = kmeans(source, quantizer, lists, own->centroids, err);
    if (code == 0)
        code = assign(source, quantizer, list_of, err);
    if (code == 0) {
        plan->order = cairn_malloc(source->count * sizeof(*plan->order));
        order_by_list(list_of, source->count, lists, own->starts, plan->order);
    } else {
        cairn_ivf_plan_release(plan);
    }
    free(list_of);
    faiss_Index_free(quantizer);
    faiss_extra_set_threads(1);
    return code;
}

void cairn_ivf_plan_release(struct cairn_kind_plan *plan)
{
    struct cairn_ivf_plan *own = plan->own;
    free(own->starts);
    free(own->centroids);
    free(own);
    free(plan->order);
    *plan = (struct cairn_kind_plan){0};
}
