// Held against the package hqq (tools/make_hqq_goldens.py).
#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "quant/codes.h"
#include "quant/error_stats.h"
#include "quant/registry.h"
#include "tests/quant/golden_file.h"
#include "tests/quant/held_codes.h"
#include "tests/quant/matrix_rows.h"

namespace ounce::quant {
namespace {

TEST(HqqTest, CodesScalesAndZerosAreThoseOfThePackage) {
  const MatrixRows weight(24, 320, ReadGolden<float>("hqq/weights.f32"));
  for (const std::string bits : {"8", "4", "3", "2", "1"}) {
    const auto codes = *ParseMethodSpec("hqq:bits=" + bits)->Encode(weight);
    CodeBand band;
    ASSERT_TRUE(codes->Read(0, 24, band).ok());
    const uint8_t* elements = band.unsigned_row(0, 320);
    EXPECT_EQ(ReadGolden<uint8_t>("hqq/" + bits + ".codes"),
              std::vector<uint8_t>(elements, elements + 24 * 320))
        << bits;
    const auto scales = ReadGolden<float>("hqq/" + bits + ".scales");
    const auto zeros = ReadGolden<float>("hqq/" + bits + ".zeros");
    ASSERT_EQ(scales.size(), band.fields[0].values.size());
    ASSERT_EQ(zeros.size(), band.fields[1].values.size());
    for (size_t i = 0; i < scales.size(); ++i) {
      EXPECT_EQ(RoundTo(DType::kF16, scales[i]), band.fields[0].values[i]);
      // The mean of 64 numbers is added up in another order.
      EXPECT_NEAR(zeros[i], band.fields[1].values[i],
                  std::abs(zeros[i]) * 0x1p-10f)
          << bits << ", " << i;
    }
  }
}

TEST(HqqTest, ErrsLessThanTheZeroPointOfTheRange) {
  // In the mean magnitude that it makes small.
  const MatrixRows weight = NormalRows(48, 640, 3);
  const auto mean_error = [&](const std::string& spec) {
    const std::vector<float> values =
        ValuesOf(**ParseMethodSpec(spec)->Encode(weight));
    double sum = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      sum += std::abs(values[i] - weight.values()[i]);
    }
    return sum;
  };
  for (const std::string bits : {"4", "3", "2"}) {
    EXPECT_LT(mean_error("hqq:bits=" + bits),
              mean_error("linear:bits=" + bits +
                         ",mode=asymmetric,granularity=group"))
        << bits;
  }
}

TEST(HqqTest, GroupsFarFromZeroKeepAZeroThatFits) {
  std::vector<float> values = NormalValues(128, 4);
  for (int i = 64; i < 128; ++i) values[i] = 5000 + 0.01f * values[i];
  const std::vector<float> found = ValuesOf(
      **ParseMethodSpec("hqq:bits=8")->Encode(MatrixRows(1, 128, values)));
  for (int i = 64; i < 128; ++i) {
    EXPECT_NEAR(found[i], values[i], 5000 * 0x1p-10) << i;
  }
}

TEST(HqqTest, RefusesRangesWithoutAScaleInFloat16) {
  std::vector<float> values(80);
  values[70] = 1e30f;
  CodeBand band;
  const MatrixRows weight(1, 80, values);
  const auto codes = *ParseMethodSpec("hqq")->Encode(weight);
  const absl::Status status = codes->Read(0, 1, band);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              testing::AllOf(testing::HasSubstr("'layers.3.test.weight'"),
                             testing::HasSubstr("range is too large")));
}

TEST(HqqTest, BytesAreCodesAndTwoHalvesForEachGroup) {
  EXPECT_EQ(ParseMethodSpec("hqq:bits=3")
                ->Format(4, 128, DType::kF32)
                ->StoredBytes(4, 128),
            4 * (128 * 3 / 8 + 2 * 4));
}

}  // namespace
}  // namespace ounce::quant
