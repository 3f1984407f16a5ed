/* Dropping rows of tokens that the shard does not own: what moved away, and what an import that was
 * given up has left.
 *
 * Each batch is a FORGET record, so that views replayed from the log drop the same rows at the same
 * place. A thread makes passes over all rows while `mixed` is set; a pass that finds nothing, under
 * an epoch that stayed the same and without a move to this shard, clears it. `clean` in the shard's
 * directory remembers the epoch of such a pass, which spares a restart the next one. It is a hint:
 * without it the rows are looked at once more.
 *
 * Rows are dropped some seconds after the map that gave them away, so that reads which began before
 * end first. */
#include "shard/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/diag.h"
#include "base/thread.h"
#include "base/time.h"

#define CLEAN_FILE "clean"
/* Of one record: writes wait while it is applied. */
#define BATCH_KEYS  256u
#define RETRY_MS    1000u
#define REST_MAX_US 200000u

/* Which rows of one collection go. */
struct forget_pass {
    struct cairn_shard *shard;
    const struct cairn_map *map;
    const struct cairn_shard_move
        *move; /* its tokens too, which are about to be copied here anew; NULL: none */
    const struct cairn_schema *schema;
    struct cairn_arena arena;
    struct cairn_str keys[BATCH_KEYS];
    uint32_t count;
    struct cairn_encoder *encoder;
    uint64_t dropped;
};

static bool must_go(const struct forget_pass *pass, uint64_t token)
{
    const struct cairn_map *map = pass->map;
    uint32_t id = pass->shard->id;
    if (pass->move != NULL &&
        cairn_map_is_moving(map, token, pass->move->source, pass->move->target))
        return true;
    if (cairn_map_owner(map, token) == id)
        return false;
    const struct cairn_map_move *move = cairn_map_move_of(map, token);
    return move == NULL || move->done || move->target != id; /* not one that is being copied here */
}

static int drop_batch(struct forget_pass *pass, struct cairn_error *err)
{
    if (pass->count == 0)
        return 0;
    struct cairn_shard_item item = {.kind = CAIRN_RECORD_FORGET,
                                    .collection = pass->schema->id,
                                    .payload =
                                        cairn_forget_encode(pass->encoder, pass->keys, pass->count),
                                    .if_offset = CAIRN_OFFSET_NONE};
    struct shard_write_terms terms = {
        .if_epoch = pass->map->epoch, .keys = pass->keys, .keys_count = pass->count};
    int code = shard_write_wait(pass->shard, &item, 1, &terms, err);
    pass->dropped += code == 0 ? pass->count : 0;
    pass->count = 0;
    cairn_arena_reset(&pass->arena);
    return code;
}

/* Collect up to a batch of keys after `after` that must go; *more says whether the scan goes on. */
static int collect(struct forget_pass *pass, struct cairn_buf *after, bool *more,
                   struct cairn_error *err)
{
    struct cairn_row_scan *scan = NULL;
    struct cairn_str key, last = {after->data, (uint32_t)after->len};
    struct cairn_row_view view;
    int code = cairn_row_scan_open_all(pass->shard->rows, pass->schema->id, last, &scan, err);
    *more = true;
    while (code == 0 && pass->count < BATCH_KEYS) {
        code = cairn_row_scan_next(scan, &key, &view, err);
        if (code == 0 && must_go(pass, shard_row_token(pass->schema, key, &view)))
            pass->keys[pass->count++] = cairn_arena_dup(&pass->arena, key);
    }
    if (code == 0) {
        cairn_buf_clear(after);
        cairn_buf_append(after, key.ptr, key.len);
    } else if (code == CAIRN_EEND) {
        *more = false;
        code = 0;
    }
    if (scan != NULL)
        cairn_row_scan_close(&scan);
    return code;
}

/* A pass in the background takes half of the time at most. */
static void rest(struct cairn_shard *shard, uint64_t busy_us)
{
    struct shard_forget *forget = &shard->forget;
    uint64_t until_us = cairn_time_monotonic_us() + (busy_us < REST_MAX_US ? busy_us : REST_MAX_US);
    struct timespec until = {.tv_sec = (time_t)(until_us / 1000000),
                             .tv_nsec = (long)(until_us % 1000000) * 1000};
    pthread_mutex_lock(&forget->wake_lock);
    while (!forget->stopping && cairn_time_monotonic_us() < until_us)
        (void)pthread_cond_clockwait(&forget->wake, &forget->wake_lock, CLOCK_MONOTONIC, &until);
    pthread_mutex_unlock(&forget->wake_lock);
}

/* A pass of the thread ends when the shard closes; what it leaves is found at the next start. */
static int check_stopping(struct forget_pass *pass, struct cairn_error *err)
{
    struct shard_forget *forget = &pass->shard->forget;
    pthread_mutex_lock(&forget->wake_lock);
    bool stopping = forget->stopping && pass->move == NULL;
    pthread_mutex_unlock(&forget->wake_lock);
    return stopping ? cairn_fail(err, CAIRN_ESHUTDOWN, "the shard is closing") : 0;
}

static int forget_collection(struct forget_pass *pass, struct cairn_error *err)
{
    struct cairn_buf after = {0};
    bool more = true;
    int code = 0;
    while (code == 0 && more) {
        uint64_t started_us = cairn_time_monotonic_us();
        code = collect(pass, &after, &more, err);
        if (code == 0)
            code = drop_batch(pass, err);
        if (code == 0 && pass->move == NULL)
            rest(pass->shard, cairn_time_monotonic_us() - started_us);
        if (code == 0)
            code = check_stopping(pass, err);
    }
    cairn_buf_release(&after);
    return code;
}

static int forget_all(struct cairn_shard *shard, const struct cairn_map *map,
                      const struct cairn_shard_move *move, uint64_t *dropped,
                      struct cairn_error *err)
{
    struct forget_pass *pass = cairn_calloc(1, sizeof *pass);
    *pass = (struct forget_pass){
        .shard = shard, .map = map, .move = move, .encoder = cairn_encoder_new()};
    uint32_t count;
    const struct cairn_schema **schemas = shard_schemas(shard, &count);
    int code = 0;
    for (uint32_t i = 0; i < count; i++) {
        pass->schema = schemas[i];
        if (code == 0)
            code = forget_collection(pass, err);
        if (code == CAIRN_ENOCOLLECTION)
            code = 0; /* dropped meanwhile, with its rows */
        cairn_schema_unref(schemas[i]);
    }
    *dropped = pass->dropped;
    free(schemas);
    cairn_encoder_free(&pass->encoder);
    cairn_arena_release(&pass->arena);
    free(pass);
    return code;
}

int shard_forget_move(struct cairn_shard *shard, const struct cairn_map *map,
                      const struct cairn_shard_move *move, struct cairn_error *err)
{
    uint64_t dropped;
    if (!atomic_load(&shard->ownership.mixed))
        return 0;
    return forget_all(shard, map, move, &dropped, err);
}

static bool read_clean(struct cairn_shard *shard, uint64_t epoch)
{
    char path[4096], text[32] = "", expected[32];
    (void)snprintf(path, sizeof path, "%s/" CLEAN_FILE, shard->dir);
    int len = snprintf(expected, sizeof expected, "%llu\n", (unsigned long long)epoch);
    int fd = shard->io->open(shard->io->context, path, CAIRN_OPEN_READ);
    if (fd < 0)
        return false;
    bool same = cairn_io_read_full(shard->io, fd, text, (size_t)len, 0) == 0 &&
                memcmp(text, expected, (size_t)len) == 0;
    shard->io->close(shard->io->context, fd);
    return same;
}

static void write_clean(struct cairn_shard *shard, uint64_t epoch)
{
    char text[32];
    int len = snprintf(text, sizeof text, "%llu\n", (unsigned long long)epoch);
    (void)cairn_io_replace_file(shard->io, shard->dir, CLEAN_FILE, text, (size_t)len);
}

static bool is_target(const struct cairn_shard *shard, const struct cairn_map *map)
{
    for (uint32_t i = 0; i < map->moves_count; i++)
        if (map->moves[i].target == shard->id && !map->moves[i].done)
            return true;
    return false;
}

/* Unless there is another map meanwhile, under which the pass proves nothing. */
static bool clear_mixed(struct cairn_shard *shard, uint64_t epoch)
{
    struct shard_ownership *own = &shard->ownership;
    pthread_rwlock_rdlock(&own->lock);
    bool same = own->map->epoch == epoch;
    if (same)
        atomic_store(&own->mixed, false);
    pthread_rwlock_unlock(&own->lock);
    return same;
}

/* One pass. Returns false when another one is needed soon. */
static bool run_pass(struct cairn_shard *shard)
{
    struct cairn_error err = {0};
    uint64_t dropped = 0;
    if (cairn_shard_state(shard, NULL) != CAIRN_SHARD_SERVING)
        return true; /* until it is restarted */
    pthread_mutex_lock(&shard->forget.lock);
    const struct cairn_map *map = cairn_shard_map(shard);
    int code = map != NULL ? forget_all(shard, map, NULL, &dropped, &err) : 0;
    bool same = map != NULL && code == 0 && cairn_shard_epoch(shard) == map->epoch;
    bool clean = same && dropped == 0 && !is_target(shard, map);
    if (clean && clear_mixed(shard, map->epoch))
        write_clean(shard, map->epoch);
    bool settled = same && dropped == 0;
    cairn_map_unref(map);
    pthread_mutex_unlock(&shard->forget.lock);
    if (code != 0 && code != CAIRN_EPRECONDITION && code != CAIRN_ESHUTDOWN)
        cairn_warn("shard", "s%u: rows that moved away are still there: %s", shard->id,
                   err.message);
    if (dropped > 0)
        cairn_info("shard", "s%u: dropped %llu rows that moved away", shard->id,
                   (unsigned long long)dropped);
    return settled;
}

static void *forget_main(void *argument)
{
    struct cairn_shard *shard = argument;
    struct shard_forget *forget = &shard->forget;
    cairn_thread_give_way();
    pthread_mutex_lock(&forget->wake_lock);
    while (!forget->stopping) {
        uint64_t now_us = cairn_time_monotonic_us();
        if (forget->census) {
            forget->census = false;
            pthread_mutex_unlock(&forget->wake_lock);
            shard_census_take(shard);
            pthread_mutex_lock(&forget->wake_lock);
        } else if (!forget->wanted) {
            pthread_cond_wait(&forget->wake, &forget->wake_lock);
        } else if (now_us < forget->not_before_us) {
            struct timespec until = {.tv_sec = (time_t)(forget->not_before_us / 1000000),
                                     .tv_nsec = (long)(forget->not_before_us % 1000000) * 1000};
            (void)pthread_cond_clockwait(&forget->wake, &forget->wake_lock, CLOCK_MONOTONIC,
                                         &until);
        } else {
            forget->wanted = false;
            pthread_mutex_unlock(&forget->wake_lock);
            bool settled = run_pass(shard);
            pthread_mutex_lock(&forget->wake_lock);
            if (!settled && !forget->wanted) {
                forget->wanted = true;
                forget->not_before_us = cairn_time_monotonic_us() + RETRY_MS * UINT64_C(1000);
            }
        }
    }
    pthread_mutex_unlock(&forget->wake_lock);
    return NULL;
}

void shard_forget_census(struct cairn_shard *shard)
{
    struct shard_forget *forget = &shard->forget;
    if (!forget->started)
        return;
    pthread_mutex_lock(&forget->wake_lock);
    forget->census = true;
    pthread_cond_signal(&forget->wake);
    pthread_mutex_unlock(&forget->wake_lock);
}

void shard_forget_wake(struct cairn_shard *shard)
{
    struct shard_forget *forget = &shard->forget;
    if (!forget->started || !atomic_load(&shard->ownership.mixed))
        return;
    pthread_mutex_lock(&forget->wake_lock);
    forget->wanted = true;
    forget->not_before_us = cairn_time_monotonic_us() + shard->forget_after_ms * UINT64_C(1000);
    pthread_cond_signal(&forget->wake);
    pthread_mutex_unlock(&forget->wake_lock);
}

int shard_forget_open(struct cairn_shard *shard, struct cairn_error *err)
{
    struct shard_forget *forget = &shard->forget;
    const struct cairn_map *map = cairn_shard_map(shard);
    if (map != NULL && !is_target(shard, map) && read_clean(shard, map->epoch))
        atomic_store(&shard->ownership.mixed, false);
    cairn_map_unref(map);
    pthread_mutex_init(&forget->lock, NULL);
    pthread_mutex_init(&forget->wake_lock, NULL);
    pthread_cond_init(&forget->wake, NULL);
    if (pthread_create(&forget->thread, NULL, forget_main, shard) != 0) {
        pthread_cond_destroy(&forget->wake);
        pthread_mutex_destroy(&forget->wake_lock);
        pthread_mutex_destroy(&forget->lock);
        return cairn_fail(err, CAIRN_ENOMEM, "shard s%u: cannot start a thread", shard->id);
    }
    forget->started = true;
    shard_forget_wake(shard);
    return 0;
}

void shard_forget_close(struct cairn_shard *shard)
{
    struct shard_forget *forget = &shard->forget;
    if (!forget->started)
        return;
    pthread_mutex_lock(&forget->wake_lock);
    forget->stopping = true;
    pthread_cond_signal(&forget->wake);
    pthread_mutex_unlock(&forget->wake_lock);
    pthread_join(forget->thread, NULL);
    pthread_cond_destroy(&forget->wake);
    pthread_mutex_destroy(&forget->wake_lock);
    pthread_mutex_destroy(&forget->lock);
}
