/* A cairn_io for tests: the real files, with faults that are parameters.
 *
 * Every fault is a countdown over calls of one kind, so "the Nth write fails" is a loop in a test:
 *
 *     for (unsigned n = 0;; n++) {
 *         cairn_faulty_fail(faulty, CAIRN_FAULT_FDATASYNC, n, 1, EIO);
 *         ... run the operation ...
 *         if (cairn_faulty_fired(faulty) == 0)
 *             break; // it makes fewer than n calls: every one has failed once
 *         cairn_faulty_reset(faulty);
 *     }
 *
 * The clock stands still unless moved and starts at CAIRN_FAULTY_CLOCK_START_US; random numbers
 * follow from the seed. Threads: any. */
#ifndef CAIRN_TESTS_FAULTY_IO_H
#define CAIRN_TESTS_FAULTY_IO_H

#include <stddef.h>
#include <stdint.h>

#include "base/io.h"

#define CAIRN_FAULTY_CLOCK_START_US INT64_C(1800000000000000)
#define CAIRN_FAULTY_FOREVER        UINT32_MAX

enum cairn_fault_kind {
    CAIRN_FAULT_OPEN,
    CAIRN_FAULT_READ,
    CAIRN_FAULT_PWRITE,
    CAIRN_FAULT_PWRITEV,
    CAIRN_FAULT_FDATASYNC,
    CAIRN_FAULT_RESERVE,
    CAIRN_FAULT_TRUNCATE,
    CAIRN_FAULT_MKDIR,
    CAIRN_FAULT_RENAME,
    CAIRN_FAULT_UNLINK,
    CAIRN_FAULT_SYNC_DIR,
    CAIRN_FAULT_LIST,
    /* Groups: a countdown on one of these counts every call of its members. */
    CAIRN_FAULT_ANY_WRITE,  /* pwrite, pwritev */
    CAIRN_FAULT_ANY_CHANGE, /* whatever alters the disk: creating open, writes, syncs, reserve,
                             * truncate, mkdir, rename, unlink, sync_dir. Failing the Nth and
                             * CAIRN_FAULTY_FOREVER after it leaves what a crash there leaves. */
    CAIRN_FAULT_KINDS
};

struct cairn_faulty;

struct cairn_faulty *cairn_faulty_new(uint64_t seed);
/* The same over other files than the real ones; `real` must outlive it. */
struct cairn_faulty *cairn_faulty_new_over(const struct cairn_io *real, uint64_t seed);
void cairn_faulty_free(struct cairn_faulty **faulty);
/* The table to hand to the code under test; lives as long as `faulty`. */
const struct cairn_io *cairn_faulty_io(struct cairn_faulty *faulty);

/* After `after` more calls of `kind` succeed, the next `times` fail with -err_number and do
 * nothing. One fault per kind: a second call replaces the first. */
void cairn_faulty_fail(struct cairn_faulty *faulty, enum cairn_fault_kind kind, uint32_t after,
                       uint32_t times, int err_number);
/* A torn write: after `after` more writes (pwrite or pwritev), the next one puts its first `bytes`
 * bytes on disk and fails with -err_number. */
void cairn_faulty_tear(struct cairn_faulty *faulty, uint32_t after, size_t bytes, int err_number);
/* Every write moves at most `bytes_max` bytes and says so, as pwrite(2) may. 0: no limit. */
void cairn_faulty_shorten_writes(struct cairn_faulty *faulty, size_t bytes_max);
/* The same for reads. */
void cairn_faulty_shorten_reads(struct cairn_faulty *faulty, size_t bytes_max);
/* The disk has room for `bytes` more: writes are cut there and then fail with -ENOSPC, and so does
 * a reserve of more than what is left (reserving takes nothing away). free_bytes reports it. */
void cairn_faulty_fill_disk(struct cairn_faulty *faulty, uint64_t bytes);
/* Space is back: ends cairn_faulty_fill_disk. */
void cairn_faulty_free_disk(struct cairn_faulty *faulty);

/* Calls that failed, were torn or found the disk full by our doing, since new or reset. */
uint64_t cairn_faulty_fired(struct cairn_faulty *faulty);
/* Calls made of a kind or group, failed ones included, since new or reset. */
uint64_t cairn_faulty_calls(struct cairn_faulty *faulty, enum cairn_fault_kind kind);
/* Bytes that writes put on disk, since new or reset. */
uint64_t cairn_faulty_bytes_written(struct cairn_faulty *faulty);
/* Descriptors opened through the table and not closed yet. */
int64_t cairn_faulty_open_files(struct cairn_faulty *faulty);
/* Forget every fault, limit and count; clock, random state and open files stay. */
void cairn_faulty_reset(struct cairn_faulty *faulty);

void cairn_faulty_set_clock(struct cairn_faulty *faulty, int64_t now_us);
void cairn_faulty_advance_clock(struct cairn_faulty *faulty, int64_t by_us);

#endif
