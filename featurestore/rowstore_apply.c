/* Applying log records, in four phases:
 *
 *   1. decode   every record is opened, its row entered among the pending ones
 *   2. load     the rows that may be in the store are read together, in key order
 *   3. resolve  in offset order, each event changes its pending row (row_merge.h) and the counts of
 *               its collection; vectors go into the write batch at once
 *   4. write    each pending row is encoded once, in key order, which spares RocksDB's memtable
 *               most of its searching; rows, vectors, counts, schemas and the applied
 *               offset are one RocksDB batch; only then readers' counts and the offset move
 *
 * Everything until the write is scratch: an apply that fails leaves the store as it was. */
#include <stdlib.h>

#include "base/schema.h"
#include "featurestore/rowstore_internal.h"
#include "featurestore/rowstore_pending.h"

/* One record on its way. */
struct step {
    struct cairn_entity entity;
    struct pending_row *row; /* NULL: not of an entity, or its collection is gone */
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
    struct new_schema *schemas;
    uint32_t schemas_count, schemas_capacity;
    struct cairn_vector_change *changes;
    uint32_t changes_count, changes_capacity;
};

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
    free(apply->schemas);
    free(apply->changes);
    free(apply);
    *apply_ptr = NULL;
}

static void begin(struct rowstore_apply *apply, uint32_t count)
{
    cairn_arena_reset(&apply->arena);
    rocksdb_writebatch_clear(apply->batch);
    cairn_pending_begin(&apply->pending, count);
    if (apply->steps_capacity < count) {
        free(apply->steps);
        apply->steps = cairn_malloc(count * sizeof(*apply->steps));
        apply->steps_capacity = count;
    }
    apply->collections_count = 0;
    apply->schemas_count = 0;
    apply->changes_count = 0;
}

/* The apply's own number of a collection, which starts as the store has it. */
static uint32_t collection_number(struct cairn_rowstore *store, uint32_t id)
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

static int decode(struct cairn_rowstore *store, const struct cairn_log_record *records,
                  uint32_t count, struct cairn_error *err)
{
    struct rowstore_apply *apply = store->apply;
    for (uint32_t i = 0; i < count; i++) {
        const struct cairn_log_record *record = &records[i];
        struct step *step = &apply->steps[i];
        step->row = NULL;
        if (record->kind != CAIRN_RECORD_ENTITY)
            continue;
        uint32_t number = collection_number(store, record->collection);
        if (apply->collections[number].dropped)
            continue;
        if (cairn_entity_decode(record->payload, &apply->arena, &step->entity, err) != 0) {
            cairn_error_prefix(err, "record at offset %llu", (unsigned long long)record->offset);
            if (err != NULL)
                err->code = CAIRN_ECORRUPT;
            return CAIRN_ECORRUPT;
        }
        step->row =
            cairn_pending_find(&apply->pending, record->collection, number, step->entity.key);
        step->row->may_be_stored = apply->collections[number].stored > 0;
    }
    return cairn_pending_load(&apply->pending, store, &apply->arena, err);
}

/* Phase 3. */

struct vector_reader {
    struct cairn_rowstore *store;
    const struct pending_row *row;
    struct cairn_error *err;
};

static int read_vector(void *arg, struct cairn_str name, uint32_t dim, const float **f32)
{
    struct vector_reader *reader = arg;
    float *floats = cairn_arena_alloc(&reader->store->apply->arena, dim * sizeof(*floats));
    *f32 = floats;
    int code = cairn_rowstore_get_vector(reader->store, reader->row->collection, reader->row->key,
                                         name, floats, dim, reader->err);
    if (code != CAIRN_ENOVECTOR && code != CAIRN_EDIMENSION)
        return code;
    return cairn_fail(reader->err, CAIRN_ECORRUPT,
                      "row store: vector %.*s of entity %.*s differs from its row",
                      CAIRN_STR_ARG(name), CAIRN_STR_ARG(reader->row->key));
}

static void add_change(struct rowstore_apply *apply, const struct cairn_vector_change *change)
{
    if (apply->changes_count == apply->changes_capacity) {
        apply->changes_capacity += apply->changes_capacity / 2 + 64;
        apply->changes =
            cairn_realloc(apply->changes, apply->changes_capacity * sizeof(*apply->changes));
    }
    apply->changes[apply->changes_count++] = *change;
}

static void write_vectors(struct cairn_rowstore *store, const struct pending_row *row,
                          const struct cairn_row_outcome *outcome, uint64_t offset)
{
    struct rowstore_apply *apply = store->apply;
    rocksdb_column_family_handle_t *family = store->families[FAMILY_VECTORS];
    uint8_t key[CAIRN_VECTOR_KEY_BYTES_MAX];
    for (uint32_t i = 0; i < outcome->vectors_count; i++) {
        const struct cairn_row_vector_effect *vector = &outcome->vectors[i];
        size_t key_len = cairn_vector_key_write(key, row->collection, vector->name, row->key);
        if (vector->f32 != NULL) {
            size_t bytes = vector->dim * sizeof(float);
            cairn_buf_clear(&apply->value);
            char *value = cairn_buf_reserve(&apply->value, VECTOR_HEAD_BYTES + bytes);
            store_u64le(value, offset);
            memcpy(value + VECTOR_HEAD_BYTES, vector->f32, bytes);
            rocksdb_writebatch_put_cf(apply->batch, family, (const char *)key, key_len, value,
                                      VECTOR_HEAD_BYTES + bytes);
        } else {
            rocksdb_writebatch_delete_cf(apply->batch, family, (const char *)key, key_len);
        }
        struct cairn_vector_change change = {.collection = row->collection,
                                             .key = row->key,
                                             .vector = vector->name,
                                             .f32 = vector->f32,
                                             .dim = vector->dim,
                                             .offset = offset};
        add_change(apply, &change);
    }
}

static int resolve_entity(struct cairn_rowstore *store, const struct cairn_log_record *record,
                          const struct step *step, struct cairn_apply_result *result,
                          struct cairn_error *err)
{
    struct rowstore_apply *apply = store->apply;
    struct pending_row *row = step->row;
    struct rowstore_collection *collection = &apply->collections[row->collection_at];
    if (collection->dropped) { /* earlier in this batch */
        result->dropped = true;
        return 0;
    }
    struct vector_reader reader = {store, row, err};
    struct cairn_row_vector_source source = {read_vector, &reader};
    struct cairn_row_outcome outcome;
    bool routed = row->state.row.exists && row->state.row.route.len > 0;
    int code = cairn_row_merge(&row->state, &step->entity, record->ingest_time_us, record->offset,
                               &source, &apply->arena, &outcome);
    if (code != 0)
        return code;
    result->status = outcome.status;
    result->existed = outcome.existed;
    struct cairn_collection_counts *counts = &collection->counts;
    counts->entities = counts->entities + outcome.exists - outcome.existed;
    counts->routed = counts->routed + (outcome.exists && row->state.row.route.len > 0) - routed;
    int64_t event_us = row->state.row.newest.event_time_us;
    if (counts->newest_event_us < event_us)
        counts->newest_event_us = event_us;
    if (counts->newest_ingest_us < record->ingest_time_us)
        counts->newest_ingest_us = record->ingest_time_us;
    write_vectors(store, row, &outcome, record->offset);
    return 0;
}

static void delete_family(struct cairn_rowstore *store, enum rowstore_family family, uint32_t id)
{
    uint8_t start[CAIRN_ROW_KEY_BYTES_MAX], end[CAIRN_VECTOR_KEY_BYTES_MAX];
    size_t start_len = cairn_row_prefix_write(start, id);
    size_t end_len = cairn_key_prefix_end(end, cairn_row_prefix_write(end, id));
    rocksdb_writebatch_delete_range_cf(store->apply->batch, store->families[family],
                                       (const char *)start, start_len, (const char *)end, end_len);
}

static void drop_collection(struct cairn_rowstore *store, struct rowstore_collection *collection)
{
    delete_family(store, FAMILY_ROWS, collection->id);
    delete_family(store, FAMILY_VECTORS, collection->id);
    collection->dropped = true;
    collection->stored = 0;
    collection->counts = (struct cairn_collection_counts){.newest_event_us = CAIRN_TIME_NONE,
                                                          .newest_ingest_us = CAIRN_TIME_NONE};
}

static struct new_schema *schema_entry(struct rowstore_apply *apply, struct cairn_str name)
{
    for (uint32_t i = 0; i < apply->schemas_count; i++) {
        if (cairn_str_eq(apply->schemas[i].name, name))
            return &apply->schemas[i];
    }
    if (apply->schemas_count == apply->schemas_capacity) {
        apply->schemas_capacity += apply->schemas_capacity / 2 + 8;
        apply->schemas =
            cairn_realloc(apply->schemas, apply->schemas_capacity * sizeof(*apply->schemas));
    }
    apply->schemas[apply->schemas_count] =
        (struct new_schema){.name = cairn_arena_dup(&apply->arena, name)};
    return &apply->schemas[apply->schemas_count++];
}

static int resolve_schema(struct cairn_rowstore *store, const struct cairn_log_record *record,
                          struct cairn_apply_result *result, struct cairn_error *err)
{
    struct rowstore_apply *apply = store->apply;
    const struct cairn_schema *schema;
    int code = cairn_schema_decode(record->payload, &schema, err);
    if (code != 0) {
        cairn_error_prefix(err, "record at offset %llu", (unsigned long long)record->offset);
        return code;
    }
    struct new_schema *entry = schema_entry(apply, schema->name);
    if (entry->version == 0)
        entry->version = cairn_rowstore_schema_version(store, schema->name);
    if (schema->version > entry->version) {
        entry->version = schema->version;
        result->status = CAIRN_WRITE_APPLIED;
        cairn_rowstore_meta_put_schema(store, apply->batch, schema->name, record->payload);
        uint32_t number = collection_number(store, schema->id);
        if (schema->dropped && !apply->collections[number].dropped)
            drop_collection(store, &apply->collections[number]);
    }
    cairn_schema_unref(schema);
    return 0;
}

static int resolve(struct cairn_rowstore *store, const struct cairn_log_record *records,
                   uint32_t count, struct cairn_apply_result *results, struct cairn_error *err)
{
    struct rowstore_apply *apply = store->apply;
    for (uint32_t i = 0; i < count; i++) {
        int code = 0;
        results[i] = (struct cairn_apply_result){.status = CAIRN_WRITE_UNCHANGED};
        if (records[i].kind == CAIRN_RECORD_SCHEMA)
            code = resolve_schema(store, &records[i], &results[i], err);
        else if (records[i].kind != CAIRN_RECORD_ENTITY)
            code = cairn_fail(err, CAIRN_ECORRUPT,
                              "record at offset %llu is of kind %u, which this version does not "
                              "know",
                              (unsigned long long)records[i].offset, records[i].kind);
        else if (apply->steps[i].row == NULL)
            results[i].dropped = true;
        else
            code = resolve_entity(store, &records[i], &apply->steps[i], &results[i], err);
        if (code != 0)
            return code;
    }
    return 0;
}

/* Phase 4. */

static void write_row(struct cairn_rowstore *store, struct pending_row *pending)
{
    struct rowstore_apply *apply = store->apply;
    struct cairn_row_state *state = &pending->state;
    struct cairn_str encoded = cairn_row_encode(apply->encoder, &state->row);
    uint8_t key[CAIRN_ROW_KEY_BYTES_MAX];
    size_t key_len = cairn_row_key_write(key, pending->collection, pending->key);
    cairn_buf_clear(&apply->value);
    char *value = cairn_buf_reserve(&apply->value, ROW_HEAD_BYTES + encoded.len);
    store_u64le(value, (uint64_t)state->written_us);
    memcpy(value + ROW_HEAD_BYTES, encoded.ptr, encoded.len);
    rocksdb_writebatch_put_cf(apply->batch, store->families[FAMILY_ROWS], (const char *)key,
                              key_len, value, ROW_HEAD_BYTES + encoded.len);
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
        if (collection->dropped)
            continue;
        collection->stored += !row->stored;
        write_row(store, row);
    }
    for (uint32_t i = 0; i < apply->collections_count; i++)
        cairn_rowstore_meta_put_collection(store, apply->batch, &apply->collections[i]);
    cairn_rowstore_meta_put_applied(store, apply->batch, applied);
    char *text = NULL;
    rocksdb_write(store->db, store->write, apply->batch, &text);
    unblock_rows(store);
    return text != NULL ? cairn_rowstore_fail(err, text, "write to row store") : 0;
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
        code = resolve(store, records, count, out->results + skipped, err);
    if (code == 0)
        code = write_batch(store, applied, err);
    if (code != 0)
        return code;

    cairn_rowstore_meta_publish(store, apply->collections, apply->collections_count);
    for (uint32_t i = 0; i < apply->schemas_count; i++)
        cairn_rowstore_schema_publish(store, apply->schemas[i].name, apply->schemas[i].version);
    atomic_store_explicit(&store->applied, applied, memory_order_release);
    out->changes = apply->changes;
    out->changes_count = apply->changes_count;
    return 0;
}
