#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "tests/lib/testing.h"

static void buffer_grows_and_keeps_content(void **state)
{
    (void)state;
    uint64_t random = cairn_test_seed();
    struct cairn_buf buf = {0};
    static char model[200000];
    size_t len = 0;
    while (len < sizeof(model)) {
        size_t piece = (size_t)cairn_test_random_below(&random, 700);
        if (piece > sizeof(model) - len)
            piece = sizeof(model) - len;
        for (size_t i = 0; i < piece; i++)
            model[len + i] = (char)cairn_test_random(&random);
        cairn_buf_append(&buf, model + len, piece);
        len += piece;
        assert_int_equal(buf.len, len);
        assert_true(buf.capacity >= buf.len);
    }
    assert_memory_equal(buf.data, model, len);
    cairn_buf_release(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.len, 0);
    assert_int_equal(buf.capacity, 0);
    cairn_buf_release(&buf);
}

static void clear_keeps_the_memory(void **state)
{
    (void)state;
    struct cairn_buf buf = {0};
    cairn_buf_append(&buf, "hello", 5);
    char *data = buf.data;
    size_t capacity = buf.capacity;
    cairn_buf_clear(&buf);
    assert_int_equal(buf.len, 0);
    assert_ptr_equal(buf.data, data);
    assert_int_equal(buf.capacity, capacity);
    cairn_buf_release(&buf);
}

static void reserve_gives_room_without_length(void **state)
{
    (void)state;
    struct cairn_buf buf = {0};
    assert_non_null(cairn_buf_reserve(&buf, 0));
    char *at = cairn_buf_reserve(&buf, 1000);
    assert_int_equal(buf.len, 0);
    memset(at, 'z', 1000);
    buf.len += 1000;
    /* What still fits does not move. */
    at = cairn_buf_reserve(&buf, buf.capacity - buf.len);
    assert_ptr_equal(at, buf.data + 1000);
    assert_int_equal(buf.data[999], 'z');
    cairn_buf_append(&buf, NULL, 0);
    assert_int_equal(buf.len, 1000);
    cairn_buf_release(&buf);
}

static void printf_of_every_length(void **state)
{
    (void)state;
    char text[300];
    for (size_t len = 0; len < sizeof(text); len++) {
        memset(text, 'p', len);
        text[len] = '\0';
        struct cairn_buf buf = {0};
        cairn_buf_append(&buf, "<", 1);
        cairn_buf_printf(&buf, "%s", text);
        assert_int_equal(buf.len, len + 1);
        assert_string_equal(buf.data + 1, text);
        cairn_buf_printf(&buf, "%d", 42);
        assert_string_equal(buf.data + 1 + len, "42");
        cairn_buf_release(&buf);
    }
}

static void strdup_terminates(void **state)
{
    (void)state;
    char *copy = cairn_strdup((struct cairn_str){"keyless", 3});
    assert_string_equal(copy, "key");
    free(copy);
    copy = cairn_strdup((struct cairn_str){NULL, 0});
    assert_string_equal(copy, "");
    free(copy);
}

static void zero_sizes_are_allocations(void **state)
{
    (void)state;
    void *a = cairn_malloc(0);
    void *b = cairn_calloc(0, 8);
    a = cairn_realloc(a, 0);
    assert_non_null(a);
    assert_non_null(b);
    free(a);
    free(b);
}

/* Run in a child: returns the signal that ended it, 0 if none did. */
static int signal_of(void (*body)(void))
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        body();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void overflow_in_buffer(void)
{
    struct cairn_buf buf = {0};
    cairn_buf_append(&buf, "x", 1);
    cairn_buf_reserve(&buf, SIZE_MAX);
}

static void overflow_in_arena(void)
{
    struct cairn_arena arena = {0};
    cairn_arena_alloc(&arena, SIZE_MAX - 3);
}

static void sizes_that_overflow_abort(void **state)
{
    (void)state;
    assert_int_equal(signal_of(overflow_in_buffer), SIGABRT);
    assert_int_equal(signal_of(overflow_in_arena), SIGABRT);
}

/* Every piece keeps its bytes whatever is allocated after it, and is aligned. */
static void arena_pieces_do_not_overlap(void **state)
{
    (void)state;
    enum { PIECES = 3000 };
    static struct {
        unsigned char *ptr;
        size_t size;
        unsigned char fill;
    } pieces[PIECES];
    uint64_t random = cairn_test_seed();
    struct cairn_arena arena = {0};
    for (int round = 0; round < 3; round++) {
        size_t total = 0;
        for (int i = 0; i < PIECES; i++) {
            size_t size = (size_t)cairn_test_random_below(&random, i % 500 == 0 ? 600000 : 300);
            pieces[i].ptr = cairn_arena_alloc(&arena, size);
            pieces[i].size = size;
            pieces[i].fill = (unsigned char)cairn_test_random(&random);
            assert_int_equal((uintptr_t)pieces[i].ptr % 16, 0);
            memset(pieces[i].ptr, pieces[i].fill, size);
            total += size;
        }
        assert_true(arena.used_bytes >= total);
        assert_true(arena.used_bytes < total + PIECES * 16);
        for (int i = 0; i < PIECES; i++) {
            for (size_t at = 0; at < pieces[i].size; at++)
                assert_int_equal(pieces[i].ptr[at], pieces[i].fill);
        }
        cairn_arena_reset(&arena);
        assert_int_equal(arena.used_bytes, 0);
    }
    cairn_arena_release(&arena);
    assert_null(arena.head);
}

static void arena_reset_reuses_memory(void **state)
{
    (void)state;
    struct cairn_arena arena = {0};
    cairn_arena_reset(&arena); /* of an empty one */
    void *first = cairn_arena_alloc(&arena, 100);
    cairn_arena_reset(&arena);
    assert_ptr_equal(cairn_arena_alloc(&arena, 100), first);
    /* A huge piece is given back. */
    cairn_arena_alloc(&arena, 64u << 20);
    cairn_arena_reset(&arena);
    assert_ptr_equal(cairn_arena_alloc(&arena, 100), first);
    cairn_arena_release(&arena);
    cairn_arena_release(&arena);
}

static void arena_zalloc_and_dup(void **state)
{
    (void)state;
    struct cairn_arena arena = {0};
    memset(cairn_arena_alloc(&arena, 4000), 0xAA, 4000);
    cairn_arena_reset(&arena);
    const char *zeros = cairn_arena_zalloc(&arena, 4000);
    for (int i = 0; i < 4000; i++)
        assert_int_equal(zeros[i], 0);
    char text[] = "borrowed";
    struct cairn_str copy = cairn_arena_dup(&arena, cairn_str_from(text));
    text[0] = 'X';
    assert_true(cairn_str_eq(copy, CAIRN_STR_LITERAL("borrowed")));
    assert_int_equal(cairn_arena_dup(&arena, (struct cairn_str){NULL, 0}).len, 0);
    cairn_arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffer_grows_and_keeps_content),
        cmocka_unit_test(clear_keeps_the_memory),
        cmocka_unit_test(reserve_gives_room_without_length),
        cmocka_unit_test(printf_of_every_length),
        cmocka_unit_test(strdup_terminates),
        cmocka_unit_test(zero_sizes_are_allocations),
        cmocka_unit_test(sizes_that_overflow_abort),
        cmocka_unit_test(arena_pieces_do_not_overlap),
        cmocka_unit_test(arena_reset_reuses_memory),
        cmocka_unit_test(arena_zalloc_and_dup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
