/* Damage to saved files: each is set aside with a note, and the index opens empty at offset 0. And
 * failing writes: a save or build that fails leaves what was saved before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/faulty_io.h"
#include "tests/lib/index_fixture.h"

enum { COUNT = 300, DIM = 8, FILES_MAX = 16, NAME_BYTES = 64 };

/* Built with a tail on top, saved at offset 1000, closed. */
static void make_saved(struct index_fixture *fixture, struct index_model *model,
                       enum cairn_index_kind kind)
{
    uint64_t random = 3;
    float *vectors = test_clustered(&random, COUNT, DIM, 4);
    index_fixture_open(fixture, kind, CAIRN_METRIC_COSINE, DIM);
    index_model_init(model, CAIRN_METRIC_COSINE, DIM, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        index_put(fixture, model, i, vectors + (size_t)i * DIM, i);
        if (i == COUNT * 2 / 3)
            assert_int_equal(cairn_index_build(fixture->index, NULL), 0);
    }
    index_drop(fixture, model, 5, COUNT);
    cairn_index_set_offset(fixture->index, 1000);
    assert_int_equal(cairn_index_save(fixture->index, NULL), 0);
    cairn_index_close(&fixture->index);
    free(vectors);
}

static void release(struct index_fixture *fixture, struct index_model *model)
{
    index_model_release(model);
    index_fixture_close(fixture);
}

/* Paths below dir of all files that make up the saved index. */
static int find_files(const struct index_fixture *fixture, char files[FILES_MAX][NAME_BYTES])
{
    int count = 0;
    char path[CAIRN_TEST_PATH_BYTES];
    snprintf(files[count++], NAME_BYTES, "CURRENT");
    DIR *top = opendir(fixture->dir.path);
    assert_non_null(top);
    for (struct dirent *at; (at = readdir(top)) != NULL;) {
        if (strncmp(at->d_name, "gen-", 4) != 0)
            continue;
        cairn_test_dir_path(&fixture->dir, at->d_name, path);
        DIR *generation = opendir(path);
        assert_non_null(generation);
        for (struct dirent *file; (file = readdir(generation)) != NULL;)
            if (file->d_name[0] != '.')
                snprintf(files[count++], NAME_BYTES, "%.20s/%.30s", at->d_name, file->d_name);
        closedir(generation);
    }
    closedir(top);
    return count;
}

static void flip(const char *path, off_t at)
{
    unsigned char byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x40;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void damage(const char *path, int how)
{
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    switch (how) {
    case 0:
        assert_int_equal(unlink(path), 0);
        break;
    case 1:
        assert_int_equal(truncate(path, 0), 0);
        break;
    case 2:
        assert_int_equal(truncate(path, info.st_size - 1), 0);
        break;
    case 3:
        assert_int_equal(truncate(path, info.st_size / 2), 0);
        break;
    case 4:
        flip(path, 0);
        break;
    case 5:
        flip(path, info.st_size - 2);
        break;
    default:
        flip(path, info.st_size / 2);
        break;
    }
}

static bool has_entry(const struct index_fixture *fixture, const char *prefix)
{
    bool found = false;
    DIR *dir = opendir(fixture->dir.path);
    assert_non_null(dir);
    for (struct dirent *at; (at = readdir(dir)) != NULL;)
        found |= strncmp(at->d_name, prefix, strlen(prefix)) == 0;
    closedir(dir);
    return found;
}

static void assert_set_aside(struct index_fixture *fixture, const char *what)
{
    struct cairn_index_stats stats;
    index_fixture_open_again(fixture);
    cairn_index_stats(fixture->index, &stats);
    if (fixture->note[0] == '\0' || stats.live != 0)
        fail_msg("%s: not noticed (%lu live)", what, (unsigned long)stats.live);
    assert_int_equal(cairn_index_offset(fixture->index), 0);
    assert_true(has_entry(fixture, "damaged-"));
    assert_false(has_entry(fixture, "gen-"));
    assert_false(has_entry(fixture, "CURRENT"));
}

/* Only files of which the name contains `which`. */
static void check_each_file(enum cairn_index_kind kind, const char *which)
{
    for (int at = 0, files_count = 1; at < files_count; at++)
        for (int how = 0; how < 7; how++) {
            struct index_fixture fixture;
            struct index_model model;
            char files[FILES_MAX][NAME_BYTES], path[CAIRN_TEST_PATH_BYTES], what[128];
            make_saved(&fixture, &model, kind);
            files_count = find_files(&fixture, files);
            assert_int_equal(files_count, kind == CAIRN_INDEX_FLAT ? 5 : 6);
            if (strstr(files[at], which) == NULL) {
                release(&fixture, &model);
                break;
            }
            cairn_test_dir_path(&fixture.dir, files[at], path);
            snprintf(what, sizeof(what), "damage %d of %.60s", how, files[at]);
            damage(path, how);
            assert_set_aside(&fixture, what);
            /* It works on, and the next start finds what was saved since. */
            const float vector[DIM] = {1};
            assert_int_equal(
                cairn_index_upsert(fixture.index, cairn_str_from("new"), vector, 1, NULL), 0);
            assert_int_equal(cairn_index_save(fixture.index, NULL), 0);
            index_fixture_reopen(&fixture);
            assert_string_equal(fixture.note, "");
            release(&fixture, &model);
        }
}

static void test_flat_files(void **state)
{
    (void)state;
    check_each_file(CAIRN_INDEX_FLAT, "");
}

static void test_ivf_files(void **state)
{
    (void)state;
    check_each_file(CAIRN_INDEX_IVF, "kind");
}

static void test_graph_files(void **state)
{
    (void)state;
    check_each_file(CAIRN_INDEX_GRAPH, "kind");
}

/* Without damage all is found again. */
static void test_undamaged(void **state)
{
    (void)state;
    struct index_fixture fixture;
    struct index_model model;
    const float query[DIM] = {1, 2};
    make_saved(&fixture, &model, CAIRN_INDEX_IVF);
    index_fixture_open_again(&fixture);
    assert_string_equal(fixture.note, "");
    assert_int_equal(cairn_index_offset(fixture.index), 1000);
    assert_search_exact(&fixture, &model, query, COUNT, true, NULL);
    release(&fixture, &model);
}

static void test_other_shape(void **state)
{
    (void)state;
    for (int change = 0; change < 2; change++) {
        struct index_fixture fixture;
        struct index_model model;
        make_saved(&fixture, &model, CAIRN_INDEX_FLAT);
        if (change == 0)
            fixture.options.dim = DIM + 1;
        else
            fixture.options.metric = CAIRN_METRIC_L2;
        assert_set_aside(&fixture, "another shape");
        release(&fixture, &model);
    }
}

/* Files of another generation in the place of this one's. */
static void test_swapped_files(void **state)
{
    (void)state;
    struct index_fixture first, second;
    struct index_model model, other;
    char files[FILES_MAX][NAME_BYTES], from[CAIRN_TEST_PATH_BYTES], to[CAIRN_TEST_PATH_BYTES];
    make_saved(&first, &model, CAIRN_INDEX_FLAT);
    make_saved(&second, &other, CAIRN_INDEX_FLAT);
    index_fixture_open_again(&second);
    assert_int_equal(cairn_index_build(second.index, NULL), 0); /* the next generation number */
    cairn_index_close(&second.index);
    int count = find_files(&second, files);
    for (int i = 0; i < count; i++) {
        if (strstr(files[i], "vectors") == NULL)
            continue;
        cairn_test_dir_path(&second.dir, files[i], from);
        find_files(&first, files);
        cairn_test_dir_path(&first.dir, "gen-1/vectors", to);
        assert_int_equal(rename(from, to), 0);
        break;
    }
    assert_set_aside(&first, "swapped vectors");
    index_fixture_open_again(&second);
    assert_true(second.note[0] != '\0');
    release(&first, &model);
    release(&second, &other);
}

/* What a crash leaves of a build is swept away without a word. */
static void test_leftovers(void **state)
{
    (void)state;
    struct index_fixture fixture;
    struct index_model model;
    char path[CAIRN_TEST_PATH_BYTES];
    make_saved(&fixture, &model, CAIRN_INDEX_FLAT);
    cairn_test_dir_path(&fixture.dir, "gen-7", path);
    assert_int_equal(mkdir(path, 0755), 0);
    index_fixture_open_again(&fixture);
    assert_string_equal(fixture.note, "");
    assert_false(has_entry(&fixture, "gen-7"));
    assert_true(has_entry(&fixture, "gen-1"));
    release(&fixture, &model);

    index_fixture_open(&fixture, CAIRN_INDEX_FLAT, CAIRN_METRIC_COSINE, DIM);
    cairn_index_close(&fixture.index);
    cairn_test_dir_path(&fixture.dir, "gen-1", path);
    assert_int_equal(mkdir(path, 0755), 0);
    index_fixture_open_again(&fixture);
    assert_string_equal(fixture.note, "");
    assert_false(has_entry(&fixture, "gen-1"));
    index_fixture_close(&fixture);
}

/* Change a saved index through a failing io, close it, and look at what a start then finds. */
static void crash_after(uint32_t calls, bool build, bool *fired)
{
    struct index_fixture fixture;
    struct index_model model, before;
    struct cairn_faulty *faulty = cairn_faulty_new(1);
    const float vector[DIM] = {0, 3}, query[DIM] = {1, 2};
    make_saved(&fixture, &model, CAIRN_INDEX_FLAT);
    index_model_copy(&before, &model);
    fixture.options.io = cairn_faulty_io(faulty);
    index_fixture_open_again(&fixture);
    for (uint32_t i = 0; i < 20; i++)
        index_put(&fixture, &model, i, vector, 2000 + i);
    cairn_index_set_offset(fixture.index, 2019);
    cairn_faulty_reset(faulty);
    cairn_faulty_fail(faulty, CAIRN_FAULT_ANY_CHANGE, calls, CAIRN_FAULTY_FOREVER, EIO);
    struct cairn_error err = {0};
    int code =
        build ? cairn_index_build(fixture.index, &err) : cairn_index_save(fixture.index, &err);
    *fired = cairn_faulty_fired(faulty) != 0;
    if (!*fired)
        assert_int_equal(code, 0);
    else if (code != 0)
        assert_int_equal(err.code, CAIRN_EIO);
    /* Whatever failed, it goes on serving all it was given. */
    assert_search_exact(&fixture, &model, query, 50, true, NULL);
    cairn_index_close(&fixture.index);
    assert_int_equal(cairn_faulty_open_files(faulty), 0);

    fixture.options.io = NULL;
    index_fixture_open_again(&fixture);
    assert_string_equal(fixture.note, "");
    uint64_t offset = cairn_index_offset(fixture.index);
    assert_true(offset == 2019 || (offset == 1000 && code != 0));
    assert_search_exact(&fixture, offset == 2019 ? &model : &before, query, 50, true, NULL);
    index_model_release(&before);
    release(&fixture, &model);
    cairn_faulty_free(&faulty);
}

static void test_crash_in_save(void **state)
{
    (void)state;
    bool fired = true;
    for (uint32_t calls = 0; fired; calls++)
        crash_after(calls, false, &fired);
}

static void test_crash_in_build(void **state)
{
    (void)state;
    bool fired = true;
    for (uint32_t calls = 0; fired; calls++)
        crash_after(calls, true, &fired);
}

static void test_full_disk(void **state)
{
    (void)state;
    struct index_fixture fixture;
    struct index_model model;
    struct cairn_faulty *faulty = cairn_faulty_new(1);
    struct cairn_error err = {0};
    const float query[DIM] = {1, 2};
    make_saved(&fixture, &model, CAIRN_INDEX_IVF);
    fixture.options.io = cairn_faulty_io(faulty);
    index_fixture_open_again(&fixture);
    index_put(&fixture, &model, 0, query, 2000);
    cairn_faulty_fill_disk(faulty, 5000);
    assert_int_equal(cairn_index_build(fixture.index, &err), CAIRN_ENOSPACE);
    assert_search_exact(&fixture, &model, query, COUNT, true, NULL);
    cairn_faulty_free_disk(faulty);
    assert_int_equal(cairn_index_build(fixture.index, &err), 0);
    index_fixture_reopen(&fixture);
    assert_string_equal(fixture.note, "");
    assert_search_exact(&fixture, &model, query, COUNT, true, NULL);
    cairn_index_close(&fixture.index);
    cairn_faulty_free(&faulty);
    fixture.options.io = NULL;
    index_fixture_open_again(&fixture);
    release(&fixture, &model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_undamaged),      cmocka_unit_test(test_flat_files),
        cmocka_unit_test(test_ivf_files),      cmocka_unit_test(test_graph_files),
        cmocka_unit_test(test_other_shape),    cmocka_unit_test(test_swapped_files),
        cmocka_unit_test(test_leftovers),      cmocka_unit_test(test_crash_in_save),
        cmocka_unit_test(test_crash_in_build), cmocka_unit_test(test_full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
