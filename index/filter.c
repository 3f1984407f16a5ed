#include <stdlib.h>
#include <string.h>

#include "index/internal.h"

/* Tail slots come after the filter was made too, so there is some room for them at first. */
enum { SPARE_WORDS = 16 };

struct cairn_index_filter *cairn_index_filter_new(struct cairn_index *index)
{
    struct cairn_index_filter *filter = cairn_calloc(1, sizeof(*filter));
    filter->generation = cairn_index_current(index);
    filter->words_count =
        cairn_bitmap_words(cairn_generation_slots(filter->generation)) + SPARE_WORDS;
    filter->words = cairn_calloc(filter->words_count, sizeof(*filter->words));
    return filter;
}

static void grow(struct cairn_index_filter *filter, size_t words)
{
    size_t grown = words + words / 2;
    filter->words = cairn_realloc(filter->words, grown * sizeof(*filter->words));
    memset(filter->words + filter->words_count, 0,
           (grown - filter->words_count) * sizeof(*filter->words));
    filter->words_count = grown;
}

void cairn_index_filter_add(struct cairn_index_filter *filter, struct cairn_str key)
{
    uint32_t slot = cairn_generation_find(filter->generation, key);
    if (slot == CAIRN_SLOT_NONE)
        return;
    if (slot / 64 >= filter->words_count)
        grow(filter, slot / 64 + 1);
    filter->count += cairn_bitmap_set(filter->words, slot);
}

void cairn_index_filter_free(struct cairn_index_filter **pointer)
{
    struct cairn_index_filter *filter = *pointer;
    *pointer = NULL;
    if (filter == NULL)
        return;
    cairn_generation_unref(&filter->generation);
    free(filter->words);
    free(filter);
}
