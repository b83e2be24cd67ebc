#include "attention_softmax.h"

/* sums[r][v] = row r, of rows `ld` words apart, times lanes 16 v to 16 v + 15 of a panel, over `words` words. */
INLINE void multiply(const int format, const int rows, const int vectors, const uint32_t *a, int64_t ld,
                     const uint32_t *panel, int64_t words, __m512 sums[TILE_ROWS][VECTORS]) {
    UNROLL(TILE_ROWS)
    for (int r = 0; r < rows; r++) UNROLL(VECTORS)
    for (int v = 0; v < vectors; v++) sums[r][v] = _mm512_setzero_ps();
    for (int64_t word = 0; word < words; word++, panel += PANEL) {
        __m512i b[VECTORS];
        UNROLL(VECTORS)
        for (int v = 0; v < vectors; v++) b[v] = _mm512_loadu_si512(panel + 16 * v);
        UNROLL(TILE_ROWS)
        for (int r = 0; r < rows; r++) {
            const __m512i spread = spread4(a + r * ld + word);
            UNROLL(VECTORS)
            for (int v = 0; v < vectors; v++) add_products(format, &sums[r][v], b[v], spread);
        }
    }
}

/* The scores of a tile and the panel of keys from `key` of the block on, in base 2. */
INLINE void score_panel(const int rows, const int format, const struct attention *job, const struct tile *tile,
                        const struct scratch *scratch, int64_t key) {
    const int64_t words = words_of(job->key_dim, format);
    __m512 sums[TILE_ROWS][VECTORS];
    multiply(format, rows, VECTORS, scratch->queries + tile->row * words, words, scratch->keys + key * words, words,
             sums);
    UNROLL(TILE_ROWS)
    for (int r = 0; r < rows; r++) UNROLL(VECTORS)
    for (int v = 0; v < VECTORS; v++) store_scores(job, tile, scratch, r, key + 16 * v, sums[r][v]);
}

/* The weighted values of a tile in a panel of dimensions from `dim` on, added to the rows' numerators. */
INLINE void value_panel(const int rows, const int format, const int vectors, const struct attention *job,
                        const struct tile *tile, const struct scratch *scratch, int64_t dim, float *numerators,
                        const float *ours, const float *theirs) {
    const int64_t begin = word_of(tile->low, format), stop = words_of(tile->stop, format);
    const uint32_t *panel = scratch->values + (dim / PANEL * words_of(BLOCK_KEYS, format) + begin) * PANEL;
    const uint32_t *weights = (const uint32_t *)(const void *)scratch->scores + begin;
    const int64_t ld = padded_dim(job->value_dim);
    __m512 sums[TILE_ROWS][VECTORS];
    multiply(format, rows, vectors, weights, BLOCK_KEYS, panel, stop - begin, sums);
    UNROLL(TILE_ROWS)
    for (int r = 0; r < rows; r++) UNROLL(VECTORS)
    for (int v = 0; v < vectors; v++) add_scaled(numerators + r * ld + dim + 16 * v, ours[r], sums[r][v], theirs[r]);
}

INLINE void attend_tile(const int rows, const int format, const struct attention *job, const struct tile *tile,
                        const struct scratch *scratch, const struct state *state) {
    float ours[16], theirs[16];
    for (int64_t key = tile->begin; key < tile->stop; key += PANEL) score_panel(rows, format, job, tile, scratch, key);
    weigh_tile(rows, format, tile, scratch, state, ours, theirs);
    const int64_t ld = padded_dim(job->value_dim);
    float *numerators = state->numerators + tile->row * ld;
    int64_t dim = 0;
    for (; dim + PANEL <= ld; dim += PANEL)
        value_panel(rows, format, VECTORS, job, tile, scratch, dim, numerators, ours, theirs);
    if (dim < ld) value_panel(rows, format, 2, job, tile, scratch, dim, numerators, ours, theirs);
}

INLINE void attend_rows(const int format, const struct attention *job, const struct unit *unit, int64_t block,
                        const struct scratch *scratch, const struct state *state) {
    const int64_t rows = unit->num_queries * job->group;
    /* tiles of about the same size */
    const int64_t per_tile = ceil_div(rows, ceil_div(rows, TILE_ROWS));
    for (int64_t row = 0; row < rows; row += per_tile) {
        struct tile tile;
        const int64_t here = least(per_tile, rows - row);
        if (lay_out(&tile, job, unit, block, row, here))
            DISPATCH_ROWS(attend_tile, here, format, job, &tile, scratch, state);
    }
}

KERNEL void attend_block(const struct attention *job, const struct unit *unit, int64_t block,
                         const struct scratch *scratch, const struct state *state) {
    const struct sequence *sequence = unit->sequence;
    const int64_t first = block * BLOCK_KEYS, start = sequence->first_position + unit->first_query;
    const int64_t low = first_key(job, start) - first;
    const int64_t begin = low > 0 ? low / PANEL * PANEL : 0;
    const int64_t stop = least(start + unit->num_queries - first, BLOCK_KEYS);
    const int64_t row = unit->head * sequence->capacity + first;
    const void *keys = at_number(sequence->keys, row * job->key_dim, job->format);
    const void *values = at_number(sequence->values, row * job->value_dim, job->format);
    if (attend_few_rows(job, unit, block, keys, values, scratch, state)) return;
    pack_keys(job, keys, begin, stop, scratch->keys);
    pack_values(job, values, begin, stop, scratch->values);
    if (job->format == HL_BF16)
        attend_rows(HL_BF16, job, unit, block, scratch, state);
    else
        attend_rows(HL_F32, job, unit, block, scratch, state);
}

KERNEL void merge_states(const struct attention *job, int64_t rows, const struct state *from, const struct state *to) {
    const int64_t ld = padded_dim(job->value_dim);
    for (int64_t row = 0; row < rows; row++) {
        float ours[16], theirs[16];
        join(to->maxima + row, from->maxima + row, 1, ours, theirs);
        add_scaled(to->sums + 16 * row, *ours, _mm512_loadu_ps(from->sums + 16 * row), *theirs);
        for (int64_t dim = row * ld; dim < (row + 1) * ld; dim += 16)
            add_scaled(to->numerators + dim, *ours, _mm512_loadu_ps(from->numerators + dim), *theirs);
    }
}

KERNEL void finish_rows(const struct attention *job, const struct unit *unit, const struct state *state) {
    const int64_t ld = padded_dim(job->value_dim), num_heads = job->num_kv_heads * job->group;
    for (int64_t row = 0; row < unit->num_queries * job->group; row++) {
        const int64_t head = unit->head * job->group + row % job->group;
        const int64_t query = unit->sequence->first_row + unit->first_query + row / job->group;
        float factor = 1.0f, sum = _mm512_reduce_add_ps(_mm512_loadu_ps(state->sums + 16 * row));
        if (job->sinks) {
            /* a sink takes part in the softmax and contributes nothing */
            float ours[16], theirs[16], sink = job->sinks[head] * LOG2_E;
            join(state->maxima + row, &sink, 1, ours, theirs);
            factor = *ours;
            sum = sum * *ours + *theirs;
        }
        for (int64_t dim = 0; dim < job->value_dim; dim += 16) {
            const __m512 numerators =
                _mm512_mul_ps(_mm512_loadu_ps(state->numerators + row * ld + dim), _mm512_set1_ps(factor));
            store16(job->out, (query * num_heads + head) * job->value_dim + dim, job->format,
                    lanes(job->value_dim - dim), _mm512_div_ps(numerators, _mm512_set1_ps(sum)));
        }
    }
}
