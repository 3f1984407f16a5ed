/* Any text as a shard map: what is accepted is written back the same, each token has an owner with
 * a share, and giving up a plan moves nothing. */
#include "base/shardmap.h"
#include "tests/fuzz/fuzz.h"

static const char *const texts[] = {
    "{\"cluster\":\"00000000000000aa\",\"epoch\":1,\"vnodes\":4,\"home\":\"s0\","
    "\"shards\":[{\"id\":\"s0\",\"weight\":1.0},{\"id\":\"s1\",\"weight\":0.5,"
    "\"url\":\"http://127.0.0.1:80\"}]}",
    "{\"cluster\":\"0123456789abcdef\",\"epoch\":9,\"vnodes\":4,\"home\":\"s0\","
    "\"shards\":[{\"id\":\"s0\",\"weight\":1.0,\"planned_weight\":0.0},"
    "{\"id\":\"s12\",\"weight\":0.0,\"planned_weight\":2.5,\"url\":\"http://b:81\"}],"
    "\"plan\":8,\"moves_done\":[[0,12]],\"last_plan\":3,\"last_outcome\":\"succeeded\"}",
    "{\"cluster\":\"ffffffffffffffff\",\"epoch\":3,\"vnodes\":2,\"home\":\"s7\","
    "\"shards\":[{\"id\":\"s7\",\"weight\":1.0,\"planned_weight\":1.0},"
    "{\"id\":\"s8\",\"weight\":1.0,\"planned_weight\":0.0},"
    "{\"id\":\"s9\",\"weight\":0.0,\"planned_weight\":1.0}],"
    "\"plan\":3,\"moves_done\":[],\"last_plan\":2,\"last_outcome\":\"aborted\"}",
};

size_t fuzz_seed(unsigned at, uint8_t *out)
{
    return fuzz_seed_text(texts, sizeof(texts) / sizeof(texts[0]), at, out);
}

enum { TOKENS = 64 };

static uint64_t token_at(uint64_t i)
{
    return i * (UINT64_MAX / (TOKENS - 1));
}

static void check_text(const struct cairn_map *map)
{
    struct cairn_buf once = {0}, twice = {0};
    const struct cairn_map *back;
    cairn_map_encode(map, &once);
    FUZZ_CHECK(once.len <= CAIRN_MAP_BYTES_MAX);
    FUZZ_CHECK(cairn_map_decode((struct cairn_str){once.data, (uint32_t)once.len}, &back, NULL) ==
               0);
    cairn_map_encode(back, &twice);
    FUZZ_CHECK(once.len == twice.len && memcmp(once.data, twice.data, once.len) == 0);
    cairn_map_unref(back);
    cairn_buf_release(&once);
    cairn_buf_release(&twice);
}

static void check_abort(const struct cairn_map *map)
{
    const struct cairn_map *next;
    int code = cairn_map_abort(map, &next, NULL);
    FUZZ_CHECK((code == 0) == (map->plan > 0 && map->epoch < INT64_MAX));
    if (code != 0)
        return;
    for (uint64_t i = 0; i < TOKENS; i++)
        FUZZ_CHECK(cairn_map_owner(map, token_at(i)) == cairn_map_owner(next, token_at(i)));
    cairn_map_unref(next);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct cairn_map *map;
    if (cairn_map_decode(fuzz_text(data, size), &map, NULL) != 0) {
        FUZZ_CHECK(map == NULL);
        return 0;
    }
    for (uint64_t i = 0; i < TOKENS; i++)
        FUZZ_CHECK(cairn_map_share(map, cairn_map_owner(map, token_at(i))) > 0);
    check_text(map);
    check_abort(map);
    cairn_map_unref(map);
    return 0;
}
