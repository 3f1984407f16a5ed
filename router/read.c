/* Ordered scans and counts over all shards, each under one epoch. */
#include <stdlib.h>

#include "router/internal.h"

/* The next row of one shard's scan. */
struct scan_head {
    struct router_part *part;
    struct cairn_shard_scan *scan; /* of a shard here */
    struct cairn_row_ref row;
    bool ended;
    uint32_t at; /* of the answer's rows, of a shard elsewhere */
};

struct scroll {
    struct cairn_router *router;
    const struct cairn_schema *schema;
    const struct cairn_router_scan *scan;
    struct cairn_arena arena; /* of the rows of one round */
    struct router_scatter scatter;
    struct scan_head *heads;
    struct cairn_str after_key; /* the last visited; in last_key */
    char last_key[CAIRN_KEY_BYTES_MAX];
    uint32_t visited;
    uint32_t chunk; /* rows asked of a shard elsewhere at a time */
    struct cairn_contract *contract;
};

static struct cairn_shard_request scan_request(const struct scroll *scroll,
                                               struct cairn_str after_key)
{
    return (struct cairn_shard_request){.cluster = scroll->scatter.map->cluster,
                                        .epoch = scroll->scatter.map->epoch,
                                        .same_epoch = true,
                                        .collection = scroll->schema->id,
                                        .vectors = scroll->scan->vectors,
                                        .vectors_count = scroll->scan->vectors_count,
                                        .filter_json = scroll->scan->filter_json,
                                        .after_key = after_key,
                                        .limit = scroll->chunk};
}

static int show_remote(struct scan_head *head)
{
    const struct cairn_shard_answer *answer = &head->part->answer;
    if (head->at == answer->rows_count) {
        head->ended = true;
        return 0;
    }
    const struct cairn_shard_row *row = &answer->rows[head->at];
    head->row.key = row->key;
    head->row.vectors = row->vectors;
    head->row.vectors_count = row->vectors_count;
    cairn_row_view_init(&head->row.view, row->row);
    return 0;
}

/* The next rows of a shard elsewhere. */
static int refill(struct scroll *scroll, struct scan_head *head, struct cairn_error *err)
{
    struct router_part *part = head->part;
    struct router_latch latch;
    char after[CAIRN_KEY_BYTES_MAX];
    struct cairn_str after_key = {after, head->row.key.len};
    memcpy(after, head->row.key.ptr, head->row.key.len);
    struct cairn_shard_request request = scan_request(scroll, after_key);
    router_remote_end(&part->remote);
    router_remote_init(&part->remote, scroll->router, part->member, CAIRN_SHARD_SCAN,
                       router_latch_remote_done, &latch);
    router_latch_init(&latch, 1);
    router_remote_start(&part->remote, &request, scroll->scan->deadline_us);
    router_latch_wait(&latch);
    int code = router_remote_take(&part->remote, &scroll->arena, &part->answer);
    head->at = 0;
    if (code == 0)
        return show_remote(head);
    *err = part->answer.error;
    return code;
}

static int head_next(struct scroll *scroll, struct scan_head *head, struct cairn_error *err)
{
    if (head->scan != NULL) {
        int code = cairn_shard_scan_next(head->scan, &head->row.key, &head->row.view, err);
        if (code == CAIRN_EEND)
            head->ended = true;
        return code == CAIRN_EEND ? 0 : code;
    }
    const struct cairn_shard_answer *answer = &head->part->answer;
    if (head->at + 1 == answer->rows_count && answer->more)
        return refill(scroll, head, err);
    head->at++;
    return show_remote(head);
}

static int open_head(struct scroll *scroll, struct scan_head *head, struct router_part *part,
                     struct cairn_error *err)
{
    struct cairn_shard *local = part->member->local;
    struct cairn_shard_read read = {
        .schema = scroll->schema, .epoch = scroll->scatter.map->epoch, .same_epoch = true};
    head->part = part;
    head->row = (struct cairn_row_ref){
        .found = true, .shard = part->shard, .collection = scroll->schema->id};
    if (local == NULL)
        return 0;
    router_touch(scroll->router, scroll->scatter.map, scroll->contract, part->shard);
    int code = cairn_shard_scan_open(local, &read, scroll->scan->filter, scroll->after_key,
                                     &head->scan, err);
    return code == 0 ? head_next(scroll, head, err) : code;
}

/* The head with the smallest key; NULL when all have ended. */
static struct scan_head *smallest(struct scroll *scroll)
{
    struct scan_head *best = NULL;
    for (uint32_t i = 0; i < scroll->scatter.parts_count; i++) {
        struct scan_head *head = &scroll->heads[i];
        if (!head->ended && (best == NULL || cairn_str_cmp(head->row.key, best->row.key) < 0))
            best = head;
    }
    return best;
}

static int open_heads(struct scroll *scroll, struct cairn_error *err)
{
    int code = router_scatter_begin(scroll->router, &scroll->arena, &scroll->scatter, err);
    if (code != 0)
        return code;
    uint32_t count = scroll->scatter.parts_count;
    scroll->heads = cairn_arena_zalloc(&scroll->arena, (count + 1) * sizeof *scroll->heads);
    struct cairn_shard_request request = scan_request(scroll, scroll->after_key);
    router_scatter_send(&scroll->scatter, CAIRN_SHARD_SCAN, &request, scroll->scan->deadline_us);
    for (uint32_t i = 0; i < count && code == 0; i++)
        code = open_head(scroll, &scroll->heads[i], &scroll->scatter.parts[i], err);
    struct cairn_error of_wait = {0};
    int waited =
        router_scatter_wait(&scroll->scatter, &scroll->arena, false, scroll->contract, &of_wait);
    if (code == 0 && waited != 0) {
        *err = of_wait;
        code = waited;
    }
    for (uint32_t i = 0; i < count && code == 0; i++)
        if (scroll->heads[i].scan == NULL && !scroll->heads[i].ended)
            code = show_remote(&scroll->heads[i]);
    return code;
}

static void close_heads(struct scroll *scroll)
{
    for (uint32_t i = 0; scroll->heads != NULL && i < scroll->scatter.parts_count; i++)
        if (scroll->heads[i].scan != NULL)
            cairn_shard_scan_close(&scroll->heads[i].scan);
    scroll->heads = NULL;
    router_scatter_end(&scroll->scatter);
    cairn_arena_reset(&scroll->arena);
}

static int visit_rows(struct scroll *scroll, cairn_row_visitor visit, void *context, bool *more,
                      struct cairn_error *err)
{
    struct scan_head *head;
    int code = 0;
    while (code == 0 && (head = smallest(scroll)) != NULL) {
        if (scroll->visited == scroll->scan->limit) {
            *more = true;
            return 0;
        }
        visit(context, scroll->visited++, &head->row);
        scroll->after_key = (struct cairn_str){scroll->last_key, head->row.key.len};
        memcpy(scroll->last_key, head->row.key.ptr, head->row.key.len);
        code = head_next(scroll, head, err);
    }
    return code;
}

/* A shard that goes by another map ends a round; the next one goes on after the last row visited.
 */
int cairn_router_scroll(struct cairn_router *router, const struct cairn_schema *schema,
                        const struct cairn_router_scan *scan, cairn_row_visitor visit,
                        void *context, bool *more, struct cairn_contract *contract,
                        struct cairn_error *err)
{
    uint32_t chunk = scan->limit < CAIRN_SCAN_ROWS_MAX ? scan->limit + 1 : CAIRN_SCAN_ROWS_MAX;
    struct scroll *scroll = cairn_calloc(1, sizeof *scroll);
    *scroll = (struct scroll){.router = router,
                              .schema = schema,
                              .scan = scan,
                              .after_key = scan->after_key,
                              .chunk = chunk,
                              .contract = contract};
    unsigned tries = 0;
    bool again = true;
    int code = 0;
    *more = false;
    while (again) {
        code = open_heads(scroll, err);
        if (code == 0)
            code = visit_rows(scroll, visit, context, more, err);
        if (code == CAIRN_ETOOLARGE && scroll->chunk > 1) {
            scroll->chunk /= 4;
            scroll->chunk += scroll->chunk == 0;
        } else {
            again =
                code != 0 && scroll->scatter.map != NULL &&
                router_scatter_again(router, scroll->scatter.map, code, &tries, scan->deadline_us);
        }
        close_heads(scroll);
    }
    cairn_arena_release(&scroll->arena);
    free(scroll);
    return code;
}

static int count_once(struct cairn_router *router, const struct cairn_schema *schema,
                      const struct cairn_router_scan *scan, struct cairn_arena *arena,
                      struct router_scatter *scatter, uint64_t *out,
                      struct cairn_contract *contract, struct cairn_error *err)
{
    struct cairn_shard_request request = {.collection = schema->id,
                                          .filter_json = scan->filter_json};
    struct cairn_error of_wait = {0};
    int code = router_scatter_begin(router, arena, scatter, err);
    if (code != 0)
        return code;
    struct cairn_shard_read read = {
        .schema = schema, .epoch = scatter->map->epoch, .same_epoch = true};
    router_scatter_send(scatter, CAIRN_SHARD_COUNT, &request, scan->deadline_us);
    *out = 0;
    for (uint32_t i = 0; i < scatter->parts_count && code == 0; i++) {
        struct cairn_shard *local = scatter->parts[i].member->local;
        uint64_t count = 0;
        if (local == NULL)
            continue;
        router_touch(router, scatter->map, contract, scatter->parts[i].shard);
        code = cairn_shard_count(local, &read, scan->filter, &count, err);
        *out += count;
    }
    int waited = router_scatter_wait(scatter, arena, false, contract, &of_wait);
    if (code == 0 && waited != 0) {
        *err = of_wait;
        code = waited;
    }
    for (uint32_t i = 0; i < scatter->parts_count && code == 0; i++)
        if (scatter->parts[i].member->local == NULL)
            *out += scatter->parts[i].answer.count;
    return code;
}

int cairn_router_count(struct cairn_router *router, const struct cairn_schema *schema,
                       const struct cairn_router_scan *scan, uint64_t *out,
                       struct cairn_contract *contract, struct cairn_error *err)
{
    struct cairn_arena arena = {0};
    struct router_scatter scatter;
    unsigned tries = 0;
    bool again;
    int code;
    do {
        code = count_once(router, schema, scan, &arena, &scatter, out, contract, err);
        again = code != 0 && scatter.map != NULL &&
                router_scatter_again(router, scatter.map, code, &tries, scan->deadline_us);
        router_scatter_end(&scatter);
        cairn_arena_reset(&arena);
    } while (again);
    cairn_arena_release(&arena);
    return code;
}
