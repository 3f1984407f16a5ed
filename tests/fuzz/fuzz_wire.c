/* Any bytes as each binary body. The first byte says which, and is padded to keep the rest aligned.
 */
#include "base/wire.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/random_entity.h"

enum { HEAD = 8, KINDS = 6 };

static struct cairn_str make_body(unsigned kind, struct cairn_encoder *encoder,
                                  struct cairn_arena *arena)
{
    static struct cairn_str names[] = {{"country", 7}, {"b", 1}, {"", 0}};
    static const float f32[] = {1, -2, 0.5f};
    static const struct cairn_write_result results[2] = {{CAIRN_WRITE_PARTIAL, 1, 2}, {0}};
    struct cairn_projection projection = {false, names, 2, names, 1, CAIRN_META_FULL};
    struct cairn_get_request get = {names, 2, projection};
    struct cairn_search_request searches[2] = {
        {.vector = f32, .dim = 3, .k = 10, .projection = projection}, {.key = names[0], .k = 3}};
    struct cairn_row_cell cells[2] = {
        {names[0],
         {.type = CAIRN_TYPE_STRING, .len = 2, .as.bytes = (const uint8_t *)"DE"},
         {1, 2, 3}},
        {names[1], {.type = CAIRN_TYPE_INT64, .as.i64 = 7}, {4, 5, 6}}};
    struct cairn_vector vector = {names[0], f32, 3};
    struct cairn_wire_entity answer = {names[0], true, 0.5f, cells, 2, &vector, 1};
    struct cairn_entity entity;
    struct cairn_str entities[2];
    uint64_t random = 1;
    switch (kind) {
    case 0:
        random_entity(&random, arena, 5, 2, &entity);
        entities[0] = entities[1] = cairn_arena_dup(arena, cairn_entity_encode(encoder, &entity));
        return cairn_wire_upsert_request(encoder, entities, 2);
    case 1:
        return cairn_wire_get_request(encoder, &get);
    case 2:
        return cairn_wire_search_request(encoder, searches, 2);
    case 3:
        return cairn_wire_upsert_response(encoder, names, results, 2);
    case 4:
        cairn_wire_get_begin(encoder, CAIRN_META_FULL);
        cairn_wire_get_add(encoder, &answer);
        cairn_wire_get_add(encoder, &answer);
        return cairn_wire_get_end(encoder);
    default:
        cairn_wire_search_begin(encoder);
        cairn_wire_search_add_hit(encoder, &answer);
        cairn_wire_search_end_query(encoder);
        return cairn_wire_search_end(encoder);
    }
}

size_t fuzz_seed(unsigned at, uint8_t *out)
{
    if (at >= KINDS)
        return 0;
    struct cairn_encoder *encoder = cairn_encoder_new();
    struct cairn_arena arena = {0};
    struct cairn_str body = make_body(at, encoder, &arena);
    memset(out, 0, HEAD);
    out[0] = (uint8_t)at;
    memcpy(out + HEAD, body.ptr, body.len);
    size_t size = HEAD + (size_t)body.len;
    cairn_encoder_free(&encoder);
    cairn_arena_release(&arena);
    return size;
}

static void decode_upsert(struct cairn_str body, struct cairn_arena *arena)
{
    struct cairn_str *entities;
    struct cairn_entity entity;
    uint32_t count;
    if (cairn_wire_upsert_decode(body, arena, &entities, &count, NULL) != 0)
        return;
    for (uint32_t i = 0; i < count; i++)
        cairn_entity_decode(entities[i], arena, &entity, NULL);
}

static void decode(unsigned kind, struct cairn_str body, struct cairn_arena *arena)
{
    struct cairn_get_request get;
    struct cairn_search_request *searches;
    struct cairn_str *keys;
    struct cairn_write_result *results;
    struct cairn_wire_entity *entities;
    struct cairn_wire_hits *hits;
    uint32_t count;
    switch (kind % KINDS) {
    case 0:
        decode_upsert(body, arena);
        break;
    case 1:
        cairn_wire_get_decode(body, arena, &get, NULL);
        break;
    case 2:
        cairn_wire_search_decode(body, arena, &searches, &count, NULL);
        break;
    case 3:
        cairn_wire_upsert_response_decode(body, arena, &keys, &results, &count, NULL);
        break;
    case 4:
        cairn_wire_get_response_decode(body, arena, &entities, &count, NULL);
        break;
    default:
        cairn_wire_search_response_decode(body, arena, &hits, &count, NULL);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD)
        return 0;
    struct cairn_arena arena = {0};
    decode(data[0], fuzz_text(data + HEAD, size - HEAD), &arena);
    cairn_arena_release(&arena);
    return 0;
}
