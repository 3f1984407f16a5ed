/* Feature values from and to JSON. */
#include <math.h>

#include "api/fields.h"
#include "base/time.h"

static int wrong_type(uint8_t declared, struct cairn_json json, struct cairn_error *err)
{
    static const char *const kinds[] = {[CAIRN_JSON_NULL] = "null",
                                        [CAIRN_JSON_BOOL] = "a boolean",
                                        [CAIRN_JSON_INT] = "an integer",
                                        [CAIRN_JSON_UINT] = "an integer",
                                        [CAIRN_JSON_DOUBLE] =
                                            "a number with a fraction or exponent",
                                        [CAIRN_JSON_STRING] = "a string",
                                        [CAIRN_JSON_ARRAY] = "an array",
                                        [CAIRN_JSON_OBJECT] = "an object"};
    return cairn_fail(err, CAIRN_ETYPE, "%s given, %s wanted", kinds[cairn_json_kind(json)],
                      cairn_type_name(declared));
}

static void set_bytes(struct cairn_value *out, uint8_t type, const void *bytes, size_t len)
{
    out->type = type;
    out->len = (uint32_t)len;
    out->as.bytes = bytes;
}

static int read_i64(struct cairn_json json, struct cairn_value *out, struct cairn_error *err)
{
    if (cairn_json_kind(json) == CAIRN_JSON_UINT)
        return cairn_fail(err, CAIRN_ENUMBER, "the integer does not fit int64");
    if (!cairn_json_i64(json, &out->as.i64))
        return wrong_type(CAIRN_TYPE_INT64, json, err);
    return 0;
}

static int read_f64(struct cairn_json json, struct cairn_value *out, struct cairn_error *err)
{
    if (!cairn_json_f64(json, &out->as.f64))
        return wrong_type(CAIRN_TYPE_FLOAT64, json, err);
    if (!isfinite(out->as.f64))
        return cairn_fail(err, CAIRN_ENUMBER, "the number is not finite");
    return 0;
}

static int read_base64(struct cairn_json json, struct cairn_arena *arena, struct cairn_value *out,
                       struct cairn_error *err)
{
    struct cairn_str text;
    if (!cairn_json_str(json, &text))
        return wrong_type(CAIRN_TYPE_BYTES, json, err);
    uint8_t *bytes = cairn_arena_alloc(arena, (size_t)text.len / 4 * 3 + 1);
    int64_t len = cairn_base64_decode(text, bytes);
    if (len < 0)
        return cairn_fail(err, CAIRN_ETYPE, "bytes are given as base64, this is not");
    set_bytes(out, CAIRN_TYPE_BYTES, bytes, (size_t)len);
    return 0;
}

static void read_minified(struct cairn_json json, struct cairn_arena *arena,
                          struct cairn_value *out)
{
    struct cairn_buf text = {0};
    cairn_json_minify(json, &text);
    struct cairn_str kept =
        cairn_arena_dup(arena, (struct cairn_str){text.data, (uint32_t)text.len});
    set_bytes(out, CAIRN_TYPE_JSON, kept.ptr, kept.len);
    cairn_buf_release(&text);
}

static int read_scalar(struct cairn_json json, uint8_t type, struct cairn_arena *arena,
                       struct cairn_value *out, struct cairn_error *err)
{
    struct cairn_str text;
    out->type = type;
    out->len = 0;
    switch (type) {
    case CAIRN_TYPE_BOOL:
        return cairn_json_bool(json, &out->as.boolean) ? 0 : wrong_type(type, json, err);
    case CAIRN_TYPE_INT64:
        return read_i64(json, out, err);
    case CAIRN_TYPE_FLOAT64:
        return read_f64(json, out, err);
    case CAIRN_TYPE_STRING:
        if (!cairn_json_str(json, &text))
            return wrong_type(type, json, err);
        set_bytes(out, type, text.ptr, text.len);
        return 0;
    case CAIRN_TYPE_BYTES:
        return read_base64(json, arena, out, err);
    case CAIRN_TYPE_TIMESTAMP:
        return cairn_time_read(json, "timestamp", &out->as.i64, err);
    default:
        read_minified(json, arena, out);
        return 0;
    }
}

static void append_element(const struct cairn_value *element, struct cairn_buf *packed)
{
    switch (element->type) {
    case CAIRN_TYPE_BOOL: {
        uint8_t byte = element->as.boolean;
        cairn_buf_append(packed, &byte, 1);
        break;
    }
    case CAIRN_TYPE_INT64:
    case CAIRN_TYPE_TIMESTAMP:
        cairn_buf_append(packed, &element->as.i64, sizeof element->as.i64);
        break;
    case CAIRN_TYPE_FLOAT64:
        cairn_buf_append(packed, &element->as.f64, sizeof element->as.f64);
        break;
    default:
        cairn_buf_append(packed, &element->len, sizeof element->len);
        cairn_buf_append(packed, element->as.bytes, element->len);
    }
}

static int read_list(struct cairn_json json, uint8_t type, struct cairn_arena *arena,
                     struct cairn_value *out, struct cairn_error *err)
{
    struct cairn_json_iter iter;
    size_t count;
    if (!cairn_json_array(json, &iter, &count))
        return wrong_type(type, json, err);
    uint8_t element_type = (uint8_t)(type & ~CAIRN_TYPE_LIST);
    struct cairn_buf packed = {0};
    struct cairn_json element;
    int code = 0;
    for (size_t i = 0; code == 0 && cairn_json_element(&iter, &element); i++) {
        struct cairn_value value;
        /* JSON null is a json element, and no element of any other list. */
        code = read_scalar(element, element_type, arena, &value, err);
        if (code == 0)
            append_element(&value, &packed);
        else
            cairn_error_prefix(err, "element %zu", i);
    }
    if (code == 0) {
        struct cairn_str kept =
            cairn_arena_dup(arena, (struct cairn_str){packed.data, (uint32_t)packed.len});
        set_bytes(out, type, kept.ptr, kept.len);
    }
    cairn_buf_release(&packed);
    return code;
}

static uint8_t scalar_type_of(struct cairn_json json)
{
    switch (cairn_json_kind(json)) {
    case CAIRN_JSON_BOOL:
        return CAIRN_TYPE_BOOL;
    case CAIRN_JSON_INT:
    case CAIRN_JSON_UINT:
        return CAIRN_TYPE_INT64;
    case CAIRN_JSON_DOUBLE:
        return CAIRN_TYPE_FLOAT64;
    case CAIRN_JSON_STRING:
        return CAIRN_TYPE_STRING;
    default:
        return CAIRN_TYPE_JSON;
    }
}

/* The type an undeclared value arrives in: an array whose elements are all of one scalar type is a
 * list of it, integers among floats being floats; any other array, the empty one too, is json. */
static uint8_t arriving_type(struct cairn_json json)
{
    struct cairn_json_iter iter;
    size_t count;
    if (!cairn_json_array(json, &iter, &count))
        return scalar_type_of(json);
    struct cairn_json element;
    uint8_t common = CAIRN_TYPE_NULL;
    while (cairn_json_element(&iter, &element)) {
        uint8_t type = scalar_type_of(element);
        if (type == CAIRN_TYPE_JSON)
            return CAIRN_TYPE_JSON;
        if (common == CAIRN_TYPE_NULL || common == type)
            common = type;
        else if ((common == CAIRN_TYPE_INT64 && type == CAIRN_TYPE_FLOAT64) ||
                 (common == CAIRN_TYPE_FLOAT64 && type == CAIRN_TYPE_INT64))
            common = CAIRN_TYPE_FLOAT64;
        else
            return CAIRN_TYPE_JSON;
    }
    return common == CAIRN_TYPE_NULL ? CAIRN_TYPE_JSON : (uint8_t)(CAIRN_TYPE_LIST | common);
}

int cairn_value_read(struct cairn_json json, uint8_t declared, struct cairn_arena *arena,
                     struct cairn_value *out, struct cairn_error *err)
{
    memset(out, 0, sizeof *out);
    if (cairn_json_kind(json) == CAIRN_JSON_NULL)
        return 0;
    uint8_t type = declared != CAIRN_TYPE_NULL ? declared : arriving_type(json);
    if (type & CAIRN_TYPE_LIST)
        return read_list(json, type, arena, out, err);
    return read_scalar(json, type, arena, out, err);
}

static void write_list(const struct cairn_value *list, struct cairn_json_writer *writer)
{
    struct cairn_value element;
    uint32_t at = 0;
    cairn_json_begin_array(writer);
    while (cairn_list_next(list, &at, &element))
        cairn_value_write(&element, writer);
    cairn_json_end_array(writer);
}

void cairn_value_write(const struct cairn_value *value, struct cairn_json_writer *writer)
{
    struct cairn_str text = {NULL, 0};
    if (value->type >= CAIRN_TYPE_STRING && value->type != CAIRN_TYPE_TIMESTAMP)
        text = (struct cairn_str){(const char *)value->as.bytes, value->len};
    switch (value->type) {
    case CAIRN_TYPE_BOOL:
        cairn_json_write_bool(writer, value->as.boolean);
        break;
    case CAIRN_TYPE_INT64:
        cairn_json_write_i64(writer, value->as.i64);
        break;
    case CAIRN_TYPE_FLOAT64:
        cairn_json_write_f64(writer, value->as.f64);
        break;
    case CAIRN_TYPE_STRING:
        cairn_json_write_str(writer, text);
        break;
    case CAIRN_TYPE_BYTES:
        cairn_json_write_base64(writer, text.ptr, text.len);
        break;
    case CAIRN_TYPE_TIMESTAMP:
        cairn_json_write_time(writer, value->as.i64);
        break;
    case CAIRN_TYPE_JSON:
        cairn_json_write_raw(writer, text);
        break;
    default:
        if (value->type & CAIRN_TYPE_LIST)
            write_list(value, writer);
        else
            cairn_json_write_null(writer);
    }
}
