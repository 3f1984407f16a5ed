/* The catalog of collections. Each shard's log carries every schema change; the newest version of a
 * name wins. A change that a crash left on some shards only is completed at the next start. */
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
    const struct cairn_schema *schema = found ? cairn_schema_ref(router->schemas[at]) : NULL;
    pthread_rwlock_unlock(&router->catalog_lock);
    return schema;
}

void cairn_router_each_schema(struct cairn_router *router,
                              void (*each)(void *arg, const struct cairn_schema *schema), void *arg)
{
    pthread_rwlock_rdlock(&router->catalog_lock);
    uint32_t count = router->schemas_count;
    const struct cairn_schema **schemas = cairn_malloc((count + 1) * sizeof *schemas);
    for (uint32_t i = 0; i < count; i++)
        schemas[i] = cairn_schema_ref(router->schemas[i]);
    pthread_rwlock_unlock(&router->catalog_lock);
    for (uint32_t i = 0; i < count; i++) {
        each(arg, schemas[i]);
        cairn_schema_unref(schemas[i]);
    }
    free(schemas);
}

/* Make `schema` (a reference that is taken over) the current one of its name, or remove a dropped
 * one. */
static void catalog_set(struct cairn_router *router, const struct cairn_schema *schema)
{
    bool found;
    const struct cairn_schema *old = NULL;
    pthread_rwlock_wrlock(&router->catalog_lock);
    uint32_t at = catalog_search(router, schema->name, &found);
    if (found)
        old = router->schemas[at];
    if (schema->dropped) {
        if (found) {
            router->schemas_count--;
            memmove(&router->schemas[at], &router->schemas[at + 1],
                    (router->schemas_count - at) * sizeof *router->schemas);
        }
    } else if (found) {
        router->schemas[at] = schema;
    } else {
        router->schemas =
            cairn_realloc(router->schemas, (router->schemas_count + 1) * sizeof *router->schemas);
        memmove(&router->schemas[at + 1], &router->schemas[at],
                (router->schemas_count - at) * sizeof *router->schemas);
        router->schemas[at] = schema;
        router->schemas_count++;
    }
    pthread_rwlock_unlock(&router->catalog_lock);
    if (schema->dropped)
        cairn_schema_unref(schema);
    cairn_schema_unref(old);
}

struct schema_write {
    struct cairn_shard_write write;
    struct cairn_shard_item item;
    struct cairn_write_result result;
    bool submitted;
};

struct schema_wait {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t pending;
};

static void schema_written(struct cairn_shard_write *write)
{
    struct schema_wait *wait = write->context;
    pthread_mutex_lock(&wait->lock);
    wait->pending--;
    pthread_cond_signal(&wait->changed);
    pthread_mutex_unlock(&wait->lock);
}

static void submit_schema(struct cairn_router *router, uint32_t shard,
                          const struct cairn_schema *schema, struct cairn_str text,
                          struct schema_wait *wait, struct schema_write *one)
{
    one->item = (struct cairn_shard_item){.kind = CAIRN_RECORD_SCHEMA,
                                          .collection = schema->id,
                                          .token = cairn_token(schema->name, schema->name),
                                          .payload = text,
                                          .if_offset = CAIRN_OFFSET_NONE};
    one->write = (struct cairn_shard_write){.items = &one->item,
                                            .count = 1,
                                            .results = &one->result,
                                            .done = schema_written,
                                            .context = wait};
    pthread_mutex_lock(&wait->lock);
    wait->pending++;
    pthread_mutex_unlock(&wait->lock);
    one->submitted = cairn_shard_submit(router->shards[shard], &one->write) == 0;
    if (!one->submitted)
        schema_written(&one->write);
}

/* Append the schema to the logs of the shards whose bit in `lacking` is set (NULL: all), and wait.
 * *written counts the shards that have it now, on failure too. */
static int write_schema(struct cairn_router *router, const struct cairn_schema *schema,
                        const bool *lacking, uint32_t *written, struct cairn_contract *contract,
                        struct cairn_error *err)
{
    struct cairn_buf text = {0};
    struct schema_wait wait = {.pending = 0};
    struct schema_write *writes = cairn_calloc(router->shards_count, sizeof *writes);
    pthread_mutex_init(&wait.lock, NULL);
    pthread_cond_init(&wait.changed, NULL);
    cairn_schema_encode(schema, &text);
    for (uint32_t i = 0; i < router->shards_count; i++)
        if (lacking == NULL || lacking[i])
            submit_schema(router, i, schema, (struct cairn_str){text.data, (uint32_t)text.len},
                          &wait, &writes[i]);
    pthread_mutex_lock(&wait.lock);
    while (wait.pending > 0)
        pthread_cond_wait(&wait.changed, &wait.lock);
    pthread_mutex_unlock(&wait.lock);

    int code = 0;
    *written = 0;
    for (uint32_t i = 0; i < router->shards_count; i++) {
        *written += writes[i].submitted && writes[i].write.error.code == 0;
        if (writes[i].write.error.code != 0 && code == 0) {
            code = writes[i].write.error.code;
            if (err != NULL)
                *err = writes[i].write.error;
        }
        if (contract != NULL)
            router_touch(router, contract, i);
    }
    pthread_cond_destroy(&wait.changed);
    pthread_mutex_destroy(&wait.lock);
    cairn_buf_release(&text);
    free(writes);
    return code;
}

static int put_new(struct cairn_router *router, const struct cairn_schema *asked,
                   const struct cairn_schema **out, struct cairn_contract *contract,
                   struct cairn_error *err)
{
    if (router->schemas_count >= CAIRN_COLLECTIONS_MAX)
        return cairn_fail(err, CAIRN_ECONFLICT,
                          "there are %u collections already, which is the limit",
                          CAIRN_COLLECTIONS_MAX);
    *out = cairn_schema_with_identity(asked, ++router->last_id, ++router->last_version,
                                      router->io->now_us(router->io->context), false);
    uint32_t written;
    return write_schema(router, *out, NULL, &written, contract, err);
}

static int put_change(struct cairn_router *router, const struct cairn_schema *current,
                      const struct cairn_schema *asked, const struct cairn_schema **out,
                      struct cairn_contract *contract, struct cairn_error *err)
{
    bool changed;
    const struct cairn_schema *evolved = NULL;
    int code = cairn_schema_evolve(current, asked, &evolved, &changed, err);
    if (code != 0)
        return code;
    if (!changed) {
        *out = evolved;
        for (uint32_t i = 0; i < router->shards_count; i++)
            router_touch(router, contract, i);
        return 0;
    }
    *out = cairn_schema_with_identity(evolved, current->id, ++router->last_version,
                                      current->created_us, false);
    cairn_schema_unref(evolved);
    uint32_t written;
    return write_schema(router, *out, NULL, &written, contract, err);
}

int cairn_router_collection_put(struct cairn_router *router, const struct cairn_schema *asked,
                                const struct cairn_schema **out, bool *created,
                                struct cairn_contract *contract, struct cairn_error *err)
{
    *out = NULL;
    pthread_mutex_lock(&router->change_lock);
    const struct cairn_schema *current = cairn_router_schema(router, asked->name);
    *created = current == NULL;
    int code = current == NULL ? put_new(router, asked, out, contract, err)
                               : put_change(router, current, asked, out, contract, err);
    if (code == 0 && *out != current)
        catalog_set(router, cairn_schema_ref(*out));
    cairn_schema_unref(current);
    if (code != 0 && *out != NULL) {
        cairn_schema_unref(*out);
        *out = NULL;
    }
    pthread_mutex_unlock(&router->change_lock);
    return code;
}

/* What one shard has dropped cannot be had back, so the collection is gone from then on; a shard
 * that refused follows at the next start. */
int cairn_router_collection_drop(struct cairn_router *router, struct cairn_str name,
                                 struct cairn_contract *contract, struct cairn_error *err)
{
    pthread_mutex_lock(&router->change_lock);
    int code = 0;
    const struct cairn_schema *current = cairn_router_schema(router, name);
    if (current == NULL) {
        code = cairn_fail(err, CAIRN_ENOCOLLECTION, "there is no collection %.*s",
                          CAIRN_STR_ARG(name));
    } else {
        const struct cairn_schema *dropped = cairn_schema_with_identity(
            current, current->id, ++router->last_version, current->created_us, true);
        uint32_t written;
        code = write_schema(router, dropped, NULL, &written, contract, err);
        if (code != 0 && written > 0)
            cairn_error_prefix(err, "the collection is dropped, on %u of %u shards so far", written,
                               router->shards_count);
        if (written > 0)
            catalog_set(router, dropped);
        else
            cairn_schema_unref(dropped);
        cairn_schema_unref(current);
    }
    pthread_mutex_unlock(&router->change_lock);
    return code;
}

/* The newest schema of every name over all shards, and what each shard has. */
struct catalog_merge {
    struct cairn_router *router;
    const struct cairn_schema **newest;
    uint32_t count;
};

static int merge_one(void *argument, struct cairn_str text)
{
    struct catalog_merge *merge = argument;
    const struct cairn_schema *schema = NULL;
    struct cairn_error err = {0};
    int code = cairn_schema_decode(text, &schema, &err);
    if (code != 0) {
        cairn_alarm("router", "a stored schema cannot be read: %s", err.message);
        return 0;
    }
    if (schema->version > merge->router->last_version)
        merge->router->last_version = schema->version;
    if (schema->id > merge->router->last_id)
        merge->router->last_id = schema->id;
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

/* Write `schema` to the shards that have an older version or none. */
static void complete(struct cairn_router *router, const struct cairn_schema *schema)
{
    bool lacking[CAIRN_SHARDS_MAX] = {false};
    bool any = false;
    for (uint32_t i = 0; i < router->shards_count; i++) {
        struct version_lookup lookup = {.name = schema->name};
        (void)cairn_shard_each_schema(router->shards[i], lookup_version, &lookup, NULL);
        lacking[i] = lookup.version < schema->version;
        any = any || lacking[i];
    }
    struct cairn_error err = {0};
    uint32_t written;
    if (any && write_schema(router, schema, lacking, &written, NULL, &err) != 0)
        cairn_warn("router", "collection %.*s: a shard lacks its newest schema: %s",
                   CAIRN_STR_ARG(schema->name), err.message);
}

int router_catalog_open(struct cairn_router *router, struct cairn_error *err)
{
    struct catalog_merge merge = {.router = router};
    int code = 0;
    for (uint32_t i = 0; code == 0 && i < router->shards_count; i++)
        code = cairn_shard_each_schema(router->shards[i], merge_one, &merge, err);
    for (uint32_t i = 0; i < merge.count; i++) {
        if (code == 0) {
            complete(router, merge.newest[i]);
            catalog_set(router, merge.newest[i]);
        } else
            cairn_schema_unref(merge.newest[i]);
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
