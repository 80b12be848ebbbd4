#include <immintrin.h>

#include "quant/kernels/panels.h"

namespace ounce::quant {
namespace {

inline __m256i LoadPairs(const std::byte* packed, int i) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(packed) + i);
}

// The low halves of eight 32-bit integers that fit 16 bits, in order.
inline __m128i Narrow(__m256i wide) {
  return _mm_packus_epi32(_mm256_castsi256_si128(wide),
                          _mm256_extracti128_si256(wide, 1));
}

}  // namespace

const void* UnpackBFloat16Avx2(const std::byte* packed, void* scratch) {
  auto* to = static_cast<float*>(scratch);
  const __m256i high_half = _mm256_set1_epi32(static_cast<int>(0xFFFF0000u));
  for (int i = 0; i < 64; ++i) {  // half a pair of columns: eight rows
    const __m256i pairs = LoadPairs(packed, i);
    float* even = to + i / 2 * 32 + i % 2 * 8;
    _mm256_store_ps(even, _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)));
    _mm256_store_ps(even + 16,
                    _mm256_castsi256_ps(_mm256_and_si256(pairs, high_half)));
  }
  return scratch;
}

const void* UnpackFloat16Avx2(const std::byte* packed, void* scratch) {
  auto* to = static_cast<float*>(scratch);
  const __m256i low_half = _mm256_set1_epi32(0xFFFF);
  for (int i = 0; i < 64; ++i) {
    const __m256i pairs = LoadPairs(packed, i);
    float* even = to + i / 2 * 32 + i % 2 * 8;
    _mm256_store_ps(even,
                    _mm256_cvtph_ps(Narrow(_mm256_and_si256(pairs, low_half))));
    _mm256_store_ps(even + 16,
                    _mm256_cvtph_ps(Narrow(_mm256_srli_epi32(pairs, 16))));
  }
  return scratch;
}

const void* UnpackNibblesAvx2(const std::byte* packed, void* scratch) {
  auto* to = static_cast<__m256i*>(scratch);
  const __m256i low_half = _mm256_set1_epi8(15);
  for (int i = 0; i < 16; ++i) {  // half a pair of groups
    const __m256i bytes = LoadPairs(packed, i);
    __m256i* first = to + i / 2 * 4 + i % 2;
    _mm256_store_si256(first, _mm256_and_si256(bytes, low_half));
    _mm256_store_si256(first + 2,
                       _mm256_and_si256(_mm256_srli_epi16(bytes, 4), low_half));
  }
  return scratch;
}

}  // namespace ounce::quant
