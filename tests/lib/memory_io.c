#include "tests/lib/memory_io.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES_MAX       256
#define DESCRIPTORS_MAX 64
#define PATH_BYTES      512

struct memory_file {
    char path[PATH_BYTES]; /* "": unlinked */
    struct cairn_buf bytes;
    unsigned descriptors;
    bool used;
};

struct cairn_memory_io {
    struct cairn_io table;
    struct memory_file files[FILES_MAX];
    struct memory_file *open[DESCRIPTORS_MAX];
    int64_t now_us;
    uint64_t random;
};

static struct memory_file *find(struct cairn_memory_io *memory, const char *path)
{
    for (int i = 0; i < FILES_MAX; i++) {
        if (memory->files[i].used && strcmp(memory->files[i].path, path) == 0) {
            return &memory->files[i];
        }
    }
    return NULL;
}

static struct memory_file *create(struct cairn_memory_io *memory, const char *path)
{
    for (int i = 0; i < FILES_MAX; i++) {
        struct memory_file *file = &memory->files[i];
        if (!file->used) {
            *file = (struct memory_file){.used = true};
            snprintf(file->path, sizeof(file->path), "%s", path);
            return file;
        }
    }
    return NULL;
}

static void drop_if_unused(struct memory_file *file)
{
    if (file->path[0] == '\0' && file->descriptors == 0) {
        cairn_buf_release(&file->bytes);
        file->used = false;
    }
}

static int memory_open(void *context, const char *path, enum cairn_open_mode mode)
{
    struct cairn_memory_io *memory = context;
    struct memory_file *file = find(memory, path);
    if (mode == CAIRN_OPEN_CREATE) {
        if (file) {
            return -EEXIST;
        }
        file = create(memory, path);
        if (!file) {
            return -ENOSPC;
        }
    }
    if (!file) {
        return -ENOENT;
    }
    for (int fd = 0; fd < DESCRIPTORS_MAX; fd++) {
        if (!memory->open[fd]) {
            memory->open[fd] = file;
            file->descriptors++;
            return fd;
        }
    }
    return -EMFILE;
}

static int memory_close(void *context, int fd)
{
    struct cairn_memory_io *memory = context;
    struct memory_file *file = memory->open[fd];
    memory->open[fd] = NULL;
    file->descriptors--;
    drop_if_unused(file);
    return 0;
}

static ssize_t memory_pread(void *context, int fd, void *bytes, size_t len, uint64_t at)
{
    struct cairn_memory_io *memory = context;
    const struct cairn_buf *file = &memory->open[fd]->bytes;
    if (at >= file->len) {
        return 0;
    }
    size_t count = file->len - at < len ? file->len - at : len;
    memcpy(bytes, file->data + at, count);
    return (ssize_t)count;
}

static void resize(struct cairn_buf *file, size_t len)
{
    if (len > file->len) {
        memset(cairn_buf_reserve(file, len - file->len), 0, len - file->len);
    }
    file->len = len;
}

static ssize_t memory_pwrite(void *context, int fd, const void *bytes, size_t len, uint64_t at)
{
    struct cairn_memory_io *memory = context;
    struct cairn_buf *file = &memory->open[fd]->bytes;
    if (len > 0) {
        if (at + len > file->len) {
            resize(file, at + len);
        }
        memcpy(file->data + at, bytes, len);
    }
    return (ssize_t)len;
}

static ssize_t memory_pwritev(void *context, int fd, const struct iovec *parts, int count,
                              uint64_t at)
{
    ssize_t total = 0;
    for (int i = 0; i < count; i++) {
        total +=
            memory_pwrite(context, fd, parts[i].iov_base, parts[i].iov_len, at + (uint64_t)total);
    }
    return total;
}

static int memory_fdatasync(void *context, int fd)
{
    (void)context;
    (void)fd;
    return 0;
}

static int memory_reserve(void *context, int fd, uint64_t at, uint64_t len)
{
    (void)context;
    (void)fd;
    (void)at;
    (void)len;
    return 0;
}

static int memory_truncate(void *context, int fd, uint64_t size)
{
    struct cairn_memory_io *memory = context;
    resize(&memory->open[fd]->bytes, size);
    return 0;
}

static int memory_size(void *context, int fd, uint64_t *out)
{
    struct cairn_memory_io *memory = context;
    *out = memory->open[fd]->bytes.len;
    return 0;
}

static int memory_path(void *context, const char *path)
{
    (void)context;
    (void)path;
    return 0;
}

static int memory_unlink(void *context, const char *path)
{
    struct memory_file *file = find(context, path);
    if (!file) {
        return -ENOENT;
    }
    file->path[0] = '\0';
    drop_if_unused(file);
    return 0;
}

static int memory_rename(void *context, const char *from, const char *to)
{
    struct memory_file *file = find(context, from);
    if (!file) {
        return -ENOENT;
    }
    memory_unlink(context, to);
    snprintf(file->path, sizeof(file->path), "%s", to);
    return 0;
}

static int memory_list(void *context, const char *path, int (*each)(void *arg, const char *name),
                       void *arg)
{
    struct cairn_memory_io *memory = context;
    size_t len = strlen(path);
    int rc = 0;
    for (int i = 0; rc == 0 && i < FILES_MAX; i++) {
        const char *name = memory->files[i].path;
        if (memory->files[i].used && strncmp(name, path, len) == 0 && name[len] == '/' &&
            !strchr(name + len + 1, '/')) {
            rc = each(arg, name + len + 1);
        }
    }
    return rc;
}

static int memory_free_bytes(void *context, const char *path, uint64_t *out)
{
    (void)context;
    (void)path;
    *out = UINT64_C(1) << 40;
    return 0;
}

static int64_t memory_now_us(void *context)
{
    struct cairn_memory_io *memory = context;
    return ++memory->now_us;
}

static uint64_t memory_random(void *context)
{
    struct cairn_memory_io *memory = context;
    return memory->random += UINT64_C(0x9E3779B97F4A7C15);
}

struct cairn_memory_io *cairn_memory_io_new(uint64_t seed)
{
    struct cairn_memory_io *memory = cairn_calloc(1, sizeof(*memory));
    memory->random = seed;
    memory->table = (struct cairn_io){
        .context = memory,
        .open = memory_open,
        .close = memory_close,
        .pread = memory_pread,
        .pwrite = memory_pwrite,
        .pwritev = memory_pwritev,
        .fdatasync = memory_fdatasync,
        .reserve = memory_reserve,
        .truncate = memory_truncate,
        .size = memory_size,
        .mkdir = memory_path,
        .rename = memory_rename,
        .unlink = memory_unlink,
        .sync_dir = memory_path,
        .list = memory_list,
        .free_bytes = memory_free_bytes,
        .now_us = memory_now_us,
        .random = memory_random,
    };
    return memory;
}

void cairn_memory_io_clear(struct cairn_memory_io *memory)
{
    for (int i = 0; i < FILES_MAX; i++) {
        struct memory_file *file = &memory->files[i];
        if (file->descriptors > 0) {
            fprintf(stderr, "%s is still open\n", file->path);
            abort();
        }
        cairn_buf_release(&file->bytes);
        file->used = false;
    }
}

void cairn_memory_io_free(struct cairn_memory_io **memory)
{
    cairn_memory_io_clear(*memory);
    free(*memory);
    *memory = NULL;
}

const struct cairn_io *cairn_memory_io_table(struct cairn_memory_io *memory)
{
    return &memory->table;
}

struct cairn_buf *cairn_memory_io_file(struct cairn_memory_io *memory, const char *path)
{
    struct memory_file *file = find(memory, path);
    return file ? &file->bytes : NULL;
}

void cairn_memory_io_put(struct cairn_memory_io *memory, const char *path, const void *bytes,
                         size_t len)
{
    struct memory_file *file = find(memory, path);
    file = file ? file : create(memory, path);
    if (!file) {
        abort();
    }
    cairn_buf_clear(&file->bytes);
    cairn_buf_append(&file->bytes, bytes, len);
}
