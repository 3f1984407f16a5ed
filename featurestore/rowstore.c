/* Opening, closing and point reads. How RocksDB is set up, and why:
 *
 * - No write-ahead log: the feature log is it. `atomic_flush` makes all families reach the disk in
 *   one step, so that what is found after a crash is the store as of one applied offset.
 * - The default family stays empty so that cairn_rowstore_flush can use it.
 * - Rows: small blocks, and Bloom filters over files and memtable, for point reads and for the
 *   misses of new keys. LZ4 on all levels but the first two, which are
 *   rewritten soon. Vectors: larger blocks, no compression, which floats do not repay.
 * - Everything is bounded: cache (indexes and filters live in it), memtables, open files, jobs,
 * log. The threads of background jobs are RocksDB's process-wide pool, shared by all stores. */
#include "featurestore/rowstore_internal.h"

#include <assert.h>
#include <stdlib.h>

#include "base/io.h"

#define BLOCK_CACHE_BYTES_DEFAULT  (UINT64_C(128) << 20)
#define ROW_CACHE_BYTES_DEFAULT    (UINT64_C(64) << 20)
#define WRITE_BUFFER_BYTES_DEFAULT (UINT64_C(64) << 20)
#define OPEN_FILES_MAX             256
#define MEMTABLES_MAX              2 /* per family: one filling, one on its way to disk */
#define DIAGNOSTICS_BYTES_MAX      (1u << 20)
#define LEVELS                     7
#define BLOOM_BITS_PER_KEY         10.0
#define MEMTABLE_BLOOM_SHARE       0.02 /* of the memtable: over 10 bits for each small row */

enum { INFO_LEVEL_WARN = 2 };

static const char *const family_names[FAMILIES_COUNT] = {"default", "meta", "rows", "vectors"};

static bool has_text(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

int cairn_rowstore_fail(struct cairn_error *err, char *text, const char *doing)
{
    int code = CAIRN_EIO;
    if (has_text(text, "No space left") || has_text(text, "NoSpace") ||
        has_text(text, "quota exceeded"))
        code = CAIRN_ENOSPACE;
    else if (strncmp(text, "Corruption", strlen("Corruption")) == 0)
        code = CAIRN_ECORRUPT;
    cairn_fail(err, code, "%s: %s", doing, text);
    rocksdb_free(text);
    return code;
}

/* While opening, a file that is not there, and options that do not fit what is stored, are damage
 * too: the directory itself was there or has just been made. */
static int open_fail(struct cairn_error *err, char *text, const char *dir)
{
    bool damaged = has_text(text, "No such file") ||
                   strncmp(text, "Invalid argument", strlen("Invalid argument")) == 0 ||
                   strncmp(text, "NotFound", strlen("NotFound")) == 0;
    int code = cairn_rowstore_fail(err, text, "open row store");
    if (code == CAIRN_EIO && damaged && err != NULL)
        err->code = CAIRN_ECORRUPT;
    cairn_error_prefix(err, "%s", dir);
    return code == CAIRN_EIO && damaged ? CAIRN_ECORRUPT : code;
}

static void set_tables(rocksdb_options_t *options, enum rowstore_family family,
                       rocksdb_cache_t *cache)
{
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_block_based_options_set_format_version(table, 5);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
    rocksdb_block_based_options_set_block_size(table, family == FAMILY_VECTORS ? 16384 : 4096);
    if (family == FAMILY_ROWS || family == FAMILY_VECTORS)
        rocksdb_block_based_options_set_filter_policy(
            table, rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS_PER_KEY));
    rocksdb_options_set_block_based_table_factory(options, table);
    rocksdb_block_based_options_destroy(table);
}

static void set_family(rocksdb_options_t *options, enum rowstore_family family,
                       const struct cairn_rowstore_options *asked, rocksdb_cache_t *cache,
                       int compression)
{
    uint64_t bytes =
        asked->write_buffer_bytes != 0 ? asked->write_buffer_bytes : WRITE_BUFFER_BYTES_DEFAULT;
    rocksdb_options_set_write_buffer_size(options, bytes);
    rocksdb_options_set_max_write_buffer_number(options, MEMTABLES_MAX);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 1);
    int levels[LEVELS] = {rocksdb_no_compression, rocksdb_no_compression};
    for (int i = 2; i < LEVELS; i++)
        levels[i] = family == FAMILY_ROWS ? compression : rocksdb_no_compression;
    rocksdb_options_set_num_levels(options, LEVELS);
    rocksdb_options_set_compression_per_level(options, levels, LEVELS);
    rocksdb_options_set_bottommost_compression(options, levels[LEVELS - 1]);
    if (family == FAMILY_ROWS) {
        rocksdb_options_set_memtable_whole_key_filtering(options, 1);
        rocksdb_options_set_memtable_prefix_bloom_size_ratio(options, MEMTABLE_BLOOM_SHARE);
    }
    set_tables(options, family, cache);
}

static void set_database(rocksdb_options_t *options, const struct cairn_rowstore_options *asked)
{
    unsigned threads = asked->background_threads != 0 ? asked->background_threads : 1;
    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_create_missing_column_families(options, 1);
    rocksdb_options_set_atomic_flush(options, 1);
    rocksdb_options_set_max_open_files(options, OPEN_FILES_MAX);
    rocksdb_options_set_max_background_jobs(options, (int)threads + 1); /* one of them flushes */
    rocksdb_options_set_allow_concurrent_memtable_write(options, 0);    /* there is one writer */
    rocksdb_options_set_bytes_per_sync(options, 1u << 20);
    rocksdb_options_set_skip_stats_update_on_db_open(options, 1);
    rocksdb_options_set_stats_dump_period_sec(options, 0);
    rocksdb_options_set_info_log_level(options, INFO_LEVEL_WARN);
    rocksdb_options_set_max_log_file_size(options, DIAGNOSTICS_BYTES_MAX);
    rocksdb_options_set_keep_log_file_num(options, 2);
}

/* Returns RocksDB's error text, or NULL. */
static char *open_database(struct cairn_rowstore *store, const struct cairn_rowstore_options *asked,
                           int compression)
{
    for (int i = 0; i < FAMILIES_COUNT; i++) {
        if (store->options[i] != NULL)
            rocksdb_options_destroy(store->options[i]);
        store->options[i] = rocksdb_options_create();
        set_family(store->options[i], (enum rowstore_family)i, asked, store->cache, compression);
    }
    set_database(store->options[FAMILY_DEFAULT], asked);
    char *text = NULL;
    store->db = rocksdb_open_column_families(
        store->options[FAMILY_DEFAULT], asked->dir, FAMILIES_COUNT, family_names,
        (const rocksdb_options_t *const *)store->options, store->families, &text);
    return text;
}

static void free_store(struct cairn_rowstore *store)
{
    cairn_rowstore_apply_free(&store->apply);
    cairn_rowstore_meta_free(store);
    for (int i = 0; i < FAMILIES_COUNT; i++) {
        if (store->families[i] != NULL)
            rocksdb_column_family_handle_destroy(store->families[i]);
    }
    if (store->db != NULL)
        rocksdb_close(store->db);
    for (int i = 0; i < FAMILIES_COUNT; i++) {
        if (store->options[i] != NULL)
            rocksdb_options_destroy(store->options[i]);
    }
    rocksdb_readoptions_destroy(store->read);
    rocksdb_writeoptions_destroy(store->write);
    rocksdb_cache_destroy(store->cache);
    cairn_row_cache_free(&store->row_cache);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

int cairn_rowstore_open(const struct cairn_rowstore_options *options, struct cairn_rowstore **out,
                        struct cairn_error *err)
{
    *out = NULL;
    const struct cairn_io *io = cairn_io_posix();
    int made = io->mkdir(io->context, options->dir);
    if (made != 0)
        return cairn_fail(err, cairn_code_from_errno(-made), "create %s: %s", options->dir,
                          strerror(-made));

    struct cairn_rowstore *store = cairn_calloc(1, sizeof(*store));
    pthread_mutex_init(&store->lock, NULL);
    store->cache = rocksdb_cache_create_lru(
        options->block_cache_bytes != 0 ? options->block_cache_bytes : BLOCK_CACHE_BYTES_DEFAULT);
    store->row_cache = cairn_row_cache_new(options->row_cache_bytes != 0 ? options->row_cache_bytes
                                                                         : ROW_CACHE_BYTES_DEFAULT);
    store->read = rocksdb_readoptions_create();
    store->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(store->write, 1);
    store->apply = cairn_rowstore_apply_new();

    char *text = open_database(store, options, rocksdb_lz4_compression);
    if (text != NULL && has_text(text, "not linked")) {
        rocksdb_free(text); /* a RocksDB built without LZ4 */
        text = open_database(store, options, rocksdb_no_compression);
    }
    int code =
        text != NULL ? open_fail(err, text, options->dir) : cairn_rowstore_meta_load(store, err);
    if (code != 0) {
        free_store(store);
        return code;
    }
    *out = store;
    return 0;
}

void cairn_rowstore_close(struct cairn_rowstore **store)
{
    if (*store == NULL)
        return;
    /* What cannot be flushed is replayed from the log. */
    cairn_rowstore_flush(*store, NULL);
    free_store(*store);
    *store = NULL;
}

uint64_t cairn_rowstore_applied(const struct cairn_rowstore *store)
{
    return atomic_load_explicit(&store->applied, memory_order_acquire);
}

static uint64_t family_property(struct cairn_rowstore *store, enum rowstore_family family,
                                const char *name)
{
    uint64_t value = 0;
    return rocksdb_property_int_cf(store->db, store->families[family], name, &value) == 0 ? value
                                                                                          : 0;
}

static bool has_unflushed(struct cairn_rowstore *store)
{
    uint64_t entries = 0;
    for (int i = 0; i < FAMILIES_COUNT; i++) {
        enum rowstore_family family = (enum rowstore_family)i;
        entries += family_property(store, family, "rocksdb.num-entries-active-mem-table") +
                   family_property(store, family, "rocksdb.num-immutable-mem-table");
    }
    return entries != 0;
}

/* The C API can flush one family at a time only, which could persist an applied offset without its
 * rows. Compacting the whole range of a family, though, begins by flushing all families atomically;
 * and of the default family, which is empty, there is nothing to compact after that. That call
 * reports no error, so what it left tells; a write of nothing new then brings out the reason. */
int cairn_rowstore_flush(struct cairn_rowstore *store, struct cairn_error *err)
{
    if (!has_unflushed(store))
        return 0;
    rocksdb_compactoptions_t *options = rocksdb_compactoptions_create();
    rocksdb_compactoptions_set_exclusive_manual_compaction(options, 0);
    rocksdb_compact_range_cf_opt(store->db, store->families[FAMILY_DEFAULT], options, NULL, 0, NULL,
                                 0);
    rocksdb_compactoptions_destroy(options);
    if (!has_unflushed(store))
        return 0;
    char *text = NULL;
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    cairn_rowstore_meta_put_applied(store, batch, cairn_rowstore_applied(store));
    rocksdb_write(store->db, store->write, batch, &text);
    rocksdb_writebatch_destroy(batch);
    if (text != NULL)
        return cairn_rowstore_fail(err, text, "flush row store");
    return cairn_fail(err, CAIRN_EIO, "flush row store: memtables did not reach the disk");
}

/* A pin holds a slice of RocksDB's, or a cached row, which this bit of the pointer tells. */
#define PIN_CACHED ((uintptr_t)1)

/* The row of a slice without its head. */
static struct cairn_str pinned_row(const rocksdb_pinnableslice_t *slice)
{
    size_t len;
    const char *value = rocksdb_pinnableslice_value(slice, &len);
    return (struct cairn_str){value + ROW_HEAD_BYTES, (uint32_t)(len - ROW_HEAD_BYTES)};
}

static int read_row(struct cairn_rowstore *store, const uint8_t *stored, size_t len,
                    struct cairn_row_pin *out, struct cairn_error *err)
{
    char *text = NULL;
    rocksdb_pinnableslice_t *slice = rocksdb_get_pinned_cf(
        store->db, store->read, store->families[FAMILY_ROWS], (const char *)stored, len, &text);
    if (text != NULL)
        return cairn_rowstore_fail(err, text, "read row");
    if (slice == NULL)
        return 0;
    size_t value_len;
    (void)rocksdb_pinnableslice_value(slice, &value_len);
    if (value_len <= ROW_HEAD_BYTES) {
        rocksdb_pinnableslice_destroy(slice);
        return cairn_fail(err, CAIRN_ECORRUPT, "row store: a row has %zu bytes", value_len);
    }
    cairn_row_view_init(&out->view, pinned_row(slice));
    if (!cairn_row_view_exists(&out->view)) {
        rocksdb_pinnableslice_destroy(slice);
        *out = (struct cairn_row_pin){0};
        return 0;
    }
    out->slice = slice;
    out->found = true;
    return 0;
}

int cairn_rowstore_get(struct cairn_rowstore *store, uint32_t collection, struct cairn_str key,
                       struct cairn_row_pin *out, struct cairn_error *err)
{
    *out = (struct cairn_row_pin){0};
    if (key.len > CAIRN_KEY_BYTES_MAX)
        return 0;
    uint8_t stored[CAIRN_ROW_KEY_BYTES_MAX];
    size_t len = cairn_row_key_write(stored, collection, key);
    uint64_t hash = cairn_row_cache_hash(stored, len);
    uint32_t ticket;
    struct cairn_cached_row *cached =
        cairn_row_cache_get(store->row_cache, hash, stored, len, &ticket);
    if (cached != NULL) {
        out->slice = (void *)((uintptr_t)cached | PIN_CACHED);
        out->found = true;
        cairn_row_view_init(&out->view, cairn_cached_row_value(cached));
        return 0;
    }
    int code = read_row(store, stored, len, out, err);
    if (code == 0 && out->found)
        cairn_row_cache_put(store->row_cache, hash, stored, len, pinned_row(out->slice), ticket);
    return code;
}

void cairn_row_pin_release(struct cairn_row_pin *pin)
{
    uintptr_t slice = (uintptr_t)pin->slice;
    if (slice & PIN_CACHED)
        cairn_cached_row_release((struct cairn_cached_row *)(slice & ~PIN_CACHED));
    else if (slice != 0)
        rocksdb_pinnableslice_destroy(pin->slice);
    *pin = (struct cairn_row_pin){0};
}

int cairn_rowstore_get_vector(struct cairn_rowstore *store, uint32_t collection,
                              struct cairn_str key, struct cairn_str vector, float *out,
                              uint32_t dim, struct cairn_error *err)
{
    uint8_t stored[CAIRN_VECTOR_KEY_BYTES_MAX];
    rocksdb_pinnableslice_t *slice = NULL;
    char *text = NULL;
    if (key.len <= CAIRN_KEY_BYTES_MAX && vector.len <= CAIRN_NAME_BYTES_MAX) {
        size_t len = cairn_vector_key_write(stored, collection, vector, key);
        slice = rocksdb_get_pinned_cf(store->db, store->read, store->families[FAMILY_VECTORS],
                                      (const char *)stored, len, &text);
    }
    if (text != NULL)
        return cairn_rowstore_fail(err, text, "read vector");
    if (slice == NULL)
        return cairn_fail(err, CAIRN_ENOVECTOR, "the entity has no vector %.*s",
                          CAIRN_STR_ARG(vector));
    size_t value_len;
    const char *value = rocksdb_pinnableslice_value(slice, &value_len);
    int code = 0;
    if (value_len != VECTOR_HEAD_BYTES + dim * sizeof(float))
        code = cairn_fail(
            err, CAIRN_EDIMENSION, "vector %.*s has %zu components, not %u", CAIRN_STR_ARG(vector),
            value_len < VECTOR_HEAD_BYTES ? 0 : (value_len - VECTOR_HEAD_BYTES) / 4, dim);
    else
        memcpy(out, value + VECTOR_HEAD_BYTES, dim * sizeof(float));
    rocksdb_pinnableslice_destroy(slice);
    return code;
}

void cairn_rowstore_bytes(struct cairn_rowstore *store, uint64_t *disk, uint64_t *memory)
{
    *disk = 0;
    *memory = rocksdb_cache_get_usage(store->cache) + cairn_row_cache_bytes(store->row_cache);
    for (int i = 0; i < FAMILIES_COUNT; i++) {
        enum rowstore_family family = (enum rowstore_family)i;
        *disk += family_property(store, family, "rocksdb.total-sst-files-size");
        *memory += family_property(store, family, "rocksdb.cur-size-all-mem-tables") +
                   family_property(store, family, "rocksdb.estimate-table-readers-mem");
    }
}
