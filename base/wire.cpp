/* Binary bodies as the server sees them: requests in, answers out. */
#include "base/codec.hpp"

extern "C" {
#include "base/wire.h"
}

namespace fb = cairn::fb;
using cairn::check_count;
using cairn::check_key;
using cairn::open_names;
using flatbuffers::Offset;

namespace
{

/* Requests are at most two tables deep, one for each entity or search; twice the limits, so that
 * what is too many is named rather than called malformed. */
constexpr flatbuffers::uoffset_t DEPTH_MAX = 4;
constexpr flatbuffers::uoffset_t TABLES_MAX = 2 * CAIRN_BATCH_ENTITIES_MAX;

cairn_str aligned_copy(cairn_str bytes, cairn_arena *arena)
{
    if (cairn::aligned(bytes.ptr))
        return bytes;
    auto *copy = static_cast<char *>(cairn_arena_alloc(arena, bytes.len));
    std::memcpy(copy, bytes.ptr, bytes.len);
    return cairn_str{copy, bytes.len};
}

/* Verify a request body; *body is moved to the arena if it is not aligned. */
template <class Table>
int open_body(cairn_str *body, const char *name, cairn_arena *arena, const Table **out,
              cairn_error *err)
{
    if (body->len > CAIRN_BODY_BYTES_MAX)
        return cairn_fail(err, CAIRN_ETOOLARGE, "a body of %u bytes, the most is %u", body->len,
                          CAIRN_BODY_BYTES_MAX);
    *body = aligned_copy(*body, arena);
    auto *data = reinterpret_cast<const uint8_t *>(body->ptr);
    flatbuffers::Verifier verifier(data, body->len, DEPTH_MAX, TABLES_MAX);
    if (!verifier.VerifyBuffer<Table>(nullptr))
        return cairn_fail(err, CAIRN_EBODY, "not a well-formed cairn.fb.%s", name);
    *out = flatbuffers::GetRoot<Table>(data);
    return 0;
}

template <class Table>
int open_projection(const Table *table, cairn_arena *arena, cairn_projection *out, cairn_error *err)
{
    out->all_features = table->all_features();
    int code = open_names(table->features(), CAIRN_FEATURES_MAX, "features", arena, &out->features,
                          &out->features_count, err);
    return code != 0 ? code
                     : open_names(table->vectors(), CAIRN_VECTORS_MAX, "vectors", arena,
                                  &out->vectors, &out->vectors_count, err);
}

/* Exactly one of vector and key. */
int open_query(const fb::Search *search, cairn_search_request *out, cairn_error *err)
{
    out->key = cairn::view(search->key());
    if ((search->vector() != nullptr) == (out->key.len > 0))
        return cairn_fail(err, CAIRN_EFIELD, "exactly one of vector and key must be given");
    if (!search->vector())
        return check_key(out->key, err);
    out->vector = search->vector()->data();
    out->dim = search->vector()->size();
    if (out->dim == 0 || out->dim > CAIRN_DIM_MAX)
        return cairn_fail(err, CAIRN_EDIMENSION, "vector: dimension %u is not in 1..%u", out->dim,
                          CAIRN_DIM_MAX);
    if (!cairn_f32_finite(out->vector, out->dim))
        return cairn_fail(err, CAIRN_ENUMBER, "vector: a component is not finite");
    return 0;
}

int open_search(const fb::Search *search, cairn_arena *arena, cairn_search_request *out,
                cairn_error *err)
{
    *out = cairn_search_request{};
    int code = open_query(search, out, err);
    if (code == 0)
        code = open_projection(search, arena, &out->projection, err);
    if (code != 0)
        return code;
    out->using_vector = cairn::view(search->using_vector());
    if (out->using_vector.len > CAIRN_NAME_BYTES_MAX)
        return cairn_fail(err, CAIRN_ENAME, "using_vector: a name of %u bytes, the most is %u",
                          out->using_vector.len, CAIRN_NAME_BYTES_MAX);
    if (!cairn_utf8_valid(out->using_vector))
        return cairn_fail(err, CAIRN_EUTF8, "using_vector: not UTF-8");
    out->k = search->k();
    if (out->k == 0 || out->k > CAIRN_K_MAX)
        return cairn_fail(err, CAIRN_EFIELD, "k: %u is not in 1..%u", out->k, CAIRN_K_MAX);
    if (search->ef() > CAIRN_EF_MAX)
        return cairn_fail(err, CAIRN_EFIELD, "ef: %u is over %u", search->ef(), CAIRN_EF_MAX);
    if (search->nprobe() > CAIRN_NPROBE_MAX)
        return cairn_fail(err, CAIRN_EFIELD, "nprobe: %u is over %u", search->nprobe(),
                          CAIRN_NPROBE_MAX);
    out->allow_partial = search->allow_partial();
    out->params = cairn_search_params{search->ef(), search->nprobe(), search->exact()};
    return 0;
}

bool same_names(const cairn_encoder *encoder, const cairn_wire_entity *entity)
{
    if (encoder->shared_lengths.size() != entity->features_count)
        return false;
    size_t at = 0;
    for (uint32_t i = 0; i < entity->features_count; i++) {
        cairn_str name = entity->features[i].name;
        if (encoder->shared_lengths[i] != name.len ||
            std::memcmp(encoder->shared_text.data() + at, name.ptr, name.len) != 0)
            return false;
        at += name.len;
    }
    return true;
}

/* Entities of one answer mostly have the same features: their names are stored once. */
Offset<cairn::Strings> put_shared_names(cairn_encoder *encoder, const cairn_wire_entity *entity)
{
    if (entity->features_count == 0)
        return 0;
    if (same_names(encoder, entity))
        return encoder->shared_names;
    encoder->shared_names = encoder->put_names(entity->features, entity->features_count);
    encoder->shared_lengths.clear();
    encoder->shared_text.clear();
    for (uint32_t i = 0; i < entity->features_count; i++) {
        encoder->shared_lengths.push_back(entity->features[i].name.len);
        encoder->shared_text.append(entity->features[i].name.ptr, entity->features[i].name.len);
    }
    return encoder->shared_names;
}

void begin_answer(cairn_encoder *encoder, cairn_meta meta)
{
    encoder->begin();
    encoder->meta = static_cast<uint8_t>(meta);
    encoder->results.clear();
    encoder->queries.clear();
    encoder->shared_lengths.clear();
    encoder->shared_text.clear();
}

void add_entity(cairn_encoder *encoder, const cairn_wire_entity *entity)
{
    auto &fbb = encoder->fbb;
    auto vectors = encoder->put_vectors(entity->vectors, entity->vectors_count);
    auto cells = encoder->put_cells(entity->features, entity->features_count);
    cells.names = put_shared_names(encoder, entity);
    cairn::StampOffsets stamps;
    if (encoder->meta != CAIRN_META_NONE)
        stamps = encoder->put_stamps(entity->features, entity->features_count);
    auto key = encoder->string(entity->key);
    encoder->results.push_back(fb::CreateEntityResult(fbb, key, entity->found, entity->score,
                                                      cells.names, cells.cells, cells.heap,
                                                      stamps.stamps, stamps.cell_stamps, vectors));
}

} // namespace

int cairn::check_count(uint32_t count, uint32_t max, const char *what, cairn_error *err)
{
    return count <= max ? 0
                        : cairn_fail(err, CAIRN_ETOOLARGE, "%s: %u of them, the most is %u", what,
                                     count, max);
}

int cairn::check_key(cairn_str key, cairn_error *err)
{
    if (key.len == 0 || key.len > CAIRN_KEY_BYTES_MAX)
        return cairn_fail(err, CAIRN_EKEY, "a key of %u bytes, it must have 1 to %u", key.len,
                          CAIRN_KEY_BYTES_MAX);
    return cairn_utf8_valid(key) ? 0 : cairn_fail(err, CAIRN_EUTF8, "the key is not UTF-8");
}

int cairn::open_names(const Strings *texts, uint32_t max, const char *what, cairn_arena *arena,
                      const cairn_str **out, uint32_t *count, cairn_error *err)
{
    *count = texts ? texts->size() : 0;
    int code = check_count(*count, max, what, err);
    if (code != 0)
        return code;
    *out = open_strings(texts, arena);
    for (uint32_t i = 0; i < *count; i++) {
        if ((*out)[i].len == 0 || (*out)[i].len > CAIRN_NAME_BYTES_MAX)
            return cairn_fail(err, CAIRN_ENAME, "%s[%u]: a name of %u bytes, it must have 1 to %u",
                              what, i, (*out)[i].len, CAIRN_NAME_BYTES_MAX);
        if (!cairn_utf8_valid((*out)[i]))
            return cairn_fail(err, CAIRN_EUTF8, "%s[%u]: the name is not UTF-8", what, i);
    }
    return 0;
}

extern "C" {

const char *cairn_write_status_name(enum cairn_write_status status)
{
    static const char *const names[] = {"applied", "partial", "superseded", "unchanged"};
    return names[status];
}

int cairn_wire_upsert_decode(struct cairn_str body, struct cairn_arena *arena,
                             struct cairn_str **entities, uint32_t *count, struct cairn_error *err)
{
    const fb::UpsertRequest *request = nullptr;
    int code = open_body(&body, "UpsertRequest", arena, &request, err);
    if (code != 0)
        return code;
    *count = request->entities() ? request->entities()->size() : 0;
    code = check_count(*count, CAIRN_BATCH_ENTITIES_MAX, "entities", err);
    if (code != 0)
        return code;
    *entities = static_cast<cairn_str *>(cairn_arena_alloc(arena, *count * sizeof(cairn_str)));
    uint64_t total = 0;
    for (uint32_t i = 0; i < *count; i++) {
        auto *data = request->entities()->Get(i)->data();
        if (!data)
            return cairn_fail(err, CAIRN_EBODY, "entities[%u].data: must be given", i);
        total += data->size();
        /* Bytes that several entities point to would be logged as often: a small body could fill
         * the disk. */
        if (total > body.len)
            return cairn_fail(err, CAIRN_EBODY, "entities[%u]: shares its bytes with another", i);
        (*entities)[i] =
            aligned_copy({reinterpret_cast<const char *>(data->data()), data->size()}, arena);
    }
    return 0;
}

struct cairn_str cairn_wire_upsert_response(struct cairn_encoder *encoder,
                                            const struct cairn_str *keys,
                                            const struct cairn_write_result *results,
                                            uint32_t count)
{
    encoder->begin();
    auto &fbb = encoder->fbb;
    encoder->write_results.clear();
    for (uint32_t i = 0; i < count; i++)
        encoder->write_results.emplace_back(results[i].offset, results[i].shard,
                                            static_cast<uint8_t>(results[i].status));
    auto packed =
        fbb.CreateVectorOfStructs(encoder->write_results.data(), encoder->write_results.size());
    auto names = encoder->strings(keys, count);
    fbb.Finish(fb::CreateUpsertResponse(fbb, names, packed));
    return encoder->finished();
}

int cairn_wire_get_decode(struct cairn_str body, struct cairn_arena *arena,
                          struct cairn_get_request *out, struct cairn_error *err)
{
    *out = cairn_get_request{};
    const fb::GetRequest *request = nullptr;
    int code = open_body(&body, "GetRequest", arena, &request, err);
    if (code != 0)
        return code;
    if (request->meta() > CAIRN_META_FULL)
        return cairn_fail(err, CAIRN_EFIELD, "meta: %u is none of 0 none, 1 times, 2 full",
                          request->meta());
    out->projection.meta = static_cast<cairn_meta>(request->meta());
    out->keys_count = request->keys() ? request->keys()->size() : 0;
    code = check_count(out->keys_count, CAIRN_KEYS_MAX, "keys", err);
    if (code != 0)
        return code;
    out->keys = cairn::open_strings(request->keys(), arena);
    for (uint32_t i = 0; i < out->keys_count; i++) {
        code = check_key(out->keys[i], err);
        if (code != 0) {
            cairn_error_prefix(err, "keys[%u]", i);
            return code;
        }
    }
    return open_projection(request, arena, &out->projection, err);
}

int cairn_wire_search_decode(struct cairn_str body, struct cairn_arena *arena,
                             struct cairn_search_request **out, uint32_t *count,
                             struct cairn_error *err)
{
    const fb::SearchRequest *request = nullptr;
    int code = open_body(&body, "SearchRequest", arena, &request, err);
    if (code != 0)
        return code;
    *count = request->searches() ? request->searches()->size() : 0;
    code = check_count(*count, CAIRN_SEARCHES_MAX, "searches", err);
    if (code != 0)
        return code;
    if (*count == 0)
        return cairn_fail(err, CAIRN_EFIELD, "searches: there must be at least one");
    *out = static_cast<cairn_search_request *>(
        cairn_arena_alloc(arena, *count * sizeof(cairn_search_request)));
    uint64_t names = 0;
    for (uint32_t i = 0; i < *count; i++) {
        code = open_search(request->searches()->Get(i), arena, &(*out)[i], err);
        names += (*out)[i].projection.features_count + (*out)[i].projection.vectors_count;
        /* A name takes at least its offset's four bytes, unless searches share their lists. */
        if (code == 0 && names * 4 > body.len)
            code = cairn_fail(err, CAIRN_EBODY, "shares its lists of names with another");
        if (code != 0) {
            cairn_error_prefix(err, "searches[%u]", i);
            return code;
        }
    }
    return 0;
}

void cairn_wire_get_begin(struct cairn_encoder *encoder, enum cairn_meta meta)
{
    begin_answer(encoder, meta);
}

void cairn_wire_get_add(struct cairn_encoder *encoder, const struct cairn_wire_entity *entity)
{
    add_entity(encoder, entity);
}

struct cairn_str cairn_wire_get_end(struct cairn_encoder *encoder)
{
    auto &fbb = encoder->fbb;
    auto entities = fbb.CreateVector(encoder->results.data(), encoder->results.size());
    fbb.Finish(fb::CreateGetResponse(fbb, entities, encoder->meta));
    return encoder->finished();
}

void cairn_wire_search_begin(struct cairn_encoder *encoder)
{
    begin_answer(encoder, CAIRN_META_NONE);
}

void cairn_wire_search_add_hit(struct cairn_encoder *encoder, const struct cairn_wire_entity *hit)
{
    add_entity(encoder, hit);
}

void cairn_wire_search_end_query(struct cairn_encoder *encoder)
{
    auto &fbb = encoder->fbb;
    auto hits = fbb.CreateVector(encoder->results.data(), encoder->results.size());
    encoder->queries.push_back(fb::CreateSearchHits(fbb, hits));
    encoder->results.clear();
}

struct cairn_str cairn_wire_search_end(struct cairn_encoder *encoder)
{
    auto &fbb = encoder->fbb;
    auto queries = fbb.CreateVector(encoder->queries.data(), encoder->queries.size());
    fbb.Finish(fb::CreateSearchResponse(fbb, queries));
    return encoder->finished();
}

size_t cairn_wire_answer_bytes(const struct cairn_encoder *encoder)
{
    return encoder->fbb.GetSize();
}

} // extern "C"
