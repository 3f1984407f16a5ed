/* One HTTP/1.1 answer, taken apart as its bytes arrive. No input or output. */
#ifndef CAIRN_ROUTER_TRANSPORT_ANSWER_H
#define CAIRN_ROUTER_TRANSPORT_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "router/transport_h2o.h"

enum transport_answer_phase {
    TRANSPORT_ANSWER_HEAD,
    TRANSPORT_ANSWER_LENGTH, /* `remaining` bytes of body are missing and have room in `body` */
    TRANSPORT_ANSWER_CHUNKED,
    TRANSPORT_ANSWER_WHOLE,
};

struct transport_answer {
    enum transport_answer_phase phase;
    bool begun;      /* a byte has come */
    bool keep_alive; /* once whole: the connection may be used again */
    int status;
    uint64_t remaining;
    uint64_t bytes_max;
    struct phr_chunked_decoder decoder;
    struct cairn_buf head; /* of an incomplete head; empty when it came in one piece */
    struct cairn_buf body;
};

/* For the next answer. Keeps the memory for heads. */
void transport_answer_reset(struct transport_answer *answer, uint64_t bytes_max);
void transport_answer_release(struct transport_answer *answer);
/* The next bytes, which may be overwritten. CAIRN_ETOOLARGE: the body is over bytes_max;
 * CAIRN_EUNAVAILABLE: it is not HTTP, or its end could not be told from a broken connection. */
int transport_answer_feed(struct transport_answer *answer, char *bytes, size_t len,
                          struct cairn_error *err);
/* In TRANSPORT_ANSWER_LENGTH: `len` bytes, at most `remaining`, were read to the body's end. */
void transport_answer_took(struct transport_answer *answer, size_t len);

#endif
