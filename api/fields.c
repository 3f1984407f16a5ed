#include "api/fields.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/time.h"

/* Up to here comparing all pairs of names is cheaper than sorting a copy. */
#define PAIRWISE_NAMES_MAX 24u

struct cairn_str cairn_shown(struct cairn_str text)
{
    if (text.len <= 64)
        return text;
    text.len = 64;
    while (text.len > 0 && ((unsigned char)text.ptr[text.len] & 0xC0) == 0x80)
        text.len--;
    return text;
}

static bool starts_with_path(const char *message)
{
    size_t word =
        strspn(message, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");
    return word > 0 && (message[word] == ':' || message[word] == '.' || message[word] == '[');
}

int cairn_error_path(struct cairn_error *err, const char *format, ...)
{
    if (err == NULL)
        return CAIRN_EINTERNAL;
    char path[128];
    va_list args;
    va_start(args, format);
    vsnprintf(path, sizeof path, format, args);
    va_end(args);
    const char *joint = starts_with_path(err->message) ? "." : ": ";
    return cairn_fail(err, err->code, "%s%s%s", path, joint, err->message);
}

static int unknown_field(struct cairn_str key, const struct cairn_str *names, unsigned count,
                         struct cairn_error *err)
{
    char known[256];
    size_t at = 0;
    known[0] = '\0';
    for (unsigned i = 0; i < count; i++) {
        int wrote = snprintf(known + at, sizeof known - at, "%s%.*s", i == 0 ? "" : ", ",
                             CAIRN_STR_ARG(names[i]));
        if (wrote < 0 || (size_t)wrote >= sizeof known - at)
            break;
        at += (size_t)wrote;
    }
    struct cairn_str shown = cairn_shown(key);
    return cairn_fail(err, CAIRN_EFIELD, "%.*s: unknown field (known: %s)", CAIRN_STR_ARG(shown),
                      known);
}

int cairn_fields_read(struct cairn_json object, const struct cairn_str *names, unsigned count,
                      struct cairn_json *values, struct cairn_error *err)
{
    struct cairn_json_iter iter;
    if (!cairn_json_object(object, &iter))
        return cairn_fail(err, CAIRN_ETYPE, "must be a JSON object");
    memset(values, 0, count * sizeof *values);
    uint64_t seen = 0;
    struct cairn_str key;
    struct cairn_json value;
    while (cairn_json_member(&iter, &key, &value)) {
        unsigned i = 0;
        while (i < count && !cairn_str_eq(names[i], key))
            i++;
        if (i == count)
            return unknown_field(key, names, count, err);
        if (seen & (UINT64_C(1) << i))
            return cairn_fail(err, CAIRN_EFIELD, "%.*s: given twice", CAIRN_STR_ARG(key));
        seen |= UINT64_C(1) << i;
        if (cairn_json_kind(value) != CAIRN_JSON_NULL)
            values[i] = value;
    }
    return 0;
}

int cairn_key_check(struct cairn_str key, struct cairn_error *err)
{
    if (key.len == 0)
        return cairn_fail(err, CAIRN_EKEY, "a key has at least 1 byte");
    if (key.len > CAIRN_KEY_BYTES_MAX)
        return cairn_fail(err, CAIRN_EKEY, "%u bytes, a key has at most %u", key.len,
                          CAIRN_KEY_BYTES_MAX);
    if (!cairn_utf8_valid(key))
        return cairn_fail(err, CAIRN_EUTF8, "a key is well-formed UTF-8, this is not");
    return 0;
}

int cairn_key_read(struct cairn_json json, struct cairn_arena *arena, struct cairn_str *out,
                   struct cairn_error *err)
{
    switch (cairn_json_kind(json)) {
    case CAIRN_JSON_STRING:
        cairn_json_str(json, out);
        if (out->len == 0 || out->len > CAIRN_KEY_BYTES_MAX)
            return cairn_key_check(*out, err);
        return 0;
    case CAIRN_JSON_INT:
    case CAIRN_JSON_UINT: {
        struct cairn_buf text = {0};
        cairn_json_minify(json, &text);
        *out = cairn_arena_dup(arena, (struct cairn_str){text.data, (uint32_t)text.len});
        cairn_buf_release(&text);
        return 0;
    }
    default:
        return cairn_fail(err, CAIRN_EKEY, "a key is a string or an integer");
    }
}

int cairn_keys_read(struct cairn_json json, const char *path, struct cairn_arena *arena,
                    struct cairn_str **out, uint32_t *count, struct cairn_error *err)
{
    struct cairn_json_iter iter;
    size_t items;
    if (!cairn_json_array(json, &iter, &items))
        return cairn_fail(err, CAIRN_ETYPE, "%s: must be an array of keys", path);
    if (items == 0)
        return cairn_fail(err, CAIRN_EFIELD, "%s: must name at least one key", path);
    if (items > CAIRN_KEYS_MAX)
        return cairn_fail(err, CAIRN_EFIELD, "%s: %zu keys, at most %u in one request", path, items,
                          CAIRN_KEYS_MAX);
    *out = cairn_arena_alloc(arena, items * sizeof **out);
    *count = 0;
    struct cairn_json element;
    while (cairn_json_element(&iter, &element)) {
        if (cairn_key_read(element, arena, &(*out)[*count], err) != 0)
            return cairn_error_prefix(err, "%s[%u]", path, *count);
        ++*count;
    }
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return cairn_str_cmp(*(const struct cairn_str *)a, *(const struct cairn_str *)b);
}

const struct cairn_str *cairn_names_repeated(const struct cairn_str *names, uint32_t count,
                                             struct cairn_arena *arena)
{
    if (count <= PAIRWISE_NAMES_MAX) {
        for (uint32_t i = 1; i < count; i++)
            for (uint32_t j = 0; j < i; j++)
                if (cairn_str_eq(names[i], names[j]))
                    return &names[i];
        return NULL;
    }
    struct cairn_str *sorted = cairn_arena_alloc(arena, count * sizeof *sorted);
    memcpy(sorted, names, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_names);
    for (uint32_t i = 1; i < count; i++)
        if (cairn_str_eq(sorted[i], sorted[i - 1]))
            return &sorted[i];
    return NULL;
}

int cairn_names_read(struct cairn_json json, const char *path, uint32_t max,
                     struct cairn_arena *arena, struct cairn_str **out, uint32_t *count,
                     struct cairn_error *err)
{
    struct cairn_json_iter iter;
    size_t items;
    if (!cairn_json_array(json, &iter, &items))
        return cairn_fail(err, CAIRN_ETYPE, "%s: must be an array of names", path);
    if (items > max)
        return cairn_fail(err, CAIRN_EFIELD, "%s: %zu names, at most %u", path, items, max);
    *out = cairn_arena_alloc(arena, (items + 1) * sizeof **out);
    *count = 0;
    struct cairn_json element;
    while (cairn_json_element(&iter, &element)) {
        if (!cairn_json_str(element, &(*out)[*count]))
            return cairn_fail(err, CAIRN_ETYPE, "%s[%u]: must be a string", path, *count);
        ++*count;
    }
    const struct cairn_str *twice = cairn_names_repeated(*out, *count, arena);
    if (twice != NULL) {
        struct cairn_str shown = cairn_shown(*twice);
        return cairn_fail(err, CAIRN_EFIELD, "%s: names \"%.*s\" twice", path,
                          CAIRN_STR_ARG(shown));
    }
    return 0;
}

int cairn_bool_read(struct cairn_json json, const char *path, bool *out, struct cairn_error *err)
{
    if (!cairn_json_bool(json, out))
        return cairn_fail(err, CAIRN_ETYPE, "%s: must be true or false", path);
    return 0;
}

int cairn_str_read(struct cairn_json json, const char *path, struct cairn_str *out,
                   struct cairn_error *err)
{
    if (!cairn_json_str(json, out))
        return cairn_fail(err, CAIRN_ETYPE, "%s: must be a string", path);
    return 0;
}

int cairn_u32_read(struct cairn_json json, const char *path, uint32_t min, uint32_t max,
                   uint32_t *out, struct cairn_error *err)
{
    int64_t value;
    enum cairn_json_kind kind = cairn_json_kind(json);
    if (kind != CAIRN_JSON_UINT && !cairn_json_i64(json, &value))
        return cairn_fail(err, CAIRN_ETYPE, "%s: must be an integer", path);
    if (kind == CAIRN_JSON_UINT || value < min || value > max)
        return cairn_fail(err, CAIRN_EFIELD, "%s: must be between %u and %u", path, min, max);
    *out = (uint32_t)value;
    return 0;
}

int cairn_time_read(struct cairn_json json, const char *path, int64_t *out_us,
                    struct cairn_error *err)
{
    struct cairn_str text;
    int64_t ms;
    int code;
    if (cairn_json_str(json, &text))
        code = cairn_time_parse(text, out_us, err);
    else if (cairn_json_i64(json, &ms))
        code = cairn_time_from_ms(ms, out_us, err);
    else
        return cairn_fail(err, CAIRN_ETIME,
                          "%s: must be an RFC 3339 time or integer milliseconds since the epoch",
                          path);
    return code == 0 ? 0 : cairn_error_prefix(err, "%s", path);
}

static int dimension_check(size_t count, struct cairn_error *err)
{
    if (count == 0)
        return cairn_fail(err, CAIRN_EDIMENSION, "a vector has at least 1 component");
    if (count > CAIRN_DIM_MAX)
        return cairn_fail(err, CAIRN_EDIMENSION, "%zu components, a vector has at most %u", count,
                          CAIRN_DIM_MAX);
    return 0;
}

/* Say which element of a refused array was wrong. */
static int blame_component(struct cairn_json json, struct cairn_error *err)
{
    struct cairn_json_iter iter;
    size_t count;
    struct cairn_json element;
    cairn_json_array(json, &iter, &count);
    for (size_t i = 0; cairn_json_element(&iter, &element); i++) {
        double value;
        if (!cairn_json_f64(element, &value) && cairn_json_kind(element) != CAIRN_JSON_UINT)
            return cairn_fail(err, CAIRN_ETYPE, "component %zu is not a number", i);
        if (!isfinite((float)value))
            return cairn_fail(err, CAIRN_ENUMBER, "component %zu is not finite as a float32", i);
    }
    return cairn_fail(err, CAIRN_ENUMBER, "a component is not finite as a float32");
}

static int vector_from_base64(struct cairn_json json, struct cairn_arena *arena, const float **out,
                              uint32_t *dim, struct cairn_error *err)
{
    static const struct cairn_str names[] = {CAIRN_FIELD("f32")};
    struct cairn_json value;
    struct cairn_str text;
    if (cairn_fields_read(json, names, 1, &value, err) != 0)
        return err->code;
    if (!cairn_field_given(value) || !cairn_json_str(value, &text))
        return cairn_fail(err, CAIRN_ETYPE, "f32: must be the base64 text of little-endian floats");
    /* Refuse a long text before memory is asked for: 4 characters stand for 3 bytes. */
    if (text.len / 4 > CAIRN_DIM_MAX * sizeof(float) / 3 + 1)
        return dimension_check((size_t)text.len / 4 * 3 / sizeof(float), err);
    uint8_t *bytes = cairn_arena_alloc(arena, (size_t)text.len / 4 * 3 + 4);
    int64_t len = cairn_base64_decode(text, bytes);
    if (len < 0)
        return cairn_fail(err, CAIRN_EFIELD, "f32: not valid base64");
    if (len % (int64_t)sizeof(float) != 0)
        return cairn_fail(err, CAIRN_EDIMENSION, "f32: %lld bytes are no whole number of float32",
                          (long long)len);
    size_t count = (size_t)len / sizeof(float);
    if (dimension_check(count, err) != 0)
        return err->code;
    const float *f32 = (const float *)(const void *)bytes; /* the arena aligns to 16 */
    for (size_t i = 0; i < count; i++)
        if (!isfinite(f32[i]))
            return cairn_fail(err, CAIRN_ENUMBER, "component %zu is not finite", i);
    *out = f32;
    *dim = (uint32_t)count;
    return 0;
}

int cairn_vector_read(struct cairn_json json, struct cairn_arena *arena, const float **out,
                      uint32_t *dim, struct cairn_error *err)
{
    struct cairn_json_iter iter;
    size_t count;
    if (cairn_json_kind(json) == CAIRN_JSON_OBJECT)
        return vector_from_base64(json, arena, out, dim, err);
    if (!cairn_json_array(json, &iter, &count))
        return cairn_fail(err, CAIRN_ETYPE, "must be an array of numbers or {\"f32\": base64}");
    if (dimension_check(count, err) != 0)
        return err->code;
    float *f32 = cairn_arena_alloc(arena, count * sizeof *f32);
    if (cairn_json_f32_array(json, f32, count) < 0)
        return blame_component(json, err);
    *out = f32;
    *dim = (uint32_t)count;
    return 0;
}

struct cairn_str cairn_json_text(struct cairn_json json, struct cairn_arena *arena)
{
    struct cairn_buf text = {0};
    cairn_json_minify(json, &text);
    struct cairn_str copy =
        cairn_arena_dup(arena, (struct cairn_str){text.data, (uint32_t)text.len});
    cairn_buf_release(&text);
    return copy;
}
