// The epilogue of all products, of rows and of maps. Included by the files that
// are compiled per instruction set.
#ifndef OUNCE_QUANT_KERNELS_OUTPUT_IMPL_H_
#define OUNCE_QUANT_KERNELS_OUTPUT_IMPL_H_

#include "quant/epilogue.h"
#include "quant/kernels/panels.h"
#include "quant/kernels/vector_math.h"

namespace ounce::quant::OUNCE_VEC {

inline constexpr int kPanelVectors = 16 / kLanes;

// values <- activation(values). Not inlined: one copy serves all kernels.
__attribute__((noinline)) inline void Activate(Activation activation,
                                               Floats* values, int64_t count) {
  const auto apply = [&](auto function) {
    for (int64_t i = 0; i < count; ++i) values[i] = function(values[i]);
  };
  switch (activation) {
    case Activation::kNone:
      return;
    case Activation::kRelu:
      return apply([](Floats x) { return Relu(x); });
    case Activation::kGelu:
      return apply([](Floats x) { return Gelu(x); });
    case Activation::kGeluTanh:
      return apply([](Floats x) { return GeluTanh(x); });
    case Activation::kSilu:
      return apply([](Floats x) { return Silu(x); });
  }
}

// The bias of outputs that have none: the one number that changes no other, not
// even -0, when it is added.
inline Floats NoBias() { return Set(-0.0f); }

// `value` combined with what before() gives.
template <class Before>
inline Floats Combined(Combine combine, const Before& before, Floats value) {
  if (combine == Combine::kAdd) return before() + value;
  if (combine == Combine::kMultiply) return before() * value;
  return value;
}

// Writes kVectors * kLanes outputs of each row, from column `col` on, less
// those past the last. `products` [rows][kVectors] are used up.
template <int kVectors>
inline void WriteRows(const PanelJob& job, int64_t first_row, int64_t rows,
                      int64_t col, Floats* products) {
  const Epilogue& epilogue = job.epilogue;
  const int64_t count = job.output_cols - col;
  if (epilogue.bias != nullptr) {
    for (int v = 0; v < kVectors && v * kLanes < count; ++v) {
      const Floats bias =
          LoadPart(epilogue.bias + col + v * kLanes, count - v * kLanes);
      for (int64_t i = 0; i < rows; ++i) products[i * kVectors + v] += bias;
    }
  }
  if (epilogue.activation != Activation::kNone) {
    Activate(epilogue.activation, products, rows * kVectors);
  }
  for (int64_t i = 0; i < rows; ++i) {
    float* y = job.y + (first_row + i) * job.y_stride + col;
    for (int v = 0; v < kVectors && v * kLanes < count; ++v, y += kLanes) {
      const int64_t lanes = count - v * kLanes;
      StorePart(Combined(
                    epilogue.combine, [&] { return LoadPart(y, lanes); },
                    products[i * kVectors + v]),
                y, lanes);
    }
  }
}

// A product by kLanes integer sums of both planes. 256 * float(hi) is exact, so
// that it does not matter whether the sum is fused.
inline Floats Int8Product(const Int8Job& job, int64_t row, int64_t col,
                          Ints hi_sum, Ints lo_sum) {
  const Ints code_sums = Load(job.code_sums + col);
  const Floats hi = __builtin_convertvector(hi_sum - (code_sums << 7), Floats);
  const Floats lo = __builtin_convertvector(lo_sum, Floats);
  const Floats sum = hi * 256.0f + lo;
  return sum * Load(job.scales + col) * job.row_scales[row];
}

}  // namespace ounce::quant::OUNCE_VEC

#endif  // OUNCE_QUANT_KERNELS_OUTPUT_IMPL_H_
