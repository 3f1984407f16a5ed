#include "featurestore/import_record.h"

#include "base/limits.h"

#define HEAD_BYTES 8u

void cairn_import_begin_encode(const struct cairn_import_begin *begin, struct cairn_buf *out)
{
    char head[HEAD_BYTES] = {0};
    for (int i = 0; i < 4; i++)
        head[i] = (char)(uint8_t)(begin->source >> (8 * i));
    cairn_buf_append(out, head, sizeof(head));
    cairn_buf_append(out, begin->map_text.ptr, begin->map_text.len);
}

int cairn_import_begin_decode(struct cairn_str bytes, struct cairn_import_begin *out,
                              struct cairn_error *err)
{
    if (bytes.len <= HEAD_BYTES || bytes.len - HEAD_BYTES > CAIRN_MAP_BYTES_MAX)
        return cairn_fail(err, CAIRN_ECORRUPT,
                          "import begin: %u bytes, but a map's text of 1 to %u bytes follows the "
                          "first %u",
                          bytes.len, CAIRN_MAP_BYTES_MAX, HEAD_BYTES);
    uint32_t words[2] = {0};
    for (uint32_t i = 0; i < HEAD_BYTES; i++)
        words[i / 4] |= (uint32_t)(uint8_t)bytes.ptr[i] << (8 * (i % 4));
    if (words[0] >= CAIRN_SHARDS_MAX)
        return cairn_fail(err, CAIRN_ECORRUPT, "import begin: source %u is not below %u", words[0],
                          CAIRN_SHARDS_MAX);
    if (words[1] != 0)
        return cairn_fail(err, CAIRN_ECORRUPT, "import begin: a reserved byte is set");
    *out = (struct cairn_import_begin){words[0], {bytes.ptr + HEAD_BYTES, bytes.len - HEAD_BYTES}};
    return 0;
}
