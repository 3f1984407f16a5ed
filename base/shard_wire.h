/* What routers and shards say to each other: one request and one answer, with the members that the
 * operation uses. The same structs serve a shard in this process, where nothing is encoded, and one
 * behind HTTP, where they are FlatBuffers (base/shard.fbs) in the bodies of
 * POST /internal/v1/shards/{id}/{operation}. docs/cluster.md tells the protocol. */
#ifndef CAIRN_BASE_SHARD_WIRE_H
#define CAIRN_BASE_SHARD_WIRE_H

#include "base/record.h"
#include "base/wire.h"

enum cairn_shard_op {
    /* Data. */
    CAIRN_SHARD_GET,    /* keys -> rows, one per key in their order */
    CAIRN_SHARD_WRITE,  /* items -> results; together or not at all */
    CAIRN_SHARD_SEARCH, /* queries -> lists; limit 1: and the hits' rows, in the lists' order */
    CAIRN_SHARD_SCAN,   /* after_key, limit, filter -> rows in key order, more */
    CAIRN_SHARD_COUNT,  /* filter -> count */
    /* The shard itself. */
    CAIRN_SHARD_REPORT,  /* -> report */
    CAIRN_SHARD_SCHEMAS, /* -> texts: the newest schema of every name, dropped ones too */
    CAIRN_SHARD_ADOPT,   /* text: a map, taken if its epoch is higher ("": none); fence: the epoch
                            that the shard must be at (CAIRN_OFFSET_NONE: any; 0: no map)
                            -> epoch, text: the shard's map */
    /* A move, asked of its target. */
    CAIRN_SHARD_IMPORT,       /* move, url: begin or go on copying from the source; idempotent */
    CAIRN_SHARD_IMPORT_STATE, /* move, until_offset, wait_ms: wait until the import has reached that
                                 offset of the source's log -> progress, digest */
    /* A move, asked of its source. */
    CAIRN_SHARD_EXPORT,  /* move, from_offset, bytes_max, wait_ms -> records, progress */
    CAIRN_SHARD_FREEZE,  /* move, wait_ms: hold writes to its tokens for at most so long
                            -> progress.end_offset: nothing of the move comes after it; fence */
    CAIRN_SHARD_DIGEST,  /* move, until_offset -> digest, progress.records up to that offset */
    CAIRN_SHARD_RELEASE, /* fence, text: the map in which the move is done -> epoch */
    CAIRN_SHARD_THAW,    /* fence: let the held writes go */
    /* The process that has the map's home, not its shard. */
    CAIRN_SHARD_COLLECTION_PUT,  /* text: the schema asked for -> text: the new one, created */
    CAIRN_SHARD_COLLECTION_DROP, /* text: the name */
    CAIRN_SHARD_CLUSTER,         /* text: a change asked for, as JSON -> text: JSON */
    CAIRN_SHARD_OPS_COUNT
};
/* "get", "import-state", …: the last segment of the path; static. */
const char *cairn_shard_op_name(enum cairn_shard_op op);
bool cairn_shard_op_parse(struct cairn_str name, enum cairn_shard_op *out);

/* One record of a write or an import. */
struct cairn_shard_item {
    uint8_t kind;        /* enum cairn_record_kind (featurestore/log.h) */
    uint32_t collection; /* id */
    uint64_t token;
    struct cairn_str payload; /* 8-byte aligned; encoded entity, schema text, … */
    struct cairn_str key;     /* the entity's, also without if_offset; other kinds have none */
    uint64_t if_offset;       /* CAIRN_OFFSET_NONE: no precondition */
};

struct cairn_shard_move {
    uint64_t plan;
    uint32_t source, target;
};

struct cairn_shard_query {
    const float *vector; /* dim components */
    uint32_t dim, k, ef, nprobe;
    bool exact;
    struct cairn_str filter_json; /* as the client wrote it; len 0: none */
};

struct cairn_shard_request {
    uint64_t cluster; /* 0: not known yet */
    uint64_t epoch;   /* of the map that the caller goes by; 0: it has none */
    bool same_epoch;  /* answer only if the shard's map is of that very epoch (scattered reads) */
    uint32_t collection;
    const struct cairn_str *keys;
    uint32_t keys_count;
    const struct cairn_str *vectors; /* get, scan: fields whose floats come with the rows */
    uint32_t vectors_count;
    const struct cairn_shard_item *items;
    uint32_t items_count;
    struct cairn_str vector; /* search: the field */
    const struct cairn_shard_query *queries;
    uint32_t queries_count;
    bool with_rows;               /* search: a row for every hit, list after list */
    struct cairn_str filter_json; /* scan, count */
    struct cairn_str after_key;
    uint32_t limit;
    struct cairn_shard_move move;
    struct cairn_str url; /* import: where the source answers */
    uint64_t from_offset, until_offset, bytes_max, fence;
    uint32_t wait_ms;
    struct cairn_str text;
};

/* A row as the store keeps it. */
struct cairn_shard_row {
    struct cairn_str key;
    bool found;
    struct cairn_str row; /* 8-byte aligned; cairn_row_view_init opens it */
    const struct cairn_vector *vectors;
    uint32_t vectors_count;
};

struct cairn_shard_hit {
    struct cairn_str key;
    float score;
    uint64_t offset;
};
struct cairn_shard_hits { /* of one query, best first, ties by key */
    const struct cairn_shard_hit *hits;
    uint32_t count;
};

/* One record on its way from source to target. */
struct cairn_shard_record {
    uint64_t source_offset; /* in the source's log */
    uint32_t origin_shard;  /* where it was first written, and as what */
    uint64_t origin_offset;
    int64_t ingest_time_us; /* when it was first accepted */
    uint32_t collection;
    uint64_t token;
    struct cairn_str payload; /* the encoded entity, 8-byte aligned */
};

struct cairn_shard_progress {
    uint64_t reached;        /* offset of the source's log up to which all is copied or was read */
    uint64_t end_offset;     /* where the source's log ended when that was said */
    uint64_t records, bytes; /* copied so far, payload bytes */
    bool running;
};

struct cairn_index_report {
    struct cairn_str vector;
    uint8_t built_kind; /* enum cairn_index_kind */
    bool building;
    uint64_t live, built, tail, tombstones, generation_offset, indexed_offset, memory_bytes,
        disk_bytes, builds, last_build_us;
};
struct cairn_collection_report {
    uint32_t collection;
    uint64_t entities, routed; /* `entities` are those that the shard owns */
    int64_t newest_event_us, newest_ingest_us;
    const struct cairn_index_report *indexes;
    uint32_t indexes_count;
};
/* A token that many of the sampled reads and writes were about. */
struct cairn_hot_token {
    uint64_t token;
    uint32_t collection;
    struct cairn_str key; /* one of its keys */
    uint64_t reads, writes;
};
struct cairn_shard_report {
    bool read_only;
    struct cairn_str reason; /* why, when it is */
    uint64_t entities;
    uint64_t log_end_offset, log_bytes, log_segments;
    uint64_t queued_writes, queued_bytes, held_writes;
    uint64_t row_disk_bytes, row_memory_bytes, index_disk_bytes, index_memory_bytes;
    uint64_t reads, writes; /* entities, since the shard opened */
    uint64_t foreign;       /* rows that the shard has and does not own: being copied or dropped */
    const struct cairn_collection_report *collections;
    uint32_t collections_count;
    const struct cairn_hot_token *hot; /* hottest first */
    uint32_t hot_count;
};

struct cairn_shard_answer {
    struct cairn_error error; /* code 0: done; CAIRN_ENOTOWNER comes with `text`, the shard's map */
    uint32_t shard;
    uint64_t epoch;           /* of the shard's map; 0: it has none */
    uint64_t applied;         /* what the answer reflects at least */
    uint64_t catalog_version; /* newest schema change that the shard has seen */
    const struct cairn_shard_row *rows;
    uint32_t rows_count;
    bool more, created;
    const struct cairn_write_result *results;
    uint32_t results_count;
    const struct cairn_shard_hits *lists;
    uint32_t lists_count;
    uint64_t indexed, generation; /* search: how far the index was */
    uint64_t count;
    const struct cairn_shard_record *records;
    uint32_t records_count;
    struct cairn_shard_progress progress;
    uint64_t digest[2];
    uint64_t fence;
    const struct cairn_str *texts;
    uint32_t texts_count;
    struct cairn_str text;
    const struct cairn_shard_report *report;
};

/* Encoded bytes (8-byte aligned) live in the encoder until its next use. Never fails: limits have
 * been checked by the caller. */
struct cairn_str cairn_shard_request_encode(struct cairn_encoder *encoder,
                                            const struct cairn_shard_request *request);
struct cairn_str cairn_shard_answer_encode(struct cairn_encoder *encoder,
                                           const struct cairn_shard_answer *answer);
/* Verify and open. Arrays are in the arena, bytes point into `body`, which must be 8-byte aligned
 * (payloads, rows and vectors in it are then aligned as promised). Counts, keys, names and texts
 * are within base/limits.h, rows are such as a view may open (cairn_row_check), vectors are finite,
 * error codes known. CAIRN_EBODY, CAIRN_ETOOLARGE, CAIRN_ENUMBER, CAIRN_EKEY, CAIRN_ENAME,
 * CAIRN_EUTF8, CAIRN_EDIMENSION, CAIRN_EFIELD. */
int cairn_shard_request_decode(struct cairn_str body, struct cairn_arena *arena,
                               struct cairn_shard_request *out, struct cairn_error *err);
int cairn_shard_answer_decode(struct cairn_str body, struct cairn_arena *arena,
                              struct cairn_shard_answer *out, struct cairn_error *err);

/* Payloads of two kinds of log records. */

/* CAIRN_RECORD_IMPORT: a record that was first written to another shard's log. */
struct cairn_imported {
    uint32_t source;        /* whose log it was read from */
    uint64_t source_offset; /* where */
    uint32_t origin_shard;
    uint64_t origin_offset;
    int64_t ingest_time_us;
    struct cairn_str entity; /* the encoded entity, 8-byte aligned */
};
/* CAIRN_EBODY (bytes elsewhere than at an 8-byte aligned address, too), CAIRN_ETOOLARGE. */
struct cairn_str cairn_imported_encode(struct cairn_encoder *encoder,
                                       const struct cairn_imported *imported);
int cairn_imported_decode(struct cairn_str bytes, struct cairn_imported *out,
                          struct cairn_error *err);
/* CAIRN_RECORD_FORGET: keys whose rows left this shard, 1 to CAIRN_FORGET_KEYS_MAX. The bytes must
 * be 8-byte aligned. CAIRN_EBODY, CAIRN_ETOOLARGE, CAIRN_EKEY, CAIRN_EUTF8. */
struct cairn_str cairn_forget_encode(struct cairn_encoder *encoder, const struct cairn_str *keys,
                                     uint32_t count);
int cairn_forget_decode(struct cairn_str bytes, struct cairn_arena *arena, struct cairn_str **keys,
                        uint32_t *count, struct cairn_error *err);

#endif
