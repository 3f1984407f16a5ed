/* Random events against the naive model: every row, status, count, vector and scan, through
 * batches of any size, late, repeated and imported events, forgotten keys, dropped collections,
 * replays and reopening. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "tests/lib/rowstore_fixture.h"

#define EVENTS      2500
#define BATCH_MAX   60
#define FLOAT_BYTES 4

/* What an index would hold that follows the changes that applies report. */
struct mirror_entry {
    uint32_t collection;
    struct cairn_str key, vector;
    float f32[4];
    uint32_t dim;
    uint64_t offset;
};

struct fixture {
    struct cairn_test_dir dir;
    char path[CAIRN_TEST_PATH_BYTES];
    struct cairn_rowstore *store;
    struct rowmodel model;
    uint64_t random;
    struct mirror_entry mirror[4096];
    uint32_t mirror_count;
};

static void open_store(struct fixture *fixture)
{
    struct cairn_rowstore_options options = {.dir = fixture->path,
                                             .block_cache_bytes = 1 << 20,
                                             .row_cache_bytes = 64 << 10,
                                             .write_buffer_bytes = 1 << 20};
    struct cairn_error err = {0};
    int code = cairn_rowstore_open(&options, &fixture->store, &err);
    if (code != 0)
        fail_msg("open: %s", err.message);
}

static struct mirror_entry *find_mirror(struct fixture *fixture, uint32_t collection,
                                        struct cairn_str key, struct cairn_str vector)
{
    for (uint32_t i = 0; i < fixture->mirror_count; i++) {
        struct mirror_entry *entry = &fixture->mirror[i];
        if (entry->collection == collection && cairn_str_eq(entry->key, key) &&
            cairn_str_eq(entry->vector, vector))
            return entry;
    }
    return NULL;
}

static struct cairn_str kept_key(struct cairn_str key)
{
    for (uint32_t i = 0; i < ROWMODEL_KEYS; i++) {
        if (cairn_str_eq(rowmodel_keys[i], key))
            return rowmodel_keys[i];
    }
    fail_msg("a key that was never written");
    return key;
}

static void follow_change(struct fixture *fixture, const struct cairn_vector_change *change)
{
    struct mirror_entry *entry =
        find_mirror(fixture, change->collection, change->key, change->vector);
    if (change->f32 == NULL) {
        assert_non_null(entry);
        *entry = fixture->mirror[--fixture->mirror_count];
        return;
    }
    struct cairn_str payload = fixture->model.records[change->offset - 1].payload;
    const char *floats = (const char *)change->f32;
    assert_true(floats >= payload.ptr &&
                floats + change->dim * FLOAT_BYTES <= payload.ptr + payload.len);
    if (entry == NULL) {
        assert_true(fixture->mirror_count < 4096);
        entry = &fixture->mirror[fixture->mirror_count++];
        entry->collection = change->collection;
        entry->key = kept_key(change->key);
        entry->vector = cairn_str_eq(change->vector, rowmodel_vectors[0]) ? rowmodel_vectors[0]
                                                                          : rowmodel_vectors[1];
    }
    assert_true(change->dim <= 4);
    memcpy(entry->f32, change->f32, change->dim * FLOAT_BYTES);
    entry->dim = change->dim;
    entry->offset = change->offset;
}

static void forget_dropped(struct fixture *fixture, uint64_t applied)
{
    for (uint32_t i = fixture->mirror_count; i > 0; i--) {
        if (rowmodel_is_dropped(&fixture->model, fixture->mirror[i - 1].collection, applied))
            fixture->mirror[i - 1] = fixture->mirror[--fixture->mirror_count];
    }
}

static void check_vector(struct fixture *fixture, uint32_t collection, struct cairn_str key,
                         const struct cairn_row_cell *expected, struct cairn_str name,
                         uint64_t stamped)
{
    float f32[4];
    uint32_t dim = expected != NULL ? expected->value.len : 0;
    struct cairn_error err;
    const struct mirror_entry *entry = find_mirror(fixture, collection, key, name);
    if (dim == 0) {
        assert_int_equal(
            cairn_rowstore_get_vector(fixture->store, collection, key, name, f32, 1, &err),
            CAIRN_ENOVECTOR);
        assert_null(entry);
        return;
    }
    assert_int_equal(
        cairn_rowstore_get_vector(fixture->store, collection, key, name, f32, dim, &err), 0);
    assert_memory_equal(f32, expected->value.as.bytes, dim * FLOAT_BYTES);
    assert_non_null(entry);
    assert_int_equal(entry->dim, dim);
    assert_int_equal(entry->offset, stamped);
    assert_memory_equal(entry->f32, f32, dim * FLOAT_BYTES);
}

/* The stored cells are the model's, and each says since when. */
static void check_cells(struct fixture *fixture, uint32_t collection, struct cairn_str key,
                        const struct rowmodel_row *expected, const struct cairn_row_view *view)
{
    assert_int_equal(cairn_row_view_count(view), expected->cells_count);
    for (uint32_t i = 0; i < expected->cells_count; i++) {
        const struct cairn_row_cell *cell = &expected->cells[i];
        bool is_vector = cell->value.type == CAIRN_TYPE_VECTOR;
        struct cairn_row_cell stored;
        assert_true(cairn_row_view_find(view, is_vector, cell->name, &stored));
        assert_int_equal(stored.value.type, cell->value.type);
        assert_int_equal(stored.value.len, cell->value.len);
        if (!is_vector)
            assert_true(cairn_value_eq(&stored.value, &cell->value));
        assert_int_equal(stored.stamp.event_time_us, cell->stamp.event_time_us);
        assert_true(stored.stamp.offset <= cell->stamp.offset);
        assert_int_equal(stored.stamp.ingest_time_us,
                         fixture->model.ingest_times_us[stored.stamp.offset - 1]);
        assert_true(rowmodel_says(&fixture->model, stored.stamp.offset, collection, key, cell));
        if (is_vector)
            check_vector(fixture, collection, key, cell, cell->name, stored.stamp.offset);
    }
    for (uint32_t i = 0; i < 2; i++) {
        if (rowmodel_cell(expected, true, rowmodel_vectors[i]) == NULL)
            check_vector(fixture, collection, key, NULL, rowmodel_vectors[i], 0);
    }
}

static void check_row(struct fixture *fixture, uint32_t collection, struct cairn_str key,
                      const struct rowmodel_row *expected)
{
    struct cairn_row_pin pin;
    struct cairn_error err;
    assert_int_equal(cairn_rowstore_get(fixture->store, collection, key, &pin, &err), 0);
    assert_int_equal(pin.found, expected->exists);
    if (!expected->exists) {
        for (uint32_t i = 0; i < 2; i++)
            check_vector(fixture, collection, key, NULL, rowmodel_vectors[i], 0);
        cairn_row_pin_release(&pin);
        return;
    }
    check_cells(fixture, collection, key, expected, &pin.view);
    assert_int_equal(cairn_row_view_newest(&pin.view).offset, expected->newest.offset);
    assert_int_equal(cairn_row_view_newest(&pin.view).event_time_us,
                     expected->newest.event_time_us);
    struct cairn_stamp tombstone = cairn_row_view_tombstone(&pin.view);
    assert_int_equal(tombstone.offset != 0, expected->tombstone.offset != 0);
    if (tombstone.offset != 0)
        assert_int_equal(tombstone.event_time_us, expected->tombstone.event_time_us);
    assert_true(cairn_str_eq(cairn_row_view_route(&pin.view), expected->route));
    cairn_row_pin_release(&pin);
}

static void check_scan(struct fixture *fixture, uint32_t collection,
                       const struct rowmodel_row *expected, uint32_t from)
{
    struct cairn_row_scan *scan;
    struct cairn_error err;
    struct cairn_str after = {"", 0}, key;
    struct cairn_row_view view;
    if (from > 0)
        after = rowmodel_keys[from - 1];
    assert_int_equal(cairn_row_scan_open(fixture->store, collection, after, &scan, &err), 0);
    for (uint32_t i = from; i < ROWMODEL_KEYS; i++) {
        if (!expected[i].exists)
            continue;
        assert_int_equal(cairn_row_scan_next(scan, &key, &view, &err), 0);
        assert_true(cairn_str_eq(key, rowmodel_keys[i]));
        assert_int_equal(cairn_row_view_count(&view), expected[i].cells_count);
    }
    assert_int_equal(cairn_row_scan_next(scan, &key, &view, &err), CAIRN_EEND);
    assert_int_equal(cairn_row_scan_next(scan, &key, &view, &err), CAIRN_EEND);
    cairn_row_scan_close(&scan);
}

/* Every row that is stored is seen, and a forgotten one is not stored. */
static void check_scan_all(struct fixture *fixture, uint32_t collection,
                           const struct rowmodel_row *expected, uint32_t from)
{
    struct cairn_row_scan *scan;
    struct cairn_error err;
    struct cairn_str key;
    struct cairn_row_view view;
    struct cairn_str after = from > 0 ? rowmodel_keys[from - 1] : (struct cairn_str){0};
    assert_int_equal(cairn_row_scan_open_all(fixture->store, collection, after, &scan, &err), 0);
    for (uint32_t i = from; i < ROWMODEL_KEYS; i++) {
        if (expected[i].newest.offset == 0)
            continue;
        assert_int_equal(cairn_row_scan_next(scan, &key, &view, &err), 0);
        assert_true(cairn_str_eq(key, rowmodel_keys[i]));
        assert_int_equal(cairn_row_view_exists(&view), expected[i].exists);
        assert_int_equal(cairn_row_view_newest(&view).offset, expected[i].newest.offset);
    }
    assert_int_equal(cairn_row_scan_next(scan, &key, &view, &err), CAIRN_EEND);
    cairn_row_scan_close(&scan);
}

static void check_vector_scan(struct fixture *fixture, uint32_t collection,
                              const struct rowmodel_row *expected, struct cairn_str vector)
{
    struct cairn_vector_scan *scan;
    struct cairn_error err;
    struct cairn_str key;
    const float *f32;
    uint32_t dim;
    uint64_t offset;
    assert_int_equal(cairn_vector_scan_open(fixture->store, collection, vector, &scan, &err), 0);
    for (uint32_t i = 0; i < ROWMODEL_KEYS; i++) {
        const struct cairn_row_cell *cell = rowmodel_cell(&expected[i], true, vector);
        if (cell == NULL || cell->value.len == 0)
            continue;
        assert_int_equal(cairn_vector_scan_next(scan, &key, &f32, &dim, &offset, &err), 0);
        assert_true(cairn_str_eq(key, rowmodel_keys[i]));
        assert_int_equal(dim, cell->value.len);
        assert_memory_equal(f32, cell->value.as.bytes, dim * FLOAT_BYTES);
        assert_int_equal(offset, find_mirror(fixture, collection, key, vector)->offset);
    }
    assert_int_equal(cairn_vector_scan_next(scan, &key, &f32, &dim, &offset, &err), CAIRN_EEND);
    cairn_vector_scan_close(&scan);
}

static void check_collection(struct fixture *fixture, uint32_t collection, uint64_t applied)
{
    struct rowmodel_row *rows = calloc(ROWMODEL_KEYS, sizeof(*rows));
    struct cairn_collection_counts counts;
    uint64_t entities = 0, routed = 0;
    for (uint32_t i = 0; i < ROWMODEL_KEYS; i++) {
        rowmodel_row(&fixture->model, collection, rowmodel_keys[i], applied, &rows[i]);
        check_row(fixture, collection, rowmodel_keys[i], &rows[i]);
        entities += rows[i].exists;
        routed += rows[i].exists && rows[i].route.len > 0;
    }
    cairn_rowstore_counts(fixture->store, collection, &counts);
    assert_int_equal(counts.entities, entities);
    assert_int_equal(counts.routed, routed);
    uint32_t from = (uint32_t)cairn_test_random_below(&fixture->random, ROWMODEL_KEYS + 1);
    check_scan(fixture, collection, rows, 0);
    check_scan(fixture, collection, rows, from);
    check_scan_all(fixture, collection, rows, from);
    check_vector_scan(fixture, collection, rows, rowmodel_vectors[0]);
    check_vector_scan(fixture, collection, rows, rowmodel_vectors[1]);
    free(rows);
}

static void check_all(struct fixture *fixture, uint64_t applied)
{
    assert_int_equal(cairn_rowstore_applied(fixture->store), applied);
    assert_true(rowstore_moves_agree(fixture->store, &fixture->model));
    for (uint32_t id = 1; id < fixture->model.next_id; id++)
        check_collection(fixture, id, applied);
}

static void apply_records(struct fixture *fixture, uint64_t from, uint64_t to)
{
    static struct cairn_apply_result results[BATCH_MAX + 16];
    struct cairn_apply_output out = {.results = results};
    struct cairn_error err = {0};
    uint64_t applied = cairn_rowstore_applied(fixture->store);
    uint32_t count = (uint32_t)(to - from + 1);
    assert_true(count <= BATCH_MAX + 16);
    int code =
        cairn_rowstore_apply(fixture->store, &fixture->model.records[from - 1], count, &out, &err);
    if (code != 0)
        fail_msg("apply: %s", err.message);
    for (uint32_t i = 0; i < count; i++) {
        bool existed = false;
        enum cairn_write_status status = CAIRN_WRITE_APPLIED;
        if (from + i > applied)
            status = rowmodel_status(&fixture->model, from + i, &existed);
        if (results[i].status != status || results[i].existed != existed)
            fail_msg("offset %llu: status %d existed %d, the model says %d %d",
                     (unsigned long long)(from + i), results[i].status, results[i].existed, status,
                     existed);
    }
    for (uint32_t i = 0; i < out.changes_count; i++)
        follow_change(fixture, &out.changes[i]);
    forget_dropped(fixture, to);
}

static int setup(void **test)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    cairn_test_dir_make(&fixture->dir);
    cairn_test_dir_path(&fixture->dir, "rows", fixture->path);
    fixture->random = cairn_test_seed();
    rowmodel_init(&fixture->model);
    open_store(fixture);
    *test = fixture;
    return 0;
}

static int teardown(void **test)
{
    struct fixture *fixture = *test;
    cairn_rowstore_close(&fixture->store);
    rowmodel_release(&fixture->model);
    cairn_test_dir_remove(&fixture->dir);
    free(fixture);
    return 0;
}

static void store_agrees_with_the_model(void **test)
{
    struct fixture *fixture = *test;
    struct cairn_error err;
    uint64_t applied = 0;
    while (applied < EVENTS) {
        uint32_t size =
            1 + (uint32_t)cairn_test_random_below(
                    &fixture->random, cairn_test_random_below(&fixture->random, 2) ? 4 : BATCH_MAX);
        for (uint32_t i = 0; i < size; i++)
            rowmodel_add_random(&fixture->model, &fixture->random);
        uint64_t early = cairn_test_random_below(&fixture->random, 5) == 0 ? 10 : 0;
        uint64_t from = applied + 1 > early ? applied + 1 - early : 1;
        apply_records(fixture, from, applied + size);
        applied += size;
        uint64_t action = cairn_test_random_below(&fixture->random, 40);
        if (action == 0) {
            assert_int_equal(cairn_rowstore_flush(fixture->store, &err), 0);
        } else if (action == 1) {
            cairn_rowstore_close(&fixture->store);
            assert_null(fixture->store);
            open_store(fixture);
        }
        if (action < 8)
            check_all(fixture, applied);
    }
    check_all(fixture, applied);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(store_agrees_with_the_model, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
