#include "tests/lib/faulty_io.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "tests/lib/testing.h"

struct countdown {
    uint32_t after;
    uint32_t times;
    int err_number;
};

struct cairn_faulty {
    struct cairn_io table;       /* immutable; its context is this object */
    const struct cairn_io *real; /* immutable */

    pthread_mutex_t lock; /* guards what follows; not held across a call into `real` */
    struct countdown faults[CAIRN_FAULT_KINDS];
    uint64_t calls[CAIRN_FAULT_KINDS];
    struct countdown tear;
    size_t tear_bytes;
    size_t write_max; /* 0: none */
    size_t read_max;  /* 0: none */
    bool disk_limited;
    uint64_t disk_left;
    uint64_t fired;
    uint64_t bytes_written;
    int64_t open_files;
    int64_t now_us;
    uint64_t random_state;
};

/* Count a call against one countdown; the errno to fail with, or 0. */
static int count_down(struct countdown *fault)
{
    if (fault->times == 0)
        return 0;
    if (fault->after > 0) {
        fault->after--;
        return 0;
    }
    if (fault->times != CAIRN_FAULTY_FOREVER)
        fault->times--;
    return fault->err_number;
}

/* Count a call of `kind` and of the groups it belongs to; the lock is held. */
static int count_call(struct cairn_faulty *faulty, enum cairn_fault_kind kind, bool is_write,
                      bool is_change)
{
    faulty->calls[kind]++;
    int error = count_down(&faulty->faults[kind]);
    if (is_write) {
        faulty->calls[CAIRN_FAULT_ANY_WRITE]++;
        int group = count_down(&faulty->faults[CAIRN_FAULT_ANY_WRITE]);
        error = error ? error : group;
    }
    if (is_change) {
        faulty->calls[CAIRN_FAULT_ANY_CHANGE]++;
        int group = count_down(&faulty->faults[CAIRN_FAULT_ANY_CHANGE]);
        error = error ? error : group;
    }
    if (error)
        faulty->fired++;
    return error;
}

/* 0, or the negative errno that this call shall answer with. */
static int enter(struct cairn_faulty *faulty, enum cairn_fault_kind kind, bool is_change)
{
    pthread_mutex_lock(&faulty->lock);
    int error = count_call(faulty, kind, false, is_change);
    pthread_mutex_unlock(&faulty->lock);
    return -error;
}

/* What becomes of one write: how much of it to do, and what to answer after that. */
struct write_plan {
    size_t bytes;
    int err_number; /* 0: answer with the count */
};

static struct write_plan plan_write(struct cairn_faulty *faulty, enum cairn_fault_kind kind,
                                    size_t len)
{
    struct write_plan plan = {.bytes = len};
    pthread_mutex_lock(&faulty->lock);
    plan.err_number = count_call(faulty, kind, true, true);
    int torn = count_down(&faulty->tear);
    if (plan.err_number) {
        plan.bytes = 0;
    } else if (torn) {
        plan.err_number = torn;
        plan.bytes = len < faulty->tear_bytes ? len : faulty->tear_bytes;
        faulty->fired++;
    } else if (faulty->write_max && plan.bytes > faulty->write_max) {
        plan.bytes = faulty->write_max;
    }
    if (faulty->disk_limited && plan.bytes > faulty->disk_left) {
        plan.bytes = (size_t)faulty->disk_left;
        if (plan.bytes == 0 && !plan.err_number)
            plan.err_number = ENOSPC;
        faulty->fired++;
    }
    /* Taken before it is used, so that writers side by side cannot both have the last bytes. */
    if (faulty->disk_limited)
        faulty->disk_left -= plan.bytes;
    pthread_mutex_unlock(&faulty->lock);
    return plan;
}

static ssize_t finish_write(struct cairn_faulty *faulty, struct write_plan plan, ssize_t written)
{
    if (written > 0) {
        pthread_mutex_lock(&faulty->lock);
        faulty->bytes_written += (uint64_t)written;
        pthread_mutex_unlock(&faulty->lock);
    }
    return plan.err_number ? -plan.err_number : written;
}

static int faulty_open(void *context, const char *path, enum cairn_open_mode mode)
{
    struct cairn_faulty *faulty = context;
    int rc = enter(faulty, CAIRN_FAULT_OPEN, mode == CAIRN_OPEN_CREATE);
    if (rc < 0)
        return rc;
    int fd = faulty->real->open(faulty->real->context, path, mode);
    if (fd >= 0) {
        pthread_mutex_lock(&faulty->lock);
        faulty->open_files++;
        pthread_mutex_unlock(&faulty->lock);
    }
    return fd;
}

static int faulty_close(void *context, int fd)
{
    struct cairn_faulty *faulty = context;
    pthread_mutex_lock(&faulty->lock);
    faulty->open_files--;
    pthread_mutex_unlock(&faulty->lock);
    return faulty->real->close(faulty->real->context, fd);
}

static ssize_t faulty_pread(void *context, int fd, void *bytes, size_t len, uint64_t at)
{
    struct cairn_faulty *faulty = context;
    pthread_mutex_lock(&faulty->lock);
    int error = count_call(faulty, CAIRN_FAULT_READ, false, false);
    if (faulty->read_max && len > faulty->read_max)
        len = faulty->read_max;
    pthread_mutex_unlock(&faulty->lock);
    return error ? -error : faulty->real->pread(faulty->real->context, fd, bytes, len, at);
}

static ssize_t faulty_pwrite(void *context, int fd, const void *bytes, size_t len, uint64_t at)
{
    struct cairn_faulty *faulty = context;
    struct write_plan plan = plan_write(faulty, CAIRN_FAULT_PWRITE, len);
    ssize_t written = 0;
    if (plan.bytes > 0 || !plan.err_number)
        written = faulty->real->pwrite(faulty->real->context, fd, bytes, plan.bytes, at);
    return finish_write(faulty, plan, written);
}

static ssize_t faulty_pwritev(void *context, int fd, const struct iovec *parts, int count,
                              uint64_t at)
{
    struct cairn_faulty *faulty = context;
    const struct cairn_io *real = faulty->real;
    size_t len = 0;
    for (int i = 0; i < count; i++)
        len += parts[i].iov_len;
    struct write_plan plan = plan_write(faulty, CAIRN_FAULT_PWRITEV, len);
    if (plan.bytes == len && !plan.err_number)
        return finish_write(faulty, plan, real->pwritev(real->context, fd, parts, count, at));

    /* A cut one: whole parts, then the first bytes of the one it ends in. */
    ssize_t total = 0;
    size_t left = plan.bytes;
    for (int i = 0; i < count && left > 0; i++) {
        size_t piece = parts[i].iov_len < left ? parts[i].iov_len : left;
        int rc = cairn_io_write_full(real, fd, parts[i].iov_base, piece, at + (uint64_t)total);
        if (rc < 0)
            return rc;
        total += (ssize_t)piece;
        left -= piece;
    }
    return finish_write(faulty, plan, total);
}

static int faulty_fdatasync(void *context, int fd)
{
    struct cairn_faulty *faulty = context;
    int rc = enter(faulty, CAIRN_FAULT_FDATASYNC, true);
    return rc < 0 ? rc : faulty->real->fdatasync(faulty->real->context, fd);
}

static int faulty_reserve(void *context, int fd, uint64_t at, uint64_t len)
{
    struct cairn_faulty *faulty = context;
    pthread_mutex_lock(&faulty->lock);
    int error = count_call(faulty, CAIRN_FAULT_RESERVE, false, true);
    if (!error && faulty->disk_limited && len > faulty->disk_left) {
        error = ENOSPC;
        faulty->fired++;
    }
    pthread_mutex_unlock(&faulty->lock);
    return error ? -error : faulty->real->reserve(faulty->real->context, fd, at, len);
}

static int faulty_truncate(void *context, int fd, uint64_t size)
{
    struct cairn_faulty *faulty = context;
    int rc = enter(faulty, CAIRN_FAULT_TRUNCATE, true);
    return rc < 0 ? rc : faulty->real->truncate(faulty->real->context, fd, size);
}

static int faulty_size(void *context, int fd, uint64_t *out)
{
    struct cairn_faulty *faulty = context;
    return faulty->real->size(faulty->real->context, fd, out);
}

static int faulty_mkdir(void *context, const char *path)
{
    struct cairn_faulty *faulty = context;
    int rc = enter(faulty, CAIRN_FAULT_MKDIR, true);
    return rc < 0 ? rc : faulty->real->mkdir(faulty->real->context, path);
}

static int faulty_rename(void *context, const char *from, const char *to)
{
    struct cairn_faulty *faulty = context;
    int rc = enter(faulty, CAIRN_FAULT_RENAME, true);
    return rc < 0 ? rc : faulty->real->rename(faulty->real->context, from, to);
}

static int faulty_unlink(void *context, const char *path)
{
    struct cairn_faulty *faulty = context;
    int rc = enter(faulty, CAIRN_FAULT_UNLINK, true);
    return rc < 0 ? rc : faulty->real->unlink(faulty->real->context, path);
}

static int faulty_sync_dir(void *context, const char *path)
{
    struct cairn_faulty *faulty = context;
    int rc = enter(faulty, CAIRN_FAULT_SYNC_DIR, true);
    return rc < 0 ? rc : faulty->real->sync_dir(faulty->real->context, path);
}

static int faulty_list(void *context, const char *path, int (*each)(void *arg, const char *name),
                       void *arg)
{
    struct cairn_faulty *faulty = context;
    int rc = enter(faulty, CAIRN_FAULT_LIST, false);
    return rc < 0 ? rc : faulty->real->list(faulty->real->context, path, each, arg);
}

static int faulty_free_bytes(void *context, const char *path, uint64_t *out)
{
    struct cairn_faulty *faulty = context;
    pthread_mutex_lock(&faulty->lock);
    bool limited = faulty->disk_limited;
    uint64_t left = faulty->disk_left;
    pthread_mutex_unlock(&faulty->lock);
    int rc = faulty->real->free_bytes(faulty->real->context, path, out);
    if (rc == 0 && limited && left < *out)
        *out = left;
    return rc;
}

static int64_t faulty_now_us(void *context)
{
    struct cairn_faulty *faulty = context;
    pthread_mutex_lock(&faulty->lock);
    int64_t now_us = faulty->now_us;
    pthread_mutex_unlock(&faulty->lock);
    return now_us;
}

static uint64_t faulty_random(void *context)
{
    struct cairn_faulty *faulty = context;
    pthread_mutex_lock(&faulty->lock);
    uint64_t number = cairn_test_random(&faulty->random_state);
    pthread_mutex_unlock(&faulty->lock);
    return number;
}

struct cairn_faulty *cairn_faulty_new(uint64_t seed)
{
    return cairn_faulty_new_over(cairn_io_posix(), seed);
}

struct cairn_faulty *cairn_faulty_new_over(const struct cairn_io *real, uint64_t seed)
{
    struct cairn_faulty *faulty = cairn_calloc(1, sizeof(*faulty));
    faulty->real = real;
    faulty->table = (struct cairn_io){
        .context = faulty,
        .open = faulty_open,
        .close = faulty_close,
        .pread = faulty_pread,
        .pwrite = faulty_pwrite,
        .pwritev = faulty_pwritev,
        .fdatasync = faulty_fdatasync,
        .reserve = faulty_reserve,
        .truncate = faulty_truncate,
        .size = faulty_size,
        .mkdir = faulty_mkdir,
        .rename = faulty_rename,
        .unlink = faulty_unlink,
        .sync_dir = faulty_sync_dir,
        .list = faulty_list,
        .free_bytes = faulty_free_bytes,
        .now_us = faulty_now_us,
        .random = faulty_random,
    };
    pthread_mutex_init(&faulty->lock, NULL);
    faulty->now_us = CAIRN_FAULTY_CLOCK_START_US;
    faulty->random_state = seed;
    return faulty;
}

void cairn_faulty_free(struct cairn_faulty **faulty)
{
    if (!*faulty)
        return;
    pthread_mutex_destroy(&(*faulty)->lock);
    free(*faulty);
    *faulty = NULL;
}

const struct cairn_io *cairn_faulty_io(struct cairn_faulty *faulty)
{
    return &faulty->table;
}

void cairn_faulty_fail(struct cairn_faulty *faulty, enum cairn_fault_kind kind, uint32_t after,
                       uint32_t times, int err_number)
{
    pthread_mutex_lock(&faulty->lock);
    faulty->faults[kind] = (struct countdown){after, times, err_number};
    pthread_mutex_unlock(&faulty->lock);
}

void cairn_faulty_tear(struct cairn_faulty *faulty, uint32_t after, size_t bytes, int err_number)
{
    pthread_mutex_lock(&faulty->lock);
    faulty->tear = (struct countdown){after, 1, err_number};
    faulty->tear_bytes = bytes;
    pthread_mutex_unlock(&faulty->lock);
}

void cairn_faulty_shorten_writes(struct cairn_faulty *faulty, size_t bytes_max)
{
    pthread_mutex_lock(&faulty->lock);
    faulty->write_max = bytes_max;
    pthread_mutex_unlock(&faulty->lock);
}

void cairn_faulty_shorten_reads(struct cairn_faulty *faulty, size_t bytes_max)
{
    pthread_mutex_lock(&faulty->lock);
    faulty->read_max = bytes_max;
    pthread_mutex_unlock(&faulty->lock);
}

void cairn_faulty_fill_disk(struct cairn_faulty *faulty, uint64_t bytes)
{
    pthread_mutex_lock(&faulty->lock);
    faulty->disk_limited = true;
    faulty->disk_left = bytes;
    pthread_mutex_unlock(&faulty->lock);
}

void cairn_faulty_free_disk(struct cairn_faulty *faulty)
{
    pthread_mutex_lock(&faulty->lock);
    faulty->disk_limited = false;
    pthread_mutex_unlock(&faulty->lock);
}

uint64_t cairn_faulty_fired(struct cairn_faulty *faulty)
{
    pthread_mutex_lock(&faulty->lock);
    uint64_t fired = faulty->fired;
    pthread_mutex_unlock(&faulty->lock);
    return fired;
}

uint64_t cairn_faulty_calls(struct cairn_faulty *faulty, enum cairn_fault_kind kind)
{
    pthread_mutex_lock(&faulty->lock);
    uint64_t calls = faulty->calls[kind];
    pthread_mutex_unlock(&faulty->lock);
    return calls;
}

uint64_t cairn_faulty_bytes_written(struct cairn_faulty *faulty)
{
    pthread_mutex_lock(&faulty->lock);
    uint64_t bytes = faulty->bytes_written;
    pthread_mutex_unlock(&faulty->lock);
    return bytes;
}

int64_t cairn_faulty_open_files(struct cairn_faulty *faulty)
{
    pthread_mutex_lock(&faulty->lock);
    int64_t open_files = faulty->open_files;
    pthread_mutex_unlock(&faulty->lock);
    return open_files;
}

void cairn_faulty_reset(struct cairn_faulty *faulty)
{
    pthread_mutex_lock(&faulty->lock);
    memset(faulty->faults, 0, sizeof(faulty->faults));
    memset(faulty->calls, 0, sizeof(faulty->calls));
    faulty->tear = (struct countdown){0};
    faulty->write_max = 0;
    faulty->read_max = 0;
    faulty->disk_limited = false;
    faulty->fired = 0;
    faulty->bytes_written = 0;
    pthread_mutex_unlock(&faulty->lock);
}

void cairn_faulty_set_clock(struct cairn_faulty *faulty, int64_t now_us)
{
    pthread_mutex_lock(&faulty->lock);
    faulty->now_us = now_us;
    pthread_mutex_unlock(&faulty->lock);
}

void cairn_faulty_advance_clock(struct cairn_faulty *faulty, int64_t by_us)
{
    pthread_mutex_lock(&faulty->lock);
    faulty->now_us += by_us;
    pthread_mutex_unlock(&faulty->lock);
}
