#include "base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/time.h"

/* Repeat a call that a signal interrupted. */
#define RETRY(result, call)                                                                        \
    do {                                                                                           \
        (result) = (call);                                                                         \
    } while ((result) < 0 && errno == EINTR)

static int posix_open(void *context, const char *path, enum cairn_open_mode mode)
{
    (void)context;
    int flags = O_CLOEXEC;
    switch (mode) {
    case CAIRN_OPEN_READ:
        flags |= O_RDONLY;
        break;
    case CAIRN_OPEN_WRITE:
        flags |= O_RDWR;
        break;
    case CAIRN_OPEN_CREATE:
        flags |= O_RDWR | O_CREAT | O_EXCL;
        break;
    }
    int fd;
    RETRY(fd, open(path, flags, 0640));
    return fd < 0 ? -errno : fd;
}

static int posix_close(void *context, int fd)
{
    (void)context;
    /* Linux has closed the descriptor even when it says EINTR: repeating could close another's. */
    return close(fd) < 0 && errno != EINTR ? -errno : 0;
}

static ssize_t posix_pread(void *context, int fd, void *bytes, size_t len, uint64_t at)
{
    (void)context;
    ssize_t count;
    RETRY(count, pread(fd, bytes, len, (off_t)at));
    return count < 0 ? -errno : count;
}

static ssize_t posix_pwrite(void *context, int fd, const void *bytes, size_t len, uint64_t at)
{
    (void)context;
    ssize_t count;
    RETRY(count, pwrite(fd, bytes, len, (off_t)at));
    return count < 0 ? -errno : count;
}

static ssize_t posix_pwritev(void *context, int fd, const struct iovec *parts, int count,
                             uint64_t at)
{
    (void)context;
    ssize_t written;
    RETRY(written, pwritev(fd, parts, count, (off_t)at));
    return written < 0 ? -errno : written;
}

static int posix_fdatasync(void *context, int fd)
{
    (void)context;
    /* Never repeated: after a failure the kernel may have dropped the dirty pages, and a second
     * call that succeeds would prove nothing. */
    return fdatasync(fd) < 0 ? -errno : 0;
}

static int posix_reserve(void *context, int fd, uint64_t at, uint64_t len)
{
    (void)context;
    int rc;
    RETRY(rc, fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)len));
    if (rc < 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
        return 0;
    return rc < 0 ? -errno : 0;
}

static int posix_truncate(void *context, int fd, uint64_t size)
{
    (void)context;
    int rc;
    RETRY(rc, ftruncate(fd, (off_t)size));
    return rc < 0 ? -errno : 0;
}

static int posix_size(void *context, int fd, uint64_t *out)
{
    (void)context;
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    *out = (uint64_t)status.st_size;
    return 0;
}

static int posix_mkdir(void *context, const char *path)
{
    (void)context;
    if (mkdir(path, 0750) == 0)
        return 0;
    if (errno != EEXIST)
        return -errno;
    struct stat status;
    if (stat(path, &status) < 0)
        return -errno;
    return S_ISDIR(status.st_mode) ? 0 : -ENOTDIR;
}

static int posix_rename(void *context, const char *from, const char *to)
{
    (void)context;
    return rename(from, to) < 0 ? -errno : 0;
}

static int posix_unlink(void *context, const char *path)
{
    (void)context;
    return remove(path) < 0 ? -errno : 0;
}

static int posix_sync_dir(void *context, const char *path)
{
    (void)context;
    int fd;
    RETRY(fd, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0)
        return -errno;
    /* EINVAL: a file system that cannot sync directories has nothing to sync. */
    int rc = fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
    close(fd);
    return rc;
}

static int posix_list(void *context, const char *path, int (*each)(void *arg, const char *name),
                      void *arg)
{
    (void)context;
    DIR *dir = opendir(path);
    if (!dir)
        return -errno;
    int rc = 0;
    while (rc == 0) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (!entry) {
            rc = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            rc = each(arg, entry->d_name);
    }
    closedir(dir);
    return rc;
}

static int posix_free_bytes(void *context, const char *path, uint64_t *out)
{
    (void)context;
    struct statvfs status;
    int rc;
    RETRY(rc, statvfs(path, &status));
    if (rc < 0)
        return -errno;
    *out = (uint64_t)status.f_bavail * (uint64_t)status.f_frsize;
    return 0;
}

static int64_t posix_now_us(void *context)
{
    (void)context;
    return cairn_time_now_us();
}

static uint64_t posix_random(void *context)
{
    (void)context;
    uint64_t number;
    ssize_t got;
    /* Eight bytes come whole or not at all, and once the kernel is up the call cannot fail. */
    RETRY(got, getrandom(&number, sizeof(number), 0));
    if (got != (ssize_t)sizeof(number))
        abort();
    return number;
}

static const struct cairn_io posix_table = {
    .open = posix_open,
    .close = posix_close,
    .pread = posix_pread,
    .pwrite = posix_pwrite,
    .pwritev = posix_pwritev,
    .fdatasync = posix_fdatasync,
    .reserve = posix_reserve,
    .truncate = posix_truncate,
    .size = posix_size,
    .mkdir = posix_mkdir,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .sync_dir = posix_sync_dir,
    .list = posix_list,
    .free_bytes = posix_free_bytes,
    .now_us = posix_now_us,
    .random = posix_random,
};

const struct cairn_io *cairn_io_posix(void)
{
    return &posix_table;
}

int cairn_io_read_full(const struct cairn_io *io, int fd, void *bytes, size_t len, uint64_t at)
{
    char *out = bytes;
    while (len > 0) {
        ssize_t count = io->pread(io->context, fd, out, len, at);
        if (count < 0)
            return (int)count;
        if (count == 0)
            return -EIO;
        out += count;
        at += (uint64_t)count;
        len -= (size_t)count;
    }
    return 0;
}

int cairn_io_write_full(const struct cairn_io *io, int fd, const void *bytes, size_t len,
                        uint64_t at)
{
    const char *in = bytes;
    while (len > 0) {
        ssize_t count = io->pwrite(io->context, fd, in, len, at);
        if (count < 0)
            return (int)count;
        if (count == 0)
            return -EIO; /* a write of something that writes nothing would loop for ever */
        in += count;
        at += (uint64_t)count;
        len -= (size_t)count;
    }
    return 0;
}

static char *join_path(const char *dir, const char *name, const char *suffix)
{
    struct cairn_buf path = {0};
    cairn_buf_printf(&path, "%s/%s%s", dir, name, suffix);
    return path.data; /* printf left a NUL after the text */
}

static int write_and_sync(const struct cairn_io *io, const char *path, const void *bytes,
                          size_t len)
{
    int fd = io->open(io->context, path, CAIRN_OPEN_CREATE);
    if (fd < 0)
        return fd;
    int rc = cairn_io_write_full(io, fd, bytes, len, 0);
    if (rc == 0)
        rc = io->fdatasync(io->context, fd);
    int close_rc = io->close(io->context, fd);
    return rc != 0 ? rc : close_rc;
}

int cairn_io_replace_file(const struct cairn_io *io, const char *dir, const char *name,
                          const void *bytes, size_t len)
{
    char *path = join_path(dir, name, "");
    char *temporary = join_path(dir, name, ".tmp");
    /* What a crash left of an earlier attempt. */
    int rc = io->unlink(io->context, temporary);
    if (rc < 0 && rc != -ENOENT)
        goto done;
    rc = write_and_sync(io, temporary, bytes, len);
    if (rc == 0)
        rc = io->rename(io->context, temporary, path);
    if (rc != 0) {
        io->unlink(io->context, temporary);
        goto done;
    }
    rc = io->sync_dir(io->context, dir);
done:
    free(temporary);
    free(path);
    return rc;
}

/* Length of the parent directory's part of path[0..len), without trailing slashes; 0 if the path
 * is a bare name. */
static size_t parent_len(const char *path, size_t len)
{
    while (len > 0 && path[len - 1] != '/')
        len--;
    while (len > 1 && path[len - 1] == '/')
        len--;
    return len;
}

static int make_dir_and_parents(const struct cairn_io *io, const char *path, size_t len)
{
    char *dir = strndup(path, len);
    char *parent = NULL;
    if (!dir)
        return -ENOMEM;
    int rc = io->mkdir(io->context, dir);
    size_t above = parent_len(path, len);
    if (rc == -ENOENT && above > 0 && above < len) {
        rc = make_dir_and_parents(io, path, above);
        if (rc == 0)
            rc = io->mkdir(io->context, dir);
    }
    if (rc != 0)
        goto done;
    /* The new name must survive a power cut. A parent that we may not read was not made by us. */
    parent = above > 0 ? strndup(path, above) : strdup(".");
    if (!parent) {
        rc = -ENOMEM;
        goto done;
    }
    rc = io->sync_dir(io->context, parent);
    if (rc == -EACCES || rc == -EPERM)
        rc = 0;
done:
    free(parent);
    free(dir);
    return rc;
}

int cairn_io_make_dirs(const struct cairn_io *io, const char *path)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    return len == 0 ? -ENOENT : make_dir_and_parents(io, path, len);
}

/* Names are collected before any is removed: what a listing shows while its directory changes is
 * unspecified. */
static int collect_name(void *arg, const char *name)
{
    struct cairn_buf *names = arg;
    cairn_buf_append(names, name, strlen(name) + 1);
    return 0;
}

int cairn_io_remove_tree(const struct cairn_io *io, const char *path)
{
    /* Unlinking comes first, so that a symbolic link is removed and never followed. */
    int rc = io->unlink(io->context, path);
    if (rc == -ENOENT)
        return 0;
    if (rc != -ENOTEMPTY && rc != -EEXIST)
        return rc;
    struct cairn_buf names = {0};
    rc = io->list(io->context, path, collect_name, &names);
    for (size_t at = 0; rc == 0 && at < names.len; at += strlen(names.data + at) + 1) {
        char *child = join_path(path, names.data + at, "");
        rc = cairn_io_remove_tree(io, child);
        free(child);
    }
    cairn_buf_release(&names);
    return rc == 0 ? io->unlink(io->context, path) : rc;
}
