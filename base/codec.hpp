/* Shared by the C++ files of the FlatBuffers codec (record, row, wire, shard_wire); no one else
 * includes it. */
#ifndef CAIRN_BASE_CODEC_HPP
#define CAIRN_BASE_CODEC_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

/* Generated and library code does not hold to our warnings. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include "base/cairn_generated.h"
#pragma GCC diagnostic pop

extern "C" {
#include "base/limits.h"
#include "base/record.h"
}

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "packed lists are little-endian");
static_assert(sizeof(cairn::fb::Cell) == 16 && sizeof(cairn::fb::Stamp) == 24, "on disk");

namespace cairn
{

using Strings = flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>;
using StringOffset = flatbuffers::Offset<flatbuffers::String>;

/* Offsets of cells as they stand in every table that has them. */
struct CellOffsets {
    flatbuffers::Offset<Strings> names;
    flatbuffers::Offset<flatbuffers::Vector<const fb::Cell *>> cells;
    flatbuffers::Offset<flatbuffers::Vector<uint8_t>> heap;
};

struct StampOffsets {
    flatbuffers::Offset<flatbuffers::Vector<const fb::Stamp *>> stamps;
    flatbuffers::Offset<flatbuffers::Vector<uint32_t>> cell_stamps;
};

inline cairn_str view(const flatbuffers::String *text)
{
    return text ? cairn_str{text->c_str(), text->size()} : cairn_str{"", 0};
}

inline bool aligned(const void *at)
{
    return reinterpret_cast<uintptr_t>(at) % 8 == 0;
}

inline fb::Stamp pack(const cairn_stamp &stamp)
{
    return fb::Stamp(stamp.event_time_us, stamp.ingest_time_us, stamp.offset);
}

/* The 64 bits of a scalar; the caller knows that it is one. */
inline uint64_t scalar_bits(const cairn_value &value)
{
    uint64_t bits = 0;
    if (value.type == CAIRN_TYPE_BOOL)
        bits = value.as.boolean;
    else if (value.type == CAIRN_TYPE_FLOAT64)
        std::memcpy(&bits, &value.as.f64, sizeof(bits));
    else if (value.type != CAIRN_TYPE_NULL && value.type != CAIRN_TYPE_VECTOR)
        bits = static_cast<uint64_t>(value.as.i64);
    return bits;
}

/* Whether a value of this type has its bytes in the heap. */
inline bool in_heap(uint8_t type)
{
    return (type & CAIRN_TYPE_LIST) || type == CAIRN_TYPE_STRING || type == CAIRN_TYPE_BYTES ||
           type == CAIRN_TYPE_JSON;
}

/* The value of a cell; `heap` is where the table's heap begins. The cell's range was checked. */
inline cairn_value unpack(uint8_t type, uint64_t bits, uint32_t length, const uint8_t *heap)
{
    cairn_value value{};
    value.type = type;
    value.len = length;
    if (in_heap(type)) {
        value.as.bytes = length ? heap + bits : reinterpret_cast<const uint8_t *>("");
    } else if (type == CAIRN_TYPE_BOOL) {
        value.as.boolean = bits != 0;
    } else if (type == CAIRN_TYPE_FLOAT64) {
        std::memcpy(&value.as.f64, &bits, sizeof(bits));
    } else {
        value.as.i64 = static_cast<int64_t>(bits);
    }
    return value;
}

/* Strings into an array in the arena; NULL for none. */
const cairn_str *open_strings(const Strings *texts, cairn_arena *arena);

/* The checks that every body is put to. `what` is the field. */
int check_count(uint32_t count, uint32_t max, const char *what, cairn_error *err);
int check_key(cairn_str key, cairn_error *err);
/* Strings that must be names, at most `max`; in the arena. */
int open_names(const Strings *texts, uint32_t max, const char *what, cairn_arena *arena,
               const cairn_str **out, uint32_t *count, cairn_error *err);

template <class Vector> uint32_t size_of(const Vector *vector)
{
    return vector ? vector->size() : 0;
}

/* `count` zeroed elements. */
template <class T> T *allocate(cairn_arena *arena, uint32_t count)
{
    return static_cast<T *>(cairn_arena_zalloc(arena, count * sizeof(T)));
}

/* Check that cell `i` can be opened: its bytes lie in the heap, a scalar is one. */
int check_cell(const fb::Cell &cell, uint32_t i, size_t heap_bytes, cairn_error *err);

} // namespace cairn

namespace cairn
{

/* Grows to hold `bytes` more at once: a buffer that grows copies what it has. */
struct Builder : flatbuffers::FlatBufferBuilder {
    using flatbuffers::FlatBufferBuilder::FlatBufferBuilder;
    void reserve(size_t bytes)
    {
        buf_.ensure_space(bytes);
    }
};

} // namespace cairn

/* One buffer is built at a time. Memory is kept from one to the next up to KEEP_BYTES of buffer. */
struct cairn_encoder {
    static constexpr size_t KEEP_BYTES = size_t{2} * CAIRN_ENTITY_BYTES_MAX;

    cairn::Builder fbb{4096};

    /* Scratch of one table. */
    std::vector<cairn::StringOffset> names;
    std::vector<cairn::fb::Cell> cells;
    std::vector<cairn::fb::Stamp> stamps;
    std::vector<uint32_t> cell_stamps;
    std::vector<flatbuffers::Offset<cairn::fb::Vector>> vectors;

    /* Answers: what is built so far (wire.cpp). */
    uint8_t meta = 0;
    std::vector<flatbuffers::Offset<cairn::fb::EntityResult>> results;
    std::vector<flatbuffers::Offset<cairn::fb::SearchHits>> queries;
    std::vector<cairn::fb::WriteResult> write_results;
    flatbuffers::Offset<cairn::Strings> shared_names; /* of the entity added before */
    std::string shared_text;                          /* and the text of those names */
    std::vector<uint32_t> shared_lengths;

    /* Requests (wire_client.cpp). */
    std::vector<flatbuffers::Offset<cairn::fb::EntityBytes>> entities;
    std::vector<flatbuffers::Offset<cairn::fb::Search>> searches;

    /* What a shard says (shard_wire*.cpp). */
    std::vector<flatbuffers::Offset<void>> tables;
    std::vector<cairn_str> distinct_names; /* of vectors */

    void begin();
    cairn::StringOffset string(cairn_str text)
    {
        return text.len ? fbb.CreateString(text.ptr, text.len) : cairn::StringOffset(0);
    }
    flatbuffers::Offset<cairn::Strings> strings(const cairn_str *texts, uint32_t count);
    flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<cairn::fb::Vector>>>
    put_vectors(const cairn_vector *items, uint32_t count);
    flatbuffers::Offset<cairn::fb::Provenance> put_provenance(const cairn_provenance &provenance);
    cairn::StampOffsets put_stamps(const cairn_row_cell *items, uint32_t count);
    cairn_str finished() const
    {
        return cairn_str{reinterpret_cast<const char *>(fbb.GetBufferPointer()), fbb.GetSize()};
    }

    /* Heap and cells of `count` items with a `value`. Names are the caller's. */
    template <class Item> cairn::CellOffsets put_cells(const Item *items, uint32_t count);
    template <class Item>
    flatbuffers::Offset<cairn::Strings> put_names(const Item *items, uint32_t count);
};

template <class Item> cairn::CellOffsets cairn_encoder::put_cells(const Item *items, uint32_t count)
{
    cairn::CellOffsets out;
    if (count == 0)
        return out;
    size_t heap_bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (cairn::in_heap(items[i].value.type))
            heap_bytes += items[i].value.len;
    }
    uint8_t *heap = nullptr;
    if (heap_bytes)
        out.heap = fbb.CreateUninitializedVector<uint8_t>(heap_bytes, &heap);
    cells.clear();
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        const cairn_value &value = items[i].value;
        if (!cairn::in_heap(value.type)) {
            uint32_t length = value.type == CAIRN_TYPE_VECTOR ? value.len : 0;
            cells.emplace_back(cairn::scalar_bits(value), length, value.type);
            continue;
        }
        cells.emplace_back(at, value.len, value.type);
        if (value.len)
            std::memcpy(heap + at, value.as.bytes, value.len);
        at += value.len;
    }
    out.cells = fbb.CreateVectorOfStructs(cells.data(), cells.size());
    return out;
}

template <class Item>
flatbuffers::Offset<cairn::Strings> cairn_encoder::put_names(const Item *items, uint32_t count)
{
    if (count == 0)
        return 0;
    names.clear();
    for (uint32_t i = 0; i < count; i++)
        names.push_back(fbb.CreateString(items[i].name.ptr, items[i].name.len));
    return fbb.CreateVector(names.data(), names.size());
}

#endif
