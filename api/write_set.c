#include "api/write_set.h"

#include "api/row_json.h"

void cairn_write_set_init(struct cairn_write_set *set, struct cairn_router *router,
                          const struct cairn_schema *schema, struct cairn_arena *arena,
                          uint32_t capacity)
{
    *set = (struct cairn_write_set){.router = router,
                                    .schema = schema,
                                    .has_routes = cairn_router_has_routes(router, schema),
                                    .arena = arena,
                                    .capacity = capacity};
    set->items = cairn_arena_alloc(arena, capacity * sizeof *set->items);
    set->results = cairn_arena_zalloc(arena, capacity * sizeof *set->results);
}

/* Only collections with routes pay for a look-up. */
static int settle_route(struct cairn_write_set *set, struct cairn_entity *entity, bool *changed,
                        struct cairn_error *err)
{
    *changed = false;
    if (set->settled || (!set->has_routes && entity->route.len == 0))
        return 0;
    if (!set->may_block && cairn_router_may_block(set->router))
        return cairn_fail(err, CAIRN_ENOTOWNER, "the entity's route must be asked for");
    return cairn_router_settle_route(set->router, set->schema, entity, set->arena, changed, err);
}

/* `kept` holds the entity's key and route for as long as the set lives. */
static void add_item(struct cairn_write_set *set, const struct cairn_entity *kept,
                     struct cairn_str payload)
{
    set->items[set->count++] = (struct cairn_router_item){
        .key = kept->key, .route = kept->route, .payload = payload, .if_offset = kept->if_offset};
}

static void add_copy(struct cairn_write_set *set, const struct cairn_entity *entity,
                     struct cairn_encoder *encoder)
{
    struct cairn_str encoded = cairn_entity_encode(encoder, entity);
    struct cairn_entity kept = *entity;
    kept.key = cairn_arena_dup(set->arena, entity->key);
    kept.route = cairn_arena_dup(set->arena, entity->route);
    add_item(set, &kept, cairn_arena_dup(set->arena, encoded));
}

int cairn_write_set_add(struct cairn_write_set *set, const struct cairn_entity *entity,
                        struct cairn_encoder *encoder, struct cairn_error *err)
{
    struct cairn_entity settled = *entity;
    bool changed;
    int code = cairn_entity_check(entity, err);
    if (code == 0)
        code = cairn_entity_validate(set->schema, entity, err);
    if (code == 0)
        code = settle_route(set, &settled, &changed, err);
    if (code == 0)
        add_copy(set, &settled, encoder);
    return code;
}

int cairn_write_set_add_encoded(struct cairn_write_set *set, struct cairn_str bytes,
                                struct cairn_encoder *encoder, struct cairn_error *err)
{
    struct cairn_entity entity;
    bool changed = false;
    int code = cairn_entity_decode(bytes, set->arena, &entity, err);
    if (code == 0)
        code = cairn_entity_validate(set->schema, &entity, err);
    if (code == 0)
        code = settle_route(set, &entity, &changed, err);
    if (code != 0)
        return code;
    if (changed)
        add_copy(set, &entity, encoder);
    else
        add_item(set, &entity, bytes);
    return 0;
}

void cairn_write_result_write(struct cairn_str key, const struct cairn_write_result *result,
                              struct cairn_json_writer *writer)
{
    cairn_json_begin_object(writer);
    cairn_json_key(writer, "key");
    cairn_json_write_str(writer, key);
    cairn_json_key(writer, "status");
    cairn_json_write_str(writer, cairn_str_from(cairn_write_status_name(result->status)));
    cairn_json_key(writer, "shard");
    cairn_shard_write(result->shard, writer);
    cairn_json_key(writer, "offset");
    cairn_json_write_u64(writer, result->offset);
    cairn_json_end_object(writer);
}

void cairn_write_explain(const struct cairn_router_write *write, struct cairn_error *err)
{
    *err = write->error;
    if (write->failed_shards < write->shards_count)
        cairn_fail(err, err->code,
                   "%s (%u of %u shards had committed their part of the request, which stays)",
                   err->message, write->shards_count - write->failed_shards, write->shards_count);
}
