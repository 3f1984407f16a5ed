/* A process that applies records is killed at any moment: what is found afterwards is the store as
 * it was after one of its applies, rows, vectors, counts and imports together; never before what a
 * flush had promised; and replaying the rest of the log brings it to the end. The victim is this
 * program itself, started again with arguments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/rowstore_fixture.h"

#define EVENTS    6000
#define BATCH_MAX 40
#define ROUNDS    12

/* What the victim reports after each step. */
struct progress {
    uint64_t applied;
    uint64_t flushed; /* a flush has returned: never less than this again */
};

static struct cairn_rowstore *open_store(const char *path)
{
    /* The smallest write buffer that RocksDB takes, so that flushes and compactions go on all the
     * time. */
    struct cairn_rowstore_options options = {.dir = path,
                                             .block_cache_bytes = 1 << 20,
                                             .row_cache_bytes = 64 << 10,
                                             .write_buffer_bytes = 64 << 10};
    struct cairn_rowstore *store;
    struct cairn_error err = {0};
    if (cairn_rowstore_open(&options, &store, &err) != 0) {
        fprintf(stderr, "%s\n", err.message);
        return NULL;
    }
    return store;
}

static void fill_model(struct rowmodel *model, uint64_t seed)
{
    uint64_t random = seed;
    rowmodel_init(model);
    while (model->count < EVENTS)
        rowmodel_add_random(model, &random);
}

static int apply_from(struct cairn_rowstore *store, const struct rowmodel *model, uint32_t count)
{
    struct cairn_apply_result results[BATCH_MAX];
    struct cairn_apply_output out = {.results = results};
    struct cairn_error err;
    uint64_t applied = cairn_rowstore_applied(store);
    if (count > model->count - applied)
        count = (uint32_t)(model->count - applied);
    return cairn_rowstore_apply(store, &model->records[applied], count, &out, &err);
}

/* Apply, flush now and then, report, until someone kills us or the log ends. */
static int run_victim(const char *path, uint64_t seed, uint64_t random)
{
    struct rowmodel model;
    fill_model(&model, seed);
    struct cairn_rowstore *store = open_store(path);
    if (store == NULL)
        return 1;
    struct progress progress = {0};
    while (cairn_rowstore_applied(store) < EVENTS) {
        uint32_t count = 1 + (uint32_t)cairn_test_random_below(&random, BATCH_MAX);
        if (apply_from(store, &model, count) != 0)
            return 1;
        if (cairn_test_random_below(&random, 16) == 0) {
            struct cairn_error err;
            if (cairn_rowstore_flush(store, &err) != 0)
                return 1;
            progress.flushed = cairn_rowstore_applied(store);
        }
        progress.applied = cairn_rowstore_applied(store);
        if (write(STDOUT_FILENO, &progress, sizeof(progress)) != sizeof(progress))
            return 1;
    }
    kill(getpid(), SIGKILL);
    return 1;
}

static pid_t start_victim(const char *path, uint64_t seed, uint64_t random, int *progress_fd)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    char seed_text[32], random_text[32];
    snprintf(seed_text, sizeof(seed_text), "%llu", (unsigned long long)seed);
    snprintf(random_text, sizeof(random_text), "%llu", (unsigned long long)random);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        close(fds[0]);
        close(fds[1]);
        execl("/proc/self/exe", "victim", path, seed_text, random_text, (char *)NULL);
        _exit(127);
    }
    close(fds[1]);
    *progress_fd = fds[0];
    return pid;
}

/* Let it take `steps` steps, kill it, and return what it reported last. */
static struct progress kill_victim(pid_t pid, int progress_fd, uint64_t steps)
{
    struct progress progress, last = {0};
    for (bool alive = true;;) {
        ssize_t got = read(progress_fd, &progress, sizeof(progress));
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            break;
        assert_int_equal(got, sizeof(progress)); /* writes this small are atomic */
        last = progress;
        if (alive && steps-- == 0) {
            kill(pid, SIGKILL);
            alive = false;
        }
    }
    close(progress_fd);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
    return last;
}

static void check_row(struct cairn_rowstore *store, const struct rowmodel *model,
                      uint32_t collection, struct cairn_str key, const struct rowmodel_row *row)
{
    struct cairn_row_pin pin;
    struct cairn_error err;
    assert_int_equal(cairn_rowstore_get(store, collection, key, &pin, &err), 0);
    assert_int_equal(pin.found, row->exists);
    if (row->exists)
        assert_int_equal(cairn_row_view_count(&pin.view), row->cells_count);
    for (uint32_t i = 0; i < row->cells_count; i++) {
        const struct cairn_row_cell *cell = &row->cells[i];
        bool is_vector = cell->value.type == CAIRN_TYPE_VECTOR;
        struct cairn_row_cell stored;
        assert_true(cairn_row_view_find(&pin.view, is_vector, cell->name, &stored));
        assert_int_equal(stored.stamp.event_time_us, cell->stamp.event_time_us);
        assert_true(rowmodel_says(model, stored.stamp.offset, collection, key, cell));
        if (!is_vector) {
            assert_true(cairn_value_eq(&stored.value, &cell->value));
            continue;
        }
        float f32[4];
        int code = cairn_rowstore_get_vector(store, collection, key, cell->name, f32,
                                             cell->value.len, &err);
        assert_int_equal(code, cell->value.len == 0 ? CAIRN_ENOVECTOR : 0);
        assert_memory_equal(f32, cell->value.as.bytes, cell->value.len * 4);
    }
    cairn_row_pin_release(&pin);
}

static uint64_t count_vectors(struct cairn_rowstore *store, uint32_t collection)
{
    uint64_t count = 0;
    for (int i = 0; i < 2; i++) {
        struct cairn_vector_scan *scan;
        struct cairn_error err;
        struct cairn_str key;
        const float *f32;
        uint32_t dim;
        uint64_t offset;
        assert_int_equal(
            cairn_vector_scan_open(store, collection, rowmodel_vectors[i], &scan, &err), 0);
        while (cairn_vector_scan_next(scan, &key, &f32, &dim, &offset, &err) == 0)
            count++;
        assert_int_equal(err.code, CAIRN_EEND);
        cairn_vector_scan_close(&scan);
    }
    return count;
}

static void check_store(struct cairn_rowstore *store, const struct rowmodel *model)
{
    uint64_t applied = cairn_rowstore_applied(store);
    assert_true(rowstore_moves_agree(store, model));
    for (uint32_t id = 1; id < model->next_id; id++) {
        uint64_t entities = 0, routed = 0, vectors = 0;
        for (uint32_t i = 0; i < ROWMODEL_KEYS; i++) {
            struct rowmodel_row row;
            rowmodel_row(model, id, rowmodel_keys[i], applied, &row);
            check_row(store, model, id, rowmodel_keys[i], &row);
            entities += row.exists;
            routed += row.exists && row.route.len > 0;
            for (uint32_t c = 0; c < row.cells_count; c++)
                vectors +=
                    row.cells[c].value.type == CAIRN_TYPE_VECTOR && row.cells[c].value.len > 0;
        }
        struct cairn_collection_counts counts;
        cairn_rowstore_counts(store, id, &counts);
        assert_int_equal(counts.entities, entities);
        assert_int_equal(counts.routed, routed);
        assert_int_equal(count_vectors(store, id), vectors);
    }
}

static void killed_store_is_a_prefix_of_the_log(void **test)
{
    (void)test;
    uint64_t seed = cairn_test_seed(), random = seed;
    struct cairn_test_dir dir;
    char path[CAIRN_TEST_PATH_BYTES];
    struct rowmodel model;
    fill_model(&model, seed);
    cairn_test_dir_make(&dir);
    cairn_test_dir_path(&dir, "rows", path);
    uint64_t kept = 0;
    for (int round = 0; round < ROUNDS; round++) {
        int progress_fd;
        pid_t pid = start_victim(path, seed, cairn_test_random(&random), &progress_fd);
        struct progress last =
            kill_victim(pid, progress_fd, cairn_test_random_below(&random, 2 * EVENTS / 200));
        struct cairn_rowstore *store = open_store(path);
        assert_non_null(store);
        uint64_t applied = cairn_rowstore_applied(store);
        assert_true(applied >= kept && applied >= last.flushed);
        /* It may have been killed between an apply and the report of it. */
        assert_true(applied <= last.applied + BATCH_MAX || last.applied == 0);
        check_store(store, &model);
        kept = applied;
        cairn_rowstore_close(&store);
    }

    struct cairn_rowstore *store = open_store(path);
    assert_non_null(store);
    while (cairn_rowstore_applied(store) < EVENTS)
        assert_int_equal(apply_from(store, &model, BATCH_MAX), 0);
    check_store(store, &model);
    cairn_rowstore_close(&store);
    store = open_store(path);
    assert_non_null(store);
    assert_int_equal(cairn_rowstore_applied(store), EVENTS);
    check_store(store, &model);
    cairn_rowstore_close(&store);
    rowmodel_release(&model);
    cairn_test_dir_remove(&dir);
}

int main(int argc, char **argv)
{
    if (argc == 4)
        return run_victim(argv[1], strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_store_is_a_prefix_of_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
