/* POST /v1/collections/{c}/search: one query or a batch, in JSON or FlatBuffers. Runs on a worker:
 * it computes. */
#include "api/fields.h"
#include "api/handlers.h"
#include "api/row_json.h"
#include "api/row_wire.h"
#include "base/filter.h"

#define K_DEFAULT 10u

enum {
    FIELD_VECTOR,
    FIELD_KEY,
    FIELD_TEXT,
    FIELD_USING,
    FIELD_K,
    FIELD_FILTER,
    FIELD_FEATURES,
    FIELD_WITH_VECTORS,
    FIELD_WITH_PROVENANCE,
    FIELD_ALLOW_PARTIAL,
    FIELD_PARAMS,
    FIELDS_COUNT
};
static const struct cairn_str field_names[FIELDS_COUNT] = {CAIRN_FIELD("vector"),
                                                           CAIRN_FIELD("key"),
                                                           CAIRN_FIELD("text"),
                                                           CAIRN_FIELD("using"),
                                                           CAIRN_FIELD("k"),
                                                           CAIRN_FIELD("filter"),
                                                           CAIRN_FIELD("features"),
                                                           CAIRN_FIELD("with_vectors"),
                                                           CAIRN_FIELD("with_provenance"),
                                                           CAIRN_FIELD("allow_partial"),
                                                           CAIRN_FIELD("params")};

struct search {
    const struct cairn_schema *schema;
    struct cairn_search_request *requests;
    uint32_t count;
    bool batch;
    struct cairn_search_result *results;
};

static int read_params(struct cairn_json json, struct cairn_search_params *out,
                       struct cairn_error *err)
{
    enum { EF, NPROBE, EXACT, COUNT };
    static const struct cairn_str names[COUNT] = {CAIRN_FIELD("ef"), CAIRN_FIELD("nprobe"),
                                                  CAIRN_FIELD("exact")};
    struct cairn_json values[COUNT];
    if (cairn_fields_read(json, names, COUNT, values, err) != 0)
        return err->code;
    if (cairn_field_given(values[EF]) &&
        cairn_u32_read(values[EF], "ef", 1, CAIRN_EF_MAX, &out->ef, err) != 0)
        return err->code;
    if (cairn_field_given(values[NPROBE]) &&
        cairn_u32_read(values[NPROBE], "nprobe", 1, CAIRN_NPROBE_MAX, &out->nprobe, err) != 0)
        return err->code;
    return cairn_field_given(values[EXACT])
               ? cairn_bool_read(values[EXACT], "exact", &out->exact, err)
               : 0;
}

/* What is searched for: exactly one of vector, key and text. */
static int read_query(const struct cairn_json *values, struct cairn_arena *arena,
                      struct cairn_search_request *out, struct cairn_error *err)
{
    unsigned given = 0;
    for (unsigned i = FIELD_VECTOR; i <= FIELD_TEXT; i++)
        given += cairn_field_given(values[i]);
    if (given != 1)
        return cairn_fail(err, CAIRN_EFIELD, "vector: give one of vector, key and text");
    if (cairn_field_given(values[FIELD_TEXT]))
        return cairn_fail(err, CAIRN_EFIELD,
                          "text: this server does not embed texts; give a vector or a key");
    if (cairn_field_given(values[FIELD_KEY]))
        return cairn_key_read(values[FIELD_KEY], arena, &out->key, err) == 0
                   ? 0
                   : cairn_error_prefix(err, "key");
    return cairn_vector_read(values[FIELD_VECTOR], arena, &out->vector, &out->dim, err) == 0
               ? 0
               : cairn_error_path(err, "vector");
}

/* with_vectors: true for all of the collection's, or an array of names. */
static int read_projection(const struct cairn_json *values, const struct cairn_schema *schema,
                           struct cairn_arena *arena, struct cairn_search_request *out,
                           struct cairn_error *err)
{
    struct cairn_projection_json json = {.features = values[FIELD_FEATURES]};
    struct cairn_str *names;
    bool with_vectors = false;
    if (cairn_projection_read(&json, schema, arena, &out->projection, err) != 0)
        return err->code;
    if (!cairn_field_given(values[FIELD_WITH_VECTORS]))
        return 0;
    if (cairn_json_bool(values[FIELD_WITH_VECTORS], &with_vectors)) {
        if (with_vectors)
            cairn_projection_all_vectors(schema, arena, &out->projection);
        return 0;
    }
    if (cairn_names_read(values[FIELD_WITH_VECTORS], "with_vectors", CAIRN_VECTORS_MAX, arena,
                         &names, &out->projection.vectors_count, err) != 0)
        return err->code;
    out->projection.vectors = names;
    return 0;
}

static int read_request(struct cairn_json json, const struct cairn_schema *schema, bool keep_texts,
                        struct cairn_arena *arena, struct cairn_search_request *out,
                        struct cairn_error *err)
{
    struct cairn_json values[FIELDS_COUNT];
    *out = (struct cairn_search_request){.k = K_DEFAULT};
    if (cairn_fields_read(json, field_names, FIELDS_COUNT, values, err) != 0 ||
        read_query(values, arena, out, err) != 0 ||
        read_projection(values, schema, arena, out, err) != 0)
        return err->code;
    if (cairn_field_given(values[FIELD_USING]) &&
        cairn_str_read(values[FIELD_USING], "using", &out->using, err) != 0)
        return err->code;
    if (cairn_field_given(values[FIELD_K]) &&
        cairn_u32_read(values[FIELD_K], "k", 1, CAIRN_K_MAX, &out->k, err) != 0)
        return err->code;
    if (cairn_field_given(values[FIELD_FILTER]) &&
        cairn_filter_parse(values[FIELD_FILTER], schema, arena, &out->filter, err) != 0)
        return err->code;
    if (cairn_field_given(values[FIELD_FILTER]) && keep_texts)
        out->filter_json = cairn_json_text(values[FIELD_FILTER], arena);
    if (cairn_field_given(values[FIELD_WITH_PROVENANCE]) &&
        cairn_bool_read(values[FIELD_WITH_PROVENANCE], "with_provenance", &out->with_provenance,
                        err) != 0)
        return err->code;
    if (cairn_field_given(values[FIELD_ALLOW_PARTIAL]) &&
        cairn_bool_read(values[FIELD_ALLOW_PARTIAL], "allow_partial", &out->allow_partial, err) !=
            0)
        return err->code;
    if (cairn_field_given(values[FIELD_PARAMS]) &&
        read_params(values[FIELD_PARAMS], &out->params, err) != 0)
        return cairn_error_path(err, "params");
    return 0;
}

static int read_batch(struct cairn_exchange *exchange, struct cairn_json searches,
                      struct search *search, struct cairn_error *err)
{
    struct cairn_json_iter iter;
    struct cairn_json element;
    size_t count;
    if (!cairn_json_array(searches, &iter, &count))
        return cairn_fail(err, CAIRN_ETYPE, "searches: must be an array");
    if (count == 0 || count > CAIRN_SEARCHES_MAX)
        return cairn_fail(err, CAIRN_EFIELD, "searches: %zu searches, 1 to %u are allowed", count,
                          CAIRN_SEARCHES_MAX);
    search->batch = true;
    search->requests = cairn_arena_alloc(&exchange->arena, count * sizeof *search->requests);
    while (cairn_json_element(&iter, &element)) {
        uint32_t at = search->count++;
        if (read_request(element, search->schema, cairn_router_may_block(exchange->router),
                         &exchange->arena, &search->requests[at], err) != 0)
            return cairn_error_path(err, "searches[%u]", at);
    }
    return 0;
}

static int read_json(struct cairn_exchange *exchange, struct search *search,
                     struct cairn_error *err)
{
    static const struct cairn_str batch_names[] = {CAIRN_FIELD("searches")};
    struct cairn_json root, searches;
    if (cairn_exchange_json(exchange, &root, err) != 0)
        return err->code;
    if (cairn_json_get(root, "searches", &searches)) {
        if (cairn_fields_read(root, batch_names, 1, &searches, err) != 0)
            return err->code;
        return read_batch(exchange, searches, search, err);
    }
    search->count = 1;
    search->requests = cairn_arena_alloc(&exchange->arena, sizeof *search->requests);
    return read_request(root, search->schema, cairn_router_may_block(exchange->router),
                        &exchange->arena, search->requests, err);
}

static int read_search(struct cairn_exchange *exchange, struct search *search,
                       struct cairn_error *err)
{
    uint64_t hits = 0;
    if (cairn_handler_no_params(exchange, err) != 0)
        return err->code;
    int code = exchange->media == CAIRN_MEDIA_FLATBUFFERS
                   ? cairn_wire_search_decode(exchange->body, &exchange->arena, &search->requests,
                                              &search->count, err)
                   : read_json(exchange, search, err);
    for (uint32_t i = 0; code == 0 && i < search->count; i++)
        hits += search->requests[i].k;
    if (code == 0 && hits > CAIRN_SEARCH_HITS_MAX)
        return cairn_fail(err, CAIRN_EFIELD, "searches: %llu hits asked for in all, at most %u",
                          (unsigned long long)hits, CAIRN_SEARCH_HITS_MAX);
    return code;
}

/* One query's hits on their way into the answer. */
struct hits_writing {
    struct cairn_row_writing rows;
    const struct cairn_search_request *request;
    const struct cairn_search_result *result;
    struct cairn_encoder *encoder; /* binary answers */
    struct cairn_arena arena;      /* of one row */
};

static void begin_hit(const struct cairn_hit *hit, struct cairn_json_writer *writer)
{
    cairn_json_begin_object(writer);
    cairn_json_key(writer, "key");
    cairn_json_write_str(writer, hit->key);
    cairn_json_key(writer, "score");
    cairn_json_write_f32(writer, hit->score);
}

/* An entity that went away since the search is left out. */
static void write_hit(void *context, uint32_t at, const struct cairn_row_ref *row)
{
    struct hits_writing *writing = context;
    struct cairn_row_writing *rows = &writing->rows;
    const struct cairn_hit *hit = &writing->result->hits[at];
    if (rows->code != 0 || !row->found)
        return;
    begin_hit(hit, rows->writer);
    rows->code = cairn_row_write(&rows->plan, row, rows->writer, rows->err);
    if (writing->request->with_provenance)
        cairn_provenance_write(row, hit->offset, &writing->arena, rows->writer);
    cairn_json_end_object(rows->writer);
    cairn_arena_reset(&writing->arena);
}

static void add_hit(void *context, uint32_t at, const struct cairn_row_ref *row)
{
    struct hits_writing *writing = context;
    struct cairn_row_writing *rows = &writing->rows;
    struct cairn_wire_entity entity;
    if (rows->code != 0 || !row->found)
        return;
    rows->code = cairn_row_to_wire(&rows->plan, row, &writing->arena, &entity, rows->err);
    entity.score = writing->result->hits[at].score;
    if (rows->code == 0)
        cairn_wire_search_add_hit(writing->encoder, &entity);
    if (rows->code == 0)
        rows->code = cairn_answer_check(cairn_wire_answer_bytes(writing->encoder), rows->err);
    cairn_arena_reset(&writing->arena);
}

/* Visit one query's hits, with their rows only where the answer shows any of them. */
static int visit_hits(struct cairn_exchange *exchange, const struct search *search, uint32_t at,
                      cairn_row_visitor visit, struct hits_writing *writing,
                      struct cairn_error *err)
{
    writing->request = &search->requests[at];
    writing->result = &search->results[at];
    writing->rows.err = err;
    int code = cairn_row_plan_init(&writing->rows.plan, exchange->router, search->schema,
                                   &writing->request->projection, &exchange->arena, err);
    if (code == 0)
        code = cairn_router_hit_rows(exchange->router, search->schema, writing->result, visit,
                                     writing, err);
    cairn_arena_release(&writing->arena);
    return code != 0 ? code : writing->rows.code;
}

static int write_hits(struct cairn_exchange *exchange, const struct search *search, uint32_t at,
                      struct cairn_json_writer *writer, struct cairn_error *err)
{
    struct hits_writing writing = {.rows = {.writer = writer}};
    const struct cairn_search_result *result = &search->results[at];
    int code = 0;
    cairn_json_key(writer, "hits");
    cairn_json_begin_array(writer);
    if (cairn_search_wants_rows(&search->requests[at]))
        code = visit_hits(exchange, search, at, write_hit, &writing, err);
    for (uint32_t i = 0; i < result->count && !cairn_search_wants_rows(&search->requests[at]);
         i++) {
        begin_hit(&result->hits[i], writer);
        cairn_json_end_object(writer);
    }
    cairn_json_end_array(writer);
    return code;
}

static int answer_json(struct cairn_exchange *exchange, const struct search *search,
                       struct cairn_error *err)
{
    struct cairn_json_writer writer;
    int code = 0;
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    if (!search->batch) {
        code = write_hits(exchange, search, 0, &writer, err);
    } else {
        cairn_json_key(&writer, "results");
        cairn_json_begin_array(&writer);
        for (uint32_t i = 0; code == 0 && i < search->count; i++) {
            cairn_json_begin_object(&writer);
            code = write_hits(exchange, search, i, &writer, err);
            cairn_json_end_object(&writer);
        }
        cairn_json_end_array(&writer);
    }
    if (code == 0)
        cairn_exchange_end_object(exchange, &writer);
    return code;
}

static int answer_flatbuffers(struct cairn_exchange *exchange, const struct search *search,
                              struct cairn_error *err)
{
    struct cairn_encoder *encoder = exchange->scratch.encoder;
    cairn_wire_search_begin(encoder);
    for (uint32_t i = 0; i < search->count; i++) {
        const struct cairn_search_result *result = &search->results[i];
        struct hits_writing writing = {.encoder = encoder};
        if (cairn_search_wants_rows(&search->requests[i]) &&
            visit_hits(exchange, search, i, add_hit, &writing, err) != 0)
            return err->code;
        for (uint32_t h = 0; h < result->count && !cairn_search_wants_rows(&search->requests[i]);
             h++) {
            struct cairn_wire_entity hit = {
                .key = result->hits[h].key, .found = true, .score = result->hits[h].score};
            cairn_wire_search_add_hit(encoder, &hit);
        }
        cairn_wire_search_end_query(encoder);
    }
    cairn_handler_set_flatbuffers(exchange, cairn_wire_search_end(encoder));
    return 0;
}

void cairn_handle_search(struct cairn_exchange *exchange)
{
    struct cairn_error err = {0};
    struct search search = {.schema = cairn_handler_schema(exchange, &err)};
    int code = search.schema == NULL ? err.code : read_search(exchange, &search, &err);
    if (code == 0) {
        search.results =
            cairn_arena_zalloc(&exchange->arena, search.count * sizeof *search.results);
        exchange->has_contract = true;
        exchange->contract.wants_indexes = exchange->wants_contract;
        code = cairn_router_search(exchange->router, search.schema, search.requests, search.count,
                                   exchange->deadline_us, &exchange->arena, search.results,
                                   &exchange->contract, &err);
    }
    if (code == 0)
        code = cairn_handler_wants_flatbuffers(exchange)
                   ? answer_flatbuffers(exchange, &search, &err)
                   : answer_json(exchange, &search, &err);
    cairn_schema_unref(search.schema);
    if (code != 0)
        cairn_handler_fail(exchange, &err);
    else
        cairn_exchange_reply(exchange);
}
