/* One pass merges two sorted lists of cells, the row's and the event's, into the row's spare
 * buffer and counts what happens; the counts then give the status and whether the buffers swap. */
#include "featurestore/row_merge.h"

#include <assert.h>
#include <stdlib.h>

/* One event on its way into one row. */
struct merge {
    struct cairn_row_state *state;
    const struct cairn_entity *entity;
    const struct cairn_row_vector_source *source;
    struct cairn_stamp stamp;
    bool clears;        /* a delete or a replace */
    bool clears_anew;   /* and newer, by time, than the tombstone */
    bool writes_newest; /* a patch or a replace not older than the row's newest */

    const struct cairn_row_cell *own; /* the event's cells, sorted as the row's are */
    uint32_t own_count;

    struct cairn_row_cell *cells; /* the result */
    uint32_t cells_count;
    struct cairn_row_vector_effect *vectors;
    uint32_t vectors_count;

    uint32_t won, same, lost; /* own cells: took effect, are there already, are superseded */
    uint32_t hidden, kept;    /* other cells: cleared, newer than a clearing event */
};

static bool is_vector(const struct cairn_row_cell *cell)
{
    return cell->value.type == CAIRN_TYPE_VECTOR;
}

static int cell_order(const struct cairn_row_cell *a, const struct cairn_row_cell *b)
{
    if (is_vector(a) != is_vector(b))
        return is_vector(a) ? 1 : -1;
    return cairn_str_cmp(a->name, b->name);
}

static int cell_order_sort(const void *a, const void *b)
{
    return cell_order(a, b);
}

static void sort_cells(struct cairn_row_cell *cells, uint32_t count)
{
    uint32_t i = 1;
    while (i < count && cell_order(&cells[i - 1], &cells[i]) < 0)
        i++;
    if (i < count)
        qsort(cells, count, sizeof(*cells), cell_order_sort);
}

/* The event's features and vectors as sorted cells. */
static void gather_own(struct merge *merge, struct cairn_arena *arena)
{
    const struct cairn_entity *entity = merge->entity;
    if (entity->op == CAIRN_OP_DELETE)
        return;
    uint32_t count = entity->features_count + entity->vectors_count;
    if (count == 0)
        return;
    struct cairn_row_cell *cells = cairn_arena_alloc(arena, count * sizeof(*cells));
    for (uint32_t i = 0; i < entity->features_count; i++)
        cells[i] = (struct cairn_row_cell){entity->features[i].name, entity->features[i].value,
                                           merge->stamp};
    for (uint32_t i = 0; i < entity->vectors_count; i++) {
        const struct cairn_vector *vector = &entity->vectors[i];
        cells[entity->features_count + i] =
            (struct cairn_row_cell){.name = vector->name,
                                    .value = {.type = CAIRN_TYPE_VECTOR,
                                              .len = vector->f32 != NULL ? vector->dim : 0,
                                              .as.bytes = (const uint8_t *)vector->f32},
                                    .stamp = merge->stamp};
    }
    sort_cells(cells, entity->features_count);
    sort_cells(cells + entity->features_count, entity->vectors_count);
    merge->own = cells;
    merge->own_count = count;
}

/* Effects are at most one per vector of the row and one per vector of the event. */
static void make_room(struct merge *merge, struct cairn_arena *arena)
{
    struct cairn_row_state *state = merge->state;
    uint32_t needed = state->row.cells_count + merge->own_count, vectors = 0;
    if (state->back_capacity < needed) {
        uint32_t capacity = needed < 8 ? 8 : needed + needed / 2;
        state->back = cairn_arena_alloc(arena, capacity * sizeof(*state->back));
        state->back_capacity = capacity;
    }
    merge->cells = state->back;
    for (uint32_t i = state->row.cells_count; i > 0 && is_vector(&state->row.cells[i - 1]); i--)
        vectors++;
    vectors += merge->entity->op == CAIRN_OP_DELETE ? 0 : merge->entity->vectors_count;
    if (vectors > 0)
        merge->vectors = cairn_arena_alloc(arena, vectors * sizeof(*merge->vectors));
}

static void add_effect(struct merge *merge, const struct cairn_row_cell *cell)
{
    merge->vectors[merge->vectors_count++] = (struct cairn_row_vector_effect){
        cell->name, (const float *)(const void *)cell->value.as.bytes, cell->value.len};
}

static void add_removal(struct merge *merge, struct cairn_str name)
{
    merge->vectors[merge->vectors_count++] = (struct cairn_row_vector_effect){.name = name};
}

/* Whether two vector cells have the same content. The floats of `old` may be in the store. */
static int vectors_equal(const struct merge *merge, const struct cairn_row_cell *old,
                         const struct cairn_row_cell *own, bool *equal)
{
    *equal = old->value.len == own->value.len;
    if (!*equal || own->value.len == 0)
        return 0;
    const float *f32 = (const float *)(const void *)old->value.as.bytes;
    if (f32 == NULL) {
        int code = merge->source->read(merge->source->arg, old->name, old->value.len, &f32);
        if (code != 0)
            return code;
    }
    *equal = memcmp(f32, own->value.as.bytes, own->value.len * sizeof(*f32)) == 0;
    return 0;
}

/* A cell of the row that the event does not name. */
static void take_other(struct merge *merge, const struct cairn_row_cell *old)
{
    if (merge->clears && old->stamp.event_time_us <= merge->stamp.event_time_us) {
        merge->hidden++;
        if (is_vector(old) && old->value.len > 0)
            add_removal(merge, old->name);
        return;
    }
    merge->kept += merge->clears;
    merge->cells[merge->cells_count++] = *old;
}

/* A cell of the event; `old` is the row's of that name, or NULL. */
static int take_own(struct merge *merge, const struct cairn_row_cell *old,
                    const struct cairn_row_cell *own)
{
    if (old != NULL && old->stamp.event_time_us > own->stamp.event_time_us) {
        merge->lost++;
        merge->cells[merge->cells_count++] = *old;
        return 0;
    }
    if (old != NULL && old->stamp.event_time_us == own->stamp.event_time_us) {
        bool equal = false;
        int code = 0;
        if (is_vector(own))
            code = vectors_equal(merge, old, own, &equal);
        else
            equal = cairn_value_eq(&old->value, &own->value);
        if (code != 0)
            return code;
        if (equal) {
            merge->same++;
            merge->cells[merge->cells_count] = *old;
            /* The event's floats are at hand should the cell have to be stamped anew. */
            merge->cells[merge->cells_count++].value.as = own->value.as;
            return 0;
        }
    }
    merge->won++;
    merge->cells[merge->cells_count++] = *own;
    if (is_vector(own) && own->value.len > 0)
        add_effect(merge, own);
    else if (is_vector(own) && old != NULL && old->value.len > 0)
        add_removal(merge, own->name);
    return 0;
}

static int merge_cells(struct merge *merge)
{
    const struct cairn_row *row = &merge->state->row;
    uint32_t i = 0, j = 0;
    while (i < row->cells_count || j < merge->own_count) {
        int order = i == row->cells_count   ? 1
                    : j == merge->own_count ? -1
                                            : cell_order(&row->cells[i], &merge->own[j]);
        if (order < 0) {
            take_other(merge, &row->cells[i++]);
            continue;
        }
        int code = take_own(merge, order == 0 ? &row->cells[i++] : NULL, &merge->own[j]);
        if (code != 0)
            return code;
        j++;
    }
    return 0;
}

/* A replace that changes anything is a tombstone at its own stamp, so every cell that it leaves in
 * place at its event time must carry that stamp too, or the tombstone would hide it. */
static void restamp(struct merge *merge)
{
    for (uint32_t i = 0; i < merge->cells_count; i++) {
        struct cairn_row_cell *cell = &merge->cells[i];
        if (cell->stamp.event_time_us != merge->stamp.event_time_us ||
            cell->stamp.offset == merge->stamp.offset)
            continue;
        cell->stamp = merge->stamp;
        if (is_vector(cell) && cell->value.len > 0)
            add_effect(merge, cell);
    }
}

static int effect_order(const void *a, const void *b)
{
    const struct cairn_row_vector_effect *left = a, *right = b;
    return cairn_str_cmp(left->name, right->name);
}

static enum cairn_write_status delete_status(const struct merge *merge, bool existed, bool exists)
{
    if (!existed)
        return CAIRN_WRITE_UNCHANGED;
    if (!exists)
        return CAIRN_WRITE_APPLIED;
    return merge->hidden > 0 ? CAIRN_WRITE_PARTIAL : CAIRN_WRITE_SUPERSEDED;
}

/* An event without cells says only that the entity is there, and a replace that nothing else is. */
static enum cairn_write_status empty_status(const struct merge *merge, bool existed, bool rerouted)
{
    if (!existed)
        return CAIRN_WRITE_APPLIED;
    if (merge->kept > 0)
        return merge->hidden > 0 ? CAIRN_WRITE_PARTIAL : CAIRN_WRITE_SUPERSEDED;
    if (merge->hidden > 0)
        return CAIRN_WRITE_APPLIED;
    if (!merge->writes_newest)
        return CAIRN_WRITE_SUPERSEDED;
    bool newer = merge->state->written_us < merge->stamp.event_time_us;
    return newer || rerouted || merge->clears_anew ? CAIRN_WRITE_APPLIED : CAIRN_WRITE_UNCHANGED;
}

static enum cairn_write_status cells_status(const struct merge *merge, bool existed, bool rerouted)
{
    if (merge->lost == merge->own_count)
        return merge->hidden > 0 ? CAIRN_WRITE_PARTIAL : CAIRN_WRITE_SUPERSEDED;
    bool changed =
        merge->won > 0 || merge->hidden > 0 || merge->clears_anew || rerouted || !existed;
    if (!changed)
        return CAIRN_WRITE_UNCHANGED;
    return merge->lost > 0 ? CAIRN_WRITE_PARTIAL : CAIRN_WRITE_APPLIED;
}

/* Make the merged cells the row's. */
static void commit(struct merge *merge, bool rerouted, struct cairn_str route)
{
    struct cairn_row_state *state = merge->state;
    struct cairn_row *row = &state->row;
    if (merge->entity->op == CAIRN_OP_REPLACE && merge->same > 0) {
        restamp(merge);
        if (merge->vectors_count > 1)
            qsort(merge->vectors, merge->vectors_count, sizeof(*merge->vectors), effect_order);
    }
    struct cairn_row_cell *spare = state->front;
    uint32_t spare_capacity = state->front_capacity;
    state->front = state->back;
    state->front_capacity = state->back_capacity;
    state->back = spare;
    state->back_capacity = spare_capacity;
    row->cells = merge->cells;
    row->cells_count = merge->cells_count;
    if (merge->clears)
        row->tombstone = merge->stamp;
    if (merge->writes_newest)
        state->written_us = merge->stamp.event_time_us;
    if (rerouted)
        row->route = route;
}

/* The event is not older than the tombstone: resolve its cells one by one. */
static int resolve(struct merge *merge, struct cairn_arena *arena, struct cairn_row_outcome *out)
{
    struct cairn_row_state *state = merge->state;
    struct cairn_row *row = &state->row;
    const struct cairn_entity *entity = merge->entity;
    int64_t time_us = merge->stamp.event_time_us;
    merge->clears = entity->op != CAIRN_OP_PATCH;
    merge->clears_anew =
        merge->clears && (row->tombstone.offset == 0 || row->tombstone.event_time_us < time_us);
    merge->writes_newest = entity->op != CAIRN_OP_DELETE && time_us >= state->written_us;
    gather_own(merge, arena);
    make_room(merge, arena);
    int code = merge_cells(merge);
    if (code != 0)
        return code;

    struct cairn_str route =
        cairn_str_eq(entity->route, entity->key) ? (struct cairn_str){NULL, 0} : entity->route;
    bool rerouted = merge->writes_newest && !cairn_str_eq(route, row->route);
    /* A written row survives a delete at an older time; a patch or replace that came this far is
     * newer than the last delete. */
    out->exists =
        entity->op == CAIRN_OP_DELETE ? out->existed && state->written_us > time_us : true;
    if (entity->op == CAIRN_OP_DELETE)
        out->status = delete_status(merge, out->existed, out->exists);
    else if (merge->own_count == 0)
        out->status = empty_status(merge, out->existed, rerouted);
    else
        out->status = cells_status(merge, out->existed, rerouted);
    /* A tombstone counts even where it hides nothing yet. */
    if (out->status == CAIRN_WRITE_UNCHANGED && entity->op != CAIRN_OP_DELETE)
        return 0;
    commit(merge, rerouted, route);
    if (out->status == CAIRN_WRITE_APPLIED || out->status == CAIRN_WRITE_PARTIAL)
        row->provenance = entity->provenance;
    return 0;
}

int cairn_row_merge(struct cairn_row_state *state, const struct cairn_entity *entity,
                    int64_t ingest_time_us, uint64_t offset,
                    const struct cairn_row_vector_source *source, struct cairn_arena *arena,
                    struct cairn_row_outcome *out)
{
    struct cairn_row *row = &state->row;
    assert(offset > row->newest.offset);
    int64_t time_us =
        entity->event_time_us == CAIRN_TIME_NONE ? ingest_time_us : entity->event_time_us;
    struct merge merge = {.state = state,
                          .entity = entity,
                          .source = source,
                          .stamp = {time_us, ingest_time_us, offset}};
    *out = (struct cairn_row_outcome){.existed = row->exists, .exists = row->exists};
    if (row->tombstone.offset != 0 && time_us < row->tombstone.event_time_us) {
        out->status = entity->op == CAIRN_OP_DELETE && !row->exists ? CAIRN_WRITE_UNCHANGED
                                                                    : CAIRN_WRITE_SUPERSEDED;
    } else {
        int code = resolve(&merge, arena, out);
        if (code != 0)
            return code;
    }
    out->vectors = merge.vectors;
    out->vectors_count = merge.vectors_count;
    row->exists = out->exists;
    row->newest = merge.stamp;
    return 0;
}
