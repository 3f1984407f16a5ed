#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/record.h"
#include "tests/lib/random_entity.h"
#include "tests/lib/testing.h"

static struct cairn_encoder *encoder;
static struct cairn_arena arena;

static int set_up(void **state)
{
    (void)state;
    encoder = cairn_encoder_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cairn_encoder_free(&encoder);
    assert_null(encoder);
    cairn_arena_release(&arena);
    return 0;
}

/* Decode a copy in a block of exactly its size, so that a sanitizer sees any read beyond. */
static int decode_copy(struct cairn_str bytes, struct cairn_entity *out, struct cairn_error *err)
{
    char *copy = malloc(bytes.len ? bytes.len : 1);
    memcpy(copy, bytes.ptr, bytes.len);
    int code = cairn_entity_decode((struct cairn_str){copy, bytes.len}, &arena, out, err);
    if (code == 0) { /* whatever was accepted must survive being written again */
        assert_int_equal(cairn_entity_check(out, NULL), 0);
        struct cairn_encoder *other = cairn_encoder_new();
        struct cairn_entity again;
        assert_int_equal(cairn_entity_decode(cairn_entity_encode(other, out), &arena, &again, NULL),
                         0);
        assert_entity_same(out, &again);
        cairn_encoder_free(&other);
    }
    free(copy);
    return code;
}

/* The entity's own check and decode must agree. */
static void check(const struct cairn_entity *entity, int code, const char *mentions)
{
    struct cairn_error err = {0};
    assert_int_equal(cairn_entity_check(entity, &err), code);
    if (code != 0) {
        assert_int_equal(err.code, code);
        assert_non_null(strstr(err.message, mentions));
    }
    struct cairn_entity out;
    err = (struct cairn_error){0};
    struct cairn_str bytes = cairn_entity_encode(encoder, entity);
    assert_int_equal((uintptr_t)bytes.ptr % 8, 0);
    if (code != 0) {
        assert_int_equal(decode_copy(bytes, &out, &err), CAIRN_EBODY);
        assert_int_equal(err.code, CAIRN_EBODY);
    } else {
        assert_int_equal(decode_copy(bytes, &out, &err), 0);
    }
    cairn_arena_reset(&arena);
}

static struct cairn_entity plain(void)
{
    return (struct cairn_entity){.key = CAIRN_STR_LITERAL("k"),
                                 .event_time_us = CAIRN_TIME_NONE,
                                 .if_offset = CAIRN_OFFSET_NONE};
}

static struct cairn_str filled(char c, uint32_t len)
{
    char *text = cairn_arena_alloc(&arena, (size_t)len + 1);
    memset(text, c, (size_t)len + 1);
    return (struct cairn_str){text, len};
}

static void entities_round_trip(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    for (int i = 0; i < 2000; i++) {
        struct cairn_entity entity, out;
        random_entity(&random, &arena, i % 50 == 0 ? 300 : 10, 4, &entity);
        struct cairn_error err = {0};
        assert_int_equal(cairn_entity_check(&entity, &err), 0);
        struct cairn_str bytes = cairn_entity_encode(encoder, &entity);
        assert_int_equal((uintptr_t)bytes.ptr % 8, 0);
        assert_int_equal(bytes.len % 8, 0);
        assert_int_equal(cairn_entity_decode(bytes, &arena, &out, &err), 0);
        assert_entity_same(&entity, &out);
        cairn_arena_reset(&arena);
    }
}

static void keys_and_routes_are_bounded(void **state)
{
    (void)state;
    struct cairn_entity entity = plain();
    entity.key = filled('k', CAIRN_KEY_BYTES_MAX);
    entity.route = filled('r', CAIRN_KEY_BYTES_MAX);
    check(&entity, 0, "");
    entity = plain();
    entity.key = filled('k', CAIRN_KEY_BYTES_MAX + 1);
    check(&entity, CAIRN_EKEY, "key");
    entity = plain();
    entity.route = filled('r', CAIRN_KEY_BYTES_MAX + 1);
    check(&entity, CAIRN_EKEY, "route");
    entity = plain();
    entity.key = (struct cairn_str){"", 0};
    check(&entity, CAIRN_EKEY, "key");
    entity.key = CAIRN_STR_LITERAL("\xFF");
    check(&entity, CAIRN_EUTF8, "key");
    entity = plain();
    entity.route = CAIRN_STR_LITERAL("\xC0\x80");
    check(&entity, CAIRN_EUTF8, "route");
}

static void times_and_ops_are_checked(void **state)
{
    (void)state;
    struct cairn_entity entity = plain();
    entity.event_time_us = CAIRN_TIME_MAX;
    check(&entity, 0, "");
    entity.event_time_us = CAIRN_TIME_MAX + 1;
    check(&entity, CAIRN_ETIME, "event_time");
    entity.event_time_us = CAIRN_TIME_MIN;
    check(&entity, 0, "");
    entity.event_time_us = CAIRN_TIME_MIN - 1;
    check(&entity, CAIRN_ETIME, "event_time");

    struct cairn_feature feature = {.name = CAIRN_STR_LITERAL("a")};
    entity = plain();
    entity.op = CAIRN_OP_DELETE;
    check(&entity, 0, "");
    entity.features = &feature;
    entity.features_count = 1;
    check(&entity, CAIRN_EFIELD, "delete");

    entity = plain();
    entity.op = (enum cairn_entity_op)3;
    struct cairn_entity out;
    struct cairn_error err = {0};
    assert_int_equal(cairn_entity_decode(cairn_entity_encode(encoder, &entity), &arena, &out, &err),
                     CAIRN_EBODY);
    assert_non_null(strstr(err.message, "op"));
}

static void check_one_value(struct cairn_value value, int code, const char *mentions)
{
    struct cairn_feature feature = {.name = CAIRN_STR_LITERAL("price"), .value = value};
    struct cairn_entity entity = plain();
    entity.features = &feature;
    entity.features_count = 1;
    check(&entity, code, mentions);
}

static struct cairn_value text_value(uint8_t type, struct cairn_str text)
{
    return (struct cairn_value){
        .type = type, .len = text.len, .as.bytes = (const uint8_t *)text.ptr};
}

static void values_are_checked(void **state)
{
    (void)state;
    check_one_value((struct cairn_value){.type = CAIRN_TYPE_FLOAT64, .as.f64 = (double)NAN},
                    CAIRN_ENUMBER, "features.price");
    check_one_value((struct cairn_value){.type = CAIRN_TYPE_FLOAT64, .as.f64 = -(double)INFINITY},
                    CAIRN_ENUMBER, "features.price");
    check_one_value((struct cairn_value){.type = CAIRN_TYPE_TIMESTAMP, .as.i64 = CAIRN_TIME_MAX}, 0,
                    "");
    check_one_value((struct cairn_value){.type = CAIRN_TYPE_TIMESTAMP, .as.i64 = INT64_MAX},
                    CAIRN_ETIME, "features.price");
    check_one_value(text_value(CAIRN_TYPE_STRING, CAIRN_STR_LITERAL("\xED\xA0\x80")), CAIRN_EUTF8,
                    "features.price");
    check_one_value(text_value(CAIRN_TYPE_BYTES, CAIRN_STR_LITERAL("\xED\xA0\x80")), 0, "");
    check_one_value(text_value(CAIRN_TYPE_JSON, CAIRN_STR_LITERAL("{\"a\":1}")), 0, "");
    check_one_value(text_value(CAIRN_TYPE_JSON, CAIRN_STR_LITERAL("{\"a\": 1}")), CAIRN_ETYPE,
                    "features.price");
    check_one_value((struct cairn_value){.type = CAIRN_TYPE_VECTOR}, CAIRN_ETYPE, "features.price");
    check_one_value((struct cairn_value){.type = 9}, CAIRN_ETYPE, "features.price");
    check_one_value((struct cairn_value){.type = 16, .as.bytes = (const uint8_t *)""}, CAIRN_ETYPE,
                    "features.price");
    check_one_value((struct cairn_value){.type = 24, .as.bytes = (const uint8_t *)""}, CAIRN_ETYPE,
                    "features.price");
    uint8_t list = CAIRN_TYPE_LIST;
    check_one_value(text_value(list | CAIRN_TYPE_BOOL, CAIRN_STR_LITERAL("\x01\x02")), CAIRN_ETYPE,
                    "list");
    check_one_value(text_value(list | CAIRN_TYPE_INT64, CAIRN_STR_LITERAL("1234567")), CAIRN_ETYPE,
                    "list");
    check_one_value(text_value(list | CAIRN_TYPE_STRING, CAIRN_STR_LITERAL("\x02\0\0\0a")),
                    CAIRN_ETYPE, "list");
    check_one_value(text_value(list | CAIRN_TYPE_STRING, CAIRN_STR_LITERAL("\x01\0\0\0\xFF")),
                    CAIRN_EUTF8, "features.price");
    check_one_value(text_value(list | CAIRN_TYPE_JSON, CAIRN_STR_LITERAL("\x01\0\0\0[")),
                    CAIRN_ETYPE, "features.price");
    check_one_value(
        text_value(list | CAIRN_TYPE_FLOAT64, CAIRN_STR_LITERAL("\0\0\0\0\0\0\xF0\x7F")),
        CAIRN_ENUMBER, "features.price");
    check_one_value(
        text_value(list | CAIRN_TYPE_TIMESTAMP, CAIRN_STR_LITERAL("\0\0\0\0\0\0\0\x7F")),
        CAIRN_ETIME, "features.price");
}

static void values_are_bounded(void **state)
{
    (void)state;
    uint8_t types[] = {CAIRN_TYPE_STRING, CAIRN_TYPE_BYTES};
    for (size_t i = 0; i < sizeof(types); i++) {
        check_one_value(text_value(types[i], filled('x', CAIRN_STRING_BYTES_MAX)), 0, "");
        check_one_value(text_value(types[i], filled('x', CAIRN_STRING_BYTES_MAX + 1)),
                        CAIRN_ETOOLARGE, "features.price");
    }
    struct cairn_str digits = filled('1', CAIRN_STRING_BYTES_MAX + 1);
    digits.len = CAIRN_STRING_BYTES_MAX;
    check_one_value(text_value(CAIRN_TYPE_JSON, digits), 0, "");
    digits = filled('1', CAIRN_STRING_BYTES_MAX + 1);
    check_one_value(text_value(CAIRN_TYPE_JSON, digits), CAIRN_ETOOLARGE, "features.price");
    uint8_t bools = CAIRN_TYPE_LIST | CAIRN_TYPE_BOOL;
    check_one_value(text_value(bools, filled(1, CAIRN_LIST_ITEMS_MAX)), 0, "");
    check_one_value(text_value(bools, filled(1, CAIRN_LIST_ITEMS_MAX + 1)), CAIRN_ETOOLARGE,
                    "items");
}

static struct cairn_feature *many_features(uint32_t count)
{
    struct cairn_feature *features = cairn_arena_zalloc(&arena, count * sizeof(*features));
    for (uint32_t i = 0; i < count; i++) {
        char name[16];
        int len = snprintf(name, sizeof(name), "f%u", i);
        features[i].name = cairn_arena_dup(&arena, (struct cairn_str){name, (uint32_t)len});
    }
    return features;
}

static void feature_names_are_checked(void **state)
{
    (void)state;
    struct cairn_entity entity = plain();
    uint32_t counts[] = {CAIRN_FEATURES_MAX, CAIRN_FEATURES_MAX + 1};
    for (int i = 0; i < 2; i++) {
        entity.features = many_features(counts[i]);
        entity.features_count = counts[i];
        check(&entity, i == 0 ? 0 : CAIRN_ETOOLARGE, "features");
    }
    uint32_t sizes[] = {2, 3, 24, 25, 1000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct cairn_feature *features = many_features(sizes[i]);
        features[sizes[i] - 1].name = features[0].name;
        entity.features = features;
        entity.features_count = sizes[i];
        check(&entity, CAIRN_EFIELD, "f0 is named twice");
    }
    struct cairn_str names[] = {filled('n', CAIRN_NAME_BYTES_MAX),
                                filled('n', CAIRN_NAME_BYTES_MAX + 1), CAIRN_STR_LITERAL(""),
                                CAIRN_STR_LITERAL("\x80")};
    int codes[] = {0, CAIRN_ENAME, CAIRN_ENAME, CAIRN_EUTF8};
    char copy[4][CAIRN_NAME_BYTES_MAX + 1]; /* check resets the arena */
    for (int i = 0; i < 4; i++)
        memcpy(copy[i], names[i].ptr, names[i].len);
    for (int i = 0; i < 4; i++) {
        struct cairn_feature feature = {.name = {copy[i], names[i].len}};
        entity.features = &feature;
        entity.features_count = 1;
        check(&entity, codes[i], "features[0]");
    }
}

static void vectors_are_checked(void **state)
{
    (void)state;
    static float f32[CAIRN_DIM_MAX + 1];
    struct cairn_vector vectors[CAIRN_VECTORS_MAX + 1];
    char names[CAIRN_VECTORS_MAX + 1];
    for (uint32_t i = 0; i <= CAIRN_VECTORS_MAX; i++) {
        names[i] = (char)('a' + i);
        vectors[i] = (struct cairn_vector){{&names[i], 1}, f32, 3};
    }
    struct cairn_entity entity = plain();
    entity.vectors = vectors;
    entity.vectors_count = CAIRN_VECTORS_MAX;
    check(&entity, 0, "");
    entity.vectors_count = CAIRN_VECTORS_MAX + 1;
    check(&entity, CAIRN_ETOOLARGE, "vectors");

    entity.vectors_count = 1;
    vectors[0].dim = CAIRN_DIM_MAX;
    check(&entity, 0, "");
    vectors[0].dim = CAIRN_DIM_MAX + 1;
    check(&entity, CAIRN_EDIMENSION, "vectors.a");
    vectors[0].dim = 0;
    check(&entity, CAIRN_EDIMENSION, "vectors.a");
    vectors[0].f32 = NULL;
    check(&entity, 0, "");

    vectors[0].f32 = f32;
    float bad[] = {NAN, INFINITY, -INFINITY};
    for (uint32_t dim = 1; dim <= 9; dim++) {
        vectors[0].dim = dim;
        for (uint32_t at = 0; at < dim; at++) {
            f32[at] = bad[at % 3];
            check(&entity, CAIRN_ENUMBER, "vectors.a");
            f32[at] = at % 2 ? 3.4028234663852886e38f : -1e-45f;
            check(&entity, 0, "");
        }
    }
    entity.vectors_count = 2;
    vectors[1].name = vectors[0].name;
    check(&entity, CAIRN_EFIELD, "named twice");
}

static void provenance_is_bounded(void **state)
{
    (void)state;
    struct cairn_str inputs[CAIRN_PROVENANCE_INPUTS_MAX + 1];
    for (uint32_t i = 0; i <= CAIRN_PROVENANCE_INPUTS_MAX; i++)
        inputs[i] = CAIRN_STR_LITERAL("s0:1");
    struct cairn_entity entity = plain();
    entity.provenance.inputs = inputs;
    entity.provenance.inputs_count = CAIRN_PROVENANCE_INPUTS_MAX;
    check(&entity, 0, "");
    entity.provenance.inputs_count = CAIRN_PROVENANCE_INPUTS_MAX + 1;
    check(&entity, CAIRN_ETOOLARGE, "provenance.inputs");
    entity.provenance = (struct cairn_provenance){.source = CAIRN_STR_LITERAL("\xF5")};
    check(&entity, CAIRN_EUTF8, "provenance.source");
    entity.provenance.source = filled('s', CAIRN_STRING_BYTES_MAX);
    check(&entity, 0, "");
    entity.provenance.source = filled('s', CAIRN_STRING_BYTES_MAX + 1);
    check(&entity, CAIRN_ETOOLARGE, "provenance.source");
}

static void the_whole_is_bounded(void **state)
{
    (void)state;
    struct cairn_entity entity = plain();
    struct cairn_feature *features = cairn_calloc(5, sizeof(*features));
    struct cairn_value value = text_value(CAIRN_TYPE_STRING, filled('x', CAIRN_STRING_BYTES_MAX));
    char *text = malloc(CAIRN_STRING_BYTES_MAX);
    memset(text, 'x', CAIRN_STRING_BYTES_MAX);
    value.as.bytes = (const uint8_t *)text;
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    for (int i = 0; i < 5; i++)
        features[i] = (struct cairn_feature){cairn_str_from(names[i]), value};
    entity.features = features;
    entity.features_count = 3;
    check(&entity, 0, "");
    entity.features_count = 4; /* the values alone reach the limit */
    check(&entity, CAIRN_ETOOLARGE, "the entity is over");
    /* The longest fourth value that is accepted must also encode within the limit. */
    uint32_t low = 0, high = CAIRN_STRING_BYTES_MAX;
    while (low + 1 < high) {
        features[3].value.len = (low + high) / 2;
        if (cairn_entity_check(&entity, NULL) == 0)
            low = features[3].value.len;
        else
            high = features[3].value.len;
    }
    features[3].value.len = low;
    check(&entity, 0, "");
    assert_in_range(cairn_entity_encode(encoder, &entity).len, CAIRN_ENTITY_BYTES_MAX - 1024,
                    CAIRN_ENTITY_BYTES_MAX);
    free(text);
    free(features);
}

static void damaged_bytes_are_refused_or_valid(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    for (int round = 0; round < 6; round++) {
        struct cairn_entity entity, out;
        struct cairn_arena keep = {0};
        do
            random_entity(&random, &keep, 6, 2, &entity);
        while (entity.features_count < 3);
        struct cairn_str bytes = cairn_entity_encode(encoder, &entity);
        for (uint32_t len = 0; len < bytes.len; len++) {
            decode_copy((struct cairn_str){bytes.ptr, len}, &out, NULL);
            cairn_arena_reset(&arena);
        }
        char *flipped = malloc(bytes.len);
        memcpy(flipped, bytes.ptr, bytes.len);
        for (uint32_t at = 0; at < bytes.len; at++) {
            for (int bit = 0; bit <= 8; bit++) {
                flipped[at] = (char)(bytes.ptr[at] ^ (bit == 8 ? 0xFF : 1 << bit));
                decode_copy((struct cairn_str){flipped, bytes.len}, &out, NULL);
                cairn_arena_reset(&arena);
            }
            flipped[at] = bytes.ptr[at];
        }
        free(flipped);
        cairn_arena_release(&keep);
    }
}

static void odd_addresses_and_sizes_are_refused(void **state)
{
    (void)state;
    struct cairn_entity entity = plain(), out;
    struct cairn_error err = {0};
    struct cairn_str bytes = cairn_entity_encode(encoder, &entity);
    char *moved = malloc((size_t)bytes.len + 4);
    memcpy(moved + 4, bytes.ptr, bytes.len);
    assert_int_equal(
        cairn_entity_decode((struct cairn_str){moved + 4, bytes.len}, &arena, &out, &err),
        CAIRN_EBODY);
    assert_non_null(strstr(err.message, "aligned"));
    free(moved);
    char *large = calloc(1, CAIRN_ENTITY_BYTES_MAX + 1);
    assert_int_equal(cairn_entity_decode((struct cairn_str){large, CAIRN_ENTITY_BYTES_MAX + 1},
                                         &arena, &out, &err),
                     CAIRN_EBODY);
    assert_non_null(strstr(err.message, "the most is"));
    free(large);
}

static void check_row(const struct cairn_row *row, struct cairn_str bytes)
{
    struct cairn_row_view view;
    cairn_row_view_init(&view, bytes);
    assert_int_equal(cairn_row_view_count(&view), row->cells_count);
    for (uint32_t i = 0; i < row->cells_count; i++) {
        struct cairn_row_cell by_number, by_name;
        cairn_row_view_cell(&view, i, &by_number);
        assert_str_same(by_number.name, row->cells[i].name);
        assert_value_same(&by_number.value, &row->cells[i].value);
        assert_stamp_same(by_number.stamp, row->cells[i].stamp);
        bool is_vector = row->cells[i].value.type == CAIRN_TYPE_VECTOR;
        assert_true(cairn_row_view_find(&view, is_vector, row->cells[i].name, &by_name));
        assert_value_same(&by_name.value, &row->cells[i].value);
        assert_false(cairn_row_view_find(&view, !is_vector, row->cells[i].name, &by_name));
    }
    struct cairn_row_cell none;
    assert_false(cairn_row_view_find(&view, false, CAIRN_STR_LITERAL(""), &none));
    assert_false(cairn_row_view_find(&view, true, CAIRN_STR_LITERAL("~"), &none));
    if (row->tombstone.offset)
        assert_stamp_same(cairn_row_view_tombstone(&view), row->tombstone);
    else
        assert_int_equal(cairn_row_view_tombstone(&view).offset, 0);
    assert_stamp_same(cairn_row_view_newest(&view), row->newest);
    assert_str_same(cairn_row_view_route(&view), row->route);
    struct cairn_provenance provenance;
    cairn_row_view_provenance(&view, &arena, &provenance);
    assert_provenance_same(&provenance, &row->provenance);
    assert_int_equal(cairn_row_view_exists(&view), row->exists || row->cells_count > 0);
}

static void rows_round_trip_at_any_address(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    for (int i = 0; i < 1000; i++) {
        struct cairn_row row;
        random_row(&random, &arena, i % 100 == 0 ? 500 : 12, &row);
        struct cairn_str bytes = cairn_row_encode(encoder, &row);
        uint32_t shift = (uint32_t)i % 8;
        char *moved = malloc((size_t)bytes.len + shift);
        memcpy(moved + shift, bytes.ptr, bytes.len);
        check_row(&row, (struct cairn_str){moved + shift, bytes.len});
        free(moved);
        cairn_arena_reset(&arena);
    }
}

static void wide_rows_keep_every_cell(void **state)
{
    (void)state;
    enum { CELLS = 70000 }; /* over 16 bits: patches may add up to more than one entity's limit */
    struct cairn_row_cell *cells = cairn_calloc(CELLS, sizeof(*cells));
    char *names = cairn_malloc(CELLS * 8);
    for (uint32_t i = 0; i < CELLS; i++) {
        snprintf(names + i * 8, 8, "%07u", i);
        cells[i] = (struct cairn_row_cell){{names + i * 8, 7},
                                           {.type = CAIRN_TYPE_INT64, .as.i64 = i},
                                           {(int64_t)i, (int64_t)i, 1 + (uint64_t)i}};
    }
    struct cairn_row row = {.cells = cells, .cells_count = CELLS, .newest = cells[9].stamp};
    check_row(&row, cairn_row_encode(encoder, &row));
    free(names);
    free(cells);
}

static void one_stamp_is_stored_once(void **state)
{
    (void)state;
    struct cairn_row_cell cells[8] = {0};
    static const char names[] = "abcdefgh";
    for (uint32_t i = 0; i < 8; i++)
        cells[i] = (struct cairn_row_cell){
            .name = {names + i, 1}, .value.type = CAIRN_TYPE_INT64, .stamp = {1, 2, 3}};
    struct cairn_row row = {.cells = cells, .cells_count = 8, .newest = {1, 2, 3}};
    uint32_t same = cairn_row_encode(encoder, &row).len;
    for (uint32_t i = 0; i < 8; i++)
        cells[i].stamp.offset = 3 + i;
    uint32_t distinct = cairn_row_encode(encoder, &row).len;
    assert_true(distinct >= same + 7 * 24 + 8 * 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(entities_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_and_routes_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(times_and_ops_are_checked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(values_are_checked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(values_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(feature_names_are_checked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(vectors_are_checked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(provenance_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_whole_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_bytes_are_refused_or_valid, set_up, tear_down),
        cmocka_unit_test_setup_teardown(odd_addresses_and_sizes_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rows_round_trip_at_any_address, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wide_rows_keep_every_cell, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_stamp_is_stored_once, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
