/* Whether an entity fits its collection's schema: the one set of rules for JSON, NDJSON and binary
 * bodies. */
#include <math.h>

#include "router/internal.h"

static int check_feature(const struct cairn_schema *schema, const struct cairn_feature *feature,
                         struct cairn_error *err)
{
    const struct cairn_feature_def *def = cairn_schema_stored_feature(schema, feature->name);
    if (def == NULL) {
        if (schema->strict)
            return cairn_fail(
                err, CAIRN_EUNKNOWN_FEATURE,
                "features.%.*s: the collection is strict and declares no such feature",
                CAIRN_STR_ARG(feature->name));
        return cairn_name_check(feature->name, "features", err);
    }
    if (feature->value.type != CAIRN_TYPE_NULL && feature->value.type != def->type)
        return cairn_fail(err, CAIRN_ETYPE, "features.%.*s: is %s, but the schema says %s",
                          CAIRN_STR_ARG(feature->name), cairn_type_name(feature->value.type),
                          cairn_type_name(def->type));
    return 0;
}

static int check_vector(const struct cairn_schema *schema, const struct cairn_vector *vector,
                        struct cairn_error *err)
{
    const struct cairn_vector_def *def = cairn_schema_vector(schema, vector->name);
    if (def == NULL)
        return cairn_fail(err, CAIRN_EFIELD, "vectors.%.*s: the collection declares no such vector",
                          CAIRN_STR_ARG(vector->name));
    if (vector->f32 == NULL)
        return 0;
    if (vector->dim != def->dim)
        return cairn_fail(err, CAIRN_EDIMENSION,
                          "vectors.%.*s: has %u components, but the schema says %u",
                          CAIRN_STR_ARG(vector->name), vector->dim, def->dim);
    for (uint32_t i = 0; i < vector->dim; i++)
        if (!isfinite(vector->f32[i]))
            return cairn_fail(err, CAIRN_ENUMBER, "vectors.%.*s[%u]: is not a finite number",
                              CAIRN_STR_ARG(vector->name), i);
    return 0;
}

int cairn_entity_validate(const struct cairn_schema *schema, const struct cairn_entity *entity,
                          struct cairn_error *err)
{
    if (entity->key.len == 0 || entity->key.len > CAIRN_KEY_BYTES_MAX)
        return cairn_fail(err, CAIRN_EKEY, "key: has %u bytes; 1 to %u are allowed",
                          entity->key.len, CAIRN_KEY_BYTES_MAX);
    if (entity->route.len > CAIRN_KEY_BYTES_MAX)
        return cairn_fail(err, CAIRN_EKEY, "route: has %u bytes; at most %u are allowed",
                          entity->route.len, CAIRN_KEY_BYTES_MAX);
    if (entity->features_count > CAIRN_FEATURES_MAX)
        return cairn_fail(err, CAIRN_EFIELD, "features: %u are more than %u",
                          entity->features_count, CAIRN_FEATURES_MAX);
    if (entity->op == CAIRN_OP_DELETE && (entity->features_count > 0 || entity->vectors_count > 0))
        return cairn_fail(err, CAIRN_EFIELD, "op: a delete carries no features or vectors");
    for (uint32_t i = 0; i < entity->features_count; i++) {
        int code = check_feature(schema, &entity->features[i], err);
        if (code != 0)
            return code;
    }
    for (uint32_t i = 0; i < entity->vectors_count; i++) {
        int code = check_vector(schema, &entity->vectors[i], err);
        if (code != 0)
            return code;
    }
    return 0;
}
