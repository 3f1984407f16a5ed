/* The peer of the HTTP search benchmark: the same queries on the same data through the router,
 * without HTTP. Prints one JSON object with the CPU time of one search.
 *
 * Usage: bench_search_in_process DATA_DIR COLLECTION QUERIES.f32 DIM K THREADS ROUNDS
 * QUERIES.f32 holds raw little-endian float32 queries; THREADS is taken as 1 per searcher. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/time.h"
#include "router/router.h"

struct job {
    pthread_t thread;
    struct cairn_router *router;
    const struct cairn_schema *schema;
    const float *queries;
    uint32_t queries_count, dim, k, rounds;
    uint64_t hits;
};

static void *search(void *argument)
{
    struct job *job = argument;
    struct cairn_arena arena = {0};
    for (uint32_t i = 0; i < job->rounds * job->queries_count; i++) {
        struct cairn_search_request request = {
            .vector = &job->queries[(size_t)(i % job->queries_count) * job->dim],
            .dim = job->dim,
            .k = job->k};
        struct cairn_search_result result = {0};
        struct cairn_contract contract = {0};
        struct cairn_error err = {0};
        cairn_arena_reset(&arena);
        if (cairn_router_search(job->router, job->schema, &request, 1, UINT64_MAX, &arena, &result,
                                &contract, &err) != 0) {
            fprintf(stderr, "search: %s\n", err.message);
            exit(1);
        }
        job->hits += result.count;
    }
    cairn_arena_release(&arena);
    return NULL;
}

static float *read_queries(const char *path, uint32_t dim, uint32_t *count)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        perror(path);
        exit(1);
    }
    long bytes = ftell(file);
    rewind(file);
    *count = (uint32_t)((size_t)bytes / (dim * sizeof(float)));
    float *queries = cairn_malloc((size_t)bytes);
    if (fread(queries, dim * sizeof(float), *count, file) != *count) {
        perror(path);
        exit(1);
    }
    fclose(file);
    return queries;
}

static double cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void run(struct job *jobs, unsigned threads)
{
    for (unsigned i = 0; i < threads; i++)
        pthread_create(&jobs[i].thread, NULL, search, &jobs[i]);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(jobs[i].thread, NULL);
}

int main(int argc, char **argv)
{
    if (argc != 8) {
        fprintf(stderr, "usage: %s DATA_DIR COLLECTION QUERIES.f32 DIM K THREADS ROUNDS\n",
                argv[0]);
        return 2;
    }
    struct cairn_router_options options = {.dir = argv[1]};
    struct cairn_router *router = NULL;
    struct cairn_error err = {0};
    if (cairn_router_open(&options, &router, &err) != 0) {
        fprintf(stderr, "open: %s\n", err.message);
        return 1;
    }
    struct job job = {.router = router,
                      .schema = cairn_router_schema(router, cairn_str_from(argv[2])),
                      .dim = (uint32_t)atoi(argv[4]),
                      .k = (uint32_t)atoi(argv[5]),
                      .rounds = 1};
    unsigned threads = (unsigned)atoi(argv[6]);
    if (job.schema == NULL) {
        fprintf(stderr, "there is no collection %s\n", argv[2]);
        return 1;
    }
    float *queries = read_queries(argv[3], job.dim, &job.queries_count);
    job.queries = queries;
    struct job *jobs = cairn_calloc(threads, sizeof *jobs);
    for (unsigned i = 0; i < threads; i++)
        jobs[i] = job;
    run(jobs, threads); /* warm */
    for (unsigned i = 0; i < threads; i++)
        jobs[i].rounds = (uint32_t)atoi(argv[7]);
    double cpu_before = cpu_us();
    uint64_t before = cairn_time_monotonic_us();
    run(jobs, threads);
    double elapsed_us = (double)(cairn_time_monotonic_us() - before),
           spent_us = cpu_us() - cpu_before;
    double searches = (double)threads * jobs[0].rounds * job.queries_count;
    printf("{\"searches\": %.0f, \"cpu_us_per_search\": %.2f, \"searches_per_s\": %.1f}\n",
           searches, spent_us / searches, searches / (elapsed_us / 1e6));
    free(jobs);
    free(queries);
    cairn_schema_unref(job.schema);
    cairn_router_close(&router);
    return 0;
}
