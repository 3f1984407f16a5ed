/* What shards answer, read by those who asked. */
#include "base/shard_codec.hpp"

namespace fb = cairn::fb;
namespace wire = cairn::wire;
using cairn::allocate;
using cairn::HeapReader;
using cairn::size_of;

namespace
{

bool is_code(int code)
{
    switch (code) {
    case 0:
#define KNOWN_CODE(name, number, word, status) case name:
        CAIRN_ERROR_LIST(KNOWN_CODE)
#undef KNOWN_CODE
        return true;
    default:
        return false;
    }
}

int open_error(const wire::Answer *answer, cairn_error *out, cairn_error *err)
{
    cairn_str message = cairn::view(answer->message());
    if (!is_code(answer->code()))
        return cairn_fail(err, CAIRN_EBODY, "code: %d is none that is known", answer->code());
    if (message.len >= sizeof(out->message) || (answer->code() == 0 && message.len != 0))
        return cairn_fail(err, CAIRN_EBODY, "message: %u bytes for code %d, the most is %zu",
                          message.len, answer->code(),
                          answer->code() == 0 ? 0 : sizeof(out->message) - 1);
    if (!cairn_utf8_valid(message))
        return cairn_fail(err, CAIRN_EUTF8, "message: not UTF-8");
    out->code = answer->code();
    std::memcpy(out->message, message.ptr, message.len);
    out->message[message.len] = '\0';
    return 0;
}

/* The vectors of all rows, one row's after the other's. */
int open_vectors(const wire::Answer *answer, cairn_arena *arena, cairn_vector **out,
                 cairn_error *err)
{
    uint32_t count = size_of(answer->row_vectors()), names_count = 0;
    uint32_t floats_left = size_of(answer->row_floats());
    const cairn_str *names = nullptr;
    int code = cairn::open_names(answer->vector_names(), CAIRN_VECTORS_MAX, "vector_names", arena,
                                 &names, &names_count, err);
    if (code != 0)
        return code;
    const float *floats = floats_left ? answer->row_floats()->data() : nullptr;
    if (floats_left && !cairn_f32_finite(floats, floats_left))
        return cairn_fail(err, CAIRN_ENUMBER, "row_floats: a component is not finite");
    *out = allocate<cairn_vector>(arena, count);
    for (uint32_t i = 0; i < count; i++) {
        const wire::RowVector &vector = *answer->row_vectors()->Get(i);
        if (vector.name() >= names_count)
            return cairn_fail(err, CAIRN_EBODY, "row_vectors[%u]: there is no name %u", i,
                              vector.name());
        if (vector.dim() > CAIRN_DIM_MAX)
            return cairn_fail(err, CAIRN_ETOOLARGE, "row_vectors[%u]: dimension %u is over %u", i,
                              vector.dim(), CAIRN_DIM_MAX);
        if (vector.dim() > floats_left)
            return cairn::fail_heap(err, "row_floats");
        (*out)[i] =
            cairn_vector{names[vector.name()], vector.dim() ? floats : nullptr, vector.dim()};
        floats += vector.dim();
        floats_left -= vector.dim();
    }
    return floats_left == 0 ? 0 : cairn::fail_heap(err, "row_floats");
}

/* A row has its vectors from *vectors on, which has *left of them. */
int open_row(const wire::Row &row, HeapReader *heap, const cairn_vector **vectors, uint32_t *left,
             cairn_shard_row *out, cairn_error *err)
{
    if (!heap->take_aligned(row.row_bytes(), &out->row) || !heap->take(row.key_bytes(), &out->key))
        return cairn::fail_heap(err, "row_heap");
    int code = cairn::check_key(out->key, err);
    if (code == 0)
        code = cairn::check_count(row.vectors_count(), CAIRN_VECTORS_MAX, "vectors", err);
    if (code == 0 && row.vectors_count() > *left)
        code = cairn_fail(err, CAIRN_EBODY, "vectors: %u of them, %u are left of row_vectors",
                          row.vectors_count(), *left);
    if (code == 0 && row.found() && row.row_bytes() == 0)
        code = cairn_fail(err, CAIRN_EBODY, "row: must be given when it was found");
    if (code == 0 && row.row_bytes() != 0)
        code = cairn_row_check(out->row, err);
    if (code != 0)
        return code;
    out->found = row.found();
    out->vectors = row.vectors_count() ? *vectors : nullptr;
    out->vectors_count = row.vectors_count();
    *vectors += row.vectors_count();
    *left -= row.vectors_count();
    return 0;
}

int open_rows(const wire::Answer *answer, cairn_arena *arena, cairn_shard_answer *out,
              cairn_error *err)
{
    uint32_t count = size_of(answer->rows()), vectors_left = size_of(answer->row_vectors());
    HeapReader heap(answer->row_heap());
    int code = cairn::check_count(count, CAIRN_KEYS_MAX, "rows", err);
    if (code == 0 && !heap.is_aligned())
        code = cairn_fail(err, CAIRN_EBODY, "row_heap: not 8-byte aligned");
    cairn_vector *opened = nullptr;
    if (code == 0)
        code = open_vectors(answer, arena, &opened, err);
    if (code != 0)
        return code;
    const cairn_vector *vectors = opened;
    auto *rows = allocate<cairn_shard_row>(arena, count);
    for (uint32_t i = 0; i < count; i++) {
        code = open_row(*answer->rows()->Get(i), &heap, &vectors, &vectors_left, &rows[i], err);
        if (code != 0) {
            cairn_error_prefix(err, "rows[%u]", i);
            return code;
        }
    }
    if (!heap.is_spent() || vectors_left != 0)
        return cairn::fail_heap(err, "rows");
    out->rows = rows;
    out->rows_count = count;
    return 0;
}

int open_results(const wire::Answer *answer, cairn_arena *arena, cairn_shard_answer *out,
                 cairn_error *err)
{
    uint32_t count = size_of(answer->results());
    int code = cairn::check_count(count, CAIRN_BATCH_ENTITIES_MAX, "results", err);
    if (code == 0)
        code = cairn::check_placed(answer->results(), "results", err);
    if (code != 0)
        return code;
    auto *results = allocate<cairn_write_result>(arena, count);
    for (uint32_t i = 0; i < count; i++) {
        const fb::WriteResult &result = *answer->results()->Get(i);
        if (result.status() > CAIRN_WRITE_UNCHANGED)
            return cairn_fail(err, CAIRN_EBODY, "results[%u]: unknown status %u", i,
                              result.status());
        results[i] = cairn_write_result{static_cast<cairn_write_status>(result.status()),
                                        result.shard(), result.offset()};
    }
    out->results = results;
    out->results_count = count;
    return 0;
}

int open_hits(const wire::Answer *answer, cairn_arena *arena, cairn_shard_hit **out,
              cairn_error *err)
{
    uint32_t count = size_of(answer->hits());
    HeapReader heap(answer->hit_heap());
    int code = cairn::check_count(count, CAIRN_SEARCH_HITS_MAX, "hits", err);
    if (code == 0)
        code = cairn::check_placed(answer->hits(), "hits", err);
    if (code != 0)
        return code;
    *out = allocate<cairn_shard_hit>(arena, count);
    for (uint32_t i = 0; i < count; i++) {
        const wire::Hit &hit = *answer->hits()->Get(i);
        (*out)[i].score = hit.score();
        (*out)[i].offset = hit.offset();
        if (!heap.take(hit.key_bytes(), &(*out)[i].key))
            return cairn::fail_heap(err, "hit_heap");
        code = cairn::check_key((*out)[i].key, err);
        if (code != 0) {
            cairn_error_prefix(err, "hits[%u]", i);
            return code;
        }
    }
    return heap.is_spent() ? 0 : cairn::fail_heap(err, "hit_heap");
}

int open_lists(const wire::Answer *answer, cairn_arena *arena, cairn_shard_answer *out,
               cairn_error *err)
{
    uint32_t count = size_of(answer->list_counts()), left = size_of(answer->hits());
    cairn_shard_hit *hits = nullptr;
    int code = cairn::check_count(count, CAIRN_SEARCHES_MAX, "lists", err);
    if (code == 0)
        code = open_hits(answer, arena, &hits, err);
    if (code != 0)
        return code;
    auto *lists = allocate<cairn_shard_hits>(arena, count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t length = answer->list_counts()->Get(i);
        if (length > CAIRN_K_MAX)
            return cairn_fail(err, CAIRN_ETOOLARGE, "lists[%u]: %u hits, the most is %u", i, length,
                              CAIRN_K_MAX);
        if (length > left)
            return cairn::fail_heap(err, "hits");
        lists[i] = cairn_shard_hits{hits, length};
        hits += length;
        left -= length;
    }
    if (left != 0)
        return cairn::fail_heap(err, "hits");
    out->lists = lists;
    out->lists_count = count;
    return 0;
}

/* How many there may be is up to the body: each takes its part of it. */
int open_records(const wire::Answer *answer, cairn_arena *arena, cairn_shard_answer *out,
                 cairn_error *err)
{
    uint32_t count = size_of(answer->records());
    HeapReader heap(answer->record_heap());
    int code = cairn::check_placed(answer->records(), "records", err);
    if (code != 0)
        return code;
    if (!heap.is_aligned())
        return cairn_fail(err, CAIRN_EBODY, "record_heap: not 8-byte aligned");
    auto *records = allocate<cairn_shard_record>(arena, count);
    for (uint32_t i = 0; i < count; i++) {
        const wire::Record &record = *answer->records()->Get(i);
        if (record.payload_bytes() > CAIRN_ENTITY_BYTES_MAX)
            return cairn_fail(err, CAIRN_ETOOLARGE,
                              "records[%u]: a payload of %u bytes, the most is %u", i,
                              record.payload_bytes(), CAIRN_ENTITY_BYTES_MAX);
        if (!heap.take_aligned(record.payload_bytes(), &records[i].payload))
            return cairn::fail_heap(err, "record_heap");
        records[i].source_offset = record.source_offset();
        records[i].origin_shard = record.origin_shard();
        records[i].origin_offset = record.origin_offset();
        records[i].ingest_time_us = record.ingest_time();
        records[i].collection = record.collection();
        records[i].token = record.token();
    }
    if (!heap.is_spent())
        return cairn::fail_heap(err, "record_heap");
    out->records = records;
    out->records_count = count;
    return 0;
}

/* Schemas of dropped collections are among the texts, so the body bounds how many there are. */
int open_texts(const wire::Answer *answer, uint32_t body_bytes, cairn_arena *arena,
               cairn_shard_answer *out, cairn_error *err)
{
    uint32_t count = size_of(answer->texts());
    auto *texts = allocate<cairn_str>(arena, count);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        bytes += answer->texts()->Get(i)->size();
        if (bytes > body_bytes)
            return cairn_fail(err, CAIRN_EBODY, "texts[%u]: shares its bytes with another", i);
        int code = cairn::open_text(answer->texts()->Get(i), CAIRN_SHARD_TEXT_BYTES_MAX, "texts",
                                    &texts[i], err);
        if (code != 0)
            return code;
    }
    out->texts = texts;
    out->texts_count = count;
    return cairn::open_text(answer->text(), CAIRN_SHARD_TEXT_BYTES_MAX, "text", &out->text, err);
}

void open_numbers(const wire::Answer *answer, cairn_shard_answer *out)
{
    out->shard = answer->shard();
    out->epoch = answer->epoch();
    out->applied = answer->applied();
    out->catalog_version = answer->catalog_version();
    out->more = answer->more();
    out->created = answer->created();
    out->indexed = answer->indexed();
    out->generation = answer->generation();
    out->count = answer->count();
    out->fence = answer->fence();
    const wire::Progress *progress = answer->progress();
    if (progress)
        out->progress =
            cairn_shard_progress{progress->reached(), progress->end_offset(), progress->records(),
                                 progress->bytes(), progress->running()};
    if (answer->digest()) {
        out->digest[0] = answer->digest()->low();
        out->digest[1] = answer->digest()->high();
    }
}

} // namespace

extern "C" {

int cairn_shard_answer_decode(struct cairn_str body, struct cairn_arena *arena,
                              struct cairn_shard_answer *out, struct cairn_error *err)
{
    *out = cairn_shard_answer{};
    const wire::Answer *answer = nullptr;
    int code = cairn::open_shard_body(body, CAIRN_SHARD_ANSWER_BYTES_MAX, "Answer", &answer, err);
    if (code != 0)
        return code;
    open_numbers(answer, out);
    code = open_error(answer, &out->error, err);
    if (code == 0)
        code = open_rows(answer, arena, out, err);
    if (code == 0)
        code = open_results(answer, arena, out, err);
    if (code == 0)
        code = open_lists(answer, arena, out, err);
    if (code == 0)
        code = open_records(answer, arena, out, err);
    if (code == 0)
        code = open_texts(answer, body.len, arena, out, err);
    return code != 0 ? code : cairn::open_report(answer->report(), arena, &out->report, err);
}

} // extern "C"
