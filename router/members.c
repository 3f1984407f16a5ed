/* The map that this process goes by, and the shards in it: which of them are here, and where the
 * others answer.
 *
 * Maps only follow one another: router_learn takes a newer one of the same cluster and nothing
 * else. Members and peers live until the router closes, so that calls need no references. */
#include <stdio.h>
#include <stdlib.h>

#include "base/diag.h"
#include "router/internal.h"

#define FAILURES_DOWN 2u /* in a row */

const struct cairn_map *router_map(struct cairn_router *router)
{
    pthread_mutex_lock(&router->map_lock);
    const struct cairn_map *map = router->map != NULL ? cairn_map_ref(router->map) : NULL;
    pthread_mutex_unlock(&router->map_lock);
    return map;
}

int router_map_need(struct cairn_router *router, const struct cairn_map **out,
                    struct cairn_error *err)
{
    char problem[sizeof router->seeds_problem];
    *out = router_map(router);
    if (*out != NULL)
        return 0;
    pthread_mutex_lock(&router->watch_lock);
    memcpy(problem, router->seeds_problem, sizeof problem);
    pthread_mutex_unlock(&router->watch_lock);
    return cairn_fail(err, CAIRN_EUNAVAILABLE, "no shard map is known yet%s%s",
                      problem[0] != '\0' ? ": " : "", problem);
}

struct router_member *router_member(struct cairn_router *router, uint32_t id)
{
    return id < CAIRN_SHARDS_MAX ? atomic_load_explicit(&router->members[id], memory_order_acquire)
                                 : NULL;
}

struct cairn_shard *router_local(struct cairn_router *router, uint32_t id)
{
    struct router_member *member = router_member(router, id);
    return member != NULL ? member->local : NULL;
}

static struct router_member *member_new(struct cairn_router *router, uint32_t id,
                                        struct cairn_shard *local)
{
    char labels[32];
    struct router_member *member = cairn_calloc(1, sizeof *member);
    member->router = router;
    member->id = id;
    member->local = local;
    pthread_mutex_init(&member->lock, NULL);
    if (router->metrics != NULL && local == NULL) {
        (void)snprintf(labels, sizeof labels, "shard=\"s%u\"", id);
        member->up_gauge =
            cairn_metrics_gauge(router->metrics, "cairn_router_member_up", labels,
                                "Whether the shard in another process answers its health checks.");
        member->call_duration =
            cairn_metrics_histogram(router->metrics, "cairn_router_call_duration_seconds", labels,
                                    "Time that calls to a shard in another process took.");
    }
    atomic_store_explicit(&router->members[id], member, memory_order_release);
    return member;
}

void router_member_local(struct cairn_router *router, uint32_t id, struct cairn_shard *shard)
{
    member_new(router, id, shard);
}

/* map_lock is held. */
static int peer_get(struct cairn_router *router, struct cairn_str url, struct router_peer **out,
                    struct cairn_error *err)
{
    struct cairn_peer *opened = NULL;
    *out = NULL;
    for (struct router_peer *peer = router->peers; peer != NULL; peer = peer->next)
        if (cairn_str_eq(cairn_str_from(peer->url), url)) {
            *out = peer;
            return 0;
        }
    if (router->peers_count == CAIRN_PEERS_MAX)
        return cairn_fail(err, CAIRN_EOVERLOADED,
                          "%.*s: this process has called %u URLs already, which is the limit until "
                          "it is restarted",
                          CAIRN_STR_ARG(url), CAIRN_PEERS_MAX);
    int code = cairn_peer_open(router->transport, url, &opened, err);
    if (code != 0)
        return code;
    struct router_peer *peer = cairn_calloc(1, sizeof *peer);
    peer->url = cairn_strdup(url);
    peer->peer = opened;
    peer->next = router->peers;
    router->peers = peer;
    router->peers_count++;
    *out = peer;
    return 0;
}

int router_peer_get(struct cairn_router *router, struct cairn_str url, struct router_peer **out,
                    struct cairn_error *err)
{
    pthread_mutex_lock(&router->map_lock);
    int code = peer_get(router, url, out, err);
    pthread_mutex_unlock(&router->map_lock);
    return code;
}

/* Bring members in line with a map; map_lock is held. */
static void members_follow(struct cairn_router *router, const struct cairn_map *map)
{
    uint32_t remotes = 0;
    for (uint32_t i = 0; i < map->shards_count; i++) {
        const struct cairn_map_shard *shard = &map->shards[i];
        struct router_member *member = router_member(router, shard->id);
        struct router_peer *peer = NULL;
        struct cairn_error err = {0};
        if (member == NULL)
            member = member_new(router, shard->id, NULL);
        if (member->local != NULL)
            continue;
        remotes++;
        if (shard->url.len > 0 && peer_get(router, shard->url, &peer, &err) != 0)
            cairn_warn("router", "shard s%u: %s", shard->id, err.message);
        /* It may be up at its new place, and one that comes back has not been asked meanwhile. */
        bool joins = router->map == NULL || cairn_map_shard(router->map, shard->id) == NULL;
        if (atomic_exchange(&member->peer, peer) != peer || joins)
            atomic_store(&member->failures, 0);
    }
    atomic_store(&router->remotes_count, remotes);
}

void router_learn(struct cairn_router *router, const struct cairn_map *map)
{
    const struct cairn_map *old = NULL;
    pthread_mutex_lock(&router->map_lock);
    bool foreign = router->map != NULL && router->map->cluster != map->cluster;
    bool newer = !foreign && (router->map == NULL || router->map->epoch < map->epoch);
    if (newer) {
        members_follow(router, map);
        old = router->map;
        router->map = cairn_map_ref(map);
        atomic_store(&router->epoch, map->epoch);
    }
    pthread_mutex_unlock(&router->map_lock);
    cairn_map_unref(old);
    if (foreign)
        cairn_warn("router", "a shard map of another cluster (%016llx) was offered; not taken",
                   (unsigned long long)map->cluster);
    if (!newer)
        return;
    if (router->epoch_gauge != NULL)
        cairn_gauge_set(router->epoch_gauge, (int64_t)map->epoch);
    cairn_info("router", "goes by the shard map of epoch %llu (%u shards)",
               (unsigned long long)map->epoch, map->shards_count);
    router_watch_wake(router);
    if (router->rebalance_open)
        router_rebalance_wake(router);
}

void router_learn_text(struct cairn_router *router, struct cairn_str text)
{
    const struct cairn_map *map;
    if (text.len == 0 || cairn_map_decode(text, &map, NULL) != 0)
        return;
    router_learn(router, map);
    cairn_map_unref(map);
}

void router_members_free(struct cairn_router *router)
{
    for (uint32_t i = 0; i < CAIRN_SHARDS_MAX; i++) {
        struct router_member *member = router_member(router, i);
        if (member == NULL)
            continue;
        router_report_release(member->report);
        cairn_buf_release(&member->sent);
        pthread_mutex_destroy(&member->lock);
        free(member);
    }
    for (struct router_peer *peer = router->peers, *next; peer != NULL; peer = next) {
        next = peer->next;
        cairn_peer_release(&peer->peer);
        free(peer->url);
        free(peer);
    }
    cairn_map_unref(router->map);
}

bool router_owns(const struct cairn_map *map, const struct cairn_map_shard *shard)
{
    bool gives = false;
    for (uint32_t i = 0; i < map->moves_count; i++) {
        const struct cairn_map_move *move = &map->moves[i];
        if (move->target == shard->id && move->done)
            return true;
        gives = gives || (move->source == shard->id && !move->done);
    }
    return shard->weight > 0 && (map->plan == 0 || shard->planned_weight > 0 || gives);
}

uint64_t router_applied(const struct router_member *member)
{
    return member->local != NULL ? cairn_shard_applied(member->local)
                                 : atomic_load_explicit(&member->applied, memory_order_acquire);
}

void router_touch(struct cairn_router *router, const struct cairn_map *map,
                  struct cairn_contract *contract, uint32_t shard)
{
    struct router_member *member = router_member(router, shard);
    if (contract->position.epoch < map->epoch)
        contract->position.epoch = map->epoch;
    if (member != NULL)
        cairn_position_touch(&contract->position, shard, router_applied(member));
}

void router_member_note(struct router_member *member, const char *why)
{
    if (why == NULL) {
        if (atomic_exchange(&member->failures, 0) >= FAILURES_DOWN)
            cairn_info("router", "shard s%u answers again", member->id);
    } else {
        pthread_mutex_lock(&member->lock);
        (void)snprintf(member->problem, sizeof member->problem, "%s", why);
        pthread_mutex_unlock(&member->lock);
        if (atomic_fetch_add(&member->failures, 1) + 1 == FAILURES_DOWN)
            cairn_warn("router", "shard s%u does not answer: %s", member->id, why);
    }
    if (member->up_gauge != NULL)
        cairn_gauge_set(member->up_gauge, !router_member_down(member));
}

bool router_member_down(const struct router_member *member)
{
    return member->local == NULL &&
           atomic_load_explicit(&member->failures, memory_order_relaxed) >= FAILURES_DOWN;
}

int router_member_fail(struct router_member *member, struct cairn_error *err)
{
    char problem[sizeof member->problem];
    const struct router_peer *peer = atomic_load(&member->peer);
    pthread_mutex_lock(&member->lock);
    memcpy(problem, member->problem, sizeof problem);
    pthread_mutex_unlock(&member->lock);
    if (peer == NULL)
        return cairn_fail(err, CAIRN_EUNAVAILABLE,
                          "shard s%u: the shard map does not say where it answers", member->id);
    return cairn_fail(err, CAIRN_EUNAVAILABLE, "shard s%u at %s is down: %s", member->id, peer->url,
                      problem);
}

void router_raise(atomic_uint_fast64_t *at, uint64_t value)
{
    uint_fast64_t seen = atomic_load_explicit(at, memory_order_relaxed);
    while (seen < value && !atomic_compare_exchange_weak(at, &seen, value))
        ;
}
