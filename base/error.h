/* Error codes: one list with the code's name, its stable word in API answers and its HTTP status.
 * Functions return 0 or one of these (all negative); text is for people, never branched on. */
#ifndef CAIRN_BASE_ERROR_H
#define CAIRN_BASE_ERROR_H

#include <stdarg.h>

/* X(name, number, word, http_status) */
#define CAIRN_ERROR_LIST(X)                                                                        \
    X(CAIRN_EBODY, -1, "invalid_body", 400)                                                        \
    X(CAIRN_EJSON, -2, "invalid_json", 400)                                                        \
    X(CAIRN_EFIELD, -3, "invalid_field", 400)                                                      \
    X(CAIRN_ETYPE, -4, "invalid_type", 400)                                                        \
    X(CAIRN_EDIMENSION, -5, "invalid_dimension", 400)                                              \
    X(CAIRN_ENUMBER, -6, "invalid_number", 400)                                                    \
    X(CAIRN_EKEY, -7, "invalid_key", 400)                                                          \
    X(CAIRN_ESCHEMA, -8, "invalid_schema", 400)                                                    \
    X(CAIRN_EPARAM, -9, "invalid_parameter", 400)                                                  \
    X(CAIRN_EFILTER, -10, "invalid_filter", 400)                                                   \
    X(CAIRN_ETIME, -11, "invalid_time", 400)                                                       \
    X(CAIRN_EUTF8, -12, "invalid_utf8", 400)                                                       \
    X(CAIRN_ENAME, -13, "invalid_name", 400)                                                       \
    X(CAIRN_ECURSOR, -14, "invalid_cursor", 400)                                                   \
    X(CAIRN_EUNKNOWN_FEATURE, -15, "unknown_feature", 400)                                         \
    X(CAIRN_EUNAUTHORIZED, -16, "unauthorized", 401)                                               \
    X(CAIRN_EFORBIDDEN, -17, "forbidden", 403)                                                     \
    X(CAIRN_ENOCOLLECTION, -18, "collection_not_found", 404)                                       \
    X(CAIRN_ENOENTITY, -19, "entity_not_found", 404)                                               \
    X(CAIRN_ENOVECTOR, -20, "vector_not_found", 404)                                               \
    X(CAIRN_ENOTFOUND, -21, "not_found", 404)                                                      \
    X(CAIRN_EMETHOD, -22, "method_not_allowed", 405)                                               \
    X(CAIRN_ECONFLICT, -23, "schema_conflict", 409)                                                \
    X(CAIRN_EPRECONDITION, -24, "precondition_failed", 409)                                        \
    X(CAIRN_ETOOLARGE, -25, "too_large", 413)                                                      \
    X(CAIRN_EMEDIATYPE, -26, "unsupported_media_type", 415)                                        \
    X(CAIRN_ENOTOWNER, -27, "not_owner", 421)                                                      \
    X(CAIRN_EOVERLOADED, -28, "overloaded", 429)                                                   \
    X(CAIRN_EHEADERS, -29, "headers_too_large", 431)                                               \
    X(CAIRN_EINTERNAL, -30, "internal", 500)                                                       \
    X(CAIRN_EIO, -31, "io_error", 503)                                                             \
    X(CAIRN_ECORRUPT, -32, "shard_corrupt", 503)                                                   \
    X(CAIRN_EUNAVAILABLE, -33, "shard_unavailable", 503)                                           \
    X(CAIRN_ESHUTDOWN, -34, "shutting_down", 503)                                                  \
    X(CAIRN_EPOSITION, -35, "position_not_reached", 504)                                           \
    X(CAIRN_ETIMEOUT, -36, "timeout", 504)                                                         \
    X(CAIRN_ENOSPACE, -37, "out_of_space", 507)                                                    \
    X(CAIRN_ENOMEM, -38, "out_of_memory", 507)                                                     \
    X(CAIRN_EBUSY, -39, "rebalance_in_progress", 409)                                              \
    X(CAIRN_EEND, -40, "end", 500) /* a cursor has no more; never leaves the process */

enum cairn_code {
#define CAIRN_ERROR_ENUM(name, number, word, status) name = number,
    CAIRN_ERROR_LIST(CAIRN_ERROR_ENUM)
#undef CAIRN_ERROR_ENUM
};

struct cairn_error {
    int code;          /* 0 or a cairn_code */
    char message[512]; /* NUL-terminated; names the field, file or offset and the fix */
};

/* Fill `err` (which may be NULL) and return `code`, so that callers can write
 * `return cairn_fail(err, CAIRN_EKEY, "…")`. Overwrites what was there. */
int cairn_fail(struct cairn_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Put `prefix: ` before the message, e.g. the index of a batch's item. Returns err->code. */
int cairn_error_prefix(struct cairn_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The stable word ("invalid_key") and HTTP status of a code; "internal" and 500 for an unknown one.
 */
const char *cairn_code_word(int code);
int cairn_code_http_status(int code);

/* The code for an errno of a file operation: ENOSPC/EDQUOT -> CAIRN_ENOSPACE, ENOMEM ->
 * CAIRN_ENOMEM, everything else -> CAIRN_EIO. */
int cairn_code_from_errno(int err_number);

#endif
