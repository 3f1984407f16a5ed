/* Random but reproducible requests and answers of shards for tests. */
#ifndef CAIRN_TESTS_LIB_RANDOM_SHARD_H
#define CAIRN_TESTS_LIB_RANDOM_SHARD_H

#include "base/shard_wire.h"

/* A valid one with something in every member, arrays of up to `count_max` elements; all of it in
 * the arena. `random` is the state of cairn_test_random (tests/lib/testing.h). */
void random_shard_request(uint64_t *random, struct cairn_arena *arena, uint32_t count_max,
                          struct cairn_shard_request *out);
void random_shard_answer(uint64_t *random, struct cairn_arena *arena, uint32_t count_max,
                         struct cairn_shard_answer *out);

#endif
