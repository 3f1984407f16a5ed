#include "index/built.h"

#include <stdlib.h>
#include <string.h>

/* The payload of `meta`. */
struct meta {
    uint32_t count;
    uint32_t dim;
    uint32_t metric;
    uint32_t kind;
    uint32_t asked_quantization;
    uint32_t effort;
    uint32_t rerank;
    float recall;
    uint64_t log_offset;
};

static uint32_t source_of(const uint32_t *order, uint32_t slot)
{
    return order == NULL ? slot : order[slot];
}

static int write_vectors(const struct cairn_built_source *source, const uint32_t *order,
                         struct cairn_error *err)
{
    const struct cairn_kind_source *vectors = &source->vectors;
    struct cairn_file_writer file;
    int code = cairn_file_create(&file, source->io, source->dir, "vectors", CAIRN_FILE_VECTORS,
                                 source->generation, err);
    if (code != 0)
        return code;
    for (uint32_t slot = 0; slot < vectors->count; slot++) {
        const float *row = vectors->vectors[source_of(order, slot)];
        if (cairn_file_write(&file, row, vectors->dim * sizeof(float)) != 0)
            break;
    }
    return cairn_file_finish(&file, err);
}

static int write_slots(const struct cairn_built_source *source, const uint32_t *order,
                       struct cairn_error *err)
{
    struct cairn_file_writer file;
    int code = cairn_file_create(&file, source->io, source->dir, "slots", CAIRN_FILE_SLOTS,
                                 source->generation, err);
    if (code != 0)
        return code;
    uint32_t count = source->vectors.count;
    uint64_t end = 0;
    for (uint32_t slot = 0; slot < count; slot++)
        (void)cairn_file_write(&file, &source->items[source_of(order, slot)].offset,
                               sizeof(uint64_t));
    for (uint32_t slot = 0; slot < count; slot++) {
        end += source->items[source_of(order, slot)].key.len;
        (void)cairn_file_write(&file, &end, sizeof(end));
    }
    for (uint32_t slot = 0; slot < count; slot++) {
        struct cairn_str key = source->items[source_of(order, slot)].key;
        (void)cairn_file_write(&file, key.ptr, key.len);
    }
    return cairn_file_finish(&file, err);
}

static int write_kind(const struct cairn_built_source *source, const struct cairn_kind *kind,
                      const struct cairn_kind_plan *plan, const struct cairn_rows *rows,
                      struct cairn_error *err)
{
    struct cairn_file_writer file;
    int code = cairn_file_create(&file, source->io, source->dir, "kind", CAIRN_FILE_KIND,
                                 source->generation, err);
    if (code != 0)
        return code;
    code = kind->build(&source->vectors, plan, rows, &file, err);
    if (code != 0) {
        cairn_file_abort(&file);
        return code;
    }
    return cairn_file_finish(&file, err);
}

static int write_meta(const struct cairn_built_source *source, const struct cairn_built *built,
                      struct cairn_error *err)
{
    struct meta meta = {
        .count = built->rows.count,
        .dim = built->rows.dim,
        .metric = (uint32_t)built->rows.metric,
        .kind = (uint32_t)built->kind->id,
        .asked_quantization = (uint32_t)source->vectors.params->quantization,
        .effort = built->tuning.effort,
        .rerank = built->tuning.rerank,
        .recall = built->tuning.recall,
        .log_offset = source->log_offset,
    };
    struct cairn_file_writer file;
    int code = cairn_file_create(&file, source->io, source->dir, "meta", CAIRN_FILE_META,
                                 source->generation, err);
    if (code != 0)
        return code;
    (void)cairn_file_write(&file, &meta, sizeof(meta));
    return cairn_file_finish(&file, err);
}

static int map_rows(struct cairn_built *built, const struct cairn_io *io, const char *dir,
                    uint64_t generation, struct cairn_error *err)
{
    struct cairn_rows *rows = &built->rows;
    int code =
        cairn_file_map(&built->vectors, io, dir, "vectors", CAIRN_FILE_VECTORS, generation, err);
    if (code != 0)
        return code;
    if (built->vectors.payload_bytes != (uint64_t)rows->count * rows->dim * sizeof(float))
        return cairn_fail(err, CAIRN_ECORRUPT, "vectors has another size than meta says");
    rows->data = (const float *)(const void *)built->vectors.payload;
    return 0;
}

static int map_slots(struct cairn_built *built, const struct cairn_io *io, const char *dir,
                     uint64_t generation, struct cairn_error *err)
{
    uint64_t at = 0, bytes = (uint64_t)built->rows.count * sizeof(uint64_t);
    int code = cairn_file_map(&built->slots, io, dir, "slots", CAIRN_FILE_SLOTS, generation, err);
    if (code != 0)
        return code;
    built->offsets = cairn_file_take(&built->slots, &at, bytes);
    built->key_ends = cairn_file_take(&built->slots, &at, bytes);
    if (built->offsets == NULL || built->key_ends == NULL)
        return cairn_fail(err, CAIRN_ECORRUPT, "slots has another size than meta says");
    built->keys = built->slots.payload + at;
    uint64_t end = 0;
    for (uint32_t slot = 0; slot < built->rows.count; slot++) {
        if (built->key_ends[slot] < end)
            return cairn_fail(err, CAIRN_ECORRUPT, "slots has a key that ends before it begins");
        end = built->key_ends[slot];
    }
    if (built->slots.payload_bytes - at != end)
        return cairn_fail(err, CAIRN_ECORRUPT, "slots has another size than its keys");
    return 0;
}

static int load_kind(struct cairn_built *built, const struct cairn_io *io, const char *dir,
                     uint64_t generation, struct cairn_error *err)
{
    if (!built->kind->approximate)
        return 0;
    int code = cairn_file_map(&built->kind_file, io, dir, "kind", CAIRN_FILE_KIND, generation, err);
    if (code != 0)
        return code;
    return built->kind->load(&built->kind_file, &built->rows, &built->state, err);
}

static void account(struct cairn_built *built)
{
    built->mapped_bytes =
        built->vectors.mapped_bytes + built->slots.mapped_bytes + built->kind_file.mapped_bytes;
    built->disk_bytes = built->mapped_bytes + CAIRN_FILE_HEADER_BYTES + sizeof(struct meta);
}

/* With the order chosen: files, then the state from the files, then the tuning, then meta. */
static int write_parts(const struct cairn_built_source *source, const struct cairn_kind_plan *plan,
                       struct cairn_built *built, struct cairn_error *err)
{
    int code = write_vectors(source, plan->order, err);
    if (code == 0)
        code = write_slots(source, plan->order, err);
    if (code == 0)
        code = map_rows(built, source->io, source->dir, source->generation, err);
    if (code == 0)
        code = map_slots(built, source->io, source->dir, source->generation, err);
    if (code == 0 && built->kind->approximate)
        code = write_kind(source, built->kind, plan, &built->rows, err);
    if (code == 0)
        code = load_kind(built, source->io, source->dir, source->generation, err);
    if (code == 0 && built->kind->approximate)
        code = cairn_calibrate(built->kind, built->state, &built->rows, source->vectors.params,
                               source->vectors.cancelled, &built->tuning, err);
    if (code == 0)
        code = write_meta(source, built, err);
    if (code != 0)
        return code;
    int failed = source->io->sync_dir(source->io->context, source->dir);
    if (failed != 0)
        return cairn_fail(err, cairn_code_from_errno(-failed), "cannot sync %s: %s", source->dir,
                          strerror(-failed));
    return 0;
}

int cairn_built_write(const struct cairn_built_source *source, struct cairn_built *out,
                      uint32_t **order, struct cairn_error *err)
{
    const struct cairn_kind_source *vectors = &source->vectors;
    const struct cairn_kind *kind = cairn_kind(vectors->params->kind);
    struct cairn_kind_plan plan = {0};
    *out = (struct cairn_built){
        .rows = {.count = vectors->count, .dim = vectors->dim, .metric = vectors->metric},
        .kind = kind,
        .asked_quantization = vectors->params->quantization,
        .log_offset = source->log_offset,
    };
    *order = NULL;
    int code = kind->approximate ? kind->plan(vectors, &plan, err) : 0;
    if (code != 0)
        return code;
    code = write_parts(source, &plan, out, err);
    if (code == 0) {
        account(out);
        *order = plan.order;
        plan.order = NULL;
    } else {
        cairn_built_release(out);
    }
    if (kind->approximate)
        kind->plan_release(&plan);
    return code;
}

static int read_meta(struct cairn_built *built, const struct cairn_io *io, const char *dir,
                     uint64_t generation, struct cairn_error *err)
{
    struct cairn_file_map file;
    int code = cairn_file_map(&file, io, dir, "meta", CAIRN_FILE_META, generation, err);
    if (code != 0)
        return code;
    struct meta meta;
    if (file.payload_bytes == sizeof(meta)) {
        memcpy(&meta, file.payload, sizeof(meta));
        built->rows.count = meta.count;
        built->rows.dim = meta.dim;
        built->rows.metric = (enum cairn_metric)meta.metric;
        built->kind = cairn_kind((enum cairn_index_kind)meta.kind);
        built->asked_quantization = (enum cairn_quantization)meta.asked_quantization;
        built->tuning = (struct cairn_tuning){meta.effort, meta.rerank, meta.recall};
        built->log_offset = meta.log_offset;
        if (meta.count == 0 || meta.dim == 0)
            code = cairn_fail(err, CAIRN_ECORRUPT, "meta describes no vectors");
    } else {
        code = cairn_fail(err, CAIRN_ECORRUPT, "meta has an unknown size");
    }
    cairn_file_unmap(&file);
    return code;
}

int cairn_built_open(const struct cairn_io *io, const char *dir, uint64_t generation, uint32_t dim,
                     enum cairn_metric metric, struct cairn_built *out, struct cairn_error *err)
{
    memset(out, 0, sizeof(*out));
    int code = read_meta(out, io, dir, generation, err);
    if (code == 0 && (out->rows.dim != dim || out->rows.metric != metric))
        code = cairn_fail(err, CAIRN_ECORRUPT,
                          "it was built for %u dimensions and %s, not %u and %s", out->rows.dim,
                          cairn_metric_name(out->rows.metric), dim, cairn_metric_name(metric));
    if (code == 0)
        code = map_rows(out, io, dir, generation, err);
    if (code == 0)
        code = map_slots(out, io, dir, generation, err);
    if (code == 0)
        code = load_kind(out, io, dir, generation, err);
    if (code == 0)
        account(out);
    else
        cairn_built_release(out);
    return code;
}

void cairn_built_release(struct cairn_built *built)
{
    if (built->state != NULL)
        built->kind->free(built->state);
    cairn_file_unmap(&built->vectors);
    cairn_file_unmap(&built->slots);
    cairn_file_unmap(&built->kind_file);
    memset(built, 0, sizeof(*built));
}

uint64_t cairn_built_memory(const struct cairn_built *built)
{
    return built->mapped_bytes + (built->state != NULL ? built->kind->memory(built->state) : 0);
}
