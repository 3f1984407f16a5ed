/* Random and mangled input: the server answers or closes, keeps serving, and nothing is left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/lib/http_client.h"
#include "tests/lib/http_routes.h"
#include "tests/lib/testing.h"

#define INPUTS 1000

static const char *const SEEDS[] = {
    "GET /echo?q=a%20b HTTP/1.1\r\nHost: a\r\nrequest-id: x\r\nCairn-Timeout: 2s\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\nhello, world",
    "POST /work HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "POST /stream?mode=later HTTP/1.1\r\nContent-Type: application/x-ndjson\r\n"
    "Transfer-Encoding: chunked\r\n\r\n8\r\n{}\n{\"a\"}\r\n1\r\n\n\r\n0\r\n\r\n",
    "POST /stream HTTP/1.1\r\nContent-Type: application/x-ndjson\r\nContent-Length: 9\r\n\r\n"
    "{}\n{}\n{}\n",
    "POST /echo HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
    "GET /v1/collections/a%2Fb/things/k:1?contract=true HTTP/1.1\r\nCairn-Min-Position: 1;s0=1\r\n"
    "Authorization: Bearer x\r\nAccept: */*\r\n\r\n",
    "POST /json HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
};

static const char *const PIECES[] = {
    "\r\n",
    "\r\n\r\n",
    "\n",
    ":",
    " ",
    "\t",
    "%",
    "%00",
    "Content-Length: 5\r\n",
    "0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n",
    "HTTP/1.1",
    "Expect: 100-continue\r\n",
    "ffffffff\r\n",
    "Connection: close\r\n",
    "/../../",
    "//",
    "?",
    "&=&",
};

/* A seed, or several, with bytes flipped, cut, doubled and words of the protocol thrown in. */
static void mangle(uint64_t *random, struct cairn_buf *out)
{
    cairn_buf_clear(out);
    unsigned parts = 1 + (unsigned)cairn_test_random_below(random, 3);
    for (unsigned i = 0; i < parts; i++) {
        const char *seed = SEEDS[cairn_test_random_below(random, sizeof(SEEDS) / sizeof(SEEDS[0]))];
        cairn_buf_append(out, seed, strlen(seed));
    }
    unsigned changes = (unsigned)cairn_test_random_below(random, 6);
    for (unsigned i = 0; i < changes && out->len > 4; i++) {
        size_t at = cairn_test_random_below(random, out->len);
        const char *piece =
            PIECES[cairn_test_random_below(random, sizeof(PIECES) / sizeof(PIECES[0]))];
        size_t len = strlen(piece);
        switch (cairn_test_random_below(random, 4)) {
        case 0:
            out->data[at] = (char)cairn_test_random(random);
            break;
        case 1:
            out->len = at + 1;
            break;
        case 2:
            cairn_buf_reserve(out, len);
            memmove(out->data + at + len, out->data + at, out->len - at);
            memcpy(out->data + at, piece, len);
            out->len += len;
            break;
        default:
            memmove(out->data + at, out->data + at + 1, out->len - at - 1);
            out->len--;
        }
    }
}

static void noise(uint64_t *random, struct cairn_buf *out)
{
    size_t len = 1 + cairn_test_random_below(random, 2000);
    cairn_buf_clear(out);
    char *bytes = cairn_buf_reserve(out, len);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)cairn_test_random(random);
    out->len = len;
}

/* In pieces of random sizes, reading nothing or what has come. */
static void send_pieces(uint64_t *random, struct http_client *client, const struct cairn_buf *input)
{
    size_t at = 0;
    while (at < input->len) {
        size_t len = 1 + cairn_test_random_below(random, input->len - at);
        if (!http_send(client, input->data + at, len))
            return;
        at += len;
        struct pollfd answered = {.fd = client->fd, .events = POLLIN};
        char ignored[4096];
        if (cairn_test_random_below(random, 3) == 0 && poll(&answered, 1, 1) > 0 &&
            recv(client->fd, ignored, sizeof(ignored), MSG_DONTWAIT) == 0)
            return;
    }
}

static void test_garbage(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    struct cairn_server_options options = {.loops = 1, .workers = 2};
    static const struct cairn_http_times times = {
        .idle_ms = 2000, .head_ms = 1000, .stall_ms = 1000, .linger_ms = 200};
    struct cairn_server *server = test_server_start(&options, &times);
    struct cairn_buf input = {0};
    for (unsigned i = 0; i < INPUTS; i++) {
        struct http_client client;
        if (cairn_test_random_below(&random, 4) == 0)
            noise(&random, &input);
        else
            mangle(&random, &input);
        http_connect(&client, cairn_server_port(server));
        send_pieces(&random, &client, &input);
        http_close(&client);
    }
    cairn_buf_release(&input);
    test_server_wait_idle(server);
    assert_int_equal(atomic_load(&test_counters.in_flight), 0);
    struct http_client client;
    http_connect(&client, cairn_server_port(server));
    http_expect(&client, "GET /echo?q=alive HTTP/1.1\r\nHost: a\r\n\r\n", 200, "alive");
    http_close(&client);
    cairn_server_stop(&server, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
