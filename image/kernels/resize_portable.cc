#include "image/kernels/resize.h"

namespace ounce::image {
namespace {

// One half to begin with, whatever is right of the point cut off, clamped.
uint8_t Rounded(int32_t sum) {
  const int32_t value = (sum + (1 << (kWeightBits - 1))) >> kWeightBits;
  return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

void Horizontal(const FilterView& filter, const uint8_t* const* rows,
                uint8_t* const* out) {
  for (int r = 0; r < kRowsAtOnce; ++r) {
    for (int64_t i = 0; i < filter.positions; ++i) {
      const uint8_t* pixel = rows[r] + filter.first[i] * int64_t{3};
      const int16_t* high = filter.high + i * filter.taps;
      const int16_t* low = filter.low + i * filter.taps;
      int32_t red = 0, green = 0, blue = 0;
      for (int64_t t = 0; t < filter.count[i]; ++t) {
        const int32_t weight = (high[t] << kLowBits) + low[t];
        red += pixel[t * 3] * weight;
        green += pixel[t * 3 + 1] * weight;
        blue += pixel[t * 3 + 2] * weight;
      }
      out[r][i * 3] = Rounded(red);
      out[r][i * 3 + 1] = Rounded(green);
      out[r][i * 3 + 2] = Rounded(blue);
    }
  }
}

void Vertical(const uint8_t* const* rows, const int16_t* high,
              const int16_t* low, int64_t taps, int64_t bytes, uint8_t* out) {
  constexpr int64_t kBlock = 64;
  for (int64_t x = 0; x < bytes; x += kBlock) {
    const int64_t count = bytes - x < kBlock ? bytes - x : kBlock;
    int32_t sums[kBlock] = {};
    for (int64_t t = 0; t < taps; ++t) {
      const int32_t weight = (high[t] << kLowBits) + low[t];
      const uint8_t* row = rows[t] + x;
      for (int64_t j = 0; j < count; ++j) sums[j] += row[j] * weight;
    }
    for (int64_t j = 0; j < count; ++j) out[x + j] = Rounded(sums[j]);
  }
}

}  // namespace

extern constexpr ResizeKernels kResizePortable = {Horizontal, Vertical};

}  // namespace ounce::image
