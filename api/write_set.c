#include "api/write_set.h"

#include "api/row_json.h"

void cairn_write_set_init(struct cairn_write_set *set, const struct cairn_schema *schema,
                          struct cairn_arena *arena, uint32_t capacity)
{
    *set = (struct cairn_write_set){.schema = schema, .arena = arena, .capacity = capacity};
    set->items = cairn_arena_alloc(arena, capacity * sizeof *set->items);
    set->results = cairn_arena_zalloc(arena, capacity * sizeof *set->results);
}

void cairn_write_set_add_encoded(struct cairn_write_set *set, const struct cairn_entity *entity,
                                 struct cairn_str bytes)
{
    set->items[set->count++] = (struct cairn_router_item){.key = entity->key,
                                                          .route = entity->route,
                                                          .payload = bytes,
                                                          .if_offset = entity->if_offset};
}

int cairn_write_set_add(struct cairn_write_set *set, const struct cairn_entity *entity,
                        struct cairn_encoder *encoder, struct cairn_error *err)
{
    int code = cairn_entity_check(entity, err);
    if (code == 0)
        code = cairn_entity_validate(set->schema, entity, err);
    if (code != 0)
        return code;
    struct cairn_str encoded = cairn_entity_encode(encoder, entity);
    char *payload = cairn_arena_alloc(set->arena, encoded.len);
    memcpy(payload, encoded.ptr, encoded.len);
    set->items[set->count++] =
        (struct cairn_router_item){.key = cairn_arena_dup(set->arena, entity->key),
                                   .route = cairn_arena_dup(set->arena, entity->route),
                                   .payload = {payload, encoded.len},
                                   .if_offset = entity->if_offset};
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
