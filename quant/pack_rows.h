// What the methods share: a walk over a matrix, and how to refuse a value.
#ifndef OUNCE_QUANT_PACK_ROWS_H_
#define OUNCE_QUANT_PACK_ROWS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "base/status_macros.h"
#include "base/str_cat.h"
#include "quant/float_rows.h"
#include "quant/packed_weight.h"

namespace ounce::quant {

inline absl::Status RefuseValue(const FloatRows& weight, int64_t row,
                                int64_t col, float value,
                                std::string_view reason) {
  return absl::InvalidArgumentError(StrCat("tensor '", weight.name(), "', row ",
                                           row, ", column ", col, ": ", value,
                                           " ", reason));
}

// Calls fn(row, values) -> absl::Status for each row in order, reading a panel
// at a time; stops at the first error. Refuses NaN and infinite values.
template <class Fn>
absl::Status ForEachRow(const FloatRows& weight, Fn&& fn) {
  const int64_t cols = weight.cols();
  std::vector<float> panel(kPanelRows * cols);
  for (int64_t first = 0; first < weight.rows(); first += kPanelRows) {
    const int64_t count = std::min<int64_t>(kPanelRows, weight.rows() - first);
    RETURN_IF_ERROR(weight.Read(first, count, panel.data()));
    for (int64_t i = 0; i < count; ++i) {
      const float* values = panel.data() + i * cols;
      for (int64_t col = 0; col < cols; ++col) {
        if (!std::isfinite(values[col])) {
          return RefuseValue(weight, first + i, col, values[col],
                             "is not a finite number");
        }
      }
      RETURN_IF_ERROR(fn(first + i, values));
    }
  }
  return absl::OkStatus();
}

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_PACK_ROWS_H_
