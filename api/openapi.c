#include "api/openapi.h"

/* CAIRN_OPENAPI_FILE comes from CMake, which also makes this file depend on it. */
__asm__(".section .rodata\n"
        ".global cairn_openapi_begin\n"
        ".global cairn_openapi_end\n"
        "cairn_openapi_begin:\n"
        ".incbin \"" CAIRN_OPENAPI_FILE "\"\n"
        "cairn_openapi_end:\n"
        ".previous\n");

extern const char cairn_openapi_begin[];
extern const char cairn_openapi_end[];

struct cairn_str cairn_openapi_json(void)
{
    return (struct cairn_str){cairn_openapi_begin,
                              (uint32_t)(cairn_openapi_end - cairn_openapi_begin)};
}
