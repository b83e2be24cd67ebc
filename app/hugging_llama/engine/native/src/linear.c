#include "linear.h"

#include "parallel.h"

/* Blocks of channels are shared out first: each is then read by one thread, once. Only when they are too few for the
 * threads are the rows cut as well. */
enum { TASKS_PER_THREAD = 4, MIN_ROWS_PER_TASK = 4 * TILE_ROWS };

/* With fewer products the caller's thread is done before another one wakes up. */
enum { SERIAL_PRODUCTS = 1 << 18 };

struct run {
    const struct linear *job;
    linear_tile tile;
    int64_t num_blocks, rows_per_task;
};

static void run_task(void *context, int64_t task) {
    const struct run *run = context;
    const int64_t first = task / run->num_blocks * run->rows_per_task;
    const int64_t stop = least(first + run->rows_per_task, run->job->m);
    for (int64_t row = first; row < stop; row += TILE_ROWS)
        run->tile(run->job, task % run->num_blocks, row, least(stop - row, TILE_ROWS));
}

void run_linear(const struct linear *job, linear_tile tile) {
    const int64_t num_blocks = ceil_div(job->n, CHANNELS);
    const int64_t wanted = ceil_div(TASKS_PER_THREAD * job->num_threads, num_blocks);
    int64_t rows_per_task = ceil_div(ceil_div(job->m, wanted), TILE_ROWS) * TILE_ROWS;
    if (rows_per_task < MIN_ROWS_PER_TASK) rows_per_task = MIN_ROWS_PER_TASK;
    struct run run = {job, tile, num_blocks, rows_per_task};
    const int64_t num_threads = job->m * job->n * job->k < SERIAL_PRODUCTS ? 1 : job->num_threads;
    parallel_for(run_task, &run, num_blocks * ceil_div(job->m, rows_per_task), num_threads);
}
