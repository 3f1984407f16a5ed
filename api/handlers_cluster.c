/* GET /v1/cluster: the shard map and what each shard is doing. */
#include "api/handlers.h"
#include "api/row_json.h"

static void write_shard(const struct cairn_shard_info *info, struct cairn_json_writer *writer)
{
    const struct cairn_shard_stats *stats = &info->stats;
    bool serving = info->state == CAIRN_SHARD_SERVING;
    cairn_json_begin_object(writer);
    cairn_json_key(writer, "id");
    cairn_shard_write(stats->id, writer);
    cairn_json_key(writer, "state");
    cairn_json_write_str(writer, cairn_str_from(serving ? "serving" : "read_only"));
    if (!serving) {
        cairn_json_key(writer, "reason");
        cairn_json_write_str(writer, cairn_str_from(info->reason));
    }
    cairn_json_key(writer, "weight");
    cairn_json_write_f64(writer, info->weight);
    cairn_member_u64("applied", stats->applied, writer);
    cairn_member_u64("entities", stats->entities, writer);
    cairn_json_key(writer, "log");
    cairn_json_begin_object(writer);
    cairn_member_u64("end_offset", stats->log.end_offset, writer);
    cairn_member_u64("bytes", stats->log.bytes, writer);
    cairn_member_u64("segments", stats->log.segments_count, writer);
    cairn_json_end_object(writer);
    cairn_json_key(writer, "queue");
    cairn_json_begin_object(writer);
    cairn_member_u64("writes", stats->queued_writes, writer);
    cairn_member_u64("bytes", stats->queued_bytes, writer);
    cairn_json_end_object(writer);
    cairn_json_key(writer, "bytes");
    cairn_json_begin_object(writer);
    cairn_member_u64("row_disk", stats->row_disk_bytes, writer);
    cairn_member_u64("row_memory", stats->row_memory_bytes, writer);
    cairn_member_u64("index_disk", stats->index_disk_bytes, writer);
    cairn_member_u64("index_memory", stats->index_memory_bytes, writer);
    cairn_json_end_object(writer);
    cairn_json_end_object(writer);
}

void cairn_handle_cluster(struct cairn_exchange *exchange)
{
    struct cairn_error err = {0};
    struct cairn_json_writer writer;
    if (cairn_handler_no_params(exchange, &err) != 0) {
        cairn_exchange_fail(exchange, &err);
        return;
    }
    exchange->has_contract = true;
    exchange->contract.position.epoch = cairn_router_epoch(exchange->router);
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    cairn_member_u64("epoch", cairn_router_epoch(exchange->router), &writer);
    cairn_json_key(&writer, "shards");
    cairn_json_begin_array(&writer);
    for (uint32_t i = 0; i < cairn_router_shards_count(exchange->router); i++) {
        struct cairn_shard_info info;
        cairn_router_shard_info(exchange->router, i, &info);
        cairn_position_touch(&exchange->contract.position, info.stats.id, info.stats.applied);
        write_shard(&info, &writer);
    }
    cairn_json_end_array(&writer);
    cairn_exchange_end_object(exchange, &writer);
    cairn_exchange_reply(exchange);
}
