/* Rows as answers show them: which features and vectors were asked for, what their state is at the
 * time of the read, and their JSON. */
#ifndef CAIRN_API_ROW_JSON_H
#define CAIRN_API_ROW_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "base/record.h"
#include "base/schema.h"
#include "base/wire.h"
#include "router/router.h"

/* The JSON form of a projection; a member without a document was not given. */
struct cairn_projection_json {
    struct cairn_json features; /* array of names, or "*" */
    struct cairn_json vectors;  /* array of names, or "*" */
    struct cairn_json meta;     /* "none", "times", "full" */
};
/* Read it. When `features` is not given, *out has a NULL array and all_features is false. Names are
 * the document's, arrays are in the arena. CAIRN_ETYPE, CAIRN_EFIELD. */
int cairn_projection_read(const struct cairn_projection_json *json,
                          const struct cairn_schema *schema, struct cairn_arena *arena,
                          struct cairn_projection *out, struct cairn_error *err);
int cairn_meta_read(struct cairn_json json, enum cairn_meta *out, struct cairn_error *err);
bool cairn_meta_parse(struct cairn_str text, enum cairn_meta *out);
/* Copy its names to the arena, so that they outlive the document. */
void cairn_projection_keep(struct cairn_projection *projection, struct cairn_arena *arena);
/* Ask for every vector of the schema. */
void cairn_projection_all_vectors(const struct cairn_schema *schema, struct cairn_arena *arena,
                                  struct cairn_projection *out);

struct cairn_plan_feature {
    struct cairn_str name, stored_name;
    int64_t ttl_us;
};

/* A projection bound to a schema, made once per request and used for each of its rows. */
struct cairn_row_plan {
    struct cairn_router *router; /* for vectors */
    const struct cairn_schema *schema;
    bool with_features; /* false: answers have no "features" at all */
    bool all_features;
    const struct cairn_plan_feature *features; /* those named */
    uint32_t features_count;
    const struct cairn_vector_def *const *vectors;
    uint32_t vectors_count;
    float *f32; /* room for one row's vectors, one after the other */
    enum cairn_meta meta;
    int64_t now_us; /* judges TTLs */
};

/* Bind. CAIRN_EUNKNOWN_FEATURE for a name that a strict schema does not have, CAIRN_ENOVECTOR. */
int cairn_row_plan_init(struct cairn_row_plan *plan, struct cairn_router *router,
                        const struct cairn_schema *schema,
                        const struct cairn_projection *projection, struct cairn_arena *arena,
                        struct cairn_error *err);

enum cairn_cell_status { /* the binary answers' numbers */
                         CAIRN_CELL_PRESENT = 0,
                         CAIRN_CELL_NULL = 1,
                         CAIRN_CELL_MISSING = 2,
                         CAIRN_CELL_EXPIRED = 3,
};
/* What a cell counts as now, under its feature's TTL (0: none). */
enum cairn_cell_status cairn_cell_status(const struct cairn_row_cell *cell, int64_t ttl_us,
                                         int64_t now_us);
/* TTL of a stored cell's feature; *name becomes the name clients use. */
int64_t cairn_cell_client_name(const struct cairn_schema *schema, struct cairn_str stored_name,
                               struct cairn_str *name);

/* CAIRN_ETOOLARGE when an answer has grown past CAIRN_ANSWER_BYTES_MAX. */
int cairn_answer_check(size_t bytes, struct cairn_error *err);
/* Write the members "features", "vectors" and "meta" that the plan asks for into the object that is
 * open. CAIRN_ETOOLARGE, or what reading a vector met. */
int cairn_row_write(const struct cairn_row_plan *plan, const struct cairn_row_ref *row,
                    struct cairn_json_writer *writer, struct cairn_error *err);
/* For visitors: what they write rows with, and the first failure; after one, nothing is written. */
struct cairn_row_writing {
    struct cairn_row_plan plan;
    struct cairn_json_writer *writer;
    int code;
    struct cairn_error *err;
};
/* A cairn_row_visitor over a cairn_row_writing: the object {"key", "found", …} of one key asked. */
void cairn_row_visit_found(void *context, uint32_t at, const struct cairn_row_ref *row);

/* The value "s0". */
void cairn_shard_write(uint32_t shard, struct cairn_json_writer *writer);
/* The member "provenance": the position of the record that is shown, and what its writer said. */
void cairn_provenance_write(const struct cairn_row_ref *row, uint64_t offset,
                            struct cairn_arena *arena, struct cairn_json_writer *writer);

#endif
