/* A generation's built part: immutable files in gen-<n>/, mapped read-only.
 *
 *   meta     what it was built from, the kind, the tuning; written last
 *   vectors  count * dim floats, in slot order
 *   slots    u64 offset of each slot | u64 end of each slot's key | key bytes
 *   kind     the kind's own (none for flat)
 *
 * Life: created by build (cairn_built_write, which ends by opening what it wrote) or by
 * cairn_built_open; owned by one generation; released with it. */
#ifndef CAIRN_INDEX_BUILT_H
#define CAIRN_INDEX_BUILT_H

#include "index/kind.h"

struct cairn_built {
    struct cairn_rows rows; /* data in `vectors` */
    const uint64_t *offsets;
    const uint64_t *key_ends;
    const char *keys;
    const struct cairn_kind *kind;
    void *state; /* NULL for flat */
    struct cairn_tuning tuning;
    enum cairn_quantization asked_quantization; /* what was asked for; small sets get none */
    uint64_t log_offset;                        /* what the vectors reflect */
    uint64_t disk_bytes, mapped_bytes;
    struct cairn_file_map vectors, slots, kind_file;
};

/* One vector that goes into a built part. */
struct cairn_built_item {
    struct cairn_str key;
    uint64_t offset;
};

struct cairn_built_source {
    struct cairn_kind_source vectors;
    const struct cairn_built_item *items; /* parallel to vectors.vectors */
    uint64_t log_offset;
    const struct cairn_io *io;
    const char *dir; /* gen-<n>, made by the caller */
    uint64_t generation;
};

/* Build, write and open. *order (freed by the caller) tells which source item each slot is; NULL:
 * the same. CAIRN_ESHUTDOWN when cancelled; the caller removes the directory on failure. */
int cairn_built_write(const struct cairn_built_source *source, struct cairn_built *out,
                      uint32_t **order, struct cairn_error *err);
/* CAIRN_ECORRUPT: damaged, or of another dimension or metric. */
int cairn_built_open(const struct cairn_io *io, const char *dir, uint64_t generation, uint32_t dim,
                     enum cairn_metric metric, struct cairn_built *out, struct cairn_error *err);
void cairn_built_release(struct cairn_built *built); /* {0} is allowed */

static inline struct cairn_str cairn_built_key(const struct cairn_built *built, uint32_t slot)
{
    uint64_t start = slot == 0 ? 0 : built->key_ends[slot - 1];
    return (struct cairn_str){built->keys + start, (uint32_t)(built->key_ends[slot] - start)};
}

uint64_t cairn_built_memory(const struct cairn_built *built);

#endif
