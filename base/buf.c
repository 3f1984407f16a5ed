#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    BUF_FIRST_BYTES = 64,
    ARENA_ALIGN = 16,
    ARENA_FIRST_BYTES = 4096,
    /* Blocks double up to this; also the largest one that a reset keeps, so that one large request
     * does not hold its memory for ever. */
    ARENA_BLOCK_BYTES_MAX = 256 * 1024,
};

static _Noreturn void out_of_memory(size_t size)
{
    /* No formatting through diag: it must work with no memory left. */
    fprintf(stderr, "cairn: out of memory (asked for %zu bytes)\n", size);
    abort();
}

static size_t add_or_abort(size_t a, size_t b)
{
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        out_of_memory(SIZE_MAX);
    return sum;
}

void *cairn_malloc(size_t size)
{
    void *ptr = malloc(size ? size : 1);
    if (!ptr)
        out_of_memory(size);
    return ptr;
}

void *cairn_calloc(size_t count, size_t size)
{
    void *ptr = calloc(count ? count : 1, size ? size : 1);
    if (!ptr)
        out_of_memory(size);
    return ptr;
}

void *cairn_realloc(void *ptr, size_t size)
{
    void *moved = realloc(ptr, size ? size : 1);
    if (!moved)
        out_of_memory(size);
    return moved;
}

char *cairn_strdup(struct cairn_str s)
{
    char *copy = cairn_malloc((size_t)s.len + 1);
    if (s.len)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return copy;
}

void cairn_buf_release(struct cairn_buf *buf)
{
    free(buf->data);
    *buf = (struct cairn_buf){0};
}

void cairn_buf_clear(struct cairn_buf *buf)
{
    buf->len = 0;
}

static void buf_grow(struct cairn_buf *buf, size_t need)
{
    size_t capacity = buf->capacity ? buf->capacity : BUF_FIRST_BYTES;
    while (capacity < need)
        capacity = capacity > SIZE_MAX / 2 ? need : capacity * 2;
    buf->data = cairn_realloc(buf->data, capacity);
    buf->capacity = capacity;
}

char *cairn_buf_reserve(struct cairn_buf *buf, size_t extra)
{
    if (!buf->data || buf->capacity - buf->len < extra)
        buf_grow(buf, add_or_abort(buf->len, extra));
    return buf->data + buf->len;
}

void cairn_buf_append(struct cairn_buf *buf, const void *bytes, size_t len)
{
    if (len == 0)
        return;
    memcpy(cairn_buf_reserve(buf, len), bytes, len);
    buf->len += len;
}

void cairn_buf_printf(struct cairn_buf *buf, const char *format, ...)
{
    char *at = cairn_buf_reserve(buf, BUF_FIRST_BYTES);
    size_t room = buf->capacity - buf->len;
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(at, room, format, args);
    if (len >= 0 && (size_t)len >= room) {
        at = cairn_buf_reserve(buf, (size_t)len + 1);
        vsnprintf(at, (size_t)len + 1, format, again);
    }
    if (len > 0)
        buf->len += (size_t)len;
    va_end(again);
    va_end(args);
}

/* The list's head is the block in use; blocks behind it are full or were passed over. */
struct cairn_arena_block {
    struct cairn_arena_block *next;
    size_t capacity; /* of bytes */
    size_t used;
    _Alignas(ARENA_ALIGN) char bytes[];
};

static struct cairn_arena_block *arena_add_block(struct cairn_arena *arena, size_t size)
{
    size_t capacity = arena->head ? arena->head->capacity * 2 : ARENA_FIRST_BYTES;
    if (capacity > ARENA_BLOCK_BYTES_MAX)
        capacity = ARENA_BLOCK_BYTES_MAX;
    if (capacity < size)
        capacity = size;
    struct cairn_arena_block *block = cairn_malloc(add_or_abort(sizeof(*block), capacity));
    block->capacity = capacity;
    block->used = 0;
    /* A block made for one large piece goes behind a head that still has room for small ones. */
    if (arena->head && size > ARENA_BLOCK_BYTES_MAX) {
        block->next = arena->head->next;
        arena->head->next = block;
    } else {
        block->next = arena->head;
        arena->head = block;
    }
    return block;
}

void *cairn_arena_alloc(struct cairn_arena *arena, size_t size)
{
    size = add_or_abort(size, ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    struct cairn_arena_block *block = arena->head;
    if (!block || block->capacity - block->used < size)
        block = arena_add_block(arena, size);
    void *ptr = block->bytes + block->used;
    block->used += size;
    arena->used_bytes += size;
    return ptr;
}

void *cairn_arena_zalloc(struct cairn_arena *arena, size_t size)
{
    void *ptr = cairn_arena_alloc(arena, size);
    memset(ptr, 0, size);
    return ptr;
}

struct cairn_str cairn_arena_dup(struct cairn_arena *arena, struct cairn_str s)
{
    char *copy = cairn_arena_alloc(arena, s.len);
    if (s.len)
        memcpy(copy, s.ptr, s.len);
    return (struct cairn_str){copy, s.len};
}

void cairn_arena_reset(struct cairn_arena *arena)
{
    struct cairn_arena_block *kept = NULL;
    struct cairn_arena_block *block = arena->head;
    while (block) {
        struct cairn_arena_block *next = block->next;
        bool better =
            block->capacity <= ARENA_BLOCK_BYTES_MAX && (!kept || block->capacity > kept->capacity);
        if (better) {
            free(kept);
            kept = block;
        } else {
            free(block);
        }
        block = next;
    }
    if (kept) {
        kept->next = NULL;
        kept->used = 0;
    }
    arena->head = kept;
    arena->used_bytes = 0;
}

void cairn_arena_release(struct cairn_arena *arena)
{
    struct cairn_arena_block *block = arena->head;
    while (block) {
        struct cairn_arena_block *next = block->next;
        free(block);
        block = next;
    }
    *arena = (struct cairn_arena){0};
}
