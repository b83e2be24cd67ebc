/* Work shared between the threads of one pool: the caller, and workers that are made when they are first needed. */
#pragma once

#include <stdint.h>

typedef void (*task_function)(void *context, int64_t task);

/* Calls `run(context, i)` for i in [0, num_tasks), in any order, on at most `num_threads` threads; returns when all
 * are done. Tasks are drawn one by one, so that a thread which loses its core holds up no more than one of them, and
 * a worker that never got a core holds up none. While another thread's loop has the pool, the caller works alone. */
void parallel_for(task_function run, void *context, int64_t num_tasks, int64_t num_threads);
