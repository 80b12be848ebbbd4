#include "model/layers/norm.h"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/model/layers/isas.h"

namespace ounce::model {
namespace {

// The formula, in float64.
std::vector<double> Slow(const float* x, int64_t cols,
                         const NormWeights& weights) {
  double mean = 0, squares = 0;
  if (weights.kind == NormWeights::kLayerNorm) {
    for (int64_t i = 0; i < cols; ++i) mean += x[i];
    mean /= cols;
  }
  for (int64_t i = 0; i < cols; ++i) squares += std::pow(x[i] - mean, 2);
  std::vector<double> y;
  for (int64_t i = 0; i < cols; ++i) {
    y.push_back((x[i] - mean) / std::sqrt(squares / cols + weights.epsilon));
    if (!weights.weight.empty()) y.back() *= weights.weight[i];
    if (!weights.bias.empty()) y.back() += weights.bias[i];
  }
  return y;
}

class NormTest : public ::testing::TestWithParam<Isa> {
 protected:
  void ExpectMeetsTheFormula(NormWeights::Kind kind, bool weight, bool bias) {
    std::mt19937 random(3);
    std::normal_distribution<float> normal(5, 2);  // a mean to be taken off
    ThreadPool pool(2);
    for (int64_t cols : {1, 3, 4, 8, 15, 16, 17, 64, 100, 1024}) {
      const int64_t rows = 35;
      NormWeights weights{.kind = kind, .epsilon = 1e-5f};
      for (int64_t i = 0; i < cols; ++i) {
        if (weight) weights.weight.push_back(normal(random));
        if (bias) weights.bias.push_back(normal(random));
      }
      std::vector<float> x(rows * cols), y(rows * cols);
      for (float& v : x) v = normal(random);
      Normalize({x.data(), rows, cols, cols}, weights,
                {y.data(), rows, cols, cols}, pool, GetParam());
      for (int64_t row = 0; row < rows; ++row) {
        const auto wanted = Slow(x.data() + row * cols, cols, weights);
        for (int64_t i = 0; i < cols; ++i) {
          // A few roundings of x, whose size is a few standard deviations.
          ASSERT_NEAR(y[row * cols + i], wanted[i],
                      2e-5 * (1 + std::abs(wanted[i])))
              << cols << " columns";
        }
      }
    }
  }
};

TEST_P(NormTest, LayerNormMeetsTheFormulaForAnyNumberOfColumns) {
  ExpectMeetsTheFormula(NormWeights::kLayerNorm, true, true);
}

TEST_P(NormTest, LayerNormDoesWithoutWeightOrBiasOrBoth) {
  ExpectMeetsTheFormula(NormWeights::kLayerNorm, true, false);
  ExpectMeetsTheFormula(NormWeights::kLayerNorm, false, true);
  ExpectMeetsTheFormula(NormWeights::kLayerNorm, false, false);
}

TEST_P(NormTest, RmsNormMeetsTheFormulaForAnyNumberOfColumns) {
  ExpectMeetsTheFormula(NormWeights::kRms, true, false);
  ExpectMeetsTheFormula(NormWeights::kRms, false, false);
  ExpectMeetsTheFormula(NormWeights::kRms, true, true);
}

TEST_P(NormTest, EpsilonKeepsSmallRowsSmall) {
  const NormWeights weights{.kind = NormWeights::kRms, .epsilon = 1};
  std::vector<float> x = {1e-4f, -1e-4f, 0};
  NormalizeRow(x.data(), 3, weights, x.data(), GetParam());
  EXPECT_NEAR(x[0], 1e-4, 1e-10);
  EXPECT_NEAR(x[1], -1e-4, 1e-10);
  EXPECT_EQ(x[2], 0);
}

TEST_P(NormTest, ARowAloneIsTheSameToTheBit) {
  std::mt19937 random(4);
  std::normal_distribution<float> normal;
  ThreadPool pool(2);
  for (const NormWeights::Kind kind :
       {NormWeights::kLayerNorm, NormWeights::kRms}) {
    const NormWeights weights{.kind = kind, .epsilon = 1e-6f};
    std::vector<float> x(40 * 21), y(40 * 21), alone(21);
    for (float& v : x) v = normal(random);
    Normalize({x.data(), 40, 21, 21}, weights, {y.data(), 40, 21, 21}, pool,
              GetParam());
    for (int64_t row = 0; row < 40; ++row) {
      NormalizeRow(x.data() + row * 21, 21, weights, alone.data(), GetParam());
      EXPECT_EQ(std::memcmp(alone.data(), y.data() + row * 21, 21 * 4), 0);
    }
  }
}

TEST_P(NormTest, WorksInPlaceAndLeavesTheGapsBetweenRows) {
  ThreadPool pool(1);
  const NormWeights weights{.weight = {1, 1, 1}, .bias = {0, 0, 0}};
  std::vector<float> x = {1, 2, 3, 99, 4, 6, 8, 99};
  Normalize({x.data(), 2, 3, 4}, weights, {x.data(), 2, 3, 4}, pool,
            GetParam());
  EXPECT_NEAR(x[0], -std::sqrt(1.5), 1e-4);
  EXPECT_NEAR(x[1], 0, 1e-6);
  EXPECT_NEAR(x[6], std::sqrt(1.5), 1e-4);
  EXPECT_EQ(x[3], 99);
  EXPECT_EQ(x[7], 99);
}

TEST_P(NormTest, AConstantRowIsTheBias) {
  ThreadPool pool(1);
  const NormWeights weights{.weight = {2, 2}, .bias = {3, 4}};
  std::vector<float> x = {7, 7};
  Normalize({x.data(), 1, 2, 2}, weights, {x.data(), 1, 2, 2}, pool,
            GetParam());
  EXPECT_EQ(x[0], 3);
  EXPECT_EQ(x[1], 4);
}

INSTANTIATE_TEST_SUITE_P(AllIsas, NormTest,
                         ::testing::ValuesIn(ounce::testing::RunnableIsas()),
                         [](const auto& info) {
                           return std::string(IsaName(info.param));
                         });

}  // namespace
}  // namespace ounce::model
