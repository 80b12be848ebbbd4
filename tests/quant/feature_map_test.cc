#include "quant/feature_map.h"

#include <cstring>

#include "gtest/gtest.h"

namespace ounce::quant {
namespace {

struct Extents {
  int64_t height, width, channels, border;
};
constexpr Extents kExtents[] = {
    {1, 1, 1, 0}, {3, 5, 3, 3}, {7, 2, 64, 1}, {1, 9, 20, 2}, {4, 4, 16, 0}};

class FeatureMapTest : public testing::TestWithParam<Compute> {};

TEST_P(FeatureMapTest, TakesWhatItSaysItTakes) {
  for (const Extents& e : kExtents) {
    auto scratch = Scratch::Create(1 << 20);
    ASSERT_TRUE(scratch.ok());
    TakeFeatureMap(GetParam(), e.height, e.width, e.channels, e.border,
                   *scratch);
    EXPECT_EQ(
        FeatureMapBytes(GetParam(), e.height, e.width, e.channels, e.border),
        static_cast<int64_t>(scratch->mark()));
  }
}

TEST_P(FeatureMapTest, ItsBorderAndTheMarginPastItAreZero) {
  for (const Extents& e : kExtents) {
    auto scratch = Scratch::Create(1 << 20);
    ASSERT_TRUE(scratch.ok());
    std::memset(scratch->Take<std::byte>(1 << 20), 0x55, 1 << 20);
    scratch->ReturnTo(0);
    const FeatureMap map = TakeFeatureMap(GetParam(), e.height, e.width,
                                          e.channels, e.border, *scratch);
    for (int64_t y = 0; y < e.height; ++y) {
      std::memset(map.pixel(y, 0), 0x77,
                  e.width * e.channels * map.element_bytes());
    }
    const auto expect_zero = [&](const std::byte* from, const std::byte* to) {
      for (; from < to; ++from) ASSERT_EQ(std::byte{0}, *from);
    };
    // Every pixel as far as the border reaches, and the margin.
    for (int64_t y = -e.border; y < e.height + e.border; ++y) {
      for (int64_t x = -e.border; x < e.width + e.border; ++x) {
        if (y >= 0 && y < e.height && x >= 0 && x < e.width) continue;
        expect_zero(map.pixel(y, x), map.pixel(y, x + 1));
      }
    }
    const std::byte* const end =
        map.pixel(e.height - 1 + e.border, e.width + e.border);
    expect_zero(end, end + 64 * map.element_bytes());
    // No neighbour lies outside of what was taken.
    std::byte* const begin = map.pixel(-e.border, -e.border);
    EXPECT_LE(
        end + 64 * map.element_bytes() - begin,
        FeatureMapBytes(GetParam(), e.height, e.width, e.channels, e.border));
  }
}

INSTANTIATE_TEST_SUITE_P(BothTypes, FeatureMapTest,
                         testing::Values(Compute::kFloat32, Compute::kBFloat16),
                         [](const auto& info) {
                           return info.param == Compute::kFloat32 ? "Float32"
                                                                  : "BFloat16";
                         });

}  // namespace
}  // namespace ounce::quant
