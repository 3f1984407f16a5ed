#include "index/kind.h"

#include <stdlib.h>

const struct cairn_kind *cairn_kind(enum cairn_index_kind id)
{
    switch (id) {
    case CAIRN_INDEX_IVF:
        return &cairn_kind_ivf;
    case CAIRN_INDEX_GRAPH:
        return &cairn_kind_graph;
    case CAIRN_INDEX_FLAT:
        break;
    }
    return &cairn_kind_flat;
}

/* flat: the rows are all there is. Nothing is built and every search is an exact scan. */
const struct cairn_kind cairn_kind_flat = {
    .id = CAIRN_INDEX_FLAT,
    .name = "flat",
    .approximate = false,
    .filters_inside = true,
};

uint32_t *cairn_sample(uint32_t count, uint32_t wanted, uint32_t *taken)
{
    uint32_t take = wanted < count ? wanted : count;
    uint32_t *sample = cairn_malloc((take == 0 ? 1 : take) * sizeof(*sample));
    uint64_t state = 0x9e3779b97f4a7c15u;
    for (uint32_t i = 0; i < take; i++) {
        uint64_t first = (uint64_t)count * i / take, end = (uint64_t)count * (i + 1) / take;
        state = state * 6364136223846793005u + 1442695040888963407u;
        sample[i] = (uint32_t)(first + (state >> 33) % (end - first));
    }
    *taken = take;
    return sample;
}
