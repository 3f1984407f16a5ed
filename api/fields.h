/* Reading request fields: the members of a JSON object by name, keys, names, times, vectors. Every
 * message begins with the path of the field it is about ("keys[3]: …"), to which callers add where
 * that object stands with cairn_error_path.
 *
 * Threads: any; an arena belongs to one thread at a time. Strings that are handed out live as long
 * as the parsed document unless said otherwise. */
#ifndef CAIRN_API_FIELDS_H
#define CAIRN_API_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "base/str.h"
#include "base/value.h"

/* An entry of a table of field names. */
#define CAIRN_FIELD(text)                                                                          \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }

/* Spread the members of `object` over values[0..count) by name; what is not there, or null, has no
 * document (cairn_field_given). CAIRN_EFIELD for a member that is not in `names` or that appears
 * twice; CAIRN_ETYPE when it is no object. */
int cairn_fields_read(struct cairn_json object, const struct cairn_str *names, unsigned count,
                      struct cairn_json *values, struct cairn_error *err);

static inline bool cairn_field_given(struct cairn_json value)
{
    return value.document != NULL;
}

/* Put `format` before a message that starts with a field's path, joined by a dot, else by ": ".
 * Returns err->code. */
int cairn_error_path(struct cairn_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* At most 64 bytes of a client's text, cut between characters, to quote in a message. */
struct cairn_str cairn_shown(struct cairn_str text);

/* Length and encoding of a key from outside JSON. The message has no path. CAIRN_EKEY, CAIRN_EUTF8.
 */
int cairn_key_check(struct cairn_str key, struct cairn_error *err);
/* A key: a string of 1 to CAIRN_KEY_BYTES_MAX bytes, or an integer, whose decimal text is placed in
 * the arena. The message has no path. CAIRN_EKEY. */
int cairn_key_read(struct cairn_json json, struct cairn_arena *arena, struct cairn_str *out,
                   struct cairn_error *err);
/* 1 to CAIRN_KEYS_MAX keys; the array is in the arena. CAIRN_EFIELD, CAIRN_EKEY. */
int cairn_keys_read(struct cairn_json json, const char *path, struct cairn_arena *arena,
                    struct cairn_str **out, uint32_t *count, struct cairn_error *err);
/* 0 to `max` distinct strings; the array is in the arena. CAIRN_EFIELD. */
int cairn_names_read(struct cairn_json json, const char *path, uint32_t max,
                     struct cairn_arena *arena, struct cairn_str **out, uint32_t *count,
                     struct cairn_error *err);
/* The first string that occurs twice, or NULL. Memory for a sorted copy comes from the arena. */
const struct cairn_str *cairn_names_repeated(const struct cairn_str *names, uint32_t count,
                                             struct cairn_arena *arena);

/* CAIRN_ETYPE. */
int cairn_bool_read(struct cairn_json json, const char *path, bool *out, struct cairn_error *err);
int cairn_str_read(struct cairn_json json, const char *path, struct cairn_str *out,
                   struct cairn_error *err);
/* An integer within [min, max]. CAIRN_ETYPE when it is none, CAIRN_EFIELD out of range. */
int cairn_u32_read(struct cairn_json json, const char *path, uint32_t min, uint32_t max,
                   uint32_t *out, struct cairn_error *err);
/* RFC 3339 or integer milliseconds. CAIRN_ETIME. */
int cairn_time_read(struct cairn_json json, const char *path, int64_t *out_us,
                    struct cairn_error *err);
/* An array of finite numbers or {"f32": base64 of little-endian floats}; 1 to CAIRN_DIM_MAX
 * components in the arena. CAIRN_EDIMENSION, CAIRN_ENUMBER, CAIRN_ETYPE, CAIRN_EFIELD. */
int cairn_vector_read(struct cairn_json json, struct cairn_arena *arena, const float **out,
                      uint32_t *dim, struct cairn_error *err);

/* A feature's value. `declared` is its type, or CAIRN_TYPE_NULL for one that the schema does not
 * know, which takes the type it arrives in. Bytes are the document's or in the arena. CAIRN_ETYPE,
 * CAIRN_ENUMBER, CAIRN_ETIME; messages have no path. */
int cairn_value_read(struct cairn_json json, uint8_t declared, struct cairn_arena *arena,
                     struct cairn_value *out, struct cairn_error *err);
/* Bytes as base64, timestamps as RFC 3339, json as itself. */
void cairn_value_write(const struct cairn_value *value, struct cairn_json_writer *writer);

/* The text of a value, for shards in other processes; in the arena. */
struct cairn_str cairn_json_text(struct cairn_json json, struct cairn_arena *arena);

#endif
