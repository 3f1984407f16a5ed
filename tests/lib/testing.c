#include "tests/lib/testing.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/io.h"

void cairn_test_dir_make(struct cairn_test_dir *dir)
{
    snprintf(dir->path, sizeof(dir->path), "/tmp/cairn-test-XXXXXX");
    if (!mkdtemp(dir->path)) {
        perror(dir->path);
        abort();
    }
}

void cairn_test_dir_remove(struct cairn_test_dir *dir)
{
    if (cairn_io_remove_tree(cairn_io_posix(), dir->path) != 0)
        fprintf(stderr, "%s was left behind\n", dir->path);
}

char *cairn_test_dir_path(const struct cairn_test_dir *dir, const char *name, char *out)
{
    int len = snprintf(out, CAIRN_TEST_PATH_BYTES, "%s/%s", dir->path, name);
    if (len < 0 || len >= CAIRN_TEST_PATH_BYTES)
        abort();
    return out;
}

uint64_t cairn_test_seed(void)
{
    const char *given = getenv("CAIRN_TEST_SEED");
    const struct cairn_io *io = cairn_io_posix();
    uint64_t seed = given ? strtoull(given, NULL, 0) : io->random(io->context);
    fprintf(stderr, "CAIRN_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/* Steele, Lea, Flood: Fast splittable pseudorandom number generators (2014). */
uint64_t cairn_test_random(uint64_t *state)
{
    uint64_t mixed = *state += UINT64_C(0x9E3779B97F4A7C15);
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94D049BB133111EB);
    return mixed ^ (mixed >> 31);
}

uint64_t cairn_test_random_below(uint64_t *state, uint64_t bound)
{
    return cairn_test_random(state) % bound;
}
