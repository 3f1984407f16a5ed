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
    const char *cluster_key; /* sent with calls to other processes; NULL: none */
    const char *ca_file;     /* for https URLs; NULL: the system's */
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
    const struct cairn_index_position
        *indexes; /* by shard id, in the search's arena; may be NULL */
};

/* Whether every named shard has applied its offset; else CAIRN_EPOSITION naming the shard, its
 * offset and the one asked for. CAIRN_EPARAM for a shard that there is not. */
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
/* NULL when there is none. */
const struct cairn_schema *cairn_router_schema(struct cairn_router *router, struct cairn_str name);
/* In name order. `each` borrows the schema. */
void cairn_router_each_schema(struct cairn_router *router,
                              void (*each)(void *arg, const struct cairn_schema *schema),
                              void *arg);

/* Whether an entity fits the schema: declared types, strictness, vector fields, dimensions, limits.
 * CAIRN_ETYPE, CAIRN_EUNKNOWN_FEATURE, CAIRN_EDIMENSION, CAIRN_ENUMBER, CAIRN_EFIELD, naming the
 * field. */
int cairn_entity_validate(const struct cairn_schema *schema, const struct cairn_entity *entity,
                          struct cairn_error *err);

/* An entity keeps the route it was first written with. Fill in that of an existing entity when
 * `entity` names none (in the arena; *changed is then true), and refuse another one:
 * CAIRN_EPRECONDITION. Two first writes of one key under different routes at the same moment are
 * not told apart. */
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
    struct cairn_arena *arena; /* for the router's own needs; used only inside submit */
    struct cairn_write_result *results;
    /* Called exactly once, on a writer thread or inside submit. Must not block. */
    void (*done)(struct cairn_router_write *write);
    void *context;
    struct cairn_error error; /* code 0: all durable and visible */
    uint32_t failed_shards;   /* shards that refused; the others' items are durable */
    uint32_t shards_count;    /* shards that were asked */
    struct cairn_contract contract;
    void *gather; /* the router's */
};
void cairn_router_submit(struct cairn_router *router, struct cairn_router_write *write);
/* (blocks) submit and wait; returns write->error.code. `done` is ignored. */
int cairn_router_write_wait(struct cairn_router *router, struct cairn_router_write *write);

/* A row as a reader sees it; valid inside the visitor (or until the pin is released). */
struct cairn_row_ref {
    bool found;
    uint32_t shard;
    uint32_t collection;
    struct cairn_str key;
    struct cairn_row_view view; /* only when found */
};
typedef void (*cairn_row_visitor)(void *context, uint32_t at, const struct cairn_row_ref *row);

/* Read rows by key; `visit` is called for each in the order asked. A key that is not on its own
 * shard is looked for on the others when the collection has records with a route of their own.
 * CAIRN_EUNAVAILABLE when a needed shard is down. */
int cairn_router_get(struct cairn_router *router, const struct cairn_schema *schema,
                     const struct cairn_str *keys, uint32_t count, cairn_row_visitor visit,
                     void *context, struct cairn_contract *contract, struct cairn_error *err);
/* Inside a visitor: copy the row's vector. CAIRN_ENOVECTOR. */
int cairn_router_row_vector(struct cairn_router *router, const struct cairn_row_ref *row,
                            struct cairn_str vector, float *out, uint32_t dim,
                            struct cairn_error *err);

struct cairn_hit {
    struct cairn_str key; /* in the arena */
    float score;
    uint32_t shard;
    uint64_t offset;
};
struct cairn_search_result {
    struct cairn_hit *hits; /* in the arena; best first, ties by key */
    uint32_t count;
};
/* (blocks: computes) One result per request. Names the request's index in errors of a batch. A
 * `key` query leaves that entity itself out of its hits. */
int cairn_router_search(struct cairn_router *router, const struct cairn_schema *schema,
                        const struct cairn_search_request *requests, uint32_t count,
                        struct cairn_arena *arena, struct cairn_search_result *results,
                        struct cairn_contract *contract, struct cairn_error *err);
/* Visit the rows of hits, in order. */
int cairn_router_hit_rows(struct cairn_router *router, const struct cairn_schema *schema,
                          const struct cairn_search_result *result, cairn_row_visitor visit,
                          void *context, struct cairn_error *err);

/* (blocks) Up to `limit` matching rows in key order over all shards, after `after_key`. *more says
 * whether others follow. filter may be NULL. */
int cairn_router_scroll(struct cairn_router *router, const struct cairn_schema *schema,
                        const struct cairn_filter *filter, struct cairn_str after_key,
                        uint32_t limit, cairn_row_visitor visit, void *context, bool *more,
                        struct cairn_contract *contract, struct cairn_error *err);
/* (blocks with a filter) */
int cairn_router_count(struct cairn_router *router, const struct cairn_schema *schema,
                       const struct cairn_filter *filter, uint64_t *out,
                       struct cairn_contract *contract, struct cairn_error *err);

/* Introspection. */
uint64_t cairn_router_epoch(const struct cairn_router *router);
uint32_t cairn_router_shards_count(const struct cairn_router *router);
struct cairn_shard_info {
    struct cairn_shard_stats stats;
    enum cairn_shard_state state;
    char reason[512];
    double weight;
};
void cairn_router_shard_info(struct cairn_router *router, uint32_t at,
                             struct cairn_shard_info *out);
void cairn_router_collection_counts(struct cairn_router *router, const struct cairn_schema *schema,
                                    struct cairn_collection_counts *out);
/* Summed over shards; built_kind of the largest. CAIRN_ENOVECTOR. */
int cairn_router_index_stats(struct cairn_router *router, const struct cairn_schema *schema,
                             struct cairn_str vector, struct cairn_index_stats *out);
void cairn_router_export_metrics(struct cairn_router *router);

#endif
