/* Binary bodies as a client sees them: requests out, answers in. */
#include "base/codec.hpp"

extern "C" {
#include "base/wire.h"
}

namespace fb = cairn::fb;
using cairn::allocate;
using cairn::size_of;
using flatbuffers::Offset;

namespace
{

/* SearchResponse, SearchHits, EntityResult, Vector. */
constexpr flatbuffers::uoffset_t DEPTH_MAX = 6;
/* Every entity of the largest answer with all its vectors. */
constexpr flatbuffers::uoffset_t TABLES_MAX = CAIRN_SEARCHES_MAX * CAIRN_K_MAX;

template <class Table>
int open_answer(cairn_str body, const char *name, const Table **out, cairn_error *err)
{
    auto *data = reinterpret_cast<const uint8_t *>(body.ptr);
    if (!cairn::aligned(data) || body.len >= FLATBUFFERS_MAX_BUFFER_SIZE)
        return cairn_fail(err, CAIRN_EBODY, "an answer must be aligned and below 2 GiB");
    flatbuffers::Verifier verifier(data, body.len, DEPTH_MAX, TABLES_MAX);
    if (!verifier.VerifyBuffer<Table>(nullptr))
        return cairn_fail(err, CAIRN_EBODY, "not a well-formed cairn.fb.%s", name);
    *out = flatbuffers::GetRoot<Table>(data);
    return 0;
}

cairn_stamp unpack(const fb::Stamp &stamp)
{
    return cairn_stamp{stamp.event_time(), stamp.ingest_time(), stamp.offset()};
}

int open_stamps(const fb::EntityResult *result, cairn_row_cell *cells, uint32_t count,
                cairn_error *err)
{
    uint32_t stamps_count = size_of(result->stamps());
    if (stamps_count == 0)
        return 0;
    if (!cairn::aligned(result->stamps()->Data()) ||
        (result->cell_stamps() && result->cell_stamps()->size() != count))
        return cairn_fail(err, CAIRN_EBODY, "stamps: misplaced, or not one for each cell");
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = result->cell_stamps() ? result->cell_stamps()->Get(i) : 0;
        if (at >= stamps_count)
            return cairn_fail(err, CAIRN_EBODY, "cell_stamps[%u]: there is no stamp %u", i, at);
        cells[i].stamp = unpack(*result->stamps()->Get(at));
    }
    return 0;
}

int open_cells(const fb::EntityResult *result, cairn_arena *arena, cairn_wire_entity *out,
               cairn_error *err)
{
    uint32_t count = size_of(result->cells());
    if (size_of(result->names()) != count)
        return cairn_fail(err, CAIRN_EBODY, "names: not one for each cell");
    if (count == 0)
        return 0;
    if (!cairn::aligned(result->cells()->Data()))
        return cairn_fail(err, CAIRN_EBODY, "cells: not 8-byte aligned");
    auto *cells = allocate<cairn_row_cell>(arena, count);
    const uint8_t *heap = result->heap() ? result->heap()->data() : nullptr;
    for (uint32_t i = 0; i < count; i++) {
        const fb::Cell &cell = *result->cells()->Get(i);
        int code = cairn::check_cell(cell, i, size_of(result->heap()), err);
        if (code != 0)
            return code;
        cells[i].name = cairn::view(result->names()->Get(i));
        cells[i].value = cairn::unpack(cell.type(), cell.value(), cell.length(), heap);
    }
    out->features = cells;
    out->features_count = count;
    return open_stamps(result, cells, count, err);
}

int open_entity(const fb::EntityResult *result, cairn_arena *arena, cairn_wire_entity *out,
                cairn_error *err)
{
    out->key = cairn::view(result->key());
    out->found = result->found();
    out->score = result->score();
    out->vectors_count = size_of(result->vectors());
    auto *vectors = allocate<cairn_vector>(arena, out->vectors_count);
    for (uint32_t i = 0; i < out->vectors_count; i++) {
        const fb::Vector *vector = result->vectors()->Get(i);
        vectors[i].name = cairn::view(vector->name());
        vectors[i].f32 = vector->f32() ? vector->f32()->data() : nullptr;
        vectors[i].dim = size_of(vector->f32());
    }
    out->vectors = vectors;
    return open_cells(result, arena, out, err);
}

template <class Results>
int open_entities(const Results *results, cairn_arena *arena, cairn_wire_entity **out,
                  uint32_t *count, cairn_error *err)
{
    *count = size_of(results);
    *out = allocate<cairn_wire_entity>(arena, *count);
    for (uint32_t i = 0; i < *count; i++) {
        int code = open_entity(results->Get(i), arena, &(*out)[i], err);
        if (code != 0)
            return code;
    }
    return 0;
}

} // namespace

extern "C" {

struct cairn_str cairn_wire_upsert_request(struct cairn_encoder *encoder,
                                           const struct cairn_str *entities, uint32_t count)
{
    encoder->begin();
    auto &fbb = encoder->fbb;
    encoder->entities.clear();
    for (uint32_t i = 0; i < count; i++) {
        fbb.ForceVectorAlignment(entities[i].len, 1, 8);
        auto data =
            fbb.CreateVector(reinterpret_cast<const uint8_t *>(entities[i].ptr), entities[i].len);
        encoder->entities.push_back(fb::CreateEntityBytes(fbb, data));
    }
    auto all = fbb.CreateVector(encoder->entities.data(), encoder->entities.size());
    fbb.Finish(fb::CreateUpsertRequest(fbb, all));
    return encoder->finished();
}

struct cairn_str cairn_wire_get_request(struct cairn_encoder *encoder,
                                        const struct cairn_get_request *request)
{
    encoder->begin();
    auto &fbb = encoder->fbb;
    const cairn_projection &projection = request->projection;
    auto keys = encoder->strings(request->keys, request->keys_count);
    auto features = encoder->strings(projection.features, projection.features_count);
    auto vectors = encoder->strings(projection.vectors, projection.vectors_count);
    fbb.Finish(fb::CreateGetRequest(fbb, keys, features, projection.all_features, vectors,
                                    static_cast<uint8_t>(projection.meta)));
    return encoder->finished();
}

struct cairn_str cairn_wire_search_request(struct cairn_encoder *encoder,
                                           const struct cairn_search_request *requests,
                                           uint32_t count)
{
    encoder->begin();
    auto &fbb = encoder->fbb;
    encoder->searches.clear();
    for (uint32_t i = 0; i < count; i++) {
        const cairn_search_request &request = requests[i];
        const cairn_projection &projection = request.projection;
        Offset<flatbuffers::Vector<float>> vector;
        if (request.vector)
            vector = fbb.CreateVector(request.vector, request.dim);
        auto key = encoder->string(request.key);
        auto using_vector = encoder->string(request.using_vector);
        auto features = encoder->strings(projection.features, projection.features_count);
        auto vectors = encoder->strings(projection.vectors, projection.vectors_count);
        encoder->searches.push_back(fb::CreateSearch(
            fbb, vector, key, using_vector, request.k, features, projection.all_features, vectors,
            request.allow_partial, request.params.ef, request.params.nprobe, request.params.exact));
    }
    auto all = fbb.CreateVector(encoder->searches.data(), encoder->searches.size());
    fbb.Finish(fb::CreateSearchRequest(fbb, all));
    return encoder->finished();
}

int cairn_wire_upsert_response_decode(struct cairn_str body, struct cairn_arena *arena,
                                      struct cairn_str **keys, struct cairn_write_result **results,
                                      uint32_t *count, struct cairn_error *err)
{
    const fb::UpsertResponse *response = nullptr;
    int code = open_answer(body, "UpsertResponse", &response, err);
    if (code != 0)
        return code;
    *count = size_of(response->results());
    if (size_of(response->keys()) != *count)
        return cairn_fail(err, CAIRN_EBODY, "keys: not one for each result");
    if (*count && !cairn::aligned(response->results()->Data()))
        return cairn_fail(err, CAIRN_EBODY, "results: not 8-byte aligned");
    *keys = allocate<cairn_str>(arena, *count);
    *results = allocate<cairn_write_result>(arena, *count);
    for (uint32_t i = 0; i < *count; i++) {
        const fb::WriteResult &result = *response->results()->Get(i);
        if (result.status() > CAIRN_WRITE_UNCHANGED)
            return cairn_fail(err, CAIRN_EBODY, "results[%u]: unknown status %u", i,
                              result.status());
        (*keys)[i] = cairn::view(response->keys()->Get(i));
        (*results)[i] = cairn_write_result{static_cast<cairn_write_status>(result.status()),
                                           result.shard(), result.offset()};
    }
    return 0;
}

int cairn_wire_get_response_decode(struct cairn_str body, struct cairn_arena *arena,
                                   struct cairn_wire_entity **entities, uint32_t *count,
                                   struct cairn_error *err)
{
    const fb::GetResponse *response = nullptr;
    int code = open_answer(body, "GetResponse", &response, err);
    return code != 0 ? code : open_entities(response->entities(), arena, entities, count, err);
}

int cairn_wire_search_response_decode(struct cairn_str body, struct cairn_arena *arena,
                                      struct cairn_wire_hits **queries, uint32_t *count,
                                      struct cairn_error *err)
{
    const fb::SearchResponse *response = nullptr;
    int code = open_answer(body, "SearchResponse", &response, err);
    if (code != 0)
        return code;
    *count = size_of(response->results());
    *queries = allocate<cairn_wire_hits>(arena, *count);
    for (uint32_t i = 0; code == 0 && i < *count; i++) {
        cairn_wire_entity *hits = nullptr;
        code = open_entities(response->results()->Get(i)->hits(), arena, &hits,
                             &(*queries)[i].count, err);
        (*queries)[i].hits = hits;
    }
    return code;
}

} // extern "C"
