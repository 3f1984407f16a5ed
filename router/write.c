/* Scattering a write over shards and gathering the answers.
 *
 * The gather lives in the caller's arena and outlives the submit call; the last shard to answer
 * calls the caller's done. One count holds the gather while submit is still handing out parts. */
#include "base/hash.h"
#include "router/internal.h"

struct write_part {
    struct cairn_shard_write write;
    uint32_t shard;
    struct write_gather *gather;
};

struct write_gather {
    struct cairn_router *router;
    struct cairn_router_write *whole;
    atomic_uint pending;
    struct write_part *parts;
    uint32_t parts_count;
    struct cairn_shard_item *items;     /* grouped by shard */
    struct cairn_write_result *results; /* in the order of items */
    uint32_t *places;                   /* item i of the caller stands at places[i] */
};

static void gather_finish(struct write_gather *gather)
{
    struct cairn_router_write *whole = gather->whole;
    whole->shards_count = gather->parts_count;
    whole->failed_shards = 0;
    whole->contract.position.epoch = gather->router->epoch;
    for (uint32_t i = 0; i < gather->parts_count; i++) {
        struct write_part *part = &gather->parts[i];
        if (part->write.error.code != 0) {
            if (whole->failed_shards++ == 0)
                whole->error = part->write.error;
            continue;
        }
        uint64_t offset = part->write.results[part->write.count - 1].offset;
        cairn_position_touch(&whole->contract.position, part->shard, offset);
    }
    for (uint32_t i = 0; i < whole->count; i++)
        whole->results[i] = gather->results[gather->places[i]];
    whole->contract.partial = whole->failed_shards > 0;
    whole->done(whole);
}

static void gather_release(struct write_gather *gather)
{
    if (atomic_fetch_sub(&gather->pending, 1) == 1)
        gather_finish(gather);
}

static void part_done(struct cairn_shard_write *write)
{
    struct write_part *part = write->context;
    gather_release(part->gather);
}

/* Group items by shard with a counting sort that keeps the caller's order within each shard. */
static void group_items(struct cairn_router *router, struct write_gather *gather,
                        struct cairn_arena *arena)
{
    const struct cairn_router_write *whole = gather->whole;
    uint32_t starts[CAIRN_SHARDS_MAX + 1] = {0};
    uint32_t *shards = cairn_arena_alloc(arena, whole->count * sizeof *shards);
    uint64_t *tokens = cairn_arena_alloc(arena, whole->count * sizeof *tokens);
    for (uint32_t i = 0; i < whole->count; i++) {
        const struct cairn_router_item *item = &whole->items[i];
        shards[i] = router_place(router, whole->schema,
                                 item->route.len > 0 ? item->route : item->key, &tokens[i]);
        starts[shards[i] + 1]++;
    }
    for (uint32_t s = 0; s < router->shards_count; s++)
        starts[s + 1] += starts[s];
    for (uint32_t s = 0; s < router->shards_count; s++) {
        uint32_t count = starts[s + 1] - starts[s];
        if (count == 0)
            continue;
        struct write_part *part = &gather->parts[gather->parts_count++];
        part->shard = s;
        part->gather = gather;
        part->write = (struct cairn_shard_write){.items = &gather->items[starts[s]],
                                                 .count = count,
                                                 .results = &gather->results[starts[s]],
                                                 .done = part_done,
                                                 .context = part};
    }
    for (uint32_t i = 0; i < whole->count; i++) {
        const struct cairn_router_item *item = &whole->items[i];
        gather->places[i] = starts[shards[i]]++;
        gather->items[gather->places[i]] =
            (struct cairn_shard_item){.kind = CAIRN_RECORD_ENTITY,
                                      .collection = whole->schema->id,
                                      .token = tokens[i],
                                      .payload = item->payload,
                                      .key = item->key,
                                      .if_offset = item->if_offset};
    }
}

void cairn_router_submit(struct cairn_router *router, struct cairn_router_write *write)
{
    struct cairn_arena *arena = write->arena;
    struct write_gather *gather = cairn_arena_zalloc(arena, sizeof *gather);
    gather->router = router;
    gather->whole = write;
    gather->parts = cairn_arena_alloc(arena, router->shards_count * sizeof *gather->parts);
    gather->items = cairn_arena_alloc(arena, write->count * sizeof *gather->items);
    gather->results = cairn_arena_zalloc(arena, write->count * sizeof *gather->results);
    gather->places = cairn_arena_alloc(arena, write->count * sizeof *gather->places);
    write->gather = gather;
    write->error = (struct cairn_error){.code = 0};
    write->contract = (struct cairn_contract){.partial = false};
    group_items(router, gather, arena);

    uint32_t parts_count = gather->parts_count;
    atomic_init(&gather->pending, parts_count + 1);
    for (uint32_t i = 0; i < parts_count; i++)
        if (cairn_shard_submit(router->shards[gather->parts[i].shard], &gather->parts[i].write) !=
            0)
            gather_release(gather);
    gather_release(gather);
}

int cairn_router_settle_route(struct cairn_router *router, const struct cairn_schema *schema,
                              struct cairn_entity *entity, struct cairn_arena *arena, bool *changed,
                              struct cairn_error *err)
{
    struct cairn_row_pin pin = {0};
    struct cairn_contract contract = {0};
    uint32_t shard;
    *changed = false;
    if (cairn_str_eq(entity->route, entity->key))
        entity->route.len = 0;
    int code = router_find(router, schema, entity->key, &contract, &shard, &pin, err);
    if (code == 0 && pin.found) {
        struct cairn_str route = cairn_row_view_route(&pin.view);
        if (entity->route.len == 0 && route.len > 0) {
            entity->route = cairn_arena_dup(arena, route);
            *changed = true;
        } else if (!cairn_str_eq(entity->route, route)) {
            struct cairn_str held = route.len > 0 ? route : entity->key;
            code = cairn_fail(
                err, CAIRN_EPRECONDITION,
                "route: entity %.*s has the route %.*s, which it keeps until it is deleted",
                CAIRN_STR_ARG(entity->key), CAIRN_STR_ARG(held));
        }
    }
    cairn_row_pin_release(&pin);
    return code;
}

struct write_waiting {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
};

static void wake(struct cairn_router_write *write)
{
    struct write_waiting *waiting = write->context;
    pthread_mutex_lock(&waiting->lock);
    waiting->done = true;
    pthread_cond_signal(&waiting->changed);
    pthread_mutex_unlock(&waiting->lock);
}

int cairn_router_write_wait(struct cairn_router *router, struct cairn_router_write *write)
{
    struct write_waiting waiting = {.done = false};
    pthread_mutex_init(&waiting.lock, NULL);
    pthread_cond_init(&waiting.changed, NULL);
    write->done = wake;
    write->context = &waiting;
    cairn_router_submit(router, write);
    pthread_mutex_lock(&waiting.lock);
    while (!waiting.done)
        pthread_cond_wait(&waiting.changed, &waiting.lock);
    pthread_mutex_unlock(&waiting.lock);
    pthread_cond_destroy(&waiting.changed);
    pthread_mutex_destroy(&waiting.lock);
    return write->error.code;
}
