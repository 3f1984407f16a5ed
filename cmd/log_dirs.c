#include "cmd/log_dirs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"

static bool is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* The number in ".../shard-0003" or ".../shard-0003/log"; false when it is neither. */
static bool shard_of_path(const char *path, uint32_t *shard)
{
    const char *name = strstr(path, "/shard-");
    for (const char *later = name; later != NULL; later = strstr(later + 1, "/shard-"))
        name = later;
    int end = 0;
    if (name == NULL || sscanf(name, "/shard-%4u%n", shard, &end) != 1)
        return false;
    return name[end] == '\0' || strcmp(name + end, "/log") == 0;
}

static void add(struct cairn_log_dirs *dirs, const char *path, uint32_t shard)
{
    dirs->at[dirs->count].path = cairn_strdup(cairn_str_from(path));
    dirs->at[dirs->count++].shard = shard;
}

/* The lock lies in the data directory: `path` itself, or the folder above its shard. */
static int take_lock(struct cairn_log_dirs *dirs, const char *path, struct cairn_error *err)
{
    char file[PATH_MAX];
    uint32_t shard;
    const char *end = path + strlen(path);
    if (shard_of_path(path, &shard)) {
        for (end = strstr(path, "/shard-"); strstr(end + 1, "/shard-") != NULL;)
            end = strstr(end + 1, "/shard-");
    }
    if (snprintf(file, sizeof(file), "%.*s/LOCK", (int)(end - path), path) >= (int)sizeof(file))
        return cairn_fail(err, CAIRN_EPARAM, "%s: the path is too long", path);
    dirs->lock_fd = open(file, O_RDWR | O_CLOEXEC);
    if (dirs->lock_fd < 0)
        return 0; /* no server has ever opened it, or it is a copy of a log alone */
    if (flock(dirs->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return cairn_fail(err, CAIRN_EUNAVAILABLE,
                          "%.*s is in use by a running server; stop it first", (int)(end - path),
                          path);
    return 0;
}

int cairn_log_dirs_find(const char *dir, struct cairn_log_dirs *out, struct cairn_error *err)
{
    char path[PATH_MAX], log[PATH_MAX + 32];
    uint32_t shard = 0;
    *out = (struct cairn_log_dirs){.lock_fd = -1};
    if (realpath(dir, path) == NULL)
        return cairn_fail(err, CAIRN_ENOTFOUND, "%s: %s", dir, strerror(errno));
    if (!is_dir(path))
        return cairn_fail(err, CAIRN_ENOTFOUND, "%s is no directory", dir);
    if (take_lock(out, path, err) != 0)
        return err->code;
    if (shard_of_path(path, &shard)) {
        snprintf(log, sizeof(log), "%s/log", path);
        add(out, is_dir(log) ? log : path, shard);
        return 0;
    }
    for (uint32_t i = 0; i < CAIRN_SHARDS_MAX; i++) {
        snprintf(log, sizeof(log), "%s/shard-%04u/log", path, i);
        if (is_dir(log))
            add(out, log, i);
    }
    if (out->count == 0)
        add(out, path, 0);
    return 0;
}

void cairn_log_dirs_release(struct cairn_log_dirs *dirs)
{
    for (uint32_t i = 0; i < dirs->count; i++)
        free(dirs->at[i].path);
    if (dirs->lock_fd >= 0)
        close(dirs->lock_fd);
    *dirs = (struct cairn_log_dirs){.lock_fd = -1};
}
