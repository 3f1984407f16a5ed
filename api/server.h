/* The HTTP server: api.md's contract over a router. h2o event loops, one per core, each with its
 * own listener; a worker pool for what is long.
 *
 * Threads: start and stop from one thread; everything else is internal. */
#ifndef CAIRN_API_SERVER_H
#define CAIRN_API_SERVER_H

#include "base/error.h"
#include "base/metrics.h"
#include "router/router.h"

struct cairn_server;

struct cairn_server_options {
    const char *listen;        /* "127.0.0.1:8080", "[::1]:8080"; port 0 picks one */
    unsigned loops;            /* 0: one per core */
    unsigned workers;          /* 0: one per core */
    unsigned connections_max;  /* 0: 10000 */
    const char *api_keys_file; /* NULL: no auth */
    const char *tls_certificate_file, *tls_key_file; /* NULL: clear text */
    struct cairn_router *router;
    struct cairn_metrics *metrics;
};

/* Bind and serve in threads of its own. CAIRN_EPARAM naming the option, CAIRN_EIO. */
int cairn_server_start(const struct cairn_server_options *options, struct cairn_server **out,
                       struct cairn_error *err);
/* The port that was bound. */
unsigned cairn_server_port(const struct cairn_server *server);
/* Stop accepting, let requests in flight finish (at most `drain_ms`), join, free. Sets it to NULL.
 */
void cairn_server_stop(struct cairn_server **server, unsigned drain_ms);

#endif
