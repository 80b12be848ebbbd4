// Held against bitsandbytes itself (tools/make_bnb4_goldens.py).
#include <cmath>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "quant/codes.h"
#include "quant/registry.h"
#include "tests/quant/golden_file.h"
#include "tests/quant/held_codes.h"
#include "tests/quant/matrix_rows.h"

namespace ounce::quant {
namespace {

constexpr int64_t kRows = 20, kCols = 577;

MatrixRows Weights() {
  return MatrixRows(kRows, kCols, ReadGoldenBFloat16("bnb4/weights.bf16"),
                    DType::kBF16);
}

CodeBand BandOf(const std::string& spec, const MatrixRows& weight) {
  const auto codes = *ParseMethodSpec(spec)->Encode(weight);
  CodeBand band;
  EXPECT_TRUE(codes->Read(0, weight.rows(), band).ok());
  return band;
}

std::vector<uint8_t> ElementsOf(const CodeBand& band) {
  const uint8_t* first = band.unsigned_row(0, 0);
  return {first, first + band.elements.size()};
}

TEST(Bnb4BitTest, CodesAndScalesAreThoseOfBitsandbytes) {
  const MatrixRows weight = Weights();
  for (const auto& [spec, golden] : {std::pair{"bnb-nf4", "nf4_64"},
                                     {"bnb-nf4:block=4096", "nf4_4096"},
                                     {"bnb-fp4", "fp4_64"},
                                     {"bnb-fp4:block=512", "fp4_512"}}) {
    const std::string name = std::string("bnb4/") + golden;
    const CodeBand band = BandOf(spec, weight);
    EXPECT_EQ(ReadGolden<uint8_t>(name + ".codes"), ElementsOf(band)) << spec;
    EXPECT_EQ(ReadGolden<float>(name + ".absmax"), band.fields[0].values)
        << spec;
  }
}

TEST(Bnb4BitTest, ScalesOfScalesAreThoseOfBitsandbytes) {
  const CodeBand band = BandOf("bnb-nf4:double_quant=true", Weights());
  EXPECT_EQ(ReadGolden<uint8_t>("bnb4/nf4_64.codes"), ElementsOf(band));
  std::vector<float> indexes;
  for (const uint8_t index :
       ReadGolden<uint8_t>("bnb4/nf4_64_double.indexes")) {
    indexes.push_back(index);
  }
  EXPECT_EQ(indexes, band.fields[0].values);
  const std::vector<float> nested =
      ReadGolden<float>("bnb4/nf4_64_double.nested");
  EXPECT_EQ(band.fields[1].values, std::vector<float>{nested[0]});
  EXPECT_EQ(band.fields[2].values, std::vector<float>{nested[1]});
}

TEST(Bnb4BitTest, TheMapIsTheirsToTheLastDigits) {
  // Their points come from a vector of so many lanes as the CPU has, and are
  // rounded accordingly.
  const std::vector<float> wanted = ReadGolden<float>("bnb4/map.f32");
  const absl::Span<const float> found =
      ParseMethodSpec("bnb-nf4:double_quant=true")
          ->Format(1, 1, DType::kF32)
          ->rule.scale.map;
  ASSERT_EQ(wanted.size(), 256u);
  ASSERT_EQ(found.size(), 256u);
  for (size_t i = 0; i < 256; ++i) {
    EXPECT_NEAR(wanted[i], found[i], 0x1p-22 * std::abs(wanted[i])) << i;
  }
}

TEST(Bnb4BitTest, EachLevelStaysAndThresholdsBelongToTheLowerOne) {
  for (const std::string name : {"bnb-nf4", "bnb-fp4"}) {
    const CodeFormat format =
        *ParseMethodSpec(name)->Format(1, 16, DType::kF32);
    const std::vector<float> levels(format.tables.begin(), format.tables.end());
    const MatrixRows weight(1, 16, levels);
    const auto codes = *ParseMethodSpec(name)->Encode(weight);
    EXPECT_EQ(levels, ValuesOf(*codes)) << name;
  }
  const auto codes = [](const std::string& name, float value) {
    return ElementsOf(BandOf(name, MatrixRows(1, 2, {1, value})))[1];
  };
  EXPECT_EQ(codes("bnb-nf4", 0.03979014977812767f), 7);
  EXPECT_EQ(codes("bnb-nf4", 0.0397901535f), 8);
  EXPECT_EQ(codes("bnb-nf4", -0.6106329262256622f), 1);
  EXPECT_EQ(codes("bnb-nf4", -0.6106328f), 2);
  EXPECT_EQ(codes("bnb-fp4", 0.0859375f), 1);
  EXPECT_EQ(codes("bnb-fp4", 0.0859376f), 6);
  EXPECT_EQ(codes("bnb-fp4", -0.0859375f), 9);
  EXPECT_EQ(codes("bnb-fp4", -0.8333334f), 11);
  EXPECT_EQ(codes("bnb-fp4", -1e-9f), 8);
}

TEST(Bnb4BitTest, BytesAreHalfAByteAWeightAndTheScalesAndMaps) {
  const auto bytes = [](std::string_view spec) {
    return ParseMethodSpec(spec)
        ->Format(576, 1536, DType::kBF16)
        ->StoredBytes(576, 1536);
  };
  constexpr int64_t kWeights = 576 * 1536;
  // Files have the levels of codes, and of scales in 8 bits, in float32.
  constexpr int64_t kMap = 16 * 4, kNestedMap = 256 * 4;
  EXPECT_EQ(bytes("bnb-nf4"), kWeights / 2 + kWeights / 64 * 4 + kMap);
  EXPECT_EQ(bytes("bnb-fp4:block=4096"),
            kWeights / 2 + kWeights / 4096 * 4 + kMap);
  // The mean of all scales is in a text beside them.
  EXPECT_EQ(bytes("bnb-nf4:double_quant=true"), kWeights / 2 + kWeights / 64 +
                                                    kWeights / 64 / 256 * 4 +
                                                    kMap + kNestedMap);
}

TEST(Bnb4BitTest, RefusesBlocksThatBitsandbytesHasNot) {
  for (const std::string block : {"32", "96", "8192"}) {
    EXPECT_FALSE(ParseMethodSpec("bnb-nf4:block=" + block).ok());
  }
}

}  // namespace
}  // namespace ounce::quant
