/* A connection to a peer; its life is drawn in transport_core.h.
 *
 * Clear text is read and written here on the descriptor, and h2o's socket only says when: a call
 * then costs one write and one read, the body goes out from where it is, and a large answer comes
 * in to where it stays. With TLS, h2o reads, decrypts and encrypts.
 *
 * The socket is being read all the time from when it is established, so a connection that the peer
 * closes while it is idle is noticed, and calls change nothing in the kernel's list of what is
 * polled. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/time.h"
#include "router/transport_core.h"

#define BODY_READ_BYTES_MAX (1u << 20) /* of one read; other connections wait meanwhile */

static void on_readable(h2o_socket_t *sock, const char *err);
static void try_next_address(struct transport_connection *connection);

void transport_connection_close(struct transport_connection *connection)
{
    struct cairn_peer *peer = connection->peer;
    if (connection->phase < TRANSPORT_IDLE)
        peer->connecting_count--;
    peer->connections_count--;
    transport_timers_clear(&peer->transport->timers, &connection->timer);
    if (connection->phase == TRANSPORT_IDLE)
        h2o_linklist_unlink(&connection->idle_link);
    h2o_linklist_unlink(&connection->link);
    if (connection->sock)
        h2o_socket_close(connection->sock);
    transport_answer_release(&connection->answer);
    free(connection);
}

/* Closing ends the call that counted on it, which must not happen inside whoever opened it. */
static void fail_soon(struct transport_connection *connection, const char *why)
{
    connection->phase = TRANSPORT_FAILED;
    snprintf(connection->why, sizeof(connection->why), "%s", why);
    transport_timers_set(&connection->peer->transport->timers, &connection->timer, 0);
}

static void make_idle(struct transport_connection *connection)
{
    connection->phase = TRANSPORT_IDLE;
    connection->idle_since_us = cairn_time_monotonic_us();
    h2o_linklist_insert(&connection->peer->idle, &connection->idle_link);
}

/* It is set for a whole interval at a time and not touched by calls. */
static void on_timer(struct transport_timer *timer)
{
    struct transport_connection *connection =
        H2O_STRUCT_FROM_MEMBER(struct transport_connection, timer, timer);
    struct cairn_transport *transport = connection->peer->transport;
    uint64_t idle_us = transport->limits.idle_us;
    uint64_t now_us = cairn_time_monotonic_us();
    if (connection->phase < TRANSPORT_IDLE) {
        if (connection->phase != TRANSPORT_FAILED)
            snprintf(connection->why, sizeof(connection->why), "no connection within %llu ms",
                     (unsigned long long)transport->limits.connect_us / 1000);
        transport_peer_not_connected(connection);
    } else if (connection->phase == TRANSPORT_BUSY) {
        transport_timers_set(&transport->timers, timer, now_us + idle_us);
    } else if (now_us - connection->idle_since_us >= idle_us) {
        transport_connection_close(connection);
    } else {
        transport_timers_set(&transport->timers, timer, connection->idle_since_us + idle_us);
    }
}

static void establish(struct transport_connection *connection)
{
    struct cairn_peer *peer = connection->peer;
    peer->connecting_count--;
    make_idle(connection);
    transport_timers_set(&peer->transport->timers, &connection->timer,
                         connection->idle_since_us + peer->transport->limits.idle_us);
    h2o_socket_dont_read(connection->sock, !peer->tls);
    h2o_socket_read_start(connection->sock, on_readable);
    transport_peer_dispatch(peer);
}

static void on_secured(h2o_socket_t *sock, const char *err)
{
    struct transport_connection *connection = sock->data;
    /* h2o takes an address for a name, which OpenSSL has seen to by now. */
    if (err && !(connection->peer->is_address && err == h2o_socket_error_ssl_cert_name_mismatch))
        fail_soon(connection, err);
    else
        establish(connection);
}

static void on_connected(h2o_socket_t *sock, const char *err)
{
    struct transport_connection *connection = sock->data;
    struct cairn_peer *peer = connection->peer;
    if (err) {
        h2o_socket_close(sock);
        connection->sock = NULL;
        try_next_address(connection);
    } else if (peer->tls) {
        connection->phase = TRANSPORT_SECURING;
        /* An address is no server name (RFC 6066, 3); an empty one is left out. */
        h2o_socket_ssl_handshake(sock, peer->tls, peer->is_address ? "" : peer->host, on_secured);
    } else {
        establish(connection);
    }
}

static void try_next_address(struct transport_connection *connection)
{
    connection->phase = TRANSPORT_CONNECTING;
    while (connection->addresses_tried < connection->addresses.count) {
        unsigned at = connection->addresses_tried++;
        connection->sock = h2o_socket_connect(connection->peer->transport->loop,
                                              &connection->addresses.at[at].to.any,
                                              connection->addresses.at[at].len, on_connected);
        if (connection->sock) {
            connection->sock->data = connection;
            return;
        }
    }
    fail_soon(connection, "the connection is refused or there is no way to the host");
}

void transport_connection_resolved(struct transport_connection *connection,
                                   const struct transport_addresses *addresses, const char *why)
{
    char text[TRANSPORT_WHY_BYTES];
    if (why) {
        snprintf(text, sizeof(text), "the host name cannot be resolved: %s", why);
        fail_soon(connection, text);
        return;
    }
    connection->addresses = *addresses;
    try_next_address(connection);
}

void transport_connection_open(struct cairn_peer *peer)
{
    struct cairn_transport *transport = peer->transport;
    struct transport_connection *connection = cairn_calloc(1, sizeof(*connection));
    connection->peer = peer;
    connection->timer.fire = on_timer;
    h2o_linklist_insert(&peer->connections, &connection->link);
    peer->connections_count++;
    peer->connecting_count++;
    transport_timers_set(&transport->timers, &connection->timer,
                         cairn_time_monotonic_us() + transport->limits.connect_us);
    if (peer->is_address)
        transport_connection_resolved(connection, &peer->addresses, NULL);
    else if (!peer->lookup)
        peer->lookup = transport_lookup_start(peer);
}

/* Whether the peer has closed. That may be known to the kernel and not yet to the loop. */
static bool is_dead(const struct transport_connection *connection)
{
    char byte;
    ssize_t got = recv(h2o_socket_get_fd(connection->sock), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got < 0)
        return errno != EAGAIN && errno != EINTR;
    return got == 0 || !connection->peer->tls; /* TLS: a session ticket, for example */
}

struct transport_connection *transport_connection_take(struct cairn_peer *peer)
{
    while (!h2o_linklist_is_empty(&peer->idle)) {
        struct transport_connection *connection =
            H2O_STRUCT_FROM_MEMBER(struct transport_connection, idle_link, peer->idle.prev);
        if (!is_dead(connection)) {
            h2o_linklist_unlink(&connection->idle_link);
            connection->phase = TRANSPORT_BUSY;
            return connection;
        }
        transport_connection_close(connection);
    }
    return NULL;
}

static void on_sent(h2o_socket_t *sock, const char *err)
{
    struct transport_connection *connection = sock->data;
    connection->send_failed = connection->send_failed || err;
}

/* Returns what the kernel took; stops for good at an error. */
static size_t send_some(struct transport_connection *connection)
{
    h2o_iovec_t *unsent = connection->unsent;
    struct iovec parts[2] = {{unsent[0].base, unsent[0].len}, {unsent[1].base, unsent[1].len}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = unsent[1].len > 0 ? 2 : 1};
    ssize_t sent;
    do
        sent = sendmsg(h2o_socket_get_fd(connection->sock), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        connection->send_failed = errno != EAGAIN;
        return 0;
    }
    size_t rest = (size_t)sent;
    for (unsigned i = 0; i < 2; i++) {
        size_t part = rest < unsent[i].len ? rest : unsent[i].len;
        if (part > 0)
            unsent[i].base += part;
        unsent[i].len -= part;
        rest -= part;
    }
    return (size_t)sent;
}

static void on_writable(h2o_socket_t *sock, const char *err)
{
    struct transport_connection *connection = sock->data;
    if (err || !connection->call || connection->send_failed)
        return;
    send_some(connection);
    connection->call->sent = connection->unsent[0].len + connection->unsent[1].len == 0;
    if (!connection->call->sent && !connection->send_failed)
        h2o_socket_notify_write(sock, on_writable);
}

/* After a failed send there may still be an answer to read; the end of the connection ends the
 * call otherwise. */
static bool send_clear(struct transport_connection *connection, struct transport_call *call)
{
    size_t sent = send_some(connection);
    if (connection->send_failed && sent == 0 && connection->used)
        return false;
    call->sent = connection->unsent[0].len + connection->unsent[1].len == 0;
    if (!call->sent && !connection->send_failed)
        h2o_socket_notify_write(connection->sock, on_writable);
    return true;
}

bool transport_connection_send(struct transport_connection *connection, struct transport_call *call)
{
    struct cairn_peer *peer = connection->peer;
    transport_answer_reset(&connection->answer, peer->transport->limits.answer_bytes_max);
    connection->unsent[0] = h2o_iovec_init(call->head, call->head_len);
    connection->unsent[1] = h2o_iovec_init(call->call->body.ptr, call->call->body.len);
    if (peer->tls) {
        call->sent = true; /* from here on it is not known */
        h2o_socket_write(connection->sock, connection->unsent, call->call->body.len > 0 ? 2 : 1,
                         on_sent);
    } else if (!send_clear(connection, call)) {
        transport_connection_close(connection);
        return false;
    }
    connection->call = call;
    call->connection = connection;
    return true;
}

static void break_off(struct transport_connection *connection, int code, const char *why)
{
    struct transport_call *call = connection->call;
    struct cairn_peer *peer = connection->peer;
    transport_connection_close(connection);
    transport_peer_dispatch(peer);
    call->connection = NULL;
    transport_call_fail(call, code, "%s: %s", peer->url, why);
}

static void take_answer(struct transport_connection *connection)
{
    struct transport_call *call = connection->call;
    struct cairn_peer *peer = connection->peer;
    struct transport_answer *answer = &connection->answer;
    call->call->status = answer->status;
    call->call->answer = answer->body;
    answer->body = (struct cairn_buf){0};
    connection->call = NULL;
    call->connection = NULL;
    /* An answer that came before the request was sent leaves the rest of the request in the way. */
    if (answer->keep_alive && call->sent && !connection->send_failed &&
        !h2o_socket_is_writing(connection->sock)) {
        connection->used = true;
        make_idle(connection);
    } else {
        transport_connection_close(connection);
    }
    transport_peer_dispatch(peer);
    transport_call_end(call);
}

static void on_answer_bytes(struct transport_connection *connection, int code,
                            const struct cairn_error *err)
{
    if (code != 0)
        break_off(connection, code, err->message);
    else if (connection->answer.phase == TRANSPORT_ANSWER_WHOLE)
        take_answer(connection);
}

static void on_end(struct transport_connection *connection)
{
    if (!connection->call)
        transport_connection_close(connection);
    else
        break_off(connection, CAIRN_EUNAVAILABLE,
                  connection->answer.begun ? "the connection broke in the middle of the answer"
                                           : "the connection broke before the answer");
}

static void read_clear(struct transport_connection *connection)
{
    struct cairn_transport *transport = connection->peer->transport;
    struct transport_answer *answer = &connection->answer;
    bool in_place = connection->call && answer->phase == TRANSPORT_ANSWER_LENGTH;
    char *to = transport->scratch;
    size_t room = TRANSPORT_READ_BYTES;
    if (in_place) {
        to = answer->body.data + answer->body.len;
        room = answer->remaining < BODY_READ_BYTES_MAX ? answer->remaining : BODY_READ_BYTES_MAX;
    }
    ssize_t got = recv(h2o_socket_get_fd(connection->sock), to, room, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0 || !connection->call) {
        on_end(connection);
        return;
    }
    struct cairn_error err = {0};
    int code = 0;
    if (in_place)
        transport_answer_took(answer, (size_t)got);
    else
        code = transport_answer_feed(answer, to, (size_t)got, &err);
    on_answer_bytes(connection, code, &err);
}

static void read_tls(struct transport_connection *connection, const char *read_error)
{
    h2o_buffer_t **input = &connection->sock->input;
    if ((*input)->size > 0 && connection->call) {
        struct cairn_error err = {0};
        int code =
            transport_answer_feed(&connection->answer, (*input)->bytes, (*input)->size, &err);
        h2o_buffer_consume(input, (*input)->size);
        if (code != 0 || connection->answer.phase == TRANSPORT_ANSWER_WHOLE) {
            connection->answer.keep_alive = connection->answer.keep_alive && !read_error;
            on_answer_bytes(connection, code, &err);
            return;
        }
    }
    if (read_error || (*input)->size > 0)
        on_end(connection);
}

static void on_readable(h2o_socket_t *sock, const char *err)
{
    struct transport_connection *connection = sock->data;
    if (connection->peer->tls)
        read_tls(connection, err);
    else
        read_clear(connection);
}
