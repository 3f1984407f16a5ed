#include "base/schema_private.h"
#include "base/time.h"

static void write_text(struct cairn_json_writer *writer, const char *key, const char *text)
{
    cairn_json_key(writer, key);
    cairn_json_write_str(writer, cairn_str_from(text));
}

static void write_feature(const struct cairn_feature_def *def, bool stored,
                          struct cairn_json_writer *writer)
{
    cairn_json_write_key(writer, def->name);
    cairn_json_begin_object(writer);
    write_text(writer, "type", cairn_type_name(def->type));
    cairn_json_key(writer, "indexed");
    cairn_json_write_bool(writer, def->indexed);
    if (def->ttl_us) {
        char ttl[32];
        cairn_duration_format(def->ttl_us, ttl);
        write_text(writer, "ttl", ttl);
    }
    if (stored && !cairn_str_eq(def->name, def->stored_name)) {
        cairn_json_key(writer, "stored_name");
        cairn_json_write_str(writer, def->stored_name);
    }
    cairn_json_end_object(writer);
}

static void write_vector(const struct cairn_vector_def *def, struct cairn_json_writer *writer)
{
    cairn_json_write_key(writer, def->name);
    cairn_json_begin_object(writer);
    cairn_json_key(writer, "dim");
    cairn_json_write_u64(writer, def->dim);
    write_text(writer, "metric", cairn_metric_name(def->metric));
    cairn_json_key(writer, "index");
    cairn_json_begin_object(writer);
    write_text(writer, "kind", cairn_index_kind_name(def->index.kind));
    write_text(writer, "quantization", cairn_quantization_name(def->index.quantization));
    for (int i = 0; i < CAIRN_INDEX_SETTINGS; i++) {
        uint32_t value = cairn_index_setting_value(&def->index, i);
        if (value == 0)
            continue;
        cairn_json_key(writer, cairn_index_settings[i].name);
        cairn_json_write_u64(writer, value);
    }
    cairn_json_end_object(writer);
    cairn_json_end_object(writer);
}

static void write_members(const struct cairn_schema *schema, bool stored,
                          struct cairn_json_writer *writer)
{
    cairn_json_key(writer, "features");
    cairn_json_begin_object(writer);
    for (uint32_t i = 0; i < schema->features_count; i++)
        write_feature(&schema->features[i], stored, writer);
    cairn_json_end_object(writer);
    cairn_json_key(writer, "strict");
    cairn_json_write_bool(writer, schema->strict);
    cairn_json_key(writer, "vectors");
    cairn_json_begin_object(writer);
    for (uint32_t i = 0; i < schema->vectors_count; i++)
        write_vector(&schema->vectors[i], writer);
    cairn_json_end_object(writer);
    if (schema->history_json.len) {
        cairn_json_key(writer, "history");
        cairn_json_write_raw(writer, schema->history_json);
    }
    if (schema->documents_json.len) {
        cairn_json_key(writer, "documents");
        cairn_json_write_raw(writer, schema->documents_json);
    }
}

void cairn_schema_write_members(const struct cairn_schema *schema, struct cairn_json_writer *writer)
{
    write_members(schema, false, writer);
}

void cairn_schema_encode(const struct cairn_schema *schema, struct cairn_buf *out)
{
    struct cairn_json_writer writer;
    cairn_json_writer_init(&writer, out);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "name");
    cairn_json_write_str(&writer, schema->name);
    cairn_json_key(&writer, "id");
    cairn_json_write_u64(&writer, schema->id);
    cairn_json_key(&writer, "version");
    cairn_json_write_u64(&writer, schema->version);
    cairn_json_key(&writer, "dropped");
    cairn_json_write_bool(&writer, schema->dropped);
    cairn_json_key(&writer, "created_us");
    cairn_json_write_i64(&writer, schema->created_us);
    write_members(schema, true, &writer);
    cairn_json_end_object(&writer);
}
