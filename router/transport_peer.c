/* A peer: its URL, its connections, and the calls that wait for one.
 *
 * Invariants between two callbacks of the loop:
 *  1. While calls wait, no connection is idle.
 *  2. While calls wait, as many connections are being made as there are waiting calls, up to the
 *     limit on connections; so none waits for an event that does not come. */
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/time.h"
#include "router/transport_core.h"

static bool is_host_char(char c, bool bracketed)
{
    bool alphanumeric = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    return alphanumeric || c == '.' || (bracketed ? c == ':' : c == '-' || c == '_');
}

static bool take_prefix(struct cairn_str *text, const char *prefix)
{
    size_t len = strlen(prefix);
    if (text->len < len || memcmp(text->ptr, prefix, len) != 0)
        return false;
    text->ptr += len;
    text->len -= (uint32_t)len;
    return true;
}

/* Split "host:port" or "[address]:port". */
static bool split_authority(struct cairn_str text, struct cairn_str *host, struct cairn_str *port)
{
    bool bracketed = take_prefix(&text, "[");
    uint32_t at = 0;
    while (at < text.len && is_host_char(text.ptr[at], bracketed))
        at++;
    *host = (struct cairn_str){text.ptr, at};
    text.ptr += at;
    text.len -= at;
    if (host->len == 0 || (bracketed && !take_prefix(&text, "]")) || !take_prefix(&text, ":"))
        return false;
    *port = text;
    return true;
}

static bool parse_port(struct cairn_str text, uint16_t *out)
{
    uint32_t port = 0;
    if (text.len == 0 || text.len > 5)
        return false;
    for (uint32_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        port = port * 10 + (uint32_t)(text.ptr[i] - '0');
    }
    *out = (uint16_t)port;
    return port > 0 && port <= UINT16_MAX;
}

/* Everything of a request's head that is the same for all calls to this peer. */
static void write_head(struct cairn_peer *peer, struct cairn_str authority)
{
    const char *key = peer->transport->key;
    cairn_buf_printf(&peer->head,
                     " HTTP/1.1\r\nHost: %.*s\r\nConnection: keep-alive\r\n"
                     "Content-Type: application/x-flatbuffers\r\n",
                     CAIRN_STR_ARG(authority));
    if (key)
        cairn_buf_printf(&peer->head, "Authorization: Bearer %s\r\n", key);
    cairn_buf_printf(&peer->head, "Content-Length: ");
}

static void free_peer(struct cairn_peer *peer)
{
    SSL_CTX_free(peer->tls);
    cairn_buf_release(&peer->head);
    free(peer->url);
    free(peer->host);
    free(peer->port);
    free(peer);
}

static void release_on_loop(struct transport_message *message);

int cairn_peer_open(struct cairn_transport *transport, struct cairn_str url,
                    struct cairn_peer **out, struct cairn_error *err)
{
    struct cairn_str authority = url, host, port_text;
    uint16_t port;
    *out = NULL;
    bool https = take_prefix(&authority, "https://");
    bool ours = https || take_prefix(&authority, "http://");
    if (url.len > CAIRN_URL_BYTES_MAX || !ours || !split_authority(authority, &host, &port_text) ||
        !parse_port(port_text, &port))
        return cairn_fail(err, CAIRN_EPARAM,
                          "url \"%.*s\" is not of the form http://host:port or https://host:port, "
                          "of at most %u bytes, with a port from 1 to 65535",
                          (int)(url.len < 256 ? url.len : 256), url.ptr, CAIRN_URL_BYTES_MAX);
    struct cairn_peer *peer = cairn_calloc(1, sizeof(*peer));
    peer->transport = transport;
    atomic_init(&peer->holds, 1);
    peer->url = cairn_strdup(url);
    peer->host = cairn_strdup(host);
    peer->port = cairn_strdup(port_text);
    peer->is_address = transport_parse_address(peer->host, port, &peer->addresses);
    peer->release_message.run = release_on_loop;
    h2o_linklist_init_anchor(&peer->connections);
    h2o_linklist_init_anchor(&peer->idle);
    h2o_linklist_init_anchor(&peer->waiting);
    write_head(peer, authority);
    int code = 0;
    if (authority.ptr[0] == '[' && !peer->is_address)
        code = cairn_fail(err, CAIRN_EPARAM, "url \"%s\" has no IPv6 address in its brackets",
                          peer->url);
    else if (https)
        code = transport_tls_open(transport, peer->host, peer->is_address, &peer->tls, err);
    if (code != 0) {
        free_peer(peer);
        return code;
    }
    *out = peer;
    return 0;
}

void transport_peer_hold(struct cairn_peer *peer)
{
    atomic_fetch_add(&peer->holds, 1);
}

void transport_peer_unhold(struct cairn_peer *peer)
{
    if (atomic_fetch_sub(&peer->holds, 1) > 1)
        return;
    while (!h2o_linklist_is_empty(&peer->connections))
        transport_connection_close(
            H2O_STRUCT_FROM_MEMBER(struct transport_connection, link, peer->connections.next));
    transport_lookup_abandon(&peer->lookup);
    if (h2o_linklist_is_linked(&peer->link))
        h2o_linklist_unlink(&peer->link);
    free_peer(peer);
}

static void release_on_loop(struct transport_message *message)
{
    transport_peer_unhold(H2O_STRUCT_FROM_MEMBER(struct cairn_peer, release_message, message));
}

void cairn_peer_release(struct cairn_peer **peer)
{
    struct cairn_peer *released = *peer;
    *peer = NULL;
    if (released)
        transport_post(released->transport, &released->release_message);
}

static void put_waiting(struct transport_call *call, h2o_linklist_t *before)
{
    h2o_linklist_insert(before, &call->link);
    call->peer->waiting_count++;
}

static struct transport_call *take_waiting(struct cairn_peer *peer)
{
    struct transport_call *call =
        H2O_STRUCT_FROM_MEMBER(struct transport_call, link, peer->waiting.next);
    h2o_linklist_unlink(&call->link);
    peer->waiting_count--;
    return call;
}

void transport_peer_dispatch(struct cairn_peer *peer)
{
    while (peer->waiting_count > 0) {
        struct transport_connection *connection = transport_connection_take(peer);
        if (!connection)
            break;
        struct transport_call *call = take_waiting(peer);
        if (!transport_connection_send(connection, call))
            put_waiting(call, peer->waiting.next);
    }
    uint32_t connections_max = peer->transport->limits.connections_max;
    while (peer->connecting_count < peer->waiting_count &&
           peer->connections_count < connections_max)
        transport_connection_open(peer);
}

/* Calls beyond those that other attempts are being made for: with no connection at all, the host
 * is taken to be gone for each of them; else one may as well wait for a connection in use. */
void transport_peer_not_connected(struct transport_connection *connection)
{
    struct cairn_peer *peer = connection->peer;
    char why[TRANSPORT_WHY_BYTES];
    memcpy(why, connection->why, sizeof(why));
    transport_peer_hold(peer);
    transport_connection_close(connection);
    bool connected = peer->connections_count > peer->connecting_count;
    while (peer->waiting_count > peer->connecting_count) {
        transport_call_fail(take_waiting(peer), CAIRN_EUNAVAILABLE, "%s: %s", peer->url, why);
        if (connected)
            break;
    }
    transport_peer_dispatch(peer);
    transport_peer_unhold(peer);
}

void transport_peer_resolved(struct cairn_peer *peer, const struct transport_addresses *addresses,
                             const char *why)
{
    h2o_linklist_t *node;
    for (node = peer->connections.next; node != &peer->connections; node = node->next) {
        struct transport_connection *connection =
            H2O_STRUCT_FROM_MEMBER(struct transport_connection, link, node);
        if (connection->phase == TRANSPORT_RESOLVING)
            transport_connection_resolved(connection, addresses, why);
    }
}

static void on_deadline(struct transport_timer *timer)
{
    struct transport_call *call = H2O_STRUCT_FROM_MEMBER(struct transport_call, deadline, timer);
    struct cairn_peer *peer = call->peer;
    struct transport_connection *connection = call->connection;
    const char *what = "no connection";
    if (connection) {
        what = connection->answer.begun ? "no whole answer" : "no answer";
        call->connection = NULL;
        transport_connection_close(connection);
        transport_peer_dispatch(peer);
    } else {
        h2o_linklist_unlink(&call->link);
        peer->waiting_count--;
    }
    transport_call_fail(call, CAIRN_ETIMEOUT, "%s: %s by the deadline", peer->url, what);
}

struct transport_call *transport_peer_new_call(struct cairn_peer *peer, struct cairn_call *call)
{
    static const char method[] = "POST ";
    char length[32];
    size_t path_len = strlen(call->path);
    size_t length_len =
        (size_t)snprintf(length, sizeof(length), "%u\r\n\r\n", (unsigned)call->body.len);
    size_t head_len = sizeof(method) - 1 + path_len + peer->head.len + length_len;
    struct transport_call *state = cairn_malloc(sizeof(*state) + head_len);
    transport_peer_hold(peer);
    memset(state, 0, sizeof(*state));
    state->message.run = transport_peer_begin_call;
    state->deadline.fire = on_deadline;
    state->call = call;
    state->peer = peer;
    state->head_len = head_len;
    char *at = state->head;
    at = mempcpy(at, method, sizeof(method) - 1);
    at = mempcpy(at, call->path, path_len);
    at = mempcpy(at, peer->head.data, peer->head.len);
    memcpy(at, length, length_len);
    return state;
}

void transport_peer_begin_call(struct transport_message *message)
{
    struct transport_call *call = H2O_STRUCT_FROM_MEMBER(struct transport_call, message, message);
    struct cairn_peer *peer = call->peer;
    struct cairn_transport *transport = peer->transport;
    uint32_t calls_max = transport->limits.calls_max;
    if (!h2o_linklist_is_linked(&peer->link))
        h2o_linklist_insert(&transport->peers, &peer->link);
    peer->calls_count++;
    if (transport->stopping)
        transport_call_fail(call, CAIRN_ESHUTDOWN, "%s: shutting down", peer->url);
    else if (call->call->body.len > CAIRN_SHARD_CALL_BYTES_MAX)
        transport_call_fail(call, CAIRN_ETOOLARGE, "%s: the body is larger than %u bytes",
                            peer->url, CAIRN_SHARD_CALL_BYTES_MAX);
    else if (peer->calls_count > calls_max)
        transport_call_fail(call, CAIRN_EOVERLOADED, "%s: %u calls are under way; try again later",
                            peer->url, calls_max);
    else if (call->call->deadline_us <= cairn_time_monotonic_us())
        transport_call_fail(call, CAIRN_ETIMEOUT, "%s: the deadline is past", peer->url);
    else {
        transport_timers_set(&transport->timers, &call->deadline, call->call->deadline_us);
        put_waiting(call, &peer->waiting);
        transport_peer_dispatch(peer);
    }
}

void transport_peer_shut_down(struct cairn_peer *peer)
{
    transport_peer_hold(peer);
    while (peer->waiting_count > 0)
        transport_call_fail(take_waiting(peer), CAIRN_ESHUTDOWN, "%s: shutting down", peer->url);
    while (!h2o_linklist_is_empty(&peer->connections)) {
        struct transport_connection *connection =
            H2O_STRUCT_FROM_MEMBER(struct transport_connection, link, peer->connections.next);
        struct transport_call *call = connection->call;
        transport_connection_close(connection);
        if (!call)
            continue;
        call->connection = NULL;
        transport_call_fail(call, CAIRN_ESHUTDOWN, "%s: shutting down", peer->url);
    }
    transport_peer_unhold(peer);
}
