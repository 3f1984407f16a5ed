/* What other processes ask of this one: operations on its shards, and, of the process that has
 * home, changes of collections and of the cluster. */
#include <stdlib.h>

#include "router/internal.h"

#define HERE_KEYS_MAX 256u /* reads by key that do not hold a loop for long */

enum cairn_serve_place cairn_router_serve_place(enum cairn_shard_op op,
                                                const struct cairn_shard_request *request)
{
    switch (op) {
    case CAIRN_SHARD_WRITE:
        return CAIRN_SERVE_HERE;
    case CAIRN_SHARD_GET:
        return request->keys_count <= HERE_KEYS_MAX ? CAIRN_SERVE_HERE : CAIRN_SERVE_WORKER;
    case CAIRN_SHARD_SEARCH:
    case CAIRN_SHARD_SCAN:
    case CAIRN_SHARD_COUNT:
        return CAIRN_SERVE_WORKER;
    default:
        return CAIRN_SERVE_CONTROL;
    }
}

int cairn_router_on_place(struct cairn_router *router, enum cairn_serve_place place,
                          void (*run)(void *arg), void *arg)
{
    return cairn_pool_submit(place == CAIRN_SERVE_CONTROL ? router->controls : router->servers, run,
                             arg);
}

static void learn_from(struct cairn_router *router, struct cairn_shard *shard)
{
    if (cairn_shard_epoch(shard) <= atomic_load(&router->epoch))
        return;
    const struct cairn_map *map = cairn_shard_map(shard);
    if (map != NULL)
        router_learn(router, map);
    cairn_map_unref(map);
}

static int collection_put(struct cairn_router *router, const struct cairn_shard_request *request,
                          struct cairn_contract *contract, struct cairn_arena *arena,
                          struct cairn_shard_answer *answer)
{
    const struct cairn_schema *asked = NULL, *made = NULL;
    int code = cairn_schema_decode(request->text, &asked, &answer->error);
    if (code != 0)
        return code;
    code = router_collection_put(router, asked, &made, &answer->created, contract, &answer->error);
    cairn_schema_unref(asked);
    if (code != 0)
        return code;
    struct cairn_buf text = {0};
    cairn_schema_encode(made, &text);
    answer->text = cairn_arena_dup(arena, (struct cairn_str){text.data, (uint32_t)text.len});
    cairn_buf_release(&text);
    cairn_schema_unref(made);
    return 0;
}

/* Where the shards were when they had the change: the answer's only text. */
static void say_position(const struct cairn_contract *contract, struct cairn_arena *arena,
                         struct cairn_shard_answer *answer)
{
    char *text = cairn_arena_alloc(arena, CAIRN_POSITION_TEXT_BYTES);
    struct cairn_str *one = cairn_arena_alloc(arena, sizeof *one);
    *one = (struct cairn_str){text, cairn_position_format(&contract->position, text)};
    answer->texts = one;
    answer->texts_count = 1;
}

/* Operations of the process that has home. */
static int execute_home(struct cairn_router *router, uint32_t shard, enum cairn_shard_op op,
                        const struct cairn_shard_request *request, struct cairn_arena *arena,
                        struct cairn_shard_answer *answer)
{
    const struct cairn_map *map;
    struct cairn_contract contract = {0};
    int code = router_map_need(router, &map, &answer->error);
    if (code != 0)
        return code;
    bool is_home = map->home == shard;
    uint32_t home = map->home;
    cairn_map_unref(map);
    if (!is_home)
        return cairn_fail(&answer->error, CAIRN_ENOTOWNER, "home is shard s%u, not s%u", home,
                          shard);
    if (op == CAIRN_SHARD_CLUSTER)
        return router_cluster_serve(router, request, arena, answer);
    code = op == CAIRN_SHARD_COLLECTION_PUT
               ? collection_put(router, request, &contract, arena, answer)
               : router_collection_drop(router, request->text, &contract, &answer->error);
    if (code == 0)
        say_position(&contract, arena, answer);
    return code;
}

int router_execute(struct cairn_router *router, uint32_t shard, enum cairn_shard_op op,
                   const struct cairn_shard_request *request, struct cairn_arena *arena,
                   struct cairn_shard_answer *answer)
{
    struct cairn_shard *local = router_local(router, shard);
    int code;
    *answer = (struct cairn_shard_answer){.shard = shard};
    switch (op) {
    case CAIRN_SHARD_IMPORT:
        code = router_import_start(router, shard, request, answer);
        cairn_shard_answer_complete(local, arena, answer);
        break;
    case CAIRN_SHARD_IMPORT_STATE:
        code = router_import_state(router, shard, request, arena, answer);
        cairn_shard_answer_complete(local, arena, answer);
        break;
    case CAIRN_SHARD_COLLECTION_PUT:
    case CAIRN_SHARD_COLLECTION_DROP:
    case CAIRN_SHARD_CLUSTER:
        code = execute_home(router, shard, op, request, arena, answer);
        cairn_shard_answer_complete(local, arena, answer);
        break;
    default:
        cairn_shard_execute(local, op, request, arena, answer);
        code = answer->error.code;
    }
    answer->error.code = code;
    learn_from(router, local);
    return code;
}

/* What a caller must get right before a shard is asked. */
static int check_request(struct cairn_router *router, uint32_t shard, enum cairn_shard_op op,
                         const struct cairn_shard_request *request, struct cairn_error *err)
{
    if (router_local(router, shard) == NULL)
        return cairn_fail(err, CAIRN_EUNAVAILABLE,
                          "this process does not have shard s%u; the shard map or the flag --shard "
                          "names another one",
                          shard);
    const struct cairn_map *map = router_map(router);
    bool foreign = map != NULL && request->cluster != 0 && request->cluster != map->cluster;
    cairn_map_unref(map);
    if (foreign && op != CAIRN_SHARD_ADOPT)
        return cairn_fail(err, CAIRN_EPARAM,
                          "the request is of cluster %016llx, and shard s%u belongs to another one",
                          (unsigned long long)request->cluster, shard);
    return 0;
}

void cairn_router_serve(struct cairn_router *router, uint32_t shard, enum cairn_shard_op op,
                        const struct cairn_shard_request *request, struct cairn_arena *arena,
                        struct cairn_shard_answer *answer)
{
    *answer = (struct cairn_shard_answer){.shard = shard};
    int code = check_request(router, shard, op, request, &answer->error);
    if (code == 0)
        (void)router_execute(router, shard, op, request, arena, answer);
    else
        answer->error.code = code;
}

static void write_done(struct cairn_shard_write *write)
{
    struct cairn_serve_write *serving = write->context;
    serving->done(serving);
}

void cairn_router_serve_write(struct cairn_router *router, struct cairn_serve_write *serving)
{
    const struct cairn_shard_request *request = serving->request;
    struct cairn_shard_write *write = &serving->write;
    *write = (struct cairn_shard_write){.items = request->items,
                                        .count = request->items_count,
                                        .done = write_done,
                                        .context = serving};
    int code = check_request(router, serving->shard, CAIRN_SHARD_WRITE, request, &write->error);
    for (uint32_t i = 0; i < write->count && code == 0; i++)
        if (write->items[i].kind != CAIRN_RECORD_ENTITY &&
            write->items[i].kind != CAIRN_RECORD_SCHEMA)
            code = cairn_fail(&write->error, CAIRN_EPARAM, "items[%u]: kind %u is not written so",
                              i, write->items[i].kind);
    if (code == 0 && write->count == 0)
        code = cairn_fail(&write->error, CAIRN_EPARAM, "items: at least one is needed");
    write->results = cairn_arena_zalloc(serving->arena, write->count * sizeof *write->results + 1);
    if (code != 0 || cairn_shard_submit(router_local(router, serving->shard), write) != 0)
        serving->done(serving);
}

void cairn_router_serve_write_answer(struct cairn_router *router, struct cairn_serve_write *serving,
                                     struct cairn_shard_answer *answer)
{
    struct cairn_shard *local = router_local(router, serving->shard);
    const struct cairn_shard_write *write = &serving->write;
    *answer = (struct cairn_shard_answer){.shard = serving->shard, .error = write->error};
    if (local == NULL)
        return;
    if (write->error.code == 0) {
        answer->results = write->results;
        answer->results_count = write->count;
        for (uint32_t i = 0; i < write->count; i++)
            if (write->items[i].kind == CAIRN_RECORD_SCHEMA)
                router_catalog_take_text(router, write->items[i].payload);
    }
    cairn_shard_answer_complete(local, serving->arena, answer);
    learn_from(router, local);
}
