/* The meta family: applied offset, counts of each collection, newest schema text of each name.
 * What it holds of imports and the map is in rowstore_imports.c.
 *
 * A collection's counts, 48 bytes, little-endian:
 *   0  u8   1 when it was dropped      16  u64  routed           32  i64  newest event time
 *   1  u8*7 zero                       24  u64  stored rows      40  i64  newest ingest time
 *   8  u64  entities */
#include <stdlib.h>

#include "base/schema.h"
#include "featurestore/rowstore_internal.h"

#define COUNTS_BYTES 48u

static const struct cairn_str applied_key = {"applied", 7};
static const struct cairn_str format_key = {"format", 6};

enum { COLLECTION_PREFIX = 'c', SCHEMA_PREFIX = 's' };

static void put(struct cairn_rowstore *store, rocksdb_writebatch_t *batch, struct cairn_str key,
                struct cairn_str value)
{
    rocksdb_writebatch_put_cf(batch, store->families[FAMILY_META], key.ptr, key.len, value.ptr,
                              value.len);
}

void cairn_rowstore_meta_put_applied(struct cairn_rowstore *store, rocksdb_writebatch_t *batch,
                                     uint64_t applied)
{
    char value[8];
    store_u64le(value, applied);
    put(store, batch, applied_key, (struct cairn_str){value, sizeof(value)});
}

void cairn_rowstore_meta_put_collection(struct cairn_rowstore *store, rocksdb_writebatch_t *batch,
                                        const struct rowstore_collection *collection)
{
    uint8_t key[5] = {COLLECTION_PREFIX};
    size_t key_len = 1 + cairn_row_prefix_write(key + 1, collection->id);
    char value[COUNTS_BYTES] = {(char)collection->dropped};
    store_u64le(value + 8, collection->counts.entities);
    store_u64le(value + 16, collection->counts.routed);
    store_u64le(value + 24, collection->stored);
    store_u64le(value + 32, (uint64_t)collection->counts.newest_event_us);
    store_u64le(value + 40, (uint64_t)collection->counts.newest_ingest_us);
    put(store, batch, (struct cairn_str){(const char *)key, (uint32_t)key_len},
        (struct cairn_str){value, sizeof(value)});
}

void cairn_rowstore_meta_put_schema(struct cairn_rowstore *store, rocksdb_writebatch_t *batch,
                                    struct cairn_str name, struct cairn_str text)
{
    char key[1 + CAIRN_NAME_BYTES_MAX] = {SCHEMA_PREFIX};
    memcpy(key + 1, name.ptr, name.len);
    put(store, batch, (struct cairn_str){key, 1 + name.len}, text);
}

/* Where `id` is, or belongs. */
static uint32_t collection_at(const struct cairn_rowstore *store, uint32_t id)
{
    uint32_t low = 0, high = store->collections_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (store->collections[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct rowstore_collection *cairn_rowstore_collection(const struct cairn_rowstore *store,
                                                            uint32_t id)
{
    uint32_t at = collection_at(store, id);
    bool found = at < store->collections_count && store->collections[at].id == id;
    return found ? &store->collections[at] : NULL;
}

static void set_collection(struct cairn_rowstore *store,
                           const struct rowstore_collection *collection)
{
    uint32_t at = collection_at(store, collection->id);
    if (at == store->collections_count || store->collections[at].id != collection->id) {
        if (store->collections_count == store->collections_capacity) {
            store->collections_capacity += store->collections_capacity / 2 + 8;
            store->collections = cairn_realloc(store->collections, store->collections_capacity *
                                                                       sizeof(*store->collections));
        }
        memmove(&store->collections[at + 1], &store->collections[at],
                (store->collections_count - at) * sizeof(*store->collections));
        store->collections_count++;
    }
    store->collections[at] = *collection;
}

void cairn_rowstore_meta_publish(struct cairn_rowstore *store,
                                 const struct rowstore_collection *collections, uint32_t count)
{
    pthread_mutex_lock(&store->lock);
    for (uint32_t i = 0; i < count; i++)
        set_collection(store, &collections[i]);
    pthread_mutex_unlock(&store->lock);
}

void cairn_rowstore_counts(struct cairn_rowstore *store, uint32_t collection,
                           struct cairn_collection_counts *out)
{
    *out = (struct cairn_collection_counts){.newest_event_us = CAIRN_TIME_NONE,
                                            .newest_ingest_us = CAIRN_TIME_NONE};
    pthread_mutex_lock(&store->lock);
    const struct rowstore_collection *found = cairn_rowstore_collection(store, collection);
    if (found != NULL)
        *out = found->counts;
    pthread_mutex_unlock(&store->lock);
}

static struct rowstore_schema *find_schema(const struct cairn_rowstore *store,
                                           struct cairn_str name)
{
    for (uint32_t i = 0; i < store->schemas_count; i++) {
        if (cairn_str_eq(cairn_str_from(store->schemas[i].name), name))
            return &store->schemas[i];
    }
    return NULL;
}

uint64_t cairn_rowstore_schema_version(const struct cairn_rowstore *store, struct cairn_str name)
{
    const struct rowstore_schema *schema = find_schema(store, name);
    return schema != NULL ? schema->version : 0;
}

void cairn_rowstore_schema_publish(struct cairn_rowstore *store, struct cairn_str name,
                                   uint64_t version)
{
    struct rowstore_schema *schema = find_schema(store, name);
    if (schema != NULL) {
        schema->version = version;
        return;
    }
    if (store->schemas_count == store->schemas_capacity) {
        store->schemas_capacity += store->schemas_capacity / 2 + 8;
        store->schemas =
            cairn_realloc(store->schemas, store->schemas_capacity * sizeof(*store->schemas));
    }
    store->schemas[store->schemas_count++] = (struct rowstore_schema){cairn_strdup(name), version};
}

static int load_collection(struct cairn_rowstore *store, struct cairn_str key,
                           struct cairn_str value, struct cairn_error *err)
{
    if (key.len != 5 || value.len != COUNTS_BYTES)
        return cairn_fail(err, CAIRN_ECORRUPT, "row store: counts of a collection have %u bytes",
                          value.len);
    const uint8_t *id = (const uint8_t *)key.ptr + 1;
    struct rowstore_collection collection = {
        .id = (uint32_t)id[0] << 24 | (uint32_t)id[1] << 16 | (uint32_t)id[2] << 8 | id[3],
        .dropped = value.ptr[0] != 0,
        .counts = {.entities = load_u64le(value.ptr + 8),
                   .routed = load_u64le(value.ptr + 16),
                   .newest_event_us = (int64_t)load_u64le(value.ptr + 32),
                   .newest_ingest_us = (int64_t)load_u64le(value.ptr + 40)},
        .stored = load_u64le(value.ptr + 24)};
    set_collection(store, &collection);
    return 0;
}

static int load_schema(struct cairn_rowstore *store, struct cairn_str text, struct cairn_error *err)
{
    const struct cairn_schema *schema;
    int code = cairn_schema_decode(text, &schema, err);
    if (code != 0) {
        cairn_error_prefix(err, "row store: stored schema");
        return code;
    }
    cairn_rowstore_schema_publish(store, schema->name, schema->version);
    cairn_schema_unref(schema);
    return 0;
}

static int load_entry(struct cairn_rowstore *store, struct cairn_str key, struct cairn_str value,
                      bool *has_format, struct cairn_error *err)
{
    if (cairn_str_eq(key, format_key)) {
        *has_format = value.len == 8 && load_u64le(value.ptr) == CAIRN_ROWSTORE_FORMAT;
        if (!*has_format)
            return cairn_fail(err, CAIRN_ECORRUPT, "row store: written in another format");
        return 0;
    }
    if (cairn_str_eq(key, applied_key)) {
        if (value.len != 8)
            return cairn_fail(err, CAIRN_ECORRUPT, "row store: applied offset has %u bytes",
                              value.len);
        atomic_store(&store->applied, load_u64le(value.ptr));
        return 0;
    }
    if (key.len > 0 && key.ptr[0] == COLLECTION_PREFIX)
        return load_collection(store, key, value, err);
    if (key.len > 0 && key.ptr[0] == SCHEMA_PREFIX)
        return load_schema(store, value, err);
    bool mine = false;
    int code = cairn_rowstore_imports_load(store, key, value, &mine, err);
    if (code != 0 || mine)
        return code;
    return cairn_fail(err, CAIRN_ECORRUPT, "row store: unknown entry in meta");
}

static int write_format(struct cairn_rowstore *store, struct cairn_error *err)
{
    char value[8], *text = NULL;
    store_u64le(value, CAIRN_ROWSTORE_FORMAT);
    rocksdb_put_cf(store->db, store->write, store->families[FAMILY_META], format_key.ptr,
                   format_key.len, value, sizeof(value), &text);
    return text != NULL ? cairn_rowstore_fail(err, text, "write to row store") : 0;
}

int cairn_rowstore_meta_load(struct cairn_rowstore *store, struct cairn_error *err)
{
    bool has_format = false, empty = true;
    char *text = NULL;
    int code = 0;
    rocksdb_iterator_t *iterator =
        rocksdb_create_iterator_cf(store->db, store->read, store->families[FAMILY_META]);
    for (rocksdb_iter_seek_to_first(iterator); code == 0 && rocksdb_iter_valid(iterator);
         rocksdb_iter_next(iterator)) {
        size_t key_len, value_len;
        const char *key = rocksdb_iter_key(iterator, &key_len);
        const char *value = rocksdb_iter_value(iterator, &value_len);
        empty = false;
        code = load_entry(store, (struct cairn_str){key, (uint32_t)key_len},
                          (struct cairn_str){value, (uint32_t)value_len}, &has_format, err);
    }
    rocksdb_iter_get_error(iterator, &text);
    rocksdb_iter_destroy(iterator);
    if (text != NULL)
        return cairn_rowstore_fail(err, text, "read row store's meta");
    if (code != 0)
        return code;
    if (empty)
        return write_format(store, err);
    return has_format ? 0 : cairn_fail(err, CAIRN_ECORRUPT, "row store: format is missing");
}

void cairn_rowstore_meta_free(struct cairn_rowstore *store)
{
    for (uint32_t i = 0; i < store->schemas_count; i++)
        free(store->schemas[i].name);
    free(store->schemas);
    free(store->collections);
    cairn_rowstore_imports_free(store);
}

int cairn_rowstore_each_schema(struct cairn_rowstore *store,
                               int (*each)(void *arg, struct cairn_str schema_text), void *arg,
                               struct cairn_error *err)
{
    char *text = NULL;
    int code = 0;
    char prefix = SCHEMA_PREFIX;
    rocksdb_iterator_t *iterator =
        rocksdb_create_iterator_cf(store->db, store->read, store->families[FAMILY_META]);
    for (rocksdb_iter_seek(iterator, &prefix, 1); code == 0 && rocksdb_iter_valid(iterator);
         rocksdb_iter_next(iterator)) {
        size_t key_len, value_len;
        const char *key = rocksdb_iter_key(iterator, &key_len);
        if (key_len == 0 || key[0] != prefix)
            break;
        const char *value = rocksdb_iter_value(iterator, &value_len);
        code = each(arg, (struct cairn_str){value, (uint32_t)value_len});
    }
    rocksdb_iter_get_error(iterator, &text);
    rocksdb_iter_destroy(iterator);
    if (text != NULL)
        return cairn_rowstore_fail(err, text, "read schemas of row store");
    return code;
}
