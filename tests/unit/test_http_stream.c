/* Streamed NDJSON uploads. */
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
#include "tests/lib/testing.h"

#define HEAD "POST /stream?mode=%s HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\n"

static struct cairn_server *server;
static struct http_client client;

static int start(void **state)
{
    (void)state;
    test_gate_open();
    memset(&test_counters, 0, sizeof(test_counters));
    server = test_server_start(NULL, NULL);
    http_connect(&client, cairn_server_port(server));
    return 0;
}

static int stop(void **state)
{
    (void)state;
    test_gate_open();
    http_close(&client);
    test_server_wait_idle(server);
    cairn_server_stop(&server, 1000);
    assert_int_equal(atomic_load(&test_counters.in_flight), 0);
    assert_int_equal(atomic_load(&test_counters.blocks_overlaps), 0);
    assert_true(atomic_load(&test_counters.in_flight_max) <= CAIRN_STREAM_BLOCKS_MAX);
    return 0;
}

static void still_alive(void)
{
    http_expect(&client, "GET /echo?q=alive HTTP/1.1\r\nHost: a\r\n\r\n", 200, "\"q\":\"alive\"");
}

static void expect_body(const char *body)
{
    struct http_answer answer;
    char value[64];
    http_read(&client, false, &answer);
    assert_int_equal(answer.status, 200);
    assert_true(http_header(&answer, "content-type", value, sizeof(value)));
    assert_string_equal(value, "application/x-ndjson");
    assert_string_equal(answer.body, body);
    http_answer_free(&answer);
}

static void send_upload(const char *mode, const char *body)
{
    http_sendf(&client, HEAD "Content-Length: %zu\r\n\r\n%s", mode, strlen(body), body);
}

static void test_small(void **state)
{
    (void)state;
    static const char *const modes[] = {"now", "later", "gate"};
    for (unsigned i = 0; i < 3; i++) {
        send_upload(modes[i], "{}\n{\"a\":1}\n");
        expect_body("{\"line\":1,\"bytes\":2}\n{\"line\":2,\"bytes\":7}\n");
        send_upload(modes[i], "{}\n\nx"); /* an empty line; no newline at the end */
        expect_body(
            "{\"line\":1,\"bytes\":2}\n{\"line\":2,\"bytes\":0}\n{\"line\":3,\"bytes\":1}\n");
        send_upload(modes[i], "");
        expect_body("");
        http_sendf(&client, HEAD "Transfer-Encoding: chunked\r\n\r\n", modes[i]);
        http_send_slowly(&client, "4\r\n{}\n{\r\n2\r\n}\n\r\n0\r\n\r\n");
        expect_body("{\"line\":1,\"bytes\":2}\n{\"line\":2,\"bytes\":2}\n");
        still_alive();
    }
}

static void test_not_streamed_there(void **state)
{
    (void)state;
    struct http_answer answer;
    char value[64];
    /* JSON on the same path goes to the handler. */
    http_expect(&client,
                "POST /stream HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                "Content-Length: 2\r\n\r\n[]",
                200, "[]");
    http_sendf(&client, HEAD "Content-Length: 1000\r\n\r\n{}\n", "refuse");
    http_read(&client, false, &answer);
    assert_int_equal(answer.status, 404);
    assert_non_null(strstr(answer.body, "collection_not_found"));
    assert_true(http_header(&answer, "connection", value, sizeof(value)));
    assert_string_equal(value, "close");
    http_answer_free(&answer);
    assert_true(http_is_closed(&client));
}

static void test_expect_continue(void **state)
{
    (void)state;
    struct http_answer answer;
    http_sendf(&client, HEAD "Content-Length: 3\r\nExpect: 100-continue\r\n\r\n", "now");
    http_read(&client, false, &answer);
    assert_int_equal(answer.status, 100);
    http_answer_free(&answer);
    http_send_text(&client, "{}\n");
    expect_body("{\"line\":1,\"bytes\":2}\n");
    still_alive();
}

/* Each line's answer comes before the next line is sent. */
static void test_answers_while_uploading(void **state)
{
    (void)state;
    struct http_answer answer;
    char line[128], expected[128];
    http_sendf(&client, HEAD "Transfer-Encoding: chunked\r\n\r\n", "later");
    for (unsigned i = 1; i <= 50; i++) {
        http_send_text(&client, "3\r\n{}\n\r\n");
        if (i == 1) {
            http_read_head(&client, &answer);
            assert_int_equal(answer.status, 200);
            assert_true(answer.chunked);
            http_answer_free(&answer);
        }
        assert_true(http_read_line(&client, line, sizeof(line)));
        snprintf(expected, sizeof(expected), "{\"line\":%u,\"bytes\":2}", i);
        assert_string_equal(line, expected);
    }
    http_send_text(&client, "0\r\n\r\n");
    assert_false(http_read_line(&client, line, sizeof(line)));
}

struct upload {
    struct http_client *client;
    uint64_t seed;
    unsigned lines;
    bool chunked;
};

static unsigned line_bytes(uint64_t *random)
{
    uint64_t kind = cairn_test_random_below(random, 1000);
    return (unsigned)cairn_test_random_below(random, kind == 0 ? 300000 : kind < 50 ? 3000 : 100);
}

static void *send_lines(void *arg)
{
    struct upload *upload = arg;
    struct cairn_buf buf = {0};
    uint64_t random = upload->seed, pieces = upload->seed + 1;
    size_t target = 1 + cairn_test_random_below(&pieces, 200000);
    for (unsigned i = 0; i < upload->lines; i++) {
        unsigned len = line_bytes(&random);
        memset(cairn_buf_reserve(&buf, len + 1), 'x', len);
        buf.len += len;
        buf.data[buf.len++] = '\n';
        if (buf.len < target && i + 1 < upload->lines)
            continue;
        if (upload->chunked)
            http_sendf(upload->client, "%zx\r\n", buf.len);
        http_send(upload->client, buf.data, buf.len);
        if (upload->chunked)
            http_send_text(upload->client, "\r\n");
        cairn_buf_clear(&buf);
        target = 1 + cairn_test_random_below(&pieces, 200000);
    }
    if (upload->chunked)
        http_send_text(upload->client, "0\r\n\r\n");
    cairn_buf_release(&buf);
    return NULL;
}

static size_t total_bytes(uint64_t seed, unsigned lines)
{
    size_t total = 0;
    for (unsigned i = 0; i < lines; i++)
        total += line_bytes(&seed) + 1;
    return total;
}

/* Many blocks in flight, ending out of order; the answers are complete and in order. */
static void upload_and_check(const char *mode, bool chunked, unsigned lines)
{
    struct upload upload = {&client, cairn_test_seed(), lines, chunked};
    struct http_answer answer;
    char line[128], expected[128];
    pthread_t sender;
    if (chunked)
        http_sendf(&client, HEAD "Transfer-Encoding: chunked\r\n\r\n", mode);
    else
        http_sendf(&client, HEAD "Content-Length: %zu\r\n\r\n", mode,
                   total_bytes(upload.seed, lines));
    assert_int_equal(pthread_create(&sender, NULL, send_lines, &upload), 0);
    http_read_head(&client, &answer);
    assert_int_equal(answer.status, 200);
    http_answer_free(&answer);
    uint64_t random = upload.seed;
    for (unsigned i = 0; i < lines; i++) {
        assert_true(http_read_line(&client, line, sizeof(line)));
        snprintf(expected, sizeof(expected), "{\"line\":%u,\"bytes\":%u}", i + 1,
                 line_bytes(&random));
        assert_string_equal(line, expected);
    }
    assert_false(http_read_line(&client, line, sizeof(line)));
    pthread_join(sender, NULL);
    /* What is left of the chunked coding is its last empty line. */
    http_close(&client);
    http_connect(&client, cairn_server_port(server));
}

static void test_many_lines(void **state)
{
    (void)state;
    static const char *const modes[] = {"now", "later"};
    for (unsigned i = 0; i < 4; i++)
        upload_and_check(modes[i / 2], i % 2 == 0, 20000);
    assert_true(atomic_load(&test_counters.blocks_finished) > 8);
    assert_true(atomic_load(&test_counters.block_bytes_max) <=
                CAIRN_STREAM_BLOCK_BYTES + CAIRN_HTTP_READ_BYTES + 300001);
}

/* A client that reads nothing until it has sent everything, like most HTTP libraries. */
static void test_write_all_then_read(void **state)
{
    (void)state;
    struct http_answer answer;
    unsigned lines = 300000;
    char *body = malloc(2 * lines);
    for (unsigned i = 0; i < lines; i++)
        memcpy(body + 2 * i, "x\n", 2);
    http_sendf(&client, HEAD "Content-Length: %u\r\n\r\n", "later", 2 * lines);
    assert_true(http_send(&client, body, 2 * lines));
    http_read(&client, false, &answer);
    assert_int_equal(answer.status, 200);
    assert_non_null(strstr(answer.body, "{\"line\":300000,\"bytes\":1}\n"));
    http_answer_free(&answer);
    still_alive();
    free(body);
}

static bool has_four_waiting(void *arg)
{
    (void)arg;
    return atomic_load(&test_counters.gate_waits) >= CAIRN_STREAM_BLOCKS_MAX;
}

static void *send_until_stuck(void *arg)
{
    char *piece = malloc(64 << 10);
    memset(piece, 'y', 64 << 10);
    piece[(64 << 10) - 1] = '\n';
    struct http_client *to = arg;
    size_t sent = 0;
    while (sent < (256u << 20)) {
        if (!http_send(to, piece, 64 << 10))
            break;
        sent += 64 << 10;
    }
    free(piece);
    return NULL;
}

static uint64_t process_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long size = 0, resident = 0;
    assert_int_equal(fscanf(file, "%lu %lu", &size, &resident), 2);
    fclose(file);
    return (uint64_t)resident * 4096;
}

/* Blocks that do not end: four are taken, reading stops, and memory with it. */
static void test_back_pressure(void **state)
{
    (void)state;
    struct http_answer answer;
    char line[128];
    pthread_t sender;
    test_gate_close();
    uint64_t before = process_bytes();
    http_sendf(&client, HEAD "Content-Length: %u\r\n\r\n", "gate", 256u << 20);
    assert_int_equal(pthread_create(&sender, NULL, send_until_stuck, &client), 0);
    test_wait_until(has_four_waiting, NULL);
    struct timespec pause = {.tv_nsec = 200000000};
    nanosleep(&pause, NULL); /* time in which more would be read, if it were */
    assert_int_equal(atomic_load(&test_counters.blocks_begun), CAIRN_STREAM_BLOCKS_MAX);
    assert_true(process_bytes() < before + (48u << 20));
    test_gate_open();
    http_read_head(&client, &answer);
    http_answer_free(&answer);
    unsigned lines = 0;
    while (http_read_line(&client, line, sizeof(line)))
        lines++;
    assert_int_equal(lines, (256u << 20) / (64 << 10));
    pthread_join(sender, NULL);
}

static void fill_line(char *at, size_t len)
{
    memset(at, 'z', len);
    at[len] = '\n';
}

/* "ab", a line of `len` bytes, "cd". */
static void send_long_line(size_t len, bool newline_at_end)
{
    char *body = malloc(len + 8);
    memcpy(body, "ab\n", 3);
    fill_line(body + 3, len);
    memcpy(body + len + 4, "cd\n", 3);
    size_t total = newline_at_end ? len + 7 : len + 3;
    http_sendf(&client, HEAD "Content-Length: %zu\r\n\r\n", "now", total);
    assert_true(http_send(&client, body, total));
    free(body);
}

static void test_line_bytes(void **state)
{
    (void)state;
    char expected[256];
    send_long_line(CAIRN_NDJSON_LINE_BYTES_MAX, true);
    snprintf(expected, sizeof(expected),
             "{\"line\":1,\"bytes\":2}\n{\"line\":2,\"bytes\":%u}\n{\"line\":3,\"bytes\":2}\n",
             CAIRN_NDJSON_LINE_BYTES_MAX);
    expect_body(expected);
    send_long_line(CAIRN_NDJSON_LINE_BYTES_MAX, false);
    *strrchr(strstr(expected, "\n{\"line\":3") + 1, '{') = '\0';
    expect_body(expected);
    for (size_t over = 1; over < 3000000; over = over * 7 + 1) {
        send_long_line(CAIRN_NDJSON_LINE_BYTES_MAX + over, true);
        expect_body("{\"line\":1,\"bytes\":2}\n{\"line\":2,\"code\":\"too_large\"}\n"
                    "{\"line\":3,\"bytes\":2}\n");
        send_long_line(CAIRN_NDJSON_LINE_BYTES_MAX + over, false);
        expect_body("{\"line\":1,\"bytes\":2}\n{\"line\":2,\"code\":\"too_large\"}\n");
    }
    still_alive();
}

static void test_broken_upload(void **state)
{
    (void)state;
    struct http_answer answer;
    char line[512];
    /* Broken at once: refused as a whole. */
    http_sendf(&client, HEAD "Transfer-Encoding: chunked\r\n\r\nzz", "now");
    http_read(&client, false, &answer);
    assert_int_equal(answer.status, 400);
    http_answer_free(&answer);
    assert_true(http_is_closed(&client));
    /* Broken later: what came before is answered, then why it ends. */
    http_close(&client);
    http_connect(&client, cairn_server_port(server));
    http_sendf(&client, HEAD "Transfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n", "now");
    http_read_head(&client, &answer);
    http_answer_free(&answer);
    assert_true(http_read_line(&client, line, sizeof(line)));
    assert_string_equal(line, "{\"line\":1,\"bytes\":2}");
    http_send_text(&client, "4\r\n{}\nx\r\n!");
    assert_true(http_read_line(&client, line, sizeof(line)));
    assert_string_equal(line, "{\"line\":2,\"bytes\":2}");
    assert_true(http_read_line(&client, line, sizeof(line)));
    assert_non_null(strstr(line, "{\"error\":{"));
    assert_non_null(strstr(line, "\"code\":\"invalid_body\""));
    assert_false(http_read_line(&client, line, sizeof(line)));
}

static bool all_begun_are_finished(void *arg)
{
    (void)arg;
    return atomic_load(&test_counters.blocks_begun) > 0 &&
           atomic_load(&test_counters.in_flight) == 0;
}

/* The client goes away while blocks are in flight: they run to their ends. */
static void test_client_gone(void **state)
{
    (void)state;
    struct linger now = {.l_onoff = 1};
    for (unsigned i = 0; i < 10; i++) {
        atomic_store(&test_counters.gate_waits, 0);
        test_gate_close();
        http_sendf(&client, HEAD "Transfer-Encoding: chunked\r\n\r\n", "gate");
        for (unsigned j = 0; j < CAIRN_STREAM_BLOCKS_MAX; j++) {
            unsigned seen = atomic_load(&test_counters.gate_waits);
            http_send_text(&client, "3\r\n{}\n\r\n");
            while (atomic_load(&test_counters.gate_waits) == seen)
                ;
        }
        if (i % 2 == 0)
            setsockopt(client.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        http_close(&client);
        if (i % 3 == 0)
            test_gate_open();
        http_connect(&client, cairn_server_port(server));
        still_alive();
        test_gate_open();
        test_wait_until(all_begun_are_finished, NULL);
    }
}

static void *occupy(void *arg)
{
    (void)arg;
    struct http_client other;
    struct http_answer answer;
    http_connect(&other, cairn_server_port(server));
    http_ask(&other, "GET /gate HTTP/1.1\r\nHost: a\r\n\r\n", &answer);
    http_answer_free(&answer);
    http_close(&other);
    return NULL;
}

/* Blocks wait for a worker like everything else, and go on when one is free. */
static void test_workers_busy(void **state)
{
    (void)state;
    pthread_t threads[4];
    test_gate_close();
    for (unsigned i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, occupy, NULL);
    send_upload("now", "{}\n{}\n");
    test_gate_open();
    expect_body("{\"line\":1,\"bytes\":2}\n{\"line\":2,\"bytes\":2}\n");
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, start, stop)
    const struct CMUnitTest tests[] = {
        CASE(test_small),           CASE(test_not_streamed_there),
        CASE(test_expect_continue), CASE(test_answers_while_uploading),
        CASE(test_many_lines),      CASE(test_write_all_then_read),
        CASE(test_back_pressure),   CASE(test_line_bytes),
        CASE(test_broken_upload),   CASE(test_client_gone),
        CASE(test_workers_busy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
