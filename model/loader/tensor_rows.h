// A checkpoint's tensors as the float matrices that methods pack: whole or cut,
// stored by rows or by columns, alone or one below the other. None of them
// holds a tensor in memory.
#ifndef OUNCE_MODEL_LOADER_TENSOR_ROWS_H_
#define OUNCE_MODEL_LOADER_TENSOR_ROWS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "model/checkpoint/checkpoint.h"
#include "quant/float_rows.h"

namespace ounce::model {

// Which rows of a tensor. Requires that it has them.
struct RowRange {
  int64_t first = 0;
  int64_t count = 0;
};

// Rows of a tensor [rows, ...]; what is behind the first axis counts as columns
// in row-major order.
//
// Ownership: the checkpoint must outlive it.
class TensorRows final : public quant::FloatRows {
 public:
  TensorRows(const Checkpoint& checkpoint, std::string name, RowRange range,
             bool allows_non_finite);

  const std::string& name() const override { return name_; }
  std::string Place(int64_t row, int64_t col) const override;
  int64_t rows() const override { return range_.count; }
  int64_t cols() const override { return cols_; }
  quant::DType dtype() const override { return info_.dtype; }
  bool allows_non_finite() const override { return allows_non_finite_; }
  absl::Status Read(int64_t first, int64_t count, float* out) const override;

 private:
  const Checkpoint& checkpoint_;
  const std::string name_;
  const TensorInfo& info_;
  const RowRange range_;
  const int64_t cols_;
  const bool allows_non_finite_;
};

// The same of a tensor that is stored transposed, [cols, rows]: each row lies
// all over it. So it is read in bands of as many rows as fit kBandBytes, of
// which one is kept: a walk from the first row to the last reads each byte of
// the range once, and gives the band back at its end.
class TransposedRows final : public quant::FloatRows {
 public:
  static constexpr int64_t kBandBytes = int64_t{4} << 20;  // of float32

  TransposedRows(const Checkpoint& checkpoint, std::string name, RowRange range,
                 bool allows_non_finite);

  const std::string& name() const override { return name_; }
  // As stored: row and column of the tensor.
  std::string Place(int64_t row, int64_t col) const override;
  int64_t rows() const override { return range_.count; }
  int64_t cols() const override { return info_.shape[0]; }
  quant::DType dtype() const override { return info_.dtype; }
  bool allows_non_finite() const override { return allows_non_finite_; }
  absl::Status Read(int64_t first, int64_t count, float* out) const override;

 private:
  // Makes `band_` the one that holds `row`.
  absl::Status ReadBand(int64_t row) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Checkpoint& checkpoint_;
  const std::string name_;
  const TensorInfo& info_;
  const RowRange range_;
  const int64_t band_rows_;
  const bool allows_non_finite_;

  mutable Mutex mutex_;
  mutable RowRange held_ ABSL_GUARDED_BY(mutex_);
  // [cols, held_.count], as stored.
  mutable std::vector<float> band_ ABSL_GUARDED_BY(mutex_);
};

// The rows of several matrices, one after another.
class JoinedRows final : public quant::FloatRows {
 public:
  // Requires at least one; of one width, dtype and allows_non_finite.
  explicit JoinedRows(
      std::vector<std::unique_ptr<const quant::FloatRows>> sources);

  const std::string& name() const override { return name_; }
  std::string Place(int64_t row, int64_t col) const override;
  int64_t rows() const override { return rows_; }
  int64_t cols() const override { return sources_[0]->cols(); }
  quant::DType dtype() const override { return sources_[0]->dtype(); }
  bool allows_non_finite() const override {
    return sources_[0]->allows_non_finite();
  }
  absl::Status Read(int64_t first, int64_t count, float* out) const override;

 private:
  const std::vector<std::unique_ptr<const quant::FloatRows>> sources_;
  std::string name_;  // of all: "a, b"
  int64_t rows_ = 0;
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LOADER_TENSOR_ROWS_H_
