#include "cmd/job.h"

#include <stdio.h>
#include <time.h>

#include "base/time.h"
#include "cmd/terminal.h"

#define POLL_US UINT64_C(200000)

static double number_of(struct cairn_json object, const char *name)
{
    struct cairn_json value;
    double number;
    return cairn_json_get(object, name, &value) && cairn_json_f64(value, &number) ? number : -1;
}

static bool is_state(struct cairn_json job, const char *state)
{
    return cairn_str_eq(cairn_answer_str(job, "state"), cairn_str_from(state));
}

static unsigned percent_of(uint64_t done, uint64_t total)
{
    return total == 0 ? 0 : (unsigned)(done >= total ? 100 : (double)done * 100 / (double)total);
}

/* Append a server's text as people may see it, and end it. */
static const char *clean(struct cairn_buf *out, struct cairn_str text)
{
    cairn_buf_clear(out);
    cairn_text_clean(out, text);
    cairn_buf_append(out, "", 1);
    return out->data;
}

static void add_move(struct cairn_table *table, struct cairn_json move)
{
    char text[CAIRN_NUMBER_TEXT_BYTES];
    struct cairn_str source = cairn_answer_str(move, "source");
    struct cairn_str target = cairn_answer_str(move, "target");
    bool is_over = cairn_str_eq(cairn_answer_str(move, "step"), CAIRN_STR_LITERAL("done")) ||
                   cairn_str_eq(cairn_answer_str(move, "step"), CAIRN_STR_LITERAL("cleaning_up"));
    cairn_table_printf(table, "%.*s -> %.*s", CAIRN_STR_ARG(source), CAIRN_STR_ARG(target));
    cairn_table_cell(table, cairn_answer_str(move, "step"));
    cairn_table_printf(table, "%u%%",
                       is_over ? 100
                               : percent_of(cairn_answer_u64(move, "reached"),
                                            cairn_answer_u64(move, "end_offset")));
    cairn_table_printf(table, "%s", cairn_text_count(cairn_answer_u64(move, "records"), text));
    cairn_table_printf(table, "%s", cairn_text_bytes(cairn_answer_u64(move, "bytes"), text));
    cairn_table_printf(table, "%.1f ms", (double)cairn_answer_u64(move, "held_us") / 1000);
    cairn_table_printf(table, "%llu", (unsigned long long)cairn_answer_u64(move, "tries"));
}

void cairn_job_print(struct cairn_json job)
{
    static const char *const headings[] = {"move",  "step",        "read", "records",
                                           "bytes", "writes held", "tries"};
    char records[CAIRN_NUMBER_TEXT_BYTES], bytes[CAIRN_NUMBER_TEXT_BYTES],
        eta[CAIRN_NUMBER_TEXT_BYTES];
    struct cairn_buf text = {0};
    struct cairn_table table;
    struct cairn_json move;
    double eta_s = number_of(job, "eta_s");
    printf("%s  ", clean(&text, cairn_answer_str(job, "id")));
    printf("%s  %u%%  %s records  %s", clean(&text, cairn_answer_str(job, "state")),
           is_state(job, "succeeded")
               ? 100
               : percent_of(cairn_answer_u64(job, "done"), cairn_answer_u64(job, "total")),
           cairn_text_count(cairn_answer_u64(job, "records"), records),
           cairn_text_bytes(cairn_answer_u64(job, "bytes"), bytes));
    if (eta_s > 0)
        printf("  %s left", cairn_text_elapsed((uint64_t)(eta_s * 1e6), eta));
    putchar('\n');
    if (cairn_answer_str(job, "error").len > 0)
        printf("%s\n", clean(&text, cairn_answer_str(job, "error")));
    struct cairn_json_iter moves = cairn_answer_array(job, "moves");
    cairn_table_begin(&table, headings, 7, 0x7C);
    unsigned count = 0;
    for (; cairn_json_element(&moves, &move); count++)
        add_move(&table, move);
    if (count > 0) {
        putchar('\n');
        cairn_table_end(&table, stdout);
    } else {
        cairn_buf_release(&table.text);
    }
    cairn_buf_release(&text);
}

void cairn_jobs_print(struct cairn_json_iter jobs)
{
    static const char *const headings[] = {"job", "state", "read", "records", "bytes", "error"};
    char text[CAIRN_NUMBER_TEXT_BYTES];
    struct cairn_table table;
    struct cairn_json job;
    unsigned count = 0;
    cairn_table_begin(&table, headings, 6, 0x1C);
    for (; cairn_json_element(&jobs, &job); count++) {
        cairn_table_cell(&table, cairn_answer_str(job, "id"));
        cairn_table_cell(&table, cairn_answer_str(job, "state"));
        cairn_table_printf(&table, "%u%%",
                           is_state(job, "succeeded") ? 100
                                                      : percent_of(cairn_answer_u64(job, "done"),
                                                                   cairn_answer_u64(job, "total")));
        cairn_table_printf(&table, "%s", cairn_text_count(cairn_answer_u64(job, "records"), text));
        cairn_table_printf(&table, "%s", cairn_text_bytes(cairn_answer_u64(job, "bytes"), text));
        cairn_table_cell(&table, cairn_answer_str(job, "error"));
    }
    if (count > 0) {
        cairn_table_end(&table, stdout);
    } else {
        cairn_buf_release(&table.text);
        printf("There are no jobs.\n");
    }
}

static void sleep_us(uint64_t pause_us)
{
    struct timespec left = {.tv_sec = (time_t)(pause_us / 1000000),
                            .tv_nsec = (long)(pause_us % 1000000) * 1000};
    while (nanosleep(&left, &left) != 0)
        continue;
}

struct waiting {
    struct cairn_remote *remote;
    const char *id;
    struct cairn_buf path;
    struct cairn_progress progress;
    struct cairn_buf shown, now; /* what a line said last, and would say */
};

/* The state and the steps of all moves, in one line. */
static void describe(struct waiting *waiting, struct cairn_json job)
{
    struct cairn_json_iter moves = cairn_answer_array(job, "moves");
    struct cairn_json move;
    struct cairn_buf *now = &waiting->now;
    cairn_buf_clear(now);
    cairn_text_clean(now, cairn_answer_str(job, "state"));
    while (cairn_json_element(&moves, &move)) {
        struct cairn_str step = cairn_answer_str(move, "step");
        if (cairn_str_eq(step, CAIRN_STR_LITERAL("waiting")) ||
            cairn_str_eq(step, CAIRN_STR_LITERAL("cleaning_up")) ||
            cairn_str_eq(step, CAIRN_STR_LITERAL("done")))
            continue;
        cairn_buf_append(now, "  ", 2);
        cairn_text_clean(now, cairn_answer_str(move, "source"));
        cairn_buf_append(now, " -> ", 4);
        cairn_text_clean(now, cairn_answer_str(move, "target"));
        cairn_buf_append(now, " ", 1);
        cairn_text_clean(now, step);
    }
    if (cairn_answer_str(job, "error").len > 0) {
        cairn_buf_append(now, ": ", 2);
        cairn_text_clean(now, cairn_answer_str(job, "error"));
    }
}

static void show(struct waiting *waiting, struct cairn_json job)
{
    struct cairn_buf *now = &waiting->now, *shown = &waiting->shown;
    if (waiting->progress.on_terminal) {
        waiting->progress.total_bytes = cairn_answer_u64(job, "total");
        cairn_progress_update(&waiting->progress, cairn_answer_u64(job, "done"),
                              cairn_answer_u64(job, "records"), 0);
        return;
    }
    describe(waiting, job);
    if (waiting->remote->json || (now->len == shown->len &&
                                  (now->len == 0 || memcmp(now->data, shown->data, now->len) == 0)))
        return;
    cairn_buf_clear(shown);
    cairn_buf_append(shown, now->data, now->len);
    fprintf(stderr, "%s: %.*s\n", waiting->id, (int)now->len, now->data);
}

/* Whether the server may only be away for a while. */
static bool may_return(int code)
{
    return code == CAIRN_EUNAVAILABLE || code == CAIRN_ETIMEOUT || code == CAIRN_ESHUTDOWN ||
           code == CAIRN_EOVERLOADED || code == CAIRN_EIO;
}

/* One answer about the job, *ended when it is the last. Returns 0 or the exit code. */
static int poll_job(struct waiting *waiting, struct cairn_json *job, bool *ended)
{
    struct cairn_remote *remote = waiting->remote;
    uint64_t give_up_us = cairn_time_monotonic_us() + (uint64_t)remote->options.timeout_s * 1000000;
    struct cairn_error err;
    while (cairn_client_call(remote->client, "GET", waiting->path.data, (struct cairn_str){"", 0},
                             &remote->answer, &err) != 0) {
        if (!may_return(err.code) || cairn_time_monotonic_us() >= give_up_us) {
            cairn_progress_clear(&waiting->progress);
            return cairn_remote_fail(remote, &err);
        }
        sleep_us(POLL_US);
    }
    const struct cairn_buf *body = &remote->answer.body;
    if (cairn_json_parse(remote->parser, (struct cairn_str){body->data, (uint32_t)body->len}, job,
                         &err) != 0) {
        cairn_error_prefix(&err, "the server's answer is no JSON");
        return cairn_command_fail(remote->command, &err);
    }
    *ended = is_state(*job, "succeeded") || is_state(*job, "failed") || is_state(*job, "cancelled");
    return 0;
}

int cairn_job_wait(struct cairn_remote *remote, const char *id)
{
    struct waiting waiting = {.remote = remote, .id = id};
    struct cairn_json job;
    bool ended = false;
    int exit_code = 0;
    cairn_buf_printf(&waiting.path, "/v1/jobs");
    cairn_path_add(&waiting.path, cairn_str_from(id));
    cairn_buf_append(&waiting.path, "", 1);
    cairn_progress_begin(&waiting.progress, "records", 0);
    for (;;) {
        exit_code = poll_job(&waiting, &job, &ended);
        if (exit_code != 0)
            break;
        show(&waiting, job);
        if (ended)
            break;
        sleep_us(POLL_US);
    }
    cairn_progress_clear(&waiting.progress);
    if (exit_code == 0) {
        if (remote->json)
            cairn_remote_print_json(remote);
        else
            cairn_job_print(job);
        exit_code = is_state(job, "succeeded") ? CAIRN_EXIT_OK : CAIRN_EXIT_FAILED;
    }
    cairn_buf_release(&waiting.path);
    cairn_buf_release(&waiting.shown);
    cairn_buf_release(&waiting.now);
    return exit_code;
}
