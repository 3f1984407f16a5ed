/* A small route table for tests of the HTTP core, and a server over it. Linking this in takes the
 * place of the service's own table. */
#ifndef CAIRN_TESTS_HTTP_ROUTES_H
#define CAIRN_TESTS_HTTP_ROUTES_H

#include <stdbool.h>
#include <stdint.h>

#include "api/core.h"

/* GET  /echo                           what the core made of the request, as JSON
 * POST /echo  POST /work               the body (on the loop, on a worker)
 * GET  /big?bytes=N                    N bytes
 * GET  /gate                           on a worker; waits for test_gate_open
 * GET  /park                           answered through another thread
 * POST /json                           parses the body
 * POST /fail                           429
 * GET  /v1/collections/{}/things/{}    role read
 * POST /v1/collections/{}/things:act   role write
 * POST /v1/collections/{}/{}:rebuild   role admin
 * POST /stream?mode=                   NDJSON; {"line": N, "bytes": M} for each line
 *        now    done inside stream_block      later  done by another thread, blocks out of order
 *        gate   done when test_gate_open      refuse stream_begin refuses */

/* What stream_block has seen, for tests to wait on and check. */
struct test_counters {
    atomic_uint blocks_begun, blocks_finished, blocks_running, blocks_overlaps, gate_waits;
    atomic_uint in_flight_max, in_flight;
    atomic_size_t block_bytes_max;
};
extern struct test_counters test_counters;

void test_gate_close(void);
void test_gate_open(void);

/* A server on a port of its own. NULL times: short ones that no healthy test meets. */
struct cairn_server *test_server_start(const struct cairn_server_options *options,
                                       const struct cairn_http_times *times);
/* Wait (with a deadline) until the server has no connection and no request in flight. */
void test_server_wait_idle(struct cairn_server *server);
/* Wait until so many requests are in flight. */
void test_server_wait_requests(struct cairn_server *server, unsigned count);
/* The value of a metric's line that starts with `name`; 0 when there is none. */
uint64_t test_metric(struct cairn_server *server, const char *name);
void test_wait_until(bool (*reached)(void *arg), void *arg);

#endif
