/* What the index tests share: a directory, synthetic vectors, and a naive model to compare with. */
#ifndef CAIRN_TESTS_INDEX_FIXTURE_H
#define CAIRN_TESTS_INDEX_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "index/index.h"
#include "tests/lib/testing.h"

/* Normally distributed, from a state of tests/lib/testing.h. */
float test_normal(uint64_t *random);

/* An index in its own temporary directory. */
struct index_fixture {
    struct cairn_test_dir dir;
    struct cairn_index_options options;
    struct cairn_index *index;
    char note[256];
};
void index_fixture_open(struct index_fixture *fixture, enum cairn_index_kind kind,
                        enum cairn_metric metric, uint32_t dim);
/* Close and open again, as a restart does. */
void index_fixture_reopen(struct index_fixture *fixture);
/* Open what was closed by hand, e.g. after damaging files. */
void index_fixture_open_again(struct index_fixture *fixture);
void index_fixture_close(struct index_fixture *fixture); /* removes the directory */

/* count vectors of dim components around `clusters` centres. The caller frees. */
float *test_clustered(uint64_t *random, uint32_t count, uint32_t dim, uint32_t clusters);

/* "k<number>"; `out` holds 16 bytes. Numbers are not padded, so key order differs from theirs. */
struct cairn_str test_key(uint32_t number, char *out);

/* The naive model: a table of all keys by number, searched by sorting everything. */
struct index_model {
    enum cairn_metric metric;
    uint32_t dim, capacity, live;
    bool *present;
    float *vectors; /* as the index stores them */
    uint64_t *offsets;
};
void index_model_init(struct index_model *model, enum cairn_metric metric, uint32_t dim,
                      uint32_t capacity);
void index_model_release(struct index_model *model);
void index_model_copy(struct index_model *to, const struct index_model *from); /* a new model */
void index_model_upsert(struct index_model *model, uint32_t number, const float *vector,
                        uint64_t offset);
void index_model_remove(struct index_model *model, uint32_t number);

struct model_hit {
    float score;
    uint32_t number;
};
/* The k best among present keys for which allow[number] (NULL: all). Returns how many. */
uint32_t index_model_search(const struct index_model *model, const float *query, uint32_t k,
                            const bool *allow, struct model_hit *hits);

/* Upsert into both. */
void index_put(struct index_fixture *fixture, struct index_model *model, uint32_t number,
               const float *vector, uint64_t offset);
void index_drop(struct index_fixture *fixture, struct index_model *model, uint32_t number,
                uint64_t offset);

/* Search the index and assert that the answer is the model's, hit for hit. */
void assert_search_exact(struct index_fixture *fixture, const struct index_model *model,
                         const float *query, uint32_t k, bool ask_exact, const bool *allow);
/* Search and return the recall against the model; asserts min(k, matches) well-ordered true hits.
 */
double search_recall(struct index_fixture *fixture, const struct index_model *model,
                     const float *query, uint32_t k, const bool *allow);

#endif
