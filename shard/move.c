/* Copying a move: reading its records from the source's log, appending them to the target's. */
#include "shard/internal.h"

#include <stdlib.h>
#include <time.h>

#include "base/diag.h"
#include "base/time.h"
#include "featurestore/import_record.h"

#define STEP_US     UINT64_C(1000000) /* of one step, whose caller has a deadline */
#define CLOCK_EVERY 4096u             /* records that are passed between two looks at the time */

/* What of the log belongs to a move, as the cursor passes over it. */
struct move_filter {
    struct cairn_shard *shard;
    const struct cairn_map *map;
    const struct cairn_shard_move *move;
    uint64_t from, boundary; /* offset of the last batch that ended; before the first: `from` */
    uint64_t until_us;       /* monotonic */
    uint32_t passed;
    bool late; /* the time is over: the record is only there to say so */
};

static bool is_wanted(void *context, const struct cairn_log_record *record)
{
    struct move_filter *filter = context;
    bool wanted = (record->kind == CAIRN_RECORD_ENTITY || record->kind == CAIRN_RECORD_IMPORT) &&
                  cairn_map_is_moving(filter->map, record->token, filter->move->source,
                                      filter->move->target) &&
                  !shard_is_void(filter->shard, record->token, record->offset);
    if (!wanted && record->batch_remaining == 0)
        filter->boundary = record->offset;
    if (!wanted && filter->boundary > filter->from && ++filter->passed % CLOCK_EVERY == 0)
        filter->late = cairn_time_monotonic_us() >= filter->until_us;
    return wanted || filter->late;
}

/* The step's records; grown as needed, moved to the arena at its end. */
struct step {
    struct cairn_shard_record *records;
    uint32_t count, capacity;
    uint64_t bytes;
};

static int add_record(struct step *step, const struct cairn_log_record *record, uint32_t shard,
                      struct cairn_arena *arena, struct cairn_error *err)
{
    struct cairn_shard_record out = {.source_offset = record->offset,
                                     .origin_shard = shard,
                                     .origin_offset = record->offset,
                                     .ingest_time_us = record->ingest_time_us,
                                     .collection = record->collection,
                                     .token = record->token,
                                     .payload = record->payload};
    if (record->kind == CAIRN_RECORD_IMPORT) {
        struct cairn_imported imported;
        int code = cairn_imported_decode(record->payload, &imported, err);
        if (code != 0)
            return code;
        out.origin_shard = imported.origin_shard;
        out.origin_offset = imported.origin_offset;
        out.ingest_time_us = imported.ingest_time_us;
        out.payload = imported.entity;
    }
    out.payload = cairn_arena_dup(arena, out.payload);
    if (step->count == step->capacity) {
        step->capacity += step->capacity / 2 + 256;
        step->records = cairn_realloc(step->records, step->capacity * sizeof *step->records);
    }
    step->records[step->count++] = out;
    step->bytes += out.payload.len;
    return 0;
}

/* Whole batches, until there are bytes_max, the log ends, or the time is over. *reached is the end
 * of the last batch that was taken or passed. */
static int read_step(struct cairn_log_cursor *cursor, struct move_filter *filter,
                     uint64_t bytes_max, struct step *step, struct cairn_arena *arena,
                     uint64_t *reached, struct cairn_error *err)
{
    uint32_t whole = 0; /* records of batches that have ended */
    for (;;) {
        struct cairn_log_record record;
        int code = cairn_log_cursor_next(cursor, &record, err);
        if (filter->boundary > *reached) {
            *reached = filter->boundary;
            whole = step->count;
        }
        if (code == CAIRN_EEND) {
            *reached = cairn_log_cursor_offset(cursor); /* the log ends with a batch */
            return 0;
        }
        if (code == 0 && (filter->late || (whole > 0 && step->bytes >= bytes_max))) {
            step->count = whole;
            return 0;
        }
        if (code == 0)
            code = add_record(step, &record, filter->shard->id, arena, err);
        if (code != 0)
            return code;
        if (record.batch_remaining == 0) {
            *reached = filter->boundary = record.offset;
            whole = step->count;
            if (step->bytes >= bytes_max)
                return 0;
        }
    }
}

/* Until the log has grown past `offset`, or the time is over. */
static void wait_past(struct cairn_shard *shard, uint64_t offset, uint32_t wait_ms)
{
    uint64_t until_us = cairn_time_monotonic_us() + wait_ms * UINT64_C(1000);
    struct timespec pause = {.tv_nsec = 1000000};
    while (cairn_shard_applied(shard) <= offset && cairn_time_monotonic_us() < until_us)
        (void)nanosleep(&pause, NULL);
}

int cairn_shard_export(struct cairn_shard *shard, const struct cairn_shard_move *move,
                       uint64_t from_offset, uint64_t bytes_max, uint32_t wait_ms,
                       struct cairn_arena *arena, struct cairn_shard_record **records,
                       uint32_t *count, struct cairn_shard_progress *progress,
                       struct cairn_error *err)
{
    struct move_filter filter = {
        .shard = shard, .move = move, .from = from_offset, .boundary = from_offset};
    struct cairn_log_range range = {
        .from_offset = from_offset + 1, .wants = is_wanted, .wants_context = &filter};
    struct cairn_log_cursor *cursor = NULL;
    struct step step = {0};
    uint64_t reached = from_offset;
    *records = NULL;
    *count = 0;
    int code = shard_move_map(shard, move, &filter.map, err);
    if (code == 0 && move->source != shard->id)
        code = cairn_fail(err, CAIRN_EPARAM, "shard s%u is not the source of the move", shard->id);
    if (code == 0 && shard->log == NULL)
        code = cairn_fail(err, CAIRN_ECORRUPT, "shard s%u has no readable log", shard->id);
    if (code == 0) {
        wait_past(shard, from_offset, wait_ms);
        filter.until_us = cairn_time_monotonic_us() + STEP_US;
        code = cairn_log_cursor_open(shard->log, &range, &cursor, err);
    }
    if (code == 0)
        code = read_step(cursor, &filter, bytes_max, &step, arena, &reached, err);
    if (cursor != NULL)
        cairn_log_cursor_close(&cursor);
    if (code == 0) {
        *records = cairn_arena_alloc(arena, step.count * sizeof **records + 1);
        if (step.count > 0)
            memcpy(*records, step.records, step.count * sizeof **records);
        *count = step.count;
        *progress = (struct cairn_shard_progress){.reached = reached,
                                                  .end_offset = cairn_shard_applied(shard),
                                                  .records = step.count,
                                                  .bytes = step.bytes};
    }
    free(step.records);
    cairn_map_unref(filter.map);
    return code;
}

struct import_find {
    uint64_t begin_offset;
    struct cairn_shard_progress *progress;
};

static int find_import(void *argument, const struct cairn_import_state *state)
{
    struct import_find *find = argument;
    if (state->begin_offset == find->begin_offset)
        *find->progress = (struct cairn_shard_progress){
            .reached = state->reached, .records = state->records, .bytes = state->bytes};
    return 0;
}

static int append_begin(struct cairn_shard *shard, const struct cairn_map *map,
                        const struct cairn_shard_move *move, struct cairn_error *err)
{
    struct cairn_buf text = {0}, payload = {0};
    cairn_map_encode(map, &text);
    struct cairn_import_begin begin = {.source = move->source,
                                       .map_text = {text.data, (uint32_t)text.len}};
    cairn_import_begin_encode(&begin, &payload);
    struct cairn_shard_item item = {.kind = CAIRN_RECORD_IMPORT_BEGIN,
                                    .payload = {payload.data, (uint32_t)payload.len},
                                    .if_offset = CAIRN_OFFSET_NONE};
    struct shard_write_terms terms = {.if_epoch = map->epoch};
    int code = shard_write_wait(shard, &item, 1, &terms, err);
    cairn_buf_release(&payload);
    cairn_buf_release(&text);
    return code;
}

int cairn_shard_import_begin(struct cairn_shard *shard, const struct cairn_shard_move *move,
                             struct cairn_shard_progress *progress, struct cairn_error *err)
{
    const struct cairn_map *map = NULL;
    *progress = (struct cairn_shard_progress){0};
    if (move->target != shard->id)
        return cairn_fail(err, CAIRN_EPARAM, "shard s%u is not the target of the move", shard->id);
    int code = shard_move_map(shard, move, &map, err);
    if (code != 0)
        return code;
    uint64_t begin = shard_import_offset(shard, move);
    if (begin == 0) { /* later steps need not wait for a pass of forget.c, which spares the move */
        pthread_mutex_lock(&shard->forget.lock);
        if (shard_import_offset(shard, move) == 0)
            code = shard_forget_move(shard, map, move, err);
        if (code == 0 && shard_import_offset(shard, move) == 0)
            code = append_begin(shard, map, move, err);
        begin = shard_import_offset(shard, move);
        pthread_mutex_unlock(&shard->forget.lock);
    }
    cairn_map_unref(map);
    if (code != 0)
        return code;
    struct import_find find = {begin, progress};
    return cairn_rowstore_each_import(shard->rows, find_import, &find, err);
}

int cairn_shard_import_append(struct cairn_shard *shard, const struct cairn_shard_move *move,
                              const struct cairn_shard_record *records, uint32_t count,
                              struct cairn_error *err)
{
    struct cairn_shard_progress progress;
    int code = cairn_shard_import_begin(shard, move, &progress, err);
    while (code == 0 && count > 0 && records->source_offset <= progress.reached) {
        records++;
        count--;
    }
    if (code != 0 || count == 0)
        return code;
    struct cairn_arena arena = {0};
    struct cairn_encoder *encoder = cairn_encoder_new();
    struct cairn_shard_item *items = cairn_calloc(count, sizeof *items);
    for (uint32_t i = 0; i < count; i++) {
        const struct cairn_shard_record *record = &records[i];
        struct cairn_imported imported = {.source = move->source,
                                          .source_offset = record->source_offset,
                                          .origin_shard = record->origin_shard,
                                          .origin_offset = record->origin_offset,
                                          .ingest_time_us = record->ingest_time_us,
                                          .entity = record->payload};
        items[i] = (struct cairn_shard_item){
            .kind = CAIRN_RECORD_IMPORT,
            .collection = record->collection,
            .token = record->token,
            .payload = cairn_arena_dup(&arena, cairn_imported_encode(encoder, &imported)),
            .if_offset = CAIRN_OFFSET_NONE};
    }
    code = shard_write_wait(shard, items, count, NULL, err);
    if (code == CAIRN_ENOCOLLECTION) /* some of it was of collections that are dropped */
        code = 0;
    free(items);
    cairn_encoder_free(&encoder);
    cairn_arena_release(&arena);
    return code;
}
