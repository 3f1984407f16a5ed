/* From a request's head to its handler: headers, route, key, media type, body, minimum position.
 * Whatever refuses does so before the body is read. */
#include <stdlib.h>
#include <strings.h>

#include "api/body.h"
#include "api/query.h"
#include "base/limits.h"
#include "base/time.h"

static struct cairn_str str_of(h2o_iovec_t text)
{
    return (struct cairn_str){text.base, (uint32_t)text.len};
}

static bool is_word(struct cairn_str text, const char *word)
{
    return text.len == strlen(word) && strncasecmp(text.ptr, word, text.len) == 0;
}

static struct cairn_str trim(struct cairn_str text)
{
    while (text.len > 0 && (*text.ptr == ' ' || *text.ptr == '\t'))
        text = (struct cairn_str){text.ptr + 1, text.len - 1};
    while (text.len > 0 && (text.ptr[text.len - 1] == ' ' || text.ptr[text.len - 1] == '\t'))
        text.len--;
    return text;
}

/* The part before a media type's parameters. */
static struct cairn_str bare_type(struct cairn_str value)
{
    const char *semicolon = value.len ? memchr(value.ptr, ';', value.len) : NULL;
    if (semicolon)
        value.len = (uint32_t)(semicolon - value.ptr);
    return trim(value);
}

static enum cairn_media parse_media(struct cairn_str value)
{
    struct cairn_str type = bare_type(value);
    if (is_word(type, "application/json"))
        return CAIRN_MEDIA_JSON;
    if (is_word(type, "application/x-ndjson") || is_word(type, "application/ndjson"))
        return CAIRN_MEDIA_NDJSON;
    if (is_word(type, "application/x-flatbuffers"))
        return CAIRN_MEDIA_FLATBUFFERS;
    return CAIRN_MEDIA_OTHER;
}

static bool accepts(struct cairn_str list, const char *wanted)
{
    while (list.len > 0) {
        const char *comma = memchr(list.ptr, ',', list.len);
        uint32_t len = comma ? (uint32_t)(comma - list.ptr) : list.len;
        if (is_word(bare_type((struct cairn_str){list.ptr, len}), wanted))
            return true;
        uint32_t used = comma ? len + 1 : len;
        list = (struct cairn_str){list.ptr + used, list.len - used};
    }
    return false;
}

static struct cairn_str bearer_key(struct cairn_str value)
{
    static const char scheme[] = "Bearer ";
    if (value.len <= sizeof(scheme) - 1 || strncasecmp(value.ptr, scheme, sizeof(scheme) - 1) != 0)
        return (struct cairn_str){value.ptr, 0};
    return trim((struct cairn_str){value.ptr + sizeof(scheme) - 1,
                                   value.len - (uint32_t)(sizeof(scheme) - 1)});
}

static void take_request_id(struct cairn_exchange_core *core, struct cairn_str value)
{
    if (value.len == 0 || value.len > CAIRN_HTTP_REQUEST_ID_BYTES_MAX)
        return;
    for (uint32_t i = 0; i < value.len; i++)
        if (value.ptr[i] <= ' ' || value.ptr[i] > '~')
            return;
    memcpy(core->request_id, value.ptr, value.len);
    core->request_id_len = value.len;
}

static void make_request_id(struct cairn_exchange_core *core)
{
    /* A Weyl sequence through a mixer (Steele et al., SplitMix): distinct within a loop. */
    uint64_t z = core->loop->request_ids += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    for (unsigned i = 0; i < 16; i++)
        core->request_id[i] = "0123456789abcdef"[(z >> (60 - 4 * i)) & 15];
    core->request_id_len = 16;
}

static int take_timeout(struct cairn_exchange *exchange, struct cairn_str value,
                        struct cairn_error *err)
{
    int64_t timeout_us;
    int code = cairn_duration_parse(value, &timeout_us, err);
    if (code)
        return cairn_error_prefix(err, "header Cairn-Timeout");
    if (timeout_us > (int64_t)CAIRN_TIMEOUT_MS_MAX * 1000)
        return cairn_fail(err, CAIRN_EPARAM, "header Cairn-Timeout: at most %us",
                          CAIRN_TIMEOUT_MS_MAX / 1000);
    exchange->deadline_us = exchange->core->begin_us + (uint64_t)timeout_us;
    return 0;
}

static int take_min_position(struct cairn_exchange *exchange, struct cairn_str value,
                             struct cairn_error *err)
{
    struct cairn_position **position = &exchange->core->min_position;
    if (!*position)
        *position = cairn_arena_zalloc(&exchange->arena, sizeof(**position));
    return cairn_position_parse_merge(value, *position, err);
}

/* Reads of shards in this process are never stale, so a well-formed bound is always met. */
static int check_staleness(struct cairn_str value, struct cairn_error *err)
{
    int64_t staleness_us;
    if (cairn_duration_parse(value, &staleness_us, err) != 0)
        return cairn_error_prefix(err, "header Cairn-Max-Staleness");
    return 0;
}

static int take_header(struct cairn_exchange *exchange, struct cairn_str name,
                       struct cairn_str value, struct cairn_error *err)
{
    struct cairn_exchange_core *core = exchange->core;
#define IS(text) (name.len == sizeof(text) - 1 && memcmp(name.ptr, text, sizeof(text) - 1) == 0)
    if (IS("content-type"))
        exchange->media = parse_media(value);
    else if (IS("content-encoding") && !is_word(value, "identity"))
        return cairn_fail(err, CAIRN_EMEDIATYPE, "Content-Encoding: a body is sent as it is");
    else if (IS("accept"))
        exchange->accepts_flatbuffers = accepts(value, "application/x-flatbuffers");
    else if (IS("authorization"))
        core->key = core->key.len > 0 ? core->key : bearer_key(value);
    else if (IS("api-key"))
        core->key = value;
    else if (IS("request-id"))
        take_request_id(core, value);
    else if (IS("cairn-timeout"))
        return take_timeout(exchange, value, err);
    else if (IS("cairn-min-position"))
        return take_min_position(exchange, value, err);
    else if (IS("cairn-max-staleness"))
        return check_staleness(value, err);
#undef IS
    return 0;
}

/* Header values stay in the connection's input, which may move once the body is read: what is
 * needed later is copied or used up before that. */
static int take_headers(struct cairn_exchange *exchange, struct cairn_error *err)
{
    const h2o_headers_t *headers = &exchange->core->req->headers;
    int code = 0;
    exchange->deadline_us = exchange->core->begin_us + (uint64_t)CAIRN_TIMEOUT_MS_DEFAULT * 1000;
    /* All of them, so that a request-id after a bad header is echoed too. */
    for (size_t i = 0; i < headers->size; i++) {
        struct cairn_error one;
        int failed = take_header(exchange, str_of(*headers->entries[i].name),
                                 trim(str_of(headers->entries[i].value)), &one);
        if (failed && code == 0)
            code = cairn_fail(err, failed, "%s", one.message);
    }
    if (exchange->core->request_id_len == 0)
        make_request_id(exchange->core);
    return code;
}

/* The request target without "http://authority", which a client may send (RFC 9112, 3.2.2). */
static struct cairn_str origin_form(struct cairn_str target)
{
    const char *scheme = target.len ? memmem(target.ptr, target.len, "://", 3) : NULL;
    if (!scheme || *target.ptr == '/')
        return target;
    const char *authority = scheme + 3, *end = target.ptr + target.len;
    const char *slash = memchr(authority, '/', (size_t)(end - authority));
    return slash ? (struct cairn_str){slash, (uint32_t)(end - slash)} : CAIRN_STR_LITERAL("/");
}

static struct cairn_str known_method(struct cairn_exchange *exchange, struct cairn_str method)
{
    static const char *const known[] = {"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"};
    for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (cairn_str_eq(method, cairn_str_from(known[i])))
            return cairn_str_from(known[i]);
    return cairn_arena_dup(&exchange->arena, method);
}

static void take_target(struct cairn_exchange *exchange)
{
    struct cairn_exchange_core *core = exchange->core;
    h2o_req_t *req = core->req;
    exchange->method = known_method(exchange, str_of(req->input.method));
    core->head = cairn_str_eq(exchange->method, CAIRN_STR_LITERAL("HEAD"));
    /* h2o looks at the method once more when the answer starts. */
    req->method = req->input.method = h2o_iovec_init(exchange->method.ptr, exchange->method.len);
    const struct cairn_buf *hidden = &core->connection->target;
    struct cairn_str target = hidden->len > 0
                                  ? (struct cairn_str){hidden->data, (uint32_t)hidden->len}
                                  : str_of(req->input.path);
    target = cairn_arena_dup(&exchange->arena, origin_form(target));
    const char *mark = target.len ? memchr(target.ptr, '?', target.len) : NULL;
    exchange->path =
        (struct cairn_str){target.ptr, mark ? (uint32_t)(mark - target.ptr) : target.len};
    exchange->query = mark ? (struct cairn_str){mark + 1, target.len - exchange->path.len - 1}
                           : (struct cairn_str){target.ptr + target.len, 0};
}

static int find_route(struct cairn_exchange *exchange, struct cairn_error *err)
{
    struct cairn_exchange_core *core = exchange->core;
    const struct cairn_route_table *routes = core->loop->server->routes;
    struct cairn_route_match match;
    cairn_route_match(routes, exchange->method, exchange->path, &match);
    if (!match.route && match.path_known) {
        struct cairn_buf allow = {0};
        cairn_route_allowed(routes, exchange->path, &allow);
        core->allow =
            cairn_arena_dup(&exchange->arena, (struct cairn_str){allow.data, (uint32_t)allow.len});
        cairn_buf_release(&allow);
        return cairn_fail(err, CAIRN_EMETHOD, "this path knows the methods %.*s",
                          CAIRN_STR_ARG(core->allow));
    }
    if (!match.route)
        return cairn_fail(err, CAIRN_ENOTFOUND, "there is no such path");
    core->route = match.route;
    core->route_at = match.at;
    exchange->segments_count = match.segments_count;
    int code = cairn_percent_decode(match.action, false, &exchange->arena, &exchange->action, err);
    for (unsigned i = 0; code == 0 && i < match.segments_count; i++)
        code = cairn_percent_decode(match.segments[i], false, &exchange->arena,
                                    &exchange->segments[i], err);
    struct cairn_str query;
    if (code == 0)
        code = cairn_percent_decode(exchange->query, false, &exchange->arena, &query, err);
    return code == 0 ? 0 : cairn_error_prefix(err, "path");
}

/* Paths under /v1/features name their collections in the body, which their handlers check. */
static bool has_collections_in_body(const struct cairn_exchange *exchange)
{
    return exchange->segments_count == 2 &&
           cairn_str_eq(exchange->segments[1], CAIRN_STR_LITERAL("features"));
}

static int check_key(struct cairn_exchange *exchange, struct cairn_error *err)
{
    struct cairn_exchange_core *core = exchange->core;
    const struct cairn_auth *auth = core->loop->server->auth;
    struct cairn_str collection = {0};
    if (!auth)
        return 0;
    int code = cairn_auth_find(auth, core->key, core->route->role, &core->caller, err);
    if (code != 0 || has_collections_in_body(exchange))
        return code;
    if (exchange->segments_count >= 3 &&
        cairn_str_eq(exchange->segments[1], CAIRN_STR_LITERAL("collections")))
        collection = exchange->segments[2];
    return cairn_auth_check_collection(core->caller, collection, err);
}

int cairn_exchange_check_collection(struct cairn_exchange *exchange, struct cairn_str collection,
                                    struct cairn_error *err)
{
    return cairn_auth_check_collection(exchange->core->caller, collection, err);
}

static int take_contract(struct cairn_exchange *exchange, struct cairn_error *err)
{
    struct cairn_str value;
    if (!cairn_exchange_param(exchange, "contract", &value))
        return 0;
    exchange->wants_contract = cairn_str_eq(value, CAIRN_STR_LITERAL("true"));
    if (!exchange->wants_contract && !cairn_str_eq(value, CAIRN_STR_LITERAL("false")))
        return cairn_fail(err, CAIRN_EPARAM, "contract: must be true or false");
    return 0;
}

static bool is_streamed(const struct cairn_exchange *exchange)
{
    return exchange->media == CAIRN_MEDIA_NDJSON && exchange->core->route->stream_block;
}

/* What a client may send is larger in the form in which a router hands it to a shard. */
static size_t body_max(const struct cairn_exchange *exchange)
{
    return exchange->core->route->place == CAIRN_ON_LOOP_ONLY ? CAIRN_SHARD_CALL_BYTES_MAX
                                                              : CAIRN_BODY_BYTES_MAX;
}

static int fail_too_large(const struct cairn_exchange *exchange, struct cairn_error *err)
{
    return cairn_fail(err, CAIRN_ETOOLARGE, "the body is over %zu MiB", body_max(exchange) >> 20);
}

static int check_body(struct cairn_exchange *exchange, struct cairn_error *err)
{
    const struct cairn_body *body = &exchange->core->connection->body;
    bool has_body =
        body->framing == CAIRN_FRAMING_CHUNKED || body->decoded_bytes > 0 || body->remaining > 0;
    if (!has_body || is_streamed(exchange))
        return 0;
    if (exchange->media == CAIRN_MEDIA_OTHER)
        return cairn_fail(err, CAIRN_EMEDIATYPE,
                          "Content-Type must be application/json, application/x-ndjson or "
                          "application/x-flatbuffers, as the path allows");
    if (exchange->media == CAIRN_MEDIA_NDJSON)
        return cairn_fail(err, CAIRN_EMEDIATYPE, "this path does not take application/x-ndjson");
    return body->decoded_bytes + body->remaining > body_max(exchange)
               ? fail_too_large(exchange, err)
               : 0;
}

static void fail_body(struct cairn_exchange *exchange, int code, const char *why)
{
    struct cairn_error err;
    cairn_fail(&err, code, "%s", why);
    cairn_exchange_fail(exchange, &err);
}

/* Whether the body has been coming for longer than its bytes can explain. */
static bool is_too_slow(const struct cairn_exchange *exchange)
{
    const struct cairn_exchange_core *core = exchange->core;
    uint64_t allowed_us = (uint64_t)core->loop->server->times.stall_ms * 1000 +
                          core->body_buf.len * UINT64_C(1000000) / CAIRN_HTTP_BODY_BYTES_PER_S;
    return cairn_time_monotonic_us() - core->begin_us > allowed_us;
}

/* Read what there is of a body that did not come with its head. */
static void collect_body(struct cairn_connection *connection)
{
    struct cairn_exchange *exchange = connection->exchange;
    struct cairn_buf *buf = &exchange->core->body_buf;
    struct cairn_error err;
    enum cairn_body_state state;
    do {
        size_t max = buf->len < (16u << 10) ? 16u << 10 : buf->len;
        state = cairn_body_pull(connection, buf,
                                max < CAIRN_HTTP_READ_BYTES ? max : CAIRN_HTTP_READ_BYTES);
    } while (state == CAIRN_BODY_MORE && buf->len <= body_max(exchange) &&
             cairn_body_has_ready(connection));
    if (buf->len > body_max(exchange)) {
        fail_too_large(exchange, &err);
        cairn_exchange_fail(exchange, &err);
    } else if (state == CAIRN_BODY_BAD) {
        fail_body(exchange, CAIRN_EBODY, "the chunked body is malformed");
    } else if (state == CAIRN_BODY_END) {
        cairn_body_pause(connection);
        exchange->body = (struct cairn_str){buf->data, (uint32_t)buf->len};
        cairn_request_dispatch(exchange);
    } else if (state == CAIRN_BODY_GONE || is_too_slow(exchange)) {
        cairn_connection_close(connection);
    }
}

static void start_collecting(struct cairn_exchange *exchange)
{
    struct cairn_connection *connection = exchange->core->connection;
    if (cairn_body_has_ready(connection))
        cairn_body_pull(connection, &exchange->core->body_buf, SIZE_MAX);
    cairn_body_wait(connection, collect_body);
}

static int begin(struct cairn_exchange *exchange, struct cairn_error *err)
{
    struct cairn_connection *connection = exchange->core->connection;
    take_target(exchange);
    int code = take_headers(exchange, err);
    if (connection->body.refusal)
        return cairn_fail(err, CAIRN_EBODY, "%s", connection->body.refusal);
    if (cairn_body_decode(connection) == CAIRN_BODY_BAD)
        return cairn_fail(err, CAIRN_EBODY, "the chunked body is malformed");
    if (code == 0)
        code = find_route(exchange, err);
    if (code == 0)
        code = check_key(exchange, err);
    if (code == 0)
        code = check_body(exchange, err);
    if (code == 0)
        code = take_contract(exchange, err);
    if (code != 0)
        return code;
    if (is_streamed(exchange)) {
        cairn_request_dispatch(exchange);
    } else if (connection->body.ended) {
        exchange->body = cairn_body_in_input(connection);
        cairn_request_dispatch(exchange);
    } else {
        start_collecting(exchange);
    }
    return 0;
}

int cairn_request_on_head(h2o_handler_t *handler, h2o_req_t *req)
{
    (void)handler;
    struct cairn_connection *connection =
        cairn_connection_of(req->conn->callbacks->get_socket(req->conn));
    struct cairn_exchange *exchange = cairn_exchange_new(connection, req);
    struct cairn_error err;
    if (begin(exchange, &err) != 0)
        cairn_exchange_fail(exchange, &err);
    return 0;
}

void cairn_request_on_end(h2o_logger_t *logger, h2o_req_t *req)
{
    (void)logger;
    struct cairn_connection *connection =
        cairn_connection_of(req->conn->callbacks->get_socket(req->conn));
    struct cairn_exchange *exchange = connection->exchange;
    if (!exchange)
        return;
    struct cairn_exchange_core *core = exchange->core;
    bool answered = core->answered;
    if (!answered)
        cairn_counter_add(core->loop->server->http_metrics.aborted, 1);
    cairn_connection_unwatch(&connection->write_timer);
    connection->exchange = NULL;
    core->connection = NULL;
    core->req = NULL;
    /* Unless h2o goes on to the next request, it closes now. */
    if (!connection->closing && (!answered || !req->http1_is_persistent)) {
        if (answered && connection->linger)
            cairn_connection_keep_lingering(connection);
        cairn_connection_mark_closing(connection);
    }
    if (core->stream)
        cairn_stream_client_gone(core->stream);
    else if (!core->busy)
        cairn_exchange_free(exchange);
}

static void call_handler(struct cairn_exchange *exchange)
{
    exchange->core->route->handle(exchange);
}

/* On the loop: the handler, where it is to run. */
static void start_handler(struct cairn_exchange *exchange)
{
    if (is_streamed(exchange))
        cairn_stream_start(exchange);
    else if (exchange->core->route->place == CAIRN_ON_WORKER ||
             (exchange->core->route->place == CAIRN_ON_LOOP &&
              exchange->body.len > CAIRN_HTTP_LOOP_BODY_BYTES_MAX))
        cairn_exchange_to_worker(exchange, call_handler);
    else
        call_handler(exchange);
}

/* Look whether the shards have come to the position that the client asked for, and look again soon
 * if not. No thread waits: a few clients that ask for the future would hold every worker. */
static void await_position(struct cairn_exchange *exchange)
{
    struct cairn_exchange_core *core = exchange->core;
    struct cairn_loop *loop = core->loop;
    struct cairn_error err;
    int code = cairn_router_reached(exchange->router, core->min_position, &err);
    bool is_over =
        loop->phase == CAIRN_LOOP_CLOSING || cairn_time_monotonic_us() > exchange->deadline_us;
    if (code == 0)
        start_handler(exchange);
    else if (code != CAIRN_EPOSITION || is_over)
        cairn_exchange_fail(exchange, &err);
    else
        h2o_timeout_link(loop->evloop, &loop->retry_timeout, &core->position_timer);
}

static void on_position_timer(h2o_timeout_entry_t *entry)
{
    await_position(
        H2O_STRUCT_FROM_MEMBER(struct cairn_exchange_core, position_timer, entry)->exchange);
}

void cairn_request_dispatch(struct cairn_exchange *exchange)
{
    struct cairn_exchange_core *core = exchange->core;
    core->busy = true;
    core->position_timer.cb = on_position_timer;
    if (!core->min_position)
        start_handler(exchange);
    else if (!exchange->router)
        fail_body(exchange, CAIRN_EUNAVAILABLE, "this process has no shards to reach a position");
    else
        await_position(exchange);
}
