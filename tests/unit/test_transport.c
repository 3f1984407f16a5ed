/* Calls to other processes, against a server that does what a path says, and against none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/time.h"
#include "router/transport_limits.h"
#include "tests/lib/scripted_server.h"
#include "tests/lib/testing.h"

#define PATIENCE_US UINT64_C(20000000)

static struct scripted_server server;
static struct cairn_transport *transport;
static struct cairn_peer *peer;

static struct cairn_peer *open_peer(const char *format, unsigned port)
{
    char url[64];
    struct cairn_peer *opened;
    struct cairn_error err = {0};
    snprintf(url, sizeof(url), format, port);
    if (cairn_peer_open(transport, cairn_str_from(url), &opened, &err) != 0)
        fail_msg("%s", err.message);
    return opened;
}

static void start_transport(const struct cairn_transport_limits *limits)
{
    struct cairn_transport_options options = {.key = "secret"};
    struct cairn_error err = {0};
    if (cairn_transport_start_with(&options, limits, &transport, &err) != 0)
        fail_msg("%s", err.message);
}

static int setup(void **state)
{
    (void)state;
    scripted_server_start(&server, NULL);
    start_transport(&(struct cairn_transport_limits){0});
    peer = open_peer("http://127.0.0.1:%u", server.port);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cairn_peer_release(&peer);
    cairn_transport_stop(&transport);
    scripted_server_stop(&server);
    return 0;
}

/* For tests that need limits of their own: the peer is the same server. */
static void restart(struct cairn_transport_limits limits)
{
    cairn_peer_release(&peer);
    cairn_transport_stop(&transport);
    start_transport(&limits);
    peer = open_peer("http://127.0.0.1:%u", server.port);
}

static struct cairn_call make_call(const char *path, struct cairn_str body)
{
    return (struct cairn_call){.peer = peer,
                               .path = path,
                               .body = body,
                               .deadline_us = cairn_time_monotonic_us() + PATIENCE_US};
}

static void check_echo(struct cairn_call *call)
{
    if (call->error.code != 0)
        fail_msg("%s: %s", call->path, call->error.message);
    assert_int_equal(call->status, 200);
    assert_int_equal(call->answer.len, call->body.len);
    assert_int_equal((uintptr_t)call->answer.data % 8, 0);
    if (call->body.len > 0)
        assert_memory_equal(call->answer.data, call->body.ptr, call->body.len);
    assert_false(call->unsent);
    assert_null(call->private_state);
    cairn_buf_release(&call->answer);
}

static void expect_echo(const char *path, struct cairn_str body)
{
    struct cairn_call call = make_call(path, body);
    cairn_transport_call_wait(&call);
    check_echo(&call);
}

static void expect_failure(const char *path, struct cairn_str body, int code, bool unsent,
                           const char *part)
{
    struct cairn_call call = make_call(path, body);
    if (code == CAIRN_ETIMEOUT)
        call.deadline_us = cairn_time_monotonic_us() + 30000;
    uint64_t deadline_us = call.deadline_us;
    assert_int_equal(cairn_transport_call_wait(&call), code);
    assert_int_equal(call.error.code, code);
    assert_int_equal(call.unsent, unsent);
    assert_int_equal(call.answer.len, 0);
    if (!strstr(call.error.message, part))
        fail_msg("%s: \"%s\" does not say %s", path, call.error.message, part);
    if (code == CAIRN_ETIMEOUT)
        assert_true(cairn_time_monotonic_us() >= deadline_us);
    cairn_buf_release(&call.answer);
}

static const struct cairn_str hello = CAIRN_STR_LITERAL("hello");
static const struct cairn_str nothing = CAIRN_STR_LITERAL("");

static struct cairn_str random_body(size_t len)
{
    uint64_t seed = len;
    char *bytes = malloc(len);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)cairn_test_random(&seed);
    return (struct cairn_str){bytes, (uint32_t)len};
}

static void test_urls(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "http://",
        "http://host",
        "http://host:",
        "http://host:0",
        "http://host:65536",
        "http://host:1a",
        "http://host:80/",
        "http://host:80/path",
        "http://:80",
        "ftp://host:80",
        "http://us er:80",
        "http://user@host:80",
        "http://a\r\nb:80",
        "http://::1:80",
        "http://[::1]",
        "http://[::1:80",
        "http://[10.0.0.1.example]:80",
        "http://[abcd]:80",
        "HTTP://host:80",
    };
    static const char *const good[] = {"http://host:1",      "http://a-b_c.d.example:65535",
                                       "http://10.1.2.3:80", "http://[::1]:80",
                                       "https://host:443",   "https://[fe80::1]:443"};
    struct cairn_error err;
    struct cairn_peer *opened;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        opened = (void *)&err;
        if (cairn_peer_open(transport, cairn_str_from(bad[i]), &opened, &err) != CAIRN_EPARAM)
            fail_msg("%s is accepted", bad[i]);
        assert_null(opened);
        assert_non_null(strstr(err.message, "url"));
    }
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (cairn_peer_open(transport, cairn_str_from(good[i]), &opened, &err) != 0)
            fail_msg("%s", err.message);
        cairn_peer_release(&opened);
        assert_null(opened);
    }
    char *url = malloc(CAIRN_URL_BYTES_MAX + 1);
    memset(url, 'a', CAIRN_URL_BYTES_MAX + 1);
    memcpy(url, "http://", 7);
    memcpy(url + CAIRN_URL_BYTES_MAX - 3, ":80", 3);
    struct cairn_str text = {url, CAIRN_URL_BYTES_MAX};
    assert_int_equal(cairn_peer_open(transport, text, &opened, &err), 0);
    cairn_peer_release(&opened);
    memcpy(url + CAIRN_URL_BYTES_MAX - 3, "a:80", 4);
    text.len++;
    assert_int_equal(cairn_peer_open(transport, text, &opened, &err), CAIRN_EPARAM);
    free(url);
}

static void test_bad_options(void **state)
{
    (void)state;
    static const struct cairn_transport_options bad[] = {
        {.key = "a\r\nb"}, {.key = "a b"}, {.ca_file = "/nowhere"}};
    static const char *const parts[] = {"key", "key", "/nowhere"};
    for (unsigned i = 0; i < 3; i++) {
        struct cairn_error err = {0};
        struct cairn_transport *started = (void *)&err;
        assert_int_equal(cairn_transport_start(&bad[i], &started, &err), CAIRN_EPARAM);
        assert_null(started);
        assert_non_null(strstr(err.message, parts[i]));
    }
    struct cairn_transport *none = NULL;
    cairn_transport_stop(&none);
}

static void test_head(void **state)
{
    (void)state;
    char expected[512];
    struct cairn_call call = make_call("/head", hello);
    snprintf(expected, sizeof(expected),
             "POST /head HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nConnection: keep-alive\r\n"
             "Content-Type: application/x-flatbuffers\r\nAuthorization: Bearer secret\r\n"
             "Content-Length: 5\r\n\r\n",
             server.port);
    assert_int_equal(cairn_transport_call_wait(&call), 0);
    assert_int_equal(call.answer.len, strlen(expected));
    assert_memory_equal(call.answer.data, expected, call.answer.len);
    cairn_buf_release(&call.answer);
}

static void test_answers(void **state)
{
    (void)state;
    static const char *const paths[] = {"/echo", "/chunks", "/pieces", "/continue"};
    for (unsigned i = 0; i < 4; i++) {
        expect_echo(paths[i], nothing);
        expect_echo(paths[i], hello);
        struct cairn_str body = random_body(3000);
        expect_echo(paths[i], body);
        free((void *)body.ptr);
    }
    struct cairn_call call = make_call("/empty", hello);
    assert_int_equal(cairn_transport_call_wait(&call), 0);
    assert_int_equal(call.status, 204);
    assert_int_equal(call.answer.len, 0);
    cairn_buf_release(&call.answer);
    static const char *const statuses[] = {"/status/421", "/status/503", "/status/401"};
    for (unsigned i = 0; i < 3; i++) {
        call = make_call(statuses[i], hello);
        assert_int_equal(cairn_transport_call_wait(&call), 0);
        assert_int_equal(call.status, atoi(statuses[i] + 8));
        assert_int_equal(call.answer.len, 6);
        assert_memory_equal(call.answer.data, "status", 6);
        cairn_buf_release(&call.answer);
    }
    assert_int_equal(atomic_load(&server.accepts), 1); /* all over one connection */
}

static void test_large(void **state)
{
    (void)state;
    struct cairn_str body = random_body(9000001);
    for (unsigned i = 0; i < 2; i++) {
        expect_echo("/echo", body);
        expect_echo("/chunks", body);
    }
    assert_int_equal(atomic_load(&server.accepts), 1);
    free((void *)body.ptr);
}

struct load {
    unsigned number, calls;
};

static void *call_in_thread(void *arg)
{
    struct load *load = arg;
    static const char *const paths[] = {"/echo", "/chunks", "/close", "/echo"};
    for (unsigned i = 0; i < load->calls; i++) {
        struct cairn_str body = random_body(1 + (load->number * 7919 + i * 104729) % 20000);
        expect_echo(paths[(load->number + i) % 4], body);
        free((void *)body.ptr);
    }
    return NULL;
}

static void test_many_threads(void **state)
{
    (void)state;
    pthread_t threads[8];
    struct load loads[8];
    for (unsigned i = 0; i < 8; i++) {
        loads[i] = (struct load){i, 40};
        pthread_create(&threads[i], NULL, call_in_thread, &loads[i]);
    }
    for (unsigned i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
}

/* Calls that go on by themselves: each starts the next from its end. */
struct batch {
    atomic_uint ended, failed[64];
    atomic_uint to_start;
};

static void count_end(struct cairn_call *call)
{
    struct batch *batch = call->context;
    atomic_fetch_add(&batch->failed[-call->error.code], 1);
    cairn_buf_release(&call->answer);
    unsigned left = atomic_load(&batch->to_start);
    if (left > 0) {
        atomic_store(&batch->to_start, left - 1);
        cairn_transport_call(call);
    }
    atomic_fetch_add(&batch->ended, 1);
}

static struct cairn_call *start_calls(struct batch *batch, const char *path, unsigned count)
{
    struct cairn_call *calls = malloc(count * sizeof(*calls));
    for (unsigned i = 0; i < count; i++) {
        calls[i] = make_call(path, hello);
        calls[i].done = count_end;
        calls[i].context = batch;
        cairn_transport_call(&calls[i]);
    }
    return calls;
}

static void test_calls_from_done(void **state)
{
    (void)state;
    struct batch batch = {.to_start = 1000};
    struct cairn_call *calls = start_calls(&batch, "/echo", 20);
    scripted_server_wait(&batch.ended, 1020);
    assert_int_equal(atomic_load(&batch.failed[0]), 1020);
    assert_true(atomic_load(&server.accepts) <= 20);
    free(calls);
}

static void test_waiting(void **state)
{
    (void)state;
    restart((struct cairn_transport_limits){.connections_max = 3, .calls_max = 10});
    struct batch batch = {0};
    struct cairn_call *calls = start_calls(&batch, "/gate", 10);
    scripted_server_wait(&server.requests, 3);
    expect_failure("/gate", hello, CAIRN_EOVERLOADED, true, "10 calls");
    assert_int_equal(atomic_load(&batch.ended), 0);
    assert_int_equal(atomic_load(&server.accepts), 3);
    scripted_server_open_gate(&server, true);
    scripted_server_wait(&batch.ended, 10);
    assert_int_equal(atomic_load(&batch.failed[0]), 10);
    assert_int_equal(atomic_load(&server.accepts), 3);
    free(calls);
}

static void test_limits(void **state)
{
    (void)state;
    struct batch batch = {0};
    struct cairn_call *calls = start_calls(&batch, "/gate", CAIRN_SHARD_CALLS_MAX);
    scripted_server_wait(&server.requests, CAIRN_PEER_CONNECTIONS_MAX);
    expect_failure("/gate", hello, CAIRN_EOVERLOADED, true, "4096 calls");
    scripted_server_open_gate(&server, true);
    scripted_server_wait(&batch.ended, CAIRN_SHARD_CALLS_MAX);
    assert_int_equal(atomic_load(&batch.failed[0]), CAIRN_SHARD_CALLS_MAX);
    assert_int_equal(atomic_load(&server.accepts), CAIRN_PEER_CONNECTIONS_MAX);
    free(calls);
}

static void test_deadlines(void **state)
{
    (void)state;
    restart((struct cairn_transport_limits){.connections_max = 2});
    expect_echo("/echo", hello);
    expect_failure("/hang", hello, CAIRN_ETIMEOUT, false, "no answer");
    expect_failure("/length/100", hello, CAIRN_ETIMEOUT, false, "no whole answer");
    struct cairn_call late = make_call("/echo", hello);
    late.deadline_us = cairn_time_monotonic_us();
    assert_int_equal(cairn_transport_call_wait(&late), CAIRN_ETIMEOUT);
    assert_true(late.unsent);
    /* While others have all the connections. */
    struct batch batch = {0};
    scripted_server_wait_down(&server.open, 2);
    unsigned before = atomic_load(&server.requests);
    struct cairn_call *calls = start_calls(&batch, "/gate", 2);
    scripted_server_wait(&server.requests, before + 2);
    expect_failure("/echo", hello, CAIRN_ETIMEOUT, true, "no connection");
    scripted_server_open_gate(&server, true);
    scripted_server_wait(&batch.ended, 2);
    free(calls);
    /* A body that nobody reads never goes out whole. */
    struct cairn_str body = random_body(32 << 20);
    struct cairn_call unread = make_call("/early", body);
    assert_int_equal(cairn_transport_call_wait(&unread), 0);
    assert_int_equal(unread.status, 413);
    assert_memory_equal(unread.answer.data, "early", 5);
    cairn_buf_release(&unread.answer);
    free((void *)body.ptr);
    expect_echo("/echo", hello);
}

static void test_closed_while_idle(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        expect_echo("/part", hello); /* the server closes after its answer */
        scripted_server_wait_down(&server.open, 0);
    }
    assert_int_equal(atomic_load(&server.accepts), 20);
    expect_echo("/surplus", hello);
    scripted_server_wait_down(&server.open, 0);
    expect_echo("/echo", hello);
}

static void test_idle_limit(void **state)
{
    (void)state;
    restart((struct cairn_transport_limits){.idle_us = 20000});
    expect_echo("/echo", hello);
    scripted_server_wait_down(&server.open, 0);
    expect_echo("/echo", hello);
    assert_int_equal(atomic_load(&server.accepts), 2);
}

static void test_broken_answers(void **state)
{
    (void)state;
    static const char *const answers[] = {
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nno length",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "HTTP/1.1 101 Switch\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfour",
        "HTTP/1.1 200",
    };
    for (unsigned i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
        expect_failure("/raw", cairn_str_from(answers[i]), CAIRN_EUNAVAILABLE, false, "answer");
    expect_failure("/drop", hello, CAIRN_EUNAVAILABLE, false, "before the answer");
    expect_failure("/half", hello, CAIRN_EUNAVAILABLE, false, "in the middle");
    /* A head at the limit, and one over it. */
    for (unsigned i = 0; i < 2; i++) {
        char *text = malloc(CAIRN_HEADER_BYTES_MAX + 64);
        int len = snprintf(text, 64, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nFill: ");
        memset(text + len, 'x', CAIRN_HEADER_BYTES_MAX);
        memcpy(text + CAIRN_HEADER_BYTES_MAX - 4 + i, "\r\n\r\n", 4);
        struct cairn_call call =
            make_call("/raw", (struct cairn_str){text, CAIRN_HEADER_BYTES_MAX + i});
        assert_int_equal(cairn_transport_call_wait(&call), i ? CAIRN_EUNAVAILABLE : 0);
        cairn_buf_release(&call.answer);
        free(text);
    }
    expect_echo("/echo", hello);
}

static void test_too_large(void **state)
{
    (void)state;
    char path[64];
    snprintf(path, sizeof(path), "/length/%u", CAIRN_SHARD_ANSWER_BYTES_MAX);
    expect_failure(path, hello, CAIRN_ETIMEOUT, false, "no whole answer");
    snprintf(path, sizeof(path), "/length/%u", CAIRN_SHARD_ANSWER_BYTES_MAX + 1);
    expect_failure(path, hello, CAIRN_ETOOLARGE, false, "268435456");
    restart((struct cairn_transport_limits){.answer_bytes_max = 20000});
    struct cairn_str body = random_body(20001);
    body.len = 20000;
    expect_echo("/echo", body);
    expect_echo("/chunks", body);
    body.len = 20001;
    expect_failure("/echo", body, CAIRN_ETOOLARGE, false, "20000");
    expect_failure("/chunks", body, CAIRN_ETOOLARGE, false, "20000");
    expect_failure("/endless", body, CAIRN_ETOOLARGE, false, "20000");
    scripted_server_wait_down(&server.open, 2); /* those whose bodies never come */
    free((void *)body.ptr);
    /* Zeros that are never read: the body is refused for its length. */
    body = (struct cairn_str){calloc(1, CAIRN_SHARD_CALL_BYTES_MAX + 1),
                              CAIRN_SHARD_CALL_BYTES_MAX + 1};
    expect_failure("/echo", body, CAIRN_ETOOLARGE, true, "268435456");
    body.len--;
    expect_failure("/echo", body, CAIRN_ETOOLARGE, false, "20000"); /* sent, and its echo refused */
    free((void *)body.ptr);
}

static void swap_peer(const char *format, unsigned port)
{
    cairn_peer_release(&peer);
    peer = open_peer(format, port);
}

static void test_refused(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0); /* bound but not listening: nobody else gets it */
    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    swap_peer("http://127.0.0.1:%u", ntohs(address.sin_port));
    expect_failure("/echo", hello, CAIRN_EUNAVAILABLE, true, "refused");
    struct batch batch = {0};
    struct cairn_call *calls = start_calls(&batch, "/echo", 300); /* more than connections */
    scripted_server_wait(&batch.ended, 300);
    assert_int_equal(atomic_load(&batch.failed[-CAIRN_EUNAVAILABLE]), 300);
    free(calls);
    close(fd);
}

/* A full backlog leaves further connections unanswered. */
static void test_connect_limit(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    int fillers[8];
    restart((struct cairn_transport_limits){.connect_us = 50000, .connections_max = 4});
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    for (unsigned i = 0; i < 8; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(fillers[i], (struct sockaddr *)&address, len);
    }
    swap_peer("http://127.0.0.1:%u", ntohs(address.sin_port));
    expect_failure("/echo", hello, CAIRN_ETIMEOUT, true, "no connection"); /* 30 ms */
    expect_failure("/echo", hello, CAIRN_EUNAVAILABLE, true, "within 50 ms");
    uint64_t begin_us = cairn_time_monotonic_us();
    struct batch batch = {0};
    struct cairn_call *calls = start_calls(&batch, "/echo", 100);
    scripted_server_wait(&batch.ended, 100);
    assert_int_equal(atomic_load(&batch.failed[-CAIRN_EUNAVAILABLE]), 100);
    assert_true(cairn_time_monotonic_us() - begin_us < 5000000); /* not one after the other */
    free(calls);
    for (unsigned i = 0; i < 8; i++)
        close(fillers[i]);
    close(fd);
}

static void test_names(void **state)
{
    (void)state;
    swap_peer("http://localhost:%u", server.port); /* ::1 may come first and is refused */
    expect_echo("/echo", hello);
    expect_echo("/close", hello);
    expect_echo("/echo", hello);
    swap_peer("http://[::1]:%u", server.port);
    expect_failure("/echo", hello, CAIRN_EUNAVAILABLE, true, "refused");
    /* Label too long: refused without asking anybody. */
    swap_peer("http://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.invalid:%u", 80);
    expect_failure("/echo", hello, CAIRN_EUNAVAILABLE, true, ".invalid");
}

static void test_stop(void **state)
{
    (void)state;
    struct cairn_transport_limits limits = {.connections_max = 5};
    restart(limits);
    struct batch batch = {0}, elsewhere = {0};
    struct cairn_call *calls = start_calls(&batch, "/hang", 20);
    scripted_server_wait(&server.requests, 5);
    cairn_peer_release(&peer);
    peer = open_peer("http://name-that-is-nowhere.invalid:%u", 80);
    struct cairn_call *others = start_calls(&elsewhere, "/echo", 3);
    cairn_peer_release(&peer);
    cairn_transport_stop(&transport);
    assert_int_equal(atomic_load(&batch.ended), 20);
    assert_int_equal(atomic_load(&batch.failed[-CAIRN_ESHUTDOWN]), 20);
    assert_int_equal(atomic_load(&elsewhere.ended), 3); /* unless the name was quicker */
    assert_int_equal(atomic_load(&elsewhere.failed[-CAIRN_ESHUTDOWN]) +
                         atomic_load(&elsewhere.failed[-CAIRN_EUNAVAILABLE]),
                     3);
    unsigned unsent = 0;
    for (unsigned i = 0; i < 20; i++)
        unsent += calls[i].unsent;
    assert_int_equal(unsent, 15);
    free(calls);
    free(others);
    start_transport(&limits);
    peer = open_peer("http://127.0.0.1:%u", server.port);
}

/* Calls that start others from their ends, though the peer is released: refused one by one. */
static void test_call_while_stopping(void **state)
{
    (void)state;
    struct batch batch = {0};
    struct cairn_call *calls = start_calls(&batch, "/hang", 2);
    scripted_server_wait(&server.requests, 2);
    atomic_store(&batch.to_start, 10);
    cairn_peer_release(&peer);
    cairn_transport_stop(&transport);
    assert_int_equal(atomic_load(&batch.failed[-CAIRN_ESHUTDOWN]), 12);
    free(calls);
    start_transport(&(struct cairn_transport_limits){0});
    peer = open_peer("http://127.0.0.1:%u", server.port);
}

static void test_release_with_calls(void **state)
{
    (void)state;
    struct batch batch = {0};
    struct cairn_call *calls = start_calls(&batch, "/gate", 4);
    scripted_server_wait(&server.requests, 4);
    swap_peer("http://127.0.0.1:%u", server.port);
    scripted_server_open_gate(&server, true);
    scripted_server_wait(&batch.ended, 4);
    assert_int_equal(atomic_load(&batch.failed[0]), 4);
    scripted_server_wait_down(&server.open, 0); /* closed with the last of them */
    free(calls);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_urls),
        TEST(test_bad_options),
        TEST(test_head),
        TEST(test_answers),
        TEST(test_large),
        TEST(test_many_threads),
        TEST(test_calls_from_done),
        TEST(test_waiting),
        TEST(test_limits),
        TEST(test_deadlines),
        TEST(test_closed_while_idle),
        TEST(test_idle_limit),
        TEST(test_broken_answers),
        TEST(test_too_large),
        TEST(test_refused),
        TEST(test_connect_limit),
        TEST(test_names),
        TEST(test_stop),
        TEST(test_call_while_stopping),
        TEST(test_release_with_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
