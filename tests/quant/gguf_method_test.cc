// GGUF's block types, held to ggml's own blocks (tools/make_gguf_goldens.py).
#include "quant/gguf_method.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/checkpoint/gguf_blocks.h"
#include "quant/dtype.h"
#include "quant/registry.h"
#include "tests/quant/every_isa.h"
#include "tests/quant/golden_file.h"
#include "tests/quant/held_codes.h"
#include "tests/quant/matrix_rows.h"
#include "tests/testing/status_matchers.h"

namespace ounce::quant {
namespace {

using ::ounce::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kCols = 256;

struct Type {
  std::string_view element;
  int block;
  int bytes;  // of a block
};

constexpr Type kTypes[] = {
    {"q4_0", 32, 18},   {"q4_1", 32, 20},   {"q5_0", 32, 22},
    {"q5_1", 32, 24},   {"q8_0", 32, 34},   {"q2_k", 256, 84},
    {"q3_k", 256, 110}, {"q4_k", 256, 144}, {"q5_k", 256, 176},
    {"q6_k", 256, 210}, {"iq4_nl", 32, 18}, {"iq4_xs", 256, 136},
    {"tq2_0", 256, 66},
};

class GgufMethodTest : public ::testing::TestWithParam<Type> {
 protected:
  std::string element() const { return std::string(GetParam().element); }
  MethodSpec spec() const { return *ParseMethodSpec("gguf-" + element()); }

  // All rows of the codes of a matrix of kCols.
  CodeBand Encoded(const MatrixRows& matrix) const {
    CodeBand band;
    EXPECT_OK((*spec().Encode(matrix))->Read(0, matrix.rows(), band));
    return band;
  }
  CodeFormat Format() const { return *spec().Format(1, kCols, DType::kF32); }
};

// What a file would hold of a band.
std::vector<uint8_t> Blocks(const CodeFormat& format, const CodeBand& band) {
  const model::GgufBlockType& type = *model::FindGgufBlockTypeOf(format);
  std::vector<uint8_t> bytes(band.rows * kCols / type.cols * type.bytes);
  uint8_t* block = bytes.data();
  for (int64_t row = band.first_row; row < band.first_row + band.rows; ++row) {
    for (int64_t col = 0; col < kCols; col += type.cols, block += type.bytes) {
      std::vector<const float*> fields;
      for (size_t i = 0; i < format.fields.size(); ++i) {
        fields.push_back(band.fields[i].values.data() +
                         (format.fields[i].reach.IndexOf(row, col, kCols) -
                          band.fields[i].first));
      }
      type.pack({band.unsigned_row(row, kCols) + col, fields.data()}, block);
    }
  }
  return bytes;
}

MatrixRows GoldenWeights() {
  const std::vector<float> values = ReadGolden<float>("gguf/weights.f32");
  return MatrixRows(static_cast<int64_t>(values.size()) / kCols, kCols, values);
}

TEST_P(GgufMethodTest, CodesAreTheBlocksThatGgmlMakes) {
  const std::vector<uint8_t> wanted =
      ReadGolden<uint8_t>("gguf/" + element() + ".blocks");
  const CodeBand band = Encoded(GoldenWeights());
  const std::vector<uint8_t> found = Blocks(Format(), band);
  ASSERT_EQ(wanted.size(), found.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    ASSERT_EQ(wanted[i], found[i]) << "block " << i / GetParam().bytes
                                   << ", byte " << i % GetParam().bytes;
  }
}

TEST_P(GgufMethodTest, CodesAreWorthWhatTheBlocksAre) {
  const std::vector<float> wanted =
      ReadGolden<float>("gguf/" + element() + ".f32");
  const CodeBand band = Encoded(GoldenWeights());
  std::vector<float> found(band.rows * kCols);
  Decode(Format(), band, kCols, found.data());
  found.resize(wanted.size());
  ExpectSameBits(wanted, found, element());
}

TEST_P(GgufMethodTest, TakesTheBytesOfItsBlocks) {
  EXPECT_EQ(Format().StoredBytes(3, 2 * kCols),
            3 * 2 * kCols / GetParam().block * GetParam().bytes);
}

TEST_P(GgufMethodTest, ZerosAndWhatIsTooSmallForScalesAreZeros) {
  std::vector<float> values(4 * kCols);
  for (int64_t i = 0; i < kCols; ++i) {
    values[kCols + i] = -0.0f;
    // Scales of these are zero in float16, and 1 / d is infinite.
    values[2 * kCols + i] = 1e-44f * static_cast<float>(i - 100);
    values[3 * kCols + i] = 1e-20f * static_cast<float>(i - 100);
  }
  const CodeBand band = Encoded(MatrixRows(4, kCols, values));
  std::vector<float> found(values.size());
  Decode(Format(), band, kCols, found.data());
  EXPECT_EQ(found, std::vector<float>(values.size()));
  for (const std::byte code : band.elements) {
    if (Format().kind != CodeFormat::Kind::kUnsigned) break;
    ASSERT_LT(static_cast<int>(code), 1 << Format().bits);
  }
}

TEST_P(GgufMethodTest, RefusesWhatNeedsAScalePastFloat16) {
  for (const float huge : {3e8f, 1e30f, 3e38f}) {
    std::vector<float> values = NormalValues(3 * kCols, 1);
    values[2 * kCols + 45] = huge / 2;
    values[2 * kCols + 40] = -huge;
    CodeBand band;
    EXPECT_THAT(
        (*spec().Encode(MatrixRows(3, kCols, values)))->Read(0, 3, band),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 AllOf(HasSubstr("'layers.3.test.weight', row 2, column 40"),
                       HasSubstr("too large for " + element()),
                       HasSubstr("bfloat16"))))
        << huge;
  }
}

TEST_P(GgufMethodTest, RefusesBlocksInWhichAllAreTooLarge) {
  for (const float huge : {1e12f, 1e20f, 3e38f}) {
    std::vector<float> values = NormalValues(kCols, 1);
    for (float& value : values) value = std::copysign(huge, value);
    CodeBand band;
    EXPECT_THAT(
        (*spec().Encode(MatrixRows(1, kCols, values)))->Read(0, 1, band),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 HasSubstr("too large for " + element())))
        << huge;
  }
}

INSTANTIATE_TEST_SUITE_P(AllTypes, GgufMethodTest, ::testing::ValuesIn(kTypes),
                         [](const auto& info) {
                           return std::string(info.param.element);
                         });

TEST(GgufFallbackTest, WidthsThatBlocksDoNotDivideTakeLlamaCppsOtherType) {
  struct Case {
    const char* method;
    const char* of_32;
  };
  for (const Case& c :
       {Case{"gguf-q2_k", "q4_0"}, Case{"gguf-q3_k", "q4_0"},
        Case{"gguf-q4_k", "q5_0"}, Case{"gguf-q5_k", "q5_1"},
        Case{"gguf-q6_k", "q8_0"}, Case{"gguf-iq4_xs", "iq4_nl"},
        Case{"gguf-tq2_0", "q4_0"}}) {
    const MethodSpec spec = *ParseMethodSpec(c.method);
    const std::string own = std::string(c.method).substr(5);
    EXPECT_EQ(spec.Format(4, 768, DType::kF32)->element, own);
    EXPECT_EQ(spec.Format(4, 768, DType::kF32)->note, "");
    EXPECT_EQ(spec.Format(4, 576, DType::kF32)->element, c.of_32);
    EXPECT_EQ(spec.Format(4, 576, DType::kF32)->note,
              std::string("stored as ") + c.of_32 + " instead of " + own +
                  ": 576 columns are not whole blocks of 256");
    EXPECT_EQ(spec.Format(4, 100, DType::kF32)->element, "float16");
    EXPECT_EQ(spec.Format(4, 100, DType::kF32)->note,
              "stored as float16 instead of " + own +
                  ": 100 columns are not whole blocks of 256");
    EXPECT_FALSE(spec.float_dtype().has_value());
    // The codes are that type's own.
    const MatrixRows matrix = NormalRows(3, 576, 1);
    const auto found = spec.Encode(matrix);
    const auto wanted =
        ParseMethodSpec(std::string("gguf-") + c.of_32)->Encode(matrix);
    EXPECT_EQ(ValuesOf(**found), ValuesOf(**wanted));
  }
  for (const char* method : {"gguf-q4_0", "gguf-q4_1", "gguf-q5_0", "gguf-q5_1",
                             "gguf-q8_0", "gguf-iq4_nl"}) {
    const MethodSpec spec = *ParseMethodSpec(method);
    EXPECT_EQ(spec.Format(4, 576, DType::kF32)->note, "");
    EXPECT_EQ(spec.Format(4, 100, DType::kF32)->element, "float16");
  }
}

TEST(GgufTq20Test, GivesBackWhatWasTrainedWithThreeValues) {
  std::vector<float> values;
  for (int64_t i = 0; i < 4 * kCols; ++i) {
    const float scale = static_cast<float>(i / kCols + 1) / 64;
    values.push_back(scale * static_cast<float>(i * 7 % 3 - 1));
  }
  const MatrixRows matrix(4, kCols, values);
  EXPECT_EQ(ValuesOf(**ParseMethodSpec("gguf-tq2_0")->Encode(matrix)), values);
}

// Groups that fill vectors in part, of values that differ in magnitude.
TEST(GgufSearchesTest, OfAllInstructionSetsAgreeToTheBit) {
  constexpr AffineTrials kTrials = {.most = 15, .first = -1, .count = 21};
  for (const int64_t groups : {1, 7, 16, 45}) {
    std::vector<float> x = NormalValues(groups * 32, 9);
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] *= std::pow(10.0f, static_cast<float>(i * 37 % 11) - 5);
      if (i % 13 == 0) x[i] = 0;
    }
    struct Found {
      std::vector<float> numbers;
      std::vector<uint8_t> codes;
    };
    const auto search = [&](Isa isa) {
      const GgufSearches& searches = GgufSearchesFor(isa);
      Found found;
      std::vector<float> scales(groups), minima(groups);
      std::vector<uint8_t> codes(groups * 32);
      const auto keep = [&] {
        found.numbers.insert(found.numbers.end(), scales.begin(), scales.end());
        found.numbers.insert(found.numbers.end(), minima.begin(), minima.end());
        found.codes.insert(found.codes.end(), codes.begin(), codes.end());
      };
      searches.affine_32(kTrials, x.data(), groups, scales.data(),
                         minima.data(), codes.data());
      keep();
      searches.affine_16(kTrials, x.data(), groups, scales.data(),
                         minima.data(), codes.data());
      keep();
      searches.symmetric_16(x.data(), groups, scales.data(), codes.data());
      keep();
      searches.descent_16(x.data(), groups, scales.data(), codes.data());
      keep();
      searches.table_32(x.data(), groups, scales.data());
      keep();
      return found;
    };
    const Found wanted = search(Isa::kPortable);
    for (const Isa isa : Isas()) {
      const Found found = search(isa);
      ExpectSameBits(wanted.numbers, found.numbers, std::string(IsaName(isa)));
      EXPECT_EQ(wanted.codes, found.codes) << IsaName(isa);
    }
  }
}

// GPT-2's 48 linear layers in one type, the rest in 16 bits: the rows of a
// published table.
TEST(GgufStoredBytesTest, OfGpt2AreTheKnownFootprints) {
  struct Case {
    const char* method;
    int64_t bytes;
  };
  constexpr int64_t kLayers = 12, kWidth = 768;
  constexpr int64_t kOthers = 39'505'152 * 2;
  for (const Case& c :
       {Case{"gguf-q8_0", 169'253'376}, Case{"gguf-q6_k", 148'683'264},
        Case{"gguf-q5_k", 137'402'880}, Case{"gguf-q5_0", 137'402'880},
        Case{"gguf-q4_k", 126'786'048}, Case{"gguf-q4_0", 126'786'048},
        Case{"gguf-iq4_nl", 126'786'048}, Case{"gguf-q3_k", 115'505'664},
        Case{"gguf-q2_k", 106'879'488}, Case{"gguf-tq2_0", 100'907'520}}) {
    const MethodSpec spec = *ParseMethodSpec(c.method);
    const auto stored = [&](int64_t rows, int64_t cols) {
      return spec.Format(rows, cols, DType::kF16)->StoredBytes(rows, cols);
    };
    const int64_t layer = stored(3 * kWidth, kWidth) + stored(kWidth, kWidth) +
                          stored(4 * kWidth, kWidth) +
                          stored(kWidth, 4 * kWidth);
    EXPECT_EQ(kLayers * layer + kOthers, c.bytes) << c.method;
  }
}

}  // namespace
}  // namespace ounce::quant
