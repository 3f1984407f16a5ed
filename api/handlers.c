#include "api/handlers.h"

#include "api/fields.h"

/* A body of this size names a few hundred keys: about half a millisecond of lookups. */
#define LOOP_READ_BYTES 4096u

const struct cairn_schema *cairn_handler_schema_named(struct cairn_router *router,
                                                      struct cairn_str name,
                                                      struct cairn_error *err)
{
    const struct cairn_schema *schema = cairn_router_schema(router, name);
    if (schema == NULL) {
        struct cairn_str shown = cairn_shown(name);
        cairn_fail(err, CAIRN_ENOCOLLECTION, "there is no collection \"%.*s\"",
                   CAIRN_STR_ARG(shown));
    }
    return schema;
}

const struct cairn_schema *cairn_handler_schema(struct cairn_exchange *exchange,
                                                struct cairn_error *err)
{
    return cairn_handler_schema_named(exchange->router, exchange->segments[2], err);
}

int cairn_handler_no_params(struct cairn_exchange *exchange, struct cairn_error *err)
{
    static const char *const none[] = {NULL};
    return exchange->query.len == 0 ? 0 : cairn_exchange_check_params(exchange, none, err);
}

int cairn_handler_u32_param(struct cairn_exchange *exchange, const char *name, uint32_t min,
                            uint32_t max, uint32_t *out, struct cairn_error *err)
{
    struct cairn_str text;
    if (!cairn_exchange_param(exchange, name, &text))
        return 0;
    uint64_t value = 0;
    bool digits = text.len > 0 && text.len <= 10;
    for (uint32_t i = 0; digits && i < text.len; i++) {
        digits = text.ptr[i] >= '0' && text.ptr[i] <= '9';
        value = value * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    if (!digits || value < min || value > max)
        return cairn_fail(err, CAIRN_EPARAM, "%s: must be an integer between %u and %u", name, min,
                          max);
    *out = (uint32_t)value;
    return 0;
}

bool cairn_handler_wants_flatbuffers(const struct cairn_exchange *exchange)
{
    return exchange->accepts_flatbuffers || exchange->media == CAIRN_MEDIA_FLATBUFFERS;
}

void cairn_handler_set_flatbuffers(struct cairn_exchange *exchange, struct cairn_str bytes)
{
    cairn_buf_append(&exchange->out, bytes.ptr, bytes.len);
    exchange->content_type = "application/x-flatbuffers";
}

void cairn_handler_run_reads(struct cairn_exchange *exchange,
                             void (*run)(struct cairn_exchange *exchange))
{
    if (exchange->body.len > LOOP_READ_BYTES)
        cairn_exchange_to_worker(exchange, run);
    else
        run(exchange);
}

void cairn_member_u64(const char *name, uint64_t value, struct cairn_json_writer *writer)
{
    cairn_json_key(writer, name);
    cairn_json_write_u64(writer, value);
}

void cairn_handler_fail(struct cairn_exchange *exchange, const struct cairn_error *err)
{
    cairn_buf_clear(&exchange->out);
    cairn_exchange_fail(exchange, err);
}
