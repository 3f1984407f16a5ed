/* A small HTTP/1.1 server for tests of the transport, in threads of its own. What it does with a
 * POST is said by the request's path:
 *
 * /echo      200 with the request's body, by length     /pieces     the same, byte by byte
 * /chunks    the same, in chunks of uneven sizes        /empty      204
 * /head      200 with the request's head                /close      as /echo, Connection: close
 * /status/N  status N and the body "status"             /continue   100 before the answer
 * /part      as /echo, then closes without a word       /drop       closes in place of an answer
 * /hang      never answers                              /half       closes in the middle of a body
 * /length/N  a Content-Length of N, then nothing        /gate       as /echo after the gate opens
 * /early     413 after the head, closes unread          /endless    chunks for ever
 * /raw       the body is the answer, then closes        /surplus    as /echo, with bytes too many
 */
#ifndef CAIRN_TESTS_SCRIPTED_SERVER_H
#define CAIRN_TESTS_SCRIPTED_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include <openssl/ssl.h>

#define SCRIPTED_CONNECTIONS_MAX 512

struct scripted_server {
    unsigned port;
    int listen_fd;
    SSL_CTX *tls; /* NULL: clear text */
    pthread_t acceptor;
    atomic_uint accepts, requests, open; /* connections that came, requests read, connections */
    pthread_mutex_t lock;                /* guards what follows */
    pthread_cond_t changed;
    bool gate_open, stopping;
    unsigned count;
    struct {
        pthread_t thread;
        int fd;
    } connections[SCRIPTED_CONNECTIONS_MAX];
};

/* tls is the caller's. */
void scripted_server_start(struct scripted_server *server, SSL_CTX *tls);
void scripted_server_stop(struct scripted_server *server);
void scripted_server_open_gate(struct scripted_server *server, bool opened);
/* Wait (with a deadline) until a counter has reached, or is down to, a number. */
void scripted_server_wait(atomic_uint *counter, unsigned at_least);
void scripted_server_wait_down(atomic_uint *counter, unsigned at_most);

#endif
