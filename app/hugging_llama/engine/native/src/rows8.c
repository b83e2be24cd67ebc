#include "rows8.h"

#include <stdlib.h>

#include "parallel.h"

/* Below this many inputs the caller's thread is done before another one wakes up. */
enum { SERIAL_INPUTS = 1 << 15 };

struct making {
    const struct rows8 *rows;
    const struct linear *job;
    int32_t zero;
};

/* The largest magnitude. Compared as integers, NaN is above infinity is above all numbers, so none is lost. */
INLINE float magnitude(const void *x, int64_t first, int64_t stop, int format) {
    const __m512i sign = _mm512_set1_epi32(0x7fffffff);
    __m512i largest = _mm512_setzero_si512();
    for (int64_t at = first; at < stop; at += 16) {
        const __m512 value = load16(x, at, format, lanes(stop - at));
        largest = _mm512_max_epu32(largest, _mm512_and_si512(_mm512_castps_si512(value), sign));
    }
    const uint32_t bits = _mm512_reduce_max_epu32(largest);
    float result;
    __builtin_memcpy(&result, &bits, 4);
    return result;
}

/* One group. Inputs from `stop` on are padding: zeros. */
INLINE int32_t quantise(const void *x, int64_t first, int64_t stop, int format, float inverse, int8_t *to, int64_t n) {
    const __m512 factor = _mm512_set1_ps(inverse);
    __m512i sum = _mm512_setzero_si512();
    for (int64_t at = 0; at < n; at += 16) {
        const __m512 value = load16(x, first + at, format, lanes(stop - first - at));
        const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(value, factor));
        const __m128i bytes = _mm512_cvtsepi32_epi8(whole);
        _mm_mask_storeu_epi8(to + at, lanes(n - at), bytes);
        sum = _mm512_add_epi32(sum, _mm512_cvtepi8_epi32(bytes));
    }
    return _mm512_reduce_add_epi32(sum);
}

KERNEL static void make_row(void *context, int64_t row) {
    const struct making *making = context;
    const struct rows8 *rows = making->rows;
    const struct linear *job = making->job;
    const int format = (int)job->format;
    const int64_t groups = rows->k / rows->group, base = row * job->ldx;
    for (int64_t g = 0; g < groups; g++) {
        const int64_t at = g * rows->group;
        const int64_t first = base + least(at, job->k), stop = base + least(at + rows->group, job->k);
        const float largest = magnitude(job->x, first, stop, format);
        /* a subnormal scale has no inverse; such a group is zero in any case that counts */
        const float inverse = largest > 1e-36f ? 127.0f / largest : 0.0f;
        rows->scales[row * groups + g] = largest / 127.0f;
        rows->offsets[row * groups + g] = -making->zero * quantise(job->x, first, stop, format, inverse,
                                                                   rows->values + row * rows->k + at, rows->group);
    }
}

int make_rows8(struct rows8 *rows, const struct linear *job, int64_t padded_k, int64_t group, int32_t zero) {
    const int64_t values = ceil_div(job->m * padded_k, 64) * 64, cells = job->m * (padded_k / group);
    char *memory = malloc((size_t)(values + 8 * cells));
    if (!memory) return 0;
    *rows = (struct rows8){padded_k, group, (int8_t *)memory, (float *)(memory + values),
                           (int32_t *)(memory + values + 4 * cells)};
    struct making making = {rows, job, zero};
    parallel_for(make_row, &making, job->m, job->m * job->k < SERIAL_INPUTS ? 1 : job->num_threads);
    return 1;
}

void free_rows8(struct rows8 *rows) {
    free(rows->values);
}
