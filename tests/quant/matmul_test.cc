#include "quant/matmul.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "quant/registry.h"
#include "tests/quant/error_bounds.h"
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
constexpr Shape kShapes[] = {{1, 1},    {17, 15},   {33, 16}, {15, 63},
                             {16, 64},  {17, 65},   {48, 80}, {33, 1000},
                             {80, 128}, {200, 192}, {6, 4160}};
// 122 are blocks of 12 rows of float kernels, and one of 2.
constexpr int64_t kRowCounts[] = {1,  2,  3,  4,  5,  6,   7,  8,
                                  13, 15, 16, 17, 33, 100, 122};

// Every method with its defaults, and each way in which runs differ: 4-bit and
// 8-bit tiles, steps of 16, 32 and 64 columns, runs of one and of several
// steps, minima or none; and outliers, none and many.
std::vector<std::string_view> Specs() {
  std::vector<std::string_view> specs = {
      "linear:bits=4,granularity=group",
      "linear:bits=2,granularity=group,group=16",
      "linear:bits=4,mode=asymmetric,granularity=group,group=32",
      "linear:bits=6,granularity=group,group=48",
      "linear:bits=5,mode=asymmetric,granularity=group,group=256",
      "linear:mode=asymmetric",
      "bnb-int8:threshold=0",
      "bnb-int8:threshold=1",
      "linear activations=8",
      "linear:bits=4,granularity=group activations=8",
      "linear:bits=3,granularity=group,group=16 activations=8",
      "linear:bits=5,mode=asymmetric,granularity=group,group=32 activations=8",
      "linear:mode=asymmetric activations=8",
      "ks4 activations=8",
  };
  for (const QuantMethod* method : AllMethods()) {
    specs.push_back(method->name());
  }
  return specs;
}

class MatmulTest : public testing::TestWithParam<std::string_view> {
 protected:
  std::string_view spec() const { return GetParam(); }
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
                                     &weights[j * shape.cols], shape.cols, w));
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

TEST_P(MatmulTest, AllInstructionSetsAgreeBitByBitOnIntegers) {
  for (const Shape shape : kShapes) {
    const PackedWeight w = Pack(NormalRows(shape.rows, shape.cols, 16), spec());
    if (w.layout().form == TileForm::kFloat) return;
    const std::vector<float> bias = NormalValues(shape.rows, 17);
    for (const int64_t rows : kRowCounts) {
      const std::vector<float> x = NormalValues(rows * shape.cols, 18, 30);
      const std::vector<float> residual = NormalValues(rows * shape.rows, 19);
      for (const Combine combine : {Combine::kAdd, Combine::kMultiply}) {
        const Epilogue epilogue = {bias.data(), Activation::kRelu, combine};
        const std::vector<float> wanted =
            multiplier_.Run(Isa::kPortable, x, rows, w, epilogue, residual);
        for (const Isa isa : Isas()) {
          ExpectSameBits(wanted,
                         multiplier_.Run(isa, x, rows, w, epilogue, residual),
                         std::string(IsaName(isa)));
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllSpecs, MatmulTest, testing::ValuesIn(Specs()),
                         [](const auto& info) { return TestName(info.param); });

// Sums are of 64 columns at most, whatever shares a scale.
TEST(MatmulRunsTest, TheLargestIntegersDoNotOverflow) {
  constexpr int64_t kCols = 70'000;
  std::vector<float> values(3 * kCols, 127.0f);
  std::fill_n(values.begin() + kCols, kCols, -127.0f);
  for (int64_t i = 2 * kCols; i < 3 * kCols; ++i) {
    values[i] = i % 2 == 0 ? 255.0f : 0.0f;
  }
  Multiplier multiplier;
  for (const std::string_view spec :
       {"linear:granularity=group", "linear:mode=asymmetric",
        "linear:mode=asymmetric,granularity=group,group=16"}) {
    const PackedWeight w = Pack(MatrixRows(3, kCols, values), spec);
    ASSERT_EQ(TileForm::kRuns, w.layout().form);
    for (const float sign : {1.0f, -1.0f}) {
      const std::vector<float> x(17 * kCols, sign);
      std::vector<float> wanted;
      for (const Isa isa : Isas()) {
        const std::vector<float> y = multiplier.Run(isa, x, 17, w);
        for (int64_t i = 0; i < 17; ++i) {
          // A rounding for each of 1,094 or 4,375 steps and of x.
          ASSERT_NEAR(y[3 * i], sign * 127 * kCols, 300) << IsaName(isa);
          ASSERT_NEAR(y[3 * i + 1], sign * -127 * kCols, 300) << IsaName(isa);
          ASSERT_NEAR(y[3 * i + 2], sign * 127.5 * kCols, 300) << IsaName(isa);
        }
        if (wanted.empty()) wanted = y;
        ExpectSameBits(wanted, y, std::string(IsaName(isa)));
        ExpectSameBits(
            {y.begin(), y.begin() + 3},
            multiplier.Run(isa, {x.begin(), x.begin() + kCols}, 1, w),
            std::string(IsaName(isa)));
      }
    }
  }
}

// The definition, word by word, in steps of 16, 32 and 64 columns.
TEST(MatmulRunsTest, IsTheChainThatTheHeaderStates) {
  constexpr int64_t kRows = 21, kCols = 330;
  const std::vector<float> x = NormalValues(kCols, 30);
  Multiplier multiplier;
  for (const std::string_view spec :
       {"linear:bits=4,granularity=group,group=16",
        "linear:bits=6,mode=asymmetric,granularity=group,group=96",
        "linear:bits=4,mode=asymmetric,granularity=group,group=128",
        "linear:bits=4,granularity=group,group=16 activations=8",
        "linear:bits=6,mode=asymmetric,granularity=group,group=96 "
        "activations=8"}) {
    const PackedWeight w = Pack(NormalRows(kRows, kCols, 31), spec);
    const float most = w.input_rounding().bits == 8 ? 127 : 32639;
    const RunGeometry& runs = w.runs();
    alignas(64) std::byte scratch[1024];
    const UnpackTile unpack = w.layout().UnpackFor(Isa::kPortable);
    float max = 0;
    for (const float value : x) max = std::max(max, std::abs(value));
    const float inverse = most / max;
    std::vector<float> wanted;
    for (int64_t row = 0; row < kRows; ++row) {
      float y = 0;
      const int64_t step = std::min<int64_t>(runs.cols, 64);
      for (int64_t first = 0; first < kCols; first += step) {
        int64_t sum = 0, x_sum = 0;
        const int64_t panel = row / 16;
        const auto* tile = static_cast<const uint8_t*>(unpack(
            w.panel(panel) + first / 64 * w.layout().tile_bytes, scratch));
        for (int64_t col = first; col < std::min(first + step, kCols); ++col) {
          const auto q = std::lrint(x[col] * inverse);
          sum += q * tile[col % 64 / 4 * 64 + row % 16 * 4 + col % 4];
          x_sum += q;
        }
        const int64_t run = first / runs.cols;
        int zero = runs.shift;
        if (w.run_zeros() != nullptr) {
          zero +=
              w.run_zeros()[(panel * w.runs_per_row() + run) * 16 + row % 16];
        }
        sum -= zero * x_sum;
        y = std::fma(w.run_scales().At(row, run), static_cast<float>(sum), y);
        if (runs.minimum.has_value()) {
          y = std::fma(w.run_minima().At(row, run), static_cast<float>(x_sum),
                       y);
        }
      }
      wanted.push_back(y * (max / most));
    }
    for (const Isa isa : Isas()) {
      ExpectSameBits(wanted, multiplier.Run(isa, x, 1, w),
                     std::string(IsaName(isa)));
    }
  }
}

TEST(MatmulInt8Test, SumsOfTheLargestColumnsDoNotOverflow) {
  // Codes of 127 and -128 throughout, x at its most negative and positive.
  constexpr int64_t kCols = 65536;
  std::vector<float> values(2 * kCols, 127.0f);
  std::fill(values.begin() + kCols, values.end(), -127.0f);
  Multiplier multiplier;
  for (const std::string_view spec : {"linear", "bnb-int8:threshold=0"}) {
    const PackedWeight w = Pack(MatrixRows(2, kCols, values), spec);
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
}

// The definition, word by word.
TEST(MatmulInt8Test, In8BitsIsWhatTheHeaderStates) {
  constexpr int64_t kRows = 21, kCols = 330;
  std::vector<float> x = NormalValues(kCols, 32);
  x[329] = std::nextafter(6.0f, 0.0f);  // the largest that is no outlier
  x[0] = 6;
  x[63] = -7;
  x[64] = 1e9f;
  x[200] = -6000;
  Multiplier multiplier;
  for (const float threshold : {6.0f, 0.0f}) {
    const PackedWeight w =
        Pack(NormalRows(kRows, kCols, 33),
             threshold == 0 ? "bnb-int8:threshold=0" : "bnb-int8");
    const auto is_outlier = [&](float value) {
      return threshold > 0 && std::abs(value) >= threshold;
    };
    float max = 0;
    for (const float value : x) {
      if (!is_outlier(value)) max = std::max(max, std::abs(value));
    }
    std::vector<float> wanted;
    for (int64_t row = 0; row < kRows; ++row) {
      int64_t sum = 0;
      float o = 0;
      for (int64_t col = 0; col < kCols; ++col) {
        const auto* tile = reinterpret_cast<const int8_t*>(
            w.panel(row / 16) + col / 64 * w.layout().tile_bytes);
        const int code = tile[col % 64 / 4 * 64 + row % 16 * 4 + col % 4];
        if (is_outlier(x[col])) {
          o = std::fma(x[col], w.scales()[row] * static_cast<float>(code), o);
        } else {
          sum += std::lrint(x[col] * (127.0f / max)) * code;
        }
      }
      wanted.push_back(
          std::fma(w.scales()[row] * static_cast<float>(sum), max / 127.0f, o));
    }
    for (const Isa isa : Isas()) {
      ExpectSameBits(wanted, multiplier.Run(isa, x, 1, w),
                     std::string(IsaName(isa)));
    }
  }
}

TEST(MatmulInt8Test, TinyHugeAndSubnormalInputsAreScaledByRow) {
  constexpr int64_t kCols = 70;
  Multiplier multiplier;
  for (const std::string_view spec :
       {"linear", "bnb-int8", "bnb-int8:threshold=0"}) {
    const PackedWeight w = Pack(NormalRows(5, kCols, 20), spec);
    const std::vector<float> weights = Dequantized(w);
    for (const float magnitude :
         {1e-45f, 1e-38f, 1e-29f, 1e-20f, 1e20f, 1e36f}) {
      const std::vector<float> x = NormalValues(kCols, 21, magnitude);
      for (const Isa isa : Isas()) {
        const std::vector<float> y = multiplier.Run(isa, x, 1, w);
        for (int j = 0; j < 5; ++j) {
          const Wanted wanted =
              Reference(x.data(), &weights[j * kCols], kCols, w);
          // Rows below 2^-100 (8e-31) count as zero.
          ASSERT_NEAR(wanted.y, y[j], wanted.tolerance + 1e-29)
              << IsaName(isa) << " " << spec << " " << magnitude;
        }
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
    return MatmulInput::PrepareOn(isa, matrix,
                                  {.integers = true,
                                   .runs = true,
                                   .bfloat16 = true,
                                   .bytes = 2.5f,
                                   .run_bytes = true},
                                  team, scratch);
  };
  const size_t needed =
      CountedBytes(2, [&](ThreadPool& team, Scratch& scratch) {
        prepare(Isa::kPortable, team, scratch);
      });
  Scratch scratch_of_wanted = ScratchOfNans(needed);
  const MatmulInput wanted = prepare(Isa::kPortable, pool, scratch_of_wanted);
  EXPECT_EQ(0.0f, wanted.row_scales()[0]);
  EXPECT_TRUE(std::isnan(wanted.row_scales()[2]));
  EXPECT_EQ(0.0f, wanted.runs().row_scales[0]);
  EXPECT_TRUE(std::isnan(wanted.runs().row_scales[2]));
  const Outliers& outliers = wanted.bytes().outliers;
  const int64_t blocks = wanted.padded_cols() / 64;
  for (int64_t i = 0; i < kRows; ++i) {
    std::vector<int64_t> found, listed;
    for (int64_t k = 0; k < kCols && i != 2; ++k) {
      if (std::abs(x[i * kCols + k]) >= 2.5f) found.push_back(k);
    }
    for (int32_t k = 0; k < outliers.num_found[i]; ++k) {
      const OutlierBlock& block = outliers.found[i * blocks + k];
      for (int bit = 0; bit < 64; ++bit) {
        if (block.cols >> bit & 1) listed.push_back(block.block * 64 + bit);
      }
    }
    EXPECT_EQ(found, listed);
    EXPECT_EQ(i == 0 || i == 2, found.empty());
  }
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
    EXPECT_EQ(0, std::memcmp(wanted.bytes().plane, found.bytes().plane, bytes));
    EXPECT_EQ(0, std::memcmp(wanted.bytes().row_scales,
                             found.bytes().row_scales, kRows * sizeof(float)));
    for (int64_t i = 0; i < kRows; ++i) {
      const int32_t count = outliers.num_found[i];
      ASSERT_EQ(count, found.bytes().outliers.num_found[i]) << IsaName(isa);
      EXPECT_EQ(0, std::memcmp(outliers.found + i * blocks,
                               found.bytes().outliers.found + i * blocks,
                               count * sizeof(OutlierBlock)))
          << IsaName(isa);
    }
    EXPECT_EQ(0,
              std::memcmp(wanted.run_bytes().hi, found.run_bytes().hi, bytes));
    EXPECT_EQ(0, std::memcmp(wanted.run_bytes().sums, found.run_bytes().sums,
                             bytes / 4));
    EXPECT_EQ(0,
              std::memcmp(wanted.run_bytes().row_scales,
                          found.run_bytes().row_scales, kRows * sizeof(float)));
    EXPECT_EQ(0, std::memcmp(wanted.runs().hi, found.runs().hi, bytes));
    EXPECT_EQ(0, std::memcmp(wanted.runs().lo, found.runs().lo, bytes));
    EXPECT_EQ(0, std::memcmp(wanted.runs().sums, found.runs().sums, bytes / 4))
        << IsaName(isa);
    EXPECT_EQ(0, std::memcmp(wanted.runs().row_scales, found.runs().row_scales,
                             kRows * sizeof(float)));
  }
}

}  // namespace
}  // namespace ounce::quant
