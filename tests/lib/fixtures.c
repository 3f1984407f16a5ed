#include "tests/lib/fixtures.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static void die(const char *what, const struct cairn_error *err)
{
    fprintf(stderr, "%s: %s\n", what, err->message);
    abort();
}

const struct cairn_schema *cairn_test_schema(const char *name, const char *json)
{
    struct cairn_error err = {0};
    struct cairn_json root;
    const struct cairn_schema *schema = NULL;
    struct cairn_json_parser *parser = cairn_json_parser_new();
    if (cairn_json_parse(parser, cairn_str_from(json), &root, &err) != 0 ||
        cairn_schema_parse(cairn_str_from(name), root, &schema, &err) != 0)
        die("schema", &err);
    cairn_json_parser_free(&parser);
    return schema;
}

static struct cairn_str encode(struct cairn_arena *arena, const struct cairn_entity *entity)
{
    struct cairn_encoder *encoder = cairn_encoder_new();
    struct cairn_str bytes = cairn_arena_dup(arena, cairn_entity_encode(encoder, entity));
    cairn_encoder_free(&encoder);
    return bytes;
}

struct cairn_str cairn_test_entity(struct cairn_arena *arena, const char *key, const char *route,
                                   int64_t n, const float *f32, uint32_t dim)
{
    struct cairn_feature feature = {.name = CAIRN_STR_LITERAL("n"),
                                    .value = {.type = CAIRN_TYPE_INT64, .as = {.i64 = n}}};
    struct cairn_vector vector = {.name = CAIRN_STR_LITERAL("v"), .f32 = f32, .dim = dim};
    struct cairn_entity entity = {.key = cairn_str_from(key),
                                  .route = cairn_str_from(route),
                                  .event_time_us = CAIRN_TIME_NONE,
                                  .features = &feature,
                                  .features_count = 1,
                                  .vectors = &vector,
                                  .vectors_count = f32 != NULL,
                                  .if_offset = CAIRN_OFFSET_NONE};
    return encode(arena, &entity);
}

struct cairn_str cairn_test_delete(struct cairn_arena *arena, const char *key)
{
    struct cairn_entity entity = {.key = cairn_str_from(key),
                                  .event_time_us = CAIRN_TIME_NONE,
                                  .op = CAIRN_OP_DELETE,
                                  .if_offset = CAIRN_OFFSET_NONE};
    return encode(arena, &entity);
}

struct waiting {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
};

static void wake(struct cairn_shard_write *write)
{
    struct waiting *waiting = write->context;
    pthread_mutex_lock(&waiting->lock);
    waiting->done = true;
    pthread_cond_signal(&waiting->changed);
    pthread_mutex_unlock(&waiting->lock);
}

int cairn_test_shard_write(struct cairn_shard *shard, const struct cairn_shard_item *items,
                           uint32_t count, struct cairn_write_result *results,
                           struct cairn_error *err)
{
    struct waiting waiting = {.lock = PTHREAD_MUTEX_INITIALIZER,
                              .changed = PTHREAD_COND_INITIALIZER};
    struct cairn_shard_write write = {
        .items = items, .count = count, .results = results, .done = wake, .context = &waiting};
    if (cairn_shard_submit(shard, &write) == 0) {
        pthread_mutex_lock(&waiting.lock);
        while (!waiting.done)
            pthread_cond_wait(&waiting.changed, &waiting.lock);
        pthread_mutex_unlock(&waiting.lock);
    }
    *err = write.error;
    return write.error.code;
}

int64_t cairn_test_shard_read(struct cairn_shard *shard, uint32_t collection, const char *key)
{
    struct cairn_row_pin pin = {0};
    struct cairn_row_cell cell;
    struct cairn_error err = {0};
    int64_t number = INT64_MIN;
    const struct cairn_schema *plain = cairn_test_schema("c", "{}");
    const struct cairn_schema *schema = cairn_schema_with_identity(plain, collection, 1, 1, false);
    struct cairn_shard_read read = {.schema = schema};
    if (cairn_shard_get(shard, &read, cairn_str_from(key), &pin, &err) != 0)
        die("get", &err);
    cairn_schema_unref(schema);
    cairn_schema_unref(plain);
    if (pin.found && cairn_row_view_find(&pin.view, false, CAIRN_STR_LITERAL("n"), &cell))
        number = cell.value.as.i64;
    cairn_row_pin_release(&pin);
    return number;
}

void cairn_test_shard_own(struct cairn_shard *shard, uint32_t id)
{
    const struct cairn_map_shard alone = {.id = id, .weight = 1, .planned_weight = 1};
    struct cairn_map_spec spec = {
        .cluster = 1, .epoch = 1, .home = id, .shards = &alone, .shards_count = 1};
    const struct cairn_map *map = NULL;
    struct cairn_error err = {0};
    if (cairn_map_new(&spec, &map, &err) != 0 ||
        cairn_shard_adopt(shard, map, CAIRN_OFFSET_NONE, &err) != 0)
        die("adopt", &err);
    cairn_map_unref(map);
}
