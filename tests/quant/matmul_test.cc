#include "quant/matmul.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "quant/registry.h"
#include "tests/quant/every_isa.h"
#include "tests/quant/matrix_rows.h"
#include "tests/quant/products.h"

namespace ounce::quant {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

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

TEST_P(MatmulTest, WritesNothingOutsideTheOutput) {
  constexpr int64_t kRows = 5, kOutputs = 19, kCols = 65, kStride = 40;
  const PackedWeight w = Pack(NormalRows(kOutputs, kCols, 10), spec());
  const std::vector<float> x = NormalValues(kRows * kCols, 11);
  for (const Isa isa : Isas()) {
    const std::vector<float> y = multiplier_.Run(
        isa, x, kRows, w, {}, std::vector<float>(kRows * kStride, 77.0f));
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

TEST(MatmulInputTest, FormsAreEqualOnAllInstructionSets) {
  constexpr int64_t kRows = 19, kCols = 1001;
  std::vector<float> x = NormalValues(kRows * kCols, 22);
  std::fill_n(x.begin(), kCols, 0.0f);
  x[2 * kCols + 5] = kNan;
  ThreadPool pool(2);
  const ConstMatrix matrix = {x.data(), kRows, kCols, kCols};
  const auto prepare = [&](Isa isa, ThreadPool& team, Scratch& scratch) {
    return MatmulInput::PrepareOn(
        isa, matrix, {.integers = true, .bfloat16 = true}, team, scratch);
  };
  const size_t needed =
      CountedBytes(2, [&](ThreadPool& team, Scratch& scratch) {
        prepare(Isa::kPortable, team, scratch);
      });
  Scratch scratch_of_wanted = ScratchOfNans(needed);
  const MatmulInput wanted = prepare(Isa::kPortable, pool, scratch_of_wanted);
  EXPECT_EQ(0.0f, wanted.row_scales()[0]);
  EXPECT_TRUE(std::isnan(wanted.row_scales()[2]));
  for (int64_t i = 0; i < kRows; ++i) {
    for (int64_t k = 0; k < wanted.padded_cols(); ++k) {
      const float value = k < kCols ? x[i * kCols + k] : 0.0f;
      ASSERT_EQ(FloatToBFloat16(value),
                wanted.bfloat16()[i * wanted.padded_cols() + k]);
    }
  }
  for (const Isa isa : Isas()) {
    Scratch scratch = ScratchOfNans(needed);
    const MatmulInput found = prepare(isa, pool, scratch);
    const size_t bytes = kRows * found.padded_cols();
    EXPECT_EQ(0, std::memcmp(wanted.hi(), found.hi(), bytes)) << IsaName(isa);
    EXPECT_EQ(0, std::memcmp(wanted.lo(), found.lo(), bytes)) << IsaName(isa);
    EXPECT_EQ(0, std::memcmp(wanted.row_scales(), found.row_scales(),
                             kRows * sizeof(float)));
    EXPECT_EQ(0, std::memcmp(wanted.bfloat16(), found.bfloat16(), 2 * bytes))
        << IsaName(isa);
  }
}

}  // namespace
}  // namespace ounce::quant
