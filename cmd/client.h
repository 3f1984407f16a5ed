/* HTTP client of a running Cairn, on libcurl: one connection, kept alive.
 *
 * Threads: one at a time. */
#ifndef CAIRN_CMD_CLIENT_H
#define CAIRN_CMD_CLIENT_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"

struct cairn_client_options {
    const char *url;     /* "http://127.0.0.1:8080" */
    const char *api_key; /* NULL: none */
    const char *ca_file; /* certificates to trust; NULL: the system's */
    uint32_t timeout_s;  /* of one call; uploads have none */
};

struct cairn_client;

/* CAIRN_EPARAM when the URL is none. On success the caller owns *out. */
int cairn_client_open(const struct cairn_client_options *options, struct cairn_client **out,
                      struct cairn_error *err);
void cairn_client_close(struct cairn_client **client); /* sets it to NULL */

/* The body of an answer, whatever its status. {0} to start with, may be used again. */
struct cairn_answer {
    int status; /* HTTP; 0 when none came */
    struct cairn_buf body;
};
void cairn_answer_release(struct cairn_answer *answer);

/* Append "/" and a percent-encoded path segment. */
void cairn_path_add(struct cairn_buf *path, struct cairn_str segment);

/* Call `method` on a path ("/v1/collections"; NUL-terminated) with a JSON body (len 0: none).
 * Returns 0 on a status below 300. For a problem answer, the error has its code and
 * "code: detail" as text; when no answer came it is CAIRN_EUNAVAILABLE (or CAIRN_ETIMEOUT) and says
 * why. */
int cairn_client_call(struct cairn_client *client, const char *method, const char *path,
                      struct cairn_str body, struct cairn_answer *answer, struct cairn_error *err);

/* A streamed NDJSON upload. Both functions are called while the transfer runs, on its thread. */
struct cairn_upload {
    /* Bytes of the body into `bytes`; 0 at the end; negative gives the upload up. */
    ssize_t (*read)(void *context, char *bytes, size_t len);
    /* A line of the answer, without its end. */
    void (*line)(void *context, struct cairn_str line);
    void *context;
};
/* POST it. Answer lines go to upload->line; an answer that is a problem goes to *answer and comes
 * back as the error, as with a call. */
int cairn_client_upload(struct cairn_client *client, const char *path,
                        const struct cairn_upload *upload, struct cairn_answer *answer,
                        struct cairn_error *err);

#endif
