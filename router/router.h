/* The router: places records on shards, fans reads out, merges answers, keeps the catalog of
 * collections.
 *
 * Threads: any, unless said otherwise. Calls marked (blocks) may wait for a disk or a scan and
 * belong on a worker, not on an event loop. */
#ifndef CAIRN_ROUTER_ROUTER_H
#define CAIRN_ROUTER_ROUTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "shard/shard.h"

struct cairn_router;

enum cairn_node_role {
    CAIRN_NODE_ALL,    /* shards of its own; the map's only ones until others are added */
    CAIRN_NODE_ROUTER, /* no shard */
    CAIRN_NODE_SHARD,  /* one shard, which owns nothing until it is added to a map */
};

struct cairn_router_options {
    enum cairn_node_role role;
    const char *dir; /* the data directory; locked against a second process; NULL: a router's */
    uint32_t shards; /* all: in-process shards of a new directory; 0: what is there, or 2 */
    uint32_t id;     /* shard: its id */
    const char *advertise; /* where other processes reach this one: http://host:port; NULL: they
                              do not, so no other process's shard can be added */
    /* Where to look for the map: at least one for a router. Where none of them has one, a router
     * makes the first map of all of them. ids count only for that. */
    const struct cairn_map_shard *seeds;
    uint32_t seeds_count;
    const char *cluster_key;     /* sent with calls to other processes; NULL: none */
    const char *ca_file;         /* for https URLs; NULL: the system's */
    uint32_t copy_share_percent; /* of the time that a move may spend copying, 1 to 100; 0: 50 */
    uint64_t segment_bytes_max, free_bytes_min; /* 0: defaults */
    unsigned build_threads;                     /* background index builds; 0: 1 */
    struct cairn_metrics *metrics;
    const struct cairn_io *io;
};

/* (blocks) Lock the directory, open all shards in parallel, bring their catalogs to the same
 * version. CAIRN_EPARAM when `shards` differs from what the directory has. */
int cairn_router_open(const struct cairn_router_options *options, struct cairn_router **out,
                      struct cairn_error *err);
/* (blocks) Finish what is queued, close the shards cleanly, unlock. Sets it to NULL. */
void cairn_router_close(struct cairn_router **router);

/* Where other processes reach this one, when that was not known at open; once. */
void cairn_router_set_advertise(struct cairn_router *router, const char *url);
/* Whether there are shards in other processes: writes that settle routes then belong on a worker.
 */
bool cairn_router_may_block(const struct cairn_router *router);

/* Which log positions an answer reflects. */
struct cairn_position {
    uint64_t epoch;
    uint32_t count;
    struct {
        uint32_t shard;
        uint64_t offset;
    } at[CAIRN_SHARDS_MAX];
};
/* "3;s0=1042,s1=977" and back; merging takes each shard's maximum. `out` holds
 * CAIRN_POSITION_TEXT_BYTES. */
#define CAIRN_POSITION_TEXT_BYTES (32 + CAIRN_SHARDS_MAX * 28)
unsigned cairn_position_format(const struct cairn_position *position, char *out);
int cairn_position_parse_merge(struct cairn_str text, struct cairn_position *into,
                               struct cairn_error *err);
void cairn_position_touch(struct cairn_position *position, uint32_t shard, uint64_t offset);

/* How far a shard's index reflected its log when a search used it. */
struct cairn_index_position {
    uint64_t indexed;    /* last offset that it reflects, tail included */
    uint64_t generation; /* offset that its built part was made from; 0: there is none */
    bool used;
};

/* What every answer says about itself. Zero-initialise; calls add the shards they touched. */
struct cairn_contract {
    struct cairn_position position;
    bool partial;       /* a needed shard took no part */
    bool wants_indexes; /* set by the caller: searches fill `indexes` */
    struct cairn_index_position
        *indexes; /* CAIRN_SHARDS_MAX by shard id, in the search's arena; may be NULL */
};

/* Whether every named shard has applied its offset; else CAIRN_EPOSITION naming the shard, its
 * offset and the one asked for, and news of a shard elsewhere are asked for. A position of a newer
 * map is not reached before that map is known. A shard that the map does not have was drained:
 * all that it had is at others, so it counts as reached. */
int cairn_router_reached(struct cairn_router *router, const struct cairn_position *position,
                         struct cairn_error *err);

/* Catalog. A returned schema is a reference of the caller's (cairn_schema_unref). */
/* (blocks) Create or evolve; durable on all shards on return. */
int cairn_router_collection_put(struct cairn_router *router, const struct cairn_schema *asked,
                                const struct cairn_schema **out, bool *created,
                                struct cairn_contract *contract, struct cairn_error *err);
/* (blocks) */
int cairn_router_collection_drop(struct cairn_router *router, struct cairn_str name,
                                 struct cairn_contract *contract, struct cairn_error *err);
/* NULL when this process knows of none. */
const struct cairn_schema *cairn_router_schema(struct cairn_router *router, struct cairn_str name);
/* (blocks) Learn collections that were made or changed through other processes, unless that was
 * done after `since_us` (monotonic). True when there is news. */
bool cairn_router_schema_refresh(struct cairn_router *router, uint64_t since_us,
                                 uint64_t deadline_us);
/* In name order. `each` borrows the schema. */
void cairn_router_each_schema(struct cairn_router *router,
                              void (*each)(void *arg, const struct cairn_schema *schema),
                              void *arg);

/* Whether an entity fits the schema: declared types, strictness, vector fields, dimensions, limits.
 * CAIRN_ETYPE, CAIRN_EUNKNOWN_FEATURE, CAIRN_EDIMENSION, CAIRN_ENUMBER, CAIRN_EFIELD, naming the
 * field. */
int cairn_entity_validate(const struct cairn_schema *schema, const struct cairn_entity *entity,
                          struct cairn_error *err);

/* (may block, while there are shards elsewhere) An entity keeps the route it was first written
 * with. Fill in that of an existing entity when
 * `entity` names none (in the arena; *changed is then true), and refuse another one:
 * CAIRN_EPRECONDITION. Two first writes of one key under different routes at the same moment are
 * not told apart. CAIRN_ENOTOWNER: as for cairn_router_get. */
int cairn_router_settle_route(struct cairn_router *router, const struct cairn_schema *schema,
                              struct cairn_entity *entity, struct cairn_arena *arena, bool *changed,
                              struct cairn_error *err);

/* Writes. The caller owns all of it until done; items must have been validated. Items of one shard
 * commit together. Results come in item order. */
struct cairn_router_item {
    struct cairn_str key, route; /* route len 0: the key */
    struct cairn_str payload;    /* encoded entity, 8-byte aligned */
    uint64_t if_offset;
};
struct cairn_router_write {
    const struct cairn_schema *schema;
    const struct cairn_router_item *items;
    uint32_t count;            /* at least 1 */
    uint64_t deadline_us;      /* monotonic; 0: a few seconds from now */
    struct cairn_arena *arena; /* for the router's own needs; used only inside submit */
    struct cairn_write_result *results;
    /* Called exactly once, on a thread of a writer or of the router, or inside submit. Must not
     * block. */
    void (*done)(struct cairn_router_write *write);
    void *context;
    /* code 0: all durable and visible. CAIRN_EUNAVAILABLE and CAIRN_ETIMEOUT: of a shard elsewhere
     * it may not be known. */
    struct cairn_error error;
    uint32_t failed_shards; /* shards that refused; the others' items are durable */
    uint32_t shards_count;  /* shards that were asked */
    struct cairn_contract contract;
    void *gather; /* the router's */
};
void cairn_router_submit(struct cairn_router *router, struct cairn_router_write *write);
/* Whether a write may overtake one that was submitted before it: calls to shards elsewhere do, and
 * so does what comes after a write that is done again because its keys have moved. */
bool cairn_router_unordered(struct cairn_router *router);
/* (blocks) submit and wait; returns write->error.code. `done` is ignored. */
int cairn_router_write_wait(struct cairn_router *router, struct cairn_router_write *write);

/* A row as a reader sees it; valid inside the visitor. */
struct cairn_row_ref {
    bool found;
    uint32_t shard;
    uint32_t collection;
    struct cairn_str key;
    struct cairn_row_view view;         /* only when found */
    const struct cairn_vector *vectors; /* of a row from elsewhere: those that were asked for */
    uint32_t vectors_count;
};
typedef void (*cairn_row_visitor)(void *context, uint32_t at, const struct cairn_row_ref *row);

/* Reading rows by key, in two steps: fetch what is elsewhere, without blocking, then visit all. */
struct cairn_router_fetch {
    /* Set by the caller, who keeps all of it until cairn_router_fetch_end. */
    const struct cairn_schema *schema;
    const struct cairn_str *keys;
    uint32_t count;
    const struct cairn_str *vectors; /* whose floats the visitor will copy */
    uint32_t vectors_count;
    struct cairn_arena *arena;
    uint64_t deadline_us;                           /* monotonic */
    void (*done)(struct cairn_router_fetch *fetch); /* any thread; must not block */
    void *context;

    struct router_fetch *state; /* the router's */
};
/* Go on with the fetch. True: there is nothing to wait for, visit. False: done will be called once,
 * and then this is to be called again. */
bool cairn_router_fetch(struct cairn_router *router, struct cairn_router_fetch *fetch);
/* (blocks) Fetch to the end, whatever it takes within the deadline. */
void cairn_router_fetch_wait(struct cairn_router *router, struct cairn_router_fetch *fetch);
/* Release what the fetch holds; a fetch that was never started may be ended too. */
void cairn_router_fetch_end(struct cairn_router_fetch *fetch);
/* `visit` is called for each key in the order asked. Without a fetch before it, it takes all shards
 * to be in this process and blocks for none; else CAIRN_ENOTOWNER. A key that is not on its own
 * shard is looked for on the others when the collection has records with a route of their own.
 * CAIRN_EUNAVAILABLE when a needed shard is down. CAIRN_ENOTOWNER: keys are changing hands; end the
 * fetch, forget what was visited, and read again with cairn_router_fetch_wait, after which this
 * does not happen. */
int cairn_router_get(struct cairn_router *router, struct cairn_router_fetch *fetch,
                     cairn_row_visitor visit, void *context, struct cairn_contract *contract,
                     struct cairn_error *err);
/* (blocks) Both steps. `fetch` is ended. */
int cairn_router_get_wait(struct cairn_router *router, struct cairn_router_fetch *fetch,
                          cairn_row_visitor visit, void *context, struct cairn_contract *contract,
                          struct cairn_error *err);
/* Inside a visitor: copy the row's vector. CAIRN_ENOVECTOR. */
int cairn_router_row_vector(struct cairn_router *router, const struct cairn_row_ref *row,
                            struct cairn_str vector, float *out, uint32_t dim,
                            struct cairn_error *err);

struct cairn_hit {
    struct cairn_str key; /* in the arena */
    float score;
    uint32_t shard;
    uint64_t offset;
    const struct cairn_shard_row *row; /* of a shard elsewhere, when rows were wanted */
};
struct cairn_search_result {
    struct cairn_hit *hits; /* in the arena; best first, ties by key */
    uint32_t count;
    uint64_t epoch; /* of the map that it describes */
};
/* Whether the answer of a search shows anything of the rows of its hits. */
bool cairn_search_wants_rows(const struct cairn_search_request *request);
/* (blocks: computes) One result per request. Names the request's index in errors of a batch. A
 * `key` query leaves that entity itself out of its hits. */
int cairn_router_search(struct cairn_router *router, const struct cairn_schema *schema,
                        const struct cairn_search_request *requests, uint32_t count,
                        uint64_t deadline_us, struct cairn_arena *arena,
                        struct cairn_search_result *results, struct cairn_contract *contract,
                        struct cairn_error *err);
/* Visit the rows of the hits of a search that wants rows, in order. CAIRN_ENOTOWNER: keys have
 * changed hands since; search again. */
int cairn_router_hit_rows(struct cairn_router *router, const struct cairn_schema *schema,
                          const struct cairn_search_result *result, cairn_row_visitor visit,
                          void *context, struct cairn_error *err);

struct cairn_router_scan {
    const struct cairn_filter *filter; /* NULL: none */
    struct cairn_str filter_json;      /* the same as text, for shards elsewhere */
    struct cairn_str after_key;
    uint32_t limit;
    const struct cairn_str *vectors; /* whose floats the visitor will copy */
    uint32_t vectors_count;
    uint64_t deadline_us; /* monotonic */
};
/* (blocks) Up to `limit` matching rows in key order over all shards, after `after_key`. *more says
 * whether others follow. */
int cairn_router_scroll(struct cairn_router *router, const struct cairn_schema *schema,
                        const struct cairn_router_scan *scan, cairn_row_visitor visit,
                        void *context, bool *more, struct cairn_contract *contract,
                        struct cairn_error *err);
/* (blocks with a filter, or when there are shards elsewhere) */
int cairn_router_count(struct cairn_router *router, const struct cairn_schema *schema,
                       const struct cairn_router_scan *scan, uint64_t *out,
                       struct cairn_contract *contract, struct cairn_error *err);

/* Introspection. */
uint64_t cairn_router_epoch(const struct cairn_router *router);        /* 0: no map is known yet */
uint32_t cairn_router_shards_count(const struct cairn_router *router); /* of the map */
uint32_t cairn_router_locals_count(const struct cairn_router *router); /* in this process */
bool cairn_router_has_local(struct cairn_router *router, uint32_t id);
/* CAIRN_EUNAVAILABLE with why no map is known yet. */
int cairn_router_ready(struct cairn_router *router, struct cairn_error *err);
/* A shard of the map, or of this process. */
struct cairn_member_info {
    uint32_t id;
    bool in_map, local, home;
    struct cairn_str url;
    double weight, planned_weight, share;
    bool up;                  /* answers; a local one always does */
    struct cairn_str problem; /* why not; "" */
    uint64_t epoch, applied;
    uint64_t age_ms;                         /* of the report */
    const struct cairn_shard_report *report; /* NULL: it never answered */
};
/* (may scan) All of them by id; everything is in the arena. */
void cairn_router_members(struct cairn_router *router, struct cairn_arena *arena,
                          struct cairn_member_info **out, uint32_t *count);
/* Shards that refuse writes. */
void cairn_router_each_read_only(struct cairn_router *router, void (*each)(void *arg, uint32_t id),
                                 void *arg);
/* (blocks) Have the shards elsewhere report, so that what follows is of now. Those that are down
 * are left as they were. */
void cairn_router_refresh(struct cairn_router *router, uint64_t deadline_us);
/* What every shard of the map has applied, as far as this process knows. */
void cairn_router_touch_all(struct cairn_router *router, struct cairn_contract *contract);
/* Whether any shard is known to hold entities of the collection with a route of their own. */
bool cairn_router_has_routes(struct cairn_router *router, const struct cairn_schema *schema);
void cairn_router_collection_counts(struct cairn_router *router, const struct cairn_schema *schema,
                                    struct cairn_collection_counts *out);
/* Summed over shards; built_kind of the largest. CAIRN_ENOVECTOR. */
int cairn_router_index_stats(struct cairn_router *router, const struct cairn_schema *schema,
                             struct cairn_str vector, struct cairn_index_stats *out);
void cairn_router_export_metrics(struct cairn_router *router);

/* Calls from other processes (docs/cluster.md). */
/* Where an operation belongs: a write is queued, reads by key are done at once unless there are
 * many, the rest computes or waits. */
enum cairn_serve_place { CAIRN_SERVE_HERE, CAIRN_SERVE_WORKER, CAIRN_SERVE_CONTROL };
enum cairn_serve_place cairn_router_serve_place(enum cairn_shard_op op,
                                                const struct cairn_shard_request *request);
/* (blocks, as its place says) Any operation but a write. Everything in *answer is in the arena. */
void cairn_router_serve(struct cairn_router *router, uint32_t shard, enum cairn_shard_op op,
                        const struct cairn_shard_request *request, struct cairn_arena *arena,
                        struct cairn_shard_answer *answer);
/* A write. `done` is called once, on the shard's writer thread or inside this; then
 * cairn_router_serve_write_answer fills in the answer. */
struct cairn_serve_write {
    uint32_t shard;
    const struct cairn_shard_request *request; /* its items are used in place */
    struct cairn_arena *arena;
    void (*done)(struct cairn_serve_write *write);
    void *context;
    struct cairn_shard_write write; /* the router's */
};
void cairn_router_serve_write(struct cairn_router *router, struct cairn_serve_write *write);
void cairn_router_serve_write_answer(struct cairn_router *router, struct cairn_serve_write *write,
                                     struct cairn_shard_answer *answer);
/* Run on a thread for such operations: CAIRN_EOVERLOADED. These threads call no other process for
 * data, and nothing else runs on them, so that processes whose workers all wait for one another
 * still answer one another. */
int cairn_router_on_place(struct cairn_router *router, enum cairn_serve_place place,
                          void (*run)(void *arg), void *arg);

#endif
