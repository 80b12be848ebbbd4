// Codes of every geometry multiply on integers: tiles hold what the codes say,
// and products are the float64 ones within what kernels state, bit-equal on all
// instruction sets, alone and in a batch.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "quant/pack.h"
#include "tests/quant/every_isa.h"
#include "tests/quant/held_codes.h"
#include "tests/quant/matrix_rows.h"
#include "tests/quant/products.h"

namespace ounce::quant {
namespace {

using Kind = CodeFormat::Kind;
using Values = std::vector<std::vector<float>>;  // of fields

// Unlike in every row, and all there are.
std::vector<uint8_t> Elements(const CodeFormat& format, int64_t rows,
                              int64_t cols) {
  std::vector<uint8_t> elements(rows * cols);
  const int count = 1 << format.bits;
  uint32_t state = 1;
  for (uint8_t& element : elements) {
    state = state * 1664525 + 1013904223;
    const int code = static_cast<int>(state >> 16) % count;
    element = static_cast<uint8_t>(
        format.kind == Kind::kSigned ? code - count / 2 : code);
  }
  return elements;
}

void ExpectProducts(const PackedWeight& weight, const std::string& what) {
  SCOPED_TRACE(what);
  constexpr int64_t kRows = 17;
  const int64_t rows = weight.rows(), cols = weight.cols();
  const std::vector<float> values = Dequantized(weight);
  const std::vector<float> x = NormalValues(kRows * cols, 3);
  Multiplier multiplier;
  std::vector<float> wanted;
  for (const Isa isa : Isas()) {
    const std::vector<float> y = multiplier.Run(isa, x, kRows, weight);
    if (wanted.empty()) {
      for (int64_t i = 0; i < kRows; ++i) {
        for (int64_t out = 0; out < rows; ++out) {
          const Wanted exact =
              Reference(&x[i * cols], &values[out * cols], cols, weight);
          ASSERT_NEAR(y[i * rows + out], exact.y, exact.tolerance);
        }
      }
      wanted = y;
    }
    ExpectSameBits(wanted, y, std::string(IsaName(isa)));
    for (const int64_t count : {1, 2, 3}) {
      ExpectSameBits(
          {y.end() - count * rows, y.end()},
          multiplier.Run(isa, {x.end() - count * cols, x.end()}, count, weight),
          std::string(IsaName(isa)));
    }
  }
}

// Holds codes to all that is said of tiles, and returns these.
PackedWeight ExpectExact(const CodeRows& codes, const std::string& what) {
  PackedWeight weight = *Pack(codes);
  EXPECT_EQ(TileForm::kRuns, weight.layout().form) << what;
  EXPECT_EQ(ValuesOf(codes), Dequantized(weight)) << what;
  ExpectProducts(weight, what);
  weight.set_input_rounding({.bits = 8});
  ExpectProducts(weight, what + ", activations in 8 bits");
  weight.set_input_rounding({});
  return weight;
}

constexpr std::pair<int64_t, int64_t> kShapes[] = {
    {1, 1}, {17, 65}, {35, 320}, {66, 1000}};

TEST(IntRunsTest, CodesOf1To8BitsTakeSoManyBits) {
  for (const Kind kind : {Kind::kSigned, Kind::kUnsigned}) {
    for (int bits = 1; bits <= 8; ++bits) {
      const CodeFormat format = {
          .kind = kind,
          .bits = bits,
          .element = "int",
          .fields = {{.name = "scale", .reach = Reach::Columns(32)}},
          .rule = {.scale = {.field = 0}}};
      for (const auto& [rows, cols] : kShapes) {
        const HeldCodes codes(format, rows, cols, Elements(format, rows, cols),
                              {NormalValues(rows * ((cols + 31) / 32), 2)});
        const PackedWeight weight =
            ExpectExact(codes, std::to_string(bits) + " bits");
        const int64_t padded = weight.panels() * weight.blocks() * 1024;
        const int64_t runs = weight.panels() * 16 * weight.runs_per_row();
        EXPECT_EQ(padded * bits / 8 + runs * 4, weight.resident_bytes());
      }
    }
  }
}

TEST(IntRunsTest, BlocksOfTheFlatMatrixAreRunsWhereTheirEndsMeetColumns) {
  const CodeFormat format = {
      .kind = Kind::kUnsigned,
      .bits = 4,
      .element = "int4",
      .fields = {{.name = "scale", .reach = Reach::Flat(4096)}},
      .rule = {.scale = {.field = 0}, .zero = {.constant = 8}}};
  for (const auto& [cols, run_cols] : {std::pair{576, 64},
                                       {48, 16},
                                       {80, 16},
                                       {4160, 64},
                                       {4096, 4096},
                                       {8192, 4096}}) {
    constexpr int64_t kRows = 21;
    const HeldCodes codes(format, kRows, cols, Elements(format, kRows, cols),
                          {NormalValues(kRows * cols / 4096 + 1, 2)});
    EXPECT_EQ(run_cols, ExpectExact(codes, std::to_string(cols)).runs().cols);
  }
  // Blocks that end anywhere.
  const HeldCodes codes(format, 90, 100, Elements(format, 90, 100),
                        {NormalValues(3, 2)});
  const PackedWeight weight = *Pack(codes);
  EXPECT_EQ(TileForm::kFloat, weight.layout().form);
  EXPECT_EQ(ValuesOf(codes), Dequantized(weight));
}

CodeField Byte(std::string_view name, Reach reach,
               CodeField::Type type = CodeField::Type::kUnsigned) {
  return {.name = name, .type = type, .bits = 8, .reach = reach};
}
CodeField Half(std::string_view name, Reach reach) {
  return {.name = name,
          .type = CodeField::Type::kFloat16,
          .bits = 16,
          .reach = reach};
}

// `count` integers of a range, in no order.
std::vector<float> Integers(int64_t count, int least, int most) {
  std::vector<float> values(count);
  uint32_t state = 7;
  for (float& value : values) {
    state = state * 1664525 + 1013904223;
    value = static_cast<float>(least + static_cast<int>(state >> 16) %
                                           (most - least + 1));
  }
  return values;
}

std::vector<float> Rounded(DType dtype, int64_t count) {
  std::vector<float> values = NormalValues(count, 5, 0.01f);
  for (float& value : values) value = RoundTo(dtype, value);
  return values;
}

int64_t RoundUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Bytes beside tiles, for each row that tiles have. (Parts begin at lines: for
// shapes where they are full.)
int64_t BytesBesideTiles(const PackedWeight& weight) {
  return (weight.resident_bytes() -
          weight.panels() * weight.blocks() * weight.layout().tile_bytes) /
         (weight.panels() * 16);
}

TEST(IntRunsTest, TablesOfIntegersAreExact) {
  static constexpr float kSigns[] = {-1, 1};
  static constexpr float kTernary[] = {-1, 0, 1, 0};
  static constexpr float kEight[] = {-127, -40, -23, -10, 1, 13, 28, 127};
  for (const auto& [bits, table] :
       {std::pair<int, absl::Span<const float>>{1, kSigns},
        {2, kTernary},
        {3, kEight}}) {
    const CodeFormat format = {
        .kind = Kind::kUnsigned,
        .bits = bits,
        .element = "table",
        .tables = table,
        .fields = {{.name = "scale", .reach = Reach::Columns(48)}},
        .rule = {.scale = {.field = 0}}};
    for (const auto& [rows, cols] : kShapes) {
      const HeldCodes codes(format, rows, cols, Elements(format, rows, cols),
                            {NormalValues(rows * RoundUp(cols, 48), 2)});
      EXPECT_EQ(128 * bits,
                ExpectExact(codes, std::to_string(bits)).layout().tile_bytes);
    }
  }
}

// The first table of ks4, and the second.
constexpr float kTwoTables[] = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
    -123, -100, -79, -61, -45, -31, -18, -6,  5, 17, 29, 42, 57, 73, 93, 117};

TEST(IntRunsTest, TablesThatDifferByAnIntegerAreChosenByTheRun) {
  CodeFormat format = {
      .kind = Kind::kUnsigned,
      .bits = 4,
      .element = "ks4",
      .tables = kTwoTables,
      .fields = {Byte("scale", Reach::Columns(32)),
                 {.name = "d", .reach = Reach::Row()}},
      .rule = {.scale = {.field = 0, .mask = 254, .bias = 127, .times = 1},
               .table = {.field = 0, .mask = 1}}};
  for (const auto& [rows, cols] : kShapes) {
    const HeldCodes codes(format, rows, cols, Elements(format, rows, cols),
                          {Integers(rows * RoundUp(cols, 32), 0, 255),
                           NormalValues(rows, 2, 0.001f)});
    const PackedWeight weight = ExpectExact(codes, "in the scale's byte");
    if (cols == 1000) {
      EXPECT_EQ(2 * 16 + 4, BytesBesideTiles(weight));
    }
  }
  // A bit of its own, and a scale of no byte.
  format.fields = {{.name = "scale", .reach = Reach::Columns(32)},
                   {.name = "table",
                    .type = CodeField::Type::kUnsigned,
                    .bits = 1,
                    .reach = Reach::Columns(64)}};
  format.rule = {.scale = {.field = 0}, .table = {.field = 1}};
  const HeldCodes codes(format, 20, 320, Elements(format, 20, 320),
                        {NormalValues(200, 2), Integers(100, 0, 1)});
  EXPECT_EQ(10 * 4 + 10, BytesBesideTiles(ExpectExact(codes, "apart")));
  // Others are decoded.
  std::vector<float> tables(std::begin(kTwoTables), std::end(kTwoTables));
  tables[20] += 1;
  format.tables = tables;
  const HeldCodes other(format, 20, 320, Elements(format, 20, 320),
                        {NormalValues(200, 2), Integers(100, 0, 1)});
  const PackedWeight decoded = *Pack(other);
  EXPECT_EQ(TileForm::kFloat, decoded.layout().form);
  EXPECT_EQ(ValuesOf(other), Dequantized(decoded));
}

constexpr float kNf4[] = {
    -1.0f,        -0.6961928f,  -0.52507305f,  -0.3949175f,
    -0.28444138f, -0.18477343f, -0.091050036f, 0.0f,
    0.0795803f,   0.1609302f,   0.2461123f,    0.33791524f,
    0.44070983f,  0.562617f,    0.72295684f,   1.0f};
constexpr float kFp4[] = {0,           0.0052083333f,  0.6666667f,  1,
                          0.3333333f,  0.5f,           0.1666667f,  0.25f,
                          0,           -0.0052083333f, -0.6666667f, -1,
                          -0.3333333f, -0.5f,          -0.1666667f, -0.25f};

// Mean squared errors over blocks of 64 normal values: of a table's codes, and
// of what tiles make of them beside that.
std::pair<double, double> ErrorsOf(absl::Span<const float> table) {
  constexpr int64_t kRows = 64, kCols = 1024;
  const std::vector<float> values = NormalValues(kRows * kCols, 1);
  const CodeFormat format = {
      .kind = Kind::kUnsigned,
      .bits = 4,
      .element = "table",
      .tables = table,
      .fields = {{.name = "absmax", .reach = Reach::Flat(64)}},
      .rule = {.scale = {.field = 0}}};
  std::vector<float> absmax(values.size() / 64);
  std::vector<uint8_t> elements(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    absmax[i / 64] = std::max(absmax[i / 64], std::abs(values[i]));
  }
  double of_codes = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    double least = HUGE_VAL;
    for (size_t k = 0; k < table.size(); ++k) {
      const double off = values[i] - double{table[k]} * absmax[i / 64];
      if (off * off >= least) continue;
      least = off * off;
      elements[i] = static_cast<uint8_t>(k);
    }
    of_codes += least;
  }
  const HeldCodes codes(format, kRows, kCols, elements, {absmax});
  const PackedWeight weight = *Pack(codes);
  EXPECT_EQ(TileForm::kRuns, weight.layout().form);
  const std::vector<float> exact = ValuesOf(codes), found = Dequantized(weight);
  double of_tiles = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    of_tiles += std::pow(double{exact[i]} - found[i], 2);
  }
  return {of_codes / static_cast<double>(values.size()),
          of_tiles / static_cast<double>(values.size())};
}

TEST(IntRunsTest, RoundsOtherTablesByFarLessThanTheyRoundWeights) {
  const auto [nf4, rounded_nf4] = ErrorsOf(kNf4);
  EXPECT_NEAR(nf4, 0.0084, 0.0004);
  EXPECT_LT(rounded_nf4, 0.004 * nf4);
  const auto [fp4, rounded_fp4] = ErrorsOf(kFp4);
  EXPECT_LT(rounded_fp4, 0.004 * fp4);
  RecordProperty("nf4", std::to_string(rounded_nf4 / nf4));
  RecordProperty("fp4", std::to_string(rounded_fp4 / fp4));
}

TEST(IntRunsTest, RoundedTablesMultiplyExactlyAsTilesHoldThem) {
  const CodeFormat format = {
      .kind = Kind::kUnsigned,
      .bits = 4,
      .element = "nf4",
      .tables = kNf4,
      .fields = {{.name = "absmax", .reach = Reach::Columns(64)}},
      .rule = {.scale = {.field = 0}}};
  for (const auto& [rows, cols] : kShapes) {
    const HeldCodes codes(format, rows, cols, Elements(format, rows, cols),
                          {NormalValues(rows * RoundUp(cols, 64), 2)});
    const PackedWeight weight = *Pack(codes);
    EXPECT_EQ(512, weight.layout().tile_bytes);
    ExpectProducts(weight, std::to_string(cols));
  }
}

TEST(IntRunsTest, IntegerZerosOfRunsTakeAByteAndRoundNothing) {
  for (const Kind kind : {Kind::kSigned, Kind::kUnsigned}) {
    for (const auto type :
         {CodeField::Type::kSigned, CodeField::Type::kUnsigned}) {
      for (const int bits : {2, 4, 8}) {
        const CodeFormat format = {
            .kind = kind,
            .bits = bits,
            .element = "int",
            .fields = {Half("scale", Reach::Columns(64)),
                       Byte("zero", Reach::Columns(64), type)},
            // As GPTQ's files have it.
            .rule = {.scale = {.field = 0}, .zero = {.field = 1, .bias = -1}}};
        const int least = type == CodeField::Type::kSigned ? -128 : 0;
        for (const auto& [rows, cols] : kShapes) {
          const int64_t count = rows * RoundUp(cols, 64);
          const HeldCodes codes(format, rows, cols,
                                Elements(format, rows, cols),
                                {Rounded(DType::kF16, count),
                                 Integers(count, least, least + 255)});
          const PackedWeight weight = ExpectExact(codes, "zeros");
          if (cols == 1000) {
            EXPECT_EQ(3 * 16, BytesBesideTiles(weight));
          }
        }
      }
    }
  }
}

TEST(IntRunsTest, TheLargestZerosDoNotOverflow) {
  constexpr int64_t kCols = 8192;
  const CodeFormat format = {
      .kind = Kind::kSigned,
      .element = "int8",
      .fields = {{.name = "scale", .reach = Reach::Row()},
                 Byte("zero", Reach::Row())},
      .rule = {.scale = {.field = 0}, .zero = {.field = 1}}};
  std::vector<uint8_t> elements(2 * kCols, 128);
  std::fill_n(elements.begin(), kCols, 127);
  const HeldCodes codes(format, 2, kCols, elements, {{1, 1}, {0, 255}});
  const PackedWeight weight = *Pack(codes);
  Multiplier multiplier;
  for (const Isa isa : Isas()) {
    for (const float sign : {1.0f, -1.0f}) {
      const std::vector<float> y =
          multiplier.Run(isa, std::vector<float>(kCols, sign), 1, weight);
      EXPECT_NEAR(y[0], sign * 127 * kCols, 64) << IsaName(isa);
      EXPECT_NEAR(y[1], sign * -383 * kCols, 64) << IsaName(isa);
    }
  }
}

TEST(IntRunsTest, ScalesAndMinimaTakeWhatFilesHoldOfThem) {
  struct Case {
    std::string_view name;
    std::vector<CodeField> fields;
    RunRule rule;
    int64_t run_cols;
    // Of 1,024 columns.
    int64_t bytes_of_row;
  };
  static const std::vector<float> kMap = NormalValues(256, 11);
  const CodeField d = Half("d", Reach::Columns(256));
  const CodeField row = {.name = "row", .reach = Reach::Row()};
  const CodeField offset = {.name = "offset"};
  CodeField narrow = Byte("scale", Reach::Columns(32));
  narrow.bits = 6;
  CodeField brain = Half("minimum", Reach::Columns(32));
  brain.type = CodeField::Type::kBFloat16;
  const Case cases[] = {
      {"float16",
       {Half("scale", Reach::Columns(32))},
       {.scale = {.field = 0}},
       32,
       2 * 32},
      {"float16 and bfloat16",
       {Half("scale", Reach::Columns(32)), brain},
       {.scale = {.field = 0}, .minimum = {.field = 1, .negative = true}},
       32,
       4 * 32},
      {"q4_k",
       {d, d, narrow, narrow},
       {.scale = {.field = 2, .times = 0},
        .minimum = {.field = 3, .times = 1, .negative = true}},
       32,
       2 * 32 + 4 * 4},
      {"q6_k",
       {d, Byte("scale", Reach::Columns(16), CodeField::Type::kSigned)},
       {.scale = {.field = 1, .times = 0}, .zero = {.constant = 8}},
       16,
       64 + 2 * 4},
      {"iq4_xs",
       {d, narrow},
       {.scale = {.field = 1, .bias = 32, .times = 0}},
       32,
       32 + 2 * 4},
      {"double quantization",
       {Byte("absmax", Reach::Flat(64)),
        {.name = "nested", .reach = Reach::Flat(64 * 256)},
        offset},
       {.scale = {.field = 0, .map = kMap, .times = 1, .plus = 2}},
       64,
       16 + 4 + 4},
      {"runs that do not divide a row",
       {Byte("scale", Reach::Columns(192)), row},
       {.scale = {.field = 0, .times = 1}},
       192,
       6 + 4},
      // Not smaller than a float32, or nothing that tiles know: as a float32.
      {"a byte a row",
       {Byte("scale", Reach::Row()), row},
       {.scale = {.field = 0, .times = 1}},
       1024,
       4},
      {"a product of floats",
       {Half("scale", Reach::Columns(64)), row},
       {.scale = {.field = 0, .times = 1}},
       64,
       4 * 16},
      {"a product and a sum by the run",
       {Byte("scale", Reach::Columns(64)), row,
        Half("sum", Reach::Columns(64))},
       {.scale = {.field = 0, .times = 1, .plus = 2}},
       64,
       4 * 16},
  };
  for (const Case& test : cases) {
    const CodeFormat format = {.kind = Kind::kUnsigned,
                               .bits = 4,
                               .element = "int4",
                               .fields = test.fields,
                               .rule = test.rule};
    for (const int64_t cols : {1024, 1000, 80}) {
      constexpr int64_t kRows = 21;
      Values values;
      for (const CodeField& field : test.fields) {
        const int64_t count = field.reach.Count(kRows, cols);
        const int most = (1 << std::min(field.bits, 8)) - 1;
        values.push_back(field.type == CodeField::Type::kSigned
                             ? Integers(count, -128, 127)
                         : field.type == CodeField::Type::kUnsigned
                             ? Integers(count, 0, most)
                         : field.type == CodeField::Type::kBFloat16
                             ? Rounded(DType::kBF16, count)
                         : field.type == CodeField::Type::kFloat16
                             ? Rounded(DType::kF16, count)
                             : NormalValues(count, 9, 0.01f));
      }
      const HeldCodes codes(format, kRows, cols, Elements(format, kRows, cols),
                            values);
      if (cols == 1000 && test.name == "double quantization") continue;
      const PackedWeight weight = ExpectExact(codes, std::string(test.name));
      if (cols != 1024) continue;
      EXPECT_EQ(test.run_cols, weight.runs().cols) << test.name;
      EXPECT_EQ(test.bytes_of_row, BytesBesideTiles(weight)) << test.name;
    }
  }
}

}  // namespace
}  // namespace ounce::quant
