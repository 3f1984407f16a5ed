/* Collections: create or evolve, describe, list, drop. */
#include "api/fields.h"
#include "api/handlers.h"

#define LIST_AGE_US 1000u /* of the list of collections */

static void write_time(const char *name, int64_t time_us, struct cairn_json_writer *writer)
{
    cairn_json_key(writer, name);
    if (time_us == CAIRN_TIME_NONE)
        cairn_json_write_null(writer);
    else
        cairn_json_write_time(writer, time_us);
}

static void write_word(const char *name, const char *word, struct cairn_json_writer *writer)
{
    cairn_json_key(writer, name);
    cairn_json_write_str(writer, cairn_str_from(word));
}

static void write_schema_members(const struct cairn_schema *schema,
                                 struct cairn_json_writer *writer)
{
    cairn_json_key(writer, "name");
    cairn_json_write_str(writer, schema->name);
    cairn_member_u64("version", schema->version, writer);
    write_time("created_at", schema->created_us, writer);
    cairn_schema_write_members(schema, writer);
}

static void write_index(const struct cairn_vector_def *vector,
                        const struct cairn_index_stats *stats, struct cairn_json_writer *writer)
{
    cairn_json_begin_object(writer);
    cairn_json_key(writer, "vector");
    cairn_json_write_str(writer, vector->name);
    write_word("kind", cairn_index_kind_name(vector->index.kind), writer);
    write_word("built_kind", cairn_index_kind_name(stats->built_kind), writer);
    cairn_member_u64("live", stats->live, writer);
    cairn_member_u64("built", stats->built, writer);
    cairn_member_u64("tail", stats->tail, writer);
    cairn_member_u64("tombstones", stats->tombstones, writer);
    cairn_member_u64("generation_offset", stats->generation_offset, writer);
    cairn_member_u64("indexed_offset", stats->indexed_offset, writer);
    cairn_json_key(writer, "building");
    cairn_json_write_bool(writer, stats->building);
    cairn_member_u64("builds", stats->builds, writer);
    cairn_member_u64("memory_bytes", stats->memory_bytes, writer);
    cairn_member_u64("disk_bytes", stats->disk_bytes, writer);
    cairn_json_end_object(writer);
}

/* The array "indexes"; adds up what they hold. */
static void write_indexes(struct cairn_router *router, const struct cairn_schema *schema,
                          uint64_t *memory_bytes, uint64_t *disk_bytes,
                          struct cairn_json_writer *writer)
{
    *memory_bytes = *disk_bytes = 0;
    cairn_json_key(writer, "indexes");
    cairn_json_begin_array(writer);
    for (uint32_t i = 0; i < schema->vectors_count; i++) {
        struct cairn_index_stats stats = {0};
        if (cairn_router_index_stats(router, schema, schema->vectors[i].name, &stats) != 0)
            continue; /* dropped meanwhile */
        write_index(&schema->vectors[i], &stats, writer);
        *memory_bytes += stats.memory_bytes;
        *disk_bytes += stats.disk_bytes;
    }
    cairn_json_end_array(writer);
}

static void write_collection(struct cairn_exchange *exchange, const struct cairn_schema *schema,
                             struct cairn_json_writer *writer)
{
    struct cairn_collection_counts counts = {0};
    uint64_t memory_bytes, disk_bytes;
    cairn_router_collection_counts(exchange->router, schema, &counts);
    write_schema_members(schema, writer);
    cairn_json_key(writer, "counts");
    cairn_json_begin_object(writer);
    cairn_member_u64("entities", counts.entities, writer);
    cairn_member_u64("routed", counts.routed, writer);
    cairn_json_end_object(writer);
    write_time("newest_event_time", counts.newest_event_us, writer);
    write_time("newest_ingest_time", counts.newest_ingest_us, writer);
    write_indexes(exchange->router, schema, &memory_bytes, &disk_bytes, writer);
    cairn_json_key(writer, "bytes");
    cairn_json_begin_object(writer);
    cairn_member_u64("index_memory", memory_bytes, writer);
    cairn_member_u64("index_disk", disk_bytes, writer);
    cairn_json_end_object(writer);
}

struct schema_list {
    const struct cairn_schema **schemas;
    uint32_t count;
};

static void add_schema(void *arg, const struct cairn_schema *schema)
{
    struct schema_list *list = arg;
    if (list->count < CAIRN_COLLECTIONS_MAX)
        list->schemas[list->count++] = cairn_schema_ref(schema);
}

/* What every shard has applied now: a description reflects at least that. */
static void touch_all_shards(struct cairn_exchange *exchange)
{
    exchange->has_contract = true;
    cairn_router_refresh(exchange->router, exchange->deadline_us);
    cairn_router_touch_all(exchange->router, &exchange->contract);
}

void cairn_handle_collections_list(struct cairn_exchange *exchange)
{
    struct cairn_error err = {0};
    struct cairn_json_writer writer;
    if (cairn_handler_no_params(exchange, &err) != 0) {
        cairn_exchange_fail(exchange, &err);
        return;
    }
    (void)cairn_router_schema_refresh(exchange->router, cairn_time_monotonic_us() - LIST_AGE_US,
                                      exchange->deadline_us);
    touch_all_shards(exchange);
    /* References are taken first: describing a collection takes locks of its own. */
    struct schema_list list = {
        .schemas = cairn_arena_alloc(&exchange->arena, CAIRN_COLLECTIONS_MAX * sizeof(void *))};
    cairn_router_each_schema(exchange->router, add_schema, &list);
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "collections");
    cairn_json_begin_array(&writer);
    for (uint32_t i = 0; i < list.count; i++) {
        cairn_json_begin_object(&writer);
        write_collection(exchange, list.schemas[i], &writer);
        cairn_json_end_object(&writer);
        cairn_schema_unref(list.schemas[i]);
    }
    cairn_json_end_array(&writer);
    cairn_exchange_end_object(exchange, &writer);
    cairn_exchange_reply(exchange);
}

/* On a worker: the change is durable on every shard before the answer. */
void cairn_handle_collection_put(struct cairn_exchange *exchange)
{
    struct cairn_error err = {0};
    struct cairn_json root;
    struct cairn_json_writer writer;
    const struct cairn_schema *asked = NULL, *schema = NULL;
    bool created = false;
    int code = cairn_handler_no_params(exchange, &err);
    if (code == 0)
        code = cairn_name_check(exchange->segments[2], "collection", &err);
    if (code == 0)
        code = cairn_exchange_json(exchange, &root, &err);
    if (code == 0)
        code = cairn_schema_parse(exchange->segments[2], root, &asked, &err);
    if (code == 0)
        code = cairn_router_collection_put(exchange->router, asked, &schema, &created,
                                           &exchange->contract, &err);
    if (code != 0) {
        cairn_schema_unref(asked);
        cairn_exchange_fail(exchange, &err);
        return;
    }
    exchange->status = created ? 201 : 200;
    exchange->has_contract = true;
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    write_schema_members(schema, &writer);
    cairn_schema_unref(asked);
    cairn_schema_unref(schema);
    cairn_exchange_end_object(exchange, &writer);
    cairn_exchange_reply(exchange);
}

void cairn_handle_collection_get(struct cairn_exchange *exchange)
{
    struct cairn_error err = {0};
    struct cairn_json_writer writer;
    const struct cairn_schema *schema = cairn_handler_schema(exchange, &err);
    if (schema == NULL || cairn_handler_no_params(exchange, &err) != 0) {
        cairn_schema_unref(schema);
        cairn_exchange_fail(exchange, &err);
        return;
    }
    touch_all_shards(exchange);
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    write_collection(exchange, schema, &writer);
    cairn_schema_unref(schema);
    cairn_exchange_end_object(exchange, &writer);
    cairn_exchange_reply(exchange);
}

void cairn_handle_indexes_list(struct cairn_exchange *exchange)
{
    struct cairn_error err = {0};
    struct cairn_json_writer writer;
    uint64_t memory_bytes, disk_bytes;
    const struct cairn_schema *schema = cairn_handler_schema(exchange, &err);
    if (schema == NULL || cairn_handler_no_params(exchange, &err) != 0) {
        cairn_schema_unref(schema);
        cairn_exchange_fail(exchange, &err);
        return;
    }
    touch_all_shards(exchange);
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    write_indexes(exchange->router, schema, &memory_bytes, &disk_bytes, &writer);
    cairn_schema_unref(schema);
    cairn_exchange_end_object(exchange, &writer);
    cairn_exchange_reply(exchange);
}

/* On a worker, like a put. */
void cairn_handle_collection_delete(struct cairn_exchange *exchange)
{
    struct cairn_error err = {0};
    struct cairn_json_writer writer;
    struct cairn_str name = exchange->segments[2];
    int code = cairn_handler_no_params(exchange, &err);
    if (code == 0)
        code = cairn_router_collection_drop(exchange->router, name, &exchange->contract, &err);
    if (code != 0) {
        cairn_exchange_fail(exchange, &err);
        return;
    }
    exchange->has_contract = true;
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "name");
    cairn_json_write_str(&writer, name);
    cairn_json_key(&writer, "deleted");
    cairn_json_write_bool(&writer, true);
    cairn_exchange_end_object(exchange, &writer);
    cairn_exchange_reply(exchange);
}
