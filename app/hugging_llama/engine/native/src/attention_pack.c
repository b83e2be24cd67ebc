#include "attention.h"

enum { LANES = 16 };

/* rows[i] lane j becomes rows[j] lane i. */
INLINE void transpose(__m512i rows[LANES]) {
    __m512i pairs[LANES], fours[LANES];
    UNROLL(8)
    for (int i = 0; i < LANES; i += 2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    UNROLL(4)
    for (int i = 0; i < LANES; i += 4) UNROLL(2)
    for (int j = 0; j < 2; j++) {
        fours[i + 2 * j] = _mm512_unpacklo_epi64(pairs[i + j], pairs[i + 2 + j]);
        fours[i + 2 * j + 1] = _mm512_unpackhi_epi64(pairs[i + j], pairs[i + 2 + j]);
    }
    /* now fours[4 a + b] holds, in quarter c, column 4 c + b of rows 4 a to 4 a + 3 */
    UNROLL(4)
    for (int b = 0; b < 4; b++) {
        const __m512i even01 = _mm512_shuffle_i32x4(fours[b], fours[4 + b], 0x88);
        const __m512i odd01 = _mm512_shuffle_i32x4(fours[b], fours[4 + b], 0xdd);
        const __m512i even23 = _mm512_shuffle_i32x4(fours[8 + b], fours[12 + b], 0x88);
        const __m512i odd23 = _mm512_shuffle_i32x4(fours[8 + b], fours[12 + b], 0xdd);
        rows[b] = _mm512_shuffle_i32x4(even01, even23, 0x88);
        rows[4 + b] = _mm512_shuffle_i32x4(odd01, odd23, 0x88);
        rows[8 + b] = _mm512_shuffle_i32x4(even01, even23, 0xdd);
        rows[12 + b] = _mm512_shuffle_i32x4(odd01, odd23, 0xdd);
    }
}

/* 16 words of a row of `numbers` numbers, from word `at` on. */
INLINE __m512i load_words(const void *row, int64_t at, int64_t numbers, int format) {
    if (format == HL_F32) return _mm512_maskz_loadu_epi32(lanes(numbers - at), (const float *)row + at);
    const int64_t left = numbers - 2 * at;
    const __mmask32 mask = left >= 32 ? ~0u : (1u << left) - 1;
    return _mm512_maskz_loadu_epi16(mask, (const uint16_t *)row + 2 * at);
}

KERNEL void pack_queries(const struct attention *job, const struct unit *unit, uint32_t *to) {
    const int64_t words = words_of(job->key_dim, job->format);
    for (int64_t q = 0; q < unit->num_queries; q++) {
        const int64_t row = (unit->sequence->first_row + unit->first_query + q) * job->ldq;
        for (int64_t g = 0; g < job->group; g++, to += words) {
            const int64_t first = row + (unit->head * job->group + g) * job->key_dim;
            const void *from = at_number(job->query, first, job->format);
            for (int64_t at = 0; at < words; at += LANES)
                _mm512_mask_storeu_epi32(to + at, lanes(words - at), load_words(from, at, job->key_dim, job->format));
        }
    }
}

KERNEL void pack_keys(const struct attention *job, const void *keys, int64_t begin, int64_t stop, uint32_t *to) {
    const int64_t words = words_of(job->key_dim, job->format);
    for (int64_t key = begin; key < stop; key += LANES) {
        uint32_t *lane = to + key / PANEL * words * PANEL + key % PANEL;
        for (int64_t at = 0; at < words; at += LANES) {
            __m512i rows[LANES];
            UNROLL(LANES)
            for (int i = 0; i < LANES; i++) {
                /* lanes behind the last key are masked later; here they must only be readable */
                const void *row = at_number(keys, least(key + i, stop - 1) * job->key_dim, job->format);
                rows[i] = load_words(row, at, job->key_dim, job->format);
            }
            transpose(rows);
            for (int64_t i = 0; i < least(LANES, words - at); i++)
                _mm512_storeu_si512(lane + (at + i) * PANEL, rows[i]);
        }
    }
}

/* 16 dimensions from `dim` on of the keys of one word. */
INLINE __m512i value_words(const void *values, int64_t word, int64_t stop, int64_t dim, int64_t value_dim, int format) {
    const __mmask16 mask = lanes(value_dim - dim);
    if (format == HL_F32) return _mm512_maskz_loadu_epi32(mask, (const float *)values + word * value_dim + dim);
    const uint16_t *first = (const uint16_t *)values + 2 * word * value_dim + dim;
    const __mmask16 second = 2 * word + 1 < stop ? mask : 0;
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, first));
    const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(second, first + value_dim));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

KERNEL void pack_values(const struct attention *job, const void *values, int64_t begin, int64_t stop, uint32_t *to) {
    const int64_t block_words = words_of(BLOCK_KEYS, job->format);
    for (int64_t word = words_of(begin, job->format); word < words_of(stop, job->format); word++)
        for (int64_t dim = 0; dim < padded_dim(job->value_dim); dim += LANES)
            _mm512_storeu_si512(to + (dim / PANEL * block_words + word) * PANEL + dim % PANEL,
                                value_words(values, word, stop, dim, job->value_dim, job->format));
}
