/* The thread that carries plans out, in the process that has home; in the others it sees to it that
 * home learns of new maps and of where their shards answer.
 *
 *   while there is a plan   spread it once -> its moves, one after the other -> finish
 *   a failure               the job is paused, and tried again after 100 ms to 5 s
 *   digests that differ     the job has failed: nothing more happens until it is resumed or aborted
 *
 * The plan is in the map and what was copied is in the logs, so there is nothing to save here. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/diag.h"
#include "base/failpoint.h"
#include "base/time.h"
#include "router/rebalance.h"

#define IDLE_US         UINT64_C(1000000)
#define RETRY_MIN_US    UINT64_C(100000)
#define RETRY_MAX_US    UINT64_C(5000000)
#define CLEANED_LOOK_US UINT64_C(1000000)
#define URL_LOOK_US     UINT64_C(5000000)

/* Wait until woken, until there is something to try again, or to stop: then false. */
static bool wait_for_work(struct router_rebalance *rebalance)
{
    uint64_t wait_us = IDLE_US;
    if (rebalance->failures > 0) {
        unsigned doublings = rebalance->failures < 7 ? rebalance->failures - 1 : 6;
        wait_us = RETRY_MIN_US << doublings;
        if (wait_us > RETRY_MAX_US)
            wait_us = RETRY_MAX_US;
    }
    uint64_t until_us = cairn_time_monotonic_us() + wait_us;
    struct timespec until = {.tv_sec = (time_t)(until_us / 1000000),
                             .tv_nsec = (long)(until_us % 1000000) * 1000};
    pthread_mutex_lock(&rebalance->lock);
    while (!rebalance->stopping && !rebalance->woken &&
           pthread_cond_timedwait(&rebalance->changed, &rebalance->lock, &until) == 0)
        continue;
    rebalance->woken = false;
    bool goes_on = !rebalance->stopping;
    pthread_mutex_unlock(&rebalance->lock);
    return goes_on;
}

/* Where the logs of the sources end, for the job's total. Sources that cannot be asked now are
 * counted when their moves are made. */
static void estimate(struct router_rebalance *rebalance, const struct cairn_map *map)
{
    for (uint32_t i = 0; i < map->moves_count; i++) {
        struct cairn_arena arena = {0};
        struct cairn_shard_request request = {0};
        struct cairn_shard_answer answer;
        const struct cairn_map_move *move = &map->moves[i];
        int code = router_ask(rebalance->router, map, move->source, CAIRN_SHARD_REPORT, &request,
                              &arena, &answer, REBALANCE_CALL_US, NULL);
        pthread_mutex_lock(&rebalance->lock);
        struct cairn_move_status *status =
            router_job_move(router_job_find(rebalance, map->plan), move->source, move->target);
        if (code == 0 && status != NULL && status->end_offset == 0 && answer.report != NULL)
            status->end_offset = answer.report->log_end_offset;
        pthread_mutex_unlock(&rebalance->lock);
        cairn_arena_release(&arena);
    }
}

/* All moves are done: the planned weights become the weights. */
static int finish(struct router_rebalance *rebalance, struct cairn_error *err)
{
    struct cairn_router *router = rebalance->router;
    const struct cairn_map *map = NULL, *finished = NULL;
    cairn_failpoint("rebalance.before_finish");
    pthread_mutex_lock(&rebalance->change_lock);
    int code = router_newest_map(router, &map, err);
    if (code == 0)
        code = cairn_map_finish(map, &finished, err);
    /* Nobody can be told of a home that cannot be reached. */
    if (code == 0 && finished->home != map->home)
        code = router_give_map(router, map, finished->home, err);
    if (code == 0)
        code = router_found_map(router, map, finished, err);
    pthread_mutex_unlock(&rebalance->change_lock);
    if (code == 0) {
        cairn_failpoint("rebalance.finished");
        router_jobs_follow(rebalance, finished);
        cairn_info("rebalance", "plan %llu is done, epoch %llu", (unsigned long long)map->plan,
                   (unsigned long long)finished->epoch);
        code = router_give_map(router, finished, finished->home, err);
        router_spread_map(router, finished, map);
    }
    cairn_map_unref(finished);
    cairn_map_unref(map);
    return code;
}

static const struct cairn_map_move *first_move(const struct cairn_map *map)
{
    for (uint32_t i = 0; i < map->moves_count; i++)
        if (!map->moves[i].done)
            return &map->moves[i];
    return NULL;
}

/* The next step of the plan that there is. */
static int carry_on(struct router_rebalance *rebalance, const struct cairn_map *known,
                    struct cairn_error *err)
{
    const struct cairn_map *map;
    int code = router_newest_map(rebalance->router, &map, err);
    if (code != 0)
        return code;
    router_jobs_follow(rebalance, map);
    if (map->plan != known->plan || !router_has_home(rebalance->router, map)) {
        cairn_map_unref(map);
        return CAIRN_EEND;
    }
    if (rebalance->spread_plan != map->plan) {
        cairn_failpoint("rebalance.planned");
        router_spread_map(rebalance->router, map, NULL);
        estimate(rebalance, map);
        rebalance->spread_plan = map->plan;
    }
    const struct cairn_map_move *move = first_move(map);
    code = move != NULL ? router_move_run(rebalance, map, move, err) : finish(rebalance, err);
    cairn_map_unref(map);
    return code;
}

/* Whether the plan's job waits for people. Clears that they have asked to try again. */
static bool has_failed(struct router_rebalance *rebalance, uint64_t plan)
{
    pthread_mutex_lock(&rebalance->lock);
    struct router_job *job = router_job_find(rebalance, plan);
    bool failed = job != NULL && job->status.state == CAIRN_JOB_FAILED;
    if (job != NULL && job->resumed) {
        if (failed)
            job->status.state = CAIRN_JOB_RUNNING;
        job->resumed = failed = false;
    }
    pthread_mutex_unlock(&rebalance->lock);
    return failed;
}

static void work_on_plan(struct router_rebalance *rebalance, const struct cairn_map *map)
{
    struct cairn_error err = {0};
    if (has_failed(rebalance, map->plan)) {
        rebalance->failures = 0;
        return;
    }
    int code = carry_on(rebalance, map, &err);
    if (code == 0 || code == CAIRN_EEND) {
        rebalance->failures = 0;
        router_rebalance_wake(rebalance->router);
    } else if (code == CAIRN_ECORRUPT) {
        cairn_alarm("rebalance", "plan %llu: %s", (unsigned long long)map->plan, err.message);
        router_job_set(rebalance, map->plan, CAIRN_JOB_FAILED, &err);
        rebalance->failures = 0;
    } else if (code != CAIRN_ESHUTDOWN) {
        if (rebalance->failures++ == 0)
            cairn_warn("rebalance", "plan %llu: %s; trying again", (unsigned long long)map->plan,
                       err.message);
        router_job_set(rebalance, map->plan, CAIRN_JOB_PAUSED, &err);
    }
}

/* Whether a source has dropped what it gave away; also when there is no way to know. */
static bool is_cleaned(struct cairn_router *router, const struct cairn_map *map, uint32_t source)
{
    struct cairn_arena arena = {0};
    struct cairn_shard_request request = {0};
    struct cairn_shard_answer answer;
    if (cairn_map_shard(map, source) == NULL && router_local(router, source) == NULL)
        return true;
    int code = router_ask(router, map, source, CAIRN_SHARD_REPORT, &request, &arena, &answer,
                          REBALANCE_CALL_US, NULL);
    bool cleaned = code == 0 && answer.report != NULL && answer.report->foreign == 0;
    cairn_arena_release(&arena);
    return cleaned;
}

/* Bring moves that are only being cleaned up after to their end. */
static void look_at_cleaning(struct router_rebalance *rebalance, const struct cairn_map *map)
{
    bool cleaning[CAIRN_SHARDS_MAX] = {false};
    uint64_t now_us = cairn_time_monotonic_us();
    if (now_us < rebalance->cleaned_us + CLEANED_LOOK_US)
        return;
    rebalance->cleaned_us = now_us;
    pthread_mutex_lock(&rebalance->lock);
    for (uint32_t i = 0; i < rebalance->jobs_count; i++)
        for (uint32_t j = 0; j < rebalance->jobs[i]->status.moves_count; j++)
            if (rebalance->jobs[i]->moves[j].step == CAIRN_MOVE_CLEANING_UP)
                cleaning[rebalance->jobs[i]->moves[j].source] = true;
    pthread_mutex_unlock(&rebalance->lock);
    for (uint32_t shard = 0; shard < CAIRN_SHARDS_MAX; shard++) {
        if (!cleaning[shard] || !is_cleaned(rebalance->router, map, shard))
            continue;
        pthread_mutex_lock(&rebalance->lock);
        for (uint32_t i = 0; i < rebalance->jobs_count; i++)
            for (uint32_t j = 0; j < rebalance->jobs[i]->status.moves_count; j++) {
                struct cairn_move_status *move = &rebalance->jobs[i]->moves[j];
                if (move->source == shard && move->step == CAIRN_MOVE_CLEANING_UP)
                    move->step = CAIRN_MOVE_DONE;
            }
        pthread_mutex_unlock(&rebalance->lock);
    }
}

/* A shard of this process may be the only one that has a new map: after a release whose answer was
 * lost, or after home itself has left. */
static void tell_home(struct router_rebalance *rebalance, const struct cairn_map *map)
{
    if (rebalance->told_epoch == map->epoch || router_has_home(rebalance->router, map))
        return;
    if (router_give_map(rebalance->router, map, map->home, NULL) == 0)
        rebalance->told_epoch = map->epoch;
}

static void mend_urls(struct router_rebalance *rebalance, const struct cairn_map *map)
{
    struct cairn_error err = {0};
    uint64_t now_us = cairn_time_monotonic_us();
    if (rebalance->url_tried_us != 0 && now_us < rebalance->url_tried_us + URL_LOOK_US)
        return;
    rebalance->url_tried_us = now_us;
    if (router_mend_urls(rebalance, map, &err) != 0)
        cairn_warn("rebalance", "cannot put this process's URL into the shard map: %s",
                   err.message);
}

static void *run(void *argument)
{
    struct router_rebalance *rebalance = argument;
    pthread_setname_np(pthread_self(), "cairn-rebalance");
    do {
        const struct cairn_map *map = router_map(rebalance->router);
        if (map == NULL)
            continue;
        if (rebalance->plan_gauge != NULL)
            cairn_gauge_set(rebalance->plan_gauge, (int64_t)map->plan);
        mend_urls(rebalance, map);
        tell_home(rebalance, map);
        if (router_has_home(rebalance->router, map)) {
            router_jobs_follow(rebalance, map);
            if (map->plan != 0)
                work_on_plan(rebalance, map);
            look_at_cleaning(rebalance, map);
        } else {
            rebalance->failures = 0;
        }
        cairn_map_unref(map);
    } while (wait_for_work(rebalance));
    return NULL;
}

static void open_metrics(struct router_rebalance *rebalance, struct cairn_metrics *metrics)
{
    if (metrics == NULL)
        return;
    rebalance->plan_gauge = cairn_metrics_gauge(metrics, "cairn_rebalance_plan", "",
                                                "Number of the plan under way; 0: there is none");
    rebalance->held_gauge =
        cairn_metrics_gauge(metrics, "cairn_rebalance_held_us_max", "",
                            "Longest time that a cut over held writes, in microseconds");
    rebalance->moves_counter = cairn_metrics_counter(metrics, "cairn_rebalance_moves_done_total",
                                                     "", "Moves that were cut over");
    rebalance->bytes_counter = cairn_metrics_counter(metrics, "cairn_rebalance_bytes_total", "",
                                                     "Payload bytes that moves have copied");
}

void router_rebalance_free(struct cairn_router *router)
{
    struct router_rebalance *rebalance = router->rebalance;
    if (rebalance == NULL)
        return;
    router->rebalance = NULL;
    router_imports_free(router);
    router_jobs_free(rebalance);
    pthread_cond_destroy(&rebalance->changed);
    pthread_mutex_destroy(&rebalance->lock);
    pthread_mutex_destroy(&rebalance->change_lock);
    free(rebalance);
}

int router_rebalance_open(struct cairn_router *router, struct cairn_error *err)
{
    struct router_rebalance *rebalance = cairn_calloc(1, sizeof *rebalance);
    pthread_condattr_t monotonic;
    rebalance->router = router;
    pthread_mutex_init(&rebalance->change_lock, NULL);
    pthread_mutex_init(&rebalance->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&rebalance->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    open_metrics(rebalance, router->metrics);
    router_imports_open(router);
    router->rebalance = rebalance;
    if (pthread_create(&rebalance->thread, NULL, run, rebalance) != 0) {
        router_rebalance_free(router);
        return cairn_fail(err, CAIRN_ENOMEM, "cannot start the thread that moves keys");
    }
    return 0;
}

void router_rebalance_close(struct cairn_router *router)
{
    struct router_rebalance *rebalance = router->rebalance;
    if (rebalance == NULL)
        return;
    pthread_mutex_lock(&rebalance->lock);
    rebalance->stopping = true;
    pthread_cond_broadcast(&rebalance->changed);
    pthread_mutex_unlock(&rebalance->lock);
    pthread_join(rebalance->thread, NULL);
    router_imports_close(router);
}

void router_rebalance_wake(struct cairn_router *router)
{
    struct router_rebalance *rebalance = router->rebalance;
    if (rebalance == NULL)
        return;
    pthread_mutex_lock(&rebalance->lock);
    rebalance->woken = true;
    pthread_cond_signal(&rebalance->changed);
    pthread_mutex_unlock(&rebalance->lock);
}
