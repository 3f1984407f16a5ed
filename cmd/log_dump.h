/* The records of one feature log, one line each. */
#ifndef CAIRN_CMD_LOG_DUMP_H
#define CAIRN_CMD_LOG_DUMP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct cairn_log_dump_options {
    const char *dir;
    uint32_t shard;
    uint64_t from_offset; /* 0: the beginning */
    uint64_t limit;       /* records; 0: all */
    uint32_t collection;  /* id; 0: all */
    bool json;
};

/* Print to standard output. Changes nothing on disk: a torn tail stays where it is and is not
 * shown. *printed counts the records. CAIRN_ENOTFOUND when there is no log, CAIRN_ECORRUPT naming
 * where the log cannot be read. */
int cairn_log_dump(const struct cairn_log_dump_options *options, uint64_t *printed,
                   struct cairn_error *err);

#endif
