/* Every bound that Cairn enforces on what comes from outside, in one place.
 * Each has a test at the bound. Sizes are in bytes unless the name says otherwise. */
#ifndef CAIRN_BASE_LIMITS_H
#define CAIRN_BASE_LIMITS_H

#define CAIRN_KEY_BYTES_MAX  512u
#define CAIRN_NAME_BYTES_MAX 128u  /* collection, feature and vector names */
#define CAIRN_FEATURES_MAX   4096u /* features of one entity or schema */
#define CAIRN_VECTORS_MAX    16u   /* vector fields of one collection */
#define CAIRN_DIM_MAX        8192u /* components of one vector */
#define CAIRN_STRING_BYTES_MAX                                                                     \
    (1u << 20) /* one string, bytes or json value, or one packed list                              \
                */
#define CAIRN_LIST_ITEMS_MAX        65536u
#define CAIRN_PROVENANCE_INPUTS_MAX 64u
#define CAIRN_ENTITY_BYTES_MAX      (4u << 20) /* one encoded entity: one log record's payload */
#define CAIRN_BATCH_ENTITIES_MAX    10000u     /* entities of one JSON or FlatBuffers request */
#define CAIRN_KEYS_MAX              10000u     /* keys of one get or delete request */
#define CAIRN_LOOKUPS_MAX           64u        /* lookups of one features:get */
#define CAIRN_SEARCHES_MAX          1024u      /* queries of one batch search */
#define CAIRN_K_MAX                 10000u
#define CAIRN_SEARCH_HITS_MAX       (1u << 20) /* sum of k over one batch search */
#define CAIRN_EF_MAX                10000u
#define CAIRN_NPROBE_MAX            65536u
#define CAIRN_SCROLL_LIMIT_MAX      10000u
#define CAIRN_DELETE_MATCHES_MAX    100000u /* entities of one delete by filter */
#define CAIRN_FILTER_NODES_MAX      1024u
#define CAIRN_FILTER_DEPTH_MAX      12u /* each level takes two of JSON's */
#define CAIRN_JSON_DEPTH_MAX        32u
#define CAIRN_BODY_BYTES_MAX        (64u << 20)  /* JSON and FlatBuffers bodies */
#define CAIRN_ANSWER_BYTES_MAX      (256u << 20) /* an answer with rows grows no further */
#define CAIRN_NDJSON_LINE_BYTES_MAX (8u << 20)
#define CAIRN_HEADER_BYTES_MAX      (16u << 10)
#define CAIRN_COLLECTIONS_MAX       1024u
#define CAIRN_SHARDS_MAX            256u
#define CAIRN_VNODES_DEFAULT        128u
#define CAIRN_VNODES_MAX            4096u
#define CAIRN_SHARD_WEIGHT_MAX      1000u
#define CAIRN_RING_POINTS_MAX       (1u << 20) /* of all shards together, in one ring */
#define CAIRN_URL_BYTES_MAX         512u
#define CAIRN_MAP_BYTES_MAX         (1u << 20)
#define CAIRN_SHARD_ANSWER_BYTES_MAX                                                               \
    (256u << 20) /* an answer of one shard to a router or another shard */
#define CAIRN_SHARD_CALL_BYTES_MAX  (256u << 20) /* a request to one shard */
#define CAIRN_SHARD_TEXT_BYTES_MAX  (4u << 20)   /* a schema, a map or JSON between processes */
#define CAIRN_HOT_TOKENS_MAX        64u          /* that a shard reports */
#define CAIRN_IMPORT_BYTES_MAX      (CAIRN_ENTITY_BYTES_MAX + 256u) /* one encoded import */
#define CAIRN_SHARD_CALLS_MAX       4096u      /* calls of one process to one shard under way */
#define CAIRN_PEER_CONNECTIONS_MAX  256u       /* of one process to one other */
#define CAIRN_PEER_CONNECT_MS       2000u      /* name look-up, TCP and TLS together */
#define CAIRN_PEER_IDLE_MS          20000u     /* shorter than a server keeps an idle connection */
#define CAIRN_EXPORT_BYTES_MAX      (8u << 20) /* payload bytes of one step of a copy */
#define CAIRN_FORGET_KEYS_MAX       1000u      /* keys of one record that drops rows moved away */
#define CAIRN_FREEZE_MS             200u  /* how long writes to moving ranges are held at most */
#define CAIRN_JOBS_KEPT_MAX         16u   /* ended jobs that are remembered */
#define CAIRN_WRITE_QUEUE_MAX       4096u /* requests waiting for one shard's writer */
#define CAIRN_WRITE_QUEUE_BYTES_MAX (128u << 20)
#define CAIRN_WORK_QUEUE_MAX        1024u /* requests waiting for a worker */
#define CAIRN_SEGMENT_BYTES_DEFAULT (64u << 20)
#define CAIRN_GROUP_BYTES_MAX       (32u << 20) /* log bytes of one group commit */
#define CAIRN_TIMEOUT_MS_DEFAULT    30000u
#define CAIRN_TIMEOUT_MS_MAX        600000u
#define CAIRN_PEERS_MAX             1024u /* URLs that one process calls before it is restarted */
#define CAIRN_CONTROL_THREADS       16u   /* operations on shards that may wait, at a time */
#define CAIRN_CONTROL_QUEUE_MAX     256u  /* of those, waiting for a thread */
#define CAIRN_SCAN_ROWS_MAX         256u  /* rows of one step of a scan of a shard elsewhere */
#define CAIRN_COPY_SHARE_DEFAULT    50u   /* percent of the time that a move may spend copying */

#endif
