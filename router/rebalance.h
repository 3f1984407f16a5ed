/* What the files that change the cluster share.
 *
 *   cluster.c    what is asked for, here or of home
 *   plan.c       what is asked for -> a new map, born at home
 *   rebalance.c  the thread of the process that has home: carries a plan out
 *   move.c       one move: copy, catch up, cut over
 *   spread.c     asking other shards for their maps and giving them ours
 *   jobs.c       what is known of plans: progress, outcome
 *   import.c     the other side: copying into a local shard
 *
 * Lock order: change_lock, then lock. Neither is held while the other side of a move is waited for,
 * except change_lock over a cut over, which is bounded by CAIRN_FREEZE_MS and the calls' deadlines.
 */
#ifndef CAIRN_ROUTER_REBALANCE_H
#define CAIRN_ROUTER_REBALANCE_H

#include <pthread.h>

#include "router/cluster.h"
#include "router/internal.h"

#define REBALANCE_CALL_US UINT64_C(5000000) /* deadline of a call that does not wait */

/* import.c: of router_rebalance_open and _close. */
void router_imports_open(struct cairn_router *router);
void router_imports_close(struct cairn_router *router);
void router_imports_free(struct cairn_router *router);

/* A smoothed speed. */
struct router_rate {
    uint64_t sampled_us; /* 0: never */
    uint64_t sampled;
    double per_s; /* 0: not known yet */
};
/* Take a sample of a counter that only grows, at most one a second. */
void router_rate_sample(struct router_rate *rate, uint64_t now_us, uint64_t value);

/* One plan as this process has followed it. */
struct router_job {
    struct cairn_job_status status; /* moves and error are the members below */
    struct cairn_move_status *moves;
    char error[512];
    bool resumed; /* asked to try again at once */
    struct router_rate records_rate, offsets_rate;
};

/* How far the digests of both sides of a move have been brought. */
struct router_digested {
    uint64_t plan;
    uint32_t source, target;
    uint64_t offset;
};

struct router_rebalance {
    /* Immutable. */
    struct cairn_router *router;
    struct cairn_gauge *plan_gauge, *held_gauge;
    struct cairn_counter *moves_counter, *bytes_counter;

    /* Held over all that makes a map: from asking whether there is a newer one until home has the
     * new one in its log. */
    pthread_mutex_t change_lock;

    /* Guarded by lock. */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* on the monotonic clock */
    bool stopping, woken;
    struct router_job *jobs[CAIRN_JOBS_KEPT_MAX + 1]; /* the newest first */
    uint32_t jobs_count;
    uint64_t held_us_max;

    /* The thread's own. */
    pthread_t thread;
    uint64_t spread_plan;  /* plan that all shards have been told of */
    uint64_t told_epoch;   /* newest map that home was told of by this process */
    uint64_t cleaned_us;   /* when the sources were last asked whether they have dropped all */
    uint64_t url_tried_us; /* when URLs were last compared with the map's */
    unsigned failures;     /* in a row */
    struct router_digested digested;
};

/* spread.c. Messages begin with the shard that they are about. */

/* A call under a map, local or remote, with its cluster and epoch filled in. Learns the map that
 * comes with CAIRN_ENOTOWNER or CAIRN_SHARD_ADOPT. Returns answer->error.code. */
int router_ask(struct cairn_router *router, const struct cairn_map *map, uint32_t shard,
               enum cairn_shard_op op, struct cairn_shard_request *request,
               struct cairn_arena *arena, struct cairn_shard_answer *answer, uint64_t within_us,
               struct cairn_error *err);
/* The newest map that there can be: after every source of moves that are not done has been asked,
 * since only they and home make maps. A reference of the caller's.
 * CAIRN_EUNAVAILABLE naming a shard that cannot be asked. */
int router_newest_map(struct cairn_router *router, const struct cairn_map **out,
                      struct cairn_error *err);
/* Give a shard a map, and learn the one that it has then. */
int router_give_map(struct cairn_router *router, const struct cairn_map *map, uint32_t shard,
                    struct cairn_error *err);
/* Give it to all shards of it, and of `before` (may be NULL); who cannot be reached finds out
 * later. */
void router_spread_map(struct cairn_router *router, const struct cairn_map *map,
                       const struct cairn_map *before);
/* Make `map` the map of the cluster, at the local home shard of `before`, whose successor it is.
 * The change lock is held. CAIRN_EPRECONDITION when home has another map than `before`. */
int router_found_map(struct cairn_router *router, const struct cairn_map *before,
                     const struct cairn_map *map, struct cairn_error *err);
bool router_has_home(struct cairn_router *router, const struct cairn_map *map);

/* move.c: carry one move of the map's plan out. Returns 0 when it is done and home knows.
 * CAIRN_EEND: the plan is another one meanwhile, look again. CAIRN_ESHUTDOWN. CAIRN_ECORRUPT: the
 * copy is not what the source has. All else is worth another try. */
int router_move_run(struct router_rebalance *rebalance, const struct cairn_map *map,
                    const struct cairn_map_move *move, struct cairn_error *err);

/* plan.c */
/* The shards, with planned weights and URLs, that a change makes of a map's; in the arena. Pure.
 * *differs: in weights, *urls_differ: in URLs. CAIRN_EPARAM, CAIRN_ENOTFOUND. */
struct router_planned {
    struct cairn_map_shard *shards;
    uint32_t count;
    bool weights_differ, urls_differ;
};
int router_plan_shards(const struct cairn_map *map, const struct cairn_cluster_change *change,
                       struct cairn_arena *arena, struct router_planned *out,
                       struct cairn_error *err);
/* Make a change; this process has the map's home. As cairn_cluster_change. */
int router_change_here(struct cairn_router *router, const struct cairn_map *map,
                       const struct cairn_cluster_change *change, uint64_t *plan,
                       struct cairn_error *err);
/* cluster.c: {"action", "shards", …} and back; strings are in the arena. */
void router_change_encode(const struct cairn_cluster_change *change, struct cairn_buf *out);
int router_change_decode(struct cairn_json root, struct cairn_arena *arena,
                         struct cairn_cluster_change *out, struct cairn_error *err);
/* Give local shards the URL that is advertised where the map has another one. */
int router_mend_urls(struct router_rebalance *rebalance, const struct cairn_map *map,
                     struct cairn_error *err);

/* jobs.c */
/* Make the list of jobs say what the map says: a job for its plan, an outcome for earlier ones. */
void router_jobs_follow(struct router_rebalance *rebalance, const struct cairn_map *map);
void router_jobs_free(struct router_rebalance *rebalance);
/* The state of the plan's job, unless it has ended; `why` may be NULL. */
void router_job_set(struct router_rebalance *rebalance, uint64_t plan, enum cairn_job_state state,
                    const struct cairn_error *why);
/* lock is held; NULL: there is none. */
struct router_job *router_job_find(struct router_rebalance *rebalance, uint64_t plan);
struct cairn_move_status *router_job_move(struct router_job *job, uint32_t source, uint32_t target);
/* Add up the moves; lock is held. */
void router_job_sum(struct router_job *job, uint64_t now_us);
/* {"jobs": […]} and back. */
void router_jobs_encode(const struct cairn_job_status *jobs, uint32_t count, struct cairn_buf *out);
int router_jobs_decode(struct cairn_json root, struct cairn_arena *arena,
                       struct cairn_job_status **jobs, uint32_t *count, struct cairn_error *err);
/* The jobs of this process, copied to the arena. */
void router_jobs_copy(struct router_rebalance *rebalance, struct cairn_arena *arena,
                      struct cairn_job_status **jobs, uint32_t *count);

#endif
