/* Latency and rate of small calls through the transport, against an echo in the same process that
 * does no more than a read and a write: bench_transport_echo [SECONDS] [BYTES].
 *
 * One call at a time from one thread gives the latency; calls that each start the next from their
 * end give the rate of one transport. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"
#include "router/transport.h"

#define SAMPLES_MAX  2000000u
#define IN_FLIGHT    32u
#define DEADLINE_US  UINT64_C(30000000)
#define ANSWER_BYTES (64u << 10)

static uint32_t body_len = 256;

/* Requests come whole in one read when they are small. */
static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg, on = 1;
    char *request = malloc(ANSWER_BYTES), *answer = calloc(1, ANSWER_BYTES);
    int head = snprintf(answer, ANSWER_BYTES, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n",
                        (unsigned)body_len);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    while (read(fd, request, ANSWER_BYTES) > 0)
        if (write(fd, answer, (size_t)head + body_len) < 0)
            break;
    close(fd);
    free(request);
    free(answer);
    return NULL;
}

static void *accept_all(void *arg)
{
    int listener = (int)(intptr_t)arg, fd;
    pthread_t thread;
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd);
        pthread_detach(thread);
    }
    return NULL;
}

static unsigned start_server(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    pthread_t thread;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, len) != 0 || listen(listener, 128) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &len) != 0) {
        perror("listen");
        exit(1);
    }
    pthread_create(&thread, NULL, accept_all, (void *)(intptr_t)listener);
    pthread_detach(thread);
    return ntohs(address.sin_port);
}

static int compare(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static void check(const struct cairn_call *call)
{
    if (call->error.code == 0)
        return;
    fprintf(stderr, "%s\n", call->error.message);
    exit(1);
}

static void measure_latency(struct cairn_call call, uint64_t for_us)
{
    uint32_t *samples = malloc(SAMPLES_MAX * sizeof(*samples));
    uint32_t count = 0;
    uint64_t begin_us = cairn_time_monotonic_us(), now_us = begin_us;
    while (now_us - begin_us < for_us && count < SAMPLES_MAX) {
        call.deadline_us = now_us + DEADLINE_US;
        cairn_transport_call_wait(&call);
        check(&call);
        cairn_buf_release(&call.answer);
        uint64_t ended_us = cairn_time_monotonic_us();
        samples[count++] = (uint32_t)(ended_us - now_us);
        now_us = ended_us;
    }
    qsort(samples, count, sizeof(*samples), compare);
    printf("one at a time: %u calls, first quartile %u us, median %u us, p99 %u us, %.0f/s\n",
           count, samples[count / 4], samples[count / 2], samples[count / 100 * 99],
           count * 1e6 / (double)(now_us - begin_us));
    free(samples);
}

struct load {
    atomic_bool stopping;
    atomic_uint running;
    atomic_ulong ended;
};

static void start_next(struct cairn_call *call)
{
    struct load *load = call->context;
    check(call);
    cairn_buf_release(&call->answer);
    atomic_fetch_add(&load->ended, 1);
    if (atomic_load(&load->stopping)) {
        atomic_fetch_sub(&load->running, 1);
        return;
    }
    call->deadline_us = cairn_time_monotonic_us() + DEADLINE_US;
    cairn_transport_call(call);
}

static void measure_rate(struct cairn_call like, uint64_t for_us)
{
    struct load load = {.running = IN_FLIGHT};
    struct cairn_call calls[IN_FLIGHT];
    uint64_t begin_us = cairn_time_monotonic_us();
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        calls[i] = like;
        calls[i].deadline_us = begin_us + DEADLINE_US;
        calls[i].done = start_next;
        calls[i].context = &load;
        cairn_transport_call(&calls[i]);
    }
    usleep((useconds_t)for_us);
    atomic_store(&load.stopping, true);
    while (atomic_load(&load.running) > 0)
        usleep(1000);
    printf("%u at a time: %.0f/s\n", IN_FLIGHT,
           (double)atomic_load(&load.ended) * 1e6 / (double)(cairn_time_monotonic_us() - begin_us));
}

int main(int argc, char **argv)
{
    uint64_t for_us = (argc > 1 ? strtoul(argv[1], NULL, 10) : 3) * UINT64_C(1000000);
    if (argc > 2)
        body_len = (uint32_t)strtoul(argv[2], NULL, 10);
    if (for_us == 0 || body_len > ANSWER_BYTES / 2) {
        fprintf(stderr, "usage: %s [SECONDS] [BYTES, at most %u]\n", argv[0], ANSWER_BYTES / 2);
        return 2;
    }
    char url[64];
    struct cairn_error err = {0};
    struct cairn_transport *transport;
    struct cairn_peer *peer;
    snprintf(url, sizeof(url), "http://127.0.0.1:%u", start_server());
    if (cairn_transport_start(&(struct cairn_transport_options){0}, &transport, &err) != 0 ||
        cairn_peer_open(transport, cairn_str_from(url), &peer, &err) != 0) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    char *body = calloc(1, body_len + 1);
    struct cairn_call call = {
        .peer = peer, .path = "/internal/v1/shards/s0/get", .body = {body, body_len}};
    measure_latency(call, for_us);
    measure_rate(call, for_us);
    cairn_peer_release(&peer);
    cairn_transport_stop(&transport);
    free(body);
    return 0;
}
