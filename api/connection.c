/* A connection's life, from accept to the last lingering byte.
 *
 *   state       sock                                   ends by
 *   handshake   TLS handshake                          http | closed
 *   http        h2o's HTTP/1 connection                closing
 *   closing     h2o has let go of it; with TLS the     lingering | closed
 *               close_notify may still be on its way
 *   lingering   a duplicate of the descriptor: our     closed
 *               side is shut, input is thrown away
 *
 * Lingering: closing a TCP socket with unread input makes the kernel send a reset, which can
 * destroy an answer that the client has not read yet. So when an answer leaves before its request
 * was read, the descriptor is duplicated before h2o closes its own, and the rest of the input is
 * drained for a bounded time and number of bytes.
 *
 * h2o is told to close by the read error that its own callback would get; it then unwinds by
 * itself. Its own request time-out is set so long that every other close comes from here. */
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/body.h"

#define DRAIN_BYTES (64u << 10)

static void free_connection(struct cairn_connection *connection)
{
    struct cairn_loop *loop = connection->loop;
    cairn_connection_unwatch(&connection->read_timer);
    cairn_connection_unwatch(&connection->write_timer);
    h2o_linklist_unlink(&connection->link);
    cairn_buf_release(&connection->target);
    cairn_buf_release(&connection->refusal);
    free(connection);
    cairn_loop_connection_gone(loop);
}

static void end_lingering(struct cairn_connection *connection)
{
    h2o_socket_close(connection->sock);
    free_connection(connection);
}

static void on_linger_readable(h2o_socket_t *sock, const char *err)
{
    struct cairn_connection *connection = sock->data;
    char unread[DRAIN_BYTES];
    ssize_t got = err ? 0 : read(h2o_socket_get_fd(sock), unread, sizeof(unread));
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got > 0)
        connection->linger_bytes += (uint64_t)got;
    if (got <= 0 || connection->linger_bytes > CAIRN_HTTP_LINGER_BYTES_MAX)
        end_lingering(connection);
}

static void start_lingering(struct cairn_connection *connection)
{
    struct cairn_loop *loop = connection->loop;
    int fd = connection->linger_fd;
    connection->linger_fd = -1;
    connection->closing = false;
    connection->lingering = true;
    shutdown(fd, SHUT_WR);
    connection->sock =
        h2o_evloop_socket_create(loop->evloop, fd, H2O_SOCKET_FLAG_IS_ACCEPTED_CONNECTION);
    connection->sock->data = connection;
    h2o_socket_dont_read(connection->sock, 1);
    h2o_socket_read_start(connection->sock, on_linger_readable);
    cairn_connection_watch_read(connection, &loop->linger_timeout);
}

static void on_socket_closed(void *data)
{
    struct cairn_connection *connection = data;
    cairn_connection_unwatch(&connection->read_timer);
    cairn_connection_unwatch(&connection->write_timer);
    if (connection->linger_fd >= 0)
        start_lingering(connection);
    else
        free_connection(connection);
}

struct cairn_connection *cairn_connection_of(const h2o_socket_t *sock)
{
    return sock->on_close.cb == on_socket_closed ? sock->on_close.data : NULL;
}

void cairn_connection_keep_lingering(struct cairn_connection *connection)
{
    if (connection->loop->phase != CAIRN_LOOP_CLOSING && connection->linger_fd < 0)
        connection->linger_fd = fcntl(h2o_socket_get_fd(connection->sock), F_DUPFD_CLOEXEC, 0);
}

void cairn_connection_mark_closing(struct cairn_connection *connection)
{
    connection->closing = true;
    cairn_connection_unwatch(&connection->write_timer);
    cairn_connection_watch_read(connection, &connection->loop->linger_timeout);
}

void cairn_connection_close(struct cairn_connection *connection)
{
    if (connection->lingering) {
        end_lingering(connection);
    } else if (connection->closing) {
        /* Only a TLS close_notify can be under way: make its write fail. */
        shutdown(h2o_socket_get_fd(connection->sock), SHUT_RDWR);
    } else {
        cairn_connection_mark_closing(connection);
        if (connection->request_cb)
            connection->request_cb(connection->sock, h2o_socket_error_closed);
        else
            h2o_socket_close(connection->sock);
    }
}

void cairn_connection_unwatch(h2o_timeout_entry_t *timer)
{
    h2o_timeout_unlink(timer);
}

void cairn_connection_watch_read(struct cairn_connection *connection, h2o_timeout_t *timeout)
{
    h2o_timeout_unlink(&connection->read_timer);
    h2o_timeout_link(connection->loop->evloop, timeout, &connection->read_timer);
}

static void on_read_timeout(h2o_timeout_entry_t *entry)
{
    struct cairn_connection *connection =
        H2O_STRUCT_FROM_MEMBER(struct cairn_connection, read_timer, entry);
    struct cairn_stream *stream =
        connection->exchange && !connection->closing ? connection->exchange->core->stream : NULL;
    if (stream && cairn_stream_is_working(stream)) {
        cairn_connection_watch_read(connection, &connection->loop->stall_timeout);
        return;
    }
    if (connection->exchange || connection->peeked > 0 || !connection->http)
        cairn_counter_add(connection->loop->server->http_metrics.timeouts, 1);
    cairn_connection_close(connection);
}

/* Bytes of ours that the client's kernel has acknowledged. */
static uint64_t acked_bytes(const struct cairn_connection *connection)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    if (getsockopt(h2o_socket_get_fd(connection->sock), IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
        return 0;
    return info.tcpi_bytes_acked;
}

static void on_write_timeout(h2o_timeout_entry_t *entry)
{
    struct cairn_connection *connection =
        H2O_STRUCT_FROM_MEMBER(struct cairn_connection, write_timer, entry);
    uint64_t acked = acked_bytes(connection);
    if (acked > connection->acked_bytes) {
        connection->acked_bytes = acked;
        h2o_timeout_link(connection->loop->evloop, &connection->loop->stall_timeout, entry);
        return;
    }
    cairn_counter_add(connection->loop->server->http_metrics.timeouts, 1);
    cairn_connection_close(connection);
}

/* A client that takes nothing of an answer for a whole interval is closed: between one and two
 * intervals after it stopped reading. */
void cairn_connection_watch_write(struct cairn_connection *connection)
{
    h2o_timeout_unlink(&connection->write_timer);
    h2o_timeout_link(connection->loop->evloop, &connection->loop->stall_timeout,
                     &connection->write_timer);
}

static void on_refused(h2o_socket_t *sock, const char *err)
{
    struct cairn_connection *connection = cairn_connection_of(sock);
    if (!err)
        cairn_connection_keep_lingering(connection);
    cairn_connection_close(connection);
}

void cairn_connection_refuse(struct cairn_connection *connection, const struct cairn_error *err)
{
    struct cairn_buf body = {0};
    struct cairn_json_writer writer;
    cairn_json_writer_init(&writer, &body);
    cairn_problem_write(&writer, err);
    int status = cairn_code_http_status(err->code);
    h2o_context_t *context = &connection->loop->context;
    h2o_get_timestamp(context, NULL, NULL);
    cairn_buf_clear(&connection->refusal);
    cairn_buf_printf(&connection->refusal,
                     "HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: close\r\nContent-Length: %zu\r\n"
                     "content-type: application/problem+json\r\n\r\n",
                     status, cairn_http_reason(status), context->_timestamp_cache.value->rfc1123,
                     body.len);
    cairn_buf_append(&connection->refusal, body.data, body.len);
    cairn_buf_release(&body);
    cairn_counter_add(connection->loop->server->http_metrics.heads_refused, 1);

    connection->peeked = 0;
    cairn_connection_watch_read(connection, &connection->loop->stall_timeout);
    h2o_socket_read_stop(connection->sock);
    h2o_iovec_t answer = {connection->refusal.data, connection->refusal.len};
    h2o_socket_write(connection->sock, &answer, 1, on_refused);
}

static void begin_http(struct cairn_connection *connection)
{
    struct cairn_loop *loop = connection->loop;
    connection->http = true;
    h2o_http1_accept(&loop->accept, connection->sock,
                     *h2o_get_timestamp(&loop->context, NULL, NULL));
}

static void on_handshake(h2o_socket_t *sock, const char *err)
{
    struct cairn_connection *connection = cairn_connection_of(sock);
    cairn_connection_unwatch(&connection->read_timer);
    if (err)
        cairn_connection_close(connection);
    else
        begin_http(connection);
}

void cairn_connection_accept(struct cairn_loop *loop, h2o_socket_t *sock, SSL_CTX *tls)
{
    struct cairn_connection *connection = cairn_calloc(1, sizeof(*connection));
    connection->sock = sock;
    connection->loop = loop;
    connection->linger_fd = -1;
    connection->read_timer.cb = on_read_timeout;
    connection->write_timer.cb = on_write_timeout;
    h2o_linklist_insert(&loop->connections, &connection->link);
    loop->connections_count++;
    atomic_fetch_add(&loop->server->connections, 1);
    cairn_gauge_add(loop->server->http_metrics.connections, 1);
    sock->on_close.cb = on_socket_closed;
    sock->on_close.data = connection;
    if (tls) {
        cairn_connection_watch_read(connection, &loop->head_timeout);
        h2o_socket_ssl_handshake(sock, tls, NULL, on_handshake);
    } else {
        begin_http(connection);
    }
}
