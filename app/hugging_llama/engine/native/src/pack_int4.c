/* Weights to the layout of linear_int4.c. */
#include <math.h>

#include "parallel.h"
#include "simd.h"

enum { GROUP = 32, CHANNELS = 64, VALUE_BYTES = CHANNELS * GROUP / 2, BLOCK_BYTES = VALUE_BYTES + 2 * CHANNELS };
/* Scales tried for a group: largest / -7.0 to largest / -9.0 in steps of 0.1. */
enum { NUM_TRIALS = 21 };

struct packing {
    const void *weight;
    int64_t n, k, groups;
    int format;
    uint8_t *packed;
};

/* q - 8 of 16 weights, and what is lost by it, squared. */
INLINE __m512 nearest(__m512 w, __m512 d, __m512 inverse, __m512 *lost) {
    __m512 q = _mm512_roundscale_ps(_mm512_mul_ps(w, inverse), 0);
    q = _mm512_max_ps(_mm512_set1_ps(-8.0f), _mm512_min_ps(_mm512_set1_ps(7.0f), q));
    const __m512 off = _mm512_fnmadd_ps(q, d, w);
    *lost = _mm512_fmadd_ps(off, off, *lost);
    return q;
}

/* The weight of largest magnitude, with its sign. */
INLINE float extreme(const __m512 w[2]) {
    const float high = _mm512_reduce_max_ps(_mm512_max_ps(w[0], w[1]));
    const float low = _mm512_reduce_min_ps(_mm512_min_ps(w[0], w[1]));
    return high > -low ? high : low;
}

/* The scale, rounded to bfloat16, that loses least. The extreme weight is near q = -8, which has no partner. */
INLINE float best_scale(const __m512 w[2]) {
    const float largest = extreme(w);
    float best = 0.0f, best_loss = INFINITY;
    for (int trial = 0; trial < NUM_TRIALS; trial++) {
        const __m512 d = rounded(_mm512_set1_ps(largest / (-7.0f - 0.1f * (float)trial)));
        const float scale = _mm512_cvtss_f32(d);
        if (scale == 0.0f) continue;
        __m512 lost = _mm512_setzero_ps();
        const __m512 inverse = _mm512_set1_ps(1.0f / scale);
        nearest(w[0], d, inverse, &lost);
        nearest(w[1], d, inverse, &lost);
        const float loss = _mm512_reduce_add_ps(lost);
        if (loss < best_loss) {
            best_loss = loss;
            best = scale;
        }
    }
    return best;
}

INLINE void pack_group(const __m512 w[2], uint8_t *block, int64_t channel) {
    const float scale = best_scale(w);
    const __m512 inverse = _mm512_set1_ps(scale == 0.0f ? 0.0f : 1.0f / scale);
    int32_t q[GROUP];
    __m512 lost = _mm512_setzero_ps();
    for (int half = 0; half < 2; half++) {
        const __m512 whole = nearest(w[half], _mm512_set1_ps(scale), inverse, &lost);
        _mm512_storeu_si512(q + 16 * half, _mm512_add_epi32(_mm512_cvtps_epi32(whole), _mm512_set1_epi32(8)));
    }
    for (int pair = 0; pair < 4; pair++)
        for (int i = 0; i < 4; i++)
            block[pair * 256 + channel * 4 + i] = (uint8_t)(q[8 * pair + i] | q[8 * pair + 4 + i] << 4);
    uint32_t bits;
    __builtin_memcpy(&bits, &scale, 4);
    ((uint16_t *)(block + VALUE_BYTES))[channel] = (uint16_t)(bits >> 16);
}

KERNEL static void pack_channel(void *context, int64_t channel) {
    const struct packing *job = context;
    uint8_t *block = job->packed + channel / CHANNELS * job->groups * BLOCK_BYTES;
    for (int64_t g = 0; g < job->groups; g++, block += BLOCK_BYTES) {
        const int64_t left = channel < job->n ? job->k - g * GROUP : 0, at = channel * job->k + g * GROUP;
        const __m512 w[2] = {load16(job->weight, at, job->format, lanes(left)),
                             load16(job->weight, at + 16, job->format, lanes(left - 16))};
        pack_group(w, block, channel % CHANNELS);
    }
}

/* `weight` [n, k] of `format`, contiguous and finite. */
EXPORT void hl_pack_int4(const void *weight, int64_t n, int64_t k, int64_t format, void *packed, int64_t num_threads) {
    struct packing job = {weight, n, k, ceil_div(k, GROUP), (int)format, packed};
    parallel_for(pack_channel, &job, ceil_div(n, CHANNELS) * CHANNELS, num_threads);
}
