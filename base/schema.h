/* A collection's schema: typed features, vector fields and their index settings.
 *
 * A schema object is immutable and reference-counted; evolution makes a new one with the next
 * version. Its canonical JSON text is what the log's schema records carry. */
#ifndef CAIRN_BASE_SCHEMA_H
#define CAIRN_BASE_SCHEMA_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "base/str.h"
#include "base/value.h"

enum cairn_metric { CAIRN_METRIC_COSINE, CAIRN_METRIC_DOT, CAIRN_METRIC_L2 };
enum cairn_index_kind { CAIRN_INDEX_FLAT, CAIRN_INDEX_IVF, CAIRN_INDEX_GRAPH };
enum cairn_quantization { CAIRN_QUANTIZATION_NONE, CAIRN_QUANTIZATION_SQ8, CAIRN_QUANTIZATION_PQ };

/* 0 means: chosen from the data. Defaults and ranges are documented in docs/indexes.md. */
struct cairn_index_params {
    enum cairn_index_kind kind;
    enum cairn_quantization quantization;
    uint32_t lists;           /* ivf: number of inverted lists */
    uint32_t nprobe;          /* ivf: lists visited by default */
    uint32_t m;               /* graph: links per node */
    uint32_t ef_construction; /* graph */
    uint32_t ef;              /* graph: default beam width of a search */
    uint32_t pq_bytes;        /* pq: code bytes of one vector */
};

struct cairn_feature_def {
    struct cairn_str name;
    struct cairn_str stored_name; /* what records call it; differs from name after a rename */
    uint8_t type;                 /* enum cairn_type */
    bool indexed;
    int64_t ttl_us; /* 0: none */
};

/* Whether a value said at event_time_us is too old now: its age is over the TTL. */
static inline bool cairn_ttl_expired(int64_t ttl_us, int64_t event_time_us, int64_t now_us)
{
    int64_t end_us;
    return ttl_us > 0 && !__builtin_add_overflow(event_time_us, ttl_us, &end_us) && now_us > end_us;
}

struct cairn_vector_def {
    struct cairn_str name;
    uint32_t dim;
    enum cairn_metric metric;
    struct cairn_index_params index;
};

struct cairn_schema {
    /* Immutable. */
    struct cairn_str name;
    uint32_t id; /* of this life of the collection: a dropped and re-created name gets a new one */
    uint64_t version; /* rises with every change, across drop and re-creation too */
    bool dropped;
    bool strict;
    int64_t created_us;
    const struct cairn_feature_def *features; /* sorted by name */
    uint32_t features_count;
    const struct cairn_vector_def *vectors; /* sorted by name */
    uint32_t vectors_count;
    struct cairn_str history_json;   /* "" when not given */
    struct cairn_str documents_json; /* "" when not given */
};

/* Collection, feature and vector names: 1 to CAIRN_NAME_BYTES_MAX of [A-Za-z0-9_.-], not starting
 * with
 * '.' or '-'. CAIRN_ENAME naming `what`. */
int cairn_name_check(struct cairn_str name, const char *what, struct cairn_error *err);

/* Read the body of PUT /v1/collections/{name}: every unknown field, type or range is refused by
 * name (CAIRN_ESCHEMA). id, version and created_us are 0. The caller owns one reference of *out. */
int cairn_schema_parse(struct cairn_str name, struct cairn_json body,
                       const struct cairn_schema **out, struct cairn_error *err);

/* What `asked` makes of `current`: features and vectors are added; ttl, indexed, strict, index,
 * history and documents settings take the asked value where it is given; what is not mentioned
 * stays. A changed type, dimension or metric is CAIRN_ECONFLICT. *changed is false when nothing
 * differs (then *out is another reference to `current`). A real change has version current->version
 * + 1. */
int cairn_schema_evolve(const struct cairn_schema *current, const struct cairn_schema *asked,
                        const struct cairn_schema **out, bool *changed, struct cairn_error *err);

/* The same schema with identity fields set. The caller owns the new reference. */
const struct cairn_schema *cairn_schema_with_identity(const struct cairn_schema *schema,
                                                      uint32_t id, uint64_t version,
                                                      int64_t created_us, bool dropped);

/* Canonical text for a log record, with identity, and back. CAIRN_ECORRUPT on bad text. */
void cairn_schema_encode(const struct cairn_schema *schema, struct cairn_buf *out);
int cairn_schema_decode(struct cairn_str text, const struct cairn_schema **out,
                        struct cairn_error *err);

/* Write the client's view of the schema as members of the object that is open in `writer`:
 * "features", "strict", "vectors", and "history" and "documents" when set. */
void cairn_schema_write_members(const struct cairn_schema *schema,
                                struct cairn_json_writer *writer);

const struct cairn_schema *cairn_schema_ref(const struct cairn_schema *schema);
void cairn_schema_unref(const struct cairn_schema *schema); /* NULL is allowed */

/* NULL when there is none of that name. */
const struct cairn_feature_def *cairn_schema_feature(const struct cairn_schema *schema,
                                                     struct cairn_str name);
const struct cairn_feature_def *cairn_schema_stored_feature(const struct cairn_schema *schema,
                                                            struct cairn_str stored_name);
const struct cairn_vector_def *cairn_schema_vector(const struct cairn_schema *schema,
                                                   struct cairn_str name);

const char *cairn_metric_name(enum cairn_metric metric);
const char *cairn_index_kind_name(enum cairn_index_kind kind);
const char *cairn_quantization_name(enum cairn_quantization quantization);

#endif
