/* Request bodies, read around h2o.
 *
 * h2o 2.2.5 reads a whole body into memory before it calls a handler, answers by itself and in
 * plain text when one is too large, and cannot stream. Cairn needs a refusal before a byte of the
 * body is read, NDJSON uploads of any size with answers while they arrive, and back-pressure. So
 * h2o is led to believe that no request has a body:
 *
 *  1. libh2o calls its own h2o_socket_read_start through its procedure linkage table, so the
 *     definition below, in the executable, takes its place (the real one is found with dlsym). The
 *     link option that exports it is in api/CMakeLists.txt, and cairn_body_check_interposed refuses
 *     to start a server where it has no effect, for example with a statically linked h2o.
 *  2. For connections that our acceptor made, h2o's read callback is replaced by on_head_bytes. It
 *     lets h2o see the input only when a complete head stands at its start. Then the framing
 *     (Content-Length, chunked, Expect) is recorded and the names of those headers are overwritten
 *     in place with names of the same lengths that mean nothing to h2o. h2o parses a head without a
 *     body and calls our handler at once.
 *  3. When h2o starts to read with input already there (pipelining, or bytes that came while an
 *     answer was sent) it parses that input right after h2o_socket_read_start returns, so the look
 *     at the input happens inside that call too.
 *  4. The body is then read here. When it came with its head it is used where it lies: no further
 *     system call and no copy. Else clear-text sockets are read straight into the caller's buffer;
 *     with TLS h2o decrypts into the input and the bytes are moved from there.
 *
 * Invariant while a request is handled: sock->input is
 *     head (head_len bytes) | decoded body (ready bytes) | raw bytes not looked at yet
 * and once the body has ended the raw bytes are the next request. At the end of an answer h2o
 * consumes exactly the head, so cairn_body_finish takes the body out from behind it first.
 *
 * Heads that h2o must not see (malformed, too large) are answered here, on the socket. */
#include "api/body.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

/* Chunk sizes, extensions and trailers may take so much beside the data; 1-byte chunks take 5. */
#define CHUNK_OVERHEAD_BYTES  (16u << 10)
#define CHUNK_OVERHEAD_FACTOR 16u

enum peek_result { PEEK_INCOMPLETE, PEEK_COMPLETE, PEEK_REFUSED };

typedef void (*read_start_fn)(h2o_socket_t *sock, h2o_socket_cb cb);

static read_start_fn real_read_start_fn;
static pthread_once_t real_read_start_once = PTHREAD_ONCE_INIT;

static void find_real_read_start(void)
{
    real_read_start_fn = (read_start_fn)dlsym(RTLD_NEXT, "h2o_socket_read_start");
    if (!real_read_start_fn) {
        fprintf(stderr, "cairn: h2o_socket_read_start is not in a shared library\n");
        abort();
    }
}

static void real_read_start(h2o_socket_t *sock, h2o_socket_cb cb)
{
    pthread_once(&real_read_start_once, find_real_read_start);
    real_read_start_fn(sock, cb);
}

static enum peek_result refuse(struct cairn_connection *connection, int code, const char *why)
{
    struct cairn_error err;
    cairn_fail(&err, code, "%s", why);
    h2o_buffer_t **input = &connection->sock->input;
    h2o_buffer_consume(input, (*input)->size);
    cairn_connection_refuse(connection, &err);
    return PEEK_REFUSED;
}

static struct cairn_str trimmed(const struct phr_header *header)
{
    struct cairn_str value = {header->value, (uint32_t)header->value_len};
    while (value.len > 0 && (value.ptr[value.len - 1] == ' ' || value.ptr[value.len - 1] == '\t'))
        value.len--;
    return value;
}

static bool is_word(struct cairn_str value, const char *word)
{
    return value.len == strlen(word) && strncasecmp(value.ptr, word, value.len) == 0;
}

static bool parse_length(struct cairn_str value, uint64_t *out)
{
    if (value.len == 0 || value.len > 18)
        return false;
    *out = 0;
    for (uint32_t i = 0; i < value.len; i++) {
        if (value.ptr[i] < '0' || value.ptr[i] > '9')
            return false;
        *out = *out * 10 + (uint64_t)(value.ptr[i] - '0');
    }
    return true;
}

/* The header's name, when it is `name`, becomes `hidden`, which is as long. */
static bool hide(struct phr_header *header, const char *name, const char *hidden)
{
    if (header->name_len != strlen(name) || strncasecmp(header->name, name, header->name_len) != 0)
        return false;
    memcpy((char *)header->name, hidden, header->name_len);
    return true;
}

/* Note how the body will come and hide it from h2o. A framing on which two parsers might disagree
 * is recorded as a refusal: that is how requests are smuggled past a proxy. */
static void record_framing(struct cairn_body *body, struct phr_header *headers, size_t count,
                           int minor_version)
{
    unsigned lengths = 0, encodings = 0;
    for (size_t i = 0; i < count; i++) {
        struct cairn_str value = trimmed(&headers[i]);
        if (hide(&headers[i], "content-length", "x-cairn-length")) {
            if (++lengths > 1 || !parse_length(value, &body->remaining))
                body->refusal = "Content-Length must be one decimal number, once";
            body->framing = CAIRN_FRAMING_LENGTH;
        } else if (hide(&headers[i], "transfer-encoding", "x-cairn-transfers")) {
            if (++encodings > 1 || !is_word(value, "chunked") || minor_version == 0)
                body->refusal = "Transfer-Encoding must be chunked, once, in HTTP/1.1";
            body->framing = CAIRN_FRAMING_CHUNKED;
        } else if (hide(&headers[i], "expect", "x-cair")) {
            body->expects_continue = is_word(value, "100-continue") && minor_version > 0;
        }
    }
    if (lengths > 0 && encodings > 0)
        body->refusal = "Content-Length and Transfer-Encoding exclude each other";
    body->decoder.consume_trailer = 1;
    body->ended =
        !body->refusal && (body->framing == CAIRN_FRAMING_NONE ||
                           (body->framing == CAIRN_FRAMING_LENGTH && body->remaining == 0));
}

/* h2o normalises the request target, which it does not need to, and prints what it cannot normalise
 * to standard error, decoded. Such a target is kept for us and blanked for h2o. */
static void hide_target(struct cairn_connection *connection, char *target, size_t len)
{
    cairn_buf_clear(&connection->target);
    if (target[0] == '/' && !memchr(target, '%', len) && !memmem(target, len, "/.", 2))
        return;
    cairn_buf_append(&connection->target, target, len);
    memset(target, 'x', len);
    target[0] = '/';
}

static bool has_folded_line(const struct phr_header *headers, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (headers[i].name == NULL)
            return true;
    return false;
}

static enum peek_result peek_incomplete(struct cairn_connection *connection, size_t size)
{
    if (size > CAIRN_HEADER_BYTES_MAX)
        return refuse(connection, CAIRN_EHEADERS, "the request head is over 16 KiB");
    if (connection->peeked == 0)
        cairn_connection_watch_read(connection, &connection->loop->head_timeout);
    connection->peeked = size;
    return PEEK_INCOMPLETE;
}

/* Look for a complete head at the start of the input. */
static enum peek_result peek(struct cairn_connection *connection)
{
    h2o_buffer_t *input = connection->sock->input;
    struct phr_header headers[H2O_MAX_HEADERS];
    size_t count = H2O_MAX_HEADERS, method_len, path_len;
    size_t size = input->size > CAIRN_HEADER_BYTES_MAX ? CAIRN_HEADER_BYTES_MAX + 1 : input->size;
    const char *method, *path;
    int minor_version;
    int len = phr_parse_request(input->bytes, size, &method, &method_len, &path, &path_len,
                                &minor_version, headers, &count, connection->peeked);
    if (len == -2)
        return peek_incomplete(connection, size);
    if (len < 0 && count == H2O_MAX_HEADERS)
        return refuse(connection, CAIRN_EHEADERS, "the request has more than 100 headers");
    if (len < 0 || method_len == 0 || path_len == 0)
        return refuse(connection, CAIRN_EBODY, "the request head is malformed");
    if ((unsigned)len > CAIRN_HEADER_BYTES_MAX)
        return refuse(connection, CAIRN_EHEADERS, "the request head is over 16 KiB");
    if (has_folded_line(headers, count))
        return refuse(connection, CAIRN_EBODY, "a header is folded over several lines");
    connection->peeked = 0;
    cairn_connection_unwatch(&connection->read_timer);
    connection->body.head_len = (size_t)len;
    record_framing(&connection->body, headers, count, minor_version);
    hide_target(connection, (char *)path, path_len);
    return PEEK_COMPLETE;
}

static void on_head_bytes(h2o_socket_t *sock, const char *err)
{
    struct cairn_connection *connection = cairn_connection_of(sock);
    if (err)
        cairn_connection_close(connection);
    else if (peek(connection) == PEEK_COMPLETE)
        connection->request_cb(sock, NULL);
}

/* In place of libh2o's; see the top of the file. */
void h2o_socket_read_start(h2o_socket_t *sock, h2o_socket_cb cb)
{
    struct cairn_connection *connection = cairn_connection_of(sock);
    bool is_request = connection && connection->http && !connection->closing &&
                      (!connection->request_cb || connection->request_cb == cb);
    if (!is_request) {
        real_read_start(sock, cb);
        return;
    }
    connection->request_cb = cb;
    connection->peeked = 0;
    connection->body = (struct cairn_body){0};
    cairn_connection_watch_read(connection, &connection->loop->idle_timeout);
    /* A refusal empties the input, so that h2o finds nothing to parse when this returns. */
    if (sock->input->size > 0 && peek(connection) == PEEK_REFUSED)
        return;
    real_read_start(sock, on_head_bytes);
}

int cairn_body_check_interposed(struct cairn_loop *loop, struct cairn_error *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
        return cairn_fail(err, CAIRN_EIO, "socketpair: %m");
    /* Accepting makes h2o start to read, which must come through here. */
    h2o_socket_t *sock = h2o_evloop_socket_create(loop->evloop, pair[0], 0);
    cairn_connection_accept(loop, sock, NULL);
    bool works = cairn_connection_of(sock)->request_cb != NULL;
    close(pair[1]); /* h2o reads the end and closes */
    h2o_evloop_run(loop->evloop, 0);
    if (works)
        return 0;
    return cairn_fail(err, CAIRN_EINTERNAL,
                      "request bodies cannot be read: h2o_socket_read_start of this program does "
                      "not take the place of libh2o's; link libh2o-evloop dynamically and export "
                      "the symbol (-Wl,--export-dynamic-symbol=h2o_socket_read_start)");
}

/* Decode `len` raw bytes in place. Returns how many of them are body at the start of `bytes`; those
 * after the body's end follow directly and are counted in *rest. */
static size_t decode(struct cairn_body *body, char *bytes, size_t len, size_t *rest,
                     enum cairn_body_state *state)
{
    size_t decoded = len;
    *rest = 0;
    *state = CAIRN_BODY_MORE;
    if (body->framing == CAIRN_FRAMING_LENGTH) {
        if (decoded > body->remaining)
            decoded = (size_t)body->remaining;
        body->remaining -= decoded;
        body->ended = body->remaining == 0;
        *rest = len - decoded;
    } else {
        ssize_t left = phr_decode_chunked(&body->decoder, bytes, &decoded);
        body->ended = left >= 0;
        *rest = left > 0 ? (size_t)left : 0;
        if (left == -1)
            *state = CAIRN_BODY_BAD;
    }
    body->raw_bytes += len - *rest;
    body->decoded_bytes += decoded;
    uint64_t overhead = body->raw_bytes - body->decoded_bytes;
    if (overhead > CHUNK_OVERHEAD_BYTES + CHUNK_OVERHEAD_FACTOR * body->decoded_bytes)
        *state = CAIRN_BODY_BAD;
    if (*state != CAIRN_BODY_BAD && body->ended)
        *state = CAIRN_BODY_END;
    return decoded;
}

enum cairn_body_state cairn_body_decode(struct cairn_connection *connection)
{
    struct cairn_body *body = &connection->body;
    h2o_buffer_t *input = connection->sock->input;
    size_t known = body->head_len + body->ready;
    if (body->ended)
        return CAIRN_BODY_END;
    if (input->size <= known)
        return CAIRN_BODY_MORE;
    enum cairn_body_state state;
    size_t rest;
    size_t decoded = decode(body, input->bytes + known, input->size - known, &rest, &state);
    body->ready += decoded;
    input->size = known + decoded + rest;
    return state;
}

struct cairn_str cairn_body_in_input(const struct cairn_connection *connection)
{
    const struct cairn_body *body = &connection->body;
    return (struct cairn_str){connection->sock->input->bytes + body->head_len,
                              (uint32_t)body->ready};
}

bool cairn_body_has_ready(const struct cairn_connection *connection)
{
    return connection->body.ready > 0;
}

/* Take `len` ready bytes out of the input from behind the head. */
static void drop_ready(struct cairn_connection *connection, size_t len)
{
    struct cairn_body *body = &connection->body;
    h2o_buffer_t *input = connection->sock->input;
    char *at = input->bytes + body->head_len;
    memmove(at, at + len, input->size - body->head_len - len);
    input->size -= len;
    body->ready -= len;
}

/* What a read took beyond the body's end is the next request: give it to h2o's buffer. */
static void put_back(struct cairn_connection *connection, const char *bytes, size_t len)
{
    if (len == 0)
        return;
    h2o_buffer_t **input = &connection->sock->input;
    h2o_iovec_t room = h2o_buffer_reserve(input, len);
    if (!room.base)
        h2o_fatal("no memory");
    memcpy(room.base, bytes, len);
    (*input)->size += len;
}

static enum cairn_body_state read_directly(struct cairn_connection *connection,
                                           struct cairn_buf *into, size_t max)
{
    struct cairn_body *body = &connection->body;
    if (body->framing == CAIRN_FRAMING_LENGTH && max > body->remaining)
        max = (size_t)body->remaining;
    char *at = cairn_buf_reserve(into, max);
    ssize_t got = read(h2o_socket_get_fd(connection->sock), at, max);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? CAIRN_BODY_MORE : CAIRN_BODY_GONE;
    if (got == 0)
        return CAIRN_BODY_GONE;
    enum cairn_body_state state;
    size_t rest;
    size_t decoded = decode(body, at, (size_t)got, &rest, &state);
    into->len += decoded;
    put_back(connection, at + decoded, rest);
    return state;
}

enum cairn_body_state cairn_body_pull(struct cairn_connection *connection, struct cairn_buf *into,
                                      size_t max)
{
    struct cairn_body *body = &connection->body;
    enum cairn_body_state state = cairn_body_decode(connection);
    if (body->ready > 0) {
        size_t len = body->ready < max ? body->ready : max;
        cairn_buf_append(into, connection->sock->input->bytes + body->head_len, len);
        drop_ready(connection, len);
        return body->ready > 0 && state == CAIRN_BODY_END ? CAIRN_BODY_MORE : state;
    }
    if (state != CAIRN_BODY_MORE)
        return state;
    if (body->gone)
        return CAIRN_BODY_GONE;
    return connection->sock->ssl ? CAIRN_BODY_MORE : read_directly(connection, into, max);
}

static void on_body_input(h2o_socket_t *sock, const char *err)
{
    struct cairn_connection *connection = cairn_connection_of(sock);
    if (err)
        connection->body.gone = true;
    cairn_connection_watch_read(connection, &connection->loop->stall_timeout);
    connection->on_body(connection);
}

static void start_reading(struct cairn_connection *connection)
{
    /* A clear-text socket only tells that it is readable; cairn_body_pull then reads it. */
    if (!connection->sock->ssl)
        h2o_socket_dont_read(connection->sock, 1);
    real_read_start(connection->sock, on_body_input);
}

static void on_continue_sent(h2o_socket_t *sock, const char *err)
{
    struct cairn_connection *connection = cairn_connection_of(sock);
    if (err)
        cairn_connection_close(connection);
    else if (connection->on_body)
        start_reading(connection);
}

void cairn_body_wait(struct cairn_connection *connection,
                     void (*on_body)(struct cairn_connection *connection))
{
    static h2o_iovec_t go_on = {H2O_STRLIT("HTTP/1.1 100 Continue\r\n\r\n")};
    connection->on_body = on_body;
    cairn_connection_watch_read(connection, &connection->loop->stall_timeout);
    bool must_ask = connection->body.expects_continue && connection->body.raw_bytes == 0;
    connection->body.expects_continue = false;
    if (must_ask)
        h2o_socket_write(connection->sock, &go_on, 1, on_continue_sent);
    else
        start_reading(connection);
}

void cairn_body_pause(struct cairn_connection *connection)
{
    connection->on_body = NULL;
    cairn_connection_unwatch(&connection->read_timer);
    h2o_socket_read_stop(connection->sock);
    h2o_socket_dont_read(connection->sock, 0);
}

bool cairn_body_finish(struct cairn_connection *connection)
{
    if (connection->on_body)
        cairn_body_pause(connection);
    if (!connection->body.ended)
        return false;
    if (connection->body.ready > 0)
        drop_ready(connection, connection->body.ready);
    return true;
}
