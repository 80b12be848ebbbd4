#include "quant/percentile.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "tests/quant/matrix_rows.h"

namespace ounce::quant {
namespace {

// By sorting.
Extent Sorted(std::vector<float> values, double percentile, RangeSides sides) {
  const double share = (100 - percentile) / 100;
  const auto count = static_cast<double>(values.size());
  if (sides == RangeSides::kSymmetric) {
    for (float& value : values) value = std::abs(value);
    std::sort(values.begin(), values.end());
    const auto outside = static_cast<size_t>(std::floor(share * count));
    const float m = values[values.size() - 1 - outside];
    return {-m, m};
  }
  std::sort(values.begin(), values.end());
  const auto outside = static_cast<size_t>(std::floor(share / 2 * count));
  return {std::min(0.0f, values[outside]),
          std::max(0.0f, values[values.size() - 1 - outside])};
}

void ExpectSame(const Extent& wanted, const Extent& found) {
  EXPECT_EQ(wanted.min, found.min);
  EXPECT_EQ(wanted.max, found.max);
}

TEST(PercentileTest, IsWhatSortingFindsOfARunAndOfAMatrix) {
  for (const int64_t count : {1, 2, 3, 64, 1000, 3000}) {
    std::vector<float> values = NormalValues(count, 3);
    // Equal ones, zeros of both signs, and one far out.
    if (count > 10) {
      values[0] = values[5] = values[7];
      values[1] = 0;
      values[2] = -0.0f;
      values[3] = -1e30f;
    }
    for (const double percentile : {50.0, 90.0, 99.0, 99.9, 100.0}) {
      for (const RangeSides sides :
           {RangeSides::kSymmetric, RangeSides::kBothSides}) {
        SCOPED_TRACE(testing::Message() << count << " " << percentile);
        const Extent wanted = Sorted(values, percentile, sides);
        ExpectSame(wanted,
                   PercentileOf(values.data(), count, percentile, sides));
        const int64_t rows = count % 8 == 0 ? 8 : 1;
        ExpectSame(wanted, *PercentileOf(MatrixRows(rows, count / rows, values),
                                         percentile, sides));
      }
    }
  }
}

TEST(PercentileTest, TakesInZeroWhereAllWeightsHaveOneSign) {
  const std::vector<float> values = {2, 3, 4, 5};
  ExpectSame({0, 5},
             PercentileOf(values.data(), 4, 100, RangeSides::kBothSides));
  const std::vector<float> negative = {-2, -3, -4, -5};
  ExpectSame({-5, 0},
             PercentileOf(negative.data(), 4, 100, RangeSides::kBothSides));
}

}  // namespace
}  // namespace ounce::quant
