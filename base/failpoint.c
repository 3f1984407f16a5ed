#include "base/failpoint.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/diag.h"

/* Read once: what the environment asks for is a property of the process. */
static struct {
    pthread_once_t once;
    bool armed;
    struct cairn_failpoint_spec spec;
    atomic_uint passes;
} failpoint = {.once = PTHREAD_ONCE_INIT};

static bool read_number(struct cairn_str text, uint32_t max, uint32_t *out)
{
    uint64_t value = 0;
    if (text.len == 0 || text.len > 9)
        return false;
    for (uint32_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    *out = (uint32_t)value;
    return value >= 1 && value <= max;
}

/* Cut `text` at the first `mark`; *rest is what follows it. False, and the whole text, without one.
 */
static bool cut(struct cairn_str *text, char mark, struct cairn_str *rest)
{
    const char *at = text->len > 0 ? memchr(text->ptr, mark, text->len) : NULL;
    if (at == NULL)
        return false;
    uint32_t before = (uint32_t)(at - text->ptr);
    *rest = (struct cairn_str){at + 1, text->len - before - 1};
    text->len = before;
    return true;
}

static bool parse_action(struct cairn_str text, struct cairn_failpoint_spec *out)
{
    struct cairn_str number = {"", 0};
    bool has_number = cut(&text, ':', &number);
    if (cairn_str_eq(text, CAIRN_STR_LITERAL("sleep"))) {
        out->action = CAIRN_FAILPOINT_SLEEP;
        return has_number && read_number(number, CAIRN_FAILPOINT_SLEEP_MS_MAX, &out->sleep_ms);
    }
    if (cairn_str_eq(text, CAIRN_STR_LITERAL("stop")))
        out->action = CAIRN_FAILPOINT_STOP;
    else if (!cairn_str_eq(text, CAIRN_STR_LITERAL("kill")))
        return false;
    return !has_number;
}

int cairn_failpoint_parse(struct cairn_str text, struct cairn_failpoint_spec *out,
                          struct cairn_error *err)
{
    struct cairn_str name = text, action = {"", 0}, pass = {"", 0};
    *out = (struct cairn_failpoint_spec){.action = CAIRN_FAILPOINT_KILL};
    bool good = !cut(&name, '=', &action) || parse_action(action, out);
    if (cut(&name, ':', &pass))
        good = good && read_number(pass, UINT32_MAX, &out->at);
    else if (out->action != CAIRN_FAILPOINT_SLEEP)
        out->at = 1;
    if (!good || name.len == 0 || name.len >= sizeof out->name)
        return cairn_fail(
            err, CAIRN_EPARAM,
            "a failpoint is NAME[:N][=kill|stop|sleep:MS] with N from 1 and MS from 1 "
            "to %u",
            CAIRN_FAILPOINT_SLEEP_MS_MAX);
    memcpy(out->name, name.ptr, name.len);
    return 0;
}

static void read_environment(void)
{
    struct cairn_error err;
    const char *text = getenv("CAIRN_FAILPOINT");
    if (text == NULL || text[0] == '\0')
        return;
    if (cairn_failpoint_parse(cairn_str_from(text), &failpoint.spec, &err) != 0)
        cairn_alarm("failpoint", "CAIRN_FAILPOINT: %s", err.message);
    else
        failpoint.armed = true;
}

static void act(void)
{
    const struct cairn_failpoint_spec *spec = &failpoint.spec;
    if (spec->action == CAIRN_FAILPOINT_SLEEP) {
        struct timespec left = {.tv_sec = spec->sleep_ms / 1000,
                                .tv_nsec = (long)(spec->sleep_ms % 1000) * 1000000};
        while (nanosleep(&left, &left) != 0)
            continue;
        return;
    }
    cairn_warn("failpoint", "%s", spec->name);
    raise(spec->action == CAIRN_FAILPOINT_STOP ? SIGSTOP : SIGKILL);
}

void cairn_failpoint(const char *name)
{
    pthread_once(&failpoint.once, read_environment);
    if (!failpoint.armed || strcmp(name, failpoint.spec.name) != 0)
        return;
    uint32_t pass = atomic_fetch_add(&failpoint.passes, 1) + 1;
    if (failpoint.spec.at == 0 || failpoint.spec.at == pass)
        act();
}
