#include "base/shardmap_private.h"

#include <math.h>
#include <stdlib.h>

static int by_id(const void *left, const void *right)
{
    const struct cairn_map_shard *a = left, *b = right;
    return (a->id > b->id) - (a->id < b->id);
}

static bool host_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
}

/* The length of a name, an IPv4 address or an IPv6 address in brackets; 0: none of them. */
static uint32_t host_len(struct cairn_str text)
{
    uint32_t len = 0;
    if (text.len > 0 && text.ptr[0] == '[') {
        for (len = 1; len < text.len && text.ptr[len] != ']'; len++)
            if (!host_byte(text.ptr[len]) && text.ptr[len] != ':')
                return 0;
        return len > 1 && len < text.len ? len + 1 : 0;
    }
    while (len < text.len && host_byte(text.ptr[len]))
        len++;
    return len;
}

static bool is_port(struct cairn_str text)
{
    uint32_t port = 0;
    if (text.len == 0 || text.len > 5)
        return false;
    for (uint32_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        port = port * 10 + (uint32_t)(text.ptr[i] - '0');
    }
    return port >= 1 && port <= UINT16_MAX;
}

static struct cairn_str after(struct cairn_str text, uint32_t len)
{
    return (struct cairn_str){text.ptr + len, text.len - len};
}

static bool is_url(struct cairn_str url)
{
    static const struct cairn_str schemes[] = {{"http://", 7}, {"https://", 8}};
    if (url.len > CAIRN_URL_BYTES_MAX)
        return false;
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (url.len < schemes[i].len || memcmp(url.ptr, schemes[i].ptr, schemes[i].len) != 0)
            continue;
        struct cairn_str rest = after(url, schemes[i].len);
        uint32_t host = host_len(rest);
        return host > 0 && host < rest.len && rest.ptr[host] == ':' &&
               is_port(after(rest, host + 1));
    }
    return false;
}

static bool is_weight(double weight)
{
    return weight >= 0 && weight <= CAIRN_SHARD_WEIGHT_MAX;
}

static int check_shard(const struct cairn_map_shard *shard, struct cairn_error *err)
{
    if (shard->id >= CAIRN_SHARDS_MAX)
        return cairn_fail(err, CAIRN_EPARAM, "shard s%u: ids are below %u", shard->id,
                          CAIRN_SHARDS_MAX);
    if (!is_weight(shard->weight))
        return cairn_fail(err, CAIRN_EPARAM, "shard s%u: weight %g is not in 0 to %u", shard->id,
                          shard->weight, CAIRN_SHARD_WEIGHT_MAX);
    if (!is_weight(shard->planned_weight))
        return cairn_fail(err, CAIRN_EPARAM, "shard s%u: planned weight %g is not in 0 to %u",
                          shard->id, shard->planned_weight, CAIRN_SHARD_WEIGHT_MAX);
    if (shard->url.len > 0 && !is_url(shard->url))
        return cairn_fail(err, CAIRN_EPARAM,
                          "shard s%u: the URL must be http://host:port or https://host:port, of at "
                          "most %u bytes",
                          shard->id, CAIRN_URL_BYTES_MAX);
    return 0;
}

static int copy_shards(struct cairn_map_box *box, const struct cairn_map_spec *spec,
                       struct cairn_error *err)
{
    if (spec->shards_count == 0 || spec->shards_count > CAIRN_SHARDS_MAX)
        return cairn_fail(err, CAIRN_EPARAM, "a map of %u shards: it must have 1 to %u",
                          spec->shards_count, CAIRN_SHARDS_MAX);
    struct cairn_map_shard *shards =
        cairn_arena_alloc(&box->arena, spec->shards_count * sizeof(*shards));
    memcpy(shards, spec->shards, spec->shards_count * sizeof(*shards));
    qsort(shards, spec->shards_count, sizeof(*shards), by_id);
    for (uint32_t i = 0; i < spec->shards_count; i++) {
        struct cairn_map_shard *shard = &shards[i];
        if (spec->plan == 0)
            shard->planned_weight = shard->weight;
        int code = check_shard(shard, err);
        if (code != 0)
            return code;
        if (i > 0 && shards[i - 1].id == shard->id)
            return cairn_fail(err, CAIRN_EPARAM, "shard s%u stands twice in the map", shard->id);
        shard->url = cairn_arena_dup(&box->arena, shard->url);
        /* -0 and 0 are one weight and must have one text. */
        shard->weight += 0.0;
        shard->planned_weight += 0.0;
    }
    box->map.shards = shards;
    box->map.shards_count = spec->shards_count;
    if (!cairn_map_shard(&box->map, spec->home))
        return cairn_fail(err, CAIRN_EPARAM, "home: the map has no shard s%u", spec->home);
    return 0;
}

static int check_numbers(const struct cairn_map_spec *spec, struct cairn_error *err)
{
    /* Numbers in JSON are int64. */
    if (spec->epoch == 0 || spec->epoch > INT64_MAX)
        return cairn_fail(err, CAIRN_EPARAM, "epoch: must be 1 to 2^63 - 1");
    if (spec->vnodes > CAIRN_VNODES_MAX)
        return cairn_fail(err, CAIRN_EPARAM, "vnodes: %u is over the limit of %u", spec->vnodes,
                          CAIRN_VNODES_MAX);
    if (spec->plan > spec->epoch)
        return cairn_fail(err, CAIRN_EPARAM, "plan: made at an epoch after the map's");
    if (spec->last_plan >= (spec->plan ? spec->plan : spec->epoch))
        return cairn_fail(err, CAIRN_EPARAM, "last_plan: must be before the plan and the epoch");
    bool outcome =
        spec->last_outcome == CAIRN_PLAN_SUCCEEDED || spec->last_outcome == CAIRN_PLAN_ABORTED;
    if ((!outcome && spec->last_outcome != CAIRN_PLAN_NONE) || outcome != (spec->last_plan > 0))
        return cairn_fail(err, CAIRN_EPARAM,
                          "last_outcome: succeeded or aborted with a last_plan, none without");
    return 0;
}

static uint32_t points_of(double weight, uint32_t vnodes)
{
    if (weight == 0)
        return 0;
    double points = round(weight * vnodes);
    return points < 1 ? 1 : (uint32_t)points;
}

static struct cairn_map_ring *ring_of_kin(const struct cairn_map *kin,
                                          const struct cairn_map_ring_member *members,
                                          uint32_t count)
{
    const struct cairn_map_box *box = (const struct cairn_map_box *)kin;
    if (box && cairn_map_ring_is_of(box->now, members, count))
        return cairn_map_ring_ref(box->now);
    if (box && box->planned && cairn_map_ring_is_of(box->planned, members, count))
        return cairn_map_ring_ref(box->planned);
    return NULL;
}

static int make_ring(const struct cairn_map *map, bool planned, const struct cairn_map *kin,
                     struct cairn_map_ring **out, struct cairn_error *err)
{
    const char *what = planned ? "planned weight" : "weight";
    struct cairn_map_ring_member members[CAIRN_SHARDS_MAX];
    uint32_t count = 0;
    uint64_t total = 0;
    for (uint32_t i = 0; i < map->shards_count; i++) {
        const struct cairn_map_shard *shard = &map->shards[i];
        uint32_t points = points_of(planned ? shard->planned_weight : shard->weight, map->vnodes);
        total += points;
        if (total > CAIRN_RING_POINTS_MAX)
            return cairn_fail(err, CAIRN_EPARAM,
                              "shard s%u: its %s brings the sum of weight times %u vnodes over the "
                              "limit of %u points; give lower weights",
                              shard->id, what, map->vnodes, CAIRN_RING_POINTS_MAX);
        if (points > 0)
            members[count++] = (struct cairn_map_ring_member){.shard = shard->id, .points = points};
    }
    if (count == 0)
        return cairn_fail(err, CAIRN_EPARAM, "a map needs a shard with a %s above 0", what);
    *out = ring_of_kin(kin, members, count);
    if (!*out)
        *out = cairn_map_ring_new(members, count);
    return 0;
}

/* The index of the move, or moves_count. */
static uint32_t move_at(const struct cairn_map *map, uint32_t source, uint32_t target)
{
    uint32_t low = 0, high = map->moves_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct cairn_map_move *move = &map->moves[middle];
        if (move->source == source && move->target == target)
            return middle;
        if (move->source < source || (move->source == source && move->target < target))
            low = middle + 1;
        else
            high = middle;
    }
    return map->moves_count;
}

/* List what lies off the diagonal of the shards_count rows of shards_count numbers. */
static struct cairn_map_move *list_moves(struct cairn_map_box *box, const unsigned __int128 *tokens)
{
    const struct cairn_map_shard *shards = box->map.shards;
    uint32_t width = box->map.shards_count, count = 0;
    for (uint32_t i = 0; i < width * width; i++)
        count += tokens[i] > 0 && i / width != i % width;
    struct cairn_map_move *moves = cairn_arena_zalloc(&box->arena, count * sizeof(*moves));
    count = 0;
    for (uint32_t i = 0; i < width * width; i++)
        if (tokens[i] > 0 && i / width != i % width)
            moves[count++] = (struct cairn_map_move){.source = shards[i / width].id,
                                                     .target = shards[i % width].id};
    box->map.moves = moves;
    box->map.moves_count = count;
    return moves;
}

/* Moves and shares follow from how the two rings overlap. */
static void find_moves(struct cairn_map_box *box, const struct cairn_map_spec *spec)
{
    struct cairn_map *map = &box->map;
    uint32_t places[CAIRN_SHARDS_MAX] = {0}, width = map->shards_count;
    unsigned __int128 owned[CAIRN_SHARDS_MAX] = {0};
    unsigned __int128 *tokens = cairn_calloc((size_t)width * width, sizeof(*tokens));
    for (uint32_t i = 0; i < width; i++)
        places[map->shards[i].id] = i;
    cairn_map_ring_overlap(box->now, box->planned ? box->planned : box->now, places, width, tokens);
    struct cairn_map_move *moves = list_moves(box, tokens);
    for (uint32_t i = 0; i < spec->done_count; i++) {
        uint32_t at = move_at(map, spec->done[i].source, spec->done[i].target);
        if (at < map->moves_count)
            moves[at].done = true;
    }
    for (uint32_t i = 0; i < width; i++)
        owned[i] = tokens[i * width + i];
    for (uint32_t i = 0; i < map->moves_count; i++) {
        uint32_t source = places[moves[i].source], target = places[moves[i].target];
        owned[moves[i].done ? target : source] += tokens[source * width + target];
    }
    double *shares = cairn_arena_alloc(&box->arena, width * sizeof(*shares));
    for (uint32_t i = 0; i < width; i++)
        shares[i] = ldexp((double)owned[i], -64);
    box->shares = shares;
    free(tokens);
}

int cairn_map_make(const struct cairn_map_spec *spec, const struct cairn_map *kin,
                   const struct cairn_map **out, struct cairn_error *err)
{
    *out = NULL;
    int code = check_numbers(spec, err);
    if (code != 0)
        return code;
    struct cairn_map_box *box = cairn_calloc(1, sizeof(*box));
    atomic_init(&box->references, 1);
    box->map.cluster = spec->cluster;
    box->map.epoch = spec->epoch;
    box->map.vnodes = spec->vnodes ? spec->vnodes : CAIRN_VNODES_DEFAULT;
    box->map.home = spec->home;
    box->map.plan = spec->plan;
    box->map.last_plan = spec->last_plan;
    box->map.last_outcome = spec->last_outcome;
    code = copy_shards(box, spec, err);
    if (code == 0)
        code = make_ring(&box->map, false, kin, &box->now, err);
    if (code == 0 && spec->plan)
        code = make_ring(&box->map, true, kin, &box->planned, err);
    if (code != 0) {
        cairn_map_unref(&box->map);
        return code;
    }
    find_moves(box, spec);
    *out = &box->map;
    return 0;
}

int cairn_map_new(const struct cairn_map_spec *spec, const struct cairn_map **out,
                  struct cairn_error *err)
{
    return cairn_map_make(spec, NULL, out, err);
}

const struct cairn_map *cairn_map_ref(const struct cairn_map *map)
{
    struct cairn_map_box *box = (struct cairn_map_box *)map;
    atomic_fetch_add_explicit(&box->references, 1, memory_order_relaxed);
    return map;
}

void cairn_map_unref(const struct cairn_map *map)
{
    struct cairn_map_box *box = (struct cairn_map_box *)map;
    if (!box || atomic_fetch_sub_explicit(&box->references, 1, memory_order_acq_rel) != 1)
        return;
    cairn_map_ring_unref(box->now);
    cairn_map_ring_unref(box->planned);
    cairn_arena_release(&box->arena);
    free(box);
}

/* The owners now and in the planned ring; the same without a plan. */
struct owners {
    uint32_t now, planned;
};

static struct owners owners_of(const struct cairn_map *map, uint64_t token)
{
    const struct cairn_map_box *box = (const struct cairn_map_box *)map;
    uint32_t now = cairn_map_ring_owner(box->now, token);
    return (struct owners){now, box->planned ? cairn_map_ring_owner(box->planned, token) : now};
}

uint32_t cairn_map_owner(const struct cairn_map *map, uint64_t token)
{
    struct owners owners = owners_of(map, token);
    if (owners.now == owners.planned)
        return owners.now;
    return map->moves[move_at(map, owners.now, owners.planned)].done ? owners.planned : owners.now;
}

bool cairn_map_is_moving(const struct cairn_map *map, uint64_t token, uint32_t source,
                         uint32_t target)
{
    struct owners owners = owners_of(map, token);
    return source != target && owners.now == source && owners.planned == target;
}

const struct cairn_map_move *cairn_map_move_of(const struct cairn_map *map, uint64_t token)
{
    struct owners owners = owners_of(map, token);
    return owners.now == owners.planned ? NULL : cairn_map_move(map, owners.now, owners.planned);
}

const struct cairn_map_move *cairn_map_move(const struct cairn_map *map, uint32_t source,
                                            uint32_t target)
{
    uint32_t at = move_at(map, source, target);
    return at < map->moves_count ? &map->moves[at] : NULL;
}

const struct cairn_map_shard *cairn_map_shard(const struct cairn_map *map, uint32_t id)
{
    const struct cairn_map_shard key = {.id = id};
    return bsearch(&key, map->shards, map->shards_count, sizeof(key), by_id);
}

double cairn_map_share(const struct cairn_map *map, uint32_t id)
{
    const struct cairn_map_box *box = (const struct cairn_map_box *)map;
    const struct cairn_map_shard *shard = cairn_map_shard(map, id);
    return shard ? box->shares[shard - map->shards] : 0;
}
