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
    uint32_t forget_after_ms;      /* rows that moved away are dropped so long after; 0: 5000 */
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
    /* code 0: durable and visible. CAIRN_ENOCOLLECTION: the collection was dropped before.
     * CAIRN_ENOTOWNER: the shard does not own the token of an item; nothing was written. */
    struct cairn_error error;

    struct cairn_shard_write *next;        /* the shard's */
    uint64_t bytes;                        /* the shard's */
    const struct shard_write_terms *terms; /* the shard's */
};

/* Queue a write of entities or schemas. Returns 0 and calls done exactly once later, or returns an
 * error and never does: CAIRN_EOVERLOADED (queue full), CAIRN_ENOSPACE, CAIRN_ECORRUPT, CAIRN_EIO,
 * CAIRN_ESHUTDOWN; write->error then says more. */
int cairn_shard_submit(struct cairn_shard *shard, struct cairn_shard_write *write);

/* Which map a read goes by. A keyed read is answered by the owner of the key's token, whatever the
 * caller's epoch. A part of a scattered read is answered only under the very epoch that it names,
 * so that all parts describe one map. */
struct cairn_shard_read {
    const struct cairn_schema *schema;
    uint64_t epoch;
    bool same_epoch;
};

/* Reads see every write whose done ran before, and no row of a token that the shard does not own.
 * CAIRN_ENOTOWNER: the shard does not own the key's token, or (same_epoch) has another map; the
 * caller then compares maps. */
int cairn_shard_get(struct cairn_shard *shard, const struct cairn_shard_read *read,
                    struct cairn_str key, struct cairn_row_pin *out, struct cairn_error *err);
/* Of a row that was just read. CAIRN_ENOVECTOR. */
int cairn_shard_get_vector(struct cairn_shard *shard, uint32_t collection, struct cairn_str key,
                           struct cairn_str vector, float *out, uint32_t dim,
                           struct cairn_error *err);
/* Rows in key order after `after_key`, as of the call. filter may be NULL. */
struct cairn_shard_scan;
int cairn_shard_scan_open(struct cairn_shard *shard, const struct cairn_shard_read *read,
                          const struct cairn_filter *filter, struct cairn_str after_key,
                          struct cairn_shard_scan **out, struct cairn_error *err);
/* CAIRN_EEND after the last. key and view are valid until the next call. */
int cairn_shard_scan_next(struct cairn_shard_scan *scan, struct cairn_str *key,
                          struct cairn_row_view *view, struct cairn_error *err);
void cairn_shard_scan_close(struct cairn_shard_scan **scan);
int cairn_shard_search(struct cairn_shard *shard, const struct cairn_shard_read *read,
                       struct cairn_str vector, const struct cairn_index_search *search,
                       const struct cairn_filter *filter, struct cairn_arena *arena,
                       struct cairn_index_hit *hits, uint32_t *hits_count, struct cairn_error *err);
/* Entities of the collection that the shard owns and the filter (NULL: none) matches. */
int cairn_shard_count(struct cairn_shard *shard, const struct cairn_shard_read *read,
                      const struct cairn_filter *filter, uint64_t *out, struct cairn_error *err);
/* While rows are being copied here or dropped, `entities` is of the last count that a report made,
 * and the rest includes them. */
void cairn_shard_counts(struct cairn_shard *shard, uint32_t collection,
                        struct cairn_collection_counts *out);
int cairn_shard_each_schema(struct cairn_shard *shard,
                            int (*each)(void *arg, struct cairn_str schema_text), void *arg,
                            struct cairn_error *err);
/* CAIRN_ENOVECTOR when there is no such index. */
int cairn_shard_index_stats(struct cairn_shard *shard, uint32_t collection, struct cairn_str vector,
                            struct cairn_index_stats *out);

/* (blocks) Execute an operation for a router in another process: all but CAIRN_SHARD_WRITE, which
 * is cairn_shard_submit, the imports, which router/ drives, and those of the map's home. Everything
 * in *answer is in the arena. answer->error says how it went; with CAIRN_ENOTOWNER answer->text is
 * the shard's map. */
void cairn_shard_execute(struct cairn_shard *shard, enum cairn_shard_op op,
                         const struct cairn_shard_request *request, struct cairn_arena *arena,
                         struct cairn_shard_answer *answer);
/* Fill in what every answer says: shard, epoch, applied, catalog_version, and the map when the
 * error is CAIRN_ENOTOWNER. */
void cairn_shard_answer_complete(struct cairn_shard *shard, struct cairn_arena *arena,
                                 struct cairn_shard_answer *answer);

/* The map that the shard goes by: the newest in its log. A reference of the caller's; NULL: it has
 * none yet, and then it owns nothing. */
const struct cairn_map *cairn_shard_map(struct cairn_shard *shard);
uint64_t cairn_shard_epoch(const struct cairn_shard *shard); /* 0: no map */
/* (blocks) Append the map to the log and go by it. 0 also when the shard has this or a newer one.
 * CAIRN_EPARAM for a map of another cluster; CAIRN_EPRECONDITION when `if_epoch` is not
 * CAIRN_OFFSET_NONE and not the shard's epoch; and what a write may meet. */
int cairn_shard_adopt(struct cairn_shard *shard, const struct cairn_map *map, uint64_t if_epoch,
                      struct cairn_error *err);

/* Moves (docs/cluster.md). All block. `move` must be one of the shard's map's plan:
 * CAIRN_ENOTOWNER when the plan is another one. */

/* As the source: records of the move after `from_offset` of the log, whole batches, until their
 * payloads have bytes_max, the log ends, or a second is over, which may bring none; waits up to
 * wait_ms when there is none. Sets progress->reached to where the next call should go on and
 * ->end_offset. */
int cairn_shard_export(struct cairn_shard *shard, const struct cairn_shard_move *move,
                       uint64_t from_offset, uint64_t bytes_max, uint32_t wait_ms,
                       struct cairn_arena *arena, struct cairn_shard_record **records,
                       uint32_t *count, struct cairn_shard_progress *progress,
                       struct cairn_error *err);
/* Hold writes to the tokens of the move for at most hold_ms (CAIRN_FREEZE_MS). On return no write
 * to them is under way and all are at or before *end_offset. CAIRN_EBUSY: another move is held. */
int cairn_shard_freeze(struct cairn_shard *shard, const struct cairn_shard_move *move,
                       uint32_t hold_ms, uint64_t *fence, uint64_t *end_offset,
                       struct cairn_error *err);
void cairn_shard_thaw(struct cairn_shard *shard, uint64_t fence);
/* Append the map, in which the move is done. CAIRN_EPRECONDITION when the hold is over. */
int cairn_shard_release(struct cairn_shard *shard, uint64_t fence, const struct cairn_map *map,
                        struct cairn_error *err);

/* As the target: drop rows left from before and append the import's beginning, unless it has begun.
 * progress says from where to copy. */
int cairn_shard_import_begin(struct cairn_shard *shard, const struct cairn_shard_move *move,
                             struct cairn_shard_progress *progress, struct cairn_error *err);
/* Append records as one batch; durable and applied on return. Those at or before what was reached
 * are left out. */
int cairn_shard_import_append(struct cairn_shard *shard, const struct cairn_shard_move *move,
                              const struct cairn_shard_record *records, uint32_t count,
                              struct cairn_error *err);

/* As source or target: digest and number of the move's records whose offset in the source's log is
 * at most `until_offset`, read from this shard's log; goes on from the last call. */
int cairn_shard_digest(struct cairn_shard *shard, const struct cairn_shard_move *move,
                       uint64_t until_offset, uint64_t digest[2], uint64_t *records,
                       struct cairn_error *err);

/* Version of the newest schema change that the shard has seen. */
uint64_t cairn_shard_catalog_version(const struct cairn_shard *shard);

/* Last offset that is durable and applied: what a read reflects. */
uint64_t cairn_shard_applied(const struct cairn_shard *shard);

enum cairn_shard_state { CAIRN_SHARD_SERVING, CAIRN_SHARD_READ_ONLY };
/* Any thread; `reason` (512 bytes, may be NULL) says why writes are refused. */
enum cairn_shard_state cairn_shard_state(struct cairn_shard *shard, char *reason);

/* (may scan, while the shard has rows that it does not own) Everything in *out is in the arena. */
void cairn_shard_report(struct cairn_shard *shard, struct cairn_arena *arena,
                        struct cairn_shard_report *out);
/* Refresh the gauges in the metrics registry (offsets, bytes, depths). */
void cairn_shard_export_metrics(struct cairn_shard *shard);

#endif
