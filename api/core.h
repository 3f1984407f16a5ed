/* The HTTP core's own types: server, loop, connection, and what the core keeps beside an exchange.
 * With the core's .c files the only place that sees h2o. Handlers include exchange.h alone.
 *
 * Threads: everything of a loop, its connections and their h2o requests is touched by that loop's
 * thread only. Other threads reach it through cairn_loop_post. What the server holds is immutable
 * after start, atomic, or guarded by the lock beside it. */
#ifndef CAIRN_API_CORE_H
#define CAIRN_API_CORE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define H2O_USE_LIBUV 0
#include <h2o.h>
#include <h2o/http1.h>

#include "api/auth.h"
#include "api/exchange.h"
#include "api/http_metrics.h"
#include "api/route.h"
#include "api/server.h"
#include "base/pool.h"
#include "router/transport_h2o.h"

/* Time a connection may take. */
#define CAIRN_HTTP_IDLE_MS   60000u /* between requests */
#define CAIRN_HTTP_HEAD_MS   10000u /* from a head's first byte to its last; a TLS handshake */
#define CAIRN_HTTP_STALL_MS  30000u /* without a byte of a body, or of an answer being read */
#define CAIRN_HTTP_LINGER_MS 2000u  /* for a client to read an answer that came too early */
/* A collected body may take CAIRN_HTTP_STALL_MS and a second more per so many bytes. */
#define CAIRN_HTTP_BODY_BYTES_PER_S 1024u
/* Unread input thrown away while lingering. */
#define CAIRN_HTTP_LINGER_BYTES_MAX (16u << 20)

#define CAIRN_HTTP_CONNECTIONS_DEFAULT  10000u
#define CAIRN_HTTP_LOOP_BODY_BYTES_MAX  (64u << 10)  /* a larger body is handled by a worker */
#define CAIRN_HTTP_READ_BYTES           (256u << 10) /* one read of a body */
#define CAIRN_HTTP_REQUEST_ID_BYTES_MAX 128u
#define CAIRN_STREAM_BLOCK_BYTES        (1u << 20) /* a block is cut at about this */
/* Finished answers of one upload that the client has not read. */
#define CAIRN_STREAM_ANSWER_BYTES_MAX (64u << 20)
/* Between two tries: at a full work queue, at a position that is waited for. */
#define CAIRN_STREAM_RETRY_MS     10u
#define CAIRN_HTTP_EXCHANGES_KEPT 64u         /* per loop, for reuse */
#define CAIRN_HTTP_KEPT_BYTES_MAX (64u << 10) /* a buffer larger than this is not kept */

/* Tests shorten these. */
struct cairn_http_times {
    uint32_t idle_ms, head_ms, stall_ms, linger_ms;
};

struct cairn_message {
    h2o_multithread_message_t super;
    void (*run)(struct cairn_message *message); /* on the loop */
};

enum cairn_loop_phase {
    CAIRN_LOOP_SERVING,
    CAIRN_LOOP_DRAINING, /* no new connections; a connection ends with its request */
    CAIRN_LOOP_CLOSING,  /* connections are closed; handlers still run to their ends */
};

struct cairn_loop {
    /* Immutable once running. */
    struct cairn_server *server;
    unsigned number;
    pthread_t thread; /* the starter's */
    pthread_t self;   /* the same, written by the thread itself */
    int listen_fd;

    /* The loop's thread only. */
    h2o_evloop_t *evloop;
    h2o_context_t context;
    h2o_accept_ctx_t accept;
    h2o_multithread_receiver_t receiver;
    h2o_socket_t *listener; /* NULL: closed */
    h2o_timeout_t idle_timeout, head_timeout, stall_timeout, linger_timeout, retry_timeout;
    h2o_timeout_entry_t accept_pause; /* linked while out of file descriptors */
    enum cairn_loop_phase phase;
    h2o_linklist_t connections;
    unsigned connections_count;
    struct cairn_exchange *exchanges_free;
    unsigned exchanges_free_count;
    unsigned exchanges_count; /* in use */
    struct cairn_scratch scratch;
    uint64_t request_ids;
    bool told_empty;

    struct cairn_message drain_message, close_message;
    atomic_uint senders; /* threads inside cairn_loop_post */
};

struct cairn_server {
    /* Immutable once started. */
    struct cairn_router *router;
    struct cairn_metrics *metrics;
    struct cairn_metrics *own_metrics; /* when the options brought none */
    struct cairn_http_metrics http_metrics;
    struct cairn_route_table *routes;
    struct cairn_auth *auth; /* NULL: none */
    SSL_CTX *tls;            /* NULL: clear text */
    h2o_globalconf_t config;
    struct cairn_http_times times;
    struct cairn_pool *pool;
    unsigned connections_max;
    unsigned loops_count;
    struct cairn_loop *loops;
    unsigned port;

    atomic_uint connections;

    pthread_mutex_t lock; /* guards what follows; a leaf */
    pthread_cond_t changed;
    unsigned loops_ready;       /* loops that came up or failed to */
    unsigned loops_empty;       /* draining loops without connections */
    struct cairn_error failure; /* of a loop that failed to come up */
    struct cairn_scratch *scratches;
    unsigned scratches_free;
};

enum cairn_framing { CAIRN_FRAMING_NONE, CAIRN_FRAMING_LENGTH, CAIRN_FRAMING_CHUNKED };

/* How the body of the current request arrives; see body.c. */
struct cairn_body {
    enum cairn_framing framing;
    bool expects_continue;
    bool ended;          /* its last byte has been decoded */
    bool gone;           /* the client closed, seen by h2o's read */
    const char *refusal; /* framing that cannot be trusted: why; else NULL */
    size_t head_len;
    size_t ready;       /* decoded bytes in sock->input right after the head */
    uint64_t remaining; /* CAIRN_FRAMING_LENGTH: bytes not yet seen */
    uint64_t raw_bytes, decoded_bytes;
    struct phr_chunked_decoder decoder;
};

/* One accepted connection. Lives from accept until its socket (and what lingers of it) is closed.
 */
struct cairn_connection {
    h2o_socket_t *sock;
    struct cairn_loop *loop;
    h2o_linklist_t link;
    h2o_socket_cb request_cb; /* h2o's read callback of a request, once known */
    bool http;                /* h2o's HTTP/1 has it (after a TLS handshake) */
    bool closing;             /* h2o's connection is gone or going; only the socket is left */
    bool lingering;           /* sock is what lingers */
    bool close_asap;          /* close instead of answering */
    bool linger;              /* input was left unread: close gently */
    int linger_fd;            /* -1: none */
    uint64_t linger_bytes;
    size_t peeked; /* bytes of an incomplete head seen by the last peek */
    struct cairn_body body;
    void (*on_body)(struct cairn_connection *connection); /* input came while a body is read */
    struct cairn_exchange *exchange;                      /* the current one */
    uint64_t acked_bytes;                                 /* when write_timer last looked */
    h2o_timeout_entry_t read_timer, write_timer;
    struct cairn_buf target;  /* the request target, when it was hidden from h2o; else empty */
    struct cairn_buf refusal; /* an answer written without h2o */
};

struct cairn_stream;

/* What the core keeps of an exchange. The exchange and this are one allocation. */
struct cairn_exchange_core {
    struct cairn_exchange *exchange;
    struct cairn_loop *loop;
    struct cairn_connection *connection; /* NULL: the client is gone */
    h2o_req_t *req;                      /* NULL: likewise; the loop's thread only */
    h2o_generator_t generator;
    bool busy;                       /* the handler has it: not to be freed */
    bool answered;                   /* h2o has the last byte of the answer */
    bool head;                       /* HEAD: no body goes out */
    const struct cairn_route *route; /* NULL: none matched */
    unsigned route_at;               /* for the metrics */
    int fail_code;
    struct cairn_str allow;             /* for 405 */
    struct cairn_str key;               /* presented API key */
    const struct cairn_api_key *caller; /* NULL: not limited to collections */
    char request_id[CAIRN_HTTP_REQUEST_ID_BYTES_MAX];
    unsigned request_id_len;
    uint64_t begin_us;
    unsigned reruns;           /* times that the handler was run again */
    bool wants_news, had_news; /* of collections, before it runs again */
    bool streams;              /* the body is given to the route in blocks */
    struct cairn_buf body_buf;
    struct cairn_position *min_position; /* in the arena; NULL: none asked for */
    h2o_timeout_entry_t position_timer;  /* linked while it is waited for; the exchange is busy */
    struct cairn_stream *stream;
    void (*then)(struct cairn_exchange *exchange);
    struct cairn_message message;
    struct cairn_exchange *next_free;
};

/* server.c: as cairn_server_start, with times of the caller's. */
int cairn_server_start_with(const struct cairn_server_options *options,
                            const struct cairn_http_times *times, struct cairn_server **out,
                            struct cairn_error *err);
struct cairn_scratch cairn_server_take_scratch(struct cairn_server *server);
void cairn_server_give_scratch(struct cairn_server *server, struct cairn_scratch scratch);
int cairn_scratch_init(struct cairn_scratch *scratch);
void cairn_scratch_release(struct cairn_scratch *scratch);

/* loop.c */
void *cairn_loop_run(void *loop); /* the thread */
/* Run message->run on the loop, later; from any thread. */
void cairn_loop_post(struct cairn_loop *loop, struct cairn_message *message);
void cairn_loop_connection_gone(struct cairn_loop *loop);

/* connection.c */
/* Take an accepted socket; tls may be NULL. */
void cairn_connection_accept(struct cairn_loop *loop, h2o_socket_t *sock, SSL_CTX *tls);
/* The connection of a socket that cairn_connection_accept took; NULL for any other. */
struct cairn_connection *cairn_connection_of(const h2o_socket_t *sock);
/* Close now. Not from inside h2o's own stack. */
void cairn_connection_close(struct cairn_connection *connection);
/* h2o's side of the connection is about to end, whoever ended it. */
void cairn_connection_mark_closing(struct cairn_connection *connection);
/* Called when h2o is about to close the socket: keep the TCP connection for the client to read. */
void cairn_connection_keep_lingering(struct cairn_connection *connection);
/* Answer a head that h2o must not see and close. The input must have been emptied. */
void cairn_connection_refuse(struct cairn_connection *connection, const struct cairn_error *err);
void cairn_connection_watch_read(struct cairn_connection *connection, h2o_timeout_t *timeout);
void cairn_connection_watch_write(struct cairn_connection *connection);
void cairn_connection_unwatch(h2o_timeout_entry_t *timer);

/* request.c: the handler that h2o calls with each head, and the hook it calls at a request's end.
 */
int cairn_request_on_head(h2o_handler_t *handler, h2o_req_t *req);
void cairn_request_on_end(h2o_logger_t *logger, h2o_req_t *req);
/* The body is there (or is to be streamed): on to the handler. */
void cairn_request_dispatch(struct cairn_exchange *exchange);

/* exchange.c */
struct cairn_exchange *cairn_exchange_new(struct cairn_connection *connection, h2o_req_t *req);
void cairn_exchange_free(struct cairn_exchange *exchange);
/* Headers that every answer has, into req->res. Their values live until h2o_send returns. */
struct cairn_answer_text {
    char position[CAIRN_POSITION_TEXT_BYTES];
};
void cairn_exchange_set_headers(struct cairn_exchange *exchange, struct cairn_answer_text *text);

/* stream.c */
void cairn_stream_start(struct cairn_exchange *exchange);
void cairn_stream_client_gone(struct cairn_stream *stream);
/* Whether blocks are with the handler: the client may be waiting for us. */
bool cairn_stream_is_working(const struct cairn_stream *stream);

/* again.c: false: answer with the error. */
bool cairn_exchange_try_again(struct cairn_exchange *exchange, const struct cairn_error *err);

/* problem.c */
const char *cairn_http_reason(int status);

#endif
