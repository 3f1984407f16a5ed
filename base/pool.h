/* A fixed set of worker threads over one bounded queue.
 *
 * Threads: submit from any thread, workers included. */
#ifndef CAIRN_BASE_POOL_H
#define CAIRN_BASE_POOL_H

#include <stddef.h>

#include "base/error.h"

struct cairn_pool;

/* Start `threads` workers named `name` (15 bytes shown). `queue_max` tasks may wait. */
int cairn_pool_start(const char *name, unsigned threads, unsigned queue_max,
                     struct cairn_pool **out, struct cairn_error *err);
/* Queue run(arg). CAIRN_EOVERLOADED when the queue is full, CAIRN_ESHUTDOWN after stop began. */
int cairn_pool_submit(struct cairn_pool *pool, void (*run)(void *arg), void *arg);
size_t cairn_pool_queued(struct cairn_pool *pool);
/* Run what is queued to its end, join the workers, free; sets *pool to NULL. Not to be called by a
 * worker; meanwhile only workers may submit, and they are refused. */
void cairn_pool_stop(struct cairn_pool **pool);

#endif
