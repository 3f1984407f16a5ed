#include "tests/lib/http_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *why)
{
    fprintf(stderr, "http client: %s\n", why);
    abort();
}

static int open_socket(unsigned port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

void http_connect(struct http_client *client, unsigned port)
{
    *client = (struct http_client){.fd = open_socket(port)};
    if (client->fd < 0)
        fail("cannot connect");
}

bool http_can_connect(unsigned port)
{
    int fd = open_socket(port);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

void http_close(struct http_client *client)
{
    if (client->fd >= 0)
        close(client->fd);
    free(client->input);
    *client = (struct http_client){.fd = -1};
}

bool http_send(struct http_client *client, const void *bytes, size_t len)
{
    const char *at = bytes;
    while (len > 0) {
        ssize_t sent = send(client->fd, at, len, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        at += sent;
        len -= (size_t)sent;
    }
    return true;
}

bool http_send_text(struct http_client *client, const char *text)
{
    return http_send(client, text, strlen(text));
}

bool http_send_slowly(struct http_client *client, const char *text)
{
    for (; *text; text++)
        if (!http_send(client, text, 1))
            return false;
    return true;
}

bool http_sendf(struct http_client *client, const char *format, ...)
{
    char text[4096];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof(text))
        fail("http_sendf: too long");
    return http_send(client, text, (size_t)len);
}

/* Read more. 0 at the end of the connection. */
static size_t read_more(struct http_client *client)
{
    struct pollfd waiting = {.fd = client->fd, .events = POLLIN};
    int ready;
    do
        ready = poll(&waiting, 1, HTTP_DEADLINE_MS);
    while (ready < 0 && errno == EINTR);
    if (ready == 0)
        fail("no answer in time");
    size_t room = 64 << 10;
    if (client->input_capacity < client->input_len + room + 1) {
        client->input_capacity = 2 * (client->input_len + room + 1);
        client->input = realloc(client->input, client->input_capacity);
    }
    ssize_t got = recv(client->fd, client->input + client->input_len, room, 0);
    if (got <= 0)
        return 0;
    client->input_len += (size_t)got;
    client->input[client->input_len] = '\0';
    return (size_t)got;
}

static void consume(struct http_client *client, size_t len)
{
    memmove(client->input, client->input + len, client->input_len - len + 1);
    client->input_len -= len;
}

static char *copy(const char *bytes, size_t len)
{
    char *text = malloc(len + 1);
    if (len)
        memcpy(text, bytes, len);
    text[len] = '\0';
    return text;
}

static bool try_read_head(struct http_client *client, struct http_answer *out)
{
    char *end;
    *out = (struct http_answer){0};
    while (client->input_len == 0 || !(end = strstr(client->input, "\r\n\r\n")))
        if (read_more(client) == 0)
            return false;
    size_t len = (size_t)(end - client->input) + 4;
    out->head = copy(client->input, len);
    consume(client, len);
    if (sscanf(out->head, "HTTP/1.1 %d ", &out->status) != 1)
        fail("not an HTTP/1.1 answer");
    char encoding[32];
    out->chunked = http_header(out, "transfer-encoding", encoding, sizeof(encoding));
    return true;
}

void http_read_head(struct http_client *client, struct http_answer *out)
{
    if (!try_read_head(client, out))
        fail("the connection ended in place of an answer");
}

static bool append_input(struct http_client *client, struct http_answer *out, size_t len)
{
    while (client->input_len < len)
        if (read_more(client) == 0)
            return false;
    out->body = realloc(out->body, out->body_len + len + 1);
    memcpy(out->body + out->body_len, client->input, len);
    out->body_len += len;
    out->body[out->body_len] = '\0';
    consume(client, len);
    return true;
}

/* One line of the wire without its CRLF. */
static bool wire_line(struct http_client *client, char *line, size_t max)
{
    char *end;
    while (client->input_len == 0 || !(end = strstr(client->input, "\r\n")))
        if (read_more(client) == 0)
            return false;
    size_t len = (size_t)(end - client->input);
    if (len >= max)
        fail("a line is too long");
    memcpy(line, client->input, len);
    line[len] = '\0';
    consume(client, len + 2);
    return true;
}

static bool read_chunks(struct http_client *client, struct http_answer *out)
{
    char line[64];
    for (;;) {
        if (!wire_line(client, line, sizeof(line)))
            return false;
        size_t len = strtoul(line, NULL, 16);
        if (len > 0 && !append_input(client, out, len))
            return false;
        if (!wire_line(client, line, sizeof(line)) || line[0] != '\0')
            return false;
        if (len == 0)
            return true;
    }
}

bool http_try_read(struct http_client *client, bool to_head, struct http_answer *out)
{
    char length[32];
    if (!try_read_head(client, out))
        return false;
    out->body = copy("", 0);
    if (to_head || out->status == 100 || out->status == 204)
        return true;
    bool whole;
    if (out->chunked) {
        whole = read_chunks(client, out);
    } else {
        if (!http_header(out, "content-length", length, sizeof(length)))
            fail("an answer has neither length nor chunks");
        whole = append_input(client, out, strtoul(length, NULL, 10));
    }
    if (!whole)
        http_answer_free(out);
    return whole;
}

void http_read(struct http_client *client, bool to_head, struct http_answer *out)
{
    if (!http_try_read(client, to_head, out))
        fail("the connection ended in place of an answer");
}

/* For chunked answers whose chunks end at line ends: the next line, whatever chunk it is in. */
bool http_read_line(struct http_client *client, char *line, size_t max)
{
    for (;;) {
        char *newline = client->input_len ? strchr(client->input, '\n') : NULL;
        if (!newline) {
            if (read_more(client) == 0)
                return false;
            continue;
        }
        size_t len = (size_t)(newline - client->input);
        if (len >= max)
            fail("a line is too long");
        memcpy(line, client->input, len);
        line[len] = '\0';
        bool is_framing = len > 0 && line[len - 1] == '\r';
        consume(client, len + 1);
        if (!is_framing)
            return true;
        if (strcmp(line, "0\r") == 0)
            return false;
    }
}

void http_answer_free(struct http_answer *answer)
{
    free(answer->head);
    free(answer->body);
    *answer = (struct http_answer){0};
}

bool http_is_closed(struct http_client *client)
{
    return client->input_len == 0 && read_more(client) == 0;
}

bool http_header(const struct http_answer *answer, const char *name, char *value, size_t max)
{
    size_t name_len = strlen(name);
    for (const char *line = strstr(answer->head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, name_len) != 0 || line[name_len] != ':')
            continue;
        const char *start = line + name_len + 1;
        while (*start == ' ')
            start++;
        size_t len = strcspn(start, "\r");
        if (len >= max)
            fail("a header is too long");
        memcpy(value, start, len);
        value[len] = '\0';
        return true;
    }
    return false;
}

void http_ask(struct http_client *client, const char *request, struct http_answer *out)
{
    if (!http_send_text(client, request))
        fail("the server closed during the request");
    http_read(client, strncmp(request, "HEAD ", 5) == 0, out);
}

void http_expect(struct http_client *client, const char *request, int status, const char *part)
{
    struct http_answer answer;
    http_ask(client, request, &answer);
    if (answer.status != status || (part && !strstr(answer.body, part))) {
        fprintf(stderr, "asked:\n%s\nexpected %d with %s, got:\n%s%s\n", request, status,
                part ? part : "anything", answer.head, answer.body);
        abort();
    }
    http_answer_free(&answer);
}
