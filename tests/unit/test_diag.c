#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/time.h"

static char captured[1 << 20];

/* Run `body` with standard error going to a file; its text is then in `captured`. */
static void capture(void (*body)(void))
{
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(stderr);
    int before = dup(STDERR_FILENO);
    assert_true(before >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
    body();
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    ssize_t len = pread(fileno(file), captured, sizeof(captured) - 1, 0);
    assert_true(len >= 0);
    captured[len] = '\0';
    fclose(file);
}

static void one_line(void)
{
    cairn_warn("shard", "s%d is %s", 3, "slow");
}

static void line_has_all_parts(void **state)
{
    (void)state;
    capture(one_line);
    int64_t when = 0;
    struct cairn_str time = {captured, CAIRN_TIME_TEXT_BYTES - 1};
    assert_int_equal(cairn_time_parse(time, &when, NULL), 0);
    int64_t age = cairn_time_now_us() - when;
    assert_true(age >= 0 && age < 60 * INT64_C(1000000));
    assert_string_equal(captured + CAIRN_TIME_TEXT_BYTES - 1, " warn shard: s3 is slow\n");
}

static void every_level(void)
{
    cairn_diag_line(CAIRN_DIAG_DEBUG, "c", "D");
    cairn_info("c", "I");
    cairn_warn("c", "W");
    cairn_alarm("c", "A");
}

static void level_is_a_floor(void **state)
{
    (void)state;
    static const char *const expect[] = {"DIWA", "IWA", "WA", "A"};
    for (int level = CAIRN_DIAG_DEBUG; level <= CAIRN_DIAG_ERROR; level++) {
        cairn_diag_set_level((enum cairn_diag_level)level);
        capture(every_level);
        char got[8] = "";
        for (char *end = strchr(captured, '\n'); end; end = strchr(end + 1, '\n'))
            strncat(got, end - 1, 1);
        assert_string_equal(got, expect[level]);
    }
    cairn_diag_set_level(CAIRN_DIAG_INFO);
}

static void hostile_text(void)
{
    cairn_info("c", "%s", "two\nlines\r\x1B[31m\x7F end \xC3\xA4");
}

static void controls_are_masked(void **state)
{
    (void)state;
    capture(hostile_text);
    assert_string_equal(captured + CAIRN_TIME_TEXT_BYTES - 1,
                        " info c: two lines  [31m  end \xC3\xA4\n");
}

static void long_text(void)
{
    char text[5000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    cairn_info("c", "%s", text);
    cairn_info(text, "never reached");
    cairn_info("c", "next");
}

static void long_lines_are_cut(void **state)
{
    (void)state;
    capture(long_text);
    char *end = strchr(captured, '\n');
    assert_non_null(end);
    assert_true(end - captured > 1500 && end - captured < 2048);
    end = strchr(end + 1, '\n');
    assert_non_null(end);
    assert_string_equal(end + CAIRN_TIME_TEXT_BYTES, " info c: next\n");
}

static void *write_lines(void *arg)
{
    for (int i = 0; i < 200; i++)
        cairn_info("thread", "%s%s%s%s", (char *)arg, (char *)arg, (char *)arg, (char *)arg);
    return NULL;
}

static void from_threads(void)
{
    static char a[101], b[101];
    memset(a, 'a', 100);
    memset(b, 'b', 100);
    pthread_t threads[2];
    assert_int_equal(pthread_create(&threads[0], NULL, write_lines, a), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, write_lines, b), 0);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
}

static void lines_of_threads_do_not_mix(void **state)
{
    (void)state;
    capture(from_threads);
    int lines = 0;
    for (char *at = captured; *at; lines++) {
        char *end = strchr(at, '\n');
        assert_non_null(end);
        char *text = end - 400;
        assert_true(text > at && text[-1] == ' ');
        for (char *c = text; c < end; c++)
            assert_int_equal(*c, *text);
        at = end + 1;
    }
    assert_int_equal(lines, 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line_has_all_parts),          cmocka_unit_test(level_is_a_floor),
        cmocka_unit_test(controls_are_masked),         cmocka_unit_test(long_lines_are_cut),
        cmocka_unit_test(lines_of_threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
