#include "api/tls.h"

#include <openssl/err.h>

/* Of what a client offers, only http/1.1 is taken. */
static int select_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *offered, unsigned offered_len, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1";
    (void)ssl;
    (void)arg;
    unsigned char *chosen;
    int found =
        SSL_select_next_proto(&chosen, out_len, ours, sizeof(ours) - 1, offered, offered_len);
    *out = chosen;
    return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

static int fail_tls(const char *what, const char *file, struct cairn_error *err)
{
    char reason[256];
    ERR_error_string_n(ERR_get_error(), reason, sizeof(reason));
    return cairn_fail(err, CAIRN_EPARAM, "TLS %s %s: %s", what, file, reason);
}

int cairn_tls_open(const char *certificate_file, const char *key_file, SSL_CTX **out,
                   struct cairn_error *err)
{
    int code = 0;
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    if (!tls)
        return cairn_fail(err, CAIRN_ENOMEM, "TLS: out of memory");
    SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
    SSL_CTX_set_options(tls, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(tls, select_protocol, NULL);
    if (SSL_CTX_use_certificate_chain_file(tls, certificate_file) != 1)
        code = fail_tls("certificate", certificate_file, err);
    else if (SSL_CTX_use_PrivateKey_file(tls, key_file, SSL_FILETYPE_PEM) != 1)
        code = fail_tls("key", key_file, err);
    else if (SSL_CTX_check_private_key(tls) != 1)
        code = fail_tls("key does not belong to the certificate:", key_file, err);
    if (code != 0)
        cairn_tls_free(&tls);
    *out = tls;
    return code;
}

void cairn_tls_free(SSL_CTX **tls)
{
    SSL_CTX_free(*tls);
    *tls = NULL;
}
