/* What `cairn log dump` prints of each kind of record, readable or not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/record.h"
#include "base/shard_wire.h"
#include "cmd/log_dump.h"
#include "featurestore/import_record.h"
#include "featurestore/log.h"
#include "tests/lib/testing.h"

struct fixture {
    struct cairn_test_dir dir;
    char path[CAIRN_TEST_PATH_BYTES];
    struct cairn_log *log;
    struct cairn_encoder *encoder;
    struct cairn_arena arena;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    cairn_test_dir_make(&f->dir);
    cairn_test_dir_path(&f->dir, "log", f->path);
    f->encoder = cairn_encoder_new();
    struct cairn_log_options options = {.dir = f->path, .shard = 3};
    *state = f;
    return cairn_log_open(&options, 0, &f->log, NULL, NULL);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    cairn_log_close(&f->log);
    cairn_encoder_free(&f->encoder);
    cairn_arena_release(&f->arena);
    cairn_test_dir_remove(&f->dir);
    free(f);
    return 0;
}

static void append(struct fixture *f, uint8_t kind, uint32_t collection, struct cairn_str payload)
{
    struct cairn_log_entry entry = {.kind = kind, .collection = collection, .payload = payload};
    struct cairn_log_batch batch = {&entry, 1};
    int64_t ingest_time_us = 5000000;
    uint64_t offset;
    assert_int_equal(cairn_log_append(f->log, &batch, 1, &ingest_time_us, &offset, NULL), 0);
}

static void append_all_kinds(struct fixture *f)
{
    float f32[2] = {1, 0};
    struct cairn_feature feature = {CAIRN_STR_LITERAL("n"),
                                    {.type = CAIRN_TYPE_INT64, .as.i64 = 7}};
    struct cairn_vector vector = {CAIRN_STR_LITERAL("v"), f32, 2};
    struct cairn_entity entity = {.key = CAIRN_STR_LITERAL("a"),
                                  .event_time_us = CAIRN_TIME_NONE,
                                  .features = &feature,
                                  .features_count = 1,
                                  .vectors = &vector,
                                  .vectors_count = 1,
                                  .if_offset = CAIRN_OFFSET_NONE};
    struct cairn_str bytes = cairn_arena_dup(&f->arena, cairn_entity_encode(f->encoder, &entity));
    append(f, CAIRN_RECORD_ENTITY, 4, bytes);
    append(f, CAIRN_RECORD_SCHEMA, 4, CAIRN_STR_LITERAL("{\"s\":1}"));
    append(f, CAIRN_RECORD_MAP, 0, CAIRN_STR_LITERAL("{\"epoch\":2}"));
    struct cairn_import_begin begin = {1, CAIRN_STR_LITERAL("{\"epoch\":3}")};
    struct cairn_buf payload = {0};
    cairn_import_begin_encode(&begin, &payload);
    append(f, CAIRN_RECORD_IMPORT_BEGIN, 0,
           (struct cairn_str){payload.data, (uint32_t)payload.len});
    cairn_buf_release(&payload);
    struct cairn_imported imported = {.source = 1,
                                      .source_offset = 20,
                                      .origin_shard = 2,
                                      .origin_offset = 10,
                                      .ingest_time_us = 1000000,
                                      .entity = bytes};
    append(f, CAIRN_RECORD_IMPORT, 4, cairn_imported_encode(f->encoder, &imported));
    struct cairn_str keys[] = {CAIRN_STR_LITERAL("a"), CAIRN_STR_LITERAL("b\x1b[1m")};
    append(f, CAIRN_RECORD_FORGET, 4, cairn_forget_encode(f->encoder, keys, 2));
    append(f, 99, 4, CAIRN_STR_LITERAL("later"));
}

/* What a dump prints: caught from the file that standard output goes to meanwhile. */
static void dump(struct fixture *f, bool json, uint64_t from_offset, char *out, size_t size)
{
    struct cairn_log_dump_options options = {
        .dir = f->path, .shard = 3, .json = json, .from_offset = from_offset};
    struct cairn_error err = {0};
    uint64_t printed = 0;
    char caught[CAIRN_TEST_PATH_BYTES];
    cairn_test_dir_path(&f->dir, "caught", caught);
    fflush(stdout);
    int kept = dup(STDOUT_FILENO);
    int fd = open(caught, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(kept >= 0 && fd >= 0);
    dup2(fd, STDOUT_FILENO);
    int code = cairn_log_dump(&options, &printed, &err);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    ssize_t got = pread(fd, out, size - 1, 0);
    close(fd);
    assert_int_equal(code, 0);
    assert_true(got >= 0);
    out[got] = '\0';
    uint64_t lines = 0;
    for (const char *at = out; *at != '\0'; at++)
        lines += *at == '\n';
    assert_int_equal(printed, lines);
}

#define TIME "1970-01-01T00:00:05.000000Z"

static void every_kind_has_a_line(void **state)
{
    struct fixture *f = *state;
    char text[4096];
    append_all_kinds(f);
    dump(f, false, 0, text, sizeof text);
    assert_string_equal(text, "s3:1  " TIME "  c4  patch  a  {\"n\":7}  v[2]\n"
                              "s3:2  " TIME "  c4  schema  {\"s\":1}\n"
                              "s3:3  " TIME "  c0  map  {\"epoch\":2}\n"
                              "s3:4  " TIME "  c0  import_begin  from s1  {\"epoch\":3}\n"
                              "s3:5  " TIME "  c4  import of s2:10  patch  a  {\"n\":7}  v[2]\n"
                              "s3:6  " TIME "  c4  forget  2 keys  a  b?[1m\n"
                              "s3:7  " TIME "  c4  kind 99  5 bytes\n");
}

static void every_kind_has_its_members(void **state)
{
    struct fixture *f = *state;
    char text[4096];
    append_all_kinds(f);
    dump(f, true, 2, text, sizeof text);
    static const struct {
        const char *collection, *members;
    } expected[] = {
        {"4", "\"schema\",\"schema\":{\"s\":1}"},
        {"0", "\"map\",\"map\":{\"epoch\":2}"},
        {"0", "\"import_begin\",\"source\":1,\"map\":{\"epoch\":3}"},
        {"4", "\"import\",\"origin_shard\":2,\"origin_offset\":10,"
              "\"origin_ingest_time\":\"1970-01-01T00:00:01.000000Z\",\"source\":1,"
              "\"source_offset\":20,\"op\":\"patch\",\"key\":\"a\",\"features\":{\"n\":7},"
              "\"vectors\":{\"v\":{\"f32\":\"AACAPwAAAAA=\"}}"},
        {"4", "\"forget\",\"keys\":[\"a\",\"b\\u001b[1m\"]"},
        {"4", "99"},
    };
    struct cairn_buf lines = {0};
    for (unsigned i = 0; i < sizeof expected / sizeof *expected; i++)
        cairn_buf_printf(&lines,
                         "{\"shard\":3,\"offset\":%u,\"ingest_time\":\"" TIME
                         "\",\"collection\":%s,\"batch_remaining\":0,\"kind\":%s}\n",
                         i + 2, expected[i].collection, expected[i].members);
    cairn_buf_append(&lines, "", 1);
    assert_string_equal(text, lines.data);
    cairn_buf_release(&lines);
}

static void damaged_payloads_say_so(void **state)
{
    struct fixture *f = *state;
    char text[4096];
    static const uint8_t kinds[] = {CAIRN_RECORD_ENTITY, CAIRN_RECORD_IMPORT,
                                    CAIRN_RECORD_IMPORT_BEGIN, CAIRN_RECORD_FORGET};
    for (size_t i = 0; i < sizeof kinds; i++)
        append(f, kinds[i], 4, CAIRN_STR_LITERAL("no"));
    for (int json = 0; json < 2; json++) {
        dump(f, json, 0, text, sizeof text);
        int said = 0;
        for (const char *at = text; (at = strstr(at, json ? "\"error\":" : "unreadable: ")); at++)
            said++;
        assert_int_equal(said, 4);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_kind_has_a_line),
        TEST(every_kind_has_its_members),
        TEST(damaged_payloads_say_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
