/* y = x W^T + bias over a packed matrix, for any number of rows.
 *
 * All formats keep 64 output channels together, as 4 vectors of 16 lanes, with the inputs that one instruction sums in
 * the lane: a block of 64 channels is one stream over K. Rows go through in tiles of up to 6, whose 24 accumulators
 * stay in registers. A row's sums are made in the same order whatever the tile, so no row depends on its neighbours.
 */
#pragma once

#include "simd.h"

enum { CHANNELS = 64, VECTORS = 4, TILE_ROWS = 6 };

struct linear {
    const void *x; /* [m, k] of `format`, rows `ldx` apart */
    int64_t ldx;
    int64_t m, n, k;
    int64_t format; /* of x and out */
    const void *weight;
    const float *scales; /* one a channel, padded to whole blocks */
    const float *bias;   /* [n] or NULL */
    void *out;           /* [m, n], contiguous */
    int64_t num_threads;
    const void *rows; /* x as the format needs it, made by its kernel */
};

/* Computes rows [first_row, first_row + num_rows) of one block of channels; num_rows is 1 to TILE_ROWS. */
typedef void (*linear_tile)(const struct linear *job, int64_t block, int64_t first_row, int64_t num_rows);

/* Runs `tile` over everything. */
void run_linear(const struct linear *job, linear_tile tile);

/* Fetches `bytes` of weights, at most 18 lines of 64, that are used some blocks later. The processor's own prefetch
 * stops at every page, and the instructions in flight reach few bytes ahead, the fewer the more rows there are. What
 * lies behind a block is the beginning of the next; behind the last one nothing is read. */
INLINE void prefetch(const void *weight, int64_t bytes) {
    UNROLL(18)
    for (int64_t at = 0; at < bytes; at += 64) _mm_prefetch((const char *)weight + at, _MM_HINT_T0);
}

/* Adds the bias to the 16 sums of channels from `channel` on, and stores those that exist. */
INLINE void store_sums(const struct linear *job, int64_t row, int64_t channel, __m512 sums) {
    const __mmask16 mask = lanes(job->n - channel);
    if (!mask) return;
    if (job->bias) sums = _mm512_add_ps(sums, _mm512_maskz_loadu_ps(mask, job->bias + channel));
    store16(job->out, row * job->n + channel, (int)job->format, mask, sums);
}
