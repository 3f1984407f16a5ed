#include "cmd/terminal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/time.h"

#define REDRAW_US      100000u
#define BAR_COLUMNS    24u
#define CELL_BYTES_MAX 65536u

unsigned cairn_terminal_columns(FILE *file)
{
    struct winsize size;
    if (!isatty(fileno(file)))
        return 0;
    if (ioctl(fileno(file), TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        return 80;
    return size.ws_col;
}

/* Length of the UTF-8 sequence that a byte begins; 1 for a byte that begins none. */
static uint32_t sequence_len(unsigned char first)
{
    return first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC2 ? 2 : 1;
}

static bool is_printable(struct cairn_str sequence)
{
    unsigned char first = (unsigned char)sequence.ptr[0];
    if (first < 0x20 || first == 0x7F)
        return false;
    /* U+0080 to U+009F are control characters too: terminals obey them. */
    if (first == 0xC2 && sequence.len == 2 && (unsigned char)sequence.ptr[1] < 0xA0)
        return false;
    return cairn_utf8_valid(sequence);
}

void cairn_text_clean(struct cairn_buf *out, struct cairn_str text)
{
    for (uint32_t at = 0; at < text.len;) {
        uint32_t len = sequence_len((unsigned char)text.ptr[at]);
        if (len > text.len - at)
            len = 1;
        struct cairn_str sequence = {text.ptr + at, len};
        if (is_printable(sequence)) {
            cairn_buf_append(out, sequence.ptr, len);
        } else {
            bool is_space = text.ptr[at] == '\n' || text.ptr[at] == '\t';
            cairn_buf_append(out, is_space ? " " : "?", 1);
            len = 1;
        }
        at += len;
    }
}

const char *cairn_text_count(uint64_t count, char *out)
{
    char digits[CAIRN_NUMBER_TEXT_BYTES];
    int len = snprintf(digits, sizeof(digits), "%" PRIu64, count);
    unsigned at = 0;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = '\0';
    return out;
}

const char *cairn_text_bytes(uint64_t bytes, char *out)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double scaled = (double)bytes;
    unsigned unit = 0;
    while (scaled >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        scaled /= 1024;
        unit++;
    }
    snprintf(out, CAIRN_NUMBER_TEXT_BYTES, unit == 0 ? "%.0f %s" : "%.1f %s", scaled, units[unit]);
    return out;
}

const char *cairn_text_elapsed(uint64_t elapsed_us, char *out)
{
    uint64_t seconds = elapsed_us / 1000000;
    if (elapsed_us < 1000000)
        snprintf(out, CAIRN_NUMBER_TEXT_BYTES, "%" PRIu64 " ms", elapsed_us / 1000);
    else if (seconds < 60)
        snprintf(out, CAIRN_NUMBER_TEXT_BYTES, "%.1f s", (double)elapsed_us / 1e6);
    else
        snprintf(out, CAIRN_NUMBER_TEXT_BYTES, "%" PRIu64 " min %" PRIu64 " s", seconds / 60,
                 seconds % 60);
    return out;
}

/* Columns that clean text takes: its code points. Double-width characters count once, which costs
 * alignment and nothing else. */
static unsigned text_columns(const char *text)
{
    unsigned columns = 0;
    for (; *text != '\0'; text++)
        columns += ((unsigned char)*text & 0xC0) != 0x80;
    return columns;
}

void cairn_table_begin(struct cairn_table *table, const char *const *headings,
                       unsigned columns_count, uint64_t right_aligned)
{
    assert(columns_count > 0 && columns_count <= CAIRN_TABLE_COLUMNS_MAX);
    *table = (struct cairn_table){.columns_count = columns_count, .right_aligned = right_aligned};
    for (unsigned i = 0; i < columns_count; i++)
        cairn_table_cell(table, cairn_str_from(headings[i]));
}

void cairn_table_cell(struct cairn_table *table, struct cairn_str text)
{
    if (text.len > CELL_BYTES_MAX)
        text.len = CELL_BYTES_MAX;
    cairn_text_clean(&table->text, text);
    cairn_buf_append(&table->text, "", 1);
    table->cells_count++;
}

void cairn_table_printf(struct cairn_table *table, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    cairn_table_cell(table, cairn_str_from(text));
}

/* Print `text`, cut to `columns` (0: whole) with an ellipsis. */
static void print_cut(FILE *file, const char *text, unsigned columns)
{
    if (columns == 0 || text_columns(text) <= columns) {
        fputs(text, file);
        return;
    }
    const char *end = text;
    for (unsigned shown = 0; shown + 1 < columns; shown++)
        end += sequence_len((unsigned char)*end);
    fprintf(file, "%.*s…", (int)(end - text), text);
}

static void print_row(const struct cairn_table *table, FILE *file, const char **cell,
                      const unsigned *widths, unsigned terminal_columns)
{
    unsigned used = 0;
    for (unsigned i = 0; i < table->columns_count; i++) {
        bool is_last = i + 1 == table->columns_count;
        unsigned columns = text_columns(*cell);
        unsigned padding = widths[i] > columns ? widths[i] - columns : 0;
        if (table->right_aligned >> i & 1) {
            fprintf(file, "%*s%s", (int)padding, "", *cell);
        } else if (is_last) {
            /* Below 20 columns a cut says nothing any more. */
            bool cuts = terminal_columns >= used + 20;
            print_cut(file, *cell, cuts ? terminal_columns - used : 0);
        } else {
            fprintf(file, "%s%*s", *cell, (int)padding, "");
        }
        fputs(is_last ? "\n" : "  ", file);
        used += widths[i] + 2;
        *cell += strlen(*cell) + 1;
    }
}

void cairn_table_end(struct cairn_table *table, FILE *file)
{
    unsigned widths[CAIRN_TABLE_COLUMNS_MAX] = {0};
    assert(table->cells_count % table->columns_count == 0);
    const char *cell = table->text.data;
    for (unsigned i = 0; i < table->cells_count; i++, cell += strlen(cell) + 1) {
        unsigned columns = text_columns(cell);
        if (columns > widths[i % table->columns_count])
            widths[i % table->columns_count] = columns;
    }
    cell = table->text.data;
    unsigned terminal_columns = cairn_terminal_columns(file);
    for (unsigned i = 0; i < table->cells_count; i += table->columns_count)
        print_row(table, file, &cell, widths, terminal_columns);
    cairn_buf_release(&table->text);
}

void cairn_progress_begin(struct cairn_progress *progress, const char *what, uint64_t total_bytes)
{
    *progress = (struct cairn_progress){
        .what = what,
        .total_bytes = total_bytes,
        .started_us = cairn_time_monotonic_us(),
        .on_terminal = cairn_terminal_columns(stderr) > 0,
    };
}

static void draw_bar(double share)
{
    unsigned filled = (unsigned)(share * BAR_COLUMNS);
    fputc('[', stderr);
    for (unsigned i = 0; i < BAR_COLUMNS; i++)
        fputc(i < filled ? '#' : '.', stderr);
    fprintf(stderr, "] %3.0f%%  ", share * 100);
}

void cairn_progress_update(struct cairn_progress *progress, uint64_t done_bytes, uint64_t count,
                           uint64_t errors)
{
    char text[CAIRN_NUMBER_TEXT_BYTES];
    uint64_t now_us = cairn_time_monotonic_us();
    if (!progress->on_terminal || now_us - progress->drawn_us < REDRAW_US)
        return;
    progress->drawn_us = now_us;
    progress->drawn = true;
    double elapsed_s = (double)(now_us - progress->started_us) / 1e6;
    fputs("\r\033[K", stderr);
    if (progress->total_bytes > 0) {
        double share = (double)done_bytes / (double)progress->total_bytes;
        draw_bar(share < 1 ? share : 1);
    }
    fprintf(stderr, "%s %s", cairn_text_count(count, text), progress->what);
    if (elapsed_s > 0)
        fprintf(stderr, "  %s/s", cairn_text_count((uint64_t)((double)count / elapsed_s), text));
    if (errors > 0)
        fprintf(stderr, "  %s errors", cairn_text_count(errors, text));
    fflush(stderr);
}

void cairn_progress_clear(struct cairn_progress *progress)
{
    if (progress->drawn)
        fputs("\r\033[K", stderr);
    progress->drawn = false;
}
