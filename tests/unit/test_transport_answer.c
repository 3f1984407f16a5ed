/* An answer comes to the same however it is cut, and damaged ones do no harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "router/transport_answer.h"
#include "tests/lib/testing.h"

#define BYTES_MAX 100

static const char *const answers[] = {
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 421 Misdirected Request\r\ncontent-length:5 \r\nX: y\r\nConnection: "
    "close\r\n\r\nhello",
    "HTTP/1.1 503 \r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n03;x=y\r\nllo\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nTrailer: z\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and more",
};
#define ANSWERS_COUNT (sizeof(answers) / sizeof(answers[0]))

/* What it comes to. Each piece is a copy of its own size, so that none is read beyond its end. */
struct outcome {
    bool whole, keep_alive;
    int status;
    size_t len;
    char body[BYTES_MAX];
};

static struct outcome feed(const char *bytes, size_t len, uint64_t *seed, size_t piece_max)
{
    struct transport_answer answer = {0};
    struct outcome outcome = {0};
    struct cairn_error err;
    int code = 0;
    transport_answer_reset(&answer, BYTES_MAX);
    while (len > 0 && code == 0) {
        size_t piece = 1 + cairn_test_random_below(seed, piece_max);
        piece = piece < len ? piece : len;
        char *copy = malloc(piece);
        memcpy(copy, bytes, piece);
        code = transport_answer_feed(&answer, copy, piece, &err);
        free(copy);
        bytes += piece;
        len -= piece;
    }
    assert_true(code == 0 || code == CAIRN_EUNAVAILABLE || code == CAIRN_ETOOLARGE);
    if (code == 0 && answer.phase == TRANSPORT_ANSWER_WHOLE) {
        outcome.whole = true;
        outcome.keep_alive = answer.keep_alive;
        outcome.status = answer.status;
        outcome.len = answer.body.len;
        assert_true(answer.body.len <= BYTES_MAX);
        if (answer.body.len > 0)
            memcpy(outcome.body, answer.body.data, answer.body.len);
    }
    transport_answer_release(&answer);
    return outcome;
}

static void test_pieces(void **state)
{
    (void)state;
    static const struct outcome expected[] = {
        {true, true, 200, 5, "hello"}, {true, false, 421, 5, "hello"},
        {true, true, 503, 0, ""},      {true, true, 204, 0, ""},
        {true, false, 200, 3, "abc"},  {true, true, 200, 5, "hello"},
        {true, true, 200, 1, "x"},     {true, true, 200, 2, "hi"},
        {true, false, 200, 2, "hi"},
    };
    uint64_t seed = cairn_test_seed();
    for (size_t i = 0; i < ANSWERS_COUNT; i++) {
        for (unsigned round = 0; round < 200; round++) {
            static const size_t pieces[] = {1, 3, 20, 100000};
            struct outcome got = feed(answers[i], strlen(answers[i]), &seed, pieces[round % 4]);
            assert_int_equal(got.whole, expected[i].whole);
            assert_int_equal(got.keep_alive, expected[i].keep_alive);
            assert_int_equal(got.status, expected[i].status);
            assert_int_equal(got.len, expected[i].len);
            assert_memory_equal(got.body, expected[i].body, got.len);
        }
    }
}

static void test_damage(void **state)
{
    (void)state;
    static const char bytes[] = "\r\n :;0123456789abcfCx\xff";
    uint64_t seed = cairn_test_seed();
    unsigned whole = 0;
    for (unsigned round = 0; round < 20000; round++) {
        char text[512];
        size_t len = strlen(answers[round % ANSWERS_COUNT]);
        memcpy(text, answers[round % ANSWERS_COUNT], len);
        for (uint64_t changes = 1 + cairn_test_random_below(&seed, 3); changes > 0; changes--)
            text[cairn_test_random_below(&seed, len)] =
                bytes[cairn_test_random_below(&seed, sizeof(bytes) - 1)];
        struct outcome once = feed(text, len, &seed, 1000000);
        struct outcome cut = feed(text, len, &seed, 9);
        assert_int_equal(once.whole, cut.whole);
        assert_int_equal(once.keep_alive, cut.keep_alive);
        assert_int_equal(once.status, cut.status);
        assert_int_equal(once.len, cut.len);
        assert_memory_equal(once.body, cut.body, sizeof(once.body));
        whole += once.whole;
    }
    assert_true(whole > 100 && whole < 19000);
}

static void test_body_limit(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (unsigned over = 0; over < 2; over++) {
        char text[512];
        int head = snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n",
                            BYTES_MAX + over);
        memset(text + head, 'x', BYTES_MAX + over);
        assert_int_equal(feed(text, (size_t)head + BYTES_MAX + over, &seed, 1000).whole, !over);
        head = snprintf(text, sizeof(text),
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n",
                        BYTES_MAX + over);
        memset(text + head, 'x', BYTES_MAX + over);
        memcpy(text + head + BYTES_MAX + over, "\r\n0\r\n\r\n", 7);
        assert_int_equal(feed(text, (size_t)head + BYTES_MAX + over + 7, &seed, 7).whole, !over);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_body_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
