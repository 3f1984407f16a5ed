#include "api/row_wire.h"

static void add_cell(const struct cairn_row_plan *plan, const struct cairn_row_cell *cell,
                     struct cairn_str name, int64_t ttl_us, struct cairn_row_cell *features,
                     uint32_t *count)
{
    if (cairn_cell_status(cell, ttl_us, plan->now_us) == CAIRN_CELL_EXPIRED)
        return;
    features[*count] = *cell;
    features[(*count)++].name = name;
}

static void wire_features(const struct cairn_row_plan *plan, const struct cairn_row_ref *row,
                          struct cairn_arena *arena, struct cairn_wire_entity *out)
{
    uint32_t cells = plan->all_features ? cairn_row_view_count(&row->view) : 0;
    uint32_t room = plan->all_features ? cells : plan->features_count;
    struct cairn_row_cell *features = cairn_arena_alloc(arena, room * sizeof *features + 1);
    struct cairn_row_cell cell;
    for (uint32_t i = 0; i < cells; i++) {
        struct cairn_str name;
        cairn_row_view_cell(&row->view, i, &cell);
        if (cell.value.type == CAIRN_TYPE_VECTOR)
            break;
        int64_t ttl_us = cairn_cell_client_name(plan->schema, cell.name, &name);
        add_cell(plan, &cell, name, ttl_us, features, &out->features_count);
    }
    for (uint32_t i = 0; i < plan->features_count; i++) {
        const struct cairn_plan_feature *feature = &plan->features[i];
        if (cairn_row_view_find(&row->view, false, feature->stored_name, &cell))
            add_cell(plan, &cell, feature->name, feature->ttl_us, features, &out->features_count);
    }
    out->features = features;
}

static int wire_vectors(const struct cairn_row_plan *plan, const struct cairn_row_ref *row,
                        struct cairn_arena *arena, struct cairn_wire_entity *out,
                        struct cairn_error *err)
{
    struct cairn_vector *vectors =
        cairn_arena_alloc(arena, plan->vectors_count * sizeof *vectors + 1);
    float *f32 = plan->f32;
    for (uint32_t i = 0; i < plan->vectors_count; i++) {
        const struct cairn_vector_def *def = plan->vectors[i];
        struct cairn_row_cell cell;
        if (!cairn_row_view_find(&row->view, true, def->name, &cell))
            continue;
        int code = cairn_router_row_vector(plan->router, row, def->name, f32, def->dim, err);
        if (code == CAIRN_ENOVECTOR)
            continue;
        if (code != 0)
            return code;
        vectors[out->vectors_count++] = (struct cairn_vector){def->name, f32, def->dim};
        f32 += def->dim;
    }
    out->vectors = vectors;
    return 0;
}

int cairn_row_to_wire(const struct cairn_row_plan *plan, const struct cairn_row_ref *row,
                      struct cairn_arena *arena, struct cairn_wire_entity *out,
                      struct cairn_error *err)
{
    *out = (struct cairn_wire_entity){.key = row->key, .found = row->found};
    if (!row->found)
        return 0;
    wire_features(plan, row, arena, out);
    return plan->vectors_count > 0 ? wire_vectors(plan, row, arena, out, err) : 0;
}
