/* Cutting a move over, on the source's side: holding writes to tokens that are about to leave.
 *
 *   state      entered by                     writes to the move's tokens   left by
 *   open       -                              appended                      freeze -> held
 *   held       the writer takes up a freeze   kept, in their order          release -> released
 *                                                                           thaw, time over -> open
 *                                                                           any other map   -> open
 *   released   the MAP record is applied      refused: 421                  -
 *
 * All of it happens on the writer's thread between two groups, so when a freeze is in force no
 * write to the tokens is under way. A hold ends by itself, and a release is admitted only while the
 * hold that it names is in force: a source whose writes go on again can never be made to release by
 * a message that was late. */
#include "shard/internal.h"

#include "base/diag.h"
#include "base/time.h"

struct shard_freeze {
    struct cairn_shard_move move;
    uint32_t hold_ms;
    bool settled;
    uint64_t fence, end_offset;
    struct cairn_error error;
    pthread_cond_t done; /* with queue_lock */
};

static bool is_over(const struct shard_hold *hold)
{
    return cairn_time_monotonic_us() >= hold->until_us;
}

void shard_hold_end(struct cairn_shard *shard)
{
    shard->hold.active = false;
}

static void begin(struct cairn_shard *shard, struct shard_freeze *freeze, bool stopping)
{
    struct shard_hold *hold = &shard->hold;
    const struct cairn_map *map = NULL;
    if (stopping) {
        cairn_fail(&freeze->error, CAIRN_ESHUTDOWN, "shard s%u is closing", shard->id);
    } else if (hold->active) {
        cairn_fail(&freeze->error, CAIRN_EBUSY, "shard s%u holds the writes of another cut over",
                   shard->id);
    } else if (shard_move_map(shard, &freeze->move, &map, &freeze->error) == 0) {
        do
            hold->fence = shard->io->random(shard->io->context);
        while (hold->fence == 0);
        hold->active = true;
        hold->move = freeze->move;
        hold->until_us = cairn_time_monotonic_us() + freeze->hold_ms * UINT64_C(1000);
        freeze->fence = hold->fence;
        freeze->end_offset = cairn_shard_applied(shard);
    }
    cairn_map_unref(map);
}

void shard_hold_turn(struct cairn_shard *shard)
{
    struct shard_hold *hold = &shard->hold;
    pthread_mutex_lock(&shard->queue_lock);
    struct shard_freeze *freeze = shard->control.freeze;
    uint64_t thaw = shard->control.thaw;
    bool stopping = shard->stopping;
    shard->control.thaw = 0;
    pthread_mutex_unlock(&shard->queue_lock);
    if (hold->active && (stopping || (thaw != 0 && thaw == hold->fence) || is_over(hold)))
        shard_hold_end(shard);
    if (freeze == NULL)
        return;
    begin(shard, freeze, stopping);
    pthread_mutex_lock(&shard->queue_lock);
    shard->control.freeze = NULL;
    freeze->settled = true;
    pthread_cond_signal(&freeze->done);
    pthread_mutex_unlock(&shard->queue_lock);
}

struct cairn_shard_write *shard_hold_before(struct cairn_shard *shard,
                                            struct cairn_shard_write *list)
{
    struct shard_hold *hold = &shard->hold;
    if (hold->active || hold->held == NULL)
        return list;
    *hold->held_tail = list;
    list = hold->held;
    hold->held = NULL;
    hold->held_count = 0;
    hold->held_bytes = 0;
    atomic_store(&shard->held_writes, 0);
    return list;
}

bool shard_hold_covers(const struct cairn_shard *shard, const struct cairn_shard_write *write)
{
    const struct shard_hold *hold = &shard->hold;
    if (!hold->active)
        return false;
    for (uint32_t i = 0; i < write->count; i++)
        if (write->items[i].kind == CAIRN_RECORD_ENTITY &&
            cairn_map_is_moving(shard->ownership.map, write->items[i].token, hold->move.source,
                                hold->move.target))
            return true;
    return false;
}

int shard_hold_keep(struct cairn_shard *shard, struct cairn_shard_write *write)
{
    struct shard_hold *hold = &shard->hold;
    if (hold->held_count >= CAIRN_WRITE_QUEUE_MAX ||
        (hold->held_count > 0 && hold->held_bytes + write->bytes > CAIRN_WRITE_QUEUE_BYTES_MAX))
        return cairn_fail(&write->error, CAIRN_EOVERLOADED,
                          "shard s%u has %u writes of %llu bytes waiting for a cut over; retry "
                          "later",
                          shard->id, hold->held_count, (unsigned long long)hold->held_bytes);
    if (hold->held == NULL)
        hold->held_tail = &hold->held;
    write->next = NULL;
    *hold->held_tail = write;
    hold->held_tail = &write->next;
    hold->held_count++;
    hold->held_bytes += write->bytes;
    atomic_store(&shard->held_writes, hold->held_count);
    return 0;
}

uint64_t shard_hold_until_us(const struct cairn_shard *shard)
{
    return shard->hold.active ? shard->hold.until_us : 0;
}

int cairn_shard_freeze(struct cairn_shard *shard, const struct cairn_shard_move *move,
                       uint32_t hold_ms, uint64_t *fence, uint64_t *end_offset,
                       struct cairn_error *err)
{
    struct shard_freeze freeze = {.move = *move,
                                  .hold_ms = hold_ms < CAIRN_FREEZE_MS ? hold_ms : CAIRN_FREEZE_MS};
    if (move->source != shard->id)
        return cairn_fail(err, CAIRN_EPARAM, "shard s%u is not the source of the move", shard->id);
    pthread_cond_init(&freeze.done, NULL);
    pthread_mutex_lock(&shard->queue_lock);
    if (shard->stopping || shard->control.freeze != NULL) {
        cairn_fail(&freeze.error, shard->stopping ? CAIRN_ESHUTDOWN : CAIRN_EBUSY,
                   "shard s%u cannot hold writes now", shard->id);
    } else {
        shard->control.freeze = &freeze;
        pthread_cond_signal(&shard->queue_filled);
        while (!freeze.settled)
            pthread_cond_wait(&freeze.done, &shard->queue_lock);
    }
    pthread_mutex_unlock(&shard->queue_lock);
    pthread_cond_destroy(&freeze.done);
    *fence = freeze.fence;
    *end_offset = freeze.end_offset;
    if (freeze.error.code != 0 && err != NULL)
        *err = freeze.error;
    return freeze.error.code;
}

void cairn_shard_thaw(struct cairn_shard *shard, uint64_t fence)
{
    pthread_mutex_lock(&shard->queue_lock);
    shard->control.thaw = fence;
    pthread_cond_signal(&shard->queue_filled);
    pthread_mutex_unlock(&shard->queue_lock);
}
