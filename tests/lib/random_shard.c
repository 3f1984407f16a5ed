#include "tests/lib/random_shard.h"

#include "base/limits.h"
#include "tests/lib/random_entity.h"
#include "tests/lib/testing.h"

static uint64_t any(uint64_t *random)
{
    return cairn_test_random(random);
}

static uint32_t any_u32(uint64_t *random)
{
    return (uint32_t)cairn_test_random(random);
}

static uint32_t up_to(uint64_t *random, uint32_t max)
{
    return (uint32_t)cairn_test_random_below(random, (uint64_t)max + 1);
}

/* At least one byte, UTF-8. */
static struct cairn_str text(uint64_t *random, struct cairn_arena *arena, uint32_t len_max)
{
    uint32_t len = 1 + up_to(random, len_max - 1);
    char *bytes = cairn_arena_alloc(arena, len);
    for (uint32_t i = 0; i < len; i++)
        bytes[i] = (char)('!' + up_to(random, 90));
    return (struct cairn_str){bytes, len};
}

static struct cairn_str bytes(uint64_t *random, struct cairn_arena *arena, uint32_t len_max)
{
    uint32_t len = up_to(random, len_max);
    char *out = cairn_arena_alloc(arena, (size_t)len + 1);
    for (uint32_t i = 0; i < len; i++)
        out[i] = (char)any(random);
    return (struct cairn_str){out, len};
}

static struct cairn_str *texts(uint64_t *random, struct cairn_arena *arena, uint32_t count,
                               uint32_t len_max)
{
    struct cairn_str *out = cairn_arena_zalloc(arena, (count + 1) * sizeof(*out));
    for (uint32_t i = 0; i < count; i++)
        out[i] = text(random, arena, len_max);
    return out;
}

static const float *floats(uint64_t *random, struct cairn_arena *arena, uint32_t dim)
{
    float *out = cairn_arena_alloc(arena, (dim + 1) * sizeof(*out));
    for (uint32_t i = 0; i < dim; i++)
        out[i] = (float)(int32_t)any_u32(random) / 1024.0f;
    return out;
}

static void random_items(uint64_t *random, struct cairn_arena *arena, uint32_t count,
                         struct cairn_shard_request *out)
{
    struct cairn_shard_item *items = cairn_arena_zalloc(arena, (count + 1) * sizeof(*items));
    for (uint32_t i = 0; i < count; i++) {
        items[i].kind = (uint8_t)any(random);
        items[i].collection = any_u32(random);
        items[i].token = any(random);
        items[i].payload = bytes(random, arena, 100);
        if (up_to(random, 3))
            items[i].key = text(random, arena, 30);
        items[i].if_offset = up_to(random, 1) ? CAIRN_OFFSET_NONE : any(random);
    }
    out->items = items;
    out->items_count = count;
}

static void random_queries(uint64_t *random, struct cairn_arena *arena, uint32_t count,
                           struct cairn_shard_request *out)
{
    struct cairn_shard_query *queries = cairn_arena_zalloc(arena, (count + 1) * sizeof(*queries));
    for (uint32_t i = 0; i < count; i++) {
        queries[i].dim = 1 + up_to(random, 40);
        queries[i].vector = floats(random, arena, queries[i].dim);
        queries[i].k = 1 + up_to(random, 99);
        queries[i].ef = up_to(random, CAIRN_EF_MAX);
        queries[i].nprobe = up_to(random, CAIRN_NPROBE_MAX);
        queries[i].exact = up_to(random, 1);
        if (up_to(random, 1))
            queries[i].filter_json = text(random, arena, 50);
    }
    out->queries = queries;
    out->queries_count = count;
}

void random_shard_request(uint64_t *random, struct cairn_arena *arena, uint32_t count_max,
                          struct cairn_shard_request *out)
{
    *out = (struct cairn_shard_request){
        .cluster = any(random),
        .epoch = any(random),
        .same_epoch = up_to(random, 1),
        .collection = any_u32(random),
        .keys_count = up_to(random, count_max),
        .vectors_count =
            up_to(random, count_max < CAIRN_VECTORS_MAX ? count_max : CAIRN_VECTORS_MAX),
        .vector = text(random, arena, 20),
        .filter_json = text(random, arena, 100),
        .after_key = text(random, arena, 40),
        .limit = up_to(random, CAIRN_SCROLL_LIMIT_MAX),
        .move = {any(random), any_u32(random), any_u32(random)},
        .url = text(random, arena, 60),
        .from_offset = any(random),
        .until_offset = any(random),
        .bytes_max = up_to(random, CAIRN_EXPORT_BYTES_MAX),
        .fence = any(random),
        .wait_ms = up_to(random, CAIRN_TIMEOUT_MS_MAX),
        .text = text(random, arena, 300),
    };
    out->keys = texts(random, arena, out->keys_count, 30);
    out->vectors = texts(random, arena, out->vectors_count, 30);
    random_items(random, arena, up_to(random, count_max), out);
    random_queries(random, arena, up_to(random, count_max), out);
}

/* Rows of one collection: their vectors are some of the same few. */
static void random_rows(uint64_t *random, struct cairn_arena *arena, uint32_t count,
                        struct cairn_shard_answer *out)
{
    enum { NAMES = 5 };
    struct cairn_encoder *encoder = cairn_encoder_new();
    struct cairn_str *names = texts(random, arena, NAMES, 20);
    struct cairn_shard_row *rows = cairn_arena_zalloc(arena, (count + 1) * sizeof(*rows));
    for (uint32_t i = 0; i < count; i++) {
        struct cairn_row row;
        struct cairn_vector *vectors = cairn_arena_zalloc(arena, NAMES * sizeof(*vectors));
        rows[i].key = text(random, arena, 30);
        rows[i].found = up_to(random, 2) != 0;
        if (!rows[i].found)
            continue;
        random_row(random, arena, 6, &row);
        rows[i].row = cairn_arena_dup(arena, cairn_row_encode(encoder, &row));
        rows[i].vectors_count = up_to(random, NAMES);
        for (uint32_t j = 0; j < rows[i].vectors_count; j++) {
            uint32_t dim = up_to(random, 20);
            vectors[j] = (struct cairn_vector){names[(i + j) % NAMES],
                                               dim ? floats(random, arena, dim) : NULL, dim};
        }
        rows[i].vectors = vectors;
    }
    cairn_encoder_free(&encoder);
    out->rows = rows;
    out->rows_count = count;
}

static void random_results(uint64_t *random, struct cairn_arena *arena, uint32_t count,
                           struct cairn_shard_answer *out)
{
    struct cairn_write_result *results = cairn_arena_zalloc(arena, (count + 1) * sizeof(*results));
    for (uint32_t i = 0; i < count; i++)
        results[i] = (struct cairn_write_result){(enum cairn_write_status)up_to(random, 3),
                                                 any_u32(random), any(random)};
    out->results = results;
    out->results_count = count;
}

static void random_lists(uint64_t *random, struct cairn_arena *arena, uint32_t count,
                         struct cairn_shard_answer *out)
{
    struct cairn_shard_hits *lists = cairn_arena_zalloc(arena, (count + 1) * sizeof(*lists));
    for (uint32_t i = 0; i < count; i++) {
        lists[i].count = up_to(random, 5);
        struct cairn_shard_hit *hits =
            cairn_arena_zalloc(arena, (lists[i].count + 1) * sizeof(*hits));
        for (uint32_t j = 0; j < lists[i].count; j++)
            hits[j] = (struct cairn_shard_hit){text(random, arena, 30),
                                               (float)up_to(random, 1000) / 7.0f, any(random)};
        lists[i].hits = hits;
    }
    out->lists = lists;
    out->lists_count = count;
}

static void random_records(uint64_t *random, struct cairn_arena *arena, uint32_t count,
                           struct cairn_shard_answer *out)
{
    struct cairn_shard_record *records = cairn_arena_zalloc(arena, (count + 1) * sizeof(*records));
    for (uint32_t i = 0; i < count; i++)
        records[i] = (struct cairn_shard_record){
            .source_offset = any(random),
            .origin_shard = any_u32(random),
            .origin_offset = any(random),
            .ingest_time_us = (int64_t)any(random),
            .collection = any_u32(random),
            .token = any(random),
            .payload = bytes(random, arena, 100),
        };
    out->records = records;
    out->records_count = count;
}

static struct cairn_index_report random_index(uint64_t *random, struct cairn_arena *arena)
{
    return (struct cairn_index_report){
        .vector = text(random, arena, 20),
        .built_kind = (uint8_t)any(random),
        .building = up_to(random, 1),
        .live = any(random),
        .built = any(random),
        .tail = any(random),
        .tombstones = any(random),
        .generation_offset = any(random),
        .indexed_offset = any(random),
        .memory_bytes = any(random),
        .disk_bytes = any(random),
        .builds = any(random),
        .last_build_us = any(random),
    };
}

static void random_collection(uint64_t *random, struct cairn_arena *arena,
                              struct cairn_collection_report *out)
{
    uint32_t count = up_to(random, 3);
    struct cairn_index_report *indexes = cairn_arena_zalloc(arena, (count + 1) * sizeof(*indexes));
    for (uint32_t i = 0; i < count; i++)
        indexes[i] = random_index(random, arena);
    *out = (struct cairn_collection_report){
        .collection = any_u32(random),
        .entities = any(random),
        .routed = any(random),
        .newest_event_us = (int64_t)any(random),
        .newest_ingest_us = (int64_t)any(random),
        .indexes = indexes,
        .indexes_count = count,
    };
}

static void random_report(uint64_t *random, struct cairn_arena *arena, uint32_t count,
                          struct cairn_shard_report *out)
{
    struct cairn_collection_report *collections =
        cairn_arena_zalloc(arena, (count + 1) * sizeof(*collections));
    struct cairn_hot_token *hot = cairn_arena_zalloc(arena, (count + 1) * sizeof(*hot));
    for (uint32_t i = 0; i < count; i++) {
        random_collection(random, arena, &collections[i]);
        hot[i] = (struct cairn_hot_token){any(random), any_u32(random), text(random, arena, 30),
                                          any(random), any(random)};
    }
    *out = (struct cairn_shard_report){
        .read_only = up_to(random, 1),
        .reason = text(random, arena, 80),
        .entities = any(random),
        .log_end_offset = any(random),
        .log_bytes = any(random),
        .log_segments = any(random),
        .queued_writes = any(random),
        .queued_bytes = any(random),
        .held_writes = any(random),
        .row_disk_bytes = any(random),
        .row_memory_bytes = any(random),
        .index_disk_bytes = any(random),
        .index_memory_bytes = any(random),
        .reads = any(random),
        .writes = any(random),
        .foreign = any(random),
        .collections = collections,
        .collections_count = count,
        .hot = hot,
        .hot_count = count,
    };
}

void random_shard_answer(uint64_t *random, struct cairn_arena *arena, uint32_t count_max,
                         struct cairn_shard_answer *out)
{
    struct cairn_shard_report *report = cairn_arena_alloc(arena, sizeof(*report));
    *out = (struct cairn_shard_answer){
        .shard = any_u32(random),
        .epoch = any(random),
        .applied = any(random),
        .catalog_version = any(random),
        .more = up_to(random, 1),
        .created = up_to(random, 1),
        .indexed = any(random),
        .generation = any(random),
        .count = any(random),
        .progress = {any(random), any(random), any(random), any(random), up_to(random, 1)},
        .digest = {any(random), any(random)},
        .fence = any(random),
        .texts_count = up_to(random, count_max),
        .text = text(random, arena, 300),
        .report = report,
    };
    if (up_to(random, 1)) {
        struct cairn_str message = text(random, arena, 200);
        cairn_fail(&out->error, CAIRN_ENOTOWNER, "%.*s", CAIRN_STR_ARG(message));
    }
    out->texts = texts(random, arena, out->texts_count, 200);
    random_rows(random, arena, up_to(random, count_max), out);
    random_results(random, arena, up_to(random, count_max), out);
    random_lists(random, arena, up_to(random, count_max), out);
    random_records(random, arena, up_to(random, count_max), out);
    random_report(random, arena, up_to(random, count_max), report);
}
