// Layer normalization, row by row:
//
//   y = (x - mean(x)) / sqrt(var(x) + epsilon) * weight + bias
//
// with the biased variance, as in torch.nn.LayerNorm.
//
// Exactness: a row of y depends on that row of x alone, to the last bit.
#ifndef OUNCE_MODEL_LAYERS_LAYER_NORM_H_
#define OUNCE_MODEL_LAYERS_LAYER_NORM_H_

#include <vector>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "quant/matmul.h"

namespace ounce::model {

struct LayerNormWeights {
  std::vector<float> weight;  // [cols]
  std::vector<float> bias;    // [cols]
  float epsilon = 1e-5f;
};

// Shapes: x and y [rows, cols]; y may be x.
// Threads: any, with a pool that the caller leases. No allocation.
void LayerNorm(const quant::ConstMatrix& x, const LayerNormWeights& weights,
               const quant::Matrix& y, ThreadPool& pool, Isa isa = BestIsa());

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_LAYER_NORM_H_
