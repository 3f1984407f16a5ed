/* Named places at which a test ends, stops or delays the process.
 *
 * The environment variable CAIRN_FAILPOINT names one: NAME[:N][=ACTION]. At the Nth time (default:
 * the first) that the process passes the place it does what ACTION says:
 *
 *   kill       the process ends as if by kill -9 (the default)
 *   stop       the process is stopped (SIGSTOP) until somebody continues it
 *   sleep:MS   the thread waits; without N it does so every time
 *
 * docs/cluster.md lists the places. Without the variable a place costs one load.
 * Threads: any. */
#ifndef CAIRN_BASE_FAILPOINT_H
#define CAIRN_BASE_FAILPOINT_H

#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

/* The place `name`. */
void cairn_failpoint(const char *name);

enum cairn_failpoint_action {
    CAIRN_FAILPOINT_KILL,
    CAIRN_FAILPOINT_STOP,
    CAIRN_FAILPOINT_SLEEP,
};

#define CAIRN_FAILPOINT_NAME_BYTES   64u
#define CAIRN_FAILPOINT_SLEEP_MS_MAX 60000u

struct cairn_failpoint_spec {
    char name[CAIRN_FAILPOINT_NAME_BYTES];
    enum cairn_failpoint_action action;
    uint32_t at; /* acts at this pass, from 1; 0: at every one */
    uint32_t sleep_ms;
};
/* CAIRN_EPARAM for another form. */
int cairn_failpoint_parse(struct cairn_str text, struct cairn_failpoint_spec *out,
                          struct cairn_error *err);

#endif
