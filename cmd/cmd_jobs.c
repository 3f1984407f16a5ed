/* cairn jobs: what a server is doing in the background. */
#include <stdio.h>

#include "cmd/job.h"

static int run_jobs(struct cairn_remote *remote, const char *id)
{
    struct cairn_buf path = {0};
    struct cairn_json root;
    int exit_code = cairn_remote_open(remote);
    if (exit_code != 0)
        return exit_code;
    cairn_buf_printf(&path, "/v1/jobs");
    if (id != NULL)
        cairn_path_add(&path, cairn_str_from(id));
    cairn_buf_append(&path, "", 1);
    exit_code = cairn_remote_call(remote, "GET", &path, NULL, &root);
    if (exit_code == 0 && remote->json)
        cairn_remote_print_json(remote);
    else if (exit_code == 0 && id != NULL)
        cairn_job_print(root);
    else if (exit_code == 0)
        cairn_jobs_print(cairn_answer_array(root, "jobs"));
    cairn_buf_release(&path);
    return exit_code;
}

int cairn_cmd_jobs(int argc, char **argv)
{
    struct cairn_remote remote = {.command = "jobs", CAIRN_REMOTE_DEFAULTS};
    bool wait = false;
    const struct cairn_flag flags[] = {
        CAIRN_SWITCH("wait", "wait until the job has ended", &wait),
        CAIRN_REMOTE_FLAGS(&remote),
    };
    const struct cairn_usage usage = {
        .command = "jobs",
        .arguments = "[ID]",
        .summary = "List the jobs of a server, or show one.",
        .examples = "  cairn jobs\n"
                    "  cairn jobs rebalance-7 --wait\n",
        .flags = flags,
        .flags_count = sizeof(flags) / sizeof(flags[0]),
        .operands_max = 1,
    };
    unsigned operands;
    int exit_code;
    if (!cairn_options_parse(&usage, argc, argv, &operands, &exit_code))
        return exit_code;
    if (wait && operands == 0)
        return cairn_usage_fail("jobs", "--wait needs the job's ID");
    if (wait) {
        exit_code = cairn_remote_open(&remote);
        if (exit_code == 0)
            exit_code = cairn_job_wait(&remote, argv[0]);
    } else {
        exit_code = run_jobs(&remote, operands > 0 ? argv[0] : NULL);
    }
    cairn_remote_close(&remote);
    return exit_code;
}
