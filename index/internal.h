/* The index object and what its files share. */
#ifndef CAIRN_INDEX_INTERNAL_H
#define CAIRN_INDEX_INTERNAL_H

#include <pthread.h>

#include "index/generation.h"
#include "index/index.h"

/* A queued build's hold on its index. Whoever takes the pointer out first decides: the build, which
 * then runs, or the close, which then need not wait for a build that stands behind others. */
struct cairn_build_ticket {
    _Atomic(struct cairn_index *) index;
};

struct cairn_index {
    /* Immutable. */
    char *dir;
    uint32_t dim;
    enum cairn_metric metric;
    uint32_t tail_vectors_min;
    unsigned build_threads;
    struct cairn_pool *builders;
    const struct cairn_io *io;

    /* Locks are taken in this order: save_lock, write_lock, current_lock. None is held while
     * vectors are built, searched or written to files, except save_lock during a save. */

    /* One save at a time. Guards: */
    pthread_mutex_t save_lock;
    uint64_t saved_generation, saved_changes; /* what the newest tail file holds */
    bool saved;                               /* there is one */
    uint64_t tail_sequence;                   /* of the newest tail file */

    /* Held by the writer for one upsert or removal, and by a build for its switch. Guards writing
     * to the current generation and: */
    pthread_mutex_t write_lock;
    pthread_cond_t build_done; /* signalled when `building` becomes false */
    struct cairn_index_params params;
    float *normalised;                 /* dim components, scratch of the upsert */
    bool building;                     /* queued or running */
    struct cairn_build_ticket *ticket; /* of a queued build; freed by it; NULL: none */
    bool closing;
    uint64_t changes;         /* upserts and removals, ever */
    uint64_t retry_slots;     /* after a failed build: not before there are so many slots */
    uint64_t next_generation; /* number */

    /* Held only to read or replace the pointer and count a reference. Guards: */
    pthread_mutex_t current_lock;
    struct cairn_generation *current;

    /* Atomic. */
    _Atomic uint64_t offset;
    _Atomic uint64_t disk_bytes;
    _Atomic uint64_t builds, last_build_us;
    atomic_bool cancel_build;
};

/* A reference to the current generation. Any thread. */
struct cairn_generation *cairn_index_current(struct cairn_index *index);

/* cosine: scale to length 1 (a zero vector stays); other metrics: copy. */
void cairn_prepare_vector(enum cairn_metric metric, const float *from, uint32_t dim, float *to);

/* write_lock held: take back a queued build that has not begun. */
void cairn_index_withdraw_build(struct cairn_index *index);
/* write_lock held: queue a build if one is due. */
void cairn_index_consider_build(struct cairn_index *index);

/* Names within the index directory; `out` holds 64 bytes. */
void cairn_generation_dir_name(uint64_t number, char *out);

/* Load what CURRENT names. Returns CAIRN_ENOTFOUND for a fresh directory, CAIRN_ECORRUPT for what
 * cannot be used, other codes when the directory itself cannot be. Sets index->current and offset
 * on success only. */
int cairn_index_load(struct cairn_index *index, struct cairn_error *err);
/* Rename everything of an index in the directory to damaged-… */
int cairn_index_set_aside(struct cairn_index *index, struct cairn_error *err);
/* Remove directories of other generations below `number`, and unfinished ones if `above`. */
void cairn_index_sweep(struct cairn_index *index, uint64_t number, bool above);

struct cairn_index_filter {
    struct cairn_generation *generation; /* a reference */
    uint64_t *words;                     /* bit set: the slot was its key's live one when added */
    size_t words_count;
    uint64_t count; /* bits set */
};

#endif
