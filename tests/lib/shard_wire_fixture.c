#include "tests/lib/shard_wire_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

struct wire_fixture wire;

int wire_setup(void **state)
{
    (void)state;
    wire = (struct wire_fixture){.encoder = cairn_encoder_new()};
    return 0;
}

int wire_teardown(void **state)
{
    (void)state;
    cairn_encoder_free(&wire.encoder);
    cairn_arena_release(&wire.arena);
    return 0;
}

struct cairn_str wire_filled(uint32_t len)
{
    char *text = cairn_arena_alloc(&wire.arena, (size_t)len + 1);
    memset(text, 'x', len);
    return (struct cairn_str){text, len};
}

struct cairn_shard_row wire_plain_row(const struct cairn_row *row)
{
    struct cairn_encoder *other = cairn_encoder_new();
    struct cairn_shard_row out = {
        .key = CAIRN_STR_LITERAL("k"),
        .found = true,
        .row = cairn_arena_dup(&wire.arena, cairn_row_encode(other, row)),
    };
    cairn_encoder_free(&other);
    return out;
}

void wire_expect(int got, int code, const char *mentions)
{
    struct cairn_error *err = &wire.err;
    if (got != code || (code != 0 && (err->code != code || !strstr(err->message, mentions))))
        fail_msg("%d, expected %d with '%s': %s", got, code, mentions, err->message);
    *err = (struct cairn_error){0};
}
