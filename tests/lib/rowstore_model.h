/* A naive row store for tests: it keeps every event and works each row out from scratch, straight
 * from the definitions, whatever the order of event times; and random events to feed it with. */
#ifndef CAIRN_TESTS_ROWSTORE_MODEL_H
#define CAIRN_TESTS_ROWSTORE_MODEL_H

#include "base/record.h"
#include "base/wire.h"
#include "featurestore/log.h"

/* Everything that was ever logged. Offsets are 1, 2, … in order. */
struct rowmodel {
    struct cairn_arena arena;
    struct cairn_encoder *encoder;
    struct cairn_log_record *records;
    struct cairn_entity *entities; /* of events, imported ones too, with the event time resolved */
    int64_t *ingest_times_us;      /* when they were first accepted */
    uint32_t *forgotten;           /* bits of the keys that a record forgets */
    uint32_t *dropped;             /* collection id that a record drops; 0: none */
    uint32_t count, capacity;
    uint32_t collection_ids[3]; /* now alive, of the collections "c0", "c1", "c2" */
    uint64_t schema_versions[3];
    uint32_t next_id;
};

void rowmodel_init(struct rowmodel *model);
void rowmodel_release(struct rowmodel *model);

void rowmodel_add_schema(struct rowmodel *model, uint32_t number, uint32_t id, bool dropped);
void rowmodel_add_entity(struct rowmodel *model, uint32_t collection, int64_t ingest_time_us,
                         const struct cairn_entity *entity);
/* The same event, imported: first written on another shard at `ingest_time_us`, and read from the
 * log of `source` at `source_offset`. */
void rowmodel_add_import(struct rowmodel *model, uint32_t collection, int64_t ingest_time_us,
                         uint32_t source, uint64_t source_offset,
                         const struct cairn_entity *entity);
/* A record that forgets the keys whose bits are set, by their number in rowmodel_keys; at least
 * one. */
void rowmodel_add_forget(struct rowmodel *model, uint32_t collection, uint32_t keys);
/* Any record of another kind. */
void rowmodel_add_record(struct rowmodel *model, uint8_t kind, uint32_t collection,
                         struct cairn_str payload);
/* A random event (`random` is the state of cairn_test_random): patches, replaces, deletes, late
 * ones, repeated ones, some of them imported; a few collections that are now and then dropped and
 * created anew, and keys that are forgotten. */
void rowmodel_add_random(struct rowmodel *model, uint64_t *random);

/* Whether the record at index `at` is an event about an entity, imported or not. */
bool rowmodel_is_event(const struct rowmodel *model, uint32_t at);
/* The ingest time of a record that is added now and is given none; it rises slowly. */
int64_t rowmodel_time_now(const struct rowmodel *model);

/* Keys and vector names that random events use. */
#define ROWMODEL_KEYS 24
extern const struct cairn_str rowmodel_keys[ROWMODEL_KEYS]; /* in byte order */
extern const struct cairn_str rowmodel_vectors[2];

#define ROWMODEL_CELLS_MAX 64
struct rowmodel_row {
    bool exists;
    struct cairn_row_cell cells[ROWMODEL_CELLS_MAX]; /* of vectors, as.bytes are the floats */
    uint32_t cells_count;
    struct cairn_stamp tombstone; /* offset 0: never */
    struct cairn_stamp written;   /* newest patch or replace */
    struct cairn_stamp newest;    /* of the last record */
    struct cairn_str route;
};

/* The row after all records up to `offset`. */
void rowmodel_row(const struct rowmodel *model, uint32_t collection, struct cairn_str key,
                  uint64_t offset, struct rowmodel_row *out);
/* What the record at `offset` did. */
enum cairn_write_status rowmodel_status(const struct rowmodel *model, uint64_t offset,
                                        bool *existed);
/* Whether the record at `offset` says the same of the cell as `cell` does: it is about this key, of
 * the same event time and content. */
bool rowmodel_says(const struct rowmodel *model, uint64_t offset, uint32_t collection,
                   struct cairn_str key, const struct cairn_row_cell *cell);
const struct cairn_row_cell *rowmodel_cell(const struct rowmodel_row *row, bool is_vector,
                                           struct cairn_str name);
bool rowmodel_is_dropped(const struct rowmodel *model, uint32_t collection, uint64_t offset);

#endif
