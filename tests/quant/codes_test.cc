// What codes must be able to say: six formats that have little in common, each
// with a slow product of its own.
#include "quant/codes.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "quant/convolution.h"
#include "quant/dtype.h"
#include "quant/pack.h"
#include "quant/registry.h"
#include "tests/quant/held_codes.h"
#include "tests/quant/matrix_rows.h"

namespace ounce::quant {
namespace {

// A float32 product is that close to the float64 one of the same values.
void ExpectProduct(const std::vector<double>& wanted,
                   const std::vector<float>& found) {
  ASSERT_EQ(wanted.size(), found.size());
  double largest = 0;
  for (const double value : wanted) {
    largest = std::max(largest, std::abs(value));
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    ASSERT_NEAR(wanted[i], found[i], 1e-4 * largest) << i;
  }
}

TEST(ReachTest, CountsAndFindsTheValuesOfAField) {
  EXPECT_EQ(Reach::Matrix().Count(5, 7), 1);
  EXPECT_EQ(Reach::Row().Count(5, 7), 5);
  EXPECT_EQ(Reach::Columns(3).Count(5, 7), 15);
  EXPECT_EQ(Reach::Flat(4).Count(5, 7), 9);
  const Reach blocks = {.rows = 2, .cols = 4};
  EXPECT_EQ(blocks.Count(5, 7), 6);
  EXPECT_EQ(Reach::Matrix().IndexOf(4, 6, 7), 0);
  EXPECT_EQ(Reach::Row().IndexOf(4, 6, 7), 4);
  EXPECT_EQ(Reach::Columns(3).IndexOf(4, 6, 7), 14);
  EXPECT_EQ(Reach::Flat(4).IndexOf(4, 6, 7), 8);
  EXPECT_EQ(blocks.IndexOf(3, 4, 7), 3);
  EXPECT_EQ(Reach::Row().EndOf(2, 3, 7), 7);
  EXPECT_EQ(Reach::Columns(3).EndOf(2, 3, 7), 6);
  EXPECT_EQ(Reach::Columns(3).EndOf(2, 6, 7), 7);
  // Element 17 is the second of a block of four.
  EXPECT_EQ(Reach::Flat(4).EndOf(2, 3, 7), 6);
}

TEST(CodeFormatTest, StoredBytesAreCodesAndFieldsWithoutGaps) {
  const CodeFormat format = {
      .kind = CodeFormat::Kind::kUnsigned,
      .bits = 3,
      .fields = {{.name = "scale", .bits = 6, .reach = Reach::Columns(16)},
                 {.name = "d", .bits = 16, .reach = Reach::Columns(256)},
                 {.name = "offset", .bits = 32}}};
  // 512 columns: 192 bytes of codes, 32 scales, 2 d a row.
  EXPECT_EQ(format.StoredBytes(2, 512), 2 * 192 + 2 * 24 + 2 * 4 + 4);
  EXPECT_EQ(format.StoredBytes(1, 3), 2 + 1 + 2 + 4);
}

TEST(RunRuleTest, SaysWhatARunsNumbersAreMadeOf) {
  // Two tables and signed scales in the bits of one byte, under a row's scale;
  // a rounded zero-point and a map with an offset beside them.
  constexpr float kTables[] = {-3, -1, 0, 2, 1, 3, 4, 6};
  constexpr float kMap[] = {-0.5f, 0.25f};
  CodeFormat format = {
      .kind = CodeFormat::Kind::kUnsigned,
      .bits = 2,
      .tables = kTables,
      .fields = {{.name = "byte",
                  .type = CodeField::Type::kUnsigned,
                  .bits = 8,
                  .reach = Reach::Columns(16)},
                 {.name = "d", .reach = Reach::Row()},
                 {.name = "bit",
                  .type = CodeField::Type::kUnsigned,
                  .bits = 1,
                  .reach = Reach::Matrix()},
                 {.name = "zero",
                  .type = CodeField::Type::kSigned,
                  .bits = 8,
                  .reach = Reach::Row()}},
      .rule = {.scale = {.field = 0, .mask = 254, .bias = 127, .times = 1},
               .zero = {.field = 3, .bias = -1},
               .minimum = {.field = 2,
                           .map = kMap,
                           .times = 1,
                           .plus = 1,
                           .negative = true},
               .table = {.field = 0, .mask = 1}}};
  CodeBand band;
  band.rows = 1;
  band.elements.assign(32, std::byte{3});
  band.fields = {{0, {101, 200}}, {0, {0.5f}}, {0, {1}}, {0, {-4}}};
  EXPECT_EQ(RunAt(format, band, 0, 0, 32).scale, -13.5f);
  EXPECT_EQ(RunAt(format, band, 0, 0, 32).table, 1);
  EXPECT_EQ(RunAt(format, band, 0, 16, 32).scale, 36.5f);
  EXPECT_EQ(RunAt(format, band, 0, 16, 32).table, 0);
  EXPECT_EQ(RunAt(format, band, 0, 0, 32).zero, -3);
  EXPECT_EQ(RunAt(format, band, 0, 0, 32).minimum, -0.625f);
  std::vector<float> values(32);
  Decode(format, band, 32, values.data());
  EXPECT_EQ(values[0], -13.5f * (6 + 3) - 0.625f);
  EXPECT_EQ(values[31], 36.5f * (2 + 3) - 0.625f);

  EXPECT_FALSE(format.CommonZero().has_value());
  format.rule.minimum = {};
  EXPECT_FALSE(format.CommonZero().has_value());
  format.rule.zero = {.constant = 2};
  EXPECT_EQ(format.CommonZero(), 2);
  format.rule.zero = {.constant = 2.5f};
  EXPECT_FALSE(format.CommonZero().has_value());
}

// bitsandbytes' second level: signed, dense around zero.
const std::vector<float>& DynamicMap() {
  static const std::vector<float> kMap = [] {
    std::vector<float> map = {0, 1};
    for (int i = 0; i < 7; ++i) {
      const int count = 1 << i;
      for (int k = 0; k < count; ++k) {
        const double from = 0.1 + 0.9 * k / count;
        const double to = 0.1 + 0.9 * (k + 1) / count;
        const auto mean =
            static_cast<float>((from + to) / 2 * std::pow(10.0, i - 6));
        map.push_back(mean);
        map.push_back(-mean);
      }
    }
    std::sort(map.begin(), map.end());
    return map;
  }();
  return kMap;
}

uint8_t Nearest(absl::Span<const float> levels, float value) {
  size_t best = 0;
  for (size_t i = 1; i < levels.size(); ++i) {
    if (std::abs(levels[i] - value) < std::abs(levels[best] - value)) best = i;
  }
  return static_cast<uint8_t>(best);
}

constexpr float kNf4[] = {
    -1.0f,        -0.6961928f,  -0.52507305f,  -0.3949175f,
    -0.28444138f, -0.18477343f, -0.091050036f, 0.0f,
    0.0795803f,   0.1609302f,   0.2461123f,    0.33791524f,
    0.44070983f,  0.562617f,    0.72295684f,   1.0f};

TEST(CodesTest, BlocksOfNf4RunAcrossRowsAndHaveScalesOfScales) {
  // 20 rows of 576 columns are two blocks of 4,096 and a short one, which begin
  // in the middle of rows. GPT-2's Conv1D would be stored as [576, 20]; blocks
  // run over its transpose, which is what methods see.
  constexpr int64_t kRows = 20, kCols = 576, kBlock = 4096;
  const MatrixRows weight = NormalRows(kRows, kCols, 1);
  const CodeFormat format = {
      .kind = CodeFormat::Kind::kUnsigned,
      .bits = 4,
      .element = "nf4",
      .tables = kNf4,
      .fields = {{.name = "absmax",
                  .type = CodeField::Type::kUnsigned,
                  .bits = 8,
                  .reach = Reach::Flat(kBlock)},
                 {.name = "nested_absmax", .reach = Reach::Flat(kBlock * 256)},
                 {.name = "nested_offset"}},
      .rule = {
          .scale = {.field = 0, .map = DynamicMap(), .times = 1, .plus = 2}}};
  EXPECT_EQ(DynamicMap().size(), 256u);
  EXPECT_EQ(format.StoredBytes(kRows, kCols), kRows * kCols / 2 + 3 + 4 + 4);

  std::vector<float> absmax(3);
  for (int64_t i = 0; i < kRows * kCols; ++i) {
    absmax[i / kBlock] =
        std::max(absmax[i / kBlock], std::abs(weight.values()[i]));
  }
  const float offset = (absmax[0] + absmax[1] + absmax[2]) / 3;
  float nested = 0;
  for (const float value : absmax) {
    nested = std::max(nested, std::abs(value - offset));
  }
  std::vector<float> indexes;
  for (const float value : absmax) {
    indexes.push_back(Nearest(DynamicMap(), (value - offset) / nested));
  }
  std::vector<uint8_t> elements;
  for (int64_t i = 0; i < kRows * kCols; ++i) {
    elements.push_back(
        Nearest(kNf4, weight.values()[i] * (1 / absmax[i / kBlock])));
  }
  const HeldCodes codes(format, kRows, kCols, elements,
                        {indexes, {nested}, {offset}});

  // The definition, element by element.
  std::vector<float> wanted;
  for (int64_t i = 0; i < kRows * kCols; ++i) {
    const float scale =
        DynamicMap()[static_cast<size_t>(indexes[i / kBlock])] * nested +
        offset;
    wanted.push_back(kNf4[elements[i]] * scale);
  }
  EXPECT_EQ(ValuesOf(codes), wanted);
  // Tiles round the levels to bytes.
  const PackedWeight packed = *Pack(codes);
  std::vector<float> rounded(kRows * kCols);
  packed.Dequantize(0, kRows, rounded.data());
  for (int64_t i = 0; i < kRows * kCols; ++i) {
    ASSERT_NEAR(rounded[i], wanted[i], absmax[i / kBlock] / 127);
  }
  const std::vector<float> x = NormalValues(3 * kCols, 2);
  ExpectProduct(SlowProduct(rounded, kCols, x), FastProduct(packed, x));
}

TEST(CodesTest, Q4KHasScalesAndMinimaOf32ColumnsUnderOnesOf256) {
  constexpr int64_t kRows = 5, kCols = 512;
  const CodeFormat format = {
      .kind = CodeFormat::Kind::kUnsigned,
      .bits = 4,
      .element = "q4_k",
      .fields = {{.name = "d",
                  .type = CodeField::Type::kFloat16,
                  .bits = 16,
                  .reach = Reach::Columns(256)},
                 {.name = "dmin",
                  .type = CodeField::Type::kFloat16,
                  .bits = 16,
                  .reach = Reach::Columns(256)},
                 {.name = "scale",
                  .type = CodeField::Type::kUnsigned,
                  .bits = 6,
                  .reach = Reach::Columns(32)},
                 {.name = "min",
                  .type = CodeField::Type::kUnsigned,
                  .bits = 6,
                  .reach = Reach::Columns(32)}},
      .rule = {.scale = {.field = 2, .times = 0},
               .minimum = {.field = 3, .times = 1, .negative = true}}};
  // 144 bytes for 256 columns.
  EXPECT_EQ(format.StoredBytes(kRows, kCols), kRows * 2 * 144);
  std::vector<uint8_t> elements(kRows * kCols);
  for (size_t i = 0; i < elements.size(); ++i) elements[i] = i * 7 % 16;
  std::vector<float> d, dmin, scale, min;
  for (int i = 0; i < kRows * 2; ++i) {
    d.push_back(RoundTo(DType::kF16, 0.001f * static_cast<float>(i + 1)));
    dmin.push_back(RoundTo(DType::kF16, 0.003f * static_cast<float>(i % 3)));
  }
  for (int i = 0; i < kRows * 16; ++i) {
    scale.push_back(static_cast<float>(i * 11 % 64));
    min.push_back(static_cast<float>(i * 5 % 64));
  }
  const HeldCodes codes(format, kRows, kCols, elements, {d, dmin, scale, min});
  std::vector<float> wanted;
  for (int64_t i = 0; i < kRows * kCols; ++i) {
    const float step = d[i / 256] * scale[i / 32];
    const float least = dmin[i / 256] * min[i / 32];
    wanted.push_back(step * static_cast<float>(elements[i]) - least);
  }
  EXPECT_EQ(ValuesOf(codes), wanted);
  const std::vector<float> x = NormalValues(2 * kCols, 2);
  ExpectProduct(SlowProduct(wanted, kCols, x), FastProduct(*Pack(codes), x));
}

// GPTQ with act-order on query, key and value, each in an order of its own, is
// in tests/model/layers/linear_test.cc: orders meet in a layer.

TEST(CodesTest, OutliersFoundAtRunTimeReadTheVeryCodes) {
  // LLM.int8: columns in which a row of x has an outlier are multiplied apart,
  // from the codes of these columns; nothing else of the weight is kept.
  constexpr int64_t kRows = 6, kCols = 100;
  constexpr float kThreshold = 6;
  const MatrixRows weight = NormalRows(kRows, kCols, 1);
  const auto codes = *ParseMethodSpec("linear")->Encode(weight);
  CodeBand band;
  ASSERT_TRUE(codes->Read(0, kRows, band).ok());
  std::vector<float> x = NormalValues(kCols, 2);
  x[17] = 9;
  x[70] = -8;
  float largest = 0;
  for (const float value : x) {
    if (std::abs(value) < kThreshold) {
      largest = std::max(largest, std::abs(value));
    }
  }
  const std::vector<double> exact = SlowProduct(ValuesOf(*codes), kCols, x);
  for (int64_t row = 0; row < kRows; ++row) {
    const float scale = RunAt(codes->format(), band, row, 0, kCols).scale;
    int64_t sum = 0;
    double apart = 0;
    for (int64_t col = 0; col < kCols; ++col) {
      const int code = band.signed_row(row, kCols)[col];
      if (std::abs(x[col]) >= kThreshold) {
        apart += double{x[col]} * code * scale;
      } else {
        sum += std::lrint(x[col] / largest * 127) * code;
      }
    }
    // Half a step of x in each column, at random.
    EXPECT_NEAR(static_cast<double>(sum) * largest / 127 * scale + apart,
                exact[row], 0.05);
  }
}

TEST(CodesTest, ATiedHeadLooksUpAndMultipliesTheSameCodes) {
  constexpr int64_t kTokens = 33, kWidth = 96;
  const CodeFormat format = {
      .kind = CodeFormat::Kind::kUnsigned,
      .bits = 4,
      .element = "int4",
      .fields = {{.name = "scale", .reach = Reach::Columns(32)}},
      .rule = {.scale = {.field = 0}, .zero = {.constant = 8}}};
  std::vector<uint8_t> elements(kTokens * kWidth);
  for (size_t i = 0; i < elements.size(); ++i) elements[i] = i * 11 % 16;
  const HeldCodes codes(format, kTokens, kWidth, elements,
                        {NormalValues(kTokens * 3, 4)});
  const PackedWeight packed = *Pack(codes);
  const std::vector<float> values = ValuesOf(codes);
  for (const int64_t token : {0, 15, 16, 32}) {
    std::vector<float> found(kWidth);
    packed.Dequantize(token, 1, found.data());
    EXPECT_TRUE(std::equal(found.begin(), found.end(),
                           values.begin() + token * kWidth));
  }
  const std::vector<float> x = NormalValues(2 * kWidth, 5);
  ExpectProduct(SlowProduct(values, kWidth, x), FastProduct(packed, x));
}

TEST(CodesTest, AConvolutionsCodesKnowNothingOfItsPadding) {
  // Its batch norm is folded in before; order and padding come after.
  const MatrixRows weight = NormalRows(4, 3 * 9, 6);
  const ScaledRows folded(weight, {1, -2, 0.5f, 3});
  const auto codes = *ParseMethodSpec("linear")->Encode(folded);
  EXPECT_EQ(codes->cols(), 27);
  const ConvolutionShape shape = {
      .out_channels = 4, .in_channels = 3, .kernel = 3};
  const ConvolutionCodes moved(*codes, shape);
  const std::vector<float> values = ValuesOf(*codes), all = ValuesOf(moved);
  for (int64_t out = 0; out < 4; ++out) {
    for (int64_t col = 0; col < moved.cols(); ++col) {
      const int64_t ky = col / 64, kx = col % 64 / 3, c = col % 64 % 3;
      const float found = all[out * moved.cols() + col];
      if (kx < 3) {
        EXPECT_EQ(found, values[out * 27 + (c * 3 + ky) * 3 + kx]);
      } else {
        EXPECT_EQ(found, 0);
      }
    }
  }
  const std::vector<float> x = NormalValues(2 * moved.cols(), 7);
  ExpectProduct(SlowProduct(all, moved.cols(), x),
                FastProduct(*Pack(moved), x));
}

TEST(PackTest, SlicesKeepTheFieldsOfTheMatrixTheyAreCutOf) {
  const CodeFormat format = {
      .kind = CodeFormat::Kind::kSigned,
      .element = "int8",
      .fields = {{.name = "block", .reach = Reach::Flat(96)}},
      .rule = {.scale = {.field = 0}}};
  constexpr int64_t kRows = 40, kCols = 70;
  std::vector<uint8_t> elements(kRows * kCols);
  std::iota(elements.begin(), elements.end(), uint8_t{0});
  const HeldCodes one(format, kRows, kCols, elements, {NormalValues(30, 8)});
  const HeldCodes other(format, kRows, kCols, elements, {NormalValues(30, 9)});
  EXPECT_EQ(Pack(one)->input_rounding(), InputRounding{});
  const CodeSlice slices[] = {{&one, 3, 20}, {&other, 17, 23}, {&one, 39, 1}};
  const PackedWeight packed = *Pack(slices);
  ASSERT_EQ(packed.rows(), 44);
  std::vector<float> found(44 * kCols), wanted;
  packed.Dequantize(0, 44, found.data());
  for (const CodeSlice& slice : slices) {
    const std::vector<float> all = ValuesOf(*slice.codes);
    wanted.insert(wanted.end(), all.begin() + slice.first_row * kCols,
                  all.begin() + (slice.first_row + slice.rows) * kCols);
  }
  EXPECT_EQ(found, wanted);
}

TEST(PackTest, TakesActivationsIn8BitsWhereWeightsAreMultipliedAsIntegers) {
  CodeFormat format = {.kind = CodeFormat::Kind::kUnsigned,
                       .bits = 4,
                       .element = "nf4",
                       .tables = kNf4,
                       .fields = {{.name = "absmax", .reach = Reach::Flat(40)}},
                       .rule = {.scale = {.field = 0}},
                       .input_rounding = {.bits = 8}};
  const HeldCodes floats(format, 3, 64, std::vector<uint8_t>(3 * 64),
                         {NormalValues(5, 8)});
  const absl::Status refused = Pack(floats).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(refused.message(),
            "tensor 'held.weight': activations in 8 bits are for weights that "
            "are multiplied as integers, and nf4 of this kind is not");
  EXPECT_EQ(PackedBytes(format, 3, 64).status().code(),
            absl::StatusCode::kUnimplemented);
  const auto spec = ParseMethodSpec("bnb-int8:threshold=2.5");
  const InputRounding wanted = {.bits = 8, .threshold = 2.5f};
  const MatrixRows weight = NormalRows(3, 64, 1);
  EXPECT_EQ(Pack(**spec->Encode(weight))->input_rounding(), wanted);
  EXPECT_EQ(
      PackedOutline(*spec->Format(3, 64, DType::kF32), 3, 64).input_rounding(),
      wanted);
}

}  // namespace
}  // namespace ounce::quant
