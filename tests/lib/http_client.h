/* A raw HTTP/1.1 client for tests: sends what it is told byte by byte and reads answers with a
 * deadline. Fails the running test when an answer does not come. */
#ifndef CAIRN_TESTS_HTTP_CLIENT_H
#define CAIRN_TESTS_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

#define HTTP_DEADLINE_MS 10000

struct http_client {
    int fd;
    char *input; /* read and not yet consumed */
    size_t input_len, input_capacity;
};

struct http_answer {
    int status;
    char *head; /* NUL-terminated, with its final empty line */
    char *body; /* NUL-terminated, decoded when it was chunked */
    size_t body_len;
    bool chunked;
};

void http_connect(struct http_client *client, unsigned port);
bool http_can_connect(unsigned port);
void http_close(struct http_client *client);
/* Send all; false when the server closed. */
bool http_send(struct http_client *client, const void *bytes, size_t len);
bool http_send_text(struct http_client *client, const char *text);
/* Each byte in a packet of its own. */
bool http_send_slowly(struct http_client *client, const char *text);
bool http_sendf(struct http_client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Read one answer; `to_head`: of a HEAD request. Free with http_answer_free. */
void http_read(struct http_client *client, bool to_head, struct http_answer *out);
/* The same, but false instead of a failed test when the connection ends first. */
bool http_try_read(struct http_client *client, bool to_head, struct http_answer *out);
/* Read the head alone. Then bytes of a chunked body as they come: false at its end. */
void http_read_head(struct http_client *client, struct http_answer *out);
bool http_read_line(struct http_client *client, char *line, size_t max);
void http_answer_free(struct http_answer *answer);
/* Whether the server closes the connection (within the deadline), with nothing more to read. */
bool http_is_closed(struct http_client *client);
/* The value of a header into `value`; false when there is none. */
bool http_header(const struct http_answer *answer, const char *name, char *value, size_t max);

/* Send a whole request and read its answer. */
void http_ask(struct http_client *client, const char *request, struct http_answer *out);
/* The same, checking the status and that the body contains `part` (may be NULL). */
void http_expect(struct http_client *client, const char *request, int status, const char *part);

#endif
