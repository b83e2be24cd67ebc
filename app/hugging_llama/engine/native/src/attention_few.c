/* A block for so few rows that packing would cost more than the products: keys are transposed in registers, values are
 * read as they lie. Every sum runs in the order of attention_block.c, so the bits are the same. */
#include "attention_softmax.h"

enum { PIECE_WORDS = 4, QUARTERS = 4, DIMS = 32, PREFETCH_KEYS = 32, LINE = 64 };

/* 4 words of 16 keys, whose rows are `stride` bytes apart from `first` on: words[w] lane i is word w of key i. Keys from
 * `count` on are the last one again. */
INLINE void load_piece(const char *first, int64_t stride, int64_t count, __m512i words[PIECE_WORDS]) {
    __m512i rows[QUARTERS], pairs[QUARTERS];
    UNROLL(4)
    for (int i = 0; i < QUARTERS; i++) {
        /* quarter c of rows[i] is key 4 c + i */
#define KEY(c) _mm_loadu_si128((const __m128i *)(const void *)(first + least(4 * c + i, count - 1) * stride))
        rows[i] = _mm512_castsi128_si512(KEY(0));
        rows[i] = _mm512_mask_broadcast_i32x4(rows[i], 0x00f0, KEY(1));
        rows[i] = _mm512_mask_broadcast_i32x4(rows[i], 0x0f00, KEY(2));
        rows[i] = _mm512_mask_broadcast_i32x4(rows[i], 0xf000, KEY(3));
#undef KEY
    }
    UNROLL(2)
    for (int i = 0; i < 2; i++) {
        pairs[i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        pairs[2 + i] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    words[0] = _mm512_unpacklo_epi64(pairs[0], pairs[1]);
    words[1] = _mm512_unpackhi_epi64(pairs[0], pairs[1]);
    words[2] = _mm512_unpacklo_epi64(pairs[2], pairs[3]);
    words[3] = _mm512_unpackhi_epi64(pairs[2], pairs[3]);
}

/* Scores of all rows for keys [key, key + 16) of the block. */
INLINE void score_keys(const int rows, const int format, const struct attention *job, const struct tile *tile,
                       const char *keys, const struct scratch *scratch, int64_t key, int64_t count) {
    const int64_t words = words_of(job->key_dim, format), stride = 4 * words;
    const char *first = keys + key * stride;
    __m512 sums[MOST_ROWS];
    UNROLL(MOST_ROWS)
    for (int r = 0; r < rows; r++) sums[r] = _mm512_setzero_ps();
    for (int64_t at = 0; at < 16 * stride; at += LINE) _mm_prefetch(first + PREFETCH_KEYS * stride + at, _MM_HINT_T0);
    for (int64_t word = 0; word < words; word += PIECE_WORDS) {
        __m512i piece[PIECE_WORDS];
        load_piece(first + 4 * word, stride, count, piece);
        UNROLL(MOST_ROWS)
        for (int r = 0; r < rows; r++) UNROLL(PIECE_WORDS)
        for (int w = 0; w < PIECE_WORDS; w++)
            add_products(format, &sums[r], piece[w], spread4(scratch->queries + r * words + word + w));
    }
    UNROLL(MOST_ROWS)
    for (int r = 0; r < rows; r++) store_scores(job, tile, scratch, r, key, sums[r]);
}

/* The values of one word of keys, 32 dimensions from `dim` on: dimensions as `in_order` puts them right. */
INLINE void load_values(const int format, const void *values, int64_t word, int64_t stop, int64_t dim,
                        int64_t value_dim, __m512i to[2]) {
    if (format == HL_F32) {
        const float *from = (const float *)values + word * value_dim + dim;
        to[0] = _mm512_maskz_loadu_epi32(lanes(value_dim - dim), from);
        to[1] = _mm512_maskz_loadu_epi32(lanes(value_dim - dim - 16), from + 16);
        return;
    }
    const uint16_t *from = (const uint16_t *)values + 2 * word * value_dim + dim;
    const __mmask32 mask = value_dim - dim >= DIMS ? ~0u : (1u << (value_dim - dim)) - 1;
    const __m512i a = _mm512_maskz_loadu_epi16(mask, from);
    const __m512i b = _mm512_maskz_loadu_epi16(2 * word + 1 < stop ? mask : 0, from + value_dim);
    to[0] = _mm512_unpacklo_epi16(a, b);
    to[1] = _mm512_unpackhi_epi16(a, b);
}

/* The unpacking above works within quarters. */
INLINE void in_order(const int format, __m512 sums[2]) {
    if (format == HL_F32) return;
    const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    const __m512 first = _mm512_permutex2var_ps(sums[0], low, sums[1]);
    sums[1] = _mm512_permutex2var_ps(sums[0], high, sums[1]);
    sums[0] = first;
}

/* 32 dimensions of the weighted values, added to the rows' numerators. */
INLINE void weigh_values(const int rows, const int format, const struct attention *job, const struct tile *tile,
                         const void *values, const struct scratch *scratch, int64_t dim, float *numerators,
                         const float *ours, const float *theirs) {
    const int64_t ld = padded_dim(job->value_dim), stop = words_of(tile->stop, format);
    const uint32_t *weights = (const uint32_t *)(const void *)scratch->scores;
    __m512 sums[MOST_ROWS][2];
    UNROLL(MOST_ROWS)
    for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    for (int64_t word = word_of(tile->low, format); word < stop; word++) {
        __m512i loaded[2];
        load_values(format, values, word, tile->stop, dim, job->value_dim, loaded);
        UNROLL(MOST_ROWS)
        for (int r = 0; r < rows; r++) {
            const __m512i spread = spread4(weights + r * BLOCK_KEYS + word);
            add_products(format, &sums[r][0], loaded[0], spread);
            add_products(format, &sums[r][1], loaded[1], spread);
        }
    }
    UNROLL(MOST_ROWS)
    for (int r = 0; r < rows; r++) {
        in_order(format, sums[r]);
        add_scaled(numerators + r * ld + dim, ours[r], sums[r][0], theirs[r]);
        add_scaled(numerators + r * ld + dim + 16, ours[r], sums[r][1], theirs[r]);
    }
}

INLINE void attend_few(const int rows, const int format, const struct attention *job, const struct tile *tile,
                       const void *keys, const void *values, const struct scratch *scratch, const struct state *state) {
    float ours[16], theirs[16];
    int64_t key = tile->begin;
    for (; key + 16 <= tile->stop; key += 16) score_keys(rows, format, job, tile, keys, scratch, key, 16);
    if (key < tile->stop) score_keys(rows, format, job, tile, keys, scratch, key, tile->stop - key);
    weigh_tile(rows, format, tile, scratch, state, ours, theirs);
    for (int64_t dim = 0; dim < job->value_dim; dim += DIMS)
        weigh_values(rows, format, job, tile, values, scratch, dim, state->numerators, ours, theirs);
}

#define DISPATCH_FEW(function, num_rows, ...)         \
    do {                                              \
        switch (num_rows) {                           \
            case 1: function(1, __VA_ARGS__); break;  \
            case 2: function(2, __VA_ARGS__); break;  \
            case 3: function(3, __VA_ARGS__); break;  \
            case 4: function(4, __VA_ARGS__); break;  \
            case 5: function(5, __VA_ARGS__); break;  \
            case 6: function(6, __VA_ARGS__); break;  \
            case 7: function(7, __VA_ARGS__); break;  \
            default: function(8, __VA_ARGS__); break; \
        }                                             \
    } while (0)

KERNEL int attend_few_rows(const struct attention *job, const struct unit *unit, int64_t block, const void *keys,
                           const void *values, const struct scratch *scratch, const struct state *state) {
    const int64_t rows = unit->num_queries * job->group, size = job->format == HL_BF16 ? 2 : 4;
    if (rows > MOST_ROWS || job->key_dim * size % (4 * PIECE_WORDS)) return 0;
    struct tile tile;
    if (!lay_out(&tile, job, unit, block, 0, rows)) return 1;
    if (job->format == HL_BF16)
        DISPATCH_FEW(attend_few, rows, HL_BF16, job, &tile, keys, values, scratch, state);
    else
        DISPATCH_FEW(attend_few, rows, HL_F32, job, &tile, keys, values, scratch, state);
    return 1;
}
