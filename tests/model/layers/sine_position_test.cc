#include "model/layers/sine_position.h"

#include <cmath>
#include <cstdint>
#include <fstream>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace ounce::model {
namespace {

TEST(SinePositionsTest, AreThoseOfTransformers) {
  std::ifstream file("tests/golden/detr_layers/expected.json");
  ASSERT_TRUE(file.good()) << "run tests from the source tree's root";
  const auto cases = nlohmann::json::parse(file)["positions"];
  ASSERT_EQ(cases.size(), 5u);
  for (const auto& expected : cases) {
    const int64_t height = expected["height"], width = expected["width"];
    const int64_t size = expected["size"];
    std::vector<float> found(height * width * size);
    SinePositions(height, width, {found.data(), height * width, size, size});
    for (const auto& row : expected["rows"]) {
      const auto values = row[1].get<std::vector<float>>();
      ASSERT_EQ(values.size(), static_cast<size_t>(size));
      const int64_t first = row[0].get<int64_t>() * size;
      for (int64_t i = 0; i < size; ++i) {
        // Angles of up to 2 pi are rounded to some 2e-7.
        ASSERT_NEAR(found[first + i], values[i], 1e-6)
            << height << " x " << width << ", row " << row[0] << " at " << i;
      }
    }
  }
}

TEST(SinePositionsTest, MeetTheFormulaAndLeaveTheGapsBetweenRows) {
  const int64_t height = 6, width = 9, half = 12, stride = 2 * half + 1;
  std::vector<float> found(height * width * stride, 7);
  SinePositions(height, width,
                {found.data(), height * width, 2 * half, stride});
  for (int64_t row = 0; row < height * width; ++row) {
    const double y = 2 * M_PI * (row / width + 1.0) / height;
    const double x = 2 * M_PI * (row % width + 1.0) / width;
    for (int64_t i = 0; i < half; i += 2) {
      const double divisor = std::pow(10000.0, 1.0 * i / half);
      const float* code = found.data() + row * stride + i;
      // 1e-6 is added to the height and the width.
      EXPECT_NEAR(code[0], std::sin(y / divisor), 3e-6);
      EXPECT_NEAR(code[1], std::cos(y / divisor), 3e-6);
      EXPECT_NEAR(code[half], std::sin(x / divisor), 3e-6);
      EXPECT_NEAR(code[half + 1], std::cos(x / divisor), 3e-6);
    }
    EXPECT_EQ(found[row * stride + 2 * half], 7);
  }
}

}  // namespace
}  // namespace ounce::model
