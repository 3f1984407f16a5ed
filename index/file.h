/* Checksummed files: a 64-byte header and a payload that starts on a cache line, written once and
 * then mapped read-only.
 *
 *   byte  0  magic "CAIRNIDX"
 *         8  u32 version
 *        12  u32 type, enum cairn_file_type
 *        16  u64 generation: a file of another generation is refused
 *        24  u64 payload bytes
 *        32  u32 CRC32C of the payload
 *        36  zeroes
 *        60  u32 CRC32C of bytes 0 to 59
 *        64  payload
 *
 * Integers are little-endian, as on every machine Cairn is built for. */
#ifndef CAIRN_INDEX_FILE_H
#define CAIRN_INDEX_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/io.h"

enum cairn_file_type { /* on disk: never renumber */
                       CAIRN_FILE_META = 1,
                       CAIRN_FILE_VECTORS = 2,
                       CAIRN_FILE_SLOTS = 3,
                       CAIRN_FILE_KIND = 4,
                       CAIRN_FILE_TAIL = 5,
};

enum { CAIRN_FILE_VERSION = 1, CAIRN_FILE_HEADER_BYTES = 64, CAIRN_PATH_BYTES = 4096 };

/* dir/name into `out` (CAIRN_PATH_BYTES). CAIRN_EPARAM when it does not fit. */
int cairn_path_join(char *out, const char *dir, const char *name, struct cairn_error *err);

struct cairn_file_writer {
    const struct cairn_io *io;
    char path[CAIRN_PATH_BYTES];
    enum cairn_file_type type;
    uint64_t generation;
    int fd;
    int failed; /* first -errno; later writes do nothing */
    uint64_t payload_bytes;
    uint32_t crc;
    char *buffer;
    size_t buffered;
};

/* Create or replace dir/name. After success, end with finish or abort. */
int cairn_file_create(struct cairn_file_writer *writer, const struct cairn_io *io, const char *dir,
                      const char *name, enum cairn_file_type type, uint64_t generation,
                      struct cairn_error *err);
/* Errors are kept and told by finish; the result is non-zero too, to stop early. */
int cairn_file_write(struct cairn_file_writer *writer, const void *bytes, size_t len);
/* Zeroes up to the next multiple of 64 payload bytes. */
int cairn_file_align(struct cairn_file_writer *writer);
/* Header, fdatasync, close. On failure the file is removed. */
int cairn_file_finish(struct cairn_file_writer *writer, struct cairn_error *err);
void cairn_file_abort(struct cairn_file_writer *writer);

struct cairn_file_map {
    void *base; /* NULL: nothing is mapped */
    size_t mapped_bytes;
    const char *payload;
    uint64_t payload_bytes;
};

/* Map a file and check every byte of it. CAIRN_ECORRUPT says what is wrong with which file. */
int cairn_file_map(struct cairn_file_map *map, const struct cairn_io *io, const char *dir,
                   const char *name, enum cairn_file_type type, uint64_t generation,
                   struct cairn_error *err);
void cairn_file_unmap(struct cairn_file_map *map); /* {0} is allowed */

/* Take `bytes` from the payload at *at, and move past them; NULL when there are not so many. */
const void *cairn_file_take(const struct cairn_file_map *map, uint64_t *at, uint64_t bytes);
/* Move *at to the next multiple of 64. */
void cairn_file_skip_align(uint64_t *at);

#endif
