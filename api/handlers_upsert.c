/* POST /v1/collections/{c}/entities with a JSON or FlatBuffers body.
 *
 *   loop, or a worker when the body is large: read, validate, encode every entity; submit
 *   writer thread: done -> resume
 *   loop: write the answer
 *
 * Nothing is submitted before every entity of the body has been found valid. */
#include "api/entity_json.h"
#include "api/fields.h"
#include "api/handlers.h"
#include "api/write_set.h"

struct upsert {
    struct cairn_write_set set;
    struct cairn_router_write write;
    enum cairn_entity_op op;
};

static int read_mode(struct cairn_exchange *exchange, enum cairn_entity_op *op,
                     struct cairn_error *err)
{
    static const char *const known[] = {"mode", NULL};
    struct cairn_str mode;
    *op = CAIRN_OP_PATCH;
    if (exchange->query.len == 0)
        return 0;
    if (cairn_exchange_check_params(exchange, known, err) != 0)
        return err->code;
    if (!cairn_exchange_param(exchange, "mode", &mode))
        return 0;
    if (exchange->media == CAIRN_MEDIA_FLATBUFFERS)
        return cairn_fail(err, CAIRN_EPARAM,
                          "mode: a binary body says op in each of its entities instead");
    if (cairn_str_eq(mode, CAIRN_STR_LITERAL("replace")))
        *op = CAIRN_OP_REPLACE;
    else if (!cairn_str_eq(mode, CAIRN_STR_LITERAL("patch")))
        return cairn_fail(err, CAIRN_EPARAM, "mode: must be \"patch\" or \"replace\"");
    return 0;
}

static int entities_count_check(size_t count, struct cairn_error *err)
{
    if (count == 0)
        return cairn_fail(err, CAIRN_EFIELD, "entities: must have at least one entity");
    if (count > CAIRN_BATCH_ENTITIES_MAX)
        return cairn_fail(err, CAIRN_EFIELD,
                          "entities: %zu entities, at most %u in one request; send several, or "
                          "NDJSON",
                          count, CAIRN_BATCH_ENTITIES_MAX);
    return 0;
}

static int read_json(struct cairn_exchange *exchange, const struct cairn_schema *schema,
                     struct upsert *upsert, struct cairn_error *err)
{
    static const struct cairn_str names[] = {CAIRN_FIELD("entities")};
    struct cairn_json root, entities, element;
    struct cairn_json_iter iter;
    size_t count;
    if (cairn_exchange_json(exchange, &root, err) != 0)
        return err->code;
    if (cairn_fields_read(root, names, 1, &entities, err) != 0)
        return err->code;
    if (!cairn_field_given(entities) || !cairn_json_array(entities, &iter, &count))
        return cairn_fail(err, cairn_field_given(entities) ? CAIRN_ETYPE : CAIRN_EFIELD,
                          "entities: must be given, as an array of entities");
    if (entities_count_check(count, err) != 0)
        return err->code;
    cairn_write_set_init(&upsert->set, exchange->router, cairn_schema_ref(schema), &exchange->arena,
                         (uint32_t)count);
    upsert->set.may_block = exchange->may_block;
    /* What is read of one entity lives until it is encoded. */
    struct cairn_arena reading = {0};
    int code = 0;
    for (unsigned i = 0; code == 0 && cairn_json_element(&iter, &element); i++) {
        struct cairn_entity entity;
        code = cairn_entity_read(element, schema, upsert->op, &reading, &entity, err);
        if (code == 0)
            code = cairn_write_set_add(&upsert->set, &entity, exchange->scratch.encoder, err);
        if (code != 0)
            cairn_error_path(err, "entities[%u]", i);
        cairn_arena_reset(&reading);
    }
    cairn_arena_release(&reading);
    return code;
}

static int read_flatbuffers(struct cairn_exchange *exchange, const struct cairn_schema *schema,
                            struct upsert *upsert, struct cairn_error *err)
{
    struct cairn_str *entities;
    uint32_t count;
    if (cairn_wire_upsert_decode(exchange->body, &exchange->arena, &entities, &count, err) != 0 ||
        entities_count_check(count, err) != 0)
        return err->code;
    cairn_write_set_init(&upsert->set, exchange->router, cairn_schema_ref(schema), &exchange->arena,
                         count);
    upsert->set.may_block = exchange->may_block;
    for (uint32_t i = 0; i < count; i++)
        if (cairn_write_set_add_encoded(&upsert->set, entities[i], exchange->scratch.encoder,
                                        err) != 0)
            return cairn_error_path(err, "entities[%u]", i);
    return 0;
}

static void answer_flatbuffers(struct cairn_exchange *exchange, const struct cairn_write_set *set)
{
    struct cairn_str *keys = cairn_arena_alloc(&exchange->arena, set->count * sizeof *keys);
    for (uint32_t i = 0; i < set->count; i++)
        keys[i] = set->items[i].key;
    cairn_handler_set_flatbuffers(
        exchange,
        cairn_wire_upsert_response(exchange->scratch.encoder, keys, set->results, set->count));
    cairn_exchange_reply(exchange);
}

static void answer_json(struct cairn_exchange *exchange, const struct cairn_write_set *set)
{
    struct cairn_json_writer writer;
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "results");
    cairn_json_begin_array(&writer);
    for (uint32_t i = 0; i < set->count; i++)
        cairn_write_result_write(set->items[i].key, &set->results[i], &writer);
    cairn_json_end_array(&writer);
    cairn_exchange_end_object(exchange, &writer);
    cairn_exchange_reply(exchange);
}

/* On the loop, when the write is durable or was refused. */
static void upsert_finish(struct cairn_exchange *exchange)
{
    struct upsert *upsert = exchange->handler_state;
    cairn_schema_unref(upsert->set.schema);
    exchange->has_contract = true;
    exchange->contract = upsert->write.contract;
    if (upsert->write.error.code != 0) {
        struct cairn_error err;
        cairn_write_explain(&upsert->write, &err);
        cairn_exchange_fail(exchange, &err);
    } else if (cairn_handler_wants_flatbuffers(exchange)) {
        answer_flatbuffers(exchange, &upsert->set);
    } else {
        answer_json(exchange, &upsert->set);
    }
}

static void upsert_done(struct cairn_router_write *write)
{
    cairn_exchange_resume(write->context, upsert_finish);
}

void cairn_handle_upsert(struct cairn_exchange *exchange)
{
    struct cairn_error err = {0};
    struct upsert *upsert = cairn_arena_zalloc(&exchange->arena, sizeof *upsert);
    exchange->handler_state = upsert;
    const struct cairn_schema *schema = cairn_handler_schema(exchange, &err);
    int code = schema == NULL ? err.code : read_mode(exchange, &upsert->op, &err);
    if (code == 0)
        code = exchange->media == CAIRN_MEDIA_FLATBUFFERS
                   ? read_flatbuffers(exchange, schema, upsert, &err)
                   : read_json(exchange, schema, upsert, &err);
    cairn_schema_unref(schema);
    if (code != 0) {
        cairn_schema_unref(upsert->set.schema);
        cairn_exchange_fail(exchange, &err);
        return;
    }
    upsert->write = (struct cairn_router_write){.schema = upsert->set.schema,
                                                .items = upsert->set.items,
                                                .count = upsert->set.count,
                                                .deadline_us = exchange->deadline_us,
                                                .arena = &exchange->arena,
                                                .results = upsert->set.results,
                                                .done = upsert_done,
                                                .context = exchange};
    exchange->acted = true;
    cairn_router_submit(exchange->router, &upsert->write);
}

int cairn_handle_upsert_stream_begin(struct cairn_exchange *exchange, struct cairn_error *err)
{
    enum cairn_entity_op *op = cairn_arena_alloc(&exchange->arena, sizeof *op);
    const struct cairn_schema *schema = cairn_handler_schema(exchange, err);
    if (schema == NULL)
        return err->code;
    cairn_schema_unref(schema);
    exchange->handler_state = op;
    return read_mode(exchange, op, err);
}
