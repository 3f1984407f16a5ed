/* A shard's statistics and metrics. */
#include "shard/internal.h"

#include <stdio.h>

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

static uint64_t count_entities(struct cairn_shard *shard)
{
    uint64_t entities = 0;
    pthread_rwlock_rdlock(&shard->catalog_lock);
    for (uint32_t c = 0; c < shard->collections_count; c++) {
        struct cairn_collection_counts counts;
        cairn_rowstore_counts(shard->rows, shard->collections[c]->schema->id, &counts);
        entities += counts.entities;
    }
    pthread_rwlock_unlock(&shard->catalog_lock);
    return entities;
}

void cairn_shard_stats(struct cairn_shard *shard, struct cairn_shard_stats *out)
{
    *out = (struct cairn_shard_stats){.id = shard->id, .applied = cairn_shard_applied(shard)};
    if (shard->log != NULL)
        cairn_log_stats(shard->log, &out->log);
    pthread_mutex_lock(&shard->queue_lock);
    out->queued_writes = shard->queued_writes;
    out->queued_bytes = shard->queued_bytes;
    pthread_mutex_unlock(&shard->queue_lock);
    cairn_rowstore_bytes(shard->rows, &out->row_disk_bytes, &out->row_memory_bytes);
    struct index_sums sums = {0};
    sum_indexes(shard, &sums);
    out->index_disk_bytes = sums.disk_bytes;
    out->index_memory_bytes = sums.memory_bytes;
    out->entities = count_entities(shard);
}

void cairn_shard_export_metrics(struct cairn_shard *shard)
{
    if (shard->metrics == NULL)
        return;
    struct cairn_shard_stats stats;
    cairn_shard_stats(shard, &stats);
    struct index_sums sums = {0};
    sum_indexes(shard, &sums);
    struct shard_exports *exports = &shard->exports;
    pthread_mutex_lock(&shard->export_lock);
    cairn_counter_add(exports->fsyncs, stats.log.fsyncs - exports->fsyncs_seen);
    cairn_counter_add(exports->records, stats.log.records_appended - exports->records_seen);
    cairn_counter_add(exports->batches, stats.log.batches_appended - exports->batches_seen);
    exports->fsyncs_seen = stats.log.fsyncs;
    exports->records_seen = stats.log.records_appended;
    exports->batches_seen = stats.log.batches_appended;
    pthread_mutex_unlock(&shard->export_lock);
    cairn_gauge_set(exports->log_bytes, (int64_t)stats.log.bytes);
    cairn_gauge_set(exports->log_segments, stats.log.segments_count);
    cairn_gauge_set(exports->applied, (int64_t)stats.applied);
    cairn_gauge_set(exports->queued_writes, (int64_t)stats.queued_writes);
    cairn_gauge_set(exports->queued_bytes, (int64_t)stats.queued_bytes);
    cairn_gauge_set(
        exports->rows_per_fsync,
        stats.log.fsyncs == 0 ? 0 : (int64_t)(stats.log.records_appended / stats.log.fsyncs));
    cairn_gauge_set(exports->row_disk_bytes, (int64_t)stats.row_disk_bytes);
    cairn_gauge_set(exports->row_memory_bytes, (int64_t)stats.row_memory_bytes);
    cairn_gauge_set(exports->index_disk_bytes, (int64_t)sums.disk_bytes);
    cairn_gauge_set(exports->index_memory_bytes, (int64_t)sums.memory_bytes);
    cairn_gauge_set(exports->index_generation, (int64_t)sums.generation_offset);
    cairn_gauge_set(exports->index_indexed, (int64_t)sums.indexed_offset);
    cairn_gauge_set(exports->index_tail, (int64_t)sums.tail);
    cairn_gauge_set(exports->index_live, (int64_t)sums.live);
    cairn_gauge_set(exports->read_only, atomic_load(&shard->state) == CAIRN_SHARD_READ_ONLY);
}
