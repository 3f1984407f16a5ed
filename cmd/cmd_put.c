/* cairn put: stream NDJSON from a file or standard input to a collection.
 *
 * The body is read while it is sent and the answer is read while the body is still going out, so
 * memory does not grow with the file. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/time.h"
#include "base/wire.h"
#include "cmd/command.h"
#include "cmd/terminal.h"

#define ERRORS_SHOWN 20u
#define STATUSES     4u

struct put {
    struct cairn_remote remote;
    const char *mode;
    const char *collection, *file;
    int fd;
    int read_errno;      /* why reading the input stopped; 0: it did not */
    uint64_t bytes_read; /* of the input */
    uint64_t lines;      /* of the answer */
    uint64_t errors;
    uint64_t by_status[STATUSES];
    struct cairn_progress progress;
};

static ssize_t on_read(void *context, char *bytes, size_t len)
{
    struct put *put = context;
    ssize_t got;
    do
        got = read(put->fd, bytes, len);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        put->read_errno = errno;
    else
        put->bytes_read += (uint64_t)got;
    return got;
}

/* {"key": …, "line": …, "error": {"code", "detail"}} */
static void show_error_line(struct put *put, struct cairn_json line, struct cairn_json problem)
{
    put->errors++;
    if (put->errors > ERRORS_SHOWN)
        return;
    struct cairn_buf text = {0};
    uint64_t number = cairn_answer_u64(line, "line");
    cairn_progress_clear(&put->progress);
    cairn_text_clean(&text, cairn_answer_str(problem, "detail"));
    struct cairn_str code = cairn_answer_str(problem, "code");
    fprintf(stderr, "%s: line %" PRIu64 ": %.*s: %.*s\n", put->file,
            number != 0 ? number : put->lines, CAIRN_STR_ARG(code), (int)text.len,
            text.len > 0 ? text.data : "");
    cairn_buf_release(&text);
    if (put->errors == ERRORS_SHOWN)
        fprintf(stderr, "%s: further errors are counted, not shown\n", put->file);
}

static void on_line(void *context, struct cairn_str text)
{
    struct put *put = context;
    struct cairn_json line, problem;
    struct cairn_error err;
    put->lines++;
    if (cairn_json_parse(put->remote.parser, text, &line, &err) != 0) {
        put->errors++;
        return;
    }
    if (cairn_json_get(line, "error", &problem)) {
        show_error_line(put, line, problem);
    } else {
        struct cairn_str status = cairn_answer_str(line, "status");
        for (unsigned i = 0; i < STATUSES; i++) {
            const char *name = cairn_write_status_name((enum cairn_write_status)i);
            put->by_status[i] += cairn_str_eq(status, cairn_str_from(name));
        }
    }
    cairn_progress_update(&put->progress, put->bytes_read, put->lines, put->errors);
}

static void print_summary_json(const struct put *put, uint64_t elapsed_us)
{
    struct cairn_buf text = {0};
    struct cairn_json_writer writer;
    cairn_json_writer_init(&writer, &text);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "rows");
    cairn_json_write_u64(&writer, put->lines);
    for (unsigned i = 0; i < STATUSES; i++) {
        cairn_json_key(&writer, cairn_write_status_name((enum cairn_write_status)i));
        cairn_json_write_u64(&writer, put->by_status[i]);
    }
    cairn_json_key(&writer, "errors");
    cairn_json_write_u64(&writer, put->errors);
    cairn_json_key(&writer, "bytes");
    cairn_json_write_u64(&writer, put->bytes_read);
    cairn_json_key(&writer, "elapsed_s");
    cairn_json_write_f64(&writer, (double)elapsed_us / 1e6);
    cairn_json_end_object(&writer);
    printf("%.*s\n", (int)text.len, text.data);
    cairn_buf_release(&text);
}

static void print_summary(const struct put *put, uint64_t elapsed_us)
{
    char rows[CAIRN_NUMBER_TEXT_BYTES], rate[CAIRN_NUMBER_TEXT_BYTES],
        elapsed[CAIRN_NUMBER_TEXT_BYTES], number[CAIRN_NUMBER_TEXT_BYTES];
    double seconds = (double)elapsed_us / 1e6;
    uint64_t per_second = seconds > 0 ? (uint64_t)((double)put->lines / seconds) : 0;
    printf("%s rows in %s (%s rows/s)", cairn_text_count(put->lines, rows),
           cairn_text_elapsed(elapsed_us, elapsed), cairn_text_count(per_second, rate));
    for (unsigned i = 0; i < STATUSES; i++) {
        if (put->by_status[i] > 0)
            printf(", %s %s", cairn_text_count(put->by_status[i], number),
                   cairn_write_status_name((enum cairn_write_status)i));
    }
    if (put->errors > 0)
        printf(", %s errors", cairn_text_count(put->errors, number));
    putchar('\n');
}

/* Returns the exit code. */
static int upload(struct put *put)
{
    struct cairn_buf path = {0};
    struct cairn_error err;
    struct stat info;
    const struct cairn_upload body = {.read = on_read, .line = on_line, .context = put};
    uint64_t started_us = cairn_time_monotonic_us();
    bool has_size = fstat(put->fd, &info) == 0 && S_ISREG(info.st_mode);

    cairn_collection_path(&path, put->collection, "/entities?mode=");
    path.len--; /* over the NUL */
    cairn_buf_append(&path, put->mode, strlen(put->mode) + 1);
    cairn_progress_begin(&put->progress, "rows", has_size ? (uint64_t)info.st_size : 0);
    int code = cairn_client_upload(put->remote.client, path.data, &body, &put->remote.answer, &err);
    cairn_progress_clear(&put->progress);
    cairn_buf_release(&path);

    if (put->read_errno != 0)
        code =
            cairn_fail(&err, CAIRN_EIO, "cannot read %s: %s", put->file, strerror(put->read_errno));
    uint64_t elapsed_us = cairn_time_monotonic_us() - started_us;
    if (code == 0 || put->lines > 0) {
        if (put->remote.json)
            print_summary_json(put, elapsed_us);
        else
            print_summary(put, elapsed_us);
    }
    if (code != 0)
        return cairn_remote_fail(&put->remote, &err);
    return put->errors > 0 ? CAIRN_EXIT_FAILED : CAIRN_EXIT_OK;
}

static int open_input(struct put *put)
{
    struct cairn_error err;
    put->fd = STDIN_FILENO;
    if (strcmp(put->file, "-") == 0) {
        put->file = "standard input";
        return 0;
    }
    put->fd = open(put->file, O_RDONLY | O_CLOEXEC);
    if (put->fd >= 0)
        return 0;
    cairn_fail(&err, CAIRN_EIO, "cannot open %s: %s", put->file, strerror(errno));
    return cairn_command_fail("put", &err);
}

int cairn_cmd_put(int argc, char **argv)
{
    struct put put = {.remote = {.command = "put", CAIRN_REMOTE_DEFAULTS}, .mode = "patch"};
    const struct cairn_flag flags[] = {
        CAIRN_TEXT("mode", "patch|replace", "set the given features, or replace the entity [patch]",
                   &put.mode),
        CAIRN_REMOTE_FLAGS(&put.remote),
    };
    const struct cairn_usage usage = {
        .command = "put",
        .arguments = "COLLECTION [FILE|-]",
        .summary = "Load entities, one JSON object a line, from FILE or standard input.\n"
                   "Every line is durable once it is counted. A bad line is reported and the rest\n"
                   "goes on; the exit code is then 1.",
        .examples =
            "  cairn put words words.ndjson\n"
            "  gzip -dc words.ndjson.gz | cairn put words -\n"
            "  echo '{\"key\":\"u1\",\"features\":{\"country\":\"DE\"}}' | cairn put users\n",
        .flags = flags,
        .flags_count = sizeof(flags) / sizeof(flags[0]),
        .operands_min = 1,
        .operands_max = 2,
    };
    unsigned operands;
    int exit_code;
    if (!cairn_options_parse(&usage, argc, argv, &operands, &exit_code))
        return exit_code;
    if (strcmp(put.mode, "patch") != 0 && strcmp(put.mode, "replace") != 0)
        return cairn_usage_fail("put", "--mode is patch or replace, not '%s'", put.mode);
    put.collection = argv[0];
    put.file = operands > 1 ? argv[1] : "-";
    exit_code = open_input(&put);
    if (exit_code != 0)
        return exit_code;
    exit_code = cairn_remote_open(&put.remote);
    if (exit_code == 0)
        exit_code = upload(&put);
    cairn_remote_close(&put.remote);
    if (put.fd != STDIN_FILENO)
        close(put.fd);
    return exit_code;
}
