#include "api/query.h"

#include "base/buf.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int cairn_percent_decode(struct cairn_str text, bool plus, struct cairn_arena *arena,
                         struct cairn_str *out, struct cairn_error *err)
{
    *out = text;
    if (text.len == 0 ||
        (!memchr(text.ptr, '%', text.len) && !(plus && memchr(text.ptr, '+', text.len))))
        return 0;
    char *decoded = cairn_arena_alloc(arena, text.len);
    uint32_t len = 0;
    for (uint32_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '%') {
            int high = i + 2 < text.len ? hex_digit(text.ptr[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(text.ptr[i + 2]) : -1;
            if (low < 0)
                return cairn_fail(err, CAIRN_EPARAM,
                                  "%% must be followed by two hexadecimal digits");
            c = (char)(high * 16 + low);
            i += 2;
        } else if (plus && c == '+') {
            c = ' ';
        }
        decoded[len++] = c;
    }
    *out = (struct cairn_str){decoded, len};
    return 0;
}

/* Step through "a=1&b=2". False at the end. Empty pieces are skipped. */
static bool next_param(struct cairn_str *rest, struct cairn_str *name, struct cairn_str *value)
{
    while (rest->len > 0) {
        const char *and = memchr(rest->ptr, '&', rest->len);
        uint32_t len = and? (uint32_t)(and-rest->ptr) : rest->len;
        struct cairn_str piece = {rest->ptr, len};
        uint32_t used = and? len + 1 : len;
        *rest = (struct cairn_str){rest->ptr + used, rest->len - used};
        if (len == 0)
            continue;
        const char *equals = memchr(piece.ptr, '=', len);
        uint32_t name_len = equals ? (uint32_t)(equals - piece.ptr) : len;
        *name = (struct cairn_str){piece.ptr, name_len};
        *value = equals ? (struct cairn_str){equals + 1, len - name_len - 1}
                        : (struct cairn_str){piece.ptr + len, 0};
        return true;
    }
    return false;
}

bool cairn_exchange_param(struct cairn_exchange *exchange, const char *name, struct cairn_str *out)
{
    struct cairn_str rest = exchange->query, key, value, wanted = cairn_str_from(name);
    while (next_param(&rest, &key, &value))
        if (cairn_str_eq(key, wanted)) {
            /* A malformed escape was refused before the handler ran. */
            if (cairn_percent_decode(value, true, &exchange->arena, out, NULL) != 0)
                *out = value;
            return true;
        }
    return false;
}

static bool is_known(struct cairn_str name, const char *const *known)
{
    if (cairn_str_eq(name, CAIRN_STR_LITERAL("contract")))
        return true;
    for (; *known; known++)
        if (cairn_str_eq(name, cairn_str_from(*known)))
            return true;
    return false;
}

int cairn_exchange_check_params(struct cairn_exchange *exchange, const char *const *known,
                                struct cairn_error *err)
{
    struct cairn_str rest = exchange->query, name, value, decoded;
    while (next_param(&rest, &name, &value)) {
        if (!is_known(name, known))
            return cairn_fail(err, CAIRN_EPARAM, "unknown query parameter \"%.*s\"",
                              name.len > 64 ? 64 : (int)name.len, name.ptr);
        if (cairn_percent_decode(value, true, &exchange->arena, &decoded, err) != 0)
            return cairn_error_prefix(err, "query parameter %.*s", CAIRN_STR_ARG(name));
    }
    return 0;
}
