/* Walking a collection in key order, and counting. These scan, so they run on a worker.
 *
 * A cursor is the last key of a page. Its text is base64url of
 *
 *   byte 0       version, 1
 *   bytes 1..4   CRC32C over collection name and key, little-endian: a cursor that was cut, altered
 *                or belongs to another collection is refused, not silently misread
 *   bytes 5..    the key */
#include "api/fields.h"
#include "api/handlers.h"
#include "api/row_json.h"
#include "base/filter.h"
#include "base/hash.h"

#define CURSOR_HEAD_BYTES 5u
#define LIMIT_DEFAULT     100u
#define PAGE_BYTES        (32u << 20) /* a page that has grown to this ends before its limit */

struct scroll {
    struct cairn_router_scan scan;
    struct cairn_projection projection;
};

static uint32_t cursor_crc(struct cairn_str collection, struct cairn_str key)
{
    return cairn_crc32c(cairn_crc32c(0, collection.ptr, collection.len), key.ptr, key.len);
}

static int cursor_read(struct cairn_str text, struct cairn_str collection,
                       struct cairn_arena *arena, struct cairn_str *key, struct cairn_error *err)
{
    uint32_t padded = (text.len + 3) / 4 * 4;
    if (padded / 4 * 3 > CURSOR_HEAD_BYTES + CAIRN_KEY_BYTES_MAX + 2)
        return cairn_fail(err, CAIRN_ECURSOR, "cursor: this is no cursor of this collection");
    char *standard = cairn_arena_alloc(arena, padded + 1);
    for (uint32_t i = 0; i < padded; i++) {
        char c = i < text.len ? text.ptr[i] : '=';
        bool foreign = c == '+' || c == '/' || (c == '=' && i < text.len);
        standard[i] = foreign ? '!' : c == '-' ? '+' : c == '_' ? '/' : c;
    }
    uint8_t *bytes = cairn_arena_alloc(arena, padded / 4 * 3 + 1);
    int64_t len = cairn_base64_decode((struct cairn_str){standard, padded}, bytes);
    uint32_t crc;
    if (len <= (int64_t)CURSOR_HEAD_BYTES || bytes[0] != 1)
        return cairn_fail(err, CAIRN_ECURSOR, "cursor: this is no cursor of this collection");
    *key = (struct cairn_str){(const char *)bytes + CURSOR_HEAD_BYTES,
                              (uint32_t)len - CURSOR_HEAD_BYTES};
    memcpy(&crc, bytes + 1, sizeof crc);
    if (crc != cursor_crc(collection, *key) || key->len > CAIRN_KEY_BYTES_MAX)
        return cairn_fail(err, CAIRN_ECURSOR, "cursor: this is no cursor of this collection");
    return 0;
}

static void cursor_write(struct cairn_str collection, struct cairn_str key,
                         struct cairn_json_writer *writer)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t bytes[CURSOR_HEAD_BYTES + CAIRN_KEY_BYTES_MAX + 2] = {1};
    char text[sizeof bytes / 3 * 4 + 4];
    uint32_t crc = cursor_crc(collection, key), len = CURSOR_HEAD_BYTES + key.len, at = 0;
    memcpy(bytes + 1, &crc, sizeof crc);
    memcpy(bytes + CURSOR_HEAD_BYTES, key.ptr, key.len);
    for (uint32_t i = 0; i < len; i += 3) {
        uint32_t word = (uint32_t)bytes[i] << 16 | (uint32_t)bytes[i + 1] << 8 | bytes[i + 2];
        for (unsigned d = 0; d < 4; d++)
            text[at++] = alphabet[word >> (18 - 6 * d) & 63];
    }
    uint32_t padding = (3 - len % 3) % 3;
    cairn_json_write_str(writer, (struct cairn_str){text, at - padding});
}

struct page_writing {
    struct cairn_row_writing rows;
    char last_key[CAIRN_KEY_BYTES_MAX];
    uint32_t last_key_len;
    bool cut; /* ended before its limit */
};

static void visit_page(void *context, uint32_t at, const struct cairn_row_ref *row)
{
    struct page_writing *page = context;
    struct cairn_row_writing *writing = &page->rows;
    (void)at;
    if (writing->writer->out->len >= PAGE_BYTES)
        page->cut = true;
    if (writing->code != 0 || page->cut)
        return;
    cairn_json_begin_object(writing->writer);
    cairn_json_key(writing->writer, "key");
    cairn_json_write_str(writing->writer, row->key);
    writing->code = cairn_row_write(&writing->plan, row, writing->writer, writing->err);
    cairn_json_end_object(writing->writer);
    page->last_key_len = row->key.len;
    memcpy(page->last_key, row->key.ptr, row->key.len);
}

static int write_page(struct cairn_exchange *exchange, const struct cairn_schema *schema,
                      struct scroll *scroll, struct cairn_error *err)
{
    struct cairn_json_writer writer;
    struct page_writing page = {.rows = {.writer = &writer, .err = err}};
    bool more;
    if (cairn_row_plan_init(&page.rows.plan, exchange->router, schema, &scroll->projection,
                            &exchange->arena, err) != 0)
        return err->code;
    scroll->scan.vectors = scroll->projection.vectors;
    scroll->scan.vectors_count = scroll->projection.vectors_count;
    scroll->scan.deadline_us = exchange->deadline_us;
    exchange->has_contract = true;
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "entities");
    cairn_json_begin_array(&writer);
    int code = cairn_router_scroll(exchange->router, schema, &scroll->scan, visit_page, &page,
                                   &more, &exchange->contract, err);
    if (code != 0 || page.rows.code != 0)
        return err->code;
    cairn_json_end_array(&writer);
    cairn_json_key(&writer, "cursor");
    if (more || page.cut)
        cursor_write(schema->name, (struct cairn_str){page.last_key, page.last_key_len}, &writer);
    else
        cairn_json_write_null(&writer);
    cairn_exchange_end_object(exchange, &writer);
    return 0;
}

static int read_filter(struct cairn_exchange *exchange, struct cairn_json json,
                       const struct cairn_schema *schema, struct cairn_router_scan *out,
                       struct cairn_error *err)
{
    int code = cairn_filter_parse(json, schema, &exchange->arena, &out->filter, err);
    if (code == 0 && cairn_router_may_block(exchange->router))
        out->filter_json = cairn_json_text(json, &exchange->arena);
    return code;
}

static int read_list(struct cairn_exchange *exchange, const struct cairn_schema *schema,
                     struct scroll *out, struct cairn_error *err)
{
    static const char *const known[] = {"limit", "cursor", NULL};
    struct cairn_str cursor;
    if (cairn_exchange_check_params(exchange, known, err) != 0 ||
        cairn_handler_u32_param(exchange, "limit", 1, CAIRN_SCROLL_LIMIT_MAX, &out->scan.limit,
                                err) != 0)
        return err->code;
    out->projection.all_features = true;
    if (!cairn_exchange_param(exchange, "cursor", &cursor) || cursor.len == 0)
        return 0;
    return cursor_read(cursor, schema->name, &exchange->arena, &out->scan.after_key, err);
}

static int read_scroll(struct cairn_exchange *exchange, const struct cairn_schema *schema,
                       struct scroll *out, struct cairn_error *err)
{
    enum { FILTER, FEATURES, VECTORS, META, LIMIT, CURSOR, COUNT };
    static const struct cairn_str names[COUNT] = {CAIRN_FIELD("filter"),  CAIRN_FIELD("features"),
                                                  CAIRN_FIELD("vectors"), CAIRN_FIELD("meta"),
                                                  CAIRN_FIELD("limit"),   CAIRN_FIELD("cursor")};
    struct cairn_json root, values[COUNT];
    struct cairn_str cursor;
    if (cairn_handler_no_params(exchange, err) != 0 ||
        cairn_exchange_json(exchange, &root, err) != 0 ||
        cairn_fields_read(root, names, COUNT, values, err) != 0)
        return err->code;
    struct cairn_projection_json json = {values[FEATURES], values[VECTORS], values[META]};
    if (cairn_projection_read(&json, schema, &exchange->arena, &out->projection, err) != 0)
        return err->code;
    if (out->projection.features == NULL)
        out->projection.all_features = true;
    if (cairn_field_given(values[FILTER]) &&
        read_filter(exchange, values[FILTER], schema, &out->scan, err) != 0)
        return err->code;
    if (cairn_field_given(values[LIMIT]) &&
        cairn_u32_read(values[LIMIT], "limit", 1, CAIRN_SCROLL_LIMIT_MAX, &out->scan.limit, err) !=
            0)
        return err->code;
    if (!cairn_field_given(values[CURSOR]))
        return 0;
    if (cairn_str_read(values[CURSOR], "cursor", &cursor, err) != 0)
        return err->code;
    if (cursor.len == 0)
        return 0;
    return cursor_read(cursor, schema->name, &exchange->arena, &out->scan.after_key, err);
}

static void scroll_run(struct cairn_exchange *exchange,
                       int (*read)(struct cairn_exchange *exchange,
                                   const struct cairn_schema *schema, struct scroll *out,
                                   struct cairn_error *err))
{
    struct cairn_error err = {0};
    struct scroll scroll = {.scan = {.limit = LIMIT_DEFAULT}};
    const struct cairn_schema *schema = cairn_handler_schema(exchange, &err);
    int code = schema == NULL ? err.code : read(exchange, schema, &scroll, &err);
    if (code == 0)
        code = write_page(exchange, schema, &scroll, &err);
    cairn_schema_unref(schema);
    if (code != 0)
        cairn_handler_fail(exchange, &err);
    else
        cairn_exchange_reply(exchange);
}

void cairn_handle_entities_list(struct cairn_exchange *exchange)
{
    scroll_run(exchange, read_list);
}

void cairn_handle_entities_scroll(struct cairn_exchange *exchange)
{
    scroll_run(exchange, read_scroll);
}

/* A request without a body counts everything. */
static int read_count(struct cairn_exchange *exchange, const struct cairn_schema *schema,
                      struct cairn_router_scan *out, struct cairn_error *err)
{
    static const struct cairn_str names[] = {CAIRN_FIELD("filter")};
    struct cairn_json root, filter;
    out->deadline_us = exchange->deadline_us;
    if (cairn_handler_no_params(exchange, err) != 0)
        return err->code;
    if (exchange->body.len == 0)
        return 0;
    if (cairn_exchange_json(exchange, &root, err) != 0 ||
        cairn_fields_read(root, names, 1, &filter, err) != 0)
        return err->code;
    if (!cairn_field_given(filter))
        return 0;
    return read_filter(exchange, filter, schema, out, err);
}

void cairn_handle_entities_count(struct cairn_exchange *exchange)
{
    struct cairn_error err = {0};
    struct cairn_router_scan scan = {.limit = 0};
    uint64_t count;
    const struct cairn_schema *schema = cairn_handler_schema(exchange, &err);
    int code = schema == NULL ? err.code : read_count(exchange, schema, &scan, &err);
    exchange->has_contract = code == 0;
    if (code == 0)
        code =
            cairn_router_count(exchange->router, schema, &scan, &count, &exchange->contract, &err);
    cairn_schema_unref(schema);
    if (code != 0) {
        cairn_handler_fail(exchange, &err);
        return;
    }
    struct cairn_json_writer writer;
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "count");
    cairn_json_write_u64(&writer, count);
    cairn_exchange_end_object(exchange, &writer);
    cairn_exchange_reply(exchange);
}
