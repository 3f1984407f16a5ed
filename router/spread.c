/* Maps between processes: asking a shard for its map, giving it one, and making a new one at home.
 *
 * A new map is born in one of two places: in the log of home, or, when a move is cut over, in the
 * log of that move's source. Whoever wants to make one must first know the newest, so it asks the
 * sources of all moves that are not done; it cannot miss one then. */
#include "base/time.h"
#include "router/rebalance.h"

#define ASK_ROUNDS_MAX 16u

static int ask_local(struct cairn_router *router, struct cairn_shard *local, uint32_t shard,
                     enum cairn_shard_op op, const struct cairn_shard_request *request,
                     struct cairn_arena *arena, struct cairn_shard_answer *answer)
{
    if (op == CAIRN_SHARD_IMPORT)
        return router_import_start(router, shard, request, answer);
    if (op == CAIRN_SHARD_IMPORT_STATE)
        return router_import_state(router, shard, request, arena, answer);
    cairn_shard_execute(local, op, request, arena, answer);
    return answer->error.code;
}

int router_ask(struct cairn_router *router, const struct cairn_map *map, uint32_t shard,
               enum cairn_shard_op op, struct cairn_shard_request *request,
               struct cairn_arena *arena, struct cairn_shard_answer *answer, uint64_t within_us,
               struct cairn_error *err)
{
    struct cairn_shard *local = router_local(router, shard);
    const struct cairn_map_shard *member = cairn_map_shard(map, shard);
    int code;
    *answer = (struct cairn_shard_answer){.shard = shard};
    request->cluster = map->cluster;
    request->epoch = map->epoch;
    if (local != NULL) {
        code = ask_local(router, local, shard, op, request, arena, answer);
    } else if (member == NULL || member->url.len == 0) {
        code = cairn_fail(&answer->error, CAIRN_EUNAVAILABLE,
                          "the shard map does not say where it answers");
    } else {
        code = router_call_url(router, member->url, shard, op, request, arena, answer,
                               cairn_time_monotonic_us() + within_us);
        if (code != 0 && answer->error.message[0] == '\0')
            cairn_fail(&answer->error, code, "%.*s: %s failed", CAIRN_STR_ARG(member->url),
                       cairn_shard_op_name(op));
    }
    if (code == CAIRN_EEND) /* which says something else to our callers */
        code = cairn_fail(&answer->error, CAIRN_EINTERNAL, "%s ended unasked",
                          cairn_shard_op_name(op));
    if (code == CAIRN_ENOTOWNER || (code == 0 && op == CAIRN_SHARD_ADOPT))
        router_learn_text(router, answer->text);
    if (code != 0 && err != NULL) {
        *err = answer->error;
        cairn_error_prefix(err, "shard s%u", shard);
    }
    return code;
}

/* Ask the sources of the moves that are not done, each once. They are given the map that is known:
 * it comes after whatever release their writers have before them, and a source that takes no writes
 * fails, since nobody knows then what its log will be found to have. */
static int ask_sources(struct cairn_router *router, const struct cairn_map *map,
                       struct cairn_error *err)
{
    bool asked[CAIRN_SHARDS_MAX] = {false};
    int code = 0;
    for (uint32_t i = 0; i < map->moves_count && code == 0; i++) {
        const struct cairn_map_move *move = &map->moves[i];
        if (move->done || asked[move->source])
            continue;
        asked[move->source] = true;
        code = router_give_map(router, map, move->source, err);
    }
    return code;
}

int router_newest_map(struct cairn_router *router, const struct cairn_map **out,
                      struct cairn_error *err)
{
    *out = NULL;
    const struct cairn_map *map = router_map(router);
    if (map == NULL)
        return cairn_fail(err, CAIRN_EUNAVAILABLE, "this process knows no shard map yet");
    for (unsigned round = 0; round < ASK_ROUNDS_MAX; round++) {
        int code = ask_sources(router, map, err);
        if (code != 0) {
            cairn_map_unref(map);
            return code;
        }
        const struct cairn_map *newer = router_map(router);
        bool same = newer->epoch == map->epoch;
        cairn_map_unref(map);
        map = newer;
        if (same) {
            *out = map;
            return 0;
        }
    }
    cairn_map_unref(map);
    return cairn_fail(err, CAIRN_EUNAVAILABLE, "the shard map changes too fast to be changed");
}

/* To a shard where `members` says that it answers. */
static int give(struct cairn_router *router, const struct cairn_map *members,
                const struct cairn_map *map, uint32_t shard, struct cairn_error *err)
{
    struct cairn_arena arena = {0};
    struct cairn_buf text = {0};
    struct cairn_shard_answer answer;
    cairn_map_encode(map, &text);
    struct cairn_shard_request request = {.fence = CAIRN_OFFSET_NONE,
                                          .text = {text.data, (uint32_t)text.len}};
    int code = router_ask(router, members, shard, CAIRN_SHARD_ADOPT, &request, &arena, &answer,
                          REBALANCE_CALL_US, err);
    cairn_buf_release(&text);
    cairn_arena_release(&arena);
    return code;
}

int router_give_map(struct cairn_router *router, const struct cairn_map *map, uint32_t shard,
                    struct cairn_error *err)
{
    return give(router, map, map, shard, err);
}

void router_spread_map(struct cairn_router *router, const struct cairn_map *map,
                       const struct cairn_map *before)
{
    for (uint32_t i = 0; i < map->shards_count; i++)
        (void)router_give_map(router, map, map->shards[i].id, NULL);
    for (uint32_t i = 0; before != NULL && i < before->shards_count; i++)
        if (cairn_map_shard(map, before->shards[i].id) == NULL)
            (void)give(router, before, map, before->shards[i].id, NULL);
}

bool router_has_home(struct cairn_router *router, const struct cairn_map *map)
{
    return router_local(router, map->home) != NULL;
}

int router_found_map(struct cairn_router *router, const struct cairn_map *before,
                     const struct cairn_map *map, struct cairn_error *err)
{
    struct cairn_shard *home = router_local(router, before->home);
    if (home == NULL)
        return cairn_fail(err, CAIRN_EUNAVAILABLE, "home, shard s%u, is in another process",
                          before->home);
    /* Home may lag behind a map that was born at a source. */
    int code = cairn_shard_adopt(home, before, CAIRN_OFFSET_NONE, err);
    if (code == 0)
        code = cairn_shard_adopt(home, map, before->epoch, err);
    if (code == 0)
        router_learn(router, map);
    return code;
}
