#include "router/transport_h2o.h"

#include <stdlib.h>

#define H2O_USE_LIBUV 0
#include <h2o/memory.h>
#include <h2o/socket.h>

#define RECYCLED_CHUNKS_MAX 16 /* h2o's, per thread */

void cairn_h2o_release_recycled_chunks(void)
{
    h2o_mem_recycle_t *buffers = &h2o_socket_buffer_prototype.allocator;
    while (buffers->cnt > 0)
        free(h2o_mem_alloc_recycle(buffers, 1));
    for (unsigned i = 0; i < RECYCLED_CHUNKS_MAX; i++) {
        h2o_mem_pool_t pool;
        h2o_mem_init_pool(&pool);
        h2o_mem_alloc_pool(&pool, 1);
        free(pool.chunks);
    }
}
