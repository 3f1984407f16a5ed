/* What FAISS 1.7.3's C API lacks and we need, in its style: functions return 0 or a FaissErrorCode,
 * and faiss_get_last_error() then says why.
 *
 * Vectors and codes are not copied into FAISS objects: the caller keeps them in slot order (usually
 * a mapped file) and passes them in. They must outlive the calls that use them, and an HNSW index
 * that was given rows.
 *
 * Threads: searches and scans on one index from any number of threads at once; everything else
 * alone. */
#ifndef CAIRN_INDEX_FAISS_C_EXTRA_H
#define CAIRN_INDEX_FAISS_C_EXTRA_H

#include <faiss/c_api/Index_c.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Slots to consider: bit set in `allow` (NULL: all) and clear in `deny` (NULL: none). `deny` may
 * gain bits during a search; words are read atomically. */
struct faiss_extra_selector {
    const uint64_t *allow;
    const uint64_t *deny;
};

/* OpenMP threads of FAISS calls made by this thread from now on. */
void faiss_extra_set_threads(unsigned threads);

/* An IVF index whose quantizer is the given centroids (copied): flat codes when pq_bytes is 0,
 * else a product quantizer of that many bytes, to be trained with faiss_Index_train. */
int faiss_extra_ivf_new(size_t dim, FaissMetricType metric, size_t lists, const float *centroids,
                        size_t pq_bytes, FaissIndex **out);
/* Whether the object is an IVF index of that shape. */
int faiss_extra_ivf_fits(const FaissIndex *index, size_t dim, size_t lists);
size_t faiss_extra_ivf_code_size(const FaissIndex *ivf);
/* Codes of n vectors that belong to the given lists. */
int faiss_extra_ivf_encode(const FaissIndex *ivf, size_t n, const float *x, const idx_t *lists,
                           uint8_t *codes);
/* The `probes` nearest lists of x, nearest first, -1 where there are none, with their values. */
int faiss_extra_ivf_probe(const FaissIndex *ivf, const float *x, size_t probes, idx_t *lists,
                          float *values);
/* Scan lists with FAISS's scanner. codes stand in slot order, list l being slots starts[l] to
 * starts[l + 1]. Results are the k best slots in heap order, -1 where there are none. */
int faiss_extra_ivf_scan(const FaissIndex *ivf, const uint8_t *codes, const uint32_t *starts,
                         const float *x, const idx_t *lists, const float *values, size_t probes,
                         const struct faiss_extra_selector *selector, size_t k, float *distances,
                         idx_t *slots);
size_t faiss_extra_ivf_memory(const FaissIndex *ivf);

/* An HNSW graph over the caller's rows. metric: inner product or L2. `lift` (NULL: none) is one
 * more component per row that counts between rows while the graph is built, and in no query. */
int faiss_extra_hnsw_new(size_t dim, FaissMetricType metric, unsigned m, unsigned ef_construction,
                         const float *rows, const float *lift, FaissIndex **out);
/* Link the next n rows into the graph. */
int faiss_extra_hnsw_add(FaissIndex *hnsw, size_t n);
/* The rows of an index that was read back. n must be its number of vectors. */
int faiss_extra_hnsw_attach(FaissIndex *hnsw, const float *rows, size_t n);

/* Where a search takes distances (smaller is better) from. A NULL function: the rows. */
struct faiss_extra_distance {
    float (*of)(const void *context, uint32_t slot);
    const void *context;
};
/* The up to ef best slots found with beam width ef, in heap order. */
int faiss_extra_hnsw_search(const FaissIndex *hnsw, const float *x, size_t ef,
                            const struct faiss_extra_distance *distance,
                            const struct faiss_extra_selector *selector, float *distances,
                            idx_t *slots, size_t *count);
size_t faiss_extra_hnsw_memory(const FaissIndex *hnsw);

/* Serialise through a callback (0: go on), without vectors or codes that the caller keeps. */
int faiss_extra_write(const FaissIndex *index,
                      int (*write)(void *arg, const void *bytes, size_t len), void *arg);
int faiss_extra_read(const void *bytes, size_t len, FaissIndex **out);

#ifdef __cplusplus
}
#endif

#endif
