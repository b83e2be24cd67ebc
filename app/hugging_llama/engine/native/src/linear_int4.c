/* 4-bit weights with a scale for every 32 inputs of a channel, times int8 activations with a scale for every 32.
 *
 * w = d (q - 8), q in 0..15, d in bfloat16: 4.5 bits a weight. Packed: [n / 64][k / 32] blocks of 1152 bytes, each
 * [4 pairs][4 vectors][16 channels][4 inputs], where a byte holds input 8 pair + i in its low and 8 pair + 4 + i in its
 * high half, then the 64 scales. n is padded to 64 and k to 32. The sums of a group are exact integers; groups are
 * added in float32, in order.
 */
#include <stdlib.h>

#include "linear.h"
#include "parallel.h"
#include "rows8.h"

enum { GROUP = 32, PAIRS = 4, ZERO = 8, VALUE_BYTES = CHANNELS * GROUP / 2, BLOCK_BYTES = VALUE_BYTES + 2 * CHANNELS };
/* bytes from what is used to what is fetched */
enum { AHEAD = 4096 };

/* Adds 4 inputs of every row and channel: `w` are their weights, `x` the first row's inputs. */
INLINE void add_products(const int num_rows, __m512i sums[TILE_ROWS][VECTORS], const __m512i w[VECTORS],
                         const int8_t *x, int64_t ldx) {
    UNROLL(TILE_ROWS)
    for (int r = 0; r < num_rows; r++) {
        const __m512i inputs = spread4(x + r * ldx);
        UNROLL(VECTORS)
        for (int v = 0; v < VECTORS; v++) add_dot8(&sums[r][v], w[v], inputs);
    }
}

INLINE void group_sums(const int num_rows, __m512i sums[TILE_ROWS][VECTORS], const uint8_t *weight, const int8_t *x,
                       int64_t ldx) {
    const __m512i low = _mm512_set1_epi8(15);
    UNROLL(PAIRS)
    for (int pair = 0; pair < PAIRS; pair++) {
        __m512i w[VECTORS];
        const uint8_t *bytes = weight + pair * 64 * VECTORS;
        UNROLL(VECTORS)
        for (int v = 0; v < VECTORS; v++) w[v] = _mm512_and_si512(_mm512_loadu_si512(bytes + 64 * v), low);
        add_products(num_rows, sums, w, x + 8 * pair, ldx);
        UNROLL(VECTORS)
        for (int v = 0; v < VECTORS; v++)
            w[v] = _mm512_and_si512(_mm512_srli_epi16(_mm512_loadu_si512(bytes + 64 * v), 4), low);
        add_products(num_rows, sums, w, x + 8 * pair + 4, ldx);
    }
}

INLINE void tile(const int num_rows, const struct linear *job, int64_t block, int64_t first_row) {
    const struct rows8 *rows = job->rows;
    const int64_t groups = rows->k / GROUP;
    const int8_t *x = rows->values + first_row * rows->k;
    const float *x_scales = rows->scales + first_row * groups;
    const int32_t *offsets = rows->offsets + first_row * groups;
    const uint8_t *weight = (const uint8_t *)job->weight + block * groups * BLOCK_BYTES;
    __m512 totals[TILE_ROWS][VECTORS];
    UNROLL(TILE_ROWS)
    for (int r = 0; r < num_rows; r++) {
        UNROLL(VECTORS)
        for (int v = 0; v < VECTORS; v++) totals[r][v] = _mm512_setzero_ps();
    }
    for (int64_t g = 0; g < groups; g++, weight += BLOCK_BYTES, x += GROUP) {
        prefetch(weight + AHEAD, BLOCK_BYTES);
        __m512i sums[TILE_ROWS][VECTORS];
        UNROLL(TILE_ROWS)
        for (int r = 0; r < num_rows; r++) {
            UNROLL(VECTORS)
            for (int v = 0; v < VECTORS; v++) sums[r][v] = spread4(offsets + r * groups + g);
        }
        group_sums(num_rows, sums, weight, x, rows->k);
        UNROLL(VECTORS)
        for (int v = 0; v < VECTORS; v++) {
            const __m512 scale = load16(weight + VALUE_BYTES, 16 * v, HL_BF16, 0xffff);
            UNROLL(TILE_ROWS)
            for (int r = 0; r < num_rows; r++) {
                const __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(x_scales[r * groups + g]));
                totals[r][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[r][v]), factor, totals[r][v]);
            }
        }
    }
    UNROLL(TILE_ROWS)
    for (int r = 0; r < num_rows; r++) {
        UNROLL(VECTORS)
        for (int v = 0; v < VECTORS; v++) store_sums(job, first_row + r, block * CHANNELS + 16 * v, totals[r][v]);
    }
}

KERNEL static void run_tile(const struct linear *job, int64_t block, int64_t first_row, int64_t num_rows) {
    DISPATCH_ROWS(tile, num_rows, job, block, first_row);
}

/* Returns 0, or 1 without memory. */
EXPORT int64_t hl_linear_int4(const void *x, int64_t ldx, int64_t m, int64_t n, int64_t k, int64_t format,
                              const void *weight, const float *bias, void *out, int64_t num_threads) {
    struct linear job = {x, ldx, m, n, k, format, weight, NULL, bias, out, num_threads, NULL};
    struct rows8 rows;
    if (!make_rows8(&rows, &job, ceil_div(k, GROUP) * GROUP, GROUP, ZERO)) return 1;
    job.rows = &rows;
    run_linear(&job, run_tile);
    free_rows8(&rows);
    return 0;
}
