// One vector of W floats for the instruction set this file is compiled for.
// Multiply-adds are written out (fma, fnma): forward and backward must round alike, so contraction is off elsewhere.
#pragma once
#include <math.h>
#include <stdint.h>
#if defined(__AVX512F__) || defined(__AVX2__) || defined(__SSE4_2__)
#include <immintrin.h>
#endif
#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif

// Before loops over vectors in registers: otherwise gcc makes calls of memset and memcpy of them, through memory.
#define UNROLLED _Pragma("GCC unroll 16")

namespace {

#if defined(__AVX512F__) && defined(__AVX512DQ__)

enum { W = 16 };
typedef __m512 V;
typedef __mmask16 M;
inline V splat(float a) { return _mm512_set1_ps(a); }
inline V load(const float* p) { return _mm512_load_ps(p); }
inline V loadu(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, V a) { _mm512_store_ps(p, a); }
inline void storeu(float* p, V a) { _mm512_storeu_ps(p, a); }
inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
inline V fnma(V a, V b, V c) { return _mm512_fnmadd_ps(a, b, c); }
inline V smaller(V a, V b) { return _mm512_min_ps(a, b); }
inline V larger(V a, V b) { return _mm512_max_ps(a, b); }
inline V magnitude(V a) { return _mm512_abs_ps(a); }
inline V negative(V a) { return _mm512_or_ps(a, _mm512_set1_ps(-0.f)); }  // -|a|
inline V root(V a) { return _mm512_sqrt_ps(a); }
inline M ge(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
inline M gt(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
inline M le(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
inline M both(M a, M b) { return M(a & b); }
inline M without(M a, M b) { return M(a & ~b); }
inline unsigned bits(M a) { return a; }
inline V keep(M m, V a) { return _mm512_maskz_mov_ps(m, a); }
inline V select(M m, V a, V b) { return _mm512_mask_blend_ps(m, b, a); }
inline V shift_exponent(V a, V n) {
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_slli_epi32(_mm512_castps_si512(n), 23)));
}
inline V reciprocal(V a) {
  V r = _mm512_rcp14_ps(a);
  return _mm512_mul_ps(r, _mm512_fnmadd_ps(a, r, _mm512_set1_ps(2.f)));
}

#elif defined(__AVX2__) && defined(__FMA__)

enum { W = 8 };
typedef __m256 V;
typedef __m256 M;
inline V splat(float a) { return _mm256_set1_ps(a); }
inline V load(const float* p) { return _mm256_load_ps(p); }
inline V loadu(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, V a) { _mm256_store_ps(p, a); }
inline void storeu(float* p, V a) { _mm256_storeu_ps(p, a); }
inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
inline V fnma(V a, V b, V c) { return _mm256_fnmadd_ps(a, b, c); }
inline V smaller(V a, V b) { return _mm256_min_ps(a, b); }
inline V larger(V a, V b) { return _mm256_max_ps(a, b); }
inline V magnitude(V a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.f), a); }
inline V negative(V a) { return _mm256_or_ps(a, _mm256_set1_ps(-0.f)); }  // -|a|
inline V root(V a) { return _mm256_sqrt_ps(a); }
inline M ge(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_GE_OQ); }
inline M gt(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
inline M le(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
inline M both(M a, M b) { return _mm256_and_ps(a, b); }
inline M without(M a, M b) { return _mm256_andnot_ps(b, a); }
inline unsigned bits(M a) { return unsigned(_mm256_movemask_ps(a)); }
inline V keep(M m, V a) { return _mm256_and_ps(m, a); }
inline V select(M m, V a, V b) { return _mm256_blendv_ps(b, a, m); }
inline V shift_exponent(V a, V n) {
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_slli_epi32(_mm256_castps_si256(n), 23)));
}
inline V reciprocal(V a) {
  V r = _mm256_rcp_ps(a);
  return _mm256_mul_ps(r, _mm256_fnmadd_ps(a, r, _mm256_set1_ps(2.f)));
}

#elif defined(__SSE4_2__)

enum { W = 4 };
typedef __m128 V;
typedef __m128 M;
inline V splat(float a) { return _mm_set1_ps(a); }
inline V load(const float* p) { return _mm_load_ps(p); }
inline V loadu(const float* p) { return _mm_loadu_ps(p); }
inline void store(float* p, V a) { _mm_store_ps(p, a); }
inline void storeu(float* p, V a) { _mm_storeu_ps(p, a); }
inline V fma(V a, V b, V c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
inline V fnma(V a, V b, V c) { return _mm_sub_ps(c, _mm_mul_ps(a, b)); }
inline V smaller(V a, V b) { return _mm_min_ps(a, b); }
inline V larger(V a, V b) { return _mm_max_ps(a, b); }
inline V magnitude(V a) { return _mm_andnot_ps(_mm_set1_ps(-0.f), a); }
inline V negative(V a) { return _mm_or_ps(a, _mm_set1_ps(-0.f)); }  // -|a|
inline V root(V a) { return _mm_sqrt_ps(a); }
inline M ge(V a, V b) { return _mm_cmpge_ps(a, b); }
inline M gt(V a, V b) { return _mm_cmpgt_ps(a, b); }
inline M le(V a, V b) { return _mm_cmple_ps(a, b); }
inline M both(M a, M b) { return _mm_and_ps(a, b); }
inline M without(M a, M b) { return _mm_andnot_ps(b, a); }
inline unsigned bits(M a) { return unsigned(_mm_movemask_ps(a)); }
inline V keep(M m, V a) { return _mm_and_ps(m, a); }
inline V select(M m, V a, V b) { return _mm_blendv_ps(b, a, m); }
inline V shift_exponent(V a, V n) {
  return _mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(a), _mm_slli_epi32(_mm_castps_si128(n), 23)));
}
inline V reciprocal(V a) { return _mm_div_ps(_mm_set1_ps(1.f), a); }

#else  // NEON, and anything else through the compiler's portable vectors

enum { W = 4 };
typedef float V __attribute__((vector_size(16)));
typedef int32_t M __attribute__((vector_size(16)));
typedef uint32_t U __attribute__((vector_size(16)));
inline V splat(float a) { return V{a, a, a, a}; }
inline V load(const float* p) { return *reinterpret_cast<const V*>(p); }
inline V loadu(const float* p) {
  V a;
  __builtin_memcpy(&a, p, sizeof a);
  return a;
}
inline void store(float* p, V a) { *reinterpret_cast<V*>(p) = a; }
inline void storeu(float* p, V a) { __builtin_memcpy(p, &a, sizeof a); }
#if defined(__ARM_NEON)
inline V fma(V a, V b, V c) { return (V)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
inline V fnma(V a, V b, V c) { return (V)vfmsq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
#else
inline V fma(V a, V b, V c) { return a * b + c; }
inline V fnma(V a, V b, V c) { return c - a * b; }
#endif
inline M ge(V a, V b) { return (M)(a >= b); }
inline M gt(V a, V b) { return (M)(a > b); }
inline M le(V a, V b) { return (M)(a <= b); }
inline M both(M a, M b) { return a & b; }
inline M without(M a, M b) { return a & ~b; }
inline unsigned bits(M a) { return (a[0] & 1u) | (a[1] & 2u) | (a[2] & 4u) | (a[3] & 8u); }
inline V keep(M m, V a) { return (V)(m & (M)a); }
inline V select(M m, V a, V b) { return (V)((m & (M)a) | (~m & (M)b)); }
inline V smaller(V a, V b) { return select((M)(a < b), a, b); }
inline V larger(V a, V b) { return select((M)(a > b), a, b); }
inline V magnitude(V a) { return (V)((M)a & 0x7fffffff); }
inline V negative(V a) { return (V)((U)a | 0x80000000u); }  // -|a|
inline V root(V a) { return V{sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])}; }
inline V shift_exponent(V a, V n) { return (V)((U)a + ((U)n << 23)); }
inline V reciprocal(V a) { return 1.f / a; }

#endif

// out = 2^x for x in [-126, 0]; other arguments give numbers without meaning. Relative error 8e-8 plus rounding.
template <int N>
inline void exp2(const V (&x)[N], V (&out)[N]) {
  const V magic = splat(12582912.f);  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const float coefficients[] = {9.675541334e-03f, 5.550713274e-02f, 2.402211972e-01f, 6.931469671e-01f, 1.000000072e+00f};
  V n[N], f[N];
  for (int i = 0; i < N; i++) n[i] = x[i] + magic;
  for (int i = 0; i < N; i++) f[i] = x[i] - (n[i] - magic);
  for (int i = 0; i < N; i++) out[i] = splat(1.327647199e-03f);
  for (float c : coefficients)
    for (int i = 0; i < N; i++) out[i] = fma(out[i], f[i], splat(c));
  for (int i = 0; i < N; i++) out[i] = shift_exponent(out[i], n[i]);
}

typedef int32_t I __attribute__((vector_size(sizeof(V))));
inline I whole(V a) { return __builtin_convertvector(a, I); }  // towards zero
inline V real(I a) { return __builtin_convertvector(a, V); }
inline V ceil_positive(V a) {
  V down = real(whole(a));
  return down + keep(gt(a, down), splat(1.f));
}

// log2 of positive normal numbers, absolute error about 1e-7.
inline V log2(V x) {
  I word = (I)x, exponent = (word - 0x3f3504f3) >> 23;  // such that the mantissa lies between sqrt(1/2) and sqrt(2)
  V m = (V)(word - exponent * (1 << 23)), one = splat(1.f);
  V s = (m - one) / (m + one), t = s * s;  // log m = 2 artanh s
  V p = fma(t, splat(0.320598898f), splat(0.412198583f));
  p = fma(p, t, splat(0.577078016f));
  p = fma(p, t, splat(0.961796694f));
  p = fma(p, t, splat(2.885390082f));
  return fma(s, p, real(exponent));
}

inline M finite(V a) { return le(magnitude(a), splat(3.402823466e38f)); }

inline float sum(V a) {
  alignas(64) float lanes[W];
  store(lanes, a);
  float total[4] = {lanes[0], lanes[1], lanes[2], lanes[3]};
  for (int i = 4; i < W; i++) total[i & 3] += lanes[i];
  return (total[0] + total[2]) + (total[1] + total[3]);
}

#if defined(__AVX2__)
// The sums of a's and b's halves, in each 128 bits. Fewer operations than an hadd, which is four.
inline __m256 halved(__m256 a, __m256 b) {
  return _mm256_add_ps(_mm256_blend_ps(a, b, 0xcc), _mm256_shuffle_ps(a, b, 0x4e));
}
// In each 128 bits the sums of four vectors.
inline __m256 half_sums(__m256 a, __m256 b, __m256 c, __m256 d) {
  const __m256 ab = halved(a, b), cd = halved(c, d);
  return _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x88), _mm256_shuffle_ps(ab, cd, 0xdd));
}
// Sums over the lanes of eight vectors at once.
inline __m256 sums8(__m256 a, __m256 b, __m256 c, __m256 d, __m256 e, __m256 f, __m256 g, __m256 h) {
  const __m256 abcd = half_sums(a, b, c, d), efgh = half_sums(e, f, g, h);
  return _mm256_add_ps(_mm256_permute2f128_ps(abcd, efgh, 0x20), _mm256_permute2f128_ps(abcd, efgh, 0x31));
}
#endif
#if defined(__AVX512F__) && defined(__AVX512DQ__)
inline __m256 folded(V a) { return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)); }
#elif defined(__AVX2__)
inline __m256 folded(V a) { return a; }
#endif

#if defined(__AVX2__)
inline __m128 sums4(__m256 a, __m256 b, __m256 c, __m256 d) {
  const __m256 abcd = half_sums(a, b, c, d);
  return _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
}
#endif

// out[i] = sum of the lanes of a[i].
template <int N>
inline void sums(const V (&a)[N], float* out) {
  int i = 0;
#if defined(__AVX2__)
  for (; i + 8 <= N; i += 8)
    _mm256_storeu_ps(out + i, sums8(folded(a[i]), folded(a[i + 1]), folded(a[i + 2]), folded(a[i + 3]), folded(a[i + 4]),
                                    folded(a[i + 5]), folded(a[i + 6]), folded(a[i + 7])));
  for (; i + 4 <= N; i += 4)
    _mm_storeu_ps(out + i, sums4(folded(a[i]), folded(a[i + 1]), folded(a[i + 2]), folded(a[i + 3])));
  if (i < N) {
    const __m256 zero = _mm256_setzero_ps();
    alignas(16) float rest[4];
    _mm_store_ps(rest, sums4(folded(a[i]), i + 1 < N ? folded(a[i + 1]) : zero, i + 2 < N ? folded(a[i + 2]) : zero, zero));
    for (int j = 0; i < N; i++, j++) out[i] = rest[j];
  }
#endif
  for (; i < N; i++) out[i] = sum(a[i]);
}

// Positions of the set bits of a byte, as bytes; and for each bit how many set ones precede it.
struct BitTable {
  uint64_t places[256], ranks[256];
  constexpr BitTable() : places(), ranks() {
    for (int mask = 0; mask < 256; mask++) {
      int n = 0;
      for (int bit = 0; bit < 8; bit++) {
        ranks[mask] |= uint64_t(n) << (8 * bit);
        if (mask >> bit & 1) places[mask] |= uint64_t(bit) << (8 * n++);
      }
    }
  }
};
constexpr BitTable BITS;

// Puts the lanes of `mask` side by side to `to`, where W floats may be written.
inline void pack(float* to, V a, unsigned mask) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  storeu(to, _mm512_maskz_compress_ps(M(mask), a));
#elif defined(__AVX2__) && defined(__FMA__)
  const __m128i places = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(BITS.places + mask));
  storeu(to, _mm256_permutevar8x32_ps(a, _mm256_cvtepu8_epi32(places)));
#else
  float lanes[W];
  storeu(lanes, a);
  for (int l = 0; l < W; l++) to[l] = lanes[BITS.places[mask] >> (8 * l) & (W - 1)];
#endif
}

// The reverse, from where W floats may be read; 0 in the other lanes. `set` is the same mask.
inline V unpack(const float* from, unsigned mask, M set) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return _mm512_maskz_expand_ps(set, loadu(from));
#elif defined(__AVX2__) && defined(__FMA__)
  const __m128i ranks = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(BITS.ranks + mask));
  return keep(set, _mm256_permutevar8x32_ps(loadu(from), _mm256_cvtepu8_epi32(ranks)));
#else
  alignas(64) float lanes[W];
  for (int l = 0; l < W; l++) lanes[l] = from[BITS.ranks[mask] >> (8 * l) & (W - 1)];
  return keep(set, load(lanes));
#endif
}

}  // namespace
