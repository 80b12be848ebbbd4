#include "quant/encode_rows.h"

#include <cmath>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "base/str_cat.h"

namespace ounce::quant {

absl::Status RefuseValue(const FloatRows& weight, int64_t row, int64_t col,
                         float value, std::string_view reason) {
  return absl::InvalidArgumentError(
      StrCat(weight.Place(row, col), ": ", value, " ", reason));
}

EncodedRows::EncodedRows(const FloatRows& weight, CodeFormat format)
    : weight_(weight), format_(std::move(format)) {}

absl::Status EncodedRows::Read(int64_t first, int64_t count,
                               CodeBand& out) const {
  const int64_t cols = weight_.cols();
  const bool allowed = format_.is_float() && weight_.allows_non_finite();
  std::vector<float>& values = out.floats;
  values.resize(count * cols);
  RETURN_IF_ERROR(weight_.Read(first, count, values.data()));
  const int64_t row_bytes = cols * format_.element_bytes();
  out.first_row = first;
  out.rows = count;
  out.elements.resize(count * row_bytes);
  out.fields.resize(format_.fields.size());
  for (size_t i = 0; i < format_.fields.size(); ++i) {
    const Reach& reach = format_.fields[i].reach;
    out.fields[i].first = reach.IndexOf(first, 0, cols);
    out.fields[i].values.resize(
        reach.IndexOf(first + count - 1, cols - 1, cols) - out.fields[i].first +
        1);
  }
  for (int64_t i = 0; i < count; ++i) {
    const float* row = values.data() + i * cols;
    for (int64_t col = 0; col < cols && !allowed; ++col) {
      if (!std::isfinite(row[col])) {
        return RefuseValue(weight_, first + i, col, row[col],
                           "is not a finite number");
      }
    }
    RETURN_IF_ERROR(
        EncodeRow(first + i, row, out.elements.data() + i * row_bytes, out));
  }
  return absl::OkStatus();
}

}  // namespace ounce::quant
