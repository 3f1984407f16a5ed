/* API keys. The file has one key a line, `role key` or `role:collection,collection key`, with the
 * roles read, write and admin; blank lines and lines starting with # are skipped.
 *
 * Immutable after load; any number of threads. */
#ifndef CAIRN_API_AUTH_H
#define CAIRN_API_AUTH_H

#include "api/exchange.h"

#define CAIRN_API_KEY_BYTES_MAX 128u
#define CAIRN_API_KEYS_MAX      1024u

struct cairn_auth;

/* CAIRN_EPARAM naming file and line. */
int cairn_auth_load(const char *path, struct cairn_auth **out, struct cairn_error *err);
void cairn_auth_free(struct cairn_auth **auth);

/* Whether `key` may do what needs `role` on `collection` (len 0: the request names none in its
 * path, which a key limited to collections may not do). CAIRN_EUNAUTHORIZED, CAIRN_EFORBIDDEN.
 * Takes the same time for every wrong key. */
int cairn_auth_check(const struct cairn_auth *auth, struct cairn_str key, enum cairn_role role,
                     struct cairn_str collection, struct cairn_error *err);

#endif
