/* The catalog of collections. Each shard's log carries every schema change; the newest version of a
 * name wins. A change that reached some shards only is brought to the others by home's watch
 * thread. Shards elsewhere are asked for theirs when an answer says that there is news, or when a
 * request names what is not known here. */
#include <stdlib.h>

#include "base/diag.h"
#include "base/hash.h"
#include "router/internal.h"

/* Where `name` is or belongs. */
static uint32_t catalog_search(const struct cairn_router *router, struct cairn_str name,
                               bool *found)
{
    uint32_t low = 0, high = router->schemas_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = cairn_str_cmp(router->schemas[middle]->name, name);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *found = false;
    return low;
}

const struct cairn_schema *cairn_router_schema(struct cairn_router *router, struct cairn_str name)
{
    bool found;
    pthread_rwlock_rdlock(&router->catalog_lock);
    uint32_t at = catalog_search(router, name, &found);
    const struct cairn_schema *schema =
        found && !router->schemas[at]->dropped ? cairn_schema_ref(router->schemas[at]) : NULL;
    pthread_rwlock_unlock(&router->catalog_lock);
    return schema;
}

/* References of all schemas, those of dropped collections too; the caller frees the array. */
static const struct cairn_schema **catalog_copy(struct cairn_router *router, uint32_t *count)
{
    pthread_rwlock_rdlock(&router->catalog_lock);
    *count = router->schemas_count;
    const struct cairn_schema **schemas = cairn_malloc((*count + 1) * sizeof(*schemas));
    for (uint32_t i = 0; i < *count; i++)
        schemas[i] = cairn_schema_ref(router->schemas[i]);
    pthread_rwlock_unlock(&router->catalog_lock);
    return schemas;
}

void cairn_router_each_schema(struct cairn_router *router,
                              void (*each)(void *arg, const struct cairn_schema *schema), void *arg)
{
    uint32_t count;
    const struct cairn_schema **schemas = catalog_copy(router, &count);
    for (uint32_t i = 0; i < count; i++) {
        if (!schemas[i]->dropped)
            each(arg, schemas[i]);
        cairn_schema_unref(schemas[i]);
    }
    free(schemas);
}

void router_catalog_take(struct cairn_router *router, const struct cairn_schema *schema)
{
    bool found;
    const struct cairn_schema *unneeded = NULL;
    pthread_rwlock_wrlock(&router->catalog_lock);
    if (schema->id > router->last_id)
        router->last_id = schema->id;
    uint32_t at = catalog_search(router, schema->name, &found);
    if (found) {
        bool newer = schema->version > router->schemas[at]->version;
        unneeded = newer ? router->schemas[at] : schema;
        if (newer)
            router->schemas[at] = schema;
    } else {
        router->schemas =
            cairn_realloc(router->schemas, (router->schemas_count + 1) * sizeof *router->schemas);
        memmove(&router->schemas[at + 1], &router->schemas[at],
                (router->schemas_count - at) * sizeof *router->schemas);
        router->schemas[at] = schema;
        router->schemas_count++;
    }
    router_raise(&router->catalog_version, schema->version);
    pthread_rwlock_unlock(&router->catalog_lock);
    cairn_schema_unref(unneeded);
}

void router_catalog_take_text(struct cairn_router *router, struct cairn_str text)
{
    const struct cairn_schema *schema = NULL;
    struct cairn_error err = {0};
    if (cairn_schema_decode(text, &schema, &err) != 0)
        cairn_alarm("router", "a stored schema cannot be read: %s", err.message);
    else
        router_catalog_take(router, schema);
}

/* The shard elsewhere that knows the newest schema; home, if it is up and preferred. */
static struct router_member *teacher(struct cairn_router *router, const struct cairn_map *map,
                                     bool prefer_home)
{
    struct router_member *best = NULL;
    for (uint32_t i = 0; i < map->shards_count; i++) {
        struct router_member *member = router_member(router, map->shards[i].id);
        if (member->local != NULL || router_member_down(member))
            continue;
        if (prefer_home && member->id == map->home)
            return member;
        if (best == NULL ||
            atomic_load(&member->catalog_version) > atomic_load(&best->catalog_version))
            best = member;
    }
    return best;
}

static int learn_schemas(struct cairn_router *router, const struct router_member *member,
                         uint64_t deadline_us, struct cairn_error *err)
{
    struct cairn_arena arena = {0};
    struct cairn_shard_request request = {0};
    struct cairn_shard_answer answer;
    int code = router_call(router, member->id, CAIRN_SHARD_SCHEMAS, &request, &arena, &answer,
                           deadline_us);
    for (uint32_t i = 0; i < answer.texts_count && code == 0; i++)
        router_catalog_take_text(router, answer.texts[i]);
    if (code == 0)
        router_raise(&router->catalog_version, answer.catalog_version);
    else if (err != NULL)
        *err = answer.error;
    cairn_arena_release(&arena);
    return code;
}

int router_catalog_refresh(struct cairn_router *router, uint64_t deadline_us,
                           struct cairn_error *err)
{
    const struct cairn_map *map;
    uint64_t begun_us = cairn_time_monotonic_us();
    int code = router_map_need(router, &map, err);
    if (code != 0)
        return code;
    struct router_member *first = teacher(router, map, true);
    if (first != NULL)
        code = learn_schemas(router, first, deadline_us, err);
    /* A change that reached some shards only may not have reached home. */
    struct router_member *newest = teacher(router, map, false);
    if (code == 0 && newest != NULL && newest != first &&
        atomic_load(&newest->catalog_version) > atomic_load(&router->catalog_version))
        code = learn_schemas(router, newest, deadline_us, err);
    cairn_map_unref(map);
    if (code == 0 && first != NULL)
        router_raise(&router->catalog_refreshed_us, begun_us);
    return code;
}

bool cairn_router_schema_refresh(struct cairn_router *router, uint64_t since_us,
                                 uint64_t deadline_us)
{
    if (!cairn_router_may_block(router) || atomic_load(&router->catalog_refreshed_us) >= since_us)
        return false;
    return router_catalog_refresh(router, deadline_us, NULL) == 0;
}

uint64_t router_catalog_newest(struct cairn_router *router)
{
    uint64_t newest = 0;
    pthread_rwlock_rdlock(&router->catalog_lock);
    for (uint32_t i = 0; i < router->schemas_count; i++)
        if (router->schemas[i]->version > newest)
            newest = router->schemas[i]->version;
    pthread_rwlock_unlock(&router->catalog_lock);
    return newest;
}

/* The version of a name among schema texts; 0: it is not there. */
static uint64_t version_in(const struct cairn_str *texts, uint32_t count, struct cairn_str name)
{
    uint64_t version = 0;
    for (uint32_t i = 0; i < count && version == 0; i++) {
        const struct cairn_schema *schema = NULL;
        if (cairn_schema_decode(texts[i], &schema, NULL) != 0)
            continue;
        if (cairn_str_eq(schema->name, name))
            version = schema->version;
        cairn_schema_unref(schema);
    }
    return version;
}

int router_catalog_complete(struct cairn_router *router, uint32_t shard, uint64_t deadline_us,
                            struct cairn_error *err)
{
    struct cairn_arena arena = {0};
    struct cairn_shard_request request = {0};
    struct cairn_shard_answer answer;
    uint32_t count, written;
    int code =
        router_call(router, shard, CAIRN_SHARD_SCHEMAS, &request, &arena, &answer, deadline_us);
    if (code != 0 && err != NULL)
        *err = answer.error;
    const struct cairn_schema **schemas = catalog_copy(router, &count);
    for (uint32_t i = 0; i < count; i++) {
        if (code == 0 &&
            version_in(answer.texts, answer.texts_count, schemas[i]->name) < schemas[i]->version)
            code = router_schema_write(router, schemas[i], &shard, 1, &written, NULL, deadline_us,
                                       err);
        cairn_schema_unref(schemas[i]);
    }
    free(schemas);
    cairn_arena_release(&arena);
    return code;
}

/* The newest schema of every name over the shards of this process. */
struct catalog_merge {
    const struct cairn_schema **newest;
    uint32_t count;
};

static int merge_one(void *argument, struct cairn_str text)
{
    struct catalog_merge *merge = argument;
    const struct cairn_schema *schema = NULL;
    struct cairn_error err = {0};
    if (cairn_schema_decode(text, &schema, &err) != 0) {
        cairn_alarm("router", "a stored schema cannot be read: %s", err.message);
        return 0;
    }
    for (uint32_t i = 0; i < merge->count; i++)
        if (cairn_str_eq(merge->newest[i]->name, schema->name)) {
            bool newer = schema->version > merge->newest[i]->version;
            cairn_schema_unref(newer ? merge->newest[i] : schema);
            if (newer)
                merge->newest[i] = schema;
            return 0;
        }
    merge->newest = cairn_realloc(merge->newest, (merge->count + 1) * sizeof *merge->newest);
    merge->newest[merge->count++] = schema;
    return 0;
}

struct version_lookup {
    struct cairn_str name;
    uint64_t version;
};

static int lookup_version(void *argument, struct cairn_str text)
{
    struct version_lookup *lookup = argument;
    const struct cairn_schema *schema = NULL;
    if (cairn_schema_decode(text, &schema, NULL) != 0)
        return 0;
    if (cairn_str_eq(schema->name, lookup->name))
        lookup->version = schema->version;
    cairn_schema_unref(schema);
    return 0;
}

/* Write `schema` to the shards here that have an older version or none. */
static void complete_locals(struct cairn_router *router, const struct cairn_schema *schema)
{
    uint32_t lacking[CAIRN_SHARDS_MAX], count = 0, written;
    struct cairn_error err = {0};
    for (uint32_t i = 0; i < router->locals_count; i++) {
        struct version_lookup lookup = {.name = schema->name};
        (void)cairn_shard_each_schema(router_local(router, router->locals[i]), lookup_version,
                                      &lookup, NULL);
        if (lookup.version < schema->version)
            lacking[count++] = router->locals[i];
    }
    if (count > 0 && router_schema_write(router, schema, lacking, count, &written, NULL,
                                         cairn_time_monotonic_us() + ROUTER_CALL_US, &err) != 0)
        cairn_warn("router", "collection %.*s: a shard lacks its newest schema: %s",
                   CAIRN_STR_ARG(schema->name), err.message);
}

int router_catalog_open(struct cairn_router *router, struct cairn_error *err)
{
    struct catalog_merge merge = {0};
    int code = 0;
    for (uint32_t i = 0; code == 0 && i < router->locals_count; i++)
        code = cairn_shard_each_schema(router_local(router, router->locals[i]), merge_one, &merge,
                                       err);
    for (uint32_t i = 0; i < merge.count; i++) {
        if (code == 0) {
            complete_locals(router, merge.newest[i]);
            router_catalog_take(router, merge.newest[i]);
        } else {
            cairn_schema_unref(merge.newest[i]);
        }
    }
    free(merge.newest);
    return code;
}

void router_catalog_close(struct cairn_router *router)
{
    for (uint32_t i = 0; i < router->schemas_count; i++)
        cairn_schema_unref(router->schemas[i]);
    free(router->schemas);
}
