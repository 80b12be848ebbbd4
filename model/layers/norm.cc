#include "model/layers/norm.h"

#include <algorithm>

#include "model/layers/kernels/layer_kernels.h"

namespace ounce::model {
namespace {

const float* DataOrNull(const std::vector<float>& values) {
  return values.empty() ? nullptr : values.data();
}

}  // namespace

void NormalizeRow(const float* x, int64_t cols, const NormWeights& weights,
                  float* y, Isa isa) {
  const LayerKernels& kernels = LayerKernelsFor(isa);
  const auto normalize =
      weights.kind == NormWeights::kRms ? kernels.rms_norm : kernels.layer_norm;
  normalize(x, DataOrNull(weights.weight), DataOrNull(weights.bias), cols,
            weights.epsilon, y);
}

void Normalize(const quant::ConstMatrix& x, const NormWeights& weights,
               const quant::Matrix& y, ThreadPool& pool, Isa isa) {
  constexpr int64_t kRowsPerTask = 16;
  const int64_t tasks = (x.rows + kRowsPerTask - 1) / kRowsPerTask;
  pool.ParallelFor(tasks, [&](int64_t task, int) {
    const int64_t end = std::min(x.rows, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row) {
      NormalizeRow(x.row(row), x.cols, weights, y.row(row), isa);
    }
  });
}

}  // namespace ounce::model
