// What methods share that encode each row for itself.
#ifndef OUNCE_QUANT_ENCODE_ROWS_H_
#define OUNCE_QUANT_ENCODE_ROWS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "quant/codes.h"
#include "quant/float_rows.h"

namespace ounce::quant {

absl::Status RefuseValue(const FloatRows& weight, int64_t row, int64_t col,
                         float value, std::string_view reason);

// The range of values and zero. Requires finite values.
struct Extent {
  float min = 0;  // <= 0
  float max = 0;  // >= 0
};
Extent ExtentOf(const float* values, int64_t count);

// 0 of none. Requires finite values.
float LargestMagnitude(const float* values, int64_t count);

// To an integer, ties to even. Requires |value| < 2^22.
inline float RoundToInteger(float value) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: no fraction bits left
  return (value + kMagic) - kMagic;
}

// For methods that must know all of a matrix first: reads it in bands of a
// megabyte, and hands on its rows from the first to the last.
// Errors: of Read; kInvalidArgument for what is not finite.
absl::Status ForEachRow(
    const FloatRows& weight,
    absl::FunctionRef<void(int64_t row, const float* values)> take);

// The largest magnitude of the elements that share a value of a field with this
// reach, by its index. Errors: of ForEachRow.
absl::StatusOr<std::vector<float>> LargestMagnitudes(const FloatRows& weight,
                                                     const Reach& reach);

// Codes that are made of the floats each time they are read: nothing of the
// matrix is held.
//
// Ownership: the floats must outlive it.
class EncodedRows : public CodeRows {
 public:
  EncodedRows(const FloatRows& weight, CodeFormat format);

  const std::string& name() const final { return weight_.name(); }
  int64_t rows() const final { return weight_.rows(); }
  int64_t cols() const final { return weight_.cols(); }
  const CodeFormat& format() const final { return format_; }
  absl::Status Read(int64_t first, int64_t count, CodeBand& out) const final;

 protected:
  const FloatRows& weight() const { return weight_; }

  // Writes the codes of a row, and through `out` what fields it has.
  // `values` [cols] are finite unless this is a float method's and the weight
  // allows others.
  virtual absl::Status EncodeRow(int64_t row, const float* values,
                                 std::byte* codes, CodeBand& out) const = 0;

 private:
  const FloatRows& weight_;
  const CodeFormat format_;
};

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_ENCODE_ROWS_H_
