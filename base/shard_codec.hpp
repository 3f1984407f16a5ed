/* Shared by the C++ files of what routers and shards say (shard_wire*.cpp); no one else includes
 * it. */
#ifndef CAIRN_BASE_SHARD_CODEC_HPP
#define CAIRN_BASE_SHARD_CODEC_HPP

#include "base/codec.hpp"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include "base/shard_generated.h"
#pragma GCC diagnostic pop

extern "C" {
#include "base/shard_wire.h"
}

namespace cairn
{

namespace wire = fb::internal;

static_assert(sizeof(wire::Item) == 32 && sizeof(wire::Row) == 16 && sizeof(wire::Hit) == 16 &&
                  sizeof(wire::Record) == 48 && sizeof(wire::RowVector) == 8,
              "on the wire");

template <class T> using Structs = flatbuffers::Vector<const T *>;
using Bytes = flatbuffers::Vector<uint8_t>;

/* Where an element's part of a heap ends that begins after `at`: `aligned` bytes from the next
 * multiple of 8 on, then `plain` ones. */
inline size_t heap_after(size_t at, uint32_t aligned, uint32_t plain)
{
    return ((at + 7) & ~size_t{7}) + aligned + plain;
}

/* For what stands around an array's parts: lengths and alignment. */
constexpr size_t ARRAY_OVERHEAD_BYTES = 64;

/* Fills a heap whose size was added up with heap_after. */
class HeapWriter
{
  public:
    /* Allots the heap; an empty one is left out of its table. */
    HeapWriter(flatbuffers::FlatBufferBuilder *fbb, size_t bytes)
    {
        if (bytes == 0)
            return;
        fbb->ForceVectorAlignment(bytes, 1, 8);
        offset = fbb->CreateUninitializedVector<uint8_t>(bytes, &first_);
    }
    void add_aligned(cairn_str bytes)
    {
        while (at_ % 8 != 0)
            first_[at_++] = 0;
        add(bytes);
    }
    void add(cairn_str bytes)
    {
        if (bytes.len)
            std::memcpy(first_ + at_, bytes.ptr, bytes.len);
        at_ += bytes.len;
    }

    flatbuffers::Offset<Bytes> offset;

  private:
    uint8_t *first_ = nullptr;
    size_t at_ = 0;
};

/* Hands out a heap's bytes in the order in which they were put there. */
class HeapReader
{
  public:
    explicit HeapReader(const Bytes *heap)
        : first_(heap ? reinterpret_cast<const char *>(heap->data()) : ""), size_(size_of(heap))
    {
    }
    /* False: the heap has not so many bytes left. */
    bool take_aligned(uint32_t len, cairn_str *out)
    {
        at_ = heap_after(at_, 0, 0);
        return take(len, out);
    }
    bool take(uint32_t len, cairn_str *out)
    {
        if (at_ > size_ || len > size_ - at_)
            return false;
        *out = len ? cairn_str{first_ + at_, len} : cairn_str{"", 0};
        at_ += len;
        return true;
    }
    bool is_spent() const
    {
        return at_ == size_;
    }
    /* The verifier checks that a heap lies in the body, not where. */
    bool is_aligned() const
    {
        return size_ == 0 || aligned(first_);
    }

  private:
    const char *first_;
    size_t size_;
    size_t at_ = 0;
};

inline int fail_heap(cairn_error *err, const char *what)
{
    return cairn_fail(err, CAIRN_EBODY, "%s: its bytes are not those that its lengths say", what);
}

/* The verifier checks where a vector begins, not where its 8-byte elements do. */
template <class T> int check_placed(const Structs<T> *items, const char *what, cairn_error *err)
{
    return !items || aligned(items->Data())
               ? 0
               : cairn_fail(err, CAIRN_EBODY, "%s: not 8-byte aligned", what);
}

/* A UTF-8 text of at most `max` bytes. */
int open_text(const flatbuffers::String *text, uint32_t max, const char *what, cairn_str *out,
              cairn_error *err);
/* A name, or none. */
int open_name(const flatbuffers::String *text, const char *what, cairn_str *out, cairn_error *err);
/* A key, or none. */
int open_key(const flatbuffers::String *text, const char *what, cairn_str *out, cairn_error *err);
int check_key_or_none(cairn_str key, cairn_error *err);

/* Answer, Report, CollectionReport, IndexReport. What is an array of any length has no tables. */
constexpr flatbuffers::uoffset_t SHARD_DEPTH_MAX = 6;
/* All that the limits allow, twice over, so that what is too many is named. */
constexpr flatbuffers::uoffset_t SHARD_TABLES_MAX =
    2 *
    (CAIRN_SEARCHES_MAX + CAIRN_COLLECTIONS_MAX * (1 + CAIRN_VECTORS_MAX) + CAIRN_HOT_TOKENS_MAX);

template <class Table>
int open_shard_body(cairn_str body, uint32_t bytes_max, const char *name, const Table **out,
                    cairn_error *err)
{
    if (body.len > bytes_max)
        return cairn_fail(err, CAIRN_ETOOLARGE, "cairn.fb.internal.%s: %u bytes, the most is %u",
                          name, body.len, bytes_max);
    auto *data = reinterpret_cast<const uint8_t *>(body.ptr);
    if (!aligned(data))
        return cairn_fail(err, CAIRN_EBODY,
                          "cairn.fb.internal.%s: must stand at an 8-byte aligned address", name);
    flatbuffers::Verifier verifier(data, body.len, SHARD_DEPTH_MAX, SHARD_TABLES_MAX);
    if (!verifier.VerifyBuffer<Table>(nullptr))
        return cairn_fail(err, CAIRN_EBODY, "not a well-formed cairn.fb.internal.%s", name);
    *out = flatbuffers::GetRoot<Table>(data);
    return 0;
}

/* The tables in encoder->tables as a vector of T. */
template <class T>
flatbuffers::Offset<flatbuffers::Vector<flatbuffers::Offset<T>>> put_tables(cairn_encoder *encoder)
{
    if (encoder->tables.empty())
        return 0;
    return encoder->fbb.CreateVector(encoder->tables.data(), encoder->tables.size()).o;
}

/* A shard's report on itself (shard_wire_report.cpp). */
flatbuffers::Offset<wire::Report> put_report(cairn_encoder *encoder,
                                             const cairn_shard_report *report);
int open_report(const wire::Report *report, cairn_arena *arena, const cairn_shard_report **out,
                cairn_error *err);

} // namespace cairn

#endif
