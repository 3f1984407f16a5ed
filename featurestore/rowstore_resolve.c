/* The third phase of an apply: what the records, one after the other, make of what is there. */
#include "featurestore/rowstore_apply.h"

#include <stdlib.h>

#include "base/schema.h"
#include "featurestore/import_record.h"

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
    int code = cairn_row_merge(&row->state, &step->entity, step->ingest_time_us, record->offset,
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
    if (counts->newest_ingest_us < step->ingest_time_us)
        counts->newest_ingest_us = step->ingest_time_us;
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
    if (code != 0)
        return cairn_apply_corrupt(record, err);
    struct new_schema *entry = schema_entry(apply, schema->name);
    if (entry->version == 0)
        entry->version = cairn_rowstore_schema_version(store, schema->name);
    if (schema->version > entry->version) {
        entry->version = schema->version;
        result->status = CAIRN_WRITE_APPLIED;
        cairn_rowstore_meta_put_schema(store, apply->batch, schema->name, record->payload);
        uint32_t number = cairn_apply_collection(store, schema->id);
        if (schema->dropped && !apply->collections[number].dropped)
            drop_collection(store, &apply->collections[number]);
    }
    cairn_schema_unref(schema);
    return 0;
}

/* What a forgotten row had of vectors is taken from the store and from the indexes. */
static void forget_vectors(struct cairn_rowstore *store, const struct pending_row *row,
                           uint64_t offset)
{
    const struct cairn_row *stored = &row->state.row;
    for (uint32_t i = 0; i < stored->cells_count; i++) {
        const struct cairn_row_cell *cell = &stored->cells[i];
        if (cell->value.type != CAIRN_TYPE_VECTOR || cell->value.len == 0)
            continue;
        struct cairn_row_vector_effect removal = {.name = cell->name};
        struct cairn_row_outcome outcome = {.vectors = &removal, .vectors_count = 1};
        write_vectors(store, row, &outcome, offset);
    }
}

static void resolve_forget(struct cairn_rowstore *store, const struct cairn_log_record *record,
                           const struct step *step, struct cairn_apply_result *result)
{
    struct rowstore_apply *apply = store->apply;
    for (uint32_t i = 0; i < step->keys_count; i++) {
        struct pending_row *pending = step->rows[i];
        const struct cairn_row *row = &pending->state.row;
        struct rowstore_collection *collection = &apply->collections[pending->collection_at];
        if (collection->dropped) { /* earlier in this batch */
            result->dropped = true;
            return;
        }
        if (row->newest.offset == 0)
            continue;
        forget_vectors(store, pending, record->offset);
        collection->counts.entities -= row->exists;
        collection->counts.routed -= row->exists && row->route.len > 0;
        pending->state = (struct cairn_row_state){.written_us = CAIRN_TIME_NONE};
        result->status = CAIRN_WRITE_APPLIED;
    }
}

static struct rowstore_import *add_import(struct rowstore_apply *apply,
                                          const struct rowstore_import *import)
{
    if (apply->imports_count == apply->imports_capacity) {
        apply->imports_capacity += apply->imports_capacity / 2 + 8;
        apply->imports =
            cairn_realloc(apply->imports, apply->imports_capacity * sizeof(*apply->imports));
    }
    apply->imports[apply->imports_count] = *import;
    return &apply->imports[apply->imports_count++];
}

/* The newest import from `source` as this apply has it; NULL: none was ever begun. */
static struct rowstore_import *newest_import(struct cairn_rowstore *store, uint32_t source)
{
    struct rowstore_apply *apply = store->apply;
    for (uint32_t i = apply->imports_count; i > 0; i--) {
        if (apply->imports[i - 1].source == source)
            return &apply->imports[i - 1];
    }
    const struct rowstore_import *known = cairn_rowstore_import_newest(store, source);
    return known != NULL ? add_import(apply, known) : NULL;
}

/* An import's progress, which counts what its collection's drop makes void, too: it has been
 * copied. */
static void follow_import(struct cairn_rowstore *store, const struct cairn_imported *imported)
{
    struct rowstore_import *import = newest_import(store, imported->source);
    if (import == NULL)
        return;
    if (import->reached < imported->source_offset)
        import->reached = imported->source_offset;
    import->records++;
    import->bytes += imported->entity.len;
}

static int begin_import(struct cairn_rowstore *store, const struct cairn_log_record *record,
                        struct cairn_error *err)
{
    struct rowstore_apply *apply = store->apply;
    struct cairn_import_begin begin;
    if (cairn_import_begin_decode(record->payload, &begin, err) != 0)
        return cairn_apply_corrupt(record, err);
    struct rowstore_import import = {.begin_offset = record->offset, .source = begin.source};
    add_import(apply, &import);
    cairn_rowstore_import_put_map(store, apply->batch, record->offset, begin.map_text);
    return 0;
}

static int resolve_map(struct rowstore_apply *apply, const struct cairn_log_record *record,
                       struct cairn_error *err)
{
    uint32_t len = record->payload.len;
    if (len == 0 || len > CAIRN_MAP_BYTES_MAX) {
        cairn_fail(err, CAIRN_ECORRUPT, "shard map: %u bytes, expected 1 to %u", len,
                   CAIRN_MAP_BYTES_MAX);
        return cairn_apply_corrupt(record, err);
    }
    apply->map = record->payload;
    return 0;
}

static int resolve_record(struct cairn_rowstore *store, const struct cairn_log_record *record,
                          const struct step *step, struct cairn_apply_result *result,
                          struct cairn_error *err)
{
    switch (record->kind) {
    case CAIRN_RECORD_SCHEMA:
        return resolve_schema(store, record, result, err);
    case CAIRN_RECORD_MAP:
        return resolve_map(store->apply, record, err);
    case CAIRN_RECORD_IMPORT_BEGIN:
        return begin_import(store, record, err);
    case CAIRN_RECORD_FORGET:
        result->dropped = step->rows == NULL;
        if (step->rows != NULL)
            resolve_forget(store, record, step, result);
        return 0;
    case CAIRN_RECORD_IMPORT:
        follow_import(store, &step->imported);
        break;
    case CAIRN_RECORD_ENTITY:
        break;
    default:
        cairn_fail(err, CAIRN_ECORRUPT, "kind %u is not known to this version", record->kind);
        return cairn_apply_corrupt(record, err);
    }
    result->dropped = step->row == NULL;
    return step->row != NULL ? resolve_entity(store, record, step, result, err) : 0;
}

int cairn_apply_resolve(struct cairn_rowstore *store, const struct cairn_log_record *records,
                        uint32_t count, struct cairn_apply_result *results, struct cairn_error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        results[i] = (struct cairn_apply_result){.status = CAIRN_WRITE_UNCHANGED};
        int code = resolve_record(store, &records[i], &store->apply->steps[i], &results[i], err);
        if (code != 0)
            return code;
    }
    return 0;
}
