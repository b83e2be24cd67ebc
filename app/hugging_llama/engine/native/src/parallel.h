/* Work shared between the threads of the OpenMP runtime that torch has loaded. */
#pragma once

#include <stdint.h>

typedef void (*task_function)(void *context, int64_t task);

/* Calls `run(context, i)` for i in [0, num_tasks), in any order, on at most `num_threads` threads; returns when all
 * are done. Tasks are drawn one by one, so that a thread which loses its core holds up no more than one of them. */
void parallel_for(task_function run, void *context, int64_t num_tasks, int64_t num_threads);
