/* The row store through its interface: applying, reading, counts, schemas, limits, readers beside
 * the writer. Maps, imports and forgotten keys:
 * test_rowstore_moves.c; random histories: test_rowstore_model.c; damage:
 * fault/test_rowstore_damage.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "tests/lib/rowstore_fixture.h"

static void empty_store_has_nothing(void **test)
{
    struct rowstore_fixture *fixture = *test;
    assert_int_equal(cairn_rowstore_applied(fixture->store), 0);
    assert_int_equal(rowstore_read_number(fixture, 1, "k"), INT64_MIN);
    struct cairn_collection_counts counts;
    cairn_rowstore_counts(fixture->store, 1, &counts);
    assert_int_equal(counts.entities, 0);
    assert_int_equal(counts.newest_event_us, CAIRN_TIME_NONE);
    assert_int_equal(counts.newest_ingest_us, CAIRN_TIME_NONE);
    struct cairn_row_scan *scan;
    struct cairn_str key;
    struct cairn_row_view view;
    assert_int_equal(
        cairn_row_scan_open(fixture->store, 1, key = (struct cairn_str){0}, &scan, &fixture->err),
        0);
    assert_int_equal(cairn_row_scan_next(scan, &key, &view, &fixture->err), CAIRN_EEND);
    cairn_row_scan_close(&scan);
    cairn_row_scan_close(&scan);
    assert_int_equal(cairn_rowstore_flush(fixture->store, &fixture->err), 0);
    assert_int_equal(cairn_rowstore_apply(fixture->store, NULL, 0, &fixture->out, &fixture->err),
                     0);
    rowstore_reopen(fixture);
    assert_int_equal(cairn_rowstore_applied(fixture->store), 0);
}

static void records_of_one_batch_see_each_other(void **test)
{
    struct rowstore_fixture *fixture = *test;
    rowstore_add_number(fixture, 1, "a", 1);
    rowstore_add_number(fixture, 1, "a", 2);
    rowstore_add_number(fixture, 2, "a", 3);
    rowstore_add_delete(fixture, 1, "a");
    rowstore_add_delete(fixture, 1, "a");
    rowstore_add_number(fixture, 1, "a", 4);
    assert_int_equal(rowstore_apply(fixture), 0);
    static const struct {
        enum cairn_write_status status;
        bool existed;
    } expected[] = {{CAIRN_WRITE_APPLIED, false},   {CAIRN_WRITE_APPLIED, true},
                    {CAIRN_WRITE_APPLIED, false},   {CAIRN_WRITE_APPLIED, true},
                    {CAIRN_WRITE_UNCHANGED, false}, {CAIRN_WRITE_APPLIED, false}};
    for (int i = 0; i < 6; i++) {
        assert_int_equal(fixture->results[i].status, expected[i].status);
        assert_int_equal(fixture->results[i].existed, expected[i].existed);
    }
    assert_int_equal(rowstore_read_number(fixture, 1, "a"), 4);
    assert_int_equal(rowstore_read_number(fixture, 2, "a"), 3);
    assert_int_equal(rowstore_entities(fixture, 1), 1);
    assert_int_equal(rowstore_entities(fixture, 2), 1);
}

/* The entity count says nothing about whether there is a row to be read. */
static void tombstone_of_a_missing_entity_is_kept(void **test)
{
    struct rowstore_fixture *fixture = *test;
    rowstore_add_number(fixture, 1, "other", 1); /* so that ingest times rise */
    rowstore_add_delete(fixture, 1, "a");
    rowstore_add_delete(fixture, 1, "other");
    assert_int_equal(rowstore_apply(fixture), 0);
    assert_int_equal(rowstore_entities(fixture, 1), 0);
    rowstore_reopen(fixture);
    struct cairn_entity late = {
        .key = CAIRN_STR_LITERAL("a"), .event_time_us = 0, .if_offset = CAIRN_OFFSET_NONE};
    rowstore_add(fixture, 1, &late);
    assert_int_equal(rowstore_apply(fixture), 0);
    assert_int_equal(fixture->results[0].status, CAIRN_WRITE_SUPERSEDED);
    assert_int_equal(rowstore_entities(fixture, 1), 0);
    assert_int_equal(rowstore_read_number(fixture, 1, "a"), INT64_MIN);
}

static void replay_may_start_early(void **test)
{
    struct rowstore_fixture *fixture = *test;
    for (int i = 0; i < 10; i++)
        rowstore_add_number(fixture, 1, i % 2 ? "a" : "b", i);
    assert_int_equal(
        cairn_rowstore_apply(fixture->store, fixture->log.records, 6, &fixture->out, &fixture->err),
        0);
    memset(fixture->results, 0xFF, sizeof(fixture->results));
    assert_int_equal(cairn_rowstore_apply(fixture->store, fixture->log.records, 10, &fixture->out,
                                          &fixture->err),
                     0);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(fixture->results[i].status, 0);
        assert_false(fixture->results[i].existed);
    }
    assert_true(fixture->results[6].existed);
    assert_int_equal(cairn_rowstore_applied(fixture->store), 10);
    assert_int_equal(cairn_rowstore_apply(fixture->store, fixture->log.records, 10, &fixture->out,
                                          &fixture->err),
                     0);
    assert_int_equal(fixture->out.changes_count, 0);
    assert_int_equal(rowstore_read_number(fixture, 1, "a"), 9);
    assert_int_equal(rowstore_entities(fixture, 1), 2);
}

static void failed_apply_changes_nothing(void **test)
{
    struct rowstore_fixture *fixture = *test;
    rowstore_add_number(fixture, 1, "a", 1);
    assert_int_equal(rowstore_apply(fixture), 0);
    rowstore_add_number(fixture, 1, "a", 2);
    rowstore_add_number(fixture, 1, "b", 2);
    struct cairn_log_record good[2], broken[2];
    memcpy(good, &fixture->log.records[1], sizeof(good));
    static _Alignas(8) char junk[64] = "junk that no verifier takes";

    memcpy(broken, good, sizeof(broken));
    broken[1].payload = (struct cairn_str){junk, sizeof(junk)};
    assert_int_equal(cairn_rowstore_apply(fixture->store, broken, 2, &fixture->out, &fixture->err),
                     CAIRN_ECORRUPT);
    assert_int_equal(fixture->err.code, CAIRN_ECORRUPT);
    assert_non_null(strstr(fixture->err.message, "offset 3"));
    broken[1].kind = CAIRN_RECORD_SCHEMA;
    assert_int_equal(cairn_rowstore_apply(fixture->store, broken, 2, &fixture->out, &fixture->err),
                     CAIRN_ECORRUPT);
    broken[1] = good[1];
    broken[1].kind = 99;
    assert_int_equal(cairn_rowstore_apply(fixture->store, broken, 2, &fixture->out, &fixture->err),
                     CAIRN_ECORRUPT);
    broken[1] = good[1];
    broken[1].offset = good[0].offset;
    assert_int_equal(cairn_rowstore_apply(fixture->store, broken, 2, &fixture->out, &fixture->err),
                     CAIRN_EINTERNAL);

    assert_int_equal(cairn_rowstore_applied(fixture->store), 1);
    assert_int_equal(rowstore_entities(fixture, 1), 1);
    assert_int_equal(rowstore_read_number(fixture, 1, "a"), 1);
    assert_int_equal(rowstore_apply(fixture), 0);
    assert_int_equal(rowstore_read_number(fixture, 1, "b"), 2);
    assert_int_equal(rowstore_entities(fixture, 1), 2);
}

static void counts_follow_time_and_routes(void **test)
{
    struct rowstore_fixture *fixture = *test;
    struct cairn_entity entity = {.key = CAIRN_STR_LITERAL("a"),
                                  .route = CAIRN_STR_LITERAL("r"),
                                  .event_time_us = 500,
                                  .if_offset = CAIRN_OFFSET_NONE};
    rowmodel_add_entity(&fixture->log, 1, 100, &entity);
    entity.key = CAIRN_STR_LITERAL("b");
    entity.route = CAIRN_STR_LITERAL("b"); /* the key: not routed */
    entity.event_time_us = -5;
    rowmodel_add_entity(&fixture->log, 1, 200, &entity);
    assert_int_equal(rowstore_apply(fixture), 0);
    struct cairn_collection_counts counts;
    cairn_rowstore_counts(fixture->store, 1, &counts);
    assert_int_equal(counts.entities, 2);
    assert_int_equal(counts.routed, 1);
    assert_int_equal(counts.newest_event_us, 500);
    assert_int_equal(counts.newest_ingest_us, 200);
    entity = (struct cairn_entity){.key = CAIRN_STR_LITERAL("a"),
                                   .event_time_us = 600,
                                   .op = CAIRN_OP_DELETE,
                                   .if_offset = CAIRN_OFFSET_NONE};
    rowmodel_add_entity(&fixture->log, 1, 300, &entity);
    assert_int_equal(rowstore_apply(fixture), 0);
    rowstore_reopen(fixture);
    cairn_rowstore_counts(fixture->store, 1, &counts);
    assert_int_equal(counts.entities, 1);
    assert_int_equal(counts.routed, 0);
    assert_int_equal(counts.newest_event_us, 600);
    assert_int_equal(counts.newest_ingest_us, 300);
}

static int count_schema(void *arg, struct cairn_str text)
{
    assert_true(text.len > 0);
    return ++*(int *)arg == 3 ? -1000 : 0;
}

static void schemas_are_kept_by_name(void **test)
{
    struct rowstore_fixture *fixture = *test;
    rowmodel_add_schema(&fixture->log, 0, 7, false);
    rowmodel_add_schema(&fixture->log, 1, 8, false);
    rowmodel_add_schema(&fixture->log, 0, 7, false); /* evolved */
    assert_int_equal(rowstore_apply(fixture), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(fixture->results[i].status, CAIRN_WRITE_APPLIED);

    /* An old version again, in a batch of its own and after a restart. */
    struct cairn_log_record again = fixture->log.records[0];
    again.offset = 4;
    rowstore_reopen(fixture);
    assert_int_equal(cairn_rowstore_apply(fixture->store, &again, 1, &fixture->out, &fixture->err),
                     0);
    assert_int_equal(fixture->results[0].status, CAIRN_WRITE_UNCHANGED);
    int seen = 0;
    assert_int_equal(cairn_rowstore_each_schema(fixture->store, count_schema, &seen, &fixture->err),
                     0);
    assert_int_equal(seen, 2);
    seen = 1; /* the callback stops it */
    assert_int_equal(cairn_rowstore_each_schema(fixture->store, count_schema, &seen, &fixture->err),
                     -1000);
}

static void dropped_collection_is_gone(void **test)
{
    struct rowstore_fixture *fixture = *test;
    float f32[2] = {1, 2};
    rowmodel_add_schema(&fixture->log, 0, 7, false);
    rowstore_add_number(fixture, 7, "a", 1);
    rowstore_add_vector(fixture, 7, "a", "v", f32, 2);
    rowstore_add_number(fixture, 8, "a", 8); /* its neighbours by id */
    rowstore_add_vector(fixture, 8, "a", "v", f32, 2);
    rowstore_add_number(fixture, 6, "a", 6);
    assert_int_equal(rowstore_apply(fixture), 0);
    rowstore_add_number(fixture, 7, "b", 2); /* in the batch that drops, before and after */
    rowstore_add_vector(fixture, 7, "b", "v", f32, 2);
    rowmodel_add_schema(&fixture->log, 0, 7, true);
    rowstore_add_number(fixture, 7, "c", 3);
    rowmodel_add_schema(&fixture->log, 0, 9, false);
    rowstore_add_number(fixture, 9, "a", 9);
    assert_int_equal(rowstore_apply(fixture), 0);
    assert_int_equal(fixture->results[3].status, CAIRN_WRITE_UNCHANGED);
    for (int i = 0; i < 6; i++)
        assert_int_equal(fixture->results[i].dropped, i == 3);
    rowstore_add_number(fixture, 7, "d", 4);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(rowstore_apply(fixture), 0);
        assert_true(fixture->results[0].dropped);
        assert_int_equal(rowstore_entities(fixture, 7), 0);
        static const char *const keys[] = {"a", "b", "c", "d"};
        for (int i = 0; i < 4; i++) {
            assert_int_equal(rowstore_read_number(fixture, 7, keys[i]), INT64_MIN);
            assert_int_equal(cairn_rowstore_get_vector(fixture->store, 7, cairn_str_from(keys[i]),
                                                       CAIRN_STR_LITERAL("v"), f32, 2,
                                                       &fixture->err),
                             CAIRN_ENOVECTOR);
        }
        assert_int_equal(rowstore_read_number(fixture, 6, "a"), 6);
        assert_int_equal(rowstore_read_number(fixture, 8, "a"), 8);
        assert_int_equal(rowstore_read_number(fixture, 9, "a"), 9);
        assert_int_equal(cairn_rowstore_get_vector(fixture->store, 8, CAIRN_STR_LITERAL("a"),
                                                   CAIRN_STR_LITERAL("v"), f32, 2, &fixture->err),
                         0);
        rowstore_reopen(fixture);
        rowstore_add_number(fixture, 7, "d", 5);
    }
}

static void changes_name_what_an_index_must_do(void **test)
{
    struct rowstore_fixture *fixture = *test;
    float one[2] = {1, 1}, two[2] = {2, 2};
    rowstore_add_vector(fixture, 1, "a", "v", one, 2);
    rowstore_add_vector(fixture, 1, "a", "v", two, 2);
    rowstore_add_delete(fixture, 1, "a");
    rowstore_add_vector(fixture, 1, "b", "w", one, 2);
    assert_int_equal(rowstore_apply(fixture), 0);
    assert_int_equal(fixture->out.changes_count, 4);
    for (uint32_t i = 0; i < 4; i++) {
        const struct cairn_vector_change *change = &fixture->out.changes[i];
        assert_int_equal(change->collection, 1);
        assert_int_equal(change->offset, i + 1);
        assert_true(cairn_str_eq(change->key, cairn_str_from(i < 3 ? "a" : "b")));
        assert_true(cairn_str_eq(change->vector, cairn_str_from(i < 3 ? "v" : "w")));
        assert_int_equal(change->f32 == NULL, i == 2);
        assert_int_equal(change->dim, i == 2 ? 0 : 2);
    }
    assert_int_equal((int)fixture->out.changes[1].f32[0], 2);

    /* Repeating a vector that only the store still has is no change. */
    rowstore_reopen(fixture);
    struct cairn_log_record again = fixture->log.records[3];
    again.offset = 5;
    assert_int_equal(cairn_rowstore_apply(fixture->store, &again, 1, &fixture->out, &fixture->err),
                     0);
    assert_int_equal(fixture->results[0].status, CAIRN_WRITE_UNCHANGED);
    assert_int_equal(fixture->out.changes_count, 0);
}

static void vector_reads_check_the_dimension(void **test)
{
    struct rowstore_fixture *fixture = *test;
    float f32[3] = {1, 2, 3};
    struct cairn_str key = CAIRN_STR_LITERAL("a"), name = CAIRN_STR_LITERAL("v");
    rowstore_add_vector(fixture, 1, "a", "v", f32, 3);
    assert_int_equal(rowstore_apply(fixture), 0);
    assert_int_equal(cairn_rowstore_get_vector(fixture->store, 1, key, name, f32, 2, &fixture->err),
                     CAIRN_EDIMENSION);
    assert_int_equal(
        cairn_rowstore_get_vector(fixture->store, 1, name, name, f32, 3, &fixture->err),
        CAIRN_ENOVECTOR);
    char longest[CAIRN_KEY_BYTES_MAX + 1] = {0};
    assert_int_equal(
        cairn_rowstore_get_vector(fixture->store, 1, key,
                                  (struct cairn_str){longest, CAIRN_NAME_BYTES_MAX + 1}, f32, 3,
                                  &fixture->err),
        CAIRN_ENOVECTOR);
    struct cairn_vector_scan *scan;
    assert_int_equal(cairn_vector_scan_open(fixture->store, 1,
                                            (struct cairn_str){longest, CAIRN_NAME_BYTES_MAX + 1},
                                            &scan, &fixture->err),
                     CAIRN_ENAME);
    struct cairn_row_scan *rows;
    assert_int_equal(cairn_row_scan_open(fixture->store, 1,
                                         (struct cairn_str){longest, sizeof(longest)}, &rows,
                                         &fixture->err),
                     CAIRN_EKEY);
    struct cairn_row_pin pin;
    assert_int_equal(cairn_rowstore_get(fixture->store, 1,
                                        (struct cairn_str){longest, sizeof(longest)}, &pin,
                                        &fixture->err),
                     0);
    assert_false(pin.found);
}

static void largest_entities_are_stored_whole(void **test)
{
    struct rowstore_fixture *fixture = *test;
    static char key[CAIRN_KEY_BYTES_MAX], names[CAIRN_FEATURES_MAX][12];
    static char vector_names[CAIRN_VECTORS_MAX][CAIRN_NAME_BYTES_MAX];
    static struct cairn_feature features[CAIRN_FEATURES_MAX];
    static struct cairn_vector vectors[CAIRN_VECTORS_MAX];
    static float f32[CAIRN_DIM_MAX], read[CAIRN_DIM_MAX];
    memset(key, 'k', sizeof(key));
    for (uint32_t i = 0; i < CAIRN_FEATURES_MAX; i++) {
        snprintf(names[i], sizeof(names[i]), "f%u", i);
        features[i] = (struct cairn_feature){cairn_str_from(names[i]),
                                             {.type = CAIRN_TYPE_INT64, .as.i64 = i}};
    }
    for (uint32_t i = 0; i < CAIRN_DIM_MAX; i++)
        f32[i] = (float)i;
    for (uint32_t i = 0; i < CAIRN_VECTORS_MAX; i++) {
        memset(vector_names[i], 'a' + (int)i, CAIRN_NAME_BYTES_MAX);
        vectors[i] =
            (struct cairn_vector){{vector_names[i], CAIRN_NAME_BYTES_MAX}, f32, CAIRN_DIM_MAX};
    }
    struct cairn_entity entity = {.key = {key, sizeof(key)},
                                  .event_time_us = CAIRN_TIME_MAX,
                                  .features = features,
                                  .features_count = CAIRN_FEATURES_MAX,
                                  .vectors = vectors,
                                  .vectors_count = CAIRN_VECTORS_MAX,
                                  .if_offset = CAIRN_OFFSET_NONE};
    rowstore_add(fixture, UINT32_MAX, &entity);
    assert_int_equal(rowstore_apply(fixture), 0);
    assert_int_equal(fixture->out.changes_count, CAIRN_VECTORS_MAX);
    rowstore_reopen(fixture);
    struct cairn_row_pin pin;
    assert_int_equal(
        cairn_rowstore_get(fixture->store, UINT32_MAX, entity.key, &pin, &fixture->err), 0);
    assert_true(pin.found);
    assert_int_equal(cairn_row_view_count(&pin.view), CAIRN_FEATURES_MAX + CAIRN_VECTORS_MAX);
    struct cairn_row_cell cell;
    assert_true(cairn_row_view_find(&pin.view, false, CAIRN_STR_LITERAL("f4095"), &cell));
    assert_int_equal(cell.value.as.i64, 4095);
    cairn_row_pin_release(&pin);
    assert_int_equal(cairn_rowstore_get_vector(fixture->store, UINT32_MAX, entity.key,
                                               vectors[15].name, read, CAIRN_DIM_MAX,
                                               &fixture->err),
                     0);
    assert_memory_equal(read, f32, sizeof(f32));
    struct cairn_row_scan *scan;
    struct cairn_str scanned;
    struct cairn_row_view view;
    assert_int_equal(cairn_row_scan_open(fixture->store, UINT32_MAX, (struct cairn_str){0}, &scan,
                                         &fixture->err),
                     0);
    assert_int_equal(cairn_row_scan_next(scan, &scanned, &view, &fixture->err), 0);
    assert_int_equal(scanned.len, CAIRN_KEY_BYTES_MAX);
    cairn_row_scan_close(&scan);
    rowmodel_add_schema(&fixture->log, 0, UINT32_MAX, true);
    assert_int_equal(rowstore_apply(fixture), 0);
    assert_int_equal(
        cairn_rowstore_get(fixture->store, UINT32_MAX, entity.key, &pin, &fixture->err), 0);
    assert_false(pin.found);
}

static void scan_is_a_snapshot(void **test)
{
    struct rowstore_fixture *fixture = *test;
    for (int i = 0; i < 100; i++) {
        char key[8];
        snprintf(key, sizeof(key), "k%02d", i);
        rowstore_add_number(fixture, 1, key, i);
    }
    assert_int_equal(rowstore_apply(fixture), 0);
    struct cairn_row_scan *scan;
    struct cairn_str key;
    struct cairn_row_view view;
    assert_int_equal(
        cairn_row_scan_open(fixture->store, 1, CAIRN_STR_LITERAL("k49"), &scan, &fixture->err), 0);
    rowstore_add_delete(fixture, 1, "k50");
    rowstore_add_number(fixture, 1, "k51", 1000);
    rowstore_add_number(fixture, 1, "k999", 1);
    assert_int_equal(rowstore_apply(fixture), 0);
    assert_int_equal(cairn_rowstore_flush(fixture->store, &fixture->err), 0);
    for (int i = 50; i < 100; i++) {
        struct cairn_row_cell cell;
        assert_int_equal(cairn_row_scan_next(scan, &key, &view, &fixture->err), 0);
        assert_true(cairn_row_view_find(&view, false, CAIRN_STR_LITERAL("n"), &cell));
        assert_int_equal(cell.value.as.i64, i);
    }
    assert_int_equal(cairn_row_scan_next(scan, &key, &view, &fixture->err), CAIRN_EEND);
    cairn_row_scan_close(&scan);
}

static void bytes_are_reported(void **test)
{
    struct rowstore_fixture *fixture = *test;
    for (int i = 0; i < 200; i++) {
        char key[8];
        snprintf(key, sizeof(key), "%d", i);
        rowstore_add_number(fixture, 1, key, i);
    }
    assert_int_equal(rowstore_apply(fixture), 0);
    uint64_t disk, memory;
    cairn_rowstore_bytes(fixture->store, &disk, &memory);
    assert_int_equal(disk, 0);
    assert_true(memory > 200 * 50);
    assert_int_equal(cairn_rowstore_flush(fixture->store, &fixture->err), 0);
    cairn_rowstore_bytes(fixture->store, &disk, &memory);
    assert_true(disk > 200 * 8);
}

/* Readers beside the writer. */

#define PAIRS 50

struct reader {
    struct rowstore_fixture *fixture;
    atomic_bool *stop;
    atomic_uint *torn; /* rows whose two features differ, or that went back in time */
    atomic_uint *reads;
};

static bool read_pair(struct cairn_rowstore *store, int number, int64_t *n)
{
    char key[16];
    snprintf(key, sizeof(key), "k%d", number);
    struct cairn_row_pin pin;
    struct cairn_row_cell a, b;
    bool same = cairn_rowstore_get(store, 1, cairn_str_from(key), &pin, NULL) == 0;
    *n = 0;
    if (same && pin.found) {
        same = cairn_row_view_find(&pin.view, false, CAIRN_STR_LITERAL("a"), &a) &&
               cairn_row_view_find(&pin.view, false, CAIRN_STR_LITERAL("b"), &b) &&
               a.value.as.i64 == b.value.as.i64;
        *n = a.value.as.i64;
    }
    cairn_row_pin_release(&pin);
    return same;
}

static void *read_pairs(void *arg)
{
    struct reader *reader = arg;
    struct cairn_rowstore *store = reader->fixture->store;
    for (int i = 0; !atomic_load(reader->stop); i = (i + 1) % PAIRS) {
        uint64_t before = cairn_rowstore_applied(store);
        struct cairn_collection_counts counts;
        cairn_rowstore_counts(store, 1, &counts);
        int64_t n;
        bool good = read_pair(store, i, &n);
        /* Each batch writes its own number to all keys. */
        good = good && (uint64_t)n * PAIRS >= before;
        good = good && counts.entities == (before == 0 ? counts.entities : PAIRS);
        atomic_fetch_add(reader->torn, !good);
        atomic_fetch_add(reader->reads, 1);
    }
    return NULL;
}

static void readers_see_whole_and_newest_rows(void **test)
{
    struct rowstore_fixture *fixture = *test;
    atomic_bool stop = false;
    atomic_uint torn = 0, reads = 0;
    struct reader reader = {fixture, &stop, &torn, &reads};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_pairs, &reader), 0);
    for (int batch = 1; batch <= 200 || atomic_load(&reads) < 1000; batch++) {
        for (int i = 0; i < PAIRS; i++) {
            char key[16];
            snprintf(key, sizeof(key), "k%d", i);
            struct cairn_value value = {.type = CAIRN_TYPE_INT64, .as.i64 = batch};
            struct cairn_feature features[2] = {{CAIRN_STR_LITERAL("a"), value},
                                                {CAIRN_STR_LITERAL("b"), value}};
            struct cairn_entity entity = {.key = cairn_str_from(key),
                                          .event_time_us = batch,
                                          .features = features,
                                          .features_count = 2,
                                          .if_offset = CAIRN_OFFSET_NONE};
            rowstore_add(fixture, 1, &entity);
        }
        assert_int_equal(rowstore_apply(fixture), 0);
        if (batch % 50 == 0)
            assert_int_equal(cairn_rowstore_flush(fixture->store, &fixture->err), 0);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&torn), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rowstore_setup, rowstore_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(empty_store_has_nothing),
        TEST(records_of_one_batch_see_each_other),
        TEST(tombstone_of_a_missing_entity_is_kept),
        TEST(replay_may_start_early),
        TEST(failed_apply_changes_nothing),
        TEST(counts_follow_time_and_routes),
        TEST(schemas_are_kept_by_name),
        TEST(dropped_collection_is_gone),
        TEST(changes_name_what_an_index_must_do),
        TEST(vector_reads_check_the_dimension),
        TEST(largest_entities_are_stored_whole),
        TEST(scan_is_a_snapshot),
        TEST(bytes_are_reported),
        TEST(readers_see_whole_and_newest_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
