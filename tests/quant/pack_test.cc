#include "quant/pack.h"

#include <cstring>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "quant/registry.h"
#include "tests/quant/matrix_rows.h"

namespace ounce::quant {
namespace {

constexpr int64_t kCols = 200;

struct Packed {
  PackedWeight weight;
  ErrorMeter errors[2];
};

// Rows of two matrices, cut so that panels hold rows of both.
Packed PackTwo(std::string_view spec, ThreadPool* pool) {
  const MatrixRows one = NormalRows(100, kCols, 1);
  const MatrixRows other = NormalRows(77, kCols, 2);
  const MethodSpec method = *ParseMethodSpec(spec);
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
  for (const char* spec :
       {"linear", "linear:bits=4,granularity=group", "float16"}) {
    const Packed wanted = PackTwo(spec, nullptr);
    for (const int threads : {1, 2, 5}) {
      ThreadPool pool(threads);
      const Packed found = PackTwo(spec, &pool);
      ASSERT_EQ(wanted.weight.resident_bytes(), found.weight.resident_bytes());
      EXPECT_EQ(0, std::memcmp(wanted.weight.panel(0), found.weight.panel(0),
                               wanted.weight.resident_bytes()))
          << spec << " on " << threads;
      for (int i = 0; i < 2; ++i) {
        const ErrorStats a = wanted.errors[i].stats();
        const ErrorStats b = found.errors[i].stats();
        EXPECT_GT(a.max_abs, 0);
        EXPECT_EQ(a.relative_l2, b.relative_l2);
        EXPECT_EQ(a.max_abs, b.max_abs);
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
