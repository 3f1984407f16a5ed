#include "cmd/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_FILE_BYTES_MAX    4096u
#define SHARDS_FILE_BYTES_MAX (CAIRN_SHARDS_MAX * (CAIRN_URL_BYTES_MAX + 16))

static struct cairn_str trim(struct cairn_str text)
{
    while (text.len > 0 && strchr(" \t\r\n", text.ptr[0]) != NULL)
        text = (struct cairn_str){text.ptr + 1, text.len - 1};
    while (text.len > 0 && strchr(" \t\r\n", text.ptr[text.len - 1]) != NULL)
        text.len--;
    return text;
}

/* Cut what comes before `separator` off the front. */
static struct cairn_str cut(struct cairn_str *rest, char separator)
{
    const char *end = memchr(rest->ptr, separator, rest->len);
    uint32_t len = end != NULL ? (uint32_t)(end - rest->ptr) : rest->len;
    struct cairn_str part = {rest->ptr, len};
    uint32_t step = end != NULL ? len + 1 : len;
    *rest = (struct cairn_str){rest->ptr + step, rest->len - step};
    return trim(part);
}

static int read_file(const char *flag, const char *path, size_t bytes_max, struct cairn_buf *out,
                     struct cairn_error *err)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return cairn_fail(err, CAIRN_EIO, "%s: cannot open %s: %s", flag, path, strerror(errno));
    char *room = cairn_buf_reserve(out, bytes_max + 1);
    out->len += fread(room, 1, bytes_max + 1, file);
    bool failed = ferror(file) != 0;
    fclose(file);
    if (failed || out->len > bytes_max)
        return cairn_fail(err, CAIRN_EIO, "%s: %s %s", flag, path,
                          failed ? "cannot be read" : "is too long");
    return 0;
}

/* "s3", "3", or what a StatefulSet calls its pods: "cairn-shard-3". */
static int read_id(const char *text, uint32_t *out, struct cairn_error *err)
{
    struct cairn_str id = cairn_str_from(text);
    const char *dash = strrchr(text, '-');
    if (dash != NULL && dash[1] >= '0' && dash[1] <= '9')
        id = cairn_str_from(dash + 1);
    return cairn_shard_id_parse(id, out, err) == 0 ? 0 : cairn_error_prefix(err, "--id");
}

static int add_seed(struct cairn_node *node, const char *flag, struct cairn_str text,
                    struct cairn_error *err)
{
    struct cairn_str url = text, id;
    if (memchr(text.ptr, '=', text.len) == NULL)
        return cairn_fail(err, CAIRN_EPARAM, "%s: '%.*s' is not of the form ID=URL", flag,
                          CAIRN_STR_ARG(text));
    id = cut(&url, '=');
    url = trim(url);
    struct cairn_map_shard seed = {.weight = 1, .planned_weight = 1};
    if (cairn_shard_id_parse(id, &seed.id, err) != 0)
        return cairn_error_prefix(err, "%s", flag);
    if (url.len == 0 || url.len > CAIRN_URL_BYTES_MAX ||
        (strncmp(url.ptr, "http://", 7) != 0 && strncmp(url.ptr, "https://", 8) != 0))
        return cairn_fail(err, CAIRN_EPARAM, "%s: '%.*s' is not http://HOST:PORT or https://…",
                          flag, CAIRN_STR_ARG(url));
    for (uint32_t i = 0; i < node->seeds_count; i++)
        if (node->seeds[i].id == seed.id)
            return cairn_fail(err, CAIRN_EPARAM, "%s: shard s%u is given twice", flag, seed.id);
    seed.url = cairn_arena_dup(&node->arena, url);
    node->seeds[node->seeds_count++] = seed;
    return 0;
}

static int add_seeds(struct cairn_node *node, const char *flag, struct cairn_str text,
                     char separator, struct cairn_error *err)
{
    int code = 0;
    while (text.len > 0 && code == 0) {
        struct cairn_str one = cut(&text, separator);
        if (one.len > 0 && one.ptr[0] != '#')
            code = add_seed(node, flag, one, err);
    }
    return code;
}

static int read_seeds(const struct cairn_node_flags *flags, struct cairn_node *node,
                      struct cairn_error *err)
{
    struct cairn_buf text = {0};
    int code = 0;
    node->seeds = cairn_arena_alloc(&node->arena, CAIRN_SHARDS_MAX * sizeof *node->seeds);
    for (unsigned i = 0; i < flags->shards.count && code == 0; i++)
        code = add_seeds(node, "--shard", cairn_str_from(flags->shards.at[i]), ',', err);
    if (code == 0 && flags->shards_file != NULL) {
        code = read_file("--shards-file", flags->shards_file, SHARDS_FILE_BYTES_MAX, &text, err);
        if (code == 0)
            code = add_seeds(node, "--shards-file",
                             (struct cairn_str){text.data, (uint32_t)text.len}, '\n', err);
    }
    cairn_buf_release(&text);
    return code;
}

static int read_key(const char *path, struct cairn_node *node, struct cairn_error *err)
{
    struct cairn_buf text = {0};
    int code = read_file("--cluster-key-file", path, KEY_FILE_BYTES_MAX, &text, err);
    struct cairn_str rest = {text.data, (uint32_t)text.len};
    struct cairn_str key = code == 0 ? cut(&rest, '\n') : rest;
    if (code == 0 && key.len == 0)
        code = cairn_fail(err, CAIRN_EPARAM, "--cluster-key-file: the first line of %s is empty",
                          path);
    if (code == 0)
        node->cluster_key = cairn_strdup(key);
    cairn_buf_release(&text);
    return code;
}

int cairn_node_read(const struct cairn_node_flags *flags, struct cairn_node *out,
                    struct cairn_error *err)
{
    *out = (struct cairn_node){.role = CAIRN_NODE_ALL};
    if (strcmp(flags->role, "shard") == 0)
        out->role = CAIRN_NODE_SHARD;
    else if (strcmp(flags->role, "router") == 0)
        out->role = CAIRN_NODE_ROUTER;
    int code = 0;
    if (out->role == CAIRN_NODE_SHARD && flags->id == NULL)
        code = cairn_fail(err, CAIRN_EPARAM, "--id is missing: a shard needs one, for example s0");
    else if (out->role != CAIRN_NODE_SHARD && flags->id != NULL)
        code = cairn_fail(err, CAIRN_EPARAM, "--id goes with --role shard only");
    else if (flags->id != NULL)
        code = read_id(flags->id, &out->id, err);
    if (code == 0)
        code = read_seeds(flags, out, err);
    if (code == 0 && out->role == CAIRN_NODE_ROUTER && out->seeds_count == 0)
        code = cairn_fail(err, CAIRN_EPARAM,
                          "--shard ID=URL is missing: a router needs one shard at least");
    if (code == 0 && flags->cluster_key_file != NULL)
        code = read_key(flags->cluster_key_file, out, err);
    if (code != 0)
        cairn_node_release(out);
    return code;
}

void cairn_node_release(struct cairn_node *node)
{
    free(node->cluster_key);
    cairn_arena_release(&node->arena);
    *node = (struct cairn_node){.role = CAIRN_NODE_ALL};
}
