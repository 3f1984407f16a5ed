/* A feature log, in a temporary directory or in memory, and records whose content follows from
 * their offset, so that reading one back needs no model. */
#ifndef CAIRN_TESTS_LOG_FIXTURE_H
#define CAIRN_TESTS_LOG_FIXTURE_H

#include "base/buf.h"
#include "base/io.h"
#include "featurestore/log.h"
#include "tests/lib/memory_io.h"
#include "tests/lib/testing.h"

#define FIXTURE_SHARD       7u
#define FIXTURE_COLLECTIONS 3u

struct log_fixture {
    struct cairn_test_dir root; /* everything is removed with it */
    char dir[CAIRN_TEST_PATH_BYTES];
    struct cairn_io io; /* what the log is on; syncs do nothing, since no test cuts the power */
    struct cairn_memory_io *memory; /* NULL: real files */
    uint64_t segment_bytes_max;
};

void fixture_setup(struct log_fixture *fixture, uint64_t segment_bytes_max);
void fixture_setup_in_memory(struct log_fixture *fixture, uint64_t segment_bytes_max);
void fixture_teardown(struct log_fixture *fixture);

/* What record `offset` holds. The payload (up to 8 KiB) lives until the next call on the thread. */
struct cairn_log_entry fixture_entry(uint64_t offset);

/* Open through `io` (NULL: the fixture's); err and recovery may be NULL. */
int fixture_open_with(struct log_fixture *fixture, const struct cairn_io *io,
                      uint64_t trusted_offset, struct cairn_log **out,
                      struct cairn_log_recovery *recovery, struct cairn_error *err);
/* Open with nothing trusted; the test fails if that does not work. */
struct cairn_log *fixture_open(struct log_fixture *fixture);

/* One append of `batches_count` batches of `batch_records` records each, at the log's end. */
int fixture_append(struct cairn_log *log, uint32_t batches_count, uint32_t batch_records,
                   struct cairn_error *err);
/* The same, and the test fails if it does not work. */
void fixture_append_ok(struct cairn_log *log, uint32_t batches_count, uint32_t batch_records);

/* Read everything: offsets from 1 without a gap, each record as it was written, the last one the
 * end of a batch. Returns the last offset. */
uint64_t fixture_read_all(struct cairn_log *log);
/* Read until the end or an error; whatever comes must be as it was written. Returns the code. */
int fixture_read_some(struct cairn_log *log, uint64_t *last, struct cairn_error *err);
void fixture_assert_record(const struct cairn_log_record *record, uint64_t offset);

uint64_t fixture_end(struct cairn_log *log);

/* Files of the log's directory, by name; the test fails if one that is read is missing. */
struct cairn_buf fixture_read_file(const struct log_fixture *fixture, const char *name);
void fixture_write_file(const struct log_fixture *fixture, const char *name, const void *bytes,
                        size_t len);
void fixture_remove_file(const struct log_fixture *fixture, const char *name);
bool fixture_has_file(const struct log_fixture *fixture, const char *name);
uint64_t fixture_file_size(const struct log_fixture *fixture, const char *name);

/* All files of the log's directory as they are now, to be put back later. */
struct fixture_snapshot {
    struct snapshot_file {
        char name[64];
        struct cairn_buf bytes;
    } * files;
    uint32_t count;
};
void fixture_take(const struct log_fixture *fixture, struct fixture_snapshot *out);
/* Make the directory hold exactly what it held; what stands in sub-directories goes. */
void fixture_put_back(const struct log_fixture *fixture, const struct fixture_snapshot *snapshot);
void fixture_snapshot_release(struct fixture_snapshot *snapshot);
const struct cairn_buf *fixture_snapshot_file(const struct fixture_snapshot *snapshot,
                                              const char *name);

#endif
