#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/faulty_io.h"
#include "tests/lib/testing.h"

struct fixture {
    struct cairn_test_dir dir;
    struct cairn_faulty *faulty;
    const struct cairn_io *io;
    int fd;
    char path[CAIRN_TEST_PATH_BYTES];
};

static int set_up(void **state)
{
    struct fixture *fix = calloc(1, sizeof(*fix));
    if (!fix)
        return -1;
    cairn_test_dir_make(&fix->dir);
    fix->faulty = cairn_faulty_new(7);
    fix->io = cairn_faulty_io(fix->faulty);
    cairn_test_dir_path(&fix->dir, "file", fix->path);
    fix->fd = fix->io->open(fix->io->context, fix->path, CAIRN_OPEN_CREATE);
    cairn_faulty_reset(fix->faulty);
    *state = fix;
    return fix->fd >= 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *fix = *state;
    cairn_faulty_reset(fix->faulty);
    fix->io->close(fix->io->context, fix->fd);
    int64_t still_open = cairn_faulty_open_files(fix->faulty);
    cairn_faulty_free(&fix->faulty);
    cairn_faulty_free(&fix->faulty);
    cairn_test_dir_remove(&fix->dir);
    free(fix);
    return still_open == 0 ? 0 : -1;
}

static int ignore_name(void *arg, const char *name)
{
    (void)arg;
    (void)name;
    return 0;
}

/* One call of a kind that would succeed; what it answered. */
static int64_t call(struct fixture *fix, enum cairn_fault_kind kind)
{
    const struct cairn_io *io = fix->io;
    char other[CAIRN_TEST_PATH_BYTES], bytes[4] = "abc";
    struct iovec parts[] = {{bytes, 2}, {bytes + 2, 2}};
    cairn_test_dir_path(&fix->dir, "other", other);
    switch (kind) {
    case CAIRN_FAULT_OPEN: {
        int fd = io->open(io->context, fix->path, CAIRN_OPEN_READ);
        return fd < 0 ? fd : io->close(io->context, fd);
    }
    case CAIRN_FAULT_READ:
        return io->pread(io->context, fix->fd, bytes, sizeof(bytes), 0);
    case CAIRN_FAULT_PWRITE:
    case CAIRN_FAULT_ANY_WRITE:
    case CAIRN_FAULT_ANY_CHANGE:
        return io->pwrite(io->context, fix->fd, bytes, sizeof(bytes), 0);
    case CAIRN_FAULT_PWRITEV:
        return io->pwritev(io->context, fix->fd, parts, 2, 0);
    case CAIRN_FAULT_FDATASYNC:
        return io->fdatasync(io->context, fix->fd);
    case CAIRN_FAULT_RESERVE:
        return io->reserve(io->context, fix->fd, 0, 4096);
    case CAIRN_FAULT_TRUNCATE:
        return io->truncate(io->context, fix->fd, 4);
    case CAIRN_FAULT_MKDIR:
        return io->mkdir(io->context, fix->dir.path);
    case CAIRN_FAULT_RENAME: {
        int rc = io->rename(io->context, fix->path, other);
        return rc < 0 ? rc : cairn_io_posix()->rename(NULL, other, fix->path);
    }
    case CAIRN_FAULT_UNLINK: {
        int rc = io->unlink(io->context, other);
        return rc == -ENOENT ? 0 : rc;
    }
    case CAIRN_FAULT_SYNC_DIR:
        return io->sync_dir(io->context, fix->dir.path);
    case CAIRN_FAULT_LIST:
        return io->list(io->context, fix->dir.path, ignore_name, NULL);
    case CAIRN_FAULT_KINDS:
        break;
    }
    return -EINVAL;
}

static void nth_call_of_each_kind_fails(void **state)
{
    struct fixture *fix = *state;
    call(fix, CAIRN_FAULT_PWRITE); /* something to read */
    for (int kind = 0; kind < CAIRN_FAULT_KINDS; kind++) {
        for (uint32_t after = 0; after < 4; after++) {
            for (uint32_t times = 0; times < 3; times++) {
                cairn_faulty_reset(fix->faulty);
                cairn_faulty_fail(fix->faulty, (enum cairn_fault_kind)kind, after, times, EDOM);
                for (uint32_t n = 0; n < 8; n++) {
                    int64_t got = call(fix, (enum cairn_fault_kind)kind);
                    bool failing = n >= after && n < after + times;
                    if (failing ? got != -EDOM : got < 0)
                        fail_msg("kind %d, call %u of %u+%u: %lld", kind, n, after, times,
                                 (long long)got);
                }
                assert_int_equal(cairn_faulty_fired(fix->faulty), times);
                assert_int_equal(cairn_faulty_calls(fix->faulty, (enum cairn_fault_kind)kind), 8);
            }
        }
    }
}

static void a_fault_leaves_other_kinds_alone(void **state)
{
    struct fixture *fix = *state;
    for (int kind = 0; kind < CAIRN_FAULT_ANY_WRITE; kind++) {
        cairn_faulty_reset(fix->faulty);
        cairn_faulty_fail(fix->faulty, (enum cairn_fault_kind)kind, 0, CAIRN_FAULTY_FOREVER, EDOM);
        for (int other = 0; other < CAIRN_FAULT_ANY_WRITE; other++)
            assert_int_equal(call(fix, (enum cairn_fault_kind)other) == -EDOM, other == kind);
    }
}

static void groups_count_their_members(void **state)
{
    struct fixture *fix = *state;
    cairn_faulty_fail(fix->faulty, CAIRN_FAULT_ANY_WRITE, 1, CAIRN_FAULTY_FOREVER, EIO);
    assert_int_equal(call(fix, CAIRN_FAULT_PWRITE), 4);
    assert_int_equal(call(fix, CAIRN_FAULT_FDATASYNC), 0);
    assert_int_equal(call(fix, CAIRN_FAULT_PWRITEV), -EIO);
    assert_int_equal(call(fix, CAIRN_FAULT_PWRITE), -EIO);
    assert_int_equal(cairn_faulty_calls(fix->faulty, CAIRN_FAULT_ANY_WRITE), 3);

    /* As a crash: whatever changes the disk fails, and reading goes on. */
    cairn_faulty_reset(fix->faulty);
    cairn_faulty_fail(fix->faulty, CAIRN_FAULT_ANY_CHANGE, 0, CAIRN_FAULTY_FOREVER, EIO);
    static const enum cairn_fault_kind changes[] = {
        CAIRN_FAULT_PWRITE,  CAIRN_FAULT_PWRITEV,  CAIRN_FAULT_FDATASYNC,
        CAIRN_FAULT_RESERVE, CAIRN_FAULT_TRUNCATE, CAIRN_FAULT_MKDIR,
        CAIRN_FAULT_RENAME,  CAIRN_FAULT_UNLINK,   CAIRN_FAULT_SYNC_DIR,
    };
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
        assert_int_equal(call(fix, changes[i]), -EIO);
    char other[CAIRN_TEST_PATH_BYTES];
    cairn_test_dir_path(&fix->dir, "new", other);
    assert_int_equal(fix->io->open(fix->io->context, other, CAIRN_OPEN_CREATE), -EIO);
    assert_int_equal(call(fix, CAIRN_FAULT_OPEN), 0);
    assert_int_equal(call(fix, CAIRN_FAULT_READ), 4);
    assert_int_equal(call(fix, CAIRN_FAULT_LIST), 0);
    assert_int_equal(cairn_faulty_fired(fix->faulty), 10);
    assert_int_equal(cairn_faulty_calls(fix->faulty, CAIRN_FAULT_ANY_CHANGE), 10);
}

static void assert_content(struct fixture *fix, const char *expect)
{
    char got[64];
    ssize_t len = fix->io->pread(fix->io->context, fix->fd, got, sizeof(got), 0);
    assert_int_equal(len, strlen(expect));
    assert_memory_equal(got, expect, (size_t)len);
}

static void torn_writes_leave_their_first_bytes(void **state)
{
    struct fixture *fix = *state;
    const struct cairn_io *io = fix->io;
    char one[] = "0123", two[] = "456", three[] = "789";
    struct iovec parts[] = {{one, 4}, {two, 3}, {three, 3}};
    for (size_t bytes = 0; bytes <= 12; bytes++) {
        for (int vectored = 0; vectored < 2; vectored++) {
            assert_int_equal(io->truncate(io->context, fix->fd, 0), 0);
            cairn_faulty_reset(fix->faulty);
            cairn_faulty_tear(fix->faulty, 1, bytes, EIO);
            assert_int_equal(io->pwrite(io->context, fix->fd, "", 0, 0), 0);
            ssize_t got = vectored ? io->pwritev(io->context, fix->fd, parts, 3, 0)
                                   : io->pwrite(io->context, fix->fd, "0123456789", 10, 0);
            assert_int_equal(got, -EIO);
            char written[11] = "0123456789";
            written[bytes < 10 ? bytes : 10] = '\0';
            assert_content(fix, written);
            assert_int_equal(cairn_faulty_bytes_written(fix->faulty), strlen(written));
            assert_int_equal(cairn_faulty_fired(fix->faulty), 1);
        }
    }
}

static void short_writes_say_so(void **state)
{
    struct fixture *fix = *state;
    const struct cairn_io *io = fix->io;
    char one[] = "0123", two[] = "456789";
    struct iovec parts[] = {{one, 4}, {two, 6}};
    cairn_faulty_shorten_writes(fix->faulty, 5);
    assert_int_equal(io->pwrite(io->context, fix->fd, "abcdefg", 7, 0), 5);
    assert_int_equal(io->pwritev(io->context, fix->fd, parts, 2, 3), 5);
    assert_int_equal(io->pwritev(io->context, fix->fd, parts, 1, 8), 4);
    assert_content(fix, "abc012340123");
    assert_int_equal(cairn_faulty_fired(fix->faulty), 0);
    assert_int_equal(cairn_faulty_bytes_written(fix->faulty), 14);
    cairn_faulty_shorten_writes(fix->faulty, 0);
    assert_int_equal(io->pwrite(io->context, fix->fd, "abcdefg", 7, 0), 7);
    char got[8];
    cairn_faulty_shorten_reads(fix->faulty, 3);
    assert_int_equal(io->pread(io->context, fix->fd, got, 8, 0), 3);
}

static void full_disk_and_space_again(void **state)
{
    struct fixture *fix = *state;
    const struct cairn_io *io = fix->io;
    char one[] = "0123", two[] = "456789";
    struct iovec parts[] = {{one, 4}, {two, 6}};
    uint64_t space;
    cairn_faulty_fill_disk(fix->faulty, 12);
    assert_int_equal(io->free_bytes(io->context, fix->dir.path, &space), 0);
    assert_int_equal(space, 12);
    assert_int_equal(io->reserve(io->context, fix->fd, 0, 13), -ENOSPC);
    assert_int_equal(io->reserve(io->context, fix->fd, 0, 12), 0);
    assert_int_equal(io->pwrite(io->context, fix->fd, "abcdefg", 7, 0), 7);
    assert_int_equal(io->pwritev(io->context, fix->fd, parts, 2, 7), 5);
    assert_int_equal(io->pwritev(io->context, fix->fd, parts, 2, 12), -ENOSPC);
    assert_int_equal(io->pwrite(io->context, fix->fd, "a", 1, 12), -ENOSPC);
    assert_int_equal(io->reserve(io->context, fix->fd, 0, 1), -ENOSPC);
    assert_int_equal(io->fdatasync(io->context, fix->fd), 0);
    assert_content(fix, "abcdefg01234");
    assert_int_equal(io->free_bytes(io->context, fix->dir.path, &space), 0);
    assert_int_equal(space, 0);
    cairn_faulty_free_disk(fix->faulty);
    assert_int_equal(io->pwrite(io->context, fix->fd, "more", 4, 12), 4);
    assert_content(fix, "abcdefg01234more");
    assert_int_equal(io->free_bytes(io->context, fix->dir.path, &space), 0);
    assert_true(space > 12);
}

static void clock_is_ours(void **state)
{
    struct fixture *fix = *state;
    const struct cairn_io *io = fix->io;
    assert_true(io->now_us(io->context) == CAIRN_FAULTY_CLOCK_START_US);
    cairn_faulty_advance_clock(fix->faulty, 5);
    assert_true(io->now_us(io->context) == CAIRN_FAULTY_CLOCK_START_US + 5);
    cairn_faulty_set_clock(fix->faulty, 1000);
    cairn_faulty_advance_clock(fix->faulty, -1);
    assert_int_equal(io->now_us(io->context), 999);
}

static void random_follows_the_seed(void **state)
{
    struct fixture *fix = *state;
    struct cairn_faulty *same = cairn_faulty_new(7), *other = cairn_faulty_new(8);
    const struct cairn_io *a = fix->io, *b = cairn_faulty_io(same), *c = cairn_faulty_io(other);
    for (int i = 0; i < 100; i++) {
        uint64_t number = a->random(a->context);
        assert_true(number == b->random(b->context));
        assert_true(number != c->random(c->context));
    }
    cairn_faulty_free(&same);
    cairn_faulty_free(&other);
}

enum { THREADS = 4, ROUNDS = 500 };

static void *write_often(void *arg)
{
    struct fixture *fix = arg;
    intptr_t failures = 0;
    for (uint64_t i = 0; i < ROUNDS; i++)
        failures += fix->io->pwrite(fix->io->context, fix->fd, "x", 1, i) < 0;
    return (void *)failures;
}

static void threads_share_the_countdown(void **state)
{
    struct fixture *fix = *state;
    pthread_t threads[THREADS];
    cairn_faulty_fail(fix->faulty, CAIRN_FAULT_PWRITE, 100, 33, EIO);
    cairn_faulty_fill_disk(fix->faulty, 1500);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_often, fix), 0);
    intptr_t failures = 0;
    for (int i = 0; i < THREADS; i++) {
        void *of_thread;
        pthread_join(threads[i], &of_thread);
        failures += (intptr_t)of_thread;
    }
    assert_int_equal(failures, THREADS * ROUNDS - 1500);
    assert_int_equal(cairn_faulty_fired(fix->faulty), THREADS * ROUNDS - 1500);
    assert_int_equal(cairn_faulty_calls(fix->faulty, CAIRN_FAULT_PWRITE), THREADS * ROUNDS);
    assert_int_equal(cairn_faulty_bytes_written(fix->faulty), 1500);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nth_call_of_each_kind_fails),
        TEST(a_fault_leaves_other_kinds_alone),
        TEST(groups_count_their_members),
        TEST(torn_writes_leave_their_first_bytes),
        TEST(short_writes_say_so),
        TEST(full_disk_and_space_again),
        TEST(clock_is_ours),
        TEST(random_follows_the_seed),
        TEST(threads_share_the_countdown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
