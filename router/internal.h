/* What the files of router/ share. Nobody else includes this. */
#ifndef CAIRN_ROUTER_INTERNAL_H
#define CAIRN_ROUTER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "router/ring.h"
#include "router/router.h"

struct cairn_router {
    /* Immutable after open. */
    char *dir;
    int lock_fd;
    const struct cairn_io *io;
    struct cairn_pool *builders;
    struct cairn_ring *ring;
    struct cairn_shard *shards[CAIRN_SHARDS_MAX]; /* by shard id */
    double weights[CAIRN_SHARDS_MAX];
    uint32_t shards_count;
    uint32_t vnodes;
    uint64_t epoch;
    char *advertise;             /* NULL: none */
    uint32_t copy_share_percent; /* 1 to 100 */
    struct cairn_metrics *metrics;
    struct router_rebalance *rebalance; /* rebalance.h */
    struct router_imports *imports;     /* import.c */

    /* Guarded by catalog_lock. Sorted by name; dropped collections are kept out. */
    pthread_rwlock_t catalog_lock;
    const struct cairn_schema **schemas;
    uint32_t schemas_count;

    /* Guarded by change_lock, which is held over a whole schema change (before catalog_lock).
     * Versions are counted over the whole catalog and never reused, so a change that reached only
     * some shards cannot be confused with another one. */
    pthread_mutex_t change_lock;
    uint64_t last_version;
    uint32_t last_id;
};

/* catalog.c */
/* Take the newest schemas of all shards and write them to the shards that lack them. */
int router_catalog_open(struct cairn_router *router, struct cairn_error *err);
void router_catalog_close(struct cairn_router *router);

/* map.c: the persisted shard map. */
int router_map_open(struct cairn_router *router, uint32_t shards_asked, struct cairn_error *err);

/* Record that an answer reflects what `shard` has applied. Call before reading from it. */
void router_touch(struct cairn_router *router, struct cairn_contract *contract, uint32_t shard);

/* The shard of a route, and its token. */
uint32_t router_place(const struct cairn_router *router, const struct cairn_schema *schema,
                      struct cairn_str route, uint64_t *token);
/* Find a key's row. *shard is where it is (or would be). The pin is the caller's. */
int router_find(struct cairn_router *router, const struct cairn_schema *schema,
                struct cairn_str key, struct cairn_contract *contract, uint32_t *shard,
                struct cairn_row_pin *pin, struct cairn_error *err);

#endif
