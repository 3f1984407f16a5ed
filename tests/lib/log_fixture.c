#include "tests/lib/log_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_PATH_BYTES (CAIRN_TEST_PATH_BYTES + 64)

static int no_sync(void *context, int fd)
{
    (void)context;
    (void)fd;
    return 0;
}

static int no_sync_dir(void *context, const char *path)
{
    (void)context;
    (void)path;
    return 0;
}

void fixture_setup(struct log_fixture *fixture, uint64_t segment_bytes_max)
{
    *fixture =
        (struct log_fixture){.segment_bytes_max = segment_bytes_max, .io = *cairn_io_posix()};
    fixture->io.fdatasync = no_sync;
    fixture->io.sync_dir = no_sync_dir;
    cairn_test_dir_make(&fixture->root);
    cairn_test_dir_path(&fixture->root, "log", fixture->dir);
}

void fixture_setup_in_memory(struct log_fixture *fixture, uint64_t segment_bytes_max)
{
    const struct cairn_io *real = cairn_io_posix();
    *fixture = (struct log_fixture){.segment_bytes_max = segment_bytes_max,
                                    .dir = "log",
                                    .memory = cairn_memory_io_new(real->random(real->context))};
    fixture->io = *cairn_memory_io_table(fixture->memory);
}

void fixture_teardown(struct log_fixture *fixture)
{
    if (fixture->memory) {
        cairn_memory_io_free(&fixture->memory);
    } else {
        cairn_test_dir_remove(&fixture->root);
    }
}

struct cairn_log_entry fixture_entry(uint64_t offset)
{
    static _Thread_local union {
        uint64_t words[1024];
        char bytes[8192];
    } payload;
    uint64_t state = offset;
    uint64_t shape = cairn_test_random(&state);
    uint32_t len = (uint32_t)(shape % 90);
    if (shape % 97 == 0) {
        len += 8000;
    }
    for (uint32_t i = 0; i < (len + 7) / 8; i++) {
        payload.words[i] = cairn_test_random(&state);
    }
    return (struct cairn_log_entry){
        .kind = offset % 11 == 0 ? CAIRN_RECORD_SCHEMA : CAIRN_RECORD_ENTITY,
        .collection = 1 + (uint32_t)(offset % FIXTURE_COLLECTIONS),
        .token = cairn_test_random(&state),
        .payload = {payload.bytes, len},
    };
}

int fixture_open_with(struct log_fixture *fixture, const struct cairn_io *io,
                      uint64_t trusted_offset, struct cairn_log **out,
                      struct cairn_log_recovery *recovery, struct cairn_error *err)
{
    struct cairn_log_options options = {
        .dir = fixture->dir,
        .shard = FIXTURE_SHARD,
        .segment_bytes_max = fixture->segment_bytes_max,
        .io = io ? io : &fixture->io,
    };
    return cairn_log_open(&options, trusted_offset, out, recovery, err);
}

struct cairn_log *fixture_open(struct log_fixture *fixture)
{
    struct cairn_log *log;
    struct cairn_error err = {0};
    if (fixture_open_with(fixture, NULL, 0, &log, NULL, &err) != 0) {
        fail_msg("%s", err.message);
    }
    return log;
}

uint64_t fixture_end(struct cairn_log *log)
{
    struct cairn_log_stats stats;
    cairn_log_stats(log, &stats);
    return stats.end_offset;
}

int fixture_append(struct cairn_log *log, uint32_t batches_count, uint32_t batch_records,
                   struct cairn_error *err)
{
    uint64_t offset = fixture_end(log);
    uint32_t total = batches_count * batch_records;
    struct cairn_log_entry *entries = cairn_calloc(total, sizeof(*entries));
    struct cairn_log_batch *batches = cairn_calloc(batches_count, sizeof(*batches));
    struct cairn_arena arena = {0};
    for (uint32_t i = 0; i < total; i++) {
        entries[i] = fixture_entry(offset + 1 + i);
        entries[i].payload = cairn_arena_dup(&arena, entries[i].payload);
    }
    for (uint32_t i = 0; i < batches_count; i++) {
        batches[i] = (struct cairn_log_batch){entries + i * batch_records, batch_records};
    }
    int64_t time_us = 1000 + (int64_t)offset;
    uint64_t first = 0;
    int rc = cairn_log_append(log, batches, batches_count, &time_us, &first, err);
    if (rc == 0) {
        assert_int_equal(first, offset + 1);
        assert_int_equal(fixture_end(log), offset + total);
    } else {
        assert_int_equal(fixture_end(log), offset);
    }
    cairn_arena_release(&arena);
    free(batches);
    free(entries);
    return rc;
}

void fixture_append_ok(struct cairn_log *log, uint32_t batches_count, uint32_t batch_records)
{
    struct cairn_error err = {0};
    if (fixture_append(log, batches_count, batch_records, &err) != 0) {
        fail_msg("%s", err.message);
    }
}

void fixture_assert_record(const struct cairn_log_record *record, uint64_t offset)
{
    struct cairn_log_entry entry = fixture_entry(offset);
    assert_int_equal(record->offset, offset);
    assert_int_equal(record->kind, entry.kind);
    assert_int_equal(record->collection, entry.collection);
    assert_int_equal(record->token, entry.token);
    assert_int_equal(record->shard, FIXTURE_SHARD);
    assert_int_equal(record->payload.len, entry.payload.len);
    assert_int_equal((uintptr_t)record->payload.ptr % 8, 0);
    if (entry.payload.len > 0) {
        assert_memory_equal(record->payload.ptr, entry.payload.ptr, entry.payload.len);
    }
}

int fixture_read_some(struct cairn_log *log, uint64_t *last, struct cairn_error *err)
{
    struct cairn_log_cursor *cursor;
    struct cairn_log_range range = {0};
    struct cairn_log_record record;
    struct cairn_error ignored;
    uint32_t remaining = 0;
    *last = 0;
    int rc = cairn_log_cursor_open(log, &range, &cursor, err ? err : &ignored);
    if (rc != 0) {
        return rc;
    }
    while ((rc = cairn_log_cursor_next(cursor, &record, err ? err : &ignored)) == 0) {
        fixture_assert_record(&record, *last + 1);
        if (remaining > 0) {
            assert_int_equal(record.batch_remaining, remaining - 1);
        }
        remaining = record.batch_remaining;
        *last = record.offset;
    }
    if (rc == CAIRN_EEND) {
        assert_int_equal(remaining, 0);
    }
    cairn_log_cursor_close(&cursor);
    return rc;
}

uint64_t fixture_read_all(struct cairn_log *log)
{
    struct cairn_error err = {0};
    uint64_t last;
    if (fixture_read_some(log, &last, &err) != CAIRN_EEND) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(last, fixture_end(log));
    return last;
}

static void file_path(const struct log_fixture *fixture, const char *name, char *out)
{
    int len = snprintf(out, FILE_PATH_BYTES, "%s/%s", fixture->dir, name);
    assert_in_range(len, 1, FILE_PATH_BYTES - 1);
}

struct cairn_buf fixture_read_file(const struct log_fixture *fixture, const char *name)
{
    const struct cairn_io *io = &fixture->io;
    struct cairn_buf bytes = {0};
    char path[FILE_PATH_BYTES];
    uint64_t len;
    file_path(fixture, name, path);
    int fd = io->open(io->context, path, CAIRN_OPEN_READ);
    assert_true(fd >= 0);
    assert_int_equal(io->size(io->context, fd, &len), 0);
    if (len > 0) {
        assert_int_equal(cairn_io_read_full(io, fd, cairn_buf_reserve(&bytes, len), len, 0), 0);
        bytes.len = len;
    }
    io->close(io->context, fd);
    return bytes;
}

void fixture_write_file(const struct log_fixture *fixture, const char *name, const void *bytes,
                        size_t len)
{
    const struct cairn_io *io = &fixture->io;
    char path[FILE_PATH_BYTES];
    file_path(fixture, name, path);
    int fd = io->open(io->context, path, CAIRN_OPEN_WRITE);
    if (fd < 0) {
        fd = io->open(io->context, path, CAIRN_OPEN_CREATE);
    }
    assert_true(fd >= 0);
    /* Not truncated first: some file systems answer that with a flush, thousands of times here. */
    assert_int_equal(cairn_io_write_full(io, fd, bytes, len, 0), 0);
    assert_int_equal(io->truncate(io->context, fd, len), 0);
    io->close(io->context, fd);
}

void fixture_remove_file(const struct log_fixture *fixture, const char *name)
{
    char path[FILE_PATH_BYTES];
    file_path(fixture, name, path);
    assert_int_equal(fixture->io.unlink(fixture->io.context, path), 0);
}

bool fixture_has_file(const struct log_fixture *fixture, const char *name)
{
    char path[FILE_PATH_BYTES];
    file_path(fixture, name, path);
    int fd = fixture->io.open(fixture->io.context, path, CAIRN_OPEN_READ);
    if (fd >= 0) {
        fixture->io.close(fixture->io.context, fd);
    }
    return fd >= 0;
}

uint64_t fixture_file_size(const struct log_fixture *fixture, const char *name)
{
    struct cairn_buf bytes = fixture_read_file(fixture, name);
    uint64_t size = bytes.len;
    cairn_buf_release(&bytes);
    return size;
}

struct taking {
    const struct log_fixture *fixture;
    struct fixture_snapshot *out;
};

static int take_file(void *arg, const char *name)
{
    struct taking *taking = arg;
    struct fixture_snapshot *out = taking->out;
    out->files = cairn_realloc(out->files, (out->count + 1) * sizeof(*out->files));
    struct snapshot_file *file = &out->files[out->count++];
    snprintf(file->name, sizeof(file->name), "%s", name);
    file->bytes = fixture_read_file(taking->fixture, name);
    return 0;
}

void fixture_take(const struct log_fixture *fixture, struct fixture_snapshot *out)
{
    struct taking taking = {fixture, out};
    *out = (struct fixture_snapshot){0};
    assert_int_equal(fixture->io.list(fixture->io.context, fixture->dir, take_file, &taking), 0);
}

void fixture_put_back(const struct log_fixture *fixture, const struct fixture_snapshot *snapshot)
{
    if (fixture->memory) {
        cairn_memory_io_clear(fixture->memory);
    } else {
        assert_int_equal(cairn_io_remove_tree(&fixture->io, fixture->dir), 0);
    }
    assert_int_equal(fixture->io.mkdir(fixture->io.context, fixture->dir), 0);
    for (uint32_t i = 0; i < snapshot->count; i++) {
        fixture_write_file(fixture, snapshot->files[i].name, snapshot->files[i].bytes.data,
                           snapshot->files[i].bytes.len);
    }
}

void fixture_snapshot_release(struct fixture_snapshot *snapshot)
{
    for (uint32_t i = 0; i < snapshot->count; i++) {
        cairn_buf_release(&snapshot->files[i].bytes);
    }
    free(snapshot->files);
    *snapshot = (struct fixture_snapshot){0};
}

const struct cairn_buf *fixture_snapshot_file(const struct fixture_snapshot *snapshot,
                                              const char *name)
{
    for (uint32_t i = 0; i < snapshot->count; i++) {
        if (strcmp(snapshot->files[i].name, name) == 0) {
            return &snapshot->files[i].bytes;
        }
    }
    fail_msg("no file %s in the snapshot", name);
    return NULL;
}
