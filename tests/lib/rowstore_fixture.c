#include "tests/lib/rowstore_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/shard_wire.h"
#include "featurestore/import_record.h"

static void require(bool holds, const struct rowstore_fixture *fixture)
{
    if (holds)
        return;
    fprintf(stderr, "%s\n", fixture->err.message);
    abort();
}

int rowstore_open(struct rowstore_fixture *fixture)
{
    struct cairn_rowstore_options options = {.dir = fixture->path};
    return cairn_rowstore_open(&options, &fixture->store, &fixture->err);
}

void rowstore_reopen(struct rowstore_fixture *fixture)
{
    cairn_rowstore_close(&fixture->store);
    require(rowstore_open(fixture) == 0, fixture);
}

int rowstore_setup(void **test)
{
    struct rowstore_fixture *fixture = calloc(1, sizeof(*fixture));
    cairn_test_dir_make(&fixture->dir);
    cairn_test_dir_path(&fixture->dir, "rows", fixture->path);
    rowmodel_init(&fixture->log);
    fixture->out.results = fixture->results;
    *test = fixture;
    return rowstore_open(fixture);
}

int rowstore_teardown(void **test)
{
    struct rowstore_fixture *fixture = *test;
    cairn_rowstore_close(&fixture->store);
    rowmodel_release(&fixture->log);
    cairn_test_dir_remove(&fixture->dir);
    free(fixture);
    return 0;
}

int rowstore_apply(struct rowstore_fixture *fixture)
{
    uint64_t applied = cairn_rowstore_applied(fixture->store);
    return cairn_rowstore_apply(fixture->store, &fixture->log.records[applied],
                                (uint32_t)(fixture->log.count - applied), &fixture->out,
                                &fixture->err);
}

void rowstore_add(struct rowstore_fixture *fixture, uint32_t collection,
                  const struct cairn_entity *entity)
{
    rowmodel_add_entity(&fixture->log, collection, fixture->log.count, entity);
}

void rowstore_add_number(struct rowstore_fixture *fixture, uint32_t collection, const char *key,
                         int64_t n)
{
    struct cairn_feature feature = {CAIRN_STR_LITERAL("n"),
                                    {.type = CAIRN_TYPE_INT64, .as.i64 = n}};
    struct cairn_entity entity = {.key = cairn_str_from(key),
                                  .event_time_us = CAIRN_TIME_NONE,
                                  .features = &feature,
                                  .features_count = 1,
                                  .if_offset = CAIRN_OFFSET_NONE};
    rowstore_add(fixture, collection, &entity);
}

void rowstore_add_delete(struct rowstore_fixture *fixture, uint32_t collection, const char *key)
{
    struct cairn_entity entity = {.key = cairn_str_from(key),
                                  .event_time_us = CAIRN_TIME_NONE,
                                  .op = CAIRN_OP_DELETE,
                                  .if_offset = CAIRN_OFFSET_NONE};
    rowstore_add(fixture, collection, &entity);
}

void rowstore_add_vector(struct rowstore_fixture *fixture, uint32_t collection, const char *key,
                         const char *name, const float *f32, uint32_t dim)
{
    struct cairn_vector vector = {cairn_str_from(name), f32, dim};
    struct cairn_entity entity = {.key = cairn_str_from(key),
                                  .event_time_us = CAIRN_TIME_NONE,
                                  .vectors = &vector,
                                  .vectors_count = 1,
                                  .if_offset = CAIRN_OFFSET_NONE};
    rowstore_add(fixture, collection, &entity);
}

int64_t rowstore_read_number(struct rowstore_fixture *fixture, uint32_t collection, const char *key)
{
    struct cairn_row_pin pin;
    struct cairn_row_cell cell = {.value.as.i64 = INT64_MIN};
    int code =
        cairn_rowstore_get(fixture->store, collection, cairn_str_from(key), &pin, &fixture->err);
    require(code == 0, fixture);
    if (pin.found)
        cairn_row_view_find(&pin.view, false, CAIRN_STR_LITERAL("n"), &cell);
    cairn_row_pin_release(&pin);
    cairn_row_pin_release(&pin); /* harmless */
    return cell.value.as.i64;
}

uint64_t rowstore_entities(struct rowstore_fixture *fixture, uint32_t collection)
{
    struct cairn_collection_counts counts;
    cairn_rowstore_counts(fixture->store, collection, &counts);
    return counts.entities;
}

struct import_check {
    const struct rowmodel *model;
    uint64_t applied;
    uint32_t next; /* index of the first record that has not been looked at */
};

/* The next record that begins an import. */
static bool next_begin(struct import_check *check, struct cairn_import_begin *begin)
{
    while (check->next < check->applied) {
        const struct cairn_log_record *record = &check->model->records[check->next++];
        if (record->kind == CAIRN_RECORD_IMPORT_BEGIN)
            return cairn_import_begin_decode(record->payload, begin, NULL) == 0;
    }
    return false;
}

static int check_import(void *arg, const struct cairn_import_state *state)
{
    struct import_check *check = arg;
    const struct rowmodel *model = check->model;
    struct cairn_import_begin begin = {0}, other;
    if (!next_begin(check, &begin) || begin.source != state->source ||
        state->begin_offset != check->next || !cairn_str_eq(begin.map_text, state->map_text))
        return CAIRN_ECORRUPT;
    uint64_t reached = 0, records = 0, bytes = 0;
    for (uint32_t i = check->next; i < check->applied; i++) {
        struct cairn_imported imported;
        struct cairn_str payload = model->records[i].payload;
        if (model->records[i].kind == CAIRN_RECORD_IMPORT_BEGIN &&
            cairn_import_begin_decode(payload, &other, NULL) == 0 && other.source == begin.source)
            break;
        if (model->records[i].kind != CAIRN_RECORD_IMPORT ||
            cairn_imported_decode(payload, &imported, NULL) != 0 || imported.source != begin.source)
            continue;
        reached = imported.source_offset;
        records++;
        bytes += imported.entity.len;
    }
    bool same = state->reached == reached && state->records == records && state->bytes == bytes;
    return same ? 0 : CAIRN_ECORRUPT;
}

bool rowstore_moves_agree(struct cairn_rowstore *store, const struct rowmodel *model)
{
    struct import_check check = {model, cairn_rowstore_applied(store), 0};
    struct cairn_import_begin begin;
    if (cairn_rowstore_each_import(store, check_import, &check, NULL) != 0 ||
        next_begin(&check, &begin))
        return false;
    struct cairn_str newest = {0};
    for (uint32_t i = 0; i < check.applied; i++) {
        if (model->records[i].kind == CAIRN_RECORD_MAP)
            newest = model->records[i].payload;
    }
    struct cairn_buf map = {0};
    cairn_rowstore_map(store, &map);
    bool same = cairn_str_eq(newest, (struct cairn_str){map.data, (uint32_t)map.len});
    cairn_buf_release(&map);
    return same;
}
