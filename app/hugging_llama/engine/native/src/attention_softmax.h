/* The steps of attention that don't depend on how the products are made. */
#pragma once

#include <math.h>

#include "attention.h"

#define LOG2_E 1.44269504f

/* Rows of a unit that go through one block together, and the keys of the block that any of them sees. */
struct tile {
    int64_t row, first_position, last_position; /* of the first and the last row */
    int64_t low, stop;                          /* keys of the block */
    int64_t begin;                              /* low, as a multiple of PANEL: where scores start */
    int64_t first_key;                          /* of the block */
    int is_edge;                                /* some row does not see all of them */
};

INLINE void add_products(const int format, __m512 *sums, __m512i a, __m512i b) {
    if (format == HL_BF16)
        add_dot16(sums, a, b);
    else
        *sums = _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), *sums);
}

/* softcap tanh(s / softcap), tanh(y) = 1 - 2 / (e^2y + 1) */
INLINE __m512 capped(__m512 scores, float softcap) {
    const __m512 cap = _mm512_set1_ps(softcap), one = _mm512_set1_ps(1.0f), two = _mm512_set1_ps(2.0f);
    const __m512 e = exp16(_mm512_mul_ps(two, _mm512_div_ps(scores, cap)));
    return _mm512_mul_ps(cap, _mm512_sub_ps(one, _mm512_div_ps(two, _mm512_add_ps(e, one))));
}

/* -infinity where the row's query doesn't see keys [key, key + 16). */
INLINE __m512 visible(const struct attention *job, const struct tile *tile, int64_t row, int64_t key, __m512 scores) {
    const int64_t position = tile->first_position + (tile->row % job->group + row) / job->group;
    const __mmask16 before = lanes(first_key(job, position) - key), upto = lanes(position + 1 - key);
    return _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), (__mmask16)(upto & ~before), scores);
}

/* Stores the scores of a tile's row `row` and keys [key, key + 16) of the block, in base 2. */
INLINE void store_scores(const struct attention *job, const struct tile *tile, const struct scratch *scratch,
                         int64_t row, int64_t key, __m512 products) {
    __m512 scores = _mm512_mul_ps(products, _mm512_set1_ps(job->softcap > 0.0f ? job->scaling : job->scaling * LOG2_E));
    if (job->softcap > 0.0f) scores = _mm512_mul_ps(capped(scores, job->softcap), _mm512_set1_ps(LOG2_E));
    if (tile->is_edge) scores = visible(job, tile, row, tile->first_key + key, scores);
    _mm512_storeu_ps(scratch->scores + row * BLOCK_KEYS + key, scores);
}

/* What to take off the scores before 2^x: the maximum, or 0 where nothing is visible, since -inf - -inf is NaN. */
INLINE __m512 base_of(__m512 maxima) {
    const __mmask16 none = _mm512_cmp_ps_mask(maxima, _mm512_set1_ps(-INFINITY), _CMP_EQ_OQ);
    return _mm512_mask_mov_ps(maxima, none, _mm512_setzero_ps());
}

/* Scores of one row to weights 2^(score - maximum) in `format`, in place, and their sum in 16 lanes. A NaN among the
 * scores reaches the sum. */
INLINE void weigh(const int format, float *scores, int64_t begin, int64_t stop, float *maximum, float *sums) {
    __m512 largest = _mm512_set1_ps(-INFINITY), total = _mm512_setzero_ps();
    for (int64_t at = begin; at < stop; at += 16) largest = _mm512_max_ps(largest, _mm512_loadu_ps(scores + at));
    *maximum = _mm512_reduce_max_ps(largest);
    const __m512 base = base_of(_mm512_set1_ps(*maximum));
    for (int64_t at = begin; at < stop; at += 16) {
        const __m512 weights = exp2_16(_mm512_sub_ps(_mm512_loadu_ps(scores + at), base));
        total = _mm512_add_ps(total, weights);
        store16(scores, at, format, 0xffff, weights);
    }
    _mm512_storeu_ps(sums, total);
}

/* The factors by which two softmaxes count when they become one, of which `maxima` gets the maxima. */
INLINE void join(float *maxima, const float *others, int64_t rows, float *ours, float *theirs) {
    const __mmask16 mask = lanes(rows);
    const __m512 a = _mm512_maskz_loadu_ps(mask, maxima), b = _mm512_maskz_loadu_ps(mask, others);
    /* of a NaN and a number the second is taken: the sums hold the NaN already */
    const __m512 both = _mm512_max_ps(a, b), base = base_of(both);
    _mm512_mask_storeu_ps(maxima, mask, both);
    _mm512_storeu_ps(ours, exp2_16(_mm512_sub_ps(a, base)));
    _mm512_storeu_ps(theirs, exp2_16(_mm512_sub_ps(b, base)));
}

INLINE void add_scaled(float *to, float ours, __m512 from, float theirs) {
    const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(to), _mm512_set1_ps(ours));
    _mm512_storeu_ps(to, _mm512_fmadd_ps(from, _mm512_set1_ps(theirs), scaled));
}

/* The scores of a tile to weights; their maxima and sums go to the state of its rows. `ours` and `theirs` get the
 * factors of the numerators so far and of this block's. */
INLINE void weigh_tile(const int rows, const int format, const struct tile *tile, const struct scratch *scratch,
                       const struct state *state, float *ours, float *theirs) {
    float maxima[16], sums[MOST_ROWS * 16];
    const int64_t stop = ceil_div(tile->stop, 16) * 16;
    for (int r = 0; r < rows; r++)
        weigh(format, scratch->scores + r * BLOCK_KEYS, tile->begin, stop, maxima + r, sums + 16 * r);
    join(state->maxima + tile->row, maxima, rows, ours, theirs);
    for (int r = 0; r < rows; r++)
        add_scaled(state->sums + 16 * (tile->row + r), ours[r], _mm512_loadu_ps(sums + 16 * r), theirs[r]);
}

/* Lays out the tile of `rows` rows from `row` on. Returns 0 if none of them sees a key of the block. */
INLINE int lay_out(struct tile *tile, const struct attention *job, const struct unit *unit, int64_t block, int64_t row,
                   int64_t rows) {
    const int64_t start = unit->sequence->first_position + unit->first_query, first = block * BLOCK_KEYS;
    tile->row = row;
    tile->first_key = first;
    tile->first_position = start + row / job->group;
    tile->last_position = start + (row + rows - 1) / job->group;
    const int64_t low = first_key(job, tile->first_position) - first;
    tile->low = low > 0 ? low : 0;
    tile->begin = tile->low / PANEL * PANEL;
    tile->stop = least(tile->last_position + 1 - first, BLOCK_KEYS);
    tile->is_edge = tile->first_position + 1 - first < ceil_div(tile->stop, PANEL) * PANEL ||
                    first_key(job, tile->last_position) > first + tile->begin;
    return tile->low < tile->stop;
}
