/* The FlatBuffers codec: entities as the log, binary bodies and shard calls carry them, and rows as
 * the row store keeps them. The only place, with base/wire.h, that knows the generated header
 * (base/cairn.fbs). Bytes from outside always pass the verifier. */
#ifndef CAIRN_BASE_RECORD_H
#define CAIRN_BASE_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"
#include "base/time.h"
#include "base/value.h"

struct cairn_feature {
    struct cairn_str name; /* stored name */
    struct cairn_value value;
};

struct cairn_vector {
    struct cairn_str name;
    const float *f32; /* dim components, 4-byte aligned; NULL removes the vector */
    uint32_t dim;
};

struct cairn_provenance {
    struct cairn_str source, producer; /* len 0: not given */
    const struct cairn_str *inputs;    /* "s0:1042" */
    uint32_t inputs_count;
};

enum cairn_entity_op {                       /* on disk: never renumber */
                       CAIRN_OP_PATCH = 0,   /* set the named features and vectors */
                       CAIRN_OP_REPLACE = 1, /* as of this event, these are all there is */
                       CAIRN_OP_DELETE = 2,  /* as of this event, there is nothing */
};

#define CAIRN_OFFSET_NONE UINT64_MAX

/* A precondition may name the shard whose log the offset is of: an entity that moved to another
 * shard can have there, by chance, the offset that a reader saw at the first. The shard's id and 1
 * stand above the offset's bits; 0 there: any shard's. */
#define CAIRN_IF_OFFSET_BITS 48
static inline uint64_t cairn_if_offset_on(uint32_t shard, uint64_t offset)
{
    return ((uint64_t)shard + 1) << CAIRN_IF_OFFSET_BITS | offset;
}
static inline bool cairn_if_offset_holds(uint64_t if_offset, uint32_t shard, uint64_t offset)
{
    return if_offset == offset || if_offset == cairn_if_offset_on(shard, offset);
}

/* One event about one entity. All pointers are borrowed. */
struct cairn_entity {
    struct cairn_str key;
    struct cairn_str route; /* len 0: the key is the route */
    int64_t event_time_us;  /* CAIRN_TIME_NONE: the ingest time */
    enum cairn_entity_op op;
    const struct cairn_feature *features; /* names distinct */
    uint32_t features_count;
    const struct cairn_vector *vectors; /* names distinct */
    uint32_t vectors_count;
    struct cairn_provenance provenance;
    uint64_t if_offset; /* CAIRN_OFFSET_NONE: no precondition; 0: must not exist; else as above */
};

/* Reusable encoder memory. One thread at a time. */
struct cairn_encoder;
struct cairn_encoder *cairn_encoder_new(void);
void cairn_encoder_free(struct cairn_encoder **encoder);

/* Whether no component is a NaN or an infinity. */
bool cairn_f32_finite(const float *f32, uint32_t count);

/* Whether an entity is within every limit that decode enforces: key, names, strings and values,
 * their sum, provenance. An entity that passes encodes to bytes that decode accepts, so call it
 * before encoding what came from outside. The code names the kind of fault (CAIRN_EKEY,
 * CAIRN_ENAME, CAIRN_EUTF8, CAIRN_ETYPE, CAIRN_ENUMBER, CAIRN_ETIME, CAIRN_EDIMENSION,
 * CAIRN_ETOOLARGE, CAIRN_EFIELD), the text the field. */
int cairn_entity_check(const struct cairn_entity *entity, struct cairn_error *err);

/* Encode; the bytes (8-byte aligned) live in the encoder until its next use. Never fails: limits
 * have been checked by the caller. */
struct cairn_str cairn_entity_encode(struct cairn_encoder *encoder,
                                     const struct cairn_entity *entity);

/* Verify and open. Everything in *out points into `bytes` (which must be 8-byte aligned) or into
 * the arena. CAIRN_EBODY when the verifier or a limit of base/limits.h refuses (key length, UTF-8
 * of key, names and strings, finite numbers, packed lists, distinct names, cell ranges), naming the
 * field. */
int cairn_entity_decode(struct cairn_str bytes, struct cairn_arena *arena, struct cairn_entity *out,
                        struct cairn_error *err);

/* When a cell's value was said, and by which record. */
struct cairn_stamp {
    int64_t event_time_us;
    int64_t ingest_time_us;
    uint64_t offset; /* 0: none */
};

struct cairn_row_cell {
    struct cairn_str name;    /* stored name of a feature or name of a vector */
    struct cairn_value value; /* type VECTOR: len is the dimension */
    struct cairn_stamp stamp;
};

/* The current row of one entity as the row store keeps it. A vector and a feature may share a name:
 * cells are sorted by (is a vector, name). */
struct cairn_row {
    const struct cairn_row_cell *cells;
    uint32_t cells_count;
    struct cairn_stamp tombstone;       /* newest delete or replace; offset 0: never */
    struct cairn_stamp newest;          /* newest record applied to this row, superseded ones too */
    struct cairn_str route;             /* len 0: the key */
    struct cairn_provenance provenance; /* of the record that last changed a cell */
    bool exists; /* set it for an entity written empty; one with cells exists anyway */
};

struct cairn_str cairn_row_encode(struct cairn_encoder *encoder, const struct cairn_row *row);

/* Whether bytes from outside are a row that a view may open: all it hands out lies within them, and
 * values are of known types. They must be 8-byte aligned. CAIRN_EBODY. */
int cairn_row_check(struct cairn_str bytes, struct cairn_error *err);

/* Random access to a stored row without decoding it. Trusts the bytes: they are the store's own,
 * under its checksums, or have passed cairn_row_check. They may have any alignment. The view and
 * what it hands out live as long as the bytes. */
struct cairn_row_view {
    const void *root;
    struct cairn_str bytes; /* all of the row */
};
void cairn_row_view_init(struct cairn_row_view *view, struct cairn_str bytes);
uint32_t cairn_row_view_count(const struct cairn_row_view *view);
void cairn_row_view_cell(const struct cairn_row_view *view, uint32_t at,
                         struct cairn_row_cell *out);
bool cairn_row_view_find(const struct cairn_row_view *view, bool is_vector, struct cairn_str name,
                         struct cairn_row_cell *out); /* binary search */
struct cairn_stamp cairn_row_view_tombstone(const struct cairn_row_view *view);
struct cairn_stamp cairn_row_view_newest(const struct cairn_row_view *view);
struct cairn_str cairn_row_view_route(const struct cairn_row_view *view);
/* Inputs are placed in the arena. */
void cairn_row_view_provenance(const struct cairn_row_view *view, struct cairn_arena *arena,
                               struct cairn_provenance *out);
/* Whether an entity exists: a row without cells that was deleted does not, one written empty does.
 */
bool cairn_row_view_exists(const struct cairn_row_view *view);

#endif
