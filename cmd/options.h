/* Command-line flags. Every flag has an environment form: --free-bytes-min is also
 * CAIRN_FREE_BYTES_MIN. The command line wins over the environment, which wins over the value that
 * stood in *out before. */
#ifndef CAIRN_CMD_OPTIONS_H
#define CAIRN_CMD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum cairn_exit {
    CAIRN_EXIT_OK = 0,
    CAIRN_EXIT_FAILED = 1, /* the operation failed */
    CAIRN_EXIT_USAGE = 2,  /* the command line is wrong */
};

#define CAIRN_TEXTS_MAX 256u

/* Values of a flag that may be given several times. The environment form separates them by spaces.
 */
struct cairn_texts {
    const char *at[CAIRN_TEXTS_MAX];
    unsigned count;
};

enum cairn_flag_kind {
    CAIRN_FLAG_SWITCH, /* out: bool * */
    CAIRN_FLAG_TEXT,   /* out: const char ** */
    CAIRN_FLAG_COUNT,  /* out: uint32_t *, within [min, max] */
    CAIRN_FLAG_BYTES,  /* out: uint64_t *, within [min, max]; takes the suffixes k, m and g */
    CAIRN_FLAG_TEXTS,  /* out: struct cairn_texts * */
};

struct cairn_flag {
    const char *name; /* without the dashes; a name of one letter is taken after one dash too */
    enum cairn_flag_kind kind;
    const char *value; /* what the help calls the value; NULL for a switch */
    const char *help;
    void *out;
    uint64_t min, max;
};

/* Initialisers of a struct cairn_flag. */
#define CAIRN_SWITCH(name, help, out)                                                              \
    {                                                                                              \
        (name), CAIRN_FLAG_SWITCH, NULL, (help), (out), 0, 0                                       \
    }
#define CAIRN_TEXT(name, value, help, out)                                                         \
    {                                                                                              \
        (name), CAIRN_FLAG_TEXT, (value), (help), (out), 0, 0                                      \
    }
#define CAIRN_TEXTS(name, value, help, out)                                                        \
    {                                                                                              \
        (name), CAIRN_FLAG_TEXTS, (value), (help), (out), 0, 0                                     \
    }
#define CAIRN_COUNT(name, value, help, out, min, max)                                              \
    {                                                                                              \
        (name), CAIRN_FLAG_COUNT, (value), (help), (out), (min), (max)                             \
    }
#define CAIRN_BYTES(name, value, help, out, min, max)                                              \
    {                                                                                              \
        (name), CAIRN_FLAG_BYTES, (value), (help), (out), (min), (max)                             \
    }

#define CAIRN_FLAGS_MAX 64u /* of one command */

struct cairn_usage {
    const char *command;   /* "search" */
    const char *arguments; /* "COLLECTION" */
    const char *summary;   /* sentences for --help */
    const char *examples;  /* lines, each ending with \n */
    const struct cairn_flag *flags;
    unsigned flags_count;
    unsigned operands_min, operands_max;
};

/* Read flags from the environment and from argv[0..argc), where argv[0] is the first word after
 * the command's name. Operands are moved to the front of argv and counted in *operands_count.
 * Returns true to go on. Returns false with *exit_code after --help (0) or when the command line is
 * wrong (2); what there is to say has been printed. */
bool cairn_options_parse(const struct cairn_usage *usage, int argc, char **argv,
                         unsigned *operands_count, int *exit_code);

/* Say what is wrong with the command line, and how to get help. Returns CAIRN_EXIT_USAGE. */
int cairn_usage_fail(const char *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The name nearest to `word` by edit distance, or NULL when none is near. */
const char *cairn_nearest(const char *word, const char *const *names, unsigned names_count);

/* The environment form of a flag ("CAIRN_FREE_BYTES_MIN"); `out` holds CAIRN_ENV_NAME_BYTES. */
#define CAIRN_ENV_NAME_BYTES 64u
void cairn_flag_env_name(const struct cairn_flag *flag, char *out);

#endif
