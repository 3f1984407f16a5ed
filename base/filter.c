/* A filter is a tree of groups over leaves. A leaf holds all conditions on one feature; operands
 * were converted to the feature's type when it was parsed, so that matching only compares. */
#include "base/filter.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"

enum node_kind { NODE_ALL, NODE_ANY, NODE_NONE, NODE_LEAF };

enum op { OP_EQ, OP_NE, OP_IN, OP_GT, OP_GTE, OP_LT, OP_LTE, OP_COUNT };

static const char *const group_words[] = {"all", "any", "none"};
static const char *const op_words[OP_COUNT] = {"eq", "ne", "in", "gt", "gte", "lt", "lte"};

enum presence { PRESENCE_ANY, PRESENCE_ASKED, PRESENCE_REFUSED };

struct condition {
    enum op op;
    uint32_t count;                     /* 1 except for OP_IN */
    const struct cairn_value *operands; /* sorted */
};

struct cairn_filter {
    enum node_kind kind;
    uint32_t count;
    union {
        const struct cairn_filter *children; /* of a group */
        const struct condition *conditions;  /* of a leaf; all must hold */
    } as;
    /* Leaves only. */
    struct cairn_str feature; /* stored name */
    int64_t ttl_us;
    enum presence presence;
};

struct parse {
    const struct cairn_schema *schema;
    struct cairn_arena *arena;
    struct cairn_error *err;
    uint32_t nodes;
    uint32_t depth;
    unsigned path_len;
    char path[256]; /* "filter.all[3].any[0]" */
};

static void push_path(struct parse *parse, const char *word, uint32_t at)
{
    size_t room = sizeof(parse->path) - parse->path_len;
    int len = snprintf(parse->path + parse->path_len, room, ".%s[%u]", word, at);
    if ((size_t)len < room)
        parse->path_len += (unsigned)len;
}

static void pop_path(struct parse *parse, unsigned len)
{
    parse->path_len = len;
    parse->path[len] = '\0';
}

static int refuse(struct parse *parse, const char *member, const char *text)
{
    return cairn_fail(parse->err, CAIRN_EFILTER, "%s%s%s: %s", parse->path, *member ? "." : "",
                      member, text);
}

/* Operands. */

static int order_bytes(const struct cairn_value *a, const struct cairn_value *b)
{
    return cairn_str_cmp((struct cairn_str){(const char *)a->as.bytes, a->len},
                         (struct cairn_str){(const char *)b->as.bytes, b->len});
}

static bool compare(const struct cairn_value *a, const struct cairn_value *b, int *order)
{
    if (a->type != CAIRN_TYPE_BYTES || b->type != CAIRN_TYPE_BYTES)
        return cairn_value_compare(a, b, order);
    *order = order_bytes(a, b);
    return true;
}

/* Numbers are one class; every other type is one of its own. */
static int class_of(const struct cairn_value *value)
{
    return value->type == CAIRN_TYPE_FLOAT64 ? CAIRN_TYPE_INT64 : value->type;
}

/* A total order of operands. */
static int compare_operands(const void *a, const void *b)
{
    int order = class_of(a) - class_of(b);
    if (order == 0)
        compare(a, b, &order);
    return order;
}

static bool number_operand(struct cairn_json json, struct cairn_value *out)
{
    out->type = CAIRN_TYPE_INT64;
    if (cairn_json_i64(json, &out->as.i64))
        return true;
    out->type = CAIRN_TYPE_FLOAT64;
    return cairn_json_f64(json, &out->as.f64);
}

static bool string_operand(struct cairn_json json, struct cairn_arena *arena,
                           struct cairn_value *out)
{
    struct cairn_str text;
    if (!cairn_json_str(json, &text))
        return false;
    text = cairn_arena_dup(arena, text);
    *out = (struct cairn_value){
        .type = CAIRN_TYPE_STRING, .len = text.len, .as.bytes = (const uint8_t *)text.ptr};
    return true;
}

static bool bool_operand(struct cairn_json json, struct cairn_value *out)
{
    out->type = CAIRN_TYPE_BOOL;
    return cairn_json_bool(json, &out->as.boolean);
}

static bool time_operand(struct cairn_json json, struct cairn_value *out)
{
    struct cairn_str text;
    int64_t ms;
    out->type = CAIRN_TYPE_TIMESTAMP;
    if (cairn_json_str(json, &text))
        return cairn_time_parse(text, &out->as.i64, NULL) == 0;
    return cairn_json_i64(json, &ms) && cairn_time_from_ms(ms, &out->as.i64, NULL) == 0;
}

static bool bytes_operand(struct cairn_json json, struct cairn_arena *arena,
                          struct cairn_value *out)
{
    struct cairn_str text;
    if (!cairn_json_str(json, &text))
        return false;
    uint8_t *bytes = cairn_arena_alloc(arena, (size_t)text.len / 4 * 3 + 1);
    int64_t len = cairn_base64_decode(text, bytes);
    if (len < 0)
        return false;
    *out = (struct cairn_value){.type = CAIRN_TYPE_BYTES, .len = (uint32_t)len, .as.bytes = bytes};
    return true;
}

/* `type` is the declared type of the feature, or of its elements; NULL: undeclared. */
static int read_operand(struct parse *parse, const char *word, struct cairn_json json, uint8_t type,
                        struct cairn_value *out)
{
    *out = (struct cairn_value){0};
    switch (type) {
    case CAIRN_TYPE_BOOL:
        return bool_operand(json, out) ? 0 : refuse(parse, word, "must be true or false");
    case CAIRN_TYPE_INT64:
    case CAIRN_TYPE_FLOAT64:
        return number_operand(json, out) ? 0 : refuse(parse, word, "must be a number");
    case CAIRN_TYPE_STRING:
        return string_operand(json, parse->arena, out) ? 0
                                                       : refuse(parse, word, "must be a string");
    case CAIRN_TYPE_TIMESTAMP:
        return time_operand(json, out)
                   ? 0
                   : refuse(parse, word, "must be an RFC 3339 time or integer milliseconds");
    case CAIRN_TYPE_BYTES:
        return bytes_operand(json, parse->arena, out) ? 0 : refuse(parse, word, "must be base64");
    case CAIRN_TYPE_JSON:
        return refuse(parse, word, "a json feature can only be tested with \"exists\"");
    default:
        if (number_operand(json, out) || bool_operand(json, out) ||
            string_operand(json, parse->arena, out))
            return 0;
        return refuse(parse, word, "must be a string, a number, true or false");
    }
}

static int read_in(struct parse *parse, struct cairn_json json, uint8_t type, struct condition *out)
{
    struct cairn_json_iter iter;
    struct cairn_json element;
    size_t count;
    if (!cairn_json_array(json, &iter, &count))
        return refuse(parse, "in", "must be an array");
    if (count > CAIRN_LIST_ITEMS_MAX)
        return cairn_fail(parse->err, CAIRN_EFILTER, "%s.in: %zu items, the most is %u",
                          parse->path, count, CAIRN_LIST_ITEMS_MAX);
    struct cairn_value *operands = cairn_arena_alloc(parse->arena, (count + 1) * sizeof(*operands));
    while (cairn_json_element(&iter, &element)) {
        int code = read_operand(parse, "in", element, type, &operands[out->count++]);
        if (code != 0)
            return code;
    }
    qsort(operands, out->count, sizeof(*operands), compare_operands);
    out->operands = operands;
    return 0;
}

/* Leaves. */

struct leaf {
    struct cairn_filter *out;
    struct condition conditions[OP_COUNT];
    uint8_t type; /* of one element; NULL: undeclared */
    bool is_named;
};

static int read_condition(struct parse *parse, struct leaf *leaf, enum op op,
                          struct cairn_json json)
{
    struct condition *condition = &leaf->conditions[leaf->out->count];
    for (uint32_t i = 0; i < leaf->out->count; i++) {
        if (leaf->conditions[i].op == op)
            return refuse(parse, op_words[op], "given twice");
    }
    leaf->out->count++;
    *condition = (struct condition){.op = op};
    if (op == OP_IN)
        return read_in(parse, json, leaf->type, condition);
    if (op > OP_IN && leaf->type == CAIRN_TYPE_BYTES)
        return refuse(parse, op_words[op], "bytes have no order");
    struct cairn_value *operand = cairn_arena_alloc(parse->arena, sizeof(*operand));
    condition->count = 1;
    condition->operands = operand;
    return read_operand(parse, op_words[op], json, leaf->type, operand);
}

static int read_leaf_member(struct parse *parse, struct leaf *leaf, struct cairn_str key,
                            struct cairn_json json)
{
    bool asked;
    if (cairn_str_eq(key, CAIRN_STR_LITERAL("feature"))) {
        if (leaf->is_named)
            return refuse(parse, "feature", "given twice");
        leaf->is_named = true;
        return 0;
    }
    if (cairn_str_eq(key, CAIRN_STR_LITERAL("exists"))) {
        if (leaf->out->presence != PRESENCE_ANY)
            return refuse(parse, "exists", "given twice");
        if (!cairn_json_bool(json, &asked))
            return refuse(parse, "exists", "must be true or false");
        leaf->out->presence = asked ? PRESENCE_ASKED : PRESENCE_REFUSED;
        return 0;
    }
    for (int op = 0; op < OP_COUNT; op++) {
        if (cairn_str_eq(key, cairn_str_from(op_words[op])))
            return read_condition(parse, leaf, (enum op)op, json);
    }
    return cairn_fail(parse->err, CAIRN_EFILTER,
                      "%s.%.*s: unknown; a leaf has eq ne in gt gte lt lte exists", parse->path,
                      CAIRN_STR_ARG(key));
}

static int resolve_feature(struct parse *parse, struct cairn_json json, struct leaf *leaf)
{
    struct cairn_str name;
    if (!cairn_json_str(json, &name) || name.len == 0 || name.len > CAIRN_NAME_BYTES_MAX)
        return refuse(parse, "feature", "must be the name of a feature");
    const struct cairn_feature_def *def = cairn_schema_feature(parse->schema, name);
    if (!def && parse->schema->strict)
        return cairn_fail(parse->err, CAIRN_EFILTER, "%s.feature: there is no feature %.*s",
                          parse->path, CAIRN_STR_ARG(name));
    leaf->out->feature = cairn_arena_dup(parse->arena, def ? def->stored_name : name);
    leaf->out->ttl_us = def ? def->ttl_us : 0;
    leaf->type = def ? def->type & (uint8_t)~CAIRN_TYPE_LIST : CAIRN_TYPE_NULL;
    return 0;
}

static int read_leaf(struct parse *parse, struct cairn_json json, struct cairn_json feature,
                     struct cairn_filter *out)
{
    struct leaf leaf = {.out = out};
    struct cairn_json_iter iter;
    struct cairn_str key;
    struct cairn_json value;
    out->kind = NODE_LEAF;
    int code = resolve_feature(parse, feature, &leaf);
    cairn_json_object(json, &iter);
    while (code == 0 && cairn_json_member(&iter, &key, &value))
        code = read_leaf_member(parse, &leaf, key, value);
    if (code != 0)
        return code;
    if (out->count == 0 && out->presence == PRESENCE_ANY)
        return refuse(parse, "", "a leaf needs one of eq ne in gt gte lt lte exists");
    struct condition *conditions =
        cairn_arena_alloc(parse->arena, (out->count + 1) * sizeof(*conditions));
    memcpy(conditions, leaf.conditions, out->count * sizeof(*conditions));
    out->as.conditions = conditions;
    return 0;
}

/* Groups. */

static int read_node(struct parse *parse, struct cairn_json json, struct cairn_filter *out);

static int read_group(struct parse *parse, enum node_kind kind, struct cairn_json json,
                      struct cairn_filter *out)
{
    struct cairn_json_iter iter;
    struct cairn_json element;
    size_t count;
    const char *word = group_words[kind];
    if (!cairn_json_array(json, &iter, &count))
        return refuse(parse, word, "must be an array of filters");
    if (count > CAIRN_FILTER_NODES_MAX)
        return cairn_fail(parse->err, CAIRN_EFILTER, "%s.%s: %zu filters, the most in all is %u",
                          parse->path, word, count, CAIRN_FILTER_NODES_MAX);
    struct cairn_filter *children =
        cairn_arena_zalloc(parse->arena, (count + 1) * sizeof(*children));
    *out = (struct cairn_filter){.kind = kind, .as.children = children};
    unsigned path_len = parse->path_len;
    while (cairn_json_element(&iter, &element)) {
        push_path(parse, word, out->count);
        int code = read_node(parse, element, &children[out->count++]);
        if (code != 0)
            return code;
        pop_path(parse, path_len);
    }
    return 0;
}

static int group_kind(struct cairn_str key)
{
    for (int kind = NODE_ALL; kind <= NODE_NONE; kind++) {
        if (cairn_str_eq(key, cairn_str_from(group_words[kind])))
            return kind;
    }
    return -1;
}

/* An object of groups; more than one of them must all hold. */
static int read_groups(struct parse *parse, struct cairn_json json, struct cairn_filter *out)
{
    struct cairn_filter *groups =
        cairn_arena_zalloc(parse->arena, (NODE_NONE + 1) * sizeof(*groups));
    uint32_t count = 0;
    struct cairn_json_iter iter;
    struct cairn_str key;
    struct cairn_json value;
    cairn_json_object(json, &iter);
    while (cairn_json_member(&iter, &key, &value)) {
        int kind = group_kind(key);
        if (kind < 0)
            return cairn_fail(parse->err, CAIRN_EFILTER,
                              "%s.%.*s: unknown; a filter has all, any, none or feature",
                              parse->path, CAIRN_STR_ARG(key));
        for (uint32_t i = 0; i < count; i++) {
            if (groups[i].kind == (enum node_kind)kind)
                return refuse(parse, group_words[kind], "given twice");
        }
        int code = read_group(parse, (enum node_kind)kind, value, &groups[count++]);
        if (code != 0)
            return code;
    }
    if (count == 0)
        return refuse(parse, "", "a filter needs all, any, none or feature");
    *out = count == 1
               ? groups[0]
               : (struct cairn_filter){.kind = NODE_ALL, .count = count, .as.children = groups};
    return 0;
}

static int read_node(struct parse *parse, struct cairn_json json, struct cairn_filter *out)
{
    struct cairn_json feature;
    if (cairn_json_kind(json) != CAIRN_JSON_OBJECT)
        return refuse(parse, "", "a filter must be an object");
    if (++parse->nodes > CAIRN_FILTER_NODES_MAX)
        return cairn_fail(parse->err, CAIRN_EFILTER, "%s: more than %u filters in all", parse->path,
                          CAIRN_FILTER_NODES_MAX);
    if (parse->depth == CAIRN_FILTER_DEPTH_MAX)
        return cairn_fail(parse->err, CAIRN_EFILTER, "%s: nested deeper than %u", parse->path,
                          CAIRN_FILTER_DEPTH_MAX);
    parse->depth++;
    int code = cairn_json_get(json, "feature", &feature) ? read_leaf(parse, json, feature, out)
                                                         : read_groups(parse, json, out);
    parse->depth--;
    return code;
}

int cairn_filter_parse(struct cairn_json json, const struct cairn_schema *schema,
                       struct cairn_arena *arena, const struct cairn_filter **out,
                       struct cairn_error *err)
{
    struct parse parse = {
        .schema = schema, .arena = arena, .err = err, .path = "filter", .path_len = 6};
    struct cairn_filter *filter = cairn_arena_zalloc(arena, sizeof(*filter));
    int code = read_node(&parse, json, filter);
    *out = code == 0 ? filter : NULL;
    return code;
}

/* Matching. */

static bool is_one_of(const struct condition *condition, const struct cairn_value *value)
{
    uint32_t low = 0, high = condition->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = compare_operands(&condition->operands[middle], value);
        if (order == 0)
            return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

static bool condition_holds(const struct condition *condition, const struct cairn_value *value)
{
    int order;
    if (condition->op == OP_IN)
        return is_one_of(condition, value);
    if (!compare(value, condition->operands, &order))
        return condition->op == OP_NE;
    switch (condition->op) {
    case OP_EQ:
        return order == 0;
    case OP_NE:
        return order != 0;
    case OP_GT:
        return order > 0;
    case OP_GTE:
        return order >= 0;
    case OP_LT:
        return order < 0;
    default:
        return order <= 0;
    }
}

static bool value_matches(const struct cairn_filter *leaf, const struct cairn_value *value)
{
    for (uint32_t i = 0; i < leaf->count; i++) {
        if (!condition_holds(&leaf->as.conditions[i], value))
            return false;
    }
    return true;
}

static bool absent_matches(const struct cairn_filter *leaf)
{
    for (uint32_t i = 0; i < leaf->count; i++) {
        if (leaf->as.conditions[i].op != OP_NE)
            return false;
    }
    return leaf->presence != PRESENCE_ASKED;
}

static bool leaf_matches(const struct cairn_filter *leaf, const struct cairn_row_view *row,
                         int64_t now_us)
{
    struct cairn_row_cell cell;
    if (!cairn_row_view_find(row, false, leaf->feature, &cell) ||
        cell.value.type == CAIRN_TYPE_NULL ||
        cairn_ttl_expired(leaf->ttl_us, cell.stamp.event_time_us, now_us))
        return absent_matches(leaf);
    if (leaf->presence == PRESENCE_REFUSED)
        return false;
    if (leaf->count == 0)
        return true;
    if (!(cell.value.type & CAIRN_TYPE_LIST))
        return value_matches(leaf, &cell.value);
    struct cairn_value element;
    for (uint32_t at = 0; cairn_list_next(&cell.value, &at, &element);) {
        if (value_matches(leaf, &element))
            return true;
    }
    return false;
}

bool cairn_filter_match(const struct cairn_filter *filter, const struct cairn_row_view *row,
                        int64_t now_us)
{
    if (filter->kind == NODE_LEAF)
        return leaf_matches(filter, row, now_us);
    for (uint32_t i = 0; i < filter->count; i++) {
        bool matches = cairn_filter_match(&filter->as.children[i], row, now_us);
        if (matches == (filter->kind != NODE_ALL))
            return filter->kind == NODE_ANY;
    }
    return filter->kind != NODE_ANY;
}
