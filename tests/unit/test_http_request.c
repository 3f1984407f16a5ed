/* Heads, framing, bodies and keep-alive against a real server, over raw sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "tests/lib/http_client.h"
#include "tests/lib/http_routes.h"

static struct cairn_server *server;
static struct http_client client;

static int setup(void **state)
{
    (void)state;
    server = test_server_start(NULL, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    cairn_server_stop(&server, 1000);
    assert_null(server);
    return 0;
}

static int connect_client(void **state)
{
    (void)state;
    http_connect(&client, cairn_server_port(server));
    return 0;
}

static int close_client(void **state)
{
    (void)state;
    http_close(&client);
    test_server_wait_idle(server);
    return 0;
}

#define HOST "Host: test\r\n"

static void still_alive(void)
{
    http_expect(&client, "GET /echo?q=alive HTTP/1.1\r\n" HOST "\r\n", 200, "\"q\":\"alive\"");
}

static void test_get(void **state)
{
    (void)state;
    struct http_answer answer;
    char value[256];
    http_ask(&client, "GET /echo?q=a%20b+c HTTP/1.1\r\n" HOST "request-id: abc-1\r\n\r\n", &answer);
    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.body, "\"q\":\"a b c\""));
    assert_non_null(strstr(answer.body, "\"timeout_ms\":30000"));
    assert_true(http_header(&answer, "content-type", value, sizeof(value)));
    assert_string_equal(value, "application/json");
    assert_true(http_header(&answer, "request-id", value, sizeof(value)));
    assert_string_equal(value, "abc-1");
    assert_false(http_header(&answer, "cairn-position", value, sizeof(value)));
    http_answer_free(&answer);
    still_alive();
}

static void test_request_id_is_made(void **state)
{
    (void)state;
    struct http_answer answer;
    char first[256], second[256];
    /* With a blank in it the client's is no valid id. */
    http_ask(&client, "GET /echo HTTP/1.1\r\n" HOST "request-id: a b\r\n\r\n", &answer);
    assert_true(http_header(&answer, "request-id", first, sizeof(first)));
    http_answer_free(&answer);
    http_ask(&client, "GET /echo HTTP/1.1\r\n" HOST "\r\n", &answer);
    assert_true(http_header(&answer, "request-id", second, sizeof(second)));
    http_answer_free(&answer);
    assert_int_equal(strlen(first), 16);
    assert_string_not_equal(first, second);
}

static void test_contract(void **state)
{
    (void)state;
    struct http_answer answer;
    char value[256];
    http_ask(&client, "GET /echo?contract=true HTTP/1.1\r\n" HOST "\r\n", &answer);
    assert_int_equal(answer.status, 200);
    assert_true(http_header(&answer, "cairn-position", value, sizeof(value)));
    assert_string_equal(value, "3;s1=42");
    assert_true(http_header(&answer, "cairn-complete", value, sizeof(value)));
    assert_string_equal(value, "true");
    assert_non_null(strstr(answer.body, "\"contract\":{\"complete\":true"));
    http_answer_free(&answer);
}

static void test_head(void **state)
{
    (void)state;
    struct http_answer answer;
    char value[64];
    http_ask(&client, "HEAD /big?bytes=1000 HTTP/1.1\r\n" HOST "\r\n", &answer);
    assert_int_equal(answer.status, 200);
    assert_true(http_header(&answer, "content-length", value, sizeof(value)));
    assert_string_equal(value, "1000");
    http_answer_free(&answer);
    http_ask(&client, "HEAD /nowhere HTTP/1.1\r\n" HOST "\r\n", &answer);
    assert_int_equal(answer.status, 404);
    http_answer_free(&answer);
    still_alive();
}

static void test_paths(void **state)
{
    (void)state;
    struct http_answer answer;
    char value[128];
    http_expect(&client, "GET /v1/collections/a%2Fb/things/user:42 HTTP/1.1\r\n" HOST "\r\n", 200,
                "\"segments\":[\"v1\",\"collections\",\"a/b\",\"things\",\"user:42\"]");
    http_expect(&client,
                "POST /v1/collections/c/things:act HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n",
                200, "\"action\":\"act\"");
    http_expect(&client,
                "POST /v1/collections/c/x:y:rebuild HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n",
                200, "\"collections\",\"c\",\"x:y\"]");
    http_expect(&client, "GET http://test/echo?q=1 HTTP/1.1\r\n" HOST "\r\n", 200, "\"q\":\"1\"");
    http_expect(&client, "GET /../../echo?q=%0a HTTP/1.1\r\n" HOST "\r\n", 404, NULL);
    http_expect(&client, "GET /v1/collections/../things/%2e%2E HTTP/1.1\r\n" HOST "\r\n", 200,
                "\"..\",\"things\",\"..\"]");
    http_expect(&client, "GET /echo%zz HTTP/1.1\r\n" HOST "\r\n", 404, "\"code\":\"not_found\"");
    http_expect(&client, "GET /v1/collections/%zz/things/a HTTP/1.1\r\n" HOST "\r\n", 400,
                "invalid_parameter");
    http_expect(&client, "GET /v1/collections/c/things/a%2 HTTP/1.1\r\n" HOST "\r\n", 400,
                "invalid_parameter");
    http_expect(&client, "GET /echo?q=%f HTTP/1.1\r\n" HOST "\r\n", 400, "invalid_parameter");
    http_expect(&client, "GET /echo?other=1 HTTP/1.1\r\n" HOST "\r\n", 400, "other");
    http_expect(&client, "GET /v1/collections//things/a HTTP/1.1\r\n" HOST "\r\n", 404, NULL);
    http_expect(&client, "GET /a/b/c/d/e/f/g/h/i HTTP/1.1\r\n" HOST "\r\n", 404, NULL);
    http_ask(&client, "PUT /v1/collections/c/things/a HTTP/1.1\r\n" HOST "\r\n", &answer);
    assert_int_equal(answer.status, 405);
    assert_true(http_header(&answer, "allow", value, sizeof(value)));
    assert_string_equal(value, "GET, HEAD, DELETE");
    assert_non_null(strstr(answer.body, "\"code\":\"method_not_allowed\""));
    http_answer_free(&answer);
    still_alive();
}

static void test_problem(void **state)
{
    (void)state;
    struct http_answer answer;
    char value[64];
    http_ask(&client, "POST /fail HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", &answer);
    assert_int_equal(answer.status, 429);
    assert_true(http_header(&answer, "retry-after", value, sizeof(value)));
    assert_true(http_header(&answer, "content-type", value, sizeof(value)));
    assert_string_equal(value, "application/problem+json");
    assert_string_equal(
        answer.body, "{\"type\":\"urn:cairn:problem:overloaded\",\"title\":\"Too Many Requests\","
                     "\"status\":429,\"detail\":\"try later\",\"code\":\"overloaded\"}");
    http_answer_free(&answer);
    still_alive();
}

static void test_headers(void **state)
{
    (void)state;
    http_expect(&client, "GET /echo HTTP/1.1\r\n" HOST "Cairn-Timeout: 2s\r\n\r\n", 200,
                "\"timeout_ms\":2000");
    http_expect(&client, "GET /echo HTTP/1.1\r\n" HOST "Cairn-Timeout: 600s\r\n\r\n", 200,
                "\"timeout_ms\":600000");
    http_expect(&client, "GET /echo HTTP/1.1\r\n" HOST "Cairn-Timeout: 601s\r\n\r\n", 400,
                "invalid_parameter");
    http_expect(&client, "GET /echo HTTP/1.1\r\n" HOST "Cairn-Timeout: soon\r\n\r\n", 400,
                "Cairn-Timeout");
    http_expect(&client, "GET /echo HTTP/1.1\r\n" HOST "Cairn-Max-Staleness: 500ms\r\n\r\n", 200,
                NULL);
    http_expect(&client, "GET /echo HTTP/1.1\r\n" HOST "Cairn-Max-Staleness: x\r\n\r\n", 400,
                "Cairn-Max-Staleness");
    http_expect(&client, "GET /echo HTTP/1.1\r\n" HOST "Cairn-Min-Position: 1;s0=1\r\n\r\n", 503,
                "shard_unavailable"); /* this server has no router */
    http_expect(&client, "GET /echo HTTP/1.1\r\n" HOST "Cairn-Min-Position: what\r\n\r\n", 400,
                "invalid_parameter");
    http_expect(&client,
                "GET /echo HTTP/1.1\r\n" HOST
                "Accept: text/plain, application/x-flatbuffers;q=0.9\r\n\r\n",
                200, "\"flatbuffers\":true");
    http_expect(&client, "GET /echo HTTP/1.1\r\n" HOST "Cairn-Timeout: \xff\xfe\r\n\r\n", 400,
                NULL);
}

static void test_media(void **state)
{
    (void)state;
    http_expect(&client,
                "POST /json HTTP/1.1\r\n" HOST
                "Content-Type: application/json; charset=utf-8\r\nContent-Length: 10\r\n\r\n"
                "{\"a\": [] }",
                200, "{\"a\":[]}");
    http_expect(&client, "POST /json HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{}", 200, "{}");
    http_expect(&client, "POST /json HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n{", 400,
                "invalid_json");
    http_expect(&client, "POST /json HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 400,
                "invalid_json");
    http_expect(&client,
                "POST /json HTTP/1.1\r\n" HOST
                "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
                415, "unsupported_media_type");
    http_expect(&client,
                "POST /json HTTP/1.1\r\n" HOST
                "Content-Type: application/x-flatbuffers\r\nContent-Length: 2\r\n\r\n{}",
                415, "unsupported_media_type");
    http_expect(&client,
                "POST /json HTTP/1.1\r\n" HOST
                "Content-Type: application/x-ndjson\r\nContent-Length: 2\r\n\r\n{}",
                415, "x-ndjson");
    still_alive();
}

static void test_bodies(void **state)
{
    (void)state;
    http_expect(&client, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", 200,
                "hello");
    http_expect(&client, "POST /work HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", 200,
                "hello");
    http_expect(&client,
                "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: Chunked\r\n\r\n"
                "3;ext=1\r\nhel\r\n2\r\nlo\r\n0\r\nTrailer: x\r\n\r\n",
                200, "hello");
    http_expect(&client,
                "POST /work HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200,
                NULL);
    still_alive();
}

static void test_body_after_head(void **state)
{
    (void)state;
    static const char *const paths[] = {"/echo", "/work"};
    for (unsigned i = 0; i < 2; i++) {
        struct http_answer answer;
        http_sendf(&client, "POST %s HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n", paths[i]);
        http_send_slowly(&client, "hello");
        http_read(&client, false, &answer);
        assert_int_equal(answer.status, 200);
        assert_string_equal(answer.body, "hello");
        http_answer_free(&answer);
        http_sendf(&client, "POST %s HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n",
                   paths[i]);
        http_send_slowly(&client, "1\r\nh\r\n004\r\nello\r\n0\r\n\r\n");
        http_read(&client, false, &answer);
        assert_string_equal(answer.body, "hello");
        http_answer_free(&answer);
        still_alive();
    }
}

static void test_byte_by_byte(void **state)
{
    (void)state;
    struct http_answer answer;
    for (unsigned i = 0; i < 3; i++) {
        http_send_slowly(&client,
                         "POST /echo HTTP/1.1\r\nhost: test\r\nCoNtEnT-LeNgTh: 3\r\n\r\nabc"
                         "GET /echo?q=next HTTP/1.1\r\nhost: test\r\n\r\n");
        http_read(&client, false, &answer);
        assert_string_equal(answer.body, "abc");
        http_answer_free(&answer);
        http_read(&client, false, &answer);
        assert_non_null(strstr(answer.body, "\"q\":\"next\""));
        http_answer_free(&answer);
    }
}

static void test_pipelining(void **state)
{
    (void)state;
    struct cairn_buf all = {0};
    for (unsigned i = 0; i < 100; i++) {
        const char *path = i % 3 == 0 ? "/work" : "/echo";
        if (i % 4 == 0)
            cairn_buf_printf(&all, "GET /echo?q=%u HTTP/1.1\r\n" HOST "\r\n", i);
        else if (i % 4 == 1)
            cairn_buf_printf(&all, "POST %s HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\n%04u",
                             path, i);
        else
            cairn_buf_printf(
                &all,
                "POST %s HTTP/1.1\r\n" HOST
                "Transfer-Encoding: chunked\r\n\r\n2\r\n%02u\r\n2\r\n%02u\r\n0\r\n\r\n",
                path, i / 100, i % 100);
    }
    assert_true(http_send(&client, all.data, all.len));
    for (unsigned i = 0; i < 100; i++) {
        struct http_answer answer;
        char expected[32];
        http_read(&client, false, &answer);
        assert_int_equal(answer.status, 200);
        snprintf(expected, sizeof(expected), i % 4 == 0 ? "\"q\":\"%u\"" : "%04u", i);
        assert_non_null(strstr(answer.body, expected));
        http_answer_free(&answer);
    }
    cairn_buf_release(&all);
    still_alive();
}

/* A body that comes in one read with the next request's head, in every split of the bytes. */
static void test_every_split(void **state)
{
    (void)state;
    static const char text[] =
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nabc\r\n0\r\n\r\nPOST /work HTTP/1.1\r\nHost: a\r\n"
        "Content-Length: 3\r\n\r\ndefGET /echo HTTP/1.1\r\nHost: a\r\n\r\n";
    for (size_t cut = 1; cut < sizeof(text) - 1; cut++) {
        struct http_answer answer;
        assert_true(http_send(&client, text, cut));
        assert_true(http_send(&client, text + cut, sizeof(text) - 1 - cut));
        http_read(&client, false, &answer);
        assert_string_equal(answer.body, "abc");
        http_answer_free(&answer);
        http_read(&client, false, &answer);
        assert_string_equal(answer.body, "def");
        http_answer_free(&answer);
        http_read(&client, false, &answer);
        assert_int_equal(answer.status, 200);
        http_answer_free(&answer);
    }
}

static void test_expect(void **state)
{
    (void)state;
    struct http_answer answer;
    http_send_text(&client, "POST /echo HTTP/1.1\r\n" HOST
                            "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    http_read(&client, false, &answer);
    assert_int_equal(answer.status, 100);
    http_answer_free(&answer);
    http_send_text(&client, "hi");
    http_read(&client, false, &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "hi");
    http_answer_free(&answer);
    /* The body is there already: nobody is told to go on. */
    http_expect(&client,
                "POST /echo HTTP/1.1\r\n" HOST
                "Content-Length: 2\r\nExpect: 100-continue\r\n\r\nhi",
                200, "hi");
    /* A refusal comes in place of the permission. */
    http_expect(&client,
                "POST /nowhere HTTP/1.1\r\n" HOST
                "Content-Length: 2\r\nExpect: 100-continue\r\n\r\n",
                404, NULL);
    assert_true(http_is_closed(&client));
}

static void expect_refused(const char *request, int status, const char *part)
{
    struct http_answer answer;
    char value[64];
    http_close(&client);
    http_connect(&client, cairn_server_port(server));
    http_send_text(&client, request);
    http_read(&client, false, &answer);
    if (answer.status != status || (part && !strstr(answer.body, part)))
        fail_msg("%s\nexpected %d %s, got\n%s%s", request, status, part ? part : "", answer.head,
                 answer.body);
    assert_true(http_header(&answer, "content-type", value, sizeof(value)));
    assert_string_equal(value, "application/problem+json");
    assert_true(http_header(&answer, "connection", value, sizeof(value)));
    assert_string_equal(value, "close");
    http_answer_free(&answer);
    assert_true(http_is_closed(&client));
}

static void test_bad_framing(void **state)
{
    (void)state;
    static const char *const headers[] = {
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: \r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
    };
    for (unsigned i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        char request[256];
        snprintf(request, sizeof(request), "POST /echo HTTP/1.1\r\n" HOST "%s\r\nhello",
                 headers[i]);
        expect_refused(request, 400, "\"code\":\"invalid_body\"");
    }
    expect_refused("POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
                   "invalid_body");
}

static void test_malformed_heads(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "NONSENSE\r\n\r\n",
        "GET /echo HTTP/2.0\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost : test\r\n\r\n",
        "GET /echo HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
        "GET /echo HTTP/1.1\r\nA: b\x01\r\n\r\n",
        "GET  HTTP/1.1\r\n\r\n",
        " /echo HTTP/1.1\r\n\r\n",
        "\r\n\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    };
    for (unsigned i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
        expect_refused(heads[i], 400, "\"code\":\"invalid_body\"");
}

static void test_malformed_chunks(void **state)
{
    (void)state;
    static const char *const bodies[] = {"x\r\n", "5\r\nhelloworld\r\n0\r\n\r\n",
                                         "fffffffffffffffff\r\nhello", ";\r\n"};
    for (unsigned i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        char request[256];
        snprintf(request, sizeof(request),
                 "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n%s", bodies[i]);
        expect_refused(request, 400, "invalid_body");
        http_close(&client);
        http_connect(&client, cairn_server_port(server));
        /* The same, found in a read of its own. */
        http_send_text(&client, "POST /echo HTTP/1.1\r\n" HOST
                                "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
        struct http_answer answer;
        http_read(&client, false, &answer);
        assert_int_equal(answer.status, 100);
        http_answer_free(&answer);
        http_send_text(&client, bodies[i]);
        http_read(&client, false, &answer);
        assert_int_equal(answer.status, 400);
        http_answer_free(&answer);
        assert_true(http_is_closed(&client));
    }
}

static void test_close_and_old_version(void **state)
{
    (void)state;
    struct http_answer answer;
    char value[64];
    http_ask(&client, "GET /echo HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", &answer);
    assert_true(http_header(&answer, "connection", value, sizeof(value)));
    assert_string_equal(value, "close");
    http_answer_free(&answer);
    assert_true(http_is_closed(&client));
    http_close(&client);
    http_connect(&client, cairn_server_port(server));
    http_expect(&client, "GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, NULL);
    http_expect(&client, "GET /echo HTTP/1.0\r\n\r\n", 200, NULL);
    assert_true(http_is_closed(&client));
}

static void test_park(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 50; i++)
        http_expect(&client, "GET /park HTTP/1.1\r\n" HOST "\r\n", 200, "{\"on_loop\":1}");
}

/* Two clients whose answers the kernel takes only in parts. */
static void test_large_answers(void **state)
{
    (void)state;
    struct http_answer answer;
    http_send_text(&client, "GET /big?bytes=9000000 HTTP/1.1\r\n" HOST "\r\n"
                            "GET /big?bytes=1 HTTP/1.1\r\n" HOST "\r\n");
    http_read(&client, false, &answer);
    assert_int_equal(answer.body_len, 9000000);
    http_answer_free(&answer);
    http_read(&client, false, &answer);
    assert_string_equal(answer.body, "x");
    http_answer_free(&answer);
    still_alive();
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, connect_client, close_client)
    const struct CMUnitTest tests[] = {
        CASE(test_get),
        CASE(test_request_id_is_made),
        CASE(test_contract),
        CASE(test_head),
        CASE(test_paths),
        CASE(test_problem),
        CASE(test_headers),
        CASE(test_media),
        CASE(test_bodies),
        CASE(test_body_after_head),
        CASE(test_byte_by_byte),
        CASE(test_pipelining),
        CASE(test_every_split),
        CASE(test_expect),
        CASE(test_bad_framing),
        CASE(test_malformed_heads),
        CASE(test_malformed_chunks),
        CASE(test_close_and_old_version),
        CASE(test_park),
        CASE(test_large_answers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
