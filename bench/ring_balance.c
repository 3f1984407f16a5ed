/* How even the shard map's shares are, how much moves when a shard joins, and what a look-up costs.
 * Shards 0, 1, 2 … of weight 1 with the default vnodes. Prints one JSON object.
 *
 * Usage: bench_ring_balance [VNODES] */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/shardmap.h"

enum { KEYS = 1000000, JOINS_MAX = 32, ROUNDS = 20 };

static uint64_t tokens[KEYS];

/* Shards 0 to now - 1, and a plan by which there will be 0 to planned - 1, if those are more. */
static const struct cairn_map *map_of(uint32_t now, uint32_t planned, uint32_t vnodes)
{
    struct cairn_map_shard shards[CAIRN_SHARDS_MAX] = {0};
    const struct cairn_map *map;
    struct cairn_error err = {0};
    for (uint32_t i = 0; i < planned; i++)
        shards[i] = (struct cairn_map_shard){.id = i, .weight = i < now, .planned_weight = 1};
    struct cairn_map_spec spec = {.epoch = 1,
                                  .vnodes = vnodes,
                                  .shards = shards,
                                  .shards_count = planned,
                                  .plan = planned > now};
    if (cairn_map_new(&spec, &map, &err) != 0) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    return map;
}

static void write_number(struct cairn_json_writer *writer, const char *key, double value)
{
    cairn_json_key(writer, key);
    cairn_json_write_f64(writer, round(value * 10000) / 10000);
}

static void measure_shares(struct cairn_json_writer *writer, uint32_t shards, uint32_t vnodes)
{
    const struct cairn_map *map = map_of(shards, shards, vnodes);
    uint32_t counts[CAIRN_SHARDS_MAX] = {0};
    double exact = 0, counted = 0;
    for (uint32_t i = 0; i < KEYS; i++)
        counts[cairn_map_owner(map, tokens[i])]++;
    cairn_json_begin_object(writer);
    cairn_json_key(writer, "shards");
    cairn_json_write_u64(writer, shards);
    cairn_json_key(writer, "keys");
    cairn_json_begin_array(writer);
    for (uint32_t i = 0; i < shards; i++) {
        cairn_json_write_u64(writer, counts[i]);
        exact = fmax(exact, cairn_map_share(map, i) * shards);
        counted = fmax(counted, (double)counts[i] / KEYS * shards);
    }
    cairn_json_end_array(writer);
    write_number(writer, "largest_to_mean", exact);
    write_number(writer, "largest_to_mean_of_keys", counted);
    cairn_json_end_object(writer);
    cairn_map_unref(map);
}

static void measure_join(struct cairn_json_writer *writer, uint32_t shards, uint32_t vnodes)
{
    const struct cairn_map *plan = map_of(shards, shards + 1, vnodes);
    const struct cairn_map *after = map_of(shards + 1, shards + 1, vnodes);
    uint32_t moved = 0, between_old = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        const struct cairn_map_move *move = cairn_map_move_of(plan, tokens[i]);
        moved += move != NULL;
        between_old += move && move->target != shards;
    }
    cairn_json_begin_object(writer);
    cairn_json_key(writer, "shards");
    cairn_json_write_u64(writer, shards);
    write_number(writer, "moved", cairn_map_share(after, shards));
    write_number(writer, "moved_to_fair", cairn_map_share(after, shards) * (shards + 1));
    write_number(writer, "moved_keys_to_fair", (double)moved / KEYS * (shards + 1));
    cairn_json_key(writer, "keys_between_old_shards");
    cairn_json_write_u64(writer, between_old);
    cairn_json_end_object(writer);
    cairn_map_unref(plan);
    cairn_map_unref(after);
}

static double owner_ns(const struct cairn_map *map)
{
    struct timespec start, end;
    volatile uint64_t sink;
    uint64_t sum = 0;
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    for (int round = 0; round < ROUNDS; round++)
        for (uint32_t i = 0; i < KEYS; i++)
            sum += cairn_map_owner(map, tokens[i]);
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    sink = sum;
    (void)sink;
    return ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) /
           ((double)ROUNDS * KEYS);
}

static void measure_owner(struct cairn_json_writer *writer, const char *key, uint32_t now,
                          uint32_t planned, uint32_t vnodes)
{
    const struct cairn_map *map = map_of(now, planned, vnodes);
    write_number(writer, key, owner_ns(map));
    cairn_map_unref(map);
}

int main(int argc, char **argv)
{
    uint32_t vnodes = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : CAIRN_VNODES_DEFAULT;
    struct cairn_buf text = {0};
    struct cairn_json_writer writer;
    for (uint32_t i = 0; i < KEYS; i++)
        tokens[i] = cairn_hash64(&i, sizeof i);
    cairn_json_writer_init(&writer, &text);
    cairn_json_begin_object(&writer);
    cairn_json_key(&writer, "vnodes");
    cairn_json_write_u64(&writer, vnodes);
    cairn_json_key(&writer, "balance");
    measure_shares(&writer, 8, vnodes);
    cairn_json_key(&writer, "joins");
    cairn_json_begin_array(&writer);
    for (uint32_t shards = 1; shards <= JOINS_MAX; shards++)
        measure_join(&writer, shards, vnodes);
    cairn_json_end_array(&writer);
    measure_owner(&writer, "owner_ns_8_shards", 8, 8, vnodes);
    measure_owner(&writer, "owner_ns_8_shards_and_a_plan", 8, 9, vnodes);
    measure_owner(&writer, "owner_ns_256_shards", 256, 256, vnodes);
    cairn_json_end_object(&writer);
    printf("%.*s\n", (int)text.len, text.data);
    cairn_buf_release(&text);
    return 0;
}
