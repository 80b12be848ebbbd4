// What a product rounds its inputs x to, of weights that are multiplied as
// integers (matmul.h).
#ifndef OUNCE_QUANT_INPUT_ROUNDING_H_
#define OUNCE_QUANT_INPUT_ROUNDING_H_

namespace ounce::quant {

struct InputRounding {
  int bits = 16;  // or 8: half the work, and some 256 times the error
  // With 8 bits: what is of this magnitude or more is an outlier of its row,
  // multiplied as it is, and the row's other numbers are rounded as if it were
  // zero. 0: nothing is.
  float threshold = 0;

  friend bool operator==(const InputRounding&, const InputRounding&) = default;
};

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_INPUT_ROUNDING_H_
