/* Two shards in a directory of their own, and the steps of a move between them, without routers.
 *
 * The fixture knows what every key must be, wherever it is: what is put through it, it remembers.
 * Unless something else is said, the test fails when a step does. */
#ifndef CAIRN_TESTS_LIB_SHARD_MOVE_FIXTURE_H
#define CAIRN_TESTS_LIB_SHARD_MOVE_FIXTURE_H

#include "base/buf.h"
#include "shard/shard.h"
#include "tests/lib/testing.h"

#define CAIRN_TEST_MOVE_COLLECTION  7u
#define CAIRN_TEST_MOVE_KEYS        600u
#define CAIRN_TEST_MOVE_KEY_BYTES   16u
#define CAIRN_TEST_MOVE_DEADLINE_US 20000000u /* of whatever is waited for */

struct cairn_test_move {
    struct cairn_test_dir dir;
    struct cairn_shard_options options[2]; /* a change counts from the next open */
    char paths[2][CAIRN_TEST_PATH_BYTES];
    struct cairn_shard *shards[2];
    const struct cairn_schema *schema;
    const struct cairn_map *map; /* the newest */
    struct cairn_arena arena;
    int64_t values[CAIRN_TEST_MOVE_KEYS]; /* what each key must be; INT64_MIN: deleted */
};

/* Fail the test with the error's message unless `code` is 0. */
void cairn_test_check(int code, const struct cairn_error *err);

/* For cmocka: *state becomes the fixture. Both shards are open and have the schema; shard 0 is
 * alone in the map, shard 1 has none. All keys were written, some twice, some then deleted. */
int cairn_test_move_setup(void **state);
int cairn_test_move_teardown(void **state);

void cairn_test_move_open(struct cairn_test_move *f, uint32_t id);
void cairn_test_move_reopen(struct cairn_test_move *f, uint32_t id);
/* Write the schema to the shard's log. */
void cairn_test_move_write_schema(struct cairn_test_move *f, uint32_t shard);

/* Make `map`, whose reference is taken over, the newest. No shard is told. */
void cairn_test_move_take_map(struct cairn_test_move *f, const struct cairn_map *map);
/* Give the newest map to a shard, without a fence. */
void cairn_test_move_adopt(struct cairn_test_move *f, uint32_t id);

/* The name of key `i`, in `key` of CAIRN_TEST_MOVE_KEY_BYTES. */
void cairn_test_move_key(uint32_t i, char *key);
/* Its owner by the newest map. */
uint32_t cairn_test_move_owner(const struct cairn_test_move *f, uint32_t i);
/* A key that the move takes along. */
uint32_t cairn_test_move_moving_key(const struct cairn_test_move *f,
                                    const struct cairn_shard_move *move);
/* A write that sets key `i` to `n`, or deletes it when that is INT64_MIN. Lives in the arena. */
struct cairn_shard_item cairn_test_move_item(struct cairn_test_move *f, uint32_t i, int64_t n);
/* Write it to a shard. Returns the code; `n` is remembered when that is 0. */
int cairn_test_move_try_put(struct cairn_test_move *f, uint32_t shard, uint32_t i, int64_t n);
/* Write it to its owner. */
void cairn_test_move_put(struct cairn_test_move *f, uint32_t i, int64_t n);

/* Plan weights for s0 and s1, known to both. Returns the plan's only move. */
struct cairn_shard_move cairn_test_move_plan(struct cairn_test_move *f, double w0, double w1);
/* Begin, or go on with, the import. Returns the source's offset that the target has reached. */
uint64_t cairn_test_move_begin_import(struct cairn_test_move *f,
                                      const struct cairn_shard_move *move);
/* One step of the copy from *reached, which it moves on; returns whether the target has all that
 * the source's log had. */
bool cairn_test_move_copy_step(struct cairn_test_move *f, const struct cairn_shard_move *move,
                               uint64_t *reached, uint64_t bytes_max);
/* All of a move: copy, freeze, copy the rest, compare digests, release. Both shards know then. */
void cairn_test_move_release(struct cairn_test_move *f, const struct cairn_shard_move *move);
/* End the plan, for both shards. */
void cairn_test_move_finish(struct cairn_test_move *f);

/* Every key is on its owner with its value, and nowhere else; scans and counts agree. */
void cairn_test_move_expect_all(struct cairn_test_move *f);
/* Wait until no shard has rows of tokens that are not its own, and has noted so on its disk. */
void cairn_test_move_wait_until_clean(struct cairn_test_move *f);

#endif
