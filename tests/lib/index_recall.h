/* Recall floors of an approximate kind, for test_index_ivf.c and test_index_graph.c. */
#ifndef CAIRN_TESTS_INDEX_RECALL_H
#define CAIRN_TESTS_INDEX_RECALL_H

#include "tests/lib/index_fixture.h"

/* Build from clustered vectors; queries are of the same kind but not among them. Recall of k = 10
 * and 100, after deletes and re-upserts, at every filter selectivity, and after a restart must
 * reach `floor`, and exact searches must equal the model's. Returns the recall@10 of the untouched
 * index. */
double check_recall(const struct cairn_index_params *params, enum cairn_metric metric,
                    double floor);

#endif
