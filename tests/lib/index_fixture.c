#include "tests/lib/index_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "index/kernels.h"

float test_normal(uint64_t *random)
{
    double u = (double)(cairn_test_random(random) >> 11) / 9007199254740992.0 + 1e-12;
    double v = (double)(cairn_test_random(random) >> 11) / 9007199254740992.0;
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

void index_fixture_open(struct index_fixture *fixture, enum cairn_index_kind kind,
                        enum cairn_metric metric, uint32_t dim)
{
    memset(fixture, 0, sizeof(*fixture));
    cairn_test_dir_make(&fixture->dir);
    fixture->options = (struct cairn_index_options){
        .dir = fixture->dir.path,
        .dim = dim,
        .metric = metric,
        .params = {.kind = kind},
    };
    index_fixture_open_again(fixture);
    assert_string_equal(fixture->note, "");
}

void index_fixture_open_again(struct index_fixture *fixture)
{
    struct cairn_error err = {0};
    int code = cairn_index_open(&fixture->options, &fixture->index, fixture->note, &err);
    if (code != 0)
        fail_msg("open: %s", err.message);
}

void index_fixture_reopen(struct index_fixture *fixture)
{
    cairn_index_close(&fixture->index);
    assert_null(fixture->index);
    index_fixture_open_again(fixture);
}

void index_fixture_close(struct index_fixture *fixture)
{
    cairn_index_close(&fixture->index);
    cairn_test_dir_remove(&fixture->dir);
}

float *test_clustered(uint64_t *random, uint32_t count, uint32_t dim, uint32_t clusters)
{
    float *centres = cairn_malloc((size_t)clusters * dim * sizeof(float));
    float *vectors = cairn_malloc((size_t)count * dim * sizeof(float));
    for (size_t i = 0; i < (size_t)clusters * dim; i++)
        centres[i] = test_normal(random);
    for (uint32_t i = 0; i < count; i++) {
        const float *centre = centres + (size_t)cairn_test_random_below(random, clusters) * dim;
        for (uint32_t d = 0; d < dim; d++)
            vectors[(size_t)i * dim + d] = centre[d] + 0.6f * test_normal(random);
    }
    free(centres);
    return vectors;
}

struct cairn_str test_key(uint32_t number, char *out)
{
    int len = snprintf(out, 16, "k%u", number);
    return (struct cairn_str){out, (uint32_t)len};
}

void index_model_init(struct index_model *model, enum cairn_metric metric, uint32_t dim,
                      uint32_t capacity)
{
    *model = (struct index_model){.metric = metric, .dim = dim, .capacity = capacity};
    model->present = cairn_calloc(capacity, sizeof(bool));
    model->vectors = cairn_calloc((size_t)capacity * dim, sizeof(float));
    model->offsets = cairn_calloc(capacity, sizeof(uint64_t));
}

void index_model_release(struct index_model *model)
{
    free(model->present);
    free(model->vectors);
    free(model->offsets);
}

void index_model_copy(struct index_model *to, const struct index_model *from)
{
    index_model_init(to, from->metric, from->dim, from->capacity);
    to->live = from->live;
    memcpy(to->present, from->present, from->capacity * sizeof(bool));
    memcpy(to->vectors, from->vectors, (size_t)from->capacity * from->dim * sizeof(float));
    memcpy(to->offsets, from->offsets, from->capacity * sizeof(uint64_t));
}

static void prepare(enum cairn_metric metric, const float *from, uint32_t dim, float *to)
{
    double squares = 0;
    for (uint32_t i = 0; i < dim; i++)
        squares += (double)from[i] * from[i];
    double scale = metric == CAIRN_METRIC_COSINE && squares > 0 ? 1 / sqrt(squares) : 1;
    for (uint32_t i = 0; i < dim; i++)
        to[i] = (float)(from[i] * scale);
}

void index_model_upsert(struct index_model *model, uint32_t number, const float *vector,
                        uint64_t offset)
{
    assert_true(number < model->capacity);
    model->live += !model->present[number];
    model->present[number] = true;
    model->offsets[number] = offset;
    prepare(model->metric, vector, model->dim, model->vectors + (size_t)number * model->dim);
}

void index_model_remove(struct index_model *model, uint32_t number)
{
    model->live -= model->present[number];
    model->present[number] = false;
}

static bool higher_is_better; /* of the sort that runs; tests are single-threaded where they sort */

static int compare(const void *left, const void *right)
{
    const struct model_hit *a = left, *b = right;
    char first[16], second[16];
    if (a->score != b->score)
        return (a->score < b->score) == higher_is_better ? 1 : -1;
    return cairn_str_cmp(test_key(a->number, first), test_key(b->number, second));
}

/* Quickselect: the k best come to the front, in any order. */
static void bring_best_forward(struct model_hit *all, uint32_t count, uint32_t k)
{
    uint32_t low = 0, high = count;
    while (high - low > 1 && k > low && k < high) {
        struct model_hit pivot = all[low + (high - low) / 2];
        uint32_t better = low, at = low, worse = high;
        while (at < worse) {
            int order = compare(&all[at], &pivot);
            struct model_hit moving = all[at];
            if (order < 0) {
                all[at++] = all[better];
                all[better++] = moving;
            } else if (order > 0) {
                all[at] = all[--worse];
                all[worse] = moving;
            } else {
                at++;
            }
        }
        if (k <= better)
            high = better;
        else if (k >= worse)
            low = worse;
        else
            return;
    }
}

uint32_t index_model_search(const struct index_model *model, const float *query, uint32_t k,
                            const bool *allow, struct model_hit *hits)
{
    struct model_hit *all = cairn_malloc(((size_t)model->capacity + 1) * sizeof(*all));
    float *prepared = cairn_malloc(model->dim * sizeof(float));
    uint32_t count = 0;
    prepare(model->metric, query, model->dim, prepared);
    for (uint32_t i = 0; i < model->capacity; i++) {
        if (!model->present[i] || (allow != NULL && !allow[i]))
            continue;
        const float *vector = model->vectors + (size_t)i * model->dim;
        float score = model->metric == CAIRN_METRIC_L2
                          ? sqrtf(cairn_kernels->l2sq(prepared, vector, model->dim))
                          : cairn_kernels->dot(prepared, vector, model->dim);
        all[count++] = (struct model_hit){score, i};
    }
    higher_is_better = model->metric != CAIRN_METRIC_L2;
    if (k < count)
        bring_best_forward(all, count, k);
    qsort(all, count < k ? count : k, sizeof(*all), compare);
    count = count < k ? count : k;
    memcpy(hits, all, count * sizeof(*all));
    free(prepared);
    free(all);
    return count;
}

void index_put(struct index_fixture *fixture, struct index_model *model, uint32_t number,
               const float *vector, uint64_t offset)
{
    char key[16];
    assert_int_equal(
        cairn_index_upsert(fixture->index, test_key(number, key), vector, offset, NULL), 0);
    index_model_upsert(model, number, vector, offset);
}

void index_drop(struct index_fixture *fixture, struct index_model *model, uint32_t number,
                uint64_t offset)
{
    char key[16];
    cairn_index_remove(fixture->index, test_key(number, key), offset);
    index_model_remove(model, number);
}

static struct cairn_index_filter *filter_of(struct index_fixture *fixture,
                                            const struct index_model *model, const bool *allow)
{
    if (allow == NULL)
        return NULL;
    char key[16];
    struct cairn_index_filter *filter = cairn_index_filter_new(fixture->index);
    for (uint32_t i = 0; i < model->capacity; i++)
        if (allow[i])
            cairn_index_filter_add(filter, test_key(i, key));
    return filter;
}

static uint32_t search(struct index_fixture *fixture, const struct index_model *model,
                       const float *query, uint32_t k, bool exact, const bool *allow,
                       struct cairn_arena *arena, struct cairn_index_hit *hits)
{
    struct cairn_index_filter *filter = filter_of(fixture, model, allow);
    struct cairn_index_search request = {.query = query, .k = k, .exact = exact, .filter = filter};
    struct cairn_error err = {0};
    uint32_t count = 0;
    if (cairn_index_search(fixture->index, &request, arena, hits, &count, &err) != 0)
        fail_msg("search: %s", err.message);
    cairn_index_filter_free(&filter);
    return count;
}

static uint32_t number_of(struct cairn_str key)
{
    char text[16] = {0};
    assert_true(key.len > 1 && key.len < sizeof(text));
    memcpy(text, key.ptr + 1, key.len - 1);
    return (uint32_t)strtoul(text, NULL, 10);
}

void assert_search_exact(struct index_fixture *fixture, const struct index_model *model,
                         const float *query, uint32_t k, bool ask_exact, const bool *allow)
{
    struct cairn_arena arena = {0};
    struct cairn_index_hit *hits = cairn_malloc(k * sizeof(*hits));
    struct model_hit *expected = cairn_malloc(k * sizeof(*expected));
    uint32_t count = search(fixture, model, query, k, ask_exact, allow, &arena, hits);
    assert_int_equal(count, index_model_search(model, query, k, allow, expected));
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = number_of(hits[i].key);
        if (number != expected[i].number || hits[i].score != expected[i].score)
            fail_msg("hit %u of %u: key %u score %.9g, not key %u score %.9g", i, count, number,
                     (double)hits[i].score, expected[i].number, (double)expected[i].score);
        assert_int_equal(hits[i].offset, model->offsets[number]);
    }
    free(expected);
    free(hits);
    cairn_arena_release(&arena);
}

double search_recall(struct index_fixture *fixture, const struct index_model *model,
                     const float *query, uint32_t k, const bool *allow)
{
    struct cairn_arena arena = {0};
    struct cairn_index_hit *hits = cairn_malloc(k * sizeof(*hits));
    struct model_hit *expected = cairn_malloc(k * sizeof(*expected));
    uint32_t count = search(fixture, model, query, k, false, allow, &arena, hits);
    assert_int_equal(count, index_model_search(model, query, k, allow, expected));
    bool high = model->metric != CAIRN_METRIC_L2;
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = number_of(hits[i].key);
        assert_true(model->present[number] && (allow == NULL || allow[number]));
        assert_int_equal(hits[i].offset, model->offsets[number]);
        float last = expected[count - 1].score;
        found += high ? hits[i].score >= last : hits[i].score <= last;
        if (i > 0)
            assert_true(high ? hits[i].score <= hits[i - 1].score
                             : hits[i].score >= hits[i - 1].score);
    }
    free(expected);
    free(hits);
    cairn_arena_release(&arena);
    return count == 0 ? 1 : (double)found / count;
}
