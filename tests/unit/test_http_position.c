/* Cairn-Min-Position against a router with a shard. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/time.h"
#include "router/router.h"
#include "tests/lib/fixtures.h"
#include "tests/lib/http_client.h"
#include "tests/lib/http_routes.h"
#include "tests/lib/testing.h"

#define HOST "Host: test\r\n"

static struct cairn_test_dir dir;
static struct cairn_router *router;
static struct cairn_server *server;
static struct http_client client;

static int setup(void **state)
{
    (void)state;
    struct cairn_error err;
    cairn_test_dir_make(&dir);
    struct cairn_router_options options = {.dir = dir.path, .shards = 2};
    if (cairn_router_open(&options, &router, &err) != 0)
        fail_msg("%s", err.message);
    struct cairn_server_options serving = {.loops = 1, .workers = 2, .router = router};
    test_gate_open();
    server = test_server_start(&serving, NULL);
    http_connect(&client, cairn_server_port(server));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    http_close(&client);
    test_server_wait_idle(server);
    cairn_server_stop(&server, 1000);
    cairn_router_close(&router);
    cairn_test_dir_remove(&dir);
    return 0;
}

/* Creating a collection writes its schema to every shard. */
static struct cairn_position put_collection(const char *name)
{
    struct cairn_error err;
    struct cairn_contract contract = {0};
    const struct cairn_schema *asked = cairn_test_schema(name, "{}"), *made;
    bool created;
    if (cairn_router_collection_put(router, asked, &made, &created, &contract, &err) != 0)
        fail_msg("%s", err.message);
    cairn_schema_unref(asked);
    cairn_schema_unref(made);
    return contract.position;
}

static void expect_at(const char *what, const char *headers, const char *body, int status,
                      const char *part)
{
    char request[16 << 10];
    snprintf(request, sizeof(request), "%s HTTP/1.1\r\n" HOST "%sContent-Length: %zu\r\n\r\n%s",
             what, headers, strlen(body), body);
    http_expect(&client, request, status, part);
}

static void test_reached(void **state)
{
    (void)state;
    char text[CAIRN_POSITION_TEXT_BYTES], header[CAIRN_POSITION_TEXT_BYTES + 32];
    struct cairn_position position = put_collection("a");
    assert_int_equal(position.count, 2);
    cairn_position_format(&position, text);
    snprintf(header, sizeof(header), "Cairn-Min-Position: %s\r\n", text);
    expect_at("GET /echo", header, "", 200, "\"path\":\"/echo\"");
    expect_at("POST /work", header, "x", 200, "x");
    expect_at("GET /echo", "Cairn-Min-Position: 0;s0=0\r\nCairn-Min-Position: 0;s1=0\r\n", "", 200,
              NULL);
}

static void test_not_reached(void **state)
{
    (void)state;
    static const char ahead[] = "Cairn-Timeout: 30ms\r\nCairn-Min-Position: 0;s0=0\r\n"
                                "Cairn-Min-Position: 0;s1=100000\r\n";
    static const char stream[] = "Cairn-Timeout: 30ms\r\nCairn-Min-Position: 0;s1=100000\r\n"
                                 "Content-Type: application/x-ndjson\r\n";
    uint64_t begin_us = cairn_time_monotonic_us();
    expect_at("GET /echo", ahead, "", 504, "position_not_reached");
    assert_true(cairn_time_monotonic_us() - begin_us >= 30000);
    expect_at("POST /work", ahead, "x", 504, "position_not_reached");
    /* A map that nobody here knows yet; a shard that left; one that cannot be. */
    expect_at("GET /echo", "Cairn-Timeout: 30ms\r\nCairn-Min-Position: 7;s0=0\r\n", "", 504,
              "position_not_reached");
    expect_at("GET /echo", "Cairn-Min-Position: 0;s9=1\r\n", "", 200, NULL);
    expect_at("GET /echo", "Cairn-Min-Position: 0;s256=1\r\n", "", 400, "invalid_parameter");
    /* The upload's body was there already, but nobody read it. */
    expect_at("POST /stream", stream, "{}\n", 504, "position_not_reached");
    http_expect(&client, "GET /echo HTTP/1.1\r\n" HOST "\r\n", 200, NULL);
}

static void *put_later(void *arg)
{
    (void)arg;
    put_collection("b");
    return NULL;
}

/* Requests that wait hold no worker, and do not keep the server from stopping. */
static void test_waiting_holds_nobody(void **state)
{
    (void)state;
    enum { WAITERS = 8 };
    struct http_client waiters[WAITERS];
    struct cairn_server_options serving = {.loops = 1, .workers = 2, .router = router};
    struct cairn_server *own = test_server_start(&serving, NULL);
    for (unsigned i = 0; i < WAITERS; i++) {
        http_connect(&waiters[i], cairn_server_port(own));
        http_send_text(&waiters[i], "GET /echo HTTP/1.1\r\n" HOST "Cairn-Timeout: 60s\r\n"
                                    "Cairn-Min-Position: 0;s1=100000\r\n\r\n");
    }
    test_server_wait_requests(own, WAITERS);
    uint64_t begin_us = cairn_time_monotonic_us();
    struct http_client other;
    http_connect(&other, cairn_server_port(own));
    http_expect(&other, "POST /work HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\nx", 200, "x");
    http_close(&other);
    cairn_server_stop(&own, 10);
    assert_true(cairn_time_monotonic_us() - begin_us < 30000000);
    for (unsigned i = 0; i < WAITERS; i++) {
        assert_true(http_is_closed(&waiters[i]));
        http_close(&waiters[i]);
    }
}

/* A request that waits goes on when the position comes. */
static void test_waits(void **state)
{
    (void)state;
    struct cairn_position position = put_collection("first");
    char headers[256];
    pthread_t thread;
    snprintf(headers, sizeof(headers),
             "Content-Type: application/x-ndjson\r\nCairn-Timeout: 10s\r\n"
             "Cairn-Min-Position: 0;s%u=%llu\r\n",
             position.at[0].shard, (unsigned long long)position.at[0].offset + 1);
    http_sendf(&client, "POST /stream HTTP/1.1\r\n" HOST "%sContent-Length: 3\r\n\r\n{}\n",
               headers);
    test_server_wait_requests(server, 1);
    assert_int_equal(pthread_create(&thread, NULL, put_later, NULL), 0);
    struct http_answer answer;
    http_read(&client, false, &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "{\"line\":1,\"bytes\":2}\n");
    http_answer_free(&answer);
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reached),
        cmocka_unit_test(test_not_reached),
        cmocka_unit_test(test_waits),
        cmocka_unit_test(test_waiting_holds_nobody),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
