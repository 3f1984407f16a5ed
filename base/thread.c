#include "base/thread.h"

#include <sys/resource.h>
#include <unistd.h>

/* Weight 110 in the scheduler's table, against 1024 of an ordinary thread. */
#define GIVE_WAY_NICE 10

void cairn_thread_give_way(void)
{
    /* On Linux a priority belongs to a thread. */
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), GIVE_WAY_NICE);
}
