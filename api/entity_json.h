/* An entity of a request's JSON into the plain struct that is validated and encoded. */
#ifndef CAIRN_API_ENTITY_JSON_H
#define CAIRN_API_ENTITY_JSON_H

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "base/record.h"
#include "base/schema.h"

/* Read one entity. Declared features are read as the type the schema gives them, others as the type
 * they arrive in. Limits are cairn_entity_check's to say, and whether the entity fits the schema
 * otherwise cairn_entity_validate's.
 * Everything in *out points into the document or the arena, or is the schema's.
 *   CAIRN_EFIELD, CAIRN_ETYPE, CAIRN_EKEY, CAIRN_ETIME, CAIRN_ENUMBER, CAIRN_EDIMENSION, naming the
 *   field */
int cairn_entity_read(struct cairn_json json, const struct cairn_schema *schema,
                      enum cairn_entity_op op, struct cairn_arena *arena, struct cairn_entity *out,
                      struct cairn_error *err);

#endif
