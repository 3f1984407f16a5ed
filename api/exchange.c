/* An exchange's life on the core's side (the handler's side is told in exchange.h).
 *
 *   made        by cairn_exchange_new, on the loop, when a head has arrived
 *   busy        from dispatch to reply or fail: a handler, a worker or a shard's writer may have it
 *   answered    h2o sends from exchange->out; freed by the hook at the end of the h2o request
 *
 * The h2o request may end at any of these points, because the client went away or the server stops.
 * An exchange that is busy then is only cut off from it (req and connection NULL) and freed by its
 * reply. Only the loop's thread looks at req and connection; replies from other threads are posted
 * to it. Freed exchanges are kept with their memory for the next request. */
#include <stdlib.h>

#include "api/body.h"
#include "base/time.h"

static void keep_small(struct cairn_buf *buf)
{
    cairn_buf_clear(buf);
    if (buf->capacity > CAIRN_HTTP_KEPT_BYTES_MAX)
        cairn_buf_release(buf);
}

static struct cairn_exchange *take_kept(struct cairn_loop *loop)
{
    struct cairn_exchange *exchange = loop->exchanges_free;
    if (exchange) {
        loop->exchanges_free = exchange->core->next_free;
        loop->exchanges_free_count--;
        return exchange;
    }
    struct {
        struct cairn_exchange exchange;
        struct cairn_exchange_core core;
    } *both = cairn_calloc(1, sizeof(*both));
    both->exchange.core = &both->core;
    both->core.exchange = &both->exchange;
    return &both->exchange;
}

static void reset_core(struct cairn_exchange_core *core)
{
    struct cairn_exchange *exchange = core->exchange;
    struct cairn_buf body_buf = core->body_buf;
    *core = (struct cairn_exchange_core){.exchange = exchange, .body_buf = body_buf};
}

struct cairn_exchange *cairn_exchange_new(struct cairn_connection *connection, h2o_req_t *req)
{
    struct cairn_loop *loop = connection->loop;
    struct cairn_server *server = loop->server;
    struct cairn_exchange *exchange = take_kept(loop);
    struct cairn_exchange_core *core = exchange->core;
    reset_core(core);
    core->loop = loop;
    core->connection = connection;
    core->req = req;
    core->route_at = server->http_metrics.routes_count;
    core->begin_us = cairn_time_monotonic_us();

    memset(exchange, 0, offsetof(struct cairn_exchange, arena));
    exchange->router = server->router;
    exchange->metrics = server->metrics;
    exchange->scratch = loop->scratch;
    exchange->status = 200;
    exchange->content_type = "application/json";
    exchange->wants_contract = exchange->has_contract = false;
    exchange->contract.position.epoch = 0;
    exchange->contract.position.count = 0;
    exchange->contract.partial = false;
    exchange->contract.wants_indexes = false;
    exchange->contract.indexes = NULL; /* was in the arena of the request before */
    exchange->handler_state = NULL;

    connection->exchange = exchange;
    loop->exchanges_count++;
    cairn_gauge_add(server->http_metrics.in_flight, 1);
    return exchange;
}

void cairn_exchange_free(struct cairn_exchange *exchange)
{
    struct cairn_exchange_core *core = exchange->core;
    struct cairn_loop *loop = core->loop;
    cairn_gauge_add(loop->server->http_metrics.in_flight, -1);
    loop->exchanges_count--;
    cairn_arena_reset(&exchange->arena);
    keep_small(&exchange->out);
    keep_small(&core->body_buf);
    if (loop->exchanges_free_count < CAIRN_HTTP_EXCHANGES_KEPT) {
        core->next_free = loop->exchanges_free;
        loop->exchanges_free = exchange;
        loop->exchanges_free_count++;
        return;
    }
    cairn_arena_release(&exchange->arena);
    cairn_buf_release(&exchange->out);
    cairn_buf_release(&core->body_buf);
    free(exchange);
}

static void add_header(h2o_req_t *req, h2o_iovec_t *name, struct cairn_str value)
{
    h2o_headers_t *headers = &req->res.headers;
    h2o_vector_reserve(&req->pool, headers, headers->size + 1);
    headers->entries[headers->size++] =
        (h2o_header_t){name, NULL, h2o_iovec_init(value.ptr, value.len)};
}

static void add_failure_headers(struct cairn_exchange *exchange)
{
    static h2o_iovec_t retry_after = {H2O_STRLIT("retry-after")};
    static h2o_iovec_t authenticate = {H2O_STRLIT("www-authenticate")};
    static h2o_iovec_t allow = {H2O_STRLIT("allow")};
    struct cairn_exchange_core *core = exchange->core;
    if (core->fail_code == CAIRN_EOVERLOADED)
        add_header(core->req, &retry_after, CAIRN_STR_LITERAL("1"));
    else if (core->fail_code == CAIRN_EUNAUTHORIZED)
        add_header(core->req, &authenticate, CAIRN_STR_LITERAL("Bearer realm=\"cairn\""));
    else if (core->fail_code == CAIRN_EMETHOD)
        add_header(core->req, &allow, core->allow);
}

void cairn_exchange_set_headers(struct cairn_exchange *exchange, struct cairn_answer_text *text)
{
    static h2o_iovec_t content_type = {H2O_STRLIT("content-type")};
    static h2o_iovec_t request_id = {H2O_STRLIT("request-id")};
    static h2o_iovec_t position = {H2O_STRLIT("cairn-position")};
    static h2o_iovec_t complete = {H2O_STRLIT("cairn-complete")};
    struct cairn_exchange_core *core = exchange->core;
    h2o_req_t *req = core->req;
    req->res.status = exchange->status;
    req->res.reason = cairn_http_reason(exchange->status);
    add_header(req, &content_type, cairn_str_from(exchange->content_type));
    add_header(req, &request_id, (struct cairn_str){core->request_id, core->request_id_len});
    if (exchange->has_contract) {
        if (exchange->contract.position.epoch == 0) /* refused before any shard was asked */
            exchange->contract.position.epoch = cairn_router_epoch(exchange->router);
        unsigned len = cairn_position_format(&exchange->contract.position, text->position);
        add_header(req, &position, (struct cairn_str){text->position, len});
        add_header(req, &complete,
                   exchange->contract.partial ? CAIRN_STR_LITERAL("false")
                                              : CAIRN_STR_LITERAL("true"));
    }
    if (core->fail_code != 0)
        add_failure_headers(exchange);
}

static void count_answer(struct cairn_exchange *exchange)
{
    struct cairn_exchange_core *core = exchange->core;
    struct cairn_http_metrics *metrics = &core->loop->server->http_metrics;
    cairn_http_metrics_answered(metrics, core->route_at, exchange->status,
                                cairn_time_monotonic_us() - core->begin_us);
    cairn_counter_add(metrics->request_bytes, core->connection->body.decoded_bytes);
    cairn_counter_add(metrics->response_bytes, exchange->out.len);
}

/* Head and body leave with one writev. */
static void send_answer(struct cairn_exchange *exchange)
{
    struct cairn_exchange_core *core = exchange->core;
    struct cairn_connection *connection = core->connection;
    core->busy = false;
    if (!core->req) {
        cairn_exchange_free(exchange);
        return;
    }
    if (connection->close_asap) {
        cairn_connection_close(connection);
        return;
    }
    count_answer(exchange);
    h2o_req_t *req = core->req;
    if (!cairn_body_finish(connection)) {
        req->http1_is_persistent = 0;
        connection->linger = true;
    }
    if (core->loop->phase != CAIRN_LOOP_SERVING)
        req->http1_is_persistent = 0;
    struct cairn_answer_text text;
    cairn_exchange_set_headers(exchange, &text);
    bool has_body = exchange->status != 204 && exchange->status != 304;
    if (has_body)
        req->res.content_length = exchange->out.len;
    h2o_iovec_t body = {exchange->out.data, exchange->out.len};
    bool send_body = has_body && !core->head && body.len > 0;
    core->answered = true;
    h2o_start_response(req, &core->generator);
    h2o_send(req, &body, send_body ? 1 : 0, H2O_SEND_STATE_FINAL);
    cairn_connection_watch_write(connection);
}

static void on_reply_message(struct cairn_message *message)
{
    send_answer(H2O_STRUCT_FROM_MEMBER(struct cairn_exchange_core, message, message)->exchange);
}

void cairn_exchange_reply(struct cairn_exchange *exchange)
{
    struct cairn_exchange_core *core = exchange->core;
    if (pthread_equal(pthread_self(), core->loop->self)) {
        send_answer(exchange);
        return;
    }
    core->message.run = on_reply_message;
    cairn_loop_post(core->loop, &core->message);
}

void cairn_exchange_fail(struct cairn_exchange *exchange, const struct cairn_error *err)
{
    struct cairn_json_writer writer;
    struct cairn_error moving;
    if (cairn_exchange_try_again(exchange, err))
        return;
    if (err->code == CAIRN_ENOTOWNER) { /* a word between processes; clients just try again */
        cairn_fail(&moving, CAIRN_EUNAVAILABLE,
                   "keys are changing hands between shards, try again: %s", err->message);
        err = &moving;
    }
    cairn_buf_clear(&exchange->out);
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_problem_write(&writer, err);
    exchange->status = cairn_code_http_status(err->code);
    exchange->content_type = "application/problem+json";
    exchange->core->fail_code = err->code;
    cairn_exchange_reply(exchange);
}

static void on_resume_message(struct cairn_message *message)
{
    struct cairn_exchange_core *core =
        H2O_STRUCT_FROM_MEMBER(struct cairn_exchange_core, message, message);
    core->exchange->scratch = core->loop->scratch;
    core->exchange->may_block = false;
    core->then(core->exchange);
}

/* Always through a message, on the loop's own thread too: the caller may be deep inside a call of
 * the handler, which then still owns the exchange. */
void cairn_exchange_resume(struct cairn_exchange *exchange, void (*then)(struct cairn_exchange *))
{
    exchange->core->then = then;
    exchange->core->message.run = on_resume_message;
    cairn_loop_post(exchange->core->loop, &exchange->core->message);
}

static void run_on_worker(void *arg)
{
    struct cairn_exchange *exchange = arg;
    struct cairn_server *server = exchange->core->loop->server;
    struct cairn_scratch scratch = cairn_server_take_scratch(server);
    exchange->scratch = scratch;
    exchange->may_block = true;
    if (cairn_time_monotonic_us() > exchange->deadline_us) {
        struct cairn_error err;
        cairn_fail(&err, CAIRN_ETIMEOUT, "the time allowed was spent waiting for a worker");
        cairn_exchange_fail(exchange, &err);
    } else {
        exchange->core->then(exchange);
    }
    cairn_server_give_scratch(server, scratch);
}

void cairn_exchange_to_worker(struct cairn_exchange *exchange,
                              void (*then)(struct cairn_exchange *))
{
    struct cairn_error err;
    struct cairn_server *server = exchange->core->loop->server;
    exchange->core->then = then;
    exchange->core->busy = true;
    int code = cairn_pool_submit(server->pool, run_on_worker, exchange);
    if (code == 0)
        return;
    cairn_fail(&err, code, "%s",
               code == CAIRN_EOVERLOADED ? "too many requests are waiting for a worker"
                                         : "the server is stopping");
    cairn_exchange_fail(exchange, &err);
}

static void write_offset(struct cairn_json_writer *writer, bool known, uint64_t offset)
{
    if (known)
        cairn_json_write_u64(writer, offset);
    else
        cairn_json_write_null(writer);
}

/* What each touched shard's answer reflects; the index's part is null where no index took part.
 * Reads of in-process shards are never behind what was acknowledged, so the lag is 0. */
static void write_contract(struct cairn_exchange *exchange, struct cairn_json_writer *writer)
{
    const struct cairn_position *position = &exchange->contract.position;
    cairn_json_key(writer, "contract");
    cairn_json_begin_object(writer);
    cairn_json_key(writer, "complete");
    cairn_json_write_bool(writer, !exchange->contract.partial);
    cairn_json_key(writer, "epoch");
    cairn_json_write_u64(writer, position->epoch);
    cairn_json_key(writer, "shards");
    cairn_json_begin_array(writer);
    for (uint32_t i = 0; i < position->count; i++) {
        char name[16];
        const struct cairn_index_position *index = exchange->contract.indexes;
        index = index != NULL && index[position->at[i].shard].used ? &index[position->at[i].shard]
                                                                   : NULL;
        snprintf(name, sizeof(name), "s%u", position->at[i].shard);
        cairn_json_begin_object(writer);
        cairn_json_key(writer, "shard");
        cairn_json_write_str(writer, cairn_str_from(name));
        cairn_json_key(writer, "applied");
        cairn_json_write_u64(writer, position->at[i].offset);
        cairn_json_key(writer, "indexed");
        write_offset(writer, index != NULL, index != NULL ? index->indexed : 0);
        cairn_json_key(writer, "lag_ms");
        cairn_json_write_u64(writer, 0);
        cairn_json_key(writer, "generation");
        write_offset(writer, index != NULL && index->generation != 0,
                     index != NULL ? index->generation : 0);
        cairn_json_end_object(writer);
    }
    cairn_json_end_array(writer);
    cairn_json_end_object(writer);
}

void cairn_exchange_end_object(struct cairn_exchange *exchange, struct cairn_json_writer *writer)
{
    if (exchange->wants_contract)
        write_contract(exchange, writer);
    cairn_json_end_object(writer);
}

int cairn_exchange_json(struct cairn_exchange *exchange, struct cairn_json *root,
                        struct cairn_error *err)
{
    if (exchange->media != CAIRN_MEDIA_JSON && exchange->media != CAIRN_MEDIA_NONE)
        return cairn_fail(err, CAIRN_EMEDIATYPE, "Content-Type must be application/json");
    if (exchange->body.len == 0)
        return cairn_fail(err, CAIRN_EJSON, "the request has no body");
    return cairn_json_parse(exchange->scratch.parser, exchange->body, root, err);
}
