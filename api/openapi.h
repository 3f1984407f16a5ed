/* The API's description, built into the program: the text of openapi.yaml, which is kept in YAML's
 * JSON subset so that it is served as it stands. */
#ifndef CAIRN_API_OPENAPI_H
#define CAIRN_API_OPENAPI_H

#include "base/str.h"

/* Static memory. */
struct cairn_str cairn_openapi_json(void);

#endif
