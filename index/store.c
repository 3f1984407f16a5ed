#include "index/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

enum { CURRENT_VERSION = 1 };

void cairn_generation_dir_name(uint64_t number, char *out)
{
    snprintf(out, CAIRN_NAME_BYTES, "gen-%" PRIu64, number);
}

void cairn_tail_name(uint64_t sequence, char *out)
{
    snprintf(out, CAIRN_NAME_BYTES, "tail-%" PRIu64, sequence);
}

static int collect(void *arg, const char *name)
{
    struct cairn_names *names = arg;
    if (strncmp(name, names->prefix, strlen(names->prefix)) != 0 ||
        strlen(name) >= CAIRN_NAME_BYTES)
        return 0;
    names->list = cairn_realloc(names->list, (names->count + 1) * sizeof(*names->list));
    snprintf(names->list[names->count++], CAIRN_NAME_BYTES, "%s", name);
    return 0;
}

void cairn_names_list(const struct cairn_io *io, const char *dir, const char *prefix,
                      struct cairn_names *out)
{
    *out = (struct cairn_names){.prefix = prefix};
    (void)io->list(io->context, dir, collect, out);
}

uint64_t cairn_name_number(const char *name)
{
    const char *dash = strchr(name, '-');
    return dash == NULL ? 0 : strtoull(dash + 1, NULL, 10);
}

/* The whole text of CURRENT, into CAIRN_CURRENT_BYTES_MAX bytes; returns its length. */
size_t cairn_current_render(const struct cairn_current *current, char *text)
{
    int len = snprintf(
        text, CAIRN_CURRENT_BYTES_MAX,
        "cairn-index %d gen %" PRIu64 " tail %" PRIu64 " built %" PRIu64 " offset %" PRIu64,
        CURRENT_VERSION, current->generation, current->tail, current->built, current->offset);
    uint32_t crc = cairn_crc32c(0, text, (size_t)len);
    len += snprintf(text + len, CAIRN_CURRENT_BYTES_MAX - (size_t)len, " crc %08x\n", crc);
    return (size_t)len;
}

/* What renders to the same bytes, checksum and all, is undamaged. */
int cairn_current_parse(const char *text, size_t len, struct cairn_current *out)
{
    char again[CAIRN_CURRENT_BYTES_MAX];
    int version;
    if (sscanf(text,
               "cairn-index %d gen %" SCNu64 " tail %" SCNu64 " built %" SCNu64 " offset %" SCNu64,
               &version, &out->generation, &out->tail, &out->built, &out->offset) != 5 ||
        len != cairn_current_render(out, again) || memcmp(text, again, len) != 0)
        return CAIRN_ECORRUPT;
    return 0;
}

void cairn_index_sweep(struct cairn_index *index, uint64_t number, bool above)
{
    struct cairn_names names;
    char path[CAIRN_PATH_BYTES];
    cairn_names_list(index->io, index->dir, "gen-", &names);
    for (uint32_t i = 0; i < names.count; i++) {
        uint64_t other = cairn_name_number(names.list[i]);
        if (other == number || (other > number && !above))
            continue;
        if (cairn_path_join(path, index->dir, names.list[i], NULL) == 0)
            (void)cairn_io_remove_tree(index->io, path);
    }
    free(names.list);
}

static int set_aside_one(struct cairn_index *index, const char *name, int64_t stamp,
                         struct cairn_error *err)
{
    char aside[CAIRN_NAME_BYTES * 3], from[CAIRN_PATH_BYTES], to[CAIRN_PATH_BYTES];
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
    struct cairn_names names;
    char path[CAIRN_PATH_BYTES];
    cairn_names_list(index->io, index->dir, "damaged-", &names);
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
        struct cairn_names names;
        cairn_names_list(index->io, index->dir, prefixes[p], &names);
        for (uint32_t i = 0; i < names.count && code == 0; i++)
            code = set_aside_one(index, names.list[i], stamp, err);
        free(names.list);
    }
    return code;
}
