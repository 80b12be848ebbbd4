// What every method in methods.def must do, for all specs of error_bounds.h.
#include "quant/quant_method.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "quant/error_stats.h"
#include "quant/pack.h"
#include "quant/registry.h"
#include "tests/quant/error_bounds.h"
#include "tests/quant/matrix_rows.h"

namespace ounce::quant {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class QuantMethodTest : public testing::TestWithParam<ErrorBound> {
 protected:
  const ErrorBound& bound() const { return GetParam(); }
  const MethodSpec& spec() const { return spec_; }
  absl::StatusOr<PackedWeight> Quantize(const FloatRows& rows) const {
    return spec_.method->Quantize(rows, spec_.params);
  }
  CodeFormat Format(int64_t rows, int64_t cols, DType dtype) const {
    const auto format = spec_.Format(rows, cols, dtype);
    EXPECT_TRUE(format.ok()) << format.status();
    return *format;
  }

 private:
  const MethodSpec spec_ = *ParseMethodSpec(GetParam().spec);
};

// A matrix in which NaN and infinite values are welcome.
class NonFiniteRows final : public FloatRows {
 public:
  NonFiniteRows(int64_t rows, int64_t cols, std::vector<float> values)
      : rows_(rows, cols, std::move(values)) {}
  const std::string& name() const override { return rows_.name(); }
  int64_t rows() const override { return rows_.rows(); }
  int64_t cols() const override { return rows_.cols(); }
  DType dtype() const override { return rows_.dtype(); }
  bool allows_non_finite() const override { return true; }
  absl::Status Read(int64_t first, int64_t count, float* out) const override {
    return rows_.Read(first, count, out);
  }

 private:
  const MatrixRows rows_;
};

// Which elements share a field's value, told by one that does.
int64_t PlaceOf(const Reach& reach, int64_t row, int64_t col, int64_t cols) {
  if (reach.flat > 0) return (row * cols + col) / reach.flat * reach.flat;
  return row / reach.rows * reach.rows * cols + col / reach.cols * reach.cols;
}

// What of the matrix a bound's maximum is over, by the same token.
std::vector<int64_t> Shared(const ErrorBound& bound, const CodeFormat& format,
                            int64_t row, int64_t col, int64_t cols) {
  switch (bound.of) {
    case ErrorBound::kMatrix:
      return {};
    case ErrorBound::kRow:
      return {row};
    case ErrorBound::kRun:
      break;
  }
  std::vector<int64_t> places;
  for (const CodeField& field : format.fields) {
    places.push_back(PlaceOf(field.reach, row, col, cols));
  }
  return places;
}

// By how much of a value it is rounded when it is decoded into tiles of
// bfloat16 (packers/floats.cc).
double RoundingOfDecoded(const CodeFormat& format, const PackedWeight& packed) {
  const bool rounds = !format.is_float() &&
                      packed.layout().tile_bytes == 2048 &&
                      packed.layout().form == TileForm::kFloat;
  return rounds ? 0x1p-8 : 0;
}

void ExpectWithin(const ErrorBound& bound, const CodeFormat& format,
                  const MatrixRows& rows, const PackedWeight& packed) {
  const int64_t cols = rows.cols();
  std::vector<float> found(rows.rows() * cols);
  packed.Dequantize(0, rows.rows(), found.data());
  // Tiles round the levels of some tables by half a step of theirs.
  const double row_max =
      bound.row_max +
      (packed.runs().factor == 1 ? 0 : 0.5 * packed.runs().factor);
  const double rounding = RoundingOfDecoded(format, packed);
  std::map<std::vector<int64_t>, double> max;
  for (int64_t i = 0; i < rows.rows() * cols; ++i) {
    double& of = max[Shared(bound, format, i / cols, i % cols, cols)];
    of = std::max(of, std::abs(double{rows.values()[i]}));
  }
  for (int64_t i = 0; i < rows.rows() * cols; ++i) {
    const float wanted = rows.values()[i];
    const double of = max[Shared(bound, format, i / cols, i % cols, cols)];
    ASSERT_NEAR(wanted, found[i],
                row_max * of + bound.relative * std::abs(wanted) +
                    bound.absolute + rounding * std::abs(found[i]))
        << "row " << i / cols << ", col " << i % cols;
  }
}

TEST_P(QuantMethodTest, RoundTripsWithinItsBound) {
  for (const auto& [rows, cols] :
       {std::pair{1, 1}, {15, 63}, {16, 64}, {17, 65}, {17, 512}, {33, 1000}}) {
    const MatrixRows matrix = NormalRows(rows, cols, 1);
    const auto packed = Quantize(matrix);
    ASSERT_TRUE(packed.ok()) << packed.status();
    EXPECT_EQ(rows, packed->rows());
    EXPECT_EQ(cols, packed->cols());
    ExpectWithin(bound(), Format(rows, cols, DType::kF32), matrix, *packed);
  }
  const MatrixRows matrix = NormalRows(64, bound().cols, 2);
  const auto codes = spec().Encode(matrix);
  ASSERT_TRUE(codes.ok()) << codes.status();
  const auto stats = MeasureError(matrix, **codes);
  ASSERT_TRUE(stats.ok());
  EXPECT_LE(stats->relative_l2, bound().relative_l2);
}

TEST_P(QuantMethodTest, KeepsZerosAndScalesWhatSharesAScaleAlone) {
  std::vector<float> values(4 * 65);
  for (int i = 0; i < 65; ++i) {
    values[65 + i] = 1e-3f * static_cast<float>(i);
    values[2 * 65 + i] = -1e3f * static_cast<float>(i);
  }
  const MatrixRows matrix(4, 65, values);
  const auto packed = Quantize(matrix);
  ASSERT_TRUE(packed.ok()) << packed.status();
  ExpectWithin(bound(), Format(4, 65, DType::kF32), matrix, *packed);
}

TEST_P(QuantMethodTest, IsExactWhereItSaysSo) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    if (!spec().lossless_from(dtype)) continue;
    const MatrixRows matrix = NormalRows(17, 100, 3, dtype);
    const auto packed = Quantize(matrix);
    ASSERT_TRUE(packed.ok());
    std::vector<float> found(17 * 100);
    packed->Dequantize(0, 17, found.data());
    EXPECT_EQ(matrix.values(), found);
  }
}

TEST_P(QuantMethodTest, IsDeterministic) {
  const MatrixRows matrix = NormalRows(33, 130, 4);
  const auto first = Quantize(matrix);
  const auto second = Quantize(matrix);
  ASSERT_TRUE(first.ok() && second.ok());
  ASSERT_EQ(first->resident_bytes(), second->resident_bytes());
  EXPECT_EQ(0, std::memcmp(first->panel(0), second->panel(0),
                           first->resident_bytes()));
}

TEST_P(QuantMethodTest, RefusesNanAndInfinityNamingTensorAndRow) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), HUGE_VALF, -HUGE_VALF}) {
    std::vector<float> values = NormalValues(40 * 10, 5);
    values[37 * 10 + 9] = bad;
    const auto packed = Quantize(MatrixRows(40, 10, values));
    EXPECT_EQ(absl::StatusCode::kInvalidArgument, packed.status().code());
    EXPECT_THAT(std::string(packed.status().message()),
                AllOf(HasSubstr("'layers.3.test.weight'"), HasSubstr("row 37"),
                      HasSubstr("column 9")));
  }
}

TEST_P(QuantMethodTest, FloatsKeepWhatIsNotFiniteWhereTheWeightAllowsIt) {
  std::vector<float> values = NormalValues(20 * 10, 5);
  values[3] = std::numeric_limits<float>::quiet_NaN();
  values[17 * 10 + 4] = HUGE_VALF;
  values[17 * 10 + 5] = -HUGE_VALF;
  const auto packed = Quantize(NonFiniteRows(20, 10, values));
  // Codes of such a width are floats of some methods that else have none.
  if (!Format(20, 10, DType::kF32).is_float()) {
    EXPECT_EQ(absl::StatusCode::kInvalidArgument, packed.status().code());
    return;
  }
  ASSERT_TRUE(packed.ok()) << packed.status();
  std::vector<float> found(20 * 10);
  packed->Dequantize(0, 20, found.data());
  EXPECT_TRUE(std::isnan(found[3]));
  EXPECT_EQ(HUGE_VALF, found[17 * 10 + 4]);
  EXPECT_EQ(-HUGE_VALF, found[17 * 10 + 5]);
  EXPECT_TRUE(std::isfinite(found[0]));
}

TEST_P(QuantMethodTest, KnowsWhatItWillTakeOfMemory) {
  for (const auto& [rows, cols] :
       {std::pair{1, 1}, {15, 63}, {16, 64}, {17, 65}, {17, 512}, {33, 1000}}) {
    const auto packed = Quantize(NormalRows(rows, cols, 1));
    ASSERT_TRUE(packed.ok()) << packed.status();
    const auto bytes = PackedBytes(Format(rows, cols, DType::kF32), rows, cols);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    EXPECT_EQ(packed->resident_bytes(), *bytes);
  }
  const CodeFormat format = Format(1, 1, DType::kF32);
  EXPECT_FALSE(PackedBytes(format, 0, 1).ok());
  EXPECT_FALSE(PackedBytes(format, INT64_MAX / 2, 60'000).ok());
}

TEST_P(QuantMethodTest, PadsWithZeros) {
  const auto packed = Quantize(MatrixRows(1, 1, std::vector<float>{0.75f}));
  ASSERT_TRUE(packed.ok());
  alignas(64) std::byte scratch[4096];
  const void* tile =
      packed->layout().UnpackFor(Isa::kPortable)(packed->panel(0), scratch);
  const TileForm form = packed->layout().form;
  // The first element is the weight; a code of zero may be what it has.
  int non_zero = 0;
  for (int i = 1; i < kTileElements; ++i) {
    non_zero += form == TileForm::kFloat
                    ? static_cast<const float*>(tile)[i] != 0
                    : static_cast<const int8_t*>(tile)[i] != 0;
  }
  EXPECT_EQ(0, non_zero);
  for (int row = 1; row < kPanelRows; ++row) {
    switch (form) {
      case TileForm::kFloat:
        break;
      case TileForm::kInt8:
        EXPECT_EQ(0, packed->scales()[row]);
        EXPECT_EQ(0, packed->code_sums()[row]);
        break;
      case TileForm::kRuns:
        EXPECT_EQ(0, packed->run_scales().At(row, 0));
        if (packed->runs().minimum.has_value()) {
          EXPECT_EQ(0, packed->run_minima().At(row, 0));
        }
        break;
    }
  }
}

TEST_P(QuantMethodTest, UnpackersOfAllInstructionSetsAgree) {
  const auto packed = Quantize(NormalRows(16, 64, 6));
  ASSERT_TRUE(packed.ok());
  const TileLayout& layout = packed->layout();
  const size_t bytes = layout.form == TileForm::kFloat ? 4096 : 1024;
  alignas(64) std::byte wanted_scratch[4096];
  alignas(64) std::byte found_scratch[4096];
  const void* wanted =
      layout.UnpackFor(Isa::kPortable)(packed->panel(0), wanted_scratch);
  for (int isa = 1; isa <= static_cast<int>(BestIsa()); ++isa) {
    const void* found = layout.UnpackFor(static_cast<Isa>(isa))(
        packed->panel(0), found_scratch);
    EXPECT_EQ(0, std::memcmp(wanted, found, bytes))
        << IsaName(static_cast<Isa>(isa));
  }
}

TEST_P(QuantMethodTest, StoredBytesAreBelowFloat64AndCountEachValueOnce) {
  for (const DType dtype :
       {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    const int64_t one = Format(1, 640, dtype).StoredBytes(1, 640);
    EXPECT_GT(one, 0);
    EXPECT_LT(one, 640 * 8);
    const CodeFormat format = Format(48, 640, dtype);
    const int64_t constant = format.constant_bytes;
    int64_t bytes = 48 * 640 * format.bits / 8 + constant;
    bool by_row = true;  // no row has a value in common with another
    for (const CodeField& field : format.fields) {
      std::set<int64_t> places;
      for (int64_t i = 0; i < 48 * 640; ++i) {
        places.insert(PlaceOf(field.reach, i / 640, i % 640, 640));
      }
      bytes += (static_cast<int64_t>(places.size()) * field.bits + 7) / 8;
      by_row &= field.reach.flat > 0 ? 640 % field.reach.flat == 0
                                     : field.reach.rows == 1;
    }
    EXPECT_EQ(bytes, format.StoredBytes(48, 640));
    if (by_row) {
      EXPECT_EQ(48 * (one - constant) + constant, format.StoredBytes(48, 640));
    } else {
      EXPECT_LT(format.StoredBytes(48, 640), 48 * one);
    }
    EXPECT_FALSE(format.element.empty());
  }
}

TEST_P(QuantMethodTest, TilesHoldTheValuesOfTheCodes) {
  for (const auto& [rows, cols] :
       {std::pair{1, 1}, {15, 63}, {17, 65}, {33, 320}, {17, 512}}) {
    const MatrixRows matrix = NormalRows(rows, cols, 7);
    const auto codes = spec().Encode(matrix);
    ASSERT_TRUE(codes.ok()) << codes.status();
    CodeBand band;
    ASSERT_TRUE((*codes)->Read(0, rows, band).ok());
    std::vector<float> wanted(rows * cols), found(rows * cols);
    Decode((*codes)->format(), band, cols, wanted.data());
    const PackedWeight packed = *Pack(**codes);
    packed.Dequantize(0, rows, found.data());
    const CodeFormat& format = (*codes)->format();
    const double rounding = RoundingOfDecoded(format, packed);
    if (rounding > 0) {
      for (int64_t i = 0; i < rows * cols; ++i) {
        ASSERT_NEAR(wanted[i], found[i], rounding * std::abs(wanted[i]));
      }
      continue;
    }
    const float level_step = packed.runs().factor;
    if (level_step != 1) {  // of a table that tiles round
      for (int64_t i = 0; i < rows * cols; ++i) {
        const float scale = RunAt(format, band, i / cols, i % cols, cols).scale;
        ASSERT_NEAR(wanted[i], found[i],
                    std::abs(scale) * level_step * (0.5 + 1e-4));
      }
      continue;
    }
    if (format.is_float() || format.CommonZero().has_value()) {
      EXPECT_EQ(wanted, found) << rows << " by " << cols;
      continue;
    }
    // What packers say of zeros that are of a run (packers/int_runs.cc).
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t col = 0; col < cols; ++col) {
        const CodeRun run = RunAt(format, band, row, col, cols);
        ASSERT_NEAR(wanted[row * cols + col], found[row * cols + col],
                    0x1p-22 * (std::abs(run.scale) *
                                   ((1 << format.bits) + std::abs(run.zero)) +
                               std::abs(run.minimum)));
      }
    }
  }
}

TEST_P(QuantMethodTest, CodesDoNotDependOnTheRowsReadTogether) {
  for (const int64_t cols : {200, 256}) {
    const MatrixRows matrix = NormalRows(37, cols, 8);
    const auto codes = spec().Encode(matrix);
    ASSERT_TRUE(codes.ok()) << codes.status();
    CodeBand band;
    ASSERT_TRUE((*codes)->Read(0, 37, band).ok());
    std::vector<float> all(37 * cols);
    Decode((*codes)->format(), band, cols, all.data());
    for (const auto& [first, count] :
         {std::pair{0, 1}, {0, 16}, {16, 16}, {30, 7}, {36, 1}, {5, 20}}) {
      ASSERT_TRUE((*codes)->Read(first, count, band).ok());
      std::vector<float> some(count * cols);
      Decode((*codes)->format(), band, cols, some.data());
      EXPECT_TRUE(
          std::equal(some.begin(), some.end(), all.begin() + first * cols))
          << first << ", " << count;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllSpecs, QuantMethodTest,
                         testing::ValuesIn(kErrorBounds), [](const auto& info) {
                           return TestName(info.param.spec);
                         });

TEST(ErrorBoundsTest, HaveEveryMethodWithItsDefaults) {
  for (const QuantMethod* method : AllMethods()) {
    EXPECT_TRUE(std::any_of(
        std::begin(kErrorBounds), std::end(kErrorBounds),
        [&](const ErrorBound& row) { return row.spec == method->name(); }))
        << method->name() << " has no row in error_bounds.h";
  }
}

TEST(Float16Test, RefusesWhatBecomesInfiniteAndNamesTheAlternative) {
  const auto spec = ParseMethodSpec("float16");
  std::vector<float> values = {1, 2, 65519, 65520};
  const auto packed =
      spec->method->Quantize(MatrixRows(2, 2, values), spec->params);
  EXPECT_EQ(absl::StatusCode::kInvalidArgument, packed.status().code());
  EXPECT_THAT(std::string(packed.status().message()),
              AllOf(HasSubstr("'layers.3.test.weight', row 1, column 1"),
                    HasSubstr("65520"), HasSubstr("bfloat16")));
  values[3] = -65519;
  EXPECT_TRUE(
      spec->method->Quantize(MatrixRows(2, 2, values), spec->params).ok());
}

}  // namespace
}  // namespace ounce::quant
