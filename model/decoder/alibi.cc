#include "model/decoder/alibi.h"

#include <bit>
#include <cmath>

#include "base/str_cat.h"
#include "quant/dtype.h"

namespace ounce::model {
namespace {

// Powers of one base for as many heads as the largest power of two has, then
// odd powers of its root.
std::vector<float> Slopes(int64_t heads) {
  const auto base_for = [](int64_t count) {
    return static_cast<float>(
        std::exp2(-std::exp2(-(std::log2(static_cast<double>(count)) - 3))));
  };
  const auto power_of_two =
      static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(heads)));
  std::vector<float> slopes;
  for (int64_t i = 1; i <= power_of_two; ++i) {
    slopes.push_back(std::pow(base_for(power_of_two), static_cast<float>(i)));
  }
  for (int64_t i = 1; static_cast<int64_t>(slopes.size()) < heads; i += 2) {
    slopes.push_back(
        std::pow(base_for(2 * power_of_two), static_cast<float>(i)));
  }
  return slopes;
}

}  // namespace

void CheckAlibi(ConfigReader& reader, const DecoderSizes& sizes) {
  constexpr int64_t kMaxBiases = (16 << 20) / sizeof(float);
  if (sizes.heads <= kMaxBiases / sizes.positions) return;
  reader.Fail(absl::InvalidArgumentError(
      StrCat(sizes.heads, " heads and ", sizes.positions,
             " positions must be at most ", kMaxBiases, " biases together")));
}

std::vector<float> AlibiBias(int64_t heads, int64_t positions) {
  std::vector<float> bias;
  bias.reserve(heads * positions);
  for (const float slope : Slopes(heads)) {
    for (int64_t i = 0; i < positions; ++i) {
      bias.push_back(slope * static_cast<float>(i));
    }
  }
  return bias;
}

std::vector<float> FalconAlibiBias(int64_t heads, int64_t positions,
                                   float score_divisor) {
  std::vector<float> bias;
  bias.reserve(heads * positions);
  for (const float slope : Slopes(heads)) {
    for (int64_t i = 0; i < positions; ++i) {
      const float product = quant::RoundTo(
          quant::DType::kBF16,
          quant::RoundTo(quant::DType::kBF16, slope) *
              quant::RoundTo(quant::DType::kBF16, static_cast<float>(i)));
      bias.push_back(product / score_divisor);
    }
  }
  return bias;
}

}  // namespace ounce::model
