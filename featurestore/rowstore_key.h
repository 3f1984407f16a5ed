/* Key layout of the row store. Byte order of stored keys is (collection, key) order.
 *
 *   column family  key, and on the line below its value
 *   -------------  ------------------------------------------------------------------
 *   rows           collection:u32be escaped-key
 *                    written:i64le (row_merge.h), row
 *   vectors        collection:u32be name-len:u8 name escaped-key
 *                    offset:u64le, dim floats (f32le)
 *   meta           "applied"
 *                    offset:u64le
 *                  "format"
 *                    CAIRN_ROWSTORE_FORMAT:u64le
 *                  "c" collection:u32be
 *                    counts (rowstore_meta.c)
 *                  "s" collection-name
 *                    newest schema text of that name
 *                  "map"
 *                    newest map text
 *                  "i" begin-offset:u64be, and the same with "m" after it
 *                    an import's state and its map (rowstore_imports.c)
 *   history        collection:u32be escaped-key ~event-time:u64be ~offset:u64be
 *                    one event's cells (reserved; nothing writes it yet)
 *   default        nothing, ever: see cairn_rowstore_flush
 *
 * escaped-key is the entity key with every 0x00 written as 0x00 0xFF, closed by 0x00 0x01. The
 * terminator sorts below every continuation of the key, so a key sorts before what extends it, and
 * no escaped key is a prefix of another: what follows it (the history suffix) never mixes with the
 * next entity. In the suffix ~event-time is the complement of the time with its sign bit flipped
 * and ~offset the complement of the offset, so that an entity's newest event comes first and "as
 * of" is one seek. A vector field of a collection is one contiguous range in key order. */
#ifndef CAIRN_FEATURESTORE_ROWSTORE_KEY_H
#define CAIRN_FEATURESTORE_ROWSTORE_KEY_H

#include <stddef.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/str.h"

#define CAIRN_ROWSTORE_FORMAT 1u

/* Longest stored keys: every byte of the entity key may need an escape. */
#define CAIRN_ROW_KEY_BYTES_MAX    (4u + 2u * CAIRN_KEY_BYTES_MAX + 2u)
#define CAIRN_VECTOR_KEY_BYTES_MAX (CAIRN_ROW_KEY_BYTES_MAX + 1u + CAIRN_NAME_BYTES_MAX)

/* Each writes to `out`, which holds the maximum above, and returns the length. Keys are at most
 * CAIRN_KEY_BYTES_MAX bytes and names at most CAIRN_NAME_BYTES_MAX. */
size_t cairn_row_key_write(uint8_t *out, uint32_t collection, struct cairn_str key);
size_t cairn_vector_key_write(uint8_t *out, uint32_t collection, struct cairn_str vector,
                              struct cairn_str key);

/* What all keys of a collection, and of one of its vector fields, begin with. */
size_t cairn_row_prefix_write(uint8_t *out, uint32_t collection);
size_t cairn_vector_prefix_write(uint8_t *out, uint32_t collection, struct cairn_str vector);

/* Turn a prefix of `len` bytes into a bound above all keys that begin with it, in place, and return
 * the bound's length. `prefix` holds CAIRN_VECTOR_KEY_BYTES_MAX. */
size_t cairn_key_prefix_end(uint8_t *prefix, size_t len);

/* The entity key of a stored key whose prefix (collection, or collection and vector name) has
 * `prefix_len` bytes. Points into `stored` when nothing was escaped, else into `scratch`, which it
 * clears. Returns false when the bytes are no such key. */
bool cairn_row_key_read(struct cairn_str stored, size_t prefix_len, struct cairn_buf *scratch,
                        struct cairn_str *key);

#endif
