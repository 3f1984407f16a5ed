/* The bytes of the feature log: segment headers, record headers and the durable mark.
 *
 * All integers are little-endian. A record starts on a multiple of 8 bytes and is followed by its
 * payload and zero padding up to the next multiple of 8. docs/log-format.md explains why each
 * field is there.
 *
 * Segment file `<first offset, 20 decimal digits>.seg`, header of 88 bytes:
 *
 *   at  size  field
 *    0     8  magic "CAIRNSEG"
 *    8     4  format version
 *   12     4  shard
 *   16     8  log id: random, the same in all segments and records of one log
 *   24     8  first offset: of the first record in this file
 *   32     8  chain: what the first record must carry
 *   40     8  created, microseconds since the epoch
 *   48     8  ingest time of record `first offset - 1`; the first record's is not earlier
 *   56     8  previous: first offset of the segment before this one; 0: this is the log's first
 *   64     8  previous bytes: length of that segment
 *   72     8  previous last: where in that segment its last record starts
 *   80     4  zero
 *   84     4  CRC32C of bytes 0 to 83
 *
 * Record, header of 72 bytes:
 *
 *   at  size  field
 *    0     4  CRC32C of header bytes 4 to 71
 *    4     4  CRC32C of payload and padding
 *    8     8  log id
 *   16     8  offset
 *   24     8  chain: XXH3-64 of the 72 header bytes of the record before, in whatever segment;
 *             for the log's first record, of the 8 bytes of the log id
 *   32     8  ingest time, microseconds since the epoch
 *   40     8  token
 *   48     4  collection id
 *   52     4  shard
 *   56     4  payload bytes, without padding
 *   60     4  batch remaining: records of the same batch that follow; 0 commits the batch
 *   64     4  append index: records of the same append that come before; all records up to
 *             `offset - append index - 1` were durable before this one was written
 *   68     1  kind
 *   69     3  zero
 *
 * File `mark`: two slots of 64 bytes, at 0 and at 4096, written in turn:
 *
 *   at  size  field
 *    0     8  magic "CAIRNMRK"
 *    8     8  sequence: the higher valid one of the two slots counts
 *   16     8  log id
 *   24     8  first offset of the segment that the mark stands in
 *   32     8  byte: that segment is durable up to here
 *   40     8  offset of the last record before that byte
 *   48     8  chain: what the next record must carry
 *   56     4  shard
 *   60     4  CRC32C of bytes 0 to 59 */
#ifndef CAIRN_FEATURESTORE_LOG_FORMAT_H
#define CAIRN_FEATURESTORE_LOG_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

#define CAIRN_LOG_VERSION              1u
#define CAIRN_LOG_SEGMENT_HEADER_BYTES 88u
#define CAIRN_LOG_RECORD_HEADER_BYTES  72u
#define CAIRN_LOG_MARK_BYTES           64u
#define CAIRN_LOG_MARK_SLOT_STEP       4096u
#define CAIRN_LOG_MARK_NAME            "mark"

/* One record's payload: the largest entity, and around it what an import says of where it was first
 * written. All bytes of one append: four times the largest body, so that whatever a body can hold
 * fits in one batch. */
#define CAIRN_LOG_PAYLOAD_BYTES_MAX CAIRN_IMPORT_BYTES_MAX
#define CAIRN_LOG_APPEND_BYTES_MAX  (4u * CAIRN_BODY_BYTES_MAX)

#define CAIRN_LOG_SEGMENT_NAME_BYTES 25u /* 20 digits, ".seg", NUL */

struct cairn_log_segment_header {
    uint32_t version;
    uint32_t shard;
    uint64_t log_id;
    uint64_t first_offset;
    uint64_t chain;
    int64_t created_us;
    int64_t prior_time_us;
    uint64_t previous_first;
    uint64_t previous_bytes;
    uint64_t previous_last_at;
};

struct cairn_log_record_header {
    uint32_t payload_crc;
    uint64_t log_id;
    uint64_t offset;
    uint64_t chain;
    int64_t ingest_time_us;
    uint64_t token;
    uint32_t collection;
    uint32_t shard;
    uint32_t payload_len;
    uint32_t batch_remaining;
    uint32_t append_index;
    uint8_t kind;
    bool reserved_set; /* a byte that this version writes as zero is not */
};

struct cairn_log_mark {
    uint64_t sequence;
    uint64_t log_id;
    uint64_t segment_first;
    uint64_t byte;
    uint64_t offset;
    uint64_t chain;
    uint32_t shard;
};

void cairn_log_segment_header_encode(const struct cairn_log_segment_header *header, uint8_t *bytes);
/* False when magic or checksum do not match; the version is the caller's to judge. */
bool cairn_log_segment_header_decode(const uint8_t *bytes, struct cairn_log_segment_header *out);

void cairn_log_record_header_encode(const struct cairn_log_record_header *header, uint8_t *bytes);
/* False when the header's checksum does not match. */
bool cairn_log_record_header_decode(const uint8_t *bytes, struct cairn_log_record_header *out);

void cairn_log_mark_encode(const struct cairn_log_mark *mark, uint8_t *bytes);
bool cairn_log_mark_decode(const uint8_t *bytes, struct cairn_log_mark *out);

/* Bytes that a record takes in the file, padding included. */
static inline uint64_t cairn_log_record_bytes(uint32_t payload_len)
{
    return CAIRN_LOG_RECORD_HEADER_BYTES + (((uint64_t)payload_len + 7) & ~UINT64_C(7));
}

/* What the record after these 72 header bytes must carry as its chain. */
uint64_t cairn_log_chain_after(const uint8_t *header_bytes);
/* What the first record of a log must carry. */
uint64_t cairn_log_chain_start(uint64_t log_id);

/* The log id of what may be a record, checked or not. */
uint64_t cairn_log_record_log_id(const uint8_t *bytes);

/* Checksum of a payload and of the padding it will get; and of both as they stand in a record. */
uint32_t cairn_log_payload_crc(const void *payload, uint32_t len);
uint32_t cairn_log_padded_crc(const uint8_t *record_bytes, uint32_t payload_len);

/* `out` holds CAIRN_LOG_SEGMENT_NAME_BYTES. */
void cairn_log_segment_name(uint64_t first_offset, char *out);
/* False when the name is not that of a segment. */
bool cairn_log_segment_name_parse(const char *name, uint64_t *first_offset);

#endif
