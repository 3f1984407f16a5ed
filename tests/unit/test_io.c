#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "tests/lib/faulty_io.h"
#include "tests/lib/testing.h"

struct fixture {
    struct cairn_test_dir dir;
    struct cairn_faulty *faulty;
    const struct cairn_io *io;    /* the real one */
    const struct cairn_io *flaky; /* over the same files */
};

static int set_up(void **state)
{
    struct fixture *fix = calloc(1, sizeof(*fix));
    if (!fix)
        return -1;
    cairn_test_dir_make(&fix->dir);
    fix->faulty = cairn_faulty_new(1);
    fix->flaky = cairn_faulty_io(fix->faulty);
    fix->io = cairn_io_posix();
    *state = fix;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fix = *state;
    cairn_faulty_free(&fix->faulty);
    cairn_test_dir_remove(&fix->dir);
    bool gone = access(fix->dir.path, F_OK) != 0;
    free(fix);
    return gone ? 0 : -1;
}

static bool exists(const struct fixture *fix, const char *name)
{
    char path[CAIRN_TEST_PATH_BYTES];
    return access(cairn_test_dir_path(&fix->dir, name, path), F_OK) == 0;
}

static void put_file(const struct fixture *fix, const char *name, const char *text)
{
    char path[CAIRN_TEST_PATH_BYTES];
    FILE *file = fopen(cairn_test_dir_path(&fix->dir, name, path), "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void assert_file(const struct fixture *fix, const char *name, const char *text)
{
    char path[CAIRN_TEST_PATH_BYTES], got[256] = {0};
    FILE *file = fopen(cairn_test_dir_path(&fix->dir, name, path), "r");
    assert_non_null(file);
    size_t len = fread(got, 1, sizeof(got) - 1, file);
    fclose(file);
    assert_int_equal(len, strlen(text));
    assert_string_equal(got, text);
}

static void open_modes(void **state)
{
    struct fixture *fix = *state;
    const struct cairn_io *io = fix->io;
    char path[CAIRN_TEST_PATH_BYTES], byte = 'x';
    cairn_test_dir_path(&fix->dir, "file", path);
    assert_int_equal(io->open(io->context, path, CAIRN_OPEN_READ), -ENOENT);
    assert_int_equal(io->open(io->context, path, CAIRN_OPEN_WRITE), -ENOENT);
    int fd = io->open(io->context, path, CAIRN_OPEN_CREATE);
    assert_true(fd >= 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(io->pwrite(io->context, fd, &byte, 1, 0), 1);
    assert_int_equal(io->pread(io->context, fd, &byte, 1, 0), 1);
    assert_int_equal(io->close(io->context, fd), 0);
    assert_int_equal(io->close(io->context, fd), -EBADF);
    assert_int_equal(io->open(io->context, path, CAIRN_OPEN_CREATE), -EEXIST);

    fd = io->open(io->context, path, CAIRN_OPEN_READ);
    assert_true(fd >= 0);
    assert_int_equal(io->pwrite(io->context, fd, &byte, 1, 0), -EBADF);
    io->close(io->context, fd);
    fd = io->open(io->context, path, CAIRN_OPEN_WRITE);
    assert_int_equal(io->pwrite(io->context, fd, &byte, 1, 1), 1);
    uint64_t size = 0;
    assert_int_equal(io->size(io->context, fd, &size), 0);
    assert_int_equal(size, 2);
    io->close(io->context, fd);
}

static void positioned_reads_and_writes(void **state)
{
    struct fixture *fix = *state;
    const struct cairn_io *io = fix->io;
    char path[CAIRN_TEST_PATH_BYTES], got[16] = {0};
    int fd = io->open(io->context, cairn_test_dir_path(&fix->dir, "f", path), CAIRN_OPEN_CREATE);
    assert_true(fd >= 0);
    char one[] = "abc", two[] = "defg";
    struct iovec parts[] = {{one, 3}, {NULL, 0}, {two, 4}};
    assert_int_equal(io->pwritev(io->context, fd, parts, 3, 5), 7);
    assert_int_equal(io->pread(io->context, fd, got, sizeof(got), 0), 12);
    assert_memory_equal(got, "\0\0\0\0\0abcdefg", 12);
    assert_int_equal(io->pread(io->context, fd, got, sizeof(got), 12), 0);
    assert_int_equal(io->truncate(io->context, fd, 8), 0);
    uint64_t size = 0;
    assert_int_equal(io->size(io->context, fd, &size), 0);
    assert_int_equal(size, 8);
    /* Reserving takes disk, not length. */
    assert_int_equal(io->reserve(io->context, fd, 0, 1 << 20), 0);
    assert_int_equal(io->size(io->context, fd, &size), 0);
    assert_int_equal(size, 8);
    assert_int_equal(io->fdatasync(io->context, fd), 0);
    io->close(io->context, fd);

    assert_int_equal(io->pread(io->context, -1, got, 1, 0), -EBADF);
    assert_int_equal(io->pwritev(io->context, -1, parts, 3, 0), -EBADF);
    assert_int_equal(io->fdatasync(io->context, -1), -EBADF);
    assert_int_equal(io->reserve(io->context, -1, 0, 1), -EBADF);
    assert_int_equal(io->truncate(io->context, -1, 0), -EBADF);
    assert_int_equal(io->size(io->context, -1, &size), -EBADF);
}

static int count_names(void *arg, const char *name)
{
    assert_string_not_equal(name, ".");
    assert_string_not_equal(name, "..");
    (*(int *)arg)++;
    return 0;
}

static int stop_at_first(void *arg, const char *name)
{
    (void)name;
    (*(int *)arg)++;
    return 42;
}

static void directories(void **state)
{
    struct fixture *fix = *state;
    const struct cairn_io *io = fix->io;
    char path[CAIRN_TEST_PATH_BYTES], other[CAIRN_TEST_PATH_BYTES];
    cairn_test_dir_path(&fix->dir, "sub", path);
    assert_int_equal(io->mkdir(io->context, path), 0);
    assert_int_equal(io->mkdir(io->context, path), 0);
    put_file(fix, "sub/a", "1");
    put_file(fix, "sub/b", "2");
    put_file(fix, "sub/.c", "3");
    int count = 0;
    assert_int_equal(io->list(io->context, path, count_names, &count), 0);
    assert_int_equal(count, 3);
    count = 0;
    assert_int_equal(io->list(io->context, path, stop_at_first, &count), 42);
    assert_int_equal(count, 1);
    assert_int_equal(io->unlink(io->context, path), -ENOTEMPTY);
    assert_int_equal(io->sync_dir(io->context, path), 0);

    cairn_test_dir_path(&fix->dir, "sub/a", path);
    assert_int_equal(io->mkdir(io->context, path), -ENOTDIR);
    assert_int_equal(io->sync_dir(io->context, path), -ENOTDIR);
    assert_int_equal(io->list(io->context, path, count_names, &count), -ENOTDIR);
    cairn_test_dir_path(&fix->dir, "sub/b", other);
    assert_int_equal(io->rename(io->context, path, other), 0);
    assert_file(fix, "sub/b", "1");
    assert_int_equal(io->rename(io->context, path, other), -ENOENT);
    assert_int_equal(io->unlink(io->context, path), -ENOENT);
    assert_int_equal(io->sync_dir(io->context, path), -ENOENT);
    assert_int_equal(io->unlink(io->context, other), 0);
}

static void clock_random_and_space(void **state)
{
    struct fixture *fix = *state;
    const struct cairn_io *io = fix->io;
    assert_true(io->now_us(io->context) > INT64_C(1700000000000000));
    uint64_t first = io->random(io->context);
    assert_true(first != io->random(io->context));
    uint64_t space = 0;
    assert_int_equal(io->free_bytes(io->context, fix->dir.path, &space), 0);
    assert_true(space > 0);
    assert_int_equal(io->free_bytes(io->context, "/nonexistent/x", &space), -ENOENT);
}

static void full_helpers_loop_over_short_calls(void **state)
{
    struct fixture *fix = *state;
    const struct cairn_io *io = fix->flaky;
    char path[CAIRN_TEST_PATH_BYTES], bytes[1000], got[1000];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)(i * 7);
    int fd = io->open(io->context, cairn_test_dir_path(&fix->dir, "f", path), CAIRN_OPEN_CREATE);
    assert_true(fd >= 0);
    cairn_faulty_shorten_writes(fix->faulty, 13);
    cairn_faulty_shorten_reads(fix->faulty, 17);
    assert_int_equal(cairn_io_write_full(io, fd, bytes, sizeof(bytes), 5), 0);
    assert_int_equal(cairn_faulty_calls(fix->faulty, CAIRN_FAULT_PWRITE), 77);
    assert_int_equal(cairn_io_read_full(io, fd, got, sizeof(got), 5), 0);
    assert_int_equal(cairn_faulty_calls(fix->faulty, CAIRN_FAULT_READ), 59);
    assert_memory_equal(got, bytes, sizeof(bytes));

    assert_int_equal(cairn_io_read_full(io, fd, got, sizeof(got), 6), -EIO); /* one too many */
    assert_int_equal(cairn_io_read_full(io, fd, got, 0, 9999), 0);
    assert_int_equal(cairn_io_write_full(io, fd, got, 0, 0), 0);
    cairn_faulty_fail(fix->faulty, CAIRN_FAULT_READ, 3, 1, EIO);
    assert_int_equal(cairn_io_read_full(io, fd, got, sizeof(got), 5), -EIO);
    cairn_faulty_fail(fix->faulty, CAIRN_FAULT_PWRITE, 3, 1, ENOSPC);
    assert_int_equal(cairn_io_write_full(io, fd, bytes, sizeof(bytes), 0), -ENOSPC);
    io->close(io->context, fd);
}

static void replace_file_replaces(void **state)
{
    struct fixture *fix = *state;
    assert_int_equal(cairn_io_replace_file(fix->io, fix->dir.path, "map", "one", 3), 0);
    assert_file(fix, "map", "one");
    put_file(fix, "map.tmp", "left by a crash, and longer than what replaces it");
    assert_int_equal(cairn_io_replace_file(fix->io, fix->dir.path, "map", "two!", 4), 0);
    assert_file(fix, "map", "two!");
    assert_false(exists(fix, "map.tmp"));
    assert_int_equal(cairn_io_replace_file(fix->io, fix->dir.path, "map", "", 0), 0);
    assert_file(fix, "map", "");
    assert_int_equal(cairn_io_replace_file(fix->io, "/nonexistent", "map", "x", 1), -ENOENT);
}

/* Whichever call fails: the old file or the new one, whole, and nothing beside it. */
static void replace_file_is_all_or_nothing(void **state)
{
    struct fixture *fix = *state;
    unsigned failures = 0;
    for (uint32_t n = 0;; n++) {
        put_file(fix, "map", "old");
        cairn_faulty_reset(fix->faulty);
        cairn_faulty_fail(fix->faulty, CAIRN_FAULT_ANY_CHANGE, n, 1, EIO);
        int rc = cairn_io_replace_file(fix->flaky, fix->dir.path, "map", "new", 3);
        if (cairn_faulty_fired(fix->faulty) == 0) {
            assert_int_equal(rc, 0);
            break;
        }
        assert_int_equal(rc, -EIO);
        assert_false(exists(fix, "map.tmp"));
        assert_int_equal(cairn_faulty_open_files(fix->faulty), 0);
        /* Only the last step, syncing the directory, comes after the new one is in place. */
        bool synced_dir = cairn_faulty_calls(fix->faulty, CAIRN_FAULT_SYNC_DIR) > 0;
        assert_file(fix, "map", synced_dir ? "new" : "old");
        failures++;
    }
    assert_int_equal(failures, 6); /* unlink, open, write, sync, rename, directory */

    put_file(fix, "map", "old");
    cairn_faulty_reset(fix->faulty);
    cairn_faulty_tear(fix->faulty, 0, 1, ENOSPC);
    assert_int_equal(cairn_io_replace_file(fix->flaky, fix->dir.path, "map", "new", 3), -ENOSPC);
    assert_file(fix, "map", "old");
    assert_false(exists(fix, "map.tmp"));
}

static void make_dirs_makes_all(void **state)
{
    struct fixture *fix = *state;
    char path[CAIRN_TEST_PATH_BYTES];
    assert_int_equal(cairn_io_make_dirs(fix->flaky, cairn_test_dir_path(&fix->dir, "a/b/c", path)),
                     0);
    assert_true(exists(fix, "a/b/c"));
    assert_int_equal(cairn_faulty_calls(fix->faulty, CAIRN_FAULT_SYNC_DIR), 3);
    assert_int_equal(cairn_io_make_dirs(fix->io, path), 0);
    assert_int_equal(
        cairn_io_make_dirs(fix->io, cairn_test_dir_path(&fix->dir, "a//x///y//", path)), 0);
    assert_true(exists(fix, "a/x/y"));
    put_file(fix, "a/file", "");
    assert_int_equal(cairn_io_make_dirs(fix->io, cairn_test_dir_path(&fix->dir, "a/file", path)),
                     -ENOTDIR);
    assert_int_equal(cairn_io_make_dirs(fix->io, cairn_test_dir_path(&fix->dir, "a/file/d", path)),
                     -ENOTDIR);
    assert_int_equal(cairn_io_make_dirs(fix->io, ""), -ENOENT);
    assert_int_equal(cairn_io_make_dirs(fix->io, "/"), 0);
    assert_int_equal(cairn_io_make_dirs(fix->io, "."), 0);
}

static void make_dirs_relative(void **state)
{
    struct fixture *fix = *state;
    char *before = getcwd(NULL, 0);
    assert_non_null(before);
    assert_int_equal(chdir(fix->dir.path), 0);
    assert_int_equal(cairn_io_make_dirs(fix->io, "rel"), 0);
    assert_int_equal(cairn_io_make_dirs(fix->io, "rel2/sub"), 0);
    assert_int_equal(chdir(before), 0);
    free(before);
    assert_true(exists(fix, "rel"));
    assert_true(exists(fix, "rel2/sub"));
}

static void make_dirs_tells_failures(void **state)
{
    struct fixture *fix = *state;
    char path[CAIRN_TEST_PATH_BYTES], top[CAIRN_TEST_PATH_BYTES];
    cairn_test_dir_path(&fix->dir, "p/q/r", path);
    cairn_test_dir_path(&fix->dir, "p", top);
    for (uint32_t n = 0;; n++) {
        assert_int_equal(cairn_io_remove_tree(fix->io, top), 0);
        cairn_faulty_reset(fix->faulty);
        cairn_faulty_fail(fix->faulty, CAIRN_FAULT_ANY_CHANGE, n, 1, EIO);
        int rc = cairn_io_make_dirs(fix->flaky, path);
        if (cairn_faulty_fired(fix->faulty) == 0)
            break;
        assert_int_equal(rc, -EIO);
    }
    assert_true(exists(fix, "p/q/r"));
    /* A parent that we may enter but not read is somebody else's. */
    cairn_faulty_reset(fix->faulty);
    cairn_faulty_fail(fix->faulty, CAIRN_FAULT_SYNC_DIR, 0, 1, EACCES);
    assert_int_equal(cairn_io_make_dirs(fix->flaky, path), 0);
}

static void remove_tree_removes_all_but_not_through_links(void **state)
{
    struct fixture *fix = *state;
    char path[CAIRN_TEST_PATH_BYTES], target[CAIRN_TEST_PATH_BYTES], link[CAIRN_TEST_PATH_BYTES];
    cairn_test_dir_path(&fix->dir, "keep", target);
    assert_int_equal(cairn_io_make_dirs(fix->io, target), 0);
    put_file(fix, "keep/precious", "here");
    assert_int_equal(cairn_io_make_dirs(fix->io, cairn_test_dir_path(&fix->dir, "tree/x/y", path)),
                     0);
    put_file(fix, "tree/f", "1");
    put_file(fix, "tree/x/g", "2");
    put_file(fix, "tree/x/y/h", "3");
    assert_int_equal(symlink(target, cairn_test_dir_path(&fix->dir, "tree/link", link)), 0);

    cairn_test_dir_path(&fix->dir, "tree", path);
    assert_int_equal(cairn_io_remove_tree(fix->io, path), 0);
    assert_false(exists(fix, "tree"));
    assert_file(fix, "keep/precious", "here");
    assert_int_equal(cairn_io_remove_tree(fix->io, path), 0); /* missing */
    put_file(fix, "single", "1");
    assert_int_equal(cairn_io_remove_tree(fix->io, cairn_test_dir_path(&fix->dir, "single", path)),
                     0);
    assert_false(exists(fix, "single"));
    cairn_faulty_fail(fix->faulty, CAIRN_FAULT_LIST, 0, 1, EIO);
    assert_int_equal(cairn_io_remove_tree(fix->flaky, target), -EIO);
    cairn_faulty_fail(fix->faulty, CAIRN_FAULT_UNLINK, 1, 1, EACCES);
    assert_int_equal(cairn_io_remove_tree(fix->flaky, target), -EACCES);
    assert_file(fix, "keep/precious", "here");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(open_modes),
        TEST(positioned_reads_and_writes),
        TEST(directories),
        TEST(clock_random_and_space),
        TEST(full_helpers_loop_over_short_calls),
        TEST(replace_file_replaces),
        TEST(replace_file_is_all_or_nothing),
        TEST(make_dirs_makes_all),
        TEST(make_dirs_relative),
        TEST(make_dirs_tells_failures),
        TEST(remove_tree_removes_all_but_not_through_links),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
