/* The entries: new keys and values go to their slots, then all queries attend. */
#include "attention.h"

#include <stdlib.h>
#include <string.h>

#include "parallel.h"

/* Up to so many tokens are copied by the caller's thread. */
enum { SERIAL_TOKENS = 32 };

/* A step's new keys and values [n, num_kv_heads, .], rows `ldk` and `ldv` apart; NULL: they are in the cache already. */
struct additions {
    const void *keys, *values;
    int64_t ldk, ldv;
};

struct append {
    const struct attention *job;
    const struct additions *new;
    const struct sequence *sequence;
};

static void append_token(void *context, int64_t token) {
    const struct append *append = context;
    const struct attention *job = append->job;
    const struct sequence *to = append->sequence;
    const int64_t row = to->first_row + token, size = job->format == HL_BF16 ? 2 : 4;
    for (int64_t head = 0; head < job->num_kv_heads; head++) {
        const int64_t at = head * to->capacity + to->first_position + token;
        memcpy((char *)to->keys + at * job->key_dim * size,
               at_number(append->new->keys, row * append->new->ldk + head * job->key_dim, job->format),
               (size_t)(job->key_dim * size));
        memcpy((char *)to->values + at * job->value_dim * size,
               at_number(append->new->values, row * append->new->ldv + head * job->value_dim, job->format),
               (size_t)(job->value_dim * size));
    }
}

/* Returns 0, or 1 without memory. */
static int64_t append_and_attend(const struct attention *job, const struct additions *new,
                                 const struct sequence *sequences, int64_t num_sequences, int64_t num_threads) {
    for (int64_t i = 0; new->keys && i < num_sequences; i++) {
        struct append append = {job, new, sequences + i};
        const int64_t n = sequences[i].num_queries;
        parallel_for(append_token, &append, n, n > SERIAL_TOKENS ? num_threads : 1);
    }
    return attend(job, sequences, num_sequences, num_threads);
}

/* One new token a sequence: `query` [n, num_kv_heads * group, key_dim] with rows `ldq` apart, `out` contiguous with
 * value_dim instead. Sequence i lies in slot places[i][1] of slab places[i][0], slabs are [slots, num_kv_heads,
 * capacity, .]; it sees the first places[i][2] keys (at least 1), or the last `window` of those if window > 0. The last
 * key and value are taken from row i of `new_keys`, `new_values` [n, num_kv_heads, .], rows `ldk`, `ldv` apart, unless
 * those are NULL. `softcap` 0: none. */
EXPORT int64_t hl_decode_attention(const void *query, int64_t ldq, int64_t n, void *const *keys, void *const *values,
                                   const int64_t *capacities, const int64_t *places, const void *new_keys, int64_t ldk,
                                   const void *new_values, int64_t ldv, const float *sinks, int64_t num_kv_heads,
                                   int64_t group, int64_t key_dim, int64_t value_dim, int64_t window, int64_t format,
                                   float scaling, float softcap, void *out, int64_t num_threads) {
    const struct attention job = {query,   ldq,       out,    sinks,       num_kv_heads, group,
                                  key_dim, value_dim, window, (int)format, scaling,      softcap};
    struct sequence *sequences = malloc((size_t)(n + 1) * sizeof(struct sequence));
    if (!sequences) return 1;
    for (int64_t i = 0; i < n; i++) {
        const int64_t *place = places + 3 * i, rows = place[1] * num_kv_heads * capacities[place[0]];
        void *slot_keys = (void *)at_number(keys[place[0]], rows * key_dim, job.format);
        void *slot_values = (void *)at_number(values[place[0]], rows * value_dim, job.format);
        sequences[i] = (struct sequence){slot_keys, slot_values, capacities[place[0]], place[2] - 1, 1, i};
    }
    const struct additions new = {new_keys, new_values, ldk, ldv};
    const int64_t failed = append_and_attend(&job, &new, sequences, n, num_threads);
    free(sequences);
    return failed;
}

/* `n` tokens of one sequence, whose slot is `keys`, `values` [num_kv_heads, capacity, .]; the first is at
 * `first_position`. All else as above. */
EXPORT int64_t hl_chunk_attention(const void *query, int64_t ldq, int64_t n, void *keys, void *values, int64_t capacity,
                                  int64_t first_position, const void *new_keys, int64_t ldk, const void *new_values,
                                  int64_t ldv, const float *sinks, int64_t num_kv_heads, int64_t group, int64_t key_dim,
                                  int64_t value_dim, int64_t window, int64_t format, float scaling, float softcap,
                                  void *out, int64_t num_threads) {
    const struct attention job = {query,   ldq,       out,    sinks,       num_kv_heads, group,
                                  key_dim, value_dim, window, (int)format, scaling,      softcap};
    const struct sequence sequence = {keys, values, capacity, first_position, n, 0};
    const struct additions new = {new_keys, new_values, ldk, ldv};
    return append_and_attend(&job, &new, &sequence, 1, num_threads);
}
