// How far codes are from the floats they were made of.
#ifndef OUNCE_QUANT_ERROR_STATS_H_
#define OUNCE_QUANT_ERROR_STATS_H_

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "quant/codes.h"
#include "quant/float_rows.h"

namespace ounce::quant {

struct ErrorStats {
  double relative_l2 = 0;  // ||W - Q|| / ||W||; 0 for an all-zero W
  double snr_db = 0;       // 20 * log10(1 / relative_l2); +infinity if exact
  double max_abs = 0;      // worst element
  double zeros = 0;        // share of the elements that are zero in Q
  // Share of the elements that lie beyond what their codes reach, of formats
  // that clamp (CodeFormat::clamps).
  std::optional<double> clamped = std::nullopt;
};

// Sums over the parts of a matrix that are measured one by one, in float64:
// the same parts in the same order give the same bits.
class ErrorMeter {
 public:
  // Elements and what codes make of them. What is no finite number is kept as
  // it is, where it is allowed at all, and does not count.
  void Add(const float* wanted, const float* found, int64_t count);
  // The same of all of a band's rows, and counts what is clamped.
  void Add(const CodeFormat& format, const CodeBand& band, int64_t cols,
           const float* wanted, const float* found);
  void Add(const ErrorMeter& part);
  ErrorStats stats() const;

 private:
  double norm_ = 0;   // of the originals, squared
  double error_ = 0;  // squared
  double max_abs_ = 0;
  int64_t clampable_ = 0;  // of formats that clamp
  int64_t clamped_ = 0;
  int64_t zeros_ = 0;
  int64_t elements_ = 0;
};

// Of a matrix in one piece. Requires equal shapes.
absl::StatusOr<ErrorStats> MeasureError(const FloatRows& original,
                                        const CodeRows& codes);

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_ERROR_STATS_H_
