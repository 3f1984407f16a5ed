/* Applying log records, in four phases:
 *
 *   1. decode   every record is opened, its rows entered among the pending ones
 *   2. load     the rows that may be in the store are read together, in key order
 *   3. resolve  in offset order, each event changes its pending row (row_merge.h) and the counts of
 *               its collection, and what is forgotten becomes a row that was never seen; vectors
 *               go into the write batch at once (rowstore_resolve.c)
 *   4. write    each pending row is encoded once, in key order, which spares RocksDB's memtable
 *               most of its searching; rows, vectors, counts, schemas, imports, the map and the
 *               applied offset are one RocksDB batch; only then what readers see moves
 *
 * Everything until the write is scratch: an apply that fails leaves the store as it was. */
#include "featurestore/rowstore_apply.h"

#include <stdlib.h>

struct rowstore_apply *cairn_rowstore_apply_new(void)
{
    struct rowstore_apply *apply = cairn_calloc(1, sizeof(*apply));
    apply->encoder = cairn_encoder_new();
    apply->batch = rocksdb_writebatch_create();
    return apply;
}

void cairn_rowstore_apply_free(struct rowstore_apply **apply_ptr)
{
    struct rowstore_apply *apply = *apply_ptr;
    if (apply == NULL)
        return;
    cairn_arena_release(&apply->arena);
    cairn_encoder_free(&apply->encoder);
    rocksdb_writebatch_destroy(apply->batch);
    cairn_buf_release(&apply->value);
    cairn_pending_release(&apply->pending);
    free(apply->steps);
    free(apply->collections);
    free(apply->imports);
    free(apply->schemas);
    free(apply->changes);
    free(apply);
    *apply_ptr = NULL;
}

static void begin(struct rowstore_apply *apply, uint32_t count)
{
    cairn_arena_reset(&apply->arena);
    rocksdb_writebatch_clear(apply->batch);
    if (apply->steps_capacity < count) {
        free(apply->steps);
        apply->steps = cairn_malloc(count * sizeof(*apply->steps));
        apply->steps_capacity = count;
    }
    apply->collections_count = 0;
    apply->imports_count = 0;
    apply->map = (struct cairn_str){0};
    apply->schemas_count = 0;
    apply->changes_count = 0;
}

uint32_t cairn_apply_collection(struct cairn_rowstore *store, uint32_t id)
{
    struct rowstore_apply *apply = store->apply;
    for (uint32_t i = apply->collections_count; i > 0; i--) {
        if (apply->collections[i - 1].id == id)
            return i - 1;
    }
    if (apply->collections_count == apply->collections_capacity) {
        apply->collections_capacity += apply->collections_capacity / 2 + 8;
        apply->collections = cairn_realloc(apply->collections, apply->collections_capacity *
                                                                   sizeof(*apply->collections));
    }
    const struct rowstore_collection *known = cairn_rowstore_collection(store, id);
    struct rowstore_collection fresh = {
        .id = id,
        .counts = {.newest_event_us = CAIRN_TIME_NONE, .newest_ingest_us = CAIRN_TIME_NONE}};
    apply->collections[apply->collections_count] = known != NULL ? *known : fresh;
    return apply->collections_count++;
}

/* Phases 1 and 2. */

int cairn_apply_corrupt(const struct cairn_log_record *record, struct cairn_error *err)
{
    cairn_error_prefix(err, "record at offset %llu", (unsigned long long)record->offset);
    if (err != NULL)
        err->code = CAIRN_ECORRUPT;
    return CAIRN_ECORRUPT;
}

/* Open what is around or in place of an entity, and count the rows that the records can be about.
 */
static int open_payloads(struct rowstore_apply *apply, const struct cairn_log_record *records,
                         uint32_t count, uint32_t *rows_count, struct cairn_error *err)
{
    *rows_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct step *step = &apply->steps[i];
        int code = 0;
        step->row = NULL;
        step->rows = NULL;
        if (records[i].kind == CAIRN_RECORD_IMPORT) {
            code = cairn_imported_decode(records[i].payload, &step->imported, err);
        } else if (records[i].kind == CAIRN_RECORD_FORGET) {
            code = cairn_forget_decode(records[i].payload, &apply->arena, &step->keys,
                                       &step->keys_count, err);
            *rows_count += code == 0 ? step->keys_count : 0;
        }
        if (code != 0)
            return cairn_apply_corrupt(&records[i], err);
    }
    return 0;
}

static struct pending_row *enter_row(struct rowstore_apply *apply, uint32_t number,
                                     struct cairn_str key)
{
    const struct rowstore_collection *collection = &apply->collections[number];
    struct pending_row *row = cairn_pending_find(&apply->pending, collection->id, number, key);
    row->may_be_stored = collection->stored > 0;
    return row;
}

static int enter(struct rowstore_apply *apply, const struct cairn_log_record *record,
                 struct step *step, uint32_t number, struct cairn_error *err)
{
    if (record->kind == CAIRN_RECORD_FORGET) {
        step->rows = cairn_arena_alloc(&apply->arena, step->keys_count * sizeof(*step->rows));
        for (uint32_t i = 0; i < step->keys_count; i++)
            step->rows[i] = enter_row(apply, number, step->keys[i]);
        return 0;
    }
    bool imported = record->kind == CAIRN_RECORD_IMPORT;
    step->ingest_time_us = imported ? step->imported.ingest_time_us : record->ingest_time_us;
    struct cairn_str bytes = imported ? step->imported.entity : record->payload;
    if (cairn_entity_decode(bytes, &apply->arena, &step->entity, err) != 0)
        return cairn_apply_corrupt(record, err);
    step->row = enter_row(apply, number, step->entity.key);
    return 0;
}

static int decode(struct cairn_rowstore *store, const struct cairn_log_record *records,
                  uint32_t count, struct cairn_error *err)
{
    struct rowstore_apply *apply = store->apply;
    uint32_t rows_count;
    int code = open_payloads(apply, records, count, &rows_count, err);
    if (code != 0)
        return code;
    cairn_pending_begin(&apply->pending, rows_count);
    for (uint32_t i = 0; i < count; i++) {
        uint8_t kind = records[i].kind;
        if (kind != CAIRN_RECORD_ENTITY && kind != CAIRN_RECORD_IMPORT &&
            kind != CAIRN_RECORD_FORGET)
            continue;
        uint32_t number = cairn_apply_collection(store, records[i].collection);
        if (apply->collections[number].dropped)
            continue;
        code = enter(apply, &records[i], &apply->steps[i], number, err);
        if (code != 0)
            return code;
    }
    return cairn_pending_load(&apply->pending, store, &apply->arena, err);
}

/* Phase 4. */

static void put_row(struct rowstore_apply *apply, rocksdb_column_family_handle_t *family,
                    const struct cairn_row_state *state, const char *key, size_t key_len)
{
    struct cairn_str encoded = cairn_row_encode(apply->encoder, &state->row);
    cairn_buf_clear(&apply->value);
    char *value = cairn_buf_reserve(&apply->value, ROW_HEAD_BYTES + encoded.len);
    store_u64le(value, (uint64_t)state->written_us);
    memcpy(value + ROW_HEAD_BYTES, encoded.ptr, encoded.len);
    rocksdb_writebatch_put_cf(apply->batch, family, key, key_len, value,
                              ROW_HEAD_BYTES + encoded.len);
}

/* Write the row, or take it away when it is forgotten: no record is left that speaks of it. */
static void write_row(struct cairn_rowstore *store, struct rowstore_collection *collection,
                      struct pending_row *pending)
{
    struct rowstore_apply *apply = store->apply;
    rocksdb_column_family_handle_t *family = store->families[FAMILY_ROWS];
    bool seen = pending->state.row.newest.offset != 0;
    if (!seen && !pending->stored)
        return;
    collection->stored = collection->stored + seen - pending->stored;
    uint8_t key[CAIRN_ROW_KEY_BYTES_MAX];
    size_t key_len = cairn_row_key_write(key, pending->collection, pending->key);
    if (seen)
        put_row(apply, family, &pending->state, (const char *)key, key_len);
    else
        rocksdb_writebatch_delete_cf(apply->batch, family, (const char *)key, key_len);
    pending->cache_hash = cairn_row_cache_hash(key, key_len);
    cairn_row_cache_block(store->row_cache, pending->cache_hash);
    pending->blocked = true;
}

/* After the write, whether it succeeded or not. */
static void unblock_rows(struct cairn_rowstore *store)
{
    struct rowstore_apply *apply = store->apply;
    for (uint32_t i = 0; i < apply->pending.count; i++)
        if (apply->pending.rows[i].blocked)
            cairn_row_cache_unblock(store->row_cache, apply->pending.rows[i].cache_hash);
    for (uint32_t i = 0; i < apply->collections_count; i++)
        if (apply->collections[i].dropped)
            cairn_row_cache_clear(store->row_cache);
}

static int write_batch(struct cairn_rowstore *store, uint64_t applied, struct cairn_error *err)
{
    struct rowstore_apply *apply = store->apply;
    for (uint32_t i = 0; i < apply->pending.count; i++) {
        struct pending_row *row = apply->pending.sorted[i];
        struct rowstore_collection *collection = &apply->collections[row->collection_at];
        if (!collection->dropped)
            write_row(store, collection, row);
    }
    for (uint32_t i = 0; i < apply->collections_count; i++)
        cairn_rowstore_meta_put_collection(store, apply->batch, &apply->collections[i]);
    for (uint32_t i = 0; i < apply->imports_count; i++)
        cairn_rowstore_import_put(store, apply->batch, &apply->imports[i]);
    if (apply->map.len > 0)
        cairn_rowstore_map_put(store, apply->batch, apply->map);
    cairn_rowstore_meta_put_applied(store, apply->batch, applied);
    char *text = NULL;
    rocksdb_write(store->db, store->write, apply->batch, &text);
    unblock_rows(store);
    return text != NULL ? cairn_rowstore_fail(err, text, "write to row store") : 0;
}

/* What the batch has written, for readers and the next apply. */
static void publish(struct cairn_rowstore *store, uint64_t applied)
{
    struct rowstore_apply *apply = store->apply;
    cairn_rowstore_meta_publish(store, apply->collections, apply->collections_count);
    for (uint32_t i = 0; i < apply->schemas_count; i++)
        cairn_rowstore_schema_publish(store, apply->schemas[i].name, apply->schemas[i].version);
    for (uint32_t i = 0; i < apply->imports_count; i++)
        cairn_rowstore_import_publish(store, &apply->imports[i]);
    if (apply->map.len > 0)
        cairn_rowstore_map_publish(store, apply->map);
    atomic_store_explicit(&store->applied, applied, memory_order_release);
}

static int check_order(const struct cairn_log_record *records, uint32_t count, uint64_t applied,
                       struct cairn_error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        if (records[i].offset <= applied)
            return cairn_fail(err, CAIRN_EINTERNAL, "record at offset %llu follows %llu",
                              (unsigned long long)records[i].offset, (unsigned long long)applied);
        applied = records[i].offset;
    }
    return 0;
}

int cairn_rowstore_apply(struct cairn_rowstore *store, const struct cairn_log_record *records,
                         uint32_t count, struct cairn_apply_output *out, struct cairn_error *err)
{
    struct rowstore_apply *apply = store->apply;
    uint64_t applied = cairn_rowstore_applied(store);
    out->changes = NULL;
    out->changes_count = 0;
    uint32_t skipped = 0;
    while (skipped < count && records[skipped].offset <= applied)
        out->results[skipped++] = (struct cairn_apply_result){0};
    if (skipped == count)
        return 0;
    records += skipped;
    count -= skipped;

    int code = check_order(records, count, applied, err);
    if (code != 0)
        return code;
    begin(apply, count);
    applied = records[count - 1].offset;
    code = decode(store, records, count, err);
    if (code == 0)
        code = cairn_apply_resolve(store, records, count, out->results + skipped, err);
    if (code == 0)
        code = write_batch(store, applied, err);
    if (code != 0)
        return code;

    publish(store, applied);
    out->changes = apply->changes;
    out->changes_count = apply->changes_count;
    return 0;
}
