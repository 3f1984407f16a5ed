/* Making, changing and dropping collections. The process that has the map's home does it, one
 * change at a time, and writes it to every shard of the map; others ask it to. */
#include <stdlib.h>

#include "base/hash.h"
#include "router/internal.h"

struct schema_write {
    struct cairn_shard_write write;
    struct router_remote remote;
    struct router_member *member;
    struct cairn_write_result result;
    struct cairn_error error;
};

static void submit_schema(struct schema_write *one, const struct cairn_map *map,
                          const struct cairn_shard_item *item, struct router_latch *latch,
                          uint64_t deadline_us)
{
    one->result = (struct cairn_write_result){0};
    if (one->member->local == NULL) {
        struct cairn_shard_request request = {.cluster = map != NULL ? map->cluster : 0,
                                              .epoch = map != NULL ? map->epoch : 0,
                                              .collection = item->collection,
                                              .items = item,
                                              .items_count = 1};
        router_remote_init(&one->remote, one->member->router, one->member, CAIRN_SHARD_WRITE,
                           router_latch_remote_done, latch);
        router_remote_start(&one->remote, &request, deadline_us);
        return;
    }
    one->write = (struct cairn_shard_write){.items = item,
                                            .count = 1,
                                            .results = &one->result,
                                            .done = router_latch_write_done,
                                            .context = latch};
    if (cairn_shard_submit(one->member->local, &one->write) != 0)
        router_latch_release(latch);
}

static void finish_schema(struct schema_write *one)
{
    if (one->member->local != NULL) {
        one->error = one->write.error;
        return;
    }
    struct cairn_arena arena = {0};
    struct cairn_shard_answer answer;
    (void)router_remote_take(&one->remote, &arena, &answer);
    one->error = answer.error;
    router_remote_end(&one->remote);
    cairn_arena_release(&arena);
}

int router_schema_write(struct cairn_router *router, const struct cairn_schema *schema,
                        const uint32_t *ids, uint32_t count, uint32_t *written,
                        struct cairn_contract *contract, uint64_t deadline_us,
                        struct cairn_error *err)
{
    struct cairn_buf text = {0};
    struct router_latch latch;
    struct schema_write *writes = cairn_calloc(count + 1, sizeof *writes);
    const struct cairn_map *map = router_map(router);
    int code = 0;
    cairn_schema_encode(schema, &text);
    struct cairn_shard_item item = {.kind = CAIRN_RECORD_SCHEMA,
                                    .collection = schema->id,
                                    .token = cairn_token(schema->name, schema->name),
                                    .payload = {text.data, (uint32_t)text.len},
                                    .if_offset = CAIRN_OFFSET_NONE};
    router_latch_init(&latch, count);
    for (uint32_t i = 0; i < count; i++) {
        writes[i].member = router_member(router, ids[i]);
        submit_schema(&writes[i], map, &item, &latch, deadline_us);
    }
    router_latch_wait(&latch);
    *written = 0;
    for (uint32_t i = 0; i < count; i++) {
        finish_schema(&writes[i]);
        *written += writes[i].error.code == 0;
        if (writes[i].error.code != 0 && code == 0) {
            code = writes[i].error.code;
            if (err != NULL)
                *err = writes[i].error;
        }
        if (contract != NULL && map != NULL)
            router_touch(router, map, contract, ids[i]);
    }
    cairn_map_unref(map);
    cairn_buf_release(&text);
    free(writes);
    return code;
}

/* To every shard of the map, those that own nothing too. */
static int write_all(struct cairn_router *router, const struct cairn_schema *schema,
                     uint32_t *written, uint32_t *shards, struct cairn_contract *contract,
                     struct cairn_error *err)
{
    uint32_t ids[CAIRN_SHARDS_MAX];
    const struct cairn_map *map;
    *written = *shards = 0;
    int code = router_map_need(router, &map, err);
    if (code != 0)
        return code;
    for (uint32_t i = 0; i < map->shards_count; i++)
        ids[(*shards)++] = map->shards[i].id;
    cairn_map_unref(map);
    code = router_schema_write(router, schema, ids, *shards, written, contract,
                               cairn_time_monotonic_us() + ROUTER_CALL_US, err);
    if (code != 0 && *written > 0)
        cairn_error_prefix(err,
                           "the collection is %s on %u of %u shards so far, the others follow when "
                           "they can",
                           schema->dropped ? "dropped" : "changed", *written, *shards);
    return code;
}

/* A version higher than any that this process or a shard has seen. change_lock is held. */
static uint64_t next_version(struct cairn_router *router)
{
    uint64_t version = atomic_load(&router->catalog_version) + 1;
    atomic_store(&router->catalog_version, version);
    return version;
}

static int put_new(struct cairn_router *router, const struct cairn_schema *asked,
                   const struct cairn_schema **out, uint32_t *written,
                   struct cairn_contract *contract, struct cairn_error *err)
{
    uint32_t shards;
    pthread_rwlock_wrlock(&router->catalog_lock);
    uint32_t count = 0, id = ++router->last_id;
    for (uint32_t i = 0; i < router->schemas_count; i++)
        count += !router->schemas[i]->dropped;
    pthread_rwlock_unlock(&router->catalog_lock);
    if (count >= CAIRN_COLLECTIONS_MAX)
        return cairn_fail(err, CAIRN_ECONFLICT,
                          "there are %u collections already, which is the limit",
                          CAIRN_COLLECTIONS_MAX);
    *out = cairn_schema_with_identity(asked, id, next_version(router),
                                      router->io->now_us(router->io->context), false);
    return write_all(router, *out, written, &shards, contract, err);
}

static int put_change(struct cairn_router *router, const struct cairn_schema *current,
                      const struct cairn_schema *asked, const struct cairn_schema **out,
                      uint32_t *written, struct cairn_contract *contract, struct cairn_error *err)
{
    bool changed;
    uint32_t shards;
    const struct cairn_schema *evolved = NULL;
    int code = cairn_schema_evolve(current, asked, &evolved, &changed, err);
    if (code != 0)
        return code;
    if (!changed) {
        *out = evolved;
        cairn_router_touch_all(router, contract);
        return 0;
    }
    *out = cairn_schema_with_identity(evolved, current->id, next_version(router),
                                      current->created_us, false);
    cairn_schema_unref(evolved);
    return write_all(router, *out, written, &shards, contract, err);
}

/* A record cannot be taken back, so what one shard has of a change holds from then on, and the
 * watch thread of home's process brings it to the others. */
int router_collection_put(struct cairn_router *router, const struct cairn_schema *asked,
                          const struct cairn_schema **out, bool *created,
                          struct cairn_contract *contract, struct cairn_error *err)
{
    *out = NULL;
    pthread_mutex_lock(&router->change_lock);
    const struct cairn_schema *current = cairn_router_schema(router, asked->name);
    *created = current == NULL;
    uint32_t written = 0;
    int code = current == NULL ? put_new(router, asked, out, &written, contract, err)
                               : put_change(router, current, asked, out, &written, contract, err);
    if (written > 0)
        router_catalog_take(router, cairn_schema_ref(*out));
    cairn_schema_unref(current);
    if (code != 0 && *out != NULL) {
        cairn_schema_unref(*out);
        *out = NULL;
    }
    pthread_mutex_unlock(&router->change_lock);
    return code;
}

int router_collection_drop(struct cairn_router *router, struct cairn_str name,
                           struct cairn_contract *contract, struct cairn_error *err)
{
    pthread_mutex_lock(&router->change_lock);
    int code = 0;
    const struct cairn_schema *current = cairn_router_schema(router, name);
    if (current == NULL) {
        code = cairn_fail(err, CAIRN_ENOCOLLECTION, "there is no collection %.*s",
                          CAIRN_STR_ARG(name));
    } else {
        const struct cairn_schema *dropped = cairn_schema_with_identity(
            current, current->id, next_version(router), current->created_us, true);
        uint32_t written, shards;
        code = write_all(router, dropped, &written, &shards, contract, err);
        if (written > 0)
            router_catalog_take(router, dropped);
        else
            cairn_schema_unref(dropped);
        cairn_schema_unref(current);
    }
    pthread_mutex_unlock(&router->change_lock);
    return code;
}

/* Whether home is here; else *home says where. */
static int find_home(struct cairn_router *router, bool *here, uint32_t *home,
                     struct cairn_error *err)
{
    const struct cairn_map *map;
    int code = router_map_need(router, &map, err);
    if (code != 0)
        return code;
    *home = map->home;
    *here = router_local(router, map->home) != NULL;
    cairn_map_unref(map);
    return 0;
}

/* What home said of where the shards were when they had the change. */
static void take_position(struct cairn_router *router, const struct cairn_shard_answer *answer,
                          struct cairn_contract *contract)
{
    struct cairn_position position = {0};
    if (answer->texts_count == 1)
        (void)cairn_position_parse_merge(answer->texts[0], &position, NULL);
    for (uint32_t i = 0; i < position.count; i++) {
        struct router_member *member = router_member(router, position.at[i].shard);
        if (member != NULL && member->local == NULL)
            router_raise(&member->applied, position.at[i].offset);
        cairn_position_touch(&contract->position, position.at[i].shard, position.at[i].offset);
    }
    if (contract->position.epoch < position.epoch)
        contract->position.epoch = position.epoch;
}

/* Have home do it. The answer's text lives in the arena. */
static int ask_home(struct cairn_router *router, uint32_t home, enum cairn_shard_op op,
                    struct cairn_str text, struct cairn_arena *arena,
                    struct cairn_shard_answer *answer, struct cairn_error *err)
{
    struct cairn_shard_request request = {.text = text};
    int code = router_call(router, home, op, &request, arena, answer,
                           cairn_time_monotonic_us() + 3 * ROUTER_CALL_US);
    if (code != 0)
        *err = answer->error;
    return code;
}

int cairn_router_collection_put(struct cairn_router *router, const struct cairn_schema *asked,
                                const struct cairn_schema **out, bool *created,
                                struct cairn_contract *contract, struct cairn_error *err)
{
    bool here;
    uint32_t home;
    *out = NULL;
    int code = find_home(router, &here, &home, err);
    if (code != 0)
        return code;
    if (here)
        return router_collection_put(router, asked, out, created, contract, err);
    struct cairn_arena arena = {0};
    struct cairn_buf text = {0};
    struct cairn_shard_answer answer;
    /* The text of a schema has an identity; home gives it its own. */
    const struct cairn_schema *named =
        cairn_schema_with_identity(asked, 1, 1, router->io->now_us(router->io->context), false);
    cairn_schema_encode(named, &text);
    cairn_schema_unref(named);
    code = ask_home(router, home, CAIRN_SHARD_COLLECTION_PUT,
                    (struct cairn_str){text.data, (uint32_t)text.len}, &arena, &answer, err);
    if (code == 0)
        code = cairn_schema_decode(answer.text, out, err);
    if (code == 0) {
        *created = answer.created;
        router_catalog_take(router, cairn_schema_ref(*out));
        take_position(router, &answer, contract);
    }
    cairn_buf_release(&text);
    cairn_arena_release(&arena);
    return code;
}

int cairn_router_collection_drop(struct cairn_router *router, struct cairn_str name,
                                 struct cairn_contract *contract, struct cairn_error *err)
{
    bool here;
    uint32_t home;
    int code = find_home(router, &here, &home, err);
    if (code != 0)
        return code;
    if (here)
        return router_collection_drop(router, name, contract, err);
    struct cairn_arena arena = {0};
    struct cairn_shard_answer answer;
    code = ask_home(router, home, CAIRN_SHARD_COLLECTION_DROP, name, &arena, &answer, err);
    if (code == 0)
        take_position(router, &answer, contract);
    cairn_arena_release(&arena);
    return code == 0
               ? router_catalog_refresh(router, cairn_time_monotonic_us() + ROUTER_CALL_US, err)
               : code;
}
