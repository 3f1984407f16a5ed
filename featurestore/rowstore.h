/* Row store: the current row of every entity, as a view of the log, in RocksDB.
 *
 * RocksDB runs without a write-ahead log: the feature log is that. The offset a batch ends at is
 * written in the same atomic batch as its rows, so that after a crash the store is a consistent
 * prefix of the log (cairn_rowstore_applied) and the rest is replayed. Key layout: rowstore_key.h.
 *
 * Event-time resolution: each feature and vector of an entity resolves on its own to the event with
 * the highest (event time, offset); a delete or replace at (time, offset) hides what is older.
 * Existence and the statuses of writes are defined in row_merge.h.
 *
 * Threads: one writer (apply, flush, close); any number of readers at the same time. */
#ifndef CAIRN_FEATURESTORE_ROWSTORE_H
#define CAIRN_FEATURESTORE_ROWSTORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/record.h"
#include "base/str.h"
#include "base/wire.h"
#include "featurestore/log.h"

struct cairn_rowstore_options {
    const char *dir;             /* created if missing */
    uint64_t block_cache_bytes;  /* 0: 128 MiB */
    uint64_t row_cache_bytes;    /* 0: 64 MiB */
    uint64_t write_buffer_bytes; /* 0: 64 MiB, twice for rows and twice for vectors; bounds what a
                                    crash makes the log replay */
    unsigned background_threads; /* 0: 1 */
};

struct cairn_rowstore;

/* CAIRN_ECORRUPT: the store cannot be opened (the caller may move it aside and rebuild it from the
 * log); CAIRN_EIO, CAIRN_ENOSPACE. */
int cairn_rowstore_open(const struct cairn_rowstore_options *options, struct cairn_rowstore **out,
                        struct cairn_error *err);
/* Flushes first, so that a clean restart replays nothing. Sets it to NULL. */
void cairn_rowstore_close(struct cairn_rowstore **store);

/* Last log offset whose effects are in the store; 0: none. */
uint64_t cairn_rowstore_applied(const struct cairn_rowstore *store);

/* A vector that became current or went away by an apply, for the index view. */
struct cairn_vector_change {
    uint32_t collection;
    struct cairn_str key;
    struct cairn_str vector; /* field name */
    const float *f32;        /* NULL: removed */
    uint32_t dim;
    uint64_t offset; /* of the record that caused it */
};

/* What one record did. */
struct cairn_apply_result {
    enum cairn_write_status status; /* a delete of what is not there: UNCHANGED */
    bool existed;                   /* the entity existed before */
    bool dropped;                   /* its collection is gone: nothing was stored */
};

struct cairn_apply_output {
    struct cairn_apply_result *results; /* one per record; caller's array */
    const struct cairn_vector_change
        *changes; /* the store's, until its next apply; in record order */
    uint32_t changes_count;
};

/* Apply records in offset order, as one atomic batch. Records at or below the applied offset are
 * skipped (results zeroed), so that replay may start early. Entity records must carry valid
 * payloads: the log verified them when they were appended. Records of a collection that was dropped
 * are ignored (UNCHANGED, dropped), as is a schema that is not newer than the stored one of its
 * name. A drop takes a collection's vectors away without listing them as changes. Changes point
 * into the records' payloads.
 *
 *   import        an entity event like any other, at this log's offset, with the ingest time that
 *                 it had where it was first written. It moves the newest import of its source
 *                 on; without one, it has no progress to keep.
 *   import begin  adds an import that has reached nothing. UNCHANGED.
 *   map           becomes the map; the text is the caller's to check. UNCHANGED.
 *   forget        the keys' rows and vectors go, tombstones too: a later event finds an entity that
 *                 was never seen. Each current vector is a change with f32 NULL. APPLIED when a row
 *                 was there, else UNCHANGED. Its rows are all loaded, so give few of these at once.
 *
 * On failure nothing was applied. CAIRN_EIO, CAIRN_ENOSPACE, CAIRN_ECORRUPT (a payload that is not
 * of its record's kind, an unknown kind; err names the record's offset). */
int cairn_rowstore_apply(struct cairn_rowstore *store, const struct cairn_log_record *records,
                         uint32_t count, struct cairn_apply_output *out, struct cairn_error *err);

/* Persist all that is applied (memtables to disk). */
int cairn_rowstore_flush(struct cairn_rowstore *store, struct cairn_error *err);

/* A pinned stored row. Release with cairn_row_pin_release; {0} is empty and may be released. A cell
 * of type VECTOR with len 0 remembers when a vector was removed: to readers that vector is missing.
 */
struct cairn_row_pin {
    void *slice;
    struct cairn_row_view view;
    bool found; /* the entity exists */
};
int cairn_rowstore_get(struct cairn_rowstore *store, uint32_t collection, struct cairn_str key,
                       struct cairn_row_pin *out, struct cairn_error *err);
void cairn_row_pin_release(struct cairn_row_pin *pin);

/* Copy a current vector into `out` (dim components). CAIRN_ENOVECTOR when the entity has none,
 * CAIRN_EDIMENSION when it has another number of components. */
int cairn_rowstore_get_vector(struct cairn_rowstore *store, uint32_t collection,
                              struct cairn_str key, struct cairn_str vector, float *out,
                              uint32_t dim, struct cairn_error *err);

/* Iterate a collection's existing entities in key order over a snapshot of the store. */
struct cairn_row_scan;
int cairn_row_scan_open(struct cairn_rowstore *store, uint32_t collection,
                        struct cairn_str after_key /* len 0: start */, struct cairn_row_scan **out,
                        struct cairn_error *err);
/* The same, and visits the rows of deleted entities too: cairn_row_view_exists tells. */
int cairn_row_scan_open_all(struct cairn_rowstore *store, uint32_t collection,
                            struct cairn_str after_key, struct cairn_row_scan **out,
                            struct cairn_error *err);
/* CAIRN_EEND after the last. key and view are valid until the next call. */
int cairn_row_scan_next(struct cairn_row_scan *scan, struct cairn_str *key,
                        struct cairn_row_view *view, struct cairn_error *err);
void cairn_row_scan_close(struct cairn_row_scan **scan);

/* Iterate the current vectors of one field in key order. `f32` is valid until the next call. */
struct cairn_vector_scan;
int cairn_vector_scan_open(struct cairn_rowstore *store, uint32_t collection,
                           struct cairn_str vector, struct cairn_vector_scan **out,
                           struct cairn_error *err);
int cairn_vector_scan_next(struct cairn_vector_scan *scan, struct cairn_str *key, const float **f32,
                           uint32_t *dim, uint64_t *offset, struct cairn_error *err);
void cairn_vector_scan_close(struct cairn_vector_scan **scan);

struct cairn_collection_counts {
    uint64_t entities; /* existing */
    uint64_t routed;   /* of these, written with a route other than their key */
    int64_t newest_event_us, newest_ingest_us; /* CAIRN_TIME_NONE: none */
};
/* Kept exact by apply; O(1). Zeroes for an unknown collection. */
void cairn_rowstore_counts(struct cairn_rowstore *store, uint32_t collection,
                           struct cairn_collection_counts *out);

/* The newest schema text of every collection ever created on this shard, dropped ones too. */
int cairn_rowstore_each_schema(struct cairn_rowstore *store,
                               int (*each)(void *arg, struct cairn_str schema_text), void *arg,
                               struct cairn_error *err);

/* The newest map's text, in place of what `out` holds; empty when there is none. Any thread. */
void cairn_rowstore_map(struct cairn_rowstore *store, struct cairn_buf *out);

/* An import, as far as it is applied. */
struct cairn_import_state {
    uint64_t begin_offset; /* of the record that began it */
    uint32_t source;
    uint64_t reached; /* offset of the source's log that the last record copied had; 0: none yet */
    uint64_t records, bytes;   /* copied; bytes are those of the encoded entities */
    struct cairn_str map_text; /* that it was begun with; valid during the call */
};
/* Every import that was ever begun, in the order of their beginnings. Any thread. A value other
 * than 0 from `each` ends it and is returned. */
int cairn_rowstore_each_import(struct cairn_rowstore *store,
                               int (*each)(void *arg, const struct cairn_import_state *state),
                               void *arg, struct cairn_error *err);

/* Estimated bytes on disk and in memory (memtables, cache, readers). */
void cairn_rowstore_bytes(struct cairn_rowstore *store, uint64_t *disk, uint64_t *memory);

#endif
