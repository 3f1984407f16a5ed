/* The writer thread: group commit.
 *
 * Whatever queued while the last fsync ran goes into the next group, up to CAIRN_GROUP_BYTES_MAX.
 * Each write of a group is a batch of its own in the log, so a crash keeps or loses it whole. Steps
 * of one group:
 *
 *   take      move writes from the queue
 *   admit     check if_offset preconditions; a write that fails leaves the group
 *   append    check free disk space, one log append, one fsync
 *   apply     row store, catalog, indexes
 *   publish   raise `applied`
 *   answer    done() of each write
 *
 * A precondition looks at the row store, which does not know the group's own earlier writes; a
 * write with a precondition on a key that the group already writes therefore waits for the next
 * group. */
#include "shard/internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/diag.h"
#include "base/hash.h"

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

/* Wait for work; NULL when stopping and nothing is left. The list stays linked through `next`. */
static struct cairn_shard_write *take(struct cairn_shard *shard)
{
    pthread_mutex_lock(&shard->queue_lock);
    while (shard->queue_head == NULL && !shard->stopping)
        pthread_cond_wait(&shard->queue_filled, &shard->queue_lock);
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
    if (offset == item->if_offset)
        return 0;
    if (offset == 0)
        return cairn_fail(err, CAIRN_EPRECONDITION,
                          "key %.*s: if_offset is %llu but the entity does not exist",
                          CAIRN_STR_ARG(item->key), (unsigned long long)item->if_offset);
    return cairn_fail(
        err, CAIRN_EPRECONDITION, "key %.*s: if_offset is %llu but the entity is at offset %llu",
        CAIRN_STR_ARG(item->key), (unsigned long long)item->if_offset, (unsigned long long)offset);
}

enum admission { ADMIT, REFUSE, WAIT };

static enum admission admit(struct cairn_shard *shard, struct shard_group *group,
                            struct cairn_shard_write *write)
{
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

static void group_add(struct shard_group *group, struct cairn_shard_write *write)
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
    }
}

/* Fill the group from `list`; what must wait is left in group->rest. */
static void group_fill(struct cairn_shard *shard, struct shard_group *group,
                       struct cairn_shard_write *list)
{
    uint32_t entries = 0, writes = 0;
    for (struct cairn_shard_write *write = list; write != NULL; write = write->next) {
        entries += write->count;
        writes++;
    }
    group->writes_count = 0;
    group->entries_count = 0;
    group_reserve(group, entries, writes);
    while (list != NULL) {
        struct cairn_shard_write *next = list->next;
        enum admission verdict = admit(shard, group, list);
        if (verdict == WAIT)
            break;
        if (verdict == ADMIT)
            group_add(group, list);
        else
            answer(list);
        list = next;
    }
    group->rest = list;
}

static int check_space(struct cairn_shard *shard, struct cairn_error *err)
{
    uint64_t free_bytes = 0;
    if (shard->io->free_bytes(shard->io->context, shard->dir, &free_bytes) != 0 ||
        free_bytes >= shard->free_bytes_min)
        return 0;
    return cairn_fail(err, CAIRN_ENOSPACE,
                      "shard s%u: the disk has %llu bytes free and %llu are kept for reads and "
                      "views; free some space",
                      shard->id, (unsigned long long)free_bytes,
                      (unsigned long long)shard->free_bytes_min);
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

/* Append and apply. On success every write's results are filled. */
static int group_commit(struct cairn_shard *shard, struct shard_group *group,
                        struct cairn_error *err)
{
    int code = check_space(shard, err);
    if (code != 0)
        return code;
    int64_t ingest_time_us = shard->io->now_us(shard->io->context);
    uint64_t offset = 0;
    code = cairn_log_append(shard->log, group->batches, group->writes_count, &ingest_time_us,
                            &offset, err);
    if (code == CAIRN_EIO)
        shard_refuse_writes(shard, code, "%s; restart to recover", err->message);
    if (code != 0)
        return code;
    for (uint32_t i = 0; i < group->entries_count; i++)
        group->records[i] = (struct cairn_log_record){.offset = offset + i,
                                                      .ingest_time_us = ingest_time_us,
                                                      .token = group->entries[i].token,
                                                      .collection = group->entries[i].collection,
                                                      .shard = shard->id,
                                                      .kind = group->entries[i].kind,
                                                      .payload = group->entries[i].payload};
    struct cairn_apply_output output = {.results = group->results};
    code = cairn_rowstore_apply(shard->rows, group->records, group->entries_count, &output, err);
    if (code == 0)
        code = shard_views_follow(shard, group->records, group->entries_count, &output, err);
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

void *shard_writer_main(void *argument)
{
    struct cairn_shard *shard = argument;
    struct shard_group *group = cairn_calloc(1, sizeof *group);
    struct cairn_shard_write *list;
    while ((list = take(shard)) != NULL) {
        do {
            group_fill(shard, group, list);
            group_run(shard, group);
            list = group->rest;
        } while (list != NULL);
        shard_views_save(shard, false);
    }
    group_free(group);
    return NULL;
}
