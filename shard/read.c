/* Reads, each under one map.
 *
 * A keyed read looks at the map before and after it looks at the row: owned both times, the row was
 * the shard's to show (rows that leave are dropped seconds after the map, and those that arrive
 * were complete before it). A part of a scattered read must begin and end its look at the views
 * under the epoch that it names; what it has then is a snapshot, or hits that stand for one.
 *
 * While the views may hold rows of other shards (`mixed`), each row's token is checked too. */
#include "shard/internal.h"

#include <stdlib.h>

#include "base/hash.h"

static int refuse(struct cairn_shard *shard, const struct cairn_shard_read *read, uint64_t epoch,
                  struct cairn_error *err)
{
    if (read->same_epoch)
        return cairn_fail(err, CAIRN_ENOTOWNER, "shard s%u is at epoch %llu, not at %llu",
                          shard->id, (unsigned long long)epoch, (unsigned long long)read->epoch);
    return cairn_fail(err, CAIRN_ENOTOWNER, "shard s%u does not own the key's token at epoch %llu",
                      shard->id, (unsigned long long)epoch);
}

/* Whether the read may look at the shard now; the token counts only without same_epoch. */
static bool may_read(struct cairn_shard *shard, const struct cairn_shard_read *read, uint64_t token)
{
    if (read->same_epoch)
        return cairn_shard_epoch(shard) == read->epoch && read->epoch != 0;
    return shard_owns(shard, token);
}

int cairn_shard_get(struct cairn_shard *shard, const struct cairn_shard_read *read,
                    struct cairn_str key, struct cairn_row_pin *out, struct cairn_error *err)
{
    uint64_t token = cairn_token(read->schema->name, key);
    uint64_t epoch = cairn_shard_epoch(shard);
    bool mixed = atomic_load(&shard->ownership.mixed);
    shard_hot_read(shard, token, read->schema->id, key);
    if (!may_read(shard, read, token))
        return refuse(shard, read, epoch, err);
    int code = cairn_rowstore_get(shard->rows, read->schema->id, key, out, err);
    if (code != 0)
        return code;
    if (out->found && (mixed || atomic_load(&shard->ownership.mixed)) &&
        !shard_owns(shard, shard_row_token(read->schema, key, &out->view)))
        cairn_row_pin_release(out);
    /* Last, so that a row is not left out by a newer map than the one that is answered for. */
    if (cairn_shard_epoch(shard) != epoch && !may_read(shard, read, token)) {
        cairn_row_pin_release(out);
        return refuse(shard, read, cairn_shard_epoch(shard), err);
    }
    return 0;
}

int cairn_shard_get_vector(struct cairn_shard *shard, uint32_t collection, struct cairn_str key,
                           struct cairn_str vector, float *out, uint32_t dim,
                           struct cairn_error *err)
{
    return cairn_rowstore_get_vector(shard->rows, collection, key, vector, out, dim, err);
}

struct cairn_shard_scan {
    struct cairn_shard *shard;
    struct cairn_row_scan *rows;
    const struct cairn_schema *schema; /* a reference */
    const struct cairn_map *map;       /* a reference; NULL: every row is the shard's */
    const struct cairn_filter *filter;
    int64_t now_us;
};

static int scan_open(struct cairn_shard *shard, const struct cairn_shard_read *read,
                     const struct cairn_filter *filter, struct cairn_str after_key,
                     struct cairn_shard_scan *scan, struct cairn_error *err)
{
    *scan = (struct cairn_shard_scan){.shard = shard,
                                      .schema = cairn_schema_ref(read->schema),
                                      .filter = filter,
                                      .now_us = shard->io->now_us(shard->io->context)};
    if (!may_read(shard, read, 0))
        return refuse(shard, read, cairn_shard_epoch(shard), err);
    /* Looked at on both sides of the snapshot: rows that are not the shard's come after it is set
     * and go before it is cleared. */
    bool mixed = atomic_load(&shard->ownership.mixed);
    int code = cairn_row_scan_open(shard->rows, read->schema->id, after_key, &scan->rows, err);
    if (mixed || atomic_load(&shard->ownership.mixed))
        scan->map = cairn_shard_map(shard);
    if (code == 0 && !may_read(shard, read, 0))
        code = refuse(shard, read, cairn_shard_epoch(shard), err);
    return code;
}

static void scan_close(struct cairn_shard_scan *scan)
{
    if (scan->rows != NULL)
        cairn_row_scan_close(&scan->rows);
    cairn_schema_unref(scan->schema);
    cairn_map_unref(scan->map);
}

int cairn_shard_scan_open(struct cairn_shard *shard, const struct cairn_shard_read *read,
                          const struct cairn_filter *filter, struct cairn_str after_key,
                          struct cairn_shard_scan **out, struct cairn_error *err)
{
    *out = cairn_malloc(sizeof **out);
    int code = scan_open(shard, read, filter, after_key, *out, err);
    if (code != 0)
        cairn_shard_scan_close(out);
    return code;
}

int cairn_shard_scan_next(struct cairn_shard_scan *scan, struct cairn_str *key,
                          struct cairn_row_view *view, struct cairn_error *err)
{
    for (;;) {
        int code = cairn_row_scan_next(scan->rows, key, view, err);
        if (code != 0)
            return code;
        if (scan->filter != NULL && !cairn_filter_match(scan->filter, view, scan->now_us))
            continue;
        if (scan->map == NULL ||
            cairn_map_owner(scan->map, shard_row_token(scan->schema, *key, view)) ==
                scan->shard->id)
            return 0;
    }
}

void cairn_shard_scan_close(struct cairn_shard_scan **scan)
{
    if (*scan == NULL)
        return;
    scan_close(*scan);
    free(*scan);
    *scan = NULL;
}

int cairn_shard_count(struct cairn_shard *shard, const struct cairn_shard_read *read,
                      const struct cairn_filter *filter, uint64_t *out, struct cairn_error *err)
{
    *out = 0;
    if (!may_read(shard, read, 0))
        return refuse(shard, read, cairn_shard_epoch(shard), err);
    if (filter == NULL && !atomic_load(&shard->ownership.mixed)) {
        struct cairn_collection_counts counts;
        cairn_rowstore_counts(shard->rows, read->schema->id, &counts);
        *out = counts.entities;
        if (!atomic_load(&shard->ownership.mixed))
            return may_read(shard, read, 0) ? 0
                                            : refuse(shard, read, cairn_shard_epoch(shard), err);
        *out = 0;
    }
    struct cairn_shard_scan scan;
    struct cairn_str key;
    struct cairn_row_view view;
    int code = scan_open(shard, read, filter, (struct cairn_str){0}, &scan, err);
    while (code == 0) {
        code = cairn_shard_scan_next(&scan, &key, &view, err);
        *out += code == 0;
    }
    scan_close(&scan);
    return code == CAIRN_EEND ? 0 : code;
}

/* Among the rows that the filter matches and the shard owns: one pass over the collection's rows.
 */
static int search_filtered(struct cairn_shard *shard, const struct cairn_shard_read *read,
                           const struct shard_vector *field,
                           const struct cairn_index_search *search,
                           const struct cairn_filter *filter, struct cairn_arena *arena,
                           struct cairn_index_hit *hits, uint32_t *hits_count,
                           struct cairn_error *err)
{
    struct cairn_index_search asked = *search;
    struct cairn_index_filter *keys = cairn_index_filter_new(field->index);
    struct cairn_shard_scan scan;
    struct cairn_str key;
    struct cairn_row_view view;
    int code = scan_open(shard, read, filter, (struct cairn_str){0}, &scan, err);
    while (code == 0) {
        code = cairn_shard_scan_next(&scan, &key, &view, err);
        if (code == 0)
            cairn_index_filter_add(keys, key);
    }
    scan_close(&scan);
    asked.filter = keys;
    if (code == CAIRN_EEND)
        code = cairn_index_search(field->index, &asked, arena, hits, hits_count, err);
    cairn_index_filter_free(&keys);
    return code;
}

/* Whether the shard owns the entity of a hit. One whose row is gone meanwhile is kept: the caller
 * finds that out. */
static bool owns_hit(struct cairn_shard *shard, const struct cairn_shard_read *read,
                     const struct cairn_map *map, bool routed, struct cairn_str key)
{
    uint64_t token = cairn_token(read->schema->name, key);
    struct cairn_row_pin pin = {0};
    if (routed && cairn_rowstore_get(shard->rows, read->schema->id, key, &pin, NULL) == 0 &&
        pin.found)
        token = shard_row_token(read->schema, key, &pin.view);
    cairn_row_pin_release(&pin);
    return cairn_map_owner(map, token) == shard->id;
}

/* Without a filter, while the index also has vectors of other shards: ask for more than k and leave
 * those out; where that is not enough, filter. */
static int search_mixed(struct cairn_shard *shard, const struct cairn_shard_read *read,
                        const struct shard_vector *field, const struct cairn_index_search *search,
                        struct cairn_arena *arena, struct cairn_index_hit *hits,
                        uint32_t *hits_count, struct cairn_error *err)
{
    struct cairn_collection_counts counts;
    cairn_rowstore_counts(shard->rows, read->schema->id, &counts);
    const struct cairn_map *map = cairn_shard_map(shard);
    struct cairn_index_search wider = *search;
    wider.k = search->k * 2 + 32 < CAIRN_K_MAX ? search->k * 2 + 32 : CAIRN_K_MAX;
    struct cairn_index_hit *found = cairn_malloc(wider.k * sizeof *found);
    uint32_t found_count = 0, kept = 0;
    int code = cairn_index_search(field->index, &wider, arena, found, &found_count, err);
    for (uint32_t i = 0; code == 0 && i < found_count && kept < search->k; i++)
        if (map != NULL && owns_hit(shard, read, map, counts.routed > 0, found[i].key))
            hits[kept++] = found[i];
    free(found);
    cairn_map_unref(map);
    *hits_count = kept;
    if (code != 0 || kept == search->k || found_count < wider.k)
        return code;
    return search_filtered(shard, read, field, search, NULL, arena, hits, hits_count, err);
}

int cairn_shard_search(struct cairn_shard *shard, const struct cairn_shard_read *read,
                       struct cairn_str vector, const struct cairn_index_search *search,
                       const struct cairn_filter *filter, struct cairn_arena *arena,
                       struct cairn_index_hit *hits, uint32_t *hits_count, struct cairn_error *err)
{
    *hits_count = 0;
    if (!may_read(shard, read, 0))
        return refuse(shard, read, cairn_shard_epoch(shard), err);
    struct shard_vector *field = shard_vector_find(shard, read->schema->id, vector);
    if (field == NULL)
        return cairn_fail(err, CAIRN_ENOVECTOR, "the collection has no vector named %.*s",
                          CAIRN_STR_ARG(vector));
    bool mixed = atomic_load(&shard->ownership.mixed);
    int code = 0;
    if (filter != NULL)
        code = search_filtered(shard, read, field, search, filter, arena, hits, hits_count, err);
    else if (!mixed)
        code = cairn_index_search(field->index, search, arena, hits, hits_count, err);
    /* An import may have begun meanwhile, under the same map. */
    mixed = mixed || atomic_load(&shard->ownership.mixed);
    if (filter == NULL && mixed && code == 0)
        code = search_mixed(shard, read, field, search, arena, hits, hits_count, err);
    shard_vector_release(field);
    if (code == 0 && !may_read(shard, read, 0)) {
        *hits_count = 0;
        return refuse(shard, read, cairn_shard_epoch(shard), err);
    }
    return code;
}
