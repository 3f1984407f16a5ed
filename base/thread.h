/* What a thread may say about itself to the system. */
#ifndef CAIRN_BASE_THREAD_H
#define CAIRN_BASE_THREAD_H

/* The calling thread gives way to threads that serve: it gets about a tenth of a core that others
 * want too, and all of one that is idle. Not for a thread that serving threads wait for. A system
 * that refuses leaves the thread as it is. */
void cairn_thread_give_way(void);

#endif
