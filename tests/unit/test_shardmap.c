#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/shardmap_private.h"
#include "tests/lib/random_map.h"
#include "tests/lib/testing.h"

enum { KEYS = 1000000, JOINS_MAX = 64 };

/* What must hold for shards 0 to N of weight 1 with 128 vnodes. */
#define LARGEST_OF_8_MAX 1.15
#define JOIN_MAX         1.10 /* of a fair share */

static int make(const struct cairn_map_spec *spec, const struct cairn_map **out,
                struct cairn_error *err)
{
    struct cairn_map_spec with_epoch = *spec;
    if (with_epoch.epoch == 0)
        with_epoch.epoch = 1;
    return cairn_map_new(&with_epoch, out, err);
}

/* Shards 0 to count - 1, the last of some weight, the others of weight 1. */
static const struct cairn_map *map_of(uint32_t count, double last_weight)
{
    struct cairn_map_shard shards[CAIRN_SHARDS_MAX] = {0};
    const struct cairn_map *map;
    for (uint32_t i = 0; i < count; i++)
        shards[i] = (struct cairn_map_shard){.id = i, .weight = i + 1 < count ? 1 : last_weight};
    assert_int_equal(
        make(&(struct cairn_map_spec){.shards = shards, .shards_count = count}, &map, NULL), 0);
    assert_int_equal(map->vnodes, 128);
    return map;
}

static uint64_t token_of(uint32_t key)
{
    return cairn_hash64(&key, sizeof key);
}

static void eight_shards_have_like_shares(void **state)
{
    (void)state;
    const struct cairn_map *map = map_of(8, 1);
    uint32_t counts[8] = {0};
    double exact = 0, sum = 0, counted = 0;
    for (uint32_t i = 0; i < KEYS; i++)
        counts[cairn_map_owner(map, token_of(i))]++;
    for (uint32_t i = 0; i < 8; i++) {
        sum += cairn_map_share(map, i);
        exact = fmax(exact, 8 * cairn_map_share(map, i));
        counted = fmax(counted, 8.0 * counts[i] / KEYS);
    }
    print_message("8 shards: the largest has %.4f of the mean share, %.4f of %d keys\n", exact,
                  counted, KEYS);
    assert_true(fabs(sum - 1) < 1e-12);
    assert_true(exact <= LARGEST_OF_8_MAX);
    assert_true(counted <= LARGEST_OF_8_MAX);
    cairn_map_unref(map);
}

/* The share that changes hands when shard `count` joins 0 to count - 1; between those none does. */
static double joining_share(uint32_t count)
{
    struct cairn_map_shard shards[CAIRN_SHARDS_MAX] = {0};
    const struct cairn_map *before = map_of(count, 1), *plan, *after = map_of(count + 1, 1);
    for (uint32_t i = 0; i <= count; i++)
        shards[i] = (struct cairn_map_shard){.id = i, .weight = i < count, .planned_weight = 1};
    assert_int_equal(cairn_map_with_plan(before, shards, count + 1, &plan, NULL), 0);
    assert_in_range(plan->moves_count, 1, count);
    for (uint32_t i = 0; i < plan->moves_count; i++)
        assert_int_equal(plan->moves[i].target, count);
    double share = cairn_map_share(after, count);
    cairn_map_unref(before);
    cairn_map_unref(plan);
    cairn_map_unref(after);
    return share;
}

static void a_new_shard_takes_its_fair_share_and_no_more(void **state)
{
    (void)state;
    double exact = 0, counted = 0;
    uint8_t *owners = cairn_calloc(KEYS, 1);
    for (uint32_t count = 1; count <= JOINS_MAX; count++) {
        const struct cairn_map *map = map_of(count + 1, 1);
        uint32_t moved = 0;
        for (uint32_t i = 0; i < KEYS; i++) {
            uint32_t owner = cairn_map_owner(map, token_of(i));
            if (owner == owners[i])
                continue;
            assert_int_equal(owner, count);
            owners[i] = (uint8_t)owner;
            moved++;
        }
        cairn_map_unref(map);
        exact = fmax(exact, joining_share(count) * (count + 1));
        counted = fmax(counted, (double)moved / KEYS * (count + 1));
    }
    print_message("1 to %d shards and one more: at most %.4f of a fair share moves, %.4f counted\n",
                  JOINS_MAX, exact, counted);
    assert_true(exact <= JOIN_MAX);
    assert_true(counted <= JOIN_MAX);
    free(owners);
}

static void weight_sets_the_share(void **state)
{
    (void)state;
    static const double weights[] = {0.25, 0.5, 2, 3, 10};
    for (size_t i = 0; i < sizeof(weights) / sizeof(weights[0]); i++) {
        const struct cairn_map *map = map_of(4, weights[i]);
        double fair = weights[i] / (3 + weights[i]);
        print_message("weight %g beside three of 1: %.4f of a fair share\n", weights[i],
                      cairn_map_share(map, 3) / fair);
        assert_true(fabs(cairn_map_share(map, 3) / fair - 1) < 0.25);
        cairn_map_unref(map);
    }
}

static void more_weight_only_takes(void **state)
{
    (void)state;
    const struct cairn_map *map = map_of(6, 1), *plan;
    struct cairn_map_shard shards[6];
    memcpy(shards, map->shards, sizeof shards);
    shards[2].planned_weight = 1.7;
    assert_int_equal(cairn_map_with_plan(map, shards, 6, &plan, NULL), 0);
    assert_in_range(plan->moves_count, 1, 5);
    for (uint32_t i = 0; i < plan->moves_count; i++)
        assert_int_equal(plan->moves[i].target, 2);
    cairn_map_unref(map);
    cairn_map_unref(plan);
}

/* What replaying a log relies on: these owners must never change. */
static void owners_are_part_of_the_format(void **state)
{
    (void)state;
    const struct cairn_map *map = map_of(8, 1);
    uint64_t digest = 0;
    for (uint32_t i = 0; i < 10000; i++)
        digest = digest * 31 + cairn_map_owner(map, token_of(i));
    assert_int_equal(digest, UINT64_C(0xC1114B5653358344));
    cairn_map_unref(map);
}

static uint32_t owner_by_scan(const struct cairn_map_ring *ring, uint64_t token)
{
    for (uint32_t i = 0; i < ring->points_count; i++)
        if (ring->points[i].token >= token)
            return ring->points[i].shard;
    return ring->points[0].shard;
}

static void a_search_finds_what_a_scan_does(void **state)
{
    (void)state;
    uint64_t rng = cairn_test_seed();
    for (int round = 0; round < 40; round++) {
        const struct cairn_map *map = cairn_random_map(&rng);
        const struct cairn_map_ring *ring = ((const struct cairn_map_box *)map)->now;
        size_t count;
        uint64_t *tokens = cairn_map_tokens(map, map, &count);
        for (size_t i = 0; i < count; i++)
            for (uint64_t near = 0; near < 3; near++) {
                uint64_t token = tokens[i] - 1 + near;
                assert_int_equal(cairn_map_owner(map, token), owner_by_scan(ring, token));
            }
        for (uint32_t i = 0; i < 200; i++) {
            uint64_t token = cairn_test_random(&rng);
            assert_int_equal(cairn_map_owner(map, token), owner_by_scan(ring, token));
        }
        free(tokens);
        cairn_map_unref(map);
    }
}

/* Shares against the lengths of the arcs, with some moves of a plan done. */
static void shares_add_up_arcs(void **state)
{
    (void)state;
    const struct cairn_map *map = map_of(3, 1), *plan, *done;
    struct cairn_map_shard shards[3];
    memcpy(shards, map->shards, sizeof shards);
    shards[0].planned_weight = 0;
    assert_int_equal(cairn_map_with_plan(map, shards, 3, &plan, NULL), 0);
    assert_int_equal(cairn_map_with_done(plan, 0, 2, &done, NULL), 0);
    const struct cairn_map_ring *ring = ((const struct cairn_map_box *)map)->now;
    uint64_t lengths[3] = {0}, last = ring->points[ring->points_count - 1].token;
    for (uint32_t i = 0; i < ring->points_count; i++) {
        lengths[cairn_map_owner(done, ring->points[i].token)] += ring->points[i].token - last;
        last = ring->points[i].token;
    }
    for (uint32_t i = 0; i < 3; i++)
        assert_true(fabs(cairn_map_share(done, i) - ldexp((double)lengths[i], -64)) < 1e-15);
    assert_true(cairn_map_share(done, 2) > cairn_map_share(map, 2));
    assert_true(cairn_map_share(done, 1) == cairn_map_share(map, 1));
    assert_true(cairn_map_share(done, 77) == 0);
    cairn_map_unref(map);
    cairn_map_unref(plan);
    cairn_map_unref(done);
}

static void one_point_owns_everything(void **state)
{
    (void)state;
    const struct cairn_map_shard shard = {.id = 255, .weight = 0.0001};
    const struct cairn_map *map;
    struct cairn_map_spec spec = {.home = 255, .shards = &shard, .shards_count = 1, .vnodes = 1};
    assert_int_equal(make(&spec, &map, NULL), 0);
    assert_int_equal(cairn_map_owner(map, 0), 255);
    assert_int_equal(cairn_map_owner(map, UINT64_MAX), 255);
    assert_true(cairn_map_share(map, 255) == 1);
    const struct cairn_map *again = cairn_map_ref(map);
    cairn_map_unref(map);
    assert_int_equal(cairn_map_owner(again, 1), 255);
    cairn_map_unref(again);
    cairn_map_unref(NULL);
}

static void assert_refused(struct cairn_map_spec spec, const char *word)
{
    const struct cairn_map *map;
    struct cairn_error err = {0};
    assert_int_equal(make(&spec, &map, &err), CAIRN_EPARAM);
    assert_null(map);
    if (!strstr(err.message, word))
        fail_msg("\"%s\" does not name %s", err.message, word);
}

static void assert_taken(struct cairn_map_spec spec)
{
    const struct cairn_map *map;
    struct cairn_error err = {0};
    if (make(&spec, &map, &err) != 0)
        fail_msg("%s", err.message);
    cairn_map_unref(map);
}

static void shards_are_checked(void **state)
{
    (void)state;
    struct cairn_map_shard shards[] = {{.id = 0, .weight = 1}, {.id = 4, .weight = 1}};
    struct cairn_map_spec spec = {.shards = shards, .shards_count = 2};
    static const double bad_weights[] = {-1, -0.001, 1000.001, NAN, INFINITY};
    for (size_t i = 0; i < sizeof(bad_weights) / sizeof(bad_weights[0]); i++) {
        shards[1].weight = bad_weights[i];
        assert_refused(spec, "s4");
        shards[1].weight = 1;
        shards[1].planned_weight = bad_weights[i];
        assert_taken(spec); /* not looked at without a plan */
        spec.plan = 1;
        assert_refused(spec, "s4");
        spec.plan = 0;
    }
    shards[1].planned_weight = 0;
    shards[1].id = 0;
    assert_refused(spec, "s0 stands twice");
    shards[1].id = 4;
    spec.home = 3;
    assert_refused(spec, "s3");
    spec.home = 4;
    assert_taken(spec);
    shards[0].weight = shards[1].weight = 0;
    assert_refused(spec, "above 0");
    shards[0].weight = 1;
    assert_taken(spec);
    spec.plan = 1;
    assert_refused(spec, "planned weight above 0");
    spec.shards_count = 0;
    assert_refused(spec, "0 shards");
}

static void numbers_are_checked(void **state)
{
    (void)state;
    const struct cairn_map_shard shard = {.weight = 1, .planned_weight = 1};
    const struct cairn_map_spec good = {.epoch = 9, .shards = &shard, .shards_count = 1};
    const struct cairn_map *map;
    struct cairn_map_spec spec = good;
    spec.epoch = 0;
    assert_int_equal(cairn_map_new(&spec, &map, NULL), CAIRN_EPARAM);
    spec.epoch = (uint64_t)INT64_MAX + 1;
    assert_refused(spec, "epoch");
    spec.epoch = INT64_MAX;
    assert_taken(spec);
    spec = good;
    spec.plan = 10;
    assert_refused(spec, "plan");
    spec.plan = 9;
    spec.last_plan = 9;
    spec.last_outcome = CAIRN_PLAN_ABORTED;
    assert_refused(spec, "last_plan");
    spec.last_plan = 8;
    assert_taken(spec);
    spec.last_outcome = CAIRN_PLAN_NONE;
    assert_refused(spec, "last_outcome");
    spec.last_plan = 0;
    spec.last_outcome = CAIRN_PLAN_SUCCEEDED;
    assert_refused(spec, "last_outcome");
}

static void urls_are_checked(void **state)
{
    (void)state;
    static const char *const good[] = {"", "http://a:1", "https://shard-3.example_.org:65535",
                                       "http://10.0.0.1:8080", "http://[fe80::1]:80"};
    static const char *const bad[] = {"a",
                                      "a:1",
                                      "ftp://a:1",
                                      "http://",
                                      "http://a",
                                      "http://:1",
                                      "http://a:",
                                      "http://a:0",
                                      "http://a:65536",
                                      "http://a:1/",
                                      "http://a:+1",
                                      "http://a b:1",
                                      "http://a:1?x",
                                      "http://u@a:1",
                                      "http://[]:1",
                                      "http://[::1",
                                      "HTTP://a:1",
                                      "http://a\":1",
                                      "http://a:99999999999"};
    struct cairn_map_shard shard = {.id = 6, .weight = 1};
    struct cairn_map_spec spec = {.home = 6, .shards = &shard, .shards_count = 1};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        shard.url = cairn_str_from(good[i]);
        assert_taken(spec);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        shard.url = cairn_str_from(bad[i]);
        assert_refused(spec, "s6");
    }
    char text[CAIRN_URL_BYTES_MAX + 1];
    memset(text, 'a', sizeof text);
    memcpy(text, "http://", 7);
    memcpy(text + CAIRN_URL_BYTES_MAX - 3, ":80", 3);
    shard.url = (struct cairn_str){text, CAIRN_URL_BYTES_MAX};
    assert_taken(spec);
    memcpy(text + CAIRN_URL_BYTES_MAX - 3, "a:80", 4);
    shard.url = (struct cairn_str){text, CAIRN_URL_BYTES_MAX + 1};
    assert_refused(spec, "s6");
}

static void limits_hold_at_the_limit(void **state)
{
    (void)state;
    struct cairn_map_shard shards[CAIRN_SHARDS_MAX + 1];
    for (uint32_t i = 0; i <= CAIRN_SHARDS_MAX; i++)
        shards[i] = (struct cairn_map_shard){.id = i, .weight = 1};
    struct cairn_map_spec spec = {.shards = shards, .shards_count = CAIRN_SHARDS_MAX, .vnodes = 1};
    assert_taken(spec);
    spec.shards_count = CAIRN_SHARDS_MAX + 1;
    assert_refused(spec, "257 shards");
    spec.shards = shards + 1;
    spec.shards_count = CAIRN_SHARDS_MAX;
    spec.home = 1;
    assert_refused(spec, "s256");
    spec.shards_count = 1;
    shards[1].weight = CAIRN_SHARD_WEIGHT_MAX;
    assert_taken(spec);
    spec.vnodes = CAIRN_VNODES_MAX + 1;
    assert_refused(spec, "vnodes");
    spec.vnodes = CAIRN_VNODES_MAX;
    shards[1].weight = (double)CAIRN_RING_POINTS_MAX / CAIRN_VNODES_MAX;
    assert_taken(spec);
    shards[1].weight += 1.0 / CAIRN_VNODES_MAX;
    assert_refused(spec, "s1");
    shards[1].weight = 1;
    spec.shards = shards;
    spec.shards_count = CAIRN_SHARDS_MAX;
    assert_int_equal(CAIRN_SHARDS_MAX * CAIRN_VNODES_MAX, CAIRN_RING_POINTS_MAX);
    assert_taken(spec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_shards_have_like_shares),
        cmocka_unit_test(a_new_shard_takes_its_fair_share_and_no_more),
        cmocka_unit_test(weight_sets_the_share),
        cmocka_unit_test(more_weight_only_takes),
        cmocka_unit_test(owners_are_part_of_the_format),
        cmocka_unit_test(a_search_finds_what_a_scan_does),
        cmocka_unit_test(shares_add_up_arcs),
        cmocka_unit_test(one_point_owns_everything),
        cmocka_unit_test(shards_are_checked),
        cmocka_unit_test(numbers_are_checked),
        cmocka_unit_test(urls_are_checked),
        cmocka_unit_test(limits_hold_at_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
