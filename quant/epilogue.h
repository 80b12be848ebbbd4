// What happens to a product on its way out:
//
//   v = activation(product + bias);  y <- v,  y + v  or  y * v
//
// so that a gated layer needs no memory of its own: its gate goes to y with
// kSilu or kGelu, then its other product with kMultiply.
//
// Numeric error: of each activation at most 2e-7 * |product + bias|, beside the
//   rounding of that sum.
#ifndef OUNCE_QUANT_EPILOGUE_H_
#define OUNCE_QUANT_EPILOGUE_H_

namespace ounce::quant {

enum class Activation {
  kNone,
  kRelu,
  kGelu,      // 0.5 x (1 + erf(x / sqrt(2)))
  kGeluTanh,  // its approximation by tanh ("gelu_new" of transformers)
  kSilu,      // x / (1 + e^-x)
};

enum class Combine { kReplace, kAdd, kMultiply };

struct Epilogue {
  const float* bias = nullptr;  // one per output; null: none
  Activation activation = Activation::kNone;
  Combine combine = Combine::kReplace;
};

}  // namespace ounce::quant

#endif  // OUNCE_QUANT_EPILOGUE_H_
