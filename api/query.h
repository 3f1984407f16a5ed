/* Percent-encoding and query strings. Pure functions. */
#ifndef CAIRN_API_QUERY_H
#define CAIRN_API_QUERY_H

#include "api/exchange.h"

/* Decode %XX into the arena (or hand out `text` itself when there is none); with `plus`, + is a
 * space. CAIRN_EPARAM when an escape is malformed. */
int cairn_percent_decode(struct cairn_str text, bool plus, struct cairn_arena *arena,
                         struct cairn_str *out, struct cairn_error *err);

#endif
