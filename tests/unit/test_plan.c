/* What a change makes of the shards, and how changes and jobs travel between processes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/time.h"
#include "router/rebalance.h"

#define URL(text) CAIRN_STR_LITERAL("http://127.0.0.1:" text)

struct fixture {
    struct cairn_arena arena;
    const struct cairn_map *map; /* s0 and s1 of weight 1, s4 of weight 2 */
    struct router_planned planned;
    struct cairn_error err;
};

static int setup(void **state)
{
    struct fixture *f = cairn_calloc(1, sizeof *f);
    const struct cairn_map_shard shards[] = {
        {.id = 0, .weight = 1, .planned_weight = 1, .url = URL("8000")},
        {.id = 1, .weight = 1, .planned_weight = 1, .url = URL("8001")},
        {.id = 4, .weight = 2, .planned_weight = 2, .url = URL("8004")},
    };
    const struct cairn_map_spec spec = {
        .cluster = 7, .epoch = 3, .home = 0, .shards = shards, .shards_count = 3};
    if (cairn_map_new(&spec, &f->map, &f->err) != 0)
        fail_msg("%s", f->err.message);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    cairn_map_unref(f->map);
    cairn_arena_release(&f->arena);
    free(f);
    return 0;
}

static int plan(struct fixture *f, enum cairn_cluster_action action,
                const struct cairn_map_shard *shards, uint32_t count, bool only_add,
                bool only_drain)
{
    const struct cairn_cluster_change change = {.action = action,
                                                .shards = shards,
                                                .shards_count = count,
                                                .only_add = only_add,
                                                .only_drain = only_drain};
    f->err = (struct cairn_error){0};
    return router_plan_shards(f->map, &change, &f->arena, &f->planned, &f->err);
}

static double planned_weight(const struct fixture *f, uint32_t id)
{
    for (uint32_t i = 0; i < f->planned.count; i++)
        if (f->planned.shards[i].id == id)
            return f->planned.shards[i].planned_weight;
    return -1;
}

static void expect_weights(const struct fixture *f, double s0, double s1, double s2, double s4)
{
    assert_float_equal(planned_weight(f, 0), s0, 0);
    assert_float_equal(planned_weight(f, 1), s1, 0);
    assert_float_equal(planned_weight(f, 2), s2, 0);
    assert_float_equal(planned_weight(f, 4), s4, 0);
}

static void a_shard_is_added(void **state)
{
    struct fixture *f = *state;
    struct cairn_map_shard shard = {.id = 2, .url = URL("8002")};
    assert_int_equal(plan(f, CAIRN_CLUSTER_SET, &shard, 1, false, false), 0);
    expect_weights(f, 1, 1, 1, 2);
    assert_true(f->planned.weights_differ && f->planned.urls_differ);
    assert_float_equal(f->planned.shards[3].weight, 0, 0);
    shard.planned_weight = 2.5;
    assert_int_equal(plan(f, CAIRN_CLUSTER_SET, &shard, 1, false, false), 0);
    expect_weights(f, 1, 1, 2.5, 2);
    shard.url.len = 0;
    assert_int_equal(plan(f, CAIRN_CLUSTER_SET, &shard, 1, false, false), CAIRN_EPARAM);
    assert_non_null(strstr(f->err.message, "url: shard s2 is new"));
}

static void a_known_shard_is_changed(void **state)
{
    struct fixture *f = *state;
    struct cairn_map_shard shard = {.id = 4, .url = URL("8004"), .planned_weight = 2};
    assert_int_equal(plan(f, CAIRN_CLUSTER_SET, &shard, 1, false, false), 0);
    assert_false(f->planned.weights_differ || f->planned.urls_differ);
    shard.planned_weight = 0.5;
    assert_int_equal(plan(f, CAIRN_CLUSTER_SET, &shard, 1, false, false), 0);
    assert_true(f->planned.weights_differ && !f->planned.urls_differ);
    expect_weights(f, 1, 1, -1, 0.5);
    shard = (struct cairn_map_shard){.id = 1, .url = URL("9001")};
    assert_int_equal(plan(f, CAIRN_CLUSTER_SET, &shard, 1, false, false), 0);
    assert_true(!f->planned.weights_differ && f->planned.urls_differ);
    assert_true(cairn_str_eq(f->planned.shards[1].url, shard.url));
}

static void shards_are_drained_but_not_the_last(void **state)
{
    struct fixture *f = *state;
    struct cairn_map_shard shard = {.id = 1};
    assert_int_equal(plan(f, CAIRN_CLUSTER_REMOVE, &shard, 1, false, false), 0);
    expect_weights(f, 1, 0, -1, 2);
    shard.id = 3;
    assert_int_equal(plan(f, CAIRN_CLUSTER_REMOVE, &shard, 1, false, false), CAIRN_ENOTFOUND);
    assert_non_null(strstr(f->err.message, "s3"));

    const struct cairn_map_shard alone = {
        .id = 9, .weight = 1, .planned_weight = 1, .url = URL("8009")};
    const struct cairn_map_spec spec = {
        .cluster = 7, .epoch = 1, .home = 9, .shards = &alone, .shards_count = 1};
    const struct cairn_map *whole = f->map;
    assert_int_equal(cairn_map_new(&spec, &f->map, &f->err), 0);
    shard.id = 9;
    assert_int_equal(plan(f, CAIRN_CLUSTER_REMOVE, &shard, 1, false, false), CAIRN_EPARAM);
    assert_non_null(strstr(f->err.message, "the last shard"));
    cairn_map_unref(f->map);
    f->map = whole;
}

static void the_set_of_shards_is_replaced(void **state)
{
    struct fixture *f = *state;
    const struct cairn_map_shard shards[] = {{.id = 4}, {.id = 2, .url = URL("8002")}};
    assert_int_equal(plan(f, CAIRN_CLUSTER_TO, shards, 2, false, false), 0);
    expect_weights(f, 0, 0, 1, 2);
    assert_int_equal(plan(f, CAIRN_CLUSTER_TO, shards, 2, true, false), 0);
    expect_weights(f, 1, 1, 1, 2);
    assert_int_equal(plan(f, CAIRN_CLUSTER_TO, shards, 2, false, true), 0);
    expect_weights(f, 0, 0, -1, 2);
    assert_int_equal(plan(f, CAIRN_CLUSTER_TO, shards, 2, true, true), CAIRN_EPARAM);

    const struct cairn_map_shard same[] = {{.id = 4}, {.id = 1}, {.id = 0}};
    assert_int_equal(plan(f, CAIRN_CLUSTER_TO, same, 3, false, false), 0);
    assert_false(f->planned.weights_differ || f->planned.urls_differ);

    const struct cairn_map_shard twice[] = {{.id = 4}, {.id = 4}};
    assert_int_equal(plan(f, CAIRN_CLUSTER_TO, twice, 2, false, false), CAIRN_EPARAM);
    assert_non_null(strstr(f->err.message, "shards[1].id"));
}

static void shards_are_limited(void **state)
{
    struct fixture *f = *state;
    struct cairn_map_shard shards[CAIRN_SHARDS_MAX];
    char urls[CAIRN_SHARDS_MAX][32];
    for (uint32_t i = 0; i < CAIRN_SHARDS_MAX; i++) {
        snprintf(urls[i], sizeof urls[i], "http://127.0.0.1:%u", 9000 + i);
        shards[i] = (struct cairn_map_shard){.id = i, .url = cairn_str_from(urls[i])};
    }
    assert_int_equal(plan(f, CAIRN_CLUSTER_TO, shards, CAIRN_SHARDS_MAX, false, false), 0);
    assert_int_equal(f->planned.count, CAIRN_SHARDS_MAX);
    shards[0].id = CAIRN_SHARDS_MAX; /* one more than there may be, since s0 is known */
    assert_int_equal(plan(f, CAIRN_CLUSTER_TO, shards, CAIRN_SHARDS_MAX, false, false),
                     CAIRN_EPARAM);
    char url[CAIRN_URL_BYTES_MAX + 2];
    memset(url, 'a', sizeof url);
    const struct cairn_map_shard longest = {.id = 2, .url = {url, CAIRN_URL_BYTES_MAX}};
    assert_int_equal(plan(f, CAIRN_CLUSTER_SET, &longest, 1, false, false), 0);
    const struct cairn_map_shard longer = {.id = 2, .url = {url, CAIRN_URL_BYTES_MAX + 1}};
    assert_int_equal(plan(f, CAIRN_CLUSTER_SET, &longer, 1, false, false), CAIRN_EPARAM);
}

static int decode_change(struct fixture *f, struct cairn_str text, struct cairn_cluster_change *out)
{
    struct cairn_json_parser *parser = cairn_json_parser_new();
    struct cairn_json root;
    assert_int_equal(cairn_json_parse(parser, text, &root, &f->err), 0);
    int code = router_change_decode(root, &f->arena, out, &f->err);
    cairn_json_parser_free(&parser);
    return code;
}

static void changes_are_written_and_read(void **state)
{
    struct fixture *f = *state;
    struct cairn_buf text = {0};
    const struct cairn_map_shard shards[] = {
        {.id = 4, .planned_weight = 0.25, .url = {"", 0}},
        {.id = CAIRN_SHARDS_MAX - 1, .url = URL("8002")},
    };
    const struct cairn_cluster_change change = {
        .action = CAIRN_CLUSTER_TO, .shards = shards, .shards_count = 2, .only_drain = true};
    struct cairn_cluster_change read;
    router_change_encode(&change, &text);
    assert_int_equal(decode_change(f, (struct cairn_str){text.data, (uint32_t)text.len}, &read), 0);
    assert_int_equal(read.action, CAIRN_CLUSTER_TO);
    assert_int_equal(read.shards_count, 2);
    assert_true(read.only_drain && !read.only_add);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(read.shards[i].id, shards[i].id);
        assert_true(cairn_str_eq(read.shards[i].url, shards[i].url));
        assert_float_equal(read.shards[i].planned_weight, shards[i].planned_weight, 0);
    }
    cairn_buf_release(&text);
    static const char *const wrong[] = {
        "{}",
        "{\"action\":\"explode\"}",
        "{\"action\":\"set\",\"shards\":7}",
        "{\"action\":\"set\",\"shards\":[{}]}",
        "{\"action\":\"set\",\"shards\":[{\"id\":256}]}",
        "{\"action\":\"set\",\"shards\":[{\"id\":1,\"url\":1}]}",
        "{\"action\":\"set\",\"shards\":[{\"id\":1,\"weight\":\"1\"}]}",
    };
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (decode_change(f, cairn_str_from(wrong[i]), &read) != CAIRN_EPARAM)
            fail_msg("%s was taken", wrong[i]);
}

static void jobs_are_written_and_read(void **state)
{
    struct fixture *f = *state;
    const struct cairn_move_status moves[] = {
        {.source = 0,
         .target = 255,
         .step = CAIRN_MOVE_CUTTING_OVER,
         .records = 10,
         .bytes = 2000,
         .reached = 17,
         .end_offset = 20,
         .held_us = 12345,
         .tries = 2,
         .digest = {0xFEDCBA9876543210, 0x8000000000000001}},
        {.source = 1, .target = 0},
    };
    const struct cairn_job_status jobs[] = {
        {.plan = 9,
         .state = CAIRN_JOB_PAUSED,
         .started_us = 1700000000000000,
         .ended_us = CAIRN_TIME_NONE,
         .done = 17,
         .total = 20,
         .records = 10,
         .bytes = 2000,
         .rate_per_s = 1.5,
         .eta_s = -1,
         .error = CAIRN_STR_LITERAL("s2 says \"no\""),
         .moves = moves,
         .moves_count = 2},
        {.plan = 3, .state = CAIRN_JOB_CANCELLED, .error = {"", 0}},
    };
    struct cairn_buf text = {0};
    struct cairn_json_parser *parser = cairn_json_parser_new();
    struct cairn_json root;
    struct cairn_job_status *read;
    uint32_t count;
    router_jobs_encode(jobs, 2, &text);
    assert_int_equal(
        cairn_json_parse(parser, (struct cairn_str){text.data, (uint32_t)text.len}, &root, &f->err),
        0);
    assert_int_equal(router_jobs_decode(root, &f->arena, &read, &count, &f->err), 0);
    cairn_json_parser_free(&parser);
    assert_int_equal(count, 2);
    assert_int_equal(read[0].plan, 9);
    assert_int_equal(read[0].state, CAIRN_JOB_PAUSED);
    assert_int_equal(read[0].started_us, 1700000000000000);
    assert_true(read[0].ended_us == CAIRN_TIME_NONE);
    assert_int_equal(read[0].done, 17);
    assert_int_equal(read[0].total, 20);
    assert_float_equal(read[0].rate_per_s, 1.5, 0);
    assert_float_equal(read[0].eta_s, -1, 0);
    assert_true(cairn_str_eq(read[0].error, jobs[0].error));
    assert_int_equal(read[0].moves_count, 2);
    assert_memory_equal(&read[0].moves[0], &moves[0], sizeof moves[0]);
    assert_int_equal(read[1].plan, 3);
    assert_int_equal(read[1].moves_count, 0);
    cairn_buf_release(&text);
}

static void speeds_are_sampled_once_a_second(void **state)
{
    struct router_rate rate = {0};
    (void)state;
    router_rate_sample(&rate, 1000000, 500);
    assert_float_equal(rate.per_s, 0, 0);
    router_rate_sample(&rate, 1999999, 5000); /* too early */
    assert_float_equal(rate.per_s, 0, 0);
    router_rate_sample(&rate, 3000000, 1500);
    assert_float_equal(rate.per_s, 500, 1e-9);
    router_rate_sample(&rate, 4000000, 3500); /* 2,000 in a second, counted by four tenths */
    assert_float_equal(rate.per_s, 1100, 1e-9);
    router_rate_sample(&rate, 5000000, 0); /* a copy that begins again */
    assert_float_equal(rate.per_s, 660, 1e-9);
}

static void moves_add_up(void **state)
{
    (void)state;
    struct cairn_move_status moves[] = {
        {.step = CAIRN_MOVE_CLEANING_UP,
         .reached = 90,
         .end_offset = 100,
         .records = 5,
         .bytes = 50},
        {.step = CAIRN_MOVE_COPYING, .reached = 40, .end_offset = 140, .records = 2, .bytes = 20},
        {.step = CAIRN_MOVE_WAITING, .end_offset = 60},
    };
    struct router_job job = {.status = {.state = CAIRN_JOB_RUNNING, .moves_count = 3},
                             .moves = moves};
    router_job_sum(&job, 1000000);
    assert_int_equal(job.status.total, 300);
    assert_int_equal(job.status.done, 140);
    assert_int_equal(job.status.records, 7);
    assert_int_equal(job.status.bytes, 70);
    assert_float_equal(job.status.eta_s, -1, 0);
    moves[1].reached = 60;
    router_job_sum(&job, 2000000); /* 20 offsets in a second, 140 to go */
    assert_float_equal(job.status.eta_s, 7, 1e-9);
    job.status.state = CAIRN_JOB_PAUSED;
    router_job_sum(&job, 2000001);
    assert_float_equal(job.status.eta_s, -1, 0);
    job.status.state = CAIRN_JOB_SUCCEEDED;
    router_job_sum(&job, 2000002);
    assert_float_equal(job.status.eta_s, 0, 0);
}

/* Jobs follow the maps that a plan goes through; this is all that is known after a restart too. */
static void jobs_follow_the_map(void **state)
{
    struct fixture *f = *state;
    struct router_rebalance rebalance = {.router = NULL};
    const struct cairn_map *maps[4] = {f->map};
    struct cairn_job_status *jobs;
    uint32_t count, made = 1;
    struct cairn_map_shard shard = {.id = 2, .url = URL("8002")};
    pthread_mutex_init(&rebalance.lock, NULL);
    router_jobs_follow(&rebalance, f->map);
    router_jobs_copy(&rebalance, &f->arena, &jobs, &count);
    assert_int_equal(count, 0);

    assert_int_equal(plan(f, CAIRN_CLUSTER_SET, &shard, 1, false, false), 0);
    assert_int_equal(
        cairn_map_with_plan(f->map, f->planned.shards, f->planned.count, &maps[made++], &f->err),
        0);
    router_jobs_follow(&rebalance, maps[1]);
    router_jobs_follow(&rebalance, maps[1]);
    router_jobs_copy(&rebalance, &f->arena, &jobs, &count);
    assert_int_equal(count, 1);
    assert_int_equal(jobs[0].plan, maps[1]->plan);
    assert_int_equal(jobs[0].state, CAIRN_JOB_RUNNING);
    assert_int_equal(jobs[0].moves_count, 3);
    assert_int_equal(jobs[0].moves[0].step, CAIRN_MOVE_WAITING);

    router_job_set(&rebalance, maps[1]->plan, CAIRN_JOB_FAILED,
                   &(struct cairn_error){.message = "differs"});
    assert_int_equal(cairn_map_abort(maps[1], &maps[made++], &f->err), 0);
    router_jobs_follow(&rebalance, maps[2]);
    router_jobs_copy(&rebalance, &f->arena, &jobs, &count);
    assert_int_equal(count, 1);
    assert_int_equal(jobs[0].state, CAIRN_JOB_CANCELLED);
    assert_true(jobs[0].ended_us != CAIRN_TIME_NONE);
    assert_int_equal(jobs[0].error.len, 0);
    router_job_set(&rebalance, maps[1]->plan, CAIRN_JOB_RUNNING, NULL); /* it has ended */
    router_jobs_copy(&rebalance, &f->arena, &jobs, &count);
    assert_int_equal(jobs[0].state, CAIRN_JOB_CANCELLED);
    router_jobs_free(&rebalance);

    router_jobs_follow(&rebalance, maps[2]); /* after a restart */
    router_jobs_copy(&rebalance, &f->arena, &jobs, &count);
    assert_int_equal(count, 1);
    assert_int_equal(jobs[0].plan, maps[1]->plan);
    assert_int_equal(jobs[0].state, CAIRN_JOB_CANCELLED);
    router_jobs_free(&rebalance);
    for (uint32_t i = 1; i < made; i++)
        cairn_map_unref(maps[i]);
    pthread_mutex_destroy(&rebalance.lock);
}

/* Ended jobs are forgotten, the oldest first. */
static void jobs_are_limited(void **state)
{
    struct router_rebalance rebalance = {.router = NULL};
    struct cairn_arena arena = {0};
    struct cairn_job_status *jobs;
    uint32_t count;
    (void)state;
    pthread_mutex_init(&rebalance.lock, NULL);
    for (uint64_t last = 1; last <= CAIRN_JOBS_KEPT_MAX + 5; last++) {
        const struct cairn_map map = {.last_plan = last, .last_outcome = CAIRN_PLAN_SUCCEEDED};
        router_jobs_follow(&rebalance, &map);
    }
    router_jobs_copy(&rebalance, &arena, &jobs, &count);
    assert_int_equal(count, CAIRN_JOBS_KEPT_MAX + 1);
    assert_int_equal(jobs[0].plan, CAIRN_JOBS_KEPT_MAX + 5);
    assert_int_equal(jobs[count - 1].plan, 5);
    router_jobs_free(&rebalance);
    cairn_arena_release(&arena);
    pthread_mutex_destroy(&rebalance.lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_shard_is_added, setup, teardown),
        cmocka_unit_test_setup_teardown(a_known_shard_is_changed, setup, teardown),
        cmocka_unit_test_setup_teardown(shards_are_drained_but_not_the_last, setup, teardown),
        cmocka_unit_test_setup_teardown(the_set_of_shards_is_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(shards_are_limited, setup, teardown),
        cmocka_unit_test_setup_teardown(changes_are_written_and_read, setup, teardown),
        cmocka_unit_test_setup_teardown(jobs_are_written_and_read, setup, teardown),
        cmocka_unit_test(speeds_are_sampled_once_a_second),
        cmocka_unit_test(moves_add_up),
        cmocka_unit_test_setup_teardown(jobs_follow_the_map, setup, teardown),
        cmocka_unit_test(jobs_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
