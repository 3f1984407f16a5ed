/* The table of routes. What is on a loop neither waits nor scans; a change of a schema, a search, a
 * scan and a deletion run on a worker. */
#include "api/handlers.h"

const struct cairn_route cairn_routes[] = {
    {"GET", "/v1/collections", "collections_list", CAIRN_ROLE_READ, CAIRN_ON_WORKER,
     cairn_handle_collections_list, NULL, NULL},
    {"PUT", "/v1/collections/{}", "collection_put", CAIRN_ROLE_ADMIN, CAIRN_ON_WORKER,
     cairn_handle_collection_put, NULL, NULL},
    {"GET", "/v1/collections/{}", "collection_get", CAIRN_ROLE_READ, CAIRN_ON_WORKER,
     cairn_handle_collection_get, NULL, NULL},
    {"DELETE", "/v1/collections/{}", "collection_delete", CAIRN_ROLE_ADMIN, CAIRN_ON_WORKER,
     cairn_handle_collection_delete, NULL, NULL},
    {"GET", "/v1/collections/{}/indexes", "indexes_list", CAIRN_ROLE_READ, CAIRN_ON_WORKER,
     cairn_handle_indexes_list, NULL, NULL},

    {"POST", "/v1/collections/{}/entities", "entities_upsert", CAIRN_ROLE_WRITE, CAIRN_ON_LOOP,
     cairn_handle_upsert, cairn_handle_upsert_stream_begin, cairn_handle_upsert_stream_block},
    {"GET", "/v1/collections/{}/entities", "entities_list", CAIRN_ROLE_READ, CAIRN_ON_WORKER,
     cairn_handle_entities_list, NULL, NULL},
    {"POST", "/v1/collections/{}/entities:get", "entities_get", CAIRN_ROLE_READ, CAIRN_ON_LOOP,
     cairn_handle_entities_get, NULL, NULL},
    {"POST", "/v1/collections/{}/entities:delete", "entities_delete", CAIRN_ROLE_WRITE,
     CAIRN_ON_WORKER, cairn_handle_entities_delete, NULL, NULL},
    {"POST", "/v1/collections/{}/entities:scroll", "entities_scroll", CAIRN_ROLE_READ,
     CAIRN_ON_WORKER, cairn_handle_entities_scroll, NULL, NULL},
    {"POST", "/v1/collections/{}/entities:count", "entities_count", CAIRN_ROLE_READ,
     CAIRN_ON_WORKER, cairn_handle_entities_count, NULL, NULL},
    {"GET", "/v1/collections/{}/entities/{}", "entity_get", CAIRN_ROLE_READ, CAIRN_ON_LOOP,
     cairn_handle_entity_get, NULL, NULL},
    {"DELETE", "/v1/collections/{}/entities/{}", "entity_delete", CAIRN_ROLE_WRITE, CAIRN_ON_LOOP,
     cairn_handle_entity_delete, NULL, NULL},

    {"POST", "/v1/collections/{}/search", "search", CAIRN_ROLE_READ, CAIRN_ON_WORKER,
     cairn_handle_search, NULL, NULL},
    {"POST", "/v1/features:get", "features_get", CAIRN_ROLE_READ, CAIRN_ON_LOOP,
     cairn_handle_features_get, NULL, NULL},

    {"GET", "/v1/cluster", "cluster", CAIRN_ROLE_READ, CAIRN_ON_WORKER, cairn_handle_cluster, NULL,
     NULL},
    {"GET", "/healthz", "healthz", CAIRN_ROLE_NONE, CAIRN_ON_LOOP, cairn_handle_healthz, NULL,
     NULL},
    {"GET", "/readyz", "readyz", CAIRN_ROLE_NONE, CAIRN_ON_LOOP, cairn_handle_readyz, NULL, NULL},
    {"GET", "/metrics", "metrics", CAIRN_ROLE_READ, CAIRN_ON_WORKER, cairn_handle_metrics, NULL,
     NULL},
    {"GET", "/openapi.json", "openapi", CAIRN_ROLE_NONE, CAIRN_ON_LOOP, cairn_handle_openapi, NULL,
     NULL},
};
const unsigned cairn_routes_count = sizeof cairn_routes / sizeof cairn_routes[0];
