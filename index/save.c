/* Saving and loading.
 *
 *   CURRENT          names the generation, its newest tail file and the log offset they reflect;
 *                    replaced atomically
 *   gen-<n>/         the built part's files (built.h), written once by a build; none when there is
 *                    no built part
 *   gen-<n>/tail-<s> a snapshot: built tombstones, live tail vectors; written by each save
 *   damaged-…        set aside by open; only the newest set is kept
 *
 * A crash leaves CURRENT naming complete files: a build's files become current only with the save
 * that ends it, and what CURRENT does not name is swept away by the next open. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/diag.h"
#include "base/hash.h"
#include "index/internal.h"

enum { CURRENT_VERSION = 1, CURRENT_BYTES_MAX = 512, NAME_BYTES = 64 };

/* The payload of a tail file begins with this; then `built` tombstone bits in words, the entries'
 * vectors, u64 offsets, u32 key lengths, and key bytes. */
struct tail_header {
    uint32_t built;
    uint32_t dim;
    uint32_t metric;
    uint32_t count;
};

/* What CURRENT says. */
struct current {
    uint64_t generation;
    uint64_t tail;
    uint64_t built;
    uint64_t offset;
};

void cairn_generation_dir_name(uint64_t number, char *out)
{
    snprintf(out, NAME_BYTES, "gen-%" PRIu64, number);
}

static void tail_name(uint64_t sequence, char *out)
{
    snprintf(out, NAME_BYTES, "tail-%" PRIu64, sequence);
}

/* Names of a directory that begin with a prefix. */
struct names {
    const char *prefix;
    char (*list)[NAME_BYTES];
    uint32_t count;
};

static int collect(void *arg, const char *name)
{
    struct names *names = arg;
    if (strncmp(name, names->prefix, strlen(names->prefix)) != 0 || strlen(name) >= NAME_BYTES)
        return 0;
    names->list = cairn_realloc(names->list, (names->count + 1) * sizeof(*names->list));
    snprintf(names->list[names->count++], NAME_BYTES, "%s", name);
    return 0;
}

static void list_names(const struct cairn_io *io, const char *dir, const char *prefix,
                       struct names *out)
{
    *out = (struct names){.prefix = prefix};
    (void)io->list(io->context, dir, collect, out);
}

static uint64_t number_in(const char *name)
{
    const char *dash = strchr(name, '-');
    return dash == NULL ? 0 : strtoull(dash + 1, NULL, 10);
}

void cairn_index_sweep(struct cairn_index *index, uint64_t number, bool above)
{
    struct names names;
    char path[CAIRN_PATH_BYTES];
    list_names(index->io, index->dir, "gen-", &names);
    for (uint32_t i = 0; i < names.count; i++) {
        uint64_t other = number_in(names.list[i]);
        if (other == number || (other > number && !above))
            continue;
        if (cairn_path_join(path, index->dir, names.list[i], NULL) == 0)
            (void)cairn_io_remove_tree(index->io, path);
    }
    free(names.list);
}

/* Saving. */

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
    struct tail_header header = {.built = built,
                                 .dim = index->dim,
                                 .metric = (uint32_t)index->metric,
                                 .count = snapshot->count};
    struct cairn_file_writer file;
    char name[NAME_BYTES];
    tail_name(index->tail_sequence + 1, name);
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

/* The whole text of CURRENT, into CURRENT_BYTES_MAX bytes; returns its length. */
static size_t render_current(const struct current *current, char *text)
{
    int len = snprintf(
        text, CURRENT_BYTES_MAX,
        "cairn-index %d gen %" PRIu64 " tail %" PRIu64 " built %" PRIu64 " offset %" PRIu64,
        CURRENT_VERSION, current->generation, current->tail, current->built, current->offset);
    uint32_t crc = cairn_crc32c(0, text, (size_t)len);
    len += snprintf(text + len, CURRENT_BYTES_MAX - (size_t)len, " crc %08x\n", crc);
    return (size_t)len;
}

static int write_current(struct cairn_index *index, const struct snapshot *snapshot,
                         struct cairn_error *err)
{
    struct current current = {.generation = snapshot->generation->number,
                              .tail = index->tail_sequence,
                              .built = cairn_generation_built(snapshot->generation),
                              .offset = snapshot->offset};
    char text[CURRENT_BYTES_MAX];
    size_t len = render_current(&current, text);
    int failed = cairn_io_replace_file(index->io, index->dir, "CURRENT", text, len);
    if (failed != 0)
        return cairn_fail(err, cairn_code_from_errno(-failed), "cannot write CURRENT in %s: %s",
                          index->dir, strerror(-failed));
    return 0;
}

static void remove_older_tails(struct cairn_index *index, const char *dir)
{
    struct names names;
    char path[CAIRN_PATH_BYTES];
    list_names(index->io, dir, "tail-", &names);
    for (uint32_t i = 0; i < names.count; i++)
        if (number_in(names.list[i]) != index->tail_sequence &&
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
    char name[NAME_BYTES];
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

/* Loading. */

/* What renders to the same bytes, checksum and all, is undamaged. */
static int parse_current(const char *text, size_t len, struct current *out)
{
    char again[CURRENT_BYTES_MAX];
    int version;
    if (sscanf(text,
               "cairn-index %d gen %" SCNu64 " tail %" SCNu64 " built %" SCNu64 " offset %" SCNu64,
               &version, &out->generation, &out->tail, &out->built, &out->offset) != 5 ||
        len != render_current(out, again) || memcmp(text, again, len) != 0)
        return CAIRN_ECORRUPT;
    return 0;
}

static int read_current(struct cairn_index *index, struct current *out, struct cairn_error *err)
{
    const struct cairn_io *io = index->io;
    char path[CAIRN_PATH_BYTES], text[CURRENT_BYTES_MAX + 1] = {0};
    int code = cairn_path_join(path, index->dir, "CURRENT", err);
    if (code != 0)
        return code;
    int fd = io->open(io->context, path, CAIRN_OPEN_READ);
    if (fd < 0)
        return CAIRN_ENOTFOUND;
    uint64_t size = 0;
    int failed = io->size(io->context, fd, &size);
    if (failed == 0 && size <= CURRENT_BYTES_MAX)
        failed = cairn_io_read_full(io, fd, text, size, 0);
    (void)io->close(io->context, fd);
    if (failed != 0 || size > CURRENT_BYTES_MAX || parse_current(text, size, out) != 0)
        return cairn_fail(err, CAIRN_ECORRUPT, "CURRENT is damaged");
    return 0;
}

/* Without CURRENT, a directory with a tail file was once named by it. */
static bool was_saved(struct cairn_index *index)
{
    struct names generations, tails;
    char path[CAIRN_PATH_BYTES];
    bool found = false;
    list_names(index->io, index->dir, "gen-", &generations);
    for (uint32_t i = 0; i < generations.count && !found; i++) {
        if (cairn_path_join(path, index->dir, generations.list[i], NULL) != 0)
            continue;
        list_names(index->io, path, "tail-", &tails);
        found = tails.count != 0;
        free(tails.list);
    }
    free(generations.list);
    return found;
}

static int add_entries(struct cairn_generation *generation, const struct cairn_file_map *file,
                       uint64_t at, const struct tail_header *header, struct cairn_error *err)
{
    uint64_t n = header->count;
    const float *vectors = cairn_file_take(file, &at, n * header->dim * sizeof(float));
    cairn_file_skip_align(&at);
    const uint64_t *offsets = cairn_file_take(file, &at, n * sizeof(*offsets));
    const uint32_t *lens = cairn_file_take(file, &at, n * sizeof(*lens));
    if (vectors == NULL || offsets == NULL || lens == NULL)
        return cairn_fail(err, CAIRN_ECORRUPT, "the tail file is shorter than it says");
    for (uint32_t i = 0; i < header->count; i++) {
        const char *key = cairn_file_take(file, &at, lens[i]);
        if (key == NULL || cairn_generation_upsert(generation, (struct cairn_str){key, lens[i]},
                                                   vectors + (size_t)i * header->dim,
                                                   offsets[i]) == CAIRN_SLOT_NONE)
            return cairn_fail(err, CAIRN_ECORRUPT, "the tail file is shorter than its keys");
    }
    return 0;
}

/* Makes a generation of *built and the tail file. */
static int load_tail(struct cairn_index *index, const char *dir, const struct current *current,
                     struct cairn_built *built, struct cairn_error *err)
{
    struct cairn_file_map file;
    char name[NAME_BYTES];
    tail_name(current->tail, name);
    int code =
        cairn_file_map(&file, index->io, dir, name, CAIRN_FILE_TAIL, current->generation, err);
    if (code != 0)
        return code;
    uint64_t at = 0;
    const struct tail_header *header = cairn_file_take(&file, &at, sizeof(*header));
    const uint64_t *dead =
        cairn_file_take(&file, &at, cairn_bitmap_words(built->rows.count) * sizeof(uint64_t));
    cairn_file_skip_align(&at);
    if (header == NULL || dead == NULL || header->built != built->rows.count) {
        code = cairn_fail(err, CAIRN_ECORRUPT, "%s does not belong to its built part", name);
    } else if (header->dim != index->dim || header->metric != (uint32_t)index->metric) {
        code = cairn_fail(err, CAIRN_ECORRUPT, "it was saved for %u dimensions, or another metric",
                          header->dim);
    } else {
        uint64_t disk = built->disk_bytes + file.mapped_bytes;
        index->current = cairn_generation_new(current->generation, index->dim, built, dead);
        code = add_entries(index->current, &file, at, header, err);
        atomic_store_explicit(&index->disk_bytes, disk, memory_order_relaxed);
    }
    if (code != 0)
        cairn_generation_unref(&index->current);
    cairn_file_unmap(&file);
    return code;
}

static int load_generation(struct cairn_index *index, const struct current *current,
                           struct cairn_error *err)
{
    char name[NAME_BYTES], dir[CAIRN_PATH_BYTES];
    struct cairn_built built = {0};
    cairn_generation_dir_name(current->generation, name);
    int code = cairn_path_join(dir, index->dir, name, err);
    if (code == 0 && current->built != 0)
        code = cairn_built_open(index->io, dir, current->generation, index->dim, index->metric,
                                &built, err);
    if (code == 0 && built.rows.count != current->built)
        code = cairn_fail(err, CAIRN_ECORRUPT, "CURRENT does not belong to its built part");
    if (code == 0)
        code = load_tail(index, dir, current, &built, err);
    cairn_built_release(&built);
    return code;
}

int cairn_index_load(struct cairn_index *index, struct cairn_error *err)
{
    struct current current = {0};
    int code = read_current(index, &current, err);
    if (code == CAIRN_ENOTFOUND) {
        if (was_saved(index))
            return cairn_fail(err, CAIRN_ECORRUPT, "CURRENT is missing");
        cairn_index_sweep(index, UINT64_MAX, false);
        return code;
    }
    if (code == 0)
        code = load_generation(index, &current, err);
    if (code != 0)
        return code;
    index->saved = true;
    index->saved_generation = current.generation;
    index->saved_changes = index->changes;
    index->tail_sequence = current.tail;
    index->next_generation = current.generation + 1;
    cairn_index_set_offset(index, current.offset);
    cairn_index_sweep(index, current.generation, true);
    return 0;
}

static int set_aside_one(struct cairn_index *index, const char *name, int64_t stamp,
                         struct cairn_error *err)
{
    char aside[NAME_BYTES * 3], from[CAIRN_PATH_BYTES], to[CAIRN_PATH_BYTES];
    snprintf(aside, sizeof(aside), "damaged-%" PRId64 "-%s", stamp, name);
    int code = cairn_path_join(from, index->dir, name, err);
    if (code == 0)
        code = cairn_path_join(to, index->dir, aside, err);
    if (code != 0)
        return code;
    int failed = index->io->rename(index->io->context, from, to);
    if (failed != 0)
        return cairn_fail(err, cairn_code_from_errno(-failed), "cannot set %s aside: %s", from,
                          strerror(-failed));
    return 0;
}

static void remove_damaged(struct cairn_index *index)
{
    struct names names;
    char path[CAIRN_PATH_BYTES];
    list_names(index->io, index->dir, "damaged-", &names);
    for (uint32_t i = 0; i < names.count; i++)
        if (cairn_path_join(path, index->dir, names.list[i], NULL) == 0)
            (void)cairn_io_remove_tree(index->io, path);
    free(names.list);
}

/* CURRENT goes first: without it the directories are no index any more. */
int cairn_index_set_aside(struct cairn_index *index, struct cairn_error *err)
{
    static const char *const prefixes[] = {"CURRENT", "gen-"};
    int64_t stamp = index->io->now_us(index->io->context);
    int code = 0;
    remove_damaged(index);
    for (size_t p = 0; p < 2 && code == 0; p++) {
        struct names names;
        list_names(index->io, index->dir, prefixes[p], &names);
        for (uint32_t i = 0; i < names.count && code == 0; i++)
            code = set_aside_one(index, names.list[i], stamp, err);
        free(names.list);
    }
    return code;
}
