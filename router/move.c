/* One move, carried out by the process that has home.
 *
 *   prepare     source and target have the plan, the target has all schemas
 *   copy        the target copies; we look on, until little is missing
 *   digests     source and target bring their digests up to what has been copied
 *   cut over    hold -> reach -> compare -> release, within CAIRN_FREEZE_MS
 *   hand over   target, then home, then all get the new map
 *
 * The change lock is held from the last look for a newer map until home has the new one. The
 * release is the point of no return, and its answer may be lost: then the next look for the newest
 * map, which asks the source, tells. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "base/diag.h"
#include "base/failpoint.h"
#include "base/time.h"
#include "router/rebalance.h"

#define LOOK_WAIT_MS       500u
#define LAG_SMALL          64u              /* offsets: catching up takes no time */
#define LAG_SMALL_S        0.1              /* or takes less than this */
#define DIGEST_STEP        UINT64_C(200000) /* offsets of one call */
#define DIGEST_US          UINT64_C(60000000)
#define CATALOG_US         UINT64_C(60000000)
#define CUT_OVER_MARGIN_US UINT64_C(5000) /* of the hold, left for the release */

struct moving {
    struct router_rebalance *rebalance;
    struct cairn_router *router;
    const struct cairn_map *map; /* a reference */
    struct cairn_shard_move move;
    struct cairn_arena arena; /* of one call */

    struct cairn_shard_progress progress;
    struct router_rate rate; /* of offsets */
    uint64_t bytes;          /* counted so far */
};

static int ask(struct moving *m, uint32_t shard, enum cairn_shard_op op,
               struct cairn_shard_request *request, struct cairn_shard_answer *answer,
               uint64_t within_us, struct cairn_error *err)
{
    cairn_arena_reset(&m->arena);
    request->move = m->move;
    return router_ask(m->router, m->map, shard, op, request, &m->arena, answer, within_us, err);
}

/* Whether the move is still to be made, as far as this process knows. */
static int check_wanted(struct moving *m, struct cairn_error *err)
{
    pthread_mutex_lock(&m->rebalance->lock);
    bool stopping = m->rebalance->stopping;
    pthread_mutex_unlock(&m->rebalance->lock);
    if (stopping)
        return cairn_fail(err, CAIRN_ESHUTDOWN, "the server is shutting down");
    const struct cairn_map *map = router_map(m->router);
    const struct cairn_map_move *move = map != NULL && map->plan == m->move.plan
                                            ? cairn_map_move(map, m->move.source, m->move.target)
                                            : NULL;
    bool wanted = move != NULL && !move->done && router_has_home(m->router, map);
    if (wanted && map->epoch > m->map->epoch) {
        const struct cairn_map *old = m->map;
        m->map = map;
        map = old;
    }
    cairn_map_unref(map);
    return wanted ? 0 : cairn_fail(err, CAIRN_EEND, "the plan has changed");
}

static void set_step(struct moving *m, enum cairn_move_step step)
{
    pthread_mutex_lock(&m->rebalance->lock);
    struct cairn_move_status *status = router_job_move(router_job_find(m->rebalance, m->move.plan),
                                                       m->move.source, m->move.target);
    if (status != NULL)
        status->step = step;
    pthread_mutex_unlock(&m->rebalance->lock);
}

static void set_progress(struct moving *m)
{
    const struct cairn_shard_progress *progress = &m->progress;
    pthread_mutex_lock(&m->rebalance->lock);
    struct router_job *job = router_job_find(m->rebalance, m->move.plan);
    struct cairn_move_status *status = router_job_move(job, m->move.source, m->move.target);
    if (status != NULL) {
        status->reached = progress->reached;
        if (progress->end_offset > status->end_offset)
            status->end_offset = progress->end_offset;
        status->records = progress->records;
        status->bytes = progress->bytes;
        router_job_sum(job, cairn_time_monotonic_us());
    }
    pthread_mutex_unlock(&m->rebalance->lock);
    if (progress->bytes > m->bytes && m->rebalance->bytes_counter != NULL)
        cairn_counter_add(m->rebalance->bytes_counter, progress->bytes - m->bytes);
    m->bytes = progress->bytes;
}

static int prepare(struct moving *m, struct cairn_error *err)
{
    set_step(m, CAIRN_MOVE_PREPARING);
    int code = router_give_map(m->router, m->map, m->move.source, err);
    if (code == 0)
        code = router_give_map(m->router, m->map, m->move.target, err);
    if (code == 0)
        code = router_catalog_complete(m->router, m->move.target,
                                       cairn_time_monotonic_us() + CATALOG_US, err);
    if (code == 0)
        cairn_failpoint("rebalance.prepared");
    return code;
}

static int start_import(struct moving *m, struct cairn_error *err)
{
    const struct cairn_map_shard *source = cairn_map_shard(m->map, m->move.source);
    struct cairn_shard_request request = {.url = source->url};
    struct cairn_shard_answer answer;
    int code =
        ask(m, m->move.target, CAIRN_SHARD_IMPORT, &request, &answer, REBALANCE_CALL_US, err);
    if (code == 0)
        m->progress = answer.progress;
    return code;
}

/* Ask the target how far it is; waits a little until it has reached what it knew to be the end. A
 * target that was restarted is told to go on. What it says of failures is ours: it tries again by
 * itself. */
static int look(struct moving *m, struct cairn_error *err)
{
    struct cairn_shard_request request = {.until_offset = m->progress.end_offset,
                                          .wait_ms = LOOK_WAIT_MS};
    if (request.until_offset == 0)
        request.until_offset = 1; /* not known before the first step */
    struct cairn_shard_answer answer;
    int code = ask(m, m->move.target, CAIRN_SHARD_IMPORT_STATE, &request, &answer,
                   LOOK_WAIT_MS * UINT64_C(1000) + REBALANCE_CALL_US, err);
    if (code != 0)
        return code;
    if (!answer.progress.running)
        return start_import(m, err);
    m->progress = answer.progress;
    set_progress(m);
    router_rate_sample(&m->rate, cairn_time_monotonic_us(), m->progress.reached);
    if (answer.text.len > 0)
        return cairn_fail(err, CAIRN_EUNAVAILABLE, "shard s%u: %.*s", m->move.target,
                          CAIRN_STR_ARG(answer.text));
    return 0;
}

static uint64_t lag_of(const struct moving *m)
{
    const struct cairn_shard_progress *progress = &m->progress;
    return progress->end_offset > progress->reached ? progress->end_offset - progress->reached : 0;
}

static bool is_close(const struct moving *m)
{
    uint64_t lag = lag_of(m);
    return m->progress.running && m->progress.end_offset != 0 &&
           (lag <= LAG_SMALL || (m->rate.per_s > 0 && (double)lag < m->rate.per_s * LAG_SMALL_S));
}

/* Look on until little is missing. */
static int catch_up(struct moving *m, struct cairn_error *err)
{
    uint64_t goal = 0;
    for (;;) {
        int code = check_wanted(m, err);
        if (code == 0)
            code = look(m, err);
        if (code != 0)
            return code;
        router_job_set(m->rebalance, m->move.plan, CAIRN_JOB_RUNNING, NULL);
        if (is_close(m))
            return 0;
        if (goal == 0)
            goal = m->progress.end_offset;
        bool tail = goal != 0 && m->progress.reached >= goal;
        set_step(m, tail ? CAIRN_MOVE_CATCHING_UP : CAIRN_MOVE_COPYING);
    }
}

/* Digest of one side up to an offset of the source's log. */
static int digest_of(struct moving *m, uint32_t shard, uint64_t until, uint64_t digest[2],
                     uint64_t *records, uint64_t within_us, struct cairn_error *err)
{
    struct cairn_shard_request request = {.until_offset = until};
    struct cairn_shard_answer answer;
    int code = ask(m, shard, CAIRN_SHARD_DIGEST, &request, &answer, within_us, err);
    if (code == 0) {
        digest[0] = answer.digest[0];
        digest[1] = answer.digest[1];
        *records = answer.progress.records;
    }
    return code;
}

/* Let both sides read what they have, so that little is left to be read under the hold. */
static int warm_digests(struct moving *m, struct cairn_error *err)
{
    struct router_digested *known = &m->rebalance->digested;
    uint64_t until = m->progress.reached, digest[2], records;
    int code = 0;
    if (known->plan != m->move.plan || known->source != m->move.source ||
        known->target != m->move.target)
        *known = (struct router_digested){m->move.plan, m->move.source, m->move.target, 0};
    while (code == 0 && known->offset < until) {
        uint64_t next = until - known->offset > DIGEST_STEP ? known->offset + DIGEST_STEP : until;
        code = check_wanted(m, err);
        if (code == 0)
            code = digest_of(m, m->move.source, next, digest, &records, DIGEST_US, err);
        if (code == 0)
            code = digest_of(m, m->move.target, next, digest, &records, DIGEST_US, err);
        if (code == 0)
            known->offset = next;
    }
    return code;
}

struct hold {
    uint64_t fence, end_offset;
    uint64_t started_us, until_us; /* of our clock, from before the call: it ends no earlier */
    uint64_t over_us;              /* from after the call: it ends no later */
};

static uint64_t left_us(const struct hold *hold)
{
    uint64_t now_us = cairn_time_monotonic_us();
    return now_us < hold->until_us ? hold->until_us - now_us : 0;
}

static int freeze(struct moving *m, struct hold *hold, struct cairn_error *err)
{
    struct cairn_shard_request request = {.wait_ms = CAIRN_FREEZE_MS};
    struct cairn_shard_answer answer;
    cairn_failpoint("rebalance.before_freeze");
    hold->started_us = cairn_time_monotonic_us();
    hold->until_us = hold->started_us + CAIRN_FREEZE_MS * UINT64_C(1000) - CUT_OVER_MARGIN_US;
    int code =
        ask(m, m->move.source, CAIRN_SHARD_FREEZE, &request, &answer, REBALANCE_CALL_US, err);
    if (code != 0)
        return code;
    hold->over_us = cairn_time_monotonic_us() + CAIRN_FREEZE_MS * UINT64_C(1000);
    hold->fence = answer.fence;
    hold->end_offset = answer.progress.end_offset;
    cairn_failpoint("rebalance.frozen");
    return 0;
}

/* The target's digest of all that the source has. CAIRN_ETIMEOUT when it does not get there. */
static int reach_end(struct moving *m, const struct hold *hold, uint64_t digest[2],
                     struct cairn_error *err)
{
    uint64_t wait_us = left_us(hold);
    struct cairn_shard_request request = {.until_offset = hold->end_offset,
                                          .fence = hold->fence,
                                          .wait_ms = (uint32_t)(wait_us / 1000)};
    struct cairn_shard_answer answer;
    int code =
        ask(m, m->move.target, CAIRN_SHARD_IMPORT_STATE, &request, &answer, wait_us + 1000, err);
    if (code != 0)
        return code;
    if (answer.progress.running)
        m->progress = answer.progress;
    if (!answer.progress.running || answer.progress.reached < hold->end_offset)
        return cairn_fail(err, CAIRN_ETIMEOUT,
                          "shard s%u did not catch up with s%u while writes were held for %u ms",
                          m->move.target, m->move.source, CAIRN_FREEZE_MS);
    digest[0] = answer.digest[0];
    digest[1] = answer.digest[1];
    return 0;
}

/* Both sides once more, with their counts, for people. */
static int report_difference(struct moving *m, const struct hold *hold, struct cairn_error *err)
{
    uint64_t source[2] = {0}, target[2] = {0}, source_records = 0, target_records = 0;
    (void)digest_of(m, m->move.source, hold->end_offset, source, &source_records, DIGEST_US, NULL);
    (void)digest_of(m, m->move.target, hold->end_offset, target, &target_records, DIGEST_US, NULL);
    cairn_fail(err, CAIRN_ECORRUPT,
               "the copy of s%u -> s%u differs at offset %" PRIu64 ": the source has %" PRIu64
               " records with digest %016" PRIx64 "%016" PRIx64 ", the target %" PRIu64
               " records with digest %016" PRIx64 "%016" PRIx64
               "; nothing was moved; abort the rebalancing and check both logs",
               m->move.source, m->move.target, hold->end_offset, source_records, source[1],
               source[0], target_records, target[1], target[0]);
    return CAIRN_ECORRUPT;
}

static void set_digest(struct moving *m, const uint64_t digest[2])
{
    pthread_mutex_lock(&m->rebalance->lock);
    struct cairn_move_status *status = router_job_move(router_job_find(m->rebalance, m->move.plan),
                                                       m->move.source, m->move.target);
    if (status != NULL) {
        status->digest[0] = digest[0];
        status->digest[1] = digest[1];
    }
    pthread_mutex_unlock(&m->rebalance->lock);
}

/* *differs: the copy is wrong, and the hold may be let go before more is said. */
static int compare(struct moving *m, const struct hold *hold, bool *differs,
                   struct cairn_error *err)
{
    uint64_t source[2] = {0}, target[2] = {0}, records;
    int code = reach_end(m, hold, target, err);
    if (code == 0)
        code = digest_of(m, m->move.source, hold->end_offset, source, &records,
                         left_us(hold) + 1000, err);
    if (code != 0)
        return code;
    set_digest(m, target);
    cairn_failpoint("rebalance.digests");
    *differs = source[0] != target[0] || source[1] != target[1];
    return *differs ? CAIRN_ECORRUPT : 0;
}

static void thaw(struct moving *m, const struct hold *hold)
{
    struct cairn_shard_request request = {.fence = hold->fence};
    struct cairn_shard_answer answer;
    (void)ask(m, m->move.source, CAIRN_SHARD_THAW, &request, &answer, REBALANCE_CALL_US, NULL);
}

static void record_hold(struct moving *m, uint64_t held_us)
{
    struct router_rebalance *rebalance = m->rebalance;
    pthread_mutex_lock(&rebalance->lock);
    struct cairn_move_status *status =
        router_job_move(router_job_find(rebalance, m->move.plan), m->move.source, m->move.target);
    if (status != NULL)
        status->held_us = held_us;
    if (held_us > rebalance->held_us_max)
        rebalance->held_us_max = held_us;
    uint64_t held_us_max = rebalance->held_us_max;
    pthread_mutex_unlock(&rebalance->lock);
    if (rebalance->held_gauge != NULL)
        cairn_gauge_set(rebalance->held_gauge, (int64_t)held_us_max);
    if (rebalance->moves_counter != NULL)
        cairn_counter_add(rebalance->moves_counter, 1);
}

/* A release whose answer was lost may still be on its way, and is admitted while the hold is in
 * force: nothing may be made of what the source says before. */
static void outwait(const struct hold *hold)
{
    struct timespec pause = {.tv_nsec = 1000000};
    while (cairn_time_monotonic_us() < hold->over_us)
        (void)nanosleep(&pause, NULL);
}

/* Have the source append the map in which the move is done: *done, a reference, on success. */
static int release(struct moving *m, const struct hold *hold, const struct cairn_map **done,
                   struct cairn_error *err)
{
    struct cairn_buf text = {0};
    struct cairn_shard_answer answer;
    int code = cairn_map_with_done(m->map, m->move.source, m->move.target, done, err);
    if (code != 0)
        return code;
    cairn_map_encode(*done, &text);
    struct cairn_shard_request request = {.fence = hold->fence,
                                          .text = {text.data, (uint32_t)text.len}};
    cairn_failpoint("rebalance.before_release");
    code = ask(m, m->move.source, CAIRN_SHARD_RELEASE, &request, &answer, REBALANCE_CALL_US, err);
    cairn_buf_release(&text);
    if (code != 0) {
        outwait(hold);
        cairn_map_unref(*done);
        *done = NULL;
        return code;
    }
    cairn_failpoint("rebalance.released");
    return 0;
}

/* The target must have the new map before others send it the writes that were held; home must have
 * it before it makes another one. */
static int hand_over(struct moving *m, const struct cairn_map *done, struct cairn_error *err)
{
    struct cairn_error failure = {0};
    int unreached = router_give_map(m->router, done, m->move.target, &failure);
    router_learn(m->router, done);
    cairn_failpoint("rebalance.target_told");
    int code = router_give_map(m->router, done, done->home, err);
    cairn_failpoint("rebalance.home_told");
    if (unreached != 0)
        cairn_warn("rebalance", "%s; it will ask for the new shard map", failure.message);
    return code;
}

/* The change lock is held. *done as in release. */
static int cut_over_locked(struct moving *m, const struct cairn_map **done, struct cairn_error *err)
{
    const struct cairn_map *newest;
    struct hold hold;
    bool differs = false;
    int code = router_newest_map(m->router, &newest, err);
    cairn_map_unref(newest);
    if (code == 0)
        code = check_wanted(m, err);
    if (code == 0)
        code = freeze(m, &hold, err);
    if (code != 0)
        return code;
    code = compare(m, &hold, &differs, err);
    if (code == 0)
        code = release(m, &hold, done, err);
    if (code != 0) {
        thaw(m, &hold);
        return differs ? report_difference(m, &hold, err) : code;
    }
    record_hold(m, cairn_time_monotonic_us() - hold.started_us);
    return hand_over(m, *done, err);
}

static int cut_over(struct moving *m, struct cairn_error *err)
{
    const struct cairn_map *done = NULL;
    set_step(m, CAIRN_MOVE_CUTTING_OVER);
    pthread_mutex_lock(&m->rebalance->lock);
    struct cairn_move_status *status = router_job_move(router_job_find(m->rebalance, m->move.plan),
                                                       m->move.source, m->move.target);
    if (status != NULL)
        status->tries++;
    pthread_mutex_unlock(&m->rebalance->lock);
    pthread_mutex_lock(&m->rebalance->change_lock);
    int code = cut_over_locked(m, &done, err);
    pthread_mutex_unlock(&m->rebalance->change_lock);
    if (done != NULL)
        router_spread_map(m->router, done, NULL);
    cairn_map_unref(done);
    return code;
}

int router_move_run(struct router_rebalance *rebalance, const struct cairn_map *map,
                    const struct cairn_map_move *move, struct cairn_error *err)
{
    struct moving m = {
        .rebalance = rebalance,
        .router = rebalance->router,
        .map = cairn_map_ref(map),
        .move = {.plan = map->plan, .source = move->source, .target = move->target},
    };
    int code = prepare(&m, err);
    if (code == 0)
        code = start_import(&m, err);
    if (code == 0)
        code = catch_up(&m, err);
    if (code == 0)
        code = warm_digests(&m, err);
    if (code == 0)
        code = catch_up(&m, err); /* what came while the digests were made */
    if (code == 0)
        code = warm_digests(&m, err);
    if (code == 0)
        code = cut_over(&m, err);
    if (code == 0)
        set_step(&m, CAIRN_MOVE_CLEANING_UP);
    cairn_map_unref(m.map);
    cairn_arena_release(&m.arena);
    return code;
}
