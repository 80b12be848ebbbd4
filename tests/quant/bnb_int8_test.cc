// LLM.int8 beside bitsandbytes (tools/make_bnb_int8_goldens.py), and what its
// outliers are for.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "quant/codes.h"
#include "quant/convolution.h"
#include "quant/registry.h"
#include "tests/quant/every_isa.h"
#include "tests/quant/matrix_rows.h"
#include "tests/quant/products.h"

namespace ounce::quant {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kRows = 21, kCols = 150, kInputs = 6;

template <class T>
std::vector<T> Golden(const std::string& name, size_t count) {
  std::ifstream file("tests/golden/bnb_int8/" + name, std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  EXPECT_EQ(bytes.size(), count * sizeof(T)) << name;
  std::vector<T> values(count);
  std::copy_n(bytes.data(), std::min(bytes.size(), count * sizeof(T)),
              reinterpret_cast<char*>(values.data()));
  return values;
}

MatrixRows GoldenWeight() {
  return MatrixRows(kRows, kCols, Golden<float>("weight.f32", kRows * kCols));
}

TEST(BnbInt8Test, CodesAndScalesAreThoseOfBitsandbytes) {
  const MatrixRows weight = GoldenWeight();
  const auto codes = ParseMethodSpec("bnb-int8")->Encode(weight);
  ASSERT_TRUE(codes.ok()) << codes.status();
  CodeBand band;
  ASSERT_TRUE((*codes)->Read(0, kRows, band).ok());
  const int8_t* found = band.signed_row(0, kCols);
  EXPECT_EQ(std::vector<int8_t>(found, found + kRows * kCols),
            Golden<int8_t>("codes.i8", kRows * kCols));
  EXPECT_EQ(band.fields[0].values, Golden<float>("scb.f32", kRows));
  // Both, and the byte that is called weight_format.
  EXPECT_EQ((*codes)->format().StoredBytes(kRows, kCols),
            kRows * kCols + kRows * 4 + 1);
}

TEST(BnbInt8Test, ProductsAreThoseOfBitsandbytes) {
  const std::vector<float> x = Golden<float>("x.f32", kInputs * kCols);
  Multiplier multiplier;
  for (const std::string threshold : {"6", "0"}) {
    const PackedWeight w =
        Pack(GoldenWeight(), "bnb-int8:threshold=" + threshold);
    const std::vector<float> weights = Dequantized(w);
    const std::vector<float> wanted =
        Golden<float>("y_" + threshold + ".f32", kInputs * kRows);
    for (const Isa isa : Isas()) {
      // Rows are multiplied together here, and were one by one there.
      const std::vector<float> y = multiplier.Run(isa, x, kInputs, w);
      for (int64_t i = 0; i < kInputs * kRows; ++i) {
        double magnitudes = 0, rest = wanted[i];
        for (int64_t k = 0; k < kCols; ++k) {
          const float value = x[i / kRows * kCols + k];
          const double product = double{value} * weights[i % kRows * kCols + k];
          magnitudes += std::abs(product);
          if (threshold == "6" && std::abs(value) >= 6) rest -= product;
        }
        // The same integers, but what stands for 1 / 127^2 there,
        // 6.200124e-05, is too large by 1.8e-5. Sums of up to 150 outliers in
        // another order, and scales multiplied in another.
        const double tolerance =
            1.81e-5 * std::abs(rest) + (kCols + 8) * 0x1p-24 * magnitudes;
        EXPECT_NEAR(wanted[i], y[i], tolerance)
            << IsaName(isa) << " threshold " << threshold << ", row "
            << i / kRows << ", output " << i % kRows;
      }
    }
  }
}

// ||y - x W^T|| / ||x W^T|| of a weight in the checkpoint's floats.
double ErrorOf(const std::string& spec, const MatrixRows& weight,
               const std::vector<float>& x) {
  const int64_t cols = weight.cols();
  const auto rows = static_cast<int64_t>(x.size()) / cols;
  Multiplier multiplier;
  const std::vector<float> y =
      multiplier.Run(BestIsa(), x, rows, Pack(weight, spec));
  double difference = 0, norm = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const float* row = x.data() + i / weight.rows() * cols;
    const float* out = weight.values().data() + i % weight.rows() * cols;
    double exact = 0;
    for (int64_t k = 0; k < cols; ++k) exact += double{row[k]} * out[k];
    difference += (y[i] - exact) * (y[i] - exact);
    norm += exact * exact;
  }
  return std::sqrt(difference / norm);
}

TEST(BnbInt8Test, OutliersCostTheOtherNumbersNothing) {
  const MatrixRows weight = NormalRows(100, 512, 1);
  const std::vector<float> calm = NormalValues(20 * 512, 2);
  std::vector<float> x = calm;
  // As in language models: the same few columns, in most rows.
  for (int64_t row = 0; row < 20; ++row) {
    if (row % 4 == 3) continue;
    x[row * 512 + 77] = 40;
    x[row * 512 + 300] = -60;
  }
  const double without = ErrorOf("bnb-int8:threshold=0", weight, x);
  const double with = ErrorOf("bnb-int8", weight, x);
  // Steps of 60 / 127 against 3.3 / 127.
  EXPECT_LT(with, without / 3);
  EXPECT_LT(with, 0.02);
  // Nothing to choose where there is none.
  EXPECT_EQ(ErrorOf("bnb-int8:threshold=0", weight, calm),
            ErrorOf("bnb-int8", weight, calm));
  // Activations in 16 bits have no need of it.
  EXPECT_LT(ErrorOf("linear", weight, x), with);
}

TEST(BnbInt8Test, ColumnsAreChosenForEachRowByItself) {
  const PackedWeight w = Pack(NormalRows(40, 200, 3), "bnb-int8");
  std::vector<float> x = NormalValues(3 * 200, 4);
  x[200 + 5] = 100;
  Multiplier multiplier;
  const std::vector<float> before = multiplier.Run(BestIsa(), x, 3, w);
  for (int64_t col = 0; col < 200; ++col) x[200 + col] *= 50;
  const std::vector<float> after = multiplier.Run(BestIsa(), x, 3, w);
  for (const int64_t row : {0, 2}) {
    ExpectSameBits({before.begin() + row * 40, before.begin() + row * 40 + 40},
                   {after.begin() + row * 40, after.begin() + row * 40 + 40},
                   "a row beside an outlier");
  }
}

TEST(BnbInt8Test, RefusesWhatFloat16CannotHold) {
  std::vector<float> values(40, 65519.0f);
  const auto method = ParseMethodSpec("bnb-int8");
  EXPECT_TRUE(
      method->method->Quantize(MatrixRows(4, 10, values), method->params).ok());
  values[23] = -65520;
  const auto packed =
      method->method->Quantize(MatrixRows(4, 10, values), method->params);
  EXPECT_EQ(packed.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(packed.status().message()),
              AllOf(HasSubstr("row 2, column 3"), HasSubstr("-65520"),
                    HasSubstr("does not fit float16")));
}

TEST(BnbInt8Test, AThresholdBelowAllFloatsIsNotNone) {
  const auto threshold = [](const char* spec) {
    return ParseMethodSpec(spec)
        ->Format(1, 1, DType::kF32)
        ->input_rounding.threshold;
  };
  EXPECT_EQ(0, threshold("bnb-int8:threshold=0"));
  EXPECT_GT(threshold("bnb-int8:threshold=1e-60"), 0);
  EXPECT_EQ(6, threshold("bnb-int8"));
}

TEST(BnbInt8Test, ThresholdsAreNumbersThatXMayHave) {
  for (const char* text : {"-1", "65505", "nan", "six"}) {
    EXPECT_FALSE(
        ParseMethodSpec(std::string("bnb-int8:threshold=") + text).ok())
        << text;
  }
  EXPECT_EQ(ParseMethodSpec("bnb-int8:threshold=6.0")->ToString(), "bnb-int8");
  EXPECT_EQ(ParseMethodSpec("bnb-int8:threshold=3.5")->ToString(),
            "bnb-int8:threshold=3.5");
}

}  // namespace
}  // namespace ounce::quant
