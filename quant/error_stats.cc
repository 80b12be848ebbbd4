#include "quant/error_stats.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"
#include "base/status_macros.h"

namespace ounce::quant {

void ErrorMeter::Add(const float* wanted, const float* found, int64_t count) {
  // Sums that do not wait for each other.
  constexpr int64_t kLanes = 8;
  double norms[kLanes] = {}, errors[kLanes] = {}, most[kLanes] = {};
  const auto add = [&](int64_t i, int64_t lane) {
    const double norm = double{wanted[i]} * wanted[i];
    const bool counts = norm <= std::numeric_limits<double>::max();
    const double difference = counts ? double{wanted[i]} - found[i] : 0;
    norms[lane] += counts ? norm : 0;
    errors[lane] += difference * difference;
    most[lane] = std::max(most[lane], std::abs(difference));
  };
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
  }
  for (; i < count; ++i) add(i, i % kLanes);
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    norm_ += norms[lane];
    error_ += errors[lane];
    max_abs_ = std::max(max_abs_, most[lane]);
  }
  zeros_ += std::count(found, found + count, 0.0f);
  elements_ += count;
}

void ErrorMeter::Add(const CodeFormat& format, const CodeBand& band,
                     int64_t cols, const float* wanted, const float* found) {
  Add(wanted, found, band.rows * cols);
  if (!format.clamps) return;
  clampable_ += band.rows * cols;
  for (int64_t row = band.first_row; row < band.first_row + band.rows; ++row) {
    for (int64_t col = 0; col < cols;) {
      // Rounding alone is off by half a step, and by a last digit.
      const float most =
          0.501f * std::abs(RunAt(format, band, row, col, cols).scale);
      const int64_t end = EndOfRun(format, row, col, cols);
      for (; col < end; ++col, ++wanted, ++found) {
        clamped_ += std::abs(*wanted - *found) > most ? 1 : 0;
      }
    }
  }
}

void ErrorMeter::Add(const ErrorMeter& part) {
  norm_ += part.norm_;
  error_ += part.error_;
  max_abs_ = std::max(max_abs_, part.max_abs_);
  clampable_ += part.clampable_;
  clamped_ += part.clamped_;
  zeros_ += part.zeros_;
  elements_ += part.elements_;
}

ErrorStats ErrorMeter::stats() const {
  ErrorStats stats;
  stats.max_abs = max_abs_;
  stats.relative_l2 = norm_ > 0 ? std::sqrt(error_ / norm_) : 0;
  stats.snr_db = stats.relative_l2 > 0
                     ? -20 * std::log10(stats.relative_l2)
                     : std::numeric_limits<double>::infinity();
  if (clampable_ > 0) {
    stats.clamped =
        static_cast<double>(clamped_) / static_cast<double>(clampable_);
  }
  if (elements_ > 0) {
    stats.zeros = static_cast<double>(zeros_) / static_cast<double>(elements_);
  }
  return stats;
}

absl::StatusOr<ErrorStats> MeasureError(const FloatRows& original,
                                        const CodeRows& codes) {
  OUNCE_CHECK(
      original.rows() == codes.rows() && original.cols() == codes.cols(),
      "shapes are equal");
  constexpr int64_t kRows = 16;
  const int64_t cols = codes.cols();
  std::vector<float> wanted(kRows * cols);
  std::vector<float> found(kRows * cols);
  CodeBand band;
  ErrorMeter meter;
  for (int64_t row = 0; row < codes.rows(); row += kRows) {
    const int64_t n = std::min(kRows, codes.rows() - row);
    RETURN_IF_ERROR(original.Read(row, n, wanted.data()));
    RETURN_IF_ERROR(codes.Read(row, n, band));
    Decode(codes.format(), band, cols, found.data());
    meter.Add(codes.format(), band, cols, wanted.data(), found.data());
  }
  return meter.stats();
}

}  // namespace ounce::quant
