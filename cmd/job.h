/* Jobs of a server as people see them, and waiting for one. */
#ifndef CAIRN_CMD_JOB_H
#define CAIRN_CMD_JOB_H

#include "cmd/command.h"

/* Print a job's state and its moves. */
void cairn_job_print(struct cairn_json job);
/* Print jobs as a table. */
void cairn_jobs_print(struct cairn_json_iter jobs);

/* Poll a job until it has ended, showing its progress: a bar on a terminal, elsewhere a line for
 * every change. A server that does not answer is asked again for the remote's timeout. Prints the
 * job at the end (as JSON when that was asked for). Returns the exit code: 1 unless it succeeded.
 */
int cairn_job_wait(struct cairn_remote *remote, const char *id);

#endif
