#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hash.h"
#include "router/ring.h"

#define KEYS 200000u

static struct cairn_ring *ring_of(uint32_t shards, double last_weight)
{
    struct cairn_ring_member members[16];
    for (uint32_t i = 0; i < shards; i++)
        members[i] =
            (struct cairn_ring_member){.shard = i, .weight = i + 1 == shards ? last_weight : 1.0};
    struct cairn_ring *ring = NULL;
    struct cairn_error err = {0};
    assert_int_equal(cairn_ring_new(members, shards, 128, &ring, &err), 0);
    return ring;
}

static uint64_t token_of(uint32_t i)
{
    return cairn_hash64(&i, sizeof i);
}

static void every_token_has_a_member(void **state)
{
    (void)state;
    struct cairn_ring *ring = ring_of(5, 1.0);
    assert_true(cairn_ring_shard(ring, 0) < 5);
    assert_true(cairn_ring_shard(ring, UINT64_MAX) < 5);
    for (uint32_t i = 0; i < 1000; i++)
        assert_true(cairn_ring_shard(ring, token_of(i)) < 5);
    cairn_ring_free(&ring);
    assert_null(ring);
}

static void adding_a_shard_moves_keys_only_to_it(void **state)
{
    (void)state;
    for (uint32_t shards = 1; shards < 9; shards++) {
        struct cairn_ring *before = ring_of(shards, 1.0), *after = ring_of(shards + 1, 1.0);
        uint32_t moved = 0;
        for (uint32_t i = 0; i < KEYS; i++) {
            uint32_t from = cairn_ring_shard(before, token_of(i)),
                     to = cairn_ring_shard(after, token_of(i));
            if (from == to)
                continue;
            assert_int_equal(to, shards);
            moved++;
        }
        double share = (double)moved / KEYS;
        assert_true(share > 0.7 / (shards + 1) && share < 1.3 / (shards + 1));
        cairn_ring_free(&before);
        cairn_ring_free(&after);
    }
}

static void weight_sets_the_share(void **state)
{
    (void)state;
    struct cairn_ring *ring = ring_of(4, 3.0);
    uint32_t counts[4] = {0};
    for (uint32_t i = 0; i < KEYS; i++)
        counts[cairn_ring_shard(ring, token_of(i))]++;
    double share = (double)counts[3] / KEYS;
    assert_true(share > 0.42 && share < 0.58);
    cairn_ring_free(&ring);
}

static void bad_members_are_refused(void **state)
{
    (void)state;
    struct cairn_ring *ring = NULL;
    struct cairn_error err = {0};
    struct cairn_ring_member twice[] = {{.shard = 1, .weight = 1}, {.shard = 1, .weight = 1}};
    assert_int_equal(cairn_ring_new(twice, 2, 128, &ring, &err), CAIRN_EPARAM);
    assert_null(ring);
    assert_int_equal(cairn_ring_new(twice, 0, 128, &ring, &err), CAIRN_EPARAM);
    struct cairn_ring_member weightless = {.shard = 0, .weight = 0};
    assert_int_equal(cairn_ring_new(&weightless, 1, 128, &ring, &err), CAIRN_EPARAM);
    weightless.weight = -1;
    assert_int_equal(cairn_ring_new(&weightless, 1, 128, &ring, &err), CAIRN_EPARAM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_token_has_a_member),
        cmocka_unit_test(adding_a_shard_moves_keys_only_to_it),
        cmocka_unit_test(weight_sets_the_share),
        cmocka_unit_test(bad_members_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
