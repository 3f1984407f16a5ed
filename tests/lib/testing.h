/* What most tests need: a directory of their own, a seed that can be repeated, random numbers. */
#ifndef CAIRN_TESTS_TESTING_H
#define CAIRN_TESTS_TESTING_H

#include <stddef.h>
#include <stdint.h>

#define CAIRN_TEST_PATH_BYTES 256

struct cairn_test_dir {
    char path[CAIRN_TEST_PATH_BYTES];
};

/* A new empty directory; aborts if there can be none. */
void cairn_test_dir_make(struct cairn_test_dir *dir);
/* Remove it with all that is in it. */
void cairn_test_dir_remove(struct cairn_test_dir *dir);
/* The path of `name` in it, in `out` of CAIRN_TEST_PATH_BYTES; returns `out`. */
char *cairn_test_dir_path(const struct cairn_test_dir *dir, const char *name, char *out);

/* CAIRN_TEST_SEED from the environment, or a fresh one; printed on standard error either way. */
uint64_t cairn_test_seed(void);
/* The next number of the sequence that *state starts (SplitMix64). */
uint64_t cairn_test_random(uint64_t *state);
/* The same, below `bound`. */
uint64_t cairn_test_random_below(uint64_t *state, uint64_t bound);

#endif
