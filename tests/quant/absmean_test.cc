#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "quant/codes.h"
#include "quant/registry.h"
#include "tests/quant/held_codes.h"
#include "tests/quant/matrix_rows.h"

namespace ounce::quant {
namespace {

double MeanMagnitude(const float* values, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += std::abs(values[i]);
  return sum / static_cast<double>(count);
}

std::vector<float> Found(const std::string& spec, const MatrixRows& weight) {
  return ValuesOf(**ParseMethodSpec(spec)->Encode(weight));
}

float Half(double value) {
  return RoundTo(DType::kF16, static_cast<float>(value));
}

TEST(AbsmeanTest, TernaryIsBitNetsFormulaByTheGroup) {
  const MatrixRows weight = NormalRows(3, 600, 1);
  const std::vector<float> found = Found("ternary", weight);
  for (int64_t row = 0; row < 3; ++row) {
    for (int64_t col = 0; col < 600; col += 256) {
      const int64_t count = std::min<int64_t>(256, 600 - col);
      const float* values = weight.values().data() + row * 600 + col;
      const double mean = MeanMagnitude(values, count);
      for (int64_t i = 0; i < count; ++i) {
        const double trit =
            std::clamp(std::nearbyint(values[i] / mean), -1.0, 1.0);
        EXPECT_EQ(found[row * 600 + col + i],
                  Half(mean) * static_cast<float>(trit));
      }
    }
  }
}

TEST(AbsmeanTest, AMeanMayBeOfTheTensorOrARow) {
  const MatrixRows weight = NormalRows(5, 70, 2);
  const float of_all = Half(MeanMagnitude(weight.values().data(), 5 * 70));
  for (const float value : Found("ternary:granularity=tensor", weight)) {
    EXPECT_TRUE(value == 0 || std::abs(value) == of_all);
  }
  for (const std::string spec :
       {"binary:granularity=channel", "binary:group=-1"}) {
    const std::vector<float> found = Found(spec, weight);
    for (int64_t i = 0; i < 5 * 70; ++i) {
      const float mean =
          Half(MeanMagnitude(weight.values().data() + i / 70 * 70, 70));
      EXPECT_EQ(found[i], weight.values()[i] < 0 ? -mean : mean) << spec;
    }
  }
}

TEST(AbsmeanTest, ZeroIsPositiveInBinaryAndItselfInTernary) {
  const MatrixRows weight(1, 4, {0, -0.0f, 1, -1});
  EXPECT_EQ(Found("binary", weight),
            (std::vector<float>{0.5f, 0.5f, 0.5f, -0.5f}));
  EXPECT_EQ(Found("ternary", weight), (std::vector<float>{0, 0, 0.5f, -0.5f}));
}

TEST(AbsmeanTest, BytesAreThoseOfTheContainers) {
  const auto bytes = [](std::string_view spec) {
    return ParseMethodSpec(spec)
        ->Format(3, 1024, DType::kF32)
        ->StoredBytes(3, 1024);
  };
  EXPECT_EQ(bytes("ternary"), 3 * 4 * 66);  // TQ2_0
  EXPECT_EQ(bytes("binary"), 3 * 8 * 18);   // Q1_0
}

TEST(AbsmeanTest, RefusesMeansThatDoNotFitFloat16) {
  const MatrixRows weight(1, 2, {1e6f, 1e6f});
  for (const std::string spec : {"ternary", "binary"}) {
    CodeBand band;
    const auto codes = *ParseMethodSpec(spec)->Encode(weight);
    const absl::Status status = codes->Read(0, 1, band);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()),
                testing::HasSubstr("does not fit a float16 scale"));
  }
}

TEST(AbsmeanTest, RefusesAGroupBesideAnotherGranularity) {
  const auto format = ParseMethodSpec("ternary:granularity=tensor,group=64")
                          ->Format(1, 64, DType::kF32);
  EXPECT_EQ(format.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(format.status().message()),
              testing::HasSubstr("'group' of method 'ternary'"));
}

}  // namespace
}  // namespace ounce::quant
