/* int8 weights, one scale a channel, times int8 activations, one scale a row.
 *
 * Packed: [n / 64][k / 4][4 vectors][16 channels][4 inputs] of unsigned bytes, weight + 128, since the instruction
 * (VPDPBUSD) takes one unsigned and one signed operand; 128 times the row's sum is taken off at the start. n is padded
 * to 64 and k to 4. All sums are exact integers: 255 * 127 * k must stay below 2^31, so k is at most MAX_K.
 */
#include <stdlib.h>

#include "linear.h"
#include "parallel.h"
#include "rows8.h"

enum { ZERO = 128, LANE_INPUTS = 4, MAX_K = 65536 };
/* bytes from what is used to what is fetched */
enum { AHEAD = 4096 };

INLINE void tile(const int num_rows, const struct linear *job, int64_t block, int64_t first_row) {
    const struct rows8 *rows = job->rows;
    const int8_t *x = rows->values + first_row * rows->k;
    const uint8_t *weight = (const uint8_t *)job->weight + block * CHANNELS * rows->k;
    __m512i sums[TILE_ROWS][VECTORS];
    UNROLL(TILE_ROWS)
    for (int r = 0; r < num_rows; r++) {
        UNROLL(VECTORS)
        for (int v = 0; v < VECTORS; v++) sums[r][v] = spread4(rows->offsets + first_row + r);
    }
    for (int64_t at = 0; at < rows->k; at += LANE_INPUTS, weight += CHANNELS * LANE_INPUTS) {
        prefetch(weight + AHEAD, 64 * VECTORS);
        __m512i w[VECTORS];
        UNROLL(VECTORS)
        for (int v = 0; v < VECTORS; v++) w[v] = _mm512_loadu_si512(weight + 64 * v);
        UNROLL(TILE_ROWS)
        for (int r = 0; r < num_rows; r++) {
            const __m512i inputs = spread4(x + r * rows->k + at);
            UNROLL(VECTORS)
            for (int v = 0; v < VECTORS; v++) add_dot8(&sums[r][v], w[v], inputs);
        }
    }
    UNROLL(TILE_ROWS)
    for (int r = 0; r < num_rows; r++) {
        UNROLL(VECTORS)
        for (int v = 0; v < VECTORS; v++) {
            const int64_t channel = block * CHANNELS + 16 * v;
            const __m512 scale =
                _mm512_mul_ps(_mm512_loadu_ps(job->scales + channel), _mm512_set1_ps(rows->scales[first_row + r]));
            store_sums(job, first_row + r, channel, _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r][v]), scale));
        }
    }
}

KERNEL static void run_tile(const struct linear *job, int64_t block, int64_t first_row, int64_t num_rows) {
    DISPATCH_ROWS(tile, num_rows, job, block, first_row);
}

/* Returns 0, or 1 without memory. */
EXPORT int64_t hl_linear_int8(const void *x, int64_t ldx, int64_t m, int64_t n, int64_t k, int64_t format,
                              const void *weight, const float *scales, const float *bias, void *out,
                              int64_t num_threads) {
    struct linear job = {x, ldx, m, n, k, format, weight, scales, bias, out, num_threads, NULL};
    struct rows8 rows;
    const int64_t padded_k = ceil_div(k, LANE_INPUTS) * LANE_INPUTS;
    if (!make_rows8(&rows, &job, padded_k, padded_k, ZERO)) return 1;
    job.rows = &rows;
    run_linear(&job, run_tile);
    free_rows8(&rows);
    return 0;
}

struct packing {
    const void *weight;
    int64_t n, k, padded_k;
    int format;
    uint8_t *packed;
    float *scales;
};

KERNEL static void pack_channel(void *context, int64_t channel) {
    const struct packing *job = context;
    const int64_t base = channel * job->k;
    __m512 largest = _mm512_setzero_ps();
    if (channel < job->n)
        for (int64_t at = 0; at < job->k; at += 16)
            largest =
                _mm512_max_ps(largest, _mm512_abs_ps(load16(job->weight, base + at, job->format, lanes(job->k - at))));
    const float scale = _mm512_reduce_max_ps(largest) / 127.0f;
    const float inverse = scale > 1e-36f ? 1.0f / scale : 0.0f;
    job->scales[channel] = scale;
    uint8_t *to = job->packed + channel / CHANNELS * CHANNELS * job->padded_k + channel % CHANNELS * LANE_INPUTS;
    for (int64_t at = 0; at < job->padded_k; at += 16) {
        const __mmask16 mask = channel < job->n ? lanes(job->k - at) : 0;
        const __m512 value = _mm512_mul_ps(load16(job->weight, base + at, job->format, mask), _mm512_set1_ps(inverse));
        int32_t whole[16];
        _mm512_storeu_si512(whole, _mm512_cvtps_epi32(value));
        for (int64_t i = 0; i < least(16, job->padded_k - at); i++)
            to[(at + i) / LANE_INPUTS * CHANNELS * LANE_INPUTS + i % LANE_INPUTS] = (uint8_t)(whole[i] + ZERO);
    }
}

/* `weight` [n, k] of `format`, contiguous and finite, to `packed` and `scales` [n padded to 64]. */
EXPORT void hl_pack_int8(const void *weight, int64_t n, int64_t k, int64_t format, void *packed, float *scales,
                         int64_t num_threads) {
    struct packing job = {weight, n, k, ceil_div(k, LANE_INPUTS) * LANE_INPUTS, (int)format, packed, scales};
    parallel_for(pack_channel, &job, ceil_div(n, CHANNELS) * CHANNELS, num_threads);
}
