// Codes in memory, and slow references to hold everything against.
#ifndef OUNCE_TESTS_QUANT_HELD_CODES_H_
#define OUNCE_TESTS_QUANT_HELD_CODES_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "quant/codes.h"
#include "quant/matmul.h"
#include "quant/pack.h"

namespace ounce::quant {

class HeldCodes final : public CodeRows {
 public:
  // `elements` [rows, cols] of a byte each; `fields` all values of each.
  HeldCodes(CodeFormat format, int64_t rows, int64_t cols,
            std::vector<uint8_t> elements,
            std::vector<std::vector<float>> fields,
            std::vector<int32_t> order = {})
      : format_(std::move(format)),
        rows_(rows),
        cols_(cols),
        elements_(std::move(elements)),
        fields_(std::move(fields)),
        order_(std::move(order)) {}

  const std::string& name() const override { return name_; }
  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  const CodeFormat& format() const override { return format_; }
  absl::Span<const int32_t> order() const override { return order_; }
  absl::Status Read(int64_t first, int64_t count,
                    CodeBand& out) const override {
    out.first_row = first;
    out.rows = count;
    out.elements.resize(count * cols_);
    std::transform(elements_.begin() + first * cols_,
                   elements_.begin() + (first + count) * cols_,
                   out.elements.begin(),
                   [](uint8_t code) { return std::byte{code}; });
    out.fields.clear();
    for (const std::vector<float>& values : fields_) {
      out.fields.push_back({.first = 0, .values = values});
    }
    return absl::OkStatus();
  }

 private:
  const std::string name_ = "held.weight";
  const CodeFormat format_;
  const int64_t rows_;
  const int64_t cols_;
  const std::vector<uint8_t> elements_;
  const std::vector<std::vector<float>> fields_;
  const std::vector<int32_t> order_;
};

// [rows, cols], columns in the checkpoint's order.
inline std::vector<float> ValuesOf(const CodeRows& codes) {
  const int64_t rows = codes.rows(), cols = codes.cols();
  CodeBand band;
  std::vector<float> decoded(cols), values(rows * cols);
  for (int64_t row = 0; row < rows; ++row) {
    EXPECT_TRUE(codes.Read(row, 1, band).ok());
    Decode(codes.format(), band, cols, decoded.data());
    for (int64_t i = 0; i < cols; ++i) {
      const int64_t col = codes.order().empty() ? i : codes.order()[i];
      values[row * cols + col] = decoded[i];
    }
  }
  return values;
}

// x W^T in float64; x [n, cols].
inline std::vector<double> SlowProduct(const std::vector<float>& values,
                                       int64_t cols,
                                       const std::vector<float>& x) {
  std::vector<double> y;
  for (size_t row = 0; row < x.size(); row += cols) {
    for (size_t out = 0; out < values.size(); out += cols) {
      double sum = 0;
      for (int64_t i = 0; i < cols; ++i) {
        sum += double{x[row + i]} * values[out + i];
      }
      y.push_back(sum);
    }
  }
  return y;
}

// What the kernels make of packed codes; x's columns in the codes' order.
inline std::vector<float> FastProduct(const PackedWeight& weight,
                                      const std::vector<float>& x) {
  ThreadPool pool(2);
  Scratch scratch = *Scratch::Create(8 << 20);
  const int64_t cols = weight.cols();
  const int64_t n = static_cast<int64_t>(x.size()) / cols;
  std::vector<float> y(n * weight.rows());
  const MatmulInput input =
      MatmulInput::Prepare({x.data(), n, cols, cols},
                           FormsFor(weight, Compute::kFloat32), pool, scratch);
  Matmul(input, weight, {}, {y.data(), n, weight.rows(), weight.rows()}, pool,
         scratch);
  return y;
}

}  // namespace ounce::quant

#endif  // OUNCE_TESTS_QUANT_HELD_CODES_H_
