/* Timers of one thread: a binary heap of times, each in the object that it is for. h2o's own are
 * lists of one duration each and run on the wall clock. */
#ifndef CAIRN_ROUTER_TRANSPORT_TIMERS_H
#define CAIRN_ROUTER_TRANSPORT_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

struct transport_timer {
    uint64_t at_us;
    uint32_t place; /* in the heap, from 1; 0: not set */
    void (*fire)(struct transport_timer *timer);
};

struct transport_timers {
    struct transport_timer **heap;
    uint32_t count, capacity;
};

/* Set, or set anew. at_us 0: as soon as possible. */
void transport_timers_set(struct transport_timers *timers, struct transport_timer *timer,
                          uint64_t at_us);
/* Does nothing to one that is not set. */
void transport_timers_clear(struct transport_timers *timers, struct transport_timer *timer);
/* Fire the earliest if it is due; it is cleared before. Returns whether it was. */
bool transport_timers_fire(struct transport_timers *timers, uint64_t now_us);
/* Milliseconds to the next, rounded up; INT32_MAX when there is none. */
int32_t transport_timers_wait_ms(const struct transport_timers *timers, uint64_t now_us);
void transport_timers_release(struct transport_timers *timers);

#endif
