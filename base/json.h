/* JSON in (simdjson behind C) and JSON out (a writer that places commas and escapes).
 *
 * The only place that knows simdjson. RFC 8259; UTF-8 is validated; numbers out of range, NaN and
 * infinities are errors; nesting deeper than CAIRN_JSON_DEPTH_MAX is an error. */
#ifndef CAIRN_BASE_JSON_H
#define CAIRN_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

/* A parser with its reusable memory. One thread at a time. */
struct cairn_json_parser;
struct cairn_json_parser *cairn_json_parser_new(void);
void cairn_json_parser_free(struct cairn_json_parser **parser);
/* Bytes held for reuse: a small multiple (about 15) of the longest text parsed, up to
 * CAIRN_JSON_KEEP_BYTES of text for ever, and of a longer one until the next parse of a text that
 * is not. */
#define CAIRN_JSON_KEEP_BYTES (1u << 20)
size_t cairn_json_parser_memory(const struct cairn_json_parser *parser);

/* One value of a parsed document: two words, copied freely, valid until the parser's next parse. */
struct cairn_json {
    const void *document;
    size_t index;
};

enum cairn_json_kind {
    CAIRN_JSON_NULL,
    CAIRN_JSON_BOOL,
    CAIRN_JSON_INT,    /* fits int64 */
    CAIRN_JSON_UINT,   /* over INT64_MAX */
    CAIRN_JSON_DOUBLE, /* written with a fraction or an exponent */
    CAIRN_JSON_STRING,
    CAIRN_JSON_ARRAY,
    CAIRN_JSON_OBJECT
};

/* Parse one document. The text is copied (simdjson needs padding), so it may go away. Strings
 * handed out live until the next parse. CAIRN_EJSON (with the reason) or CAIRN_EUTF8. */
int cairn_json_parse(struct cairn_json_parser *parser, struct cairn_str text,
                     struct cairn_json *root, struct cairn_error *err);

enum cairn_json_kind cairn_json_kind(struct cairn_json value);
/* Each returns false when the value is of another kind. An int is accepted as a double; a double
 * that is no integer is not accepted as an int. */
bool cairn_json_bool(struct cairn_json value, bool *out);
bool cairn_json_i64(struct cairn_json value, int64_t *out);
bool cairn_json_f64(struct cairn_json value, double *out);
bool cairn_json_str(struct cairn_json value, struct cairn_str *out);

/* Object members in text order; array elements in order. */
struct cairn_json_iter {
    const void *document;
    size_t at, end;
};
bool cairn_json_object(struct cairn_json value,
                       struct cairn_json_iter *iter); /* false: no object */
bool cairn_json_member(struct cairn_json_iter *iter, struct cairn_str *key,
                       struct cairn_json *value);
bool cairn_json_array(struct cairn_json value, struct cairn_json_iter *iter, size_t *count);
bool cairn_json_element(struct cairn_json_iter *iter, struct cairn_json *value);
/* Member by name; false when the value is no object or has none. */
bool cairn_json_get(struct cairn_json value, const char *key, struct cairn_json *out);

/* Write all numbers of an array to out[0..max). Returns the count in the array (which may exceed
 * max; then only max are written), or -1 when the value is no array or an element is no number or
 * is not finite as a float. */
int64_t cairn_json_f32_array(struct cairn_json value, float *out, size_t max);

/* Append the value's minified text, members in their order. */
void cairn_json_minify(struct cairn_json value, struct cairn_buf *out);

/* Whether the bytes are one JSON document without white space between tokens, no deeper than
 * CAIRN_JSON_DEPTH_MAX, in UTF-8: what may be copied into an answer as it is. */
bool cairn_json_is_minified(struct cairn_str text);

/* Writer: appends to a caller's buffer. Misnesting is a programming error and asserts.
 * Zero-initialise with cairn_json_writer_init. */
struct cairn_json_writer {
    struct cairn_buf *out;
    uint64_t needs_comma; /* one bit per open level */
    uint64_t objects;     /* one bit per open level: it is an object */
    uint32_t depth;
    bool after_key;
};
void cairn_json_writer_init(struct cairn_json_writer *writer, struct cairn_buf *out);
void cairn_json_begin_object(struct cairn_json_writer *writer);
void cairn_json_end_object(struct cairn_json_writer *writer);
void cairn_json_begin_array(struct cairn_json_writer *writer);
void cairn_json_end_array(struct cairn_json_writer *writer);
void cairn_json_write_key(struct cairn_json_writer *writer, struct cairn_str key);
void cairn_json_key(struct cairn_json_writer *writer,
                    const char *key); /* key known to need no escape */
void cairn_json_write_null(struct cairn_json_writer *writer);
void cairn_json_write_bool(struct cairn_json_writer *writer, bool value);
void cairn_json_write_i64(struct cairn_json_writer *writer, int64_t value);
void cairn_json_write_u64(struct cairn_json_writer *writer, uint64_t value);
void cairn_json_write_f64(struct cairn_json_writer *writer,
                          double value); /* shortest text that reads back equal, as a double: 1.0 */
void cairn_json_write_f32(struct cairn_json_writer *writer,
                          float value); /* the same for a float, where 1 stays 1 */
void cairn_json_write_str(struct cairn_json_writer *writer, struct cairn_str value);
void cairn_json_write_base64(struct cairn_json_writer *writer, const void *bytes, size_t len);
void cairn_json_write_time(struct cairn_json_writer *writer, int64_t time_us); /* RFC 3339 string */
void cairn_json_write_raw(struct cairn_json_writer *writer,
                          struct cairn_str json); /* is JSON already */

/* Base64 (RFC 4648, padded). Decoded length, or -1 when malformed. `out` holds len / 4 * 3 bytes.
 */
int64_t cairn_base64_decode(struct cairn_str text, uint8_t *out);

#endif
