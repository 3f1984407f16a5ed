/* Append, roll-over, statistics.
 *
 * An append is one write of all its batches behind the last durable byte, one fdatasync, and then
 * the publication of the new end to readers and to the durable mark. It lies in one segment: the
 * roll-over happens before it, when it would make the segment too long.
 *
 *   error                       the file                    the log
 *   no space (reserve, write)   cut back to the last end    goes on
 *   any other write, any sync   left as it is               refuses everything until reopened
 *
 * The last line is final because a failed sync may have dropped the written pages while a second
 * sync would succeed: only reading the file again tells what it holds. */
#include "featurestore/log_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/diag.h"
#include "base/time.h"

#define RESERVE_STEP_BYTES (4u << 20)
#define SLICE_RECORDS      511 /* two parts each, and one of padding: one call of pwritev */
#define SLICE_PARTS        (2 * SLICE_RECORDS + 1)

#define PADDING_BYTES 8

/* A header in front of which the padding of the record before can be written with the same part. */
struct header_slot {
    uint8_t bytes[PADDING_BYTES + CAIRN_LOG_RECORD_HEADER_BYTES]; /* the first ones stay zero */
};

struct cairn_log_writer {
    struct header_slot slots[SLICE_RECORDS];
    struct iovec parts[SLICE_PARTS];
};

/* The state of one append. */
struct append {
    struct cairn_log *log;
    struct cairn_log_end end; /* where the next record goes and what it carries */
    int64_t ingest_time_us;
    uint32_t append_index;
    uint64_t written; /* bytes of the segment that have been handed to the file system */
    uint32_t padding; /* of the last record, not written yet */
    int slots_count, parts_count;
    uint64_t records, batches;
};

struct cairn_log *cairn_log_new(const struct cairn_log_options *options, uint64_t log_id)
{
    struct cairn_log *log = cairn_calloc(1, sizeof(*log));
    log->io = options->io;
    log->dir = cairn_strdup(cairn_str_from(options->dir));
    log->shard = options->shard;
    log->log_id = log_id;
    log->segment_bytes_max =
        options->segment_bytes_max > 0 ? options->segment_bytes_max : CAIRN_SEGMENT_BYTES_DEFAULT;
    log->fd = -1;
    log->mark_fd = -1;
    log->writer = cairn_calloc(1, sizeof(*log->writer));
    pthread_mutex_init(&log->lock, NULL);
    return log;
}

void cairn_log_close(struct cairn_log **log_pointer)
{
    struct cairn_log *log = *log_pointer;
    *log_pointer = NULL;
    if (!log) {
        return;
    }
    if (log->fd >= 0) {
        if (!log->failed && log->reserved > log->tail.byte) {
            /* Gives reserved space back; if it cannot, the space waits for the next open. */
            (void)log->io->truncate(log->io->context, log->fd, log->tail.byte);
        }
        log->io->close(log->io->context, log->fd);
    }
    if (log->mark_fd >= 0) {
        log->io->close(log->io->context, log->mark_fd);
    }
    for (uint32_t i = 0; i < log->segments_count; i++) {
        free(log->segments[i]->checkpoints);
        free(log->segments[i]);
    }
    free(log->segments);
    pthread_mutex_destroy(&log->lock);
    free(log->writer);
    free(log->dir);
    free(log);
}

void cairn_log_add_segment(struct cairn_log *log, uint64_t first_offset, uint64_t chain,
                           uint64_t length)
{
    struct cairn_log_segment *segment = cairn_calloc(1, sizeof(*segment));
    segment->first_offset = first_offset;
    segment->chain = chain;
    atomic_init(&segment->length, length);
    atomic_init(&segment->next, NULL);
    pthread_mutex_lock(&log->lock);
    if (log->segments_count == log->segments_capacity) {
        log->segments_capacity = log->segments_capacity > 0 ? 2 * log->segments_capacity : 16;
        log->segments = cairn_realloc(log->segments,
                                      log->segments_capacity * sizeof(struct cairn_log_segment *));
    }
    if (log->segments_count > 0) {
        atomic_store(&log->segments[log->segments_count - 1]->next, segment);
    }
    log->segments[log->segments_count++] = segment;
    /* At once: a cursor that opens at the end must not take the old segment's end for this one's.
     */
    log->durable = log->tail;
    log->stats.segments_count = log->segments_count;
    log->stats.bytes += length;
    pthread_mutex_unlock(&log->lock);
}

static void write_mark(struct cairn_log *log, uint64_t segment_first)
{
    if (log->mark_fd < 0) {
        return;
    }
    struct cairn_log_mark mark = {
        .sequence = ++log->mark_sequence,
        .log_id = log->log_id,
        .segment_first = segment_first,
        .byte = log->tail.byte,
        .offset = log->tail.offset,
        .chain = log->tail.chain,
        .shard = log->shard,
    };
    int rc = cairn_log_mark_write(log->io, log->mark_fd, &mark);
    if (rc != 0) {
        /* An older mark stays true. Its slot may be half written: the other one is kept. */
        log->mark_sequence--;
        cairn_warn("log", "%s/%s cannot be written: %s", log->dir, CAIRN_LOG_MARK_NAME,
                   strerror(-rc));
    }
}

void cairn_log_publish(struct cairn_log *log)
{
    pthread_mutex_lock(&log->lock);
    struct cairn_log_segment *last = log->segments[log->segments_count - 1];
    uint64_t grown = log->tail.byte - atomic_load(&last->length);
    log->durable = log->tail;
    log->stats.end_offset = log->tail.offset;
    log->stats.bytes += grown;
    atomic_store(&last->length, log->tail.byte);
    pthread_mutex_unlock(&log->lock);
    write_mark(log, last->first_offset);
}

/* Enter the final state; `err` holds the reason. */
static int fail_for_good(struct cairn_log *log, struct cairn_error *err)
{
    log->failed = true;
    log->failure = *err;
    return cairn_fail(err, CAIRN_EIO, "%s; the log takes no more records until it is reopened",
                      log->failure.message);
}

static const char *last_name(const struct cairn_log *log, char *name)
{
    cairn_log_segment_name(log->segments[log->segments_count - 1]->first_offset, name);
    return name;
}

static int fail_last(struct cairn_log *log, int rc, const char *what, struct cairn_error *err)
{
    char name[CAIRN_LOG_SEGMENT_NAME_BYTES];
    return cairn_log_fail_io(err, rc, what, log->dir, last_name(log, name));
}

/* After a lack of space, which `err` tells of: forget what was written past the last durable byte.
 */
static int cut_back(struct cairn_log *log, struct cairn_error *err)
{
    int rc = log->io->truncate(log->io->context, log->fd, log->tail.byte);
    log->reserved = log->tail.byte;
    if (rc != 0) {
        fail_last(log, rc, "cut back", err);
        return fail_for_good(log, err);
    }
    return CAIRN_ENOSPACE;
}

/* Undo the creation of a segment that was refused for lack of space. */
static int abandon_segment(struct cairn_log *log, int fd, const char *path, int code,
                           struct cairn_error *err)
{
    struct cairn_error reason = *err;
    log->io->close(log->io->context, fd);
    int rc = log->io->unlink(log->io->context, path);
    if (rc != 0) {
        cairn_log_fail_io(err, rc, "remove", path, "");
        return fail_for_good(log, err);
    }
    *err = reason;
    return code;
}

static void next_header(const struct cairn_log *log, struct cairn_log_segment_header *out)
{
    bool first = log->segments_count == 0;
    *out = (struct cairn_log_segment_header){
        .version = CAIRN_LOG_VERSION,
        .shard = log->shard,
        .log_id = log->log_id,
        .first_offset = log->tail.offset + 1,
        .chain = log->tail.chain,
        .created_us = log->io->now_us(log->io->context),
        .prior_time_us = log->tail.time_us,
        .previous_first = first ? 0 : log->segments[log->segments_count - 1]->first_offset,
        .previous_bytes = first ? 0 : log->tail.byte,
        .previous_last_at = first ? 0 : log->tail.last_at,
    };
}

/* Create the file, durably, and return its descriptor or a negative code. */
static int create_segment(struct cairn_log *log, const struct cairn_log_segment_header *header,
                          struct cairn_error *err)
{
    const struct cairn_io *io = log->io;
    struct cairn_log_path path;
    cairn_log_segment_path(&path, log->dir, header->first_offset);
    int fd = io->open(io->context, path.text, CAIRN_OPEN_CREATE);
    if (fd < 0) {
        int code = cairn_log_fail_io(err, fd, "create", path.text, "");
        return code == CAIRN_ENOSPACE || code == CAIRN_ENOMEM ? code : fail_for_good(log, err);
    }
    uint8_t bytes[CAIRN_LOG_SEGMENT_HEADER_BYTES];
    cairn_log_segment_header_encode(header, bytes);
    int rc = cairn_io_write_full(io, fd, bytes, sizeof(bytes), 0);
    if (rc != 0) {
        int code = cairn_log_fail_io(err, rc, "write", path.text, "");
        if (code == CAIRN_ENOSPACE || code == CAIRN_ENOMEM) {
            return abandon_segment(log, fd, path.text, code, err);
        }
        io->close(io->context, fd);
        return fail_for_good(log, err);
    }
    rc = io->fdatasync(io->context, fd);
    if (rc == 0) {
        rc = io->sync_dir(io->context, log->dir);
    }
    if (rc != 0) {
        cairn_log_fail_io(err, rc, "sync", path.text, "");
        io->close(io->context, fd);
        return fail_for_good(log, err);
    }
    return fd;
}

/* Before a segment follows this one: give back what was reserved past its end, and make its length
 * durable. An earlier cut of a torn or refused append may not be, and bytes that a power loss
 * brings back are a torn tail in the last segment only. */
static int seal_segment(struct cairn_log *log, struct cairn_error *err)
{
    int rc = log->io->truncate(log->io->context, log->fd, log->tail.byte);
    log->reserved = log->tail.byte;
    if (rc == 0) {
        rc = log->io->fdatasync(log->io->context, log->fd);
    }
    if (rc != 0) {
        fail_last(log, rc, "finish", err);
        return fail_for_good(log, err);
    }
    return 0;
}

int cairn_log_start_segment(struct cairn_log *log, struct cairn_error *err)
{
    struct cairn_log_segment_header header;
    int rc = log->fd >= 0 ? seal_segment(log, err) : 0;
    if (rc != 0) {
        return rc;
    }
    next_header(log, &header);
    int fd = create_segment(log, &header, err);
    if (fd < 0) {
        return fd;
    }
    if (log->fd >= 0) {
        log->io->close(log->io->context, log->fd);
    }
    log->fd = fd;
    log->tail.byte = CAIRN_LOG_SEGMENT_HEADER_BYTES;
    log->tail.last_at = 0;
    log->reserved = log->tail.byte;
    cairn_log_add_segment(log, header.first_offset, header.chain, log->tail.byte);
    cairn_log_publish(log);
    return 0;
}

/* Make sure that the disk has room for the segment up to `end`. */
static int reserve(struct cairn_log *log, uint64_t end, struct cairn_error *err)
{
    if (end <= log->reserved) {
        return 0;
    }
    const struct cairn_io *io = log->io;
    uint64_t from = log->reserved;
    uint64_t need = end - from;
    uint64_t step = need > RESERVE_STEP_BYTES ? need : RESERVE_STEP_BYTES;
    int rc = io->reserve(io->context, log->fd, from, step);
    if (rc < 0 && cairn_code_from_errno(-rc) == CAIRN_ENOSPACE && step > need) {
        step = need;
        rc = io->reserve(io->context, log->fd, from, step);
    }
    if (rc == 0) {
        log->reserved = from + step;
        return 0;
    }
    int code = fail_last(log, rc, "reserve space for", err);
    return code == CAIRN_ENOSPACE ? cut_back(log, err) : fail_for_good(log, err);
}

/* Write all parts; they are used up. */
static int write_parts(const struct cairn_io *io, int fd, struct iovec *parts, int count,
                       uint64_t at)
{
    while (count > 0) {
        ssize_t written = io->pwritev(io->context, fd, parts, count, at);
        if (written <= 0) {
            return written < 0 ? (int)written : -EIO;
        }
        at += (uint64_t)written;
        size_t left = (size_t)written;
        while (count > 0 && left >= parts->iov_len) {
            left -= parts->iov_len;
            parts++;
            count--;
        }
        if (left > 0) {
            parts->iov_base = (char *)parts->iov_base + left;
            parts->iov_len -= left;
        }
    }
    return 0;
}

/* Hand what has been collected to the file system. */
static int flush_slice(struct append *append, struct cairn_error *err)
{
    struct cairn_log *log = append->log;
    struct cairn_log_writer *writer = log->writer;
    if (append->padding > 0) {
        writer->parts[append->parts_count++] =
            (struct iovec){writer->slots[0].bytes, append->padding};
        append->padding = 0;
    }
    int rc = write_parts(log->io, log->fd, writer->parts, append->parts_count, append->written);
    append->slots_count = 0;
    append->parts_count = 0;
    append->written = append->end.byte;
    if (rc == 0) {
        return 0;
    }
    int code = fail_last(log, rc, "write", err);
    return code == CAIRN_ENOSPACE ? cut_back(log, err) : fail_for_good(log, err);
}

static int add_record(struct append *append, const struct cairn_log_entry *entry,
                      uint32_t batch_remaining, struct cairn_error *err)
{
    struct cairn_log *log = append->log;
    struct cairn_log_writer *writer = log->writer;
    if (append->slots_count == SLICE_RECORDS) {
        int rc = flush_slice(append, err);
        if (rc != 0) {
            return rc;
        }
    }
    struct cairn_log_record_header header = {
        .payload_crc = cairn_log_payload_crc(entry->payload.ptr, entry->payload.len),
        .log_id = log->log_id,
        .offset = append->end.offset + 1,
        .chain = append->end.chain,
        .ingest_time_us = append->ingest_time_us,
        .token = entry->token,
        .collection = entry->collection,
        .shard = log->shard,
        .payload_len = entry->payload.len,
        .batch_remaining = batch_remaining,
        .append_index = append->append_index++,
        .kind = entry->kind,
    };
    struct header_slot *slot = &writer->slots[append->slots_count++];
    uint8_t *header_bytes = slot->bytes + PADDING_BYTES;
    cairn_log_record_header_encode(&header, header_bytes);
    writer->parts[append->parts_count++] = (struct iovec){
        header_bytes - append->padding, CAIRN_LOG_RECORD_HEADER_BYTES + append->padding};
    if (entry->payload.len > 0) {
        union {
            const char *in;
            void *base;
        } payload = {.in = entry->payload.ptr}; /* pwritev only reads it */
        writer->parts[append->parts_count++] = (struct iovec){payload.base, entry->payload.len};
    }
    uint64_t bytes = cairn_log_record_bytes(entry->payload.len);
    append->padding = (uint32_t)(bytes - CAIRN_LOG_RECORD_HEADER_BYTES - entry->payload.len);
    append->end.last_at = append->end.byte;
    append->end.byte += bytes;
    append->end.offset++;
    append->end.chain = cairn_log_chain_after(header_bytes);
    append->records++;
    return 0;
}

/* Check the limits and add up what the append takes in the file. */
static int measure(const struct cairn_log_batch *batches, uint32_t batches_count, uint64_t *bytes,
                   struct cairn_error *err)
{
    *bytes = 0;
    if (batches_count == 0) {
        return cairn_fail(err, CAIRN_EPARAM, "an append needs at least one batch");
    }
    for (uint32_t i = 0; i < batches_count; i++) {
        if (batches[i].count == 0) {
            return cairn_fail(err, CAIRN_EPARAM, "batch %u has no entries", i);
        }
        for (uint32_t j = 0; j < batches[i].count; j++) {
            const struct cairn_log_entry *entry = &batches[i].entries[j];
            if (entry->kind == 0) {
                return cairn_fail(err, CAIRN_EPARAM, "batch %u, entry %u: no kind", i, j);
            }
            if (entry->payload.len > CAIRN_LOG_PAYLOAD_BYTES_MAX) {
                return cairn_fail(err, CAIRN_ETOOLARGE,
                                  "batch %u, entry %u: a record of %u bytes is over the limit of "
                                  "%u",
                                  i, j, entry->payload.len, CAIRN_LOG_PAYLOAD_BYTES_MAX);
            }
            *bytes += cairn_log_record_bytes(entry->payload.len);
            if (*bytes > CAIRN_LOG_APPEND_BYTES_MAX) {
                return cairn_fail(err, CAIRN_ETOOLARGE,
                                  "an append of more than %u bytes is over the limit",
                                  CAIRN_LOG_APPEND_BYTES_MAX);
            }
        }
    }
    return 0;
}

static int write_batches(struct append *append, const struct cairn_log_batch *batches,
                         uint32_t batches_count, struct cairn_error *err)
{
    for (uint32_t i = 0; i < batches_count; i++) {
        for (uint32_t j = 0; j < batches[i].count; j++) {
            int rc = add_record(append, &batches[i].entries[j], batches[i].count - 1 - j, err);
            if (rc != 0) {
                return rc;
            }
        }
        append->batches++;
    }
    return flush_slice(append, err);
}

static int sync_append(struct append *append, struct cairn_error *err)
{
    struct cairn_log *log = append->log;
    uint64_t began_us = cairn_time_monotonic_us();
    int rc = log->io->fdatasync(log->io->context, log->fd);
    if (rc != 0) {
        fail_last(log, rc, "sync", err);
        return fail_for_good(log, err);
    }
    uint64_t took_us = cairn_time_monotonic_us() - began_us;
    pthread_mutex_lock(&log->lock);
    log->stats.fsyncs++;
    log->stats.fsync_time_us += took_us;
    log->stats.records_appended += append->records;
    log->stats.batches_appended += append->batches;
    pthread_mutex_unlock(&log->lock);
    return 0;
}

int cairn_log_append(struct cairn_log *log, const struct cairn_log_batch *batches,
                     uint32_t batches_count, int64_t *ingest_time_us, uint64_t *first_offset,
                     struct cairn_error *err)
{
    struct cairn_error own;
    err = err ? err : &own;
    if (log->failed) {
        return cairn_fail(err, CAIRN_EIO, "%s; the log takes no more records until it is reopened",
                          log->failure.message);
    }
    uint64_t bytes;
    int rc = measure(batches, batches_count, &bytes, err);
    if (rc != 0) {
        return rc;
    }
    bool empty = log->tail.byte == CAIRN_LOG_SEGMENT_HEADER_BYTES;
    if (!empty && log->tail.byte + bytes > log->segment_bytes_max) {
        rc = cairn_log_start_segment(log, err);
        if (rc != 0) {
            return rc;
        }
    }
    rc = reserve(log, log->tail.byte + bytes, err);
    if (rc != 0) {
        return rc;
    }
    struct append append = {.log = log, .end = log->tail, .written = log->tail.byte};
    append.ingest_time_us =
        *ingest_time_us > log->tail.time_us ? *ingest_time_us : log->tail.time_us;
    append.end.time_us = append.ingest_time_us;
    rc = write_batches(&append, batches, batches_count, err);
    if (rc == 0) {
        rc = sync_append(&append, err);
    }
    if (rc != 0) {
        return rc;
    }
    *ingest_time_us = append.ingest_time_us;
    *first_offset = log->tail.offset + 1;
    log->tail = append.end;
    cairn_log_publish(log);
    return 0;
}

void cairn_log_stats(struct cairn_log *log, struct cairn_log_stats *out)
{
    pthread_mutex_lock(&log->lock);
    *out = log->stats;
    pthread_mutex_unlock(&log->lock);
}
