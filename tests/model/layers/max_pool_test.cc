#include "model/layers/max_pool.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace ounce::model {
namespace {

using quant::Compute;
using quant::FeatureMap;

// An element in float32, whatever it is kept in; any of the border too.
float Get(const FeatureMap& map, int64_t y, int64_t x, int64_t channel) {
  if (map.type == Compute::kFloat32) return map.floats(y, x)[channel];
  const uint32_t bits = uint32_t{map.bfloat16s(y, x)[channel]} << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

void Set(const FeatureMap& map, int64_t y, int64_t x, int64_t channel,
         float value) {
  if (map.type == Compute::kFloat32) {
    map.floats(y, x)[channel] = value;
    return;
  }
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  map.bfloat16s(y, x)[channel] = static_cast<uint16_t>(bits >> 16);
}

class MaxPoolTest : public ::testing::TestWithParam<Compute> {
 protected:
  MaxPoolTest() : scratch_(*quant::Scratch::Create(4 << 20)) {}

  // Not negative, and zero for a good half, as a ReLU leaves them.
  FeatureMap Random(int64_t height, int64_t width, int64_t channels,
                    int64_t border) {
    const FeatureMap map = quant::TakeFeatureMap(GetParam(), height, width,
                                                 channels, border, scratch_);
    std::normal_distribution<float> normal;
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t x = 0; x < width; ++x) {
        for (int64_t c = 0; c < channels; ++c) {
          Set(map, y, x, c, std::max(0.0f, normal(random_)));
        }
      }
    }
    return map;
  }

  FeatureMap Output(const FeatureMap& x, int64_t border) {
    const FeatureMap y =
        quant::TakeFeatureMap(x.type, (x.height + 1) / 2, (x.width + 1) / 2,
                              x.channels, border, scratch_);
    for (int64_t row = 0; row < y.height; ++row) {
      std::memset(y.pixel(row, 0), 0xFF,
                  y.width * y.channels * y.element_bytes());
    }
    return y;
  }

  static void ExpectPooled(const FeatureMap& x, const FeatureMap& y) {
    for (int64_t row = -y.border; row < y.height + y.border; ++row) {
      for (int64_t column = -y.border; column < y.width + y.border; ++column) {
        for (int64_t c = 0; c < y.channels; ++c) {
          float wanted = 0;
          const bool inside =
              row >= 0 && row < y.height && column >= 0 && column < y.width;
          for (int64_t at = 0; inside && at < 9; ++at) {
            const int64_t from_y = 2 * row - 1 + at / 3;
            const int64_t from_x = 2 * column - 1 + at % 3;
            if (from_y < 0 || from_y >= x.height || from_x < 0 ||
                from_x >= x.width) {
              continue;
            }
            wanted = std::max(wanted, Get(x, from_y, from_x, c));
          }
          ASSERT_EQ(Get(y, row, column, c), wanted)
              << x.height << " x " << x.width << " x " << x.channels << ", at "
              << row << ", " << column << ", " << c;
        }
      }
    }
  }

  std::mt19937 random_{11};
  quant::Scratch scratch_;
};

TEST_P(MaxPoolTest, TakesTheLargestOfEachWindowForAnySize) {
  ThreadPool pool(2);
  for (int64_t height : {1, 2, 3, 8, 13}) {
    for (int64_t width : {1, 2, 3, 10, 15}) {
      for (int64_t channels : {1, 3, 16, 20, 64}) {
        quant::ScratchScope scope(scratch_);
        const FeatureMap x = Random(height, width, channels, 1 + width % 2);
        const FeatureMap y = Output(x, height % 3);
        MaxPool3x3Stride2({&x, 1}, {&y, 1}, pool);
        ExpectPooled(x, y);
      }
    }
  }
}

TEST_P(MaxPoolTest, PoolsPicturesOfDifferentSizesTogether) {
  for (int threads : {1, 2, 3}) {
    quant::ScratchScope scope(scratch_);
    ThreadPool pool(threads);
    const std::vector<FeatureMap> x = {
        Random(9, 30, 16, 1), Random(1, 4, 16, 1), Random(22, 7, 16, 1)};
    const std::vector<FeatureMap> y = {Output(x[0], 1), Output(x[1], 1),
                                       Output(x[2], 1)};
    MaxPool3x3Stride2(x, y, pool);
    for (int i = 0; i < 3; ++i) ExpectPooled(x[i], y[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, MaxPoolTest,
                         ::testing::Values(Compute::kFloat32,
                                           Compute::kBFloat16),
                         [](const auto& info) {
                           return info.param == Compute::kFloat32 ? "float32"
                                                                  : "bfloat16";
                         });

}  // namespace
}  // namespace ounce::model
