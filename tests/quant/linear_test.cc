// The exact integers of `linear`, with LibTorch's operators as an independent
// reference.
#include <ATen/core/Tensor.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/div.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/round.h>

#include <cmath>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "quant/registry.h"
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
