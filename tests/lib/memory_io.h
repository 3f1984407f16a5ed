/* A cairn_io whose files are in memory, for fuzzing and for tests that make thousands of logs.
 *
 * There are files but no directories: mkdir succeeds, a path's directory is the part before its
 * last slash. Syncs do nothing. The clock counts calls. One thread at a time. */
#ifndef CAIRN_TESTS_MEMORY_IO_H
#define CAIRN_TESTS_MEMORY_IO_H

#include "base/buf.h"
#include "base/io.h"

struct cairn_memory_io;

/* Random numbers follow from the seed. */
struct cairn_memory_io *cairn_memory_io_new(uint64_t seed);
/* Every descriptor must have been closed: aborts if one was not. */
void cairn_memory_io_free(struct cairn_memory_io **memory);
const struct cairn_io *cairn_memory_io_table(struct cairn_memory_io *memory);

/* The bytes of a file, to be changed at will until the next call that changes it; NULL if there is
 * none. */
struct cairn_buf *cairn_memory_io_file(struct cairn_memory_io *memory, const char *path);
/* Remove every file; none may be open. */
void cairn_memory_io_clear(struct cairn_memory_io *memory);
/* Create or replace a file. */
void cairn_memory_io_put(struct cairn_memory_io *memory, const char *path, const void *bytes,
                         size_t len);

#endif
