/* The index of one vector field on one shard: a view of the log that answers nearest-neighbour
 * queries.
 *
 * It is a sequence of generations. A generation is a built part (immutable, dense 32-bit slots,
 * made by one of the kinds in index/kind.h), a tail of newer vectors that is scanned exactly, and
 * tombstones. A search therefore sees every upsert that returned before it began. When the tail is
 * large enough a background thread builds the next generation from the live vectors; searches go on
 * with the one they started with and never wait for a build.
 *
 * Threads: one writer (upsert, remove, set_offset, save, close); any number of searchers at the
 * same time; builds run on the executor given at open. Memory: keys and vectors are copied. */
#ifndef CAIRN_INDEX_INDEX_H
#define CAIRN_INDEX_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/io.h"
#include "base/pool.h"
#include "base/schema.h"
#include "base/str.h"

struct cairn_index;

struct cairn_index_options {
    const char *dir; /* of this index alone; created if missing */
    uint32_t dim;
    enum cairn_metric metric;
    struct cairn_index_params params;
    uint32_t tail_vectors_min; /* build when the tail has this many and a third of the built part;
                                  0: 10000 */
    unsigned build_threads;    /* 0: 1 */
    struct cairn_pool
        *builders; /* background builds and saves run here; NULL: only cairn_index_build */
    const struct cairn_io *io; /* NULL: cairn_io_posix() */
};

/* Open the newest saved generation, or an empty index. A missing, damaged or incompatible file
 * (other dimension, metric or format) is set aside in the directory, said in *note (256 bytes, ""
 * if all is well), and the index opens empty: the caller refills it from the row store.
 * cairn_index_offset then tells from where to replay. */
int cairn_index_open(const struct cairn_index_options *options, struct cairn_index **out,
                     char *note, struct cairn_error *err);
/* Waits for a running build to stop (it is abandoned), though not for one that is queued behind
 * others, then frees; does not save. Sets it to NULL. */
void cairn_index_close(struct cairn_index **index);
/* Change build parameters; the next generation uses them. A changed kind starts a build. */
void cairn_index_set_params(struct cairn_index *index, const struct cairn_index_params *params);

/* Make `f32` (dim components, finite) the key's vector as of `offset`. Cosine vectors are
 * normalised here; a zero vector under cosine scores 0 against everything. CAIRN_ENOMEM past 2^31
 * slots. */
int cairn_index_upsert(struct cairn_index *index, struct cairn_str key, const float *f32,
                       uint64_t offset, struct cairn_error *err);
/* No error if the key is not there. */
void cairn_index_remove(struct cairn_index *index, struct cairn_str key, uint64_t offset);
/* All log records up to `offset` are reflected (records without vectors too). Upserts and removals
 * do not move it: an index that is being refilled in key order reflects no offset until the end. */
void cairn_index_set_offset(struct cairn_index *index, uint64_t offset);
uint64_t cairn_index_offset(const struct cairn_index *index);

/* Write a snapshot of the generation and its tail so that a restart does not rebuild. Durable on
 * return. */
int cairn_index_save(struct cairn_index *index, struct cairn_error *err);

struct cairn_index_search {
    const float *query;                      /* dim components, finite */
    uint32_t k;                              /* 1 to CAIRN_K_MAX */
    uint32_t ef, nprobe;                     /* 0: the index's defaults */
    bool exact;                              /* scan everything */
    const struct cairn_index_filter *filter; /* NULL: all live vectors */
};

struct cairn_index_hit {
    float score;          /* cosine, dot: similarity; l2: Euclidean distance */
    struct cairn_str key; /* in the caller's arena */
    uint64_t offset;      /* of the record that set the vector */
};

/* The k best, best first, ties by key in byte order. `hits` holds k. Finds every live vector when
 * exact, when the kind is flat, or when a filter matches few. Any thread; uses one thread. */
int cairn_index_search(struct cairn_index *index, const struct cairn_index_search *search,
                       struct cairn_arena *arena, struct cairn_index_hit *hits,
                       uint32_t *hits_count, struct cairn_error *err);

/* A set of keys to search among, bound to the generation current when it was made. One thread at a
 * time. */
struct cairn_index_filter;
struct cairn_index_filter *cairn_index_filter_new(struct cairn_index *index);
void cairn_index_filter_add(struct cairn_index_filter *filter, struct cairn_str key);
void cairn_index_filter_free(struct cairn_index_filter **filter);

struct cairn_index_stats {
    enum cairn_index_kind built_kind;       /* what the built part is: flat while there is none */
    uint64_t live, built, tail, tombstones; /* vectors */
    uint64_t
        generation_offset; /* the current built part was made from the log up to here; 0: none */
    uint64_t indexed_offset;
    uint64_t memory_bytes, disk_bytes;
    bool building;
    uint64_t builds; /* finished since open */
    uint64_t last_build_us;
};
void cairn_index_stats(struct cairn_index *index, struct cairn_index_stats *out); /* any thread */

/* Build a generation now on the calling thread, from what is live; returns when it has been
 * switched to. */
int cairn_index_build(struct cairn_index *index, struct cairn_error *err);

/* CPU features chosen for the kernels: "avx512", "avx2" or "portable"; a static string. */
const char *cairn_index_kernels(void);

#endif
