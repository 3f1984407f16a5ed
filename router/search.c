/* Nearest neighbours over all shards: ask each for its k best, merge exactly.
 *
 * The searches of a batch that use the same vector go to each shard elsewhere in one call, all
 * under one epoch, while the shards here are searched.
 *
 * The k best of the whole are among the k best of each shard, and every shard orders by (score,
 * key), so a merge by the same order gives the exact answer of one index whatever the number of
 * shards. */
#include <stdlib.h>

#include "router/internal.h"

#define GROUP_QUERIES_MAX 64u

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

struct key_vector {
    struct cairn_router *router;
    struct query *query;
    struct cairn_arena *arena;
    bool found;
    int code;
    struct cairn_error *err;
};

static void copy_vector(void *context, uint32_t at, const struct cairn_row_ref *row)
{
    struct key_vector *copy = context;
    const struct cairn_vector_def *field = copy->query->field;
    (void)at;
    copy->found = row->found;
    if (!row->found)
        return;
    float *vector = cairn_arena_alloc(copy->arena, field->dim * sizeof *vector);
    copy->code =
        cairn_router_row_vector(copy->router, row, field->name, vector, field->dim, copy->err);
    copy->query->vector = vector;
}

static int vector_of_key(struct cairn_router *router, const struct cairn_schema *schema,
                         struct query *query, uint64_t deadline_us, struct cairn_arena *arena,
                         struct cairn_contract *contract, struct cairn_error *err)
{
    struct cairn_str key = query->request->key;
    struct key_vector copy = {.router = router, .query = query, .arena = arena, .err = err};
    struct cairn_router_fetch fetch = {.schema = schema,
                                       .keys = &key,
                                       .count = 1,
                                       .vectors = &query->field->name,
                                       .vectors_count = 1,
                                       .arena = arena,
                                       .deadline_us = deadline_us};
    int code = cairn_router_get_wait(router, &fetch, copy_vector, &copy, contract, err);
    if (code != 0)
        return code;
    if (!copy.found)
        return cairn_fail(err, CAIRN_ENOENTITY, "key: there is no entity %.*s", CAIRN_STR_ARG(key));
    if (copy.code == CAIRN_ENOVECTOR)
        return cairn_fail(err, copy.code, "key: entity %.*s has no vector %.*s", CAIRN_STR_ARG(key),
                          CAIRN_STR_ARG(query->field->name));
    query->exclude = key;
    query->k++;
    return copy.code;
}

static int resolve(struct cairn_router *router, const struct cairn_schema *schema,
                   const struct cairn_search_request *request, struct query *query,
                   uint64_t deadline_us, struct cairn_arena *arena, struct cairn_contract *contract,
                   struct cairn_error *err)
{
    *query = (struct query){.request = request};
    int code = resolve_field(schema, request, query, err);
    if (code != 0)
        return code;
    if (request->vector == NULL)
        return vector_of_key(router, schema, query, deadline_us, arena, contract, err);
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

/* One query's lists, one of each part. */
struct lists {
    struct cairn_hit *hits[CAIRN_SHARDS_MAX];
    uint32_t counts[CAIRN_SHARDS_MAX];
};

/* Merge the shards' sorted lists, dropping the excluded key, up to k. */
static void merge(const struct query *query, const struct lists *all, uint32_t lists_count,
                  struct cairn_search_result *result)
{
    struct cairn_hit *const *lists = all->hits;
    const uint32_t *counts = all->counts;
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

/* What a search of several queries by one vector works on. */
struct searching {
    struct cairn_router *router;
    const struct cairn_schema *schema;
    const struct query *queries;
    uint32_t *members; /* places of the queries that go together */
    uint32_t count;
    uint64_t deadline_us;
    struct cairn_arena *arena;
    struct cairn_contract *contract;
    struct router_scatter scatter;
    struct lists *lists; /* of each of them */
};

bool cairn_search_wants_rows(const struct cairn_search_request *request)
{
    return request->projection.all_features || request->projection.features != NULL ||
           request->projection.vectors_count > 0 || request->with_provenance;
}

static const struct query *query_at(const struct searching *searching, uint32_t at)
{
    return &searching->queries[searching->members[at]];
}

static int search_here(struct searching *searching, uint32_t part_at, uint32_t at,
                       struct cairn_error *err)
{
    const struct query *query = query_at(searching, at);
    const struct cairn_search_request *request = query->request;
    const struct router_part *part = &searching->scatter.parts[part_at];
    struct cairn_shard_read read = {
        .schema = searching->schema, .epoch = searching->scatter.map->epoch, .same_epoch = true};
    struct cairn_index_search search = {.query = query->vector,
                                        .k = query->k,
                                        .ef = request->params.ef,
                                        .nprobe = request->params.nprobe,
                                        .exact = request->params.exact};
    struct cairn_index_hit *found = cairn_malloc(query->k * sizeof *found);
    uint32_t count = 0;
    int code = cairn_shard_search(part->member->local, &read, query->field->name, &search,
                                  request->filter, searching->arena, found, &count, err);
    struct cairn_hit *hits = cairn_arena_alloc(searching->arena, count * sizeof *hits + 1);
    for (uint32_t i = 0; code == 0 && i < count; i++)
        hits[i] = (struct cairn_hit){.key = found[i].key,
                                     .score = found[i].score,
                                     .shard = part->shard,
                                     .offset = found[i].offset};
    searching->lists[at].hits[part_at] = hits;
    searching->lists[at].counts[part_at] = code == 0 ? count : 0;
    free(found);
    return code;
}

/* Note how far a shard's index was. Its tail holds whatever the built part does not, so `indexed`
 * is what the shard had applied before the search began. */
static void note_index(struct searching *searching, uint32_t shard, uint64_t indexed,
                       uint64_t generation)
{
    struct cairn_contract *contract = searching->contract;
    if (!contract->wants_indexes)
        return;
    if (contract->indexes == NULL)
        contract->indexes =
            cairn_arena_zalloc(searching->arena, CAIRN_SHARDS_MAX * sizeof *contract->indexes);
    contract->indexes[shard] =
        (struct cairn_index_position){.indexed = indexed, .generation = generation, .used = true};
}

static int search_locals(struct searching *searching, struct cairn_error *err)
{
    struct router_scatter *scatter = &searching->scatter;
    int code = 0;
    for (uint32_t p = 0; p < scatter->parts_count && code == 0; p++) {
        struct cairn_shard *local = scatter->parts[p].member->local;
        struct cairn_index_stats stats;
        if (local == NULL)
            continue;
        router_touch(searching->router, scatter->map, searching->contract, scatter->parts[p].shard);
        if (searching->contract->wants_indexes &&
            cairn_shard_index_stats(local, searching->schema->id,
                                    query_at(searching, 0)->field->name, &stats) == 0)
            note_index(searching, scatter->parts[p].shard, stats.indexed_offset,
                       stats.generation_offset);
        for (uint32_t i = 0; i < searching->count && code == 0; i++)
            code = search_here(searching, p, i, err);
    }
    return code;
}

/* The lists of a shard elsewhere, pointing into its answer. */
static int take_lists(struct searching *searching, uint32_t part_at, bool with_rows,
                      struct cairn_error *err)
{
    const struct router_part *part = &searching->scatter.parts[part_at];
    const struct cairn_shard_answer *answer = &part->answer;
    uint32_t rows_at = 0;
    if (part->skipped)
        return 0;
    if (answer->lists_count != searching->count)
        return cairn_fail(err, CAIRN_EUNAVAILABLE,
                          "shard s%u answered with %u lists for %u queries", part->shard,
                          answer->lists_count, searching->count);
    note_index(searching, part->shard, answer->indexed, answer->generation);
    for (uint32_t i = 0; i < searching->count; i++) {
        const struct cairn_shard_hits *list = &answer->lists[i];
        struct cairn_hit *hits =
            cairn_arena_alloc(searching->arena, list->count * sizeof *hits + 1);
        if (with_rows && rows_at + list->count > answer->rows_count)
            return cairn_fail(err, CAIRN_EUNAVAILABLE, "shard s%u answered without its hits' rows",
                              part->shard);
        for (uint32_t h = 0; h < list->count; h++)
            hits[h] = (struct cairn_hit){.key = list->hits[h].key,
                                         .score = list->hits[h].score,
                                         .shard = part->shard,
                                         .offset = list->hits[h].offset,
                                         .row = with_rows ? &answer->rows[rows_at + h] : NULL};
        rows_at += with_rows ? list->count : 0;
        searching->lists[i].hits[part_at] = hits;
        searching->lists[i].counts[part_at] = list->count;
    }
    return 0;
}

/* A hit of a shard elsewhere is kept beyond the answer that brought it. */
static void keep_hit(struct cairn_hit *hit, struct cairn_arena *arena)
{
    hit->key = cairn_arena_dup(arena, hit->key);
    if (hit->row == NULL)
        return;
    struct cairn_shard_row *row = cairn_arena_alloc(arena, sizeof *row);
    *row = *hit->row;
    row->key = hit->key;
    row->row = cairn_arena_dup(arena, row->row);
    struct cairn_vector *vectors =
        cairn_arena_alloc(arena, row->vectors_count * sizeof *vectors + 1);
    for (uint32_t i = 0; i < row->vectors_count; i++) {
        const struct cairn_vector *from = &hit->row->vectors[i];
        struct cairn_str bytes = {(const char *)from->f32, from->dim * (uint32_t)sizeof(float)};
        vectors[i] = (struct cairn_vector){
            .name = cairn_arena_dup(arena, from->name),
            .f32 = (const float *)(const void *)cairn_arena_dup(arena, bytes).ptr,
            .dim = from->dim};
    }
    row->vectors = vectors;
    hit->row = row;
}

static void merge_all(struct searching *searching, struct cairn_search_result *results)
{
    struct router_scatter *scatter = &searching->scatter;
    for (uint32_t i = 0; i < searching->count; i++) {
        const struct query *query = query_at(searching, i);
        struct cairn_search_result *result = &results[searching->members[i]];
        uint32_t total = 0;
        for (uint32_t p = 0; p < scatter->parts_count; p++)
            total += searching->lists[i].counts[p];
        uint32_t room = total < query->request->k ? total : query->request->k;
        result->epoch = scatter->map->epoch;
        result->hits = cairn_arena_alloc(searching->arena, room * sizeof *result->hits + 1);
        merge(query, &searching->lists[i], scatter->parts_count, result);
        for (uint32_t h = 0; h < result->count; h++)
            if (router_local(searching->router, result->hits[h].shard) == NULL)
                keep_hit(&result->hits[h], searching->arena);
    }
}

/* The union of what the queries want to see of vectors. */
static void want_vectors(const struct searching *searching, struct cairn_shard_request *request)
{
    struct cairn_str *names =
        cairn_arena_alloc(searching->arena, CAIRN_VECTORS_MAX * sizeof *names);
    uint32_t count = 0;
    for (uint32_t i = 0; i < searching->count; i++) {
        const struct cairn_projection *projection = &query_at(searching, i)->request->projection;
        for (uint32_t v = 0; v < projection->vectors_count; v++) {
            uint32_t at = 0;
            while (at < count && !cairn_str_eq(names[at], projection->vectors[v]))
                at++;
            if (at == count && count < CAIRN_VECTORS_MAX)
                names[count++] = projection->vectors[v];
        }
        request->with_rows =
            request->with_rows || cairn_search_wants_rows(query_at(searching, i)->request);
    }
    request->vectors = names;
    request->vectors_count = request->with_rows ? count : 0;
    request->limit = request->with_rows;
}

static bool make_request(const struct searching *searching, struct cairn_shard_request *request)
{
    struct cairn_shard_query *queries =
        cairn_arena_alloc(searching->arena, searching->count * sizeof *queries);
    bool allow_partial = true;
    for (uint32_t i = 0; i < searching->count; i++) {
        const struct query *query = query_at(searching, i);
        queries[i] = (struct cairn_shard_query){.vector = query->vector,
                                                .dim = query->field->dim,
                                                .k = query->k,
                                                .ef = query->request->params.ef,
                                                .nprobe = query->request->params.nprobe,
                                                .exact = query->request->params.exact,
                                                .filter_json = query->request->filter_json};
        allow_partial = allow_partial && query->request->allow_partial;
    }
    *request = (struct cairn_shard_request){.collection = searching->schema->id,
                                            .vector = query_at(searching, 0)->field->name,
                                            .queries = queries,
                                            .queries_count = searching->count};
    want_vectors(searching, request);
    return allow_partial;
}

static int search_once(struct searching *searching, struct cairn_search_result *results,
                       struct cairn_error *err)
{
    struct router_scatter *scatter = &searching->scatter;
    struct cairn_shard_request request;
    struct cairn_error of_wait = {0};
    int code = router_scatter_begin(searching->router, searching->arena, scatter, err);
    if (code != 0)
        return code;
    searching->lists =
        cairn_arena_zalloc(searching->arena, searching->count * sizeof *searching->lists);
    bool allow_partial = make_request(searching, &request);
    router_scatter_send(scatter, CAIRN_SHARD_SEARCH, &request, searching->deadline_us);
    code = search_locals(searching, err);
    int waited = router_scatter_wait(scatter, searching->arena, allow_partial, searching->contract,
                                     &of_wait);
    if (code == 0 && waited != 0) {
        *err = of_wait;
        code = waited;
    }
    for (uint32_t p = 0; p < scatter->parts_count && code == 0; p++)
        if (scatter->parts[p].member->local == NULL)
            code = take_lists(searching, p, request.with_rows, err);
    if (code == 0)
        merge_all(searching, results);
    return code;
}

static int search_group(struct searching *searching, struct cairn_search_result *results,
                        struct cairn_error *err)
{
    unsigned tries = 0;
    bool again;
    int code;
    do {
        bool partial = searching->contract->partial;
        code = search_once(searching, results, err);
        again = code != 0 && searching->scatter.map != NULL &&
                router_scatter_again(searching->router, searching->scatter.map, code, &tries,
                                     searching->deadline_us);
        if (again)
            searching->contract->partial = partial;
        router_scatter_end(&searching->scatter);
    } while (again);
    return code;
}

/* Searches by the same vector go together, in groups whose lists stay small. */
static int search_groups(struct searching *searching, uint32_t count,
                         struct cairn_search_result *results, struct cairn_error *err)
{
    bool *done = cairn_arena_zalloc(searching->arena, count * sizeof *done);
    int code = 0;
    for (uint32_t first = 0; first < count && code == 0; first++) {
        if (done[first])
            continue;
        searching->count = 0;
        for (uint32_t i = first; i < count && searching->count < GROUP_QUERIES_MAX; i++)
            if (!done[i] && searching->queries[i].field == searching->queries[first].field) {
                searching->members[searching->count++] = i;
                done[i] = true;
            }
        code = search_group(searching, results, err);
    }
    return code;
}

int cairn_router_search(struct cairn_router *router, const struct cairn_schema *schema,
                        const struct cairn_search_request *requests, uint32_t count,
                        uint64_t deadline_us, struct cairn_arena *arena,
                        struct cairn_search_result *results, struct cairn_contract *contract,
                        struct cairn_error *err)
{
    struct query *queries = cairn_arena_alloc(arena, count * sizeof *queries);
    struct searching searching = {.router = router,
                                  .schema = schema,
                                  .queries = queries,
                                  .members = cairn_arena_alloc(arena, count * sizeof(uint32_t)),
                                  .deadline_us = deadline_us,
                                  .arena = arena,
                                  .contract = contract};
    for (uint32_t i = 0; i < count; i++) {
        int code =
            resolve(router, schema, &requests[i], &queries[i], deadline_us, arena, contract, err);
        if (code != 0)
            return count > 1 ? cairn_error_prefix(err, "searches[%u]", i) : code;
    }
    return search_groups(&searching, count, results, err);
}

int cairn_router_hit_rows(struct cairn_router *router, const struct cairn_schema *schema,
                          const struct cairn_search_result *result, cairn_row_visitor visit,
                          void *context, struct cairn_error *err)
{
    struct cairn_shard_read read = {.schema = schema, .epoch = result->epoch, .same_epoch = true};
    for (uint32_t i = 0; i < result->count; i++) {
        const struct cairn_hit *hit = &result->hits[i];
        struct cairn_row_pin pin = {0};
        struct cairn_row_ref row = {.shard = hit->shard, .collection = schema->id, .key = hit->key};
        if (hit->row != NULL && hit->row->found) {
            row.found = true;
            row.vectors = hit->row->vectors;
            row.vectors_count = hit->row->vectors_count;
            cairn_row_view_init(&row.view, hit->row->row);
        } else if (hit->row == NULL) {
            struct cairn_shard *local = router_local(router, hit->shard);
            int code = cairn_shard_get(local, &read, hit->key, &pin, err);
            if (code != 0)
                return code;
            row.found = pin.found;
            row.view = pin.view;
        }
        visit(context, i, &row);
        cairn_row_pin_release(&pin);
    }
    return 0;
}
