/* Loading what CURRENT names (store.h). */
#include <stdlib.h>
#include <string.h>

#include "index/store.h"

static int read_current(struct cairn_index *index, struct cairn_current *out,
                        struct cairn_error *err)
{
    const struct cairn_io *io = index->io;
    char path[CAIRN_PATH_BYTES], text[CAIRN_CURRENT_BYTES_MAX + 1] = {0};
    int code = cairn_path_join(path, index->dir, "CURRENT", err);
    if (code != 0)
        return code;
    int fd = io->open(io->context, path, CAIRN_OPEN_READ);
    if (fd < 0)
        return CAIRN_ENOTFOUND;
    uint64_t size = 0;
    int failed = io->size(io->context, fd, &size);
    if (failed == 0 && size <= CAIRN_CURRENT_BYTES_MAX)
        failed = cairn_io_read_full(io, fd, text, size, 0);
    (void)io->close(io->context, fd);
    if (failed != 0 || size > CAIRN_CURRENT_BYTES_MAX || cairn_current_parse(text, size, out) != 0)
        return cairn_fail(err, CAIRN_ECORRUPT, "CURRENT is damaged");
    return 0;
}

/* Without CURRENT, a directory with a tail file was once named by it. */
static bool was_saved(struct cairn_index *index)
{
    struct cairn_names generations, tails;
    char path[CAIRN_PATH_BYTES];
    bool found = false;
    cairn_names_list(index->io, index->dir, "gen-", &generations);
    for (uint32_t i = 0; i < generations.count && !found; i++) {
        if (cairn_path_join(path, index->dir, generations.list[i], NULL) != 0)
            continue;
        cairn_names_list(index->io, path, "tail-", &tails);
        found = tails.count != 0;
        free(tails.list);
    }
    free(generations.list);
    return found;
}

static int add_entries(struct cairn_generation *generation, const struct cairn_file_map *file,
                       uint64_t at, const struct cairn_tail_header *header, struct cairn_error *err)
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
static int load_tail(struct cairn_index *index, const char *dir,
                     const struct cairn_current *current, struct cairn_built *built,
                     struct cairn_error *err)
{
    struct cairn_file_map file;
    char name[CAIRN_NAME_BYTES];
    cairn_tail_name(current->tail, name);
    int code =
        cairn_file_map(&file, index->io, dir, name, CAIRN_FILE_TAIL, current->generation, err);
    if (code != 0)
        return code;
    uint64_t at = 0;
    const struct cairn_tail_header *header = cairn_file_take(&file, &at, sizeof(*header));
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

static int load_generation(struct cairn_index *index, const struct cairn_current *current,
                           struct cairn_error *err)
{
    char name[CAIRN_NAME_BYTES], dir[CAIRN_PATH_BYTES];
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
    struct cairn_current current = {0};
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
