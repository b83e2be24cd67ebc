/* Attention of one new token a sequence over its cached keys and values.
 *
 * The cache is slabs [slots, num_kv_heads, capacity, head_dim]; a sequence is one slot. One task is one key/value head
 * of one sequence over CHUNK_KEYS keys, for all query heads that share it: keys and values are read once, and no
 * sequence waits for, or pads to, a longer one. Each task leaves softmax numerators, their sum and the maximum;
 * `finish` joins the chunks (Milakov and Gimelshein, arXiv:1805.02867; split over keys as in Flash-Decoding). Chunks
 * depend on the sequence alone, so its result has the same bits whatever else is in the batch.
 */
#include <math.h>
#include <stdlib.h>

#include "parallel.h"
#include "simd.h"

enum { CHUNK_KEYS = 256, KEYS = 16, VECTORS = 4, TILE_HEADS = 6 };

/* With fewer products the caller's thread is done before another one wakes up. */
enum { SERIAL_PRODUCTS = 1 << 17 };

struct attention {
    const void *query;                       /* [n, num_heads, key_dim] of `format`, contiguous */
    void *out;                               /* [n, num_heads, value_dim] of `format` */
    const void *const *keys, *const *values; /* of each slab */
    const int64_t *capacities;               /* of each slab */
    const int64_t *places;                   /* [n, 3]: slab, slot, number of keys, of each sequence */
    const float *sinks;                      /* [num_heads] or NULL */
    int64_t num_kv_heads, group, key_dim, value_dim, window;
    int format;
    float scaling, softcap;
    struct part *parts;
    float *numerators; /* [parts, group, value_dim] */
    float *maxima;     /* [parts, group] */
    float *sums;       /* [parts, group] */
};

/* One task. Parts of one head of one sequence follow each other. */
struct part {
    int64_t sequence, head, first_key, num_keys;
};

/* Lane i: the sum of the lanes of v[i]. */
INLINE __m512 sums_of_lanes(__m512 v[KEYS]) {
    __m512 pairs[8], fours[4], halves[2];
    UNROLL(8)
    for (int i = 0; i < 8; i++)
        pairs[i] =
            _mm512_add_ps(_mm512_unpacklo_ps(v[2 * i], v[2 * i + 1]), _mm512_unpackhi_ps(v[2 * i], v[2 * i + 1]));
    UNROLL(4)
    for (int i = 0; i < 4; i++) {
        const __m512d a = _mm512_castps_pd(pairs[2 * i]), b = _mm512_castps_pd(pairs[2 * i + 1]);
        fours[i] =
            _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    }
    UNROLL(2)
    for (int i = 0; i < 2; i++)
        halves[i] = _mm512_add_ps(_mm512_shuffle_f32x4(fours[2 * i], fours[2 * i + 1], 0x44),
                                  _mm512_shuffle_f32x4(fours[2 * i], fours[2 * i + 1], 0xee));
    return _mm512_add_ps(_mm512_shuffle_f32x4(halves[0], halves[1], 0x88),
                         _mm512_shuffle_f32x4(halves[0], halves[1], 0xdd));
}

/* Products of one query with KEYS keys; the last ones may be the same key again. */
INLINE __m512 scores_of_keys(const int format, const void *query, const void *const keys[KEYS], int64_t dim) {
    __m512 sums[KEYS];
    UNROLL(KEYS)
    for (int i = 0; i < KEYS; i++) sums[i] = _mm512_setzero_ps();
    const int step = format == HL_BF16 ? 32 : 16;
    for (int64_t at = 0; at < dim; at += step) {
        if (format == HL_BF16) {
            const __mmask32 mask = dim - at >= 32 ? ~0u : (1u << (dim - at)) - 1;
            const __m512i q = _mm512_maskz_loadu_epi16(mask, (const uint16_t *)query + at);
            UNROLL(KEYS)
            for (int i = 0; i < KEYS; i++)
                add_dot16(&sums[i], _mm512_maskz_loadu_epi16(mask, (const uint16_t *)keys[i] + at), q);
        } else {
            const __m512 q = load16(query, at, format, lanes(dim - at));
            UNROLL(KEYS)
            for (int i = 0; i < KEYS; i++)
                sums[i] = _mm512_fmadd_ps(load16(keys[i], at, format, lanes(dim - at)), q, sums[i]);
        }
    }
    return sums_of_lanes(sums);
}

INLINE const void *at_element(const void *base, int64_t index, int format) {
    return (const char *)base + index * (format == HL_BF16 ? 2 : 4);
}

/* softcap tanh(s / softcap), tanh(y) = 1 - 2 / (e^2y + 1) */
INLINE __m512 capped(__m512 scores, float softcap) {
    const __m512 cap = _mm512_set1_ps(softcap), one = _mm512_set1_ps(1.0f), two = _mm512_set1_ps(2.0f);
    const __m512 e = exp16(_mm512_mul_ps(two, _mm512_div_ps(scores, cap)));
    return _mm512_mul_ps(cap, _mm512_sub_ps(one, _mm512_div_ps(two, _mm512_add_ps(e, one))));
}

/* The scores of a part to `scores` [group][CHUNK_KEYS]; behind the last key they are -infinity. */
INLINE void score_part(const struct attention *job, const int format, const struct part *part, const void *keys,
                       float *scores) {
    const int64_t first_head = (part->sequence * job->num_kv_heads + part->head) * job->group;
    for (int64_t at = 0; at < part->num_keys; at += KEYS) {
        const void *rows[KEYS];
        for (int i = 0; i < KEYS; i++)
            rows[i] = at_element(keys, least(at + i, part->num_keys - 1) * job->key_dim, format);
        const __mmask16 mask = lanes(part->num_keys - at);
        for (int64_t g = 0; g < job->group; g++) {
            const void *query = at_element(job->query, (first_head + g) * job->key_dim, format);
            __m512 score =
                _mm512_mul_ps(scores_of_keys(format, query, rows, job->key_dim), _mm512_set1_ps(job->scaling));
            if (job->softcap > 0.0f) score = capped(score, job->softcap);
            score = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), mask, score);
            _mm512_storeu_ps(scores + g * CHUNK_KEYS + at, score);
        }
    }
}

/* Scores of one head to e^(score - maximum), in place; a NaN among them reaches the sum. */
INLINE void exponentiate(float *scores, int64_t num_keys, float *maximum, float *sum) {
    __m512 largest = _mm512_set1_ps(-INFINITY), total = _mm512_setzero_ps();
    for (int64_t at = 0; at < num_keys; at += KEYS) largest = _mm512_max_ps(largest, _mm512_loadu_ps(scores + at));
    *maximum = _mm512_reduce_max_ps(largest);
    for (int64_t at = 0; at < num_keys; at += KEYS) {
        const __m512 e = exp16(_mm512_sub_ps(_mm512_loadu_ps(scores + at), _mm512_set1_ps(*maximum)));
        /* exactly zero behind the end */
        const __m512 kept = _mm512_maskz_mov_ps(lanes(num_keys - at), e);
        _mm512_storeu_ps(scores + at, kept);
        total = _mm512_add_ps(total, kept);
    }
    *sum = _mm512_reduce_add_ps(total);
}

/* Sums of values weighted by `weights` [.][CHUNK_KEYS], for `heads` heads and 64 dimensions from `dim` on. */
INLINE void weigh_values(const int heads, const struct attention *job, const int format, const void *values,
                         int64_t num_keys, const float *weights, int64_t dim, float *to) {
    __m512 sums[TILE_HEADS][VECTORS];
    __mmask16 masks[VECTORS];
    UNROLL(VECTORS)
    for (int v = 0; v < VECTORS; v++) masks[v] = lanes(job->value_dim - dim - 16 * v);
    UNROLL(TILE_HEADS)
    for (int h = 0; h < heads; h++) {
        UNROLL(VECTORS)
        for (int v = 0; v < VECTORS; v++) sums[h][v] = _mm512_setzero_ps();
    }
    for (int64_t key = 0; key < num_keys; key++) {
        __m512 value[VECTORS];
        UNROLL(VECTORS)
        for (int v = 0; v < VECTORS; v++)
            value[v] = load16(values, key * job->value_dim + dim + 16 * v, format, masks[v]);
        UNROLL(TILE_HEADS)
        for (int h = 0; h < heads; h++) {
            const __m512 weight = _mm512_set1_ps(weights[h * CHUNK_KEYS + key]);
            UNROLL(VECTORS)
            for (int v = 0; v < VECTORS; v++) sums[h][v] = _mm512_fmadd_ps(value[v], weight, sums[h][v]);
        }
    }
    UNROLL(TILE_HEADS)
    for (int h = 0; h < heads; h++) {
        UNROLL(VECTORS)
        for (int v = 0; v < VECTORS; v++)
            _mm512_mask_storeu_ps(to + h * job->value_dim + dim + 16 * v, masks[v], sums[h][v]);
    }
}

INLINE void value_part(const struct attention *job, const int format, const struct part *part, const void *values,
                       const float *weights, float *to) {
    const int64_t heads_per_tile = ceil_div(job->group, ceil_div(job->group, TILE_HEADS));
    for (int64_t g = 0; g < job->group; g += heads_per_tile)
        for (int64_t dim = 0; dim < job->value_dim; dim += 16 * VECTORS)
            DISPATCH_ROWS(weigh_values, least(heads_per_tile, job->group - g), job, format, values, part->num_keys,
                          weights + g * CHUNK_KEYS, dim, to + g * job->value_dim);
}

/* Joins `num_parts` parts from `first` on into the rows of their heads. */
INLINE void finish(const struct attention *job, int64_t first, int64_t num_parts) {
    const struct part *part = job->parts + first;
    for (int64_t g = 0; g < job->group; g++) {
        const int64_t head = part->head * job->group + g;
        const int64_t row = (part->sequence * job->num_kv_heads * job->group + head) * job->value_dim;
        float maximum = job->sinks ? job->sinks[head] : -INFINITY;
        for (int64_t i = 0; i < num_parts; i++) maximum = fmaxf(maximum, job->maxima[(first + i) * job->group + g]);
        /* a sink takes part in the softmax and contributes nothing */
        float sum = job->sinks ? expf(job->sinks[head] - maximum) : 0.0f;
        for (int64_t i = 0; i < num_parts; i++) {
            const int64_t at = (first + i) * job->group + g;
            job->maxima[at] = expf(job->maxima[at] - maximum);
            sum += job->sums[at] * job->maxima[at];
        }
        for (int64_t dim = 0; dim < job->value_dim; dim += 16) {
            const __mmask16 mask = lanes(job->value_dim - dim);
            __m512 total = _mm512_setzero_ps();
            for (int64_t i = 0; i < num_parts; i++) {
                const int64_t at = (first + i) * job->group + g;
                const __m512 numerators = load16(job->numerators, at * job->value_dim + dim, HL_F32, mask);
                total = _mm512_fmadd_ps(numerators, _mm512_set1_ps(job->maxima[at]), total);
            }
            store16(job->out, row + dim, job->format, mask, _mm512_div_ps(total, _mm512_set1_ps(sum)));
        }
    }
}

INLINE void attend(const struct attention *job, const int format, int64_t task) {
    const struct part *part = job->parts + task;
    const int64_t *place = job->places + 3 * part->sequence;
    const int64_t row = (place[1] * job->num_kv_heads + part->head) * job->capacities[place[0]] + part->first_key;
    float scores[job->group * CHUNK_KEYS];
    score_part(job, format, part, at_element(job->keys[place[0]], row * job->key_dim, format), scores);
    for (int64_t g = 0; g < job->group; g++)
        exponentiate(scores + g * CHUNK_KEYS, part->num_keys, job->maxima + task * job->group + g,
                     job->sums + task * job->group + g);
    const void *values = at_element(job->values[place[0]], row * job->value_dim, format);
    value_part(job, format, part, values, scores, job->numerators + task * job->group * job->value_dim);
}

/* The first key that a sequence of `num_keys` sees. */
static int64_t first_key(const struct attention *job, int64_t num_keys) {
    return job->window > 0 && num_keys > job->window ? num_keys - job->window : 0;
}

static int64_t num_chunks(const struct attention *job, int64_t sequence) {
    const int64_t num_keys = job->places[3 * sequence + 2];
    return ceil_div(num_keys - first_key(job, num_keys), CHUNK_KEYS);
}

KERNEL static void run_part(void *context, int64_t task) {
    const struct attention *job = context;
    if (job->format == HL_BF16)
        attend(job, HL_BF16, task);
    else
        attend(job, HL_F32, task);
    if (num_chunks(job, job->parts[task].sequence) == 1) finish(job, task, 1);
}

static void lay_out_parts(struct attention *job, int64_t n) {
    struct part *part = job->parts;
    for (int64_t sequence = 0; sequence < n; sequence++) {
        const int64_t stop = job->places[3 * sequence + 2];
        for (int64_t head = 0; head < job->num_kv_heads; head++)
            for (int64_t key = first_key(job, stop); key < stop; key += CHUNK_KEYS)
                *part++ = (struct part){sequence, head, key, least(CHUNK_KEYS, stop - key)};
    }
}

/* Splits, attends and joins. Returns 0, or 1 without memory. */
KERNEL static int64_t run(struct attention *job, int64_t n, int64_t num_threads) {
    int64_t num_parts = 0, products = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t num_keys = job->places[3 * i + 2];
        num_parts += num_chunks(job, i) * job->num_kv_heads;
        products +=
            (num_keys - first_key(job, num_keys)) * job->num_kv_heads * job->group * (job->key_dim + job->value_dim);
    }
    const int64_t cells = num_parts * job->group;
    char *memory =
        malloc((size_t)num_parts * sizeof(struct part) + (size_t)(cells * (job->value_dim + 2)) * sizeof(float));
    if (!memory) return 1;
    job->parts = (struct part *)memory;
    job->numerators = (float *)(job->parts + num_parts);
    job->maxima = job->numerators + cells * job->value_dim;
    job->sums = job->maxima + cells;
    lay_out_parts(job, n);
    parallel_for(run_part, job, num_parts, products < SERIAL_PRODUCTS ? 1 : num_threads);
    int64_t part = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t head = 0; head < job->num_kv_heads; head++, part += num_chunks(job, i))
            if (num_chunks(job, i) > 1) finish(job, part, num_chunks(job, i));
    free(memory);
    return 0;
}

/* `query` [n, num_kv_heads * group, key_dim], `out` with value_dim instead; sequence i sees the first places[i][2]
 * keys (at least 1) of its slot, or the last `window` of those if window > 0. `softcap` 0: none. `group` at most 64. */
EXPORT int64_t hl_decode_attention(const void *query, int64_t n, const void *const *keys, const void *const *values,
                                   const int64_t *capacities, const int64_t *places, const float *sinks,
                                   int64_t num_kv_heads, int64_t group, int64_t key_dim, int64_t value_dim,
                                   int64_t window, int64_t format, float scaling, float softcap, void *out,
                                   int64_t num_threads) {
    struct attention job = {query,        out,   keys,    values,    capacities, places,      sinks,
                            num_kv_heads, group, key_dim, value_dim, window,     (int)format, scaling,
                            softcap,      NULL,  NULL,    NULL,      NULL};
    return run(&job, n, num_threads);
}
