/* Changing the cluster: adding, draining and re-weighting shards, and the moves that follow.
 *
 * The process that has the map's home makes the plan and carries it out on a thread of its own
 * (rebalance.c); any router passes requests on to it. The plan is in the map, hence in the shards'
 * logs, so that thread goes on by itself after a restart. Targets copy on threads of their own
 * (import.c).
 *
 * Threads: any. All calls block. */
#ifndef CAIRN_ROUTER_CLUSTER_H
#define CAIRN_ROUTER_CLUSTER_H

#include "base/json.h"
#include "router/router.h"

enum cairn_cluster_action {
    CAIRN_CLUSTER_SET,    /* add the shard, or change its URL or weight */
    CAIRN_CLUSTER_REMOVE, /* drain the shard; it leaves the map when it owns nothing */
    CAIRN_CLUSTER_TO,     /* make the set of shards this one: add, drain, in one plan */
    CAIRN_CLUSTER_ABORT,  /* give the plan up: what has moved goes back */
    CAIRN_CLUSTER_RESUME, /* try again now a plan that waits after a failure */
};

struct cairn_cluster_change {
    enum cairn_cluster_action action;
    const struct cairn_map_shard *shards; /* SET and REMOVE: one; TO: all. url "": as it is;
                                             planned_weight 0: as it is, 1 for a new one */
    uint32_t shards_count;
    bool only_add, only_drain; /* TO: leave out the other half */
};

/* Start a change. *plan is the number of the plan that it made, which names the job
 * "rebalance-<plan>"; 0: there was nothing to move.
 * CAIRN_EBUSY: a plan is under way; CAIRN_EPARAM naming the field; CAIRN_ENOTFOUND: no such shard;
 * CAIRN_EUNAVAILABLE: home, or a shard that is needed, cannot be reached. */
int cairn_cluster_change(struct cairn_router *router, const struct cairn_cluster_change *change,
                         uint64_t *plan, struct cairn_error *err);

enum cairn_job_state {
    CAIRN_JOB_QUEUED,
    CAIRN_JOB_RUNNING,
    CAIRN_JOB_PAUSED, /* a step fails and is tried again; `error` says why */
    CAIRN_JOB_SUCCEEDED,
    CAIRN_JOB_FAILED,
    CAIRN_JOB_CANCELLED,
};
const char *cairn_job_state_name(enum cairn_job_state state);

enum cairn_move_step {
    CAIRN_MOVE_WAITING,
    CAIRN_MOVE_PREPARING,
    CAIRN_MOVE_COPYING,
    CAIRN_MOVE_CATCHING_UP,
    CAIRN_MOVE_CUTTING_OVER,
    CAIRN_MOVE_CLEANING_UP,
    CAIRN_MOVE_DONE,
};
const char *cairn_move_step_name(enum cairn_move_step step);

struct cairn_move_status {
    uint32_t source, target;
    enum cairn_move_step step;
    uint64_t records, bytes;      /* copied */
    uint64_t reached, end_offset; /* of the source's log */
    uint64_t held_us;             /* how long the cut over held writes */
    uint64_t tries;               /* cut overs tried */
    uint64_t digest[2];           /* compared at the cut over; 0 before */
};
struct cairn_job_status {
    uint64_t plan;
    enum cairn_job_state state;
    int64_t started_us, ended_us; /* wall clock; CAIRN_TIME_NONE */
    uint64_t done, total;         /* log offsets read, and to be read, over all moves */
    uint64_t records, bytes;
    double rate_per_s;      /* records */
    double eta_s;           /* below 0: not known */
    struct cairn_str error; /* why it is paused or failed; "" */
    const struct cairn_move_status *moves;
    uint32_t moves_count;
};
/* The shard map that this process goes by: a reference of the caller's; NULL: it knows none yet. */
const struct cairn_map *cairn_cluster_map(struct cairn_router *router);

/* Plans that are known, the newest first: the one under way and up to CAIRN_JOBS_KEPT_MAX that
 * ended. Everything is in the arena. CAIRN_EUNAVAILABLE: home cannot be reached. */
int cairn_cluster_jobs(struct cairn_router *router, struct cairn_arena *arena,
                       struct cairn_job_status **jobs, uint32_t *count, struct cairn_error *err);

#endif
