/* Changing the cluster, and the jobs that come of it. A job is named "rebalance-<plan>". */
#include <inttypes.h>
#include <stdio.h>

#include "api/fields.h"
#include "api/handlers.h"
#include "api/row_json.h"
#include "router/cluster.h"

#define JOB_PREFIX "rebalance-"

static void write_word(const char *name, struct cairn_str word, struct cairn_json_writer *writer)
{
    cairn_json_key(writer, name);
    cairn_json_write_str(writer, word);
}

static void write_time(const char *name, int64_t time_us, struct cairn_json_writer *writer)
{
    cairn_json_key(writer, name);
    if (time_us == CAIRN_TIME_NONE)
        cairn_json_write_null(writer);
    else
        cairn_json_write_time(writer, time_us);
}

static void write_job_name(uint64_t plan, struct cairn_json_writer *writer)
{
    char name[sizeof JOB_PREFIX + 20];
    (void)snprintf(name, sizeof name, JOB_PREFIX "%" PRIu64, plan);
    cairn_json_write_str(writer, cairn_str_from(name));
}

static void write_move(const struct cairn_move_status *move, struct cairn_json_writer *writer)
{
    char digest[33];
    cairn_json_begin_object(writer);
    cairn_json_key(writer, "source");
    cairn_shard_write(move->source, writer);
    cairn_json_key(writer, "target");
    cairn_shard_write(move->target, writer);
    write_word("step", cairn_str_from(cairn_move_step_name(move->step)), writer);
    cairn_member_u64("records", move->records, writer);
    cairn_member_u64("bytes", move->bytes, writer);
    cairn_member_u64("reached", move->reached, writer);
    cairn_member_u64("end_offset", move->end_offset, writer);
    cairn_member_u64("held_us", move->held_us, writer);
    cairn_member_u64("tries", move->tries, writer);
    cairn_json_key(writer, "digest");
    (void)snprintf(digest, sizeof digest, "%016" PRIx64 "%016" PRIx64, move->digest[1],
                   move->digest[0]);
    if (move->digest[0] == 0 && move->digest[1] == 0)
        cairn_json_write_null(writer);
    else
        cairn_json_write_str(writer, cairn_str_from(digest));
    cairn_json_end_object(writer);
}

static void write_job(const struct cairn_job_status *job, struct cairn_json_writer *writer)
{
    cairn_json_key(writer, "id");
    write_job_name(job->plan, writer);
    write_word("kind", CAIRN_STR_LITERAL("rebalance"), writer);
    write_word("state", cairn_str_from(cairn_job_state_name(job->state)), writer);
    write_time("started_at", job->started_us, writer);
    write_time("ended_at", job->ended_us, writer);
    cairn_member_u64("done", job->done, writer);
    cairn_member_u64("total", job->total, writer);
    cairn_member_u64("failed", 0, writer);
    cairn_json_key(writer, "rate_per_s");
    cairn_json_write_f64(writer, job->rate_per_s);
    cairn_json_key(writer, "eta_s");
    if (job->eta_s < 0)
        cairn_json_write_null(writer);
    else
        cairn_json_write_f64(writer, job->eta_s);
    cairn_json_key(writer, "error");
    if (job->error.len == 0)
        cairn_json_write_null(writer);
    else
        cairn_json_write_str(writer, job->error);
    cairn_member_u64("records", job->records, writer);
    cairn_member_u64("bytes", job->bytes, writer);
    cairn_json_key(writer, "moves");
    cairn_json_begin_array(writer);
    for (uint32_t i = 0; i < job->moves_count; i++)
        write_move(&job->moves[i], writer);
    cairn_json_end_array(writer);
}

static void set_contract(struct cairn_exchange *exchange)
{
    exchange->has_contract = true;
    exchange->contract.position.epoch = cairn_router_epoch(exchange->router);
}

/* 202 with the job's name, or 200 when there was nothing to move. */
static void reply_plan(struct cairn_exchange *exchange, uint64_t plan)
{
    struct cairn_json_writer writer;
    set_contract(exchange);
    exchange->status = plan != 0 ? 202 : 200;
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "job");
    if (plan != 0)
        write_job_name(plan, &writer);
    else
        cairn_json_write_null(&writer);
    cairn_exchange_end_object(exchange, &writer);
    cairn_exchange_reply(exchange);
}

static void change(struct cairn_exchange *exchange, const struct cairn_cluster_change *asked)
{
    struct cairn_error err = {0};
    uint64_t plan;
    if (cairn_cluster_change(exchange->router, asked, &plan, &err) != 0)
        cairn_exchange_fail(exchange, &err);
    else
        reply_plan(exchange, plan);
}

/* "s2", "2" or 2. */
static int read_id(struct cairn_json json, uint32_t *out, struct cairn_error *err)
{
    struct cairn_str text;
    if (!cairn_field_given(json))
        return cairn_fail(err, CAIRN_EFIELD, "id: is missing");
    if (cairn_json_kind(json) != CAIRN_JSON_STRING)
        return cairn_u32_read(json, "id", 0, CAIRN_SHARDS_MAX - 1, out, err);
    (void)cairn_json_str(json, &text);
    if (cairn_shard_id_parse(text, out, err) != 0)
        return cairn_error_path(err, "id");
    return 0;
}

static int read_weight(struct cairn_json json, double *out, struct cairn_error *err)
{
    if (!cairn_field_given(json))
        return 0;
    if (!cairn_json_f64(json, out))
        return cairn_fail(err, CAIRN_ETYPE, "weight: must be a number");
    if (!(*out > 0) || *out > 1000)
        return cairn_fail(err, CAIRN_EFIELD,
                          "weight: must be above 0 and at most 1000; DELETE drains a shard");
    return 0;
}

static int read_shard(struct cairn_json json, struct cairn_map_shard *out, struct cairn_error *err)
{
    static const struct cairn_str names[] = {CAIRN_FIELD("id"), CAIRN_FIELD("url"),
                                             CAIRN_FIELD("weight")};
    struct cairn_json values[3];
    *out = (struct cairn_map_shard){.url = {"", 0}};
    int code = cairn_fields_read(json, names, 3, values, err);
    if (code == 0)
        code = read_id(values[0], &out->id, err);
    if (code == 0 && cairn_field_given(values[1]))
        code = cairn_str_read(values[1], "url", &out->url, err);
    if (code == 0)
        code = read_weight(values[2], &out->planned_weight, err);
    return code;
}

void cairn_handle_shard_add(struct cairn_exchange *exchange)
{
    struct cairn_error err = {0};
    struct cairn_json root;
    struct cairn_map_shard shard;
    if (cairn_handler_no_params(exchange, &err) != 0 ||
        cairn_exchange_json(exchange, &root, &err) != 0 || read_shard(root, &shard, &err) != 0) {
        cairn_exchange_fail(exchange, &err);
        return;
    }
    change(exchange, &(struct cairn_cluster_change){
                         .action = CAIRN_CLUSTER_SET, .shards = &shard, .shards_count = 1});
}

void cairn_handle_shard_remove(struct cairn_exchange *exchange)
{
    struct cairn_error err = {0};
    struct cairn_map_shard shard = {.url = {"", 0}};
    if (cairn_handler_no_params(exchange, &err) != 0 ||
        cairn_shard_id_parse(exchange->segments[3], &shard.id, &err) != 0) {
        cairn_exchange_fail(exchange, &err);
        return;
    }
    change(exchange, &(struct cairn_cluster_change){
                         .action = CAIRN_CLUSTER_REMOVE, .shards = &shard, .shards_count = 1});
}

static int read_shards(struct cairn_exchange *exchange, struct cairn_json json,
                       struct cairn_cluster_change *out, struct cairn_error *err)
{
    struct cairn_json_iter iter;
    struct cairn_json element;
    size_t count;
    if (!cairn_field_given(json) || !cairn_json_array(json, &iter, &count))
        return cairn_fail(err, CAIRN_ETYPE, "shards: must be an array of {\"id\", \"url\", …}");
    if (count == 0 || count > CAIRN_SHARDS_MAX)
        return cairn_fail(err, CAIRN_EFIELD, "shards: must have 1 to %u elements",
                          CAIRN_SHARDS_MAX);
    struct cairn_map_shard *shards = cairn_arena_alloc(&exchange->arena, count * sizeof *shards);
    for (size_t i = 0; i < count && cairn_json_element(&iter, &element); i++)
        if (read_shard(element, &shards[i], err) != 0)
            return cairn_error_path(err, "shards[%zu]", i);
    out->shards = shards;
    out->shards_count = (uint32_t)count;
    return 0;
}

void cairn_handle_shards_set(struct cairn_exchange *exchange)
{
    static const struct cairn_str names[] = {CAIRN_FIELD("shards"), CAIRN_FIELD("only_add"),
                                             CAIRN_FIELD("only_drain")};
    struct cairn_cluster_change asked = {.action = CAIRN_CLUSTER_TO};
    struct cairn_error err = {0};
    struct cairn_json root, values[3];
    int code = cairn_handler_no_params(exchange, &err);
    if (code == 0)
        code = cairn_exchange_json(exchange, &root, &err);
    if (code == 0)
        code = cairn_fields_read(root, names, 3, values, &err);
    if (code == 0)
        code = read_shards(exchange, values[0], &asked, &err);
    if (code == 0 && cairn_field_given(values[1]))
        code = cairn_bool_read(values[1], "only_add", &asked.only_add, &err);
    if (code == 0 && cairn_field_given(values[2]))
        code = cairn_bool_read(values[2], "only_drain", &asked.only_drain, &err);
    if (code != 0)
        cairn_exchange_fail(exchange, &err);
    else
        change(exchange, &asked);
}

static void change_without_body(struct cairn_exchange *exchange, enum cairn_cluster_action action)
{
    struct cairn_error err = {0};
    if (cairn_handler_no_params(exchange, &err) != 0)
        cairn_exchange_fail(exchange, &err);
    else
        change(exchange, &(struct cairn_cluster_change){.action = action});
}

void cairn_handle_rebalance_abort(struct cairn_exchange *exchange)
{
    change_without_body(exchange, CAIRN_CLUSTER_ABORT);
}

void cairn_handle_rebalance_resume(struct cairn_exchange *exchange)
{
    change_without_body(exchange, CAIRN_CLUSTER_RESUME);
}

/* All jobs; false when the exchange has been answered with an error. */
static bool get_jobs(struct cairn_exchange *exchange, struct cairn_job_status **jobs,
                     uint32_t *count)
{
    struct cairn_error err = {0};
    int code = cairn_handler_no_params(exchange, &err);
    if (code == 0)
        code = cairn_cluster_jobs(exchange->router, &exchange->arena, jobs, count, &err);
    if (code == 0)
        return true;
    cairn_exchange_fail(exchange, &err);
    return false;
}

void cairn_handle_rebalance_get(struct cairn_exchange *exchange)
{
    struct cairn_json_writer writer;
    struct cairn_job_status *jobs;
    uint32_t count;
    if (!get_jobs(exchange, &jobs, &count))
        return;
    set_contract(exchange);
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "job");
    if (count > 0) {
        cairn_json_begin_object(&writer);
        write_job(&jobs[0], &writer);
        cairn_json_end_object(&writer);
    } else {
        cairn_json_write_null(&writer);
    }
    cairn_exchange_end_object(exchange, &writer);
    cairn_exchange_reply(exchange);
}

void cairn_handle_jobs_list(struct cairn_exchange *exchange)
{
    struct cairn_json_writer writer;
    struct cairn_job_status *jobs;
    uint32_t count;
    if (!get_jobs(exchange, &jobs, &count))
        return;
    set_contract(exchange);
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "jobs");
    cairn_json_begin_array(&writer);
    for (uint32_t i = 0; i < count; i++) {
        cairn_json_begin_object(&writer);
        write_job(&jobs[i], &writer);
        cairn_json_end_object(&writer);
    }
    cairn_json_end_array(&writer);
    cairn_exchange_end_object(exchange, &writer);
    cairn_exchange_reply(exchange);
}

/* The job in the path; NULL when the exchange has been answered with an error. */
static const struct cairn_job_status *find_job(struct cairn_exchange *exchange)
{
    struct cairn_error err;
    struct cairn_job_status *jobs;
    struct cairn_str id = exchange->segments[2];
    char name[sizeof JOB_PREFIX + 20];
    uint32_t count;
    if (!get_jobs(exchange, &jobs, &count))
        return NULL;
    for (uint32_t i = 0; i < count; i++) {
        (void)snprintf(name, sizeof name, JOB_PREFIX "%" PRIu64, jobs[i].plan);
        if (cairn_str_eq(id, cairn_str_from(name)))
            return &jobs[i];
    }
    struct cairn_str shown = cairn_shown(id);
    cairn_fail(&err, CAIRN_ENOTFOUND, "there is no job \"%.*s\"", CAIRN_STR_ARG(shown));
    cairn_exchange_fail(exchange, &err);
    return NULL;
}

void cairn_handle_job_get(struct cairn_exchange *exchange)
{
    struct cairn_json_writer writer;
    const struct cairn_job_status *job = find_job(exchange);
    if (job == NULL)
        return;
    set_contract(exchange);
    cairn_json_writer_init(&writer, &exchange->out);
    cairn_json_begin_object(&writer);
    write_job(job, &writer);
    cairn_exchange_end_object(exchange, &writer);
    cairn_exchange_reply(exchange);
}

void cairn_handle_job_cancel(struct cairn_exchange *exchange)
{
    struct cairn_error err;
    const struct cairn_job_status *job = find_job(exchange);
    if (job == NULL)
        return;
    if (job->state == CAIRN_JOB_SUCCEEDED || job->state == CAIRN_JOB_CANCELLED) {
        cairn_fail(&err, CAIRN_EPRECONDITION, "the job has ended: %s",
                   cairn_job_state_name(job->state));
        cairn_exchange_fail(exchange, &err);
        return;
    }
    change(exchange, &(struct cairn_cluster_change){.action = CAIRN_CLUSTER_ABORT});
}
