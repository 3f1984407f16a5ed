#include "featurestore/rowstore_pending.h"

#include <stdlib.h>

#include "base/hash.h"

/* Rows read at a time: enough for RocksDB to share work among neighbours, few enough to bound what
 * is pinned and copied at once. */
#define LOAD_CHUNK 128u

void cairn_pending_begin(struct pending_rows *pending, uint32_t count)
{
    uint32_t slots = 16;
    while (slots < 2 * count)
        slots *= 2;
    if (pending->slots_capacity < slots) {
        free(pending->slots);
        pending->slots = cairn_malloc(slots * sizeof(*pending->slots));
        pending->slots_capacity = slots;
    }
    if (pending->capacity < count) {
        free(pending->rows);
        free(pending->sorted);
        pending->rows = cairn_malloc(count * sizeof(*pending->rows));
        pending->sorted = cairn_malloc(count * sizeof(*pending->sorted));
        pending->capacity = count;
    }
    memset(pending->slots, 0, slots * sizeof(*pending->slots));
    pending->slots_count = slots;
    pending->count = 0;
}

void cairn_pending_release(struct pending_rows *pending)
{
    free(pending->rows);
    free(pending->sorted);
    free(pending->slots);
    *pending = (struct pending_rows){0};
}

struct pending_row *cairn_pending_find(struct pending_rows *pending, uint32_t collection,
                                       uint32_t collection_at, struct cairn_str key)
{
    uint64_t hash = cairn_hash64(key.ptr, key.len) + collection * UINT64_C(0x9E3779B97F4A7C15);
    uint32_t mask = pending->slots_count - 1;
    uint32_t slot = (uint32_t)hash & mask;
    for (; pending->slots[slot] != 0; slot = (slot + 1) & mask) {
        struct pending_row *row = &pending->rows[pending->slots[slot] - 1];
        if (row->hash == hash && row->collection == collection && cairn_str_eq(row->key, key))
            return row;
    }
    struct pending_row *row = &pending->rows[pending->count];
    *row = (struct pending_row){.hash = hash,
                                .collection = collection,
                                .collection_at = collection_at,
                                .key = key,
                                .state = {.written_us = CAIRN_TIME_NONE}};
    pending->slots[slot] = ++pending->count;
    return row;
}

/* Stored keys sort by collection, then key (rowstore_key.h). */
static int stored_order(const void *a, const void *b)
{
    const struct pending_row *left = *(struct pending_row *const *)a;
    const struct pending_row *right = *(struct pending_row *const *)b;
    if (left->collection != right->collection)
        return left->collection < right->collection ? -1 : 1;
    return cairn_str_cmp(left->key, right->key);
}

/* Take over a stored row: the bytes are copied, since what the apply hands out refers to them. */
static int open_row(struct pending_row *pending, const char *value, size_t len,
                    struct cairn_arena *arena, struct cairn_error *err)
{
    if (len <= ROW_HEAD_BYTES)
        return cairn_fail(err, CAIRN_ECORRUPT, "row store: a row has %zu bytes", len);
    struct cairn_row_state *state = &pending->state;
    struct cairn_row *row = &state->row;
    struct cairn_str bytes = cairn_arena_dup(
        arena, (struct cairn_str){value + ROW_HEAD_BYTES, (uint32_t)(len - ROW_HEAD_BYTES)});
    struct cairn_row_view view;
    cairn_row_view_init(&view, bytes);
    pending->stored = true;
    state->written_us = (int64_t)load_u64le(value);
    row->cells_count = cairn_row_view_count(&view);
    state->front = cairn_arena_alloc(arena, row->cells_count * sizeof(*state->front));
    state->front_capacity = row->cells_count;
    for (uint32_t i = 0; i < row->cells_count; i++)
        cairn_row_view_cell(&view, i, &state->front[i]);
    row->cells = state->front;
    row->tombstone = cairn_row_view_tombstone(&view);
    row->newest = cairn_row_view_newest(&view);
    row->route = cairn_row_view_route(&view);
    row->exists = cairn_row_view_exists(&view);
    cairn_row_view_provenance(&view, arena, &row->provenance);
    return 0;
}

static int load_chunk(struct cairn_rowstore *store, struct pending_row **rows, uint32_t count,
                      struct cairn_arena *arena, struct cairn_error *err)
{
    const char *keys[LOAD_CHUNK];
    size_t lens[LOAD_CHUNK];
    rocksdb_pinnableslice_t *values[LOAD_CHUNK];
    char *texts[LOAD_CHUNK];
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *key = cairn_arena_alloc(arena, 4u + 2u * rows[i]->key.len + 2u);
        lens[i] = cairn_row_key_write(key, rows[i]->collection, rows[i]->key);
        keys[i] = (const char *)key;
    }
    rocksdb_batched_multi_get_cf(store->db, store->read, store->families[FAMILY_ROWS], count, keys,
                                 lens, values, texts, true);
    int code = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (texts[i] != NULL && code == 0)
            code = cairn_rowstore_fail(err, texts[i], "read row");
        else if (texts[i] != NULL)
            rocksdb_free(texts[i]);
        if (values[i] == NULL)
            continue;
        size_t len;
        const char *value = rocksdb_pinnableslice_value(values[i], &len);
        if (code == 0)
            code = open_row(rows[i], value, len, arena, err);
        rocksdb_pinnableslice_destroy(values[i]);
    }
    return code;
}

int cairn_pending_load(struct pending_rows *pending, struct cairn_rowstore *store,
                       struct cairn_arena *arena, struct cairn_error *err)
{
    for (uint32_t i = 0; i < pending->count; i++)
        pending->sorted[i] = &pending->rows[i];
    if (pending->count > 1)
        qsort(pending->sorted, pending->count, sizeof(struct pending_row *), stored_order);

    struct pending_row *chunk[LOAD_CHUNK];
    uint32_t chunk_count = 0;
    for (uint32_t i = 0; i < pending->count; i++) {
        if (pending->sorted[i]->may_be_stored)
            chunk[chunk_count++] = pending->sorted[i];
        if (chunk_count == 0 || (chunk_count < LOAD_CHUNK && i + 1 < pending->count))
            continue;
        int code = load_chunk(store, chunk, chunk_count, arena, err);
        if (code != 0)
            return code;
        chunk_count = 0;
    }
    return 0;
}
