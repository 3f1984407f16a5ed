/* Plans and what becomes of them: properties over random maps, plans and orders, checked at every
 * arc of the rings, that is for every token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/shardmap.h"
#include "tests/lib/random_map.h"
#include "tests/lib/testing.h"

enum { ROUNDS = 150 };

static uint64_t rng;

static int set_up(void **state)
{
    (void)state;
    rng = cairn_test_seed();
    return 0;
}

static void assert_same_owners(const struct cairn_map *one, const struct cairn_map *other)
{
    size_t count;
    uint64_t *tokens = cairn_map_tokens(one, other, &count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(cairn_map_owner(one, tokens[i]), cairn_map_owner(other, tokens[i]));
    free(tokens);
}

/* Shards without a plan, with the weights of the map or those it plans. */
static const struct cairn_map *settled(const struct cairn_map *map, bool planned)
{
    struct cairn_map_shard shards[CAIRN_SHARDS_MAX];
    const struct cairn_map *out;
    for (uint32_t i = 0; i < map->shards_count; i++)
        shards[i] = (struct cairn_map_shard){.id = map->shards[i].id,
                                             .weight = planned ? map->shards[i].planned_weight
                                                               : map->shards[i].weight};
    struct cairn_map_spec spec = {.epoch = 1,
                                  .vnodes = map->vnodes,
                                  .home = map->home,
                                  .shards = shards,
                                  .shards_count = map->shards_count};
    assert_int_equal(cairn_map_new(&spec, &out, NULL), 0);
    return out;
}

static void assert_moves_sorted(const struct cairn_map *map)
{
    for (uint32_t i = 0; i < map->moves_count; i++) {
        const struct cairn_map_move *move = &map->moves[i];
        assert_int_not_equal(move->source, move->target);
        assert_ptr_equal(cairn_map_move(map, move->source, move->target), move);
        if (i > 0)
            assert_true(move[-1].source < move->source ||
                        (move[-1].source == move->source && move[-1].target < move->target));
    }
}

static void assert_text_keeps(const struct cairn_map *map)
{
    struct cairn_buf once = {0}, twice = {0};
    const struct cairn_map *back = NULL;
    struct cairn_error err = {0};
    cairn_map_encode(map, &once);
    assert_in_range(once.len, 1, CAIRN_MAP_BYTES_MAX);
    if (cairn_map_decode((struct cairn_str){once.data, (uint32_t)once.len}, &back, &err) != 0)
        fail_msg("%.*s: %s", (int)once.len, once.data, err.message);
    cairn_map_encode(back, &twice);
    assert_int_equal(once.len, twice.len);
    assert_memory_equal(once.data, twice.data, once.len);
    assert_same_owners(map, back);
    cairn_map_unref(back);
    cairn_buf_release(&once);
    cairn_buf_release(&twice);
}

/* The definition in the header, token by token, from maps that know of no plan. */
static void assert_as_defined(const struct cairn_map *map)
{
    const struct cairn_map *now = settled(map, false), *then = settled(map, true);
    bool *seen = cairn_calloc((size_t)map->moves_count + 1, sizeof(*seen));
    size_t count;
    uint64_t *tokens = cairn_map_tokens(map, map, &count);
    for (size_t i = 0; i < count; i++) {
        uint32_t source = cairn_map_owner(now, tokens[i]);
        uint32_t target = cairn_map_owner(then, tokens[i]);
        const struct cairn_map_move *move = cairn_map_move_of(map, tokens[i]);
        uint32_t owner = move && move->done ? target : source;
        assert_int_equal(cairn_map_owner(map, tokens[i]), owner);
        assert_true((move != NULL) == (source != target));
        assert_true(cairn_map_is_moving(map, tokens[i], source, target) == (move != NULL));
        assert_false(cairn_map_is_moving(map, tokens[i], target, source));
        if (!move)
            continue;
        assert_ptr_equal(move, cairn_map_move(map, source, target));
        seen[move - map->moves] = true;
    }
    for (uint32_t i = 0; i < map->moves_count; i++)
        if (!seen[i])
            fail_msg("no token moves from s%u to s%u", map->moves[i].source, map->moves[i].target);
    free(seen);
    free(tokens);
    cairn_map_unref(now);
    cairn_map_unref(then);
}

static void assert_shares(const struct cairn_map *map)
{
    double sum = 0;
    for (uint32_t i = 0; i < map->shards_count; i++)
        sum += cairn_map_share(map, map->shards[i].id);
    assert_true(sum > 1 - 1e-12 && sum < 1 + 1e-12);
}

static void check(const struct cairn_map *map)
{
    assert_moves_sorted(map);
    assert_as_defined(map);
    assert_shares(map);
    assert_text_keeps(map);
    assert_non_null(cairn_map_shard(map, map->home));
}

static uint32_t pending_count(const struct cairn_map *map)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < map->moves_count; i++)
        count += !map->moves[i].done;
    return count;
}

/* The nth move that is not done. */
static const struct cairn_map_move *pending(const struct cairn_map *map, uint64_t nth)
{
    const struct cairn_map_move *move = map->moves;
    while (move->done || nth-- > 0)
        move++;
    return move;
}

/* Any move that is not done becomes done; takes the reference of `map`. */
static const struct cairn_map *with_some_done(const struct cairn_map *map)
{
    const struct cairn_map *next;
    const struct cairn_map_move *move =
        pending(map, cairn_test_random_below(&rng, pending_count(map)));
    uint32_t source = move->source, target = move->target;
    assert_int_equal(cairn_map_with_done(map, source, target, &next, NULL), 0);
    assert_int_equal(next->epoch, map->epoch + 1);
    assert_int_equal(next->plan, map->plan);
    assert_int_equal(next->moves_count, map->moves_count);
    assert_int_equal(pending_count(next), pending_count(map) - 1);
    size_t count;
    uint64_t *tokens = cairn_map_tokens(map, next, &count);
    for (size_t i = 0; i < count; i++) {
        uint32_t before = cairn_map_owner(map, tokens[i]);
        bool moves = cairn_map_is_moving(map, tokens[i], source, target);
        assert_true(!moves || before == source);
        assert_int_equal(cairn_map_owner(next, tokens[i]), moves ? target : before);
    }
    free(tokens);
    cairn_map_unref(map);
    return next;
}

/* Every shard of `map` with a weight, and no other, is in `next` with that weight. */
static void assert_weights(const struct cairn_map *map, bool planned, const struct cairn_map *next)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < map->shards_count; i++) {
        const struct cairn_map_shard *before = &map->shards[i];
        const struct cairn_map_shard *after = cairn_map_shard(next, before->id);
        double weight = planned ? before->planned_weight : before->weight;
        assert_true((after != NULL) == (weight > 0));
        if (!after)
            continue;
        count++;
        assert_true(after->weight == weight && after->planned_weight == weight);
        assert_true(cairn_str_eq(after->url, before->url));
    }
    assert_int_equal(next->shards_count, count);
    const struct cairn_map_shard *home = cairn_map_shard(next, map->home);
    assert_int_equal(next->home, home ? map->home : next->shards[0].id);
}

/* Do all moves and end the plan; takes the reference of `map`. */
static const struct cairn_map *finished(const struct cairn_map *map)
{
    const struct cairn_map *next;
    while (pending_count(map) > 0) {
        assert_int_equal(cairn_map_finish(map, &next, NULL), CAIRN_ECONFLICT);
        assert_null(next);
        map = with_some_done(map);
    }
    check(map);
    assert_int_equal(cairn_map_finish(map, &next, NULL), 0);
    check(next);
    assert_same_owners(map, next);
    assert_weights(map, true, next);
    assert_int_equal(next->epoch, map->epoch + 1);
    assert_int_equal(next->plan, 0);
    assert_int_equal(next->moves_count, 0);
    assert_int_equal(next->last_plan, map->plan);
    assert_int_equal(next->last_outcome, CAIRN_PLAN_SUCCEEDED);
    cairn_map_unref(map);
    return next;
}

static void a_plan_changes_no_owner(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        const struct cairn_map *map = cairn_random_map(&rng), *plan = cairn_random_plan(map, &rng);
        check(map);
        check(plan);
        assert_same_owners(map, plan);
        assert_int_equal(plan->epoch, map->epoch + 1);
        assert_int_equal(plan->plan, plan->epoch);
        assert_int_equal(pending_count(plan), plan->moves_count);
        assert_int_equal(map->cluster, plan->cluster);
        cairn_map_unref(map);
        cairn_map_unref(plan);
    }
}

static void moves_change_hands_one_by_one(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        const struct cairn_map *map = cairn_random_map(&rng);
        for (int plans = 0; plans < 2; plans++) {
            const struct cairn_map *plan = cairn_random_plan(map, &rng);
            cairn_map_unref(map);
            map = finished(plan);
        }
        cairn_map_unref(map);
    }
}

/* The map with its plan given up; nothing moves by that. */
static const struct cairn_map *aborted(const struct cairn_map *map)
{
    const struct cairn_map *next;
    bool moved = pending_count(map) < map->moves_count;
    assert_int_equal(cairn_map_abort(map, &next, NULL), 0);
    check(next);
    assert_same_owners(map, next);
    assert_int_equal(next->epoch, map->epoch + 1);
    assert_int_equal(next->plan, moved ? next->epoch : 0);
    assert_int_equal(next->last_plan, map->plan);
    assert_int_equal(next->last_outcome, CAIRN_PLAN_ABORTED);
    if (!moved) {
        assert_weights(map, false, next);
        return next;
    }
    assert_int_equal(next->moves_count, map->moves_count);
    for (uint32_t i = 0; i < map->moves_count; i++) {
        const struct cairn_map_move *back =
            cairn_map_move(next, map->moves[i].target, map->moves[i].source);
        assert_non_null(back);
        assert_true(back->done == !map->moves[i].done);
    }
    return next;
}

static void an_aborted_plan_goes_back(void **state)
{
    (void)state;
    int moved_back = 0;
    for (int round = 0; round < ROUNDS; round++) {
        const struct cairn_map *first = cairn_random_map(&rng);
        const struct cairn_map *map = cairn_random_plan(first, &rng);
        uint64_t done = cairn_test_random_below(&rng, (uint64_t)map->moves_count + 1);
        while (done-- > 0)
            map = with_some_done(map);
        const struct cairn_map *back = aborted(map);
        if (back->plan) {
            back = finished(back);
            moved_back++;
        }
        assert_same_owners(first, back);
        assert_weights(first, false, back);
        cairn_map_unref(first);
        cairn_map_unref(map);
        cairn_map_unref(back);
    }
    assert_true(moved_back > ROUNDS / 4);
}

/* Giving up the way back, part of the way, is to go forward again. */
static void an_aborted_abort_goes_forward(void **state)
{
    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        const struct cairn_map *first = cairn_random_map(&rng);
        const struct cairn_map *map = cairn_random_plan(first, &rng), *then = settled(map, true);
        while (pending_count(map) > map->moves_count / 3)
            map = with_some_done(map);
        const struct cairn_map *back = aborted(map);
        if (back->plan) {
            uint64_t steps = cairn_test_random_below(&rng, (uint64_t)pending_count(back) + 1);
            while (steps-- > 0)
                back = with_some_done(back);
            const struct cairn_map *forth = aborted(back);
            forth = forth->plan ? finished(forth) : forth;
            assert_same_owners(forth, then);
            cairn_map_unref(forth);
        }
        cairn_map_unref(first);
        cairn_map_unref(map);
        cairn_map_unref(then);
        cairn_map_unref(back);
    }
}

static void home_moves_to_the_lowest_shard_left(void **state)
{
    (void)state;
    const struct cairn_map *map, *plan;
    struct cairn_map_shard shards[] = {{.id = 7, .weight = 1, .planned_weight = 0},
                                       {.id = 9, .weight = 1, .planned_weight = 1},
                                       {.id = 3, .weight = 0, .planned_weight = 1}};
    struct cairn_map_spec spec = {.epoch = 1, .home = 7, .shards = shards, .shards_count = 2};
    assert_int_equal(cairn_map_new(&spec, &map, NULL), 0);
    assert_int_equal(cairn_map_with_plan(map, shards, 3, &plan, NULL), 0);
    cairn_map_unref(map);
    map = finished(plan);
    assert_int_equal(map->home, 3);
    assert_int_equal(map->shards_count, 2);
    cairn_map_unref(map);
}

static void a_plan_without_moves_ends_like_others(void **state)
{
    (void)state;
    const struct cairn_map *map = cairn_random_map(&rng), *plan;
    assert_int_equal(cairn_map_with_plan(map, map->shards, map->shards_count, &plan, NULL), 0);
    assert_true(plan->plan > 0);
    assert_int_equal(plan->moves_count, 0);
    cairn_map_unref(finished(plan));
    cairn_map_unref(map);
}

static void assert_plan_refused(const struct cairn_map *map, const struct cairn_map_shard *shards,
                                uint32_t count, int code, const char *word)
{
    const struct cairn_map *out;
    struct cairn_error err = {0};
    assert_int_equal(cairn_map_with_plan(map, shards, count, &out, &err), code);
    assert_null(out);
    if (!strstr(err.message, word))
        fail_msg("\"%s\" does not name %s", err.message, word);
}

static void what_is_no_step_is_refused(void **state)
{
    (void)state;
    const struct cairn_map *map, *plan, *done, *out;
    struct cairn_map_shard shards[] = {{.id = 0, .weight = 1, .planned_weight = 1},
                                       {.id = 1, .weight = 1, .planned_weight = 1},
                                       {.id = 2, .weight = 0, .planned_weight = 1}};
    struct cairn_map_spec spec = {.epoch = 1, .home = 0, .shards = shards, .shards_count = 2};
    assert_int_equal(cairn_map_new(&spec, &map, NULL), 0);
    assert_int_equal(cairn_map_finish(map, &out, NULL), CAIRN_ECONFLICT);
    assert_int_equal(cairn_map_abort(map, &out, NULL), CAIRN_ECONFLICT);
    assert_int_equal(cairn_map_with_done(map, 0, 1, &out, NULL), CAIRN_ENOTFOUND);
    assert_plan_refused(map, shards, 1, CAIRN_EPARAM, "s1");
    assert_plan_refused(map, shards + 1, 2, CAIRN_EPARAM, "home");
    shards[0].weight = 2;
    assert_plan_refused(map, shards, 3, CAIRN_EPARAM, "s0");
    shards[0].weight = 1;
    shards[2].weight = 1;
    assert_plan_refused(map, shards, 3, CAIRN_EPARAM, "s2");
    shards[2].weight = 0;
    assert_int_equal(cairn_map_with_plan(map, shards, 3, &plan, NULL), 0);
    assert_plan_refused(plan, shards, 3, CAIRN_ECONFLICT, "plan");
    assert_int_equal(cairn_map_with_done(plan, 2, 0, &out, NULL), CAIRN_ENOTFOUND);
    assert_int_equal(cairn_map_with_done(plan, 0, 2, &done, NULL), 0);
    assert_int_equal(cairn_map_with_done(done, 0, 2, &out, NULL), CAIRN_ECONFLICT);
    assert_null(out);
    cairn_map_unref(map);
    cairn_map_unref(plan);
    cairn_map_unref(done);
}

static void urls_change_nothing_else(void **state)
{
    (void)state;
    const struct cairn_map_shard urls[] = {
        {.id = 1, .url = CAIRN_STR_LITERAL("http://there:1")},
        {.id = 200, .url = CAIRN_STR_LITERAL("http://nobody:1")}};
    const struct cairn_map_shard shards[] = {{.id = 0, .weight = 1}, {.id = 1, .weight = 1}};
    struct cairn_map_spec spec = {.epoch = 4, .home = 0, .shards = shards, .shards_count = 2};
    const struct cairn_map *map, *next, *out;
    assert_int_equal(cairn_map_new(&spec, &map, NULL), 0);
    assert_int_equal(cairn_map_with_urls(map, urls, 2, &next, NULL), 0);
    assert_int_equal(next->epoch, 5);
    assert_int_equal(next->shards_count, 2);
    assert_int_equal(next->shards[0].url.len, 0);
    assert_true(cairn_str_eq(next->shards[1].url, urls[0].url));
    assert_same_owners(map, next);
    struct cairn_map_shard bad = {.id = 1, .url = CAIRN_STR_LITERAL("there")};
    assert_int_equal(cairn_map_with_urls(map, &bad, 1, &out, NULL), CAIRN_EPARAM);
    assert_null(out);
    cairn_map_unref(map);
    cairn_map_unref(next);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_changes_no_owner),
        cmocka_unit_test(moves_change_hands_one_by_one),
        cmocka_unit_test(an_aborted_plan_goes_back),
        cmocka_unit_test(an_aborted_abort_goes_forward),
        cmocka_unit_test(home_moves_to_the_lowest_shard_left),
        cmocka_unit_test(a_plan_without_moves_ends_like_others),
        cmocka_unit_test(what_is_no_step_is_refused),
        cmocka_unit_test(urls_change_nothing_else),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
