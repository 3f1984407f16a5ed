#include "api/entity_json.h"

#include <string.h>

#include "api/fields.h"
#include "base/shardmap.h"

#define OFFSET_END (INT64_C(1) << CAIRN_IF_OFFSET_BITS)

enum {
    FIELD_KEY,
    FIELD_EVENT_TIME,
    FIELD_ROUTE,
    FIELD_FEATURES,
    FIELD_VECTORS,
    FIELD_PROVENANCE,
    FIELD_IF_OFFSET,
    FIELDS_COUNT
};
static const struct cairn_str field_names[FIELDS_COUNT] = {
    CAIRN_FIELD("key"),      CAIRN_FIELD("event_time"), CAIRN_FIELD("route"),
    CAIRN_FIELD("features"), CAIRN_FIELD("vectors"),    CAIRN_FIELD("provenance"),
    CAIRN_FIELD("if_offset")};

/* Number of an object's members. */
static size_t members_count(struct cairn_json_iter iter)
{
    struct cairn_str name;
    struct cairn_json value;
    size_t count = 0;
    while (cairn_json_member(&iter, &name, &value))
        count++;
    return count;
}

static int read_features(struct cairn_json json, const struct cairn_schema *schema,
                         struct cairn_arena *arena, struct cairn_entity *out,
                         struct cairn_error *err)
{
    struct cairn_json_iter iter;
    if (!cairn_json_object(json, &iter))
        return cairn_fail(err, CAIRN_ETYPE, "features: must be an object of names and values");
    size_t count = members_count(iter);
    struct cairn_feature *features = cairn_arena_alloc(arena, count * sizeof *features + 1);
    struct cairn_str name;
    struct cairn_json value;
    for (uint32_t i = 0; cairn_json_member(&iter, &name, &value); i++) {
        const struct cairn_feature_def *def = cairn_schema_feature(schema, name);
        features[i].name = def != NULL ? def->stored_name : name;
        uint8_t type = def != NULL ? def->type : CAIRN_TYPE_NULL;
        if (cairn_value_read(value, type, arena, &features[i].value, err) != 0) {
            struct cairn_str shown = cairn_shown(name);
            return cairn_error_prefix(err, "features.%.*s", CAIRN_STR_ARG(shown));
        }
    }
    out->features = features;
    out->features_count = (uint32_t)count;
    return 0;
}

static int read_vectors(struct cairn_json json, struct cairn_arena *arena, struct cairn_entity *out,
                        struct cairn_error *err)
{
    struct cairn_json_iter iter;
    if (!cairn_json_object(json, &iter))
        return cairn_fail(err, CAIRN_ETYPE, "vectors: must be an object of names and vectors");
    size_t count = members_count(iter);
    struct cairn_vector *vectors = cairn_arena_zalloc(arena, (count + 1) * sizeof *vectors);
    struct cairn_json value;
    for (uint32_t i = 0; cairn_json_member(&iter, &vectors[i].name, &value); i++) {
        if (cairn_json_kind(value) == CAIRN_JSON_NULL)
            continue; /* removes the vector */
        if (cairn_vector_read(value, arena, &vectors[i].f32, &vectors[i].dim, err) != 0) {
            struct cairn_str shown = cairn_shown(vectors[i].name);
            return cairn_error_path(err, "vectors.%.*s", CAIRN_STR_ARG(shown));
        }
    }
    out->vectors = vectors;
    out->vectors_count = (uint32_t)count;
    return 0;
}

static int read_inputs(struct cairn_json json, struct cairn_arena *arena,
                       struct cairn_provenance *out, struct cairn_error *err)
{
    struct cairn_json_iter iter;
    size_t count;
    if (!cairn_json_array(json, &iter, &count))
        return cairn_fail(err, CAIRN_ETYPE, "inputs: must be an array of positions");
    struct cairn_str *inputs = cairn_arena_alloc(arena, count * sizeof *inputs + 1);
    struct cairn_json element;
    for (uint32_t i = 0; cairn_json_element(&iter, &element); i++) {
        if (!cairn_json_str(element, &inputs[i]))
            return cairn_fail(err, CAIRN_ETYPE, "inputs[%u]: must be a string", i);
    }
    out->inputs = inputs;
    out->inputs_count = (uint32_t)count;
    return 0;
}

static int read_provenance(struct cairn_json json, struct cairn_arena *arena,
                           struct cairn_provenance *out, struct cairn_error *err)
{
    enum { SOURCE, PRODUCER, INPUTS, COUNT };
    static const struct cairn_str names[COUNT] = {CAIRN_FIELD("source"), CAIRN_FIELD("producer"),
                                                  CAIRN_FIELD("inputs")};
    struct cairn_json values[COUNT];
    if (cairn_fields_read(json, names, COUNT, values, err) != 0)
        return err->code;
    struct cairn_str *texts[] = {[SOURCE] = &out->source, [PRODUCER] = &out->producer};
    for (unsigned i = SOURCE; i <= PRODUCER; i++) {
        if (!cairn_field_given(values[i]))
            continue;
        if (cairn_str_read(values[i], names[i].ptr, texts[i], err) != 0)
            return err->code;
    }
    return cairn_field_given(values[INPUTS]) ? read_inputs(values[INPUTS], arena, out, err) : 0;
}

/* "s0:1042" */
static bool read_position(struct cairn_str text, uint64_t *out)
{
    const char *colon = text.len > 0 ? memchr(text.ptr, ':', text.len) : NULL;
    uint32_t shard, len = colon != NULL ? (uint32_t)(colon - text.ptr) : 0;
    uint64_t offset = 0;
    if (len == 0 || len + 1 == text.len || text.ptr[0] != 's' ||
        cairn_shard_id_parse((struct cairn_str){text.ptr, len}, &shard, NULL) != 0)
        return false;
    for (uint32_t i = len + 1; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9' || offset >= (uint64_t)OFFSET_END)
            return false;
        offset = offset * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    *out = cairn_if_offset_on(shard, offset);
    return offset > 0 && offset < (uint64_t)OFFSET_END;
}

static int read_if_offset(struct cairn_json json, uint64_t *out, struct cairn_error *err)
{
    int64_t offset;
    struct cairn_str text;
    if (cairn_json_i64(json, &offset) && offset >= 0 && offset < OFFSET_END) {
        *out = (uint64_t)offset;
        return 0;
    }
    if (cairn_json_str(json, &text) && read_position(text, out))
        return 0;
    return cairn_fail(err, CAIRN_EFIELD,
                      "if_offset: must be an offset, or one with its shard like \"s0:1042\", or 0 "
                      "when the entity must not exist");
}

int cairn_entity_read(struct cairn_json json, const struct cairn_schema *schema,
                      enum cairn_entity_op op, struct cairn_arena *arena, struct cairn_entity *out,
                      struct cairn_error *err)
{
    struct cairn_json values[FIELDS_COUNT];
    *out = (struct cairn_entity){
        .op = op, .event_time_us = CAIRN_TIME_NONE, .if_offset = CAIRN_OFFSET_NONE};
    if (cairn_fields_read(json, field_names, FIELDS_COUNT, values, err) != 0)
        return err->code;
    if (!cairn_field_given(values[FIELD_KEY]))
        return cairn_fail(err, CAIRN_EKEY, "key: required");
    if (cairn_key_read(values[FIELD_KEY], arena, &out->key, err) != 0)
        return cairn_error_prefix(err, "key");
    if (cairn_field_given(values[FIELD_ROUTE])) {
        if (cairn_key_read(values[FIELD_ROUTE], arena, &out->route, err) != 0)
            return cairn_error_prefix(err, "route");
        if (cairn_str_eq(out->route, out->key))
            out->route = (struct cairn_str){NULL, 0};
    }
    if (cairn_field_given(values[FIELD_EVENT_TIME]) &&
        cairn_time_read(values[FIELD_EVENT_TIME], "event_time", &out->event_time_us, err) != 0)
        return err->code;
    if (cairn_field_given(values[FIELD_FEATURES]) &&
        read_features(values[FIELD_FEATURES], schema, arena, out, err) != 0)
        return err->code;
    if (cairn_field_given(values[FIELD_VECTORS]) &&
        read_vectors(values[FIELD_VECTORS], arena, out, err) != 0)
        return err->code;
    if (cairn_field_given(values[FIELD_PROVENANCE]) &&
        read_provenance(values[FIELD_PROVENANCE], arena, &out->provenance, err) != 0)
        return cairn_error_path(err, "provenance");
    if (cairn_field_given(values[FIELD_IF_OFFSET]))
        return read_if_offset(values[FIELD_IF_OFFSET], &out->if_offset, err);
    return 0;
}
