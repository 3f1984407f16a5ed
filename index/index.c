#include "index/index.h"

#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/internal.h"

enum { TAIL_VECTORS_MIN_DEFAULT = 10000, NOTE_BYTES = 256 };

struct cairn_generation *cairn_index_current(struct cairn_index *index)
{
    pthread_mutex_lock(&index->current_lock);
    struct cairn_generation *current = cairn_generation_ref(index->current);
    pthread_mutex_unlock(&index->current_lock);
    return current;
}

/* In double: the square of a large or tiny float is none. */
void cairn_prepare_vector(enum cairn_metric metric, const float *from, uint32_t dim, float *to)
{
    double squares = 0;
    if (metric == CAIRN_METRIC_COSINE)
        for (uint32_t i = 0; i < dim; i++)
            squares += (double)from[i] * from[i];
    if (squares == 0) {
        memcpy(to, from, dim * sizeof(*to));
        return;
    }
    double scale = 1 / sqrt(squares);
    for (uint32_t i = 0; i < dim; i++)
        to[i] = (float)(from[i] * scale);
}

static struct cairn_index *allocate(const struct cairn_index_options *options)
{
    struct cairn_index *index = cairn_calloc(1, sizeof(*index));
    index->dir = cairn_strdup(cairn_str_from(options->dir));
    index->dim = options->dim;
    index->metric = options->metric;
    index->tail_vectors_min =
        options->tail_vectors_min != 0 ? options->tail_vectors_min : TAIL_VECTORS_MIN_DEFAULT;
    index->build_threads = options->build_threads != 0 ? options->build_threads : 1;
    index->builders = options->builders;
    index->io = options->io != NULL ? options->io : cairn_io_posix();
    index->params = options->params;
    index->normalised = cairn_malloc(options->dim * sizeof(float));
    index->next_generation = 1;
    pthread_mutex_init(&index->save_lock, NULL);
    pthread_mutex_init(&index->write_lock, NULL);
    pthread_mutex_init(&index->current_lock, NULL);
    pthread_cond_init(&index->build_done, NULL);
    return index;
}

static void release(struct cairn_index *index)
{
    cairn_generation_unref(&index->current);
    pthread_cond_destroy(&index->build_done);
    pthread_mutex_destroy(&index->current_lock);
    pthread_mutex_destroy(&index->write_lock);
    pthread_mutex_destroy(&index->save_lock);
    free(index->normalised);
    free(index->dir);
    free(index);
}

int cairn_index_open(const struct cairn_index_options *options, struct cairn_index **out,
                     char *note, struct cairn_error *err)
{
    *out = NULL;
    note[0] = '\0';
    /* Parallelism is ours: one thread a search. */
    openblas_set_num_threads(1);
    struct cairn_index *index = allocate(options);
    struct cairn_error why = {0};
    int code = 0, failed = cairn_io_make_dirs(index->io, index->dir);
    if (failed != 0)
        code = cairn_fail(err, cairn_code_from_errno(-failed), "cannot make %s: %s", index->dir,
                          strerror(-failed));
    int loaded = code != 0 ? 0 : cairn_index_load(index, &why);
    if (loaded == CAIRN_ECORRUPT) {
        snprintf(note, NOTE_BYTES, "the saved index was set aside: %.200s", why.message);
        code = cairn_index_set_aside(index, err);
    } else if (loaded != 0 && loaded != CAIRN_ENOTFOUND) {
        if (err != NULL)
            *err = why;
        code = loaded;
    }
    if (code != 0) {
        release(index);
        return code;
    }
    if (index->current == NULL)
        index->current = cairn_generation_new(0, index->dim, NULL, NULL);
    pthread_mutex_lock(&index->write_lock);
    cairn_index_consider_build(index);
    pthread_mutex_unlock(&index->write_lock);
    *out = index;
    return 0;
}

void cairn_index_close(struct cairn_index **pointer)
{
    struct cairn_index *index = *pointer;
    *pointer = NULL;
    if (index == NULL)
        return;
    pthread_mutex_lock(&index->write_lock);
    index->closing = true;
    atomic_store(&index->cancel_build, true);
    cairn_index_withdraw_build(index);
    while (index->building)
        pthread_cond_wait(&index->build_done, &index->write_lock);
    pthread_mutex_unlock(&index->write_lock);
    release(index);
}

void cairn_index_set_params(struct cairn_index *index, const struct cairn_index_params *params)
{
    pthread_mutex_lock(&index->write_lock);
    index->params = *params;
    index->retry_slots = 0;
    cairn_index_consider_build(index);
    pthread_mutex_unlock(&index->write_lock);
}

int cairn_index_upsert(struct cairn_index *index, struct cairn_str key, const float *f32,
                       uint64_t offset, struct cairn_error *err)
{
    int code = 0;
    pthread_mutex_lock(&index->write_lock);
    const float *vector = f32;
    if (index->metric == CAIRN_METRIC_COSINE) {
        cairn_prepare_vector(index->metric, f32, index->dim, index->normalised);
        vector = index->normalised;
    }
    if (cairn_generation_upsert(index->current, key, vector, offset) == CAIRN_SLOT_NONE) {
        code = cairn_fail(err, CAIRN_ENOMEM,
                          "the index has no slot left until it is rebuilt (%u vectors at most)",
                          CAIRN_SLOTS_MAX);
    } else {
        index->changes++;
        cairn_index_consider_build(index);
    }
    pthread_mutex_unlock(&index->write_lock);
    return code;
}

void cairn_index_remove(struct cairn_index *index, struct cairn_str key, uint64_t offset)
{
    (void)offset;
    pthread_mutex_lock(&index->write_lock);
    if (cairn_generation_remove(index->current, key)) {
        index->changes++;
        cairn_index_consider_build(index);
    }
    pthread_mutex_unlock(&index->write_lock);
}

void cairn_index_set_offset(struct cairn_index *index, uint64_t offset)
{
    atomic_store_explicit(&index->offset, offset, memory_order_release);
}

uint64_t cairn_index_offset(const struct cairn_index *index)
{
    return atomic_load_explicit(&index->offset, memory_order_acquire);
}

void cairn_index_stats(struct cairn_index *index, struct cairn_index_stats *out)
{
    struct cairn_generation *generation = cairn_index_current(index);
    uint64_t slots = cairn_generation_slots(generation);
    uint64_t dead = cairn_generation_dead(generation);
    uint32_t built = cairn_generation_built(generation);
    *out = (struct cairn_index_stats){
        .built_kind = built != 0 ? generation->built.kind->id : CAIRN_INDEX_FLAT,
        .live = slots > dead ? slots - dead : 0,
        .built = built,
        .tail = slots - built,
        .tombstones = dead,
        .generation_offset = built != 0 ? generation->built.log_offset : 0,
        .indexed_offset = cairn_index_offset(index),
        .memory_bytes = cairn_generation_memory(generation),
        .disk_bytes = atomic_load_explicit(&index->disk_bytes, memory_order_relaxed),
        .builds = atomic_load_explicit(&index->builds, memory_order_relaxed),
        .last_build_us = atomic_load_explicit(&index->last_build_us, memory_order_relaxed),
    };
    cairn_generation_unref(&generation);
    pthread_mutex_lock(&index->write_lock);
    out->building = index->building;
    pthread_mutex_unlock(&index->write_lock);
}
