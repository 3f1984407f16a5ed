/* POST /internal/v1/shards/{id}/{operation}: what routers and shards in other processes ask for, in
 * the binary form of base/shard_wire.h. The status is that of the answer's error; the body is an
 * answer whatever the status.
 *
 *   write                    queued here, answered when it is durable
 *   reads by key             here, unless there are many
 *   searches, scans, counts  on threads of their own, as is the reading of large bodies
 *   all else may wait        on threads for such operations
 *
 * Nothing of this runs on the workers of clients' requests: those may be waiting for the other
 * process, which then must not have to wait for them. */
#include "api/handlers.h"
#include "base/shard_wire.h"

#define LOOP_BODY_BYTES (64u << 10) /* a larger body is not read on a loop */

struct serving {
    uint32_t shard;
    enum cairn_shard_op op;
    struct cairn_shard_request request;
    struct cairn_serve_write write;
};

static void reply(struct cairn_exchange *exchange, struct cairn_encoder *encoder,
                  const struct cairn_shard_answer *answer)
{
    cairn_handler_set_flatbuffers(exchange, cairn_shard_answer_encode(encoder, answer));
    if (answer->error.code != 0)
        exchange->status = cairn_code_http_status(answer->error.code);
    cairn_exchange_reply(exchange);
}

static void reply_error(struct cairn_exchange *exchange, struct cairn_encoder *encoder,
                        uint32_t shard, const struct cairn_error *err)
{
    reply(exchange, encoder, &(struct cairn_shard_answer){.shard = shard, .error = *err});
}

static void serve(struct cairn_exchange *exchange, struct cairn_encoder *encoder)
{
    struct serving *serving = exchange->handler_state;
    struct cairn_shard_answer answer;
    cairn_router_serve(exchange->router, serving->shard, serving->op, &serving->request,
                       &exchange->arena, &answer);
    reply(exchange, encoder, &answer);
}

static void write_finish(struct cairn_exchange *exchange)
{
    struct serving *serving = exchange->handler_state;
    struct cairn_shard_answer answer;
    cairn_router_serve_write_answer(exchange->router, &serving->write, &answer);
    reply(exchange, exchange->scratch.encoder, &answer);
}

static void write_done(struct cairn_serve_write *write)
{
    cairn_exchange_resume(write->context, write_finish);
}

static void write_start(struct cairn_exchange *exchange, struct serving *serving)
{
    serving->write = (struct cairn_serve_write){.shard = serving->shard,
                                                .request = &serving->request,
                                                .arena = &exchange->arena,
                                                .done = write_done,
                                                .context = exchange};
    cairn_router_serve_write(exchange->router, &serving->write);
}

static int read_call(struct cairn_exchange *exchange, struct serving *serving,
                     struct cairn_error *err)
{
    struct cairn_str body = exchange->body;
    if (cairn_shard_id_parse(exchange->segments[3], &serving->shard, err) != 0)
        return err->code;
    if (!cairn_shard_op_parse(exchange->segments[4], &serving->op))
        return cairn_fail(err, CAIRN_ENOTFOUND, "shards have no such operation");
    if (exchange->media != CAIRN_MEDIA_FLATBUFFERS)
        return cairn_fail(err, CAIRN_EMEDIATYPE, "Content-Type must be application/x-flatbuffers");
    if ((uintptr_t)body.ptr % 8 != 0)
        body = cairn_arena_dup(&exchange->arena, body);
    return cairn_shard_request_decode(body, &exchange->arena, &serving->request, err);
}

static void run_elsewhere(void *arg)
{
    struct cairn_encoder *encoder = cairn_encoder_new();
    serve(arg, encoder);
    cairn_encoder_free(&encoder);
}

static void move_to(struct cairn_exchange *exchange, enum cairn_serve_place place,
                    void (*run)(void *arg), struct cairn_encoder *encoder)
{
    struct serving *serving = exchange->handler_state;
    struct cairn_error err = {0};
    if (cairn_router_on_place(exchange->router, place, run, exchange) == 0)
        return;
    cairn_fail(&err, CAIRN_EOVERLOADED, "too many operations on shards are waiting");
    reply_error(exchange, encoder, serving->shard, &err);
}

/* `here`: the thread on which the operation is now. */
static void start(struct cairn_exchange *exchange, enum cairn_serve_place here,
                  struct cairn_encoder *encoder)
{
    struct serving *serving = exchange->handler_state;
    struct cairn_error err = {0};
    if (read_call(exchange, serving, &err) != 0) {
        reply_error(exchange, encoder, serving->shard, &err);
        return;
    }
    enum cairn_serve_place place = cairn_router_serve_place(serving->op, &serving->request);
    if (serving->op == CAIRN_SHARD_WRITE)
        write_start(exchange, serving);
    else if (place == here || place == CAIRN_SERVE_HERE)
        serve(exchange, encoder);
    else
        move_to(exchange, place, run_elsewhere, encoder);
}

static void start_elsewhere(void *arg)
{
    struct cairn_encoder *encoder = cairn_encoder_new();
    start(arg, CAIRN_SERVE_WORKER, encoder);
    cairn_encoder_free(&encoder);
}

void cairn_handle_shard_call(struct cairn_exchange *exchange)
{
    struct serving *serving = cairn_arena_zalloc(&exchange->arena, sizeof *serving);
    exchange->acted = true; /* the caller tries again, not we */
    exchange->handler_state = serving;
    if (exchange->body.len > LOOP_BODY_BYTES)
        move_to(exchange, CAIRN_SERVE_WORKER, start_elsewhere, exchange->scratch.encoder);
    else
        start(exchange, CAIRN_SERVE_HERE, exchange->scratch.encoder);
}
