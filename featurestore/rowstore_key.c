#include "featurestore/rowstore_key.h"

#include <assert.h>

enum { ESCAPE = 0x00, ESCAPED_ZERO = 0xFF, TERMINATOR = 0x01 };

static size_t write_u32be(uint8_t *out, uint32_t value)
{
    out[0] = (uint8_t)(value >> 24);
    out[1] = (uint8_t)(value >> 16);
    out[2] = (uint8_t)(value >> 8);
    out[3] = (uint8_t)value;
    return 4;
}

static size_t write_escaped(uint8_t *out, struct cairn_str key)
{
    assert(key.len <= CAIRN_KEY_BYTES_MAX);
    size_t at = 0;
    if (key.len > 0 && memchr(key.ptr, 0, key.len) == NULL) {
        memcpy(out, key.ptr, key.len);
        at = key.len;
    } else {
        for (uint32_t i = 0; i < key.len; i++) {
            out[at++] = (uint8_t)key.ptr[i];
            if (key.ptr[i] == 0)
                out[at++] = ESCAPED_ZERO;
        }
    }
    out[at++] = ESCAPE;
    out[at++] = TERMINATOR;
    return at;
}

size_t cairn_row_prefix_write(uint8_t *out, uint32_t collection)
{
    return write_u32be(out, collection);
}

size_t cairn_vector_prefix_write(uint8_t *out, uint32_t collection, struct cairn_str vector)
{
    assert(vector.len <= CAIRN_NAME_BYTES_MAX);
    size_t at = write_u32be(out, collection);
    out[at++] = (uint8_t)vector.len;
    if (vector.len > 0)
        memcpy(out + at, vector.ptr, vector.len);
    return at + vector.len;
}

size_t cairn_row_key_write(uint8_t *out, uint32_t collection, struct cairn_str key)
{
    size_t at = cairn_row_prefix_write(out, collection);
    return at + write_escaped(out + at, key);
}

size_t cairn_vector_key_write(uint8_t *out, uint32_t collection, struct cairn_str vector,
                              struct cairn_str key)
{
    size_t at = cairn_vector_prefix_write(out, collection, vector);
    return at + write_escaped(out + at, key);
}

size_t cairn_key_prefix_end(uint8_t *prefix, size_t len)
{
    while (len > 0 && prefix[len - 1] == 0xFF)
        len--;
    if (len > 0) {
        prefix[len - 1]++;
        return len;
    }
    /* Nothing shorter is above a prefix of 0xFF; but a stored key ends with a terminator, so none
     * is all 0xFF. */
    memset(prefix, 0xFF, CAIRN_VECTOR_KEY_BYTES_MAX);
    return CAIRN_VECTOR_KEY_BYTES_MAX;
}

bool cairn_row_key_read(struct cairn_str stored, size_t prefix_len, struct cairn_buf *scratch,
                        struct cairn_str *key)
{
    if (stored.len < prefix_len + 2)
        return false;
    const char *at = stored.ptr + prefix_len;
    const char *end = stored.ptr + stored.len - 2;
    if (end[0] != ESCAPE || end[1] != TERMINATOR)
        return false;
    if (at == end || memchr(at, ESCAPE, (size_t)(end - at)) == NULL) {
        *key = (struct cairn_str){at, (uint32_t)(end - at)};
        return true;
    }
    cairn_buf_clear(scratch);
    char *out = cairn_buf_reserve(scratch, (size_t)(end - at));
    while (at < end) {
        *out++ = *at;
        if (*at++ != ESCAPE)
            continue;
        if (at == end || (uint8_t)*at++ != ESCAPED_ZERO)
            return false;
    }
    scratch->len = (size_t)(out - scratch->data);
    *key = (struct cairn_str){scratch->data, (uint32_t)scratch->len};
    return true;
}
