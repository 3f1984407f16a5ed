/* Which feature logs a directory given on the command line means, and the lock that keeps a server
 * and the offline tools apart. */
#ifndef CAIRN_CMD_LOG_DIRS_H
#define CAIRN_CMD_LOG_DIRS_H

#include <stdint.h>

#include "base/error.h"
#include "base/limits.h"

struct cairn_log_dir {
    char *path;
    uint32_t shard; /* from the name of the folder above; 0 when that is no shard's */
};

struct cairn_log_dirs {
    struct cairn_log_dir at[CAIRN_SHARDS_MAX]; /* by shard */
    uint32_t count;
    int lock_fd; /* -1: none */
};

/* Find the logs of `dir`: a data directory (all its shards), a shard's directory or a log's own.
 * Takes the data directory's lock where there is one. CAIRN_ENOTFOUND when there is no log;
 * CAIRN_EUNAVAILABLE when a server is running there. Release in any case. */
int cairn_log_dirs_find(const char *dir, struct cairn_log_dirs *out, struct cairn_error *err);
void cairn_log_dirs_release(struct cairn_log_dirs *dirs);

#endif
