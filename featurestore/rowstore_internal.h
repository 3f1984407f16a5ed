/* What the row store's files share. Not for anyone else. */
#ifndef CAIRN_FEATURESTORE_ROWSTORE_INTERNAL_H
#define CAIRN_FEATURESTORE_ROWSTORE_INTERNAL_H

#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>

#include "featurestore/row_cache.h"
#include "featurestore/rowstore.h"
#include "featurestore/rowstore_key.h"

enum rowstore_family { FAMILY_DEFAULT, FAMILY_META, FAMILY_ROWS, FAMILY_VECTORS, FAMILIES_COUNT };

/* A stored row begins with its written_us (row_merge.h), little-endian, before the encoded row. */
#define ROW_HEAD_BYTES 8u
/* A stored vector begins with the offset of the record that set it, little-endian. */
#define VECTOR_HEAD_BYTES 8u

struct rowstore_collection {
    uint32_t id;
    bool dropped;
    struct cairn_collection_counts counts;
    uint64_t stored; /* rows, those of deleted entities too: 0 means that no read can find one */
};

struct rowstore_schema {
    char *name;
    uint64_t version;
};

/* How far an import has come. */
struct rowstore_import {
    uint64_t begin_offset;
    uint32_t source;
    uint64_t reached, records, bytes;
};

struct rowstore_apply;

struct cairn_rowstore {
    /* Immutable while open. */
    rocksdb_t *db;
    rocksdb_column_family_handle_t *families[FAMILIES_COUNT];
    rocksdb_cache_t *cache;
    struct cairn_row_cache *row_cache;
    rocksdb_options_t *options[FAMILIES_COUNT]; /* the database's own are FAMILY_DEFAULT's */
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write;

    /* The writer's. */
    struct rowstore_apply *apply;
    struct rowstore_schema *schemas; /* newest version of each name */
    uint32_t schemas_count, schemas_capacity;
    struct rowstore_import *imports; /* all, by begin offset */
    uint32_t imports_count, imports_capacity;

    _Atomic uint64_t applied;

    /* Guards collections and map against readers; the writer, who alone changes them, reads without
     * it. Held for moments, and no other lock is taken under it. */
    pthread_mutex_t lock;
    struct rowstore_collection *collections; /* sorted by id */
    uint32_t collections_count, collections_capacity;
    struct cairn_buf map; /* text of the newest */
};

static inline void store_u64le(void *out, uint64_t value)
{
    uint8_t *bytes = out;
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
}

static inline uint64_t load_u64le(const void *in)
{
    const uint8_t *bytes = in;
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

/* Free RocksDB's error text and return the code it means: CAIRN_ECORRUPT, CAIRN_ENOSPACE or
 * CAIRN_EIO, with `doing` before the text. */
int cairn_rowstore_fail(struct cairn_error *err, char *text, const char *doing);

/* rowstore_meta.c */

/* Read what the meta family holds, or write the format into an empty one. CAIRN_ECORRUPT when it is
 * of another format. */
int cairn_rowstore_meta_load(struct cairn_rowstore *store, struct cairn_error *err);
void cairn_rowstore_meta_free(struct cairn_rowstore *store);
/* NULL when there is none. */
const struct rowstore_collection *cairn_rowstore_collection(const struct cairn_rowstore *store,
                                                            uint32_t id);
uint64_t cairn_rowstore_schema_version(const struct cairn_rowstore *store, struct cairn_str name);
/* Make these the collections' state, for readers too. */
void cairn_rowstore_meta_publish(struct cairn_rowstore *store,
                                 const struct rowstore_collection *collections, uint32_t count);
void cairn_rowstore_schema_publish(struct cairn_rowstore *store, struct cairn_str name,
                                   uint64_t version);
/* Add to a batch. */
void cairn_rowstore_meta_put_applied(struct cairn_rowstore *store, rocksdb_writebatch_t *batch,
                                     uint64_t applied);
void cairn_rowstore_meta_put_collection(struct cairn_rowstore *store, rocksdb_writebatch_t *batch,
                                        const struct rowstore_collection *collection);
void cairn_rowstore_meta_put_schema(struct cairn_rowstore *store, rocksdb_writebatch_t *batch,
                                    struct cairn_str name, struct cairn_str text);

/* rowstore_imports.c: imports and the map */

/* Take over an entry of the meta family that is about one. *mine tells whether it was. */
int cairn_rowstore_imports_load(struct cairn_rowstore *store, struct cairn_str key,
                                struct cairn_str value, bool *mine, struct cairn_error *err);
void cairn_rowstore_imports_free(struct cairn_rowstore *store);
/* NULL: none from that source was ever begun. */
const struct rowstore_import *cairn_rowstore_import_newest(const struct cairn_rowstore *store,
                                                           uint32_t source);
void cairn_rowstore_import_publish(struct cairn_rowstore *store,
                                   const struct rowstore_import *import);
void cairn_rowstore_map_publish(struct cairn_rowstore *store, struct cairn_str text);
/* Add to a batch. The map of an import is put once, when it begins. */
void cairn_rowstore_import_put(struct cairn_rowstore *store, rocksdb_writebatch_t *batch,
                               const struct rowstore_import *import);
void cairn_rowstore_import_put_map(struct cairn_rowstore *store, rocksdb_writebatch_t *batch,
                                   uint64_t begin_offset, struct cairn_str text);
void cairn_rowstore_map_put(struct cairn_rowstore *store, rocksdb_writebatch_t *batch,
                            struct cairn_str text);

/* rowstore_apply.c */
struct rowstore_apply *cairn_rowstore_apply_new(void);
void cairn_rowstore_apply_free(struct rowstore_apply **apply);

#endif
