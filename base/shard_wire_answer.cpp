/* What shards answer, as bytes. */
#include "base/shard_codec.hpp"

namespace fb = cairn::fb;
namespace wire = cairn::wire;
using cairn::allocate;
using cairn::HeapReader;
using cairn::HeapWriter;
using cairn::size_of;
using flatbuffers::Offset;

namespace
{

struct RowOffsets {
    Offset<cairn::Structs<wire::Row>> rows;
    Offset<cairn::Bytes> heap;
    Offset<cairn::Structs<wire::RowVector>> vectors;
    Offset<flatbuffers::Vector<float>> floats;
    Offset<cairn::Strings> names;
};

struct HitOffsets {
    Offset<flatbuffers::Vector<uint32_t>> counts;
    Offset<cairn::Structs<wire::Hit>> hits;
    Offset<cairn::Bytes> heap;
};

/* Index of a vector's name among the distinct ones so far, which are as few as a collection's
 * vectors. `guess` is where it probably stands: rows mostly have the same vectors. */
uint32_t name_index(std::vector<cairn_str> *names, cairn_str name, uint32_t guess)
{
    if (guess < names->size() && cairn_str_eq((*names)[guess], name))
        return guess;
    uint32_t at = 0;
    while (at < names->size() && !cairn_str_eq((*names)[at], name))
        at++;
    if (at == names->size())
        names->push_back(name);
    return at;
}

/* What all rows have together. */
struct RowSums {
    size_t bytes = 0, vectors = 0, floats = 0;

    RowSums(const cairn_shard_row *rows, uint32_t count)
    {
        for (uint32_t i = 0; i < count; i++) {
            bytes = cairn::heap_after(bytes, rows[i].row.len, rows[i].key.len);
            vectors += rows[i].vectors_count;
            for (uint32_t j = 0; j < rows[i].vectors_count; j++)
                floats += rows[i].vectors[j].f32 ? rows[i].vectors[j].dim : 0;
        }
    }
};

void put_vectors(cairn_encoder *encoder, const cairn_shard_row *rows, uint32_t count,
                 const RowSums &sums, RowOffsets *out)
{
    auto &fbb = encoder->fbb;
    if (sums.vectors == 0)
        return;
    float *floats = nullptr;
    if (sums.floats)
        out->floats = fbb.CreateUninitializedVector<float>(sums.floats, &floats);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < rows[i].vectors_count; j++) {
            const cairn_vector &vector = rows[i].vectors[j];
            if (!vector.f32 || vector.dim == 0)
                continue;
            std::memcpy(floats, vector.f32, vector.dim * sizeof(float));
            floats += vector.dim;
        }
    }
    wire::RowVector *packed = nullptr;
    out->vectors = fbb.CreateUninitializedVectorOfStructs(sums.vectors, &packed);
    encoder->distinct_names.clear();
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < rows[i].vectors_count; j++) {
            const cairn_vector &vector = rows[i].vectors[j];
            uint32_t name = name_index(&encoder->distinct_names, vector.name, j);
            *packed++ = wire::RowVector(name, vector.f32 ? vector.dim : 0);
        }
    }
    out->names = encoder->strings(encoder->distinct_names.data(),
                                  static_cast<uint32_t>(encoder->distinct_names.size()));
}

RowOffsets put_rows(cairn_encoder *encoder, const cairn_shard_row *rows, uint32_t count)
{
    RowOffsets out;
    if (count == 0)
        return out;
    RowSums sums(rows, count);
    encoder->fbb.reserve(sums.bytes + sums.floats * sizeof(float) +
                         sums.vectors * sizeof(wire::RowVector) + count * sizeof(wire::Row) +
                         2 * cairn::ARRAY_OVERHEAD_BYTES);
    HeapWriter heap(&encoder->fbb, sums.bytes);
    for (uint32_t i = 0; i < count; i++) {
        heap.add_aligned(rows[i].row);
        heap.add(rows[i].key);
    }
    out.heap = heap.offset;
    put_vectors(encoder, rows, count, sums, &out);
    wire::Row *packed = nullptr;
    out.rows = encoder->fbb.CreateUninitializedVectorOfStructs(count, &packed);
    for (uint32_t i = 0; i < count; i++)
        packed[i] =
            wire::Row(rows[i].row.len, rows[i].key.len, rows[i].vectors_count, rows[i].found);
    return out;
}

Offset<cairn::Structs<fb::WriteResult>>
put_results(cairn_encoder *encoder, const cairn_write_result *results, uint32_t count)
{
    if (count == 0)
        return 0;
    fb::WriteResult *packed = nullptr;
    auto offset = encoder->fbb.CreateUninitializedVectorOfStructs(count, &packed);
    for (uint32_t i = 0; i < count; i++)
        packed[i] = fb::WriteResult(results[i].offset, results[i].shard,
                                    static_cast<uint8_t>(results[i].status));
    return offset;
}

HitOffsets put_lists(cairn_encoder *encoder, const cairn_shard_hits *lists, uint32_t count)
{
    HitOffsets out;
    if (count == 0)
        return out;
    auto &fbb = encoder->fbb;
    size_t hits_count = 0, bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        hits_count += lists[i].count;
        for (uint32_t j = 0; j < lists[i].count; j++)
            bytes += lists[i].hits[j].key.len;
    }
    fbb.reserve(bytes + hits_count * sizeof(wire::Hit) + count * sizeof(uint32_t) +
                cairn::ARRAY_OVERHEAD_BYTES);
    HeapWriter heap(&fbb, bytes);
    wire::Hit *packed = nullptr;
    uint32_t *counts = nullptr;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < lists[i].count; j++)
            heap.add(lists[i].hits[j].key);
    }
    out.heap = heap.offset;
    if (hits_count)
        out.hits = fbb.CreateUninitializedVectorOfStructs(hits_count, &packed);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < lists[i].count; j++) {
            const cairn_shard_hit &hit = lists[i].hits[j];
            *packed++ = wire::Hit(hit.offset, hit.score, hit.key.len);
        }
    }
    out.counts = fbb.CreateUninitializedVector<uint32_t>(count, &counts);
    for (uint32_t i = 0; i < count; i++)
        counts[i] = lists[i].count;
    return out;
}

Offset<cairn::Structs<wire::Record>> put_records(cairn_encoder *encoder,
                                                 const cairn_shard_record *records, uint32_t count,
                                                 Offset<cairn::Bytes> *heap)
{
    if (count == 0)
        return 0;
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes = cairn::heap_after(bytes, records[i].payload.len, 0);
    encoder->fbb.reserve(bytes + count * sizeof(wire::Record) + cairn::ARRAY_OVERHEAD_BYTES);
    HeapWriter writer(&encoder->fbb, bytes);
    for (uint32_t i = 0; i < count; i++)
        writer.add_aligned(records[i].payload);
    *heap = writer.offset;
    wire::Record *packed = nullptr;
    auto offset = encoder->fbb.CreateUninitializedVectorOfStructs(count, &packed);
    for (uint32_t i = 0; i < count; i++) {
        const cairn_shard_record &record = records[i];
        packed[i] =
            wire::Record(record.source_offset, record.origin_offset, record.ingest_time_us,
                         record.token, record.origin_shard, record.collection, record.payload.len);
    }
    return offset;
}

} // namespace

extern "C" {

struct cairn_str cairn_shard_answer_encode(struct cairn_encoder *encoder,
                                           const struct cairn_shard_answer *answer)
{
    encoder->begin();
    auto &fbb = encoder->fbb;
    /* What is large comes first, and makes room for itself: nothing of it is copied twice. */
    Offset<cairn::Bytes> record_heap;
    auto records = put_records(encoder, answer->records, answer->records_count, &record_heap);
    RowOffsets rows = put_rows(encoder, answer->rows, answer->rows_count);
    HitOffsets lists = put_lists(encoder, answer->lists, answer->lists_count);
    auto results = put_results(encoder, answer->results, answer->results_count);
    auto texts = encoder->strings(answer->texts, answer->texts_count);
    auto text = encoder->string(answer->text);
    auto report = cairn::put_report(encoder, answer->report);
    cairn::StringOffset message;
    if (answer->error.code != 0)
        message = encoder->string(cairn_str_from(answer->error.message));
    const cairn_shard_progress &said = answer->progress;
    bool has_progress =
        said.reached || said.end_offset || said.records || said.bytes || said.running;
    wire::Progress progress(said.reached, said.end_offset, said.records, said.bytes, said.running);
    wire::Digest digest(answer->digest[0], answer->digest[1]);
    bool has_digest = answer->digest[0] || answer->digest[1];
    fbb.Finish(wire::CreateAnswer(
        fbb, answer->shard, answer->epoch, answer->applied, answer->catalog_version,
        answer->error.code, message, rows.rows, rows.heap, rows.vectors, rows.floats, rows.names,
        results, lists.counts, lists.hits, lists.heap, answer->more, answer->created,
        answer->indexed, answer->generation, answer->count, records, record_heap,
        has_progress ? &progress : nullptr, has_digest ? &digest : nullptr, answer->fence, texts,
        text, report));
    return encoder->finished();
}

} // extern "C"
