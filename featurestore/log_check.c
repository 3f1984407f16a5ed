/* Check and repair, for a log that no process has open.
 *
 * Repair keeps the longest run of whole batches from the start and moves the rest into
 * `damaged-<time>-<random>/` beside them: whole segments by renaming them, last one first, and the
 * end of the last kept segment by copying it before it is cut. The durable mark goes last. A repair
 * that is interrupted therefore leaves a log that is damaged at the same place, and can be run
 * again. */
#include "featurestore/log_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *cairn_log_damage_name(enum cairn_log_damage damage)
{
    switch (damage) {
    case CAIRN_DAMAGE_NONE:
        return "none";
    case CAIRN_DAMAGE_TORN_TAIL:
        return "torn tail";
    case CAIRN_DAMAGE_CUT:
        return "cut";
    case CAIRN_DAMAGE_FLIPPED:
        return "flipped";
    case CAIRN_DAMAGE_MISPLACED:
        return "misplaced";
    case CAIRN_DAMAGE_HEADER:
        return "header";
    case CAIRN_DAMAGE_MISSING:
        return "missing";
    }
    return "unknown";
}

static uint64_t largest(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void fill_report(const struct cairn_log_walk *walk, struct cairn_log_report *out)
{
    uint64_t last = walk->has_end ? walk->end.offset : 0;
    uint64_t promised =
        walk->mark_state == CAIRN_MARK_VALID && !walk->mark_foreign ? walk->mark.offset : 0;
    uint64_t durable = largest(promised, walk->survey.durable_offset);
    *out = (struct cairn_log_report){
        .first_offset = last > 0 ? walk->files[0].first_offset : 0,
        .last_offset = last,
        .records = walk->records,
        .batches = walk->batches,
        .segments_count = walk->files_count,
        .durable_offset = promised,
        .finding = walk->finding,
        .readable_after = walk->survey.records,
        .lost_first_offset = durable > last ? last + 1 : 0,
        .lost_last_offset = durable > last ? durable : 0,
    };
    for (uint32_t i = 0; i < walk->files_count; i++) {
        out->bytes += walk->files[i].size;
    }
}

static int walk_all(struct cairn_log_walk *walk, const char *dir, const struct cairn_io *io,
                    struct cairn_error *err)
{
    *walk = (struct cairn_log_walk){
        .io = io ? io : cairn_io_posix(), .dir = dir, .survey_damage = true};
    return cairn_log_walk_run(walk, err);
}

int cairn_log_check(const char *dir, const struct cairn_io *io, struct cairn_log_report *out,
                    struct cairn_error *err)
{
    struct cairn_log_walk walk;
    *out = (struct cairn_log_report){0};
    int rc = walk_all(&walk, dir, io, err);
    if (rc == 0) {
        fill_report(&walk, out);
    }
    cairn_log_walk_release(&walk);
    return rc;
}

struct repair {
    const struct cairn_io *io;
    struct cairn_log_walk *walk;
    char name[64];               /* of the directory for what is set aside */
    struct cairn_log_path aside; /* its path */
};

static int make_aside(struct repair *repair, struct cairn_error *err)
{
    const struct cairn_io *io = repair->io;
    const char *dir = repair->walk->dir;
    /* The random part keeps two repairs apart whatever the clock says: nothing is overwritten. */
    snprintf(repair->name, sizeof(repair->name), "damaged-%" PRId64 "-%08" PRIx32,
             io->now_us(io->context), (uint32_t)io->random(io->context));
    cairn_log_path(&repair->aside, dir, repair->name);
    int rc = io->mkdir(io->context, repair->aside.text);
    if (rc == 0) {
        rc = io->sync_dir(io->context, dir);
    }
    return rc == 0 ? 0 : cairn_log_fail_io(err, rc, "create", dir, repair->name);
}

/* Rename a file of the log into the directory for what is set aside. */
static int move_aside(struct repair *repair, const char *name, struct cairn_error *err)
{
    const struct cairn_io *io = repair->io;
    struct cairn_log_path from, to;
    int rc = io->rename(io->context, cairn_log_path(&from, repair->walk->dir, name),
                        cairn_log_path(&to, repair->aside.text, name));
    return rc == 0 ? 0 : cairn_log_fail_io(err, rc, "move aside", repair->walk->dir, name);
}

/* Copy [from, to) of the file in the walk's window to a new file. */
static int copy_end(struct repair *repair, const char *path, uint64_t from, uint64_t to)
{
    const struct cairn_io *io = repair->io;
    const size_t step = 1u << 20;
    int fd = io->open(io->context, path, CAIRN_OPEN_CREATE);
    if (fd < 0) {
        return fd;
    }
    int rc = 0;
    for (uint64_t at = from; rc == 0 && at < to;) {
        size_t len = to - at < step ? (size_t)(to - at) : step;
        const uint8_t *bytes;
        rc = cairn_log_window_at(&repair->walk->window, at, len, to, &bytes);
        if (rc == 0) {
            rc = cairn_io_write_full(io, fd, bytes, len, at - from);
        }
        at += len;
    }
    if (rc == 0) {
        rc = io->fdatasync(io->context, fd);
    }
    io->close(io->context, fd);
    return rc;
}

/* Set aside and cut what follows the end of the last kept segment. */
static int cut_end(struct repair *repair, struct cairn_error *err)
{
    const struct cairn_io *io = repair->io;
    struct cairn_log_walk *walk = repair->walk;
    const struct cairn_log_file *file = &walk->files[walk->end.file];
    char name[CAIRN_LOG_SEGMENT_NAME_BYTES];
    char copy_name[64];
    struct cairn_log_path path, copy;
    cairn_log_segment_name(file->first_offset, name);
    snprintf(copy_name, sizeof(copy_name), "%s.from-%" PRIu64, name, walk->end.byte);
    cairn_log_path(&path, walk->dir, name);
    int rc = cairn_log_window_open(&walk->window, path.text);
    if (rc == 0) {
        rc = copy_end(repair, cairn_log_path(&copy, repair->aside.text, copy_name), walk->end.byte,
                      file->size);
    }
    if (rc == 0) {
        rc = io->sync_dir(io->context, repair->aside.text);
    }
    if (rc != 0) {
        return cairn_log_fail_io(err, rc, "copy the end of", walk->dir, name);
    }
    int fd = io->open(io->context, path.text, CAIRN_OPEN_WRITE);
    rc = fd < 0 ? fd : io->truncate(io->context, fd, walk->end.byte);
    if (rc == 0) {
        rc = io->fdatasync(io->context, fd);
    }
    if (fd >= 0) {
        io->close(io->context, fd);
    }
    return rc == 0 ? 0 : cairn_log_fail_io(err, rc, "cut", walk->dir, name);
}

/* Move every segment after the last kept one. */
static int move_segments(struct repair *repair, struct cairn_error *err)
{
    const struct cairn_log_walk *walk = repair->walk;
    uint32_t kept = walk->has_end ? walk->end.file + 1 : 0;
    for (uint32_t i = walk->files_count; i-- > kept;) {
        char name[CAIRN_LOG_SEGMENT_NAME_BYTES];
        cairn_log_segment_name(walk->files[i].first_offset, name);
        int rc = move_aside(repair, name, err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* Replace the mark by one for what is kept. */
static int renew_mark(struct repair *repair, struct cairn_error *err)
{
    const struct cairn_io *io = repair->io;
    const struct cairn_log_walk *walk = repair->walk;
    if (walk->mark_state != CAIRN_MARK_NONE) {
        int rc = move_aside(repair, CAIRN_LOG_MARK_NAME, err);
        if (rc != 0) {
            return rc;
        }
    }
    if (!walk->has_end) {
        return 0;
    }
    struct cairn_log_mark mark = {
        .sequence = 1,
        .log_id = walk->log_id,
        .segment_first = walk->files[walk->end.file].first_offset,
        .byte = walk->end.byte,
        .offset = walk->end.offset,
        .chain = walk->end.chain,
        .shard = walk->shard,
    };
    int fd = cairn_log_mark_open(io, walk->dir);
    int rc = fd < 0 ? fd : cairn_log_mark_write(io, fd, &mark);
    if (fd >= 0) {
        io->close(io->context, fd);
    }
    return rc == 0 ? 0 : cairn_log_fail_io(err, rc, "write", walk->dir, CAIRN_LOG_MARK_NAME);
}

static int repair_run(struct repair *repair, struct cairn_error *err)
{
    struct cairn_log_walk *walk = repair->walk;
    int rc = make_aside(repair, err);
    if (rc == 0) {
        rc = move_segments(repair, err);
    }
    if (rc == 0 && walk->has_end && walk->files[walk->end.file].size > walk->end.byte) {
        rc = cut_end(repair, err);
    }
    if (rc == 0) {
        rc = renew_mark(repair, err);
    }
    if (rc != 0) {
        return rc;
    }
    int sync_rc = repair->io->sync_dir(repair->io->context, repair->aside.text);
    if (sync_rc == 0) {
        sync_rc = repair->io->sync_dir(repair->io->context, walk->dir);
    }
    return sync_rc == 0 ? 0 : cairn_log_fail_io(err, sync_rc, "sync", walk->dir, "");
}

int cairn_log_repair(const char *dir, const struct cairn_io *io, struct cairn_log_report *out,
                     struct cairn_error *err)
{
    struct cairn_log_walk walk;
    *out = (struct cairn_log_report){0};
    int rc = walk_all(&walk, dir, io, err);
    if (rc == 0) {
        fill_report(&walk, out);
    }
    if (rc == 0 && walk.finding.damage != CAIRN_DAMAGE_NONE) {
        struct repair repair = {.io = walk.io, .walk = &walk};
        rc = repair_run(&repair, err);
        memcpy(out->set_aside, repair.name, sizeof(out->set_aside));
    }
    cairn_log_walk_release(&walk);
    return rc;
}
