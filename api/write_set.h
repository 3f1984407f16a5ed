/* The writes of one request or block on their way to the router: entities that were read, checked
 * and encoded, with everything they need kept in an arena. */
#ifndef CAIRN_API_WRITE_SET_H
#define CAIRN_API_WRITE_SET_H

#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "base/record.h"
#include "router/router.h"

struct cairn_write_set {
    struct cairn_router *router;
    const struct cairn_schema *schema; /* a reference of the set's; released by its owner */
    bool may_block;                    /* it is filled on a worker; false unless set */
    bool settled;                      /* routes were read from the rows; false unless set */
    bool has_routes;                   /* the collection holds entities with routes of their own */
    struct cairn_arena *arena;
    struct cairn_router_item *items; /* room for `capacity` */
    struct cairn_write_result *results;
    uint32_t count, capacity;
};

/* What settling a route may need to wait for is refused with CAIRN_ENOTOWNER unless may_block is
 * set, so that the request is read once more on a worker. Takes over the caller's reference of the
 * schema. */
void cairn_write_set_init(struct cairn_write_set *set, struct cairn_router *router,
                          const struct cairn_schema *schema, struct cairn_arena *arena,
                          uint32_t capacity);
/* Check, validate and encode an entity, and add it; copies all of it into the arena. The codes of
 * cairn_entity_check, cairn_entity_validate and cairn_router_settle_route. */
int cairn_write_set_add(struct cairn_write_set *set, const struct cairn_entity *entity,
                        struct cairn_encoder *encoder, struct cairn_error *err);
/* Decode and validate an encoded entity and add it; its bytes, which must outlive the set, are
 * taken as they are unless its route has to be filled in. */
int cairn_write_set_add_encoded(struct cairn_write_set *set, struct cairn_str bytes,
                                struct cairn_encoder *encoder, struct cairn_error *err);

/* The object {"key", "status", "shard", "offset"} of one item. */
void cairn_write_result_write(struct cairn_str key, const struct cairn_write_result *result,
                              struct cairn_json_writer *writer);
/* Say in a failed write's message what became of the items of other shards. */
void cairn_write_explain(const struct cairn_router_write *write, struct cairn_error *err);

#endif
