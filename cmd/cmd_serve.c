/* cairn serve: open the data directory, answer HTTP, drain on a signal.
 *
 *   opening    nothing listens; a signal ends the process at once, since nothing was promised yet
 *   serving    until SIGTERM or SIGINT
 *   draining   no new connections, requests in flight finish, views are saved; a second signal ends
 *              the process at once, which costs a replay at the next start and nothing else
 *
 * Handlers take the signals, not a thread that waits for them: libraries start threads before main,
 * whose signal masks are not ours to set. */
#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "api/server.h"
#include "base/diag.h"
#include "base/io.h"
#include "base/limits.h"
#include "base/metrics.h"
#include "base/time.h"
#include "cmd/command.h"
#include "cmd/node.h"
#include "cmd/terminal.h"

#define DRAIN_MS               30000u
#define ROUTER_WORKERS         32u /* they wait for shards in other processes */
#define FREE_BYTES_MIN_DEFAULT (UINT64_C(256) << 20)
#define SEGMENT_BYTES_MIN      4096u
#define SEGMENT_BYTES_MAX      (UINT64_C(1) << 32)

struct serve {
    const char *data, *listen, *role, *log_level, *port_file;
    const char *api_keys_file, *tls_certificate_file, *tls_key_file;
    const char *advertise, *ca_file;
    struct cairn_node_flags node_flags;
    struct cairn_node node;
    uint32_t shards, workers, loops, build_threads, copy_share;
    uint64_t free_bytes_min, segment_bytes;
    bool json;

    struct cairn_metrics *metrics;
    struct cairn_router *router;
    struct cairn_server *server;
};

/* What the signal handlers touch: they can reach nothing else. */
static struct {
    volatile sig_atomic_t serving, stopping;
    sem_t stop;
} signals;

static void on_signal(int number)
{
    if (signals.stopping)
        _exit(128 + number);
    if (!signals.serving)
        _exit(CAIRN_EXIT_OK);
    signals.stopping = 1;
    sem_post(&signals.stop);
}

static void start_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sem_init(&signals.stop, 0, 0);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* Connections and RocksDB's files need more descriptors than the usual soft limit of 1,024. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int set_log_level(const char *name)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (unsigned i = 0; i < 4; i++) {
        if (strcmp(name, names[i]) == 0) {
            cairn_diag_set_level((enum cairn_diag_level)i);
            return 0;
        }
    }
    return cairn_usage_fail("serve", "--log-level is debug, info, warn or error, not '%s'", name);
}

/* Returns 0 or the exit code. */
static int check_options(struct serve *serve)
{
    bool is_router = strcmp(serve->role, "router") == 0;
    if (!is_router && strcmp(serve->role, "shard") != 0 && strcmp(serve->role, "all") != 0)
        return cairn_usage_fail("serve", "--role is all, router or shard, not '%s'", serve->role);
    if (!is_router && serve->data == NULL)
        return cairn_usage_fail("serve", "--data DIR is missing");
    if (is_router && serve->data != NULL)
        return cairn_usage_fail("serve", "--data: a router has no shards; leave it out");
    if (serve->shards != 0 && strcmp(serve->role, "all") != 0)
        return cairn_usage_fail("serve", "--shards goes with --role all only");
    if ((serve->tls_certificate_file == NULL) != (serve->tls_key_file == NULL))
        return cairn_usage_fail("serve", "--tls-cert and --tls-key go together");
    serve->node_flags.role = serve->role;
    struct cairn_error err;
    if (cairn_node_read(&serve->node_flags, &serve->node, &err) != 0)
        return cairn_usage_fail("serve", "%s", err.message);
    return set_log_level(serve->log_level);
}

static bool is_wildcard(const char *listen)
{
    return strncmp(listen, "0.0.0.0:", 8) == 0 || strncmp(listen, "[::]:", 5) == 0;
}

static const char *scheme(const struct serve *serve)
{
    return serve->tls_key_file != NULL ? "https" : "http";
}

/* Where others reach this process, when that is known before it listens; "": not yet, or not. */
static void advertised_url(const struct serve *serve, struct cairn_buf *out)
{
    const char *colon = strrchr(serve->listen, ':');
    if (serve->advertise != NULL)
        cairn_buf_printf(out, "%s", serve->advertise);
    else if (!is_wildcard(serve->listen) && colon != NULL && atoi(colon + 1) > 0 &&
             atoi(colon + 1) <= UINT16_MAX)
        cairn_buf_printf(out, "%s://%s", scheme(serve), serve->listen);
    cairn_buf_append(out, "", 1);
}

static int open_router(struct serve *serve, struct cairn_error *err)
{
    struct cairn_buf advertise = {0};
    advertised_url(serve, &advertise);
    const struct cairn_router_options options = {
        .role = serve->node.role,
        .dir = serve->data,
        .shards = serve->shards,
        .id = serve->node.id,
        .advertise = advertise.data[0] != '\0' ? advertise.data : NULL,
        .seeds = serve->node.seeds,
        .seeds_count = serve->node.seeds_count,
        .cluster_key = serve->node.cluster_key,
        .ca_file = serve->ca_file,
        .copy_share_percent = serve->copy_share,
        .segment_bytes_max = serve->segment_bytes,
        .free_bytes_min = serve->free_bytes_min,
        .build_threads = serve->build_threads,
        .metrics = serve->metrics,
    };
    char elapsed[CAIRN_NUMBER_TEXT_BYTES];
    uint64_t started_us = cairn_time_monotonic_us();
    if (serve->data != NULL)
        cairn_info("serve", "opening %s", serve->data);
    int code = cairn_router_open(&options, &serve->router, err);
    cairn_buf_release(&advertise);
    if (code != 0)
        return code;
    cairn_info("serve", "opened %u shards in %s", cairn_router_locals_count(serve->router),
               cairn_text_elapsed(cairn_time_monotonic_us() - started_us, elapsed));
    return 0;
}

/* "127.0.0.1:0" with the bound port in place of the one asked for. */
static void server_url(const struct serve *serve, struct cairn_buf *out)
{
    const char *colon = strrchr(serve->listen, ':');
    int host_len = colon != NULL ? (int)(colon - serve->listen) : (int)strlen(serve->listen);
    cairn_buf_printf(out, "%s://%.*s:%u", scheme(serve), host_len, serve->listen,
                     cairn_server_port(serve->server));
}

static int start_server(struct serve *serve, struct cairn_error *err)
{
    const struct cairn_server_options options = {
        .listen = serve->listen,
        .loops = serve->loops,
        .workers = serve->workers == 0 && serve->node.role == CAIRN_NODE_ROUTER ? ROUTER_WORKERS
                                                                                : serve->workers,
        .api_keys_file = serve->api_keys_file,
        .tls_certificate_file = serve->tls_certificate_file,
        .tls_key_file = serve->tls_key_file,
        .router = serve->router,
        .metrics = serve->metrics,
    };
    int code = cairn_server_start(&options, &serve->server, err);
    if (code == 0 && !is_wildcard(serve->listen)) {
        struct cairn_buf url = {0};
        server_url(serve, &url);
        cairn_buf_append(&url, "", 1);
        cairn_router_set_advertise(serve->router, url.data); /* unless it has one already */
        cairn_buf_release(&url);
    }
    return code;
}

/* The file appears whole or not at all, so that a script may wait for it. */
static int write_port_file(const struct serve *serve, struct cairn_error *err)
{
    char text[16];
    if (serve->port_file == NULL)
        return 0;
    const char *slash = strrchr(serve->port_file, '/');
    struct cairn_str folder = {serve->port_file,
                               slash != NULL ? (uint32_t)(slash - serve->port_file) : 0};
    char *dir = cairn_strdup(slash == NULL     ? cairn_str_from(".")
                             : folder.len == 0 ? cairn_str_from("/")
                                               : folder);
    int len = snprintf(text, sizeof(text), "%u\n", cairn_server_port(serve->server));
    int failed = cairn_io_replace_file(
        cairn_io_posix(), dir, slash != NULL ? slash + 1 : serve->port_file, text, (size_t)len);
    free(dir);
    if (failed != 0)
        return cairn_fail(err, CAIRN_EIO, "cannot write --port-file %s: %s", serve->port_file,
                          strerror(-failed));
    return 0;
}

/* What the shards replayed into their views, from the counters that they export. */
static uint64_t replayed_records(const struct serve *serve)
{
    uint64_t records = 0;
    for (uint32_t i = 0; i < CAIRN_SHARDS_MAX; i++) {
        char labels[32];
        if (!cairn_router_has_local(serve->router, i))
            continue;
        snprintf(labels, sizeof(labels), "shard=\"s%u\"", i);
        records += cairn_counter_value(
            cairn_metrics_counter(serve->metrics, "cairn_log_replayed_records_total", labels, ""));
    }
    return records;
}

static void print_ready(const struct serve *serve)
{
    struct cairn_buf url = {0}, text = {0};
    struct cairn_json_writer writer;
    uint32_t shards = cairn_router_locals_count(serve->router);
    uint64_t replayed = replayed_records(serve);
    server_url(serve, &url);
    struct cairn_str url_text = {url.data, (uint32_t)url.len};
    if (serve->json) {
        cairn_json_writer_init(&writer, &text);
        cairn_json_begin_object(&writer);
        cairn_json_key(&writer, "url");
        cairn_json_write_str(&writer, url_text);
        cairn_json_key(&writer, "data");
        cairn_json_write_str(&writer, cairn_str_from(serve->data != NULL ? serve->data : ""));
        cairn_json_key(&writer, "shards");
        cairn_json_write_u64(&writer, shards);
        cairn_json_key(&writer, "replayed");
        cairn_json_write_u64(&writer, replayed);
        cairn_json_end_object(&writer);
        printf("%.*s\n", (int)text.len, text.data);
    } else {
        if (serve->data != NULL)
            printf("cairn %s ready at %.*s (data %s, %u shards, %llu records replayed)\n",
                   CAIRN_VERSION, CAIRN_STR_ARG(url_text), serve->data, shards,
                   (unsigned long long)replayed);
        else
            printf("cairn %s ready at %.*s (router)\n", CAIRN_VERSION, CAIRN_STR_ARG(url_text));
    }
    fflush(stdout);
    cairn_buf_release(&url);
    cairn_buf_release(&text);
}

static int run_serve(struct serve *serve)
{
    struct cairn_error err;
    int code;
    start_signals();
    raise_file_limit();
    serve->metrics = cairn_metrics_new();
    code = open_router(serve, &err);
    if (code == 0)
        code = start_server(serve, &err);
    if (code == 0) {
        signals.serving = 1;
        print_ready(serve);
        code = write_port_file(serve, &err);
    }
    if (code == 0) {
        while (sem_wait(&signals.stop) != 0)
            ;
        cairn_info("serve", "draining");
    }
    cairn_server_stop(&serve->server, DRAIN_MS);
    cairn_router_close(&serve->router);
    cairn_metrics_free(&serve->metrics);
    if (code != 0)
        return cairn_command_fail("serve", &err);
    if (serve->port_file != NULL)
        unlink(serve->port_file);
    cairn_info("serve", "stopped");
    return CAIRN_EXIT_OK;
}

int cairn_cmd_serve(int argc, char **argv)
{
    struct serve serve = {.listen = "127.0.0.1:8080",
                          .role = "all",
                          .log_level = "info",
                          .free_bytes_min = FREE_BYTES_MIN_DEFAULT,
                          .segment_bytes = CAIRN_SEGMENT_BYTES_DEFAULT};
    const struct cairn_flag flags[] = {
        CAIRN_TEXT("data", "DIR", "the data directory, made if missing", &serve.data),
        CAIRN_TEXT("listen", "HOST:PORT", "where to listen; port 0 picks one [127.0.0.1:8080]",
                   &serve.listen),
        CAIRN_COUNT("shards", "N", "shards of a new data directory [2]", &serve.shards, 1,
                    CAIRN_SHARDS_MAX),
        CAIRN_TEXT("role", "ROLE", "all: shards and routing; shard: one shard; router: none [all]",
                   &serve.role),
        CAIRN_TEXT("id", "ID", "of a shard: s3, 3, or a pod's name that ends in -3",
                   &serve.node_flags.id),
        CAIRN_TEXT("advertise", "URL", "where other processes reach this one [the listen address]",
                   &serve.advertise),
        CAIRN_TEXTS("shard", "ID=URL", "a shard that knows the map; repeat, or part by commas",
                    &serve.node_flags.shards),
        CAIRN_TEXT("shards-file", "FILE", "the same, one a line", &serve.node_flags.shards_file),
        CAIRN_TEXT("cluster-key-file", "FILE", "the admin key for calls to other processes",
                   &serve.node_flags.cluster_key_file),
        CAIRN_TEXT("ca-file", "FILE", "trust these authorities for https shards [the system's]",
                   &serve.ca_file),
        CAIRN_COUNT("copy-share", "PERCENT", "of the time that a move may spend copying [50]",
                    &serve.copy_share, 1, 100),
        CAIRN_TEXT("api-keys-file", "FILE", "keys and roles that may call [none: no keys]",
                   &serve.api_keys_file),
        CAIRN_TEXT("tls-cert", "FILE", "serve TLS with this certificate chain",
                   &serve.tls_certificate_file),
        CAIRN_TEXT("tls-key", "FILE", "and this private key", &serve.tls_key_file),
        CAIRN_COUNT("loops", "N", "event loops [one per core]", &serve.loops, 1, 256),
        CAIRN_COUNT("workers", "N", "threads for searches [one per core; of a router 32]",
                    &serve.workers, 1, 256),
        CAIRN_COUNT("build-threads", "N", "threads for index builds [1]", &serve.build_threads, 1,
                    256),
        CAIRN_BYTES("free-bytes-min", "BYTES", "refuse writes below this much free disk [256m]",
                    &serve.free_bytes_min, 0, UINT64_MAX),
        CAIRN_BYTES("segment-bytes", "BYTES", "size of a log segment [64m]", &serve.segment_bytes,
                    SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
        CAIRN_TEXT("port-file", "FILE", "write the port here once ready", &serve.port_file),
        CAIRN_TEXT("log-level", "LEVEL", "debug, info, warn or error [info]", &serve.log_level),
        CAIRN_SWITCH("json", "print the ready line as JSON", &serve.json),
    };
    const struct cairn_usage usage = {
        .command = "serve",
        .arguments = "",
        .summary = "Run the server. SIGTERM or SIGINT drains it; a second one ends it at once.",
        .examples = "  cairn serve --data ./data\n"
                    "  cairn serve --data ./data --shards 4 --listen 0.0.0.0:8080 "
                    "--api-keys-file keys.txt\n"
                    "  cairn serve --role shard --id s1 --data ./s1 --listen 10.0.0.2:8080\n"
                    "  cairn serve --role router --shard s1=http://10.0.0.2:8080 --listen "
                    "0.0.0.0:80\n"
                    "  CAIRN_DATA=./data CAIRN_LISTEN=127.0.0.1:0 cairn serve --port-file port\n",
        .flags = flags,
        .flags_count = sizeof(flags) / sizeof(flags[0]),
    };
    unsigned operands;
    int exit_code;
    if (!cairn_options_parse(&usage, argc, argv, &operands, &exit_code))
        return exit_code;
    exit_code = check_options(&serve);
    if (exit_code == 0)
        exit_code = run_serve(&serve);
    cairn_node_release(&serve.node);
    return exit_code;
}
