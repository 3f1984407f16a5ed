/* POST /v1/collections/{c}/entities as NDJSON, one block of lines at a time.
 *
 *   worker: read, validate and encode every line; submit the good ones in runs
 *   writer threads: done, the last one reports the block done
 *   loop: one answer line per line, in order
 *
 * A run is what commits together: successive lines without if_offset, or a single line with one, so
 * that a failed precondition refuses no other line. Runs are submitted in line order, so writes of
 * one key keep their order. At most WRITES_MAX are in flight; where a block has more, the worker
 * waits for each such wave before it starts the next. */
#include <pthread.h>
#include <stdlib.h>

#include "api/entity_json.h"
#include "api/fields.h"
#include "api/handlers.h"
#include "api/write_set.h"

#define NO_ITEM    UINT32_MAX
#define WRITES_MAX 256u /* below CAIRN_WRITE_QUEUE_MAX, so that one block cannot fill a queue */

struct stream_line {
    uint64_t number;
    int code;          /* 0: the line is an item; else why it is none, or was refused */
    uint32_t item;     /* in the set, when it got that far */
    uint32_t same_key; /* the item before with its key, or NO_ITEM; only with shards elsewhere */
    struct cairn_str key, message;
};

struct stream_work {
    struct cairn_block *block;
    struct cairn_write_set set;
    struct stream_line *lines;
    uint32_t lines_count;
    uint32_t *item_lines; /* item i came from lines[item_lines[i]] */

    /* The wave in flight; each write's items are a range of the set's. */
    struct cairn_router_write *writes;
    uint32_t writes_count;
    bool unordered;     /* writes may overtake one another */
    uint32_t next_item; /* the first that is in no wave yet */

    pthread_mutex_t lock; /* guards pending */
    pthread_cond_t settled;
    uint32_t pending; /* writes in flight, and 1 for the worker while it submits */
};

static void refuse_line(struct stream_work *work, struct stream_line *line,
                        const struct cairn_error *err)
{
    line->code = err->code;
    line->message = cairn_arena_dup(&work->block->arena, cairn_str_from(err->message));
}

static bool next_line(struct cairn_str *rest, struct cairn_str *line)
{
    if (rest->len == 0)
        return false;
    const char *end = memchr(rest->ptr, '\n', rest->len);
    uint32_t len = end != NULL ? (uint32_t)(end - rest->ptr) : rest->len;
    uint32_t step = end != NULL ? len + 1 : len;
    *line = (struct cairn_str){rest->ptr, len};
    *rest = (struct cairn_str){rest->ptr + step, rest->len - step};
    while (line->len > 0 && memchr(" \t\r", line->ptr[line->len - 1], 3) != NULL)
        line->len--;
    return true;
}

static uint32_t lines_count(struct cairn_str text)
{
    struct cairn_str line;
    uint32_t count = 0;
    while (next_line(&text, &line))
        count += line.len > 0;
    return count;
}

/* The key that a refused line was about, when it has one. */
static struct cairn_str refused_key(struct cairn_json json, struct cairn_arena *arena)
{
    struct cairn_json key;
    struct cairn_str text;
    if (!cairn_json_get(json, "key", &key) || cairn_key_read(key, arena, &text, NULL) != 0)
        return (struct cairn_str){NULL, 0};
    return cairn_arena_dup(arena, text);
}

static void read_line(struct stream_work *work, struct cairn_str text, struct stream_line *line,
                      enum cairn_entity_op op, struct cairn_arena *reading)
{
    struct cairn_block *block = work->block;
    struct cairn_error err = {0};
    struct cairn_json json;
    struct cairn_entity entity;
    if (cairn_json_parse(block->scratch.parser, text, &json, &err) != 0) {
        refuse_line(work, line, &err);
        return;
    }
    int code = cairn_entity_read(json, work->set.schema, op, reading, &entity, &err);
    if (code == 0)
        code = cairn_write_set_add(&work->set, &entity, block->scratch.encoder, &err);
    if (code != 0) {
        refuse_line(work, line, &err);
        line->key = refused_key(json, &block->arena);
        return;
    }
    line->item = work->set.count - 1;
    line->key = work->set.items[line->item].key;
    work->item_lines[line->item] = work->lines_count;
}

static void read_lines(struct stream_work *work, enum cairn_entity_op op)
{
    struct cairn_arena reading = {0};
    struct cairn_str rest = work->block->text, text;
    for (uint64_t number = work->block->first_line; next_line(&rest, &text); number++) {
        if (text.len == 0)
            continue;
        struct stream_line *line = &work->lines[work->lines_count];
        *line = (struct stream_line){.number = number};
        read_line(work, text, line, op, &reading);
        work->lines_count++;
        cairn_arena_reset(&reading);
    }
    cairn_arena_release(&reading);
}

/* After a wave: the lines of refused writes become error lines. What another shard of the same
 * write took has an offset. */
static void collect_wave(struct stream_work *work)
{
    for (uint32_t w = 0; w < work->writes_count; w++) {
        const struct cairn_router_write *write = &work->writes[w];
        if (write->error.code == 0)
            continue;
        uint32_t first = (uint32_t)(write->items - work->set.items);
        for (uint32_t i = first; i < first + write->count; i++)
            if (work->set.results[i].offset == 0)
                refuse_line(work, &work->lines[work->item_lines[i]], &write->error);
    }
    work->writes_count = 0;
}

static void answer_lines(struct stream_work *work, struct cairn_buf *out)
{
    for (uint32_t i = 0; i < work->lines_count; i++) {
        const struct stream_line *line = &work->lines[i];
        struct cairn_json_writer writer;
        cairn_json_writer_init(&writer, out);
        if (line->code == 0) {
            cairn_write_result_write(line->key, &work->set.results[line->item], &writer);
        } else {
            struct cairn_error err;
            cairn_fail(&err, line->code, "%.*s", CAIRN_STR_ARG(line->message));
            cairn_json_begin_object(&writer);
            cairn_json_key(&writer, "line");
            cairn_json_write_u64(&writer, line->number);
            if (line->key.len > 0) {
                cairn_json_key(&writer, "key");
                cairn_json_write_str(&writer, line->key);
            }
            cairn_json_key(&writer, "error");
            cairn_problem_write(&writer, &err);
            cairn_json_end_object(&writer);
        }
        cairn_buf_append(out, "\n", 1);
    }
}

/* On the loop. */
static void block_finish(struct cairn_block *block)
{
    struct stream_work *work = block->handler_state;
    collect_wave(work);
    answer_lines(work, &block->out);
    cairn_schema_unref(work->set.schema);
    pthread_cond_destroy(&work->settled);
    pthread_mutex_destroy(&work->lock);
}

/* Whoever gives up the last share reports the block done, and touches it no more. */
static void release_work(struct stream_work *work)
{
    pthread_mutex_lock(&work->lock);
    uint32_t left = --work->pending;
    if (left == 1)
        pthread_cond_signal(&work->settled);
    pthread_mutex_unlock(&work->lock);
    if (left == 0)
        cairn_block_done(work->block);
}

static void write_done(struct cairn_router_write *write)
{
    release_work(write->context);
}

/* The number of items from `first` on that commit together. */
static uint32_t run_length(const struct cairn_write_set *set, uint32_t first)
{
    uint32_t count = 1;
    if (set->items[first].if_offset != CAIRN_OFFSET_NONE)
        return count;
    while (first + count < set->count && count < CAIRN_BATCH_ENTITIES_MAX &&
           set->items[first + count].if_offset == CAIRN_OFFSET_NONE)
        count++;
    return count;
}

/* A key is written once in a wave when writes may overtake one another. */
static bool is_in_wave(const struct stream_work *work, uint32_t wave_first, uint32_t first,
                       uint32_t count)
{
    if (!work->unordered)
        return false;
    for (uint32_t i = first; i < first + count; i++) {
        uint32_t line = work->item_lines[i], last = work->lines[line].same_key;
        if (last != NO_ITEM && last >= wave_first && last < first)
            return true;
    }
    return false;
}

static void submit_wave(struct stream_work *work)
{
    uint32_t wave_first = work->next_item;
    while (work->writes_count < WRITES_MAX && work->next_item < work->set.count) {
        uint32_t count = run_length(&work->set, work->next_item);
        if (is_in_wave(work, wave_first, work->next_item, count))
            break;
        work->writes[work->writes_count++] =
            (struct cairn_router_write){.schema = work->set.schema,
                                        .items = &work->set.items[work->next_item],
                                        .count = count,
                                        .arena = &work->block->arena,
                                        .results = &work->set.results[work->next_item],
                                        .done = write_done,
                                        .context = work};
        work->next_item += count;
    }
    pthread_mutex_lock(&work->lock);
    work->pending += work->writes_count;
    pthread_mutex_unlock(&work->lock);
    for (uint32_t i = 0; i < work->writes_count; i++)
        cairn_router_submit(work->block->exchange->router, &work->writes[i]);
}

static int compare_items(const void *a, const void *b, void *argument)
{
    const struct cairn_router_item *items = argument;
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    int order = cairn_str_cmp(items[left].key, items[right].key);
    return order != 0 ? order : (left > right) - (left < right);
}

/* Tell each item's line which item before it has the same key. */
static void link_keys(struct stream_work *work)
{
    uint32_t count = work->set.count;
    uint32_t *order = cairn_arena_alloc(&work->block->arena, count * sizeof *order + 1);
    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
    qsort_r(order, count, sizeof *order, compare_items, work->set.items);
    for (uint32_t i = 0; i < count; i++) {
        bool same =
            i > 0 && cairn_str_eq(work->set.items[order[i]].key, work->set.items[order[i - 1]].key);
        work->lines[work->item_lines[order[i]]].same_key = same ? order[i - 1] : NO_ITEM;
    }
}

static void await_writes(struct stream_work *work)
{
    pthread_mutex_lock(&work->lock);
    while (work->pending > 1)
        pthread_cond_wait(&work->settled, &work->lock);
    pthread_mutex_unlock(&work->lock);
}

static void submit_lines(struct stream_work *work)
{
    work->unordered = cairn_router_unordered(work->block->exchange->router);
    if (work->unordered)
        link_keys(work);
    uint32_t runs = 0;
    for (uint32_t at = 0; at < work->set.count && runs < WRITES_MAX; runs++)
        at += run_length(&work->set, at);
    work->writes = cairn_arena_alloc(&work->block->arena, runs * sizeof *work->writes + 1);
    work->pending = 1;
    submit_wave(work);
    while (work->next_item < work->set.count) {
        await_writes(work);
        collect_wave(work);
        submit_wave(work);
    }
    if (work->unordered) /* nor may the next block overtake this one */
        await_writes(work);
    release_work(work);
}

/* A block that the core could not give text for, or whose collection has gone meanwhile, answers
 * each of its lines with the reason. */
static void refuse_block(struct stream_work *work, const struct cairn_error *err)
{
    struct cairn_str rest = work->block->text, text;
    uint64_t number = work->block->first_line;
    if (rest.len == 0) {
        work->lines = cairn_arena_zalloc(&work->block->arena, sizeof *work->lines);
        work->lines[0].number = number;
        refuse_line(work, &work->lines[work->lines_count++], err);
    }
    for (; next_line(&rest, &text); number++) {
        if (text.len == 0)
            continue;
        work->lines[work->lines_count] = (struct stream_line){.number = number};
        refuse_line(work, &work->lines[work->lines_count++], err);
    }
}

void cairn_handle_upsert_stream_block(struct cairn_block *block)
{
    struct cairn_error err = block->error;
    struct stream_work *work = cairn_arena_zalloc(&block->arena, sizeof *work);
    work->block = block;
    pthread_mutex_init(&work->lock, NULL);
    pthread_cond_init(&work->settled, NULL);
    block->handler_state = work;
    block->finish = block_finish;

    uint32_t lines = lines_count(block->text);
    work->lines = cairn_arena_alloc(&block->arena, lines * sizeof *work->lines + 1);
    work->item_lines = cairn_arena_alloc(&block->arena, lines * sizeof *work->item_lines + 1);
    /* Each block takes the newest schema, so that a long upload sees features added meanwhile. */
    const struct cairn_schema *schema =
        err.code == 0 ? cairn_handler_schema(block->exchange, &err) : NULL;
    if (schema == NULL) {
        refuse_block(work, &err);
        cairn_block_done(block);
        return;
    }
    cairn_write_set_init(&work->set, block->exchange->router, schema, &block->arena, lines);
    work->set.may_block = true;
    read_lines(work, *(const enum cairn_entity_op *)block->exchange->handler_state);
    submit_lines(work);
}
