/* The transport's own types. With its .c files and api/ the only place that sees h2o.
 *
 * Threads: what is marked immutable is read by any; everything else belongs to the transport's
 * thread, except where a lock is named. */
#ifndef CAIRN_ROUTER_TRANSPORT_CORE_H
#define CAIRN_ROUTER_TRANSPORT_CORE_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

#define H2O_USE_LIBUV 0
#include <h2o/linklist.h>
#include <h2o/multithread.h>
#include <h2o/socket.h>

#include "router/transport.h"
#include "router/transport_answer.h"
#include "router/transport_limits.h"
#include "router/transport_timers.h"

#define TRANSPORT_READ_BYTES    (64u << 10)
#define TRANSPORT_ADDRESSES_MAX 8u /* of one name that are tried */
#define TRANSPORT_WHY_BYTES     160u

/* Run on the transport's thread, in the order posted. */
struct transport_message {
    h2o_multithread_message_t super;
    struct transport_message *next; /* posted by the transport's thread itself */
    void (*run)(struct transport_message *message);
};

struct cairn_transport {
    /* Immutable once started. */
    struct cairn_transport_limits limits;
    char *key;     /* NULL: none */
    char *ca_file; /* NULL: the system's */
    pthread_t thread;
    pthread_t self; /* the same, written by the thread itself */

    /* Guards store and ready; a leaf. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    X509_STORE *store; /* NULL: no https peer has been opened yet */
    bool ready;

    atomic_uint senders; /* threads inside transport_post */

    h2o_evloop_t *loop;
    h2o_multithread_queue_t *queue;
    h2o_multithread_receiver_t receiver;
    struct transport_message *own_first, **own_last;
    struct transport_timers timers;
    h2o_linklist_t peers; /* that have had a message */
    struct transport_message stop_message;
    bool stopping;
    char *scratch; /* TRANSPORT_READ_BYTES */
};

struct transport_addresses {
    unsigned count;
    struct {
        union {
            struct sockaddr any;
            struct sockaddr_in v4;
            struct sockaddr_in6 v6;
        } to;
        socklen_t len;
    } at[TRANSPORT_ADDRESSES_MAX];
};

struct cairn_peer {
    /* Immutable. */
    struct cairn_transport *transport;
    char *url, *host, *port;
    SSL_CTX *tls; /* NULL: clear text */
    bool is_address;
    struct transport_addresses addresses; /* when is_address */
    struct cairn_buf head; /* of a request, from behind the path up to the Content-Length's value */
    struct transport_message release_message;

    h2o_linklist_t link;
    h2o_linklist_t connections; /* all */
    h2o_linklist_t idle;        /* least recently used first */
    h2o_linklist_t waiting;     /* calls without a connection, in order */
    struct transport_lookup *lookup;
    uint32_t connections_count; /* all */
    uint32_t connecting_count;  /* those not yet established */
    uint32_t waiting_count;
    uint32_t calls_count; /* begun and not ended */

    /* The caller's reference, calls from their start, and functions that must find the peer when
     * they return. Who adds one has another; given up on the transport's thread only. */
    atomic_uint holds;
};

/* A call under way. */
struct transport_call {
    struct transport_message message;
    struct cairn_call *call;
    struct cairn_peer *peer;
    struct transport_connection *connection; /* NULL: waits in peer->waiting */
    h2o_linklist_t link;
    struct transport_timer deadline;
    struct transport_waiter *waiter; /* of cairn_transport_call_wait; else NULL */
    bool sent;                       /* all bytes were handed over: it may have been acted on */
    size_t head_len;
    char head[];
};

/* Life of a connection; the peer counts it as connecting until it is idle for the first time.
 *   resolving  the peer's look-up is under way          -> connecting, failed
 *   connecting TCP, one address after the other         -> securing, idle, failed
 *   securing   the TLS handshake                        -> idle, failed
 *   failed     closed by its timer, at the next chance  -> closed
 *   idle       in peer->idle                            -> busy, closed
 *   busy       has a call                               -> idle, closed
 * It is bound to a call only while busy: whichever connection is ready first takes the call that
 * has waited longest. Closing frees it at once. */
enum transport_connection_phase {
    TRANSPORT_RESOLVING,
    TRANSPORT_CONNECTING,
    TRANSPORT_SECURING,
    TRANSPORT_FAILED,
    TRANSPORT_IDLE,
    TRANSPORT_BUSY,
};

struct transport_connection {
    struct cairn_peer *peer;
    h2o_socket_t *sock; /* NULL while resolving and between two addresses */
    enum transport_connection_phase phase;
    h2o_linklist_t link, idle_link;
    struct transport_timer timer; /* gives up connecting; then, closes it when idle for long */
    struct transport_addresses addresses;
    unsigned addresses_tried;
    char why[TRANSPORT_WHY_BYTES]; /* when failed */
    uint64_t idle_since_us;
    bool used; /* has had an answer */
    struct transport_call *call;
    h2o_iovec_t unsent[2]; /* clear text: what the kernel has not taken */
    bool send_failed;
    struct transport_answer answer;
};

/* transport.c */
void transport_post(struct cairn_transport *transport, struct transport_message *message);
/* End a call: with the answer that its fields hold, or with an error. `call` is gone then, and its
 * peer may be. */
void transport_call_end(struct transport_call *call);
void transport_call_fail(struct transport_call *call, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* transport_peer.c */
struct transport_call *transport_peer_new_call(struct cairn_peer *peer, struct cairn_call *call);
void transport_peer_begin_call(struct transport_message *message);
/* Give waiting calls to idle connections and open more. Ends no call. */
void transport_peer_dispatch(struct cairn_peer *peer);
/* The connection could not be made: close it and fail a call that counted on it. */
void transport_peer_not_connected(struct transport_connection *connection);
void transport_peer_resolved(struct cairn_peer *peer, const struct transport_addresses *addresses,
                             const char *why);
void transport_peer_shut_down(struct cairn_peer *peer);
/* Giving up the last hold frees the peer. */
void transport_peer_hold(struct cairn_peer *peer);
void transport_peer_unhold(struct cairn_peer *peer);

/* transport_connection.c */
/* Its failures come later, from its timer. */
void transport_connection_open(struct cairn_peer *peer);
void transport_connection_resolved(struct transport_connection *connection,
                                   const struct transport_addresses *addresses, const char *why);
/* Take the most recently used idle connection out of the pool; NULL: none is alive. */
struct transport_connection *transport_connection_take(struct cairn_peer *peer);
/* Send the call. False: the connection turned out dead before a byte left; it is closed and the
 * call untouched. */
bool transport_connection_send(struct transport_connection *connection,
                               struct transport_call *call);
/* A connection that has a call leaves it to the caller. */
void transport_connection_close(struct transport_connection *connection);

/* transport_resolve.c: look-ups of names, each in a thread of its own. */
struct transport_lookup *transport_lookup_start(struct cairn_peer *peer);
/* Its answer is not wanted any more. Sets it to NULL. */
void transport_lookup_abandon(struct transport_lookup **lookup);
/* Read a numeric address; false when the host is a name. */
bool transport_parse_address(const char *host, uint16_t port, struct transport_addresses *out);

/* transport_tls.c */
int transport_tls_open(struct cairn_transport *transport, const char *host, bool is_address,
                       SSL_CTX **out, struct cairn_error *err);
/* Read ca_file, or the system's certificates. Needs no lock before the transport has started. */
int transport_tls_load_store(struct cairn_transport *transport, struct cairn_error *err);

#endif
