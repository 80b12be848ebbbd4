#include "model/layers/layer_norm.h"

#include <algorithm>

#include "model/layers/kernels/layer_kernels.h"

namespace ounce::model {

void LayerNorm(const quant::ConstMatrix& x, const LayerNormWeights& weights,
               const quant::Matrix& y, ThreadPool& pool, Isa isa) {
  constexpr int64_t kRowsPerTask = 16;
  const auto normalize = LayerKernelsFor(isa).layer_norm;
  const int64_t tasks = (x.rows + kRowsPerTask - 1) / kRowsPerTask;
  pool.ParallelFor(tasks, [&](int64_t task, int) {
    const int64_t end = std::min(x.rows, (task + 1) * kRowsPerTask);
    for (int64_t row = task * kRowsPerTask; row < end; ++row) {
      normalize(x.row(row), weights.weight.data(), weights.bias.data(), x.cols,
                weights.epsilon, y.row(row));
    }
  });
}

}  // namespace ounce::model
