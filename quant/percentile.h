// The range that a share of weights lies in.
#ifndef OUNCE_QUANT_PERCENTILE_H_
#define OUNCE_QUANT_PERCENTILE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "quant/encode_rows.h"
#include "quant/float_rows.h"

namespace ounce::quant {

// Of n weights floor((100 - percentile) / 100 * n) may lie outside: those of
// largest magnitude, and the range is -m to m (kSymmetric); or half as many,
// rounded down, on either side (kBothSides), where the range takes in zero.
// Exact, not of a histogram. Requires finite weights and n > 0.
enum class RangeSides { kSymmetric, kBothSides };
Extent PercentileOf(const float* values, int64_t count, double percentile,
                    RangeSides sides);

// The same of all of a matrix. Reads it twice (FindRanked). Errors: of
// ForEachRow.
absl::StatusOr<Extent> PercentileOf(const FloatRows& weight, double percentile,
                                    RangeSides sides);

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_PERCENTILE_H_
