#include "quant/error_stats.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"
#include "base/status_macros.h"

namespace ounce::quant {

absl::StatusOr<ErrorStats> MeasureError(const FloatRows& original,
                                        const PackedWeight& packed) {
  OUNCE_CHECK(
      original.rows() == packed.rows() && original.cols() == packed.cols(),
      "shapes are equal");
  const int64_t cols = packed.cols();
  std::vector<float> wanted(kPanelRows * cols);
  std::vector<float> found(kPanelRows * cols);
  double norm = 0, error = 0, max_abs = 0;
  for (int64_t row = 0; row < packed.rows(); row += kPanelRows) {
    const int64_t count = std::min<int64_t>(kPanelRows, packed.rows() - row);
    RETURN_IF_ERROR(original.Read(row, count, wanted.data()));
    packed.Dequantize(row, count, found.data());
    for (int64_t i = 0; i < count * cols; ++i) {
      // Kept as it is, where it is allowed at all.
      if (!std::isfinite(wanted[i])) continue;
      const double difference = double{wanted[i]} - found[i];
      norm += double{wanted[i]} * wanted[i];
      error += difference * difference;
      max_abs = std::max(max_abs, std::abs(difference));
    }
  }
  ErrorStats stats;
  stats.max_abs = max_abs;
  stats.relative_l2 = norm > 0 ? std::sqrt(error / norm) : 0;
  stats.snr_db = stats.relative_l2 > 0
                     ? -20 * std::log10(stats.relative_l2)
                     : std::numeric_limits<double>::infinity();
  return stats;
}

}  // namespace ounce::quant
