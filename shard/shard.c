/* A shard's life, its queue and its reads.
 *
 *   open        views_open: row store, log, indexes, replay
 *   serving     submit -> queue -> writer thread (writer.c); reads go to the views directly
 *   read-only   the log or the row store failed: submit refuses, reads go on until a restart
 *   close       the writer drains the queue, the views are saved, all is freed
 *
 * Lock order: queue_lock, state_lock, catalog_lock and ownership.lock are never held together;
 * forget.lock comes before all of them. */
#include "shard/internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/diag.h"

/* Longer than a read that has begun may take to come to its rows. */
#define FORGET_AFTER_MS_DEFAULT 5000u

void shard_refuse_writes(struct cairn_shard *shard, int code, const char *format, ...)
{
    pthread_mutex_lock(&shard->state_lock);
    if (atomic_load(&shard->state) == CAIRN_SHARD_SERVING) {
        va_list arguments;
        va_start(arguments, format);
        (void)vsnprintf(shard->reason, sizeof shard->reason, format, arguments);
        va_end(arguments);
        shard->refusal_code = code;
        atomic_store(&shard->state, CAIRN_SHARD_READ_ONLY);
        cairn_alarm("shard", "s%u takes no more writes: %s", shard->id, shard->reason);
    }
    pthread_mutex_unlock(&shard->state_lock);
}

static void init_locks(struct cairn_shard *shard)
{
    pthread_mutex_init(&shard->queue_lock, NULL);
    pthread_cond_init(&shard->queue_filled, NULL);
    pthread_mutex_init(&shard->state_lock, NULL);
    pthread_mutex_init(&shard->export_lock, NULL);
    pthread_rwlock_init(&shard->catalog_lock, NULL);
    pthread_mutex_init(&shard->digest.lock, NULL);
    pthread_mutex_init(&shard->hot.lock, NULL);
    shard_ownership_init(shard);
    shard->queue_tail = &shard->queue_head;
}

static void free_shard(struct cairn_shard *shard)
{
    shard_ownership_release(shard);
    pthread_mutex_destroy(&shard->hot.lock);
    pthread_mutex_destroy(&shard->digest.lock);
    pthread_rwlock_destroy(&shard->catalog_lock);
    pthread_mutex_destroy(&shard->export_lock);
    pthread_mutex_destroy(&shard->state_lock);
    pthread_cond_destroy(&shard->queue_filled);
    pthread_mutex_destroy(&shard->queue_lock);
    shard_exports_release(shard);
    free(shard->dir);
    free(shard);
}

int cairn_shard_open(const struct cairn_shard_options *options, struct cairn_shard **out,
                     struct cairn_error *err)
{
    *out = NULL;
    struct cairn_shard *shard = cairn_calloc(1, sizeof *shard);
    shard->id = options->id;
    shard->dir = cairn_strdup(cairn_str_from(options->dir));
    shard->io = options->io != NULL ? options->io : cairn_io_posix();
    shard->builders = options->builders;
    shard->metrics = options->metrics;
    shard->free_bytes_min = options->free_bytes_min;
    shard->forget_after_ms =
        options->forget_after_ms == 0 ? FORGET_AFTER_MS_DEFAULT : options->forget_after_ms;
    init_locks(shard);
    if (shard->metrics != NULL)
        shard_exports_register(shard);

    int code = shard_views_open(shard, options, err);
    if (code != 0)
        goto fail;
    if (pthread_create(&shard->writer, NULL, shard_writer_main, shard) != 0) {
        code =
            cairn_fail(err, CAIRN_ENOMEM, "shard s%u: cannot start the writer thread", shard->id);
        goto fail;
    }
    shard->writer_started = true;
    code = shard_forget_open(shard, err);
    if (code != 0) {
        cairn_shard_close(&shard);
        return code;
    }
    *out = shard;
    return 0;

fail:
    shard_views_close(shard);
    free_shard(shard);
    return code;
}

void cairn_shard_close(struct cairn_shard **handle)
{
    struct cairn_shard *shard = *handle;
    if (shard == NULL)
        return;
    *handle = NULL;
    shard_forget_close(shard);
    pthread_mutex_lock(&shard->queue_lock);
    shard->stopping = true;
    pthread_cond_signal(&shard->queue_filled);
    pthread_mutex_unlock(&shard->queue_lock);
    if (shard->writer_started)
        pthread_join(shard->writer, NULL);
    shard_views_save(shard, true);
    shard_views_close(shard);
    free_shard(shard);
}

static int refuse(struct cairn_shard *shard, struct cairn_shard_write *write)
{
    pthread_mutex_lock(&shard->state_lock);
    int code = cairn_fail(&write->error, shard->refusal_code, "shard s%u takes no writes: %.400s",
                          shard->id, shard->reason);
    pthread_mutex_unlock(&shard->state_lock);
    return code;
}

int cairn_shard_submit(struct cairn_shard *shard, struct cairn_shard_write *write)
{
    write->terms = NULL;
    for (uint32_t i = 0; i < write->count; i++)
        if (write->items[i].kind != CAIRN_RECORD_ENTITY &&
            write->items[i].kind != CAIRN_RECORD_SCHEMA)
            return cairn_fail(&write->error, CAIRN_EPARAM,
                              "items[%u]: records of kind %u are not written from outside", i,
                              write->items[i].kind);
    return shard_queue(shard, write);
}

int shard_queue(struct cairn_shard *shard, struct cairn_shard_write *write)
{
    if (atomic_load_explicit(&shard->state, memory_order_relaxed) != CAIRN_SHARD_SERVING)
        return refuse(shard, write);
    write->next = NULL;
    write->error.code = 0;
    write->bytes = 0;
    for (uint32_t i = 0; i < write->count; i++)
        write->bytes += write->items[i].payload.len;

    int code = 0;
    pthread_mutex_lock(&shard->queue_lock);
    if (shard->stopping)
        code = cairn_fail(&write->error, CAIRN_ESHUTDOWN, "the server is shutting down");
    else if (write->terms != NULL)
        code = 0; /* few, and what moves keys off a busy shard must not be refused for it */
    else if (shard->queued_writes >= CAIRN_WRITE_QUEUE_MAX)
        code = cairn_fail(&write->error, CAIRN_EOVERLOADED,
                          "shard s%u has %u writes waiting; retry later", shard->id,
                          CAIRN_WRITE_QUEUE_MAX);
    else if (shard->queued_writes > 0 &&
             shard->queued_bytes + write->bytes > CAIRN_WRITE_QUEUE_BYTES_MAX)
        code = cairn_fail(&write->error, CAIRN_EOVERLOADED,
                          "shard s%u has %llu bytes of writes waiting; retry later", shard->id,
                          (unsigned long long)shard->queued_bytes);
    if (code == 0) {
        bool was_empty = shard->queue_head == NULL;
        *shard->queue_tail = write;
        shard->queue_tail = &write->next;
        shard->queued_writes++;
        shard->queued_bytes += write->bytes;
        if (was_empty)
            pthread_cond_signal(&shard->queue_filled);
    }
    pthread_mutex_unlock(&shard->queue_lock);
    return code;
}

int cairn_shard_each_schema(struct cairn_shard *shard,
                            int (*each)(void *arg, struct cairn_str schema_text), void *arg,
                            struct cairn_error *err)
{
    return cairn_rowstore_each_schema(shard->rows, each, arg, err);
}

int cairn_shard_index_stats(struct cairn_shard *shard, uint32_t collection, struct cairn_str vector,
                            struct cairn_index_stats *out)
{
    struct shard_vector *field = shard_vector_find(shard, collection, vector);
    if (field == NULL)
        return CAIRN_ENOVECTOR;
    cairn_index_stats(field->index, out);
    shard_vector_release(field);
    return 0;
}

uint64_t cairn_shard_catalog_version(const struct cairn_shard *shard)
{
    return atomic_load(&shard->catalog_version);
}

uint64_t cairn_shard_applied(const struct cairn_shard *shard)
{
    return atomic_load_explicit(&shard->applied, memory_order_acquire);
}

enum cairn_shard_state cairn_shard_state(struct cairn_shard *shard, char *reason)
{
    pthread_mutex_lock(&shard->state_lock);
    enum cairn_shard_state state = (enum cairn_shard_state)atomic_load(&shard->state);
    if (reason != NULL)
        memcpy(reason, shard->reason, sizeof shard->reason);
    pthread_mutex_unlock(&shard->state_lock);
    return state;
}
