// What the methods share: a walk over a matrix, how to refuse a value, and the
// packing of elements that need no more than themselves.
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
  return absl::InvalidArgumentError(
      StrCat(weight.Place(row, col), ": ", value, " ", reason));
}

// Calls fn(row, values) -> absl::Status for each row in order, reading a panel
// at a time; stops at the first error. Refuses NaN and infinite values unless
// told that they are `allowed`.
template <class Fn>
absl::Status ForEachRow(const FloatRows& weight, bool allowed, Fn&& fn) {
  const int64_t cols = weight.cols();
  std::vector<float> panel(kPanelRows * cols);
  for (int64_t first = 0; first < weight.rows(); first += kPanelRows) {
    const int64_t count = std::min<int64_t>(kPanelRows, weight.rows() - first);
    RETURN_IF_ERROR(weight.Read(first, count, panel.data()));
    for (int64_t i = 0; i < count; ++i) {
      const float* values = panel.data() + i * cols;
      for (int64_t col = 0; col < cols && !allowed; ++col) {
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

// Packs each value on its own, in tiles [64 / kGroup][16 rows][kGroup cols] of
// Element. A finite value whose element does not `fit` is refused for `reason`.
template <class Element, int kGroup, class Encode, class Fits>
absl::StatusOr<PackedWeight> PackElements(const TileLayout& layout,
                                          const FloatRows& weight,
                                          Encode&& encode, Fits&& fits,
                                          std::string_view reason) {
  ASSIGN_OR_RETURN(PackedWeight packed,
                   PackedWeight::Create(layout, weight.rows(), weight.cols()));
  const bool allowed = weight.allows_non_finite();
  const auto pack_row = [&](int64_t row, const float* values) {
    const int64_t row_in_panel = row % kPanelRows;
    for (int64_t col = 0; col < weight.cols(); ++col) {
      const Element element = encode(values[col]);
      if (!fits(element) && std::isfinite(values[col])) {
        return RefuseValue(weight, row, col, values[col], reason);
      }
      auto* tile = reinterpret_cast<Element*>(
          packed.mutable_tile(row / kPanelRows, col / kBlockCols));
      tile[col % kBlockCols / kGroup * kGroup * kPanelRows +
           row_in_panel * kGroup + col % kGroup] = element;
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(ForEachRow(weight, allowed, pack_row));
  return packed;
}

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_PACK_ROWS_H_
