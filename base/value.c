#include "base/value.h"

#include <string.h>

static const char *const scalar_names[] = {"null",  "bool",      "int64", "float64", "string",
                                           "bytes", "timestamp", "json",  "vector"};
static const char *const list_names[] = {
    NULL,           "list<bool>",  "list<int64>",     "list<float64>",
    "list<string>", "list<bytes>", "list<timestamp>", "list<json>"};

uint8_t cairn_type_parse(struct cairn_str text)
{
    for (uint8_t type = CAIRN_TYPE_BOOL; type <= CAIRN_TYPE_JSON; type++) {
        if (cairn_str_eq(text, cairn_str_from(scalar_names[type])))
            return type;
        if (cairn_str_eq(text, cairn_str_from(list_names[type])))
            return type | CAIRN_TYPE_LIST;
    }
    return CAIRN_TYPE_NULL;
}

const char *cairn_type_name(uint8_t type)
{
    if (type <= CAIRN_TYPE_VECTOR)
        return scalar_names[type];
    unsigned element = type & ~(unsigned)CAIRN_TYPE_LIST;
    if ((type & CAIRN_TYPE_LIST) && element >= CAIRN_TYPE_BOOL && element <= CAIRN_TYPE_JSON)
        return list_names[element];
    return "unknown";
}

static uint64_t double_bits(double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof(bits));
    return bits;
}

bool cairn_value_eq(const struct cairn_value *a, const struct cairn_value *b)
{
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case CAIRN_TYPE_NULL:
        return true;
    case CAIRN_TYPE_BOOL:
        return a->as.boolean == b->as.boolean;
    case CAIRN_TYPE_INT64:
    case CAIRN_TYPE_TIMESTAMP:
        return a->as.i64 == b->as.i64;
    case CAIRN_TYPE_FLOAT64:
        return double_bits(a->as.f64) == double_bits(b->as.f64);
    case CAIRN_TYPE_VECTOR:
        return false;
    default:
        return a->len == b->len && (a->len == 0 || memcmp(a->as.bytes, b->as.bytes, a->len) == 0);
    }
}

static int order_i64(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int order_f64(double a, double b)
{
    return (a > b) - (a < b);
}

/* Exact: converting the integer to double would make 2^53 + 1 equal to 2^53. */
static int order_i64_f64(int64_t a, double b)
{
    if (b >= 0x1p63)
        return -1;
    if (b < -0x1p63)
        return 1;
    int64_t whole = (int64_t)b; /* truncates towards zero, and now fits */
    if (a != whole)
        return a < whole ? -1 : 1;
    return order_f64(0.0, b - (double)whole);
}

static bool is_number(const struct cairn_value *value)
{
    return value->type == CAIRN_TYPE_INT64 ||
           (value->type == CAIRN_TYPE_FLOAT64 && value->as.f64 == value->as.f64);
}

static int order_numbers(const struct cairn_value *a, const struct cairn_value *b)
{
    if (a->type == CAIRN_TYPE_INT64)
        return b->type == CAIRN_TYPE_INT64 ? order_i64(a->as.i64, b->as.i64)
                                           : order_i64_f64(a->as.i64, b->as.f64);
    return b->type == CAIRN_TYPE_INT64 ? -order_i64_f64(b->as.i64, a->as.f64)
                                       : order_f64(a->as.f64, b->as.f64);
}

bool cairn_value_compare(const struct cairn_value *a, const struct cairn_value *b, int *order)
{
    if (is_number(a) && is_number(b)) {
        *order = order_numbers(a, b);
        return true;
    }
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case CAIRN_TYPE_BOOL:
        *order = (int)a->as.boolean - (int)b->as.boolean;
        return true;
    case CAIRN_TYPE_TIMESTAMP:
        *order = order_i64(a->as.i64, b->as.i64);
        return true;
    case CAIRN_TYPE_STRING:
        *order = cairn_str_cmp((struct cairn_str){(const char *)a->as.bytes, a->len},
                               (struct cairn_str){(const char *)b->as.bytes, b->len});
        return true;
    default:
        return false;
    }
}

static uint32_t load_u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static uint64_t load_u64(const uint8_t *bytes)
{
    return (uint64_t)load_u32(bytes) | (uint64_t)load_u32(bytes + 4) << 32;
}

static double load_f64(const uint8_t *bytes)
{
    uint64_t bits = load_u64(bytes);
    double number;
    memcpy(&number, &bits, sizeof(number));
    return number;
}

/* Read the element at `bytes` with `left` bytes to go; returns how many it takes, 0 if malformed.
 */
static uint64_t read_element(uint8_t type, const uint8_t *bytes, uint32_t left,
                             struct cairn_value *out)
{
    *out = (struct cairn_value){.type = type};
    switch (type) {
    case CAIRN_TYPE_BOOL:
        if (left < 1 || bytes[0] > 1)
            return 0;
        out->as.boolean = bytes[0] == 1;
        return 1;
    case CAIRN_TYPE_INT64:
    case CAIRN_TYPE_TIMESTAMP:
        if (left < 8)
            return 0;
        out->as.i64 = (int64_t)load_u64(bytes);
        return 8;
    case CAIRN_TYPE_FLOAT64:
        if (left < 8)
            return 0;
        out->as.f64 = load_f64(bytes);
        return 8;
    case CAIRN_TYPE_STRING:
    case CAIRN_TYPE_BYTES:
    case CAIRN_TYPE_JSON:
        if (left < 4 || load_u32(bytes) > left - 4)
            return 0;
        out->len = load_u32(bytes);
        out->as.bytes = bytes + 4;
        return 4 + (uint64_t)out->len;
    default:
        return 0;
    }
}

bool cairn_list_next(const struct cairn_value *list, uint32_t *at, struct cairn_value *element)
{
    if (!(list->type & CAIRN_TYPE_LIST) || *at >= list->len)
        return false;
    uint8_t type = list->type & (uint8_t)~CAIRN_TYPE_LIST;
    uint64_t taken = read_element(type, list->as.bytes + *at, list->len - *at, element);
    *at += (uint32_t)taken;
    return taken > 0;
}

int64_t cairn_list_count(const struct cairn_value *list)
{
    uint8_t type = list->type & (uint8_t)~CAIRN_TYPE_LIST;
    if (!(list->type & CAIRN_TYPE_LIST) || type < CAIRN_TYPE_BOOL || type > CAIRN_TYPE_JSON)
        return -1;
    struct cairn_value element;
    uint32_t at = 0;
    int64_t count = 0;
    while (cairn_list_next(list, &at, &element))
        count++;
    return at == list->len ? count : -1;
}
