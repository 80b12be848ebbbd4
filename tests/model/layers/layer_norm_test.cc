#include "model/layers/layer_norm.h"

#include <cmath>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/model/layers/isas.h"

namespace ounce::model {
namespace {

class LayerNormTest : public ::testing::TestWithParam<Isa> {};

TEST_P(LayerNormTest, MeetsTheFormulaForAnyNumberOfColumns) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(5, 2);  // a mean to be taken off
  ThreadPool pool(2);
  for (int64_t cols : {1, 3, 4, 8, 15, 16, 17, 64, 100, 1024}) {
    const int64_t rows = 35;
    LayerNormWeights weights;
    for (int64_t i = 0; i < cols; ++i) {
      weights.weight.push_back(normal(random));
      weights.bias.push_back(normal(random));
    }
    std::vector<float> x(rows * cols), y(rows * cols);
    for (float& v : x) v = normal(random);
    LayerNorm({x.data(), rows, cols, cols}, weights,
              {y.data(), rows, cols, cols}, pool, GetParam());
    for (int64_t row = 0; row < rows; ++row) {
      double mean = 0, variance = 0;
      for (int64_t i = 0; i < cols; ++i) mean += x[row * cols + i];
      mean /= cols;
      for (int64_t i = 0; i < cols; ++i) {
        variance += std::pow(x[row * cols + i] - mean, 2);
      }
      variance /= cols;
      for (int64_t i = 0; i < cols; ++i) {
        const double wanted = (x[row * cols + i] - mean) /
                                  std::sqrt(variance + 1e-5) *
                                  weights.weight[i] +
                              weights.bias[i];
        // A few roundings of x, whose size is a few standard deviations.
        ASSERT_NEAR(y[row * cols + i], wanted, 2e-5 * (1 + std::abs(wanted)))
            << cols << " columns";
      }
    }
  }
}

TEST_P(LayerNormTest, WorksInPlaceAndLeavesTheGapsBetweenRows) {
  ThreadPool pool(1);
  LayerNormWeights weights{{1, 1, 1}, {0, 0, 0}};
  std::vector<float> x = {1, 2, 3, 99, 4, 6, 8, 99};
  LayerNorm({x.data(), 2, 3, 4}, weights, {x.data(), 2, 3, 4}, pool,
            GetParam());
  EXPECT_NEAR(x[0], -std::sqrt(1.5), 1e-4);
  EXPECT_NEAR(x[1], 0, 1e-6);
  EXPECT_NEAR(x[6], std::sqrt(1.5), 1e-4);
  EXPECT_EQ(x[3], 99);
  EXPECT_EQ(x[7], 99);
}

TEST_P(LayerNormTest, AConstantRowIsTheBias) {
  ThreadPool pool(1);
  LayerNormWeights weights{{2, 2}, {3, 4}};
  std::vector<float> x = {7, 7};
  LayerNorm({x.data(), 1, 2, 2}, weights, {x.data(), 1, 2, 2}, pool,
            GetParam());
  EXPECT_EQ(x[0], 3);
  EXPECT_EQ(x[1], 4);
}

INSTANTIATE_TEST_SUITE_P(AllIsas, LayerNormTest,
                         ::testing::ValuesIn(ounce::testing::RunnableIsas()),
                         [](const auto& info) {
                           return std::string(IsaName(info.param));
                         });

}  // namespace
}  // namespace ounce::model
