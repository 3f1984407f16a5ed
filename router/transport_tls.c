/* TLS to a peer: one context for each, all over one store of trusted certificates.
 *
 * h2o 2.2.5 looks at the name in the certificate only when it has nothing left to send at the end
 * of the handshake, so never with TLS 1.3, and knows no addresses. OpenSSL therefore checks the
 * name, as part of the chain: the context's verification parameters name the host, and the
 * connection that h2o makes from it takes them over.
 *
 * Quiet shutdown: h2o_socket_close then closes at once. Otherwise it would wait until a close
 * notice could be written, without a time limit. A peer knows by Content-Length that it has all of
 * a request, so it misses nothing. */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "router/transport_core.h"

static int fail_tls(const char *what, const char *which, struct cairn_error *err)
{
    char reason[256];
    ERR_error_string_n(ERR_get_error(), reason, sizeof(reason));
    return cairn_fail(err, CAIRN_EPARAM, "%s %s: %s", what, which, reason);
}

int transport_tls_load_store(struct cairn_transport *transport, struct cairn_error *err)
{
    X509_STORE *store = X509_STORE_new();
    if (!store)
        return cairn_fail(err, CAIRN_ENOMEM, "TLS: out of memory");
    const char *file = transport->ca_file;
    int loaded = file ? X509_STORE_load_file(store, file) : X509_STORE_set_default_paths(store);
    if (loaded != 1) {
        X509_STORE_free(store);
        return fail_tls("certificates of authorities", file ? file : "of the system", err);
    }
    transport->store = store;
    return 0;
}

static int share_store(struct cairn_transport *transport, SSL_CTX *tls, struct cairn_error *err)
{
    int code = 0;
    pthread_mutex_lock(&transport->lock);
    if (!transport->store)
        code = transport_tls_load_store(transport, err);
    if (code == 0)
        SSL_CTX_set1_cert_store(tls, transport->store);
    pthread_mutex_unlock(&transport->lock);
    return code;
}

int transport_tls_open(struct cairn_transport *transport, const char *host, bool is_address,
                       SSL_CTX **out, struct cairn_error *err)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
    if (!tls)
        return cairn_fail(err, CAIRN_ENOMEM, "TLS: out of memory");
    SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
    SSL_CTX_set_options(tls, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_quiet_shutdown(tls, 1);
    SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
    X509_VERIFY_PARAM *verify = SSL_CTX_get0_param(tls);
    X509_VERIFY_PARAM_set_hostflags(verify, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    int named = is_address ? X509_VERIFY_PARAM_set1_ip_asc(verify, host)
                           : X509_VERIFY_PARAM_set1_host(verify, host, 0);
    int code = named == 1 ? 0 : fail_tls("TLS host", host, err);
    if (code == 0)
        code = share_store(transport, tls, err);
    if (code != 0) {
        SSL_CTX_free(tls);
        return code;
    }
    *out = tls;
    return 0;
}
