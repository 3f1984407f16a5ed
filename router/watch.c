/* The watch thread: health checks of members elsewhere, maps to whoever is behind, catalogs that
 * changed, and timers.
 *
 * Each member elsewhere has at most one call of the watch under way:
 *
 *   its epoch is below ours    ADOPT with our map
 *   its epoch is above ours    ADOPT without one, which answers with its map
 *   a report is due or asked   REPORT, which is the health check
 *
 * A call's end only marks it and wakes the thread, which opens the answer. */
#include <stdlib.h>

#include "base/diag.h"
#include "router/internal.h"

#define CHECK_US         UINT64_C(1000000)
#define CHECK_BACK_OFF   3u               /* doublings: at most about 5 s */
#define ADOPT_AGAIN_US   UINT64_C(100000) /* between two offers of a map that is not taken */
#define CHECK_TIMEOUT_US UINT64_C(2000000)
#define ASKED_AGAIN_US   UINT64_C(10000) /* between two reports that are asked for */
/* Between two tries to bring schemas to shards: one that is read-only takes none for long. */
#define COMPLETE_AGAIN_US UINT64_C(3000000)

void router_watch_wake(struct cairn_router *router)
{
    pthread_mutex_lock(&router->watch_lock);
    router->watch_woken = true;
    pthread_cond_signal(&router->watch_changed);
    pthread_mutex_unlock(&router->watch_lock);
}

void router_ask_reports(struct cairn_router *router)
{
    bool asked = false;
    for (uint32_t i = 0; i < CAIRN_SHARDS_MAX; i++) {
        struct router_member *member = router_member(router, i);
        if (member != NULL && member->local == NULL &&
            !atomic_exchange(&member->report_asked, true))
            asked = true;
    }
    if (asked)
        router_watch_wake(router);
}

void router_later(struct cairn_router *router, struct router_timer *timer, uint64_t delay_us)
{
    timer->due_us = cairn_time_monotonic_us() + delay_us;
    pthread_mutex_lock(&router->watch_lock);
    timer->next = router->timers;
    router->timers = timer;
    router->watch_woken = true;
    pthread_cond_signal(&router->watch_changed);
    pthread_mutex_unlock(&router->watch_lock);
}

/* Run the timers that are due (all: every one). Sets *next_us to when the next one is. */
static void run_timers(struct cairn_router *router, bool all, uint64_t *next_us)
{
    uint64_t now_us = cairn_time_monotonic_us();
    struct router_timer *due = NULL;
    pthread_mutex_lock(&router->watch_lock);
    for (struct router_timer **at = &router->timers; *at != NULL;) {
        struct router_timer *timer = *at;
        if (all || timer->due_us <= now_us) {
            *at = timer->next;
            timer->next = due;
            due = timer;
        } else {
            if (timer->due_us < *next_us)
                *next_us = timer->due_us;
            at = &timer->next;
        }
    }
    pthread_mutex_unlock(&router->watch_lock);
    for (struct router_timer *next; due != NULL; due = next) {
        next = due->next;
        due->run(due);
    }
}

struct router_report *router_report_get(struct router_member *member)
{
    pthread_mutex_lock(&member->lock);
    struct router_report *report = member->report;
    if (report != NULL)
        atomic_fetch_add(&report->references, 1);
    pthread_mutex_unlock(&member->lock);
    return report;
}

void router_report_release(struct router_report *report)
{
    if (report == NULL || atomic_fetch_sub(&report->references, 1) != 1)
        return;
    cairn_arena_release(&report->arena);
    cairn_buf_release(&report->body);
    free(report);
}

/* Keep a report: the bytes of the answer move into it. */
static void keep_report(struct router_member *member, struct router_remote *remote)
{
    struct router_report *report = cairn_calloc(1, sizeof *report), *old;
    struct cairn_shard_answer answer;
    atomic_init(&report->references, 1);
    if (router_remote_take(remote, &report->arena, &answer) != 0 || answer.report == NULL) {
        router_report_release(report);
        return;
    }
    report->body = remote->call.answer;
    remote->call.answer = (struct cairn_buf){0};
    report->report = cairn_arena_alloc(&report->arena, sizeof *report->report);
    *report->report = *answer.report;
    report->taken_us = remote->started_us;
    pthread_mutex_lock(&member->lock);
    old = member->report;
    if (old != NULL && old->taken_us > report->taken_us)
        old = report; /* there is a newer one already */
    else
        member->report = report;
    pthread_mutex_unlock(&member->lock);
    router_report_release(old);
}

void cairn_router_refresh(struct cairn_router *router, uint64_t deadline_us)
{
    const struct cairn_map *map = router_map(router);
    struct router_remote *remotes = NULL;
    struct router_latch latch;
    uint32_t count = 0;
    if (map == NULL || !cairn_router_may_block(router)) {
        cairn_map_unref(map);
        return;
    }
    uint64_t limit_us = cairn_time_monotonic_us() + CHECK_TIMEOUT_US;
    remotes = cairn_calloc(map->shards_count, sizeof *remotes);
    for (uint32_t i = 0; i < map->shards_count; i++) {
        struct router_member *member = router_member(router, map->shards[i].id);
        if (member->local == NULL && !router_member_down(member))
            router_remote_init(&remotes[count++], router, member, CAIRN_SHARD_REPORT,
                               router_latch_remote_done, &latch);
    }
    struct cairn_shard_request request = {.cluster = map->cluster, .epoch = map->epoch};
    router_latch_init(&latch, count);
    for (uint32_t i = 0; i < count; i++)
        router_remote_start(&remotes[i], &request, limit_us < deadline_us ? limit_us : deadline_us);
    router_latch_wait(&latch);
    for (uint32_t i = 0; i < count; i++) {
        keep_report(remotes[i].member, &remotes[i]);
        router_remote_end(&remotes[i]);
    }
    free(remotes);
    cairn_map_unref(map);
}

static void on_end(struct router_remote *remote)
{
    struct router_member *member = remote->context;
    struct cairn_router *router = remote->router;
    pthread_mutex_lock(&router->watch_lock);
    atomic_store(&member->ended, true);
    router->watch_woken = true;
    pthread_cond_signal(&router->watch_changed);
    pthread_mutex_unlock(&router->watch_lock);
}

static void finish_call(struct router_member *member)
{
    struct cairn_arena arena = {0};
    struct cairn_shard_answer answer;
    uint64_t now_us = cairn_time_monotonic_us();
    bool reached = member->remote.call.error.code == 0;
    if (member->remote.op == CAIRN_SHARD_REPORT)
        keep_report(member, &member->remote);
    else if (router_remote_take(&member->remote, &arena, &answer) != 0)
        reached = false;
    member->back_off = reached                             ? 0
                       : member->back_off < CHECK_BACK_OFF ? member->back_off + 1
                                                           : CHECK_BACK_OFF;
    /* Jitter keeps the routers of a cluster apart. */
    uint64_t wait_us = (CHECK_US << member->back_off) * 5 / 8;
    member->next_check_us = now_us + wait_us + (now_us * 31 + member->id) % (wait_us * 3 / 5);
    router_remote_end(&member->remote);
    cairn_arena_release(&arena);
    atomic_store(&member->ended, false);
    member->busy = false;
}

static void start_call(struct router_member *member, const struct cairn_map *map,
                       enum cairn_shard_op op, bool with_map)
{
    struct cairn_shard_request request = {
        .cluster = map->cluster, .epoch = map->epoch, .fence = CAIRN_OFFSET_NONE};
    if (with_map) {
        cairn_buf_clear(&member->sent);
        cairn_map_encode(map, &member->sent);
        request.text = (struct cairn_str){member->sent.data, (uint32_t)member->sent.len};
    }
    member->busy = true;
    router_remote_init(&member->remote, member->router, member, op, on_end, member);
    router_remote_start(&member->remote, &request, cairn_time_monotonic_us() + CHECK_TIMEOUT_US);
}

/* What the member needs next. */
static void attend(struct router_member *member, const struct cairn_map *map, uint64_t *next_us)
{
    uint64_t now_us = cairn_time_monotonic_us(), epoch = atomic_load(&member->epoch);
    if (atomic_load(&member->ended))
        finish_call(member);
    if (member->busy || atomic_load(&member->peer) == NULL)
        return;
    bool due = now_us >= member->next_check_us;
    bool differs = member->back_off == 0 && member->next_check_us != 0 && epoch != map->epoch;
    if (differs && now_us >= member->adopt_after_us) {
        member->adopt_after_us = now_us + ADOPT_AGAIN_US;
        start_call(member, map, CAIRN_SHARD_ADOPT, epoch < map->epoch);
    } else if (due || (atomic_load(&member->report_asked) && now_us >= member->asked_after_us)) {
        atomic_store(&member->report_asked, false);
        member->asked_after_us = now_us + ASKED_AGAIN_US;
        start_call(member, map, CAIRN_SHARD_REPORT, false);
    } else if (atomic_load(&member->report_asked) && member->asked_after_us < *next_us) {
        *next_us = member->asked_after_us;
    } else if (member->next_check_us < *next_us) {
        *next_us = member->next_check_us;
    }
    if (differs && !member->busy && member->adopt_after_us < *next_us)
        *next_us = member->adopt_after_us;
}

/* A shard of this process whose log has an older map gets ours; one with a newer one teaches it. */
static void attend_local(struct cairn_router *router, struct router_member *member,
                         const struct cairn_map *map, uint64_t *next_us)
{
    struct cairn_error err = {0};
    uint64_t epoch = cairn_shard_epoch(member->local), now_us = cairn_time_monotonic_us();
    if (epoch > map->epoch) {
        const struct cairn_map *newer = cairn_shard_map(member->local);
        router_learn(router, newer);
        cairn_map_unref(newer);
    } else if (epoch < map->epoch && now_us >= member->next_check_us) {
        if (cairn_shard_adopt(member->local, map, CAIRN_OFFSET_NONE, &err) == 0)
            return;
        if (member->back_off++ == 0)
            cairn_warn("router", "shard s%u stays at the shard map of epoch %llu: %s", member->id,
                       (unsigned long long)epoch, err.message);
        member->next_check_us = now_us + CHECK_US;
    }
    if (epoch < map->epoch && member->next_check_us < *next_us)
        *next_us = member->next_check_us;
}

static void refresh_catalog(void *argument)
{
    struct cairn_router *router = argument;
    struct cairn_error err = {0};
    if (router_catalog_refresh(router, cairn_time_monotonic_us() + CHECK_TIMEOUT_US, &err) != 0)
        cairn_warn("router", "cannot read the collections: %s", err.message);
    atomic_store(&router->catalog_asked, false);
}

/* Whether a shard that answers has missed a schema change. */
static bool lacks_schema(const struct router_member *member, uint64_t newest)
{
    if (member->local != NULL)
        return cairn_shard_catalog_version(member->local) < newest;
    return atomic_load(&member->peer) != NULL && !router_member_down(member) &&
           atomic_load(&member->catalog_version) < newest;
}

static void complete_catalogs(void *argument)
{
    struct cairn_router *router = argument;
    struct cairn_error err = {0};
    const struct cairn_map *map = router_map(router);
    uint64_t newest = router_catalog_newest(router);
    for (uint32_t i = 0; map != NULL && i < map->shards_count; i++) {
        uint32_t id = map->shards[i].id;
        if (lacks_schema(router_member(router, id), newest) &&
            router_catalog_complete(router, id, cairn_time_monotonic_us() + CHECK_TIMEOUT_US,
                                    &err) != 0)
            cairn_warn("router", "shard s%u lacks a schema: %s", id, err.message);
    }
    cairn_map_unref(map);
    atomic_store(&router->catalog_asked, false);
}

/* Home gives the newest schemas to shards that could not take them when they changed. */
static void complete_others(struct cairn_router *router, const struct cairn_map *map)
{
    bool lacking = false;
    uint64_t now_us = cairn_time_monotonic_us();
    if (now_us < router->complete_after_us)
        return;
    uint64_t newest = router_local(router, map->home) != NULL ? router_catalog_newest(router) : 0;
    for (uint32_t i = 0; i < map->shards_count && !lacking; i++)
        lacking = lacks_schema(router_member(router, map->shards[i].id), newest);
    if (!lacking || atomic_exchange(&router->catalog_asked, true))
        return;
    router->complete_after_us = now_us + COMPLETE_AGAIN_US;
    if (cairn_pool_submit(router->controls, complete_catalogs, router) != 0)
        atomic_store(&router->catalog_asked, false);
}

/* Collections were changed somewhere. Reading them may take a while, so not on this thread. */
static void follow_catalog(struct cairn_router *router, const struct cairn_map *map)
{
    uint64_t known = atomic_load(&router->catalog_version), newest = known;
    complete_others(router, map);
    for (uint32_t i = 0; i < map->shards_count; i++) {
        struct router_member *member = router_member(router, map->shards[i].id);
        uint64_t version = atomic_load(&member->catalog_version);
        if (member->local == NULL && version > newest)
            newest = version;
    }
    if (newest == known || atomic_exchange(&router->catalog_asked, true))
        return;
    if (cairn_pool_submit(router->controls, refresh_catalog, router) != 0)
        atomic_store(&router->catalog_asked, false);
}

static void attend_all(struct cairn_router *router, uint64_t *next_us)
{
    const struct cairn_map *map = router_map(router);
    if (map == NULL) {
        if (router->seeds_count > 0 && !router_seeds_ask(router))
            *next_us = cairn_time_monotonic_us() + CHECK_US / 4;
        else if (router->seeds_count > 0)
            *next_us = 0;
        return;
    }
    for (uint32_t i = 0; i < CAIRN_SHARDS_MAX; i++) {
        struct router_member *member = router_member(router, i);
        if (member == NULL)
            continue;
        if (member->local != NULL)
            attend_local(router, member, map, next_us);
        else if (cairn_map_shard(map, i) != NULL || member->busy)
            attend(member, map, next_us);
    }
    follow_catalog(router, map);
    cairn_map_unref(map);
}

static void *watch(void *argument)
{
    struct cairn_router *router = argument;
    pthread_mutex_lock(&router->watch_lock);
    while (!router->watch_stopping) {
        router->watch_woken = false;
        pthread_mutex_unlock(&router->watch_lock);
        uint64_t next_us = cairn_time_monotonic_us() + CHECK_US;
        run_timers(router, false, &next_us);
        attend_all(router, &next_us);
        struct timespec until = {.tv_sec = (time_t)(next_us / 1000000),
                                 .tv_nsec = (long)(next_us % 1000000) * 1000};
        pthread_mutex_lock(&router->watch_lock);
        int timed_out = 0;
        while (!router->watch_woken && !router->watch_stopping && timed_out == 0)
            timed_out = pthread_cond_timedwait(&router->watch_changed, &router->watch_lock, &until);
    }
    pthread_mutex_unlock(&router->watch_lock);
    return NULL;
}

int router_watch_open(struct cairn_router *router, struct cairn_error *err)
{
    if (pthread_create(&router->watch_thread, NULL, watch, router) != 0)
        return cairn_fail(err, CAIRN_ENOMEM, "cannot start the watch thread");
    router->watch_started = true;
    return 0;
}

/* Timers that are left run at once: what they retry is then refused or done. Calls under way end
 * within their deadline. */
void router_watch_close(struct cairn_router *router)
{
    uint64_t next_us = 0;
    if (!router->watch_started)
        return;
    pthread_mutex_lock(&router->watch_lock);
    router->watch_stopping = true;
    pthread_cond_signal(&router->watch_changed);
    pthread_mutex_unlock(&router->watch_lock);
    pthread_join(router->watch_thread, NULL);
    run_timers(router, true, &next_us);
    for (uint32_t i = 0; i < CAIRN_SHARDS_MAX; i++) {
        struct router_member *member = router_member(router, i);
        if (member == NULL || member->local != NULL || !member->busy)
            continue;
        pthread_mutex_lock(&router->watch_lock);
        while (!atomic_load(&member->ended))
            pthread_cond_wait(&router->watch_changed, &router->watch_lock);
        pthread_mutex_unlock(&router->watch_lock);
        finish_call(member);
    }
}
