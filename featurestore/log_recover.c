/* Opening a log: act on what the walk found.
 *
 *   nothing there       create the first segment
 *   in order            go on behind its end
 *   torn tail           cut it, then as above
 *   damage              refuse, saying where and why
 *
 * What lies between the mark and the end was written by an append whose sync nobody saw succeed. It
 * is read from the page cache, which may hold what the disk does not (a failed sync leaves pages
 * marked clean), so it is written again and synced before anybody may read it. */
#include "featurestore/log_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/diag.h"

static int sync_parent(const struct cairn_io *io, const char *dir)
{
    struct cairn_log_path parent;
    snprintf(parent.text, sizeof(parent.text), "%s", dir);
    size_t len = strlen(parent.text);
    while (len > 1 && parent.text[len - 1] == '/') {
        len--;
    }
    while (len > 0 && parent.text[len - 1] != '/') {
        len--;
    }
    while (len > 1 && parent.text[len - 1] == '/') {
        len--;
    }
    parent.text[len] = '\0';
    return io->sync_dir(io->context, len > 0 ? parent.text : ".");
}

static void open_mark(struct cairn_log *log)
{
    log->mark_fd = cairn_log_mark_open(log->io, log->dir);
    if (log->mark_fd < 0) {
        cairn_warn("log",
                   "%s/%s cannot be opened: %s; after a crash, lost records at the end of the log "
                   "will look like a torn tail",
                   log->dir, CAIRN_LOG_MARK_NAME, strerror(-log->mark_fd));
    }
}

static int create_log(const struct cairn_log_options *options, struct cairn_log **out,
                      struct cairn_error *err)
{
    const struct cairn_io *io = options->io;
    int rc = sync_parent(io, options->dir);
    if (rc != 0) {
        return cairn_log_fail_io(err, rc, "sync the directory of", options->dir, "");
    }
    struct cairn_log *log = cairn_log_new(options, io->random(io->context));
    log->tail.chain = cairn_log_chain_start(log->log_id);
    log->tail.time_us = INT64_MIN;
    rc = cairn_log_start_segment(log, err);
    if (rc != 0) {
        cairn_log_close(&log);
        return rc;
    }
    open_mark(log);
    cairn_log_publish(log);
    *out = log;
    return 0;
}

/* Remove a torn tail from the disk. */
static int cut_tail(const struct cairn_log_walk *walk, struct cairn_error *err)
{
    const struct cairn_io *io = walk->io;
    const char *name = walk->finding.file;
    struct cairn_log_path path;
    cairn_log_path(&path, walk->dir, name);
    uint64_t end = walk->has_end ? walk->end.byte : 0;
    const struct cairn_log_file *last = &walk->files[walk->files_count - 1];
    if (!last->header_valid) {
        /* A segment that was being started: it holds no records. */
        int rc = io->unlink(io->context, path.text);
        if (rc == 0) {
            rc = io->sync_dir(io->context, walk->dir);
        }
        return rc == 0 ? 0 : cairn_log_fail_io(err, rc, "remove", walk->dir, name);
    }
    int fd = io->open(io->context, path.text, CAIRN_OPEN_WRITE);
    if (fd < 0) {
        return cairn_log_fail_io(err, fd, "open", walk->dir, name);
    }
    int rc = io->truncate(io->context, fd, end);
    if (rc == 0) {
        rc = io->fdatasync(io->context, fd);
    }
    io->close(io->context, fd);
    return rc == 0 ? 0 : cairn_log_fail_io(err, rc, "cut the torn tail of", walk->dir, name);
}

/* Write [from, to) of the last segment again, in place, and sync it. */
static int rewrite(struct cairn_log_walk *walk, int fd, uint64_t from, uint64_t to)
{
    const struct cairn_io *io = walk->io;
    const size_t step = 1u << 20;
    for (uint64_t at = from; at < to;) {
        size_t len = to - at < step ? (size_t)(to - at) : step;
        const uint8_t *bytes;
        int rc = cairn_log_window_at(&walk->window, at, len, to, &bytes);
        if (rc == 0) {
            rc = cairn_io_write_full(io, fd, bytes, len, at);
        }
        if (rc != 0) {
            return rc;
        }
        at += len;
    }
    int rc = io->fdatasync(io->context, fd);
    return rc == 0 ? io->sync_dir(io->context, walk->dir) : rc;
}

/* Make sure that all the walk found is on the disk. */
static int settle(struct cairn_log_walk *walk, int fd, const char *name, struct cairn_error *err)
{
    const struct cairn_log_file *last = &walk->files[walk->end.file];
    uint64_t from = 0;
    if (walk->mark_state == CAIRN_MARK_VALID && walk->mark.segment_first == last->first_offset) {
        from = walk->mark.byte;
    }
    if (from == walk->end.byte) {
        return 0; /* the mark is written after the sync of what lies before it */
    }
    struct cairn_log_path path;
    int rc = cairn_log_window_open(&walk->window, cairn_log_path(&path, walk->dir, name));
    if (rc == 0) {
        rc = rewrite(walk, fd, from & ~UINT64_C(7), walk->end.byte);
    }
    return rc == 0 ? 0 : cairn_log_fail_io(err, rc, "settle", walk->dir, name);
}

/* Build the open log from a walk that ended in order. */
static int adopt(const struct cairn_log_options *options, struct cairn_log_walk *walk,
                 struct cairn_log **out, struct cairn_error *err)
{
    const struct cairn_io *io = options->io;
    char name[CAIRN_LOG_SEGMENT_NAME_BYTES];
    cairn_log_segment_name(walk->files[walk->end.file].first_offset, name);
    struct cairn_log_path path;
    int fd = io->open(io->context, cairn_log_path(&path, options->dir, name), CAIRN_OPEN_WRITE);
    if (fd < 0) {
        return cairn_log_fail_io(err, fd, "open", options->dir, name);
    }
    int rc = settle(walk, fd, name, err);
    if (rc != 0) {
        io->close(io->context, fd);
        return rc;
    }
    struct cairn_log *log = cairn_log_new(options, walk->log_id);
    for (uint32_t i = 0; i <= walk->end.file; i++) {
        const struct cairn_log_file *file = &walk->files[i];
        cairn_log_add_segment(log, file->first_offset, file->header.chain,
                              i < walk->end.file ? file->size : walk->end.byte);
    }
    log->fd = fd;
    log->tail = walk->end;
    log->reserved = walk->end.byte;
    log->mark_sequence = walk->mark_state == CAIRN_MARK_VALID ? walk->mark.sequence : 0;
    open_mark(log);
    cairn_log_publish(log);
    *out = log;
    return 0;
}

static int refuse(const struct cairn_log_walk *walk, struct cairn_error *err)
{
    const struct cairn_log_finding *finding = &walk->finding;
    return cairn_fail(err, CAIRN_ECORRUPT, "%s/%s: %s at byte %" PRIu64 ", offset %" PRIu64 ": %s",
                      walk->dir, finding->file, cairn_log_damage_name(finding->damage),
                      finding->byte, finding->offset, finding->detail);
}

static int recover(const struct cairn_log_options *options, struct cairn_log_walk *walk,
                   struct cairn_log **out, struct cairn_log_recovery *recovery,
                   struct cairn_error *err)
{
    int rc = cairn_log_walk_run(walk, err);
    if (rc != 0) {
        return rc;
    }
    if (walk->files_count > 0 && walk->mark_state != CAIRN_MARK_VALID) {
        cairn_warn("log", "%s: the durable mark is %s; relying on the segments alone", walk->dir,
                   walk->mark_state == CAIRN_MARK_NONE ? "missing" : "damaged");
    }
    if (walk->finding.damage == CAIRN_DAMAGE_TORN_TAIL) {
        rc = cut_tail(walk, err);
        if (rc != 0) {
            return rc;
        }
        recovery->torn_bytes = walk->torn_bytes;
        recovery->torn_records = walk->torn_records;
        memcpy(recovery->torn_file, walk->finding.file, sizeof(recovery->torn_file));
    } else if (walk->finding.damage != CAIRN_DAMAGE_NONE) {
        return refuse(walk, err);
    }
    return walk->has_end ? adopt(options, walk, out, err) : create_log(options, out, err);
}

int cairn_log_open(const struct cairn_log_options *options, uint64_t trusted_offset,
                   struct cairn_log **out, struct cairn_log_recovery *recovery,
                   struct cairn_error *err)
{
    struct cairn_log_options own = *options;
    struct cairn_log_recovery unseen;
    struct cairn_error unread;
    err = err ? err : &unread;
    recovery = recovery ? recovery : &unseen;
    own.io = own.io ? own.io : cairn_io_posix();
    *recovery = (struct cairn_log_recovery){0};
    *out = NULL;
    int rc = own.io->mkdir(own.io->context, own.dir);
    if (rc != 0) {
        return cairn_log_fail_io(err, rc, "create", own.dir, "");
    }
    struct cairn_log_walk walk = {
        .io = own.io,
        .dir = own.dir,
        .trusted_offset = trusted_offset,
        .shard_known = true,
        .shard = own.shard,
    };
    rc = recover(&own, &walk, out, recovery, err);
    cairn_log_walk_release(&walk);
    return rc;
}
