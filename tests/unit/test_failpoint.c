#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/failpoint.h"
#include "base/time.h"

static void forms_are_read(void **state)
{
    static const struct {
        const char *text;
        struct cairn_failpoint_spec spec;
    } cases[] = {
        {"a.b", {.name = "a.b", .action = CAIRN_FAILPOINT_KILL, .at = 1}},
        {"a.b:3", {.name = "a.b", .action = CAIRN_FAILPOINT_KILL, .at = 3}},
        {"a=kill", {.name = "a", .action = CAIRN_FAILPOINT_KILL, .at = 1}},
        {"a:2=stop", {.name = "a", .action = CAIRN_FAILPOINT_STOP, .at = 2}},
        {"a=stop", {.name = "a", .action = CAIRN_FAILPOINT_STOP, .at = 1}},
        {"a=sleep:250", {.name = "a", .action = CAIRN_FAILPOINT_SLEEP, .sleep_ms = 250}},
        {"a:7=sleep:60000",
         {.name = "a", .action = CAIRN_FAILPOINT_SLEEP, .at = 7, .sleep_ms = 60000}},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cairn_failpoint_spec spec;
        struct cairn_error err = {0};
        if (cairn_failpoint_parse(cairn_str_from(cases[i].text), &spec, &err) != 0)
            fail_msg("%s: %s", cases[i].text, err.message);
        assert_string_equal(spec.name, cases[i].spec.name);
        assert_int_equal(spec.action, cases[i].spec.action);
        assert_int_equal(spec.at, cases[i].spec.at);
        assert_int_equal(spec.sleep_ms, cases[i].spec.sleep_ms);
    }
}

static void other_forms_are_refused(void **state)
{
    static const char *const texts[] = {"",          ":1",
                                        "=kill",     "a:",
                                        "a:0",       "a:x",
                                        "a:1:2",     "a:99999999999",
                                        "a=",        "a=explode",
                                        "a=sleep",   "a=sleep:",
                                        "a=sleep:0", "a=sleep:60001",
                                        "a=stop:1",  "a=kill:1"};
    char longest[CAIRN_FAILPOINT_NAME_BYTES + 1];
    struct cairn_failpoint_spec spec;
    struct cairn_error err;
    (void)state;
    for (unsigned i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (cairn_failpoint_parse(cairn_str_from(texts[i]), &spec, &err) != CAIRN_EPARAM)
            fail_msg("'%s' was taken", texts[i]);
    memset(longest, 'n', sizeof longest);
    longest[CAIRN_FAILPOINT_NAME_BYTES] = '\0';
    assert_int_equal(cairn_failpoint_parse(cairn_str_from(longest), &spec, &err), CAIRN_EPARAM);
    longest[CAIRN_FAILPOINT_NAME_BYTES - 1] = '\0';
    assert_int_equal(cairn_failpoint_parse(cairn_str_from(longest), &spec, &err), 0);
}

/* A child with the variable set passes a place five times; returns how it ended, as wait does. The
 * variable is read once in a process, so this process itself must not pass one. */
static int run_child(const char *spec)
{
    pid_t child = fork();
    if (child == 0) {
        setenv("CAIRN_FAILPOINT", spec, 1);
        for (int i = 0; i < 5; i++) {
            cairn_failpoint("test.other");
            cairn_failpoint("test.place");
        }
        _exit(17);
    }
    int status = 0;
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    if (WIFSTOPPED(status)) {
        int ended;
        kill(child, SIGKILL);
        waitpid(child, &ended, 0);
    }
    return status;
}

static void places_act(void **state)
{
    (void)state;
    int status = run_child("test.place:3");
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    status = run_child("test.place:5=stop");
    assert_true(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    status = run_child("test.place:6");
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 17);
    status = run_child("test.nowhere");
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 17);
    status = run_child("malformed=");
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 17);
    status = run_child("");
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 17);
    uint64_t started_us = cairn_time_monotonic_us();
    status = run_child("test.place=sleep:20");
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 17);
    assert_true(cairn_time_monotonic_us() - started_us >= 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms_are_read),
        cmocka_unit_test(other_forms_are_refused),
        cmocka_unit_test(places_act),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
