#include "quant/matmul.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "quant/registry.h"
#include "tests/quant/every_isa.h"
#include "tests/quant/matrix_rows.h"

namespace ounce::quant {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Runs products on a team of three; more threads than a matrix has panels, and
// tasks that end unevenly, are among the shapes below.
class Multiplier {
 public:
  std::vector<float> Run(Isa isa, const std::vector<float>& x, int64_t rows,
                         const PackedWeight& w, const Epilogue& epilogue = {},
                         std::vector<float> y = {}) {
    const size_t bytes = MatmulScratchBytes(rows, w.cols(), 3);
    if (!scratch_ || scratch_->capacity() < bytes) {
      auto scratch = Scratch::Create(bytes);
      EXPECT_TRUE(scratch.ok());
      scratch_ = std::make_unique<Scratch>(*std::move(scratch));
    }
    y.resize(rows * w.rows(), kNan);
    ScratchScope scope(*scratch_);
    const MatmulInput input = MatmulInput::PrepareOn(
        isa, {x.data(), rows, w.cols(), w.cols()},
        FormsFor(w, Compute::kFloat32), pool_, *scratch_);
    MatmulOn(isa, input, w, epilogue, {y.data(), rows, w.rows(), w.rows()},
             pool_, *scratch_);
    return y;
  }

 private:
  ThreadPool pool_{3};
  std::unique_ptr<Scratch> scratch_;
};

std::vector<float> Dequantized(const PackedWeight& w) {
  std::vector<float> weights(w.rows() * w.cols());
  w.Dequantize(0, w.rows(), weights.data());
  return weights;
}

// One output by the slow, obvious reference, dequantized weights and sums in
// float64; and how far from it the kernels may be by what they state.
struct Wanted {
  double y;
  double tolerance;
};
Wanted Reference(const float* x, const float* weights, int64_t cols,
                 TileForm form) {
  double sum = 0, sum_magnitudes = 0, sum_weights = 0, max_x = 0;
  for (int64_t k = 0; k < cols; ++k) {
    const double product = double{x[k]} * weights[k];
    sum += product;
    sum_magnitudes += std::abs(product);
    sum_weights += std::abs(double{weights[k]});
    max_x = std::max(max_x, std::abs(double{x[k]}));
  }
  constexpr double kEpsilon = 0x1p-24;
  if (form == TileForm::kInt8) {
    // Each x is off by half a step of max / 32767 (1e-4 more for the factor's
    // own rounding); then a handful of float32 roundings.
    return {sum, sum_weights * max_x / 65534 * (1 + 1e-4) +
                     8 * kEpsilon * sum_magnitudes + 1e-30};
  }
  // One rounding per step of the chain (two without FMA).
  return {sum, 2 * (cols + 2) * kEpsilon * sum_magnitudes + 1e-30};
}

struct Shape {
  int64_t rows, cols;
};
constexpr Shape kShapes[] = {{1, 1},     {15, 63},  {16, 64},   {17, 65},
                             {33, 1000}, {80, 128}, {200, 192}, {6, 4160}};
constexpr int64_t kRowCounts[] = {1, 2, 3, 4, 5, 8, 12, 13, 16, 17, 33, 100};

class MatmulTest : public testing::TestWithParam<const QuantMethod*> {
 protected:
  std::string_view spec() const { return GetParam()->name(); }
  Multiplier multiplier_;
};

TEST_P(MatmulTest, EqualsDequantizeThenMultiplyInFloat64) {
  for (const Shape shape : kShapes) {
    const PackedWeight w = Pack(NormalRows(shape.rows, shape.cols, 1), spec());
    const std::vector<float> weights = Dequantized(w);
    for (const int64_t rows : kRowCounts) {
      const std::vector<float> x = NormalValues(rows * shape.cols, 2);
      std::vector<Wanted> wanted;
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < shape.rows; ++j) {
          wanted.push_back(Reference(&x[i * shape.cols],
                                     &weights[j * shape.cols], shape.cols,
                                     w.layout().form));
        }
      }
      for (const Isa isa : Isas()) {
        const std::vector<float> y = multiplier_.Run(isa, x, rows, w);
        for (size_t i = 0; i < y.size(); ++i) {
          ASSERT_NEAR(wanted[i].y, y[i], wanted[i].tolerance)
              << IsaName(isa) << " " << shape.rows << "x" << shape.cols << ", "
              << rows << " rows, output " << i;
        }
      }
    }
  }
}

TEST_P(MatmulTest, ARowDoesNotDependOnTheOthers) {
  for (const Shape shape : kShapes) {
    const PackedWeight w = Pack(NormalRows(shape.rows, shape.cols, 3), spec());
    const std::vector<float> bias = NormalValues(shape.rows, 4);
    const Epilogue epilogue = {bias.data(), Activation::kGeluTanh};
    constexpr int64_t kRows = 37;
    const std::vector<float> x = NormalValues(kRows * shape.cols, 5);
    for (const Isa isa : Isas()) {
      const std::vector<float> together =
          multiplier_.Run(isa, x, kRows, w, epilogue);
      for (const int64_t count : {1, 2, 3, 4, 5, 7, 16}) {
        for (int64_t row = 0; row + count <= kRows; row += 9) {
          const std::vector<float> alone =
              multiplier_.Run(isa,
                              {x.begin() + row * shape.cols,
                               x.begin() + (row + count) * shape.cols},
                              count, w, epilogue);
          ExpectSameBits({together.begin() + row * shape.rows,
                          together.begin() + (row + count) * shape.rows},
                         alone, std::string(IsaName(isa)));
        }
      }
    }
  }
}

TEST_P(MatmulTest, AddsBiasAppliesTheFunctionThenAddsTheResidual) {
  constexpr int64_t kRows = 6, kOutputs = 21, kCols = 70;
  const PackedWeight w = Pack(NormalRows(kOutputs, kCols, 6), spec());
  const std::vector<float> x = NormalValues(kRows * kCols, 7);
  const std::vector<float> bias = NormalValues(kOutputs, 8);
  const std::vector<float> residual = NormalValues(kRows * kOutputs, 9);
  for (const Isa isa : Isas()) {
    const std::vector<float> product = multiplier_.Run(isa, x, kRows, w);
    for (const Activation activation :
         {Activation::kNone, Activation::kRelu, Activation::kGeluTanh}) {
      for (const Combine combine : {Combine::kReplace, Combine::kAdd}) {
        const std::vector<float> y = multiplier_.Run(
            isa, x, kRows, w, {bias.data(), activation, combine}, residual);
        for (int64_t i = 0; i < kRows * kOutputs; ++i) {
          const double sum = double{product[i]} + bias[i % kOutputs];
          double wanted = sum;
          if (activation == Activation::kRelu) wanted = std::max(sum, 0.0);
          if (activation == Activation::kGeluTanh) {
            wanted = 0.5 * sum *
                     (1 + std::tanh(std::sqrt(2 / M_PI) *
                                    (sum + 0.044715 * sum * sum * sum)));
          }
          if (combine == Combine::kAdd) wanted += residual[i];
          ASSERT_NEAR(wanted, y[i], 4e-7 * (1 + std::abs(wanted)))
              << IsaName(isa) << " at " << i;
        }
      }
    }
  }
}

TEST_P(MatmulTest, WritesNothingOutsideTheOutput) {
  constexpr int64_t kRows = 5, kOutputs = 19, kCols = 65, kStride = 40;
  const PackedWeight w = Pack(NormalRows(kOutputs, kCols, 10), spec());
  const std::vector<float> x = NormalValues(kRows * kCols, 11);
  ThreadPool pool(2);
  auto scratch = Scratch::Create(MatmulScratchBytes(kRows, kCols, 2));
  ASSERT_TRUE(scratch.ok());
  for (const Isa isa : Isas()) {
    ScratchScope scope(*scratch);
    std::vector<float> y(kRows * kStride, 77.0f);
    const MatmulInput input =
        MatmulInput::PrepareOn(isa, {x.data(), kRows, kCols, kCols},
                               {.integers = true}, pool, *scratch);
    MatmulOn(isa, input, w, {}, {y.data(), kRows, kOutputs, kStride}, pool,
             *scratch);
    for (int64_t i = 0; i < kRows; ++i) {
      for (int64_t j = kOutputs; j < kStride; ++j) {
        ASSERT_EQ(77.0f, y[i * kStride + j]) << IsaName(isa);
      }
    }
  }
}

TEST_P(MatmulTest, NanAndInfinityStayInTheirRow) {
  constexpr int64_t kRows = 20, kOutputs = 18, kCols = 100;
  const PackedWeight w = Pack(NormalRows(kOutputs, kCols, 12), spec());
  const std::vector<float> clean = NormalValues(kRows * kCols, 13);
  std::vector<float> x = clean;
  x[3 * kCols + 99] = kNan;
  x[17 * kCols] = -kInfinity;
  for (const Isa isa : Isas()) {
    const std::vector<float> wanted = multiplier_.Run(isa, clean, kRows, w);
    const std::vector<float> y = multiplier_.Run(isa, x, kRows, w);
    for (int64_t i = 0; i < kRows; ++i) {
      for (int64_t j = 0; j < kOutputs; ++j) {
        const float found = y[i * kOutputs + j];
        if (i == 3) {
          ASSERT_TRUE(std::isnan(found)) << IsaName(isa);
        } else if (i == 17) {
          ASSERT_FALSE(std::isfinite(found)) << IsaName(isa);
        } else {
          ASSERT_EQ(wanted[i * kOutputs + j], found) << IsaName(isa);
        }
      }
    }
  }
}

TEST_P(MatmulTest, ZeroRowsGiveTheBias) {
  constexpr int64_t kOutputs = 18, kCols = 70;
  const PackedWeight w = Pack(NormalRows(kOutputs, kCols, 14), spec());
  const std::vector<float> bias = NormalValues(kOutputs, 15);
  for (const Isa isa : Isas()) {
    ExpectSameBits(bias,
                   multiplier_.Run(isa, std::vector<float>(kCols), 1, w,
                                   {.bias = bias.data()}),
                   std::string(IsaName(isa)));
  }
}

INSTANTIATE_TEST_SUITE_P(AllMethods, MatmulTest,
                         testing::ValuesIn(AllMethods().begin(),
                                           AllMethods().end()),
                         [](const auto& info) {
                           return std::string(info.param->name());
                         });

TEST(MatmulInt8Test, AllInstructionSetsAgreeBitByBit) {
  Multiplier multiplier;
  for (const Shape shape : kShapes) {
    const PackedWeight w =
        Pack(NormalRows(shape.rows, shape.cols, 16), "linear");
    const std::vector<float> bias = NormalValues(shape.rows, 17);
    for (const int64_t rows : kRowCounts) {
      const std::vector<float> x = NormalValues(rows * shape.cols, 18, 30);
      const std::vector<float> residual = NormalValues(rows * shape.rows, 19);
      const Epilogue epilogue = {bias.data(), Activation::kRelu, Combine::kAdd};
      const std::vector<float> wanted =
          multiplier.Run(Isa::kPortable, x, rows, w, epilogue, residual);
      for (const Isa isa : Isas()) {
        ExpectSameBits(wanted,
                       multiplier.Run(isa, x, rows, w, epilogue, residual),
                       std::string(IsaName(isa)));
      }
    }
  }
}

TEST(MatmulInt8Test, SumsOfTheLargestColumnsDoNotOverflow) {
  // Codes of 127 and -128 throughout, x at its most negative and positive.
  constexpr int64_t kCols = 65536;
  std::vector<float> values(2 * kCols, 127.0f);
  std::fill(values.begin() + kCols, values.end(), -127.0f);
  const PackedWeight w = Pack(MatrixRows(2, kCols, values), "linear");
  Multiplier multiplier;
  for (const float sign : {1.0f, -1.0f}) {
    std::vector<float> x(17 * kCols, sign);
    for (const Isa isa : Isas()) {
      for (const int64_t rows : {1, 17}) {
        const std::vector<float> y = multiplier.Run(isa, x, rows, w);
        for (int64_t i = 0; i < rows; ++i) {
          ASSERT_NEAR(y[2 * i], sign * 127 * kCols, 4) << IsaName(isa);
          ASSERT_NEAR(y[2 * i + 1], sign * -127 * kCols, 4) << IsaName(isa);
        }
      }
    }
  }
}

TEST(MatmulInt8Test, TinyHugeAndSubnormalInputsAreScaledByRow) {
  constexpr int64_t kCols = 70;
  const PackedWeight w = Pack(NormalRows(5, kCols, 20), "linear");
  Multiplier multiplier;
  for (const float magnitude : {1e-45f, 1e-38f, 1e-29f, 1e-20f, 1e20f, 1e36f}) {
    const std::vector<float> x = NormalValues(kCols, 21, magnitude);
    const std::vector<float> weights = Dequantized(w);
    for (const Isa isa : Isas()) {
      const std::vector<float> y = multiplier.Run(isa, x, 1, w);
      for (int j = 0; j < 5; ++j) {
        const Wanted wanted =
            Reference(x.data(), &weights[j * kCols], kCols, TileForm::kInt8);
        // Rows below 2^-100 (8e-31) count as zero.
        ASSERT_NEAR(wanted.y, y[j], wanted.tolerance + 1e-29)
            << IsaName(isa) << magnitude;
      }
    }
  }
}

TEST(MatmulInputTest, PlanesAreEqualOnAllInstructionSets) {
  constexpr int64_t kRows = 19, kCols = 1001;
  std::vector<float> x = NormalValues(kRows * kCols, 22);
  std::fill_n(x.begin(), kCols, 0.0f);
  x[2 * kCols + 5] = kNan;
  ThreadPool pool(2);
  auto scratch = Scratch::Create(4 * MatmulScratchBytes(kRows, kCols, 2));
  ASSERT_TRUE(scratch.ok());
  const ConstMatrix matrix = {x.data(), kRows, kCols, kCols};
  const MatmulInput wanted = MatmulInput::PrepareOn(
      Isa::kPortable, matrix, {.integers = true}, pool, *scratch);
  EXPECT_EQ(0.0f, wanted.row_scales()[0]);
  EXPECT_TRUE(std::isnan(wanted.row_scales()[2]));
  for (const Isa isa : Isas()) {
    const MatmulInput found =
        MatmulInput::PrepareOn(isa, matrix, {.integers = true}, pool, *scratch);
    const size_t bytes = kRows * found.padded_cols();
    EXPECT_EQ(0, std::memcmp(wanted.hi(), found.hi(), bytes)) << IsaName(isa);
    EXPECT_EQ(0, std::memcmp(wanted.lo(), found.lo(), bytes)) << IsaName(isa);
    EXPECT_EQ(0, std::memcmp(wanted.row_scales(), found.row_scales(),
                             kRows * sizeof(float)));
  }
}

}  // namespace
}  // namespace ounce::quant
