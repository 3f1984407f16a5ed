/* What the files of router/ share. Nobody else includes this.
 *
 *   router.c     open and close            members.c   the map, shards and where they answer
 *   local.c      shards of this process    call.c      calls, to this process or another
 *   seeds.c      finding the first map     watch.c     health, spreading maps, catalogs
 *   fetch.c      keyed reads               scatter.c   what search, scroll and count share
 *   write.c      writes                    write_retry.c  writes that met another map
 *   catalog.c    collections               catalog_change.c  changing them
 *   serve.c      calls from others         report.c    introspection
 *
 * Lock order: change_lock, map_lock, then any of the others, which are leaves. */
#ifndef CAIRN_ROUTER_INTERNAL_H
#define CAIRN_ROUTER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/time.h"
#include "router/router.h"
#include "router/transport.h"

#define ROUTER_CALL_US    UINT64_C(5000000) /* deadline of a call that no client waits for */
#define ROUTER_PATH_BYTES 64u

/* A URL and its connections. Never freed before the router closes. */
struct router_peer {
    struct router_peer *next;
    char *url;
    struct cairn_peer *peer;
};

/* A call to a shard in another process. Set up with router_remote_init; `done` is called once, on
 * the transport's thread or inside start, and must not block. */
struct router_remote {
    struct cairn_call call;
    struct cairn_router *router;
    struct router_member *member; /* NULL: by URL */
    const struct router_peer *peer;
    uint32_t shard;
    enum cairn_shard_op op;
    uint64_t started_us;
    bool understood;               /* the answer is a shard's */
    struct cairn_encoder *encoder; /* holds the request's bytes */
    void (*done)(struct router_remote *remote);
    void *context;
    char path[ROUTER_PATH_BYTES];
};

/* What a shard reported last. */
struct router_report {
    atomic_uint references;
    struct cairn_arena arena;
    struct cairn_buf body;
    struct cairn_shard_report *report;
    uint64_t taken_us; /* monotonic */
};

/* A shard of the map as this process reaches it. Never freed before the router closes. */
struct router_member {
    /* Immutable. */
    struct cairn_router *router;
    uint32_t id;
    struct cairn_shard *local; /* NULL: in another process */
    struct cairn_gauge *up_gauge;
    struct cairn_histogram *call_duration;

    /* Where it answers; NULL: the map does not say. */
    _Atomic(struct router_peer *) peer;
    /* What its answers said; these only rise. */
    atomic_uint_fast64_t answered_us; /* monotonic: when anything was last heard of it */
    atomic_uint_fast64_t applied, epoch, catalog_version;
    atomic_uint failures;     /* in a row */
    atomic_bool report_asked; /* someone waits for news of it */
    _Atomic(struct cairn_counter *) counters[CAIRN_SHARD_OPS_COUNT][2]; /* ok, failed */

    pthread_mutex_t lock; /* guards what follows */
    char problem[256];    /* the last failure */
    struct router_report *report;

    /* The watch thread's. */
    struct router_remote remote; /* one call at a time */
    struct cairn_buf sent;       /* the text it carries */
    uint64_t next_check_us, adopt_after_us;
    uint64_t asked_after_us;
    unsigned back_off;
    bool busy;
    atomic_bool ended; /* the call has its answer */
};

/* Something to do a little later, on the watch thread. */
struct router_timer {
    struct router_timer *next;
    uint64_t due_us;
    void (*run)(struct router_timer *timer);
};

struct router_seed {
    uint32_t id;
    char *url;
};

struct cairn_router {
    /* Immutable after open. */
    enum cairn_node_role role;
    char *dir; /* NULL: a router's */
    int lock_fd;
    const struct cairn_io *io;
    struct cairn_metrics *metrics; /* NULL: none */
    struct cairn_gauge *epoch_gauge;
    struct cairn_pool *builders;
    struct cairn_pool *controls; /* operations that wait: exports, imports, freezes */
    struct cairn_pool *servers;  /* searches and scans for other processes */
    struct cairn_transport *transport;
    struct router_seed *seeds;
    uint32_t seeds_count;
    uint32_t copy_share_percent;       /* 1 to 100 */
    uint32_t locals[CAIRN_SHARDS_MAX]; /* ids of the shards here, rising */
    uint32_t locals_count;
    struct router_rebalance *rebalance; /* rebalance.c */
    struct router_imports *imports;     /* import.c */
    bool rebalance_open;

    /* Members by shard id; NULL: no such shard was ever known. */
    _Atomic(struct router_member *) members[CAIRN_SHARDS_MAX];
    _Atomic(char *) advertise; /* NULL: none; set once */

    pthread_mutex_t map_lock;    /* guards what follows, and creating members */
    const struct cairn_map *map; /* NULL: none known yet */
    struct router_peer *peers;
    uint32_t peers_count;
    atomic_uint remotes_count; /* shards of the map that are elsewhere */
    atomic_uint_fast64_t epoch;

    /* Collections, by id modulo the number of bits, that were seen to hold entities with a route of
     * their own: what this process wrote itself need not be reported to it first. */
    atomic_uint_fast64_t routed[64];

    pthread_mutex_t encoders_lock; /* guards what follows */
    struct cairn_encoder *encoders[64];
    uint32_t encoders_count;

    /* Guarded by catalog_lock. Sorted by name, dropped ones too: they tell of what is older. */
    pthread_rwlock_t catalog_lock;
    const struct cairn_schema **schemas;
    uint32_t schemas_count;
    uint32_t last_id;                          /* highest of any collection known */
    atomic_uint_fast64_t catalog_version;      /* highest known; read without the lock */
    atomic_uint_fast64_t catalog_refreshed_us; /* when the last refresh began */
    atomic_bool catalog_asked;                 /* a refresh is on its way */
    uint64_t complete_after_us;                /* the watch thread's */

    /* Held over a whole schema change. Versions are counted over the whole catalog and never
     * reused, so a change that reached only some shards cannot be confused with another one. */
    pthread_mutex_t change_lock;

    /* Guarded by watch_lock. */
    pthread_mutex_t watch_lock;
    pthread_cond_t watch_changed; /* on the monotonic clock */
    pthread_t watch_thread;
    bool watch_started, watch_stopping, watch_woken;
    struct router_timer *timers;
    char seeds_problem[256]; /* why there is no map yet */
};

/* members.c */
/* A reference; NULL: none known. */
const struct cairn_map *router_map(struct cairn_router *router);
/* The same, or CAIRN_EUNAVAILABLE. */
int router_map_need(struct cairn_router *router, const struct cairn_map **out,
                    struct cairn_error *err);
/* Take the map if it is newer and of the same cluster: members follow. Any thread; never blocks. */
void router_learn(struct cairn_router *router, const struct cairn_map *map);
void router_learn_text(struct cairn_router *router, struct cairn_str text);
struct cairn_shard *router_local(struct cairn_router *router, uint32_t id);    /* NULL: elsewhere */
struct router_member *router_member(struct cairn_router *router, uint32_t id); /* NULL: unknown */
/* Make a member of a shard of this process; before any other thread knows the router. */
void router_member_local(struct cairn_router *router, uint32_t id, struct cairn_shard *shard);
/* Find or open. CAIRN_EPARAM, CAIRN_EOVERLOADED when there are too many. */
int router_peer_get(struct cairn_router *router, struct cairn_str url, struct router_peer **out,
                    struct cairn_error *err);
void router_members_free(struct cairn_router *router);
/* Whether the shard owns anything under the map. */
bool router_owns(const struct cairn_map *map, const struct cairn_map_shard *shard);
uint64_t router_applied(const struct router_member *member);
/* Record that an answer reflects what `shard` has applied. Call before reading from it. */
void router_touch(struct cairn_router *router, const struct cairn_map *map,
                  struct cairn_contract *contract, uint32_t shard);
/* Note a failure, or that the shard answered; `why` NULL: it answered. */
void router_member_note(struct router_member *member, const char *why);
bool router_member_down(const struct router_member *member);
/* CAIRN_EUNAVAILABLE, naming shard, URL and what was wrong last. */
int router_member_fail(struct router_member *member, struct cairn_error *err);
void router_raise(atomic_uint_fast64_t *at, uint64_t value);

/* local.c */
int router_dir_open(struct cairn_router *router, const struct cairn_router_options *options,
                    struct cairn_error *err);
int router_locals_open(struct cairn_router *router, const struct cairn_router_options *options,
                       struct cairn_error *err);
void router_locals_close(struct cairn_router *router);
/* Learn the newest map of the local shards; make the first one where role all finds none. */
int router_locals_map(struct cairn_router *router, struct cairn_error *err);
int router_first_map(struct cairn_router *router, const struct cairn_map_shard *shards,
                     uint32_t count, const struct cairn_map **out, struct cairn_error *err);

/* call.c */
void router_remote_init(struct router_remote *remote, struct cairn_router *router,
                        struct router_member *member, enum cairn_shard_op op,
                        void (*done)(struct router_remote *remote), void *context);
void router_remote_start(struct router_remote *remote, const struct cairn_shard_request *request,
                         uint64_t deadline_us);
/* After done: open the answer, which lives as long as the arena and the remote. Learns from it.
 * Returns answer->error.code. */
int router_remote_take(struct router_remote *remote, struct cairn_arena *arena,
                       struct cairn_shard_answer *answer);
/* Give back what the call holds; any number of times. */
void router_remote_end(struct router_remote *remote);
struct cairn_encoder *router_encoder_take(struct cairn_router *router);
void router_encoder_give(struct cairn_router *router, struct cairn_encoder *encoder, size_t bytes);

/* A number of things to wait for. */
struct router_latch {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t pending;
};
void router_latch_init(struct router_latch *latch, uint32_t pending);
void router_latch_release(struct router_latch *latch);       /* one is done */
void router_latch_wait(struct router_latch *latch);          /* until all are; then frees it */
void router_latch_remote_done(struct router_remote *remote); /* context is the latch */
void router_latch_write_done(struct cairn_shard_write *write);

/* (blocks) Execute on a shard wherever it is: in this process, or by a call. Sets
 * request->cluster and ->epoch from the router's map when they are 0. Everything in *answer is in
 * the arena. Returns answer->error.code. Learns a newer map from the answer, and gives ours to a
 * shard that is behind; a CAIRN_ENOTOWNER is returned nevertheless. Reads are tried again, with
 * jitter, when the shard cannot be reached. */
int router_call(struct cairn_router *router, uint32_t shard, enum cairn_shard_op op,
                struct cairn_shard_request *request, struct cairn_arena *arena,
                struct cairn_shard_answer *answer, uint64_t deadline_us);
/* The same for a URL whose shard may not be in the map yet. */
int router_call_url(struct cairn_router *router, struct cairn_str url, uint32_t shard,
                    enum cairn_shard_op op, struct cairn_shard_request *request,
                    struct cairn_arena *arena, struct cairn_shard_answer *answer,
                    uint64_t deadline_us);
/* A request that gives `map` to a shard; `fence` may be CAIRN_OFFSET_NONE. Its text is in `text`,
 * which the caller empties before and releases after. */
struct cairn_shard_request router_adopt_request(const struct cairn_map *map, uint64_t fence,
                                                struct cairn_buf *text);
/* (blocks) Wait some milliseconds, the longer the more tries there were. False: no time is left. */
bool router_pause(unsigned tries, uint64_t deadline_us);
/* (blocks) After a CAIRN_ENOTOWNER under `map`: give it to shards that are behind, or wait until
 * the router has a newer one. False when there is no time for another try. */
bool router_settle_epoch(struct cairn_router *router, const struct cairn_map *map, unsigned tries,
                         uint64_t deadline_us);

/* watch.c */
int router_watch_open(struct cairn_router *router, struct cairn_error *err);
void router_watch_close(struct cairn_router *router);
void router_watch_wake(struct cairn_router *router);
/* Ask all members elsewhere for news now. */
void router_ask_reports(struct cairn_router *router);
void router_later(struct cairn_router *router, struct router_timer *timer, uint64_t delay_us);
/* The last report of a member elsewhere, a reference; NULL: none yet. */
struct router_report *router_report_get(struct router_member *member);
void router_report_release(struct router_report *report);

/* seeds.c: (blocks) ask the seeds once. True when a map is known then. */
bool router_seeds_ask(struct cairn_router *router);

/* serve.c: (blocks) execute on a local shard, or in this process. Returns answer->error.code. */
int router_execute(struct cairn_router *router, uint32_t shard, enum cairn_shard_op op,
                   const struct cairn_shard_request *request, struct cairn_arena *arena,
                   struct cairn_shard_answer *answer);

/* catalog.c */
/* Take the newest schemas of the local shards and write them to those that lack them. */
int router_catalog_open(struct cairn_router *router, struct cairn_error *err);
void router_catalog_close(struct cairn_router *router);
/* Take the schema over when it is newer than the one known. */
void router_catalog_take(struct cairn_router *router, const struct cairn_schema *schema);
void router_catalog_take_text(struct cairn_router *router, struct cairn_str text);
/* (blocks) Ask for the schemas of a shard elsewhere: home's when it is. */
int router_catalog_refresh(struct cairn_router *router, uint64_t deadline_us,
                           struct cairn_error *err);
/* The version of the newest schema, of a dropped collection too; 0: there is none. */
uint64_t router_catalog_newest(struct cairn_router *router);
/* (blocks) Write the schemas that a shard lacks to it. */
int router_catalog_complete(struct cairn_router *router, uint32_t shard, uint64_t deadline_us,
                            struct cairn_error *err);

/* catalog_change.c */
/* (blocks) In the process that has home. */
int router_collection_put(struct cairn_router *router, const struct cairn_schema *asked,
                          const struct cairn_schema **out, bool *created,
                          struct cairn_contract *contract, struct cairn_error *err);
int router_collection_drop(struct cairn_router *router, struct cairn_str name,
                           struct cairn_contract *contract, struct cairn_error *err);
/* (blocks) Append the schema to the logs of the shards with these ids. *written counts the shards
 * that have it now, on failure too. `contract` may be NULL. */
int router_schema_write(struct cairn_router *router, const struct cairn_schema *schema,
                        const uint32_t *ids, uint32_t count, uint32_t *written,
                        struct cairn_contract *contract, uint64_t deadline_us,
                        struct cairn_error *err);

/* scatter.c */
struct router_part {
    uint32_t shard;
    struct router_member *member;
    struct router_remote remote; /* of a shard elsewhere */
    struct cairn_shard_answer answer;
    bool skipped; /* could not be reached, and may be left out */
};
/* The shards that own something, in order of their ids. */
struct router_scatter {
    const struct cairn_map *map; /* a reference */
    struct router_part *parts;   /* in the arena */
    uint32_t parts_count;
    struct router_latch latch;
    bool started;
};
int router_scatter_begin(struct cairn_router *router, struct cairn_arena *arena,
                         struct router_scatter *scatter, struct cairn_error *err);
/* Send the request to all parts elsewhere, under the scatter's map. */
void router_scatter_send(struct router_scatter *scatter, enum cairn_shard_op op,
                         struct cairn_shard_request *request, uint64_t deadline_us);
/* Wait, open the answers, touch the shards. */
int router_scatter_wait(struct router_scatter *scatter, struct cairn_arena *arena,
                        bool allow_partial, struct cairn_contract *contract,
                        struct cairn_error *err);
/* Waits for what is under way. Answers are void from here on. */
void router_scatter_end(struct router_scatter *scatter);
/* Whether a scattered read that ended with `code` is to be repeated whole; *tries counts. */
bool router_scatter_again(struct cairn_router *router, const struct cairn_map *map, int code,
                          unsigned *tries, uint64_t deadline_us);

/* rebalance.c: threads that carry plans out and copy. The map, the shards and the calls must be
 * there at open. Close stops the threads, before the shards close, which may take as long as the
 * calls under way; free comes when nobody calls the functions below any more. */
int router_rebalance_open(struct cairn_router *router, struct cairn_error *err);
void router_rebalance_close(struct cairn_router *router);
void router_rebalance_free(struct cairn_router *router);
/* There is a new map, or an address. Never blocks. */
void router_rebalance_wake(struct cairn_router *router);
/* import.c, cluster.c: operations on a local shard, or on the process that has home. Each fills in
 * what the operation answers, and returns answer->error.code. */
int router_import_start(struct cairn_router *router, uint32_t shard,
                        const struct cairn_shard_request *request,
                        struct cairn_shard_answer *answer);
/* (blocks) answer->text is the last failure of the copy, "" while it runs well. */
int router_import_state(struct cairn_router *router, uint32_t shard,
                        const struct cairn_shard_request *request, struct cairn_arena *arena,
                        struct cairn_shard_answer *answer);
int router_cluster_serve(struct cairn_router *router, const struct cairn_shard_request *request,
                         struct cairn_arena *arena, struct cairn_shard_answer *answer);

#endif
