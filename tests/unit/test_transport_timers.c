#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "router/transport_timers.h"
#include "tests/lib/testing.h"

#define COUNT 300

static struct transport_timers timers;
static struct transport_timer all[COUNT];
static uint64_t expected_us[COUNT]; /* the model; UINT64_MAX: not set */
static unsigned fired_count;

static void check_fired(struct transport_timer *timer)
{
    uint64_t earliest_us = UINT64_MAX;
    for (unsigned i = 0; i < COUNT; i++)
        if (expected_us[i] < earliest_us)
            earliest_us = expected_us[i];
    assert_int_equal(expected_us[timer - all], earliest_us);
    assert_int_equal(timer->place, 0);
    expected_us[timer - all] = UINT64_MAX;
    fired_count++;
    if (fired_count % 3 == 0) { /* set anew from inside */
        expected_us[timer - all] = earliest_us + 5;
        transport_timers_set(&timers, timer, earliest_us + 5);
    }
}

static void test_model(void **state)
{
    (void)state;
    uint64_t seed = cairn_test_seed(), now_us = 1000;
    for (unsigned i = 0; i < COUNT; i++) {
        all[i] = (struct transport_timer){.fire = check_fired};
        expected_us[i] = UINT64_MAX;
    }
    for (unsigned step = 0; step < 20000; step++) {
        unsigned at = (unsigned)cairn_test_random_below(&seed, COUNT);
        if (cairn_test_random_below(&seed, 3) > 0) {
            expected_us[at] = now_us + cairn_test_random_below(&seed, 200);
            transport_timers_set(&timers, &all[at], expected_us[at]);
        } else {
            expected_us[at] = UINT64_MAX;
            transport_timers_clear(&timers, &all[at]);
        }
        now_us += cairn_test_random_below(&seed, 3);
        while (transport_timers_fire(&timers, now_us))
            ;
        for (unsigned i = 0; i < COUNT; i++)
            assert_true(expected_us[i] > now_us);
    }
    assert_true(fired_count > 1000);
    for (unsigned i = 0; i < COUNT; i++)
        transport_timers_clear(&timers, &all[i]);
    assert_int_equal(timers.count, 0);
    transport_timers_release(&timers);
}

static void test_wait(void **state)
{
    (void)state;
    struct transport_timer timer = {.fire = check_fired};
    assert_int_equal(transport_timers_wait_ms(&timers, 0), INT32_MAX);
    transport_timers_set(&timers, &timer, 10000);
    assert_int_equal(transport_timers_wait_ms(&timers, 10001), 0);
    assert_int_equal(transport_timers_wait_ms(&timers, 10000), 0);
    assert_int_equal(transport_timers_wait_ms(&timers, 9999), 1);
    assert_int_equal(transport_timers_wait_ms(&timers, 8000), 2);
    assert_int_equal(transport_timers_wait_ms(&timers, 7999), 3);
    transport_timers_set(&timers, &timer, UINT64_MAX);
    assert_int_equal(transport_timers_wait_ms(&timers, 0), INT32_MAX);
    assert_false(transport_timers_fire(&timers, UINT64_MAX - 1));
    transport_timers_clear(&timers, &timer);
    transport_timers_release(&timers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_model), cmocka_unit_test(test_wait)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
