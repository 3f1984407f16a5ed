/* Plans carried out between real shards of two "processes": two routers that have nothing but what
 * moves need, with calls that may fail. The rest of the router is not linked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/hash.h"
#include "base/time.h"
#include "featurestore/log.h"
#include "router/rebalance.h"
#include "tests/lib/fixtures.h"
#include "tests/lib/testing.h"

#define COLLECTION  7u
#define KEYS        200u
#define SHARDS      3u /* s0 and s1 in the first process, s2 in the second */
#define DEADLINE_US UINT64_C(30000000)

enum fault {
    FAULT_NONE,
    FAULT_LOST_REQUEST, /* the call never arrives */
    FAULT_LOST_ANSWER,  /* it is carried out, and nobody hears of it */
};

struct process {
    struct cairn_router router; /* first: a router is its process */
    const struct cairn_map *map;
    pthread_mutex_t lock;  /* guards map */
    pthread_rwlock_t gate; /* guards up; held over calls from the other process */
    bool up;
};

static struct cluster {
    struct cairn_test_dir dir;
    char paths[SHARDS][CAIRN_TEST_PATH_BYTES];
    struct cairn_shard *shards[SHARDS];
    struct process processes[2];
    const struct cairn_schema *schema;
    struct cairn_arena arena;
    int64_t values[KEYS];

    atomic_uint calls; /* between processes */
    atomic_uint fail_at;
    atomic_int fault;
    atomic_int fail_source; /* imports from this shard cannot begin; -1: all can */
    atomic_bool damage;     /* exports lose a record */
} * c;

static uint32_t process_of(uint32_t shard)
{
    return shard == 2 ? 1 : 0;
}

const struct cairn_map *router_map(struct cairn_router *router)
{
    struct process *process = (struct process *)router;
    pthread_mutex_lock(&process->lock);
    const struct cairn_map *map = process->map != NULL ? cairn_map_ref(process->map) : NULL;
    pthread_mutex_unlock(&process->lock);
    return map;
}

void router_learn(struct cairn_router *router, const struct cairn_map *map)
{
    struct process *process = (struct process *)router;
    pthread_mutex_lock(&process->lock);
    bool newer = process->map == NULL || map->epoch > process->map->epoch;
    if (newer) {
        cairn_map_unref(process->map);
        process->map = cairn_map_ref(map);
    }
    pthread_mutex_unlock(&process->lock);
    if (newer)
        router_rebalance_wake(router);
}

void router_learn_text(struct cairn_router *router, struct cairn_str text)
{
    const struct cairn_map *map;
    if (text.len == 0 || cairn_map_decode(text, &map, NULL) != 0)
        return;
    router_learn(router, map);
    cairn_map_unref(map);
}

struct cairn_shard *router_local(struct cairn_router *router, uint32_t id)
{
    return id < SHARDS && router == &c->processes[process_of(id)].router ? c->shards[id] : NULL;
}

static void carry_out(struct cairn_router *router, uint32_t shard, enum cairn_shard_op op,
                      struct cairn_shard_request *request, struct cairn_arena *arena,
                      struct cairn_shard_answer *answer)
{
    if (op == CAIRN_SHARD_IMPORT)
        (void)router_import_start(router, shard, request, answer);
    else if (op == CAIRN_SHARD_IMPORT_STATE)
        (void)router_import_state(router, shard, request, arena, answer);
    else if (op == CAIRN_SHARD_CLUSTER)
        (void)router_cluster_serve(router, request, arena, answer);
    else
        cairn_shard_execute(c->shards[shard], op, request, arena, answer);
    if (op == CAIRN_SHARD_EXPORT && answer->records_count > 3 && atomic_load(&c->damage))
        answer->records_count--;
    /* Shards learn maps; their process's router sees them. */
    const struct cairn_map *map = cairn_shard_map(c->shards[shard]);
    if (map != NULL)
        router_learn(router, map);
    cairn_map_unref(map);
}

int router_call_url(struct cairn_router *router, struct cairn_str url, uint32_t shard,
                    enum cairn_shard_op op, struct cairn_shard_request *request,
                    struct cairn_arena *arena, struct cairn_shard_answer *answer,
                    uint64_t deadline_us)
{
    (void)router;
    (void)deadline_us;
    *answer = (struct cairn_shard_answer){0};
    uint32_t at = url.len > 0 ? (uint32_t)(url.ptr[url.len - 1] - '1') : SHARDS;
    unsigned call = atomic_fetch_add(&c->calls, 1) + 1;
    bool fails =
        call == atomic_load(&c->fail_at) ||
        (op == CAIRN_SHARD_IMPORT && (int)request->move.source == atomic_load(&c->fail_source));
    bool lost = fails && atomic_load(&c->fault) == FAULT_LOST_REQUEST;
    bool there = at < 2 && shard < SHARDS && process_of(shard) == at;
    if (there)
        pthread_rwlock_rdlock(&c->processes[at].gate);
    if (!lost && there && c->processes[at].up)
        carry_out(&c->processes[at].router, shard, op, request, arena, answer);
    else if (!lost)
        cairn_fail(&answer->error, CAIRN_EUNAVAILABLE, "nobody answers there");
    if (there)
        pthread_rwlock_unlock(&c->processes[at].gate);
    if (fails) {
        *answer = (struct cairn_shard_answer){0};
        cairn_fail(&answer->error, CAIRN_EUNAVAILABLE, "the connection broke");
    }
    return answer->error.code;
}

int router_catalog_complete(struct cairn_router *router, uint32_t shard, uint64_t deadline_us,
                            struct cairn_error *err)
{
    (void)router;
    (void)shard;
    (void)deadline_us;
    (void)err;
    return 0; /* setup writes the schema to all */
}

static void check(int code, const struct cairn_error *err)
{
    if (code != 0)
        fail_msg("%s: %s", cairn_code_word(code), err->message);
}

static void open_shard(uint32_t id)
{
    struct cairn_error err = {0};
    struct cairn_shard_options options = {
        .dir = c->paths[id], .id = id, .segment_bytes_max = 64 << 10, .forget_after_ms = 1};
    check(cairn_shard_open(&options, &c->shards[id], &err), &err);
}

static void open_process(uint32_t at)
{
    struct cairn_error err = {0};
    struct process *process = &c->processes[at];
    static char urls[2][16];
    (void)snprintf(urls[at], sizeof urls[at], "http://p:%u", at + 1);
    process->router.io = cairn_io_posix();
    process->router.copy_share_percent = 100;
    atomic_store(&process->router.advertise, urls[at]);
    for (uint32_t id = 0; id < SHARDS; id++) {
        const struct cairn_map *map = process_of(id) == at ? cairn_shard_map(c->shards[id]) : NULL;
        if (map != NULL)
            router_learn(&process->router, map);
        cairn_map_unref(map);
    }
    check(router_rebalance_open(&process->router, &err), &err);
    pthread_rwlock_wrlock(&process->gate);
    process->up = true;
    pthread_rwlock_unlock(&process->gate);
}

static void close_process(uint32_t at)
{
    pthread_rwlock_wrlock(&c->processes[at].gate);
    c->processes[at].up = false;
    pthread_rwlock_unlock(&c->processes[at].gate);
    router_rebalance_close(&c->processes[at].router);
    router_rebalance_free(&c->processes[at].router);
    cairn_map_unref(c->processes[at].map);
    c->processes[at].map = NULL;
}

static struct cairn_shard_item item_of(uint32_t i, int64_t n)
{
    char key[16];
    (void)snprintf(key, sizeof key, "key-%u", i);
    struct cairn_str kept = cairn_arena_dup(&c->arena, cairn_str_from(key));
    return (struct cairn_shard_item){.kind = CAIRN_RECORD_ENTITY,
                                     .collection = COLLECTION,
                                     .token = cairn_token(c->schema->name, kept),
                                     .payload = cairn_test_entity(&c->arena, key, "", n, NULL, 0),
                                     .key = kept,
                                     .if_offset = CAIRN_OFFSET_NONE};
}

/* Write as a router does: to the owner, and again when it is not it any more. */
static void put(uint32_t i, int64_t n)
{
    struct cairn_shard_item item = item_of(i, n);
    uint64_t until_us = cairn_time_monotonic_us() + DEADLINE_US;
    for (;;) {
        struct cairn_error err = {0};
        struct cairn_write_result result;
        const struct cairn_map *map = router_map(&c->processes[0].router);
        uint32_t owner = cairn_map_owner(map, item.token);
        cairn_map_unref(map);
        int code = cairn_test_shard_write(c->shards[owner], &item, 1, &result, &err);
        if (code == 0)
            break;
        if (code != CAIRN_ENOTOWNER || cairn_time_monotonic_us() > until_us)
            check(code, &err);
        map = cairn_shard_map(c->shards[owner]);
        router_learn(&c->processes[0].router, map);
        cairn_map_unref(map);
    }
    c->values[i] = n;
}

static void write_schema(uint32_t id)
{
    struct cairn_buf text = {0};
    struct cairn_error err = {0};
    struct cairn_write_result result;
    cairn_schema_encode(c->schema, &text);
    struct cairn_shard_item item = {.kind = CAIRN_RECORD_SCHEMA,
                                    .collection = COLLECTION,
                                    .token = cairn_token(c->schema->name, c->schema->name),
                                    .payload = {text.data, (uint32_t)text.len},
                                    .if_offset = CAIRN_OFFSET_NONE};
    check(cairn_test_shard_write(c->shards[id], &item, 1, &result, &err), &err);
    cairn_buf_release(&text);
}

static int setup(void **state)
{
    const struct cairn_map_shard first[] = {
        {.id = 0, .weight = 1, .planned_weight = 1, .url = CAIRN_STR_LITERAL("http://p:1")},
        {.id = 1, .weight = 1, .planned_weight = 1, .url = CAIRN_STR_LITERAL("http://p:1")},
    };
    const struct cairn_map_spec spec = {
        .cluster = 42, .epoch = 1, .home = 0, .shards = first, .shards_count = 2};
    const struct cairn_map *map = NULL;
    struct cairn_error err = {0};
    (void)state;
    c = cairn_calloc(1, sizeof *c);
    atomic_store(&c->fail_source, -1);
    cairn_test_dir_make(&c->dir);
    const struct cairn_schema *plain =
        cairn_test_schema("c", "{\"features\":{\"n\":{\"type\":\"int64\"}}}");
    c->schema = cairn_schema_with_identity(plain, COLLECTION, 1, 1, false);
    cairn_schema_unref(plain);
    check(cairn_map_new(&spec, &map, &err), &err);
    for (uint32_t id = 0; id < SHARDS; id++) {
        char name[16];
        (void)snprintf(name, sizeof name, "s%u", id);
        cairn_test_dir_path(&c->dir, name, c->paths[id]);
        open_shard(id);
        if (id < 2)
            check(cairn_shard_adopt(c->shards[id], map, CAIRN_OFFSET_NONE, &err), &err);
        write_schema(id);
    }
    cairn_map_unref(map);
    for (uint32_t at = 0; at < 2; at++) {
        pthread_mutex_init(&c->processes[at].lock, NULL);
        pthread_rwlock_init(&c->processes[at].gate, NULL);
    }
    for (uint32_t at = 0; at < 2; at++)
        open_process(at);
    for (uint32_t i = 0; i < KEYS; i++)
        put(i, i);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (uint32_t at = 0; at < 2; at++)
        close_process(at);
    for (uint32_t at = 0; at < 2; at++) {
        pthread_mutex_destroy(&c->processes[at].lock);
        pthread_rwlock_destroy(&c->processes[at].gate);
    }
    for (uint32_t id = 0; id < SHARDS; id++)
        cairn_shard_close(&c->shards[id]);
    cairn_schema_unref(c->schema);
    cairn_arena_release(&c->arena);
    cairn_test_dir_remove(&c->dir);
    free(c);
    c = NULL;
    return 0;
}

static void pause_ms(unsigned ms)
{
    struct timespec pause = {.tv_nsec = (long)ms * 1000000};
    (void)nanosleep(&pause, NULL);
}

static int change(uint32_t at, enum cairn_cluster_action action,
                  const struct cairn_map_shard *shard, uint64_t *plan, struct cairn_error *err)
{
    const struct cairn_cluster_change asked = {
        .action = action, .shards = shard, .shards_count = shard != NULL};
    return cairn_cluster_change(&c->processes[at].router, &asked, plan, err);
}

static uint64_t add_s2(uint32_t at)
{
    const struct cairn_map_shard s2 = {.id = 2, .url = CAIRN_STR_LITERAL("http://p:2")};
    struct cairn_error err = {0};
    uint64_t plan;
    check(change(at, CAIRN_CLUSTER_SET, &s2, &plan, &err), &err);
    assert_true(plan > 0);
    return plan;
}

/* Poll the job until it is in one of the two states. */
static enum cairn_job_state wait_for(uint64_t plan, enum cairn_job_state one,
                                     enum cairn_job_state other)
{
    uint64_t until_us = cairn_time_monotonic_us() + DEADLINE_US;
    for (;;) {
        struct cairn_arena arena = {0};
        struct cairn_job_status *jobs;
        struct cairn_error err = {0};
        enum cairn_job_state now = CAIRN_JOB_QUEUED;
        char why[512] = "there is no such job";
        uint32_t count = 0;
        if (cairn_cluster_jobs(&c->processes[0].router, &arena, &jobs, &count, &err) != 0)
            (void)snprintf(why, sizeof why, "%s", err.message);
        for (uint32_t i = 0; i < count; i++)
            if (jobs[i].plan == plan) {
                now = jobs[i].state;
                (void)snprintf(why, sizeof why, "%s %.*s", cairn_job_state_name(now),
                               CAIRN_STR_ARG(jobs[i].error));
            }
        cairn_arena_release(&arena);
        if (now == one || now == other)
            return now;
        if (cairn_time_monotonic_us() > until_us)
            fail_msg("rebalance-%llu does not come to its end: %s", (unsigned long long)plan, why);
        pause_ms(2);
    }
}

static void expect_success(uint64_t plan)
{
    assert_int_equal(wait_for(plan, CAIRN_JOB_SUCCEEDED, CAIRN_JOB_FAILED), CAIRN_JOB_SUCCEEDED);
}

/* Wait until all shards have the newest map and no row of another's. */
static const struct cairn_map *settle(void)
{
    uint64_t until_us = cairn_time_monotonic_us() + DEADLINE_US;
    for (uint32_t id = 0; id < SHARDS; id++)
        for (;;) {
            const struct cairn_map *map = router_map(&c->processes[0].router);
            struct cairn_arena arena = {0};
            struct cairn_shard_report report;
            cairn_shard_report(c->shards[id], &arena, &report);
            bool settled = report.foreign == 0 && cairn_shard_epoch(c->shards[id]) == map->epoch;
            bool left = cairn_map_shard(map, id) == NULL && report.foreign == 0;
            cairn_arena_release(&arena);
            /* Who missed a map gets it from the watch thread of a whole router. */
            if (cairn_shard_epoch(c->shards[id]) < map->epoch)
                (void)cairn_shard_adopt(c->shards[id], map, CAIRN_OFFSET_NONE, NULL);
            cairn_map_unref(map);
            if (settled || left)
                break;
            if (cairn_time_monotonic_us() > until_us)
                fail_msg("s%u has not settled: epoch %llu, %llu rows of others", id,
                         (unsigned long long)cairn_shard_epoch(c->shards[id]),
                         (unsigned long long)report.foreign);
            pause_ms(2);
        }
    return router_map(&c->processes[0].router);
}

/* Every key is where the map says, with its value; the counts agree. Takes the map's reference. */
static void expect_all(const struct cairn_map *map)
{
    uint64_t counted = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "key-%u", i);
        uint32_t owner = cairn_map_owner(map, cairn_token(c->schema->name, cairn_str_from(key)));
        int64_t value = cairn_test_shard_read(c->shards[owner], COLLECTION, key);
        if (value != c->values[i])
            fail_msg("%s on s%u is %lld, not %lld", key, owner, (long long)value,
                     (long long)c->values[i]);
    }
    for (uint32_t id = 0; id < SHARDS; id++) {
        struct cairn_arena arena = {0};
        struct cairn_shard_report report;
        cairn_shard_report(c->shards[id], &arena, &report);
        counted += report.entities;
        cairn_arena_release(&arena);
    }
    assert_int_equal(counted, KEYS);
    cairn_map_unref(map);
}

static void a_shard_is_added_and_the_first_process_is_drained(void **state)
{
    struct cairn_map_shard shard = {.id = 0};
    struct cairn_error err = {0};
    uint64_t plan;
    (void)state;
    expect_success(add_s2(0));
    const struct cairn_map *map = settle();
    assert_int_equal(map->shards_count, 3);
    assert_int_equal(map->plan, 0);
    assert_true(cairn_map_share(map, 2) > 0.2);
    expect_all(map);
    for (shard.id = 0; shard.id < 2; shard.id++) { /* home goes to s1, then to the other process */
        check(change(0, CAIRN_CLUSTER_REMOVE, &shard, &plan, &err), &err);
        expect_success(plan);
        expect_all(settle());
    }
    map = settle();
    assert_int_equal(map->shards_count, 1);
    assert_int_equal(map->home, 2);
    cairn_map_unref(map);
    shard.id = 2;
    assert_int_equal(change(0, CAIRN_CLUSTER_REMOVE, &shard, &plan, &err), CAIRN_EPARAM);
}

static void writes_go_on_while_keys_move(void **state)
{
    uint64_t seed = cairn_test_seed();
    (void)state;
    c->processes[0].router.copy_share_percent = c->processes[1].router.copy_share_percent = 50;
    uint64_t plan = add_s2(0);
    int64_t n = 1000;
    bool running = true;
    while (running) {
        for (unsigned i = 0; i < 20; i++)
            put((uint32_t)cairn_test_random_below(&seed, KEYS), n++);
        cairn_arena_reset(&c->arena);
        const struct cairn_map *map = router_map(&c->processes[0].router);
        running = map->plan == plan;
        cairn_map_unref(map);
    }
    expect_success(plan);
    expect_all(settle());
}

static void another_process_asks_home(void **state)
{
    const struct cairn_map_shard s1 = {.id = 1, .planned_weight = 4};
    struct cairn_error err = {0};
    uint64_t plan;
    (void)state;
    expect_success(add_s2(0));
    const struct cairn_map *map = settle();
    router_learn(&c->processes[1].router, map);
    cairn_map_unref(map);
    check(change(1, CAIRN_CLUSTER_SET, &s1, &plan, &err), &err);
    struct cairn_arena arena = {0};
    struct cairn_job_status *jobs;
    uint32_t count;
    check(cairn_cluster_jobs(&c->processes[1].router, &arena, &jobs, &count, &err), &err);
    assert_int_equal(count, 2);
    assert_int_equal(jobs[0].plan, plan);
    cairn_arena_release(&arena);
    expect_success(plan);
    assert_int_equal(change(1, CAIRN_CLUSTER_ABORT, NULL, &plan, &err), CAIRN_ENOTFOUND);
    assert_int_equal(change(1, CAIRN_CLUSTER_RESUME, NULL, &plan, &err), CAIRN_ENOTFOUND);
    expect_all(settle());
}

static void nonsense_is_refused(void **state)
{
    struct cairn_map_shard shard = {.id = 2, .url = CAIRN_STR_LITERAL("http://p:9")};
    struct cairn_error err = {0};
    uint64_t plan;
    (void)state;
    assert_int_equal(change(0, CAIRN_CLUSTER_SET, &shard, &plan, &err), CAIRN_EUNAVAILABLE);
    shard.id = 5;
    assert_int_equal(change(0, CAIRN_CLUSTER_REMOVE, &shard, &plan, &err), CAIRN_ENOTFOUND);
    cairn_test_shard_own(c->shards[2], 2); /* of another cluster */
    shard = (struct cairn_map_shard){.id = 2, .url = CAIRN_STR_LITERAL("http://p:2")};
    assert_int_equal(change(0, CAIRN_CLUSTER_SET, &shard, &plan, &err), CAIRN_EPARAM);
    assert_non_null(strstr(err.message, "another cluster"));
    shard = (struct cairn_map_shard){.id = 1, .planned_weight = 1};
    check(change(0, CAIRN_CLUSTER_SET, &shard, &plan, &err), &err);
    assert_int_equal(plan, 0);
}

/* The second move cannot begin: what the first one moved goes back. */
static void a_plan_is_given_up(void **state)
{
    const struct cairn_map_shard s1 = {.id = 1, .planned_weight = 3};
    struct cairn_error err = {0};
    uint64_t back, until_us = cairn_time_monotonic_us() + DEADLINE_US;
    (void)state;
    atomic_store(&c->fault, FAULT_LOST_REQUEST);
    atomic_store(&c->fail_source, 1);
    uint64_t plan = add_s2(0);
    assert_int_equal(wait_for(plan, CAIRN_JOB_PAUSED, CAIRN_JOB_SUCCEEDED), CAIRN_JOB_PAUSED);
    for (bool half = false; !half;) {
        const struct cairn_map *map = router_map(&c->processes[0].router);
        half = map->plan == plan && map->moves_count == 2 && map->moves[0].done;
        cairn_map_unref(map);
        if (cairn_time_monotonic_us() > until_us)
            fail_msg("the first move is not made");
        pause_ms(2);
    }
    assert_int_equal(change(0, CAIRN_CLUSTER_SET, &s1, &back, &err), CAIRN_EBUSY);
    check(change(0, CAIRN_CLUSTER_ABORT, NULL, &back, &err), &err);
    assert_true(back > plan);
    assert_int_equal(wait_for(plan, CAIRN_JOB_CANCELLED, CAIRN_JOB_SUCCEEDED), CAIRN_JOB_CANCELLED);
    expect_success(back);
    const struct cairn_map *map = settle();
    assert_null(cairn_map_shard(map, 2));
    expect_all(map);
}

/* A target that is gone before it was given anything is not needed to give the plan up. */
static void a_plan_is_given_up_without_its_target(void **state)
{
    struct cairn_error err = {0};
    uint64_t back;
    (void)state;
    atomic_store(&c->fault, FAULT_LOST_REQUEST);
    atomic_store(&c->fail_source, 0);
    uint64_t plan = add_s2(0);
    assert_int_equal(wait_for(plan, CAIRN_JOB_PAUSED, CAIRN_JOB_SUCCEEDED), CAIRN_JOB_PAUSED);
    close_process(1);
    check(change(0, CAIRN_CLUSTER_ABORT, NULL, &back, &err), &err);
    assert_int_equal(back, 0);
    assert_int_equal(wait_for(plan, CAIRN_JOB_CANCELLED, CAIRN_JOB_SUCCEEDED), CAIRN_JOB_CANCELLED);
    open_process(1);
    const struct cairn_map *map = settle();
    assert_null(cairn_map_shard(map, 2));
    expect_all(map);
}

/* Every call between the processes fails once: every other one before it is carried out, the rest
 * after it, and by the seed which of them. */
static void any_call_may_fail(void **state)
{
    uint64_t seed = cairn_test_seed();
    unsigned calls = 1;
    (void)state;
    for (unsigned at = 1; at <= calls && at <= 30; at++) {
        const struct cairn_map_shard s2 = {.id = 2, .url = CAIRN_STR_LITERAL("http://p:2")};
        struct cairn_error err = {0};
        uint64_t plan;
        assert_int_equal(setup(NULL), 0);
        atomic_store(&c->fault, (at + seed) % 2 == 0 ? FAULT_LOST_REQUEST : FAULT_LOST_ANSWER);
        atomic_store(&c->calls, 0);
        atomic_store(&c->fail_at, at);
        int code = change(0, CAIRN_CLUSTER_SET, &s2, &plan, &err);
        if (code == CAIRN_EUNAVAILABLE) /* the first one asks whether s2 is there */
            code = change(0, CAIRN_CLUSTER_SET, &s2, &plan, &err);
        check(code, &err);
        expect_success(plan);
        calls = atomic_load(&c->calls);
        expect_all(settle());
        assert_int_equal(teardown(NULL), 0);
    }
    assert_true(calls > 10);
}

/* Both processes begin anew at every step of the way. */
static void processes_may_restart(void **state)
{
    uint64_t seed = cairn_test_seed();
    (void)state;
    uint64_t plan = add_s2(0);
    uint64_t until_us = cairn_time_monotonic_us() + DEADLINE_US;
    for (bool running = true; running;) {
        uint32_t at = (uint32_t)cairn_test_random_below(&seed, 2);
        pause_ms((unsigned)cairn_test_random_below(&seed, 10));
        close_process(at);
        open_process(at);
        const struct cairn_map *map = router_map(&c->processes[0].router);
        running = map->plan == plan;
        cairn_map_unref(map);
        if (cairn_time_monotonic_us() > until_us)
            fail_msg("no end");
    }
    expect_success(plan);
    expect_all(settle());
}

static void a_wrong_copy_is_never_released(void **state)
{
    struct cairn_map_shard shard = {.id = 2};
    struct cairn_error err = {0};
    uint64_t plan, resumed;
    (void)state;
    expect_success(add_s2(0));
    cairn_map_unref(settle());
    /* Back from s2, whose exports lose a record on the way. */
    atomic_store(&c->damage, true);
    check(change(0, CAIRN_CLUSTER_REMOVE, &shard, &plan, &err), &err);
    assert_int_equal(wait_for(plan, CAIRN_JOB_FAILED, CAIRN_JOB_SUCCEEDED), CAIRN_JOB_FAILED);
    struct cairn_arena arena = {0};
    struct cairn_job_status *jobs;
    uint32_t count;
    check(cairn_cluster_jobs(&c->processes[0].router, &arena, &jobs, &count, &err), &err);
    if (memmem(jobs[0].error.ptr, jobs[0].error.len, "differs", 7) == NULL)
        fail_msg("%.*s", CAIRN_STR_ARG(jobs[0].error));
    cairn_arena_release(&arena);
    const struct cairn_map *map = router_map(&c->processes[0].router);
    assert_int_equal(map->plan, plan);
    assert_false(map->moves[0].done);
    expect_all(map); /* s2 goes on to serve its keys */
    check(change(0, CAIRN_CLUSTER_RESUME, NULL, &resumed, &err), &err);
    assert_int_equal(resumed, plan);
    /* A fresh copy, without the damage, is right. */
    atomic_store(&c->damage, false);
    uint64_t back;
    check(change(0, CAIRN_CLUSTER_ABORT, NULL, &back, &err), &err);
    assert_int_equal(back, 0); /* nothing had moved */
    cairn_map_unref(settle());
    check(change(0, CAIRN_CLUSTER_REMOVE, &shard, &plan, &err), &err);
    expect_success(plan);
    expect_all(settle());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_shard_is_added_and_the_first_process_is_drained, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(writes_go_on_while_keys_move, setup, teardown),
        cmocka_unit_test_setup_teardown(another_process_asks_home, setup, teardown),
        cmocka_unit_test_setup_teardown(nonsense_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_plan_is_given_up, setup, teardown),
        cmocka_unit_test_setup_teardown(a_plan_is_given_up_without_its_target, setup, teardown),
        cmocka_unit_test(any_call_may_fail),
        cmocka_unit_test_setup_teardown(processes_may_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(a_wrong_copy_is_never_released, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
