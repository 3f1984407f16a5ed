/* ivf: FAISS's inverted file. Slots stand in list order, so that list l is the rows (and codes) of
 * slots starts[l] to starts[l + 1]; FAISS scans them where they are, in the mapped files.
 *
 * The file:  struct layout | starts | 8-bit codes (sq8.h) or PQ codes | FAISS's index, without
 *            vectors: centroids and codebooks; each part on a cache line. */
#include "index/kind_ivf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "index/bitmap.h"
#include "index/faiss_c_extra.h"
#include "index/faiss_error.h"
#include "index/sq8.h"
#include "index/topk.h"

enum {
    PQ_ROWS_MIN = 1024, /* below this a codebook of 256 entries says nothing: full vectors */
    PQ_TRAIN_MAX = 16384,
    PQ_FLOATS_PER_BYTE = 4,
    ENCODE_ROWS = 4096,
};

struct layout {
    uint32_t lists;
    uint32_t quantization; /* enum cairn_quantization */
    uint32_t code_bytes;   /* pq */
};

struct ivf {
    struct cairn_rows rows;
    struct layout layout;
    const uint32_t *starts;
    const uint8_t *codes; /* pq codes, or the rows */
    struct cairn_sq8 sq8;
    FaissIndex *faiss;
};

/* The product quantizer splits a vector in equal parts: the largest divisor not above what is asked
 * or, by default, a byte for four components. */
static uint32_t choose_pq_bytes(uint32_t dim, uint32_t asked)
{
    uint32_t most = asked != 0 ? asked : dim / PQ_FLOATS_PER_BYTE;
    most = most < dim ? most : dim;
    for (; most > 1; most--)
        if (dim % most == 0)
            return most;
    return 1;
}

static int train_pq(const struct cairn_rows *rows, FaissIndex *faiss, struct cairn_error *err)
{
    uint32_t taken;
    uint32_t *which = cairn_sample(rows->count, PQ_TRAIN_MAX, &taken);
    float *sample = cairn_malloc((size_t)taken * rows->dim * sizeof(float));
    for (uint32_t i = 0; i < taken; i++)
        memcpy(sample + (size_t)i * rows->dim, cairn_rows_at(rows, which[i]),
               rows->dim * sizeof(float));
    int code = 0;
    if (faiss_Index_train(faiss, taken, sample) != OK)
        code = cairn_faiss_fail(err, CAIRN_EINTERNAL, "training the product quantizer");
    free(sample);
    free(which);
    return code;
}

static int write_pq(const struct cairn_kind_source *source, const struct cairn_ivf_plan *plan,
                    const struct cairn_rows *rows, const FaissIndex *faiss,
                    struct cairn_file_writer *out, struct cairn_error *err)
{
    size_t code_bytes = faiss_extra_ivf_code_size(faiss);
    uint8_t *codes = cairn_malloc(ENCODE_ROWS * code_bytes);
    idx_t *lists = cairn_malloc(ENCODE_ROWS * sizeof(*lists));
    int code = 0;
    uint32_t list = 0;
    for (uint32_t done = 0; done < rows->count && code == 0;) {
        uint32_t take = rows->count - done < ENCODE_ROWS ? rows->count - done : ENCODE_ROWS;
        for (uint32_t i = 0; i < take; i++) {
            while (plan->starts[list + 1] <= done + i)
                list++;
            lists[i] = list;
        }
        if (atomic_load(source->cancelled))
            code = cairn_fail(err, CAIRN_ESHUTDOWN, "the build was stopped");
        else if (faiss_extra_ivf_encode(faiss, take, cairn_rows_at(rows, done), lists, codes) != OK)
            code = cairn_faiss_fail(err, CAIRN_EINTERNAL, "encoding vectors");
        else if (cairn_file_write(out, codes, take * code_bytes) != 0)
            break;
        done += take;
    }
    (void)cairn_file_align(out);
    free(lists);
    free(codes);
    return code;
}

static int write_part(void *arg, const void *bytes, size_t len)
{
    return cairn_file_write(arg, bytes, len);
}

static int build(const struct cairn_kind_source *source, const struct cairn_kind_plan *plan,
                 const struct cairn_rows *rows, struct cairn_file_writer *out,
                 struct cairn_error *err)
{
    const struct cairn_ivf_plan *own = plan->own;
    struct layout layout = {.lists = own->lists, .quantization = source->params->quantization};
    if (layout.quantization == CAIRN_QUANTIZATION_PQ) {
        if (rows->count < PQ_ROWS_MIN)
            layout.quantization = CAIRN_QUANTIZATION_NONE;
        else
            layout.code_bytes = choose_pq_bytes(rows->dim, source->params->pq_bytes);
    }
    FaissIndex *faiss;
    faiss_extra_set_threads(source->threads);
    if (faiss_extra_ivf_new(rows->dim, cairn_faiss_metric(rows->metric), own->lists, own->centroids,
                            layout.code_bytes, &faiss) != OK)
        return cairn_faiss_fail(err, CAIRN_EINTERNAL, "making an inverted file");
    int code = layout.code_bytes == 0 ? 0 : train_pq(rows, faiss, err);
    (void)cairn_file_write(out, &layout, sizeof(layout));
    (void)cairn_file_align(out);
    (void)cairn_file_write(out, own->starts, (own->lists + 1) * sizeof(*own->starts));
    (void)cairn_file_align(out);
    if (code == 0 && layout.quantization == CAIRN_QUANTIZATION_SQ8)
        code = cairn_sq8_write(rows, source->cancelled, out, err);
    if (code == 0 && layout.code_bytes != 0)
        code = write_pq(source, own, rows, faiss, out, err);
    /* Failed writes are told when the file is finished. */
    if (code == 0 && faiss_extra_write(faiss, write_part, out) != OK && out->failed == 0)
        code = cairn_faiss_fail(err, CAIRN_EINTERNAL, "writing an inverted file");
    faiss_Index_free(faiss);
    faiss_extra_set_threads(1);
    return code;
}

static bool starts_fit(const struct ivf *ivf)
{
    for (uint32_t l = 0; l < ivf->layout.lists; l++)
        if (ivf->starts[l] > ivf->starts[l + 1])
            return false;
    return ivf->starts[0] == 0 && ivf->starts[ivf->layout.lists] == ivf->rows.count;
}

static int load_parts(struct ivf *ivf, const struct cairn_file_map *file, struct cairn_error *err)
{
    uint64_t at = 0;
    const struct layout *layout = cairn_file_take(file, &at, sizeof(*layout));
    if (layout == NULL || layout->lists == 0)
        return cairn_fail(err, CAIRN_ECORRUPT, "the inverted file has no lists");
    ivf->layout = *layout;
    cairn_file_skip_align(&at);
    ivf->starts = cairn_file_take(file, &at, ((uint64_t)layout->lists + 1) * sizeof(uint32_t));
    cairn_file_skip_align(&at);
    if (ivf->starts == NULL || !starts_fit(ivf))
        return cairn_fail(err, CAIRN_ECORRUPT, "the inverted file's lists do not fit its vectors");
    ivf->codes = (const uint8_t *)ivf->rows.data;
    if (layout->quantization == CAIRN_QUANTIZATION_SQ8) {
        int code = cairn_sq8_load(&ivf->sq8, &ivf->rows, file, &at, err);
        if (code != 0)
            return code;
    } else if (layout->quantization == CAIRN_QUANTIZATION_PQ) {
        ivf->codes = cairn_file_take(file, &at, (uint64_t)layout->code_bytes * ivf->rows.count);
        cairn_file_skip_align(&at);
    }
    if (ivf->codes == NULL || at > file->payload_bytes)
        return cairn_fail(err, CAIRN_ECORRUPT, "the inverted file's codes are cut off");
    if (faiss_extra_read(file->payload + at, file->payload_bytes - at, &ivf->faiss) != OK)
        return cairn_faiss_fail(err, CAIRN_ECORRUPT, "reading an inverted file");
    if (!faiss_extra_ivf_fits(ivf->faiss, ivf->rows.dim, layout->lists))
        return cairn_fail(err, CAIRN_ECORRUPT, "the inverted file is of another shape");
    return 0;
}

static void release(void *state)
{
    struct ivf *ivf = state;
    if (ivf->faiss != NULL)
        faiss_Index_free(ivf->faiss);
    free(ivf);
}

static int load(const struct cairn_file_map *file, const struct cairn_rows *rows, void **state,
                struct cairn_error *err)
{
    struct ivf *ivf = cairn_calloc(1, sizeof(*ivf));
    ivf->rows = *rows;
    int code = load_parts(ivf, file, err);
    if (code != 0) {
        release(ivf);
        return code;
    }
    *state = ivf;
    return 0;
}

static struct cairn_str no_key(const void *context, uint32_t slot)
{
    (void)context;
    (void)slot;
    return (struct cairn_str){NULL, 0};
}

/* Slots of [first, first + 64) and below `end` that a search may return. */
static uint32_t pick(const struct cairn_kind_search *search, uint32_t first, uint32_t end,
                     uint32_t *slots)
{
    uint32_t count = 0;
    for (uint32_t slot = first; slot < end; slot++) {
        bool wanted = (search->allow == NULL || cairn_bitmap_get(search->allow, slot)) &&
                      (search->deny == NULL || !cairn_bitmap_get(search->deny, slot));
        slots[count] = slot;
        count += wanted;
    }
    return count;
}

static void scan_sq8(const struct ivf *ivf, const struct cairn_kind_search *search,
                     const idx_t *lists, uint32_t probes, struct cairn_arena *scratch,
                     struct cairn_topk *best)
{
    struct cairn_sq8_query query;
    uint32_t slots[64];
    float values[64];
    cairn_sq8_query(&ivf->sq8, search->query, scratch, &query);
    for (uint32_t p = 0; p < probes; p++) {
        if (lists[p] < 0)
            continue;
        uint32_t end = ivf->starts[lists[p] + 1];
        for (uint32_t at = ivf->starts[lists[p]]; at < end;) {
            uint32_t take = end - at < 64 ? end - at : 64;
            uint32_t count = pick(search, at, at + take, slots);
            cairn_sq8_values(&query, slots, count, values);
            cairn_topk_offer(best, values, slots, count);
            at += take;
        }
    }
}

static int search(const void *state, const struct cairn_kind_search *search,
                  struct cairn_arena *scratch, uint32_t **slots, uint32_t *count,
                  struct cairn_error *err)
{
    const struct ivf *ivf = state;
    uint32_t probes = search->effort < ivf->layout.lists ? search->effort : ivf->layout.lists;
    uint32_t k = search->k;
    idx_t *lists = cairn_arena_alloc(scratch, probes * sizeof(*lists));
    float *values = cairn_arena_alloc(scratch, probes * sizeof(*values));
    *slots = cairn_arena_alloc(scratch, k * sizeof(**slots));
    *count = 0;
    faiss_extra_set_threads(1);
    if (faiss_extra_ivf_probe(ivf->faiss, search->query, probes, lists, values) != OK)
        return cairn_faiss_fail(err, CAIRN_EINTERNAL, "choosing lists");
    if (ivf->layout.quantization == CAIRN_QUANTIZATION_SQ8) {
        struct cairn_topk best;
        cairn_topk_init(&best, k, ivf->rows.metric, no_key, NULL, scratch);
        scan_sq8(ivf, search, lists, probes, scratch, &best);
        for (uint32_t i = 0; i < best.count; i++)
            (*slots)[(*count)++] = best.entries[i].slot;
        return 0;
    }
    idx_t *ids = cairn_arena_alloc(scratch, k * sizeof(*ids));
    float *distances = cairn_arena_alloc(scratch, k * sizeof(*distances));
    struct faiss_extra_selector selector = {search->allow, search->deny};
    if (faiss_extra_ivf_scan(ivf->faiss, ivf->codes, ivf->starts, search->query, lists, values,
                             probes, &selector, k, distances, ids) != OK)
        return cairn_faiss_fail(err, CAIRN_EINTERNAL, "scanning lists");
    for (uint32_t i = 0; i < k; i++)
        if (ids[i] >= 0)
            (*slots)[(*count)++] = (uint32_t)ids[i];
    return 0;
}

static uint64_t work(const void *state, uint32_t effort)
{
    const struct ivf *ivf = state;
    return ivf->layout.lists + (uint64_t)ivf->rows.count * effort / ivf->layout.lists;
}

static uint32_t effort_max(const void *state)
{
    const struct ivf *ivf = state;
    return ivf->layout.lists;
}

/* The k nearest of a fraction f of the rows reach as far as the k / f nearest of all, and the
 * number of lists that such a ball touches grows much slower than its contents. The exponents were
 * found by trying on word vectors and hold recall at or above its unfiltered value. */
static uint32_t scale(const void *state, uint32_t effort, double fraction, uint32_t k)
{
    double farther = k > CAIRN_TUNED_K ? pow((double)k / CAIRN_TUNED_K, 0.35) : 1;
    double wider = ceil(effort * farther / sqrt(fraction));
    uint32_t most = effort_max(state);
    return wider < most ? (uint32_t)wider : most;
}

static enum cairn_quantization quantization(const void *state)
{
    const struct ivf *ivf = state;
    return (enum cairn_quantization)ivf->layout.quantization;
}

static uint64_t memory(const void *state)
{
    const struct ivf *ivf = state;
    return sizeof(*ivf) + faiss_extra_ivf_memory(ivf->faiss);
}

const struct cairn_kind cairn_kind_ivf = {
    .id = CAIRN_INDEX_IVF,
    .name = "ivf",
    .approximate = true,
    .filters_inside = true,
    .tuned_recall = 0.97f,
    .adds_while_serving = false,
    .plan = cairn_ivf_plan,
    .build = build,
    .plan_release = cairn_ivf_plan_release,
    .load = load,
    .free = release,
    .search = search,
    .work = work,
    .scale = scale,
    .effort_max = effort_max,
    .quantization = quantization,
    .memory = memory,
};
