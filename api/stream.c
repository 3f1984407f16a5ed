/* Streamed NDJSON uploads: lines in, answer lines out, both at once.
 *
 *   socket -> fill -> block -> route's stream_block on a worker -> ... -> cairn_block_done
 *                                                                              |
 *   socket <- answers of finished blocks, in order  <- finish(block) on the loop
 *
 * step() is the one place that decides what happens next, on the loop: give whole lines to the
 * handler, read on, send what is finished, end. It is called after every event.
 *
 *   block     given -> returned (stream_block came back) and done (cairn_block_done), in any order
 *             -> finished (finish() wrote out) -> sending -> spare
 *
 * Bounds: one call of stream_block at a time; CAIRN_STREAM_BLOCKS_MAX blocks given and not
 * finished; one more block being filled, which stops the reading when it is full; and
 * CAIRN_STREAM_ANSWER_BYTES_MAX of finished answers for clients that write everything before they
 * read. A block holds at most CAIRN_STREAM_BLOCK_BYTES and one read, or one long line.
 *
 * When the client goes away the stream is only cut off: blocks that were given run to their ends
 * and finish() is called for each, so that handlers can let go of what they hold. */
#include <stdlib.h>

#include "api/body.h"
#include "base/limits.h"
#include "base/time.h"

#define SENDS_AT_ONCE    16
#define FILL_BYTES_FIRST (64u << 10)

struct stream_block {
    struct cairn_block block;
    struct stream_block *next;
    struct cairn_stream *stream;
    struct cairn_message returned, done;
    struct cairn_buf text;
    uint64_t lines;
    bool has_returned, is_done, is_finished;
};

struct cairn_stream {
    struct cairn_exchange *exchange;
    struct cairn_connection *connection; /* NULL: the client is gone */
    struct cairn_buf fill;
    size_t whole;           /* bytes of fill that are whole lines */
    bool skipping;          /* inside a line that is too long */
    bool line_was_too_long; /* to be reported before what is in fill */
    bool input_ended;
    const char *input_error; /* why it ended early */
    uint64_t next_line;
    bool calling;                       /* stream_block runs or is queued */
    unsigned in_flight;                 /* given and not finished */
    struct stream_block *first, **last; /* given, in order */
    struct stream_block *sending;       /* with h2o, to be kept until proceed */
    struct stream_block *spare;
    size_t answer_bytes; /* finished and not sent */
    uint64_t answer_bytes_total;
    bool started; /* the answer's head is out */
    bool is_sending;
    bool gave_any;
    bool ended; /* the last piece is with h2o */
    struct cairn_buf last_line;
    h2o_timeout_entry_t retry;
};

static void step(struct cairn_stream *stream);

static void free_list(struct stream_block *block)
{
    while (block) {
        struct stream_block *next = block->next;
        cairn_buf_release(&block->text);
        cairn_buf_release(&block->block.out);
        cairn_arena_release(&block->block.arena);
        free(block);
        block = next;
    }
}

static void free_stream(struct cairn_stream *stream)
{
    struct cairn_exchange *exchange = stream->exchange;
    free_list(stream->first);
    free_list(stream->sending);
    free_list(stream->spare);
    h2o_timeout_unlink(&stream->retry);
    cairn_buf_release(&stream->fill);
    cairn_buf_release(&stream->last_line);
    free(stream);
    exchange->core->stream = NULL;
    cairn_exchange_free(exchange);
}

/* A stream whose client is gone lives until the handlers have let go of its blocks. */
static bool free_if_over(struct cairn_stream *stream)
{
    if (stream->connection || stream->in_flight > 0 || stream->calling)
        return false;
    free_stream(stream);
    return true;
}

bool cairn_stream_is_working(const struct cairn_stream *stream)
{
    return stream->in_flight > 0;
}

void cairn_stream_client_gone(struct cairn_stream *stream)
{
    stream->connection = NULL;
    free_if_over(stream);
}

static struct stream_block *take_block(struct cairn_stream *stream)
{
    struct stream_block *block = stream->spare;
    if (!block) {
        block = cairn_calloc(1, sizeof(*block));
        block->stream = stream;
        return block;
    }
    stream->spare = block->next;
    block->next = NULL;
    block->has_returned = block->is_done = block->is_finished = false;
    struct cairn_block *inner = &block->block;
    *inner = (struct cairn_block){.arena = inner->arena, .out = inner->out};
    return block;
}

static void put_spare(struct cairn_stream *stream, struct stream_block *block)
{
    cairn_buf_clear(&block->block.out);
    if (block->block.out.capacity > CAIRN_STREAM_BLOCK_BYTES)
        cairn_buf_release(&block->block.out);
    if (block->text.capacity > 2 * CAIRN_STREAM_BLOCK_BYTES)
        cairn_buf_release(&block->text);
    block->next = stream->spare;
    stream->spare = block;
}

/* Blocks given to the handler. */

static uint64_t count_lines(struct cairn_str text)
{
    uint64_t lines = 0;
    const char *at = text.ptr, *end = text.ptr + text.len;
    while (at < end && (at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        lines++;
        at++;
    }
    return lines;
}

static void run_block(void *arg)
{
    struct stream_block *block = arg;
    struct cairn_exchange *exchange = block->block.exchange;
    struct cairn_loop *loop = exchange->core->loop;
    struct cairn_scratch scratch = cairn_server_take_scratch(loop->server);
    block->lines = block->block.error.code != 0 ? 1 : count_lines(block->block.text);
    block->block.scratch = scratch;
    exchange->core->route->stream_block(&block->block);
    cairn_server_give_scratch(loop->server, scratch);
    cairn_loop_post(loop, &block->returned);
}

static void finish_if_both(struct stream_block *block)
{
    struct cairn_stream *stream = block->stream;
    if (!block->has_returned || !block->is_done)
        return;
    block->block.scratch = stream->exchange->core->loop->scratch;
    if (block->block.finish)
        block->block.finish(&block->block);
    cairn_arena_reset(&block->block.arena);
    block->block.text = (struct cairn_str){0};
    block->is_finished = true;
    stream->in_flight--;
    stream->answer_bytes += block->block.out.len;
    if (!free_if_over(stream))
        step(stream);
}

static void on_returned(struct cairn_message *message)
{
    struct stream_block *block = H2O_STRUCT_FROM_MEMBER(struct stream_block, returned, message);
    struct cairn_stream *stream = block->stream;
    stream->calling = false;
    stream->next_line += block->lines;
    block->has_returned = true;
    if (block->is_done)
        finish_if_both(block);
    else
        step(stream);
}

static void on_done(struct cairn_message *message)
{
    struct stream_block *block = H2O_STRUCT_FROM_MEMBER(struct stream_block, done, message);
    block->is_done = true;
    finish_if_both(block);
}

void cairn_block_done(struct cairn_block *block)
{
    struct stream_block *outer = H2O_STRUCT_FROM_MEMBER(struct stream_block, block, block);
    cairn_loop_post(block->exchange->core->loop, &outer->done);
}

/* The whole lines of `fill` become the block's text; what follows them starts the next fill. */
static void cut_text(struct cairn_stream *stream, struct stream_block *block)
{
    struct cairn_buf cut = stream->fill;
    size_t rest = cut.len - stream->whole;
    stream->fill = block->text;
    cairn_buf_clear(&stream->fill);
    cairn_buf_append(&stream->fill, cut.data + stream->whole, rest);
    cut.len = stream->whole;
    stream->whole = 0;
    block->text = cut;
    block->block.text = (struct cairn_str){cut.data, (uint32_t)cut.len};
}

/* Undo cut_text for a block that nobody took. */
static void uncut_text(struct cairn_stream *stream, struct stream_block *block)
{
    struct cairn_buf rest = stream->fill;
    stream->fill = block->text;
    stream->whole = stream->fill.len;
    cairn_buf_append(&stream->fill, rest.data, rest.len);
    block->text = rest;
}

static bool can_give(struct cairn_stream *stream)
{
    return stream->connection && !stream->calling && stream->in_flight < CAIRN_STREAM_BLOCKS_MAX &&
           stream->answer_bytes <= CAIRN_STREAM_ANSWER_BYTES_MAX &&
           !h2o_timeout_is_linked(&stream->retry) &&
           (stream->line_was_too_long || stream->whole > 0);
}

static void on_retry(h2o_timeout_entry_t *entry)
{
    step(H2O_STRUCT_FROM_MEMBER(struct cairn_stream, retry, entry));
}

/* Put a block on the work queue. A full queue is waited for: an upload that has begun cannot be
 * refused any more. */
static void give(struct cairn_stream *stream)
{
    struct cairn_loop *loop = stream->exchange->core->loop;
    struct stream_block *block = take_block(stream);
    struct cairn_block *inner = &block->block;
    bool is_error = stream->line_was_too_long;
    block->returned.run = on_returned;
    block->done.run = on_done;
    inner->exchange = stream->exchange;
    inner->first_line = stream->next_line;
    if (is_error)
        cairn_fail(&inner->error, CAIRN_ETOOLARGE, "the line is over %u MiB",
                   CAIRN_NDJSON_LINE_BYTES_MAX >> 20);
    else
        cut_text(stream, block);
    if (cairn_pool_submit(loop->server->pool, run_block, block) != 0) {
        if (!is_error)
            uncut_text(stream, block);
        put_spare(stream, block);
        h2o_timeout_link(loop->evloop, &loop->retry_timeout, &stream->retry);
        return;
    }
    stream->line_was_too_long = false;
    stream->gave_any = stream->calling = true;
    stream->in_flight++;
    *stream->last = block;
    stream->last = &block->next;
}

/* Input. */

/* New bytes from `from` on: find the last line's end, and a line that grew too long. */
static void scan(struct cairn_stream *stream, size_t from)
{
    struct cairn_buf *fill = &stream->fill;
    if (stream->skipping && fill->len > 0) {
        const char *end = memchr(fill->data, '\n', fill->len);
        size_t skip = end ? (size_t)(end - fill->data) + 1 : fill->len;
        memmove(fill->data, fill->data + skip, fill->len - skip);
        fill->len -= skip;
        from = 0;
        stream->skipping = end == NULL;
        stream->line_was_too_long |= end != NULL;
    }
    if (fill->len == from)
        return;
    /* Only a line that began before this read can be too long: a read is shorter than the limit. */
    if (stream->whole == 0 && fill->len > CAIRN_NDJSON_LINE_BYTES_MAX) {
        const char *end = memchr(fill->data + from, '\n', fill->len - from);
        size_t line = end ? (size_t)(end - fill->data) : fill->len;
        if (line > CAIRN_NDJSON_LINE_BYTES_MAX) {
            stream->skipping = true;
            /* What has been seen of it need not be kept, up to its end. */
            size_t drop = end ? line : fill->len;
            memmove(fill->data, fill->data + drop, fill->len - drop);
            fill->len -= drop;
            scan(stream, fill->len);
            return;
        }
    }
    const char *end = memrchr(fill->data + from, '\n', fill->len - from);
    if (end)
        stream->whole = (size_t)(end - fill->data) + 1;
}

static bool wants_input(const struct cairn_stream *stream)
{
    return !stream->input_ended && !stream->line_was_too_long &&
           stream->answer_bytes <= CAIRN_STREAM_ANSWER_BYTES_MAX &&
           (stream->whole == 0 || stream->fill.len < CAIRN_STREAM_BLOCK_BYTES);
}

static void end_input(struct cairn_stream *stream, const char *error)
{
    struct cairn_buf *fill = &stream->fill;
    stream->input_ended = true;
    stream->input_error = error;
    if (stream->connection->on_body)
        cairn_body_pause(stream->connection);
    if (error) {
        fill->len = stream->whole; /* a cut line is no line */
        return;
    }
    if (stream->skipping) {
        stream->skipping = false;
        stream->line_was_too_long = true;
    } else if (fill->len > stream->whole) {
        cairn_buf_append(fill, "\n", 1); /* the last line need not end in one */
        stream->whole = fill->len;
    }
}

/* One pull. False when the client is gone, and with it the stream. */
static bool pull(struct cairn_stream *stream)
{
    struct cairn_buf *fill = &stream->fill;
    size_t before = fill->len;
    size_t room = fill->capacity - fill->len;
    size_t max = room < FILL_BYTES_FIRST ? FILL_BYTES_FIRST : room;
    enum cairn_body_state state = cairn_body_pull(
        stream->connection, fill, max < CAIRN_HTTP_READ_BYTES ? max : CAIRN_HTTP_READ_BYTES);
    if (state == CAIRN_BODY_GONE) {
        cairn_connection_close(stream->connection);
        return false;
    }
    scan(stream, before);
    if (state == CAIRN_BODY_END)
        end_input(stream, NULL);
    else if (state == CAIRN_BODY_BAD)
        end_input(stream, "the chunked body is malformed");
    return true;
}

static void on_input(struct cairn_connection *connection)
{
    struct cairn_stream *stream = connection->exchange->core->stream;
    if (pull(stream))
        step(stream);
}

/* Take what is there already, then have the socket watched, or not. */
static void read_on(struct cairn_stream *stream)
{
    struct cairn_connection *connection = stream->connection;
    bool has_more = cairn_body_has_ready(connection) || connection->body.ended;
    while (wants_input(stream) && has_more) {
        pull(stream);
        has_more = cairn_body_has_ready(connection);
    }
    bool wants = wants_input(stream);
    if (wants && !connection->on_body)
        cairn_body_wait(connection, on_input);
    else if (!wants && connection->on_body)
        cairn_body_pause(connection);
}

/* Output. */

static void recycle_sent(struct cairn_stream *stream)
{
    while (stream->sending) {
        struct stream_block *block = stream->sending;
        stream->sending = block->next;
        put_spare(stream, block);
    }
}

static void on_proceed(h2o_generator_t *generator, h2o_req_t *req)
{
    (void)req;
    struct cairn_exchange_core *core =
        H2O_STRUCT_FROM_MEMBER(struct cairn_exchange_core, generator, generator);
    struct cairn_stream *stream = core->stream;
    cairn_connection_unwatch(&stream->connection->write_timer);
    stream->is_sending = false;
    recycle_sent(stream);
    step(stream);
}

/* Move finished blocks from the front to `sending`. Returns the pieces to send. */
static unsigned take_finished(struct cairn_stream *stream, h2o_iovec_t *pieces)
{
    unsigned count = 0;
    struct stream_block **end = &stream->sending;
    while (stream->first && stream->first->is_finished && count < SENDS_AT_ONCE) {
        struct stream_block *block = stream->first;
        stream->first = block->next;
        if (!stream->first)
            stream->last = &stream->first;
        block->next = NULL;
        *end = block;
        end = &block->next;
        stream->answer_bytes -= block->block.out.len;
        stream->answer_bytes_total += block->block.out.len;
        if (block->block.out.len > 0)
            pieces[count++] = h2o_iovec_init(block->block.out.data, block->block.out.len);
    }
    return count;
}

static void start_answer(struct cairn_stream *stream)
{
    struct cairn_exchange *exchange = stream->exchange;
    struct cairn_exchange_core *core = exchange->core;
    struct cairn_answer_text text;
    exchange->content_type = "application/x-ndjson";
    core->generator.proceed = on_proceed;
    if (core->loop->phase != CAIRN_LOOP_SERVING)
        core->req->http1_is_persistent = 0;
    cairn_exchange_set_headers(exchange, &text);
    h2o_start_response(core->req, &core->generator);
    stream->started = true;
}

static bool is_all_done(const struct cairn_stream *stream)
{
    return stream->input_ended && stream->whole == 0 && !stream->line_was_too_long &&
           stream->first == NULL;
}

/* {"error": {...}} for an upload whose end could not be understood. */
static void write_last_line(struct cairn_stream *stream)
{
    struct cairn_error err;
    struct cairn_json_writer writer;
    cairn_fail(&err, CAIRN_EBODY, "%s", stream->input_error);
    cairn_json_writer_init(&writer, &stream->last_line);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "error");
    cairn_problem_write(&writer, &err);
    cairn_json_end_object(&writer);
    cairn_buf_append(&stream->last_line, "\n", 1);
}

static unsigned end_answer(struct cairn_stream *stream, h2o_iovec_t *pieces, unsigned count)
{
    struct cairn_exchange_core *core = stream->exchange->core;
    struct cairn_http_metrics *metrics = &core->loop->server->http_metrics;
    if (stream->input_error) {
        write_last_line(stream);
        pieces[count++] = h2o_iovec_init(stream->last_line.data, stream->last_line.len);
    }
    stream->ended = core->answered = true;
    if (!cairn_body_finish(stream->connection)) {
        core->req->http1_is_persistent = 0; /* closes after this, whatever the head said */
        stream->connection->linger = true;
    }
    cairn_http_metrics_answered(metrics, core->route_at, 200,
                                cairn_time_monotonic_us() - core->begin_us);
    cairn_counter_add(metrics->request_bytes, stream->connection->body.decoded_bytes);
    cairn_counter_add(metrics->response_bytes, stream->answer_bytes_total);
    return count;
}

static void send_finished(struct cairn_stream *stream)
{
    h2o_iovec_t pieces[SENDS_AT_ONCE + 1];
    unsigned count = take_finished(stream, pieces);
    bool ends = is_all_done(stream);
    if (count == 0 && !ends) {
        recycle_sent(stream);
        return;
    }
    h2o_req_t *req = stream->exchange->core->req;
    if (ends && !stream->started && stream->input_error)
        req->http1_is_persistent = 0;
    if (!stream->started)
        start_answer(stream);
    if (ends)
        count = end_answer(stream, pieces, count);
    stream->is_sending = true;
    cairn_connection_watch_write(stream->connection);
    h2o_send(req, pieces, count, ends ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
}

/* An upload that broke before anything was given to the handler is refused as a whole. */
static void refuse(struct cairn_stream *stream)
{
    struct cairn_exchange *exchange = stream->exchange;
    struct cairn_error err;
    cairn_fail(&err, CAIRN_EBODY, "%s", stream->input_error);
    exchange->core->stream = NULL;
    cairn_buf_release(&stream->fill);
    free(stream);
    cairn_exchange_fail(exchange, &err);
}

static void step(struct cairn_stream *stream)
{
    if (!stream->connection || stream->ended)
        return;
    if (can_give(stream))
        give(stream);
    read_on(stream);
    if (can_give(stream))
        give(stream);
    bool has_lines = stream->whole > 0 || stream->line_was_too_long;
    if (stream->input_error && !stream->gave_any && !has_lines) {
        refuse(stream);
        return;
    }
    if (!stream->is_sending)
        send_finished(stream);
}

void cairn_stream_start(struct cairn_exchange *exchange)
{
    struct cairn_exchange_core *core = exchange->core;
    struct cairn_error err;
    core->busy = false;
    core->streams = true;
    if (!core->req) {
        cairn_exchange_free(exchange);
        return;
    }
    if (core->connection->close_asap) {
        cairn_connection_close(core->connection);
        return;
    }
    if (core->route->stream_begin && core->route->stream_begin(exchange, &err) != 0) {
        cairn_exchange_fail(exchange, &err);
        return;
    }
    struct cairn_stream *stream = cairn_calloc(1, sizeof(*stream));
    stream->exchange = exchange;
    stream->connection = core->connection;
    stream->next_line = 1;
    stream->last = &stream->first;
    stream->retry.cb = on_retry;
    core->stream = stream;
    exchange->deadline_us = UINT64_MAX; /* an upload takes as long as it takes */
    step(stream);
}
