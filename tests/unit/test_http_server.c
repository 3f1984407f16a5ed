/* Start and stop, drain, workers, API keys, metrics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/time.h"
#include "tests/lib/http_client.h"
#include "tests/lib/http_routes.h"
#include "tests/lib/testing.h"

#define HOST "Host: test\r\n"

static void expect_start_fails(struct cairn_server_options options, const char *part)
{
    struct cairn_server *server = (void *)&options;
    struct cairn_error err = {0};
    assert_int_equal(cairn_server_start(&options, &server, &err), CAIRN_EPARAM);
    assert_null(server);
    if (!strstr(err.message, part))
        fail_msg("\"%s\" does not say %s", err.message, part);
}

static void test_bad_options(void **state)
{
    (void)state;
    expect_start_fails((struct cairn_server_options){.listen = "nonsense"}, "listen");
    expect_start_fails((struct cairn_server_options){.listen = NULL}, "listen");
    expect_start_fails((struct cairn_server_options){.listen = "127.0.0.1:"}, "listen");
    expect_start_fails((struct cairn_server_options){.listen = ":80"}, "listen");
    expect_start_fails((struct cairn_server_options){.listen = "127.0.0.1:0", .loops = 257},
                       "loops");
    expect_start_fails((struct cairn_server_options){.listen = "127.0.0.1:0", .workers = 1025},
                       "workers");
    expect_start_fails(
        (struct cairn_server_options){.listen = "127.0.0.1:0", .tls_certificate_file = "/nowhere"},
        "TLS");
    expect_start_fails((struct cairn_server_options){.listen = "127.0.0.1:0",
                                                     .tls_certificate_file = "/nowhere",
                                                     .tls_key_file = "/nowhere"},
                       "/nowhere");
    expect_start_fails(
        (struct cairn_server_options){.listen = "127.0.0.1:0", .api_keys_file = "/nowhere"},
        "/nowhere");
}

static void test_port_is_taken(void **state)
{
    (void)state;
    char listen[32];
    struct cairn_server *server = test_server_start(NULL, NULL);
    snprintf(listen, sizeof(listen), "127.0.0.1:%u", cairn_server_port(server));
    expect_start_fails((struct cairn_server_options){.listen = listen, .loops = 1}, "listen");
    cairn_server_stop(&server, 0);
}

static void test_ipv6_and_names(void **state)
{
    (void)state;
    static const char *const names[] = {"[::1]:0", "localhost:0"};
    for (unsigned i = 0; i < 2; i++) {
        struct cairn_server_options options = {.listen = names[i], .loops = 2, .workers = 1};
        struct cairn_server *server;
        struct cairn_error err;
        if (cairn_server_start(&options, &server, &err) != 0) {
            /* A host without IPv6 says so. */
            assert_int_equal(i, 0);
            continue;
        }
        assert_int_not_equal(cairn_server_port(server), 0);
        cairn_server_stop(&server, 0);
    }
}

static void test_start_and_stop(void **state)
{
    (void)state;
    struct cairn_server *none = NULL;
    cairn_server_stop(&none, 0);
    for (unsigned i = 0; i < 5; i++) {
        struct http_client client;
        struct cairn_server_options options = {.loops = 1 + i, .workers = 1};
        struct cairn_server *server = test_server_start(&options, NULL);
        for (unsigned j = 0; j < 10; j++) {
            http_connect(&client, cairn_server_port(server));
            http_expect(&client, "GET /echo HTTP/1.1\r\n" HOST "\r\n", 200, NULL);
            http_close(&client);
        }
        http_connect(&client, cairn_server_port(server));
        http_expect(&client, "GET /echo HTTP/1.1\r\n" HOST "\r\n", 200, NULL);
        uint64_t begin_us = cairn_time_monotonic_us();
        cairn_server_stop(&server, 10000);
        assert_true(http_is_closed(&client)); /* it was idle: nothing to wait for */
        assert_true(cairn_time_monotonic_us() - begin_us < 5000000);
        http_close(&client);
    }
}

static bool is_at_gate(void *arg)
{
    return atomic_load(&test_counters.gate_waits) >= *(unsigned *)arg;
}

struct stopping {
    struct cairn_server *server;
    unsigned drain_ms;
};

static void *stop_in_thread(void *arg)
{
    struct stopping *stopping = arg;
    cairn_server_stop(&stopping->server, stopping->drain_ms);
    return NULL;
}

static bool refuses_connections(void *arg)
{
    return !http_can_connect(*(unsigned *)arg);
}

/* What is in flight when the server stops is answered. */
static void test_drain(void **state)
{
    (void)state;
    static const char *const requests[] = {
        "GET /gate HTTP/1.1\r\n" HOST "\r\n",
        "GET /park HTTP/1.1\r\n" HOST "\r\n",
        "POST /stream?mode=gate HTTP/1.1\r\n" HOST
        "Content-Type: application/x-ndjson\r\nContent-Length: 3\r\n\r\n{}\n",
        "POST /gate HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello",
    };
    struct http_client clients[4];
    struct http_answer answer;
    char value[64];
    unsigned wanted = 3; /* workers: 2 gates; the stream's block comes after */
    pthread_t thread;
    struct cairn_server_options options = {.loops = 1, .workers = 3};
    test_gate_close();
    atomic_store(&test_counters.gate_waits, 0);
    struct stopping stopping = {test_server_start(&options, NULL), 20000};
    unsigned port = cairn_server_port(stopping.server);
    for (unsigned i = 0; i < 4; i++) {
        http_connect(&clients[i], port);
        http_send_text(&clients[i], requests[i]);
    }
    test_wait_until(is_at_gate, &wanted);
    pthread_create(&thread, NULL, stop_in_thread, &stopping);
    test_wait_until(refuses_connections, &port);
    test_gate_open();
    for (unsigned i = 0; i < 4; i++) {
        http_read(&clients[i], false, &answer);
        assert_int_equal(answer.status, 200);
        assert_true(http_header(&answer, "connection", value, sizeof(value)));
        assert_string_equal(value, "close");
        http_answer_free(&answer);
        assert_true(http_is_closed(&clients[i]));
        http_close(&clients[i]);
    }
    pthread_join(thread, NULL);
    assert_null(stopping.server);
}

/* What does not end in time is cut off, but a handler is never left behind. */
static void test_drain_ends(void **state)
{
    (void)state;
    static const char *const requests[] = {
        "GET /gate HTTP/1.1\r\n" HOST "\r\n",
        "POST /gate HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello",
        "GET /park HTTP/1.1\r\n" HOST "\r\n",
        "GET /ec",
        "POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc",
        "GET /big?bytes=60000000 HTTP/1.1\r\n" HOST "\r\n",
        "POST /stream?mode=gate HTTP/1.1\r\n" HOST
        "Content-Type: application/x-ndjson\r\nContent-Length: 300\r\n\r\n{}\n",
        "POST /nowhere HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n",
    };
    enum { COUNT = sizeof(requests) / sizeof(requests[0]) };
    struct http_client clients[COUNT];
    unsigned wanted = 4;
    pthread_t thread;
    struct cairn_server_options options = {.loops = 1, .workers = 3};
    test_gate_close();
    atomic_store(&test_counters.gate_waits, 0);
    struct stopping stopping = {test_server_start(&options, NULL), 50};
    for (unsigned i = 0; i < COUNT; i++) {
        http_connect(&clients[i], cairn_server_port(stopping.server));
        http_send_text(&clients[i], requests[i]);
    }
    test_wait_until(is_at_gate, &wanted);
    pthread_create(&thread, NULL, stop_in_thread, &stopping);
    for (unsigned i = 3; i < COUNT; i++) {
        struct http_answer answer;
        while (http_try_read(&clients[i], false, &answer))
            http_answer_free(&answer);
        http_answer_free(&answer);
    }
    test_gate_open();
    pthread_join(thread, NULL);
    for (unsigned i = 0; i < COUNT; i++)
        http_close(&clients[i]);
}

#define QUEUED_CLIENTS 100u

static bool all_are_queued(void *arg)
{
    struct cairn_server *server = arg;
    return cairn_pool_queued(server->pool) == QUEUED_CLIENTS;
}

/* One worker, stuck: CAIRN_WORK_QUEUE_MAX requests wait, the next one is told to come back. */
static void test_queue_full(void **state)
{
    (void)state;
    struct cairn_server_options options = {.loops = 1, .workers = 1};
    struct http_client clients[QUEUED_CLIENTS], first, last;
    struct http_answer answer;
    char value[64];
    unsigned one = 1;
    test_gate_close();
    atomic_store(&test_counters.gate_waits, 0);
    struct cairn_server *server = test_server_start(&options, NULL);
    http_connect(&first, cairn_server_port(server));
    http_send_text(&first, "GET /gate HTTP/1.1\r\n" HOST "\r\n");
    test_wait_until(is_at_gate, &one);
    for (unsigned i = 0; i < QUEUED_CLIENTS; i++) {
        http_connect(&clients[i], cairn_server_port(server));
        http_send_text(&clients[i], "POST /work HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\nx");
    }
    test_wait_until(all_are_queued, server);
    unsigned more = 0;
    while (cairn_pool_submit(server->pool, free, NULL) == 0)
        more++;
    assert_int_equal(more, CAIRN_WORK_QUEUE_MAX - QUEUED_CLIENTS);
    http_connect(&last, cairn_server_port(server));
    http_ask(&last, "POST /work HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\nx", &answer);
    assert_int_equal(answer.status, 429);
    assert_true(http_header(&answer, "retry-after", value, sizeof(value)));
    assert_non_null(strstr(answer.body, "\"code\":\"overloaded\""));
    http_answer_free(&answer);
    http_expect(&last, "GET /echo HTTP/1.1\r\n" HOST "\r\n", 200, NULL); /* loops go on */
    test_gate_open();
    for (unsigned i = 0; i < QUEUED_CLIENTS; i++) {
        http_read(&clients[i], false, &answer);
        assert_int_equal(answer.status, 200);
        http_answer_free(&answer);
        http_close(&clients[i]);
    }
    http_read(&first, false, &answer);
    http_answer_free(&answer);
    http_expect(&last, "POST /work HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\nx", 200, "x");
    http_close(&first);
    http_close(&last);
    test_server_wait_idle(server);
    cairn_server_stop(&server, 1000);
}

static bool is_past(void *arg)
{
    return cairn_time_monotonic_us() > *(uint64_t *)arg;
}

/* An upload whose first line is too long and whose body then breaks, while no worker is free. */
static void test_broken_upload_in_full_queue(void **state)
{
    (void)state;
    struct cairn_server_options options = {.loops = 1, .workers = 1};
    struct http_client gate, upload, last;
    struct http_answer answer;
    unsigned one = 1;
    test_gate_close();
    atomic_store(&test_counters.gate_waits, 0);
    struct cairn_server *server = test_server_start(&options, NULL);
    http_connect(&gate, cairn_server_port(server));
    http_send_text(&gate, "GET /gate HTTP/1.1\r\n" HOST "\r\n");
    test_wait_until(is_at_gate, &one);
    while (cairn_pool_submit(server->pool, free, NULL) == 0)
        continue;
    size_t len = CAIRN_NDJSON_LINE_BYTES_MAX + 1000;
    char *line = malloc(len);
    memset(line, 'x', len);
    line[len - 1] = '\n';
    http_connect(&upload, cairn_server_port(server));
    http_sendf(&upload,
               "POST /stream?mode=now HTTP/1.1\r\n" HOST
               "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n",
               len);
    http_send(&upload, line, len - 100);
    http_connect(&last, cairn_server_port(server));
    http_expect(&last, "GET /echo HTTP/1.1\r\n" HOST "\r\n", 200, NULL);
    /* In one piece, so that one read finds the line's end and the malformed chunk. */
    memcpy(line, line + len - 100, 100);
    memcpy(line + 100, "\r\nzz\r\n", 6);
    http_send(&upload, line, 106);
    free(line);
    uint64_t retried_us = cairn_time_monotonic_us() + 5 * CAIRN_STREAM_RETRY_MS * 1000;
    test_wait_until(is_past, &retried_us);
    http_expect(&last, "GET /echo HTTP/1.1\r\n" HOST "\r\n", 200, NULL);
    test_gate_open();
    http_read(&gate, false, &answer);
    http_answer_free(&answer);
    http_read(&upload, false, &answer);
    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.body, "malformed"));
    http_answer_free(&answer);
    http_close(&gate);
    http_close(&upload);
    http_close(&last);
    test_server_wait_idle(server);
    cairn_server_stop(&server, 1000);
}

/* A deadline that passes in the queue. */
static void test_deadline_in_queue(void **state)
{
    (void)state;
    struct cairn_server_options options = {.loops = 1, .workers = 1};
    struct http_client first, second;
    struct http_answer answer;
    unsigned one = 1;
    test_gate_close();
    atomic_store(&test_counters.gate_waits, 0);
    struct cairn_server *server = test_server_start(&options, NULL);
    http_connect(&first, cairn_server_port(server));
    http_connect(&second, cairn_server_port(server));
    http_send_text(&first, "GET /gate HTTP/1.1\r\n" HOST "\r\n");
    test_wait_until(is_at_gate, &one);
    http_send_text(&second, "POST /work HTTP/1.1\r\n" HOST
                            "Cairn-Timeout: 10ms\r\nContent-Length: 1\r\n\r\nx");
    uint64_t passed_us = cairn_time_monotonic_us() + 20000;
    test_wait_until(is_past, &passed_us);
    test_gate_open();
    http_read(&second, false, &answer);
    assert_int_equal(answer.status, 504);
    assert_non_null(strstr(answer.body, "\"code\":\"timeout\""));
    http_answer_free(&answer);
    http_close(&first);
    http_close(&second);
    test_server_wait_idle(server);
    cairn_server_stop(&server, 1000);
}

/* Requests of all kinds from several clients over several loops: nothing is left behind. */
static void *ask_many(void *arg)
{
    struct http_client client;
    struct cairn_server *server = arg;
    http_connect(&client, cairn_server_port(server));
    for (unsigned i = 0; i < 300; i++) {
        http_expect(&client, "GET /echo HTTP/1.1\r\n" HOST "\r\n", 200, NULL);
        http_expect(&client, "POST /work HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nhi", 200,
                    "hi");
        http_expect(&client, "GET /park HTTP/1.1\r\n" HOST "\r\n", 200, NULL);
        http_expect(&client,
                    "POST /stream HTTP/1.1\r\n" HOST
                    "Content-Type: application/x-ndjson\r\nContent-Length: 3\r\n\r\n{}\n",
                    200, "\"line\":1");
    }
    http_close(&client);
    return NULL;
}

static void test_many_clients(void **state)
{
    (void)state;
    pthread_t threads[4];
    struct cairn_server_options options = {.loops = 2, .workers = 2};
    test_gate_open();
    struct cairn_server *server = test_server_start(&options, NULL);
    for (unsigned i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, ask_many, server);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    test_server_wait_idle(server);
    assert_int_equal(
        test_metric(server, "cairn_http_requests_total{route=\"work\",status=\"200\"}"), 1200);
    assert_int_equal(
        test_metric(server, "cairn_http_request_duration_seconds_count{route=\"park\"}"), 1200);
    assert_int_equal(test_metric(server, "cairn_http_request_bytes_total"), 1200 * 5);
    assert_int_equal(test_metric(server, "cairn_http_connections_total"), 4);
    assert_int_equal(test_metric(server, "cairn_http_aborted_total"), 0);
    assert_int_equal(test_metric(server, "cairn_http_connections"), 0);
    cairn_server_stop(&server, 1000);
}

/* API keys. */

static char keys_path[CAIRN_TEST_PATH_BYTES];

static void write_keys(const struct cairn_test_dir *dir, const char *text)
{
    FILE *file = fopen(cairn_test_dir_path(dir, "keys", keys_path), "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_bad_keys(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",           "# nothing\n",  "read\n",     "read \n",          "owner secret\n",
        "read:  x\n", "read:a,, x\n", "read a b\n", "read k\xc3\xa9\n",
    };
    struct cairn_test_dir dir;
    cairn_test_dir_make(&dir);
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        write_keys(&dir, texts[i]);
        expect_start_fails(
            (struct cairn_server_options){.listen = "127.0.0.1:0", .api_keys_file = keys_path},
            "api keys");
    }
    char line[CAIRN_API_KEY_BYTES_MAX + 16];
    for (unsigned over = 0; over < 2; over++) {
        struct cairn_auth *auth;
        struct cairn_error err;
        size_t len = CAIRN_API_KEY_BYTES_MAX + over;
        memcpy(line, "read ", 5);
        memset(line + 5, 'k', len);
        memcpy(line + 5 + len, "\n", 2);
        write_keys(&dir, line);
        assert_int_equal(cairn_auth_load(keys_path, &auth, &err), over ? CAIRN_EPARAM : 0);
        cairn_auth_free(&auth);
    }
    cairn_test_dir_remove(&dir);
}

static void expect_with_key(unsigned port, const char *what, const char *header, int status)
{
    struct http_client client;
    struct http_answer answer;
    char value[64];
    http_connect(&client, port);
    http_sendf(&client, "%s HTTP/1.1\r\n" HOST "%sContent-Length: 0\r\n\r\n", what, header);
    http_read(&client, false, &answer);
    if (answer.status != status)
        fail_msg("%s with %s: expected %d, got %s%s", what, header, status, answer.head,
                 answer.body);
    assert_int_equal(http_header(&answer, "www-authenticate", value, sizeof(value)), status == 401);
    http_answer_free(&answer);
    http_close(&client);
}

static void test_keys(void **state)
{
    (void)state;
    struct cairn_test_dir dir;
    cairn_test_dir_make(&dir);
    write_keys(&dir, "# keys\n\nread reader\nwrite   writer\t\r\nadmin:a,b limited\n"
                     "admin root\n");
    struct cairn_server_options options = {.loops = 1, .workers = 1, .api_keys_file = keys_path};
    struct cairn_server *server = test_server_start(&options, NULL);
    unsigned port = cairn_server_port(server);
    static const char get[] = "GET /v1/collections/a/things/x";
    static const char get_c[] = "GET /v1/collections/c/things/x";
    static const char act[] = "POST /v1/collections/a/things:act";
    static const char rebuild[] = "POST /v1/collections/b/v:rebuild";
    expect_with_key(port, "GET /echo", "", 200); /* needs none */
    expect_with_key(port, get, "", 401);
    expect_with_key(port, get, "api-key: wrong\r\n", 401);
    expect_with_key(port, get, "api-key: reade\r\n", 401);
    expect_with_key(port, get, "api-key: reader1\r\n", 401);
    expect_with_key(port, get, "Authorization: Basic reader\r\n", 401);
    expect_with_key(port, get, "Authorization: Bearer \r\n", 401);
    expect_with_key(port, get, "Authorization: Bearer reader\r\n", 200);
    expect_with_key(port, get, "authorization: bearer reader\r\n", 200);
    expect_with_key(port, get, "api-key: reader\r\n", 200);
    expect_with_key(port, act, "api-key: reader\r\n", 403);
    expect_with_key(port, act, "api-key: writer\r\n", 200);
    expect_with_key(port, rebuild, "api-key: writer\r\n", 403);
    expect_with_key(port, rebuild, "api-key: root\r\n", 200);
    expect_with_key(port, rebuild, "api-key: limited\r\n", 200);
    expect_with_key(port, get, "api-key: limited\r\n", 200);
    expect_with_key(port, "GET /v1/collections/%61/things/x", "api-key: limited\r\n", 200);
    expect_with_key(port, get_c, "api-key: limited\r\n", 403);
    expect_with_key(port, "GET /v1/all", "api-key: limited\r\n", 403);
    expect_with_key(port, "GET /v1/all", "api-key: root\r\n", 200);
    /* Refused before a byte of the body came. */
    struct http_client client;
    http_connect(&client, port);
    http_expect(&client,
                "POST /v1/collections/a/things:act HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n",
                401, "\"code\":\"unauthorized\"");
    assert_true(http_is_closed(&client));
    http_close(&client);
    test_server_wait_idle(server);
    cairn_server_stop(&server, 1000);
    cairn_test_dir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_options),    cmocka_unit_test(test_port_is_taken),
        cmocka_unit_test(test_ipv6_and_names), cmocka_unit_test(test_start_and_stop),
        cmocka_unit_test(test_drain),          cmocka_unit_test(test_drain_ends),
        cmocka_unit_test(test_queue_full),     cmocka_unit_test(test_deadline_in_queue),
        cmocka_unit_test(test_many_clients),   cmocka_unit_test(test_bad_keys),
        cmocka_unit_test(test_keys),           cmocka_unit_test(test_broken_upload_in_full_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
