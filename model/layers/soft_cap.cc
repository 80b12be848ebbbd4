#include "model/layers/soft_cap.h"

#include <algorithm>

#include "model/layers/kernels/layer_kernels.h"

namespace ounce::model {

void SoftCap(const quant::Matrix& x, float cap, ThreadPool& pool, Isa isa) {
  constexpr int64_t kColsPerTask = 4096;
  const LayerKernels& kernels = LayerKernelsFor(isa);
  const int64_t pieces = (x.cols + kColsPerTask - 1) / kColsPerTask;
  pool.ParallelFor(x.rows * pieces, [&](int64_t task, int) {
    const int64_t begin = task % pieces * kColsPerTask;
    kernels.soft_cap(x.row(task / pieces) + begin,
                     std::min(kColsPerTask, x.cols - begin), cap);
  });
}

}  // namespace ounce::model
