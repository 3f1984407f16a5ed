/* GET /v1/cluster: the shard map and what each shard is doing. */
#include "api/handlers.h"
#include "api/row_json.h"

static void write_report(const struct cairn_shard_report *report, struct cairn_json_writer *writer)
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
    cairn_member_u64("held", report->held_writes, writer);
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
    cairn_member_u64("foreign", report->foreign, writer);
}

static void write_member(const struct cairn_member_info *info, struct cairn_json_writer *writer)
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
    cairn_json_key(writer, "share");
    cairn_json_write_f64(writer, info->share);
    cairn_member_u64("epoch", info->epoch, writer);
    cairn_member_u64("applied", info->applied, writer);
    if (info->report != NULL)
        write_report(info->report, writer);
    cairn_json_end_object(writer);
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
    cairn_router_touch_all(exchange->router, &exchange->contract);
    cairn_router_members(exchange->router, &exchange->arena, &members, &count);
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    cairn_member_u64("epoch", cairn_router_epoch(exchange->router), &writer);
    cairn_json_key(&writer, "shards");
    cairn_json_begin_array(&writer);
    for (uint32_t i = 0; i < count; i++)
        write_member(&members[i], &writer);
    cairn_json_end_array(&writer);
    cairn_exchange_end_object(exchange, &writer);
    cairn_exchange_reply(exchange);
}
