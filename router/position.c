/* Positions: text form, merging, comparing. */
#include <stdio.h>

#include "base/time.h"
#include "router/internal.h"

void cairn_position_touch(struct cairn_position *position, uint32_t shard, uint64_t offset)
{
    for (uint32_t i = 0; i < position->count; i++)
        if (position->at[i].shard == shard) {
            if (position->at[i].offset < offset)
                position->at[i].offset = offset;
            return;
        }
    if (position->count == CAIRN_SHARDS_MAX)
        return;
    position->at[position->count].shard = shard;
    position->at[position->count++].offset = offset;
}

static unsigned put_number(char *out, uint64_t number)
{
    char digits[20];
    unsigned count = 0, at = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    while (count > 0)
        out[at++] = digits[--count];
    return at;
}

unsigned cairn_position_format(const struct cairn_position *position, char *out)
{
    unsigned at = put_number(out, position->epoch);
    out[at++] = ';';
    for (uint32_t i = 0; i < position->count; i++) {
        if (i > 0)
            out[at++] = ',';
        out[at++] = 's';
        at += put_number(out + at, position->at[i].shard);
        out[at++] = '=';
        at += put_number(out + at, position->at[i].offset);
    }
    out[at] = '\0';
    return at;
}

/* A decimal number; false when there is none or it overflows. */
static bool take_number(struct cairn_str *text, uint64_t *out)
{
    uint64_t number = 0;
    uint32_t digits = 0;
    for (; digits < text->len && text->ptr[digits] >= '0' && text->ptr[digits] <= '9'; digits++) {
        uint64_t digit = (uint64_t)(text->ptr[digits] - '0');
        if (number > (UINT64_MAX - digit) / 10)
            return false;
        number = number * 10 + digit;
    }
    text->ptr += digits;
    text->len -= digits;
    *out = number;
    return digits > 0;
}

static bool take(struct cairn_str *text, char expected)
{
    if (text->len == 0 || text->ptr[0] != expected)
        return false;
    text->ptr++;
    text->len--;
    return true;
}

int cairn_position_parse_merge(struct cairn_str text, struct cairn_position *into,
                               struct cairn_error *err)
{
    struct cairn_str rest = text;
    uint64_t epoch, shard, offset;
    if (!take_number(&rest, &epoch) || !take(&rest, ';'))
        goto bad;
    struct cairn_position merged = *into;
    if (epoch > merged.epoch)
        merged.epoch = epoch;
    while (rest.len > 0) {
        if (!take(&rest, 's') || !take_number(&rest, &shard) || !take(&rest, '=') ||
            !take_number(&rest, &offset))
            goto bad;
        if (shard >= CAIRN_SHARDS_MAX)
            return cairn_fail(err, CAIRN_EPARAM, "Cairn-Min-Position: there is no shard s%llu",
                              (unsigned long long)shard);
        cairn_position_touch(&merged, (uint32_t)shard, offset);
        if (rest.len > 0 && (!take(&rest, ',') || rest.len == 0))
            goto bad;
    }
    *into = merged;
    return 0;
bad:
    return cairn_fail(err, CAIRN_EPARAM,
                      "Cairn-Min-Position: \"%.*s\" is not of the form EPOCH;s0=OFFSET,s1=OFFSET",
                      text.len > 100 ? 100 : (int)text.len, text.ptr);
}

/* News of a shard elsewhere are asked for, once at a time. */
static int fail_behind(struct cairn_router *router, struct router_member *member, uint64_t applied,
                       uint64_t asked, struct cairn_error *err)
{
    if (member->local == NULL && !atomic_exchange(&member->report_asked, true))
        router_watch_wake(router);
    return cairn_fail(err, CAIRN_EPOSITION,
                      "shard s%u is at offset %llu and the request asks for %llu", member->id,
                      (unsigned long long)applied, (unsigned long long)asked);
}

static int reached(struct cairn_router *router, const struct cairn_map *map,
                   const struct cairn_position *position, struct cairn_error *err)
{
    if (position->epoch > map->epoch) {
        router_ask_reports(router);
        return cairn_fail(err, CAIRN_EPOSITION,
                          "the shard map known is of epoch %llu and the request asks for %llu",
                          (unsigned long long)map->epoch, (unsigned long long)position->epoch);
    }
    for (uint32_t i = 0; i < position->count; i++) {
        struct router_member *member = router_member(router, position->at[i].shard);
        if (member == NULL || (member->local == NULL && cairn_map_shard(map, member->id) == NULL))
            continue;
        uint64_t applied = router_applied(member);
        if (applied < position->at[i].offset)
            return fail_behind(router, member, applied, position->at[i].offset, err);
    }
    return 0;
}

int cairn_router_reached(struct cairn_router *router, const struct cairn_position *position,
                         struct cairn_error *err)
{
    const struct cairn_map *map;
    int code = router_map_need(router, &map, err);
    if (code == 0)
        code = reached(router, map, position, err);
    cairn_map_unref(map);
    return code;
}
