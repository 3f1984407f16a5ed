/* A fuzz target's main where libFuzzer is not linked in: runs the files named, or else the target's
 * seeds and a bounded number of mutations of them.
 *
 *   fuzz_NAME [file...]      CAIRN_FUZZ_ROUNDS (default 5000), CAIRN_TEST_SEED */
#include "tests/fuzz/fuzz.h"
#include "tests/lib/testing.h"

enum { SEEDS_MAX = 64, ROUNDS_DEFAULT = 5000, EDITS_MAX = 8 };

struct input {
    uint8_t bytes[FUZZ_INPUT_BYTES_MAX];
    size_t size;
};

static struct input seeds[SEEDS_MAX], work;

/* A target whose input has no shape of its own needs no seeds: noise of several sizes. */
__attribute__((weak)) size_t fuzz_seed(unsigned at, uint8_t *out)
{
    size_t size = at < 10 ? (size_t)2 << at : 0;
    uint64_t random = at;
    for (size_t i = 0; i < size; i++)
        out[i] = (uint8_t)cairn_test_random(&random);
    return size;
}

/* In a block of exactly its size, so that a sanitizer sees any read beyond. */
static void run(const uint8_t *bytes, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    FUZZ_CHECK(exact != NULL);
    memcpy(exact, bytes, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

static int run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 1;
    }
    work.size = fread(work.bytes, 1, sizeof(work.bytes), file);
    fclose(file);
    run(work.bytes, work.size);
    return 0;
}

static size_t below(uint64_t *random, size_t bound)
{
    return bound ? (size_t)cairn_test_random_below(random, bound) : 0;
}

/* Values at which lengths and offsets go wrong. */
static void put_number(struct input *input, uint64_t *random)
{
    static const uint64_t numbers[] = {0,          1,         7,          0x7F,       0xFF,
                                       0x7FFF,     0xFFFF,    0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
                                       UINT64_MAX, INT64_MAX, 0x7F800000};
    size_t width = (size_t)1 << below(random, 4);
    if (input->size < width)
        return;
    uint64_t number = numbers[below(random, sizeof(numbers) / sizeof(numbers[0]))];
    memcpy(input->bytes + below(random, input->size - width + 1), &number, width);
}

static void remove_run(struct input *input, uint64_t *random)
{
    size_t at = below(random, input->size), len = 1 + below(random, 16);
    if (len > input->size - at)
        len = input->size - at;
    memmove(input->bytes + at, input->bytes + at + len, input->size - at - len);
    input->size -= len;
}

/* Insert a copy of some run at another place. */
static void repeat_run(struct input *input, uint64_t *random)
{
    uint8_t run_bytes[64];
    size_t from = below(random, input->size), len = 1 + below(random, sizeof(run_bytes));
    size_t at = below(random, input->size);
    if (len > input->size - from)
        len = input->size - from;
    if (input->size + len > sizeof(input->bytes))
        return;
    memcpy(run_bytes, input->bytes + from, len);
    memmove(input->bytes + at + len, input->bytes + at, input->size - at);
    memcpy(input->bytes + at, run_bytes, len);
    input->size += len;
}

static void edit(struct input *input, uint64_t *random)
{
    if (input->size == 0)
        return;
    size_t at = below(random, input->size);
    switch (below(random, 7)) {
    case 0:
        input->bytes[at] ^= (uint8_t)(1u << below(random, 8));
        break;
    case 1:
        input->bytes[at] = (uint8_t)below(random, 256);
        break;
    case 2:
        input->bytes[at] = input->bytes[below(random, input->size)];
        break;
    case 3:
        put_number(input, random);
        break;
    case 4:
        remove_run(input, random);
        break;
    case 5:
        repeat_run(input, random);
        break;
    default:
        if (below(random, 8) == 0)
            input->size = at;
        break;
    }
}

static unsigned load_seeds(void)
{
    unsigned count = 0;
    while (count < SEEDS_MAX && (seeds[count].size = fuzz_seed(count, seeds[count].bytes)) > 0)
        count++;
    FUZZ_CHECK(count > 0);
    return count;
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        int failed = 0;
        for (int i = 1; i < argc; i++)
            failed |= run_file(argv[i]);
        return failed;
    }
    const char *text = getenv("CAIRN_FUZZ_ROUNDS");
    unsigned long rounds = text ? strtoul(text, NULL, 10) : ROUNDS_DEFAULT;
    uint64_t random = cairn_test_seed();
    unsigned count = load_seeds();
    run((const uint8_t *)"", 0);
    for (unsigned i = 0; i < count; i++)
        run(seeds[i].bytes, seeds[i].size);
    for (unsigned long i = 0; i < rounds; i++) {
        const struct input *seed = &seeds[below(&random, count)];
        memcpy(work.bytes, seed->bytes, seed->size);
        work.size = seed->size;
        for (size_t edits = 1 + below(&random, EDITS_MAX); edits > 0; edits--)
            edit(&work, &random);
        run(work.bytes, work.size);
    }
    return 0;
}
