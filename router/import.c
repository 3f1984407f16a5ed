/* Copying a move into a local shard.
 *
 * A shard that has been asked to import has an importer: two threads that live until the router
 * closes. The fetcher reads steps of the move from the source, the appender writes them to the
 * shard's log, and while one works on a step the other works on the next:
 *
 *   step of    fetcher               appender
 *   empty      fills it              waits
 *   full       fills the other one   appends it, then it is empty
 *
 * What has been reached is in the shard's log, so everything here can be lost at any time: home
 * asks again, and the copy goes on from there. A failure of either side is kept for
 * router_import_state, waited out and tried again, until the shard's map says that the move is done
 * or is none any more.
 *
 * `import->lock` guards all that is marked so. A full step is the appender's and an empty one the
 * fetcher's, without the lock. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/diag.h"
#include "base/failpoint.h"
#include "base/thread.h"
#include "base/time.h"
#include "router/rebalance.h"

#define STEPS 2u
/* Of a step when copying shares the shard with others: writes wait for one while it is applied. */
#define SHARED_STEP_BYTES (256u << 10)
#define FETCH_WAIT_MS     20u /* at the end of the source's log */
#define FETCH_DEADLINE_US UINT64_C(10000000)
#define BACK_OFF_MIN_US   UINT64_C(50000)
#define BACK_OFF_MAX_US   UINT64_C(2000000)
#define PAUSE_MAX_US      UINT64_C(1000000)

struct step {
    struct cairn_arena arena;
    struct cairn_shard_record *records;
    uint32_t count;
    uint64_t bytes;
    struct cairn_shard_progress progress;
    uint64_t fetch_us; /* what fetching took */
    bool more;         /* it was cut off by its size */
};

struct import {
    /* Immutable. */
    struct cairn_router *router;
    struct cairn_shard *shard;
    uint32_t id;
    pthread_t appender, fetcher;

    /* Guarded by lock. */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* on the monotonic clock */
    bool stopping;
    bool wanted;  /* there is a move to copy */
    uint64_t run; /* counts moves asked for; work of an older one is dropped */
    struct cairn_shard_move move;
    char url[CAIRN_URL_BYTES_MAX + 1];
    bool caught_up; /* once */
    bool begun;     /* progress.reached is the log's */
    struct cairn_shard_progress progress;
    char failure[512];
    unsigned holds; /* callers of import_state for whom writes are held */
    bool full[STEPS];
    unsigned next_append;

    struct step steps[STEPS];
};

struct router_imports {
    pthread_mutex_t lock; /* guards what follows; before an import's lock */
    bool closing;
    struct import *of[CAIRN_SHARDS_MAX]; /* by shard; made at the first use */
};

static bool same_move(const struct cairn_shard_move *a, const struct cairn_shard_move *b)
{
    return a->plan == b->plan && a->source == b->source && a->target == b->target;
}

static struct timespec monotonic_at(uint64_t time_us)
{
    return (struct timespec){.tv_sec = (time_t)(time_us / 1000000),
                             .tv_nsec = (long)(time_us % 1000000) * 1000};
}

/* Whether the shard's map still has the move as one to be made. */
static bool is_under_way(struct import *import, const struct cairn_shard_move *move)
{
    const struct cairn_map *map = cairn_shard_map(import->shard);
    const struct cairn_map_move *found = map != NULL && map->plan == move->plan
                                             ? cairn_map_move(map, move->source, move->target)
                                             : NULL;
    bool result = found != NULL && !found->done;
    cairn_map_unref(map);
    return result;
}

/* Whether the thread should go on with this run; lock is held. */
static bool is_current(const struct import *import, uint64_t run)
{
    return !import->stopping && import->wanted && import->run == run;
}

/* Sleep, unless the run ends, or writes are held when that matters. */
static void pause_run(struct import *import, uint64_t run, uint64_t pause_us, bool despite_holds)
{
    struct timespec until = monotonic_at(cairn_time_monotonic_us() + pause_us);
    pthread_mutex_lock(&import->lock);
    while (is_current(import, run) && (despite_holds || import->holds == 0) &&
           pthread_cond_timedwait(&import->changed, &import->lock, &until) == 0)
        continue;
    pthread_mutex_unlock(&import->lock);
}

/* Keep why it does not go on, and wait: 50 ms, doubled up to 2 s, half of it by chance so that
 * many do not come back at once. */
static void back_off(struct import *import, uint64_t run, const struct cairn_error *why,
                     unsigned *failures)
{
    uint64_t pause_us = BACK_OFF_MIN_US << (*failures < 6 ? *failures : 6);
    if (pause_us > BACK_OFF_MAX_US)
        pause_us = BACK_OFF_MAX_US;
    uint64_t chance = import->router->io->random(import->router->io->context);
    pause_us = pause_us / 2 + chance % (pause_us / 2 + 1);
    pthread_mutex_lock(&import->lock);
    if (import->run == run)
        (void)snprintf(import->failure, sizeof import->failure, "%s", why->message);
    pthread_mutex_unlock(&import->lock);
    /* The source may know before us that the move is done. */
    if (*failures == 0 && why->code != CAIRN_ENOTOWNER)
        cairn_warn("import", "shard s%u: %s; trying again", import->id, why->message);
    (*failures)++;
    pause_run(import, run, pause_us, true);
}

static void end_run(struct import *import, uint64_t run)
{
    pthread_mutex_lock(&import->lock);
    if (import->run == run) {
        import->wanted = false;
        import->progress.running = false;
    }
    pthread_cond_broadcast(&import->changed);
    pthread_mutex_unlock(&import->lock);
}

/* Fill a step from the source's log after `from`. */
static int fetch(struct import *import, const struct cairn_shard_move *move, struct cairn_str url,
                 uint64_t from, struct step *step, struct cairn_error *err)
{
    struct cairn_router *router = import->router;
    struct cairn_shard *local = router_local(router, move->source);
    uint64_t bytes_max =
        router->copy_share_percent < 100 ? SHARED_STEP_BYTES : CAIRN_EXPORT_BYTES_MAX;
    uint64_t started_us = cairn_time_monotonic_us();
    int code;
    cairn_arena_reset(&step->arena);
    if (local != NULL) {
        code = cairn_shard_export(local, move, from, bytes_max, FETCH_WAIT_MS, &step->arena,
                                  &step->records, &step->count, &step->progress, err);
    } else {
        struct cairn_shard_request request = {
            .move = *move, .from_offset = from, .bytes_max = bytes_max, .wait_ms = FETCH_WAIT_MS};
        struct cairn_shard_answer answer = {0};
        const struct cairn_map *map = cairn_shard_map(import->shard);
        request.cluster = map != NULL ? map->cluster : 0;
        request.epoch = map != NULL ? map->epoch : 0;
        cairn_map_unref(map);
        code = router_call_url(router, url, move->source, CAIRN_SHARD_EXPORT, &request,
                               &step->arena, &answer, started_us + FETCH_DEADLINE_US);
        if (code != 0)
            *err = answer.error;
        step->records = (struct cairn_shard_record *)answer.records;
        step->count = answer.records_count;
        step->progress = answer.progress;
    }
    if (code != 0)
        return cairn_error_prefix(err, "export from shard s%u", move->source);
    step->bytes = 0;
    for (uint32_t i = 0; i < step->count; i++)
        step->bytes += step->records[i].payload.len;
    step->fetch_us = cairn_time_monotonic_us() - started_us;
    step->more = step->progress.reached < step->progress.end_offset;
    return 0;
}

/* The fetcher's part of a run, once the appender has begun it. */
static void fetch_run(struct import *import, uint64_t run)
{
    struct cairn_shard_move move;
    char url[CAIRN_URL_BYTES_MAX + 1];
    unsigned failures = 0;
    pthread_mutex_lock(&import->lock);
    move = import->move;
    uint64_t from = import->progress.reached;
    for (unsigned at = 0;;) {
        while (is_current(import, run) && import->full[at])
            pthread_cond_wait(&import->changed, &import->lock);
        if (!is_current(import, run))
            break;
        memcpy(url, import->url, sizeof url);
        pthread_mutex_unlock(&import->lock);
        struct cairn_error err = {0};
        int code = fetch(import, &move, cairn_str_from(url), from, &import->steps[at], &err);
        if (code != 0 && !is_under_way(import, &move))
            end_run(import, run);
        else if (code != 0)
            back_off(import, run, &err, &failures);
        pthread_mutex_lock(&import->lock);
        if (code == 0 && is_current(import, run)) {
            failures = 0;
            from = import->steps[at].progress.reached;
            import->full[at] = true;
            at = (at + 1) % STEPS;
            pthread_cond_broadcast(&import->changed);
        }
    }
    pthread_mutex_unlock(&import->lock);
}

static void *run_fetcher(void *argument)
{
    struct import *import = argument;
    if (import->router->copy_share_percent < 100)
        cairn_thread_give_way();
    uint64_t last_run = 0;
    pthread_setname_np(pthread_self(), "cairn-fetch");
    pthread_mutex_lock(&import->lock);
    while (!import->stopping) {
        if (!import->wanted || !import->begun || import->run == last_run) {
            pthread_cond_wait(&import->changed, &import->lock);
            continue;
        }
        last_run = import->run;
        pthread_mutex_unlock(&import->lock);
        fetch_run(import, last_run);
        pthread_mutex_lock(&import->lock);
    }
    pthread_mutex_unlock(&import->lock);
    return NULL;
}

/* Append a full step, however often it takes. False when the run has ended. */
static bool append(struct import *import, uint64_t run, const struct cairn_shard_move *move,
                   const struct step *step)
{
    unsigned failures = 0;
    for (;;) {
        struct cairn_error err = {0};
        int code = step->count == 0 ? 0
                                    : cairn_shard_import_append(import->shard, move, step->records,
                                                                step->count, &err);
        if (code == 0)
            return true;
        if (code == CAIRN_ESHUTDOWN || !is_under_way(import, move)) {
            end_run(import, run);
            return false;
        }
        back_off(import, run, &err, &failures);
        pthread_mutex_lock(&import->lock);
        bool current = is_current(import, run);
        pthread_mutex_unlock(&import->lock);
        if (!current)
            return false;
    }
}

/* The pause that keeps copying to its share of the time; none at the end of the source's log. */
static uint64_t pause_after(const struct import *import, const struct step *step,
                            uint64_t append_us)
{
    uint64_t share = import->router->copy_share_percent;
    if (share >= 100 || share == 0 || !step->more)
        return 0;
    uint64_t busy_us = step->fetch_us > append_us ? step->fetch_us : append_us;
    uint64_t pause_us = busy_us * (100 - share) / share;
    return pause_us < PAUSE_MAX_US ? pause_us : PAUSE_MAX_US;
}

/* Publish what a step brought; lock is held. */
static void reach(struct import *import, const struct step *step)
{
    import->progress.reached = step->progress.reached;
    import->progress.end_offset = step->progress.end_offset;
    import->progress.records += step->count;
    import->progress.bytes += step->bytes;
    import->failure[0] = '\0';
    pthread_cond_broadcast(&import->changed);
    if (!step->more && !import->caught_up) {
        import->caught_up = true;
        cairn_failpoint("import.caught_up");
    }
}

static void append_run(struct import *import, uint64_t run, const struct cairn_shard_move *move)
{
    pthread_mutex_lock(&import->lock);
    while (is_current(import, run)) {
        unsigned at = import->next_append;
        if (!import->full[at]) {
            pthread_cond_wait(&import->changed, &import->lock);
            continue;
        }
        pthread_mutex_unlock(&import->lock);
        const struct step *step = &import->steps[at];
        uint64_t started_us = cairn_time_monotonic_us();
        bool appended = append(import, run, move, step);
        uint64_t pause_us = pause_after(import, step, cairn_time_monotonic_us() - started_us);
        if (step->count > 0)
            cairn_failpoint("import.step");
        bool over = step->count == 0 && !is_under_way(import, move);
        pthread_mutex_lock(&import->lock);
        if (appended && is_current(import, run)) {
            reach(import, step);
            import->full[at] = false;
            import->next_append = (at + 1) % STEPS;
        }
        pthread_mutex_unlock(&import->lock);
        if (over)
            end_run(import, run);
        else if (pause_us > 0)
            pause_run(import, run, pause_us, false);
        pthread_mutex_lock(&import->lock);
    }
    pthread_mutex_unlock(&import->lock);
}

/* Begin the import in the shard's log, or find how far it is. False when the run has ended. */
static bool begin(struct import *import, uint64_t run, const struct cairn_shard_move *move)
{
    unsigned failures = 0;
    for (;;) {
        struct cairn_shard_progress progress = {0};
        struct cairn_error err = {0};
        int code = cairn_shard_import_begin(import->shard, move, &progress, &err);
        pthread_mutex_lock(&import->lock);
        bool current = is_current(import, run);
        if (code == 0 && current) {
            import->progress = progress;
            import->progress.running = true;
            import->begun = true;
            import->next_append = 0;
            memset(import->full, 0, sizeof import->full);
            pthread_cond_broadcast(&import->changed);
        }
        pthread_mutex_unlock(&import->lock);
        if (!current)
            return false;
        if (code == 0)
            break;
        if (code == CAIRN_ESHUTDOWN || !is_under_way(import, move)) {
            end_run(import, run);
            return false;
        }
        back_off(import, run, &err, &failures);
    }
    cairn_failpoint("import.begun");
    return true;
}

static void *run_appender(void *argument)
{
    struct import *import = argument;
    if (import->router->copy_share_percent < 100)
        cairn_thread_give_way();
    uint64_t last_run = 0;
    pthread_setname_np(pthread_self(), "cairn-import");
    pthread_mutex_lock(&import->lock);
    while (!import->stopping) {
        if (!import->wanted || import->run == last_run) {
            pthread_cond_wait(&import->changed, &import->lock);
            continue;
        }
        last_run = import->run;
        struct cairn_shard_move move = import->move;
        pthread_mutex_unlock(&import->lock);
        if (begin(import, last_run, &move))
            append_run(import, last_run, &move);
        pthread_mutex_lock(&import->lock);
    }
    pthread_mutex_unlock(&import->lock);
    return NULL;
}

static void free_import(struct import *import)
{
    for (unsigned i = 0; i < STEPS; i++)
        cairn_arena_release(&import->steps[i].arena);
    pthread_cond_destroy(&import->changed);
    pthread_mutex_destroy(&import->lock);
    free(import);
}

static int new_import(struct cairn_router *router, uint32_t shard, struct import **out,
                      struct cairn_error *err)
{
    struct import *import = cairn_calloc(1, sizeof *import);
    pthread_condattr_t monotonic;
    import->router = router;
    import->shard = router_local(router, shard);
    import->id = shard;
    pthread_mutex_init(&import->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&import->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (pthread_create(&import->appender, NULL, run_appender, import) != 0) {
        free_import(import);
        return cairn_fail(err, CAIRN_ENOMEM, "cannot start a thread that copies");
    }
    if (pthread_create(&import->fetcher, NULL, run_fetcher, import) != 0) {
        pthread_mutex_lock(&import->lock);
        import->stopping = true;
        pthread_cond_broadcast(&import->changed);
        pthread_mutex_unlock(&import->lock);
        pthread_join(import->appender, NULL);
        free_import(import);
        return cairn_fail(err, CAIRN_ENOMEM, "cannot start a thread that copies");
    }
    *out = import;
    return 0;
}

/* The importer of a shard, made if there is none. */
static int find_import(struct cairn_router *router, uint32_t shard, struct import **out,
                       struct cairn_error *err)
{
    struct router_imports *imports = router->imports;
    int code = 0;
    if (imports == NULL || shard >= CAIRN_SHARDS_MAX || router_local(router, shard) == NULL)
        return cairn_fail(err, CAIRN_EUNAVAILABLE, "shard s%u is not in this process", shard);
    pthread_mutex_lock(&imports->lock);
    if (imports->closing)
        code = cairn_fail(err, CAIRN_ESHUTDOWN, "the server is shutting down");
    else if (imports->of[shard] == NULL)
        code = new_import(router, shard, &imports->of[shard], err);
    *out = imports->of[shard];
    pthread_mutex_unlock(&imports->lock);
    return code;
}

int router_import_start(struct cairn_router *router, uint32_t shard,
                        const struct cairn_shard_request *request,
                        struct cairn_shard_answer *answer)
{
    struct import *import;
    if (request->url.len > CAIRN_URL_BYTES_MAX)
        return cairn_fail(&answer->error, CAIRN_EPARAM, "url: at most %u bytes",
                          CAIRN_URL_BYTES_MAX);
    if (find_import(router, shard, &import, &answer->error) != 0)
        return answer->error.code;
    if (request->move.target != shard || !is_under_way(import, &request->move))
        return cairn_fail(&answer->error, CAIRN_ENOTOWNER,
                          "the shard map of s%u has no move s%u -> s%u of plan %llu to be made",
                          shard, request->move.source, request->move.target,
                          (unsigned long long)request->move.plan);
    pthread_mutex_lock(&import->lock);
    if (!import->wanted || !same_move(&import->move, &request->move)) {
        import->move = request->move;
        import->wanted = true;
        import->begun = import->caught_up = false;
        import->run++;
        import->progress = (struct cairn_shard_progress){.running = true};
        import->failure[0] = '\0';
    }
    if (request->url.len > 0)
        memcpy(import->url, request->url.ptr, request->url.len);
    import->url[request->url.len] = '\0';
    answer->progress = import->progress;
    pthread_cond_broadcast(&import->changed);
    pthread_mutex_unlock(&import->lock);
    return 0;
}

/* Wait until the offset is reached, the run ends, or the time is over; lock is held. */
static void wait_reached(struct import *import, const struct cairn_shard_request *request)
{
    struct timespec until =
        monotonic_at(cairn_time_monotonic_us() + (uint64_t)request->wait_ms * 1000);
    bool holds = request->fence != 0;
    import->holds += holds;
    if (holds)
        pthread_cond_broadcast(&import->changed);
    while (!import->stopping && import->wanted && same_move(&import->move, &request->move) &&
           import->progress.reached < request->until_offset &&
           pthread_cond_timedwait(&import->changed, &import->lock, &until) == 0)
        continue;
    import->holds -= holds;
}

int router_import_state(struct cairn_router *router, uint32_t shard,
                        const struct cairn_shard_request *request, struct cairn_arena *arena,
                        struct cairn_shard_answer *answer)
{
    struct import *import;
    if (find_import(router, shard, &import, &answer->error) != 0)
        return answer->error.code;
    pthread_mutex_lock(&import->lock);
    wait_reached(import, request);
    bool running = import->wanted && same_move(&import->move, &request->move);
    answer->progress = running ? import->progress : (struct cairn_shard_progress){0};
    answer->text = cairn_arena_dup(arena, cairn_str_from(running ? import->failure : ""));
    pthread_mutex_unlock(&import->lock);
    if (request->fence == 0 || !running || answer->progress.reached < request->until_offset)
        return 0;
    uint64_t records;
    struct cairn_error err = {0};
    if (cairn_shard_digest(import->shard, &request->move, request->until_offset, answer->digest,
                           &records, &err) != 0)
        answer->error = err;
    return answer->error.code;
}

void router_imports_open(struct cairn_router *router)
{
    router->imports = cairn_calloc(1, sizeof *router->imports);
    pthread_mutex_init(&router->imports->lock, NULL);
}

void router_imports_close(struct cairn_router *router)
{
    struct router_imports *imports = router->imports;
    pthread_mutex_lock(&imports->lock);
    imports->closing = true;
    pthread_mutex_unlock(&imports->lock);
    for (uint32_t i = 0; i < CAIRN_SHARDS_MAX; i++) {
        struct import *import = imports->of[i];
        if (import == NULL)
            continue;
        pthread_mutex_lock(&import->lock);
        import->stopping = true;
        pthread_cond_broadcast(&import->changed);
        pthread_mutex_unlock(&import->lock);
    }
    for (uint32_t i = 0; i < CAIRN_SHARDS_MAX; i++) {
        if (imports->of[i] == NULL)
            continue;
        pthread_join(imports->of[i]->appender, NULL);
        pthread_join(imports->of[i]->fetcher, NULL);
    }
}

void router_imports_free(struct cairn_router *router)
{
    struct router_imports *imports = router->imports;
    for (uint32_t i = 0; i < CAIRN_SHARDS_MAX; i++)
        if (imports->of[i] != NULL)
            free_import(imports->of[i]);
    pthread_mutex_destroy(&imports->lock);
    free(imports);
    router->imports = NULL;
}
