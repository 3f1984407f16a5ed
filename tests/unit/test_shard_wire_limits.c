/* What base/shard_wire.h accepts at each limit and refuses one past it. */
#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/shard_wire.h"
#include "tests/lib/shard_wire_fixture.h"

#define CASE(test) cmocka_unit_test_setup_teardown(test, wire_setup, wire_teardown)

static void expect_request(const struct cairn_shard_request *request, int code,
                           const char *mentions)
{
    struct cairn_shard_request got;
    struct cairn_str body = cairn_shard_request_encode(wire.encoder, request);
    wire_expect(cairn_shard_request_decode(body, &wire.arena, &got, &wire.err), code, mentions);
}

static void expect_answer(const struct cairn_shard_answer *answer, int code, const char *mentions)
{
    struct cairn_shard_answer got;
    struct cairn_str body = cairn_shard_answer_encode(wire.encoder, answer);
    wire_expect(cairn_shard_answer_decode(body, &wire.arena, &got, &wire.err), code, mentions);
}

/* A member of a request or an answer that is a text of at most `max` bytes. */
#define EXPECT_TEXT(expect_what, what, member, max, code)                                          \
    do {                                                                                           \
        (what).member = wire_filled(max);                                                          \
        expect_what(&(what), 0, "");                                                               \
        (what).member = wire_filled((max) + 1);                                                    \
        expect_what(&(what), code, #member);                                                       \
        (what).member = CAIRN_STR_LITERAL("\xFF");                                                 \
        expect_what(&(what), CAIRN_EUTF8, #member);                                                \
        (what).member = CAIRN_STR_LITERAL("");                                                     \
    } while (0)

/* A number of at most `max`. */
#define EXPECT_NUMBER(expect_what, what, member, max)                                              \
    do {                                                                                           \
        (what).member = (max);                                                                     \
        expect_what(&(what), 0, "");                                                               \
        (what).member = (max) + 1;                                                                 \
        expect_what(&(what), CAIRN_EFIELD, #member);                                               \
        (what).member = 1;                                                                         \
    } while (0)

/* At most `max` elements; one more is CAIRN_ETOOLARGE. */
#define EXPECT_COUNT(expect_what, what, member, max)                                               \
    do {                                                                                           \
        (what).member##_count = (max);                                                             \
        expect_what(&(what), 0, "");                                                               \
        (what).member##_count = (max) + 1;                                                         \
        expect_what(&(what), CAIRN_ETOOLARGE, #member);                                            \
        (what).member##_count = 1;                                                                 \
    } while (0)

static void requests_are_bounded(void **state)
{
    (void)state;
    struct cairn_shard_request request = {0};
    EXPECT_NUMBER(expect_request, request, limit, CAIRN_SCROLL_LIMIT_MAX);
    EXPECT_NUMBER(expect_request, request, bytes_max, CAIRN_EXPORT_BYTES_MAX);
    EXPECT_NUMBER(expect_request, request, wait_ms, CAIRN_TIMEOUT_MS_MAX);
    EXPECT_TEXT(expect_request, request, vector, CAIRN_NAME_BYTES_MAX, CAIRN_ENAME);
    EXPECT_TEXT(expect_request, request, after_key, CAIRN_KEY_BYTES_MAX, CAIRN_EKEY);
    EXPECT_TEXT(expect_request, request, url, CAIRN_URL_BYTES_MAX, CAIRN_ETOOLARGE);
    EXPECT_TEXT(expect_request, request, text, CAIRN_SHARD_TEXT_BYTES_MAX, CAIRN_ETOOLARGE);
    request.filter_json = CAIRN_STR_LITERAL("\xFF");
    expect_request(&request, CAIRN_EUTF8, "filter");
    request.filter_json = wire_filled(CAIRN_BODY_BYTES_MAX + 1);
    expect_request(&request, CAIRN_ETOOLARGE, "filter");
    request.filter_json.len--;
    expect_request(&request, 0, "");
}

static void keys_and_names_are_bounded(void **state)
{
    (void)state;
    struct cairn_str *many = cairn_calloc(CAIRN_KEYS_MAX + 1, sizeof(*many));
    for (uint32_t i = 0; i <= CAIRN_KEYS_MAX; i++)
        many[i] = CAIRN_STR_LITERAL("k");
    struct cairn_shard_request request = {.keys = many};
    EXPECT_COUNT(expect_request, request, keys, CAIRN_KEYS_MAX);
    request.vectors = many;
    EXPECT_COUNT(expect_request, request, vectors, CAIRN_VECTORS_MAX);

    struct cairn_str texts[] = {wire_filled(CAIRN_KEY_BYTES_MAX),
                                wire_filled(CAIRN_KEY_BYTES_MAX + 1),
                                CAIRN_STR_LITERAL(""),
                                CAIRN_STR_LITERAL("\xFF"),
                                wire_filled(CAIRN_NAME_BYTES_MAX),
                                wire_filled(CAIRN_NAME_BYTES_MAX + 1)};
    int key_codes[] = {0, CAIRN_EKEY, CAIRN_EKEY, CAIRN_EUTF8, 0, 0};
    int item_codes[] = {0, CAIRN_EKEY, 0, CAIRN_EUTF8, 0, 0}; /* some kinds have no key */
    int name_codes[] = {CAIRN_ENAME, CAIRN_ENAME, CAIRN_ENAME, CAIRN_EUTF8, 0, CAIRN_ENAME};
    for (int i = 0; i < 6; i++) {
        many[1] = texts[i];
        request = (struct cairn_shard_request){.keys = many, .keys_count = 2};
        expect_request(&request, key_codes[i], "keys[1]");
        request = (struct cairn_shard_request){.vectors = many, .vectors_count = 2};
        expect_request(&request, name_codes[i], "vectors[1]");
        struct cairn_shard_item items[2] = {{0}, {.key = texts[i]}};
        request = (struct cairn_shard_request){.items = items, .items_count = 2};
        expect_request(&request, item_codes[i], "items[1]");
        struct cairn_str *keys;
        uint32_t count;
        struct cairn_str bytes = cairn_forget_encode(wire.encoder, many, 2);
        wire_expect(cairn_forget_decode(bytes, &wire.arena, &keys, &count, &wire.err), key_codes[i],
                    "keys[1]");
    }
    free(many);
}

static void items_are_bounded(void **state)
{
    (void)state;
    struct cairn_shard_item *items = cairn_calloc(CAIRN_BATCH_ENTITIES_MAX + 1, sizeof(*items));
    struct cairn_shard_request request = {.items = items};
    EXPECT_COUNT(expect_request, request, items, CAIRN_BATCH_ENTITIES_MAX);
    items[0].payload = wire_filled(CAIRN_ENTITY_BYTES_MAX + 1);
    expect_request(&request, CAIRN_ETOOLARGE, "items[0]: a payload");
    items[0].payload.len--;
    expect_request(&request, 0, "");
    free(items);
}

static void queries_are_bounded(void **state)
{
    (void)state;
    static float f32[CAIRN_DIM_MAX + 1];
    struct cairn_shard_query *queries = cairn_calloc(CAIRN_SEARCHES_MAX + 1, sizeof(*queries));
    for (uint32_t i = 0; i <= CAIRN_SEARCHES_MAX; i++)
        queries[i] = (struct cairn_shard_query){.vector = f32, .dim = 2, .k = 10};
    struct cairn_shard_request request = {.queries = queries};
    EXPECT_COUNT(expect_request, request, queries, CAIRN_SEARCHES_MAX);
    free(queries);
}

static void bad_queries_are_refused(void **state)
{
    (void)state;
    static float f32[CAIRN_DIM_MAX + 1];
    struct cairn_shard_query queries[2] = {{.vector = f32, .dim = 2, .k = 10},
                                           {.vector = f32, .dim = CAIRN_DIM_MAX, .k = 10}};
    struct cairn_shard_request request = {.queries = queries, .queries_count = 2};
    static const struct {
        uint32_t dim, k, ef, nprobe;
        int code;
        const char *mentions;
    } cases[] = {
        {CAIRN_DIM_MAX, CAIRN_K_MAX, CAIRN_EF_MAX, CAIRN_NPROBE_MAX, 0, ""},
        {CAIRN_DIM_MAX + 1, 1, 0, 0, CAIRN_EDIMENSION, "queries[1]: vector"},
        {0, 1, 0, 0, CAIRN_EDIMENSION, "queries[1]: vector"},
        {1, 0, 0, 0, CAIRN_EFIELD, "queries[1]: k"},
        {1, CAIRN_K_MAX + 1, 0, 0, CAIRN_EFIELD, "queries[1]: k"},
        {1, 1, CAIRN_EF_MAX + 1, 0, CAIRN_EFIELD, "queries[1]: ef"},
        {1, 1, 0, CAIRN_NPROBE_MAX + 1, CAIRN_EFIELD, "queries[1]: nprobe"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        queries[1] = (struct cairn_shard_query){.vector = f32,
                                                .dim = cases[i].dim,
                                                .k = cases[i].k,
                                                .ef = cases[i].ef,
                                                .nprobe = cases[i].nprobe};
        expect_request(&request, cases[i].code, cases[i].mentions);
    }
    queries[1] = (struct cairn_shard_query){.vector = f32, .dim = 4, .k = 1};
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        f32[3] = bad[i];
        expect_request(&request, CAIRN_ENUMBER, "queries[1]: vector");
    }
    f32[3] = 0;
    queries[1].filter_json = CAIRN_STR_LITERAL("\xFF");
    expect_request(&request, CAIRN_EUTF8, "queries[1]: filter");
}

/* The sum of k; the last query brings it to the limit or past it. */
static void hits_asked_for_are_bounded(void **state)
{
    (void)state;
    static const float f32[] = {1};
    enum { COUNT = CAIRN_SEARCH_HITS_MAX / CAIRN_K_MAX + 1 };
    struct cairn_shard_query queries[COUNT];
    for (int i = 0; i < COUNT; i++)
        queries[i] = (struct cairn_shard_query){.vector = f32, .dim = 1, .k = CAIRN_K_MAX};
    queries[COUNT - 1].k = CAIRN_SEARCH_HITS_MAX % CAIRN_K_MAX;
    struct cairn_shard_request request = {.queries = queries, .queries_count = COUNT};
    expect_request(&request, 0, "");
    queries[COUNT - 1].k++;
    expect_request(&request, CAIRN_ETOOLARGE, "queries");
}

static void rows_are_bounded(void **state)
{
    (void)state;
    struct cairn_row row = {.exists = true};
    struct cairn_shard_row *rows = cairn_calloc(CAIRN_KEYS_MAX + 1, sizeof(*rows));
    for (uint32_t i = 0; i <= CAIRN_KEYS_MAX; i++)
        rows[i] = wire_plain_row(&row);
    struct cairn_shard_answer answer = {.rows = rows};
    EXPECT_COUNT(expect_answer, answer, rows, CAIRN_KEYS_MAX);
    struct cairn_str keys[] = {wire_filled(CAIRN_KEY_BYTES_MAX),
                               wire_filled(CAIRN_KEY_BYTES_MAX + 1), CAIRN_STR_LITERAL(""),
                               CAIRN_STR_LITERAL("\xFF")};
    int codes[] = {0, CAIRN_EKEY, CAIRN_EKEY, CAIRN_EUTF8};
    for (int i = 0; i < 4; i++) {
        rows[0].key = keys[i];
        expect_answer(&answer, codes[i], "rows[0]");
    }
    rows[0].key = keys[0];
    rows[0].row = CAIRN_STR_LITERAL("");
    expect_answer(&answer, CAIRN_EBODY, "rows[0]: row");
    rows[0].found = false;
    expect_answer(&answer, 0, "");
    rows[0].row = CAIRN_STR_LITERAL("no row at all");
    expect_answer(&answer, CAIRN_EBODY, "rows[0]: not a well-formed");
    free(rows);
}

static void vectors_of_rows_are_bounded(void **state)
{
    (void)state;
    static float f32[CAIRN_DIM_MAX + 1];
    struct cairn_row row = {.exists = true};
    struct cairn_shard_row one = wire_plain_row(&row);
    struct cairn_shard_answer answer = {.rows = &one, .rows_count = 1};
    struct cairn_vector vectors[CAIRN_VECTORS_MAX + 1];
    for (uint32_t i = 0; i <= CAIRN_VECTORS_MAX; i++)
        vectors[i] = (struct cairn_vector){CAIRN_STR_LITERAL("v"), f32, 4};
    one.vectors = vectors;
    one.vectors_count = CAIRN_VECTORS_MAX;
    expect_answer(&answer, 0, "");
    one.vectors_count++;
    expect_answer(&answer, CAIRN_ETOOLARGE, "vectors");
    one.vectors_count--;
    vectors[1].dim = CAIRN_DIM_MAX;
    expect_answer(&answer, 0, "");
    vectors[1].dim++;
    expect_answer(&answer, CAIRN_ETOOLARGE, "row_vectors[1]");
    vectors[1].dim = 4;
    f32[2] = NAN;
    expect_answer(&answer, CAIRN_ENUMBER, "row_floats");
    f32[2] = 0;
    vectors[1].name = wire_filled(CAIRN_NAME_BYTES_MAX);
    expect_answer(&answer, 0, "");
    vectors[1].name = wire_filled(CAIRN_NAME_BYTES_MAX + 1);
    expect_answer(&answer, CAIRN_ENAME, "vector_names[1]");
}

static void lists_are_bounded(void **state)
{
    (void)state;
    enum { LISTS = CAIRN_SEARCH_HITS_MAX / CAIRN_K_MAX + 1 };
    struct cairn_shard_hit *hits = cairn_calloc(CAIRN_K_MAX + 1, sizeof(*hits));
    struct cairn_shard_hits *lists = cairn_calloc(CAIRN_SEARCHES_MAX + 1, sizeof(*lists));
    for (uint32_t i = 0; i <= CAIRN_K_MAX; i++)
        hits[i].key = CAIRN_STR_LITERAL("k");
    struct cairn_shard_answer answer = {.lists = lists};
    EXPECT_COUNT(expect_answer, answer, lists, CAIRN_SEARCHES_MAX);
    lists[0] = (struct cairn_shard_hits){hits, CAIRN_K_MAX};
    expect_answer(&answer, 0, "");
    lists[0].count++;
    expect_answer(&answer, CAIRN_ETOOLARGE, "lists[0]");
    for (uint32_t i = 0; i < LISTS; i++)
        lists[i] = (struct cairn_shard_hits){hits, CAIRN_K_MAX};
    lists[LISTS - 1].count = CAIRN_SEARCH_HITS_MAX % CAIRN_K_MAX;
    answer.lists_count = LISTS;
    expect_answer(&answer, 0, "");
    lists[LISTS - 1].count++;
    expect_answer(&answer, CAIRN_ETOOLARGE, "hits");
    answer.lists_count = 1;
    lists[0].count = 2;
    hits[1].key = wire_filled(CAIRN_KEY_BYTES_MAX + 1);
    expect_answer(&answer, CAIRN_EKEY, "hits[1]");
    hits[1].key.len--;
    expect_answer(&answer, 0, "");
    free(hits);
    free(lists);
}

static void other_parts_of_answers_are_bounded(void **state)
{
    (void)state;
    struct cairn_write_result *results =
        cairn_calloc(CAIRN_BATCH_ENTITIES_MAX + 1, sizeof(*results));
    struct cairn_shard_answer answer = {.results = results};
    EXPECT_COUNT(expect_answer, answer, results, CAIRN_BATCH_ENTITIES_MAX);
    free(results);

    struct cairn_shard_record record = {.payload = wire_filled(CAIRN_ENTITY_BYTES_MAX)};
    answer = (struct cairn_shard_answer){.records = &record, .records_count = 1};
    expect_answer(&answer, 0, "");
    record.payload = wire_filled(CAIRN_ENTITY_BYTES_MAX + 1);
    expect_answer(&answer, CAIRN_ETOOLARGE, "records[0]");

    struct cairn_str text = wire_filled(CAIRN_SHARD_TEXT_BYTES_MAX);
    answer = (struct cairn_shard_answer){.texts = &text, .texts_count = 1};
    expect_answer(&answer, 0, "");
    text = wire_filled(CAIRN_SHARD_TEXT_BYTES_MAX + 1);
    expect_answer(&answer, CAIRN_ETOOLARGE, "texts");
    answer = (struct cairn_shard_answer){0};
    EXPECT_TEXT(expect_answer, answer, text, CAIRN_SHARD_TEXT_BYTES_MAX, CAIRN_ETOOLARGE);
}

static void reports_are_bounded(void **state)
{
    (void)state;
    struct cairn_index_report indexes[CAIRN_VECTORS_MAX + 1] = {0};
    struct cairn_hot_token hot[CAIRN_HOT_TOKENS_MAX + 1] = {0};
    struct cairn_collection_report *collections =
        cairn_calloc(CAIRN_COLLECTIONS_MAX + 1, sizeof(*collections));
    for (uint32_t i = 0; i <= CAIRN_COLLECTIONS_MAX; i++) {
        collections[i].indexes = indexes;
        collections[i].indexes_count = CAIRN_VECTORS_MAX;
    }
    struct cairn_shard_report report = {.collections = collections, .hot = hot};
    struct cairn_shard_answer answer = {.report = &report};
    report.hot_count = CAIRN_HOT_TOKENS_MAX;
    report.collections_count = CAIRN_COLLECTIONS_MAX;
    expect_answer(&answer, 0, "");
    report.hot_count++;
    expect_answer(&answer, CAIRN_ETOOLARGE, "report.hot");
    report.hot_count = 1;
    report.collections_count++;
    expect_answer(&answer, CAIRN_ETOOLARGE, "report.collections");
    report.collections_count = 1;
    collections[0].indexes_count++;
    expect_answer(&answer, CAIRN_ETOOLARGE, "report.collections[0]: indexes");
    collections[0].indexes_count = 2;
    indexes[1].vector = wire_filled(CAIRN_NAME_BYTES_MAX);
    hot[0].key = wire_filled(CAIRN_KEY_BYTES_MAX);
    report.reason = wire_filled(CAIRN_SHARD_TEXT_BYTES_MAX);
    expect_answer(&answer, 0, "");
    report.reason = wire_filled(CAIRN_SHARD_TEXT_BYTES_MAX + 1);
    expect_answer(&answer, CAIRN_ETOOLARGE, "report.reason");
    report.reason.len = 0;
    indexes[1].vector = wire_filled(CAIRN_NAME_BYTES_MAX + 1);
    expect_answer(&answer, CAIRN_ENAME, "report.collections[0]: indexes[1]: vector");
    indexes[1].vector.len--;
    hot[0].key = wire_filled(CAIRN_KEY_BYTES_MAX + 1);
    expect_answer(&answer, CAIRN_EKEY, "report.hot");
    free(collections);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(requests_are_bounded),    CASE(keys_and_names_are_bounded),
        CASE(items_are_bounded),       CASE(queries_are_bounded),
        CASE(bad_queries_are_refused), CASE(hits_asked_for_are_bounded),
        CASE(rows_are_bounded),        CASE(vectors_of_rows_are_bounded),
        CASE(lists_are_bounded),       CASE(other_parts_of_answers_are_bounded),
        CASE(reports_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
