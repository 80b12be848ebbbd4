// bfloat16 in vectors of vector_math.h.
#ifndef OUNCE_QUANT_KERNELS_BFLOAT16_MATH_H_
#define OUNCE_QUANT_KERNELS_BFLOAT16_MATH_H_

#include <cstdint>

#include "quant/kernels/vector_math.h"

namespace ounce::quant::OUNCE_VEC {

typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));
typedef uint16_t HalfWords __attribute__((vector_size(kLanes * 2)));

// Upper halves rounded to nearest even, in place; NaN stays a quiet NaN.
inline Words RoundedToBFloat16(Floats value) {
  const Words bits = reinterpret_cast<Words>(value);
  const Words rounded = bits + 0x7FFFu + ((bits >> 16) & 1u);
  const Words nan = reinterpret_cast<Words>(value != value);
  return ((rounded & ~nan) | ((bits | 0x400000u) & nan)) & 0xFFFF0000u;
}

inline void StoreBFloat16(Floats value, uint16_t* to) {
  const Words halves = RoundedToBFloat16(value) >> 16;
#if defined(__AVX512F__)
  // g++ 12 would narrow and widen whole vectors by way of memory.
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      _mm512_cvtepi32_epi16(reinterpret_cast<__m512i>(halves)));
#else
  const HalfWords narrow = __builtin_convertvector(halves, HalfWords);
  __builtin_memcpy(to, &narrow, sizeof narrow);
#endif
}

inline Floats LoadBFloat16(const uint16_t* from) {
#if defined(__AVX512F__)
  const __m512i words = _mm512_cvtepu16_epi32(
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  return reinterpret_cast<Floats>(_mm512_slli_epi32(words, 16));
#elif defined(__AVX2__) && defined(__FMA__)
  const __m256i words = _mm256_cvtepu16_epi32(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  return reinterpret_cast<Floats>(_mm256_slli_epi32(words, 16));
#else
  HalfWords halves;
  __builtin_memcpy(&halves, from, sizeof halves);
  return reinterpret_cast<Floats>(__builtin_convertvector(halves, Words) << 16);
#endif
}

#if defined(__AVX512BF16__)
// Two vectors side by side. Subnormal numbers become zero.
inline void StoreTwoBFloat16(Floats first, Floats second, uint16_t* to) {
  const __m512bh both = _mm512_cvtne2ps_pbh(second, first);
  __builtin_memcpy(to, &both, sizeof both);
}
#endif

// The first `count` lanes only, as LoadPart and StorePart.
inline void StoreBFloat16Part(Floats value, uint16_t* to, int64_t count) {
  if (count >= kLanes) return StoreBFloat16(value, to);
  uint16_t halves[kLanes];
  StoreBFloat16(value, halves);
  __builtin_memcpy(to, halves, count * 2);
}
inline Floats LoadBFloat16Part(const uint16_t* from, int64_t count) {
  if (count >= kLanes) return LoadBFloat16(from);
  uint16_t halves[kLanes] = {};
  __builtin_memcpy(halves, from, count * 2);
  return LoadBFloat16(halves);
}

}  // namespace ounce::quant::OUNCE_VEC

#endif  // OUNCE_QUANT_KERNELS_BFLOAT16_MATH_H_
