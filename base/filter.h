/* The filter language: `all any none` over leaves `eq ne in gt gte lt lte exists`.
 *
 * A filter is immutable after parsing and may be used by any number of threads. */
#ifndef CAIRN_BASE_FILTER_H
#define CAIRN_BASE_FILTER_H

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "base/record.h"
#include "base/schema.h"

struct cairn_filter;

/* Parse and resolve names against the schema (undeclared features are allowed unless it is strict).
 * Lives in the arena. A leaf whose operand does not fit the feature's declared type, an unknown
 * word, or a bound of base/limits.h exceeded is CAIRN_EFILTER, naming the path in the filter. */
int cairn_filter_parse(struct cairn_json json, const struct cairn_schema *schema,
                       struct cairn_arena *arena, const struct cairn_filter **out,
                       struct cairn_error *err);

/* A missing, null or expired feature matches only `exists: false` and `ne`. A list feature matches
 * a leaf if one of its elements does. now_us judges TTLs. */
bool cairn_filter_match(const struct cairn_filter *filter, const struct cairn_row_view *row,
                        int64_t now_us);

#endif
