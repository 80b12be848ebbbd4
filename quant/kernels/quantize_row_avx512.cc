#include "quant/kernels/panels.h"
#include "quant/kernels/quantize_row_impl.h"

namespace ounce::quant {

float QuantizeRowAvx512(const float* x, int64_t cols, int64_t block_stride,
                        uint8_t* hi, uint8_t* lo) {
  return vec::QuantizeRowOnce(x, cols, block_stride, hi, lo);
}

float QuantizeByteRowAvx512(const float* x, int64_t cols, int64_t block_stride,
                            float threshold, uint8_t* bytes,
                            OutlierBlock* found, int32_t* num_found) {
  return vec::QuantizeByteRowOnce(x, cols, block_stride, threshold, bytes,
                                  found, num_found);
}

float QuantizeRunsRowAvx512(const float* x, int64_t cols, int64_t block_stride,
                            int8_t* hi, int8_t* lo, int32_t* sums) {
  return vec::QuantizeRunsRowOnce(x, cols, block_stride, hi, lo, sums);
}

}  // namespace ounce::quant
