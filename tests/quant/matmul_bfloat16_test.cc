// Products of rows in bfloat16.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "quant/matmul.h"
#include "quant/registry.h"
#include "tests/quant/error_bounds.h"
#include "tests/quant/every_isa.h"
#include "tests/quant/matrix_rows.h"
#include "tests/quant/products.h"

namespace ounce::quant {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class BFloat16MatmulTest : public testing::TestWithParam<const QuantMethod*> {
 protected:
  static constexpr int64_t kGap = 5;
  Multiplier multiplier_;
};

struct Product {
  int64_t rows, outputs, cols;
};
constexpr Product kProducts[] = {{1, 1, 1},      {2, 18, 33},   {17, 64, 64},
                                 {100, 4, 256},  {33, 92, 100}, {13, 256, 512},
                                 {400, 40, 130}, {3, 600, 1000}};

TEST_P(BFloat16MatmulTest, EqualsTheObviousLoops) {
  for (const Product& p : kProducts) {
    const PackedWeight w =
        Pack(NormalRows(p.outputs, p.cols, 1), GetParam()->name());
    const std::vector<float> x = NormalValues(p.rows * p.cols, 2);
    const std::vector<float> weights = Dequantized(w);
    const int64_t stride = p.outputs + kGap;
    const std::vector<float> before = NormalValues(p.rows * stride, 4);
    for (const Isa isa : Isas()) {
      const std::vector<float> y =
          multiplier_.Run(isa, x, p.rows, w, {}, before, Compute::kBFloat16);
      for (int64_t i = 0; i < p.rows; ++i) {
        for (int64_t o = 0; o < p.outputs; ++o) {
          // Integer weights go their own way: x rounded to 16-bit integers.
          const Wanted wanted = Reference(&x[i * p.cols], &weights[o * p.cols],
                                          p.cols, w, Compute::kBFloat16);
          ASSERT_NEAR(wanted.y, y[i * stride + o], wanted.tolerance)
              << IsaName(isa) << " " << p.rows << " " << p.outputs << " "
              << p.cols << " at " << i << ", " << o;
        }
        for (int64_t o = p.outputs; o < stride; ++o) {
          ASSERT_EQ(before[i * stride + o], y[i * stride + o]);
        }
      }
    }
  }
}

TEST_P(BFloat16MatmulTest, ARowDoesNotDependOnTheOthersNorOnThreads) {
  Multiplier alone(1), many(5);
  for (const Product& p : kProducts) {
    const PackedWeight w =
        Pack(NormalRows(p.outputs, p.cols, 5), GetParam()->name());
    std::vector<float> x = NormalValues(p.rows * p.cols, 6);
    // Not even on one that holds NaN.
    if (p.rows > 1) x[p.cols] = kNan;
    const std::vector<float> bias = NormalValues(p.outputs, 7);
    const std::vector<float> before = NormalValues(p.rows * p.outputs, 8);
    const auto part = [](const std::vector<float>& all, int64_t row,
                         int64_t count, int64_t columns) {
      return std::vector<float>(all.begin() + row * columns,
                                all.begin() + (row + count) * columns);
    };
    const Epilogue epilogue = {bias.data(), Activation::kGelu,
                               Combine::kMultiply};
    for (const Isa isa : Isas()) {
      const std::vector<float> together = multiplier_.Run(
          isa, x, p.rows, w, epilogue, before, Compute::kBFloat16);
      for (int64_t i = 0; i < p.rows; i += 7) {
        for (const int64_t count : {1, 2, 15, 33}) {
          if (i + count > p.rows) break;
          Multiplier& multiplier = count == 2 ? many : alone;
          ExpectSameBits(
              part(together, i, count, p.outputs),
              multiplier.Run(isa, part(x, i, count, p.cols), count, w, epilogue,
                             part(before, i, count, p.outputs),
                             Compute::kBFloat16),
              std::string(IsaName(isa)));
        }
      }
    }
  }
}

TEST_P(BFloat16MatmulTest, AnInputOfAllFormsServesEveryWeight) {
  constexpr int64_t kRows = 19, kOutputs = 37, kCols = 70;
  const PackedWeight w =
      Pack(NormalRows(kOutputs, kCols, 7), GetParam()->name());
  const std::vector<float> x = NormalValues(kRows * kCols, 8);
  const ConstMatrix matrix = {x.data(), kRows, kCols, kCols};
  const InputForms all =
      InputForms{.integers = true, .runs = true, .bfloat16 = true} |
      FormsFor(w, Compute::kBFloat16);
  for (const Isa isa : Isas()) {
    std::vector<float> y(kRows * kOutputs);
    ThreadPool pool(2);
    const auto multiply = [&](ThreadPool& team, Scratch& scratch) {
      const MatmulInput input =
          MatmulInput::PrepareOn(isa, matrix, all, team, scratch);
      MatmulOn(isa, input, w, {}, {y.data(), kRows, kOutputs, kOutputs}, team,
               scratch);
    };
    Scratch scratch = ScratchOfNans(CountedBytes(2, multiply));
    multiply(pool, scratch);
    ExpectSameBits(
        multiplier_.Run(isa, x, kRows, w, {}, {}, Compute::kBFloat16), y,
        std::string(IsaName(isa)));
  }
}

INSTANTIATE_TEST_SUITE_P(AllMethods, BFloat16MatmulTest,
                         testing::ValuesIn(AllMethods().begin(),
                                           AllMethods().end()),
                         [](const auto& info) {
                           return TestName(info.param->name());
                         });

}  // namespace
}  // namespace ounce::quant
