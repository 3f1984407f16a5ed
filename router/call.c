/* Calls to shards: one in another process is an HTTP request over the transport, one in this
 * process a function call.
 *
 * The life of a router_remote: init, start, done (on the transport's thread, or inside start when
 * nothing could be sent), take any number of times, end. */
#include <stdio.h>
#include <stdlib.h>

#include "base/diag.h"
#include "router/internal.h"

#define ENCODER_KEEP_BYTES (1u << 20)
#define READ_TRIES_MAX     3u
/* Longer than the time between two health checks: a shard that is up has answered one. */
#define SILENCE_US UINT64_C(2000000)

struct cairn_encoder *router_encoder_take(struct cairn_router *router)
{
    struct cairn_encoder *encoder = NULL;
    pthread_mutex_lock(&router->encoders_lock);
    if (router->encoders_count > 0)
        encoder = router->encoders[--router->encoders_count];
    pthread_mutex_unlock(&router->encoders_lock);
    return encoder != NULL ? encoder : cairn_encoder_new();
}

/* Encoders keep the memory of the largest bytes they made, so those of large ones go. */
void router_encoder_give(struct cairn_router *router, struct cairn_encoder *encoder, size_t bytes)
{
    bool kept = false;
    pthread_mutex_lock(&router->encoders_lock);
    if (bytes <= ENCODER_KEEP_BYTES &&
        router->encoders_count < sizeof router->encoders / sizeof router->encoders[0]) {
        router->encoders[router->encoders_count++] = encoder;
        kept = true;
    }
    pthread_mutex_unlock(&router->encoders_lock);
    if (!kept)
        cairn_encoder_free(&encoder);
}

static void count_call(struct router_remote *remote, bool ok)
{
    struct router_member *member = remote->member;
    struct cairn_metrics *metrics = remote->router->metrics;
    if (member == NULL || metrics == NULL)
        return;
    struct cairn_counter *counter = atomic_load(&member->counters[remote->op][!ok]);
    if (counter == NULL) {
        char labels[96];
        (void)snprintf(labels, sizeof labels, "shard=\"s%u\",op=\"%s\",result=\"%s\"", member->id,
                       cairn_shard_op_name(remote->op), ok ? "ok" : "error");
        counter = cairn_metrics_counter(metrics, "cairn_router_calls_total", labels,
                                        "Calls to shards in other processes. ok: answered, with "
                                        "whatever outcome; error: not reached or not understood.");
        atomic_store(&member->counters[remote->op][!ok], counter);
    }
    cairn_counter_add(counter, 1);
    cairn_histogram_observe_us(member->call_duration,
                               cairn_time_monotonic_us() - remote->started_us);
}

/* Whether the key was refused, before a shard was asked. */
static bool is_refused(int status)
{
    return status == 401 || status == 403;
}

static bool is_data(enum cairn_shard_op op)
{
    return op <= CAIRN_SHARD_COUNT;
}

/* A call that took its whole time while nothing at all was heard of the shard: that is a shard that
 * is down (a cut link, a stopped machine), not a slow answer. */
static void judge_silence(struct router_remote *remote)
{
    struct cairn_call *call = &remote->call;
    uint64_t now_us = cairn_time_monotonic_us();
    if (call->error.code != CAIRN_ETIMEOUT || remote->member == NULL || !is_data(remote->op) ||
        now_us - remote->started_us < SILENCE_US ||
        atomic_load(&remote->member->answered_us) >= remote->started_us)
        return;
    (void)cairn_fail(&call->error, CAIRN_EUNAVAILABLE, "nothing was heard of it for %llu ms",
                     (unsigned long long)(now_us - remote->started_us) / 1000);
}

static void on_done(struct cairn_call *call)
{
    struct router_remote *remote = call->context;
    judge_silence(remote);
    bool ok = call->error.code == 0 && !is_refused(call->status);
    if (remote->member != NULL && call->error.code == 0)
        atomic_store(&remote->member->answered_us, cairn_time_monotonic_us());
    char why[256];
    if (remote->member != NULL && ok) {
        if (call->status != 404) /* a shard's, or another server's: the body tells */
            router_member_note(remote->member, NULL);
    } else if (remote->member != NULL && call->error.code == 0) {
        (void)snprintf(why, sizeof why,
                       "it refuses calls with HTTP status %d; --cluster-key-file must be the same "
                       "for all",
                       call->status);
        router_member_note(remote->member, why);
    } else if (remote->member != NULL &&
               (call->error.code == CAIRN_EUNAVAILABLE ||
                (call->error.code == CAIRN_ETIMEOUT && remote->op == CAIRN_SHARD_REPORT))) {
        (void)snprintf(why, sizeof why, "%.200s", call->error.message);
        router_member_note(remote->member, why);
    }
    count_call(remote, ok);
    remote->done(remote);
}

void router_remote_init(struct router_remote *remote, struct cairn_router *router,
                        struct router_member *member, enum cairn_shard_op op,
                        void (*done)(struct router_remote *remote), void *context)
{
    *remote = (struct router_remote){
        .router = router, .member = member, .op = op, .done = done, .context = context};
    if (member != NULL) {
        remote->shard = member->id;
        remote->peer = atomic_load(&member->peer);
    }
}

void router_remote_start(struct router_remote *remote, const struct cairn_shard_request *request,
                         uint64_t deadline_us)
{
    struct cairn_call *call = &remote->call;
    struct router_member *member = remote->member;
    remote->started_us = cairn_time_monotonic_us();
    if (remote->peer == NULL ||
        (member != NULL && is_data(remote->op) && router_member_down(member))) {
        /* Whoever needs it makes the next check come soon, whatever the back-off. */
        if (member != NULL && !atomic_exchange(&member->report_asked, true))
            router_watch_wake(remote->router);
        call->error.code = router_member_fail(member, &call->error);
        call->unsent = true;
        remote->done(remote);
        return;
    }
    (void)snprintf(remote->path, sizeof remote->path, "/internal/v1/shards/s%u/%s", remote->shard,
                   cairn_shard_op_name(remote->op));
    remote->encoder = router_encoder_take(remote->router);
    call->peer = remote->peer->peer;
    call->path = remote->path;
    call->body = cairn_shard_request_encode(remote->encoder, request);
    call->deadline_us = deadline_us;
    call->done = on_done;
    call->context = remote;
    if (call->body.len > CAIRN_SHARD_CALL_BYTES_MAX) {
        call->error.code = cairn_fail(&call->error, CAIRN_ETOOLARGE,
                                      "the part of shard s%u is over %u MiB; send fewer at once",
                                      remote->shard, CAIRN_SHARD_CALL_BYTES_MAX >> 20);
        call->unsent = true;
        remote->done(remote);
        return;
    }
    cairn_transport_call(call);
}

/* What the other side said when it was no answer of a shard: its server refused the request. */
static int fail_undecoded(const struct router_remote *remote, const struct cairn_error *why,
                          struct cairn_error *err)
{
    const char *url = remote->peer->url;
    int status = remote->call.status;
    if (status == 401 || status == 403)
        return cairn_fail(err, CAIRN_EUNAVAILABLE,
                          "shard s%u at %s refuses the cluster key (HTTP status %d); "
                          "--cluster-key-file must be the same for all processes, and the key an "
                          "admin key",
                          remote->shard, url, status);
    int code = status == 429   ? CAIRN_EOVERLOADED
               : status == 504 ? CAIRN_ETIMEOUT
                               : CAIRN_EUNAVAILABLE;
    return cairn_fail(err, code,
                      "shard s%u at %s answered with HTTP status %d and no answer of a "
                      "shard: %s",
                      remote->shard, url, status, why->message);
}

static void learn_from(struct router_remote *remote, const struct cairn_shard_answer *answer)
{
    struct router_member *member = remote->member;
    struct cairn_router *router = remote->router;
    if (member != NULL && answer->shard == member->id) {
        router_raise(&member->applied, answer->applied);
        router_raise(&member->epoch, answer->epoch);
        router_raise(&member->catalog_version, answer->catalog_version);
    }
    if (answer->error.code == CAIRN_ENOTOWNER ||
        (remote->op == CAIRN_SHARD_ADOPT && answer->error.code == 0))
        router_learn_text(router, answer->text);
    uint64_t epoch = atomic_load(&router->epoch);
    if (member != NULL && epoch != 0 &&
        (answer->epoch != epoch || answer->catalog_version > atomic_load(&router->catalog_version)))
        router_watch_wake(router);
}

int router_remote_take(struct router_remote *remote, struct cairn_arena *arena,
                       struct cairn_shard_answer *answer)
{
    const struct cairn_call *call = &remote->call;
    *answer = (struct cairn_shard_answer){.shard = remote->shard};
    if (call->error.code != 0) {
        answer->error = call->error;
        /* Errors of router_remote_start name the shard already. */
        if (call->peer != NULL && call->error.code != CAIRN_ETOOLARGE)
            cairn_error_prefix(&answer->error, "shard s%u at %s", remote->shard, remote->peer->url);
        return answer->error.code;
    }
    struct cairn_str body = {call->answer.data, (uint32_t)call->answer.len};
    struct cairn_error err = {0};
    if (is_refused(call->status) || cairn_shard_answer_decode(body, arena, answer, &err) != 0) {
        *answer = (struct cairn_shard_answer){.shard = remote->shard};
        answer->error.code = fail_undecoded(remote, &err, &answer->error);
        if (remote->member != NULL && call->status == 404)
            router_member_note(remote->member, "it is no Cairn shard (HTTP status 404)");
        return answer->error.code;
    }
    if (remote->member != NULL && call->status == 404)
        router_member_note(remote->member, NULL);
    remote->understood = true;
    learn_from(remote, answer);
    return answer->error.code;
}

void router_remote_end(struct router_remote *remote)
{
    if (remote->encoder != NULL)
        router_encoder_give(remote->router, remote->encoder, remote->call.body.len);
    remote->encoder = NULL;
    cairn_buf_release(&remote->call.answer);
}

void router_latch_init(struct router_latch *latch, uint32_t pending)
{
    pthread_mutex_init(&latch->lock, NULL);
    pthread_cond_init(&latch->changed, NULL);
    latch->pending = pending;
}

void router_latch_release(struct router_latch *latch)
{
    pthread_mutex_lock(&latch->lock);
    if (--latch->pending == 0)
        pthread_cond_signal(&latch->changed);
    pthread_mutex_unlock(&latch->lock);
}

void router_latch_wait(struct router_latch *latch)
{
    pthread_mutex_lock(&latch->lock);
    while (latch->pending > 0)
        pthread_cond_wait(&latch->changed, &latch->lock);
    pthread_mutex_unlock(&latch->lock);
    pthread_cond_destroy(&latch->changed);
    pthread_mutex_destroy(&latch->lock);
}

void router_latch_remote_done(struct router_remote *remote)
{
    router_latch_release(remote->context);
}

void router_latch_write_done(struct cairn_shard_write *write)
{
    router_latch_release(write->context);
}

bool router_pause(unsigned tries, uint64_t deadline_us)
{
    uint64_t now_us = cairn_time_monotonic_us();
    uint64_t least_us = UINT64_C(2000) << (tries < 5 ? tries : 5);
    uint64_t wait_us = least_us + now_us % least_us; /* jitter: threads meet the clock anywhere */
    if (now_us + wait_us >= deadline_us)
        return false;
    struct timespec wait = {.tv_nsec = (long)wait_us * 1000};
    nanosleep(&wait, NULL);
    return true;
}

/* One call and its answer, moved to the arena. */
static int call_once(struct cairn_router *router, struct router_member *member,
                     const struct router_peer *peer, uint32_t shard, enum cairn_shard_op op,
                     const struct cairn_shard_request *request, struct cairn_arena *arena,
                     struct cairn_shard_answer *answer, uint64_t deadline_us)
{
    struct router_latch latch;
    struct router_remote remote;
    router_remote_init(&remote, router, member, op, router_latch_remote_done, &latch);
    remote.shard = shard;
    if (peer != NULL)
        remote.peer = peer;
    router_latch_init(&latch, 1);
    router_remote_start(&remote, request, deadline_us);
    router_latch_wait(&latch);
    if (remote.call.answer.len > 0) {
        char *bytes = cairn_arena_alloc(arena, remote.call.answer.len);
        memcpy(bytes, remote.call.answer.data, remote.call.answer.len);
        struct cairn_buf given = remote.call.answer;
        remote.call.answer.data = bytes;
        router_remote_take(&remote, arena, answer);
        remote.call.answer = given;
    } else {
        router_remote_take(&remote, arena, answer);
    }
    router_remote_end(&remote);
    return answer->error.code;
}

static bool is_read(enum cairn_shard_op op)
{
    return op == CAIRN_SHARD_REPORT || op == CAIRN_SHARD_SCHEMAS ||
           (is_data(op) && op != CAIRN_SHARD_WRITE);
}

static int call_remote(struct cairn_router *router, struct router_member *member,
                       const struct router_peer *peer, uint32_t shard, enum cairn_shard_op op,
                       struct cairn_shard_request *request, struct cairn_arena *arena,
                       struct cairn_shard_answer *answer, uint64_t deadline_us)
{
    int code;
    for (unsigned tries = 0;; tries++) {
        code = call_once(router, member, peer, shard, op, request, arena, answer, deadline_us);
        bool again = code == CAIRN_EUNAVAILABLE && is_read(op) && tries + 1 < READ_TRIES_MAX &&
                     !(member != NULL && router_member_down(member));
        if (!again || !router_pause(tries, deadline_us))
            return code;
    }
}

static void fill_in(struct cairn_router *router, struct cairn_shard_request *request)
{
    const struct cairn_map *map = router_map(router);
    if (map == NULL)
        return;
    if (request->cluster == 0)
        request->cluster = map->cluster;
    if (request->epoch == 0)
        request->epoch = map->epoch;
    cairn_map_unref(map);
}

struct cairn_shard_request router_adopt_request(const struct cairn_map *map, uint64_t fence,
                                                struct cairn_buf *text)
{
    cairn_map_encode(map, text);
    return (struct cairn_shard_request){.cluster = map->cluster,
                                        .epoch = map->epoch,
                                        .fence = fence,
                                        .text = {text->data, (uint32_t)text->len}};
}

static int give_map(struct cairn_router *router, const struct cairn_map *map,
                    struct router_member *member, uint64_t deadline_us)
{
    if (member->local != NULL)
        return cairn_shard_adopt(member->local, map, CAIRN_OFFSET_NONE, NULL);
    struct cairn_arena arena = {0};
    struct cairn_buf text = {0};
    struct cairn_shard_answer answer;
    struct cairn_shard_request request = router_adopt_request(map, CAIRN_OFFSET_NONE, &text);
    uint64_t limit_us = cairn_time_monotonic_us() + ROUTER_CALL_US;
    int code = call_once(router, member, NULL, member->id, CAIRN_SHARD_ADOPT, &request, &arena,
                         &answer, limit_us < deadline_us ? limit_us : deadline_us);
    cairn_buf_release(&text);
    cairn_arena_release(&arena);
    return code;
}

/* After CAIRN_ENOTOWNER a shard that is behind gets our map at once. */
static void catch_up(struct cairn_router *router, uint32_t shard,
                     const struct cairn_shard_answer *answer, uint64_t deadline_us)
{
    const struct cairn_map *map = router_map(router);
    struct router_member *member = router_member(router, shard);
    if (map != NULL && member != NULL && answer->epoch < map->epoch)
        (void)give_map(router, map, member, deadline_us);
    cairn_map_unref(map);
}

int router_call(struct cairn_router *router, uint32_t shard, enum cairn_shard_op op,
                struct cairn_shard_request *request, struct cairn_arena *arena,
                struct cairn_shard_answer *answer, uint64_t deadline_us)
{
    struct router_member *member = router_member(router, shard);
    *answer = (struct cairn_shard_answer){.shard = shard};
    fill_in(router, request);
    if (member == NULL)
        return answer->error.code = cairn_fail(&answer->error, CAIRN_EUNAVAILABLE,
                                               "shard s%u is not in the shard map", shard);
    int code = member->local != NULL ? router_execute(router, shard, op, request, arena, answer)
                                     : call_remote(router, member, NULL, shard, op, request, arena,
                                                   answer, deadline_us);
    if (code == CAIRN_ENOTOWNER && is_data(op))
        catch_up(router, shard, answer, deadline_us);
    return code;
}

int router_call_url(struct cairn_router *router, struct cairn_str url, uint32_t shard,
                    enum cairn_shard_op op, struct cairn_shard_request *request,
                    struct cairn_arena *arena, struct cairn_shard_answer *answer,
                    uint64_t deadline_us)
{
    struct router_peer *peer;
    *answer = (struct cairn_shard_answer){.shard = shard};
    fill_in(router, request);
    int code = router_peer_get(router, url, &peer, &answer->error);
    if (code != 0)
        return answer->error.code = code;
    struct router_member *member = router_member(router, shard);
    if (member != NULL && (member->local != NULL || atomic_load(&member->peer) != peer))
        member = NULL;
    return call_remote(router, member, peer, shard, op, request, arena, answer, deadline_us);
}

bool router_settle_epoch(struct cairn_router *router, const struct cairn_map *map, unsigned tries,
                         uint64_t deadline_us)
{
    for (uint32_t i = 0; i < router->locals_count; i++) {
        const struct cairn_map *own = cairn_shard_map(router_local(router, router->locals[i]));
        if (own != NULL)
            router_learn(router, own);
        cairn_map_unref(own);
    }
    const struct cairn_map *newest = router_map(router);
    bool moved = newest != NULL && newest->epoch != map->epoch;
    for (uint32_t i = 0; newest != NULL && i < newest->shards_count; i++) {
        struct router_member *member = router_member(router, newest->shards[i].id);
        uint64_t epoch =
            member->local != NULL ? cairn_shard_epoch(member->local) : atomic_load(&member->epoch);
        if (epoch < newest->epoch && !router_member_down(member))
            moved = give_map(router, newest, member, deadline_us) == 0 || moved;
    }
    cairn_map_unref(newest);
    if (moved && tries < 2)
        return cairn_time_monotonic_us() < deadline_us;
    return router_pause(tries, deadline_us);
}
