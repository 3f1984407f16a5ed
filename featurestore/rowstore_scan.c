/* Scans in key order. A RocksDB iterator reads the store as it was when the iterator was made. */
#include "featurestore/rowstore_internal.h"

#include <stdlib.h>

/* One family's range of keys with a common prefix. */
struct range {
    rocksdb_iterator_t *iterator;
    rocksdb_readoptions_t *options;
    uint8_t end[CAIRN_VECTOR_KEY_BYTES_MAX]; /* the iterator refers to it */
    size_t prefix_len;
    struct cairn_buf key; /* unescaped, when it had escapes */
    bool started;
};

struct cairn_row_scan {
    struct range range;
    bool all; /* deleted entities too */
};

struct cairn_vector_scan {
    struct range range;
    float *aligned; /* a copy of floats that are stored at an odd address */
    uint32_t aligned_dim;
};

static void range_open(struct range *range, struct cairn_rowstore *store,
                       enum rowstore_family family, const uint8_t *start, size_t start_len)
{
    size_t end_len = cairn_key_prefix_end(range->end, range->prefix_len);
    range->options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_iterate_upper_bound(range->options, (const char *)range->end, end_len);
    /* Vectors are scanned to rebuild an index: once, and more of them than the cache holds. */
    if (family == FAMILY_VECTORS)
        rocksdb_readoptions_set_fill_cache(range->options, 0);
    range->iterator =
        rocksdb_create_iterator_cf(store->db, range->options, store->families[family]);
    rocksdb_iter_seek(range->iterator, (const char *)start, start_len);
}

static void range_close(struct range *range)
{
    if (range->iterator != NULL)
        rocksdb_iter_destroy(range->iterator);
    if (range->options != NULL)
        rocksdb_readoptions_destroy(range->options);
    cairn_buf_release(&range->key);
}

/* Step to the next entry: its key and value. */
static int range_next(struct range *range, struct cairn_str *key, struct cairn_str *value,
                      struct cairn_error *err)
{
    if (range->started && rocksdb_iter_valid(range->iterator))
        rocksdb_iter_next(range->iterator);
    range->started = true;
    if (!rocksdb_iter_valid(range->iterator)) {
        char *text = NULL;
        rocksdb_iter_get_error(range->iterator, &text);
        return text != NULL ? cairn_rowstore_fail(err, text, "scan row store")
                            : cairn_fail(err, CAIRN_EEND, "no more entries");
    }
    size_t key_len, value_len;
    const char *key_ptr = rocksdb_iter_key(range->iterator, &key_len);
    const char *value_ptr = rocksdb_iter_value(range->iterator, &value_len);
    *value = (struct cairn_str){value_ptr, (uint32_t)value_len};
    if (!cairn_row_key_read((struct cairn_str){key_ptr, (uint32_t)key_len}, range->prefix_len,
                            &range->key, key))
        return cairn_fail(err, CAIRN_ECORRUPT, "row store: malformed key of %zu bytes", key_len);
    return 0;
}

int cairn_row_scan_open(struct cairn_rowstore *store, uint32_t collection,
                        struct cairn_str after_key, struct cairn_row_scan **out,
                        struct cairn_error *err)
{
    *out = NULL;
    if (after_key.len > CAIRN_KEY_BYTES_MAX)
        return cairn_fail(err, CAIRN_EKEY, "key has %u bytes, the most is %u", after_key.len,
                          CAIRN_KEY_BYTES_MAX);
    struct cairn_row_scan *scan = cairn_calloc(1, sizeof(*scan));
    scan->range.prefix_len = cairn_row_prefix_write(scan->range.end, collection);
    uint8_t start[CAIRN_ROW_KEY_BYTES_MAX + 1];
    size_t start_len;
    if (after_key.len == 0) {
        start_len = cairn_row_prefix_write(start, collection);
    } else {
        start_len = cairn_row_key_write(start, collection, after_key);
        start[start_len++] = 0; /* the first key above it */
    }
    range_open(&scan->range, store, FAMILY_ROWS, start, start_len);
    *out = scan;
    return 0;
}

int cairn_row_scan_open_all(struct cairn_rowstore *store, uint32_t collection,
                            struct cairn_str after_key, struct cairn_row_scan **out,
                            struct cairn_error *err)
{
    int code = cairn_row_scan_open(store, collection, after_key, out, err);
    if (code == 0)
        (*out)->all = true;
    return code;
}

int cairn_row_scan_next(struct cairn_row_scan *scan, struct cairn_str *key,
                        struct cairn_row_view *view, struct cairn_error *err)
{
    for (;;) {
        struct cairn_str value;
        int code = range_next(&scan->range, key, &value, err);
        if (code != 0)
            return code;
        if (value.len <= ROW_HEAD_BYTES)
            return cairn_fail(err, CAIRN_ECORRUPT, "row store: a row has %u bytes", value.len);
        cairn_row_view_init(
            view, (struct cairn_str){value.ptr + ROW_HEAD_BYTES, value.len - ROW_HEAD_BYTES});
        if (scan->all || cairn_row_view_exists(view))
            return 0;
    }
}

void cairn_row_scan_close(struct cairn_row_scan **scan)
{
    if (*scan == NULL)
        return;
    range_close(&(*scan)->range);
    free(*scan);
    *scan = NULL;
}

int cairn_vector_scan_open(struct cairn_rowstore *store, uint32_t collection,
                           struct cairn_str vector, struct cairn_vector_scan **out,
                           struct cairn_error *err)
{
    *out = NULL;
    if (vector.len > CAIRN_NAME_BYTES_MAX)
        return cairn_fail(err, CAIRN_ENAME, "vector name has %u bytes, the most is %u", vector.len,
                          CAIRN_NAME_BYTES_MAX);
    struct cairn_vector_scan *scan = cairn_calloc(1, sizeof(*scan));
    scan->range.prefix_len = cairn_vector_prefix_write(scan->range.end, collection, vector);
    uint8_t start[CAIRN_VECTOR_KEY_BYTES_MAX];
    size_t start_len = cairn_vector_prefix_write(start, collection, vector);
    range_open(&scan->range, store, FAMILY_VECTORS, start, start_len);
    *out = scan;
    return 0;
}

int cairn_vector_scan_next(struct cairn_vector_scan *scan, struct cairn_str *key, const float **f32,
                           uint32_t *dim, uint64_t *offset, struct cairn_error *err)
{
    struct cairn_str value;
    int code = range_next(&scan->range, key, &value, err);
    if (code != 0)
        return code;
    if (value.len <= VECTOR_HEAD_BYTES || (value.len - VECTOR_HEAD_BYTES) % sizeof(float) != 0)
        return cairn_fail(err, CAIRN_ECORRUPT, "row store: a vector has %u bytes", value.len);
    *dim = (value.len - VECTOR_HEAD_BYTES) / (uint32_t)sizeof(float);
    *offset = load_u64le(value.ptr);
    const char *floats = value.ptr + VECTOR_HEAD_BYTES;
    if ((uintptr_t)floats % _Alignof(float) == 0) {
        *f32 = (const float *)(const void *)floats;
        return 0;
    }
    if (scan->aligned_dim < *dim) {
        scan->aligned = cairn_realloc(scan->aligned, *dim * sizeof(float));
        scan->aligned_dim = *dim;
    }
    memcpy(scan->aligned, floats, *dim * sizeof(float));
    *f32 = scan->aligned;
    return 0;
}

void cairn_vector_scan_close(struct cairn_vector_scan **scan)
{
    if (*scan == NULL)
        return;
    range_close(&(*scan)->range);
    free((*scan)->aligned);
    free(*scan);
    *scan = NULL;
}
