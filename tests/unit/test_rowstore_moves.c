/* What moving keys between shards leaves in the row store: maps, imports, forgotten keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/shard_wire.h"
#include "featurestore/import_record.h"
#include "tests/lib/rowstore_fixture.h"

static void add_begin(struct rowstore_fixture *fixture, uint32_t source, const char *map)
{
    struct cairn_import_begin begin = {source, cairn_str_from(map)};
    struct cairn_buf payload = {0};
    cairn_import_begin_encode(&begin, &payload);
    rowmodel_add_record(&fixture->log, CAIRN_RECORD_IMPORT_BEGIN, 0,
                        (struct cairn_str){payload.data, (uint32_t)payload.len});
    cairn_buf_release(&payload);
}

static void assert_map(struct rowstore_fixture *fixture, const char *expected)
{
    struct cairn_buf map = {0};
    cairn_buf_append(&map, "what was there", 14);
    cairn_rowstore_map(fixture->store, &map);
    assert_true(
        cairn_str_eq((struct cairn_str){map.data, (uint32_t)map.len}, cairn_str_from(expected)));
    cairn_buf_release(&map);
}

static void newest_map_is_kept(void **test)
{
    struct rowstore_fixture *fixture = *test;
    assert_map(fixture, "");
    rowmodel_add_record(&fixture->log, CAIRN_RECORD_MAP, 0, CAIRN_STR_LITERAL("epoch 1"));
    rowmodel_add_record(&fixture->log, CAIRN_RECORD_MAP, 0, CAIRN_STR_LITERAL("epoch 22"));
    assert_int_equal(rowstore_apply(fixture), 0);
    assert_int_equal(fixture->results[0].status, CAIRN_WRITE_UNCHANGED);
    assert_map(fixture, "epoch 22");
    rowmodel_add_record(&fixture->log, CAIRN_RECORD_MAP, 0, CAIRN_STR_LITERAL("epoch 3"));
    assert_int_equal(rowstore_apply(fixture), 0);
    rowstore_reopen(fixture);
    assert_map(fixture, "epoch 3");

    char *longest = cairn_calloc(1, CAIRN_MAP_BYTES_MAX + 1);
    memset(longest, 'm', CAIRN_MAP_BYTES_MAX);
    rowmodel_add_record(&fixture->log, CAIRN_RECORD_MAP, 0,
                        (struct cairn_str){longest, CAIRN_MAP_BYTES_MAX});
    add_begin(fixture, CAIRN_SHARDS_MAX - 1, longest);
    assert_int_equal(rowstore_apply(fixture), 0);
    rowstore_reopen(fixture);
    assert_map(fixture, longest);
    assert_true(rowstore_moves_agree(fixture->store, &fixture->log));
    free(longest);
}

static void import_keeps_when_it_was_first_accepted(void **test)
{
    struct rowstore_fixture *fixture = *test;
    struct cairn_feature feature = {CAIRN_STR_LITERAL("n"),
                                    {.type = CAIRN_TYPE_INT64, .as.i64 = 7}};
    struct cairn_entity entity = {.key = CAIRN_STR_LITERAL("a"),
                                  .event_time_us = CAIRN_TIME_NONE,
                                  .features = &feature,
                                  .features_count = 1,
                                  .if_offset = 0};
    add_begin(fixture, 3, "map");
    rowmodel_add_import(&fixture->log, 1, 1234567, 3, 42, &entity);
    assert_int_equal(rowstore_apply(fixture), 0);
    assert_int_equal(fixture->results[1].status, CAIRN_WRITE_APPLIED);
    assert_false(fixture->results[1].existed);
    rowstore_reopen(fixture);
    struct cairn_row_pin pin;
    struct cairn_row_cell cell;
    assert_int_equal(cairn_rowstore_get(fixture->store, 1, entity.key, &pin, &fixture->err), 0);
    assert_true(pin.found);
    assert_true(cairn_row_view_find(&pin.view, false, feature.name, &cell));
    assert_int_equal(cell.stamp.ingest_time_us, 1234567);
    assert_int_equal(cell.stamp.event_time_us, 1234567); /* it was given none */
    assert_int_equal(cell.stamp.offset, 2);
    cairn_row_pin_release(&pin);
    struct cairn_collection_counts counts;
    cairn_rowstore_counts(fixture->store, 1, &counts);
    assert_int_equal(counts.entities, 1);
    assert_int_equal(counts.newest_ingest_us, 1234567);
}

struct seen_imports {
    struct cairn_import_state states[4];
    uint32_t count;
    int stop; /* what the last one that fits returns */
};

static int see_import(void *arg, const struct cairn_import_state *state)
{
    struct seen_imports *seen = arg;
    assert_true(seen->count < 4);
    assert_true(
        cairn_str_eq(state->map_text, cairn_str_from(seen->count == 0 ? "first" : "later")));
    seen->states[seen->count++] = *state;
    return seen->stop;
}

static void imports_tell_how_far_they_are(void **test)
{
    struct rowstore_fixture *fixture = *test;
    struct cairn_entity entity = {.key = CAIRN_STR_LITERAL("a"), .if_offset = CAIRN_OFFSET_NONE};
    rowmodel_add_import(&fixture->log, 1, 5, 2, 9, &entity); /* of nothing that was begun */
    add_begin(fixture, 2, "first");
    rowmodel_add_import(&fixture->log, 1, 5, 2, 10, &entity);
    add_begin(fixture, 3, "later");
    rowmodel_add_import(&fixture->log, 1, 5, 2, 12, &entity);
    assert_int_equal(rowstore_apply(fixture), 0);
    rowmodel_add_schema(&fixture->log, 0, 1, true); /* what is dropped is copied all the same */
    rowmodel_add_import(&fixture->log, 1, 5, 3, 8, &entity);
    add_begin(fixture, 2, "later");
    rowmodel_add_import(&fixture->log, 1, 5, 2, 1, &entity);
    assert_int_equal(rowstore_apply(fixture), 0);
    assert_true(fixture->results[1].dropped);
    uint64_t bytes = cairn_entity_encode(fixture->log.encoder, &entity).len;
    for (int round = 0; round < 2; round++) {
        struct seen_imports seen = {0};
        assert_int_equal(
            cairn_rowstore_each_import(fixture->store, see_import, &seen, &fixture->err), 0);
        static const struct cairn_import_state expected[] = {
            {2, 2, 12, 2, 0, {0}}, {4, 3, 8, 1, 0, {0}}, {8, 2, 1, 1, 0, {0}}};
        assert_int_equal(seen.count, 3);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(seen.states[i].begin_offset, expected[i].begin_offset);
            assert_int_equal(seen.states[i].source, expected[i].source);
            assert_int_equal(seen.states[i].reached, expected[i].reached);
            assert_int_equal(seen.states[i].records, expected[i].records);
            assert_int_equal(seen.states[i].bytes, expected[i].records * bytes);
        }
        rowstore_reopen(fixture);
    }
    struct seen_imports seen = {.stop = -1000};
    assert_int_equal(cairn_rowstore_each_import(fixture->store, see_import, &seen, &fixture->err),
                     -1000);
    assert_int_equal(seen.count, 1);
}

/* In the batch that wrote it, from the store, and when the store has only its tombstone. */
static void forgotten_rows_were_never_there(void **test)
{
    struct rowstore_fixture *fixture = *test;
    float f32[2] = {1, 2};
    uint32_t b = 1u << 9, u1 = 1u << 18, u2 = 1u << 19, unknown = 1u << 11;
    rowstore_add_number(fixture, 1, "u1", 1);
    rowstore_add_vector(fixture, 1, "u1", "v", f32, 2);
    rowstore_add_vector(fixture, 1, "u1", "w", f32, 2);
    rowstore_add_number(fixture, 1, "u2", 1);
    rowstore_add_delete(fixture, 1, "u2");
    rowstore_add_number(fixture, 2, "u1", 1); /* another collection's */
    assert_int_equal(rowstore_apply(fixture), 0);
    assert_int_equal(rowstore_read_number(fixture, 1, "u1"), 1); /* and now it is cached */
    rowstore_add_vector(fixture, 1, "b", "v", f32, 2);
    rowmodel_add_forget(&fixture->log, 1, b | u1 | u2 | unknown);
    rowmodel_add_forget(&fixture->log, 1, b | unknown);
    rowmodel_add_forget(&fixture->log, 77, b);
    assert_int_equal(rowstore_apply(fixture), 0);
    static const enum cairn_write_status statuses[] = {
        CAIRN_WRITE_APPLIED, CAIRN_WRITE_APPLIED, CAIRN_WRITE_UNCHANGED, CAIRN_WRITE_UNCHANGED};
    for (int i = 0; i < 4; i++)
        assert_int_equal(fixture->results[i].status, statuses[i]);
    static const char *const changed[][2] = {{"b", "v"}, {"b", "v"}, {"u1", "v"}, {"u1", "w"}};
    assert_int_equal(fixture->out.changes_count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        const struct cairn_vector_change *change = &fixture->out.changes[i];
        assert_true(cairn_str_eq(change->key, cairn_str_from(changed[i][0])));
        assert_true(cairn_str_eq(change->vector, cairn_str_from(changed[i][1])));
        assert_int_equal(change->f32 == NULL, i > 0);
        assert_int_equal(change->offset, i > 0 ? 8 : 7);
    }
    for (int round = 0; round < 2; round++) {
        struct cairn_row_scan *scan;
        struct cairn_str key;
        struct cairn_row_view view;
        assert_int_equal(rowstore_entities(fixture, 1), 0);
        assert_int_equal(rowstore_read_number(fixture, 1, "u1"), INT64_MIN);
        assert_int_equal(rowstore_read_number(fixture, 2, "u1"), 1);
        assert_int_equal(cairn_rowstore_get_vector(fixture->store, 1, CAIRN_STR_LITERAL("u1"),
                                                   CAIRN_STR_LITERAL("v"), f32, 2, NULL),
                         CAIRN_ENOVECTOR);
        assert_int_equal(
            cairn_row_scan_open_all(fixture->store, 1, (struct cairn_str){0}, &scan, &fixture->err),
            0);
        assert_int_equal(cairn_row_scan_next(scan, &key, &view, &fixture->err), CAIRN_EEND);
        cairn_row_scan_close(&scan);
        rowstore_reopen(fixture);
    }
    /* Its tombstone would have hidden this. */
    struct cairn_entity late = {
        .key = CAIRN_STR_LITERAL("u2"), .event_time_us = 0, .if_offset = CAIRN_OFFSET_NONE};
    rowstore_add(fixture, 1, &late);
    assert_int_equal(rowstore_apply(fixture), 0);
    assert_int_equal(fixture->results[0].status, CAIRN_WRITE_APPLIED);
    assert_int_equal(rowstore_entities(fixture, 1), 1);
}

/* A record that forgets as many keys as one may, of which every second one has a row. */
static void most_keys_are_forgotten_at_once(void **test)
{
    struct rowstore_fixture *fixture = *test;
    static char texts[CAIRN_FORGET_KEYS_MAX + 1][8];
    static struct cairn_str keys[CAIRN_FORGET_KEYS_MAX + 1];
    for (uint32_t i = 0; i <= CAIRN_FORGET_KEYS_MAX; i++) {
        snprintf(texts[i], sizeof(texts[i]), "%u", i);
        keys[i] = cairn_str_from(texts[i]);
    }
    for (uint32_t i = 0; i < CAIRN_FORGET_KEYS_MAX; i += 2) {
        rowstore_add_number(fixture, 1, texts[i], i);
        if (i % 250 == 0)
            assert_int_equal(rowstore_apply(fixture), 0);
    }
    rowstore_add_number(fixture, 1, "spared", 1);
    assert_int_equal(rowstore_apply(fixture), 0);
    assert_int_equal(rowstore_entities(fixture, 1), CAIRN_FORGET_KEYS_MAX / 2 + 1);
    rowmodel_add_record(&fixture->log, CAIRN_RECORD_FORGET, 1,
                        cairn_forget_encode(fixture->log.encoder, keys, CAIRN_FORGET_KEYS_MAX));
    assert_int_equal(rowstore_apply(fixture), 0);
    assert_int_equal(rowstore_entities(fixture, 1), 1);
    assert_int_equal(rowstore_read_number(fixture, 1, "spared"), 1);

    rowmodel_add_record(&fixture->log, CAIRN_RECORD_FORGET, 1,
                        cairn_forget_encode(fixture->log.encoder, keys, CAIRN_FORGET_KEYS_MAX + 1));
    assert_int_equal(rowstore_apply(fixture), CAIRN_ECORRUPT);
}

static void forgetting_in_a_dropped_collection_is_nothing(void **test)
{
    struct rowstore_fixture *fixture = *test;
    rowmodel_add_schema(&fixture->log, 0, 7, false);
    rowstore_add_number(fixture, 7, "u1", 1);
    assert_int_equal(rowstore_apply(fixture), 0);
    rowmodel_add_schema(&fixture->log, 0, 7, true);
    rowmodel_add_forget(&fixture->log, 7, 1u << 18);
    assert_int_equal(rowstore_apply(fixture), 0);
    rowmodel_add_forget(&fixture->log, 7, 1u << 18);
    assert_int_equal(fixture->results[1].status, CAIRN_WRITE_UNCHANGED);
    assert_true(fixture->results[1].dropped);
    assert_int_equal(rowstore_apply(fixture), 0);
    assert_true(fixture->results[0].dropped);
    assert_int_equal(rowstore_entities(fixture, 7), 0);
}

static void damaged_payloads_name_their_offset(void **test)
{
    struct rowstore_fixture *fixture = *test;
    static _Alignas(8) char junk[64] = "junk that no verifier takes";
    static const uint8_t kinds[] = {CAIRN_RECORD_IMPORT,
                                    CAIRN_RECORD_IMPORT_BEGIN,
                                    CAIRN_RECORD_FORGET,
                                    CAIRN_RECORD_MAP,
                                    0,
                                    7};
    rowstore_add_number(fixture, 1, "a", 1);
    rowstore_add_number(fixture, 1, "a", 2);
    rowmodel_add_forget(&fixture->log, 1, 1u << 4);
    assert_int_equal(rowstore_apply(fixture), 0);
    for (size_t i = 0; i < sizeof(kinds); i++) {
        struct cairn_log_record records[2] = {fixture->log.records[0], fixture->log.records[1]};
        records[0].offset = 4;
        records[1].offset = 5;
        records[1].kind = kinds[i];
        records[1].payload = (struct cairn_str){junk, sizeof(junk)};
        if (kinds[i] == CAIRN_RECORD_MAP)
            records[1].payload.len = 0;
        assert_int_equal(
            cairn_rowstore_apply(fixture->store, records, 2, &fixture->out, &fixture->err),
            CAIRN_ECORRUPT);
        assert_int_equal(fixture->err.code, CAIRN_ECORRUPT);
        assert_non_null(strstr(fixture->err.message, "offset 5"));
    }
    /* An import whose entity is none. */
    struct cairn_imported imported = {.source = 1, .entity = {junk, sizeof(junk)}};
    rowmodel_add_record(&fixture->log, CAIRN_RECORD_IMPORT, 1,
                        cairn_imported_encode(fixture->log.encoder, &imported));
    assert_int_equal(rowstore_apply(fixture), CAIRN_ECORRUPT);
    assert_non_null(strstr(fixture->err.message, "offset 4"));
    assert_int_equal(cairn_rowstore_applied(fixture->store), 3);
    assert_int_equal(rowstore_entities(fixture, 1), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rowstore_setup, rowstore_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(newest_map_is_kept),
        TEST(import_keeps_when_it_was_first_accepted),
        TEST(imports_tell_how_far_they_are),
        TEST(forgotten_rows_were_never_there),
        TEST(most_keys_are_forgotten_at_once),
        TEST(forgetting_in_a_dropped_collection_is_nothing),
        TEST(damaged_payloads_name_their_offset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
