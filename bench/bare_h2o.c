/* The peer of the read benchmark: an h2o server that answers every request with a constant body.
 * Same library, same number of loops and listeners, same headers' sort, nothing behind it.
 *
 * Usage: bench_bare_h2o PORT LOOPS BODY_BYTES     (127.0.0.1, until killed) */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <h2o.h>
#pragma GCC diagnostic pop

static uint16_t port;
static char *body;
static size_t body_len;

struct loop {
    pthread_t thread;
    h2o_globalconf_t config;
    h2o_context_t context;
    h2o_accept_ctx_t accept;
};

static int answer(h2o_handler_t *self, h2o_req_t *req)
{
    (void)self;
    static h2o_generator_t generator = {NULL, NULL};
    h2o_iovec_t content = {body, body_len};
    req->res.status = 200;
    req->res.reason = "OK";
    req->res.content_length = body_len;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   H2O_STRLIT("application/json"));
    h2o_start_response(req, &generator);
    h2o_send(req, &content, 1, H2O_SEND_STATE_FINAL);
    return 0;
}

static void on_accept(h2o_socket_t *listener, const char *err)
{
    struct loop *loop = listener->data;
    h2o_socket_t *socket;
    if (err == NULL)
        while ((socket = h2o_evloop_socket_accept(listener)) != NULL)
            h2o_accept(&loop->accept, socket);
}

static int listen_on(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 1024) != 0) {
        perror("listen");
        exit(1);
    }
    return fd;
}

static void *run(void *argument)
{
    struct loop *loop = argument;
    h2o_config_init(&loop->config);
    loop->config.server_name = h2o_iovec_init(H2O_STRLIT("bare"));
    h2o_hostconf_t *host =
        h2o_config_register_host(&loop->config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_pathconf_t *path = h2o_config_register_path(host, "/", 0);
    h2o_handler_t *handler = h2o_create_handler(path, sizeof *handler);
    handler->on_req = answer;
    h2o_context_init(&loop->context, h2o_evloop_create(), &loop->config);
    loop->accept = (h2o_accept_ctx_t){.ctx = &loop->context, .hosts = loop->config.hosts};
    h2o_socket_t *listener =
        h2o_evloop_socket_create(loop->context.loop, listen_on(), H2O_SOCKET_FLAG_DONT_READ);
    listener->data = loop;
    h2o_socket_read_start(listener, on_accept);
    while (h2o_evloop_run(loop->context.loop, INT32_MAX) == 0)
        ;
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: %s PORT LOOPS BODY_BYTES\n", argv[0]);
        return 2;
    }
    port = (uint16_t)atoi(argv[1]);
    int loops_count = atoi(argv[2]);
    body_len = (size_t)atoi(argv[3]);
    body = malloc(body_len + 1);
    struct loop *loops = calloc((size_t)loops_count, sizeof *loops);
    if (body == NULL || loops == NULL)
        return 1;
    memset(body, 'x', body_len);
    for (int i = 0; i < loops_count; i++)
        pthread_create(&loops[i].thread, NULL, run, &loops[i]);
    for (int i = 0; i < loops_count; i++)
        pthread_join(loops[i].thread, NULL);
    return 0;
}
