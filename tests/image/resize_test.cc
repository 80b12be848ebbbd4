#include "image/resize.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/image/goldens.h"
#include "tests/testing/status_matchers.h"

namespace ounce::image {
namespace {

using ::ounce::testing::Crc;
using ::ounce::testing::GoldenLines;
using ::ounce::testing::Noise;
using ::ounce::testing::StatusIs;

std::vector<Isa> Isas() {
  std::vector<Isa> isas = {Isa::kPortable};
  if (BestIsa() >= Isa::kAvx2) isas.push_back(Isa::kAvx2);
  return isas;
}

TEST(ResizeTest, GivesPillowsBytesForOddSizes) {
  const auto lines = GoldenLines("resized.txt");
  ASSERT_GE(lines.size(), 20u);
  for (const auto& line : lines) {
    std::vector<int64_t> sizes;
    for (int i = 0; i < 4; ++i) sizes.push_back(std::stoll(line[i]));
    const Rgb8 picture = Noise(sizes[1], sizes[0]);
    for (const Isa isa : Isas()) {
      ASSERT_OK_AND_ASSIGN(
          const Rgb8 resized,
          Resize(picture, sizes[3], sizes[2], Resample::kBilinear, isa));
      EXPECT_EQ(Crc(resized), line[4])
          << sizes[0] << "x" << sizes[1] << " to " << sizes[2] << "x"
          << sizes[3] << " by " << IsaName(isa);
    }
  }
}

TEST(ResizeTest, GivesPillowsBytesForEveryFilter) {
  const auto lines = GoldenLines("resampled.txt");
  ASSERT_GE(lines.size(), 5u * 20);
  for (const auto& line : lines) {
    std::vector<int64_t> numbers;
    for (int i = 0; i < 5; ++i) numbers.push_back(std::stoll(line[i]));
    const auto resample = static_cast<Resample>(numbers[0]);
    const Rgb8 picture = Noise(numbers[2], numbers[1]);
    for (const Isa isa : Isas()) {
      ASSERT_OK_AND_ASSIGN(
          const Rgb8 resized,
          Resize(picture, numbers[4], numbers[3], resample, isa));
      EXPECT_EQ(Crc(resized), line[5])
          << "filter " << line[0] << ": " << numbers[1] << "x" << numbers[2]
          << " to " << numbers[3] << "x" << numbers[4] << " by "
          << IsaName(isa);
    }
  }
}

TEST(ResizeTest, GivesTheSameBytesOnEveryInstructionSet) {
  if (BestIsa() < Isa::kAvx2) GTEST_SKIP() << "this CPU has no AVX2";
  uint32_t state = 1;
  const auto side = [&state] {
    state = state * 1664525u + 1013904223u;
    return static_cast<int64_t>(1 + (state >> 16) % 97);
  };
  for (int i = 0; i < 500; ++i) {
    const int64_t from_height = side(), from_width = side();
    const int64_t height = side(), width = side();
    const Rgb8 picture = Noise(from_height, from_width);
    const auto resample = static_cast<Resample>(i % kNumResamples);
    ASSERT_OK_AND_ASSIGN(const Rgb8 slow, Resize(picture, height, width,
                                                 resample, Isa::kPortable));
    ASSERT_OK_AND_ASSIGN(const Rgb8 fast,
                         Resize(picture, height, width, resample, Isa::kAvx2));
    ASSERT_EQ(std::memcmp(slow.data(), fast.data(), slow.num_bytes()), 0)
        << from_width << "x" << from_height << " to " << width << "x" << height;
  }
}

// The sums come closest to their limits.
TEST(ResizeTest, KeepsWhiteWhiteAtAnyScale) {
  for (const auto& [from, to] :
       {std::pair(1, 1000), std::pair(4096, 1), std::pair(4096, 3),
        std::pair(333, 1000), std::pair(1000, 333)}) {
    ASSERT_OK_AND_ASSIGN(Rgb8 picture, Rgb8::Create(from, from));
    std::fill_n(picture.data(), picture.num_bytes(), 255);
    for (const Isa isa : Isas()) {
      ASSERT_OK_AND_ASSIGN(const Rgb8 resized,
                           Resize(picture, to, to, Resample::kBilinear, isa));
      EXPECT_EQ(
          std::count(resized.data(), resized.data() + resized.num_bytes(), 255),
          resized.num_bytes())
          << from << " to " << to << " by " << IsaName(isa);
    }
  }
}

TEST(ResizeTest, RefusesEmptyPictures) {
  const auto invalid = StatusIs(absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Resize(Rgb8(), 3, 3), invalid);
  EXPECT_THAT(Resize(Noise(2, 2), 0, 3), invalid);
  EXPECT_THAT(Resize(Noise(2, 2), 3, -1), invalid);
}

TEST(ResizeTest, SaysHowMuchMemoryItTakes) {
  const int64_t bytes = ResizeBytes(3000, 4000, 800, 1066);
  EXPECT_GE(bytes, 800 * 1066 * 3);
  EXPECT_LT(bytes, 800 * 1066 * 3 + (1 << 20));  // some rows, not the picture
}

}  // namespace
}  // namespace ounce::image
