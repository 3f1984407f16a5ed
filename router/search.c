/* Nearest neighbours over all shards: ask each for its k best, merge exactly.
 *
 * The k best of the whole are among the k best of each shard, and every shard orders by (score,
 * key), so a merge by the same order gives the exact answer of one index whatever the number of
 * shards. */
#include <stdlib.h>

#include "router/internal.h"

/* One query, resolved. */
struct query {
    const struct cairn_search_request *request;
    const struct cairn_vector_def *field;
    const float *vector;
    struct cairn_str exclude; /* the key of a `key` query; len 0: none */
    uint32_t k;               /* to ask of the shards */
};

static int resolve_field(const struct cairn_schema *schema,
                         const struct cairn_search_request *request, struct query *query,
                         struct cairn_error *err)
{
    if (schema->vectors_count == 0)
        return cairn_fail(err, CAIRN_ENOVECTOR, "collection %.*s has no vectors",
                          CAIRN_STR_ARG(schema->name));
    struct cairn_str name = request->using;
    if (name.len == 0 && schema->vectors_count == 1)
        name = schema->vectors[0].name;
    else if (name.len == 0)
        name = CAIRN_STR_LITERAL("default");
    query->field = cairn_schema_vector(schema, name);
    if (query->field == NULL)
        return cairn_fail(err, CAIRN_ENOVECTOR, "using: collection %.*s has no vector named %.*s",
                          CAIRN_STR_ARG(schema->name), CAIRN_STR_ARG(name));
    if (request->k == 0 || request->k > CAIRN_K_MAX)
        return cairn_fail(err, CAIRN_EPARAM, "k: %u is not in 1..%u", request->k, CAIRN_K_MAX);
    query->k = request->k;
    return 0;
}

static int vector_of_key(struct cairn_router *router, const struct cairn_schema *schema,
                         struct query *query, struct cairn_arena *arena,
                         struct cairn_contract *contract, struct cairn_error *err)
{
    struct cairn_row_pin pin = {0};
    uint32_t shard;
    struct cairn_str key = query->request->key;
    int code = router_find(router, schema, key, contract, &shard, &pin, err);
    bool found = pin.found;
    cairn_row_pin_release(&pin);
    if (code != 0)
        return code;
    if (!found)
        return cairn_fail(err, CAIRN_ENOENTITY, "key: there is no entity %.*s", CAIRN_STR_ARG(key));
    float *vector = cairn_arena_alloc(arena, query->field->dim * sizeof *vector);
    code = cairn_shard_get_vector(router->shards[shard], schema->id, key, query->field->name,
                                  vector, query->field->dim, err);
    if (code == CAIRN_ENOVECTOR)
        return cairn_fail(err, code, "key: entity %.*s has no vector %.*s", CAIRN_STR_ARG(key),
                          CAIRN_STR_ARG(query->field->name));
    query->vector = vector;
    query->exclude = key;
    query->k++;
    return code;
}

static int resolve(struct cairn_router *router, const struct cairn_schema *schema,
                   const struct cairn_search_request *request, struct query *query,
                   struct cairn_arena *arena, struct cairn_contract *contract,
                   struct cairn_error *err)
{
    *query = (struct query){.request = request};
    int code = resolve_field(schema, request, query, err);
    if (code != 0)
        return code;
    if (request->vector == NULL)
        return vector_of_key(router, schema, query, arena, contract, err);
    if (request->dim != query->field->dim)
        return cairn_fail(err, CAIRN_EDIMENSION,
                          "vector: has %u components, but %.*s has dimension %u", request->dim,
                          CAIRN_STR_ARG(query->field->name), query->field->dim);
    query->vector = request->vector;
    return 0;
}

static bool is_better(enum cairn_metric metric, const struct cairn_hit *a,
                      const struct cairn_hit *b)
{
    if (a->score != b->score)
        return metric == CAIRN_METRIC_L2 ? a->score < b->score : a->score > b->score;
    return cairn_str_cmp(a->key, b->key) < 0;
}

/* Merge the shards' sorted lists, dropping the excluded key, up to k. */
static void merge(const struct query *query, struct cairn_hit **lists, uint32_t *counts,
                  uint32_t lists_count, struct cairn_search_result *result)
{
    uint32_t at[CAIRN_SHARDS_MAX] = {0};
    result->count = 0;
    while (result->count < query->request->k) {
        uint32_t best = lists_count;
        for (uint32_t i = 0; i < lists_count; i++)
            if (at[i] < counts[i] &&
                (best == lists_count ||
                 is_better(query->field->metric, &lists[i][at[i]], &lists[best][at[best]])))
                best = i;
        if (best == lists_count)
            return;
        const struct cairn_hit *hit = &lists[best][at[best]++];
        if (query->exclude.len == 0 || !cairn_str_eq(hit->key, query->exclude))
            result->hits[result->count++] = *hit;
    }
}

static int search_shard(struct cairn_router *router, uint32_t shard,
                        const struct cairn_schema *schema, const struct query *query,
                        struct cairn_arena *arena, struct cairn_hit **list, uint32_t *count,
                        struct cairn_error *err)
{
    const struct cairn_search_request *request = query->request;
    struct cairn_index_search search = {.query = query->vector,
                                        .k = query->k,
                                        .ef = request->params.ef,
                                        .nprobe = request->params.nprobe,
                                        .exact = request->params.exact};
    struct cairn_index_hit *found = cairn_malloc(query->k * sizeof *found);
    int code = cairn_shard_search(router->shards[shard], schema->id, query->field->name, &search,
                                  request->filter, arena, found, count, err);
    if (code == 0) {
        *list = cairn_arena_alloc(arena, *count * sizeof **list);
        for (uint32_t i = 0; i < *count; i++)
            (*list)[i] = (struct cairn_hit){.key = found[i].key,
                                            .score = found[i].score,
                                            .shard = shard,
                                            .offset = found[i].offset};
    }
    free(found);
    return code;
}

/* Note how far the shard's index was. Its tail holds whatever the built part does not, so `indexed`
 * is what the shard had applied before the search began. */
static void note_index(struct cairn_router *router, uint32_t shard,
                       const struct cairn_schema *schema, struct cairn_str vector,
                       struct cairn_index_position *position)
{
    struct cairn_index_stats stats;
    if (cairn_shard_index_stats(router->shards[shard], schema->id, vector, &stats) == 0)
        *position = (struct cairn_index_position){
            .indexed = stats.indexed_offset, .generation = stats.generation_offset, .used = true};
}

static int search_one(struct cairn_router *router, const struct cairn_schema *schema,
                      const struct cairn_search_request *request, struct cairn_arena *arena,
                      struct cairn_search_result *result, struct cairn_contract *contract,
                      struct cairn_error *err)
{
    struct query query;
    struct cairn_hit *lists[CAIRN_SHARDS_MAX];
    uint32_t counts[CAIRN_SHARDS_MAX];
    int code = resolve(router, schema, request, &query, arena, contract, err);
    uint32_t total = 0;
    struct cairn_index_position *positions = NULL;
    if (contract->wants_indexes && code == 0) {
        positions = cairn_arena_zalloc(arena, router->shards_count * sizeof *positions);
        contract->indexes = positions;
    }
    for (uint32_t i = 0; code == 0 && i < router->shards_count; i++) {
        router_touch(router, contract, i);
        if (positions != NULL)
            note_index(router, i, schema, query.field->name, &positions[i]);
        code = search_shard(router, i, schema, &query, arena, &lists[i], &counts[i], err);
        if (code == 0)
            total += counts[i];
    }
    if (code != 0)
        return code;
    uint32_t room = total < request->k ? total : request->k;
    result->hits = cairn_arena_alloc(arena, room * sizeof *result->hits);
    merge(&query, lists, counts, router->shards_count, result);
    return 0;
}

int cairn_router_search(struct cairn_router *router, const struct cairn_schema *schema,
                        const struct cairn_search_request *requests, uint32_t count,
                        struct cairn_arena *arena, struct cairn_search_result *results,
                        struct cairn_contract *contract, struct cairn_error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        int code = search_one(router, schema, &requests[i], arena, &results[i], contract, err);
        if (code != 0)
            return count > 1 ? cairn_error_prefix(err, "searches[%u]", i) : code;
    }
    return 0;
}

int cairn_router_hit_rows(struct cairn_router *router, const struct cairn_schema *schema,
                          const struct cairn_search_result *result, cairn_row_visitor visit,
                          void *context, struct cairn_error *err)
{
    for (uint32_t i = 0; i < result->count; i++) {
        const struct cairn_hit *hit = &result->hits[i];
        struct cairn_row_pin pin = {0};
        int code = cairn_shard_get(router->shards[hit->shard], schema->id, hit->key, &pin, err);
        if (code != 0)
            return code;
        struct cairn_row_ref row = {.found = pin.found,
                                    .shard = hit->shard,
                                    .collection = schema->id,
                                    .key = hit->key,
                                    .view = pin.view};
        visit(context, i, &row);
        cairn_row_pin_release(&pin);
    }
    return 0;
}
