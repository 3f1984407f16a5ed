/* Event-time resolution: what one entity event makes of a row. Pure: knows no store.
 *
 * Events reach a row in offset order, so of two with the same event time the arriving one is the
 * newer. `t` below is the arriving event's time; "older" includes equal.
 *
 *   PATCH    Each of its cells takes effect unless the row's cell of that name is newer than t, or
 *            the tombstone is. A null is a value. A vector without floats is a removal and is kept
 *            as a cell of type VECTOR with len 0, so that an older vector that comes late stays
 * out. DELETE   Hides every older cell. The tombstone remembers t, so that what comes late and is
 *            older stays hidden; newer cells survive.
 *   REPLACE  A delete at t, then its own cells as in a patch.
 *
 * Existence: an entity exists when, of all events about it, the newest by (event time, offset) is
 * no delete. So an event without cells creates an entity, a delete leaves an entity standing that
 * a newer patch wrote (with no cells, if that patch had none), and the outcome does not depend on
 * the order in which events arrive. A row needs two times for that: the tombstone's, and
 * `written_us`, the event time of the newest patch or replace. The route is that event's, too.
 *
 * Status of an event:
 *   applied     all its cells took effect; a delete: the entity is gone; without cells: the entity
 *               was created, emptied, or written at a newer time
 *   partial     some did, others are newer in the row; a delete, or a replace without cells: it
 *               hid some of the row, and what is newer stays
 *   superseded  none did, because what is there is newer
 *   unchanged   nothing differs: the same content at the same event time is there already (cells of
 *               it that are superseded do not count), or a delete finds no entity */
#ifndef CAIRN_FEATURESTORE_ROW_MERGE_H
#define CAIRN_FEATURESTORE_ROW_MERGE_H

#include "base/record.h"
#include "base/wire.h"

/* A row that is being changed, all of it in the arena or borrowed. {.written_us = CAIRN_TIME_NONE}
 * is the row of an entity that was never seen.
 *
 * Cells of type VECTOR: as.bytes points to the floats when an event of this batch set them, and is
 * NULL when they are in the store. */
struct cairn_row_state {
    struct cairn_row row;
    int64_t written_us; /* newest patch or replace; CAIRN_TIME_NONE: none */

    /* Two buffers that merging alternates between, so that the memory of a row that many events of
     * a batch are about does not grow with their number. row.cells is `front`. */
    struct cairn_row_cell *front, *back;
    uint32_t front_capacity, back_capacity;
};

/* A vector that an event made current, or took away. */
struct cairn_row_vector_effect {
    struct cairn_str name;
    const float *f32; /* NULL: removed */
    uint32_t dim;
};

struct cairn_row_outcome {
    enum cairn_write_status status;
    bool existed, exists;
    struct cairn_row_vector_effect *vectors; /* in name order */
    uint32_t vectors_count;
};

/* Hands out the floats of the row's current vector `name`, whose dimension is `dim`; called only to
 * tell whether an event repeats it. 0 or an error, which the merge returns. */
struct cairn_row_vector_source {
    int (*read)(void *arg, struct cairn_str name, uint32_t dim, const float **f32);
    void *arg;
};

/* Resolve `entity`, said by the record `offset` (above every offset in the row) and accepted at
 * `ingest_time_us`, against *state. Names, values and floats stay borrowed from the entity. On
 * failure *state is as before. */
int cairn_row_merge(struct cairn_row_state *state, const struct cairn_entity *entity,
                    int64_t ingest_time_us, uint64_t offset,
                    const struct cairn_row_vector_source *source, struct cairn_arena *arena,
                    struct cairn_row_outcome *out);

#endif
