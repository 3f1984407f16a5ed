/* What the log's own files share. Nobody else includes this.
 *
 *   log_scan.c     a buffered window on a segment; is this record the one that belongs here?
 *   log_walk.c     reads a log directory and finds its end, its torn tail or its first damage
 *   log_mark.c     the durable mark
 *   log_recover.c  open: acts on what the walk found
 *   log.c          append, roll-over, statistics, close
 *   log_cursor.c   reading
 *   log_check.c    check and repair, on top of the walk */
#ifndef CAIRN_FEATURESTORE_LOG_INTERNAL_H
#define CAIRN_FEATURESTORE_LOG_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "featurestore/log.h"
#include "featurestore/log_format.h"

/* Paths */

struct cairn_log_path {
    char text[4096];
};
/* dir/name; a path that does not fit is cut, and then names no file. */
const char *cairn_log_path(struct cairn_log_path *path, const char *dir, const char *name);
/* The same for the segment that starts at `first_offset`. */
const char *cairn_log_segment_path(struct cairn_log_path *path, const char *dir,
                                   uint64_t first_offset);
/* Fill err with the code of a failed file operation: "cannot <what> <dir>/<name>: <why>". */
int cairn_log_fail_io(struct cairn_error *err, int negative_errno, const char *what,
                      const char *dir, const char *name);

/* Reading through a buffer */

struct cairn_log_window {
    const struct cairn_io *io;
    int fd; /* -1: none */
    uint8_t *bytes;
    size_t capacity;
    size_t ahead;   /* how much the next read takes; doubles up to a limit */
    uint64_t start; /* bytes[0, len) are the file's from here; a multiple of 8 */
    size_t len;
};
void cairn_log_window_init(struct cairn_log_window *window, const struct cairn_io *io);
/* Turn to another file. 0 or a negative errno. */
int cairn_log_window_open(struct cairn_log_window *window, const char *path);
/* Point *out at the file's bytes [at, at + need), reading ahead up to `limit`; valid until the next
 * call. `at` is a multiple of 8. -ENODATA when the file is shorter, or another negative errno. */
int cairn_log_window_at(struct cairn_log_window *window, uint64_t at, size_t need, uint64_t limit,
                        const uint8_t **out);
void cairn_log_window_release(struct cairn_log_window *window);

/* What the next record must be */

struct cairn_log_expect {
    uint64_t log_id;
    uint32_t shard;
    uint64_t offset;
    uint64_t chain;
    int64_t time_us;          /* not earlier than this */
    uint32_t batch_remaining; /* of the record before; 0: a batch starts here */
    uint32_t append_index;    /* if it belongs to the same append as the record before */
};
/* NULL, or why this is not the record that belongs here. */
const char *cairn_log_check_identity(const struct cairn_log_expect *expect,
                                     const struct cairn_log_record_header *header);
/* NULL, or which rule of the format a record breaks that is in its place. */
const char *cairn_log_check_rules(const struct cairn_log_expect *expect,
                                  const struct cairn_log_record_header *header);
void cairn_log_expect_advance(struct cairn_log_expect *expect,
                              const struct cairn_log_record_header *header,
                              const uint8_t *header_bytes);

/* Records that verify on their own, wherever they stand. */
struct cairn_log_survey {
    uint64_t records;        /* with a valid payload too */
    uint64_t durable_offset; /* the highest offset that a header proves was durable; 0: none */
};
/* Add what [from, to) of the window's file holds of the log `log_id` past `after_offset`. */
int cairn_log_survey_add(struct cairn_log_survey *survey, struct cairn_log_window *window,
                         uint64_t from, uint64_t to, uint64_t log_id, uint64_t after_offset);

/* The durable mark */

enum cairn_log_mark_state { CAIRN_MARK_NONE, CAIRN_MARK_DAMAGED, CAIRN_MARK_VALID };
/* 0 with *state whatever is found; a negative errno when reading is impossible. */
int cairn_log_mark_read(const struct cairn_io *io, const char *dir,
                        enum cairn_log_mark_state *state, struct cairn_log_mark *mark);
/* Descriptor of the mark file, created if missing, or a negative errno. */
int cairn_log_mark_open(const struct cairn_io *io, const char *dir);
/* Write it to the slot that its sequence chooses; not synced. 0 or a negative errno. */
int cairn_log_mark_write(const struct cairn_io *io, int fd, const struct cairn_log_mark *mark);

/* The walk */

struct cairn_log_file {
    uint64_t first_offset; /* from its name */
    uint64_t size;
    bool header_valid;
    struct cairn_log_segment_header header;
};

/* A place between two batches. */
struct cairn_log_end {
    uint32_t file;    /* index into the walk's files */
    uint64_t byte;    /* of that file */
    uint64_t offset;  /* of the last record before it; 0: none */
    uint64_t chain;   /* what the next record must carry */
    int64_t time_us;  /* the next record's is not earlier */
    uint64_t last_at; /* where in that file its last record starts; 0: it has none */
};

struct cairn_log_walk {
    /* Asked for. */
    const struct cairn_io *io;
    const char *dir;
    uint64_t trusted_offset; /* segments wholly below are checked by their ends only */
    bool shard_known;        /* `shard` is given; else it is taken from the first good header */
    uint32_t shard;
    bool survey_damage; /* after damage, count what is still readable */

    /* Found. */
    struct cairn_log_file *files; /* by first offset */
    uint32_t files_count;
    enum cairn_log_mark_state mark_state;
    struct cairn_log_mark mark;
    bool mark_foreign;  /* it is another log's */
    bool mark_conflict; /* the log has other records where the mark stands */
    uint64_t log_id;
    bool has_end;
    struct cairn_log_end end; /* of the last batch that is whole and in order */
    uint64_t records, batches;
    struct cairn_log_finding finding;
    uint64_t torn_bytes, torn_records;
    struct cairn_log_survey survey;
    struct cairn_log_window window;
};
/* Read the directory: 0 whatever is found. CAIRN_EIO, CAIRN_ENOMEM, or CAIRN_EUNAVAILABLE for a
 * format version that this program does not know. Fill the first group of fields first, zero the
 * rest; release in any case. */
int cairn_log_walk_run(struct cairn_log_walk *walk, struct cairn_error *err);
void cairn_log_walk_release(struct cairn_log_walk *walk);

/* The open log */

/* A record boundary inside a segment, so that a seek need not scan from its start. */
struct cairn_log_checkpoint {
    uint64_t offset; /* of the record that starts at `byte` */
    uint64_t byte;
    uint64_t chain; /* which it carries */
};

struct cairn_log_segment {
    /* Immutable. */
    uint64_t first_offset;
    uint64_t chain; /* of its first record */

    /* Atomic. Once `next` is set, `length` is final. */
    _Atomic uint64_t length; /* durable bytes: readers stop here */
    struct cairn_log_segment *_Atomic next;

    /* Guarded by the log's lock; ascending. */
    struct cairn_log_checkpoint *checkpoints;
    uint32_t checkpoints_count;
};

#define CAIRN_LOG_CHECKPOINT_STEP (1u << 20) /* bytes between two of them */

struct cairn_log_writer; /* the append path's reusable memory: log.c */

struct cairn_log {
    /* Immutable. */
    const struct cairn_io *io;
    char *dir;
    uint32_t shard;
    uint64_t log_id;
    uint64_t segment_bytes_max;

    /* The appender's own. */
    int fd;      /* the last segment, for writing */
    int mark_fd; /* -1: there is no mark file to write; the log works without */
    uint64_t mark_sequence;
    struct cairn_log_end tail; /* its `file` is unused */
    uint64_t reserved;         /* the last segment has disk space up to here */
    bool failed;               /* final */
    struct cairn_error failure;
    struct cairn_log_writer *writer;

    pthread_mutex_t lock; /* guards the rest; held for moments, never over I/O */
    struct cairn_log_segment **segments;
    uint32_t segments_count, segments_capacity;
    struct cairn_log_end durable; /* what readers may see; its `file` is unused */
    struct cairn_log_stats stats;
};

/* For open: a log without segments; add them in order, then publish its end. */
struct cairn_log *cairn_log_new(const struct cairn_log_options *options, uint64_t log_id);
void cairn_log_add_segment(struct cairn_log *log, uint64_t first_offset, uint64_t chain,
                           uint64_t length);
/* Make `log->tail` visible to readers and write the mark. The bytes before it are durable. */
void cairn_log_publish(struct cairn_log *log);
/* Create the segment after `log->tail`, durably, and make it the one that is written to.
 * CAIRN_ENOSPACE and CAIRN_ENOMEM leave nothing behind; other codes are final. */
int cairn_log_start_segment(struct cairn_log *log, struct cairn_error *err);

#endif
