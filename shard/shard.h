/* One shard: a feature log, the views derived from it, one writer thread.
 *
 *   submit -> queue -> writer: check preconditions -> append + fsync (group commit)
 *                              -> apply to the row store -> apply to the indexes -> done
 *
 * Threads: submit and all reads from any thread. `done` callbacks run on the writer thread and must
 * not block. Locks and lifetimes stand on top of shard.c. */
#ifndef CAIRN_SHARD_SHARD_H
#define CAIRN_SHARD_SHARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/filter.h"
#include "base/io.h"
#include "base/metrics.h"
#include "base/pool.h"
#include "base/schema.h"
#include "base/shard_wire.h"
#include "base/shardmap.h"
#include "featurestore/rowstore.h"
#include "index/index.h"

struct cairn_shard_options {
    const char *dir; /* created if missing */
    uint32_t id;
    uint64_t segment_bytes_max;    /* 0: default */
    uint64_t free_bytes_min;       /* writes get CAIRN_ENOSPACE while the disk has less than this */
    struct cairn_pool *builders;   /* background index builds; NULL: none */
    struct cairn_metrics *metrics; /* NULL: none */
    const struct cairn_io *io;     /* NULL: cairn_io_posix() */
};

struct cairn_shard;

/* Open the log, check it, open the views, replay what they lack. A log damaged before its tail does
 * not fail the open: the shard then serves reads of what its views hold and refuses writes (see
 * cairn_shard_state). */
int cairn_shard_open(const struct cairn_shard_options *options, struct cairn_shard **out,
                     struct cairn_error *err);
/* Finish what is queued, persist the views, free. Sets it to NULL. */
void cairn_shard_close(struct cairn_shard **shard);

/* A write: its items commit together or not at all. The caller owns everything in it until done is
 * called. */
struct cairn_shard_write {
    const struct cairn_shard_item *items;
    uint32_t count;                     /* at least 1 */
    struct cairn_write_result *results; /* one per item, filled before done */
    void (*done)(struct cairn_shard_write *write);
    void *context;
    /* code 0: durable and visible. CAIRN_ENOCOLLECTION: the collection was dropped before. */
    struct cairn_error error;

    struct cairn_shard_write *next; /* the shard's */
    uint64_t bytes;                 /* the shard's */
};

/* Queue a write. Returns 0 and calls done exactly once later, or returns an error and never does:
 * CAIRN_EOVERLOADED (queue full), CAIRN_ENOSPACE, CAIRN_ECORRUPT, CAIRN_EIO, CAIRN_ESHUTDOWN;
 * write->error then says more. */
int cairn_shard_submit(struct cairn_shard *shard, struct cairn_shard_write *write);

/* Reads see every write whose done ran before. `collection` is an id. */
int cairn_shard_get(struct cairn_shard *shard, uint32_t collection, struct cairn_str key,
                    struct cairn_row_pin *out, struct cairn_error *err);
int cairn_shard_get_vector(struct cairn_shard *shard, uint32_t collection, struct cairn_str key,
                           struct cairn_str vector, float *out, uint32_t dim,
                           struct cairn_error *err);
int cairn_shard_scan_open(struct cairn_shard *shard, uint32_t collection,
                          struct cairn_str after_key, struct cairn_row_scan **out,
                          struct cairn_error *err);
int cairn_shard_search(struct cairn_shard *shard, uint32_t collection, struct cairn_str vector,
                       const struct cairn_index_search *search, const struct cairn_filter *filter,
                       struct cairn_arena *arena, struct cairn_index_hit *hits,
                       uint32_t *hits_count, struct cairn_error *err);
void cairn_shard_counts(struct cairn_shard *shard, uint32_t collection,
                        struct cairn_collection_counts *out);
int cairn_shard_each_schema(struct cairn_shard *shard,
                            int (*each)(void *arg, struct cairn_str schema_text), void *arg,
                            struct cairn_error *err);
/* CAIRN_ENOVECTOR when there is no such index. */
int cairn_shard_index_stats(struct cairn_shard *shard, uint32_t collection, struct cairn_str vector,
                            struct cairn_index_stats *out);

/* Last offset that is durable and applied: what a read reflects. */
uint64_t cairn_shard_applied(const struct cairn_shard *shard);

enum cairn_shard_state { CAIRN_SHARD_SERVING, CAIRN_SHARD_READ_ONLY };
/* Any thread; `reason` (512 bytes, may be NULL) says why writes are refused. */
enum cairn_shard_state cairn_shard_state(struct cairn_shard *shard, char *reason);

struct cairn_shard_stats {
    uint32_t id;
    uint64_t applied;
    struct cairn_log_stats log;
    uint64_t queued_writes, queued_bytes;
    uint64_t row_disk_bytes, row_memory_bytes;
    uint64_t index_disk_bytes, index_memory_bytes;
    uint64_t entities;
};
void cairn_shard_stats(struct cairn_shard *shard, struct cairn_shard_stats *out);
/* Refresh the gauges in the metrics registry (offsets, bytes, depths). */
void cairn_shard_export_metrics(struct cairn_shard *shard);

#endif
