#include "router/transport_timers.h"

#include <stdlib.h>

#include "base/buf.h"

/* heap[place - 1] has timer->place == place, and no timer is earlier than the one at place / 2. */
static void put(struct transport_timers *timers, uint32_t place, struct transport_timer *timer)
{
    timers->heap[place - 1] = timer;
    timer->place = place;
}

/* Move `timer` from `place` towards the root, then towards the leaves, to where it belongs. */
static void settle(struct transport_timers *timers, uint32_t place, struct transport_timer *timer)
{
    while (place > 1 && timers->heap[place / 2 - 1]->at_us > timer->at_us) {
        put(timers, place, timers->heap[place / 2 - 1]);
        place /= 2;
    }
    for (;;) {
        uint32_t child = 2 * place;
        if (child > timers->count)
            break;
        if (child < timers->count && timers->heap[child]->at_us < timers->heap[child - 1]->at_us)
            child++;
        if (timers->heap[child - 1]->at_us >= timer->at_us)
            break;
        put(timers, place, timers->heap[child - 1]);
        place = child;
    }
    put(timers, place, timer);
}

void transport_timers_set(struct transport_timers *timers, struct transport_timer *timer,
                          uint64_t at_us)
{
    timer->at_us = at_us;
    if (timer->place == 0) {
        if (timers->count == timers->capacity) {
            timers->capacity = timers->capacity ? 2 * timers->capacity : 64;
            timers->heap = cairn_realloc(timers->heap, timers->capacity * sizeof(*timers->heap));
        }
        timer->place = ++timers->count;
        timers->heap[timer->place - 1] = timer;
    }
    settle(timers, timer->place, timer);
}

void transport_timers_clear(struct transport_timers *timers, struct transport_timer *timer)
{
    uint32_t place = timer->place;
    if (place == 0)
        return;
    timer->place = 0;
    struct transport_timer *last = timers->heap[--timers->count];
    if (last != timer)
        settle(timers, place, last);
}

bool transport_timers_fire(struct transport_timers *timers, uint64_t now_us)
{
    if (timers->count == 0 || timers->heap[0]->at_us > now_us)
        return false;
    struct transport_timer *timer = timers->heap[0];
    transport_timers_clear(timers, timer);
    timer->fire(timer);
    return true;
}

int32_t transport_timers_wait_ms(const struct transport_timers *timers, uint64_t now_us)
{
    if (timers->count == 0)
        return INT32_MAX;
    uint64_t at_us = timers->heap[0]->at_us;
    if (at_us <= now_us)
        return 0;
    uint64_t wait_us = at_us - now_us;
    if (wait_us / 1000 >= INT32_MAX)
        return INT32_MAX;
    return (int32_t)((wait_us + 999) / 1000);
}

void transport_timers_release(struct transport_timers *timers)
{
    free(timers->heap);
    *timers = (struct transport_timers){0};
}
