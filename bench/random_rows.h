// Weights for benchmarks.
#ifndef OUNCE_BENCH_RANDOM_ROWS_H_
#define OUNCE_BENCH_RANDOM_ROWS_H_

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "quant/float_rows.h"

namespace ounce::quant {

// Every row is a shifted view of one random buffer: quick to make.
class RandomRows final : public FloatRows {
 public:
  RandomRows(int64_t rows, int64_t cols) : rows_(rows), cols_(cols) {
    std::mt19937 generator(1);
    std::uniform_real_distribution<float> uniform(-0.1f, 0.1f);
    values_.resize(cols + 4096);
    for (float& value : values_) value = uniform(generator);
  }
  const std::string& name() const override { return name_; }
  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return cols_; }
  DType dtype() const override { return DType::kF32; }
  absl::Status Read(int64_t first, int64_t count, float* out) const override {
    for (int64_t i = 0; i < count; ++i) {
      std::copy_n(values_.data() + (first + i) * 37 % 4096, cols_,
                  out + i * cols_);
    }
    return absl::OkStatus();
  }

 private:
  const std::string name_ = "random";
  const int64_t rows_, cols_;
  std::vector<float> values_;
};

}  // namespace ounce::quant

#endif  // OUNCE_BENCH_RANDOM_ROWS_H_
