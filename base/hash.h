/* Checksums and hashes. All are fixed by the on-disk format: changing one breaks old data. */
#ifndef CAIRN_BASE_HASH_H
#define CAIRN_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* CRC32C (Castagnoli), continuing from `crc` (0 to start). Hardware-accelerated through ISA-L. */
uint32_t cairn_crc32c(uint32_t crc, const void *bytes, size_t len);

/* XXH3, 64 bits, seed 0. */
uint64_t cairn_hash64(const void *bytes, size_t len);

/* XXH3, 128 bits: out[0] is the low half. */
void cairn_hash128(uint64_t seed, const void *bytes, size_t len, uint64_t out[2]);

/* A record's place on the hash ring: XXH3-64 over collection name, a NUL byte, route. */
uint64_t cairn_token(struct cairn_str collection, struct cairn_str route);

#endif
