/* Directories that are damaged, of another format, in use or not to be had; and how RocksDB's
 * errors come out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/io.h"
#include "featurestore/rowstore_internal.h"
#include "tests/lib/rowstore_fixture.h"

struct damage {
    const char *part; /* of the file's name */
    char path[2 * CAIRN_TEST_PATH_BYTES];
    const char *dir;
};

static int find_file(void *arg, const char *name)
{
    struct damage *damage = arg;
    if (strstr(name, damage->part) == NULL)
        return 0;
    snprintf(damage->path, sizeof(damage->path), "%s/%s", damage->dir, name);
    return 1;
}

static const char *file_like(struct damage *damage, const struct rowstore_fixture *fixture,
                             const char *part)
{
    const struct cairn_io *io = cairn_io_posix();
    damage->part = part;
    damage->dir = fixture->path;
    if (io->list(io->context, fixture->path, find_file, damage) != 1)
        fail_msg("no file like %s", part);
    return damage->path;
}

static void fill_and_close(struct rowstore_fixture *fixture)
{
    static char text[4096];
    memset(text, 'x', sizeof(text));
    struct cairn_feature feature = {
        CAIRN_STR_LITERAL("t"),
        {.type = CAIRN_TYPE_STRING, .len = sizeof(text), .as.bytes = (const uint8_t *)text}};
    struct cairn_entity entity = {.key = CAIRN_STR_LITERAL("a"),
                                  .event_time_us = CAIRN_TIME_NONE,
                                  .features = &feature,
                                  .features_count = 1,
                                  .if_offset = CAIRN_OFFSET_NONE};
    rowstore_add(fixture, 1, &entity);
    assert_int_equal(rowstore_apply(fixture), 0);
    cairn_rowstore_close(&fixture->store);
}

static void damaged_store_is_said_to_be(void **test)
{
    struct rowstore_fixture *fixture = *test;
    fill_and_close(fixture);
    struct damage damage;
    const char *current = file_like(&damage, fixture, "CURRENT");
    FILE *file = fopen(current, "w");
    assert_non_null(file);
    fputs("MANIFEST-999999\n", file);
    fclose(file);
    assert_int_equal(rowstore_open(fixture), CAIRN_ECORRUPT);
    assert_int_equal(fixture->err.code, CAIRN_ECORRUPT);
    assert_non_null(strstr(fixture->err.message, fixture->path));
    assert_null(fixture->store);
    file = fopen(current, "w");
    assert_non_null(file);
    fputs("nonsense", file);
    fclose(file);
    assert_int_equal(rowstore_open(fixture), CAIRN_ECORRUPT);
    assert_int_equal(remove(file_like(&damage, fixture, "MANIFEST")), 0);
    assert_int_equal(rowstore_open(fixture), CAIRN_ECORRUPT);
}

static void flip_middle(const char *path)
{
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    char byte;
    assert_int_equal(fseek(file, 1000, SEEK_SET), 0);
    assert_int_equal(fread(&byte, 1, 1, file), 1);
    byte = (char)~byte;
    assert_int_equal(fseek(file, 1000, SEEK_SET), 0);
    assert_int_equal(fwrite(&byte, 1, 1, file), 1);
    fclose(file);
}

static int largest_table(void *arg, const char *name)
{
    struct damage *damage = arg;
    char path[2 * CAIRN_TEST_PATH_BYTES];
    const struct cairn_io *io = cairn_io_posix();
    if (strstr(name, ".sst") == NULL)
        return 0;
    snprintf(path, sizeof(path), "%s/%s", damage->dir, name);
    uint64_t bytes = 0;
    int fd = io->open(io->context, path, CAIRN_OPEN_READ);
    assert_true(fd >= 0);
    assert_int_equal(io->size(io->context, fd, &bytes), 0);
    io->close(io->context, fd);
    if (bytes > 4096)
        snprintf(damage->path, sizeof(damage->path), "%s", path);
    return 0;
}

static void flipped_bit_fails_reads_and_applies(void **test)
{
    struct rowstore_fixture *fixture = *test;
    fill_and_close(fixture);
    struct damage damage = {.dir = fixture->path};
    const struct cairn_io *io = cairn_io_posix();
    assert_int_equal(io->list(io->context, fixture->path, largest_table, &damage), 0);
    assert_true(damage.path[0] != '\0');
    flip_middle(damage.path);
    assert_int_equal(rowstore_open(fixture), 0);
    struct cairn_row_pin pin;
    assert_int_equal(
        cairn_rowstore_get(fixture->store, 1, CAIRN_STR_LITERAL("a"), &pin, &fixture->err),
        CAIRN_ECORRUPT);
    assert_false(pin.found);
    cairn_row_pin_release(&pin);
    rowstore_add_number(fixture, 1, "a", 1);
    assert_int_equal(rowstore_apply(fixture), CAIRN_ECORRUPT);
    struct cairn_row_scan *scan;
    struct cairn_str key;
    struct cairn_row_view view;
    assert_int_equal(
        cairn_row_scan_open(fixture->store, 1, (struct cairn_str){0}, &scan, &fixture->err), 0);
    assert_int_equal(cairn_row_scan_next(scan, &key, &view, &fixture->err), CAIRN_ECORRUPT);
    cairn_row_scan_close(&scan);
    assert_int_equal(cairn_rowstore_applied(fixture->store), 1);
}

static void other_format_is_refused(void **test)
{
    struct rowstore_fixture *fixture = *test;
    char value[8], *text = NULL;
    store_u64le(value, CAIRN_ROWSTORE_FORMAT + 1);
    rocksdb_put_cf(fixture->store->db, fixture->store->write, fixture->store->families[FAMILY_META],
                   "format", 6, value, 8, &text);
    assert_null(text);
    cairn_rowstore_close(&fixture->store);
    assert_int_equal(rowstore_open(fixture), CAIRN_ECORRUPT);
}

static void unusable_directory_is_an_io_error(void **test)
{
    struct rowstore_fixture *fixture = *test;
    struct cairn_rowstore *second = NULL;
    struct cairn_rowstore_options options = {.dir = fixture->path};
    assert_int_equal(cairn_rowstore_open(&options, &second, &fixture->err), CAIRN_EIO); /* in use */
    assert_null(second);
    options.dir = "/dev/null/rows";
    assert_int_equal(cairn_rowstore_open(&options, &second, &fixture->err), CAIRN_EIO);
    char missing[2 * CAIRN_TEST_PATH_BYTES];
    snprintf(missing, sizeof(missing), "%s/no/rows", fixture->dir.path);
    options.dir = missing;
    assert_int_equal(cairn_rowstore_open(&options, &second, &fixture->err), CAIRN_EIO);
    cairn_rowstore_close(&second); /* of nothing */
}

static void rocksdb_texts_become_codes(void **test)
{
    (void)test;
    static const struct {
        const char *text;
        int code;
    } cases[] = {
        {"IO error: No space left on device: While appending to file: x.sst: No space left on "
         "device",
         CAIRN_ENOSPACE},
        {"IO error: While fsync: x.sst: Disk quota exceeded", CAIRN_ENOSPACE},
        {"Corruption: block checksum mismatch", CAIRN_ECORRUPT},
        {"IO error: While pread: x.sst: Input/output error", CAIRN_EIO},
        {"Busy: ", CAIRN_EIO},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cairn_error err;
        int code = cairn_rowstore_fail(&err, strdup(cases[i].text), "write");
        assert_int_equal(code, cases[i].code);
        assert_int_equal(err.code, cases[i].code);
        assert_non_null(strstr(err.message, cases[i].text));
        assert_int_equal(cairn_rowstore_fail(NULL, strdup(cases[i].text), "write"), code);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rowstore_setup, rowstore_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(damaged_store_is_said_to_be), TEST(flipped_bit_fails_reads_and_applies),
        TEST(other_format_is_refused),     TEST(unusable_directory_is_an_io_error),
        TEST(rocksdb_texts_become_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
