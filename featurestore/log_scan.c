/* Reading segments through a buffer, and the judgement of a single record. */
#include "featurestore/log_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Reads start small, so that looking up one record is cheap, and grow while a scan goes on. */
#define AHEAD_BYTES_MIN (64u << 10)
#define AHEAD_BYTES_MAX (1u << 20)

const char *cairn_log_path(struct cairn_log_path *path, const char *dir, const char *name)
{
    snprintf(path->text, sizeof(path->text), "%s/%s", dir, name);
    return path->text;
}

const char *cairn_log_segment_path(struct cairn_log_path *path, const char *dir,
                                   uint64_t first_offset)
{
    char name[CAIRN_LOG_SEGMENT_NAME_BYTES];
    cairn_log_segment_name(first_offset, name);
    return cairn_log_path(path, dir, name);
}

int cairn_log_fail_io(struct cairn_error *err, int negative_errno, const char *what,
                      const char *dir, const char *name)
{
    int code = cairn_code_from_errno(-negative_errno);
    if (negative_errno == -EMFILE || negative_errno == -ENFILE) {
        code = CAIRN_ENOMEM;
    }
    return cairn_fail(err, code, "cannot %s %s%s%s: %s", what, dir, *name ? "/" : "", name,
                      strerror(-negative_errno));
}

void cairn_log_window_init(struct cairn_log_window *window, const struct cairn_io *io)
{
    *window = (struct cairn_log_window){.io = io, .fd = -1, .ahead = AHEAD_BYTES_MIN};
}

int cairn_log_window_open(struct cairn_log_window *window, const char *path)
{
    int fd = window->io->open(window->io->context, path, CAIRN_OPEN_READ);
    if (fd < 0) {
        return fd;
    }
    if (window->fd >= 0) {
        window->io->close(window->io->context, window->fd);
    }
    window->fd = fd;
    window->len = 0;
    return 0;
}

/* Read at least `need` and at most `want` bytes into the empty window. */
static int fill(struct cairn_log_window *window, uint64_t at, size_t need, size_t want)
{
    window->start = at;
    while (window->len < need) {
        ssize_t count =
            window->io->pread(window->io->context, window->fd, window->bytes + window->len,
                              want - window->len, at + window->len);
        if (count <= 0) {
            window->len = 0;
            return count < 0 ? (int)count : -ENODATA;
        }
        window->len += (size_t)count;
    }
    return 0;
}

int cairn_log_window_at(struct cairn_log_window *window, uint64_t at, size_t need, uint64_t limit,
                        const uint8_t **out)
{
    if (at < window->start || at + need > window->start + window->len) {
        uint64_t left = limit > at ? limit - at : 0;
        size_t want = window->ahead > need ? window->ahead : need;
        if (want > window->capacity) {
            free(window->bytes); /* what it holds lies before `at` or is read again */
            window->bytes = cairn_malloc(want);
            window->capacity = want;
        }
        if (window->ahead < AHEAD_BYTES_MAX) {
            window->ahead *= 2;
        }
        if (want > left) {
            want = left > need ? (size_t)left : need;
        }
        window->len = 0;
        int rc = fill(window, at, need, want);
        if (rc != 0) {
            return rc;
        }
    }
    *out = window->bytes + (at - window->start);
    return 0;
}

void cairn_log_window_release(struct cairn_log_window *window)
{
    if (window->fd >= 0) {
        window->io->close(window->io->context, window->fd);
    }
    free(window->bytes);
    *window = (struct cairn_log_window){.fd = -1};
}

const char *cairn_log_check_identity(const struct cairn_log_expect *expect,
                                     const struct cairn_log_record_header *header)
{
    if (header->log_id != expect->log_id) {
        return "a record of another log";
    }
    if (header->shard != expect->shard) {
        return "a record of another shard";
    }
    if (header->offset != expect->offset) {
        return "a record of another offset";
    }
    if (header->chain != expect->chain) {
        return "a record that follows another history";
    }
    return NULL;
}

const char *cairn_log_check_rules(const struct cairn_log_expect *expect,
                                  const struct cairn_log_record_header *header)
{
    if (header->payload_len > CAIRN_LOG_PAYLOAD_BYTES_MAX) {
        return "a payload over the limit";
    }
    if (header->reserved_set) {
        return "reserved bytes that are not zero";
    }
    if (header->ingest_time_us < expect->time_us) {
        return "an ingest time before the one of the preceding record";
    }
    if (expect->batch_remaining > 0 && header->batch_remaining != expect->batch_remaining - 1) {
        return "a record that does not continue its batch";
    }
    bool starts_append = header->append_index == 0 && expect->batch_remaining == 0;
    if (!starts_append && header->append_index != expect->append_index) {
        return "a record that does not continue its append";
    }
    return NULL;
}

void cairn_log_expect_advance(struct cairn_log_expect *expect,
                              const struct cairn_log_record_header *header,
                              const uint8_t *header_bytes)
{
    expect->offset = header->offset + 1;
    expect->chain = cairn_log_chain_after(header_bytes);
    expect->time_us = header->ingest_time_us;
    expect->batch_remaining = header->batch_remaining;
    expect->append_index = header->append_index + 1;
}

/* Note one header that verified. */
static void survey_header(struct cairn_log_survey *survey,
                          const struct cairn_log_record_header *header)
{
    /* An append starts only after the one before it is durable. */
    uint64_t before =
        header->offset > header->append_index ? header->offset - 1 - header->append_index : 0;
    if (before > survey->durable_offset) {
        survey->durable_offset = before;
    }
}

int cairn_log_survey_add(struct cairn_log_survey *survey, struct cairn_log_window *window,
                         uint64_t from, uint64_t to, uint64_t log_id, uint64_t after_offset)
{
    uint64_t at = (from + 7) & ~UINT64_C(7);
    while (at + CAIRN_LOG_RECORD_HEADER_BYTES <= to) {
        const uint8_t *bytes;
        int rc = cairn_log_window_at(window, at, CAIRN_LOG_RECORD_HEADER_BYTES, to, &bytes);
        if (rc != 0) {
            return rc == -ENODATA ? 0 : rc;
        }
        struct cairn_log_record_header header;
        uint64_t total = 8;
        /* The log id first: it rules out almost every place without computing a checksum. */
        if (cairn_log_record_log_id(bytes) == log_id &&
            cairn_log_record_header_decode(bytes, &header) && header.offset > after_offset) {
            survey_header(survey, &header);
            uint64_t whole = cairn_log_record_bytes(header.payload_len);
            if (header.payload_len <= CAIRN_LOG_PAYLOAD_BYTES_MAX && at + whole <= to) {
                rc = cairn_log_window_at(window, at, (size_t)whole, to, &bytes);
                if (rc != 0) {
                    return rc == -ENODATA ? 0 : rc;
                }
                if (cairn_log_padded_crc(bytes, header.payload_len) == header.payload_crc) {
                    survey->records++;
                    total = whole;
                }
            }
        }
        at += total;
    }
    return 0;
}
