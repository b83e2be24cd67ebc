/* Low-rank changes of some rows: y[row] += B (A x[row]), each row with the factors of its adapter.
 *
 * A layer may be a joint one, so an adapter has parts, each with a few of y's columns. Packed, of bfloat16:
 * A [r, k]: [r / 16][k / 2][16 channels][2 inputs], r padded to 16 and k to 2
 * B [n, r]: as linear_bf16.c packs its weights, r padded to 2
 * The r numbers between them are bfloat16, too; y is rounded once. A row's sums are made in the same order whatever
 * rows lie beside it.
 */
#include <stdlib.h>

#include "linear.h"
#include "parallel.h"

enum { RANKS = 16, ROWS_PER_TASK = 4 * TILE_ROWS, CHAINS = 2 };

/* With fewer products the caller's thread is done before another one wakes up. */
enum { SERIAL_PRODUCTS = 1 << 18 };

/* One part as the caller describes it, in 64-bit words. */
struct part {
    int64_t r, n, column; /* n columns of y from `column` on */
    const uint16_t *a, *b;
};

/* The rows of one adapter, and where their inner numbers begin: [num_rows, ranks]. */
struct group {
    const struct part *parts;
    int64_t num_parts, num_rows, ranks;
    const int64_t *rows;
    uint16_t *inner;
};

struct lora {
    const uint16_t *x;
    int64_t ldx, k;
    uint16_t *y;
    int64_t ldy, num_groups;
    struct group *groups;
};

static int64_t padded_rank(int64_t r) {
    return ceil_div(r, RANKS) * RANKS;
}

INLINE void down_tile(const int num_rows, const struct lora *job, const struct group *group, const uint16_t *a,
                      int64_t first_row, int64_t rank) {
    const int64_t pairs = job->k / 2;
    const uint16_t *x[TILE_ROWS];
    __m512 sums[TILE_ROWS][CHAINS];
    UNROLL(TILE_ROWS)
    for (int r = 0; r < num_rows; r++) {
        x[r] = job->x + group->rows[first_row + r] * job->ldx;
        sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    }
    int64_t at = 0;
    for (; at + CHAINS <= pairs; at += CHAINS) {
        UNROLL(CHAINS)
        for (int c = 0; c < CHAINS; c++) {
            const __m512i w = _mm512_loadu_si512(a + (at + c) * 2 * RANKS);
            UNROLL(TILE_ROWS)
            for (int r = 0; r < num_rows; r++) add_dot16(&sums[r][c], w, spread4(x[r] + 2 * (at + c)));
        }
    }
    if (at < pairs) {
        const __m512i w = _mm512_loadu_si512(a + at * 2 * RANKS);
        UNROLL(TILE_ROWS)
        for (int r = 0; r < num_rows; r++) add_dot16(&sums[r][0], w, spread4(x[r] + 2 * at));
    }
    if (job->k % 2) {
        const __m512i w = _mm512_loadu_si512(a + pairs * 2 * RANKS);
        UNROLL(TILE_ROWS)
        for (int r = 0; r < num_rows; r++) add_dot16(&sums[r][1], w, _mm512_set1_epi32(x[r][job->k - 1]));
    }
    UNROLL(TILE_ROWS)
    for (int r = 0; r < num_rows; r++)
        store16(group->inner, (first_row + r) * group->ranks + rank, HL_BF16, 0xffff,
                _mm512_add_ps(sums[r][0], sums[r][1]));
}

INLINE void up_tile(const int num_rows, const struct lora *job, const struct group *group, const struct part *part,
                    int64_t first_row, int64_t rank, int64_t channel) {
    const int64_t pairs = ceil_div(part->r, 2);
    const uint16_t *inner = group->inner + first_row * group->ranks + rank;
    const uint16_t *b = part->b + channel * 2 * pairs;
    __m512 sums[TILE_ROWS][VECTORS];
    UNROLL(TILE_ROWS)
    for (int r = 0; r < num_rows; r++) {
        UNROLL(VECTORS)
        for (int v = 0; v < VECTORS; v++) sums[r][v] = _mm512_setzero_ps();
    }
    for (int64_t at = 0; at < pairs; at++, b += 2 * CHANNELS) {
        __m512i w[VECTORS];
        UNROLL(VECTORS)
        for (int v = 0; v < VECTORS; v++) w[v] = _mm512_loadu_si512(b + 32 * v);
        UNROLL(TILE_ROWS)
        for (int r = 0; r < num_rows; r++) {
            const __m512i inputs = spread4(inner + r * group->ranks + 2 * at);
            UNROLL(VECTORS)
            for (int v = 0; v < VECTORS; v++) add_dot16(&sums[r][v], w[v], inputs);
        }
    }
    UNROLL(TILE_ROWS)
    for (int r = 0; r < num_rows; r++) {
        const int64_t start = group->rows[first_row + r] * job->ldy + part->column + channel;
        UNROLL(VECTORS)
        for (int v = 0; v < VECTORS; v++) {
            const __mmask16 mask = lanes(part->n - channel - 16 * v);
            if (mask)
                store16(job->y, start + 16 * v, HL_BF16, mask,
                        _mm512_add_ps(load16(job->y, start + 16 * v, HL_BF16, mask), sums[r][v]));
        }
    }
}

KERNEL static void run_down(const struct lora *job, const struct group *group, const uint16_t *a, int64_t row,
                            int64_t num_rows, int64_t rank) {
    DISPATCH_ROWS(down_tile, num_rows, job, group, a, row, rank);
}

KERNEL static void run_up(const struct lora *job, const struct group *group, const struct part *part, int64_t row,
                          int64_t num_rows, int64_t rank, int64_t channel) {
    DISPATCH_ROWS(up_tile, num_rows, job, group, part, row, rank, channel);
}

/* The blocks of one part, 16 ranks each or 64 channels. */
typedef int64_t (*count_blocks)(const struct part *part);

static int64_t down_blocks(const struct part *part) {
    return ceil_div(part->r, RANKS);
}

static int64_t up_blocks(const struct part *part) {
    return ceil_div(part->n, CHANNELS);
}

/* What a task is about: some rows of a group, and a block of one of its parts, whose ranks begin at `rank`. */
struct place {
    const struct group *group;
    const struct part *part;
    int64_t rank, block, row, stop;
};

static int64_t num_tasks_of(const struct group *group, count_blocks count) {
    int64_t blocks = 0;
    for (int64_t i = 0; i < group->num_parts; i++) blocks += count(group->parts + i);
    return blocks * ceil_div(group->num_rows, ROWS_PER_TASK);
}

static struct place find(const struct lora *job, int64_t task, count_blocks count) {
    const struct group *group = job->groups;
    for (int64_t n; task >= (n = num_tasks_of(group, count)); group++) task -= n;
    const int64_t chunks = ceil_div(group->num_rows, ROWS_PER_TASK), row = task % chunks * ROWS_PER_TASK;
    struct place place = {group, group->parts, 0, task / chunks, row, least(row + ROWS_PER_TASK, group->num_rows)};
    for (int64_t n; place.block >= (n = count(place.part)); place.part++) {
        place.block -= n;
        place.rank += padded_rank(place.part->r);
    }
    return place;
}

static void down_task(void *context, int64_t task) {
    const struct lora *job = context;
    const struct place at = find(job, task, down_blocks);
    const uint16_t *a = at.part->a + at.block * RANKS * 2 * ceil_div(job->k, 2);
    for (int64_t row = at.row; row < at.stop; row += TILE_ROWS)
        run_down(job, at.group, a, row, least(at.stop - row, TILE_ROWS), at.rank + at.block * RANKS);
}

static void up_task(void *context, int64_t task) {
    const struct lora *job = context;
    const struct place at = find(job, task, up_blocks);
    for (int64_t row = at.row; row < at.stop; row += TILE_ROWS)
        run_up(job, at.group, at.part, row, least(at.stop - row, TILE_ROWS), at.rank, at.block * CHANNELS);
}

static void run_stage(struct lora *job, task_function run, count_blocks count, int64_t products, int64_t num_threads) {
    int64_t num_tasks = 0;
    for (int64_t i = 0; i < job->num_groups; i++) num_tasks += num_tasks_of(job->groups + i, count);
    parallel_for(run, job, num_tasks, products < SERIAL_PRODUCTS ? 1 : num_threads);
}

/* `x` [., k], rows `ldx` apart, and `y`, rows `ldy` apart, of bfloat16. Group i has the rows `rows[starts[i]]` to
 * `rows[starts[i + 1] - 1]`, no row twice, and `num_parts[i]` parts at `parts[i]`. Returns 0, or 1 without memory. */
EXPORT int64_t hl_add_lora(const void *x, int64_t ldx, int64_t k, void *y, int64_t ldy, int64_t num_groups,
                           const struct part *const *parts, const int64_t *num_parts, const int64_t *starts,
                           const int64_t *rows, int64_t num_threads) {
    int64_t num_inner = 0, down_products = 0, up_products = 0;
    struct group *groups = malloc((size_t)num_groups * sizeof *groups + 1);
    if (!groups) return 1;
    for (int64_t i = 0; i < num_groups; i++) {
        struct group *group = groups + i;
        *group = (struct group){parts[i], num_parts[i], starts[i + 1] - starts[i], 0, rows + starts[i], NULL};
        for (int64_t p = 0; p < num_parts[i]; p++) {
            group->ranks += padded_rank(parts[i][p].r);
            up_products += group->num_rows * parts[i][p].r * parts[i][p].n;
        }
        down_products += group->num_rows * group->ranks * k;
        num_inner += group->num_rows * group->ranks;
    }
    uint16_t *inner = malloc((size_t)num_inner * sizeof *inner + 1), *next = inner;
    for (int64_t i = 0; inner && i < num_groups; i++) {
        groups[i].inner = next;
        next += groups[i].num_rows * groups[i].ranks;
    }
    if (inner) {
        struct lora job = {x, ldx, k, y, ldy, num_groups, groups};
        run_stage(&job, down_task, down_blocks, down_products, num_threads);
        run_stage(&job, up_task, up_blocks, up_products, num_threads);
    }
    free(inner);
    free(groups);
    return inner ? 0 : 1;
}

/* `weight` [r, k], contiguous, of bfloat16. */
EXPORT int64_t hl_pack_lora(const void *weight, int64_t r, int64_t k, void *packed) {
    const uint16_t *from = weight;
    uint16_t *to = packed;
    const int64_t pairs = ceil_div(k, 2);
    for (int64_t rank = 0; rank < padded_rank(r); rank++) {
        uint16_t *block = to + rank / RANKS * RANKS * 2 * pairs + rank % RANKS * 2;
        for (int64_t at = 0; at < 2 * pairs; at++)
            block[at / 2 * 2 * RANKS + at % 2] = rank < r && at < k ? from[rank * k + at] : 0;
    }
    return 0;
}
