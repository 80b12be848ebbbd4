// The columns of a stored matrix, handed out as if they were rows: for formats
// that store weights as [in, out], where codes are read by output.
#ifndef OUNCE_MODEL_CHECKPOINT_STORED_COLUMNS_H_
#define OUNCE_MODEL_CHECKPOINT_STORED_COLUMNS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/mutex.h"
#include "model/checkpoint/tensor_files.h"

namespace ounce::model {

// Reads in bands of as many columns as fit kBandBytes, of which one is kept: a
// walk from the first column to the last reads each byte of the file once, and
// gives the band back at its end.
//
// Ownership: the files must outlive it. Threads: any may call anything.
class StoredColumns {
 public:
  static constexpr int64_t kBandBytes = int64_t{4} << 20;

  // Requires a tensor of two axes.
  StoredColumns(const TensorFiles& files, std::string name);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }

  // Writes columns [first, first + count), [count, rows()] elements as stored.
  // Requires the range to lie within the matrix. Errors: those of ReadElements.
  absl::Status Read(int64_t first, int64_t count, void* out) const;

 private:
  // Makes `band_` the one that holds `col`.
  absl::Status ReadBand(int64_t col) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const TensorFiles& files_;
  const std::string name_;
  const int64_t rows_;
  const int64_t cols_;
  const int64_t size_;  // bytes of an element
  const int64_t band_cols_;

  mutable Mutex mutex_;
  // Columns [held_first_, held_first_ + held_count_) are in band_.
  mutable int64_t held_first_ ABSL_GUARDED_BY(mutex_) = 0;
  mutable int64_t held_count_ ABSL_GUARDED_BY(mutex_) = 0;
  // [rows, held_count_], as stored.
  mutable std::vector<std::byte> band_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ounce::model

#endif  // OUNCE_MODEL_CHECKPOINT_STORED_COLUMNS_H_
