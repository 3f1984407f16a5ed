/* The commands of the program, and what those that talk to a server share. */
#ifndef CAIRN_CMD_COMMAND_H
#define CAIRN_CMD_COMMAND_H

#include "base/json.h"
#include "cmd/client.h"
#include "cmd/options.h"

/* Each takes the words after its name and returns the process's exit code. */
int cairn_cmd_serve(int argc, char **argv);
int cairn_cmd_collection(int argc, char **argv);
int cairn_cmd_put(int argc, char **argv);
int cairn_cmd_get(int argc, char **argv);
int cairn_cmd_search(int argc, char **argv);
int cairn_cmd_rebalance(int argc, char **argv);
int cairn_cmd_jobs(int argc, char **argv);
int cairn_cmd_status(int argc, char **argv);
int cairn_cmd_log(int argc, char **argv);

struct cairn_command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
};

/* Run the command that argv[0] names with the words after it. Without one, or with --help, prints
 * the list. `parent` is the word before ("log"), "" for the program itself. */
int cairn_command_run(const char *parent, const struct cairn_command *commands, unsigned count,
                      int argc, char **argv);

/* Print "cairn COMMAND: message" on standard error. Returns CAIRN_EXIT_FAILED. */
int cairn_command_fail(const char *command, const struct cairn_error *err);

/* A session with a server: flags, connection, the last answer. */
struct cairn_remote {
    const char *command; /* for messages */
    struct cairn_client_options options;
    bool json; /* print answers as they came */

    struct cairn_client *client;
    struct cairn_json_parser *parser;
    struct cairn_answer answer;
};

/* Initialiser of the fields that flags fill. */
#define CAIRN_REMOTE_DEFAULTS .options = {.url = "http://127.0.0.1:8080", .timeout_s = 60}

/* The flags that every such command has, as members of an array of struct cairn_flag. */
#define CAIRN_REMOTE_FLAGS(remote)                                                                 \
    CAIRN_TEXT("url", "URL", "the server [http://127.0.0.1:8080]", &(remote)->options.url),        \
        CAIRN_TEXT("api-key", "KEY", "sent as a bearer token", &(remote)->options.api_key),        \
        CAIRN_TEXT("ca-file", "FILE", "certificates to trust [the system's]",                      \
                   &(remote)->options.ca_file),                                                    \
        CAIRN_COUNT("timeout", "SECONDS", "how long to wait for an answer [60]",                   \
                    &(remote)->options.timeout_s, 1, 86400),                                       \
        CAIRN_SWITCH("json", "print JSON", &(remote)->json)

/* Returns 0, or the exit code after printing what is wrong. */
int cairn_remote_open(struct cairn_remote *remote);
void cairn_remote_close(struct cairn_remote *remote);

/* Call, print the error if there is one (with --json: the problem object) and parse the answer into
 * *root, which is valid until the next call. Returns 0 or the exit code. */
int cairn_remote_call(struct cairn_remote *remote, const char *method, const struct cairn_buf *path,
                      const struct cairn_buf *body, struct cairn_json *root);
/* Print an error of a call as cairn_remote_call does. Returns CAIRN_EXIT_FAILED. */
int cairn_remote_fail(const struct cairn_remote *remote, const struct cairn_error *err);
/* Print the last answer's body, one line. */
void cairn_remote_print_json(const struct cairn_remote *remote);

/* Set *path to "/v1/collections/{name}" and an ending such as "/search"; NUL-terminated. */
void cairn_collection_path(struct cairn_buf *path, const char *name, const char *ending);

/* JSON given on the command line: the text itself when it begins with { or [, "-" for standard
 * input, else a file's name. Checked, and minified into *out. CAIRN_EJSON, CAIRN_EIO, naming the
 * flag. */
int cairn_read_json(const char *flag, const char *argument, struct cairn_buf *out,
                    struct cairn_error *err);

/* Write the words of "a,b,c" as an array of strings; "*" alone as that string. */
void cairn_write_names(struct cairn_json_writer *writer, const char *names);

/* Members of an answer, with a default where there is none of that kind. */
struct cairn_str cairn_answer_str(struct cairn_json object, const char *name);
uint64_t cairn_answer_u64(struct cairn_json object, const char *name);
bool cairn_answer_bool(struct cairn_json object, const char *name);
/* The elements of the array `name` of an object, for cairn_json_element; none when there is no such
 * array. */
struct cairn_json_iter cairn_answer_array(struct cairn_json object, const char *name);
/* The members of the object `name` of an object, for cairn_json_member; none when there is no such
 * object. */
struct cairn_json_iter cairn_answer_members(struct cairn_json object, const char *name);

/* A value as people read it: strings bare, all else as JSON. Appends. */
void cairn_value_text(struct cairn_json value, struct cairn_buf *out);

#endif
