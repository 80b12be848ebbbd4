#include "quant/pack.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "quant/registry.h"
#include "tests/quant/error_bounds.h"
#include "tests/quant/matrix_rows.h"

namespace ounce::quant {
namespace {

constexpr int64_t kCols = 200;

struct Packed {
  PackedWeight weight;
  ErrorMeter errors[2];
};

// Rows of two matrices, cut so that panels hold rows of both.
Packed PackTwo(const MethodSpec& method, int64_t cols, ThreadPool* pool) {
  const MatrixRows one = NormalRows(100, cols, 1);
  const MatrixRows other = NormalRows(77, cols, 2);
  const auto codes = *method.Encode(one), more = *method.Encode(other);
  Packed packed;
  const CodeSlice slices[] = {
      {codes.get(), 3, 40, &packed.errors[0], &one},
      {more.get(), 0, 77, &packed.errors[1], &other},
      {codes.get(), 43, 57, &packed.errors[0], &one},
  };
  auto weight = Pack(slices, Product::kMatmul, pool);
  EXPECT_TRUE(weight.ok()) << weight.status();
  packed.weight = *std::move(weight);
  return packed;
}

TEST(PackTest, ManyThreadsMakeTheBitsOfOne) {
  for (const ErrorBound& bound : kErrorBounds) {
    const MethodSpec method = *ParseMethodSpec(bound.spec);
    // Whole blocks of all methods, and of few.
    for (const int64_t cols : {int64_t{256}, kCols}) {
      const Packed wanted = PackTwo(method, cols, nullptr);
      for (const int threads : {1, 2, 5}) {
        ThreadPool pool(threads);
        const Packed found = PackTwo(method, cols, &pool);
        ASSERT_EQ(wanted.weight.resident_bytes(),
                  found.weight.resident_bytes());
        EXPECT_EQ(0, std::memcmp(wanted.weight.panel(0), found.weight.panel(0),
                                 wanted.weight.resident_bytes()))
            << bound.spec << " on " << threads;
        for (int i = 0; i < 2; ++i) {
          const ErrorStats a = wanted.errors[i].stats();
          const ErrorStats b = found.errors[i].stats();
          EXPECT_EQ(a.max_abs > 0, !method.lossless_from(DType::kF32));
          EXPECT_EQ(a.relative_l2, b.relative_l2);
          EXPECT_EQ(a.max_abs, b.max_abs);
        }
      }
    }
  }
}

TEST(PackTest, MeasuresTheRowsOfASliceAlone) {
  const MatrixRows matrix = NormalRows(50, kCols, 3);
  const auto codes = *ParseMethodSpec("linear:bits=4")->Encode(matrix);
  ErrorMeter found;
  const CodeSlice slice = {codes.get(), 20, 25, &found, &matrix};
  ASSERT_TRUE(Pack(absl::MakeConstSpan(&slice, 1)).ok());
  const std::vector<float> rows(matrix.values().begin() + 20 * kCols,
                                matrix.values().begin() + 45 * kCols);
  const MatrixRows part(25, kCols, rows);
  const auto wanted =
      MeasureError(part, **ParseMethodSpec("linear:bits=4")->Encode(part));
  EXPECT_DOUBLE_EQ(wanted->relative_l2, found.stats().relative_l2);
  EXPECT_EQ(wanted->max_abs, found.stats().max_abs);
}

TEST(PackTest, MeasuresWhatBecomesOfProductsToo) {
  constexpr int64_t kInputs = 5, kFirst = 20, kRows = 25;
  const MatrixRows matrix = NormalRows(50, kCols, 3);
  const MatrixRows x = NormalRows(kInputs, kCols, 4);
  LayerInput input = {.rows = kInputs, .cols = kCols, .columns = {}};
  for (int64_t col = 0; col < kCols; ++col) {
    for (int64_t i = 0; i < kInputs; ++i) {
      input.columns.push_back(x.values()[i * kCols + col]);
    }
  }
  const auto codes = *ParseMethodSpec("linear:bits=4")->Encode(matrix);
  std::vector<float> decoded(50 * kCols);
  CodeBand band;
  ASSERT_TRUE(codes->Read(0, 50, band).ok());
  Decode(codes->format(), band, kCols, decoded.data());
  double norm = 0, error = 0;
  for (int64_t row = kFirst; row < kFirst + kRows; ++row) {
    for (int64_t i = 0; i < kInputs; ++i) {
      double y = 0, of_codes = 0;
      for (int64_t col = 0; col < kCols; ++col) {
        const double at = x.values()[i * kCols + col];
        y += at * matrix.values()[row * kCols + col];
        of_codes += at * decoded[row * kCols + col];
      }
      norm += y * y;
      error += (y - of_codes) * (y - of_codes);
    }
  }
  for (ThreadPool* pool : {static_cast<ThreadPool*>(nullptr),
                           std::make_unique<ThreadPool>(3).release()}) {
    const std::unique_ptr<ThreadPool> owned(pool);
    ErrorMeter of_weights, of_outputs;
    const CodeSlice slice = {codes.get(), kFirst,      kRows, &of_weights,
                             &matrix,     &of_outputs, &input};
    ASSERT_TRUE(
        Pack(absl::MakeConstSpan(&slice, 1), Product::kMatmul, pool).ok());
    // Products are sums in float32.
    EXPECT_NEAR(of_outputs.stats().relative_l2 / std::sqrt(error / norm), 1,
                1e-5);
    EXPECT_NE(of_outputs.stats().relative_l2, of_weights.stats().relative_l2);
  }
}

// Rows from 40 on cannot be read.
class BrokenRows final : public FloatRows {
 public:
  const std::string& name() const override { return rows_.name(); }
  int64_t rows() const override { return rows_.rows(); }
  int64_t cols() const override { return rows_.cols(); }
  DType dtype() const override { return rows_.dtype(); }
  absl::Status Read(int64_t first, int64_t count, float* out) const override {
    if (first + count > 40) {
      return absl::DataLossError("row " + std::to_string(first));
    }
    return rows_.Read(first, count, out);
  }

 private:
  const MatrixRows rows_ = NormalRows(1000, 8, 4);
};

TEST(PackTest, TellsOfTheFirstRowsThatFail) {
  const BrokenRows broken;
  const auto codes = *ParseMethodSpec("linear")->Encode(broken);
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(absl::DataLossError("row 32"),
              Pack(*codes, Product::kMatmul, &pool).status());
  }
  EXPECT_EQ(absl::DataLossError("row 32"), Pack(*codes).status());
}

}  // namespace
}  // namespace ounce::quant
