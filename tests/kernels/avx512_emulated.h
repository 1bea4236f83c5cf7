// Lets the x86-64-v4 code of the kernels be compiled for and run on a processor without AVX-512, with SIMDe's emulation of
// the intrinsics (Debian: libsimde-dev). Used by emulate_avx512.sh.
#pragma once
#include <immintrin.h>
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#define __m512 simde__m512

// What SIMDe 0.7 lacks, or takes from the compiler for real.
static inline simde__m512 emulated_expand(simde__mmask16 mask, simde__m512 a) {
  simde__m512 result;
  for (int i = 0, n = 0; i < 16; i++) result[i] = mask >> i & 1 ? a[n++] : 0.f;
  return result;
}
static inline simde__m512 emulated_reciprocal(simde__m512 a) {  // to 14 bits
  simde__m512 result;
  for (int i = 0; i < 16; i++) {
    const float exact = 1.f / a[i];
    result[i] = __builtin_bit_cast(float, __builtin_bit_cast(unsigned, exact) & 0xfffffe00u);
  }
  return result;
}
static inline __m256 emulated_half(simde__m512 a, int half) {
  __m256 result;
  __builtin_memcpy(&result, reinterpret_cast<const char*>(&a) + 32 * half, 32);
  return result;
}
#undef _mm512_maskz_expand_ps
#undef _mm512_rcp14_ps
#undef _mm512_extractf32x8_ps
#undef _mm512_castps512_ps256
#define _mm512_maskz_expand_ps(mask, a) emulated_expand(mask, a)
#define _mm512_rcp14_ps(a) emulated_reciprocal(a)
#define _mm512_extractf32x8_ps(a, half) emulated_half(a, half)
#define _mm512_castps512_ps256(a) emulated_half(a, 0)
#define __AVX512F__ 1
#define __AVX512DQ__ 1
