/* What a fuzz target offers. libFuzzer calls the first; driver.c, which stands in for it where
 * there is none, calls both. */
#ifndef CAIRN_TESTS_FUZZ_H
#define CAIRN_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/str.h"

#define FUZZ_INPUT_BYTES_MAX 65536

/* A property of the code under test does not hold for this input. */
#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Write the at-th valid input to start from, at most FUZZ_INPUT_BYTES_MAX; 0: there are no more.
 * A target may leave it out. */
size_t fuzz_seed(unsigned at, uint8_t *out);

static inline struct cairn_str fuzz_text(const uint8_t *data, size_t size)
{
    return (struct cairn_str){(const char *)data, (uint32_t)size};
}

/* fuzz_seed over a list of texts. */
static inline size_t fuzz_seed_text(const char *const *texts, unsigned count, unsigned at,
                                    uint8_t *out)
{
    if (at >= count)
        return 0;
    size_t len = strlen(texts[at]);
    memcpy(out, texts[at], len);
    return len;
}

#endif
