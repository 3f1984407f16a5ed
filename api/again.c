/* Requests that fail for a reason that may pass when they are handled once more, on a worker, which
 * may wait:
 *
 *   the collection, or a feature or vector of it, is not known here: it may have been made through
 *   another process a moment ago, so its shards are asked
 *   keys are changing hands between shards, which ends soon
 *
 * Only handlers that have not acted yet are run again. */
#include "api/core.h"

#define RERUNS_MAX 4u

static bool is_stale(int code)
{
    return code == CAIRN_ENOCOLLECTION || code == CAIRN_EUNKNOWN_FEATURE ||
           code == CAIRN_ENOVECTOR || code == CAIRN_EFIELD;
}

static void reset_answer(struct cairn_exchange *exchange)
{
    exchange->core->fail_code = 0;
    exchange->status = 200;
    exchange->content_type = "application/json";
    cairn_buf_clear(&exchange->out);
    exchange->has_contract = false;
    exchange->contract = (struct cairn_contract){.partial = false};
    exchange->handler_state = NULL;
}

static void run_again(struct cairn_exchange *exchange)
{
    struct cairn_exchange_core *core = exchange->core;
    if (core->wants_news)
        (void)cairn_router_schema_refresh(exchange->router, core->begin_us, exchange->deadline_us);
    core->wants_news = false;
    if (core->streams)
        cairn_exchange_resume(exchange, cairn_stream_start);
    else
        core->route->handle(exchange);
}

bool cairn_exchange_try_again(struct cairn_exchange *exchange, const struct cairn_error *err)
{
    struct cairn_exchange_core *core = exchange->core;
    struct cairn_router *router = exchange->router;
    bool stale = is_stale(err->code);
    if (router == NULL || core->route == NULL || core->stream != NULL || exchange->acted ||
        core->reruns >= RERUNS_MAX || (!stale && err->code != CAIRN_ENOTOWNER))
        return false;
    if (stale && (!cairn_router_may_block(router) || core->had_news))
        return false;
    core->reruns++;
    core->had_news = core->had_news || stale;
    core->wants_news = stale;
    exchange->waits = exchange->waits || !stale;
    reset_answer(exchange);
    cairn_exchange_to_worker(exchange, run_again);
    return true;
}
