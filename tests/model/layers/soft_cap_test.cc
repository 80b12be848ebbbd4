#include "model/layers/soft_cap.h"

#include <cmath>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/model/layers/isas.h"

namespace ounce::model {
namespace {

class SoftCapTest : public ::testing::TestWithParam<Isa> {};

TEST_P(SoftCapTest, MeetsTheFormulaAndTouchesNothingElse) {
  ThreadPool pool(2);
  std::mt19937 random(3);
  for (const int64_t cols : {1, 7, 16, 33, 4095, 4096, 4099}) {
    const int64_t rows = 3, stride = cols + 5;
    for (const float cap : {0.25f, 30.0f}) {
      std::normal_distribution<float> normal(0, 3 * cap);
      std::vector<float> x(rows * stride);
      for (float& value : x) value = normal(random);
      x[0] = cap * 1e-4f;  // where one minus an exponential would lose it
      const std::vector<float> before = x;
      SoftCap({x.data(), rows, cols, stride}, cap, pool, GetParam());
      for (int64_t i = 0; i < rows * stride; ++i) {
        if (i % stride >= cols) {
          ASSERT_EQ(x[i], before[i]);
          continue;
        }
        const double wanted =
            cap * std::tanh(static_cast<double>(before[i]) / cap);
        ASSERT_NEAR(x[i], wanted, 4e-7 * std::abs(wanted))
            << cols << " columns, " << before[i];
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, SoftCapTest,
                         ::testing::ValuesIn(testing::RunnableIsas()),
                         [](const auto& info) {
                           return std::string(IsaName(info.param));
                         });

}  // namespace
}  // namespace ounce::model
