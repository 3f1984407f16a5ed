/* Building the next generation beside the current one.
 *
 *   snapshot   write_lock for the time of copying the tombstones: which slots are live now
 *   build      no lock: the live vectors, read in place in the old generation, become a built part
 *   carry over no lock: what was appended meanwhile goes into the new tail, what died is buried
 *   switch     write_lock: carry over the last few, make the new generation current
 *   save       as any save; then the old generation's files go
 *
 * The old generation is immutable but for its tail's growth and tombstones, and is kept by a
 * reference, so nothing of it is copied but pointers. */
#include <stdlib.h>
#include <string.h>

#include "base/diag.h"
#include "base/thread.h"
#include "base/time.h"
#include "index/internal.h"

enum { TOMBSTONES_SHARE = 10, SWITCH_SLOTS_MAX = 256, CARRY_ROUNDS_MAX = 20 };

struct build {
    struct cairn_index *index;
    struct cairn_index_params params;
    struct cairn_generation *old, *new;
    uint64_t number;
    uint64_t log_offset;
    char dir[CAIRN_PATH_BYTES];
    uint64_t *buried; /* tombstones of the old generation that the new one knows of */
    uint32_t carried; /* old slots (built and tail) looked at so far */
    uint32_t *moved;  /* old slot to new slot, `carried` of them; CAIRN_SLOT_NONE: not there */
    uint32_t *live;   /* old slots that are built anew */
    uint32_t live_count;
    uint32_t *order; /* new slot to index in `live`; NULL: the same */
};

/* Tombstones of the old generation's slots below `end`, as one bitmap. */
static void copy_tombstones(const struct build *build, uint32_t end, uint64_t *out)
{
    uint32_t built = cairn_generation_built(build->old);
    for (size_t w = 0; w < cairn_bitmap_words(built); w++)
        out[w] = cairn_bitmap_word(build->old->built_dead, w);
    for (uint32_t slot = built; slot < end; slot++)
        if (cairn_generation_is_dead(build->old, slot))
            (void)cairn_bitmap_set(out, slot);
}

static void snapshot(struct build *build)
{
    struct cairn_index *index = build->index;
    pthread_mutex_lock(&index->write_lock);
    build->params = index->params;
    build->old = cairn_index_current(index);
    build->number = index->next_generation++;
    build->log_offset = cairn_index_offset(index);
    build->carried = (uint32_t)cairn_generation_slots(build->old);
    build->buried = cairn_calloc(cairn_bitmap_words(build->carried) + 1, sizeof(uint64_t));
    copy_tombstones(build, build->carried, build->buried);
    pthread_mutex_unlock(&index->write_lock);

    build->live = cairn_malloc(((size_t)build->carried + 1) * sizeof(*build->live));
    build->moved = cairn_malloc(((size_t)build->carried + 1) * sizeof(*build->moved));
    for (uint32_t slot = 0; slot < build->carried; slot++) {
        build->moved[slot] = CAIRN_SLOT_NONE;
        if (!cairn_bitmap_get(build->buried, slot))
            build->live[build->live_count++] = slot;
    }
}

static int write_built(struct build *build, struct cairn_built *built, struct cairn_error *err)
{
    struct cairn_index *index = build->index;
    int failed = index->io->mkdir(index->io->context, build->dir);
    if (failed != 0)
        return cairn_fail(err, cairn_code_from_errno(-failed), "cannot make %s: %s", build->dir,
                          strerror(-failed));
    const float **vectors = cairn_malloc(build->live_count * sizeof(*vectors));
    struct cairn_built_item *items = cairn_malloc(build->live_count * sizeof(*items));
    for (uint32_t i = 0; i < build->live_count; i++) {
        uint32_t slot = build->live[i];
        vectors[i] = cairn_generation_vector(build->old, slot);
        items[i] = (struct cairn_built_item){cairn_generation_key(build->old, slot),
                                             cairn_generation_offset(build->old, slot)};
    }
    struct cairn_built_source source = {
        .vectors = {.vectors = vectors,
                    .count = build->live_count,
                    .dim = index->dim,
                    .metric = index->metric,
                    .params = &build->params,
                    .threads = index->build_threads,
                    .cancelled = &index->cancel_build},
        .items = items,
        .log_offset = build->log_offset,
        .io = index->io,
        .dir = build->dir,
        .generation = build->number,
    };
    int code = cairn_built_write(&source, built, &build->order, err);
    free(items);
    free(vectors);
    return code;
}

static void make_generation(struct build *build, struct cairn_built *built)
{
    bool any = built->rows.count != 0;
    build->new = cairn_generation_new(build->number, build->index->dim, any ? built : NULL, NULL);
    for (uint32_t i = 0; i < build->live_count; i++)
        build->moved[build->live[build->order == NULL ? i : build->order[i]]] = i;
}

/* Slots appended to the old tail since the last look. */
static void carry_appended(struct build *build)
{
    uint32_t end = (uint32_t)cairn_generation_slots(build->old);
    build->moved = cairn_realloc(build->moved, ((size_t)end + 1) * sizeof(*build->moved));
    size_t had = cairn_bitmap_words(build->carried) + 1, words = cairn_bitmap_words(end) + 1;
    build->buried = cairn_realloc(build->buried, words * sizeof(uint64_t));
    memset(build->buried + had, 0, (words - had) * sizeof(uint64_t));
    for (uint32_t slot = build->carried; slot < end; slot++) {
        if (cairn_generation_is_dead(build->old, slot)) {
            (void)cairn_bitmap_set(build->buried, slot);
            build->moved[slot] = CAIRN_SLOT_NONE;
            continue;
        }
        build->moved[slot] = cairn_generation_upsert(
            build->new, cairn_generation_key(build->old, slot),
            cairn_generation_vector(build->old, slot), cairn_generation_offset(build->old, slot));
    }
    build->carried = end;
}

/* Slots that died since the last look. One whose key was upserted again is dead in the new
 * generation too by now, unless its new slot comes in a later round, which buries it. */
static void carry_buried(struct build *build)
{
    size_t words = cairn_bitmap_words(build->carried);
    uint64_t *dead = cairn_calloc(words + 1, sizeof(uint64_t));
    copy_tombstones(build, build->carried, dead);
    for (size_t w = 0; w < words; w++) {
        for (uint64_t fresh = dead[w] & ~build->buried[w]; fresh != 0; fresh &= fresh - 1) {
            uint32_t slot = (uint32_t)(w * 64) + (uint32_t)__builtin_ctzll(fresh);
            if (build->moved[slot] != CAIRN_SLOT_NONE)
                (void)cairn_generation_bury(build->new, build->moved[slot]);
        }
    }
    free(build->buried);
    build->buried = dead;
}

static void carry(struct build *build)
{
    carry_appended(build);
    carry_buried(build);
}

/* Until little is left for the time under the lock. A writer that outruns the copying is stopped by
 * the lock in the end. */
static void carry_over(struct build *build)
{
    for (int round = 0; round < CARRY_ROUNDS_MAX; round++) {
        carry(build);
        if (cairn_generation_slots(build->old) - build->carried <= SWITCH_SLOTS_MAX)
            return;
    }
}

static int switch_over(struct build *build, struct cairn_error *err)
{
    struct cairn_index *index = build->index;
    struct cairn_generation *replaced = NULL;
    int code = 0;
    pthread_mutex_lock(&index->write_lock);
    if (atomic_load(&index->cancel_build)) {
        code = cairn_fail(err, CAIRN_ESHUTDOWN, "the build was stopped");
    } else {
        carry(build);
        pthread_mutex_lock(&index->current_lock);
        replaced = index->current;
        index->current = build->new;
        pthread_mutex_unlock(&index->current_lock);
        build->new = NULL;
        index->changes++;
    }
    pthread_mutex_unlock(&index->write_lock);
    cairn_generation_unref(&replaced);
    return code;
}

static void release(struct build *build)
{
    cairn_generation_unref(&build->new);
    cairn_generation_unref(&build->old);
    free(build->order);
    free(build->moved);
    free(build->live);
    free(build->buried);
}

struct building {
    struct build *build;
    struct cairn_built *built;
    struct cairn_error *err;
    int code;
};

static void *build_apart(void *arg)
{
    struct building *building = arg;
    cairn_thread_give_way();
    building->code = write_built(building->build, building->built, building->err);
    return NULL;
}

/* The long computation gives way to serving. It runs on a thread of its own, since a thread that
 * has given way cannot take that back, and what follows holds a lock that writers wait for. */
static int compute(struct build *build, struct cairn_built *built, struct cairn_error *err)
{
    struct building building = {build, built, err, 0};
    pthread_t thread;
    if (pthread_create(&thread, NULL, build_apart, &building) != 0)
        return write_built(build, built, err);
    pthread_join(thread, NULL);
    return building.code;
}

static int run(struct cairn_index *index, struct cairn_error *err)
{
    uint64_t started = cairn_time_monotonic_us();
    struct build build = {.index = index};
    struct cairn_built built = {0};
    char name[64];
    snapshot(&build);
    cairn_generation_dir_name(build.number, name);
    int code = cairn_path_join(build.dir, index->dir, name, err);
    if (code == 0 && build.live_count != 0)
        code = compute(&build, &built, err);
    if (code == 0) {
        make_generation(&build, &built);
        carry_over(&build);
        code = switch_over(&build, err);
    }
    if (code != 0)
        (void)cairn_io_remove_tree(index->io, build.dir);
    release(&build);
    if (code != 0)
        return code;
    atomic_fetch_add_explicit(&index->builds, 1, memory_order_relaxed);
    atomic_store_explicit(&index->last_build_us, cairn_time_monotonic_us() - started,
                          memory_order_relaxed);
    return cairn_index_save(index, err);
}

/* `building` is set; clear it and tell who waits. Only close may free the index, and it waits. */
static void finish(struct cairn_index *index, const struct cairn_error *result)
{
    pthread_mutex_lock(&index->write_lock);
    index->building = false;
    index->retry_slots = 0;
    if (result->code != 0)
        index->retry_slots = cairn_generation_slots(index->current) + index->tail_vectors_min;
    else
        cairn_index_consider_build(index);
    pthread_cond_broadcast(&index->build_done);
    pthread_mutex_unlock(&index->write_lock);
}

/* The index of a queued build, which begins now; NULL when it was withdrawn. */
static struct cairn_index *redeem(struct cairn_build_ticket *ticket)
{
    struct cairn_index *index = atomic_exchange(&ticket->index, NULL);
    if (index != NULL) {
        pthread_mutex_lock(&index->write_lock);
        index->ticket = NULL;
        pthread_mutex_unlock(&index->write_lock);
    }
    free(ticket);
    return index;
}

void cairn_index_withdraw_build(struct cairn_index *index)
{
    if (index->ticket == NULL || atomic_exchange(&index->ticket->index, NULL) == NULL)
        return;
    index->ticket = NULL;
    index->building = false;
}

static void build_in_background(void *arg)
{
    struct cairn_index *index = redeem(arg);
    if (index == NULL)
        return;
    struct cairn_error err = {0};
    (void)run(index, &err);
    if (err.code != 0 && err.code != CAIRN_ESHUTDOWN)
        cairn_alarm("index", "%s: building failed: %s", index->dir, err.message);
    finish(index, &err);
}

/* A tail worth folding in, mostly tombstones, or another kind than what is wanted. */
static bool is_due(const struct cairn_index *index)
{
    const struct cairn_generation *current = index->current;
    uint64_t built = cairn_generation_built(current);
    uint64_t slots = cairn_generation_slots(current), dead = cairn_generation_dead(current);
    if (slots < index->retry_slots)
        return false;
    if (slots - built >= index->tail_vectors_min && slots - built >= built / 3)
        return true;
    if (dead * 2 > slots && dead * TOMBSTONES_SHARE >= index->tail_vectors_min)
        return true;
    return built != 0 && (current->built.kind->id != index->params.kind ||
                          current->built.asked_quantization != index->params.quantization);
}

void cairn_index_consider_build(struct cairn_index *index)
{
    if (index->builders == NULL || index->building || index->closing || !is_due(index))
        return;
    struct cairn_build_ticket *ticket = cairn_malloc(sizeof(*ticket));
    atomic_init(&ticket->index, index);
    index->ticket = ticket;
    index->building = true;
    if (cairn_pool_submit(index->builders, build_in_background, ticket) != 0) {
        free(ticket);
        index->ticket = NULL;
        index->building = false;
        index->retry_slots = cairn_generation_slots(index->current) + index->tail_vectors_min / 10;
    }
}

int cairn_index_build(struct cairn_index *index, struct cairn_error *err)
{
    struct cairn_error own = {0};
    pthread_mutex_lock(&index->write_lock);
    while (index->building)
        pthread_cond_wait(&index->build_done, &index->write_lock);
    index->building = true;
    pthread_mutex_unlock(&index->write_lock);
    (void)run(index, &own);
    finish(index, &own);
    if (own.code != 0 && err != NULL)
        *err = own;
    return own.code;
}
