/* Finding the first map: any shard that has one will do. Where all seeds answer and none has one,
 * the first map is made of all of them. Its home takes it only while it has none, so of several
 * routers that start at once one makes it and the others find it. */
#include <stdio.h>
#include <stdlib.h>

#include "base/diag.h"
#include "router/internal.h"

#define SEED_TIMEOUT_US UINT64_C(2000000)

static void set_problem(struct cairn_router *router, const char *text)
{
    pthread_mutex_lock(&router->watch_lock);
    bool changed = strncmp(router->seeds_problem, text, 250) != 0;
    (void)snprintf(router->seeds_problem, sizeof router->seeds_problem, "%.250s", text);
    pthread_mutex_unlock(&router->watch_lock);
    if (changed && text[0] != '\0')
        cairn_warn("router", "no shard map yet: %s", text);
}

/* The shards in other processes' words: those that say themselves which epoch they are at. */
struct asking {
    struct router_remote remotes[CAIRN_SHARDS_MAX];
    bool started[CAIRN_SHARDS_MAX];
    struct router_latch latch;
    struct cairn_arena arena;
};

static void ask_all(struct cairn_router *router, struct asking *asking, struct cairn_error *err)
{
    struct cairn_shard_request request = {.fence = CAIRN_OFFSET_NONE};
    uint64_t deadline_us = cairn_time_monotonic_us() + SEED_TIMEOUT_US;
    router_latch_init(&asking->latch, router->seeds_count);
    for (uint32_t i = 0; i < router->seeds_count; i++) {
        const struct router_seed *seed = &router->seeds[i];
        struct router_peer *peer;
        router_remote_init(&asking->remotes[i], router, NULL, CAIRN_SHARD_ADOPT,
                           router_latch_remote_done, &asking->latch);
        asking->remotes[i].shard = seed->id;
        asking->started[i] = router_peer_get(router, cairn_str_from(seed->url), &peer, err) == 0;
        if (!asking->started[i]) {
            router_latch_release(&asking->latch);
            continue;
        }
        asking->remotes[i].peer = peer;
        router_remote_start(&asking->remotes[i], &request, deadline_us);
    }
    router_latch_wait(&asking->latch);
}

static int give_first(struct cairn_router *router, const struct cairn_map *map, uint32_t at,
                      uint64_t fence, struct cairn_error *err)
{
    struct cairn_arena arena = {0};
    struct cairn_buf text = {0};
    struct cairn_shard_answer answer;
    struct cairn_shard_request request = router_adopt_request(map, fence, &text);
    int code = router_call_url(router, cairn_str_from(router->seeds[at].url), router->seeds[at].id,
                               CAIRN_SHARD_ADOPT, &request, &arena, &answer,
                               cairn_time_monotonic_us() + SEED_TIMEOUT_US);
    if (code != 0)
        *err = answer.error;
    cairn_buf_release(&text);
    cairn_arena_release(&arena);
    return code;
}

/* All seeds are there and have no map. */
static int make_first(struct cairn_router *router, struct cairn_error *err)
{
    struct cairn_map_shard shards[CAIRN_SHARDS_MAX];
    const struct cairn_map *map = NULL;
    for (uint32_t i = 0; i < router->seeds_count; i++)
        shards[i] = (struct cairn_map_shard){.id = router->seeds[i].id,
                                             .weight = 1,
                                             .planned_weight = 1,
                                             .url = cairn_str_from(router->seeds[i].url)};
    int code = router_first_map(router, shards, router->seeds_count, &map, err);
    for (uint32_t i = 0; code == 0 && i < router->seeds_count; i++)
        if (router->seeds[i].id == map->home)
            code = give_first(router, map, i, 0, err);
    if (code == 0) {
        cairn_info("router", "made the first shard map, of %u shards", router->seeds_count);
        router_learn(router, map); /* the watch gives it to the others */
    }
    cairn_map_unref(map);
    return code;
}

bool router_seeds_ask(struct cairn_router *router)
{
    struct asking *asking = cairn_calloc(1, sizeof *asking);
    struct cairn_error err = {0};
    uint32_t answered = 0;
    ask_all(router, asking, &err);
    for (uint32_t i = 0; i < router->seeds_count; i++) {
        struct cairn_shard_answer answer;
        if (!asking->started[i])
            continue;
        if (router_remote_take(&asking->remotes[i], &asking->arena, &answer) == 0)
            answered++;
        else
            err = answer.error;
    }
    bool known = atomic_load(&router->epoch) != 0;
    if (!known && answered == router->seeds_count && make_first(router, &err) == 0)
        known = true;
    set_problem(router, known ? "" : err.message);
    for (uint32_t i = 0; i < router->seeds_count; i++)
        router_remote_end(&asking->remotes[i]);
    cairn_arena_release(&asking->arena);
    free(asking);
    return known;
}
