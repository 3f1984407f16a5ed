/* The views of a shard: opening them, bringing them up to the log, following the writer.
 *
 * On open three offsets are at hand: the log's end E, the row store's applied offset R, and each
 * index's saved offset V. The log is the truth, so
 *   R > E       the store knows records that the log has lost: it is set aside and rebuilt
 *   V > E       so does the index: it is thrown away, which makes it V = 0
 *   V = 0       the index is filled from the row store's vectors (all of them, in key order)
 *   V < R       keys touched by records in (V, R] are reconciled: the index gets what the row store
 *               now holds
 *   R < E       records in (R, E] are replayed through the row store into the indexes, as the
 *               writer does
 *   R < V <= E  the same; the index skips what it has. The usual case after a kill, since an index
 *               is saved when a build ends but rows are flushed when memory is full */
#include "shard/internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/diag.h"
#include "base/shard_wire.h"
#include "base/time.h"

#define REPLAY_RECORDS_MAX  1024u
#define REPLAY_BYTES_MAX    (8u << 20)
#define OPEN_FREE_BYTES_MIN (16u << 20)

int shard_index_refill(struct cairn_shard *shard, uint32_t collection, struct shard_vector *vector,
                       struct cairn_error *err)
{
    struct cairn_vector_scan *scan = NULL;
    int code = cairn_vector_scan_open(shard->rows, collection, vector->name, &scan, err);
    while (code == 0) {
        struct cairn_str key;
        const float *f32;
        uint32_t dim;
        uint64_t offset;
        code = cairn_vector_scan_next(scan, &key, &f32, &dim, &offset, err);
        if (code == 0)
            code = cairn_index_upsert(vector->index, key, f32, offset, err);
    }
    cairn_vector_scan_close(&scan);
    return code == CAIRN_EEND ? 0 : code;
}

/* Make every index agree with the row store on one key. */
static int reconcile_key(struct cairn_shard *shard, const struct shard_collection *collection,
                         struct cairn_str key, uint64_t record_offset, struct cairn_error *err)
{
    struct cairn_row_pin pin = {0};
    int code = cairn_rowstore_get(shard->rows, collection->schema->id, key, &pin, err);
    for (uint32_t i = 0; code == 0 && i < collection->vectors_count; i++) {
        struct shard_vector *vector = collection->vectors[i];
        if (cairn_index_offset(vector->index) >= record_offset)
            continue;
        struct cairn_row_cell cell;
        if (!pin.found || !cairn_row_view_find(&pin.view, true, vector->name, &cell) ||
            cell.value.type != CAIRN_TYPE_VECTOR) {
            cairn_index_remove(vector->index, key, record_offset);
            continue;
        }
        float *f32 = cairn_malloc(cell.value.len * sizeof *f32);
        code = cairn_shard_get_vector(shard, collection->schema->id, key, vector->name, f32,
                                      cell.value.len, err);
        if (code == 0)
            code = cairn_index_upsert(vector->index, key, f32, cell.stamp.offset, err);
        free(f32);
    }
    cairn_row_pin_release(&pin);
    return code;
}

/* Reconcile the keys that one record touched. */
static int reconcile_record(struct cairn_shard *shard, const struct shard_collection *collection,
                            const struct cairn_log_record *record, struct cairn_arena *arena,
                            struct cairn_error *err)
{
    struct cairn_str bytes = record->payload;
    struct cairn_imported imported;
    struct cairn_entity entity;
    struct cairn_str *keys;
    uint32_t count = 0;
    int code = 0;
    switch (record->kind) {
    case CAIRN_RECORD_FORGET:
        code = cairn_forget_decode(bytes, arena, &keys, &count, err);
        for (uint32_t i = 0; code == 0 && i < count; i++)
            code = reconcile_key(shard, collection, keys[i], record->offset, err);
        return code;
    case CAIRN_RECORD_IMPORT:
        code = cairn_imported_decode(bytes, &imported, err);
        if (code != 0)
            return code;
        bytes = imported.entity;
        break;
    case CAIRN_RECORD_ENTITY:
        break;
    default:
        return 0;
    }
    code = cairn_entity_decode(bytes, arena, &entity, err);
    if (code == 0 && (entity.op != CAIRN_OP_PATCH || entity.vectors_count > 0))
        code = reconcile_key(shard, collection, entity.key, record->offset, err);
    return code;
}

/* V < R: reconcile the keys that records in (from, to] touched. */
static int reconcile(struct cairn_shard *shard, uint64_t from, uint64_t to, struct cairn_error *err)
{
    struct cairn_log_cursor *cursor = NULL;
    struct cairn_log_range range = {.from_offset = from + 1};
    struct cairn_arena arena = {0};
    int code = cairn_log_cursor_open(shard->log, &range, &cursor, err);
    while (code == 0) {
        struct cairn_log_record record;
        code = cairn_log_cursor_next(cursor, &record, err);
        if (code != 0 || record.offset > to)
            break;
        const struct shard_collection *collection = shard_collection_find(shard, record.collection);
        if (collection == NULL || collection->vectors_count == 0)
            continue;
        cairn_arena_reset(&arena);
        code = reconcile_record(shard, collection, &record, &arena, err);
    }
    cairn_arena_release(&arena);
    cairn_log_cursor_close(&cursor);
    return code == CAIRN_EEND ? 0 : code;
}

static int indexes_catch_up(struct cairn_shard *shard, uint64_t applied, struct cairn_error *err)
{
    uint64_t oldest = applied;
    for (uint32_t c = 0; c < shard->collections_count; c++)
        for (uint32_t v = 0; v < shard->collections[c]->vectors_count; v++) {
            struct shard_vector *vector = shard->collections[c]->vectors[v];
            uint64_t offset = cairn_index_offset(vector->index);
            if (offset == 0) {
                int code =
                    shard_index_refill(shard, shard->collections[c]->schema->id, vector, err);
                if (code != 0)
                    return code;
                cairn_index_set_offset(vector->index, applied);
            } else if (offset < oldest)
                oldest = offset;
        }
    if (oldest < applied && shard->log != NULL) {
        int code = reconcile(shard, oldest, applied, err);
        if (code != 0)
            return code;
    }
    for (uint32_t c = 0; c < shard->collections_count; c++)
        for (uint32_t v = 0; v < shard->collections[c]->vectors_count; v++)
            shard_index_reached(shard->collections[c]->vectors[v]->index, applied);
    return 0;
}

/* R < E: read a run of records into the arena. Returns the count; *end is set at the log's end. A
 * run ends with a forget, whose rows are all loaded when it is applied: those of many would be more
 * than their own bytes tell. */
static int read_run(struct cairn_log_cursor *cursor, struct cairn_arena *arena,
                    struct cairn_log_record *records, uint32_t *count, bool *end,
                    struct cairn_error *err)
{
    uint64_t bytes = 0;
    *count = 0;
    while (*count < REPLAY_RECORDS_MAX && bytes < REPLAY_BYTES_MAX) {
        struct cairn_log_record *record = &records[*count];
        int code = cairn_log_cursor_next(cursor, record, err);
        if (code == CAIRN_EEND) {
            *end = true;
            return 0;
        }
        if (code != 0)
            return code;
        record->payload = cairn_arena_dup(arena, record->payload);
        bytes += record->payload.len;
        (*count)++;
        if (record->kind == CAIRN_RECORD_FORGET)
            break;
    }
    return 0;
}

static int replay(struct cairn_shard *shard, uint64_t *replayed, struct cairn_error *err)
{
    struct cairn_log_cursor *cursor = NULL;
    struct cairn_log_range range = {.from_offset = cairn_rowstore_applied(shard->rows) + 1};
    struct cairn_log_record *records = cairn_malloc(REPLAY_RECORDS_MAX * sizeof *records);
    struct cairn_apply_result *results = cairn_malloc(REPLAY_RECORDS_MAX * sizeof *results);
    struct cairn_arena arena = {0};
    bool end = false;
    int code = cairn_log_cursor_open(shard->log, &range, &cursor, err);
    while (code == 0 && !end) {
        uint32_t count = 0;
        cairn_arena_reset(&arena);
        code = read_run(cursor, &arena, records, &count, &end, err);
        if (code == 0)
            code = shard_ownership_check_replay(shard, records, count, err);
        if (code != 0 || count == 0)
            break;
        struct cairn_apply_output output = {.results = results};
        code = cairn_rowstore_apply(shard->rows, records, count, &output, err);
        if (code == 0)
            code = shard_views_follow(shard, records, count, &output, err);
        *replayed += count;
    }
    cairn_arena_release(&arena);
    cairn_log_cursor_close(&cursor);
    free(results);
    free(records);
    return code;
}

static int set_aside(struct cairn_shard *shard, const char *path, struct cairn_error *err)
{
    char aside[4200];
    (void)snprintf(aside, sizeof aside, "%s.damaged-%lld", path, (long long)cairn_time_now_us());
    if (shard->io->rename(shard->io->context, path, aside) != 0)
        return cairn_fail(err, CAIRN_EIO, "cannot move %s to %s", path, aside);
    cairn_alarm("shard", "s%u: %s was moved to %s and is rebuilt from the log", shard->id, path,
                aside);
    return 0;
}

static int open_rows(struct cairn_shard *shard, const char *path, struct cairn_error *err)
{
    struct cairn_rowstore_options options = {.dir = path};
    int code = cairn_rowstore_open(&options, &shard->rows, err);
    if (code != CAIRN_ECORRUPT)
        return code;
    cairn_alarm("shard", "s%u: the row store is damaged: %s", shard->id, err->message);
    code = set_aside(shard, path, err);
    return code != 0 ? code : cairn_rowstore_open(&options, &shard->rows, err);
}

/* Open the log. Damage makes the shard read-only instead of failing the open. */
static int open_log(struct cairn_shard *shard, const struct cairn_shard_options *options,
                    struct cairn_error *err)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/log", shard->dir);
    struct cairn_log_options log_options = {.dir = path,
                                            .shard = shard->id,
                                            .segment_bytes_max = options->segment_bytes_max,
                                            .io = shard->io};
    struct cairn_log_recovery recovery = {0};
    int code = cairn_log_open(&log_options, cairn_rowstore_applied(shard->rows), &shard->log,
                              &recovery, err);
    if (code == CAIRN_ECORRUPT) {
        shard_refuse_writes(shard, CAIRN_ECORRUPT,
                            "%s; see `cairn log check` and `cairn log repair`", err->message);
        return 0;
    }
    if (code == 0 && recovery.torn_bytes > 0)
        cairn_warn("shard",
                   "s%u: cut a torn tail of %llu bytes (%llu whole records of an unfinished batch) "
                   "from %s",
                   shard->id, (unsigned long long)recovery.torn_bytes,
                   (unsigned long long)recovery.torn_records, recovery.torn_file);
    return code;
}

static int open_catalog_schema(void *argument, struct cairn_str text)
{
    struct cairn_error err = {0};
    struct cairn_shard *shard = argument;
    uint64_t trusted_offset = cairn_rowstore_applied(shard->rows);
    if (shard->log != NULL) {
        struct cairn_log_stats stats;
        cairn_log_stats(shard->log, &stats);
        trusted_offset = stats.end_offset;
    }
    int code = shard_apply_schema(shard, text, trusted_offset, &err);
    if (code != 0)
        cairn_alarm("shard", "a stored schema cannot be opened: %s", err.message);
    return code;
}

static int rows_behind_log(struct cairn_shard *shard, const char *rows_path,
                           struct cairn_error *err)
{
    struct cairn_log_stats stats;
    cairn_log_stats(shard->log, &stats);
    if (cairn_rowstore_applied(shard->rows) <= stats.end_offset)
        return 0;
    cairn_alarm("shard", "s%u: the row store reflects offset %llu but the log ends at %llu",
                shard->id, (unsigned long long)cairn_rowstore_applied(shard->rows),
                (unsigned long long)stats.end_offset);
    cairn_rowstore_close(&shard->rows);
    int code = set_aside(shard, rows_path, err);
    return code != 0 ? code : open_rows(shard, rows_path, err);
}

/* Remove index directories of collections that are gone (a crash may have come between drop and
 * removal). */
static int sweep_index_dir(void *argument, const char *name)
{
    struct cairn_shard *shard = argument;
    char *end;
    unsigned long id = strtoul(name, &end, 10);
    if (end == name || *end != '-' || shard_collection_find(shard, (uint32_t)id) != NULL)
        return 0;
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/index/%s", shard->dir, name);
    (void)cairn_io_remove_tree(shard->io, path);
    return 0;
}

/* RocksDB ends the process when it finds no room while it opens; better to say so first. */
static int check_room(struct cairn_shard *shard, struct cairn_error *err)
{
    uint64_t free_bytes = 0;
    if (shard->io->free_bytes(shard->io->context, shard->dir, &free_bytes) != 0 ||
        free_bytes >= OPEN_FREE_BYTES_MIN)
        return 0;
    return cairn_fail(err, CAIRN_ENOSPACE,
                      "the disk of %s has %llu bytes free, and opening needs %u; free some space",
                      shard->dir, (unsigned long long)free_bytes, OPEN_FREE_BYTES_MIN);
}

int shard_views_open(struct cairn_shard *shard, const struct cairn_shard_options *options,
                     struct cairn_error *err)
{
    char rows_path[4096], index_path[4096];
    (void)snprintf(rows_path, sizeof rows_path, "%s/rows", shard->dir);
    (void)snprintf(index_path, sizeof index_path, "%s/index", shard->dir);
    if (cairn_io_make_dirs(shard->io, index_path) != 0)
        return cairn_fail(err, CAIRN_EIO, "cannot create %s", index_path);
    int code = check_room(shard, err);
    if (code == 0)
        code = open_rows(shard, rows_path, err);
    if (code == 0)
        code = open_log(shard, options, err);
    if (code == 0 && shard->log != NULL)
        code = rows_behind_log(shard, rows_path, err);
    if (code == 0)
        code = cairn_rowstore_each_schema(shard->rows, open_catalog_schema, shard, err);
    if (code == 0)
        code = shard_ownership_open(shard, err);
    if (code == 0)
        code = indexes_catch_up(shard, cairn_rowstore_applied(shard->rows), err);
    uint64_t replayed = 0;
    if (code == 0 && shard->log != NULL)
        code = replay(shard, &replayed, err);
    if (code == CAIRN_ECORRUPT && shard->log != NULL) {
        shard_refuse_writes(shard, code, "%s; see `cairn log check` and `cairn log repair`",
                            err->message);
        code = 0;
    }
    if (code != 0)
        return code;
    atomic_store(&shard->applied, cairn_rowstore_applied(shard->rows));
    (void)shard->io->list(shard->io->context, index_path, sweep_index_dir, shard);
    if (replayed > 0)
        cairn_info("shard", "s%u: replayed %llu records", shard->id, (unsigned long long)replayed);
    if (shard->exports.replayed != NULL)
        cairn_counter_add(shard->exports.replayed, replayed);
    return 0;
}

void shard_views_close(struct cairn_shard *shard)
{
    for (uint32_t i = 0; i < shard->collections_count; i++)
        shard_collection_free(shard->collections[i], false);
    free(shard->collections);
    shard->collections = NULL;
    shard->collections_count = 0;
    cairn_log_close(&shard->log);
    if (shard->rows != NULL)
        cairn_rowstore_close(&shard->rows);
}
