// The functions of FAISS's C API that Cairn calls. Debian ships the API's headers without the
// library, so this file is compiled only where CMake finds no libfaiss_c.
#include <faiss/Clustering.h>
#include <faiss/Index.h>
#include <faiss/IndexFlat.h>
#include <faiss/index_factory.h>

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

#include <faiss/c_api/Clustering_c.h>
#include <faiss/c_api/IndexFlat_c.h>
#include <faiss/c_api/Index_c.h>
#include <faiss/c_api/error_c.h>
#include <faiss/c_api/error_impl.h>
#include <faiss/c_api/index_factory_c.h>

thread_local std::exception_ptr faiss_last_exception;

namespace
{
// Run `body`, keeping what it throws for faiss_get_last_error.
template <typename Body> int guarded(Body body)
{
    try {
        body();
        return OK;
    } catch (const std::exception &) {
        faiss_last_exception = std::current_exception();
        return STD_EXCEPT;
    } catch (...) {
        faiss_last_exception = std::make_exception_ptr(std::runtime_error("unknown exception"));
        return UNKNOWN_EXCEPT;
    }
}

faiss::Index *cpp(FaissIndex *index)
{
    return reinterpret_cast<faiss::Index *>(index);
}

const faiss::Index *cpp(const FaissIndex *index)
{
    return reinterpret_cast<const faiss::Index *>(index);
}

faiss::Clustering *cpp(FaissClustering *clustering)
{
    return reinterpret_cast<faiss::Clustering *>(clustering);
}
} // namespace

extern "C" {

const char *faiss_get_last_error()
{
    static thread_local std::string text;
    text = "no error";
    if (faiss_last_exception) {
        try {
            std::rethrow_exception(faiss_last_exception);
        } catch (const std::exception &e) {
            text = e.what();
        }
    }
    return text.c_str();
}

void faiss_Index_free(FaissIndex *index)
{
    delete cpp(index);
}

int faiss_Index_d(const FaissIndex *index)
{
    return cpp(index)->d;
}

idx_t faiss_Index_ntotal(const FaissIndex *index)
{
    return cpp(index)->ntotal;
}

int faiss_Index_train(FaissIndex *index, idx_t n, const float *x)
{
    return guarded([&] { cpp(index)->train(n, x); });
}

int faiss_Index_add(FaissIndex *index, idx_t n, const float *x)
{
    return guarded([&] { cpp(index)->add(n, x); });
}

int faiss_Index_assign(FaissIndex *index, idx_t n, const float *x, idx_t *labels, idx_t k)
{
    return guarded([&] { cpp(index)->assign(n, x, labels, k); });
}

int faiss_Index_search(const FaissIndex *index, idx_t n, const float *x, idx_t k, float *distances,
                       idx_t *labels)
{
    return guarded([&] { cpp(index)->search(n, x, k, distances, labels); });
}

int faiss_IndexFlat_new_with(FaissIndexFlat **p_index, idx_t d, FaissMetricType metric)
{
    return guarded([&] {
        auto *flat = new faiss::IndexFlat(d, static_cast<faiss::MetricType>(metric));
        *p_index = reinterpret_cast<FaissIndexFlat *>(static_cast<faiss::Index *>(flat));
    });
}

int faiss_index_factory(FaissIndex **p_index, int d, const char *description,
                        FaissMetricType metric)
{
    return guarded([&] {
        *p_index = reinterpret_cast<FaissIndex *>(
            faiss::index_factory(d, description, static_cast<faiss::MetricType>(metric)));
    });
}

void faiss_ClusteringParameters_init(FaissClusteringParameters *params)
{
    faiss::ClusteringParameters d;
    *params = FaissClusteringParameters{d.niter,
                                        d.nredo,
                                        d.verbose,
                                        d.spherical,
                                        d.int_centroids,
                                        d.update_index,
                                        d.frozen_centroids,
                                        d.min_points_per_centroid,
                                        d.max_points_per_centroid,
                                        d.seed,
                                        d.decode_block_size};
}

int faiss_Clustering_new_with_params(FaissClustering **p_clustering, int d, int k,
                                     const FaissClusteringParameters *cp)
{
    return guarded([&] {
        faiss::ClusteringParameters p;
        p.niter = cp->niter;
        p.nredo = cp->nredo;
        p.verbose = cp->verbose != 0;
        p.spherical = cp->spherical != 0;
        p.int_centroids = cp->int_centroids != 0;
        p.update_index = cp->update_index != 0;
        p.frozen_centroids = cp->frozen_centroids != 0;
        p.min_points_per_centroid = cp->min_points_per_centroid;
        p.max_points_per_centroid = cp->max_points_per_centroid;
        p.seed = cp->seed;
        p.decode_block_size = cp->decode_block_size;
        *p_clustering = reinterpret_cast<FaissClustering *>(new faiss::Clustering(d, k, p));
    });
}

int faiss_Clustering_train(FaissClustering *clustering, idx_t n, const float *x, FaissIndex *index)
{
    return guarded([&] { cpp(clustering)->train(n, x, *cpp(index)); });
}

void faiss_Clustering_centroids(FaissClustering *clustering, float **centroids, size_t *size)
{
    *centroids = cpp(clustering)->centroids.data();
    if (size != nullptr)
        *size = cpp(clustering)->centroids.size();
}

void faiss_Clustering_free(FaissClustering *clustering)
{
    delete cpp(clustering);
}

} // extern "C"
