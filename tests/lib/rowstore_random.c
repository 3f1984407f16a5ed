/* The random events of the naive row store. */
#include <stdio.h>

#include "featurestore/import_record.h"
#include "tests/lib/rowstore_model.h"
#include "tests/lib/testing.h"

#define KEY(text)                                                                                  \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }

static const struct cairn_str feature_names[] = {KEY("a"), KEY("b"), KEY("c"), KEY("d"), KEY("v")};
static const struct cairn_str routes[] = {KEY("r1"), KEY("r2"), KEY("u1")};

static uint32_t below(uint64_t *random, uint32_t bound)
{
    return (uint32_t)cairn_test_random_below(random, bound);
}

static struct cairn_value random_value(uint64_t *random)
{
    static const char *const texts[] = {"", "x", "long enough to matter"};
    switch (below(random, 4)) {
    case 0:
        return (struct cairn_value){.type = CAIRN_TYPE_NULL};
    case 1:
        return (struct cairn_value){.type = CAIRN_TYPE_INT64, .as.i64 = below(random, 3)};
    case 2:
        return (struct cairn_value){.type = CAIRN_TYPE_FLOAT64, .as.f64 = below(random, 2)};
    default: {
        const char *text = texts[below(random, 3)];
        return (struct cairn_value){.type = CAIRN_TYPE_STRING,
                                    .len = (uint32_t)strlen(text),
                                    .as.bytes = (const uint8_t *)text};
    }
    }
}

static void random_cells(struct rowmodel *model, uint64_t *random, struct cairn_entity *entity)
{
    struct cairn_feature *features = cairn_arena_alloc(&model->arena, 5 * sizeof(*features));
    struct cairn_vector *vectors = cairn_arena_alloc(&model->arena, 2 * sizeof(*vectors));
    uint32_t first = below(random, 5); /* so that names come unsorted, too */
    for (uint32_t i = 0; i < 5; i++) {
        if (below(random, 3) == 0)
            features[entity->features_count++] =
                (struct cairn_feature){feature_names[(first + i) % 5], random_value(random)};
    }
    for (uint32_t i = 0; i < 2; i++) {
        if (below(random, 4) != 0)
            continue;
        uint32_t dim = 1 + below(random, 2) * 2;
        float *f32 = cairn_arena_alloc(&model->arena, dim * sizeof(*f32));
        for (uint32_t d = 0; d < dim; d++)
            f32[d] = (float)below(random, 2);
        bool removal = below(random, 4) == 0;
        vectors[entity->vectors_count++] = (struct cairn_vector){
            rowmodel_vectors[(first + i) % 2], removal ? NULL : f32, removal ? 0 : dim};
    }
    entity->features = features;
    entity->vectors = vectors;
}

static void random_entity(struct rowmodel *model, uint64_t *random, struct cairn_entity *entity)
{
    static const struct cairn_str sources[] = {KEY(""), KEY("s3://bucket/file")};
    uint32_t op = below(random, 8);
    *entity = (struct cairn_entity){
        .key = rowmodel_keys[below(random, ROWMODEL_KEYS)],
        .event_time_us = below(random, 4) == 0 ? CAIRN_TIME_NONE : (int64_t)below(random, 40) - 10,
        .op = op == 0   ? CAIRN_OP_DELETE
              : op == 1 ? CAIRN_OP_REPLACE
                        : CAIRN_OP_PATCH,
        .provenance = {.source = sources[below(random, 2)]},
        .if_offset = CAIRN_OFFSET_NONE};
    if (below(random, 4) == 0)
        entity->route = routes[below(random, 3)];
    if (entity->op != CAIRN_OP_DELETE)
        random_cells(model, random, entity);
}

/* A map, or the beginning of an import from one of two sources; its text is any. */
static void add_of_a_move(struct rowmodel *model, uint64_t *random)
{
    char text[32];
    int len = snprintf(text, sizeof(text), "map of %u", model->count);
    struct cairn_str map = {text, (uint32_t)len};
    struct cairn_buf payload = {0};
    struct cairn_import_begin begin = {1 + below(random, 2), map};
    if (below(random, 2) == 0) {
        rowmodel_add_record(model, CAIRN_RECORD_MAP, 0, map);
        return;
    }
    cairn_import_begin_encode(&begin, &payload);
    rowmodel_add_record(model, CAIRN_RECORD_IMPORT_BEGIN, 0,
                        (struct cairn_str){payload.data, (uint32_t)payload.len});
    cairn_buf_release(&payload);
}

void rowmodel_add_random(struct rowmodel *model, uint64_t *random)
{
    uint32_t number = below(random, 3);
    if (model->collection_ids[number] == 0) {
        rowmodel_add_schema(model, number, model->next_id++, false);
        return;
    }
    uint32_t collection = model->collection_ids[number];
    if (below(random, 500) == 0) {
        rowmodel_add_schema(model, number, collection, true);
        return;
    }
    if (below(random, 300) == 0) { /* evolved */
        rowmodel_add_schema(model, number, collection, false);
        return;
    }
    struct cairn_entity entity;
    uint32_t again = below(random, model->count);
    /* Records of a collection that is gone: its writers may not know yet. */
    if (below(random, 100) == 0)
        collection = 1 + below(random, model->next_id - 1);
    if (below(random, 100) == 0) {
        add_of_a_move(model, random);
        return;
    }
    if (below(random, 80) == 0) {
        uint32_t few = (uint32_t)(cairn_test_random(random) & cairn_test_random(random));
        few &= (1u << ROWMODEL_KEYS) - 1;
        rowmodel_add_forget(model, collection, few | 1u << below(random, ROWMODEL_KEYS));
        return;
    }
    if (below(random, 6) == 0 && rowmodel_is_event(model, again)) {
        entity = model->entities[again];
        collection = model->records[again].collection;
    } else {
        random_entity(model, random, &entity);
    }
    if (below(random, 5) == 0)
        rowmodel_add_import(model, collection, below(random, 60), 1 + below(random, 2),
                            model->count, &entity);
    else
        rowmodel_add_entity(model, collection, rowmodel_time_now(model), &entity);
}
