/* The small steps between matrix products, one pass each. They round where transformers' own modules round (after
 * every operation, to the rows' format), so that they can take a module's place without changing its answers. */
#include <math.h>

#include "parallel.h"
#include "simd.h"

/* Below this many numbers another thread does not pay. */
enum { SERIAL_NUMBERS = 1 << 15 };

static int64_t threads_for(int64_t numbers, int64_t num_threads) {
    return numbers < SERIAL_NUMBERS ? 1 : num_threads;
}

struct norm {
    const void *x, *residual, *weight;
    void *sum, *out;
    int64_t ldx, n;
    int format;
    float eps, offset;
};

/* x, plus the residual if there is one; that sum is stored, since the layer goes on with it. */
INLINE __m512 norm_input(const struct norm *job, int64_t row, int64_t at, __mmask16 mask) {
    const __m512 x = load16(job->x, row * job->ldx + at, job->format, mask);
    if (!job->residual) return x;
    const __m512 sum = _mm512_add_ps(x, load16(job->residual, row * job->n + at, job->format, mask));
    store16(job->sum, row * job->n + at, job->format, mask, sum);
    return in_format(sum, job->format);
}

KERNEL static void norm_row(void *context, int64_t row) {
    const struct norm *job = context;
    __m512 squares = _mm512_setzero_ps();
    for (int64_t at = 0; at < job->n; at += 16) {
        const __m512 x = norm_input(job, row, at, lanes(job->n - at));
        squares = _mm512_fmadd_ps(x, x, squares);
    }
    const float mean = _mm512_reduce_add_ps(squares) / (float)job->n;
    const __m512 factor = _mm512_set1_ps(1.0f / sqrtf(mean + job->eps));
    const void *from = job->residual ? job->sum : job->x;
    const int64_t base = row * (job->residual ? job->n : job->ldx);
    for (int64_t at = 0; at < job->n; at += 16) {
        const __mmask16 mask = lanes(job->n - at);
        __m512 x = _mm512_mul_ps(load16(from, base + at, job->format, mask), factor);
        __m512 weight = load16(job->weight, at, job->format, mask);
        if (job->offset != 0.0f)
            weight = _mm512_add_ps(weight, _mm512_set1_ps(job->offset));
        else
            x = in_format(x, job->format);
        store16(job->out, row * job->n + at, job->format, mask, _mm512_mul_ps(x, weight));
    }
}

/* out = (x [+ residual]) / rms * weight over rows [m, n]; `sum` [m, n] gets x + residual. x has rows `ldx` apart, the
 * rest is contiguous. `offset` 0: the normalised row is rounded, then multiplied (Llama); else it is added to the
 * weight and nothing is rounded in between (Gemma: 1). */
EXPORT int64_t hl_rms_norm(const void *x, int64_t ldx, const void *residual, const void *weight, int64_t m, int64_t n,
                           int64_t format, float eps, float offset, void *sum, void *out, int64_t num_threads) {
    struct norm job = {x, residual, weight, sum, out, ldx, n, (int)format, eps, offset};
    parallel_for(norm_row, &job, m, threads_for(m * n, num_threads));
    return 0;
}

struct gated {
    const void *x;
    void *out;
    int64_t ldx, n;
    int format;
};

KERNEL static void silu_row(void *context, int64_t row) {
    const struct gated *job = context;
    for (int64_t at = 0; at < job->n; at += 16) {
        const __mmask16 mask = lanes(job->n - at);
        const __m512 gate = load16(job->x, row * job->ldx + at, job->format, mask);
        const __m512 up = load16(job->x, row * job->ldx + job->n + at, job->format, mask);
        const __m512 below = _mm512_add_ps(_mm512_set1_ps(1.0f), exp16(_mm512_sub_ps(_mm512_setzero_ps(), gate)));
        const __m512 silu = in_format(_mm512_div_ps(gate, below), job->format);
        store16(job->out, row * job->n + at, job->format, mask, _mm512_mul_ps(silu, up));
    }
}

/* out [m, n] = silu(gate) * up, where a row of x [m, 2 n] is gate, then up. */
EXPORT int64_t hl_silu_mul(const void *x, int64_t ldx, int64_t m, int64_t n, int64_t format, void *out,
                           int64_t num_threads) {
    struct gated job = {x, out, ldx, n, (int)format};
    parallel_for(silu_row, &job, m, threads_for(m * n, num_threads));
    return 0;
}

struct rotation {
    const void *x, *cos, *sin;
    void *out;
    int64_t ldx, num_heads, head_dim, rotary_dim;
    int format;
};

/* The two halves of one head, 16 pairs at a time: (a, b) to (a cos - b sin, b cos + a sin). */
INLINE void rotate_head(const struct rotation *job, int64_t from, int64_t to, int64_t table) {
    const int format = job->format;
    const int64_t half = job->rotary_dim / 2;
    for (int64_t at = 0; at < half; at += 16) {
        const __mmask16 mask = lanes(half - at);
        const __m512 a = load16(job->x, from + at, format, mask), b = load16(job->x, from + half + at, format, mask);
#define TIMES(part, name, shift) \
    in_format(_mm512_mul_ps(part, load16(job->name, table + shift + at, format, mask)), format)
        const __m512 first = _mm512_sub_ps(TIMES(a, cos, 0), TIMES(b, sin, 0));
        const __m512 second = _mm512_add_ps(TIMES(b, cos, half), TIMES(a, sin, half));
#undef TIMES
        store16(job->out, to + at, format, mask, first);
        store16(job->out, to + half + at, format, mask, second);
    }
    for (int64_t at = job->rotary_dim; at < job->head_dim; at += 16) {
        const __mmask16 mask = lanes(job->head_dim - at);
        store16(job->out, to + at, format, mask, load16(job->x, from + at, format, mask));
    }
}

KERNEL static void rotate_row(void *context, int64_t row) {
    const struct rotation *job = context;
    for (int64_t head = 0; head < job->num_heads; head++)
        rotate_head(job, row * job->ldx + head * job->head_dim, (row * job->num_heads + head) * job->head_dim,
                    row * job->rotary_dim);
}

/* Rotary embedding by halves: x [m, num_heads, head_dim] with rows `ldx` apart, cos and sin [m, rotary_dim], out
 * contiguous. Dimensions from `rotary_dim` on are copied. */
EXPORT int64_t hl_rotate(const void *x, int64_t ldx, const void *cos, const void *sin, int64_t m, int64_t num_heads,
                         int64_t head_dim, int64_t rotary_dim, int64_t format, void *out, int64_t num_threads) {
    struct rotation job = {x, cos, sin, out, ldx, num_heads, head_dim, rotary_dim, (int)format};
    parallel_for(rotate_row, &job, m, threads_for(m * num_heads * head_dim, num_threads));
    return 0;
}

struct masking {
    const void *x;
    const uint32_t *bits;
    float *out;
    int64_t ldx, ldbits, n;
    int format;
};

KERNEL static void mask_row(void *context, int64_t row) {
    const struct masking *job = context;
    const uint32_t *bits = job->bits + row * job->ldbits;
    const __m512 never = _mm512_set1_ps(-INFINITY);
    for (int64_t at = 0; at < job->n; at += 16) {
        const __mmask16 mask = lanes(job->n - at), allowed = (__mmask16)(bits[at / 32] >> (at % 32));
        const __m512 x = load16(job->x, row * job->ldx + at, job->format, mask);
        _mm512_mask_storeu_ps(job->out + row * job->n + at, mask, _mm512_mask_blend_ps(allowed, never, x));
    }
}

/* out [m, n] = x where the bit of its column is set, else minus infinity; bit i of a row is bit i % 32 of its word
 * i / 32, and rows of bits lie `ldbits` words apart. */
EXPORT int64_t hl_mask_rows(const void *x, int64_t ldx, const uint32_t *bits, int64_t ldbits, int64_t m, int64_t n,
                            int64_t format, float *out, int64_t num_threads) {
    struct masking job = {x, bits, out, ldx, ldbits, n, (int)format};
    parallel_for(mask_row, &job, m, threads_for(m * n, num_threads));
    return 0;
}
