/* Deleting entities: by keys, one by its path, or all that match a filter.
 *
 * A delete goes to the shard of the entity's route. Where a collection has entities with a route of
 * their own, the rows are read first to learn it. */
#include <stdlib.h>

#include "api/fields.h"
#include "api/handlers.h"
#include "api/write_set.h"
#include "base/filter.h"

#define CHUNK_KEYS 1000u /* entities of one write of a delete by filter */

struct delete_keys {
    struct cairn_write_set set;
    struct cairn_router_write write;
};

static int add_delete(struct cairn_write_set *set, struct cairn_encoder *encoder,
                      struct cairn_str key, struct cairn_str route, struct cairn_error *err)
{
    struct cairn_entity entity = {.key = key,
                                  .route = route,
                                  .event_time_us = CAIRN_TIME_NONE,
                                  .op = CAIRN_OP_DELETE,
                                  .if_offset = CAIRN_OFFSET_NONE};
    return cairn_write_set_add(set, &entity, encoder, err);
}

struct route_reading {
    struct cairn_arena *arena;
    struct cairn_str *routes;
};

static void read_route(void *context, uint32_t at, const struct cairn_row_ref *row)
{
    struct route_reading *reading = context;
    reading->routes[at] = row->found
                              ? cairn_arena_dup(reading->arena, cairn_row_view_route(&row->view))
                              : (struct cairn_str){NULL, 0};
}

/* The routes of the entities, in the arena; NULL when none has one of its own. */
static int find_routes(struct cairn_exchange *exchange, const struct cairn_schema *schema,
                       const struct cairn_str *keys, uint32_t count, struct cairn_str **out,
                       struct cairn_error *err)
{
    struct cairn_contract contract = {0};
    *out = NULL;
    /* Shards elsewhere may have their first routes since they last reported. */
    bool remote = cairn_router_may_block(exchange->router);
    if (!remote && !cairn_router_has_routes(exchange->router, schema))
        return 0;
    *out = cairn_arena_alloc(&exchange->arena, count * sizeof **out);
    struct route_reading reading = {&exchange->arena, *out};
    struct cairn_router_fetch fetch = {.schema = schema,
                                       .keys = keys,
                                       .count = count,
                                       .arena = &exchange->arena,
                                       .deadline_us = exchange->deadline_us};
    if (exchange->may_block)
        return cairn_router_get_wait(exchange->router, &fetch, read_route, &reading, &contract,
                                     err);
    if (remote)
        return cairn_fail(err, CAIRN_ENOTOWNER, "the entities' routes must be asked for");
    int code = cairn_router_get(exchange->router, &fetch, read_route, &reading, &contract, err);
    cairn_router_fetch_end(&fetch);
    return code;
}

static void delete_finish(struct cairn_exchange *exchange)
{
    struct delete_keys *delete = exchange->handler_state;
    struct cairn_json_writer writer;
    cairn_schema_unref(delete->set.schema);
    exchange->has_contract = true;
    exchange->contract = delete->write.contract;
    if (delete->write.error.code != 0) {
        struct cairn_error err;
        cairn_write_explain(&delete->write, &err);
        cairn_exchange_fail(exchange, &err);
        return;
    }
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "results");
    cairn_json_begin_array(&writer);
    for (uint32_t i = 0; i < delete->set.count; i++)
        cairn_write_result_write(delete->set.items[i].key, &delete->set.results[i], &writer);
    cairn_json_end_array(&writer);
    cairn_exchange_end_object(exchange, &writer);
    cairn_exchange_reply(exchange);
}

static void delete_done(struct cairn_router_write *write)
{
    cairn_exchange_resume(write->context, delete_finish);
}

/* Submit the deletes of `keys` and park. Takes the reference of the schema when it succeeds. */
static int submit_keys(struct cairn_exchange *exchange, const struct cairn_schema *schema,
                       const struct cairn_str *keys, uint32_t count, struct cairn_error *err)
{
    struct delete_keys *delete = cairn_arena_zalloc(&exchange->arena, sizeof *delete);
    struct cairn_str *routes;
    int code = find_routes(exchange, schema, keys, count, &routes, err);
    if (code != 0)
        return code;
    cairn_write_set_init(&delete->set, exchange->router, schema, &exchange->arena, count);
    delete->set.settled = true;
    for (uint32_t i = 0; code == 0 && i < count; i++)
        code = add_delete(&delete->set, exchange->scratch.encoder, keys[i],
                          routes != NULL ? routes[i] : (struct cairn_str){NULL, 0}, err);
    if (code != 0)
        return code;
    delete->write = (struct cairn_router_write){.schema = schema,
                                                .items = delete->set.items,
                                                .count = count,
                                                .deadline_us = exchange->deadline_us,
                                                .arena = &exchange->arena,
                                                .results = delete->set.results,
                                                .done = delete_done,
                                                .context = exchange};
    exchange->handler_state = delete;
    exchange->acted = true;
    cairn_router_submit(exchange->router, &delete->write);
    return 0;
}

/* One round of a delete by filter: the next matches in key order, then their deletes. */
struct delete_chunk {
    struct cairn_arena arena;
    struct cairn_str keys[CHUNK_KEYS], routes[CHUNK_KEYS];
    uint32_t count;
};

static void collect_match(void *context, uint32_t at, const struct cairn_row_ref *row)
{
    struct delete_chunk *chunk = context;
    chunk->keys[at] = cairn_arena_dup(&chunk->arena, row->key);
    chunk->routes[at] = cairn_arena_dup(&chunk->arena, cairn_row_view_route(&row->view));
    chunk->count = at + 1;
}

static void merge_position(struct cairn_contract *into, const struct cairn_contract *from)
{
    into->position.epoch = from->position.epoch;
    for (uint32_t i = 0; i < from->position.count; i++)
        cairn_position_touch(&into->position, from->position.at[i].shard,
                             from->position.at[i].offset);
}

static int delete_chunk_write(struct cairn_exchange *exchange, const struct cairn_schema *schema,
                              struct delete_chunk *chunk, struct cairn_json_writer *writer,
                              struct cairn_error *err)
{
    struct cairn_write_set set;
    cairn_write_set_init(&set, exchange->router, schema, &chunk->arena, chunk->count);
    set.settled = true;
    for (uint32_t i = 0; i < chunk->count; i++)
        if (add_delete(&set, exchange->scratch.encoder, chunk->keys[i], chunk->routes[i], err) != 0)
            return err->code;
    struct cairn_router_write *write = cairn_arena_zalloc(&chunk->arena, sizeof *write);
    write->schema = schema;
    write->items = set.items;
    write->count = set.count;
    write->arena = &chunk->arena;
    write->deadline_us = exchange->deadline_us;
    exchange->acted = true;
    write->results = set.results;
    int code = cairn_router_write_wait(exchange->router, write);
    merge_position(&exchange->contract, &write->contract);
    if (code != 0) {
        cairn_write_explain(write, err);
        return code;
    }
    for (uint32_t i = 0; i < set.count; i++)
        cairn_write_result_write(set.items[i].key, &set.results[i], writer);
    return 0;
}

/* On a worker. Writes the results into the array that is open; *more says whether
 * CAIRN_DELETE_MATCHES_MAX stopped it. */
static int delete_matches(struct cairn_exchange *exchange, const struct cairn_schema *schema,
                          struct cairn_router_scan *scan, struct cairn_json_writer *writer,
                          bool *more, struct cairn_error *err)
{
    struct delete_chunk *chunk = cairn_calloc(1, sizeof *chunk);
    char last_key[CAIRN_KEY_BYTES_MAX];
    uint32_t deleted = 0;
    int code = 0;
    *more = true;
    while (code == 0 && *more && deleted < CAIRN_DELETE_MATCHES_MAX) {
        uint32_t left = CAIRN_DELETE_MATCHES_MAX - deleted;
        scan->limit = left < CHUNK_KEYS ? left : CHUNK_KEYS;
        cairn_arena_reset(&chunk->arena);
        chunk->count = 0;
        if (cairn_time_monotonic_us() > exchange->deadline_us)
            code = cairn_fail(err, CAIRN_ETIMEOUT, "out of time");
        else
            code = cairn_router_scroll(exchange->router, schema, scan, collect_match, chunk, more,
                                       &exchange->contract, err);
        if (code != 0 || chunk->count == 0)
            break;
        scan->after_key = (struct cairn_str){last_key, chunk->keys[chunk->count - 1].len};
        memcpy(last_key, chunk->keys[chunk->count - 1].ptr, scan->after_key.len);
        code = delete_chunk_write(exchange, schema, chunk, writer, err);
        if (code == 0)
            deleted += chunk->count;
    }
    if (code != 0)
        cairn_error_prefix(err, "after %u entities had been deleted", deleted);
    cairn_arena_release(&chunk->arena);
    free(chunk);
    return code;
}

static void delete_by_filter(struct cairn_exchange *exchange, const struct cairn_schema *schema,
                             struct cairn_json json)
{
    struct cairn_error err = {0};
    struct cairn_router_scan scan = {.deadline_us = exchange->deadline_us};
    struct cairn_json_writer writer;
    bool more = false;
    int code = cairn_filter_parse(json, schema, &exchange->arena, &scan.filter, &err);
    if (code == 0) {
        scan.filter_json = cairn_json_text(json, &exchange->arena);
        exchange->has_contract = true;
        cairn_json_writer_init(&writer, &exchange->out);
        cairn_json_begin_object(&writer);
        cairn_json_key(&writer, "results");
        cairn_json_begin_array(&writer);
        code = delete_matches(exchange, schema, &scan, &writer, &more, &err);
    }
    if (code != 0) {
        cairn_handler_fail(exchange, &err);
        return;
    }
    cairn_json_end_array(&writer);
    cairn_json_key(&writer, "more");
    cairn_json_write_bool(&writer, more);
    cairn_exchange_end_object(exchange, &writer);
    cairn_exchange_reply(exchange);
}

/* On a worker: a filter is a scan. */
void cairn_handle_entities_delete(struct cairn_exchange *exchange)
{
    enum { KEYS, FILTER, COUNT };
    static const struct cairn_str names[COUNT] = {CAIRN_FIELD("keys"), CAIRN_FIELD("filter")};
    struct cairn_error err = {0};
    struct cairn_json root, values[COUNT];
    struct cairn_str *keys;
    uint32_t count;
    const struct cairn_schema *schema = cairn_handler_schema(exchange, &err);
    if (schema == NULL || cairn_handler_no_params(exchange, &err) != 0 ||
        cairn_exchange_json(exchange, &root, &err) != 0 ||
        cairn_fields_read(root, names, COUNT, values, &err) != 0)
        goto refused;
    if (cairn_field_given(values[KEYS]) == cairn_field_given(values[FILTER])) {
        cairn_fail(&err, CAIRN_EFIELD, "keys: give either keys or a filter");
        goto refused;
    }
    if (cairn_field_given(values[FILTER])) {
        delete_by_filter(exchange, schema, values[FILTER]);
        cairn_schema_unref(schema);
        return;
    }
    if (cairn_keys_read(values[KEYS], "keys", &exchange->arena, &keys, &count, &err) == 0 &&
        submit_keys(exchange, schema, keys, count, &err) == 0)
        return;
refused:
    cairn_schema_unref(schema);
    cairn_exchange_fail(exchange, &err);
}

void cairn_handle_entity_delete(struct cairn_exchange *exchange)
{
    struct cairn_error err = {0};
    struct cairn_str key = exchange->segments[4];
    const struct cairn_schema *schema = cairn_handler_schema(exchange, &err);
    int code = schema == NULL ? err.code : cairn_handler_no_params(exchange, &err);
    if (code == 0 && cairn_key_check(key, &err) != 0)
        code = cairn_error_prefix(&err, "key");
    if (code == 0 && submit_keys(exchange, schema, &key, 1, &err) == 0)
        return;
    cairn_schema_unref(schema);
    cairn_exchange_fail(exchange, &err);
}
