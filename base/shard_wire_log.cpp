/* Payloads of the log records that moving keys leaves. */
#include "base/shard_codec.hpp"

namespace wire = cairn::wire;

extern "C" {

struct cairn_str cairn_imported_encode(struct cairn_encoder *encoder,
                                       const struct cairn_imported *imported)
{
    encoder->begin();
    cairn::HeapWriter entity(&encoder->fbb, imported->entity.len);
    entity.add(imported->entity);
    encoder->fbb.Finish(wire::CreateImported(
        encoder->fbb, imported->source, imported->source_offset, imported->origin_shard,
        imported->origin_offset, imported->ingest_time_us, entity.offset));
    return encoder->finished();
}

int cairn_imported_decode(struct cairn_str bytes, struct cairn_imported *out,
                          struct cairn_error *err)
{
    *out = cairn_imported{};
    const wire::Imported *imported = nullptr;
    int code = cairn::open_shard_body(bytes, CAIRN_IMPORT_BYTES_MAX, "Imported", &imported, err);
    if (code != 0)
        return code;
    cairn::HeapReader entity(imported->entity());
    if (!entity.is_aligned())
        return cairn_fail(err, CAIRN_EBODY, "entity: not 8-byte aligned");
    uint32_t entity_bytes = cairn::size_of(imported->entity());
    if (entity_bytes > CAIRN_ENTITY_BYTES_MAX)
        return cairn_fail(err, CAIRN_ETOOLARGE, "entity: %u bytes, the most is %u", entity_bytes,
                          CAIRN_ENTITY_BYTES_MAX);
    if (entity_bytes == 0)
        return cairn_fail(err, CAIRN_EBODY, "entity: must be given");
    entity.take(entity_bytes, &out->entity);
    out->source = imported->source();
    out->source_offset = imported->source_offset();
    out->origin_shard = imported->origin_shard();
    out->origin_offset = imported->origin_offset();
    out->ingest_time_us = imported->ingest_time();
    return 0;
}

struct cairn_str cairn_forget_encode(struct cairn_encoder *encoder, const struct cairn_str *keys,
                                     uint32_t count)
{
    encoder->begin();
    auto names = encoder->strings(keys, count);
    encoder->fbb.Finish(wire::CreateForget(encoder->fbb, names));
    return encoder->finished();
}

int cairn_forget_decode(struct cairn_str bytes, struct cairn_arena *arena, struct cairn_str **keys,
                        uint32_t *count, struct cairn_error *err)
{
    *keys = nullptr;
    *count = 0;
    const wire::Forget *forget = nullptr;
    int code = cairn::open_shard_body(bytes, CAIRN_ENTITY_BYTES_MAX, "Forget", &forget, err);
    if (code != 0)
        return code;
    uint32_t keys_count = cairn::size_of(forget->keys());
    if (keys_count == 0)
        return cairn_fail(err, CAIRN_EBODY, "keys: there must be at least one");
    code = cairn::check_count(keys_count, CAIRN_FORGET_KEYS_MAX, "keys", err);
    if (code != 0)
        return code;
    auto *opened = cairn::allocate<cairn_str>(arena, keys_count);
    for (uint32_t i = 0; i < keys_count; i++) {
        opened[i] = cairn::view(forget->keys()->Get(i));
        code = cairn::check_key(opened[i], err);
        if (code != 0) {
            cairn_error_prefix(err, "keys[%u]", i);
            return code;
        }
    }
    *keys = opened;
    *count = keys_count;
    return 0;
}

} // extern "C"
