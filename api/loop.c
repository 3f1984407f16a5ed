/* One event loop and its thread: the listener, messages from other threads, start and end.
 *
 * The loop's h2o objects are made and disposed of by its own thread: h2o keeps free lists in
 * thread-local storage, and its buffers point there.
 *
 * End of a loop: it is CLOSING, no connection is left, and no exchange is left that a handler, a
 * worker or a shard's writer still has (each of those ends with a message to the loop). A sender
 * may still be inside cairn_loop_post then, hence `senders`. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

#include "api/body.h"
#include "base/diag.h"

#define ACCEPTS_AT_ONCE 16
#define ACCEPT_PAUSE_MS 100 /* h2o's hundred_ms_timeout */

static void accept_some(h2o_socket_t *listener, const char *err)
{
    struct cairn_loop *loop = listener->data;
    struct cairn_server *server = loop->server;
    if (err)
        return;
    for (unsigned i = 0; i < ACCEPTS_AT_ONCE; i++) {
        h2o_socket_t *sock = h2o_evloop_socket_accept(listener);
        if (!sock) {
            bool out_of_files = errno == EMFILE || errno == ENFILE || errno == ENOMEM;
            if (out_of_files && !h2o_timeout_is_linked(&loop->accept_pause)) {
                cairn_warn("http", "cannot accept connections: %m");
                h2o_socket_read_stop(listener);
                h2o_timeout_link(loop->evloop, &loop->context.hundred_ms_timeout,
                                 &loop->accept_pause);
            }
            return;
        }
        if (atomic_load(&server->connections) >= server->connections_max) {
            cairn_counter_add(server->http_metrics.connections_refused, 1);
            h2o_socket_close(sock);
            continue;
        }
        cairn_counter_add(server->http_metrics.connections_total, 1);
        cairn_connection_accept(loop, sock, server->tls);
    }
}

static void on_accept_pause_over(h2o_timeout_entry_t *entry)
{
    struct cairn_loop *loop = H2O_STRUCT_FROM_MEMBER(struct cairn_loop, accept_pause, entry);
    if (loop->listener)
        h2o_socket_read_start(loop->listener, accept_some);
}

void cairn_loop_post(struct cairn_loop *loop, struct cairn_message *message)
{
    atomic_fetch_add(&loop->senders, 1);
    message->super.link = (h2o_linklist_t){0};
    h2o_multithread_send_message(&loop->receiver, &message->super);
    atomic_fetch_sub(&loop->senders, 1);
}

static void on_messages(h2o_multithread_receiver_t *receiver, h2o_linklist_t *messages)
{
    (void)receiver;
    while (!h2o_linklist_is_empty(messages)) {
        struct cairn_message *message =
            H2O_STRUCT_FROM_MEMBER(struct cairn_message, super.link, messages->next);
        h2o_linklist_unlink(&message->super.link);
        message->run(message);
    }
}

static void tell_when_empty(struct cairn_loop *loop)
{
    if (loop->phase == CAIRN_LOOP_SERVING || loop->connections_count > 0 || loop->told_empty)
        return;
    loop->told_empty = true;
    struct cairn_server *server = loop->server;
    pthread_mutex_lock(&server->lock);
    server->loops_empty++;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

void cairn_loop_connection_gone(struct cairn_loop *loop)
{
    loop->connections_count--;
    atomic_fetch_sub(&loop->server->connections, 1);
    cairn_gauge_add(loop->server->http_metrics.connections, -1);
    tell_when_empty(loop);
}

/* Close every connection for which `chosen` says so. Closing one may unlink it, but no other. */
static void close_connections(struct cairn_loop *loop,
                              bool (*chosen)(struct cairn_connection *connection))
{
    h2o_linklist_t *node = loop->connections.next;
    while (node != &loop->connections) {
        struct cairn_connection *connection =
            H2O_STRUCT_FROM_MEMBER(struct cairn_connection, link, node);
        node = node->next;
        if (chosen(connection))
            cairn_connection_close(connection);
    }
}

static bool is_idle(struct cairn_connection *connection)
{
    return connection->http && !connection->exchange && !connection->closing &&
           !connection->lingering && connection->refusal.len == 0 &&
           connection->sock->input->size == 0;
}

static void stop_accepting(struct cairn_loop *loop)
{
    loop->context.shutdown_requested = 1; /* h2o says Connection: close from now on */
    h2o_timeout_unlink(&loop->accept_pause);
    if (loop->listener)
        h2o_socket_close(loop->listener);
    loop->listener = NULL;
}

static void drain(struct cairn_message *message)
{
    struct cairn_loop *loop = H2O_STRUCT_FROM_MEMBER(struct cairn_loop, drain_message, message);
    loop->phase = CAIRN_LOOP_DRAINING;
    stop_accepting(loop);
    close_connections(loop, is_idle);
    tell_when_empty(loop);
}

/* A handler may be reading the body where it lies in the connection's input: such a connection is
 * closed in place of the answer. A stream's blocks have their own memory. */
static bool may_close_now(struct cairn_connection *connection)
{
    struct cairn_exchange *exchange = connection->exchange;
    connection->close_asap = exchange && exchange->core->busy;
    return !connection->close_asap;
}

static void close_all(struct cairn_message *message)
{
    struct cairn_loop *loop = H2O_STRUCT_FROM_MEMBER(struct cairn_loop, close_message, message);
    loop->phase = CAIRN_LOOP_CLOSING;
    stop_accepting(loop);
    close_connections(loop, may_close_now);
    tell_when_empty(loop);
}

static bool is_finished(const struct cairn_loop *loop)
{
    return loop->phase == CAIRN_LOOP_CLOSING && loop->connections_count == 0 &&
           loop->exchanges_count == 0;
}

static void open_timeouts(struct cairn_loop *loop)
{
    const struct cairn_http_times *times = &loop->server->times;
    h2o_timeout_init(loop->evloop, &loop->idle_timeout, times->idle_ms);
    h2o_timeout_init(loop->evloop, &loop->head_timeout, times->head_ms);
    h2o_timeout_init(loop->evloop, &loop->stall_timeout, times->stall_ms);
    h2o_timeout_init(loop->evloop, &loop->linger_timeout, times->linger_ms);
    h2o_timeout_init(loop->evloop, &loop->retry_timeout, CAIRN_STREAM_RETRY_MS);
}

static void close_timeouts(struct cairn_loop *loop)
{
    h2o_timeout_dispose(loop->evloop, &loop->idle_timeout);
    h2o_timeout_dispose(loop->evloop, &loop->head_timeout);
    h2o_timeout_dispose(loop->evloop, &loop->stall_timeout);
    h2o_timeout_dispose(loop->evloop, &loop->linger_timeout);
    h2o_timeout_dispose(loop->evloop, &loop->retry_timeout);
}

static int open_loop(struct cairn_loop *loop, struct cairn_error *err)
{
    loop->self = pthread_self();
    loop->request_ids = ((uint64_t)arc4random() << 32) | loop->number;
    h2o_linklist_init_anchor(&loop->connections);
    loop->accept_pause.cb = on_accept_pause_over;
    loop->drain_message.run = drain;
    loop->close_message.run = close_all;
    loop->evloop = h2o_evloop_create();
    h2o_context_init(&loop->context, loop->evloop, &loop->server->config);
    loop->accept = (h2o_accept_ctx_t){.ctx = &loop->context, .hosts = loop->server->config.hosts};
    h2o_multithread_register_receiver(loop->context.queue, &loop->receiver, on_messages);
    open_timeouts(loop);
    loop->listener =
        h2o_evloop_socket_create(loop->evloop, loop->listen_fd, H2O_SOCKET_FLAG_DONT_READ);
    loop->listen_fd = -1;
    loop->listener->data = loop;
    if (cairn_scratch_init(&loop->scratch) != 0)
        return cairn_fail(err, CAIRN_ENOMEM, "out of memory");
    return cairn_body_check_interposed(loop, err);
}

static void free_kept_exchanges(struct cairn_loop *loop)
{
    while (loop->exchanges_free) {
        struct cairn_exchange *exchange = loop->exchanges_free;
        loop->exchanges_free = exchange->core->next_free;
        cairn_arena_release(&exchange->arena);
        cairn_buf_release(&exchange->out);
        cairn_buf_release(&exchange->core->body_buf);
        free(exchange);
    }
}

static void close_loop(struct cairn_loop *loop)
{
    while (atomic_load(&loop->senders) > 0)
        sched_yield();
    free_kept_exchanges(loop);
    cairn_scratch_release(&loop->scratch);
    h2o_multithread_unregister_receiver(loop->context.queue, &loop->receiver);
    close_timeouts(loop);
    h2o_multithread_queue_t *queue = loop->context.queue;
    h2o_context_dispose(&loop->context);
    free(queue);                      /* h2o 2.2.5 destroys it and forgets to free it */
    h2o_evloop_run(loop->evloop, 0);  /* frees closed sockets */
    h2o_evloop_destroy(loop->evloop); /* leaves its epoll descriptor open, in h2o 2.2.5 */
    cairn_h2o_release_recycled_chunks();
}

static void tell_ready(struct cairn_loop *loop, const struct cairn_error *err)
{
    struct cairn_server *server = loop->server;
    pthread_mutex_lock(&server->lock);
    server->loops_ready++;
    if (err->code != 0)
        server->failure = *err;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

void *cairn_loop_run(void *arg)
{
    struct cairn_loop *loop = arg;
    char name[16];
    snprintf(name, sizeof(name), "cairn-loop-%u", loop->number % 1000);
    pthread_setname_np(pthread_self(), name);
    struct cairn_error err = {0};
    open_loop(loop, &err);
    if (err.code == 0)
        h2o_socket_read_start(loop->listener, accept_some);
    tell_ready(loop, &err);
    while (!is_finished(loop))
        h2o_evloop_run(loop->evloop, INT32_MAX);
    close_loop(loop);
    return NULL;
}
