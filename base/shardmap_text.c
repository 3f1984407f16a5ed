/* The map as JSON: members in a fixed order, those that say nothing left out. */
#include "base/shardmap.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"

static void write_id(struct cairn_json_writer *writer, const char *key, uint32_t id)
{
    char text[16];
    (void)snprintf(text, sizeof text, "s%u", id);
    cairn_json_key(writer, key);
    cairn_json_write_str(writer, cairn_str_from(text));
}

static void write_number(struct cairn_json_writer *writer, const char *key, uint64_t value)
{
    cairn_json_key(writer, key);
    cairn_json_write_u64(writer, value);
}

static void write_shard(struct cairn_json_writer *writer, const struct cairn_map_shard *shard,
                        bool planned)
{
    cairn_json_begin_object(writer);
    write_id(writer, "id", shard->id);
    cairn_json_key(writer, "weight");
    cairn_json_write_f64(writer, shard->weight);
    if (planned) {
        cairn_json_key(writer, "planned_weight");
        cairn_json_write_f64(writer, shard->planned_weight);
    }
    if (shard->url.len > 0) {
        cairn_json_key(writer, "url");
        cairn_json_write_str(writer, shard->url);
    }
    cairn_json_end_object(writer);
}

static void write_done(struct cairn_json_writer *writer, const struct cairn_map *map)
{
    cairn_json_key(writer, "moves_done");
    cairn_json_begin_array(writer);
    for (uint32_t i = 0; i < map->moves_count; i++) {
        if (!map->moves[i].done)
            continue;
        cairn_json_begin_array(writer);
        cairn_json_write_u64(writer, map->moves[i].source);
        cairn_json_write_u64(writer, map->moves[i].target);
        cairn_json_end_array(writer);
    }
    cairn_json_end_array(writer);
}

void cairn_map_encode(const struct cairn_map *map, struct cairn_buf *out)
{
    char cluster[17];
    struct cairn_json_writer writer;
    cairn_json_writer_init(&writer, out);
    (void)snprintf(cluster, sizeof cluster, "%016llx", (unsigned long long)map->cluster);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "cluster");
    cairn_json_write_str(&writer, cairn_str_from(cluster));
    write_number(&writer, "epoch", map->epoch);
    write_number(&writer, "vnodes", map->vnodes);
    write_id(&writer, "home", map->home);
    cairn_json_key(&writer, "shards");
    cairn_json_begin_array(&writer);
    for (uint32_t i = 0; i < map->shards_count; i++)
        write_shard(&writer, &map->shards[i], map->plan > 0);
    cairn_json_end_array(&writer);
    if (map->plan) {
        write_number(&writer, "plan", map->plan);
        write_done(&writer, map);
    }
    if (map->last_plan) {
        write_number(&writer, "last_plan", map->last_plan);
        cairn_json_key(&writer, "last_outcome");
        cairn_json_write_str(&writer, map->last_outcome == CAIRN_PLAN_SUCCEEDED
                                          ? CAIRN_STR_LITERAL("succeeded")
                                          : CAIRN_STR_LITERAL("aborted"));
    }
    cairn_json_end_object(&writer);
}

/* What a text has said so far. */
struct reader {
    struct cairn_map_spec spec;
    struct cairn_map_shard shards[CAIRN_SHARDS_MAX];
    struct cairn_map_move *done; /* freed by the reader's owner */
    uint32_t planned_count;      /* shards with a planned weight */
};

static bool is(struct cairn_str text, const char *word)
{
    return cairn_str_eq(text, cairn_str_from(word));
}

/* Which of the words it is; `count`: none. */
static uint32_t word_at(struct cairn_str text, const char *const *words, uint32_t count)
{
    uint32_t at = 0;
    while (at < count && !is(text, words[at]))
        at++;
    return at;
}

static bool read_number(struct cairn_json value, uint64_t min, uint64_t max, uint64_t *out)
{
    int64_t number;
    if (!cairn_json_i64(value, &number) || number < 0)
        return false;
    *out = (uint64_t)number;
    return *out >= min && *out <= max;
}

static bool read_u32(struct cairn_json value, uint32_t min, uint32_t max, uint32_t *out)
{
    uint64_t number;
    if (!read_number(value, min, max, &number))
        return false;
    *out = (uint32_t)number;
    return true;
}

static bool read_id(struct cairn_json value, uint32_t *out)
{
    struct cairn_str text;
    return cairn_json_str(value, &text) && text.len > 0 && text.ptr[0] == 's' &&
           cairn_shard_id_parse(text, out, NULL) == 0;
}

static bool read_cluster(struct cairn_json value, uint64_t *out)
{
    static const char digits[] = "0123456789abcdef";
    struct cairn_str text;
    if (!cairn_json_str(value, &text) || text.len != 16)
        return false;
    *out = 0;
    for (uint32_t i = 0; i < text.len; i++) {
        const char *digit = memchr(digits, text.ptr[i], 16);
        if (!digit)
            return false;
        *out = *out << 4 | (uint64_t)(digit - digits);
    }
    return true;
}

static bool read_shard_member(struct cairn_json value, uint32_t at, struct cairn_map_shard *out)
{
    switch (at) {
    case 0:
        return read_id(value, &out->id);
    case 1:
        return cairn_json_f64(value, &out->weight);
    case 2:
        return cairn_json_f64(value, &out->planned_weight);
    case 3:
        return cairn_json_str(value, &out->url) && out->url.len > 0;
    default:
        return false;
    }
}

static bool read_shard(struct reader *reader, struct cairn_json body, struct cairn_map_shard *out)
{
    static const char *const words[] = {"id", "weight", "planned_weight", "url"};
    struct cairn_json_iter iter;
    struct cairn_str key;
    struct cairn_json value;
    uint32_t seen = 0;
    if (!cairn_json_object(body, &iter))
        return false;
    while (cairn_json_member(&iter, &key, &value)) {
        uint32_t at = word_at(key, words, 4);
        if ((seen >> at & 1) || !read_shard_member(value, at, out))
            return false;
        seen |= 1u << at;
    }
    reader->planned_count += seen >> 2 & 1;
    return (seen & 3) == 3;
}

static bool read_shards(struct reader *reader, struct cairn_json body)
{
    struct cairn_json_iter iter;
    struct cairn_json value;
    size_t count;
    if (!cairn_json_array(body, &iter, &count) || count > CAIRN_SHARDS_MAX)
        return false;
    for (uint32_t i = 0; cairn_json_element(&iter, &value); i++)
        if (!read_shard(reader, value, &reader->shards[i]))
            return false;
    reader->spec.shards_count = (uint32_t)count;
    return true;
}

static bool read_move(struct cairn_json body, struct cairn_map_move *out)
{
    struct cairn_json_iter iter;
    struct cairn_json source, target;
    size_t count;
    return cairn_json_array(body, &iter, &count) && count == 2 &&
           cairn_json_element(&iter, &source) && cairn_json_element(&iter, &target) &&
           read_u32(source, 0, CAIRN_SHARDS_MAX - 1, &out->source) &&
           read_u32(target, 0, CAIRN_SHARDS_MAX - 1, &out->target);
}

static bool read_done(struct reader *reader, struct cairn_json body)
{
    struct cairn_json_iter iter;
    struct cairn_json value;
    size_t count;
    if (!cairn_json_array(body, &iter, &count) || count > CAIRN_SHARDS_MAX * CAIRN_SHARDS_MAX)
        return false;
    reader->done = cairn_calloc(count + 1, sizeof(*reader->done));
    reader->spec.done = reader->done;
    reader->spec.done_count = (uint32_t)count;
    for (uint32_t i = 0; cairn_json_element(&iter, &value); i++)
        if (!read_move(value, &reader->done[i]))
            return false;
    return true;
}

static bool read_outcome(struct cairn_json value, enum cairn_plan_outcome *out)
{
    struct cairn_str text;
    if (!cairn_json_str(value, &text))
        return false;
    *out = is(text, "succeeded") ? CAIRN_PLAN_SUCCEEDED
           : is(text, "aborted") ? CAIRN_PLAN_ABORTED
                                 : CAIRN_PLAN_NONE;
    return *out != CAIRN_PLAN_NONE;
}

/* The first five must be there. */
static const char *const members[] = {"cluster", "epoch",      "vnodes",    "home",        "shards",
                                      "plan",    "moves_done", "last_plan", "last_outcome"};
enum { MEMBERS = 9, MEMBERS_REQUIRED = 0x1F };

static bool read_member(struct reader *reader, uint32_t at, struct cairn_json value)
{
    struct cairn_map_spec *spec = &reader->spec;
    switch (at) {
    case 0:
        return read_cluster(value, &spec->cluster);
    case 1:
        return read_number(value, 1, INT64_MAX, &spec->epoch);
    case 2:
        return read_u32(value, 1, CAIRN_VNODES_MAX, &spec->vnodes);
    case 3:
        return read_id(value, &spec->home);
    case 4:
        return read_shards(reader, value);
    case 5:
        return read_number(value, 1, INT64_MAX, &spec->plan);
    case 6:
        return read_done(reader, value);
    case 7:
        return read_number(value, 1, INT64_MAX, &spec->last_plan);
    case 8:
        return read_outcome(value, &spec->last_outcome);
    default:
        return false;
    }
}

static int read_map(struct reader *reader, struct cairn_json root, struct cairn_error *err)
{
    struct cairn_json_iter iter;
    struct cairn_str key;
    struct cairn_json value;
    uint32_t seen = 0;
    if (!cairn_json_object(root, &iter))
        return cairn_fail(err, CAIRN_EPARAM, "it is no object");
    while (cairn_json_member(&iter, &key, &value)) {
        uint32_t at = word_at(key, members, MEMBERS);
        if ((seen >> at & 1) || !read_member(reader, at, value))
            return cairn_fail(err, CAIRN_EPARAM, "%.*s: unknown, repeated or a bad value",
                              CAIRN_STR_ARG(key));
        seen |= 1u << at;
    }
    for (uint32_t at = 0; at < MEMBERS; at++)
        if ((MEMBERS_REQUIRED >> at & 1) && !(seen >> at & 1))
            return cairn_fail(err, CAIRN_EPARAM, "%s is missing", members[at]);
    if (reader->planned_count != (reader->spec.plan ? reader->spec.shards_count : 0))
        return cairn_fail(err, CAIRN_EPARAM,
                          "planned_weight: every shard must have one with a plan, none without");
    return 0;
}

/* Done moves that the plan does not have, or names twice, would be lost without a word. */
static int check_done(const struct cairn_map *map, uint32_t done_count, struct cairn_error *err)
{
    uint32_t done = 0;
    for (uint32_t i = 0; i < map->moves_count; i++)
        done += map->moves[i].done;
    if (done == done_count)
        return 0;
    return cairn_fail(err, CAIRN_EPARAM, "moves_done: %u of the %u moves are none of the plan",
                      done_count - done, done_count);
}

int cairn_map_decode(struct cairn_str text, const struct cairn_map **out, struct cairn_error *err)
{
    *out = NULL;
    if (text.len > CAIRN_MAP_BYTES_MAX)
        return cairn_fail(err, CAIRN_ECORRUPT, "a shard map's text: %u bytes, the most is %u",
                          text.len, CAIRN_MAP_BYTES_MAX);
    struct cairn_error local = {0};
    struct cairn_json root;
    struct cairn_json_parser *parser = cairn_json_parser_new();
    struct reader *reader = cairn_calloc(1, sizeof(*reader));
    reader->spec.shards = reader->shards;
    int code = cairn_json_parse(parser, text, &root, &local);
    if (code == 0)
        code = read_map(reader, root, &local);
    if (code == 0)
        code = cairn_map_new(&reader->spec, out, &local);
    if (code == 0)
        code = check_done(*out, reader->spec.done_count, &local);
    cairn_json_parser_free(&parser);
    free(reader->done);
    free(reader);
    if (code == 0)
        return 0;
    cairn_map_unref(*out);
    *out = NULL;
    return cairn_fail(err, CAIRN_ECORRUPT, "a shard map's text: %s", local.message);
}

int cairn_shard_id_parse(struct cairn_str text, uint32_t *out, struct cairn_error *err)
{
    struct cairn_str digits = text;
    if (digits.len > 0 && digits.ptr[0] == 's')
        digits = (struct cairn_str){text.ptr + 1, text.len - 1};
    uint32_t id = 0;
    bool good = digits.len >= 1 && digits.len <= 9 && (digits.len == 1 || digits.ptr[0] != '0');
    for (uint32_t i = 0; good && i < digits.len; i++) {
        good = digits.ptr[i] >= '0' && digits.ptr[i] <= '9';
        id = id * 10 + (uint32_t)(digits.ptr[i] - '0');
    }
    if (!good || id >= CAIRN_SHARDS_MAX)
        return cairn_fail(err, CAIRN_EPARAM, "a shard is named s0 to s%u, or by the number alone",
                          CAIRN_SHARDS_MAX - 1);
    *out = id;
    return 0;
}
