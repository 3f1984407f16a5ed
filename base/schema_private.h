/* What schema.c, schema_read.c, schema_write.c and schema_evolve.c share; no one else includes it.
 */
#ifndef CAIRN_BASE_SCHEMA_PRIVATE_H
#define CAIRN_BASE_SCHEMA_PRIVATE_H

#include <stdatomic.h>
#include <stddef.h>

#include "base/limits.h"
#include "base/schema.h"

/* Settings that the text of a schema named, so that evolution can tell "not mentioned" from a
 * default. A box made by evolution or for an identity has them all. */
enum {
    GIVEN_TTL = 1 << 0,
    GIVEN_INDEXED = 1 << 1,

    GIVEN_METRIC = 1 << 0,
    GIVEN_KIND = 1 << 1,
    GIVEN_QUANTIZATION = 1 << 2,
    GIVEN_PARAM_FIRST = 1 << 3, /* and the following bits, in the order of cairn_index_settings */

    GIVEN_ALL = 0xFFFF,
};

/* A numeric setting of an index. */
struct cairn_index_setting {
    const char *name;
    size_t place; /* in struct cairn_index_params */
    uint32_t min, max;
    bool of_kind; /* belongs to `kind` alone */
    enum cairn_index_kind kind;
};
enum { CAIRN_INDEX_SETTINGS = 6 };
extern const struct cairn_index_setting cairn_index_settings[CAIRN_INDEX_SETTINGS];

static inline uint32_t *cairn_index_setting_of(struct cairn_index_params *params, int at)
{
    return (uint32_t *)((char *)params + cairn_index_settings[at].place);
}

static inline uint32_t cairn_index_setting_value(const struct cairn_index_params *params, int at)
{
    return *(const uint32_t *)((const char *)params + cairn_index_settings[at].place);
}

/* A schema with what is private to it. */
struct cairn_schema_box {
    struct cairn_schema schema; /* first: the pointer handed out is the box's */
    atomic_uint references;
    struct cairn_arena arena; /* all arrays and text of the schema */
    uint16_t *feature_given;  /* parallel to schema.features */
    uint16_t *vector_given;   /* parallel to schema.vectors */
    bool strict_given;
    bool renamed; /* some feature's stored name is not its name */
};

/* An empty box with one reference. Its schema becomes const once it is handed out. */
struct cairn_schema_box *cairn_schema_box_new(void);

/* Room for that many definitions, zeroed; sets the counts. */
struct cairn_feature_def *cairn_schema_box_features(struct cairn_schema_box *box, uint32_t count);
struct cairn_vector_def *cairn_schema_box_vectors(struct cairn_schema_box *box, uint32_t count);

/* Whether the settings of a vector fit each other. CAIRN_ESCHEMA naming the path. */
int cairn_vector_def_check(const struct cairn_vector_def *def, struct cairn_error *err);

#endif
