/* Schemas and writes for tests of the shard and the router. */
#ifndef CAIRN_TESTS_FIXTURES_H
#define CAIRN_TESTS_FIXTURES_H

#include "shard/shard.h"

/* Parse a schema body; aborts on an error. The caller owns the reference. */
const struct cairn_schema *cairn_test_schema(const char *name, const char *json);

/* Encode an entity with one int64 feature `n` and, if f32 is not NULL, a vector `v`. The bytes are
 * in the arena, 8-byte aligned. */
struct cairn_str cairn_test_entity(struct cairn_arena *arena, const char *key, const char *route,
                                   int64_t n, const float *f32, uint32_t dim);
/* Encode a delete. */
struct cairn_str cairn_test_delete(struct cairn_arena *arena, const char *key);

/* Submit one item to a shard and wait; returns the write's error code. */
int cairn_test_shard_write(struct cairn_shard *shard, const struct cairn_shard_item *items,
                           uint32_t count, struct cairn_write_result *results,
                           struct cairn_error *err);

/* Value of feature `n` of a key on a shard; INT64_MIN when the entity is not there. */
int64_t cairn_test_shard_read(struct cairn_shard *shard, uint32_t collection, const char *key);

/* Make the shard go by a map of epoch 1 in which it is alone and owns everything. One record. */
void cairn_test_shard_own(struct cairn_shard *shard, uint32_t id);

#endif
