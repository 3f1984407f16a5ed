/* The durable mark: how far the log has been made durable, written after each fdatasync and never
 * synced itself. After a killed process it is exact, because the page cache survives; after a power
 * loss it is some earlier mark or none, which is a lower bound and just as true. */
#include "featurestore/log_internal.h"

#include <errno.h>

int cairn_log_mark_read(const struct cairn_io *io, const char *dir,
                        enum cairn_log_mark_state *state, struct cairn_log_mark *mark)
{
    struct cairn_log_path path;
    int fd =
        io->open(io->context, cairn_log_path(&path, dir, CAIRN_LOG_MARK_NAME), CAIRN_OPEN_READ);
    *state = CAIRN_MARK_NONE;
    if (fd < 0) {
        return fd == -ENOENT ? 0 : fd;
    }
    *state = CAIRN_MARK_DAMAGED;
    for (uint64_t slot = 0; slot < 2; slot++) {
        uint8_t bytes[CAIRN_LOG_MARK_BYTES];
        struct cairn_log_mark found;
        int rc = cairn_io_read_full(io, fd, bytes, sizeof(bytes), slot * CAIRN_LOG_MARK_SLOT_STEP);
        /* A slot that is missing or cannot be read is as good as a damaged one. */
        if (rc == 0 && cairn_log_mark_decode(bytes, &found) &&
            (*state != CAIRN_MARK_VALID || found.sequence > mark->sequence)) {
            *state = CAIRN_MARK_VALID;
            *mark = found;
        }
    }
    io->close(io->context, fd);
    return 0;
}

int cairn_log_mark_open(const struct cairn_io *io, const char *dir)
{
    struct cairn_log_path path;
    cairn_log_path(&path, dir, CAIRN_LOG_MARK_NAME);
    int fd = io->open(io->context, path.text, CAIRN_OPEN_WRITE);
    return fd == -ENOENT ? io->open(io->context, path.text, CAIRN_OPEN_CREATE) : fd;
}

int cairn_log_mark_write(const struct cairn_io *io, int fd, const struct cairn_log_mark *mark)
{
    uint8_t bytes[CAIRN_LOG_MARK_BYTES];
    cairn_log_mark_encode(mark, bytes);
    return cairn_io_write_full(io, fd, bytes, sizeof(bytes),
                               (mark->sequence & 1) * CAIRN_LOG_MARK_SLOT_STEP);
}
