/* Reading request bodies around h2o, which would hold them whole; see body.c for how. */
#ifndef CAIRN_API_BODY_H
#define CAIRN_API_BODY_H

#include "api/core.h"

enum cairn_body_state {
    CAIRN_BODY_MORE, /* more is to come */
    CAIRN_BODY_END,  /* all of it has been handed out */
    CAIRN_BODY_BAD,  /* the framing is broken */
    CAIRN_BODY_GONE, /* the client went away */
};

/* Whether h2o's calls of h2o_socket_read_start reach ours: CAIRN_EINTERNAL with what to do. Runs on
 * the loop's thread, before it accepts. */
int cairn_body_check_interposed(struct cairn_loop *loop, struct cairn_error *err);

/* Decode what lies behind the head in the input already. */
enum cairn_body_state cairn_body_decode(struct cairn_connection *connection);
/* The whole body where it lies in the input, when it came with its head (state CAIRN_BODY_END and
 * nothing pulled yet). Valid until cairn_body_finish. */
struct cairn_str cairn_body_in_input(const struct cairn_connection *connection);
/* Append up to `max` decoded bytes to `into`, with at most one read. Call again without waiting
 * while cairn_body_has_ready. */
enum cairn_body_state cairn_body_pull(struct cairn_connection *connection, struct cairn_buf *into,
                                      size_t max);
bool cairn_body_has_ready(const struct cairn_connection *connection);
/* Call on_body whenever more can be pulled, until paused. Sends 100 Continue first when the client
 * waits for it. */
void cairn_body_wait(struct cairn_connection *connection,
                     void (*on_body)(struct cairn_connection *connection));
void cairn_body_pause(struct cairn_connection *connection);
/* Before the answer's end: leave in the input just the head, which h2o will consume, and what
 * follows the body. False when the body was not read to its end: the connection cannot go on. */
bool cairn_body_finish(struct cairn_connection *connection);

#endif
