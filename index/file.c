#include "index/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/buf.h"
#include "base/hash.h"

enum { BUFFER_BYTES = 1 << 20 };

struct header {
    char magic[8];
    uint32_t version;
    uint32_t type;
    uint64_t generation;
    uint64_t payload_bytes;
    uint32_t payload_crc;
    uint32_t zero[6];
    uint32_t header_crc;
};
_Static_assert(sizeof(struct header) == CAIRN_FILE_HEADER_BYTES, "the header has no padding");

static const char magic[8] = {'C', 'A', 'I', 'R', 'N', 'I', 'D', 'X'};

int cairn_path_join(char *out, const char *dir, const char *name, struct cairn_error *err)
{
    int len = snprintf(out, CAIRN_PATH_BYTES, "%s/%s", dir, name);
    if (len < 0 || len >= CAIRN_PATH_BYTES)
        return cairn_fail(err, CAIRN_EPARAM, "the path of %s in the index directory is too long",
                          name);
    return 0;
}

int cairn_file_create(struct cairn_file_writer *writer, const struct cairn_io *io, const char *dir,
                      const char *name, enum cairn_file_type type, uint64_t generation,
                      struct cairn_error *err)
{
    memset(writer, 0, sizeof(*writer));
    int code = cairn_path_join(writer->path, dir, name, err);
    if (code != 0)
        return code;
    (void)io->unlink(io->context, writer->path);
    int fd = io->open(io->context, writer->path, CAIRN_OPEN_CREATE);
    if (fd < 0)
        return cairn_fail(err, cairn_code_from_errno(-fd), "cannot create %s: %s", writer->path,
                          strerror(-fd));
    writer->io = io;
    writer->type = type;
    writer->generation = generation;
    writer->fd = fd;
    writer->buffer = cairn_malloc(BUFFER_BYTES);
    return 0;
}

static void flush(struct cairn_file_writer *writer)
{
    if (writer->failed != 0 || writer->buffered == 0)
        return;
    uint64_t at = CAIRN_FILE_HEADER_BYTES + writer->payload_bytes - writer->buffered;
    writer->crc = cairn_crc32c(writer->crc, writer->buffer, writer->buffered);
    writer->failed =
        cairn_io_write_full(writer->io, writer->fd, writer->buffer, writer->buffered, at);
    writer->buffered = 0;
}

int cairn_file_write(struct cairn_file_writer *writer, const void *bytes, size_t len)
{
    const char *from = bytes;
    while (len != 0 && writer->failed == 0) {
        size_t room = BUFFER_BYTES - writer->buffered;
        size_t take = len < room ? len : room;
        memcpy(writer->buffer + writer->buffered, from, take);
        writer->buffered += take;
        writer->payload_bytes += take;
        from += take;
        len -= take;
        if (writer->buffered == BUFFER_BYTES)
            flush(writer);
    }
    return writer->failed;
}

int cairn_file_align(struct cairn_file_writer *writer)
{
    static const char zeroes[64];
    return cairn_file_write(writer, zeroes, (64 - writer->payload_bytes % 64) % 64);
}

static void release(struct cairn_file_writer *writer)
{
    int closed = writer->io->close(writer->io->context, writer->fd);
    if (writer->failed == 0)
        writer->failed = closed;
    free(writer->buffer);
    writer->buffer = NULL;
}

int cairn_file_finish(struct cairn_file_writer *writer, struct cairn_error *err)
{
    flush(writer);
    if (writer->failed == 0) {
        struct header header = {.version = CAIRN_FILE_VERSION,
                                .type = writer->type,
                                .generation = writer->generation,
                                .payload_bytes = writer->payload_bytes,
                                .payload_crc = writer->crc};
        memcpy(header.magic, magic, sizeof(magic));
        header.header_crc = cairn_crc32c(0, &header, offsetof(struct header, header_crc));
        writer->failed = cairn_io_write_full(writer->io, writer->fd, &header, sizeof(header), 0);
    }
    if (writer->failed == 0)
        writer->failed = writer->io->fdatasync(writer->io->context, writer->fd);
    release(writer);
    if (writer->failed == 0)
        return 0;
    (void)writer->io->unlink(writer->io->context, writer->path);
    return cairn_fail(err, cairn_code_from_errno(-writer->failed), "cannot write %s: %s",
                      writer->path, strerror(-writer->failed));
}

void cairn_file_abort(struct cairn_file_writer *writer)
{
    release(writer);
    (void)writer->io->unlink(writer->io->context, writer->path);
}

static int check(const struct cairn_file_map *map, const char *name, enum cairn_file_type type,
                 uint64_t generation, struct cairn_error *err)
{
    struct header header;
    memcpy(&header, map->base, sizeof(header));
    if (memcmp(header.magic, magic, sizeof(magic)) != 0)
        return cairn_fail(err, CAIRN_ECORRUPT, "%s is not a file of an index", name);
    if (header.header_crc != cairn_crc32c(0, &header, offsetof(struct header, header_crc)))
        return cairn_fail(err, CAIRN_ECORRUPT, "%s: the header's checksum is wrong", name);
    if (header.version != CAIRN_FILE_VERSION)
        return cairn_fail(err, CAIRN_ECORRUPT, "%s has format version %u, not %d", name,
                          header.version, CAIRN_FILE_VERSION);
    if (header.type != type || header.generation != generation)
        return cairn_fail(err, CAIRN_ECORRUPT, "%s is another file (type %u of generation %lu)",
                          name, header.type, (unsigned long)header.generation);
    if (header.payload_bytes != map->payload_bytes)
        return cairn_fail(err, CAIRN_ECORRUPT, "%s has %lu bytes of %lu", name,
                          (unsigned long)map->payload_bytes, (unsigned long)header.payload_bytes);
    if (header.payload_crc != cairn_crc32c(0, map->payload, map->payload_bytes))
        return cairn_fail(err, CAIRN_ECORRUPT, "%s: the checksum of its contents is wrong", name);
    return 0;
}

int cairn_file_map(struct cairn_file_map *map, const struct cairn_io *io, const char *dir,
                   const char *name, enum cairn_file_type type, uint64_t generation,
                   struct cairn_error *err)
{
    memset(map, 0, sizeof(*map));
    char path[CAIRN_PATH_BYTES];
    int code = cairn_path_join(path, dir, name, err);
    if (code != 0)
        return code;
    int fd = io->open(io->context, path, CAIRN_OPEN_READ);
    if (fd < 0)
        return cairn_fail(err, CAIRN_ECORRUPT, "cannot open %s: %s", name, strerror(-fd));
    uint64_t size = 0;
    int failed = io->size(io->context, fd, &size);
    if (failed != 0) {
        code = cairn_fail(err, CAIRN_ECORRUPT, "cannot read %s: %s", name, strerror(-failed));
        goto done;
    }
    if (size < CAIRN_FILE_HEADER_BYTES) {
        code = cairn_fail(err, CAIRN_ECORRUPT, "%s is cut off in its header", name);
        goto done;
    }
    /* All of it is read now for its checksum, so let the kernel read ahead. */
    void *base = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (base == MAP_FAILED) {
        code = cairn_fail(err, CAIRN_ECORRUPT, "cannot map %s", name);
        goto done;
    }
    map->base = base;
    map->mapped_bytes = size;
    map->payload = (const char *)base + CAIRN_FILE_HEADER_BYTES;
    map->payload_bytes = size - CAIRN_FILE_HEADER_BYTES;
    code = check(map, name, type, generation, err);
    if (code != 0)
        cairn_file_unmap(map);
done:
    (void)io->close(io->context, fd);
    return code;
}

void cairn_file_unmap(struct cairn_file_map *map)
{
    if (map->base != NULL)
        (void)munmap(map->base, map->mapped_bytes);
    memset(map, 0, sizeof(*map));
}

const void *cairn_file_take(const struct cairn_file_map *map, uint64_t *at, uint64_t bytes)
{
    if (*at > map->payload_bytes || bytes > map->payload_bytes - *at)
        return NULL;
    const char *taken = map->payload + *at;
    *at += bytes;
    return taken;
}

void cairn_file_skip_align(uint64_t *at)
{
    *at = (*at + 63) & ~UINT64_C(63);
}
