// A FloatRows in memory, and matrices to fill it with.
#ifndef OUNCE_TESTS_QUANT_MATRIX_ROWS_H_
#define OUNCE_TESTS_QUANT_MATRIX_ROWS_H_

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "quant/float_rows.h"

namespace ounce::quant {

// Values of the matrix, row-major, kept as they are: `dtype` is only what it
// says of itself.
class MatrixRows final : public FloatRows {
 public:
  MatrixRows(int64_t rows, int64_t cols, std::vector<float> values,
             DType dtype = DType::kF32)
      : rows_(rows), cols_(cols), values_(std::move(values)), dtype_(dtype) {}

  const std::string& name() const override { return name_; }
  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  DType dtype() const override { return dtype_; }
  absl::Status Read(int64_t first, int64_t count, float* out) const override {
    std::copy_n(values_.data() + first * cols_, count * cols_, out);
    return absl::OkStatus();
  }

  const std::vector<float>& values() const { return values_; }

 private:
  const std::string name_ = "layers.3.test.weight";
  const int64_t rows_;
  const int64_t cols_;
  const std::vector<float> values_;
  const DType dtype_;
};

inline std::vector<float> NormalValues(int64_t count, uint32_t seed,
                                       float deviation = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

// Normal values that `dtype` holds exactly.
inline MatrixRows NormalRows(int64_t rows, int64_t cols, uint32_t seed,
                             DType dtype = DType::kF32,
                             float deviation = 0.05f) {
  std::vector<float> values = NormalValues(rows * cols, seed, deviation);
  if (dtype == DType::kF16 || dtype == DType::kBF16) {
    for (float& value : values) value = RoundTo(dtype, value);
  }
  return MatrixRows(rows, cols, std::move(values), dtype);
}

}  // namespace ounce::quant

#endif  // OUNCE_TESTS_QUANT_MATRIX_ROWS_H_
