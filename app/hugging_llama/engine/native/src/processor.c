#include "simd.h"

/* Changes whenever a signature or a packed layout does; the loader compares it with its own. */
EXPORT int64_t hl_version(void) {
    return 6;
}

/* 1 if this processor (and the operating system) runs the kernels. */
EXPORT int64_t hl_is_supported(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
}
