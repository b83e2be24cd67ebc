/* Shares the attention of a step between threads: which queries go together, and where one alone is too much. */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "attention.h"
#include "parallel.h"

/* Many rows pay for packing a block; few rows a unit give all threads work. */
enum { MANY_ROWS = 256, FEW_ROWS = 64, UNITS_PER_THREAD = 4, LINE = 64 };

/* With fewer products the caller's thread is done before another one wakes up. */
enum { SERIAL_PRODUCTS = 1 << 17 };

/* Some blocks of one unit: all of them if `part` is negative, and the rows of the result are written; else one, whose
 * state is left in `parts` from there on. */
struct task {
    struct unit unit;
    int64_t first_block, stop_block, part;
};

struct run {
    const struct attention *job;
    const struct sequence *sequences;
    int64_t num_sequences, num_threads;
    int64_t queries_per_unit;
    int64_t num_units, num_blocks, num_products; /* of all units */
    struct task *tasks;
    int64_t num_tasks, parts_floats;
    float *parts;
    char *scratch; /* of each thread */
    _Atomic int64_t next_task;
};

static int64_t lines(int64_t bytes) {
    return ceil_div(bytes, LINE) * LINE;
}

static int64_t state_floats(const struct attention *job, int64_t rows) {
    return rows * (16 + padded_dim(job->value_dim)) + ceil_div(rows, 16) * 16;
}

static struct state state_in(float *memory, int64_t rows) {
    float *sums = memory + ceil_div(rows, 16) * 16;
    return (struct state){memory, sums, sums + 16 * rows};
}

/* The state of rows that have seen nothing. */
static struct state empty_state(const struct attention *job, float *memory, int64_t rows) {
    memset(memory, 0, (size_t)state_floats(job, rows) * sizeof(float));
    for (int64_t row = 0; row < rows; row++) memory[row] = -INFINITY;
    return state_in(memory, rows);
}

static int64_t rows_of(const struct attention *job, const struct unit *unit) {
    return unit->num_queries * job->group;
}

/* The blocks that a unit sees. */
static void find_blocks(const struct attention *job, const struct unit *unit, int64_t *first, int64_t *stop) {
    const int64_t position = unit->sequence->first_position + unit->first_query;
    *first = first_key(job, position) / BLOCK_KEYS;
    *stop = ceil_div(position + unit->num_queries, BLOCK_KEYS);
}

/* Calls `visit` for each unit, of a sequence those with the most keys first. */
static void for_each_unit(struct run *run, void (*visit)(struct run *, const struct unit *)) {
    for (int64_t i = 0; i < run->num_sequences; i++) {
        const struct sequence *sequence = run->sequences + i;
        for (int64_t part = ceil_div(sequence->num_queries, run->queries_per_unit) - 1; part >= 0; part--)
            for (int64_t head = 0; head < run->job->num_kv_heads; head++) {
                const int64_t first = part * run->queries_per_unit;
                const int64_t num_queries = least(run->queries_per_unit, sequence->num_queries - first);
                visit(run, &(struct unit){sequence, head, first, num_queries});
            }
    }
}

static void count_unit(struct run *run, const struct unit *unit) {
    int64_t first, stop;
    find_blocks(run->job, unit, &first, &stop);
    run->num_units++;
    run->num_blocks += stop - first;
    run->num_products +=
        (stop - first) * BLOCK_KEYS * rows_of(run->job, unit) * (run->job->key_dim + run->job->value_dim);
}

static void count_units(struct run *run, int64_t rows, int64_t most_queries) {
    const int64_t queries = least(rows / run->job->group, most_queries);
    run->queries_per_unit = queries > 1 ? queries : 1;
    run->num_units = run->num_blocks = run->num_products = 0;
    for_each_unit(run, count_unit);
}

/* Counts a task, and writes it down once there is room. */
static void add_task(struct run *run, const struct task *task) {
    if (run->tasks) run->tasks[run->num_tasks] = *task;
    run->num_tasks++;
}

/* One task for a unit, or one a block where few rows have so large a share of the work that a thread would be late. */
static void add_tasks(struct run *run, const struct unit *unit) {
    int64_t first, stop;
    find_blocks(run->job, unit, &first, &stop);
    const int has_few_rows = unit->num_queries == 1 || rows_of(run->job, unit) <= FEW_ROWS;
    const int64_t share = (stop - first) * UNITS_PER_THREAD * run->num_threads;
    if (!has_few_rows || run->num_threads == 1 || stop - first == 1 || share <= run->num_blocks) {
        add_task(run, &(struct task){*unit, first, stop, -1});
        return;
    }
    for (int64_t block = first; block < stop; block++) {
        add_task(run, &(struct task){*unit, block, block + 1, run->parts_floats});
        run->parts_floats += state_floats(run->job, rows_of(run->job, unit));
    }
}

/* Returns 0 without memory. */
static int lay_out_tasks(struct run *run) {
    for_each_unit(run, add_tasks);
    run->tasks = malloc((size_t)run->num_tasks * sizeof(struct task));
    if (!run->tasks) return 0;
    run->num_tasks = run->parts_floats = 0;
    for_each_unit(run, add_tasks);
    return 1;
}

/* Where one thread's buffers and the state of its unit lie in its memory, and the bytes of all. */
static int64_t lay_out(const struct run *run, int64_t *keys, int64_t *values, int64_t *scores, int64_t *state) {
    const struct attention *job = run->job;
    const int64_t rows = run->queries_per_unit * job->group, words = words_of(job->key_dim, job->format);
    const int64_t panels = ceil_div(job->value_dim, PANEL);
    *keys = lines(4 * rows * words);
    *values = *keys + 4 * BLOCK_KEYS * words;
    *scores = *values + 4 * panels * PANEL * words_of(BLOCK_KEYS, job->format);
    *state = *scores + 4 * MOST_ROWS * BLOCK_KEYS;
    return *state + lines(4 * state_floats(job, rows));
}

/* One thread: draws tasks until none is left. */
static void work(void *context, int64_t thread) {
    struct run *run = context;
    int64_t keys, values, scores, own_state;
    char *memory = run->scratch + thread * lay_out(run, &keys, &values, &scores, &own_state);
    const struct scratch scratch = {(void *)memory, (void *)(memory + keys), (void *)(memory + values),
                                    (void *)(memory + scores)};
    for (;;) {
        const int64_t next = atomic_fetch_add_explicit(&run->next_task, 1, memory_order_relaxed);
        if (next >= run->num_tasks) return;
        const struct task *task = run->tasks + next;
        float *where = task->part < 0 ? (void *)(memory + own_state) : run->parts + task->part;
        const struct state state = empty_state(run->job, where, rows_of(run->job, &task->unit));
        pack_queries(run->job, &task->unit, scratch.queries);
        for (int64_t block = task->first_block; block < task->stop_block; block++)
            attend_block(run->job, &task->unit, block, &scratch, &state);
        if (task->part < 0) finish_rows(run->job, &task->unit, &state);
    }
}

static int is_same(const struct unit *a, const struct unit *b) {
    return a->sequence == b->sequence && a->head == b->head && a->first_query == b->first_query;
}

/* Merges the blocks of units that were split, in order. */
static void join_parts(const struct run *run) {
    const struct task *task = run->tasks, *stop = run->tasks + run->num_tasks;
    while (task < stop) {
        const struct task *first = task++;
        if (first->part < 0) continue;
        const int64_t rows = rows_of(run->job, &first->unit);
        const struct state state = state_in(run->parts + first->part, rows);
        for (; task < stop && is_same(&task->unit, &first->unit); task++) {
            const struct state part = state_in(run->parts + task->part, rows);
            merge_states(run->job, rows, &part, &state);
        }
        finish_rows(run->job, &first->unit, &state);
    }
}

/* Returns 0 without memory. */
static int attend_units(struct run *run) {
    int64_t keys, values, scores, state;
    const int64_t num_threads = least(run->num_threads, run->num_tasks);
    const int64_t scratch_bytes = num_threads * lay_out(run, &keys, &values, &scores, &state);
    run->scratch = aligned_alloc(LINE, (size_t)(scratch_bytes + lines(4 * run->parts_floats)));
    if (!run->scratch) return 0;
    run->parts = (void *)(run->scratch + scratch_bytes);
    parallel_for(work, run, num_threads, num_threads);
    join_parts(run);
    free(run->scratch);
    return 1;
}

int64_t attend(const struct attention *job, const struct sequence *sequences, int64_t num_sequences,
               int64_t num_threads) {
    struct run run = {.job = job,
                      .sequences = sequences,
                      .num_sequences = num_sequences,
                      .num_threads = num_threads > 1 ? num_threads : 1};
    int64_t most_queries = 0;
    for (int64_t i = 0; i < num_sequences; i++)
        if (sequences[i].num_queries > most_queries) most_queries = sequences[i].num_queries;
    if (most_queries == 0) return 0;
    count_units(&run, MANY_ROWS, most_queries);
    if (run.num_products < SERIAL_PRODUCTS) run.num_threads = 1;
    if (run.num_units < UNITS_PER_THREAD * run.num_threads) count_units(&run, FEW_ROWS, most_queries);
    if (!lay_out_tasks(&run)) return 1;
    const int done = attend_units(&run);
    free(run.tasks);
    return done ? 0 : 1;
}
