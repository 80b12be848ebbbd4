// Activations to 16-bit integers; see QuantizeRow in panels.h.
#ifndef OUNCE_QUANT_KERNELS_QUANTIZE_ROW_IMPL_H_
#define OUNCE_QUANT_KERNELS_QUANTIZE_ROW_IMPL_H_

#include <cstdint>

#include "quant/kernels/vector_math.h"

namespace ounce::quant::OUNCE_VEC {

inline float QuantizeRowOnce(const float* x, int64_t cols, int64_t block_stride,
                             uint8_t* hi, uint8_t* lo) {
  // Magnitudes compare like their bit patterns, NaN above all.
  Ints largest{};
  for (int64_t col = 0; col < cols; col += kLanes) {
    const Ints bits =
        reinterpret_cast<Ints>(LoadPart(x + col, cols - col)) & 0x7FFFFFFF;
    const Ints larger = bits > largest;
    largest = (larger & bits) | (~larger & largest);
  }
  int32_t max_bits = 0;
  for (int i = 0; i < kLanes; ++i) {
    if (largest[i] > max_bits) max_bits = largest[i];
  }
  constexpr int32_t kInfinity = 0x7F800000;
  constexpr int32_t kTiny = (127 - 100) << 23;  // 2^-100
  float max;
  __builtin_memcpy(&max, &max_bits, sizeof max);
  const bool usable = max_bits >= kTiny && max_bits < kInfinity;
  const float inverse = usable ? 32767.0f / max : 0.0f;

  for (int64_t block = 0; block * 64 < cols; ++block) {
    uint8_t* block_hi = hi + block * block_stride;
    uint8_t* block_lo = lo + block * block_stride;
    for (int i = 0; i < 64; i += kLanes) {
      const int64_t col = block * 64 + i;
      Ints q{};
      if (usable && col < cols) {
        const Floats scaled =
            Round(LoadPart(x + col, cols - col) * Set(inverse));
        q = __builtin_convertvector(scaled, Ints);
      }
      typedef uint8_t Bytes __attribute__((vector_size(kLanes)));
      const Bytes q_hi = __builtin_convertvector((q >> 8) + 128, Bytes);
      const Bytes q_lo = __builtin_convertvector(q & 255, Bytes);
      __builtin_memcpy(block_hi + i, &q_hi, sizeof q_hi);
      __builtin_memcpy(block_lo + i, &q_lo, sizeof q_lo);
    }
  }
  if (max_bits >= kInfinity) return __builtin_nanf("");
  return usable ? max / 32767.0f : 0.0f;
}

}  // namespace ounce::quant::OUNCE_VEC

#endif  // OUNCE_QUANT_KERNELS_QUANTIZE_ROW_IMPL_H_
