// The epilogue of both kinds of product. Included by the files that are
// compiled per instruction set.
#ifndef OUNCE_QUANT_KERNELS_OUTPUT_IMPL_H_
#define OUNCE_QUANT_KERNELS_OUTPUT_IMPL_H_

#include "quant/kernels/panels.h"
#include "quant/kernels/vector_math.h"

namespace ounce::quant::OUNCE_VEC {

inline constexpr int kPanelVectors = 16 / kLanes;

// y[row, col...] = residual + act(product + bias) for kLanes outputs.
inline void WriteOutput(const PanelJob& job, int64_t row, int64_t col,
                        Floats product) {
  const int64_t count = job.output_cols - col;
  if (count <= 0) return;
  if (job.bias != nullptr) product += LoadPart(job.bias + col, count);
  if (job.function == OutputFunction::kGeluNew) {
    product = GeluNew(product);
  } else if (job.function == OutputFunction::kRelu) {
    product = Relu(product);
  }
  float* y = job.y + row * job.y_stride + col;
  if (job.accumulate) product = LoadPart(y, count) + product;
  StorePart(product, y, count);
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
