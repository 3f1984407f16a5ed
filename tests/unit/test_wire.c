#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/wire.h"
#include "tests/lib/random_entity.h"
#include "tests/lib/testing.h"

static struct cairn_encoder *encoder;
static struct cairn_arena arena;
static struct cairn_error err;

static int set_up(void **state)
{
    (void)state;
    encoder = cairn_encoder_new();
    err = (struct cairn_error){0};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cairn_encoder_free(&encoder);
    cairn_arena_release(&arena);
    return 0;
}

/* A block of exactly that size, `shift` bytes off alignment; freed by the caller with its base. */
static struct cairn_str moved(struct cairn_str bytes, uint32_t shift, char **base)
{
    *base = malloc((size_t)bytes.len + shift + 1);
    memcpy(*base + shift, bytes.ptr, bytes.len);
    return (struct cairn_str){*base + shift, bytes.len};
}

static void upserts_keep_the_entities_bytes(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    enum { COUNT = 40 };
    struct cairn_str sent[COUNT];
    for (int i = 0; i < COUNT; i++) {
        struct cairn_entity entity;
        random_entity(&random, &arena, 8, 2, &entity);
        sent[i] = cairn_arena_dup(&arena, cairn_entity_encode(encoder, &entity));
    }
    struct cairn_str body = cairn_wire_upsert_request(encoder, sent, COUNT);
    for (uint32_t shift = 0; shift < 8; shift++) {
        char *base;
        struct cairn_str *entities;
        uint32_t count;
        struct cairn_str copy = moved(body, shift, &base);
        assert_int_equal(cairn_wire_upsert_decode(copy, &arena, &entities, &count, &err), 0);
        assert_int_equal(count, COUNT);
        for (uint32_t i = 0; i < count; i++) {
            struct cairn_entity entity;
            assert_str_same(entities[i], sent[i]);
            assert_int_equal((uintptr_t)entities[i].ptr % 8, 0);
            assert_int_equal(cairn_entity_decode(entities[i], &arena, &entity, &err), 0);
        }
        free(base);
    }
}

static void upserts_are_bounded(void **state)
{
    (void)state;
    struct cairn_entity entity = {.key = CAIRN_STR_LITERAL("k"), .if_offset = CAIRN_OFFSET_NONE};
    struct cairn_str one = cairn_arena_dup(&arena, cairn_entity_encode(encoder, &entity));
    struct cairn_str *all = cairn_calloc(CAIRN_BATCH_ENTITIES_MAX + 1, sizeof(*all)), *entities;
    for (uint32_t i = 0; i <= CAIRN_BATCH_ENTITIES_MAX; i++)
        all[i] = one;
    uint32_t count;
    struct cairn_str body = cairn_wire_upsert_request(encoder, all, CAIRN_BATCH_ENTITIES_MAX);
    assert_int_equal(cairn_wire_upsert_decode(body, &arena, &entities, &count, &err), 0);
    assert_int_equal(count, CAIRN_BATCH_ENTITIES_MAX);
    body = cairn_wire_upsert_request(encoder, all, CAIRN_BATCH_ENTITIES_MAX + 1);
    assert_int_equal(cairn_wire_upsert_decode(body, &arena, &entities, &count, &err),
                     CAIRN_ETOOLARGE);
    assert_non_null(strstr(err.message, "entities"));
    free(all);
    body = cairn_wire_upsert_request(encoder, NULL, 0);
    assert_int_equal(cairn_wire_upsert_decode(body, &arena, &entities, &count, &err), 0);
    assert_int_equal(count, 0);
}

static uint32_t get_u32(const char *bytes, size_t at)
{
    uint32_t value;
    memcpy(&value, bytes + at, sizeof(value));
    return value;
}

/* Where the first field of the table at `table` points to. */
static size_t first_field(const char *bytes, size_t table)
{
    size_t vtable = table - (size_t)(int64_t)(int32_t)get_u32(bytes, table);
    uint16_t field;
    memcpy(&field, bytes + vtable + 4, sizeof(field));
    return table + field + get_u32(bytes, table + field);
}

/* A request whose entities all point to the same bytes: a new root, in front of a valid request of
 * one entity, with a vector of many offsets to that entity's table. */
static void shared_bytes_are_refused(void **state)
{
    (void)state;
    struct cairn_str large = {cairn_arena_zalloc(&arena, 4096), 4096}, *entities;
    struct cairn_str one = cairn_wire_upsert_request(encoder, &large, 1);
    size_t vector = first_field(one.ptr, get_u32(one.ptr, 0));
    size_t table = vector + 4 + get_u32(one.ptr, vector + 4);
    enum { COPIES = 63, HEAD = 7 }; /* together a multiple of 8 bytes */
    struct {
        uint32_t root, padding;
        uint16_t vtable[4];
        int32_t to_vtable;
        uint32_t field, count, offsets[COPIES];
    } head = {.root = 16, .vtable = {6, 8, 4}, .to_vtable = 8, .field = 4};
    assert_int_equal(sizeof(head), (COPIES + HEAD) * 4);
    struct cairn_buf body = {0};
    for (uint32_t copies = 1; copies <= COPIES; copies++) {
        uint32_t count;
        head.count = copies;
        for (uint32_t i = 0; i < copies; i++)
            head.offsets[i] = (uint32_t)(sizeof(head) + table - (HEAD + i) * 4);
        cairn_buf_clear(&body);
        cairn_buf_append(&body, &head, sizeof(head));
        cairn_buf_append(&body, one.ptr, one.len);
        struct cairn_str bytes = {body.data, (uint32_t)body.len};
        int code = cairn_wire_upsert_decode(bytes, &arena, &entities, &count, &err);
        assert_int_equal(code, copies == 1 ? 0 : CAIRN_EBODY);
        if (copies > 1)
            assert_non_null(strstr(err.message, "entities[1]: shares its bytes"));
    }
    cairn_buf_release(&body);
}

static void upsert_answers_round_trip(void **state)
{
    (void)state;
    struct cairn_str keys[] = {CAIRN_STR_LITERAL("a"), CAIRN_STR_LITERAL("bb"),
                               CAIRN_STR_LITERAL("c"), CAIRN_STR_LITERAL("d")};
    struct cairn_write_result results[4];
    static const char *const words[] = {"applied", "partial", "superseded", "unchanged"};
    for (uint32_t i = 0; i < 4; i++) {
        results[i] = (struct cairn_write_result){(enum cairn_write_status)i, i * 7, UINT64_MAX - i};
        assert_string_equal(cairn_write_status_name(results[i].status), words[i]);
    }
    struct cairn_str body = cairn_wire_upsert_response(encoder, keys, results, 4), *keys_back;
    struct cairn_write_result *back;
    uint32_t count;
    assert_int_equal(
        cairn_wire_upsert_response_decode(body, &arena, &keys_back, &back, &count, &err), 0);
    assert_int_equal(count, 4);
    for (int i = 0; i < 4; i++) {
        assert_str_same(keys[i], keys_back[i]);
        assert_int_equal(back[i].status, results[i].status);
        assert_int_equal(back[i].shard, results[i].shard);
        assert_true(back[i].offset == results[i].offset);
    }
}

static struct cairn_str filled(uint32_t len)
{
    char *text = cairn_arena_alloc(&arena, (size_t)len + 1);
    memset(text, 'x', len);
    return (struct cairn_str){text, len};
}

static int try_get(const struct cairn_get_request *request, struct cairn_get_request *out)
{
    struct cairn_str body = cairn_wire_get_request(encoder, request);
    return cairn_wire_get_decode(body, &arena, out, &err);
}

static void get_requests_round_trip(void **state)
{
    (void)state;
    struct cairn_str keys[] = {CAIRN_STR_LITERAL("k1"), CAIRN_STR_LITERAL("k2")};
    struct cairn_str names[] = {CAIRN_STR_LITERAL("a"), CAIRN_STR_LITERAL("b"),
                                CAIRN_STR_LITERAL("c")};
    struct cairn_get_request request = {keys, 2, {false, names, 3, names, 1, CAIRN_META_FULL}}, out;
    assert_int_equal(try_get(&request, &out), 0);
    assert_int_equal(out.keys_count, 2);
    assert_str_same(out.keys[1], keys[1]);
    assert_false(out.projection.all_features);
    assert_int_equal(out.projection.features_count, 3);
    assert_str_same(out.projection.features[2], names[2]);
    assert_int_equal(out.projection.vectors_count, 1);
    assert_str_same(out.projection.vectors[0], names[0]);
    assert_int_equal(out.projection.meta, CAIRN_META_FULL);
    request = (struct cairn_get_request){.projection.all_features = true};
    assert_int_equal(try_get(&request, &out), 0);
    assert_true(out.projection.all_features);
    assert_int_equal(out.keys_count, 0);
}

static void expect_get(const struct cairn_get_request *request, int code, const char *mentions)
{
    struct cairn_get_request out;
    err = (struct cairn_error){0};
    int got = try_get(request, &out);
    if (got != code || !strstr(err.message, mentions))
        fail_msg("%d: %s", got, err.message);
}

static void get_requests_are_bounded(void **state)
{
    (void)state;
    struct cairn_str *many = cairn_calloc(CAIRN_KEYS_MAX + 1, sizeof(*many));
    for (uint32_t i = 0; i <= CAIRN_KEYS_MAX; i++)
        many[i] = CAIRN_STR_LITERAL("k");
    struct cairn_get_request request = {.keys = many, .keys_count = CAIRN_KEYS_MAX};
    expect_get(&request, 0, "");
    request.keys_count++;
    expect_get(&request, CAIRN_ETOOLARGE, "keys");
    request.keys_count = 3;
    struct cairn_str keys[] = {filled(CAIRN_KEY_BYTES_MAX), filled(CAIRN_KEY_BYTES_MAX + 1),
                               CAIRN_STR_LITERAL(""), CAIRN_STR_LITERAL("\xFF")};
    int codes[] = {0, CAIRN_EKEY, CAIRN_EKEY, CAIRN_EUTF8};
    for (int i = 0; i < 4; i++) {
        many[2] = keys[i];
        expect_get(&request, codes[i], codes[i] ? "keys[2]" : "");
    }
    many[2] = many[0];
    request.keys_count = 0;
    request.projection.features = many;
    request.projection.features_count = CAIRN_FEATURES_MAX;
    expect_get(&request, 0, "");
    request.projection.features_count++;
    expect_get(&request, CAIRN_ETOOLARGE, "features");
    request.projection.features_count = 0;
    request.projection.vectors = many;
    request.projection.vectors_count = CAIRN_VECTORS_MAX;
    expect_get(&request, 0, "");
    request.projection.vectors_count++;
    expect_get(&request, CAIRN_ETOOLARGE, "vectors");
    request.projection.vectors_count = 1;
    struct cairn_str names[] = {filled(CAIRN_NAME_BYTES_MAX), filled(CAIRN_NAME_BYTES_MAX + 1),
                                CAIRN_STR_LITERAL(""), CAIRN_STR_LITERAL("\xFF")};
    int name_codes[] = {0, CAIRN_ENAME, CAIRN_ENAME, CAIRN_EUTF8};
    for (int i = 0; i < 4; i++) {
        many[0] = names[i];
        expect_get(&request, name_codes[i], name_codes[i] ? "vectors[0]" : "");
    }
    request = (struct cairn_get_request){.projection.meta = (enum cairn_meta)3};
    expect_get(&request, CAIRN_EFIELD, "meta");
    free(many);
}

static struct cairn_search_request plain_search(const float *f32, uint32_t dim)
{
    return (struct cairn_search_request){.vector = f32, .dim = dim, .k = 10};
}

static void search_requests_round_trip(void **state)
{
    (void)state;
    float f32[] = {1, -2, 0.5f};
    struct cairn_str names[] = {CAIRN_STR_LITERAL("a"), CAIRN_STR_LITERAL("b")};
    struct cairn_search_request requests[2] = {plain_search(f32, 3), {0}}, *out;
    requests[0].using = CAIRN_STR_LITERAL("default");
    requests[0].projection = (struct cairn_projection){.features = names, .features_count = 2};
    requests[0].params = (struct cairn_search_params){CAIRN_EF_MAX, CAIRN_NPROBE_MAX, true};
    requests[1].key = CAIRN_STR_LITERAL("like");
    requests[1].k = CAIRN_K_MAX;
    requests[1].allow_partial = true;
    requests[1].projection.all_features = true;
    struct cairn_str body = cairn_wire_search_request(encoder, requests, 2);
    uint32_t count;
    assert_int_equal(cairn_wire_search_decode(body, &arena, &out, &count, &err), 0);
    assert_int_equal(count, 2);
    assert_int_equal(out[0].dim, 3);
    assert_memory_equal(out[0].vector, f32, sizeof(f32));
    assert_str_same(out[0].using, requests[0].using);
    assert_int_equal(out[0].k, 10);
    assert_str_same(out[0].projection.features[1], names[1]);
    assert_int_equal(out[0].params.ef, CAIRN_EF_MAX);
    assert_int_equal(out[0].params.nprobe, CAIRN_NPROBE_MAX);
    assert_true(out[0].params.exact);
    assert_null(out[0].filter);
    assert_null(out[1].vector);
    assert_str_same(out[1].key, requests[1].key);
    assert_int_equal(out[1].k, CAIRN_K_MAX);
    assert_true(out[1].allow_partial && !out[0].allow_partial);
    assert_true(out[1].projection.all_features);
}

static void expect_search(const struct cairn_search_request *requests, uint32_t n, int code,
                          const char *mentions)
{
    struct cairn_search_request *out;
    uint32_t count;
    err = (struct cairn_error){0};
    struct cairn_str body = cairn_wire_search_request(encoder, requests, n);
    int got = cairn_wire_search_decode(body, &arena, &out, &count, &err);
    if (got != code || !strstr(err.message, mentions))
        fail_msg("%d: %s", got, err.message);
}

static void search_requests_are_bounded(void **state)
{
    (void)state;
    static float f32[CAIRN_DIM_MAX + 1];
    struct cairn_search_request *many = cairn_calloc(CAIRN_SEARCHES_MAX + 1, sizeof(*many));
    for (uint32_t i = 0; i <= CAIRN_SEARCHES_MAX; i++)
        many[i] = plain_search(f32, 2);
    expect_search(many, CAIRN_SEARCHES_MAX, 0, "");
    expect_search(many, CAIRN_SEARCHES_MAX + 1, CAIRN_ETOOLARGE, "searches");
    expect_search(many, 0, CAIRN_EFIELD, "searches");
    free(many);

    struct cairn_search_request two[2] = {plain_search(f32, 2), plain_search(f32, CAIRN_DIM_MAX)};
    expect_search(two, 2, 0, "");
    two[1].dim = CAIRN_DIM_MAX + 1;
    expect_search(two, 2, CAIRN_EDIMENSION, "searches[1]: vector");
    two[1].dim = 0;
    expect_search(two, 2, CAIRN_EDIMENSION, "searches[1]: vector");
    two[1].dim = 5;
    f32[4] = NAN;
    expect_search(two, 2, CAIRN_ENUMBER, "searches[1]: vector");
    f32[4] = 0;
    two[1].key = CAIRN_STR_LITERAL("k");
    expect_search(two, 2, CAIRN_EFIELD, "exactly one");
    two[1].vector = NULL;
    expect_search(two, 2, 0, "");
    two[1].key = filled(CAIRN_KEY_BYTES_MAX + 1);
    expect_search(two, 2, CAIRN_EKEY, "searches[1]");
    two[1].key.len = 0;
    expect_search(two, 2, CAIRN_EFIELD, "exactly one");
    two[1] = plain_search(f32, 5);
    uint32_t ks[] = {0, 1, CAIRN_K_MAX, CAIRN_K_MAX + 1};
    for (int i = 0; i < 4; i++) {
        two[1].k = ks[i];
        expect_search(two, 2, i % 3 ? 0 : CAIRN_EFIELD, i % 3 ? "" : "searches[1]: k");
    }
    two[1].k = 1;
    two[1].params.ef = CAIRN_EF_MAX + 1;
    expect_search(two, 2, CAIRN_EFIELD, "ef");
    two[1].params = (struct cairn_search_params){.nprobe = CAIRN_NPROBE_MAX + 1};
    expect_search(two, 2, CAIRN_EFIELD, "nprobe");
    two[1].params.nprobe = 0;
    two[1].using = filled(CAIRN_NAME_BYTES_MAX + 1);
    expect_search(two, 2, CAIRN_ENAME, "using");
    two[1].using = CAIRN_STR_LITERAL("\xFF");
    expect_search(two, 2, CAIRN_EUTF8, "using");
}

static struct cairn_wire_entity random_answer(uint64_t *random)
{
    struct cairn_row row;
    struct cairn_entity entity;
    random_row(random, &arena, 8, &row);
    random_entity(random, &arena, 0, 3, &entity);
    struct cairn_row_cell *cells =
        cairn_arena_alloc(&arena, (row.cells_count + 1) * sizeof(*cells));
    uint32_t count = 0;
    for (uint32_t i = 0; i < row.cells_count; i++) {
        if (row.cells[i].value.type != CAIRN_TYPE_VECTOR)
            cells[count++] = row.cells[i];
    }
    return (struct cairn_wire_entity){.key = entity.key,
                                      .found = cairn_test_random_below(random, 3) > 0,
                                      .score = (float)cairn_test_random_below(random, 1000) / 8,
                                      .features = cells,
                                      .features_count = count,
                                      .vectors = entity.vectors,
                                      .vectors_count = entity.vectors_count};
}

static void assert_answer_same(const struct cairn_wire_entity *a, const struct cairn_wire_entity *b,
                               bool stamps)
{
    assert_str_same(a->key, b->key);
    assert_int_equal(a->found, b->found);
    assert_true(a->score == b->score);
    assert_int_equal(a->features_count, b->features_count);
    for (uint32_t i = 0; i < a->features_count; i++) {
        assert_str_same(a->features[i].name, b->features[i].name);
        assert_value_same(&a->features[i].value, &b->features[i].value);
        if (stamps)
            assert_stamp_same(a->features[i].stamp, b->features[i].stamp);
    }
    assert_int_equal(a->vectors_count, b->vectors_count);
    for (uint32_t i = 0; i < a->vectors_count; i++) {
        assert_str_same(a->vectors[i].name, b->vectors[i].name);
        assert_int_equal(a->vectors[i].dim, b->vectors[i].dim);
        if (a->vectors[i].dim)
            assert_memory_equal(a->vectors[i].f32, b->vectors[i].f32, 4 * a->vectors[i].dim);
    }
}

static void answers_round_trip(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    for (int round = 0; round < 200; round++) {
        enum { COUNT = 9 };
        struct cairn_wire_entity sent[COUNT], *got;
        uint32_t count;
        enum cairn_meta meta = (enum cairn_meta)(round % 3);
        cairn_wire_get_begin(encoder, meta);
        for (int i = 0; i < COUNT; i++) {
            /* Every other entity has the names of the one before. */
            sent[i] = i % 2 ? sent[i - 1] : random_answer(&random);
            cairn_wire_get_add(encoder, &sent[i]);
        }
        struct cairn_str body = cairn_wire_get_end(encoder);
        assert_int_equal(cairn_wire_answer_bytes(encoder), body.len);
        assert_int_equal(cairn_wire_get_response_decode(body, &arena, &got, &count, &err), 0);
        assert_int_equal(count, COUNT);
        for (int i = 0; i < COUNT; i++)
            assert_answer_same(&sent[i], &got[i], meta != CAIRN_META_NONE);

        struct cairn_wire_hits *queries;
        cairn_wire_search_begin(encoder);
        cairn_wire_search_end_query(encoder); /* a query without hits */
        for (int i = 0; i < COUNT; i++) {
            cairn_wire_search_add_hit(encoder, &sent[i]);
            if (i == 3 || i == COUNT - 1)
                cairn_wire_search_end_query(encoder);
        }
        body = cairn_wire_search_end(encoder);
        assert_int_equal(cairn_wire_search_response_decode(body, &arena, &queries, &count, &err),
                         0);
        assert_int_equal(count, 3);
        assert_int_equal(queries[0].count, 0);
        assert_int_equal(queries[1].count, 4);
        assert_int_equal(queries[2].count, COUNT - 4);
        assert_answer_same(&sent[3], &queries[1].hits[3], false);
        assert_answer_same(&sent[4], &queries[2].hits[0], false);
        cairn_arena_reset(&arena);
    }
}

static void names_are_stored_once(void **state)
{
    (void)state;
    struct cairn_row_cell cells[4] = {0};
    static const char name[] = "a_long_feature_name_0";
    for (uint32_t i = 0; i < 4; i++)
        cells[i] = (struct cairn_row_cell){.name = {name, sizeof(name) - 1 - i},
                                           .value = {.type = CAIRN_TYPE_INT64, .as.i64 = i}};
    struct cairn_wire_entity entity = {
        .key = CAIRN_STR_LITERAL("k"), .found = true, .features = cells, .features_count = 4};
    uint32_t sizes[2];
    for (int round = 0; round < 2; round++) {
        cairn_wire_get_begin(encoder, CAIRN_META_NONE);
        for (int i = 0; i < 1 + 100 * round; i++)
            cairn_wire_get_add(encoder, &entity);
        sizes[round] = cairn_wire_get_end(encoder).len;
    }
    assert_true(sizes[1] - sizes[0] <= 100 * (4 * 16 + 64));
}

/* Every truncation and every flipped bit is refused or read without a sanitizer's report. */
static void damage(struct cairn_str body, int (*decode)(struct cairn_str))
{
    struct cairn_str whole = body;
    char *base;
    for (uint32_t len = 0; len < body.len; len++) {
        whole.len = len;
        decode(moved(whole, 0, &base));
        free(base);
    }
    struct cairn_str copy = moved(body, 0, &base);
    for (uint32_t at = 0; at < body.len; at++) {
        for (int bit = 0; bit <= 8; bit++) {
            base[at] = (char)(body.ptr[at] ^ (bit == 8 ? 0xFF : 1 << bit));
            decode(copy);
        }
        base[at] = body.ptr[at];
        cairn_arena_reset(&arena);
    }
    assert_int_equal(decode(copy), 0);
    free(base);
}

static int decode_upsert(struct cairn_str body)
{
    struct cairn_str *entities;
    uint32_t count;
    int code = cairn_wire_upsert_decode(body, &arena, &entities, &count, NULL);
    for (uint32_t i = 0; code == 0 && i < count; i++) {
        struct cairn_entity entity;
        cairn_entity_decode(entities[i], &arena, &entity, NULL);
    }
    return code;
}

static int decode_get(struct cairn_str body)
{
    struct cairn_get_request out;
    return cairn_wire_get_decode(body, &arena, &out, NULL);
}

static int decode_search(struct cairn_str body)
{
    struct cairn_search_request *out;
    uint32_t count;
    return cairn_wire_search_decode(body, &arena, &out, &count, NULL);
}

static int decode_upsert_answer(struct cairn_str body)
{
    struct cairn_str *keys;
    struct cairn_write_result *results;
    uint32_t count;
    return cairn_wire_upsert_response_decode(body, &arena, &keys, &results, &count, NULL);
}

static int decode_get_answer(struct cairn_str body)
{
    struct cairn_wire_entity *out;
    uint32_t count;
    return cairn_wire_get_response_decode(body, &arena, &out, &count, NULL);
}

static int decode_search_answer(struct cairn_str body)
{
    struct cairn_wire_hits *out;
    uint32_t count;
    return cairn_wire_search_response_decode(body, &arena, &out, &count, NULL);
}

static void damaged_bodies_are_refused_or_valid(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    struct cairn_encoder *other = cairn_encoder_new();
    struct cairn_arena keep = {0};
    struct cairn_entity entity;
    random_entity(&random, &keep, 4, 2, &entity);
    struct cairn_str one = cairn_arena_dup(&keep, cairn_entity_encode(encoder, &entity));
    struct cairn_str two[] = {one, one};
    damage(cairn_wire_upsert_request(encoder, two, 2), decode_upsert);

    struct cairn_str names[] = {CAIRN_STR_LITERAL("aa"), CAIRN_STR_LITERAL("b")};
    struct cairn_get_request get = {names, 2, {true, names, 2, names, 1, CAIRN_META_TIMES}};
    damage(cairn_wire_get_request(encoder, &get), decode_get);

    float f32[] = {1, 2};
    struct cairn_search_request searches[2] = {plain_search(f32, 2), {.key = names[0], .k = 3}};
    searches[1].projection = get.projection;
    damage(cairn_wire_search_request(encoder, searches, 2), decode_search);

    struct cairn_write_result results[2] = {{CAIRN_WRITE_PARTIAL, 1, 2}, {0}};
    damage(cairn_wire_upsert_response(encoder, names, results, 2), decode_upsert_answer);

    struct cairn_row_cell cells[2] = {
        {.name = names[0],
         .value = {.type = CAIRN_TYPE_STRING, .len = 2, .as.bytes = (const uint8_t *)"hi"},
         .stamp = {1, 2, 3}},
        {.name = names[1], .stamp = {4, 5, 6}}};
    struct cairn_vector vector = {names[0], f32, 2};
    struct cairn_wire_entity answer = {names[0], true, 0.5f, cells, 2, &vector, 1};
    cairn_wire_get_begin(other, CAIRN_META_FULL);
    cairn_wire_get_add(other, &answer);
    cairn_wire_get_add(other, &answer);
    damage(cairn_wire_get_end(other), decode_get_answer);
    cairn_wire_search_begin(other);
    cairn_wire_search_add_hit(other, &answer);
    cairn_wire_search_end_query(other);
    damage(cairn_wire_search_end(other), decode_search_answer);
    cairn_arena_release(&keep);
    cairn_encoder_free(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(upserts_keep_the_entities_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(upserts_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(shared_bytes_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(upsert_answers_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(get_requests_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(get_requests_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(search_requests_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(search_requests_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answers_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_are_stored_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_bodies_are_refused_or_valid, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
