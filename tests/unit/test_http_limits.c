/* Every limit of the HTTP core at its bound, time-outs, and clients that go away at every stage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/limits.h"
#include "base/time.h"
#include "tests/lib/http_client.h"
#include "tests/lib/http_routes.h"

#define HOST "Host: test\r\n"

static struct cairn_server *server;
static struct http_client client;

static int start_with(const struct cairn_server_options *options,
                      const struct cairn_http_times *times)
{
    test_gate_open();
    server = test_server_start(options, times);
    http_connect(&client, cairn_server_port(server));
    return 0;
}

static int start(void **state)
{
    (void)state;
    return start_with(NULL, NULL);
}

static int start_impatient(void **state)
{
    static const struct cairn_http_times times = {
        .idle_ms = 150, .head_ms = 100, .stall_ms = 120, .linger_ms = 100};
    (void)state;
    return start_with(NULL, &times);
}

static int stop(void **state)
{
    (void)state;
    test_gate_open();
    http_close(&client);
    test_server_wait_idle(server);
    cairn_server_stop(&server, 1000);
    return 0;
}

static void reconnect(void)
{
    http_close(&client);
    http_connect(&client, cairn_server_port(server));
}

static void still_alive(void)
{
    http_expect(&client, "GET /echo?q=alive HTTP/1.1\r\n" HOST "\r\n", 200, "\"q\":\"alive\"");
}

/* A head of exactly `len` bytes. */
static char *head_of(size_t len)
{
    static const char start_line[] = "GET /echo HTTP/1.1\r\nX: ";
    char *head = malloc(len + 1);
    memset(head, 'x', len);
    memcpy(head, start_line, sizeof(start_line) - 1);
    memcpy(head + len - 4, "\r\n\r\n", 5);
    return head;
}

static void expect_431(void)
{
    struct http_answer answer;
    char value[64];
    http_read(&client, false, &answer);
    assert_int_equal(answer.status, 431);
    assert_non_null(strstr(answer.body, "\"code\":\"headers_too_large\""));
    assert_true(http_header(&answer, "content-type", value, sizeof(value)));
    assert_string_equal(value, "application/problem+json");
    http_answer_free(&answer);
    assert_true(http_is_closed(&client));
}

static void test_head_bytes(void **state)
{
    (void)state;
    char *fits = head_of(CAIRN_HEADER_BYTES_MAX), *over = head_of(CAIRN_HEADER_BYTES_MAX + 1);
    http_expect(&client, fits, 200, NULL);
    still_alive();
    http_send_text(&client, over);
    expect_431();
    /* Without its end, and in two pieces. */
    reconnect();
    http_send(&client, over, CAIRN_HEADER_BYTES_MAX - 4);
    http_send(&client, "xxxxx", 5);
    expect_431();
    /* A pipelined one. */
    reconnect();
    http_send_text(&client, "GET /echo HTTP/1.1\r\n" HOST "\r\n");
    http_send_text(&client, over);
    struct http_answer answer;
    http_read(&client, false, &answer);
    assert_int_equal(answer.status, 200);
    http_answer_free(&answer);
    expect_431();
    assert_int_equal(test_metric(server, "cairn_http_heads_refused_total"), 3);
    free(fits);
    free(over);
}

static void send_headers(unsigned count)
{
    struct cairn_buf head = {0};
    cairn_buf_printf(&head, "GET /echo HTTP/1.1\r\n");
    for (unsigned i = 0; i < count; i++)
        cairn_buf_printf(&head, "h%u: v\r\n", i);
    cairn_buf_printf(&head, "\r\n");
    http_send(&client, head.data, head.len);
    cairn_buf_release(&head);
}

static void test_header_count(void **state)
{
    (void)state;
    struct http_answer answer;
    send_headers(100);
    http_read(&client, false, &answer);
    assert_int_equal(answer.status, 200);
    http_answer_free(&answer);
    send_headers(101);
    expect_431();
}

static char *body_of(size_t len)
{
    char *body = malloc(len + 1);
    for (size_t i = 0; i < len; i++)
        body[i] = (char)('a' + i % 23);
    body[len] = '\0';
    return body;
}

static void expect_413(void)
{
    struct http_answer answer;
    char value[64];
    http_read(&client, false, &answer);
    assert_int_equal(answer.status, 413);
    assert_non_null(strstr(answer.body, "\"code\":\"too_large\""));
    assert_true(http_header(&answer, "connection", value, sizeof(value)));
    assert_string_equal(value, "close");
    http_answer_free(&answer);
}

static void test_body_bytes_with_length(void **state)
{
    (void)state;
    struct http_answer answer;
    char *body = body_of(CAIRN_BODY_BYTES_MAX);
    http_sendf(&client, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: %u\r\n\r\n",
               CAIRN_BODY_BYTES_MAX);
    assert_true(http_send(&client, body, CAIRN_BODY_BYTES_MAX));
    http_read(&client, false, &answer);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.body_len, CAIRN_BODY_BYTES_MAX);
    assert_memory_equal(answer.body, body, CAIRN_BODY_BYTES_MAX);
    http_answer_free(&answer);
    still_alive();
    /* One byte more is refused at the head, before any of the body is there. */
    http_sendf(&client, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: %u\r\n\r\n",
               CAIRN_BODY_BYTES_MAX + 1);
    expect_413();
    free(body);
}

static void test_body_bytes_chunked(void **state)
{
    (void)state;
    struct http_answer answer;
    size_t half = CAIRN_BODY_BYTES_MAX / 2;
    char *body = body_of(half);
    for (unsigned over = 0; over < 2; over++) {
        http_send_text(&client,
                       "POST /work HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
        for (unsigned i = 0; i < 2; i++) {
            http_sendf(&client, "%zx\r\n", half);
            assert_true(http_send(&client, body, half));
            http_send_text(&client, "\r\n");
        }
        http_send_text(&client, over ? "1\r\nx\r\n" : "0\r\n\r\n");
        if (over) {
            expect_413();
            continue;
        }
        http_read(&client, false, &answer);
        assert_int_equal(answer.status, 200);
        assert_int_equal(answer.body_len, 2 * half);
        assert_memory_equal(answer.body + half, body, half);
        http_answer_free(&answer);
    }
    free(body);
}

/* The answer reaches a client that goes on sending for a while before it reads. */
static void test_refused_upload_can_be_read(void **state)
{
    (void)state;
    struct http_answer answer;
    char *body = body_of(8u << 20);
    for (unsigned i = 0; i < 5; i++) {
        reconnect();
        http_sendf(&client, "POST /nowhere HTTP/1.1\r\n" HOST "Content-Length: %u\r\n\r\n",
                   8u << 20);
        http_send(&client, body, 8u << 20);
        http_read(&client, false, &answer);
        assert_int_equal(answer.status, 404);
        http_answer_free(&answer);
        assert_true(http_is_closed(&client));
    }
    free(body);
}

/* Lingering has an end for a client that never stops. */
static void test_endless_upload_is_cut(void **state)
{
    (void)state;
    char *body = body_of(1u << 20);
    http_send_text(&client, "POST /nowhere HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    unsigned sent = 0;
    while (http_send(&client, body, 1u << 20))
        assert_true(++sent < 4096);
    free(body);
}

static void test_chunk_overhead(void **state)
{
    (void)state;
    struct http_answer answer;
    /* One-byte chunks are fine in any number. */
    struct cairn_buf chunks = {0};
    for (unsigned i = 0; i < 100000; i++)
        cairn_buf_append(&chunks, "1\r\nx\r\n", 6);
    cairn_buf_append(&chunks, "0\r\n\r\n", 5);
    http_send_text(&client, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    assert_true(http_send(&client, chunks.data, chunks.len));
    http_read(&client, false, &answer);
    assert_int_equal(answer.body_len, 100000);
    http_answer_free(&answer);
    still_alive();
    /* Extensions without end are not. */
    memset(cairn_buf_reserve(&chunks, 1u << 20), 'x', 1u << 20);
    http_send_text(&client, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1;");
    for (unsigned i = 0; i < 16; i++)
        if (!http_send(&client, chunks.data + chunks.len, 4096))
            break;
    http_read(&client, false, &answer);
    assert_int_equal(answer.status, 400);
    http_answer_free(&answer);
    cairn_buf_release(&chunks);
}

static void test_silent_client(void **state)
{
    (void)state;
    assert_true(http_is_closed(&client)); /* never asked */
    reconnect();
    still_alive();
    assert_true(http_is_closed(&client)); /* idle */
    assert_int_equal(test_metric(server, "cairn_http_timeouts_total"), 0);
}

/* A head that comes a byte at a time, each before the time is over, but not the whole. */
static void test_slow_head(void **state)
{
    (void)state;
    uint64_t begin_us = cairn_time_monotonic_us();
    http_send_text(&client, "GET /echo HTTP/1.1\r\nX: ");
    struct timespec pause = {.tv_nsec = 20000000};
    unsigned sent = 0;
    while (http_send(&client, "x", 1) && sent++ < 500)
        nanosleep(&pause, NULL);
    assert_true(http_is_closed(&client));
    assert_true(cairn_time_monotonic_us() - begin_us >= 100000);
    assert_true(sent < 100);
    assert_int_equal(test_metric(server, "cairn_http_timeouts_total"), 1);
}

static void test_stalled_body(void **state)
{
    (void)state;
    static const char *const types[] = {"application/json", "application/x-ndjson"};
    static const char *const paths[] = {"/echo", "/stream"};
    for (unsigned i = 0; i < 2; i++) {
        reconnect();
        http_sendf(&client,
                   "POST %s HTTP/1.1\r\n" HOST "Content-Type: %s\r\nContent-Length: 10\r\n\r\nabc",
                   paths[i], types[i]);
        assert_true(http_is_closed(&client));
        assert_int_equal(test_metric(server, "cairn_http_timeouts_total"), i + 1);
    }
}

/* A body that never stalls for long but is slower than any real client. */
static void test_trickled_body(void **state)
{
    (void)state;
    http_send_text(&client, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n");
    struct timespec pause = {.tv_nsec = 10000000};
    unsigned sent = 0;
    while (http_send(&client, "x", 1) && sent++ < 1000)
        nanosleep(&pause, NULL);
    assert_true(sent < 200);
}

static bool has_timeout(void *arg)
{
    return test_metric(arg, "cairn_http_timeouts_total") > 0;
}

/* A client that asks for much and reads nothing. */
static void test_client_that_does_not_read(void **state)
{
    (void)state;
    http_send_text(&client, "GET /big?bytes=64000000 HTTP/1.1\r\n" HOST "\r\n");
    test_wait_until(has_timeout, server);
    test_server_wait_idle(server);
    assert_int_equal(test_metric(server, "cairn_http_timeouts_total"), 1);
}

static void reset(void)
{
    struct linger now = {.l_onoff = 1};
    setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    http_close(&client);
}

static void test_disconnects(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        "",
        "GET /ec",
        "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /big?bytes=20000000 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /park HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /gate HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\n",
        "POST /echo HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc",
        "POST /echo HTTP/1.1\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",
        "POST /work HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "POST /nowhere HTTP/1.1\r\nContent-Length: 10\r\n\r\n",
        "POST /stream?mode=later HTTP/1.1\r\nContent-Type: application/x-ndjson\r\n"
        "Transfer-Encoding: chunked\r\n\r\n5\r\n{}\n{}\r\n",
        "POST /stream?mode=gate HTTP/1.1\r\nContent-Type: application/x-ndjson\r\n"
        "Content-Length: 100\r\n\r\n{}\n{}\n",
        "POST /stream HTTP/1.1\r\nContent-Type: application/x-ndjson\r\n"
        "Content-Length: 6\r\n\r\n{}\n{}\n",
    };
    for (unsigned gentle = 0; gentle < 2; gentle++)
        for (unsigned i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
            http_close(&client);
            http_connect(&client, cairn_server_port(server));
            test_gate_close();
            http_send_text(&client, pieces[i]);
            if (gentle)
                http_close(&client);
            else
                reset();
            test_gate_open();
        }
    test_server_wait_idle(server);
    assert_int_equal(atomic_load(&test_counters.in_flight), 0);
    reconnect();
    still_alive();
}

static void test_connections_max(void **state)
{
    (void)state;
    struct http_client more[3];
    still_alive(); /* client is the first of two */
    http_connect(&more[0], cairn_server_port(server));
    http_expect(&more[0], "GET /echo HTTP/1.1\r\n" HOST "\r\n", 200, NULL);
    http_connect(&more[1], cairn_server_port(server));
    assert_true(http_is_closed(&more[1]));
    http_close(&more[1]);
    assert_int_equal(test_metric(server, "cairn_http_connections_refused_total"), 1);
    still_alive();
    http_close(&more[0]);
    http_close(&client);
    test_server_wait_idle(server);
    reconnect();
    still_alive();
}

static int start_small(void **state)
{
    (void)state;
    return start_with(
        &(struct cairn_server_options){.loops = 1, .workers = 1, .connections_max = 2}, NULL);
}

int main(void)
{
#define CASE(name, how) cmocka_unit_test_setup_teardown(name, how, stop)
    const struct CMUnitTest tests[] = {
        CASE(test_head_bytes, start),
        CASE(test_header_count, start),
        CASE(test_body_bytes_with_length, start),
        CASE(test_body_bytes_chunked, start),
        CASE(test_refused_upload_can_be_read, start),
        CASE(test_endless_upload_is_cut, start_impatient),
        CASE(test_chunk_overhead, start),
        CASE(test_silent_client, start_impatient),
        CASE(test_slow_head, start_impatient),
        CASE(test_stalled_body, start_impatient),
        CASE(test_trickled_body, start_impatient),
        CASE(test_client_that_does_not_read, start_impatient),
        CASE(test_disconnects, start),
        CASE(test_connections_max, start_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
