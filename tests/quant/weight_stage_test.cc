// Stages, and specs that have some.
#include "quant/weight_stage.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "quant/error_stats.h"
#include "quant/registry.h"
#include "tests/quant/matrix_rows.h"
#include "tests/testing/status_matchers.h"

namespace ounce::quant {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<StageSpec> Stages(const std::string& text) {
  const auto spec = ParseMethodSpec(text + "+float32");
  EXPECT_OK(spec.status());
  return spec->stages;
}

std::vector<float> Behind(const std::string& stages, const FloatRows& weight) {
  const auto staged = ApplyStages(Stages(stages), weight);
  EXPECT_OK(staged.status());
  std::vector<float> values(weight.rows() * weight.cols());
  EXPECT_OK((*staged)->Read(0, weight.rows(), values.data()));
  return values;
}

int64_t Zeros(const std::vector<float>& values) {
  return std::count(values.begin(), values.end(), 0.0f);
}

// Whole numbers up to 9 and their negatives, so that there are many ties, and
// no zeros.
MatrixRows Whole(int64_t rows, int64_t cols, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(rows * cols);
  for (float& value : values) {
    value = static_cast<float>(random() % 9 + 1) * (random() % 2 ? 1.f : -1.f);
  }
  return MatrixRows(rows, cols, std::move(values));
}

// The definition: sorted by magnitude, then by place.
std::vector<float> SmallestZeroed(std::vector<float> values, int64_t k) {
  std::vector<size_t> order(values.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::abs(values[a]) < std::abs(values[b]);
  });
  for (int64_t i = 0; i < k; ++i) values[order[i]] = 0;
  return values;
}

TEST(WeightStageTest, ZeroesWhatTorchsPruningZeroes) {
  const auto golden =
      nlohmann::json::parse(std::ifstream("tests/golden/pruning/masks.json"));
  const int64_t rows = golden["rows"], cols = golden["cols"];
  const MatrixRows matrix(rows, cols,
                          golden["weights"].get<std::vector<float>>());
  EXPECT_EQ(golden["masks"].size(), 11u);
  for (const auto& [stage, mask] : golden["masks"].items()) {
    const auto kept = mask.get<std::string>();
    std::vector<float> wanted = matrix.values();
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (kept[i] == '0') wanted[i] = 0;
    }
    EXPECT_EQ(Behind(stage, matrix), wanted) << stage;
  }
}

TEST(WeightStageTest, ZeroesExactlySoManyAndOfEqualOnesTheFirst) {
  for (const auto& [rows, cols] :
       {std::pair{1, 1}, {1, 40}, {40, 1}, {7, 33}, {64, 100}}) {
    const MatrixRows matrix = Whole(rows, cols, 5);
    for (const double sparsity : {0.001, 0.1, 0.333, 0.5, 0.75, 0.999}) {
      const std::string stage = StrCat("prune-magnitude:sparsity=", sparsity);
      const std::vector<float> together = Behind(stage, matrix);
      const int64_t k =
          std::llrint(sparsity * static_cast<double>(rows * cols));
      EXPECT_EQ(Zeros(together), k) << stage;
      EXPECT_EQ(together, SmallestZeroed(matrix.values(), k)) << stage;
      const std::vector<float> each = Behind(stage + ",per=row", matrix);
      std::vector<float> wanted;
      for (int64_t row = 0; row < rows; ++row) {
        const auto begin = matrix.values().begin() + row * cols;
        const std::vector<float> pruned =
            SmallestZeroed({begin, begin + cols},
                           std::llrint(sparsity * static_cast<double>(cols)));
        wanted.insert(wanted.end(), pruned.begin(), pruned.end());
      }
      EXPECT_EQ(each, wanted) << stage;
    }
  }
  // Nothing but ties.
  const MatrixRows equal(3, 4, std::vector<float>(12, -2));
  EXPECT_THAT(Behind("prune-magnitude:sparsity=0.5", equal),
              ElementsAre(0, 0, 0, 0, 0, 0, -2, -2, -2, -2, -2, -2));
  EXPECT_THAT(Behind("prune-magnitude:sparsity=0.5,per=row", equal),
              ElementsAre(0, 0, -2, -2, 0, 0, -2, -2, 0, 0, -2, -2));
}

TEST(WeightStageTest, ZerosSubnormalsAndSignsAreMagnitudesToo) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  const MatrixRows matrix(1, 8, {0, -0.0f, tiny, -tiny, 2 * tiny, 1, -3, 2});
  EXPECT_THAT(Behind("prune-magnitude:sparsity=0.375", matrix),
              ElementsAre(0, 0, 0, -tiny, 2 * tiny, 1, -3, 2));
  EXPECT_THAT(Behind("prune-magnitude:sparsity=0.75", matrix),
              ElementsAre(0, 0, 0, 0, 0, 0, -3, 2));
}

TEST(WeightStageTest, TwoOfFourHaveTheLargestMagnitudes) {
  const MatrixRows matrix(2, 11, {1, -4, 3,  2, /**/ 5, 5, 5, 5, /**/ 1, 2, -3,
                                  0, 0,  -1, 0, /**/ 4, 3, 2, 1, /**/ 9, 7, 8});
  EXPECT_THAT(Behind("prune-24", matrix),
              ElementsAre(0, -4, 3, 0, /**/ 0, 0, 5, 5, /**/ 0, 2, -3,  //
                          0, 0, -1, 0, /**/ 4, 3, 0, 0, /**/ 9, 0, 8));
  // Filled up with zeros these have two of four at most already.
  EXPECT_THAT(Behind("prune-24", MatrixRows(2, 2, {1, 2, 3, 4})),
              ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(Behind("prune-24", MatrixRows(2, 1, {1, 2})), ElementsAre(1, 2));
}

TEST(WeightStageTest, NaNAndInfinityAreRefusedAtTheirPlace) {
  std::vector<float> values(8, 1);
  values[6] = std::numeric_limits<float>::quiet_NaN();
  values[7] = -HUGE_VALF;
  const MatrixRows matrix(2, 4, values);
  for (const char* stage :
       {"prune-24", "prune-magnitude", "prune-magnitude:per=row"}) {
    const auto spec = *ParseMethodSpec(StrCat(stage, "+linear"));
    const auto codes = spec.Encode(matrix);
    CodeBand band;
    const absl::Status status =
        codes.ok() ? (*codes)->Read(0, 2, band) : codes.status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                                 HasSubstr("'layers.3.test.weight', row 1, "
                                           "column 2: nan is not a finite "
                                           "number")))
        << stage;
  }
}

// Of a matrix that is made as it is read; tells what is read at once.
class CountedRows final : public FloatRows {
 public:
  const std::string& name() const override { return name_; }
  int64_t rows() const override { return 3000; }
  int64_t cols() const override { return 1000; }
  DType dtype() const override { return DType::kF32; }
  absl::Status Read(int64_t first, int64_t count, float* out) const override {
    most_ = std::max(most_, count * cols());
    read_ += count * cols();
    for (int64_t i = 0; i < count * cols(); ++i) {
      const uint64_t place = first * cols() + i;
      out[i] = static_cast<float>(place * 7919 % 1000);
    }
    return absl::OkStatus();
  }
  int64_t most() const { return most_; }
  int64_t read() const { return read_; }

 private:
  const std::string name_ = "counted";
  mutable int64_t most_ = 0;
  mutable int64_t read_ = 0;
};

TEST(WeightStageTest, NeverHoldsAMatrixAndReadsItThreeTimesBeforeAtMost) {
  const CountedRows matrix;
  const auto staged =
      ApplyStages(Stages("prune-magnitude:sparsity=0.30001"), matrix);
  ASSERT_OK(staged.status());
  EXPECT_LE(matrix.most(), (4 << 20) / 4);
  EXPECT_LE(matrix.read(), 3 * matrix.rows() * matrix.cols());
  int64_t zeros = 0;
  std::vector<float> row(matrix.cols());
  for (int64_t i = 0; i < matrix.rows(); ++i) {
    ASSERT_OK((*staged)->Read(i, 1, row.data()));
    zeros += Zeros(row);
  }
  EXPECT_EQ(zeros, 900'030);
}

TEST(WeightStageTest, ValuesDoNotDependOnTheRowsReadTogether) {
  const MatrixRows matrix = Whole(37, 50, 6);
  for (const char* stage : {"prune-24", "prune-magnitude:sparsity=0.4",
                            "prune-magnitude:sparsity=0.4,per=row",
                            "prune-24+prune-magnitude:sparsity=0.8"}) {
    const std::vector<float> all = Behind(stage, matrix);
    const auto staged = *ApplyStages(Stages(stage), matrix);
    for (const auto& [first, count] :
         {std::pair{36, 1}, {0, 16}, {16, 21}, {5, 20}, {0, 1}}) {
      std::vector<float> some(count * 50);
      ASSERT_OK(staged->Read(first, count, some.data()));
      EXPECT_TRUE(std::equal(some.begin(), some.end(), &all[first * 50]))
          << stage << " " << first;
    }
    EXPECT_EQ(staged->name(), matrix.name());
    EXPECT_EQ(staged->Place(1, 2), matrix.Place(1, 2));
  }
}

TEST(WeightStageTest, AMethodEncodesWhatStagesMakeOfTheFloats) {
  const MatrixRows matrix = NormalRows(20, 64, 3);
  for (const std::string method :
       {"float32", "linear", "linear:bits=4,granularity=group"}) {
    const std::string stages = "prune-24+prune-magnitude:sparsity=0.7,per=row";
    const MatrixRows pruned(20, 64, Behind(stages, matrix));
    const auto spec = *ParseMethodSpec(stages + "+" + method);
    const auto codes = *spec.Encode(matrix);
    const auto wanted = *ParseMethodSpec(method)->Encode(pruned);
    CodeBand band, wanted_band;
    ASSERT_OK(codes->Read(3, 17, band));
    ASSERT_OK(wanted->Read(3, 17, wanted_band));
    EXPECT_EQ(band.elements, wanted_band.elements);
    EXPECT_EQ(codes->format().StoredBytes(20, 64),
              wanted->format().StoredBytes(20, 64));
    // Against the floats before the stages.
    const ErrorStats stats = *MeasureError(matrix, *codes);
    EXPECT_GT(stats.relative_l2, 0.1) << method;
    EXPECT_GE(stats.zeros, 45.0 / 64) << method;
    EXPECT_FALSE(spec.lossless_from(DType::kF32));
  }
  EXPECT_EQ(
      MeasureError(matrix, **ParseMethodSpec("float32")->Encode(matrix))->zeros,
      0);
}

TEST(StageSpecTest, TextsOfSpecsComeBack) {
  const std::pair<const char*, const char*> kTexts[] = {
      {"prune-24+linear", "prune-24+linear"},
      {"prune-magnitude+bfloat16", "prune-magnitude+bfloat16"},
      {"prune-magnitude:sparsity=0.50,per=tensor+linear:bits=8",
       "prune-magnitude+linear"},
      {"prune-magnitude:per=row,sparsity=3e-1+prune-24+linear:bits=4",
       "prune-magnitude:sparsity=0.3,per=row+prune-24+linear:bits=4"},
  };
  for (const auto& [given, canonical] : kTexts) {
    const auto spec = ParseMethodSpec(given);
    ASSERT_OK(spec.status());
    EXPECT_EQ(spec->ToString(), canonical);
    EXPECT_EQ(ParseMethodSpec(canonical)->ToString(), canonical);
  }
  EXPECT_EQ(ParseMethodSpec("prune-24+bfloat16")->float_dtype(), DType::kBF16);
}

TEST(StageSpecTest, SaysWhatIsWrong) {
  const std::pair<std::string, const char*> kCases[] = {
      {"prune+linear",
       "unknown stage 'prune'; known stages are prune-magnitude, prune-24"},
      {"linear+linear",
       "method 'linear' must be the last part of a spec; "
       "before it may stand stages: known stages are"},
      {"linear+prune-24", "method 'linear' must be the last part"},
      {"prune-24",
       "stage 'prune-24' needs a method behind it, as in "
       "prune-24+bfloat16; known methods are"},
      {"prune-24+", "unknown quantization method 'prune-24+'"},
      {"+linear", "unknown stage ''"},
      {"prune-24++linear", "unknown stage 'prune-24+'"},
      {"prune-24+keep", "unknown quantization method 'keep'"},
      {"prune-24:sparsity=0.5+linear",
       "unknown parameter 'sparsity'; stage 'prune-24' takes no parameters"},
      {"prune-magnitude:sparsity=0+linear",
       "parameter 'sparsity' of stage 'prune-magnitude' must be a number from "
       "0.001 to 0.999, is '0'"},
      {"prune-magnitude:sparsity=1+linear", "from 0.001 to 0.999, is '1'"},
      {"prune-magnitude:sparsity=nan+linear", "is 'nan'"},
      {"prune-magnitude:per=col+linear", "must be one of tensor, row, is"},
      {"prune-magnitude:untie=true+linear", "unknown parameter 'untie'"},
  };
  for (const auto& [text, words] : kCases) {
    EXPECT_THAT(ParseMethodSpec(text).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(words)))
        << text;
  }
  std::string many;
  for (size_t i = 0; i < kMaxStages; ++i) many += "prune-24+";
  EXPECT_OK(ParseMethodSpec(many + "linear").status());
  EXPECT_THAT(ParseMethodSpec(many + many + "linear").status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "at most 8 stages may stand before a method, there are "
                       "16"));
}

TEST(StageSpecTest, EveryStageHasANameOfItsOwnAndDefaultsThatFit) {
  EXPECT_FALSE(AllStages().empty());
  for (const WeightStage* stage : AllStages()) {
    EXPECT_FALSE(stage->summary().empty());
    for (const QuantMethod* method : AllMethods()) {
      EXPECT_NE(stage->name(), method->name());
    }
    std::string text(stage->name());
    for (const ParamSpec& param : stage->params()) {
      EXPECT_FALSE(param.help.empty());
      StrAppend(&text, text.find(':') == std::string::npos ? ":" : ",",
                param.name, "=", param.default_value);
    }
    const auto spec = ParseMethodSpec(text + "+float32");
    ASSERT_OK(spec.status());
    EXPECT_EQ(spec->ToString(), StrCat(stage->name(), "+float32"));
  }
}

}  // namespace
}  // namespace ounce::quant
