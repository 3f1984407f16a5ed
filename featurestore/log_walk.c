/* The walk over a log directory: list the segments, read the mark, then go through the segments in
 * order and stop at the first thing that is not as it should be.
 *
 * What makes damage out of invalid bytes, instead of a torn tail that open may cut:
 *   1. they are not in the last segment: a segment is started only when all before it is durable;
 *   2. they stand before the durable mark;
 *   3. a valid record stands where another one belongs: no interrupted write looks like that;
 *   4. a later header says that the log was durable beyond them when it was written (its append
 *      index). Later records of the same append prove nothing: before a sync, the disk may write
 *      its blocks in any order. */
#include "featurestore/log_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define HEADER_BYTES CAIRN_LOG_SEGMENT_HEADER_BYTES

__attribute__((format(printf, 6, 7))) static void found(struct cairn_log_walk *walk,
                                                        enum cairn_log_damage damage,
                                                        const char *file, uint64_t byte,
                                                        uint64_t offset, const char *format, ...)
{
    struct cairn_log_finding *finding = &walk->finding;
    *finding = (struct cairn_log_finding){.damage = damage, .byte = byte, .offset = offset};
    snprintf(finding->file, sizeof(finding->file), "%s", file);
    va_list args;
    va_start(args, format);
    vsnprintf(finding->detail, sizeof(finding->detail), format, args);
    va_end(args);
}

/* The name of a segment by value, so that it can stand in an argument list. */
struct segment_name {
    char text[CAIRN_LOG_SEGMENT_NAME_BYTES];
};
static struct segment_name name_of(uint64_t first_offset)
{
    struct segment_name name;
    cairn_log_segment_name(first_offset, name.text);
    return name;
}

static int fail_segment(struct cairn_error *err, int rc, const char *what,
                        const struct cairn_log_walk *walk, uint64_t first_offset)
{
    return cairn_log_fail_io(err, rc, what, walk->dir, name_of(first_offset).text);
}

/* The next offset that is needed: one past what is readable so far. */
static uint64_t next_offset(const struct cairn_log_walk *walk)
{
    return walk->has_end ? walk->end.offset + 1 : 1;
}

/* Listing */

static int add_file(void *arg, const char *name)
{
    struct cairn_log_walk *walk = arg;
    uint64_t first_offset;
    if (!cairn_log_segment_name_parse(name, &first_offset)) {
        return 0;
    }
    uint32_t count = walk->files_count;
    if ((count & (count - 1)) == 0) { /* full at each power of two */
        walk->files =
            cairn_realloc(walk->files, (count > 0 ? 2 * count : 1) * sizeof(*walk->files));
    }
    walk->files[walk->files_count++] = (struct cairn_log_file){.first_offset = first_offset};
    return 0;
}

static int compare_files(const void *a, const void *b)
{
    uint64_t first = ((const struct cairn_log_file *)a)->first_offset;
    uint64_t second = ((const struct cairn_log_file *)b)->first_offset;
    return (first > second) - (first < second);
}

static int read_header(struct cairn_log_walk *walk, struct cairn_log_file *file,
                       struct cairn_error *err)
{
    const struct cairn_io *io = walk->io;
    struct cairn_log_path path;
    int fd = io->open(io->context, cairn_log_segment_path(&path, walk->dir, file->first_offset),
                      CAIRN_OPEN_READ);
    if (fd < 0) {
        return fail_segment(err, fd, "open", walk, file->first_offset);
    }
    uint8_t bytes[HEADER_BYTES];
    int rc = io->size(io->context, fd, &file->size);
    if (rc == 0 && file->size >= sizeof(bytes)) {
        rc = cairn_io_read_full(io, fd, bytes, sizeof(bytes), 0);
        file->header_valid = rc == 0 && cairn_log_segment_header_decode(bytes, &file->header);
    }
    io->close(io->context, fd);
    if (rc != 0) {
        return fail_segment(err, rc, "read", walk, file->first_offset);
    }
    if (file->header_valid && file->header.version != CAIRN_LOG_VERSION) {
        return cairn_fail(err, CAIRN_EUNAVAILABLE,
                          "%s: log format version %" PRIu32 " is not known to this program",
                          path.text, file->header.version);
    }
    return 0;
}

static int list_files(struct cairn_log_walk *walk, struct cairn_error *err)
{
    int rc = walk->io->list(walk->io->context, walk->dir, add_file, walk);
    if (rc != 0) {
        return cairn_log_fail_io(err, rc, "list", walk->dir, "");
    }
    if (walk->files_count > 1) {
        qsort(walk->files, walk->files_count, sizeof(*walk->files), compare_files);
    }
    for (uint32_t i = 0; i < walk->files_count; i++) {
        rc = read_header(walk, &walk->files[i], err);
        if (rc != 0) {
            return rc;
        }
    }
    rc = cairn_log_mark_read(walk->io, walk->dir, &walk->mark_state, &walk->mark);
    return rc == 0 ? 0 : cairn_log_fail_io(err, rc, "open", walk->dir, CAIRN_LOG_MARK_NAME);
}

/* Which log is this? The mark's, if any segment agrees; else the first readable segment's. */
static void identify(struct cairn_log_walk *walk)
{
    const struct cairn_log_segment_header *first = NULL;
    bool mark_agrees = false;
    for (uint32_t i = walk->files_count; i-- > 0;) {
        if (walk->files[i].header_valid) {
            first = &walk->files[i].header;
            mark_agrees |=
                walk->mark_state == CAIRN_MARK_VALID && first->log_id == walk->mark.log_id;
        }
    }
    bool by_mark = walk->mark_state == CAIRN_MARK_VALID && (mark_agrees || !first);
    walk->mark_foreign = walk->mark_state == CAIRN_MARK_VALID && !by_mark;
    walk->log_id = by_mark ? walk->mark.log_id : first ? first->log_id : 0;
    if (!walk->shard_known) {
        walk->shard = by_mark ? walk->mark.shard : first ? first->shard : 0;
    }
}

static bool mark_usable(const struct cairn_log_walk *walk)
{
    return walk->mark_state == CAIRN_MARK_VALID && !walk->mark_foreign;
}

/* Whether the mark says that more than the first `byte` bytes of a segment, or a later segment,
 * are durable. */
static bool mark_covers(const struct cairn_log_walk *walk, uint64_t first_offset, uint64_t byte)
{
    return mark_usable(walk) &&
           (walk->mark.segment_first > first_offset ||
            (walk->mark.segment_first == first_offset && walk->mark.byte > byte));
}

/* One segment's records */

struct scan {
    struct cairn_log_walk *walk;
    const struct cairn_log_file *file;
    uint64_t at;
    uint64_t limit; /* records must end by here */
    struct cairn_log_expect expect;
    uint64_t loose_records; /* valid, of a batch not yet committed */
    bool mark_passed;
};

static void scan_found(struct scan *scan, enum cairn_log_damage damage, const char *detail)
{
    found(scan->walk, damage, name_of(scan->file->first_offset).text, scan->at, scan->expect.offset,
          "%s", detail);
}

/* Step over a record that verified; at the end of its batch, the walk's end moves there too. */
static void pass_record(struct scan *scan, const struct cairn_log_record_header *header,
                        const uint8_t *bytes)
{
    struct cairn_log_walk *walk = scan->walk;
    uint64_t total = cairn_log_record_bytes(header->payload_len);
    cairn_log_expect_advance(&scan->expect, header, bytes);
    scan->loose_records++;
    if (header->batch_remaining == 0) {
        walk->end.byte = scan->at + total;
        walk->end.offset = header->offset;
        walk->end.chain = scan->expect.chain;
        walk->end.time_us = header->ingest_time_us;
        walk->end.last_at = scan->at;
        walk->records += scan->loose_records;
        walk->batches++;
        scan->loose_records = 0;
    }
    scan->at += total;
}

/* Judge the record at scan->at and step over it, or report what is wrong with it. */
static int scan_record(struct scan *scan)
{
    struct cairn_log_walk *walk = scan->walk;
    uint64_t left = scan->limit - scan->at;
    const uint8_t *bytes;
    struct cairn_log_record_header header;
    if (left < CAIRN_LOG_RECORD_HEADER_BYTES) {
        scan_found(scan, CAIRN_DAMAGE_CUT, "a record's header is cut off");
        return 0;
    }
    int rc = cairn_log_window_at(&walk->window, scan->at, CAIRN_LOG_RECORD_HEADER_BYTES,
                                 scan->limit, &bytes);
    if (rc != 0) {
        return rc;
    }
    if (!cairn_log_record_header_decode(bytes, &header)) {
        scan_found(scan, CAIRN_DAMAGE_FLIPPED, "a record header's checksum does not match");
        return 0;
    }
    const char *reason = cairn_log_check_identity(&scan->expect, &header);
    if (!reason) {
        reason = cairn_log_check_rules(&scan->expect, &header);
    }
    if (reason) {
        scan_found(scan, CAIRN_DAMAGE_MISPLACED, reason);
        return 0;
    }
    uint64_t total = cairn_log_record_bytes(header.payload_len);
    if (total > left) {
        scan_found(scan, CAIRN_DAMAGE_CUT, "a record's payload is cut off");
        return 0;
    }
    rc = cairn_log_window_at(&walk->window, scan->at, (size_t)total, scan->limit, &bytes);
    if (rc != 0) {
        return rc;
    }
    if (cairn_log_padded_crc(bytes, header.payload_len) != header.payload_crc) {
        scan_found(scan, CAIRN_DAMAGE_FLIPPED, "a payload's checksum does not match");
        return 0;
    }
    pass_record(scan, &header, bytes);
    return 0;
}

/* Compare the walk's end with the mark when it has come that far. */
static void match_mark(struct scan *scan)
{
    struct cairn_log_walk *walk = scan->walk;
    const struct cairn_log_mark *mark = &walk->mark;
    if (!scan->mark_passed && mark_usable(walk) &&
        mark->segment_first == scan->file->first_offset && mark->byte <= walk->end.byte) {
        scan->mark_passed = true;
        walk->mark_conflict = mark->byte != walk->end.byte || mark->offset != walk->end.offset ||
                              mark->chain != walk->end.chain;
    }
}

/* The damage just found is in the last segment: is it a torn tail? */
static int judge_tail(struct scan *scan)
{
    struct cairn_log_walk *walk = scan->walk;
    uint64_t first_offset = scan->file->first_offset;
    if (walk->finding.damage == CAIRN_DAMAGE_MISPLACED || walk->mark_foreign ||
        walk->mark_conflict || mark_covers(walk, first_offset, walk->end.byte)) {
        return 0;
    }
    struct cairn_log_survey survey = {0};
    int rc = cairn_log_survey_add(&survey, &walk->window, scan->at, scan->file->size, walk->log_id,
                                  walk->end.offset);
    if (rc != 0 || survey.durable_offset > walk->end.offset) {
        return rc;
    }
    walk->finding.damage = CAIRN_DAMAGE_TORN_TAIL;
    walk->torn_bytes = scan->file->size - walk->end.byte;
    walk->torn_records = scan->loose_records;
    return 0;
}

/* After the last whole record: does the segment end where it should? `sealed_bytes` is what the
 * next segment says, 0 if there is none to ask. */
static void judge_length(struct scan *scan, uint64_t sealed_bytes)
{
    if (scan->expect.batch_remaining > 0) {
        scan_found(scan, CAIRN_DAMAGE_CUT, "the end of a batch is missing");
    } else if (scan->file->size < sealed_bytes) {
        scan_found(scan, CAIRN_DAMAGE_CUT, "the segment was longer when the next one was started");
    } else if (sealed_bytes > 0 && scan->file->size > sealed_bytes) {
        scan_found(scan, CAIRN_DAMAGE_MISPLACED, "bytes follow the end of a finished segment");
    } else if (mark_usable(scan->walk) &&
               scan->walk->mark.segment_first == scan->file->first_offset &&
               scan->walk->mark.byte > scan->file->size) {
        scan_found(scan, CAIRN_DAMAGE_CUT, "the durable mark promises more records");
    }
}

static int scan_file(struct cairn_log_walk *walk, uint32_t index)
{
    const struct cairn_log_file *file = &walk->files[index];
    const struct cairn_log_file *next = index + 1 < walk->files_count ? file + 1 : NULL;
    uint64_t sealed_bytes =
        next && next->header_valid && next->header.previous_first == file->first_offset
            ? next->header.previous_bytes
            : 0;
    struct scan scan = {
        .walk = walk,
        .file = file,
        .at = HEADER_BYTES,
        .limit = sealed_bytes > 0 && sealed_bytes < file->size ? sealed_bytes : file->size,
        .expect = {.log_id = walk->log_id,
                   .shard = walk->shard,
                   .offset = file->first_offset,
                   .chain = file->header.chain,
                   .time_us = file->header.prior_time_us},
    };
    match_mark(&scan);
    int rc = 0;
    while (rc == 0 && scan.at < scan.limit && walk->finding.damage == CAIRN_DAMAGE_NONE) {
        rc = scan_record(&scan);
        match_mark(&scan);
    }
    if (rc == 0 && walk->finding.damage == CAIRN_DAMAGE_NONE) {
        judge_length(&scan, sealed_bytes);
    }
    if (rc == 0 && walk->finding.damage != CAIRN_DAMAGE_NONE && !next) {
        rc = judge_tail(&scan);
    }
    return rc;
}

/* Whether a finished segment ends in the record that the next one continues; if so, its records
 * are taken as read. */
static int trust_file(struct cairn_log_walk *walk, uint32_t index, bool *trusted)
{
    const struct cairn_log_file *file = &walk->files[index];
    const struct cairn_log_segment_header *next = &walk->files[index + 1].header;
    *trusted = false;
    if (!walk->files[index + 1].header_valid || next->previous_first != file->first_offset ||
        next->previous_bytes != file->size || next->previous_last_at % 8 != 0 ||
        next->previous_last_at < HEADER_BYTES ||
        next->previous_last_at > file->size - CAIRN_LOG_RECORD_HEADER_BYTES) {
        return 0;
    }
    const uint8_t *bytes;
    struct cairn_log_record_header last;
    int rc = cairn_log_window_at(&walk->window, next->previous_last_at,
                                 CAIRN_LOG_RECORD_HEADER_BYTES, file->size, &bytes);
    if (rc != 0 || !cairn_log_record_header_decode(bytes, &last)) {
        return rc;
    }
    *trusted = last.log_id == walk->log_id && last.shard == walk->shard &&
               last.offset == next->first_offset - 1 && last.batch_remaining == 0 &&
               next->previous_last_at + cairn_log_record_bytes(last.payload_len) == file->size &&
               cairn_log_chain_after(bytes) == next->chain;
    if (*trusted) {
        walk->end.byte = file->size;
        walk->end.offset = last.offset;
        walk->end.chain = next->chain;
        walk->end.time_us = last.ingest_time_us;
        walk->end.last_at = next->previous_last_at;
        walk->records += last.offset + 1 - file->first_offset;
    }
    return 0;
}

/* Segments and their order */

static void judge_bad_header(struct cairn_log_walk *walk, uint32_t index)
{
    const struct cairn_log_file *file = &walk->files[index];
    bool last = index + 1 == walk->files_count;
    /* Records are written only after the header is durable, so a file with records had one. */
    bool torn = last && file->size <= HEADER_BYTES && !mark_covers(walk, file->first_offset, 0) &&
                !walk->mark_foreign;
    found(walk, torn ? CAIRN_DAMAGE_TORN_TAIL : CAIRN_DAMAGE_HEADER,
          name_of(file->first_offset).text, 0, next_offset(walk),
          torn ? "the segment was being started" : "the segment header is unreadable");
    walk->torn_bytes = torn ? file->size : 0;
}

/* Does the segment belong here? Its header is valid. */
static void judge_place(struct cairn_log_walk *walk, uint32_t index)
{
    const struct cairn_log_file *file = &walk->files[index];
    const struct cairn_log_segment_header *header = &file->header;
    uint64_t before = index > 0 ? walk->files[index - 1].first_offset : 0;
    uint64_t offset = next_offset(walk);
    struct segment_name name = name_of(file->first_offset);
    if (header->shard != walk->shard) {
        found(walk, CAIRN_DAMAGE_MISPLACED, name.text, 12, offset,
              "a segment of shard %" PRIu32 "; this is the log of shard %" PRIu32, header->shard,
              walk->shard);
    } else if (header->log_id != walk->log_id) {
        found(walk, CAIRN_DAMAGE_MISPLACED, name.text, 16, offset, "a segment of another log");
    } else if (header->first_offset != file->first_offset) {
        found(walk, CAIRN_DAMAGE_MISPLACED, name.text, 24, offset,
              "the segment that starts at offset %" PRIu64, header->first_offset);
    } else if (header->previous_first > before) {
        struct segment_name missing = name_of(header->previous_first);
        found(walk, CAIRN_DAMAGE_MISSING, missing.text, 0, offset,
              "the segment is missing; %s continues it", name.text);
    } else if (header->previous_first < before || header->first_offset != offset ||
               header->chain !=
                   (index > 0 ? walk->end.chain : cairn_log_chain_start(walk->log_id))) {
        found(walk, CAIRN_DAMAGE_MISPLACED, name.text, 32, offset,
              "the segment does not continue the one before it");
    }
}

static int walk_file(struct cairn_log_walk *walk, uint32_t index, struct cairn_error *err)
{
    const struct cairn_log_file *file = &walk->files[index];
    if (!file->header_valid) {
        judge_bad_header(walk, index);
        return 0;
    }
    judge_place(walk, index);
    if (walk->finding.damage != CAIRN_DAMAGE_NONE) {
        return 0;
    }
    walk->has_end = true;
    walk->end = (struct cairn_log_end){.file = index,
                                       .byte = HEADER_BYTES,
                                       .offset = file->first_offset - 1,
                                       .chain = file->header.chain,
                                       .time_us = file->header.prior_time_us};
    struct cairn_log_path path;
    int rc = cairn_log_window_open(&walk->window,
                                   cairn_log_segment_path(&path, walk->dir, file->first_offset));
    bool trusted = false;
    if (rc == 0 && index + 1 < walk->files_count &&
        walk->files[index + 1].first_offset - 1 <= walk->trusted_offset) {
        rc = trust_file(walk, index, &trusted);
    }
    if (rc == 0 && !trusted) {
        rc = scan_file(walk, index);
    }
    return rc == 0 ? 0 : fail_segment(err, rc, "read", walk, file->first_offset);
}

/* What only the mark can tell, once the segments have been found to be in order. */
static void judge_mark(struct cairn_log_walk *walk)
{
    if (walk->files_count == 0 && walk->mark_state == CAIRN_MARK_DAMAGED) {
        found(walk, CAIRN_DAMAGE_MISSING, name_of(1).text, 0, 1,
              "there is a durable mark, though an unreadable one, but no segment");
    } else if (walk->mark_foreign) {
        found(walk, CAIRN_DAMAGE_MISPLACED, CAIRN_LOG_MARK_NAME, 0, next_offset(walk),
              "the durable mark of another log");
    } else if (walk->mark_conflict) {
        found(walk, CAIRN_DAMAGE_MISPLACED, CAIRN_LOG_MARK_NAME, 0, next_offset(walk),
              "the log holds other records than those that were made durable");
    } else if (mark_usable(walk) && walk->mark.offset > (walk->has_end ? walk->end.offset : 0)) {
        struct segment_name missing = name_of(walk->mark.segment_first);
        found(walk, CAIRN_DAMAGE_MISSING, missing.text, 0, next_offset(walk),
              "the segment is missing; the durable mark stands in it");
    } else if (mark_usable(walk) &&
               (!walk->has_end ||
                walk->mark.segment_first > walk->files[walk->end.file].first_offset)) {
        struct segment_name missing = name_of(walk->mark.segment_first);
        found(walk, CAIRN_DAMAGE_MISSING, missing.text, 0, next_offset(walk),
              "the segment is missing; it had been started");
    }
}

/* Count what verifies on its own past the damage, and what that proves to have been durable. */
static int survey_rest(struct cairn_log_walk *walk, struct cairn_error *err)
{
    uint64_t after = next_offset(walk) - 1;
    for (uint32_t i = walk->has_end ? walk->end.file : 0; i < walk->files_count; i++) {
        const struct cairn_log_file *file = &walk->files[i];
        uint64_t from = walk->has_end && i == walk->end.file ? walk->end.byte : HEADER_BYTES;
        struct cairn_log_path path;
        int rc = cairn_log_window_open(
            &walk->window, cairn_log_segment_path(&path, walk->dir, file->first_offset));
        if (rc == 0) {
            rc = cairn_log_survey_add(&walk->survey, &walk->window, from, file->size, walk->log_id,
                                      after);
        }
        if (rc != 0) {
            return fail_segment(err, rc, "read", walk, file->first_offset);
        }
        if (file->header_valid && file->header.log_id == walk->log_id &&
            file->header.first_offset - 1 > walk->survey.durable_offset) {
            walk->survey.durable_offset = file->header.first_offset - 1;
        }
    }
    return 0;
}

int cairn_log_walk_run(struct cairn_log_walk *walk, struct cairn_error *err)
{
    cairn_log_window_init(&walk->window, walk->io);
    int rc = list_files(walk, err);
    if (rc != 0) {
        return rc;
    }
    identify(walk);
    for (uint32_t i = 0;
         rc == 0 && i < walk->files_count && walk->finding.damage == CAIRN_DAMAGE_NONE; i++) {
        rc = walk_file(walk, i, err);
    }
    if (rc == 0 && walk->finding.damage == CAIRN_DAMAGE_NONE) {
        judge_mark(walk);
    }
    if (rc == 0 && walk->survey_damage && walk->finding.damage != CAIRN_DAMAGE_NONE) {
        rc = survey_rest(walk, err);
    }
    return rc;
}

void cairn_log_walk_release(struct cairn_log_walk *walk)
{
    cairn_log_window_release(&walk->window);
    free(walk->files);
    walk->files = NULL;
    walk->files_count = 0;
}
