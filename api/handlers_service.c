/* What operators and tools ask of the process: health, readiness, metrics, the API's description.
 */
#include "api/handlers.h"
#include "api/openapi.h"
#include "api/row_json.h"

static bool refuse_params(struct cairn_exchange *exchange)
{
    struct cairn_error err = {0};
    if (cairn_handler_no_params(exchange, &err) == 0)
        return false;
    cairn_exchange_fail(exchange, &err);
    return true;
}

/* The process answers; nothing more is asked of it here. */
void cairn_handle_healthz(struct cairn_exchange *exchange)
{
    struct cairn_json_writer writer;
    if (refuse_params(exchange))
        return;
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "status");
    cairn_json_write_str(&writer, CAIRN_STR_LITERAL("ok"));
    cairn_exchange_end_object(exchange, &writer);
    cairn_exchange_reply(exchange);
}

static void write_shard(void *context, uint32_t shard)
{
    cairn_shard_write(shard, context);
}

/* Ready means: reads are served. A shard that refuses writes is named, and does not take the
 * reads of the others away. */
void cairn_handle_readyz(struct cairn_exchange *exchange)
{
    struct cairn_json_writer writer;
    if (refuse_params(exchange))
        return;
    if (exchange->router == NULL) {
        struct cairn_error err;
        cairn_fail(&err, CAIRN_EUNAVAILABLE, "the shards are not open yet");
        cairn_exchange_fail(exchange, &err);
        return;
    }
    struct cairn_error err;
    if (cairn_router_ready(exchange->router, &err) != 0) {
        cairn_exchange_fail(exchange, &err);
        return;
    }
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "status");
    cairn_json_write_str(&writer, CAIRN_STR_LITERAL("ready"));
    cairn_json_key(&writer, "read_only");
    cairn_json_begin_array(&writer);
    cairn_router_each_read_only(exchange->router, write_shard, &writer);
    cairn_json_end_array(&writer);
    cairn_exchange_end_object(exchange, &writer);
    cairn_exchange_reply(exchange);
}

void cairn_handle_metrics(struct cairn_exchange *exchange)
{
    if (refuse_params(exchange))
        return;
    cairn_router_export_metrics(exchange->router);
    cairn_metrics_write(exchange->metrics, &exchange->out);
    exchange->content_type = "text/plain; version=0.0.4; charset=utf-8";
    cairn_exchange_reply(exchange);
}

void cairn_handle_openapi(struct cairn_exchange *exchange)
{
    if (refuse_params(exchange))
        return;
    struct cairn_str text = cairn_openapi_json();
    cairn_buf_append(&exchange->out, text.ptr, text.len);
    cairn_exchange_reply(exchange);
}
