/* The best entries of rows of logits. Order: larger first, of equals the lower index; NaN above all numbers, so that a
 * row which holds one shows it. -0 equals 0. */
#include <math.h>
#include <stdlib.h>

#include "parallel.h"
#include "simd.h"

struct selection {
    const void *x;
    int64_t ldx, n, k;
    int format;
    float *values;
    int64_t *indices;
};

/* Scores that sort as the order above says, NaN included: those lanes become +infinity here and are looked up again at
 * the end. A real +infinity ties with NaN and the lower index wins, which shows a bad row all the same. */
INLINE __m512 sortable(const struct selection *job, int64_t row, int64_t at, __mmask16 mask) {
    const __m512 x = load16(job->x, row * job->ldx + at, job->format, mask);
    const __mmask16 is_nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_mask_mov_ps(x, is_nan, _mm512_set1_ps(INFINITY));
}

INLINE float original(const struct selection *job, int64_t row, int64_t at) {
    return _mm512_cvtss_f32(load16(job->x, row * job->ldx + at, job->format, 1));
}

/* Numbers of one thread's share in `hl_argmax`; a multiple of 16. */
enum { SHARE = 1 << 15 };

KERNEL static void best_of_share(void *context, int64_t task) {
    const struct selection *job = context;
    const int64_t shares = ceil_div(job->n, SHARE), row = task / shares;
    const int64_t first = task % shares * SHARE, stop = least(first + SHARE, job->n);
    const __m512 lowest = _mm512_set1_ps(-INFINITY);
    __m512 best = lowest;
    __m512i at16 = _mm512_add_epi32(_mm512_set1_epi32((int32_t)first),
                                    _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
    __m512i where = at16;
    for (int64_t at = first; at < stop; at += 16, at16 = _mm512_add_epi32(at16, _mm512_set1_epi32(16))) {
        const __mmask16 mask = lanes(stop - at);
        const __m512 x = _mm512_mask_mov_ps(lowest, mask, sortable(job, row, at, mask));
        const __mmask16 is_better = _mm512_cmp_ps_mask(x, best, _CMP_GT_OQ);
        best = _mm512_mask_mov_ps(best, is_better, x);
        where = _mm512_mask_mov_epi32(where, is_better, at16);
    }
    const float value = _mm512_reduce_max_ps(best);
    const __mmask16 is_best = _mm512_cmp_ps_mask(best, _mm512_set1_ps(value), _CMP_EQ_OQ);
    job->values[task] = value;
    job->indices[task] = _mm512_mask_reduce_min_epi32(is_best, where);
}

/* values and indices [m] of the best entry of each row of x [m, n]; n is 1 to 2^31 - 32. Returns 1 without memory. */
EXPORT KERNEL int64_t hl_argmax(const void *x, int64_t ldx, int64_t m, int64_t n, int64_t format, float *values,
                                int64_t *indices, int64_t num_threads) {
    const int64_t shares = ceil_div(n, SHARE);
    char *memory = malloc((size_t)(m * shares) * (sizeof(int64_t) + sizeof(float)));
    if (!memory) return 1;
    int64_t *where = (int64_t *)memory;
    float *best = (float *)(where + m * shares);
    struct selection job = {x, ldx, n, 1, (int)format, best, where};
    parallel_for(best_of_share, &job, m * shares, m * n <= SHARE ? 1 : num_threads);
    for (int64_t row = 0; row < m; row++) {
        int64_t top = row * shares;
        for (int64_t i = top + 1; i < (row + 1) * shares; i++)
            if (best[i] > best[top]) top = i;
        indices[row] = where[top];
        values[row] = original(&job, row, where[top]);
    }
    free(memory);
    return 0;
}

struct candidate {
    float score;
    int32_t index;
};

static int by_rank(const void *left, const void *right) {
    const struct candidate *a = left, *b = right;
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    return (a->index > b->index) - (a->index < b->index);
}

/* Sorts what was gathered, keeps the best k, and returns the score that a later entry must beat. */
static float keep_best(struct candidate *gathered, int64_t *count, int64_t k) {
    qsort(gathered, (size_t)*count, sizeof *gathered, by_rank);
    if (*count < k) return -INFINITY;
    *count = k;
    return gathered[k - 1].score;
}

/* Gathers entries above the k-th best so far, and forgets the rest whenever there is no more room. Later entries have
 * higher indices, so those that only equal the k-th best lose to it. */
KERNEL static void best_of_row(void *context, int64_t row) {
    const struct selection *job = context;
    const int64_t room = 4 * job->k + 64;
    struct candidate *gathered = malloc((size_t)room * sizeof *gathered);
    if (!gathered) {
        job->indices[row * job->k] = -1;
        return;
    }
    int64_t count = 0;
    float bar = -INFINITY;
    for (int64_t at = 0; at < job->n; at += 16) {
        const __mmask16 exists = lanes(job->n - at);
        const __m512 x = sortable(job, row, at, exists);
        const int is_open = count < job->k;
        __mmask16 mask = exists & _mm512_cmp_ps_mask(x, _mm512_set1_ps(bar), _CMP_GT_OQ);
        if (is_open) mask = exists;
        if (!mask) continue;
        float scores[16];
        _mm512_storeu_ps(scores, x);
        for (; mask; mask &= mask - 1) {
            const int lane = __builtin_ctz(mask);
            gathered[count++] = (struct candidate){scores[lane], (int32_t)(at + lane)};
        }
        if (count + 16 > room) bar = keep_best(gathered, &count, job->k);
    }
    keep_best(gathered, &count, job->k);
    for (int64_t i = 0; i < job->k; i++) {
        job->indices[row * job->k + i] = gathered[i].index;
        job->values[row * job->k + i] = original(job, row, gathered[i].index);
    }
    free(gathered);
}

/* values and indices [m, k], best first, of each row of x [m, n]; 1 <= k <= n < 2^31. Returns 1 without memory. */
EXPORT int64_t hl_topk(const void *x, int64_t ldx, int64_t m, int64_t n, int64_t k, int64_t format, float *values,
                       int64_t *indices, int64_t num_threads) {
    struct selection job = {x, ldx, n, k, (int)format, values, indices};
    parallel_for(best_of_row, &job, m, num_threads);
    for (int64_t row = 0; row < m; row++)
        if (indices[row * k] < 0) return 1;
    return 0;
}
