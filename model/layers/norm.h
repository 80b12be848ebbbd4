// Normalization, row by row:
//
//   kLayerNorm  y = (x - mean(x)) / sqrt(var(x) + epsilon) * weight + bias
//               with the biased variance, as torch.nn.LayerNorm
//   kRms        y = x / sqrt(mean(x^2) + epsilon) * weight + bias
//               as transformers' LlamaRMSNorm and its kin, in float32
//
// A norm that multiplies by 1 + weight (Gemma's) is one whose reader added 1.
//
// Exactness: a row of y depends on that row of x alone, to the last bit.
#ifndef OUNCE_MODEL_LAYERS_NORM_H_
#define OUNCE_MODEL_LAYERS_NORM_H_

#include <cstdint>
#include <vector>

#include "base/cpu.h"
#include "base/thread_pool.h"
#include "quant/matmul.h"

namespace ounce::model {

struct NormWeights {
  enum Kind { kLayerNorm, kRms };
  Kind kind = kLayerNorm;
  std::vector<float> weight = {};  // [cols]; empty: times one
  std::vector<float> bias = {};    // [cols]; empty: plus nothing
  float epsilon = 1e-5f;
};

// Shapes: x and y [rows, cols]; y may be x.
// Threads: any, with a pool that the caller leases. No allocation.
void Normalize(const quant::ConstMatrix& x, const NormWeights& weights,
               const quant::Matrix& y, ThreadPool& pool, Isa isa = BestIsa());

// One row of `cols`, or one head of it; y may be x. Safe from any thread.
void NormalizeRow(const float* x, int64_t cols, const NormWeights& weights,
                  float* y, Isa isa = BestIsa());

}  // namespace ounce::model

#endif  // OUNCE_MODEL_LAYERS_NORM_H_
