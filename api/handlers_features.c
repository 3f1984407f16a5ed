/* POST /v1/features:get: features of several collections in one round trip. */
#include "api/fields.h"
#include "api/handlers.h"
#include "api/reading.h"
#include "api/row_json.h"

struct lookup {
    const struct cairn_schema *schema; /* a reference */
    struct cairn_str *keys;
    uint32_t keys_count;
    struct cairn_row_writing writing;
};

struct features {
    struct cairn_reading reading;
    struct lookup *lookups;
    struct cairn_router_fetch *fetches; /* of each */
    uint32_t count;
};

static int read_lookup(struct cairn_exchange *exchange, struct cairn_json json,
                       enum cairn_meta meta, struct lookup *lookup, struct cairn_error *err)
{
    enum { COLLECTION, KEYS, FEATURES, COUNT };
    static const struct cairn_str names[COUNT] = {CAIRN_FIELD("collection"), CAIRN_FIELD("keys"),
                                                  CAIRN_FIELD("features")};
    struct cairn_json values[COUNT];
    struct cairn_str collection;
    struct cairn_projection projection;
    if (cairn_fields_read(json, names, COUNT, values, err) != 0)
        return err->code;
    if (!cairn_field_given(values[COLLECTION]))
        return cairn_fail(err, CAIRN_EFIELD, "collection: required");
    if (!cairn_field_given(values[KEYS]))
        return cairn_fail(err, CAIRN_EFIELD, "keys: required");
    if (cairn_str_read(values[COLLECTION], "collection", &collection, err) != 0 ||
        cairn_keys_read(values[KEYS], "keys", &exchange->arena, &lookup->keys, &lookup->keys_count,
                        err) != 0)
        return err->code;
    cairn_reading_keep_keys(exchange, lookup->keys, lookup->keys_count);
    if (cairn_exchange_check_collection(exchange, collection, err) != 0)
        return err->code;
    lookup->schema = cairn_handler_schema_named(exchange->router, collection, err);
    if (lookup->schema == NULL)
        return err->code;
    struct cairn_projection_json asked = {.features = values[FEATURES]};
    if (cairn_projection_read(&asked, lookup->schema, &exchange->arena, &projection, err) != 0)
        return err->code;
    if (projection.features == NULL)
        projection.all_features = true;
    projection.meta = meta;
    if (cairn_reading_keeps(exchange))
        cairn_projection_keep(&projection, &exchange->arena);
    return cairn_row_plan_init(&lookup->writing.plan, exchange->router, lookup->schema, &projection,
                               &exchange->arena, err);
}

static int keys_total_check(const struct lookup *lookups, uint32_t count, struct cairn_error *err)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++)
        total += lookups[i].keys_count;
    if (total > CAIRN_KEYS_MAX)
        return cairn_fail(err, CAIRN_EFIELD, "lookups: %llu keys in all, at most %u",
                          (unsigned long long)total, CAIRN_KEYS_MAX);
    return 0;
}

/* The lookups, in the arena; those that were read hold a reference of their schema, whether or not
 * this succeeds. */
static int read_lookups(struct cairn_exchange *exchange, struct lookup **lookups, uint32_t *count,
                        struct cairn_error *err)
{
    enum { LOOKUPS, META, COUNT };
    static const struct cairn_str names[COUNT] = {CAIRN_FIELD("lookups"), CAIRN_FIELD("meta")};
    struct cairn_json root, values[COUNT], element;
    struct cairn_json_iter iter;
    size_t items;
    enum cairn_meta meta;
    if (cairn_handler_no_params(exchange, err) != 0 ||
        cairn_exchange_json(exchange, &root, err) != 0 ||
        cairn_fields_read(root, names, COUNT, values, err) != 0 ||
        cairn_meta_read(values[META], &meta, err) != 0)
        return err->code;
    if (!cairn_field_given(values[LOOKUPS]) || !cairn_json_array(values[LOOKUPS], &iter, &items))
        return cairn_fail(err, cairn_field_given(values[LOOKUPS]) ? CAIRN_ETYPE : CAIRN_EFIELD,
                          "lookups: must be given, as an array");
    if (items == 0 || items > CAIRN_LOOKUPS_MAX)
        return cairn_fail(err, CAIRN_EFIELD, "lookups: %zu lookups, 1 to %u are allowed", items,
                          CAIRN_LOOKUPS_MAX);
    *lookups = cairn_arena_zalloc(&exchange->arena, items * sizeof **lookups);
    while (cairn_json_element(&iter, &element)) {
        uint32_t at = (*count)++;
        if (read_lookup(exchange, element, meta, &(*lookups)[at], err) != 0)
            return cairn_error_path(err, "lookups[%u]", at);
    }
    return keys_total_check(*lookups, *count, err);
}

static int write_lookup(struct cairn_exchange *exchange, struct features *features, uint32_t at,
                        struct cairn_json_writer *writer, struct cairn_error *err)
{
    struct cairn_row_writing *writing = &features->lookups[at].writing;
    writing->writer = writer;
    writing->err = err;
    cairn_json_begin_array(writer);
    int code = cairn_router_get(exchange->router, &features->fetches[at], cairn_row_visit_found,
                                writing, &exchange->contract, err);
    cairn_json_end_array(writer);
    return code != 0 ? code : writing->code;
}

static int answer_features(struct cairn_exchange *exchange, struct cairn_error *err)
{
    struct features *features = exchange->handler_state;
    struct cairn_json_writer writer;
    int code = 0;
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "results");
    cairn_json_begin_array(&writer);
    for (uint32_t i = 0; code == 0 && i < features->count; i++)
        code = write_lookup(exchange, features, i, &writer, err);
    if (code != 0)
        return code;
    cairn_json_end_array(&writer);
    cairn_exchange_end_object(exchange, &writer);
    return 0;
}

static void release_schemas(const struct features *features)
{
    for (uint32_t i = 0; i < features->count; i++)
        cairn_schema_unref(features->lookups[i].schema);
}

static void features_end(struct cairn_exchange *exchange)
{
    release_schemas(exchange->handler_state);
}

static void features_run(struct cairn_exchange *exchange)
{
    struct cairn_error err = {0};
    struct features *features = cairn_arena_zalloc(&exchange->arena, sizeof *features);
    if (read_lookups(exchange, &features->lookups, &features->count, &err) != 0) {
        release_schemas(features);
        cairn_handler_fail(exchange, &err);
        return;
    }
    features->fetches =
        cairn_arena_zalloc(&exchange->arena, features->count * sizeof *features->fetches);
    for (uint32_t i = 0; i < features->count; i++)
        features->fetches[i] =
            (struct cairn_router_fetch){.schema = features->lookups[i].schema,
                                        .keys = features->lookups[i].keys,
                                        .count = features->lookups[i].keys_count};
    features->reading = (struct cairn_reading){.exchange = exchange,
                                               .fetches = features->fetches,
                                               .count = features->count,
                                               .answer = answer_features,
                                               .end = features_end};
    exchange->has_contract = true;
    cairn_reading_run(&features->reading);
}

void cairn_handle_features_get(struct cairn_exchange *exchange)
{
    cairn_handler_run_reads(exchange, features_run);
}
