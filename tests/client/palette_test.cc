#include "client/palette.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace ounce::client {
namespace {

double Distance(const Color& a, const Color& b) {
  return std::hypot(a.red - b.red, a.green - b.green, a.blue - b.blue);
}

TEST(PaletteTest, GivesThirtySixLabelsColoursOfTheirOwn) {
  for (int i = 0; i < 36; ++i) {
    for (int j = 0; j < i; ++j) {
      EXPECT_GT(Distance(LabelColor(i), LabelColor(j)), i < 12 ? 0.18 : 0.05)
          << i << " and " << j;
    }
  }
}

TEST(PaletteTest, IsTheSameEachTimeAndHasOneForAnyId) {
  EXPECT_EQ(Distance(LabelColor(3), LabelColor(3)), 0);
  EXPECT_EQ(Distance(LabelColor(3), LabelColor(39)), 0);
  for (const int32_t id : {-1, std::numeric_limits<int32_t>::min(),
                           std::numeric_limits<int32_t>::max()}) {
    const Color color = LabelColor(id);
    for (const double part : {color.red, color.green, color.blue}) {
      EXPECT_GE(part, 0);
      EXPECT_LE(part, 1);
    }
  }
}

TEST(PaletteTest, WritesReadablyOnEveryColour) {
  for (int id = 0; id < 36; ++id) {
    const Color color = LabelColor(id);
    EXPECT_GE(ContrastRatio(TextColor(color), color), 3) << id;
  }
}

TEST(PaletteTest, ReckonsContrastAsWcagDoes) {
  EXPECT_NEAR(ContrastRatio({0, 0, 0}, {1, 1, 1}), 21, 1e-9);
  EXPECT_NEAR(ContrastRatio({1, 0, 0}, {1, 1, 1}), 3.998, 1e-3);
  EXPECT_NEAR(ContrastRatio({0.5, 0.5, 0.5}, {1, 1, 1}), 3.977, 1e-3);
  EXPECT_EQ(ContrastRatio({0.5, 0, 0}, {0.5, 0, 0}), 1);
}

}  // namespace
}  // namespace ounce::client
