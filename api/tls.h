/* TLS for the listener: HTTP/1.1 only, TLS 1.2 and 1.3. */
#ifndef CAIRN_API_TLS_H
#define CAIRN_API_TLS_H

#include <openssl/ssl.h>

#include "base/error.h"

/* PEM files; the certificate may be followed by its chain. CAIRN_EPARAM naming the file. */
int cairn_tls_open(const char *certificate_file, const char *key_file, SSL_CTX **out,
                   struct cairn_error *err);
void cairn_tls_free(SSL_CTX **tls);

#endif
