// Held against torch's float8 types (tools/make_float8_goldens.py).
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "quant/codes.h"
#include "quant/registry.h"
#include "tests/quant/golden_file.h"
#include "tests/quant/held_codes.h"
#include "tests/quant/matrix_rows.h"

namespace ounce::quant {
namespace {

std::vector<uint8_t> ElementsOf(const std::string& spec,
                                const MatrixRows& weight, CodeBand* band) {
  const auto codes = *ParseMethodSpec(spec)->Encode(weight);
  EXPECT_TRUE(codes->Read(0, weight.rows(), *band).ok());
  const uint8_t* first = band->unsigned_row(0, 0);
  return {first, first + band->elements.size()};
}

TEST(Float8Test, CodesAndScalesAreThoseOfTorch) {
  const MatrixRows weight(130, 132, ReadGoldenBFloat16("float8/weights.bf16"));
  for (const auto& [format, granularity] :
       {std::pair{"e4m3", "channel"}, {"e4m3", "block"}, {"e5m2", "block"}}) {
    const std::string golden =
        std::string("float8/") + format + "_" + granularity;
    CodeBand band;
    const std::vector<uint8_t> elements = ElementsOf(
        std::string("float8:format=") + format + ",granularity=" + granularity,
        weight, &band);
    EXPECT_EQ(ReadGolden<uint8_t>(golden + ".codes"), elements) << golden;
    EXPECT_EQ(ReadGolden<float>(golden + ".scales"), band.fields[0].values)
        << golden;
  }
}

TEST(Float8Test, RoundsToNearestEvenAsTorchDoes) {
  for (const std::string format : {"e4m3", "e5m2"}) {
    // The largest is among them, so the scale is 1.
    const auto values = ReadGolden<float>("float8/" + format + ".ties");
    const MatrixRows weight(1, static_cast<int64_t>(values.size()), values);
    CodeBand band;
    const std::vector<uint8_t> elements =
        ElementsOf("float8:format=" + format, weight, &band);
    EXPECT_EQ(band.fields[0].values, std::vector<float>{1});
    EXPECT_EQ(ReadGolden<uint8_t>("float8/" + format + ".ties.codes"),
              elements);
  }
}

TEST(Float8Test, LevelsAreExact) {
  for (const auto& [format, largest] :
       {std::pair{"e4m3", 448.0f}, {"e5m2", 57344.0f}}) {
    const auto values =
        ReadGolden<float>(std::string("float8/") + format + ".ties");
    const std::string spec = std::string("float8:format=") + format;
    const MatrixRows weight(1, 64, {values.begin(), values.begin() + 64});
    std::vector<float> with_largest = weight.values();
    with_largest[0] = -largest;
    EXPECT_EQ(ValuesOf(**ParseMethodSpec(spec)->Encode(
                  MatrixRows(1, 64, with_largest))),
              with_largest);
  }
}

TEST(Float8Test, SubnormalWeightsHaveAScale) {
  const std::vector<float> values = {1e-40f, -3e-41f, 0};
  const std::vector<float> found =
      ValuesOf(**ParseMethodSpec("float8")->Encode(MatrixRows(1, 3, values)));
  for (int i = 0; i < 3; ++i) EXPECT_NEAR(found[i], values[i], 0x1p-136) << i;
}

}  // namespace
}  // namespace ounce::quant
