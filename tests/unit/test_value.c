#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/value.h"

static struct cairn_value of_i64(int64_t number)
{
    return (struct cairn_value){.type = CAIRN_TYPE_INT64, .as.i64 = number};
}

static struct cairn_value of_f64(double number)
{
    return (struct cairn_value){.type = CAIRN_TYPE_FLOAT64, .as.f64 = number};
}

static struct cairn_value of_time(int64_t time_us)
{
    return (struct cairn_value){.type = CAIRN_TYPE_TIMESTAMP, .as.i64 = time_us};
}

static struct cairn_value of_bool(bool flag)
{
    return (struct cairn_value){.type = CAIRN_TYPE_BOOL, .as.boolean = flag};
}

static struct cairn_value of_bytes(uint8_t type, const void *bytes, uint32_t len)
{
    return (struct cairn_value){.type = type, .len = len, .as.bytes = bytes};
}

static struct cairn_value of_text(const char *text)
{
    return of_bytes(CAIRN_TYPE_STRING, text, (uint32_t)strlen(text));
}

static void type_names_go_both_ways(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint8_t type;
    } rows[] = {
        {"bool", 1},
        {"int64", 2},
        {"float64", 3},
        {"string", 4},
        {"bytes", 5},
        {"timestamp", 6},
        {"json", 7},
        {"list<bool>", 17},
        {"list<int64>", 18},
        {"list<float64>", 19},
        {"list<string>", 20},
        {"list<bytes>", 21},
        {"list<timestamp>", 22},
        {"list<json>", 23},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(cairn_type_parse(cairn_str_from(rows[i].name)), rows[i].type);
        assert_string_equal(cairn_type_name(rows[i].type), rows[i].name);
    }
    assert_string_equal(cairn_type_name(CAIRN_TYPE_NULL), "null");
    assert_string_equal(cairn_type_name(CAIRN_TYPE_VECTOR), "vector");
}

static void other_types_have_no_name(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "null",
                                        "vector",
                                        "INT64",
                                        "int",
                                        "int64 ",
                                        "list",
                                        "list<>",
                                        "list<int64",
                                        "list<null>",
                                        "list<vector>",
                                        "list<list<int64>>",
                                        "list<int64>>",
                                        "List<bool>",
                                        "list <bool>"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_int_equal(cairn_type_parse(cairn_str_from(texts[i])), CAIRN_TYPE_NULL);
    assert_int_equal(cairn_type_parse((struct cairn_str){NULL, 0}), CAIRN_TYPE_NULL);
    assert_int_equal(cairn_type_parse(CAIRN_STR_LITERAL("bool\0")), CAIRN_TYPE_NULL);
    for (unsigned type = 0; type < 256; type++) {
        bool known = type <= CAIRN_TYPE_VECTOR || (type >= 17 && type <= 23);
        assert_int_equal(strcmp(cairn_type_name((uint8_t)type), "unknown") != 0, known);
    }
}

static void equality_is_type_and_content(void **state)
{
    (void)state;
    struct cairn_value list[] = {
        {.type = CAIRN_TYPE_NULL},
        of_bool(false),
        of_bool(true),
        of_i64(0),
        of_i64(1),
        of_i64(INT64_MIN),
        of_f64(0.0),
        of_f64(-0.0),
        of_f64(1.0),
        of_time(0),
        of_time(1),
        of_text(""),
        of_text("a"),
        of_text("b"),
        of_text("ab"),
        of_bytes(CAIRN_TYPE_BYTES, "a", 1),
        of_bytes(CAIRN_TYPE_JSON, "a", 1),
        of_bytes(CAIRN_TYPE_LIST | CAIRN_TYPE_BOOL, "\0", 1),
        of_bytes(CAIRN_TYPE_LIST | CAIRN_TYPE_BOOL, "\1", 1),
        of_bytes(CAIRN_TYPE_LIST | CAIRN_TYPE_BOOL, NULL, 0),
    };
    size_t count = sizeof(list) / sizeof(list[0]);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++)
            assert_int_equal(cairn_value_eq(&list[i], &list[j]), i == j);
    }
    char text[] = "ab";
    struct cairn_value copy = of_text(text);
    assert_true(cairn_value_eq(&copy, &list[14]));
    struct cairn_value vector = {.type = CAIRN_TYPE_VECTOR, .len = 4};
    assert_false(cairn_value_eq(&vector, &vector));
}

static void check_order(struct cairn_value a, struct cairn_value b, int expect)
{
    int order = 99;
    assert_true(cairn_value_compare(&a, &b, &order));
    assert_int_equal((order > 0) - (order < 0), expect);
    assert_true(cairn_value_compare(&b, &a, &order));
    assert_int_equal((order > 0) - (order < 0), -expect);
}

static void order_of_numbers_is_exact(void **state)
{
    (void)state;
    const int64_t big = INT64_C(9007199254740992); /* 2^53 */
    check_order(of_i64(1), of_i64(2), -1);
    check_order(of_i64(INT64_MIN), of_i64(INT64_MAX), -1);
    check_order(of_f64(-0.0), of_f64(0.0), 0);
    check_order(of_f64(1.5), of_f64(2.5), -1);
    check_order(of_i64(2), of_f64(2.0), 0);
    check_order(of_i64(2), of_f64(2.5), -1);
    check_order(of_i64(3), of_f64(2.5), 1);
    check_order(of_i64(-2), of_f64(-2.5), 1);
    check_order(of_i64(-3), of_f64(-2.5), -1);
    check_order(of_i64(0), of_f64(-0.0), 0);
    check_order(of_i64(0), of_f64(5e-324), -1);
    check_order(of_i64(0), of_f64(-5e-324), 1);
    check_order(of_i64(big + 1), of_f64((double)big), 1);
    check_order(of_i64(big), of_f64((double)big), 0);
    check_order(of_i64(-big - 1), of_f64(-(double)big), -1);
    check_order(of_i64(INT64_MAX), of_f64(0x1p63), -1);
    check_order(of_i64(INT64_MAX), of_f64(0x1.fffffffffffffp62), 1);
    check_order(of_i64(INT64_MIN), of_f64(-0x1p63), 0);
    check_order(of_i64(INT64_MIN), of_f64(-0x1.0000000000001p63), 1);
    check_order(of_i64(INT64_MAX), of_f64(1e300), -1);
    check_order(of_i64(INT64_MIN), of_f64(-1e300), 1);
}

static void order_of_other_scalars(void **state)
{
    (void)state;
    check_order(of_bool(false), of_bool(true), -1);
    check_order(of_bool(true), of_bool(true), 0);
    check_order(of_time(-5), of_time(5), -1);
    check_order(of_text(""), of_text("a"), -1);
    check_order(of_text("a"), of_text("ab"), -1);
    check_order(of_text("b"), of_text("ab"), 1);
    check_order(of_text("\xC3\xA4"), of_text("z"), 1);
    check_order(of_text("same"), of_text("same"), 0);
}

static void what_cannot_be_compared(void **state)
{
    (void)state;
    struct cairn_value null = {.type = CAIRN_TYPE_NULL};
    struct cairn_value flags = of_bytes(CAIRN_TYPE_LIST | CAIRN_TYPE_BOOL, "\1", 1);
    struct cairn_value json = of_bytes(CAIRN_TYPE_JSON, "1", 1);
    const struct cairn_value one_of_each[] = {of_bool(true), of_i64(1), of_time(1), of_text("1"),
                                              null,          flags,     json};
    int order = 99;
    for (size_t i = 0; i < 7; i++) {
        for (size_t j = 0; j < 7; j++) {
            bool comparable = i == j && i < 4;
            assert_int_equal(cairn_value_compare(&one_of_each[i], &one_of_each[j], &order),
                             comparable);
        }
    }
    struct cairn_value nan = of_f64(__builtin_nan("")), one = of_f64(1);
    assert_false(cairn_value_compare(&nan, &one, &order));
    assert_false(cairn_value_compare(&one, &nan, &order));
}

/* The list's bytes in an allocation of their own size: reads past the end are seen. */
static int64_t count_of(uint8_t element, const void *bytes, uint32_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, len);
    struct cairn_value list = of_bytes((uint8_t)(CAIRN_TYPE_LIST | element), copy, len);
    int64_t count = cairn_list_count(&list);
    free(copy);
    return count;
}

static void list_of_fixed_width(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {1,    0,    0,    0,    0,    0,    0,    0,
                                    0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    struct cairn_value list = of_bytes(CAIRN_TYPE_LIST | CAIRN_TYPE_INT64, bytes, sizeof(bytes));
    struct cairn_value element;
    uint32_t at = 0;
    assert_true(cairn_list_next(&list, &at, &element));
    assert_int_equal(element.type, CAIRN_TYPE_INT64);
    assert_int_equal(element.as.i64, 1);
    assert_true(cairn_list_next(&list, &at, &element));
    assert_int_equal(element.as.i64, -2);
    assert_false(cairn_list_next(&list, &at, &element));
    assert_int_equal(at, sizeof(bytes));

    list.type = CAIRN_TYPE_LIST | CAIRN_TYPE_TIMESTAMP;
    at = 8;
    assert_true(cairn_list_next(&list, &at, &element));
    assert_int_equal(element.type, CAIRN_TYPE_TIMESTAMP);
    assert_int_equal(element.as.i64, -2);

    static const uint8_t half[] = {0, 0, 0, 0, 0, 0, 0xE0, 0x3F};
    list = of_bytes(CAIRN_TYPE_LIST | CAIRN_TYPE_FLOAT64, half, sizeof(half));
    at = 0;
    assert_true(cairn_list_next(&list, &at, &element));
    assert_true(element.type == CAIRN_TYPE_FLOAT64 && element.as.f64 == 0.5);

    for (uint32_t len = 0; len <= 16; len++) {
        int64_t expect = len % 8 == 0 ? (int64_t)len / 8 : -1;
        assert_int_equal(count_of(CAIRN_TYPE_INT64, bytes, len), expect);
        assert_int_equal(count_of(CAIRN_TYPE_FLOAT64, bytes, len), expect);
        assert_int_equal(count_of(CAIRN_TYPE_TIMESTAMP, bytes, len), expect);
    }
    assert_int_equal(count_of(CAIRN_TYPE_BOOL, "\0\1\1", 3), 3);
    assert_int_equal(count_of(CAIRN_TYPE_BOOL, "\0\2\1", 3), -1);
}

static void list_of_texts(void **state)
{
    (void)state;
    static const char bytes[] = "\2\0\0\0hi\0\0\0\0\3\0\0\0you";
    const uint32_t len = sizeof(bytes) - 1;
    struct cairn_value list = of_bytes(CAIRN_TYPE_LIST | CAIRN_TYPE_STRING, bytes, len);
    static const char *const expect[] = {"hi", "", "you"};
    struct cairn_value element;
    uint32_t at = 0;
    for (size_t i = 0; i < 3; i++) {
        assert_true(cairn_list_next(&list, &at, &element));
        struct cairn_value text = of_text(expect[i]);
        assert_true(cairn_value_eq(&element, &text));
    }
    assert_false(cairn_list_next(&list, &at, &element));
    assert_int_equal(count_of(CAIRN_TYPE_STRING, bytes, len), 3);
    assert_int_equal(count_of(CAIRN_TYPE_BYTES, bytes, len), 3);
    assert_int_equal(count_of(CAIRN_TYPE_JSON, bytes, len), 3);
    /* Cut anywhere but between elements it is malformed. */
    for (uint32_t cut = 0; cut < len; cut++) {
        int64_t whole = cut == 0 ? 0 : cut == 6 ? 1 : cut == 10 ? 2 : -1;
        assert_int_equal(count_of(CAIRN_TYPE_STRING, bytes, cut), whole);
    }
    assert_int_equal(count_of(CAIRN_TYPE_STRING, "\xFF\xFF\xFF\xFFxx", 6), -1);
    assert_int_equal(count_of(CAIRN_TYPE_STRING, "\3\0\0\0xx", 6), -1);
}

static void walk_of_what_is_no_list(void **state)
{
    (void)state;
    static const uint8_t bytes[16] = {0};
    struct cairn_value element;
    for (unsigned type = 0; type < 256; type++) {
        bool is_list = type >= 17 && type <= 23;
        if (is_list)
            continue;
        struct cairn_value value = of_bytes((uint8_t)type, bytes, sizeof(bytes));
        uint32_t at = 0;
        assert_false(cairn_list_next(&value, &at, &element));
        assert_int_equal(cairn_list_count(&value), -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(type_names_go_both_ways),      cmocka_unit_test(other_types_have_no_name),
        cmocka_unit_test(equality_is_type_and_content), cmocka_unit_test(order_of_numbers_is_exact),
        cmocka_unit_test(order_of_other_scalars),       cmocka_unit_test(what_cannot_be_compared),
        cmocka_unit_test(list_of_fixed_width),          cmocka_unit_test(list_of_texts),
        cmocka_unit_test(walk_of_what_is_no_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
