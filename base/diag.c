#include "base/diag.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include "base/time.h"

static _Atomic int least_level = CAIRN_DIAG_INFO;

void cairn_diag_set_level(enum cairn_diag_level level)
{
    atomic_store_explicit(&least_level, (int)level, memory_order_relaxed);
}

static const char *level_name(enum cairn_diag_level level)
{
    switch (level) {
    case CAIRN_DIAG_DEBUG:
        return "debug";
    case CAIRN_DIAG_INFO:
        return "info";
    case CAIRN_DIAG_WARN:
        return "warn";
    default:
        return "error";
    }
}

/* One line stays one line, and no control code of a client reaches the operator's terminal. */
static void mask_controls(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7F)
            text[i] = ' ';
    }
}

void cairn_diag_line(enum cairn_diag_level level, const char *component, const char *format, ...)
{
    if ((int)level < atomic_load_explicit(&least_level, memory_order_relaxed))
        return;
    char when[CAIRN_TIME_TEXT_BYTES];
    cairn_time_format(cairn_time_now_us(), when);

    char line[2048];
    const size_t text_max = sizeof(line) - 1; /* room for the newline */
    int len = snprintf(line, text_max, "%s %s %s: ", when, level_name(level), component);
    size_t used = len < 0 ? 0 : (size_t)len < text_max ? (size_t)len : text_max - 1;
    va_list args;
    va_start(args, format);
    len = vsnprintf(line + used, text_max - used, format, args);
    va_end(args);
    if (len > 0)
        used = (size_t)len < text_max - used ? used + (size_t)len : text_max - 1;
    mask_controls(line, used);
    line[used++] = '\n';
    /* One write, so that lines of different threads do not mix. There is nobody to tell when
     * standard error is gone. */
    ssize_t written = write(STDERR_FILENO, line, used);
    (void)written;
}
