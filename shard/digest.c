/* The digest of a move: the sum modulo 2^128 of a hash of each of its records. Being a sum it needs
 * no order and can be carried on from where the last call stopped. Source and target each read
 * their own log; what they hash of a record is what both have of it.
 *
 * One move's digest is remembered at a time: moves are made one after the other. */
#include "shard/internal.h"

#include <stdlib.h>

#include "base/hash.h"

static void add128(uint64_t sum[2], const uint64_t value[2])
{
    sum[0] += value[0];
    sum[1] += value[1] + (sum[0] < value[0]);
}

static void add_record(struct shard_digest *digest, uint32_t origin_shard, uint64_t origin_offset,
                       int64_t ingest_time_us, const struct cairn_log_record *record,
                       struct cairn_str entity)
{
    const uint64_t identity[] = {origin_shard, origin_offset, (uint64_t)ingest_time_us,
                                 record->collection, record->token};
    uint64_t hash[2];
    cairn_hash128(cairn_hash64(identity, sizeof identity), entity.ptr, entity.len, hash);
    add128(digest->sum, hash);
    digest->records++;
}

struct digest_pass {
    struct cairn_shard *shard;
    const struct cairn_map *map;
    const struct cairn_shard_move *move;
};

static bool is_wanted(void *context, const struct cairn_log_record *record)
{
    const struct digest_pass *pass = context;
    bool is_source = pass->shard->id == pass->move->source;
    bool kind =
        record->kind == CAIRN_RECORD_IMPORT || (is_source && record->kind == CAIRN_RECORD_ENTITY);
    return kind &&
           cairn_map_is_moving(pass->map, record->token, pass->move->source, pass->move->target) &&
           (!is_source || !shard_is_void(pass->shard, record->token, record->offset));
}

/* Take one record in. *past is set when it lies after `until_offset` of the source's log. */
static int take(struct digest_pass *pass, const struct cairn_log_record *record,
                uint64_t until_offset, bool *past, struct cairn_error *err)
{
    struct shard_digest *digest = &pass->shard->digest;
    bool is_source = pass->shard->id == pass->move->source;
    struct cairn_imported imported = {.origin_shard = pass->shard->id,
                                      .origin_offset = record->offset,
                                      .ingest_time_us = record->ingest_time_us,
                                      .source_offset = record->offset,
                                      .entity = record->payload};
    if (record->kind == CAIRN_RECORD_IMPORT) {
        int code = cairn_imported_decode(record->payload, &imported, err);
        if (code != 0)
            return code;
    }
    uint64_t source_offset = is_source ? record->offset : imported.source_offset;
    *past = source_offset > until_offset;
    if (!*past) {
        add_record(digest, imported.origin_shard, imported.origin_offset, imported.ingest_time_us,
                   record, imported.entity);
        digest->source_offset = source_offset;
    }
    return 0;
}

static int carry_on(struct digest_pass *pass, uint64_t until_offset, struct cairn_error *err)
{
    struct shard_digest *digest = &pass->shard->digest;
    struct cairn_log_range range = {
        .from_offset = digest->log_offset + 1, .wants = is_wanted, .wants_context = pass};
    struct cairn_log_cursor *cursor = NULL;
    bool past = false;
    int code = cairn_log_cursor_open(pass->shard->log, &range, &cursor, err);
    while (code == 0) {
        struct cairn_log_record record;
        struct cairn_error end;
        code = cairn_log_cursor_next(cursor, &record, &end);
        if (code != 0 && code != CAIRN_EEND && err != NULL)
            *err = end;
        if (code == 0)
            code = take(pass, &record, until_offset, &past, err);
        if (code != 0 || past)
            break;
        digest->log_offset = record.offset;
    }
    if (code == CAIRN_EEND) {
        digest->log_offset = cairn_log_cursor_offset(cursor);
        code = 0;
    }
    if (cursor != NULL)
        cairn_log_cursor_close(&cursor);
    return code;
}

static bool is_of(const struct shard_digest *digest, const struct cairn_shard_move *move)
{
    return digest->move.plan == move->plan && digest->move.source == move->source &&
           digest->move.target == move->target;
}

int cairn_shard_digest(struct cairn_shard *shard, const struct cairn_shard_move *move,
                       uint64_t until_offset, uint64_t out[2], uint64_t *records,
                       struct cairn_error *err)
{
    struct digest_pass pass = {.shard = shard, .move = move};
    struct shard_digest *digest = &shard->digest;
    int code = shard_move_map(shard, move, &pass.map, err);
    if (code == 0 && shard->log == NULL)
        code = cairn_fail(err, CAIRN_ECORRUPT, "shard s%u has no readable log", shard->id);
    pthread_mutex_lock(&digest->lock);
    if (code == 0 && (!is_of(digest, move) || digest->source_offset > until_offset)) {
        digest->move = *move;
        digest->log_offset = shard->id == move->target ? shard_import_offset(shard, move) : 0;
        digest->source_offset = digest->records = 0;
        digest->sum[0] = digest->sum[1] = 0;
    }
    if (code == 0)
        code = carry_on(&pass, until_offset, err);
    out[0] = digest->sum[0];
    out[1] = digest->sum[1];
    *records = digest->records;
    pthread_mutex_unlock(&digest->lock);
    cairn_map_unref(pass.map);
    return code;
}
