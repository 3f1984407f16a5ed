/* A shard's report on itself, as bytes. */
#include "base/shard_codec.hpp"

namespace wire = cairn::wire;
using cairn::allocate;
using cairn::size_of;
using flatbuffers::Offset;

namespace
{

Offset<void> put_index(cairn_encoder *encoder, const cairn_index_report &index)
{
    auto vector = encoder->string(index.vector);
    return wire::CreateIndexReport(
               encoder->fbb, vector, index.built_kind, index.building, index.live, index.built,
               index.tail, index.tombstones, index.generation_offset, index.indexed_offset,
               index.memory_bytes, index.disk_bytes, index.builds, index.last_build_us)
        .o;
}

Offset<void> put_collection(cairn_encoder *encoder, const cairn_collection_report &collection)
{
    encoder->tables.clear();
    for (uint32_t i = 0; i < collection.indexes_count; i++)
        encoder->tables.push_back(put_index(encoder, collection.indexes[i]));
    auto indexes = cairn::put_tables<wire::IndexReport>(encoder);
    return wire::CreateCollectionReport(encoder->fbb, collection.collection, collection.entities,
                                        collection.routed, collection.newest_event_us,
                                        collection.newest_ingest_us, indexes)
        .o;
}

auto put_hot(cairn_encoder *encoder, const cairn_hot_token *hot, uint32_t count)
{
    encoder->tables.clear();
    for (uint32_t i = 0; i < count; i++) {
        auto key = encoder->string(hot[i].key);
        encoder->tables.emplace_back(wire::CreateHotToken(encoder->fbb, hot[i].token,
                                                          hot[i].collection, key, hot[i].reads,
                                                          hot[i].writes)
                                         .o);
    }
    return cairn::put_tables<wire::HotToken>(encoder);
}

int open_index(const wire::IndexReport *index, cairn_index_report *out, cairn_error *err)
{
    out->built_kind = index->built_kind();
    out->building = index->building();
    out->live = index->live();
    out->built = index->built();
    out->tail = index->tail();
    out->tombstones = index->tombstones();
    out->generation_offset = index->generation_offset();
    out->indexed_offset = index->indexed_offset();
    out->memory_bytes = index->memory_bytes();
    out->disk_bytes = index->disk_bytes();
    out->builds = index->builds();
    out->last_build_us = index->last_build_us();
    return cairn::open_name(index->vector(), "vector", &out->vector, err);
}

int open_collection(const wire::CollectionReport *collection, cairn_arena *arena,
                    cairn_collection_report *out, cairn_error *err)
{
    uint32_t count = size_of(collection->indexes());
    int code = cairn::check_count(count, CAIRN_VECTORS_MAX, "indexes", err);
    if (code != 0)
        return code;
    auto *indexes = allocate<cairn_index_report>(arena, count);
    for (uint32_t i = 0; code == 0 && i < count; i++) {
        code = open_index(collection->indexes()->Get(i), &indexes[i], err);
        if (code != 0)
            cairn_error_prefix(err, "indexes[%u]", i);
    }
    out->collection = collection->collection();
    out->entities = collection->entities();
    out->routed = collection->routed();
    out->newest_event_us = collection->newest_event();
    out->newest_ingest_us = collection->newest_ingest();
    out->indexes = indexes;
    out->indexes_count = count;
    return code;
}

int open_collections(const wire::Report *report, cairn_arena *arena, cairn_shard_report *out,
                     cairn_error *err)
{
    uint32_t count = size_of(report->collections());
    int code = cairn::check_count(count, CAIRN_COLLECTIONS_MAX, "report.collections", err);
    if (code != 0)
        return code;
    auto *collections = allocate<cairn_collection_report>(arena, count);
    for (uint32_t i = 0; code == 0 && i < count; i++) {
        code = open_collection(report->collections()->Get(i), arena, &collections[i], err);
        if (code != 0)
            cairn_error_prefix(err, "report.collections[%u]", i);
    }
    out->collections = collections;
    out->collections_count = count;
    return code;
}

int open_hot(const wire::Report *report, cairn_arena *arena, cairn_shard_report *out,
             cairn_error *err)
{
    uint32_t count = size_of(report->hot());
    int code = cairn::check_count(count, CAIRN_HOT_TOKENS_MAX, "report.hot", err);
    if (code != 0)
        return code;
    auto *hot = allocate<cairn_hot_token>(arena, count);
    for (uint32_t i = 0; code == 0 && i < count; i++) {
        const wire::HotToken *token = report->hot()->Get(i);
        hot[i].token = token->token();
        hot[i].collection = token->collection();
        hot[i].reads = token->reads();
        hot[i].writes = token->writes();
        code = cairn::open_key(token->key(), "report.hot", &hot[i].key, err);
    }
    out->hot = hot;
    out->hot_count = count;
    return code;
}

} // namespace

Offset<wire::Report> cairn::put_report(cairn_encoder *encoder, const cairn_shard_report *report)
{
    if (!report)
        return 0;
    /* Each collection needs the encoder's own scratch for its indexes. */
    std::vector<Offset<void>> tables;
    tables.reserve(report->collections_count);
    for (uint32_t i = 0; i < report->collections_count; i++)
        tables.push_back(put_collection(encoder, report->collections[i]));
    encoder->tables = tables;
    auto collections = put_tables<wire::CollectionReport>(encoder);
    auto hot = put_hot(encoder, report->hot, report->hot_count);
    auto reason = encoder->string(report->reason);
    return wire::CreateReport(encoder->fbb, report->read_only, reason, report->entities,
                              report->log_end_offset, report->log_bytes, report->log_segments,
                              report->queued_writes, report->queued_bytes, report->held_writes,
                              report->row_disk_bytes, report->row_memory_bytes,
                              report->index_disk_bytes, report->index_memory_bytes, report->reads,
                              report->writes, report->foreign, collections, hot);
}

int cairn::open_report(const wire::Report *report, cairn_arena *arena,
                       const cairn_shard_report **out, cairn_error *err)
{
    *out = nullptr;
    if (!report)
        return 0;
    auto *opened = allocate<cairn_shard_report>(arena, 1);
    opened->read_only = report->read_only();
    opened->entities = report->entities();
    opened->log_end_offset = report->log_end_offset();
    opened->log_bytes = report->log_bytes();
    opened->log_segments = report->log_segments();
    opened->queued_writes = report->queued_writes();
    opened->queued_bytes = report->queued_bytes();
    opened->held_writes = report->held_writes();
    opened->row_disk_bytes = report->row_disk_bytes();
    opened->row_memory_bytes = report->row_memory_bytes();
    opened->index_disk_bytes = report->index_disk_bytes();
    opened->index_memory_bytes = report->index_memory_bytes();
    opened->reads = report->reads();
    opened->writes = report->writes();
    opened->foreign = report->foreign();
    *out = opened;
    int code = open_text(report->reason(), CAIRN_SHARD_TEXT_BYTES_MAX, "report.reason",
                         &opened->reason, err);
    if (code == 0)
        code = open_collections(report, arena, opened, err);
    return code != 0 ? code : open_hot(report, arena, opened, err);
}
