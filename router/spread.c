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

/* Learn the map that an answer's text is. Text that is none is the other side's fault and no reason
 * to fail here. */
static void learn_text(struct cairn_router *router, struct cairn_str text)
{
    const struct cairn_map *map;
    if (text.len == 0 || cairn_map_decode(text, &map, NULL) != 0)
        return;
    router_learn(router, map);
    cairn_map_unref(map);
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
    if (code == CAIRN_ENOTOWNER)
        learn_text(router, answer->text);
    if (code != 0 && err != NULL) {
        *err = answer->error;
        cairn_error_prefix(err, "shard s%u", shard);
    }
    return code;
}

int router_ask_map(struct cairn_router *router, const struct cairn_map *map, uint32_t shard,
                   struct cairn_error *err)
{
    struct cairn_arena arena = {0};
    struct cairn_shard_request request = {.fence = CAIRN_OFFSET_NONE};
    struct cairn_shard_answer answer;
    int code = router_ask(router, map, shard, CAIRN_SHARD_ADOPT, &request, &arena, &answer,
                          REBALANCE_CALL_US, err);
    if (code == 0)
        learn_text(router, answer.text);
    cairn_arena_release(&arena);
    return code;
}

/* Ask both sides of the moves that are not done, each shard once. */
static int ask_movers(struct cairn_router *router, const struct cairn_map *map,
                      struct cairn_error *err)
{
    bool asked[CAIRN_SHARDS_MAX] = {false};
    for (uint32_t i = 0; i < map->moves_count; i++) {
        const struct cairn_map_move *move = &map->moves[i];
        const uint32_t sides[] = {move->source, move->target};
        for (unsigned side = 0; side < 2 && !move->done; side++) {
            int code = asked[sides[side]] ? 0 : router_ask_map(router, map, sides[side], err);
            asked[sides[side]] = true;
            if (code != 0)
                return code;
        }
    }
    return 0;
}

int router_newest_map(struct cairn_router *router, const struct cairn_map **out,
                      struct cairn_error *err)
{
    *out = NULL;
    const struct cairn_map *map = router_map(router);
    if (map == NULL)
        return cairn_fail(err, CAIRN_EUNAVAILABLE, "this process knows no shard map yet");
    for (unsigned round = 0; round < ASK_ROUNDS_MAX; round++) {
        int code = ask_movers(router, map, err);
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

int router_give_map(struct cairn_router *router, const struct cairn_map *map, uint32_t shard,
                    struct cairn_error *err)
{
    struct cairn_arena arena = {0};
    struct cairn_buf text = {0};
    struct cairn_shard_answer answer;
    cairn_map_encode(map, &text);
    struct cairn_shard_request request = {.fence = CAIRN_OFFSET_NONE,
                                          .text = {text.data, (uint32_t)text.len}};
    int code = router_ask(router, map, shard, CAIRN_SHARD_ADOPT, &request, &arena, &answer,
                          REBALANCE_CALL_US, err);
    cairn_buf_release(&text);
    cairn_arena_release(&arena);
    return code;
}

/* To a shard that the map has no more: at the URL that the one before has. */
static void give_leaving(struct cairn_router *router, const struct cairn_map *map,
                         const struct cairn_map_shard *shard)
{
    struct cairn_arena arena = {0};
    struct cairn_buf text = {0};
    struct cairn_shard_answer answer = {0};
    struct cairn_shard *local = router_local(router, shard->id);
    if (local != NULL) {
        (void)cairn_shard_adopt(local, map, CAIRN_OFFSET_NONE, NULL);
        return;
    }
    cairn_map_encode(map, &text);
    struct cairn_shard_request request = {.cluster = map->cluster,
                                          .epoch = map->epoch,
                                          .fence = CAIRN_OFFSET_NONE,
                                          .text = {text.data, (uint32_t)text.len}};
    (void)router_call_url(router, shard->url, shard->id, CAIRN_SHARD_ADOPT, &request, &arena,
                          &answer, cairn_time_monotonic_us() + REBALANCE_CALL_US);
    cairn_buf_release(&text);
    cairn_arena_release(&arena);
}

void router_spread_map(struct cairn_router *router, const struct cairn_map *map,
                       const struct cairn_map *before)
{
    for (uint32_t i = 0; i < map->shards_count; i++)
        (void)router_give_map(router, map, map->shards[i].id, NULL);
    for (uint32_t i = 0; before != NULL && i < before->shards_count; i++)
        if (cairn_map_shard(map, before->shards[i].id) == NULL)
            give_leaving(router, map, &before->shards[i]);
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
