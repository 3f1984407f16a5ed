/* Which tokens the shard owns: the map in force, and what imports make of the log before them.
 *
 * The map changes only when the writer applies a MAP record, so between two maps every write was
 * checked against the first of them. Readers take the map under the lock for moments, or a
 * reference for longer. */
#include "shard/internal.h"

#include <stdlib.h>

#include "base/diag.h"
#include "base/hash.h"
#include "featurestore/import_record.h"

void shard_ownership_init(struct cairn_shard *shard)
{
    pthread_rwlock_init(&shard->ownership.lock, NULL);
}

void shard_ownership_release(struct cairn_shard *shard)
{
    struct shard_ownership *own = &shard->ownership;
    for (uint32_t i = 0; i < own->acquisitions_count; i++)
        cairn_map_unref(own->acquisitions[i].map);
    free(own->acquisitions);
    cairn_map_unref(own->map);
    pthread_rwlock_destroy(&own->lock);
}

static void add_acquisition(struct cairn_shard *shard, uint64_t offset, uint32_t source,
                            const struct cairn_map *map)
{
    struct shard_ownership *own = &shard->ownership;
    pthread_rwlock_wrlock(&own->lock);
    own->acquisitions =
        cairn_realloc(own->acquisitions, (own->acquisitions_count + 1) * sizeof *own->acquisitions);
    own->acquisitions[own->acquisitions_count++] =
        (struct shard_acquisition){offset, source, cairn_map_ref(map)};
    pthread_rwlock_unlock(&own->lock);
}

/* Whether rows that the shard does not own may come into being, or be left, under this map. */
static bool may_mix(const struct cairn_shard *shard, const struct cairn_map *old,
                    const struct cairn_map *map)
{
    if (old == NULL)
        return map->epoch > 1;
    for (uint32_t i = 0; i < map->moves_count; i++)
        if (map->moves[i].target == shard->id || map->moves[i].source == shard->id)
            return true;
    return old->plan != map->plan && old->plan != 0;
}

/* Records that came with tokens carry the ingest times of other machines. What is written here from
 * now on must not seem older, or it would lose to them wherever the event time is the ingest time.
 */
static void raise_ingest_floor(struct cairn_shard *shard)
{
    for (uint32_t i = 0; i < shard->collections_count; i++) {
        struct cairn_collection_counts counts;
        cairn_rowstore_counts(shard->rows, shard->collections[i]->schema->id, &counts);
        if (shard->ingest_floor_us < counts.newest_ingest_us)
            shard->ingest_floor_us = counts.newest_ingest_us;
    }
}

static void set_map(struct cairn_shard *shard, const struct cairn_map *map)
{
    struct shard_ownership *own = &shard->ownership;
    const struct cairn_map *old = own->map;
    raise_ingest_floor(shard);
    pthread_rwlock_wrlock(&own->lock);
    if (may_mix(shard, old, map))
        atomic_store(&own->mixed, true);
    own->map = cairn_map_ref(map);
    atomic_store_explicit(&own->epoch, map->epoch, memory_order_release);
    pthread_rwlock_unlock(&own->lock);
    cairn_map_unref(old);
}

static int open_import(void *argument, const struct cairn_import_state *state)
{
    const struct cairn_map *map = NULL;
    struct cairn_error err = {0};
    int code = cairn_map_decode(state->map_text, &map, &err);
    if (code != 0) {
        cairn_alarm("shard", "a stored import cannot be read: %s", err.message);
        return code;
    }
    add_acquisition(argument, state->begin_offset, state->source, map);
    cairn_map_unref(map);
    return 0;
}

int shard_ownership_open(struct cairn_shard *shard, struct cairn_error *err)
{
    struct cairn_buf text = {0};
    const struct cairn_map *map = NULL;
    int code = 0;
    cairn_rowstore_map(shard->rows, &text);
    if (text.len > 0)
        code = cairn_map_decode((struct cairn_str){text.data, (uint32_t)text.len}, &map, err);
    if (code == 0 && map != NULL)
        set_map(shard, map);
    cairn_map_unref(map);
    cairn_buf_release(&text);
    if (code == 0)
        code = cairn_rowstore_each_import(shard->rows, open_import, shard, err);
    return code;
}

static int not_owned(const struct cairn_shard *shard, const struct cairn_log_record *record,
                     const struct cairn_map *map, struct cairn_error *err)
{
    return cairn_fail(err, CAIRN_ECORRUPT,
                      "the record at offset %llu has a token that shard s%u did not own under the "
                      "map of epoch %llu, which was in force there",
                      (unsigned long long)record->offset, shard->id,
                      (unsigned long long)(map != NULL ? map->epoch : 0));
}

int shard_ownership_check_replay(struct cairn_shard *shard, const struct cairn_log_record *records,
                                 uint32_t count, struct cairn_error *err)
{
    const struct cairn_map *map = cairn_shard_map(shard);
    int code = 0;
    for (uint32_t i = 0; code == 0 && i < count; i++) {
        const struct cairn_log_record *record = &records[i];
        if (record->kind == CAIRN_RECORD_MAP) {
            const struct cairn_map *next = NULL;
            code = cairn_map_decode(record->payload, &next, err);
            if (code == 0) {
                cairn_map_unref(map);
                map = next;
            }
        } else if (record->kind == CAIRN_RECORD_ENTITY) {
            if (map == NULL || cairn_map_owner(map, record->token) != shard->id)
                code = not_owned(shard, record, map, err);
        } else if (record->kind == CAIRN_RECORD_IMPORT) {
            const struct cairn_map_move *move =
                map != NULL ? cairn_map_move_of(map, record->token) : NULL;
            if (move == NULL || move->target != shard->id || move->done)
                code = not_owned(shard, record, map, err);
        }
    }
    cairn_map_unref(map);
    return code;
}

int shard_ownership_follow(struct cairn_shard *shard, const struct cairn_log_record *record,
                           struct cairn_error *err)
{
    const struct cairn_map *map = NULL;
    int code = 0;
    if (record->kind == CAIRN_RECORD_MAP) {
        code = cairn_map_decode(record->payload, &map, err);
        if (code != 0)
            return code;
        set_map(shard, map);
        shard_hold_end(shard);
        shard_forget_wake(shard);
    } else if (record->kind == CAIRN_RECORD_IMPORT_BEGIN) {
        struct cairn_import_begin begin;
        code = cairn_import_begin_decode(record->payload, &begin, err);
        if (code == 0)
            code = cairn_map_decode(begin.map_text, &map, err);
        if (code != 0)
            return code;
        add_acquisition(shard, record->offset, begin.source, map);
    }
    cairn_map_unref(map);
    return 0;
}

const struct cairn_map *cairn_shard_map(struct cairn_shard *shard)
{
    struct shard_ownership *own = &shard->ownership;
    pthread_rwlock_rdlock(&own->lock);
    const struct cairn_map *map = own->map != NULL ? cairn_map_ref(own->map) : NULL;
    pthread_rwlock_unlock(&own->lock);
    return map;
}

uint64_t cairn_shard_epoch(const struct cairn_shard *shard)
{
    return atomic_load_explicit(&shard->ownership.epoch, memory_order_acquire);
}

bool shard_owns(struct cairn_shard *shard, uint64_t token)
{
    struct shard_ownership *own = &shard->ownership;
    pthread_rwlock_rdlock(&own->lock);
    bool owned = own->map != NULL && cairn_map_owner(own->map, token) == shard->id;
    pthread_rwlock_unlock(&own->lock);
    return owned;
}

uint64_t shard_row_token(const struct cairn_schema *schema, struct cairn_str key,
                         const struct cairn_row_view *view)
{
    struct cairn_str route = cairn_row_view_route(view);
    return cairn_token(schema->name, route.len > 0 ? route : key);
}

int shard_row_find(struct cairn_shard *shard, const struct cairn_schema *schema,
                   struct cairn_str key, bool *found, bool *foreign, struct cairn_error *err)
{
    struct cairn_row_pin pin = {0};
    int code = cairn_rowstore_get(shard->rows, schema->id, key, &pin, err);
    *found = code == 0 && pin.found;
    *foreign = *found && !shard_owns(shard, shard_row_token(schema, key, &pin.view));
    cairn_row_pin_release(&pin);
    return code;
}

int shard_move_map(struct cairn_shard *shard, const struct cairn_shard_move *move,
                   const struct cairn_map **map, struct cairn_error *err)
{
    *map = cairn_shard_map(shard);
    const struct cairn_map_move *found = NULL;
    if (*map != NULL && (*map)->plan == move->plan && move->plan != 0)
        found = cairn_map_move(*map, move->source, move->target);
    if (found != NULL && !found->done && (shard->id == move->source || shard->id == move->target))
        return 0;
    cairn_fail(err, CAIRN_ENOTOWNER,
               "shard s%u is at epoch %llu, whose plan %llu has no open move from s%u to s%u of "
               "plan %llu",
               shard->id, (unsigned long long)(*map != NULL ? (*map)->epoch : 0),
               (unsigned long long)(*map != NULL ? (*map)->plan : 0), move->source, move->target,
               (unsigned long long)move->plan);
    cairn_map_unref(*map);
    *map = NULL;
    return CAIRN_ENOTOWNER;
}

bool shard_is_void(struct cairn_shard *shard, uint64_t token, uint64_t offset)
{
    struct shard_ownership *own = &shard->ownership;
    bool is_void = false;
    pthread_rwlock_rdlock(&own->lock);
    for (uint32_t i = own->acquisitions_count; i > 0 && !is_void; i--) {
        const struct shard_acquisition *acquired = &own->acquisitions[i - 1];
        if (acquired->begin_offset <= offset)
            break;
        is_void = cairn_map_is_moving(acquired->map, token, acquired->source, shard->id);
    }
    pthread_rwlock_unlock(&own->lock);
    return is_void;
}

uint64_t shard_import_offset(struct cairn_shard *shard, const struct cairn_shard_move *move)
{
    struct shard_ownership *own = &shard->ownership;
    uint64_t offset = 0;
    pthread_rwlock_rdlock(&own->lock);
    for (uint32_t i = 0; i < own->acquisitions_count; i++)
        if (own->acquisitions[i].source == move->source &&
            own->acquisitions[i].map->plan == move->plan)
            offset = own->acquisitions[i].begin_offset;
    pthread_rwlock_unlock(&own->lock);
    return offset;
}

const struct cairn_schema *shard_schema(struct cairn_shard *shard, uint32_t collection)
{
    pthread_rwlock_rdlock(&shard->catalog_lock);
    struct shard_collection *found = shard_collection_find(shard, collection);
    const struct cairn_schema *schema = found != NULL ? cairn_schema_ref(found->schema) : NULL;
    pthread_rwlock_unlock(&shard->catalog_lock);
    return schema;
}

const struct cairn_schema **shard_schemas(struct cairn_shard *shard, uint32_t *count)
{
    pthread_rwlock_rdlock(&shard->catalog_lock);
    *count = shard->collections_count;
    const struct cairn_schema **schemas = cairn_malloc((*count + 1) * sizeof *schemas);
    for (uint32_t i = 0; i < *count; i++)
        schemas[i] = cairn_schema_ref(shard->collections[i]->schema);
    pthread_rwlock_unlock(&shard->catalog_lock);
    return schemas;
}

/* Adopting a map from another process never takes tokens from the shard: what it loses it releases
 * itself, under a hold (hold.c). */
int cairn_shard_adopt(struct cairn_shard *shard, const struct cairn_map *map, uint64_t if_epoch,
                      struct cairn_error *err)
{
    struct shard_write_terms terms = {.map = map, .if_epoch = if_epoch};
    return shard_write_wait(shard, NULL, 0, &terms, err);
}

int cairn_shard_release(struct cairn_shard *shard, uint64_t fence, const struct cairn_map *map,
                        struct cairn_error *err)
{
    struct shard_write_terms terms = {.map = map, .if_epoch = CAIRN_OFFSET_NONE, .fence = fence};
    if (fence == 0)
        return cairn_fail(err, CAIRN_EPRECONDITION, "a release needs the fence of a hold");
    return shard_write_wait(shard, NULL, 0, &terms, err);
}
