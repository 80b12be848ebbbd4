// A checkpoint's tensors as the float matrices that methods encode, stored by
// rows or by columns. None of them holds a tensor in memory.
#ifndef OUNCE_MODEL_LOADER_TENSOR_ROWS_H_
#define OUNCE_MODEL_LOADER_TENSOR_ROWS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"
#include "model/checkpoint/checkpoint.h"
#include "quant/codes.h"
#include "quant/float_rows.h"

namespace ounce::model {

// Rows of a tensor [rows, ...]; what is behind the first axis counts as columns
// in row-major order.
//
// Ownership: the checkpoint must outlive it.
class TensorRows final : public quant::FloatRows {
 public:
  TensorRows(const Checkpoint& checkpoint, std::string name,
             bool allows_non_finite);

  const std::string& name() const override { return name_; }
  int64_t rows() const override { return info_.shape[0]; }
  int64_t cols() const override { return cols_; }
  quant::DType dtype() const override { return info_.dtype; }
  bool allows_non_finite() const override { return allows_non_finite_; }
  absl::Status Read(int64_t first, int64_t count, float* out) const override;

 private:
  const Checkpoint& checkpoint_;
  const std::string name_;
  const TensorInfo& info_;
  const int64_t cols_;
  const bool allows_non_finite_;
};

// The same of a tensor that is stored transposed, [cols, rows]: each row lies
// all over it. So it is read in bands of as many rows as fit kBandBytes, of
// which one is kept: a walk from the first row to the last reads each byte
// once, and gives the band back at its end.
class TransposedRows final : public quant::FloatRows {
 public:
  static constexpr int64_t kBandBytes = int64_t{4} << 20;  // of float32

  TransposedRows(const Checkpoint& checkpoint, std::string name,
                 bool allows_non_finite);

  const std::string& name() const override { return name_; }
  // As stored: row and column of the tensor.
  std::string Place(int64_t row, int64_t col) const override;
  int64_t rows() const override { return info_.shape[1]; }
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
  const int64_t band_rows_;
  const bool allows_non_finite_;

  mutable Mutex mutex_;
  // Rows [held_first_, held_first_ + held_count_) are in band_.
  mutable int64_t held_first_ ABSL_GUARDED_BY(mutex_) = 0;
  mutable int64_t held_count_ ABSL_GUARDED_BY(mutex_) = 0;
  // [cols, held_count_], as stored.
  mutable std::vector<float> band_ ABSL_GUARDED_BY(mutex_);
};

// The rows of a matrix that the checkpoint holds in codes: the values that they
// stand for, in the checkpoint's order of columns.
class DecodedRows final : public quant::FloatRows {
 public:
  DecodedRows(std::unique_ptr<const quant::CodeRows> codes, quant::DType dtype,
              bool allows_non_finite);

  const std::string& name() const override { return codes_->name(); }
  int64_t rows() const override { return codes_->rows(); }
  int64_t cols() const override { return codes_->cols(); }
  quant::DType dtype() const override { return dtype_; }
  bool allows_non_finite() const override { return allows_non_finite_; }
  absl::Status Read(int64_t first, int64_t count, float* out) const override;

 private:
  const std::unique_ptr<const quant::CodeRows> codes_;
  const quant::DType dtype_;
  const bool allows_non_finite_;
};

// The rows of a matrix, however it is stored. `transposed` is of what is stored
// as floats: codes are by output. Errors: those of the codes.
absl::StatusOr<std::unique_ptr<const quant::FloatRows>> RowsOf(
    const Checkpoint& checkpoint, std::string name, bool transposed,
    bool allows_non_finite);

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LOADER_TENSOR_ROWS_H_
