#include "tests/lib/random_entity.h"

#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "tests/lib/testing.h"

static uint32_t below(uint64_t *random, uint32_t bound)
{
    return (uint32_t)cairn_test_random_below(random, bound);
}

static struct cairn_str random_text(uint64_t *random, struct cairn_arena *arena, uint32_t len_max)
{
    static const char *const pieces[] = {
        "a", "Z", "0", " ", "\"", "\\", "\n", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x8F\x94"};
    uint32_t len = below(random, len_max + 1), at = 0;
    char *text = cairn_arena_alloc(arena, (size_t)len + 8);
    while (at < len) {
        const char *piece = pieces[below(random, 10)];
        size_t piece_len = strlen(piece);
        if (at + piece_len > len)
            piece = "x", piece_len = 1;
        memcpy(text + at, piece, piece_len);
        at += (uint32_t)piece_len;
    }
    return (struct cairn_str){text, len};
}

static double random_f64(uint64_t *random)
{
    return ((double)below(random, 2000001) - 1e6) / 128.0;
}

static int64_t random_time(uint64_t *random)
{
    return (int64_t)(cairn_test_random(random) % 2000000000000000u);
}

static void random_scalar(uint64_t *random, struct cairn_arena *arena, uint8_t type,
                          struct cairn_value *out)
{
    static const char *const json[] = {"{}", "[1,2.5,\"a\"]", "{\"a\":{\"b\":[null,true]}}",
                                       "-1e9"};
    struct cairn_str text = {0};
    *out = (struct cairn_value){.type = type};
    switch (type) {
    case CAIRN_TYPE_BOOL:
        out->as.boolean = below(random, 2) == 1;
        return;
    case CAIRN_TYPE_INT64:
        out->as.i64 = (int64_t)cairn_test_random(random);
        return;
    case CAIRN_TYPE_FLOAT64:
        out->as.f64 = random_f64(random);
        return;
    case CAIRN_TYPE_TIMESTAMP:
        out->as.i64 = random_time(random);
        return;
    case CAIRN_TYPE_STRING:
    case CAIRN_TYPE_BYTES:
        text = random_text(random, arena, 24);
        break;
    case CAIRN_TYPE_JSON:
        text = cairn_str_from(json[below(random, 4)]);
        break;
    default:
        return;
    }
    out->len = text.len;
    out->as.bytes = (const uint8_t *)text.ptr;
}

static void random_list(uint64_t *random, struct cairn_arena *arena, uint8_t type,
                        struct cairn_value *out)
{
    uint32_t count = below(random, 5);
    uint8_t *bytes = cairn_arena_alloc(arena, 256);
    *out = (struct cairn_value){.type = type | CAIRN_TYPE_LIST, .as.bytes = bytes};
    for (uint32_t i = 0; i < count; i++) {
        struct cairn_value element;
        random_scalar(random, arena, type, &element);
        if (type == CAIRN_TYPE_BOOL) {
            bytes[out->len++] = element.as.boolean;
        } else if (type == CAIRN_TYPE_STRING || type == CAIRN_TYPE_BYTES ||
                   type == CAIRN_TYPE_JSON) {
            memcpy(bytes + out->len, &element.len, 4);
            if (element.len)
                memcpy(bytes + out->len + 4, element.as.bytes, element.len);
            out->len += 4 + element.len;
        } else {
            memcpy(bytes + out->len, &element.as, 8);
            out->len += 8;
        }
    }
}

void random_value(uint64_t *random, struct cairn_arena *arena, struct cairn_value *out)
{
    uint8_t type = (uint8_t)below(random, 8);
    if (type != CAIRN_TYPE_NULL && below(random, 3) == 0)
        random_list(random, arena, type, out);
    else
        random_scalar(random, arena, type, out);
}

/* Distinct by their number; not in order. */
static struct cairn_str numbered_name(uint64_t *random, struct cairn_arena *arena, char prefix,
                                      uint32_t at)
{
    char text[32];
    int len = snprintf(text, sizeof(text), "%c%u_%u", prefix, below(random, 1000), at);
    return cairn_arena_dup(arena, (struct cairn_str){text, (uint32_t)len});
}

static void random_provenance(uint64_t *random, struct cairn_arena *arena,
                              struct cairn_provenance *out)
{
    *out = (struct cairn_provenance){0};
    if (below(random, 2))
        return;
    uint32_t count = below(random, 4);
    struct cairn_str *inputs = cairn_arena_alloc(arena, (count + 1) * sizeof(*inputs));
    for (uint32_t i = 0; i < count; i++)
        inputs[i] = numbered_name(random, arena, 's', i);
    out->source = random_text(random, arena, 20);
    out->producer = random_text(random, arena, 10);
    out->inputs = inputs;
    out->inputs_count = count;
}

void random_entity(uint64_t *random, struct cairn_arena *arena, uint32_t features_max,
                   uint32_t vectors_max, struct cairn_entity *out)
{
    *out = (struct cairn_entity){
        .key = numbered_name(random, arena, 'k', 0),
        .route = random_text(random, arena, 8),
        .event_time_us = below(random, 2) ? CAIRN_TIME_NONE : random_time(random),
        .op = (enum cairn_entity_op)below(random, 3),
        .if_offset = below(random, 2) ? CAIRN_OFFSET_NONE : below(random, 100),
    };
    random_provenance(random, arena, &out->provenance);
    if (out->op == CAIRN_OP_DELETE)
        return;
    out->features_count = below(random, features_max + 1);
    struct cairn_feature *features =
        cairn_arena_zalloc(arena, (out->features_count + 1) * sizeof(*features));
    for (uint32_t i = 0; i < out->features_count; i++) {
        features[i].name = numbered_name(random, arena, 'f', i);
        random_value(random, arena, &features[i].value);
    }
    out->vectors_count = below(random, vectors_max + 1);
    struct cairn_vector *vectors =
        cairn_arena_zalloc(arena, (out->vectors_count + 1) * sizeof(*vectors));
    for (uint32_t i = 0; i < out->vectors_count; i++) {
        vectors[i].name = numbered_name(random, arena, 'v', i);
        vectors[i].dim = below(random, 12);
        float *f32 = cairn_arena_alloc(arena, 16 * sizeof(float));
        for (uint32_t d = 0; d < vectors[i].dim; d++)
            f32[d] = (float)random_f64(random);
        vectors[i].f32 = vectors[i].dim ? f32 : NULL;
    }
    out->features = features;
    out->vectors = vectors;
}

static struct cairn_stamp random_stamp(uint64_t *random)
{
    return (struct cairn_stamp){random_time(random), random_time(random), 1 + below(random, 1000)};
}

static int compare_cells(const void *a, const void *b)
{
    const struct cairn_row_cell *x = a, *y = b;
    int order = (x->value.type == CAIRN_TYPE_VECTOR) - (y->value.type == CAIRN_TYPE_VECTOR);
    return order ? order : cairn_str_cmp(x->name, y->name);
}

void random_row(uint64_t *random, struct cairn_arena *arena, uint32_t cells_max,
                struct cairn_row *out)
{
    *out = (struct cairn_row){
        .cells_count = below(random, cells_max + 1),
        .newest = random_stamp(random),
        .route = random_text(random, arena, 8),
        .exists = below(random, 2) == 1,
    };
    if (below(random, 2))
        out->tombstone = random_stamp(random);
    random_provenance(random, arena, &out->provenance);
    struct cairn_row_cell *cells =
        cairn_arena_zalloc(arena, (out->cells_count + 1) * sizeof(*cells));
    struct cairn_stamp stamp = random_stamp(random);
    bool one_stamp = below(random, 2) == 1;
    for (uint32_t i = 0; i < out->cells_count; i++) {
        cells[i].name = numbered_name(random, arena, 'c', i);
        if (below(random, 6) == 0)
            cells[i].value =
                (struct cairn_value){.type = CAIRN_TYPE_VECTOR, .len = 1 + below(random, 900)};
        else
            random_value(random, arena, &cells[i].value);
        if (!one_stamp && below(random, 2))
            stamp = random_stamp(random);
        cells[i].stamp = stamp;
    }
    qsort(cells, out->cells_count, sizeof(*cells), compare_cells);
    out->cells = cells;
}

void assert_str_same(struct cairn_str a, struct cairn_str b)
{
    assert_int_equal(a.len, b.len);
    if (a.len)
        assert_memory_equal(a.ptr, b.ptr, a.len);
}

void assert_stamp_same(struct cairn_stamp a, struct cairn_stamp b)
{
    assert_true(a.event_time_us == b.event_time_us);
    assert_true(a.ingest_time_us == b.ingest_time_us);
    assert_true(a.offset == b.offset);
}

void assert_value_same(const struct cairn_value *a, const struct cairn_value *b)
{
    if (a->type == CAIRN_TYPE_VECTOR) {
        assert_int_equal(b->type, CAIRN_TYPE_VECTOR);
        assert_int_equal(a->len, b->len);
        return;
    }
    assert_true(cairn_value_eq(a, b));
}

void assert_provenance_same(const struct cairn_provenance *a, const struct cairn_provenance *b)
{
    assert_str_same(a->source, b->source);
    assert_str_same(a->producer, b->producer);
    assert_int_equal(a->inputs_count, b->inputs_count);
    for (uint32_t i = 0; i < a->inputs_count; i++)
        assert_str_same(a->inputs[i], b->inputs[i]);
}

void assert_entity_same(const struct cairn_entity *a, const struct cairn_entity *b)
{
    assert_str_same(a->key, b->key);
    assert_str_same(a->route, b->route);
    assert_true(a->event_time_us == b->event_time_us);
    assert_int_equal(a->op, b->op);
    assert_true(a->if_offset == b->if_offset);
    assert_int_equal(a->features_count, b->features_count);
    for (uint32_t i = 0; i < a->features_count; i++) {
        assert_str_same(a->features[i].name, b->features[i].name);
        assert_value_same(&a->features[i].value, &b->features[i].value);
    }
    assert_int_equal(a->vectors_count, b->vectors_count);
    for (uint32_t i = 0; i < a->vectors_count; i++) {
        assert_str_same(a->vectors[i].name, b->vectors[i].name);
        assert_int_equal(a->vectors[i].dim, b->vectors[i].dim);
        assert_int_equal(a->vectors[i].f32 == NULL, b->vectors[i].f32 == NULL);
        if (a->vectors[i].f32)
            assert_memory_equal(a->vectors[i].f32, b->vectors[i].f32, 4 * a->vectors[i].dim);
    }
    assert_provenance_same(&a->provenance, &b->provenance);
}
