/* Diagnostics on standard error, one line each: time, level, component, message.
 * (The word "log" means the feature log everywhere in Cairn.) Threads: any. */
#ifndef CAIRN_BASE_DIAG_H
#define CAIRN_BASE_DIAG_H

enum cairn_diag_level { CAIRN_DIAG_DEBUG, CAIRN_DIAG_INFO, CAIRN_DIAG_WARN, CAIRN_DIAG_ERROR };

void cairn_diag_set_level(enum cairn_diag_level level); /* default: INFO */
void cairn_diag_line(enum cairn_diag_level level, const char *component, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define cairn_info(component, ...)  cairn_diag_line(CAIRN_DIAG_INFO, component, __VA_ARGS__)
#define cairn_warn(component, ...)  cairn_diag_line(CAIRN_DIAG_WARN, component, __VA_ARGS__)
#define cairn_alarm(component, ...) cairn_diag_line(CAIRN_DIAG_ERROR, component, __VA_ARGS__)

#endif
