/* What a process is in its cluster, from the flags of cairn serve. */
#ifndef CAIRN_CMD_NODE_H
#define CAIRN_CMD_NODE_H

#include "cmd/options.h"
#include "router/router.h"

struct cairn_node_flags {
    const char *role;             /* all, shard or router */
    const char *id;               /* "s3", "3", "cairn-shard-3"; NULL: not given */
    struct cairn_texts shards;    /* "s1=http://…", several parted by commas */
    const char *shards_file;      /* the same, one a line; NULL: none */
    const char *cluster_key_file; /* NULL: none */
};

struct cairn_node {
    enum cairn_node_role role;
    uint32_t id;
    struct cairn_map_shard *seeds; /* by id */
    uint32_t seeds_count;
    char *cluster_key;        /* NULL: none */
    struct cairn_arena arena; /* of the seeds */
};

/* CAIRN_EPARAM, CAIRN_EIO, naming the flag. */
int cairn_node_read(const struct cairn_node_flags *flags, struct cairn_node *out,
                    struct cairn_error *err);
void cairn_node_release(struct cairn_node *node);

#endif
