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
struct cairn_api_key;

/* CAIRN_EPARAM naming file and line. */
int cairn_auth_load(const char *path, struct cairn_auth **out, struct cairn_error *err);
void cairn_auth_free(struct cairn_auth **auth);

/* The entry of `key` when it has `role`, valid as long as `auth`; *out is NULL where anybody may
 * call (CAIRN_ROLE_NONE). CAIRN_EUNAUTHORIZED, CAIRN_EFORBIDDEN. Takes the same time for every
 * wrong key. */
int cairn_auth_find(const struct cairn_auth *auth, struct cairn_str key, enum cairn_role role,
                    const struct cairn_api_key **out, struct cairn_error *err);

/* Whether the key may touch the collection (len 0: the request is about all of them, which a key
 * limited to some may not make). A NULL key may touch any. CAIRN_EFORBIDDEN. */
int cairn_auth_check_collection(const struct cairn_api_key *key, struct cairn_str collection,
                                struct cairn_error *err);

#endif
