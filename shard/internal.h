/* What the files of shard/ share. Nobody else includes this. */
#ifndef CAIRN_SHARD_INTERNAL_H
#define CAIRN_SHARD_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/limits.h"
#include "shard/shard.h"

/* One vector field's index, shared between the catalog and the searches that use it: the last
 * reference closes it, and deletes its directory if the field's collection was dropped. */
struct shard_vector {
    atomic_uint references;
    struct cairn_str name; /* owned */
    struct cairn_index *index;
    char *dir;
    atomic_bool dropped;
};

struct shard_collection {
    const struct cairn_schema *schema; /* a reference */
    struct shard_vector *vectors[CAIRN_VECTORS_MAX];
    uint32_t vectors_count;
};

/* Ownership: which tokens this shard answers for, and what else lies in its views. */
struct shard_ownership {
    pthread_rwlock_t lock; /* guards what follows but the atomics; changed by the writer only */
    const struct cairn_map *map; /* NULL: none yet; a reference */
    /* Imports that the log has, in order: what it says of their tokens before is void. */
    struct shard_acquisition {
        uint64_t begin_offset;
        uint32_t source;
        const struct cairn_map *map; /* whose plan's move it is; a reference */
    } * acquisitions;
    uint32_t acquisitions_count;

    atomic_uint_fast64_t epoch; /* the map's; 0: none */
    /* The views may hold rows of tokens that the shard does not own: reads leave them out. Set
     * together with the map under which such a row can exist, cleared by forget.c when it has found
     * none; both under the lock. */
    atomic_bool mixed;
};

/* What the writer does to writes that come while a move is cut over. The writer's, but for
 * `control`, guarded by queue_lock. */
struct shard_hold {
    bool active;
    uint64_t fence;
    struct cairn_shard_move move;
    uint64_t until_us; /* monotonic */
    struct cairn_shard_write *held, **held_tail;
    uint32_t held_count;
    uint64_t held_bytes;
};
struct shard_control {
    struct shard_freeze *freeze; /* asked for, not yet in force; its caller waits */
    uint64_t thaw;               /* fence of the hold to end; 0: none */
};

/* forget.c: dropping rows that the shard does not own. */
struct shard_forget {
    pthread_mutex_t
        lock; /* held over each batch, so that none is under way when an import begins */
    pthread_mutex_t wake_lock; /* guards what follows */
    pthread_cond_t wake;
    pthread_t thread;
    bool started, stopping;
    bool wanted;
    bool census;            /* asked for */
    uint64_t not_before_us; /* monotonic */
};

/* exports.c: what the shard has while its views are mixed, counted now and then. Guarded by
 * export_lock. */
struct shard_census {
    uint64_t epoch, counted_us; /* monotonic; 0: never */
    uint64_t took_us;
    struct shard_census_entry {
        uint32_t collection;
        uint64_t entities; /* owned */
    } * entries;
    uint32_t entries_count;
    uint64_t foreign;
};

/* digest.c: how far the digest of a move has been carried. Guarded by its lock. */
struct shard_digest {
    pthread_mutex_t lock;
    struct cairn_shard_move move; /* plan 0: none */
    uint64_t log_offset;          /* of this shard's log, read up to here */
    uint64_t source_offset;       /* of the source's log, covered up to here */
    uint64_t records;
    uint64_t sum[2];
};

/* hot.c: tokens that many reads and writes are about. */
#define SHARD_HOT_TOKENS 64u
#define SHARD_HOT_LISTED 10u
struct shard_hot {
    atomic_uint_fast64_t reads, writes; /* entities, since open */
    pthread_mutex_t lock;               /* guards what follows */
    struct shard_hot_entry {
        uint64_t token, reads, writes;
        uint32_t collection;
        uint32_t key_len;
        char key[CAIRN_KEY_BYTES_MAX];
    } entries[SHARD_HOT_TOKENS];
    uint32_t count;
    uint64_t samples;
};

struct shard_exports {
    struct cairn_counter *fsyncs, *records, *batches, *replayed;
    struct cairn_gauge *log_bytes, *log_segments, *applied, *queued_writes, *queued_bytes,
        *rows_per_fsync;
    struct cairn_gauge *row_disk_bytes, *row_memory_bytes, *index_disk_bytes, *index_memory_bytes;
    struct cairn_gauge *index_indexed, *index_generation, *index_tail, *index_live, *read_only;
    struct cairn_counter *reads, *writes;
    struct cairn_gauge *entities, *foreign, *held_writes, *epoch;
    /* Guarded by export_lock. */
    uint64_t fsyncs_seen, records_seen, batches_seen, reads_seen, writes_seen;
};

struct cairn_shard {
    /* Immutable after open. */
    uint32_t id;
    char *dir;
    const struct cairn_io *io;
    struct cairn_pool *builders;
    struct cairn_metrics *metrics;
    uint64_t free_bytes_min;
    struct cairn_log *log; /* NULL when it could not be opened: read-only */
    struct cairn_rowstore *rows;
    pthread_t writer;
    bool writer_started;

    /* Guarded by queue_lock. */
    pthread_mutex_t queue_lock;
    pthread_cond_t queue_filled;
    struct cairn_shard_write *queue_head, **queue_tail;
    uint64_t queued_writes, queued_bytes;
    bool stopping;
    struct shard_control control;

    /* Guarded by state_lock; `state` is also read without it. */
    pthread_mutex_t state_lock;
    atomic_int state;
    int refusal_code; /* what writes get while read-only */
    char reason[512];

    atomic_uint_fast64_t applied;
    atomic_uint_fast64_t catalog_version; /* newest schema version seen */
    atomic_uint held_writes;

    struct shard_ownership ownership;
    struct shard_forget forget;
    struct shard_digest digest;
    struct shard_hot hot;
    uint32_t forget_after_ms;

    /* Guarded by catalog_lock: changed by the writer only, so the writer reads it unlocked. */
    pthread_rwlock_t catalog_lock;
    struct shard_collection **collections;
    uint32_t collections_count;

    /* The writer's. */
    struct shard_hold hold;
    int64_t ingest_floor_us;  /* no ingest time is earlier */
    uint64_t log_bytes_saved; /* log size when the indexes were last saved */

    pthread_mutex_t export_lock;
    struct shard_exports exports;
    struct shard_census census;
};

/* Stop accepting writes for good: `code` is what they get, the message is the reason. */
void shard_refuse_writes(struct cairn_shard *shard, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* recovery.c: bringing views up to the log. */

/* Give an index that is empty all vectors that the row store has. */
int shard_index_refill(struct cairn_shard *shard, uint32_t collection, struct shard_vector *vector,
                       struct cairn_error *err);

/* Open the row store, then the log, then the indexes, and replay what the views lack. */
int shard_views_open(struct cairn_shard *shard, const struct cairn_shard_options *options,
                     struct cairn_error *err);
void shard_views_close(struct cairn_shard *shard);

/* indexes.c: the catalog of collections and their indexes. */

/* NULL when there is none. Writer only, or under catalog_lock. */
struct shard_collection *shard_collection_find(const struct cairn_shard *shard, uint32_t id);
void shard_collection_free(struct shard_collection *collection, bool dropped);
/* Open, change or drop a collection as a schema text says. Index files are trusted up to an offset.
 * Writer only. */
int shard_apply_schema(struct cairn_shard *shard, struct cairn_str text, uint64_t trusted_offset,
                       struct cairn_error *err);
/* The index reflects all up to `offset`, or more. Writer only. */
void shard_index_reached(struct cairn_index *index, uint64_t offset);
/* Reflect applied records in catalog and indexes. Writer only. */
int shard_views_follow(struct cairn_shard *shard, const struct cairn_log_record *records,
                       uint32_t count, const struct cairn_apply_output *output,
                       struct cairn_error *err);
/* Save index snapshots if the log has grown enough since the last time, or always when `force`. */
void shard_views_save(struct cairn_shard *shard, bool force);
/* A reference, or NULL. Release with shard_vector_release. */
struct shard_vector *shard_vector_find(struct cairn_shard *shard, uint32_t collection,
                                       struct cairn_str name);
void shard_vector_release(struct shard_vector *vector);

/* writer.c */
void *shard_writer_main(void *shard);
/* What an internal write asks for beyond its items. */
struct shard_write_terms {
    const struct cairn_map *map;  /* the write is one MAP record: this map */
    uint64_t if_epoch;            /* MAP, FORGET: the shard must be at it; CAIRN_OFFSET_NONE: any */
    uint64_t fence;               /* MAP: of the hold that covers the move it ends; 0: none */
    const struct cairn_str *keys; /* FORGET: what it drops, unless the shard owns a row of it */
    uint32_t keys_count;
};
/* (blocks) Submit records of any kind and wait. `terms` may be NULL. */
int shard_write_wait(struct cairn_shard *shard, const struct cairn_shard_item *items,
                     uint32_t count, const struct shard_write_terms *terms,
                     struct cairn_error *err);
int shard_queue(struct cairn_shard *shard, struct cairn_shard_write *write);

/* hold.c: the writer's part in cutting a move over. All on the writer's thread. */
/* Take up what control asks for, end a hold whose time is over. */
void shard_hold_turn(struct cairn_shard *shard);
/* The list of writes, and before it those that were held, unless they still are. */
struct cairn_shard_write *shard_hold_before(struct cairn_shard *shard,
                                            struct cairn_shard_write *list);
/* Whether one of the write's tokens belongs to the move that is held. */
bool shard_hold_covers(const struct cairn_shard *shard, const struct cairn_shard_write *write);
/* Keep the write. CAIRN_EOVERLOADED when too many are kept. */
int shard_hold_keep(struct cairn_shard *shard, struct cairn_shard_write *write);
/* End the hold, if there is one; what was held comes before all else then. */
void shard_hold_end(struct cairn_shard *shard);
/* When the writer must wake for it; 0: need not. */
uint64_t shard_hold_until_us(const struct cairn_shard *shard);

/* ownership.c */
void shard_ownership_init(struct cairn_shard *shard);
void shard_ownership_release(struct cairn_shard *shard);
/* The map and the imports that the row store remembers. */
int shard_ownership_open(struct cairn_shard *shard, struct cairn_error *err);
/* Whether records may be applied after one another, each under the map in force at its place:
 * CAIRN_ECORRUPT for one whose token the shard did not own. Changes nothing. */
int shard_ownership_check_replay(struct cairn_shard *shard, const struct cairn_log_record *records,
                                 uint32_t count, struct cairn_error *err);
/* Take up MAP and IMPORT_BEGIN records that were applied. Writer only. */
int shard_ownership_follow(struct cairn_shard *shard, const struct cairn_log_record *record,
                           struct cairn_error *err);
/* Whether the shard owns the token by its map; writer, or any thread. */
bool shard_owns(struct cairn_shard *shard, uint64_t token);
/* The token that a row stands under. */
uint64_t shard_row_token(const struct cairn_schema *schema, struct cairn_str key,
                         const struct cairn_row_view *view);
/* Whether there is a row of the key, deleted ones aside, and it stands under a token that the shard
 * does not own. Writer only. */
int shard_row_find(struct cairn_shard *shard, const struct cairn_schema *schema,
                   struct cairn_str key, bool *found, bool *foreign, struct cairn_error *err);
/* Whether a map's plan has this move, to or from this shard, not done: CAIRN_ENOTOWNER. *map is a
 * reference. */
int shard_move_map(struct cairn_shard *shard, const struct cairn_shard_move *move,
                   const struct cairn_map **map, struct cairn_error *err);
/* Whether an import after `offset` brought the token again, so that what the log says of it at
 * `offset` is void. */
bool shard_is_void(struct cairn_shard *shard, uint64_t token, uint64_t offset);
/* The offset at which the import of the move begins; 0: it has not. */
uint64_t shard_import_offset(struct cairn_shard *shard, const struct cairn_shard_move *move);
/* A reference to the schema of a collection id; NULL: there is none. */
const struct cairn_schema *shard_schema(struct cairn_shard *shard, uint32_t collection);
/* References to all schemas; the caller unrefs them and frees the array. */
const struct cairn_schema **shard_schemas(struct cairn_shard *shard, uint32_t *count);

/* forget.c */
int shard_forget_open(struct cairn_shard *shard, struct cairn_error *err);
void shard_forget_close(struct cairn_shard *shard);
/* Have the thread take a census soon. */
void shard_forget_census(struct cairn_shard *shard);
/* The map changed: look for rows to drop, when the time has come. */
void shard_forget_wake(struct cairn_shard *shard);
/* (blocks) Drop every row of the move's tokens. The forget lock is held. */
int shard_forget_move(struct cairn_shard *shard, const struct cairn_map *map,
                      const struct cairn_shard_move *move, struct cairn_error *err);

/* hot.c */
void shard_hot_read(struct cairn_shard *shard, uint64_t token, uint32_t collection,
                    struct cairn_str key);
void shard_hot_write(struct cairn_shard *shard, uint64_t token, uint32_t collection,
                     struct cairn_str key);
/* The hottest first, into the arena. */
uint32_t shard_hot_list(struct cairn_shard *shard, struct cairn_arena *arena,
                        const struct cairn_hot_token **out);

/* exports.c */
void shard_exports_register(struct cairn_shard *shard);
void shard_exports_release(struct cairn_shard *shard);
/* Count the rows, and what of them is the shard's. It may take long. */
void shard_census_take(struct cairn_shard *shard);

#endif
