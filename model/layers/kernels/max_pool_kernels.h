// The inner loop of max_pool.h, per instruction set.
#ifndef OUNCE_MODEL_LAYERS_KERNELS_MAX_POOL_KERNELS_H_
#define OUNCE_MODEL_LAYERS_KERNELS_MAX_POOL_KERNELS_H_

#include <cstdint>

namespace ounce::model {

// One row of outputs. Element i of output x is the largest of the 3 x 3 windows
// whose upper left pixel is `x` + (2 * x) pixels.
struct MaxPoolRow {
  const void* x;      // upper left of the first window
  int64_t row_pitch;  // elements from row to row
  void* y;
  int64_t width;  // of the outputs
  int64_t channels;
};

// bfloat16 without a negative number are ordered like integers.
struct MaxPoolKernels {
  void (*float32)(const MaxPoolRow& row);
  void (*bfloat16)(const MaxPoolRow& row);
};

extern const MaxPoolKernels kMaxPoolKernelsPortable;
extern const MaxPoolKernels kMaxPoolKernelsAvx2;
extern const MaxPoolKernels kMaxPoolKernelsAvx512;

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_KERNELS_MAX_POOL_KERNELS_H_
