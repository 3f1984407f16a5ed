#include "base/schema_private.h"

#include <stdlib.h>

const struct cairn_index_setting cairn_index_settings[CAIRN_INDEX_SETTINGS] = {
    {"lists", offsetof(struct cairn_index_params, lists), 1, 65536, true, CAIRN_INDEX_IVF},
    {"nprobe", offsetof(struct cairn_index_params, nprobe), 1, CAIRN_NPROBE_MAX, true,
     CAIRN_INDEX_IVF},
    {"m", offsetof(struct cairn_index_params, m), 4, 128, true, CAIRN_INDEX_GRAPH},
    {"ef_construction", offsetof(struct cairn_index_params, ef_construction), 8, 2048, true,
     CAIRN_INDEX_GRAPH},
    {"ef", offsetof(struct cairn_index_params, ef), 1, CAIRN_EF_MAX, true, CAIRN_INDEX_GRAPH},
    {"pq_bytes", offsetof(struct cairn_index_params, pq_bytes), 1, CAIRN_DIM_MAX, false,
     CAIRN_INDEX_FLAT},
};

static bool name_byte(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-';
}

int cairn_name_check(struct cairn_str name, const char *what, struct cairn_error *err)
{
    if (name.len == 0)
        return cairn_fail(err, CAIRN_ENAME, "%s: a name must not be empty", what);
    if (name.len > CAIRN_NAME_BYTES_MAX)
        return cairn_fail(err, CAIRN_ENAME, "%s: a name of %u bytes, the most is %u", what,
                          name.len, CAIRN_NAME_BYTES_MAX);
    if (name.ptr[0] == '.' || name.ptr[0] == '-')
        return cairn_fail(err, CAIRN_ENAME, "%s: a name must not start with '%c'", what,
                          name.ptr[0]);
    for (uint32_t i = 0; i < name.len; i++) {
        if (!name_byte(name.ptr[i]))
            return cairn_fail(err, CAIRN_ENAME,
                              "%s: byte %u of the name is none of A-Z a-z 0-9 _ . -", what, i);
    }
    return 0;
}

struct cairn_schema_box *cairn_schema_box_new(void)
{
    struct cairn_schema_box *box = cairn_calloc(1, sizeof(*box));
    atomic_init(&box->references, 1);
    return box;
}

struct cairn_feature_def *cairn_schema_box_features(struct cairn_schema_box *box, uint32_t count)
{
    struct cairn_feature_def *features = cairn_arena_zalloc(&box->arena, count * sizeof(*features));
    box->feature_given = cairn_arena_zalloc(&box->arena, count * sizeof(*box->feature_given));
    box->schema.features = features;
    box->schema.features_count = count;
    return features;
}

struct cairn_vector_def *cairn_schema_box_vectors(struct cairn_schema_box *box, uint32_t count)
{
    struct cairn_vector_def *vectors = cairn_arena_zalloc(&box->arena, count * sizeof(*vectors));
    box->vector_given = cairn_arena_zalloc(&box->arena, count * sizeof(*box->vector_given));
    box->schema.vectors = vectors;
    box->schema.vectors_count = count;
    return vectors;
}

const struct cairn_schema *cairn_schema_ref(const struct cairn_schema *schema)
{
    struct cairn_schema_box *box = (struct cairn_schema_box *)schema;
    atomic_fetch_add_explicit(&box->references, 1, memory_order_relaxed);
    return schema;
}

void cairn_schema_unref(const struct cairn_schema *schema)
{
    struct cairn_schema_box *box = (struct cairn_schema_box *)schema;
    if (!box || atomic_fetch_sub_explicit(&box->references, 1, memory_order_acq_rel) != 1)
        return;
    cairn_arena_release(&box->arena);
    free(box);
}

const struct cairn_feature_def *cairn_schema_feature(const struct cairn_schema *schema,
                                                     struct cairn_str name)
{
    uint32_t low = 0, high = schema->features_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = cairn_str_cmp(schema->features[middle].name, name);
        if (order == 0)
            return &schema->features[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const struct cairn_feature_def *cairn_schema_stored_feature(const struct cairn_schema *schema,
                                                            struct cairn_str stored_name)
{
    /* Seldom differs from the name, so look there first. */
    const struct cairn_feature_def *def = cairn_schema_feature(schema, stored_name);
    if (def && cairn_str_eq(def->stored_name, stored_name))
        return def;
    if (!((const struct cairn_schema_box *)schema)->renamed)
        return NULL;
    for (uint32_t i = 0; i < schema->features_count; i++) {
        if (cairn_str_eq(schema->features[i].stored_name, stored_name))
            return &schema->features[i];
    }
    return NULL;
}

const struct cairn_vector_def *cairn_schema_vector(const struct cairn_schema *schema,
                                                   struct cairn_str name)
{
    for (uint32_t i = 0; i < schema->vectors_count; i++) {
        if (cairn_str_eq(schema->vectors[i].name, name))
            return &schema->vectors[i];
    }
    return NULL;
}

const char *cairn_metric_name(enum cairn_metric metric)
{
    static const char *const names[] = {"cosine", "dot", "l2"};
    return names[metric];
}

const char *cairn_index_kind_name(enum cairn_index_kind kind)
{
    static const char *const names[] = {"flat", "ivf", "graph"};
    return names[kind];
}

const char *cairn_quantization_name(enum cairn_quantization quantization)
{
    static const char *const names[] = {"none", "sq8", "pq"};
    return names[quantization];
}
