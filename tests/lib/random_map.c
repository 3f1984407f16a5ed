#include "tests/lib/random_map.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/shardmap_private.h"
#include "tests/lib/testing.h"

enum { SHARDS_AT_FIRST = 8, SHARDS_ADDED = 4 };

static double random_weight(uint64_t *random)
{
    static const double weights[] = {0, 0.001, 0.5, 1, 1, 2, 7};
    size_t at = cairn_test_random_below(random, sizeof(weights) / sizeof(weights[0]) + 1);
    return at < sizeof(weights) / sizeof(weights[0])
               ? weights[at]
               : (double)cairn_test_random_below(random, 1000) / 300;
}

static struct cairn_map_shard random_shard(uint64_t *random)
{
    static const char *const urls[] = {"", "http://127.0.0.1:8080", "https://[::1]:443"};
    return (struct cairn_map_shard){
        .id = (uint32_t)cairn_test_random_below(random, CAIRN_SHARDS_MAX),
        .weight = random_weight(random),
        .planned_weight = random_weight(random),
        .url = cairn_str_from(urls[cairn_test_random_below(random, 3)])};
}

/* Add up to `most` shards with ids of their own; returns the new count. */
static uint32_t add_shards(struct cairn_map_shard *shards, uint32_t count, uint64_t most,
                           uint64_t *random)
{
    for (uint64_t left = cairn_test_random_below(random, most + 1); left > 0; left--) {
        shards[count] = random_shard(random);
        uint32_t i = 0;
        while (shards[i].id != shards[count].id)
            i++;
        count += i == count;
    }
    return count;
}

static void must(int code, const struct cairn_error *err)
{
    if (code == 0)
        return;
    fprintf(stderr, "a random map was refused: %s\n", err->message);
    abort();
}

const struct cairn_map *cairn_random_map(uint64_t *random)
{
    struct cairn_map_shard shards[SHARDS_AT_FIRST + 1];
    const struct cairn_map *map = NULL;
    struct cairn_error err = {0};
    shards[0] = random_shard(random);
    shards[0].weight = 1;
    uint32_t count = add_shards(shards, 1, SHARDS_AT_FIRST, random);
    struct cairn_map_spec spec = {
        .cluster = cairn_test_random(random),
        .epoch = 1 + cairn_test_random_below(random, 100),
        .vnodes = 1 + (uint32_t)cairn_test_random_below(random, 32),
        .home = shards[cairn_test_random_below(random, count)].id,
        .shards = shards,
        .shards_count = count,
    };
    must(cairn_map_new(&spec, &map, &err), &err);
    return map;
}

const struct cairn_map *cairn_random_plan(const struct cairn_map *map, uint64_t *random)
{
    struct cairn_map_shard shards[CAIRN_SHARDS_MAX + SHARDS_ADDED];
    const struct cairn_map *out = NULL;
    struct cairn_error err = {0};
    memcpy(shards, map->shards, map->shards_count * sizeof(*shards));
    for (uint32_t i = 0; i < map->shards_count; i++)
        if (cairn_test_random_below(random, 2))
            shards[i].planned_weight = random_weight(random);
    uint32_t count = add_shards(shards, map->shards_count, SHARDS_ADDED, random);
    for (uint32_t i = map->shards_count; i < count; i++)
        shards[i].weight = 0;
    uint32_t owner = (uint32_t)cairn_test_random_below(random, count);
    if (shards[owner].planned_weight == 0)
        shards[owner].planned_weight = 1;
    must(cairn_map_with_plan(map, shards, count, &out, &err), &err);
    return out;
}

uint64_t *cairn_map_tokens(const struct cairn_map *one, const struct cairn_map *other,
                           size_t *count)
{
    const struct cairn_map_box *a = (const struct cairn_map_box *)one;
    const struct cairn_map_box *b = (const struct cairn_map_box *)other;
    const struct cairn_map_ring *rings[] = {a->now, a->planned, b->now, b->planned};
    size_t room = 1;
    for (int i = 0; i < 4; i++)
        room += rings[i] ? rings[i]->points_count : 0;
    uint64_t *tokens = cairn_malloc(room * sizeof(*tokens));
    *count = 0;
    tokens[(*count)++] = UINT64_MAX;
    for (int i = 0; i < 4; i++)
        for (uint32_t at = 0; rings[i] && at < rings[i]->points_count; at++)
            tokens[(*count)++] = rings[i]->points[at].token;
    return tokens;
}
