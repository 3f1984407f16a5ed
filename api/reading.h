/* Handlers that read rows by key: fetch what is elsewhere, then write the answer. */
#ifndef CAIRN_API_READING_H
#define CAIRN_API_READING_H

#include <stdatomic.h>

#include "api/exchange.h"

/* In the exchange's arena. On a loop it does not block: while rows are fetched the exchange is
 * parked, so names and keys must then be the arena's or the body's (cairn_reading_keeps). */
struct cairn_reading {
    struct cairn_exchange *exchange;
    struct cairn_router_fetch *fetches; /* schema, keys and vectors are set */
    uint32_t count;
    /* Write the whole answer, visiting each fetch. Its error is answered, except for one that
     * passes when the request is read once more. */
    int (*answer)(struct cairn_exchange *exchange, struct cairn_error *err);
    /* Called once when the fetches have been ended; releases schemas. */
    void (*end)(struct cairn_exchange *exchange);
    atomic_uint pending;
};

void cairn_reading_run(struct cairn_reading *reading);
/* Whether the reading may park, so that what it needs must outlive the handler. */
bool cairn_reading_keeps(const struct cairn_exchange *exchange);
/* Move the keys to the arena if that is so. */
void cairn_reading_keep_keys(struct cairn_exchange *exchange, struct cairn_str *keys,
                             uint32_t count);

#endif
