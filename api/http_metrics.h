/* What the HTTP core counts: cairn_http_… Threads: any. */
#ifndef CAIRN_API_HTTP_METRICS_H
#define CAIRN_API_HTTP_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "api/exchange.h"
#include "base/metrics.h"

struct cairn_http_route_metrics;

struct cairn_http_metrics {
    struct cairn_metrics *registry;
    const struct cairn_route *routes;
    unsigned routes_count;
    struct cairn_http_route_metrics *per_route; /* one more than routes: requests without one */
    struct cairn_gauge *in_flight, *connections;
    struct cairn_counter *connections_total, *connections_refused, *timeouts, *aborted;
    struct cairn_counter *request_bytes, *response_bytes, *heads_refused;
};

void cairn_http_metrics_init(struct cairn_http_metrics *metrics, struct cairn_metrics *registry,
                             const struct cairn_route *routes, unsigned routes_count);
void cairn_http_metrics_release(struct cairn_http_metrics *metrics);
/* An answer is on its way. route_at == routes_count: none matched. */
void cairn_http_metrics_answered(struct cairn_http_metrics *metrics, unsigned route_at, int status,
                                 uint64_t elapsed_us);

#endif
