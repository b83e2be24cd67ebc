/* What all kernels share: the instruction set, number formats, and a few vector functions.
 *
 * Every kernel is compiled for one level: AVX-512 (F, BW, VL, DQ) with VNNI and BF16, that is Intel since Cooper Lake
 * and Sapphire Rapids, AMD since Zen 4. `hl_is_supported` asks the processor before anything else may be called.
 */
#pragma once

#include <immintrin.h>
#include <stdint.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16")))
#define KERNEL TARGET
#define INLINE TARGET static inline __attribute__((always_inline))
/* GCC keeps an array of vectors in registers only if the loops over it are unrolled early, which this asks for. */
#define PRAGMA(text) _Pragma(#text)
#define UNROLL(times) PRAGMA(GCC unroll times)
#define EXPORT __attribute__((visibility("default")))

/* Formats of rows; the numbers are part of the interface. */
enum { HL_F32 = 0, HL_BF16 = 1 };

static inline int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}
static inline int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Lanes 0 to n - 1 of 16. */
INLINE __mmask16 lanes(int64_t n) {
    return n >= 16 ? 0xffff : (__mmask16)((1u << (n > 0 ? n : 0)) - 1);
}

INLINE __m512 widen(__m256i bf16) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bf16), 16));
}

/* To bfloat16, nearest even; subnormals become zero, as in every BF16 instruction. */
INLINE __m256i narrow(__m512 f32) {
    return (__m256i)_mm512_cvtneps_pbh(f32);
}
INLINE __m512 rounded(__m512 f32) {
    return widen(narrow(f32));
}

/* 16 numbers of `format` from index `at` on as float32; lanes that `mask` leaves out are zero and are not read. */
INLINE __m512 load16(const void *from, int64_t at, int format, __mmask16 mask) {
    if (format == HL_BF16) return widen(_mm256_maskz_loadu_epi16(mask, (const uint16_t *)from + at));
    return _mm512_maskz_loadu_ps(mask, (const float *)from + at);
}

INLINE void store16(void *to, int64_t at, int format, __mmask16 mask, __m512 value) {
    if (format == HL_BF16)
        _mm256_mask_storeu_epi16((uint16_t *)to + at, mask, narrow(value));
    else
        _mm512_mask_storeu_ps((float *)to + at, mask, value);
}

/* The number as it would be after storing and loading it. */
INLINE __m512 in_format(__m512 value, int format) {
    return format == HL_BF16 ? rounded(value) : value;
}

/* e^x, within 2 units in the last place; 0 below -104, infinity above 89. NaN stays NaN. */
INLINE __m512 exp16(__m512 x) {
    /* min and max return their second operand when one is NaN */
    x = _mm512_max_ps(_mm512_set1_ps(-104.0f), _mm512_min_ps(_mm512_set1_ps(104.0f), x));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    /* Cephes' expf: e^r = 1 + r + r^2 p(r) on [-ln2/2, ln2/2] */
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
    return _mm512_scalef_ps(p, n);
}

/* 2^x, within 2 units in the last place, for x up to 127; 0 below -150. NaN stays NaN. */
INLINE __m512 exp2_16(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-151.0f), x);
    const __m512 n = _mm512_roundscale_ps(x, 0), r = _mm512_sub_ps(x, n);
    /* Cephes' exp2f on [-1/2, 1/2] */
    __m512 p = _mm512_set1_ps(1.535336188319500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.339887440266574e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.618437357674640e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.550332471162809e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.402264791363012e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.931472028550421e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

/* sums += 4 products a lane, unsigned times signed bytes. In assembly, because GCC copies and spills the accumulators
 * of the intrinsic, which halves its speed. */
INLINE void add_dot8(__m512i *sums, __m512i w, __m512i x) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sums) : "v"(w), "v"(x));
}

/* sums += 2 products of bfloat16 a lane, each exact, added in float32. */
INLINE void add_dot16(__m512 *sums, __m512i w, __m512i x) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(*sums) : "v"(w), "v"(x));
}

/* 4 bytes of inputs in every lane. */
INLINE __m512i spread4(const void *inputs) {
    int32_t bits;
    __builtin_memcpy(&bits, inputs, 4);
    return _mm512_set1_epi32(bits);
}

/* `function` for a tile of 1 to 6 rows, compiled for each number so that the accumulators live in registers. */
#define DISPATCH_ROWS(function, num_rows, ...)        \
    do {                                              \
        switch (num_rows) {                           \
            case 1: function(1, __VA_ARGS__); break;  \
            case 2: function(2, __VA_ARGS__); break;  \
            case 3: function(3, __VA_ARGS__); break;  \
            case 4: function(4, __VA_ARGS__); break;  \
            case 5: function(5, __VA_ARGS__); break;  \
            default: function(6, __VA_ARGS__); break; \
        }                                             \
    } while (0)
