#include "api/http_metrics.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"

#define STATUSES_MAX 24 /* distinct statuses of one route kept at hand; others are looked up */

struct status_counter {
    atomic_int status; /* 0: free */
    _Atomic(struct cairn_counter *) counter;
};

struct cairn_http_route_metrics {
    struct cairn_histogram *seconds;
    struct status_counter statuses[STATUSES_MAX];
};

static const char *route_name(const struct cairn_http_metrics *metrics, unsigned at)
{
    return at < metrics->routes_count ? metrics->routes[at].name : "none";
}

void cairn_http_metrics_init(struct cairn_http_metrics *metrics, struct cairn_metrics *registry,
                             const struct cairn_route *routes, unsigned routes_count)
{
    *metrics = (struct cairn_http_metrics){
        .registry = registry, .routes = routes, .routes_count = routes_count};
    metrics->per_route = cairn_calloc(routes_count + 1, sizeof(*metrics->per_route));
    for (unsigned i = 0; i <= routes_count; i++) {
        char labels[160];
        snprintf(labels, sizeof(labels), "route=\"%s\"", route_name(metrics, i));
        metrics->per_route[i].seconds =
            cairn_metrics_histogram(registry, "cairn_http_request_duration_seconds", labels,
                                    "Time from a request's head to its answer.");
    }
    metrics->in_flight = cairn_metrics_gauge(registry, "cairn_http_requests_in_flight", "",
                                             "Requests begun and not yet answered in full.");
    metrics->connections =
        cairn_metrics_gauge(registry, "cairn_http_connections", "", "Open client connections.");
    metrics->connections_total = cairn_metrics_counter(registry, "cairn_http_connections_total", "",
                                                       "Client connections accepted.");
    metrics->connections_refused =
        cairn_metrics_counter(registry, "cairn_http_connections_refused_total", "",
                              "Client connections closed at once for want of room.");
    metrics->timeouts = cairn_metrics_counter(registry, "cairn_http_timeouts_total", "",
                                              "Connections closed for being too slow.");
    metrics->aborted =
        cairn_metrics_counter(registry, "cairn_http_aborted_total", "",
                              "Requests whose client went away before the end of the answer.");
    metrics->heads_refused =
        cairn_metrics_counter(registry, "cairn_http_heads_refused_total", "",
                              "Requests refused before routing: malformed or too large heads.");
    metrics->request_bytes = cairn_metrics_counter(registry, "cairn_http_request_bytes_total", "",
                                                   "Bytes of request bodies, decoded.");
    metrics->response_bytes = cairn_metrics_counter(registry, "cairn_http_response_bytes_total", "",
                                                    "Bytes of response bodies.");
}

void cairn_http_metrics_release(struct cairn_http_metrics *metrics)
{
    free(metrics->per_route);
    metrics->per_route = NULL;
}

static struct cairn_counter *new_counter(struct cairn_http_metrics *metrics, unsigned route_at,
                                         int status)
{
    char labels[192];
    snprintf(labels, sizeof(labels), "route=\"%s\",status=\"%d\"", route_name(metrics, route_at),
             status);
    return cairn_metrics_counter(metrics->registry, "cairn_http_requests_total", labels,
                                 "Answers by route and status.");
}

/* The counter of a route and status, made at its first use. Two threads may make it at once: the
 * registry gives both the same. */
static struct cairn_counter *find_counter(struct cairn_http_metrics *metrics, unsigned route_at,
                                          int status)
{
    struct status_counter *slots = metrics->per_route[route_at].statuses;
    for (unsigned i = 0; i < STATUSES_MAX; i++) {
        int free_status = 0;
        int seen = atomic_load_explicit(&slots[i].status, memory_order_acquire);
        if (seen == 0 && atomic_compare_exchange_strong(&slots[i].status, &free_status, status))
            seen = status;
        else if (seen == 0)
            seen = free_status;
        if (seen != status)
            continue;
        struct cairn_counter *counter =
            atomic_load_explicit(&slots[i].counter, memory_order_acquire);
        if (!counter) {
            counter = new_counter(metrics, route_at, status);
            atomic_store_explicit(&slots[i].counter, counter, memory_order_release);
        }
        return counter;
    }
    return new_counter(metrics, route_at, status);
}

void cairn_http_metrics_answered(struct cairn_http_metrics *metrics, unsigned route_at, int status,
                                 uint64_t elapsed_us)
{
    cairn_counter_add(find_counter(metrics, route_at, status), 1);
    cairn_histogram_observe_us(metrics->per_route[route_at].seconds, elapsed_us);
}
