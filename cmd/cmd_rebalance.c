/* cairn rebalance: change which shards there are and how much each has; watch the keys move. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/shardmap.h"
#include "cmd/job.h"

struct rebalance {
    struct cairn_remote remote;
    const char *weight; /* --weight */
    bool wait, only_add, only_drain;
    struct cairn_buf path, body;
};

/* Returns 0 or the exit code. */
static int read_weight(const char *text, double *out)
{
    char *end;
    *out = strtod(text, &end);
    if (end == text || *end != '\0' || !(*out > 0) || *out > 1000)
        return cairn_usage_fail("rebalance",
                                "a weight is a number above 0 and at most 1000, not "
                                "'%s'",
                                text);
    return 0;
}

static int read_id(const char *text, size_t len, uint32_t *out)
{
    struct cairn_error err;
    if (len > 64 || cairn_shard_id_parse((struct cairn_str){text, (uint32_t)len}, out, &err) != 0)
        return cairn_usage_fail("rebalance", "a shard is s0, s1, ..., not '%.*s'",
                                (int)(len < 64 ? len : 64), text);
    return 0;
}

/* Write {"id", "url", "weight"} of "ID=URL", "ID" or, with a weight, both. */
static int write_shard(struct cairn_json_writer *writer, const char *text, const char *weight)
{
    const char *mark = strchr(text, '=');
    double number = 0;
    uint32_t id;
    int exit_code = read_id(text, mark != NULL ? (size_t)(mark - text) : strlen(text), &id);
    if (exit_code == 0 && weight != NULL)
        exit_code = read_weight(weight, &number);
    if (exit_code != 0)
        return exit_code;
    cairn_json_begin_object(writer);
    cairn_json_key(writer, "id");
    cairn_json_write_u64(writer, id);
    if (mark != NULL) {
        cairn_json_key(writer, "url");
        cairn_json_write_str(writer, cairn_str_from(mark + 1));
    }
    if (weight != NULL) {
        cairn_json_key(writer, "weight");
        cairn_json_write_f64(writer, number);
    }
    cairn_json_end_object(writer);
    return 0;
}

static void set_path(struct rebalance *rebalance, const char *path)
{
    cairn_buf_clear(&rebalance->path);
    cairn_buf_append(&rebalance->path, path, strlen(path) + 1);
}

/* Send the change that path and body are, and follow what comes of it. */
static int send_change(struct rebalance *rebalance, const char *method)
{
    struct cairn_remote *remote = &rebalance->remote;
    struct cairn_json root;
    int exit_code = cairn_remote_open(remote);
    if (exit_code == 0)
        exit_code = cairn_remote_call(remote, method, &rebalance->path,
                                      rebalance->body.len > 0 ? &rebalance->body : NULL, &root);
    if (exit_code != 0)
        return exit_code;
    struct cairn_str job = cairn_answer_str(root, "job");
    if (job.len > 0 && rebalance->wait) {
        char *id = cairn_strdup(job);
        exit_code = cairn_job_wait(remote, id);
        free(id);
    } else if (remote->json) {
        cairn_remote_print_json(remote);
    } else if (job.len > 0) {
        printf("%.*s has started; `cairn rebalance` shows how far it is\n", CAIRN_STR_ARG(job));
    } else {
        printf("done; there was nothing to move\n");
    }
    return exit_code;
}

static int run_status(struct rebalance *rebalance, unsigned count, char **arguments)
{
    struct cairn_remote *remote = &rebalance->remote;
    struct cairn_json root, job;
    (void)arguments;
    if (count > 0)
        return cairn_usage_fail("rebalance", "status takes no arguments");
    set_path(rebalance, "/v1/cluster/rebalance");
    int exit_code = cairn_remote_open(remote);
    if (exit_code == 0)
        exit_code = cairn_remote_call(remote, "GET", &rebalance->path, NULL, &root);
    if (exit_code != 0)
        return exit_code;
    bool has_job = cairn_json_get(root, "job", &job) && cairn_json_kind(job) == CAIRN_JSON_OBJECT;
    if (has_job && rebalance->wait) {
        char *id = cairn_strdup(cairn_answer_str(job, "id"));
        exit_code = cairn_job_wait(remote, id);
        free(id);
    } else if (remote->json) {
        cairn_remote_print_json(remote);
    } else if (has_job) {
        cairn_job_print(job);
    } else {
        printf("No keys have been moved.\n");
    }
    return exit_code;
}

static int run_add(struct rebalance *rebalance, unsigned count, char **arguments)
{
    struct cairn_json_writer writer;
    if (count != 1 || strchr(arguments[0], '=') == NULL)
        return cairn_usage_fail("rebalance", "add takes one ID=URL, as in s2=http://db2:8080");
    cairn_json_writer_init(&writer, &rebalance->body);
    int exit_code = write_shard(&writer, arguments[0], rebalance->weight);
    set_path(rebalance, "/v1/cluster/shards");
    return exit_code != 0 ? exit_code : send_change(rebalance, "POST");
}

static int run_weight(struct rebalance *rebalance, unsigned count, char **arguments)
{
    struct cairn_json_writer writer;
    if (count != 2 || strchr(arguments[0], '=') != NULL)
        return cairn_usage_fail("rebalance", "weight takes ID WEIGHT, as in s2 1.5");
    cairn_json_writer_init(&writer, &rebalance->body);
    int exit_code = write_shard(&writer, arguments[0], arguments[1]);
    set_path(rebalance, "/v1/cluster/shards");
    return exit_code != 0 ? exit_code : send_change(rebalance, "POST");
}

static int run_remove(struct rebalance *rebalance, unsigned count, char **arguments)
{
    uint32_t id;
    if (count != 1)
        return cairn_usage_fail("rebalance", "remove takes one ID");
    int exit_code = read_id(arguments[0], strlen(arguments[0]), &id);
    if (exit_code != 0)
        return exit_code;
    cairn_buf_printf(&rebalance->path, "/v1/cluster/shards/s%u", id);
    cairn_buf_append(&rebalance->path, "", 1);
    return send_change(rebalance, "DELETE");
}

static int run_to(struct rebalance *rebalance, unsigned count, char **arguments)
{
    struct cairn_json_writer writer;
    int exit_code = 0;
    if (count == 0)
        return cairn_usage_fail("rebalance", "to takes all shards, ID=URL or ID of known ones");
    cairn_json_writer_init(&writer, &rebalance->body);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "shards");
    cairn_json_begin_array(&writer);
    for (unsigned i = 0; i < count && exit_code == 0; i++)
        exit_code = write_shard(&writer, arguments[i], rebalance->weight);
    if (exit_code != 0)
        return exit_code;
    cairn_json_end_array(&writer);
    cairn_json_key(&writer, "only_add");
    cairn_json_write_bool(&writer, rebalance->only_add);
    cairn_json_key(&writer, "only_drain");
    cairn_json_write_bool(&writer, rebalance->only_drain);
    cairn_json_end_object(&writer);
    set_path(rebalance, "/v1/cluster/shards");
    return send_change(rebalance, "PUT");
}

static int run_abort(struct rebalance *rebalance, unsigned count, char **arguments)
{
    (void)arguments;
    if (count > 0)
        return cairn_usage_fail("rebalance", "abort takes no arguments");
    set_path(rebalance, "/v1/cluster/rebalance:abort");
    return send_change(rebalance, "POST");
}

static int run_resume(struct rebalance *rebalance, unsigned count, char **arguments)
{
    (void)arguments;
    if (count > 0)
        return cairn_usage_fail("rebalance", "resume takes no arguments");
    set_path(rebalance, "/v1/cluster/rebalance:resume");
    return send_change(rebalance, "POST");
}

static int run_action(struct rebalance *rebalance, unsigned count, char **words)
{
    static const struct {
        const char *name;
        int (*run)(struct rebalance *rebalance, unsigned count, char **arguments);
        bool takes_weight, takes_halves;
    } actions[] = {
        {"status", run_status, false, false}, {"add", run_add, true, false},
        {"remove", run_remove, false, false}, {"weight", run_weight, false, false},
        {"to", run_to, true, true},           {"abort", run_abort, false, false},
        {"resume", run_resume, false, false},
    };
    const char *names[sizeof actions / sizeof actions[0]];
    if (count == 0)
        return run_status(rebalance, 0, NULL);
    for (unsigned i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        names[i] = actions[i].name;
        if (strcmp(words[0], actions[i].name) != 0)
            continue;
        if (rebalance->weight != NULL && !actions[i].takes_weight)
            return cairn_usage_fail("rebalance", "--weight goes with add and to");
        if ((rebalance->only_add || rebalance->only_drain) && !actions[i].takes_halves)
            return cairn_usage_fail("rebalance", "--only-add and --only-drain go with to");
        return actions[i].run(rebalance, count - 1, words + 1);
    }
    const char *nearest = cairn_nearest(words[0], names, sizeof names / sizeof names[0]);
    return nearest != NULL
               ? cairn_usage_fail("rebalance", "unknown action '%s'; did you mean '%s'?", words[0],
                                  nearest)
               : cairn_usage_fail("rebalance", "unknown action '%s'", words[0]);
}

int cairn_cmd_rebalance(int argc, char **argv)
{
    struct rebalance rebalance = {.remote = {.command = "rebalance", CAIRN_REMOTE_DEFAULTS}};
    const struct cairn_flag flags[] = {
        CAIRN_TEXT("weight", "W", "share of the keys, in proportion to the other shards' [1]",
                   &rebalance.weight),
        CAIRN_SWITCH("only-add", "to: add shards, drain none", &rebalance.only_add),
        CAIRN_SWITCH("only-drain", "to: drain shards, add none", &rebalance.only_drain),
        CAIRN_SWITCH("wait", "wait until the keys have moved", &rebalance.wait),
        CAIRN_REMOTE_FLAGS(&rebalance.remote),
    };
    const struct cairn_usage usage = {
        .command = "rebalance",
        .arguments = "[status | add ID=URL | remove ID | weight ID W | to ID=URL... | abort | "
                     "resume]",
        .summary = "Change which shards there are and how many keys each has, or show how far that "
                   "is.\nReads and writes go on while keys move. abort moves them back; resume "
                   "tries again\nat once what waits after a failure.",
        .examples = "  cairn rebalance add s2=http://db2:8080 --wait\n"
                    "  cairn rebalance weight s2 0.5\n"
                    "  cairn rebalance remove s0 --wait\n"
                    "  cairn rebalance to s2=http://db2:8080 s3=http://db3:8080 --wait\n",
        .flags = flags,
        .flags_count = sizeof(flags) / sizeof(flags[0]),
        .operands_max = 1 + CAIRN_SHARDS_MAX,
    };
    unsigned operands;
    int exit_code;
    if (!cairn_options_parse(&usage, argc, argv, &operands, &exit_code))
        return exit_code;
    exit_code = run_action(&rebalance, operands, argv);
    cairn_remote_close(&rebalance.remote);
    cairn_buf_release(&rebalance.path);
    cairn_buf_release(&rebalance.body);
    return exit_code;
}
