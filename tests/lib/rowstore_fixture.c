#include "tests/lib/rowstore_fixture.h"

#include <stdio.h>
#include <stdlib.h>

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
