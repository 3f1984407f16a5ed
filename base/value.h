/* Typed feature values.
 *
 * A value does not own its bytes. A list is packed: fixed-width elements (bool: 1 byte; int64,
 * float64, timestamp: 8 bytes, little-endian) one after the other; string, bytes and json elements
 * as a little-endian uint32 length and the bytes. */
#ifndef CAIRN_BASE_VALUE_H
#define CAIRN_BASE_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

enum cairn_type { /* on disk: never renumber */
                  CAIRN_TYPE_NULL = 0,
                  CAIRN_TYPE_BOOL = 1,
                  CAIRN_TYPE_INT64 = 2,
                  CAIRN_TYPE_FLOAT64 = 3,
                  CAIRN_TYPE_STRING = 4,
                  CAIRN_TYPE_BYTES = 5,
                  CAIRN_TYPE_TIMESTAMP = 6, /* int64 microseconds */
                  CAIRN_TYPE_JSON = 7,      /* minified JSON text */
                  CAIRN_TYPE_VECTOR =
                      8, /* only in stored rows: len is the dimension, the floats stand elsewhere */
                  CAIRN_TYPE_LIST = 16, /* or-ed with the element type, 1 to 7 */
};

struct cairn_value {
    uint8_t type; /* enum cairn_type */
    uint32_t len; /* of `bytes`; 0 for scalars */
    union {
        bool boolean;
        int64_t i64; /* INT64 and TIMESTAMP */
        double f64;
        const uint8_t *bytes; /* STRING, BYTES, JSON and lists */
    } as;
};

/* "int64", "list<string>", … into a type; 0 (CAIRN_TYPE_NULL) if it is none. */
uint8_t cairn_type_parse(struct cairn_str text);
/* The name of a type; a static string. */
const char *cairn_type_name(uint8_t type);

/* Whether two values are the same, type and content bit by bit: 0.0 and -0.0 differ here, and are
 * equal to cairn_value_compare. Never true for VECTOR, whose floats stand elsewhere. */
bool cairn_value_eq(const struct cairn_value *a, const struct cairn_value *b);
/* Order of two scalars of comparable types (numbers with numbers, strings with strings, bools,
 * timestamps), exact between int64 and float64. Returns false when they cannot be compared. */
bool cairn_value_compare(const struct cairn_value *a, const struct cairn_value *b, int *order);

/* Walk a packed list. Set *at to 0 first; returns false at the end (or at malformed bytes). */
bool cairn_list_next(const struct cairn_value *list, uint32_t *at, struct cairn_value *element);
/* Number of elements, or -1 when the bytes are malformed. */
int64_t cairn_list_count(const struct cairn_value *list);

#endif
