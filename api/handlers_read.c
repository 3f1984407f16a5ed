/* Reading entities by key. Rows are written into the answer straight from the store's view of
 * them. Small requests are answered on the loop, large ones on a worker. */
#include "api/fields.h"
#include "api/handlers.h"
#include "api/reading.h"
#include "api/row_json.h"
#include "api/row_wire.h"

struct get {
    struct cairn_reading reading;
    struct cairn_router_fetch fetch;
    const struct cairn_schema *schema; /* a reference */
    struct cairn_get_request request;
    struct cairn_row_plan plan;
};

static void get_end(struct cairn_exchange *exchange)
{
    struct get *get = exchange->handler_state;
    cairn_schema_unref(get->schema);
}

static void get_start(struct cairn_exchange *exchange, struct get *get,
                      int (*answer)(struct cairn_exchange *exchange, struct cairn_error *err))
{
    get->fetch =
        (struct cairn_router_fetch){.schema = get->schema,
                                    .keys = get->request.keys,
                                    .count = get->request.keys_count,
                                    .vectors = get->request.projection.vectors,
                                    .vectors_count = get->request.projection.vectors_count};
    get->reading = (struct cairn_reading){
        .exchange = exchange, .fetches = &get->fetch, .count = 1, .answer = answer, .end = get_end};
    exchange->has_contract = true;
    cairn_reading_run(&get->reading);
}

/* Rows of a binary answer. */
struct binary_writing {
    const struct cairn_row_plan *plan;
    struct cairn_encoder *encoder;
    struct cairn_arena arena; /* of one row */
    int code;                 /* the first failure */
    struct cairn_error *err;
};

static void add_row(void *context, uint32_t at, const struct cairn_row_ref *row)
{
    struct binary_writing *writing = context;
    struct cairn_wire_entity entity;
    (void)at;
    if (writing->code != 0)
        return;
    writing->code = cairn_row_to_wire(writing->plan, row, &writing->arena, &entity, writing->err);
    if (writing->code == 0)
        cairn_wire_get_add(writing->encoder, &entity);
    if (writing->code == 0)
        writing->code = cairn_answer_check(cairn_wire_answer_bytes(writing->encoder), writing->err);
    cairn_arena_reset(&writing->arena);
}

/* Entities are read with all their features unless the request says which. */
static int read_get_json(struct cairn_exchange *exchange, const struct cairn_schema *schema,
                         struct cairn_get_request *out, struct cairn_error *err)
{
    enum { KEYS, FEATURES, VECTORS, META, AS_OF, COUNT };
    static const struct cairn_str names[COUNT] = {CAIRN_FIELD("keys"), CAIRN_FIELD("features"),
                                                  CAIRN_FIELD("vectors"), CAIRN_FIELD("meta"),
                                                  CAIRN_FIELD("as_of")};
    struct cairn_json root, values[COUNT];
    struct cairn_str *keys;
    if (cairn_exchange_json(exchange, &root, err) != 0 ||
        cairn_fields_read(root, names, COUNT, values, err) != 0)
        return err->code;
    if (cairn_field_given(values[AS_OF]))
        return cairn_fail(err, CAIRN_EPARAM,
                          "as_of: this server reads current values only; leave as_of out");
    if (!cairn_field_given(values[KEYS]))
        return cairn_fail(err, CAIRN_EFIELD, "keys: required");
    if (cairn_keys_read(values[KEYS], "keys", &exchange->arena, &keys, &out->keys_count, err) != 0)
        return err->code;
    cairn_reading_keep_keys(exchange, keys, out->keys_count);
    out->keys = keys;
    struct cairn_projection_json json = {values[FEATURES], values[VECTORS], values[META]};
    if (cairn_projection_read(&json, schema, &exchange->arena, &out->projection, err) != 0)
        return err->code;
    if (out->projection.features == NULL)
        out->projection.all_features = true;
    return 0;
}

static int read_get(struct cairn_exchange *exchange, const struct cairn_schema *schema,
                    struct cairn_get_request *out, struct cairn_error *err)
{
    if (cairn_handler_no_params(exchange, err) != 0)
        return err->code;
    if (exchange->media == CAIRN_MEDIA_FLATBUFFERS)
        return cairn_wire_get_decode(exchange->body, &exchange->arena, out, err);
    return read_get_json(exchange, schema, out, err);
}

static int answer_json(struct cairn_exchange *exchange, struct get *get, struct cairn_error *err)
{
    struct cairn_json_writer writer;
    struct cairn_row_writing writing = {.plan = get->plan, .writer = &writer, .err = err};
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "results");
    cairn_json_begin_array(&writer);
    int code = cairn_router_get(exchange->router, &get->fetch, cairn_row_visit_found, &writing,
                                &exchange->contract, err);
    if (code != 0 || writing.code != 0)
        return err->code;
    cairn_json_end_array(&writer);
    cairn_exchange_end_object(exchange, &writer);
    return 0;
}

static int answer_flatbuffers(struct cairn_exchange *exchange, struct get *get,
                              struct cairn_error *err)
{
    struct binary_writing writing = {
        .plan = &get->plan, .encoder = exchange->scratch.encoder, .err = err};
    cairn_wire_get_begin(writing.encoder, get->request.projection.meta);
    int code = cairn_router_get(exchange->router, &get->fetch, add_row, &writing,
                                &exchange->contract, err);
    cairn_arena_release(&writing.arena);
    if (code != 0 || writing.code != 0)
        return err->code;
    cairn_handler_set_flatbuffers(exchange, cairn_wire_get_end(writing.encoder));
    return 0;
}

static int answer_get(struct cairn_exchange *exchange, struct cairn_error *err)
{
    struct get *get = exchange->handler_state;
    return cairn_handler_wants_flatbuffers(exchange) ? answer_flatbuffers(exchange, get, err)
                                                     : answer_json(exchange, get, err);
}

static void get_run(struct cairn_exchange *exchange)
{
    struct cairn_error err = {0};
    struct get *get = cairn_arena_zalloc(&exchange->arena, sizeof *get);
    get->schema = cairn_handler_schema(exchange, &err);
    int code =
        get->schema == NULL ? err.code : read_get(exchange, get->schema, &get->request, &err);
    if (code == 0 && cairn_reading_keeps(exchange))
        cairn_projection_keep(&get->request.projection, &exchange->arena);
    if (code == 0)
        code = cairn_row_plan_init(&get->plan, exchange->router, get->schema,
                                   &get->request.projection, &exchange->arena, &err);
    if (code == 0) {
        get_start(exchange, get, answer_get);
        return;
    }
    cairn_schema_unref(get->schema);
    cairn_handler_fail(exchange, &err);
}

void cairn_handle_entities_get(struct cairn_exchange *exchange)
{
    cairn_handler_run_reads(exchange, get_run);
}

/* "a,b" or "*" of a query parameter, as the array or string that a body would have. */
static int param_names(struct cairn_exchange *exchange, const char *name, bool *all,
                       struct cairn_str **out, uint32_t *count, struct cairn_error *err)
{
    struct cairn_str text;
    *count = 0;
    *out = NULL;
    if (!cairn_exchange_param(exchange, name, &text) ||
        cairn_str_eq(text, CAIRN_STR_LITERAL("*"))) {
        *all = true;
        return 0;
    }
    *all = false;
    uint32_t room = 1;
    for (uint32_t i = 0; i < text.len; i++)
        room += text.ptr[i] == ',';
    *out = cairn_arena_alloc(&exchange->arena, room * sizeof **out);
    for (uint32_t start = 0; start < text.len;) {
        const char *comma = memchr(text.ptr + start, ',', text.len - start);
        uint32_t end = comma != NULL ? (uint32_t)(comma - text.ptr) : text.len;
        (*out)[(*count)++] = (struct cairn_str){text.ptr + start, end - start};
        start = end + 1;
    }
    if (cairn_names_repeated(*out, *count, &exchange->arena) != NULL)
        return cairn_fail(err, CAIRN_EPARAM, "%s: names one twice", name);
    return 0;
}

static int read_one_params(struct cairn_exchange *exchange, const struct cairn_schema *schema,
                           struct cairn_projection *out, struct cairn_error *err)
{
    static const char *const known[] = {"features", "vectors", "meta", NULL};
    struct cairn_str meta, *names;
    bool all;
    if (cairn_exchange_check_params(exchange, known, err) != 0)
        return err->code;
    if (param_names(exchange, "features", &out->all_features, &names, &out->features_count, err) !=
        0)
        return err->code;
    out->features = names;
    if (param_names(exchange, "vectors", &all, &names, &out->vectors_count, err) != 0)
        return err->code;
    out->vectors = names;
    if (all)
        cairn_projection_all_vectors(schema, &exchange->arena, out);
    if (!cairn_exchange_param(exchange, "meta", &meta))
        return 0;
    return cairn_meta_parse(meta, &out->meta)
               ? 0
               : cairn_fail(err, CAIRN_EPARAM, "meta: must be none, times or full");
}

/* The object of one entity, with the offset that an if_offset of a later write compares with. */
static void write_one(void *context, uint32_t at, const struct cairn_row_ref *row)
{
    struct cairn_row_writing *writing = context;
    struct cairn_json_writer *writer = writing->writer;
    (void)at;
    if (!row->found) {
        writing->code =
            cairn_fail(writing->err, CAIRN_ENOENTITY, "the collection has no entity with this key");
        return;
    }
    cairn_json_key(writer, "key");
    cairn_json_write_str(writer, row->key);
    cairn_json_key(writer, "found");
    cairn_json_write_bool(writer, true);
    cairn_json_key(writer, "shard");
    cairn_shard_write(row->shard, writer);
    cairn_json_key(writer, "offset");
    cairn_json_write_u64(writer, cairn_row_view_newest(&row->view).offset);
    writing->code = cairn_row_write(&writing->plan, row, writer, writing->err);
}

static int answer_one(struct cairn_exchange *exchange, struct cairn_error *err)
{
    struct get *get = exchange->handler_state;
    struct cairn_json_writer writer;
    struct cairn_row_writing writing = {.plan = get->plan, .writer = &writer, .err = err};
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    int code = cairn_router_get(exchange->router, &get->fetch, write_one, &writing,
                                &exchange->contract, err);
    if (code != 0 || writing.code != 0)
        return err->code;
    cairn_exchange_end_object(exchange, &writer);
    return 0;
}

void cairn_handle_entity_get(struct cairn_exchange *exchange)
{
    struct cairn_error err = {0};
    struct get *get = cairn_arena_zalloc(&exchange->arena, sizeof *get);
    struct cairn_str key = exchange->segments[4];
    get->request.keys = &exchange->segments[4];
    get->request.keys_count = 1;
    get->schema = cairn_handler_schema(exchange, &err);
    int code = get->schema == NULL
                   ? err.code
                   : read_one_params(exchange, get->schema, &get->request.projection, &err);
    if (code == 0 && cairn_key_check(key, &err) != 0)
        code = cairn_error_prefix(&err, "key");
    if (code == 0)
        code = cairn_row_plan_init(&get->plan, exchange->router, get->schema,
                                   &get->request.projection, &exchange->arena, &err);
    if (code == 0) {
        get_start(exchange, get, answer_one);
        return;
    }
    cairn_schema_unref(get->schema);
    cairn_handler_fail(exchange, &err);
}
