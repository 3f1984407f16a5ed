/* The writer thread: group commit.
 *
 * Whatever queued while the last fsync ran goes into the next group, up to CAIRN_GROUP_BYTES_MAX.
 * Each write of a group is a batch of its own in the log, so a crash keeps or loses it whole. Steps
 * of one group:
 *
 *   take      move writes from the queue
 *   admit     check that the shard owns the tokens, if_offset preconditions, and free disk space,
 *             but for maps and forgets: a full shard must be able to give keys away; a write that
 *             fails leaves the group, one to tokens that are being cut over is held (hold.c)
 *   append    one log append, one fsync
 *   apply     row store, catalog, indexes
 *   publish   raise `applied`
 *   answer    done() of each write
 *
 * A precondition looks at the row store, which does not know the group's own earlier writes; a
 * write with a precondition on a key that the group already writes therefore waits for the next
 * group. A map is a group of its own, so every other write of a group is admitted under the map
 * that is in force at its place in the log. */
#include "shard/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/diag.h"
#include "base/failpoint.h"
#include "base/hash.h"
#include "base/time.h"

#define IMPORT_RUN_RECORDS 1024u

/* One group's arrays, reused; grown, never shrunk below what the queue's limits allow. */
struct shard_group {
    struct cairn_shard_write **writes;
    struct cairn_log_batch *batches;
    uint32_t writes_count, writes_capacity;
    struct cairn_log_entry *entries;
    struct cairn_log_record *records;
    struct cairn_apply_result *results;
    uint32_t entries_count, entries_capacity;
    uint64_t *keys; /* open-addressed set of the hashes of the group's keys; 0 is empty */
    uint32_t keys_capacity;
    bool has_map;       /* it is one map and nothing else */
    bool space_checked; /* `no_space` says with what outcome */
    struct cairn_error no_space;
    struct cairn_shard_write *rest; /* taken from the queue, for the next group */
};

static void group_free(struct shard_group *group)
{
    free(group->writes);
    free(group->batches);
    free(group->entries);
    free(group->records);
    free(group->results);
    free(group->keys);
    free(group);
}

/* Not the token, which follows the route: one key may be written with several. */
static uint64_t key_hash(const struct cairn_shard_item *item)
{
    uint64_t hash = cairn_hash64(item->key.ptr, item->key.len);
    return (hash + item->collection * UINT64_C(0x9E3779B97F4A7C15)) | 1;
}

static bool keys_has(const struct shard_group *group, uint64_t hash)
{
    if (group->keys_capacity == 0)
        return false;
    uint64_t mask = group->keys_capacity - 1;
    for (uint64_t at = (hash >> 1) & mask; group->keys[at] != 0; at = (at + 1) & mask)
        if (group->keys[at] == hash)
            return true;
    return false;
}

static void keys_add(struct shard_group *group, uint64_t hash)
{
    uint64_t mask = group->keys_capacity - 1;
    uint64_t at = (hash >> 1) & mask;
    while (group->keys[at] != 0 && group->keys[at] != hash)
        at = (at + 1) & mask;
    group->keys[at] = hash;
}

static void group_reserve(struct shard_group *group, uint32_t entries, uint32_t writes)
{
    if (writes > group->writes_capacity) {
        group->writes_capacity = writes + writes / 2;
        group->writes =
            cairn_realloc(group->writes, group->writes_capacity * sizeof *group->writes);
        group->batches =
            cairn_realloc(group->batches, group->writes_capacity * sizeof *group->batches);
    }
    if (entries > group->entries_capacity) {
        group->entries_capacity = entries + entries / 2;
        group->entries =
            cairn_realloc(group->entries, group->entries_capacity * sizeof *group->entries);
        group->records =
            cairn_realloc(group->records, group->entries_capacity * sizeof *group->records);
        group->results =
            cairn_realloc(group->results, group->entries_capacity * sizeof *group->results);
    }
    uint32_t capacity = group->keys_capacity == 0 ? 1024 : group->keys_capacity;
    while (capacity < entries * 2)
        capacity *= 2;
    if (capacity != group->keys_capacity) {
        free(group->keys);
        group->keys = cairn_malloc(capacity * sizeof *group->keys);
        group->keys_capacity = capacity;
    }
    memset(group->keys, 0, group->keys_capacity * sizeof *group->keys);
}

/* Wait for work, or for what control asks; the queue's lock is held. */
static void wait_for_work(struct cairn_shard *shard)
{
    uint64_t until_us = shard_hold_until_us(shard);
    if (until_us == 0) {
        pthread_cond_wait(&shard->queue_filled, &shard->queue_lock);
        return;
    }
    struct timespec until = {.tv_sec = (time_t)(until_us / 1000000),
                             .tv_nsec = (long)(until_us % 1000000) * 1000};
    (void)pthread_cond_clockwait(&shard->queue_filled, &shard->queue_lock, CLOCK_MONOTONIC, &until);
}

static bool has_work(const struct cairn_shard *shard)
{
    return shard->queue_head != NULL || shard->stopping || shard->control.freeze != NULL ||
           shard->control.thaw != 0;
}

/* Take a group's worth of writes from the queue; NULL when there are none, or only something for
 * hold.c. The list stays linked through `next`. *stopping says that no more will come. */
static struct cairn_shard_write *take(struct cairn_shard *shard, bool *stopping)
{
    pthread_mutex_lock(&shard->queue_lock);
    if (!has_work(shard))
        wait_for_work(shard);
    *stopping = shard->stopping;
    struct cairn_shard_write *list = shard->queue_head, *last = NULL;
    uint64_t bytes = 0;
    uint64_t count = 0;
    for (struct cairn_shard_write *write = list; write != NULL; write = write->next) {
        if (last != NULL && bytes + write->bytes > CAIRN_GROUP_BYTES_MAX)
            break;
        bytes += write->bytes;
        count++;
        last = write;
    }
    if (last != NULL) {
        shard->queue_head = last->next;
        last->next = NULL;
        if (shard->queue_head == NULL)
            shard->queue_tail = &shard->queue_head;
        shard->queued_writes -= count;
        shard->queued_bytes -= bytes;
    }
    pthread_mutex_unlock(&shard->queue_lock);
    return list;
}

static void answer(struct cairn_shard_write *write)
{
    write->done(write);
}

static int check_precondition(struct cairn_shard *shard, const struct cairn_shard_item *item,
                              struct cairn_error *err)
{
    struct cairn_row_pin pin = {0};
    int code = cairn_rowstore_get(shard->rows, item->collection, item->key, &pin, err);
    if (code != 0)
        return code;
    uint64_t offset = pin.found ? cairn_row_view_newest(&pin.view).offset : 0;
    cairn_row_pin_release(&pin);
    if (cairn_if_offset_holds(item->if_offset, shard->id, offset))
        return 0;
    uint64_t asked = item->if_offset & ((UINT64_C(1) << CAIRN_IF_OFFSET_BITS) - 1);
    uint64_t on = item->if_offset >> CAIRN_IF_OFFSET_BITS;
    char where[16] = "";
    if (on > 0)
        (void)snprintf(where, sizeof where, "s%llu:", (unsigned long long)on - 1);
    if (offset == 0)
        return cairn_fail(err, CAIRN_EPRECONDITION,
                          "key %.*s: if_offset is %s%llu but the entity does not exist",
                          CAIRN_STR_ARG(item->key), where, (unsigned long long)asked);
    return cairn_fail(err, CAIRN_EPRECONDITION,
                      "key %.*s: if_offset is %s%llu but the entity is at offset %llu of s%u",
                      CAIRN_STR_ARG(item->key), where, (unsigned long long)asked,
                      (unsigned long long)offset, shard->id);
}

enum admission { ADMIT, REFUSE, WAIT, HOLD };

/* A map must be newer than the one in force, and must not take tokens from this shard, unless it is
 * a release: then exactly those of the move that is held. */
static enum admission admit_map(struct cairn_shard *shard, const struct shard_group *group,
                                struct cairn_shard_write *write)
{
    const struct cairn_map *now = shard->ownership.map, *map = write->terms->map;
    const struct shard_hold *hold = &shard->hold;
    uint64_t epoch = now != NULL ? now->epoch : 0;
    if (group->writes_count > 0)
        return WAIT;
    if (now != NULL && now->cluster != map->cluster) {
        cairn_fail(&write->error, CAIRN_EPARAM,
                   "shard s%u belongs to the cluster %016llx and the map to %016llx", shard->id,
                   (unsigned long long)now->cluster, (unsigned long long)map->cluster);
        return REFUSE;
    }
    if (write->terms->if_epoch != CAIRN_OFFSET_NONE && write->terms->if_epoch != epoch) {
        cairn_fail(&write->error, CAIRN_EPRECONDITION, "shard s%u is at epoch %llu, not %llu",
                   shard->id, (unsigned long long)epoch,
                   (unsigned long long)write->terms->if_epoch);
        return REFUSE;
    }
    bool fenced = hold->active && write->terms->fence == hold->fence &&
                  cairn_time_monotonic_us() < hold->until_us;
    if (write->terms->fence != 0 && (!fenced || map->epoch <= epoch)) {
        cairn_fail(&write->error, CAIRN_EPRECONDITION,
                   "shard s%u: the hold on writes that the release names is over", shard->id);
        return REFUSE;
    }
    if (map->epoch <= epoch)
        return REFUSE; /* known already: nothing to do, and no error */
    for (uint32_t i = 0; now != NULL && i < map->moves_count; i++) {
        const struct cairn_map_move *move = &map->moves[i];
        if (move->source != shard->id || !move->done || now->plan != map->plan)
            continue;
        const struct cairn_map_move *before = cairn_map_move(now, move->source, move->target);
        bool held = fenced && hold->move.target == move->target;
        if (before != NULL && !before->done && !held) {
            cairn_fail(&write->error, CAIRN_EPRECONDITION,
                       "shard s%u has not released what the map of epoch %llu gives to s%u",
                       shard->id, (unsigned long long)map->epoch, move->target);
            return REFUSE;
        }
    }
    return ADMIT;
}

/* Whether the map lets this record be appended here. */
static int check_ownership(struct cairn_shard *shard, const struct cairn_shard_item *item,
                           struct cairn_error *err)
{
    const struct cairn_map *map = shard->ownership.map;
    if (item->kind == CAIRN_RECORD_ENTITY) {
        if (map != NULL && cairn_map_owner(map, item->token) == shard->id)
            return 0;
    } else if (item->kind == CAIRN_RECORD_IMPORT) {
        const struct cairn_map_move *move =
            map != NULL ? cairn_map_move_of(map, item->token) : NULL;
        if (move != NULL && move->target == shard->id && !move->done)
            return 0;
    } else
        return 0;
    return cairn_fail(err, CAIRN_ENOTOWNER,
                      "shard s%u does not own the token of key %.*s at epoch %llu", shard->id,
                      CAIRN_STR_ARG(item->key), (unsigned long long)(map != NULL ? map->epoch : 0));
}

/* A key may have been deleted and written again with another route, so a row that the shard has of
 * it may stand under a token that is another shard's, until it is forgotten or the copy has come to
 * the deletion. A write must not be merged into such a row. */
static int check_former_row(struct cairn_shard *shard, const struct cairn_shard_item *item,
                            struct cairn_error *err)
{
    struct cairn_collection_counts counts;
    bool found, foreign;
    const struct shard_collection *collection = shard_collection_find(shard, item->collection);
    if (item->kind != CAIRN_RECORD_ENTITY || collection == NULL ||
        !atomic_load(&shard->ownership.mixed))
        return 0;
    cairn_rowstore_counts(shard->rows, item->collection, &counts);
    if (counts.routed == 0 && item->token == cairn_token(collection->schema->name, item->key))
        return 0;
    int code = shard_row_find(shard, collection->schema, item->key, &found, &foreign, err);
    return code != 0 || !found || !foreign
               ? code
               : cairn_fail(err, CAIRN_EOVERLOADED,
                            "key %.*s: what shard s%u has of its former route is not dropped yet; "
                            "retry later",
                            CAIRN_STR_ARG(item->key), shard->id);
}

/* A key that is to be forgotten may have been written again, with a token of this shard, since its
 * row was seen. */
static enum admission admit_forget(struct cairn_shard *shard, const struct shard_group *group,
                                   struct cairn_shard_write *write)
{
    uint32_t id = write->items[0].collection;
    const struct shard_collection *collection = shard_collection_find(shard, id);
    for (uint32_t i = 0; i < write->terms->keys_count && collection != NULL; i++) {
        struct cairn_shard_item item = {.collection = id, .key = write->terms->keys[i]};
        bool found, foreign;
        if (keys_has(group, key_hash(&item)))
            return WAIT;
        if (shard_row_find(shard, collection->schema, item.key, &found, &foreign, &write->error) !=
            0)
            return REFUSE;
        if (found && !foreign) {
            cairn_fail(&write->error, CAIRN_EPRECONDITION, "key %.*s was written again",
                       CAIRN_STR_ARG(item.key));
            return REFUSE;
        }
    }
    return ADMIT;
}

static int check_space(struct cairn_shard *shard, struct shard_group *group,
                       struct cairn_error *err)
{
    uint64_t free_bytes = 0;
    if (!group->space_checked) {
        group->space_checked = true;
        group->no_space.code = 0;
        if (shard->io->free_bytes(shard->io->context, shard->dir, &free_bytes) == 0 &&
            free_bytes < shard->free_bytes_min)
            cairn_fail(&group->no_space, CAIRN_ENOSPACE,
                       "shard s%u: the disk has %llu bytes free and %llu are kept for reads and "
                       "views; free some space",
                       shard->id, (unsigned long long)free_bytes,
                       (unsigned long long)shard->free_bytes_min);
    }
    if (group->no_space.code != 0)
        *err = group->no_space;
    return group->no_space.code;
}

static enum admission admit(struct cairn_shard *shard, struct shard_group *group,
                            struct cairn_shard_write *write)
{
    if (write->terms != NULL && write->terms->map != NULL)
        return admit_map(shard, group, write);
    if (group->has_map)
        return WAIT;
    if (write->terms != NULL && write->terms->if_epoch != CAIRN_OFFSET_NONE &&
        write->terms->if_epoch != cairn_shard_epoch(shard)) {
        cairn_fail(&write->error, CAIRN_EPRECONDITION, "shard s%u has another map meanwhile",
                   shard->id);
        return REFUSE;
    }
    if (write->terms != NULL && write->terms->keys_count > 0)
        return admit_forget(shard, group, write);
    if (write->terms == NULL && check_space(shard, group, &write->error) != 0)
        return REFUSE;
    if (shard_hold_covers(shard, write))
        return shard_hold_keep(shard, write) == 0 ? HOLD : REFUSE;
    for (uint32_t i = 0; i < write->count; i++)
        if (check_ownership(shard, &write->items[i], &write->error) != 0 ||
            check_former_row(shard, &write->items[i], &write->error) != 0)
            return REFUSE;
    for (uint32_t i = 0; i < write->count; i++) {
        const struct cairn_shard_item *item = &write->items[i];
        if (item->if_offset == CAIRN_OFFSET_NONE)
            continue;
        if (keys_has(group, key_hash(item)))
            return WAIT;
        if (check_precondition(shard, item, &write->error) != 0)
            return REFUSE;
    }
    return ADMIT;
}

static void group_add(struct cairn_shard *shard, struct shard_group *group,
                      struct cairn_shard_write *write)
{
    group->batches[group->writes_count] = (struct cairn_log_batch){
        .entries = &group->entries[group->entries_count], .count = write->count};
    group->writes[group->writes_count++] = write;
    for (uint32_t i = 0; i < write->count; i++) {
        const struct cairn_shard_item *item = &write->items[i];
        group->entries[group->entries_count++] =
            (struct cairn_log_entry){.kind = item->kind,
                                     .collection = item->collection,
                                     .token = item->token,
                                     .payload = item->payload};
        keys_add(group, key_hash(item));
        if (item->kind == CAIRN_RECORD_ENTITY)
            shard_hot_write(shard, item->token, item->collection, item->key);
    }
    group->has_map = write->terms != NULL && write->terms->map != NULL;
}

/* Fill the group from `list`; what must wait is left in group->rest. */
static void group_fill(struct cairn_shard *shard, struct shard_group *group,
                       struct cairn_shard_write *list)
{
    uint32_t entries = 0, writes = 0;
    uint64_t bytes = 0;
    for (struct cairn_shard_write *write = list; write != NULL; write = write->next) {
        entries += write->count;
        writes++;
    }
    group->writes_count = 0;
    group->entries_count = 0;
    group->has_map = false;
    group->space_checked = false;
    group_reserve(group, entries, writes);
    while (list != NULL) {
        struct cairn_shard_write *next = list->next;
        if (group->writes_count > 0 && bytes + list->bytes > CAIRN_GROUP_BYTES_MAX)
            break;
        enum admission verdict = admit(shard, group, list);
        if (verdict == WAIT)
            break;
        if (verdict == ADMIT) {
            bytes += list->bytes;
            group_add(shard, group, list);
        } else if (verdict == REFUSE)
            answer(list);
        list = next;
    }
    group->rest = list;
}

/* A write that came after its collection was dropped is in the log and nowhere else: it fails. */
static void fill_results(struct cairn_shard *shard, struct shard_group *group)
{
    uint32_t at = 0;
    for (uint32_t w = 0; w < group->writes_count; w++) {
        struct cairn_shard_write *write = group->writes[w];
        for (uint32_t i = 0; i < write->count; i++, at++) {
            write->results[i] = (struct cairn_write_result){0};
            if (group->results[at].dropped)
                cairn_fail(&write->error, CAIRN_ENOCOLLECTION, "the collection was dropped");
            else
                write->results[i] =
                    (struct cairn_write_result){.status = group->results[at].status,
                                                .shard = shard->id,
                                                .offset = group->records[at].offset};
        }
    }
}

/* How many records from `at` on are applied together. Readers see a write whole or not at all, but
 * nobody sees what an import brings before it is complete: thousands of its records are applied
 * faster in runs that the processor's caches hold. */
static uint32_t run_length(const struct shard_group *group, uint32_t at)
{
    uint32_t end = at;
    while (end < group->entries_count && end - at < IMPORT_RUN_RECORDS &&
           group->records[end].kind == CAIRN_RECORD_IMPORT)
        end++;
    return end > at ? end - at : group->entries_count - at;
}

static int group_apply(struct cairn_shard *shard, struct shard_group *group,
                       struct cairn_error *err)
{
    int code = 0;
    for (uint32_t at = 0, count; code == 0 && at < group->entries_count; at += count) {
        struct cairn_apply_output output = {.results = &group->results[at]};
        const struct cairn_log_record *records = &group->records[at];
        count = run_length(group, at);
        code = cairn_rowstore_apply(shard->rows, records, count, &output, err);
        if (code == 0)
            code = shard_views_follow(shard, records, count, &output, err);
    }
    return code;
}

/* Append and apply. On success every write's results are filled. */
static int group_commit(struct cairn_shard *shard, struct shard_group *group,
                        struct cairn_error *err)
{
    if (group->has_map)
        cairn_failpoint("shard.before_map");
    int64_t ingest_time_us = shard->io->now_us(shard->io->context);
    if (ingest_time_us < shard->ingest_floor_us)
        ingest_time_us = shard->ingest_floor_us;
    uint64_t offset = 0;
    int code = cairn_log_append(shard->log, group->batches, group->writes_count, &ingest_time_us,
                                &offset, err);
    if (code == CAIRN_EIO)
        shard_refuse_writes(shard, code, "%s; restart to recover", err->message);
    if (code != 0)
        return code;
    if (group->has_map)
        cairn_failpoint("shard.after_map");
    for (uint32_t i = 0; i < group->entries_count; i++)
        group->records[i] = (struct cairn_log_record){.offset = offset + i,
                                                      .ingest_time_us = ingest_time_us,
                                                      .token = group->entries[i].token,
                                                      .collection = group->entries[i].collection,
                                                      .shard = shard->id,
                                                      .kind = group->entries[i].kind,
                                                      .payload = group->entries[i].payload};
    code = group_apply(shard, group, err);
    if (code != 0) {
        shard_refuse_writes(
            shard, code,
            "a view failed after the log accepted a write (the write is durable and appears "
            "after a restart): %s",
            err->message);
        return code;
    }
    fill_results(shard, group);
    return 0;
}

static void group_run(struct cairn_shard *shard, struct shard_group *group)
{
    if (group->writes_count == 0)
        return;
    struct cairn_error err = {0};
    int code = CAIRN_EUNAVAILABLE;
    if (atomic_load(&shard->state) == CAIRN_SHARD_SERVING)
        code = group_commit(shard, group, &err);
    else
        cairn_fail(&err, code, "shard s%u takes no writes", shard->id);
    if (code == 0)
        atomic_store_explicit(&shard->applied, group->records[group->entries_count - 1].offset,
                              memory_order_release);
    for (uint32_t i = 0; i < group->writes_count; i++) {
        struct cairn_shard_write *write = group->writes[i];
        if (code != 0)
            write->error = err;
        answer(write);
    }
}

static void run_list(struct cairn_shard *shard, struct shard_group *group,
                     struct cairn_shard_write *list)
{
    list = shard_hold_before(shard, list);
    while (list != NULL) {
        group_fill(shard, group, list);
        group_run(shard, group);
        list = shard_hold_before(shard, group->rest); /* a map ends a hold */
    }
}

void *shard_writer_main(void *argument)
{
    struct cairn_shard *shard = argument;
    struct shard_group *group = cairn_calloc(1, sizeof *group);
    bool stopping = false;
    struct cairn_shard_write *list = NULL;
    while (!stopping || list != NULL) {
        list = take(shard, &stopping);
        shard_hold_turn(shard); /* ends a hold when there is to be no other turn */
        run_list(shard, group, list);
        shard_views_save(shard, false);
    }
    group_free(group);
    return NULL;
}

struct write_waiting {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
};

static void wake(struct cairn_shard_write *write)
{
    struct write_waiting *waiting = write->context;
    pthread_mutex_lock(&waiting->lock);
    waiting->done = true;
    pthread_cond_signal(&waiting->changed);
    pthread_mutex_unlock(&waiting->lock);
}

int shard_write_wait(struct cairn_shard *shard, const struct cairn_shard_item *items,
                     uint32_t count, const struct shard_write_terms *terms, struct cairn_error *err)
{
    struct write_waiting waiting = {.done = false};
    struct cairn_buf text = {0};
    struct cairn_shard_item map_item = {.kind = CAIRN_RECORD_MAP, .if_offset = CAIRN_OFFSET_NONE};
    struct cairn_shard_write write = {
        .items = items, .count = count, .done = wake, .context = &waiting, .terms = terms};
    if (terms != NULL && terms->map != NULL) {
        cairn_map_encode(terms->map, &text);
        map_item.payload = (struct cairn_str){text.data, (uint32_t)text.len};
        write.items = &map_item;
        write.count = 1;
    }
    write.results = cairn_calloc(write.count, sizeof *write.results);
    pthread_mutex_init(&waiting.lock, NULL);
    pthread_cond_init(&waiting.changed, NULL);
    if (shard_queue(shard, &write) == 0) {
        pthread_mutex_lock(&waiting.lock);
        while (!waiting.done)
            pthread_cond_wait(&waiting.changed, &waiting.lock);
        pthread_mutex_unlock(&waiting.lock);
    }
    pthread_cond_destroy(&waiting.changed);
    pthread_mutex_destroy(&waiting.lock);
    free(write.results);
    cairn_buf_release(&text);
    if (write.error.code != 0 && err != NULL)
        *err = write.error;
    return write.error.code;
}
