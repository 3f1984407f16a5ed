#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "tests/lib/faulty_io.h"
#include "tests/lib/fixtures.h"
#include "tests/lib/testing.h"

#define COLLECTION 7u

struct fixture {
    struct cairn_test_dir dir;
    char path[CAIRN_TEST_PATH_BYTES];
    struct cairn_shard_options options;
    struct cairn_shard *shard;
    struct cairn_arena arena;
    struct cairn_faulty *faulty;
};

static void reopen(struct fixture *f)
{
    struct cairn_error err = {0};
    cairn_shard_close(&f->shard);
    if (cairn_shard_open(&f->options, &f->shard, &err) != 0)
        fail_msg("open: %s", err.message);
}

static int write_items(struct fixture *f, const struct cairn_shard_item *items, uint32_t count,
                       struct cairn_error *err)
{
    struct cairn_write_result results[64];
    return cairn_test_shard_write(f->shard, items, count, results, err);
}

static void write_schema(struct fixture *f, uint64_t version, bool dropped)
{
    struct cairn_error err = {0};
    struct cairn_buf text = {0};
    const struct cairn_schema *plain =
        cairn_test_schema("c", "{\"features\":{\"n\":{\"type\":\"int64\"}},\"vectors\":{\"v\":{"
                               "\"dim\":2,\"metric\":\"l2\"}}}");
    const struct cairn_schema *schema =
        cairn_schema_with_identity(plain, COLLECTION, version, 1, dropped);
    cairn_schema_encode(schema, &text);
    struct cairn_shard_item item = {
        .kind = CAIRN_RECORD_SCHEMA,
        .collection = COLLECTION,
        .payload = cairn_arena_dup(&f->arena, (struct cairn_str){text.data, (uint32_t)text.len}),
        .if_offset = CAIRN_OFFSET_NONE};
    assert_int_equal(write_items(f, &item, 1, &err), 0);
    cairn_buf_release(&text);
    cairn_schema_unref(schema);
    cairn_schema_unref(plain);
}

static struct cairn_shard_item item_of(struct fixture *f, const char *key, int64_t n,
                                       const float *f32)
{
    return (struct cairn_shard_item){.kind = CAIRN_RECORD_ENTITY,
                                     .collection = COLLECTION,
                                     .token = 1 + (uint64_t)key[0],
                                     .payload = cairn_test_entity(&f->arena, key, "", n, f32, 2),
                                     .key = cairn_arena_dup(&f->arena, cairn_str_from(key)),
                                     .if_offset = CAIRN_OFFSET_NONE};
}

static int put(struct fixture *f, const char *key, int64_t n, const float *f32,
               struct cairn_error *err)
{
    struct cairn_shard_item item = item_of(f, key, n, f32);
    return write_items(f, &item, 1, err);
}

static uint32_t search(struct fixture *f, float x, float y, struct cairn_index_hit *hits,
                       uint32_t k)
{
    float query[2] = {x, y};
    struct cairn_index_search asked = {.query = query, .k = k, .exact = true};
    struct cairn_error err = {0};
    uint32_t count = 0;
    const struct cairn_schema *plain = cairn_test_schema("c", "{}");
    const struct cairn_schema *schema = cairn_schema_with_identity(plain, COLLECTION, 1, 1, false);
    struct cairn_shard_read read = {
        .schema = schema, .epoch = cairn_shard_epoch(f->shard), .same_epoch = true};
    assert_int_equal(cairn_shard_search(f->shard, &read, CAIRN_STR_LITERAL("v"), &asked, NULL,
                                        &f->arena, hits, &count, &err),
                     0);
    cairn_schema_unref(schema);
    cairn_schema_unref(plain);
    return count;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    cairn_test_dir_make(&f->dir);
    cairn_test_dir_path(&f->dir, "shard", f->path);
    f->faulty = cairn_faulty_new(1);
    f->options = (struct cairn_shard_options){.dir = f->path, .id = 3};
    reopen(f);
    cairn_test_shard_own(f->shard, 3);
    write_schema(f, 1, false);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    cairn_shard_close(&f->shard);
    cairn_faulty_free(&f->faulty);
    cairn_arena_release(&f->arena);
    cairn_test_dir_remove(&f->dir);
    free(f);
    return 0;
}

static void a_write_is_visible_and_survives(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    struct cairn_index_hit hits[4];
    assert_int_equal(put(f, "a", 1, (float[]){0, 0}, &err), 0);
    assert_int_equal(put(f, "b", 2, (float[]){3, 4}, &err), 0);
    assert_int_equal(put(f, "a", 5, (float[]){1, 0}, &err), 0);
    assert_int_equal(cairn_shard_applied(f->shard), 5);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(cairn_test_shard_read(f->shard, COLLECTION, "a"), 5);
        assert_int_equal(cairn_test_shard_read(f->shard, COLLECTION, "b"), 2);
        assert_true(cairn_test_shard_read(f->shard, COLLECTION, "c") == INT64_MIN);
        assert_int_equal(search(f, 1, 0, hits, 4), 2);
        assert_true(cairn_str_eq(hits[0].key, CAIRN_STR_LITERAL("a")));
        assert_int_equal(hits[0].offset, 5);
        assert_true(hits[0].score == 0);
        assert_true(cairn_str_eq(hits[1].key, CAIRN_STR_LITERAL("b")));
        reopen(f);
        assert_int_equal(cairn_shard_applied(f->shard), 5);
    }
}

static void a_delete_leaves_the_index_too(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    struct cairn_index_hit hits[4];
    assert_int_equal(put(f, "a", 1, (float[]){0, 0}, &err), 0);
    struct cairn_shard_item gone = item_of(f, "a", 0, NULL);
    gone.payload = cairn_test_delete(&f->arena, "a");
    assert_int_equal(write_items(f, &gone, 1, &err), 0);
    for (int round = 0; round < 2; round++) {
        assert_true(cairn_test_shard_read(f->shard, COLLECTION, "a") == INT64_MIN);
        assert_int_equal(search(f, 0, 0, hits, 4), 0);
        reopen(f);
    }
}

static void preconditions_compare_and_set(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    struct cairn_shard_item item = item_of(f, "a", 1, NULL);
    item.if_offset = 0;
    assert_int_equal(write_items(f, &item, 1, &err), 0);
    uint64_t offset = cairn_shard_applied(f->shard);
    assert_int_equal(write_items(f, &item, 1, &err), CAIRN_EPRECONDITION);
    assert_int_equal(cairn_shard_applied(f->shard), offset);
    item = item_of(f, "a", 2, NULL);
    item.if_offset = offset;
    assert_int_equal(write_items(f, &item, 1, &err), 0);
    assert_int_equal(write_items(f, &item, 1, &err), CAIRN_EPRECONDITION);
    assert_int_equal(cairn_test_shard_read(f->shard, COLLECTION, "a"), 2);
    /* The same offset of another shard's log is another one. */
    item = item_of(f, "a", 3, NULL);
    offset = cairn_shard_applied(f->shard);
    item.if_offset = cairn_if_offset_on(2, offset);
    assert_int_equal(write_items(f, &item, 1, &err), CAIRN_EPRECONDITION);
    assert_non_null(strstr(err.message, "s2:"));
    item.if_offset = cairn_if_offset_on(3, offset);
    assert_int_equal(write_items(f, &item, 1, &err), 0);
    assert_int_equal(cairn_test_shard_read(f->shard, COLLECTION, "a"), 3);
    /* One failed precondition refuses the whole write. */
    struct cairn_shard_item both[2] = {item_of(f, "b", 9, NULL), item};
    assert_int_equal(write_items(f, both, 2, &err), CAIRN_EPRECONDITION);
    assert_true(cairn_test_shard_read(f->shard, COLLECTION, "b") == INT64_MIN);
}

struct increment_thread {
    struct fixture *fixture;
    struct cairn_arena arena;
    unsigned wins;
};

/* Read, then compare-and-set n + 1, until it has won often enough: no increment may be lost. */
static void *increment(void *argument)
{
    struct increment_thread *self = argument;
    const struct cairn_schema *plain = cairn_test_schema("c", "{}");
    const struct cairn_schema *schema = cairn_schema_with_identity(plain, COLLECTION, 1, 1, false);
    struct cairn_shard_read read = {.schema = schema};
    while (self->wins < 25) {
        struct cairn_row_pin pin = {0};
        struct cairn_row_cell cell;
        struct cairn_error err = {0};
        struct cairn_write_result result;
        cairn_shard_get(self->fixture->shard, &read, CAIRN_STR_LITERAL("counter"), &pin, &err);
        int64_t n = 0;
        uint64_t offset = 0;
        if (pin.found && cairn_row_view_find(&pin.view, false, CAIRN_STR_LITERAL("n"), &cell)) {
            n = cell.value.as.i64;
            offset = cell.stamp.offset;
        }
        cairn_row_pin_release(&pin);
        struct cairn_shard_item item = {
            .kind = CAIRN_RECORD_ENTITY,
            .collection = COLLECTION,
            .token = 99,
            .payload = cairn_test_entity(&self->arena, "counter", "", n + 1, NULL, 0),
            .key = CAIRN_STR_LITERAL("counter"),
            .if_offset = offset};
        int code = cairn_test_shard_write(self->fixture->shard, &item, 1, &result, &err);
        self->wins += code == 0;
        if (code != 0 && code != CAIRN_EPRECONDITION)
            break;
    }
    cairn_schema_unref(schema);
    cairn_schema_unref(plain);
    return NULL;
}

static void concurrent_compare_and_set_loses_nothing(void **state)
{
    struct fixture *f = *state;
    struct increment_thread threads[4] = {0};
    pthread_t ids[4];
    for (int i = 0; i < 4; i++) {
        threads[i].fixture = f;
        pthread_create(&ids[i], NULL, increment, &threads[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(ids[i], NULL);
        assert_int_equal(threads[i].wins, 25);
        cairn_arena_release(&threads[i].arena);
    }
    assert_int_equal(cairn_test_shard_read(f->shard, COLLECTION, "counter"), 100);
}

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open, entered;
    uint32_t done;
};

static void wait_at_gate(struct cairn_shard_write *write)
{
    struct gate *gate = write->context;
    pthread_mutex_lock(&gate->lock);
    gate->entered = true;
    pthread_cond_broadcast(&gate->changed);
    while (!gate->open)
        pthread_cond_wait(&gate->changed, &gate->lock);
    gate->done++;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->lock);
}

static void a_full_queue_is_refused(void **state)
{
    struct fixture *f = *state;
    struct gate gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct cairn_shard_item item = item_of(f, "a", 1, NULL);
    struct cairn_shard_write *writes = calloc(CAIRN_WRITE_QUEUE_MAX + 2, sizeof *writes);
    struct cairn_write_result *results = calloc(CAIRN_WRITE_QUEUE_MAX + 2, sizeof *results);
    for (uint32_t i = 0; i < CAIRN_WRITE_QUEUE_MAX + 2; i++)
        writes[i] = (struct cairn_shard_write){.items = &item,
                                               .count = 1,
                                               .results = &results[i],
                                               .done = wait_at_gate,
                                               .context = &gate};
    assert_int_equal(cairn_shard_submit(f->shard, &writes[0]), 0);
    pthread_mutex_lock(&gate.lock);
    while (!gate.entered)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
    /* The writer stands at the gate: exactly the queue's limit fits. */
    for (uint32_t i = 1; i <= CAIRN_WRITE_QUEUE_MAX; i++)
        assert_int_equal(cairn_shard_submit(f->shard, &writes[i]), 0);
    assert_int_equal(cairn_shard_submit(f->shard, &writes[CAIRN_WRITE_QUEUE_MAX + 1]),
                     CAIRN_EOVERLOADED);
    assert_int_equal(writes[CAIRN_WRITE_QUEUE_MAX + 1].error.code, CAIRN_EOVERLOADED);
    pthread_mutex_lock(&gate.lock);
    gate.open = true;
    pthread_cond_broadcast(&gate.changed);
    while (gate.done < CAIRN_WRITE_QUEUE_MAX + 1)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
    assert_int_equal(cairn_shard_applied(f->shard), 2 + 1 + CAIRN_WRITE_QUEUE_MAX);
    struct cairn_error err = {0};
    assert_int_equal(put(f, "b", 1, NULL, &err), 0);
    free(results);
    free(writes);
}

/* Two writes of one group may name a key under different routes, hence tokens. */
static void preconditions_see_their_own_group(void **state)
{
    struct fixture *f = *state;
    struct gate gate = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct cairn_shard_item items[3];
    struct cairn_write_result results[3];
    struct cairn_shard_write writes[3];
    for (uint32_t i = 0; i < 3; i++) {
        items[i] = item_of(f, i == 0 ? "first" : "key", i, NULL);
        items[i].token = 100 + 2 * i;
        items[i].if_offset = 0;
        writes[i] = (struct cairn_shard_write){.items = &items[i],
                                               .count = 1,
                                               .results = &results[i],
                                               .done = wait_at_gate,
                                               .context = &gate};
    }
    assert_int_equal(cairn_shard_submit(f->shard, &writes[0]), 0);
    pthread_mutex_lock(&gate.lock);
    while (!gate.entered)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
    /* The writer stands at the gate: both of these go into its next group. */
    assert_int_equal(cairn_shard_submit(f->shard, &writes[1]), 0);
    assert_int_equal(cairn_shard_submit(f->shard, &writes[2]), 0);
    pthread_mutex_lock(&gate.lock);
    gate.open = true;
    pthread_cond_broadcast(&gate.changed);
    while (gate.done < 3)
        pthread_cond_wait(&gate.changed, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
    assert_int_equal(writes[1].error.code, 0);
    assert_int_equal(writes[2].error.code, CAIRN_EPRECONDITION);
    assert_int_equal(cairn_test_shard_read(f->shard, COLLECTION, "key"), 1);
}

static void a_full_disk_refuses_writes_and_serves_reads(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    f->options.io = cairn_faulty_io(f->faulty);
    f->options.free_bytes_min = 1 << 20;
    reopen(f);
    assert_int_equal(put(f, "a", 1, NULL, &err), 0);
    cairn_faulty_fill_disk(f->faulty, 4096);
    assert_int_equal(put(f, "a", 2, NULL, &err), CAIRN_ENOSPACE);
    assert_int_equal(cairn_test_shard_read(f->shard, COLLECTION, "a"), 1);
    assert_int_equal(cairn_shard_state(f->shard, NULL), CAIRN_SHARD_SERVING);
    cairn_faulty_free_disk(f->faulty);
    assert_int_equal(put(f, "a", 3, NULL, &err), 0);
    assert_int_equal(cairn_test_shard_read(f->shard, COLLECTION, "a"), 3);
    reopen(f);
    assert_int_equal(cairn_test_shard_read(f->shard, COLLECTION, "a"), 3);
}

static void a_failed_fsync_stops_writes_until_restart(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    char reason[512];
    f->options.io = cairn_faulty_io(f->faulty);
    reopen(f);
    assert_int_equal(put(f, "a", 1, NULL, &err), 0);
    cairn_faulty_fail(f->faulty, CAIRN_FAULT_FDATASYNC, 0, 1, EIO);
    assert_int_equal(put(f, "a", 2, NULL, &err), CAIRN_EIO);
    assert_int_equal(put(f, "b", 3, NULL, &err), CAIRN_EIO);
    assert_int_equal(cairn_shard_state(f->shard, reason), CAIRN_SHARD_READ_ONLY);
    assert_true(strlen(reason) > 10);
    assert_int_equal(cairn_test_shard_read(f->shard, COLLECTION, "a"), 1);
    cairn_faulty_reset(f->faulty);
    reopen(f);
    assert_int_equal(cairn_shard_state(f->shard, NULL), CAIRN_SHARD_SERVING);
    int64_t a = cairn_test_shard_read(f->shard, COLLECTION, "a");
    assert_true(a == 1 || a == 2); /* never acknowledged: either is right */
    assert_true(cairn_test_shard_read(f->shard, COLLECTION, "b") == INT64_MIN);
    assert_int_equal(put(f, "a", 4, NULL, &err), 0);
}

static void overwrite(const char *path)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    for (int i = 0; i < 64; i++)
        fputc(0xA5, file);
    fclose(file);
}

static void views_are_rebuilt_from_the_log(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    struct cairn_index_hit hits[4];
    char path[CAIRN_TEST_PATH_BYTES * 2];
    assert_int_equal(put(f, "a", 1, (float[]){0, 0}, &err), 0);
    assert_int_equal(put(f, "b", 2, (float[]){5, 5}, &err), 0);
    for (int damage = 0; damage < 3; damage++) {
        cairn_shard_close(&f->shard);
        if (damage == 0) {
            snprintf(path, sizeof path, "%s/rows/CURRENT", f->path);
            overwrite(path);
        } else {
            snprintf(path, sizeof path, "%s/%s", f->path, damage == 1 ? "index" : "rows");
            assert_int_equal(cairn_io_remove_tree(cairn_io_posix(), path), 0);
        }
        reopen(f);
        assert_int_equal(cairn_shard_state(f->shard, NULL), CAIRN_SHARD_SERVING);
        assert_int_equal(cairn_shard_applied(f->shard), 4);
        assert_int_equal(cairn_test_shard_read(f->shard, COLLECTION, "a"), 1);
        assert_int_equal(search(f, 5, 5, hits, 4), 2);
        assert_true(cairn_str_eq(hits[0].key, CAIRN_STR_LITERAL("b")));
    }
}

/* A build that ends while an index is being filled from the row store saves what it has, at offset
 * 0. After a crash the entities deleted since must not come back with it. */
static void a_half_filled_index_is_thrown_away(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    struct cairn_index_hit hits[4];
    char dir[CAIRN_TEST_PATH_BYTES * 2], note[256];
    assert_int_equal(put(f, "a", 1, (float[]){0, 0}, &err), 0);
    cairn_shard_close(&f->shard);
    snprintf(dir, sizeof dir, "%s/index/%u-v", f->path, COLLECTION);
    assert_int_equal(cairn_io_remove_tree(cairn_io_posix(), dir), 0);
    struct cairn_index *index = NULL;
    struct cairn_index_options options = {.dir = dir, .dim = 2, .metric = CAIRN_METRIC_L2};
    assert_int_equal(cairn_index_open(&options, &index, note, &err), 0);
    assert_int_equal(
        cairn_index_upsert(index, CAIRN_STR_LITERAL("deleted"), (float[]){0, 0}, 1, &err), 0);
    assert_int_equal(cairn_index_save(index, &err), 0);
    cairn_index_close(&index);
    reopen(f);
    assert_int_equal(search(f, 0, 0, hits, 4), 1);
    assert_true(cairn_str_eq(hits[0].key, CAIRN_STR_LITERAL("a")));
}

/* As a kill after a build leaves it: the index was saved, the rows were not flushed. */
static void a_saved_index_outlives_unflushed_rows(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    struct cairn_index_hit hits[8];
    struct cairn_index_stats stats;
    char rows[CAIRN_TEST_PATH_BYTES * 2], older[CAIRN_TEST_PATH_BYTES * 2];
    char dir[CAIRN_TEST_PATH_BYTES * 2], note[256];
    snprintf(rows, sizeof rows, "%s/rows", f->path);
    snprintf(older, sizeof older, "%s/older", f->path);
    snprintf(dir, sizeof dir, "%s/index/%u-v", f->path, COLLECTION);
    assert_int_equal(put(f, "z", 0, (float[]){9, 9}, &err), 0);
    cairn_shard_close(&f->shard);
    assert_int_equal(rename(rows, older), 0);
    reopen(f);
    static const char *const keys[] = {"a", "b", "c", "d"};
    for (int i = 0; i < 4; i++)
        assert_int_equal(put(f, keys[i], i, (float[]){(float)i, 0}, &err), 0);
    assert_int_equal(put(f, "a", 5, (float[]){5, 0}, &err), 0);
    struct cairn_shard_item gone = item_of(f, "z", 0, NULL);
    gone.payload = cairn_test_delete(&f->arena, "z");
    assert_int_equal(write_items(f, &gone, 1, &err), 0);
    cairn_shard_close(&f->shard);

    struct cairn_index *index = NULL;
    struct cairn_index_options options = {.dir = dir, .dim = 2, .metric = CAIRN_METRIC_L2};
    assert_int_equal(cairn_index_open(&options, &index, note, &err), 0);
    assert_int_equal(cairn_index_build(index, &err), 0);
    cairn_index_close(&index);
    assert_int_equal(cairn_io_remove_tree(cairn_io_posix(), rows), 0);
    assert_int_equal(rename(older, rows), 0);
    for (int round = 0; round < 2; round++) {
        reopen(f);
        assert_int_equal(cairn_shard_applied(f->shard), 9);
        assert_int_equal(
            cairn_shard_index_stats(f->shard, COLLECTION, CAIRN_STR_LITERAL("v"), &stats), 0);
        assert_int_equal(stats.built, 4);
        assert_int_equal(stats.tail + stats.tombstones, 0);
        assert_int_equal(stats.indexed_offset, 9);
        assert_int_equal(search(f, 5, 0, hits, 8), 4);
        assert_true(cairn_str_eq(hits[0].key, CAIRN_STR_LITERAL("a")));
    }
}

/* The one segment file of a small log. */
static void find_segment(struct fixture *f, char *out, size_t size)
{
    char dir[CAIRN_TEST_PATH_BYTES * 2];
    snprintf(dir, sizeof dir, "%s/log", f->path);
    DIR *listing = opendir(dir);
    assert_non_null(listing);
    struct dirent *entry;
    out[0] = '\0';
    while ((entry = readdir(listing)) != NULL)
        if (strstr(entry->d_name, ".seg") != NULL)
            snprintf(out, size, "%s/%s", dir, entry->d_name);
    closedir(listing);
    assert_true(out[0] != '\0');
}

/* Flip a bit of an early record. */
static void damage_log(struct fixture *f)
{
    char path[CAIRN_TEST_PATH_BYTES * 3];
    find_segment(f, path, sizeof path);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, 700, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, 700, SEEK_SET);
    fputc(byte ^ 4, file);
    fclose(file);
}

static void a_damaged_log_stops_writes_and_serves_reads(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    char reason[512];
    for (int i = 0; i < 20; i++)
        assert_int_equal(put(f, "a", i, (float[]){(float)i, 0}, &err), 0);
    cairn_shard_close(&f->shard);
    damage_log(f);
    reopen(f);
    assert_int_equal(cairn_shard_state(f->shard, reason), CAIRN_SHARD_READ_ONLY);
    assert_non_null(strstr(reason, ".seg"));
    assert_int_equal(put(f, "a", 99, NULL, &err), CAIRN_ECORRUPT);
    assert_int_equal(cairn_test_shard_read(f->shard, COLLECTION, "a"), 19);
    struct cairn_index_hit hits[2];
    assert_int_equal(search(f, 19, 0, hits, 2), 1);
}

/* The log cannot say what an older index snapshot lacks, but the row store can. */
static void a_damaged_log_leaves_no_index_behind_its_rows(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    struct cairn_index_hit hits[4];
    char index[CAIRN_TEST_PATH_BYTES * 2], older[CAIRN_TEST_PATH_BYTES * 2];
    snprintf(index, sizeof index, "%s/index", f->path);
    snprintf(older, sizeof older, "%s/older", f->path);
    for (int i = 0; i < 20; i++)
        assert_int_equal(put(f, "a", i, (float[]){0, 0}, &err), 0);
    cairn_shard_close(&f->shard);
    assert_int_equal(rename(index, older), 0);
    reopen(f);
    struct cairn_shard_item gone = item_of(f, "a", 0, NULL);
    gone.payload = cairn_test_delete(&f->arena, "a");
    assert_int_equal(write_items(f, &gone, 1, &err), 0);
    assert_int_equal(put(f, "b", 1, (float[]){1, 1}, &err), 0);
    cairn_shard_close(&f->shard);
    assert_int_equal(cairn_io_remove_tree(cairn_io_posix(), index), 0);
    assert_int_equal(rename(older, index), 0);
    damage_log(f);
    reopen(f);
    assert_int_equal(cairn_shard_state(f->shard, NULL), CAIRN_SHARD_READ_ONLY);
    assert_int_equal(search(f, 0, 0, hits, 4), 1);
    assert_true(cairn_str_eq(hits[0].key, CAIRN_STR_LITERAL("b")));
}

static void a_row_store_ahead_of_the_log_is_rebuilt(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    char log[CAIRN_TEST_PATH_BYTES * 2];
    assert_int_equal(put(f, "a", 1, (float[]){1, 1}, &err), 0);
    cairn_shard_close(&f->shard);
    snprintf(log, sizeof log, "%s/log", f->path);
    assert_int_equal(cairn_io_remove_tree(cairn_io_posix(), log), 0);
    reopen(f);
    assert_int_equal(cairn_shard_applied(f->shard), 0);
    cairn_test_shard_own(f->shard, 3);
    assert_true(cairn_test_shard_read(f->shard, COLLECTION, "a") == INT64_MIN);
    write_schema(f, 1, false);
    assert_int_equal(put(f, "a", 2, (float[]){2, 2}, &err), 0);
    struct cairn_index_hit hits[2];
    assert_int_equal(search(f, 2, 2, hits, 2), 1);
    assert_true(hits[0].score == 0);
}

static void a_dropped_collection_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    char path[CAIRN_TEST_PATH_BYTES * 2];
    assert_int_equal(put(f, "a", 1, (float[]){0, 0}, &err), 0);
    write_schema(f, 2, true);
    for (int round = 0; round < 2; round++) {
        struct cairn_collection_counts counts;
        struct cairn_index_stats stats;
        cairn_shard_counts(f->shard, COLLECTION, &counts);
        assert_int_equal(counts.entities, 0);
        assert_true(cairn_test_shard_read(f->shard, COLLECTION, "a") == INT64_MIN);
        assert_int_equal(
            cairn_shard_index_stats(f->shard, COLLECTION, CAIRN_STR_LITERAL("v"), &stats),
            CAIRN_ENOVECTOR);
        snprintf(path, sizeof path, "%s/index/%u-v", f->path, COLLECTION);
        assert_null(opendir(path));
        reopen(f);
    }
}

/* A client may not be told that a write is safe when nobody will ever see it. */
static void a_write_to_a_dropped_collection_is_refused(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    assert_int_equal(put(f, "a", 1, (float[]){0, 0}, &err), 0);
    write_schema(f, 2, true);
    assert_int_equal(put(f, "a", 2, (float[]){0, 0}, &err), CAIRN_ENOCOLLECTION);
    assert_int_equal(cairn_shard_state(f->shard, NULL), CAIRN_SHARD_SERVING);
    reopen(f);
    assert_int_equal(put(f, "a", 3, (float[]){0, 0}, &err), CAIRN_ENOCOLLECTION);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_write_is_visible_and_survives),
        CASE(a_delete_leaves_the_index_too),
        CASE(preconditions_compare_and_set),
        CASE(concurrent_compare_and_set_loses_nothing),
        CASE(a_full_queue_is_refused),
        CASE(preconditions_see_their_own_group),
        CASE(a_full_disk_refuses_writes_and_serves_reads),
        CASE(a_failed_fsync_stops_writes_until_restart),
        CASE(views_are_rebuilt_from_the_log),
        CASE(a_half_filled_index_is_thrown_away),
        CASE(a_saved_index_outlives_unflushed_rows),
        CASE(a_damaged_log_stops_writes_and_serves_reads),
        CASE(a_damaged_log_leaves_no_index_behind_its_rows),
        CASE(a_row_store_ahead_of_the_log_is_rebuilt),
        CASE(a_dropped_collection_leaves_nothing),
        CASE(a_write_to_a_dropped_collection_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
