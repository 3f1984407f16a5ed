/* cairn log: look at feature logs and mend them while no server runs. */
#include <inttypes.h>
#include <stdio.h>

#include "base/json.h"
#include "cmd/command.h"
#include "cmd/log_dirs.h"
#include "cmd/log_dump.h"
#include "cmd/terminal.h"
#include "featurestore/log.h"

/* What check and repair share. */
typedef int (*cairn_log_tool)(const char *dir, const struct cairn_io *io,
                              struct cairn_log_report *out, struct cairn_error *err);

static void write_report(const char *dir, const struct cairn_log_report *report,
                         struct cairn_json_writer *writer)
{
    const struct cairn_log_finding *finding = &report->finding;
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"first_offset", report->first_offset},
        {"last_offset", report->last_offset},
        {"records", report->records},
        {"batches", report->batches},
        {"bytes", report->bytes},
        {"segments", report->segments_count},
        {"durable_offset", report->durable_offset},
        {"readable_after", report->readable_after},
    };
    cairn_json_begin_object(writer);
    cairn_json_key(writer, "dir");
    cairn_json_write_str(writer, cairn_str_from(dir));
    for (unsigned i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        cairn_json_key(writer, numbers[i].name);
        cairn_json_write_u64(writer, numbers[i].value);
    }
    cairn_json_key(writer, "damage");
    cairn_json_write_str(writer, cairn_str_from(cairn_log_damage_name(finding->damage)));
    if (finding->damage != CAIRN_DAMAGE_NONE) {
        cairn_json_key(writer, "file");
        cairn_json_write_str(writer, cairn_str_from(finding->file));
        cairn_json_key(writer, "byte");
        cairn_json_write_u64(writer, finding->byte);
        cairn_json_key(writer, "offset");
        cairn_json_write_u64(writer, finding->offset);
        cairn_json_key(writer, "detail");
        cairn_json_write_str(writer, cairn_str_from(finding->detail));
    }
    cairn_json_end_object(writer);
}

static void print_report(const char *dir, const struct cairn_log_report *report)
{
    const struct cairn_log_finding *finding = &report->finding;
    char records[CAIRN_NUMBER_TEXT_BYTES], bytes[CAIRN_NUMBER_TEXT_BYTES];
    printf("%s\n  %s records, %s, segments: %u; offsets %" PRIu64 " to %" PRIu64 "\n", dir,
           cairn_text_count(report->records, records), cairn_text_bytes(report->bytes, bytes),
           report->segments_count, report->first_offset, report->last_offset);
    if (finding->damage == CAIRN_DAMAGE_NONE) {
        printf("  no damage\n");
        return;
    }
    printf("  %s: %s, byte %" PRIu64 ", offset %" PRIu64 ": %s\n",
           cairn_log_damage_name(finding->damage), finding->file, finding->byte, finding->offset,
           finding->detail);
    if (report->readable_after > 0)
        printf("  %s records after it still verify on their own\n",
               cairn_text_count(report->readable_after, records));
}

/* A torn tail is what a crash leaves: nothing that was acknowledged lies in it. */
static bool is_damaged(const struct cairn_log_report *report)
{
    return report->finding.damage != CAIRN_DAMAGE_NONE &&
           report->finding.damage != CAIRN_DAMAGE_TORN_TAIL;
}

static void print_advice(const struct cairn_log_report *report)
{
    if (report->finding.damage == CAIRN_DAMAGE_TORN_TAIL)
        printf("  A torn tail holds nothing that was acknowledged; the next start cuts it.\n");
    else if (is_damaged(report))
        printf(
            "  The server serves what it had applied and refuses writes to this shard.\n"
            "  `cairn log repair` sets everything from the damage on aside, deleting nothing.\n");
}

/* Run `tool` on every log of `dir`. Returns the exit code; *damaged counts damaged logs. */
static int run_tool(const char *command, const char *dir, cairn_log_tool tool, bool json,
                    unsigned *damaged)
{
    struct cairn_log_dirs dirs;
    struct cairn_error err;
    struct cairn_buf text = {0};
    struct cairn_json_writer writer;
    int code = cairn_log_dirs_find(dir, &dirs, &err);
    *damaged = 0;
    cairn_json_writer_init(&writer, &text);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "logs");
    cairn_json_begin_array(&writer);
    for (uint32_t i = 0; code == 0 && i < dirs.count; i++) {
        struct cairn_log_report report = {0};
        code = tool(dirs.at[i].path, NULL, &report, &err);
        if (code != 0)
            break;
        *damaged += is_damaged(&report);
        if (json)
            write_report(dirs.at[i].path, &report, &writer);
        else
            print_report(dirs.at[i].path, &report);
        if (!json && tool == cairn_log_check)
            print_advice(&report);
        else if (!json && report.finding.damage != CAIRN_DAMAGE_NONE)
            printf("  set aside under %s/damaged-…; the log opens again\n", dirs.at[i].path);
    }
    cairn_json_end_array(&writer);
    cairn_json_end_object(&writer);
    if (json && code == 0)
        printf("%.*s\n", (int)text.len, text.data);
    cairn_buf_release(&text);
    cairn_log_dirs_release(&dirs);
    return code == 0 ? CAIRN_EXIT_OK : cairn_command_fail(command, &err);
}

static int log_check(int argc, char **argv)
{
    bool json = false;
    unsigned operands, damaged;
    int exit_code;
    const struct cairn_flag flags[] = {CAIRN_SWITCH("json", "print JSON", &json)};
    const struct cairn_usage usage = {
        .command = "log check",
        .arguments = "DIR",
        .summary = "Read every byte of a log and say whether it is whole. DIR is a data directory\n"
                   "(all its shards) or one shard's directory. Changes nothing. The exit code is\n"
                   "1 when there is damage; a torn tail, which a crash leaves, is none.",
        .examples = "  cairn log check ./data\n"
                    "  cairn log check ./data/shard-0001 --json\n",
        .flags = flags,
        .flags_count = 1,
        .operands_min = 1,
        .operands_max = 1,
    };
    if (!cairn_options_parse(&usage, argc, argv, &operands, &exit_code))
        return exit_code;
    exit_code = run_tool("log check", argv[0], cairn_log_check, json, &damaged);
    return exit_code == CAIRN_EXIT_OK && damaged > 0 ? CAIRN_EXIT_FAILED : exit_code;
}

static int log_repair(int argc, char **argv)
{
    bool json = false;
    unsigned operands, damaged;
    int exit_code;
    const struct cairn_flag flags[] = {CAIRN_SWITCH("json", "print JSON", &json)};
    const struct cairn_usage usage = {
        .command = "log repair",
        .arguments = "DIR",
        .summary =
            "Make a damaged log open again: everything from the first damage on is moved into\n"
            "a folder named damaged-… beside it, nothing is deleted. Records that were moved\n"
            "are no longer part of the log; run `cairn log check` first to see how many.",
        .examples = "  cairn log repair ./data\n"
                    "  cairn log repair ./data/shard-0001 --json\n",
        .flags = flags,
        .flags_count = 1,
        .operands_min = 1,
        .operands_max = 1,
    };
    if (!cairn_options_parse(&usage, argc, argv, &operands, &exit_code))
        return exit_code;
    return run_tool("log repair", argv[0], cairn_log_repair, json, &damaged);
}

static int dump_all(const char *dir, struct cairn_log_dump_options *options)
{
    struct cairn_log_dirs dirs;
    struct cairn_error err;
    uint64_t limit = options->limit;
    int code = cairn_log_dirs_find(dir, &dirs, &err);
    for (uint32_t i = 0; code == 0 && i < dirs.count; i++) {
        uint64_t printed = 0;
        options->dir = dirs.at[i].path;
        options->shard = dirs.at[i].shard;
        options->limit = limit;
        code = cairn_log_dump(options, &printed, &err);
    }
    cairn_log_dirs_release(&dirs);
    return code == 0 ? CAIRN_EXIT_OK : cairn_command_fail("log dump", &err);
}

static int log_dump(int argc, char **argv)
{
    struct cairn_log_dump_options options = {0};
    unsigned operands;
    int exit_code;
    const struct cairn_flag flags[] = {
        CAIRN_BYTES("from", "OFFSET", "first offset of each shard [1]", &options.from_offset, 1,
                    UINT64_MAX),
        CAIRN_BYTES("limit", "N", "records of each shard [all]", &options.limit, 1, UINT64_MAX),
        CAIRN_COUNT("collection", "ID", "only this collection, by number [all]",
                    &options.collection, 1, UINT32_MAX),
        CAIRN_SWITCH("json", "print NDJSON with whole payloads", &options.json),
    };
    const struct cairn_usage usage = {
        .command = "log dump",
        .arguments = "DIR",
        .summary = "Print the records of a log, one a line: position, ingest time, collection,\n"
                   "what it does, key, features, vectors. DIR is a data directory (all its\n"
                   "shards, one after the other) or one shard's directory. Changes nothing.",
        .examples = "  cairn log dump ./data --limit 10\n"
                    "  cairn log dump ./data/shard-0000 --from 1042 --json\n",
        .flags = flags,
        .flags_count = sizeof(flags) / sizeof(flags[0]),
        .operands_min = 1,
        .operands_max = 1,
    };
    if (!cairn_options_parse(&usage, argc, argv, &operands, &exit_code))
        return exit_code;
    return dump_all(argv[0], &options);
}

int cairn_cmd_log(int argc, char **argv)
{
    static const struct cairn_command commands[] = {
        {"dump", "print the records", log_dump},
        {"check", "read every byte and report damage", log_check},
        {"repair", "set damage aside so that the log opens again", log_repair},
    };
    return cairn_command_run("log", commands, 3, argc, argv);
}
