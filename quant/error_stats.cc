#include "quant/error_stats.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"
#include "base/status_macros.h"

namespace ounce::quant {

absl::Status ErrorMeter::Add(const FloatRows& original, const CodeRows& codes,
                             int64_t first_row) {
  OUNCE_CHECK(first_row >= 0 && first_row + original.rows() <= codes.rows() &&
                  original.cols() == codes.cols(),
              "the codes hold all of it");
  constexpr int64_t kRows = 16;
  const int64_t cols = codes.cols();
  std::vector<float> wanted(kRows * cols);
  std::vector<float> found(kRows * cols);
  CodeBand band;
  for (int64_t row = 0; row < original.rows(); row += kRows) {
    const int64_t count = std::min(kRows, original.rows() - row);
    RETURN_IF_ERROR(original.Read(row, count, wanted.data()));
    RETURN_IF_ERROR(codes.Read(first_row + row, count, band));
    Decode(codes.format(), band, cols, found.data());
    for (int64_t i = 0; i < count * cols; ++i) {
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
  OUNCE_CHECK(original.rows() == codes.rows(), "shapes are equal");
  ErrorMeter meter;
  RETURN_IF_ERROR(meter.Add(original, codes));
  return meter.stats();
}

}  // namespace ounce::quant
