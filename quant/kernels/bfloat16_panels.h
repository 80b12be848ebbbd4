// Panels of weights as what multiplies pairs of bfloat16 reads: per 64 columns
// [32 pairs of cols][16 rows][2 cols]. For files that are compiled for AVX-512.
#ifndef OUNCE_QUANT_KERNELS_BFLOAT16_PANELS_H_
#define OUNCE_QUANT_KERNELS_BFLOAT16_PANELS_H_

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "quant/kernels/bfloat16_math.h"
#include "quant/kernels/convolution.h"
#include "quant/kernels/vector_math.h"

namespace ounce::quant::OUNCE_VEC {

inline constexpr int64_t kBFloat16TileBytes = 2048;

// A tile of codes, [16 groups of 4 cols][16 rows][4 cols]: exact, since they
// have 8 bits.
inline void CodesToBFloat16(const int8_t* codes, std::byte* to) {
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xFFFF0000u));
  const auto floats = [](__m512i four, int shift) {
    const __m512i code = _mm512_srai_epi32(
        _mm512_sllv_epi32(four, _mm512_set1_epi32(shift)), 24);
    return _mm512_castps_si512(_mm512_cvtepi32_ps(code));
  };
  for (int group = 0; group < 16; ++group) {
    const __m512i four = _mm512_loadu_si512(codes + group * 64);
    for (int pair = 0; pair < 2; ++pair) {
      const __m512i even = floats(four, 24 - 16 * pair);
      const __m512i odd = floats(four, 16 - 16 * pair);
      _mm512_storeu_si512(to + (group * 2 + pair) * 64,
                          _mm512_or_si512(_mm512_srli_epi32(even, 16),
                                          _mm512_and_si512(odd, high)));
    }
  }
}

// A tile of floats [64 cols][16 rows], rounded.
inline void FloatsToBFloat16(const float* floats, std::byte* to) {
  for (int pair = 0; pair < 32; ++pair) {
    const Words even = RoundedToBFloat16(Load(floats + pair * 32));
    const Words odd = RoundedToBFloat16(Load(floats + pair * 32 + 16));
    const Words both = (even >> 16) | odd;
    __builtin_memcpy(to + pair * 64, &both, sizeof both);
  }
}

// At `scratch`, unless they are packed that way already.
inline const std::byte* UnpackBFloat16Panels(const ConvolutionJob& job,
                                             int64_t first_panel,
                                             int64_t num_panels,
                                             std::byte* scratch) {
  const std::byte* const packed =
      job.tiles + first_panel * job.blocks * job.tile_bytes;
  if (job.weight == ConvolutionWeight::kBFloat16) return packed;
  for (int64_t tile = 0; tile < num_panels * job.blocks; ++tile) {
    const std::byte* const from = packed + tile * job.tile_bytes;
    std::byte* const to = scratch + tile * kBFloat16TileBytes;
    alignas(64) std::byte unpacked[4096];
    const void* const values =
        job.unpack == nullptr ? from : job.unpack(from, unpacked);
    if (job.weight == ConvolutionWeight::kInt8) {
      CodesToBFloat16(static_cast<const int8_t*>(values), to);
    } else {
      FloatsToBFloat16(static_cast<const float*>(values), to);
    }
  }
  return scratch;
}

}  // namespace ounce::quant::OUNCE_VEC

#endif  // OUNCE_QUANT_KERNELS_BFLOAT16_PANELS_H_
