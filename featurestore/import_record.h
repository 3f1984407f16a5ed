/* The payload of CAIRN_RECORD_IMPORT_BEGIN:
 *
 *   at  size  field
 *    0     4  source, little-endian: whose log is going to be copied from
 *    4     4  zero
 *    8     …  canonical text of the map whose plan has the move from the source to this shard */
#ifndef CAIRN_FEATURESTORE_IMPORT_RECORD_H
#define CAIRN_FEATURESTORE_IMPORT_RECORD_H

#include "base/buf.h"
#include "base/error.h"

struct cairn_import_begin {
    uint32_t source;
    struct cairn_str map_text; /* 1 to CAIRN_MAP_BYTES_MAX bytes */
};

/* Append the payload to `out`. */
void cairn_import_begin_encode(const struct cairn_import_begin *begin, struct cairn_buf *out);
/* The text points into `bytes`, and is the caller's to decode. CAIRN_ECORRUPT for what is no such
 * payload: too short, without a text or with one that is too long, a shard over the limit, a
 * reserved byte that is set. */
int cairn_import_begin_decode(struct cairn_str bytes, struct cairn_import_begin *out,
                              struct cairn_error *err);

#endif
