/* All file access, time and randomness of the durable path, behind one table of functions, so that
 * a test can make the Nth write fail, tear it, or stop the clock (tests/lib/faulty_io.h).
 *
 * Every call returns 0 (or a count) or a negative errno: -ENOSPC, -EIO, …
 * Threads: a table may be used from any number of threads. */
#ifndef CAIRN_BASE_IO_H
#define CAIRN_BASE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

enum cairn_open_mode {
    CAIRN_OPEN_READ,
    CAIRN_OPEN_WRITE,  /* must exist */
    CAIRN_OPEN_CREATE, /* read and write; must not exist */
};

struct cairn_io {
    void *context;
    int (*open)(void *context, const char *path, enum cairn_open_mode mode); /* fd or -errno */
    int (*close)(void *context, int fd);
    ssize_t (*pread)(void *context, int fd, void *bytes, size_t len, uint64_t at);
    ssize_t (*pwrite)(void *context, int fd, const void *bytes, size_t len, uint64_t at);
    ssize_t (*pwritev)(void *context, int fd, const struct iovec *parts, int count, uint64_t at);
    int (*fdatasync)(void *context, int fd);
    int (*reserve)(void *context, int fd, uint64_t at,
                   uint64_t len); /* fallocate, size kept; 0 if unsupported */
    int (*truncate)(void *context, int fd, uint64_t size);
    int (*size)(void *context, int fd, uint64_t *out);
    int (*mkdir)(void *context, const char *path); /* 0 also when it is there */
    int (*rename)(void *context, const char *from, const char *to);
    int (*unlink)(void *context, const char *path); /* a file, a link or an empty directory */
    int (*sync_dir)(void *context, const char *path);
    /* Call `each` with every name in the directory but . and .., in no order; stops at its first
     * non-zero and returns that. */
    int (*list)(void *context, const char *path, int (*each)(void *arg, const char *name),
                void *arg);
    int (*free_bytes)(void *context, const char *path, uint64_t *out);
    int64_t (*now_us)(void *context); /* wall clock */
    uint64_t (*random)(void *context);
};

/* The real one. Never NULL, never freed. */
const struct cairn_io *cairn_io_posix(void);

/* Whole-buffer helpers over a table: loop over short reads and writes. A short file reads as -EIO.
 */
int cairn_io_read_full(const struct cairn_io *io, int fd, void *bytes, size_t len, uint64_t at);
int cairn_io_write_full(const struct cairn_io *io, int fd, const void *bytes, size_t len,
                        uint64_t at);
/* Write `bytes` to path.tmp, sync, rename over path and sync the directory: all or nothing. */
int cairn_io_replace_file(const struct cairn_io *io, const char *dir, const char *name,
                          const void *bytes, size_t len);
/* mkdir -p, synced into the parent directory. */
int cairn_io_make_dirs(const struct cairn_io *io, const char *path);
/* rm -r; a missing path is no error. Symbolic links are removed, not followed. */
int cairn_io_remove_tree(const struct cairn_io *io, const char *path);

#endif
