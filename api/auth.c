#include "api/auth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define KEY_WORDS       (CAIRN_API_KEY_BYTES_MAX / 8)
#define LINE_BYTES_MAX  (64u << 10)
#define COLLECTIONS_MAX 256u

struct cairn_api_key {
    uint64_t
        words[KEY_WORDS]; /* zero-padded: a key has no NUL, so the padding tells lengths apart */
    enum cairn_role role;
    struct cairn_str *collections;
    unsigned collections_count; /* 0: all */
};

struct cairn_auth {
    struct cairn_api_key *keys;
    unsigned count;
};

static void pad_key(struct cairn_str key, uint64_t *words)
{
    memset(words, 0, CAIRN_API_KEY_BYTES_MAX);
    memcpy(words, key.ptr, key.len);
}

static bool is_key_text(struct cairn_str key)
{
    if (key.len == 0 || key.len > CAIRN_API_KEY_BYTES_MAX)
        return false;
    for (uint32_t i = 0; i < key.len; i++)
        if (key.ptr[i] <= ' ' || key.ptr[i] > '~')
            return false;
    return true;
}

static enum cairn_role parse_role(struct cairn_str text)
{
    if (cairn_str_eq(text, CAIRN_STR_LITERAL("read")))
        return CAIRN_ROLE_READ;
    if (cairn_str_eq(text, CAIRN_STR_LITERAL("write")))
        return CAIRN_ROLE_WRITE;
    if (cairn_str_eq(text, CAIRN_STR_LITERAL("admin")))
        return CAIRN_ROLE_ADMIN;
    return CAIRN_ROLE_NONE;
}

/* Cut `text` at the first `stop`; false when it has none (then `rest` is empty). */
static bool cut(struct cairn_str text, char stop, struct cairn_str *head, struct cairn_str *rest)
{
    const char *at = text.len ? memchr(text.ptr, stop, text.len) : NULL;
    uint32_t len = at ? (uint32_t)(at - text.ptr) : text.len;
    *head = (struct cairn_str){text.ptr, len};
    *rest =
        at ? (struct cairn_str){at + 1, text.len - len - 1} : (struct cairn_str){text.ptr + len, 0};
    return at != NULL;
}

/* "a,b" into the key's list; NULL or what is wrong. */
static const char *parse_collections(struct cairn_str list, struct cairn_api_key *key)
{
    struct cairn_str name;
    bool more = true;
    while (more) {
        more = cut(list, ',', &name, &list);
        if (name.len == 0 || name.len > CAIRN_NAME_BYTES_MAX)
            return "a collection's name is empty or too long";
        if (key->collections_count == COLLECTIONS_MAX)
            return "too many collections";
        key->collections = cairn_realloc(key->collections,
                                         (key->collections_count + 1) * sizeof(*key->collections));
        key->collections[key->collections_count++] =
            (struct cairn_str){cairn_strdup(name), name.len};
    }
    return NULL;
}

/* One line of the file into a key; NULL or what is wrong. */
static const char *parse_line(struct cairn_str line, struct cairn_api_key *key)
{
    struct cairn_str who, secret, role, collections;
    if (!cut(line, ' ', &who, &secret))
        return "expected `role key` or `role:collection,collection key`";
    while (secret.len > 0 && secret.ptr[0] == ' ')
        secret = (struct cairn_str){secret.ptr + 1, secret.len - 1};
    while (secret.len > 0 && secret.ptr[secret.len - 1] == ' ')
        secret.len--;
    bool limited = cut(who, ':', &role, &collections);
    key->role = parse_role(role);
    if (key->role == CAIRN_ROLE_NONE)
        return "the role is none of read, write, admin";
    if (!is_key_text(secret))
        return "the key must be 1 to 128 visible ASCII characters";
    pad_key(secret, key->words);
    return limited ? parse_collections(collections, key) : NULL;
}

static struct cairn_str trim_line(char *text, ssize_t len)
{
    while (len > 0 && strchr(" \t\r\n", text[len - 1]))
        len--;
    while (len > 0 && (*text == ' ' || *text == '\t'))
        text++, len--;
    for (ssize_t i = 0; i < len; i++)
        if (text[i] == '\t')
            text[i] = ' ';
    return (struct cairn_str){text, (uint32_t)len};
}

static const char *add_line(struct cairn_auth *auth, struct cairn_str line)
{
    if (line.len == 0 || line.ptr[0] == '#')
        return NULL;
    if (line.len > LINE_BYTES_MAX)
        return "the line is too long";
    if (auth->count == CAIRN_API_KEYS_MAX)
        return "too many keys";
    struct cairn_api_key *key = &auth->keys[auth->count++];
    return parse_line(line, key);
}

int cairn_auth_load(const char *path, struct cairn_auth **out, struct cairn_error *err)
{
    *out = NULL;
    FILE *file = fopen(path, "re");
    if (!file)
        return cairn_fail(err, CAIRN_EPARAM, "api keys: cannot read %s: %m", path);
    struct cairn_auth *auth = cairn_calloc(1, sizeof(*auth));
    auth->keys = cairn_calloc(CAIRN_API_KEYS_MAX, sizeof(*auth->keys));
    char *text = NULL;
    size_t capacity = 0;
    const char *wrong = NULL;
    unsigned number = 0;
    ssize_t len;
    while (!wrong && (len = getline(&text, &capacity, file)) >= 0) {
        number++;
        wrong = add_line(auth, trim_line(text, len));
    }
    if (!wrong && ferror(file))
        wrong = "read error";
    free(text);
    fclose(file);
    if (wrong)
        cairn_fail(err, CAIRN_EPARAM, "api keys: %s:%u: %s", path, number, wrong);
    else if (auth->count == 0)
        cairn_fail(err, CAIRN_EPARAM, "api keys: %s has no key", path);
    if (wrong || auth->count == 0) {
        cairn_auth_free(&auth);
        return CAIRN_EPARAM;
    }
    *out = auth;
    return 0;
}

void cairn_auth_free(struct cairn_auth **auth)
{
    if (!*auth)
        return;
    for (unsigned i = 0; i < (*auth)->count; i++) {
        struct cairn_api_key *key = &(*auth)->keys[i];
        for (unsigned j = 0; j < key->collections_count; j++)
            free((char *)key->collections[j].ptr);
        free(key->collections);
        explicit_bzero(key->words, sizeof(key->words));
    }
    free((*auth)->keys);
    free(*auth);
    *auth = NULL;
}

/* All keys are compared whole, so that the time says nothing about how much of one was right. */
static const struct cairn_api_key *find_key(const struct cairn_auth *auth, struct cairn_str key)
{
    uint64_t words[KEY_WORDS];
    if (!is_key_text(key))
        return NULL;
    pad_key(key, words);
    const struct cairn_api_key *found = NULL;
    for (unsigned i = 0; i < auth->count; i++) {
        volatile uint64_t difference = 0;
        for (unsigned j = 0; j < KEY_WORDS; j++)
            difference |= words[j] ^ auth->keys[i].words[j];
        found = difference == 0 ? &auth->keys[i] : found;
    }
    return found;
}

int cairn_auth_find(const struct cairn_auth *auth, struct cairn_str key, enum cairn_role role,
                    const struct cairn_api_key **out, struct cairn_error *err)
{
    static const char *const names[] = {"none", "read", "write", "admin"};
    *out = NULL;
    if (role == CAIRN_ROLE_NONE)
        return 0;
    if (key.len == 0)
        return cairn_fail(err, CAIRN_EUNAUTHORIZED,
                          "send a key as `Authorization: Bearer KEY` or `api-key: KEY`");
    const struct cairn_api_key *found = find_key(auth, key);
    if (!found)
        return cairn_fail(err, CAIRN_EUNAUTHORIZED, "the key is not known");
    if (found->role < role)
        return cairn_fail(err, CAIRN_EFORBIDDEN, "this needs the role %s; the key has %s",
                          names[role], names[found->role]);
    *out = found;
    return 0;
}

int cairn_auth_check_collection(const struct cairn_api_key *key, struct cairn_str collection,
                                struct cairn_error *err)
{
    if (!key || key->collections_count == 0)
        return 0;
    for (unsigned i = 0; i < key->collections_count; i++)
        if (cairn_str_eq(key->collections[i], collection))
            return 0;
    return cairn_fail(err, CAIRN_EFORBIDDEN, "the key is limited to other collections");
}
