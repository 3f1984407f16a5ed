/* The same server behind TLS: HTTP/1.1 only, bodies decrypted by h2o and read by us. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "tests/lib/http_client.h"
#include "tests/lib/http_routes.h"
#include "tests/lib/testing.h"

#define HOST "Host: test\r\n"

static struct cairn_test_dir dir;
static char certificate_path[CAIRN_TEST_PATH_BYTES], key_path[CAIRN_TEST_PATH_BYTES];
static struct cairn_server *server;

struct tls_client {
    struct http_client tcp;
    SSL_CTX *context;
    SSL *ssl;
};

static void write_certificate(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME *name = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(certificate, name);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    FILE *file = fopen(cairn_test_dir_path(&dir, "certificate", certificate_path), "w");
    assert_true(PEM_write_X509(file, certificate));
    fclose(file);
    file = fopen(cairn_test_dir_path(&dir, "key", key_path), "w");
    assert_true(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL));
    fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

static int setup(void **state)
{
    (void)state;
    static const struct cairn_http_times times = {
        .idle_ms = 20000, .head_ms = 300, .stall_ms = 20000, .linger_ms = 500};
    cairn_test_dir_make(&dir);
    write_certificate();
    struct cairn_server_options options = {.loops = 1,
                                           .workers = 2,
                                           .tls_certificate_file = certificate_path,
                                           .tls_key_file = key_path};
    test_gate_open();
    server = test_server_start(&options, &times);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_server_wait_idle(server);
    cairn_server_stop(&server, 1000);
    cairn_test_dir_remove(&dir);
    return 0;
}

static void tls_connect(struct tls_client *client, int version)
{
    static const unsigned char protocols[] = "\x02h2\x08http/1.1";
    struct timeval patience = {.tv_sec = 10};
    http_connect(&client->tcp, cairn_server_port(server));
    setsockopt(client->tcp.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    client->context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(client->context, version);
    SSL_CTX_set_max_proto_version(client->context, version);
    SSL_CTX_set_alpn_protos(client->context, protocols, sizeof(protocols) - 1);
    client->ssl = SSL_new(client->context);
    SSL_set_fd(client->ssl, client->tcp.fd);
    assert_int_equal(SSL_connect(client->ssl), 1);
}

static void tls_close(struct tls_client *client, bool gently)
{
    if (gently)
        SSL_shutdown(client->ssl);
    SSL_free(client->ssl);
    SSL_CTX_free(client->context);
    http_close(&client->tcp);
}

static void tls_send(struct tls_client *client, const char *bytes, size_t len)
{
    while (len > 0) {
        int sent = SSL_write(client->ssl, bytes, len > 100000 ? 100000 : (int)len);
        assert_true(sent > 0);
        bytes += sent;
        len -= (size_t)sent;
    }
}

static void tls_send_text(struct tls_client *client, const char *text)
{
    tls_send(client, text, strlen(text));
}

/* Read until `end` is at the end of what came, or the connection ends. Returns the text. */
static char *tls_read(struct tls_client *client, const char *end)
{
    size_t len = 0, capacity = 1 << 16, end_len = strlen(end);
    char *text = malloc(capacity);
    for (;;) {
        int got = SSL_read(client->ssl, text + len, (int)(capacity - len - 1));
        if (got <= 0)
            break;
        len += (size_t)got;
        if (capacity - len < 1 << 15)
            text = realloc(text, capacity *= 2);
        if (len >= end_len && memcmp(text + len - end_len, end, end_len) == 0)
            break;
    }
    text[len] = '\0';
    return text;
}

static void expect_answer(struct tls_client *client, const char *status, const char *end)
{
    char *text = tls_read(client, end);
    if (strncmp(text, status, strlen(status)) != 0 || !strstr(text, end))
        fail_msg("expected %s ... %s, got: %s", status, end, text);
    free(text);
}

static void test_requests(void **state)
{
    (void)state;
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    for (unsigned i = 0; i < 2; i++) {
        struct tls_client client;
        const unsigned char *protocol;
        unsigned protocol_len;
        tls_connect(&client, versions[i]);
        SSL_get0_alpn_selected(client.ssl, &protocol, &protocol_len);
        assert_int_equal(protocol_len, 8);
        assert_memory_equal(protocol, "http/1.1", 8);
        tls_send_text(&client, "GET /echo?q=x HTTP/1.1\r\n" HOST "\r\n");
        expect_answer(&client, "HTTP/1.1 200", "}");
        tls_send_text(&client, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello");
        expect_answer(&client, "HTTP/1.1 200", "hello");
        tls_send_text(&client, "POST /work HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n");
        for (const char *at = "hello"; *at; at++)
            tls_send(&client, at, 1);
        expect_answer(&client, "HTTP/1.1 200", "hello");
        tls_send_text(&client, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
        for (const char *at = "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"; *at; at++)
            tls_send(&client, at, 1);
        expect_answer(&client, "HTTP/1.1 200", "abc");
        tls_send_text(&client, "POST /echo HTTP/1.1\r\n" HOST
                               "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        expect_answer(&client, "HTTP/1.1 100", "\r\n\r\n");
        tls_send_text(&client, "helloGET /echo?q=y HTTP/1.1\r\n" HOST "\r\n");
        expect_answer(&client, "HTTP/1.1 200", "}");
        tls_close(&client, i == 0);
    }
}

static void test_large(void **state)
{
    (void)state;
    struct tls_client client;
    size_t len = 5000000;
    char *body = malloc(len);
    for (size_t i = 0; i < len; i++)
        body[i] = (char)('a' + i % 26);
    memcpy(body + len - 4, "!END", 4);
    tls_connect(&client, TLS1_3_VERSION);
    for (unsigned i = 0; i < 2; i++) {
        tls_send_text(&client,
                      i ? "POST /work HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                          "4c4b40\r\n"
                        : "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5000000\r\n\r\n");
        tls_send(&client, body, len);
        if (i)
            tls_send_text(&client, "\r\n0\r\n\r\n");
        char *text = tls_read(&client, "!END");
        const char *got = strstr(text, "\r\n\r\n");
        assert_non_null(got);
        assert_memory_equal(got + 4, body, len);
        free(text);
    }
    tls_send_text(&client, "GET /echo?q=y HTTP/1.1\r\n" HOST "\r\n");
    expect_answer(&client, "HTTP/1.1 200", "}");
    tls_close(&client, true);
    free(body);
}

static void test_stream(void **state)
{
    (void)state;
    struct tls_client client;
    char *body = malloc(800000);
    memset(body, 'x', 800000);
    for (unsigned i = 99; i < 800000; i += 100)
        body[i] = '\n';
    tls_connect(&client, TLS1_3_VERSION);
    for (unsigned i = 0; i < 3; i++) {
        tls_send_text(&client, "POST /stream?mode=later HTTP/1.1\r\n" HOST
                               "Content-Type: application/x-ndjson\r\n"
                               "Content-Length: 800000\r\n\r\n");
        tls_send(&client, body, 800000);
        char *text = tls_read(&client, "\r\n0\r\n\r\n");
        assert_non_null(strstr(text, "{\"line\":8000,\"bytes\":99}\n"));
        assert_null(strstr(text, "{\"line\":8001"));
        free(text);
    }
    tls_close(&client, false);
    free(body);
}

static void test_refusals(void **state)
{
    (void)state;
    static const char *const requests[] = {
        "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 100000000\r\n\r\n",
        "POST /nowhere HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\nabc",
        "GET /echo\r\n\r\n",
        "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
    };
    static const char *const statuses[] = {"HTTP/1.1 413", "HTTP/1.1 404", "HTTP/1.1 400",
                                           "HTTP/1.1 400"};
    for (unsigned i = 0; i < 4; i++) {
        struct tls_client client;
        char byte;
        tls_connect(&client, TLS1_3_VERSION);
        tls_send_text(&client, requests[i]);
        expect_answer(&client, statuses[i], "}");
        assert_true(SSL_read(client.ssl, &byte, 1) <= 0);
        tls_close(&client, false);
    }
}

static void test_bad_handshakes(void **state)
{
    (void)state;
    struct http_client plain;
    http_connect(&plain, cairn_server_port(server));
    http_send_text(&plain, "GET /echo HTTP/1.1\r\n" HOST "\r\n");
    char ignored[4096];
    while (recv(plain.fd, ignored, sizeof(ignored), 0) > 0)
        ;
    http_close(&plain);
    /* One that says nothing is closed in time. */
    http_connect(&plain, cairn_server_port(server));
    assert_true(http_is_closed(&plain));
    http_close(&plain);
    /* Gone at each stage. */
    for (unsigned i = 0; i < 4; i++) {
        struct tls_client client;
        tls_connect(&client, TLS1_3_VERSION);
        if (i > 0)
            tls_send_text(&client, "POST /gate HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n");
        if (i > 1)
            tls_send_text(&client, "he");
        if (i > 2)
            tls_send_text(&client, "llo");
        tls_close(&client, i % 2 == 0);
    }
}

static void test_stop_with_open_connections(void **state)
{
    (void)state;
    struct tls_client idle, busy;
    char byte;
    tls_connect(&idle, TLS1_3_VERSION);
    tls_connect(&busy, TLS1_2_VERSION);
    tls_send_text(&busy, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhe");
    test_server_wait_requests(server, 1);
    cairn_server_stop(&server, 50);
    assert_true(SSL_read(idle.ssl, &byte, 1) <= 0);
    assert_true(SSL_read(busy.ssl, &byte, 1) <= 0);
    tls_close(&idle, false);
    tls_close(&busy, false);
    struct cairn_server_options options = {.loops = 1,
                                           .workers = 1,
                                           .tls_certificate_file = certificate_path,
                                           .tls_key_file = key_path};
    server = test_server_start(&options, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),       cmocka_unit_test(test_large),
        cmocka_unit_test(test_stream),         cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_bad_handshakes), cmocka_unit_test(test_stop_with_open_connections),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
