/* Calls over TLS: certificates of an authority that is trusted, for the right host and others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "router/transport_limits.h"
#include "tests/lib/scripted_server.h"
#include "tests/lib/testing.h"

static struct cairn_test_dir dir;
static char trusted_path[CAIRN_TEST_PATH_BYTES], other_path[CAIRN_TEST_PATH_BYTES];
static EVP_PKEY *key;
static X509 *trusted, *other; /* authorities, with the same key */

/* issuer NULL: an authority of its own. */
static X509 *make_certificate(const char *name, const char *alternatives, X509 *issuer,
                              long valid_for_s)
{
    X509 *certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), valid_for_s);
    X509_set_pubkey(certificate, key);
    X509_NAME *subject = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(certificate, issuer ? X509_get_subject_name(issuer) : subject);
    X509_EXTENSION *extension =
        issuer ? X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, alternatives)
               : X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "critical,CA:TRUE");
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    return certificate;
}

static void write_certificate(X509 *certificate, const char *name, char *path)
{
    FILE *file = fopen(cairn_test_dir_path(&dir, name, path), "w");
    assert_non_null(file);
    assert_true(PEM_write_X509(file, certificate));
    fclose(file);
}

static int setup(void **state)
{
    (void)state;
    cairn_test_dir_make(&dir);
    key = EVP_EC_gen("P-256");
    trusted = make_certificate("trusted authority", NULL, NULL, 3600);
    other = make_certificate("other authority", NULL, NULL, 3600);
    write_certificate(trusted, "trusted", trusted_path);
    write_certificate(other, "other", other_path);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    X509_free(trusted);
    X509_free(other);
    EVP_PKEY_free(key);
    cairn_test_dir_remove(&dir);
    return 0;
}

static SSL_CTX *server_context(const char *alternatives, X509 *issuer, long valid_for_s,
                               int version)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    X509 *certificate = make_certificate("server", alternatives, issuer, valid_for_s);
    SSL_CTX_set_min_proto_version(tls, version);
    SSL_CTX_set_max_proto_version(tls, version);
    assert_int_equal(SSL_CTX_use_certificate(tls, certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(tls, key), 1);
    X509_free(certificate);
    return tls;
}

struct scene {
    struct scripted_server server;
    SSL_CTX *tls;
    struct cairn_transport *transport;
    struct cairn_peer *peer;
};

static void begin_with(struct scene *scene, SSL_CTX *tls, const char *ca_file, const char *format,
                       const struct cairn_transport_limits *limits)
{
    char url[64];
    struct cairn_error err = {0};
    struct cairn_transport_options options = {.ca_file = ca_file};
    scene->tls = tls;
    scripted_server_start(&scene->server, tls);
    if (cairn_transport_start_with(&options, limits, &scene->transport, &err) != 0)
        fail_msg("%s", err.message);
    snprintf(url, sizeof(url), format, scene->server.port);
    if (cairn_peer_open(scene->transport, cairn_str_from(url), &scene->peer, &err) != 0)
        fail_msg("%s", err.message);
}

static void begin(struct scene *scene, SSL_CTX *tls, const char *ca_file, const char *format)
{
    begin_with(scene, tls, ca_file, format, &(struct cairn_transport_limits){0});
}

static void end(struct scene *scene)
{
    cairn_peer_release(&scene->peer);
    cairn_transport_stop(&scene->transport);
    scripted_server_stop(&scene->server);
    SSL_CTX_free(scene->tls);
}

static struct cairn_call ask(struct scene *scene, const char *path, struct cairn_str body)
{
    struct cairn_call call = {.peer = scene->peer,
                              .path = path,
                              .body = body,
                              .deadline_us = cairn_time_monotonic_us() + 10000000};
    cairn_transport_call_wait(&call);
    return call;
}

static void expect_echo(struct scene *scene, const char *path, struct cairn_str body)
{
    struct cairn_call call = ask(scene, path, body);
    if (call.error.code != 0)
        fail_msg("%s: %s", path, call.error.message);
    assert_int_equal(call.status, 200);
    assert_int_equal(call.answer.len, body.len);
    if (body.len > 0)
        assert_memory_equal(call.answer.data, body.ptr, body.len);
    cairn_buf_release(&call.answer);
}

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

static void test_good(void **state)
{
    (void)state;
    static const char *const urls[] = {"https://127.0.0.1:%u", "https://localhost:%u"};
    struct cairn_str body = {malloc(3000001), 3000001};
    memset((char *)body.ptr, 'x', body.len);
    for (unsigned i = 0; i < 4; i++) {
        struct scene scene;
        begin(&scene, server_context("DNS:localhost,IP:127.0.0.1", trusted, 3600, versions[i / 2]),
              trusted_path, urls[i % 2]);
        for (unsigned round = 0; round < 3; round++) {
            expect_echo(&scene, "/echo", CAIRN_STR_LITERAL("hello"));
            expect_echo(&scene, "/echo", CAIRN_STR_LITERAL(""));
            expect_echo(&scene, "/chunks", CAIRN_STR_LITERAL("hello"));
            expect_echo(&scene, "/pieces", CAIRN_STR_LITERAL("hello"));
        }
        expect_echo(&scene, "/echo", body);
        expect_echo(&scene, "/chunks", body);
        assert_int_equal(atomic_load(&scene.server.accepts), 1);
        expect_echo(&scene, "/close", CAIRN_STR_LITERAL("hello"));
        expect_echo(&scene, "/part", CAIRN_STR_LITERAL("hello"));
        end(&scene);
    }
    free((void *)body.ptr);
}

static void expect_refused(SSL_CTX *tls, const char *ca_file, const char *url, const char *part)
{
    struct scene scene;
    begin(&scene, tls, ca_file, url);
    for (unsigned i = 0; i < 2; i++) {
        struct cairn_call call = ask(&scene, "/echo", CAIRN_STR_LITERAL("hello"));
        assert_int_equal(call.error.code, CAIRN_EUNAVAILABLE);
        assert_true(call.unsent);
        if (!strstr(call.error.message, part))
            fail_msg("\"%s\" does not say %s", call.error.message, part);
    }
    assert_int_equal(atomic_load(&scene.server.requests), 0);
    end(&scene);
}

static void test_bad_certificates(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        int version = versions[i];
        expect_refused(server_context("DNS:elsewhere", trusted, 3600, version), trusted_path,
                       "https://localhost:%u", "hostname mismatch");
        expect_refused(server_context("DNS:127.0.0.1,IP:127.0.0.2", trusted, 3600, version),
                       trusted_path, "https://127.0.0.1:%u", "IP address mismatch");
        expect_refused(server_context("DNS:localhost", other, 3600, version), trusted_path,
                       "https://localhost:%u", "certificate");
        expect_refused(server_context("DNS:localhost", trusted, -60, version), trusted_path,
                       "https://localhost:%u", "expired");
        /* The system's authorities do not know ours. */
        expect_refused(server_context("DNS:localhost", trusted, 3600, version), NULL,
                       "https://localhost:%u", "certificate");
    }
    expect_refused(server_context("DNS:localhost", trusted, 3600, TLS1_1_VERSION), trusted_path,
                   "https://localhost:%u", "handshake");
}

/* A handshake that is not answered ends by the deadline: the server waits for a request's head. */
static void test_clear_text_peer(void **state)
{
    (void)state;
    struct scene scene;
    begin(&scene, NULL, trusted_path, "https://localhost:%u");
    struct cairn_call call = {
        .peer = scene.peer, .path = "/echo", .deadline_us = cairn_time_monotonic_us() + 50000};
    assert_int_equal(cairn_transport_call_wait(&call), CAIRN_ETIMEOUT);
    assert_true(call.unsent);
    end(&scene);
}

static void count_end(struct cairn_call *call)
{
    atomic_uint *ended = call->context;
    cairn_buf_release(&call->answer);
    atomic_fetch_add(ended, 1);
}

/* Many at once, some of them out of time, and a stop in the middle. */
static void test_load_and_stop(void **state)
{
    (void)state;
    static const char *const paths[] = {"/echo", "/hang", "/close", "/echo"};
    struct scene scene;
    struct cairn_call calls[60];
    atomic_uint ended = 0;
    begin(&scene, server_context("DNS:localhost", trusted, 3600, TLS1_3_VERSION), trusted_path,
          "https://localhost:%u");
    for (unsigned i = 0; i < 60; i++) {
        uint64_t patience_us = i % 8 == 1 ? 1000 : 10000000;
        calls[i] = (struct cairn_call){.peer = scene.peer,
                                       .path = paths[i % 4],
                                       .body = CAIRN_STR_LITERAL("hello"),
                                       .deadline_us = cairn_time_monotonic_us() + patience_us,
                                       .done = count_end,
                                       .context = &ended};
        cairn_transport_call(&calls[i]);
    }
    scripted_server_wait(&ended, 53); /* all but those that hang and have time */
    cairn_peer_release(&scene.peer);
    cairn_transport_stop(&scene.transport);
    assert_int_equal(atomic_load(&ended), 60);
    for (unsigned i = 0; i < 60; i++)
        assert_int_equal(calls[i].error.code, i % 4 != 1   ? 0
                                              : i % 8 == 1 ? CAIRN_ETIMEOUT
                                                           : CAIRN_ESHUTDOWN);
    end(&scene);
}

/* Few connections, and deadlines that pass while calls wait, are just being sent, or are answered.
 */
static void test_short_deadlines(void **state)
{
    (void)state;
    struct scene scene;
    struct cairn_call calls[400];
    atomic_uint ended = 0;
    uint64_t seed = cairn_test_seed();
    begin_with(&scene, server_context("DNS:localhost", trusted, 3600, TLS1_3_VERSION), trusted_path,
               "https://localhost:%u", &(struct cairn_transport_limits){.connections_max = 4});
    for (unsigned i = 0; i < 400; i++) {
        uint64_t patience_us = cairn_test_random_below(&seed, 20) * 2000;
        calls[i] = (struct cairn_call){.peer = scene.peer,
                                       .path = i % 40 == 39 ? "/hang" : "/echo",
                                       .body = CAIRN_STR_LITERAL("hello"),
                                       .deadline_us = cairn_time_monotonic_us() + patience_us,
                                       .done = count_end,
                                       .context = &ended};
        cairn_transport_call(&calls[i]);
    }
    scripted_server_wait(&ended, 400);
    for (unsigned i = 0; i < 400; i++)
        assert_true(calls[i].error.code == CAIRN_ETIMEOUT ||
                    (calls[i].error.code == 0 && calls[i].status == 200));
    expect_echo(&scene, "/echo", CAIRN_STR_LITERAL("hello"));
    end(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad_certificates),
        cmocka_unit_test(test_clear_text_peer),
        cmocka_unit_test(test_load_and_stop),
        cmocka_unit_test(test_short_deadlines),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
