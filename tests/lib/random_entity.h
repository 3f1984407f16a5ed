/* Random but reproducible entities and rows for tests. */
#ifndef CAIRN_TESTS_LIB_RANDOM_ENTITY_H
#define CAIRN_TESTS_LIB_RANDOM_ENTITY_H

#include "base/buf.h"
#include "base/record.h"

/* `random` is the state of cairn_test_random (tests/lib/testing.h). */

/* A valid value of a random type (NULL, scalars and lists); its bytes are in the arena. */
void random_value(uint64_t *random, struct cairn_arena *arena, struct cairn_value *out);

/* A valid entity with up to `features_max` features and `vectors_max` vectors; everything in the
 * arena. */
void random_entity(uint64_t *random, struct cairn_arena *arena, uint32_t features_max,
                   uint32_t vectors_max, struct cairn_entity *out);

/* A valid row with sorted cells. */
void random_row(uint64_t *random, struct cairn_arena *arena, uint32_t cells_max,
                struct cairn_row *out);

/* cmocka assertions that two things are the same. */
void assert_value_same(const struct cairn_value *a, const struct cairn_value *b);
void assert_entity_same(const struct cairn_entity *a, const struct cairn_entity *b);
void assert_provenance_same(const struct cairn_provenance *a, const struct cairn_provenance *b);
void assert_stamp_same(struct cairn_stamp a, struct cairn_stamp b);
void assert_str_same(struct cairn_str a, struct cairn_str b);

#endif
