#include <stdio.h>
#include <string.h>

#include "cmd/command.h"

static int cmd_version(int argc, char **argv)
{
    bool json = false;
    unsigned operands;
    int exit_code;
    const struct cairn_flag flags[] = {
        CAIRN_SWITCH("json", "print JSON", &json),
    };
    const struct cairn_usage usage = {
        .command = "version",
        .arguments = "",
        .summary = "Print the program's version.",
        .examples = "  cairn version\n",
        .flags = flags,
        .flags_count = 1,
    };
    if (!cairn_options_parse(&usage, argc, argv, &operands, &exit_code))
        return exit_code;
    printf(json ? "{\"version\":\"%s\"}\n" : "cairn %s\n", CAIRN_VERSION);
    return CAIRN_EXIT_OK;
}

int main(int argc, char **argv)
{
    static const struct cairn_command commands[] = {
        {"serve", "run the server", cairn_cmd_serve},
        {"collection", "create, show, list or drop collections", cairn_cmd_collection},
        {"put", "load entities from NDJSON", cairn_cmd_put},
        {"get", "read entities by key", cairn_cmd_get},
        {"search", "find the nearest vectors", cairn_cmd_search},
        {"status", "show shards, collections and indexes", cairn_cmd_status},
        {"rebalance", "add, drain and re-weight shards; watch keys move", cairn_cmd_rebalance},
        {"jobs", "show what runs in the background", cairn_cmd_jobs},
        {"log", "dump, check or repair a feature log offline", cairn_cmd_log},
        {"version", "print the version", cmd_version},
    };
    static char version[] = "version";
    if (argc == 2 && strcmp(argv[1], "--version") == 0)
        argv[1] = version;
    return cairn_command_run("", commands, sizeof(commands) / sizeof(commands[0]), argc - 1,
                             argv + 1);
}
