// The epilogue of all products, of rows and of maps. Included by the files that
// are compiled per instruction set.
#ifndef OUNCE_QUANT_KERNELS_OUTPUT_IMPL_H_
#define OUNCE_QUANT_KERNELS_OUTPUT_IMPL_H_

#include "quant/epilogue.h"
#include "quant/kernels/panels.h"
#include "quant/kernels/vector_math.h"

namespace ounce::quant::OUNCE_VEC {

inline constexpr int kPanelVectors = 16 / kLanes;

// Not inlined: one copy serves all shapes of all kernels.
__attribute__((noinline)) inline Floats Activated(Activation activation,
                                                  Floats x) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return Relu(x);
    case Activation::kGelu:
      return Gelu(x);
    case Activation::kGeluTanh:
      return GeluTanh(x);
    case Activation::kSilu:
      return Silu(x);
  }
  return x;
}

// The bias of outputs that have none: the one number that changes no other, not
// even -0, when it is added.
inline Floats NoBias() { return Set(-0.0f); }

// kLanes outputs: activation(product * scale + bias), combined with what
// before() gives.
template <class Before>
inline Floats Output(Activation activation, Combine combine, Floats product,
                     Floats scale, Floats bias, const Before& before) {
  Floats value = Fma(product, scale, bias);
  if (activation != Activation::kNone) value = Activated(activation, value);
  if (combine == Combine::kAdd) return before() + value;
  if (combine == Combine::kMultiply) return before() * value;
  return value;
}

// Writes kLanes outputs of a row, less those past the last.
inline void WriteOutput(const PanelJob& job, int64_t row, int64_t col,
                        Floats product) {
  const int64_t count = job.output_cols - col;
  if (count <= 0) return;
  const Epilogue& epilogue = job.epilogue;
  float* const y = job.y + row * job.y_stride + col;
  const Floats bias = epilogue.bias == nullptr
                          ? NoBias()
                          : LoadPart(epilogue.bias + col, count);
  StorePart(Output(epilogue.activation, epilogue.combine, product, Set(1), bias,
                   [&] { return LoadPart(y, count); }),
            y, count);
}

// The same for kLanes integer sums of both planes. 256 * float(hi) is exact, so
// that it does not matter whether the sum is fused.
inline void WriteInt8Output(const Int8Job& job, int64_t row, int64_t col,
                            Ints hi_sum, Ints lo_sum) {
  const Ints code_sums = Load(job.code_sums + col);
  const Floats hi = __builtin_convertvector(hi_sum - (code_sums << 7), Floats);
  const Floats lo = __builtin_convertvector(lo_sum, Floats);
  const Floats sum = hi * 256.0f + lo;
  WriteOutput(job, row, col,
              sum * Load(job.scales + col) * job.row_scales[row]);
}

}  // namespace ounce::quant::OUNCE_VEC

#endif  // OUNCE_QUANT_KERNELS_OUTPUT_IMPL_H_
