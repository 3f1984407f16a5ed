/* Operations asked for by a router or a shard in another process, on the structs that their calls
 * are made of. */
#include "shard/internal.h"

#include <stdlib.h>

#include "base/json.h"

#define QUERY_HITS_MAX CAIRN_SEARCH_HITS_MAX /* sum of k of one request */
#define SCAN_BYTES_MAX (16u << 20)           /* rows of one step of a scan */
#define WAIT_MS_MAX    1000u

static struct cairn_shard_read read_of(const struct cairn_shard_request *request,
                                       const struct cairn_schema *schema)
{
    return (struct cairn_shard_read){
        .schema = schema, .epoch = request->epoch, .same_epoch = request->same_epoch};
}

/* The vectors asked for that the row has. */
static int row_vectors(struct cairn_shard *shard, const struct cairn_schema *schema,
                       const struct cairn_shard_request *request, const struct cairn_row_view *view,
                       struct cairn_arena *arena, struct cairn_shard_row *out,
                       struct cairn_error *err)
{
    if (request->vectors_count == 0)
        return 0;
    struct cairn_vector *vectors =
        cairn_arena_alloc(arena, request->vectors_count * sizeof *vectors);
    for (uint32_t i = 0; i < request->vectors_count; i++) {
        struct cairn_row_cell cell;
        struct cairn_str name = request->vectors[i];
        if (!cairn_row_view_find(view, true, name, &cell) || cell.value.len == 0)
            continue;
        float *f32 = cairn_arena_alloc(arena, cell.value.len * sizeof *f32);
        int code =
            cairn_shard_get_vector(shard, schema->id, out->key, name, f32, cell.value.len, err);
        if (code != 0 && code != CAIRN_ENOVECTOR && code != CAIRN_EDIMENSION)
            return code;
        if (code == 0) /* else it was replaced or removed between the two reads */
            vectors[out->vectors_count++] = (struct cairn_vector){name, f32, cell.value.len};
    }
    out->vectors = vectors;
    return 0;
}

static int take_row(struct cairn_shard *shard, const struct cairn_schema *schema,
                    const struct cairn_shard_request *request, struct cairn_str key,
                    const struct cairn_row_view *view, struct cairn_arena *arena,
                    struct cairn_shard_row *out, struct cairn_error *err)
{
    *out = (struct cairn_shard_row){
        .key = key, .found = true, .row = cairn_arena_dup(arena, view->bytes)};
    return row_vectors(shard, schema, request, view, arena, out, err);
}

static int get(struct cairn_shard *shard, const struct cairn_shard_request *request,
               const struct cairn_schema *schema, struct cairn_arena *arena,
               struct cairn_shard_answer *answer, struct cairn_error *err)
{
    struct cairn_shard_read read = read_of(request, schema);
    struct cairn_shard_row *rows =
        cairn_arena_zalloc(arena, request->keys_count * sizeof *rows + 1);
    size_t before = arena->used_bytes;
    for (uint32_t i = 0; i < request->keys_count; i++) {
        struct cairn_row_pin pin = {0};
        int code = cairn_shard_get(shard, &read, request->keys[i], &pin, err);
        rows[i].key = request->keys[i];
        if (code == 0 && pin.found)
            code =
                take_row(shard, schema, request, request->keys[i], &pin.view, arena, &rows[i], err);
        cairn_row_pin_release(&pin);
        if (code != 0)
            return code;
        if (arena->used_bytes - before > CAIRN_ANSWER_BYTES_MAX)
            return cairn_fail(err, CAIRN_ETOOLARGE, "keys: their rows have over %u bytes",
                              CAIRN_ANSWER_BYTES_MAX);
    }
    answer->rows = rows;
    answer->rows_count = request->keys_count;
    return 0;
}

/* A filter as the client wrote it, bound to the schema. *parser outlives the filter. */
static int parse_filter(struct cairn_str text, const struct cairn_schema *schema,
                        struct cairn_json_parser **parser, struct cairn_arena *arena,
                        const struct cairn_filter **out, struct cairn_error *err)
{
    struct cairn_json json;
    *out = NULL;
    if (text.len == 0)
        return 0;
    if (*parser == NULL)
        *parser = cairn_json_parser_new();
    int code = cairn_json_parse(*parser, text, &json, err);
    return code != 0 ? code : cairn_filter_parse(json, schema, arena, out, err);
}

static int search_one(struct cairn_shard *shard, const struct cairn_shard_request *request,
                      const struct cairn_schema *schema, const struct cairn_shard_query *query,
                      struct cairn_json_parser **parser, struct cairn_arena *arena,
                      struct cairn_shard_hits *out, struct cairn_error *err)
{
    struct cairn_shard_read read = read_of(request, schema);
    const struct cairn_vector_def *field = cairn_schema_vector(schema, request->vector);
    const struct cairn_filter *filter;
    uint32_t count = 0;
    if (field == NULL)
        return cairn_fail(err, CAIRN_ENOVECTOR, "the collection has no vector named %.*s",
                          CAIRN_STR_ARG(request->vector));
    if (query->dim != field->dim)
        return cairn_fail(err, CAIRN_EDIMENSION, "vector: has %u components, not %u", query->dim,
                          field->dim);
    int code = parse_filter(query->filter_json, schema, parser, arena, &filter, err);
    if (code != 0)
        return code;
    struct cairn_index_search search = {.query = query->vector,
                                        .k = query->k,
                                        .ef = query->ef,
                                        .nprobe = query->nprobe,
                                        .exact = query->exact};
    struct cairn_index_hit *found = cairn_malloc(query->k * sizeof *found);
    code = cairn_shard_search(shard, &read, request->vector, &search, filter, arena, found, &count,
                              err);
    struct cairn_shard_hit *hits = cairn_arena_alloc(arena, count * sizeof *hits + 1);
    for (uint32_t i = 0; code == 0 && i < count; i++)
        hits[i] = (struct cairn_shard_hit){
            .key = found[i].key, .score = found[i].score, .offset = found[i].offset};
    *out = (struct cairn_shard_hits){hits, count};
    free(found);
    return code;
}

/* The rows of all hits, list after list. */
static int hit_rows(struct cairn_shard *shard, const struct cairn_shard_request *request,
                    const struct cairn_schema *schema, struct cairn_arena *arena,
                    struct cairn_shard_answer *answer, struct cairn_error *err)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < answer->lists_count; i++)
        total += answer->lists[i].count;
    struct cairn_str *keys = cairn_arena_alloc(arena, total * sizeof *keys + 1);
    uint32_t at = 0;
    for (uint32_t i = 0; i < answer->lists_count; i++)
        for (uint32_t h = 0; h < answer->lists[i].count; h++)
            keys[at++] = answer->lists[i].hits[h].key;
    struct cairn_shard_request rows = *request;
    rows.keys = keys;
    rows.keys_count = total;
    return get(shard, &rows, schema, arena, answer, err);
}

static int search(struct cairn_shard *shard, const struct cairn_shard_request *request,
                  const struct cairn_schema *schema, struct cairn_arena *arena,
                  struct cairn_shard_answer *answer, struct cairn_error *err)
{
    struct cairn_shard_hits *lists =
        cairn_arena_zalloc(arena, request->queries_count * sizeof *lists + 1);
    struct cairn_json_parser *parser = NULL;
    struct cairn_index_stats stats;
    uint64_t hits = 0;
    int code = 0;
    if (cairn_shard_index_stats(shard, schema->id, request->vector, &stats) == 0) {
        answer->indexed = stats.indexed_offset;
        answer->generation = stats.generation_offset;
    }
    for (uint32_t i = 0; i < request->queries_count; i++)
        hits += request->queries[i].k;
    if (hits > QUERY_HITS_MAX)
        return cairn_fail(err, CAIRN_EFIELD, "queries: %llu hits asked for in all, at most %u",
                          (unsigned long long)hits, QUERY_HITS_MAX);
    for (uint32_t i = 0; code == 0 && i < request->queries_count; i++)
        code = search_one(shard, request, schema, &request->queries[i], &parser, arena, &lists[i],
                          err);
    cairn_json_parser_free(&parser);
    answer->lists = lists;
    answer->lists_count = request->queries_count;
    return code == 0 && request->with_rows ? hit_rows(shard, request, schema, arena, answer, err)
                                           : code;
}

static int scan(struct cairn_shard *shard, const struct cairn_shard_request *request,
                const struct cairn_schema *schema, struct cairn_arena *arena,
                struct cairn_shard_answer *answer, struct cairn_error *err)
{
    struct cairn_shard_read read = read_of(request, schema);
    struct cairn_json_parser *parser = NULL;
    const struct cairn_filter *filter;
    struct cairn_shard_scan *rows_scan = NULL;
    uint32_t limit =
        request->limit < CAIRN_SCROLL_LIMIT_MAX ? request->limit : CAIRN_SCROLL_LIMIT_MAX;
    struct cairn_shard_row *rows = cairn_arena_alloc(arena, limit * sizeof *rows + 1);
    size_t before = arena->used_bytes;
    int code = parse_filter(request->filter_json, schema, &parser, arena, &filter, err);
    if (code == 0)
        code = cairn_shard_scan_open(shard, &read, filter, request->after_key, &rows_scan, err);
    answer->more = true;
    while (code == 0 && answer->rows_count < limit && arena->used_bytes - before < SCAN_BYTES_MAX) {
        struct cairn_str key;
        struct cairn_row_view view;
        code = cairn_shard_scan_next(rows_scan, &key, &view, err);
        if (code == 0)
            code = take_row(shard, schema, request, cairn_arena_dup(arena, key), &view, arena,
                            &rows[answer->rows_count], err);
        answer->rows_count += code == 0;
    }
    if (code == CAIRN_EEND) {
        answer->more = false;
        code = 0;
    }
    cairn_shard_scan_close(&rows_scan);
    cairn_json_parser_free(&parser);
    answer->rows = rows;
    return code;
}

static int count(struct cairn_shard *shard, const struct cairn_shard_request *request,
                 const struct cairn_schema *schema, struct cairn_arena *arena,
                 struct cairn_shard_answer *answer, struct cairn_error *err)
{
    struct cairn_shard_read read = read_of(request, schema);
    struct cairn_json_parser *parser = NULL;
    const struct cairn_filter *filter;
    int code = parse_filter(request->filter_json, schema, &parser, arena, &filter, err);
    if (code == 0)
        code = cairn_shard_count(shard, &read, filter, &answer->count, err);
    cairn_json_parser_free(&parser);
    return code;
}

struct text_list {
    struct cairn_arena *arena;
    struct cairn_str *texts;
    uint32_t count, capacity;
};

static int add_text(void *argument, struct cairn_str text)
{
    struct text_list *list = argument;
    if (list->count == list->capacity) {
        list->capacity += list->capacity / 2 + 16;
        list->texts = cairn_realloc(list->texts, list->capacity * sizeof *list->texts);
    }
    list->texts[list->count++] = cairn_arena_dup(list->arena, text);
    return 0;
}

static int schemas(struct cairn_shard *shard, struct cairn_arena *arena,
                   struct cairn_shard_answer *answer, struct cairn_error *err)
{
    struct text_list list = {.arena = arena};
    int code = cairn_shard_each_schema(shard, add_text, &list, err);
    struct cairn_str *texts = cairn_arena_alloc(arena, list.count * sizeof *texts + 1);
    if (list.count > 0)
        memcpy(texts, list.texts, list.count * sizeof *texts);
    free(list.texts);
    answer->texts = texts;
    answer->texts_count = list.count;
    return code;
}

static struct cairn_str map_text(const struct cairn_map *map, struct cairn_arena *arena)
{
    struct cairn_buf text = {0};
    cairn_map_encode(map, &text);
    struct cairn_str copy =
        cairn_arena_dup(arena, (struct cairn_str){text.data, (uint32_t)text.len});
    cairn_buf_release(&text);
    return copy;
}

/* Answers with the shard's map. One that is given goes through the writer even if it is known, so
 * no map that was on its way before it is missing from the answer; without one nothing is waited
 * for. */
static int adopt(struct cairn_shard *shard, const struct cairn_shard_request *request,
                 struct cairn_arena *arena, struct cairn_shard_answer *answer,
                 struct cairn_error *err)
{
    const struct cairn_map *map = NULL;
    int code = 0;
    if (request->text.len > 0) {
        if (cairn_map_decode(request->text, &map, err) != 0)
            return cairn_fail(err, CAIRN_EBODY, "text: is no shard map");
        code = cairn_shard_adopt(shard, map, request->fence, err);
        cairn_map_unref(map);
    }
    map = cairn_shard_map(shard);
    if (map != NULL)
        answer->text = map_text(map, arena);
    cairn_map_unref(map);
    return code;
}

static int release(struct cairn_shard *shard, const struct cairn_shard_request *request,
                   struct cairn_error *err)
{
    const struct cairn_map *map = NULL;
    if (cairn_map_decode(request->text, &map, err) != 0)
        return cairn_fail(err, CAIRN_EBODY, "text: is no shard map");
    int code = cairn_shard_release(shard, request->fence, map, err);
    cairn_map_unref(map);
    return code;
}

static int export(struct cairn_shard *shard, const struct cairn_shard_request *request,
                  struct cairn_arena *arena, struct cairn_shard_answer *answer,
                  struct cairn_error *err)
{
    struct cairn_shard_record *records;
    uint64_t bytes_max = request->bytes_max == 0 || request->bytes_max > CAIRN_EXPORT_BYTES_MAX
                             ? CAIRN_EXPORT_BYTES_MAX
                             : request->bytes_max;
    uint32_t wait_ms = request->wait_ms < WAIT_MS_MAX ? request->wait_ms : WAIT_MS_MAX;
    int code = cairn_shard_export(shard, &request->move, request->from_offset, bytes_max, wait_ms,
                                  arena, &records, &answer->records_count, &answer->progress, err);
    answer->records = records;
    return code;
}

static int execute_read(struct cairn_shard *shard, enum cairn_shard_op op,
                        const struct cairn_shard_request *request, struct cairn_arena *arena,
                        struct cairn_shard_answer *answer, struct cairn_error *err)
{
    const struct cairn_schema *schema = shard_schema(shard, request->collection);
    int code;
    if (schema == NULL)
        return cairn_fail(err, CAIRN_ENOCOLLECTION, "shard s%u has no collection of number %u",
                          shard->id, request->collection);
    if (op == CAIRN_SHARD_GET)
        code = get(shard, request, schema, arena, answer, err);
    else if (op == CAIRN_SHARD_SEARCH)
        code = search(shard, request, schema, arena, answer, err);
    else if (op == CAIRN_SHARD_SCAN)
        code = scan(shard, request, schema, arena, answer, err);
    else
        code = count(shard, request, schema, arena, answer, err);
    cairn_schema_unref(schema);
    return code;
}

static int execute(struct cairn_shard *shard, enum cairn_shard_op op,
                   const struct cairn_shard_request *request, struct cairn_arena *arena,
                   struct cairn_shard_answer *answer, struct cairn_error *err)
{
    struct cairn_shard_report *report;
    switch (op) {
    case CAIRN_SHARD_GET:
    case CAIRN_SHARD_SEARCH:
    case CAIRN_SHARD_SCAN:
    case CAIRN_SHARD_COUNT:
        return execute_read(shard, op, request, arena, answer, err);
    case CAIRN_SHARD_REPORT:
        report = cairn_arena_alloc(arena, sizeof *report);
        cairn_shard_report(shard, arena, report);
        answer->report = report;
        return 0;
    case CAIRN_SHARD_SCHEMAS:
        return schemas(shard, arena, answer, err);
    case CAIRN_SHARD_ADOPT:
        return adopt(shard, request, arena, answer, err);
    case CAIRN_SHARD_EXPORT:
        return export(shard, request, arena, answer, err);
    case CAIRN_SHARD_FREEZE:
        return cairn_shard_freeze(shard, &request->move, request->wait_ms, &answer->fence,
                                  &answer->progress.end_offset, err);
    case CAIRN_SHARD_DIGEST:
        return cairn_shard_digest(shard, &request->move, request->until_offset, answer->digest,
                                  &answer->progress.records, err);
    case CAIRN_SHARD_RELEASE:
        return release(shard, request, err);
    case CAIRN_SHARD_THAW:
        cairn_shard_thaw(shard, request->fence);
        return 0;
    default:
        return cairn_fail(err, CAIRN_EPARAM, "%s: is no operation of a shard",
                          cairn_shard_op_name(op));
    }
}

void cairn_shard_answer_complete(struct cairn_shard *shard, struct cairn_arena *arena,
                                 struct cairn_shard_answer *answer)
{
    answer->shard = shard->id;
    if (answer->applied == 0)
        answer->applied = cairn_shard_applied(shard);
    answer->epoch = cairn_shard_epoch(shard);
    answer->catalog_version = atomic_load(&shard->catalog_version);
    if (answer->error.code != CAIRN_ENOTOWNER)
        return;
    const struct cairn_map *map = cairn_shard_map(shard);
    if (map != NULL)
        answer->text = map_text(map, arena);
    cairn_map_unref(map);
}

void cairn_shard_execute(struct cairn_shard *shard, enum cairn_shard_op op,
                         const struct cairn_shard_request *request, struct cairn_arena *arena,
                         struct cairn_shard_answer *answer)
{
    struct cairn_error err = {0};
    /* What is applied before the read is what the answer reflects at least. */
    *answer = (struct cairn_shard_answer){.applied = cairn_shard_applied(shard)};
    int code = execute(shard, op, request, arena, answer, &err);
    if (code != 0)
        *answer = (struct cairn_shard_answer){.applied = answer->applied, .error = err};
    cairn_shard_answer_complete(shard, arena, answer);
}
