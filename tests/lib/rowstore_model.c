#include "tests/lib/rowstore_model.h"

#include <assert.h>
#include <stdlib.h>

#include "base/schema.h"
#include "base/shard_wire.h"

#define KEY(text)                                                                                  \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }

const struct cairn_str rowmodel_keys[ROWMODEL_KEYS] = {
    KEY("\0"),     KEY("\0\0"),     KEY("\0\x01"),       KEY("\x01"),
    KEY("a"),      KEY("a\0"),      KEY("a\0a"),         KEY("a\x01"),
    KEY("aa"),     KEY("b"),        KEY("b/1"),          KEY("b/10"),
    KEY("b/2"),    KEY("key-01"),   KEY("key-02"),       KEY("key-03"),
    KEY("key-04"), KEY("u"),        KEY("u1"),           KEY("u2"),
    KEY("\x7f"),   KEY("\xc3\xa9"), KEY("\xe2\x82\xac"), KEY("\xf0\x9f\x98\x80")};
const struct cairn_str rowmodel_vectors[2] = {KEY("v"), KEY("w")};
static const char *const collection_names[] = {"c0", "c1", "c2"};

void rowmodel_init(struct rowmodel *model)
{
    *model = (struct rowmodel){.encoder = cairn_encoder_new(), .next_id = 1};
}

void rowmodel_release(struct rowmodel *model)
{
    cairn_arena_release(&model->arena);
    cairn_encoder_free(&model->encoder);
    free(model->records);
    free(model->entities);
    free(model->ingest_times_us);
    free(model->forgotten);
    free(model->dropped);
}

static void make_room(struct rowmodel *model)
{
    uint32_t capacity = model->capacity * 2 + 64;
    model->capacity = capacity;
    model->records = cairn_realloc(model->records, capacity * sizeof(*model->records));
    model->entities = cairn_realloc(model->entities, capacity * sizeof(*model->entities));
    model->ingest_times_us =
        cairn_realloc(model->ingest_times_us, capacity * sizeof(*model->ingest_times_us));
    model->forgotten = cairn_realloc(model->forgotten, capacity * sizeof(*model->forgotten));
    model->dropped = cairn_realloc(model->dropped, capacity * sizeof(*model->dropped));
}

static void add_record(struct rowmodel *model, uint8_t kind, uint32_t collection,
                       int64_t ingest_time_us, struct cairn_str payload)
{
    if (model->count == model->capacity)
        make_room(model);
    uint32_t at = model->count++;
    model->entities[at] = (struct cairn_entity){0};
    model->ingest_times_us[at] = ingest_time_us;
    model->forgotten[at] = 0;
    model->dropped[at] = 0;
    model->records[at] =
        (struct cairn_log_record){.offset = at + 1,
                                  .ingest_time_us = ingest_time_us,
                                  .collection = collection,
                                  .kind = kind,
                                  .payload = cairn_arena_dup(&model->arena, payload)};
}

int64_t rowmodel_time_now(const struct rowmodel *model)
{
    return model->count / 40;
}

static void encode_schema(struct cairn_str name, uint32_t id, uint64_t version, bool dropped,
                          struct cairn_buf *text)
{
    struct cairn_json_parser *parser = cairn_json_parser_new();
    struct cairn_json body;
    const struct cairn_schema *schema = NULL;
    int code = cairn_json_parse(parser, CAIRN_STR_LITERAL("{}"), &body, NULL);
    if (code == 0)
        code = cairn_schema_parse(name, body, &schema, NULL);
    assert(code == 0);
    const struct cairn_schema *identified =
        cairn_schema_with_identity(schema, id, version, 0, dropped);
    cairn_schema_encode(identified, text);
    cairn_schema_unref(identified);
    cairn_schema_unref(schema);
    cairn_json_parser_free(&parser);
}

void rowmodel_add_schema(struct rowmodel *model, uint32_t number, uint32_t id, bool dropped)
{
    struct cairn_buf text = {0};
    encode_schema(cairn_str_from(collection_names[number]), id, ++model->schema_versions[number],
                  dropped, &text);
    add_record(model, CAIRN_RECORD_SCHEMA, id, rowmodel_time_now(model),
               (struct cairn_str){text.data, (uint32_t)text.len});
    cairn_buf_release(&text);
    if (dropped)
        model->dropped[model->count - 1] = id;
    model->collection_ids[number] = dropped ? 0 : id;
}

static void keep_entity(struct rowmodel *model, int64_t ingest_time_us,
                        const struct cairn_entity *entity)
{
    struct cairn_entity *kept = &model->entities[model->count - 1];
    *kept = *entity;
    model->ingest_times_us[model->count - 1] = ingest_time_us;
    if (kept->event_time_us == CAIRN_TIME_NONE)
        kept->event_time_us = ingest_time_us;
}

void rowmodel_add_entity(struct rowmodel *model, uint32_t collection, int64_t ingest_time_us,
                         const struct cairn_entity *entity)
{
    add_record(model, CAIRN_RECORD_ENTITY, collection, ingest_time_us,
               cairn_entity_encode(model->encoder, entity));
    keep_entity(model, ingest_time_us, entity);
}

void rowmodel_add_import(struct rowmodel *model, uint32_t collection, int64_t ingest_time_us,
                         uint32_t source, uint64_t source_offset, const struct cairn_entity *entity)
{
    struct cairn_str encoded =
        cairn_arena_dup(&model->arena, cairn_entity_encode(model->encoder, entity));
    struct cairn_imported imported = {.source = source,
                                      .source_offset = source_offset,
                                      .origin_shard = source,
                                      .origin_offset = source_offset,
                                      .ingest_time_us = ingest_time_us,
                                      .entity = encoded};
    add_record(model, CAIRN_RECORD_IMPORT, collection, rowmodel_time_now(model),
               cairn_imported_encode(model->encoder, &imported));
    keep_entity(model, ingest_time_us, entity);
}

void rowmodel_add_forget(struct rowmodel *model, uint32_t collection, uint32_t keys)
{
    struct cairn_str named[ROWMODEL_KEYS];
    uint32_t count = 0;
    for (uint32_t i = 0; i < ROWMODEL_KEYS; i++) {
        if (keys & 1u << i)
            named[count++] = rowmodel_keys[i];
    }
    add_record(model, CAIRN_RECORD_FORGET, collection, rowmodel_time_now(model),
               cairn_forget_encode(model->encoder, named, count));
    model->forgotten[model->count - 1] = keys;
}

void rowmodel_add_record(struct rowmodel *model, uint8_t kind, uint32_t collection,
                         struct cairn_str payload)
{
    add_record(model, kind, collection, rowmodel_time_now(model), payload);
}

static bool newer(const struct cairn_stamp *a, const struct cairn_stamp *b)
{
    if (b->offset == 0 || a->offset == 0)
        return a->offset != 0;
    return a->event_time_us != b->event_time_us ? a->event_time_us > b->event_time_us
                                                : a->offset > b->offset;
}

static struct cairn_stamp stamp_of(const struct rowmodel *model, uint32_t at)
{
    return (struct cairn_stamp){model->entities[at].event_time_us, model->ingest_times_us[at],
                                model->records[at].offset};
}

bool rowmodel_is_dropped(const struct rowmodel *model, uint32_t collection, uint64_t offset)
{
    for (uint32_t i = 0; i < offset; i++) {
        if (model->dropped[i] == collection)
            return true;
    }
    return false;
}

bool rowmodel_is_event(const struct rowmodel *model, uint32_t at)
{
    uint8_t kind = model->records[at].kind;
    return kind == CAIRN_RECORD_ENTITY || kind == CAIRN_RECORD_IMPORT;
}

static bool is_about(const struct rowmodel *model, uint32_t at, uint32_t collection,
                     struct cairn_str key)
{
    return rowmodel_is_event(model, at) && model->records[at].collection == collection &&
           cairn_str_eq(model->entities[at].key, key);
}

/* The last record up to `offset` that forgot the key: what stands before it is void. 0: none. */
static uint32_t forgotten_at(const struct rowmodel *model, uint32_t collection,
                             struct cairn_str key, uint64_t offset)
{
    uint32_t bit = 0;
    for (uint32_t i = 0; i < ROWMODEL_KEYS; i++) {
        if (cairn_str_eq(rowmodel_keys[i], key))
            bit = 1u << i;
    }
    for (uint32_t i = (uint32_t)offset; i > 0; i--) {
        if (model->records[i - 1].collection == collection && model->forgotten[i - 1] & bit)
            return i;
    }
    return 0;
}

static struct cairn_row_cell *find_cell(struct rowmodel_row *row, bool is_vector,
                                        struct cairn_str name)
{
    for (uint32_t i = 0; i < row->cells_count; i++) {
        struct cairn_row_cell *cell = &row->cells[i];
        if ((cell->value.type == CAIRN_TYPE_VECTOR) == is_vector && cairn_str_eq(cell->name, name))
            return cell;
    }
    return NULL;
}

const struct cairn_row_cell *rowmodel_cell(const struct rowmodel_row *row, bool is_vector,
                                           struct cairn_str name)
{
    struct rowmodel_row *mutable = (struct rowmodel_row *)(uintptr_t)row;
    return find_cell(mutable, is_vector, name);
}

static uint32_t own_count(const struct cairn_entity *entity)
{
    return entity->op == CAIRN_OP_DELETE ? 0 : entity->features_count + entity->vectors_count;
}

static struct cairn_row_cell own_cell(const struct cairn_entity *entity, uint32_t at)
{
    if (at < entity->features_count)
        return (struct cairn_row_cell){.name = entity->features[at].name,
                                       .value = entity->features[at].value};
    const struct cairn_vector *vector = &entity->vectors[at - entity->features_count];
    return (struct cairn_row_cell){.name = vector->name,
                                   .value = {.type = CAIRN_TYPE_VECTOR,
                                             .len = vector->f32 != NULL ? vector->dim : 0,
                                             .as.bytes = (const uint8_t *)vector->f32}};
}

static bool same_content(const struct cairn_value *a, const struct cairn_value *b)
{
    if (a->type != CAIRN_TYPE_VECTOR || b->type != CAIRN_TYPE_VECTOR)
        return cairn_value_eq(a, b);
    return a->len == b->len &&
           (a->len == 0 || memcmp(a->as.bytes, b->as.bytes, a->len * sizeof(float)) == 0);
}

/* The newest stamp of each kind of event. */
static void find_stamps(const struct rowmodel *model, uint32_t collection, struct cairn_str key,
                        uint64_t offset, struct rowmodel_row *row)
{
    struct cairn_stamp deleted = {0};
    for (uint32_t i = forgotten_at(model, collection, key, offset); i < offset; i++) {
        if (!is_about(model, i, collection, key))
            continue;
        struct cairn_stamp stamp = stamp_of(model, i);
        const struct cairn_entity *entity = &model->entities[i];
        row->newest = stamp;
        if (entity->op != CAIRN_OP_PATCH && newer(&stamp, &row->tombstone))
            row->tombstone = stamp;
        if (entity->op == CAIRN_OP_DELETE && newer(&stamp, &deleted))
            deleted = stamp;
        if (entity->op != CAIRN_OP_DELETE && newer(&stamp, &row->written)) {
            row->written = stamp;
            row->route =
                cairn_str_eq(entity->route, entity->key) ? (struct cairn_str){0} : entity->route;
        }
    }
    row->exists = newer(&row->written, &deleted);
}

void rowmodel_row(const struct rowmodel *model, uint32_t collection, struct cairn_str key,
                  uint64_t offset, struct rowmodel_row *out)
{
    *out = (struct rowmodel_row){0};
    if (rowmodel_is_dropped(model, collection, offset))
        return;
    find_stamps(model, collection, key, offset, out);
    for (uint32_t i = forgotten_at(model, collection, key, offset); i < offset; i++) {
        struct cairn_stamp stamp = stamp_of(model, i);
        if (!is_about(model, i, collection, key) || newer(&out->tombstone, &stamp))
            continue;
        for (uint32_t j = 0; j < own_count(&model->entities[i]); j++) {
            struct cairn_row_cell own = own_cell(&model->entities[i], j);
            own.stamp = stamp;
            struct cairn_row_cell *cell =
                find_cell(out, own.value.type == CAIRN_TYPE_VECTOR, own.name);
            if (cell == NULL) {
                assert(out->cells_count < ROWMODEL_CELLS_MAX);
                out->cells[out->cells_count++] = own;
            } else if (newer(&stamp, &cell->stamp)) {
                *cell = own;
            }
        }
    }
}

bool rowmodel_says(const struct rowmodel *model, uint64_t offset, uint32_t collection,
                   struct cairn_str key, const struct cairn_row_cell *cell)
{
    if (offset == 0 || offset > model->count)
        return false;
    uint32_t at = (uint32_t)offset - 1;
    if (!is_about(model, at, collection, key) ||
        model->entities[at].event_time_us != cell->stamp.event_time_us)
        return false;
    for (uint32_t i = 0; i < own_count(&model->entities[at]); i++) {
        struct cairn_row_cell own = own_cell(&model->entities[at], i);
        if (cairn_str_eq(own.name, cell->name) && same_content(&own.value, &cell->value))
            return true;
    }
    return false;
}

static enum cairn_write_status empty_status(const struct cairn_entity *entity,
                                            const struct rowmodel_row *before,
                                            const struct rowmodel_row *after, uint32_t hidden)
{
    if (after->tombstone.offset != 0 && after->tombstone.event_time_us > entity->event_time_us)
        return CAIRN_WRITE_SUPERSEDED;
    if (!before->exists)
        return CAIRN_WRITE_APPLIED;
    if (entity->op == CAIRN_OP_REPLACE && after->cells_count > 0)
        return hidden > 0 ? CAIRN_WRITE_PARTIAL : CAIRN_WRITE_SUPERSEDED;
    if (hidden > 0)
        return CAIRN_WRITE_APPLIED;
    if (after->written.event_time_us > entity->event_time_us)
        return CAIRN_WRITE_SUPERSEDED;
    bool replaced_before =
        before->tombstone.offset != 0 && before->tombstone.event_time_us == entity->event_time_us;
    bool repeats = before->written.event_time_us == entity->event_time_us &&
                   cairn_str_eq(before->route, after->route) &&
                   (entity->op == CAIRN_OP_PATCH || replaced_before);
    return repeats ? CAIRN_WRITE_UNCHANGED : CAIRN_WRITE_APPLIED;
}

static enum cairn_write_status cells_status(const struct cairn_entity *entity, uint64_t offset,
                                            const struct rowmodel_row *before,
                                            const struct rowmodel_row *after, uint32_t hidden)
{
    uint32_t won = 0, lost = 0, count = own_count(entity);
    for (uint32_t i = 0; i < count; i++) {
        struct cairn_row_cell own = own_cell(entity, i);
        bool is_vector = own.value.type == CAIRN_TYPE_VECTOR;
        const struct cairn_row_cell *now = rowmodel_cell(after, is_vector, own.name);
        const struct cairn_row_cell *then = rowmodel_cell(before, is_vector, own.name);
        if (now == NULL || now->stamp.offset != offset)
            lost++;
        else if (then == NULL || then->stamp.event_time_us != entity->event_time_us ||
                 !same_content(&then->value, &own.value))
            won++;
    }
    if (lost == count)
        return hidden > 0 ? CAIRN_WRITE_PARTIAL : CAIRN_WRITE_SUPERSEDED;
    bool cleared_later =
        entity->op == CAIRN_OP_REPLACE &&
        (before->tombstone.offset == 0 || before->tombstone.event_time_us < entity->event_time_us);
    bool changed = won > 0 || hidden > 0 || cleared_later || !before->exists ||
                   !cairn_str_eq(before->route, after->route);
    if (!changed)
        return CAIRN_WRITE_UNCHANGED;
    return lost > 0 ? CAIRN_WRITE_PARTIAL : CAIRN_WRITE_APPLIED;
}

/* Whether any of the keys had a row, be it that of a deleted entity. */
static enum cairn_write_status forget_status(const struct rowmodel *model, uint32_t at)
{
    for (uint32_t i = 0; i < ROWMODEL_KEYS; i++) {
        struct rowmodel_row row;
        if (!(model->forgotten[at] & 1u << i))
            continue;
        rowmodel_row(model, model->records[at].collection, rowmodel_keys[i], at, &row);
        if (row.newest.offset != 0)
            return CAIRN_WRITE_APPLIED;
    }
    return CAIRN_WRITE_UNCHANGED;
}

enum cairn_write_status rowmodel_status(const struct rowmodel *model, uint64_t offset,
                                        bool *existed)
{
    uint32_t at = (uint32_t)offset - 1;
    const struct cairn_entity *entity = &model->entities[at];
    uint32_t collection = model->records[at].collection;
    struct rowmodel_row before, after;
    *existed = false;
    if (model->records[at].kind == CAIRN_RECORD_SCHEMA)
        return CAIRN_WRITE_APPLIED;
    if (rowmodel_is_dropped(model, collection, offset) ||
        model->records[at].kind == CAIRN_RECORD_MAP ||
        model->records[at].kind == CAIRN_RECORD_IMPORT_BEGIN)
        return CAIRN_WRITE_UNCHANGED;
    if (model->records[at].kind == CAIRN_RECORD_FORGET)
        return forget_status(model, at);
    rowmodel_row(model, collection, entity->key, offset - 1, &before);
    rowmodel_row(model, collection, entity->key, offset, &after);
    *existed = before.exists;
    uint32_t hidden = 0;
    for (uint32_t i = 0; i < before.cells_count; i++) {
        const struct cairn_row_cell *cell = &before.cells[i];
        hidden += rowmodel_cell(&after, cell->value.type == CAIRN_TYPE_VECTOR, cell->name) == NULL;
    }
    if (entity->op == CAIRN_OP_DELETE) {
        if (!before.exists)
            return CAIRN_WRITE_UNCHANGED;
        if (!after.exists)
            return CAIRN_WRITE_APPLIED;
        return hidden > 0 ? CAIRN_WRITE_PARTIAL : CAIRN_WRITE_SUPERSEDED;
    }
    if (own_count(entity) == 0)
        return empty_status(entity, &before, &after, hidden);
    return cells_status(entity, offset, &before, &after, hidden);
}
