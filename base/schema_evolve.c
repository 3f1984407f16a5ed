/* Evolution: a new schema from the current one and what was asked for. */
#include "base/schema_private.h"

struct merge {
    const struct cairn_schema *current;
    const struct cairn_schema_box *asked;
    struct cairn_schema_box *out;
    bool changed;
    struct cairn_error *err;
};

int cairn_vector_def_check(const struct cairn_vector_def *def, struct cairn_error *err)
{
    const struct cairn_index_params *index = &def->index;
    for (int i = 0; i < CAIRN_INDEX_SETTINGS; i++) {
        const struct cairn_index_setting *setting = &cairn_index_settings[i];
        if (setting->of_kind && setting->kind != index->kind && cairn_index_setting_value(index, i))
            return cairn_fail(err, CAIRN_ESCHEMA,
                              "vectors.%.*s.index.%s: a setting of kind \"%s\", and this kind is "
                              "\"%s\"",
                              CAIRN_STR_ARG(def->name), setting->name,
                              cairn_index_kind_name(setting->kind),
                              cairn_index_kind_name(index->kind));
    }
    if (index->pq_bytes && index->quantization != CAIRN_QUANTIZATION_PQ)
        return cairn_fail(err, CAIRN_ESCHEMA,
                          "vectors.%.*s.index.pq_bytes: needs \"quantization\": \"pq\"",
                          CAIRN_STR_ARG(def->name));
    if (index->pq_bytes && def->dim % index->pq_bytes != 0)
        return cairn_fail(err, CAIRN_ESCHEMA, "vectors.%.*s.index.pq_bytes: %u does not divide %u",
                          CAIRN_STR_ARG(def->name), index->pq_bytes, def->dim);
    return 0;
}

/* Copy a definition with its text into the new box. */
static void put_feature(struct cairn_schema_box *box, const struct cairn_feature_def *from,
                        struct cairn_feature_def *to)
{
    *to = *from;
    to->name = cairn_arena_dup(&box->arena, from->name);
    to->stored_name = cairn_arena_dup(&box->arena, from->stored_name);
    box->renamed = box->renamed || !cairn_str_eq(to->name, to->stored_name);
}

static void put_vector(struct cairn_schema_box *box, const struct cairn_vector_def *from,
                       struct cairn_vector_def *to)
{
    *to = *from;
    to->name = cairn_arena_dup(&box->arena, from->name);
}

static int merge_feature(struct merge *merge, const struct cairn_feature_def *now, uint32_t at,
                         struct cairn_feature_def *out)
{
    const struct cairn_feature_def *asked = &merge->asked->schema.features[at];
    unsigned given = merge->asked->feature_given[at];
    if (asked->type != now->type)
        return cairn_fail(
            merge->err, CAIRN_ECONFLICT, "features.%.*s.type: it is %s and cannot become %s",
            CAIRN_STR_ARG(now->name), cairn_type_name(now->type), cairn_type_name(asked->type));
    put_feature(merge->out, now, out);
    if (given & GIVEN_TTL)
        out->ttl_us = asked->ttl_us;
    if (given & GIVEN_INDEXED)
        out->indexed = asked->indexed;
    merge->changed = merge->changed || out->ttl_us != now->ttl_us || out->indexed != now->indexed;
    return 0;
}

/* A new feature must not take the name under which records keep a renamed one. */
static int add_feature(struct merge *merge, const struct cairn_feature_def *asked,
                       struct cairn_feature_def *out)
{
    const struct cairn_feature_def *holder =
        cairn_schema_stored_feature(merge->current, asked->name);
    if (holder)
        return cairn_fail(merge->err, CAIRN_ECONFLICT,
                          "features.%.*s: records keep %.*s under this name",
                          CAIRN_STR_ARG(asked->name), CAIRN_STR_ARG(holder->name));
    put_feature(merge->out, asked, out);
    merge->changed = true;
    return 0;
}

/* Both lists are sorted by name, and so is the result. */
static int merge_features(struct merge *merge)
{
    const struct cairn_schema *now = merge->current, *asked = &merge->asked->schema;
    uint32_t room = now->features_count + asked->features_count, i = 0, j = 0, count = 0;
    struct cairn_feature_def *out = cairn_schema_box_features(merge->out, room);
    while (i < now->features_count || j < asked->features_count) {
        int order = i == now->features_count ? 1
                    : j == asked->features_count
                        ? -1
                        : cairn_str_cmp(now->features[i].name, asked->features[j].name);
        int code = 0;
        if (order < 0)
            put_feature(merge->out, &now->features[i], &out[count]);
        else if (order > 0)
            code = add_feature(merge, &asked->features[j], &out[count]);
        else
            code = merge_feature(merge, &now->features[i], j, &out[count]);
        if (code != 0)
            return code;
        i += order <= 0;
        j += order >= 0;
        count++;
    }
    if (count > CAIRN_FEATURES_MAX)
        return cairn_fail(merge->err, CAIRN_ESCHEMA, "features: %u of them, the most is %u", count,
                          CAIRN_FEATURES_MAX);
    merge->out->schema.features_count = count;
    return 0;
}

static void merge_index(const struct cairn_index_params *asked, unsigned given,
                        struct cairn_index_params *out)
{
    if ((given & GIVEN_KIND) && asked->kind != out->kind) {
        /* Settings of the old kind mean nothing to the new one. */
        for (int i = 0; i < CAIRN_INDEX_SETTINGS; i++) {
            if (cairn_index_settings[i].of_kind)
                *cairn_index_setting_of(out, i) = 0;
        }
        out->kind = asked->kind;
    }
    if (given & GIVEN_QUANTIZATION)
        out->quantization = asked->quantization;
    for (int i = 0; i < CAIRN_INDEX_SETTINGS; i++) {
        if (given & (unsigned)(GIVEN_PARAM_FIRST << i))
            *cairn_index_setting_of(out, i) = cairn_index_setting_value(asked, i);
        else if (out->quantization != CAIRN_QUANTIZATION_PQ && !cairn_index_settings[i].of_kind)
            *cairn_index_setting_of(out, i) = 0;
    }
}

static bool same_index(const struct cairn_index_params *a, const struct cairn_index_params *b)
{
    bool same = a->kind == b->kind && a->quantization == b->quantization;
    for (int i = 0; same && i < CAIRN_INDEX_SETTINGS; i++)
        same = cairn_index_setting_value(a, i) == cairn_index_setting_value(b, i);
    return same;
}

static int merge_vector(struct merge *merge, const struct cairn_vector_def *now, uint32_t at,
                        struct cairn_vector_def *out)
{
    const struct cairn_vector_def *asked = &merge->asked->schema.vectors[at];
    unsigned given = merge->asked->vector_given[at];
    if (asked->dim != now->dim)
        return cairn_fail(merge->err, CAIRN_ECONFLICT,
                          "vectors.%.*s.dim: it is %u and cannot become %u",
                          CAIRN_STR_ARG(now->name), now->dim, asked->dim);
    if ((given & GIVEN_METRIC) && asked->metric != now->metric)
        return cairn_fail(merge->err, CAIRN_ECONFLICT,
                          "vectors.%.*s.metric: it is %s and cannot become %s",
                          CAIRN_STR_ARG(now->name), cairn_metric_name(now->metric),
                          cairn_metric_name(asked->metric));
    put_vector(merge->out, now, out);
    merge_index(&asked->index, given, &out->index);
    merge->changed = merge->changed || !same_index(&out->index, &now->index);
    return cairn_vector_def_check(out, merge->err);
}

static int merge_vectors(struct merge *merge)
{
    const struct cairn_schema *now = merge->current, *asked = &merge->asked->schema;
    uint32_t room = now->vectors_count + asked->vectors_count, i = 0, j = 0, count = 0;
    struct cairn_vector_def *out = cairn_schema_box_vectors(merge->out, room);
    while (i < now->vectors_count || j < asked->vectors_count) {
        int order = i == now->vectors_count ? 1
                    : j == asked->vectors_count
                        ? -1
                        : cairn_str_cmp(now->vectors[i].name, asked->vectors[j].name);
        int code = 0;
        if (order == 0) {
            code = merge_vector(merge, &now->vectors[i], j, &out[count]);
        } else {
            put_vector(merge->out, order < 0 ? &now->vectors[i] : &asked->vectors[j], &out[count]);
            merge->changed = merge->changed || order > 0;
        }
        if (code != 0)
            return code;
        i += order <= 0;
        j += order >= 0;
        count++;
    }
    if (count > CAIRN_VECTORS_MAX)
        return cairn_fail(merge->err, CAIRN_ESCHEMA, "vectors: %u of them, the most is %u", count,
                          CAIRN_VECTORS_MAX);
    merge->out->schema.vectors_count = count;
    return 0;
}

static struct cairn_str merge_text(struct merge *merge, struct cairn_str now,
                                   struct cairn_str asked)
{
    if (asked.len == 0 || cairn_str_eq(now, asked))
        return cairn_arena_dup(&merge->out->arena, now);
    merge->changed = true;
    return cairn_arena_dup(&merge->out->arena, asked);
}

static int merge_schema(struct merge *merge)
{
    const struct cairn_schema *current = merge->current, *asked = &merge->asked->schema;
    struct cairn_schema *out = &merge->out->schema;
    int code = merge_features(merge);
    if (code == 0)
        code = merge_vectors(merge);
    if (code != 0)
        return code;
    out->name = cairn_arena_dup(&merge->out->arena, current->name);
    out->id = current->id;
    out->version = current->version + 1;
    out->dropped = current->dropped;
    out->created_us = current->created_us;
    out->strict = merge->asked->strict_given ? asked->strict : current->strict;
    out->history_json = merge_text(merge, current->history_json, asked->history_json);
    out->documents_json = merge_text(merge, current->documents_json, asked->documents_json);
    merge->changed = merge->changed || out->strict != current->strict;
    return 0;
}

/* What was made has every setting: it is complete if it is asked for in turn. */
static void mark_all_given(struct cairn_schema_box *box)
{
    box->strict_given = true;
    for (uint32_t i = 0; i < box->schema.features_count; i++)
        box->feature_given[i] = GIVEN_TTL | GIVEN_INDEXED;
    for (uint32_t i = 0; i < box->schema.vectors_count; i++)
        box->vector_given[i] = GIVEN_ALL;
}

int cairn_schema_evolve(const struct cairn_schema *current, const struct cairn_schema *asked,
                        const struct cairn_schema **out, bool *changed, struct cairn_error *err)
{
    *out = NULL;
    *changed = false;
    struct merge merge = {
        .current = current,
        .asked = (const struct cairn_schema_box *)asked,
        .out = cairn_schema_box_new(),
        .err = err,
    };
    int code = merge_schema(&merge);
    if (code != 0 || !merge.changed) {
        cairn_schema_unref(&merge.out->schema);
        if (code == 0)
            *out = cairn_schema_ref(current);
        return code;
    }
    mark_all_given(merge.out);
    *changed = true;
    *out = &merge.out->schema;
    return 0;
}

const struct cairn_schema *cairn_schema_with_identity(const struct cairn_schema *schema,
                                                      uint32_t id, uint64_t version,
                                                      int64_t created_us, bool dropped)
{
    struct cairn_schema_box *box = cairn_schema_box_new();
    struct cairn_schema *out = &box->schema;
    *out = (struct cairn_schema){.name = cairn_arena_dup(&box->arena, schema->name),
                                 .id = id,
                                 .version = version,
                                 .dropped = dropped,
                                 .strict = schema->strict,
                                 .created_us = created_us};
    struct cairn_feature_def *features = cairn_schema_box_features(box, schema->features_count);
    for (uint32_t i = 0; i < schema->features_count; i++)
        put_feature(box, &schema->features[i], &features[i]);
    struct cairn_vector_def *vectors = cairn_schema_box_vectors(box, schema->vectors_count);
    for (uint32_t i = 0; i < schema->vectors_count; i++)
        put_vector(box, &schema->vectors[i], &vectors[i]);
    out->history_json = cairn_arena_dup(&box->arena, schema->history_json);
    out->documents_json = cairn_arena_dup(&box->arena, schema->documents_json);
    mark_all_given(box);
    return out;
}
