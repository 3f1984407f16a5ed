/* A shard's report and metrics.
 *
 * Entities and foreign rows are counters of the row store, unless its rows are mixed with those of
 * other shards: then the rows are counted, at most every CENSUS_US and for at most a small part of
 * the time: many of them by the forget thread, and the report has the last count. */
#include "shard/internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/time.h"

#define CENSUS_US          5000000u
#define CENSUS_ROWS_INLINE 10000u
#define CENSUS_SHARE       16u /* times as long as the last count took, there is none */

void shard_exports_register(struct cairn_shard *shard)
{
    struct shard_exports *exports = &shard->exports;
    struct cairn_metrics *metrics = shard->metrics;
    char labels[32];
    (void)snprintf(labels, sizeof labels, "shard=\"s%u\"", shard->id);
    const struct {
        struct cairn_counter **counter;
        const char *name, *help;
    } counters[] = {
        {&exports->fsyncs, "cairn_log_fsyncs_total", "Log fsyncs."},
        {&exports->records, "cairn_log_records_total", "Records appended to the log."},
        {&exports->batches, "cairn_log_batches_total", "Batches appended to the log."},
        {&exports->replayed, "cairn_log_replayed_records_total",
         "Records replayed into the views at start."},
        {&exports->reads, "cairn_shard_reads_total", "Entities read by key."},
        {&exports->writes, "cairn_shard_writes_total", "Entities written."},
    };
    const struct {
        struct cairn_gauge **gauge;
        const char *name, *help;
    } gauges[] = {
        {&exports->log_bytes, "cairn_log_bytes", "Bytes of all log segments."},
        {&exports->log_segments, "cairn_log_segments", "Log segments."},
        {&exports->applied, "cairn_shard_applied_offset",
         "Last offset that is durable and applied to the row store."},
        {&exports->queued_writes, "cairn_shard_write_queue", "Writes waiting for the writer."},
        {&exports->queued_bytes, "cairn_shard_write_queue_bytes", "Bytes of the writes that wait."},
        {&exports->rows_per_fsync, "cairn_log_records_per_fsync",
         "Mean records per fsync since start."},
        {&exports->row_disk_bytes, "cairn_rows_disk_bytes", "Bytes of the row store on disk."},
        {&exports->row_memory_bytes, "cairn_rows_memory_bytes",
         "Bytes of the row store in memory."},
        {&exports->index_disk_bytes, "cairn_index_disk_bytes", "Bytes of all index snapshots."},
        {&exports->index_memory_bytes, "cairn_index_memory_bytes",
         "Bytes of all indexes in memory."},
        {&exports->index_generation, "cairn_index_generation_offset",
         "Oldest offset that a built index part reflects."},
        {&exports->index_indexed, "cairn_index_indexed_offset",
         "Oldest offset that an index reflects, tail included."},
        {&exports->index_tail, "cairn_index_tail_vectors", "Vectors in tails, scanned exactly."},
        {&exports->index_live, "cairn_index_live_vectors", "Live vectors of all indexes."},
        {&exports->read_only, "cairn_shard_read_only", "1 while the shard refuses writes."},
        {&exports->entities, "cairn_shard_entities", "Entities that the shard owns."},
        {&exports->foreign, "cairn_shard_foreign_rows",
         "Rows that the shard holds and does not own: being copied or dropped."},
        {&exports->held_writes, "cairn_shard_held_writes",
         "Writes held while their tokens are cut over to another shard."},
        {&exports->epoch, "cairn_shard_epoch", "Epoch of the shard's map."},
    };
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
        *counters[i].counter =
            cairn_metrics_counter(metrics, counters[i].name, labels, counters[i].help);
    for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++)
        *gauges[i].gauge = cairn_metrics_gauge(metrics, gauges[i].name, labels, gauges[i].help);
}

struct index_sums {
    uint64_t disk_bytes, memory_bytes, tail, live, generation_offset, indexed_offset;
};

static void sum_indexes(struct cairn_shard *shard, struct index_sums *sums)
{
    sums->generation_offset = cairn_shard_applied(shard);
    sums->indexed_offset = sums->generation_offset;
    pthread_rwlock_rdlock(&shard->catalog_lock);
    for (uint32_t c = 0; c < shard->collections_count; c++)
        for (uint32_t v = 0; v < shard->collections[c]->vectors_count; v++) {
            struct cairn_index_stats stats;
            cairn_index_stats(shard->collections[c]->vectors[v]->index, &stats);
            sums->disk_bytes += stats.disk_bytes;
            sums->memory_bytes += stats.memory_bytes;
            sums->tail += stats.tail;
            sums->live += stats.live;
            if (stats.indexed_offset < sums->indexed_offset)
                sums->indexed_offset = stats.indexed_offset;
            if (stats.live > 0 && stats.generation_offset < sums->generation_offset)
                sums->generation_offset = stats.generation_offset;
        }
    pthread_rwlock_unlock(&shard->catalog_lock);
}

static void census_collection(struct cairn_shard *shard, const struct cairn_map *map,
                              const struct cairn_schema *schema, struct shard_census *census)
{
    struct cairn_row_scan *scan = NULL;
    struct cairn_str key;
    struct cairn_row_view view;
    uint64_t owned = 0;
    int code = cairn_row_scan_open_all(shard->rows, schema->id, (struct cairn_str){0}, &scan, NULL);
    while (code == 0 && cairn_row_scan_next(scan, &key, &view, NULL) == 0) {
        if (map == NULL || cairn_map_owner(map, shard_row_token(schema, key, &view)) != shard->id)
            census->foreign++;
        else
            owned += cairn_row_view_exists(&view);
    }
    if (scan != NULL)
        cairn_row_scan_close(&scan);
    census->entries[census->entries_count++] = (struct shard_census_entry){schema->id, owned};
}

void shard_census_take(struct cairn_shard *shard)
{
    uint64_t started_us = cairn_time_monotonic_us();
    struct shard_census fresh = {.epoch = cairn_shard_epoch(shard)};
    const struct cairn_map *map = cairn_shard_map(shard);
    uint32_t count;
    const struct cairn_schema **schemas = shard_schemas(shard, &count);
    fresh.entries = cairn_malloc((count + 1) * sizeof(struct shard_census_entry));
    for (uint32_t i = 0; i < count; i++) {
        census_collection(shard, map, schemas[i], &fresh);
        cairn_schema_unref(schemas[i]);
    }
    free(schemas);
    cairn_map_unref(map);
    fresh.counted_us = cairn_time_monotonic_us();
    fresh.took_us = fresh.counted_us - started_us;
    pthread_mutex_lock(&shard->export_lock);
    free(shard->census.entries);
    shard->census = fresh;
    pthread_mutex_unlock(&shard->export_lock);
}

static bool census_is_old(struct cairn_shard *shard)
{
    const struct shard_census *census = &shard->census;
    pthread_mutex_lock(&shard->export_lock);
    bool old = census->counted_us == 0 || census->epoch != cairn_shard_epoch(shard) ||
               cairn_time_monotonic_us() - census->counted_us >=
                   CENSUS_US + CENSUS_SHARE * census->took_us;
    pthread_mutex_unlock(&shard->export_lock);
    return old;
}

/* Few rows are counted here and now; a report does not wait for many. */
static void renew_census(struct cairn_shard *shard, const struct cairn_schema *const *schemas,
                         uint32_t count)
{
    uint64_t rows = 0;
    if (!atomic_load(&shard->ownership.mixed) || !census_is_old(shard))
        return;
    for (uint32_t i = 0; i < count; i++) {
        struct cairn_collection_counts counts;
        cairn_rowstore_counts(shard->rows, schemas[i]->id, &counts);
        rows += counts.entities;
    }
    if (rows <= CENSUS_ROWS_INLINE)
        shard_census_take(shard);
    else
        shard_forget_census(shard);
}

static uint64_t census_of(const struct shard_census *census, uint32_t collection)
{
    for (uint32_t i = 0; i < census->entries_count; i++)
        if (census->entries[i].collection == collection)
            return census->entries[i].entities;
    return 0;
}

void cairn_shard_counts(struct cairn_shard *shard, uint32_t collection,
                        struct cairn_collection_counts *out)
{
    cairn_rowstore_counts(shard->rows, collection, out);
    if (!atomic_load(&shard->ownership.mixed))
        return;
    pthread_mutex_lock(&shard->export_lock);
    if (shard->census.counted_us != 0)
        out->entities = census_of(&shard->census, collection);
    pthread_mutex_unlock(&shard->export_lock);
}

static void report_indexes(struct cairn_shard *shard, const struct cairn_schema *schema,
                           struct cairn_arena *arena, struct cairn_collection_report *out)
{
    struct cairn_index_report *indexes =
        cairn_arena_zalloc(arena, schema->vectors_count * sizeof *indexes + 1);
    out->indexes = indexes;
    for (uint32_t i = 0; i < schema->vectors_count; i++) {
        struct cairn_index_stats stats;
        if (cairn_shard_index_stats(shard, schema->id, schema->vectors[i].name, &stats) != 0)
            continue;
        indexes[out->indexes_count++] =
            (struct cairn_index_report){.vector = cairn_arena_dup(arena, schema->vectors[i].name),
                                        .built_kind = (uint8_t)stats.built_kind,
                                        .building = stats.building,
                                        .live = stats.live,
                                        .built = stats.built,
                                        .tail = stats.tail,
                                        .tombstones = stats.tombstones,
                                        .generation_offset = stats.generation_offset,
                                        .indexed_offset = stats.indexed_offset,
                                        .memory_bytes = stats.memory_bytes,
                                        .disk_bytes = stats.disk_bytes,
                                        .builds = stats.builds,
                                        .last_build_us = stats.last_build_us};
    }
}

static void report_collections(struct cairn_shard *shard, struct cairn_arena *arena,
                               struct cairn_shard_report *out)
{
    uint32_t count;
    const struct cairn_schema **schemas = shard_schemas(shard, &count);
    struct cairn_collection_report *collections =
        cairn_arena_zalloc(arena, count * sizeof *collections + 1);
    renew_census(shard, schemas, count);
    pthread_mutex_lock(&shard->export_lock);
    bool mixed = atomic_load(&shard->ownership.mixed);
    bool counted = mixed && shard->census.counted_us != 0;
    if (mixed)
        out->foreign = shard->census.foreign;
    /* Not counted under this map: there may be some, so it does not say that there are none. */
    if (mixed && out->foreign == 0 && (!counted || shard->census.epoch != cairn_shard_epoch(shard)))
        out->foreign = 1;
    for (uint32_t i = 0; i < count; i++) {
        struct cairn_collection_counts counts;
        cairn_rowstore_counts(shard->rows, schemas[i]->id, &counts);
        collections[i] = (struct cairn_collection_report){
            .collection = schemas[i]->id,
            .entities = counted ? census_of(&shard->census, schemas[i]->id) : counts.entities,
            .routed = counts.routed,
            .newest_event_us = counts.newest_event_us,
            .newest_ingest_us = counts.newest_ingest_us};
        out->entities += collections[i].entities;
    }
    pthread_mutex_unlock(&shard->export_lock);
    for (uint32_t i = 0; i < count; i++) {
        report_indexes(shard, schemas[i], arena, &collections[i]);
        cairn_schema_unref(schemas[i]);
    }
    free(schemas);
    out->collections = collections;
    out->collections_count = count;
}

void cairn_shard_report(struct cairn_shard *shard, struct cairn_arena *arena,
                        struct cairn_shard_report *out)
{
    char reason[512];
    struct cairn_log_stats log = {0};
    struct index_sums sums = {0};
    *out = (struct cairn_shard_report){
        .read_only = cairn_shard_state(shard, reason) == CAIRN_SHARD_READ_ONLY,
        .held_writes = atomic_load(&shard->held_writes),
        .reads = atomic_load_explicit(&shard->hot.reads, memory_order_relaxed),
        .writes = atomic_load_explicit(&shard->hot.writes, memory_order_relaxed)};
    if (out->read_only)
        out->reason = cairn_arena_dup(arena, cairn_str_from(reason));
    if (shard->log != NULL)
        cairn_log_stats(shard->log, &log);
    out->log_end_offset = log.end_offset;
    out->log_bytes = log.bytes;
    out->log_segments = log.segments_count;
    pthread_mutex_lock(&shard->queue_lock);
    out->queued_writes = shard->queued_writes;
    out->queued_bytes = shard->queued_bytes;
    pthread_mutex_unlock(&shard->queue_lock);
    cairn_rowstore_bytes(shard->rows, &out->row_disk_bytes, &out->row_memory_bytes);
    sum_indexes(shard, &sums);
    out->index_disk_bytes = sums.disk_bytes;
    out->index_memory_bytes = sums.memory_bytes;
    report_collections(shard, arena, out);
    out->hot_count = shard_hot_list(shard, arena, &out->hot);
}

/* Add to a counter what its source has counted since the last time. */
static void catch_up(struct cairn_counter *counter, uint64_t now, uint64_t *seen)
{
    cairn_counter_add(counter, now - *seen);
    *seen = now;
}

void cairn_shard_export_metrics(struct cairn_shard *shard)
{
    if (shard->metrics == NULL)
        return;
    struct cairn_arena arena = {0};
    struct cairn_shard_report report;
    struct cairn_log_stats log = {0};
    struct index_sums sums = {0};
    cairn_shard_report(shard, &arena, &report);
    if (shard->log != NULL)
        cairn_log_stats(shard->log, &log);
    sum_indexes(shard, &sums);
    struct shard_exports *exports = &shard->exports;
    pthread_mutex_lock(&shard->export_lock);
    catch_up(exports->fsyncs, log.fsyncs, &exports->fsyncs_seen);
    catch_up(exports->records, log.records_appended, &exports->records_seen);
    catch_up(exports->batches, log.batches_appended, &exports->batches_seen);
    catch_up(exports->reads, report.reads, &exports->reads_seen);
    catch_up(exports->writes, report.writes, &exports->writes_seen);
    pthread_mutex_unlock(&shard->export_lock);
    const struct {
        struct cairn_gauge *gauge;
        uint64_t value;
    } gauges[] = {
        {exports->log_bytes, log.bytes},
        {exports->log_segments, log.segments_count},
        {exports->applied, cairn_shard_applied(shard)},
        {exports->queued_writes, report.queued_writes},
        {exports->queued_bytes, report.queued_bytes},
        {exports->rows_per_fsync, log.fsyncs == 0 ? 0 : log.records_appended / log.fsyncs},
        {exports->row_disk_bytes, report.row_disk_bytes},
        {exports->row_memory_bytes, report.row_memory_bytes},
        {exports->index_disk_bytes, sums.disk_bytes},
        {exports->index_memory_bytes, sums.memory_bytes},
        {exports->index_generation, sums.generation_offset},
        {exports->index_indexed, sums.indexed_offset},
        {exports->index_tail, sums.tail},
        {exports->index_live, sums.live},
        {exports->read_only, report.read_only},
        {exports->entities, report.entities},
        {exports->foreign, report.foreign},
        {exports->held_writes, report.held_writes},
        {exports->epoch, cairn_shard_epoch(shard)},
    };
    for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++)
        cairn_gauge_set(gauges[i].gauge, (int64_t)gauges[i].value);
    cairn_arena_release(&arena);
}

void shard_exports_release(struct cairn_shard *shard)
{
    free(shard->census.entries);
}
