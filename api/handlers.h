/* What the handlers share, and the handlers themselves; routes.c has the table.
 *
 * A handler parses into plain structs, calls the router and writes the answer. What runs on a loop
 * never blocks: a handler whose body is large goes on on a worker. */
#ifndef CAIRN_API_HANDLERS_H
#define CAIRN_API_HANDLERS_H

#include "api/exchange.h"
#include "base/limits.h"
#include "base/schema.h"

/* The schema of the collection in the path, a reference of the caller's; NULL and
 * CAIRN_ENOCOLLECTION when there is none. */
const struct cairn_schema *cairn_handler_schema(struct cairn_exchange *exchange,
                                                struct cairn_error *err);
/* The same for a name from a body. */
const struct cairn_schema *cairn_handler_schema_named(struct cairn_router *router,
                                                      struct cairn_str name,
                                                      struct cairn_error *err);
/* Refuse query parameters of any name. */
int cairn_handler_no_params(struct cairn_exchange *exchange, struct cairn_error *err);
/* A query parameter that is an integer in [min, max]; *out stays when it is not given. */
int cairn_handler_u32_param(struct cairn_exchange *exchange, const char *name, uint32_t min,
                            uint32_t max, uint32_t *out, struct cairn_error *err);
/* Whether to answer in FlatBuffers. */
bool cairn_handler_wants_flatbuffers(const struct cairn_exchange *exchange);
/* Make a FlatBuffer (copied) the answer's body. */
void cairn_handler_set_flatbuffers(struct cairn_exchange *exchange, struct cairn_str bytes);
/* Run a handler that reads by key here, or, when the body may name many keys, on a worker. */
void cairn_handler_run_reads(struct cairn_exchange *exchange,
                             void (*run)(struct cairn_exchange *exchange));
/* A member of the object that is open. */
void cairn_member_u64(const char *name, uint64_t value, struct cairn_json_writer *writer);
/* Drop what was written so far and answer with the error. */
void cairn_handler_fail(struct cairn_exchange *exchange, const struct cairn_error *err);

/* handlers_collections.c */
void cairn_handle_collections_list(struct cairn_exchange *exchange);
void cairn_handle_collection_put(struct cairn_exchange *exchange);
void cairn_handle_collection_get(struct cairn_exchange *exchange);
void cairn_handle_collection_delete(struct cairn_exchange *exchange);
void cairn_handle_indexes_list(struct cairn_exchange *exchange);
/* handlers_upsert.c */
void cairn_handle_upsert(struct cairn_exchange *exchange);
/* handlers_stream.c */
int cairn_handle_upsert_stream_begin(struct cairn_exchange *exchange, struct cairn_error *err);
void cairn_handle_upsert_stream_block(struct cairn_block *block);
/* handlers_delete.c */
void cairn_handle_entities_delete(struct cairn_exchange *exchange);
void cairn_handle_entity_delete(struct cairn_exchange *exchange);
/* handlers_read.c */
void cairn_handle_entities_get(struct cairn_exchange *exchange);
void cairn_handle_entity_get(struct cairn_exchange *exchange);
/* handlers_features.c */
void cairn_handle_features_get(struct cairn_exchange *exchange);
/* handlers_scroll.c */
void cairn_handle_entities_list(struct cairn_exchange *exchange);
void cairn_handle_entities_scroll(struct cairn_exchange *exchange);
void cairn_handle_entities_count(struct cairn_exchange *exchange);
/* handlers_search.c */
void cairn_handle_search(struct cairn_exchange *exchange);
/* handlers_cluster.c */
void cairn_handle_cluster(struct cairn_exchange *exchange);
/* handlers_jobs.c */
void cairn_handle_shard_add(struct cairn_exchange *exchange);
void cairn_handle_shard_remove(struct cairn_exchange *exchange);
void cairn_handle_shards_set(struct cairn_exchange *exchange);
void cairn_handle_rebalance_get(struct cairn_exchange *exchange);
void cairn_handle_rebalance_abort(struct cairn_exchange *exchange);
void cairn_handle_rebalance_resume(struct cairn_exchange *exchange);
void cairn_handle_jobs_list(struct cairn_exchange *exchange);
void cairn_handle_job_get(struct cairn_exchange *exchange);
void cairn_handle_job_cancel(struct cairn_exchange *exchange);
/* handlers_shard.c */
void cairn_handle_shard_call(struct cairn_exchange *exchange);
/* handlers_service.c */
void cairn_handle_healthz(struct cairn_exchange *exchange);
void cairn_handle_readyz(struct cairn_exchange *exchange);
void cairn_handle_metrics(struct cairn_exchange *exchange);
void cairn_handle_openapi(struct cairn_exchange *exchange);

#endif
