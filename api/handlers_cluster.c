/* GET /v1/cluster: the shard map and what each shard is doing. */
#include <inttypes.h>
#include <stdio.h>

#include "api/handlers.h"
#include "api/row_json.h"
#include "router/cluster.h"

/* Names of collections, by which hot tokens are shown. */
struct names {
    struct cairn_arena *arena;
    struct {
        uint32_t id;
        struct cairn_str name;
    } * at;
    uint32_t count;
};

static void add_name(void *arg, const struct cairn_schema *schema)
{
    struct names *names = arg;
    if (names->count == CAIRN_COLLECTIONS_MAX)
        return;
    names->at[names->count].id = schema->id;
    names->at[names->count].name = cairn_arena_dup(names->arena, schema->name);
    names->count++;
}

/* Tokens of collections that are gone, or not known here yet, are left out. */
static void write_hot(const struct cairn_shard_report *report, const struct names *names,
                      struct cairn_json_writer *writer)
{
    cairn_json_key(writer, "hot");
    cairn_json_begin_array(writer);
    for (uint32_t i = 0; i < report->hot_count; i++) {
        const struct cairn_hot_token *hot = &report->hot[i];
        char token[17];
        uint32_t at = 0;
        while (at < names->count && names->at[at].id != hot->collection)
            at++;
        if (at == names->count)
            continue;
        (void)snprintf(token, sizeof token, "%016" PRIx64, hot->token);
        cairn_json_begin_object(writer);
        cairn_json_key(writer, "token");
        cairn_json_write_str(writer, cairn_str_from(token));
        cairn_json_key(writer, "collection");
        cairn_json_write_str(writer, names->at[at].name);
        cairn_json_key(writer, "key");
        cairn_json_write_str(writer, hot->key);
        cairn_member_u64("reads", hot->reads, writer);
        cairn_member_u64("writes", hot->writes, writer);
        cairn_json_end_object(writer);
    }
    cairn_json_end_array(writer);
}

static void write_report(const struct cairn_shard_report *report, const struct names *names,
                         struct cairn_json_writer *writer)
{
    cairn_member_u64("entities", report->entities, writer);
    cairn_json_key(writer, "log");
    cairn_json_begin_object(writer);
    cairn_member_u64("end_offset", report->log_end_offset, writer);
    cairn_member_u64("bytes", report->log_bytes, writer);
    cairn_member_u64("segments", report->log_segments, writer);
    cairn_json_end_object(writer);
    cairn_json_key(writer, "queue");
    cairn_json_begin_object(writer);
    cairn_member_u64("writes", report->queued_writes, writer);
    cairn_member_u64("bytes", report->queued_bytes, writer);
    cairn_json_end_object(writer);
    cairn_json_key(writer, "bytes");
    cairn_json_begin_object(writer);
    cairn_member_u64("row_disk", report->row_disk_bytes, writer);
    cairn_member_u64("row_memory", report->row_memory_bytes, writer);
    cairn_member_u64("index_disk", report->index_disk_bytes, writer);
    cairn_member_u64("index_memory", report->index_memory_bytes, writer);
    cairn_json_end_object(writer);
    cairn_member_u64("reads", report->reads, writer);
    cairn_member_u64("writes", report->writes, writer);
    cairn_member_u64("held_writes", report->held_writes, writer);
    cairn_member_u64("foreign", report->foreign, writer);
    write_hot(report, names, writer);
}

static void write_member(const struct cairn_member_info *info, const struct names *names,
                         struct cairn_json_writer *writer)
{
    bool read_only = info->report != NULL && info->report->read_only;
    struct cairn_str reason = read_only ? info->report->reason : info->problem;
    cairn_json_begin_object(writer);
    cairn_json_key(writer, "id");
    cairn_shard_write(info->id, writer);
    cairn_json_key(writer, "state");
    cairn_json_write_str(writer, cairn_str_from(!info->up   ? "down"
                                                : read_only ? "read_only"
                                                            : "serving"));
    if (!info->up || read_only) {
        cairn_json_key(writer, "reason");
        cairn_json_write_str(writer, reason);
    }
    cairn_json_key(writer, "url");
    cairn_json_write_str(writer, info->url);
    cairn_json_key(writer, "home");
    cairn_json_write_bool(writer, info->home);
    cairn_json_key(writer, "weight");
    cairn_json_write_f64(writer, info->weight);
    cairn_json_key(writer, "planned_weight");
    cairn_json_write_f64(writer, info->planned_weight);
    cairn_json_key(writer, "share");
    cairn_json_write_f64(writer, info->share);
    cairn_member_u64("epoch", info->epoch, writer);
    cairn_member_u64("applied", info->applied, writer);
    if (info->report != NULL)
        write_report(info->report, names, writer);
    cairn_json_end_object(writer);
}

/* What the map says of the whole cluster; nothing when none is known. */
static void write_map(struct cairn_exchange *exchange, struct cairn_json_writer *writer)
{
    char text[40];
    const struct cairn_map *map = cairn_cluster_map(exchange->router);
    if (map == NULL)
        return;
    cairn_json_key(writer, "cluster");
    (void)snprintf(text, sizeof text, "%016" PRIx64, map->cluster);
    cairn_json_write_str(writer, cairn_str_from(text));
    cairn_json_key(writer, "home");
    cairn_shard_write(map->home, writer);
    cairn_member_u64("vnodes", map->vnodes, writer);
    cairn_json_key(writer, "plan");
    (void)snprintf(text, sizeof text, "rebalance-%" PRIu64, map->plan);
    if (map->plan != 0)
        cairn_json_write_str(writer, cairn_str_from(text));
    else
        cairn_json_write_null(writer);
    cairn_map_unref(map);
}

void cairn_handle_cluster(struct cairn_exchange *exchange)
{
    struct cairn_error err = {0};
    struct cairn_json_writer writer;
    struct cairn_member_info *members;
    uint32_t count;
    if (cairn_handler_no_params(exchange, &err) != 0) {
        cairn_exchange_fail(exchange, &err);
        return;
    }
    exchange->has_contract = true;
    cairn_router_refresh(exchange->router, exchange->deadline_us);
    cairn_router_touch_all(exchange->router, &exchange->contract);
    struct names names = {.arena = &exchange->arena};
    names.at = cairn_arena_alloc(&exchange->arena, CAIRN_COLLECTIONS_MAX * sizeof *names.at);
    cairn_router_each_schema(exchange->router, add_name, &names);
    cairn_router_members(exchange->router, &exchange->arena, &members, &count);
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    cairn_member_u64("epoch", cairn_router_epoch(exchange->router), &writer);
    write_map(exchange, &writer);
    cairn_json_key(&writer, "shards");
    cairn_json_begin_array(&writer);
    for (uint32_t i = 0; i < count; i++)
        write_member(&members[i], &names, &writer);
    cairn_json_end_array(&writer);
    cairn_exchange_end_object(exchange, &writer);
    cairn_exchange_reply(exchange);
}
