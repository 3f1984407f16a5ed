/* Saving: the tail and the tombstones into a new tail file, then CURRENT (store.h). */
#include <stdlib.h>
#include <string.h>

#include "index/store.h"

/* What a save writes, taken under write_lock. */
struct snapshot {
    struct cairn_generation *generation; /* a reference */
    uint64_t changes, offset;
    uint64_t *dead;  /* built tombstones, words */
    uint32_t *slots; /* live tail positions */
    uint32_t count;
    char dir[CAIRN_PATH_BYTES];
};

static void take_snapshot(struct cairn_index *index, struct snapshot *out)
{
    memset(out, 0, sizeof(*out));
    pthread_mutex_lock(&index->write_lock);
    struct cairn_generation *generation = cairn_index_current(index);
    out->generation = generation;
    out->changes = index->changes;
    out->offset = cairn_index_offset(index);
    size_t words = cairn_bitmap_words(cairn_generation_built(generation));
    out->dead = cairn_malloc((words + 1) * sizeof(uint64_t));
    for (size_t w = 0; w < words; w++)
        out->dead[w] = cairn_bitmap_word(generation->built_dead, w);
    uint32_t tail = cairn_tail_count(&generation->tail);
    out->slots = cairn_malloc(((size_t)tail + 1) * sizeof(uint32_t));
    for (uint32_t at = 0; at < tail; at++)
        if (!cairn_tail_is_dead(&generation->tail, at))
            out->slots[out->count++] = at;
    pthread_mutex_unlock(&index->write_lock);
}

static void release_snapshot(struct snapshot *snapshot)
{
    cairn_generation_unref(&snapshot->generation);
    free(snapshot->dead);
    free(snapshot->slots);
}

static void write_entries(const struct cairn_index *index, const struct snapshot *snapshot,
                          struct cairn_file_writer *file)
{
    const struct cairn_tail *tail = &snapshot->generation->tail;
    for (uint32_t i = 0; i < snapshot->count; i++)
        (void)cairn_file_write(file, cairn_tail_vector(tail, snapshot->slots[i]),
                               index->dim * sizeof(float));
    (void)cairn_file_align(file);
    for (uint32_t i = 0; i < snapshot->count; i++) {
        uint64_t offset = cairn_tail_offset(tail, snapshot->slots[i]);
        (void)cairn_file_write(file, &offset, sizeof(offset));
    }
    for (uint32_t i = 0; i < snapshot->count; i++) {
        uint32_t len = cairn_tail_key(tail, snapshot->slots[i]).len;
        (void)cairn_file_write(file, &len, sizeof(len));
    }
    for (uint32_t i = 0; i < snapshot->count; i++) {
        struct cairn_str key = cairn_tail_key(tail, snapshot->slots[i]);
        (void)cairn_file_write(file, key.ptr, key.len);
    }
}

static int write_tail(struct cairn_index *index, const struct snapshot *snapshot, uint64_t *bytes,
                      struct cairn_error *err)
{
    uint32_t built = cairn_generation_built(snapshot->generation);
    struct cairn_tail_header header = {.built = built,
                                       .dim = index->dim,
                                       .metric = (uint32_t)index->metric,
                                       .count = snapshot->count};
    struct cairn_file_writer file;
    char name[CAIRN_NAME_BYTES];
    cairn_tail_name(index->tail_sequence + 1, name);
    int code = cairn_file_create(&file, index->io, snapshot->dir, name, CAIRN_FILE_TAIL,
                                 snapshot->generation->number, err);
    if (code != 0)
        return code;
    (void)cairn_file_write(&file, &header, sizeof(header));
    (void)cairn_file_write(&file, snapshot->dead, cairn_bitmap_words(built) * sizeof(uint64_t));
    (void)cairn_file_align(&file);
    write_entries(index, snapshot, &file);
    *bytes = CAIRN_FILE_HEADER_BYTES + file.payload_bytes;
    return cairn_file_finish(&file, err);
}

static int write_current(struct cairn_index *index, const struct snapshot *snapshot,
                         struct cairn_error *err)
{
    struct cairn_current current = {.generation = snapshot->generation->number,
                                    .tail = index->tail_sequence,
                                    .built = cairn_generation_built(snapshot->generation),
                                    .offset = snapshot->offset};
    char text[CAIRN_CURRENT_BYTES_MAX];
    size_t len = cairn_current_render(&current, text);
    int failed = cairn_io_replace_file(index->io, index->dir, "CURRENT", text, len);
    if (failed != 0)
        return cairn_fail(err, cairn_code_from_errno(-failed), "cannot write CURRENT in %s: %s",
                          index->dir, strerror(-failed));
    return 0;
}

static void remove_older_tails(struct cairn_index *index, const char *dir)
{
    struct cairn_names names;
    char path[CAIRN_PATH_BYTES];
    cairn_names_list(index->io, dir, "tail-", &names);
    for (uint32_t i = 0; i < names.count; i++)
        if (cairn_name_number(names.list[i]) != index->tail_sequence &&
            cairn_path_join(path, dir, names.list[i], NULL) == 0)
            (void)index->io->unlink(index->io->context, path);
    free(names.list);
}

/* The tail file, its directory and the directory's name, durable before CURRENT names them. */
static int save_tail(struct cairn_index *index, const struct snapshot *snapshot,
                     struct cairn_error *err)
{
    const struct cairn_io *io = index->io;
    uint64_t bytes;
    int failed = io->mkdir(io->context, snapshot->dir);
    int code = failed != 0 ? 0 : write_tail(index, snapshot, &bytes, err);
    if (code != 0)
        return code;
    if (failed == 0)
        failed = io->sync_dir(io->context, snapshot->dir);
    if (failed == 0)
        failed = io->sync_dir(io->context, index->dir);
    if (failed != 0)
        return cairn_fail(err, cairn_code_from_errno(-failed), "cannot save to %s: %s",
                          snapshot->dir, strerror(-failed));
    index->tail_sequence++;
    atomic_store_explicit(&index->disk_bytes, bytes + snapshot->generation->built.disk_bytes,
                          memory_order_relaxed);
    return 0;
}

int cairn_index_save(struct cairn_index *index, struct cairn_error *err)
{
    struct snapshot snapshot;
    char name[CAIRN_NAME_BYTES];
    pthread_mutex_lock(&index->save_lock);
    take_snapshot(index, &snapshot);
    uint64_t number = snapshot.generation->number;
    cairn_generation_dir_name(number, name);
    bool unchanged = index->saved && index->saved_generation == number &&
                     index->saved_changes == snapshot.changes;
    int code = cairn_path_join(snapshot.dir, index->dir, name, err);
    if (code == 0 && !unchanged)
        code = save_tail(index, &snapshot, err);
    if (code == 0)
        code = write_current(index, &snapshot, err);
    if (code == 0) {
        index->saved = true;
        index->saved_generation = number;
        index->saved_changes = snapshot.changes;
        remove_older_tails(index, snapshot.dir);
        cairn_index_sweep(index, number, false);
    }
    release_snapshot(&snapshot);
    pthread_mutex_unlock(&index->save_lock);
    return code;
}
