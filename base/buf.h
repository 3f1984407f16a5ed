/* A growable byte buffer and an arena.
 * Both abort the process on allocation failure beyond the named limits of their users: every size
 * that reaches them has been checked against base/limits.h first. */
#ifndef CAIRN_BASE_BUF_H
#define CAIRN_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* malloc, calloc and realloc that abort with a message instead of returning NULL. */
void *cairn_malloc(size_t size);
void *cairn_calloc(size_t count, size_t size);
void *cairn_realloc(void *ptr, size_t size);
char *cairn_strdup(struct cairn_str s); /* NUL-terminated copy; caller frees */

struct cairn_buf {
    char *data;
    size_t len;
    size_t capacity;
};

/* {0} is a valid empty buffer. Release frees and zeroes; clear keeps the memory. */
void cairn_buf_release(struct cairn_buf *buf);
void cairn_buf_clear(struct cairn_buf *buf);
/* Make room for `extra` bytes after len and return where they go; the caller then adds to len. */
char *cairn_buf_reserve(struct cairn_buf *buf, size_t extra);
void cairn_buf_append(struct cairn_buf *buf, const void *bytes, size_t len);
void cairn_buf_printf(struct cairn_buf *buf, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Bump allocator: everything is freed at once. One thread at a time. */
struct cairn_arena {
    struct cairn_arena_block *head;
    size_t used_bytes; /* handed out since the last reset, for memory accounting */
};

/* {0} is a valid empty arena. Reset keeps one block of ordinary size for reuse. */
void *cairn_arena_alloc(struct cairn_arena *arena,
                        size_t size); /* 16-byte aligned, uninitialised */
void *cairn_arena_zalloc(struct cairn_arena *arena, size_t size);
struct cairn_str cairn_arena_dup(struct cairn_arena *arena, struct cairn_str s);
void cairn_arena_reset(struct cairn_arena *arena);
void cairn_arena_release(struct cairn_arena *arena);

#endif
