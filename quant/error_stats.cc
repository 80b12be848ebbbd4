#include "quant/error_stats.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"
#include "base/status_macros.h"

namespace ounce::quant {

absl::Status ErrorMeter::Add(const FloatRows& original, const CodeRows& codes,
                             int64_t first, int64_t count) {
  OUNCE_CHECK(
      original.rows() == codes.rows() && original.cols() == codes.cols(),
      "shapes are equal");
  constexpr int64_t kRows = 16;
  const int64_t cols = codes.cols();
  std::vector<float> wanted(kRows * cols);
  std::vector<float> found(kRows * cols);
  CodeBand band;
  for (int64_t row = first; row < first + count; row += kRows) {
    const int64_t n = std::min(kRows, first + count - row);
    RETURN_IF_ERROR(original.Read(row, n, wanted.data()));
    RETURN_IF_ERROR(codes.Read(row, n, band));
    Decode(codes.format(), band, cols, found.data());
    for (int64_t i = 0; i < n * cols; ++i) {
      // Kept as it is, where it is allowed at all.
      if (!std::isfinite(wanted[i])) continue;
      const double difference = double{wanted[i]} - found[i];
      norm_ += double{wanted[i]} * wanted[i];
      error_ += difference * difference;
      max_abs_ = std::max(max_abs_, std::abs(difference));
    }
  }
  return absl::OkStatus();
}

ErrorStats ErrorMeter::stats() const {
  ErrorStats stats;
  stats.max_abs = max_abs_;
  stats.relative_l2 = norm_ > 0 ? std::sqrt(error_ / norm_) : 0;
  stats.snr_db = stats.relative_l2 > 0
                     ? -20 * std::log10(stats.relative_l2)
                     : std::numeric_limits<double>::infinity();
  return stats;
}

absl::StatusOr<ErrorStats> MeasureError(const FloatRows& original,
                                        const CodeRows& codes) {
  ErrorMeter meter;
  RETURN_IF_ERROR(meter.Add(original, codes, 0, codes.rows()));
  return meter.stats();
}

}  // namespace ounce::quant
