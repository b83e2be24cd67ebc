#include "parallel.h"

#include <stdatomic.h>
#include <stddef.h>

#include "simd.h"

/* libgomp's entry behind `#pragma omp parallel`. We are handed the one that torch uses instead of linking another:
 * two runtimes in a process are two pools of threads on the same cores. */
typedef void (*fork_join_function)(void (*body)(void *), void *data, unsigned num_threads, unsigned flags);

static fork_join_function fork_join = NULL;

struct loop {
    task_function run;
    void *context;
    int64_t num_tasks;
    _Atomic int64_t next;
};

static void draw(void *data) {
    struct loop *loop = data;
    for (;;) {
        const int64_t task = atomic_fetch_add_explicit(&loop->next, 1, memory_order_relaxed);
        if (task >= loop->num_tasks) return;
        loop->run(loop->context, task);
    }
}

void parallel_for(task_function run, void *context, int64_t num_tasks, int64_t num_threads) {
    struct loop loop = {run, context, num_tasks, 0};
    if (num_threads > num_tasks) num_threads = num_tasks;
    if (fork_join == NULL || num_threads <= 1)
        draw(&loop);
    else
        fork_join(draw, &loop, (unsigned)num_threads, 0);
}

/* Called once, before any kernel. NULL: everything runs on the caller's thread. */
EXPORT void hl_set_fork_join(void *gomp_parallel) {
    fork_join = (fork_join_function)gomp_parallel;
}
