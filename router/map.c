/* The shard map: which shards there are, their weights, the number of virtual nodes, the epoch.
 * A small JSON file in the data directory, replaced atomically. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/diag.h"
#include "base/json.h"
#include "router/internal.h"

#define MAP_FILE       "map.json"
#define MAP_BYTES_MAX  (256u << 10)
#define SHARDS_DEFAULT 2u

static int map_write(struct cairn_router *router, struct cairn_error *err)
{
    struct cairn_buf text = {0};
    struct cairn_json_writer writer;
    cairn_json_writer_init(&writer, &text);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "epoch");
    cairn_json_write_u64(&writer, router->epoch);
    cairn_json_key(&writer, "vnodes");
    cairn_json_write_u64(&writer, router->vnodes);
    cairn_json_key(&writer, "shards");
    cairn_json_begin_array(&writer);
    for (uint32_t i = 0; i < router->shards_count; i++) {
        cairn_json_begin_object(&writer);
        cairn_json_key(&writer, "id");
        cairn_json_write_u64(&writer, i);
        cairn_json_key(&writer, "weight");
        cairn_json_write_f64(&writer, router->weights[i]);
        cairn_json_end_object(&writer);
    }
    cairn_json_end_array(&writer);
    cairn_json_end_object(&writer);
    int result = cairn_io_replace_file(router->io, router->dir, MAP_FILE, text.data, text.len);
    cairn_buf_release(&text);
    if (result != 0)
        return cairn_fail(err, cairn_code_from_errno(-result), "cannot write %s/%s", router->dir,
                          MAP_FILE);
    return 0;
}

static bool parse_shards(struct cairn_router *router, struct cairn_json shards)
{
    struct cairn_json_iter iter;
    struct cairn_json shard, member;
    size_t count;
    if (!cairn_json_array(shards, &iter, &count) || count == 0 || count > CAIRN_SHARDS_MAX)
        return false;
    for (uint32_t i = 0; cairn_json_element(&iter, &shard); i++) {
        int64_t id;
        if (!cairn_json_get(shard, "id", &member) || !cairn_json_i64(member, &id) || id != i)
            return false;
        if (!cairn_json_get(shard, "weight", &member) ||
            !cairn_json_f64(member, &router->weights[i]))
            return false;
    }
    router->shards_count = (uint32_t)count;
    return true;
}

static bool parse_map(struct cairn_router *router, struct cairn_json root)
{
    struct cairn_json member;
    int64_t epoch, vnodes;
    if (!cairn_json_get(root, "epoch", &member) || !cairn_json_i64(member, &epoch) || epoch < 1)
        return false;
    if (!cairn_json_get(root, "vnodes", &member) || !cairn_json_i64(member, &vnodes) ||
        vnodes < 1 || vnodes > 65536)
        return false;
    router->epoch = (uint64_t)epoch;
    router->vnodes = (uint32_t)vnodes;
    return cairn_json_get(root, "shards", &member) && parse_shards(router, member);
}

static int map_read(struct cairn_router *router, int fd, const char *path, struct cairn_error *err)
{
    uint64_t size = 0;
    char *text = NULL;
    int code = 0;
    if (router->io->size(router->io->context, fd, &size) != 0 || size > MAP_BYTES_MAX)
        return cairn_fail(err, CAIRN_ECORRUPT, "%s has an unreadable size", path);
    text = cairn_malloc(size + 1);
    if (cairn_io_read_full(router->io, fd, text, size, 0) != 0)
        code = cairn_fail(err, CAIRN_EIO, "cannot read %s", path);
    struct cairn_json_parser *parser = cairn_json_parser_new();
    struct cairn_json root;
    if (code == 0 &&
        (cairn_json_parse(parser, (struct cairn_str){text, (uint32_t)size}, &root, NULL) != 0 ||
         !parse_map(router, root)))
        code = cairn_fail(err, CAIRN_ECORRUPT, "%s is no shard map", path);
    cairn_json_parser_free(&parser);
    free(text);
    return code;
}

int router_map_open(struct cairn_router *router, uint32_t shards_asked, struct cairn_error *err)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/" MAP_FILE, router->dir);
    int fd = router->io->open(router->io->context, path, CAIRN_OPEN_READ);
    if (fd >= 0) {
        int code = map_read(router, fd, path, err);
        router->io->close(router->io->context, fd);
        if (code == 0 && shards_asked != 0 && shards_asked != router->shards_count)
            return cairn_fail(err, CAIRN_EPARAM,
                              "--shards %u: %s has %u shards; leave the flag out", shards_asked,
                              router->dir, router->shards_count);
        return code;
    }
    if (fd != -ENOENT)
        return cairn_fail(err, CAIRN_EIO, "cannot open %s", path);
    router->epoch = 1;
    router->vnodes = CAIRN_VNODES_DEFAULT;
    router->shards_count = shards_asked != 0 ? shards_asked : SHARDS_DEFAULT;
    if (router->shards_count > CAIRN_SHARDS_MAX)
        return cairn_fail(err, CAIRN_EPARAM, "--shards %u is over the limit of %u", shards_asked,
                          CAIRN_SHARDS_MAX);
    for (uint32_t i = 0; i < router->shards_count; i++)
        router->weights[i] = 1.0;
    return map_write(router, err);
}
