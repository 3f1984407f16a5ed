/* What one apply works with. Shared by rowstore_apply.c, which says what its phases are, and
 * rowstore_resolve.c, which is the third. */
#ifndef CAIRN_FEATURESTORE_ROWSTORE_APPLY_H
#define CAIRN_FEATURESTORE_ROWSTORE_APPLY_H

#include "base/shard_wire.h"
#include "featurestore/rowstore_internal.h"
#include "featurestore/rowstore_pending.h"

/* One record on its way. */
struct step {
    /* An entity event, imported or not. */
    struct cairn_entity entity;
    struct pending_row *row; /* NULL: not of an entity, or its collection is gone */
    int64_t ingest_time_us;  /* when the event was first accepted, on whatever shard */

    struct cairn_imported imported; /* of an import */

    /* Of a forget. */
    struct cairn_str *keys;
    uint32_t keys_count;
    struct pending_row **rows; /* one per key; NULL: its collection is gone */
};

struct new_schema {
    struct cairn_str name; /* in the arena */
    uint64_t version;
};

/* Scratch that is kept from one apply to the next. */
struct rowstore_apply {
    struct cairn_arena arena;
    struct cairn_encoder *encoder;
    rocksdb_writebatch_t *batch;
    struct cairn_buf value;
    struct pending_rows pending;

    struct step *steps; /* one per record */
    uint32_t steps_capacity;

    struct rowstore_collection *collections; /* of this apply, as they will be */
    uint32_t collections_count, collections_capacity;
    struct rowstore_import *imports; /* begun or gone on with, as they will be */
    uint32_t imports_count, imports_capacity;
    struct cairn_str map; /* the newest of this apply; len 0: none */
    struct new_schema *schemas;
    uint32_t schemas_count, schemas_capacity;
    struct cairn_vector_change *changes;
    uint32_t changes_count, changes_capacity;
};

/* The apply's own number of a collection, which starts as the store has it. */
uint32_t cairn_apply_collection(struct cairn_rowstore *store, uint32_t id);

/* A record's payload is not what it must be: adds its offset to `err`. */
int cairn_apply_corrupt(const struct cairn_log_record *record, struct cairn_error *err);

/* Phase 3: what the records make of pending rows, collections, imports, map and schemas. */
int cairn_apply_resolve(struct cairn_rowstore *store, const struct cairn_log_record *records,
                        uint32_t count, struct cairn_apply_result *results,
                        struct cairn_error *err);

#endif
