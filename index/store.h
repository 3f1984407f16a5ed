/* What is in an index directory, for save.c and load.c.
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
#ifndef CAIRN_INDEX_STORE_H
#define CAIRN_INDEX_STORE_H

#include "index/internal.h"

enum { CAIRN_CURRENT_BYTES_MAX = 512, CAIRN_NAME_BYTES = 64 };

/* What CURRENT says, in one line of text with a checksum. */
struct cairn_current {
    uint64_t generation; /* number */
    uint64_t tail;       /* sequence */
    uint64_t built;      /* vectors of the built part */
    uint64_t offset;
};

/* Into CAIRN_CURRENT_BYTES_MAX bytes; returns the length. */
size_t cairn_current_render(const struct cairn_current *current, char *text);
/* CAIRN_ECORRUPT unless it is, byte for byte, what render writes. `text` is NUL-terminated. */
int cairn_current_parse(const char *text, size_t len, struct cairn_current *out);

/* A tail file's payload begins with this; then `built` tombstone bits in words, on the next cache
 * line the vectors of the `count` live tail slots, on the next u64 offsets, u32 key lengths, and
 * key bytes. */
struct cairn_tail_header {
    uint32_t built;
    uint32_t dim;
    uint32_t metric;
    uint32_t count;
};
void cairn_tail_name(uint64_t sequence, char *out); /* CAIRN_NAME_BYTES */

/* Names in a directory that begin with a prefix. The caller frees `list`. */
struct cairn_names {
    const char *prefix;
    char (*list)[CAIRN_NAME_BYTES];
    uint32_t count;
};
void cairn_names_list(const struct cairn_io *io, const char *dir, const char *prefix,
                      struct cairn_names *out);
/* The number after the dash; 0: none. */
uint64_t cairn_name_number(const char *name);

#endif
