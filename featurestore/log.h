/* Feature log: one shard's append-only truth. The format stands in log_format.h and
 * docs/log-format.md.
 *
 * Threads: one writer (append, close); any number of readers, each with its own cursor, at the same
 * time. Cursors are closed before the log is. One process at a time has a log open.
 * Memory:  records given to append are copied to the file before it returns; a record that a
 * cursor returns is valid until the next call on that cursor. */
#ifndef CAIRN_FEATURESTORE_LOG_H
#define CAIRN_FEATURESTORE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/io.h"
#include "base/str.h"

enum cairn_record_kind { /* on disk: never renumber */
                         CAIRN_RECORD_ENTITY =
                             1, /* payload: an encoded entity event (base/record.h) */
                         CAIRN_RECORD_SCHEMA =
                             2, /* payload: a schema's canonical text (base/schema.h) */
                         CAIRN_RECORD_MAP =
                             3, /* payload: a shard map's canonical text (base/shardmap.h) */
                         CAIRN_RECORD_IMPORT =
                             4, /* payload: struct cairn_imported (base/shard_wire.h), an entity
                                   event that was first written to another shard's log */
                         CAIRN_RECORD_IMPORT_BEGIN =
                             5, /* payload: struct cairn_import_begin (import_record.h) */
                         CAIRN_RECORD_FORGET =
                             6, /* payload: keys (cairn_forget_decode, base/shard_wire.h) of the
                                   record's collection whose rows leave this shard */
};

struct cairn_log_record {
    uint64_t offset;        /* from 1, without gaps */
    int64_t ingest_time_us; /* never falls within a log */
    uint64_t token;
    uint64_t chain;      /* hash over the predecessor's header */
    uint32_t collection; /* collection id */
    uint32_t shard;
    uint8_t kind;
    uint32_t batch_remaining; /* records of the same batch that follow; 0 commits the batch */
    struct cairn_str payload; /* 8-byte aligned */
};

/* One record to append. */
struct cairn_log_entry {
    uint8_t kind;
    uint32_t collection;
    uint64_t token;
    struct cairn_str payload;
};

/* Entries that commit together. */
struct cairn_log_batch {
    const struct cairn_log_entry *entries;
    uint32_t count; /* at least 1 */
};

struct cairn_log_options {
    const char *dir; /* created if missing; the parent must exist */
    uint32_t shard;
    uint64_t segment_bytes_max; /* roll over past this; 0: CAIRN_SEGMENT_BYTES_DEFAULT */
    const struct cairn_io *io;  /* NULL: cairn_io_posix() */
};

struct cairn_log;

/* What open found, for the caller to report. */
struct cairn_log_recovery {
    uint64_t torn_bytes;   /* cut from the tail; 0: the tail was clean */
    uint64_t torn_records; /* whole records among them (of a batch without its end), if any */
    char torn_file[64];
};

/* Open or create the log, cutting a torn tail if there is one. Checks every segment's header and
 * the chain from segment to segment, and every byte of the last segment and of all after
 * `trusted_offset`: what the caller's views already reflect. A trusted offset past the log's end is
 * no error here; it means that the views hold records that the log has lost (a repair), and that
 * the caller must rebuild them. `recovery` may be NULL.
 * On success the caller owns *out. On failure *out is NULL and `err` says why:
 *   CAIRN_ECORRUPT      damage before the tail; err names file, byte and offset
 *   CAIRN_EIO           the file system refused
 *   CAIRN_ENOSPACE      there is no room to create the log
 *   CAIRN_EUNAVAILABLE  a format version that this program does not know */
int cairn_log_open(const struct cairn_log_options *options, uint64_t trusted_offset,
                   struct cairn_log **out, struct cairn_log_recovery *recovery,
                   struct cairn_error *err);

/* Append batches with one write and one fdatasync; each batch is all or nothing, and all are
 * durable on return. *first_offset is the offset of the first record; the rest follow.
 * `ingest_time_us` below an earlier one is raised to it; *ingest_time_us is what was used. On
 * failure neither of them is changed.
 *   CAIRN_ETOOLARGE  a payload or the whole call is over a limit of log_format.h
 *   CAIRN_EPARAM     no batch, an empty batch, or a record without a kind
 *   CAIRN_ENOSPACE   the disk is full; nothing of this call remains; a later call may succeed
 *   CAIRN_ENOMEM     no file descriptor for a new segment; as above
 *   CAIRN_EIO        a write or fsync failed; final: the log refuses all further appends */
int cairn_log_append(struct cairn_log *log, const struct cairn_log_batch *batches,
                     uint32_t batches_count, int64_t *ingest_time_us, uint64_t *first_offset,
                     struct cairn_error *err);

struct cairn_log_stats {
    uint64_t end_offset; /* last durable offset; 0: empty */
    uint64_t bytes;      /* of all segments */
    uint32_t segments_count;
    uint64_t fsyncs;
    uint64_t records_appended; /* since open */
    uint64_t batches_appended;
    uint64_t fsync_time_us; /* summed */
};
void cairn_log_stats(struct cairn_log *log, struct cairn_log_stats *out); /* any thread */

void cairn_log_close(struct cairn_log **log); /* sets it to NULL */

/* Reading. */
struct cairn_log_cursor;

struct cairn_log_range {
    uint64_t from_offset; /* first offset wanted; 0 or 1: the beginning */
    uint32_t collection;  /* 0: all */
    /* NULL: all. Else only records that it wants. It is asked about each that is in the range
     * otherwise, in order, and again only after a call that failed. It sees everything of a record
     * but the payload, which is empty. */
    bool (*wants)(void *context, const struct cairn_log_record *record);
    void *wants_context;
};

/* CAIRN_ENOTFOUND when from_offset lies past the end + 1. Reads nothing yet. */
int cairn_log_cursor_open(struct cairn_log *log, const struct cairn_log_range *range,
                          struct cairn_log_cursor **out, struct cairn_error *err);
/* The next durable record of the range. CAIRN_EEND at the end (call again later to follow),
 * CAIRN_ECORRUPT naming file, byte and offset: nothing is ever skipped. Records outside the range
 * have their headers and chain verified, but not their payloads. */
int cairn_log_cursor_next(struct cairn_log_cursor *cursor, struct cairn_log_record *out,
                          struct cairn_error *err);
/* The last offset that the cursor has passed, returned or not; before the first, the one before
 * from_offset. Never falls. */
uint64_t cairn_log_cursor_offset(const struct cairn_log_cursor *cursor);
void cairn_log_cursor_close(struct cairn_log_cursor **cursor);

/* Offline tools, on a directory that no process has open (`cairn log …`). */

enum cairn_log_damage {
    CAIRN_DAMAGE_NONE,
    CAIRN_DAMAGE_TORN_TAIL, /* invalid bytes past the last durable batch: open cuts them */
    CAIRN_DAMAGE_CUT,       /* durable records are missing at the end */
    CAIRN_DAMAGE_FLIPPED,   /* a checksum does not match */
    CAIRN_DAMAGE_MISPLACED, /* a valid record of another offset, shard or log (stale or misdirected)
                             */
    CAIRN_DAMAGE_HEADER,    /* a segment header is unreadable */
    CAIRN_DAMAGE_MISSING,   /* a segment is missing */
};
const char *cairn_log_damage_name(enum cairn_log_damage damage);

struct cairn_log_finding {
    enum cairn_log_damage damage;
    char file[64];   /* name within the directory */
    uint64_t byte;   /* where in the file */
    uint64_t offset; /* the first offset that cannot be read */
    char detail[256];
};

struct cairn_log_report {
    uint64_t first_offset, last_offset; /* whole batches without a gap from the start; 0: none */
    uint64_t records, batches, bytes;
    uint32_t segments_count;
    uint64_t durable_offset;          /* what the durable mark promises; 0: no mark */
    struct cairn_log_finding finding; /* the first damage */
    uint64_t readable_after;          /* records after the damage that still verify on their own */
    /* Records that were durable, as far as mark, segments and later records prove it, and that are
     * not readable in order; 0, 0: none. Repair sets them aside. */
    uint64_t lost_first_offset, lost_last_offset;
    char set_aside[64]; /* repair: the directory within `dir` that holds what was moved; "": none */
};

/* Read every byte; changes nothing. 0 whatever is found; an error only when reading is impossible.
 */
int cairn_log_check(const char *dir, const struct cairn_io *io, struct cairn_log_report *out,
                    struct cairn_error *err);
/* Make the log openable again by moving everything from the first damage on into `dir`/damaged-…/
 * (never deleting), and say what was set aside. Nothing to do is 0 too. */
int cairn_log_repair(const char *dir, const struct cairn_io *io, struct cairn_log_report *out,
                     struct cairn_error *err);

#endif
