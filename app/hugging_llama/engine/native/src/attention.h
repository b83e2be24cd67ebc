/* Causal attention of the newest tokens of sequences over their slots of a KV cache.
 *
 * Keys are taken in blocks that are aligned to key 0. Each block gives a query softmax numerators, their sum and the
 * maximum; the blocks of a query are merged in order (Milakov and Gimelshein, arXiv:1805.02867; Dao et al.,
 * arXiv:2205.14135). What a block gives a query depends on that query alone, so its result has the same bits whatever
 * else is in the step, however the prompt was cut, and on any number of threads.
 *
 * All products run on words of 4 bytes, one float32 or two bfloat16: one operand is rows of words, the other is packed
 * in panels [words][64 lanes]. Keys are packed with keys as lanes and dimensions as words, values with dimensions as
 * lanes and keys as words. The query heads that share keys are rows of the same product.
 */
#pragma once

#include <stdint.h>

#include "simd.h"

enum { BLOCK_KEYS = 256, PANEL = 64, VECTORS = 4, TILE_ROWS = 6, MOST_ROWS = 8 };

/* Consecutive queries of one slot, each over the keys up to its own position. */
struct sequence {
    void *keys, *values; /* the slot: [num_kv_heads, capacity, .] */
    int64_t capacity;
    int64_t first_position; /* of its first query */
    int64_t num_queries;
    int64_t first_row; /* of its first query, among the rows of the step */
};

struct attention {
    const void *query; /* [n, num_heads, key_dim] of `format`, rows `ldq` apart */
    int64_t ldq;
    void *out;          /* [n, num_heads, value_dim] of `format`, contiguous */
    const float *sinks; /* [num_heads] or NULL */
    int64_t num_kv_heads, group, key_dim, value_dim;
    int64_t window; /* keys that a query sees, its own included; 0: all */
    int format;
    float scaling, softcap; /* softcap 0: none */
};

/* The softmax of some rows over the blocks so far. Scores count in base 2: e^x = 2^(x log2 e). */
struct state {
    float *maxima;     /* [rows] */
    float *sums;       /* [rows, 16]; the sum of the lanes is meant */
    float *numerators; /* [rows, padded value_dim] */
};

/* What one thread works with. */
struct scratch {
    uint32_t *queries; /* [rows, words of a key] */
    uint32_t *keys;    /* [panels of keys][words of a key][PANEL] */
    uint32_t *values;  /* [panels of dimensions][words of a block][PANEL] */
    float *scores;     /* [MOST_ROWS, BLOCK_KEYS] */
};

/* Queries of one sequence and key head: rows [num_queries, group]. */
struct unit {
    const struct sequence *sequence;
    int64_t head, first_query, num_queries;
};

static inline int64_t words_of(int64_t numbers, int format) {
    return format == HL_BF16 ? ceil_div(numbers, 2) : numbers;
}
static inline int64_t word_of(int64_t number, int format) {
    return format == HL_BF16 ? number / 2 : number;
}
static inline int64_t padded_dim(int64_t value_dim) {
    return ceil_div(value_dim, 32) * 32;
}

static inline const void *at_number(const void *base, int64_t index, int format) {
    return (const char *)base + index * (format == HL_BF16 ? 2 : 4);
}

/* The first key that a query at `position` sees. */
static inline int64_t first_key(const struct attention *job, int64_t position) {
    return job->window > 0 && position >= job->window ? position - job->window + 1 : 0;
}

/* attention_tasks.c: all queries, on at most `num_threads` threads. Returns 0, or 1 without memory. */
int64_t attend(const struct attention *job, const struct sequence *sequences, int64_t num_sequences,
               int64_t num_threads);

/* attention_pack.c: rows as the products need them. Numbers behind the end of a row become zero. */
void pack_queries(const struct attention *job, const struct unit *unit, uint32_t *to);
/* Keys [begin, stop) of a block whose first key is `keys`; begin is a multiple of PANEL. */
void pack_keys(const struct attention *job, const void *keys, int64_t begin, int64_t stop, uint32_t *to);
void pack_values(const struct attention *job, const void *values, int64_t begin, int64_t stop, uint32_t *to);

/* attention_block.c: merges block number `block` into the state of the unit's rows. */
void attend_block(const struct attention *job, const struct unit *unit, int64_t block, const struct scratch *scratch,
                  const struct state *state);
/* attention_few.c: the same for a few rows, without packing. Returns 0 if it is not for this unit. */
int attend_few_rows(const struct attention *job, const struct unit *unit, int64_t block, const void *keys,
                    const void *values, const struct scratch *scratch, const struct state *state);
/* Merges the state `from` of `rows` rows into `to`. */
void merge_states(const struct attention *job, int64_t rows, const struct state *from, const struct state *to);
/* Writes the unit's rows of the result. */
void finish_rows(const struct attention *job, const struct unit *unit, const struct state *state);
