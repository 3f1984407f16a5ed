#include "api/reading.h"

#include "api/handlers.h"

bool cairn_reading_keeps(const struct cairn_exchange *exchange)
{
    return !exchange->may_block && cairn_router_may_block(exchange->router);
}

void cairn_reading_keep_keys(struct cairn_exchange *exchange, struct cairn_str *keys,
                             uint32_t count)
{
    for (uint32_t i = 0; cairn_reading_keeps(exchange) && i < count; i++)
        keys[i] = cairn_arena_dup(&exchange->arena, keys[i]);
}

static void finish(struct cairn_reading *reading)
{
    struct cairn_exchange *exchange = reading->exchange;
    struct cairn_error err = {0};
    int code = reading->answer(exchange, &err);
    for (uint32_t i = 0; i < reading->count; i++)
        cairn_router_fetch_end(&reading->fetches[i]);
    reading->end(exchange);
    if (code != 0)
        cairn_handler_fail(exchange, &err);
    else
        cairn_exchange_reply(exchange);
}

static void go_on(struct cairn_exchange *exchange);

static void fetched(struct cairn_router_fetch *fetch)
{
    struct cairn_reading *reading = fetch->context;
    if (atomic_fetch_sub(&reading->pending, 1) == 1)
        cairn_exchange_resume(reading->exchange, go_on);
}

/* Fetches that are complete say so again at once. */
static void step(struct cairn_reading *reading)
{
    uint32_t waited_for = reading->count + 1;
    atomic_store(&reading->pending, waited_for);
    bool waits = false;
    for (uint32_t i = 0; i < reading->count; i++) {
        if (cairn_router_fetch(reading->exchange->router, &reading->fetches[i]))
            atomic_fetch_sub(&reading->pending, 1);
        else
            waits = true;
    }
    bool all = atomic_fetch_sub(&reading->pending, 1) == 1;
    if (!waits)
        finish(reading);
    else if (all)
        cairn_exchange_resume(reading->exchange, go_on);
}

static void go_on(struct cairn_exchange *exchange)
{
    step(exchange->handler_state);
}

void cairn_reading_run(struct cairn_reading *reading)
{
    struct cairn_exchange *exchange = reading->exchange;
    exchange->handler_state = reading;
    for (uint32_t i = 0; i < reading->count; i++) {
        struct cairn_router_fetch *fetch = &reading->fetches[i];
        fetch->arena = &exchange->arena;
        fetch->deadline_us = exchange->deadline_us;
        fetch->done = fetched;
        fetch->context = reading;
    }
    if (!exchange->may_block) {
        step(reading);
        return;
    }
    /* Where nothing is elsewhere the store is read when rows are visited, on workers too. */
    for (uint32_t i = 0; i < reading->count; i++)
        if (exchange->waits || cairn_router_may_block(exchange->router))
            cairn_router_fetch_wait(exchange->router, &reading->fetches[i]);
    finish(reading);
}
