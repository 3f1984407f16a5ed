/* Any bytes as an encoded entity: refused, or within all limits and equal after another round. */
#include "base/record.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/random_entity.h"

size_t fuzz_seed(unsigned at, uint8_t *out)
{
    if (at >= 16)
        return 0;
    uint64_t random = at;
    struct cairn_arena arena = {0};
    struct cairn_encoder *encoder = cairn_encoder_new();
    struct cairn_entity entity;
    random_entity(&random, &arena, at, at % 4, &entity);
    struct cairn_str bytes = cairn_entity_encode(encoder, &entity);
    FUZZ_CHECK(bytes.len <= FUZZ_INPUT_BYTES_MAX);
    memcpy(out, bytes.ptr, bytes.len);
    cairn_encoder_free(&encoder);
    cairn_arena_release(&arena);
    return bytes.len;
}

static void check_decoded(const struct cairn_entity *entity, struct cairn_arena *arena)
{
    struct cairn_encoder *encoder = cairn_encoder_new(), *other = cairn_encoder_new();
    struct cairn_entity again;
    FUZZ_CHECK(cairn_entity_check(entity, NULL) == 0);
    struct cairn_str once = cairn_entity_encode(encoder, entity);
    FUZZ_CHECK(cairn_entity_decode(once, arena, &again, NULL) == 0);
    struct cairn_str twice = cairn_entity_encode(other, &again);
    FUZZ_CHECK(cairn_str_eq(once, twice));
    cairn_encoder_free(&encoder);
    cairn_encoder_free(&other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct cairn_arena arena = {0};
    struct cairn_entity entity;
    if (cairn_entity_decode(fuzz_text(data, size), &arena, &entity, NULL) == 0)
        check_decoded(&entity, &arena);
    cairn_arena_release(&arena);
    return 0;
}
