#include "quant/ranked.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "quant/weight_stage.h"
#include "tests/quant/matrix_rows.h"

namespace ounce::quant {
namespace {

TEST(RankedTest, IsWhatSortingFindsWithThePlaceAmongEquals) {
  std::vector<float> values = NormalValues(999, 5);
  // Equal ones, also in the upper 16 bits alone, and zeros of both signs.
  for (int i = 0; i < 100; ++i) values[i * 7] = values[3];
  values[10] = std::bit_cast<float>(std::bit_cast<uint32_t>(values[3]) ^ 1);
  values[20] = values[30] = 0;
  values[40] = -0.0f;
  std::vector<uint32_t> sorted(values.size());
  std::transform(values.begin(), values.end(), sorted.begin(), MagnitudeBits);
  std::sort(sorted.begin(), sorted.end());
  std::vector<int64_t> ranks;
  for (int64_t rank = 998; rank >= 0; rank -= 37) ranks.push_back(rank);
  ranks.push_back(0);
  const auto found =
      FindRanked(MatrixRows(27, 37, values), ranks, MagnitudeBits);
  ASSERT_TRUE(found.ok()) << found.status();
  for (size_t i = 0; i < ranks.size(); ++i) {
    const auto at = sorted.begin() + ranks[i];
    const auto [first, end] =
        std::equal_range(sorted.begin(), sorted.end(), *at);
    EXPECT_EQ((*found)[i].key, *at);
    EXPECT_EQ((*found)[i].place, at - first);
    EXPECT_EQ((*found)[i].equal, end - first);
  }
}

}  // namespace
}  // namespace ounce::quant
