/* Encoders and decoders of the log's bytes; the tables are in log_format.h. */
#include "featurestore/log_format.h"

#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"

static const char segment_magic[8] = {'C', 'A', 'I', 'R', 'N', 'S', 'E', 'G'};
static const char mark_magic[8] = {'C', 'A', 'I', 'R', 'N', 'M', 'R', 'K'};

static void put32(uint8_t *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof(value));
}

static void put64(uint8_t *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof(value));
}

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return le32toh(value);
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return le64toh(value);
}

void cairn_log_segment_header_encode(const struct cairn_log_segment_header *header, uint8_t *bytes)
{
    memcpy(bytes, segment_magic, sizeof(segment_magic));
    put32(bytes + 8, header->version);
    put32(bytes + 12, header->shard);
    put64(bytes + 16, header->log_id);
    put64(bytes + 24, header->first_offset);
    put64(bytes + 32, header->chain);
    put64(bytes + 40, (uint64_t)header->created_us);
    put64(bytes + 48, (uint64_t)header->prior_time_us);
    put64(bytes + 56, header->previous_first);
    put64(bytes + 64, header->previous_bytes);
    put64(bytes + 72, header->previous_last_at);
    put32(bytes + 80, 0);
    put32(bytes + 84, cairn_crc32c(0, bytes, 84));
}

bool cairn_log_segment_header_decode(const uint8_t *bytes, struct cairn_log_segment_header *out)
{
    if (memcmp(bytes, segment_magic, sizeof(segment_magic)) != 0 ||
        get32(bytes + 84) != cairn_crc32c(0, bytes, 84)) {
        return false;
    }
    *out = (struct cairn_log_segment_header){
        .version = get32(bytes + 8),
        .shard = get32(bytes + 12),
        .log_id = get64(bytes + 16),
        .first_offset = get64(bytes + 24),
        .chain = get64(bytes + 32),
        .created_us = (int64_t)get64(bytes + 40),
        .prior_time_us = (int64_t)get64(bytes + 48),
        .previous_first = get64(bytes + 56),
        .previous_bytes = get64(bytes + 64),
        .previous_last_at = get64(bytes + 72),
    };
    return true;
}

void cairn_log_record_header_encode(const struct cairn_log_record_header *header, uint8_t *bytes)
{
    put32(bytes + 4, header->payload_crc);
    put64(bytes + 8, header->log_id);
    put64(bytes + 16, header->offset);
    put64(bytes + 24, header->chain);
    put64(bytes + 32, (uint64_t)header->ingest_time_us);
    put64(bytes + 40, header->token);
    put32(bytes + 48, header->collection);
    put32(bytes + 52, header->shard);
    put32(bytes + 56, header->payload_len);
    put32(bytes + 60, header->batch_remaining);
    put32(bytes + 64, header->append_index);
    put32(bytes + 68, header->kind); /* and three zero bytes */
    put32(bytes, cairn_crc32c(0, bytes + 4, CAIRN_LOG_RECORD_HEADER_BYTES - 4));
}

bool cairn_log_record_header_decode(const uint8_t *bytes, struct cairn_log_record_header *out)
{
    if (get32(bytes) != cairn_crc32c(0, bytes + 4, CAIRN_LOG_RECORD_HEADER_BYTES - 4)) {
        return false;
    }
    *out = (struct cairn_log_record_header){
        .payload_crc = get32(bytes + 4),
        .log_id = get64(bytes + 8),
        .offset = get64(bytes + 16),
        .chain = get64(bytes + 24),
        .ingest_time_us = (int64_t)get64(bytes + 32),
        .token = get64(bytes + 40),
        .collection = get32(bytes + 48),
        .shard = get32(bytes + 52),
        .payload_len = get32(bytes + 56),
        .batch_remaining = get32(bytes + 60),
        .append_index = get32(bytes + 64),
        .kind = bytes[68],
        .reserved_set = (bytes[69] | bytes[70] | bytes[71]) != 0,
    };
    return true;
}

void cairn_log_mark_encode(const struct cairn_log_mark *mark, uint8_t *bytes)
{
    memcpy(bytes, mark_magic, sizeof(mark_magic));
    put64(bytes + 8, mark->sequence);
    put64(bytes + 16, mark->log_id);
    put64(bytes + 24, mark->segment_first);
    put64(bytes + 32, mark->byte);
    put64(bytes + 40, mark->offset);
    put64(bytes + 48, mark->chain);
    put32(bytes + 56, mark->shard);
    put32(bytes + 60, cairn_crc32c(0, bytes, 60));
}

bool cairn_log_mark_decode(const uint8_t *bytes, struct cairn_log_mark *out)
{
    if (memcmp(bytes, mark_magic, sizeof(mark_magic)) != 0 ||
        get32(bytes + 60) != cairn_crc32c(0, bytes, 60)) {
        return false;
    }
    *out = (struct cairn_log_mark){
        .sequence = get64(bytes + 8),
        .log_id = get64(bytes + 16),
        .segment_first = get64(bytes + 24),
        .byte = get64(bytes + 32),
        .offset = get64(bytes + 40),
        .chain = get64(bytes + 48),
        .shard = get32(bytes + 56),
    };
    return true;
}

uint64_t cairn_log_chain_after(const uint8_t *header_bytes)
{
    return cairn_hash64(header_bytes, CAIRN_LOG_RECORD_HEADER_BYTES);
}

uint64_t cairn_log_chain_start(uint64_t log_id)
{
    uint8_t bytes[8];
    put64(bytes, log_id);
    return cairn_hash64(bytes, sizeof(bytes));
}

uint32_t cairn_log_payload_crc(const void *payload, uint32_t len)
{
    static const uint8_t zeros[8];
    uint32_t crc = len > 0 ? cairn_crc32c(0, payload, len) : 0;
    uint32_t padding = (8 - len % 8) % 8;
    return padding > 0 ? cairn_crc32c(crc, zeros, padding) : crc;
}

uint32_t cairn_log_padded_crc(const uint8_t *record_bytes, uint32_t payload_len)
{
    return cairn_crc32c(0, record_bytes + CAIRN_LOG_RECORD_HEADER_BYTES,
                        cairn_log_record_bytes(payload_len) - CAIRN_LOG_RECORD_HEADER_BYTES);
}

uint64_t cairn_log_record_log_id(const uint8_t *bytes)
{
    return get64(bytes + 8);
}

void cairn_log_segment_name(uint64_t first_offset, char *out)
{
    snprintf(out, CAIRN_LOG_SEGMENT_NAME_BYTES, "%020" PRIu64 ".seg", first_offset);
}

bool cairn_log_segment_name_parse(const char *name, uint64_t *first_offset)
{
    uint64_t value = 0;
    for (int i = 0; i < 20; i++) {
        if (name[i] < '0' || name[i] > '9') {
            return false;
        }
        uint64_t digit = (uint64_t)(name[i] - '0');
        if (value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *first_offset = value;
    return strcmp(name + 20, ".seg") == 0;
}
