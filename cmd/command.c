#include "cmd/command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "cmd/terminal.h"

#define COMMANDS_MAX 32u
#define READ_BYTES   65536u

static void print_commands(const char *parent, const struct cairn_command *commands, unsigned count)
{
    const char *space = parent[0] != '\0' ? " " : "";
    printf("Usage: cairn%s%s COMMAND ...\n\nCommands:\n", space, parent);
    for (unsigned i = 0; i < count; i++)
        printf("  %-12s  %s\n", commands[i].name, commands[i].summary);
    printf("\nEach command explains itself: cairn%s%s COMMAND --help\n", space, parent);
}

int cairn_command_run(const char *parent, const struct cairn_command *commands, unsigned count,
                      int argc, char **argv)
{
    const char *space = parent[0] != '\0' ? " " : "";
    const char *names[COMMANDS_MAX];
    if (argc == 0) {
        fprintf(stderr, "cairn%s%s: a command is missing\nTry 'cairn%s%s --help'.\n", space, parent,
                space, parent);
        return CAIRN_EXIT_USAGE;
    }
    if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0 ||
        strcmp(argv[0], "help") == 0) {
        print_commands(parent, commands, count);
        return CAIRN_EXIT_OK;
    }
    for (unsigned i = 0; i < count; i++) {
        names[i] = commands[i].name;
        if (strcmp(argv[0], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    }
    fprintf(stderr, "cairn%s%s: unknown command '%s'", space, parent, argv[0]);
    const char *nearest = cairn_nearest(argv[0], names, count);
    if (nearest != NULL)
        fprintf(stderr, "; did you mean '%s'?", nearest);
    fprintf(stderr, "\nTry 'cairn%s%s --help'.\n", space, parent);
    return CAIRN_EXIT_USAGE;
}

int cairn_command_fail(const char *command, const struct cairn_error *err)
{
    struct cairn_buf text = {0};
    cairn_text_clean(&text, cairn_str_from(err->message));
    cairn_buf_append(&text, "", 1);
    fprintf(stderr, "cairn %s: %s\n", command, text.data);
    cairn_buf_release(&text);
    return CAIRN_EXIT_FAILED;
}

int cairn_remote_open(struct cairn_remote *remote)
{
    struct cairn_error err;
    int code = cairn_client_open(&remote->options, &remote->client, &err);
    if (code == CAIRN_EPARAM)
        return cairn_usage_fail(remote->command, "%s", err.message);
    if (code != 0)
        return cairn_command_fail(remote->command, &err);
    remote->parser = cairn_json_parser_new();
    return 0;
}

void cairn_remote_close(struct cairn_remote *remote)
{
    cairn_client_close(&remote->client);
    cairn_json_parser_free(&remote->parser);
    cairn_answer_release(&remote->answer);
}

int cairn_remote_fail(const struct cairn_remote *remote, const struct cairn_error *err)
{
    const struct cairn_buf *body = &remote->answer.body;
    if (remote->json && remote->answer.status >= 300 && body->len > 0 && body->data[0] == '{') {
        fprintf(stderr, "%.*s\n", (int)body->len, body->data);
        return CAIRN_EXIT_FAILED;
    }
    return cairn_command_fail(remote->command, err);
}

void cairn_remote_print_json(const struct cairn_remote *remote)
{
    const struct cairn_buf *body = &remote->answer.body;
    fwrite(body->data, 1, body->len, stdout);
    if (body->len == 0 || body->data[body->len - 1] != '\n')
        putchar('\n');
}

int cairn_remote_call(struct cairn_remote *remote, const char *method, const struct cairn_buf *path,
                      const struct cairn_buf *body, struct cairn_json *root)
{
    struct cairn_error err;
    struct cairn_str text = {"", 0};
    if (body != NULL && body->len > CAIRN_BODY_BYTES_MAX) {
        cairn_fail(&err, CAIRN_ETOOLARGE, "the request would have %zu bytes; a server takes %u",
                   body->len, CAIRN_BODY_BYTES_MAX);
        return cairn_command_fail(remote->command, &err);
    }
    if (body != NULL)
        text = (struct cairn_str){body->data, (uint32_t)body->len};
    if (cairn_client_call(remote->client, method, path->data, text, &remote->answer, &err) != 0)
        return cairn_remote_fail(remote, &err);
    text = (struct cairn_str){remote->answer.body.data, (uint32_t)remote->answer.body.len};
    if (cairn_json_parse(remote->parser, text, root, &err) != 0) {
        cairn_error_prefix(&err, "the server's answer is no JSON");
        return cairn_command_fail(remote->command, &err);
    }
    return 0;
}

void cairn_collection_path(struct cairn_buf *path, const char *name, const char *ending)
{
    cairn_buf_clear(path);
    cairn_buf_printf(path, "/v1/collections");
    cairn_path_add(path, cairn_str_from(name));
    cairn_buf_append(path, ending, strlen(ending) + 1);
}

/* Append all that a descriptor gives. */
static int read_all(int fd, struct cairn_buf *out)
{
    for (;;) {
        ssize_t len = read(fd, cairn_buf_reserve(out, READ_BYTES), READ_BYTES);
        if (len == 0)
            return 0;
        if (len < 0 && errno != EINTR)
            return -errno;
        if (len > 0)
            out->len += (size_t)len;
        if (out->len > CAIRN_BODY_BYTES_MAX)
            return -EFBIG;
    }
}

int cairn_read_json(const char *flag, const char *argument, struct cairn_buf *out,
                    struct cairn_error *err)
{
    struct cairn_buf text = {0};
    struct cairn_json root;
    int failed = 0, code;
    if (argument[0] == '{' || argument[0] == '[') {
        cairn_buf_append(&text, argument, strlen(argument));
    } else if (strcmp(argument, "-") == 0) {
        failed = read_all(STDIN_FILENO, &text);
    } else {
        int fd = open(argument, O_RDONLY | O_CLOEXEC);
        failed = fd < 0 ? -errno : read_all(fd, &text);
        if (fd >= 0)
            close(fd);
    }
    if (failed != 0) {
        code = cairn_fail(err, CAIRN_EIO, "%s: %s: %s", flag, argument, strerror(-failed));
        goto release_text;
    }
    struct cairn_json_parser *parser = cairn_json_parser_new();
    code = cairn_json_parse(parser, (struct cairn_str){text.data, (uint32_t)text.len}, &root, err);
    if (code == 0)
        cairn_json_minify(root, out);
    else
        cairn_error_prefix(err, "%s", flag);
    cairn_json_parser_free(&parser);
release_text:
    cairn_buf_release(&text);
    return code;
}

void cairn_write_names(struct cairn_json_writer *writer, const char *names)
{
    if (strcmp(names, "*") == 0) {
        cairn_json_write_str(writer, CAIRN_STR_LITERAL("*"));
        return;
    }
    cairn_json_begin_array(writer);
    while (*names != '\0') {
        size_t len = strcspn(names, ",");
        if (len > 0)
            cairn_json_write_str(writer, (struct cairn_str){names, (uint32_t)len});
        names += len + (names[len] == ',');
    }
    cairn_json_end_array(writer);
}

struct cairn_str cairn_answer_str(struct cairn_json object, const char *name)
{
    struct cairn_json value;
    struct cairn_str text;
    if (!cairn_json_get(object, name, &value) || !cairn_json_str(value, &text))
        return (struct cairn_str){"", 0};
    return text;
}

uint64_t cairn_answer_u64(struct cairn_json object, const char *name)
{
    struct cairn_json value;
    int64_t number;
    if (!cairn_json_get(object, name, &value) || !cairn_json_i64(value, &number) || number < 0)
        return 0;
    return (uint64_t)number;
}

bool cairn_answer_bool(struct cairn_json object, const char *name)
{
    struct cairn_json value;
    bool truth = false;
    return cairn_json_get(object, name, &value) && cairn_json_bool(value, &truth) && truth;
}

struct cairn_json_iter cairn_answer_array(struct cairn_json object, const char *name)
{
    struct cairn_json value;
    struct cairn_json_iter iter;
    size_t count;
    if (!cairn_json_get(object, name, &value) || !cairn_json_array(value, &iter, &count))
        return (struct cairn_json_iter){0};
    return iter;
}

struct cairn_json_iter cairn_answer_members(struct cairn_json object, const char *name)
{
    struct cairn_json value;
    struct cairn_json_iter iter;
    if (!cairn_json_get(object, name, &value) || !cairn_json_object(value, &iter))
        return (struct cairn_json_iter){0};
    return iter;
}

void cairn_value_text(struct cairn_json value, struct cairn_buf *out)
{
    struct cairn_str text;
    if (cairn_json_str(value, &text))
        cairn_buf_append(out, text.ptr, text.len);
    else
        cairn_json_minify(value, out);
}
