/* Random shard maps and plans, and every token at which ownership can differ. */
#ifndef CAIRN_TESTS_RANDOM_MAP_H
#define CAIRN_TESTS_RANDOM_MAP_H

#include "base/shardmap.h"

/* A map without a plan, of few shards with any ids and few points. The caller owns it. */
const struct cairn_map *cairn_random_map(uint64_t *random);
/* The map with a plan that changes, drains and adds shards at random. The caller owns it. */
const struct cairn_map *cairn_random_plan(const struct cairn_map *map, uint64_t *random);

/* The last token of every arc of the rings of both maps, and the highest token: what holds for all
 * of these holds for every token. The caller frees it. */
uint64_t *cairn_map_tokens(const struct cairn_map *one, const struct cairn_map *other,
                           size_t *count);

#endif
