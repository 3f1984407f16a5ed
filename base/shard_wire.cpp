/* What routers ask of shards, as bytes. */
#include "base/shard_codec.hpp"

namespace wire = cairn::wire;
using cairn::allocate;
using cairn::size_of;
using flatbuffers::Offset;

namespace
{

const char *const OP_NAMES[] = {
    "get",     "write",   "search", "scan",           "count",           "report",
    "schemas", "adopt",   "import", "import-state",   "export",          "freeze",
    "digest",  "release", "thaw",   "collection-put", "collection-drop", "cluster",
};
static_assert(sizeof(OP_NAMES) / sizeof(OP_NAMES[0]) == CAIRN_SHARD_OPS_COUNT, "one for each");

Offset<cairn::Structs<wire::Item>> put_items(cairn_encoder *encoder, const cairn_shard_item *items,
                                             uint32_t count, Offset<cairn::Bytes> *heap)
{
    if (count == 0)
        return 0;
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes = cairn::heap_after(bytes, items[i].payload.len, items[i].key.len);
    encoder->fbb.reserve(bytes + count * sizeof(wire::Item) + cairn::ARRAY_OVERHEAD_BYTES);
    cairn::HeapWriter writer(&encoder->fbb, bytes);
    for (uint32_t i = 0; i < count; i++) {
        writer.add_aligned(items[i].payload);
        writer.add(items[i].key);
    }
    *heap = writer.offset;
    wire::Item *out = nullptr;
    auto offset = encoder->fbb.CreateUninitializedVectorOfStructs(count, &out);
    for (uint32_t i = 0; i < count; i++)
        out[i] = wire::Item(items[i].token, items[i].if_offset, items[i].collection,
                            items[i].payload.len, items[i].key.len, items[i].kind);
    return offset;
}

auto put_queries(cairn_encoder *encoder, const cairn_shard_query *queries, uint32_t count)
{
    auto &fbb = encoder->fbb;
    encoder->tables.clear();
    for (uint32_t i = 0; i < count; i++) {
        const cairn_shard_query &query = queries[i];
        auto vector = fbb.CreateVector(query.vector, query.dim);
        auto filter = encoder->string(query.filter_json);
        encoder->tables.emplace_back(
            wire::CreateQuery(fbb, vector, query.k, query.ef, query.nprobe, query.exact, filter).o);
    }
    return cairn::put_tables<wire::Query>(encoder);
}

int open_keys(const wire::Request *request, cairn_arena *arena, cairn_shard_request *out,
              cairn_error *err)
{
    out->keys_count = size_of(request->keys());
    int code = cairn::check_count(out->keys_count, CAIRN_KEYS_MAX, "keys", err);
    if (code != 0)
        return code;
    out->keys = cairn::open_strings(request->keys(), arena);
    for (uint32_t i = 0; i < out->keys_count; i++) {
        code = cairn::check_key(out->keys[i], err);
        if (code != 0) {
            cairn_error_prefix(err, "keys[%u]", i);
            return code;
        }
    }
    return 0;
}

int open_item(const wire::Item &item, cairn::HeapReader *heap, cairn_shard_item *out,
              cairn_error *err)
{
    out->kind = item.kind();
    out->collection = item.collection();
    out->token = item.token();
    out->if_offset = item.if_offset();
    if (item.payload_bytes() > CAIRN_ENTITY_BYTES_MAX)
        return cairn_fail(err, CAIRN_ETOOLARGE, "a payload of %u bytes, the most is %u",
                          item.payload_bytes(), CAIRN_ENTITY_BYTES_MAX);
    if (!heap->take_aligned(item.payload_bytes(), &out->payload) ||
        !heap->take(item.key_bytes(), &out->key))
        return cairn::fail_heap(err, "item_heap");
    return cairn::check_key_or_none(out->key, err);
}

int open_items(const wire::Request *request, cairn_arena *arena, cairn_shard_request *out,
               cairn_error *err)
{
    uint32_t count = size_of(request->items());
    cairn::HeapReader heap(request->item_heap());
    int code = cairn::check_count(count, CAIRN_BATCH_ENTITIES_MAX, "items", err);
    if (code == 0)
        code = cairn::check_placed(request->items(), "items", err);
    if (code != 0)
        return code;
    if (!heap.is_aligned())
        return cairn_fail(err, CAIRN_EBODY, "item_heap: not 8-byte aligned");
    auto *items = allocate<cairn_shard_item>(arena, count);
    for (uint32_t i = 0; i < count; i++) {
        code = open_item(*request->items()->Get(i), &heap, &items[i], err);
        if (code != 0) {
            cairn_error_prefix(err, "items[%u]", i);
            return code;
        }
    }
    if (!heap.is_spent())
        return cairn::fail_heap(err, "item_heap");
    out->items = items;
    out->items_count = count;
    return 0;
}

int open_query(const wire::Query *query, cairn_shard_query *out, cairn_error *err)
{
    out->dim = size_of(query->vector());
    if (out->dim == 0 || out->dim > CAIRN_DIM_MAX)
        return cairn_fail(err, CAIRN_EDIMENSION, "vector: dimension %u is not in 1..%u", out->dim,
                          CAIRN_DIM_MAX);
    out->vector = query->vector()->data();
    if (!cairn_f32_finite(out->vector, out->dim))
        return cairn_fail(err, CAIRN_ENUMBER, "vector: a component is not finite");
    out->k = query->k();
    out->ef = query->ef();
    out->nprobe = query->nprobe();
    out->exact = query->exact();
    if (out->k == 0 || out->k > CAIRN_K_MAX)
        return cairn_fail(err, CAIRN_EFIELD, "k: %u is not in 1..%u", out->k, CAIRN_K_MAX);
    if (out->ef > CAIRN_EF_MAX)
        return cairn_fail(err, CAIRN_EFIELD, "ef: %u is over %u", out->ef, CAIRN_EF_MAX);
    if (out->nprobe > CAIRN_NPROBE_MAX)
        return cairn_fail(err, CAIRN_EFIELD, "nprobe: %u is over %u", out->nprobe,
                          CAIRN_NPROBE_MAX);
    return 0;
}

int open_queries(const wire::Request *request, uint32_t body_bytes, cairn_arena *arena,
                 cairn_shard_request *out, cairn_error *err)
{
    uint32_t count = size_of(request->queries());
    int code = cairn::check_count(count, CAIRN_SEARCHES_MAX, "queries", err);
    if (code != 0)
        return code;
    auto *queries = allocate<cairn_shard_query>(arena, count);
    uint64_t hits = 0, filter_bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        const wire::Query *query = request->queries()->Get(i);
        /* Queries that point to the same filter would have it checked and parsed as often. */
        filter_bytes += size_of(query->filter());
        if (filter_bytes > body_bytes)
            return cairn_fail(err, CAIRN_EBODY, "queries[%u]: shares its filter with another", i);
        code = open_query(query, &queries[i], err);
        if (code == 0)
            code = cairn::open_text(query->filter(), CAIRN_BODY_BYTES_MAX, "filter",
                                    &queries[i].filter_json, err);
        if (code != 0) {
            cairn_error_prefix(err, "queries[%u]", i);
            return code;
        }
        hits += queries[i].k;
    }
    if (hits > CAIRN_SEARCH_HITS_MAX)
        return cairn_fail(err, CAIRN_ETOOLARGE, "queries: the sum of k is over %u",
                          CAIRN_SEARCH_HITS_MAX);
    out->queries = queries;
    out->queries_count = count;
    return 0;
}

int open_texts(const wire::Request *request, cairn_shard_request *out, cairn_error *err)
{
    int code = cairn::open_name(request->vector(), "vector", &out->vector, err);
    if (code == 0)
        code = cairn::open_text(request->filter(), CAIRN_BODY_BYTES_MAX, "filter",
                                &out->filter_json, err);
    if (code == 0)
        code = cairn::open_key(request->after_key(), "after_key", &out->after_key, err);
    if (code == 0)
        code = cairn::open_text(request->url(), CAIRN_URL_BYTES_MAX, "url", &out->url, err);
    if (code == 0)
        code =
            cairn::open_text(request->text(), CAIRN_SHARD_TEXT_BYTES_MAX, "text", &out->text, err);
    return code;
}

int open_numbers(const wire::Request *request, cairn_shard_request *out, cairn_error *err)
{
    out->cluster = request->cluster();
    out->epoch = request->epoch();
    out->same_epoch = request->same_epoch();
    out->with_rows = request->with_rows();
    out->collection = request->collection();
    out->limit = request->limit();
    if (request->move())
        out->move = cairn_shard_move{request->move()->plan(), request->move()->source(),
                                     request->move()->target()};
    out->from_offset = request->from_offset();
    out->until_offset = request->until_offset();
    out->bytes_max = request->bytes_max();
    out->fence = request->fence();
    out->wait_ms = request->wait_ms();
    if (out->limit > CAIRN_SCROLL_LIMIT_MAX)
        return cairn_fail(err, CAIRN_EFIELD, "limit: %u is over %u", out->limit,
                          CAIRN_SCROLL_LIMIT_MAX);
    if (out->bytes_max > CAIRN_EXPORT_BYTES_MAX)
        return cairn_fail(err, CAIRN_EFIELD, "bytes_max: %llu is over %u",
                          static_cast<unsigned long long>(out->bytes_max), CAIRN_EXPORT_BYTES_MAX);
    if (out->wait_ms > CAIRN_TIMEOUT_MS_MAX)
        return cairn_fail(err, CAIRN_EFIELD, "wait_ms: %u is over %u", out->wait_ms,
                          CAIRN_TIMEOUT_MS_MAX);
    return 0;
}

} // namespace

int cairn::open_text(const flatbuffers::String *text, uint32_t max, const char *what,
                     cairn_str *out, cairn_error *err)
{
    *out = view(text);
    if (out->len > max)
        return cairn_fail(err, CAIRN_ETOOLARGE, "%s: %u bytes, the most is %u", what, out->len,
                          max);
    return cairn_utf8_valid(*out) ? 0 : cairn_fail(err, CAIRN_EUTF8, "%s: not UTF-8", what);
}

int cairn::open_name(const flatbuffers::String *text, const char *what, cairn_str *out,
                     cairn_error *err)
{
    *out = view(text);
    if (out->len > CAIRN_NAME_BYTES_MAX)
        return cairn_fail(err, CAIRN_ENAME, "%s: a name of %u bytes, the most is %u", what,
                          out->len, CAIRN_NAME_BYTES_MAX);
    return cairn_utf8_valid(*out) ? 0 : cairn_fail(err, CAIRN_EUTF8, "%s: not UTF-8", what);
}

int cairn::open_key(const flatbuffers::String *text, const char *what, cairn_str *out,
                    cairn_error *err)
{
    *out = view(text);
    int code = check_key_or_none(*out, err);
    if (code != 0)
        cairn_error_prefix(err, "%s", what);
    return code;
}

int cairn::check_key_or_none(cairn_str key, cairn_error *err)
{
    return key.len == 0 ? 0 : check_key(key, err);
}

extern "C" {

const char *cairn_shard_op_name(enum cairn_shard_op op)
{
    return OP_NAMES[op];
}

bool cairn_shard_op_parse(struct cairn_str name, enum cairn_shard_op *out)
{
    for (int i = 0; i < CAIRN_SHARD_OPS_COUNT; i++) {
        if (cairn_str_eq(name, cairn_str_from(OP_NAMES[i]))) {
            *out = static_cast<cairn_shard_op>(i);
            return true;
        }
    }
    return false;
}

struct cairn_str cairn_shard_request_encode(struct cairn_encoder *encoder,
                                            const struct cairn_shard_request *request)
{
    encoder->begin();
    auto &fbb = encoder->fbb;
    Offset<cairn::Bytes> item_heap;
    auto items = put_items(encoder, request->items, request->items_count, &item_heap);
    auto keys = encoder->strings(request->keys, request->keys_count);
    auto vectors = encoder->strings(request->vectors, request->vectors_count);
    auto queries = put_queries(encoder, request->queries, request->queries_count);
    auto vector = encoder->string(request->vector);
    auto filter = encoder->string(request->filter_json);
    auto after_key = encoder->string(request->after_key);
    auto url = encoder->string(request->url);
    auto text = encoder->string(request->text);
    wire::Move move(request->move.plan, request->move.source, request->move.target);
    bool has_move = request->move.plan || request->move.source || request->move.target;
    fbb.Finish(wire::CreateRequest(
        fbb, request->cluster, request->epoch, request->same_epoch, request->collection, keys,
        vectors, items, item_heap, vector, queries, filter, after_key, request->limit,
        has_move ? &move : nullptr, url, request->from_offset, request->until_offset,
        request->bytes_max, request->fence, request->wait_ms, text, request->with_rows));
    return encoder->finished();
}

int cairn_shard_request_decode(struct cairn_str body, struct cairn_arena *arena,
                               struct cairn_shard_request *out, struct cairn_error *err)
{
    *out = cairn_shard_request{};
    const wire::Request *request = nullptr;
    int code = cairn::open_shard_body(body, CAIRN_SHARD_CALL_BYTES_MAX, "Request", &request, err);
    if (code == 0)
        code = open_numbers(request, out, err);
    if (code == 0)
        code = open_keys(request, arena, out, err);
    if (code == 0)
        code = cairn::open_names(request->vectors(), CAIRN_VECTORS_MAX, "vectors", arena,
                                 &out->vectors, &out->vectors_count, err);
    if (code == 0)
        code = open_items(request, arena, out, err);
    if (code == 0)
        code = open_queries(request, body.len, arena, out, err);
    return code != 0 ? code : open_texts(request, out, err);
}

} // extern "C"
