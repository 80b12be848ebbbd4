#include "model/layers/add.h"

#include <algorithm>
#include <cstdint>

namespace ounce::model {

void Add(const quant::Matrix& x, const quant::Matrix& p, const quant::Matrix& y,
         ThreadPool& pool) {
  constexpr int64_t kRowsPerTask = 64;
  pool.ParallelFor(
      (x.rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int) {
        const int64_t end = std::min(x.rows, (task + 1) * kRowsPerTask);
        for (int64_t row = task * kRowsPerTask; row < end; ++row) {
          const float* from = x.row(row);
          const float* other = p.row(row % p.rows);
          float* to = y.row(row);
          for (int64_t i = 0; i < x.cols; ++i) to[i] = from[i] + other[i];
        }
      });
}

}  // namespace ounce::model
