// The specs that the conformance tests run, and the worst error that each may
// make: every method with its defaults, and what else differs in its code.
#ifndef OUNCE_TESTS_QUANT_ERROR_BOUNDS_H_
#define OUNCE_TESTS_QUANT_ERROR_BOUNDS_H_

#include <string_view>

namespace ounce::quant {

struct ErrorBound {
  std::string_view spec;
  // |w - w'| <= row_max * max|row| + relative * |w| + absolute, for float32
  // weights that the method takes.
  double row_max;
  double relative;
  double absolute;
  // ||W - W'|| / ||W|| for normally distributed weights, 1,000 columns.
  double relative_l2;
};

inline constexpr ErrorBound kErrorBounds[] = {
    {"float32", 0, 0, 0, 0},
    // Half a unit in the last of 11 and of 8 significant bits, or of the
    // smallest number.
    {"float16", 0, 0x1p-11, 0x1p-25, 0x1p-11},
    {"bfloat16", 0, 0x1p-8, 0x1p-134, 0x1p-8},
    // Half a step, max / 127, and a float32 rounding of the scale. The largest
    // of 1,000 normal values is about 3.3 deviations, so a step is 0.026 of
    // one, and the error of rounding step / sqrt(12) = 0.0075; rows differ.
    {"linear", 0.5 / 127 * (1 + 1e-5), 0, 0, 0.0095},
};

}  // namespace ounce::quant

#endif  // OUNCE_TESTS_QUANT_ERROR_BOUNDS_H_
