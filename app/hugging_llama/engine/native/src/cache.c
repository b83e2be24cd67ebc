/* Storing a step's new keys and values in the cache that attention.c reads. */
#include <string.h>

#include "simd.h"

/* `rows` [n, num_kv_heads, head_bytes], sequences `row_bytes` apart, each to the last place that its sequence sees:
 * key places[i][2] - 1 of slot places[i][1] of slab places[i][0]. */
EXPORT int64_t hl_write_cache(const void *rows, int64_t row_bytes, int64_t n, void *const *slabs,
                              const int64_t *capacities, const int64_t *places, int64_t num_kv_heads,
                              int64_t head_bytes) {
    for (int64_t i = 0; i < n; i++, places += 3)
        for (int64_t head = 0; head < num_kv_heads; head++) {
            const int64_t at = (places[1] * num_kv_heads + head) * capacities[places[0]] + places[2] - 1;
            memcpy((char *)slabs[places[0]] + at * head_bytes, (const char *)rows + i * row_bytes + head * head_bytes,
                   (size_t)head_bytes);
        }
    return 0;
}
