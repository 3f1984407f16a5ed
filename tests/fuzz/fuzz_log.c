/* Fuzz the log's recovery: a segment that the input makes up, or a real log that the input damages.
 *
 * Whatever the bytes: check and open answer; a log that opens reads to its end without an error;
 * one that is refused opens after a repair; and a real log's records come back as they were written
 * or not at all. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/diag.h"
#include "featurestore/log.h"
#include "featurestore/log_format.h"
#include "tests/lib/memory_io.h"

#define DIR           "log"
#define FIRST_SEGMENT DIR "/00000000000000000001.seg"
#define RECORDS       24u
#define SEGMENT_BYTES 600u

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
    struct cairn_memory_io *memory;
    const struct cairn_io *io;
};

static int open_log(struct world *world, struct cairn_log **log)
{
    struct cairn_log_options options = {
        .dir = DIR, .shard = 1, .segment_bytes_max = SEGMENT_BYTES, .io = world->io};
    struct cairn_error err = {0};
    int rc = cairn_log_open(&options, 0, log, NULL, &err);
    REQUIRE(rc == 0 || rc == CAIRN_ECORRUPT || rc == CAIRN_EUNAVAILABLE);
    return rc;
}

/* Record `offset` holds `offset` bytes of the value `offset`. */
static void append_one(struct cairn_log *log, uint64_t offset)
{
    char payload[256];
    memset(payload, (int)offset, sizeof(payload));
    struct cairn_log_entry entry = {
        .kind = 1, .token = offset, .payload = {payload, (uint32_t)(offset % 200)}};
    struct cairn_log_entry pair[2] = {entry, entry};
    struct cairn_log_batch batch = {pair, offset % 3 == 0 ? 2 : 1};
    int64_t time_us = (int64_t)offset;
    uint64_t first;
    REQUIRE(cairn_log_append(log, &batch, 1, &time_us, &first, NULL) == 0);
}

static void read_all(struct cairn_log *log, bool ours)
{
    struct cairn_log_range range = {0};
    struct cairn_log_cursor *cursor;
    struct cairn_log_record record;
    struct cairn_error err = {0};
    struct cairn_log_stats stats;
    uint64_t last = 0;
    int rc;
    cairn_log_stats(log, &stats);
    REQUIRE(cairn_log_cursor_open(log, &range, &cursor, &err) == 0);
    while ((rc = cairn_log_cursor_next(cursor, &record, &err)) == 0) {
        REQUIRE(record.offset == ++last);
        REQUIRE(!ours || record.payload.len == record.token % 200);
        for (uint32_t i = 0; ours && i < record.payload.len; i++) {
            REQUIRE((uint8_t)record.payload.ptr[i] == (uint8_t)record.token);
        }
    }
    REQUIRE(rc == CAIRN_EEND && last == stats.end_offset);
    cairn_log_cursor_close(&cursor);
}

/* Open, or repair and open; then go on with the log. */
static void examine(struct world *world, bool ours)
{
    struct cairn_log_report report, again;
    struct cairn_log *log;
    int rc = cairn_log_check(DIR, world->io, &report, NULL);
    REQUIRE(rc == 0 || rc == CAIRN_EUNAVAILABLE);
    int open_rc = open_log(world, &log);
    if (rc == CAIRN_EUNAVAILABLE) {
        REQUIRE(open_rc == rc);
        return;
    }
    if (open_rc != 0) {
        REQUIRE(cairn_log_repair(DIR, world->io, &report, NULL) == 0);
        REQUIRE(open_log(world, &log) == 0 || report.finding.damage == CAIRN_DAMAGE_NONE);
        if (!log) {
            return; /* in order, but the log of another shard */
        }
    }
    read_all(log, ours);
    append_one(log, 7);
    read_all(log, ours);
    cairn_log_close(&log);
    REQUIRE(cairn_log_check(DIR, world->io, &again, NULL) == 0);
    REQUIRE(again.finding.damage == CAIRN_DAMAGE_NONE);
}

/* Give made-up records valid checksums and identities, so that the rules behind them are reached.
 */
static void seal(uint8_t *bytes, size_t len, uint8_t choice)
{
    if (len < CAIRN_LOG_SEGMENT_HEADER_BYTES) {
        return;
    }
    struct cairn_log_segment_header segment = {.version = 1,
                                               .shard = 1,
                                               .log_id = 5,
                                               .first_offset = 1,
                                               .prior_time_us = INT64_MIN,
                                               .chain = cairn_log_chain_start(5)};
    cairn_log_segment_header_encode(&segment, bytes);
    uint64_t chain = segment.chain;
    uint64_t offset = 1;
    for (size_t at = CAIRN_LOG_SEGMENT_HEADER_BYTES; at + CAIRN_LOG_RECORD_HEADER_BYTES <= len;) {
        uint8_t *record = bytes + at;
        struct cairn_log_record_header header = {
            .log_id = 5, .offset = offset++, .chain = chain, .shard = 1, .kind = record[68]};
        header.ingest_time_us = record[32];
        header.payload_len = record[56];
        header.batch_remaining = record[60] % 4;
        header.append_index = record[64] % 4;
        size_t whole = cairn_log_record_bytes(header.payload_len);
        if (at + whole <= len) {
            header.payload_crc = cairn_log_padded_crc(record, header.payload_len);
        }
        if (record[69] % 16 == choice % 16) {
            header.offset += record[70];
        }
        cairn_log_record_header_encode(&header, record);
        chain = cairn_log_chain_after(record);
        at += whole;
    }
}

static void made_up(struct world *world, const uint8_t *data, size_t size)
{
    uint8_t *bytes = malloc(size);
    memcpy(bytes, data, size);
    if (data[0] & 2) {
        seal(bytes, size, data[0] >> 2);
    }
    cairn_memory_io_put(world->memory, FIRST_SEGMENT, bytes, size);
    free(bytes);
    examine(world, false);
}

struct damage {
    struct world *world;
    const uint8_t *data;
    size_t size;
    uint8_t number; /* of the next file */
};

/* Each eight bytes of the input are one change to one file of the log. */
static int damage_file(void *arg, const char *name)
{
    struct damage *damage = arg;
    struct world *world = damage->world;
    uint8_t number = damage->number++;
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", DIR, name);
    struct cairn_buf *file = cairn_memory_io_file(world->memory, path);
    for (size_t at = 0; at + 8 <= damage->size; at += 8) {
        const uint8_t *change = damage->data + at;
        size_t where = ((size_t)change[1] << 8 | change[2]) % (file->len + 1);
        size_t from = ((size_t)change[3] << 8 | change[4]) % (file->len + 1);
        size_t count = change[5];
        if (change[0] % 8 != number % 8) {
            continue;
        }
        if (change[6] % 4 == 0) {
            file->len = where; /* cut */
        } else if (change[6] % 4 == 1 && where < file->len) {
            file->data[where] = (char)(file->data[where] ^ change[7]);
        } else if (where + count <= file->len && from + count <= file->len) {
            memmove(file->data + where, file->data + from, count);
        }
    }
    return 0;
}

static void damaged(struct world *world, const uint8_t *data, size_t size)
{
    struct cairn_log *log;
    REQUIRE(open_log(world, &log) == 0);
    for (uint64_t offset = 1; offset <= RECORDS; offset++) {
        append_one(log, offset);
    }
    cairn_log_close(&log);
    struct damage damage = {world, data, size, 0};
    REQUIRE(world->io->list(world->io->context, DIR, damage_file, &damage) == 0);
    examine(world, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    cairn_diag_set_level(CAIRN_DIAG_ERROR);
    struct world world = {.memory = cairn_memory_io_new(1)};
    world.io = cairn_memory_io_table(world.memory);
    if (data[0] & 1) {
        made_up(&world, data, size);
    } else {
        damaged(&world, data + 1, size - 1);
    }
    cairn_memory_io_free(&world.memory);
    return 0;
}
