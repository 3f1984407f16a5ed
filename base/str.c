#include "base/str.h"

/* Length of the character at `at`, or 0 when it is malformed. The ranges of the second byte are
 * those of RFC 3629's grammar: they exclude overlong forms, surrogates and what lies past U+10FFFF.
 */
static size_t character_len(const unsigned char *at, size_t left)
{
    unsigned char lead = at[0];
    size_t len;
    unsigned char low = 0x80, high = 0xBF;
    if (lead < 0x80)
        return 1;
    if (lead < 0xC2)
        return 0;
    if (lead < 0xE0) {
        len = 2;
    } else if (lead < 0xF0) {
        len = 3;
        low = lead == 0xE0 ? 0xA0 : 0x80;
        high = lead == 0xED ? 0x9F : 0xBF;
    } else if (lead < 0xF5) {
        len = 4;
        low = lead == 0xF0 ? 0x90 : 0x80;
        high = lead == 0xF4 ? 0x8F : 0xBF;
    } else {
        return 0;
    }
    if (left < len || at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    }
    return len;
}

bool cairn_utf8_valid(struct cairn_str s)
{
    const uint64_t high_bits = UINT64_C(0x8080808080808080);
    const unsigned char *at = (const unsigned char *)s.ptr;
    size_t left = s.len;
    while (left > 0) {
        /* Most text is ASCII: skip it by words. */
        uint64_t words[2];
        if (left >= sizeof(words)) {
            memcpy(words, at, sizeof(words));
            if (((words[0] | words[1]) & high_bits) == 0) {
                at += sizeof(words);
                left -= sizeof(words);
                continue;
            }
        }
        /* Then one run of other characters, up to the next ASCII one. */
        do {
            size_t len = character_len(at, left);
            if (len == 0)
                return false;
            at += len;
            left -= len;
        } while (left > 0 && *at >= 0x80);
    }
    return true;
}
