/* Any bytes as what routers and shards say, and as the log payloads of moves. The first byte says
 * which, and is padded to keep the rest aligned. What is accepted must encode to what decodes to
 * the same again. */
#include "base/shard_wire.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/random_shard.h"

enum { HEAD = 8, KINDS = 4, SEEDS = 16, ARRAYS = 3 };

size_t fuzz_seed(unsigned at, uint8_t *out)
{
    if (at >= SEEDS)
        return 0;
    static const struct cairn_str keys[] = {{"a", 1}, {"country", 7}};
    uint64_t random = at;
    struct cairn_encoder *encoder = cairn_encoder_new();
    struct cairn_arena arena = {0};
    struct cairn_shard_request request;
    struct cairn_shard_answer answer;
    struct cairn_imported imported = {1, 2, 3, 4, 5, keys[1]};
    struct cairn_str body;
    switch (at % KINDS) {
    case 0:
        random_shard_request(&random, &arena, ARRAYS, &request);
        body = cairn_shard_request_encode(encoder, &request);
        break;
    case 1:
        random_shard_answer(&random, &arena, ARRAYS, &answer);
        body = cairn_shard_answer_encode(encoder, &answer);
        break;
    case 2:
        body = cairn_imported_encode(encoder, &imported);
        break;
    default:
        body = cairn_forget_encode(encoder, keys, 2);
        break;
    }
    FUZZ_CHECK(HEAD + (size_t)body.len <= FUZZ_INPUT_BYTES_MAX);
    memset(out, 0, HEAD);
    out[0] = (uint8_t)at;
    memcpy(out + HEAD, body.ptr, body.len);
    size_t size = HEAD + (size_t)body.len;
    cairn_encoder_free(&encoder);
    cairn_arena_release(&arena);
    return size;
}

/* Every cell that a view hands out can be read. */
static void read_rows(const struct cairn_shard_answer *answer, struct cairn_arena *arena)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < answer->rows_count; i++) {
        struct cairn_row_view view;
        struct cairn_row_cell cell;
        struct cairn_provenance provenance;
        if (answer->rows[i].row.len == 0)
            continue;
        cairn_row_view_init(&view, answer->rows[i].row);
        for (uint32_t j = 0; j < cairn_row_view_count(&view); j++) {
            cairn_row_view_cell(&view, j, &cell);
            cairn_value_eq(&cell.value, &cell.value);
            sum += cairn_utf8_valid(cell.name) + cell.stamp.offset;
        }
        cairn_row_view_provenance(&view, arena, &provenance);
        sum += cairn_utf8_valid(provenance.source) + cairn_row_view_newest(&view).offset +
               cairn_row_view_tombstone(&view).offset;
        sum += cairn_utf8_valid(cairn_row_view_route(&view)) + cairn_row_view_exists(&view);
    }
    volatile uint64_t keep = sum;
    (void)keep;
}

static void check_request(struct cairn_str body, struct cairn_arena *arena,
                          struct cairn_encoder *encoder, struct cairn_encoder *other)
{
    struct cairn_shard_request request, again;
    if (cairn_shard_request_decode(body, arena, &request, NULL) != 0)
        return;
    struct cairn_str once = cairn_shard_request_encode(encoder, &request);
    FUZZ_CHECK(cairn_shard_request_decode(once, arena, &again, NULL) == 0);
    FUZZ_CHECK(cairn_str_eq(once, cairn_shard_request_encode(other, &again)));
}

static void check_answer(struct cairn_str body, struct cairn_arena *arena,
                         struct cairn_encoder *encoder, struct cairn_encoder *other)
{
    struct cairn_shard_answer answer, again;
    if (cairn_shard_answer_decode(body, arena, &answer, NULL) != 0)
        return;
    read_rows(&answer, arena);
    struct cairn_str once = cairn_shard_answer_encode(encoder, &answer);
    FUZZ_CHECK(cairn_shard_answer_decode(once, arena, &again, NULL) == 0);
    FUZZ_CHECK(cairn_str_eq(once, cairn_shard_answer_encode(other, &again)));
}

static void check_payload(unsigned kind, struct cairn_str body, struct cairn_arena *arena,
                          struct cairn_encoder *encoder)
{
    struct cairn_imported imported, again;
    struct cairn_str *keys;
    uint32_t count;
    if (kind == 2 && cairn_imported_decode(body, &imported, NULL) == 0) {
        struct cairn_str once = cairn_imported_encode(encoder, &imported);
        FUZZ_CHECK(cairn_imported_decode(once, &again, NULL) == 0);
        FUZZ_CHECK(cairn_str_eq(imported.entity, again.entity));
    }
    if (kind == 3 && cairn_forget_decode(body, arena, &keys, &count, NULL) == 0) {
        uint32_t keys_count = count;
        struct cairn_str once = cairn_forget_encode(encoder, keys, count);
        FUZZ_CHECK(cairn_forget_decode(once, arena, &keys, &count, NULL) == 0);
        FUZZ_CHECK(count == keys_count);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD)
        return 0;
    struct cairn_arena arena = {0};
    struct cairn_encoder *encoder = cairn_encoder_new(), *other = cairn_encoder_new();
    struct cairn_str body = fuzz_text(data + HEAD, size - HEAD);
    unsigned kind = data[0] % KINDS;
    if (kind == 0)
        check_request(body, &arena, encoder, other);
    else if (kind == 1)
        check_answer(body, &arena, encoder, other);
    else
        check_payload(kind, body, &arena, encoder);
    cairn_encoder_free(&encoder);
    cairn_encoder_free(&other);
    cairn_arena_release(&arena);
    return 0;
}
