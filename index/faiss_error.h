/* A failed FAISS call as one of our errors. */
#ifndef CAIRN_INDEX_FAISS_ERROR_H
#define CAIRN_INDEX_FAISS_ERROR_H

#include <faiss/c_api/error_c.h>

#include "base/error.h"

static inline int cairn_faiss_fail(struct cairn_error *err, int code, const char *doing)
{
    return cairn_fail(err, code, "FAISS failed in %s: %s", doing, faiss_get_last_error());
}

#endif
