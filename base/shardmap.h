/* The shard map: which shards there are, where they answer, and which of them owns each token.
 *
 * Ownership is consistent hashing (Karger et al., STOC 1997): a shard of weight w has round(w *
 * vnodes) points on a ring (at least one, unless w is 0), each a function of its id and the point's
 * number, and owns the tokens from the point before (exclusive) to each of its own. Points of other
 * shards never move, and a higher weight only adds points.
 *
 * A map may carry a plan: a second weight for every shard. A token whose owner differs between the
 * two rings belongs to the move (owner now -> owner then) and changes hands when that move is done,
 * all at once:
 *
 *   owner(token) = owner in the planned ring, if the move of the token is done; else owner now
 *
 * When every move is done the planned weights become the weights and the plan ends. Every change
 * makes a map of the next epoch.
 *
 * A map is immutable and reference-counted. Threads: any. */
#ifndef CAIRN_BASE_SHARDMAP_H
#define CAIRN_BASE_SHARDMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/str.h"

struct cairn_map_shard {
    uint32_t id;
    double weight;         /* 0: owns nothing (being added, or drained); at most
                              CAIRN_SHARD_WEIGHT_MAX */
    double planned_weight; /* the same as `weight` without a plan */
    struct cairn_str url;  /* "http://host:port"; "": only in the process that has it */
};

/* Tokens that pass from one shard to another. */
struct cairn_map_move {
    uint32_t source, target;
    bool done;
};

enum cairn_plan_outcome { CAIRN_PLAN_NONE, CAIRN_PLAN_SUCCEEDED, CAIRN_PLAN_ABORTED };

struct cairn_map {
    /* Immutable. */
    uint64_t cluster; /* random; maps of different clusters are never mixed */
    uint64_t epoch;   /* from 1 */
    uint32_t vnodes;  /* points of a shard of weight 1 */
    uint32_t home;    /* the shard whose process makes new maps and schemas */
    uint32_t shards_count;
    const struct cairn_map_shard *shards; /* by id */
    uint64_t plan;                        /* epoch at which the plan was made; 0: there is none */
    uint32_t moves_count;
    const struct cairn_map_move *moves; /* by (source, target) */
    uint64_t last_plan;                 /* the plan before; 0: none */
    enum cairn_plan_outcome last_outcome;
};

/* What a new map is made from. Arrays and strings are copied. */
struct cairn_map_spec {
    uint64_t cluster, epoch;              /* epoch at most INT64_MAX */
    uint32_t vnodes, home;                /* vnodes 0: CAIRN_VNODES_DEFAULT */
    const struct cairn_map_shard *shards; /* in any order; planned_weight counts only with `plan` */
    uint32_t shards_count;                /* 1 to CAIRN_SHARDS_MAX */
    uint64_t plan;
    const struct cairn_map_move *done; /* moves of the plan that are done already, whatever their
                                          `done`; moves that the plan does not have are ignored */
    uint32_t done_count;
    uint64_t last_plan;
    enum cairn_plan_outcome last_outcome;
};

/* The caller owns one reference of *out. The moves of a plan are found from the two rings. A plan
 * without moves stays a plan (cairn_map_finish ends it).
 * CAIRN_EPARAM, naming the shard: an id repeated or not below CAIRN_SHARDS_MAX, a weight out of
 * range, no shard with a weight (now, or planned), a home that is not there, a URL that is not
 * http://host:port or https://host:port (at most CAIRN_URL_BYTES_MAX), more than
 * CAIRN_RING_POINTS_MAX points. Also for an epoch, vnodes, plan, last_plan or last_outcome out of
 * range or order: last_plan < plan <= epoch, and an outcome exactly when there is a last_plan. */
int cairn_map_new(const struct cairn_map_spec *spec, const struct cairn_map **out,
                  struct cairn_error *err);
const struct cairn_map *cairn_map_ref(const struct cairn_map *map);
void cairn_map_unref(const struct cairn_map *map); /* NULL is allowed */

/* Successors: the map of the next epoch. All return one reference. */
/* `shards` (with planned weights) replace the shards, and the plan begins. CAIRN_ECONFLICT when
 * there is a plan already; CAIRN_EPARAM also when a weight (not planned) is not what the map has, 0
 * for a new shard, or a shard with a weight is missing: a plan by itself changes no owner. */
int cairn_map_with_plan(const struct cairn_map *map, const struct cairn_map_shard *shards,
                        uint32_t shards_count, const struct cairn_map **out,
                        struct cairn_error *err);
/* The move is done. CAIRN_ENOTFOUND when the plan has no such move, CAIRN_ECONFLICT when it was
 * done already. */
int cairn_map_with_done(const struct cairn_map *map, uint32_t source, uint32_t target,
                        const struct cairn_map **out, struct cairn_error *err);
/* The plan ends: planned weights become the weights, shards of weight 0 leave the map, and if home
 * is among them the shard with the lowest id becomes home. CAIRN_ECONFLICT unless there is a plan
 * and all its moves are done. */
int cairn_map_finish(const struct cairn_map *map, const struct cairn_map **out,
                     struct cairn_error *err);
/* The plan is given up: moves that are done must first be moved back, so this makes a plan of the
 * old weights when there are any, and else a map without a plan; shards that then have no weight
 * leave the map (for home see cairn_map_finish). CAIRN_ECONFLICT when there is no plan.
 *
 * A plan back: current ring is what cairn_map_owner says now. To express that with two rings, the
 * roles are exchanged: weights <-> planned weights, and a move (a -> b) that was done becomes the
 * move (b -> a) that is not done, one that was not done becomes (b -> a) done. The new plan has its
 * own number (its epoch) and last_plan/last_outcome say that the given-up one was aborted. */
int cairn_map_abort(const struct cairn_map *map, const struct cairn_map **out,
                    struct cairn_error *err);
/* Other URLs for some shards (ids not there are ignored). */
int cairn_map_with_urls(const struct cairn_map *map, const struct cairn_map_shard *urls,
                        uint32_t urls_count, const struct cairn_map **out, struct cairn_error *err);

/* The shard that owns a token. O(1) expected. */
uint32_t cairn_map_owner(const struct cairn_map *map, uint64_t token);
/* Whether the token belongs to the plan's move from source to target (done or not). */
bool cairn_map_is_moving(const struct cairn_map *map, uint64_t token, uint32_t source,
                         uint32_t target);
/* The move that the token belongs to; NULL: it stays. */
const struct cairn_map_move *cairn_map_move_of(const struct cairn_map *map, uint64_t token);
/* The move, whatever its state; NULL when the plan has none. */
const struct cairn_map_move *cairn_map_move(const struct cairn_map *map, uint32_t source,
                                            uint32_t target);
/* NULL when the map has no such shard. */
const struct cairn_map_shard *cairn_map_shard(const struct cairn_map *map, uint32_t id);
/* The share of all tokens that a shard owns, 0 to 1, from the lengths of its arcs. */
double cairn_map_share(const struct cairn_map *map, uint32_t id);

/* Canonical JSON text (at most CAIRN_MAP_BYTES_MAX) for log records and calls, and back.
 * Decoding: CAIRN_ECORRUPT for what is no map. */
void cairn_map_encode(const struct cairn_map *map, struct cairn_buf *out);
int cairn_map_decode(struct cairn_str text, const struct cairn_map **out, struct cairn_error *err);

/* "s12" or "12" -> 12. CAIRN_EPARAM, also for leading zeros and from CAIRN_SHARDS_MAX on. */
int cairn_shard_id_parse(struct cairn_str text, uint32_t *out, struct cairn_error *err);

#endif
