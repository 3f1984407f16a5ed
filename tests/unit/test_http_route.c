/* Route patterns against paths, without a server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "api/query.h"
#include "api/route.h"

static void handle(struct cairn_exchange *exchange)
{
    (void)exchange;
}

#define ROUTE(method, pattern, name)                                                               \
    {                                                                                              \
        method, pattern, name, CAIRN_ROLE_NONE, CAIRN_ON_LOOP, handle, NULL, NULL                  \
    }

static const struct cairn_route routes[] = {
    ROUTE("GET", "/", "root"),
    ROUTE("GET", "/v1/collections", "list"),
    ROUTE("PUT", "/v1/collections/{}", "put"),
    ROUTE("GET", "/v1/collections/{}", "get"),
    ROUTE("POST", "/v1/collections/{}/entities", "upsert"),
    ROUTE("POST", "/v1/collections/{}/entities:get", "entities_get"),
    ROUTE("POST", "/v1/collections/{}/entities:delete", "entities_delete"),
    ROUTE("GET", "/v1/collections/{}/entities/{}", "entity"),
    ROUTE("DELETE", "/v1/collections/{}/entities/{}", "entity_delete"),
    ROUTE("GET", "/v1/collections/{}/{}/{}", "anything"),
    ROUTE("POST", "/v1/collections/{}/indexes/{}:rebuild", "rebuild"),
    ROUTE("GET", "/console/", "console"),
    ROUTE("GET", "/a/b/c/d/e/f/g/{}", "deep"),
};

static struct cairn_route_table *table;

static int setup(void **state)
{
    (void)state;
    struct cairn_error err;
    return cairn_route_table_new(routes, sizeof(routes) / sizeof(routes[0]), &table, &err);
}

static int teardown(void **state)
{
    (void)state;
    cairn_route_table_free(&table);
    cairn_route_table_free(&table);
    return 0;
}

static struct cairn_route_match match(const char *method, const char *path)
{
    struct cairn_route_match out;
    cairn_route_match(table, cairn_str_from(method), cairn_str_from(path), &out);
    return out;
}

static void expect(const char *method, const char *path, const char *name)
{
    struct cairn_route_match found = match(method, path);
    const char *got = found.route ? found.route->name : found.path_known ? "405" : "404";
    if (strcmp(got, name) != 0)
        fail_msg("%s %s: expected %s, got %s", method, path, name, got);
}

static void test_match(void **state)
{
    (void)state;
    expect("GET", "/", "root");
    expect("HEAD", "/", "root");
    expect("HEAD", "/v1/collections/a", "get");
    expect("PUT", "/v1/collections/a", "put");
    expect("GET", "/v1/collections/a:b", "get");
    expect("GET", "/v1/collections", "list");
    expect("GET", "/v1/collections/", "404");
    expect("GET", "/v1/Collections", "404");
    expect("POST", "/v1/collections", "405");
    expect("POST", "/v1/collections/a/entities", "upsert");
    expect("POST", "/v1/collections/a/entities:get", "entities_get");
    expect("POST", "/v1/collections/a/entities:delete", "entities_delete");
    expect("POST", "/v1/collections/a/entities:", "404");
    expect("POST", "/v1/collections/a/entities:other", "404");
    expect("GET", "/v1/collections/a/entities:get", "405");
    expect("GET", "/v1/collections/a/entities/k", "entity");
    expect("GET", "/v1/collections/a/entities/k:1", "entity");
    expect("DELETE", "/v1/collections/a/entities/k:1", "entity_delete");
    expect("GET", "/v1/collections/a/documents/k", "anything");
    expect("GET", "/v1/collections/a/entities/", "404");
    expect("POST", "/v1/collections/a/indexes/v:rebuild", "rebuild");
    expect("POST", "/v1/collections/a/indexes/:rebuild", "405");
    expect("POST", "/v1/collections/a/indexes/v", "405");
    expect("GET", "/console/", "console");
    expect("GET", "/console", "404");
    expect("GET", "/a/b/c/d/e/f/g/h", "deep");
    expect("GET", "/a/b/c/d/e/f/g/h/i", "404");
    expect("GET", "//", "404");
    expect("GET", "", "404");
    expect("GET", "*", "404");
    expect("OPTIONS", "*", "404");
}

static void test_segments(void **state)
{
    (void)state;
    struct cairn_route_match found = match("POST", "/v1/collections/a/indexes/x:y:rebuild");
    assert_string_equal(found.route->name, "rebuild");
    assert_int_equal(found.segments_count, 5);
    assert_true(cairn_str_eq(found.segments[2], CAIRN_STR_LITERAL("a")));
    assert_true(cairn_str_eq(found.segments[4], CAIRN_STR_LITERAL("x:y")));
    assert_true(cairn_str_eq(found.action, CAIRN_STR_LITERAL("rebuild")));
    assert_ptr_equal(found.route, &routes[found.at]);
    found = match("GET", "/v1/collections/a/entities/k:1");
    assert_true(cairn_str_eq(found.segments[4], CAIRN_STR_LITERAL("k:1")));
    assert_int_equal(found.action.len, 0);
}

static void test_allowed(void **state)
{
    (void)state;
    struct cairn_buf out = {0};
    cairn_route_allowed(table, CAIRN_STR_LITERAL("/v1/collections/a"), &out);
    assert_int_equal(out.len, strlen("PUT, GET, HEAD"));
    assert_memory_equal(out.data, "PUT, GET, HEAD", out.len);
    cairn_buf_clear(&out);
    cairn_route_allowed(table, CAIRN_STR_LITERAL("/nowhere"), &out);
    assert_int_equal(out.len, 0);
    cairn_buf_release(&out);
}

static void test_bad_patterns(void **state)
{
    (void)state;
    static const struct cairn_route bad[][1] = {
        {ROUTE("GET", "no-slash", "a")},
        {ROUTE("GET", "", "b")},
        {ROUTE("GET", "/1/2/3/4/5/6/7/8/9", "c")},
    };
    for (unsigned i = 0; i < 3; i++) {
        struct cairn_route_table *none = table;
        struct cairn_error err;
        assert_int_equal(cairn_route_table_new(bad[i], 1, &none, &err), CAIRN_EPARAM);
        assert_null(none);
    }
}

static void test_percent(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool plus;
        const char *decoded; /* NULL: malformed */
    } cases[] = {
        {"", false, ""},      {"abc", true, "abc"},    {"a+b", false, "a+b"},
        {"a+b", true, "a b"}, {"%41%62", false, "Ab"}, {"%c3%A9", true, "\xc3\xa9"},
        {"%", false, NULL},   {"%4", false, NULL},     {"%4g", false, NULL},
        {"a%", true, NULL},   {"%%41", false, NULL},   {"x%2f", false, "x/"},
    };
    struct cairn_arena arena = {0};
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cairn_str out;
        struct cairn_error err;
        int code =
            cairn_percent_decode(cairn_str_from(cases[i].text), cases[i].plus, &arena, &out, &err);
        assert_int_equal(code, cases[i].decoded ? 0 : CAIRN_EPARAM);
        if (cases[i].decoded)
            assert_true(cairn_str_eq(out, cairn_str_from(cases[i].decoded)));
    }
    cairn_arena_release(&arena);
}

static void test_params(void **state)
{
    (void)state;
    static const char *const known[] = {"a", "b", "c", NULL};
    struct cairn_exchange *exchange = cairn_calloc(1, sizeof(*exchange));
    struct cairn_error err;
    struct cairn_str value;
    exchange->query = CAIRN_STR_LITERAL("a=1&&b&c=x%3Dy+z&contract=true&a=2");
    assert_int_equal(cairn_exchange_check_params(exchange, known, &err), 0);
    assert_true(cairn_exchange_param(exchange, "a", &value));
    assert_true(cairn_str_eq(value, CAIRN_STR_LITERAL("1")));
    assert_true(cairn_exchange_param(exchange, "b", &value));
    assert_int_equal(value.len, 0);
    assert_true(cairn_exchange_param(exchange, "c", &value));
    assert_true(cairn_str_eq(value, CAIRN_STR_LITERAL("x=y z")));
    assert_false(cairn_exchange_param(exchange, "d", &value));
    exchange->query = CAIRN_STR_LITERAL("d=1");
    assert_int_equal(cairn_exchange_check_params(exchange, known, &err), CAIRN_EPARAM);
    assert_non_null(strstr(err.message, "\"d\""));
    exchange->query = CAIRN_STR_LITERAL("a=%1");
    assert_int_equal(cairn_exchange_check_params(exchange, known, &err), CAIRN_EPARAM);
    cairn_arena_release(&exchange->arena);
    free(exchange);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_match),   cmocka_unit_test(test_segments),
        cmocka_unit_test(test_allowed), cmocka_unit_test(test_bad_patterns),
        cmocka_unit_test(test_percent), cmocka_unit_test(test_params),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
