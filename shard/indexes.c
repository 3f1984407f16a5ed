/* The collections of a shard and the indexes of their vectors: opening, finding, following the
 * writer, saving.
 *
 * A collection object is replaced, never changed, under catalog_lock; an index is shared by
 * reference count, so a search keeps the index it found even while its collection is dropped. */
#include "shard/internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/diag.h"
#include "base/time.h"

#define SAVE_EVERY_LOG_BYTES (256u << 20)

struct shard_collection *shard_collection_find(const struct cairn_shard *shard, uint32_t id)
{
    for (uint32_t i = 0; i < shard->collections_count; i++)
        if (shard->collections[i]->schema->id == id)
            return shard->collections[i];
    return NULL;
}

struct shard_vector *shard_vector_find(struct cairn_shard *shard, uint32_t collection,
                                       struct cairn_str name)
{
    struct shard_vector *found = NULL;
    pthread_rwlock_rdlock(&shard->catalog_lock);
    struct shard_collection *owner = shard_collection_find(shard, collection);
    for (uint32_t i = 0; owner != NULL && i < owner->vectors_count; i++)
        if (cairn_str_eq(owner->vectors[i]->name, name)) {
            found = owner->vectors[i];
            atomic_fetch_add(&found->references, 1);
        }
    pthread_rwlock_unlock(&shard->catalog_lock);
    return found;
}

void shard_vector_release(struct shard_vector *vector)
{
    if (atomic_fetch_sub(&vector->references, 1) != 1)
        return;
    cairn_index_close(&vector->index);
    if (atomic_load(&vector->dropped))
        (void)cairn_io_remove_tree(cairn_io_posix(), vector->dir);
    free((char *)vector->name.ptr);
    free(vector->dir);
    free(vector);
}

/* Which saved index can be brought up to the row store. One that reflects more than
 * `trusted_offset` belongs to another past (the row store was set aside, or the directory was left
 * by a dropped collection). One that holds vectors at offset 0 was saved while it was being filled:
 * nobody knows what was deleted since. And without a log nobody knows what happened after the
 * index's offset. */
static bool is_usable(const struct cairn_shard *shard, struct cairn_index *index,
                      uint64_t trusted_offset)
{
    struct cairn_index_stats stats;
    cairn_index_stats(index, &stats);
    if (stats.indexed_offset == 0)
        return stats.live == 0;
    return shard->log != NULL ? stats.indexed_offset <= trusted_offset
                              : stats.indexed_offset == trusted_offset;
}

/* An index that is not usable is thrown away; the caller fills the new one. */
static int open_trusted(struct cairn_shard *shard, const struct cairn_index_options *options,
                        uint64_t trusted_offset, struct cairn_index **index,
                        struct cairn_error *err)
{
    char note[256] = "";
    int code = cairn_index_open(options, index, note, err);
    if (code == 0 && note[0] != '\0')
        cairn_warn("shard", "s%u: index %s will be rebuilt: %s", shard->id, options->dir, note);
    if (code != 0 || is_usable(shard, *index, trusted_offset))
        return code;
    cairn_index_close(index);
    if (cairn_io_remove_tree(shard->io, options->dir) != 0)
        return cairn_fail(err, CAIRN_EIO, "cannot remove the outdated index %s", options->dir);
    return cairn_index_open(options, index, note, err);
}

static int vector_open(struct cairn_shard *shard, uint32_t collection,
                       const struct cairn_vector_def *def, uint64_t trusted_offset,
                       struct shard_vector **out, struct cairn_error *err)
{
    char dir[4096];
    (void)snprintf(dir, sizeof dir, "%s/index/%u-%.*s", shard->dir, collection,
                   CAIRN_STR_ARG(def->name));
    struct cairn_index_options options = {.dir = dir,
                                          .dim = def->dim,
                                          .metric = def->metric,
                                          .params = def->index,
                                          .builders = shard->builders,
                                          .io = shard->io};
    struct cairn_index *index = NULL;
    int code = open_trusted(shard, &options, trusted_offset, &index, err);
    if (code != 0)
        return code;
    struct shard_vector *vector = cairn_calloc(1, sizeof *vector);
    atomic_init(&vector->references, 1);
    vector->name = (struct cairn_str){cairn_strdup(def->name), def->name.len};
    vector->index = index;
    vector->dir = cairn_strdup(cairn_str_from(dir));
    *out = vector;
    return 0;
}

void shard_collection_free(struct shard_collection *collection, bool dropped)
{
    for (uint32_t i = 0; i < collection->vectors_count; i++) {
        atomic_store(&collection->vectors[i]->dropped, dropped);
        shard_vector_release(collection->vectors[i]);
    }
    cairn_schema_unref(collection->schema);
    free(collection);
}

static void collection_remove(struct cairn_shard *shard, uint32_t id)
{
    struct shard_collection *gone = NULL;
    pthread_rwlock_wrlock(&shard->catalog_lock);
    for (uint32_t i = 0; i < shard->collections_count; i++)
        if (shard->collections[i]->schema->id == id) {
            gone = shard->collections[i];
            shard->collections[i] = shard->collections[--shard->collections_count];
            break;
        }
    pthread_rwlock_unlock(&shard->catalog_lock);
    if (gone != NULL)
        shard_collection_free(gone, true);
}

/* Indexes for the schema's vectors that have none yet, in a new collection object that takes over
 * the old one's. Readers see either the old object or the new one. */
static int collection_put(struct cairn_shard *shard, const struct cairn_schema *schema,
                          uint64_t trusted_offset, struct cairn_error *err)
{
    struct shard_collection *old = shard_collection_find(shard, schema->id);
    if (old != NULL && old->schema->version >= schema->version)
        return 0;
    struct shard_collection *fresh = cairn_calloc(1, sizeof *fresh);
    fresh->schema = cairn_schema_ref(schema);
    uint32_t kept = old != NULL ? old->vectors_count : 0;
    for (uint32_t i = 0; i < kept; i++) {
        fresh->vectors[i] = old->vectors[i];
        const struct cairn_vector_def *def = cairn_schema_vector(schema, old->vectors[i]->name);
        if (def != NULL)
            cairn_index_set_params(old->vectors[i]->index, &def->index);
    }
    fresh->vectors_count = kept;
    for (uint32_t i = 0; i < schema->vectors_count; i++) {
        if (old != NULL && cairn_schema_vector(old->schema, schema->vectors[i].name) != NULL)
            continue;
        int code = vector_open(shard, schema->id, &schema->vectors[i], trusted_offset,
                               &fresh->vectors[fresh->vectors_count], err);
        if (code != 0) {
            while (fresh->vectors_count > kept)
                shard_vector_release(fresh->vectors[--fresh->vectors_count]);
            cairn_schema_unref(fresh->schema);
            free(fresh);
            return code;
        }
        fresh->vectors_count++;
    }
    pthread_rwlock_wrlock(&shard->catalog_lock);
    uint32_t at = 0;
    while (at < shard->collections_count && shard->collections[at] != old)
        at++;
    if (at == shard->collections_count)
        shard->collections = cairn_realloc(shard->collections, ++shard->collections_count *
                                                                   sizeof(*shard->collections));
    shard->collections[at] = fresh;
    pthread_rwlock_unlock(&shard->catalog_lock);
    if (old != NULL) {
        old->vectors_count = 0; /* they live on in `fresh` */
        shard_collection_free(old, false);
    }
    return 0;
}

int shard_apply_schema(struct cairn_shard *shard, struct cairn_str text, uint64_t trusted_offset,
                       struct cairn_error *err)
{
    const struct cairn_schema *schema = NULL;
    int code = cairn_schema_decode(text, &schema, err);
    if (code != 0)
        return code;
    if (schema->version > atomic_load(&shard->catalog_version))
        atomic_store(&shard->catalog_version, schema->version);
    if (schema->dropped)
        collection_remove(shard, schema->id);
    else
        code = collection_put(shard, schema, trusted_offset, err);
    cairn_schema_unref(schema);
    return code;
}

static struct cairn_index *index_find(const struct cairn_shard *shard, uint32_t collection,
                                      struct cairn_str vector)
{
    const struct shard_collection *owner = shard_collection_find(shard, collection);
    for (uint32_t i = 0; owner != NULL && i < owner->vectors_count; i++)
        if (cairn_str_eq(owner->vectors[i]->name, vector))
            return owner->vectors[i]->index;
    return NULL;
}

void shard_index_reached(struct cairn_index *index, uint64_t offset)
{
    if (cairn_index_offset(index) < offset)
        cairn_index_set_offset(index, offset);
}

/* A schema may come after rows that an import brought. */
static int fill_new_indexes(struct cairn_shard *shard, uint32_t id, struct cairn_error *err)
{
    struct shard_collection *collection = shard_collection_find(shard, id);
    int code = 0;
    for (uint32_t i = 0; collection != NULL && i < collection->vectors_count && code == 0; i++)
        if (cairn_index_offset(collection->vectors[i]->index) == 0)
            code = shard_index_refill(shard, id, collection->vectors[i], err);
    return code;
}

int shard_views_follow(struct cairn_shard *shard, const struct cairn_log_record *records,
                       uint32_t count, const struct cairn_apply_output *output,
                       struct cairn_error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        int code = 0;
        if (records[i].kind == CAIRN_RECORD_SCHEMA) {
            code = shard_apply_schema(shard, records[i].payload, 0, err);
            if (code == 0)
                code = fill_new_indexes(shard, records[i].collection, err);
        } else if (records[i].kind == CAIRN_RECORD_MAP ||
                   records[i].kind == CAIRN_RECORD_IMPORT_BEGIN)
            code = shard_ownership_follow(shard, &records[i], err);
        if (code != 0)
            return code;
    }
    for (uint32_t i = 0; i < output->changes_count; i++) {
        const struct cairn_vector_change *change = &output->changes[i];
        struct cairn_index *index = index_find(shard, change->collection, change->vector);
        if (index == NULL || change->offset <= cairn_index_offset(index))
            continue; /* in a replay, what the saved index has already */
        if (change->f32 == NULL)
            cairn_index_remove(index, change->key, change->offset);
        else {
            int code = cairn_index_upsert(index, change->key, change->f32, change->offset, err);
            if (code != 0)
                return code;
        }
    }
    uint64_t offset = records[count - 1].offset;
    for (uint32_t c = 0; c < shard->collections_count; c++)
        for (uint32_t v = 0; v < shard->collections[c]->vectors_count; v++)
            shard_index_reached(shard->collections[c]->vectors[v]->index, offset);
    return 0;
}

void shard_views_save(struct cairn_shard *shard, bool force)
{
    if (shard->log == NULL)
        return;
    struct cairn_log_stats stats;
    cairn_log_stats(shard->log, &stats);
    if (!force && stats.bytes < shard->log_bytes_saved + SAVE_EVERY_LOG_BYTES)
        return;
    shard->log_bytes_saved = stats.bytes;
    for (uint32_t c = 0; c < shard->collections_count; c++)
        for (uint32_t v = 0; v < shard->collections[c]->vectors_count; v++) {
            struct cairn_error err = {0};
            if (cairn_index_save(shard->collections[c]->vectors[v]->index, &err) != 0)
                cairn_warn("shard",
                           "s%u: an index snapshot was not saved (a restart replays more): %s",
                           shard->id, err.message);
        }
}
