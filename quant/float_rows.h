// A float matrix that is read a few rows at a time, so that a checkpoint's
// tensor is never held in float32 as a whole.
#ifndef OUNCE_QUANT_FLOAT_ROWS_H_
#define OUNCE_QUANT_FLOAT_ROWS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "base/str_cat.h"
#include "quant/dtype.h"

namespace ounce::quant {

// Shapes: W[rows, cols], rows are output channels (torch.nn.Linear's [out,
// in]). Threads: const calls may run side by side. Errors: Read returns what
// the file's reader found (kDataLoss for a bad CRC).
class FloatRows {
 public:
  virtual ~FloatRows() = default;
  virtual const std::string& name() const = 0;  // for messages
  // Where a value stands, for messages: "tensor 'x', row 1, column 2". A matrix
  // that is put together of others says what they would.
  virtual std::string Place(int64_t row, int64_t col) const {
    return StrCat("tensor '", name(), "', row ", row, ", column ", col);
  }
  virtual int64_t rows() const = 0;
  virtual int64_t cols() const = 0;
  virtual DType dtype() const = 0;  // as stored; kF64, kF32, kF16 or kBF16
  // Float methods keep NaN and infinite values as they are, instead of refusing
  // them: for matrices in which a row that is never asked for harms nobody.
  virtual bool allows_non_finite() const { return false; }

  // Writes rows [first, first + count) to `out` as float32, row-major.
  // Requires the range to lie within the matrix.
  virtual absl::Status Read(int64_t first, int64_t count, float* out) const = 0;
};

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_FLOAT_ROWS_H_
