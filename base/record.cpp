#include "base/codec.hpp"

namespace fb = cairn::fb;
using flatbuffers::Offset;

namespace
{

/* An entity is a root, its vectors and a provenance, one below the other at most. A little room
 * over the limits lets the checks below name what is too many. */
constexpr flatbuffers::uoffset_t TABLES_MAX = 4 * CAIRN_VECTORS_MAX;
constexpr flatbuffers::uoffset_t DEPTH_MAX = 4;

int refuse(cairn_error *err, const char *text)
{
    return cairn_fail(err, CAIRN_EBODY, "%s", text);
}

int open_features(const fb::Entity *entity, cairn_arena *arena, cairn_entity *out, cairn_error *err)
{
    uint32_t count = entity->cells() ? entity->cells()->size() : 0;
    uint32_t names_count = entity->names() ? entity->names()->size() : 0;
    if (names_count != count)
        return cairn_fail(err, CAIRN_EBODY, "names: %u names for %u cells", names_count, count);
    if (count > CAIRN_FEATURES_MAX)
        return cairn_fail(err, CAIRN_EBODY, "cells: %u features, the most is %u", count,
                          CAIRN_FEATURES_MAX);
    if (count == 0)
        return 0;
    /* The verifier checks where a vector begins, not where its 8-byte elements do. */
    if (!cairn::aligned(entity->cells()->Data()))
        return refuse(err, "cells: not 8-byte aligned");
    const uint8_t *heap = entity->heap() ? entity->heap()->data() : nullptr;
    size_t heap_bytes = entity->heap() ? entity->heap()->size() : 0;
    auto *features =
        static_cast<cairn_feature *>(cairn_arena_alloc(arena, count * sizeof(cairn_feature)));
    for (uint32_t i = 0; i < count; i++) {
        const fb::Cell &cell = *entity->cells()->Get(i);
        int code = cairn::check_cell(cell, i, heap_bytes, err);
        if (code != 0)
            return code;
        features[i].name = cairn::view(entity->names()->Get(i));
        features[i].value = cairn::unpack(cell.type(), cell.value(), cell.length(), heap);
    }
    out->features = features;
    out->features_count = count;
    return 0;
}

int open_vectors(const fb::Entity *entity, cairn_arena *arena, cairn_entity *out, cairn_error *err)
{
    uint32_t count = entity->vectors() ? entity->vectors()->size() : 0;
    if (count > CAIRN_VECTORS_MAX)
        return cairn_fail(err, CAIRN_EBODY, "vectors: %u vectors, the most is %u", count,
                          CAIRN_VECTORS_MAX);
    if (count == 0)
        return 0;
    auto *vectors =
        static_cast<cairn_vector *>(cairn_arena_alloc(arena, count * sizeof(cairn_vector)));
    for (uint32_t i = 0; i < count; i++) {
        const fb::Vector *vector = entity->vectors()->Get(i);
        vectors[i].name = cairn::view(vector->name());
        vectors[i].f32 = vector->f32() ? vector->f32()->data() : nullptr;
        vectors[i].dim = vector->f32() ? vector->f32()->size() : 0;
    }
    out->vectors = vectors;
    out->vectors_count = count;
    return 0;
}

int open_provenance(const fb::Entity *entity, cairn_arena *arena, cairn_entity *out,
                    cairn_error *err)
{
    const fb::Provenance *provenance = entity->provenance();
    if (!provenance)
        return 0;
    uint32_t count = provenance->inputs() ? provenance->inputs()->size() : 0;
    if (count > CAIRN_PROVENANCE_INPUTS_MAX)
        return cairn_fail(err, CAIRN_EBODY, "provenance.inputs: %u inputs, the most is %u", count,
                          CAIRN_PROVENANCE_INPUTS_MAX);
    out->provenance.source = cairn::view(provenance->source());
    out->provenance.producer = cairn::view(provenance->producer());
    out->provenance.inputs = cairn::open_strings(provenance->inputs(), arena);
    out->provenance.inputs_count = count;
    return 0;
}

} // namespace

const cairn_str *cairn::open_strings(const Strings *texts, cairn_arena *arena)
{
    if (!texts || texts->size() == 0)
        return nullptr;
    auto *out =
        static_cast<cairn_str *>(cairn_arena_alloc(arena, texts->size() * sizeof(cairn_str)));
    for (flatbuffers::uoffset_t i = 0; i < texts->size(); i++)
        out[i] = view(texts->Get(i));
    return out;
}

int cairn::check_cell(const fb::Cell &cell, uint32_t i, size_t heap_bytes, cairn_error *err)
{
    if (cairn::in_heap(cell.type())) {
        if (cell.value() > heap_bytes || cell.length() > heap_bytes - cell.value())
            return cairn_fail(
                err, CAIRN_EBODY, "cells[%u]: bytes %llu + %u lie outside the heap of %zu", i,
                static_cast<unsigned long long>(cell.value()), cell.length(), heap_bytes);
    } else if (cell.length() != 0) {
        return cairn_fail(err, CAIRN_EBODY, "cells[%u]: length of a scalar must be 0", i);
    } else if (cell.type() == CAIRN_TYPE_BOOL && cell.value() > 1) {
        return cairn_fail(err, CAIRN_EBODY, "cells[%u]: a bool must be 0 or 1", i);
    }
    return 0;
}

void cairn_encoder::begin()
{
    /* One outsized answer must not hold its memory for ever. */
    if (fbb.GetSize() > KEEP_BYTES) {
        fbb.Reset();
        std::vector<Offset<fb::EntityResult>>().swap(results);
    } else {
        fbb.Clear();
    }
    /* A buffer's alignment is that of its widest field; every one of ours promises 8. */
    fbb.Align(8);
}

Offset<cairn::Strings> cairn_encoder::strings(const cairn_str *texts, uint32_t count)
{
    if (count == 0)
        return 0;
    names.clear();
    for (uint32_t i = 0; i < count; i++)
        names.push_back(fbb.CreateString(texts[i].ptr, texts[i].len));
    return fbb.CreateVector(names.data(), names.size());
}

Offset<flatbuffers::Vector<Offset<fb::Vector>>>
cairn_encoder::put_vectors(const cairn_vector *items, uint32_t count)
{
    if (count == 0)
        return 0;
    vectors.clear();
    for (uint32_t i = 0; i < count; i++) {
        Offset<flatbuffers::Vector<float>> f32;
        if (items[i].f32)
            f32 = fbb.CreateVector(items[i].f32, items[i].dim);
        auto name = string(items[i].name);
        vectors.push_back(fb::CreateVector(fbb, name, f32));
    }
    return fbb.CreateVector(vectors.data(), vectors.size());
}

Offset<fb::Provenance> cairn_encoder::put_provenance(const cairn_provenance &provenance)
{
    if (!provenance.source.len && !provenance.producer.len && !provenance.inputs_count)
        return 0;
    auto inputs = strings(provenance.inputs, provenance.inputs_count);
    auto source = string(provenance.source);
    auto producer = string(provenance.producer);
    return fb::CreateProvenance(fbb, source, producer, inputs);
}

extern "C" {

struct cairn_encoder *cairn_encoder_new(void)
{
    return new cairn_encoder;
}

void cairn_encoder_free(struct cairn_encoder **encoder)
{
    delete *encoder;
    *encoder = nullptr;
}

struct cairn_str cairn_entity_encode(struct cairn_encoder *encoder,
                                     const struct cairn_entity *entity)
{
    encoder->begin();
    auto &fbb = encoder->fbb;
    auto vectors = encoder->put_vectors(entity->vectors, entity->vectors_count);
    auto cells = encoder->put_cells(entity->features, entity->features_count);
    cells.names = encoder->put_names(entity->features, entity->features_count);
    auto provenance = encoder->put_provenance(entity->provenance);
    auto route = encoder->string(entity->route);
    auto key = fbb.CreateString(entity->key.ptr, entity->key.len);
    fbb.Finish(fb::CreateEntity(fbb, key, route, entity->event_time_us,
                                static_cast<uint8_t>(entity->op), cells.names, cells.cells,
                                cells.heap, vectors, provenance, entity->if_offset));
    return encoder->finished();
}

int cairn_entity_decode(struct cairn_str bytes, struct cairn_arena *arena, struct cairn_entity *out,
                        struct cairn_error *err)
{
    *out = cairn_entity{};
    if (bytes.len > CAIRN_ENTITY_BYTES_MAX)
        return cairn_fail(err, CAIRN_EBODY, "an entity of %u bytes, the most is %u", bytes.len,
                          CAIRN_ENTITY_BYTES_MAX);
    auto *data = reinterpret_cast<const uint8_t *>(bytes.ptr);
    if (!cairn::aligned(data))
        return refuse(err, "an entity must stand at an 8-byte aligned address");
    flatbuffers::Verifier verifier(data, bytes.len, DEPTH_MAX, TABLES_MAX);
    if (!verifier.VerifyBuffer<fb::Entity>(nullptr))
        return refuse(err, "not a well-formed cairn.fb.Entity");

    const fb::Entity *entity = flatbuffers::GetRoot<fb::Entity>(data);
    if (entity->op() > CAIRN_OP_DELETE)
        return cairn_fail(err, CAIRN_EBODY, "op: %u is none of 0 patch, 1 replace, 2 delete",
                          entity->op());
    out->key = cairn::view(entity->key());
    out->route = cairn::view(entity->route());
    out->event_time_us = entity->event_time();
    out->op = static_cast<cairn_entity_op>(entity->op());
    out->if_offset = entity->if_offset();
    int code = open_features(entity, arena, out, err);
    if (code == 0)
        code = open_vectors(entity, arena, out, err);
    if (code == 0)
        code = open_provenance(entity, arena, out, err);
    if (code == 0 && cairn_entity_check(out, err) != 0) {
        code = CAIRN_EBODY;
        if (err)
            err->code = code;
    }
    return code;
}

} // extern "C"
