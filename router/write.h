/* A write on its way: what write.c and write_retry.c share. */
#ifndef CAIRN_ROUTER_WRITE_H
#define CAIRN_ROUTER_WRITE_H

#include "router/internal.h"

/* What one shard is asked to write in a round: a range of the round's items. */
struct write_part {
    struct cairn_shard_write write; /* to a shard here */
    struct router_remote remote;    /* to one elsewhere */
    struct write_round *round;
    struct router_member *member;
    uint32_t first, count;
    struct cairn_error error;
};

/* Items that are handed out at the same time, grouped by shard. The first round lives in the
 * caller's arena, later ones on the heap until their last part has ended. */
struct write_round {
    struct router_timer timer; /* of a round that is still to begin */
    struct write_gather *gather;
    bool heap;
    unsigned tries;          /* rounds before */
    bool resent;             /* for the reason that a shard could not be reached */
    uint64_t cluster, epoch; /* of the map that it was handed out by */
    atomic_uint pending;
    struct write_part *parts;
    uint32_t parts_count;
    struct cairn_shard_item *items;
    struct cairn_write_result *results; /* of each item */
    uint32_t *places;                   /* of each item among the caller's */
    uint32_t count;
};

/* The whole. In the caller's arena, which only submit may take memory from. */
struct write_gather {
    struct cairn_router *router;
    struct cairn_router_write *whole;
    uint64_t deadline_us;
    atomic_uint pending;  /* parts, and 1 while submit hands them out */
    pthread_mutex_t lock; /* guards what follows */
    uint32_t committed, failed;
    struct cairn_error error; /* the first */
    struct cairn_position position;
};

/* Group the round's items by the newest map. `unsorted`, its places and `parts` (room for every
 * shard) are given; CAIRN_EUNAVAILABLE without a map. */
int write_round_group(struct write_round *round, const struct cairn_shard_item *unsorted,
                      const uint32_t *places, struct cairn_error *err);
void write_round_start(struct write_round *round);
/* The part has ended for good, as its error says. */
void write_part_end(struct write_part *part);

/* write_retry.c: the shard goes by another map, or was not reached, and nothing was written: do
 * the items again in a round of their own, if they may be. */
bool write_part_again(struct write_part *part);

#endif
