#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "router/router.h"
#include "tests/lib/fixtures.h"
#include "tests/lib/testing.h"

#define DEADLINE_US UINT64_MAX

#define SCHEMA                                                                                     \
    "{\"features\":{\"n\":{\"type\":\"int64\"}},"                                                  \
    "\"vectors\":{\"v\":{\"dim\":2,\"metric\":\"l2\",\"index\":{\"kind\":\"flat\"}}}}"

struct fixture {
    struct cairn_test_dir dir;
    char path[CAIRN_TEST_PATH_BYTES];
    struct cairn_router_options options;
    struct cairn_router *router;
    const struct cairn_schema *schema;
    struct cairn_arena arena;
};

static void open_router(struct fixture *f)
{
    struct cairn_error err = {0};
    if (cairn_router_open(&f->options, &f->router, &err) != 0)
        fail_msg("open: %s", err.message);
}

static const struct cairn_schema *put_schema(struct fixture *f, const char *name, const char *json,
                                             bool expect_created)
{
    struct cairn_error err = {0};
    struct cairn_contract contract = {0};
    const struct cairn_schema *asked = cairn_test_schema(name, json), *out = NULL;
    bool created;
    int code = cairn_router_collection_put(f->router, asked, &out, &created, &contract, &err);
    cairn_schema_unref(asked);
    if (code != 0)
        fail_msg("put: %s", err.message);
    assert_int_equal(created, expect_created);
    assert_int_equal(contract.position.count, f->options.shards);
    return out;
}

static void reopen(struct fixture *f)
{
    cairn_schema_unref(f->schema);
    cairn_router_close(&f->router);
    open_router(f);
    f->schema = cairn_router_schema(f->router, CAIRN_STR_LITERAL("c"));
    assert_non_null(f->schema);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    cairn_test_dir_make(&f->dir);
    cairn_test_dir_path(&f->dir, "data", f->path);
    f->options = (struct cairn_router_options){.dir = f->path, .shards = 3};
    open_router(f);
    f->schema = put_schema(f, "c", SCHEMA, true);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    cairn_schema_unref(f->schema);
    cairn_router_close(&f->router);
    cairn_arena_release(&f->arena);
    cairn_test_dir_remove(&f->dir);
    free(f);
    return 0;
}

static struct cairn_router_item item_of(struct fixture *f, const char *key, const char *route,
                                        int64_t n, float x, float y)
{
    float f32[2] = {x, y};
    return (struct cairn_router_item){.key = cairn_arena_dup(&f->arena, cairn_str_from(key)),
                                      .route = cairn_arena_dup(&f->arena, cairn_str_from(route)),
                                      .payload =
                                          cairn_test_entity(&f->arena, key, route, n, f32, 2),
                                      .if_offset = CAIRN_OFFSET_NONE};
}

static struct cairn_router_write write_all(struct fixture *f, const struct cairn_router_item *items,
                                           uint32_t count, struct cairn_write_result *results)
{
    struct cairn_router_write write = {.schema = f->schema,
                                       .items = items,
                                       .count = count,
                                       .arena = &f->arena,
                                       .results = results};
    assert_int_equal(cairn_router_write_wait(f->router, &write), 0);
    return write;
}

/* Keys k000 to k099 with n = their number and vectors on a circle. */
static void fill(struct fixture *f, struct cairn_write_result *results)
{
    struct cairn_router_item items[100];
    char key[8];
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "k%03d", i);
        items[i] = item_of(f, key, "", i, cosf((float)i), sinf((float)i));
    }
    struct cairn_router_write write = write_all(f, items, 100, results);
    assert_int_equal(write.contract.position.count, 3);
    assert_int_equal(write.shards_count, 3);
    assert_false(write.contract.partial);
}

struct rows {
    uint32_t count, missing;
    int64_t numbers[256];
    char keys[256][8];
};

static void collect(void *context, uint32_t at, const struct cairn_row_ref *row)
{
    struct rows *rows = context;
    struct cairn_row_cell cell;
    assert_int_equal(at, rows->count);
    rows->numbers[rows->count] = -1;
    snprintf(rows->keys[rows->count], sizeof rows->keys[0], "%.*s", CAIRN_STR_ARG(row->key));
    if (row->found) {
        assert_true(cairn_row_view_find(&row->view, false, CAIRN_STR_LITERAL("n"), &cell));
        rows->numbers[rows->count] = cell.value.as.i64;
    } else {
        rows->missing++;
    }
    rows->count++;
}

static int read_rows(struct fixture *f, const struct cairn_str *keys, uint32_t count,
                     struct rows *rows, struct cairn_contract *contract)
{
    struct cairn_error err = {0};
    struct cairn_router_fetch fetch = {.schema = f->schema,
                                       .keys = keys,
                                       .count = count,
                                       .arena = &f->arena,
                                       .deadline_us = DEADLINE_US};
    assert_true(cairn_router_fetch(f->router, &fetch)); /* nothing is elsewhere */
    int code = cairn_router_get(f->router, &fetch, collect, rows, contract, &err);
    cairn_router_fetch_end(&fetch);
    struct rows again = {0};
    struct cairn_contract other = {0};
    assert_int_equal(cairn_router_get_wait(f->router, &fetch, collect, &again, &other, &err), code);
    assert_memory_equal(&again, rows, sizeof again);
    return code;
}

static void rows_come_back_in_the_order_asked(void **state)
{
    struct fixture *f = *state;
    struct cairn_write_result results[100];
    fill(f, results);
    uint64_t offsets[3] = {0};
    for (int i = 0; i < 100; i++) {
        assert_true(results[i].shard < 3);
        assert_int_equal(results[i].status, CAIRN_WRITE_APPLIED);
        assert_true(results[i].offset > offsets[results[i].shard]);
        offsets[results[i].shard] = results[i].offset;
    }
    for (int round = 0; round < 2; round++) {
        struct cairn_str keys[] = {CAIRN_STR_LITERAL("k077"), CAIRN_STR_LITERAL("nope"),
                                   CAIRN_STR_LITERAL("k003"), CAIRN_STR_LITERAL("k077")};
        struct rows rows = {0};
        struct cairn_contract contract = {0};
        assert_int_equal(read_rows(f, keys, 4, &rows, &contract), 0);
        assert_int_equal(rows.count, 4);
        assert_int_equal(rows.missing, 1);
        assert_int_equal(rows.numbers[0], 77);
        assert_int_equal(rows.numbers[2], 3);
        assert_int_equal(rows.numbers[3], 77);
        assert_true(contract.position.count >= 1 && contract.position.epoch == 1);
        reopen(f);
    }
}

static void a_route_keeps_records_together(void **state)
{
    struct fixture *f = *state;
    struct cairn_write_result results[20];
    struct cairn_router_item items[20];
    char key[8];
    for (int i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "r%d", i);
        items[i] = item_of(f, key, "one-route", i, 0, 0);
    }
    struct cairn_router_write write = write_all(f, items, 20, results);
    assert_int_equal(write.shards_count, 1);
    for (int i = 1; i < 20; i++) {
        assert_int_equal(results[i].shard, results[0].shard);
        assert_int_equal(results[i].offset, results[0].offset + (uint64_t)i);
    }
    struct rows rows = {0};
    struct cairn_str keys[20];
    for (int i = 0; i < 20; i++)
        keys[i] = items[i].key;
    struct cairn_contract contract = {0};
    assert_int_equal(read_rows(f, keys, 20, &rows, &contract), 0);
    assert_int_equal(rows.missing, 0);
}

static void search_merges_exactly(void **state)
{
    struct fixture *f = *state;
    struct cairn_write_result results[100];
    struct cairn_error err = {0};
    fill(f, results);
    for (uint32_t k = 1; k <= 120; k += 17) {
        float query[2] = {0.3f, -0.8f};
        struct cairn_search_request request = {.vector = query, .dim = 2, .k = k};
        struct cairn_search_result result = {0};
        struct cairn_contract contract = {0};
        assert_int_equal(cairn_router_search(f->router, f->schema, &request, 1, DEADLINE_US,
                                             &f->arena, &result, &contract, &err),
                         0);
        assert_int_equal(result.count, k < 100 ? k : 100);
        assert_int_equal(contract.position.count, 3);
        for (uint32_t i = 0; i < result.count; i++) {
            /* Its rank among all vectors, counted naively, is its place. */
            uint32_t better = 0;
            for (int j = 0; j < 100; j++)
                better += hypotf(cosf((float)j) - query[0], sinf((float)j) - query[1]) <
                          result.hits[i].score - 1e-6f;
            assert_int_equal(better, i);
        }
    }
}

static void ties_go_by_key(void **state)
{
    struct fixture *f = *state;
    struct cairn_router_item items[30];
    struct cairn_write_result results[30];
    struct cairn_error err = {0};
    char key[8];
    for (int i = 0; i < 30; i++) {
        snprintf(key, sizeof key, "t%02d", (i * 7) % 30);
        items[i] = item_of(f, key, "", i, 1, 1);
    }
    write_all(f, items, 30, results);
    float query[2] = {0, 0};
    struct cairn_search_request request = {.vector = query, .dim = 2, .k = 11};
    struct cairn_search_result result = {0};
    struct cairn_contract contract = {0};
    assert_int_equal(cairn_router_search(f->router, f->schema, &request, 1, DEADLINE_US, &f->arena,
                                         &result, &contract, &err),
                     0);
    assert_int_equal(result.count, 11);
    for (int i = 0; i < 11; i++) {
        snprintf(key, sizeof key, "t%02d", i);
        assert_true(cairn_str_eq(result.hits[i].key, cairn_str_from(key)));
    }
}

static void more_like_this_leaves_itself_out(void **state)
{
    struct fixture *f = *state;
    struct cairn_write_result results[100];
    struct cairn_error err = {0};
    fill(f, results);
    struct cairn_search_request request = {.key = CAIRN_STR_LITERAL("k044"), .k = 3};
    struct cairn_search_result result = {0};
    struct cairn_contract contract = {0};
    assert_int_equal(cairn_router_search(f->router, f->schema, &request, 1, DEADLINE_US, &f->arena,
                                         &result, &contract, &err),
                     0);
    assert_int_equal(result.count, 3);
    assert_true(cairn_str_eq(result.hits[0].key,
                             CAIRN_STR_LITERAL("k000"))); /* 44 is seven turns and a bit */
    for (int i = 0; i < 3; i++)
        assert_false(cairn_str_eq(result.hits[i].key, request.key));
}

static void bad_searches_are_refused(void **state)
{
    struct fixture *f = *state;
    float query[3] = {0};
    const struct {
        struct cairn_search_request request;
        int code;
    } cases[] = {
        {{.vector = query, .dim = 3, .k = 1}, CAIRN_EDIMENSION},
        {{.vector = query, .dim = 2, .k = 0}, CAIRN_EPARAM},
        {{.vector = query, .dim = 2, .k = CAIRN_K_MAX + 1}, CAIRN_EPARAM},
        {{.vector = query, .dim = 2, .k = 1, .using = CAIRN_STR_LITERAL("w")}, CAIRN_ENOVECTOR},
        {{.key = CAIRN_STR_LITERAL("nobody"), .k = 1}, CAIRN_ENOENTITY},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cairn_search_result result = {0};
        struct cairn_contract contract = {0};
        struct cairn_error err = {0};
        assert_int_equal(cairn_router_search(f->router, f->schema, &cases[i].request, 1,
                                             DEADLINE_US, &f->arena, &result, &contract, &err),
                         cases[i].code);
        assert_int_equal(err.code, cases[i].code);
    }
    struct cairn_search_request largest = {.vector = query, .dim = 2, .k = CAIRN_K_MAX};
    struct cairn_search_result result = {0};
    struct cairn_contract contract = {0};
    struct cairn_error err = {0};
    assert_int_equal(cairn_router_search(f->router, f->schema, &largest, 1, DEADLINE_US, &f->arena,
                                         &result, &contract, &err),
                     0);
}

static void scroll_walks_all_shards_in_key_order(void **state)
{
    struct fixture *f = *state;
    struct cairn_write_result results[100];
    struct cairn_error err = {0};
    fill(f, results);
    char after[8] = "";
    int seen = 0;
    bool more = true;
    while (more) {
        struct rows rows = {0};
        struct cairn_contract contract = {0};
        struct cairn_router_scan scan = {
            .after_key = cairn_str_from(after), .limit = 7, .deadline_us = DEADLINE_US};
        assert_int_equal(cairn_router_scroll(f->router, f->schema, &scan, collect, &rows, &more,
                                             &contract, &err),
                         0);
        for (uint32_t i = 0; i < rows.count; i++)
            assert_int_equal(rows.numbers[i], seen++);
        snprintf(after, sizeof after, "%s", rows.keys[rows.count - 1]);
    }
    assert_int_equal(seen, 100);
    uint64_t count = 0;
    struct cairn_contract contract = {0};
    struct cairn_router_scan all = {.deadline_us = DEADLINE_US};
    assert_int_equal(cairn_router_count(f->router, f->schema, &all, &count, &contract, &err), 0);
    assert_int_equal(count, 100);
}

static void schemas_evolve_and_drop(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    struct cairn_contract contract = {0};
    const struct cairn_schema *same = put_schema(f, "c", SCHEMA, false);
    assert_int_equal(same->version, f->schema->version);
    const struct cairn_schema *wider =
        put_schema(f, "c", "{\"features\":{\"m\":{\"type\":\"string\"}}}", false);
    assert_true(wider->version > same->version);
    assert_int_equal(wider->id, same->id);
    assert_int_equal(wider->features_count, 2);
    const struct cairn_schema *asked = cairn_test_schema(
                                  "c", "{\"features\":{\"n\":{\"type\":\"string\"}}}"),
                              *none = NULL;
    bool created;
    assert_int_equal(
        cairn_router_collection_put(f->router, asked, &none, &created, &contract, &err),
        CAIRN_ECONFLICT);
    assert_null(none);
    cairn_schema_unref(asked);
    cairn_schema_unref(same);
    reopen(f);
    assert_int_equal(f->schema->features_count, 2);
    struct cairn_write_result results[100];
    fill(f, results);
    assert_int_equal(
        cairn_router_collection_drop(f->router, CAIRN_STR_LITERAL("c"), &contract, &err), 0);
    assert_int_equal(
        cairn_router_collection_drop(f->router, CAIRN_STR_LITERAL("c"), &contract, &err),
        CAIRN_ENOCOLLECTION);
    const struct cairn_schema *again = put_schema(f, "c", SCHEMA, true);
    assert_true(again->id != wider->id && again->version > wider->version);
    uint64_t count = 1;
    struct cairn_router_scan all = {.deadline_us = DEADLINE_US};
    assert_int_equal(cairn_router_count(f->router, again, &all, &count, &contract, &err), 0);
    assert_int_equal(count, 0);
    cairn_schema_unref(again);
    cairn_schema_unref(wider);
}

static void a_schema_change_cut_short_is_completed(void **state)
{
    struct fixture *f = *state;
    cairn_router_close(&f->router);
    /* As a crash leaves it: one shard has the next version, the others do not. */
    char dir[CAIRN_TEST_PATH_BYTES * 2];
    snprintf(dir, sizeof dir, "%s/shard-0001", f->path);
    struct cairn_shard_options options = {.dir = dir, .id = 1};
    struct cairn_shard *shard = NULL;
    struct cairn_error err = {0};
    struct cairn_write_result result;
    assert_int_equal(cairn_shard_open(&options, &shard, &err), 0);
    const struct cairn_schema *plain = cairn_test_schema(
        "c", "{\"features\":{\"n\":{\"type\":\"int64\"},\"late\":{\"type\":\"bool\"}}}");
    const struct cairn_schema *next = cairn_schema_with_identity(
        plain, f->schema->id, f->schema->version + 1, f->schema->created_us, false);
    struct cairn_buf text = {0};
    cairn_schema_encode(next, &text);
    struct cairn_shard_item item = {
        .kind = CAIRN_RECORD_SCHEMA,
        .collection = next->id,
        .payload = cairn_arena_dup(&f->arena, (struct cairn_str){text.data, (uint32_t)text.len}),
        .if_offset = CAIRN_OFFSET_NONE};
    assert_int_equal(cairn_test_shard_write(shard, &item, 1, &result, &err), 0);
    cairn_shard_close(&shard);
    cairn_buf_release(&text);

    open_router(f);
    reopen(f);
    assert_int_equal(f->schema->version, next->version);
    assert_non_null(cairn_schema_feature(f->schema, CAIRN_STR_LITERAL("late")));
    struct cairn_member_info *members;
    uint32_t count;
    cairn_router_members(f->router, &f->arena, &members, &count);
    assert_int_equal(count, 3);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(members[i].local && members[i].up && members[i].in_map);
        assert_int_equal(members[i].applied, 3); /* the map, the first schema, the next */
    }
    cairn_schema_unref(next);
    cairn_schema_unref(plain);
}

/* One shard takes no writes: the others drop the collection. It must not stay in sight half
 * emptied, and come back at no restart. */
static void a_drop_that_one_shard_refuses_is_a_drop(void **state)
{
    struct fixture *f = *state;
    struct cairn_error err = {0};
    struct cairn_contract contract = {0};
    struct cairn_write_result results[100];
    char path[CAIRN_TEST_PATH_BYTES * 2];
    fill(f, results);
    cairn_router_close(&f->router);
    snprintf(path, sizeof path, "%s/shard-0001/log/00000000000000000001.seg", f->path);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, 1500, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, 1500, SEEK_SET);
    fputc(byte ^ 4, file);
    fclose(file);
    open_router(f);
    assert_int_equal(
        cairn_router_collection_drop(f->router, CAIRN_STR_LITERAL("c"), &contract, &err),
        CAIRN_ECORRUPT);
    assert_non_null(strstr(err.message, "2 of 3 shards"));
    for (int round = 0; round < 2; round++) {
        assert_null(cairn_router_schema(f->router, CAIRN_STR_LITERAL("c")));
        assert_int_equal(
            cairn_router_collection_drop(f->router, CAIRN_STR_LITERAL("c"), &contract, &err),
            CAIRN_ENOCOLLECTION);
        cairn_router_close(&f->router);
        open_router(f);
    }
}

static void a_data_directory_is_used_once(void **state)
{
    struct fixture *f = *state;
    struct cairn_router *second = NULL;
    struct cairn_error err = {0};
    assert_int_equal(cairn_router_open(&f->options, &second, &err), CAIRN_EIO);
    assert_null(second);
    cairn_router_close(&f->router);
    struct cairn_router_options other = f->options;
    other.shards = 4;
    assert_int_equal(cairn_router_open(&other, &second, &err), CAIRN_EPARAM);
    assert_non_null(strstr(err.message, "3"));
    other.shards = 0;
    assert_int_equal(cairn_router_open(&other, &second, &err), 0);
    assert_int_equal(cairn_router_shards_count(second), 3);
    cairn_router_close(&second);
    open_router(f);
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(rows_come_back_in_the_order_asked),
        CASE(a_route_keeps_records_together),
        CASE(search_merges_exactly),
        CASE(ties_go_by_key),
        CASE(more_like_this_leaves_itself_out),
        CASE(bad_searches_are_refused),
        CASE(scroll_walks_all_shards_in_key_order),
        CASE(schemas_evolve_and_drop),
        CASE(a_schema_change_cut_short_is_completed),
        CASE(a_drop_that_one_shard_refuses_is_a_drop),
        CASE(a_data_directory_is_used_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
