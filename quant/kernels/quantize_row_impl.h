// Activations to integers; see QuantizeRow in panels.h.
#ifndef OUNCE_QUANT_KERNELS_QUANTIZE_ROW_IMPL_H_
#define OUNCE_QUANT_KERNELS_QUANTIZE_ROW_IMPL_H_

#include <cmath>
#include <cstdint>

#include "quant/kernels/vector_math.h"
#include "quant/outliers.h"

namespace ounce::quant::OUNCE_VEC {

inline constexpr int32_t kInfinity = 0x7F800000;

// Calls take(col, q) for each kLanes columns up to the end of the last block,
// where q ~ x / sx are integers up to `most` in magnitude, zeros past the end;
// returns sx. load(col) are the columns from `col` on.
template <class LoadX, class Take>
inline float RoundRow(int64_t cols, float most, const LoadX& load,
                      const Take& take) {
  Ints largest{};
  for (int64_t col = 0; col < cols; col += kLanes) {
    const Ints bits = MagnitudeBits(load(col));
    const Ints larger = bits > largest;
    largest = (larger & bits) | (~larger & largest);
  }
  int32_t max_bits = 0;
  for (int i = 0; i < kLanes; ++i) {
    if (largest[i] > max_bits) max_bits = largest[i];
  }
  constexpr int32_t kTiny = (127 - 100) << 23;  // 2^-100
  float max;
  __builtin_memcpy(&max, &max_bits, sizeof max);
  const bool usable = max_bits >= kTiny && max_bits < kInfinity;
  const float inverse = usable ? most / max : 0.0f;

  const int64_t padded = (cols + 63) / 64 * 64;
  for (int64_t col = 0; col < padded; col += kLanes) {
    Ints q{};
    if (usable && col < cols) {
      const Floats scaled = Round(load(col) * Set(inverse));
      q = __builtin_convertvector(scaled, Ints);
    }
    take(col, q);
  }
  if (max_bits >= kInfinity) return __builtin_nanf("");
  return usable ? max / most : 0.0f;
}

inline float QuantizeRowOnce(const float* x, int64_t cols, int64_t block_stride,
                             uint8_t* hi, uint8_t* lo) {
  const auto load = [&](int64_t col) { return LoadPart(x + col, cols - col); };
  return RoundRow(cols, 32767.0f, load, [&](int64_t col, Ints q) {
    typedef uint8_t Bytes __attribute__((vector_size(kLanes)));
    const Bytes q_hi = __builtin_convertvector((q >> 8) + 128, Bytes);
    const Bytes q_lo = __builtin_convertvector(q & 255, Bytes);
    const int64_t at = col / 64 * block_stride + col % 64;
    __builtin_memcpy(hi + at, &q_hi, sizeof q_hi);
    __builtin_memcpy(lo + at, &q_lo, sizeof q_lo);
  });
}

inline float QuantizeByteRowOnce(const float* x, int64_t cols,
                                 int64_t block_stride, float threshold,
                                 uint8_t* bytes, OutlierBlock* found,
                                 int32_t* num_found) {
  // What is not finite is no outlier, and makes the row NaN. `is_outlier` is
  // negative where one is.
  int32_t least = kInfinity;
  if (threshold > 0) __builtin_memcpy(&least, &threshold, sizeof least);
  const auto is_outlier = [&](Floats values) {
    const Ints bits = MagnitudeBits(values);
    return (bits >= least) & (bits < kInfinity);
  };
  const auto load = [&](int64_t col) {
    const Floats values = LoadPart(x + col, cols - col);
    return Select(is_outlier(values), Floats{}, values);
  };
  const float scale = RoundRow(cols, 127.0f, load, [&](int64_t col, Ints q) {
    typedef uint8_t Bytes __attribute__((vector_size(kLanes)));
    const Bytes q_bytes = __builtin_convertvector(q + 128, Bytes);
    __builtin_memcpy(bytes + col / 64 * block_stride + col % 64, &q_bytes,
                     sizeof q_bytes);
  });
  if (threshold == 0) return scale;
  int32_t num = 0;
  const int64_t end = std::isnan(scale) ? 0 : cols;
  for (int64_t block = 0; block * 64 < end; ++block) {
    uint64_t outliers = 0;
    for (int64_t i = 0; i < 64 && block * 64 + i < cols; i += kLanes) {
      const int64_t col = block * 64 + i;
      const Ints here = is_outlier(LoadPart(x + col, cols - col));
      outliers |= uint64_t{SignBits(here)} << i;
    }
    if (outliers != 0) found[num++] = {block, outliers};
  }
  *num_found = num;
  return scale;
}

inline float QuantizeRunsRowOnce(const float* x, int64_t cols,
                                 int64_t block_stride, int8_t* hi, int8_t* lo,
                                 int32_t* sums) {
  Ints sum{};  // of 16 columns
  const float most = lo == nullptr ? 127 : 127 * 256 + 127;
  const auto load = [&](int64_t col) { return LoadPart(x + col, cols - col); };
  return RoundRow(cols, most, load, [&](int64_t col, Ints q) {
    typedef int8_t Bytes __attribute__((vector_size(kLanes)));
    const Ints high = lo == nullptr ? q : (q + 128) >> 8;
    const Bytes q_hi = __builtin_convertvector(high, Bytes);
    const int64_t at = col / 64 * block_stride + col % 64;
    __builtin_memcpy(hi + at, &q_hi, sizeof q_hi);
    if (lo != nullptr) {
      const Bytes q_lo = __builtin_convertvector(q - (high << 8), Bytes);
      __builtin_memcpy(lo + at, &q_lo, sizeof q_lo);
    }
    sum += q;
    if ((col + kLanes) % 16 != 0) return;
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) sum[i] += sum[i + half];
    }
    sums[col / 16] = sum[0];
    sum = Ints{};
  });
}

}  // namespace ounce::quant::OUNCE_VEC

#endif  // OUNCE_QUANT_KERNELS_QUANTIZE_ROW_IMPL_H_
