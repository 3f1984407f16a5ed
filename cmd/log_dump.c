#include "cmd/log_dump.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "api/fields.h"
#include "base/io.h"
#include "base/json.h"
#include "base/record.h"
#include "base/schema.h"
#include "base/shard_wire.h"
#include "base/time.h"
#include "cmd/terminal.h"
#include "featurestore/import_record.h"
#include "featurestore/log.h"

/* A file system that can only be looked at. Opening a log cuts its torn tail and syncs what follows
 * the durable mark; here these calls succeed without touching anything, so that a dump shows what
 * an open would find and leaves the evidence as it is. Creating a file is refused and noted: an
 * open does that where there is no log. */

static int look_open(void *context, const char *path, enum cairn_open_mode mode)
{
    const struct cairn_io *posix = cairn_io_posix();
    bool *refused_create = context;
    if (mode != CAIRN_OPEN_CREATE)
        return posix->open(posix->context, path, CAIRN_OPEN_READ);
    *refused_create = true;
    return -EROFS;
}

static ssize_t look_pwrite(void *context, int fd, const void *bytes, size_t len, uint64_t at)
{
    (void)context, (void)fd, (void)bytes, (void)at;
    return (ssize_t)len;
}

static ssize_t look_pwritev(void *context, int fd, const struct iovec *parts, int count,
                            uint64_t at)
{
    size_t len = 0;
    (void)context, (void)fd, (void)at;
    for (int i = 0; i < count; i++)
        len += parts[i].iov_len;
    return (ssize_t)len;
}

static int look_fdatasync(void *context, int fd)
{
    (void)context, (void)fd;
    return 0;
}

static int look_reserve(void *context, int fd, uint64_t at, uint64_t len)
{
    (void)context, (void)fd, (void)at, (void)len;
    return 0;
}

static int look_truncate(void *context, int fd, uint64_t size)
{
    (void)context, (void)fd, (void)size;
    return 0;
}

static int look_path(void *context, const char *path)
{
    (void)context, (void)path;
    return 0;
}

static int look_rename(void *context, const char *from, const char *to)
{
    (void)context, (void)from, (void)to;
    return 0;
}

static struct cairn_io looking_io(bool *refused_create)
{
    struct cairn_io io = *cairn_io_posix();
    io.context = refused_create; /* the real functions have none */
    io.open = look_open;
    io.pwrite = look_pwrite;
    io.pwritev = look_pwritev;
    io.fdatasync = look_fdatasync;
    io.reserve = look_reserve;
    io.truncate = look_truncate;
    io.mkdir = look_path;
    io.unlink = look_path;
    io.sync_dir = look_path;
    io.rename = look_rename;
    return io;
}

struct dump {
    const struct cairn_log_dump_options *options;
    struct cairn_arena arena;
    struct cairn_buf line;
};

static const char *op_name(enum cairn_entity_op op)
{
    static const char *const names[] = {"patch", "replace", "delete"};
    return (unsigned)op < 3 ? names[op] : "unknown";
}

static void write_entity(const struct cairn_entity *entity, struct cairn_json_writer *writer)
{
    cairn_json_key(writer, "op");
    cairn_json_write_str(writer, cairn_str_from(op_name(entity->op)));
    cairn_json_key(writer, "key");
    cairn_json_write_str(writer, entity->key);
    if (entity->route.len > 0) {
        cairn_json_key(writer, "route");
        cairn_json_write_str(writer, entity->route);
    }
    if (entity->event_time_us != CAIRN_TIME_NONE) {
        cairn_json_key(writer, "event_time");
        cairn_json_write_time(writer, entity->event_time_us);
    }
    cairn_json_key(writer, "features");
    cairn_json_begin_object(writer);
    for (uint32_t i = 0; i < entity->features_count; i++) {
        cairn_json_write_key(writer, entity->features[i].name);
        cairn_value_write(&entity->features[i].value, writer);
    }
    cairn_json_end_object(writer);
    cairn_json_key(writer, "vectors");
    cairn_json_begin_object(writer);
    for (uint32_t i = 0; i < entity->vectors_count; i++) {
        const struct cairn_vector *vector = &entity->vectors[i];
        cairn_json_write_key(writer, vector->name);
        if (vector->f32 == NULL) {
            cairn_json_write_null(writer);
            continue;
        }
        cairn_json_begin_object(writer);
        cairn_json_key(writer, "f32");
        cairn_json_write_base64(writer, vector->f32, (size_t)vector->dim * sizeof(float));
        cairn_json_end_object(writer);
    }
    cairn_json_end_object(writer);
}

static void write_header(const struct cairn_log_record *record, struct cairn_json_writer *writer)
{
    cairn_json_key(writer, "shard");
    cairn_json_write_u64(writer, record->shard);
    cairn_json_key(writer, "offset");
    cairn_json_write_u64(writer, record->offset);
    cairn_json_key(writer, "ingest_time");
    cairn_json_write_time(writer, record->ingest_time_us);
    cairn_json_key(writer, "collection");
    cairn_json_write_u64(writer, record->collection);
    cairn_json_key(writer, "batch_remaining");
    cairn_json_write_u64(writer, record->batch_remaining);
}

/* A payload, opened. */
struct payload {
    struct cairn_entity entity;      /* of an entity and of an import */
    struct cairn_imported imported;  /* of an import */
    struct cairn_import_begin begin; /* of an import's beginning */
    struct cairn_str *keys;          /* of a forget */
    uint32_t keys_count;
};

static const char *kind_name(uint8_t kind)
{
    static const char *const names[] = {"unknown", "entity",       "schema", "map",
                                        "import",  "import_begin", "forget"};
    return names[kind < sizeof(names) / sizeof(*names) ? kind : 0];
}

static int open_payload(struct dump *dump, const struct cairn_log_record *record,
                        struct payload *out, struct cairn_error *err)
{
    struct cairn_str bytes = record->payload;
    int code = 0;
    *out = (struct payload){0};
    switch (record->kind) {
    case CAIRN_RECORD_IMPORT:
        code = cairn_imported_decode(bytes, &out->imported, err);
        if (code != 0)
            return code;
        return cairn_entity_decode(out->imported.entity, &dump->arena, &out->entity, err);
    case CAIRN_RECORD_ENTITY:
        return cairn_entity_decode(bytes, &dump->arena, &out->entity, err);
    case CAIRN_RECORD_IMPORT_BEGIN:
        return cairn_import_begin_decode(bytes, &out->begin, err);
    case CAIRN_RECORD_FORGET:
        return cairn_forget_decode(bytes, &dump->arena, &out->keys, &out->keys_count, err);
    default:
        return 0;
    }
}

/* Where an imported event was first written, and where it was read. */
static void write_imported(const struct cairn_imported *imported, struct cairn_json_writer *writer)
{
    cairn_json_key(writer, "origin_shard");
    cairn_json_write_u64(writer, imported->origin_shard);
    cairn_json_key(writer, "origin_offset");
    cairn_json_write_u64(writer, imported->origin_offset);
    cairn_json_key(writer, "origin_ingest_time");
    cairn_json_write_time(writer, imported->ingest_time_us);
    cairn_json_key(writer, "source");
    cairn_json_write_u64(writer, imported->source);
    cairn_json_key(writer, "source_offset");
    cairn_json_write_u64(writer, imported->source_offset);
}

static void write_keys(const struct payload *payload, struct cairn_json_writer *writer)
{
    cairn_json_key(writer, "keys");
    cairn_json_begin_array(writer);
    for (uint32_t i = 0; i < payload->keys_count; i++)
        cairn_json_write_str(writer, payload->keys[i]);
    cairn_json_end_array(writer);
}

/* What a payload holds as JSON members. */
static void write_opened(const struct cairn_log_record *record, const struct payload *payload,
                         struct cairn_json_writer *writer)
{
    switch (record->kind) {
    case CAIRN_RECORD_SCHEMA:
        cairn_json_key(writer, "schema");
        cairn_json_write_raw(writer, record->payload);
        break;
    case CAIRN_RECORD_MAP:
        cairn_json_key(writer, "map");
        cairn_json_write_raw(writer, record->payload);
        break;
    case CAIRN_RECORD_IMPORT_BEGIN:
        cairn_json_key(writer, "source");
        cairn_json_write_u64(writer, payload->begin.source);
        cairn_json_key(writer, "map");
        cairn_json_write_raw(writer, payload->begin.map_text);
        break;
    case CAIRN_RECORD_FORGET:
        write_keys(payload, writer);
        break;
    case CAIRN_RECORD_IMPORT:
        write_imported(&payload->imported, writer);
        write_entity(&payload->entity, writer);
        break;
    case CAIRN_RECORD_ENTITY:
        write_entity(&payload->entity, writer);
        break;
    default:
        break;
    }
}

/* Kind and payload as JSON members, or why the payload cannot be read. A kind that has no name is
 * a number. */
static void write_payload(struct dump *dump, const struct cairn_log_record *record,
                          struct cairn_json_writer *writer)
{
    struct payload payload;
    struct cairn_error err;
    cairn_json_key(writer, "kind");
    if (record->kind < CAIRN_RECORD_ENTITY || record->kind > CAIRN_RECORD_FORGET)
        cairn_json_write_u64(writer, record->kind);
    else
        cairn_json_write_str(writer, cairn_str_from(kind_name(record->kind)));
    if (open_payload(dump, record, &payload, &err) == 0) {
        write_opened(record, &payload, writer);
    } else {
        cairn_json_key(writer, "error");
        cairn_json_write_str(writer, cairn_str_from(err.message));
    }
}

static void print_json(struct dump *dump, const struct cairn_log_record *record)
{
    struct cairn_json_writer writer;
    cairn_json_writer_init(&writer, &dump->line);
    cairn_json_begin_object(&writer);
    write_header(record, &writer);
    write_payload(dump, record, &writer);
    cairn_json_end_object(&writer);
    cairn_buf_append(&dump->line, "\n", 1);
    fwrite(dump->line.data, 1, dump->line.len, stdout);
}

/* patch  u1  {"country":"DE"}  default[384] */
static void print_entity(struct cairn_buf *line, const struct cairn_entity *entity)
{
    struct cairn_json_writer writer;
    cairn_buf_printf(line, "%s  %.*s  ", op_name(entity->op), CAIRN_STR_ARG(entity->key));
    cairn_json_writer_init(&writer, line);
    cairn_json_begin_object(&writer);
    for (uint32_t i = 0; i < entity->features_count; i++) {
        cairn_json_write_key(&writer, entity->features[i].name);
        cairn_value_write(&entity->features[i].value, &writer);
    }
    cairn_json_end_object(&writer);
    for (uint32_t i = 0; i < entity->vectors_count; i++)
        cairn_buf_printf(line, "  %.*s[%u]", CAIRN_STR_ARG(entity->vectors[i].name),
                         entity->vectors[i].f32 != NULL ? entity->vectors[i].dim : 0);
}

static void print_opened(struct cairn_buf *line, const struct cairn_log_record *record,
                         const struct payload *payload)
{
    switch (record->kind) {
    case CAIRN_RECORD_SCHEMA:
    case CAIRN_RECORD_MAP:
        cairn_buf_printf(line, "%s  %.*s", kind_name(record->kind), CAIRN_STR_ARG(record->payload));
        break;
    case CAIRN_RECORD_IMPORT_BEGIN:
        cairn_buf_printf(line, "import_begin  from s%u  %.*s", payload->begin.source,
                         CAIRN_STR_ARG(payload->begin.map_text));
        break;
    case CAIRN_RECORD_FORGET:
        cairn_buf_printf(line, "forget  %u keys", payload->keys_count);
        for (uint32_t i = 0; i < payload->keys_count; i++)
            cairn_buf_printf(line, "  %.*s", CAIRN_STR_ARG(payload->keys[i]));
        break;
    case CAIRN_RECORD_IMPORT:
        cairn_buf_printf(line, "import of s%u:%" PRIu64 "  ", payload->imported.origin_shard,
                         payload->imported.origin_offset);
        print_entity(line, &payload->entity);
        break;
    case CAIRN_RECORD_ENTITY:
        print_entity(line, &payload->entity);
        break;
    default:
        cairn_buf_printf(line, "kind %u  %u bytes", record->kind, record->payload.len);
        break;
    }
}

/* s0:1042  2026-11-23T10:00:00.000000Z  c1  and what the record says */
static void print_line(struct dump *dump, const struct cairn_log_record *record)
{
    struct cairn_buf *line = &dump->line;
    struct payload payload;
    struct cairn_error err;
    char time[CAIRN_TIME_TEXT_BYTES];
    struct cairn_buf clean = {0};
    cairn_time_format(record->ingest_time_us, time);
    cairn_buf_printf(line, "s%u:%" PRIu64 "  %s  c%u  ", record->shard, record->offset, time,
                     record->collection);
    if (open_payload(dump, record, &payload, &err) == 0)
        print_opened(line, record, &payload);
    else
        cairn_buf_printf(line, "unreadable: %s", err.message);
    cairn_text_clean(&clean, (struct cairn_str){line->data, (uint32_t)line->len});
    printf("%.*s\n", (int)clean.len, clean.data);
    cairn_buf_release(&clean);
}

/* Print what the cursor gives until its end, the limit, or a closed output. */
static int print_records(struct dump *dump, struct cairn_log_cursor *cursor, uint64_t *printed,
                         struct cairn_error *err)
{
    const struct cairn_log_dump_options *options = dump->options;
    struct cairn_log_record record;
    while (options->limit == 0 || *printed < options->limit) {
        int code = cairn_log_cursor_next(cursor, &record, err);
        if (code == CAIRN_EEND)
            break;
        if (code != 0)
            return code;
        if (options->json)
            print_json(dump, &record);
        else
            print_line(dump, &record);
        cairn_buf_clear(&dump->line);
        cairn_arena_reset(&dump->arena);
        ++*printed;
        if (ferror(stdout))
            return cairn_fail(err, CAIRN_EIO, "cannot write the output");
    }
    return 0;
}

int cairn_log_dump(const struct cairn_log_dump_options *options, uint64_t *printed,
                   struct cairn_error *err)
{
    bool refused_create = false;
    const struct cairn_io io = looking_io(&refused_create);
    const struct cairn_log_options open_options = {
        .dir = options->dir, .shard = options->shard, .io = &io};
    const struct cairn_log_range range = {.from_offset = options->from_offset,
                                          .collection = options->collection};
    struct dump dump = {.options = options};
    struct cairn_log *log = NULL;
    struct cairn_log_cursor *cursor = NULL;
    struct cairn_log_recovery recovery;
    /* All below the first offset wanted is trusted: it is not going to be read. */
    uint64_t trusted = options->from_offset > 0 ? options->from_offset - 1 : 0;
    int code = cairn_log_open(&open_options, trusted, &log, &recovery, err);
    if (code != 0 && refused_create)
        return cairn_fail(err, CAIRN_ENOTFOUND, "there is no log in %s", options->dir);
    if (code == 0 && recovery.torn_bytes > 0)
        fprintf(stderr, "%s: a torn tail of %" PRIu64 " bytes in %s is not shown\n", options->dir,
                recovery.torn_bytes, recovery.torn_file);
    if (code == 0)
        code = cairn_log_cursor_open(log, &range, &cursor, err);
    if (code == 0)
        code = print_records(&dump, cursor, printed, err);
    cairn_log_cursor_close(&cursor);
    cairn_log_close(&log);
    cairn_buf_release(&dump.line);
    cairn_arena_release(&dump.arena);
    return code;
}
