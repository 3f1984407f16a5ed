/* Keyed reads.
 *
 * While all shards are in this process a fetch does nothing, and rows are visited where the store
 * has them. Otherwise every key has a slot, which goes
 *
 *   wanted    from its owner, by the newest map known
 *   missed    the owner has no such row: it may have a route of its own, so the others are asked,
 *             all under one epoch
 *   settled   found, or nowhere
 *
 * in rounds: what is here is read at once and pinned, each shard elsewhere gets one call a round.
 * A shard that is no more (or not yet) the owner says so; the keys are then wanted again under the
 * newer map. What cannot go on without waiting has stalled: the caller reads again where it may
 * block. */
#include <stdlib.h>

#include "base/hash.h"
#include "router/internal.h"

#define ROUNDS_MAX    6u
#define STALLS_MAX    16u
#define UNREACHED_MAX 3u

enum slot_state { SLOT_WANTED, SLOT_MISSED, SLOT_SETTLED };

struct fetch_slot {
    enum slot_state state;
    uint32_t shard;
    struct cairn_row_pin pin;          /* of a row here */
    const struct cairn_shard_row *row; /* of one elsewhere; NULL: not there */
};

/* A call to one shard. */
struct fetch_part {
    struct fetch_part *next;
    struct router_remote remote;
    struct router_fetch *fetch;
    uint32_t *slots;
    struct cairn_str *keys;
    uint32_t count, capacity;
    bool probe, taken;
};

struct router_fetch {
    struct cairn_router *router;
    struct cairn_router_fetch *outer;
    const struct cairn_map *map; /* a reference; NULL only with an error */
    bool plain;                  /* all is here: rows are read when they are visited */
    bool asked_others;           /* for the keys that are missed now */
    bool stalled;
    bool unreached; /* it stalled because a shard could not be reached */
    unsigned rounds, stalls, unreached_count;
    struct cairn_error error;
    struct fetch_slot *slots;
    struct fetch_part *parts; /* of all rounds: rows point into their answers */
    struct cairn_position touched;
    atomic_uint pending;
};

static struct cairn_shard_read keyed_read(const struct router_fetch *fetch, bool probe)
{
    return (struct cairn_shard_read){
        .schema = fetch->outer->schema, .epoch = fetch->map->epoch, .same_epoch = probe};
}

static void part_done(struct router_remote *remote)
{
    struct router_fetch *fetch = remote->context;
    if (atomic_fetch_sub(&fetch->pending, 1) == 1)
        fetch->outer->done(fetch->outer);
}

static struct fetch_part *part_of(struct router_fetch *fetch, uint32_t shard, bool probe)
{
    struct cairn_arena *arena = fetch->outer->arena;
    for (struct fetch_part *part = fetch->parts; part != NULL; part = part->next)
        if (!part->taken && part->remote.shard == shard && part->probe == probe)
            return part;
    struct fetch_part *part = cairn_arena_zalloc(arena, sizeof *part);
    part->fetch = fetch;
    part->probe = probe;
    part->next = fetch->parts;
    fetch->parts = part;
    router_remote_init(&part->remote, fetch->router, router_member(fetch->router, shard),
                       CAIRN_SHARD_GET, part_done, fetch);
    return part;
}

static void grow(struct fetch_part *part, struct cairn_arena *arena)
{
    part->capacity = part->capacity == 0 ? 4 : part->capacity * 2;
    uint32_t *slots = cairn_arena_alloc(arena, part->capacity * sizeof *slots);
    struct cairn_str *keys = cairn_arena_alloc(arena, part->capacity * sizeof *keys);
    if (part->count > 0) {
        memcpy(slots, part->slots, part->count * sizeof *slots);
        memcpy(keys, part->keys, part->count * sizeof *keys);
    }
    part->slots = slots;
    part->keys = keys;
}

static void add_key(struct router_fetch *fetch, uint32_t shard, bool probe, uint32_t at)
{
    struct fetch_part *part = part_of(fetch, shard, probe);
    if (part->count == part->capacity)
        grow(part, fetch->outer->arena);
    part->slots[part->count] = at;
    part->keys[part->count++] = fetch->outer->keys[at];
}

/* Read a key here. Returns what cairn_shard_get does. */
static int read_here(struct router_fetch *fetch, struct cairn_shard *shard, uint32_t id, bool probe,
                     uint32_t at)
{
    struct fetch_slot *slot = &fetch->slots[at];
    struct cairn_shard_read read = keyed_read(fetch, probe);
    cairn_position_touch(&fetch->touched, id, cairn_shard_applied(shard));
    int code = cairn_shard_get(shard, &read, fetch->outer->keys[at], &slot->pin, &fetch->error);
    if (code == CAIRN_ENOTOWNER) {
        const struct cairn_map *map = cairn_shard_map(shard);
        if (map != NULL)
            router_learn(fetch->router, map);
        cairn_map_unref(map);
        fetch->error.code = 0;
        return code;
    }
    if (code != 0)
        return code;
    if (slot->pin.found) {
        slot->state = SLOT_SETTLED;
        slot->shard = id;
    } else {
        cairn_row_pin_release(&slot->pin);
        slot->pin = (struct cairn_row_pin){0};
    }
    return 0;
}

/* Ask the owners of all wanted keys. False: a local one is not the owner. */
static bool ask_owners(struct router_fetch *fetch)
{
    bool owned = true;
    for (uint32_t i = 0; i < fetch->outer->count && fetch->error.code == 0; i++) {
        struct fetch_slot *slot = &fetch->slots[i];
        if (slot->state != SLOT_WANTED)
            continue;
        slot->shard = cairn_map_owner(
            fetch->map, cairn_token(fetch->outer->schema->name, fetch->outer->keys[i]));
        struct router_member *member = router_member(fetch->router, slot->shard);
        if (member->local == NULL)
            add_key(fetch, slot->shard, false, i);
        else if (read_here(fetch, member->local, slot->shard, false, i) == CAIRN_ENOTOWNER)
            owned = false;
        else if (slot->state == SLOT_WANTED)
            slot->state = SLOT_MISSED;
    }
    return owned;
}

/* Ask all shards that may have rows with a route of their own for the missed keys. A shard here
 * says so itself; what others reported last may be too old to go by.
 *
 * The owner of the key is among them: it missed the key under whatever map it goes by. A row that
 * moves from or to it could otherwise be missed twice, there under one epoch and at the other shard
 * under the one before or after; one that owns everything by now may not know it yet. */
static bool ask_others(struct router_fetch *fetch)
{
    const struct cairn_map *map = fetch->map;
    fetch->asked_others = true;
    for (uint32_t i = 0; i < fetch->outer->count && fetch->error.code == 0; i++) {
        struct fetch_slot *slot = &fetch->slots[i];
        for (uint32_t s = 0; s < map->shards_count && slot->state == SLOT_MISSED; s++) {
            struct cairn_collection_counts counts;
            uint32_t id = map->shards[s].id;
            struct router_member *member = router_member(fetch->router, id);
            if (!router_owns(map, &map->shards[s]))
                continue;
            if (member->local == NULL) {
                add_key(fetch, id, true, i);
                continue;
            }
            cairn_shard_counts(member->local, fetch->outer->schema->id, &counts);
            if (counts.routed > 0 &&
                read_here(fetch, member->local, id, true, i) == CAIRN_ENOTOWNER)
                return false;
        }
    }
    return true;
}

/* Everything that is not settled is wanted again. */
static void want_again(struct router_fetch *fetch)
{
    fetch->asked_others = false;
    for (uint32_t i = 0; i < fetch->outer->count; i++)
        if (fetch->slots[i].state == SLOT_MISSED)
            fetch->slots[i].state = SLOT_WANTED;
}

static void take_rows(struct router_fetch *fetch, struct fetch_part *part,
                      const struct cairn_shard_answer *answer)
{
    if (answer->rows_count != part->count) {
        fetch->error.code = cairn_fail(&fetch->error, CAIRN_EUNAVAILABLE,
                                       "shard s%u answered with %u rows for %u keys",
                                       part->remote.shard, answer->rows_count, part->count);
        return;
    }
    cairn_position_touch(&fetch->touched, part->remote.shard, answer->applied);
    for (uint32_t i = 0; i < part->count; i++) {
        struct fetch_slot *slot = &fetch->slots[part->slots[i]];
        if (slot->state == SLOT_SETTLED)
            continue;
        if (answer->rows[i].found) {
            slot->row = &answer->rows[i];
            slot->shard = part->remote.shard;
            slot->state = SLOT_SETTLED;
        } else if (!part->probe) {
            slot->state = SLOT_MISSED;
        }
    }
}

/* Open the answers of the round. False: some shard goes by another map. */
static bool collect(struct router_fetch *fetch)
{
    bool owned = true;
    for (struct fetch_part *part = fetch->parts; part != NULL; part = part->next) {
        struct cairn_shard_answer answer;
        if (part->taken)
            continue;
        part->taken = true;
        int code = router_remote_take(&part->remote, fetch->outer->arena, &answer);
        if (code == 0) {
            take_rows(fetch, part, &answer);
        } else if (code == CAIRN_ENOTOWNER) {
            owned = false;
        } else if (code == CAIRN_EUNAVAILABLE && !router_member_down(part->remote.member)) {
            fetch->unreached = true;
            fetch->error = answer.error;
        } else if (fetch->error.code == 0 || fetch->unreached) {
            fetch->error = answer.error;
            fetch->unreached = false;
            if (code == CAIRN_ETOOLARGE)
                cairn_fail(&fetch->error, code,
                           "the answer would be over %u MiB; ask for fewer entities or features",
                           CAIRN_ANSWER_BYTES_MAX >> 20);
        }
    }
    return owned;
}

static void follow_map(struct router_fetch *fetch)
{
    cairn_map_unref(fetch->map);
    fetch->map = router_map(fetch->router);
}

/* Another map is in force somewhere: go on under it when it is known, else stall. */
static void meet_map(struct router_fetch *fetch)
{
    uint64_t before = fetch->map->epoch;
    want_again(fetch);
    if (atomic_load(&fetch->router->epoch) > before && ++fetch->rounds < ROUNDS_MAX)
        follow_map(fetch);
    else
        fetch->stalled = true;
}

/* Start the calls of a round. True: there are none, or all have ended already. */
static bool start_round(struct router_fetch *fetch)
{
    uint32_t started = 0;
    for (struct fetch_part *part = fetch->parts; part != NULL; part = part->next)
        started += !part->taken;
    if (started == 0)
        return true;
    atomic_store(&fetch->pending, started + 1);
    for (struct fetch_part *part = fetch->parts, *next; part != NULL; part = next) {
        next = part->next;
        if (part->taken)
            continue;
        struct cairn_shard_request request = {.cluster = fetch->map->cluster,
                                              .epoch = fetch->map->epoch,
                                              .same_epoch = part->probe,
                                              .collection = fetch->outer->schema->id,
                                              .keys = part->keys,
                                              .keys_count = part->count,
                                              .vectors = fetch->outer->vectors,
                                              .vectors_count = fetch->outer->vectors_count};
        router_remote_start(&part->remote, &request, fetch->outer->deadline_us);
    }
    return atomic_fetch_sub(&fetch->pending, 1) == 1;
}

static bool any_in(const struct router_fetch *fetch, enum slot_state state)
{
    for (uint32_t i = 0; i < fetch->outer->count; i++)
        if (fetch->slots[i].state == state)
            return true;
    return false;
}

/* Work until something is waited for (false) or nothing is left to do (true). */
static bool run_rounds(struct router_fetch *fetch)
{
    for (;;) {
        bool owned = collect(fetch);
        if (fetch->error.code != 0) {
            fetch->stalled = fetch->unreached;
            return true;
        }
        if (owned && any_in(fetch, SLOT_WANTED))
            owned = ask_owners(fetch);
        else if (owned && !fetch->asked_others && any_in(fetch, SLOT_MISSED))
            owned = ask_others(fetch);
        else if (owned)
            return true;
        if (!owned && !any_in(fetch, SLOT_WANTED) && !any_in(fetch, SLOT_MISSED))
            return true;
        if (!owned) {
            meet_map(fetch);
            if (fetch->stalled)
                return start_round(fetch);
        }
        if (!start_round(fetch))
            return false;
    }
}

static struct router_fetch *fetch_new(struct cairn_router *router, struct cairn_router_fetch *outer)
{
    struct router_fetch *fetch = cairn_arena_zalloc(outer->arena, sizeof *fetch);
    fetch->router = router;
    fetch->outer = outer;
    fetch->error.code = router_map_need(router, &fetch->map, &fetch->error);
    return fetch;
}

static void make_slots(struct router_fetch *fetch)
{
    fetch->slots =
        cairn_arena_zalloc(fetch->outer->arena, fetch->outer->count * sizeof *fetch->slots);
}

bool cairn_router_fetch(struct cairn_router *router, struct cairn_router_fetch *outer)
{
    if (outer->state == NULL) {
        outer->state = fetch_new(router, outer);
        outer->state->plain = atomic_load(&router->remotes_count) == 0;
        if (!outer->state->plain)
            make_slots(outer->state);
    }
    struct router_fetch *fetch = outer->state;
    return fetch->plain || fetch->error.code != 0 || fetch->stalled || run_rounds(fetch);
}

static void wake(struct cairn_router_fetch *outer)
{
    router_latch_release(outer->context);
}

static void run_to_end(struct router_fetch *fetch)
{
    struct router_latch latch;
    fetch->outer->done = wake;
    fetch->outer->context = &latch;
    router_latch_init(&latch, 1);
    while (!run_rounds(fetch)) {
        router_latch_wait(&latch);
        router_latch_init(&latch, 1);
    }
    router_latch_release(&latch);
    router_latch_wait(&latch);
}

/* Whether a stalled fetch may go on, after a while. */
static bool outwait(struct router_fetch *fetch)
{
    uint64_t deadline_us = fetch->outer->deadline_us;
    if (fetch->unreached) {
        if (++fetch->unreached_count >= UNREACHED_MAX ||
            !router_pause(fetch->unreached_count, deadline_us))
            return false;
    } else if (++fetch->stalls >= STALLS_MAX ||
               !router_settle_epoch(fetch->router, fetch->map, fetch->stalls - 1, deadline_us)) {
        fetch->error.code = cairn_fail(&fetch->error, CAIRN_EUNAVAILABLE,
                                       "keys are changing hands between shards; try again");
        return false;
    }
    fetch->error.code = 0;
    fetch->stalled = fetch->unreached = false;
    fetch->rounds = 0;
    want_again(fetch);
    follow_map(fetch);
    return true;
}

void cairn_router_fetch_wait(struct cairn_router *router, struct cairn_router_fetch *outer)
{
    struct router_fetch *fetch = outer->state = fetch_new(router, outer);
    make_slots(fetch);
    if (fetch->error.code != 0)
        return;
    do
        run_to_end(fetch);
    while (fetch->stalled && outwait(fetch));
    fetch->stalled = false;
}

void cairn_router_fetch_end(struct cairn_router_fetch *outer)
{
    struct router_fetch *fetch = outer->state;
    if (fetch == NULL)
        return;
    for (uint32_t i = 0; fetch->slots != NULL && i < outer->count; i++)
        cairn_row_pin_release(&fetch->slots[i].pin);
    for (struct fetch_part *part = fetch->parts; part != NULL; part = part->next)
        router_remote_end(&part->remote);
    cairn_map_unref(fetch->map);
    outer->state = NULL;
}

/* A record with a route of its own may stand on any shard that holds such records. */
static int find_routed(struct router_fetch *fetch, struct cairn_str key,
                       struct cairn_contract *contract, uint32_t *shard, struct cairn_row_pin *pin,
                       struct cairn_error *err)
{
    struct cairn_router *router = fetch->router;
    struct cairn_shard_read read = keyed_read(fetch, true);
    uint32_t owner = *shard;
    for (uint32_t i = 0; i < fetch->map->shards_count; i++) {
        struct cairn_collection_counts counts;
        uint32_t id = fetch->map->shards[i].id;
        struct cairn_shard *local = router_local(router, id);
        if (id == owner || (local == NULL && !router_owns(fetch->map, &fetch->map->shards[i])))
            continue;
        if (local == NULL)
            return cairn_fail(err, CAIRN_ENOTOWNER, "the shard map has changed");
        cairn_shard_counts(local, fetch->outer->schema->id, &counts);
        if (counts.routed == 0)
            continue;
        cairn_row_pin_release(pin);
        router_touch(router, fetch->map, contract, id);
        int code = cairn_shard_get(local, &read, key, pin, err);
        if (code != 0)
            return code;
        if (pin->found) {
            *shard = id;
            return 0;
        }
    }
    return 0;
}

/* Of a plain fetch: all shards are here. */
static int visit_here(struct router_fetch *fetch, uint32_t at, cairn_row_visitor visit,
                      void *context, struct cairn_contract *contract, struct cairn_error *err)
{
    struct cairn_router_fetch *outer = fetch->outer;
    struct cairn_shard_read read = keyed_read(fetch, false);
    struct cairn_row_pin pin = {0};
    struct cairn_row_ref row = {.collection = outer->schema->id, .key = outer->keys[at]};
    row.shard = cairn_map_owner(fetch->map, cairn_token(outer->schema->name, row.key));
    struct cairn_shard *local = router_local(fetch->router, row.shard);
    if (local == NULL)
        return cairn_fail(err, CAIRN_ENOTOWNER, "the shard map has changed");
    router_touch(fetch->router, fetch->map, contract, row.shard);
    int code = cairn_shard_get(local, &read, row.key, &pin, err);
    if (code == 0 && !pin.found)
        code = find_routed(fetch, row.key, contract, &row.shard, &pin, err);
    if (code == 0) {
        row.found = pin.found;
        row.view = pin.view;
        visit(context, at, &row);
    }
    cairn_row_pin_release(&pin);
    return code;
}

static void visit_slot(struct router_fetch *fetch, uint32_t at, cairn_row_visitor visit,
                       void *context)
{
    const struct fetch_slot *slot = &fetch->slots[at];
    struct cairn_row_ref row = {.collection = fetch->outer->schema->id,
                                .key = fetch->outer->keys[at],
                                .shard = slot->shard,
                                .found = slot->pin.found,
                                .view = slot->pin.view};
    if (slot->row != NULL) {
        row.found = true;
        cairn_row_view_init(&row.view, slot->row->row);
        row.vectors = slot->row->vectors;
        row.vectors_count = slot->row->vectors_count;
    }
    visit(context, at, &row);
}

static void add_touched(const struct router_fetch *fetch, struct cairn_contract *contract)
{
    if (contract->position.epoch < fetch->map->epoch)
        contract->position.epoch = fetch->map->epoch;
    for (uint32_t i = 0; i < fetch->touched.count; i++)
        cairn_position_touch(&contract->position, fetch->touched.at[i].shard,
                             fetch->touched.at[i].offset);
}

int cairn_router_get(struct cairn_router *router, struct cairn_router_fetch *outer,
                     cairn_row_visitor visit, void *context, struct cairn_contract *contract,
                     struct cairn_error *err)
{
    if (outer->state == NULL) {
        outer->state = fetch_new(router, outer);
        outer->state->plain = true;
    }
    struct router_fetch *fetch = outer->state;
    if (fetch->stalled)
        return cairn_fail(err, CAIRN_ENOTOWNER, "keys are changing hands between shards");
    if (fetch->error.code != 0) {
        *err = fetch->error;
        return err->code;
    }
    int code = 0;
    for (uint32_t i = 0; i < outer->count && code == 0; i++) {
        if (fetch->plain)
            code = visit_here(fetch, i, visit, context, contract, err);
        else
            visit_slot(fetch, i, visit, context);
    }
    if (!fetch->plain)
        add_touched(fetch, contract);
    return code;
}

int cairn_router_get_wait(struct cairn_router *router, struct cairn_router_fetch *fetch,
                          cairn_row_visitor visit, void *context, struct cairn_contract *contract,
                          struct cairn_error *err)
{
    cairn_router_fetch_wait(router, fetch);
    int code = cairn_router_get(router, fetch, visit, context, contract, err);
    cairn_router_fetch_end(fetch);
    return code;
}

int cairn_router_row_vector(struct cairn_router *router, const struct cairn_row_ref *row,
                            struct cairn_str vector, float *out, uint32_t dim,
                            struct cairn_error *err)
{
    struct cairn_shard *local = router_local(router, row->shard);
    for (uint32_t i = 0; i < row->vectors_count; i++) {
        const struct cairn_vector *one = &row->vectors[i];
        if (!cairn_str_eq(one->name, vector))
            continue;
        if (one->dim != dim)
            break;
        memcpy(out, one->f32, dim * sizeof *out);
        return 0;
    }
    if (row->vectors != NULL || local == NULL)
        return cairn_fail(err, CAIRN_ENOVECTOR, "the entity has no vector %.*s",
                          CAIRN_STR_ARG(vector));
    return cairn_shard_get_vector(local, row->collection, row->key, vector, out, dim, err);
}
