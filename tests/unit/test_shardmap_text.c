#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/shardmap.h"

static void assert_text(const struct cairn_map *map, const char *want)
{
    struct cairn_buf text = {0};
    cairn_map_encode(map, &text);
    cairn_buf_append(&text, "", 1);
    assert_string_equal(text.data, want);
    cairn_buf_release(&text);
}

static const struct cairn_map *decoded(const char *text)
{
    const struct cairn_map *map;
    struct cairn_error err = {0};
    if (cairn_map_decode(cairn_str_from(text), &map, &err) != 0)
        fail_msg("%s: %s", text, err.message);
    return map;
}

static void the_text_says_what_there_is(void **state)
{
    (void)state;
    const struct cairn_map *map, *plan, *done, *back;
    struct cairn_map_shard shards[] = {
        {.id = 12, .planned_weight = 2.5, .url = CAIRN_STR_LITERAL("http://b:81")},
        {.id = 0, .weight = 1, .planned_weight = -0.0}};
    struct cairn_map_spec spec = {.cluster = 0xC0FFEE,
                                  .epoch = 7,
                                  .vnodes = 4,
                                  .shards = shards + 1,
                                  .shards_count = 1,
                                  .last_plan = 3,
                                  .last_outcome = CAIRN_PLAN_SUCCEEDED};
    assert_int_equal(cairn_map_new(&spec, &map, NULL), 0);
    assert_text(map, "{\"cluster\":\"0000000000c0ffee\",\"epoch\":7,\"vnodes\":4,\"home\":\"s0\","
                     "\"shards\":[{\"id\":\"s0\",\"weight\":1.0}],"
                     "\"last_plan\":3,\"last_outcome\":\"succeeded\"}");
    assert_int_equal(cairn_map_with_plan(map, shards, 2, &plan, NULL), 0);
    assert_int_equal(cairn_map_with_done(plan, 0, 12, &done, NULL), 0);
    assert_text(done, "{\"cluster\":\"0000000000c0ffee\",\"epoch\":9,\"vnodes\":4,\"home\":\"s0\","
                      "\"shards\":[{\"id\":\"s0\",\"weight\":1.0,\"planned_weight\":0.0},"
                      "{\"id\":\"s12\",\"weight\":0.0,\"planned_weight\":2.5,"
                      "\"url\":\"http://b:81\"}],\"plan\":8,\"moves_done\":[[0,12]],"
                      "\"last_plan\":3,\"last_outcome\":\"succeeded\"}");
    assert_int_equal(cairn_map_abort(done, &back, NULL), 0);
    assert_text(back, "{\"cluster\":\"0000000000c0ffee\",\"epoch\":10,\"vnodes\":4,\"home\":\"s0\","
                      "\"shards\":[{\"id\":\"s0\",\"weight\":0.0,\"planned_weight\":1.0},"
                      "{\"id\":\"s12\",\"weight\":2.5,\"planned_weight\":0.0,"
                      "\"url\":\"http://b:81\"}],\"plan\":10,\"moves_done\":[],"
                      "\"last_plan\":8,\"last_outcome\":\"aborted\"}");
    cairn_map_unref(map);
    cairn_map_unref(plan);
    cairn_map_unref(done);
    cairn_map_unref(back);
}

/* People may write it with spaces and in their order; it is written back in ours. */
static void any_order_reads_the_same(void **state)
{
    (void)state;
    const struct cairn_map *map =
        decoded("{ \"plan\": 2, \"shards\": [{\"url\": \"http://b:1\", \"id\": \"s3\", "
                "\"planned_weight\": 2, \"weight\": 0}, {\"id\": \"s1\", \"weight\": 1, "
                "\"planned_weight\": 1}], \"home\": \"s1\", \"vnodes\": 8, \"epoch\": 2, "
                "\"cluster\": \"ffffffffffffffff\" }");
    assert_int_equal(map->cluster, UINT64_MAX);
    assert_text(map, "{\"cluster\":\"ffffffffffffffff\",\"epoch\":2,\"vnodes\":8,\"home\":\"s1\","
                     "\"shards\":[{\"id\":\"s1\",\"weight\":1.0,\"planned_weight\":1.0},"
                     "{\"id\":\"s3\",\"weight\":0.0,\"planned_weight\":2.0,"
                     "\"url\":\"http://b:1\"}],\"plan\":2,\"moves_done\":[]}");
    cairn_map_unref(map);
}

#define HEAD   "{\"cluster\":\"00000000000000aa\",\"epoch\":5,\"vnodes\":8,\"home\":\"s0\","
#define SHARDS "\"shards\":[{\"id\":\"s0\",\"weight\":1}]"
#define PLANNED                                                                                    \
    "\"shards\":[{\"id\":\"s0\",\"weight\":1,\"planned_weight\":1},"                               \
    "{\"id\":\"s1\",\"weight\":0,\"planned_weight\":1}]"

static void what_is_no_map_is_corrupt(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "{",
        "{}",
        "[]",
        "null",
        "\xff",
        HEAD SHARDS,
        HEAD "\"shards\":[]}",
        HEAD "\"shards\":{}}",
        HEAD "\"shards\":[1]}",
        HEAD "\"shards\":[{\"id\":\"s0\"}]}",
        HEAD "\"shards\":[{\"weight\":1}]}",
        HEAD "\"shards\":[{\"id\":0,\"weight\":1}]}",
        HEAD "\"shards\":[{\"id\":\"0\",\"weight\":1}]}",
        HEAD "\"shards\":[{\"id\":\"s0\",\"weight\":\"1\"}]}",
        HEAD "\"shards\":[{\"id\":\"s0\",\"weight\":1,\"weight\":1}]}",
        HEAD "\"shards\":[{\"id\":\"s0\",\"weight\":1,\"colour\":1}]}",
        HEAD "\"shards\":[{\"id\":\"s0\",\"weight\":1,\"url\":\"\"}]}",
        HEAD "\"shards\":[{\"id\":\"s0\",\"weight\":1,\"url\":\"x\"}]}",
        HEAD "\"shards\":[{\"id\":\"s0\",\"weight\":1001}]}",
        HEAD "\"shards\":[{\"id\":\"s1\",\"weight\":1}]}",
        HEAD "\"shards\":[{\"id\":\"s0\",\"weight\":1,\"planned_weight\":1}]}",
        HEAD SHARDS ",\"colour\":1}",
        HEAD SHARDS ",\"epoch\":5}",
        HEAD SHARDS ",\"plan\":5}",
        HEAD SHARDS ",\"plan\":0}",
        HEAD SHARDS ",\"moves_done\":[[0,1]]}",
        HEAD SHARDS ",\"last_plan\":4}",
        HEAD SHARDS ",\"last_outcome\":\"aborted\"}",
        HEAD SHARDS ",\"last_plan\":4,\"last_outcome\":\"\"}",
        HEAD SHARDS ",\"last_plan\":5,\"last_outcome\":\"aborted\"}",
        HEAD PLANNED "}",
        HEAD PLANNED ",\"plan\":6}",
        HEAD PLANNED ",\"plan\":5,\"moves_done\":[[1,0]]}",
        HEAD PLANNED ",\"plan\":5,\"moves_done\":[[0,1],[0,1]]}",
        HEAD PLANNED ",\"plan\":5,\"moves_done\":[[0]]}",
        HEAD PLANNED ",\"plan\":5,\"moves_done\":[[0,256]]}",
        HEAD PLANNED ",\"plan\":5,\"moves_done\":[[0,-1]]}",
        HEAD PLANNED ",\"plan\":5,\"moves_done\":0}",
        "{\"cluster\":\"aa\",\"epoch\":5,\"vnodes\":8,\"home\":\"s0\"," SHARDS "}",
        "{\"cluster\":\"00000000000000AA\",\"epoch\":5,\"vnodes\":8,\"home\":\"s0\"," SHARDS "}",
        "{\"cluster\":\"00000000000000aa\",\"epoch\":0,\"vnodes\":8,\"home\":\"s0\"," SHARDS "}",
        "{\"cluster\":\"00000000000000aa\",\"epoch\":5,\"vnodes\":0,\"home\":\"s0\"," SHARDS "}",
        "{\"cluster\":\"00000000000000aa\",\"epoch\":5,\"vnodes\":4097,\"home\":\"s0\"," SHARDS "}",
        "{\"cluster\":\"00000000000000aa\",\"epoch\":5,\"vnodes\":8,\"home\":\"s00\"," SHARDS "}",
        "{\"cluster\":\"00000000000000aa\",\"epoch\":5,\"vnodes\":8," SHARDS "}",
    };
    cairn_map_unref(decoded(HEAD SHARDS "}"));
    cairn_map_unref(decoded(HEAD PLANNED ",\"plan\":5,\"moves_done\":[[0,1]]}"));
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        const struct cairn_map *map;
        struct cairn_error err = {0};
        if (cairn_map_decode(cairn_str_from(texts[i]), &map, &err) != CAIRN_ECORRUPT)
            fail_msg("taken for a map: %s", texts[i]);
        assert_null(map);
        assert_non_null(strstr(err.message, "shard map"));
    }
}

static const struct cairn_map *all_done(const struct cairn_map *plan)
{
    const struct cairn_map *map;
    struct cairn_map_spec spec = {.epoch = plan->epoch,
                                  .vnodes = plan->vnodes,
                                  .home = plan->home,
                                  .shards = plan->shards,
                                  .shards_count = plan->shards_count,
                                  .plan = plan->plan,
                                  .done = plan->moves,
                                  .done_count = plan->moves_count};
    assert_int_equal(cairn_map_new(&spec, &map, NULL), 0);
    return map;
}

/* The longest text: the most shards with the longest URLs, and about all pairs of them done. */
static void the_largest_map_fits_its_limit(void **state)
{
    (void)state;
    static char urls[CAIRN_SHARDS_MAX][CAIRN_URL_BYTES_MAX];
    struct cairn_map_shard shards[CAIRN_SHARDS_MAX];
    memset(urls, 'h', sizeof urls);
    for (uint32_t i = 0; i < CAIRN_SHARDS_MAX; i++) {
        memcpy(urls[i], "https://", 8);
        memcpy(urls[i] + CAIRN_URL_BYTES_MAX - 3, ":80", 3);
        shards[i] = (struct cairn_map_shard){.id = i,
                                             .weight = 1 + 1.0 / 3,
                                             .planned_weight = 2 + 2.0 / 3,
                                             .url = {urls[i], CAIRN_URL_BYTES_MAX}};
    }
    struct cairn_map_spec spec = {.epoch = INT64_MAX - 1,
                                  .vnodes = 1024,
                                  .shards = shards,
                                  .shards_count = CAIRN_SHARDS_MAX,
                                  .plan = INT64_MAX - 2};
    const struct cairn_map *plan, *done, *back;
    struct cairn_buf text = {0};
    assert_int_equal(cairn_map_new(&spec, &plan, NULL), 0);
    done = all_done(plan);
    cairn_map_encode(done, &text);
    /* Per move at most "[255,254],"; what the rings left out must fit too. */
    uint32_t missing = CAIRN_SHARDS_MAX * (CAIRN_SHARDS_MAX - 1) - done->moves_count;
    print_message("%u moves: a text of %zu bytes\n", done->moves_count, text.len);
    assert_true(missing < 2000);
    assert_in_range(text.len, 1, CAIRN_MAP_BYTES_MAX - 10 * missing);
    assert_int_equal(
        cairn_map_decode((struct cairn_str){text.data, (uint32_t)text.len}, &back, NULL), 0);
    assert_int_equal(back->moves_count, done->moves_count);
    cairn_map_unref(plan);
    cairn_map_unref(done);
    cairn_map_unref(back);
    cairn_buf_release(&text);
}

/* The same map behind spaces: readable up to the limit, not a byte over it. */
static void a_longer_text_is_refused(void **state)
{
    (void)state;
    static const char body[] = HEAD SHARDS "}";
    const struct cairn_map *map;
    char *text = cairn_malloc(CAIRN_MAP_BYTES_MAX + 1);
    memset(text, ' ', CAIRN_MAP_BYTES_MAX + 1);
    memcpy(text, body, sizeof body - 1);
    assert_int_equal(
        cairn_map_decode((struct cairn_str){text, CAIRN_MAP_BYTES_MAX + 1}, &map, NULL),
        CAIRN_ECORRUPT);
    assert_null(map);
    assert_int_equal(cairn_map_decode((struct cairn_str){text, CAIRN_MAP_BYTES_MAX}, &map, NULL),
                     0);
    cairn_map_unref(map);
    free(text);
}

static void shards_are_known_by_name_or_number(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "s",
                                      "s256",
                                      "256",
                                      "s-1",
                                      "S1",
                                      "s01",
                                      "007",
                                      " 1",
                                      "1 ",
                                      "s1x",
                                      "ss1",
                                      "1s",
                                      "0x1",
                                      "s+1",
                                      "1.0",
                                      "\xff",
                                      "4294967296",
                                      "s99999999999999999999"};
    uint32_t id = 77;
    assert_int_equal(cairn_shard_id_parse(CAIRN_STR_LITERAL("s12"), &id, NULL), 0);
    assert_int_equal(id, 12);
    assert_int_equal(cairn_shard_id_parse(CAIRN_STR_LITERAL("0"), &id, NULL), 0);
    assert_int_equal(id, 0);
    assert_int_equal(cairn_shard_id_parse(CAIRN_STR_LITERAL("s255"), &id, NULL), 0);
    assert_int_equal(id, 255);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct cairn_error err = {0};
        assert_int_equal(cairn_shard_id_parse(cairn_str_from(bad[i]), &id, &err), CAIRN_EPARAM);
        assert_non_null(strstr(err.message, "s0 to s255"));
        assert_int_equal(id, 255);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_says_what_there_is),
        cmocka_unit_test(any_order_reads_the_same),
        cmocka_unit_test(what_is_no_map_is_corrupt),
        cmocka_unit_test(the_largest_map_fits_its_limit),
        cmocka_unit_test(a_longer_text_is_refused),
        cmocka_unit_test(shards_are_known_by_name_or_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
