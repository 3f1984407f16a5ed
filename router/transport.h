/* Calls to other processes: HTTP/1.1 keep-alive over h2o's client. With api/ the only place that
 * sees h2o.
 *
 * A transport has one event loop in a thread of its own and a pool of connections per peer. A call
 * is one POST with a body and ends exactly once: with an answer, with an error, or at its deadline.
 *
 * Threads: start a call from any thread; `done` runs on the transport's thread and must not block.
 * Memory: the request's bytes are not copied; they, and the call, are the caller's until done. */
#ifndef CAIRN_ROUTER_TRANSPORT_H
#define CAIRN_ROUTER_TRANSPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

struct cairn_transport;
struct cairn_peer;

struct cairn_transport_options {
    const char *key;     /* sent as Authorization: Bearer; NULL: none */
    const char *ca_file; /* for https peers; NULL: the system's */
};

int cairn_transport_start(const struct cairn_transport_options *options,
                          struct cairn_transport **out, struct cairn_error *err);
/* Fails what is under way with CAIRN_ESHUTDOWN, joins, frees. Peers must have been released. Sets
 * it to NULL. */
void cairn_transport_stop(struct cairn_transport **transport);

/* A peer by URL, http://host:port or https://host:port. One reference of the caller's. Connects
 * with the first call. CAIRN_EPARAM for another form. */
int cairn_peer_open(struct cairn_transport *transport, struct cairn_str url,
                    struct cairn_peer **out, struct cairn_error *err);
/* Connections are closed when the last call on it has ended. Sets it to NULL. */
void cairn_peer_release(struct cairn_peer **peer);

struct cairn_call {
    /* Set by the caller. */
    struct cairn_peer *peer;
    const char *path;      /* "/internal/v1/shards/s0/get"; lives until done */
    struct cairn_str body; /* at most CAIRN_SHARD_CALL_BYTES_MAX */
    uint64_t deadline_us;  /* monotonic (cairn_time_monotonic_us) */
    void (*done)(struct cairn_call *call);
    void *context;

    /* Set before done; what they held before is overwritten, not freed. */
    struct cairn_error error; /* CAIRN_EUNAVAILABLE: no connection, or it broke, or the answer is
                                 not HTTP; CAIRN_ETIMEOUT; CAIRN_EOVERLOADED:
                                 CAIRN_SHARD_CALLS_MAX calls to this peer are under way;
                                 CAIRN_ETOOLARGE: the body is over CAIRN_SHARD_CALL_BYTES_MAX or the
                                 answer over CAIRN_SHARD_ANSWER_BYTES_MAX; CAIRN_ESHUTDOWN. An
                                 answer of any HTTP status is no error. */
    bool unsent; /* with an error: no byte of the request can have been acted on, because not all of
                    them were sent */
    int status;
    struct cairn_buf answer; /* 8-byte aligned; the caller releases it */

    void *private_state; /* the transport's */
};

void cairn_transport_call(struct cairn_call *call);
/* The same, and wait. Not on the transport's own thread. Returns call->error.code. `done` and
 * `context` are ignored. */
int cairn_transport_call_wait(struct cairn_call *call);

#endif
