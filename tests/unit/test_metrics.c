#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/metrics.h"

static void assert_text(struct cairn_metrics *metrics, const char *expect)
{
    struct cairn_buf out = {0};
    cairn_metrics_write(metrics, &out);
    cairn_buf_append(&out, "", 1);
    assert_string_equal(out.data, expect);
    cairn_buf_release(&out);
}

static void empty_registry(void **state)
{
    (void)state;
    struct cairn_metrics *metrics = cairn_metrics_new();
    assert_text(metrics, "");
    cairn_metrics_free(&metrics);
    assert_null(metrics);
    cairn_metrics_free(&metrics);
}

static void families_stay_together(void **state)
{
    (void)state;
    struct cairn_metrics *metrics = cairn_metrics_new();
    struct cairn_counter *a0 =
        cairn_metrics_counter(metrics, "cairn_writes_total", "shard=\"s0\"", "Records written.");
    struct cairn_gauge *depth = cairn_metrics_gauge(metrics, "cairn_queue", "", "Tasks waiting.");
    struct cairn_counter *a1 =
        cairn_metrics_counter(metrics, "cairn_writes_total", "shard=\"s1\"", "ignored");
    cairn_counter_add(a0, 5);
    cairn_counter_add(a1, 1);
    cairn_counter_add(a1, UINT64_C(10000000000));
    cairn_gauge_set(depth, 7);
    cairn_gauge_add(depth, -10);
    assert_true(cairn_counter_value(a1) == UINT64_C(10000000001));
    assert_text(metrics, "# HELP cairn_writes_total Records written.\n"
                         "# TYPE cairn_writes_total counter\n"
                         "cairn_writes_total{shard=\"s0\"} 5\n"
                         "cairn_writes_total{shard=\"s1\"} 10000000001\n"
                         "# HELP cairn_queue Tasks waiting.\n"
                         "# TYPE cairn_queue gauge\n"
                         "cairn_queue -3\n");
    cairn_metrics_free(&metrics);
}

static void same_name_and_labels_same_handle(void **state)
{
    (void)state;
    struct cairn_metrics *metrics = cairn_metrics_new();
    char name[] = "cairn_x_total", labels[] = "a=\"1\"", help[] = "Help.";
    struct cairn_counter *first = cairn_metrics_counter(metrics, name, labels, help);
    assert_ptr_equal(cairn_metrics_counter(metrics, "cairn_x_total", "a=\"1\"", ""), first);
    assert_ptr_not_equal(cairn_metrics_counter(metrics, name, "a=\"2\"", help), first);
    assert_ptr_not_equal(cairn_metrics_counter(metrics, name, "", help), first);
    assert_ptr_not_equal(cairn_metrics_counter(metrics, "cairn_y_total", labels, help), first);
    memset(name, '#', sizeof(name) - 1);
    memset(labels, '#', sizeof(labels) - 1);
    memset(help, '#', sizeof(help) - 1);
    struct cairn_buf out = {0};
    cairn_metrics_write(metrics, &out);
    cairn_buf_append(&out, "", 1);
    assert_null(strstr(out.data, "##")); /* all were copied */
    cairn_buf_release(&out);
    cairn_metrics_free(&metrics);
}

static void help_is_escaped(void **state)
{
    (void)state;
    struct cairn_metrics *metrics = cairn_metrics_new();
    cairn_metrics_gauge(metrics, "g", "", "two\nlines and a \\");
    assert_text(metrics, "# HELP g two\\nlines and a \\\\\n# TYPE g gauge\ng 0\n");
    cairn_metrics_free(&metrics);
}

static void histogram_buckets_are_cumulative(void **state)
{
    (void)state;
    struct cairn_metrics *metrics = cairn_metrics_new();
    struct cairn_histogram *plain = cairn_metrics_histogram(metrics, "h", "", "H.");
    cairn_histogram_observe_us(plain, 0);
    cairn_histogram_observe_us(plain, 50); /* on a bound: inside */
    cairn_histogram_observe_us(plain, 51);
    cairn_histogram_observe_us(plain, 30000000);
    cairn_histogram_observe_us(plain, 30000001);
    assert_text(metrics, "# HELP h H.\n# TYPE h histogram\n"
                         "h_bucket{le=\"0.00005\"} 2\n"
                         "h_bucket{le=\"0.0001\"} 3\n"
                         "h_bucket{le=\"0.00025\"} 3\n"
                         "h_bucket{le=\"0.0005\"} 3\n"
                         "h_bucket{le=\"0.001\"} 3\n"
                         "h_bucket{le=\"0.0025\"} 3\n"
                         "h_bucket{le=\"0.005\"} 3\n"
                         "h_bucket{le=\"0.01\"} 3\n"
                         "h_bucket{le=\"0.025\"} 3\n"
                         "h_bucket{le=\"0.05\"} 3\n"
                         "h_bucket{le=\"0.1\"} 3\n"
                         "h_bucket{le=\"0.25\"} 3\n"
                         "h_bucket{le=\"0.5\"} 3\n"
                         "h_bucket{le=\"1\"} 3\n"
                         "h_bucket{le=\"2.5\"} 3\n"
                         "h_bucket{le=\"5\"} 3\n"
                         "h_bucket{le=\"10\"} 3\n"
                         "h_bucket{le=\"30\"} 4\n"
                         "h_bucket{le=\"+Inf\"} 5\n"
                         "h_sum 60.000102\n"
                         "h_count 5\n");
    cairn_metrics_free(&metrics);
}

static void histogram_with_labels(void **state)
{
    (void)state;
    struct cairn_metrics *metrics = cairn_metrics_new();
    struct cairn_histogram *get = cairn_metrics_histogram(metrics, "h", "route=\"get\"", "H.");
    cairn_histogram_observe_us(get, 1500000);
    struct cairn_buf out = {0};
    cairn_metrics_write(metrics, &out);
    cairn_buf_append(&out, "", 1);
    assert_non_null(strstr(out.data, "\nh_bucket{route=\"get\",le=\"1\"} 0\n"));
    assert_non_null(strstr(out.data, "\nh_bucket{route=\"get\",le=\"2.5\"} 1\n"));
    assert_non_null(strstr(out.data, "\nh_bucket{route=\"get\",le=\"+Inf\"} 1\n"));
    assert_non_null(strstr(out.data, "\nh_sum{route=\"get\"} 1.5\nh_count{route=\"get\"} 1\n"));
    cairn_buf_release(&out);
    cairn_metrics_free(&metrics);
}

static void another_kind_under_a_name_aborts(void **state)
{
    (void)state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        struct cairn_metrics *metrics = cairn_metrics_new();
        cairn_metrics_counter(metrics, "n", "", "");
        cairn_metrics_histogram(metrics, "n", "", "");
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

enum { THREADS = 4, ROUNDS = 20000 };

static void *update(void *arg)
{
    struct cairn_metrics *metrics = arg;
    for (int i = 0; i < ROUNDS; i++) {
        char labels[32];
        snprintf(labels, sizeof(labels), "i=\"%d\"", i % 7);
        cairn_counter_add(cairn_metrics_counter(metrics, "c_total", labels, "C."), 1);
        cairn_gauge_add(cairn_metrics_gauge(metrics, "g", "", "G."), i % 2 ? 3 : -3);
        cairn_histogram_observe_us(cairn_metrics_histogram(metrics, "h", "", "H."), 75);
        if (i % 1000 == 0) {
            struct cairn_buf out = {0};
            cairn_metrics_write(metrics, &out);
            assert_true(out.len > 0);
            cairn_buf_release(&out);
        }
    }
    return NULL;
}

static void concurrent_updates_all_count(void **state)
{
    (void)state;
    struct cairn_metrics *metrics = cairn_metrics_new();
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, update, metrics), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    uint64_t total = 0;
    for (int i = 0; i < 7; i++) {
        char labels[32];
        snprintf(labels, sizeof(labels), "i=\"%d\"", i);
        total += cairn_counter_value(cairn_metrics_counter(metrics, "c_total", labels, ""));
    }
    assert_int_equal(total, THREADS * ROUNDS);
    struct cairn_buf out = {0};
    cairn_metrics_write(metrics, &out);
    cairn_buf_append(&out, "", 1);
    assert_non_null(strstr(out.data, "\ng 0\n"));
    assert_non_null(
        strstr(out.data, "\nh_bucket{le=\"0.00005\"} 0\nh_bucket{le=\"0.0001\"} 80000\n"));
    assert_non_null(strstr(out.data, "\nh_sum 6\nh_count 80000\n"));
    cairn_buf_release(&out);
    cairn_metrics_free(&metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_registry),
        cmocka_unit_test(families_stay_together),
        cmocka_unit_test(same_name_and_labels_same_handle),
        cmocka_unit_test(help_is_escaped),
        cmocka_unit_test(histogram_buckets_are_cumulative),
        cmocka_unit_test(histogram_with_labels),
        cmocka_unit_test(another_kind_under_a_name_aborts),
        cmocka_unit_test(concurrent_updates_all_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
