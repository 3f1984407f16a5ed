#include "api/row_json.h"

#include <stdio.h>

#include "api/fields.h"
#include "base/limits.h"

static bool is_star(struct cairn_json json)
{
    struct cairn_str text;
    return cairn_json_str(json, &text) && text.len == 1 && text.ptr[0] == '*';
}

bool cairn_meta_parse(struct cairn_str text, enum cairn_meta *out)
{
    static const struct cairn_str names[] = {[CAIRN_META_NONE] = CAIRN_FIELD("none"),
                                             [CAIRN_META_TIMES] = CAIRN_FIELD("times"),
                                             [CAIRN_META_FULL] = CAIRN_FIELD("full")};
    for (unsigned i = 0; i < 3; i++) {
        if (cairn_str_eq(text, names[i])) {
            *out = (enum cairn_meta)i;
            return true;
        }
    }
    return false;
}

int cairn_meta_read(struct cairn_json json, enum cairn_meta *out, struct cairn_error *err)
{
    struct cairn_str text;
    *out = CAIRN_META_NONE;
    if (!cairn_field_given(json) || (cairn_json_str(json, &text) && cairn_meta_parse(text, out)))
        return 0;
    return cairn_fail(err, CAIRN_EFIELD, "meta: must be \"none\", \"times\" or \"full\"");
}

void cairn_projection_all_vectors(const struct cairn_schema *schema, struct cairn_arena *arena,
                                  struct cairn_projection *out)
{
    struct cairn_str *names = cairn_arena_alloc(arena, (schema->vectors_count + 1) * sizeof *names);
    for (uint32_t i = 0; i < schema->vectors_count; i++)
        names[i] = schema->vectors[i].name;
    out->vectors = names;
    out->vectors_count = schema->vectors_count;
}

static const struct cairn_str *keep_names(const struct cairn_str *names, uint32_t count,
                                          struct cairn_arena *arena)
{
    struct cairn_str *kept = cairn_arena_alloc(arena, count * sizeof *kept + 1);
    for (uint32_t i = 0; i < count; i++)
        kept[i] = cairn_arena_dup(arena, names[i]);
    return kept;
}

void cairn_projection_keep(struct cairn_projection *projection, struct cairn_arena *arena)
{
    if (projection->features != NULL)
        projection->features = keep_names(projection->features, projection->features_count, arena);
    if (projection->vectors != NULL)
        projection->vectors = keep_names(projection->vectors, projection->vectors_count, arena);
}

int cairn_projection_read(const struct cairn_projection_json *json,
                          const struct cairn_schema *schema, struct cairn_arena *arena,
                          struct cairn_projection *out, struct cairn_error *err)
{
    struct cairn_str *names;
    *out = (struct cairn_projection){0};
    if (cairn_field_given(json->features) && is_star(json->features)) {
        out->all_features = true;
    } else if (cairn_field_given(json->features)) {
        if (cairn_names_read(json->features, "features", CAIRN_FEATURES_MAX, arena, &names,
                             &out->features_count, err) != 0)
            return err->code;
        out->features = names;
    }
    if (cairn_field_given(json->vectors) && is_star(json->vectors)) {
        cairn_projection_all_vectors(schema, arena, out);
    } else if (cairn_field_given(json->vectors)) {
        if (cairn_names_read(json->vectors, "vectors", CAIRN_VECTORS_MAX, arena, &names,
                             &out->vectors_count, err) != 0)
            return err->code;
        out->vectors = names;
    }
    return cairn_meta_read(json->meta, &out->meta, err);
}

static int plan_features(struct cairn_row_plan *plan, const struct cairn_projection *projection,
                         struct cairn_arena *arena, struct cairn_error *err)
{
    struct cairn_plan_feature *features =
        cairn_arena_alloc(arena, projection->features_count * sizeof *features + 1);
    for (uint32_t i = 0; i < projection->features_count; i++) {
        struct cairn_str name = projection->features[i];
        const struct cairn_feature_def *def = cairn_schema_feature(plan->schema, name);
        if (def == NULL && plan->schema->strict) {
            struct cairn_str shown = cairn_shown(name);
            return cairn_fail(err, CAIRN_EUNKNOWN_FEATURE,
                              "features[%u]: the collection has no feature \"%.*s\"", i,
                              CAIRN_STR_ARG(shown));
        }
        features[i] = def != NULL ? (struct cairn_plan_feature){name, def->stored_name, def->ttl_us}
                                  : (struct cairn_plan_feature){name, name, 0};
    }
    plan->features = features;
    plan->features_count = projection->features_count;
    return 0;
}

static int plan_vectors(struct cairn_row_plan *plan, const struct cairn_projection *projection,
                        struct cairn_arena *arena, struct cairn_error *err)
{
    const struct cairn_vector_def **vectors =
        cairn_arena_alloc(arena, projection->vectors_count * sizeof *vectors + 1);
    size_t floats = 0;
    for (uint32_t i = 0; i < projection->vectors_count; i++) {
        vectors[i] = cairn_schema_vector(plan->schema, projection->vectors[i]);
        if (vectors[i] == NULL) {
            struct cairn_str shown = cairn_shown(projection->vectors[i]);
            return cairn_fail(err, CAIRN_ENOVECTOR,
                              "vectors[%u]: the collection has no vector \"%.*s\"", i,
                              CAIRN_STR_ARG(shown));
        }
        floats += vectors[i]->dim;
    }
    plan->vectors = vectors;
    plan->vectors_count = projection->vectors_count;
    plan->f32 = floats > 0 ? cairn_arena_alloc(arena, floats * sizeof(float)) : NULL;
    return 0;
}

int cairn_row_plan_init(struct cairn_row_plan *plan, struct cairn_router *router,
                        const struct cairn_schema *schema,
                        const struct cairn_projection *projection, struct cairn_arena *arena,
                        struct cairn_error *err)
{
    *plan = (struct cairn_row_plan){
        .router = router,
        .schema = schema,
        .with_features = projection->all_features || projection->features != NULL,
        .all_features = projection->all_features,
        .meta = projection->meta,
        .now_us = cairn_time_now_us(),
    };
    if (!plan->all_features && plan_features(plan, projection, arena, err) != 0)
        return err->code;
    return projection->vectors_count > 0 ? plan_vectors(plan, projection, arena, err) : 0;
}

enum cairn_cell_status cairn_cell_status(const struct cairn_row_cell *cell, int64_t ttl_us,
                                         int64_t now_us)
{
    if (ttl_us > 0 && now_us - cell->stamp.event_time_us >= ttl_us)
        return CAIRN_CELL_EXPIRED;
    return cell->value.type == CAIRN_TYPE_NULL ? CAIRN_CELL_NULL : CAIRN_CELL_PRESENT;
}

int64_t cairn_cell_client_name(const struct cairn_schema *schema, struct cairn_str stored_name,
                               struct cairn_str *name)
{
    const struct cairn_feature_def *def = cairn_schema_stored_feature(schema, stored_name);
    *name = def != NULL ? def->name : stored_name;
    return def != NULL ? def->ttl_us : 0;
}

static void write_value(struct cairn_str name, const struct cairn_row_cell *cell, int64_t ttl_us,
                        int64_t now_us, struct cairn_json_writer *writer)
{
    if (cairn_cell_status(cell, ttl_us, now_us) == CAIRN_CELL_EXPIRED)
        return;
    cairn_json_write_key(writer, name);
    cairn_value_write(&cell->value, writer);
}

static void write_features(const struct cairn_row_plan *plan, const struct cairn_row_ref *row,
                           struct cairn_json_writer *writer)
{
    struct cairn_row_cell cell;
    uint32_t cells = row->found && plan->all_features ? cairn_row_view_count(&row->view) : 0;
    for (uint32_t i = 0; i < cells; i++) {
        cairn_row_view_cell(&row->view, i, &cell);
        if (cell.value.type == CAIRN_TYPE_VECTOR)
            break; /* features come first */
        struct cairn_str name;
        int64_t ttl_us = cairn_cell_client_name(plan->schema, cell.name, &name);
        write_value(name, &cell, ttl_us, plan->now_us, writer);
    }
    for (uint32_t i = 0; row->found && i < plan->features_count; i++) {
        const struct cairn_plan_feature *feature = &plan->features[i];
        if (cairn_row_view_find(&row->view, false, feature->stored_name, &cell))
            write_value(feature->name, &cell, feature->ttl_us, plan->now_us, writer);
    }
}

static int write_vectors(const struct cairn_row_plan *plan, const struct cairn_row_ref *row,
                         struct cairn_json_writer *writer, struct cairn_error *err)
{
    for (uint32_t i = 0; row->found && i < plan->vectors_count; i++) {
        const struct cairn_vector_def *def = plan->vectors[i];
        struct cairn_row_cell cell;
        if (!cairn_row_view_find(&row->view, true, def->name, &cell) ||
            cell.value.type != CAIRN_TYPE_VECTOR)
            continue;
        int code = cairn_router_row_vector(plan->router, row, def->name, plan->f32, def->dim, err);
        if (code == CAIRN_ENOVECTOR)
            continue;
        if (code != 0)
            return code;
        cairn_json_write_key(writer, def->name);
        cairn_json_begin_array(writer);
        for (uint32_t d = 0; d < def->dim; d++)
            cairn_json_write_f32(writer, plan->f32[d]);
        cairn_json_end_array(writer);
    }
    return 0;
}

void cairn_shard_write(uint32_t shard, struct cairn_json_writer *writer)
{
    char text[16];
    int len = snprintf(text, sizeof text, "s%u", shard);
    cairn_json_write_str(writer, (struct cairn_str){text, (uint32_t)len});
}

/* `cell` is NULL for a missing feature. */
static void write_cell_meta(const struct cairn_row_plan *plan, const struct cairn_row_ref *row,
                            struct cairn_str name, const struct cairn_row_cell *cell,
                            int64_t ttl_us, struct cairn_json_writer *writer)
{
    static const char *const words[] = {[CAIRN_CELL_PRESENT] = "present",
                                        [CAIRN_CELL_NULL] = "null",
                                        [CAIRN_CELL_MISSING] = "missing",
                                        [CAIRN_CELL_EXPIRED] = "expired"};
    enum cairn_cell_status status =
        cell != NULL ? cairn_cell_status(cell, ttl_us, plan->now_us) : CAIRN_CELL_MISSING;
    cairn_json_write_key(writer, name);
    cairn_json_begin_object(writer);
    cairn_json_key(writer, "status");
    cairn_json_write_str(writer, cairn_str_from(words[status]));
    if (cell != NULL) {
        cairn_json_key(writer, "event_time");
        cairn_json_write_time(writer, cell->stamp.event_time_us);
        cairn_json_key(writer, "ingest_time");
        cairn_json_write_time(writer, cell->stamp.ingest_time_us);
    }
    if (cell != NULL && plan->meta == CAIRN_META_FULL) {
        cairn_json_key(writer, "shard");
        cairn_shard_write(row->shard, writer);
        cairn_json_key(writer, "offset");
        cairn_json_write_u64(writer, cell->stamp.offset);
    }
    cairn_json_end_object(writer);
}

static void write_meta(const struct cairn_row_plan *plan, const struct cairn_row_ref *row,
                       struct cairn_json_writer *writer)
{
    struct cairn_row_cell cell;
    for (uint32_t i = 0; i < plan->features_count; i++) {
        const struct cairn_plan_feature *feature = &plan->features[i];
        bool there =
            row->found && cairn_row_view_find(&row->view, false, feature->stored_name, &cell);
        write_cell_meta(plan, row, feature->name, there ? &cell : NULL, feature->ttl_us, writer);
    }
    if (!plan->all_features)
        return;
    for (uint32_t i = 0; i < plan->schema->features_count; i++) {
        const struct cairn_feature_def *def = &plan->schema->features[i];
        bool there = row->found && cairn_row_view_find(&row->view, false, def->stored_name, &cell);
        write_cell_meta(plan, row, def->name, there ? &cell : NULL, def->ttl_us, writer);
    }
    uint32_t cells = row->found ? cairn_row_view_count(&row->view) : 0;
    for (uint32_t i = 0; i < cells; i++) {
        cairn_row_view_cell(&row->view, i, &cell);
        if (cell.value.type == CAIRN_TYPE_VECTOR)
            break;
        if (cairn_schema_stored_feature(plan->schema, cell.name) == NULL)
            write_cell_meta(plan, row, cell.name, &cell, 0, writer);
    }
}

int cairn_answer_check(size_t bytes, struct cairn_error *err)
{
    if (bytes > CAIRN_ANSWER_BYTES_MAX)
        return cairn_fail(err, CAIRN_ETOOLARGE,
                          "the answer would be over %u MiB; ask for fewer entities or features",
                          CAIRN_ANSWER_BYTES_MAX >> 20);
    return 0;
}

int cairn_row_write(const struct cairn_row_plan *plan, const struct cairn_row_ref *row,
                    struct cairn_json_writer *writer, struct cairn_error *err)
{
    int code = 0;
    if (plan->with_features) {
        cairn_json_key(writer, "features");
        cairn_json_begin_object(writer);
        write_features(plan, row, writer);
        cairn_json_end_object(writer);
    }
    if (plan->vectors_count > 0) {
        cairn_json_key(writer, "vectors");
        cairn_json_begin_object(writer);
        code = write_vectors(plan, row, writer, err);
        cairn_json_end_object(writer);
    }
    if (plan->meta != CAIRN_META_NONE) {
        cairn_json_key(writer, "meta");
        cairn_json_begin_object(writer);
        write_meta(plan, row, writer);
        cairn_json_end_object(writer);
    }
    return code != 0 ? code : cairn_answer_check(writer->out->len, err);
}

void cairn_row_visit_found(void *context, uint32_t at, const struct cairn_row_ref *row)
{
    struct cairn_row_writing *writing = context;
    struct cairn_json_writer *writer = writing->writer;
    (void)at;
    if (writing->code != 0)
        return;
    cairn_json_begin_object(writer);
    cairn_json_key(writer, "key");
    cairn_json_write_str(writer, row->key);
    cairn_json_key(writer, "found");
    cairn_json_write_bool(writer, row->found);
    writing->code = cairn_row_write(&writing->plan, row, writer, writing->err);
    cairn_json_end_object(writer);
}

void cairn_provenance_write(const struct cairn_row_ref *row, uint64_t offset,
                            struct cairn_arena *arena, struct cairn_json_writer *writer)
{
    struct cairn_provenance provenance = {0};
    char position[48];
    int len =
        snprintf(position, sizeof position, "s%u:%llu", row->shard, (unsigned long long)offset);
    cairn_row_view_provenance(&row->view, arena, &provenance);
    cairn_json_key(writer, "provenance");
    cairn_json_begin_object(writer);
    cairn_json_key(writer, "position");
    cairn_json_write_str(writer, (struct cairn_str){position, (uint32_t)len});
    if (provenance.source.len > 0) {
        cairn_json_key(writer, "source");
        cairn_json_write_str(writer, provenance.source);
    }
    if (provenance.producer.len > 0) {
        cairn_json_key(writer, "producer");
        cairn_json_write_str(writer, provenance.producer);
    }
    if (provenance.inputs_count > 0) {
        cairn_json_key(writer, "inputs");
        cairn_json_begin_array(writer);
        for (uint32_t i = 0; i < provenance.inputs_count; i++)
            cairn_json_write_str(writer, provenance.inputs[i]);
        cairn_json_end_array(writer);
    }
    cairn_json_end_object(writer);
}
