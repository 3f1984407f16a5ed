/* Calls to our own server, whose core replaces a function of the library that both share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/time.h"
#include "router/transport.h"
#include "tests/lib/http_routes.h"
#include "tests/lib/testing.h"

static struct cairn_server *server;
static struct cairn_transport *transport;
static struct cairn_peer *peer;

static void start_server(void)
{
    struct cairn_server_options options = {.loops = 2, .workers = 2};
    char url[64];
    struct cairn_error err = {0};
    server = test_server_start(&options, NULL);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", cairn_server_port(server));
    if (cairn_peer_open(transport, cairn_str_from(url), &peer, &err) != 0)
        fail_msg("%s", err.message);
}

static int setup(void **state)
{
    (void)state;
    struct cairn_error err = {0};
    if (cairn_transport_start(&(struct cairn_transport_options){0}, &transport, &err) != 0)
        fail_msg("%s", err.message);
    test_gate_open();
    start_server();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cairn_peer_release(&peer);
    cairn_transport_stop(&transport);
    test_server_wait_idle(server);
    cairn_server_stop(&server, 1000);
    return 0;
}

static struct cairn_call ask(const char *path, struct cairn_str body, uint64_t patience_us)
{
    struct cairn_call call = {.peer = peer,
                              .path = path,
                              .body = body,
                              .deadline_us = cairn_time_monotonic_us() + patience_us};
    cairn_transport_call_wait(&call);
    return call;
}

static void expect_echo(const char *path, struct cairn_str body)
{
    struct cairn_call call = ask(path, body, 20000000);
    if (call.error.code != 0)
        fail_msg("%s: %s", path, call.error.message);
    assert_int_equal(call.status, 200);
    assert_int_equal(call.answer.len, body.len);
    if (body.len > 0)
        assert_memory_equal(call.answer.data, body.ptr, body.len);
    cairn_buf_release(&call.answer);
}

static void test_sizes(void **state)
{
    (void)state;
    uint32_t len = 5000000;
    char *bytes = malloc(len);
    memset(bytes, 'x', len);
    uint64_t before = test_metric(server, "cairn_http_connections_total");
    for (uint32_t size = 0; size <= len; size = size * 3 + 1) {
        expect_echo("/echo", (struct cairn_str){bytes, size});
        expect_echo("/work", (struct cairn_str){bytes, size});
    }
    assert_int_equal(test_metric(server, "cairn_http_connections_total"), before + 1);
    free(bytes);
}

static void test_refusals(void **state)
{
    (void)state;
    static const char *const paths[] = {"/nowhere", "/fail"};
    static const int statuses[] = {404, 429};
    for (unsigned i = 0; i < 2; i++) {
        struct cairn_call call = ask(paths[i], CAIRN_STR_LITERAL("hello"), 20000000);
        assert_int_equal(call.error.code, 0);
        assert_int_equal(call.status, statuses[i]);
        assert_true(call.answer.len > 0);
        cairn_buf_release(&call.answer);
    }
    /* Refused before its body is read: the connection goes, the answer does not. */
    struct cairn_str body = {calloc(1, CAIRN_BODY_BYTES_MAX), CAIRN_BODY_BYTES_MAX};
    struct cairn_call call = ask("/nowhere", body, 20000000);
    assert_int_equal(call.error.code, 0);
    assert_int_equal(call.status, 404);
    cairn_buf_release(&call.answer);
    free((void *)body.ptr);
    expect_echo("/echo", CAIRN_STR_LITERAL("hello"));
}

static void *call_in_thread(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 100; i++)
        expect_echo(i % 2 ? "/echo" : "/work", CAIRN_STR_LITERAL("hello"));
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[6];
    for (unsigned i = 0; i < 6; i++)
        pthread_create(&threads[i], NULL, call_in_thread, NULL);
    for (unsigned i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
}

static void test_server_goes_and_comes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        expect_echo("/echo", CAIRN_STR_LITERAL("hello"));
        cairn_server_stop(&server, 1000);
        struct cairn_call call = ask("/echo", CAIRN_STR_LITERAL("hello"), 20000000);
        assert_int_equal(call.error.code, CAIRN_EUNAVAILABLE);
        assert_true(call.unsent);
        cairn_peer_release(&peer);
        start_server();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_server_goes_and_comes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
