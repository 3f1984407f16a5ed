/* What the files of shard/ share. Nobody else includes this. */
#ifndef CAIRN_SHARD_INTERNAL_H
#define CAIRN_SHARD_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/limits.h"
#include "shard/shard.h"

/* One vector field's index, shared between the catalog and the searches that use it: the last
 * reference closes it, and deletes its directory if the field's collection was dropped. */
struct shard_vector {
    atomic_uint references;
    struct cairn_str name; /* owned */
    struct cairn_index *index;
    char *dir;
    atomic_bool dropped;
};

struct shard_collection {
    const struct cairn_schema *schema; /* a reference */
    struct shard_vector *vectors[CAIRN_VECTORS_MAX];
    uint32_t vectors_count;
};

struct shard_exports {
    struct cairn_counter *fsyncs, *records, *batches, *replayed;
    struct cairn_gauge *log_bytes, *log_segments, *applied, *queued_writes, *queued_bytes,
        *rows_per_fsync;
    struct cairn_gauge *row_disk_bytes, *row_memory_bytes, *index_disk_bytes, *index_memory_bytes;
    struct cairn_gauge *index_indexed, *index_generation, *index_tail, *index_live, *read_only;
    uint64_t fsyncs_seen, records_seen, batches_seen; /* guarded by export_lock */
};

struct cairn_shard {
    /* Immutable after open. */
    uint32_t id;
    char *dir;
    const struct cairn_io *io;
    struct cairn_pool *builders;
    struct cairn_metrics *metrics;
    uint64_t free_bytes_min;
    struct cairn_log *log; /* NULL when it could not be opened: read-only */
    struct cairn_rowstore *rows;
    pthread_t writer;
    bool writer_started;

    /* Guarded by queue_lock. */
    pthread_mutex_t queue_lock;
    pthread_cond_t queue_filled;
    struct cairn_shard_write *queue_head, **queue_tail;
    uint64_t queued_writes, queued_bytes;
    bool stopping;

    /* Guarded by state_lock; `state` is also read without it. */
    pthread_mutex_t state_lock;
    atomic_int state;
    int refusal_code; /* what writes get while read-only */
    char reason[512];

    atomic_uint_fast64_t applied;

    /* Guarded by catalog_lock: changed by the writer only, so the writer reads it unlocked. */
    pthread_rwlock_t catalog_lock;
    struct shard_collection **collections;
    uint32_t collections_count;

    /* The writer's. */
    uint64_t log_bytes_saved; /* log size when the indexes were last saved */

    pthread_mutex_t export_lock;
    struct shard_exports exports;
};

/* Stop accepting writes for good: `code` is what they get, the message is the reason. */
void shard_refuse_writes(struct cairn_shard *shard, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* recovery.c: bringing views up to the log. */

/* Open the row store, then the log, then the indexes, and replay what the views lack. */
int shard_views_open(struct cairn_shard *shard, const struct cairn_shard_options *options,
                     struct cairn_error *err);
void shard_views_close(struct cairn_shard *shard);

/* indexes.c: the catalog of collections and their indexes. */

/* NULL when there is none. Writer only, or under catalog_lock. */
struct shard_collection *shard_collection_find(const struct cairn_shard *shard, uint32_t id);
void shard_collection_free(struct shard_collection *collection, bool dropped);
/* Open, change or drop a collection as a schema text says. Index files are trusted up to an offset.
 * Writer only. */
int shard_apply_schema(struct cairn_shard *shard, struct cairn_str text, uint64_t trusted_offset,
                       struct cairn_error *err);
/* The index reflects all up to `offset`, or more. Writer only. */
void shard_index_reached(struct cairn_index *index, uint64_t offset);
/* Reflect applied records in catalog and indexes. Writer only. */
int shard_views_follow(struct cairn_shard *shard, const struct cairn_log_record *records,
                       uint32_t count, const struct cairn_apply_output *output,
                       struct cairn_error *err);
/* Save index snapshots if the log has grown enough since the last time, or always when `force`. */
void shard_views_save(struct cairn_shard *shard, bool force);
/* A reference, or NULL. Release with shard_vector_release. */
struct shard_vector *shard_vector_find(struct cairn_shard *shard, uint32_t collection,
                                       struct cairn_str name);
void shard_vector_release(struct shard_vector *vector);

/* writer.c */
void *shard_writer_main(void *shard);

/* exports.c */
void shard_exports_register(struct cairn_shard *shard);

#endif
