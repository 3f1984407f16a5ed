/* The clustering half of the ivf kind: choose lists and sort vectors into them. */
#ifndef CAIRN_INDEX_KIND_IVF_H
#define CAIRN_INDEX_KIND_IVF_H

#include <faiss/c_api/Index_c.h>

#include "index/kind.h"

/* A plan's own part. */
struct cairn_ivf_plan {
    uint32_t lists;
    uint32_t *starts; /* lists + 1: list l is slots starts[l] to starts[l + 1] */
    float *centroids;
};

int cairn_ivf_plan(const struct cairn_kind_source *source, struct cairn_kind_plan *plan,
                   struct cairn_error *err);
void cairn_ivf_plan_release(struct cairn_kind_plan *plan);

static inline FaissMetricType cairn_faiss_metric(enum cairn_metric metric)
{
    return metric == CAIRN_METRIC_L2 ? METRIC_L2 : METRIC_INNER_PRODUCT;
}

#endif
