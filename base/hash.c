#include "base/hash.h"

#include <isa-l/crc.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

uint32_t cairn_crc32c(uint32_t crc, const void *bytes, size_t len)
{
    /* ISA-L keeps the register as it is: CRC32C's complement before and after is ours. It declares
     * its input non-const but only reads it, and takes an int. */
    const size_t piece_max = 1u << 30;
    union {
        const void *in;
        unsigned char *out;
    } at = {.in = bytes};
    uint32_t state = ~crc;
    while (len > 0) {
        size_t piece = len < piece_max ? len : piece_max;
        state = crc32_iscsi(at.out, (int)piece, state);
        at.out += piece;
        len -= piece;
    }
    return ~state;
}

uint64_t cairn_hash64(const void *bytes, size_t len)
{
    return XXH3_64bits(bytes, len);
}

void cairn_hash128(uint64_t seed, const void *bytes, size_t len, uint64_t out[2])
{
    XXH128_hash_t hash = XXH3_128bits_withSeed(bytes, len, seed);
    out[0] = hash.low64;
    out[1] = hash.high64;
}

uint64_t cairn_token(struct cairn_str collection, struct cairn_str route)
{
    /* Within the limits of names and routes this is one pass over a copy on the stack, which costs
     * less than the streaming state (576 bytes to set up). */
    char joined[1024];
    size_t len = (size_t)collection.len + 1 + route.len;
    if (len <= sizeof(joined)) {
        if (collection.len)
            memcpy(joined, collection.ptr, collection.len);
        joined[collection.len] = '\0';
        if (route.len)
            memcpy(joined + collection.len + 1, route.ptr, route.len);
        return XXH3_64bits(joined, len);
    }
    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, collection.ptr, collection.len);
    XXH3_64bits_update(&state, "", 1);
    XXH3_64bits_update(&state, route.ptr, route.len);
    return XXH3_64bits_digest(&state);
}
