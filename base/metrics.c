/* A family is a metric's name; its series are the label sets under it. Both live in lists in the
 * order of registration, which happens at start or at a name's first use, never per request.
 *
 * Series stand on cache lines of their own: counters that different cores update must not share
 * one. */
#include "base/metrics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CACHE_LINE_BYTES = 64 };

static const uint64_t bucket_bounds_us[] = {
    50,    100,    250,    500,    1000,    2500,    5000,    10000,    25000,
    50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000,
};
enum { BOUNDS_COUNT = sizeof(bucket_bounds_us) / sizeof(bucket_bounds_us[0]) };

struct cairn_counter {
    _Atomic uint64_t value;
};

struct cairn_gauge {
    _Atomic int64_t value;
};

struct cairn_histogram {
    _Atomic uint64_t sum_us;
    _Atomic uint64_t counts[BOUNDS_COUNT + 1]; /* not cumulative; the last is past every bound */
};

enum kind { KIND_COUNTER, KIND_GAUGE, KIND_HISTOGRAM };
static const char *const kind_names[] = {"counter", "gauge", "histogram"};

struct series {
    _Alignas(CACHE_LINE_BYTES) union {
        struct cairn_counter counter;
        struct cairn_gauge gauge;
        struct cairn_histogram histogram;
    } as;
    struct series *next;
    char *labels;
};

struct family {
    struct family *next;
    char *name;
    char *help;
    enum kind kind;
    struct series *series;
    struct series **series_end;
};

struct cairn_metrics {
    pthread_mutex_t lock; /* guards the lists; the numbers are atomics */
    struct family *families;
    struct family **families_end;
};

struct cairn_metrics *cairn_metrics_new(void)
{
    struct cairn_metrics *metrics = cairn_calloc(1, sizeof(*metrics));
    pthread_mutex_init(&metrics->lock, NULL);
    metrics->families_end = &metrics->families;
    return metrics;
}

static void free_series(struct series *series)
{
    while (series) {
        struct series *next = series->next;
        free(series->labels);
        free(series);
        series = next;
    }
}

void cairn_metrics_free(struct cairn_metrics **metrics_ptr)
{
    struct cairn_metrics *metrics = *metrics_ptr;
    if (!metrics)
        return;
    struct family *family = metrics->families;
    while (family) {
        struct family *next = family->next;
        free_series(family->series);
        free(family->name);
        free(family->help);
        free(family);
        family = next;
    }
    pthread_mutex_destroy(&metrics->lock);
    free(metrics);
    *metrics_ptr = NULL;
}

static struct family *find_or_add_family(struct cairn_metrics *metrics, const char *name,
                                         const char *help, enum kind kind)
{
    for (struct family *family = metrics->families; family; family = family->next) {
        if (strcmp(family->name, name) == 0)
            return family;
    }
    struct family *family = cairn_calloc(1, sizeof(*family));
    family->name = cairn_strdup(cairn_str_from(name));
    family->help = cairn_strdup(cairn_str_from(help));
    family->kind = kind;
    family->series_end = &family->series;
    *metrics->families_end = family;
    metrics->families_end = &family->next;
    return family;
}

static struct series *find_or_add_series(struct family *family, const char *labels)
{
    for (struct series *series = family->series; series; series = series->next) {
        if (strcmp(series->labels, labels) == 0)
            return series;
    }
    struct series *series = aligned_alloc(CACHE_LINE_BYTES, sizeof(*series));
    if (!series)
        abort();
    memset(series, 0, sizeof(*series));
    series->labels = cairn_strdup(cairn_str_from(labels));
    *family->series_end = series;
    family->series_end = &series->next;
    return series;
}

static struct series *register_series(struct cairn_metrics *metrics, const char *name,
                                      const char *labels, const char *help, enum kind kind)
{
    pthread_mutex_lock(&metrics->lock);
    struct family *family = find_or_add_family(metrics, name, help, kind);
    if (family->kind != kind) {
        /* A handle of another kind would write past its series. */
        fprintf(stderr, "cairn: metric %s is a %s, not a %s\n", name, kind_names[family->kind],
                kind_names[kind]);
        abort();
    }
    struct series *series = find_or_add_series(family, labels);
    pthread_mutex_unlock(&metrics->lock);
    return series;
}

struct cairn_counter *cairn_metrics_counter(struct cairn_metrics *metrics, const char *name,
                                            const char *labels, const char *help)
{
    return &register_series(metrics, name, labels, help, KIND_COUNTER)->as.counter;
}

struct cairn_gauge *cairn_metrics_gauge(struct cairn_metrics *metrics, const char *name,
                                        const char *labels, const char *help)
{
    return &register_series(metrics, name, labels, help, KIND_GAUGE)->as.gauge;
}

struct cairn_histogram *cairn_metrics_histogram(struct cairn_metrics *metrics, const char *name,
                                                const char *labels, const char *help)
{
    return &register_series(metrics, name, labels, help, KIND_HISTOGRAM)->as.histogram;
}

void cairn_counter_add(struct cairn_counter *counter, uint64_t amount)
{
    atomic_fetch_add_explicit(&counter->value, amount, memory_order_relaxed);
}

uint64_t cairn_counter_value(const struct cairn_counter *counter)
{
    return atomic_load_explicit(&counter->value, memory_order_relaxed);
}

void cairn_gauge_set(struct cairn_gauge *gauge, int64_t value)
{
    atomic_store_explicit(&gauge->value, value, memory_order_relaxed);
}

void cairn_gauge_add(struct cairn_gauge *gauge, int64_t amount)
{
    atomic_fetch_add_explicit(&gauge->value, amount, memory_order_relaxed);
}

void cairn_histogram_observe_us(struct cairn_histogram *histogram, uint64_t elapsed_us)
{
    size_t bucket = 0;
    while (bucket < BOUNDS_COUNT && elapsed_us > bucket_bounds_us[bucket])
        bucket++;
    atomic_fetch_add_explicit(&histogram->counts[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum_us, elapsed_us, memory_order_relaxed);
}

static void write_help(const struct family *family, struct cairn_buf *out)
{
    cairn_buf_printf(out, "# HELP %s ", family->name);
    for (const char *at = family->help; *at; at++) {
        if (*at == '\\')
            cairn_buf_append(out, "\\\\", 2);
        else if (*at == '\n')
            cairn_buf_append(out, "\\n", 2);
        else
            cairn_buf_append(out, at, 1);
    }
    cairn_buf_printf(out, "\n# TYPE %s %s\n", family->name, kind_names[family->kind]);
}

/* name, suffix and labels up to the blank before the number. `le` is one more label, or NULL. */
static void write_name(const struct family *family, const struct series *series, const char *suffix,
                       const char *le, struct cairn_buf *out)
{
    cairn_buf_printf(out, "%s%s", family->name, suffix);
    const char *comma = series->labels[0] && le ? "," : "";
    if (le)
        cairn_buf_printf(out, "{%s%sle=\"%s\"}", series->labels, comma, le);
    else if (series->labels[0])
        cairn_buf_printf(out, "{%s}", series->labels);
    cairn_buf_append(out, " ", 1);
}

/* Seconds without trailing zeros: 0.00005, 0.25, 30. */
static void format_seconds(uint64_t us, char *out, size_t capacity)
{
    int len = snprintf(out, capacity, "%llu.%06llu", (unsigned long long)(us / 1000000),
                       (unsigned long long)(us % 1000000));
    while (out[len - 1] == '0')
        len--;
    if (out[len - 1] == '.')
        len--;
    out[len] = '\0';
}

static void write_histogram(const struct family *family, const struct series *series,
                            struct cairn_buf *out)
{
    const struct cairn_histogram *histogram = &series->as.histogram;
    uint64_t sum_us = atomic_load_explicit(&histogram->sum_us, memory_order_relaxed);
    uint64_t total = 0;
    char seconds[32];
    for (size_t i = 0; i <= BOUNDS_COUNT; i++) {
        total += atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
        if (i < BOUNDS_COUNT)
            format_seconds(bucket_bounds_us[i], seconds, sizeof(seconds));
        write_name(family, series, "_bucket", i < BOUNDS_COUNT ? seconds : "+Inf", out);
        cairn_buf_printf(out, "%llu\n", (unsigned long long)total);
    }
    format_seconds(sum_us, seconds, sizeof(seconds));
    write_name(family, series, "_sum", NULL, out);
    cairn_buf_printf(out, "%s\n", seconds);
    write_name(family, series, "_count", NULL, out);
    cairn_buf_printf(out, "%llu\n", (unsigned long long)total);
}

static void write_series(const struct family *family, const struct series *series,
                         struct cairn_buf *out)
{
    switch (family->kind) {
    case KIND_COUNTER:
        write_name(family, series, "", NULL, out);
        cairn_buf_printf(out, "%llu\n",
                         (unsigned long long)cairn_counter_value(&series->as.counter));
        break;
    case KIND_GAUGE:
        write_name(family, series, "", NULL, out);
        cairn_buf_printf(
            out, "%lld\n",
            (long long)atomic_load_explicit(&series->as.gauge.value, memory_order_relaxed));
        break;
    case KIND_HISTOGRAM:
        write_histogram(family, series, out);
        break;
    }
}

void cairn_metrics_write(struct cairn_metrics *metrics, struct cairn_buf *out)
{
    pthread_mutex_lock(&metrics->lock);
    for (const struct family *family = metrics->families; family; family = family->next) {
        write_help(family, out);
        for (const struct series *series = family->series; series; series = series->next)
            write_series(family, series, out);
    }
    pthread_mutex_unlock(&metrics->lock);
}
