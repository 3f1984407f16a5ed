/* What is left of rows that moved away, where it meets new writes to the same keys.
 *
 * A row stays for some seconds after its token has gone (forget.c). Reads leave it out, but the row
 * store knows no tokens: it would merge into that row a write to its key under a token that is this
 * shard's. That is how an entity is written that was deleted at its new shard and is made anew under
 * another route. So the writer has such a row forgotten first, by a record of its own, and lets no
 * record forget a row that is the shard's by now. */
#include "shard/internal.h"

#include <stdlib.h>
#include <string.h>

/* Whether there is a row of the key, and whose token it has. */
static int find_row(struct cairn_shard *shard, uint32_t collection, struct cairn_str key,
                    bool *found, uint64_t *token, struct cairn_error *err)
{
    struct cairn_row_pin pin = {0};
    int code = cairn_rowstore_get(shard->rows, collection, key, &pin, err);
    *found = false;
    if (code == 0 && pin.found) {
        pthread_rwlock_rdlock(&shard->catalog_lock);
        const struct shard_collection *owner = shard_collection_find(shard, collection);
        *found = owner != NULL;
        if (owner != NULL)
            *token = shard_row_token(owner->schema, key, &pin.view);
        pthread_rwlock_unlock(&shard->catalog_lock);
    }
    cairn_row_pin_release(&pin);
    return code;
}

int shard_leftover_find(struct cairn_shard *shard, const struct cairn_shard_item *item, bool *left,
                        struct cairn_error *err)
{
    uint64_t token = item->token;
    bool found;
    *left = false;
    if (item->kind != CAIRN_RECORD_ENTITY || !atomic_load(&shard->ownership.mixed))
        return 0;
    int code = find_row(shard, item->collection, item->key, &found, &token, err);
    *left = code == 0 && found && token != item->token && !shard_owns(shard, token);
    return code;
}

struct forgetting {
    struct cairn_shard_write write;
    struct cairn_shard_item item;
    struct cairn_write_result result;
    uint64_t payload[]; /* aligned as the record's bytes must be */
};

static void forgotten(struct cairn_shard_write *write)
{
    free(write->context);
}

struct cairn_shard_write *shard_leftover_forget(const struct cairn_shard_item *item)
{
    struct cairn_encoder *encoder = cairn_encoder_new();
    struct cairn_str bytes = cairn_forget_encode(encoder, &item->key, 1);
    struct forgetting *forgetting = cairn_calloc(1, sizeof *forgetting + bytes.len + 8);
    memcpy(forgetting->payload, bytes.ptr, bytes.len);
    cairn_encoder_free(&encoder);
    forgetting->item = (struct cairn_shard_item){
        .kind = CAIRN_RECORD_FORGET,
        .collection = item->collection,
        .payload = {(const char *)forgetting->payload, bytes.len},
        .if_offset = CAIRN_OFFSET_NONE};
    forgetting->write = (struct cairn_shard_write){.items = &forgetting->item,
                                                   .count = 1,
                                                   .results = &forgetting->result,
                                                   .done = forgotten,
                                                   .context = forgetting};
    return &forgetting->write;
}

int shard_leftover_check(struct cairn_shard *shard, const struct cairn_shard_item *item,
                         struct cairn_error *err)
{
    struct cairn_arena arena = {0};
    struct cairn_str *keys;
    uint32_t count = 0;
    int code = cairn_forget_decode(item->payload, &arena, &keys, &count, err);
    for (uint32_t i = 0; i < count && code == 0; i++) {
        uint64_t token;
        bool found;
        code = find_row(shard, item->collection, keys[i], &found, &token, err);
        if (code == 0 && found && shard_owns(shard, token))
            code = cairn_fail(err, CAIRN_EPRECONDITION,
                              "shard s%u: key %.*s has been written anew and is not to be forgotten",
                              shard->id, CAIRN_STR_ARG(keys[i]));
    }
    cairn_arena_release(&arena);
    return code;
}
