/* JSON out, and base64. The writer keeps two bits per open level: whether a comma is due, and
 * whether the level is an object. */
#include <assert.h>
#include <math.h>

#include "base/json.h"
#include "base/json_number.h"
#include "base/time.h"

enum { LEVELS_MAX = 64 };

static const char hex_digits[] = "0123456789abcdef";
static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static uint64_t level_bit(const struct cairn_json_writer *writer)
{
    return UINT64_C(1) << writer->depth;
}

static void put(struct cairn_json_writer *writer, const char *text, size_t len)
{
    cairn_buf_append(writer->out, text, len);
}

static void put_char(struct cairn_json_writer *writer, char c)
{
    *cairn_buf_reserve(writer->out, 1) = c;
    writer->out->len++;
}

static bool in_object(const struct cairn_json_writer *writer)
{
    return writer->depth > 0 && (writer->objects & level_bit(writer));
}

static void put_comma(struct cairn_json_writer *writer)
{
    uint64_t bit = level_bit(writer);
    if (writer->needs_comma & bit)
        put_char(writer, ',');
    writer->needs_comma |= bit;
}

/* What comes before every value: a comma, unless its key has just been written. */
static void begin_value(struct cairn_json_writer *writer)
{
    if (writer->after_key) {
        writer->after_key = false;
        return;
    }
    assert(!in_object(writer) && "a member needs a key");
    put_comma(writer);
}

static void begin_level(struct cairn_json_writer *writer, bool object)
{
    begin_value(writer);
    put_char(writer, object ? '{' : '[');
    writer->depth++;
    assert(writer->depth < LEVELS_MAX);
    uint64_t bit = level_bit(writer);
    writer->needs_comma &= ~bit;
    writer->objects = object ? writer->objects | bit : writer->objects & ~bit;
}

static void end_level(struct cairn_json_writer *writer, bool object)
{
    assert(writer->depth > 0 && in_object(writer) == object && !writer->after_key);
    writer->depth--;
    put_char(writer, object ? '}' : ']');
}

void cairn_json_writer_init(struct cairn_json_writer *writer, struct cairn_buf *out)
{
    *writer = (struct cairn_json_writer){.out = out};
}

void cairn_json_begin_object(struct cairn_json_writer *writer)
{
    begin_level(writer, true);
}

void cairn_json_end_object(struct cairn_json_writer *writer)
{
    end_level(writer, true);
}

void cairn_json_begin_array(struct cairn_json_writer *writer)
{
    begin_level(writer, false);
}

void cairn_json_end_array(struct cairn_json_writer *writer)
{
    end_level(writer, false);
}

static bool needs_escape(unsigned char c)
{
    return c < 0x20 || c == '"' || c == '\\';
}

static void put_escape(struct cairn_json_writer *writer, unsigned char c)
{
    char text[6] = {'\\', 0, '0', '0', 0, 0};
    size_t len = 2;
    switch (c) {
    case '\b':
        text[1] = 'b';
        break;
    case '\f':
        text[1] = 'f';
        break;
    case '\n':
        text[1] = 'n';
        break;
    case '\r':
        text[1] = 'r';
        break;
    case '\t':
        text[1] = 't';
        break;
    case '"':
    case '\\':
        text[1] = (char)c;
        break;
    default:
        text[1] = 'u';
        text[4] = hex_digits[c >> 4];
        text[5] = hex_digits[c & 15];
        len = 6;
        break;
    }
    put(writer, text, len);
}

static void put_string(struct cairn_json_writer *writer, struct cairn_str value)
{
    cairn_buf_reserve(writer->out, (size_t)value.len + 2);
    put_char(writer, '"');
    uint32_t start = 0;
    for (uint32_t i = 0; i < value.len; i++) {
        if (!needs_escape((unsigned char)value.ptr[i]))
            continue;
        put(writer, value.ptr + start, i - start);
        put_escape(writer, (unsigned char)value.ptr[i]);
        start = i + 1;
    }
    if (start < value.len)
        put(writer, value.ptr + start, value.len - start);
    put_char(writer, '"');
}

void cairn_json_write_key(struct cairn_json_writer *writer, struct cairn_str key)
{
    assert(in_object(writer) && !writer->after_key);
    put_comma(writer);
    put_string(writer, key);
    put_char(writer, ':');
    writer->after_key = true;
}

void cairn_json_key(struct cairn_json_writer *writer, const char *key)
{
    assert(in_object(writer) && !writer->after_key);
    size_t len = strlen(key);
    put_comma(writer);
    char *at = cairn_buf_reserve(writer->out, len + 3);
    at[0] = '"';
    memcpy(at + 1, key, len);
    at[len + 1] = '"';
    at[len + 2] = ':';
    writer->out->len += len + 3;
    writer->after_key = true;
}

void cairn_json_write_null(struct cairn_json_writer *writer)
{
    begin_value(writer);
    put(writer, "null", 4);
}

void cairn_json_write_bool(struct cairn_json_writer *writer, bool value)
{
    begin_value(writer);
    put(writer, value ? "true" : "false", value ? 4 : 5);
}

static void put_unsigned(struct cairn_json_writer *writer, uint64_t value)
{
    char text[20];
    size_t at = sizeof(text);
    do {
        text[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    put(writer, text + at, sizeof(text) - at);
}

void cairn_json_write_i64(struct cairn_json_writer *writer, int64_t value)
{
    begin_value(writer);
    if (value < 0)
        put_char(writer, '-');
    put_unsigned(writer, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void cairn_json_write_u64(struct cairn_json_writer *writer, uint64_t value)
{
    begin_value(writer);
    put_unsigned(writer, value);
}

void cairn_json_write_f64(struct cairn_json_writer *writer, double value)
{
    assert(isfinite(value));
    begin_value(writer);
    char *at = cairn_buf_reserve(writer->out, CAIRN_NUMBER_TEXT_BYTES + 2);
    unsigned len = cairn_number_format_f64(value, at);
    /* Undeclared features keep the type they arrive in, so what went out as a double must not come
     * back as an integer. */
    if (!memchr(at, '.', len) && !memchr(at, 'e', len)) {
        at[len++] = '.';
        at[len++] = '0';
    }
    writer->out->len += len;
}

void cairn_json_write_f32(struct cairn_json_writer *writer, float value)
{
    assert(isfinite(value));
    begin_value(writer);
    char *at = cairn_buf_reserve(writer->out, CAIRN_NUMBER_TEXT_BYTES);
    writer->out->len += cairn_number_format_f32(value, at);
}

void cairn_json_write_str(struct cairn_json_writer *writer, struct cairn_str value)
{
    begin_value(writer);
    put_string(writer, value);
}

static void encode_three(const uint8_t *bytes, char *out)
{
    out[0] = base64_digits[bytes[0] >> 2];
    out[1] = base64_digits[(bytes[0] & 3) << 4 | bytes[1] >> 4];
    out[2] = base64_digits[(bytes[1] & 15) << 2 | bytes[2] >> 6];
    out[3] = base64_digits[bytes[2] & 63];
}

void cairn_json_write_base64(struct cairn_json_writer *writer, const void *bytes, size_t len)
{
    begin_value(writer);
    const uint8_t *from = bytes;
    char *out = cairn_buf_reserve(writer->out, (len + 2) / 3 * 4 + 2);
    char *at = out;
    *at++ = '"';
    for (; len >= 3; len -= 3, from += 3, at += 4)
        encode_three(from, at);
    if (len > 0) {
        uint8_t last[3] = {from[0], len == 2 ? from[1] : 0, 0};
        encode_three(last, at);
        at[3] = '=';
        if (len == 1)
            at[2] = '=';
        at += 4;
    }
    *at++ = '"';
    writer->out->len += (size_t)(at - out);
}

void cairn_json_write_time(struct cairn_json_writer *writer, int64_t time_us)
{
    begin_value(writer);
    char text[CAIRN_TIME_TEXT_BYTES + 1];
    unsigned len = cairn_time_format(time_us, text + 1);
    text[0] = '"';
    text[len + 1] = '"';
    put(writer, text, len + 2);
}

void cairn_json_write_raw(struct cairn_json_writer *writer, struct cairn_str json)
{
    begin_value(writer);
    put(writer, json.ptr, json.len);
}

/* 0 to 63, or -1. */
static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Four digits to 24 bits; -1 if one is none. */
static int32_t decode_four(const char *text)
{
    int a = base64_value(text[0]), b = base64_value(text[1]);
    int c = base64_value(text[2]), d = base64_value(text[3]);
    return (a | b | c | d) < 0 ? -1 : a << 18 | b << 12 | c << 6 | d;
}

/* The last four digits, of which one or two may be padding. Bits beyond the bytes must be 0: one
 * text for one value. */
static int64_t decode_last(const char *text, uint8_t *out)
{
    int padding = (text[3] == '=') + (text[3] == '=' && text[2] == '=');
    char digits[4] = {text[0], text[1], padding == 2 ? 'A' : text[2], padding ? 'A' : text[3]};
    int32_t bits = decode_four(digits);
    if (bits < 0 || (bits & ((1 << 8 * padding) - 1)) != 0)
        return -1;
    for (int i = 0; i < 3 - padding; i++)
        out[i] = (uint8_t)(bits >> (16 - 8 * i));
    return 3 - padding;
}

int64_t cairn_base64_decode(struct cairn_str text, uint8_t *out)
{
    if (text.len % 4 != 0)
        return -1;
    if (text.len == 0)
        return 0;
    int64_t len = 0;
    for (uint32_t at = 0; at + 4 < text.len; at += 4, len += 3) {
        int32_t bits = decode_four(text.ptr + at);
        if (bits < 0)
            return -1;
        out[len] = (uint8_t)(bits >> 16);
        out[len + 1] = (uint8_t)(bits >> 8);
        out[len + 2] = (uint8_t)bits;
    }
    int64_t last = decode_last(text.ptr + text.len - 4, out + len);
    return last < 0 ? -1 : len + last;
}
