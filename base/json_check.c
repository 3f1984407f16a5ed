/* A recogniser of minified JSON (RFC 8259) that needs no memory: json values of binary bodies are
 * copied into answers as they are, so they must be sound, and on one line. */
#include <stdint.h>

#include "base/json.h"
#include "base/limits.h"

_Static_assert(CAIRN_JSON_DEPTH_MAX <= 64, "one bit per open level");

struct scan {
    const char *at, *end;
    uint64_t objects; /* bit d: the level d is an object */
    unsigned depth;
};

static bool next_is(struct scan *scan, char c)
{
    if (scan->at == scan->end || *scan->at != c)
        return false;
    scan->at++;
    return true;
}

static bool literal(struct scan *scan, const char *word)
{
    while (*word) {
        if (!next_is(scan, *word++))
            return false;
    }
    return true;
}

static unsigned digits(struct scan *scan)
{
    const char *start = scan->at;
    while (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9')
        scan->at++;
    return scan->at != start;
}

static bool number(struct scan *scan)
{
    next_is(scan, '-');
    if (!next_is(scan, '0') && !digits(scan))
        return false;
    if (next_is(scan, '.') && !digits(scan))
        return false;
    if (next_is(scan, 'e') || next_is(scan, 'E')) {
        if (!next_is(scan, '+'))
            next_is(scan, '-');
        return digits(scan);
    }
    return true;
}

/* Four hexadecimal digits, or -1. */
static int32_t hex4(struct scan *scan)
{
    int32_t value = 0;
    for (int i = 0; i < 4; i++, scan->at++) {
        if (scan->at == scan->end)
            return -1;
        char c = *scan->at;
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* What follows a backslash. Surrogates must come in pairs: nothing else reads back as UTF-8. */
static bool escape(struct scan *scan)
{
    if (scan->at == scan->end)
        return false;
    char c = *scan->at++;
    if (c != 'u')
        return c != '\0' && strchr("\"\\/bfnrt", c) != NULL;
    int32_t unit = hex4(scan);
    if (unit < 0 || (unit >= 0xDC00 && unit <= 0xDFFF))
        return false;
    if (unit < 0xD800 || unit > 0xDBFF)
        return true;
    if (!literal(scan, "\\u"))
        return false;
    int32_t low = hex4(scan);
    return low >= 0xDC00 && low <= 0xDFFF;
}

static bool string(struct scan *scan)
{
    if (!next_is(scan, '"'))
        return false;
    while (scan->at < scan->end) {
        unsigned char c = (unsigned char)*scan->at++;
        if (c == '"')
            return true;
        if (c < 0x20 || (c == '\\' && !escape(scan)))
            return false;
    }
    return false;
}

static bool in_object(const struct scan *scan)
{
    return scan->objects >> (scan->depth - 1) & 1;
}

/* A value up to its end, or up to the first value inside it when it opens a level; *open says
 * which. */
static bool begin_value(struct scan *scan, bool *open)
{
    *open = false;
    if (scan->at == scan->end)
        return false;
    char c = *scan->at;
    switch (c) {
    case '"':
        return string(scan);
    case 't':
        return literal(scan, "true");
    case 'f':
        return literal(scan, "false");
    case 'n':
        return literal(scan, "null");
    case '[':
    case '{':
        break;
    default:
        return number(scan);
    }
    scan->at++;
    if (next_is(scan, c == '{' ? '}' : ']'))
        return scan->depth < CAIRN_JSON_DEPTH_MAX;
    if (scan->depth == CAIRN_JSON_DEPTH_MAX)
        return false;
    uint64_t bit = UINT64_C(1) << scan->depth++;
    scan->objects = c == '{' ? scan->objects | bit : scan->objects & ~bit;
    *open = true;
    return c == '[' || (string(scan) && next_is(scan, ':'));
}

/* After a value: close what ends here and step to the next value. Sets *done at the end of all. */
static bool end_value(struct scan *scan, bool *done)
{
    while (scan->depth > 0) {
        bool object = in_object(scan);
        if (next_is(scan, ','))
            return !object || (string(scan) && next_is(scan, ':'));
        if (!next_is(scan, object ? '}' : ']'))
            return false;
        scan->depth--;
    }
    *done = true;
    return scan->at == scan->end;
}

bool cairn_json_is_minified(struct cairn_str text)
{
    struct scan scan = {.at = text.ptr, .end = text.ptr + text.len};
    bool done = false;
    while (!done) {
        bool open;
        if (!begin_value(&scan, &open))
            return false;
        if (!open && !end_value(&scan, &done))
            return false;
    }
    return cairn_utf8_valid(text);
}
