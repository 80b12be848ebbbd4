// Codes of every geometry multiply on integers: tiles hold what the codes say,
// and products are the float64 ones within what kernels state, bit-equal on all
// instruction sets, alone and in a batch.
#include <cstdint>
#include <string>
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

}  // namespace
}  // namespace ounce::quant
