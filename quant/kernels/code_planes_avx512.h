// Codes out of tiles in planes of bits (panels.h), in registers.
#ifndef OUNCE_QUANT_KERNELS_CODE_PLANES_AVX512_H_
#define OUNCE_QUANT_KERNELS_CODE_PLANES_AVX512_H_

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "quant/kernels/panels.h"
#include "quant/kernels/vector_math.h"

namespace ounce::quant::OUNCE_VEC {

// Each of the 16 columns from 16 * sixteen on: four groups of 4 columns.
template <int kBits>
inline void LoadCodes(const std::byte* tile, int sixteen, __m512i codes[4]) {
  if constexpr (kBits == 8) {
    OUNCE_UNROLL
    for (int i = 0; i < 4; ++i) {
      codes[i] = _mm512_load_si512(tile + sixteen * 256 + i * 64);
    }
    return;
  }
  if constexpr ((kBits & 4) != 0) {
    const __m512i mask = _mm512_set1_epi8(15);
    OUNCE_UNROLL
    for (int i = 0; i < 2; ++i) {
      const __m512i two = _mm512_load_si512(tile + sixteen * 128 + i * 64);
      codes[2 * i] = _mm512_and_si512(two, mask);
      codes[2 * i + 1] = _mm512_and_si512(_mm512_srli_epi16(two, 4), mask);
    }
  }
  if constexpr ((kBits & 2) != 0) {
    constexpr int kAt = kBits & 4;  // of the code's bits
    const __m512i mask = _mm512_set1_epi8(3 << kAt);
    const __m512i four =
        _mm512_load_si512(tile + PlaneOffset(kBits, 2) + sixteen * 64);
    const __m512i moved[4] = {
        kAt == 0 ? four : _mm512_slli_epi16(four, 4),
        kAt == 0 ? _mm512_srli_epi16(four, 2) : _mm512_slli_epi16(four, 2),
        kAt == 0 ? _mm512_srli_epi16(four, 4) : four,
        kAt == 0 ? _mm512_srli_epi16(four, 6) : _mm512_srli_epi16(four, 2)};
    OUNCE_UNROLL
    for (int i = 0; i < 4; ++i) {
      codes[i] =
          kAt == 0 ? _mm512_and_si512(moved[i], mask)
                   // codes[i] | (moved[i] & mask)
                   : _mm512_ternarylogic_epi64(codes[i], moved[i], mask, 0xF8);
    }
  }
  if constexpr ((kBits & 1) != 0) {
    const __m512i bit = _mm512_set1_epi8(1 << (kBits & 6));
    const std::byte* from = tile + PlaneOffset(kBits, 1) + sixteen * 32;
    OUNCE_UNROLL
    for (int i = 0; i < 4; ++i) {
      uint64_t set;
      __builtin_memcpy(&set, from + i * 8, sizeof set);
      codes[i] = kBits == 1
                     ? _mm512_maskz_mov_epi8(set, bit)
                     : _mm512_mask_add_epi8(codes[i], set, codes[i], bit);
    }
  }
}

}  // namespace ounce::quant::OUNCE_VEC

#endif  // OUNCE_QUANT_KERNELS_CODE_PLANES_AVX512_H_
