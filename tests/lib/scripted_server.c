#include "tests/lib/scripted_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEADLINE_MS      10000
#define HEAD_BYTES_MAX   8192
#define SHORT_PATH_BYTES 64

struct client {
    struct scripted_server *server;
    int fd;
    SSL *ssl;
    char path[SHORT_PATH_BYTES];
    char head[HEAD_BYTES_MAX + 1];
    size_t head_len; /* with what was read of the body */
    char *body;
    size_t body_len;
};

static void fail(const char *why)
{
    fprintf(stderr, "scripted server: %s\n", why);
    abort();
}

static ssize_t receive(struct client *client, char *bytes, size_t len)
{
    if (client->ssl)
        return SSL_read(client->ssl, bytes, (int)len);
    return recv(client->fd, bytes, len, 0);
}

static bool say(struct client *client, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t sent = client->ssl ? SSL_write(client->ssl, bytes, (int)len)
                                   : send(client->fd, bytes, len, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        bytes += sent;
        len -= (size_t)sent;
    }
    return true;
}

static bool sayf(struct client *client, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return say(client, text, (size_t)len);
}

static bool say_whole(struct client *client, const char *more, const char *body, size_t len)
{
    /* In one write, as a server would. */
    char *text = malloc(len + 512);
    int head = snprintf(text, 512, "HTTP/1.1 200 OK\r\n%sContent-Length: %zu\r\n\r\n", more, len);
    if (len > 0)
        memcpy(text + head, body, len);
    bool said = say(client, text, (size_t)head + len);
    free(text);
    return said;
}

static bool say_chunks(struct client *client)
{
    if (!sayf(client, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
        return false;
    for (size_t at = 0, size = 1; at < client->body_len; at += size, size = size * 3 % 70001) {
        if (size > client->body_len - at)
            size = client->body_len - at;
        if (!sayf(client, "%zx\r\n", size) || !say(client, client->body + at, size) ||
            !sayf(client, "\r\n"))
            return false;
    }
    return sayf(client, "0\r\nTrailer: x\r\n\r\n");
}

static bool say_pieces(struct client *client)
{
    char head[64];
    snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n",
             client->body_len);
    for (const char *at = head; *at; at++)
        if (!say(client, at, 1))
            return false;
    for (size_t i = 0; i < client->body_len; i++)
        if (!say(client, client->body + i, 1))
            return false;
    return true;
}

static void wait_gate(struct scripted_server *server, bool for_ever)
{
    pthread_mutex_lock(&server->lock);
    while (!server->stopping && (for_ever || !server->gate_open))
        pthread_cond_wait(&server->changed, &server->lock);
    pthread_mutex_unlock(&server->lock);
}

static bool say_endless(struct client *client)
{
    static const char zeros[4096];
    if (!sayf(client, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
        return false;
    while (sayf(client, "1000\r\n") && say(client, zeros, sizeof(zeros)) && sayf(client, "\r\n"))
        ;
    return false;
}

/* Whether the connection goes on. */
static bool answer(struct client *client)
{
    const char *path = client->path;
    bool is_surplus = strcmp(path, "/surplus") == 0;
    if (strncmp(path, "/status/", 8) == 0)
        return sayf(client, "HTTP/1.1 %s Said\r\nContent-Length: 6\r\n\r\nstatus", path + 8);
    if (strncmp(path, "/length/", 8) == 0) {
        sayf(client, "HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n", path + 8);
        wait_gate(client->server, true);
        return false;
    }
    if (strcmp(path, "/gate") == 0)
        wait_gate(client->server, false);
    if (strcmp(path, "/hang") == 0)
        wait_gate(client->server, true);
    if (strcmp(path, "/drop") == 0 || strcmp(path, "/hang") == 0)
        return false;
    if (strcmp(path, "/raw") == 0)
        return say(client, client->body, client->body_len) && false;
    if (strcmp(path, "/chunks") == 0)
        return say_chunks(client);
    if (strcmp(path, "/pieces") == 0)
        return say_pieces(client);
    if (strcmp(path, "/endless") == 0)
        return say_endless(client);
    if (strcmp(path, "/empty") == 0)
        return sayf(client, "HTTP/1.1 204 No Content\r\n\r\n");
    if (strcmp(path, "/head") == 0)
        return say_whole(client, "", client->head, client->head_len);
    if (strcmp(path, "/half") == 0)
        return sayf(client, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf") && false;
    if (strcmp(path, "/close") == 0)
        return say_whole(client, "Connection: close\r\n", client->body, client->body_len) && false;
    if (strcmp(path, "/continue") == 0 && !sayf(client, "HTTP/1.1 100 Continue\r\n\r\n"))
        return false;
    bool said = say_whole(client, "", client->body, client->body_len);
    if (is_surplus)
        said = said && sayf(client, "surplus");
    return said && strcmp(path, "/part") != 0;
}

/* Read one request. */
static bool read_request(struct client *client)
{
    char *end = NULL, *at;
    client->head_len = 0;
    while (!end) {
        if (client->head_len == HEAD_BYTES_MAX)
            fail("the head is too long");
        ssize_t got =
            receive(client, client->head + client->head_len, HEAD_BYTES_MAX - client->head_len);
        if (got <= 0)
            return false;
        client->head_len += (size_t)got;
        client->head[client->head_len] = '\0';
        end = strstr(client->head, "\r\n\r\n");
    }
    if (sscanf(client->head, "POST %63s HTTP/1.1\r\n", client->path) != 1)
        fail("not a POST");
    if (!(at = strstr(client->head, "\r\nContent-Length: ")) || at > end)
        fail("no Content-Length");
    if (strcmp(client->path, "/early") == 0)
        return true;
    size_t missing = strtoul(at + 18, NULL, 10);
    size_t here = client->head_len - (size_t)(end + 4 - client->head);
    if (here > missing)
        fail("a second request came before the answer");
    client->body = realloc(client->body, missing + 1);
    client->body_len = missing;
    memcpy(client->body, end + 4, here);
    client->head_len -= here;
    while (here < missing) {
        ssize_t got = receive(client, client->body + here, missing - here);
        if (got <= 0)
            return false;
        here += (size_t)got;
    }
    return true;
}

/* Answers too early, then lets the client read it before the reset that unread input brings. */
static void answer_early(struct client *client)
{
    sayf(client, "HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nearly");
    shutdown(client->fd, SHUT_WR);
    struct pollfd gone = {.fd = client->fd, .events = POLLRDHUP};
    poll(&gone, 1, DEADLINE_MS);
}

static bool secure(struct client *client)
{
    if (!client->server->tls)
        return true;
    client->ssl = SSL_new(client->server->tls);
    SSL_set_fd(client->ssl, client->fd);
    return SSL_accept(client->ssl) == 1;
}

struct start {
    struct scripted_server *server;
    unsigned at;
    int fd;
};

static void *serve(void *arg)
{
    struct start *start = arg;
    struct client *client = calloc(1, sizeof(*client));
    struct scripted_server *server = start->server;
    client->server = server;
    client->fd = start->fd;
    bool open = secure(client);
    while (open && read_request(client)) {
        atomic_fetch_add(&server->requests, 1);
        if (strcmp(client->path, "/early") == 0) {
            answer_early(client);
            break;
        }
        open = answer(client);
    }
    if (client->ssl)
        SSL_free(client->ssl);
    pthread_mutex_lock(&server->lock);
    server->connections[start->at].fd = -1;
    close(client->fd);
    pthread_mutex_unlock(&server->lock);
    atomic_fetch_sub(&server->open, 1);
    free(client->body);
    free(client);
    free(start);
    return NULL;
}

/* OpenSSL's writes to a client that has gone raise SIGPIPE: blocked here and, inherited, in each
 * connection's thread. */
static void *accept_all(void *arg)
{
    struct scripted_server *server = arg;
    int fd, on = 1;
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    while ((fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        struct start *start = malloc(sizeof(*start));
        pthread_mutex_lock(&server->lock);
        if (server->count == SCRIPTED_CONNECTIONS_MAX)
            fail("too many connections");
        *start = (struct start){server, server->count++, fd};
        server->connections[start->at].fd = fd;
        atomic_fetch_add(&server->open, 1);
        atomic_fetch_add(&server->accepts, 1);
        if (pthread_create(&server->connections[start->at].thread, NULL, serve, start) != 0)
            fail("no thread");
        pthread_mutex_unlock(&server->lock);
    }
    return NULL;
}

void scripted_server_start(struct scripted_server *server, SSL_CTX *tls)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    memset(server, 0, sizeof(*server));
    server->tls = tls;
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->changed, NULL);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(server->listen_fd, (struct sockaddr *)&address, len) != 0 ||
        listen(server->listen_fd, 256) != 0 ||
        getsockname(server->listen_fd, (struct sockaddr *)&address, &len) != 0)
        fail("cannot listen");
    server->port = ntohs(address.sin_port);
    if (pthread_create(&server->acceptor, NULL, accept_all, server) != 0)
        fail("no thread");
}

void scripted_server_open_gate(struct scripted_server *server, bool opened)
{
    pthread_mutex_lock(&server->lock);
    server->gate_open = opened;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

void scripted_server_stop(struct scripted_server *server)
{
    shutdown(server->listen_fd, SHUT_RDWR);
    pthread_join(server->acceptor, NULL);
    close(server->listen_fd);
    pthread_mutex_lock(&server->lock);
    server->stopping = true;
    pthread_cond_broadcast(&server->changed);
    for (unsigned i = 0; i < server->count; i++)
        if (server->connections[i].fd >= 0)
            shutdown(server->connections[i].fd, SHUT_RDWR);
    pthread_mutex_unlock(&server->lock);
    for (unsigned i = 0; i < server->count; i++)
        pthread_join(server->connections[i].thread, NULL);
    pthread_mutex_destroy(&server->lock);
    pthread_cond_destroy(&server->changed);
}

void scripted_server_wait(atomic_uint *counter, unsigned at_least)
{
    for (unsigned i = 0; atomic_load(counter) < at_least; i++) {
        if (i == DEADLINE_MS)
            fail("a counter did not grow in time");
        poll(NULL, 0, 1);
    }
}

void scripted_server_wait_down(atomic_uint *counter, unsigned at_most)
{
    for (unsigned i = 0; atomic_load(counter) > at_most; i++) {
        if (i == DEADLINE_MS)
            fail("a counter did not sink in time");
        poll(NULL, 0, 1);
    }
}
