/* What router/cluster.h offers: done here when home is here, else asked of home, in JSON. */
#include <stdio.h>

#include "base/time.h"
#include "router/rebalance.h"

#define CHANGE_US      UINT64_C(30000000)
#define HOME_TRIES_MAX 3u

static const char *const actions[] = {
    [CAIRN_CLUSTER_SET] = "set",     [CAIRN_CLUSTER_REMOVE] = "remove", [CAIRN_CLUSTER_TO] = "to",
    [CAIRN_CLUSTER_ABORT] = "abort", [CAIRN_CLUSTER_RESUME] = "resume",
};
#define ACTIONS (sizeof actions / sizeof actions[0])

/* Ask home, which may turn out to be elsewhere. *root is valid until the parser's next parse. */
static int ask_home(struct cairn_router *router, const struct cairn_buf *text,
                    struct cairn_arena *arena, struct cairn_json_parser *parser,
                    struct cairn_json *root, struct cairn_error *err)
{
    int code = CAIRN_EUNAVAILABLE;
    for (unsigned try = 0; try < HOME_TRIES_MAX; try++) {
        const struct cairn_map *map = router_map(router);
        struct cairn_shard_request request = {.text = {text->data, (uint32_t)text->len}};
        struct cairn_shard_answer answer;
        if (map == NULL)
            return cairn_fail(err, CAIRN_EUNAVAILABLE, "this process knows no shard map yet");
        code = router_ask(router, map, map->home, CAIRN_SHARD_CLUSTER, &request, arena, &answer,
                          CHANGE_US, err);
        cairn_map_unref(map);
        if (code == 0)
            return cairn_json_parse(parser, answer.text, root, err);
        if (code != CAIRN_EUNAVAILABLE && code != CAIRN_ETIMEOUT && err != NULL)
            *err = answer.error; /* home's own words */
        if (code != CAIRN_ENOTOWNER)
            return code;
    }
    return cairn_fail(err, CAIRN_EUNAVAILABLE, "home has moved; try again");
}

int cairn_cluster_change(struct cairn_router *router, const struct cairn_cluster_change *change,
                         uint64_t *plan, struct cairn_error *err)
{
    *plan = 0;
    bool needs_shards =
        change->action != CAIRN_CLUSTER_ABORT && change->action != CAIRN_CLUSTER_RESUME;
    if (needs_shards && change->shards_count == 0)
        return cairn_fail(err, CAIRN_EPARAM, "shards: at least one");
    const struct cairn_map *map = router_map(router);
    if (map == NULL)
        return cairn_fail(err, CAIRN_EUNAVAILABLE, "this process knows no shard map yet");
    int code;
    if (router_has_home(router, map)) {
        code = router_change_here(router, map, change, plan, err);
    } else {
        struct cairn_arena arena = {0};
        struct cairn_buf text = {0};
        struct cairn_json_parser *parser = cairn_json_parser_new();
        struct cairn_json root, value;
        int64_t number = 0;
        router_change_encode(change, &text);
        code = ask_home(router, &text, &arena, parser, &root, err);
        if (code == 0 && cairn_json_get(root, "plan", &value) && cairn_json_i64(value, &number))
            *plan = (uint64_t)number;
        cairn_json_parser_free(&parser);
        cairn_buf_release(&text);
        cairn_arena_release(&arena);
    }
    cairn_map_unref(map);
    return code;
}

int cairn_cluster_jobs(struct cairn_router *router, struct cairn_arena *arena,
                       struct cairn_job_status **jobs, uint32_t *count, struct cairn_error *err)
{
    *count = 0;
    const struct cairn_map *map = router_map(router);
    if (map == NULL)
        return cairn_fail(err, CAIRN_EUNAVAILABLE, "this process knows no shard map yet");
    int code = 0;
    if (router_has_home(router, map)) {
        router_jobs_follow(router->rebalance, map);
        router_jobs_copy(router->rebalance, arena, jobs, count);
    } else {
        struct cairn_buf text = {0};
        struct cairn_json_parser *parser = cairn_json_parser_new();
        struct cairn_json root;
        cairn_buf_printf(&text, "{\"action\":\"jobs\"}");
        code = ask_home(router, &text, arena, parser, &root, err);
        if (code == 0)
            code = router_jobs_decode(root, arena, jobs, count, err);
        cairn_json_parser_free(&parser);
        cairn_buf_release(&text);
    }
    cairn_map_unref(map);
    return code;
}

const struct cairn_map *cairn_cluster_map(struct cairn_router *router)
{
    return router_map(router);
}

/* Answer with text, which moves to the arena. */
static void set_text(struct cairn_buf *text, struct cairn_arena *arena,
                     struct cairn_shard_answer *answer)
{
    answer->text = cairn_arena_dup(arena, (struct cairn_str){text->data, (uint32_t)text->len});
    cairn_buf_release(text);
}

static int serve(struct cairn_router *router, struct cairn_json root, struct cairn_arena *arena,
                 struct cairn_shard_answer *answer)
{
    struct cairn_cluster_change change;
    struct cairn_buf text = {0};
    struct cairn_json value;
    struct cairn_str action;
    uint64_t plan;
    int code;
    if (cairn_json_get(root, "action", &value) && cairn_json_str(value, &action) &&
        cairn_str_eq(action, CAIRN_STR_LITERAL("jobs"))) {
        struct cairn_job_status *jobs;
        uint32_t count;
        code = cairn_cluster_jobs(router, arena, &jobs, &count, &answer->error);
        if (code == 0)
            router_jobs_encode(jobs, count, &text);
    } else {
        code = router_change_decode(root, arena, &change, &answer->error);
        if (code == 0)
            code = cairn_cluster_change(router, &change, &plan, &answer->error);
        if (code == 0)
            cairn_buf_printf(&text, "{\"plan\":%llu}", (unsigned long long)plan);
    }
    if (code == 0)
        set_text(&text, arena, answer);
    return code;
}

int router_cluster_serve(struct cairn_router *router, const struct cairn_shard_request *request,
                         struct cairn_arena *arena, struct cairn_shard_answer *answer)
{
    const struct cairn_map *map = router_map(router);
    struct cairn_json root;
    if (map == NULL)
        return cairn_fail(&answer->error, CAIRN_EUNAVAILABLE,
                          "this process knows no shard map yet");
    if (!router_has_home(router, map)) {
        /* Not passed on: two processes that take each other for home would never end. */
        struct cairn_buf text = {0};
        cairn_map_encode(map, &text);
        set_text(&text, arena, answer);
        cairn_fail(&answer->error, CAIRN_ENOTOWNER, "home is shard s%u, in another process",
                   map->home);
        cairn_map_unref(map);
        return CAIRN_ENOTOWNER;
    }
    cairn_map_unref(map);
    struct cairn_json_parser *parser = cairn_json_parser_new();
    int code = cairn_json_parse(parser, request->text, &root, &answer->error);
    if (code == 0)
        code = serve(router, root, arena, answer);
    cairn_json_parser_free(&parser);
    return code;
}

void router_change_encode(const struct cairn_cluster_change *change, struct cairn_buf *out)
{
    struct cairn_json_writer writer;
    cairn_json_writer_init(&writer, out);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "action");
    cairn_json_write_str(&writer, cairn_str_from(actions[change->action]));
    cairn_json_key(&writer, "shards");
    cairn_json_begin_array(&writer);
    for (uint32_t i = 0; i < change->shards_count; i++) {
        cairn_json_begin_object(&writer);
        cairn_json_key(&writer, "id");
        cairn_json_write_u64(&writer, change->shards[i].id);
        cairn_json_key(&writer, "url");
        cairn_json_write_str(&writer, change->shards[i].url);
        cairn_json_key(&writer, "weight");
        cairn_json_write_f64(&writer, change->shards[i].planned_weight);
        cairn_json_end_object(&writer);
    }
    cairn_json_end_array(&writer);
    cairn_json_key(&writer, "only_add");
    cairn_json_write_bool(&writer, change->only_add);
    cairn_json_key(&writer, "only_drain");
    cairn_json_write_bool(&writer, change->only_drain);
    cairn_json_end_object(&writer);
}

static int decode_shard(struct cairn_json json, struct cairn_arena *arena,
                        struct cairn_map_shard *out, struct cairn_error *err)
{
    struct cairn_json value;
    struct cairn_str url = {"", 0};
    int64_t id = -1;
    *out = (struct cairn_map_shard){0};
    if (!cairn_json_get(json, "id", &value) || !cairn_json_i64(value, &id) || id < 0 ||
        id >= CAIRN_SHARDS_MAX)
        return cairn_fail(err, CAIRN_EPARAM, "id: must be a number below %u", CAIRN_SHARDS_MAX);
    if (cairn_json_get(json, "url", &value) && !cairn_json_str(value, &url))
        return cairn_fail(err, CAIRN_EPARAM, "url: must be a string");
    if (cairn_json_get(json, "weight", &value) && !cairn_json_f64(value, &out->planned_weight))
        return cairn_fail(err, CAIRN_EPARAM, "weight: must be a number");
    out->id = (uint32_t)id;
    out->url = cairn_arena_dup(arena, url);
    return 0;
}

static bool decode_bool(struct cairn_json root, const char *name)
{
    struct cairn_json value;
    bool truth = false;
    return cairn_json_get(root, name, &value) && cairn_json_bool(value, &truth) && truth;
}

int router_change_decode(struct cairn_json root, struct cairn_arena *arena,
                         struct cairn_cluster_change *out, struct cairn_error *err)
{
    struct cairn_json value, element;
    struct cairn_json_iter iter;
    struct cairn_str action = {"", 0};
    size_t count = 0;
    unsigned at = 0;
    *out = (struct cairn_cluster_change){0};
    if (cairn_json_get(root, "action", &value))
        (void)cairn_json_str(value, &action);
    while (at < ACTIONS && !cairn_str_eq(action, cairn_str_from(actions[at])))
        at++;
    if (at == ACTIONS)
        return cairn_fail(err, CAIRN_EPARAM, "action: \"%.*s\" is none", CAIRN_STR_ARG(action));
    if (cairn_json_get(root, "shards", &value) && !cairn_json_array(value, &iter, &count))
        return cairn_fail(err, CAIRN_EPARAM, "shards: must be an array");
    if (count > CAIRN_SHARDS_MAX)
        return cairn_fail(err, CAIRN_EPARAM, "shards: at most %u", CAIRN_SHARDS_MAX);
    struct cairn_map_shard *shards = cairn_arena_alloc(arena, (count + 1) * sizeof *shards);
    for (size_t i = 0; i < count && cairn_json_element(&iter, &element); i++) {
        int code = decode_shard(element, arena, &shards[i], err);
        if (code != 0)
            return cairn_error_prefix(err, "shards[%zu]", i);
    }
    out->action = (enum cairn_cluster_action)at;
    out->shards = shards;
    out->shards_count = (uint32_t)count;
    out->only_add = decode_bool(root, "only_add");
    out->only_drain = decode_bool(root, "only_drain");
    return 0;
}
