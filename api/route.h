/* Finding the route of a path. Immutable; any number of threads. */
#ifndef CAIRN_API_ROUTE_H
#define CAIRN_API_ROUTE_H

#include "api/exchange.h"

struct cairn_route_table;

struct cairn_route_match {
    const struct cairn_route *route; /* NULL: none */
    unsigned at;                     /* its place in the array */
    bool path_known;                 /* without a route: the path has one for another method */
    struct cairn_str segments[CAIRN_SEGMENTS_MAX]; /* as sent, the action cut off */
    unsigned segments_count;
    struct cairn_str action;
};

/* `routes` must outlive the table. CAIRN_EPARAM for a pattern that is malformed. */
int cairn_route_table_new(const struct cairn_route *routes, unsigned count,
                          struct cairn_route_table **out, struct cairn_error *err);
void cairn_route_table_free(struct cairn_route_table **table);

/* Literal segments win over {}, from the left. HEAD finds the route of GET. */
void cairn_route_match(const struct cairn_route_table *table, struct cairn_str method,
                       struct cairn_str path, struct cairn_route_match *out);
/* The methods of a path, for Allow: "GET, HEAD, POST". */
void cairn_route_allowed(const struct cairn_route_table *table, struct cairn_str path,
                         struct cairn_buf *out);

#endif
