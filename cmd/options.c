#include "cmd/options.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_BYTES_MAX   64u
#define HELP_FLAG_COLUMN 28

void cairn_flag_env_name(const struct cairn_flag *flag, char *out)
{
    int len = snprintf(out, CAIRN_ENV_NAME_BYTES, "CAIRN_%s", flag->name);
    for (int i = 0; i < len && out[i] != '\0'; i++)
        out[i] = out[i] == '-' ? '_' : (char)toupper((unsigned char)out[i]);
}

/* Optimal string alignment distance (a swap of neighbours counts once), O(len a * len b). */
static unsigned edit_distance(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    unsigned rows[3][WORD_BYTES_MAX + 1];
    if (a_len > WORD_BYTES_MAX || b_len > WORD_BYTES_MAX)
        return WORD_BYTES_MAX;
    for (size_t j = 0; j <= b_len; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= a_len; i++) {
        unsigned *row = rows[i % 3];
        const unsigned *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);
            if (above[j] + 1 < best)
                best = above[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                above2[j - 2] + 1 < best)
                best = above2[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[a_len % 3][b_len];
}

const char *cairn_nearest(const char *word, const char *const *names, unsigned names_count)
{
    const char *nearest = NULL;
    unsigned best = (unsigned)strlen(word) / 3 + 1;
    for (unsigned i = 0; i < names_count; i++) {
        unsigned distance = edit_distance(word, names[i]);
        if (distance <= best && (nearest == NULL || distance < best)) {
            best = distance;
            nearest = names[i];
        }
    }
    return nearest;
}

int cairn_usage_fail(const char *command, const char *format, ...)
{
    va_list args;
    fprintf(stderr, "cairn %s: ", command);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\nTry 'cairn %s --help'.\n", command);
    return CAIRN_EXIT_USAGE;
}

static void print_help(const struct cairn_usage *usage)
{
    printf("Usage: cairn %s%s%s%s\n\n%s\n", usage->command, usage->arguments[0] != '\0' ? " " : "",
           usage->arguments, usage->flags_count > 0 ? " [FLAGS]" : "", usage->summary);
    if (usage->flags_count > 0)
        printf("\nFlags, each with its environment form:\n");
    for (unsigned i = 0; i < usage->flags_count; i++) {
        const struct cairn_flag *flag = &usage->flags[i];
        char left[96], env[CAIRN_ENV_NAME_BYTES];
        snprintf(left, sizeof(left), "%s%s%s%s", flag->name[1] == '\0' ? "-" : "--", flag->name,
                 flag->value != NULL ? " " : "", flag->value != NULL ? flag->value : "");
        cairn_flag_env_name(flag, env);
        printf("  %-*s  %s\n  %-*s  %s\n", HELP_FLAG_COLUMN, left, flag->help, HELP_FLAG_COLUMN, "",
               env);
    }
    if (usage->examples[0] != '\0')
        printf("\nExamples:\n%s", usage->examples);
}

/* "64m" -> 67108864. False when it is no such number. */
static bool parse_number(const char *text, bool suffixes, uint64_t *out)
{
    char *end;
    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    unsigned shift = 0;
    if (suffixes && *end != '\0') {
        static const char letters[] = "kmg";
        const char *letter = strchr(letters, tolower((unsigned char)*end));
        if (letter == NULL || end[1] != '\0')
            return false;
        shift = 10 * (unsigned)(letter - letters + 1);
        end++;
    }
    if (errno != 0 || *end != '\0' || (number << shift) >> shift != number)
        return false;
    *out = number << shift;
    return true;
}

static bool parse_switch(const char *text, bool *out)
{
    static const char *const yes[] = {"1", "true", "yes", "on"};
    static const char *const no[] = {"0", "false", "no", "off"};
    for (unsigned i = 0; i < 4; i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *out = strcmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

static bool add_text(struct cairn_texts *texts, const char *text)
{
    if (texts->count == CAIRN_TEXTS_MAX)
        return false;
    texts->at[texts->count++] = text;
    return true;
}

/* Set a flag from its text. `shown` names it in errors. Returns false after saying what is wrong.
 */
static bool set_flag(const struct cairn_usage *usage, const struct cairn_flag *flag,
                     const char *shown, const char *text)
{
    uint64_t number = 0;
    switch (flag->kind) {
    case CAIRN_FLAG_TEXT:
        *(const char **)flag->out = text;
        return true;
    case CAIRN_FLAG_TEXTS:
        if (add_text(flag->out, text))
            return true;
        cairn_usage_fail(usage->command, "%s is given more than %u times", shown, CAIRN_TEXTS_MAX);
        return false;
    case CAIRN_FLAG_SWITCH:
        if (parse_switch(text, flag->out))
            return true;
        cairn_usage_fail(usage->command, "%s is true or false, not '%s'", shown, text);
        return false;
    case CAIRN_FLAG_COUNT:
    case CAIRN_FLAG_BYTES:
        break;
    }
    if (!parse_number(text, flag->kind == CAIRN_FLAG_BYTES, &number) || number < flag->min ||
        number > flag->max) {
        cairn_usage_fail(usage->command, "%s is a number from %llu to %llu, not '%s'", shown,
                         (unsigned long long)flag->min, (unsigned long long)flag->max, text);
        return false;
    }
    if (flag->kind == CAIRN_FLAG_BYTES)
        *(uint64_t *)flag->out = number;
    else
        *(uint32_t *)flag->out = (uint32_t)number;
    return true;
}

static bool set_from_environment(const struct cairn_usage *usage, const struct cairn_flag *flag)
{
    char env[CAIRN_ENV_NAME_BYTES];
    cairn_flag_env_name(flag, env);
    char *text = getenv(env);
    if (text == NULL || text[0] == '\0')
        return true;
    if (flag->kind != CAIRN_FLAG_TEXTS)
        return set_flag(usage, flag, env, text);
    /* The words live as long as the environment does, so they are cut in place. */
    char *rest = NULL;
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        if (!set_flag(usage, flag, env, word))
            return false;
    }
    return true;
}

/* The flag that `word` (past its dashes, up to `len`) names; NULL when there is none. */
static const struct cairn_flag *find_flag(const struct cairn_usage *usage, const char *word,
                                          size_t len, bool is_long)
{
    for (unsigned i = 0; i < usage->flags_count; i++) {
        const struct cairn_flag *flag = &usage->flags[i];
        if ((is_long || len == 1) && strlen(flag->name) == len &&
            memcmp(flag->name, word, len) == 0)
            return flag;
    }
    return NULL;
}

static int unknown_flag(const struct cairn_usage *usage, const char *word, size_t name_len)
{
    const char *names[CAIRN_FLAGS_MAX];
    char name[WORD_BYTES_MAX];
    for (unsigned i = 0; i < usage->flags_count; i++)
        names[i] = usage->flags[i].name;
    snprintf(name, sizeof(name), "%.*s", (int)name_len, word + strspn(word, "-"));
    const char *nearest = cairn_nearest(name, names, usage->flags_count);
    if (nearest != NULL)
        return cairn_usage_fail(usage->command, "unknown flag '%s'; did you mean --%s?", word,
                                nearest);
    return cairn_usage_fail(usage->command, "unknown flag '%s'", word);
}

/* Handle the flag at argv[*at], moving *at past its value, and mark it in *seen, one bit a flag.
 * False when it is wrong. */
static bool parse_flag(const struct cairn_usage *usage, int argc, char **argv, int *at,
                       uint64_t *seen)
{
    const char *word = argv[*at];
    bool is_long = word[1] == '-';
    const char *name = word + (is_long ? 2 : 1);
    const char *equals = is_long ? strchr(name, '=') : NULL;
    size_t name_len = equals != NULL ? (size_t)(equals - name) : strlen(name);
    const struct cairn_flag *flag = find_flag(usage, name, name_len, is_long);
    char shown[WORD_BYTES_MAX];

    if (flag == NULL) {
        unknown_flag(usage, word, name_len);
        return false;
    }
    *seen |= UINT64_C(1) << (flag - usage->flags);
    snprintf(shown, sizeof(shown), "--%s", flag->name);
    if (equals != NULL)
        return set_flag(usage, flag, shown, equals + 1);
    if (flag->kind == CAIRN_FLAG_SWITCH) {
        *(bool *)flag->out = true;
        return true;
    }
    if (*at + 1 >= argc) {
        cairn_usage_fail(usage->command, "%s needs a value: %s", shown, flag->value);
        return false;
    }
    return set_flag(usage, flag, shown, argv[++*at]);
}

/* -k10 and -k=10 are not taken: one way to write each thing. */
bool cairn_options_parse(const struct cairn_usage *usage, int argc, char **argv,
                         unsigned *operands_count, int *exit_code)
{
    unsigned operands = 0;
    bool flags_ended = false;
    uint64_t seen = 0;
    assert(usage->flags_count <= CAIRN_FLAGS_MAX);
    *exit_code = CAIRN_EXIT_USAGE;
    *operands_count = 0;
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(usage);
            *exit_code = CAIRN_EXIT_OK;
            return false;
        }
    }
    for (int i = 0; i < argc; i++) {
        if (!flags_ended && strcmp(argv[i], "--") == 0)
            flags_ended = true;
        else if (flags_ended || argv[i][0] != '-' || argv[i][1] == '\0')
            argv[operands++] = argv[i];
        else if (!parse_flag(usage, argc, argv, &i, &seen))
            return false;
    }
    for (unsigned i = 0; i < usage->flags_count; i++) {
        if ((seen >> i & 1) == 0 && !set_from_environment(usage, &usage->flags[i]))
            return false;
    }
    if (operands < usage->operands_min || operands > usage->operands_max) {
        cairn_usage_fail(usage->command, "%s: cairn %s %s",
                         operands < usage->operands_min ? "an argument is missing"
                                                        : "too many arguments",
                         usage->command, usage->arguments);
        return false;
    }
    *operands_count = operands;
    *exit_code = CAIRN_EXIT_OK;
    return true;
}
