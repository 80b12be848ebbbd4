// The exact integers of `linear`, with LibTorch's operators as an independent
// reference.
#include <ATen/core/Tensor.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/add.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/clamp_max.h>
#include <ATen/ops/clamp_min.h>
#include <ATen/ops/div.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/max.h>
#include <ATen/ops/min.h>
#include <ATen/ops/round.h>
#include <ATen/ops/rsub.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "quant/error_stats.h"
#include "quant/registry.h"
#include "tests/quant/held_codes.h"
#include "tests/quant/matrix_rows.h"

namespace ounce::quant {
namespace {

PackedWeight Pack(const FloatRows& rows) {
  const auto spec = ParseMethodSpec("linear");
  auto packed = spec->method->Quantize(rows, spec->params);
  EXPECT_TRUE(packed.ok()) << packed.status();
  return *std::move(packed);
}

int CodeAt(const PackedWeight& packed, int64_t row, int64_t col) {
  const auto* tile =
      reinterpret_cast<const int8_t*>(packed.panel(row / 16)) + col / 64 * 1024;
  return tile[col % 64 / 4 * 64 + row % 16 * 4 + col % 4];
}

at::ScalarType TorchType(DType dtype) {
  return dtype == DType::kF16    ? at::kHalf
         : dtype == DType::kBF16 ? at::kBFloat16
                                 : at::kFloat;
}

TEST(LinearTest, CodesAndScalesAreThoseOfLibTorch) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const float deviation : {0.02f, 30.0f}) {
      constexpr int64_t kRows = 50, kCols = 300;
      const MatrixRows rows = NormalRows(kRows, kCols, 1, dtype, deviation);
      const at::Tensor w = at::from_blob(
          const_cast<float*>(rows.values().data()), {kRows, kCols}, at::kFloat);
      const at::Tensor scale = at::div(at::amax(at::abs(w), {1}, true), 127)
                                   .to(TorchType(dtype))
                                   .to(at::kFloat);  // [rows, 1]
      const at::Tensor codes = at::clamp(at::round(at::div(w, scale)), -128,
                                         127);  // ties to even
      const PackedWeight packed = Pack(rows);
      for (int64_t row = 0; row < kRows; ++row) {
        ASSERT_EQ(scale.const_data_ptr<float>()[row], packed.scales()[row])
            << Name(dtype);
        int32_t sum = 0;
        for (int64_t col = 0; col < kCols; ++col) {
          const int wanted = static_cast<int>(
              codes.const_data_ptr<float>()[row * kCols + col]);
          ASSERT_EQ(wanted, CodeAt(packed, row, col)) << Name(dtype);
          sum += wanted;
        }
        ASSERT_EQ(sum, packed.code_sums()[row]);
      }
    }
  }
}

// The codes and fields of every group against the formulas, written in
// LibTorch's operators: [groups, group] at a time.
void ExpectFormulas(const MatrixRows& rows, std::string_view text, int bits,
                    bool symmetric, int64_t group_rows, int64_t group_cols) {
  const auto spec = ParseMethodSpec(text);
  ASSERT_TRUE(spec.ok()) << spec.status();
  const auto codes = spec->Encode(rows);
  ASSERT_TRUE(codes.ok()) << codes.status();
  CodeBand band;
  ASSERT_TRUE((*codes)->Read(0, rows.rows(), band).ok());
  const at::Tensor w = at::from_blob(const_cast<float*>(rows.values().data()),
                                     {rows.rows(), rows.cols()}, at::kFloat);
  const double qmax = (1 << (bits - 1)) - 1, qmin = -(1 << (bits - 1));
  for (int64_t row = 0; row < rows.rows(); row += group_rows) {
    for (int64_t col = 0; col < rows.cols(); col += group_cols) {
      const int64_t num_cols = std::min(group_cols, rows.cols() - col);
      const at::Tensor part =
          w.narrow(0, row, group_rows).narrow(1, col, num_cols);
      const auto rounded = [&](const at::Tensor& scale) {
        return scale.to(TorchType(rows.dtype())).to(at::kFloat);
      };
      at::Tensor scale, zero, wanted;
      if (symmetric) {
        scale = rounded(at::div(at::max(at::abs(part)), qmax));
        zero = at::zeros({});
        wanted = at::clamp(at::round(at::div(part, scale)), qmin, qmax);
      } else {
        const at::Tensor min = at::clamp_max(at::min(part), 0);
        const at::Tensor max = at::clamp_min(at::max(part), 0);
        scale = rounded(at::div(at::sub(max, min), qmax - qmin));
        zero = at::clamp(at::round(at::rsub(at::div(min, scale), qmin)), qmin,
                         qmax);
        wanted = at::clamp(at::round(at::add(at::div(part, scale), zero)), qmin,
                           qmax);
      }
      const CodeRun run =
          RunAt((*codes)->format(), band, row, col, rows.cols());
      ASSERT_EQ(scale.item<float>(), run.scale) << text << " " << row;
      ASSERT_EQ(zero.item<float>(), run.zero) << text << " " << row;
      wanted = wanted.contiguous();
      for (int64_t i = 0; i < group_rows; ++i) {
        for (int64_t j = 0; j < num_cols; ++j) {
          ASSERT_EQ(wanted.const_data_ptr<float>()[i * num_cols + j],
                    band.signed_row(row + i, rows.cols())[col + j])
              << text << ", row " << row + i << ", column " << col + j;
        }
      }
    }
  }
}

TEST(LinearTest, CodesOfAllWidthsAndGranularitiesAreThoseOfLibTorch) {
  constexpr int64_t kRows = 20, kCols = 300;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const MatrixRows rows = NormalRows(kRows, kCols, 2, dtype);
    for (int bits = 2; bits <= 8; ++bits) {
      for (const bool symmetric : {true, false}) {
        const std::string text =
            "linear:bits=" + std::to_string(bits) +
            ",mode=" + (symmetric ? "symmetric" : "asymmetric");
        const auto expect = [&](const char* more, int64_t group_rows,
                                int64_t group_cols) {
          ExpectFormulas(rows, text + more, bits, symmetric, group_rows,
                         group_cols);
        };
        expect("", 1, kCols);
        expect(",granularity=tensor", kRows, kCols);
        expect(",granularity=group", 1, 64);
        expect(",granularity=group,group=16", 1, 16);
        expect(",granularity=group,group=1024", 1, kCols);
        expect(",granularity=group,group=-1", 1, kCols);
      }
    }
  }
}

TEST(LinearTest, AsymmetricRangesTakeInZero) {
  // Of one sign, or equal, or all zero: within half a step.
  for (const std::vector<float>& values : {std::vector<float>{5, 6, 5.5f},
                                           {-7, -7, -7},
                                           {0, 0, 0},
                                           {3, 0, -0.1f},
                                           {3e38f, -3e38f, 1e38f},
                                           {1e-45f, -1e-45f, 0}}) {
    const MatrixRows rows(1, 3, values);
    const auto spec = ParseMethodSpec("linear:bits=4,mode=asymmetric");
    const auto codes = spec->Encode(rows);
    ASSERT_TRUE(codes.ok()) << codes.status();
    CodeBand band;
    ASSERT_TRUE((*codes)->Read(0, 1, band).ok());
    const CodeRun run = RunAt((*codes)->format(), band, 0, 0, 3);
    EXPECT_GT(run.scale, 0);
    EXPECT_LT(run.scale, HUGE_VALF);
    float found[3];
    Decode((*codes)->format(), band, 3, found);
    for (int i = 0; i < 3; ++i) {
      EXPECT_NEAR(values[i], found[i], run.scale * 0.5001) << values[0];
    }
  }
}

TEST(LinearTest, StoresSoManyBits) {
  const auto bytes = [](std::string_view text, DType dtype) {
    return ParseMethodSpec(text)->Format(10, 200, dtype)->StoredBytes(10, 200);
  };
  EXPECT_EQ(10 * 100 + 10 * 2, bytes("linear:bits=4", DType::kF16));
  EXPECT_EQ(10 * 75 + 4,
            bytes("linear:bits=3,granularity=tensor", DType::kF32));
  // Four groups a row, of a scale and a zero-point.
  EXPECT_EQ(
      10 * 100 + 40 * 3,
      bytes("linear:bits=4,mode=asymmetric,granularity=group", DType::kBF16));
  EXPECT_EQ(10 * 50 + 10 * 4,
            bytes("linear:bits=2,granularity=group,group=-1", DType::kF32));
}

TEST(LinearTest, TakesTheSmallestTileThatHoldsTheCodes) {
  const auto packed = [](std::string_view text) {
    const auto spec = ParseMethodSpec(text);
    return *spec->method->Quantize(NormalRows(16, 256, 3), spec->params);
  };
  for (const char* text : {"linear", "linear:granularity=tensor"}) {
    EXPECT_EQ(TileForm::kInt8, packed(text).layout().form) << text;
  }
  constexpr int64_t kScales = 16 * 4;  // bytes, of a panel
  EXPECT_EQ(4 * 512 + kScales, packed("linear:bits=4").resident_bytes());
  EXPECT_EQ(4 * 640 + kScales, packed("linear:bits=5").resident_bytes());
  EXPECT_EQ(
      4 * 256 + 16 * kScales,
      packed("linear:bits=2,granularity=group,group=16").resident_bytes());
  // Runs of 48 are as three of 16.
  EXPECT_EQ(
      4 * 640 + 16 * kScales,
      packed("linear:bits=5,granularity=group,group=48").resident_bytes());
  // A scale and a byte of zero.
  EXPECT_EQ(4 * 1024 + 2 * kScales + 64,
            packed("linear:mode=asymmetric,granularity=group,group=128")
                .resident_bytes());
}

TEST(LinearTest, RefusesGroupsThatItCannotForm) {
  const auto error = [](std::string_view text) {
    const auto spec = ParseMethodSpec(text);
    EXPECT_TRUE(spec.ok()) << spec.status();
    const MatrixRows rows = NormalRows(2, 64, 4);
    const auto format = spec->Format(2, 64, DType::kF32);
    EXPECT_EQ(format.status(), spec->Encode(rows).status());
    EXPECT_EQ(absl::StatusCode::kInvalidArgument, format.status().code());
    return std::string(format.status().message());
  };
  for (const char* group : {"0", "8", "40", "1000"}) {
    EXPECT_THAT(error(std::string("linear:granularity=group,group=") + group),
                testing::HasSubstr("must be a multiple of 16"));
  }
  EXPECT_THAT(error("linear:group=32"),
              testing::HasSubstr("write linear:granularity=group,group=32"));
}

float ScaleIn(const CodeRows& codes) {
  CodeBand band;
  EXPECT_TRUE(codes.Read(0, 1, band).ok());
  return band.fields[0].values[0];
}

TEST(LinearTest, AGivenPairIsUsedAsItIsAndWeightsBeyondItAreClamped) {
  // The numbers of the first published demonstration, and its pair.
  const MatrixRows weight(
      3, 3, {191.6f, -13.5f, 728.6f, 92.14f, 295.5f, -184, 0, 684.6f, 245.5f});
  const auto spec = ParseMethodSpec(
      "linear:mode=asymmetric,granularity=tensor,scale=3.5,zero=-70");
  const auto codes = *spec->Encode(weight);
  CodeBand band;
  ASSERT_TRUE(codes->Read(0, 3, band).ok());
  const int8_t* elements = band.signed_row(0, 3);
  EXPECT_THAT(std::vector<int>(elements, elements + 9),
              testing::ElementsAre(-15, -74, 127, -44, 14, -123, -70, 126, 0));
  EXPECT_EQ(ValuesOf(*codes)[2], 3.5f * (127 + 70));
  const ErrorStats given = *MeasureError(weight, *codes);
  EXPECT_DOUBLE_EQ(*given.clamped, 1.0 / 9);
  const auto computed = spec->method->Computed(spec->params);
  ASSERT_TRUE(computed.has_value());
  const MethodSpec usual = {spec->method, *computed};
  EXPECT_EQ(usual.ToString(), "linear:mode=asymmetric,granularity=tensor");
  EXPECT_LT(MeasureError(weight, **usual.Encode(weight))->relative_l2,
            given.relative_l2 / 10);
}

TEST(LinearTest, AGivenScaleIsOfTheCheckpointsDType) {
  const MatrixRows weight = NormalRows(2, 8, 1, DType::kBF16);
  const auto codes =
      *ParseMethodSpec("linear:granularity=tensor,scale=0.3")->Encode(weight);
  EXPECT_EQ(ScaleIn(*codes), RoundTo(DType::kBF16, 0.3f));
}

TEST(LinearTest, DrawnPairsDependOnTheSeedAndTheTensorAlone) {
  const MatrixRows weight = NormalRows(4, 50, 1);
  const float computed =
      ScaleIn(**ParseMethodSpec("linear:granularity=tensor")->Encode(weight));
  const auto drawn = [&](int seed) {
    return *ParseMethodSpec("linear:mode=asymmetric,granularity=tensor,seed=" +
                            std::to_string(seed))
                ->Encode(weight);
  };
  std::set<float> scales, zeros;
  for (int seed = 0; seed < 20; ++seed) {
    const auto codes = drawn(seed);
    CodeBand band;
    ASSERT_TRUE(codes->Read(0, 4, band).ok());
    EXPECT_EQ(ValuesOf(*codes), ValuesOf(*drawn(seed)));
    scales.insert(band.fields[0].values[0]);
    zeros.insert(band.fields[1].values[0]);
    EXPECT_GT(band.fields[0].values[0], computed / 33);
    EXPECT_LT(band.fields[0].values[0], computed * 17);
  }
  EXPECT_EQ(scales.size(), 20u);
  EXPECT_GT(zeros.size(), 15u);
}

TEST(LinearTest, LeastSquaresAreNoWorseThanAnyPartOfTheRangeThatItTries) {
  for (const std::string rest :
       {"", ",granularity=tensor", ",mode=asymmetric,granularity=group"}) {
    std::vector<float> values = NormalValues(6 * 200, 5);
    values[7] = 9;
    values[700] = -12;
    const MatrixRows weight(6, 200, values);
    const auto error = [&](const std::string& range) {
      const auto spec = ParseMethodSpec("linear:bits=4,range=" + range + rest);
      return *MeasureError(weight, **spec->Encode(weight));
    };
    const double least = error("mse").relative_l2;
    EXPECT_LT(least, 0.97 * error("absmax").relative_l2) << rest;
    for (const std::string percentile : {"80", "90", "97", "99", "99.9"}) {
      // Between two parts it may be a little better.
      EXPECT_LT(least,
                1.01 * error("percentile,percentile=" + percentile).relative_l2)
          << rest << percentile;
    }
    EXPECT_GT(*error("mse").clamped, 0) << rest;
    EXPECT_FALSE(error("absmax").clamped.has_value());
  }
}

TEST(LinearTest, SoManyAreClampedAsThePercentileLeavesOut) {
  const MatrixRows weight = NormalRows(10, 1000, 2);
  const auto spec = ParseMethodSpec("linear:range=percentile,percentile=99");
  // What is beyond by less than half a step is not.
  const double clamped = *MeasureError(weight, **spec->Encode(weight))->clamped;
  EXPECT_LE(clamped, 0.01);
  EXPECT_GT(clamped, 0.008);
}

TEST(LinearTest, APercentileOfNothingButZerosLeavesNothingOut) {
  std::vector<float> values(4 * 100);
  for (int i = 0; i < 40; ++i) values[i * 10] = i % 2 == 0 ? 1.0f : -0.5f;
  const MatrixRows weight(4, 100, values);
  for (const char* rest :
       {"", ",granularity=tensor", ",mode=asymmetric,granularity=group"}) {
    const auto spec = ParseMethodSpec(
        std::string("linear:range=percentile,percentile=60") + rest);
    const ErrorStats error = *MeasureError(weight, **spec->Encode(weight));
    EXPECT_LT(error.relative_l2, 0.01) << rest;
    EXPECT_EQ(0, *error.clamped) << rest;
  }
}

TEST(LinearTest, RefusesContradictionsByName) {
  for (const auto& [text, param] :
       {std::pair{"linear:scale=2", "'scale'"},
        {"linear:granularity=tensor,zero=3", "'zero'"},
        {"linear:granularity=tensor,scale=2,zero=3", "'zero'"},
        {"linear:granularity=tensor,scale=2,seed=1", "'seed'"},
        {"linear:granularity=group,seed=1", "'seed'"},
        {"linear:granularity=tensor,scale=2,range=mse", "'scale'"},
        {"linear:percentile=90", "'percentile'"},
        {"linear:range=mse,percentile=90", "'percentile'"},
        {"linear:bits=4,mode=asymmetric,granularity=tensor,scale=1,zero=9",
         "'zero'"},
        {"linear:granularity=tensor,scale=1e-9", "'scale'"},
        {"linear:granularity=tensor,scale=1e-60", "'scale'"}}) {
    const auto spec = ParseMethodSpec(text);
    ASSERT_TRUE(spec.ok()) << spec.status();
    const auto format = spec->Format(2, 64, DType::kF16);
    EXPECT_EQ(absl::StatusCode::kInvalidArgument, format.status().code())
        << text;
    EXPECT_THAT(std::string(format.status().message()),
                testing::HasSubstr(param))
        << text;
  }
}

TEST(LinearTest, TiesGoToEven) {
  // The scale is 1.
  const PackedWeight packed =
      Pack(MatrixRows(1, 6, {127.0f, 0.5f, 1.5f, -2.5f, 3.5f, -0.5f}));
  EXPECT_EQ(1.0f, packed.scales()[0]);
  const int wanted[] = {127, 0, 2, -2, 4, 0};
  for (int col = 0; col < 6; ++col) {
    EXPECT_EQ(wanted[col], CodeAt(packed, 0, col));
  }
}

TEST(LinearTest, ClampsWhereTheScaleWasRoundedDown) {
  // In steps of the smallest half, 255 / 127 is rounded down to 2, and 127.5
  // would go to the even 128; -128 is a code.
  const PackedWeight packed =
      Pack(MatrixRows(2, 1, {255 * 0x1p-24f, -255 * 0x1p-24f}, DType::kF16));
  EXPECT_EQ(0x1p-23f, packed.scales()[0]);
  EXPECT_EQ(127, CodeAt(packed, 0, 0));
  EXPECT_EQ(-128, CodeAt(packed, 1, 0));
}

TEST(LinearTest, SubnormalScalesKeepTheBound) {
  // Magnitudes whose 127th part is hardly or not at all a number of the dtype.
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const double smallest = dtype == DType::kF32   ? 0x1p-149
                            : dtype == DType::kF16 ? 0x1p-24
                                                   : 0x1p-133;
    for (const double factor :
         {1., 2., 60., 64., 100., 127., 190., 191., 200., 318., 1000.}) {
      const auto max = static_cast<float>(factor * smallest);
      const MatrixRows rows(1, 3, {max, -max, static_cast<float>(smallest)},
                            dtype);
      const PackedWeight packed = Pack(rows);
      const float scale = packed.scales()[0];
      EXPECT_EQ(scale, RoundTo(dtype, scale));
      EXPECT_GT(scale, 0);
      EXPECT_LE(max / scale, 127.5f) << Name(dtype) << " " << factor;
      for (int col = 0; col < 3; ++col) {
        EXPECT_LE(std::abs(double{rows.values()[col]} -
                           double{scale} * CodeAt(packed, 0, col)),
                  scale / 2.0)
            << Name(dtype) << " " << factor;
      }
    }
  }
}

TEST(LinearTest, AZeroRowHasTheScaleOne) {
  const PackedWeight packed = Pack(MatrixRows(2, 2, {0, 0, 1, 0}));
  EXPECT_EQ(1.0f, packed.scales()[0]);
  EXPECT_EQ(0, packed.code_sums()[0]);
}

TEST(LinearTest, TheScaleOfFloat64WeightsIsAFloat32) {
  const auto spec = ParseMethodSpec("linear");
  EXPECT_EQ(10 * 100 + 10 * 4,
            spec->Format(10, 100, DType::kF64)->StoredBytes(10, 100));
  EXPECT_EQ(10 * 100 + 10 * 2,
            spec->Format(10, 100, DType::kBF16)->StoredBytes(10, 100));
  const PackedWeight packed = Pack(MatrixRows(1, 1, {0.3f}, DType::kF64));
  EXPECT_EQ(0.3f / 127, packed.scales()[0]);
}

TEST(LinearTest, RefusesMoreColumnsThanIntegerSumsHold) {
  const auto spec = ParseMethodSpec("linear");
  const auto packed = spec->method->Quantize(
      MatrixRows(1, 65537, std::vector<float>(65537)), spec->params);
  EXPECT_EQ(absl::StatusCode::kInvalidArgument, packed.status().code());
  EXPECT_THAT(std::string(packed.status().message()),
              testing::HasSubstr("must have at most 65536 columns, has 65537"));
}

}  // namespace
}  // namespace ounce::quant
