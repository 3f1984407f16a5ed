/* Counters, gauges and latency histograms, and their Prometheus text form.
 *
 * A registry owns its metrics; a metric's handle lives as long as the registry.
 * Threads: updates are relaxed atomics from any thread; registration takes a lock. */
#ifndef CAIRN_BASE_METRICS_H
#define CAIRN_BASE_METRICS_H

#include <stdint.h>

#include "base/buf.h"

struct cairn_metrics;
struct cairn_counter;
struct cairn_gauge;
struct cairn_histogram;

struct cairn_metrics *cairn_metrics_new(void);
void cairn_metrics_free(struct cairn_metrics **metrics);

/* `labels` is Prometheus label text without braces (shard="s0",route="get") or "". The same name
 * and labels give the same handle. Names and help are copied. */
struct cairn_counter *cairn_metrics_counter(struct cairn_metrics *metrics, const char *name,
                                            const char *labels, const char *help);
struct cairn_gauge *cairn_metrics_gauge(struct cairn_metrics *metrics, const char *name,
                                        const char *labels, const char *help);
/* Seconds, with log-spaced buckets from 50 us to 30 s. */
struct cairn_histogram *cairn_metrics_histogram(struct cairn_metrics *metrics, const char *name,
                                                const char *labels, const char *help);

void cairn_counter_add(struct cairn_counter *counter, uint64_t amount);
uint64_t cairn_counter_value(const struct cairn_counter *counter);
void cairn_gauge_set(struct cairn_gauge *gauge, int64_t value);
void cairn_gauge_add(struct cairn_gauge *gauge, int64_t amount);
void cairn_histogram_observe_us(struct cairn_histogram *histogram, uint64_t elapsed_us);

/* Append everything in Prometheus text format 0.0.4: families together, HELP and TYPE once each. */
void cairn_metrics_write(struct cairn_metrics *metrics, struct cairn_buf *out);

#endif
