#include "index/kernels.h"

#include "index/index.h"

static const struct cairn_kernels *runnable[3] = {&cairn_kernels_portable};
static size_t runnable_count = 1;

const struct cairn_kernels *cairn_kernels = &cairn_kernels_portable;

/* Before main, so that every later reader sees one unchanging value without synchronisation. */
__attribute__((constructor)) static void choose(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        runnable[runnable_count++] = &cairn_kernels_avx2;
    if (__builtin_cpu_supports("avx512f"))
        runnable[runnable_count++] = &cairn_kernels_avx512;
#endif
    cairn_kernels = runnable[runnable_count - 1];
}

const struct cairn_kernels *const *cairn_kernels_runnable(size_t *count)
{
    *count = runnable_count;
    return runnable;
}

const char *cairn_index_kernels(void)
{
    return cairn_kernels->name;
}
