/* A borrowed run of bytes, not NUL-terminated; who owns them is said where one is handed out. */
#ifndef CAIRN_BASE_STR_H
#define CAIRN_BASE_STR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct cairn_str {
    const char *ptr;
    uint32_t len;
};

/* For printf("%.*s", CAIRN_STR_ARG(s)). */
#define CAIRN_STR_ARG(s)        (int)(s).len, (s).ptr
#define CAIRN_STR_LITERAL(text) ((struct cairn_str){(text), (uint32_t)(sizeof(text) - 1)})

static inline struct cairn_str cairn_str_from(const char *text)
{
    return (struct cairn_str){text, (uint32_t)strlen(text)};
}

static inline bool cairn_str_eq(struct cairn_str a, struct cairn_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Byte order; a prefix sorts before what extends it. */
static inline int cairn_str_cmp(struct cairn_str a, struct cairn_str b)
{
    uint32_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter == 0 ? 0 : memcmp(a.ptr, b.ptr, shorter);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* Whether the bytes are well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms). */
bool cairn_utf8_valid(struct cairn_str s);

#endif
