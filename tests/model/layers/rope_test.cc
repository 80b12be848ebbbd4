#include "model/layers/rope.h"

#include <cmath>
#include <vector>

#include "gtest/gtest.h"

namespace ounce::model {
namespace {

Rope MakeRope(int64_t rotary_dim, double base, float magnitude = 1) {
  return Rope({.pairing = RopePairing::kInterleaved,
               .rotary_dim = rotary_dim,
               .frequencies = RopeFrequencies(rotary_dim, base),
               .magnitude = magnitude});
}

TEST(RopeTest, AnglesFallFromPairToPair) {
  for (const double base : {100.0, 10000.0, 1e6}) {
    const Rope rope = MakeRope(8, base);
    ASSERT_EQ(rope.rotary_dim(), 8);
    std::vector<float> angles(8);
    rope.Angles(3, angles.data());
    for (int j = 0; j < 4; ++j) {
      const double angle = 3 * std::pow(base, -2.0 * j / 8);
      EXPECT_NEAR(angles[2 * j], std::cos(angle), 1e-6);
      EXPECT_NEAR(angles[2 * j + 1], std::sin(angle), 1e-6);
    }
  }
}

TEST(RopeTest, AMagnitudeStretchesBothOfAPair) {
  const Rope plain = MakeRope(8, 10000), strong = MakeRope(8, 10000, 1.5f);
  std::vector<float> angles(8), stretched(8);
  plain.Angles(5, angles.data());
  strong.Angles(5, stretched.data());
  for (int i = 0; i < 8; ++i) EXPECT_EQ(stretched[i], angles[i] * 1.5f);
}

TEST(RopeTest, PositionZeroTurnsNothing) {
  const Rope rope = MakeRope(4, 10000);
  std::vector<float> angles(4), y(4);
  rope.Angles(0, angles.data());
  const float x[] = {1, 2, 3, 4};
  TurnPairs(RopePairing::kInterleaved, x, angles.data(), 4, y.data());
  EXPECT_EQ(y, std::vector<float>({1, 2, 3, 4}));
  TurnPairs(RopePairing::kHalves, x, angles.data(), 4, y.data());
  EXPECT_EQ(y, std::vector<float>({1, 2, 3, 4}));
}

TEST(RopeTest, WithoutRotaryDimThereIsNothingToTurn) {
  const Rope none(RopeSpec{});
  EXPECT_EQ(none.rotary_dim(), 0);
  none.Angles(7, nullptr);
  TurnPairs(none.pairing(), nullptr, nullptr, 0, nullptr);
}

TEST(RopeTest, InterleavedTurnsNeighboursAndHalvesWhatIsHalfApart) {
  const float quarter[] = {0, 1, 1, 0};  // first pair by 90 degrees
  const float x[] = {1, 2, 3, 4};
  std::vector<float> y(4);
  TurnPairs(RopePairing::kInterleaved, x, quarter, 4, y.data());
  EXPECT_EQ(y, std::vector<float>({-2, 1, 3, 4}));
  TurnPairs(RopePairing::kHalves, x, quarter, 4, y.data());
  EXPECT_EQ(y, std::vector<float>({-3, 2, 1, 4}));
}

TEST(RopeTest, WritesInPlaceToo) {
  for (const RopePairing pairing :
       {RopePairing::kInterleaved, RopePairing::kHalves}) {
    const float angles[] = {0.6f, 0.8f};
    float x[] = {10, 20};
    float apart[2] = {};
    TurnPairs(pairing, x, angles, 2, apart);
    TurnPairs(pairing, x, angles, 2, x);
    EXPECT_EQ(apart[0], x[0]);
    EXPECT_EQ(apart[1], x[1]);
    EXPECT_NEAR(x[0], -10, 1e-5);
    EXPECT_NEAR(x[1], 20, 1e-5);
  }
}

}  // namespace
}  // namespace ounce::model
