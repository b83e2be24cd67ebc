/* bfloat16 weights, exact, times bfloat16 activations; summed in float32, two inputs at a time, in order.
 *
 * Packed: [n / 64][k / 2][4 vectors][16 channels][2 inputs] of bfloat16, n padded to 64 and k to 2.
 */
#include <stdlib.h>
#include <string.h>

#include "linear.h"
#include "parallel.h"

enum { LANE_INPUTS = 2 };
/* bytes from what is used to what is fetched; a single row is slower with more */
enum { AHEAD = 2048 };

/* Rows of bfloat16 with an even number of inputs. */
struct rows16 {
    int64_t k, ld;
    const uint16_t *values;
};

INLINE void tile(const int num_rows, const struct linear *job, int64_t block, int64_t first_row) {
    const struct rows16 *rows = job->rows;
    const uint16_t *x = rows->values + first_row * rows->ld;
    const uint16_t *weight = (const uint16_t *)job->weight + block * CHANNELS * rows->k;
    __m512 sums[TILE_ROWS][VECTORS];
    UNROLL(TILE_ROWS)
    for (int r = 0; r < num_rows; r++) {
        UNROLL(VECTORS)
        for (int v = 0; v < VECTORS; v++) sums[r][v] = _mm512_setzero_ps();
    }
    for (int64_t at = 0; at < rows->k; at += LANE_INPUTS, weight += CHANNELS * LANE_INPUTS) {
        prefetch(weight + AHEAD / 2, 64 * VECTORS);
        __m512i w[VECTORS];
        UNROLL(VECTORS)
        for (int v = 0; v < VECTORS; v++) w[v] = _mm512_loadu_si512(weight + 32 * v);
        UNROLL(TILE_ROWS)
        for (int r = 0; r < num_rows; r++) {
            const __m512i inputs = spread4(x + r * rows->ld + at);
            UNROLL(VECTORS)
            for (int v = 0; v < VECTORS; v++) add_dot16(&sums[r][v], w[v], inputs);
        }
    }
    UNROLL(TILE_ROWS)
    for (int r = 0; r < num_rows; r++) {
        UNROLL(VECTORS)
        for (int v = 0; v < VECTORS; v++) store_sums(job, first_row + r, block * CHANNELS + 16 * v, sums[r][v]);
    }
}

KERNEL static void run_tile(const struct linear *job, int64_t block, int64_t first_row, int64_t num_rows) {
    DISPATCH_ROWS(tile, num_rows, job, block, first_row);
}

/* A copy of rows whose number of inputs is odd, with a zero behind each; free it. NULL without memory. */
static uint16_t *padded(const struct linear *job) {
    const int64_t k = job->k + 1;
    uint16_t *copy = malloc((size_t)(2 * job->m * k));
    for (int64_t row = 0; copy && row < job->m; row++) {
        memcpy(copy + row * k, (const uint16_t *)job->x + row * job->ldx, (size_t)(2 * job->k));
        copy[row * k + job->k] = 0;
    }
    return copy;
}

/* Returns 0, or 1 without memory. */
EXPORT int64_t hl_linear_bf16(const void *x, int64_t ldx, int64_t m, int64_t n, int64_t k, const void *weight,
                              const float *bias, void *out, int64_t num_threads) {
    struct linear job = {x, ldx, m, n, k, HL_BF16, weight, NULL, bias, out, num_threads, NULL};
    uint16_t *copy = k % LANE_INPUTS ? padded(&job) : NULL;
    if (k % LANE_INPUTS && !copy) return 1;
    const struct rows16 rows = copy ? (struct rows16){k + 1, k + 1, copy} : (struct rows16){k, ldx, x};
    job.rows = &rows;
    run_linear(&job, run_tile);
    free(copy);
    return 0;
}

struct packing {
    const uint16_t *weight;
    int64_t n, k;
    uint16_t *packed;
};

static void pack_channel(void *context, int64_t channel) {
    const struct packing *job = context;
    const int64_t padded_k = ceil_div(job->k, LANE_INPUTS) * LANE_INPUTS;
    uint16_t *to = job->packed + channel / CHANNELS * CHANNELS * padded_k + channel % CHANNELS * LANE_INPUTS;
    for (int64_t at = 0; at < padded_k; at++) {
        const int exists = channel < job->n && at < job->k;
        to[at / LANE_INPUTS * CHANNELS * LANE_INPUTS + at % LANE_INPUTS] =
            exists ? job->weight[channel * job->k + at] : 0;
    }
}

/* `weight` [n, k], contiguous. */
EXPORT void hl_pack_bf16(const void *weight, int64_t n, int64_t k, void *packed, int64_t num_threads) {
    struct packing job = {weight, n, k, packed};
    parallel_for(pack_channel, &job, ceil_div(n, CHANNELS) * CHANNELS, num_threads);
}
