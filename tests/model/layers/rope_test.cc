#include "model/layers/rope.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace ounce::model {
namespace {

TEST(RopeTest, AnglesFallFromPairToPair) {
  const InterleavedRope rope(8);
  ASSERT_EQ(rope.rotary_dim(), 8);
  std::vector<float> angles(8);
  rope.Angles(3, angles.data());
  for (int j = 0; j < 4; ++j) {
    const double angle = 3 * std::pow(10000.0, -2.0 * j / 8);
    EXPECT_NEAR(angles[2 * j], std::cos(angle), 1e-6);
    EXPECT_NEAR(angles[2 * j + 1], std::sin(angle), 1e-6);
  }
}

TEST(RopeTest, PositionZeroTurnsNothing) {
  const InterleavedRope rope(4);
  std::vector<float> angles(4), y(4);
  rope.Angles(0, angles.data());
  const float x[] = {1, 2, 3, 4};
  TurnPairs(x, angles.data(), 4, 1, y.data());
  EXPECT_EQ(y, std::vector<float>({1, 2, 3, 4}));
}

TEST(RopeTest, TurnsNeighboursAndNotHalves) {
  const float quarter[] = {0, 1, 1, 0};  // first pair by 90 degrees
  const float x[] = {1, 2, 3, 4};
  float y[4];
  TurnPairs(x, quarter, 4, 1, y);
  EXPECT_EQ(y[0], -2);
  EXPECT_EQ(y[1], 1);
  EXPECT_EQ(y[2], 3);
  EXPECT_EQ(y[3], 4);
}

TEST(RopeTest, WritesWithAStrideAndInPlace) {
  const float angles[] = {0.6f, 0.8f};
  float x[] = {10, 20};
  float apart[5] = {};
  TurnPairs(x, angles, 2, 4, apart);
  TurnPairs(x, angles, 2, 1, x);
  EXPECT_EQ(apart[0], x[0]);
  EXPECT_EQ(apart[4], x[1]);
  EXPECT_EQ(apart[1], 0);
  EXPECT_NEAR(x[0], -10, 1e-5);
  EXPECT_NEAR(x[1], 20, 1e-5);
}

}  // namespace
}  // namespace ounce::model
