/* The transport's thread, and calls from their start to their end.
 *
 * Why not h2o's HTTP client and socket pool: the pool of 2.2.5 gives out connections that the peer
 * has closed, does not say so afterwards, has no bound on waiting and looks for dead ones by the
 * wall clock; the client copies every answer through its buffer and its time limits are one per
 * client. What is left of h2o here is the event loop, its queue between threads, connecting, TLS,
 * and picohttpparser.
 *
 *   transport.c             the thread, calls' ends
 *   transport_peer.c        URLs, pools, who gets which connection, calls' beginnings and deadlines
 *   transport_connection.c  connecting, sending, receiving
 *   transport_answer.c      taking an answer apart
 *   transport_resolve.c, transport_tls.c, transport_timers.c, transport_h2o.c
 *
 * A call's `done` may start further calls and release peers. Both are messages, run when the loop
 * has returned, so nothing that runs on the loop is entered twice.
 *
 * Quirk of h2o 2.2.5: h2o_socket_write outside of h2o_evloop_run leaves the socket in a list of the
 * loop until the next run, and closing it before that would leave it there freed. Only TLS writes
 * this way, and outside of a run there are timers and own messages. So a run comes after each timer
 * that fires, and own messages, which come last, close only idle connections. */
#include <assert.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/time.h"
#include "router/transport_core.h"

struct transport_waiter {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
};

static bool is_own_thread(const struct cairn_transport *transport)
{
    return pthread_equal(transport->self, pthread_self());
}

void transport_post(struct cairn_transport *transport, struct transport_message *message)
{
    if (is_own_thread(transport)) {
        message->next = NULL;
        *transport->own_last = message;
        transport->own_last = &message->next;
        return;
    }
    atomic_fetch_add(&transport->senders, 1);
    message->super.link = (h2o_linklist_t){0};
    h2o_multithread_send_message(&transport->receiver, &message->super);
    atomic_fetch_sub(&transport->senders, 1);
}

static void on_messages(h2o_multithread_receiver_t *receiver, h2o_linklist_t *messages)
{
    (void)receiver;
    while (!h2o_linklist_is_empty(messages)) {
        struct transport_message *message =
            H2O_STRUCT_FROM_MEMBER(struct transport_message, super.link, messages->next);
        h2o_linklist_unlink(&message->super.link);
        message->run(message);
    }
}

static bool run_own_messages(struct cairn_transport *transport)
{
    bool any = transport->own_first;
    while (transport->own_first) {
        struct transport_message *message = transport->own_first;
        transport->own_first = message->next;
        if (!transport->own_first)
            transport->own_last = &transport->own_first;
        message->run(message);
    }
    return any;
}

void transport_call_end(struct transport_call *call)
{
    struct cairn_peer *peer = call->peer;
    struct cairn_call *ended = call->call;
    struct transport_waiter *waiter = call->waiter;
    transport_timers_clear(&peer->transport->timers, &call->deadline);
    peer->calls_count--;
    ended->private_state = NULL;
    free(call);
    if (waiter) {
        pthread_mutex_lock(&waiter->lock);
        waiter->done = true;
        pthread_cond_signal(&waiter->changed);
        pthread_mutex_unlock(&waiter->lock);
    } else {
        ended->done(ended);
    }
    transport_peer_unhold(peer);
}

void transport_call_fail(struct transport_call *call, int code, const char *format, ...)
{
    va_list args;
    struct cairn_error *error = &call->call->error;
    va_start(args, format);
    error->code = code;
    vsnprintf(error->message, sizeof(error->message), format, args);
    va_end(args);
    call->call->unsent = !call->sent;
    transport_call_end(call);
}

static struct transport_call *prepare(struct cairn_call *call)
{
    call->error.code = 0;
    call->error.message[0] = '\0';
    call->unsent = false;
    call->status = 0;
    call->answer = (struct cairn_buf){0};
    struct transport_call *state = transport_peer_new_call(call->peer, call);
    call->private_state = state;
    return state;
}

void cairn_transport_call(struct cairn_call *call)
{
    struct cairn_transport *transport = call->peer->transport;
    transport_post(transport, &prepare(call)->message);
}

int cairn_transport_call_wait(struct cairn_call *call)
{
    struct cairn_transport *transport = call->peer->transport;
    struct transport_waiter waiter = {.lock = PTHREAD_MUTEX_INITIALIZER,
                                      .changed = PTHREAD_COND_INITIALIZER};
    assert(!is_own_thread(transport));
    struct transport_call *state = prepare(call);
    state->waiter = &waiter;
    transport_post(transport, &state->message);
    pthread_mutex_lock(&waiter.lock);
    while (!waiter.done)
        pthread_cond_wait(&waiter.changed, &waiter.lock);
    pthread_mutex_unlock(&waiter.lock);
    pthread_cond_destroy(&waiter.changed);
    pthread_mutex_destroy(&waiter.lock);
    return call->error.code;
}

static void stop_on_loop(struct transport_message *message)
{
    struct cairn_transport *transport =
        H2O_STRUCT_FROM_MEMBER(struct cairn_transport, stop_message, message);
    transport->stopping = true;
    h2o_linklist_t *node = transport->peers.next;
    while (node != &transport->peers) {
        struct cairn_peer *peer = H2O_STRUCT_FROM_MEMBER(struct cairn_peer, link, node);
        node = node->next;
        transport_peer_shut_down(peer);
    }
}

static void open_loop(struct cairn_transport *transport)
{
    transport->scratch = cairn_malloc(TRANSPORT_READ_BYTES);
    transport->loop = h2o_evloop_create();
    transport->queue = h2o_multithread_create_queue(transport->loop);
    h2o_multithread_register_receiver(transport->queue, &transport->receiver, on_messages);
    pthread_mutex_lock(&transport->lock);
    transport->self = pthread_self();
    transport->ready = true;
    pthread_cond_signal(&transport->changed);
    pthread_mutex_unlock(&transport->lock);
}

/* A look-up may still be posting, or have posted, an answer that nobody waits for. */
static void close_loop(struct cairn_transport *transport)
{
    while (atomic_load(&transport->senders) > 0)
        sched_yield();
    while (!h2o_linklist_is_empty(&transport->receiver._messages))
        h2o_evloop_run(transport->loop, 0);
    h2o_multithread_unregister_receiver(transport->queue, &transport->receiver);
    h2o_multithread_destroy_queue(transport->queue);
    free(transport->queue);              /* h2o 2.2.5 destroys it and forgets to free it */
    h2o_evloop_run(transport->loop, 0);  /* frees closed sockets */
    h2o_evloop_destroy(transport->loop); /* leaves its epoll descriptor open, in h2o 2.2.5 */
    cairn_h2o_release_recycled_chunks();
    transport_timers_release(&transport->timers);
    free(transport->scratch);
}

static void *run_transport(void *arg)
{
    struct cairn_transport *transport = arg;
    pthread_setname_np(pthread_self(), "cairn-transport");
    open_loop(transport);
    bool again = false;
    while (!transport->stopping || again) {
        int32_t wait_ms =
            again ? 0 : transport_timers_wait_ms(&transport->timers, cairn_time_monotonic_us());
        h2o_evloop_run(transport->loop, wait_ms);
        again = transport_timers_fire(&transport->timers, cairn_time_monotonic_us());
        again = run_own_messages(transport) || again;
    }
    assert(h2o_linklist_is_empty(&transport->peers)); /* all were released, and no call is left */
    close_loop(transport);
    return NULL;
}

/* Signals are left to the main thread. h2o's writes raise SIGPIPE, which is blocked here: the error
 * code says it all. Look-ups take the mask over. */
static int start_thread(struct cairn_transport *transport)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&transport->thread, NULL, run_transport, transport);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

static void free_transport(struct cairn_transport *transport)
{
    X509_STORE_free(transport->store);
    pthread_cond_destroy(&transport->changed);
    pthread_mutex_destroy(&transport->lock);
    free(transport->key);
    free(transport->ca_file);
    free(transport);
}

static int take_options(struct cairn_transport *transport,
                        const struct cairn_transport_options *options, struct cairn_error *err)
{
    for (const char *at = options->key ? options->key : ""; *at; at++)
        if (*at <= ' ' || *at > '~')
            return cairn_fail(err, CAIRN_EPARAM, "key has a byte that is no visible ASCII");
    if (options->key)
        transport->key = cairn_strdup(cairn_str_from(options->key));
    if (!options->ca_file)
        return 0;
    transport->ca_file = cairn_strdup(cairn_str_from(options->ca_file));
    return transport_tls_load_store(transport, err);
}

static struct cairn_transport_limits usual_limits(const struct cairn_transport_limits *asked)
{
    struct cairn_transport_limits limits = *asked;
    if (limits.connections_max == 0)
        limits.connections_max = CAIRN_PEER_CONNECTIONS_MAX;
    if (limits.calls_max == 0)
        limits.calls_max = CAIRN_SHARD_CALLS_MAX;
    if (limits.answer_bytes_max == 0)
        limits.answer_bytes_max = CAIRN_SHARD_ANSWER_BYTES_MAX;
    if (limits.connect_us == 0)
        limits.connect_us = CAIRN_PEER_CONNECT_MS * UINT64_C(1000);
    if (limits.idle_us == 0)
        limits.idle_us = CAIRN_PEER_IDLE_MS * UINT64_C(1000);
    return limits;
}

int cairn_transport_start_with(const struct cairn_transport_options *options,
                               const struct cairn_transport_limits *limits,
                               struct cairn_transport **out, struct cairn_error *err)
{
    struct cairn_transport *transport = cairn_calloc(1, sizeof(*transport));
    *out = NULL;
    transport->limits = usual_limits(limits);
    transport->own_last = &transport->own_first;
    transport->stop_message.run = stop_on_loop;
    h2o_linklist_init_anchor(&transport->peers);
    pthread_mutex_init(&transport->lock, NULL);
    pthread_cond_init(&transport->changed, NULL);
    int code = take_options(transport, options, err);
    if (code == 0 && start_thread(transport) != 0)
        code = cairn_fail(err, CAIRN_ENOMEM, "no thread can be started for calls to other shards");
    if (code != 0) {
        free_transport(transport);
        return code;
    }
    pthread_mutex_lock(&transport->lock);
    while (!transport->ready)
        pthread_cond_wait(&transport->changed, &transport->lock);
    pthread_mutex_unlock(&transport->lock);
    *out = transport;
    return 0;
}

int cairn_transport_start(const struct cairn_transport_options *options,
                          struct cairn_transport **out, struct cairn_error *err)
{
    return cairn_transport_start_with(options, &(struct cairn_transport_limits){0}, out, err);
}

void cairn_transport_stop(struct cairn_transport **transport)
{
    struct cairn_transport *stopped = *transport;
    *transport = NULL;
    if (!stopped)
        return;
    transport_post(stopped, &stopped->stop_message);
    pthread_join(stopped->thread, NULL);
    free_transport(stopped);
}
