#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "api/core.h"
#include "api/tls.h"
#include "base/diag.h"
#include "base/limits.h"
#include "base/time.h"

#define LISTEN_BACKLOG 1024
#define LOOPS_MAX      256u
#define WORKERS_MAX    1024u
#define HOST_BYTES_MAX 255u
#define NEVER_MS       (UINT64_C(1000) * 86400 * 365 * 10)

int cairn_scratch_init(struct cairn_scratch *scratch)
{
    scratch->parser = cairn_json_parser_new();
    scratch->encoder = cairn_encoder_new();
    return scratch->parser && scratch->encoder ? 0 : CAIRN_ENOMEM;
}

void cairn_scratch_release(struct cairn_scratch *scratch)
{
    if (scratch->parser)
        cairn_json_parser_free(&scratch->parser);
    if (scratch->encoder)
        cairn_encoder_free(&scratch->encoder);
}

/* There are as many scratches as workers, so a worker always finds one; the last used comes first.
 */
struct cairn_scratch cairn_server_take_scratch(struct cairn_server *server)
{
    pthread_mutex_lock(&server->lock);
    struct cairn_scratch scratch = server->scratches[--server->scratches_free];
    pthread_mutex_unlock(&server->lock);
    return scratch;
}

void cairn_server_give_scratch(struct cairn_server *server, struct cairn_scratch scratch)
{
    pthread_mutex_lock(&server->lock);
    server->scratches[server->scratches_free++] = scratch;
    pthread_mutex_unlock(&server->lock);
}

/* getaddrinfo would take a port modulo 2^16. */
static bool is_port(const char *text)
{
    unsigned port = 0;
    for (; *text >= '0' && *text <= '9' && port <= UINT16_MAX; text++)
        port = port * 10 + (unsigned)(*text - '0');
    return *text == '\0' && port <= UINT16_MAX;
}

/* "127.0.0.1:8080", "[::1]:8080", "localhost:0" into an address. */
static int resolve(const char *listen, struct addrinfo **out, struct cairn_error *err)
{
    char host[HOST_BYTES_MAX + 1];
    const char *colon = listen ? strrchr(listen, ':') : NULL;
    size_t host_len = colon ? (size_t)(colon - listen) : 0;
    if (!colon || colon[1] == '\0' || host_len == 0 || host_len > HOST_BYTES_MAX)
        return cairn_fail(err, CAIRN_EPARAM, "listen: \"%s\" is not of the form HOST:PORT",
                          listen ? listen : "");
    if (!is_port(colon + 1))
        return cairn_fail(err, CAIRN_EPARAM, "listen: \"%s\" is not a port from 0 to 65535",
                          colon + 1);
    if (listen[0] == '[' && colon[-1] == ']') {
        listen++;
        host_len -= 2;
    }
    memcpy(host, listen, host_len);
    host[host_len] = '\0';
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    int failed = getaddrinfo(host, colon + 1, &hints, out);
    if (failed)
        return cairn_fail(err, CAIRN_EPARAM, "listen: %s: %s", host, gai_strerror(failed));
    return 0;
}

static void set_port(struct sockaddr *address, unsigned port)
{
    if (address->sa_family == AF_INET6)
        ((struct sockaddr_in6 *)(void *)address)->sin6_port = htons((uint16_t)port);
    else
        ((struct sockaddr_in *)(void *)address)->sin_port = htons((uint16_t)port);
}

static unsigned bound_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &len) != 0)
        return 0;
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)(void *)&address)->sin6_port);
    return ntohs(((struct sockaddr_in *)(void *)&address)->sin_port);
}

static int listen_on(const struct addrinfo *address, int *out, struct cairn_error *err)
{
    int on = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return cairn_fail(err, CAIRN_EIO, "listen: socket: %m");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0 ||
        bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        cairn_fail(err, errno == EADDRINUSE || errno == EACCES ? CAIRN_EPARAM : CAIRN_EIO,
                   "listen: %m");
        close(fd);
        return err ? err->code : CAIRN_EIO;
    }
    *out = fd;
    return 0;
}

/* With SO_REUSEPORT a second process could quietly share our port: refuse when someone has it. */
static int check_free(const struct addrinfo *address, struct cairn_error *err)
{
    int on = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return cairn_fail(err, CAIRN_EIO, "listen: socket: %m");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    bool taken = bind(fd, address->ai_addr, address->ai_addrlen) != 0;
    if (taken)
        cairn_fail(err, CAIRN_EPARAM, "listen: %m");
    close(fd);
    return taken ? CAIRN_EPARAM : 0;
}

/* One listening socket per loop on the same address. */
static int bind_all(struct cairn_server *server, const char *listen, struct cairn_error *err)
{
    struct addrinfo *address;
    int code = resolve(listen, &address, err);
    if (code)
        return code;
    code = check_free(address, err);
    for (unsigned i = 0; code == 0 && i < server->loops_count; i++) {
        code = listen_on(address, &server->loops[i].listen_fd, err);
        if (code == 0 && i == 0) {
            server->port = bound_port(server->loops[0].listen_fd);
            set_port(address->ai_addr, server->port);
        }
    }
    freeaddrinfo(address);
    return code;
}

static void register_hooks(h2o_pathconf_t *path)
{
    h2o_create_handler(path, sizeof(h2o_handler_t))->on_req = cairn_request_on_head;
    h2o_create_logger(path, sizeof(h2o_logger_t))->log_access = cairn_request_on_end;
}

static void configure_h2o(struct cairn_server *server)
{
    h2o_config_init(&server->config);
    server->config.server_name = h2o_iovec_init("", 0);
    server->config.http1.upgrade_to_http2 = 0;
    server->config.http1.req_timeout = NEVER_MS; /* ours are finer: connection.c */
    h2o_hostconf_t *host =
        h2o_config_register_host(&server->config, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    register_hooks(h2o_config_register_path(host, "/", 0));
    register_hooks(&host->fallback_path);
    /* Large input buffers would otherwise be files in /tmp. */
    h2o_socket_buffer_mmap_settings.threshold = SIZE_MAX;
}

static void open_scratches(struct cairn_server *server, unsigned workers)
{
    server->scratches = cairn_calloc(workers, sizeof(*server->scratches));
    for (unsigned i = 0; i < workers; i++)
        cairn_scratch_init(&server->scratches[i]);
    server->scratches_free = workers;
}

/* Threads of ours leave signals to the main thread; SIGPIPE is an error code of write. */
static int start_thread(struct cairn_loop *loop, struct cairn_error *err)
{
    sigset_t ours, before;
    sigemptyset(&ours);
    sigaddset(&ours, SIGPIPE);
    sigaddset(&ours, SIGINT);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &ours, &before);
    int failed = pthread_create(&loop->thread, NULL, cairn_loop_run, loop);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return cairn_fail(err, CAIRN_ENOMEM, "cannot start a thread: %s", strerror(failed));
    return 0;
}

static void end_loops(struct cairn_server *server, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        cairn_loop_post(&server->loops[i], &server->loops[i].close_message);
    for (unsigned i = 0; i < count; i++)
        pthread_join(server->loops[i].thread, NULL);
}

/* Start all loops and wait until each is up or has failed. */
static int start_loops(struct cairn_server *server, struct cairn_error *err)
{
    unsigned started = 0;
    int code = 0;
    for (; code == 0 && started < server->loops_count; started += code == 0)
        code = start_thread(&server->loops[started], err);
    pthread_mutex_lock(&server->lock);
    while (server->loops_ready < started)
        pthread_cond_wait(&server->changed, &server->lock);
    if (code == 0 && server->failure.code != 0)
        code = cairn_fail(err, server->failure.code, "%s", server->failure.message);
    pthread_mutex_unlock(&server->lock);
    if (code != 0)
        end_loops(server, started);
    return code;
}

static void free_server(struct cairn_server *server)
{
    for (unsigned i = 0; i < server->loops_count; i++)
        if (server->loops[i].listen_fd >= 0)
            close(server->loops[i].listen_fd);
    if (server->pool)
        cairn_pool_stop(&server->pool);
    for (unsigned i = 0; i < server->scratches_free; i++)
        cairn_scratch_release(&server->scratches[i]);
    free(server->scratches);
    if (server->config.hosts)
        h2o_config_dispose(&server->config);
    cairn_tls_free(&server->tls);
    cairn_auth_free(&server->auth);
    cairn_route_table_free(&server->routes);
    cairn_http_metrics_release(&server->http_metrics);
    if (server->own_metrics)
        cairn_metrics_free(&server->own_metrics);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    free(server->loops);
    free(server);
}

static unsigned cores(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (unsigned)count : 1;
}

static struct cairn_server *new_server(const struct cairn_server_options *options,
                                       const struct cairn_http_times *times)
{
    struct cairn_server *server = cairn_calloc(1, sizeof(*server));
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&server->changed, &clock);
    pthread_condattr_destroy(&clock);
    pthread_mutex_init(&server->lock, NULL);
    server->router = options->router;
    server->times = *times;
    server->connections_max =
        options->connections_max ? options->connections_max : CAIRN_HTTP_CONNECTIONS_DEFAULT;
    server->metrics = options->metrics;
    if (!server->metrics)
        server->metrics = server->own_metrics = cairn_metrics_new();
    cairn_http_metrics_init(&server->http_metrics, server->metrics, cairn_routes,
                            cairn_routes_count);
    server->loops_count = options->loops ? options->loops : cores();
    server->loops = cairn_calloc(server->loops_count, sizeof(*server->loops));
    for (unsigned i = 0; i < server->loops_count; i++) {
        server->loops[i].server = server;
        server->loops[i].number = i;
        server->loops[i].listen_fd = -1;
    }
    return server;
}

static int check_options(const struct cairn_server_options *options, struct cairn_error *err)
{
    if (options->loops > LOOPS_MAX)
        return cairn_fail(err, CAIRN_EPARAM, "loops: at most %u", LOOPS_MAX);
    if (options->workers > WORKERS_MAX)
        return cairn_fail(err, CAIRN_EPARAM, "workers: at most %u", WORKERS_MAX);
    if (!options->tls_certificate_file != !options->tls_key_file)
        return cairn_fail(err, CAIRN_EPARAM, "TLS needs both a certificate and a key");
    return 0;
}

int cairn_server_start_with(const struct cairn_server_options *options,
                            const struct cairn_http_times *times, struct cairn_server **out,
                            struct cairn_error *err)
{
    *out = NULL;
    int code = check_options(options, err);
    if (code)
        return code;
    struct cairn_server *server = new_server(options, times);
    unsigned workers = options->workers ? options->workers : cores();
    code = cairn_route_table_new(cairn_routes, cairn_routes_count, &server->routes, err);
    if (code == 0 && options->api_keys_file)
        code = cairn_auth_load(options->api_keys_file, &server->auth, err);
    if (code == 0 && options->tls_certificate_file)
        code =
            cairn_tls_open(options->tls_certificate_file, options->tls_key_file, &server->tls, err);
    if (code == 0)
        code = bind_all(server, options->listen, err);
    if (code == 0) {
        configure_h2o(server);
        open_scratches(server, workers);
        code = cairn_pool_start("cairn-worker", workers, CAIRN_WORK_QUEUE_MAX, &server->pool, err);
    }
    if (code == 0)
        code = start_loops(server, err);
    if (code != 0) {
        free_server(server);
        return code;
    }
    cairn_info("http", "listening on %s (port %u), %u loops, %u workers", options->listen,
               server->port, server->loops_count, workers);
    *out = server;
    return 0;
}

int cairn_server_start(const struct cairn_server_options *options, struct cairn_server **out,
                       struct cairn_error *err)
{
    static const struct cairn_http_times times = {
        .idle_ms = CAIRN_HTTP_IDLE_MS,
        .head_ms = CAIRN_HTTP_HEAD_MS,
        .stall_ms = CAIRN_HTTP_STALL_MS,
        .linger_ms = CAIRN_HTTP_LINGER_MS,
    };
    return cairn_server_start_with(options, &times, out, err);
}

unsigned cairn_server_port(const struct cairn_server *server)
{
    return server->port;
}

static void wait_until_empty(struct cairn_server *server, unsigned drain_ms)
{
    uint64_t deadline_us = cairn_time_monotonic_us() + (uint64_t)drain_ms * 1000;
    struct timespec deadline = {.tv_sec = (time_t)(deadline_us / 1000000),
                                .tv_nsec = (long)(deadline_us % 1000000) * 1000};
    int timed_out = 0;
    pthread_mutex_lock(&server->lock);
    while (server->loops_empty < server->loops_count && timed_out == 0)
        timed_out = pthread_cond_timedwait(&server->changed, &server->lock, &deadline);
    pthread_mutex_unlock(&server->lock);
}

void cairn_server_stop(struct cairn_server **server, unsigned drain_ms)
{
    if (!*server)
        return;
    for (unsigned i = 0; i < (*server)->loops_count; i++)
        cairn_loop_post(&(*server)->loops[i], &(*server)->loops[i].drain_message);
    wait_until_empty(*server, drain_ms);
    end_loops(*server, (*server)->loops_count);
    free_server(*server);
    *server = NULL;
}
