/* Power cuts: of everything that was not synced, an arbitrary choice of blocks reaches the disk, in
 * no order, the durable mark's too. What was acknowledged must be there, in every such world, and
 * open must never take the rest for damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/diag.h"
#include "tests/lib/log_fixture.h"

#define FILES_MAX     64
#define BLOCK_BYTES   64 /* smaller than a disk's, so that small logs have many */
#define BATCH_RECORDS 2u

/* A disk with a cache over the files in memory, which hold what a running process sees. */
struct disk {
    struct cairn_io table;
    const struct cairn_io *memory;
    struct cairn_memory_io *files;
    uint64_t random;
    uint32_t changes_left; /* then the power fails */
    struct disk_file {
        char path[128]; /* "": free */
        bool name_synced;
        struct cairn_buf synced; /* what is on the disk for certain */
    } known[FILES_MAX];
    struct disk_file *open[FILES_MAX]; /* by descriptor */
};

static bool power_fails(struct disk *disk)
{
    if (disk->changes_left == 0) {
        return true;
    }
    disk->changes_left--;
    return false;
}

static struct disk_file *know(struct disk *disk, const char *path)
{
    struct disk_file *unused = NULL;
    for (int i = 0; i < FILES_MAX; i++) {
        if (strcmp(disk->known[i].path, path) == 0) {
            return &disk->known[i];
        }
        if (!unused && disk->known[i].path[0] == '\0') {
            unused = &disk->known[i];
        }
    }
    assert_non_null(unused);
    snprintf(unused->path, sizeof(unused->path), "%s", path);
    return unused;
}

static void forget(struct disk_file *file)
{
    cairn_buf_release(&file->synced);
    *file = (struct disk_file){0};
}

static int disk_open(void *context, const char *path, enum cairn_open_mode mode)
{
    struct disk *disk = context;
    if (mode == CAIRN_OPEN_CREATE && power_fails(disk)) {
        return -EIO;
    }
    int fd = disk->memory->open(disk->files, path, mode);
    if (fd >= 0) {
        disk->open[fd] = know(disk, path);
    }
    return fd;
}

static int disk_close(void *context, int fd)
{
    struct disk *disk = context;
    return disk->memory->close(disk->files, fd);
}

static ssize_t disk_pread(void *context, int fd, void *bytes, size_t len, uint64_t at)
{
    struct disk *disk = context;
    return disk->memory->pread(disk->files, fd, bytes, len, at);
}

static ssize_t disk_pwrite(void *context, int fd, const void *bytes, size_t len, uint64_t at)
{
    struct disk *disk = context;
    return power_fails(disk) ? -EIO : disk->memory->pwrite(disk->files, fd, bytes, len, at);
}

static ssize_t disk_pwritev(void *context, int fd, const struct iovec *parts, int count,
                            uint64_t at)
{
    struct disk *disk = context;
    /* The power may fail while any of the parts is being written. */
    ssize_t total = 0;
    for (int i = 0; i < count; i++) {
        ssize_t written =
            disk_pwrite(context, fd, parts[i].iov_base, parts[i].iov_len, at + (uint64_t)total);
        if (written < 0) {
            return written;
        }
        total += written;
    }
    assert_true(disk->open[fd] != NULL);
    return total;
}

static int disk_fdatasync(void *context, int fd)
{
    struct disk *disk = context;
    if (power_fails(disk)) {
        return -EIO;
    }
    struct disk_file *file = disk->open[fd];
    const struct cairn_buf *bytes = cairn_memory_io_file(disk->files, file->path);
    cairn_buf_clear(&file->synced);
    cairn_buf_append(&file->synced, bytes->data, bytes->len);
    return 0;
}

static int disk_truncate(void *context, int fd, uint64_t size)
{
    struct disk *disk = context;
    return power_fails(disk) ? -EIO : disk->memory->truncate(disk->files, fd, size);
}

static int disk_size(void *context, int fd, uint64_t *out)
{
    struct disk *disk = context;
    return disk->memory->size(disk->files, fd, out);
}

static int disk_mkdir(void *context, const char *path)
{
    (void)path;
    return power_fails(context) ? -EIO : 0;
}

static int disk_unlink(void *context, const char *path)
{
    struct disk *disk = context;
    int rc = power_fails(disk) ? -EIO : disk->memory->unlink(disk->files, path);
    if (rc == 0) {
        forget(know(disk, path));
    }
    return rc;
}

static int disk_sync_dir(void *context, const char *path)
{
    struct disk *disk = context;
    if (power_fails(disk)) {
        return -EIO;
    }
    size_t len = strlen(path);
    for (int i = 0; i < FILES_MAX; i++) {
        struct disk_file *file = &disk->known[i];
        if (strncmp(file->path, path, len) == 0 && file->path[len] == '/' &&
            cairn_memory_io_file(disk->files, file->path)) {
            file->name_synced = true;
        }
    }
    return 0;
}

static int disk_reserve(void *context, int fd, uint64_t at, uint64_t len)
{
    (void)context;
    (void)fd;
    (void)at;
    (void)len;
    return 0;
}

static int disk_list(void *context, const char *path, int (*each)(void *arg, const char *name),
                     void *arg)
{
    struct disk *disk = context;
    return disk->memory->list(disk->files, path, each, arg);
}

static int64_t disk_now_us(void *context)
{
    struct disk *disk = context;
    return disk->memory->now_us(disk->files);
}

static uint64_t disk_random(void *context)
{
    struct disk *disk = context;
    return disk->memory->random(disk->files);
}

static void disk_init(struct disk *disk, struct log_fixture *fixture, uint64_t seed)
{
    *disk = (struct disk){
        .memory = &fixture->io, .files = fixture->memory, .random = seed, .changes_left = 0};
    disk->table = (struct cairn_io){
        .context = disk,
        .open = disk_open,
        .close = disk_close,
        .pread = disk_pread,
        .pwrite = disk_pwrite,
        .pwritev = disk_pwritev,
        .fdatasync = disk_fdatasync,
        .reserve = disk_reserve,
        .truncate = disk_truncate,
        .size = disk_size,
        .mkdir = disk_mkdir,
        .unlink = disk_unlink,
        .sync_dir = disk_sync_dir,
        .list = disk_list,
        .now_us = disk_now_us,
        .random = disk_random,
    };
}

/* What one file is after the power cut: synced blocks, and of the later ones a choice. */
static void settle_file(struct disk *disk, struct disk_file *file)
{
    struct cairn_buf *seen = cairn_memory_io_file(disk->files, file->path);
    if (!seen) {
        return;
    }
    size_t synced = file->synced.len;
    size_t longest = seen->len > synced ? seen->len : synced;
    size_t shortest = seen->len < synced ? seen->len : synced;
    size_t len = shortest + cairn_test_random_below(&disk->random, longest - shortest + 1);
    uint64_t mood = cairn_test_random_below(&disk->random, 3); /* none, all, or some blocks */
    char *bytes = cairn_calloc(1, len + 1);
    for (size_t at = 0; at < len; at += BLOCK_BYTES) {
        bool fresh = mood == 1 || (mood == 2 && cairn_test_random(&disk->random) % 2 == 0);
        const struct cairn_buf *from = fresh ? seen : &file->synced;
        size_t count = len - at < BLOCK_BYTES ? len - at : BLOCK_BYTES;
        if (at < from->len) {
            memcpy(bytes + at, from->data + at, from->len - at < count ? from->len - at : count);
        }
    }
    cairn_memory_io_put(disk->files, file->path, bytes, len);
    cairn_buf_clear(&file->synced);
    cairn_buf_append(&file->synced, bytes, len);
    free(bytes);
}

static void cut_power(struct disk *disk)
{
    for (int i = 0; i < FILES_MAX; i++) {
        struct disk_file *file = &disk->known[i];
        if (file->path[0] == '\0') {
            continue;
        }
        if (!file->name_synced && cairn_test_random(&disk->random) % 2 == 0) {
            disk->memory->unlink(disk->files, file->path);
            forget(file);
            continue;
        }
        settle_file(disk, file);
        file->name_synced = true;
    }
}

/* Several lives of one log, each ended after some number of changes. What a reader was shown must
 * be there ever after, too. */
static void test_power_cuts(void **state)
{
    (void)state;
    uint64_t seed = cairn_test_seed();
    for (uint32_t round = 0; round < 3000; round++) {
        struct log_fixture fixture;
        static struct disk disk;
        uint64_t acknowledged = 0;
        fixture_setup_in_memory(&fixture, 700 + cairn_test_random_below(&seed, 3000));
        disk_init(&disk, &fixture, cairn_test_random(&seed));
        for (uint32_t life = 0; life < 4; life++) {
            struct cairn_log *log;
            struct cairn_error err = {0};
            disk.changes_left = (uint32_t)cairn_test_random_below(&seed, 200);
            int rc = fixture_open_with(&fixture, &disk.table, 0, &log, NULL, &err);
            if (rc == CAIRN_ECORRUPT) {
                fail_msg("round %u, life %u: %s", round, life, err.message);
            }
            if (rc == 0) {
                uint64_t end = fixture_read_all(log);
                assert_true(end >= acknowledged);
                assert_int_equal(end % BATCH_RECORDS, 0);
                acknowledged = end;
                while (fixture_append(log, 1 + life % 3, BATCH_RECORDS, &err) == 0) {
                    acknowledged = fixture_end(log);
                }
                cairn_log_close(&log);
            }
            if (cairn_test_random(&seed) % 3 > 0) { /* else only the process is started again */
                cut_power(&disk);
            }
        }
        cut_power(&disk);
        disk.changes_left = UINT32_MAX;
        struct cairn_log *log;
        struct cairn_error err = {0};
        if (fixture_open_with(&fixture, &disk.table, 0, &log, NULL, &err) != 0) {
            fail_msg("round %u: %s", round, err.message);
        }
        assert_true(fixture_read_all(log) >= acknowledged);
        cairn_log_close(&log);
        for (int i = 0; i < FILES_MAX; i++) {
            forget(&disk.known[i]);
        }
        fixture_teardown(&fixture);
    }
}

/* A torn tail is cut, but the power fails before that is synced and after a new segment has been
 * started: the old bytes are back, in a segment that is no longer the last. */
static void test_cut_before_a_roll_over(void **state)
{
    (void)state;
    uint64_t seed = cairn_test_seed();
    for (uint32_t round = 0; round < 400; round++) {
        struct log_fixture fixture;
        struct cairn_log *log;
        struct cairn_error err = {0};
        static struct disk disk;
        fixture_setup_in_memory(&fixture, 900); /* the torn append fits, the last does not */
        disk_init(&disk, &fixture, cairn_test_random(&seed));
        disk.changes_left = UINT32_MAX;
        assert_int_equal(fixture_open_with(&fixture, &disk.table, 0, &log, NULL, &err), 0);
        fixture_append_ok(log, 1, BATCH_RECORDS);
        disk.changes_left = 3;
        assert_int_equal(fixture_append(log, 2, BATCH_RECORDS, &err), CAIRN_EIO);
        cairn_log_close(&log);
        cut_power(&disk);
        disk.changes_left = round % 4;
        if (fixture_open_with(&fixture, &disk.table, 0, &log, NULL, &err) == 0) {
            cairn_log_close(&log);
        }
        disk.changes_left = UINT32_MAX;
        assert_int_equal(fixture_open_with(&fixture, &disk.table, 0, &log, NULL, &err), 0);
        fixture_append_ok(log, 4, BATCH_RECORDS);
        uint64_t end = fixture_end(log);
        cairn_log_close(&log);
        cut_power(&disk);
        if (fixture_open_with(&fixture, &disk.table, 0, &log, NULL, &err) != 0) {
            fail_msg("round %u: %s", round, err.message);
        }
        assert_int_equal(fixture_read_all(log), end);
        cairn_log_close(&log);
        for (int i = 0; i < FILES_MAX; i++) {
            forget(&disk.known[i]);
        }
        fixture_teardown(&fixture);
    }
}

int main(void)
{
    cairn_diag_set_level(CAIRN_DIAG_ERROR); /* a missing mark is the rule here */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_power_cuts),
        cmocka_unit_test(test_cut_before_a_roll_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
