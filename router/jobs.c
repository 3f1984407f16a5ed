/* What this process knows of plans: the one under way and those that ended, and their JSON, in
 * which home tells other processes. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/time.h"
#include "router/rebalance.h"

#define RATE_SAMPLE_US UINT64_C(1000000)
#define RATE_WEIGHT    0.4 /* of the newest sample */

static const char *const job_states[] = {
    [CAIRN_JOB_QUEUED] = "queued", [CAIRN_JOB_RUNNING] = "running",
    [CAIRN_JOB_PAUSED] = "paused", [CAIRN_JOB_SUCCEEDED] = "succeeded",
    [CAIRN_JOB_FAILED] = "failed", [CAIRN_JOB_CANCELLED] = "cancelled",
};
#define JOB_STATES (sizeof job_states / sizeof job_states[0])

static const char *const move_steps[] = {
    [CAIRN_MOVE_WAITING] = "waiting",
    [CAIRN_MOVE_PREPARING] = "preparing",
    [CAIRN_MOVE_COPYING] = "copying",
    [CAIRN_MOVE_CATCHING_UP] = "catching_up",
    [CAIRN_MOVE_CUTTING_OVER] = "cutting_over",
    [CAIRN_MOVE_CLEANING_UP] = "cleaning_up",
    [CAIRN_MOVE_DONE] = "done",
};
#define MOVE_STEPS (sizeof move_steps / sizeof move_steps[0])

const char *cairn_job_state_name(enum cairn_job_state state)
{
    return (size_t)state < JOB_STATES ? job_states[state] : "unknown";
}

const char *cairn_move_step_name(enum cairn_move_step step)
{
    return (size_t)step < MOVE_STEPS ? move_steps[step] : "unknown";
}

static bool has_ended(const struct router_job *job)
{
    enum cairn_job_state state = job->status.state;
    return state == CAIRN_JOB_SUCCEEDED || state == CAIRN_JOB_CANCELLED;
}

void router_rate_sample(struct router_rate *rate, uint64_t now_us, uint64_t value)
{
    if (rate->sampled_us != 0 && now_us < rate->sampled_us + RATE_SAMPLE_US)
        return;
    if (rate->sampled_us != 0) {
        uint64_t grown = value > rate->sampled ? value - rate->sampled : 0;
        double per_s = (double)grown * 1e6 / (double)(now_us - rate->sampled_us);
        rate->per_s = rate->per_s > 0 ? rate->per_s + RATE_WEIGHT * (per_s - rate->per_s) : per_s;
    }
    rate->sampled_us = now_us;
    rate->sampled = value;
}

void router_job_sum(struct router_job *job, uint64_t now_us)
{
    struct cairn_job_status *status = &job->status;
    status->done = status->total = status->records = status->bytes = 0;
    for (uint32_t i = 0; i < status->moves_count; i++) {
        const struct cairn_move_status *move = &job->moves[i];
        bool is_over = move->step >= CAIRN_MOVE_CLEANING_UP;
        uint64_t end = move->end_offset > move->reached ? move->end_offset : move->reached;
        status->total += end;
        status->done += is_over ? end : move->reached;
        status->records += move->records;
        status->bytes += move->bytes;
    }
    router_rate_sample(&job->records_rate, now_us, status->records);
    router_rate_sample(&job->offsets_rate, now_us, status->done);
    bool runs = status->state == CAIRN_JOB_RUNNING;
    status->rate_per_s = runs ? job->records_rate.per_s : 0;
    if (has_ended(job))
        status->eta_s = 0;
    else if (runs && job->offsets_rate.per_s > 0)
        status->eta_s = (double)(status->total - status->done) / job->offsets_rate.per_s;
    else
        status->eta_s = -1;
}

struct router_job *router_job_find(struct router_rebalance *rebalance, uint64_t plan)
{
    for (uint32_t i = 0; i < rebalance->jobs_count; i++)
        if (rebalance->jobs[i]->status.plan == plan)
            return rebalance->jobs[i];
    return NULL;
}

struct cairn_move_status *router_job_move(struct router_job *job, uint32_t source, uint32_t target)
{
    for (uint32_t i = 0; job != NULL && i < job->status.moves_count; i++)
        if (job->moves[i].source == source && job->moves[i].target == target)
            return &job->moves[i];
    return NULL;
}

static void free_job(struct router_job *job)
{
    free(job->moves);
    free(job);
}

void router_jobs_free(struct router_rebalance *rebalance)
{
    for (uint32_t i = 0; i < rebalance->jobs_count; i++)
        free_job(rebalance->jobs[i]);
    rebalance->jobs_count = 0;
}

/* A new job, placed by the number of its plan, the newest first; the oldest falls out. */
static struct router_job *add_job(struct router_rebalance *rebalance, uint64_t plan,
                                  uint32_t moves_count)
{
    const uint32_t max = sizeof rebalance->jobs / sizeof rebalance->jobs[0];
    struct router_job *job = cairn_calloc(1, sizeof *job);
    job->moves = cairn_calloc(moves_count + 1, sizeof *job->moves);
    job->status = (struct cairn_job_status){.plan = plan,
                                            .state = CAIRN_JOB_RUNNING,
                                            .started_us = CAIRN_TIME_NONE,
                                            .ended_us = CAIRN_TIME_NONE,
                                            .eta_s = -1,
                                            .moves_count = moves_count};
    if (rebalance->jobs_count == max)
        free_job(rebalance->jobs[--rebalance->jobs_count]);
    uint32_t at = 0;
    while (at < rebalance->jobs_count && rebalance->jobs[at]->status.plan > plan)
        at++;
    memmove(&rebalance->jobs[at + 1], &rebalance->jobs[at],
            (rebalance->jobs_count - at) * sizeof rebalance->jobs[0]);
    rebalance->jobs[at] = job;
    rebalance->jobs_count++;
    return job;
}

/* A plan of this process's time has ended. What came of the last one is in the map; that of an
 * older one is told by its moves. */
static void end_job(struct router_job *job, const struct cairn_map *map)
{
    bool succeeded = true;
    if (map->last_plan == job->status.plan) {
        succeeded = map->last_outcome == CAIRN_PLAN_SUCCEEDED;
    } else {
        for (uint32_t i = 0; i < job->status.moves_count; i++)
            succeeded = succeeded && job->moves[i].step >= CAIRN_MOVE_CLEANING_UP;
    }
    job->status.state = succeeded ? CAIRN_JOB_SUCCEEDED : CAIRN_JOB_CANCELLED;
    job->status.ended_us = cairn_time_now_us();
    job->error[0] = '\0';
    for (uint32_t i = 0; succeeded && i < job->status.moves_count; i++)
        if (job->moves[i].step < CAIRN_MOVE_CLEANING_UP)
            job->moves[i].step = CAIRN_MOVE_CLEANING_UP;
}

static void start_job(struct router_rebalance *rebalance, const struct cairn_map *map)
{
    struct router_job *job = add_job(rebalance, map->plan, map->moves_count);
    job->status.started_us = cairn_time_now_us();
    for (uint32_t i = 0; i < map->moves_count; i++) {
        job->moves[i].source = map->moves[i].source;
        job->moves[i].target = map->moves[i].target;
        job->moves[i].step = map->moves[i].done ? CAIRN_MOVE_CLEANING_UP : CAIRN_MOVE_WAITING;
    }
}

void router_jobs_follow(struct router_rebalance *rebalance, const struct cairn_map *map)
{
    pthread_mutex_lock(&rebalance->lock);
    for (uint32_t i = 0; i < rebalance->jobs_count; i++)
        if (rebalance->jobs[i]->status.plan != map->plan && !has_ended(rebalance->jobs[i]))
            end_job(rebalance->jobs[i], map);
    if (map->last_plan != 0 && router_job_find(rebalance, map->last_plan) == NULL)
        add_job(rebalance, map->last_plan, 0)->status.state =
            map->last_outcome == CAIRN_PLAN_SUCCEEDED ? CAIRN_JOB_SUCCEEDED : CAIRN_JOB_CANCELLED;
    struct router_job *job = map->plan != 0 ? router_job_find(rebalance, map->plan) : NULL;
    if (map->plan != 0 && job == NULL)
        start_job(rebalance, map);
    for (uint32_t i = 0; job != NULL && i < map->moves_count; i++) {
        struct cairn_move_status *move =
            router_job_move(job, map->moves[i].source, map->moves[i].target);
        if (move != NULL && map->moves[i].done && move->step < CAIRN_MOVE_CLEANING_UP)
            move->step = CAIRN_MOVE_CLEANING_UP;
    }
    pthread_mutex_unlock(&rebalance->lock);
}

void router_job_set(struct router_rebalance *rebalance, uint64_t plan, enum cairn_job_state state,
                    const struct cairn_error *why)
{
    pthread_mutex_lock(&rebalance->lock);
    struct router_job *job = router_job_find(rebalance, plan);
    if (job != NULL && !has_ended(job)) {
        job->status.state = state;
        (void)snprintf(job->error, sizeof job->error, "%s", why != NULL ? why->message : "");
    }
    pthread_mutex_unlock(&rebalance->lock);
}

void router_jobs_copy(struct router_rebalance *rebalance, struct cairn_arena *arena,
                      struct cairn_job_status **jobs, uint32_t *count)
{
    uint64_t now_us = cairn_time_monotonic_us();
    pthread_mutex_lock(&rebalance->lock);
    *count = rebalance->jobs_count;
    *jobs = cairn_arena_alloc(arena, (*count + 1) * sizeof **jobs);
    for (uint32_t i = 0; i < *count; i++) {
        struct router_job *job = rebalance->jobs[i];
        size_t bytes = job->status.moves_count * sizeof *job->moves;
        router_job_sum(job, now_us);
        struct cairn_move_status *moves = cairn_arena_alloc(arena, bytes + 1);
        memcpy(moves, job->moves, bytes);
        (*jobs)[i] = job->status;
        (*jobs)[i].moves = moves;
        (*jobs)[i].error = cairn_arena_dup(arena, cairn_str_from(job->error));
    }
    pthread_mutex_unlock(&rebalance->lock);
}

static void member_u64(struct cairn_json_writer *writer, const char *name, uint64_t value)
{
    cairn_json_key(writer, name);
    cairn_json_write_u64(writer, value);
}

static void member_i64(struct cairn_json_writer *writer, const char *name, int64_t value)
{
    cairn_json_key(writer, name);
    cairn_json_write_i64(writer, value);
}

static void encode_move(const struct cairn_move_status *move, struct cairn_json_writer *writer)
{
    char digest[33];
    cairn_json_begin_object(writer);
    member_u64(writer, "source", move->source);
    member_u64(writer, "target", move->target);
    member_u64(writer, "step", (uint64_t)move->step);
    member_u64(writer, "records", move->records);
    member_u64(writer, "bytes", move->bytes);
    member_u64(writer, "reached", move->reached);
    member_u64(writer, "end_offset", move->end_offset);
    member_u64(writer, "held_us", move->held_us);
    member_u64(writer, "tries", move->tries);
    (void)snprintf(digest, sizeof digest, "%016" PRIx64 "%016" PRIx64, move->digest[1],
                   move->digest[0]);
    cairn_json_key(writer, "digest");
    cairn_json_write_str(writer, cairn_str_from(digest));
    cairn_json_end_object(writer);
}

void router_jobs_encode(const struct cairn_job_status *jobs, uint32_t count, struct cairn_buf *out)
{
    struct cairn_json_writer writer;
    cairn_json_writer_init(&writer, out);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "jobs");
    cairn_json_begin_array(&writer);
    for (uint32_t i = 0; i < count; i++) {
        const struct cairn_job_status *job = &jobs[i];
        cairn_json_begin_object(&writer);
        member_u64(&writer, "plan", job->plan);
        member_u64(&writer, "state", (uint64_t)job->state);
        member_i64(&writer, "started_us", job->started_us);
        member_i64(&writer, "ended_us", job->ended_us);
        member_u64(&writer, "done", job->done);
        member_u64(&writer, "total", job->total);
        member_u64(&writer, "records", job->records);
        member_u64(&writer, "bytes", job->bytes);
        cairn_json_key(&writer, "rate_per_s");
        cairn_json_write_f64(&writer, job->rate_per_s);
        cairn_json_key(&writer, "eta_s");
        cairn_json_write_f64(&writer, job->eta_s);
        cairn_json_key(&writer, "error");
        cairn_json_write_str(&writer, job->error);
        cairn_json_key(&writer, "moves");
        cairn_json_begin_array(&writer);
        for (uint32_t j = 0; j < job->moves_count; j++)
            encode_move(&job->moves[j], &writer);
        cairn_json_end_array(&writer);
        cairn_json_end_object(&writer);
    }
    cairn_json_end_array(&writer);
    cairn_json_end_object(&writer);
}

/* Members that home wrote. What is not there, or of another kind, counts as 0: both sides may be
 * of different versions. */
static int64_t read_i64(struct cairn_json object, const char *name)
{
    struct cairn_json value;
    int64_t number;
    return cairn_json_get(object, name, &value) && cairn_json_i64(value, &number) ? number : 0;
}

static uint64_t read_u64(struct cairn_json object, const char *name)
{
    int64_t number = read_i64(object, name);
    return number > 0 ? (uint64_t)number : 0;
}

static double read_f64(struct cairn_json object, const char *name)
{
    struct cairn_json value;
    double number;
    return cairn_json_get(object, name, &value) && cairn_json_f64(value, &number) ? number : 0;
}

static struct cairn_str read_str(struct cairn_json object, const char *name)
{
    struct cairn_json value;
    struct cairn_str text;
    return cairn_json_get(object, name, &value) && cairn_json_str(value, &text)
               ? text
               : (struct cairn_str){"", 0};
}

static void decode_move(struct cairn_json json, struct cairn_move_status *out)
{
    char digest[33] = {0};
    struct cairn_str text = read_str(json, "digest");
    uint64_t step = read_u64(json, "step");
    *out = (struct cairn_move_status){
        .source = (uint32_t)read_u64(json, "source"),
        .target = (uint32_t)read_u64(json, "target"),
        .step = step < MOVE_STEPS ? (enum cairn_move_step)step : CAIRN_MOVE_WAITING,
        .records = read_u64(json, "records"),
        .bytes = read_u64(json, "bytes"),
        .reached = read_u64(json, "reached"),
        .end_offset = read_u64(json, "end_offset"),
        .held_us = read_u64(json, "held_us"),
        .tries = read_u64(json, "tries"),
    };
    if (text.len == 32) {
        memcpy(digest, text.ptr, 32);
        out->digest[0] = strtoull(digest + 16, NULL, 16);
        digest[16] = '\0';
        out->digest[1] = strtoull(digest, NULL, 16);
    }
}

static void decode_job(struct cairn_json json, struct cairn_arena *arena,
                       struct cairn_job_status *out)
{
    struct cairn_json list, element;
    struct cairn_json_iter iter;
    size_t count = 0;
    uint64_t state = read_u64(json, "state");
    *out = (struct cairn_job_status){
        .plan = read_u64(json, "plan"),
        .state = state < JOB_STATES ? (enum cairn_job_state)state : CAIRN_JOB_RUNNING,
        .started_us = read_i64(json, "started_us"),
        .ended_us = read_i64(json, "ended_us"),
        .done = read_u64(json, "done"),
        .total = read_u64(json, "total"),
        .records = read_u64(json, "records"),
        .bytes = read_u64(json, "bytes"),
        .rate_per_s = read_f64(json, "rate_per_s"),
        .eta_s = read_f64(json, "eta_s"),
        .error = cairn_arena_dup(arena, read_str(json, "error")),
    };
    if (!cairn_json_get(json, "moves", &list) || !cairn_json_array(list, &iter, &count))
        return;
    struct cairn_move_status *moves = cairn_arena_alloc(arena, (count + 1) * sizeof *moves);
    for (size_t i = 0; i < count && cairn_json_element(&iter, &element); i++)
        decode_move(element, &moves[i]);
    out->moves = moves;
    out->moves_count = (uint32_t)count;
}

int router_jobs_decode(struct cairn_json root, struct cairn_arena *arena,
                       struct cairn_job_status **jobs, uint32_t *count, struct cairn_error *err)
{
    struct cairn_json list, element;
    struct cairn_json_iter iter;
    size_t found;
    *count = 0;
    if (!cairn_json_get(root, "jobs", &list) || !cairn_json_array(list, &iter, &found))
        return cairn_fail(err, CAIRN_EBODY, "the answer of home has no list of jobs");
    *jobs = cairn_arena_alloc(arena, (found + 1) * sizeof **jobs);
    for (size_t i = 0; i < found && cairn_json_element(&iter, &element); i++)
        decode_job(element, arena, &(*jobs)[(*count)++]);
    return 0;
}
