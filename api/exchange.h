/* One HTTP exchange as the handlers see it: plain data in, plain data out, no h2o type.
 *
 * Life of an exchange:
 *
 *   state      where            who may touch it      next
 *   reading    loop             core (body.c)         handling
 *   handling   loop or worker   the handler           parked | replying
 *   parked     (waiting for a   nobody                resumed on its loop by cairn_exchange_resume
 *               shard's done)
 *   replying   loop             core                  freed when h2o disposes of the request
 *
 * A client that goes away only marks the exchange: the handler still runs to its end, and the reply
 * is dropped. Everything in the arena lives until the exchange is freed. */
#ifndef CAIRN_API_EXCHANGE_H
#define CAIRN_API_EXCHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "base/record.h"
#include "router/router.h"

#define CAIRN_SEGMENTS_MAX 8

enum cairn_media {
    CAIRN_MEDIA_NONE, /* no Content-Type */
    CAIRN_MEDIA_JSON,
    CAIRN_MEDIA_NDJSON,
    CAIRN_MEDIA_FLATBUFFERS,
    CAIRN_MEDIA_OTHER,
};

/* Per-thread scratch: a loop's or a worker's. */
struct cairn_scratch {
    struct cairn_json_parser *parser;
    struct cairn_encoder *encoder;
};

struct cairn_exchange {
    /* Request: immutable once handling. */
    struct cairn_str method;
    struct cairn_str path;                         /* as sent, without the query */
    struct cairn_str segments[CAIRN_SEGMENTS_MAX]; /* percent-decoded, "/v1/collections/a" is 3 */
    unsigned segments_count;
    struct cairn_str
        action; /* what follows ':' in the last segment when the route has one: "get" */
    struct cairn_str query;
    enum cairn_media media;
    bool accepts_flatbuffers; /* Accept names application/x-flatbuffers */
    struct cairn_str body;
    uint64_t deadline_us; /* monotonic: Cairn-Timeout or the default */
    struct cairn_router *router;
    struct cairn_metrics *metrics;
    bool may_block; /* the handler runs on a worker */
    bool waits;     /* it does so because keys were changing hands */
    bool acted;     /* set by the handler when it has begun to write: it is not run again */

    struct cairn_arena arena;
    struct cairn_scratch scratch; /* of the thread that runs the handler now */

    /* Response. Set by the handler, then cairn_exchange_reply or cairn_exchange_fail. */
    int status;               /* 200 unless set */
    const char *content_type; /* application/json unless set; static string */
    struct cairn_buf out;
    bool wants_contract; /* ?contract=true; the handler ends its object with
                            cairn_exchange_end_object */
    bool has_contract;   /* send Cairn-Position and Cairn-Complete */
    struct cairn_contract contract;
    void *handler_state; /* in the arena */

    struct cairn_exchange_core *core; /* the server's */
};

/* Query parameter, percent-decoded into the arena; false when it is not there. */
bool cairn_exchange_param(struct cairn_exchange *exchange, const char *name, struct cairn_str *out);
/* Refuse query parameters other than those listed (NULL-terminated) and "contract": CAIRN_EPARAM.
 */
int cairn_exchange_check_params(struct cairn_exchange *exchange, const char *const *known,
                                struct cairn_error *err);
/* Whether the caller's key may touch a collection that the body names (the path's was checked
 * before the handler ran): CAIRN_EFORBIDDEN. */
int cairn_exchange_check_collection(struct cairn_exchange *exchange, struct cairn_str collection,
                                    struct cairn_error *err);
/* Parse the body as JSON: CAIRN_EMEDIATYPE unless it is application/json (or has no Content-Type).
 */
int cairn_exchange_json(struct cairn_exchange *exchange, struct cairn_json *root,
                        struct cairn_error *err);

/* Finish. From the thread that runs the handler; the exchange is not the handler's any more. */
void cairn_exchange_reply(struct cairn_exchange *exchange);
/* Answer with problem+json (adds Retry-After for 429), unless the reason may pass: then the handler
 * is run once more, on a worker, and must have released what it holds. */
void cairn_exchange_fail(struct cairn_exchange *exchange, const struct cairn_error *err);
/* Write the problem object itself, for NDJSON error lines ({"key"?, "error": {...}}). */
void cairn_problem_write(struct cairn_json_writer *writer, const struct cairn_error *err);

/* Park, and later (any thread) run `then(exchange)` on the exchange's loop. */
void cairn_exchange_resume(struct cairn_exchange *exchange, void (*then)(struct cairn_exchange *));
/* From a loop: go on in `then` on a worker. Replies 429 by itself when the work queue is full. */
void cairn_exchange_to_worker(struct cairn_exchange *exchange,
                              void (*then)(struct cairn_exchange *));

/* End the outermost JSON object, adding "contract" when it was asked for. */
void cairn_exchange_end_object(struct cairn_exchange *exchange, struct cairn_json_writer *writer);

/* Streamed NDJSON upload: the core cuts the body into blocks of whole lines (at most about 1 MiB,
 * or what has arrived) and gives them to the route's `block` on a worker, one at a time per
 * exchange and in order. `block` starts the work and returns; when the work is done, any thread
 * calls cairn_block_done, whereupon `finish` runs on the loop and appends the block's answer lines
 * to block->out. Answers leave in block order while the upload is still going on. At most
 * CAIRN_STREAM_BLOCKS_MAX blocks are in flight; then reading stops. A line over
 * CAIRN_NDJSON_LINE_BYTES_MAX is given as an error block. */
#define CAIRN_STREAM_BLOCKS_MAX 4
struct cairn_block {
    struct cairn_exchange *exchange;
    struct cairn_str text; /* whole lines */
    uint64_t first_line;   /* number of its first line, from 1 */
    struct cairn_error
        error; /* code not 0: the core could not give text (a line too long); answer with it */
    struct cairn_arena arena; /* the block's own */
    struct cairn_scratch scratch;
    struct cairn_buf out;
    void (*finish)(struct cairn_block *block); /* set by the handler */
    void *handler_state;
};
void cairn_block_done(struct cairn_block *block);

enum cairn_role { CAIRN_ROLE_NONE, CAIRN_ROLE_READ, CAIRN_ROLE_WRITE, CAIRN_ROLE_ADMIN };
enum cairn_place {
    CAIRN_ON_LOOP,      /* with a large body on a worker */
    CAIRN_ON_LOOP_ONLY, /* calls between processes, with bodies of up to
                           CAIRN_SHARD_CALL_BYTES_MAX: the handler sees to it that the loop is not
                           kept */
    CAIRN_ON_WORKER,
};

struct cairn_route {
    const char *method;
    const char *pattern; /* "/v1/collections/{}/entities:get"; {} matches one segment */
    const char *name;    /* the route label of metrics: "entities_get" */
    enum cairn_role role;
    enum cairn_place place;
    void (*handle)(struct cairn_exchange *exchange);
    /* NULL: NDJSON is not accepted (415). Else called once before the first block to check the
     * request; non-zero refuses it. */
    int (*stream_begin)(struct cairn_exchange *exchange, struct cairn_error *err);
    void (*stream_block)(struct cairn_block *block);
};

/* All routes of the service, in routes.c. */
extern const struct cairn_route cairn_routes[];
extern const unsigned cairn_routes_count;

#endif
