/* What tests of base/shard_wire.h encode and decode with. */
#ifndef CAIRN_TESTS_LIB_SHARD_WIRE_FIXTURE_H
#define CAIRN_TESTS_LIB_SHARD_WIRE_FIXTURE_H

#include "base/shard_wire.h"

struct wire_fixture {
    struct cairn_encoder *encoder;
    struct cairn_arena arena;
    struct cairn_error err;
};

/* What the running case uses. */
extern struct wire_fixture wire;

/* For cmocka: make it for a case; release what it holds. */
int wire_setup(void **state);
int wire_teardown(void **state);

/* `len` letters, in the arena. */
struct cairn_str wire_filled(uint32_t len);

/* What an answer has of a row that was found, without vectors; in the arena. Leaves the encoder. */
struct cairn_shard_row wire_plain_row(const struct cairn_row *row);

/* Fail the test unless `got` is `code` and, when that is not 0, wire.err has it and a
 * message with `mentions` in it. Clears that error. */
void wire_expect(int got, int code, const char *mentions);

#endif
