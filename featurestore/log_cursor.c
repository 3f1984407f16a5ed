/* Cursors: reading the durable part of the log while it grows.
 *
 * A cursor has its own descriptor and buffer and shares with the appender only the list of
 * segments: `length` says how far a segment may be read, and once `next` is set, `length` is final.
 *
 * Every record that is passed has its header's checksum and its place (log, shard, offset, chain)
 * verified; one that is returned, its payload too. A damaged payload of another collection
 * therefore does not keep a filtered reader from its own records. */
#include "featurestore/log_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

struct cairn_log_cursor {
    struct cairn_log *log;
    struct cairn_log_range range;
    struct cairn_log_segment *segment;
    bool opened; /* the window shows `segment` */
    uint64_t at; /* where in the segment the next record starts */
    struct cairn_log_expect expect;
    struct cairn_log_window window;
};

/* Index of the last segment that starts at or before `offset`; there is one. */
static uint32_t last_segment_from(const struct cairn_log *log, uint64_t offset)
{
    uint32_t low = 0, high = log->segments_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (log->segments[middle]->first_offset <= offset) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Number of checkpoints whose offset is not above `offset`. */
static uint32_t checkpoints_until(const struct cairn_log_segment *segment, uint64_t offset)
{
    uint32_t low = 0, high = segment->checkpoints_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (segment->checkpoints[middle].offset <= offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void place(struct cairn_log_cursor *cursor, uint64_t at, uint64_t offset, uint64_t chain)
{
    cursor->at = at;
    cursor->expect.offset = offset;
    cursor->expect.chain = chain;
}

/* Go to the nearest known boundary at or before `offset`; the log's lock is held. */
static void seek(struct cairn_log_cursor *cursor, uint64_t offset)
{
    struct cairn_log *log = cursor->log;
    uint32_t index = last_segment_from(log, offset);
    struct cairn_log_segment *segment = log->segments[index];
    cursor->segment = segment;
    uint32_t known = checkpoints_until(segment, offset);
    if (offset == log->durable.offset + 1) {
        cursor->segment = log->segments[log->segments_count - 1];
        place(cursor, log->durable.byte, offset, log->durable.chain);
    } else if (known > 0) {
        const struct cairn_log_checkpoint *near = &segment->checkpoints[known - 1];
        place(cursor, near->byte, near->offset, near->chain);
    } else {
        place(cursor, CAIRN_LOG_SEGMENT_HEADER_BYTES, segment->first_offset, segment->chain);
    }
}

int cairn_log_cursor_open(struct cairn_log *log, const struct cairn_log_range *range,
                          struct cairn_log_cursor **out, struct cairn_error *err)
{
    uint64_t from = range->from_offset > 0 ? range->from_offset : 1;
    *out = NULL;
    struct cairn_log_cursor *cursor = cairn_calloc(1, sizeof(*cursor));
    cursor->log = log;
    cursor->range = *range;
    cursor->range.from_offset = from;
    cursor->expect.log_id = log->log_id;
    cursor->expect.shard = log->shard;
    cairn_log_window_init(&cursor->window, log->io);
    pthread_mutex_lock(&log->lock);
    uint64_t end = log->durable.offset;
    bool there = from <= end + 1 && from >= log->segments[0]->first_offset;
    if (there) {
        seek(cursor, from);
    }
    pthread_mutex_unlock(&log->lock);
    if (!there) {
        cairn_log_cursor_close(&cursor);
        return cairn_fail(err, CAIRN_ENOTFOUND,
                          "offset %" PRIu64 " is not in the log, which ends at %" PRIu64, from,
                          end);
    }
    *out = cursor;
    return 0;
}

void cairn_log_cursor_close(struct cairn_log_cursor **cursor_pointer)
{
    struct cairn_log_cursor *cursor = *cursor_pointer;
    *cursor_pointer = NULL;
    if (cursor) {
        cairn_log_window_release(&cursor->window);
        free(cursor);
    }
}

static int fail_cursor(const struct cairn_log_cursor *cursor, int rc, const char *what,
                       struct cairn_error *err)
{
    char name[CAIRN_LOG_SEGMENT_NAME_BYTES];
    cairn_log_segment_name(cursor->segment->first_offset, name);
    return cairn_log_fail_io(err, rc, what, cursor->log->dir, name);
}

static int fail_damage(const struct cairn_log_cursor *cursor, enum cairn_log_damage damage,
                       const char *detail, struct cairn_error *err)
{
    char name[CAIRN_LOG_SEGMENT_NAME_BYTES];
    cairn_log_segment_name(cursor->segment->first_offset, name);
    return cairn_fail(err, CAIRN_ECORRUPT, "%s/%s: %s at byte %" PRIu64 ", offset %" PRIu64 ": %s",
                      cursor->log->dir, name, cairn_log_damage_name(damage), cursor->at,
                      cursor->expect.offset, detail);
}

/* Show bytes of the current segment; a file shorter than what was durable is damage. */
static int look(struct cairn_log_cursor *cursor, size_t need, uint64_t limit, const uint8_t **bytes,
                struct cairn_error *err)
{
    if (!cursor->opened) {
        struct cairn_log_path path;
        int rc = cairn_log_window_open(
            &cursor->window,
            cairn_log_segment_path(&path, cursor->log->dir, cursor->segment->first_offset));
        if (rc == -ENOENT) {
            return fail_damage(cursor, CAIRN_DAMAGE_MISSING, "the segment is missing", err);
        }
        if (rc != 0) {
            return fail_cursor(cursor, rc, "open", err);
        }
        cursor->opened = true;
    }
    int rc = cairn_log_window_at(&cursor->window, cursor->at, need, limit, bytes);
    if (rc == -ENODATA) {
        return fail_damage(cursor, CAIRN_DAMAGE_CUT, "durable records are missing", err);
    }
    return rc == 0 ? 0 : fail_cursor(cursor, rc, "read", err);
}

/* Find how far the current segment can be read from here, going on to the next one at the end of a
 * finished one. CAIRN_EEND when nothing more is durable. */
static int find_limit(struct cairn_log_cursor *cursor, uint64_t *limit)
{
    for (;;) {
        struct cairn_log_segment *segment = cursor->segment;
        /* In this order: a `next` that is set makes the length read after it final. */
        struct cairn_log_segment *next = atomic_load(&segment->next);
        *limit = atomic_load(&segment->length);
        if (cursor->at < *limit) {
            return 0;
        }
        if (!next) {
            return CAIRN_EEND;
        }
        cursor->segment = next;
        cursor->opened = false;
        cursor->at = CAIRN_LOG_SEGMENT_HEADER_BYTES;
    }
}

/* Remember the boundary that the cursor stands at, if no near one is known. */
static void note_checkpoint(struct cairn_log_cursor *cursor)
{
    struct cairn_log_segment *segment = cursor->segment;
    pthread_mutex_lock(&cursor->log->lock);
    uint32_t count = segment->checkpoints_count;
    uint64_t newest = count > 0 ? segment->checkpoints[count - 1].byte : 0;
    if (cursor->at >= newest + CAIRN_LOG_CHECKPOINT_STEP) {
        if ((count & (count - 1)) == 0) { /* full at each power of two */
            segment->checkpoints = cairn_realloc(
                segment->checkpoints, (count > 0 ? 2 * count : 1) * sizeof(*segment->checkpoints));
        }
        segment->checkpoints[segment->checkpoints_count++] = (struct cairn_log_checkpoint){
            .offset = cursor->expect.offset,
            .byte = cursor->at,
            .chain = cursor->expect.chain,
        };
    }
    pthread_mutex_unlock(&cursor->log->lock);
}

static struct cairn_log_record open_header(const struct cairn_log_record_header *header)
{
    return (struct cairn_log_record){
        .offset = header->offset,
        .ingest_time_us = header->ingest_time_us,
        .token = header->token,
        .chain = header->chain,
        .collection = header->collection,
        .shard = header->shard,
        .kind = header->kind,
        .batch_remaining = header->batch_remaining,
    };
}

/* `record` is without its payload. */
static bool wanted(const struct cairn_log_range *range, const struct cairn_log_record *record)
{
    if (record->offset < range->from_offset ||
        (range->collection != 0 && record->collection != range->collection)) {
        return false;
    }
    return range->wants == NULL || range->wants(range->wants_context, record);
}

/* Verify the header of the record at the cursor and where it ends. */
static int read_header(struct cairn_log_cursor *cursor, uint64_t limit,
                       struct cairn_log_record_header *header, const uint8_t **bytes,
                       struct cairn_error *err)
{
    int rc = look(cursor, CAIRN_LOG_RECORD_HEADER_BYTES, limit, bytes, err);
    if (rc != 0) {
        return rc;
    }
    if (!cairn_log_record_header_decode(*bytes, header)) {
        return fail_damage(cursor, CAIRN_DAMAGE_FLIPPED,
                           "a record header's checksum does not match", err);
    }
    const char *reason = cairn_log_check_identity(&cursor->expect, header);
    if (!reason && (header->payload_len > CAIRN_LOG_PAYLOAD_BYTES_MAX ||
                    cursor->at + cairn_log_record_bytes(header->payload_len) > limit)) {
        reason = "a record that ends beyond the durable part";
    }
    return reason ? fail_damage(cursor, CAIRN_DAMAGE_MISPLACED, reason, err) : 0;
}

static int read_payload(struct cairn_log_cursor *cursor, uint64_t limit,
                        const struct cairn_log_record_header *header, const uint8_t **bytes,
                        struct cairn_error *err)
{
    int rc = look(cursor, (size_t)cairn_log_record_bytes(header->payload_len), limit, bytes, err);
    if (rc == 0 && cairn_log_padded_crc(*bytes, header->payload_len) != header->payload_crc) {
        rc = fail_damage(cursor, CAIRN_DAMAGE_FLIPPED, "a payload's checksum does not match", err);
    }
    return rc;
}

int cairn_log_cursor_next(struct cairn_log_cursor *cursor, struct cairn_log_record *out,
                          struct cairn_error *err)
{
    for (;;) {
        uint64_t limit;
        int rc = find_limit(cursor, &limit);
        if (rc != 0) {
            return cairn_fail(err, rc, "the end of the log");
        }
        const uint8_t *bytes;
        struct cairn_log_record_header header;
        rc = read_header(cursor, limit, &header, &bytes, err);
        if (rc != 0) {
            return rc;
        }
        struct cairn_log_record record = open_header(&header);
        bool returned = wanted(&cursor->range, &record);
        if (returned) {
            rc = read_payload(cursor, limit, &header, &bytes, err);
            if (rc != 0) {
                return rc;
            }
        }
        cairn_log_expect_advance(&cursor->expect, &header, bytes);
        uint64_t before = cursor->at;
        cursor->at += cairn_log_record_bytes(header.payload_len);
        if (before / CAIRN_LOG_CHECKPOINT_STEP != cursor->at / CAIRN_LOG_CHECKPOINT_STEP) {
            note_checkpoint(cursor);
        }
        if (returned) {
            record.payload = (struct cairn_str){(const char *)bytes + CAIRN_LOG_RECORD_HEADER_BYTES,
                                                header.payload_len};
            *out = record;
            return 0;
        }
    }
}

uint64_t cairn_log_cursor_offset(const struct cairn_log_cursor *cursor)
{
    /* It may have started before its range, at the nearest known boundary. */
    uint64_t next = cursor->expect.offset;
    return (next > cursor->range.from_offset ? next : cursor->range.from_offset) - 1;
}
