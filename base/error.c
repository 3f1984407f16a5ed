#include "base/error.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Where to cut `text`, which lost its end at `len`, so that no character is left half. */
static size_t whole_characters(const char *text, size_t len)
{
    size_t start = len;
    while (start > 0 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
        start--;
    if (start == 0)
        return len;
    unsigned char lead = (unsigned char)text[start - 1];
    size_t need = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    return len - (start - 1) < need ? start - 1 : len;
}

/* Format into `out`, cutting what does not fit at a character's end: messages quote keys and names
 * and go into JSON answers. */
static void format_message(char *out, size_t capacity, const char *format, va_list args)
{
    int len = vsnprintf(out, capacity, format, args);
    if (len < 0)
        out[0] = '\0';
    else if ((size_t)len >= capacity)
        out[whole_characters(out, capacity - 1)] = '\0';
}

int cairn_fail(struct cairn_error *err, int code, const char *format, ...)
{
    if (!err)
        return code;
    /* Arguments may point into err->message. */
    char message[sizeof(err->message)];
    va_list args;
    va_start(args, format);
    format_message(message, sizeof(message), format, args);
    va_end(args);
    err->code = code;
    memcpy(err->message, message, strlen(message) + 1);
    return code;
}

int cairn_error_prefix(struct cairn_error *err, const char *format, ...)
{
    if (!err)
        return CAIRN_EINTERNAL;
    char message[sizeof(err->message)];
    va_list args;
    va_start(args, format);
    format_message(message, sizeof(message), format, args);
    va_end(args);
    return cairn_fail(err, err->code, "%s: %s", message, err->message);
}

const char *cairn_code_word(int code)
{
    switch (code) {
#define ERROR_WORD(name, number, word, status)                                                     \
    case name:                                                                                     \
        return word;
        CAIRN_ERROR_LIST(ERROR_WORD)
#undef ERROR_WORD
    default:
        return "internal";
    }
}

int cairn_code_http_status(int code)
{
    switch (code) {
#define ERROR_STATUS(name, number, word, status)                                                   \
    case name:                                                                                     \
        return status;
        CAIRN_ERROR_LIST(ERROR_STATUS)
#undef ERROR_STATUS
    default:
        return 500;
    }
}

int cairn_code_from_errno(int err_number)
{
    switch (err_number) {
    case ENOSPC:
    case EDQUOT:
        return CAIRN_ENOSPACE;
    case ENOMEM:
        return CAIRN_ENOMEM;
    default:
        return CAIRN_EIO;
    }
}
