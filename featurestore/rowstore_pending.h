/* The rows that one apply touches, found by (collection, key). Each is read from the store at most
 * once and encoded once, however many records of the batch are about it. */
#ifndef CAIRN_FEATURESTORE_ROWSTORE_PENDING_H
#define CAIRN_FEATURESTORE_ROWSTORE_PENDING_H

#include "featurestore/row_merge.h"
#include "featurestore/rowstore_internal.h"

struct pending_row {
    uint64_t hash;
    uint32_t collection;    /* id */
    uint32_t collection_at; /* the apply's own number of it */
    struct cairn_str key;   /* in a record's payload */
    bool may_be_stored;     /* worth a read */
    bool stored;            /* the store has this row already */
    bool blocked;           /* in the row cache, under cache_hash */
    uint64_t cache_hash;
    struct cairn_row_state state;
};

/* {0} is empty. */
struct pending_rows {
    struct pending_row *rows;
    struct pending_row **sorted; /* by stored key, from cairn_pending_load on */
    uint32_t count, capacity;
    uint32_t *slots;      /* open addressing; a row's number + 1, or 0 */
    uint32_t slots_count; /* in use: a power of two, at least twice the rows */
    uint32_t slots_capacity;
};

/* Forget all rows and make room for `count`. */
void cairn_pending_begin(struct pending_rows *pending, uint32_t count);
void cairn_pending_release(struct pending_rows *pending);

/* The row of this key, added as never seen if it is not there. It stays where it is until begin. */
struct pending_row *cairn_pending_find(struct pending_rows *pending, uint32_t collection,
                                       uint32_t collection_at, struct cairn_str key);

/* Sort the rows, and read those from the store that may be there. */
int cairn_pending_load(struct pending_rows *pending, struct cairn_rowstore *store,
                       struct cairn_arena *arena, struct cairn_error *err);

#endif
