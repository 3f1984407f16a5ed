/* Stored rows. They are written with the FlatBuffers builder and read by hand: the row store hands
 * out values at any address, and generated accessors dereference aligned pointers only. The field
 * numbers come from the generated header, so the layout has one source. */
#include "base/codec.hpp"

namespace fb = cairn::fb;

namespace
{

/* Distinct stamps to look back on for one that is the same; rows seldom have more. */
constexpr size_t STAMPS_SEARCHED = 32;

template <class T> T load(const uint8_t *at)
{
    T out;
    std::memcpy(&out, at, sizeof(out));
    return out;
}

/* Where a table's field stands, or nullptr when it is absent. */
const uint8_t *field(const uint8_t *table, flatbuffers::voffset_t number)
{
    const uint8_t *vtable = table - load<int32_t>(table);
    if (number >= load<uint16_t>(vtable))
        return nullptr;
    uint16_t at = load<uint16_t>(vtable + number);
    return at ? table + at : nullptr;
}

const uint8_t *follow(const uint8_t *at)
{
    return at + load<uint32_t>(at);
}

/* A vector of anything: the first element, and how many. */
struct Run {
    const uint8_t *first = nullptr;
    uint32_t count = 0;
};

Run run(const uint8_t *table, flatbuffers::voffset_t number)
{
    const uint8_t *at = field(table, number);
    if (!at)
        return Run();
    const uint8_t *vector = follow(at);
    return Run{vector + 4, load<uint32_t>(vector)};
}

cairn_str text(const uint8_t *table, flatbuffers::voffset_t number)
{
    Run bytes = run(table, number);
    return bytes.first ? cairn_str{reinterpret_cast<const char *>(bytes.first), bytes.count}
                       : cairn_str{"", 0};
}

cairn_str string_at(const Run &texts, uint32_t at)
{
    const uint8_t *string = follow(texts.first + size_t{at} * 4);
    return cairn_str{reinterpret_cast<const char *>(string + 4), load<uint32_t>(string)};
}

cairn_stamp stamp_at(const uint8_t *at)
{
    return cairn_stamp{load<int64_t>(at), load<int64_t>(at + 8), load<uint64_t>(at + 16)};
}

cairn_stamp stamp_field(const uint8_t *table, flatbuffers::voffset_t number)
{
    const uint8_t *at = field(table, number);
    return at ? stamp_at(at) : cairn_stamp{CAIRN_TIME_NONE, CAIRN_TIME_NONE, 0};
}

struct Cells {
    Run names, cells;

    explicit Cells(const uint8_t *row)
        : names(run(row, fb::Row::VT_NAMES)), cells(run(row, fb::Row::VT_CELLS))
    {
    }
    const uint8_t *cell(uint32_t at) const
    {
        return cells.first + size_t{at} * sizeof(fb::Cell);
    }
    uint8_t type(uint32_t at) const
    {
        return load<uint8_t>(cell(at) + 12);
    }
};

void open_cell(const uint8_t *row, const Cells &cells, uint32_t at, cairn_row_cell *out)
{
    const uint8_t *cell = cells.cell(at);
    out->name = string_at(cells.names, at);
    out->value = cairn::unpack(cells.type(at), load<uint64_t>(cell), load<uint32_t>(cell + 8),
                               run(row, fb::Row::VT_HEAP).first);
    Run stamps = run(row, fb::Row::VT_STAMPS);
    Run cell_stamps = run(row, fb::Row::VT_CELL_STAMPS);
    uint32_t stamp = cell_stamps.first ? load<uint32_t>(cell_stamps.first + size_t{at} * 4) : 0;
    out->stamp = stamp_at(stamps.first + size_t{stamp} * sizeof(fb::Stamp));
}

const uint8_t *root(const cairn_row_view *view)
{
    return static_cast<const uint8_t *>(view->root);
}

bool same(const fb::Stamp &a, const cairn_stamp &b)
{
    return a.offset() == b.offset && a.event_time() == b.event_time_us &&
           a.ingest_time() == b.ingest_time_us;
}

/* A row is a root and a provenance. */
constexpr flatbuffers::uoffset_t DEPTH_MAX = 2;
constexpr flatbuffers::uoffset_t TABLES_MAX = 2;

bool known_type(uint8_t type)
{
    uint8_t element = type & static_cast<uint8_t>(~CAIRN_TYPE_LIST);
    return type <= CAIRN_TYPE_VECTOR ||
           (type < 2 * CAIRN_TYPE_LIST && element >= CAIRN_TYPE_BOOL && element <= CAIRN_TYPE_JSON);
}

int check_cells(const fb::Row *row, cairn_error *err)
{
    uint32_t count = cairn::size_of(row->cells());
    if (cairn::size_of(row->names()) != count)
        return cairn_fail(err, CAIRN_EBODY, "names: not one for each cell");
    if (count && !cairn::aligned(row->cells()->Data()))
        return cairn_fail(err, CAIRN_EBODY, "cells: not 8-byte aligned");
    for (uint32_t i = 0; i < count; i++) {
        const fb::Cell &cell = *row->cells()->Get(i);
        if (!known_type(cell.type()))
            return cairn_fail(err, CAIRN_EBODY, "cells[%u]: unknown type %u", i, cell.type());
        if (cell.type() == CAIRN_TYPE_VECTOR)
            continue;
        int code = cairn::check_cell(cell, i, cairn::size_of(row->heap()), err);
        if (code != 0)
            return code;
    }
    return 0;
}

int check_stamps(const fb::Row *row, cairn_error *err)
{
    uint32_t count = cairn::size_of(row->cells());
    uint32_t stamps_count = cairn::size_of(row->stamps());
    const auto *cell_stamps = row->cell_stamps();
    if (count && stamps_count == 0)
        return cairn_fail(err, CAIRN_EBODY, "stamps: there are none");
    if (cell_stamps && cell_stamps->size() != count)
        return cairn_fail(err, CAIRN_EBODY, "cell_stamps: not one for each cell");
    for (uint32_t i = 0; cell_stamps && i < count; i++) {
        if (cell_stamps->Get(i) >= stamps_count)
            return cairn_fail(err, CAIRN_EBODY, "cell_stamps[%u]: there is no stamp %u", i,
                              cell_stamps->Get(i));
    }
    return 0;
}

} // namespace

cairn::StampOffsets cairn_encoder::put_stamps(const cairn_row_cell *items, uint32_t count)
{
    cairn::StampOffsets out;
    if (count == 0)
        return out;
    stamps.clear();
    cell_stamps.clear();
    for (uint32_t i = 0; i < count; i++) {
        size_t at = stamps.size();
        size_t last = at > STAMPS_SEARCHED ? at - STAMPS_SEARCHED : 0;
        while (at > last && !same(stamps[at - 1], items[i].stamp))
            at--;
        if (at == last) {
            stamps.push_back(cairn::pack(items[i].stamp));
            at = stamps.size();
        }
        cell_stamps.push_back(static_cast<uint32_t>(at - 1));
    }
    out.stamps = fbb.CreateVectorOfStructs(stamps.data(), stamps.size());
    if (stamps.size() > 1)
        out.cell_stamps = fbb.CreateVector(cell_stamps.data(), cell_stamps.size());
    return out;
}

extern "C" {

struct cairn_str cairn_row_encode(struct cairn_encoder *encoder, const struct cairn_row *row)
{
    encoder->begin();
    auto &fbb = encoder->fbb;
    auto cells = encoder->put_cells(row->cells, row->cells_count);
    cells.names = encoder->put_names(row->cells, row->cells_count);
    auto stamps = encoder->put_stamps(row->cells, row->cells_count);
    auto provenance = encoder->put_provenance(row->provenance);
    auto route = encoder->string(row->route);
    fb::Stamp tombstone = cairn::pack(row->tombstone);
    fb::Stamp newest = cairn::pack(row->newest);
    fbb.Finish(fb::CreateRow(fbb, cells.names, cells.cells, cells.heap, stamps.stamps,
                             stamps.cell_stamps, row->tombstone.offset ? &tombstone : nullptr,
                             &newest, route, provenance, row->exists || row->cells_count > 0));
    return encoder->finished();
}

int cairn_row_check(struct cairn_str bytes, struct cairn_error *err)
{
    auto *data = reinterpret_cast<const uint8_t *>(bytes.ptr);
    if (!cairn::aligned(data))
        return cairn_fail(err, CAIRN_EBODY, "a row must stand at an 8-byte aligned address");
    flatbuffers::Verifier verifier(data, bytes.len, DEPTH_MAX, TABLES_MAX);
    if (bytes.len >= FLATBUFFERS_MAX_BUFFER_SIZE || !verifier.VerifyBuffer<fb::Row>(nullptr))
        return cairn_fail(err, CAIRN_EBODY, "not a well-formed cairn.fb.Row");
    const fb::Row *row = flatbuffers::GetRoot<fb::Row>(data);
    int code = check_cells(row, err);
    return code != 0 ? code : check_stamps(row, err);
}

void cairn_row_view_init(struct cairn_row_view *view, struct cairn_str bytes)
{
    view->root = follow(reinterpret_cast<const uint8_t *>(bytes.ptr));
    view->bytes = bytes;
}

uint32_t cairn_row_view_count(const struct cairn_row_view *view)
{
    return run(root(view), fb::Row::VT_CELLS).count;
}

void cairn_row_view_cell(const struct cairn_row_view *view, uint32_t at, struct cairn_row_cell *out)
{
    open_cell(root(view), Cells(root(view)), at, out);
}

bool cairn_row_view_find(const struct cairn_row_view *view, bool is_vector, struct cairn_str name,
                         struct cairn_row_cell *out)
{
    Cells cells(root(view));
    uint32_t low = 0, high = cells.cells.count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order =
            static_cast<int>(cells.type(middle) == CAIRN_TYPE_VECTOR) - static_cast<int>(is_vector);
        if (order == 0)
            order = cairn_str_cmp(string_at(cells.names, middle), name);
        if (order == 0) {
            open_cell(root(view), cells, middle, out);
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

struct cairn_stamp cairn_row_view_tombstone(const struct cairn_row_view *view)
{
    return stamp_field(root(view), fb::Row::VT_TOMBSTONE);
}

struct cairn_stamp cairn_row_view_newest(const struct cairn_row_view *view)
{
    return stamp_field(root(view), fb::Row::VT_NEWEST);
}

struct cairn_str cairn_row_view_route(const struct cairn_row_view *view)
{
    return text(root(view), fb::Row::VT_ROUTE);
}

void cairn_row_view_provenance(const struct cairn_row_view *view, struct cairn_arena *arena,
                               struct cairn_provenance *out)
{
    *out = cairn_provenance{};
    const uint8_t *at = field(root(view), fb::Row::VT_PROVENANCE);
    if (!at)
        return;
    const uint8_t *provenance = follow(at);
    out->source = text(provenance, fb::Provenance::VT_SOURCE);
    out->producer = text(provenance, fb::Provenance::VT_PRODUCER);
    Run inputs = run(provenance, fb::Provenance::VT_INPUTS);
    if (inputs.count == 0)
        return;
    auto *texts =
        static_cast<cairn_str *>(cairn_arena_alloc(arena, inputs.count * sizeof(cairn_str)));
    for (uint32_t i = 0; i < inputs.count; i++)
        texts[i] = string_at(inputs, i);
    out->inputs = texts;
    out->inputs_count = inputs.count;
}

bool cairn_row_view_exists(const struct cairn_row_view *view)
{
    const uint8_t *at = field(root(view), fb::Row::VT_EXISTS);
    return at && *at != 0;
}

} // extern "C"
