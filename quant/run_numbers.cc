#include "quant/run_numbers.h"

#include <cstring>

#include "quant/dtype.h"

namespace ounce::quant {
namespace {

float FloatAt(NumberType type, const std::byte* floats, int64_t i) {
  if (type == NumberType::kFloat32) {
    float value;
    std::memcpy(&value, floats + i * 4, sizeof value);
    return value;
  }
  uint16_t half;
  std::memcpy(&half, floats + i * 2, sizeof half);
  return type == NumberType::kFloat16 ? HalfToFloat(half)
                                      : BFloat16ToFloat(half);
}

}  // namespace

float RunNumbers::At(int64_t row, int64_t run) const {
  const int64_t panel = row / 16, channel = row % 16;
  const int64_t i = (panel * runs + run) * 16 + channel;
  if (type != NumberType::kByte) return FloatAt(type, values, i);
  const auto byte = static_cast<int>(values[i]);
  float result =
      map != nullptr ? map[byte] : static_cast<float>((byte & mask) - bias);
  result *=
      FloatAt(coarse_type, coarse,
              (panel * coarse_runs + run / runs_per_coarse) * 16 + channel);
  return plus != nullptr ? result + plus[row] : result;
}

}  // namespace ounce::quant
