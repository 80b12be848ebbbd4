#include "quant/kernels/panels.h"
#include "quant/kernels/quantize_row_impl.h"

namespace ounce::quant {

float QuantizeRowAvx512(const float* x, int64_t cols, int64_t block_stride,
                        uint8_t* hi, uint8_t* lo) {
  return vec::QuantizeRowOnce(x, cols, block_stride, hi, lo);
}

}  // namespace ounce::quant
