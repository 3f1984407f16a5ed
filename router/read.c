/* Keyed reads, ordered scans and counts over all shards. */
#include <stdlib.h>

#include "router/internal.h"

/* A record with a route of its own may stand on any shard that holds such records. */
static int find_routed(struct cairn_router *router, const struct cairn_schema *schema,
                       struct cairn_str key, struct cairn_contract *contract, uint32_t *shard,
                       struct cairn_row_pin *pin, struct cairn_error *err)
{
    uint32_t home = *shard;
    for (uint32_t i = 0; i < router->shards_count; i++) {
        struct cairn_collection_counts counts;
        if (i == home)
            continue;
        cairn_shard_counts(router->shards[i], schema->id, &counts);
        if (counts.routed == 0)
            continue;
        cairn_row_pin_release(pin);
        router_touch(router, contract, i);
        int code = cairn_shard_get(router->shards[i], schema->id, key, pin, err);
        if (code != 0)
            return code;
        if (pin->found) {
            *shard = i;
            return 0;
        }
    }
    return 0;
}

int router_find(struct cairn_router *router, const struct cairn_schema *schema,
                struct cairn_str key, struct cairn_contract *contract, uint32_t *shard,
                struct cairn_row_pin *pin, struct cairn_error *err)
{
    uint64_t token;
    *shard = router_place(router, schema, key, &token);
    router_touch(router, contract, *shard);
    int code = cairn_shard_get(router->shards[*shard], schema->id, key, pin, err);
    if (code != 0 || pin->found)
        return code;
    return find_routed(router, schema, key, contract, shard, pin, err);
}

int cairn_router_get(struct cairn_router *router, const struct cairn_schema *schema,
                     const struct cairn_str *keys, uint32_t count, cairn_row_visitor visit,
                     void *context, struct cairn_contract *contract, struct cairn_error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        struct cairn_row_pin pin = {0};
        struct cairn_row_ref row = {.collection = schema->id, .key = keys[i]};
        int code = router_find(router, schema, keys[i], contract, &row.shard, &pin, err);
        if (code != 0)
            return code;
        row.found = pin.found;
        row.view = pin.view;
        visit(context, i, &row);
        cairn_row_pin_release(&pin);
    }
    return 0;
}

int cairn_router_row_vector(struct cairn_router *router, const struct cairn_row_ref *row,
                            struct cairn_str vector, float *out, uint32_t dim,
                            struct cairn_error *err)
{
    return cairn_shard_get_vector(router->shards[row->shard], row->collection, row->key, vector,
                                  out, dim, err);
}

/* The next row of one shard's scan. */
struct scan_head {
    struct cairn_row_scan *scan;
    struct cairn_row_ref row;
    bool ended;
};

static int head_next(struct scan_head *head, struct cairn_error *err)
{
    int code = cairn_row_scan_next(head->scan, &head->row.key, &head->row.view, err);
    if (code == CAIRN_EEND)
        head->ended = true;
    return code == CAIRN_EEND ? 0 : code;
}

/* The head with the smallest key; NULL when all have ended. */
static struct scan_head *smallest(struct scan_head *heads, uint32_t count)
{
    struct scan_head *best = NULL;
    for (uint32_t i = 0; i < count; i++)
        if (!heads[i].ended && (best == NULL || cairn_str_cmp(heads[i].row.key, best->row.key) < 0))
            best = &heads[i];
    return best;
}

static int open_heads(struct cairn_router *router, const struct cairn_schema *schema,
                      struct cairn_str after_key, struct scan_head *heads,
                      struct cairn_contract *contract, struct cairn_error *err)
{
    for (uint32_t i = 0; i < router->shards_count; i++) {
        heads[i].row = (struct cairn_row_ref){.found = true, .shard = i, .collection = schema->id};
        router_touch(router, contract, i);
        int code =
            cairn_shard_scan_open(router->shards[i], schema->id, after_key, &heads[i].scan, err);
        if (code == 0)
            code = head_next(&heads[i], err);
        if (code != 0)
            return code;
    }
    return 0;
}

static void close_heads(struct scan_head *heads, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        cairn_row_scan_close(&heads[i].scan);
    free(heads);
}

int cairn_router_scroll(struct cairn_router *router, const struct cairn_schema *schema,
                        const struct cairn_filter *filter, struct cairn_str after_key,
                        uint32_t limit, cairn_row_visitor visit, void *context, bool *more,
                        struct cairn_contract *contract, struct cairn_error *err)
{
    uint32_t visited = 0;
    *more = false;
    struct scan_head *heads = cairn_calloc(router->shards_count, sizeof *heads);
    int64_t now_us = router->io->now_us(router->io->context);
    int code = open_heads(router, schema, after_key, heads, contract, err);
    struct scan_head *head;
    while (code == 0 && (head = smallest(heads, router->shards_count)) != NULL) {
        if (filter == NULL || cairn_filter_match(filter, &head->row.view, now_us)) {
            if (visited == limit) {
                *more = true;
                break;
            }
            visit(context, visited++, &head->row);
        }
        code = head_next(head, err);
    }
    close_heads(heads, router->shards_count);
    return code;
}

static int count_shard(struct cairn_router *router, uint32_t shard,
                       const struct cairn_schema *schema, const struct cairn_filter *filter,
                       uint64_t *count, struct cairn_error *err)
{
    struct cairn_row_scan *scan = NULL;
    int64_t now_us = router->io->now_us(router->io->context);
    int code =
        cairn_shard_scan_open(router->shards[shard], schema->id, (struct cairn_str){0}, &scan, err);
    while (code == 0) {
        struct cairn_str key;
        struct cairn_row_view row;
        code = cairn_row_scan_next(scan, &key, &row, err);
        if (code == 0 && cairn_filter_match(filter, &row, now_us))
            ++*count;
    }
    cairn_row_scan_close(&scan);
    return code == CAIRN_EEND ? 0 : code;
}

int cairn_router_count(struct cairn_router *router, const struct cairn_schema *schema,
                       const struct cairn_filter *filter, uint64_t *out,
                       struct cairn_contract *contract, struct cairn_error *err)
{
    *out = 0;
    for (uint32_t i = 0; i < router->shards_count; i++)
        router_touch(router, contract, i);
    if (filter == NULL) {
        struct cairn_collection_counts counts;
        cairn_router_collection_counts(router, schema, &counts);
        *out = counts.entities;
        return 0;
    }
    for (uint32_t i = 0; i < router->shards_count; i++) {
        int code = count_shard(router, i, schema, filter, out, err);
        if (code != 0)
            return code;
    }
    return 0;
}
