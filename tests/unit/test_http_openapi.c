/* The API's description and the table of routes say the same. */
#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <stdio.h>

#include "api/exchange.h"
#include "api/openapi.h"

static struct cairn_json_parser *parser;
static struct cairn_json document;

static int set_up(void **state)
{
    struct cairn_error err = {0};
    (void)state;
    parser = cairn_json_parser_new();
    if (cairn_json_parse(parser, cairn_openapi_json(), &document, &err) != 0)
        fail_msg("%s", err.message);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    cairn_json_parser_free(&parser);
    return 0;
}

/* "/a/{name}:x" with every {…} as {}, which is how routes write it. */
static void as_pattern(struct cairn_str path, char *out)
{
    bool inside = false;
    for (uint32_t i = 0; i < path.len; i++) {
        if (path.ptr[i] == '}')
            inside = false;
        if (!inside)
            *out++ = path.ptr[i];
        if (path.ptr[i] == '{')
            inside = true;
    }
    *out = '\0';
}

static bool is_method(struct cairn_str word)
{
    return !cairn_str_eq(word, CAIRN_STR_LITERAL("parameters"));
}

static const struct cairn_route *route_of(struct cairn_str method, const char *pattern)
{
    char upper[16] = {0};
    for (uint32_t i = 0; i < method.len && i < sizeof upper - 1; i++)
        upper[i] = (char)toupper((unsigned char)method.ptr[i]);
    for (unsigned i = 0; i < cairn_routes_count; i++)
        if (strcmp(cairn_routes[i].method, upper) == 0 &&
            strcmp(cairn_routes[i].pattern, pattern) == 0)
            return &cairn_routes[i];
    return NULL;
}

static void every_operation_is_a_route_and_the_reverse(void **state)
{
    static const char *const roles[] = {[CAIRN_ROLE_NONE] = "none",
                                        [CAIRN_ROLE_READ] = "read",
                                        [CAIRN_ROLE_WRITE] = "write",
                                        [CAIRN_ROLE_ADMIN] = "admin"};
    struct cairn_json paths, methods, operation, role;
    struct cairn_json_iter at_path, at_method;
    struct cairn_str path, method, word;
    unsigned operations = 0;
    (void)state;
    assert_true(cairn_json_get(document, "paths", &paths) && cairn_json_object(paths, &at_path));
    while (cairn_json_member(&at_path, &path, &methods)) {
        char pattern[256];
        assert_true(path.len < sizeof pattern);
        as_pattern(path, pattern);
        cairn_json_object(methods, &at_method);
        while (cairn_json_member(&at_method, &method, &operation)) {
            if (!is_method(method))
                continue;
            const struct cairn_route *route = route_of(method, pattern);
            if (route == NULL)
                fail_msg("%.*s %s is described, but no route", CAIRN_STR_ARG(method), pattern);
            assert_true(cairn_json_get(operation, "x-cairn-role", &role) &&
                        cairn_json_str(role, &word));
            assert_true(cairn_str_eq(word, cairn_str_from(roles[route->role])));
            operations++;
        }
    }
    unsigned described = 0; /* calls between processes are no part of the interface */
    for (unsigned i = 0; i < cairn_routes_count; i++)
        described += strncmp(cairn_routes[i].pattern, "/internal/", 10) != 0;
    assert_int_equal(operations, described);
}

static void every_error_code_is_described(void **state)
{
#define CODE_WORD(name, number, word, status) word,
    static const char *const words[] = {CAIRN_ERROR_LIST(CODE_WORD)};
#undef CODE_WORD
    struct cairn_json node = document, element;
    struct cairn_json_iter iter;
    struct cairn_str word;
    size_t count;
    (void)state;
    static const char *const steps[] = {"components", "schemas", "Problem",
                                        "properties", "code",    "enum"};
    for (unsigned i = 0; i < sizeof steps / sizeof steps[0]; i++)
        assert_true(cairn_json_get(node, steps[i], &node));
    assert_true(cairn_json_array(node, &iter, &count));
    for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(words[i], "end") == 0)
            continue; /* never leaves the process */
        if (!cairn_json_element(&iter, &element) || !cairn_json_str(element, &word) ||
            !cairn_str_eq(word, cairn_str_from(words[i])))
            fail_msg("code %s is not described, or not in the list's order", words[i]);
    }
    assert_false(cairn_json_element(&iter, &element));
}

/* The target of "#/a/b/c". */
static bool resolves(struct cairn_str reference)
{
    struct cairn_json node = document;
    char step[128];
    if (reference.len < 2 || memcmp(reference.ptr, "#/", 2) != 0)
        return false;
    for (uint32_t at = 2; at < reference.len;) {
        const char *slash = memchr(reference.ptr + at, '/', reference.len - at);
        uint32_t end = slash != NULL ? (uint32_t)(slash - reference.ptr) : reference.len;
        snprintf(step, sizeof step, "%.*s", (int)(end - at), reference.ptr + at);
        if (!cairn_json_get(node, step, &node))
            return false;
        at = end + 1;
    }
    return true;
}

static unsigned check_references(struct cairn_json node)
{
    struct cairn_json_iter iter;
    struct cairn_json value;
    struct cairn_str name, reference;
    size_t count;
    unsigned found = 0;
    if (cairn_json_array(node, &iter, &count)) {
        while (cairn_json_element(&iter, &value))
            found += check_references(value);
    } else if (cairn_json_object(node, &iter)) {
        while (cairn_json_member(&iter, &name, &value)) {
            if (cairn_str_eq(name, CAIRN_STR_LITERAL("$ref"))) {
                assert_true(cairn_json_str(value, &reference));
                if (!resolves(reference))
                    fail_msg("%.*s leads nowhere", CAIRN_STR_ARG(reference));
                found++;
            } else {
                found += check_references(value);
            }
        }
    }
    return found;
}

static void every_reference_resolves(void **state)
{
    (void)state;
    assert_true(check_references(document) > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_operation_is_a_route_and_the_reverse),
        cmocka_unit_test(every_error_code_is_described),
        cmocka_unit_test(every_reference_resolves),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
