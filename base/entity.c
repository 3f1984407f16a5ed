/* The limits of an entity, checked on the plain struct so that every way in (JSON, FlatBuffers, the
 * log) is held to the same ones. */
#include <stdlib.h>

#include "base/json.h"
#include "base/limits.h"
#include "base/record.h"

enum {
    /* More than what the encoding adds to its contents: per entity, per string (length, NUL,
     * padding, offset), per cell and per vector. */
    ENTITY_OVERHEAD_BYTES = 256,
    STRING_OVERHEAD_BYTES = 12,
    CELL_BYTES = 16,
    VECTOR_OVERHEAD_BYTES = 48,
    /* Up to this many names are compared pairwise rather than sorted. */
    PAIRWISE_MAX = 24,
};

static int check_utf8(struct cairn_str text, const char *what, struct cairn_error *err)
{
    return cairn_utf8_valid(text) ? 0 : cairn_fail(err, CAIRN_EUTF8, "%s: not UTF-8", what);
}

static int check_key(struct cairn_str key, const char *what, struct cairn_error *err)
{
    if (key.len > CAIRN_KEY_BYTES_MAX)
        return cairn_fail(err, CAIRN_EKEY, "%s: %u bytes, the most is %u", what, key.len,
                          CAIRN_KEY_BYTES_MAX);
    return check_utf8(key, what, err);
}

static int check_name(struct cairn_str name, const char *what, uint32_t at, struct cairn_error *err)
{
    if (name.len == 0 || name.len > CAIRN_NAME_BYTES_MAX)
        return cairn_fail(err, CAIRN_ENAME, "%s[%u]: a name of %u bytes, it must have 1 to %u",
                          what, at, name.len, CAIRN_NAME_BYTES_MAX);
    if (!cairn_utf8_valid(name))
        return cairn_fail(err, CAIRN_EUTF8, "%s[%u]: the name is not UTF-8", what, at);
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return cairn_str_cmp(*(const struct cairn_str *)a, *(const struct cairn_str *)b);
}

static const struct cairn_str *name_at(const void *first, size_t stride, uint32_t at)
{
    return (const struct cairn_str *)((const char *)first + stride * at);
}

static int fail_repeated(struct cairn_str name, const char *what, struct cairn_error *err)
{
    return cairn_fail(err, CAIRN_EFIELD, "%s: %.*s is named twice", what, CAIRN_STR_ARG(name));
}

static int check_many_distinct(const void *first, size_t stride, uint32_t count, const char *what,
                               struct cairn_error *err)
{
    struct cairn_str *names = cairn_malloc(count * sizeof(*names));
    for (uint32_t i = 0; i < count; i++)
        names[i] = *name_at(first, stride, i);
    qsort(names, count, sizeof(*names), compare_names);
    int code = 0;
    for (uint32_t i = 1; code == 0 && i < count; i++) {
        if (cairn_str_eq(names[i - 1], names[i]))
            code = fail_repeated(names[i], what, err);
    }
    free(names);
    return code;
}

/* `first` is the name of the first of `count` items of `stride` bytes. */
static int check_distinct(const void *first, size_t stride, uint32_t count, const char *what,
                          struct cairn_error *err)
{
    uint32_t i = 1;
    while (i < count &&
           cairn_str_cmp(*name_at(first, stride, i - 1), *name_at(first, stride, i)) < 0)
        i++;
    if (i >= count)
        return 0; /* ascending, so distinct */
    if (count > PAIRWISE_MAX)
        return check_many_distinct(first, stride, count, what, err);
    for (i = 1; i < count; i++) {
        struct cairn_str name = *name_at(first, stride, i);
        for (uint32_t j = 0; j < i; j++) {
            if (cairn_str_eq(name, *name_at(first, stride, j)))
                return fail_repeated(name, what, err);
        }
    }
    return 0;
}

/* Two floats at a time: adding one to an exponent of all ones carries into the sign's place. */
bool cairn_f32_finite(const float *f32, uint32_t count)
{
    uint64_t carries = 0;
    uint32_t i = 0;
    for (; i + 2 <= count; i += 2) {
        uint64_t pair;
        memcpy(&pair, f32 + i, sizeof(pair));
        carries |= (pair & UINT64_C(0x7F8000007F800000)) + UINT64_C(0x0080000000800000);
    }
    if (i < count) {
        uint32_t last;
        memcpy(&last, f32 + i, sizeof(last));
        carries |= (last & 0x7F800000u) + 0x00800000u;
    }
    return (carries & UINT64_C(0x8000000080000000)) == 0;
}

static bool f64_finite(double number)
{
    return __builtin_isfinite(number);
}

static bool time_in_range(int64_t time_us)
{
    return time_us >= CAIRN_TIME_MIN && time_us <= CAIRN_TIME_MAX;
}

static int fail_value(struct cairn_str name, int code, const char *text, struct cairn_error *err)
{
    return cairn_fail(err, code, "features.%.*s: %s", CAIRN_STR_ARG(name), text);
}

/* One scalar, or one element of a list. */
static int check_scalar(struct cairn_str name, const struct cairn_value *value,
                        struct cairn_error *err)
{
    struct cairn_str text = {(const char *)value->as.bytes, value->len};
    switch (value->type) {
    case CAIRN_TYPE_NULL:
    case CAIRN_TYPE_BOOL:
    case CAIRN_TYPE_INT64:
    case CAIRN_TYPE_BYTES:
        return 0;
    case CAIRN_TYPE_FLOAT64:
        return f64_finite(value->as.f64) ? 0 : fail_value(name, CAIRN_ENUMBER, "not finite", err);
    case CAIRN_TYPE_TIMESTAMP:
        return time_in_range(value->as.i64)
                   ? 0
                   : fail_value(name, CAIRN_ETIME, "outside the years 1 to 9999", err);
    case CAIRN_TYPE_STRING:
        return cairn_utf8_valid(text) ? 0 : fail_value(name, CAIRN_EUTF8, "not UTF-8", err);
    case CAIRN_TYPE_JSON:
        return cairn_json_is_minified(text)
                   ? 0
                   : fail_value(name, CAIRN_ETYPE, "not minified JSON text", err);
    default:
        return fail_value(name, CAIRN_ETYPE, "no type of a feature", err);
    }
}

static int check_list(struct cairn_str name, const struct cairn_value *list,
                      struct cairn_error *err)
{
    int64_t count = cairn_list_count(list);
    if (count < 0)
        return fail_value(name, CAIRN_ETYPE, "a malformed packed list", err);
    if (count > CAIRN_LIST_ITEMS_MAX)
        return cairn_fail(err, CAIRN_ETOOLARGE, "features.%.*s: %lld items, the most is %u",
                          CAIRN_STR_ARG(name), (long long)count, CAIRN_LIST_ITEMS_MAX);
    uint8_t type = list->type & (uint8_t)~CAIRN_TYPE_LIST;
    if (type == CAIRN_TYPE_BOOL || type == CAIRN_TYPE_INT64 || type == CAIRN_TYPE_BYTES)
        return 0;
    struct cairn_value element;
    for (uint32_t at = 0; cairn_list_next(list, &at, &element);) {
        int code = check_scalar(name, &element, err);
        if (code != 0)
            return code;
    }
    return 0;
}

static int check_value(struct cairn_str name, const struct cairn_value *value,
                       struct cairn_error *err)
{
    bool is_list = value->type & CAIRN_TYPE_LIST;
    bool has_bytes = is_list || value->type == CAIRN_TYPE_STRING ||
                     value->type == CAIRN_TYPE_BYTES || value->type == CAIRN_TYPE_JSON;
    if (has_bytes && value->len > CAIRN_STRING_BYTES_MAX)
        return cairn_fail(err, CAIRN_ETOOLARGE, "features.%.*s: %u bytes, the most is %u",
                          CAIRN_STR_ARG(name), value->len, CAIRN_STRING_BYTES_MAX);
    return is_list ? check_list(name, value, err) : check_scalar(name, value, err);
}

static int check_features(const struct cairn_entity *entity, struct cairn_error *err)
{
    const struct cairn_feature *features = entity->features;
    uint32_t count = entity->features_count;
    if (count > CAIRN_FEATURES_MAX)
        return cairn_fail(err, CAIRN_ETOOLARGE, "features: %u of them, the most is %u", count,
                          CAIRN_FEATURES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        int code = check_name(features[i].name, "features", i, err);
        if (code == 0)
            code = check_value(features[i].name, &features[i].value, err);
        if (code != 0)
            return code;
    }
    return count ? check_distinct(&features->name, sizeof(*features), count, "features", err) : 0;
}

static int check_components(const struct cairn_vector *vector, struct cairn_error *err)
{
    if (!vector->f32)
        return 0;
    if (vector->dim == 0 || vector->dim > CAIRN_DIM_MAX)
        return cairn_fail(err, CAIRN_EDIMENSION, "vectors.%.*s: dimension %u is not in 1..%u",
                          CAIRN_STR_ARG(vector->name), vector->dim, CAIRN_DIM_MAX);
    if (!cairn_f32_finite(vector->f32, vector->dim))
        return cairn_fail(err, CAIRN_ENUMBER, "vectors.%.*s: a component is not finite",
                          CAIRN_STR_ARG(vector->name));
    return 0;
}

static int check_vectors(const struct cairn_entity *entity, struct cairn_error *err)
{
    const struct cairn_vector *vectors = entity->vectors;
    uint32_t count = entity->vectors_count;
    if (count > CAIRN_VECTORS_MAX)
        return cairn_fail(err, CAIRN_ETOOLARGE, "vectors: %u of them, the most is %u", count,
                          CAIRN_VECTORS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        int code = check_name(vectors[i].name, "vectors", i, err);
        if (code == 0)
            code = check_components(&vectors[i], err);
        if (code != 0)
            return code;
    }
    return count ? check_distinct(&vectors->name, sizeof(*vectors), count, "vectors", err) : 0;
}

static int check_provenance_text(struct cairn_str text, const char *what, struct cairn_error *err)
{
    if (text.len > CAIRN_STRING_BYTES_MAX)
        return cairn_fail(err, CAIRN_ETOOLARGE, "%s: %u bytes, the most is %u", what, text.len,
                          CAIRN_STRING_BYTES_MAX);
    return check_utf8(text, what, err);
}

static int check_provenance(const struct cairn_provenance *provenance, struct cairn_error *err)
{
    if (provenance->inputs_count > CAIRN_PROVENANCE_INPUTS_MAX)
        return cairn_fail(err, CAIRN_ETOOLARGE, "provenance.inputs: %u of them, the most is %u",
                          provenance->inputs_count, CAIRN_PROVENANCE_INPUTS_MAX);
    int code = check_provenance_text(provenance->source, "provenance.source", err);
    if (code == 0)
        code = check_provenance_text(provenance->producer, "provenance.producer", err);
    for (uint32_t i = 0; code == 0 && i < provenance->inputs_count; i++)
        code = check_provenance_text(provenance->inputs[i], "provenance.inputs", err);
    return code;
}

/* An upper bound of the encoded size. It counts what each field says it holds, so that bytes which
 * a hostile encoding shares between fields are counted as often as they would be copied. */
static uint64_t encoded_bytes_bound(const struct cairn_entity *entity)
{
    uint64_t bytes = ENTITY_OVERHEAD_BYTES + entity->key.len + entity->route.len;
    for (uint32_t i = 0; i < entity->features_count; i++)
        bytes += (uint64_t)entity->features[i].name.len + STRING_OVERHEAD_BYTES + CELL_BYTES +
                 entity->features[i].value.len;
    for (uint32_t i = 0; i < entity->vectors_count; i++)
        bytes += (uint64_t)entity->vectors[i].name.len + STRING_OVERHEAD_BYTES +
                 VECTOR_OVERHEAD_BYTES + sizeof(float) * (uint64_t)entity->vectors[i].dim;
    bytes += (uint64_t)entity->provenance.source.len + entity->provenance.producer.len;
    for (uint32_t i = 0; i < entity->provenance.inputs_count; i++)
        bytes += (uint64_t)entity->provenance.inputs[i].len + STRING_OVERHEAD_BYTES;
    return bytes;
}

int cairn_entity_check(const struct cairn_entity *entity, struct cairn_error *err)
{
    if (entity->key.len == 0)
        return cairn_fail(err, CAIRN_EKEY, "key: it must not be empty");
    int code = check_key(entity->key, "key", err);
    if (code == 0)
        code = check_key(entity->route, "route", err);
    if (code != 0)
        return code;
    if (entity->event_time_us != CAIRN_TIME_NONE && !time_in_range(entity->event_time_us))
        return cairn_fail(err, CAIRN_ETIME, "event_time: outside the years 1 to 9999");
    if (entity->op == CAIRN_OP_DELETE && (entity->features_count || entity->vectors_count))
        return cairn_fail(err, CAIRN_EFIELD, "op: a delete carries no features and no vectors");
    code = check_features(entity, err);
    if (code == 0)
        code = check_vectors(entity, err);
    if (code == 0)
        code = check_provenance(&entity->provenance, err);
    if (code == 0 && encoded_bytes_bound(entity) > CAIRN_ENTITY_BYTES_MAX)
        code =
            cairn_fail(err, CAIRN_ETOOLARGE, "the entity is over %u bytes", CAIRN_ENTITY_BYTES_MAX);
    return code;
}
