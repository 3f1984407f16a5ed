/* What the meta family holds of moves: the newest map's text, and each import that was begun.
 *
 * An import is two entries, one after the other in key order: its state, which every batch with
 * records of it rewrites, and its map, which never changes and may be long.
 *
 *   "map"                        text of the newest map
 *   "i" begin-offset:u64be       state, 32 bytes, little-endian:
 *                                  0  u32  source    4  u32  zero     8  u64  reached
 *                                 16  u64  records  24  u64  bytes
 *   "i" begin-offset:u64be "m"   text of the map that it was begun with */
#include <stdlib.h>

#include "featurestore/rowstore_internal.h"

#define STATE_BYTES     32u
#define STATE_KEY_BYTES 9u
#define TEXT_KEY_BYTES  10u

enum { IMPORT_PREFIX = 'i', TEXT_SUFFIX = 'm' };

static const struct cairn_str map_key = {"map", 3};

/* `key` holds TEXT_KEY_BYTES; the first STATE_KEY_BYTES of it are the key of the state. */
static void write_key(char *key, uint64_t begin_offset)
{
    key[0] = IMPORT_PREFIX;
    for (int i = 0; i < 8; i++)
        key[1 + i] = (char)(uint8_t)(begin_offset >> (8 * (7 - i)));
    key[STATE_KEY_BYTES] = TEXT_SUFFIX;
}

static uint64_t read_key(const char *key)
{
    uint64_t begin_offset = 0;
    for (int i = 0; i < 8; i++)
        begin_offset = begin_offset << 8 | (uint8_t)key[1 + i];
    return begin_offset;
}

void cairn_rowstore_import_put(struct cairn_rowstore *store, rocksdb_writebatch_t *batch,
                               const struct rowstore_import *import)
{
    char key[TEXT_KEY_BYTES], value[STATE_BYTES];
    write_key(key, import->begin_offset);
    store_u64le(value, import->source);
    store_u64le(value + 8, import->reached);
    store_u64le(value + 16, import->records);
    store_u64le(value + 24, import->bytes);
    rocksdb_writebatch_put_cf(batch, store->families[FAMILY_META], key, STATE_KEY_BYTES, value,
                              sizeof(value));
}

void cairn_rowstore_import_put_map(struct cairn_rowstore *store, rocksdb_writebatch_t *batch,
                                   uint64_t begin_offset, struct cairn_str text)
{
    char key[TEXT_KEY_BYTES];
    write_key(key, begin_offset);
    rocksdb_writebatch_put_cf(batch, store->families[FAMILY_META], key, TEXT_KEY_BYTES, text.ptr,
                              text.len);
}

void cairn_rowstore_map_put(struct cairn_rowstore *store, rocksdb_writebatch_t *batch,
                            struct cairn_str text)
{
    rocksdb_writebatch_put_cf(batch, store->families[FAMILY_META], map_key.ptr, map_key.len,
                              text.ptr, text.len);
}

const struct rowstore_import *cairn_rowstore_import_newest(const struct cairn_rowstore *store,
                                                           uint32_t source)
{
    for (uint32_t i = store->imports_count; i > 0; i--) {
        if (store->imports[i - 1].source == source)
            return &store->imports[i - 1];
    }
    return NULL;
}

void cairn_rowstore_import_publish(struct cairn_rowstore *store,
                                   const struct rowstore_import *import)
{
    for (uint32_t i = store->imports_count; i > 0; i--) {
        if (store->imports[i - 1].begin_offset == import->begin_offset) {
            store->imports[i - 1] = *import;
            return;
        }
    }
    /* A new one begins after all others: offsets only rise, also as keys are loaded. */
    if (store->imports_count == store->imports_capacity) {
        store->imports_capacity += store->imports_capacity / 2 + 8;
        store->imports =
            cairn_realloc(store->imports, store->imports_capacity * sizeof(*store->imports));
    }
    store->imports[store->imports_count++] = *import;
}

void cairn_rowstore_map_publish(struct cairn_rowstore *store, struct cairn_str text)
{
    pthread_mutex_lock(&store->lock);
    cairn_buf_clear(&store->map);
    cairn_buf_append(&store->map, text.ptr, text.len);
    pthread_mutex_unlock(&store->lock);
}

void cairn_rowstore_map(struct cairn_rowstore *store, struct cairn_buf *out)
{
    cairn_buf_clear(out);
    pthread_mutex_lock(&store->lock);
    cairn_buf_append(out, store->map.data, store->map.len);
    pthread_mutex_unlock(&store->lock);
}

static int read_state(struct cairn_str key, struct cairn_str value, struct rowstore_import *out,
                      struct cairn_error *err)
{
    if (value.len != STATE_BYTES)
        return cairn_fail(err, CAIRN_ECORRUPT, "row store: state of an import has %u bytes",
                          value.len);
    *out = (struct rowstore_import){.begin_offset = read_key(key.ptr),
                                    .source = (uint32_t)load_u64le(value.ptr),
                                    .reached = load_u64le(value.ptr + 8),
                                    .records = load_u64le(value.ptr + 16),
                                    .bytes = load_u64le(value.ptr + 24)};
    return 0;
}

int cairn_rowstore_imports_load(struct cairn_rowstore *store, struct cairn_str key,
                                struct cairn_str value, bool *mine, struct cairn_error *err)
{
    *mine = true;
    if (cairn_str_eq(key, map_key)) {
        cairn_rowstore_map_publish(store, value);
        return 0;
    }
    *mine = key.len > 0 && key.ptr[0] == IMPORT_PREFIX &&
            (key.len == STATE_KEY_BYTES || key.len == TEXT_KEY_BYTES);
    if (!*mine || key.len == TEXT_KEY_BYTES)
        return 0;
    struct rowstore_import import;
    int code = read_state(key, value, &import, err);
    if (code == 0)
        cairn_rowstore_import_publish(store, &import);
    return code;
}

void cairn_rowstore_imports_free(struct cairn_rowstore *store)
{
    free(store->imports);
    cairn_buf_release(&store->map);
}

/* One entry of those that begin with the prefix: a state is kept in *import, and a text, which
 * follows it, completes it. */
static int visit(struct cairn_str key, struct cairn_str value, struct rowstore_import *import,
                 int (*each)(void *arg, const struct cairn_import_state *state), void *arg,
                 struct cairn_error *err)
{
    if (key.len == STATE_KEY_BYTES)
        return read_state(key, value, import, err);
    if (key.len != TEXT_KEY_BYTES || import->begin_offset != read_key(key.ptr))
        return cairn_fail(err, CAIRN_ECORRUPT, "row store: an import's map without its state");
    struct cairn_import_state state = {.begin_offset = import->begin_offset,
                                       .source = import->source,
                                       .reached = import->reached,
                                       .records = import->records,
                                       .bytes = import->bytes,
                                       .map_text = value};
    return each(arg, &state);
}

int cairn_rowstore_each_import(struct cairn_rowstore *store,
                               int (*each)(void *arg, const struct cairn_import_state *state),
                               void *arg, struct cairn_error *err)
{
    char *text = NULL;
    int code = 0;
    char prefix = IMPORT_PREFIX;
    struct rowstore_import import = {0};
    rocksdb_iterator_t *iterator =
        rocksdb_create_iterator_cf(store->db, store->read, store->families[FAMILY_META]);
    for (rocksdb_iter_seek(iterator, &prefix, 1); code == 0 && rocksdb_iter_valid(iterator);
         rocksdb_iter_next(iterator)) {
        size_t key_len, value_len;
        const char *key = rocksdb_iter_key(iterator, &key_len);
        if (key_len == 0 || key[0] != prefix)
            break;
        const char *value = rocksdb_iter_value(iterator, &value_len);
        code = visit((struct cairn_str){key, (uint32_t)key_len},
                     (struct cairn_str){value, (uint32_t)value_len}, &import, each, arg, err);
    }
    rocksdb_iter_get_error(iterator, &text);
    rocksdb_iter_destroy(iterator);
    if (text != NULL)
        return cairn_rowstore_fail(err, text, "read imports of row store");
    return code;
}
