/* The words that all kernels are written in: vectors of 16 numbers.
 *
 * A vector of 16 float32 is one register with AVX-512, two with AVX2, four with NEON: the compiler splits it. Only what
 * it cannot be told in such words (dot products of pairs and fours, looking bytes up) is spelled out here for each
 * instruction set. The sources that include this file are compiled once for each (see build.py); ISA is its name.
 *
 * Sums are written `a * b + c` and compiled with -ffp-contract=fast: one rounding wherever the processor has it. */
#ifndef LORADOCK_SIMD_H
#define LORADOCK_SIMD_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

enum { LANES = 16, LINE = 64 };

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef uint16_t Shorts __attribute__((vector_size(32)));
typedef int8_t Bytes __attribute__((vector_size(16)));
typedef uint8_t Unsigned __attribute__((vector_size(16)));
typedef _Float16 Halves __attribute__((vector_size(32)));

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif
/* A loop of few turns, whose number is known when it is compiled. */
#define EACH(i, n) UNROLL for (int i = 0; i < (n); i++)

#if defined(__AVX512BF16__)
#define DOTS_BFLOAT16 1 /* an instruction that multiplies pairs of bfloat16 and adds both products */
#else
#define DOTS_BFLOAT16 0
#endif
#if defined(__AVX512F__)
#define MANY_REGISTERS 1 /* 32 of 16 numbers each */
#else
#define MANY_REGISTERS 0
#endif
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__) || defined(__ARM_FEATURE_DOTPROD)
#define DOTS_BYTES 1 /* an instruction that multiplies fours of bytes and adds the products */
#else
#define DOTS_BYTES 0
#endif
#if !DOTS_BYTES && defined(__AVX2__)
#define SHORT_NUMBERS 1 /* sums of bytes are made of 16-bit numbers, of which AVX2 multiplies pairs */
#else
#define SHORT_NUMBERS 0
#endif

/* ---- memory ---- */

#define LOADER(name, kind)                                        \
    INLINE kind name(const void *at) {                            \
        kind found;                                               \
        memcpy(&found, at, sizeof found);                         \
        return found;                                             \
    }
LOADER(load, Floats)
LOADER(load_ints, Ints)
LOADER(load_shorts, Shorts)
LOADER(load_bytes, Unsigned)
LOADER(load_halves, Halves)
LOADER(load_float, float)
LOADER(load_int, int32_t)

INLINE void store(void *at, Floats values) { memcpy(at, &values, sizeof values); }
INLINE void store_shorts(void *at, Shorts values) { memcpy(at, &values, sizeof values); }

/* Ask for a line that will be read soon: into the second cache, or past all of them where it is read just once. */
INLINE void ask(const void *at) { __builtin_prefetch(at, 0, 1); }
INLINE void ask_once(const void *at) { __builtin_prefetch(at, 0, 0); }

/* ---- vectors ---- */

#define SIXTEEN(x) {x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}
INLINE Floats all(float x) { return (Floats)SIXTEEN(x); }
INLINE Ints all_ints(int32_t x) { return (Ints)SIXTEEN(x); }

INLINE Floats chosen(Ints mask, Floats yes, Floats no) {
    return (Floats)((mask & (Ints)yes) | (~mask & (Ints)no));
}
/* The larger of two; NaN is never larger than what was there. */
INLINE Floats larger(Floats found, Floats before) { return chosen(found > before, found, before); }

/* One lane of what `op` makes of all: halves are folded onto each other. */
#define FOLDED(name, element, vector, op)                                                        \
    INLINE element name(vector v) {                                                              \
        typedef element Eight __attribute__((vector_size(32)));                                  \
        typedef element Four __attribute__((vector_size(16)));                                   \
        Eight a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);                         \
        Eight b = __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);                   \
        a = op(a, b);                                                                            \
        Four c = __builtin_shufflevector(a, a, 0, 1, 2, 3), d = __builtin_shufflevector(a, a, 4, 5, 6, 7); \
        c = op(c, d);                                                                            \
        c = op(c, __builtin_shufflevector(c, c, 2, 3, 0, 1));                                    \
        return op(c[0], c[1]);                                                                   \
    }
#define PLUS(a, b) ((a) + (b))
FOLDED(sum_of, float, Floats, PLUS)
FOLDED(sum_of_ints, int32_t, Ints, PLUS)

/* Two vectors' halves folded onto each other, those of `v` and then those of `w`; at the next N also the quarters, … */
#define AT(i, n) (i) / (n) * 2 * (n) + (i) % (n)
#define ALL_AT(n, o)                                                                                               \
    AT(0, n) + o, AT(1, n) + o, AT(2, n) + o, AT(3, n) + o, AT(4, n) + o, AT(5, n) + o, AT(6, n) + o, AT(7, n) + o, \
        AT(8, n) + o, AT(9, n) + o, AT(10, n) + o, AT(11, n) + o, AT(12, n) + o, AT(13, n) + o, AT(14, n) + o, AT(15, n) + o
#define FOLD(v, w, n) (__builtin_shufflevector(v, w, ALL_AT(n, 0)) + __builtin_shufflevector(v, w, ALL_AT(n, n)))

/* The sums of N vectors (4, 8 or 16), in the first N lanes, each as `sum_of` would make it. */
INLINE Floats sums_of(Floats *v, const int N) {
    for (int i = 0; i < N / 2; i++) v[i] = FOLD(v[2 * i], v[2 * i + 1], 8);
    for (int i = 0; i < N / 4; i++) v[i] = FOLD(v[2 * i], v[2 * i + 1], 4);
    for (int i = 0; i < N / 8; i++) v[i] = FOLD(v[2 * i], v[2 * i + 1], 2);
    if (N == 4) v[0] = FOLD(v[0], v[0], 2);
    return N == 16 ? FOLD(v[0], v[1], 1) : FOLD(v[0], v[0], 1);
}

INLINE float largest_of(Floats v) {
    float largest = v[0];
    EACH(i, LANES) largest = v[i] > largest ? v[i] : largest;
    return largest;
}

INLINE Floats of_ints(Ints v) { return __builtin_convertvector(v, Floats); }
/* Rounded to the nearest, ties to even; for sizes below 2**22. */
INLINE Floats rounded(Floats v) {
    const Floats big = all(12582912.0f); /* 1.5 * 2**23: the last bit of a sum with it is worth 1 */
    return (v + big) - big;
}

/* ---- bfloat16 ---- */

INLINE Floats widened(Shorts v) { return (Floats)(__builtin_convertvector(v, Words) << 16); }
/* Rounded to the nearest, ties to even; NaN stays NaN. */
INLINE Shorts narrowed(Floats v) {
    Words bits = (Words)v, nearest = bits + 0x7FFF + ((bits >> 16) & 1);
    Words nan = (Words)(v != v);
    return __builtin_convertvector(((nan & (bits | 0x400000)) | (~nan & nearest)) >> 16, Shorts);
}
INLINE float wide(uint16_t bits) {
    uint32_t whole = (uint32_t)bits << 16;
    float found;
    memcpy(&found, &whole, 4);
    return found;
}
/* The first and the second of two bfloat16. */
INLINE Floats first_half(Ints pairs) { return (Floats)(pairs << 16); }
INLINE Floats second_half(Ints pairs) { return (Floats)(pairs & (int32_t)0xFFFF0000); }

/* ---- halves ---- */

#if defined(__x86_64__) && !defined(__F16C__) /* no instruction knows them, and the compiler's functions for them are slow */
INLINE Floats of_halves(Halves v) {
    const Words bits = __builtin_convertvector((Shorts)v, Words), size = bits & 0x7FFF;
    const Floats finite = (Floats)(size << 13) * 0x1p112f;
    const Floats found = chosen((Ints)(size >= 0x7C00), (Floats)((Words)finite | 0x7F800000), finite);
    return (Floats)((Words)found | (bits & 0x8000) << 16);
}
INLINE float of_half(uint16_t bits) {
    const Shorts halves = {bits};
    return of_halves((Halves)halves)[0];
}
/* Rounded to the nearest, ties to even. */
INLINE uint16_t half_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    const uint16_t sign = bits >> 16 & 0x8000;
    bits &= 0x7FFFFFFF;
    if (bits > 0x7F800000) return sign | 0x7E00;
    if (bits >= 0x477FF000) return sign | 0x7C00; /* nearer to 65536 than to the largest */
    if (bits >= 0x38800000) return (uint16_t)(sign | (bits - (112 << 23) + 0xFFF + (bits >> 13 & 1)) >> 13);
    const float small = fabsf(x) + 0.5f; /* the last bit of this sum is worth the smallest half */
    memcpy(&bits, &small, 4);
    return (uint16_t)(sign | (bits - 0x3F000000));
}
#else
INLINE Floats of_halves(Halves v) { return __builtin_convertvector(v, Floats); }
INLINE float of_half(uint16_t bits) {
    _Float16 half;
    memcpy(&half, &bits, 2);
    return (float)half;
}
INLINE uint16_t half_of(float x) {
    const _Float16 half = (_Float16)x;
    uint16_t bits;
    memcpy(&bits, &half, 2);
    return bits;
}
#endif

/* ---- dot products ---- */

/* total[16] += the two products of bfloat16 in each lane. */
INLINE Floats dot_bfloat16(Floats total, Ints x, Ints weights) {
#if DOTS_BFLOAT16
    return (Floats)_mm512_dpbf16_ps((__m512)total, (__m512bh)x, (__m512bh)weights);
#else
    total = first_half(x) * first_half(weights) + total;
    return second_half(x) * second_half(weights) + total;
#endif
}

#define QUARTERS(i) UNROLL for (int i = 0; i < 4; i++)

/* total[16] += the four products of unsigned weights and signed x in each lane. With SHORT_NUMBERS: two products of 16-bit
 * numbers. */
INLINE Ints dot_bytes(Ints total, Ints weights, Ints x) {
#if defined(__AVX512VNNI__)
    return (Ints)_mm512_dpbusd_epi32((__m512i)total, (__m512i)weights, (__m512i)x);
#elif defined(__AVX2__)
    __m256i t[2], w[2], n[2];
    memcpy(t, &total, LINE), memcpy(w, &weights, LINE), memcpy(n, &x, LINE);
    EACH(i, 2) {
#if defined(__AVXVNNI__)
        t[i] = _mm256_dpbusd_avx_epi32(t[i], w[i], n[i]);
#else
        t[i] = _mm256_add_epi32(t[i], _mm256_madd_epi16(w[i], n[i]));
#endif
    }
    memcpy(&total, t, LINE);
    return total;
#elif defined(__ARM_FEATURE_DOTPROD)
    int32x4_t t[4];
    uint8x16_t w[4];
    int8x16_t n[4];
    memcpy(t, &total, LINE), memcpy(w, &weights, LINE), memcpy(n, &x, LINE);
#if defined(__ARM_FEATURE_MATMUL_INT8)
    QUARTERS(i) t[i] = vusdotq_s32(t[i], w[i], n[i]);
#else
    /* Both signed: what 128 too much would have added is added by itself. */
    QUARTERS(i) {
        t[i] = vdotq_s32(t[i], vreinterpretq_s8_u8(veorq_u8(w[i], vdupq_n_u8(128))), n[i]);
        t[i] = vaddq_s32(t[i], vshlq_n_s32(vdotq_s32(vdupq_n_s32(0), vdupq_n_s8(1), n[i]), 7));
    }
#endif
    memcpy(&total, t, LINE);
    return total;
#else
    EACH(n, 4) total += ((weights >> (8 * n)) & 255) * ((x << (24 - 8 * n)) >> 24);
    return total;
#endif
}

/* The same for weights from 0 to 15, whose sums of a group fit 16 bits: 16 * 15 * 127 is below 2**15. */
INLINE Ints dot_nibbles(Ints total, Ints weights, Ints x) {
#if SHORT_NUMBERS
    __m256i t[2], w[2], n[2];
    memcpy(t, &total, LINE), memcpy(w, &weights, LINE), memcpy(n, &x, LINE);
    EACH(i, 2) t[i] = _mm256_add_epi16(t[i], _mm256_maddubs_epi16(w[i], n[i]));
    memcpy(&total, t, LINE);
    return total;
#else
    return dot_bytes(total, weights, x);
#endif
}
INLINE Ints sums_of_nibbles(Ints total) {
#if SHORT_NUMBERS
    __m256i t[2];
    memcpy(t, &total, LINE);
    EACH(i, 2) t[i] = _mm256_madd_epi16(t[i], _mm256_set1_epi16(1));
    memcpy(&total, t, LINE);
#endif
    return total;
}

/* Of each 16 bytes of `table` those with these numbers; 0 for numbers from 128 on. */
INLINE Ints looked_up(Ints table, Ints numbers) {
#if defined(__AVX512BW__)
    return (Ints)_mm512_shuffle_epi8((__m512i)table, (__m512i)numbers);
#elif defined(__AVX2__)
    __m256i t[2], n[2];
    memcpy(t, &table, LINE), memcpy(n, &numbers, LINE);
    EACH(i, 2) t[i] = _mm256_shuffle_epi8(t[i], n[i]);
    memcpy(&table, t, LINE);
    return table;
#elif defined(__SSSE3__)
    __m128i t[4], n[4];
    memcpy(t, &table, LINE), memcpy(n, &numbers, LINE);
    QUARTERS(i) t[i] = _mm_shuffle_epi8(t[i], n[i]);
    memcpy(&table, t, LINE);
    return table;
#elif defined(__aarch64__)
    uint8x16_t t[4], n[4];
    memcpy(t, &table, LINE), memcpy(n, &numbers, LINE);
    QUARTERS(i) t[i] = vqtbl1q_u8(t[i], n[i]);
    memcpy(&table, t, LINE);
    return table;
#else
    uint8_t t[LINE], n[LINE], found[LINE];
    memcpy(t, &table, LINE), memcpy(n, &numbers, LINE);
    for (int i = 0; i < LINE; i++) found[i] = n[i] > 127 ? 0 : t[i / 16 * 16 + n[i] % 16];
    memcpy(&table, found, LINE);
    return table;
#endif
}
/* 16 bytes in each quarter of a vector. */
INLINE Ints four_times(const void *at) {
    uint8_t table[LINE];
    EACH(i, 4) memcpy(table + 16 * i, at, 16);
    return load_ints(table);
}

/* ---- functions ---- */

/* e^x of each lane, for x below 88; 0 where it would be less than 1e-37; NaN stays. Cephes' polynomial. */
INLINE Floats exponential(Floats x) {
    Floats n = rounded(chosen(x < -85.0f, all(-85.0f), x) * 1.4426950408889634f);
    Floats f = n * -0.693359375f + x;
    f = n * 2.12194440e-4f + f;
    Floats p = all(1.9875691500e-4f);
    p = p * f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * f * f + (f + 1.0f);
    Ints power = (__builtin_convertvector(n, Ints) + 127) << 23;
    return chosen(x < -85.0f, all(0.0f), p * (Floats)power);
}

#endif
