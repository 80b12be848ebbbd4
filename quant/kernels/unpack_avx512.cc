#include <immintrin.h>

#include "quant/kernels/panels.h"

namespace ounce::quant {

const void* UnpackBFloat16Avx512(const std::byte* packed, void* scratch) {
  auto* to = static_cast<float*>(scratch);
  const __m512i high_half = _mm512_set1_epi32(static_cast<int>(0xFFFF0000u));
  for (int i = 0; i < 32; ++i) {
    const __m512i pairs = _mm512_load_si512(packed + i * 64);
    _mm512_store_ps(to + i * 32,
                    _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)));
    _mm512_store_ps(to + i * 32 + 16,
                    _mm512_castsi512_ps(_mm512_and_si512(pairs, high_half)));
  }
  return scratch;
}

const void* UnpackFloat16Avx512(const std::byte* packed, void* scratch) {
  auto* to = static_cast<float*>(scratch);
  for (int i = 0; i < 32; ++i) {
    const __m512i pairs = _mm512_load_si512(packed + i * 64);
    _mm512_store_ps(to + i * 32, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(pairs)));
    _mm512_store_ps(
        to + i * 32 + 16,
        _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(pairs, 16))));
  }
  return scratch;
}

}  // namespace ounce::quant
