/* The binary (FlatBuffers) bodies of upsert, get and search: base/cairn.fbs is the schema that
 * clients compile. Requests are decoded into the same plain structs that the JSON readers fill. */
#ifndef CAIRN_BASE_WIRE_H
#define CAIRN_BASE_WIRE_H

#include "base/record.h"

enum cairn_meta { CAIRN_META_NONE, CAIRN_META_TIMES, CAIRN_META_FULL };

/* What to read of each entity. Pointers are borrowed from the request. */
struct cairn_projection {
    bool all_features;
    const struct cairn_str *features; /* client names */
    uint32_t features_count;
    const struct cairn_str *vectors;
    uint32_t vectors_count;
    enum cairn_meta meta;
};

struct cairn_get_request {
    const struct cairn_str *keys;
    uint32_t keys_count;
    struct cairn_projection projection;
};

struct cairn_search_params {
    uint32_t ef, nprobe; /* 0: the index's default */
    bool exact;
};

struct cairn_search_request {
    const float *vector; /* NULL when `key` is given */
    uint32_t dim;
    struct cairn_str key; /* len 0: none */
    /* len 0: the collection's only vector, or "default" */
#ifdef __cplusplus
    struct cairn_str using_vector; /* `using` is a keyword there */
#else
    struct cairn_str using;
#endif
    uint32_t k;
    const struct cairn_filter *filter; /* NULL: none (JSON only) */
    struct cairn_str filter_json;      /* the same as text, for shards elsewhere */
    struct cairn_projection projection;
    bool with_provenance;
    bool allow_partial;
    struct cairn_search_params params;
};

enum cairn_write_status { /* on the wire: never renumber */
                          CAIRN_WRITE_APPLIED = 0,
                          CAIRN_WRITE_PARTIAL = 1,
                          CAIRN_WRITE_SUPERSEDED = 2,
                          CAIRN_WRITE_UNCHANGED = 3,
};
const char *cairn_write_status_name(enum cairn_write_status status);

struct cairn_write_result {
    enum cairn_write_status status;
    uint32_t shard;
    uint64_t offset;
};

/* Verify an UpsertRequest and hand out each entity's own bytes, which may be appended to the log as
 * they are (8-byte aligned: a body or an entity at another address is copied to the arena). Array
 * in the arena; entities are not yet decoded. CAIRN_EBODY, CAIRN_ETOOLARGE (more entities than
 * CAIRN_BATCH_ENTITIES_MAX). */
int cairn_wire_upsert_decode(struct cairn_str body, struct cairn_arena *arena,
                             struct cairn_str **entities, uint32_t *count, struct cairn_error *err);
struct cairn_str cairn_wire_upsert_response(struct cairn_encoder *encoder,
                                            const struct cairn_str *keys,
                                            const struct cairn_write_result *results,
                                            uint32_t count);
struct cairn_str cairn_wire_upsert_request(struct cairn_encoder *encoder,
                                           const struct cairn_str *entities,
                                           uint32_t count); /* client side */

/* Verify and open a request; what is handed out points into the body or the arena. Names and keys
 * are within their limits, k, dimensions and counts too. CAIRN_EBODY for what is no such buffer,
 * CAIRN_ETOOLARGE for too many, CAIRN_EKEY, CAIRN_ENAME, CAIRN_EUTF8, CAIRN_ENUMBER,
 * CAIRN_EDIMENSION, CAIRN_EFIELD. */
int cairn_wire_get_decode(struct cairn_str body, struct cairn_arena *arena,
                          struct cairn_get_request *out, struct cairn_error *err);
int cairn_wire_search_decode(struct cairn_str body, struct cairn_arena *arena,
                             struct cairn_search_request **out, uint32_t *count,
                             struct cairn_error *err);

/* Answers are built entity by entity. One answer at a time per encoder. */
struct cairn_wire_entity {
    struct cairn_str key;
    bool found;
    float score;                           /* hits only */
    const struct cairn_row_cell *features; /* client names */
    uint32_t features_count;
    const struct cairn_vector *vectors;
    uint32_t vectors_count;
};
void cairn_wire_get_begin(struct cairn_encoder *encoder, enum cairn_meta meta);
void cairn_wire_get_add(struct cairn_encoder *encoder, const struct cairn_wire_entity *entity);
struct cairn_str cairn_wire_get_end(struct cairn_encoder *encoder);
void cairn_wire_search_begin(struct cairn_encoder *encoder);
void cairn_wire_search_add_hit(struct cairn_encoder *encoder, const struct cairn_wire_entity *hit);
void cairn_wire_search_end_query(struct cairn_encoder *encoder); /* closes one query's hit list */
struct cairn_str cairn_wire_search_end(struct cairn_encoder *encoder);
/* Bytes of the answer so far, for callers that bound it; one over 2 GiB cannot be built. */
size_t cairn_wire_answer_bytes(const struct cairn_encoder *encoder);

/* The other side: what a client, or a router in front of a remote shard, sends and reads. Answers
 * pass the verifier; arrays are in the arena, all else points into the body, which must be 8-byte
 * aligned. CAIRN_EBODY. */
struct cairn_str cairn_wire_get_request(struct cairn_encoder *encoder,
                                        const struct cairn_get_request *request);
struct cairn_str cairn_wire_search_request(struct cairn_encoder *encoder,
                                           const struct cairn_search_request *requests,
                                           uint32_t count); /* without filters */

struct cairn_wire_hits {
    const struct cairn_wire_entity *hits;
    uint32_t count;
};
int cairn_wire_upsert_response_decode(struct cairn_str body, struct cairn_arena *arena,
                                      struct cairn_str **keys, struct cairn_write_result **results,
                                      uint32_t *count, struct cairn_error *err);
int cairn_wire_get_response_decode(struct cairn_str body, struct cairn_arena *arena,
                                   struct cairn_wire_entity **entities, uint32_t *count,
                                   struct cairn_error *err);
int cairn_wire_search_response_decode(struct cairn_str body, struct cairn_arena *arena,
                                      struct cairn_wire_hits **queries, uint32_t *count,
                                      struct cairn_error *err);

#endif
