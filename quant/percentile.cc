#include "quant/percentile.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "base/status_macros.h"
#include "quant/ranked.h"

namespace ounce::quant {
namespace {

// Integers that are ordered as the floats are, or as their magnitudes.
uint32_t KeyOf(float value, RangeSides sides) {
  constexpr uint32_t kSign = 0x80000000;
  const auto bits = std::bit_cast<uint32_t>(value);
  if (sides == RangeSides::kSymmetric) return bits & ~kSign;
  return (bits & kSign) != 0 ? ~bits : bits | kSign;
}

float ValueOf(uint32_t key, RangeSides sides) {
  constexpr uint32_t kSign = 0x80000000;
  if (sides == RangeSides::kBothSides) {
    key = (key & kSign) != 0 ? key & ~kSign : ~key;
  }
  return std::bit_cast<float>(key);
}

// Places of the range's ends in ascending order.
struct Ranks {
  int64_t low = 0;  // of kBothSides
  int64_t high = 0;
};

Ranks RanksOf(int64_t count, double percentile, RangeSides sides) {
  const double share = (100 - percentile) / 100;
  const auto outside = static_cast<int64_t>(
      std::floor(sides == RangeSides::kSymmetric
                     ? share * static_cast<double>(count)
                     : share / 2 * static_cast<double>(count)));
  // One stays inside.
  const int64_t most = (count - 1) / (sides == RangeSides::kSymmetric ? 1 : 2);
  return {std::min(outside, most), count - 1 - std::min(outside, most)};
}

Extent ExtentOfKeys(uint32_t low, uint32_t high, RangeSides sides) {
  const float max = ValueOf(high, sides);
  if (sides == RangeSides::kSymmetric) return {.min = -max, .max = max};
  return {.min = std::min(0.0f, ValueOf(low, sides)),
          .max = std::max(0.0f, max)};
}

}  // namespace

Extent PercentileOf(const float* values, int64_t count, double percentile,
                    RangeSides sides) {
  std::vector<uint32_t> keys(count);
  std::transform(values, values + count, keys.begin(),
                 [&](float value) { return KeyOf(value, sides); });
  const Ranks ranks = RanksOf(count, percentile, sides);
  const auto high = keys.begin() + ranks.high;
  std::nth_element(keys.begin(), high, keys.end());
  if (sides == RangeSides::kSymmetric) return ExtentOfKeys(0, *high, sides);
  const auto low = keys.begin() + ranks.low;
  std::nth_element(keys.begin(), low, high + 1);
  return ExtentOfKeys(*low, keys[ranks.high], sides);
}

absl::StatusOr<Extent> PercentileOf(const FloatRows& weight, double percentile,
                                    RangeSides sides) {
  const Ranks ranks = RanksOf(weight.rows() * weight.cols(), percentile, sides);
  std::vector<int64_t> wanted = {ranks.high};
  if (sides == RangeSides::kBothSides) wanted.push_back(ranks.low);
  ASSIGN_OR_RETURN(const std::vector<Ranked> found,
                   FindRanked(weight, wanted, [&](float value) {
                     return KeyOf(value, sides);
                   }));
  return ExtentOfKeys(found.back().key, found.front().key, sides);
}

}  // namespace ounce::quant
