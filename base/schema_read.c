/* A schema's text, in the two forms it has: the body of PUT /v1/collections/{name}, and the payload
 * of a log record, which adds identity and stored names. Every member is known or refused. */
#include <stdlib.h>

#include "base/schema_private.h"
#include "base/time.h"

struct reader {
    struct cairn_schema_box *box;
    bool stored; /* a log record's text */
    struct cairn_error *err;
};

/* A definition before it is sorted, with what its text named. */
struct feature_entry {
    struct cairn_feature_def def;
    uint16_t given;
};
struct vector_entry {
    struct cairn_vector_def def;
    uint16_t given;
};

static int bad_type(struct reader *reader, const char *path, struct cairn_str name,
                    const char *member, const char *want)
{
    return cairn_fail(reader->err, CAIRN_ESCHEMA, "%s.%.*s%s%s: must be %s", path,
                      CAIRN_STR_ARG(name), *member ? "." : "", member, want);
}

static int unknown(struct reader *reader, const char *path, struct cairn_str name,
                   struct cairn_str member)
{
    return cairn_fail(reader->err, CAIRN_ESCHEMA, "%s.%.*s.%.*s: unknown field", path,
                      CAIRN_STR_ARG(name), CAIRN_STR_ARG(member));
}

static bool is(struct cairn_str key, const char *word)
{
    return cairn_str_eq(key, cairn_str_from(word));
}

/* One of the words that `name_of` gives to 0, 1 and 2; -1 for any other. */
static int word_index(struct cairn_json value, const char *(*name_of)(int))
{
    struct cairn_str word;
    for (int i = 0; cairn_json_str(value, &word) && i < 3; i++) {
        if (is(word, name_of(i)))
            return i;
    }
    return -1;
}

static const char *metric_word(int at)
{
    return cairn_metric_name((enum cairn_metric)at);
}

static const char *kind_word(int at)
{
    return cairn_index_kind_name((enum cairn_index_kind)at);
}

static const char *quantization_word(int at)
{
    return cairn_quantization_name((enum cairn_quantization)at);
}

static int read_ttl(struct reader *reader, struct cairn_json value, struct feature_entry *out)
{
    struct cairn_str text;
    if (!cairn_json_str(value, &text))
        return bad_type(reader, "features", out->def.name, "ttl",
                        "a duration such as \"24h\", or \"none\"");
    out->given |= GIVEN_TTL;
    if (is(text, "none"))
        return 0;
    if (cairn_duration_parse(text, &out->def.ttl_us, reader->err) == 0)
        return 0;
    if (reader->err)
        reader->err->code = CAIRN_ESCHEMA;
    cairn_error_prefix(reader->err, "features.%.*s.ttl", CAIRN_STR_ARG(out->def.name));
    return CAIRN_ESCHEMA;
}

static int read_feature_type(struct reader *reader, struct cairn_json value,
                             struct cairn_feature_def *def)
{
    struct cairn_str word;
    def->type = cairn_json_str(value, &word) ? cairn_type_parse(word) : CAIRN_TYPE_NULL;
    if (def->type != CAIRN_TYPE_NULL)
        return 0;
    return bad_type(reader, "features", def->name, "type",
                    "one of bool int64 float64 string bytes timestamp json, or list<one of them>");
}

static int read_feature(struct reader *reader, struct cairn_json body, struct feature_entry *out)
{
    struct cairn_feature_def *def = &out->def;
    struct cairn_json_iter iter;
    struct cairn_str key;
    struct cairn_json value;
    if (!cairn_json_object(body, &iter))
        return bad_type(reader, "features", def->name, "", "an object with a \"type\"");
    int code = 0;
    while (code == 0 && cairn_json_member(&iter, &key, &value)) {
        if (is(key, "type")) {
            code = read_feature_type(reader, value, def);
        } else if (is(key, "indexed")) {
            out->given |= GIVEN_INDEXED;
            if (!cairn_json_bool(value, &def->indexed))
                code = bad_type(reader, "features", def->name, "indexed", "true or false");
        } else if (is(key, "ttl")) {
            code = read_ttl(reader, value, out);
        } else if (reader->stored && is(key, "stored_name")) {
            if (!cairn_json_str(value, &def->stored_name))
                code = bad_type(reader, "features", def->name, "stored_name", "a string");
        } else {
            code = unknown(reader, "features", def->name, key);
        }
    }
    if (code == 0 && def->type == CAIRN_TYPE_NULL)
        code = bad_type(reader, "features", def->name, "type", "given");
    return code;
}

static int compare_features(const void *a, const void *b)
{
    return cairn_str_cmp(((const struct feature_entry *)a)->def.name,
                         ((const struct feature_entry *)b)->def.name);
}

static int compare_vectors(const void *a, const void *b)
{
    return cairn_str_cmp(((const struct vector_entry *)a)->def.name,
                         ((const struct vector_entry *)b)->def.name);
}

static int fail_repeated(struct reader *reader, const char *path, struct cairn_str name)
{
    return cairn_fail(reader->err, CAIRN_ESCHEMA, "%s.%.*s: named twice", path,
                      CAIRN_STR_ARG(name));
}

/* Move sorted entries into the box. */
static int keep_features(struct reader *reader, struct feature_entry *entries, uint32_t count)
{
    struct cairn_schema_box *box = reader->box;
    qsort(entries, count, sizeof(*entries), compare_features);
    struct cairn_feature_def *features = cairn_schema_box_features(box, count);
    for (uint32_t i = 0; i < count; i++) {
        struct cairn_feature_def *def = &features[i];
        *def = entries[i].def;
        if (i > 0 && cairn_str_eq(features[i - 1].name, def->name))
            return fail_repeated(reader, "features", def->name);
        def->name = cairn_arena_dup(&box->arena, def->name);
        def->stored_name =
            def->stored_name.len ? cairn_arena_dup(&box->arena, def->stored_name) : def->name;
        box->renamed = box->renamed || !cairn_str_eq(def->name, def->stored_name);
        box->feature_given[i] = entries[i].given;
    }
    return 0;
}

static uint32_t count_members(struct cairn_json_iter iter)
{
    struct cairn_str key;
    struct cairn_json value;
    uint32_t count = 0;
    while (cairn_json_member(&iter, &key, &value))
        count++;
    return count;
}

static int read_features(struct reader *reader, struct cairn_json body)
{
    struct cairn_json_iter iter;
    struct cairn_json value;
    if (!cairn_json_object(body, &iter))
        return cairn_fail(reader->err, CAIRN_ESCHEMA, "features: must be an object");
    uint32_t count = count_members(iter);
    if (count > CAIRN_FEATURES_MAX)
        return cairn_fail(reader->err, CAIRN_ESCHEMA, "features: %u of them, the most is %u", count,
                          CAIRN_FEATURES_MAX);
    struct feature_entry *entries = cairn_calloc(count, sizeof(*entries));
    int code = 0;
    for (uint32_t i = 0; code == 0 && i < count; i++) {
        cairn_json_member(&iter, &entries[i].def.name, &value);
        code = cairn_name_check(entries[i].def.name, "features", reader->err);
        if (code == 0)
            code = read_feature(reader, value, &entries[i]);
    }
    if (code == 0)
        code = keep_features(reader, entries, count);
    free(entries);
    return code;
}

/* An integer setting within its range. */
static int read_setting(struct reader *reader, struct cairn_json value, struct cairn_str vector,
                        const char *path, uint32_t min, uint32_t max, uint32_t *out)
{
    int64_t number;
    if (!cairn_json_i64(value, &number)) {
        if (cairn_json_kind(value) != CAIRN_JSON_UINT)
            return bad_type(reader, "vectors", vector, path, "an integer");
        number = INT64_MAX;
    }
    if (number < min || number > max)
        return cairn_fail(reader->err, CAIRN_ESCHEMA, "vectors.%.*s.%s: %lld is not in %u..%u",
                          CAIRN_STR_ARG(vector), path, (long long)number, min, max);
    *out = (uint32_t)number;
    return 0;
}

static int read_index_setting(struct reader *reader, struct cairn_str key, struct cairn_json value,
                              struct vector_entry *out)
{
    for (int i = 0; i < CAIRN_INDEX_SETTINGS; i++) {
        const struct cairn_index_setting *setting = &cairn_index_settings[i];
        if (!is(key, setting->name))
            continue;
        char path[32] = "index.";
        strcat(path, setting->name); /* the longest is index.ef_construction */
        out->given |= (uint16_t)(GIVEN_PARAM_FIRST << i);
        return read_setting(reader, value, out->def.name, path, setting->min, setting->max,
                            cairn_index_setting_of(&out->def.index, i));
    }
    return cairn_fail(reader->err, CAIRN_ESCHEMA, "vectors.%.*s.index.%.*s: unknown field",
                      CAIRN_STR_ARG(out->def.name), CAIRN_STR_ARG(key));
}

static int read_index(struct reader *reader, struct cairn_json body, struct vector_entry *out)
{
    struct cairn_json_iter iter;
    struct cairn_str key;
    struct cairn_json value;
    if (!cairn_json_object(body, &iter))
        return bad_type(reader, "vectors", out->def.name, "index", "an object");
    while (cairn_json_member(&iter, &key, &value)) {
        if (is(key, "kind")) {
            int kind = word_index(value, kind_word);
            if (kind < 0)
                return bad_type(reader, "vectors", out->def.name, "index.kind",
                                "one of flat ivf graph");
            out->def.index.kind = (enum cairn_index_kind)kind;
            out->given |= GIVEN_KIND;
        } else if (is(key, "quantization")) {
            int quantization = word_index(value, quantization_word);
            if (quantization < 0)
                return bad_type(reader, "vectors", out->def.name, "index.quantization",
                                "one of none sq8 pq");
            out->def.index.quantization = (enum cairn_quantization)quantization;
            out->given |= GIVEN_QUANTIZATION;
        } else {
            int code = read_index_setting(reader, key, value, out);
            if (code != 0)
                return code;
        }
    }
    return 0;
}

static int read_vector_member(struct reader *reader, struct cairn_str key, struct cairn_json value,
                              struct vector_entry *out)
{
    if (is(key, "dim"))
        return read_setting(reader, value, out->def.name, "dim", 1, CAIRN_DIM_MAX, &out->def.dim);
    if (is(key, "index"))
        return read_index(reader, value, out);
    if (!is(key, "metric"))
        return unknown(reader, "vectors", out->def.name, key);
    int metric = word_index(value, metric_word);
    if (metric < 0)
        return bad_type(reader, "vectors", out->def.name, "metric", "one of cosine dot l2");
    out->def.metric = (enum cairn_metric)metric;
    out->given |= GIVEN_METRIC;
    return 0;
}

static int read_vector(struct reader *reader, struct cairn_json body, struct vector_entry *out)
{
    struct cairn_json_iter iter;
    struct cairn_str key;
    struct cairn_json value;
    int code = cairn_name_check(out->def.name, "vectors", reader->err);
    if (code == 0 && !cairn_json_object(body, &iter))
        code = bad_type(reader, "vectors", out->def.name, "", "an object with a \"dim\"");
    out->def.metric = CAIRN_METRIC_COSINE;
    out->def.index.kind = CAIRN_INDEX_IVF;
    out->def.index.quantization = CAIRN_QUANTIZATION_NONE;
    while (code == 0 && cairn_json_member(&iter, &key, &value))
        code = read_vector_member(reader, key, value, out);
    if (code == 0 && out->def.dim == 0)
        code = bad_type(reader, "vectors", out->def.name, "dim", "given");
    return code != 0 ? code : cairn_vector_def_check(&out->def, reader->err);
}

static int read_vectors(struct reader *reader, struct cairn_json body)
{
    struct cairn_schema_box *box = reader->box;
    struct cairn_json_iter iter;
    struct cairn_json value;
    if (!cairn_json_object(body, &iter))
        return cairn_fail(reader->err, CAIRN_ESCHEMA, "vectors: must be an object");
    uint32_t count = count_members(iter);
    if (count > CAIRN_VECTORS_MAX)
        return cairn_fail(reader->err, CAIRN_ESCHEMA, "vectors: %u of them, the most is %u", count,
                          CAIRN_VECTORS_MAX);
    struct vector_entry entries[CAIRN_VECTORS_MAX] = {0};
    for (uint32_t i = 0; i < count; i++) {
        cairn_json_member(&iter, &entries[i].def.name, &value);
        int code = read_vector(reader, value, &entries[i]);
        if (code != 0)
            return code;
    }
    qsort(entries, count, sizeof(*entries), compare_vectors);
    struct cairn_vector_def *vectors = cairn_schema_box_vectors(box, count);
    for (uint32_t i = 0; i < count; i++) {
        vectors[i] = entries[i].def;
        if (i > 0 && cairn_str_eq(vectors[i - 1].name, vectors[i].name))
            return fail_repeated(reader, "vectors", vectors[i].name);
        vectors[i].name = cairn_arena_dup(&box->arena, vectors[i].name);
        box->vector_given[i] = entries[i].given;
    }
    return 0;
}

static struct cairn_str keep_text(struct reader *reader, struct cairn_json body)
{
    struct cairn_buf text = {0};
    cairn_json_minify(body, &text);
    struct cairn_str kept =
        cairn_arena_dup(&reader->box->arena, (struct cairn_str){text.data, (uint32_t)text.len});
    cairn_buf_release(&text);
    return kept;
}

static int read_history(struct reader *reader, struct cairn_json body)
{
    struct cairn_json_iter iter;
    struct cairn_str key, text;
    struct cairn_json value;
    int64_t keep_us;
    if (!cairn_json_object(body, &iter))
        return cairn_fail(reader->err, CAIRN_ESCHEMA, "history: must be an object");
    while (cairn_json_member(&iter, &key, &value)) {
        if (!is(key, "keep"))
            return cairn_fail(reader->err, CAIRN_ESCHEMA, "history.%.*s: unknown field",
                              CAIRN_STR_ARG(key));
        if (!cairn_json_str(value, &text) ||
            (!is(text, "all") && cairn_duration_parse(text, &keep_us, NULL) != 0))
            return cairn_fail(reader->err, CAIRN_ESCHEMA,
                              "history.keep: must be \"all\" or a duration such as \"90d\"");
    }
    reader->box->schema.history_json = keep_text(reader, body);
    return 0;
}

static int read_documents(struct reader *reader, struct cairn_json body)
{
    struct cairn_json_iter iter;
    struct cairn_str key, vector;
    struct cairn_json value;
    if (!cairn_json_object(body, &iter))
        return cairn_fail(reader->err, CAIRN_ESCHEMA, "documents: must be an object");
    while (cairn_json_member(&iter, &key, &value)) {
        if (is(key, "vector")) {
            if (!cairn_json_str(value, &vector))
                return cairn_fail(reader->err, CAIRN_ESCHEMA,
                                  "documents.vector: must be the name of a vector field");
            int code = cairn_name_check(vector, "documents.vector", reader->err);
            if (code != 0)
                return code;
        } else if (!is(key, "chunker") && !is(key, "embedder")) {
            return cairn_fail(reader->err, CAIRN_ESCHEMA, "documents.%.*s: unknown field",
                              CAIRN_STR_ARG(key));
        } else if (cairn_json_kind(value) != CAIRN_JSON_OBJECT) {
            return cairn_fail(reader->err, CAIRN_ESCHEMA, "documents.%.*s: must be an object",
                              CAIRN_STR_ARG(key));
        }
    }
    reader->box->schema.documents_json = keep_text(reader, body);
    return 0;
}

/* Members that only a log record has. */
static int read_identity(struct reader *reader, struct cairn_str key, struct cairn_json value)
{
    struct cairn_schema *schema = &reader->box->schema;
    int64_t number = 0;
    struct cairn_str text;
    bool known = true;
    if (is(key, "name")) {
        known = cairn_json_str(value, &text) && cairn_name_check(text, "name", reader->err) == 0;
        if (known)
            schema->name = cairn_arena_dup(&reader->box->arena, text);
    } else if (is(key, "id")) {
        known = cairn_json_i64(value, &number) && number > 0 && number <= UINT32_MAX;
        schema->id = (uint32_t)number;
    } else if (is(key, "version")) {
        known = cairn_json_i64(value, &number) && number > 0;
        schema->version = (uint64_t)number;
    } else if (is(key, "created_us")) {
        known = cairn_json_i64(value, &schema->created_us);
    } else {
        known = is(key, "dropped") && cairn_json_bool(value, &schema->dropped);
    }
    return known ? 0
                 : cairn_fail(reader->err, CAIRN_ESCHEMA, "%.*s: unknown field or bad value",
                              CAIRN_STR_ARG(key));
}

static int read_member(struct reader *reader, struct cairn_str key, struct cairn_json value)
{
    if (is(key, "features"))
        return read_features(reader, value);
    if (is(key, "vectors"))
        return read_vectors(reader, value);
    if (is(key, "history"))
        return read_history(reader, value);
    if (is(key, "documents"))
        return read_documents(reader, value);
    if (is(key, "strict")) {
        reader->box->strict_given = true;
        return cairn_json_bool(value, &reader->box->schema.strict)
                   ? 0
                   : cairn_fail(reader->err, CAIRN_ESCHEMA, "strict: must be true or false");
    }
    if (reader->stored)
        return read_identity(reader, key, value);
    return cairn_fail(reader->err, CAIRN_ESCHEMA, "%.*s: unknown field", CAIRN_STR_ARG(key));
}

static int read_schema(struct reader *reader, struct cairn_json body)
{
    struct cairn_json_iter iter, rest;
    struct cairn_str key, other;
    struct cairn_json value, ignored;
    if (!cairn_json_object(body, &iter))
        return cairn_fail(reader->err, CAIRN_ESCHEMA, "a schema must be an object");
    int code = 0;
    while (code == 0 && cairn_json_member(&iter, &key, &value)) {
        for (rest = iter; cairn_json_member(&rest, &other, &ignored);) {
            if (cairn_str_eq(key, other))
                return cairn_fail(reader->err, CAIRN_ESCHEMA, "%.*s: given twice",
                                  CAIRN_STR_ARG(key));
        }
        code = read_member(reader, key, value);
    }
    return code;
}

int cairn_schema_parse(struct cairn_str name, struct cairn_json body,
                       const struct cairn_schema **out, struct cairn_error *err)
{
    *out = NULL;
    int code = cairn_name_check(name, "collection", err);
    if (code != 0)
        return code;
    struct reader reader = {.box = cairn_schema_box_new(), .err = err};
    code = read_schema(&reader, body);
    if (code != 0) {
        cairn_schema_unref(&reader.box->schema);
        return code;
    }
    reader.box->schema.name = cairn_arena_dup(&reader.box->arena, name);
    *out = &reader.box->schema;
    return 0;
}

int cairn_schema_decode(struct cairn_str text, const struct cairn_schema **out,
                        struct cairn_error *err)
{
    *out = NULL;
    struct cairn_error local = {0};
    struct cairn_json root;
    struct cairn_json_parser *parser = cairn_json_parser_new();
    struct reader reader = {.box = cairn_schema_box_new(), .stored = true, .err = &local};
    int code = cairn_json_parse(parser, text, &root, &local);
    if (code == 0)
        code = read_schema(&reader, root);
    cairn_json_parser_free(&parser);
    struct cairn_schema *schema = &reader.box->schema;
    if (code == 0 && (schema->name.len == 0 || schema->id == 0 || schema->version == 0))
        code = cairn_fail(&local, CAIRN_ESCHEMA, "name, id or version is missing");
    if (code != 0) {
        cairn_schema_unref(schema);
        return cairn_fail(err, CAIRN_ECORRUPT, "a schema record's text: %s", local.message);
    }
    *out = schema;
    return 0;
}
