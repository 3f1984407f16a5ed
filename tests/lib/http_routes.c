#include "tests/lib/http_routes.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/time.h"

struct test_counters test_counters;

static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_changed = PTHREAD_COND_INITIALIZER;
static bool gate_is_open = true;

static void set_gate(bool open)
{
    pthread_mutex_lock(&gate_lock);
    gate_is_open = open;
    pthread_cond_broadcast(&gate_changed);
    pthread_mutex_unlock(&gate_lock);
}

void test_gate_close(void)
{
    set_gate(false);
}

void test_gate_open(void)
{
    set_gate(true);
}

static void wait_at_gate(void)
{
    atomic_fetch_add(&test_counters.gate_waits, 1);
    pthread_mutex_lock(&gate_lock);
    while (!gate_is_open)
        pthread_cond_wait(&gate_changed, &gate_lock);
    pthread_mutex_unlock(&gate_lock);
}

/* A thread that runs one function and is forgotten. */
static void in_thread(void *(*run)(void *), void *arg)
{
    pthread_t thread;
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &detached, run, arg) != 0)
        abort();
    pthread_attr_destroy(&detached);
}

static void write_member(struct cairn_json_writer *writer, const char *name, struct cairn_str value)
{
    cairn_json_key(writer, name);
    cairn_json_write_str(writer, value);
}

static void describe(struct cairn_exchange *exchange)
{
    struct cairn_json_writer writer;
    struct cairn_str param;
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    write_member(&writer, "method", exchange->method);
    write_member(&writer, "path", exchange->path);
    write_member(&writer, "query", exchange->query);
    write_member(&writer, "action", exchange->action);
    cairn_json_key(&writer, "segments");
    cairn_json_begin_array(&writer);
    for (unsigned i = 0; i < exchange->segments_count; i++)
        cairn_json_write_str(&writer, exchange->segments[i]);
    cairn_json_end_array(&writer);
    if (cairn_exchange_param(exchange, "q", &param))
        write_member(&writer, "q", param);
    cairn_json_key(&writer, "media");
    cairn_json_write_i64(&writer, exchange->media);
    cairn_json_key(&writer, "flatbuffers");
    cairn_json_write_bool(&writer, exchange->accepts_flatbuffers);
    cairn_json_key(&writer, "timeout_ms");
    cairn_json_write_u64(&writer, (exchange->deadline_us - exchange->core->begin_us) / 1000);
    cairn_json_key(&writer, "body_bytes");
    cairn_json_write_u64(&writer, exchange->body.len);
    cairn_exchange_end_object(exchange, &writer);
    exchange->has_contract = exchange->wants_contract;
    if (exchange->wants_contract) {
        exchange->contract.position.epoch = 3;
        cairn_position_touch(&exchange->contract.position, 1, 42);
    }
}

static void handle_describe(struct cairn_exchange *exchange)
{
    struct cairn_error err;
    static const char *const known[] = {"q", NULL};
    if (cairn_exchange_check_params(exchange, known, &err) != 0) {
        cairn_exchange_fail(exchange, &err);
        return;
    }
    describe(exchange);
    cairn_exchange_reply(exchange);
}

static void handle_body(struct cairn_exchange *exchange)
{
    cairn_buf_append(&exchange->out, exchange->body.ptr, exchange->body.len);
    cairn_exchange_reply(exchange);
}

static void handle_big(struct cairn_exchange *exchange)
{
    struct cairn_str bytes;
    size_t count = 0;
    if (cairn_exchange_param(exchange, "bytes", &bytes))
        for (uint32_t i = 0; i < bytes.len; i++)
            count = count * 10 + (size_t)(bytes.ptr[i] - '0');
    memset(cairn_buf_reserve(&exchange->out, count + 1), 'x', count);
    exchange->out.len = count;
    cairn_exchange_reply(exchange);
}

static void handle_gate(struct cairn_exchange *exchange)
{
    wait_at_gate();
    cairn_buf_append(&exchange->out, "{}", 2);
    cairn_exchange_reply(exchange);
}

static void after_park(struct cairn_exchange *exchange)
{
    cairn_buf_printf(&exchange->out, "{\"on_loop\":%d}",
                     pthread_equal(pthread_self(), exchange->core->loop->self) != 0);
    cairn_exchange_reply(exchange);
}

static void *resume_later(void *arg)
{
    wait_at_gate();
    cairn_exchange_resume(arg, after_park);
    return NULL;
}

static void handle_park(struct cairn_exchange *exchange)
{
    in_thread(resume_later, exchange);
}

static void handle_json(struct cairn_exchange *exchange)
{
    struct cairn_json root;
    struct cairn_error err;
    if (cairn_exchange_json(exchange, &root, &err) != 0) {
        cairn_exchange_fail(exchange, &err);
        return;
    }
    cairn_json_minify(root, &exchange->out);
    cairn_exchange_reply(exchange);
}

static void handle_fail(struct cairn_exchange *exchange)
{
    struct cairn_error err;
    cairn_fail(&err, CAIRN_EOVERLOADED, "try later");
    cairn_exchange_fail(exchange, &err);
}

static void raise_max(atomic_uint *max, unsigned value)
{
    unsigned seen = atomic_load(max);
    while (seen < value && !atomic_compare_exchange_weak(max, &seen, value))
        ;
}

static void finish_block(struct cairn_block *block)
{
    uint64_t number = block->first_line;
    const char *at = block->handler_state;
    const char *end = at ? at + strlen(at) : NULL;
    atomic_fetch_sub(&test_counters.in_flight, 1);
    atomic_fetch_add(&test_counters.blocks_finished, 1);
    if (block->error.code != 0) {
        cairn_buf_printf(&block->out, "{\"line\":%llu,\"code\":\"%s\"}\n",
                         (unsigned long long)number, cairn_code_word(block->error.code));
        return;
    }
    for (; at < end; number++) {
        const char *newline = strchr(at, '\n');
        cairn_buf_printf(&block->out, "{\"line\":%llu,\"bytes\":%zu}\n", (unsigned long long)number,
                         (size_t)(newline - at));
        at = newline + 1;
    }
}

static void *block_later(void *arg)
{
    struct cairn_block *block = arg;
    struct timespec pause = {.tv_nsec = (long)(block->first_line % 3) * 1000000};
    nanosleep(&pause, NULL); /* so that blocks end out of order */
    cairn_block_done(block);
    return NULL;
}

static void *block_after_gate(void *arg)
{
    wait_at_gate();
    cairn_block_done(arg);
    return NULL;
}

static void stream_block(struct cairn_block *block)
{
    char *copy = cairn_arena_alloc(&block->arena, block->text.len + 1);
    if (block->text.len)
        memcpy(copy, block->text.ptr, block->text.len);
    copy[block->text.len] = '\0';
    block->handler_state = copy;
    block->finish = finish_block;
    atomic_fetch_add(&test_counters.blocks_begun, 1);
    raise_max(&test_counters.in_flight_max, atomic_fetch_add(&test_counters.in_flight, 1) + 1);
    size_t seen = atomic_load(&test_counters.block_bytes_max);
    if (block->text.len > seen)
        atomic_store(&test_counters.block_bytes_max, block->text.len);
    if (atomic_fetch_add(&test_counters.blocks_running, 1) != 0)
        atomic_fetch_add(&test_counters.blocks_overlaps, 1);
    struct cairn_str query = block->exchange->query;
    bool later = query.len && memmem(query.ptr, query.len, "later", 5);
    bool gate = query.len && memmem(query.ptr, query.len, "gate", 4);
    atomic_fetch_sub(&test_counters.blocks_running, 1);
    if (later)
        in_thread(block_later, block);
    else if (gate)
        in_thread(block_after_gate, block);
    else
        cairn_block_done(block);
}

static int stream_begin(struct cairn_exchange *exchange, struct cairn_error *err)
{
    struct cairn_str query = exchange->query;
    if (query.len && memmem(query.ptr, query.len, "refuse", 6))
        return cairn_fail(err, CAIRN_ENOCOLLECTION, "no such collection");
    return 0;
}

const struct cairn_route cairn_routes[] = {
    {"GET", "/echo", "echo", CAIRN_ROLE_NONE, CAIRN_ON_LOOP, handle_describe, NULL, NULL},
    {"POST", "/echo", "echo_body", CAIRN_ROLE_NONE, CAIRN_ON_LOOP, handle_body, NULL, NULL},
    {"POST", "/work", "work", CAIRN_ROLE_NONE, CAIRN_ON_WORKER, handle_body, NULL, NULL},
    {"GET", "/big", "big", CAIRN_ROLE_NONE, CAIRN_ON_LOOP, handle_big, NULL, NULL},
    {"GET", "/gate", "gate", CAIRN_ROLE_NONE, CAIRN_ON_WORKER, handle_gate, NULL, NULL},
    {"POST", "/gate", "gate_body", CAIRN_ROLE_NONE, CAIRN_ON_WORKER, handle_gate, NULL, NULL},
    {"GET", "/park", "park", CAIRN_ROLE_NONE, CAIRN_ON_LOOP, handle_park, NULL, NULL},
    {"POST", "/json", "json", CAIRN_ROLE_NONE, CAIRN_ON_LOOP, handle_json, NULL, NULL},
    {"POST", "/fail", "fail", CAIRN_ROLE_NONE, CAIRN_ON_LOOP, handle_fail, NULL, NULL},
    {"GET", "/v1/collections/{}/things/{}", "thing", CAIRN_ROLE_READ, CAIRN_ON_LOOP,
     handle_describe, NULL, NULL},
    {"DELETE", "/v1/collections/{}/things/{}", "thing_delete", CAIRN_ROLE_WRITE, CAIRN_ON_LOOP,
     handle_describe, NULL, NULL},
    {"POST", "/v1/collections/{}/things:act", "act", CAIRN_ROLE_WRITE, CAIRN_ON_LOOP,
     handle_describe, NULL, NULL},
    {"POST", "/v1/collections/{}/{}:rebuild", "rebuild", CAIRN_ROLE_ADMIN, CAIRN_ON_LOOP,
     handle_describe, NULL, NULL},
    {"GET", "/v1/all", "all", CAIRN_ROLE_READ, CAIRN_ON_LOOP, handle_describe, NULL, NULL},
    {"POST", "/stream", "stream", CAIRN_ROLE_NONE, CAIRN_ON_WORKER, handle_body, stream_begin,
     stream_block},
};
const unsigned cairn_routes_count = sizeof(cairn_routes) / sizeof(cairn_routes[0]);

struct cairn_server *test_server_start(const struct cairn_server_options *options,
                                       const struct cairn_http_times *times)
{
    static const struct cairn_http_times patient = {
        .idle_ms = 60000, .head_ms = 20000, .stall_ms = 20000, .linger_ms = 1000};
    struct cairn_server_options mine = {.loops = 1, .workers = 2};
    struct cairn_server *server = NULL;
    struct cairn_error err = {0};
    if (options)
        mine = *options;
    mine.listen = "127.0.0.1:0";
    if (cairn_server_start_with(&mine, times ? times : &patient, &server, &err) != 0) {
        fprintf(stderr, "server: %s\n", err.message);
        abort();
    }
    return server;
}

uint64_t test_metric(struct cairn_server *server, const char *name)
{
    struct cairn_buf text = {0};
    char needle[256];
    cairn_buf_append(&text, "\n", 1);
    cairn_metrics_write(server->metrics, &text);
    cairn_buf_append(&text, "", 1);
    snprintf(needle, sizeof(needle), "\n%s ", name);
    const char *line = strstr(text.data, needle);
    uint64_t value = line ? strtoull(line + strlen(needle), NULL, 10) : 0;
    cairn_buf_release(&text);
    return value;
}

void test_wait_until(bool (*reached)(void *arg), void *arg)
{
    uint64_t deadline_us = cairn_time_monotonic_us() + 10000000;
    while (!reached(arg)) {
        if (cairn_time_monotonic_us() > deadline_us) {
            fprintf(stderr, "a condition was not reached in time\n");
            abort();
        }
        struct timespec pause = {.tv_nsec = 1000000};
        nanosleep(&pause, NULL);
    }
}

static bool is_idle(void *arg)
{
    struct cairn_server *server = arg;
    return atomic_load(&server->connections) == 0 &&
           test_metric(server, "cairn_http_requests_in_flight") == 0;
}

void test_server_wait_idle(struct cairn_server *server)
{
    test_wait_until(is_idle, server);
}

struct wanted {
    struct cairn_server *server;
    unsigned count;
};

static bool has_requests(void *arg)
{
    struct wanted *wanted = arg;
    return test_metric(wanted->server, "cairn_http_requests_in_flight") == wanted->count;
}

void test_server_wait_requests(struct cairn_server *server, unsigned count)
{
    test_wait_until(has_requests, &(struct wanted){server, count});
}
