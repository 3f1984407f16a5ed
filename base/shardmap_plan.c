/* A map's successors. */
#include "base/shardmap_private.h"

#include <stdlib.h>

/* A map in the making: what the map has, with copies that may be changed of its shards and of the
 * moves that are done. */
struct draft {
    struct cairn_map_spec spec;
    struct cairn_map_shard *shards; /* spec.shards */
    struct cairn_map_move *done;    /* spec.done; room for every move of the plan */
};

static void draft_init(struct draft *draft, const struct cairn_map *map)
{
    draft->shards = cairn_malloc(map->shards_count * sizeof(*draft->shards));
    memcpy(draft->shards, map->shards, map->shards_count * sizeof(*draft->shards));
    draft->done = cairn_calloc((size_t)map->moves_count + 1, sizeof(*draft->done));
    draft->spec = (struct cairn_map_spec){
        .cluster = map->cluster,
        .epoch = map->epoch + 1,
        .vnodes = map->vnodes,
        .home = map->home,
        .shards = draft->shards,
        .shards_count = map->shards_count,
        .plan = map->plan,
        .done = draft->done,
        .last_plan = map->last_plan,
        .last_outcome = map->last_outcome,
    };
    for (uint32_t i = 0; i < map->moves_count; i++)
        if (map->moves[i].done)
            draft->done[draft->spec.done_count++] = map->moves[i];
}

/* Make the map and let go of the draft. */
static int draft_finish(struct draft *draft, const struct cairn_map *map,
                        const struct cairn_map **out, struct cairn_error *err)
{
    int code = cairn_map_make(&draft->spec, map, out, err);
    free(draft->shards);
    free(draft->done);
    return code;
}

static void end_plan(struct draft *draft, enum cairn_plan_outcome outcome)
{
    draft->spec.last_plan = draft->spec.plan;
    draft->spec.last_outcome = outcome;
    draft->spec.plan = 0;
    draft->spec.done_count = 0;
}

static void drop_weightless(struct draft *draft)
{
    uint32_t kept = 0;
    bool home_kept = false;
    for (uint32_t i = 0; i < draft->spec.shards_count; i++) {
        if (draft->shards[i].weight == 0)
            continue;
        home_kept = home_kept || draft->shards[i].id == draft->spec.home;
        draft->shards[kept++] = draft->shards[i];
    }
    draft->spec.shards_count = kept;
    if (!home_kept)
        draft->spec.home = draft->shards[0].id; /* they are sorted, and one has a weight */
}

/* A plan says who shall own tokens; who owns them now is not for it to change. */
static int check_weights_now(const struct cairn_map *map, const struct cairn_map *next,
                             struct cairn_error *err)
{
    for (uint32_t i = 0; i < next->shards_count; i++) {
        const struct cairn_map_shard *shard = &next->shards[i];
        const struct cairn_map_shard *before = cairn_map_shard(map, shard->id);
        double weight = before ? before->weight : 0;
        if (shard->weight != weight)
            return cairn_fail(err, CAIRN_EPARAM,
                              "shard s%u: the plan gives it weight %g now, but it has %g; give the "
                              "new one as planned weight",
                              shard->id, shard->weight, weight);
    }
    for (uint32_t i = 0; i < map->shards_count; i++)
        if (map->shards[i].weight > 0 && !cairn_map_shard(next, map->shards[i].id))
            return cairn_fail(err, CAIRN_EPARAM,
                              "shard s%u: missing in the plan; one that shall leave has planned "
                              "weight 0",
                              map->shards[i].id);
    return 0;
}

int cairn_map_with_plan(const struct cairn_map *map, const struct cairn_map_shard *shards,
                        uint32_t shards_count, const struct cairn_map **out,
                        struct cairn_error *err)
{
    struct draft draft;
    *out = NULL;
    if (map->plan)
        return cairn_fail(err, CAIRN_ECONFLICT,
                          "plan %llu is still under way; wait for its end or abort it",
                          (unsigned long long)map->plan);
    draft_init(&draft, map);
    draft.spec.shards = shards;
    draft.spec.shards_count = shards_count;
    draft.spec.plan = draft.spec.epoch;
    int code = draft_finish(&draft, map, out, err);
    if (code == 0)
        code = check_weights_now(map, *out, err);
    if (code != 0) {
        cairn_map_unref(*out);
        *out = NULL;
    }
    return code;
}

int cairn_map_with_done(const struct cairn_map *map, uint32_t source, uint32_t target,
                        const struct cairn_map **out, struct cairn_error *err)
{
    struct draft draft;
    *out = NULL;
    const struct cairn_map_move *move = cairn_map_move(map, source, target);
    if (!move)
        return cairn_fail(err, CAIRN_ENOTFOUND, "no plan moves tokens from s%u to s%u", source,
                          target);
    if (move->done)
        return cairn_fail(err, CAIRN_ECONFLICT, "the move from s%u to s%u is done already", source,
                          target);
    draft_init(&draft, map);
    draft.done[draft.spec.done_count++] = *move;
    return draft_finish(&draft, map, out, err);
}

int cairn_map_finish(const struct cairn_map *map, const struct cairn_map **out,
                     struct cairn_error *err)
{
    struct draft draft;
    *out = NULL;
    if (!map->plan)
        return cairn_fail(err, CAIRN_ECONFLICT, "there is no plan to finish");
    for (uint32_t i = 0; i < map->moves_count; i++)
        if (!map->moves[i].done)
            return cairn_fail(
                err, CAIRN_ECONFLICT, "plan %llu: the move from s%u to s%u is not done",
                (unsigned long long)map->plan, map->moves[i].source, map->moves[i].target);
    draft_init(&draft, map);
    for (uint32_t i = 0; i < draft.spec.shards_count; i++)
        draft.shards[i].weight = draft.shards[i].planned_weight;
    drop_weightless(&draft);
    end_plan(&draft, CAIRN_PLAN_SUCCEEDED);
    return draft_finish(&draft, map, out, err);
}

/* Exchange the rings and turn the moves around. A token of the move (a -> b) belonged to b if that
 * was done, else to a. It is now of the move (b -> a), and still belongs to b unless that is done:
 * so the one is done when the other is not, and no token changes hands. */
static void turn_around(struct draft *draft, const struct cairn_map *map)
{
    for (uint32_t i = 0; i < map->shards_count; i++) {
        draft->shards[i].weight = map->shards[i].planned_weight;
        draft->shards[i].planned_weight = map->shards[i].weight;
    }
    for (uint32_t i = 0; i < map->moves_count; i++)
        if (!map->moves[i].done)
            draft->done[draft->spec.done_count++] = (struct cairn_map_move){
                .source = map->moves[i].target, .target = map->moves[i].source, .done = true};
    draft->spec.plan = draft->spec.epoch;
}

int cairn_map_abort(const struct cairn_map *map, const struct cairn_map **out,
                    struct cairn_error *err)
{
    struct draft draft;
    *out = NULL;
    if (!map->plan)
        return cairn_fail(err, CAIRN_ECONFLICT, "there is no plan to abort");
    draft_init(&draft, map);
    bool moved = draft.spec.done_count > 0;
    end_plan(&draft, CAIRN_PLAN_ABORTED);
    if (moved)
        turn_around(&draft, map);
    else
        drop_weightless(&draft);
    return draft_finish(&draft, map, out, err);
}

int cairn_map_with_urls(const struct cairn_map *map, const struct cairn_map_shard *urls,
                        uint32_t urls_count, const struct cairn_map **out, struct cairn_error *err)
{
    struct draft draft;
    draft_init(&draft, map);
    for (uint32_t i = 0; i < map->shards_count; i++)
        for (uint32_t j = 0; j < urls_count; j++)
            if (urls[j].id == draft.shards[i].id)
                draft.shards[i].url = urls[j].url;
    return draft_finish(&draft, map, out, err);
}
