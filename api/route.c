#include "api/route.h"

#include <stdlib.h>

#include "base/buf.h"

struct compiled {
    struct cairn_str segments[CAIRN_SEGMENTS_MAX]; /* len 0 and ptr NULL: {} */
    struct cairn_str action;                       /* len 0: none */
    struct cairn_str method;
    unsigned at;
    unsigned
        literal; /* a bit per literal segment, the first one highest: more specific is larger */
};

struct cairn_route_table {
    const struct cairn_route *routes;
    struct compiled *by_count[CAIRN_SEGMENTS_MAX + 1];
    unsigned counts[CAIRN_SEGMENTS_MAX + 1];
};

/* Split "/a/b" into its segments. 0 when it does not begin with / or has too many. */
static unsigned split(struct cairn_str path, struct cairn_str *segments)
{
    if (path.len == 0 || path.ptr[0] != '/')
        return 0;
    unsigned count = 0;
    const char *at = path.ptr + 1, *end = path.ptr + path.len;
    for (;;) {
        const char *slash = at < end ? memchr(at, '/', (size_t)(end - at)) : NULL;
        const char *stop = slash ? slash : end;
        if (count == CAIRN_SEGMENTS_MAX)
            return 0;
        segments[count++] = (struct cairn_str){at, (uint32_t)(stop - at)};
        if (!slash)
            return count;
        at = slash + 1;
    }
}

/* Cut ":action" off the end of a segment. */
static struct cairn_str cut_action(struct cairn_str *segment)
{
    const char *colon = segment->len ? memrchr(segment->ptr, ':', segment->len) : NULL;
    if (!colon)
        return (struct cairn_str){segment->ptr, 0};
    uint32_t len = (uint32_t)(colon - segment->ptr);
    struct cairn_str action = {colon + 1, segment->len - len - 1};
    segment->len = len;
    return action;
}

static bool is_wildcard(struct cairn_str segment)
{
    return segment.ptr == NULL;
}

static unsigned compile(const struct cairn_route *route, unsigned at, struct compiled *out)
{
    unsigned count = split(cairn_str_from(route->pattern), out->segments);
    if (count == 0)
        return 0;
    out->action = cut_action(&out->segments[count - 1]);
    out->method = cairn_str_from(route->method);
    out->at = at;
    out->literal = 0;
    for (unsigned i = 0; i < count; i++) {
        if (cairn_str_eq(out->segments[i], CAIRN_STR_LITERAL("{}")))
            out->segments[i] = (struct cairn_str){NULL, 0};
        else
            out->literal |= 1u << (CAIRN_SEGMENTS_MAX - i);
    }
    if (out->action.len > 0)
        out->literal |= 1u;
    return count;
}

int cairn_route_table_new(const struct cairn_route *routes, unsigned count,
                          struct cairn_route_table **out, struct cairn_error *err)
{
    struct cairn_route_table *table = cairn_calloc(1, sizeof(*table));
    table->routes = routes;
    for (unsigned i = 0; i < count; i++) {
        struct compiled one;
        unsigned segments = compile(&routes[i], i, &one);
        if (segments == 0) {
            cairn_route_table_free(&table);
            *out = NULL;
            return cairn_fail(err, CAIRN_EPARAM, "route %s: malformed pattern %s", routes[i].name,
                              routes[i].pattern);
        }
        unsigned at = table->counts[segments]++;
        table->by_count[segments] =
            cairn_realloc(table->by_count[segments], (at + 1) * sizeof(struct compiled));
        table->by_count[segments][at] = one;
    }
    *out = table;
    return 0;
}

void cairn_route_table_free(struct cairn_route_table **table)
{
    if (!*table)
        return;
    for (unsigned i = 0; i <= CAIRN_SEGMENTS_MAX; i++)
        free((*table)->by_count[i]);
    free(*table);
    *table = NULL;
}

static bool fits(const struct compiled *one, const struct cairn_str *segments, unsigned count)
{
    for (unsigned i = count; i-- > 0;) {
        struct cairn_str segment = segments[i];
        if (i + 1 == count && one->action.len > 0 &&
            !cairn_str_eq(cut_action(&segment), one->action))
            return false;
        if (is_wildcard(one->segments[i]) ? segment.len == 0
                                          : !cairn_str_eq(segment, one->segments[i]))
            return false;
    }
    return true;
}

static bool method_fits(struct cairn_str asked, struct cairn_str has)
{
    return cairn_str_eq(asked, has) || (cairn_str_eq(asked, CAIRN_STR_LITERAL("HEAD")) &&
                                        cairn_str_eq(has, CAIRN_STR_LITERAL("GET")));
}

void cairn_route_match(const struct cairn_route_table *table, struct cairn_str method,
                       struct cairn_str path, struct cairn_route_match *out)
{
    out->route = NULL;
    out->path_known = false;
    out->action = (struct cairn_str){path.ptr, 0};
    unsigned count = out->segments_count = split(path, out->segments);
    const struct compiled *best = NULL;
    for (unsigned i = 0; i < table->counts[count]; i++) {
        const struct compiled *one = &table->by_count[count][i];
        if (!fits(one, out->segments, count))
            continue;
        out->path_known = true;
        if (method_fits(method, one->method) && (!best || one->literal > best->literal))
            best = one;
    }
    if (!best)
        return;
    out->route = &table->routes[best->at];
    out->at = best->at;
    if (best->action.len > 0)
        out->action = cut_action(&out->segments[count - 1]);
}

void cairn_route_allowed(const struct cairn_route_table *table, struct cairn_str path,
                         struct cairn_buf *out)
{
    struct cairn_str segments[CAIRN_SEGMENTS_MAX];
    unsigned count = split(path, segments);
    for (unsigned i = 0; i < table->counts[count]; i++) {
        const struct compiled *one = &table->by_count[count][i];
        if (!fits(one, segments, count))
            continue;
        bool is_get = cairn_str_eq(one->method, CAIRN_STR_LITERAL("GET"));
        cairn_buf_printf(out, "%s%.*s%s", out->len > 0 ? ", " : "", CAIRN_STR_ARG(one->method),
                         is_get ? ", HEAD" : "");
    }
}
