/* The transport's bounds, for tests that cannot wait for or fill the real ones. */
#ifndef CAIRN_ROUTER_TRANSPORT_LIMITS_H
#define CAIRN_ROUTER_TRANSPORT_LIMITS_H

#include "router/transport.h"

struct cairn_transport_limits {
    uint32_t connections_max;  /* of a peer */
    uint32_t calls_max;        /* of a peer, under way or waiting for a connection */
    uint64_t answer_bytes_max; /* body of one answer */
    uint64_t connect_us;       /* name look-up, TCP and TLS together */
    uint64_t idle_us;          /* a connection without a call is closed after this */
};

/* As cairn_transport_start, which uses base/limits.h. A limit of 0 is the usual one. */
int cairn_transport_start_with(const struct cairn_transport_options *options,
                               const struct cairn_transport_limits *limits,
                               struct cairn_transport **out, struct cairn_error *err);

#endif
