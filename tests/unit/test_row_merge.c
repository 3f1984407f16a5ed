/* Event-time resolution, case by case. Events are written as text: `a=1` sets a feature, `a=null`
 * sets it to null, `v:1,2` sets a vector, `v:-` removes it. Rows read the same way, each cell with
 * the event time it has: `a=1@10 v:1,2@10`, then the tombstone's time as `T10`; a row whose entity
 * does not exist begins with `gone`. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "featurestore/row_merge.h"
#include "tests/lib/testing.h"

#define PATCH      CAIRN_OP_PATCH
#define REPLACE    CAIRN_OP_REPLACE
#define DELETE     CAIRN_OP_DELETE
#define APPLIED    CAIRN_WRITE_APPLIED
#define PARTIAL    CAIRN_WRITE_PARTIAL
#define SUPERSEDED CAIRN_WRITE_SUPERSEDED
#define UNCHANGED  CAIRN_WRITE_UNCHANGED

#define STEPS_MAX 5

struct step {
    enum cairn_entity_op op;
    int64_t time_us;
    const char *cells; /* NULL ends a case */
    enum cairn_write_status status;
    const char *row;
};

struct scenario {
    const char *name;
    struct step steps[STEPS_MAX];
};

struct row_case {
    struct cairn_arena arena;
    struct cairn_row_state state;
    struct cairn_row_outcome outcome;
    uint64_t offset;
};

static int no_read(void *arg, struct cairn_str name, uint32_t dim, const float **f32)
{
    (void)arg, (void)name, (void)dim, (void)f32;
    return CAIRN_EINTERNAL;
}

static void parse_vector(struct cairn_arena *arena, char *text, struct cairn_vector *vector)
{
    float *f32 = cairn_arena_alloc(arena, 8 * sizeof(*f32));
    if (strcmp(text, "-") == 0)
        return;
    vector->f32 = f32;
    for (char *save = NULL, *part = strtok_r(text, ",", &save); part != NULL;
         part = strtok_r(NULL, ",", &save))
        f32[vector->dim++] = strtof(part, NULL);
}

static struct cairn_entity parse(struct cairn_arena *arena, enum cairn_entity_op op,
                                 int64_t time_us, const char *cells)
{
    struct cairn_feature *features = cairn_arena_zalloc(arena, 8 * sizeof(*features));
    struct cairn_vector *vectors = cairn_arena_zalloc(arena, 8 * sizeof(*vectors));
    struct cairn_entity entity = {.key = CAIRN_STR_LITERAL("k"),
                                  .event_time_us = time_us,
                                  .op = op,
                                  .features = features,
                                  .vectors = vectors};
    struct cairn_str copy = cairn_arena_dup(
        arena, (struct cairn_str){cells, (uint32_t)strlen(cells) + 1}); /* with the NUL */
    char *text = (char *)(uintptr_t)copy.ptr;
    for (char *save = NULL, *part = strtok_r(text, " ", &save); part != NULL;
         part = strtok_r(NULL, " ", &save)) {
        char *value = strpbrk(part, "=:");
        bool is_vector = *value == ':';
        *value++ = '\0';
        if (is_vector) {
            vectors[entity.vectors_count].name = cairn_str_from(part);
            parse_vector(arena, value, &vectors[entity.vectors_count++]);
        } else {
            struct cairn_feature *feature = &features[entity.features_count++];
            feature->name = cairn_str_from(part);
            if (strcmp(value, "null") != 0)
                feature->value = (struct cairn_value){.type = CAIRN_TYPE_INT64,
                                                      .as.i64 = strtoll(value, NULL, 10)};
        }
    }
    return entity;
}

static void print_cell(struct cairn_buf *out, const struct cairn_row_cell *cell)
{
    cairn_buf_printf(out, "%s%.*s", out->len > 0 ? " " : "", CAIRN_STR_ARG(cell->name));
    if (cell->value.type == CAIRN_TYPE_NULL)
        cairn_buf_printf(out, "=null");
    else if (cell->value.type == CAIRN_TYPE_INT64)
        cairn_buf_printf(out, "=%lld", (long long)cell->value.as.i64);
    else if (cell->value.len == 0)
        cairn_buf_printf(out, ":-");
    for (uint32_t i = 0; cell->value.type == CAIRN_TYPE_VECTOR && i < cell->value.len; i++) {
        float component;
        memcpy(&component, cell->value.as.bytes + i * sizeof(float), sizeof(float));
        cairn_buf_printf(out, "%c%g", i == 0 ? ':' : ',', (double)component);
    }
    cairn_buf_printf(out, "@%lld", (long long)cell->stamp.event_time_us);
}

static void assert_row(const struct cairn_row_state *state, const char *expected, const char *name)
{
    struct cairn_buf out = {0};
    if (!state->row.exists)
        cairn_buf_printf(&out, "gone");
    for (uint32_t i = 0; i < state->row.cells_count; i++)
        print_cell(&out, &state->row.cells[i]);
    if (state->row.tombstone.offset != 0)
        cairn_buf_printf(&out, "%sT%lld", out.len > 0 ? " " : "",
                         (long long)state->row.tombstone.event_time_us);
    cairn_buf_append(&out, "", 1);
    if (strcmp(out.data, expected) != 0)
        fail_msg("%s: row is `%s`, not `%s`", name, out.data, expected);
    cairn_buf_release(&out);
}

static void begin(struct row_case *row)
{
    *row = (struct row_case){.state = {.written_us = CAIRN_TIME_NONE}};
}

static int merge_entity(struct row_case *row, const struct cairn_entity *entity)
{
    struct cairn_row_vector_source source = {no_read, NULL};
    row->offset++;
    return cairn_row_merge(&row->state, entity, 1000, row->offset, &source, &row->arena,
                           &row->outcome);
}

static void merge(struct row_case *row, enum cairn_entity_op op, int64_t time_us, const char *cells)
{
    struct cairn_entity entity = parse(&row->arena, op, time_us, cells);
    assert_int_equal(merge_entity(row, &entity), 0);
}

static void run(const struct scenario *scenarios, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct row_case row;
        begin(&row);
        for (const struct step *step = scenarios[i].steps;
             step < scenarios[i].steps + STEPS_MAX && step->cells != NULL; step++) {
            bool existed = row.state.row.exists;
            merge(&row, step->op, step->time_us, step->cells);
            assert_row(&row.state, step->row, scenarios[i].name);
            if (row.outcome.status != step->status)
                fail_msg("%s: step %d is %d, not %d", scenarios[i].name,
                         (int)(step - scenarios[i].steps), row.outcome.status, step->status);
            assert_int_equal(row.outcome.existed, existed);
            assert_int_equal(row.outcome.exists, row.state.row.exists);
            assert_int_equal(row.state.row.newest.offset, row.offset);
            assert_int_equal(row.state.row.newest.event_time_us, step->time_us);
            assert_int_equal(row.state.row.newest.ingest_time_us, 1000);
        }
        cairn_arena_release(&row.arena);
    }
}

static void patches(void **test)
{
    (void)test;
    static const struct scenario scenarios[] = {
        {"newer wins, cell by cell",
         {{PATCH, 10, "b=1 a=1", APPLIED, "a=1@10 b=1@10"},
          {PATCH, 20, "b=2 c=2", APPLIED, "a=1@10 b=2@20 c=2@20"},
          {PATCH, 15, "a=3 b=3", PARTIAL, "a=3@15 b=2@20 c=2@20"},
          {PATCH, 5, "a=4 c=4", SUPERSEDED, "a=3@15 b=2@20 c=2@20"},
          {PATCH, 5, "d=4", APPLIED, "a=3@15 b=2@20 c=2@20 d=4@5"}}},
        {"the same again",
         {{PATCH, 10, "a=1 b=null", APPLIED, "a=1@10 b=null@10"},
          {PATCH, 10, "b=null a=1", UNCHANGED, "a=1@10 b=null@10"},
          {PATCH, 10, "a=1", UNCHANGED, "a=1@10 b=null@10"},
          {PATCH, 10, "a=1 c=1", APPLIED, "a=1@10 b=null@10 c=1@10"},
          {PATCH, 11, "a=1", APPLIED, "a=1@11 b=null@10 c=1@10"}}},
        {"at one event time the later record wins",
         {{PATCH, -10, "a=1", APPLIED, "a=1@-10"}, {PATCH, -10, "a=2", APPLIED, "a=2@-10"}}},
        {"what is superseded does not make a repetition new",
         {{PATCH, 10, "a=1 b=1", APPLIED, "a=1@10 b=1@10"},
          {PATCH, 20, "b=2", APPLIED, "a=1@10 b=2@20"},
          {PATCH, 10, "a=1 b=1", UNCHANGED, "a=1@10 b=2@20"}}},
        {"null is a value",
         {{PATCH, 20, "a=null", APPLIED, "a=null@20"},
          {PATCH, 10, "a=1", SUPERSEDED, "a=null@20"},
          {PATCH, 30, "a=1", APPLIED, "a=1@30"}}},
        {"without cells",
         {{PATCH, 10, "", APPLIED, ""},
          {PATCH, 10, "", UNCHANGED, ""},
          {PATCH, 20, "", APPLIED, ""},
          {PATCH, 15, "", SUPERSEDED, ""}}},
        {"a removed vector keeps older ones out",
         {{PATCH, 10, "v:1,2", APPLIED, "v:1,2@10"},
          {PATCH, 20, "v:-", APPLIED, "v:-@20"},
          {PATCH, 15, "v:3,4", SUPERSEDED, "v:-@20"},
          {PATCH, 20, "v:-", UNCHANGED, "v:-@20"},
          {PATCH, 25, "v:5", APPLIED, "v:5@25"}}},
        {"a vector and a feature of one name",
         {{PATCH, 10, "v=1 v:1", APPLIED, "v=1@10 v:1@10"},
          {PATCH, 20, "v:2", APPLIED, "v=1@10 v:2@20"},
          {PATCH, 20, "a=1 z=1", APPLIED, "a=1@20 v=1@10 z=1@20 v:2@20"}}},
    };
    run(scenarios, sizeof(scenarios) / sizeof(scenarios[0]));
}

static void deletes(void **test)
{
    (void)test;
    static const struct scenario scenarios[] = {
        {"of nothing, then late events",
         {{DELETE, 10, "", UNCHANGED, "gone T10"},
          {PATCH, 5, "a=1", SUPERSEDED, "gone T10"},
          {PATCH, 5, "", SUPERSEDED, "gone T10"},
          {DELETE, 5, "", UNCHANGED, "gone T10"},
          {PATCH, 10, "a=1", APPLIED, "a=1@10 T10"}}},
        {"hides what is older and as old",
         {{PATCH, 10, "a=1 b=1", APPLIED, "a=1@10 b=1@10"},
          {DELETE, 10, "", APPLIED, "gone T10"},
          {DELETE, 10, "", UNCHANGED, "gone T10"},
          {DELETE, 20, "", UNCHANGED, "gone T20"},
          {PATCH, 15, "a=1", SUPERSEDED, "gone T20"}}},
        {"what is newer stays",
         {{PATCH, 10, "a=1 b=1", APPLIED, "a=1@10 b=1@10"},
          {PATCH, 20, "b=2", APPLIED, "a=1@10 b=2@20"},
          {DELETE, 15, "", PARTIAL, "b=2@20 T15"},
          {PATCH, 12, "a=3", SUPERSEDED, "b=2@20 T15"},
          {DELETE, 18, "", SUPERSEDED, "b=2@20 T18"}}},
        {"late",
         {{PATCH, 10, "a=1", APPLIED, "a=1@10"},
          {DELETE, 5, "", SUPERSEDED, "a=1@10 T5"},
          {PATCH, 4, "b=1", SUPERSEDED, "a=1@10 T5"},
          {PATCH, 6, "b=1", APPLIED, "a=1@10 b=1@6 T5"},
          {DELETE, 3, "", SUPERSEDED, "a=1@10 b=1@6 T5"}}},
        {"an entity without cells",
         {{PATCH, 10, "", APPLIED, ""},
          {DELETE, 5, "", SUPERSEDED, "T5"},
          {DELETE, 10, "", APPLIED, "gone T10"},
          {PATCH, 10, "", APPLIED, "T10"}}},
        {"written later without cells, it stays without cells",
         {{PATCH, 5, "a=1", APPLIED, "a=1@5"},
          {PATCH, 20, "", APPLIED, "a=1@5"},
          {DELETE, 10, "", PARTIAL, "T10"},
          {DELETE, 15, "", SUPERSEDED, "T15"},
          {DELETE, 20, "", APPLIED, "gone T20"}}},
        {"the same in the other order",
         {{DELETE, 10, "", UNCHANGED, "gone T10"},
          {PATCH, 20, "", APPLIED, "T10"},
          {PATCH, 5, "a=1", SUPERSEDED, "T10"}}},
        {"a null cell and a removed vector are hidden like any other",
         {{PATCH, 10, "a=null v:-", APPLIED, "a=null@10 v:-@10"},
          {DELETE, 20, "", APPLIED, "gone T20"},
          {PATCH, 15, "v:1", SUPERSEDED, "gone T20"}}},
    };
    run(scenarios, sizeof(scenarios) / sizeof(scenarios[0]));
}

static void replaces(void **test)
{
    (void)test;
    static const struct scenario scenarios[] = {
        {"creates, then clears",
         {{REPLACE, 10, "a=1 b=1", APPLIED, "a=1@10 b=1@10 T10"},
          {REPLACE, 20, "b=2", APPLIED, "b=2@20 T20"},
          {PATCH, 15, "c=1", SUPERSEDED, "b=2@20 T20"},
          {PATCH, 20, "c=1", APPLIED, "b=2@20 c=1@20 T20"},
          {REPLACE, 20, "b=2", APPLIED, "b=2@20 T20"}}},
        {"the same again",
         {{REPLACE, 10, "a=1 v:1", APPLIED, "a=1@10 v:1@10 T10"},
          {REPLACE, 10, "a=1 v:1", UNCHANGED, "a=1@10 v:1@10 T10"},
          {PATCH, 10, "a=1", UNCHANGED, "a=1@10 v:1@10 T10"},
          {REPLACE, 10, "a=1 v:2", APPLIED, "a=1@10 v:2@10 T10"}}},
        {"says more than the same patch: nothing else is there",
         {{PATCH, 10, "a=1", APPLIED, "a=1@10"},
          {REPLACE, 10, "a=1", APPLIED, "a=1@10 T10"},
          {PATCH, 5, "b=1", SUPERSEDED, "a=1@10 T10"},
          {REPLACE, 10, "a=1", UNCHANGED, "a=1@10 T10"}}},
        {"late",
         {{PATCH, 10, "a=1 b=1", APPLIED, "a=1@10 b=1@10"},
          {PATCH, 2, "c=1", APPLIED, "a=1@10 b=1@10 c=1@2"},
          {REPLACE, 5, "a=2", PARTIAL, "a=1@10 b=1@10 T5"},
          {REPLACE, 6, "b=2", SUPERSEDED, "a=1@10 b=1@10 T6"},
          {REPLACE, 7, "a=3 d=3", PARTIAL, "a=1@10 b=1@10 d=3@7 T7"}}},
        {"later than all its cells",
         {{REPLACE, 20, "a=1", APPLIED, "a=1@20 T20"},
          {REPLACE, 10, "b=1", SUPERSEDED, "a=1@20 T20"},
          {REPLACE, 10, "", SUPERSEDED, "a=1@20 T20"}}},
        {"without cells empties",
         {{PATCH, 10, "a=1", APPLIED, "a=1@10"},
          {REPLACE, 20, "", APPLIED, "T20"},
          {REPLACE, 20, "", UNCHANGED, "T20"},
          {REPLACE, 30, "", APPLIED, "T30"},
          {PATCH, 25, "a=1", SUPERSEDED, "T30"}}},
        {"without cells, late",
         {{PATCH, 10, "a=1", APPLIED, "a=1@10"},
          {PATCH, 5, "b=1", APPLIED, "a=1@10 b=1@5"},
          {REPLACE, 7, "", PARTIAL, "a=1@10 T7"},
          {REPLACE, 8, "", SUPERSEDED, "a=1@10 T8"}}},
        {"an emptied entity is not gone, a late delete changes nothing",
         {{REPLACE, 20, "", APPLIED, "T20"},
          {DELETE, 10, "", SUPERSEDED, "T20"},
          {PATCH, 30, "", APPLIED, "T20"},
          {REPLACE, 25, "", SUPERSEDED, "T25"}}},
    };
    run(scenarios, sizeof(scenarios) / sizeof(scenarios[0]));
}

static void assert_effects(const struct row_case *row, const char *expected)
{
    struct cairn_buf out = {0};
    for (uint32_t i = 0; i < row->outcome.vectors_count; i++) {
        const struct cairn_row_vector_effect *effect = &row->outcome.vectors[i];
        cairn_buf_printf(&out, "%s%.*s:", i > 0 ? " " : "", CAIRN_STR_ARG(effect->name));
        if (effect->f32 == NULL)
            cairn_buf_printf(&out, "-");
        for (uint32_t d = 0; effect->f32 != NULL && d < effect->dim; d++)
            cairn_buf_printf(&out, "%s%g", d > 0 ? "," : "", (double)effect->f32[d]);
    }
    cairn_buf_append(&out, "", 1);
    assert_string_equal(out.data, expected);
    cairn_buf_release(&out);
}

static void vector_effects_are_what_an_index_must_do(void **test)
{
    (void)test;
    struct row_case row;
    begin(&row);
    merge(&row, PATCH, 10, "w:1 v:1,2 a=1");
    assert_effects(&row, "v:1,2 w:1");
    merge(&row, PATCH, 10, "v:1,2"); /* there already */
    assert_effects(&row, "");
    merge(&row, PATCH, 5, "v:3,4"); /* late */
    assert_effects(&row, "");
    merge(&row, PATCH, 20, "v:-");
    assert_effects(&row, "v:-");
    merge(&row, PATCH, 21, "v:-"); /* removed already */
    assert_effects(&row, "");
    merge(&row, PATCH, 15, "u:-"); /* was never there */
    assert_effects(&row, "");
    merge(&row, PATCH, 30, "v:5");
    assert_effects(&row, "v:5");
    merge(&row, DELETE, 20, ""); /* hides w and u */
    assert_effects(&row, "w:-");
    merge(&row, REPLACE, 40, "a=1 x:7 b:1");
    assert_effects(&row, "b:1 v:- x:7");
    merge(&row, DELETE, 50, "");
    assert_effects(&row, "b:- x:-");
    cairn_arena_release(&row.arena);
}

/* A replace is a tombstone at its own stamp: a cell that it repeats must not stay below it. */
static void replace_stamps_what_it_repeats(void **test)
{
    (void)test;
    struct row_case row;
    begin(&row);
    merge(&row, PATCH, 10, "a=1 v:1 w:1");
    merge(&row, REPLACE, 10, "w:2 v:1 a=1");
    assert_int_equal(row.outcome.status, CAIRN_WRITE_APPLIED);
    assert_row(&row.state, "a=1@10 v:1@10 w:2@10 T10", "repeated");
    for (uint32_t i = 0; i < row.state.row.cells_count; i++)
        assert_int_equal(row.state.row.cells[i].stamp.offset, 2);
    assert_effects(&row, "v:1 w:2"); /* the index must learn the new offset of v */
    merge(&row, PATCH, 10, "a=1");
    assert_int_equal(row.state.row.cells[0].stamp.offset, 2);
    cairn_arena_release(&row.arena);
}

struct stored_vector {
    float f32[2];
    int code;
    unsigned reads;
};

static int read_stored(void *arg, struct cairn_str name, uint32_t dim, const float **f32)
{
    struct stored_vector *stored = arg;
    assert_true(cairn_str_eq(name, CAIRN_STR_LITERAL("v")));
    assert_int_equal(dim, 2);
    stored->reads++;
    *f32 = stored->f32;
    return stored->code;
}

static void stored_vectors_are_read_only_to_compare(void **test)
{
    (void)test;
    struct row_case row;
    begin(&row);
    struct cairn_row_cell cells[2] = {
        {CAIRN_STR_LITERAL("a"), {.type = CAIRN_TYPE_INT64, .as.i64 = 1}, {10, 1000, 1}},
        {CAIRN_STR_LITERAL("v"), {.type = CAIRN_TYPE_VECTOR, .len = 2}, {10, 1000, 1}}};
    row.offset = 1;
    row.state = (struct cairn_row_state){
        .row = {.cells = cells, .cells_count = 2, .newest = {10, 1000, 1}, .exists = true},
        .written_us = 10};
    struct stored_vector stored = {.f32 = {1, 2}};
    struct cairn_row_vector_source source = {read_stored, &stored};

    struct cairn_entity same = parse(&row.arena, PATCH, 10, "v:1,2");
    assert_int_equal(cairn_row_merge(&row.state, &same, 1000, 2, &source, &row.arena, &row.outcome),
                     0);
    assert_int_equal(row.outcome.status, CAIRN_WRITE_UNCHANGED);
    assert_int_equal(stored.reads, 1);

    /* Another time or dimension needs no read; a failing read changes nothing. */
    struct cairn_entity late = parse(&row.arena, PATCH, 9, "v:1,2");
    assert_int_equal(cairn_row_merge(&row.state, &late, 1000, 3, &source, &row.arena, &row.outcome),
                     0);
    assert_int_equal(row.outcome.status, CAIRN_WRITE_SUPERSEDED);
    assert_int_equal(stored.reads, 1);
    stored.code = CAIRN_EIO;
    struct cairn_entity broken = parse(&row.arena, REPLACE, 10, "a=5 b=5 v:1,2");
    assert_int_equal(
        cairn_row_merge(&row.state, &broken, 1000, 4, &source, &row.arena, &row.outcome),
        CAIRN_EIO);
    assert_int_equal(row.state.row.cells_count, 2);
    assert_int_equal(row.state.row.cells[0].value.as.i64, 1);
    assert_int_equal(row.state.row.tombstone.offset, 0);
    assert_int_equal(row.state.row.newest.offset, 3);
    struct cairn_entity other = parse(&row.arena, PATCH, 10, "v:1,2,3");
    assert_int_equal(
        cairn_row_merge(&row.state, &other, 1000, 4, &source, &row.arena, &row.outcome), 0);
    assert_int_equal(row.outcome.status, CAIRN_WRITE_APPLIED);
    assert_int_equal(stored.reads, 2);
    cairn_arena_release(&row.arena);
}

static void event_time_defaults_to_ingest_time(void **test)
{
    (void)test;
    struct row_case row;
    begin(&row);
    merge(&row, PATCH, CAIRN_TIME_NONE, "a=1");
    assert_row(&row.state, "a=1@1000", "default");
    merge(&row, PATCH, 1001, "a=2");
    merge(&row, PATCH, CAIRN_TIME_NONE, "a=3");
    assert_int_equal(row.outcome.status, CAIRN_WRITE_SUPERSEDED);
    merge(&row, DELETE, CAIRN_TIME_NONE, "");
    assert_row(&row.state, "a=2@1001 T1000", "default delete");
    cairn_arena_release(&row.arena);
}

static void merge_routed(struct row_case *row, int64_t time_us, const char *cells,
                         const char *route)
{
    struct cairn_entity entity = parse(&row->arena, PATCH, time_us, cells);
    entity.route = cairn_str_from(route);
    assert_int_equal(merge_entity(row, &entity), 0);
}

static void route_is_that_of_the_newest_write(void **test)
{
    (void)test;
    struct row_case row;
    begin(&row);
    struct cairn_str *route = &row.state.row.route;
    merge_routed(&row, 10, "a=1", "r1");
    assert_true(cairn_str_eq(*route, CAIRN_STR_LITERAL("r1")));
    merge_routed(&row, 5, "b=1", "r0"); /* late */
    assert_true(cairn_str_eq(*route, CAIRN_STR_LITERAL("r1")));
    merge_routed(&row, 10, "a=1", "r2"); /* only the route differs */
    assert_int_equal(row.outcome.status, CAIRN_WRITE_APPLIED);
    assert_true(cairn_str_eq(*route, CAIRN_STR_LITERAL("r2")));
    merge_routed(&row, 10, "a=1", "r2");
    assert_int_equal(row.outcome.status, CAIRN_WRITE_UNCHANGED);
    merge_routed(&row, 20, "", "k"); /* the key itself */
    assert_int_equal(route->len, 0);
    merge_routed(&row, 20, "", "r3");
    assert_int_equal(row.outcome.status, CAIRN_WRITE_APPLIED);
    assert_true(cairn_str_eq(*route, CAIRN_STR_LITERAL("r3")));
    merge(&row, DELETE, 30, "");
    merge(&row, PATCH, 40, "a=1");
    assert_int_equal(route->len, 0);
    cairn_arena_release(&row.arena);
}

static void provenance_is_of_the_last_change(void **test)
{
    (void)test;
    struct row_case row;
    begin(&row);
    static const struct {
        int64_t time_us;
        const char *cells, *source, *expected;
    } steps[] = {{10, "a=1", "one", "one"},       {5, "a=2", "late", "one"},
                 {10, "a=1", "again", "one"},     {7, "a=2 b=2", "partial", "partial"},
                 {20, "a=3", "newest", "newest"}, {20, "a=4", "", ""}};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct cairn_entity entity = parse(&row.arena, PATCH, steps[i].time_us, steps[i].cells);
        entity.provenance.source = cairn_str_from(steps[i].source);
        assert_int_equal(merge_entity(&row, &entity), 0);
        assert_true(
            cairn_str_eq(row.state.row.provenance.source, cairn_str_from(steps[i].expected)));
    }
    cairn_arena_release(&row.arena);
}

/* Events about one key at distinct event times, in every order of arrival. */
static void order_of_arrival_does_not_matter(void **test)
{
    (void)test;
    static const char *const cells[] = {"", "a=1", "b=2", "a=3 v:1", "v:- b=null", "v:2 c=4"};
    uint64_t random = cairn_test_seed();
    for (int round = 0; round < 300; round++) {
        struct step events[5];
        for (int i = 0; i < 5; i++) {
            uint64_t op = cairn_test_random_below(&random, 5);
            events[i] = (struct step){.op = op == 0   ? DELETE
                                            : op == 1 ? REPLACE
                                                      : PATCH,
                                      .time_us = 10 * (i + 1),
                                      .cells = cells[cairn_test_random_below(&random, 6)]};
            if (events[i].op == DELETE)
                events[i].cells = "";
        }
        char expected[512] = "";
        for (int order = 0; order < 120; order++) {
            struct row_case row;
            begin(&row);
            int left[5] = {0, 1, 2, 3, 4}, number = order;
            for (int n = 5; n > 0; n--) { /* the order'th permutation */
                int at = number % n;
                number /= n;
                const struct step *event = &events[left[at]];
                left[at] = left[n - 1];
                merge(&row, event->op, event->time_us, event->cells);
            }
            struct cairn_buf out = {0};
            cairn_buf_printf(&out, "%d %lld", row.state.row.exists,
                             (long long)row.state.row.tombstone.event_time_us *
                                 (row.state.row.tombstone.offset != 0));
            for (uint32_t i = 0; i < row.state.row.cells_count; i++)
                print_cell(&out, &row.state.row.cells[i]);
            cairn_buf_append(&out, "", 1);
            assert_true(out.len <= sizeof(expected));
            if (order == 0)
                memcpy(expected, out.data, out.len);
            assert_string_equal(out.data, expected);
            cairn_buf_release(&out);
            cairn_arena_release(&row.arena);
        }
    }
}

static void many_events_on_one_row_take_bounded_memory(void **test)
{
    (void)test;
    enum { FEATURES = 1000, EVENTS = 2000 };
    struct row_case row;
    begin(&row);
    static char names[FEATURES][8];
    static struct cairn_feature features[FEATURES];
    for (int i = 0; i < FEATURES; i++) {
        snprintf(names[i], sizeof(names[i]), "f%05d", FEATURES - i); /* not in order */
        features[i].name = cairn_str_from(names[i]);
    }
    struct cairn_entity entity = {.key = CAIRN_STR_LITERAL("k"),
                                  .event_time_us = 1,
                                  .features = features,
                                  .features_count = FEATURES};
    assert_int_equal(merge_entity(&row, &entity), 0);
    assert_int_equal(row.state.row.cells_count, FEATURES);
    entity.features_count = 1;
    for (int i = 0; i < EVENTS; i++) {
        entity.event_time_us = i + 2;
        assert_int_equal(merge_entity(&row, &entity), 0);
        assert_int_equal(row.outcome.status, CAIRN_WRITE_APPLIED);
    }
    assert_int_equal(row.state.row.cells_count, FEATURES);
    /* Twice the row and room to grow, and a little for each event. */
    assert_true(row.arena.used_bytes < 6 * FEATURES * sizeof(struct cairn_row_cell) + EVENTS * 256);
    cairn_arena_release(&row.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patches),
        cmocka_unit_test(deletes),
        cmocka_unit_test(replaces),
        cmocka_unit_test(vector_effects_are_what_an_index_must_do),
        cmocka_unit_test(replace_stamps_what_it_repeats),
        cmocka_unit_test(stored_vectors_are_read_only_to_compare),
        cmocka_unit_test(event_time_defaults_to_ingest_time),
        cmocka_unit_test(route_is_that_of_the_newest_write),
        cmocka_unit_test(provenance_is_of_the_last_change),
        cmocka_unit_test(order_of_arrival_does_not_matter),
        cmocka_unit_test(many_events_on_one_row_take_bounded_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
