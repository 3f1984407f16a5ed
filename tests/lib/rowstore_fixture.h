/* A row store in a directory of its own, and a log in memory to apply to it. */
#ifndef CAIRN_TESTS_ROWSTORE_FIXTURE_H
#define CAIRN_TESTS_ROWSTORE_FIXTURE_H

#include "featurestore/rowstore.h"
#include "tests/lib/rowstore_model.h"
#include "tests/lib/testing.h"

struct rowstore_fixture {
    struct cairn_test_dir dir;
    char path[CAIRN_TEST_PATH_BYTES];
    struct cairn_rowstore *store;
    struct rowmodel log; /* records to apply; the model itself is not asked */
    struct cairn_apply_result results[256];
    struct cairn_apply_output out;
    struct cairn_error err;
};

/* For cmocka: *test becomes the fixture, with its store open. */
int rowstore_setup(void **test);
int rowstore_teardown(void **test);

int rowstore_open(struct rowstore_fixture *fixture);
/* Close and open; aborts when that fails. */
void rowstore_reopen(struct rowstore_fixture *fixture);

/* Log an event: any one, one that sets feature `n`, one that sets a vector, a delete. The event
 * time of the last three is the ingest time, which rises with each. */
void rowstore_add(struct rowstore_fixture *fixture, uint32_t collection,
                  const struct cairn_entity *entity);
void rowstore_add_number(struct rowstore_fixture *fixture, uint32_t collection, const char *key,
                         int64_t n);
void rowstore_add_vector(struct rowstore_fixture *fixture, uint32_t collection, const char *key,
                         const char *name, const float *f32, uint32_t dim);
void rowstore_add_delete(struct rowstore_fixture *fixture, uint32_t collection, const char *key);

/* Apply what was logged since the last apply. */
int rowstore_apply(struct rowstore_fixture *fixture);

/* Feature `n`; INT64_MIN when the entity or the feature is not there. Aborts on an error. */
int64_t rowstore_read_number(struct rowstore_fixture *fixture, uint32_t collection,
                             const char *key);
uint64_t rowstore_entities(struct rowstore_fixture *fixture, uint32_t collection);

/* Whether the store's map and imports are those of the records up to its applied offset. */
bool rowstore_moves_agree(struct cairn_rowstore *store, const struct rowmodel *model);

#endif
