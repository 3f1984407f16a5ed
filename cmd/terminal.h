/* What people see: tables, progress, numbers. Text that came from a server or a file is printed
 * with its control characters replaced, so that data cannot drive the terminal. */
#ifndef CAIRN_CMD_TERMINAL_H
#define CAIRN_CMD_TERMINAL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/str.h"

/* Columns of the terminal behind `file`; 0 when it is none. */
unsigned cairn_terminal_columns(FILE *file);

/* Append `text` with control characters (and bytes that are not UTF-8) replaced by '?' and line
 * breaks by spaces. */
void cairn_text_clean(struct cairn_buf *out, struct cairn_str text);

#define CAIRN_NUMBER_TEXT_BYTES 32u
/* "117,659", "12.3 MiB", "850 ms", "2 min 5 s". Each returns `out`. */
const char *cairn_text_count(uint64_t count, char *out);
const char *cairn_text_bytes(uint64_t bytes, char *out);
const char *cairn_text_elapsed(uint64_t elapsed_us, char *out);

/* A table: cells are added row by row, then printed with aligned columns. */
#define CAIRN_TABLE_COLUMNS_MAX 64u
struct cairn_table {
    unsigned columns_count;
    uint64_t right_aligned; /* one bit a column */
    struct cairn_buf text;  /* all cells, each ended by a NUL */
    unsigned cells_count;
};

/* `headings` are the first row; a table without headings starts with columns_count set by hand. */
void cairn_table_begin(struct cairn_table *table, const char *const *headings,
                       unsigned columns_count, uint64_t right_aligned);
void cairn_table_cell(struct cairn_table *table, struct cairn_str text);
void cairn_table_printf(struct cairn_table *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Print and release. On a terminal the last column is cut to its width. */
void cairn_table_end(struct cairn_table *table, FILE *file);

/* Progress of long work on standard error: a line redrawn in place on a terminal, nothing
 * elsewhere. */
struct cairn_progress {
    const char *what;     /* "rows" */
    uint64_t total_bytes; /* 0: not known */
    uint64_t started_us, drawn_us;
    bool on_terminal, drawn;
};
void cairn_progress_begin(struct cairn_progress *progress, const char *what, uint64_t total_bytes);
void cairn_progress_update(struct cairn_progress *progress, uint64_t done_bytes, uint64_t count,
                           uint64_t errors);
/* Take the line away, so that other text can be printed. */
void cairn_progress_clear(struct cairn_progress *progress);

#endif
