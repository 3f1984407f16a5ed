// See faiss_c_extra.h.
#include "index/faiss_c_extra.h"

#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/IndexIVFPQ.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/DistanceComputer.h>
#include <faiss/impl/FaissAssert.h>
#include <faiss/impl/IDSelector.h>
#include <faiss/impl/io.h>
#include <faiss/index_io.h>
#include <faiss/utils/Heap.h>
#include <faiss/utils/distances.h>
#include <omp.h>

#include <cstring>
#include <exception>
#include <memory>
#include <numeric>
#include <vector>

#include <faiss/c_api/error_c.h>
#include <faiss/c_api/error_impl.h>

namespace
{
using faiss::Index;

// The L2 residual tables of a product quantizer cost lists * pq_bytes KiB. Past this the codes are
// made of the vectors themselves, which needs one table a query.
constexpr size_t residual_table_bytes_max = size_t{32} << 20;

template <typename Body> int guarded(Body body)
{
    try {
        body();
        return OK;
    } catch (const std::exception &) {
        faiss_last_exception = std::current_exception();
        return STD_EXCEPT;
    }
}

const faiss::IndexIVF *ivf_of(const FaissIndex *index)
{
    return dynamic_cast<const faiss::IndexIVF *>(reinterpret_cast<const Index *>(index));
}

const faiss::IndexHNSWFlat *hnsw_of(const FaissIndex *index)
{
    return dynamic_cast<const faiss::IndexHNSWFlat *>(reinterpret_cast<const Index *>(index));
}

faiss::IndexHNSWFlat *hnsw_of(FaissIndex *index)
{
    return dynamic_cast<faiss::IndexHNSWFlat *>(reinterpret_cast<Index *>(index));
}

FaissIndex *c_of(Index *index)
{
    return reinterpret_cast<FaissIndex *>(index);
}

struct BitmapSelector final : faiss::IDSelector {
    const uint64_t *allow, *deny;

    explicit BitmapSelector(const faiss_extra_selector *selector)
        : allow(selector ? selector->allow : nullptr), deny(selector ? selector->deny : nullptr)
    {
    }

    bool is_member(idx_t id) const override
    {
        size_t word = static_cast<size_t>(id) / 64;
        uint64_t bit = uint64_t{1} << (id % 64);
        return (!allow || (allow[word] & bit)) &&
               (!deny || !(__atomic_load_n(&deny[word], __ATOMIC_ACQUIRE) & bit));
    }

    bool selects_all() const
    {
        return !allow && !deny;
    }
};

// Distances to rows that someone else owns. Calls FAISS's kernels, so that the link decides which
// implementation they are, as everywhere in FAISS.
struct RowDistance final : faiss::DistanceComputer {
    const float *rows;
    const float *lift; // building with an inner product: see the header
    size_t dim;
    bool inner_product;
    const float *query = nullptr;
    float query_lift = 0;

    RowDistance(const float *r, const float *l, size_t d, bool ip)
        : rows(r), lift(l), dim(d), inner_product(ip)
    {
    }

    float between(const float *a, const float *b) const
    {
        return inner_product ? -faiss::fvec_inner_product(a, b, dim) : faiss::fvec_L2sqr(a, b, dim);
    }

    // While the graph is built, queries are rows.
    void set_query(const float *x) override
    {
        query = x;
        query_lift = lift ? lift[static_cast<size_t>(x - rows) / dim] : 0;
    }

    float operator()(idx_t i) override
    {
        float distance = between(query, rows + static_cast<size_t>(i) * dim);
        return lift ? distance - query_lift * lift[i] : distance;
    }

    float symmetric_dis(idx_t i, idx_t j) override
    {
        float distance =
            between(rows + static_cast<size_t>(i) * dim, rows + static_cast<size_t>(j) * dim);
        return lift ? distance - lift[i] * lift[j] : distance;
    }
};

struct CallbackDistance final : faiss::DistanceComputer {
    const faiss_extra_distance source;

    explicit CallbackDistance(const faiss_extra_distance *s) : source(*s)
    {
    }

    void set_query(const float *) override
    {
    }

    float operator()(idx_t i) override
    {
        return source.of(source.context, static_cast<uint32_t>(i));
    }

    float symmetric_dis(idx_t, idx_t) override
    {
        FAISS_THROW_MSG("not used by searches");
    }
};

// The storage of an HNSW index, without storing. It says L2 whatever the metric, because FAISS
// negates inner products itself otherwise, at the price of a second virtual call per distance.
struct RowStorage final : Index {
    const float *rows, *lift;
    bool inner_product;

    RowStorage(size_t dim, const float *r, const float *l, bool ip)
        : Index(static_cast<idx_t>(dim), faiss::METRIC_L2), rows(r), lift(l), inner_product(ip)
    {
    }

    void add(idx_t n, const float *x) override
    {
        FAISS_THROW_IF_NOT(x == rows + ntotal * d);
        ntotal += n;
    }

    void search(idx_t, const float *, idx_t, float *, idx_t *,
                const faiss::SearchParameters *) const override
    {
        FAISS_THROW_MSG("not searchable");
    }

    void reset() override
    {
        ntotal = 0;
    }

    faiss::DistanceComputer *get_distance_computer() const override
    {
        return new RowDistance(rows, lift, static_cast<size_t>(d), inner_product);
    }
};

void replace_storage(faiss::IndexHNSW *hnsw, Index *storage)
{
    delete hnsw->storage;
    hnsw->storage = storage;
    hnsw->own_fields = true;
}

struct CallbackWriter final : faiss::IOWriter {
    int (*write)(void *, const void *, size_t);
    void *arg;

    CallbackWriter(int (*w)(void *, const void *, size_t), void *a) : write(w), arg(a)
    {
    }

    size_t operator()(const void *bytes, size_t size, size_t items) override
    {
        return write(arg, bytes, size * items) == 0 ? items : 0;
    }
};

struct MemoryReader final : faiss::IOReader {
    const char *at, *end;

    MemoryReader(const void *bytes, size_t len)
        : at(static_cast<const char *>(bytes)), end(at + len)
    {
    }

    size_t operator()(void *out, size_t size, size_t items) override
    {
        size_t left = size == 0 ? 0 : static_cast<size_t>(end - at) / size;
        size_t take = left < items ? left : items;
        if (take != 0)
            std::memcpy(out, at, take * size);
        at += take * size;
        return take;
    }
};

// One table a thread: marks of earlier searches differ, so none is cleared.
faiss::VisitedTable &visited_table(size_t n)
{
    static thread_local std::unique_ptr<faiss::VisitedTable> table;
    if (!table || table->visited.size() < n)
        table = std::make_unique<faiss::VisitedTable>(static_cast<int>(n + n / 8));
    table->advance();
    return *table;
}
} // namespace

void faiss_extra_set_threads(unsigned threads)
{
    omp_set_num_threads(static_cast<int>(threads));
}

int faiss_extra_ivf_new(size_t dim, FaissMetricType metric, size_t lists, const float *centroids,
                        size_t pq_bytes, FaissIndex **out)
{
    return guarded([&] {
        auto kind = static_cast<faiss::MetricType>(metric);
        auto quantizer = std::make_unique<faiss::IndexFlat>(static_cast<idx_t>(dim), kind);
        quantizer->add(static_cast<idx_t>(lists), centroids);
        std::unique_ptr<faiss::IndexIVF> ivf;
        if (pq_bytes == 0) {
            ivf = std::make_unique<faiss::IndexIVFFlat>(quantizer.get(), dim, lists, kind);
        } else {
            auto pq =
                std::make_unique<faiss::IndexIVFPQ>(quantizer.get(), dim, lists, pq_bytes, 8, kind);
            pq->pq.cp.min_points_per_centroid = 1;
            pq->by_residual = kind == faiss::METRIC_INNER_PRODUCT ||
                              lists * pq_bytes * 256 * sizeof(float) <= residual_table_bytes_max;
            ivf = std::move(pq);
        }
        quantizer.release();
        ivf->own_fields = true;
        *out = c_of(ivf.release());
    });
}

int faiss_extra_ivf_fits(const FaissIndex *index, size_t dim, size_t lists)
{
    const faiss::IndexIVF *ivf = ivf_of(index);
    return ivf && static_cast<size_t>(ivf->d) == dim && ivf->nlist == lists &&
           static_cast<size_t>(ivf->quantizer->ntotal) == lists;
}

size_t faiss_extra_ivf_code_size(const FaissIndex *ivf)
{
    return ivf_of(ivf)->code_size;
}

int faiss_extra_ivf_encode(const FaissIndex *ivf, size_t n, const float *x, const idx_t *lists,
                           uint8_t *codes)
{
    return guarded(
        [&] { ivf_of(ivf)->encode_vectors(static_cast<idx_t>(n), x, lists, codes, false); });
}

int faiss_extra_ivf_probe(const FaissIndex *ivf, const float *x, size_t probes, idx_t *lists,
                          float *values)
{
    return guarded(
        [&] { ivf_of(ivf)->quantizer->search(1, x, static_cast<idx_t>(probes), values, lists); });
}

int faiss_extra_ivf_scan(const FaissIndex *index, const uint8_t *codes, const uint32_t *starts,
                         const float *x, const idx_t *lists, const float *values, size_t probes,
                         const faiss_extra_selector *selector, size_t k, float *distances,
                         idx_t *slots)
{
    return guarded([&] {
        const faiss::IndexIVF *ivf = ivf_of(index);
        BitmapSelector bitmap(selector);
        std::unique_ptr<faiss::InvertedListScanner> scanner(
            ivf->get_InvertedListScanner(false, bitmap.selects_all() ? nullptr : &bitmap));
        if (ivf->metric_type == faiss::METRIC_INNER_PRODUCT)
            faiss::heap_heapify<faiss::CMin<float, idx_t>>(k, distances, slots);
        else
            faiss::heap_heapify<faiss::CMax<float, idx_t>>(k, distances, slots);
        static thread_local std::vector<idx_t> ids;
        scanner->set_query(x);
        for (size_t i = 0; i < probes; i++) {
            if (lists[i] < 0)
                continue;
            size_t start = starts[lists[i]], count = starts[lists[i] + 1] - start;
            if (count == 0)
                continue;
            if (ids.size() < count)
                ids.resize(count);
            std::iota(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(count),
                      static_cast<idx_t>(start));
            scanner->set_list(lists[i], values[i]);
            scanner->scan_codes(count, codes + start * ivf->code_size, ids.data(), distances, slots,
                                k);
        }
    });
}

size_t faiss_extra_ivf_memory(const FaissIndex *index)
{
    const faiss::IndexIVF *ivf = ivf_of(index);
    size_t bytes = ivf->nlist * (static_cast<size_t>(ivf->d) * sizeof(float) + 48);
    if (const auto *pq = dynamic_cast<const faiss::IndexIVFPQ *>(ivf))
        bytes += pq->precomputed_table.nbytes() + pq->pq.centroids.size() * sizeof(float);
    return bytes;
}

int faiss_extra_hnsw_new(size_t dim, FaissMetricType metric, unsigned m, unsigned ef_construction,
                         const float *rows, const float *lift, FaissIndex **out)
{
    return guarded([&] {
        auto kind = static_cast<faiss::MetricType>(metric);
        auto hnsw = std::make_unique<faiss::IndexHNSWFlat>(static_cast<int>(dim),
                                                           static_cast<int>(m), kind);
        hnsw->hnsw.efConstruction = static_cast<int>(ef_construction);
        replace_storage(hnsw.get(),
                        new RowStorage(dim, rows, lift, kind == faiss::METRIC_INNER_PRODUCT));
        *out = c_of(hnsw.release());
    });
}

int faiss_extra_hnsw_add(FaissIndex *index, size_t n)
{
    return guarded([&] {
        faiss::IndexHNSWFlat *hnsw = hnsw_of(index);
        const float *rows = dynamic_cast<RowStorage &>(*hnsw->storage).rows;
        hnsw->add(static_cast<idx_t>(n), rows + hnsw->ntotal * hnsw->d);
    });
}

int faiss_extra_hnsw_attach(FaissIndex *index, const float *rows, size_t n)
{
    return guarded([&] {
        faiss::IndexHNSWFlat *hnsw = hnsw_of(index);
        FAISS_THROW_IF_NOT(hnsw && hnsw->ntotal == static_cast<idx_t>(n));
        FAISS_THROW_IF_NOT(hnsw->hnsw.levels.size() == n && hnsw->hnsw.offsets.size() == n + 1);
        auto *storage = new RowStorage(static_cast<size_t>(hnsw->d), rows, nullptr,
                                       hnsw->metric_type == faiss::METRIC_INNER_PRODUCT);
        storage->ntotal = hnsw->ntotal;
        replace_storage(hnsw, storage);
    });
}

int faiss_extra_hnsw_search(const FaissIndex *index, const float *x, size_t ef,
                            const faiss_extra_distance *distance,
                            const faiss_extra_selector *selector, float *distances, idx_t *slots,
                            size_t *count)
{
    return guarded([&] {
        const faiss::IndexHNSWFlat *hnsw = hnsw_of(index);
        const auto &storage = dynamic_cast<const RowStorage &>(*hnsw->storage);
        BitmapSelector bitmap(selector);
        faiss::SearchParametersHNSW params;
        params.efSearch = static_cast<int>(ef);
        params.sel = bitmap.selects_all() ? nullptr : &bitmap;
        RowDistance by_row(storage.rows, nullptr, static_cast<size_t>(hnsw->d),
                           storage.inner_product);
        by_row.set_query(x);
        std::fill(slots, slots + ef, idx_t{-1});
        // This version sizes its candidate heap by the index's own efSearch or by k, whatever the
        // parameters say. The index is shared, so k has to carry the beam width.
        int k = static_cast<int>(ef);
        faiss::VisitedTable &visited = visited_table(static_cast<size_t>(hnsw->ntotal));
        if (distance && distance->of) {
            CallbackDistance by_callback(distance);
            hnsw->hnsw.search(by_callback, k, slots, distances, visited, &params);
        } else {
            hnsw->hnsw.search(by_row, k, slots, distances, visited, &params);
        }
        *count = 0;
        for (size_t i = 0; i < ef; i++) {
            if (slots[i] < 0)
                continue;
            slots[*count] = slots[i];
            distances[(*count)++] = distances[i];
        }
    });
}

size_t faiss_extra_hnsw_memory(const FaissIndex *index)
{
    const faiss::HNSW &graph = hnsw_of(index)->hnsw;
    return graph.levels.capacity() * sizeof(int) + graph.offsets.capacity() * sizeof(size_t) +
           graph.neighbors.capacity() * sizeof(faiss::HNSW::storage_idx_t);
}

int faiss_extra_write(const FaissIndex *index, int (*write)(void *, const void *, size_t),
                      void *arg)
{
    return guarded([&] {
        CallbackWriter writer(write, arg);
        auto *object = reinterpret_cast<const Index *>(index);
        auto *hnsw = const_cast<faiss::IndexHNSWFlat *>(hnsw_of(index));
        if (hnsw == nullptr) {
            faiss::write_index(object, &writer);
            return;
        }
        // The writer knows only FAISS's own storages: lend it an empty one.
        faiss::IndexFlat empty(hnsw->d, hnsw->metric_type);
        Index *storage = hnsw->storage;
        hnsw->storage = &empty;
        try {
            faiss::write_index(object, &writer);
        } catch (...) {
            hnsw->storage = storage;
            throw;
        }
        hnsw->storage = storage;
    });
}

int faiss_extra_read(const void *bytes, size_t len, FaissIndex **out)
{
    return guarded([&] {
        MemoryReader reader(bytes, len);
        *out = c_of(faiss::read_index(&reader));
    });
}
